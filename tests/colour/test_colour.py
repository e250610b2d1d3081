"""Colours: what is planned for a profile, and that LittleCMS' colours come out of it."""

from __future__ import annotations

import io
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

import profiles
from fasttile.colour import MAX_PROFILE_BYTES, plan_colours
from fasttile.colour import convert as converter
from fasttile.colour.convert import (
    NO_CONVERSION,
    NO_METADATA,
    ColourPlan,
    TileMetadata,
    Transform,
    convert_pixels,
    grey_table,
    is_srgb,
)
from support.colour_sources import make_source
from support.reading import noise
from support.reference import Array

PROFILE_NAMES = {
    "display_p3": "Display P3",
    "adobe_rgb": "Adobe RGB",
    "prophoto": "ProPhoto",
    "swapped_primaries": "red is blue",
}
WIDE_PROFILES = {name: getattr(profiles, name)() for name in PROFILE_NAMES}
PILLOW_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def convert_by_littlecms(pixels: Array, profile: bytes, mode: str, out_mode: str) -> Array:
    """Pixels converted by Pillow's public function, with the intent and flags that are promised."""
    converted = ImageCms.profileToProfile(
        Image.frombytes(mode, (pixels.shape[1], pixels.shape[0]), pixels.tobytes()),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        out_mode,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION
        | (ImageCms.Flags.NOOPTIMIZE if mode == "L" else 0),
    )
    return np.asarray(converted)


# ---- the plan ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_other_colours_are_converted(name: str, bands: int) -> None:
    note = f"converted from {PROFILE_NAMES[name]} to sRGB"
    expected = ColourPlan(Transform(WIDE_PROFILES[name], "RGB"), notes=(note,))
    assert plan_colours(make_source(bands, WIDE_PROFILES[name]), "srgb") == expected


@pytest.mark.parametrize("profile", [PILLOW_SRGB, profiles.srgb(), profiles.srgb("camera")])
def test_what_is_srgb_is_left_alone(profile: bytes) -> None:
    assert is_srgb(profile)
    assert plan_colours(make_source(3, profile), "srgb") == NO_CONVERSION


def test_what_is_called_srgb_is_not_always() -> None:
    primaries, white = profiles.PRIMARIES["sRGB"], profiles.D65_XY
    for exponent in (1.0, 1.8, 2.2, 2.4):
        profile = profiles.matrix_profile("sRGB", primaries, white, profiles.gamma(exponent))
        assert not is_srgb(profile)
    for profile in WIDE_PROFILES.values():
        assert not is_srgb(profile)


@pytest.mark.parametrize("profile", [None, b"", *WIDE_PROFILES.values(), b"broken"])
def test_drop_forgets_the_profile(profile: bytes | None) -> None:
    assert plan_colours(make_source(3, profile), "drop") == NO_CONVERSION
    assert (
        plan_colours(make_source(3), "srgb")
        == plan_colours(make_source(1), "keep")
        == NO_CONVERSION
    )


@pytest.mark.parametrize("profile", [*WIDE_PROFILES.values(), PILLOW_SRGB])
def test_keep_attaches_the_profile(profile: bytes) -> None:
    assert plan_colours(make_source(3, profile), "keep") == ColourPlan(
        tile_metadata=TileMetadata(profile)
    )


@pytest.mark.parametrize("icc", ["srgb", "keep"])
def test_cmyk_is_converted_even_where_the_profile_is_kept(icc: Any) -> None:
    profile = profiles.cmyk(2)
    colours = plan_colours(make_source(4, profile, cmyk=True), icc)
    assert colours.transform == Transform(profile, "CMYK")
    assert colours.tile_metadata == NO_METADATA
    why = {"srgb": "", "keep": "tiles cannot carry CMYK: "}[icc]
    assert colours.notes == (f"{why}converted from four inks to sRGB",)


def test_cmyk_without_a_profile_is_converted_by_a_formula() -> None:
    plain = ColourPlan(Transform(None, "CMYK"), notes=("CMYK converted to RGB",))
    assert plan_colours(make_source(4, cmyk=True), "srgb") == plain
    assert plan_colours(make_source(4, profiles.cmyk(2), cmyk=True), "drop") == plain
    broken = plan_colours(make_source(4, profiles.cmyk(2)[:400], cmyk=True), "srgb")
    assert broken.transform == plain.transform
    assert broken.notes[0].startswith("broken profile ignored: ")
    assert broken.notes[1:] == plain.notes


def test_grey_becomes_a_table() -> None:
    profile = profiles.grey()
    for bands in (1, 2):
        colours = plan_colours(make_source(bands, profile), "srgb")
        assert colours == ColourPlan(notes=("converted from grey, gamma 2.2 to sRGB",))
        np.testing.assert_array_equal(colours.grey_lookup, grey_table(profile))
    assert plan_colours(make_source(1, profile), "keep") == ColourPlan(
        tile_metadata=TileMetadata(profile)
    )
    converted = plan_colours(make_source(1, profile), "keep", keeps_grey=False)
    assert converted.notes[0].startswith("tiles of this format have no grey: converted from grey")
    assert converted.grey_lookup is not None


def test_grey_of_16_bits_keeps_its_profile() -> None:
    profile = profiles.grey()
    colours = plan_colours(make_source(1, profile, dtype=np.uint16), "srgb")
    assert colours.tile_metadata.icc_profile == profile
    assert colours.grey_lookup is None
    assert colours.notes == ("16-bit grey is not converted: tiles carry grey, gamma 2.2",)


def test_grey_with_the_curve_of_srgb_is_left_alone() -> None:
    tags = {b"wtpt": profiles.xyz(profiles.D50), b"kTRC": profiles.parametric(profiles.SRGB_CURVE)}
    profile = profiles.profile(b"mntr", b"GRAY", b"XYZ ", "grey", tags)
    colours = plan_colours(make_source(1, profile), "srgb")
    assert colours == NO_CONVERSION
    assert colours.grey_lookup is None


UNFIT_PROFILES = [
    (3, False, profiles.grey(), "profile is for grey, the image is RGB: ignored"),
    (4, False, profiles.cmyk(2), "profile is for CMYK, the image is RGB: ignored"),
    (1, False, WIDE_PROFILES["display_p3"], "profile is for RGB, the image is grey: ignored"),
    (
        3,
        False,
        WIDE_PROFILES["display_p3"].replace(b"RGB ", b"Lab "),
        "profile is for Lab, the image",
    ),
    (
        3,
        False,
        WIDE_PROFILES["display_p3"].replace(b"RGB ", b"\n\0\x9b2"),
        "profile is for \\x00\\x9b2, the image",
    ),
    (3, False, b"x", "broken profile ignored: it does not begin as an ICC profile does"),
    (3, False, bytes(500), "broken profile ignored: it does not begin as an ICC profile does"),
    (3, False, WIDE_PROFILES["display_p3"][:132], "broken profile ignored: "),
    (3, False, WIDE_PROFILES["display_p3"][:-200], "broken profile ignored: "),
    (1, False, profiles.grey()[:-20], "broken profile ignored: "),
    (3, False, WIDE_PROFILES["display_p3"].replace(b"rXYZ", b"qXYZ"), "broken profile ignored: "),
    (
        3,
        False,
        WIDE_PROFILES["display_p3"].ljust(MAX_PROFILE_BYTES + 1, b"\0"),
        "profile ignored: it has 16,000,001 bytes, more than 16,000,000",
    ),
]


@pytest.mark.parametrize("icc", ["srgb", "keep"])
@pytest.mark.parametrize(
    ("bands", "cmyk", "profile", "note"), UNFIT_PROFILES, ids=range(len(UNFIT_PROFILES))
)
def test_a_profile_that_cannot_be_used_ends_in_a_note(
    bands: int, cmyk: bool, profile: bytes, note: str, icc: Any
) -> None:
    colours = plan_colours(make_source(bands, profile, cmyk=cmyk), icc)
    assert (colours.transform, colours.tile_metadata, colours.grey_lookup) == (
        None,
        NO_METADATA,
        None,
    )
    (found,) = colours.notes
    assert found.startswith(note)
    assert found.isprintable()


def test_a_pillow_without_littlecms_ends_in_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL._util import DeferredError

    missing = DeferredError.new(ImportError("no _imagingcms"))
    monkeypatch.setattr(ImageCms, "core", missing)
    colours = plan_colours(make_source(3, WIDE_PROFILES["swapped_primaries"]), "srgb")
    assert colours == ColourPlan(notes=("broken profile ignored: no _imagingcms",))


@pytest.mark.parametrize("name", ["", "\n", "a\nb\x07\u2028c", "x" * 500, "Größe"])
def test_names_go_on_one_line(name: str) -> None:
    primaries, white = profiles.PRIMARIES["Adobe RGB"], profiles.D65_XY
    profile = profiles.matrix_profile(name, primaries, white, profiles.gamma(1.8))
    (note,) = plan_colours(make_source(3, profile), "srgb").notes
    assert note.isprintable()
    assert len(note) < 120
    if not name.strip():
        assert note == "converted from its own profile to sRGB"
    if name == "Größe":
        assert note == "converted from Größe to sRGB"


def test_importing_the_pipeline_does_not_import_littlecms() -> None:
    code = "import sys, fasttile.jobs.pipeline; sys.exit('PIL.ImageCms' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_plans_go_to_other_processes() -> None:
    for profile in (WIDE_PROFILES["swapped_primaries"], PILLOW_SRGB):
        colours = plan_colours(make_source(3, profile, resolution=(300, 200)), "srgb")
        assert pickle.loads(pickle.dumps(colours)) == colours


# ---- resolutions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("icc", ["srgb", "keep", "drop"])
def test_the_resolution_is_kept_with_and_without_the_profile(icc: Any) -> None:
    for profile in (None, WIDE_PROFILES["swapped_primaries"], PILLOW_SRGB, b"broken"):
        colours = plan_colours(make_source(3, profile, resolution=(300, 72.5)), icc)
        assert colours.tile_metadata.resolution == (300.0, 72.5)


@pytest.mark.parametrize("low", [0, -1, float("nan"), float("inf")])
def test_a_resolution_that_cannot_be_is_none(low: float) -> None:
    for resolution in ((low, 300), (300, low)):
        assert plan_colours(make_source(1, resolution=resolution), "srgb") == NO_CONVERSION


def test_a_smaller_level_has_a_smaller_resolution() -> None:
    assert TileMetadata(b"p", (300.0, 100.0)).downscaled(2) == TileMetadata(b"p", (75.0, 25.0))
    assert TileMetadata(b"p", (300.0, 100.0)).downscaled(0) == TileMetadata(b"p", (300.0, 100.0))
    assert TileMetadata(b"p").downscaled(3) == TileMetadata(b"p")


# ---- what LittleCMS makes of it ------------------------------------------------------------------


@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_colours_are_those_of_littlecms(name: str) -> None:
    colours = plan_colours(make_source(3, WIDE_PROFILES[name]), "srgb")
    for pixels in (noise(40, 60, 3), noise(1, 1, 3), noise(256, 256, 3)):
        found = convert_pixels(colours, pixels)
        np.testing.assert_array_equal(
            found, convert_by_littlecms(pixels, WIDE_PROFILES[name], "RGB", "RGB")
        )
        assert found.dtype == np.uint8
        assert not np.array_equal(found, pixels) or pixels.size < 9
    assert convert_pixels(colours, np.full((1, 1, 3), 255, np.uint8)).tolist() == [
        [[255, 255, 255]]
    ]


def test_red_that_is_blue_becomes_blue() -> None:
    colours = plan_colours(make_source(3, WIDE_PROFILES["swapped_primaries"]), "srgb")
    pixels = np.array([[[255, 0, 0], [10, 20, 30]]], np.uint8)
    assert convert_pixels(colours, pixels).tolist() == [[[0, 0, 255], [30, 20, 10]]]


@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_alpha_stays(name: str) -> None:
    pixels = noise(40, 60, 4)
    found = convert_pixels(plan_colours(make_source(4, WIDE_PROFILES[name]), "srgb"), pixels)
    np.testing.assert_array_equal(
        found, convert_by_littlecms(pixels, WIDE_PROFILES[name], "RGBA", "RGBA")
    )
    np.testing.assert_array_equal(found[..., 3], pixels[..., 3])
    without = convert_pixels(
        plan_colours(make_source(3, WIDE_PROFILES[name]), "srgb"), pixels[..., :3].copy()
    )
    np.testing.assert_array_equal(found[..., :3], without)


@pytest.mark.parametrize("points", [2, 3])
def test_inks_are_those_of_littlecms(points: int) -> None:
    profile = profiles.cmyk(points)
    pixels = noise(40, 60, 4)
    found = convert_pixels(plan_colours(make_source(4, profile, cmyk=True), "srgb"), pixels)
    np.testing.assert_array_equal(found, convert_by_littlecms(pixels, profile, "CMYK", "RGB"))
    paper, black = np.zeros((1, 1, 4), np.uint8), np.full((1, 1, 4), 255, np.uint8)
    colours = plan_colours(make_source(4, profile, cmyk=True), "srgb")
    assert convert_pixels(colours, paper).min() >= 254
    # The compensation takes print's black, which is no black on a screen, nearly to 0.
    dark = ImageCms.profileToProfile(
        Image.new("CMYK", (1, 1), (255,) * 4),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        "RGB",
    )
    assert convert_pixels(colours, black).max() <= 5 < 40 < np.asarray(dark).min()


def test_inks_without_a_profile_are_those_of_pillow() -> None:
    pixels = noise(40, 60, 4)
    expected = Image.frombytes("CMYK", (60, 40), pixels.tobytes()).convert("RGB")
    found = convert_pixels(plan_colours(make_source(4, cmyk=True), "srgb"), pixels)
    np.testing.assert_array_equal(found, np.asarray(expected))


@pytest.mark.parametrize("exponent", [1.0, 1.8, 2.2])
def test_the_table_for_grey_is_littlecms(exponent: float) -> None:
    """Without its optimisation, which is up to 10 of 255 off in the dark."""
    profile = profiles.grey(exponent)
    table = grey_table(profile)
    ramp = np.arange(256, dtype=np.uint8)[None, :, None]
    expected = convert_by_littlecms(ramp, profile, "L", "RGB")[0]
    assert (table.shape, table.dtype) == ((256,), np.uint8)
    np.testing.assert_array_equal(table[:, None].repeat(3, axis=1), expected)
    assert (table[0], table[255]) == (0, 255)
    assert (np.diff(table.astype(int)) >= 0).all()
    light = np.linspace(0, 1, 256) ** (round(256 * exponent) / 256)
    exact = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(table - exact * 255).max() <= 1


def test_pixels_that_are_not_to_be_converted_come_back() -> None:
    for pixels in (noise(3, 3, 1), noise(3, 3, 4), noise(3, 3, 1, dtype=np.uint16)):
        assert convert_pixels(NO_CONVERSION, pixels) is pixels


def test_many_threads_share_a_transform() -> None:
    profile = profiles.cmyk(2)
    tiles = [noise(30 + number, 40, 4) for number in range(8)]
    expected = [convert_by_littlecms(tile, profile, "CMYK", "RGB") for tile in tiles]
    colours = plan_colours(make_source(4, profile, cmyk=True), "srgb")
    with ThreadPoolExecutor(8) as threads:
        for _ in range(5):
            found = threads.map(lambda tile: convert_pixels(colours, tile), tiles)
            for converted, wanted in zip(found, expected, strict=True):
                np.testing.assert_array_equal(converted, wanted)


# ---- the direct way and the public one -----------------------------------------------------------


@pytest.fixture
def clear_converter_cache() -> Iterator[None]:
    """The direct way is tried again in a test, and after it."""
    converter._is_in_place_exact.cache_clear()
    yield
    converter._is_in_place_exact.cache_clear()


TRANSFORMS = [Transform(WIDE_PROFILES["adobe_rgb"]), Transform(profiles.cmyk(2), "CMYK")]


@pytest.mark.usefixtures("clear_converter_cache")
@pytest.mark.parametrize("transform", TRANSFORMS, ids=["RGB", "CMYK"])
def test_the_direct_way_works_with_this_pillow(transform: Transform) -> None:
    assert converter._is_in_place_exact(transform)


def _raise_error(*arguments: Any) -> Any:
    raise AttributeError("no such inner part")


def _do_nothing(*arguments: Any) -> Any:
    return lambda: None


@pytest.mark.usefixtures("clear_converter_cache")
@pytest.mark.parametrize("directly", [_raise_error, _do_nothing])
@pytest.mark.parametrize("transform", TRANSFORMS, ids=["RGB", "CMYK"])
def test_the_public_way_serves_where_the_direct_one_does_not(
    transform: Transform, directly: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours = ColourPlan(transform)
    pixels = noise(40, 60, 4)
    expected = convert_pixels(colours, pixels)
    converter._is_in_place_exact.cache_clear()
    monkeypatch.setattr(converter, "_convert_in_place", directly)
    assert not converter._is_in_place_exact(transform)
    np.testing.assert_array_equal(convert_pixels(colours, pixels), expected)


def test_only_colours_are_written_where_the_fourth_byte_is_another_ones() -> None:
    for way in (converter._convert_in_place, converter._convert_copy):
        pixels, out = noise(8, 8, 4), np.full((8, 8, 4), 77, np.uint8)
        way(TRANSFORMS[1], pixels, out)()
        assert (out[..., 3] == 77).all()
    converter._convert_cmyk_by_formula(pixels, out)()
    assert (out[..., 3] == 77).all()


# ---- profiles that are damaged -------------------------------------------------------------------


def mutate_profile(profile: bytes, choice: random.Random) -> bytes:
    """A profile with some bytes changed, mostly in its header and its table; or cut, or longer."""
    data = bytearray(profile)
    for _ in range(choice.choice([1, 1, 2, 4, 16])):
        place = choice.randrange(len(data) if choice.random() < 0.5 else 132 + 12 * 8)
        data[place] = choice.choice([0, 1, 2, 127, 128, 255, choice.randrange(256)])
    kind = choice.random()
    if kind < 0.15:
        del data[choice.randrange(len(data)) :]
    elif kind < 0.25:
        place = choice.randrange(len(data))
        data[place:place] = choice.randbytes(choice.choice([1, 4, 4096]))
    return bytes(data)


@pytest.mark.parametrize(
    ("bands", "profile", "count"),
    [
        (3, WIDE_PROFILES["display_p3"], 110),
        (4, WIDE_PROFILES["adobe_rgb"], 70),
        (1, profiles.grey(), 80),
    ],
    ids=["P3", "Adobe", "grey"],
)
def test_damaged_profiles_never_raise(bands: int, profile: bytes, count: int) -> None:
    choice = random.Random(count)
    kinds = set()
    for _ in range(count):
        image = make_source(bands, mutate_profile(profile, choice))
        for icc in ("srgb", "keep"):
            colours = plan_colours(image, icc)  # type: ignore[arg-type]
            assert all(note.isprintable() for note in colours.notes)
            if bands > 2:
                assert convert_pixels(colours, noise(5, 5, bands)).shape == (5, 5, bands)
            elif colours.grey_lookup is not None:
                assert colours.grey_lookup.shape == (256,)
        kinds.add(colours.tile_metadata == NO_METADATA)
    assert kinds == {True, False}, "all profiles ended alike"


@pytest.mark.slow
def test_damaged_profiles_of_inks_never_raise() -> None:
    choice = random.Random(4)
    for _ in range(40):
        colours = plan_colours(
            make_source(4, mutate_profile(profiles.cmyk(2), choice), cmyk=True), "srgb"
        )
        assert convert_pixels(colours, noise(5, 5, 4)).shape == (5, 5, 3)
        assert colours.notes
