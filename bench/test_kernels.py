"""The kernels beside NumPy, Pillow, OpenCV and a plain copy, one group for each kind of pixels.

    pytest bench/test_kernels.py --benchmark-columns=min,median --benchmark-sort=min

All run on one thread. Each result is compared with the oracle's; where a peer's rule differs,
the test describes it. A copy of the same bytes is the limit of memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

from fasttile.colour.light import tables_for_profile
from fasttile.kernels import LightTables, halve, pack, shrink
from fasttile.types import Shrink

Pixels = NDArray[Any]
Kernel = Callable[[], object]

HEIGHT, WIDTH = 256, 16_384
"""A strip of tiles of an image of 268 MP."""

TILE = 256
PIXEL_KINDS = {
    "grey 8": (1, np.uint8, False),
    "RGB 8": (3, np.uint8, False),
    "RGBA 8, plain rule": (4, np.uint8, False),
    "RGBA 8, alpha rule": (4, np.uint8, True),
    "grey 16": (1, np.uint16, False),
    "RGB 16": (3, np.uint16, False),
}
"""Bands, type, and whether the last band is alpha."""


def _random_pixels(bands: int, dtype: Any) -> Pixels:
    shape = (HEIGHT, WIDTH, bands)
    return np.random.default_rng(5).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def _halve_by_numpy(src: Pixels, *, alpha: bool = False) -> Pixels:
    """The rule, for even sizes, about as fast as NumPy can."""
    if alpha:
        return _halve_alpha_by_numpy(src)
    # Rows first: their sums run over contiguous memory.
    rows = np.add(src[0::2], src[1::2], dtype=np.uint16 if src.dtype == np.uint8 else np.uint32)
    total = rows[:, 0::2] + rows[:, 1::2]
    total += 2
    total >>= 2
    return total.astype(src.dtype)


def _halve_alpha_by_numpy(src: Pixels) -> Pixels:
    wide = src.astype(np.uint32)
    four = [wide[y::2, x::2] for y in (0, 1) for x in (0, 1)]
    alphas = [pixels[:, :, -1:] for pixels in four]
    weight = sum(alphas)
    colours = sum(p[:, :, :-1] * a for p, a in zip(four, alphas, strict=True)) + (weight >> 1)
    # Where the weight is 0 so is the sum of the colours.
    colours //= np.maximum(weight, 1)
    return np.concatenate([colours, (weight + 2) >> 2], axis=2).astype(src.dtype)


def _to_image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[:, :, 0])


def _run_benchmark(benchmark: BenchmarkFixture, kernel: Kernel, nbytes: int) -> Any:
    """Time a kernel, and report the bytes of its input per second."""
    result = benchmark(kernel)
    if benchmark.stats:  # none with --benchmark-disable
        benchmark.extra_info["GB/s"] = round(nbytes / benchmark.stats["median"] / 1e9, 2)
    return result


@pytest.fixture(params=PIXEL_KINDS)
def pixel_kind(
    request: pytest.FixtureRequest, benchmark: BenchmarkFixture
) -> tuple[int, Any, bool]:
    """A kind of pixels to halve; what halves the same kind stands in one group."""
    benchmark.group = f"halve {request.param}"
    return PIXEL_KINDS[request.param]


def test_halve_fasttile(benchmark: BenchmarkFixture, pixel_kind: tuple[int, Any, bool]) -> None:
    bands, dtype, alpha = pixel_kind
    src = _random_pixels(bands, dtype)
    out = np.empty((HEIGHT // 2, WIDTH // 2, bands), dtype)
    _run_benchmark(benchmark, lambda: halve(src, out, alpha=alpha), src.nbytes)
    np.testing.assert_array_equal(out, _halve_by_numpy(src, alpha=alpha))


def test_halve_numpy(benchmark: BenchmarkFixture, pixel_kind: tuple[int, Any, bool]) -> None:
    bands, dtype, alpha = pixel_kind
    src = _random_pixels(bands, dtype)
    assert (
        _run_benchmark(benchmark, lambda: _halve_by_numpy(src, alpha=alpha), src.nbytes).dtype
        == dtype
    )


def test_halve_pillow(benchmark: BenchmarkFixture, pixel_kind: tuple[int, Any, bool]) -> None:
    """Pillow's reduce; with alpha by way of premultiplied colours, which rounds twice more."""
    bands, dtype, alpha = pixel_kind
    if dtype != np.uint8:
        pytest.skip("Pillow does not reduce 16 bits")
    src = _random_pixels(bands, dtype)
    image = _to_image(src)
    if alpha:
        result = _run_benchmark(
            benchmark, lambda: image.convert("RGBa").reduce(2).convert("RGBA"), src.nbytes
        )
        np.testing.assert_array_equal(
            np.asarray(result)[:, :, 3], _halve_by_numpy(src, alpha=True)[:, :, 3]
        )
        return
    # Four bands as CMYK, which Pillow averages one by one.
    image = Image.frombuffer("CMYK", image.size, src, "raw", "CMYK", 0, 1) if bands == 4 else image
    result = _run_benchmark(benchmark, lambda: image.reduce(2), src.nbytes)
    np.testing.assert_array_equal(
        np.asarray(result).reshape(HEIGHT // 2, WIDTH // 2, bands), _halve_by_numpy(src)
    )


def test_halve_opencv(benchmark: BenchmarkFixture, pixel_kind: tuple[int, Any, bool]) -> None:
    cv2 = pytest.importorskip("cv2")
    bands, dtype, alpha = pixel_kind
    if alpha:
        pytest.skip("OpenCV does not weigh by alpha")
    cv2.setNumThreads(1)
    src = _random_pixels(bands, dtype)
    out = np.empty((HEIGHT // 2, WIDTH // 2, bands), dtype)
    size = (WIDTH // 2, HEIGHT // 2)
    _run_benchmark(
        benchmark,
        lambda: cv2.resize(src, size, dst=out, interpolation=cv2.INTER_AREA),
        src.nbytes,
    )
    np.testing.assert_array_equal(out, _halve_by_numpy(src))


def test_halve_copy(benchmark: BenchmarkFixture, pixel_kind: tuple[int, Any, bool]) -> None:
    """Not a halving: the same bytes copied."""
    bands, dtype, _ = pixel_kind
    src = _random_pixels(bands, dtype)
    out = np.empty_like(src)
    _run_benchmark(benchmark, lambda: np.copyto(out, src), src.nbytes)
    np.testing.assert_array_equal(out, src)


# The mean of light, by the curve of sRGB.

LIGHT_BANDS = [1, 3]


def _mean_light_by_numpy(src: Pixels, light: LightTables) -> Pixels:
    """The rule, for even sizes."""
    lights = light.lights[0][src]
    rows = lights[0::2] + lights[1::2]
    return light.first[0][(rows[:, 0::2] + rows[:, 1::2] + 2) >> 2]


@pytest.mark.parametrize("bands", LIGHT_BANDS)
def test_linear_fasttile(benchmark: BenchmarkFixture, bands: int) -> None:
    benchmark.group = f"linear light, {bands} bands of 8 bits"
    src, light = _random_pixels(bands, np.uint8), tables_for_profile(None, 256)
    out = np.empty((HEIGHT // 2, WIDTH // 2, bands), np.uint8)
    _run_benchmark(benchmark, lambda: shrink(src, out, method="linear", light=light), src.nbytes)
    np.testing.assert_array_equal(out, _mean_light_by_numpy(src, light))


@pytest.mark.parametrize("bands", LIGHT_BANDS)
def test_linear_numpy(benchmark: BenchmarkFixture, bands: int) -> None:
    benchmark.group = f"linear light, {bands} bands of 8 bits"
    src, light = _random_pixels(bands, np.uint8), tables_for_profile(None, 256)
    result = _run_benchmark(benchmark, lambda: _mean_light_by_numpy(src, light), src.nbytes)
    assert result.dtype == np.uint8


# Choosing one of four pixels: for labels and masks.

SHRINK_CASES = {
    f"{how} {name}": (how, bands, dtype)
    for how in ("nearest", "mode")
    for name, (bands, dtype, alpha) in PIXEL_KINDS.items()
    if not alpha
}


@pytest.fixture(params=SHRINK_CASES)
def shrink_case(
    request: pytest.FixtureRequest, benchmark: BenchmarkFixture
) -> tuple[Shrink, Pixels]:
    """How to choose, and labels: eight different pixels, of which a row has long runs."""
    how, bands, dtype = SHRINK_CASES[request.param]
    benchmark.group = request.param.replace(", plain rule", "")
    random = np.random.default_rng(5)
    colours = _random_pixels(bands, dtype)[0, :8]
    starts = random.random((HEIGHT, WIDTH)) < 0.1  # a run has ten pixels on average
    return how, colours[np.cumsum(starts, axis=1) * 5 % 8]


def _shrink_by_numpy(src: Pixels, method: Shrink) -> Pixels:
    """The rule, for even sizes, about as fast as NumPy can."""
    if method == "nearest":
        return src[::2, ::2].copy()
    a, b, c, d = (src[y::2, x::2] for y in (0, 1) for x in (0, 1))
    chosen = np.where(_equal_pixels(c, d), c, a)
    chosen = np.where(_equal_pixels(b, c) | _equal_pixels(b, d), b, chosen)
    return np.where(_equal_pixels(a, b) | _equal_pixels(a, c) | _equal_pixels(a, d), a, chosen)


def _equal_pixels(some: Pixels, others: Pixels) -> NDArray[np.bool_]:
    """Which pixels are the same in all bands."""
    equal = some == others
    for band in range(1, equal.shape[2]):
        equal[:, :, 0] &= equal[:, :, band]
    return equal[:, :, :1]


def test_choose_fasttile(benchmark: BenchmarkFixture, shrink_case: tuple[Shrink, Pixels]) -> None:
    how, src = shrink_case
    out = np.empty((HEIGHT // 2, WIDTH // 2, src.shape[2]), src.dtype)
    _run_benchmark(benchmark, lambda: shrink(src, out, method=how), src.nbytes)
    np.testing.assert_array_equal(out, _shrink_by_numpy(src, how))


def test_choose_numpy(benchmark: BenchmarkFixture, shrink_case: tuple[Shrink, Pixels]) -> None:
    how, src = shrink_case
    result = _run_benchmark(benchmark, lambda: _shrink_by_numpy(src, how), src.nbytes)
    assert result.dtype == src.dtype


def test_choose_pillow(benchmark: BenchmarkFixture, shrink_case: tuple[Shrink, Pixels]) -> None:
    """Pillow's nearest, which takes the bottom right one of four pixels."""
    how, src = shrink_case
    if how == "mode" or src.dtype != np.uint8:
        pytest.skip("Pillow knows no mode of pixels side by side, and has no RGB of 16 bits")
    image, size = _to_image(src), (WIDTH // 2, HEIGHT // 2)
    result = _run_benchmark(
        benchmark, lambda: image.resize(size, Image.Resampling.NEAREST), src.nbytes
    )
    shape = (HEIGHT // 2, WIDTH // 2, src.shape[2])
    np.testing.assert_array_equal(np.asarray(result).reshape(shape), src[1::2, 1::2])


def test_choose_opencv(benchmark: BenchmarkFixture, shrink_case: tuple[Shrink, Pixels]) -> None:
    cv2 = pytest.importorskip("cv2")
    how, src = shrink_case
    if how == "mode":
        pytest.skip("OpenCV does not know the mode")
    cv2.setNumThreads(1)
    out, size = (
        np.empty((HEIGHT // 2, WIDTH // 2, src.shape[2]), src.dtype),
        (WIDTH // 2, HEIGHT // 2),
    )
    _run_benchmark(
        benchmark,
        lambda: cv2.resize(src, size, dst=out, interpolation=cv2.INTER_NEAREST),
        src.nbytes,
    )
    np.testing.assert_array_equal(out, _shrink_by_numpy(src, how))


# Packing: a tile out of a strip, RGB to RGBX, as the JPEG encoder takes it.


@pytest.fixture
def tile(benchmark: BenchmarkFixture) -> Pixels:
    """A tile as a view into a strip."""
    benchmark.group = f"pack {TILE} × {TILE} RGB"
    return _random_pixels(3, np.uint8)[:TILE, 1000 : 1000 + TILE]


def _check_packed(packed: Pixels, tile: Pixels) -> None:
    np.testing.assert_array_equal(packed[:, :, :3], tile)
    assert (packed[:, :, 3] == 255).all()


def test_pack_fasttile(benchmark: BenchmarkFixture, tile: Pixels) -> None:
    out = np.empty((TILE, TILE, 4), np.uint8)
    _run_benchmark(benchmark, lambda: pack(tile, out), tile.nbytes)
    _check_packed(out, tile)


def test_pack_numpy(benchmark: BenchmarkFixture, tile: Pixels) -> None:
    out = np.full((TILE, TILE, 4), 255, np.uint8)
    _run_benchmark(benchmark, lambda: np.copyto(out[:, :, :3], tile), tile.nbytes)
    _check_packed(out, tile)


def test_pack_pillow(benchmark: BenchmarkFixture, tile: Pixels) -> None:
    """What a Pillow user does: an image from an array; inside, RGB is four bytes a pixel."""
    image = _run_benchmark(benchmark, lambda: Image.fromarray(tile), tile.nbytes)
    np.testing.assert_array_equal(np.asarray(image), tile)


def test_pack_opencv(benchmark: BenchmarkFixture, tile: Pixels) -> None:
    cv2 = pytest.importorskip("cv2")
    cv2.setNumThreads(1)
    out = np.empty((TILE, TILE, 4), np.uint8)
    _run_benchmark(benchmark, lambda: cv2.cvtColor(tile, cv2.COLOR_RGB2RGBA, dst=out), tile.nbytes)
    _check_packed(out, tile)


def test_pack_copy(benchmark: BenchmarkFixture, tile: Pixels) -> None:
    """Not a packing: the same tile copied as it is."""
    out = np.empty((TILE, TILE, 3), np.uint8)
    _run_benchmark(benchmark, lambda: np.copyto(out, tile), tile.nbytes)
    np.testing.assert_array_equal(out, tile)
