"""Images of pyvips, a program's own objects; fasttile does not need pyvips itself."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from fasttile.abc.source import Metadata, Source
from fasttile.errors import SourceError, one_line
from fasttile.types import Pixels

STRIP_BYTES = 2**22
"""Bytes of the strips that are computed at a time; a strip has at least 16 rows."""

_DTYPES = {
    "uchar": "u1",
    "char": "i1",
    "ushort": "u2",
    "short": "i2",
    "uint": "u4",
    "int": "i4",
    "float": "f4",
    "double": "f8",
}
"""NumPy's types of libvips' band formats; complex samples are no image."""

_PLAIN_SPACES = ("b-w", "srgb", "rgb", "rgb16", "grey16", "cmyk", "multiband", "histogram")
"""Interpretations whose samples can be shown as they are; others are colours to convert first."""

_DEFAULT_RESOLUTION = (1.0, 1.0)
"""Pixels per millimetre of an image whose resolution is unknown."""


class VipsSource(Source):
    """A source over a pyvips image, which is computed strip by strip, by libvips' threads.

    An image that was opened with access="sequential" is read once, from top to bottom, by one
    thread: libvips drops the lines that it has read when its threads end a strip.

    Args:
        image: The `pyvips.Image`; it stays the caller's.

    Raises:
        SourceError: Its bands, samples or colours are not those of an image.
    """

    def __init__(self, image: Any) -> None:
        self.name = "pyvips image"
        self.width, self.height, self.bands = image.width, image.height, image.bands
        if image.format not in _DTYPES or image.coding != "none" or not 1 <= image.bands <= 5:
            raise SourceError(
                f"{self.name}: {image.bands} bands of {image.format} (coding {image.coding}) are "
                "not an image; expected 1 to 4 bands of integers or floats"
            )
        self.is_cmyk = image.interpretation == "cmyk" and image.bands >= 4
        if image.interpretation not in _PLAIN_SPACES or (image.bands == 5 and not self.is_cmyk):
            raise SourceError(
                f"{self.name}: {image.bands} bands of {image.interpretation} cannot be shown; "
                "convert it first: image.colourspace('srgb')"
            )
        self.dtype = np.dtype(_DTYPES[image.format])
        fields = image.get_fields()
        is_set = (image.xres, image.yres) != _DEFAULT_RESOLUTION
        self.metadata = Metadata(
            "pyvips image",
            image.get("icc-profile-data") if "icc-profile-data" in fields else None,
            (25.4 * image.xres, 25.4 * image.yres) if is_set else None,
        )
        is_sequential = "vips-sequential" in fields and bool(image.get("vips-sequential"))
        self.random_access = not is_sequential
        row_bytes = self.width * self.bands * self.dtype.itemsize
        self.preferred_rows = max(16, STRIP_BYTES // row_bytes)
        self._image = image
        self._region: Any = None
        if is_sequential:
            pyvips: Any = sys.modules["pyvips"]  # of the caller
            self._region = pyvips.Region.new(image)

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, computed now."""
        try:
            if self._region is not None:
                strip = self._region.fetch(0, y0, self.width, y1 - y0)
            else:
                strip = self._image.crop(0, y0, self.width, y1 - y0).write_to_memory()
        except Exception as error:  # of pyvips, which this package does not import
            reason = one_line(error, 300)
            raise SourceError(
                f"{self.name}: rows {y0} to {y1 - 1} cannot be computed: {reason}"
            ) from error
        shape = (y1 - y0, self.width, self.bands)
        return np.frombuffer(strip, self.dtype).reshape(shape)

    def close(self) -> None:
        """Release the image, which stays the caller's."""
        self._image = self._region = None
