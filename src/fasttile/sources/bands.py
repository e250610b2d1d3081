"""Bands that are picked, and their colours: tints, palettes, and colour files as GDAL has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fasttile.abc.source import Metadata, Source, SourceOpener
from fasttile.errors import OptionError
from fasttile.options.bands import BandSpec, ColourLine
from fasttile.options.read import ReadOptions
from fasttile.sources.conversions import (
    Conversion,
    ConvertedSource,
    ramp,
    select_bands,
    stretch_values,
)
from fasttile.sources.missing import MissingValues, mark_missing, mark_value
from fasttile.sources.windows import (
    all_rows,
    auto_window,
    full_range,
    guess_window,
    sample_bands,
)
from fasttile.types import Pixels, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

Samples: TypeAlias = "NDArray[Any]"
"""Samples of one band, shape (rows, width)."""

Mapper = Callable[[Samples], "NDArray[np.uint8]"]
"""Makes values of 0 to 255 of the samples of one band, or colours (rows, width, 4)."""

_UINT8 = np.dtype(np.uint8)


def take_samples(source: Source, read_options: ReadOptions, *, declares_alpha: bool) -> Source:
    """Take the bands of the options, and mark missing samples; the result takes the source over.

    Args:
        source: An image before its window, whose bands are grey or RGB, perhaps with alpha.
        read_options: The bands and the value of missing samples.
        declares_alpha: True if its format says that the last band is alpha; with tints and
            palettes, another one is left out.

    Raises:
        OptionError: The image has no such bands, or its samples are no longer those of the file.
    """
    _check_samples(source, read_options)
    if read_options.band_spec is not None:
        source = _take_bands(source, read_options.band_spec, declares_alpha=declares_alpha)
    nodata = read_options.nodata_value
    return source if nodata is None else mark_value(source, nodata, f"nodata {nodata}")


def _check_samples(source: Source, read_options: ReadOptions) -> None:
    """Refuse samples that became others when the image was opened.

    Those of inks, Lab and palettes cannot be picked; those of another depth only not by value.
    """
    spec, stored = read_options.band_spec, source.metadata.stored_as
    option = "nodata" if spec is None else "bands"
    has_value = read_options.nodata_value is not None
    if source.is_cmyk or "CMYK" in stored:
        raise cmyk_error(source.name, option)
    if "palette" in stored:
        raise OptionError(
            f"{source.name}: {option}: its values are numbers of a palette, which are used of a "
            "TIFF only; gdal_translate makes one"
        )
    if stored == "CIELab":
        raise OptionError(
            f"{source.name}: {option}: its colours are CIELab; convert it to RGB, or leave it out"
        )
    is_scaled = stored.endswith(" bit") or stored.startswith("maxval ")
    if is_scaled and (has_value or (spec is not None and spec.table)):
        option = "nodata" if has_value else "bands"
        raise OptionError(
            f"{source.name}: {option}: its values ({stored}) become others when it is read; "
            "convert it to TIFF, of which they are used"
        )


def _take_bands(source: Source, spec: BandSpec, *, declares_alpha: bool) -> Source:
    stored = source.bands
    colours = stored - source.has_alpha
    check_numbers(source.name, spec, stored)
    keeps_alpha = declares_alpha or not spec.is_coloured
    with_alpha = source.has_alpha and keeps_alpha and stored not in spec.numbers
    order = [number - 1 for number in spec.numbers] + [stored - 1] * with_alpha
    metadata = source.metadata
    if order != list(range(stored)):
        source = ConvertedSource(source, select_bands(order, source.dtype))
    source.channels = len(spec.numbers) if spec.is_coloured else 0
    source.metadata = banded_metadata(metadata, spec, range(1, colours + 1))
    return source


def cmyk_error(name: str, option: str) -> OptionError:
    """The error about bands or nodata of a CMYK image."""
    return OptionError(
        f"{name}: {option}: its colours are CMYK; convert it to RGB, or leave it out"
    )


def check_numbers(name: str, spec: BandSpec, count: int) -> None:
    """Refuse bands that an image does not have.

    Raises:
        OptionError: There is one.
    """
    if max(spec.numbers) > count:
        has = f"it has {count} band{'s' * (count > 1)}"
        raise OptionError(f"{name}: bands: {has}, and no band {max(spec.numbers)}")


def banded_metadata(metadata: Metadata, spec: BandSpec, colours: Sequence[int]) -> Metadata:
    """The metadata of an image of which bands are taken.

    Args:
        metadata: Of the image.
        spec: The bands.
        colours: The numbers of its grey or red, green and blue.
    """
    is_photograph = len(colours) == 3 and set(spec.numbers) <= set(colours)
    is_photograph = is_photograph and not spec.is_coloured
    keeps_profile = not spec.is_coloured and spec.numbers == tuple(colours)
    note = None
    if metadata.icc_profile is not None and not keeps_profile:
        note = "its colour profile is left out: it is not for these bands"
    return replace(
        metadata.without_values(),
        is_measured=not is_photograph,
        icc_profile=metadata.icc_profile if keeps_profile else None,
    ).with_notes(note)


def colour_bands(source: Source, spec: BandSpec, window: Window, reopen: SourceOpener) -> Source:
    """Colour the bands of a source by tints, a palette or a colour file; RGB of 8 bits.

    Missing samples are transparent, unless the colour file has a line `nv`.

    Args:
        source: Its `channels` are the bands of the specification.
        spec: The bands and their colours.
        window: The values that become 0 and 255; "auto" is chosen for each band. Not used with
            a colour file.
        reopen: Opens the same image again, to inspect its values.
    """
    if source.dtype.kind == "f":
        # NaN has no colour.
        has_alpha = source.has_alpha
        nan = mark_missing(source.bands, source.dtype, MissingValues(), has_alpha=has_alpha)
        source = ConvertedSource(source, nan)
        first_reopen = reopen

        def reopen() -> Source:
            return ConvertedSource(first_reopen(), nan)

    notes: list[str | None] = []
    if spec.table:
        table = _resolve_percentages(spec.table, source, reopen)
        conversion = _apply_table(source, table)
    else:
        windows = _band_windows(source, spec, window, reopen, notes)
        mappers = [_window_mapper(span, source.dtype) for span in windows]
        conversion = (
            _apply_palette(source, mappers[0], spec.palette)
            if spec.palette
            else _apply_tints(source, mappers, spec)
        )
    result = ConvertedSource(source, conversion)
    result.channels = 0
    result.metadata = replace(result.metadata, is_measured=False, sample_bits=0).with_notes(*notes)
    return result


def needs_values(source: Source, spec: BandSpec, window: Window) -> bool:
    """True if the colours of bands depend on the values of the image."""
    if spec.table:
        return any(line.unit == "%" for line in spec.table)
    return window == "auto" and auto_window(source, 8) is None


def _band_windows(
    source: Source,
    spec: BandSpec,
    window: Window,
    reopen: SourceOpener,
    notes: list[str | None],
) -> list[tuple[float, float]]:
    """The window of each band, in numbers."""
    full = full_range(source.dtype)
    if not needs_values(source, spec, window):
        known = auto_window(source, 8) if window == "auto" else window
        return [known if isinstance(known, tuple) else full] * len(spec.numbers)
    found = []
    for number, values in zip(spec.numbers, sample_bands(source, reopen), strict=True):
        guess, note = guess_window(values)
        found.append(guess if isinstance(guess, tuple) else full)
        notes.append(note if len(spec.numbers) == 1 else f"band {number}: {note}")
    return found


def _window_mapper(span: tuple[float, float], dtype: np.dtype[Any]) -> Mapper:
    """Map a range of values to 0 to 255, halves up."""
    if dtype in (np.uint8, np.uint16):
        table = ramp(*span, int(np.iinfo(dtype).max) + 1, _UINT8)
        return lambda samples: np.take(table, samples, mode="clip")
    conversion = stretch_values(1, span, span, _UINT8)

    def stretch(samples: Samples) -> NDArray[np.uint8]:
        out = np.empty((*samples.shape, 1), np.uint8)
        conversion.write(samples[..., None], out)
        return out[..., 0]

    return stretch


def _alpha_mapper(source: Source) -> Mapper:
    return _window_mapper(full_range(source.dtype, source.metadata.sample_bits), source.dtype)


def _apply_palette(source: Source, mapper: Mapper, name: str) -> Conversion:
    from fasttile.sources.palettes import palette_colours

    colours, map_alpha, has_alpha = palette_colours(name), _alpha_mapper(source), source.has_alpha

    def write(stored: Pixels, out: Pixels) -> None:
        out[..., :3] = np.take(colours, mapper(stored[..., 0]), axis=0, mode="clip")
        if has_alpha:
            out[..., 3] = map_alpha(stored[..., 1])

    return Conversion(3 + has_alpha, _UINT8, write, f"coloured by {name}")


def _apply_tints(source: Source, mappers: list[Mapper], spec: BandSpec) -> Conversion:
    """The sum of all bands, each times its colour: value · colour / 255, halves up, at most 255."""
    map_alpha, has_alpha = _alpha_mapper(source), source.has_alpha

    def write(stored: Pixels, out: Pixels) -> None:
        total = np.zeros((3, *stored.shape[:2]), np.uint32)
        for band, (mapper, tint) in enumerate(zip(mappers, spec.tints, strict=True)):
            values = mapper(stored[..., band]).astype(np.uint32)
            for colour in range(3):
                if tint[colour]:
                    total[colour] += values * np.uint32(tint[colour])
        total += np.uint32(127)
        total //= np.uint32(255)
        np.minimum(total, 255, out=total)
        for colour in range(3):
            out[..., colour] = total[colour]
        if has_alpha:
            out[..., 3] = map_alpha(stored[..., -1])

    tints = ", ".join(
        f"{number} in #{red:02x}{green:02x}{blue:02x}"
        for number, (red, green, blue) in zip(spec.numbers, spec.tints, strict=True)
    )
    return Conversion(3 + has_alpha, _UINT8, write, f"bands {tints}, added")


def _apply_table(source: Source, lines: Sequence[ColourLine]) -> Conversion:
    """The colours of a colour file, interpolated between its lines."""
    missing = next((line.colour for line in lines if line.unit == "nv"), (0, 0, 0, 0))
    map_colours, map_alpha = _table_mapper(lines, source.dtype), _alpha_mapper(source)
    transparent, _ = full_range(source.dtype)
    has_alpha = source.has_alpha
    bands = 3 + (has_alpha or any(line.colour[3] < 255 for line in lines if line.unit != "nv"))

    def write(stored: Pixels, out: Pixels) -> None:
        colours = map_colours(stored[..., 0])
        if has_alpha:
            alpha = map_alpha(stored[..., 1]).astype(np.uint32)
            colours[..., 3] = (colours[..., 3] * alpha + 127) // 255
            colours[stored[..., 1] <= transparent] = missing
        out[...] = colours[..., :bands]

    return Conversion(bands, _UINT8, write, "coloured by a colour file")


def _table_mapper(lines: Sequence[ColourLine], dtype: np.dtype[Any]) -> Mapper:
    ordered = sorted((line for line in lines if line.unit != "nv"), key=lambda line: line.value)
    values = np.array([line.value for line in ordered])
    colours = np.array([line.colour for line in ordered], np.float64)

    def interpolate(samples: Samples) -> NDArray[np.uint8]:
        numbers = samples.astype(np.float64)
        right = np.searchsorted(values, numbers, side="right")
        lower, upper = np.maximum(right - 1, 0), np.minimum(right, len(values) - 1)
        distance = values[upper] - values[lower]
        with np.errstate(invalid="ignore"):  # of infinite samples, beyond the first or last line
            share = (numbers - values[lower]) / np.where(distance > 0, distance, 1)
            share = np.where(distance > 0, share, 0)
        share = share[..., None]
        mixed = colours[lower] + share * (colours[upper] - colours[lower])
        return np.clip(0.5 + mixed, 0, 255).astype(np.uint8)

    if dtype.kind == "f" or dtype.itemsize > 2:
        return interpolate
    unsigned = np.dtype(f"u{dtype.itemsize}")
    every_value = np.arange(2 ** (8 * dtype.itemsize), dtype=unsigned)
    table = interpolate(every_value.view(dtype))
    return lambda samples: np.take(table, samples.view(unsigned), axis=0, mode="clip")


def _resolve_percentages(
    lines: Sequence[ColourLine], source: Source, reopen: SourceOpener
) -> Sequence[ColourLine]:
    """The lines with values in place of percentages, between the smallest and largest value."""
    if not any(line.unit == "%" for line in lines):
        return lines
    low, high = np.inf, -np.inf
    transparent, _ = full_range(source.dtype)
    with nullcontext(source) if source.random_access else reopen() as twin:
        for rows in all_rows(twin):
            values = rows[..., 0]
            if source.has_alpha:
                values = values[rows[..., -1] > transparent]
            if values.dtype.kind == "f":
                values = values[np.isfinite(values)]
            if values.size:
                low, high = min(low, float(values.min())), max(high, float(values.max()))
    if low > high:
        low, high = 0.0, 1.0
    return [
        line._replace(value=low + line.value * (high - low), unit="") if line.unit == "%" else line
        for line in lines
    ]
