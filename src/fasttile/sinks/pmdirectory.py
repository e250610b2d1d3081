"""PMTiles' directories: which tiles there are and where, in pieces that readers fetch one by one.

Source: the PMTiles specification, version 3, section 4. Numbers are seven bits a byte, the lowest
first; four columns of them, compressed by gzip. A million tiles are a million rows, so this is done
a column at a time.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]

_LEAF_ENTRIES = 4096
_ROOT_ENTRIES = 2**16
"""No root holds more: not worth a try."""

_GZIP = 16 + zlib.MAX_WBITS


class Entries(NamedTuple):
    """Rows of a directory, by ascending tile id; all columns have the same length.

    Attributes:
        ids: The first tile of each.
        runs: How many tiles, one after the other, are the same; 0 for a further directory.
        sizes, offsets: Where its bytes are.
    """

    ids: Numbers
    runs: Numbers
    sizes: Numbers
    offsets: Numbers

    def part(self, start: int, end: int) -> Entries:
        """Some of the rows."""
        return Entries(*(column[start:end] for column in self))


def directories(entries: Entries, root_bytes: int) -> tuple[bytes, bytes]:
    """The root directory, and all others one after the other.

    Args:
        entries: Of all tiles.
        root_bytes: What the root may take.
    """
    count = len(entries.ids)
    if count <= _ROOT_ENTRIES:
        root = directory(entries)
        if len(root) <= root_bytes:
            return root, b""
    step = _LEAF_ENTRIES
    while True:
        starts = np.arange(0, count, step)
        leaves = [directory(entries.part(start, start + step)) for start in starts.tolist()]
        sizes = np.array([len(leaf) for leaf in leaves], np.uint64)
        offsets = np.cumsum(sizes, dtype=np.uint64) - sizes
        root = directory(Entries(entries.ids[starts], np.zeros_like(sizes), sizes, offsets))
        if len(root) <= root_bytes:
            return root, b"".join(leaves)
        step *= 2


def directory(entries: Entries) -> bytes:
    """One directory, compressed."""
    steps = np.diff(entries.ids, prepend=np.uint64(0))
    # 0 says: right behind the one before.
    places = entries.offsets + np.uint64(1)
    behind = entries.offsets[:-1] + entries.sizes[:-1]
    places[1:][entries.offsets[1:] == behind] = 0
    count = np.array([len(entries.ids)], np.uint64)
    columns = (count, steps, entries.runs, entries.sizes, places)
    return zipped(b"".join(_varints(column) for column in columns))


def zipped(data: bytes) -> bytes:
    """Compressed by gzip, without a time: the same bytes each time."""
    compressor = zlib.compressobj(wbits=_GZIP)
    return compressor.compress(data) + compressor.flush()


def _varints(values: Numbers) -> bytes:
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
