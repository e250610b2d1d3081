"""Shared tiles of a collection: the grid of thumbnails, and the writer of its tiles.

Source: Microsoft's Deep Zoom file format overview of 2008. At level L a cell is a square of 2^L
pixels; the even bits of the cell number N are its column, the odd bits its row: a Morton curve. So
at every level a tile holds a run of consecutive numbers, and its own number is on the same curve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from fasttile.encode.codecs import Codec
from fasttile.encode.encoder import make_encoder
from fasttile.errors import OptionError
from fasttile.types import Colour, Pixels

TileCallback = Callable[[str, bytes], None]
"""Takes a tile: its name below the collection's folder, without extension, and its bytes."""


@dataclass(frozen=True)
class DirtyTiles:
    """The shared tiles that must be made again.

    Args:
        grid: The levels and the tile size.
        first_changed: Cells from this number on change. Default: 0, so that all tiles are made.
        missing: Level and number of tiles that are made although none of its cells changes.
    """

    grid: ThumbnailGrid
    first_changed: int = 0
    missing: frozenset[tuple[int, int]] = frozenset()

    def is_dirty(self, level: int, tile: int) -> bool:
        """True if a tile must be made again."""
        return (
            tile >= self.grid.tile_number(level, self.first_changed)
            or (level, tile) in self.missing
        )

    def dirty_levels(self, number: int) -> list[int]:
        """The levels, the largest first, at which the tile that holds a cell must be made."""
        tile = self.grid.tile_number
        return [level for level in self.grid.levels if self.is_dirty(level, tile(level, number))]

    def clean_tiles(self, numbers: Iterable[int]) -> set[tuple[int, int]]:
        """Level and number of the unchanged tiles that hold some of these cells."""
        numbers = list(numbers)
        return {
            (level, tile)
            for level in self.grid.levels
            for tile in {self.grid.tile_number(level, number) for number in numbers}
            if not self.is_dirty(level, tile)
        }


@dataclass
class _OpenTile:
    """A tile that is being filled."""

    number: int
    pixels: Pixels = field(repr=False)


class ThumbnailTileWriter:
    """Fills the tiles of all levels at once, in the order of the Morton curve.

    The images come in the order of their numbers, so one tile per level is in memory, and is
    encoded once, when the next one starts.

    Args:
        dirty_tiles: The tiles to make, and the grid.
        codec: The format of the tiles.
        background: The colour between the thumbnails.
        write: Called with each tile.

    Attributes:
        tiles, bytes: The number of written tiles, and of their bytes.
    """

    def __init__(
        self, dirty_tiles: DirtyTiles, codec: Codec, background: Colour, write: TileCallback
    ) -> None:
        self._dirty_tiles = dirty_tiles
        self._grid = dirty_tiles.grid
        self._encoder = make_encoder(codec, background)
        self._empty = np.empty((self._grid.tile_size, self._grid.tile_size, 3), np.uint8)
        self._empty[:] = background
        self._write = write
        self._open_tiles: dict[int, _OpenTile] = {}
        self._last = -1
        self.tiles = self.bytes = 0

    def put(self, number: int, thumbnail: Callable[[int], Pixels]) -> None:
        """Take an image; their numbers ascend.

        Args:
            number: Its cell.
            thumbnail: Returns its pixels at a level: RGB, at most 2^level a side. It is called for
                the levels to make, the largest first.
        """
        if number <= self._last:
            raise ValueError(f"cell {number} comes after cell {self._last}")
        self._last = number
        for level in self._dirty_tiles.dirty_levels(number):
            pixels = thumbnail(level)
            height, width, _ = pixels.shape
            x, y = self._grid.cell_offset(level, number)
            tile = self._grid.tile_number(level, number)
            open_ = self._open_tiles.get(level)
            if open_ is None or open_.number != tile:
                if open_ is not None:
                    self._write_tile(level)
                canvas = np.empty_like(self._empty) if open_ is None else open_.pixels
                np.copyto(canvas, self._empty)
                open_ = self._open_tiles[level] = _OpenTile(tile, canvas)
            open_.pixels[y : y + height, x : x + width] = pixels

    def finish(self) -> None:
        """Write the tiles in memory."""
        for level in list(self._open_tiles):
            self._write_tile(level)

    def _write_tile(self, level: int) -> None:
        open_ = self._open_tiles.pop(level)
        data = self._encoder.encode(open_.pixels)
        assert data is not None  # no tile is left out as blank
        self._write(self._grid.tile_name(level, open_.number), data)
        self.tiles += 1
        self.bytes += len(data)


MAX_SHARED_TILE_SIZE = 4096
"""The largest side of a shared tile, in pixels: one of each level is in memory at a time."""


def cell_position(number: int) -> tuple[int, int]:
    """Column and row of a number on the Morton curve.

    Example:
        >>> [cell_position(number) for number in range(5)]
        [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0)]
    """
    col = row = bit = 0
    while number:
        col |= (number & 1) << bit
        row |= (number >> 1 & 1) << bit
        number >>= 2
        bit += 1
    return col, row


def cell_number(col: int, row: int) -> int:
    """The number of a cell: the inverse of `cell_position`."""
    number = bit = 0
    while col >> bit or row >> bit:
        number |= (col >> bit & 1) << 2 * bit | (row >> bit & 1) << (2 * bit + 1)
        bit += 1
    return number


@dataclass(frozen=True)
class ThumbnailGrid:
    """The levels of a collection and the tiles that they consist of.

    Args:
        max_level: The largest level, whose cells are 2^max_level pixels wide and high.
        tile_size: Side of a tile in pixels, a power of two, at least one cell of that level.

    Raises:
        OptionError: One of them is out of range.

    Example:
        >>> grid = ThumbnailGrid(max_level=7, tile_size=256)
        >>> grid.capacity(7), grid.tile_number(7, 6), grid.cell_offset(7, 6)
        (4, 1, (0, 128))
    """

    max_level: int
    tile_size: int

    def __post_init__(self) -> None:
        size = self.tile_size
        if not 1 <= size <= MAX_SHARED_TILE_SIZE or size & (size - 1):
            raise OptionError(
                f"tile size {size} of a collection is not a power of two up to "
                f"{MAX_SHARED_TILE_SIZE}; expected 128, 256 or 512"
            )
        if not 0 <= self.max_level <= self._tile_level:
            raise OptionError(
                f"max level {self.max_level} is not between 0 and {self._tile_level}, where a "
                f"thumbnail fills a tile of {size} pixels"
            )

    @property
    def _tile_level(self) -> int:
        """The level at which a cell is as large as a tile."""
        return self.tile_size.bit_length() - 1

    @property
    def levels(self) -> range:
        """The numbers of the levels, the largest first."""
        return range(self.max_level, -1, -1)

    def capacity(self, level: int) -> int:
        """The number of cells of a tile."""
        return 1 << self._shift(level)

    def tile_number(self, level: int, number: int) -> int:
        """The number, on the Morton curve too, of the tile that a cell lies on."""
        return number >> self._shift(level)

    def cell_offset(self, level: int, number: int) -> tuple[int, int]:
        """Left and top of a cell on its tile, in pixels."""
        col, row = cell_position(number & (self.capacity(level) - 1))
        return col << level, row << level

    def tile_name(self, level: int, tile: int) -> str:
        """The path of a tile below the collection's folder, without extension."""
        col, row = cell_position(tile)
        return f"{level}/{col}_{row}"

    def _shift(self, level: int) -> int:
        return 2 * (self._tile_level - level)
