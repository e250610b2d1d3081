"""The samples that tiles will have: 8 bit, through a window of the values, or 16-bit grey."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from ..options import Window
from .base import Pixels, Sampler, Source
from .convert import Converted
from .pixels import Conversion, looked_up, ramp

_SAMPLES = 2**20  # values, about; what "auto" looks at
_SAMPLE_ROWS = 64

_DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras, scanners and instruments give
_NO_VALUE = 1e30  # floats beyond are what programs write where they have no value


def in_bits(source: Source, bits: Literal[8, 16], window: Window, again: Sampler) -> Source:
    """The source with samples of 8 or 16 bit, the window's values stretched over their range.

    It is the source itself where no sample has to change. Alpha is never windowed: its full
    range becomes the full range.

    Args:
        source: Of any dtype of whole numbers or floats.
        bits: 16 for grey pictures of more than 8 bits only.
        window: "auto" is "full" for 8 bits, and for 16 bits that stay so; else see `likely`.
        again: Opens the same picture once more, to look at its values where the source itself
            can only be read once.

    Raises:
        OptionError: 16 bits are wanted of a picture that has not more than 8, or not only grey.
    """
    if bits == 16 and (source.bands != 1 or source.dtype.itemsize == 1):
        raise OptionError(
            f"{source.name} has {source.bands} × {source.dtype.name}: tiles of 16 bits are for "
            "16-bit grey pictures, which is what PNG through Pillow can carry; use 8 bits"
        )
    dtype = np.dtype(np.uint16 if bits == 16 else np.uint8)
    note = None
    if window == "auto":
        if source.dtype in (np.uint8, dtype):
            window = "full"
        else:
            window, note = likely(_looked_at(source, again))
    whole = _whole_range(source.dtype)
    span = whole if isinstance(window, str) else window
    if source.dtype == dtype and span == whole:
        return source
    if source.dtype in (np.uint8, np.uint16):
        count = int(whole[1]) + 1
        colour = ramp(*span, count, dtype)
        alpha = ramp(*whole, count, dtype) if source.alpha and span != whole else None
        result = Converted(source, looked_up(source.bands, colour, alpha))
    else:
        result = Converted(source, stretched(source.bands, span, whole, dtype))
    if note is not None:
        result.metadata = replace(result.metadata, notes=(*result.metadata.notes, note))
    return result


def stretched(
    bands: int, span: tuple[float, float], whole: tuple[float, float], dtype: np.dtype[Any]
) -> Conversion:
    """Values of any dtype as those of uint8 or uint16: low to 0, high to the top, halves up.

    What is beyond becomes the nearer end, and what is no number 0. The last of 2 or 4 bands is
    alpha, and goes by the whole range.
    """
    top = int(np.iinfo(dtype).max)

    def write(stored: Pixels, out: Pixels) -> None:
        for band in range(bands):
            low, high = whole if bands in (2, 4) and band == bands - 1 else span
            values = stored[..., band].astype(np.float64)
            np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
            np.clip(values, low, high, out=values)
            values -= low
            values *= top / (high - low)
            values += 0.5
            out[..., band] = values  # towards zero, which for positive values is down

    return Conversion(bands, dtype, write)


def likely(values: NDArray[Any]) -> tuple[Window, str]:
    """The window in which values are seen, and why; so that no picture turns black.

    Whole numbers that are not negative and fit 8, 10, 12, 14 or 16 bits have the range of those
    bits; floats up to 1 that of 0 to 1. Anything else, and what would be all but black in that
    range, has from its 0.1th to its 99.9th percentile.

    Args:
        values: Some of the picture's, flat; without those that are no numbers.
    """
    if not values.size:
        return "full", "window full: there is no value to go by"
    least, most = values.min(), values.max()
    if least >= 0:
        tops = [1.0] if values.dtype.kind == "f" else [2.0**bits - 1 for bits in _DEPTHS]
        top = next((top for top in tops if most <= top), None)
        if top is not None and most > top / 8:
            return (0.0, top), f"window 0,{top:g}: the values reach {most:g}"
    low, high = (float(value) for value in np.percentile(values, (0.1, 99.9)))
    if low == high:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return "full", "window full: all values are 0"
    return (low, high), f"window {low:g},{high:g}: the values reach from {least:g} to {most:g}"


def _whole_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    if dtype.kind == "f":
        return 0.0, 1.0
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _looked_at(source: Source, again: Sampler) -> NDArray[Any]:
    """Some values of all of a picture, without alpha."""
    if source.any_order:
        return _numbers(list(_some_rows(source)))
    with again() as twin:
        return _numbers(list(_all_rows(twin)))


def _numbers(parts: list[NDArray[Any]]) -> NDArray[Any]:
    values = np.concatenate(parts)
    if values.dtype.kind == "f":
        values = values[np.abs(values) < _NO_VALUE]  # which is false for what is no number
    return values


def _some_rows(source: Source) -> Iterator[NDArray[Any]]:
    count = min(source.height, _SAMPLE_ROWS)
    for number in range(count):
        y = number * source.height // count
        rows = source.rows(y, y + 1)
        if source.mapped:
            source.bring(rows)
        yield _thinned(source, rows, count)
        if source.mapped:
            source.let_go(rows)


def _all_rows(source: Source) -> Iterator[NDArray[Any]]:
    """From a source that gives its rows in order only: some of each."""
    for y in range(0, source.height, source.row_step):
        rows = source.rows(y, min(source.height, y + source.row_step))
        yield _thinned(source, rows, source.height)


def _thinned(source: Source, rows: Pixels, row_count: int) -> NDArray[Any]:
    """So many of the rows' values, evenly spread, that all rows together give the sample."""
    colours = rows[..., : source.bands - int(source.alpha)]
    step = max(1, colours[0].size * row_count // _SAMPLES)
    return colours.reshape(-1)[::step].copy()
