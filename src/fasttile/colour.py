"""Colours: what becomes of a picture's profile and its resolution, and the way to sRGB.

An ICC profile says which colours a picture's numbers stand for. A viewer of tiles takes sRGB for
granted, so the plan (`managed`) is to convert to it, tile by tile on the encoders' threads, unless
the user wants the profile itself in each tile, or nothing of it.

LittleCMS, through Pillow, does the conversion. It is imported where there is a profile to look
at, which few pictures have, for it takes as long as a hundred tiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .resample import drop_fourth, pack

if TYPE_CHECKING:
    from .matrix import Tables
    from .options import Icc
    from .sources.base import Source

Pixels = NDArray[Any]
Table = NDArray[np.uint8]

MAX_PROFILE = 16_000_000
"""Bytes of the largest profile that is looked at; the largest of printers have a tenth of it. A
JPEG can hold 255 pieces of one, which is a little more."""

RELATIVE_COLORIMETRIC = 1
_BLACK_POINT_COMPENSATION, _NO_CACHE, _NO_OPTIMISATION = 0x2000, 0x40, 0x100  # as in lcms2.h

_HEADER_BYTES = 132
"""The header, and the number of tags."""

_SPACES = {b"GRAY": "grey", b"RGB ": "RGB", b"CMYK": "CMYK"}

_TOLERANCE = 1
"""By how much of 255 a conversion may change colours that it is meant to leave: it rounds."""


@dataclass(frozen=True)
class Transform:
    """How the encoders make sRGB of a picture's colours.

    The intent is relative colorimetric, with black point compensation, whatever the profile's
    header asks for. It is what CSS Color 4 has viewers do with images of another colour space
    and what image editors convert by unless told otherwise. It leaves alone what sRGB has too;
    "perceptual", which most headers say though nobody chose it, shrinks all colours in the way
    of whoever made the profile, and "absolute" gives paper's white a tint. The compensation
    keeps shadows apart that are darker in the picture's space than they can be in print.

    Attributes:
        profile: The ICC profile. None: it has none that can be used, and only CMYK is
            converted, by the formula that Pillow has.
        mode: The colours that come in. Alpha beside RGB stays as it is.
        intent: LittleCMS' number of the rendering intent.
    """

    profile: bytes | None = field(repr=False)
    mode: Literal["RGB", "CMYK"] = "RGB"
    intent: int = RELATIVE_COLORIMETRIC


@dataclass(frozen=True)
class Attached:
    """What tiles carry beside their pixels, where their format has a place for it.

    Attributes:
        icc_profile: The profile that the pixels stand in, or None for sRGB.
        resolution: Pixels per inch, horizontal and vertical, or None.
    """

    icc_profile: bytes | None = field(default=None, repr=False)
    resolution: tuple[float, float] | None = None

    def halved(self, times: int) -> Attached:
        """The same for a level that is smaller by 2^times: its pixels are larger."""
        if self.resolution is None:
            return self
        x, y = self.resolution
        return replace(self, resolution=(x / 2**times, y / 2**times))


NOTHING = Attached()


@dataclass(frozen=True)
class Colours:
    """The plan for a picture's colours.

    Attributes:
        transform: What the encoders do to each tile, or None.
        attached: What the tiles of the full size carry.
        table: What each value of a grey picture becomes, 256 of them, or None. It is for who
            opens the source (`sources.pixels.looked_up`), and does not concern alpha.
        notes: One line each for the user.
    """

    transform: Transform | None = None
    attached: Attached = NOTHING
    table: Table | None = field(default=None, compare=False, repr=False)
    notes: tuple[str, ...] = ()


NO_COLOURS = Colours()
"""Tiles hold the picture's values as they are, and nothing else."""


def managed(source: Source, icc: Icc, *, keeps_grey: bool = True) -> Colours:
    """The plan for a picture.

    A profile that does not fit the picture's bands, that is damaged or far too large, is left
    aside with a note. One that says what sRGB says is left aside without.

    Args:
        source: Its metadata has the profile and the resolution.
        icc: "srgb" converts; "keep" puts the profile into each tile, but converts CMYK, which
            tiles cannot hold; "drop" forgets it.
        keeps_grey: Whether the tiles' format has grey tiles, in which a profile for grey has a
            meaning. Where it has not, such a profile is not kept but converted.
    """
    profile = None if icc == "drop" else source.metadata.icc_profile
    colours = _planned(profile, source, keep=icc == "keep", keeps_grey=keeps_grey)
    attached = replace(colours.attached, resolution=_resolution(source.metadata.resolution))
    return replace(colours, attached=attached)


def _planned(profile: bytes | None, source: Source, *, keep: bool, keeps_grey: bool) -> Colours:
    if not profile:
        return _without_profile(source)
    wanted = "CMYK" if source.cmyk else "grey" if source.bands < 3 else "RGB"
    fault = _obvious_fault(profile, wanted)
    if fault is not None:
        return _without_profile(source, fault)
    try:
        if wanted == "CMYK":
            return _for_cmyk(profile, keep=keep)
        if wanted == "grey":
            return _for_grey(profile, source, keep=keep, keeps_grey=keeps_grey)
        return _for_rgb(profile, keep=keep)
    except Exception as error:  # LittleCMS has many ways to dislike one
        return _without_profile(source, f"broken profile ignored: {_one_line(str(error))}")


def _without_profile(source: Source, *notes: str) -> Colours:
    if source.cmyk:
        return Colours(Transform(None, "CMYK"), notes=(*notes, "CMYK converted to RGB"))
    return Colours(notes=notes)


def _obvious_fault(profile: bytes, wanted: str) -> str | None:
    """Why a profile cannot be used, as far as its size and header tell."""
    if len(profile) > MAX_PROFILE:
        size = f"{len(profile):,} bytes, more than {MAX_PROFILE:,}"
        return f"profile ignored: it has {size}"
    if len(profile) < _HEADER_BYTES or profile[36:40] != b"acsp":
        return "broken profile ignored: it does not begin as an ICC profile does"
    space = profile[16:20]
    found = _SPACES.get(space, _one_line(space.decode("latin-1")))
    return None if found == wanted else f"profile is for {found}, the picture is {wanted}: ignored"


def _for_rgb(profile: bytes, *, keep: bool) -> Colours:
    already_srgb = is_srgb(profile)  # which also tries it
    if keep:
        return Colours(attached=Attached(profile))
    if already_srgb:
        return NO_COLOURS
    transform = Transform(profile)
    _lcms_transform(transform)  # for the encoders; and whether it can be had
    _tables(transform)
    return Colours(transform, notes=(f"converted from {name_of(profile)} to sRGB",))


def _for_cmyk(profile: bytes, *, keep: bool) -> Colours:
    transform = Transform(profile, "CMYK")
    _lcms_transform(transform)
    why = "tiles cannot carry CMYK: " if keep else ""
    return Colours(transform, notes=(f"{why}converted from {name_of(profile)} to sRGB",))


def _for_grey(profile: bytes, source: Source, *, keep: bool, keeps_grey: bool) -> Colours:
    table = grey_table(profile)
    straight = np.abs(table.astype(int) - np.arange(256)).max() <= _TOLERANCE
    deep = source.dtype != np.uint8
    if keep and keeps_grey:
        return Colours(attached=Attached(profile))
    if straight:
        return NO_COLOURS
    if deep:  # a table of 256 values would take away what 16 bits are kept for
        note = f"16-bit grey is not converted: tiles carry {name_of(profile)}"
        return Colours(attached=Attached(profile), notes=(note,))
    why = "tiles of this format have no grey: " if keep else ""
    return Colours(table=table, notes=(f"{why}converted from {name_of(profile)} to sRGB",))


def _resolution(found: tuple[float, float] | None) -> tuple[float, float] | None:
    """A resolution that can be true."""
    if found is None or not all(math.isfinite(value) and value > 0 for value in found):
        return None
    return float(found[0]), float(found[1])


# What a profile holds, by LittleCMS. All of these raise whatever Pillow raises if it refuses.


def is_srgb(profile: bytes) -> bool:
    """Whether a profile for RGB leaves all colours as they are in sRGB, but for rounding.

    Its name would not tell: there are many sRGBs that are the same, and some that are not. What
    counts is what it does, to 9 values of each band and to all greys.
    """
    from PIL import Image, ImageCms

    steps = np.arange(9) * 255 // 8
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    greys = np.arange(256).repeat(3).reshape(-1, 3)
    colours = np.concatenate([grid, greys]).astype(np.uint8)[None]
    # What LittleCMS works out in advance for millions of pixels would take longer than these.
    transform = _opened(profile, "RGB", "RGB", RELATIVE_COLORIMETRIC, _NO_OPTIMISATION)
    converted = np.asarray(ImageCms.applyTransform(Image.fromarray(colours), transform))
    return bool(np.abs(converted.astype(int) - colours).max() <= _TOLERANCE)


def grey_table(profile: bytes) -> Table:
    """What a profile for grey makes of each value in sRGB: 256 values, uint8."""
    from PIL import Image, ImageCms

    ramp = np.arange(256, dtype=np.uint8)[None]
    transform = _opened(profile, "L", "RGB", RELATIVE_COLORIMETRIC)
    colours = np.asarray(ImageCms.applyTransform(Image.fromarray(ramp), transform))[0]
    # Red, green and blue are the same; where they were not, the middle one is nearest to all.
    return np.ascontiguousarray(np.sort(colours, axis=1)[:, 1])


def name_of(profile: bytes) -> str:
    """What a profile calls itself, for a message."""
    from PIL import ImageCms

    try:
        name = ImageCms.getProfileDescription(ImageCms.getOpenProfile(_file(profile)))
    except Exception:  # the name may be damaged where all the rest is not
        name = ""
    return _one_line(name) or "its own profile"


def _one_line(text: str) -> str:
    """A text from somewhere as a part of a message: printable, and not too long."""
    words = "".join(letter if letter.isprintable() else " " for letter in text).split()
    line = " ".join(words)
    return line if len(line) <= 80 else f"{line[:79]}…"


def _file(profile: bytes) -> Any:
    from io import BytesIO

    return BytesIO(profile)


def _opened(profile: bytes, from_mode: str, to_mode: str, intent: int, flags: int = 0) -> Any:
    """LittleCMS' transform from a profile to sRGB, for images of two of Pillow's modes."""
    from PIL import ImageCms

    return ImageCms.buildTransform(
        _file(profile),
        ImageCms.createProfile("sRGB"),
        from_mode,
        to_mode,
        ImageCms.Intent(intent),
        ImageCms.Flags(_BLACK_POINT_COMPENSATION | _NO_CACHE | flags),
    )


# Tiles converted.


def converting(transform: Transform, pixels: Pixels, out: Pixels) -> Callable[[], None]:
    """A function that converts what stands in `pixels` at each call.

    It lets go of the GIL, and many of them may be called at a time.

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
        return _by_formula(pixels, out)
    tables = _tables(transform) if pixels is out else None
    if tables is not None:
        from .matrix import shape

        return partial(shape, pixels, tables)
    if _direct_works(transform):
        return _directly(transform, pixels, out)
    return _publicly(transform, pixels, out)


def applied(colours: Colours, pixels: Pixels) -> Pixels:
    """Pixels converted as the encoders would.

    Args:
        colours: The plan.
        pixels: Shape (height, width, bands), uint8: RGB, RGB with alpha, or CMYK, as the plan's
            transform has it. Where it has none, anything.

    Returns:
        The pixels themselves if nothing is to be done, else a new array. CMYK becomes RGB.
    """
    transform = colours.transform
    if transform is None:
        return pixels
    height, width, bands = pixels.shape
    packed = np.empty((height, width, 4), np.uint8)
    pack(pixels, packed)
    out = np.empty_like(packed) if transform.mode == "CMYK" else packed
    converting(transform, packed, out)()
    if bands == 4 and transform.mode == "RGB":
        return out
    colours_only = np.empty((height, width, 3), np.uint8)
    drop_fourth(out, colours_only)
    return colours_only


@lru_cache(maxsize=4)
def _lcms_transform(transform: Transform) -> Any:
    """LittleCMS' transform: built once, for it takes 5 ms, with CMYK 35; all threads share it.

    They may, because without its cache of one pixel nothing in it ever changes.
    """
    assert transform.profile is not None
    return _opened(transform.profile, *_modes(transform), transform.intent)


def _modes(transform: Transform) -> tuple[str, str]:
    """Pillow's modes that go in and come out. With RGBA the fourth byte stays, alpha or not."""
    return ("CMYK", "RGB") if transform.mode == "CMYK" else ("RGBA", "RGBA")


def _directly(transform: Transform, pixels: Pixels, out: Pixels) -> Callable[[], None]:
    """On the arrays' own memory, by the inner parts of Pillow's ImageCms."""
    from PIL import Image

    core: Any = Image.core  # type: ignore[attr-defined]
    apply = _lcms_transform(transform).transform.apply
    size = (pixels.shape[1], pixels.shape[0])
    from_mode, to_mode = _modes(transform)
    before = after = core.map_buffer(pixels, size, "raw", 0, (from_mode, 0, 1))
    if out is not pixels:  # else it must be one image: of two, Pillow would copy the alpha
        after = core.map_buffer(out, size, "raw", 0, (to_mode, 0, 1))

    def convert() -> None:
        if apply(before.ptr, after.ptr):
            raise OSError("Pillow's ImageCms does not convert")

    return convert


def _publicly(transform: Transform, pixels: Pixels, out: Pixels) -> Callable[[], None]:
    """By Pillow's public functions, with a copy before and one behind."""
    from PIL import Image, ImageCms

    mode, _ = _modes(transform)
    size = (pixels.shape[1], pixels.shape[0])

    def convert() -> None:
        image = Image.frombytes(mode, size, pixels.tobytes())
        converted = ImageCms.applyTransform(image, _lcms_transform(transform))
        out[..., :3] = np.asarray(converted)[..., :3]

    return convert


def _by_formula(pixels: Pixels, out: Pixels) -> Callable[[], None]:
    """CMYK without a profile: (255 - ink)(255 - black) / 255."""
    from PIL import Image

    size = (pixels.shape[1], pixels.shape[0])

    def convert() -> None:
        image = Image.frombytes("CMYK", size, pixels.tobytes())
        out[..., :3] = np.asarray(image.convert("RGB"))

    return convert


@lru_cache(maxsize=4)
def _tables(transform: Transform) -> Tables | None:
    """The tables for the kernel, if a trial shows that it gives what LittleCMS gives.

    The trial: all greys, all values of each band alone, and 2^16 colours from everywhere.
    """
    from . import matrix

    if transform.mode != "RGB" or transform.intent != RELATIVE_COLORIMETRIC:
        return None
    alone = np.zeros((4, 256, 4), np.uint8)
    alone[0, :, :3] = np.arange(256)[:, None]
    for band in range(3):
        alone[1 + band, :, band] = np.arange(256)
    spread = (np.arange(2**16, dtype=np.uint32) * 2654435761).view(np.uint8).reshape(256, 256, 4)
    trial = np.concatenate([alone, spread])
    expected, found = trial.copy(), trial.copy()
    try:
        assert transform.profile is not None
        tables = matrix.tables(transform.profile)
        matrix.shape(found, tables)
        _publicly(transform, expected, expected)()
    except Exception:
        return None  # another kind of profile
    return tables if np.array_equal(found, expected) else None


@lru_cache(maxsize=4)
def _direct_works(transform: Transform) -> bool:
    """Whether the direct way gives what the public one does, by a trial."""
    trial = (np.arange(24 * 17 * 4).reshape(24, 17, 4) * 37).astype(np.uint8)

    def tried(way: Callable[[Transform, Pixels, Pixels], Callable[[], None]]) -> Pixels:
        pixels = trial.copy()
        out = pixels if transform.mode == "RGB" else trial.copy()
        way(transform, pixels, out)()
        return out

    try:
        return np.array_equal(tried(_directly), tried(_publicly))
    except Exception:
        # Whatever fails in there says the same: this Pillow is not as we know it.
        return False
