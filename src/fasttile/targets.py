"""Where a result goes: from what a user names, and the source's own name, to a path."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import OptionError

ENDINGS = (".dzi",)
"""The endings that name a result."""


def target_path(dest: str | os.PathLike[str] | None, source: object) -> Path:
    """The path of the descriptor to write.

    Args:
        dest: A path that ends in .dzi is taken as it is. A folder (one that exists, ends in a
            slash, or has no ending) gets `<stem>.dzi`. None is the current folder.
        source: Where the stem comes from, if it is a path.

    Raises:
        OptionError: The ending is unknown, or there is no name to be had.

    Example:
        >>> target_path("out", "scans/map.tif").as_posix()
        'out/map.dzi'
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
    if isinstance(source, (str, os.PathLike)):
        stem = Path(os.fspath(source)).stem
        if stem:
            return stem
    raise OptionError(
        "this source has no file name to take the result's name from: name a .dzi to write"
    )
