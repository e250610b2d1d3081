"""Images whose stored rows do not lie as they are to be seen: EXIF's eight orientations.

The numbers are those of the Orientation tag (TIFF 6.0, Exif 2.3): 1 as stored, 2 mirrored,
3 turned by 180°, 4 upside down mirrored, 5 mirrored along the diagonal, 6 to be turned clockwise,
7 mirrored along the other diagonal, 8 to be turned counter-clockwise.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fasttile.abc.source import Source
from fasttile.errors import TruncatedError
from fasttile.geometry import Region
from fasttile.kernels import luma
from fasttile.sources.arrays import ArraySource
from fasttile.sources.conversions import Croppable, crop
from fasttile.storage.memory import PixelBuffer
from fasttile.types import Colour, Pixels

_TRANSPOSED_ROWS = 256  # of an image that is turned: each piece reads a bit of every stored row


class OrientedSource(Croppable):
    """Another source, as it is to be seen.

    Where that needs the last rows first, and the base can only be read in order, all of it is
    gathered when the first rows are asked for.

    Args:
        base: The stored pixels.
        orientation: 2 to 8.
    """

    def __init__(self, base: Source, orientation: int) -> None:
        self.name = base.name
        self.width, self.height = base.width, base.height
        if orientation >= 5:
            self.width, self.height = base.height, base.width
            self.preferred_rows = _TRANSPOSED_ROWS
        else:
            self.preferred_rows = base.preferred_rows if orientation == 2 else 64
        self.bands, self.dtype, self.is_cmyk = base.bands, base.dtype, base.is_cmyk
        self.metadata, self.memory_bytes = base.metadata, base.memory_bytes
        self.random_access = base.random_access or orientation > 2
        if self.random_access and not base.random_access:
            self.memory_bytes += _pixel_bytes_of(base)
        self._base = base
        self._orientation = orientation
        self._buffer: Pixels = np.empty((0, self.width, self.bands), self.dtype)

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1; valid until the next call."""
        if len(self._buffer) < y1 - y0:
            self._buffer = np.empty((y1 - y0, self.width, self.bands), self.dtype)
        out = self._buffer[: y1 - y0]
        self.read(y0, out)
        return out

    def read(self, y0: int, out: Pixels) -> None:
        """Write the rows from y0 on into out, each pixel to its place."""
        if self.random_access and not self._base.random_access:
            self._base = read_fully(self._base)
        box = self._stored_region(Region(0, y0, self.width, len(out)))
        if self._orientation >= 5:
            part = crop(self._base, box)  # never closed, as it would close the base
            stored = part.rows(0, box.height)
        else:
            stored = self._base.rows(box.y, box.bottom)
        if self._base.is_mapped:
            self._base.populate(stored)
        np.copyto(out, orient_pixels(stored, self._orientation))
        if self._base.is_mapped:
            self._base.discard(stored)

    def crop(self, region: Region) -> Source:
        """Turns the region's pixels only."""
        return OrientedSource(crop(self._base, self._stored_region(region)), self._orientation)

    def close(self) -> None:
        """Close the base."""
        self._base.close()

    def _stored_region(self, region: Region) -> Region:
        """Where in the base a region lies."""
        x, y, width, height = region
        if self._orientation >= 5:
            x, y, width, height = y, x, height, width
        if self._orientation in (2, 3, 7, 8):
            x = self._base.width - x - width
        if self._orientation in (3, 4, 6, 7):
            y = self._base.height - y - height
        return Region(x, y, width, height)


def orient_pixels(stored: Pixels, orientation: int) -> Pixels:
    """Stored pixels as they are to be seen, as a view.

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
    """The source as its metadata say that it is to be seen; it is taken over."""
    orientation = source.metadata.orientation
    if orientation == 1:
        return source
    result = OrientedSource(source, orientation)
    note = f"turned as its orientation {orientation} says"
    result.metadata = replace(source.metadata, notes=(*source.metadata.notes, note))
    return result


def read_fully(source: Source) -> Source:
    """All of a source in memory, or, where that is scarce, in a file; the source is closed.

    Raises:
        SourceError: It cannot be read, or there is no room for it.
    """
    shape = (source.height, source.width, source.bands)
    room = PixelBuffer(_pixel_bytes_of(source), source.name)
    pixels = room.bytes.view(source.dtype).reshape(shape)
    with source:
        step = source.preferred_rows
        for y in range(0, source.height, step):
            source.read(y, pixels[y : y + step])
    whole = ArraySource(pixels, source.name, source.metadata)
    whole.is_cmyk, whole.memory_bytes = source.is_cmyk, _pixel_bytes_of(source)
    return whole


def _pixel_bytes_of(source: Source) -> int:
    return source.height * source.width * source.bands * source.dtype.itemsize


# Damaged images: what is there, and background below it.


class FilledSource(Source):
    """Another source whose missing rows are background: transparent where it has alpha."""

    def __init__(self, base: Source, background: Colour) -> None:
        self.name, self.metadata = base.name, base.metadata
        self.width, self.height = base.width, base.height
        self.bands, self.dtype, self.is_cmyk = base.bands, base.dtype, base.is_cmyk
        self.preferred_rows, self.memory_bytes = base.preferred_rows, base.memory_bytes
        self._base = base
        self._available_rows = base.height
        self._fill_pixel = background_pixel(background, base)
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
            there = min(len(out), max(0, self._available_rows - y0))
            try:
                if there:
                    self._base.read(y0, out[:there])
                break
            except TruncatedError as damage:
                if damage.rows >= y0 + there:
                    raise
                self._available_rows = damage.rows
                self.metadata.warnings.append(
                    f"only {self._available_rows} of {self.height} rows are there, the rest is background"
                )
        out[there:] = self._fill_pixel

    def close(self) -> None:
        """Close the base."""
        self._base.close()


def background_pixel(background: Colour, source: Source) -> Pixels:
    """The pixel of a source that is background, shape (bands,): nothing, where it has alpha."""
    if source.has_alpha:
        return np.zeros(source.bands, source.dtype)
    if source.is_cmyk:
        red, green, blue = background
        return np.array([255 - red, 255 - green, 255 - blue, 0], source.dtype)
    colour = [luma(background)] if source.bands == 1 else list(background)
    if source.dtype == np.uint16:
        colour = [257 * value for value in colour]
    return np.array(colour, source.dtype)
