"""Conversion of the stored samples of a TIFF to pixels: colours, alpha, and missing samples.

Where TIFF 6.0 leaves a choice, the meaning agrees with Pillow and libtiff.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fasttile.abc.source import Metadata
from fasttile.errors import OptionError
from fasttile.options.read import ReadOptions
from fasttile.sources.conversions import (
    Conversion,
    apply_palette,
    cmyk_to_rgb,
    invert_grey,
    scale_to_8bit,
    select_bands,
    unpremultiply,
    ycbcr_to_rgb,
)
from fasttile.sources.tiff.tags import CMYK, COLOURS, JPEG, MIN_IS_WHITE, Tags
from fasttile.types import Pixels

if TYPE_CHECKING:
    from fasttile.options.bands import BandSpec

_ASSOCIATED, _UNASSOCIATED, _COREL_ALPHA = 1, 2, 999
_MANY_BANDS = 4  # a file of more says which are shown


@dataclass(frozen=True)
class SampleLayout:
    """Conversion of stored samples to pixels.

    Attributes:
        sample_order: The samples of a pixel to use: its colours, then alpha if there is one.
        notes: One line each for the user.
        conversions: The conversions of these samples, in order.
        is_cmyk: True if the pixels are CMYK, or CMYK with alpha.
        channels: Number of bands that get colours later; 0: they are grey or colours.
        has_missing: True if alpha shows missing samples.
    """

    sample_order: tuple[int, ...]
    notes: tuple[str, ...]
    conversions: tuple[Conversion, ...]
    is_cmyk: bool
    channels: int = 0
    has_missing: bool = False


def check_bands(name: str, tags: Tags, spec: BandSpec) -> None:
    """Refuse bands that a TIFF does not have, or that are no measurements or colours of their own.

    Raises:
        OptionError: They cannot be shown.
    """
    from fasttile.sources.bands import check_numbers, cmyk_error

    if tags.photometric == CMYK:
        raise cmyk_error(name, "bands")
    check_numbers(name, spec, tags.grid.bands)
    colours = COLOURS[tags.photometric]
    alpha, is_associated = _find_alpha(tags.grid.bands - colours, tags.extra_samples)
    others = [number for number in spec.numbers if number > colours]
    is_picked = alpha is not None and colours + alpha + 1 in others
    if is_associated and not is_picked and 0 < len(others) < len(spec.numbers):
        raise OptionError(
            f"{name}: bands: its colours are multiplied by alpha, and its other bands are not; "
            "show them apart"
        )
    if tags.photometric == MIN_IS_WHITE and tags.grid.bands - (alpha is not None) > 1:
        raise OptionError(
            f"{name}: bands: the first of its {tags.grid.bands} bands is min-is-white; write it "
            "again as min-is-black"
        )


def derive_sample_layout(tags: Tags, read_options: ReadOptions) -> SampleLayout:
    """Derive the conversion of the samples of an image.

    Values of fewer than 8 bits are scaled to 8. Those of 9 to 15 bits stay unchanged: the window
    decides which of them are black and white. With a colour file all values stay as they are
    stored, and with other colours of bands the numbers of a palette.
    """
    colours = COLOURS[tags.photometric]
    alpha, is_associated = _find_alpha(tags.grid.bands - colours, tags.extra_samples)
    spec = read_options.band_spec
    picks = [*range(colours)] if spec is None else [number - 1 for number in spec.numbers]
    if spec is not None:
        # Only declared alpha stays, unless it is picked itself.
        if tags.extra_samples is None or (alpha is not None and colours + alpha in picks):
            alpha = None
        is_associated = is_associated and alpha is not None and max(picks) < colours
    order = picks + ([] if alpha is None else [colours + alpha])
    is_cmyk = tags.photometric == CMYK and read_options.keep_cmyk
    is_cmyk = is_cmyk and tags.metadata.has_cmyk_profile
    chain = _Chain(tags, len(order), has_alpha=alpha is not None)
    shown = tuple(order)
    if tags.ycbcr is not None and tags.compression != JPEG:
        order = [*range(colours)]
        chain.add(ycbcr_to_rgb(tags.ycbcr.luma, tags.ycbcr.reference))
        if picks != order:
            chain.add(select_bands(picks, chain.dtype))
    is_photograph = spec is None or (colours == 3 and max(picks) < 3 and not spec.is_coloured)
    note = chain.mark_missing(_missing_value(tags, read_options), is_photograph=is_photograph)
    chain.add_colours(spec, is_associated=is_associated, keeps_cmyk=is_cmyk)
    return SampleLayout(
        sample_order=tuple(order),
        notes=tuple(one for one in (_note_on_bands(tags, shown, alpha, spec), note) if one),
        conversions=tuple(chain.conversions),
        is_cmyk=is_cmyk,
        channels=len(picks) if spec is not None and spec.is_coloured else 0,
        has_missing=chain.has_missing,
    )


def sample_metadata(tags: Tags, layout: SampleLayout, read_options: ReadOptions) -> Metadata:
    """The metadata of an image, with the notes on its samples but those of conversions."""
    metadata = replace(tags.metadata, has_missing=layout.has_missing).with_notes(*layout.notes)
    if read_options.band_spec is None:
        return metadata
    from fasttile.sources.bands import banded_metadata

    return banded_metadata(
        metadata, read_options.band_spec, range(1, COLOURS[tags.photometric] + 1)
    )


class _Chain:
    """The conversions of an image, one after the other.

    Args:
        tags: Of the image.
        bands: Number of samples that are used.
        has_alpha: True if the last one is alpha.
    """

    def __init__(self, tags: Tags, bands: int, *, has_alpha: bool) -> None:
        self._tags = tags
        self._top = 2**tags.bits - 1
        self.bands = bands
        self.has_alpha = has_alpha
        self.dtype: np.dtype[Any] = tags.grid.dtype.newbyteorder("=")
        self.has_missing = False
        self.conversions: list[Conversion] = []

    def add(self, conversion: Conversion) -> None:
        """Add a conversion of all bands."""
        self.conversions.append(conversion)
        self.bands, self.dtype = conversion.bands, conversion.dtype

    def mark_missing(self, value: float | None, *, is_photograph: bool) -> str | None:
        """Make missing samples transparent; returns a note."""
        if value is None:
            return None
        from fasttile.sources.missing import MissingValues, mark_missing, unused_value_note

        bits = self._tags.bits if self.dtype.kind == "u" else 0
        values = MissingValues.of_value(value, self.dtype, 2**bits - 1)
        if values is None:
            return unused_value_note(f"nodata {value}", self.dtype)
        self.add(
            mark_missing(
                self.bands,
                self.dtype,
                values,
                has_alpha=self.has_alpha,
                bits=bits,
                is_photograph=is_photograph,
            )
        )
        self.has_alpha = self.has_missing = True
        return f"nodata {value} is transparent"

    def add_colours(self, spec: BandSpec | None, *, is_associated: bool, keeps_cmyk: bool) -> None:
        """Add conversions to grey or RGB whose samples fill their dtype."""
        tags, is_table = self._tags, spec is not None and bool(spec.table)
        if tags.palette is not None and (spec is None or not spec.is_coloured):
            # Some writers store 8-bit values in the tag; libtiff detects that no value is larger.
            palette = tags.palette if int(tags.palette.max()) < 256 else tags.palette >> 8
            colours = np.ascontiguousarray(palette.T, np.uint8)
            self.add(apply_palette(colours, has_alpha=self.has_alpha))
        elif tags.bits < 8 and not is_table:
            self.add(scale_to_8bit(self.bands, self._top))
            self._top = 255
        elif tags.bits < 8 and self.has_alpha:
            self.add(_scale_alpha(self.bands, self._top))
        if is_associated and self.dtype.kind != "i":
            self.add(unpremultiply(self.bands, self.dtype, self._top))
        if tags.photometric == CMYK and not keeps_cmyk:
            self.add(cmyk_to_rgb(self.bands, self.dtype))
        is_known_white = self.dtype.kind != "f"  # the white of floats is unknown
        if tags.photometric == MIN_IS_WHITE and is_known_white and not is_table:
            self.add(invert_grey(self.bands, self.dtype, self._top))


def _scale_alpha(bands: int, top: int) -> Conversion:
    """Alpha of fewer than 8 bits as 8-bit alpha; other bands stay."""

    def write(stored: Pixels, out: Pixels) -> None:
        out[..., :-1] = stored[..., :-1]
        out[..., -1] = stored[..., -1].astype(np.uint16) * 255 // top

    return Conversion(bands, np.dtype(np.uint8), write)


def _missing_value(tags: Tags, read_options: ReadOptions) -> float | None:
    """The value of missing samples: that of the options, else that of the file."""
    return tags.nodata if read_options.nodata is None else read_options.nodata_value


def _note_on_bands(
    tags: Tags, order: tuple[int, ...], alpha: int | None, spec: BandSpec | None
) -> str | None:
    """Which bands are shown of many, or how many are left out."""
    total = tags.grid.bands
    left_out = total - len(set(order))
    if total <= _MANY_BANDS:
        return f"{left_out} extra samples left out" if left_out and spec is None else None
    shown = [number + 1 for number in order]
    with_alpha = f" with the alpha of band {shown.pop()}" if alpha is not None else ""
    names = f"band{'s' * (len(shown) > 1)} {', '.join(map(str, shown))}"
    left = f", {left_out} left out" if left_out else ""
    advice = "; --bands picks others" if spec is None else ""
    return f"{names} of {total} shown{with_alpha}{left}{advice}"


def _find_alpha(extra: int, kinds: tuple[int, ...] | None) -> tuple[int | None, bool]:
    """Index of alpha among the extra samples, and True if premultiplied."""
    if kinds is None:
        # Programs that omit the tag write alpha as the only extra sample.
        return (0, False) if extra == 1 else (None, False)
    for number, kind in enumerate(kinds[:extra]):
        if kind in (_ASSOCIATED, _UNASSOCIATED, _COREL_ALPHA):
            return number, kind == _ASSOCIATED
    return None, False
