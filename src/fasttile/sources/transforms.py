"""Sources that orient an image, or fill the missing rows of a damaged one.

EXIF's orientations are the numbers of the tag Orientation (TIFF 6.0, Exif 2.3): 1 as stored,
2 mirrored, 3 rotated by 180°, 4 flipped, 5 transposed, 6 to be rotated clockwise, 7 transposed
along the other diagonal, 8 to be rotated counter-clockwise.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from fasttile.abc.source import BufferedWrapper, Source
from fasttile.errors import TruncatedError
from fasttile.geometry import Region
from fasttile.kernels import luma
from fasttile.options import opaque_colour
from fasttile.options.read import ReadOptions
from fasttile.sources.arrays import ArraySource
from fasttile.sources.conversions import ConvertedSource, Croppable, crop, opaque_alpha
from fasttile.storage.memory import PixelBuffer
from fasttile.types import Background, Colour, Pixels

_TRANSPOSED_ROWS = 256  # of a transposed image: each request reads a part of every stored row


class OrientedSource(BufferedWrapper, Croppable):
    """Another source with its rows in the order of display.

    If the last stored rows are needed first and the base can be read in order only, the first
    request reads all of it into memory.

    Args:
        base: The stored pixels.
        orientation: 2 to 8.
    """

    def __init__(self, base: Source, orientation: int) -> None:
        super().__init__(base)
        if orientation >= 5:
            self.width, self.height = base.height, base.width
            self.preferred_rows = _TRANSPOSED_ROWS
            self.preferred_cols = base.preferred_rows if base.preferred_cols else 0
        elif orientation != 2:
            self.preferred_rows = 64
        self.random_access = base.random_access or orientation > 2
        if self.random_access and not base.random_access:
            self.memory_bytes += pixel_bytes_of(base)
        self._orientation = orientation

    def read(self, y0: int, out: Pixels) -> None:
        """Write the rows from y0 on into out, each pixel to its place."""
        if self.random_access and not self._base.random_access:
            self._base = read_fully(self._base)
        box = self._stored_region(Region(0, y0, self.width, len(out)))
        if self._orientation >= 5:
            part = crop(self._base, box)  # never closed, as that closes the base
            stored = part.rows(0, box.height)
        else:
            stored = self._base.rows(box.y, box.bottom)
        if self._base.is_mapped:
            self._base.populate(stored)
        np.copyto(out, orient_pixels(stored, self._orientation))
        if self._base.is_mapped:
            self._base.discard(stored)

    def crop(self, region: Region) -> Source:
        """A source that orients only the pixels of the region."""
        return OrientedSource(crop(self._base, self._stored_region(region)), self._orientation)

    def _stored_region(self, region: Region) -> Region:
        """The region of the base that becomes a region of this source."""
        x, y, width, height = region
        if self._orientation >= 5:
            x, y, width, height = y, x, height, width
        if self._orientation in (2, 3, 7, 8):
            x = self._base.width - x - width
        if self._orientation in (3, 4, 6, 7):
            y = self._base.height - y - height
        return Region(x, y, width, height)


def orient_pixels(stored: Pixels, orientation: int) -> Pixels:
    """Orient stored pixels for display; the result is a view.

    Args:
        stored: Shape (height, width, bands).
        orientation: 1 to 8.
    """
    if orientation in (2, 3, 7, 8):
        stored = stored[:, ::-1]
    if orientation in (3, 4, 6, 7):
        stored = stored[::-1]
    return stored.swapaxes(0, 1) if orientation >= 5 else stored


def apply_orientation(source: Source) -> Source:
    """Orient a source as its metadata say; the result takes it over."""
    orientation = source.metadata.orientation
    if orientation == 1:
        return source
    result = OrientedSource(source, orientation)
    note = f"turned as its orientation {orientation} says"
    result.metadata = source.metadata.with_notes(note)
    if source.metadata.georeference is not None:
        metadata = result.metadata.with_notes("georeference left out: the image is turned")
        result.metadata = replace(metadata, georeference=None)
    return result


def read_fully(source: Source, *, close: bool = True) -> Source:
    """Read all of a source into memory, or a temporary file, and close it.

    Args:
        source: The source.
        close: False leaves it open.

    Raises:
        SourceError: The source cannot be read, or neither memory nor the disk can hold it.
    """
    shape = (source.height, source.width, source.bands)
    with source if close else nullcontext():
        buffer = PixelBuffer(pixel_bytes_of(source), source.name)
        pixels = buffer.bytes.view(source.dtype).reshape(shape)
        step = source.preferred_rows
        for y in range(0, source.height, step):
            source.read(y, pixels[y : y + step])
        source.check_intact()
    result = ArraySource(pixels, source.name, source.metadata)
    result.is_cmyk, result.memory_bytes = source.is_cmyk, pixel_bytes_of(source)
    return result


def pixel_bytes_of(source: Source) -> int:
    """Bytes of all pixels of a source."""
    return source.height * source.width * source.bands * source.dtype.itemsize


class FilledSource(BufferedWrapper):
    """Another source whose missing rows are background.

    Args:
        base: The source.
        background: The colour. If it has alpha, so has the result.
    """

    def __init__(self, base: Source, background: Background) -> None:
        is_opaque = not base.has_alpha and not base.channels
        if len(background) == 4 and is_opaque and base.dtype in (np.uint8, np.uint16):
            base = ConvertedSource(base, opaque_alpha(base.bands, base.dtype))
            base.is_cmyk = base.bands == 5
        super().__init__(base)
        self.random_access = False  # rows below a damaged one are not read again
        self._available_rows = base.height
        self._fill_pixel = background_pixel(background, base)

    def read(self, y0: int, out: Pixels) -> None:
        """Write the rows from y0 on into out, and fill those that are missing."""
        while True:
            count = min(len(out), max(0, self._available_rows - y0))
            try:
                if count:
                    self._base.read(y0, out[:count])
                break
            except TruncatedError as damage:
                if damage.rows >= y0 + count:
                    raise
                self._available_rows = damage.rows
                self.metadata.warnings.add(
                    f"only {damage.rows} of {self.height} rows are there, the rest is background"
                )
        out[count:] = self._fill_pixel


def fill_missing_rows(source: Source, read_options: ReadOptions) -> Source:
    """Make rows that cannot be decoded background, if the options allow it."""
    if not read_options.allow_truncated:
        return source
    return FilledSource(source, read_options.any_background)


def background_pixel(background: Background, source: Source) -> Pixels:
    """Background pixel of a source, shape (bands,).

    With alpha it is transparent, unless the background has alpha too. A background with alpha is
    laid on white for a source without. Channels are 0.
    """
    if source.channels:
        return np.zeros(source.bands, source.dtype)
    if not source.has_alpha:
        colour = opaque_colour(background)
        return colour_pixel(colour, source.bands, source.dtype, is_cmyk=source.is_cmyk)
    if len(background) == 3 or source.dtype not in (np.uint8, np.uint16):
        return np.zeros(source.bands, source.dtype)
    red, green, blue, alpha = background
    pixel = np.full(source.bands, alpha * (np.iinfo(source.dtype).max // 255), source.dtype)
    pixel[:-1] = colour_pixel(
        (red, green, blue), source.bands - 1, source.dtype, is_cmyk=source.is_cmyk
    )
    return pixel


def colour_pixel(colour: Colour, bands: int, dtype: np.dtype[Any], *, is_cmyk: bool) -> Pixels:
    """A colour as a pixel without alpha, shape (bands,), of uint8 or uint16.

    Of floats it is linear light; white is infinite, as it is white in any window.
    """
    values = [luma(colour)] if bands == 1 else list(colour)
    if is_cmyk:
        values = [*(255 - value for value in colour), 0]
    if dtype == np.uint16:
        values = [257 * value for value in values]
    if dtype.kind == "f":
        share = np.array(values) / 255
        light = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        return np.where(share == 1, np.inf, light).astype(dtype)
    return np.array(values, dtype)
