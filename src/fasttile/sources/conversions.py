"""Sources over other sources: their pixels converted, or a region cut out of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fasttile.abc.source import Source, SourceOpener
from fasttile.errors import OptionError
from fasttile.geometry import Region
from fasttile.types import Pixels, Window

_CACHE_SAMPLES = (
    1 << 16
)  # samples; that many are converted at a time, so that they stay in the cache


class Croppable(Source):
    """A source that can leave out the work for what lies outside a region."""

    @abstractmethod
    def crop(self, region: Region) -> Source:
        """A source of that region only, which must lie within this one; it takes this one over."""


class CroppedSource(Source):
    """A region of another source, without a copy."""

    def __init__(self, base: Source, region: Region) -> None:
        self.name = base.name
        self.width, self.height = region.width, region.height
        self.bands, self.dtype, self.is_cmyk = base.bands, base.dtype, base.is_cmyk
        self.metadata = base.metadata
        self.is_mapped, self.random_access = base.is_mapped, base.random_access
        self.preferred_rows, self.memory_bytes = base.preferred_rows, base.memory_bytes
        self._base = base
        self._region = region

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows of the region, as a view into the base's rows."""
        region = self._region
        return self._base.rows(region.y + y0, region.y + y1)[:, region.x : region.right]

    def populate(self, view: Pixels) -> None:
        """Fault in what the base has under the view."""
        self._base.populate(view)

    def discard(self, view: Pixels) -> None:
        """Drop what the base has under the view."""
        self._base.discard(view)

    def close(self) -> None:
        """Close the base."""
        self._base.close()


class ConvertedSource(Croppable):
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
        self.preferred_rows, self.memory_bytes = base.preferred_rows, base.memory_bytes
        self.is_cmyk = base.is_cmyk and conversion.bands == 4
        self.random_access = base.random_access
        self._base = base
        self._conversion = conversion
        self._buffer: Pixels = np.empty((0, self.width, self.bands), self.dtype)

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, converted; valid until the next call."""
        out = self._reserve_rows(y1 - y0)
        self.read(y0, out)
        return out

    def read(self, y0: int, out: Pixels) -> None:
        """Convert the rows from y0 on, right to where they are wanted."""
        stored = self._base.rows(y0, y0 + len(out))
        if self._base.is_mapped:
            self._base.populate(stored)
        step = max(1, _CACHE_SAMPLES // (self.width * max(self.bands, self._base.bands)))
        if self._conversion.is_single_pass:
            step = len(out)
        for y in range(0, len(out), step):
            self._conversion.write(stored[y : y + step], out[y : y + step])
        if self._base.is_mapped:
            self._base.discard(stored)

    def crop(self, region: Region) -> Source:
        """Converts the region's pixels only."""
        smaller = ConvertedSource(crop(self._base, region), self._conversion)
        smaller.metadata = self.metadata
        return smaller

    def close(self) -> None:
        """Close the base."""
        self._base.close()

    def _reserve_rows(self, rows: int) -> Pixels:
        if len(self._buffer) < rows:
            self._buffer = np.empty((rows, self.width, self.bands), self.dtype)
        return self._buffer[:rows]


def crop(source: Source, region: Region) -> Source:
    """A source of a region of another, which it takes over.

    Raises:
        OptionError: The region is empty or does not lie within the image.
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
        return source.crop(region)
    return CroppedSource(source, region)


# What may have to be done to stored samples before they are an image: pure, row by row.

LookupTable = NDArray[Any]
"""What each sample value becomes: one entry for each value that the stored dtype can hold."""


@dataclass(frozen=True)
class Conversion:
    """How to make an image's rows from stored ones, pixel by pixel.

    Attributes:
        bands, dtype: What comes out.
        write: Called with stored rows and the rows to fill; both (rows, width, bands).
        note: One line for the user, if the pixels are no longer what the file holds.
        at_once: Whether `write` passes over the rows once only, in one kernel: then they need not
            be given to it by pieces that fit into the cache.
    """

    bands: int
    dtype: np.dtype[Any]
    write: Callable[[Pixels, Pixels], None]
    note: str | None = None
    is_single_pass: bool = False


def native_order(bands: int, dtype: np.dtype[Any]) -> Conversion:
    """The same values, in native byte order and with a row's pixels side by side."""
    return select_bands(range(bands), dtype)


def select_bands(
    band_order: Sequence[int], dtype: np.dtype[Any], note: str | None = None
) -> Conversion:
    """Some of the stored bands, in this order."""

    def write(stored: Pixels, out: Pixels) -> None:
        # Band by band: NumPy's inner loop runs along a row then, not along three bands.
        for band, stored_band in enumerate(band_order):
            out[..., band] = stored[..., stored_band]

    return Conversion(len(band_order), dtype.newbyteorder("="), write, note)


def bool_to_uint8(bands: int) -> Conversion:
    """False as 0, True as 255; any byte but 0 is True."""

    def write(stored: Pixels, out: Pixels) -> None:
        np.not_equal(stored.view(np.uint8), 0, out=out.view(np.bool_))
        np.multiply(out, 255, out=out)

    return Conversion(bands, np.dtype(np.uint8), write)


def invert_grey(bands: int, dtype: np.dtype[Any], max_value: int | None = None) -> Conversion:
    """Grey where 0 is white, as grey where 0 is black; alpha stays.

    Args:
        bands, dtype: Of the pixels; signed values v become -1 - v.
        top: The largest value. Default: that of the dtype.
    """
    max_value = -1 if dtype.kind == "i" else _dtype_max(dtype) if max_value is None else max_value
    one = np.array(max_value, dtype)

    def write(stored: Pixels, out: Pixels) -> None:
        np.subtract(one, stored[..., 0], out=out[..., 0])
        out[..., 1:] = stored[..., 1:]

    return Conversion(bands, dtype, write, "min-is-white inverted")


def scale_to_8bit(bands: int, max_value: int) -> Conversion:
    """Samples of a few bits as 8-bit ones: value · 255 // top."""
    table = np.minimum(np.arange(256) * 255 // max_value, 255).astype(np.uint8)
    return lookup_table(bands, table)


def cmyk_to_rgb(bands: int, dtype: np.dtype[Any]) -> Conversion:
    """Cyan, magenta, yellow and black as RGB, as Pillow does it: (top - c)(top - k) / top.

    Args:
        bands: 4, or 5 with alpha, which stays.
        dtype: uint8 or uint16.
    """
    top = _dtype_max(dtype)
    bits = dtype.itemsize * 8
    wide = np.dtype(np.uint16 if dtype == np.uint8 else np.uint32)
    half = wide.type(1 << (bits - 1))

    def write(stored: Pixels, out: Pixels) -> None:
        light = np.subtract(top, stored[..., 3], dtype=wide)
        for band in range(3):
            # ink * light / top, rounded, by shifts; it never takes more bits than there are
            product = stored[..., band] * light
            product += half
            product += product >> bits
            product >>= bits
            np.subtract(light, product, out=out[..., band], casting="unsafe")
        out[..., 3:] = stored[..., 4:]

    return Conversion(bands - 1, dtype, write, "CMYK converted to RGB")


def apply_palette(palette: LookupTable) -> Conversion:
    """Indices as the colours of a palette of shape (256, 3), uint8."""

    def write(stored: Pixels, out: Pixels) -> None:
        np.take(palette, stored[..., 0], axis=0, out=out, mode="clip")

    return Conversion(3, palette.dtype, write, "palette expanded")


def lookup_table(bands: int, colour: LookupTable, alpha: LookupTable | None = None) -> Conversion:
    """Each sample as its table says; the last of 2 or 4 bands by the table for alpha.

    Args:
        bands: How many bands come in and go out.
        colour: For the bands that are no alpha.
        alpha: For alpha. Default: the same as for colour.
    """
    tables = [colour] * bands
    if bands in (2, 4) and alpha is not None:
        tables[-1] = alpha
    same = all(table is colour for table in tables)

    def write(stored: Pixels, out: Pixels) -> None:
        # "clip" never clips, as a table has an entry for each value; it spares a buffer.
        if same:
            np.take(colour, stored, out=out, mode="clip")
            return
        for band, table in enumerate(tables):
            out[..., band] = np.take(table, stored[..., band], mode="clip")

    return Conversion(bands, colour.dtype, write)


def unpremultiply(bands: int, dtype: np.dtype[Any], max_value: int | None = None) -> Conversion:
    """Colours that were multiplied by alpha, divided by it: (c · top + a // 2) // a, at most top.

    Where alpha is 0 no colour is left, and 0 comes out. Floats are c / a.

    Args:
        bands, dtype: Of the pixels: unsigned or floats.
        top: The value of what is opaque. Default: the dtype's largest.
    """
    note = "premultiplied alpha made straight"
    if dtype.kind == "f":
        return Conversion(bands, dtype, _divide_by_alpha, note)
    max_value = _dtype_max(dtype) if max_value is None else max_value
    # holds top · top + top // 2
    wide = np.dtype({1: np.uint16, 2: np.uint32, 4: np.uint64}[dtype.itemsize])

    def write(stored: Pixels, out: Pixels) -> None:
        alpha = stored[..., -1].astype(wide)
        seen = alpha > 0
        for band in range(bands - 1):
            colour = stored[..., band] * wide.type(max_value) + alpha // 2
            np.floor_divide(colour, alpha, out=colour, where=seen)
            out[..., band] = np.where(seen, np.minimum(colour, max_value), 0)
        out[..., -1] = stored[..., -1]

    return Conversion(bands, dtype, write, note)


def _divide_by_alpha(stored: Pixels, out: Pixels) -> None:
    alpha = stored[..., -1]
    out[..., :-1] = 0
    for band in range(stored.shape[-1] - 1):
        np.divide(stored[..., band], alpha, out=out[..., band], where=alpha > 0)
    out[..., -1] = alpha


def ramp(low: float, high: float, count: int, dtype: np.dtype[Any]) -> LookupTable:
    """The table that maps low..high to the whole range of a dtype, linearly.

    Args:
        low, high: What becomes 0, and what becomes the dtype's largest value; low < high.
            Values beyond them become the same.
        count: How many entries: 256 for 8-bit samples, 65536 for 16-bit ones.
        dtype: uint8 or uint16.

    Returns:
        The table; halves are rounded up, exactly (in fractions, not floats).
    """
    top = _dtype_max(dtype)
    from fractions import Fraction  # seldom needed

    start = Fraction(low)
    scale = top / (Fraction(high) - start)
    # floor(scale · value - scale · start + 1/2) as whole numbers over a common denominator
    shift = Fraction(1, 2) - scale * start
    below = scale.denominator * shift.denominator
    step = scale.numerator * shift.denominator
    first = shift.numerator * scale.denominator
    # Python's own integers take over where 64 bits could be too few.
    narrow = max(abs(first) + step * count, below) < 2**62
    values = np.arange(count, dtype=np.int64 if narrow else object)
    table: LookupTable = np.clip((first + step * values) // below, 0, top).astype(dtype)
    return table


def _dtype_max(dtype: np.dtype[Any]) -> int:
    return int(np.iinfo(dtype).max)


# The samples that tiles will have: 8 bit, through a window of the values, or 16-bit grey.

_MAX_SAMPLE_VALUES = 2**20  # values, about; what "auto" looks at
_SAMPLE_ROWS = 64

_SENSOR_BIT_DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras, scanners and instruments give
_NODATA_LIMIT = 1e30  # floats beyond are what programs write where they have no value


def to_output_depth(
    source: Source, bits: Literal[8, 16], window: Window, reopen: SourceOpener
) -> Source:
    """The source with samples of 8 or 16 bit, the window's values stretched over their range.

    It is the source itself where no sample has to change. Alpha is never windowed: its full
    range becomes the full range.

    Args:
        source: Of any dtype of whole numbers or floats.
        bits: 16 for grey images of more than 8 bits only.
        window: "auto" is "full" for 8 bits, and for 16 bits that stay so; else see `likely`.
        again: Opens the same image once more, to look at its values where the source itself
            can only be read once.

    Raises:
        OptionError: 16 bits are wanted of an image that has not more than 8, or not only grey.
    """
    if bits == 16 and (source.bands != 1 or source.dtype.itemsize == 1):
        raise OptionError(
            f"{source.name} has {source.bands} × {source.dtype.name}: tiles of 16 bits are for "
            "16-bit grey images, which is what PNG through Pillow can carry; use 8 bits"
        )
    dtype = np.dtype(np.uint16 if bits == 16 else np.uint8)
    note = None
    if window == "auto":
        if source.dtype in (np.uint8, dtype):
            window = "full"
        else:
            window, note = guess_window(_sample_values(source, reopen))
    whole = _full_range_of(source.dtype)
    span = whole if isinstance(window, str) else window
    if source.dtype == dtype and span == whole:
        return source
    if source.dtype in (np.uint8, np.uint16):
        count = int(whole[1]) + 1
        colour = ramp(*span, count, dtype)
        alpha = ramp(*whole, count, dtype) if source.has_alpha and span != whole else None
        result = ConvertedSource(source, lookup_table(source.bands, colour, alpha))
    else:
        result = ConvertedSource(source, stretch_values(source.bands, span, whole, dtype))
    if note is not None:
        result.metadata = replace(result.metadata, notes=(*result.metadata.notes, note))
    return result


def stretch_values(
    bands: int,
    value_range: tuple[float, float],
    full_range: tuple[float, float],
    dtype: np.dtype[Any],
) -> Conversion:
    """Values of any dtype as those of uint8 or uint16: low to 0, high to the top, halves up.

    What is beyond becomes the nearer end, and what is no number 0. The last of 2 or 4 bands is
    alpha, and goes by the whole range.
    """
    top = int(np.iinfo(dtype).max)

    def write(stored: Pixels, out: Pixels) -> None:
        for band in range(bands):
            low, high = full_range if bands in (2, 4) and band == bands - 1 else value_range
            values = stored[..., band].astype(np.float64)
            np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
            np.clip(values, low, high, out=values)
            values -= low
            values *= top / (high - low)
            values += 0.5
            out[..., band] = values  # towards zero, which for positive values is down

    return Conversion(bands, dtype, write)


def guess_window(values: NDArray[Any]) -> tuple[Window, str]:
    """The window in which values are seen, and why; so that no image turns black.

    Whole numbers that are not negative and fit 8, 10, 12, 14 or 16 bits have the range of those
    bits; floats up to 1 that of 0 to 1. Anything else, and what would be all but black in that
    range, has from its 0.1th to its 99.9th percentile.

    Args:
        values: Some of the image's, flat; without those that are no numbers.
    """
    if not values.size:
        return "full", "window full: there is no value to go by"
    least, most = values.min(), values.max()
    if least >= 0:
        tops = [1.0] if values.dtype.kind == "f" else [2.0**bits - 1 for bits in _SENSOR_BIT_DEPTHS]
        top = next((top for top in tops if most <= top), None)
        if top is not None and most > top / 8:
            return (0.0, top), f"window 0,{top:g}: the values reach {most:g}"
    low, high = (float(value) for value in np.percentile(values, (0.1, 99.9)))
    if low == high:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return "full", "window full: all values are 0"
    return (low, high), f"window {low:g},{high:g}: the values reach from {least:g} to {most:g}"


def _full_range_of(dtype: np.dtype[Any]) -> tuple[float, float]:
    if dtype.kind == "f":
        return 0.0, 1.0
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _sample_values(source: Source, reopen: SourceOpener) -> NDArray[Any]:
    """Some values of all of an image, without alpha."""
    if source.random_access:
        return _join_valid_values(list(_iter_sample_rows(source)))
    with reopen() as twin:
        return _join_valid_values(list(_iter_all_rows(twin)))


def _join_valid_values(parts: list[NDArray[Any]]) -> NDArray[Any]:
    values = np.concatenate(parts)
    if values.dtype.kind == "f":
        values = values[np.abs(values) < _NODATA_LIMIT]  # which is false for what is no number
    return values


def _iter_sample_rows(source: Source) -> Iterator[NDArray[Any]]:
    count = min(source.height, _SAMPLE_ROWS)
    for number in range(count):
        y = number * source.height // count
        rows = source.rows(y, y + 1)
        if source.is_mapped:
            source.populate(rows)
        yield _thin_values(source, rows, count)
        if source.is_mapped:
            source.discard(rows)


def _iter_all_rows(source: Source) -> Iterator[NDArray[Any]]:
    """From a source that gives its rows in order only: some of each."""
    for y in range(0, source.height, source.preferred_rows):
        rows = source.rows(y, min(source.height, y + source.preferred_rows))
        yield _thin_values(source, rows, source.height)


def _thin_values(source: Source, rows: Pixels, row_count: int) -> NDArray[Any]:
    """So many of the rows' values, evenly spread, that all rows together give the sample."""
    colours = rows[..., : source.bands - int(source.has_alpha)]
    step = max(1, colours[0].size * row_count // _MAX_SAMPLE_VALUES)
    return colours.reshape(-1)[::step].copy()
