"""Sources over other sources: their pixels converted, or a region cut out of them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import numpy as np

from ..errors import OptionError
from ..geometry import Region
from .base import Pixels, Source
from .pixels import Conversion

_PIECE = 1 << 16  # samples; that many are converted at a time, so that they stay in the cache


class Croppable(Source):
    """A source that can leave out the work for what lies outside a region."""

    @abstractmethod
    def cropped(self, region: Region) -> Source:
        """A source of that region only, which must lie within this one; it takes this one over."""


class Cropped(Source):
    """A region of another source, without a copy."""

    def __init__(self, base: Source, region: Region) -> None:
        self.name = base.name
        self.width, self.height = region.width, region.height
        self.bands, self.dtype, self.cmyk = base.bands, base.dtype, base.cmyk
        self.metadata = base.metadata
        self.mapped, self.any_order = base.mapped, base.any_order
        self.row_step, self.held = base.row_step, base.held
        self._base = base
        self._region = region

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows of the region, as a view into the base's rows."""
        region = self._region
        return self._base.rows(region.y + y0, region.y + y1)[:, region.x : region.right]

    def bring(self, view: Pixels) -> None:
        """Fault in what the base has under the view."""
        self._base.bring(view)

    def let_go(self, view: Pixels) -> None:
        """Drop what the base has under the view."""
        self._base.let_go(view)

    def close(self) -> None:
        """Close the base."""
        self._base.close()


class Converted(Croppable):
    """Another source with each pixel converted, into one buffer that each call reuses.

    If the base is mapped, its pages are brought in before and let go after each conversion.
    """

    def __init__(self, base: Source, conversion: Conversion) -> None:
        self.name = base.name
        self.width, self.height = base.width, base.height
        self.bands, self.dtype = conversion.bands, conversion.dtype
        self.metadata = base.metadata
        if conversion.note is not None:
            self.metadata = replace(base.metadata, notes=(*base.metadata.notes, conversion.note))
        self.row_step, self.held = base.row_step, base.held
        self.cmyk = base.cmyk and conversion.bands == 4
        self.any_order = base.any_order
        self._base = base
        self._conversion = conversion
        self._buffer: Pixels = np.empty((0, self.width, self.bands), self.dtype)

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, converted; valid until the next call."""
        out = self._room(y1 - y0)
        self.read(y0, out)
        return out

    def read(self, y0: int, out: Pixels) -> None:
        """Convert the rows from y0 on, right to where they are wanted."""
        stored = self._base.rows(y0, y0 + len(out))
        if self._base.mapped:
            self._base.bring(stored)
        step = max(1, _PIECE // (self.width * max(self.bands, self._base.bands)))
        if self._conversion.at_once:
            step = len(out)
        for y in range(0, len(out), step):
            self._conversion.write(stored[y : y + step], out[y : y + step])
        if self._base.mapped:
            self._base.let_go(stored)

    def cropped(self, region: Region) -> Source:
        """Converts the region's pixels only."""
        smaller = Converted(crop(self._base, region), self._conversion)
        smaller.metadata = self.metadata
        return smaller

    def close(self) -> None:
        """Close the base."""
        self._base.close()

    def _room(self, rows: int) -> Pixels:
        if len(self._buffer) < rows:
            self._buffer = np.empty((rows, self.width, self.bands), self.dtype)
        return self._buffer[:rows]


def crop(source: Source, region: Region) -> Source:
    """A source of a region of another, which it takes over.

    Raises:
        OptionError: The region is empty or does not lie within the picture.
    """
    region = Region(*region)
    if region.width < 1 or region.height < 1:
        raise OptionError(f"region {tuple(region)} is empty: width and height must be at least 1")
    inside = region.x >= 0 and region.y >= 0
    if not inside or region.right > source.width or region.bottom > source.height:
        raise OptionError(
            f"region {tuple(region)} does not lie within {source.name}, "
            f"which has {source.width}×{source.height} pixels"
        )
    if isinstance(source, Croppable):
        return source.cropped(region)
    return Cropped(source, region)
