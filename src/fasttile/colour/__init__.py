"""Colours: what becomes of an image's profile and its resolution, and the way to sRGB.

An ICC profile says which colours an image's numbers stand for. A viewer of tiles takes sRGB for
granted, so the plan (`managed`) is to convert to it, tile by tile on the encoders' threads, unless
the user wants the profile itself in each tile, or nothing of it.

LittleCMS, through Pillow, does the conversion. It is imported where there is a profile to look
at, which few images have, for it takes as long as a hundred tiles.
"""

from __future__ import annotations

import io
import math
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fasttile.abc.source import Source
from fasttile.colour.convert import (
    DEEP_TOLERANCE,
    MAX_NAME_LENGTH,
    NO_CONVERSION,
    RELATIVE_COLORIMETRIC,
    ROUNDING,
    ColourPlan,
    TileMetadata,
    Transform,
    convert_pixels,
    grey_table,
    has_deep_tables,
    is_srgb,
    lcms_transform,
    make_converter,
    profile_name,
    verified_tables,
)
from fasttile.colour.matrix import (
    apply_deep_tables,
    deep_grey_table,
    deep_tables,
)
from fasttile.errors import one_line, printable
from fasttile.kernels import luma
from fasttile.options import opaque_colour
from fasttile.sources.conversions import (
    Conversion,
    ConvertedSource,
    lookup_table,
    opaque_alpha,
    ramp,
)
from fasttile.types import Background, Colour, Pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fasttile.types import Icc

MAX_PROFILE_BYTES = 16_000_000
"""Bytes of the largest profile that is looked at; the largest of printers have a tenth of it. A
JPEG can hold 255 pieces of one, which is a little more."""

_HEADER_BYTES = 132
"""The header, and the number of tags."""

_SPACES = {b"GRAY": "grey", b"RGB ": "RGB", b"CMYK": "CMYK"}


def plan_colours(source: Source, icc: Icc, *, keeps_grey: bool = True) -> ColourPlan:
    """The plan for an image.

    A profile that does not fit the image's bands, that is damaged or far too large, is left
    aside with a note. One that is the same as sRGB is left aside without.

    Args:
        source: Its metadata has the profile and the resolution.
        icc: "srgb" converts; "keep" puts the profile into each tile, but converts CMYK, which
            tiles cannot hold; "drop" forgets it.
        keeps_grey: True if the tiles' format has grey tiles, in which a profile for grey has a
            meaning. Where it has not, such a profile is not kept but converted.
    """
    profile = None if icc == "drop" else source.metadata.icc_profile
    colours = _plan_for_profile(profile, source, keep=icc == "keep", keeps_grey=keeps_grey)
    resolution = source.metadata.resolution
    if resolution is not None:
        x, y = float(resolution[0]), float(resolution[1])
        is_valid = math.isfinite(x) and math.isfinite(y) and x > 0 and y > 0
        resolution = (x, y) if is_valid else None
    metadata = colours.tile_metadata._replace(resolution=resolution)
    return replace(colours, tile_metadata=metadata)


def _plan_for_profile(
    profile: bytes | None, source: Source, *, keep: bool, keeps_grey: bool
) -> ColourPlan:
    if not profile:
        return _without_profile(source)
    wanted = "CMYK" if source.is_cmyk else "grey" if source.bands < 3 else "RGB"
    fault = _obvious_fault(profile, wanted)
    if fault is not None:
        return _without_profile(source, fault)
    try:
        if wanted == "CMYK":
            transform = Transform(profile, "CMYK")
            lcms_transform(transform)
            why = "tiles cannot carry CMYK: " if keep else ""
            note = f"{why}converted from {profile_name(profile)} to sRGB"
            return ColourPlan(transform, notes=(note,))
        if wanted == "grey":
            return _for_grey(profile, source, keep=keep, keeps_grey=keeps_grey)
        already_srgb = is_srgb(profile)  # this also checks the profile
        if keep:
            return ColourPlan(tile_metadata=TileMetadata(profile))
        if already_srgb:
            return NO_CONVERSION
        transform = Transform(profile)
        lcms_transform(transform)  # raises if LittleCMS refuses it; cached for the encoders
        verified_tables(transform)
        return ColourPlan(transform, notes=(f"converted from {profile_name(profile)} to sRGB",))
    except Exception as error:  # LittleCMS has many ways to dislike one
        return _without_profile(
            source, f"broken profile ignored: {one_line(error, MAX_NAME_LENGTH)}"
        )


def convert_deep_profile(
    source: Source, samples: NDArray[np.uint16], *, keeps_rgb: bool = False
) -> Conversion | None:
    """A conversion to sRGB of samples of more than 8 bits, before they become 8.

    LittleCMS, through Pillow, takes 8 bits only, which would leave a few of the dark values of a
    linear profile. Profiles of a matrix and curves, and of grey, are computed here, with 16 bits
    of light, and compared with LittleCMS. Those of tables (of printers, cameras and CMYK) are left
    to the encoders: their values are spread as those of 8 bits are.

    Args:
        source: Grey or RGB of uint16; or CMYK with alpha, of uint8.
        samples: The value of each stored sample, of 65535.
        keeps_rgb: True if the profiles of grey and RGB stay with the tiles.

    Returns:
        The conversion, or None: the profile is kept, is sRGB, or the encoders convert by it.
    """
    profile = source.metadata.icc_profile or b""
    wanted = "CMYK" if source.is_cmyk else "grey" if source.bands < 3 else "RGB"
    if _obvious_fault(profile, wanted) is not None or (keeps_rgb and wanted != "CMYK"):
        return None
    alpha_top = 2 ** (source.metadata.sample_bits or 16) - 1
    alpha = ramp(0, alpha_top, 65_536, np.dtype(np.uint8))
    try:
        note = f"converted from {profile_name(profile)} to sRGB"
        if wanted == "CMYK":
            return _convert_cmyk_with_alpha(profile, note)
        if wanted == "grey":
            eight = grey_table(profile).astype(int)
            grey = deep_grey_table(profile)
            is_grey = np.abs(eight - np.arange(256)).max() <= ROUNDING
            if is_grey or np.abs(grey[::257] - eight).max() > DEEP_TOLERANCE:
                return None
            return lookup_table(source.bands, grey[samples], alpha)._replace(note=note)
        if is_srgb(profile) or not has_deep_tables(profile):
            return None
        tables = deep_tables(profile, samples)
    except Exception:  # `plan_colours` reports it
        return None

    def write(stored: Pixels, out: Pixels) -> None:
        apply_deep_tables(stored, out, tables, alpha)

    return Conversion(source.bands, np.dtype(np.uint8), write, note)


def convert_to_srgb(source: Source) -> Source:
    """The same image in sRGB, by its profile; itself if it has none.

    Args:
        source: Of 8 bits; the result takes it over.
    """
    colours = plan_colours(source, "srgb")
    if colours.grey_lookup is not None:
        alpha = np.arange(256, dtype=np.uint8)
        table = lookup_table(source.bands, colours.grey_lookup, alpha)
        source = ConvertedSource(source, table)
    elif colours.transform is not None:
        bands = 3 if source.is_cmyk else source.bands

        def write(stored: Pixels, out: Pixels) -> None:
            np.copyto(out, convert_pixels(colours, stored))

        source = ConvertedSource(source, Conversion(bands, np.dtype(np.uint8), write))
        source.is_cmyk = False
    source.metadata = replace(source.metadata, icc_profile=None)
    return source


def _convert_cmyk_with_alpha(profile: bytes, note: str) -> Conversion:
    transform = Transform(profile, "CMYK")
    lcms_transform(transform)  # raises if LittleCMS refuses it

    def write(stored: Pixels, out: Pixels) -> None:
        inks = np.ascontiguousarray(stored[..., :4])
        colours = np.empty_like(inks)
        make_converter(transform, inks, colours)()
        out[..., :3], out[..., 3] = colours[..., :3], stored[..., 4]

    return Conversion(4, np.dtype(np.uint8), write, note)


def _without_profile(source: Source, *notes: str) -> ColourPlan:
    if source.is_cmyk:
        return ColourPlan(Transform(None, "CMYK"), notes=(*notes, "CMYK converted to RGB"))
    return ColourPlan(notes=notes)


def _obvious_fault(profile: bytes, wanted: str) -> str | None:
    """Reason why a profile cannot be used, from its size and header."""
    if len(profile) > MAX_PROFILE_BYTES:
        size = f"{len(profile):,} bytes, more than {MAX_PROFILE_BYTES:,}"
        return f"profile ignored: it has {size}"
    if len(profile) < _HEADER_BYTES or profile[36:40] != b"acsp":
        return "broken profile ignored: it does not begin as an ICC profile does"
    space = profile[16:20]
    found = _SPACES.get(space, printable(space.decode("latin-1").strip()))
    return None if found == wanted else f"profile is for {found}, the image is {wanted}: ignored"


def _for_grey(profile: bytes, source: Source, *, keep: bool, keeps_grey: bool) -> ColourPlan:
    table = grey_table(profile)
    straight = np.abs(table.astype(int) - np.arange(256)).max() <= ROUNDING
    deep = source.dtype != np.uint8
    if keep and keeps_grey:
        return ColourPlan(tile_metadata=TileMetadata(profile))
    if straight:
        return NO_CONVERSION
    if deep:  # a table of 256 values would take away what 16 bits are kept for
        note = f"16-bit grey is not converted: tiles carry {profile_name(profile)}"
        return ColourPlan(tile_metadata=TileMetadata(profile), notes=(note,))
    why = "tiles of this format have no grey: " if keep else ""
    return ColourPlan(
        grey_lookup=table, notes=(f"{why}converted from {profile_name(profile)} to sRGB",)
    )


# What the canvas is outside the image, in the image's own colours, yet to be converted.

WHITE = (255, 255, 255)


def with_alpha(source: Source, colour_plan: ColourPlan) -> tuple[Source, ColourPlan]:
    """An opaque image with a band of alpha, for a canvas that is not opaque, and its plan.

    CMYK becomes sRGB before.

    Args:
        source: The image, of 8 bits; the result takes it over.
        colour_plan: Its plan.
    """
    if source.is_cmyk:
        source = convert_to_srgb(source)
        colour_plan = replace(colour_plan, transform=None)
    return ConvertedSource(source, opaque_alpha(source.bands, source.dtype)), colour_plan


def canvas_fill(source: Source, colour_plan: ColourPlan, background: Background) -> tuple[int, ...]:
    """A value for each of the source's bands.

    It is the background, by the way back from sRGB to the image's profile; a grey image has the
    background's grey. Beside an image with alpha the canvas is transparent, unless the background
    has an alpha of its own.

    Args:
        source: The image.
        colours: What will be done to its colours.
        background: In sRGB.
    """
    if not source.has_alpha:
        return _opaque_fill(source, colour_plan, opaque_colour(background))
    if len(background) == 3:
        return (0,) * source.bands
    red, green, blue, alpha = background
    return (*_opaque_fill(source, colour_plan, (red, green, blue)), alpha)


def _opaque_fill(source: Source, colour_plan: ColourPlan, background: Colour) -> tuple[int, ...]:
    """A value for each band that is no alpha."""
    if source.bands < 3:
        return (luma(background) * (257 if source.dtype == np.uint16 else 1),)
    transform = colour_plan.transform
    if transform is None:
        return background
    cmyk = transform.mode == "CMYK"
    if background == WHITE:  # the medium's white in any space, and the default
        return (0, 0, 0, 0) if cmyk else WHITE
    if transform.profile is not None:
        with suppress(Exception):  # a profile that leads to sRGB need not lead back
            return _from_srgb(transform.profile, transform.mode, background)
    return (*(255 - value for value in background), 0) if cmyk else background


def _from_srgb(profile: bytes, mode: str, colour: Colour) -> tuple[int, ...]:
    """An sRGB colour in another space, by LittleCMS."""
    from PIL import Image, ImageCms

    back = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        "RGB",
        mode,
        ImageCms.Intent(RELATIVE_COLORIMETRIC),
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    pixel = ImageCms.applyTransform(Image.new("RGB", (1, 1), colour), back)
    return tuple(int(value) for value in np.asarray(pixel)[0, 0])
