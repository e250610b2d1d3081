"""XYZ tiles in one file that is read by ranges of bytes: PMTiles, version 3.

The format wants tiles by their place on a Hilbert curve, the walk gives them line by line: so they
are kept in a second file until all are there. Equal tiles are stored once, and equal means each
byte: checksums only tell which to compare.

Source: the PMTiles specification, version 3. Its Python package writes directories and the header.
"""

from __future__ import annotations

import gzip
import json
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..geometry import Tile
from ..layouts import tilesjson
from ..layouts.xyz import Xyz
from .kept import Kept
from .onefile import OneFile

if TYPE_CHECKING:
    from pmtiles.tile import HeaderDict

ROOT_BYTES = 16384 - 127
"""What the root directory may take: readers fetch it with the header, in one go."""

PIECE_BYTES = 2**22
"""How much is copied at a time."""

checksum: Callable[[bytes], int] = hash
"""Tells tiles that may be equal; which ones are is not for it to say."""

_KINDS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}


class PmtilesSink:
    """Writes tiles into one PMTiles file.

    Args:
        layout: Which zoom, column and row a tile has.
        target: The file's path.
        overwrite: Replace what stands there, only at the end.

    Raises:
        TargetError: Something stands there and may not be replaced, another run works on this
            target, or its folder cannot be written.
    """

    def __init__(self, layout: Xyz, target: str | Path, *, overwrite: bool = False) -> None:
        self._layout = layout
        self._zooms, self._cols, self._rows = array("q"), array("q"), array("q")
        self._offsets, self._sizes, self._sums = array("q"), array("q"), array("q")
        self._file = OneFile(target, overwrite=overwrite)
        try:
            self._kept = Kept(self._file.work / "tiles")
        except BaseException:
            self._file.abort()
            raise

    def put(self, tile: Tile, data: bytes) -> None:
        """Keep one tile until all are there.

        Raises:
            TargetError: It cannot be written.
        """
        zoom, col, row = self._layout.address(tile)
        self._offsets.append(self._kept.append(data))
        self._zooms.append(zoom)
        self._cols.append(col)
        self._rows.append(row)
        self._sizes.append(len(data))
        self._sums.append(checksum(data))

    def finish(self) -> None:
        """Write it all in the format's order, and publish.

        Raises:
            TargetError: The system refused, or something has appeared there in the meantime.
        """
        from pmtiles.tile import Entry, serialize_header
        from pmtiles.writer import optimize_directories

        self._file.check_alive()
        ids = tile_ids(np.asarray(self._zooms), np.asarray(self._cols), np.asarray(self._rows))
        order = np.argsort(ids, kind="stable")
        same = self._same(order)
        entries: list[Entry] = []
        places: dict[int, int] = {}
        stored = []
        end = 0
        for tile_id, first in zip(ids[order].tolist(), same.tolist(), strict=True):
            size = self._sizes[first]
            if first not in places:
                places[first] = end
                stored.append(first)
                end += size
            place = places[first]
            last = entries[-1] if entries else None
            if (
                last
                and (last.offset, last.length) == (place, size)
                and tile_id == last.tile_id + last.run_length
            ):
                last.run_length += 1
            else:
                entries.append(Entry(tile_id, place, size, 1))
        root, leaves, _ = optimize_directories(entries, ROOT_BYTES)  # type: ignore[no-untyped-call]
        metadata = gzip.compress(json.dumps(self._metadata()).encode(), mtime=0)
        header = self._header(len(root), len(metadata), len(leaves), end)
        header["addressed_tiles_count"] = len(order)
        header["tile_entries_count"] = len(entries)
        header["tile_contents_count"] = len(stored)
        self._file.append(serialize_header(header), root, metadata, leaves)
        self._copy(stored)
        self._kept.close()
        self._file.publish()

    def abort(self) -> None:
        """Leave nothing behind, and what stood there before as it was. Never raises."""
        if hasattr(self, "_kept"):
            self._kept.close()
        self._file.abort()

    def _same(self, order: NDArray[np.intp]) -> NDArray[np.intp]:
        """For each tile, in order, the first one that has the same bytes."""
        sums = np.asarray(self._sums)[order]
        sizes = np.asarray(self._sizes)[order]
        same = order.copy()
        by_sum = np.lexsort((sizes, sums))  # stable: of equal ones the first comes first
        sums, sizes = sums[by_sum], sizes[by_sum]
        differs = (sums[1:] != sums[:-1]) | (sizes[1:] != sizes[:-1])
        bounds = np.concatenate(([0], np.flatnonzero(differs) + 1, [len(order)]))
        groups = np.flatnonzero(np.diff(bounds) > 1)
        for start, end in zip(bounds[groups], bounds[groups + 1], strict=True):
            found: dict[bytes, int] = {}
            for position in by_sum[start:end].tolist():
                index = int(order[position])
                data = self._kept.read(self._offsets[index], self._sizes[index])
                same[position] = found.setdefault(data, index)
        return same

    def _copy(self, stored: list[int]) -> None:
        """Copy kept tiles into the file, in pieces."""
        pieces: list[bytes] = []
        size = 0
        for index in stored:
            pieces.append(self._kept.read(self._offsets[index], self._sizes[index]))
            size += len(pieces[-1])
            if size >= PIECE_BYTES or len(pieces) >= 1000:
                self._file.append(*pieces)
                pieces.clear()
                size = 0
        if pieces:
            self._file.append(*pieces)

    def _metadata(self) -> dict[str, object]:
        return {
            "name": self._layout.told_name,
            "type": "baselayer",
            "format": self._layout.extension,
            "fasttile": tilesjson.own(self._layout),
        }

    def _header(self, root: int, metadata: int, leaves: int, data: int) -> HeaderDict:
        from pmtiles.tile import Compression, TileType

        pyramid, base = self._layout.pyramid, self._layout.base
        west, south, east, north = (
            round(degrees * 10_000_000) for degrees in tilesjson.bounds(pyramid)
        )
        return {
            "version": 3,
            "root_offset": 127,
            "root_length": root,
            "metadata_offset": 127 + root,
            "metadata_length": metadata,
            "leaf_directory_offset": 127 + root + metadata,
            "leaf_directory_length": leaves,
            "tile_data_offset": 127 + root + metadata + leaves,
            "tile_data_length": data,
            "addressed_tiles_count": 0,
            "tile_entries_count": 0,
            "tile_contents_count": 0,
            "clustered": True,
            "internal_compression": Compression.GZIP,
            "tile_compression": Compression.NONE,
            "tile_type": TileType[_KINDS[self._layout.extension]],
            "min_zoom": pyramid.kept[0] - base,
            "max_zoom": pyramid.kept[-1] - base,
            "min_lon_e7": west,
            "min_lat_e7": south,
            "max_lon_e7": east,
            "max_lat_e7": north,
            "center_zoom": pyramid.kept[0] - base,
            "center_lon_e7": (west + east) // 2,
            "center_lat_e7": (south + north) // 2,
        }


def tile_ids(
    zooms: NDArray[np.int64], cols: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The places of tiles on the format's Hilbert curve: smaller zooms first.

    The curve goes through a square's quarters one by one, turned or mirrored in the first and in
    the last; so the bits of column and row are taken from the highest down.

    Args:
        zooms: 0 to 31.
        cols, rows: Rows from the top.
    """
    ids = ((1 << 2 * zooms) - 1) // 3
    x, y = cols.copy(), rows.copy()
    for bit in reversed(range(int(zooms.max(initial=0)))):
        half = 1 << bit
        right, below = x & half, y & half
        ids += ((3 * right) ^ below) << bit
        turned = (below == 0) & (zooms > bit)
        mirrored = turned & (right != 0)
        x[mirrored] = half - 1 - x[mirrored]
        y[mirrored] = half - 1 - y[mirrored]
        x[turned], y[turned] = y[turned], x[turned]
    return ids
