"""The mean of the area of each pixel of a smaller image, pixel by pixel: exact_mean."""

from __future__ import annotations

import numpy as np

from support.reference import Array


def shares(size: int, count: int) -> list[list[tuple[int, int]]]:
    """Of each of `count` parts of a line: the pixels in it, and how many `count`ths of each."""
    found = []
    for part in range(count):
        start, end = part * size, (part + 1) * size
        held = [(at, min(end, (at + 1) * count) - max(start, at * count)) for at in range(size)]
        found.append([(at, share) for at, share in held if share > 0])
    return found


def exact_mean(pixels: Array, width: int, height: int, *, alpha: bool) -> Array:
    """Each mean, in Python's integers and rounded half up; with alpha colours weigh by it."""
    values = pixels.tolist()
    all_cols = shares(pixels.shape[1], width)
    out = np.zeros((height, width, pixels.shape[2]), pixels.dtype)
    for row, rows in enumerate(shares(pixels.shape[0], height)):
        for col, cols in enumerate(all_cols):
            parts = [(values[y][x], sy * sx) for y, sy in rows for x, sx in cols]
            for band in range(pixels.shape[2]):
                weighs = alpha and band < pixels.shape[2] - 1
                weights = [share * value[-1] if weighs else share for value, share in parts]
                total = sum(weights)
                sums = sum(value[band] * w for (value, _), w in zip(parts, weights, strict=True))
                out[row, col, band] = (2 * sums + total) // (2 * total) if total else 0
    return out
