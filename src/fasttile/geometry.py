"""Where everything lies: canvas, levels, tiles and regions, in integers; no pixels, no I/O.

Planes and their units. A *level* is one raster of the pyramid; level 0 is 1×1 and the last
level is the canvas at full size, so level n is smaller by 2^(level_count - 1 - n). All x and y
are pixels of one level, counted from its top left corner; col and row count tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from .errors import OptionError

Rounding = Literal["up", "down"]

MAX_SIDE = 2**40
"""The longest side of a canvas, in pixels."""


class Region(NamedTuple):
    """A rectangle of pixels of one level: columns x to right-1, rows y to bottom-1."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column right of the region."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """The first row below the region."""
        return self.y + self.height


class Tile(NamedTuple):
    """The address of a tile: its level, and its column and row among that level's tiles."""

    level: int
    col: int
    row: int


@dataclass(frozen=True)
class Canvas:
    """What the pyramid stands on: a raster of pixels, and where in it the picture lies.

    Args:
        width, height: Size of the canvas in pixels, 1 to 2^40.
        picture: Where the picture lies in it; the rest is background. Default: all of it.
        rounding: Whether a level of odd size halves "up" (5 to 3, as in Deep Zoom) or "down"
            (5 to 2, as in Zoomify; but never to 0). Rounding down leaves out the last column or
            row of the raster that rounding up makes; no pixel differs otherwise.

    Raises:
        OptionError: A side is out of range, or the picture does not lie within the canvas.

    Example:
        >>> Canvas(1024, 512, picture=Region(0, 0, 1000, 500)).rounding
        'up'
    """

    width: int
    height: int
    picture: Region | None = None
    rounding: Rounding = "up"

    def __post_init__(self) -> None:
        for name, side in (("width", self.width), ("height", self.height)):
            if not 1 <= side <= MAX_SIDE:
                raise OptionError(f"canvas {name} {side} is not between 1 and 2^40 pixels")
        if self.rounding not in ("up", "down"):
            raise OptionError(f"rounding {self.rounding!r} is neither 'up' nor 'down'")
        picture = self.placement
        if picture.x < 0 or picture.y < 0 or picture.width < 1 or picture.height < 1:
            raise OptionError(f"picture {tuple(picture)} does not lie within the canvas")
        if picture.right > self.width or picture.bottom > self.height:
            raise OptionError(
                f"picture {tuple(picture)} reaches beyond the canvas of "
                f"{self.width}×{self.height} pixels"
            )

    @property
    def placement(self) -> Region:
        """Where the picture lies, also when it is the whole canvas."""
        return self.picture or Region(0, 0, self.width, self.height)


@dataclass(frozen=True)
class Level:
    """One level of a pyramid: its size, and the tiles that cover it.

    Attributes:
        number: 0 for the 1×1 level, counting up to full size.
        width, height: Size in pixels, of what the tiles cover.
        raster_width, raster_height: Size of the raster that halving makes. It is larger than
            the level by one where the canvas rounds down and a size on the way was odd.
        tile_size, overlap: As in the pyramid, in pixels.
    """

    number: int
    width: int
    height: int
    tile_size: int
    overlap: int

    @property
    def cols(self) -> int:
        """How many tiles lie side by side."""
        return -(-self.width // self.tile_size)

    @property
    def rows(self) -> int:
        """How many lines of tiles lie below each other."""
        return -(-self.height // self.tile_size)

    @property
    def tile_count(self) -> int:
        """How many tiles cover the level."""
        return self.cols * self.rows

    def col_span(self, col: int) -> tuple[int, int]:
        """The first column of a tile's pixels, overlap included, and the first behind them."""
        return _span(col, self.width, self.tile_size, self.overlap)

    def row_span(self, row: int) -> tuple[int, int]:
        """The first row of a tile's pixels, overlap included, and the first below them."""
        return _span(row, self.height, self.tile_size, self.overlap)

    def region(self, col: int, row: int) -> Region:
        """The pixels of one tile, with `overlap` more on each side that has a neighbour.

        Raises:
            IndexError: The level has no such tile.
        """
        if not (0 <= col < self.cols and 0 <= row < self.rows):
            raise IndexError(
                f"level {self.number} has {self.cols}×{self.rows} tiles, none at ({col}, {row})"
            )
        x0, x1 = self.col_span(col)
        y0, y1 = self.row_span(row)
        return Region(x0, y0, x1 - x0, y1 - y0)

    @property
    def longest_tile_side(self) -> int:
        """The longest side of any tile, overlap included, in pixels."""
        spans = [self.col_span(col) for col in (0, min(1, self.cols - 1))]
        spans += [self.row_span(row) for row in (0, min(1, self.rows - 1))]
        return max(end - start for start, end in spans)

    def tiles(self) -> Iterator[Tile]:
        """All tiles of the level, line by line."""
        for row in range(self.rows):
            for col in range(self.cols):
                yield Tile(self.number, col, row)


@dataclass(frozen=True)
class Pyramid:
    """A canvas, halved until it is 1×1, each level covered by tiles.

    Args:
        canvas: What the pyramid stands on.
        tile_size: Side of a tile without overlap, in pixels, at least 1.
        overlap: Pixels added to a tile on each side that has a neighbour, 0 to tile_size - 1.

    Raises:
        OptionError: tile_size or overlap is out of range.

    Example:
        >>> pyramid = Pyramid.of(1000, 600, tile_size=254, overlap=1)
        >>> pyramid.level_count, pyramid.levels[-1].cols, pyramid.levels[-1].rows
        (11, 4, 3)
        >>> pyramid.region(Tile(level=10, col=1, row=0))
        Region(x=253, y=0, width=256, height=255)
    """

    canvas: Canvas
    tile_size: int = 254
    overlap: int = 1

    def __post_init__(self) -> None:
        if self.tile_size < 1:
            raise OptionError(f"tile size {self.tile_size} is not at least 1 pixel")
        if self.overlap < 0:
            raise OptionError(f"overlap {self.overlap} is negative")
        if self.overlap >= self.tile_size:
            raise OptionError(
                f"overlap {self.overlap} is not smaller than the tile size {self.tile_size}: "
                "a tile would hold the whole of its neighbours"
            )

    @classmethod
    def of(cls, width: int, height: int, *, tile_size: int = 254, overlap: int = 1) -> Pyramid:
        """The Deep Zoom pyramid of a picture of this size: the canvas is the picture itself."""
        return cls(Canvas(width, height), tile_size, overlap)

    @property
    def level_count(self) -> int:
        """How many levels there are, until both sides are 1 pixel.

        With n the longer side: ceil(log2(n)) + 1, or floor(log2(n)) + 1 where the canvas rounds
        down.
        """
        side = max(self.canvas.width, self.canvas.height)
        return side.bit_length() if self.canvas.rounding == "down" else (side - 1).bit_length() + 1

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """The levels, from 1×1 (number 0) to full size."""
        return tuple(self._level(number) for number in range(self.level_count))

    @property
    def tile_count(self) -> int:
        """How many tiles there are in all levels together."""
        return sum(level.tile_count for level in self.levels)

    def region(self, tile: Tile) -> Region:
        """The pixels of a tile in its own level, overlap included.

        Raises:
            IndexError: The pyramid has no such tile.
        """
        if not 0 <= tile.level < self.level_count:
            raise IndexError(f"no level {tile.level}: the last one is {self.level_count - 1}")
        return self.levels[tile.level].region(tile.col, tile.row)

    def tiles(self) -> Iterator[Tile]:
        """All tiles, level by level from 1×1, and line by line."""
        for level in self.levels:
            yield from level.tiles()

    def _level(self, number: int) -> Level:
        halvings = self.level_count - 1 - number
        width, height = self.canvas.width, self.canvas.height
        if self.canvas.rounding == "up":
            size = (-(-width >> halvings), -(-height >> halvings))
        else:
            size = (max(1, width >> halvings), max(1, height >> halvings))
        return Level(number, *size, self.tile_size, self.overlap)


def _span(index: int, side: int, tile_size: int, overlap: int) -> tuple[int, int]:
    start = index * tile_size
    return max(0, start - overlap), min(side, start + tile_size + overlap)
