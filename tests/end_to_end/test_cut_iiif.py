"""Thumbnails beside the tiles of IIIF: files with the pixels that they should have, in all jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile.errors import OptionError
from support import reference
from support.cut_cases import ADDRESS
from support.damage import file_tree
from support.exact_mean import exact_mean
from support.reading import noise
from support.reference import Array

LAYOUT = f"iiif3:id={ADDRESS},thumbnails=90+20+41"


def cut(place: Path, pixels: Any, layout: str = LAYOUT, **options: Any) -> Path:
    options = {"tile_size": 64, "format": "png", **options}
    return Path(fasttile.cut(pixels, place, layout=layout, **options).path)


def thumbnail(place: Path, width: int, extension: str = "png") -> Array:
    """The pixels of a size that info.json offers, by Pillow."""
    info = json.loads((place / "info.json").read_text())
    (height,) = (size["height"] for size in info["sizes"] if size["width"] == width)
    paths = [
        place / f"full/{size}/0/default.{extension}" for size in (f"{width},{height}", f"{width},")
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with Image.open(paths[0]) as image:
        assert image.size == (width, height)
        pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def larger_level(pixels: Array, width: int, smallest: int = 64) -> Array:
    """The smallest level that is stored and wider than a thumbnail."""
    stored = [level for level in reference.levels(pixels) if level.shape[1] > width]
    first = max(
        max(level.shape[:2])
        for level in reference.levels(pixels)
        if max(level.shape[:2]) <= smallest
    )
    return min((one for one in stored if max(one.shape[:2]) >= first), key=lambda one: one.size)


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_each_thumbnail_is_the_mean_of_a_level(bands: int, tmp_path: Path) -> None:
    pixels = noise(131, 210, bands)
    place = cut(tmp_path / "a", pixels)
    for width in (20, 41, 90):
        level = larger_level(pixels, width)
        expected = exact_mean(level, width, round(131 * width / 210), alpha=bands in (2, 4))
        assert np.array_equal(thumbnail(place, width), expected)
    for way in ({}, {"deep": True}, {"source": pixels}):
        report = fasttile.verify.verify(place, **way)
        assert (report.is_complete, report.notes) == (True, ())


def test_samples_of_16_bits(tmp_path: Path) -> None:
    pixels = noise(131, 210, 1).astype(np.uint16) * 257
    place = cut(tmp_path / "a", pixels, bits=16, window="full")
    level = larger_level(pixels, 41)
    assert np.array_equal(thumbnail(place, 41), exact_mean(level, 41, 26, alpha=False))
    assert fasttile.verify.verify(place, pixels, window="full").is_complete


@pytest.mark.parametrize("shrink", ["linear", "max", "min"])
@pytest.mark.parametrize("bands", [3, 4])
def test_other_means(shrink: Any, bands: int, tmp_path: Path) -> None:
    pixels = np.zeros((131, 210, bands), np.uint8)
    pixels[::16, ::16, :3] = 255
    if bands == 4:
        pixels[..., 3] = 255
    place = cut(tmp_path / "a", pixels, shrink=shrink)
    means = cut(tmp_path / "b", pixels)
    one, other = thumbnail(place, 41).mean(), thumbnail(means, 41).mean()
    assert one < other if shrink == "min" else one > other
    report = fasttile.verify.verify(place, pixels, shrink=shrink)
    assert (report.is_complete, report.notes) == (True, ())
    fasttile.convert(place, tmp_path / "c", layout=f"iiif3:id={ADDRESS},thumbnails=30")
    report = fasttile.verify.verify(tmp_path / "c", pixels, shrink=shrink)
    assert (report.is_complete, report.notes) == (True, ())


@pytest.mark.parametrize("shrink", ["nearest", "mode", "median"])
def test_labels_are_not_blended(shrink: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).choice(np.array([3, 90, 200], np.uint8), (131, 210, 1))
    place = cut(tmp_path / "a", pixels, shrink=shrink)
    assert set(np.unique(thumbnail(place, 41))) <= {3, 90, 200}
    assert fasttile.verify.verify(place, pixels).is_complete


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (41, 30), (42, 64), (64, 65)])
@pytest.mark.parametrize("version", [2, 3])
def test_odd_sizes(size: tuple[int, int], version: int, tmp_path: Path) -> None:
    pixels = noise(size[1], size[0], 3)
    layout = f"iiif{version}:id={ADDRESS},thumbnails=1+20+41+90"
    place = cut(tmp_path / "a", pixels, layout, format="jpeg")
    info = json.loads((place / "info.json").read_text())
    widths = [one["width"] for one in info["sizes"]]
    assert widths == sorted(widths)
    assert {width for width in (1, 20, 41, 90) if width <= size[0]} <= {*widths}
    for width in {*widths} - {1}:
        thumbnail_or_level = place / f"full/{width},/0/default.jpg"
        assert thumbnail_or_level.exists() or version == 3
    with fasttile.open_pyramid(place) as reader:
        assert reader.tile_count == reader.pyramid.tile_count
    for way in ({}, {"deep": True}, {"source": pixels}):
        report = fasttile.verify.verify(place, **way)
        assert (report.is_complete, report.notes) == (True, ())


@pytest.mark.slow
def test_all_ways_of_cutting_make_the_same(tmp_path: Path) -> None:
    pixels = noise(700, 900, 3)
    np.save(tmp_path / "a.npy", pixels)
    plain = file_tree(cut(tmp_path / "a", pixels))
    for number, options in enumerate(({"threads": 1}, {"workers": 2}, {"resume": True})):
        place = cut(tmp_path / str(number) / "a", str(tmp_path / "a.npy"), **options)  # type: ignore[arg-type]
        assert {
            name: data for name, data in file_tree(place).items() if name != ".fasttile.json"
        } == {name: data for name, data in plain.items() if name != ".fasttile.json"}
    larger = np.pad(pixels, ((10, 5), (20, 3), (0, 0)))
    place = cut(tmp_path / "r/a", larger, region=(20, 10, 900, 700))
    assert file_tree(place)["full/41,/0/default.png"] == plain["full/41,/0/default.png"]
    fasttile.convert(place, tmp_path / "c/a")
    again = file_tree(tmp_path / "c/a")
    assert {name for name in again if again[name] != plain[name]} == {".fasttile.json"}
    fasttile.convert(place, tmp_path / "d/a", layout=f"iiif3:id={ADDRESS},thumbnails=41+300")
    again = file_tree(tmp_path / "d/a")
    assert again["full/41,/0/default.png"] == plain["full/41,/0/default.png"]
    report = fasttile.verify.verify(tmp_path / "d/a", pixels)
    assert (report.is_complete, report.notes) == (True, ())


def test_damaged_thumbnails_are_found_and_repaired(tmp_path: Path) -> None:
    pixels = noise(131, 210, 3)
    place = cut(tmp_path / "a", pixels, format="jpeg")
    good = file_tree(place)
    (place / "full/90,56/0/default.jpg").unlink()
    (place / "full/41,/0/default.jpg").write_bytes(good["full/20,12/0/default.jpg"])
    other = good["full/20,/0/default.jpg"]
    (place / "full/20,/0/default.jpg").write_bytes(other[:-9])
    extra = place / "full/33,20/0/default.jpg"
    extra.parent.mkdir(parents=True)
    extra.write_bytes(other)
    faults = {fault.name: fault.problem for fault in fasttile.verify.verify(place).faults}
    assert faults == {
        "a/full/90,56/0/default.jpg": "is missing",
        "a/full/41,/0/default.jpg": "has 20×12 pixels, not 41×26",
        "a/full/20,/0/default.jpg": faults["a/full/20,/0/default.jpg"],
        "a/full/33,20/0/default.jpg": "is no part of the result",
    }
    assert fasttile.verify.repair(place, pixels).is_complete
    assert file_tree(place) == good
    wrong = cut(tmp_path / "b", 255 - pixels, format="jpeg")
    (place / "full/41,/0/default.jpg").write_bytes((wrong / "full/41,/0/default.jpg").read_bytes())
    (place / "full/41,26/0/default.jpg").write_bytes(
        (wrong / "full/41,/0/default.jpg").read_bytes()
    )
    assert fasttile.verify.verify(place, deep=True).is_complete  # only the image is the evidence
    assert not fasttile.verify.verify(place, pixels).is_complete


def test_thumbnails_carry_their_own_resolution(tmp_path: Path) -> None:
    Image.fromarray(noise(131, 210, 3)).save(tmp_path / "x.png", dpi=(300, 300))
    place = cut(tmp_path / "a", tmp_path / "x.png", format="jpeg")
    with Image.open(place / "full/90,/0/default.jpg") as image:
        assert image.info["dpi"][0] == pytest.approx(300 * 90 / 210, abs=0.6)


def test_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        OptionError, match="iiif2: viewers of IIIF 2 at level 0 ask for jpg, not png"
    ):
        cut(tmp_path / "a", noise(9, 9, 3), f"iiif2:id={ADDRESS}")
    with pytest.raises(OptionError, match="not webp; use --format jpeg"):
        cut(tmp_path / "a", noise(9, 9, 3), f"iiif2:id={ADDRESS}", format="webp")
    assert not [*tmp_path.iterdir()]
    report = fasttile.cut(noise(9, 9, 3), tmp_path / "a", layout=LAYOUT, format="webp")
    assert [note.startswith("tiles are webp: viewers") for note in report.notes] == [False, True]
    assert report.notes[0] == "no thumbnail of width 20, 41, 90: the largest complete image is 9×9"
    report = fasttile.cut(noise(9, 9, 3), tmp_path / "b", layout=f"iiif3:id={ADDRESS}")
    assert report.notes == ()


def test_an_image_beside_the_tiles_may_be_too_large_for_the_format(tmp_path: Path) -> None:
    with (
        fasttile.open_source(np.zeros((1, 20_000, 1), np.uint8)) as source,
        pytest.raises(
            OptionError, match="an image beside the tiles would have 20000 pixels a side"
        ),
    ):
        cut(tmp_path / "a", source, tile_size=12_000, format="webp")
