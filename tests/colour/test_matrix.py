"""The kernel for colours: the very numbers of LittleCMS, for every colour that there is."""

from __future__ import annotations

import struct

import numpy as np
import pytest

import profiles
from fasttile.colour import convert, matrix
from support.reading import noise
from support.reference import Array


def table_curve(count: int, exponent: float) -> bytes:
    """A profile whose curve is a table."""
    points = np.round(np.linspace(0, 1, count) ** exponent * 65535).astype(int)
    curve = b"curv" + bytes(4) + struct.pack(f">I{count}H", count, *points)
    primaries = profiles.PRIMARIES["Adobe RGB"]
    return profiles.matrix_profile("by a table", primaries, profiles.D65_XY, curve)


def power_curve(exponent: float) -> bytes:
    """A profile whose curve is a power, by a parameter."""
    curve = b"para" + bytes(4) + struct.pack(">HHi", 0, 0, round(exponent * 65536))
    return profiles.matrix_profile("p", profiles.PRIMARIES["ProPhoto"], profiles.D50_XY, curve)


MATRIX_PROFILES = {
    "P3": profiles.display_p3(),
    "Adobe": profiles.adobe_rgb(),
    "ProPhoto": profiles.prophoto(),
    "swapped": profiles.swapped_primaries(),
    "17 points": table_curve(17, 2.0),
    "1024 points": table_curve(1024, 1.9),
    "power": power_curve(2.3),
}


def all_colours(step: int) -> Array:
    """All colours whose red is a multiple of a step; the fourth byte is anything."""
    red = np.arange(0, 256, step)
    pixels = noise(256 * len(red), 256, 4)
    pixels[..., 0] = red.repeat(256)[:, None]
    pixels[..., 1] = np.tile(np.arange(256), len(red))[:, None]
    pixels[..., 2] = np.arange(256)[None, :]
    return pixels


@pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", MATRIX_PROFILES)
def test_every_colour_is_littlecms(name: str, step: int) -> None:
    transform = convert.Transform(MATRIX_PROFILES[name])
    pixels = all_colours(step)
    expected = pixels.copy()
    convert._convert_in_place(transform, expected, expected)()
    matrix.apply_tables(pixels, matrix.shaper_tables(MATRIX_PROFILES[name]))
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("name", MATRIX_PROFILES)
def test_the_kernel_is_used(name: str) -> None:
    assert convert.verified_tables(convert.Transform(MATRIX_PROFILES[name])) is not None


def _profile_as_lut(profile: bytes) -> bytes:
    return profile.replace(b"chad", b"A2B0")


@pytest.mark.parametrize(
    "profile",
    [
        profiles.cmyk(2),
        profiles.grey(),
        _profile_as_lut(MATRIX_PROFILES["P3"]),
        b"",
        MATRIX_PROFILES["P3"][:300],
    ],
)
def test_other_profiles_have_no_tables(profile: bytes) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011
        matrix.shaper_tables(profile)


def test_where_the_sums_differ_littlecms_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    transform = convert.Transform(MATRIX_PROFILES["P3"])
    shares, curve = matrix.shaper_tables(MATRIX_PROFILES["P3"])
    other = curve.copy()
    other[5000] += 1
    convert.verified_tables.cache_clear()
    monkeypatch.setattr(matrix, "shaper_tables", lambda profile: (shares, other))
    try:
        assert convert.verified_tables(transform) is None
    finally:
        convert.verified_tables.cache_clear()


def test_refuses_what_does_not_fit() -> None:
    found = matrix.shaper_tables(MATRIX_PROFILES["P3"])
    with pytest.raises(ValueError, match="do not fit"):
        matrix.apply_tables(noise(3, 3, 3), found)
    matrix.apply_tables(np.empty((0, 3, 4), np.uint8), found)
