"""PMTiles of images, of any writer: a square of XYZ tiles in one file.

Written after the PMTiles specification, version 3. Its own package reads any directory that a file
claims to have, of any inflated size, and again for each tile; so this is done here.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import numpy as np

from fasttile.abc.reader import LevelStats, PyramidReader
from fasttile.errors import SourceError
from fasttile.formats.images import read_image_size, sniff_format
from fasttile.formats.pmtiles import PmtilesDirectory, _decode_directory, _find_entry, tile_id
from fasttile.geometry import Canvas, Pyramid, Tile
from fasttile.layouts.tilejson import pyramid_from_member
from fasttile.layouts.xyz import Xyz
from fasttile.storage.random_access import MAX_READ_BYTES, RandomAccessFile

PMTILES_HEADER_BYTES = 127
_HEADER = struct.Struct("<7sB11Q6B")
"""Magic and version; places and sizes; counts; clustered, compressions, type, zooms."""

_MAX_DIRECTORY_BYTES = 2**23  # bytes, inflated
_MAX_METADATA_BYTES = 2**24
_MAX_DIRECTORY_DEPTH = 4
_CACHED_DIRECTORIES = 8  # directories
_NO_COMPRESSION, _GZIP_COMPRESSION = 1, 2
_COMPRESSION_NAMES = {3: "brotli", 4: "zstd"}
_TILE_TYPES = {2: "png", 3: "jpg", 4: "webp", 5: "avif"}
_VECTOR_TYPE = 1
_MAX_ZOOM = 31


class PmtilesHeader(NamedTuple):
    """What matters of the header: places and sizes in bytes."""

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
    def read(cls, file: RandomAccessFile) -> Self:
        raw = file.read_at(0, PMTILES_HEADER_BYTES, "the header")
        magic, version, *numbers = _HEADER.unpack_from(raw)
        if magic != b"PMTiles" or version != 3:
            raise SourceError(f"{file.path} is not PMTiles of version 3")
        header = cls(*numbers[:7], *numbers[11:])
        if not header.min_zoom <= header.max_zoom <= _MAX_ZOOM:
            raise SourceError(
                f"{file.path} is damaged: zooms {header.min_zoom} to {header.max_zoom}"
            )
        return header


class PmtilesReader(PyramidReader):
    """Tiles in a PMTiles file.

    Args:
        path: Where it lies.

    Raises:
        SourceError: It is none, damaged, or not of images.
    """

    layout: Xyz
    allows_missing_tiles = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = RandomAccessFile(path)
        try:
            self._header = header = PmtilesHeader.read(self._file)
            self._cached_directory = lru_cache(_CACHED_DIRECTORIES)(self._read_directory)
            if header.tile_type == _VECTOR_TYPE:
                raise SourceError(f"{path} holds vector tiles, not images")
            if header.tile_compression not in (_NO_COMPRESSION, _GZIP_COMPRESSION):
                raise SourceError(
                    f"{path}: its tiles are compressed with {_unreadable_compression(header.tile_compression)}"
                )
            own = self._read_metadata().get("fasttile")
            tiles = XyzTiles(
                path,
                header.min_zoom,
                header.max_zoom,
                _TILE_TYPES.get(header.tile_type),
                self._sample_tile,
            )
            super().__init__(path, tileset_layout(tiles, own), "XYZ in PMTiles")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read_tile(self, tile: Tile) -> bytes | None:
        wanted = tile_id(*self.layout.address(tile))
        place, size = self._header.root_offset, self._header.root_size
        for _ in range(_MAX_DIRECTORY_DEPTH):
            found = _find_entry(self._cached_directory(place, size), wanted)
            if found is None:
                return None
            run, size, offset = found
            if run:
                return self._tile_data(offset, size)
            place = self._leaf_offset(offset, size)
        raise SourceError(f"{self.path} is damaged: directories within directories")

    def _read_level_stats(self, level: int) -> LevelStats:
        return self._stats_by_zoom.get(level - self.layout.base_level, LevelStats(0, 0))

    @cached_property
    def _stats_by_zoom(self) -> dict[int, LevelStats]:
        """What there is of each zoom. Data that tiles share count once, if all lie in order."""
        zooms = range(_MAX_ZOOM + 1)
        starts = [tile_id(zoom, 0, 0) for zoom in range(_MAX_ZOOM + 2)]
        counts, sizes = [0] * len(zooms), [0] * len(zooms)
        end = np.uint64(0)
        for directory in self._iter_directories():
            tiles = directory.run_lengths > 0
            if not tiles.any():
                continue
            found = PmtilesDirectory(*(column[tiles] for column in directory))
            lasts = found.ids + found.run_lengths
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
        return {zoom: LevelStats(counts[zoom], sizes[zoom]) for zoom in zooms}

    def _iter_directories(self) -> Iterator[PmtilesDirectory]:
        """The root and all leaves, in the order of their tiles."""
        header = self._header
        left = header.leaves_size  # no honest file has a leaf in two places
        todo = [(header.root_offset, header.root_size, 1)]
        while todo:
            place, size, depth = todo.pop()
            found = self._read_directory(place, size)
            if len(found.ids):
                yield found
            leaves = np.flatnonzero(found.run_lengths == 0)
            left -= int(found.sizes[leaves].sum())
            if left < 0 or (len(leaves) and depth == _MAX_DIRECTORY_DEPTH):
                raise SourceError(f"{self.path} is damaged: directories within directories")
            todo += [
                (self._leaf_offset(offset, size), size, depth + 1)
                for offset, size in zip(
                    found.offsets[leaves][::-1].tolist(),
                    found.sizes[leaves][::-1].tolist(),
                    strict=True,
                )
            ]

    def _sample_tile(self) -> bytes | None:
        """Some tile, to look at."""
        for found in self._iter_directories():
            tiles = np.flatnonzero(found.run_lengths > 0)
            if len(tiles):
                first = tiles[0]
                return self._tile_data(int(found.offsets[first]), int(found.sizes[first]))
        return None

    def _leaf_offset(self, offset: int, size: int) -> int:
        """Where in the file a leaf begins."""
        if offset + size > self._header.leaves_size:
            raise SourceError(f"{self.path} is damaged: a directory lies beyond the others")
        return self._header.leaves_offset + offset

    def _tile_data(self, offset: int, size: int) -> bytes:
        data = self._file.read_at(self._header.data_offset + offset, size, "a tile")
        if self._header.tile_compression == _GZIP_COMPRESSION:
            return self._inflate(data, _GZIP_COMPRESSION, 16 * len(data) + 2**16, "a tile")
        return data

    def _read_metadata(self) -> dict[str, Any]:
        header = self._header
        raw = self._file.read_at(header.metadata_offset, header.metadata_size, "the metadata")
        if not raw:
            return {}
        try:
            said = json.loads(
                self._inflate(raw, header.internal_compression, _MAX_METADATA_BYTES, "the metadata")
            )
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{self.path} is damaged: its metadata: {error}") from error
        return said if isinstance(said, dict) else {}

    def _read_directory(self, position: int, size: int) -> PmtilesDirectory:
        raw = self._file.read_at(position, size, "a directory")
        try:
            return _decode_directory(
                self._inflate(
                    raw, self._header.internal_compression, _MAX_DIRECTORY_BYTES, "a directory"
                )
            )
        except ValueError as error:
            raise SourceError(f"{self.path} is damaged: a directory {error}") from error

    def _inflate(self, raw: bytes, compression: int, max_bytes: int, label: str) -> bytes:
        """Bytes as they were before they were compressed, if those are not too many."""
        data = raw
        if compression == _GZIP_COMPRESSION:
            try:
                data = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(raw, max_bytes + 1)
            except zlib.error as error:
                raise SourceError(f"{self.path} is damaged: {label}: {error}") from error
        elif compression != _NO_COMPRESSION:
            raise SourceError(
                f"{self.path}: {label} is compressed with {_unreadable_compression(compression)}"
            )
        if len(data) > max_bytes:
            raise SourceError(f"{self.path}: {label} takes more than {max_bytes:,} bytes")
        return data


def _unreadable_compression(compression: int) -> str:
    return _COMPRESSION_NAMES.get(compression, f"method {compression}") + ", which is not read here"


# MBTiles of images, of any writer: a square of tiles in an SQLite database.
#
# Written after the MBTiles specification 1.3; its rows count from the bottom.

_EXTENSIONS = {"jpg": "jpg", "jpeg": "jpg", "png": "png", "webp": "webp"}
_MAX_QUERY_STEPS = 50_000_000
"""What the database may compute to find one tile; a view in it may be anything."""


class MbtilesReader(PyramidReader):
    """Tiles in an MBTiles file.

    Args:
        path: Where it lies.

    Raises:
        SourceError: It is none, damaged, or not of images.
    """

    layout: Xyz
    allows_missing_tiles = True

    def __init__(self, path: Path) -> None:
        self._database_path = path
        self._lock = threading.Lock()
        try:
            uri = f"file:{quote(str(path.absolute()))}?mode=ro"
            self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        except sqlite3.Error as error:
            raise SourceError(f"{path} cannot be opened: {error}") from error
        try:
            self._database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_READ_BYTES)
            self._query("PRAGMA trusted_schema = OFF")
            said = self._read_metadata()
            if said.get("format") == "pbf":
                raise SourceError(f"{path} holds vector tiles, not images")
            own = read_fasttile_member(said)
            zooms = (_metadata_zooms(said) if own is not None else None) or self._read_zooms()
            extension = _EXTENSIONS.get(said.get("format", ""))
            tiles = XyzTiles(path, *zooms, extension, self._sample_tile)
            super().__init__(path, tileset_layout(tiles, own), "XYZ in MBTiles")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _read_tile(self, tile: Tile) -> bytes | None:
        zoom, col, row = self.layout.address_from_bottom(tile)
        found = self._query(
            "SELECT tile_data FROM tiles"
            " WHERE zoom_level = ? AND tile_column = ? AND tile_row = ? LIMIT 1",
            (zoom, col, row),
        )
        return self._tile_data(found)

    def _read_level_stats(self, level: int) -> LevelStats:
        (count, size), *_ = self._query(
            "SELECT count(*), coalesce(sum(length(tile_data)), 0) FROM tiles WHERE zoom_level = ?",
            (level - self.layout.base_level,),
            bounded=False,
        )
        return LevelStats(int(count), int(size))

    def _sample_tile(self) -> bytes | None:
        return self._tile_data(self._query("SELECT tile_data FROM tiles LIMIT 1"))

    def _tile_data(self, rows: list[Any]) -> bytes | None:
        if not rows:
            return None
        ((data,),) = rows
        if not isinstance(data, bytes):
            raise SourceError(f"{self._database_path} is damaged: a tile is no data")
        return data

    def _read_metadata(self) -> dict[str, str]:
        found = self._query("SELECT name, value FROM metadata LIMIT 1000")
        return {str(name): str(value) for name, value in found}

    def _read_zooms(self) -> tuple[int, int]:
        """Read from the tiles, as the metadata may list zooms that a viewer has to scale."""
        # One by one: for both together SQLite would look at all tiles.
        ((low,),) = self._query("SELECT min(zoom_level) FROM tiles", bounded=False)
        ((high,),) = self._query("SELECT max(zoom_level) FROM tiles", bounded=False)
        if low is None:
            raise SourceError(f"{self._database_path} holds no tiles")
        if not (isinstance(low, int) and isinstance(high, int) and 0 <= low <= high <= _MAX_ZOOM):
            raise SourceError(f"{self._database_path} is damaged: zooms {low} to {high}")
        return low, high

    def _query(self, text: str, values: tuple[int, ...] = (), *, bounded: bool = True) -> list[Any]:
        """The rows that a question gives."""
        with self._lock:
            try:
                self._database.set_progress_handler(
                    _stop_query if bounded else None, _MAX_QUERY_STEPS
                )
                return self._database.execute(text, values).fetchall()
            except (sqlite3.Error, OverflowError) as error:
                raise SourceError(f"{self._database_path} cannot be read: {error}") from error


def _stop_query() -> bool:
    """SQLite gives up if this says so."""
    return True


def _metadata_zooms(metadata: dict[str, str]) -> tuple[int, int] | None:
    """The zooms in the metadata; they may have no tiles."""
    try:
        return int(metadata["minzoom"]), int(metadata["maxzoom"])
    except (KeyError, ValueError):
        return None


def read_fasttile_member(metadata: dict[str, str]) -> Any:
    """What fasttile says of the image: in a row of its own, or in the specification's "json"."""
    for key in ("fasttile", "json"):
        try:
            found = json.loads(metadata.get(key, "null"))
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            own = found.get("fasttile", found)
            if isinstance(own, dict) and "canvas" in own:
                return own
    return None


# What map containers have in common: XYZ tiles on a square, with or without a word from us.


@dataclass(frozen=True)
class XyzTiles:
    """What a container says of its tiles.

    Attributes:
        path: Where it lies.
        min_zoom, max_zoom: The smallest and the largest zoom that has tiles.
        extension: The tiles' file extension, if it is known.
        any_tile: Gives some tile, or None if there is none.
    """

    path: Path
    min_zoom: int
    max_zoom: int
    extension: str | None
    sample_tile: Callable[[], bytes | None]


def tileset_layout(tiles: XyzTiles, member: Any) -> Xyz:
    """The layout of a container's tiles.

    Args:
        tiles: What it says of them.
        own: What fasttile says of the image there, as in `tiles.json`, or anything else where it
            does not. Then the image is the complete square, and a tile shows its size.

    Raises:
        SourceError: They are no images, or not squares.
    """
    name = tiles.path.stem
    try:
        if isinstance(member, dict) and "canvas" in member:
            pyramid = pyramid_from_member(member, tiles.min_zoom, tiles.max_zoom)
            extension = tiles.extension or str(member["format"])
            return Xyz(name, pyramid, extension, centre=bool(member.get("centre", False)))
        return _foreign_layout(name, tiles)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        fault = f"it says nothing of {error}" if isinstance(error, KeyError) else str(error)
        raise SourceError(f"{tiles.path} cannot be used: {fault}") from error


def _foreign_layout(name: str, tiles: XyzTiles) -> Xyz:
    data = tiles.sample_tile()
    if data is None:
        raise SourceError(f"{tiles.path} holds no tiles")
    found = sniff_format(data)
    if found is None:
        raise SourceError(f"{tiles.path} holds tiles that are no images")
    size, height = read_image_size(data, f"{tiles.path}: a tile")
    if size != height:
        raise SourceError(f"{tiles.path}: a tile has {size}×{height} pixels: it is no square")
    side = size << tiles.max_zoom
    canvas = Canvas(side, side)
    base = canvas.single_tile_level(size)
    pyramid = Pyramid(canvas, size, 0, base + tiles.min_zoom, base + tiles.max_zoom)
    return Xyz(name, pyramid, found)
