"""What a tile's pixels have to be: the pyramid by NumPy, only as much of it as a tile needs.

The rule is Deep Zoom's 2×2 box: `(a + b + c + d + 2) >> 2`, a last odd row or column repeated.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dzi import Box, Pyramid

Raster = NDArray[np.uint8]

MAX_LOCAL_EXPONENT = 4
"""Up to this number of levels below full size a tile is computed from its own piece of the source;
further down from one raster that is kept. Aligned blocks halve as the whole image does."""

REDUCED_BLOCK_ROWS = 64 << MAX_LOCAL_EXPONENT
"""Rows of the source that are halved at a time for that raster, to bound memory."""


class Oracle:
    """Gives any region of any level of a pyramid.

    Args:
        source: The image, shape (height, width, bands); a memory map will do.
        pyramid: Its pyramid.
    """

    def __init__(self, source: Raster, pyramid: Pyramid) -> None:
        self.source = source
        self.pyramid = pyramid
        self._rasters = {MAX_LOCAL_EXPONENT: self._reduced_raster()}

    def pixels(self, level: int, box: Box) -> Raster:
        """The pixels of a region of a level, shape (rows, columns, bands)."""
        halvings = self.pyramid.last_level - level
        if halvings < MAX_LOCAL_EXPONENT:
            return self._from_source(halvings, box)
        return self._raster(halvings)[box.top : box.bottom, box.left : box.right]

    def _from_source(self, downscale_exponent: int, box: Box) -> Raster:
        # Slices end at the image's edge by themselves; only there a side can be odd.
        left, top, right, bottom = (edge << downscale_exponent for edge in box)
        return _halve_times(self.source[top:bottom, left:right], downscale_exponent)

    def _reduced_raster(self) -> Raster:
        blocks = (
            _halve_times(self.source[top : top + REDUCED_BLOCK_ROWS], MAX_LOCAL_EXPONENT)
            for top in range(0, len(self.source), REDUCED_BLOCK_ROWS)
        )
        return np.concatenate([*blocks])

    def _raster(self, downscale_exponent: int) -> Raster:
        if downscale_exponent not in self._rasters:
            self._rasters[downscale_exponent] = halve(self._raster(downscale_exponent - 1))
        return self._rasters[downscale_exponent]


def halve(raster: Raster) -> Raster:
    """An image at half its size, rounding up."""
    height, width, _ = raster.shape
    if height % 2 or width % 2:
        raster = np.pad(raster, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    # Sums of four, 4 * 255 + 2, need more than 8 bits. Rows first: contiguous memory is faster.
    rows = np.add(raster[0::2], raster[1::2], dtype=np.uint16)
    total = rows[:, 0::2] + rows[:, 1::2]
    total += 2
    total >>= 2
    return total.astype(np.uint8)


def _halve_times(raster: Raster, times: int) -> Raster:
    for _ in range(times):
        raster = halve(raster)
    return raster


def open_source(path: Path) -> Raster:
    """An image as an array (height, width, bands): mapped where the file allows it."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        pixels = np.load(path, mmap_mode="r")
    elif suffix in (".tif", ".tiff"):
        import tifffile

        pixels = tifffile.memmap(path, mode="r")
    else:
        from pillow_tiles import open_image

        pixels = np.asarray(open_image(path))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]
