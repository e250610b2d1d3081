"""Which tiles show nothing, and so need not be stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .resample import Colour

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Blank:
    """What a tile looks like that shows nothing.

    Args:
        background: Red, green and blue, 0 to 255.
        threshold: By how much of 255 each pixel may differ from it in each band. Pixels that are
            no more opaque than that show nothing either.
    """

    background: Colour
    threshold: int = 0

    def test(self, mode: str, pixels: Pixels) -> Callable[[], bool]:
        """A function that tells whether packed pixels, as they stand at each call, are blank.

        Args:
            mode: Pillow's mode of the packed pixels.
            pixels: Shape (height, width, 1 or 4).
        """
        unit = 257 if pixels.dtype == np.uint16 else 1
        low, high = (
            np.array([unit * value for value in bound], pixels.dtype)
            for bound in self._bounds(mode, pixels.shape[2])
        )
        alpha = mode in ("LA", "RGBA")

        def blank(part: Pixels) -> bool:
            near = ((part >= low) & (part <= high)).all(axis=2)
            if alpha:
                near |= part[:, :, 3] <= self.threshold
            return bool(near.all())

        # Most tiles that show something show it in a corner or in the middle already.
        height, width, _ = pixels.shape
        look = pixels[:: max(1, height // 2), :: max(1, width // 2)]
        return lambda: blank(look) and blank(pixels)

    def _bounds(self, mode: str, bands: int) -> tuple[list[int], list[int]]:
        """The least and the largest value of each packed band that is still background."""
        colour = list(self.background) if mode in ("RGB", "RGBA") else [grey(self.background)] * 3
        values = colour[:bands]
        low = [max(0, value - self.threshold) for value in values]
        high = [min(255, value + self.threshold) for value in values]
        if bands == 4:  # alpha, or a byte that means nothing
            low, high = [*low, 0], [*high, 255]
        return low, high


def grey(colour: Colour) -> int:
    """A colour's grey, by ITU-R 601 in 16-bit fixed point, as Pillow has it."""
    red, green, blue = colour
    return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
