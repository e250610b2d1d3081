"""PMTiles' directories: which tiles there are and where, in pieces that readers fetch one by one.

Source: the PMTiles specification, version 3, section 4. Numbers are seven bits a byte, the lowest
first; four columns of them, compressed by gzip. A million tiles are a million rows, so this is done
a column at a time.
"""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Uint64Array = NDArray[np.uint64]

_LEAF_ENTRIES = 4096
_MAX_ROOT_ENTRIES = 2**16
"""No root holds more: not worth a try."""

_GZIP_WBITS = 16 + zlib.MAX_WBITS


class DirectoryEntries(NamedTuple):
    """Rows of a directory, by ascending tile id; all columns have the same length.

    Attributes:
        ids: The first tile of each.
        runs: How many tiles, one after the other, are the same; 0 for a further directory.
        sizes, offsets: Where its bytes are.
    """

    ids: Uint64Array
    run_lengths: Uint64Array
    sizes: Uint64Array
    offsets: Uint64Array

    def slice_rows(self, start: int, end: int) -> DirectoryEntries:
        """Some of the rows."""
        return DirectoryEntries(*(column[start:end] for column in self))


def encode_directories(entries: DirectoryEntries, max_root_bytes: int) -> tuple[bytes, bytes]:
    """The root directory, and all others one after the other.

    Args:
        entries: Of all tiles.
        root_bytes: What the root may take.
    """
    count = len(entries.ids)
    if count <= _MAX_ROOT_ENTRIES:
        root = encode_directory(entries)
        if len(root) <= max_root_bytes:
            return root, b""
    step = _LEAF_ENTRIES
    while True:
        starts = np.arange(0, count, step)
        leaves = [
            encode_directory(entries.slice_rows(start, start + step)) for start in starts.tolist()
        ]
        sizes = np.array([len(leaf) for leaf in leaves], np.uint64)
        offsets = np.cumsum(sizes, dtype=np.uint64) - sizes
        root = encode_directory(
            DirectoryEntries(entries.ids[starts], np.zeros_like(sizes), sizes, offsets)
        )
        if len(root) <= max_root_bytes:
            return root, b"".join(leaves)
        step *= 2


def encode_directory(entries: DirectoryEntries) -> bytes:
    """One directory, compressed."""
    steps = np.diff(entries.ids, prepend=np.uint64(0))
    # 0 says: right behind the one before.
    places = entries.offsets + np.uint64(1)
    behind = entries.offsets[:-1] + entries.sizes[:-1]
    places[1:][entries.offsets[1:] == behind] = 0
    count = np.array([len(entries.ids)], np.uint64)
    columns = (count, steps, entries.run_lengths, entries.sizes, places)
    return gzip_bytes(b"".join(_encode_varints(column) for column in columns))


def gzip_bytes(data: bytes) -> bytes:
    """Compressed by gzip, without a time: the same bytes each time."""
    compressor = zlib.compressobj(wbits=_GZIP_WBITS)
    return compressor.compress(data) + compressor.flush()


def _encode_varints(values: Uint64Array) -> bytes:
    """Numbers of seven bits a byte, the lowest first, all bytes but the last one marked."""
    lengths = np.ones(len(values), np.int64)
    for bits in range(7, 64, 7):
        lengths += values >> np.uint64(bits) > 0
    starts = np.cumsum(lengths) - lengths
    data = np.empty(int(lengths.sum()), np.uint8)
    for byte in range(int(lengths.max(initial=0))):
        there = lengths > byte
        seven = values[there] >> np.uint64(7 * byte) & np.uint64(127)
        more = (lengths[there] > byte + 1).astype(np.uint64) << np.uint64(7)
        data[starts[there] + byte] = seven | more
    return data.tobytes()


# The numbers that PMTiles has for tiles: zoom after zoom, along Hilbert's curve in each.


def tile_ids(zooms: NDArray[Any], cols: NDArray[Any], rows: NDArray[Any]) -> NDArray[np.uint64]:
    """The numbers of tiles.

    Args:
        zooms: Shape (n,), whole numbers up to 31: larger ones have no numbers in 64 bits.
        cols, rows: Of the same shape, rows counted from the top.

    Example:
        >>> zooms, cols, rows = np.array([[0, 1, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 1, 1, 0]])
        >>> tile_ids(zooms, cols, rows).tolist()
        [0, 1, 2, 3, 4]
    """
    ids = np.zeros(zooms.shape, np.uint64)
    for zoom in np.unique(zooms).tolist():
        chosen = zooms == zoom
        before = ((1 << 2 * zoom) - 1) // 3
        ids[chosen] = np.uint64(before) + _curve_positions(zoom, cols[chosen], rows[chosen])
    return ids


def _curve_positions(zoom: int, cols: NDArray[Any], rows: NDArray[Any]) -> NDArray[np.uint64]:
    """How far along the curve tiles of one zoom are."""
    places: NDArray[np.uint64] = np.zeros(cols.shape, np.uint64)
    cols, rows = cols.astype(np.uint32), rows.astype(np.uint32)
    for bit in range(zoom - 1, -1, -1):
        right, below = cols >> np.uint32(bit) & 1, rows >> np.uint32(bit) & 1
        quarters = (np.uint32(3) * right ^ below).astype(np.uint64)
        places = places << np.uint64(2) | quarters
        # The curve turns in the two upper quarters; in the right one it comes from behind, too.
        above = 1 - below
        behind = np.negative(right & above)
        cols, rows = cols ^ behind, rows ^ behind
        other = (cols ^ rows) & np.negative(above)
        cols, rows = cols ^ other, rows ^ other
    return places


class PmtilesDirectory(NamedTuple):
    """Entries by ascending tile id; those with no run lead to a further directory."""

    ids: NDArray[np.uint64]
    run_lengths: NDArray[np.uint64]
    sizes: NDArray[np.uint64]
    offsets: NDArray[np.uint64]


def tile_id(zoom: int, col: int, row: int) -> int:
    """The number of a tile along Hilbert's curve, zoom after zoom.

    Example:
        >>> [tile_id(1, col, row) for col, row in [(0, 0), (0, 1), (1, 1), (1, 0)]]
        [1, 2, 3, 4]
    """
    place = 0
    for bit in range(zoom - 1, -1, -1):
        right, below = col >> bit & 1, row >> bit & 1
        place = 4 * place + (3 * right ^ below)
        if not below:  # the curve turns in the two upper quarters
            if right:
                col, row = ~col, ~row
            col, row = row, col
    return ((1 << 2 * zoom) - 1) // 3 + place


def _decode_directory(raw: bytes) -> PmtilesDirectory:
    """The entries of a directory.

    Raises:
        ValueError: They are damaged.
    """
    data = np.frombuffer(raw, np.uint8)
    (count,), rest = _decode_varints(data, 1)
    # Four numbers an entry, each a byte at least.
    if 4 * int(count) > len(rest):
        raise ValueError(f"claims {count} entries in {len(raw)} bytes")
    columns = []
    for _ in range(4):
        values, rest = _decode_varints(rest, int(count))
        columns.append(values)
    steps, runs, sizes, places = columns
    ids = np.cumsum(steps, dtype=np.uint64)
    if bool((ids[1:] <= ids[:-1]).any()) or bool((np.maximum(sizes, runs) >> np.uint64(40)).any()):
        raise ValueError("has numbers that cannot be")
    return PmtilesDirectory(ids, runs, sizes, _decode_offsets(places, sizes))


def _decode_offsets(places: NDArray[np.uint64], sizes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Where entries lie: places count from 1, and 0 says right behind the entry before."""
    if not len(places):
        return places
    if places[0] == 0 or bool((places >> np.uint64(60)).any()):
        raise ValueError("has an entry that lies nowhere")
    behind = np.concatenate([[np.uint64(0)], np.cumsum(sizes)[:-1]])
    last = np.maximum.accumulate(np.where(places > 0, np.arange(len(places)), 0))
    return np.asarray(places[last] - np.uint64(1) + behind - behind[last])


def _decode_varints(
    data: NDArray[np.uint8], count: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Decode a number of varints (seven bits a byte, lowest first); returns them and the rest."""
    ends = np.flatnonzero(data < 128)[:count]
    if len(ends) < count:
        raise ValueError("is cut short")
    if count == 0:
        return np.empty(0, np.uint64), data
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    values = np.zeros(count, np.uint64)
    longest = int(lengths.max())
    if longest > 10:
        raise ValueError("has a number of more than 64 bits")
    for byte in range(longest):
        there = lengths > byte
        bits = (data[starts[there] + byte] & 127).astype(np.uint64)
        values[there] |= bits << np.uint64(7 * byte)
    return values, data[ends[-1] + 1 :]


def _find_entry(directory: PmtilesDirectory, tile_number: int) -> tuple[int, int, int] | None:
    """Run, size and offset of the entry that a tile belongs to."""
    index = int(np.searchsorted(directory.ids, np.uint64(tile_number), side="right")) - 1
    if index < 0:
        return None
    run = int(directory.run_lengths[index])
    if run and tile_number >= int(directory.ids[index]) + run:
        return None
    return run, int(directory.sizes[index]), int(directory.offsets[index])


TileIds = NDArray[np.int64]

_FIRST_TILE_IDS = np.array([((1 << 2 * zoom) - 1) // 3 for zoom in range(32)], np.int64)
_TILE_ID_END = ((1 << 64) - 1) // 3
"""The first number of each zoom, and that of one which no file has."""


def tile_addresses(tile_ids: TileIds) -> tuple[TileIds, TileIds, TileIds]:
    """Zooms, columns and rows of tiles that are numbered along Hilbert's curve, zoom after zoom.

    Example:
        >>> [column.tolist() for column in tile_addresses(np.arange(1, 5))]
        [[1, 1, 1, 1], [0, 0, 1, 1], [0, 1, 1, 0]]
    """
    zooms = np.searchsorted(_FIRST_TILE_IDS, tile_ids, side="right") - 1
    rest = tile_ids - _FIRST_TILE_IDS[zooms]
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
