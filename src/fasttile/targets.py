"""Where a result goes: from what a user names, and the source's own name, to a path."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import OptionError
from .sources.ways import STANDARD_INPUT, is_stream, scheme_of, shown, stream_name

ENDINGS = (".dzi",)
"""The endings that name a result."""


def target_path(dest: str | os.PathLike[str] | None, source: object) -> Path:
    """The path of the descriptor to write.

    Args:
        dest: A path that ends in .dzi is taken as it is. A folder (one that exists, ends in a
            slash, or has no ending) gets `<stem>.dzi`. None is the current folder.
        source: Where the stem comes from: a path, a URL, or a file object that has a name.

    Raises:
        OptionError: The ending is unknown, or there is no name to be had.

    Example:
        >>> target_path("out", "scans/map.tif").as_posix()
        'out/map.dzi'
        >>> target_path(None, "https://host/scans/map%201.tif?size=full").as_posix()
        'map 1.dzi'
    """
    text = "" if dest is None else os.fspath(dest)
    path = Path(text)
    if not path.suffix or text.endswith(("/", os.sep)) or path.is_dir():
        return path / f"{_stem(source)}.dzi"
    if path.suffix.lower() in ENDINGS:
        return path.with_suffix(path.suffix.lower())
    raise OptionError(
        f"{text}: the ending {path.suffix!r} is not known; "
        f"{', '.join(ENDINGS)} or a folder would do"
    )


def _stem(source: object) -> str:
    if isinstance(source, str) and source == STANDARD_INPUT:
        raise OptionError("standard input has no name: say -o NAME.dzi (dest)")
    if scheme_of(source) is not None:
        return _stem_of_url(str(source))
    name = stream_name(source) if is_stream(source) else source
    if isinstance(name, str | os.PathLike):
        stem = Path(os.fspath(name)).stem
        if stem:
            return stem
    raise OptionError(
        "this source has no file name to take the result's name from: name a .dzi to write"
    )


def _stem_of_url(url: str) -> str:
    """The stem of a URL's last segment that is not empty."""
    from urllib.parse import unquote, urlsplit

    try:
        path = urlsplit(url).path
    except ValueError:
        path = ""
    # What was quoted may be anything, also what would lead to another folder.
    name = unquote(path.rstrip("/").rpartition("/")[2])
    stem = Path(name.replace("\\", "/")).stem
    if stem.strip(".") and stem.isprintable():
        return stem
    raise OptionError(f"{shown(url)} names no file to take the result's name from: say -o NAME.dzi")
