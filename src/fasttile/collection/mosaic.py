"""The tiles that pictures share: pasted cell by cell, encoded once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codec import Codec
from ..resample import Colour
from .morton import Grid

Pixels = NDArray[Any]

Write = Callable[[str, bytes], None]
"""Takes a tile: its name below the collection's folder, without an ending, and its bytes."""


@dataclass(frozen=True)
class Touched:
    """Which tiles are to be made anew.

    Args:
        grid: The levels, and how large tiles are.
        first: Cells from this number on change. Default: all tiles are made.
        lost: Level and number of tiles that are made although nothing of theirs changes.
    """

    grid: Grid
    first: int = 0
    lost: frozenset[tuple[int, int]] = frozenset()

    def touches(self, level: int, tile: int) -> bool:
        """Whether a tile is made anew."""
        return tile >= self.grid.tile(level, self.first) or (level, tile) in self.lost

    def levels(self, number: int) -> list[int]:
        """The levels, the largest first, at which the tile that holds a cell is made anew."""
        tile = self.grid.tile
        return [level for level in self.grid.levels if self.touches(level, tile(level, number))]

    def kept(self, numbers: Iterable[int]) -> set[tuple[int, int]]:
        """Level and number of the tiles with some of these cells on them that stay as they are."""
        numbers = list(numbers)
        return {
            (level, tile)
            for level in self.grid.levels
            for tile in {self.grid.tile(level, number) for number in numbers}
            if not self.touches(level, tile)
        }


@dataclass
class _Open:
    """A tile that is being filled."""

    number: int
    pixels: Pixels = field(repr=False)


class Mosaics:
    """Fills the tiles of all levels at once, in the order of the Morton curve.

    At every level a tile's cells are one run of numbers. So, as pictures come by their numbers,
    one tile a level is in memory, and is encoded, once, when the run has passed.

    Args:
        touched: Which tiles to make, and where cells lie.
        codec: How they are encoded.
        background: What is between the thumbnails.
        write: Where they go.

    Attributes:
        tiles, bytes: What has been written.
    """

    def __init__(self, touched: Touched, codec: Codec, background: Colour, write: Write) -> None:
        self._touched = touched
        self._grid = touched.grid
        self._encoder = codec.encoder(background)
        self._empty = np.empty((self._grid.tile_size, self._grid.tile_size, 3), np.uint8)
        self._empty[:] = background
        self._write = write
        self._open: dict[int, _Open] = {}
        self._last = -1
        self.tiles = self.bytes = 0

    def put(self, number: int, thumbnail: Callable[[int], Pixels]) -> None:
        """Take a picture; their numbers ascend.

        Args:
            number: Its cell.
            thumbnail: Gives its pixels at a level: RGB, at most 2^level a side. It is called for
                levels that are wanted, the largest first.
        """
        if number <= self._last:
            raise ValueError(f"cell {number} comes after cell {self._last}")
        self._last = number
        for level in self._touched.levels(number):
            pixels = thumbnail(level)
            height, width, _ = pixels.shape
            x, y = self._grid.offset(level, number)
            self._tile(level, number)[y : y + height, x : x + width] = pixels

    def finish(self) -> None:
        """Write what is still being filled."""
        for level in list(self._open):
            self._close(level)

    def _tile(self, level: int, number: int) -> Pixels:
        """The tile that holds a cell."""
        wanted = self._grid.tile(level, number)
        open_ = self._open.get(level)
        if open_ is None or open_.number != wanted:
            if open_ is not None:
                self._close(level)
            pixels = np.empty_like(self._empty) if open_ is None else open_.pixels
            np.copyto(pixels, self._empty)
            open_ = self._open[level] = _Open(wanted, pixels)
        return open_.pixels

    def _close(self, level: int) -> None:
        open_ = self._open.pop(level)
        data = self._encoder.encode(open_.pixels)
        assert data is not None  # no tile is unwanted
        self._write(self._grid.name(level, open_.number), data)
        self.tiles += 1
        self.bytes += len(data)
