"""How far a decoder has come that writes rows in order and does not tell: known, never guessed.

Rows are written one after the other, and only between two pieces of the file is anybody asked. So
it is enough to find, by halves, the first row that is not written. A row that differs from what
stood there before is written, and all above it too.
"""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.uint8]

MARK_BYTES = 32
"""Rows that have fewer bytes have no room for a mark."""

_HELD_BACK = 98  # rows; a JPEG decoder holds some back, and gives them with the next piece


class Written(Protocol):
    """Finds out which rows of some memory, all zero at first, are written.

    Attributes:
        lost: Whether nothing is known any more until the decoder is at its end.
    """

    lost: bool

    def expect(self, rows: int, most: int) -> None:
        """The first `rows` are known to be written, and at most so many bytes will be now."""

    def find(self, rows: int) -> int:
        """How many are known to be written now, at least `rows`."""

    def at_end(self) -> bool:
        """Whether the last row is written, as far as can be told once the decoder ended."""


class Padding:
    """For pixels whose last byte is padding, which decoders set to 255."""

    lost = False

    def __init__(self, pixels: Rows) -> None:
        self._padding = pixels[:, -1]

    def expect(self, rows: int, most: int) -> None:
        """Nothing has to be done: what is not written is 0."""

    def find(self, rows: int) -> int:
        """By steps that double, and then by halves; only rows that are near are touched."""
        padding, height = self._padding, len(self._padding)
        step = 8
        high = rows
        while high < height and padding[high]:
            rows = high + 1
            high = min(height, high + step)
            step *= 2
        while rows < high:
            middle = (rows + high) // 2
            if padding[middle]:
                rows = middle + 1
            else:
                high = middle
        return rows

    def at_end(self) -> bool:
        """Whether the last row is written."""
        return bool(self._padding[-1])


class Marks:
    """For any pixels: rows that are certainly not written yet end in a mark of 32 random bytes.

    A row without its mark is written. Should a picture ever hold the mark itself, its rows would
    be known later, never too early.
    """

    def __init__(self, pixels: Rows) -> None:
        self.lost = False
        self._mark = os.urandom(MARK_BYTES)
        self._ends = pixels[:, -MARK_BYTES:]
        self._row_bytes = pixels.shape[1]
        self._marked = 0

    def expect(self, rows: int, most: int) -> None:
        """Mark as many rows as might be filled."""
        end = min(len(self._ends), rows + most // self._row_bytes + _HELD_BACK)
        if end > self._marked and not self.lost:
            self._ends[self._marked : end] = np.frombuffer(self._mark, np.uint8)
            self._marked = end

    def find(self, rows: int) -> int:
        """The first row with its mark."""
        if self.lost:
            return rows
        low, high = rows, self._marked
        while low < high:
            middle = (low + high) // 2
            if self._ends[middle].tobytes() == self._mark:
                high = middle
            else:
                low = middle + 1
        if low == self._marked < len(self._ends):
            # More rows than any decoder was thought to give at a time: there may be rows without a
            # mark that are not written. From here on nothing is known until the end.
            self.lost = True
            return rows
        return low

    def at_end(self) -> bool:
        """Whether the last row is written."""
        if self._marked == len(self._ends):
            return bool(self._ends[-1].tobytes() != self._mark)
        return self.lost or bool(self._ends[-1].any())
