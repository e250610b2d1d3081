"""Which pictures a user means: files and addresses, folders of them, and lists."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from .errors import OptionError, SourceError
from .sources.ways import STANDARD_INPUT, scheme_of

LIST = "@"
"""What stands before the name of a list."""

_PICTURE = re.compile(
    r"\.(avif|bif|bmp|czi|dcx|dib|gif|icns|ico|im|jfif|jp2|j2k|jpc|jpe|jpeg|jpg|jpx|mpo|mrxs|ndpi"
    r"|npy|pam|pbm|pcx|pgm|png|pnm|ppm|psd|qoi|ras|scn|sgi|sun|svs|svslide|tga|tif|tiff|vms|vmu"
    r"|webp|xbm|xpm|zvi)\Z",
    re.IGNORECASE,
)
"""What files are called that are taken for pictures where a folder is named."""

_DESCRIPTIONS = frozenset({"ImageProperties.xml", "tilemapresource.xml", "info.json", "tiles.json"})
"""What lies in the folder of a result, whose tiles are no pictures to be cut."""


class Found(NamedTuple):
    """A picture, and where it lies in the folder that was named.

    Attributes:
        source: Its path or address.
        place: The folders between that folder and the picture, with forward slashes; or "".
    """

    source: str
    place: str = ""


def found(sources: Iterable[str]) -> Iterator[Found]:
    """The pictures that are meant, in order.

    Args:
        sources: Files and addresses, as they are; folders, for all pictures below them (by their
            endings; what is hidden is left out, and so are results of fasttile's); "@LIST" for
            the lines of a file, each a source, and "@-" for those of standard input.

    Raises:
        SourceError: A folder or a list cannot be read, or there is no picture in it.
        OptionError: A list names a list.

    Example:
        >>> list(found(["map.tif", "https://example.org/plan.png"]))[1].source
        'https://example.org/plan.png'
    """
    for source in sources:
        if source.startswith(LIST):
            yield from _listed(source)
        else:
            yield from _meant(source)


def is_many(source: str) -> bool:
    """Whether a source may stand for several pictures."""
    return source.startswith(LIST) or (scheme_of(source) is None and Path(source).is_dir())


def _meant(source: str) -> Iterator[Found]:
    # Slides in folders (.mrxs) are named by their file, so a folder always is one of pictures.
    if scheme_of(source) is not None or source == STANDARD_INPUT or not Path(source).is_dir():
        yield Found(source)
        return
    empty = True
    for picture in _below(source, ""):
        empty = False
        yield picture
    if empty:
        raise SourceError(f"{source}: no picture lies in this folder, by the endings of its files")


def _below(folder: str, place: str) -> Iterator[Found]:
    """The pictures of a folder, sorted, and then those of the folders in it."""
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        raise SourceError(f"{folder} cannot be read: {error.strerror}") from error
    names = {entry.name for entry in entries}
    if not names.isdisjoint(_DESCRIPTIONS):
        return
    folders = []
    for entry in entries:
        name = entry.name
        if name.startswith("."):
            continue
        if entry.is_dir():
            if not _is_of_result(name, names):
                folders.append(name)
        elif _PICTURE.search(name):
            yield Found(f"{folder.rstrip('/')}/{name}" if folder else name, place)
    for name in folders:
        if not os.path.islink(f"{folder}/{name}"):  # noqa: PTH114 -- it may lead round
            inner = f"{place}/{name}" if place else name
            yield from _below(f"{folder.rstrip('/')}/{name}", inner)


def _is_of_result(name: str, names: set[str]) -> bool:
    """Whether a folder holds the tiles of a Deep Zoom picture or collection beside it."""
    stem = name.removesuffix("_files")
    return stem != name and not names.isdisjoint({f"{stem}.dzi", f"{stem}.dzc", f"{stem}.xml"})


def _listed(source: str) -> Iterator[Found]:
    name = source.removeprefix(LIST)
    try:
        lines = sys.stdin.buffer.read() if name == STANDARD_INPUT else Path(name).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"the list {name or source} cannot be read: {reason}") from error
    named = [os.fsdecode(line.rstrip(b"\r")) for line in lines.split(b"\n")]
    named = [line for line in named if line.strip()]
    if not named:
        raise SourceError(f"the list {name} names no picture")
    for line in named:
        if line.startswith(LIST):
            raise OptionError(f"{line}: a list in a list ({name}); ./{line} would be a file")
        yield from _meant(line)
