"""Missing samples (nodata) and masks, which become alpha before anything else is made of them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fasttile.abc.source import BufferedWrapper, Source
from fasttile.geometry import Region
from fasttile.sources.conversions import Conversion, ConvertedSource, Croppable, crop
from fasttile.sources.windows import full_range
from fasttile.types import Pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SPREAD = 4 * float(np.finfo(np.float32).eps)  # of a value, as in GDAL, for floats of all sizes


class MissingValues(NamedTuple):
    """The samples that are missing: those of a range; of floats, NaN too.

    Attributes:
        low, high: The range; empty if no value but NaN is missing.
    """

    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of_value(cls, value: float, dtype: np.dtype[Any], top: int = 0) -> MissingValues | None:
        """The range around a value; None if no sample can have it.

        Args:
            value: The value; integers of any size.
            dtype: Of the samples.
            top: Their largest value. Default: that of the dtype.
        """
        if dtype.kind == "f":
            if math.isnan(value):
                return cls()
            with np.errstate(over="ignore"):
                rounded = float(dtype.type(value))
            if math.isinf(rounded) and not math.isinf(value):
                return None
            value = rounded
            spread = _SPREAD * abs(value)
            return cls(value, value) if math.isinf(spread) else cls(value - spread, value + spread)
        limits = np.iinfo(dtype)
        if not math.isfinite(value) or value != int(value):
            return None
        is_possible = limits.min <= value <= (top or limits.max)
        return cls(int(value), int(value)) if is_possible else None

    def find(self, samples: NDArray[Any]) -> NDArray[np.bool_]:
        """True where a sample is missing."""
        if samples.dtype.kind != "f":
            found: NDArray[np.bool_] = samples == samples.dtype.type(self.low)
            return found
        found = np.isnan(samples)
        if self.low == self.high:
            found |= samples == samples.dtype.type(self.low)
        elif self.low < self.high:
            # In 64 bits, as the ends have no 32.
            found |= (samples >= np.float64(self.low)) & (samples <= np.float64(self.high))
        return found


def mark_missing(
    bands: int,
    dtype: np.dtype[Any],
    values: MissingValues,
    *,
    has_alpha: bool,
    bits: int = 0,
    is_photograph: bool = False,
) -> Conversion:
    """Add alpha, or change it, such that pixels without a valid sample are transparent.

    Their samples become the lowest value. So does a missing sample beside valid ones, so that it
    adds nothing; but not in a photograph, where it may be a colour: (255, 0, 0) with nodata 255.

    Args:
        bands, dtype: Of the stored pixels, with alpha.
        values: The missing ones.
        has_alpha: True if the last band is alpha.
        bits: Of a sample if they are fewer than those of the dtype.
        is_photograph: True if the bands are grey or RGB; of 8 or 16 bits, or it has no effect.
    """
    colours = bands - has_alpha
    transparent, opaque = full_range(dtype, bits)
    lowest = lowest_value(dtype)
    keeps_parts = is_photograph and dtype in (np.uint8, np.uint16)

    def write(stored: Pixels, out: Pixels) -> None:
        out[..., -1] = stored[..., -1] if has_alpha else opaque
        all_missing: NDArray[np.bool_] | None = None
        for band in range(colours):
            missing = values.find(stored[..., band])
            out[..., band] = stored[..., band]
            if not keeps_parts:
                np.copyto(out[..., band], lowest, where=missing)
            all_missing = missing if all_missing is None else all_missing & missing
        assert all_missing is not None  # there is a band
        for band in range(colours if keeps_parts else 0):
            np.copyto(out[..., band], lowest, where=all_missing)
        np.copyto(out[..., -1], transparent, where=all_missing)

    return Conversion(colours + 1, dtype.newbyteorder("="), write)


def lowest_value(dtype: np.dtype[Any]) -> Any:
    """The lowest value of a dtype, which a missing sample gets; of floats -inf."""
    return dtype.type(-np.inf if dtype.kind == "f" else np.iinfo(dtype).min)


def mark_value(source: Source, value: float, label: str) -> Source:
    """Make the samples of a value transparent; the result takes the source over.

    Args:
        source: Of any bands.
        value: The value of missing samples.
        label: Where the value is from, for the note: "nodata -9999".
    """
    values = MissingValues.of_value(value, source.dtype, 2**source.metadata.sample_bits - 1)
    if values is None:
        source.metadata = source.metadata.with_notes(unused_value_note(label, source.dtype))
        return source
    result = ConvertedSource(
        source,
        mark_missing(
            source.bands,
            source.dtype,
            values,
            has_alpha=source.has_alpha,
            bits=source.metadata.sample_bits,
            is_photograph=not (source.channels or source.metadata.is_measured),
        ),
    )
    return with_missing(result, source, f"{label} is transparent")


def unused_value_note(label: str, dtype: np.dtype[Any]) -> str:
    """The note on a value that no sample can have."""
    return f"{label} is no value of {dtype.name}: ignored"


def with_missing(result: Source, base: Source, note: str) -> Source:
    """Set the attributes of a source that has alpha for missing samples."""
    result.channels, result.is_cmyk = base.channels, base.is_cmyk
    result.metadata = replace(base.metadata.without_values(), has_missing=True).with_notes(note)
    return result


class MaskedSource(BufferedWrapper, Croppable):
    """Another source whose pixels are transparent where a mask is 0.

    Args:
        base: The pixels.
        mask: A source of one band and the same size, which the result takes over.
    """

    def __init__(self, base: Source, mask: Source) -> None:
        super().__init__(base)
        self.bands = base.bands + (not base.has_alpha)
        self.random_access = base.random_access and mask.random_access
        self.has_parallel_regions = base.has_parallel_regions and mask.has_parallel_regions
        self.memory_bytes = base.memory_bytes + mask.memory_bytes
        self._mask = mask
        self._alpha = full_range(base.dtype, base.metadata.sample_bits)

    def read(self, y0: int, out: Pixels) -> None:
        """Write the rows from y0 on into out."""
        base, mask, lowest = self._base, self._mask, lowest_value(self.dtype)
        for y in range(0, len(out), self.preferred_rows):
            part = out[y : y + self.preferred_rows]
            stored = base.rows(y0 + y, y0 + y + len(part))
            if base.is_mapped:
                base.populate(stored)
            part[..., -1] = self._alpha[1]
            part[..., : base.bands] = stored
            if base.is_mapped:
                base.discard(stored)
            valid = mask.rows(y0 + y, y0 + y + len(part))
            if mask.is_mapped:
                mask.populate(valid)
            missing = valid[..., 0] == 0
            if mask.is_mapped:
                mask.discard(valid)
            for band in range(self.bands - 1):
                np.copyto(part[..., band], lowest, where=missing)
            np.copyto(part[..., -1], self._alpha[0], where=missing)

    def crop(self, region: Region) -> Source:
        """A source that reads only the region of both."""
        smaller = MaskedSource(crop(self._base, region), crop(self._mask, region))
        smaller.metadata = self.metadata
        return smaller

    def check_intact(self) -> None:
        """Check both."""
        super().check_intact()
        self._mask.check_intact()

    def close(self) -> None:
        """Close both."""
        super().close()
        self._mask.close()
