"""Conversions of pixels; sources that convert or crop other sources."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from fasttile.abc.source import (
    BufferedWrapper,
    LevelDrawer,
    RowLender,
    Source,
    SourceOpener,
    Wrapper,
)
from fasttile.errors import OptionError
from fasttile.geometry import Region
from fasttile.sources.windows import auto_window, full_range, guess_window, sample_values
from fasttile.types import Pixels, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

LookupTable: TypeAlias = "NDArray[Any]"
"""New value of each sample value: one entry for each value that the stored dtype can hold."""

_CACHE_SAMPLES = 1 << 16  # converted at a time, so that they stay in the cache


class Croppable(Source):
    """A source that can skip the work for pixels outside a region."""

    @abstractmethod
    def crop(self, region: Region) -> Source:
        """A source of a region within this one; it takes over this source."""


class CroppedSource(Wrapper):
    """A region of another source, without a copy."""

    def __init__(self, base: Source, region: Region) -> None:
        super().__init__(base)
        self.width, self.height = region.width, region.height
        self._region = region

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows of the region, as a view of the rows of the base."""
        region = self._region
        return self._base.rows(region.y + y0, region.y + y1)[:, region.x : region.right]

    def populate(self, view: Pixels) -> None:
        """Fault in the memory of the base under the view."""
        self._base.populate(view)

    def discard(self, view: Pixels) -> None:
        """Drop the memory of the base under the view."""
        self._base.discard(view)


class ConvertedSource(BufferedWrapper, Croppable):
    """Another source with each pixel converted.

    If the base is mapped, its pages are loaded before each conversion and dropped after it.
    """

    def __init__(self, base: Source, conversion: Conversion) -> None:
        super().__init__(base)
        self.bands, self.dtype = conversion.bands, conversion.dtype
        metadata = base.metadata if conversion.keeps_values else base.metadata.without_values()
        self.metadata = metadata.with_notes(conversion.note)
        self.is_cmyk = base.is_cmyk and conversion.bands == base.bands
        self._conversion = conversion
        if base.draw_level is not None:
            self.draw_level = partial(self._convert_level, base.draw_level)

    def read(self, y0: int, out: Pixels) -> None:
        """Convert the rows from y0 on straight into out."""
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

    def lender(self) -> RowLender | None:
        """The base's lender if the conversion does nothing but drop the fourth band of RGB."""
        return self._base.lender() if self._conversion.drops_padding else None

    def crop(self, region: Region) -> Source:
        """A source that converts only the pixels of the region."""
        smaller = ConvertedSource(crop(self._base, region), self._conversion)
        smaller.metadata, smaller.is_cmyk = self.metadata, self.is_cmyk
        smaller.channels = self.channels
        return smaller

    def _convert_level(self, draw: LevelDrawer, region: Region, scale: int) -> Pixels:
        stored = draw(region, scale)
        out = np.empty((region.height, region.width, self.bands), self.dtype)
        self._conversion.write(stored, out)
        return out


def crop(source: Source, region: Region) -> Source:
    """Crop a source, which the result takes over.

    Raises:
        OptionError: The region is empty or not within the image.
    """
    region = Region(*region)
    if region.width < 1 or region.height < 1:
        raise OptionError(f"region {tuple(region)} is empty; width and height must be at least 1")
    inside = region.x >= 0 and region.y >= 0
    if not inside or region.right > source.width or region.bottom > source.height:
        raise OptionError(
            f"region {tuple(region)} is not within {source.name}, "
            f"which has {source.width}×{source.height} pixels"
        )
    if source.draw_level is not None and region != (0, 0, source.width, source.height):
        raise OptionError(
            f"{source.name}: region {tuple(region)}: each level is drawn by itself, so there is no "
            "part of it; give the function another size"
        )
    georeference = source.metadata.georeference
    cropped = (
        source.crop(region) if isinstance(source, Croppable) else CroppedSource(source, region)
    )
    if georeference is not None:
        moved = georeference.cropped(region.x, region.y)
        cropped.metadata = replace(cropped.metadata, georeference=moved)
    return cropped


class Conversion(NamedTuple):
    """Conversion of the stored rows of an image, pixel by pixel.

    Attributes:
        bands, dtype: Of the result.
        write: Called with stored rows and the rows to fill; both (rows, width, bands).
        note: One line for the user, if the pixels differ from those in the file.
        is_single_pass: True if `write` passes over the rows once, in one kernel: they need not
            be divided into pieces that fit into the cache.
        drops_padding: True if the result is the stored RGB without a fourth band.
        keeps_values: True if samples keep their values.
    """

    bands: int
    dtype: np.dtype[Any]
    write: Callable[[Pixels, Pixels], None]
    note: str | None = None
    is_single_pass: bool = False
    drops_padding: bool = False
    keeps_values: bool = False


def native_order(bands: int, dtype: np.dtype[Any]) -> Conversion:
    """The same values in native byte order and contiguous rows."""
    return select_bands(range(bands), dtype)


def select_bands(
    band_order: Sequence[int], dtype: np.dtype[Any], note: str | None = None
) -> Conversion:
    """Some of the stored bands, in this order."""

    def write(stored: Pixels, out: Pixels) -> None:
        # Band by band: the inner loop of NumPy then runs along a row, not along three bands.
        for band, stored_band in enumerate(band_order):
            out[..., band] = stored[..., stored_band]

    native = dtype.newbyteorder("=")
    return Conversion(len(band_order), native, write, note, keeps_values=True)


def opaque_alpha(bands: int, dtype: np.dtype[Any]) -> Conversion:
    """The same values with a further band: alpha of opaque pixels."""
    opaque = _dtype_max(dtype)

    def write(stored: Pixels, out: Pixels) -> None:
        for band in range(bands):  # band by band, as in `select_bands`
            out[..., band] = stored[..., band]
        out[..., bands] = opaque

    return Conversion(bands + 1, dtype, write)


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
        max_value: The largest value. Default: that of the dtype.
    """
    max_value = -1 if dtype.kind == "i" else _dtype_max(dtype) if max_value is None else max_value
    one = np.array(max_value, dtype)

    def write(stored: Pixels, out: Pixels) -> None:
        np.subtract(one, stored[..., 0], out=out[..., 0])
        out[..., 1:] = stored[..., 1:]

    return Conversion(bands, dtype, write, "min-is-white inverted")


def scale_to_8bit(bands: int, max_value: int) -> Conversion:
    """Samples of fewer than 8 bits as 8-bit ones: value · 255 // max_value."""
    table = np.minimum(np.arange(256) * 255 // max_value, 255).astype(np.uint8)
    return lookup_table(bands, table)


def cmyk_to_rgb(bands: int, dtype: np.dtype[Any]) -> Conversion:
    """Convert CMYK to RGB as Pillow does: (top - c)(top - k) / top.

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
            # ink * light / top, rounded, by shifts; the product fits into the wide dtype
            product = stored[..., band] * light
            product += half
            product += product >> bits
            product >>= bits
            np.subtract(light, product, out=out[..., band], casting="unsafe")
        out[..., 3:] = stored[..., 4:]

    return Conversion(bands - 1, dtype, write, "CMYK converted to RGB")


def ycbcr_to_rgb(luma: Sequence[float], reference: Sequence[float]) -> Conversion:
    """Convert YCbCr of 8 bits to RGB, with libtiff's rounding (`TIFFYCbCrToRGBInit`).

    Args:
        luma: The coefficients of red, green and blue.
        reference: The codes of black and white of Y, Cb and Cr.
    """
    red, green, blue = luma
    codes = np.arange(256)

    def decode(band: int, top: int) -> NDArray[Any]:
        black, white = reference[2 * band : 2 * band + 2]
        shift = 128 if band else 0
        values = (codes - shift - (black - shift)) * top / (white - black or 1)
        clipped: NDArray[Any] = np.clip(values, -4096, 4096).astype(np.int32)
        return clipped

    y, cb, cr = decode(0, 255), decode(1, 127), decode(2, 127)
    for_red, for_blue = 2 - 2 * red, 2 - 2 * blue
    fixed = [int(one * 65_536 + 0.5) for one in (for_red, for_blue)]
    cr_red, cb_blue = (fixed[0] * cr + 32_768) >> 16, (fixed[1] * cb + 32_768) >> 16
    cr_green = -int(red * for_red / green * 65_536 + 0.5) * cr
    cb_green = -int(blue * for_blue / green * 65_536 + 0.5) * cb + 32_768

    def write(stored: Pixels, out: Pixels) -> None:
        lightness, blueness, redness = (stored[..., band] for band in range(3))
        base = y[lightness]
        out[..., 0] = np.clip(base + cr_red[redness], 0, 255)
        out[..., 1] = np.clip(base + ((cr_green[redness] + cb_green[blueness]) >> 16), 0, 255)
        out[..., 2] = np.clip(base + cb_blue[blueness], 0, 255)

    return Conversion(3, np.dtype(np.uint8), write, "YCbCr converted to RGB")


def apply_palette(palette: LookupTable, *, has_alpha: bool = False) -> Conversion:
    """Indices as the colours of a palette of shape (256, 3 or 4), uint8.

    With `has_alpha`, the palette has three columns, and a second band of the image is alpha.
    """

    def write(stored: Pixels, out: Pixels) -> None:
        if not has_alpha:
            np.take(palette, stored[..., 0], axis=0, out=out, mode="clip")
            return
        out[..., :3] = np.take(palette, stored[..., 0], axis=0, mode="clip")
        np.multiply(stored[..., 1] > 0, np.uint8(255), out=out[..., 3], casting="unsafe")

    return Conversion(palette.shape[1] + has_alpha, palette.dtype, write, "palette expanded")


def lookup_table(bands: int, colour: LookupTable, alpha: LookupTable | None = None) -> Conversion:
    """Replace each sample by its entry in a table.

    Args:
        bands: Number of bands, before and after.
        colour: Table for the colours, which are all bands but the last of 2, 4 or 5.
        alpha: Table for alpha. Default: the same as for the colours.
    """
    tables = [colour] * bands
    if bands in (2, 4, 5) and alpha is not None:
        tables[-1] = alpha
    same = all(table is colour for table in tables)

    def write(stored: Pixels, out: Pixels) -> None:
        # No value is clipped, as a table has an entry for each; "clip" saves a buffer.
        if same:
            np.take(colour, stored, out=out, mode="clip")
            return
        for band, table in enumerate(tables):
            out[..., band] = np.take(table, stored[..., band], mode="clip")

    return Conversion(bands, colour.dtype, write)


def unpremultiply(bands: int, dtype: np.dtype[Any], max_value: int | None = None) -> Conversion:
    """Divide premultiplied colours by alpha: (c · max + a // 2) // a.

    Results are at most max, and 0 where alpha is 0. Floats are c / a.

    Args:
        bands, dtype: Of the pixels: unsigned or floats.
        max_value: Alpha of opaque pixels. Default: the largest value of the dtype.
    """
    note = "premultiplied alpha made straight"
    if dtype.kind == "f":

        def divide(stored: Pixels, out: Pixels) -> None:
            alpha = stored[..., -1]
            out[..., :-1] = 0
            for band in range(bands - 1):
                np.divide(stored[..., band], alpha, out=out[..., band], where=alpha > 0)
            out[..., -1] = alpha

        return Conversion(bands, dtype, divide, note)
    max_value = _dtype_max(dtype) if max_value is None else max_value
    # holds max_value² + max_value // 2
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


def ramp(low: float, high: float, count: int, dtype: np.dtype[Any]) -> LookupTable:
    """Table that maps low..high linearly to the full range of a dtype.

    Args:
        low, high: The values that become 0 and the largest value of the dtype; low < high.
            Values beyond them are clipped.
        count: Number of entries: 256 for 8-bit samples, 65536 for 16-bit ones.
        dtype: uint8 or uint16.

    Returns:
        The table; halves are rounded up, exactly (in fractions, not floats).
    """
    top = _dtype_max(dtype)
    from fractions import Fraction  # rarely needed

    start = Fraction(low)
    scale = top / (Fraction(high) - start)
    # floor(scale · value - scale · start + 1/2) as integers over a common denominator
    shift = Fraction(1, 2) - scale * start
    below = scale.denominator * shift.denominator
    step = scale.numerator * shift.denominator
    first = shift.numerator * scale.denominator
    # Python's integers if 64 bits could overflow.
    narrow = max(abs(first) + step * count, below) < 2**62
    values = np.arange(count, dtype=np.int64 if narrow else object)
    table: LookupTable = np.clip((first + step * values) // below, 0, top).astype(dtype)
    return table


def _dtype_max(dtype: np.dtype[Any]) -> int:
    return int(np.iinfo(dtype).max)


ProfileConverter = Callable[[Source, LookupTable], Conversion | None]
"""Makes a conversion to sRGB by the profile of a source; None if a later step does it.

The source has samples of 16 bits, and the table has the value of each, of 65535; or its five bands
are CMYK of 8 bits with alpha. The result is grey or RGB of 8 bits, with alpha if the source has it.
"""


def to_output_depth(
    source: Source,
    bits: Literal[8, 16],
    window: Window,
    reopen: SourceOpener,
    convert_profile: ProfileConverter | None = None,
) -> Source:
    """Convert a source to samples of 8 or 16 bits, by a window of its values.

    The result is the source itself if no sample changes. Alpha is not windowed: its full range
    becomes the full range. CMYK with alpha becomes RGB with alpha.

    Args:
        source: Of any dtype of integers or floats.
        bits: 8, or 16 for grey images of more than 8 bits.
        window: "auto" is "full" for 8-bit samples, for 16-bit ones that stay so, and for those that
            a profile or their bands (RGB, CMYK) define; otherwise see `guess_window`.
        reopen: Opens the same image again, to inspect its values if the source can be read only
            once.
        convert_profile: Applied before samples of more than 8 bits become 8. Default: the profile
            stays in the metadata, for 8 bits.

    Raises:
        OptionError: 16 bits are requested of an image that is not grey or has only 8.
    """
    if bits == 16 and source.bands == 2 and source.metadata.has_missing:
        raise OptionError(
            f"{source.name} has missing samples, which become transparent, and tiles of 16 bits "
            "have no alpha; use 8 bits, or --nodata none (nodata)"
        )
    if bits == 16 and (source.bands != 1 or source.dtype.itemsize == 1):
        raise OptionError(
            f"{source.name} has {source.bands} × {source.dtype.name}; tiles of 16 bits are for "
            "16-bit grey images, the only ones that Pillow writes as PNG; use 8 bits"
        )
    dtype = np.dtype(np.uint16 if bits == 16 else np.uint8)
    note = None
    if window == "auto":
        known = auto_window(source, bits)
        if known is not None:
            window = known
        else:
            values = sample_values(source, reopen)
            window, note = guess_window(values)
            is_unit = values.dtype.kind == "f" and bool(((values >= 0) & (values <= 1)).all())
            if source.metadata.icc_profile is not None and is_unit:
                window, note = "full", None
    span = full_range(source.dtype) if isinstance(window, str) else window
    result = None
    if convert_profile is not None and bits == 8 and not source.is_cmyk:
        result = _convert_deep_colours(source, span, convert_profile)
    if result is None:
        result = _apply_window(source, span, dtype)
    if result.is_cmyk and result.bands == 5:
        conversion = convert_profile(result, ramp(0, 1, 2, dtype)) if convert_profile else None
        result = ConvertedSource(result, conversion or cmyk_to_rgb(5, dtype))
        result.metadata = replace(result.metadata, icc_profile=None)
    if result is not source:
        result.metadata = result.metadata.with_notes(note)
    return result


def _convert_deep_colours(
    source: Source, span: tuple[float, float], convert_profile: ProfileConverter
) -> Source | None:
    """Convert samples of more than 8 bits by their profile; None if it does not apply."""
    if source.dtype == np.uint8 or source.metadata.icc_profile is None:
        return None
    deep, dtype = source, np.dtype(np.uint16)
    low, high = span
    if source.dtype != dtype:
        stretch = stretch_values(source.bands, span, full_range(source.dtype), dtype)
        deep = ConvertedSource(source, stretch)
        low, high = 0, _dtype_max(dtype)
    conversion = convert_profile(deep, ramp(low, high, _dtype_max(dtype) + 1, dtype))
    if conversion is None:
        return None
    result = ConvertedSource(deep, conversion)
    result.metadata = replace(result.metadata, icc_profile=None)
    return result


def _apply_window(source: Source, span: tuple[float, float], dtype: np.dtype[Any]) -> Source:
    """Map a range of values to all of uint8 or uint16; the source itself if none changes."""
    all_values = full_range(source.dtype)
    if source.dtype == dtype and span == all_values:
        return source
    if source.dtype in (np.uint8, np.uint16):
        count = _dtype_max(source.dtype) + 1
        colour = ramp(*span, count, dtype)
        alpha_range = full_range(source.dtype, source.metadata.sample_bits)
        with_alpha = source.has_alpha and span != alpha_range
        alpha = ramp(*alpha_range, count, dtype) if with_alpha else None
        return ConvertedSource(source, lookup_table(source.bands, colour, alpha))
    return ConvertedSource(source, stretch_values(source.bands, span, all_values, dtype))


def stretch_values(
    bands: int,
    value_range: tuple[float, float],
    alpha_range: tuple[float, float],
    dtype: np.dtype[Any],
) -> Conversion:
    """Map values of any dtype linearly to uint8 or uint16, halves up.

    Values outside the range are clipped, and NaN becomes 0. The last of 2, 4 or 5 bands is alpha,
    which has a range of its own.
    """
    top = _dtype_max(dtype)

    def write(stored: Pixels, out: Pixels) -> None:
        for band in range(bands):
            low, high = alpha_range if bands in (2, 4, 5) and band == bands - 1 else value_range
            values = stored[..., band].astype(np.float64)
            np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
            np.clip(values, low, high, out=values)
            values -= low
            values *= top / (high - low)
            values += 0.5
            out[..., band] = values  # truncated, which for positive values is down

    return Conversion(bands, dtype, write)
