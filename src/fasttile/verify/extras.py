"""Checks beside the tiles: images of levels, extra files and extra tiles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from fasttile.abc.layout import Layout
from fasttile.geometry import Tile
from fasttile.layouts.iiif import Iiif
from fasttile.storage.paths import printable_path
from fasttile.verify.report import MAX_LISTED_FAULTS, Fault
from fasttile.verify.tiles import StoredTiles, decode_or_flaw, has_image_suffix

_SYSTEM_FILES = ("thumbs.db", "desktop.ini")
_IIIF_REGION = re.compile(r"(?:full|[0-9]{1,13},([0-9]{1,13}),[0-9]{1,13},[0-9]{1,13})/")
_MAX_NAMES_IN_NOTE = 3


class ExtraFile(NamedTuple):
    """A file below the root of the layout that is no part of the result.

    Attributes:
        path: Path in the form that the layout uses.
        is_misplaced: True if the file may be mistaken for a tile. Other files may be there.
    """

    path: str
    is_misplaced: bool


def extra_files(tiles: StoredTiles) -> Iterator[ExtraFile]:
    """Files that are no part of the result, in containers of files."""
    files, layout = tiles.files, tiles.layout
    if files is None:
        return
    known = {path for paths in layout.level_image_paths().values() for path in paths}
    known.update(layout.descriptors())
    for level in layout.pyramid.stored_levels:
        # The last tile of a level may share its file with a tile of a larger level.
        last = Tile(level.number, level.cols - 1, level.rows - 1)
        if not layout.paths(last):
            known.add(layout.path(last))
    for below, _ in files.file_sizes():
        path = f"{layout.root}/{below}"
        if path in known or layout.tile_at(path) is not None or _is_iiif_alias(layout, path):
            continue
        name = below.rpartition("/")[2]
        hidden = name.startswith(".") or name.lower() in _SYSTEM_FILES
        yield ExtraFile(path, not hidden and ("/" in below or has_image_suffix(name)))


def check_extra_files(tiles: StoredTiles) -> None:
    """Record misplaced files as faults, and other extra files as a note."""
    others = 0
    names: list[str] = []
    for extra in extra_files(tiles):
        if extra.is_misplaced:
            tiles.findings.add(Fault(None, extra.path, "is no part of the result"))
            continue
        others += 1
        if len(names) < _MAX_NAMES_IN_NOTE:
            names.append(printable_path(extra.path))
    if others:
        more = f" and {others - len(names):,} more" if others > len(names) else ""
        tiles.findings.notes.append(f"other files beside the tiles: {', '.join(names)}{more}")


def check_level_images(tiles: StoredTiles, *, deep: bool) -> None:
    """Record the flaws of images of levels."""
    for number, paths in tiles.layout.level_image_paths().items():
        level = tiles.pyramid.levels[number]
        first: bytes | None = None
        for path in paths:
            data = tiles.read_file(path)
            if isinstance(data, Fault):
                tiles.findings.add(data)
                continue
            flaw = tiles.level_image_flaw(data, (level.width, level.height))
            if flaw is None and data is not None and deep:
                pixels = decode_or_flaw(data, max(level.width, level.height))
                flaw = pixels if isinstance(pixels, str) else None
            if flaw is None and first is not None and data != first:
                flaw = "differs from the same image at another path"
            first = first or data
            if flaw is not None:
                tiles.findings.add(Fault(None, path, flaw))


def _is_iiif_alias(layout: Layout, path: str) -> bool:
    """True if a path is one of the other names that IIIF has for some tiles."""
    if not isinstance(layout, Iiif):
        return False
    match = _IIIF_REGION.match(path.removeprefix(f"{layout.root}/"))
    y = int(match[1] or 0) if match else 0
    pyramid = layout.pyramid
    for level in pyramid.stored_levels:
        row = (y >> (pyramid.stored_range[-1] - level.number)) // level.tile_size
        if (
            level.cols == 1
            and row < level.rows
            and path in layout.paths(Tile(level.number, 0, row))
        ):
            return True
    return False


def check_extra_tiles(tiles: StoredTiles) -> None:
    """Record the tiles of a container of addresses that are outside the image."""
    for zoom, col, row in tiles.reader.extra_addresses(MAX_LISTED_FAULTS):
        tiles.findings.add(Fault(None, f"{zoom}/{col}/{row}", "is outside the image"))
