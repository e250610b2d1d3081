"""Shrink pixels and pack tiles: chooses the kernels' variant, and proves what they rely on.

The kernels are built twice where the processor family has vectors that they use: plain, and with
AVX2 or, on 64-bit Arm, NEON. The faster one that this machine can run is taken at import;
FASTTILE_KERNELS=plain (or avx2, neon) in the environment overrides that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from fasttile import _resample as _plain
from fasttile.errors import OptionError
from fasttile.types import Colour, Pixels, Shrink

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

Packer = Callable[[Pixels, Pixels], bool]


_RANKS = ("max", "min", "median")
"""The methods of the kernels `rank_…`, by their numbers there."""


def _select_kernels(variant: str) -> ModuleType:
    if variant not in ("", "plain", "avx2", "neon"):
        raise OptionError(f"FASTTILE_KERNELS={variant} is none of 'plain', 'avx2' and 'neon'")
    chosen = variant or _plain.best_variant()
    if chosen == "plain":
        return _plain
    if chosen != _plain.best_variant():
        raise OptionError(f"FASTTILE_KERNELS={variant}, but this processor has no {chosen.upper()}")
    try:
        return import_module(f"fasttile._resample_{chosen}")
    except ImportError:
        if not variant:
            return _plain
        problem = f"but it was built without {chosen.upper()}"
        raise OptionError(f"FASTTILE_KERNELS={variant}, {problem}") from None


_kernels: Any = _select_kernels(os.environ.get("FASTTILE_KERNELS", ""))
VARIANT: str = _kernels.VARIANT
"""The kernels in use: "plain", "avx2" or "neon"."""


class LightTables:
    """Tables that lead from codes (sample values) to light and back: for the method "linear".

    The light of a code is a whole number: of 17 bits for codes of 8 bits, of 32 for codes of 16.
    Each code has at least 1 more than the one before it, where curves are flat too. A mean of
    light is rounded by the rules of `halve`, and becomes the code whose light is nearest, the
    larger of two that are as near. So four equal codes become the same code.

    Args:
        lights: The light of each code, 0 to 1, shape (1, codes) for all colours or (3, codes)
            for red, green and blue; 256 codes, or 65,536.

    Attributes:
        lights: The same as whole numbers, uint32.
        thresholds: For each code but the last, the least light that becomes a larger one, uint32.
        first: For each light of 17 bits the code that it becomes, uint8. For codes of 16 bits: for
            each value of the light's upper 16 bits the least code that it becomes, and one more.

    Raises:
        ValueError: The lights are not within 0 to 1, or they decrease.

    Example:
        >>> LightTables(np.linspace(0, 1, 256)[None] ** 2).lights[0, [0, 1, 128, 255]].tolist()
        [0, 2, 33025, 131071]
    """

    def __init__(self, lights: NDArray[np.float64]) -> None:
        colours, count = lights.shape
        if colours not in (1, 3) or count not in (256, 65_536):
            raise ValueError(f"lights are {lights.shape}, they must be (1 or 3, 256 or 65536)")
        within = (lights >= 0) & (lights <= 1)  # False for NaN
        if not within.all() or (np.diff(lights) < 0).any() or (lights[:, 0] == lights[:, -1]).any():
            raise ValueError("lights must increase, from at least 0 to at most 1")
        bits, low_bits, dtype = (17, 0, np.uint8) if count == 256 else (32, 16, np.uint16)
        codes, top = np.arange(count, dtype=np.int64), (1 << bits) - 1
        integers = np.floor(lights * top + 0.5).astype(np.int64)
        integers = np.maximum.accumulate(integers - codes, axis=1) + codes
        integers = np.minimum(integers, top - codes[::-1])
        thresholds = (integers[:, :-1] + integers[:, 1:] + 1) // 2
        buckets = np.arange((1 << bits - low_bits) + (low_bits > 0), dtype=np.int64) << low_bits
        first = [row.searchsorted(buckets, side="right") for row in thresholds]
        self.lights = integers.astype(np.uint32)
        self.thresholds = thresholds.astype(np.uint32)
        self.first = np.array(first, dtype)


def shrink(
    src: Pixels,
    out: Pixels | None = None,
    *,
    method: Shrink = "mean",
    alpha: bool = False,
    light: LightTables | None = None,
) -> Pixels:
    """The image at half its size, by a rule for the four pixels that become one.

    - "mean": their average, see `halve`. For images of what can be seen.
    - "linear": the average of their light, so that bright points and lines keep their brightness.
      Colours are weighted by alpha, and alpha is as with the mean.
    - "nearest": the top left one.
    - "mode": the one that is there most often; among those that are there as often as each
      other, the first in reading order (top left, top right, bottom left, bottom right).
    - "max", "min": the largest or smallest value of each band.
    - "median": the smaller one of the largest values of both rows, in each band: one of the two
      middle values, as libvips has it.

    "nearest" and "mode" make no pixel that is not in src: for labels and masks. To them a pixel is
    one unit of all its bands, alpha included. To "max", "min" and "median" alpha is a band as the
    others, but a transparent pixel has no colour: that of its neighbour in the row counts twice, or
    of a row of two such pixels, the other row. A last odd row or column counts twice in all.

    Args:
        src: Pixels, shape (height, width, bands), uint8 or uint16, 1 to 4 bands; the pixels
            of a row contiguous, rows at any stride, read-only or not.
        out: Where to write, shape ((height+1)//2, (width+1)//2, bands), same dtype; it must not
            share memory with src. Default: a new array.
        method: The rule.
        alpha: True if the last band is alpha; then there are 2 or 4 bands.
        light: The tables of "linear", which needs 1 or 3 colours; a fourth band that is not
            alpha is no colour, and that of the top left pixel. Other rules ignore them.

    Returns:
        out.

    Raises:
        ValueError: There is no such rule; or the shapes, dtypes or strides do not fit.

    Example:
        >>> labels = np.array([[[7], [4]], [[4], [9]]], np.uint8)
        >>> [shrink(labels, method=name).item() for name in ("mode", "nearest", "max", "median")]
        [4, 7, 9, 7]
    """
    if method == "mean":
        return halve(src, out, alpha=alpha)
    if method not in get_args(Shrink):
        known = ", ".join(map(repr, get_args(Shrink)))
        raise ValueError(f"method is {method!r}, it must be one of {known}")
    out = _checked_output(src, out, alpha)
    if method == "linear":
        tables = _checked_tables(src, alpha, light)
    if not out.size:
        return out
    is_8bit = src.dtype == np.uint8
    if method == "linear":
        kernel = _kernels.linear_8bit if is_8bit else _kernels.linear_16bit
        kernel(src, out, alpha, *tables)
    elif method in _RANKS:
        kernel = _kernels.rank_8bit if is_8bit else _kernels.rank_16bit
        kernel(src, out, alpha, _RANKS.index(method))
    else:
        kernel = _kernels.select_8bit if is_8bit else _kernels.select_16bit
        kernel(src, out, method == "mode")
    return out


def _checked_tables(
    src: Pixels, alpha: bool, light: LightTables | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The tables of light, if they fit pixels."""
    bands, codes = src.shape[2], 1 << 8 * src.itemsize
    if light is None or light.lights.shape[1] != codes:
        raise ValueError(f"linear needs tables of light for {codes} codes")
    colours = 1 if bands <= 2 else 3
    if (bands == 2 and not alpha) or len(light.lights) not in (1, colours):
        raise ValueError(f"{len(light.lights)} tables of light do not fit {bands} bands")
    return light.lights, light.thresholds, light.first


def halve(src: Pixels, out: Pixels | None = None, *, alpha: bool = False) -> Pixels:
    """The image at half its size, by the 2×2 box filter.

    Each pixel is `(a + b + c + d + 2) >> 2` of four, a last odd row or column counting twice.
    For L and RGB that is Pillow's `Image.reduce(2)`, bit for bit.

    With alpha (the last band), colours are weighted by it, so that what cannot be seen does not
    bleed into what can. With the four alphas A..D and S = A + B + C + D: alpha becomes
    `(S + 2) >> 2` and a colour `(a*A + b*B + c*C + d*D + (S >> 1)) // S`, or 0 where S is 0.
    Where all four are opaque that is the plain mean.

    Args:
        src: Pixels, shape (height, width, bands), uint8 or uint16, 1 to 4 bands; the pixels
            of a row contiguous, rows at any stride, read-only or not.
        out: Where to write, shape ((height+1)//2, (width+1)//2, bands), same dtype; it must not
            share memory with src. Default: a new array.
        alpha: True if the last band is alpha. Then there are 2 or 4 bands.

    Returns:
        out.

    Raises:
        ValueError: The shapes, dtypes or strides do not fit.

    Example:
        >>> halve(np.array([[[10], [20]], [[30], [41]]], np.uint8)).tolist()
        [[[25]]]
    """
    out = _checked_output(src, out, alpha)
    if out.size:
        kernel = _kernels.halve_8bit if src.dtype == np.uint8 else _kernels.halve_16bit
        kernel(src, out, alpha)
    return out


def _checked_output(src: Pixels, out: Pixels | None, alpha: bool) -> Pixels:
    """Where to write an image at half its size, once all is proved that the kernels rely on."""
    height, width, bands = check_rows("src", src)
    shape = (-(-height // 2), -(-width // 2), bands)
    if out is None:
        out = np.empty(shape, src.dtype)
    check_rows("out", out)
    if out.shape != shape or out.dtype != src.dtype:
        raise ValueError(f"out is {out.dtype}{out.shape}, it must be {src.dtype}{shape}")
    if alpha and bands not in (2, 4):
        raise ValueError(f"{bands} bands have no alpha; 2 or 4 do")
    if np.may_share_memory(src, out):
        raise ValueError("src and out share memory")
    return out


def pack(src: Pixels, out: Pixels, *, background: Colour | None = None) -> bool:
    """Copy a tile out of a strip into the form that an encoder takes without a further copy.

    Grey stays as it is. All else becomes four bytes a pixel: RGB becomes RGBX (X is 255), grey
    with alpha LLLA, and RGBA stays. With a background a tile with alpha is laid on it,
    `(colour*alpha + ground*(255-alpha) + 127) // 255`: LA becomes L, and RGBA RGBX.

    Args:
        src: The tile as a view, shape (height, width, bands), uint8 (one band: also uint16). RGB
            may have four bytes a pixel: the fourth is not looked at.
        out: Where to write: C-contiguous, same dtype, shape (height, width, packed_bands(...)).
        background: Red, green and blue, 0 to 255; without effect where there is no alpha.

    Returns:
        True if all pixels of the packed tile are the same.

    Raises:
        ValueError: The shapes, dtypes or strides do not fit, or there is no pixel.
    """
    height, width, bands = check_rows("src", src, may_be_padded=True)
    shape = (height, width, packed_bands(bands, flat=background is not None))
    if out.shape != shape or out.dtype != src.dtype or not out.flags.c_contiguous:
        raise ValueError(f"out is {out.dtype}{out.shape}, it must be {src.dtype}{shape}, C order")
    if 0 in shape:
        raise ValueError(f"a tile of {width}×{height} pixels has nothing to pack")
    return make_packer(bands, src.dtype, background)(src, out)


def make_packer(bands: int, dtype: np.dtype[Any], background: Colour | None) -> Packer:
    """`pack` for many tiles alike: a function that checks nothing.

    Raises:
        ValueError: There is no way to pack such tiles.
    """
    if dtype != np.uint8:
        if bands != 1:
            raise ValueError(f"{dtype} tiles with {bands} bands cannot be packed, only grey ones")
        kernel: Packer = _kernels.pack_16bit
    elif bands == 3:
        kernel = _kernels.pack_rgbx
    elif bands == 2 and background is not None:
        kernel = partial(_kernels.pack_flat_grey, ground=luma(background))
    elif bands == 4 and background is not None:
        red, green, blue = background
        kernel = partial(_kernels.pack_flat_rgbx, red=red, green=green, blue=blue)
    else:
        kernel = _kernels.pack_llla if bands == 2 else _kernels.pack_8bit
    return kernel


def packed_bands(bands: int, *, flat: bool) -> int:
    """How many bands a tile has once it is packed; flat: it is laid on a background."""
    return 1 if bands == 1 or (bands == 2 and flat) else 4


def rgbx_to_rgb(src: Pixels, out: Pixels) -> None:
    """Copy RGBX pixels, shape (height, width, 4), to RGB (height, width, 3); both C order."""
    if src.shape[:2] != out.shape[:2] or (src.shape[2], out.shape[2]) != (4, 3) or not src.size:
        raise ValueError(f"{src.shape} cannot be copied to {out.shape} without the fourth band")
    _kernels.rgbx_to_rgb(src, out)


def repeat_ratio(packed: Pixels) -> float:
    """Share of packed pixels that equal the pixel before them, 0 to 1.

    Args:
        packed: What `pack` has written: 1, 2 or 4 bytes a pixel, C order.
    """
    height, width, bands = packed.shape
    pixel = bands * packed.itemsize
    if pixel not in (1, 2, 4) or not packed.size:
        raise ValueError(f"{packed.dtype}{packed.shape} is not a packed tile")
    rows = packed.view(np.uint8).reshape(height, width * pixel)
    repeats: int = _kernels.count_repeats(rows, pixel)
    return float(repeats / (height * width))


def luma(colour: Colour) -> int:
    """The grey of a colour, by ITU-R 601 as Pillow has it: (19595 R + 38470 G + 7471 B) >> 16."""
    red, green, blue = colour
    return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16


def check_rows(name: str, view: Pixels, *, may_be_padded: bool = False) -> tuple[int, int, int]:
    """The shape of rows of pixels, if that is what a view is.

    Args:
        name: Its name in messages.
        view: The view.
        may_be_padded: True if RGB pixels, uint8, may have four bytes each.

    Raises:
        ValueError: It is not uint8 or uint16 of shape (height, width, 1 to 4 bands) with each
            row's pixels contiguous.
    """
    if view.ndim != 3 or view.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"{name} is {view.dtype}{view.shape}, "
            "it must be uint8 or uint16 of shape (height, width, bands)"
        )
    height, width, bands = view.shape
    if not 1 <= bands <= 4:
        raise ValueError(f"{name} has {bands} bands, it must have 1 to 4")
    _, pixel, band = view.strides
    if may_be_padded and bands == 3 and view.dtype == np.uint8 and pixel == 4:
        pixel = 3
    if view.size and (
        (bands > 1 and band != view.itemsize) or (width > 1 and pixel != bands * view.itemsize)
    ):
        raise ValueError(
            f"the pixels of a row of {name} are not contiguous: strides {view.strides}"
        )
    return height, width, bands
