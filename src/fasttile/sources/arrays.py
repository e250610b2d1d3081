"""Sources over arrays, mapped rasters, and other objects with slices."""

from __future__ import annotations

import math
import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

from fasttile.abc.source import Metadata, Source
from fasttile.errors import SourceError
from fasttile.geometry import Region
from fasttile.options.read import RawFormat
from fasttile.options.values import MAX_BAND
from fasttile.sources.conversions import ConvertedSource, Croppable, bool_to_uint8, native_order
from fasttile.storage.memory import MappedMemory, PageManager
from fasttile.storage.random_access import SourceFile
from fasttile.types import Pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_COLOUR_BANDS = 4
"""Bands of grey or RGB with alpha; others are channels of which some are picked."""

_MIN_ROWS = 64  # per read of a sliced array: each read has a fixed cost


class ArraySource(Source):
    """A source over an array (height, width, bands); its rows are views.

    Args:
        pixels: The array; numbers or bool. For other strides and byte orders than those of
            `Source`, use `as_native_contiguous`.
        name, metadata: As in `Source`.
        pages: Loads and drops the memory of a mapped file, if the array is one.
    """

    is_mapped = random_access = has_parallel_regions = True

    def __init__(
        self, pixels: NDArray[Any], name: str, metadata: Metadata, pages: PageManager | None = None
    ) -> None:
        self.name = name
        self.height, self.width, self.bands = pixels.shape
        self.dtype = pixels.dtype
        self.channels = self.bands if self.bands > MAX_COLOUR_BANDS else 0
        self.metadata = metadata
        self._pixels = pixels
        self._pages = pages

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, as a view."""
        return self._pixels[y0:y1]

    def populate(self, view: Pixels) -> None:
        """Fault in the pages of a mapped file under the view."""
        if self._pages is not None:
            self._pages.populate(view)

    def discard(self, view: Pixels) -> None:
        """Drop the pages of a mapped file under the view."""
        if self._pages is not None:
            self._pages.discard(view)

    def check_intact(self) -> None:
        """Check that the mapped file was not cut short."""
        if self._pages is not None:
            self._pages.check_intact()

    def close(self) -> None:
        """Release the array; close the file under it."""
        # The view first: a map that has views cannot be closed.
        self._pixels = np.empty((0, self.width, self.bands), self.dtype)
        if self._pages is not None:
            self._pages.close()


class _MemmapPages:
    """The pages under a caller's np.memmap, which the caller closes."""

    def __init__(self, array: np.memmap[Any, Any], name: str) -> None:
        self._memory = MappedMemory(array._mmap, name)  # type: ignore[attr-defined]
        # A private copy ("c") may hold changes that are not in the file.
        self._droppable = array.mode != "c"

    def populate(self, view: Pixels) -> None:
        self._memory.populate(view)

    def discard(self, view: Pixels) -> None:
        if self._droppable:
            self._memory.discard(view)

    def check_intact(self) -> None:
        pass

    def close(self) -> None:
        pass


def as_native_contiguous(source: Source) -> Source:
    """Make the rows of a source native and contiguous; copy only if needed."""
    view = source.rows(0, 1)
    if source.dtype == np.bool_:
        return ConvertedSource(source, bool_to_uint8(source.bands))
    if source.dtype.isnative and view[0].flags.c_contiguous:
        return source
    return ConvertedSource(source, native_order(source.bands, source.dtype))


def open_array(
    array: NDArray[Any], name: str = "array", format_name: str = "array", *, any_bands: bool = False
) -> Source:
    """Open an array (h, w) or (h, w, bands), without a copy if possible.

    Raises:
        SourceError: The shape or the dtype is not that of an image.
    """
    check_shape_and_dtype(array.shape, array.dtype, name, any_bands=any_bands)
    pixels = np.asarray(array)
    if pixels.ndim == 2:
        pixels = pixels.reshape(*pixels.shape, 1)  # a view for all strides
    pages = None
    under: object = array
    while isinstance(under, np.ndarray):
        # The result of a calculation with a memmap has its type, but no map.
        if isinstance(under, np.memmap) and isinstance(getattr(under, "_mmap", None), mmap.mmap):
            pages = _MemmapPages(under, name)
            break
        under = under.base
    return as_native_contiguous(ArraySource(pixels, name, Metadata(format_name), pages))


def open_raster(
    file: SourceFile,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    offset: int,
    metadata: Metadata,
    *,
    stride: int | None = None,
    bottom_up: bool = False,
    any_bands: bool = False,
) -> ArraySource:
    """Open pixels that a file stores row by row, without a conversion.

    Args:
        file: The file, which the source takes over.
        shape: (h, w) or (h, w, bands).
        dtype: As stored.
        offset: Of the first row in the file, in bytes.
        metadata: As in `Source`.
        stride: Bytes from one row to the next. Default: those of a row.
        bottom_up: True if the first row in the file is the last of the image.
        any_bands: True if there may be more than four bands.

    Raises:
        SourceError: The shape or dtype is not that of an image, or the file is too small.
    """
    check_shape_and_dtype(shape, dtype, file.name, any_bands=any_bands)
    rows, width, bands = (*shape, 1)[:3]
    row_bytes = width * bands * dtype.itemsize
    pixels = file.view(offset, (rows, width, bands), dtype, stride or row_bytes)
    return ArraySource(pixels[::-1] if bottom_up else pixels, file.name, metadata, file)


def open_raw(file: SourceFile, raw: RawFormat) -> Source:
    """Open a file without a header.

    Raises:
        SourceError: The file is too small for the format.
    """
    shape = (raw.height, raw.width, raw.bands)
    dtype = np.dtype(raw.numpy_dtype)
    return as_native_contiguous(open_raster(file, shape, dtype, raw.offset, Metadata("raw")))


def check_shape_and_dtype(
    shape: tuple[int, ...], dtype: np.dtype[Any], name: str, *, any_bands: bool = False
) -> None:
    """Check that an array of this shape and dtype is an image.

    Args:
        shape, dtype: Of the array.
        name: Its name in messages.
        any_bands: True if it may have more than four bands.

    Raises:
        SourceError: It is not.
    """
    most = MAX_BAND if any_bands else MAX_COLOUR_BANDS
    if len(shape) not in (2, 3) or not 1 <= (*shape, 1)[2] <= most:
        raise SourceError(
            f"{name}: shape {tuple(shape)} is not that of an image; "
            f"expected (height, width) or (height, width, 1 to 4 bands){_shape_advice(shape)}"
        )
    if min(shape) < 1:
        raise SourceError(f"{name}: shape {tuple(shape)} has no pixels")
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise SourceError(
            f"{name}: dtype {dtype} is not that of an image; expected integers, floats of at "
            "most 64 bits, or bool"
        )


def _shape_advice(shape: tuple[int, ...]) -> str:
    """The end of a message about an array that has an image in it; "" for others."""
    if len(shape) == 3 and shape[0] < shape[2]:
        chosen = "array" if shape[0] <= 4 else "array[:3]"
        return f"; if its bands come first, pass numpy.moveaxis({chosen}, 0, -1)"
    if len(shape) == 3:
        return (
            f"; use bands='3,2,1' (--bands), or choose some of its {shape[2]} bands, as in "
            "array[..., :3]"
        )
    return "; choose one image of it, as in array[0]" if len(shape) > 3 else ""


class SlicedSource(Croppable):
    """A source over an object with slices, such as a zarr array.

    It reads complete lines of chunks and keeps the last one, so that no chunk is decompressed
    twice, also if a region or the walk begins within a chunk.
    """

    random_access = True

    def __init__(self, array: Any, name: str, region: Region | None = None) -> None:
        self.name = name
        height, width, self.bands = (*array.shape, 1)[:3]
        self._array = array
        self._region = region or Region(0, 0, width, height)
        self._bottom = height
        self.width, self.height = self._region.width, self._region.height
        self.channels = self.bands if self.bands > MAX_COLOUR_BANDS else 0
        self.dtype = _dtype_of(array).newbyteorder("=")
        self.metadata = Metadata(name)
        rows, self.preferred_cols = _chunk_size(array)
        self.preferred_rows = max(1, rows) * -(-_MIN_ROWS // max(1, rows))
        self._line_number = -1
        self._line: Pixels = np.empty((0, self.width, self.bands), self.dtype)

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, a view if they are in one line of chunks."""
        step = self.preferred_rows
        top, bottom = self._region.y + y0, self._region.y + y1
        parts = []
        for number in range(top // step, -(-bottom // step)):
            first = number * step
            line = self._read_line(number)
            parts.append(line[max(0, top - first) : bottom - first])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def crop(self, region: Region) -> Source:
        """A source that reads only the columns of the region."""
        return SlicedSource(self._array, self.name, region.shifted(*self._region[:2]))

    def close(self) -> None:
        """Release the rows; the caller closes the array."""
        self._line_number, self._line = -1, self._line[:0]

    def _read_line(self, number: int) -> Pixels:
        if number == self._line_number:
            return self._line
        # Released first, so that only one line is in memory.
        self._line_number, self._line = -1, self._line[:0]
        region = self._region
        y0 = number * self.preferred_rows
        y1 = min(self._bottom, y0 + self.preferred_rows)
        try:
            piece = np.asarray(self._array[y0:y1, region.x : region.right])
        except SourceError:
            raise
        except Exception as error:
            raise SourceError(
                f"{self.name}: rows {y0} to {y1 - 1} cannot be read: {error}"
            ) from error
        shape = (y1 - y0, region.width, self.bands)
        if piece.shape[:2] != shape[:2] or piece.size != math.prod(shape):
            raise SourceError(f"{self.name}: rows {y0} to {y1 - 1} have the shape {piece.shape}")
        self._line = np.ascontiguousarray(piece.reshape(shape), self.dtype)
        self._line_number = number
        return self._line


def _dtype_of(array: Any) -> np.dtype[Any]:
    """The dtype of an array; tensorstore has NumPy's in an attribute of its own."""
    dtype: np.dtype[Any] = np.dtype(getattr(array.dtype, "numpy_dtype", array.dtype))
    return dtype


def _chunk_size(array: Any) -> tuple[int, int]:
    """Rows and columns of a chunk, 0 where they are not known.

    zarr and h5py have one number for each axis, dask has one for each chunk.
    """
    chunks = getattr(array, "chunks", None)
    if hasattr(array, "chunk_layout"):  # of tensorstore
        chunks = array.chunk_layout.read_chunk.shape
    axes = [*chunks, 0, 0][:2] if isinstance(chunks, tuple | list) else [0, 0]
    firsts = [axis[0] if isinstance(axis, tuple | list) and axis else axis for axis in axes]
    rows, cols = (side if isinstance(side, int) and side > 0 else 0 for side in firsts)
    return rows, cols


def open_sliced(array: Any, name: str, *, any_bands: bool = False) -> Source:
    """Open an object with shape, dtype and slices.

    Raises:
        SourceError: The shape or the dtype is not that of an image.
    """
    try:
        shape = tuple(int(side) for side in array.shape)
        dtype = _dtype_of(array)
    except (TypeError, ValueError) as error:
        raise SourceError(f"{name}: its shape or dtype is not an array's: {error}") from error
    check_shape_and_dtype(shape, dtype, name, any_bands=any_bands)
    source = SlicedSource(array, name)
    return ConvertedSource(source, bool_to_uint8(source.bands)) if dtype == np.bool_ else source


def is_array_object(source: object) -> bool:
    """True if an object has an array interface, DLPack or slices, or becomes an array."""
    names = ("__array_interface__", "__dlpack__", "__array__")
    is_array = any(hasattr(source, name) for name in names)
    return is_array or all(hasattr(source, name) for name in ("shape", "dtype", "__getitem__"))


def open_array_object(source: object, *, any_bands: bool = False) -> Source:
    """Open an array, or an object with an array interface, DLPack or slices.

    Args:
        source: The object.
        any_bands: True if it may have more than four bands.

    Raises:
        SourceError: The object has none of these, or is not an image.
    """
    kind = type(source).__qualname__
    if isinstance(source, np.ndarray):
        return open_array(source, any_bands=any_bands)
    if hasattr(source, "__array_interface__"):
        return open_array(np.asarray(source), kind, kind, any_bands=any_bands)
    if hasattr(source, "__dlpack__"):
        exporter: Any = source
        try:
            array = np.from_dlpack(exporter)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise SourceError(
                f"{kind}: its pixels cannot be shared ({error}); copy them from the graphics card "
                "to the memory of the processor"
            ) from error
        return open_array(array, kind, kind, any_bands=any_bands)
    if all(hasattr(source, name) for name in ("shape", "dtype", "__getitem__")):
        return open_sliced(source, kind, any_bands=any_bands)
    if hasattr(source, "__array__"):
        try:
            return open_array(np.asarray(source), kind, kind, any_bands=any_bands)
        except (RuntimeError, TypeError, ValueError) as error:
            raise SourceError(f"{kind}: it cannot be read as an array: {error}") from error
    raise SourceError(
        f"an object of type {kind} is not an image; expected a path, an array, an object with "
        "shape, dtype and slices, or a PIL image"
    )
