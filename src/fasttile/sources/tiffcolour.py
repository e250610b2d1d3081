"""What a TIFF's samples mean: the steps that make grey, RGB and alpha of them.

Where TIFF 6.0 leaves a choice, the answer is Pillow's and libtiff's, so that a picture looks the
same whoever decodes it, be it compressed or not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .pixels import Conversion, expanded, from_cmyk, inverted, scaled, straightened
from .reading import Reading
from .tifftags import CMYK, COLOURS, MIN_IS_WHITE, Tags

_ASSOCIATED, _UNASSOCIATED, _ALPHA_OF_COREL = 1, 2, 999


@dataclass(frozen=True)
class Meaning:
    """How stored samples become pixels.

    Attributes:
        order: The samples of a pixel that are wanted: its colours, then alpha if there is one.
        left_out: One line for the user, if there are others.
        conversions: What is done to those, one after the other.
        cmyk: Whether what comes out is CMYK.
    """

    order: tuple[int, ...]
    left_out: str | None
    conversions: tuple[Conversion, ...]
    cmyk: bool


def meaning_of(tags: Tags, reading: Reading) -> Meaning:
    """What the samples of a picture mean, and what a user wishes of that.

    Values of fewer than 8 bits are spread over 8. Those of 9 to 15 bits stay as they are: which of
    them are black and white is for the window to say.
    """
    colours = COLOURS[tags.photometric]
    alpha, associated = _alpha(tags.grid.bands - colours, tags.extra_samples)
    order = [*range(colours), *([] if alpha is None else [colours + alpha])]
    cmyk = tags.photometric == CMYK and alpha is None and _keeps_cmyk(tags, reading)
    extra = tags.grid.bands - len(order)
    return Meaning(
        order=tuple(order),
        left_out=f"{extra} extra samples left out" if extra else None,
        conversions=tuple(_conversions(tags, len(order), associated=associated, keep_cmyk=cmyk)),
        cmyk=cmyk,
    )


def _conversions(tags: Tags, bands: int, *, associated: bool, keep_cmyk: bool) -> list[Conversion]:
    dtype = tags.grid.dtype.newbyteorder("=")
    if tags.palette is not None:
        return [expanded(_bytes(tags.palette))]
    steps = []
    top = 2**tags.bits - 1
    if tags.bits < 8:
        steps.append(scaled(bands, top))
        top = 255
    if associated and dtype.kind != "i":
        steps.append(straightened(bands, dtype, top))
    if tags.photometric == CMYK and not keep_cmyk:
        steps.append(from_cmyk(bands, dtype))
    if tags.photometric == MIN_IS_WHITE and dtype.kind != "f":  # of floats nobody knows the white
        steps.append(inverted(bands, dtype, top))
    return steps


def _alpha(extra: int, kinds: tuple[int, ...] | None) -> tuple[int | None, bool]:
    """Which of the extra samples is alpha, and whether colours were multiplied by it."""
    if kinds is None:
        # Without the tag, one sample too many is alpha in all programs that write it so.
        return (0, False) if extra == 1 else (None, False)
    for number, kind in enumerate(kinds[:extra]):
        if kind in (_ASSOCIATED, _UNASSOCIATED, _ALPHA_OF_COREL):
            return number, kind == _ASSOCIATED
    return None, False


def _keeps_cmyk(tags: Tags, reading: Reading) -> bool:
    return reading.keep_cmyk and (tags.metadata.icc_profile or b"")[16:20] == b"CMYK"


def _bytes(palette: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """The colours of all indices, from 16 bits to 8, as an array (2**bits, 3).

    Some writers put 8-bit values into the tag; libtiff knows them by having no larger ones.
    """
    colours = palette if int(palette.max()) < 256 else palette >> 8
    return np.ascontiguousarray(colours.T, np.uint8)
