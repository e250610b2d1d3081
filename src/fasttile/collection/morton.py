"""Where thumbnails lie: cells along a Morton curve, and the tiles that share them. Integers only.

Source: Microsoft's Deep Zoom file format overview of 2008. At level L a cell is a square of 2^L
pixels; cell N lies in the column that the even bits of N spell and the row of its odd bits. So a
tile holds one unbroken run of numbers, at every level, and is itself numbered along the same curve.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import OptionError

LARGEST_TILE = 4096
"""The largest side of a shared tile, in pixels: one of each level is in memory at a time."""


def cell(number: int) -> tuple[int, int]:
    """Column and row of a number on the Morton curve.

    Example:
        >>> [cell(number) for number in range(5)]
        [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0)]
    """
    col = row = bit = 0
    while number:
        col |= (number & 1) << bit
        row |= (number >> 1 & 1) << bit
        number >>= 2
        bit += 1
    return col, row


def number_of(col: int, row: int) -> int:
    """The number of a cell: the inverse of `cell`."""
    number = bit = 0
    while col >> bit or row >> bit:
        number |= (col >> bit & 1) << 2 * bit | (row >> bit & 1) << (2 * bit + 1)
        bit += 1
    return number


@dataclass(frozen=True)
class Grid:
    """The levels of a collection and the tiles that they consist of.

    Args:
        max_level: The largest level, whose cells are 2^max_level pixels wide and high.
        tile_size: Side of a tile in pixels, a power of two, at least one cell of that level.

    Raises:
        OptionError: One of them is out of range.

    Example:
        >>> grid = Grid(max_level=7, tile_size=256)
        >>> grid.capacity(7), grid.tile(7, 6), grid.offset(7, 6)
        (4, 1, (0, 128))
    """

    max_level: int
    tile_size: int

    def __post_init__(self) -> None:
        size = self.tile_size
        if not 1 <= size <= LARGEST_TILE or size & (size - 1):
            raise OptionError(
                f"tile size {size} of a collection is not a power of two up to {LARGEST_TILE}: "
                "128, 256 or 512 would do"
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
        """How many cells a tile has."""
        return 1 << self._shift(level)

    def tile(self, level: int, number: int) -> int:
        """The number, on the Morton curve too, of the tile that a cell lies on."""
        return number >> self._shift(level)

    def offset(self, level: int, number: int) -> tuple[int, int]:
        """Left and top of a cell on its tile, in pixels."""
        col, row = cell(number & (self.capacity(level) - 1))
        return col << level, row << level

    def name(self, level: int, tile: int) -> str:
        """Where a tile lives below the collection's folder, without a file ending."""
        col, row = cell(tile)
        return f"{level}/{col}_{row}"

    def _shift(self, level: int) -> int:
        return 2 * (self._tile_level - level)
