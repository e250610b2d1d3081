"""Levels in linear light: each variant of the kernels against the oracle, and against floats."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fasttile import kernels
from fasttile.kernels import LightTables, shrink
from support import reference
from support.kernel_cases import DTYPES, GuardedPixels, memory_layouts, runnable_kernels
from support.reading import noise
from support.reference import Array, srgb_light

Curve = Callable[[Any], Any]


def srgb_value(light: Any) -> Any:
    return np.where(light <= 0.04045 / 12.92, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


CURVES: dict[str, tuple[Curve, Curve, float]] = {
    "sRGB": (srgb_light, srgb_value, 0.52),
    "straight": (lambda value: value, lambda light: light, 0.51),
    "1.8": (lambda value: value**1.8, lambda light: light ** (1 / 1.8), 0.54),
    "2.2": (lambda value: value**2.2, lambda light: light ** (1 / 2.2), 0.7),
    "2.4": (lambda value: value**2.4, lambda light: light ** (1 / 2.4), 0.95),
}
"""Light of values from 0 to 1, values of light, and the largest error of a level in 8-bit codes.

Half a code is rounded. Light has 17 bits, which is coarse for the darkest codes of steep curves.
"""


def tables(*names: str, count: int = 256) -> LightTables:
    values = np.arange(count) / (count - 1)
    return LightTables(np.stack([CURVES[name][0](values) for name in names]))


LIGHT = {
    (np.uint8, 1): tables("sRGB"),
    (np.uint8, 3): tables("2.2", "straight", "sRGB"),
    (np.uint16, 1): tables("sRGB", count=65_536),
    (np.uint16, 3): tables("2.2", "straight", "sRGB", count=65_536),
}
"""By the type of the codes, and the number of curves."""

KINDS = [(1, False), (2, True), (3, False), (4, True), (4, False)]
"""Bands, and whether the last one is alpha. Of four bands without alpha the fourth is no colour."""


def matching_tables(dtype: Any, bands: int) -> list[LightTables]:
    return [LIGHT[dtype, count] for count in ((1, 3) if bands > 2 else (1,))]


def exact_value(pixels: Array, name: str) -> Array:
    """What four pixels become by floats, as codes that are not rounded; shape as shrunk."""
    light, value, _ = CURVES[name]
    top = np.iinfo(pixels.dtype).max
    fours = light(pixels / top).reshape(pixels.shape[0] // 2, 2, -1, 2, pixels.shape[2])
    found: Array = value(fours.mean(axis=(1, 3))) * top
    return found


# ---- bit for bit as the oracle -------------------------------------------------------------------


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("bands", "alpha"), KINDS)
def test_every_small_size_in_every_layout(bands: int, alpha: bool, dtype: Any) -> None:
    sizes = [*itertools.product(range(1, 5), range(1, 6)), (2, 33), (3, 34), (5, 67)]
    for (height, width), light in itertools.product(sizes, matching_tables(dtype, bands)):
        pixels = noise(height, width, bands, dtype=dtype)
        expected = reference.shrink(pixels, "linear", alpha=alpha, light=light)
        for stretch, (name, view) in enumerate(memory_layouts(pixels)):
            out = GuardedPixels(expected.shape, dtype, stretch=stretch % 2 == 1)
            found = shrink(view, out.pixels, method="linear", alpha=alpha, light=light)
            assert found is out.pixels
            assert (found == expected).all(), (height, width, name)
            out.check()


@st.composite
def images(draw: st.DrawFn) -> tuple[Array, bool, LightTables]:
    dtype, (bands, alpha) = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(KINDS))
    shape = draw(st.integers(1, 20)), draw(st.integers(1, 80)), bands
    pixels = noise(*shape, dtype=dtype)
    top = np.iinfo(dtype).max
    extremes = draw(st.sampled_from([None, [0, 1, 2, top - 1, top], [0, top]]))
    if extremes is not None:
        pixels = np.array(extremes, dtype)[pixels % len(extremes)]
    if alpha and draw(st.booleans()):
        pixels[..., -1] = top
    light = draw(st.sampled_from(matching_tables(dtype, bands)))
    return pixels[:: draw(st.sampled_from([1, -1, 2]))], alpha, light


@given(image=images())
@settings(max_examples=150, deadline=None)
def test_anything(image: tuple[Array, bool, LightTables]) -> None:
    pixels, alpha, light = image
    expected = reference.shrink(pixels, "linear", alpha=alpha, light=light)
    chosen = kernels._kernels
    try:
        for name in runnable_kernels():
            kernels._kernels = import_module(f"fasttile.{name}")
            found = shrink(pixels, method="linear", alpha=alpha, light=light)
            np.testing.assert_array_equal(found, expected, name)
    finally:
        kernels._kernels = chosen


# ---- as floats have it ---------------------------------------------------------------------------


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("name", CURVES)
def test_all_pairs_of_codes_and_many_fours_are_as_by_floats(name: str) -> None:
    one, other = np.divmod(np.arange(65_536), 256)
    random = np.random.default_rng(5)
    dark = (random.random((4, 100_000)) ** 4 * 40).astype(int)
    near = random.integers(0, 236, 100_000) + random.integers(0, 20, (4, 100_000))
    some = random.integers(0, 256, (4, 100_000))
    halves, quarter = (one, one, other, other), (one, other, one, one)
    fours = np.concatenate([halves, quarter, dark, near, some], axis=1).astype(np.uint8)
    pixels = fours.reshape(2, 2, -1).transpose(0, 2, 1).reshape(2, -1, 1)
    found = shrink(pixels, method="linear", light=tables(name))
    assert np.abs(found - exact_value(pixels, name)).max() <= CURVES[name][2]


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("name", CURVES)
def test_16_bits_are_as_by_floats(name: str) -> None:
    random = np.random.default_rng(6)
    some = random.integers(0, 65_536, (2, 200_000))
    dark = (random.random((2, 200_000)) ** 3 * 65_535).astype(int)
    near = np.clip(random.integers(300, 65_336, 100_000).repeat(2) + some % 200, 0, 65_535)
    pixels = np.concatenate([some, dark, near], axis=1).astype(np.uint16)[..., None]
    found = shrink(pixels, method="linear", light=tables(name, count=65_536))
    exact = exact_value(pixels, name)
    error = np.abs(found - exact)
    assert error[exact > 100].max() <= 0.55
    assert error.max() <= 5  # of 65,535, below code 61


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*CURVES, "flat", "steps"])
def test_equal_pixels_stay_as_they_are(name: str, dtype: Any) -> None:
    count = np.iinfo(dtype).max + 1
    values = np.arange(count) / (count - 1)
    curve: Curve = {
        "flat": lambda value: np.clip(3 * value - 1, 0, 1),
        "steps": lambda value: np.floor(value * 7) / 7,
    }.get(name) or CURVES[name][0]
    light = LightTables(curve(values)[None])
    codes = np.arange(count).astype(dtype)
    pixels = np.repeat(codes, 2)[None, :, None].repeat(2, axis=0)
    assert (shrink(pixels, method="linear", light=light)[0, :, 0] == codes).all()
    for alpha in (1, 2, count // 2, count - 1):
        seen = np.concatenate([pixels, np.full_like(pixels, alpha)], axis=2)
        found = shrink(seen, method="linear", light=light, alpha=True)
        assert (found[0, :, 0] == codes).all()
        assert (found[..., 1] == alpha).all()


@pytest.mark.parametrize("content", ["noise", "gradient", "stars", "edges"])
def test_the_rounding_of_levels_does_not_build_up(content: str) -> None:
    """Each level is stored in 8 bits and made from the one before: half a code each, at most."""
    side = 512
    y, x = np.mgrid[:side, :side]
    pixels: Array = {
        "noise": noise(side, side, 1),
        "gradient": ((3 * x + y) // 8)[..., None].astype(np.uint8),
        "stars": np.where((x % 41 == 7) & (y % 37 == 5), 255, 0)[..., None].astype(np.uint8),
        "edges": np.where((x // 9 + y // 7) % 2, 30, 250)[..., None].astype(np.uint8),
    }[content]
    light = srgb_light(pixels / 255)
    for level in range(1, 10):
        pixels = shrink(pixels, method="linear", light=LIGHT[np.uint8, 1])
        light = light.reshape(side >> level, 2, side >> level, 2, 1).mean(axis=(1, 3))
        error = np.abs(pixels - srgb_value(light) * 255).max()
        assert error <= min(0.52 * level, 1.5), level


@pytest.mark.usefixtures("kernels")
def test_a_star_keeps_a_quarter_of_its_light_at_each_level() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[21, 42] = 255
    codes = []
    for _ in range(4):
        pixels = shrink(pixels, method="linear", light=LIGHT[np.uint8, 1])
        assert np.count_nonzero(pixels) == 3  # one pixel
        codes.append(int(pixels.max()))
    # 255 times sRGB's value of 1/4, 1/16, 1/64 and 1/256; the mean has 64, 16, 4 and 1.
    assert codes == [137, 71, 34, 13]


# ---- alpha ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("kernels")
def test_alpha_weighs_light() -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (255, 128, 0, 255)
    pixels[0, 1] = (0, 0, 0, 85)
    pixels[1] = (9, 200, 77, 0)  # cannot be seen
    found = shrink(pixels, method="linear", alpha=True, light=LIGHT[np.uint8, 1])
    expected = srgb_value(srgb_light(np.array([255, 128, 0]) / 255) * 255 / 340) * 255
    assert np.abs(found[0, 0, :3] - expected).max() <= 0.52
    assert found[0, 0, 3] == 85
    pixels[..., 3] = 0
    assert not shrink(pixels, method="linear", alpha=True, light=LIGHT[np.uint8, 1]).any()


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lights",
    [
        np.linspace(1, 0, 256),
        np.linspace(0, 1.1, 256),
        np.linspace(-0.1, 1, 256),
        np.full(256, 0.5),
        np.full(256, np.nan),
    ],
)
def test_refuses_lights_that_are_none(lights: Array) -> None:
    with pytest.raises(ValueError, match="lights must increase"):
        LightTables(lights[None])


@pytest.mark.parametrize("shape", [(1, 255), (2, 256), (4, 256), (3, 1024)])
def test_refuses_other_shapes(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="lights are"):
        LightTables(np.zeros(shape))


@pytest.mark.parametrize(
    ("pixels", "alpha", "light", "message"),
    [
        (noise(4, 4, 3), False, None, "needs tables of light for 256 codes"),
        (noise(4, 4, 1, dtype=np.uint16), False, tables("sRGB"), "for 65536 codes"),
        (noise(4, 4, 2), False, tables("sRGB"), "1 tables of light do not fit 2 bands"),
        (noise(4, 4, 2), True, tables("2.2", "2.2", "2.4"), "3 tables of light do not fit 2"),
        (noise(4, 4, 1), False, tables("2.2", "2.2", "2.4"), "3 tables of light do not fit 1"),
    ],
)
def test_refuses_tables_that_do_not_fit(
    pixels: Array, alpha: bool, light: LightTables | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        shrink(pixels, method="linear", alpha=alpha, light=light)
