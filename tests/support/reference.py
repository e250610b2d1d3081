"""The oracle: every pixel of a pyramid by NumPy, plainly, written without a look at the kernels.

Pixels are arrays of shape (height, width, bands), uint8 or uint16. All sums are taken in 64 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttile.kernels import LightTables

Array = NDArray[Any]
Address = tuple[int, int, int]
"""Level, column and row of a tile."""


def halve(pixels: Array, *, alpha: bool) -> Array:
    """The 2×2 box: a last odd row or column is its own neighbour."""
    height, width, _ = pixels.shape
    even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    four = np.stack([even[y::2, x::2] for y in (0, 1) for x in (0, 1)]).astype(np.int64)
    if not alpha:
        return ((four.sum(axis=0) + 2) // 4).astype(pixels.dtype)
    colours, alphas = four[..., :-1], four[..., -1:]
    weight = alphas.sum(axis=0)
    mean = ((colours * alphas).sum(axis=0) + weight // 2) // np.maximum(weight, 1)
    return np.concatenate([mean, (weight + 2) // 4], axis=-1).astype(pixels.dtype)


def shrink_nearest(pixels: Array) -> Array:
    """The top left one of every four pixels."""
    return pixels[::2, ::2].copy()


def shrink_mode(pixels: Array) -> Array:
    """The most frequent of four pixels, else the first of them; edges as with the box."""
    height, width, _ = pixels.shape
    even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    four = np.stack([even[y::2, x::2] for y in (0, 1) for x in (0, 1)])
    counts = (four[:, None] == four[None]).all(axis=-1).sum(axis=1)
    first = counts.argmax(axis=0)  # which is the first of several that are largest
    return np.take_along_axis(four, first[None, ..., None], axis=0)[0]


def _fours(pixels: Array) -> Array:
    """Each four pixels: shape (2 rows, 2 columns, height, width, bands); edges as with the box."""
    height, width, _ = pixels.shape
    even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.stack([np.stack([even[y::2, x::2] for x in (0, 1)]) for y in (0, 1)]).astype(np.int64)


def srgb_light(values: Array) -> Array:
    """The curve of sRGB, as IEC 61966-2-1 has it."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


@cache
def srgb_tables(dtype: Any) -> LightTables:
    """The light of sRGB."""
    return LightTables(srgb_light(np.linspace(0, 1, np.iinfo(dtype).max + 1))[None])


def shrink_linear(pixels: Array, light: LightTables, *, alpha: bool) -> Array:
    """The mean of light, weighted by alpha, as the code whose light is nearest."""
    fours = _fours(pixels)
    colours = 3 if pixels.shape[2] > 2 else 1
    found = fours[0, 0].copy()  # a fourth band that is neither colour nor alpha
    weights = fours[..., colours] if alpha else np.ones_like(fours[..., 0])
    weight = weights.sum(axis=(0, 1))
    if alpha:
        found[..., colours] = (weight + 2) // 4
    for band in range(colours):
        table = band % len(light.lights)
        lights = light.lights[table].astype(np.int64)[fours[..., band]]
        mean = ((lights * weights).sum(axis=(0, 1)) + weight // 2) // np.maximum(weight, 1)
        codes = np.searchsorted(light.thresholds[table].astype(np.int64), mean, side="right")
        found[..., band] = np.where(weight > 0, codes, 0)
    return found.astype(pixels.dtype)


def shrink_ranked(pixels: Array, method: str, *, alpha: bool) -> Array:
    """The largest, smallest or median value of each band; transparent pixels have no colour."""
    fours = _fours(pixels)
    seen = np.ones(fours.shape, bool)
    if alpha:
        seen[..., :-1] = fours[..., -1:] > 0
    none, huge = -1, 1 << 20
    if method == "max":
        found = np.where(seen, fours, none).max(axis=(0, 1))
    elif method == "min":
        found = np.where(seen, fours, huge).min(axis=(0, 1))
    else:
        of_rows = np.where(seen, fours, none).max(axis=1)
        found = np.where(of_rows == none, huge, of_rows).min(axis=0)
    return np.where(seen.any(axis=(0, 1)), found, 0).astype(pixels.dtype)


def shrink(
    pixels: Array, method: str, *, alpha: bool = False, light: LightTables | None = None
) -> Array:
    """Half the size, in one of the ways; light is that of sRGB if none is given."""
    if method == "mean":
        return halve(pixels, alpha=alpha)
    if method == "linear":
        return shrink_linear(pixels, light or srgb_tables(pixels.dtype), alpha=alpha)
    if method in ("max", "min", "median"):
        return shrink_ranked(pixels, method, alpha=alpha)
    return {"nearest": shrink_nearest, "mode": shrink_mode}[method](pixels)


def levels(
    pixels: Array,
    *,
    rounding: str = "up",
    method: str = "mean",
    light: LightTables | None = None,
) -> list[Array]:
    """All levels, from 1×1 to full size. With 2 or 4 bands the last one is alpha.

    Rounding down, an odd level loses its last row or column before it is halved, unless that
    is the only one.
    """
    found = [pixels]
    while found[0].shape[:2] != (1, 1):
        larger = found[0]
        if rounding == "down":
            height, width, _ = larger.shape
            larger = larger[: max(1, height - height % 2), : max(1, width - width % 2)]
        found.insert(0, shrink(larger, method, alpha=pixels.shape[2] in (2, 4), light=light))
    return found


def tiles(
    pixels: Array,
    tile_size: int,
    overlap: int,
    *,
    rounding: str = "up",
    method: str = "mean",
    light: LightTables | None = None,
) -> Iterator[tuple[Address, Array]]:
    """Every tile of the pyramid with its pixels, the overlap included."""
    made = levels(pixels, rounding=rounding, method=method, light=light)
    for number, level in enumerate(made):
        height, width, _ = level.shape
        for row, y in enumerate(range(0, height, tile_size)):
            for col, x in enumerate(range(0, width, tile_size)):
                yield (
                    (number, col, row),
                    level[
                        max(0, y - overlap) : y + tile_size + overlap,
                        max(0, x - overlap) : x + tile_size + overlap,
                    ],
                )


def composite_over(pixels: Array, background: tuple[int, int, int]) -> Array:
    """8-bit pixels with alpha on a background: L of LA, RGB of RGBA."""
    values = pixels.astype(np.int64)
    colour, alpha = values[..., :-1], values[..., -1:]
    red, green, blue = background
    # ITU-R 601 in 16-bit fixed point, as Pillow's convert("L") has it.
    grey = (19595 * red + 38470 * green + 7471 * blue + 32768) // 65536
    ground = np.array([grey] if pixels.shape[2] == 2 else background)
    return ((colour * alpha + ground * (255 - alpha) + 127) // 255).astype(np.uint8)
