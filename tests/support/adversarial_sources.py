"""Sources that use all that their side of the seam allows: what may be gone is garbage."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np

from fasttile.abc.source import Metadata, Source
from support.reference import Array

GARBAGE = 0xEE


class AdversarialSource(Source):
    """What the sources here have in common."""

    name = "test"
    metadata = Metadata("test")

    def __init__(self, pixels: Array) -> None:
        self.height, self.width, self.bands = pixels.shape
        self.dtype = pixels.dtype
        self._pixels = pixels


class StreamSource(AdversarialSource):
    """Gives each row once, from top to bottom, in a buffer that the next call spoils."""

    def __init__(self, pixels: Array, row_step: int) -> None:
        super().__init__(pixels)
        self.preferred_rows = row_step
        self.next_row = 0
        self._last_rows: Array | None = None

    def rows(self, y0: int, y1: int) -> Array:
        assert self.next_row <= y0 < y1 <= self.height
        assert y0 // self.preferred_rows == (y1 - 1) // self.preferred_rows, (
            "reaches over two steps"
        )
        self.next_row = y1
        if self._last_rows is not None:
            self._last_rows[:] = GARBAGE
        self._last_rows = self._pixels[y0:y1].copy()
        return self._last_rows


class MappedArraySource(AdversarialSource):
    """Has pixels only where they were populated and not yet released; elsewhere is garbage."""

    is_mapped = True

    def __init__(self, pixels: Array) -> None:
        super().__init__(pixels)
        self.visible_pixels = np.full_like(pixels, GARBAGE)
        self.populate_counts = np.zeros(pixels.shape[:2], int)
        self.max_populated_pixels = 0  # pixels that were there at a time
        self._lock = threading.Lock()

    def rows(self, y0: int, y1: int) -> Array:
        assert 0 <= y0 < y1 <= self.height
        rows = self.visible_pixels[y0:y1]
        rows.flags.writeable = False
        return rows

    def populate(self, view: Array) -> None:
        where = self._slices_of_view(view)
        with self._lock:
            self.populate_counts[where] += 1
            self.visible_pixels[where] = self._pixels[where]
            self.max_populated_pixels = max(
                self.max_populated_pixels, int((self.populate_counts > 0).sum())
            )

    def discard(self, view: Array) -> None:
        where = self._slices_of_view(view)
        with self._lock:
            assert (self.populate_counts[where] > 0).all(), "released rows that are not there"
            self.populate_counts[where] -= 1
            self.visible_pixels[self.populate_counts == 0] = GARBAGE

    def _slices_of_view(self, view: Array) -> tuple[slice, slice]:
        assert view.size
        start = (
            view.__array_interface__["data"][0] - self.visible_pixels.__array_interface__["data"][0]
        )
        y, x = divmod(start // (self.bands * view.itemsize), self.width)
        return np.s_[y : y + view.shape[0], x : x + view.shape[1]]


class LendingSource(StreamSource):
    """Lends rows, RGB in four bytes a pixel, and spoils all that nobody holds any more."""

    def __init__(self, pixels: Array, row_step: int = 7) -> None:
        super().__init__(pixels, row_step)
        self._lender = ArrayLender(pixels)

    @property
    def lent_requests(self) -> int:
        """How many requests are not given back."""
        return sum(self._lender.lent.values())

    def lender(self) -> ArrayLender:
        return self._lender


class ArrayLender:
    """The lender of `LendingSource`."""

    def __init__(self, pixels: Array) -> None:
        height, width, bands = pixels.shape
        self.bands = 4 if bands == 3 else bands
        self.lent: Counter[int] = Counter()
        self._pixels = pixels
        self._memory = np.full((height, width, self.bands), GARBAGE, pixels.dtype)
        self._last_start = self._end = 0

    def lend(self, y0: int, y1: int) -> Array:
        assert self._last_start <= y0 < y1 <= len(self._pixels)
        self._spoil(y0)
        bands = self._pixels.shape[2]
        self._memory[self._end : y1, :, :bands] = self._pixels[self._end : y1]
        self._memory[self._end : y1, :, bands:] = 255
        self._last_start, self._end = y0, max(self._end, y1)
        self.lent[y0] += 1
        rows = self._memory[y0:y1]
        rows.flags.writeable = False
        return rows

    def give_back(self, y0: int) -> None:
        assert self.lent[y0] > 0, "given back twice"
        self.lent[y0] -= 1
        self._spoil(self._last_start)

    def _spoil(self, y0: int) -> None:
        self._memory[: min([y0, *self.lent.elements()])] = GARBAGE
