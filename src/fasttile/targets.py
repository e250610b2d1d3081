"""Where a result goes, and in what: from what a user names, and the source's own name."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from .errors import OptionError
from .layouts.choice import LAYOUTS, LayoutChoice
from .sources.ways import STANDARD_INPUT, STORES, is_stream, scheme_of, shown, stream_name
from .stores import bucket_and_key

Container = Literal["folder", "zip", "szi", "pmtiles", "mbtiles", "tiff"]

_IN_FOLDERS = tuple(kind for kind in LAYOUTS if kind != "tiff")

ENDINGS: dict[str, tuple[Container, tuple[str, ...]]] = {
    ".dzi": ("folder", ("dzi",)),
    ".szi": ("szi", ("dzi",)),
    ".zip": ("zip", _IN_FOLDERS),
    ".pmtiles": ("pmtiles", ("xyz",)),
    ".mbtiles": ("mbtiles", ("xyz",)),
    ".tif": ("tiff", ("tiff",)),
    ".tiff": ("tiff", ("tiff",)),
}
"""The endings that name a result, what each is, and the layouts that it can have."""

NAME = "{name}"
"""What stands for the source's name in the name of a result."""


@dataclass(frozen=True)
class Target:
    """Where a result goes.

    Attributes:
        path: What a user opens: the descriptor, the folder, or the one file.
        container: What it is.
        layout: How its tiles are laid out.
        store: The bucket of an object store that the path lies in, as "s3://name"; or "".
    """

    path: Path
    container: Container
    layout: LayoutChoice
    store: str = ""

    @property
    def result(self) -> Path | str:
        """What a user opens: its path, or its address in an object store."""
        return f"{self.store}/{self.path.as_posix()}" if self.store else self.path

    @property
    def name(self) -> str:
        """The picture's name in it."""
        ended = self.path.suffix.lower() in ENDINGS and not self._is_named_folder
        return self.path.stem if ended else self.path.name

    def numbered(self, number: int) -> Target:
        """The same for a picture of several: `map-2.dzi` of `map.dzi`."""
        ending = "" if self._is_named_folder else self.path.suffix
        path = self.path.with_name(f"{self.name}-{number}{ending}")
        return replace(self, path=path)

    @property
    def _is_named_folder(self) -> bool:
        return self.container == "folder" and self.layout.kind.kind != "dzi"


def target_of(
    dest: str | os.PathLike[str] | None,
    source: object,
    layout: str | None = None,
    place: str = "",
) -> Target:
    """Where the result of a source goes.

    Args:
        dest: A path with one of `ENDINGS` is the result. A folder (one that exists, ends in a
            slash, or has no ending) gets `<stem>.dzi`, where the layout is Deep Zoom's. Other
            layouts are a folder themselves: one that ends in a slash gets `<stem>`, any other is
            the result. `{name}` stands for the stem. None is the current folder. The same goes
            for addresses in object stores, "s3://bucket/path", "gs://…" and "az://…".
        source: Where the stem comes from: a path, a URL, or a file object that has a name.
        layout: What `LayoutChoice.parse` takes. Default: the one of the ending, else "dzi".
        place: Folders that stand before the stem, of a picture that was found in a folder.

    Raises:
        OptionError: The ending is unknown or has not that layout, or there is no name to be had.

    Example:
        >>> target_of("out", "scans/map.tif").path.as_posix()
        'out/map.dzi'
        >>> target_of("out/map", "scans/map.tif", "zoomify").path.as_posix()
        'out/map'
        >>> target_of("{name}.pmtiles", "https://host/scans/map%201.tif?size=full").path.as_posix()
        'map 1.pmtiles'
    """
    text = "" if dest is None else os.fspath(dest)
    if NAME in text:
        text = text.replace(NAME, f"{place}/{_stem(source)}" if place else _stem(source))
        place = ""
    choice = None if layout is None else LayoutChoice.parse(layout)
    if scheme_of(text) is not None:
        store, key = _split(text)
        return replace(_target(key, source, choice, place, stored=True), store=store)
    return _target(text, source, choice, place, stored=False)


def _split(address: str) -> tuple[str, str]:
    """The bucket of an address in an object store, with its scheme, and the path in it."""
    if scheme_of(address) not in STORES:
        raise OptionError(
            f"{shown(address)}: results go to files and folders, or to "
            f"{', '.join(f'{name}://bucket/path' for name in STORES)}"
        )
    return bucket_and_key(address)


def _target(
    text: str, source: object, choice: LayoutChoice | None, place: str, *, stored: bool
) -> Target:
    path = Path(text)
    inside = not text or text.endswith(("/", os.sep))
    if not path.suffix or inside or (not stored and path.is_dir()):
        choice = choice or LayoutChoice.parse("dzi")
        return _in_or_as_folder(path / place, inside, source, choice)
    if path.suffix.lower() not in ENDINGS:
        raise OptionError(
            f"{text}: the ending {path.suffix!r} is not known; "
            f"{', '.join(ENDINGS)} or a folder would do"
        )
    ending = path.suffix.lower()
    container, kinds = ENDINGS[ending]
    choice = choice or LayoutChoice.parse(kinds[0])
    if choice.kind.kind not in kinds:
        raise OptionError(f"{text}: {ending} holds {', '.join(kinds)}, not {choice.kind.kind}")
    return Target(path.with_suffix(ending), container, choice)


def has_ending(dest: str) -> bool:
    """Whether a name is that of a result by its ending."""
    return dest.lower().endswith(tuple(ENDINGS))


def is_one_file(dest: str) -> bool:
    """Whether a name is that of a result in one file by its ending.

    Example:
        >>> is_one_file("site/{name}.SZI"), is_one_file("map.dzi"), is_one_file("site/")
        (True, False, False)
    """
    container, _ = ENDINGS.get(Path(dest).suffix.lower(), ("folder", ()))
    return container != "folder"


def folder_of(text: str) -> Path:
    """The folder that the results of several pictures go to, or lie below."""
    if NAME in text:
        start = text.partition(NAME)[0]
        return Path(start if start.endswith("/") else os.path.dirname(start))  # noqa: PTH120
    return Path(text).parent if has_ending(text) else Path(text)


def _in_or_as_folder(path: Path, inside: bool, source: object, choice: LayoutChoice) -> Target:
    kind = choice.kind.kind
    if kind == "tiff":
        return Target(path / f"{_stem(source)}.tif", "tiff", choice)
    if kind == "dzi":
        return Target(path / f"{_stem(source)}.dzi", "folder", choice)
    return Target(path / _stem(source) if inside else path, "folder", choice)


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
