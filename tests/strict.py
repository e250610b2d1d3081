"""Sources that use all that their side of the seam allows: what may be gone is garbage."""

from __future__ import annotations

import threading

import numpy as np

from fasttile.sources.base import Metadata, Source
from reference import Array

GARBAGE = 0xEE


class Picture(Source):
    """What the sources here have in common."""

    name = "test"
    metadata = Metadata("test")

    def __init__(self, pixels: Array) -> None:
        self.height, self.width, self.bands = pixels.shape
        self.dtype = pixels.dtype
        self._pixels = pixels


class Stream(Picture):
    """Gives each row once, from top to bottom, in a buffer that the next call spoils."""

    def __init__(self, pixels: Array, row_step: int) -> None:
        super().__init__(pixels)
        self.row_step = row_step
        self.next = 0
        self._given: Array | None = None

    def rows(self, y0: int, y1: int) -> Array:
        assert self.next <= y0 < y1 <= self.height
        assert y0 // self.row_step == (y1 - 1) // self.row_step, "reaches over two steps"
        self.next = y1
        if self._given is not None:
            self._given[:] = GARBAGE
        self._given = self._pixels[y0:y1].copy()
        return self._given


class Map(Picture):
    """Has pixels only where they were brought and not yet let go; elsewhere is garbage."""

    mapped = True

    def __init__(self, pixels: Array) -> None:
        super().__init__(pixels)
        self.shown = np.full_like(pixels, GARBAGE)
        self.present = np.zeros(pixels.shape[:2], int)
        self.most = 0  # pixels that were there at a time
        self._lock = threading.Lock()

    def rows(self, y0: int, y1: int) -> Array:
        assert 0 <= y0 < y1 <= self.height
        rows = self.shown[y0:y1]
        rows.flags.writeable = False
        return rows

    def bring(self, view: Array) -> None:
        where = self._where(view)
        with self._lock:
            self.present[where] += 1
            self.shown[where] = self._pixels[where]
            self.most = max(self.most, int((self.present > 0).sum()))

    def let_go(self, view: Array) -> None:
        where = self._where(view)
        with self._lock:
            assert (self.present[where] > 0).all(), "let go of what is not there"
            self.present[where] -= 1
            self.shown[self.present == 0] = GARBAGE

    def _where(self, view: Array) -> tuple[slice, slice]:
        assert view.size
        start = view.__array_interface__["data"][0] - self.shown.__array_interface__["data"][0]
        y, x = divmod(start // (self.bands * view.itemsize), self.width)
        return np.s_[y : y + view.shape[0], x : x + view.shape[1]]
