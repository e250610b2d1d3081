"""XYZ tiles in one file that is read by ranges of bytes: PMTiles, version 3.

The format orders tiles by their position on a Hilbert curve, the walk row by row: so a second file
holds them until the end. Equal tiles are stored once; all their bytes are compared if their
checksums are equal.

Source: the PMTiles specification, version 3.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttile.formats.pmtiles import (
    GZIP_COMPRESSION,
    HEADER,
    NO_COMPRESSION,
    TILE_TYPES,
    DirectoryEntries,
    Uint64Array,
    encode_directories,
    gzip_bytes,
    tile_ids,
)
from fasttile.geometry import Tile
from fasttile.layouts import RECORD_MEMBER
from fasttile.layouts import tilejson as tilesjson
from fasttile.layouts.xyz import Xyz
from fasttile.storage.writing import AppendFile, AtomicFile

MAX_ROOT_BYTES = 16384 - HEADER.size
"""The largest root directory: readers fetch it together with the header."""

MAX_SMALL_BYTES, MAX_SMALL_TILES = 2**12, 2**10
"""The bytes and the number of small tiles whose repetitions are detected in `put`."""

checksum: Callable[[bytes], int] = hash
"""Equal for equal tiles; different tiles may have the same one."""

_TILE_TYPE_CODES = {extension: code for code, extension in TILE_TYPES.items()}


class PmtilesSink:
    """Writes tiles into one PMTiles file. While it is made, the disk holds all tiles twice.

    Args:
        layout: The zoom, column and row of each tile.
        target: The file's path.
        overwrite: Replace an existing result, only at the end.
        record: How the result is made, as JSON. Default: none.

    Raises:
        TargetError: A file exists that must not be replaced, another run works on this target, or
            its folder cannot be written.
    """

    def __init__(
        self, layout: Xyz, target: str | Path, *, overwrite: bool = False, record: bytes = b""
    ) -> None:
        self._layout = layout
        self._record = record
        self._zooms, self._cols, self._rows = array("B"), array("I"), array("I")
        self._blob_numbers = array("Q")  # each tile's, by number
        self._offsets, self._sizes, self._checksums = (
            array("Q"),
            array("Q"),
            array("q"),
        )  # of pieces
        self._small_blobs: dict[bytes, int] = {}
        self._file = AtomicFile(target, overwrite=overwrite)
        try:
            self._blob_file = AppendFile(self._file.work_folder, "tiles")
        except BaseException:
            self._file.abort()
            raise

    def put(self, tile: Tile, data: bytes) -> None:
        """Store one tile until `finish`.

        Raises:
            TargetError: It cannot be written.
        """
        small = len(data) <= MAX_SMALL_BYTES
        piece = self._small_blobs.get(data) if small else None
        if piece is None:
            self._offsets.append(self._blob_file.append(data))
            piece = len(self._sizes)
            self._sizes.append(len(data))
            self._checksums.append(checksum(data))
            if small and len(self._small_blobs) < MAX_SMALL_TILES:
                self._small_blobs[data] = piece
        zoom, col, row = self._layout.address(tile)
        self._zooms.append(zoom)
        self._cols.append(col)
        self._rows.append(row)
        self._blob_numbers.append(piece)

    def finish(self) -> None:
        """Write all tiles in the order of the format, and publish.

        Raises:
            TargetError: It cannot be written, or a file has appeared there meanwhile.
        """
        self._file.ensure_open()
        ids = tile_ids(
            np.frombuffer(self._zooms, np.uint8),
            np.frombuffer(self._cols, np.uint32),
            np.frombuffer(self._rows, np.uint32),
        )
        order = np.argsort(ids)
        pieces = self._first_equal_blobs()[np.frombuffer(self._blob_numbers, np.uint64)[order]]
        stored, entries = self._directory_entries(ids[order], pieces)
        root, leaves = encode_directories(entries, MAX_ROOT_BYTES)
        metadata = gzip_bytes(json.dumps(self._metadata_members()).encode())
        data_bytes = int(np.frombuffer(self._sizes, np.uint64)[stored].sum())
        sizes = (len(root), len(metadata), len(leaves), data_bytes)
        counts = (len(ids), len(entries.ids), len(stored))
        self._file.append(self._pack_header(sizes, counts), root, metadata, leaves)
        self._copy_blobs(stored)
        self._blob_file.close()
        self._small_blobs.clear()
        self._file.publish()

    def abort(self) -> None:
        """Discard the result; leave an older one untouched. Never raises."""
        self._blob_file.discard()
        self._small_blobs.clear()
        self._file.abort()

    def _first_equal_blobs(self) -> NDArray[np.intp]:
        """For each piece, the first one that has the same bytes."""
        sums, sizes = (
            np.frombuffer(self._checksums, np.int64),
            np.frombuffer(self._sizes, np.uint64),
        )
        same = np.arange(len(sums))
        by_sum = np.lexsort((sizes, sums))  # stable: of equal ones the first comes first
        alike = (np.diff(sums[by_sum]) == 0) & (np.diff(sizes[by_sum]) == 0)
        found: dict[bytes, int] = {}
        last = -2
        for place in np.flatnonzero(alike).tolist():
            if place != last + 1:  # others than those before
                found.clear()
                self._first_with_data(int(by_sum[place]), found)
            last = place
            piece = int(by_sum[place + 1])
            same[piece] = self._first_with_data(piece, found)
        return same

    def _first_with_data(self, piece: int, found: dict[bytes, int]) -> int:
        data = self._blob_file.read(self._offsets[piece], self._sizes[piece])
        return found.setdefault(data, piece)

    def _directory_entries(
        self, ids: Uint64Array, pieces: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], DirectoryEntries]:
        """The pieces to store, one behind the other, and where each run of tiles finds its own.

        Args:
            ids: Of all tiles, ascending.
            pieces: Of each tile; tiles of the same bytes have the same.
        """
        known, first, which = np.unique(pieces, return_index=True, return_inverse=True)
        by_place = np.argsort(first)
        stored = known[by_place]
        sizes = np.frombuffer(self._sizes, np.uint64)
        offsets = np.zeros(len(known), np.uint64)
        offsets[by_place] = np.cumsum(sizes[stored], dtype=np.uint64) - sizes[stored]
        fresh = np.ones(len(ids), bool)
        fresh[1:] = (np.diff(pieces) != 0) | (np.diff(ids) != 1)
        starts = np.flatnonzero(fresh)
        runs = np.diff(starts, append=len(ids)).astype(np.uint64)
        return stored, DirectoryEntries(
            ids[starts], runs, sizes[pieces[starts]], offsets[which[starts]]
        )

    def _copy_blobs(self, stored: NDArray[np.intp]) -> None:
        """Copy kept pieces into the file, those that lie behind each other at once."""
        if not len(stored):
            return
        starts = np.frombuffer(self._offsets, np.uint64)[stored]
        ends = starts + np.frombuffer(self._sizes, np.uint64)[stored]
        apart = starts[1:] != ends[:-1]
        starts, ends = starts[np.insert(apart, 0, True)], ends[np.append(apart, True)]
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            self._file.append_part(self._blob_file, start, end)

    def _metadata_members(self) -> dict[str, object]:
        members: dict[str, object] = {
            **tilesjson.text_members(self._layout),
            "type": "baselayer",
            "format": self._layout.extension,
            "fasttile": tilesjson.fasttile_member(self._layout),
        }
        if self._record:
            members[RECORD_MEMBER] = json.loads(self._record)
        return members

    def _pack_header(self, sizes: tuple[int, ...], counts: tuple[int, ...]) -> bytes:
        """The header.

        Args:
            sizes: In bytes, of root directory, metadata, other directories and tiles.
            counts: Of tiles, of entries, and of different tiles.
        """
        pyramid, base = self._layout.pyramid, self._layout.base_level
        places, end = [], HEADER.size
        for size in sizes:
            places += [end, size]
            end += size
        west, south, east, north = (
            round(degrees * 10_000_000) for degrees in tilesjson.bounds(pyramid)
        )
        first, last = pyramid.stored_range[0] - base, pyramid.stored_range[-1] - base
        clustered = 1
        what = (
            clustered,
            GZIP_COMPRESSION,
            NO_COMPRESSION,
            _TILE_TYPE_CODES[self._layout.extension],
            first,
            last,
        )
        zoom = tilesjson.centre_zoom(self._layout)
        centre = (zoom, (west + east) // 2, (south + north) // 2)
        bounds = (west, south, east, north)
        return HEADER.pack(b"PMTiles", 3, *places, *counts, *what, *bounds, *centre)
