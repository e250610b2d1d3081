"""Complete images at any smaller size, for thumbnails; levels are halved by `kernels`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fasttile.types import Pixels, Shrink

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fasttile.kernels import LightTables

    Sums = NDArray[np.uint64]


def reduce_to(
    pixels: Pixels,
    width: int,
    height: int,
    *,
    method: Shrink = "mean",
    alpha: bool = False,
    light: LightTables | None = None,
) -> Pixels:
    """An image at a smaller size, by the rule of its levels as far as that is one for areas.

    - "mean", "linear": the mean of the area that a pixel covers, or that of its light: exact, with
      parts of pixels counted as such, and rounded once. With alpha, colours are weighted by it, and
      are 0 where nothing is visible, as `kernels.halve` has them.
    - "max", "min": the largest or smallest value that a pixel touches, in each band; transparent
      pixels have no colour.
    - "nearest", "mode", "median": the pixel in the middle.

    Args:
        pixels: Shape (height, width, bands), uint8 or uint16.
        width, height: The new size in pixels, at least 1 and at most the size of the image.
        method: How smaller levels are made.
        alpha: True if the last band is alpha.
        light: The tables of "linear".

    Returns:
        A new array of shape (height, width, bands), same dtype.

    Raises:
        ValueError: "linear" has no tables, or has 16 bits and alpha.

    Example:
        >>> reduce_to(np.array([[[0], [30], [90]]], np.uint8), 2, 1).tolist()
        [[[10], [70]]]
    """
    if method in ("nearest", "mode", "median"):
        rows, cols = pixels.shape[:2]
        middle_rows = (2 * np.arange(height) + 1) * rows // (2 * height)
        middle_cols = (2 * np.arange(width) + 1) * cols // (2 * width)
        return np.ascontiguousarray(pixels[middle_rows[:, None], middle_cols])
    if method in ("max", "min"):
        return _reduce_ranked(pixels, width, height, is_max=method == "max", alpha=alpha)
    # Sums of light of 32 bits, weighted by 16 bits, would not fit 64.
    if method == "linear" and (light is None or (alpha and pixels.dtype == np.uint16)):
        raise ValueError("linear needs tables of light, and 8 bits with alpha")
    return _reduce_mean(pixels, width, height, alpha, light if method == "linear" else None)


def _reduce_mean(
    pixels: Pixels, width: int, height: int, alpha: bool, light: LightTables | None
) -> Pixels:
    rows, cols, bands = pixels.shape
    out = np.empty((height, width, bands), pixels.dtype)
    tables = [] if light is None else list(zip(light.lights, light.thresholds, strict=True))
    colours = min(3, bands - alpha)
    tables = (tables * colours if len(tables) == 1 else tables)[:colours]
    for row in range(height):
        first, last, shares = _touched(row, rows, height)
        part = pixels[first : last + 1].astype(np.uint64)
        for band, (lights, _) in enumerate(tables):
            part[..., band] = lights[pixels[first : last + 1, :, band]]
        if alpha:
            part[..., :-1] *= part[..., -1:]
        line = (part * shares[:, None, None]).sum(axis=0)
        sums = _area_sums(line, width)
        found = _rounded_ratio(sums, np.uint64(rows * cols))
        if alpha:
            found[:, :-1] = _rounded_ratio(sums[:, :-1], sums[:, -1:])
        for band, (_, thresholds) in enumerate(tables):
            found[:, band] = np.searchsorted(thresholds, found[:, band], side="right")
        if alpha and tables:
            found[found[:, -1] == 0, :-1] = 0
        out[row] = found
    return out


def _reduce_ranked(pixels: Pixels, width: int, height: int, *, is_max: bool, alpha: bool) -> Pixels:
    rows, cols, bands = pixels.shape
    rank = np.maximum if is_max else np.minimum
    none = 0 if is_max else np.iinfo(pixels.dtype).max
    starts = np.arange(width) * cols // width
    ends = (np.arange(1, width + 1) * cols - 1) // width + 1
    borders = np.stack([starts, ends], axis=1).ravel()
    out = np.empty((height, width, bands), pixels.dtype)
    for row in range(height):
        first, last, _ = _touched(row, rows, height)
        part = pixels[first : last + 1]
        if alpha:
            part = part.copy()
            part[..., :-1][part[..., -1] == 0] = none
        line = rank.reduce(part, axis=0)
        line = np.concatenate([line, line[-1:]])  # the last border is an index too
        found = rank.reduceat(line, borders, axis=0)[::2]
        if alpha:
            visible = np.maximum.reduce(part[..., -1], axis=0)
            visible = np.maximum.reduceat(np.append(visible, visible[-1:]), borders)[::2]
            found[visible == 0, :-1] = 0
        out[row] = found
    return out


def _touched(row: int, rows: int, height: int) -> tuple[int, int, Sums]:
    """First and last row of the source that a row touches, and the share of each.

    In units of which a row of the source has `height`, and one of the result `rows`.
    """
    top, bottom = row * rows, (row + 1) * rows
    first, last = top // height, (bottom - 1) // height
    ends = np.clip(np.arange(first, last + 2) * height, top, bottom)
    return first, last, np.diff(ends).astype(np.uint64)


def _area_sums(line: Sums, width: int) -> Sums:
    """Sums of a line over equal parts of it, times `width`; shapes (n, bands), (width, bands)."""
    cols = len(line)
    before = np.zeros((cols + 1, line.shape[1]), np.uint64)
    np.cumsum(line, axis=0, out=before[1:])
    complete, rest = np.divmod(np.arange(width + 1, dtype=np.int64) * cols, width)
    parts = line[np.minimum(complete, cols - 1)] * rest.astype(np.uint64)[:, None]
    # Sums before a place may exceed 64 bits, and their differences do not: both are modulo 2^64.
    return np.diff(before[complete] * np.uint64(width) + parts, axis=0)


def _rounded_ratio(sums: Sums, totals: Sums | np.uint64) -> Sums:
    """Ratios rounded half up; 0 where the total is 0."""
    two = np.uint64(2)
    return (two * sums + totals) // np.maximum(two * totals, np.uint64(1))
