"""Pictures whose stored rows do not lie as they are to be seen: EXIF's eight orientations.

The numbers are those of the Orientation tag (TIFF 6.0, Exif 2.3): 1 as stored, 2 mirrored,
3 turned by 180°, 4 upside down mirrored, 5 mirrored along the diagonal, 6 to be turned clockwise,
7 mirrored along the other diagonal, 8 to be turned counter-clockwise.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..geometry import Region
from .base import Pixels, Source
from .convert import Croppable, crop
from .raster import ArraySource
from .room import Room

_ROWS = 256  # of a picture that is turned: each piece reads a bit of every stored row


class Turned(Croppable):
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
            self.row_step = _ROWS
        else:
            self.row_step = base.row_step if orientation == 2 else 64
        self.bands, self.dtype, self.cmyk = base.bands, base.dtype, base.cmyk
        self.metadata, self.held = base.metadata, base.held
        self.any_order = base.any_order or orientation > 2
        if self.any_order and not base.any_order:
            self.held += _size(base)
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
        if self.any_order and not self._base.any_order:
            self._base = gathered(self._base)
        box = self._stored(Region(0, y0, self.width, len(out)))
        if self._orientation >= 5:
            part = crop(self._base, box)  # never closed, as it would close the base
            stored = part.rows(0, box.height)
        else:
            stored = self._base.rows(box.y, box.bottom)
        if self._base.mapped:
            self._base.bring(stored)
        np.copyto(out, turned(stored, self._orientation))
        if self._base.mapped:
            self._base.let_go(stored)

    def cropped(self, region: Region) -> Source:
        """Turns the region's pixels only."""
        return Turned(crop(self._base, self._stored(region)), self._orientation)

    def close(self) -> None:
        """Close the base."""
        self._base.close()

    def _stored(self, region: Region) -> Region:
        """Where in the base a region lies."""
        x, y, width, height = region
        if self._orientation >= 5:
            x, y, width, height = y, x, height, width
        if self._orientation in (2, 3, 7, 8):
            x = self._base.width - x - width
        if self._orientation in (3, 4, 6, 7):
            y = self._base.height - y - height
        return Region(x, y, width, height)


def turned(stored: Pixels, orientation: int) -> Pixels:
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


def oriented(source: Source) -> Source:
    """The source as its metadata say that it is to be seen; it is taken over."""
    orientation = source.metadata.orientation
    if orientation == 1:
        return source
    result = Turned(source, orientation)
    note = f"turned as its orientation {orientation} says"
    result.metadata = replace(source.metadata, notes=(*source.metadata.notes, note))
    return result


def gathered(source: Source) -> Source:
    """All of a source in memory, or, where that is scarce, in a file; the source is closed.

    Raises:
        SourceError: It cannot be read, or there is no room for it.
    """
    shape = (source.height, source.width, source.bands)
    room = Room(_size(source), source.name)
    pixels = room.bytes.view(source.dtype).reshape(shape)
    with source:
        step = source.row_step
        for y in range(0, source.height, step):
            source.read(y, pixels[y : y + step])
    whole = ArraySource(pixels, source.name, source.metadata)
    whole.cmyk, whole.held = source.cmyk, _size(source)
    return whole


def _size(source: Source) -> int:
    return source.height * source.width * source.bands * source.dtype.itemsize
