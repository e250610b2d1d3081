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
from fasttile import colour as room
from fasttile.colour import (
    NO_COLOURS,
    NOTHING,
    Attached,
    Colours,
    Transform,
    applied,
    grey_table,
    is_srgb,
    managed,
)
from fasttile.sources.base import Metadata, Source
from reading import noise
from reference import Array
from strict import Map

DESCRIBED = {
    "display_p3": "Display P3",
    "adobe_rgb": "Adobe RGB",
    "prophoto": "ProPhoto",
    "swapped": "red is blue",
}
WIDE = {name: getattr(profiles, name)() for name in DESCRIBED}
PILLOWS = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def source(
    bands: int,
    profile: bytes | None = None,
    *,
    cmyk: bool = False,
    resolution: Any = None,
    dtype: Any = np.uint8,
) -> Source:
    """A picture of which only the bands and the metadata matter."""
    picture = Map(noise(2, 2, bands, dtype=dtype))
    picture.cmyk = cmyk
    picture.metadata = Metadata("test", icc_profile=profile, resolution=resolution)
    return picture


def by_littlecms(pixels: Array, profile: bytes, mode: str, out_mode: str) -> Array:
    """Pixels converted by Pillow's public function, with the intent and flags that are promised."""
    converted = ImageCms.profileToProfile(
        Image.frombytes(mode, (pixels.shape[1], pixels.shape[0]), pixels.tobytes()),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        out_mode,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    return np.asarray(converted)


# ---- the plan ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("name", DESCRIBED)
def test_other_colours_are_converted(name: str, bands: int) -> None:
    note = f"converted from {DESCRIBED[name]} to sRGB"
    expected = Colours(Transform(WIDE[name], "RGB"), notes=(note,))
    assert managed(source(bands, WIDE[name]), "srgb") == expected


@pytest.mark.parametrize("profile", [PILLOWS, profiles.srgb(), profiles.srgb("camera")])
def test_what_is_srgb_is_left_alone(profile: bytes) -> None:
    assert is_srgb(profile)
    assert managed(source(3, profile), "srgb") == NO_COLOURS


def test_what_is_called_srgb_is_not_always() -> None:
    primaries, white = profiles.PRIMARIES["sRGB"], profiles.D65_XY
    for exponent in (1.0, 1.8, 2.2, 2.4):
        profile = profiles.matrix_profile("sRGB", primaries, white, profiles.gamma(exponent))
        assert not is_srgb(profile)
    for profile in WIDE.values():
        assert not is_srgb(profile)


@pytest.mark.parametrize("profile", [None, b"", *WIDE.values(), b"broken"])
def test_drop_forgets_the_profile(profile: bytes | None) -> None:
    assert managed(source(3, profile), "drop") == NO_COLOURS
    assert managed(source(3), "srgb") == managed(source(1), "keep") == NO_COLOURS


@pytest.mark.parametrize("profile", [*WIDE.values(), PILLOWS])
def test_keep_attaches_the_profile(profile: bytes) -> None:
    assert managed(source(3, profile), "keep") == Colours(attached=Attached(profile))


@pytest.mark.parametrize("icc", ["srgb", "keep"])
def test_cmyk_is_converted_even_where_the_profile_is_kept(icc: Any) -> None:
    profile = profiles.cmyk(2)
    colours = managed(source(4, profile, cmyk=True), icc)
    assert colours.transform == Transform(profile, "CMYK")
    assert colours.attached == NOTHING
    why = {"srgb": "", "keep": "tiles cannot carry CMYK: "}[icc]
    assert colours.notes == (f"{why}converted from four inks to sRGB",)


def test_cmyk_without_a_profile_is_converted_by_a_formula() -> None:
    plain = Colours(Transform(None, "CMYK"), notes=("CMYK converted to RGB",))
    assert managed(source(4, cmyk=True), "srgb") == plain
    assert managed(source(4, profiles.cmyk(2), cmyk=True), "drop") == plain
    broken = managed(source(4, profiles.cmyk(2)[:400], cmyk=True), "srgb")
    assert broken.transform == plain.transform
    assert broken.notes[0].startswith("broken profile ignored: ")
    assert broken.notes[1:] == plain.notes


def test_grey_becomes_a_table() -> None:
    profile = profiles.grey()
    for bands in (1, 2):
        colours = managed(source(bands, profile), "srgb")
        assert colours == Colours(notes=("converted from grey, gamma 2.2 to sRGB",))
        np.testing.assert_array_equal(colours.table, grey_table(profile))
    assert managed(source(1, profile), "keep") == Colours(attached=Attached(profile))
    converted = managed(source(1, profile), "keep", keeps_grey=False)
    assert converted.notes[0].startswith("tiles of this format have no grey: converted from grey")
    assert converted.table is not None


def test_grey_of_16_bits_keeps_its_profile() -> None:
    profile = profiles.grey()
    colours = managed(source(1, profile, dtype=np.uint16), "srgb")
    assert colours.attached.icc_profile == profile
    assert colours.table is None
    assert colours.notes == ("16-bit grey is not converted: tiles carry grey, gamma 2.2",)


def test_grey_with_the_curve_of_srgb_is_left_alone() -> None:
    tags = {b"wtpt": profiles.xyz(profiles.D50), b"kTRC": profiles.parametric(profiles.SRGB_CURVE)}
    profile = profiles.profile(b"mntr", b"GRAY", b"XYZ ", "grey", tags)
    colours = managed(source(1, profile), "srgb")
    assert colours == NO_COLOURS
    assert colours.table is None


UNFIT = [
    (3, False, profiles.grey(), "profile is for grey, the picture is RGB: ignored"),
    (4, False, profiles.cmyk(2), "profile is for CMYK, the picture is RGB: ignored"),
    (1, False, WIDE["display_p3"], "profile is for RGB, the picture is grey: ignored"),
    (3, False, WIDE["display_p3"].replace(b"RGB ", b"Lab "), "profile is for Lab, the picture"),
    (3, False, WIDE["display_p3"].replace(b"RGB ", b"\n\0\x9b2"), "profile is for 2, the picture"),
    (3, False, b"x", "broken profile ignored: it does not begin as an ICC profile does"),
    (3, False, bytes(500), "broken profile ignored: it does not begin as an ICC profile does"),
    (3, False, WIDE["display_p3"][:132], "broken profile ignored: "),
    (3, False, WIDE["display_p3"][:-200], "broken profile ignored: "),
    (1, False, profiles.grey()[:-20], "broken profile ignored: "),
    (3, False, WIDE["display_p3"].replace(b"rXYZ", b"qXYZ"), "broken profile ignored: "),
    (
        3,
        False,
        WIDE["display_p3"].ljust(room.MAX_PROFILE + 1, b"\0"),
        "profile ignored: it has 16,000,001 bytes, more than 16,000,000",
    ),
]


@pytest.mark.parametrize("icc", ["srgb", "keep"])
@pytest.mark.parametrize(("bands", "cmyk", "profile", "note"), UNFIT, ids=range(len(UNFIT)))
def test_a_profile_that_cannot_be_used_ends_in_a_note(
    bands: int, cmyk: bool, profile: bytes, note: str, icc: Any
) -> None:
    colours = managed(source(bands, profile, cmyk=cmyk), icc)
    assert (colours.transform, colours.attached, colours.table) == (None, NOTHING, None)
    (found,) = colours.notes
    assert found.startswith(note)
    assert found.isprintable()


def test_a_pillow_without_littlecms_ends_in_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL._util import DeferredError

    missing = DeferredError.new(ImportError("no _imagingcms"))
    monkeypatch.setattr(ImageCms, "core", missing)
    colours = managed(source(3, WIDE["swapped"]), "srgb")
    assert colours == Colours(notes=("broken profile ignored: no _imagingcms",))


@pytest.mark.parametrize("name", ["", "\n", "a\nb\x07\u2028c", "x" * 500, "Größe"])
def test_names_go_on_one_line(name: str) -> None:
    primaries, white = profiles.PRIMARIES["Adobe RGB"], profiles.D65_XY
    profile = profiles.matrix_profile(name, primaries, white, profiles.gamma(1.8))
    (note,) = managed(source(3, profile), "srgb").notes
    assert note.isprintable()
    assert len(note) < 120
    if not name.strip():
        assert note == "converted from its own profile to sRGB"
    if name == "Größe":
        assert note == "converted from Größe to sRGB"


def test_importing_the_pipeline_does_not_import_littlecms() -> None:
    code = "import sys, fasttile.pipeline; sys.exit('PIL.ImageCms' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_plans_go_to_other_processes() -> None:
    for profile in (WIDE["swapped"], PILLOWS):
        colours = managed(source(3, profile, resolution=(300, 200)), "srgb")
        assert pickle.loads(pickle.dumps(colours)) == colours


# ---- resolutions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("icc", ["srgb", "keep", "drop"])
def test_the_resolution_is_carried_whatever_becomes_of_the_profile(icc: Any) -> None:
    for profile in (None, WIDE["swapped"], PILLOWS, b"broken"):
        colours = managed(source(3, profile, resolution=(300, 72.5)), icc)
        assert colours.attached.resolution == (300.0, 72.5)


@pytest.mark.parametrize("low", [0, -1, float("nan"), float("inf")])
def test_a_resolution_that_cannot_be_is_none(low: float) -> None:
    for resolution in ((low, 300), (300, low)):
        assert managed(source(1, resolution=resolution), "srgb") == NO_COLOURS


def test_a_smaller_level_has_a_smaller_resolution() -> None:
    assert Attached(b"p", (300.0, 100.0)).halved(2) == Attached(b"p", (75.0, 25.0))
    assert Attached(b"p", (300.0, 100.0)).halved(0) == Attached(b"p", (300.0, 100.0))
    assert Attached(b"p").halved(3) == Attached(b"p")


# ---- what LittleCMS makes of it ------------------------------------------------------------------


@pytest.mark.parametrize("name", DESCRIBED)
def test_colours_are_those_of_littlecms(name: str) -> None:
    colours = managed(source(3, WIDE[name]), "srgb")
    for pixels in (noise(40, 60, 3), noise(1, 1, 3), noise(256, 256, 3)):
        found = applied(colours, pixels)
        np.testing.assert_array_equal(found, by_littlecms(pixels, WIDE[name], "RGB", "RGB"))
        assert found.dtype == np.uint8
        assert not np.array_equal(found, pixels) or pixels.size < 9
    assert applied(colours, np.full((1, 1, 3), 255, np.uint8)).tolist() == [[[255, 255, 255]]]


def test_red_that_is_blue_becomes_blue() -> None:
    colours = managed(source(3, WIDE["swapped"]), "srgb")
    pixels = np.array([[[255, 0, 0], [10, 20, 30]]], np.uint8)
    assert applied(colours, pixels).tolist() == [[[0, 0, 255], [30, 20, 10]]]


@pytest.mark.parametrize("name", DESCRIBED)
def test_alpha_stays(name: str) -> None:
    pixels = noise(40, 60, 4)
    found = applied(managed(source(4, WIDE[name]), "srgb"), pixels)
    np.testing.assert_array_equal(found, by_littlecms(pixels, WIDE[name], "RGBA", "RGBA"))
    np.testing.assert_array_equal(found[..., 3], pixels[..., 3])
    without = applied(managed(source(3, WIDE[name]), "srgb"), pixels[..., :3].copy())
    np.testing.assert_array_equal(found[..., :3], without)


@pytest.mark.parametrize("points", [2, 3])
def test_inks_are_those_of_littlecms(points: int) -> None:
    profile = profiles.cmyk(points)
    pixels = noise(40, 60, 4)
    found = applied(managed(source(4, profile, cmyk=True), "srgb"), pixels)
    np.testing.assert_array_equal(found, by_littlecms(pixels, profile, "CMYK", "RGB"))
    paper, black = np.zeros((1, 1, 4), np.uint8), np.full((1, 1, 4), 255, np.uint8)
    colours = managed(source(4, profile, cmyk=True), "srgb")
    assert applied(colours, paper).min() >= 254
    # The compensation takes print's black, which is no black on a screen, nearly to 0.
    dark = ImageCms.profileToProfile(
        Image.new("CMYK", (1, 1), (255,) * 4),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        "RGB",
    )
    assert applied(colours, black).max() <= 5 < 40 < np.asarray(dark).min()


def test_inks_without_a_profile_are_those_of_pillow() -> None:
    pixels = noise(40, 60, 4)
    expected = Image.frombytes("CMYK", (60, 40), pixels.tobytes()).convert("RGB")
    found = applied(managed(source(4, cmyk=True), "srgb"), pixels)
    np.testing.assert_array_equal(found, np.asarray(expected))


@pytest.mark.parametrize("exponent", [1.0, 1.8, 2.2])
def test_the_table_for_grey_is_littlecms(exponent: float) -> None:
    profile = profiles.grey(exponent)
    table = grey_table(profile)
    ramp = np.arange(256, dtype=np.uint8)[None, :, None]
    expected = by_littlecms(ramp, profile, "L", "RGB")[0]
    assert (table.shape, table.dtype) == ((256,), np.uint8)
    np.testing.assert_array_equal(table[:, None].repeat(3, axis=1), expected)
    assert (table[0], table[255]) == (0, 255)
    assert (np.diff(table.astype(int)) >= 0).all()


def test_pixels_that_are_not_to_be_converted_come_back() -> None:
    for pixels in (noise(3, 3, 1), noise(3, 3, 4), noise(3, 3, 1, dtype=np.uint16)):
        assert applied(NO_COLOURS, pixels) is pixels


def test_many_threads_share_a_transform() -> None:
    profile = profiles.cmyk(2)
    tiles = [noise(30 + number, 40, 4) for number in range(8)]
    expected = [by_littlecms(tile, profile, "CMYK", "RGB") for tile in tiles]
    colours = managed(source(4, profile, cmyk=True), "srgb")
    with ThreadPoolExecutor(8) as threads:
        for _ in range(5):
            found = threads.map(lambda tile: applied(colours, tile), tiles)
            for converted, wanted in zip(found, expected, strict=True):
                np.testing.assert_array_equal(converted, wanted)


# ---- the direct way and the public one -----------------------------------------------------------


@pytest.fixture
def no_way_remembered() -> Iterator[None]:
    """The direct way is tried anew in a test, and after it."""
    room._direct_works.cache_clear()
    yield
    room._direct_works.cache_clear()


TRANSFORMS = [Transform(WIDE["adobe_rgb"]), Transform(profiles.cmyk(2), "CMYK")]


@pytest.mark.usefixtures("no_way_remembered")
@pytest.mark.parametrize("transform", TRANSFORMS, ids=["RGB", "CMYK"])
def test_the_direct_way_works_with_this_pillow(transform: Transform) -> None:
    assert room._direct_works(transform)


def _fails(*arguments: Any) -> Any:
    raise AttributeError("no such inner part")


def _does_nothing(*arguments: Any) -> Any:
    return lambda: None


@pytest.mark.usefixtures("no_way_remembered")
@pytest.mark.parametrize("directly", [_fails, _does_nothing])
@pytest.mark.parametrize("transform", TRANSFORMS, ids=["RGB", "CMYK"])
def test_the_public_way_serves_where_the_direct_one_does_not(
    transform: Transform, directly: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours = Colours(transform)
    pixels = noise(40, 60, 4)
    expected = applied(colours, pixels)
    room._direct_works.cache_clear()
    monkeypatch.setattr(room, "_directly", directly)
    assert not room._direct_works(transform)
    np.testing.assert_array_equal(applied(colours, pixels), expected)


def test_only_colours_are_written_where_the_fourth_byte_is_another_ones() -> None:
    for way in (room._directly, room._publicly):
        pixels, out = noise(8, 8, 4), np.full((8, 8, 4), 77, np.uint8)
        way(TRANSFORMS[1], pixels, out)()
        assert (out[..., 3] == 77).all()
    room._by_formula(pixels, out)()
    assert (out[..., 3] == 77).all()


# ---- profiles that are damaged -------------------------------------------------------------------


def mutated(profile: bytes, choice: random.Random) -> bytes:
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
    [(3, WIDE["display_p3"], 110), (4, WIDE["adobe_rgb"], 70), (1, profiles.grey(), 80)],
    ids=["P3", "Adobe", "grey"],
)
def test_damaged_profiles_never_raise(bands: int, profile: bytes, count: int) -> None:
    choice = random.Random(count)
    kinds = set()
    for _ in range(count):
        picture = source(bands, mutated(profile, choice))
        for icc in ("srgb", "keep"):
            colours = managed(picture, icc)  # type: ignore[arg-type]
            assert all(note.isprintable() for note in colours.notes)
            if bands > 2:
                assert applied(colours, noise(5, 5, bands)).shape == (5, 5, bands)
            elif colours.table is not None:
                assert colours.table.shape == (256,)
        kinds.add(colours.attached == NOTHING)
    assert kinds == {True, False}, "all profiles ended alike"


def test_damaged_profiles_of_inks_never_raise() -> None:
    choice = random.Random(4)
    for _ in range(40):
        colours = managed(source(4, mutated(profiles.cmyk(2), choice), cmyk=True), "srgb")
        assert applied(colours, noise(5, 5, 4)).shape == (5, 5, 3)
        assert colours.notes
