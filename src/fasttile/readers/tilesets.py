"""Readers of map containers: a square of XYZ tiles in a PMTiles or MBTiles file.

Sources: the PMTiles specification, version 3; the MBTiles specification, version 1.3. The `pmtiles`
package inflates a directory of any size, and reads it again for each tile; this reader has limits
and a cache. SQLite is imported for MBTiles only.
"""

from __future__ import annotations

import json
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from fasttile.abc.reader import LevelStats, ResultReader
from fasttile.errors import SourceError
from fasttile.formats.documents import decode_document, parse_json
from fasttile.formats.images import read_image_size, sniff_format
from fasttile.formats.pmtiles import (
    GZIP_COMPRESSION,
    HEADER,
    MAX_ZOOM,
    NO_COMPRESSION,
    TILE_ID_END,
    TILE_TYPES,
    VECTOR_TYPE,
    DirectoryEntries,
    Int64Array,
    PmtilesHeader,
    decode_directory,
    tile_addresses,
    tile_id,
    unread_compression,
)
from fasttile.geometry import Canvas, Pyramid, Tile
from fasttile.layouts import RECORD_MEMBER
from fasttile.layouts.tilejson import pyramid_from_member
from fasttile.layouts.xyz import Xyz
from fasttile.storage.budget import BUDGET
from fasttile.storage.object_files import ResultPath, download, open_random_access

_MAX_DIRECTORY_DEPTH = 4
_CACHED_DIRECTORIES = 5
_IDS_PER_CHUNK = 2**16


class TilesetReader(ResultReader):
    """Base class of readers of XYZ tiles at addresses in one file."""

    layout: Xyz
    allows_missing_tiles = True

    def _address_ranges(self) -> dict[int, tuple[range, range]]:
        """Columns and rows of the image in each zoom."""
        return {
            level.number - self.layout.base_level: (
                range(level.first_col, level.first_col + level.cols),
                range(level.first_row, level.first_row + level.rows),
            )
            for level in self.pyramid.stored_levels
        }


class PmtilesReader(TilesetReader):
    """Reader of tiles in a PMTiles file.

    Args:
        path: The file.

    Raises:
        SourceError: The file is not PMTiles, damaged, or has no images.
    """

    container = "pmtiles"

    def __init__(self, path: ResultPath) -> None:
        self.path = path
        self._file = open_random_access(path)
        try:
            try:
                header = PmtilesHeader.parse(self._file.read_at(0, HEADER.size, "the header"))
            except ValueError as error:
                raise SourceError(f"{path} {error}") from error
            for name, offset, size in (
                ("the directories", header.leaves_offset, header.leaves_size),
                ("the metadata", header.metadata_offset, header.metadata_size),
            ):
                if offset + size > self._file.size:
                    raise SourceError(
                        f"{path} is damaged: {name} take {size} bytes at {offset}, "
                        f"but the file has {self._file.size}"
                    )
            self._header = header
            self._cached_directory = lru_cache(_CACHED_DIRECTORIES)(self._read_directory)
            if header.tile_type == VECTOR_TYPE:
                raise SourceError(f"{path} holds vector tiles, not images")
            if header.tile_compression not in (NO_COMPRESSION, GZIP_COMPRESSION):
                name = unread_compression(header.tile_compression)
                raise SourceError(f"{path}: its tiles are compressed with {name}")
            layout = _tileset_layout(
                path,
                (header.min_zoom, header.max_zoom),
                TILE_TYPES.get(header.tile_type),
                self._read_metadata().get("fasttile"),
                self._sample_tile,
            )
            super().__init__(path, layout, "XYZ in PMTiles")
        except BaseException:
            self._close_files()
            raise

    def _close_files(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def is_rewritable(self) -> bool:
        """True if fasttile wrote the file."""
        return isinstance(self._read_metadata().get("fasttile"), dict)

    def extra_addresses(self, limit: int) -> Iterator[tuple[int, int, int]]:
        """Zoom, column and row of tiles outside the image."""
        ranges = self._address_ranges()
        for ids in self._iter_tile_ids():
            zooms, cols, rows = tile_addresses(ids)
            extra = np.ones(len(ids), bool)
            for zoom, (image_cols, image_rows) in ranges.items():
                inside = (zooms == zoom) & (cols >= image_cols.start) & (cols < image_cols.stop)
                extra &= ~(inside & (rows >= image_rows.start) & (rows < image_rows.stop))
            for index in np.flatnonzero(extra)[:limit].tolist():
                yield int(zooms[index]), int(cols[index]), int(rows[index])
                limit -= 1
            if not limit:
                return

    def _read_tile(self, tile: Tile) -> bytes | None:
        wanted = tile_id(*self.layout.address(tile))
        place, size = self._header.root_offset, self._header.root_size
        for _ in range(_MAX_DIRECTORY_DEPTH):
            found = self._cached_directory(place, size).find(wanted)
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
        """Statistics of each zoom. Data that tiles share count once in a clustered file."""
        zooms = range(MAX_ZOOM + 1)
        starts = [tile_id(zoom, 0, 0) for zoom in range(MAX_ZOOM + 2)]
        counts, sizes = [0] * len(zooms), [0] * len(zooms)
        end = np.uint64(0)
        for directory in self._iter_directories():
            tiles = directory.run_lengths > 0
            if not tiles.any():
                continue
            found = DirectoryEntries(*(column[tiles] for column in directory))
            lasts = found.ids + found.run_lengths
            ends = np.maximum.accumulate(found.offsets + found.sizes)
            # In a clustered file, data before the end of all earlier data have been counted.
            fresh = found.offsets >= np.concatenate([[end], np.maximum(ends[:-1], end)])
            fresh |= not self._header.clustered
            end, most = max(end, ends[-1]), lasts.max()
            for zoom, first, last in zip(zooms, starts, starts[1:], strict=False):
                low, high = np.uint64(first), np.uint64(last)
                if most <= low or found.ids[0] >= high:
                    continue
                # A run may continue in the next zoom.
                there = np.minimum(lasts, high) - np.minimum(np.maximum(found.ids, low), high)
                inside = (lasts > low) & (found.ids < high)
                counts[zoom] += int(there[inside].sum())
                sizes[zoom] += int(found.sizes[fresh & inside & (found.ids >= low)].sum())
        return {zoom: LevelStats(counts[zoom], sizes[zoom]) for zoom in zooms}

    def _iter_directories(self) -> Iterator[DirectoryEntries]:
        """The root and all leaves, by ascending tile id."""
        header = self._header
        limit = BUDGET.entries + self._file.size
        entries, leaves_left = 0, header.leaves_size  # a valid file refers to each leaf once

        def walk(place: int, size: int, depth: int) -> Iterator[DirectoryEntries]:
            nonlocal entries, leaves_left
            found = self._read_directory(place, size)
            entries += len(found.ids)
            if entries > limit:
                raise SourceError(f"{self.path} has more than {limit:,} entries")
            if len(found.ids):
                yield found
            leaves = np.flatnonzero(found.run_lengths == 0)
            leaves_left -= int(found.sizes[leaves].sum())
            if leaves_left < 0 or (len(leaves) and depth == _MAX_DIRECTORY_DEPTH):
                raise SourceError(f"{self.path} is damaged: directories within directories")
            for index in leaves:
                size = int(found.sizes[index])
                yield from walk(self._leaf_offset(int(found.offsets[index]), size), size, depth + 1)

        return walk(header.root_offset, header.root_size, 1)

    def _iter_tile_ids(self) -> Iterator[Int64Array]:
        """Ids of all stored tiles, in chunks of limited size."""
        left = BUDGET.listed_tiles
        for directory in self._iter_directories():
            rows = (directory.run_lengths > 0) & (directory.ids < TILE_ID_END)
            firsts = directory.ids[rows].astype(np.int64)
            runs = directory.run_lengths[rows].astype(np.int64)
            single = runs == 1
            left -= int(runs[~single].sum())
            if left < 0:
                raise SourceError(
                    f"{self.path} has more than {BUDGET.listed_tiles:,} tiles in runs of equal "
                    "ones, too many to compare with the image"
                )
            yield firsts[single]
            for first, run in zip(firsts[~single].tolist(), runs[~single].tolist(), strict=True):
                for start in range(first, min(first + run, TILE_ID_END), _IDS_PER_CHUNK):
                    yield np.arange(start, min(start + _IDS_PER_CHUNK, first + run), dtype=np.int64)

    def _sample_tile(self) -> bytes | None:
        """Some tile of the file; None: it has none."""
        for found in self._iter_directories():
            tiles = np.flatnonzero(found.run_lengths > 0)
            if len(tiles):
                first = tiles[0]
                return self._tile_data(int(found.offsets[first]), int(found.sizes[first]))
        return None

    def _leaf_offset(self, offset: int, size: int) -> int:
        """Offset of a leaf in the file."""
        if offset + size > self._header.leaves_size:
            raise SourceError(f"{self.path} is damaged: a directory is outside its section")
        return self._header.leaves_offset + offset

    def _tile_data(self, offset: int, size: int) -> bytes:
        data = self._file.read_at(self._header.data_offset + offset, size, "a tile")
        if self._header.tile_compression == GZIP_COMPRESSION:
            return self._inflate(data, GZIP_COMPRESSION, 16 * len(data) + 2**16, "a tile")
        return data

    def record(self) -> bytes:
        """How the result was made, as fasttile wrote it; b"" if there is nothing."""
        member = self._read_metadata().get(RECORD_MEMBER)
        return b"" if member is None else json.dumps(member).encode()

    def _read_metadata(self) -> dict[str, Any]:
        header = self._header
        raw = self._file.read_at(header.metadata_offset, header.metadata_size, "the metadata")
        if not raw:
            return {}
        try:
            limit = BUDGET.descriptor_bytes
            data = self._inflate(raw, header.internal_compression, limit, "the metadata")
            metadata = parse_json(decode_document(data))
        except ValueError as error:
            raise SourceError(f"{self.path} is damaged: its metadata: {error}") from error
        return metadata if isinstance(metadata, dict) else {}

    def _read_directory(self, position: int, size: int) -> DirectoryEntries:
        raw = self._file.read_at(position, size, "a directory")
        try:
            limit = BUDGET.directory_bytes
            data = self._inflate(raw, self._header.internal_compression, limit, "a directory")
            return decode_directory(data)
        except ValueError as error:
            raise SourceError(f"{self.path} is damaged: a directory {error}") from error

    def _inflate(self, raw: bytes, compression: int, max_bytes: int, label: str) -> bytes:
        """Decompress, to `max_bytes` at most."""
        data = raw
        if compression == GZIP_COMPRESSION:
            try:
                data = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(raw, max_bytes + 1)
            except zlib.error as error:
                raise SourceError(f"{self.path} is damaged: {label}: {error}") from error
        elif compression != NO_COMPRESSION:
            name = unread_compression(compression)
            raise SourceError(f"{self.path}: {label} is compressed with {name}")
        if len(data) > max_bytes:
            raise SourceError(f"{self.path}: {label} has more than {max_bytes:,} bytes")
        return data


_MBTILES_EXTENSIONS = {
    "jpg": "jpg",
    "jpeg": "jpg",
    "png": "png",
    "webp": "webp",
    "avif": "avif",
    "image/avif": "avif",
}
_STEPS_PER_CALL = 100_000
"""Steps of SQLite between two calls of the progress handler: about a millisecond."""

_ALLOWED_FUNCTIONS = ("count", "coalesce", "sum", "length", "min", "max")
_ALLOWED_TABLES = ("metadata", "tiles", "map", "images", "sqlite_master")
_JOINED_TILES = (
    "(SELECT zoom_level, tile_column, tile_row, tile_data FROM map JOIN images USING (tile_id))"
)
"""The tiles of files that store equal ones once, behind a view of these two tables."""


class MbtilesReader(TilesetReader):
    """Reader of tiles in an MBTiles file.

    Args:
        path: The file.

    Raises:
        SourceError: The file is not MBTiles, damaged, or has no images.
    """

    container = "mbtiles"

    def __init__(self, path: ResultPath) -> None:
        import sqlite3  # for MBTiles only

        self.path = path
        self._lock = threading.Lock()
        database = path if isinstance(path, Path) else download(path)
        self._copy = None if isinstance(path, Path) else database
        self._file_size = database.stat().st_size
        self._scan_steps_left = BUDGET.scan_steps + 32 * self._file_size
        self._query_steps_left, self._query_end = 0, 0.0
        self._interruption: BaseException | None = None
        # Without locks and journals, nothing is written beside the file; but a journal beside it
        # may hold some of its rows.
        beside = [database.with_name(f"{database.name}{end}") for end in ("-wal", "-journal")]
        mode = "mode=ro" if any(one.exists() for one in beside) else "mode=ro&immutable=1"
        try:
            uri = f"file:{quote(os.fsencode(database.absolute()))}?{mode}"
            self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        except sqlite3.Error as error:
            raise SourceError(f"{path} cannot be opened: {error}") from error
        try:
            for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
                self._query(f"PRAGMA {pragma}")
            watch = self._watch()
            next(watch)
            self._database.set_progress_handler(watch.__next__, _STEPS_PER_CALL)
            self._tiles = self._checked_tables()
            metadata = self._read_metadata()
            if metadata.get("format") == "pbf":
                raise SourceError(f"{path} holds vector tiles, not images")
            member = _fasttile_member(metadata)
            zooms: tuple[int, int] | None = None
            if member is not None:  # other programs list zooms that have no tiles
                with suppress(KeyError, ValueError):
                    zooms = int(metadata["minzoom"]), int(metadata["maxzoom"])
            extension = _MBTILES_EXTENSIONS.get(metadata.get("format", ""))
            layout = _tileset_layout(
                path, zooms or self._read_zooms(), extension, member, self._sample_tile
            )
            super().__init__(path, layout, "XYZ in MBTiles")
        except BaseException:
            self._close_files()
            raise

    def _close_files(self) -> None:
        """Close the database."""
        self._database.close()
        if self._copy is not None:
            self._copy.unlink(missing_ok=True)

    @property
    def is_rewritable(self) -> bool:
        """True if fasttile wrote the file."""
        return _fasttile_member(self._read_metadata()) is not None

    def extra_addresses(self, limit: int) -> Iterator[tuple[int, int, int]]:
        """Zoom, column and row of tiles outside the image, by one query."""
        inside = []
        for zoom, (cols, rows) in self._address_ranges().items():
            last = (1 << zoom) - 1  # rows of MBTiles count from the bottom
            inside.append(
                f"(zoom_level = {zoom} AND tile_column BETWEEN {cols.start} AND {cols.stop - 1}"
                f" AND tile_row BETWEEN {last - rows.stop + 1} AND {last - rows.start})"
            )
        addresses = self._query(
            f"SELECT zoom_level, tile_column, tile_row FROM {self._tiles}"
            f" WHERE NOT coalesce({' OR '.join(inside)}, 0) LIMIT {limit}",
            is_scan=True,
        )
        for zoom, col, row in addresses:
            if isinstance(zoom, int) and isinstance(row, int) and 0 <= zoom < 64:
                yield zoom, col, (1 << zoom) - 1 - row
            else:
                yield zoom, col, row

    def _read_tile(self, tile: Tile) -> bytes | None:
        zoom, col, row = self.layout.address_from_bottom(tile)
        rows = self._query(
            f"SELECT tile_data FROM {self._tiles}"
            " WHERE zoom_level = ? AND tile_column = ? AND tile_row = ? LIMIT 1",
            (zoom, col, row),
        )
        return self._tile_data(rows)

    def _read_level_stats(self, level: int) -> LevelStats:
        (count, size), *_ = self._query(
            f"SELECT count(*), coalesce(sum(length(tile_data)), 0) FROM {self._tiles}"
            " WHERE zoom_level = ?",
            (level - self.layout.base_level,),
            is_scan=True,
        )
        return LevelStats(int(count), int(size))

    def _sample_tile(self) -> bytes | None:
        return self._tile_data(self._query(f"SELECT tile_data FROM {self._tiles} LIMIT 1"))

    def _tile_data(self, rows: list[Any]) -> bytes | None:
        if not rows:
            return None
        ((data,),) = rows
        if not isinstance(data, bytes):
            raise SourceError(f"{self.path} is damaged: a tile is not a blob")
        return data

    def record(self) -> bytes:
        """How the result was made, as fasttile wrote it; b"" if there is nothing."""
        return self._read_metadata().get(RECORD_MEMBER, "").encode()

    def _read_metadata(self) -> dict[str, str]:
        rows = self._query(
            "SELECT name, value FROM metadata LIMIT 1000", max_bytes=BUDGET.descriptor_bytes
        )
        return {str(name): str(value) for name, value in rows}

    def _read_zooms(self) -> tuple[int, int]:
        """The smallest and the largest zoom that has tiles; the metadata may list others."""
        # In one query for both, SQLite reads all rows; in two, the ends of the index.
        ((low,),) = self._query(f"SELECT min(zoom_level) FROM {self._tiles}", is_scan=True)
        ((high,),) = self._query(f"SELECT max(zoom_level) FROM {self._tiles}", is_scan=True)
        if low is None:
            raise SourceError(f"{self.path} holds no tiles")
        if not (isinstance(low, int) and isinstance(high, int) and 0 <= low <= high <= MAX_ZOOM):
            raise SourceError(f"{self.path} is damaged: zooms {low} to {high}")
        return low, high

    def _checked_tables(self) -> str:
        """The table of the tiles, as queries name it.

        Raises:
            SourceError: The tables are views, or have columns that are computed.
        """
        kinds = {
            str(name).lower(): str(kind)
            for name, kind in self._query("SELECT name, type FROM sqlite_master LIMIT 10000")
        }
        is_joined = kinds.get("tiles") == "view" and {"map", "images"} <= kinds.keys()
        tables = ("metadata", "map", "images") if is_joined else ("metadata", "tiles")
        for table in tables:
            if kinds.get(table, "table") != "table":
                raise SourceError(
                    f"{self.path}: {table} is a view, which may cost any time; copy its rows "
                    "into a table"
                )
            # Columns 1 and 6: the name, and 2 or 3 for a column that is computed when it is read.
            if any(column[6] > 1 for column in self._query(f"PRAGMA table_xinfo({table})")):
                raise SourceError(f"{self.path}: {table} has computed columns, which are not read")
        import sqlite3

        def authorize(
            action: int, first: str | None, second: str | None, _: str | None, view: str | None
        ) -> int:
            is_denied = view is not None or action == sqlite3.SQLITE_RECURSIVE
            if action == sqlite3.SQLITE_FUNCTION:
                is_denied |= second not in _ALLOWED_FUNCTIONS
            if action == sqlite3.SQLITE_READ:
                is_denied |= str(first).lower() not in _ALLOWED_TABLES
            return sqlite3.SQLITE_DENY if is_denied else sqlite3.SQLITE_OK

        # The schema is the file's own text, so what a query reads is checked too.
        self._database.set_authorizer(authorize)
        return _JOINED_TILES if is_joined else "tiles"

    def _watch(self) -> Iterator[bool]:
        """True at each call of the progress handler if the query has to end.

        This is a generator, because sqlite3 discards exceptions of the handler: those of signals
        are raised where the generator continues, within its `try`.
        """
        must_end = False
        while True:
            try:
                while True:
                    yield must_end
                    self._query_steps_left -= _STEPS_PER_CALL
                    must_end = self._query_steps_left < 0 or time.monotonic() > self._query_end
            except GeneratorExit:
                return
            except BaseException as error:
                self._interruption, must_end = error, True

    def _query(
        self,
        text: str,
        values: tuple[int, ...] = (),
        *,
        is_scan: bool = False,
        max_bytes: int = BUDGET.piece_bytes,
    ) -> list[Any]:
        """The rows that a query returns.

        Args:
            text, values: The statement, and the values of its parameters.
            is_scan: True if it may read all rows of a table.
            max_bytes: Limit of the texts and blobs of all rows.
        """
        import sqlite3

        with self._lock:
            lookup_steps = BUDGET.lookup_steps + self._file_size
            before = self._scan_steps_left if is_scan else lookup_steps
            self._query_steps_left = before
            self._query_end = time.monotonic() + BUDGET.query_seconds
            rows, size = [], 0
            try:
                self._database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max_bytes)
                for row in self._database.execute(text, values):
                    rows.append(row)
                    size += sum(len(value) for value in row if isinstance(value, str | bytes))
                    if size > max_bytes:
                        raise SourceError(f"{self.path}: {size:,} bytes, more than {max_bytes:,}")
            except (sqlite3.Error, OverflowError) as error:
                interruption, self._interruption = self._interruption, None
                if interruption is not None:
                    raise interruption from None
                if self._query_steps_left < 0:
                    raise SourceError(
                        f"{self.path} cannot be read: a query takes more than {before:,} steps"
                    ) from error
                raise SourceError(f"{self.path} cannot be read: {error}") from error
            finally:
                if is_scan:
                    self._scan_steps_left = self._query_steps_left
        return rows


def _fasttile_member(metadata: dict[str, str]) -> Any:
    """The description that fasttile writes: in its own row, or in the row "json"."""
    for key in ("fasttile", "json"):
        with suppress(ValueError):
            value = parse_json(metadata.get(key, "null"))
            member = value.get("fasttile", value) if isinstance(value, dict) else None
            if isinstance(member, dict) and "canvas" in member:
                return member
    return None


def _tileset_layout(
    path: ResultPath,
    zooms: tuple[int, int],
    extension: str | None,
    member: Any,
    sample_tile: Callable[[], bytes | None],
) -> Xyz:
    """The layout of the tiles of a map container.

    Args:
        path: The container.
        zooms: The smallest and the largest zoom that has tiles.
        extension: Extension of the tiles, if the container has it.
        member: The description that fasttile writes, as in `tiles.json`. In a container of another
            program, which has none, the image is the square, and a tile gives its size.
        sample_tile: Reads some tile; None: there is none.

    Raises:
        SourceError: The tiles are no images, or not square.
    """
    name = path.stem
    try:
        if isinstance(member, dict) and "canvas" in member:
            pyramid = pyramid_from_member(member, *zooms)
            extension = extension or str(member["format"])
            return Xyz(name, pyramid, extension, centre=bool(member.get("centre", False)))
        data = sample_tile()
        if data is None:
            raise SourceError(f"{path} holds no tiles")
        extension = sniff_format(data)
        if extension is None:
            raise SourceError(f"{path} holds tiles that are no images")
        size, height = read_image_size(data, f"{path}: a tile")
        if size != height:
            raise SourceError(f"{path}: a tile has {size}×{height} pixels: it is not square")
        side = size << zooms[1]
        canvas = Canvas(side, side)
        base = canvas.single_tile_level(size)
        return Xyz(name, Pyramid(canvas, size, 0, base + zooms[0], base + zooms[1]), extension)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise SourceError(f"{path}: its description is not valid: {problem}") from error
