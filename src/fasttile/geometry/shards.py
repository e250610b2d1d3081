"""Positions of the shards of a large image, which are cut separately.

A shard is a block of 2^depth × 2^depth tiles of the largest level. It is walked like an image,
over its own region of the image, down `depth` levels; the last one is a block of pixels of the size
of a tile. All blocks together are the raster of that level; the upper levels are cut from it.

The pixels are those of a cut without shards: a shard begins at multiples of 2^depth pixels, so
its border never separates a pair of pixels; and it takes overlap · 2^depth more pixels on each side
that has a neighbour, which are the overlap of its tiles on all levels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from fasttile.errors import OptionError
from fasttile.geometry import Level, Pyramid, Region, Tile

MAX_SHARD_PIXELS = 2**26
"""About the largest number of the image's pixels in a shard: half a second of one processor."""

MIN_SHARD_PIXELS = 2**21
"""The smallest number."""

MIN_SHARD_COUNT = 24
"""Least number of shards: then workers end together, and little is lost with one of them."""


@dataclass(frozen=True)
class LevelRange:
    """Consecutive levels, as the walk takes them; a pyramid has the same attributes.

    Attributes:
        levels: The smallest first, with the pyramid's own numbers.
        stored_range: The levels whose tiles are handed out; no smaller ones are made.
    """

    levels: tuple[Level, ...]
    stored_range: range


@dataclass(frozen=True)
class Shard(LevelRange):
    """One shard; its tiles are counted from its own first one.

    Attributes:
        number: Its place among the shards, line by line.
        region: The part of the image that it is made of, margins included.
        block: Region of its block in the raster of the upper levels. It may be empty at the edge
            of a canvas that rounds down.
        block_level: The level whose only tile is the block.
        offsets: For each of the levels, the columns and rows of tiles before its first one.
    """

    number: int
    region: Region
    block: Region
    block_level: int
    offsets: tuple[tuple[int, int], ...]

    def to_pyramid_tile(self, tile: Tile) -> Tile:
        """The address in the pyramid of a tile of the shard."""
        col, row = self.offsets[tile.level - self.levels[0].number]
        return Tile(tile.level, tile.col + col, tile.row + row)


@dataclass(frozen=True)
class Shards:
    """The shards of a pyramid, line by line.

    Args:
        pyramid: The pyramid to cut.
        depth: The number of its levels that shards have, at least 1.

    Raises:
        OptionError: The pyramid has no shards of this depth.

    Example:
        >>> shards = Shards(Pyramid.from_size(100_000, 50_000), depth=5)
        >>> len(shards), shards[14].region, shards.upper_levels.stored_range
        (91, Region(x=8096, y=8096, width=8192, height=8192), range(0, 13))
    """

    pyramid: Pyramid
    depth: int

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= _max_depth(self.pyramid):
            raise OptionError(f"a pyramid of {self.pyramid.level_count} levels has no such shards")

    @staticmethod
    def best_depth(pyramid: Pyramid, largest_level_image: int = 0) -> int | None:
        """A good depth, or None if the image is too small for shards.

        Args:
            pyramid: The pyramid to cut.
            largest_level_image: The largest level of which one image is made: an upper level.
        """
        depth = min(_max_depth(pyramid), pyramid.level_count - 1 - largest_level_image)
        width, height = pyramid.canvas.placement[2:]
        while depth >= 1:
            side = pyramid.tile_size << depth
            count = -(-width // side) * -(-height // side)
            if side * side < MIN_SHARD_PIXELS:
                return None
            if count >= MIN_SHARD_COUNT and side * side <= MAX_SHARD_PIXELS:
                return depth
            depth -= 1
        return None

    def __len__(self) -> int:
        cols, rows = self._blocks
        return len(cols) * len(rows)

    def __getitem__(self, number: int) -> Shard:
        cols, rows = self._blocks
        if not 0 <= number < len(self):
            raise IndexError(f"no shard {number}: there are {len(self)}")
        row, col = divmod(number, len(cols))
        if self.pyramid.canvas.padded:
            return self._padded_shard(number, cols[col], rows[row])
        return self._shard(number, cols[col], rows[row])

    def number_of(self, tile: Tile) -> int | None:
        """The number of the shard that a tile belongs to; None if it is of an upper level."""
        times = self.pyramid.level_count - 1 - tile.level
        if times >= self.depth:
            return None
        level = self.pyramid.levels[tile.level]
        cols, rows = self._blocks
        col = (tile.col + level.first_col) >> (self.depth - times)
        row = (tile.row + level.first_row) >> (self.depth - times)
        return (row - rows.start) * len(cols) + col - cols.start

    @cached_property
    def upper_levels(self) -> LevelRange:
        """The levels that are cut from the blocks."""
        pyramid, top = self.pyramid, self._block_level
        levels = pyramid.levels[: top + 1]
        if pyramid.canvas.padded:
            last = levels[-1]
            full_level = Region(0, 0, last.width, last.height)
            levels = (*levels[:-1], replace(last, inset=full_level))
        first, last_kept = pyramid.stored_range[0], pyramid.stored_range[-1]
        return LevelRange(levels, range(first, min(last_kept, top) + 1))

    @property
    def _block_level(self) -> int:
        return self.pyramid.level_count - 1 - self.depth

    @cached_property
    def _blocks(self) -> tuple[range, range]:
        """Columns and rows of blocks on the canvas."""
        image = self.pyramid.canvas.placement
        side = self.pyramid.tile_size << self.depth
        return (
            range(image.x // side, -(-image.right // side)),
            range(image.y // side, -(-image.bottom // side)),
        )

    def _stored_range(self, levels: list[Level]) -> range:
        """The levels whose tiles are handed out, or the block's level."""
        smallest = levels[-1].number
        return range(smallest, max(smallest, self.pyramid.stored_range[-1]) + 1)

    def _shard(self, number: int, col: int, row: int) -> Shard:
        """A shard of a canvas that is the image itself."""
        across = [self._axis_span(times, col, 0) for times in range(self.depth + 1)]
        down = [self._axis_span(times, row, 1) for times in range(self.depth + 1)]
        levels, offsets = [], []
        for times in range(self.depth + 1):
            x, y = across[times], down[times]
            if not (x.tiled and y.tiled):
                break
            after = min(times + 1, self.depth)
            basis = Region(
                0,
                0,
                min(len(x.raster), 2 * len(across[after].raster)),
                min(len(y.raster), 2 * len(down[after].raster)),
            )
            levels.append(self._level(times, x, y, basis))
            offsets.append((col << self.depth - times, row << self.depth - times))
        block = Region(0, 0, 0, 0)
        if len(levels) > self.depth:
            x, y = across[-1], down[-1]
            block = Region(x.tiled[0], y.tiled[0], len(x.tiled), len(y.tiled))
        x, y = across[0], down[0]
        region = Region(x.raster[0], y.raster[0], len(x.raster), len(y.raster))
        return Shard(
            tuple(reversed(levels)),
            self._stored_range(levels),
            number,
            region,
            block,
            self._block_level,
            tuple(reversed(offsets)),
        )

    def _axis_span(self, times: int, block: int, axis: int) -> _AxisSpan:
        """Part of a level that a shard has along one axis, after a number of halvings."""
        pyramid = self.pyramid
        side = pyramid.canvas.halved_size(times)[axis]
        size = pyramid.tile_size << self.depth
        margin = pyramid.overlap << self.depth
        start, stop = block * size, (block + 1) * size
        return _AxisSpan(
            range(max(0, start - margin) >> times, min(side, (stop + margin) >> times)),
            range(start >> times, min(side, stop >> times)),
        )

    def _level(self, times: int, x: _AxisSpan, y: _AxisSpan, basis: Region) -> Level:
        pyramid = self.pyramid
        size, number = pyramid.tile_size, pyramid.level_count - 1 - times
        width, height = len(x.raster), len(y.raster)
        inset = Region(0, 0, width, height)
        overlap = 0 if times == self.depth else pyramid.overlap
        frame = Region(
            x.tiled[0] - x.raster[0], y.tiled[0] - y.raster[0], len(x.tiled), len(y.tiled)
        )
        if pyramid.canvas.edge == "fill" and times < self.depth:
            width, height = (-(-side // size) * size for side in inset[2:])
            frame = Region(0, 0, width, height)
        return Level(number, width, height, size, overlap, 0, 0, inset, basis, frame)

    def _padded_shard(self, number: int, col: int, row: int) -> Shard:
        """A shard of a canvas with background, whose tiles do not overlap."""
        canvas, size = self.pyramid.canvas, self.pyramid.tile_size
        image, side = canvas.placement, size << self.depth
        left, top = max(image.x, col * side), max(image.y, row * side)
        right, bottom = min(image.right, (col + 1) * side), min(image.bottom, (row + 1) * side)
        inset = Region(left, top, right - left, bottom - top)  # on the canvas, at first
        levels, offsets = [], []
        for times in range(self.depth + 1):
            full_level = self.pyramid.levels[self.pyramid.level_count - 1 - times]
            unit = size << times
            cols = range(left // unit, -(-right // unit))
            rows = range(top // unit, -(-bottom // unit))
            x, y = cols[0] * size, rows[0] * size
            inset = Region(inset.x - x, inset.y - y, inset.width, inset.height)
            raster = Region(0, 0, len(cols) * size, len(rows) * size)
            levels.append(
                replace(full_level, width=raster.width, height=raster.height, inset=inset)
            )
            levels[-1] = replace(levels[-1], basis=raster, frame=raster)
            offsets.append((cols[0] - full_level.first_col, rows[0] - full_level.first_row))
            inset = Region(x // 2, y // 2, raster.width // 2, raster.height // 2)
        col_before, row_before = offsets[-1]
        return Shard(
            tuple(reversed(levels)),
            self._stored_range(levels),
            number,
            Region(left - image.x, top - image.y, right - left, bottom - top),
            Region(col_before * size, row_before * size, size, size),
            self._block_level,
            tuple(reversed(offsets)),
        )


@dataclass(frozen=True)
class _AxisSpan:
    """A shard's pixels along one axis of a level, and those of them that its tiles cover."""

    raster: range
    tiled: range


def _max_depth(pyramid: Pyramid) -> int:
    """The largest number of levels that shards can have."""
    smallest = pyramid.first_level
    if pyramid.canvas.padded:
        if pyramid.canvas.cover == "canvas":
            return 0  # shards without any of the image
        smallest = max(smallest, pyramid.single_tile_level)
    return pyramid.level_count - 1 - smallest
