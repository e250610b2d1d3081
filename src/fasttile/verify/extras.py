"""What lies beside the tiles: images of whole levels, and files that have no business there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fasttile.abc.layout import Layout
from fasttile.formats.pmtiles import _TILE_ID_END, TileIds, tile_addresses
from fasttile.geometry import Tile
from fasttile.layouts.iiif import Iiif
from fasttile.layouts.xyz import ZoomLayout
from fasttile.readers.tilesets import MbtilesReader, PmtilesReader
from fasttile.storage.paths import printable_path
from fasttile.verify.report import MAX_LISTED_FAULTS, Fault
from fasttile.verify.tiles import StoredTiles, decode_or_flaw, has_image_suffix

_SYSTEM_FILES = ("thumbs.db", "desktop.ini")
_IIIF_REGION = re.compile(r"(?:full|[0-9]{1,13},([0-9]{1,13}),[0-9]{1,13},[0-9]{1,13})/")
_MAX_NAMES_IN_NOTE = 3  # names in a note


class ExtraFile(NamedTuple):
    """A file below the layout's root that is no part of the result.

    Attributes:
        path: As the layout gives paths.
        wrong: Whether it has no business there. Beside what a user opens, other files may lie.
    """

    path: str
    is_misplaced: bool


def extra_files(tiles: StoredTiles) -> Iterator[ExtraFile]:
    """All files that are no part of a result whose tiles are files."""
    files, layout = tiles.files, tiles.layout
    if files is None:
        return
    known = {path for paths in layout.level_image_paths().values() for path in paths} | {
        *layout.descriptors()
    }
    shared = {layout.path(tile) for tile in _last_tile_of_levels(layout) if not layout.paths(tile)}
    for below, _ in files.file_sizes():
        path = f"{layout.root}/{below}"
        if path in known or path in shared or layout.tile_at(path) is not None:
            continue
        if not _is_iiif_alias(layout, path):
            yield ExtraFile(path, _is_misplaced(below))


def check_extra_files(tiles: StoredTiles) -> None:
    """Note all files that are too many, and that there are others."""
    others = 0
    names: list[str] = []
    for extra in extra_files(tiles):
        if extra.is_misplaced:
            tiles.findings.add(Fault(None, extra.path, "does not belong there"))
            continue
        others += 1
        if len(names) < _MAX_NAMES_IN_NOTE:
            names.append(printable_path(extra.path))
    if others:
        more = f" and {others - len(names):,} more" if others > len(names) else ""
        tiles.findings.notes.append(f"other files beside the tiles: {', '.join(names)}{more}")


def check_level_images(tiles: StoredTiles, *, deep: bool) -> None:
    """Note what is wrong with images of whole levels."""
    for number, paths in tiles.layout.level_image_paths().items():
        level = tiles.pyramid.levels[number]
        first: bytes | None = None
        for path in paths:
            data = tiles.read_file(path)
            if isinstance(data, Fault):
                tiles.findings.add(data)
                continue
            flaw = tiles.check_level_image(data, (level.width, level.height))
            if flaw is None and data is not None and deep:
                pixels = decode_or_flaw(data, max(level.width, level.height))
                flaw = pixels if isinstance(pixels, str) else None
            if flaw is None and first is not None and data != first:
                flaw = "differs from the same image by another name"
            first = first or data
            if flaw is not None:
                tiles.findings.add(Fault(None, path, flaw))


def _last_tile_of_levels(layout: Layout) -> Iterator[Tile]:
    """The tiles that may share a file with one of a larger level."""
    for level in layout.pyramid.stored_levels:
        yield Tile(level.number, level.cols - 1, level.rows - 1)


def _is_iiif_alias(layout: Layout, path: str) -> bool:
    """Whether a path is one of the further names that IIIF has for some tiles."""
    if not isinstance(layout, Iiif):
        return False
    said = _IIIF_REGION.match(path.removeprefix(f"{layout.root}/"))
    y = int(said[1] or 0) if said else 0
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


def _is_misplaced(relative_path: str) -> bool:
    """Whether a file below the root is in the way; what systems and users put there is not."""
    name = relative_path.rpartition("/")[2]
    if name.startswith(".") or name.lower() in _SYSTEM_FILES:
        return False
    return "/" in relative_path or has_image_suffix(name)


# Tiles in a container of addresses that lie beyond the image, or on levels that it has not.

NUMBERS_PER_CHUNK = 2**16

Address = tuple[int, int, int]
"""Zoom, column and row, counted from the top."""


def check_extra_tiles(tiles: StoredTiles) -> None:
    """Note all tiles that are too many."""
    for zoom, col, row in _extra_tiles(tiles):
        tiles.findings.add(Fault(None, f"{zoom}/{col}/{row}", "lies beyond the image"))


def _extra_tiles(tiles: StoredTiles) -> Iterator[Address]:
    if isinstance(tiles.reader, MbtilesReader):
        yield from _extra_in_mbtiles(tiles, tiles.reader)
    elif isinstance(tiles.reader, PmtilesReader):
        yield from _extra_in_pmtiles(tiles, tiles.reader)


def _address_ranges(tiles: StoredTiles) -> dict[int, tuple[range, range]]:
    """For each zoom, the columns and rows that the image has."""
    layout = tiles.layout
    assert isinstance(layout, ZoomLayout)
    return {
        level.number - layout.base_level: (
            range(level.first_col, level.first_col + level.cols),
            range(level.first_row, level.first_row + level.rows),
        )
        for level in tiles.pyramid.stored_levels
    }


def _extra_in_mbtiles(tiles: StoredTiles, reader: MbtilesReader) -> Iterator[Address]:
    """By one question, whose answer is bounded."""
    wanted = []
    for zoom, (cols, rows) in _address_ranges(tiles).items():
        last = (1 << zoom) - 1  # rows count from the bottom
        wanted.append(
            f"(zoom_level = {zoom} AND tile_column BETWEEN {cols.start} AND {cols.stop - 1}"
            f" AND tile_row BETWEEN {last - rows.stop + 1} AND {last - rows.start})"
        )
    found = reader._query(
        "SELECT zoom_level, tile_column, tile_row FROM tiles"
        f" WHERE NOT coalesce({' OR '.join(wanted)}, 0) LIMIT {MAX_LISTED_FAULTS}",
        bounded=False,
    )
    for zoom, col, row in found:
        if isinstance(zoom, int) and isinstance(row, int) and 0 <= zoom < 64:
            yield zoom, col, (1 << zoom) - 1 - row
        else:
            yield zoom, col, row


def _extra_in_pmtiles(tiles: StoredTiles, reader: PmtilesReader) -> Iterator[Address]:
    spans, left = _address_ranges(tiles), MAX_LISTED_FAULTS
    for numbers in _stored_tile_ids(reader):
        zooms, cols, rows = tile_addresses(numbers)
        beyond = np.ones(len(numbers), bool)
        for zoom, (wanted_cols, wanted_rows) in spans.items():
            inside = (zooms == zoom) & (cols >= wanted_cols.start) & (cols < wanted_cols.stop)
            beyond &= ~(inside & (rows >= wanted_rows.start) & (rows < wanted_rows.stop))
        for place in np.flatnonzero(beyond)[:left].tolist():
            yield int(zooms[place]), int(cols[place]), int(rows[place])
            left -= 1
        if not left:
            return


def _stored_tile_ids(reader: PmtilesReader) -> Iterator[TileIds]:
    """The numbers of all tiles along Hilbert's curve, some at a time."""
    for directory in reader._iter_directories():
        there = (directory.run_lengths > 0) & (directory.ids < _TILE_ID_END)
        firsts, runs = (
            column[there].astype(np.int64) for column in (directory.ids, directory.run_lengths)
        )
        single = runs == 1
        yield firsts[single]
        for first, run in zip(firsts[~single].tolist(), runs[~single].tolist(), strict=True):
            for start in range(first, min(first + run, _TILE_ID_END), NUMBERS_PER_CHUNK):
                yield np.arange(start, min(start + NUMBERS_PER_CHUNK, first + run), dtype=np.int64)
