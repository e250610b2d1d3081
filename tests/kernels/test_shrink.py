"""Shrinking by choice: each variant of the kernels against the oracle, ties, the edge of memory.

Run as a program, with the kernels' module for an argument, it is the process that has pages next
to its pixels which must not be touched.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fasttile import kernels as resample
from fasttile.kernels import LightTables, halve, shrink
from fasttile.types import Shrink
from support import reference
from support.kernel_cases import (
    DTYPES,
    GuardedPixels,
    halved_shape,
    memory_layouts,
    runnable_kernels,
)
from support.page_boundary import GuardedMemory
from support.reading import noise
from support.reference import Array
from support.sampling import sampled

SHRINK_METHODS: tuple[Shrink, ...] = ("nearest", "mode")
RANKS: tuple[Shrink, ...] = ("max", "min", "median")
STRAIGHT = {
    np.uint8: LightTables(np.linspace(0, 1, 256)[None]),
    np.uint16: LightTables(np.linspace(0, 1, 65_536)[None]),
}
PIXEL_CASES = list(itertools.product(DTYPES, (1, 2, 3, 4)))
"""Type and number of bands."""

SIZES = [
    *itertools.product(range(1, 6), range(1, 41)),
    *itertools.product((2, 3), range(41, 140)),
]
"""Height and width: all small ones, and all widths that two rounds of vectors may end at."""


def make_palette(count: int, bands: int, dtype: Any) -> Array:
    """Up to eight pixels that differ in one band at a time, by one bit."""
    colours = np.tile(noise(bands, dtype=dtype), (count, 1))
    bits = np.iinfo(dtype).bits
    for number in range(1, count):
        colours[number, number % bands] ^= dtype(1 << 5 * number % bits)
    assert len({tuple(colour) for colour in colours.tolist()}) == count
    return colours


def make_labels(height: int, width: int, bands: int, dtype: Any, count: int = 3) -> Array:
    """An image of few different pixels, so that ties are common."""
    random = np.random.default_rng(1000 * height + width)
    return make_palette(count, bands, dtype)[random.integers(0, count, (height, width))]


def distinct_pixels(pixels: Array) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in pixels.reshape(-1, pixels.shape[2]).tolist()}


# ---- all small cases -----------------------------------------------------------------------------


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("how", [*SHRINK_METHODS, "median"])
@pytest.mark.parametrize(("dtype", "bands"), sampled(PIXEL_CASES, PIXEL_CASES[::3]))
def test_shrinks_every_small_size_in_every_layout(how: Shrink, dtype: Any, bands: int) -> None:
    for height, width in SIZES:
        pixels = make_labels(height, width, bands, dtype, 2 + width % 3)
        expected = reference.shrink(pixels, how)
        for stretch, (name, view) in enumerate(memory_layouts(pixels)):
            out = GuardedPixels(expected.shape, dtype, stretch=stretch % 2 == 1)
            assert shrink(view, out.pixels, method=how) is out.pixels
            assert (out.pixels == expected).all(), (height, width, name)
            out.check()


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(("dtype", "bands"), PIXEL_CASES)
def test_every_pattern_of_four_pixels(dtype: Any, bands: int) -> None:
    patterns = list(itertools.product(range(4), repeat=4))
    colours = make_palette(4, bands, dtype)
    places = np.array(patterns).reshape(-1, 2, 2).transpose(1, 0, 2).reshape(2, -1)
    pixels = colours[places]
    most = [max(pattern, key=pattern.count) for pattern in patterns]  # the first, of several
    assert (shrink(pixels, method="mode") == colours[most]).all()
    first = [pattern[0] for pattern in patterns]
    assert (shrink(pixels, method="nearest") == colours[first]).all()


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("how", SHRINK_METHODS)
@pytest.mark.parametrize(("dtype", "bands"), PIXEL_CASES)
def test_a_last_column_or_row_counts_twice(how: Shrink, dtype: Any, bands: int) -> None:
    for first, second in itertools.product(make_palette(4, bands, dtype), repeat=2):
        two = np.stack([first, second])
        for pair in (two[:, None], two[None]):  # one above the other, side by side
            assert (shrink(pair, method=how) == first).all()


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(("dtype", "bands"), PIXEL_CASES)
def test_pixels_that_differ_in_any_bit_are_different(dtype: Any, bands: int) -> None:
    top = np.iinfo(dtype).max
    pixels = np.empty((2, 140, bands), dtype)
    pixels[0, ::2], pixels[0, 1::2], pixels[1] = 0, top, top // 3
    assert (shrink(pixels, method="mode") == top // 3).all()
    for band, bit in itertools.product(range(bands), range(np.iinfo(dtype).bits)):
        other = pixels.copy()
        other[1, 1::2, band] ^= dtype(1 << bit)
        assert (shrink(other, method="mode") == 0).all(), (band, bit)


# ---- anything ------------------------------------------------------------------------------------


@st.composite
def images(draw: st.DrawFn) -> Array:
    dtype, bands = draw(st.sampled_from(PIXEL_CASES))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 200))
    values = draw(st.sampled_from([1, 2, 3, 8, None]))
    if values is None:
        pixels = noise(height, width, bands, dtype=dtype)
    else:
        pixels = make_labels(height, width, bands, dtype, values)
    left = draw(st.integers(0, width - 1))
    return pixels[:: draw(st.sampled_from([1, -1, 2, -3])), left:]


@given(pixels=images(), how=st.sampled_from((*SHRINK_METHODS, *RANKS)))
@settings(max_examples=150, deadline=None)
def test_shrinks_anything(pixels: Array, how: Shrink) -> None:
    expected = reference.shrink(pixels, how)
    chosen = resample._kernels
    try:
        for name in runnable_kernels():
            resample._kernels = import_module(f"fasttile.{name}")
            found = shrink(pixels, method=how)
            np.testing.assert_array_equal(found, expected, name)
            if how in SHRINK_METHODS:
                assert distinct_pixels(found) <= distinct_pixels(pixels)
    finally:
        resample._kernels = chosen


@pytest.mark.usefixtures("kernels")
def test_the_mean_is_halves() -> None:
    assert get_args(Shrink) == ("mean", "linear", *SHRINK_METHODS, *RANKS)
    for bands, alpha in ((1, False), (3, False), (2, True), (4, True), (4, False)):
        pixels = noise(7, 33, bands)
        expected = halve(pixels, alpha=alpha)
        np.testing.assert_array_equal(shrink(pixels, alpha=alpha), expected)
        out = np.empty_like(expected)
        assert shrink(pixels, out, method="mean", alpha=alpha) is out
        np.testing.assert_array_equal(out, expected)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("how", SHRINK_METHODS)
def test_alpha_is_part_of_the_pixel(how: Shrink) -> None:
    for dtype, bands in itertools.product(DTYPES, (2, 4)):
        pixels = make_labels(9, 50, bands, dtype)
        pixels[::3, :, -1] = 0
        expected = reference.shrink(pixels, how)
        np.testing.assert_array_equal(shrink(pixels, method=how, alpha=True), expected)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("how", RANKS)
def test_transparent_pixels_have_no_colour(how: Shrink) -> None:
    random = np.random.default_rng(3)
    for dtype, bands in itertools.product(DTYPES, (2, 4)):
        for height, width in itertools.product((1, 2, 9), (1, 2, 51)):
            pixels = noise(height, width, bands, dtype=dtype)
            pixels[..., -1] *= random.integers(0, 2, (height, width), dtype)
            expected = reference.shrink(pixels, how, alpha=True)
            np.testing.assert_array_equal(shrink(pixels, method=how, alpha=True), expected)
            hidden = np.where(
                pixels[..., -1:] == 0, noise(height, width, bands, dtype=dtype), pixels
            )
            hidden[..., -1] = pixels[..., -1]
            np.testing.assert_array_equal(shrink(hidden, method=how, alpha=True), expected)


@pytest.mark.usefixtures("kernels")
def test_every_order_of_four_values() -> None:
    for values in ([1, 2, 3, 4], [5, 5, 6, 7], [8, 8, 8, 9], [3, 3, 4, 4], [250, 251, 254, 255]):
        for four in itertools.permutations(values):
            pixels = np.array(four, np.uint8).reshape(2, 2, 1)
            assert shrink(pixels, method="max").item() == max(four)
            assert shrink(pixels, method="min").item() == min(four)
            median = shrink(pixels, method="median").item()
            assert median == min(max(four[:2]), max(four[2:]))
            assert median in sorted(four)[1:3]


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("how", [*SHRINK_METHODS, *RANKS])
def test_pixels_may_lie_at_any_byte(how: Shrink) -> None:
    for (dtype, bands), width, start in itertools.product(PIXEL_CASES, (1, 2, 33, 140), (1, 3)):
        pixels = make_labels(6, width, bands, dtype)
        row = width * bands * pixels.itemsize + start  # bytes
        odd = np.zeros(start + 6 * row, np.uint8)
        strides = (row, bands * pixels.itemsize, pixels.itemsize)
        view: Array = np.ndarray(pixels.shape, dtype, odd.data, start, strides)
        view[:] = pixels
        np.testing.assert_array_equal(shrink(view, method=how), reference.shrink(pixels, how))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("how", [*SHRINK_METHODS, *RANKS])
def test_shrinks_nothing_to_nothing(how: Shrink) -> None:
    for shape in ((0, 5, 3), (5, 0, 3), (0, 0, 4)):
        empty = np.empty(shape, np.uint8)
        assert shrink(empty, method=how).shape == halved_shape(empty)


# ---- what is refused -----------------------------------------------------------------------------


def test_refuses_an_unknown_way() -> None:
    for how in ("average", "", "MODE", None):
        with pytest.raises(ValueError, match=f"method is {how!r}, it must be one of 'mean', 'lin"):
            shrink(np.zeros((4, 4, 3), np.uint8), method=how)  # type: ignore[arg-type]


def refused_arguments() -> Iterator[tuple[Array, Array | None, bool, str]]:
    """Source, target, alpha, and the message about them."""
    pixels = np.zeros((4, 4, 3), np.uint8)
    locked = np.zeros((2, 2, 3), np.uint8)
    locked.flags.writeable = False
    yield pixels[..., 0], None, False, r"src is uint8\(4, 4\), it must be"
    yield pixels.astype(np.int32), None, False, r"src is int32\(4, 4, 3\), it must be"
    yield pixels[:, ::2], None, False, "src are not contiguous"
    yield pixels, np.zeros((2, 3, 3), np.uint8), False, "out is"
    yield pixels, np.zeros((2, 2, 3), np.uint16), False, "out is"
    yield pixels, np.zeros((2, 2, 6), np.uint8)[..., ::2], False, "out are not contiguous"
    yield pixels, locked, False, "read-only"
    yield pixels, pixels.reshape(-1)[:12].reshape(2, 2, 3), False, "share memory"
    yield pixels, None, True, "3 bands have no alpha; 2 or 4 do"


@pytest.mark.parametrize("how", get_args(Shrink))
@pytest.mark.parametrize(("src", "out", "alpha", "message"), list(refused_arguments()))
def test_refuses_what_does_not_fit(
    src: Array, out: Array | None, alpha: bool, message: str, how: Shrink
) -> None:
    with pytest.raises(ValueError, match=message):
        shrink(src, out, method=how, alpha=alpha, light=STRAIGHT[np.uint8])


# ---- where memory ends, and many threads ---------------------------------------------------------


def run_shrink_at_page_boundary(name: str) -> int:
    """Shrink pixels that touch either end of some memory; how many times it was."""
    resample._kernels = import_module(f"fasttile.{name}")
    widest = 140
    source, target = GuardedMemory(4 * widest * 4 * 2), GuardedMemory(2 * widest * 4 * 2)
    calls, methods = 0, get_args(Shrink)[1:]
    ends = itertools.product((True, False), repeat=2)
    for (at_end, upward), height, (dtype, bands) in itertools.product(ends, (1, 3, 4), PIXEL_CASES):
        for width, how in itertools.product(range(1, widest + 1), methods):
            src = source.pixels((height, width, bands), dtype, at_end=at_end, upward=upward)
            out = target.pixels(halved_shape(src), dtype, at_end=at_end, upward=upward)
            alpha = how not in SHRINK_METHODS and bands in (2, 4)
            shrink(src, out, method=how, alpha=alpha, light=STRAIGHT[dtype])
            calls += 1
    return calls


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it takes mprotect")
def test_touches_nothing_outside_of_its_rows(kernel_module: str) -> None:
    command = [sys.executable, "-X", "faulthandler", __file__, kernel_module]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 20_000


@pytest.mark.usefixtures("kernels")
def test_many_threads_at_once_get_the_same() -> None:
    images = [make_labels(64, 301, bands, dtype) for dtype, bands in PIXEL_CASES]
    methods = (*SHRINK_METHODS, *RANKS)
    expected = {how: [reference.shrink(pixels, how) for pixels in images] for how in methods}

    def work(number: int) -> None:
        for step in range(60):
            chosen, how = (number + step) % len(images), methods[step % 5]
            assert (shrink(images[chosen], method=how) == expected[how][chosen]).all()

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(16)))


if __name__ == "__main__":
    print(run_shrink_at_page_boundary(sys.argv[1]))
