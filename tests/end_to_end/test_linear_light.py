"""Levels in linear light, end to end: tiles read by Pillow beside levels computed in floats."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

import fasttile
import profiles
from fasttile import OptionError
from fasttile.collection import create
from fasttile.layouts import RECORD_NAME
from fasttile.types import Shrink
from fasttile.verify import repair, verify
from support.command import folder_entries, run
from support.reading import noise
from support.reference import Array, srgb_light
from support.resume_runs import cut_and_stop_after

Curve = Callable[[Array], Array]

WIDTH, HEIGHT = 250, 181

ONE_TILE: dict[str, Any] = {"format": "png", "tile_size": 256, "overlap": 0}
"""Each level is one tile."""


def power(exponent: float) -> Curve:
    """The curve of `profiles.gamma`, which has 256ths."""
    return lambda value: value ** (round(exponent * 256) / 256)


def photo(bands: int = 3) -> Array:
    """Smooth light with noise in it, stars, thin lines, and black."""
    y, x = (axis[..., None] for axis in np.mgrid[:HEIGHT, :WIDTH])
    pixels = 120 + 100 * np.sin(x / 23 + np.arange(bands)) * np.cos(y / 31)
    pixels = pixels + noise(HEIGHT, WIDTH, bands) / 8
    pixels[40:90] = pixels[:, 30:50] = 0
    pixels[60::7, 5::11] = 255
    pixels[:, 100] = pixels[150] = 250
    return np.clip(pixels, 0, 255).astype(np.uint8)


def read_levels(descriptor: Path) -> list[Array]:
    """The pixels of each level, from the largest, by Pillow."""
    folder = descriptor.with_name(f"{descriptor.stem}_files")
    numbers = sorted((int(path.name) for path in folder.iterdir() if path.is_dir()), reverse=True)
    found = [np.asarray(Image.open(folder / str(number) / "0_0.png")) for number in numbers]
    return [pixels if pixels.ndim == 3 else pixels[..., None] for pixels in found]


def assert_linear_levels(levels: list[Array], curves: list[Curve], limit: float = 0.7) -> None:
    """Each level is the mean of light of the next larger one, as it is stored."""
    assert len(levels) == 9
    top = np.iinfo(levels[0].dtype).max
    between = np.linspace(0, 1, 2**20)
    for larger, smaller in itertools.pairwise(levels):
        height, width, _ = larger.shape
        even = np.pad(larger, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") / top
        for band, curve in enumerate(curves):
            light = curve(even[..., band])
            mean = (light[::2, ::2] + light[1::2, ::2] + light[::2, 1::2] + light[1::2, 1::2]) / 4
            exact = np.interp(mean, curve(between), between) * top
            assert np.abs(smaller[..., band] - exact).max() <= limit, (smaller.shape, band)


def save(path: Path, pixels: Array, profile: bytes | None = None) -> Path:
    squeezed = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    Image.fromarray(squeezed).save(path, icc_profile=profile)
    return path


# ---- the curve -----------------------------------------------------------------------------------


def test_without_a_profile_it_is_that_of_srgb(tmp_path: Path) -> None:
    save(tmp_path / "photo.png", photo())
    arguments = ["cut", "photo.png", "--shrink", "linear", "--format", "png", "--tile-size", "256"]
    done = run(*arguments, "--overlap", "0", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    levels = read_levels(tmp_path / "photo.dzi")
    np.testing.assert_array_equal(levels[0], photo())
    assert_linear_levels(levels, [srgb_light] * 3)


def test_it_is_what_libvips_makes_in_linear_light(tmp_path: Path) -> None:
    pyvips = pytest.importorskip("pyvips")
    pixels = photo()[:180]
    fasttile.cut(pixels, tmp_path / "a.dzi", shrink="linear", **ONE_TILE)
    image = pyvips.Image.new_from_array(pixels, interpretation="srgb").colourspace("scrgb")
    expected = image.shrink(2, 2).colourspace("srgb").numpy()
    found = read_levels(tmp_path / "a.dzi")[1]
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found != expected).mean() < 0.15  # halves, nearly


@pytest.mark.parametrize(
    ("profile", "curve"),
    [
        (profiles.adobe_rgb(), power(2.2)),
        (profiles.prophoto(), power(1.8)),
        (profiles.display_p3(), srgb_light),
    ],
)
def test_of_an_rgb_profile(profile: bytes, curve: Curve, tmp_path: Path) -> None:
    image = save(tmp_path / "photo.png", photo(), profile)
    kept, converted = tmp_path / "kept.dzi", tmp_path / "converted.dzi"
    fasttile.cut(image, kept, shrink="linear", icc="keep", **ONE_TILE)
    levels = read_levels(kept)
    assert_linear_levels(levels, [curve] * 3)
    # Tiles are converted after the levels are made.
    fasttile.cut(image, converted, shrink="linear", **ONE_TILE)
    for level, found in zip(levels, read_levels(converted), strict=True):
        expected = ImageCms.profileToProfile(
            Image.fromarray(level),
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        np.testing.assert_array_equal(found, np.asarray(expected))
    fasttile.cut(image, tmp_path / "dropped.dzi", shrink="linear", icc="drop", **ONE_TILE)
    assert_linear_levels(read_levels(tmp_path / "dropped.dzi"), [srgb_light] * 3)


def test_each_band_has_its_own(tmp_path: Path) -> None:
    primaries = profiles.PRIMARIES["sRGB"]
    made = profiles.matrix_profile("three", primaries, profiles.D65_XY, profiles.gamma(1))
    entries = {name: made.index(name) for name in (b"rTRC", b"gTRC", b"bTRC")}
    for number, name in enumerate(entries):  # a curve of its own, at the end of the file
        place = len(made).to_bytes(4, "big")
        made = made[: entries[name] + 4] + place + made[entries[name] + 8 :]
        made += profiles.gamma(1 + number / 2)
    made = len(made).to_bytes(4, "big") + made[4:]
    image = save(tmp_path / "photo.png", photo(), made)
    fasttile.cut(image, tmp_path / "a.dzi", shrink="linear", icc="keep", **ONE_TILE)
    assert_linear_levels(read_levels(tmp_path / "a.dzi"), [power(1), power(1.5), power(2)])


def test_where_values_are_light_the_mean_is_the_same(tmp_path: Path) -> None:
    primaries = profiles.PRIMARIES["sRGB"]
    straight = profiles.matrix_profile("s", primaries, profiles.D65_XY, profiles.gamma(1))
    image = save(tmp_path / "photo.png", photo(), straight)
    for method in ("mean", "linear"):
        fasttile.cut(image, tmp_path / f"{method}.dzi", shrink=method, icc="keep", **ONE_TILE)
    pairs = zip(
        *(read_levels(tmp_path / f"{name}.dzi") for name in ("mean", "linear")), strict=True
    )
    for mean, linear in pairs:
        assert np.abs(mean.astype(int) - linear).max() <= 1
        assert (mean != linear).mean() < 0.01  # halves may be rounded the other way


def test_of_grey(tmp_path: Path) -> None:
    image = save(tmp_path / "grey.png", photo(1), profiles.grey(1.6))
    for icc, curve in (("keep", power(1.6)), ("srgb", srgb_light), ("drop", srgb_light)):
        fasttile.cut(image, tmp_path / f"{icc}.dzi", shrink="linear", icc=icc, **ONE_TILE)
        assert_linear_levels(read_levels(tmp_path / f"{icc}.dzi"), [curve])


def test_of_deep_samples_in_16_bits_and_in_8(tmp_path: Path) -> None:
    deep = photo(1)[..., 0].astype(np.uint16) * 200 + 77
    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, deep, photometric="minisblack", metadata=None)
    fasttile.cut(path, tmp_path / "deep.dzi", shrink="linear", bits=16, **ONE_TILE)
    levels = read_levels(tmp_path / "deep.dzi")
    np.testing.assert_array_equal(levels[0][..., 0], deep)
    assert_linear_levels([level.astype(np.uint16) for level in levels], [srgb_light], 0.51)
    profile = profiles.grey(2.2)
    tifffile.imwrite(path, deep, photometric="minisblack", metadata=None, iccprofile=profile)
    fasttile.cut(path, tmp_path / "own.dzi", shrink="linear", bits=16, icc="keep", **ONE_TILE)
    levels = [level.astype(np.uint16) for level in read_levels(tmp_path / "own.dzi")]
    assert_linear_levels(levels, [power(2.2)], 0.6)
    window = {"window": (100, 50_000), "icc": "drop"}  # a window makes sRGB of numbers
    fasttile.cut(path, tmp_path / "window.dzi", shrink="linear", **window, **ONE_TILE)
    assert_linear_levels(read_levels(tmp_path / "window.dzi"), [srgb_light])
    floats = tmp_path / "floats.npy"
    np.save(floats, deep / 60_000)
    fasttile.cut(floats, tmp_path / "floats.dzi", shrink="linear", **ONE_TILE)
    assert_linear_levels(read_levels(tmp_path / "floats.dzi"), [srgb_light])


def test_deep_rgb_is_srgb_before_its_levels_are_made(tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    pixels = photo().astype(np.uint16) * 257
    profile = profiles.prophoto()
    tifffile.imwrite(path, pixels, photometric="rgb", metadata=None, iccprofile=profile)
    fasttile.cut(path, tmp_path / "a.dzi", shrink="linear", **ONE_TILE)
    assert_linear_levels(read_levels(tmp_path / "a.dzi"), [srgb_light] * 3)


# ---- stars, lines and alpha ----------------------------------------------------------------------


def test_stars_and_lines_keep_their_light(tmp_path: Path) -> None:
    sky = np.zeros((256, 256, 3), np.uint8)
    sky[8::32, 20::32] = 255
    sky[:, 200] = 255
    light = srgb_light(sky / 255).mean()
    lost = {}
    for method in ("mean", "linear"):
        fasttile.cut(sky, tmp_path / f"{method}.dzi", shrink=method, **ONE_TILE)
        levels = read_levels(tmp_path / f"{method}.dzi")
        assert [int(level[4 >> n, 10 >> n].max()) for n, level in enumerate(levels[1:4])] == (
            [64, 16, 4] if method == "mean" else [137, 71, 34]
        )
        kept = [srgb_light(level / 255).mean() / light for level in levels[:5]]
        lost[method] = 1 - min(kept)
        if method == "linear":
            assert max(kept) < 1.02
    assert lost["linear"] < 0.02
    assert lost["mean"] > 0.5


def test_alpha_weighs_and_is_itself_no_light(tmp_path: Path) -> None:
    pixels = np.concatenate([photo(), photo(1)[::-1]], axis=2)
    fasttile.cut(pixels, tmp_path / "linear.dzi", shrink="linear", **ONE_TILE)
    fasttile.cut(pixels, tmp_path / "mean.dzi", **ONE_TILE)
    larger, linear, *_ = read_levels(tmp_path / "linear.dzi")
    _, mean, *_ = read_levels(tmp_path / "mean.dzi")
    np.testing.assert_array_equal(linear[..., 3], mean[..., 3])
    even = np.pad(larger, ((0, 1), (0, 0), (0, 0)), mode="edge") / 255
    weighted = np.concatenate([srgb_light(even[..., :3]) * even[..., 3:], even[..., 3:]], axis=2)
    sums = weighted.reshape(91, 2, 125, 2, 4).sum(axis=(1, 3))
    seen = sums[..., 3] > 0
    colours = sums[seen][:, :3] / sums[seen][:, 3:]
    between = np.linspace(0, 1, 2**20)
    exact = np.interp(colours, srgb_light(between), between) * 255
    assert np.abs(linear[seen][:, :3] - exact).max() <= 0.53
    assert not linear[~seen].any()


# ---- what is refused -----------------------------------------------------------------------------


def table_profile() -> bytes:
    """An RGB profile of a table: half as bright as sRGB."""
    steps = np.linspace(0, 1, 9)
    grid = [
        (round(light * 127), 128, 128)
        for light in np.add.outer(np.add.outer(steps, steps), steps).ravel() / 3
    ]
    table = profiles.lut8(3, 9, grid)
    tags = {b"wtpt": profiles.xyz(profiles.D50), b"A2B0": table, b"A2B1": table}
    return profiles.profile(b"scnr", b"RGB ", b"Lab ", "a table", tags)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["CMYK", "table", "falling"])
def test_images_without_a_curve_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    place = tmp_path / ("image.jpg" if kind == "CMYK" else "image.png")
    if kind == "CMYK":
        Image.fromarray(noise(40, 60, 4), "CMYK").save(place, icc_profile=profiles.cmyk())
        expected = "image.jpg: shrink linear: inks of CMYK have no curve of light; use shrink mean"
    elif kind == "table":
        save(place, photo(), table_profile())
        expected = "shrink linear: a table: its colours are in a table, not in curves; use shrink"
    else:
        falling = b"curv" + bytes(4) + (2).to_bytes(4, "big") + b"\xff\xff\x00\x00"
        primaries = profiles.PRIMARIES["sRGB"]
        made = profiles.matrix_profile("inverse", primaries, profiles.D65_XY, falling)
        save(place, photo(), made)
        expected = "shrink linear: inverse: its curves do not increase; use shrink mean"
    before = folder_entries(tmp_path)
    done = run("cut", place.name, "--shrink", "linear", cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert "icc drop" in done.stderr
    assert folder_entries(tmp_path) == before
    with pytest.raises(OptionError, match="shrink linear"):
        next(iter(fasttile.iter_tiles(place, shrink="linear")))
    with pytest.raises(OptionError, match="shrink linear"):
        fasttile.open_pyramid(place, shrink="linear")
    # The ways out that the message names.
    for options in (["--shrink", "mean"], ["--shrink", "linear", "--icc", "drop"]):
        done = run("cut", place.name, "--overwrite", *options, cwd=tmp_path)
        assert (done.returncode, "image.dzi" in done.stdout) == (0, True)


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    done = run("cut", "a.png", "--shrink", "lanczos")
    assert done.returncode == 2
    assert "linear" in done.stderr
    with pytest.raises(OptionError, match="linear"):
        fasttile.CutOptions(shrink="linaer")  # type: ignore[arg-type]


# ---- each way that takes the option --------------------------------------------------------------


STRAIGHT = profiles.matrix_profile(
    "straight", profiles.PRIMARIES["sRGB"], profiles.D65_XY, profiles.gamma(1)
)


@pytest.mark.parametrize("name", ["a.dzi", "a.tif", "a.pmtiles"])
@pytest.mark.parametrize("form", ["lossless", "jpeg"])
@pytest.mark.parametrize("profile", [None, profiles.adobe_rgb(), STRAIGHT])
def test_verify_knows_the_levels(
    profile: bytes | None, form: str, name: str, tmp_path: Path
) -> None:
    image = save(tmp_path / "photo.png", photo(), profile)
    lossless = "deflate" if name.endswith(".tif") else "png"
    options: dict[str, Any] = {"tile_size": 64, "shrink": "linear", "icc": "keep"}
    options["format"] = "jpeg" if form == "jpeg" else lossless
    result = fasttile.cut(image, tmp_path / name, **options).path
    for report in (
        verify(result, deep=True),
        verify(result, image),  # with the options of its record
        verify(result, image, shrink="linear", icc="keep", format=options["format"]),
    ):
        assert report.is_complete, report.faults
    if form == "lossless":
        assert not verify(result, image, shrink="mean", icc="keep").is_complete


@pytest.mark.parametrize("icc", ["keep", "srgb"])
def test_verify_without_a_record_takes_the_curve_of_the_tiles(icc: Any, tmp_path: Path) -> None:
    image = save(tmp_path / "photo.png", photo(), profiles.adobe_rgb())
    fasttile.cut(image, tmp_path / "a.dzi", shrink="linear", icc=icc, format="png", tile_size=64)
    (tmp_path / "a_files" / RECORD_NAME).unlink()
    report = verify(tmp_path / "a.dzi", deep=True)
    assert report.is_complete, report.faults
    # A level that was made by another method is found: nearly no pixel of stars is right.
    fasttile.cut(image, tmp_path / "b.dzi", shrink="min", icc=icc, format="png", tile_size=64)
    tile = Path("5/0_0.png")
    (tmp_path / "a_files" / tile).write_bytes((tmp_path / "b_files" / tile).read_bytes())
    faults = verify(tmp_path / "a.dzi", deep=True).faults
    assert {fault.name for fault in faults} <= {f"a_files/{number}/0_0.png" for number in (4, 5)}
    assert faults


@pytest.mark.parametrize("shrink", ["mean", "linear", "min", "median", "mode"])
def test_levels_of_colours_that_are_converted_are_only_similar(shrink: Any, tmp_path: Path) -> None:
    image = save(tmp_path / "noise.png", noise(HEIGHT, WIDTH, 3), profiles.prophoto())
    options: dict[str, Any] = {"shrink": shrink, "format": "png", "tile_size": 64}
    fasttile.cut(image, tmp_path / "a.dzi", **options)
    report = verify(tmp_path / "a.dzi", deep=True)
    assert report.is_complete, report.faults
    other = save(tmp_path / "other.png", 255 - noise(HEIGHT, WIDTH, 3) // 4)
    fasttile.cut(other, tmp_path / "b.dzi", **options)
    tile = Path("7/1_0.png")
    (tmp_path / "a_files" / tile).write_bytes((tmp_path / "b_files" / tile).read_bytes())
    faults = {fault.name for fault in verify(tmp_path / "a.dzi", deep=True).faults}
    assert f"a_files/{tile}" in faults
    assert faults <= {f"a_files/{tile}", "a_files/6/0_0.png"}


@pytest.mark.parametrize("shrink", get_args(Shrink))
@pytest.mark.parametrize("quality", [50, 95])
def test_levels_of_tiles_with_a_loss(shrink: Any, quality: int, tmp_path: Path) -> None:
    for name, pixels in (("noise", noise(HEIGHT, WIDTH, 3)), ("photo", photo())):
        place = tmp_path / f"{name}.dzi"
        fasttile.cut(pixels, place, shrink=shrink, quality=quality, tile_size=50)
        report = verify(place, deep=True)
        assert report.is_complete, report.faults
    fasttile.cut(np.full_like(photo(), 255), tmp_path / "white.dzi", quality=quality, tile_size=50)
    tile = Path("8/3_2.jpg")
    (tmp_path / "photo_files" / tile).write_bytes((tmp_path / "white_files" / tile).read_bytes())
    assert not verify(tmp_path / "photo.dzi", deep=True).is_complete


def test_convert_repair_and_update_keep_the_method(tmp_path: Path) -> None:
    image = save(tmp_path / "photo.png", photo())
    fasttile.cut(image, tmp_path / "a.dzi", shrink="linear", tile_size=64, format="png")
    fasttile.convert(tmp_path / "a.dzi", tmp_path / "b.zip", layout="dzi")
    assert verify(tmp_path / "b.zip", image).is_complete
    fasttile.convert(tmp_path / "a.dzi", tmp_path / "c.pmtiles", reencode=True)
    (tmp_path / "a_files" / "6" / "0_0.png").unlink()
    before = (tmp_path / "a_files" / "5" / "0_0.png").read_bytes()
    assert repair(tmp_path / "a.dzi", image).is_complete
    assert (tmp_path / "a_files" / "5" / "0_0.png").read_bytes() == before
    assert verify(tmp_path / "a.dzi", deep=True).is_complete
    # A result as a source has levels of its own.
    fasttile.cut(tmp_path / "a.dzi", tmp_path / "d.dzi", shrink="linear", **ONE_TILE)
    assert_linear_levels(read_levels(tmp_path / "d.dzi"), [srgb_light] * 3)


def test_thumbnails_of_a_collection_have_the_light(tmp_path: Path) -> None:
    sky = np.zeros((256, 256, 3), np.uint8)
    sky[8::32, 20::32] = 255
    image = save(tmp_path / "sky.png", sky)
    for method, star in (("linear", 13), ("max", 255), ("min", 0)):
        folder = tmp_path / method
        create(folder / "wall.dzc", [image], shrink=method, max_level=4, tile_size=16, format="png")
        thumbnail = np.asarray(Image.open(folder / "wall_files" / "4" / "0_0.png"))
        assert thumbnail.max() == star


def test_a_job_resumes_with_the_same_method_only(tmp_path: Path) -> None:
    image = save(tmp_path / "photo.png", photo())
    options: dict[str, Any] = {"shrink": "linear", "tile_size": 16, "format": "png"}
    place = tmp_path / "a.dzi"
    cut_and_stop_after(120, image, place, options)
    with pytest.raises(fasttile.FasttileError, match="shrink linear, which now is max"):
        fasttile.cut(image, place, resume=True, **{**options, "shrink": "max"})
    assert fasttile.cut(image, place, resume=True, **options).resumed > 0
    fasttile.cut(image, tmp_path / "b.dzi", **options)
    tiles = sorted((tmp_path / "b_files").rglob("*.png"))
    assert len(tiles) > 200
    for tile in tiles:
        other = tmp_path / "a_files" / tile.relative_to(tmp_path / "b_files")
        assert other.read_bytes() == tile.read_bytes()
