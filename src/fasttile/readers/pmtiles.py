"""PMTiles of pictures, ours or others': a square of XYZ tiles in one file.

Written after the PMTiles specification, version 3. Its own package reads any directory that a file
claims to have, whatever it inflates to, and again for each tile; so this is done here.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError
from ..geometry import Tile
from ..layouts.xyz import Xyz
from .base import PyramidReader, Stored
from .file import OpenFile
from .tileset import XyzTiles, tileset_layout

HEADER_SIZE = 127
_HEADER = struct.Struct("<7sB11Q6B")
"""Magic and version; places and sizes; counts; clustered, compressions, type, zooms."""

_LARGEST_DIRECTORY = 2**23  # bytes, inflated
_LARGEST_METADATA = 2**24
_DEEPEST = 4
_CACHED = 8  # directories
_NONE, _GZIP = 1, 2
_COMPRESSIONS = {3: "brotli", 4: "zstd"}
_TYPES = {2: "png", 3: "jpg", 4: "webp", 5: "avif"}
_VECTOR = 1
_MOST_ZOOM = 31


class _Header(NamedTuple):
    """What matters of the header: places and sizes in bytes."""

    root: int
    root_size: int
    metadata: int
    metadata_size: int
    leaves: int
    leaves_size: int
    data: int
    clustered: int
    inner: int
    outer: int
    kind: int
    min_zoom: int
    max_zoom: int

    @classmethod
    def of(cls, file: OpenFile) -> Self:
        raw = file.piece(0, HEADER_SIZE, "the header")
        magic, version, *numbers = _HEADER.unpack_from(raw)
        if magic != b"PMTiles" or version != 3:
            raise SourceError(f"{file.path} is not PMTiles of version 3")
        header = cls(*numbers[:7], *numbers[11:])
        if not header.min_zoom <= header.max_zoom <= _MOST_ZOOM:
            raise SourceError(
                f"{file.path} is damaged: zooms {header.min_zoom} to {header.max_zoom}"
            )
        return header


class _Directory(NamedTuple):
    """Entries by ascending tile id; those with no run lead to a further directory."""

    ids: NDArray[np.uint64]
    runs: NDArray[np.uint64]
    sizes: NDArray[np.uint64]
    offsets: NDArray[np.uint64]


class PmtilesReader(PyramidReader):
    """Tiles in a PMTiles file.

    Args:
        path: Where it lies.

    Raises:
        SourceError: It is none, damaged, or not of pictures.
    """

    layout: Xyz
    missing_allowed = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = OpenFile(path)
        try:
            self._header = header = _Header.of(self._file)
            self._directory = lru_cache(_CACHED)(self._read_directory)
            if header.kind == _VECTOR:
                raise SourceError(f"{path} holds vector tiles, not pictures")
            if header.outer not in (_NONE, _GZIP):
                raise SourceError(f"{path}: its tiles are compressed with {_named(header.outer)}")
            own = self._metadata().get("fasttile")
            tiles = XyzTiles(
                path, header.min_zoom, header.max_zoom, _TYPES.get(header.kind), self._any_tile
            )
            super().__init__(path, tileset_layout(tiles, own), "XYZ in PMTiles")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _tile(self, tile: Tile) -> bytes | None:
        wanted = tile_id(*self.layout.address(tile))
        place, size = self._header.root, self._header.root_size
        for _ in range(_DEEPEST):
            found = _entry(self._directory(place, size), wanted)
            if found is None:
                return None
            run, size, offset = found
            if run:
                return self._data(offset, size)
            place = self._leaf(offset, size)
        raise SourceError(f"{self.path} is damaged: directories within directories")

    def _stored(self, level: int) -> Stored:
        return self._found.get(level - self.layout.base, Stored(0, 0))

    @cached_property
    def _found(self) -> dict[int, Stored]:
        """What there is of each zoom. Data that tiles share count once, if all lie in order."""
        zooms = range(_MOST_ZOOM + 1)
        starts = [tile_id(zoom, 0, 0) for zoom in range(_MOST_ZOOM + 2)]
        counts, sizes = [0] * len(zooms), [0] * len(zooms)
        end = np.uint64(0)
        for directory in self._directories():
            tiles = directory.runs > 0
            if not tiles.any():
                continue
            found = _Directory(*(column[tiles] for column in directory))
            lasts = found.ids + found.runs
            ends = np.maximum.accumulate(found.offsets + found.sizes)
            # Then what lies before the end of all that came so far has been counted.
            fresh = found.offsets >= np.concatenate([[end], np.maximum(ends[:-1], end)])
            fresh |= not self._header.clustered
            end, most = max(end, ends[-1]), lasts.max()
            for zoom, first, last in zip(zooms, starts, starts[1:], strict=False):
                low, high = np.uint64(first), np.uint64(last)
                if most <= low or found.ids[0] >= high:
                    continue
                # A run may go on in the next zoom.
                there = np.minimum(lasts, high) - np.minimum(np.maximum(found.ids, low), high)
                inside = (lasts > low) & (found.ids < high)
                counts[zoom] += int(there[inside].sum())
                sizes[zoom] += int(found.sizes[fresh & inside & (found.ids >= low)].sum())
        return {zoom: Stored(counts[zoom], sizes[zoom]) for zoom in zooms}

    def _directories(self) -> Iterator[_Directory]:
        """The root and all leaves, in the order of their tiles."""
        header = self._header
        left = header.leaves_size  # no honest file has a leaf in two places
        todo = [(header.root, header.root_size, 1)]
        while todo:
            place, size, depth = todo.pop()
            found = self._read_directory(place, size)
            if len(found.ids):
                yield found
            leaves = np.flatnonzero(found.runs == 0)
            left -= int(found.sizes[leaves].sum())
            if left < 0 or (len(leaves) and depth == _DEEPEST):
                raise SourceError(f"{self.path} is damaged: directories within directories")
            todo += [
                (self._leaf(offset, size), size, depth + 1)
                for offset, size in zip(
                    found.offsets[leaves][::-1].tolist(),
                    found.sizes[leaves][::-1].tolist(),
                    strict=True,
                )
            ]

    def _any_tile(self) -> bytes | None:
        """Some tile, to look at."""
        for found in self._directories():
            tiles = np.flatnonzero(found.runs > 0)
            if len(tiles):
                first = tiles[0]
                return self._data(int(found.offsets[first]), int(found.sizes[first]))
        return None

    def _leaf(self, offset: int, size: int) -> int:
        """Where in the file a leaf begins."""
        if offset + size > self._header.leaves_size:
            raise SourceError(f"{self.path} is damaged: a directory lies beyond the others")
        return self._header.leaves + offset

    def _data(self, offset: int, size: int) -> bytes:
        data = self._file.piece(self._header.data + offset, size, "a tile")
        if self._header.outer == _GZIP:
            return self._inflated(data, _GZIP, 16 * len(data) + 2**16, "a tile")
        return data

    def _metadata(self) -> dict[str, Any]:
        header = self._header
        raw = self._file.piece(header.metadata, header.metadata_size, "the metadata")
        if not raw:
            return {}
        try:
            said = json.loads(self._inflated(raw, header.inner, _LARGEST_METADATA, "the metadata"))
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{self.path} is damaged: its metadata: {error}") from error
        return said if isinstance(said, dict) else {}

    def _read_directory(self, place: int, size: int) -> _Directory:
        raw = self._file.piece(place, size, "a directory")
        try:
            return _directory(
                self._inflated(raw, self._header.inner, _LARGEST_DIRECTORY, "a directory")
            )
        except ValueError as error:
            raise SourceError(f"{self.path} is damaged: a directory {error}") from error

    def _inflated(self, raw: bytes, compression: int, most: int, what: str) -> bytes:
        """Bytes as they were before they were compressed, if those are not too many."""
        data = raw
        if compression == _GZIP:
            try:
                data = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(raw, most + 1)
            except zlib.error as error:
                raise SourceError(f"{self.path} is damaged: {what}: {error}") from error
        elif compression != _NONE:
            raise SourceError(f"{self.path}: {what} is compressed with {_named(compression)}")
        if len(data) > most:
            raise SourceError(f"{self.path}: {what} takes more than {most:,} bytes")
        return data


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


def _directory(raw: bytes) -> _Directory:
    """The entries of a directory.

    Raises:
        ValueError: They are damaged.
    """
    data = np.frombuffer(raw, np.uint8)
    (count,), rest = _varints(data, 1)
    # Four numbers an entry, each a byte at least.
    if 4 * int(count) > len(rest):
        raise ValueError(f"claims {count} entries in {len(raw)} bytes")
    columns = []
    for _ in range(4):
        values, rest = _varints(rest, int(count))
        columns.append(values)
    steps, runs, sizes, places = columns
    ids = np.cumsum(steps, dtype=np.uint64)
    if bool((ids[1:] <= ids[:-1]).any()) or bool((np.maximum(sizes, runs) >> np.uint64(40)).any()):
        raise ValueError("has numbers that cannot be")
    return _Directory(ids, runs, sizes, _offsets(places, sizes))


def _offsets(places: NDArray[np.uint64], sizes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Where entries lie: places count from 1, and 0 says right behind the entry before."""
    if not len(places):
        return places
    if places[0] == 0 or bool((places >> np.uint64(60)).any()):
        raise ValueError("has an entry that lies nowhere")
    behind = np.concatenate([[np.uint64(0)], np.cumsum(sizes)[:-1]])
    last = np.maximum.accumulate(np.where(places > 0, np.arange(len(places)), 0))
    return np.asarray(places[last] - np.uint64(1) + behind - behind[last])


def _varints(data: NDArray[np.uint8], count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """So many numbers, seven bits a byte, the lowest first; and what comes behind them."""
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


def _entry(directory: _Directory, wanted: int) -> tuple[int, int, int] | None:
    """Run, size and offset of the entry that a tile belongs to."""
    index = int(np.searchsorted(directory.ids, np.uint64(wanted), side="right")) - 1
    if index < 0:
        return None
    run = int(directory.runs[index])
    if run and wanted >= int(directory.ids[index]) + run:
        return None
    return run, int(directory.sizes[index]), int(directory.offsets[index])


def _named(compression: int) -> str:
    return _COMPRESSIONS.get(compression, f"method {compression}") + ", which is not read here"
