"""What may have to be done to stored samples before they are a picture: pure, row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Pixels

Table = NDArray[Any]
"""What each sample value becomes: one entry for each value that the stored dtype can hold."""


@dataclass(frozen=True)
class Conversion:
    """How to make a picture's rows from stored ones, pixel by pixel.

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
    at_once: bool = False


def as_stored(bands: int, dtype: np.dtype[Any]) -> Conversion:
    """The same values, in native byte order and with a row's pixels side by side."""
    return picked(range(bands), dtype)


def picked(order: Sequence[int], dtype: np.dtype[Any], note: str | None = None) -> Conversion:
    """Some of the stored bands, in this order."""

    def write(stored: Pixels, out: Pixels) -> None:
        # Band by band: NumPy's inner loop runs along a row then, not along three bands.
        for band, stored_band in enumerate(order):
            out[..., band] = stored[..., stored_band]

    return Conversion(len(order), dtype.newbyteorder("="), write, note)


def from_bool(bands: int) -> Conversion:
    """False as 0, True as 255; any byte but 0 is True."""

    def write(stored: Pixels, out: Pixels) -> None:
        np.not_equal(stored.view(np.uint8), 0, out=out.view(np.bool_))
        np.multiply(out, 255, out=out)

    return Conversion(bands, np.dtype(np.uint8), write)


def inverted(bands: int, dtype: np.dtype[Any], top: int | None = None) -> Conversion:
    """Grey where 0 is white, as grey where 0 is black; alpha stays.

    Args:
        bands, dtype: Of the pixels; signed values v become -1 - v.
        top: The largest value. Default: that of the dtype.
    """
    top = -1 if dtype.kind == "i" else _top(dtype) if top is None else top
    one = np.array(top, dtype)

    def write(stored: Pixels, out: Pixels) -> None:
        np.subtract(one, stored[..., 0], out=out[..., 0])
        out[..., 1:] = stored[..., 1:]

    return Conversion(bands, dtype, write, "min-is-white inverted")


def scaled(bands: int, top: int) -> Conversion:
    """Samples of a few bits as 8-bit ones: value · 255 // top."""
    table = np.minimum(np.arange(256) * 255 // top, 255).astype(np.uint8)
    return looked_up(bands, table)


def from_cmyk(bands: int, dtype: np.dtype[Any]) -> Conversion:
    """Cyan, magenta, yellow and black as RGB, as Pillow does it: (top - c)(top - k) / top.

    Args:
        bands: 4, or 5 with alpha, which stays.
        dtype: uint8 or uint16.
    """
    top = _top(dtype)
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


def expanded(palette: Table) -> Conversion:
    """Indices as the colours of a palette of shape (256, 3), uint8."""

    def write(stored: Pixels, out: Pixels) -> None:
        np.take(palette, stored[..., 0], axis=0, out=out, mode="clip")

    return Conversion(3, palette.dtype, write, "palette expanded")


def looked_up(bands: int, colour: Table, alpha: Table | None = None) -> Conversion:
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


def straightened(bands: int, dtype: np.dtype[Any], top: int | None = None) -> Conversion:
    """Colours that were multiplied by alpha, divided by it: (c · top + a // 2) // a, at most top.

    Where alpha is 0 no colour is left, and 0 comes out. Floats are c / a.

    Args:
        bands, dtype: Of the pixels: unsigned or floats.
        top: The value of what is opaque. Default: the dtype's largest.
    """
    note = "premultiplied alpha made straight"
    if dtype.kind == "f":
        return Conversion(bands, dtype, _write_quotients, note)
    top = _top(dtype) if top is None else top
    # holds top · top + top // 2
    wide = np.dtype({1: np.uint16, 2: np.uint32, 4: np.uint64}[dtype.itemsize])

    def write(stored: Pixels, out: Pixels) -> None:
        alpha = stored[..., -1].astype(wide)
        seen = alpha > 0
        for band in range(bands - 1):
            colour = stored[..., band] * wide.type(top) + alpha // 2
            np.floor_divide(colour, alpha, out=colour, where=seen)
            out[..., band] = np.where(seen, np.minimum(colour, top), 0)
        out[..., -1] = stored[..., -1]

    return Conversion(bands, dtype, write, note)


def _write_quotients(stored: Pixels, out: Pixels) -> None:
    alpha = stored[..., -1]
    out[..., :-1] = 0
    for band in range(stored.shape[-1] - 1):
        np.divide(stored[..., band], alpha, out=out[..., band], where=alpha > 0)
    out[..., -1] = alpha


def ramp(low: float, high: float, count: int, dtype: np.dtype[Any]) -> Table:
    """The table that maps low..high to the whole range of a dtype, linearly.

    Args:
        low, high: What becomes 0, and what becomes the dtype's largest value; low < high.
            Values beyond them become the same.
        count: How many entries: 256 for 8-bit samples, 65536 for 16-bit ones.
        dtype: uint8 or uint16.

    Returns:
        The table; halves are rounded up, exactly (in fractions, not floats).
    """
    top = _top(dtype)
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
    table: Table = np.clip((first + step * values) // below, 0, top).astype(dtype)
    return table


def _top(dtype: np.dtype[Any]) -> int:
    return int(np.iinfo(dtype).max)
