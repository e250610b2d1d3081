"""The window "auto": the range of an image's values, and the samples that it is found from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fasttile.abc.source import Source, SourceOpener
from fasttile.types import Pixels, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_SAMPLE_VALUES = 2**20  # values, about, that window "auto" inspects
_SAMPLE_ROWS = 64  # rows that it reads of a source with random access
_SENSOR_BIT_DEPTHS = (8, 10, 12, 14, 16)  # of cameras, scanners and instruments
_NODATA_LIMIT = 1e30  # programs write larger floats for missing values


def full_range(dtype: np.dtype[Any], bits: int = 0) -> tuple[float, float]:
    """The lowest and highest value of samples; of alpha those of transparent and opaque pixels.

    Args:
        dtype: Of the samples; of floats the range is 0 to 1.
        bits: Of a sample if they are fewer than those of the dtype.
    """
    if dtype.kind == "f":
        return 0.0, 1.0
    return int(np.iinfo(dtype).min), 2**bits - 1 if bits else int(np.iinfo(dtype).max)


def auto_window(source: Source, bits: Literal[8, 16]) -> Window | None:
    """The window "auto" of an image of `bits` bits; None if its values have to be inspected."""
    metadata = source.metadata
    if metadata.window is not None:
        return metadata.window
    # The values of a photograph have a defined meaning: to stretch them would change its look.
    is_defined = metadata.icc_profile is not None or source.bands >= 3
    is_defined = is_defined and not metadata.is_measured
    if source.dtype in (np.uint8, np.uint16 if bits == 16 else np.uint8):
        return "full"
    if source.dtype == np.uint16 and is_defined:
        return (0, 2**metadata.sample_bits - 1) if metadata.sample_bits else "full"
    return None


def guess_window(values: NDArray[Any]) -> tuple[Window, str]:
    """Window in which the values of an image are visible, and a note on it.

    For non-negative integers of 8, 10, 12, 14 or 16 bits it is the range of those bits; for
    floats up to 1 it is 0 to 1. For other values, and for values in the lowest eighth of that
    range, it is their 0.1th to 99.9th percentile.

    Args:
        values: A sample of the values, flat and without NaN.
    """
    if not values.size:
        return "full", "window full: the image has no valid value"
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


def sample_values(source: Source, reopen: SourceOpener) -> NDArray[Any]:
    """A sample of the valid values of an image, without alpha and transparent pixels; flat."""
    return _valid_values(source, [_thin_values(*part) for part in _sample_rows(source, reopen)])


def sample_bands(source: Source, reopen: SourceOpener) -> list[NDArray[Any]]:
    """A sample of the valid values of each band but alpha."""
    count = source.bands - int(source.has_alpha)
    parts: list[list[NDArray[Any]]] = [[] for _ in range(count)]
    for twin, rows, row_count in _sample_rows(source, reopen):
        for band in range(count):
            parts[band].append(_thin_values(twin, rows, row_count, band))
    return [_valid_values(source, part) for part in parts]


def _sample_rows(source: Source, reopen: SourceOpener) -> Iterator[tuple[Source, Pixels, int]]:
    """Some rows of an image, or all: the source that they are of, the rows, and their number."""
    if source.random_access:
        count = min(source.height, _SAMPLE_ROWS)
        for number in range(count):
            y = number * source.height // count
            rows = source.rows(y, y + 1)
            if source.is_mapped:
                source.populate(rows)
            yield source, rows, count
            if source.is_mapped:
                source.discard(rows)
        return
    with reopen() as twin:
        for rows in all_rows(twin):
            yield twin, rows, twin.height


def all_rows(source: Source) -> Iterator[Pixels]:
    """The rows of an image from top to bottom, as many at a time as are cheapest."""
    for y in range(0, source.height, source.preferred_rows):
        rows = source.rows(y, min(source.height, y + source.preferred_rows))
        if source.is_mapped:
            source.populate(rows)
        yield rows
        if source.is_mapped:
            source.discard(rows)


def _thin_values(
    source: Source, rows: Pixels, row_count: int, band: int | None = None
) -> NDArray[Any]:
    """Evenly spaced values of rows, such that `row_count` rows are a sample."""
    colours = rows[..., : source.bands - int(source.has_alpha)]
    step = max(1, colours[0].size * row_count // _MAX_SAMPLE_VALUES)
    if band is not None:
        colours = colours[..., band : band + 1]
    if source.has_alpha:
        transparent, _ = full_range(source.dtype)
        colours = colours[rows[..., -1] > transparent]
    return colours.reshape(-1)[::step].copy()


def _valid_values(source: Source, parts: list[NDArray[Any]]) -> NDArray[Any]:
    values = np.concatenate(parts)
    if values.dtype.kind == "f":
        is_half = values.dtype == np.float16  # the limit would overflow
        is_valid = np.isfinite(values) if is_half else np.abs(values) < _NODATA_LIMIT
        values = values[is_valid]  # False for NaN
    elif source.metadata.has_missing and source.bands > 2:
        # A sample that is missing where others of its pixel are valid has the lowest value.
        values = values[values > np.iinfo(values.dtype).min]
    return values
