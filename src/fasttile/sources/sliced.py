"""Arrays that live elsewhere and are read by slices: zarr, h5py, dask and their like."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import SourceError
from ..geometry import Region
from .base import Metadata, Pixels, Source
from .convert import Converted, Croppable
from .pixels import from_bool
from .raster import check_picture

_ROWS = 64  # at least so many are read at a time, because each read has its price


class SlicedSource(Croppable):
    """A source over an object with shape, dtype and slices.

    It reads whole lines of chunks and keeps the last one, so that no chunk is decompressed
    twice, wherever the walk or a region begins.
    """

    any_order = True

    def __init__(self, array: Any, name: str, region: Region | None = None) -> None:
        self.name = name
        height, width, self.bands = (*array.shape, 1)[:3]
        self._array = array
        self._region = region or Region(0, 0, width, height)
        self._bottom = height
        self.width, self.height = self._region.width, self._region.height
        self.dtype = np.dtype(array.dtype).newbyteorder("=")
        self.metadata = Metadata(name)
        self.row_step = _line_height(array)
        self._line_number = -1
        self._line: Pixels = np.empty((0, self.width, self.bands), self.dtype)

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, a view where they lie in one line of chunks."""
        step = self.row_step
        top, bottom = self._region.y + y0, self._region.y + y1
        parts = []
        for number in range(top // step, -(-bottom // step)):
            first = number * step
            line = self._read_line(number)
            parts.append(line[max(0, top - first) : bottom - first])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def cropped(self, region: Region) -> Source:
        """Reads the region's columns only."""
        x, y = self._region.x + region.x, self._region.y + region.y
        inner = Region(x, y, region.width, region.height)
        return SlicedSource(self._array, self.name, inner)

    def close(self) -> None:
        """Forget what was read; the array stays its owner's to close."""
        self._line_number, self._line = -1, self._line[:0]

    def _read_line(self, number: int) -> Pixels:
        if number != self._line_number:
            # Forgotten first, so that two lines are never held at once.
            self._line_number, self._line = -1, self._line[:0]
            self._line = self._read(
                number * self.row_step, min(self._bottom, (number + 1) * self.row_step)
            )
            self._line_number = number
        return self._line

    def _read(self, y0: int, y1: int) -> Pixels:
        region = self._region
        try:
            piece = np.asarray(self._array[y0:y1, region.x : region.right])
        except Exception as error:
            raise SourceError(
                f"{self.name}: rows {y0} to {y1 - 1} cannot be read: {error}"
            ) from error
        if piece.shape[:2] != (y1 - y0, region.width) or piece.size != (
            (y1 - y0) * region.width * self.bands
        ):
            raise SourceError(f"{self.name}: rows {y0} to {y1 - 1} came with shape {piece.shape}")
        shaped = piece.reshape(y1 - y0, region.width, self.bands)
        return np.ascontiguousarray(shaped, self.dtype)


def open_sliced(array: Any, name: str) -> Source:
    """A source over an object with shape, dtype and slices.

    Raises:
        SourceError: The shape or the dtype is not that of a picture.
    """
    try:
        shape = tuple(int(side) for side in array.shape)
        dtype = np.dtype(array.dtype)
    except (TypeError, ValueError) as error:
        raise SourceError(f"{name}: its shape or dtype is not an array's: {error}") from error
    check_picture(shape, dtype, name)
    source = SlicedSource(array, name)
    return Converted(source, from_bool(source.bands)) if dtype == np.bool_ else source


def _line_height(array: Any) -> int:
    """The rows of a chunk, as often as it takes to make a read worth its price."""
    chunk: Any = getattr(array, "chunks", None)
    while isinstance(chunk, tuple | list) and chunk:
        chunk = chunk[0]  # zarr and h5py tell one number for an axis, dask one for each chunk
    height = chunk if isinstance(chunk, int) and chunk > 0 else 1
    return height * -(-_ROWS // height)
