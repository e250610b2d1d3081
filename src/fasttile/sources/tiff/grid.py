"""Grids of uncompressed blocks: strips or tiles, chunky or planar."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fasttile.abc.source import Metadata, Source
from fasttile.errors import SourceError
from fasttile.geometry import Region
from fasttile.sources.arrays import ArraySource
from fasttile.sources.conversions import Croppable
from fasttile.storage.random_access import SourceFile
from fasttile.types import Pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MIN_ROWS = 64  # per request
_MAX_LINE_ROWS = 1024  # a line of taller blocks is read in parts


@dataclass(frozen=True)
class BlockGrid:
    """Positions of the pixels of a raster in its file.

    Attributes:
        width, height, bands: Of the raster, as stored.
        dtype: Of a sample, in the byte order of the file.
        block_width, block_height: Of a block, in pixels; a strip is as wide as the raster.
        is_planar: True if each band has its own blocks; all blocks of band 0 come first.
        is_tiled: True for tiles, which are full also beyond the last row; False for strips.
        offsets: Offset of each block in the file, in bytes, line by line of blocks.
        byte_counts: Bytes of each block.
    """

    width: int
    height: int
    bands: int
    dtype: np.dtype[Any]
    block_width: int
    block_height: int
    is_planar: bool
    is_tiled: bool
    offsets: NDArray[np.uint64]
    byte_counts: NDArray[np.uint64]

    @property
    def cols(self) -> int:
        """Number of blocks side by side."""
        return -(-self.width // self.block_width)

    @property
    def lines(self) -> int:
        """Number of lines of blocks."""
        return -(-self.height // self.block_height)

    @property
    def planes(self) -> int:
        """Number of grids: one, or one per band."""
        return self.bands if self.is_planar else 1

    @property
    def block_bands(self) -> int:
        """Number of bands in a block."""
        return 1 if self.is_planar else self.bands

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of a block."""
        return self.block_width * self.block_bands * self.dtype.itemsize

    def block_rows(self, line: int) -> int:
        """Number of rows in the blocks of a line."""
        if self.is_tiled:
            return self.block_height
        return min(self.block_height, self.height - line * self.block_height)


def find_absent_blocks(grid: BlockGrid) -> NDArray[np.bool_]:
    """Mask of blocks that are not in the file; GDAL omits empty ones."""
    return np.asarray(grid.offsets == 0)


def estimate_byte_counts(grid: BlockGrid, file_size: int, row_bytes: int | None) -> BlockGrid:
    """The grid with sizes for the blocks that have an offset, but no size.

    Some programs leave the sizes out, or write zeros; libtiff, and with it most readers, estimates
    them too (`EstimateStripByteCounts` in its tif_dirread.c).

    Args:
        grid: A grid with no counts at all, or with one for each offset.
        file_size: In bytes.
        row_bytes: The bytes of a row of uncompressed blocks; None if they are compressed: then a
            block ends where the next one begins, or with the file.
    """
    offsets, counts = grid.offsets, grid.byte_counts
    if not len(counts):
        counts = np.zeros(len(offsets), np.uint64)
    if len(counts) != len(offsets):
        return grid
    unknown = (counts == 0) & (offsets != 0)
    if not unknown.any():
        return grid if len(grid.byte_counts) else replace(grid, byte_counts=counts)
    if row_bytes is not None:
        lines = np.arange(len(offsets)) // grid.cols % grid.lines
        rows = np.full(len(offsets), grid.block_height, np.uint64)
        rows[lines == grid.lines - 1] = grid.block_rows(grid.lines - 1)
        sizes = rows * np.uint64(row_bytes)
    else:
        ends = np.append(np.unique(offsets), np.uint64(file_size))
        following = ends[np.searchsorted(ends[:-1], offsets, side="right")]
        sizes = following - np.minimum(offsets, following)
    return replace(grid, byte_counts=np.where(unknown, sizes, counts).astype(np.uint64))


def find_truncated_blocks(grid: BlockGrid, file_size: int) -> NDArray[np.bool_]:
    """Mask of blocks that are in the file but end beyond its end.

    The grid must have as many offsets as counts.
    """
    size = np.uint64(file_size)
    left = size - np.minimum(grid.offsets, size)
    return np.asarray(~find_absent_blocks(grid) & (left < grid.byte_counts))


def open_grid(file: SourceFile, grid: BlockGrid, metadata: Metadata) -> Source:
    """Open a grid; an array over the map if its blocks are one run of rows.

    The array has the byte order of the file, which may not be the native one.

    Raises:
        SourceError: There are too few blocks, or the file does not hold all of them.
    """
    wanted = grid.planes * grid.lines * grid.cols
    if len(grid.offsets) != wanted or len(grid.byte_counts) != wanted:
        raise SourceError(
            f"{file.name}: {grid.width}×{grid.height} pixels are {wanted} strips or tiles, but "
            f"the file lists {len(grid.offsets)} offsets and {len(grid.byte_counts)} sizes"
        )
    # In this order, no sum below can overflow.
    file.require_size(grid.row_bytes * grid.block_rows(0), "a strip or tile")
    file.require_size(int(grid.offsets.max()), "the offset of a strip or tile")
    line_sizes = np.full(grid.lines, grid.block_height, np.uint64)
    line_sizes[-1] = grid.block_rows(grid.lines - 1)
    line_sizes *= np.uint64(grid.row_bytes)
    sizes = np.tile(np.repeat(line_sizes, grid.cols), grid.planes)  # of the pixels of each block
    for number in np.flatnonzero(grid.byte_counts < sizes)[:1]:
        raise SourceError(
            f"{file.name}: strip or tile {number} has {grid.byte_counts[number]} bytes, "
            f"but its pixels take {sizes[number]}"
        )
    ends = grid.offsets + sizes
    last = int(ends.argmax())
    file.require_size(int(ends[last]), f"strip or tile {last}")
    follow = grid.offsets[1:] == grid.offsets[:-1] + sizes[:-1]
    if grid.cols == 1 and grid.planes == 1 and bool(follow.all()):
        shape = (grid.height, grid.width, grid.bands)
        pixels = file.view(int(grid.offsets[0]), shape, grid.dtype, grid.row_bytes)
        return ArraySource(pixels, file.name, metadata, file)
    return TiffGridSource(file, grid, metadata)


class TiffGridSource(Croppable):
    """A source that assembles rows from the blocks of a mapped file."""

    has_parallel_regions = True

    def __init__(
        self, file: SourceFile, grid: BlockGrid, metadata: Metadata, region: Region | None = None
    ) -> None:
        self.name = file.name
        self.metadata = metadata
        self._file = file
        self._grid = grid
        self._region = region or Region(0, 0, grid.width, grid.height)
        self.width, self.height = self._region.width, self._region.height
        self.bands, self.dtype = grid.bands, grid.dtype.newbyteorder("=")
        # Any rows can be read, since blocks are mapped and not decoded; but each block has a fixed
        # cost, so complete lines of blocks are best, unless they take too much memory.
        height = grid.block_height
        self.preferred_rows = (
            height * -(-_MIN_ROWS // height) if height <= _MAX_LINE_ROWS else _MIN_ROWS
        )
        self.preferred_cols = grid.block_width if grid.cols > 1 else 0
        self._buffer: Pixels = np.empty((0, self.width, self.bands), self.dtype)

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, in native byte order; valid until the next call."""
        if len(self._buffer) < y1 - y0:
            self._buffer = np.empty((y1 - y0, self.width, self.bands), self.dtype)
        out = self._buffer[: y1 - y0]
        top, bottom = self._region.y + y0, self._region.y + y1
        height = self._grid.block_height
        for line in range(top // height, -(-bottom // height)):
            first, last = max(top, line * height), min(bottom, (line + 1) * height)
            self._copy_rows(line, first, last, out[first - top : last - top])
        return out

    def crop(self, region: Region) -> Source:
        """A source that reads only the blocks in the region."""
        inner = region.shifted(*self._region[:2])
        smaller = TiffGridSource(self._file, self._grid, self.metadata, inner)
        smaller.is_cmyk = self.is_cmyk
        return smaller

    def check_intact(self) -> None:
        """Check that the file was not cut short."""
        self._file.check_intact()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _copy_rows(self, line: int, y0: int, y1: int, out: Pixels) -> None:
        """Copy rows y0 to y1-1 of the raster, all in one line of blocks."""
        grid, left, right = self._grid, self._region.x, self._region.right
        width = grid.block_width
        top = line * grid.block_height
        for col in range(left // width, -(-right // width)):
            x0, x1 = max(left, col * width), min(right, (col + 1) * width)
            for plane in range(grid.planes):
                offset = int(grid.offsets[(plane * grid.lines + line) * grid.cols + col])
                shape = (grid.block_rows(line), width, grid.block_bands)
                block = self._file.view(offset, shape, grid.dtype, grid.row_bytes)
                part = block[y0 - top : y1 - top, x0 - col * width : x1 - col * width]
                bands = slice(plane, plane + 1) if grid.is_planar else slice(None)
                self._file.populate(part)
                out[:, x0 - left : x1 - left, bands] = part
                self._file.discard(part)
