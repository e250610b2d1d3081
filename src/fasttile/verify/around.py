"""What lies beside the tiles: pictures of whole levels, and files that have no business there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ..geometry import Tile
from ..layouts.base import Layout
from ..layouts.iiif import Iiif
from ..sinks.oserrors import shown
from .intact import is_picture_name, pixels_of
from .report import Fault
from .stored import Tiles

_SYSTEM = ("thumbs.db", "desktop.ini")
_NUMBERS = re.compile(r"(?:full|[0-9]{1,13},([0-9]{1,13}),[0-9]{1,13},[0-9]{1,13})/")
_TOLD = 3  # names in a note


class Extra(NamedTuple):
    """A file below the layout's root that is no part of the result.

    Attributes:
        path: As the layout gives paths.
        wrong: Whether it has no business there. Beside what a user opens, other files may lie.
    """

    path: str
    wrong: bool


def extras(tiles: Tiles) -> Iterator[Extra]:
    """All files that are no part of a result whose tiles are files."""
    files, layout = tiles.files, tiles.layout
    if files is None:
        return
    known = {path for paths in layout.wholes().values() for path in paths} | {*layout.descriptors()}
    shared = {layout.path(tile) for tile in _last_tiles(layout) if not layout.paths(tile)}
    for below, _ in files.sizes():
        path = f"{layout.root}/{below}"
        if path in known or path in shared or layout.tile_at(path) is not None:
            continue
        if not _is_other_name(layout, path):
            yield Extra(path, _is_wrong(below))


def look_at_extras(tiles: Tiles) -> None:
    """Note all files that are too many, and that there are others."""
    others = 0
    names: list[str] = []
    for extra in extras(tiles):
        if extra.wrong:
            tiles.findings.add(Fault(None, extra.path, "does not belong there"))
            continue
        others += 1
        if len(names) < _TOLD:
            names.append(shown(extra.path))
    if others:
        more = f" and {others - len(names):,} more" if others > len(names) else ""
        tiles.findings.notes.append(f"other files beside the tiles: {', '.join(names)}{more}")


def look_at_wholes(tiles: Tiles, *, deep: bool) -> None:
    """Note what is wrong with pictures of whole levels."""
    for number, paths in tiles.layout.wholes().items():
        level = tiles.pyramid.levels[number]
        first: bytes | None = None
        for path in paths:
            data = tiles.read(path)
            if isinstance(data, Fault):
                tiles.findings.add(data)
                continue
            flaw = tiles.whole_flaw(data, (level.width, level.height))
            if flaw is None and data is not None and deep:
                pixels = pixels_of(data, max(level.width, level.height))
                flaw = pixels if isinstance(pixels, str) else None
            if flaw is None and first is not None and data != first:
                flaw = "differs from the same picture by another name"
            first = first or data
            if flaw is not None:
                tiles.findings.add(Fault(None, path, flaw))


def _last_tiles(layout: Layout) -> Iterator[Tile]:
    """The tiles that may share a file with one of a larger level."""
    for level in layout.pyramid.kept_levels:
        yield Tile(level.number, level.cols - 1, level.rows - 1)


def _is_other_name(layout: Layout, path: str) -> bool:
    """Whether a path is one of the further names that IIIF has for some tiles."""
    if not isinstance(layout, Iiif):
        return False
    said = _NUMBERS.match(path.removeprefix(f"{layout.root}/"))
    y = int(said[1] or 0) if said else 0
    pyramid = layout.pyramid
    for level in pyramid.kept_levels:
        row = (y >> (pyramid.kept[-1] - level.number)) // level.tile_size
        if (
            level.cols == 1
            and row < level.rows
            and path in layout.paths(Tile(level.number, 0, row))
        ):
            return True
    return False


def _is_wrong(below: str) -> bool:
    """Whether a file below the root is in the way; what systems and users put there is not."""
    name = below.rpartition("/")[2]
    if name.startswith(".") or name.lower() in _SYSTEM:
        return False
    return "/" in below or is_picture_name(name)
