"""Reduction to any size: the exact mean of the area of each pixel."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fasttile.colour.light import tables_for_profile
from fasttile.kernels import halve, shrink
from fasttile.scaling import reduce_to
from support.exact_mean import exact_mean, shares
from support.reading import noise


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_each_pixel_is_the_mean_of_its_area(bands: int, dtype: type) -> None:
    largest = np.iinfo(dtype).max
    rng = np.random.default_rng(bands)
    for (w, h), (rows, cols) in itertools.product([(1, 1), (2, 3), (5, 4)], [(5, 7), (4, 11)]):
        pixels = rng.choice([0, 1, largest // 2, largest - 1, largest], (rows, cols, bands))
        pixels = pixels.astype(dtype)
        alpha = bands in (2, 4)
        h = min(h, rows)
        assert np.array_equal(
            reduce_to(pixels, w, h, alpha=alpha), exact_mean(pixels, w, h, alpha=alpha)
        )


def test_half_the_size_is_what_levels_are() -> None:
    pixels = noise(60, 40, 3)
    assert np.array_equal(reduce_to(pixels, 20, 30), halve(pixels))
    assert np.array_equal(reduce_to(pixels, 40, 60), pixels)


def test_large_sums_do_not_overflow() -> None:
    # Sums before the last pixels exceed 64 bits: 4096 · 2 · 2^21 · 65535².
    pixels = np.full((2, 2**21, 2), 65535, np.uint16)
    assert (reduce_to(pixels, 4096, 1, alpha=True) == 65535).all()


def test_it_is_close_to_pillows_box_filter() -> None:
    # Pillow counts a pixel for the part that has its middle: nearly the same on smooth images.
    smooth = np.asarray(Image.fromarray(noise(211, 307, 3)).resize((9, 7)).resize((307, 211)))
    box = Image.fromarray(smooth).resize((90, 62), Image.Resampling.BOX)
    difference = np.abs(reduce_to(smooth, 90, 62).astype(int) - np.asarray(box))
    assert difference.max() <= 12
    assert difference.mean() < 1.5


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_the_mean_of_light(bands: int) -> None:
    pixels, alpha = noise(31, 44, bands), bands in (2, 4)
    if alpha:
        pixels[::3, ::2, -1] = 0
    tables = tables_for_profile(None, 256)
    lights = pixels.astype(np.int64)
    colours = bands - alpha
    lights[..., :colours] = tables.lights[0][pixels[..., :colours]]
    means = exact_mean(lights, 20, 9, alpha=alpha)
    nearest = abs(tables.lights[0].astype(np.int64) - means[..., :colours, None]).argmin(-1)
    found = reduce_to(pixels, 20, 9, method="linear", alpha=alpha, light=tables)
    assert abs(found[..., :colours].astype(int) - nearest).max() <= 1
    assert (found[..., :colours] == nearest).mean() > 0.99
    assert np.array_equal(found[..., colours:], means[..., colours:])
    half = reduce_to(pixels[:30], 22, 15, method="linear", alpha=alpha, light=tables)
    assert np.array_equal(half, shrink(pixels[:30], method="linear", alpha=alpha, light=tables))


def test_light_of_16_bits() -> None:
    pixels = noise(31, 44, 3).astype(np.uint16) * 257
    tables = tables_for_profile(None, 65536)
    half = reduce_to(pixels[:30], 22, 15, method="linear", light=tables)
    assert np.array_equal(half, shrink(pixels[:30], method="linear", light=tables))
    with pytest.raises(ValueError, match="8 bits with alpha"):
        reduce_to(pixels, 9, 9, method="linear", alpha=True, light=tables)
    with pytest.raises(ValueError, match="needs tables"):
        reduce_to(pixels, 9, 9, method="linear")


@pytest.mark.parametrize("method", ["max", "min"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_the_largest_and_smallest_values(method: Any, bands: int) -> None:
    pixels, alpha = noise(31, 44, bands), bands in (2, 4)
    if alpha:
        pixels[..., -1] *= np.random.default_rng(1).random((31, 44)) < 0.4
    found = reduce_to(pixels, 20, 9, method=method, alpha=alpha)
    rank = max if method == "max" else min
    for row, rows in enumerate(shares(31, 9)):
        for col, cols in enumerate(shares(44, 20)):
            touched = [pixels[y, x] for y, _ in rows for x, _ in cols]
            seen = [one for one in touched if not alpha or one[-1]]
            for band in range(bands):
                held = touched if alpha and band == bands - 1 else seen
                assert found[row, col, band] == rank((int(one[band]) for one in held), default=0)
    half = reduce_to(pixels[:30], 22, 15, method=method, alpha=alpha)
    assert np.array_equal(half, shrink(pixels[:30], method=method, alpha=alpha))


@pytest.mark.parametrize("method", ["nearest", "mode", "median"])
def test_labels_are_not_blended(method: str) -> None:
    pixels = np.array([[[1], [1], [9], [9], [4]]], np.uint8)
    found = reduce_to(pixels, 2, 1, method=method)  # type: ignore[arg-type]
    assert found.tolist() == [[[1], [9]]]
