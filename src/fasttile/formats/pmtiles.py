"""PMTiles, version 3: the header, directories and tile ids, both ways.

Source: the PMTiles specification, version 3: https://github.com/protomaps/PMTiles. A directory is
five columns of varints (seven bits a byte, the lowest first), compressed with gzip. A file of a
million tiles has a million rows, so NumPy encodes and decodes a column at a time. The `pmtiles`
package inflates a directory of any size and holds a Python object for each tile.

Tile ids count zoom after zoom, along a Hilbert curve in each.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Uint64Array = NDArray[np.uint64]
Int64Array = NDArray[np.int64]

HEADER = struct.Struct("<7sB11Q6B4iB2i")
"""Magic and version; offsets and sizes; counts; types and zooms; bounds; centre: section 3."""

MAX_ZOOM = 31
NO_COMPRESSION, GZIP_COMPRESSION = 1, 2
VECTOR_TYPE = 1
TILE_TYPES = {2: "png", 3: "jpg", 4: "webp", 5: "avif"}
"""Extensions of tiles by their type in the header."""

_LEAF_ENTRIES = 4096
_MAX_ROOT_ENTRIES = 2**16
"""A larger root never fits into the first 16 KiB of a file, so it is not tried."""

_FIRST_TILE_IDS = np.array([((1 << 2 * zoom) - 1) // 3 for zoom in range(32)], np.int64)
TILE_ID_END = ((1 << 64) - 1) // 3
"""The first id of zoom 32, which no file has."""


class PmtilesHeader(NamedTuple):
    """The fields of a header that a reader needs: offsets and sizes in bytes, types, zooms."""

    root_offset: int
    root_size: int
    metadata_offset: int
    metadata_size: int
    leaves_offset: int
    leaves_size: int
    data_offset: int
    clustered: int
    internal_compression: int
    tile_compression: int
    tile_type: int
    min_zoom: int
    max_zoom: int

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """The header in the first 127 bytes of a file.

        Raises:
            ValueError: It is damaged, or of another version.
        """
        magic, version, *numbers = HEADER.unpack(data)
        if magic != b"PMTiles" or version != 3:
            raise ValueError("is not PMTiles of version 3")
        header = cls(*numbers[:7], *numbers[11:17])
        if not header.min_zoom <= header.max_zoom <= MAX_ZOOM:
            raise ValueError(f"is damaged: zooms {header.min_zoom} to {header.max_zoom}")
        return header


class DirectoryEntries(NamedTuple):
    """Rows of a directory by ascending tile id; all columns have the same length.

    Attributes:
        ids: The first tile of each row.
        run_lengths: How many consecutive tiles share the data; 0: a further directory.
        sizes, offsets: Size and offset of the data, in bytes.
    """

    ids: Uint64Array
    run_lengths: Uint64Array
    sizes: Uint64Array
    offsets: Uint64Array

    def slice_rows(self, start: int, end: int) -> DirectoryEntries:
        """The rows from start up to end."""
        return DirectoryEntries(*(column[start:end] for column in self))

    def find(self, tile_id: int) -> tuple[int, int, int] | None:
        """Run length, size and offset of the row of a tile; None: no row has it."""
        index = int(np.searchsorted(self.ids, np.uint64(tile_id), side="right")) - 1
        if index < 0:
            return None
        run = int(self.run_lengths[index])
        if run and tile_id >= int(self.ids[index]) + run:
            return None
        return run, int(self.sizes[index]), int(self.offsets[index])


def encode_directories(entries: DirectoryEntries, max_root_bytes: int) -> tuple[bytes, bytes]:
    """The root directory and the joined leaf directories.

    Args:
        entries: Rows of all tiles.
        max_root_bytes: Maximum size of the root. Where one directory is larger, the root points to
            leaves.
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
    """One directory, compressed with gzip."""
    steps = np.diff(entries.ids, prepend=np.uint64(0))
    # 0 means: directly after the data of the row before.
    places = entries.offsets + np.uint64(1)
    behind = entries.offsets[:-1] + entries.sizes[:-1]
    places[1:][entries.offsets[1:] == behind] = 0
    count = np.array([len(entries.ids)], np.uint64)
    columns = (count, steps, entries.run_lengths, entries.sizes, places)
    return gzip_bytes(b"".join(_encode_varints(column) for column in columns))


def gzip_bytes(data: bytes) -> bytes:
    """Compress with gzip, without a time stamp, so that equal data have equal bytes."""
    compressor = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def unread_compression(method: int) -> str:
    """Name of a compression that is neither none nor gzip, for messages."""
    name = {3: "brotli", 4: "zstd"}.get(method, f"method {method}")
    return f"{name}, which fasttile does not read"


def _encode_varints(values: Uint64Array) -> bytes:
    """Encode integers; bit 7 is set in all bytes of a value but the last."""
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


def decode_directory(raw: bytes) -> DirectoryEntries:
    """The rows of an inflated directory.

    Raises:
        ValueError: It is damaged.
    """
    data = np.frombuffer(raw, np.uint8)
    (count,), rest = _decode_varints(data, 1)
    if 4 * int(count) > len(rest):  # a row has four values of a byte or more
        raise ValueError(f"has {count} entries in {len(raw)} bytes")
    columns = []
    for _ in range(4):
        values, rest = _decode_varints(rest, int(count))
        columns.append(values)
    steps, runs, sizes, places = columns
    ids = np.cumsum(steps, dtype=np.uint64)
    if bool((ids[1:] <= ids[:-1]).any()) or bool((np.maximum(sizes, runs) >> np.uint64(40)).any()):
        raise ValueError("has values out of range")
    if not len(places):
        return DirectoryEntries(ids, runs, sizes, places)
    if places[0] == 0 or bool((places >> np.uint64(60)).any()):
        raise ValueError("has an entry without a valid offset")
    # Offsets are stored plus 1; 0 means directly after the data of the row before.
    behind = np.concatenate([[np.uint64(0)], np.cumsum(sizes)[:-1]])
    last = np.maximum.accumulate(np.where(places > 0, np.arange(len(places)), 0))
    offsets = np.asarray(places[last] - np.uint64(1) + behind - behind[last])
    return DirectoryEntries(ids, runs, sizes, offsets)


def _decode_varints(
    data: NDArray[np.uint8], count: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """The first `count` values, and the rest of the data."""
    ends = np.flatnonzero(data < 128)[:count]
    if len(ends) < count:
        raise ValueError("is truncated")
    if count == 0:
        return np.empty(0, np.uint64), data
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    values = np.zeros(count, np.uint64)
    longest = int(lengths.max())
    if longest > 10:
        raise ValueError("has a value of more than 64 bits")
    for byte in range(longest):
        there = lengths > byte
        bits = (data[starts[there] + byte] & 127).astype(np.uint64)
        values[there] |= bits << np.uint64(7 * byte)
    return values, data[ends[-1] + 1 :]


def tile_ids(zooms: NDArray[Any], cols: NDArray[Any], rows: NDArray[Any]) -> NDArray[np.uint64]:
    """Ids of tiles.

    Args:
        zooms: Shape (n,), integers of 0 to 31.
        cols, rows: The same shape; rows count from the top.

    Example:
        >>> zooms, cols, rows = np.array([[0, 1, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 1, 1, 0]])
        >>> tile_ids(zooms, cols, rows).tolist()
        [0, 1, 2, 3, 4]
    """
    ids = np.zeros(zooms.shape, np.uint64)
    for zoom in np.unique(zooms).tolist():
        chosen = zooms == zoom
        x, y = cols[chosen].astype(np.uint32), rows[chosen].astype(np.uint32)
        places: NDArray[np.uint64] = np.zeros(x.shape, np.uint64)
        for bit in range(zoom - 1, -1, -1):
            right, below = x >> np.uint32(bit) & 1, y >> np.uint32(bit) & 1
            places = places << np.uint64(2) | (np.uint32(3) * right ^ below).astype(np.uint64)
            # The upper quarters are transposed; the right one is mirrored as well.
            above = 1 - below
            behind = np.negative(right & above)
            x, y = x ^ behind, y ^ behind
            other = (x ^ y) & np.negative(above)
            x, y = x ^ other, y ^ other
        ids[chosen] = np.uint64(((1 << 2 * zoom) - 1) // 3) + places
    return ids


def tile_id(zoom: int, col: int, row: int) -> int:
    """Id of one tile; rows count from the top.

    Example:
        >>> [tile_id(1, col, row) for col, row in [(0, 0), (0, 1), (1, 1), (1, 0)]]
        [1, 2, 3, 4]
    """
    place = 0
    for bit in range(zoom - 1, -1, -1):
        right, below = col >> bit & 1, row >> bit & 1
        place = 4 * place + (3 * right ^ below)
        if not below:  # the upper quarters are transposed, the right one is mirrored as well
            if right:
                col, row = ~col, ~row
            col, row = row, col
    return ((1 << 2 * zoom) - 1) // 3 + place


def tile_addresses(tile_ids: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Zooms, columns and rows of tile ids, the inverse of `tile_ids`.

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
        # The upper quarters are transposed; the right one is mirrored as well.
        mirrored = inside & (below == 0) & (right == 1)
        cols[mirrored], rows[mirrored] = side - 1 - cols[mirrored], side - 1 - rows[mirrored]
        turned = inside & (below == 0)
        cols[turned], rows[turned] = rows[turned], cols[turned]
        cols += np.where(inside, side * right, 0)
        rows += np.where(inside, side * below, 0)
        rest >>= 2
    return zooms, cols, rows
