"""Pixels that lie in memory as an array, be it the process's own or a mapped file's."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError
from .base import Metadata, Pixels, Source
from .convert import Converted
from .mapping import MappedMemory, Pages, PictureFile
from .pixels import as_stored, from_bool
from .rawformat import RawFormat


class ArraySource(Source):
    """A source over an array of shape (height, width, bands); its rows are views.

    Args:
        pixels: The array; numbers or bool. Strides and byte order may be any, but then
            `prepared` has to make of the source what `Source` promises.
        name, metadata: As in `Source`.
        pages: Who brings the memory of a mapped file and lets it go, if there is one.
    """

    mapped = any_order = True

    def __init__(
        self, pixels: NDArray[Any], name: str, metadata: Metadata, pages: Pages | None = None
    ) -> None:
        self.name = name
        self.height, self.width, self.bands = pixels.shape
        self.dtype = pixels.dtype
        self.metadata = metadata
        self._pixels = pixels
        self._pages = pages

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, as a view."""
        return self._pixels[y0:y1]

    def bring(self, view: Pixels) -> None:
        """Fault in what a mapped file has under the view."""
        if self._pages is not None:
            self._pages.bring(view)

    def let_go(self, view: Pixels) -> None:
        """Drop what a mapped file has under the view."""
        if self._pages is not None:
            self._pages.let_go(view)

    def close(self) -> None:
        """Forget the array; close the file under it."""
        # First of all the view, because a map that is viewed cannot be closed.
        self._pixels = np.empty((0, self.width, self.bands), self.dtype)
        if self._pages is not None:
            self._pages.close()


class _MemmapPages:
    """The pages under somebody else's np.memmap, which stays theirs to close."""

    def __init__(self, array: np.memmap[Any, Any], name: str) -> None:
        self._memory = MappedMemory(array._mmap, name)  # type: ignore[attr-defined]
        # A private copy ("c") may hold changes that exist nowhere else.
        self._droppable = array.mode != "c"

    def bring(self, view: Pixels) -> None:
        self._memory.bring(view)

    def let_go(self, view: Pixels) -> None:
        if self._droppable:
            self._memory.let_go(view)

    def close(self) -> None:
        pass


def prepared(source: Source) -> Source:
    """The source itself if its rows are as `Source` promises, else with each strip copied so."""
    view = source.rows(0, 1)
    if source.dtype == np.bool_:
        return Converted(source, from_bool(source.bands))
    if source.dtype.isnative and view[0].flags.c_contiguous:
        return source
    return Converted(source, as_stored(source.bands, source.dtype))


def open_array(array: NDArray[Any], name: str = "array", format_name: str = "array") -> Source:
    """A source over an array of shape (h, w) or (h, w, bands), without a copy where it can be.

    Raises:
        SourceError: The shape or the dtype is not that of a picture.
    """
    check_picture(array.shape, array.dtype, name)
    pixels = np.asarray(array)
    if pixels.ndim == 2:
        pixels = pixels.reshape(*pixels.shape, 1)  # never a copy, whatever the strides
    memmap = _memmap_under(array)
    pages = None if memmap is None else _MemmapPages(memmap, name)
    return prepared(ArraySource(pixels, name, Metadata(format_name), pages))


def open_raster(
    file: PictureFile,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    offset: int,
    metadata: Metadata,
    *,
    stride: int | None = None,
    bottom_up: bool = False,
) -> ArraySource:
    """A source over pixels that lie in a file row by row, as they are stored.

    Args:
        file: It belongs to the source from now on.
        shape: (h, w) or (h, w, bands).
        dtype: As stored.
        offset: Where the file's first row begins, in bytes.
        metadata: As in `Source`.
        stride: Bytes from one row to the next; default: rows follow each other closely.
        bottom_up: Whether the file's first row is the picture's last.

    Raises:
        SourceError: The shape or dtype will not do, or the file is too small for it.
    """
    check_picture(shape, dtype, file.name)
    rows, width, bands = (*shape, 1)[:3]
    row_bytes = width * bands * dtype.itemsize
    pixels = file.view(offset, (rows, width, bands), dtype, stride or row_bytes)
    return ArraySource(pixels[::-1] if bottom_up else pixels, file.name, metadata, file)


def open_raw(file: PictureFile, raw: RawFormat) -> Source:
    """A source over a file without a header.

    Raises:
        SourceError: The file is too small for the format.
    """
    shape = (raw.height, raw.width, raw.bands)
    dtype = np.dtype(raw.sample)
    return prepared(open_raster(file, shape, dtype, raw.offset, Metadata("raw")))


def check_picture(shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> None:
    """Check that an array of this shape and dtype is a picture.

    Raises:
        SourceError: It is not; the message names what is wrong and what would do.
    """
    if len(shape) not in (2, 3) or not 1 <= (*shape, 1)[2] <= 4:
        raise SourceError(
            f"{name}: shape {tuple(shape)} is not that of a picture: "
            "(height, width) or (height, width, 1 to 4 bands) would do"
        )
    if min(shape) < 1:
        raise SourceError(f"{name}: shape {tuple(shape)} has no pixels")
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise SourceError(
            f"{name}: dtype {dtype} is not that of a picture: whole numbers, floats of at most "
            "64 bits, or bool would do"
        )


def _memmap_under(array: NDArray[Any]) -> np.memmap[Any, Any] | None:
    """The np.memmap whose pages an array shows, however many views lie between."""
    under: object = array
    while isinstance(under, np.ndarray):
        # What was computed from a memmap is one too by its type, but has no map.
        if isinstance(under, np.memmap) and isinstance(getattr(under, "_mmap", None), mmap.mmap):
            return under
        under = under.base
    return None
