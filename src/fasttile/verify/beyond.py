"""Tiles in a container of addresses that lie beyond the picture, or on levels that it has not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..layouts.square import Square
from ..readers.mbtiles import MbtilesReader
from ..readers.pmtiles import PmtilesReader
from .report import MOST_FAULTS, Fault
from .stored import Tiles

Numbers = NDArray[np.int64]

AT_ONCE = 2**16

_STARTS = np.array([((1 << 2 * zoom) - 1) // 3 for zoom in range(32)], np.int64)
_END = ((1 << 64) - 1) // 3
"""The first number of each zoom, and that of one which no file has."""

Address = tuple[int, int, int]
"""Zoom, column and row, counted from the top."""


def look_beyond(tiles: Tiles) -> None:
    """Note all tiles that are too many."""
    for zoom, col, row in _beyond(tiles):
        tiles.findings.add(Fault(None, f"{zoom}/{col}/{row}", "lies beyond the picture"))


def _beyond(tiles: Tiles) -> Iterator[Address]:
    if isinstance(tiles.reader, MbtilesReader):
        yield from _in_database(tiles, tiles.reader)
    elif isinstance(tiles.reader, PmtilesReader):
        yield from _in_directories(tiles, tiles.reader)


def _spans(tiles: Tiles) -> dict[int, tuple[range, range]]:
    """For each zoom, the columns and rows that the picture has."""
    layout = tiles.layout
    assert isinstance(layout, Square)
    return {
        level.number - layout.base: (
            range(level.first_col, level.first_col + level.cols),
            range(level.first_row, level.first_row + level.rows),
        )
        for level in tiles.pyramid.kept_levels
    }


def _in_database(tiles: Tiles, reader: MbtilesReader) -> Iterator[Address]:
    """By one question, whose answer is bounded."""
    wanted = []
    for zoom, (cols, rows) in _spans(tiles).items():
        last = (1 << zoom) - 1  # rows count from the bottom
        wanted.append(
            f"(zoom_level = {zoom} AND tile_column BETWEEN {cols.start} AND {cols.stop - 1}"
            f" AND tile_row BETWEEN {last - rows.stop + 1} AND {last - rows.start})"
        )
    found = reader._query(
        "SELECT zoom_level, tile_column, tile_row FROM tiles"
        f" WHERE NOT coalesce({' OR '.join(wanted)}, 0) LIMIT {MOST_FAULTS}",
        bounded=False,
    )
    for zoom, col, row in found:
        if isinstance(zoom, int) and isinstance(row, int) and 0 <= zoom < 64:
            yield zoom, col, (1 << zoom) - 1 - row
        else:
            yield zoom, col, row


def _in_directories(tiles: Tiles, reader: PmtilesReader) -> Iterator[Address]:
    spans, left = _spans(tiles), MOST_FAULTS
    for numbers in _numbers(reader):
        zooms, cols, rows = addresses_of(numbers)
        beyond = np.ones(len(numbers), bool)
        for zoom, (wanted_cols, wanted_rows) in spans.items():
            inside = (zooms == zoom) & (cols >= wanted_cols.start) & (cols < wanted_cols.stop)
            beyond &= ~(inside & (rows >= wanted_rows.start) & (rows < wanted_rows.stop))
        for place in np.flatnonzero(beyond)[:left].tolist():
            yield int(zooms[place]), int(cols[place]), int(rows[place])
            left -= 1
        if not left:
            return


def _numbers(reader: PmtilesReader) -> Iterator[Numbers]:
    """The numbers of all tiles along Hilbert's curve, some at a time."""
    for directory in reader._directories():
        there = (directory.runs > 0) & (directory.ids < _END)
        firsts, runs = (
            column[there].astype(np.int64) for column in (directory.ids, directory.runs)
        )
        single = runs == 1
        yield firsts[single]
        for first, run in zip(firsts[~single].tolist(), runs[~single].tolist(), strict=True):
            for start in range(first, min(first + run, _END), AT_ONCE):
                yield np.arange(start, min(start + AT_ONCE, first + run), dtype=np.int64)


def addresses_of(numbers: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Zooms, columns and rows of tiles that are numbered along Hilbert's curve, zoom after zoom.

    Example:
        >>> [column.tolist() for column in addresses_of(np.arange(1, 5))]
        [[1, 1, 1, 1], [0, 0, 1, 1], [0, 1, 1, 0]]
    """
    zooms = np.searchsorted(_STARTS, numbers, side="right") - 1
    rest = numbers - _STARTS[zooms]
    cols, rows = np.zeros_like(rest), np.zeros_like(rest)
    for bit in range(int(zooms.max(initial=0))):
        side = np.int64(1) << np.int64(bit)
        right = rest >> 1 & 1
        below = (rest ^ right) & 1
        inside = zooms > bit
        # The curve turns in the two upper quarters.
        mirrored = inside & (below == 0) & (right == 1)
        cols[mirrored], rows[mirrored] = side - 1 - cols[mirrored], side - 1 - rows[mirrored]
        turned = inside & (below == 0)
        cols[turned], rows[turned] = rows[turned], cols[turned]
        cols += np.where(inside, side * right, 0)
        rows += np.where(inside, side * below, 0)
        rest >>= 2
    return zooms, cols, rows
