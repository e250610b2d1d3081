"""The curve of light that is taken for an image, by its profile and what happens to it."""

from __future__ import annotations

import struct
import warnings
from typing import Any

import numpy as np
import pytest

import profiles
from fasttile.colour import light as light_module
from fasttile.colour import plan_colours
from fasttile.colour.light import light_tables, tables_for_profile
from fasttile.errors import OptionError
from support.colour_sources import make_source
from support.reference import Array, srgb_tables

VALUES = np.arange(256) / 255


def lights_of_17_bits(curve: Array) -> Array:
    """Lights of 17 bits; dark codes may be 1 larger than their neighbours instead."""
    return np.round(curve * 131_071)


def profile_with_curve(curve: bytes, *, grey: bool = False) -> bytes:
    if grey:
        tags = {b"wtpt": profiles.xyz(profiles.D50), b"kTRC": curve}
        return profiles.profile(b"mntr", b"GRAY", b"XYZ ", "grey", tags)
    return profiles.matrix_profile("c", profiles.PRIMARIES["sRGB"], profiles.D65_XY, curve)


def parametric(kind: int, *numbers: float) -> bytes:
    data = b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)
    return b"para" + bytes(4) + struct.pack(">HH", kind, 0) + data


def points(*values: int) -> bytes:
    return b"curv" + bytes(4) + struct.pack(f">I{len(values)}H", len(values), *values)


@pytest.mark.parametrize(
    ("profile", "icc", "exponent"),
    [
        (None, "srgb", None),
        (profiles.srgb(), "srgb", None),
        (profiles.srgb(), "keep", None),
        (profiles.display_p3(), "srgb", None),  # which has the curve of sRGB
        (profiles.adobe_rgb(), "srgb", 563 / 256),
        (profiles.adobe_rgb(), "keep", 563 / 256),
        (profiles.adobe_rgb(), "drop", None),
        (profiles.prophoto(), "srgb", 1.80078125),
        (profiles.grey(), "srgb", None),  # of an image with three bands: it is ignored
        (b"no profile", "srgb", None),
    ],
)
def test_the_curve_of_rgb(profile: bytes | None, icc: Any, exponent: float | None) -> None:
    source = make_source(3, profile)
    tables = light_tables(source, plan_colours(source, icc))
    assert len(tables.lights) == 1  # one for all bands
    expected = srgb_tables(np.uint8).lights
    if exponent is not None:
        expected = np.maximum(lights_of_17_bits(VALUES**exponent), np.arange(256))[None]
    assert np.abs(tables.lights.astype(int) - expected).max() <= 3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("bands", "icc"), [(1, "keep"), (2, "keep"), (1, "srgb"), (1, "drop")])
def test_the_curve_of_grey(bands: int, icc: Any, dtype: Any) -> None:
    source = make_source(bands, profiles.grey(1.5), dtype=dtype)
    tables = light_tables(source, plan_colours(source, icc))
    # Samples of 16 bits keep their profile: see `plan_colours`.
    own = icc == "keep" or (icc == "srgb" and dtype == np.uint16)
    values = np.linspace(0, 1, np.iinfo(dtype).max + 1)
    top = 2 ** (17 if dtype == np.uint8 else 32) - 1
    expected = values**1.5 * top if own else srgb_tables(dtype).lights
    assert tables.lights.shape == (1, len(values))
    assert np.abs(tables.lights / top - expected / top).max() < 2e-5


def test_the_tables_are_made_once() -> None:
    assert tables_for_profile(profiles.adobe_rgb(), 256) is tables_for_profile(
        profiles.adobe_rgb(), 256
    )


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize(
    "curve",
    [
        parametric(0, 0),
        parametric(0, -1),
        parametric(1, 2, 0, 1),
        parametric(4, 2.4, 1, 0, 0.1, 0.5, -0.5, 0.3),  # falls where its parts meet
        points(5, 5),
        points(65_535, 0),
        points(0, 40_000, 20_000, 65_535),
        b"curv" + bytes(4) + struct.pack(">I", 1000) + bytes(8),
        b"",
    ],
)
def test_curves_of_no_use_are_refused_without_a_warning(curve: bytes, grey: bool) -> None:
    profile = profile_with_curve(curve, grey=grey)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Exception, match=r"curves|build transform"):
            tables_for_profile(profile, 256)


@pytest.mark.parametrize("curve", [points(), points(0, 65_535), parametric(0, 1), points(256)])
def test_straight_curves(curve: bytes) -> None:
    expected = lights_of_17_bits(VALUES)[None]
    np.testing.assert_array_equal(
        tables_for_profile(profile_with_curve(curve), 256).lights, expected
    )


def test_a_table_that_is_srgb_has_its_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = profiles.srgb().replace(b"chad", b"A2B0")
    monkeypatch.setattr(light_module, "is_srgb", lambda found: found == profile)
    assert tables_for_profile(profile, 256) is tables_for_profile(None, 256)


def test_cmyk_is_refused_by_name() -> None:
    source = make_source(4, profiles.cmyk(2), cmyk=True)
    with pytest.raises(OptionError, match=r"test: shrink linear: inks of CMYK .*use shrink mean"):
        light_tables(source, plan_colours(source, "srgb"))
