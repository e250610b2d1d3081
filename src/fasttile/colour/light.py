"""The light that an image's samples stand for: tables by which levels are averaged in linear light.

Levels hold the samples of the image, in its own colours: those of its profile until the encoders
convert the tiles, else sRGB. So the curve is that of the profile of the samples, one for each band.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from fasttile.abc.source import Source
from fasttile.colour.convert import ColourPlan, is_srgb, profile_name
from fasttile.colour.matrix import linearized, profile_tags, srgb_light
from fasttile.errors import OptionError
from fasttile.kernels import LightTables

if TYPE_CHECKING:
    from fasttile.colour.matrix import Floats


def light_tables(source: Source, colour_plan: ColourPlan) -> LightTables:
    """The tables of light for the samples of an image as levels hold them.

    Args:
        source: The image: its name, its dtype, and whether it is CMYK.
        colour_plan: What happens to its profile. A grey image that is converted by a table before
            its levels are made is sRGB, as one without a profile.

    Raises:
        OptionError: The image is CMYK, or its profile has no curves.
    """
    if source.is_cmyk:
        raise OptionError(
            f"{source.name}: shrink linear: inks of CMYK have no curve of light; use shrink mean, "
            "or icc drop, which makes RGB of them before"
        )
    transform, profile = colour_plan.transform, colour_plan.tile_metadata.icc_profile
    if transform is not None:
        profile = transform.profile
    codes = 1 << 8 * source.dtype.itemsize
    try:
        return tables_for_profile(profile, codes)
    except ValueError as error:
        assert profile is not None  # sRGB has a curve
        raise OptionError(
            f"{source.name}: shrink linear: {profile_name(profile)}: {error}; use shrink mean, or "
            "icc drop, which takes the curve of sRGB"
        ) from None


@lru_cache(maxsize=4)
def tables_for_profile(profile: bytes | None, codes: int) -> LightTables:
    """The tables of light for samples of a profile.

    Args:
        profile: An ICC profile for grey or RGB, which LittleCMS accepts. None: sRGB.
        codes: 256, or 65,536 for samples of 16 bits.

    Raises:
        ValueError: The profile has tables instead of curves, or curves that do not increase.
    """
    values = np.arange(codes) / (codes - 1)
    if profile is None:
        return LightTables(srgb_light(values)[None])
    try:
        curves = _curves(profile, values)
    except Exception:  # there are many ways to be damaged
        if profile[16:20] == b"RGB " and is_srgb(profile):
            return tables_for_profile(None, codes)
        raise ValueError("its colours are in a table, not in curves") from None
    if (curves == curves[:1]).all():
        curves = curves[:1]  # one table stays in the processor's cache
    try:
        return LightTables(curves)
    except ValueError:
        raise ValueError("its curves do not increase") from None


def _curves(profile: bytes, values: Floats) -> Floats:
    """The light of values for each curve of a profile, shape (1 or 3, values)."""
    tags = profile_tags(profile)
    if any(name[1:3] == b"2B" for name in tags):
        raise ValueError("it has tables")
    names = (b"kTRC",) if profile[16:20] == b"GRAY" else (b"rTRC", b"gTRC", b"bTRC")
    with np.errstate(all="ignore"):  # of a damaged curve; `LightTables` refuses what is no number
        return np.stack([np.clip(linearized(tags[name], values), 0, 1) for name in names])
