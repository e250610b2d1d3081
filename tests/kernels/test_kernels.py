"""The kernels, each variant of them, against the oracle, Pillow, and the edge of mapped memory."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fasttile import kernels as resample
from fasttile.kernels import halve, luma, pack, packed_bands, repeat_ratio, rgbx_to_rgb
from support import reference
from support.kernel_cases import (
    DTYPES,
    GuardedPixels,
    halved_shape,
    memory_layouts,
    runnable_kernels,
)
from support.reading import noise
from support.reference import Array

TESTS_FOLDER = Path(__file__).parents[1]
WIDTHS = range(1, 71)
"""All that vectors of up to 32 pixels, halved, can end at."""

SIZES = [
    *itertools.product(range(1, 10), range(1, 10)),
    *itertools.product((1, 2, 3), range(10, 71)),
]
"""Height and width: all small ones, and all widths with one row, two, and one of each."""


class PixelKind(NamedTuple):
    """Pixels that a kernel treats alike."""

    bands: int
    alpha: bool


PIXEL_KINDS = [PixelKind(bands, False) for bands in (1, 2, 3, 4)] + [
    PixelKind(2, True),
    PixelKind(4, True),
]
ALPHA_PIXEL_KINDS = [kind for kind in PIXEL_KINDS if kind.alpha]


def assert_halves(pixels: Array, alpha: bool) -> None:
    np.testing.assert_array_equal(halve(pixels, alpha=alpha), reference.halve(pixels, alpha=alpha))


# ---- halve: all small sizes ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", PIXEL_KINDS, ids=str)
def test_halves_every_small_size_in_every_layout(kernels: str, kind: PixelKind, dtype: Any) -> None:
    everything = noise(9, 70, kind.bands, dtype=dtype)
    for height, width in SIZES:
        pixels = everything[:height, :width].copy()
        expected = reference.halve(pixels, alpha=kind.alpha)
        for stretch, (name, view) in enumerate(memory_layouts(pixels)):
            out = GuardedPixels(expected.shape, dtype, stretch=stretch % 2 == 1)
            assert halve(view, out.pixels, alpha=kind.alpha) is out.pixels
            assert (out.pixels == expected).all(), (height, width, name)
            out.check()


def alpha_patterns(height: int, width: int, dtype: Any) -> dict[str, Array]:
    """Each class of alpha values that takes another way through the kernels."""
    top = np.iinfo(dtype).max
    random = np.random.default_rng(height * 100 + width)
    opaque = np.full((height, width), top, dtype)
    one_hole = opaque.copy()
    one_hole[random.integers(height), random.integers(width)] = random.integers(top)
    runs = random.integers(0, 2, (1, -(-width // 7)), np.uint8).repeat(7, axis=1)[:, :width]
    rounding = np.array([0, 1, 2, top // 2, top - 1, top], dtype)
    return {
        "opaque": opaque,
        "transparent": np.zeros_like(opaque),
        "barely there": np.ones_like(opaque),
        "nearly opaque": opaque - dtype(1),
        "one hole": one_hole,
        "runs": np.broadcast_to(runs * dtype(top), (height, width)).astype(dtype),
        "extremes": random.choice(rounding, (height, width)),
        "any": random.integers(0, top, (height, width), dtype, endpoint=True),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ALPHA_PIXEL_KINDS, ids=str)
def test_weighs_by_every_class_of_alpha(kernels: str, kind: PixelKind, dtype: Any) -> None:
    top = np.iinfo(dtype).max
    for height, width in itertools.product((2, 3), WIDTHS):
        colours = noise(height, width, kind.bands, dtype=dtype)
        darkest_and_brightest = (colours > top // 2) * dtype(top)
        for name, alpha in alpha_patterns(height, width, dtype).items():
            for pixels in (colours, darkest_and_brightest):
                pixels[..., -1] = alpha
                found = halve(pixels, alpha=True)
                assert (found == reference.halve(pixels, alpha=True)).all(), (height, width, name)


def split_weight(weight: int) -> Iterator[tuple[int, int, int, int]]:
    """Four 8-bit alphas of a given sum: heaped up with a last 1 left over, and spread out."""
    heaped, left = [], weight - 1
    for _ in range(3):
        heaped.append(min(255, left))
        left -= heaped[-1]
    if left + 1 <= 255:
        yield heaped[0], heaped[1], heaped[2], left + 1
    quarter, rest = divmod(weight, 4)
    a, b, c, d = (quarter + (place < rest) for place in range(4))
    yield a, b, c, d


def fill_four_pixels(numerators: Array, four: tuple[int, int, int, int]) -> Array:
    """Colours whose weighted sums come as close to each numerator from below as they can."""
    colours, left = [], numerators.copy()
    for alpha in four:
        colour = np.minimum(255, left // alpha) if alpha else np.zeros_like(left)
        left -= colour * alpha
        colours.append(colour)
    return np.stack(colours)


def test_every_8_bit_quotient_is_exact(kernels: str) -> None:
    # A quotient that is rounded correctly grows with its numerator. So if all are right right at
    # the places where the whole number changes, and right before, then all between are too. With
    # a last weight of 1 every numerator is reached exactly: that is up to the sum 766.
    reached = 0
    for weight in range(1, 1021):
        steps = np.arange(256) * weight - weight // 2  # there (n + S // 2) // S changes
        numerators = np.unique(np.clip(np.concatenate([steps, steps - 1]), 0, 255 * weight))
        for four in split_weight(weight):
            colours = fill_four_pixels(numerators, four)
            sums = np.tensordot(np.array(four), colours, axes=1)
            if four[3] == 1:
                np.testing.assert_array_equal(sums, numerators)
                reached += len(sums)
            expected = (sums + weight // 2) // weight
            pixels = np.empty((2, 2 * len(sums), 4), np.uint8)
            for place, (colour, alpha) in enumerate(zip(colours, four, strict=True)):
                y, x = divmod(place, 2)
                pixels[y, x::2, 0] = pixels[y, x::2, 1] = colour
                pixels[y, x::2, 2] = 255 - colour
                pixels[y, x::2, 3] = alpha
            found = halve(pixels, alpha=True)[0]
            assert (found[:, 0] == expected).all(), four
            assert (found[:, 1] == expected).all(), four
            assert (found[:, 2] == (255 * weight - sums + weight // 2) // weight).all(), four
            assert (found[:, 3] == (weight + 2) // 4).all(), four
    assert reached > 766 * 256


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_sums_do_not_overflow(kernels: str, dtype: Any) -> None:
    top = np.iinfo(dtype).max
    for kind in PIXEL_KINDS:
        full = np.full((3, 41, kind.bands), top, dtype)
        assert (halve(full, alpha=kind.alpha) == top).all(), kind


def test_rounds_halves_up(kernels: str) -> None:
    for corner, expected in ((1, 0), (2, 1), (3, 1), (4, 1), (6, 2)):
        pixels = np.zeros((2, 2, 1), np.uint8)
        pixels[1, 1] = corner
        assert halve(pixels).item() == expected


def test_what_is_not_seen_does_not_bleed(kernels: str) -> None:
    clear_white, red = (255, 255, 255, 0), (200, 0, 0, 255)
    pixels = np.array([[clear_white, red], [clear_white, clear_white]], np.uint8)
    assert halve(pixels, alpha=True).tolist() == [[[200, 0, 0, 64]]]


def test_nothing_seen_at_all_is_black_and_clear(kernels: str) -> None:
    pixels = noise(6, 40, 4)
    pixels[..., 3] = 0
    assert not halve(pixels, alpha=True).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_opaque_pixels_with_alpha_are_those_without(kernels: str, dtype: Any) -> None:
    for colours in (1, 3):
        for height, width in itertools.product((1, 2, 3, 8), WIDTHS):
            pixels = noise(height, width, colours + 1, dtype=dtype)
            pixels[..., -1] = np.iinfo(dtype).max
            found = halve(pixels, alpha=True)
            plain = halve(np.ascontiguousarray(pixels[..., :-1]))
            np.testing.assert_array_equal(found[..., :-1], plain)
            assert (found[..., -1] == np.iinfo(dtype).max).all()


@pytest.mark.parametrize(("mode", "bands"), [("L", 1), ("RGB", 3)])
def test_halves_as_pillow_reduces(kernels: str, mode: str, bands: int) -> None:
    for height, width in itertools.product((1, 2, 3, 16, 101), (*WIDTHS, 255, 1000)):
        pixels = noise(height, width, bands)
        image = Image.frombytes(mode, (width, height), pixels.tobytes())
        expected = np.asarray(image.reduce(2)).reshape(halved_shape(pixels))
        np.testing.assert_array_equal(halve(pixels), expected)


# ---- halve: anything -----------------------------------------------------------------------------


@st.composite
def images(draw: st.DrawFn) -> tuple[Array, bool]:
    kind = draw(st.sampled_from(PIXEL_KINDS))
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 200), st.just(kind.bands)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    top = np.iinfo(dtype).max
    levels = draw(st.sampled_from([[0, top], [0, 1, top - 1, top], None]))
    if levels is None:
        pixels = random.integers(0, top, shape, dtype, endpoint=True)
    else:
        pixels = random.choice(np.array(levels, dtype), shape)
    if kind.alpha and draw(st.booleans()):
        pixels[: draw(st.integers(0, 40)), : draw(st.integers(0, 200)), -1] = top
    step = draw(st.sampled_from([1, -1, 2, -3]))
    return pixels[::step], kind.alpha


@given(drawn=images())
@settings(max_examples=150, deadline=None)
def test_halves_anything(drawn: tuple[Array, bool]) -> None:
    pixels, alpha = drawn
    expected = reference.halve(pixels, alpha=alpha)
    chosen = resample._kernels
    try:
        for name in runnable_kernels():
            resample._kernels = import_module(f"fasttile.{name}")
            np.testing.assert_array_equal(halve(pixels, alpha=alpha), expected, name)
    finally:
        resample._kernels = chosen


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (0, 0, 4)])
def test_halves_nothing_to_nothing(kernels: str, shape: tuple[int, int, int]) -> None:
    assert halve(np.empty(shape, np.uint8)).shape == halved_shape(np.empty(shape))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_single_column_may_have_any_stride_between_its_pixels(kernels: str, dtype: Any) -> None:
    for kind in PIXEL_KINDS:
        column = noise(9, 7, kind.bands, dtype=dtype)[:, 3:4]
        assert_halves(column, kind.alpha)


def test_pixels_of_16_bits_may_lie_at_any_byte(kernels: str) -> None:
    # A file's map gives them so, where its header has an odd length.
    for kind, width in itertools.product(PIXEL_KINDS, (1, 2, 33, 70)):
        pixels = noise(6, width, kind.bands, dtype=np.uint16)
        row = 2 * width * kind.bands + 1  # bytes
        odd = np.zeros(1 + 6 * row, np.uint8)
        strides = (row, 2 * kind.bands, 2)
        view: Array = np.ndarray(pixels.shape, np.uint16, odd.data, 1, strides)
        view[:] = pixels
        np.testing.assert_array_equal(
            halve(view, alpha=kind.alpha), reference.halve(pixels, alpha=kind.alpha)
        )


def test_read_only_maps_are_taken(kernels: str, tmp_path: Path) -> None:
    pixels = noise(9, 50, 3)
    (tmp_path / "p").write_bytes(pixels.tobytes())
    mapped = np.memmap(tmp_path / "p", np.uint8, "r", shape=pixels.shape)
    assert_halves(mapped, False)
    out = np.empty((9, 50, 4), np.uint8)
    pack(mapped, out)
    np.testing.assert_array_equal(out[..., :3], pixels)


# ---- halve: what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("src", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"src is uint8\(4, 4\), it must be"),
        (np.zeros((4, 4, 3), np.float32), r"src is float32\(4, 4, 3\), it must be"),
        (np.zeros((4, 4, 3), np.int16), r"src is int16\(4, 4, 3\), it must be"),
        (np.zeros((4, 4, 3), ">u2"), r"src is >u2\(4, 4, 3\), it must be"),
        (np.zeros((4, 4, 5), np.uint8), "src has 5 bands, it must have 1 to 4"),
        (np.zeros((4, 4, 0), np.uint8), "src has 0 bands, it must have 1 to 4"),
        (np.zeros((4, 8, 3), np.uint8)[:, ::2], "src are not contiguous: strides"),
        (np.zeros((4, 4, 3), np.uint8)[:, ::-1], "src are not contiguous: strides"),
        (np.zeros((4, 4, 3), np.uint8)[..., ::-1], "src are not contiguous: strides"),
        (np.zeros((4, 4, 4), np.uint8)[..., 1:3], "src are not contiguous: strides"),
        (np.zeros((4, 4, 4), np.uint16)[..., :3], "src are not contiguous: strides"),
        (np.zeros((3, 4, 4), np.uint8).transpose(1, 2, 0), "src are not contiguous: strides"),
    ],
)
def test_refuses_pixels_that_are_no_rows(src: Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        halve(src)
    with pytest.raises(ValueError, match=message):
        pack(src, np.zeros((4, 4, 4), np.uint8))


def test_halves_no_rgb_in_four_bytes() -> None:
    with pytest.raises(ValueError, match="src are not contiguous: strides"):
        halve(np.zeros((4, 4, 4), np.uint8)[..., :3])


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((2, 3, 3), np.uint8),
        np.zeros((3, 2, 3), np.uint8),
        np.zeros((2, 2, 4), np.uint8),
        np.zeros((2, 2, 3), np.uint16),
        np.zeros((2, 2, 6), np.uint8)[..., ::2],
    ],
)
def test_refuses_an_out_that_does_not_fit(out: Array) -> None:
    with pytest.raises(ValueError, match="out"):
        halve(np.zeros((4, 4, 3), np.uint8), out)


def test_refuses_a_read_only_out() -> None:
    out = np.zeros((2, 2, 3), np.uint8)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        halve(np.zeros((4, 4, 3), np.uint8), out)


def test_refuses_to_halve_in_place() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="share memory"):
        halve(pixels, pixels.reshape(-1)[:12].reshape(2, 2, 3))


@pytest.mark.parametrize("bands", [1, 3])
def test_refuses_alpha_where_there_is_none(bands: int) -> None:
    with pytest.raises(ValueError, match=f"{bands} bands have no alpha; 2 or 4 do"):
        halve(np.zeros((4, 4, bands), np.uint8), alpha=True)


# ---- pack ----------------------------------------------------------------------------------------

BACKGROUNDS = [None, (255, 255, 255), (0, 0, 0), (30, 144, 255)]


def pack_pixels(pixels: Array, background: tuple[int, int, int] | None) -> Array:
    """The contract of `pack`, written a second time in NumPy."""
    bands = pixels.shape[2]
    if background is not None and bands in (2, 4):
        pixels = reference.composite_over(pixels, background)
        bands -= 1
    if bands == 2:
        return np.concatenate([pixels[..., :1]] * 3 + [pixels[..., 1:]], axis=-1)
    if bands == 3:
        return np.pad(pixels, ((0, 0), (0, 0), (0, 1)), constant_values=255)
    return pixels


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_packs_every_small_size_in_every_layout(
    kernels: str, bands: int, background: tuple[int, int, int] | None
) -> None:
    everything = noise(9, 70, bands)
    for height, width in itertools.product((1, 2, 9), WIDTHS):
        pixels = everything[:height, :width].copy()
        expected = pack_pixels(pixels, background)
        for name, view in memory_layouts(pixels):
            out = GuardedPixels(expected.shape, np.uint8)
            uniform = pack(view, out.pixels, background=background)
            assert (out.pixels == expected).all(), (height, width, name)
            assert uniform == (expected == expected[0, 0]).all(), (height, width, name)
            out.check()


def test_packs_rgb_that_lies_in_four_bytes(kernels: str) -> None:
    for height, width in itertools.product((1, 2, 9), WIDTHS):
        padded = noise(height, width, 4)
        expected = pack_pixels(padded[..., :3], None)
        for name, view in memory_layouts(padded):
            out = GuardedPixels(expected.shape, np.uint8)
            uniform = pack(view[..., :3], out.pixels)
            assert (out.pixels == expected).all(), (height, width, name)
            assert uniform == (expected == expected[0, 0]).all(), (height, width, name)
            out.check()


def test_packs_grey_of_16_bits(kernels: str) -> None:
    for height, width in itertools.product((1, 2, 9), WIDTHS):
        pixels = noise(height, width, 1, dtype=np.uint16)
        for name, view in memory_layouts(pixels):
            out = GuardedPixels(pixels.shape, np.uint16)
            uniform = pack(view, out.pixels)
            assert (out.pixels == pixels).all(), (height, width, name)
            assert uniform == (width * height == 1), (height, width, name)
            out.check()


def test_lays_every_colour_on_a_ground_at_every_alpha(kernels: str) -> None:
    colour, alpha = np.meshgrid(np.arange(256), np.arange(256))
    pixels = np.stack([colour, 255 - colour, colour ^ 85, alpha], axis=-1).astype(np.uint8)
    grey = np.ascontiguousarray(pixels[..., [0, 3]])
    for ground in (0, 1, *range(2, 254, 7), 254, 255):
        background = (ground, 255 - ground, ground ^ 85)
        out = np.empty((256, 256, 4), np.uint8)
        pack(pixels, out, background=background)
        expected = reference.composite_over(pixels, background)
        assert (out[..., :3] == expected).all(), ground
        assert (out[..., 3] == 255).all()
        out = np.empty((256, 256, 1), np.uint8)
        pack(grey, out, background=background)
        assert (out == reference.composite_over(grey, background)).all(), ground


def test_the_grey_of_a_colour_is_pillows() -> None:
    for colour in itertools.product(range(0, 256, 15), repeat=3):
        assert luma(colour) == Image.new("RGB", (1, 1), colour).convert("L").getpixel((0, 0))


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_one_pixel_that_differs_is_seen_wherever_it_is(kernels: str, bands: int) -> None:
    height, width = 3, 37
    tile = np.full((height, width, bands), 77, np.uint8)
    out = np.empty((height, width, packed_bands(bands, flat=False)), np.uint8)
    assert pack(tile, out)
    for y, x, band in itertools.product(range(height), range(width), range(bands)):
        tile[y, x, band] = 78
        assert not pack(tile, out), (y, x, band)
        tile[y, x, band] = 77


def test_one_sample_of_16_bits_that_differs_is_seen_wherever_it_is(kernels: str) -> None:
    tile = np.full((3, 37, 1), 0x4D4D, np.uint16)
    out = np.empty_like(tile)
    assert pack(tile, out)
    for y, x, other in itertools.product(range(3), range(37), (0x4D4E, 0x4E4D)):
        tile[y, x] = other
        assert not pack(tile, out), (y, x)
        tile[y, x] = 0x4D4D


def test_equal_pixels_of_unequal_bytes_are_uniform(kernels: str) -> None:
    tile = np.empty((5, 9, 3), np.uint8)
    tile[:] = (1, 2, 3)
    assert pack(tile, np.empty((5, 9, 4), np.uint8))


def test_what_becomes_the_same_on_the_ground_is_uniform(kernels: str) -> None:
    tile = noise(5, 9, 4)
    tile[..., 3] = 0
    out = np.empty((5, 9, 4), np.uint8)
    assert pack(tile, out, background=(1, 2, 3))
    assert not pack(tile, out)


@pytest.mark.parametrize(
    ("src", "out", "message"),
    [
        ((4, 4, 3), np.zeros((4, 4, 3), np.uint8), r"it must be uint8\(4, 4, 4\), C order"),
        ((4, 4, 3), np.zeros((4, 4, 4), np.uint16), r"it must be uint8\(4, 4, 4\), C order"),
        ((4, 4, 3), np.zeros((4, 8, 4), np.uint8)[:, ::2], "C order"),
        ((4, 4, 3), np.zeros((5, 4, 4), np.uint8), "C order"),
        ((0, 4, 3), np.zeros((0, 4, 4), np.uint8), "a tile of 4×0 pixels has nothing to pack"),
        ((4, 0, 1), np.zeros((4, 0, 1), np.uint8), "a tile of 0×4 pixels has nothing to pack"),
    ],
)
def test_refuses_to_pack_into_what_does_not_fit(
    src: tuple[int, int, int], out: Array, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pack(np.zeros(src, np.uint8), out)


@pytest.mark.parametrize("bands", [2, 3, 4])
def test_refuses_to_pack_16_bits_that_are_not_grey(bands: int) -> None:
    src = np.zeros((4, 4, bands), np.uint16)
    with pytest.raises(ValueError, match=f"uint16 tiles with {bands} bands cannot be packed"):
        pack(src, np.zeros((4, 4, 4), np.uint16))


# ---- what PNG needs ------------------------------------------------------------------------------


def repeat_ratio_by_pairs(packed: Array) -> float:
    """The share of pixels that equal the one before, in the order of reading."""
    pixels = [tuple(pixel) for pixel in packed.reshape(-1, packed.shape[2]).tolist()]
    return sum(a == b for a, b in itertools.pairwise(pixels)) / len(pixels)


@pytest.mark.parametrize(
    ("bands", "dtype"), [(1, np.uint8), (2, np.uint8), (4, np.uint8), (1, np.uint16)]
)
def test_counts_neighbours_that_are_alike(kernels: str, bands: int, dtype: Any) -> None:
    for height, width in itertools.product((1, 2), WIDTHS):
        for values in (1, 2, 250):
            packed = noise(height, width, bands, dtype=dtype) % dtype(values)
            assert repeat_ratio(packed) == repeat_ratio_by_pairs(packed), (height, width, values)
    almost = np.full((2, 40, bands), 7, dtype)
    almost[:, ::2, -1] = 7 + np.iinfo(dtype).max // 2 + 1  # the highest bit of the last byte
    assert repeat_ratio(almost) == 0


def test_drops_the_fourth_band(kernels: str) -> None:
    for height, width in itertools.product((1, 2, 9), WIDTHS):
        src = noise(height, width, 4)
        out = GuardedPixels((height, width, 3), np.uint8)
        rgbx_to_rgb(src, out.pixels)
        np.testing.assert_array_equal(out.pixels, src[..., :3])
        out.check()


@pytest.mark.parametrize(
    ("src", "out"),
    [
        ((2, 2, 4), (2, 3, 3)),
        ((2, 2, 3), (2, 2, 3)),
        ((2, 2, 4), (2, 2, 4)),
        ((0, 2, 4), (0, 2, 3)),
    ],
)
def test_refuses_to_drop_what_is_not_there(
    src: tuple[int, int, int], out: tuple[int, int, int]
) -> None:
    with pytest.raises(ValueError, match="cannot be copied"):
        rgbx_to_rgb(np.zeros(src, np.uint8), np.zeros(out, np.uint8))


@pytest.mark.parametrize("shape", [(2, 2, 3), (0, 2, 4), (2, 0, 1)])
def test_refuses_to_compare_what_is_not_packed(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="is not a packed tile"):
        repeat_ratio(np.zeros(shape, np.uint8))


# ---- where memory ends, many threads, and the choice of a variant --------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="it takes mprotect")
def test_touches_nothing_outside_of_its_rows(kernel_module: str) -> None:
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        TESTS_FOLDER / "support" / "page_boundary.py",
        kernel_module,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 10_000


def test_many_threads_at_once_get_the_same(kernels: str) -> None:
    images = [(noise(64, 301, kind.bands), kind.alpha) for kind in PIXEL_KINDS]
    expected = [reference.halve(pixels, alpha=alpha) for pixels, alpha in images]
    tiles = [pack_pixels(pixels, None) for pixels, _ in images]

    def work(number: int) -> None:
        for step in range(60):
            chosen = (number + step) % len(images)
            pixels, alpha = images[chosen]
            assert (halve(pixels, alpha=alpha) == expected[chosen]).all()
            out = np.empty(tiles[chosen].shape, np.uint8)
            pack(pixels, out)
            assert (out == tiles[chosen]).all()

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(16)))


def run_with_variant(variant: str | None, prelude: str = "") -> subprocess.CompletedProcess[str]:
    """Import the kernels in a new process, with a choice in the environment."""
    environment = {name: text for name, text in os.environ.items() if name != "FASTTILE_KERNELS"}
    if variant is not None:
        environment["FASTTILE_KERNELS"] = variant
    program = f"{prelude}\nimport fasttile.kernels\nprint(fasttile.kernels.VARIANT)"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


NOT_BUILT = """
import sys
sys.modules["fasttile._resample_avx2"] = sys.modules["fasttile._resample_neon"] = None
"""


def test_the_variant_is_the_fastest_or_what_the_environment_says() -> None:
    best = import_module(f"fasttile.{runnable_kernels()[-1]}").VARIANT
    for choice, variant in ((None, best), ("", best), ("plain", "plain"), (best, best)):
        done = run_with_variant(choice)
        assert (done.stdout.strip(), done.stderr) == (variant, ""), choice
    assert run_with_variant(None, NOT_BUILT).stdout.strip() == "plain"


def test_a_variant_that_cannot_be_had_is_an_error() -> None:
    done = run_with_variant("AVX512")
    assert done.returncode == 1
    assert "OptionError: FASTTILE_KERNELS=AVX512 is none of 'plain', 'avx2'" in done.stderr
    for variant in ("avx2", "neon"):  # one is of another processor, one is not built
        done = run_with_variant(variant, NOT_BUILT)
        assert done.returncode == 1
        assert f"OptionError: FASTTILE_KERNELS={variant}, but " in done.stderr


def test_each_module_says_which_variant_it_is() -> None:
    names = [import_module(f"fasttile.{module}").VARIANT for module in runnable_kernels()]
    assert names == ["plain", import_module("fasttile._resample").best_variant()][: len(names)]
