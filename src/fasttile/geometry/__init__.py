"""Geometry in integers: canvas, levels, tiles and regions; no pixels, no I/O.

Planes and their units. A *level* is one raster of the pyramid; level 0 is 1×1 and the last
level is the canvas at full size, so level n is smaller by 2^(level_count - 1 - n). All x and y
are pixels of one level, counted from its top left corner; col and row count tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

from fasttile.errors import OptionError

Rounding = Literal["up", "down"]
Edge = Literal["clip", "fill"]
Cover = Literal["picture", "canvas"]

MAX_CANVAS_SIDE = 2**40
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

    def intersection(self, other: Region) -> Region:
        """The common part; its width or height is 0 if there is none."""
        x0, y0, width0, height0 = self
        x1, y1, width1, height1 = other
        x, y = max(x0, x1), max(y0, y1)
        width = min(x0 + width0, x1 + width1) - x
        height = min(y0 + height0, y1 + height1) - y
        return Region(x, y, max(0, width), max(0, height))

    def shifted(self, x: int, y: int) -> Region:
        """The region moved to the right by x and down by y."""
        return Region(self.x + x, self.y + y, self.width, self.height)


class Tile(NamedTuple):
    """The address of a tile: its level, and its column and row among that level's tiles."""

    level: int
    col: int
    row: int


@dataclass(frozen=True)
class Canvas:
    """The raster of pixels that a pyramid covers, and the place of the image in it.

    Args:
        width, height: Size of the canvas in pixels, 1 to 2^40.
        image: The image's place in it; the rest is background. Default: the complete canvas.
        rounding: A level of odd size halves "up" (5 to 3, as in Deep Zoom) or "down"
            (5 to 2, as in Zoomify; but never to 0). Rounding down leaves out the last column or
            row of the raster that rounding up makes; no pixel differs otherwise.
        edge: Tiles at the canvas' edge end there ("clip"), or are as large as all others, with
            background beyond it ("fill", as in TIFF). That background is never halved.
        cover: Tiles: those that touch the image ("picture"), or all ("canvas").

    Raises:
        OptionError: A side is out of range, the image is not within the canvas, or a
            canvas larger than the image rounds down or has edges to fill.

    Example:
        >>> Canvas(1024, 512, image=Region(0, 0, 1000, 500)).rounding
        'up'
    """

    width: int
    height: int
    image: Region | None = None
    rounding: Rounding = "up"
    edge: Edge = "clip"
    cover: Cover = "picture"

    def __post_init__(self) -> None:
        for name, side in (("width", self.width), ("height", self.height)):
            if not 1 <= side <= MAX_CANVAS_SIDE:
                raise OptionError(f"canvas {name} {side} is not between 1 and 2^40 pixels")
        for name, known in (("rounding", Rounding), ("edge", Edge), ("cover", Cover)):
            if getattr(self, name) not in get_args(known):
                raise OptionError(
                    f"{name} {getattr(self, name)!r} is none of {', '.join(get_args(known))}"
                )
        image = self.placement
        if image.x < 0 or image.y < 0 or image.width < 1 or image.height < 1:
            raise OptionError(f"image {tuple(image)} does not lie within the canvas")
        if image.right > self.width or image.bottom > self.height:
            raise OptionError(
                f"image {tuple(image)} reaches beyond the canvas of "
                f"{self.width}×{self.height} pixels"
            )
        if self.rounding == "down" and self.padded:
            raise OptionError("only a canvas that is the image itself can round down")
        if self.padded and self.edge == "fill":
            raise OptionError("a padded canvas has no edge to fill tiles at")

    @property
    def placement(self) -> Region:
        """Region of the image, also if it is the complete canvas."""
        return self.image or Region(0, 0, self.width, self.height)

    @property
    def padded(self) -> bool:
        """True if the canvas is larger than the image."""
        return self.placement != (0, 0, self.width, self.height)

    @property
    def level_count(self) -> int:
        """The number of levels, down to 1×1 pixel.

        With n the longer side: ceil(log2(n)) + 1, or floor(log2(n)) + 1 where the canvas rounds
        down.
        """
        side = max(self.width, self.height)
        return side.bit_length() if self.rounding == "down" else (side - 1).bit_length() + 1

    def single_tile_level(self, tile_size: int) -> int:
        """The number of the largest level that fits into one tile."""
        times = 0
        while max(self.halved_size(times)) > tile_size:
            times += 1
        return self.level_count - 1 - times

    def halved_size(self, exponent: int) -> tuple[int, int]:
        """Width and height after a number of halvings."""
        if self.rounding == "up":
            return -(-self.width >> exponent), -(-self.height >> exponent)
        return max(1, self.width >> exponent), max(1, self.height >> exponent)


@dataclass(frozen=True)
class Level:
    """One level of a pyramid: the raster that its tiles cover.

    If the canvas is padded, that raster is the part of the canvas whose tiles are made;
    rows and columns, of pixels and of tiles, are counted from its top left corner.

    Attributes:
        number: 0 for the 1×1 level, counting up to full size.
        width, height: Size in pixels, of what the tiles cover.
        tile_size, overlap: As in the pyramid, in pixels.
        first_col, first_row: The place of the level's first tile among the canvas' tiles.
        inset: The part that the halved pixels of the next larger level fill (on the largest level:
            the pixels of the image). The rest is background.
        basis: The part that the next smaller level is made from.
        frame: The part that the tiles cover. Pixels around it belong to tiles of other shards and
            serve as overlap.
    """

    number: int
    width: int
    height: int
    tile_size: int
    overlap: int
    first_col: int
    first_row: int
    inset: Region
    basis: Region
    frame: Region

    @property
    def cols(self) -> int:
        """The number of columns of tiles."""
        return -(-self.frame.width // self.tile_size)

    @property
    def rows(self) -> int:
        """The number of lines of tiles."""
        return -(-self.frame.height // self.tile_size)

    @property
    def tile_count(self) -> int:
        """The number of tiles."""
        return self.cols * self.rows

    @property
    def padded(self) -> bool:
        """True if the level has background."""
        return self.inset != (0, 0, self.width, self.height)

    def col_span(self, col: int) -> tuple[int, int]:
        """The first column of a tile's pixels, overlap included, and the first behind them."""
        frame = self.frame
        return self._span(col, frame.x, frame.right, self.width)

    def row_span(self, row: int) -> tuple[int, int]:
        """The first row of a tile's pixels, overlap included, and the first below them."""
        frame = self.frame
        return self._span(row, frame.y, frame.bottom, self.height)

    def _span(self, index: int, start: int, stop: int, side: int) -> tuple[int, int]:
        first = start + index * self.tile_size
        last = min(stop, first + self.tile_size)
        return max(0, first - self.overlap), min(side, last + self.overlap)

    def halving_end(self, row: int) -> int:
        """The end of the rows that are halved with a line of tiles.

        These are the rows of the line without its overlap; the last line has all further rows.
        Halving the overlap too could complete lines of smaller levels before the last line of the
        largest level.
        """
        if row == self.rows - 1:
            return self.height
        return self.frame.y + (row + 1) * self.tile_size

    def rows_needed_end(self, row: int) -> int:
        """The end of the rows that a line needs, for its tiles with overlap and for halving."""
        return max(self.row_span(row)[1], self.halving_end(row))

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
    """A canvas, halved until it is 1×1, and the tiles of its levels; some or all are stored.

    Args:
        canvas: The largest level. If it is padded, it is a square of tile_size times a
            power of two.
        tile_size: Side of a tile without overlap, in pixels, at least 1; even if the canvas is
            padded.
        overlap: Pixels added to a tile on each side that has a neighbour, 0 to tile_size - 1; 0 if
            the canvas is padded or its edges are filled.
        first_level, last_level: The smallest and the largest stored level. Default: all.

    Raises:
        OptionError: tile_size, overlap, or the levels are out of range.

    Example:
        >>> pyramid = Pyramid.from_size(1000, 600, tile_size=254, overlap=1)
        >>> pyramid.level_count, pyramid.levels[-1].cols, pyramid.levels[-1].rows
        (11, 4, 3)
        >>> pyramid.region(Tile(level=10, col=1, row=0))
        Region(x=253, y=0, width=256, height=255)
    """

    canvas: Canvas
    tile_size: int = 254
    overlap: int = 1
    first_level: int = 0
    last_level: int | None = None

    def __post_init__(self) -> None:
        if self.tile_size < 1:
            raise OptionError(f"tile size {self.tile_size} is not at least 1 pixel")
        if self.overlap < 0:
            raise OptionError(f"overlap {self.overlap} is negative")
        if self.overlap >= self.tile_size:
            raise OptionError(
                f"overlap {self.overlap} is not smaller than the tile size {self.tile_size}: "
                "a tile would contain its neighbours completely"
            )
        top = self.level_count - 1
        if self.last_level is None:
            object.__setattr__(self, "last_level", top)  # so that equal pyramids are equal
        if not 0 <= self.first_level <= self.stored_range.stop - 1 <= top:
            raise OptionError(
                f"levels {self.first_level} to {self.stored_range.stop - 1} "
                f"are not within 0 to {top}"
            )
        if self.overlap and (self.canvas.padded or self.canvas.edge == "fill"):
            raise OptionError(f"overlap {self.overlap} does not go with padding: it has to be 0")
        if not self.canvas.padded:
            return
        if self.tile_size % 2:
            raise OptionError(f"tile size {self.tile_size} is odd; with padding it has to be even")
        side = self.canvas.width
        if self.canvas.height != side or side != self.tile_size << self.downscale_exponent(
            self.single_tile_level
        ):
            raise OptionError(
                f"the padded canvas of {side}×{self.canvas.height} pixels is not a square of "
                f"{self.tile_size} pixels times a power of two"
            )
        if self.first_level < self.single_tile_level:
            raise OptionError("with padding, the smallest level that can be kept is one tile")

    @classmethod
    def from_size(
        cls, width: int, height: int, *, tile_size: int = 254, overlap: int = 1
    ) -> Pyramid:
        """The Deep Zoom pyramid of an image of this size: the canvas is the image itself."""
        return cls(Canvas(width, height), tile_size, overlap)

    @property
    def level_count(self) -> int:
        """The number of levels, stored or not, down to 1×1 pixel."""
        return self.canvas.level_count

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """The levels, stored or not, from 1×1 (number 0) to full size."""
        return tuple(self._level(number) for number in range(self.level_count))

    @property
    def stored_range(self) -> range:
        """The numbers of the stored levels."""
        last = self.level_count - 1 if self.last_level is None else self.last_level
        return range(self.first_level, last + 1)

    @property
    def stored_levels(self) -> tuple[Level, ...]:
        """The stored levels, the smallest first."""
        return self.levels[self.stored_range.start : self.stored_range.stop]

    @property
    def single_tile_level(self) -> int:
        """The number of the largest level that fits into one tile."""
        return self.canvas.single_tile_level(self.tile_size)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the image on the largest stored level.

        A pyramid without its largest levels is that of a smaller image, tile by tile.
        """
        return self.image_size(self.stored_range[-1])

    def image_size(self, number: int) -> tuple[int, int]:
        """Width and height of the image on a level, without the background of a padded canvas."""
        times = self.downscale_exponent(number)
        if not self.canvas.padded:
            return self.canvas.halved_size(times)
        placement = self.canvas.placement
        return -(-placement.width >> times), -(-placement.height >> times)

    def placement(self, number: int) -> Region:
        """The image's place on a level, in pixels of the level's raster.

        On a padded canvas it may begin within a pixel; then that pixel is its first one.
        """
        level, times = self.levels[number], self.downscale_exponent(number)
        if not self.canvas.padded:
            return level.inset
        x, y = (side >> times for side in self.canvas.placement[:2])
        width, height = self.image_size(number)
        place = Region(x, y, width, height)
        return place.shifted(-level.first_col * self.tile_size, -level.first_row * self.tile_size)

    def downscale_exponent(self, number: int) -> int:
        """The number of halvings from the canvas to a level."""
        return self.level_count - 1 - number

    @property
    def tile_count(self) -> int:
        """The number of tiles of all stored levels."""
        return sum(level.tile_count for level in self.stored_levels)

    def region(self, tile: Tile) -> Region:
        """The pixels of a tile in its own level, overlap included.

        Raises:
            IndexError: The pyramid has no such tile.
        """
        if not 0 <= tile.level < self.level_count:
            raise IndexError(f"no level {tile.level}: the last one is {self.level_count - 1}")
        return self.levels[tile.level].region(tile.col, tile.row)

    def tiles(self) -> Iterator[Tile]:
        """The tiles of all stored levels, from the smallest level, line by line."""
        for level in self.stored_levels:
            yield from level.tiles()

    def _level(self, number: int) -> Level:
        if self.canvas.padded and number >= self.single_tile_level:
            return self._padded_level(number)
        times = self.downscale_exponent(number)
        width, height = self.canvas.halved_size(times)
        inset = basis = Region(0, 0, width, height)
        if number > 0:
            smaller = self.canvas.halved_size(times + 1)
            # If the canvas rounds down, a last odd column or row is not halved.
            basis = Region(0, 0, min(width, 2 * smaller[0]), min(height, 2 * smaller[1]))
        if self.canvas.edge == "fill":
            width, height = (-(-side // self.tile_size) * self.tile_size for side in inset[2:])
        frame = Region(0, 0, width, height)
        return Level(number, width, height, self.tile_size, self.overlap, 0, 0, inset, basis, frame)

    def _padded_level(self, number: int) -> Level:
        """A level of the padded canvas: the tiles that touch the image, or all."""
        times = self.downscale_exponent(number)
        cols, rows = self._covered_tiles(times)
        size = self.tile_size
        if times == 0:
            x, y, width, height = self.canvas.placement
        else:
            larger = self._covered_tiles(times - 1)
            x, y = (span.start * size // 2 for span in larger)
            width, height = (len(span) * size // 2 for span in larger)
        inset = Region(x - cols.start * size, y - rows.start * size, width, height)
        raster = Region(0, 0, len(cols) * size, len(rows) * size)
        return Level(
            number,
            *raster[2:],
            size,
            self.overlap,
            cols.start,
            rows.start,
            inset,
            basis=raster,
            frame=raster,
        )

    def _covered_tiles(self, times: int) -> tuple[range, range]:
        """Columns and rows of the canvas' wanted tiles, after a number of halvings."""
        if self.canvas.cover == "canvas":
            count = self.canvas.halved_size(times)[0] // self.tile_size
            return range(count), range(count)
        image = self.canvas.placement
        unit = self.tile_size << times  # a tile's side, in pixels of the full size
        return (
            range(image.x // unit, -(-image.right // unit)),
            range(image.y // unit, -(-image.bottom // unit)),
        )


def describe_geometry(pyramid: Pyramid) -> dict[str, Any]:
    """A pyramid's numbers for viewers in a browser, as JSON can hold them.

    `levels` has the stored ones, the smallest first: columns and rows of tiles, column and row of
    the first tile on the canvas, and width and height in pixels. All else is in pixels of the
    largest stored level.
    """
    times = pyramid.downscale_exponent(pyramid.stored_range[-1])
    width, height = pyramid.size
    canvas: list[int] = [width, height]
    place: list[float] = [0, 0, width, height]
    if pyramid.canvas.padded:
        canvas = list(pyramid.canvas.halved_size(times))
        unit: int = 1 << times  # the image may begin and end within a pixel of a smaller level
        place = [side / unit if side % unit else side // unit for side in pyramid.canvas.placement]
    return {
        "width": width,
        "height": height,
        "canvas": canvas,
        "place": place,
        "tileSize": pyramid.tile_size,
        "overlap": pyramid.overlap,
        "levels": [
            [
                *(level.cols, level.rows, level.first_col, level.first_row),
                *(level.width, level.height),
            ]
            for level in pyramid.stored_levels
        ],
    }
