"""Damaged pictures: what is there, and background below it."""

from __future__ import annotations

import numpy as np

from ..errors import Damaged
from ..resample import Colour, luma
from .base import Pixels, Source


class Grounded(Source):
    """Another source whose missing rows are background: transparent where it has alpha."""

    def __init__(self, base: Source, background: Colour) -> None:
        self.name, self.metadata = base.name, base.metadata
        self.width, self.height = base.width, base.height
        self.bands, self.dtype, self.cmyk = base.bands, base.dtype, base.cmyk
        self.row_step, self.held = base.row_step, base.held
        self._base = base
        self._end = base.height
        self._pixel = background_pixel(background, base)
        self._buffer: Pixels = np.empty((0, self.width, self.bands), self.dtype)

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1; valid until the next call."""
        if len(self._buffer) < y1 - y0:
            self._buffer = np.empty((y1 - y0, self.width, self.bands), self.dtype)
        out = self._buffer[: y1 - y0]
        self.read(y0, out)
        return out

    def read(self, y0: int, out: Pixels) -> None:
        """Write the rows from y0 on into out, as far as they are there."""
        while True:
            there = min(len(out), max(0, self._end - y0))
            try:
                if there:
                    self._base.read(y0, out[:there])
                break
            except Damaged as damage:
                if damage.rows >= y0 + there:
                    raise
                self._end = damage.rows
                self.metadata.remarks.append(
                    f"only {self._end} of {self.height} rows are there, the rest is background"
                )
        out[there:] = self._pixel

    def close(self) -> None:
        """Close the base."""
        self._base.close()


def background_pixel(background: Colour, source: Source) -> Pixels:
    """The pixel of a source that is background, shape (bands,): nothing, where it has alpha."""
    if source.alpha:
        return np.zeros(source.bands, source.dtype)
    if source.cmyk:
        red, green, blue = background
        return np.array([255 - red, 255 - green, 255 - blue, 0], source.dtype)
    colour = [luma(background)] if source.bands == 1 else list(background)
    if source.dtype == np.uint16:
        colour = [257 * value for value in colour]
    return np.array(colour, source.dtype)
