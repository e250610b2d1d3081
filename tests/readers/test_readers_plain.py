"""Tiles without a descriptor, and IIIF of the static tiler: as other programs write them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile.cli import main
from fasttile.errors import OptionError, SourceError, TargetError
from fasttile.options.read import ReadOptions
from fasttile.readers import open_result
from fasttile.readers.source import ResultSource
from support.cut_cases import any_format_in_iiif2, cut_exactly
from support.reading import noise
from support.reference import Array

PIXELS = noise(77, 130, 3)


def image_of(path: str) -> Array:
    with ResultSource(open_result(path), ReadOptions()) as source:
        return source.rows(0, source.height).copy()


def plain(tmp_path: Path, layout: str) -> Path:
    """A folder of tiles alone."""
    place = cut_exactly(tmp_path / "map", layout, PIXELS)
    for name in ("tiles.json", "tilemapresource.xml", ".fasttile.json"):
        (place / name).unlink(missing_ok=True)
    return place


PLAIN_CASES = [
    ("xyz", "{z}/{x}/{y}.png"),
    ("xyz:template={z}/{y}/{x}", "{z}/{y}/{x}.png"),
    ("xyz:template={z}-{x}-{y}", "{z}-{x}-{y}.png"),
    ("tms", "{z}/{x}/{-y}.png"),
]


@pytest.mark.parametrize(("layout", "template"), PLAIN_CASES)
def test_tiles_are_named_by_a_template(layout: str, template: str, tmp_path: Path) -> None:
    place = plain(tmp_path, layout)
    source = f"{place}/{template}"
    exact = f"{source}#size=130,77"
    assert np.array_equal(image_of(exact), PIXELS)
    padded = image_of(source)  # up to the last tiles
    assert padded.shape == (96, 160, 3)
    top = 96 - 77 if layout == "tms" else 0
    assert np.array_equal(padded[top : top + 77, :130], PIXELS)
    report = fasttile.convert(exact, tmp_path / "new.pmtiles")
    assert np.array_equal(image_of(str(report.path)), PIXELS)
    assert fasttile.verify.verify(exact, PIXELS, format="png").is_complete
    fasttile.cut(exact, tmp_path / "new.dzi", format="png")
    assert np.array_equal(image_of(str(tmp_path / "new.dzi")), PIXELS)
    assert fasttile.cut(exact, tmp_path / "r.dzi", resume=True).tiles
    for target in (place, place / "x.dzi"):
        with pytest.raises(TargetError, match="would replace"):
            fasttile.cut(exact, target, layout="dzi" if target.suffix else "xyz", overwrite=True)


def test_an_order_that_is_not_certain_is_asked_for(tmp_path: Path) -> None:
    place = plain(tmp_path, "xyz")
    for path in (str(place), f"{place}#size=130,77"):
        with pytest.raises(SourceError, match=r"name them: .*/map/\{z\}/\{x\}/\{y\}\.png, or"):
            open_result(path)
    shutil.make_archive(str(tmp_path / "map"), "zip", place)
    with pytest.raises(SourceError, match="tiles without a descriptor"):
        open_result(tmp_path / "map.zip")
    inside = f"{tmp_path}/map.zip/{{z}}/{{x}}/{{y}}.png#size=130,77"
    assert np.array_equal(image_of(inside), PIXELS)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{z}/{x}/{y}.jpg", "no tile is named"),
        ("{z}/{x}/{y}", "extension is missing"),
        ("{z}/{y}/{-y}{x}.png", "{-y} is for"),
        ("{z}/{x}/{y}.png#size=30,77", "size 30×77 does not fit"),
        ("{z}/{x}/{y}.png#size=130,64", "size 130×64 does not fit"),
        ("{z}/{x}/{y}.png#size=1000,1000", "reaches beyond the canvas of 256×256"),
    ],
)
def test_what_does_not_fit(template: str, message: str, tmp_path: Path) -> None:
    place = plain(tmp_path, "xyz")
    with pytest.raises(SourceError, match=message.replace("{", r"\{")):
        open_result(f"{place}/{template}")
    (place / "3/0/0.png").write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"0\.png is no JPEG"):
        open_result(f"{place}/{{z}}/{{x}}/{{y}}.png")


def test_tiles_that_end_with_the_image(tmp_path: Path) -> None:
    """Some tilers cut the last tiles off, others leave the first zooms out."""
    for col in range(5):
        for row in range(3):
            path = tmp_path / f"map/3/{col}/{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            part = PIXELS[row * 32 : row * 32 + 32, col * 32 : col * 32 + 32]
            Image.fromarray(part).save(path)
    source = f"{tmp_path}/map/{{z}}/{{x}}/{{y}}.png"
    assert np.array_equal(image_of(source), PIXELS)
    with open_result(source) as reader:
        assert reader.pyramid.stored_range == range(8, 9)
    for col in (0, 1):  # a part of a map
        shutil.rmtree(tmp_path / f"map/3/{col}")
    assert np.array_equal(image_of(source), PIXELS[:, 64:])


@pytest.mark.parametrize("container", ["fs", "zip"])
def test_google_tiles_of_libvips(container: str, tmp_path: Path) -> None:
    pyvips = pytest.importorskip("pyvips")
    place = str(tmp_path / "g") + ".zip" * (container == "zip")
    image = pyvips.Image.new_from_array(noise(300, 700, 3))
    image.dzsave(place, layout="google", suffix=".png", container=container)
    assert np.array_equal(image_of(f"{place}#size=700,300"), noise(300, 700, 3))
    assert image_of(place).shape == (512, 768, 3)
    assert fasttile.verify.verify(f"{place}#size=700,300", noise(300, 700, 3)).is_complete


def test_commands_take_a_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = f"{plain(tmp_path, 'xyz')}/{{z}}/{{x}}/{{y}}.png"
    out = str(tmp_path / "new.dzi")
    assert main(["info", source, "--size", "130,77"]) == 0
    assert "130×77 pixels" in capsys.readouterr().out
    assert main(["cut", source, "--size", "130,77", "-o", out, "--format", "png"]) == 0
    assert np.array_equal(image_of(out), PIXELS)
    assert main(["verify", source, "--size", "130,77"]) == 0
    szi = str(tmp_path / "new.zip")
    assert main(["convert", source, szi, "--size", "130,77"]) == 0
    assert np.array_equal(image_of(szi), PIXELS)
    assert main(["info", source, "--size", "130x77"]) == 2
    assert "is not W,H in whole pixels" in capsys.readouterr().err
    assert main(["cut", source, "-o", str(tmp_path / "there/"), "-q"]) == 0
    assert (tmp_path / "there/map.dzi").exists()  # it has the name of the folder


def write_static_iiif(
    folder: Path, version: int, scales: int, sizes: list[tuple[int, int]]
) -> None:
    """Tiles and info.json as iiif_static.py of the package iiif 1.0.10 writes them."""
    height, width, _ = PIXELS.shape
    image = Image.fromarray(PIXELS)
    for scale in (1 << n for n in range(scales)):
        for y in range(0, height, 32 * scale):
            for x in range(0, width, 32 * scale):
                w, h = min(32 * scale, width - x), min(32 * scale, height - y)
                part = image.crop((x, y, x + w, y + h)).resize((-(-w // scale), -(-h // scale)))
                place = folder / f"{x},{y},{w},{h}/{part.width},/0/default.png"
                place.parent.mkdir(parents=True)
                part.save(place)
    for size in sizes:
        place = folder / f"full/{size[0]},/0/default.png"
        place.parent.mkdir(parents=True)
        image.resize(size).save(place)
    info: dict[str, Any] = {
        "@context": f"http://iiif.io/api/image/{version}/context.json",
        "width": width,
        "height": height,
        "tiles": [{"width": 32, "height": 32, "scaleFactors": [1 << n for n in range(scales)]}],
        "sizes": [{"width": w, "height": h} for w, h in sizes],
    }
    if version == 2:
        offers = {"formats": ["png"], "qualities": ["default"]}
        info |= {"@id": "http://a.org/i", "profile": ["http://iiif.io/…/level0.json", offers]}
    else:
        info |= {"id": "http://a.org/i", "profile": "level0", "preferredFormats": ["png"]}
    (folder / "info.json").write_text(json.dumps(info))


@pytest.mark.parametrize("version", [2, 3])
def test_results_of_the_static_iiif_tiler(version: int, tmp_path: Path) -> None:
    place = tmp_path / "i"
    write_static_iiif(place, version, 2, [(33, 20), (17, 10), (8, 5)])
    assert np.array_equal(image_of(str(place)), PIXELS)
    with open_result(place) as reader:
        # 33×20 is no tile, nor is what comes after it.
        assert [level.width for level in reader.pyramid.stored_levels] == [65, 130]
    shutil.rmtree(place)
    write_static_iiif(place, version, 3, [(17, 10), (8, 5)])
    with open_result(place) as reader:
        assert [level.width for level in reader.pyramid.stored_levels] == [17, 33, 65, 130]
        tile = reader.tile(5, 0, 0)
    fasttile.convert(place, tmp_path / "b.dzi")
    assert np.array_equal(image_of(str(tmp_path / "b.dzi")), PIXELS)
    assert (tmp_path / "b_files/5/0_0.png").read_bytes() == tile
    with any_format_in_iiif2():
        fasttile.convert(place, tmp_path / "c")
    assert np.array_equal(image_of(str(tmp_path / "c")), PIXELS)
    shutil.rmtree(place)
    write_static_iiif(place, version, 2, [])
    with any_format_in_iiif2(), pytest.raises(OptionError, match="has to have all of its smallest"):
        fasttile.convert(place, tmp_path / "d")
