"""Conversion of tiles to sRGB, by LittleCMS or by tables that give the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from fasttile.abc.codec import TileMetadata as TileMetadata
from fasttile.errors import one_line
from fasttile.kernels import pack, rgbx_to_rgb
from fasttile.types import Pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fasttile.colour.matrix import ShaperTables

GreyTable: TypeAlias = "NDArray[np.uint8]"

RELATIVE_COLORIMETRIC = 1
_BLACK_POINT_COMPENSATION, _NO_CACHE, _NO_OPTIMISATION = 0x2000, 0x40, 0x100  # as in lcms2.h

DEEP_TOLERANCE = 2
"""By how much of 255 a conversion from 16 bits may differ from LittleCMS' of 8, which rounds."""

MAX_NAME_LENGTH = 80
"""Characters of a name or reason in a note."""

ROUNDING = 1
"""By how much of 255 a conversion may change colours that it is meant to leave: it rounds."""


class Transform(NamedTuple):
    """How the encoders make sRGB of an image's colours.

    The intent is relative colorimetric, with black point compensation, for any profile's
    header asks for. It is what CSS Color 4 has viewers do with images of another colour space
    and the default of image editors. It leaves alone what sRGB has too;
    "perceptual", which most headers say though nobody chose it, shrinks all colours in the way
    of the profile's maker, and "absolute" gives paper's white a tint. The compensation
    keeps shadows apart that are darker in the image's space than they can be in print.

    Attributes:
        profile: The ICC profile. None: it has none that can be used, and only CMYK is
            converted, by the formula that Pillow has.
        mode: The colours that come in. Alpha beside RGB stays as it is.
        intent: LittleCMS' number of the rendering intent.
    """

    profile: bytes | None
    mode: Literal["RGB", "CMYK"] = "RGB"
    intent: int = RELATIVE_COLORIMETRIC


NO_METADATA = TileMetadata()


@dataclass(frozen=True)
class ColourPlan:
    """The plan for an image's colours.

    Attributes:
        transform: What the encoders do to each tile, or None.
        attached: What the tiles of the full size carry.
        table: What each value of a grey image becomes, 256 of them, or None. It is for who
            opens the source (`sources.pixels.looked_up`), and does not concern alpha.
        notes: One line each for the user.
    """

    transform: Transform | None = None
    tile_metadata: TileMetadata = NO_METADATA
    grey_lookup: GreyTable | None = field(default=None, compare=False, repr=False)
    notes: tuple[str, ...] = ()


NO_CONVERSION = ColourPlan()
"""Tiles hold the image's values as they are, and nothing else."""


# What a profile holds, by LittleCMS. All of these raise the exceptions of Pillow if it refuses.


def is_srgb(profile: bytes) -> bool:
    """True if a profile for RGB leaves all colours as they are in sRGB, but for rounding.

    Its name does not show it: there are many sRGBs that are the same, and some that are not. What
    counts is what it does, to 9 values of each band and to all greys.
    """
    from PIL import Image, ImageCms

    steps = np.arange(9) * 255 // 8
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    greys = np.arange(256).repeat(3).reshape(-1, 3)
    colours = np.concatenate([grid, greys]).astype(np.uint8)[None]
    # What LittleCMS works out in advance for millions of pixels would take longer than these.
    transform = _build_lcms_transform(
        profile, "RGB", "RGB", RELATIVE_COLORIMETRIC, _NO_OPTIMISATION
    )
    converted = np.asarray(ImageCms.applyTransform(Image.fromarray(colours), transform))
    return bool(np.abs(converted.astype(int) - colours).max() <= ROUNDING)


def grey_table(profile: bytes) -> GreyTable:
    """What a profile for grey makes of each value in sRGB: 256 values, uint8."""
    from PIL import Image, ImageCms

    ramp = np.arange(256, dtype=np.uint8)[None]
    # Optimised, LittleCMS draws lines between 33 values, which are 10 off in the dark.
    transform = _build_lcms_transform(profile, "L", "RGB", RELATIVE_COLORIMETRIC, _NO_OPTIMISATION)
    colours = np.asarray(ImageCms.applyTransform(Image.fromarray(ramp), transform))[0]
    # Red, green and blue are the same; where they were not, the middle one is nearest to all.
    return np.ascontiguousarray(np.sort(colours, axis=1)[:, 1])


def profile_name(profile: bytes) -> str:
    """What a profile calls itself, for a message."""
    from PIL import ImageCms

    try:
        name = ImageCms.getProfileDescription(ImageCms.getOpenProfile(_profile_file(profile)))
    except Exception:  # the name may be damaged where all the rest is not
        name = ""
    return one_line(name, MAX_NAME_LENGTH) or "its own profile"


def _profile_file(profile: bytes) -> Any:
    from io import BytesIO

    return BytesIO(profile)


def _build_lcms_transform(
    profile: bytes, from_mode: str, to_mode: str, intent: int, flags: int = 0
) -> Any:
    """LittleCMS' transform from a profile to sRGB, for images of two of Pillow's modes."""
    from PIL import ImageCms

    return ImageCms.buildTransform(
        _profile_file(profile),
        ImageCms.createProfile("sRGB"),
        from_mode,
        to_mode,
        ImageCms.Intent(intent),
        ImageCms.Flags(_BLACK_POINT_COMPENSATION | _NO_CACHE | flags),
    )


# Tiles converted.


def make_converter(transform: Transform, pixels: Pixels, out: Pixels) -> Callable[[], None]:
    """A function that converts the content of `pixels` at each call.

    It releases the GIL, and many of them may run at a time.

    Args:
        transform: How.
        pixels: Packed pixels, shape (height, width, 4), uint8, C order: RGB with a fourth byte,
            or CMYK.
        out: Where RGB goes, of the same form; its fourth bytes are left as they are. For RGB the
            same array, which is converted in place.

    Raises:
        Exception: LittleCMS refuses the profile.
    """
    if transform.profile is None:
        return _convert_cmyk_by_formula(pixels, out)
    tables = verified_tables(transform) if pixels is out else None
    if tables is not None:
        from fasttile.colour.matrix import apply_tables

        return partial(apply_tables, pixels, tables)
    if _is_in_place_exact(transform):
        return _convert_in_place(transform, pixels, out)
    return _convert_copy(transform, pixels, out)


def convert_pixels(colour_plan: ColourPlan, pixels: Pixels) -> Pixels:
    """Pixels converted as the encoders would.

    Args:
        colours: The plan.
        pixels: Shape (height, width, bands), uint8: RGB, RGB with alpha, or CMYK, as the plan's
            transform has it. Where it has none, anything.

    Returns:
        The pixels themselves if nothing is to be done, else a new array. CMYK becomes RGB.
    """
    transform = colour_plan.transform
    if transform is None:
        return pixels
    height, width, bands = pixels.shape
    packed = np.empty((height, width, 4), np.uint8)
    pack(pixels, packed)
    out = np.empty_like(packed) if transform.mode == "CMYK" else packed
    make_converter(transform, packed, out)()
    if bands == 4 and transform.mode == "RGB":
        return out
    colours_only = np.empty((height, width, 3), np.uint8)
    rgbx_to_rgb(out, colours_only)
    return colours_only


@lru_cache(maxsize=4)
def lcms_transform(transform: Transform) -> Any:
    """LittleCMS' transform: built once, for it takes 5 ms, with CMYK 35; all threads share it.

    They may, because without its cache of one pixel nothing in it ever changes.
    """
    assert transform.profile is not None
    return _build_lcms_transform(transform.profile, *_pillow_modes(transform), transform.intent)


def _pillow_modes(transform: Transform) -> tuple[str, str]:
    """Pillow's modes that go in and come out. With RGBA the fourth byte stays, alpha or not."""
    return ("CMYK", "RGB") if transform.mode == "CMYK" else ("RGBA", "RGBA")


def _convert_in_place(transform: Transform, pixels: Pixels, out: Pixels) -> Callable[[], None]:
    """Convert in the arrays' own memory, by the private parts of Pillow's ImageCms."""
    from fasttile import pillow_core

    modes = _pillow_modes(transform)
    return pillow_core.make_lcms_converter(lcms_transform(transform), pixels, out, modes)


def _convert_copy(transform: Transform, pixels: Pixels, out: Pixels) -> Callable[[], None]:
    """By Pillow's public functions, with a copy before and one behind."""
    from PIL import Image, ImageCms

    mode, _ = _pillow_modes(transform)
    size = (pixels.shape[1], pixels.shape[0])

    def convert() -> None:
        image = Image.frombytes(mode, size, pixels.tobytes())
        converted = ImageCms.applyTransform(image, lcms_transform(transform))
        out[..., :3] = np.asarray(converted)[..., :3]

    return convert


def _convert_cmyk_by_formula(pixels: Pixels, out: Pixels) -> Callable[[], None]:
    """CMYK without a profile: (255 - ink)(255 - black) / 255."""
    from PIL import Image

    size = (pixels.shape[1], pixels.shape[0])

    def convert() -> None:
        image = Image.frombytes("CMYK", size, pixels.tobytes())
        out[..., :3] = np.asarray(image.convert("RGB"))

    return convert


@lru_cache(maxsize=4)
def has_deep_tables(profile: bytes) -> bool:
    """True if the tables for 16 bits are, for values of 8 bits, what LittleCMS makes of them.

    The trial is that of `verified_tables`, without its fourth band.
    """
    from fasttile.colour import matrix

    trial = _trial_colours()
    samples = np.arange(65_536, dtype=np.uint16)
    try:
        expected, found = trial.copy(), np.empty((*trial.shape[:2], 3), np.uint8)
        tables = matrix.deep_tables(profile, samples)
        matrix.apply_deep_tables(trial[..., :3].astype(np.uint16) * np.uint16(257), found, tables)
        _convert_copy(Transform(profile), expected, expected)()
    except Exception:
        return False  # another kind of profile
    difference = np.abs(found.astype(int) - expected[..., :3])
    return bool(difference.max() <= DEEP_TOLERANCE)


def _trial_colours() -> Pixels:
    """All greys, all values of each band alone, and 2^16 colours from everywhere."""
    alone = np.zeros((4, 256, 4), np.uint8)
    alone[0, :, :3] = np.arange(256)[:, None]
    for band in range(3):
        alone[1 + band, :, band] = np.arange(256)
    spread = (np.arange(2**16, dtype=np.uint32) * 2654435761).view(np.uint8).reshape(256, 256, 4)
    return np.concatenate([alone, spread])


@lru_cache(maxsize=4)
def verified_tables(transform: Transform) -> ShaperTables | None:
    """The tables for the kernel, if a trial shows that it gives what LittleCMS gives."""
    from fasttile.colour import matrix

    if transform.mode != "RGB" or transform.intent != RELATIVE_COLORIMETRIC:
        return None
    trial = _trial_colours()
    expected, found = trial.copy(), trial.copy()
    try:
        assert transform.profile is not None
        tables = matrix.shaper_tables(transform.profile)
        matrix.apply_tables(found, tables)
        _convert_copy(transform, expected, expected)()
    except Exception:
        return None  # another kind of profile
    return tables if np.array_equal(found, expected) else None


@lru_cache(maxsize=4)
def _is_in_place_exact(transform: Transform) -> bool:
    """True if the direct way has the same result as the public one, by a trial."""
    trial = (np.arange(24 * 17 * 4).reshape(24, 17, 4) * 37).astype(np.uint8)

    def tried(way: Callable[[Transform, Pixels, Pixels], Callable[[], None]]) -> Pixels:
        pixels = trial.copy()
        out = pixels if transform.mode == "RGB" else trial.copy()
        way(transform, pixels, out)()
        return out

    from fasttile.pillow_core import is_same_as_public

    return is_same_as_public(lambda: np.array_equal(tried(_convert_in_place), tried(_convert_copy)))
