"""Cuts into other layouts: files that exist, tiles left out, and messages."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile import collection
from fasttile.errors import OptionError, TargetError
from fasttile.layouts import RECORD_NAME, iiif
from support import reference
from support.cut_cases import cut_exactly
from support.reading import noise
from support.reference import Array


def decode_image(path: Path | bytes) -> Array:
    """An encoded image's pixels."""
    image = Image.open(io.BytesIO(path) if isinstance(path, bytes) else path)
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def file_names(folder: Path) -> list[str]:
    """All files below a folder but the record."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != RECORD_NAME
    )


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fasttile", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# ---- IIIF ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(("width", "height"), [(700, 300), (128, 64), (130, 1), (64, 63)])
def test_iiif_has_images_of_the_full_region(
    version: int, width: int, height: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iiif, "MAX_LEVEL_IMAGE_SIDE", 200)
    pixels = noise(height, width, 3)
    layout = f"iiif{version}:id=https://example.org/{{name}}"
    cut_exactly(tmp_path / "a b", layout, pixels, tile_size=64)
    folder = tmp_path / "a b"
    info = json.loads((folder / "info.json").read_text())
    assert info["@id" if version == 2 else "id"] == "https://example.org/a%20b"
    levels = {(level.shape[1], level.shape[0]): level for level in reference.levels(pixels)}
    sizes = [(size["width"], size["height"]) for size in info["sizes"]]
    smallest = max(max(size) for size in levels if max(size) <= 64)
    assert sizes == [size for size in levels if smallest <= max(size) <= 200]
    for size in sizes:
        words = [f"{size[0]},{size[1]}"] + ([f"{size[0]},"] if version == 2 else [])
        for word in words:
            found = decode_image(folder / "full" / word / "0" / "default.png")
            assert np.array_equal(found, levels[size])
    largest = decode_image(folder / "full" / "max" / "0" / "default.png")
    assert np.array_equal(largest, levels[sizes[-1]])
    bounded = max(width, height) > 200
    offers = info["profile"][1] if version == 2 else info
    assert offers.get("maxWidth") == (max(sizes[-1]) if bounded else None)
    assert (folder / "full" / "full").exists() == (version == 2 and not bounded)


# ---- blank tiles ---------------------------------------------------------------------------------


def half_white_pixels(width: int, height: int) -> Array:
    pixels = noise(height, width, 3)
    pixels[:, width // 2 :] = 255
    return pixels


@pytest.mark.parametrize("ending", ["", ".pmtiles", ".mbtiles"])
def test_blank_tiles_are_left_out_and_counted(ending: str, tmp_path: Path) -> None:
    dest = tmp_path / f"map{ending}"
    options: Any = {} if ending else {"layout": "xyz"}
    report = fasttile.cut(half_white_pixels(1024, 256), dest, skip_blank=0, **options)
    # 4 + 2 + 1 tiles, of which two and one are white.
    assert (report.tiles, report.blanks) == (4, 3)
    assert "3 blank tiles skipped" in report.notes
    with fasttile.open_pyramid(dest) as reader:
        assert reader.tile(reader.pyramid.stored_range[-1], 3, 0) is None
        assert reader.tile(reader.pyramid.stored_range[-1], 0, 0) is not None


def test_without_skip_blank_no_tile_is_left_out(tmp_path: Path) -> None:
    report = fasttile.cut(half_white_pixels(1024, 256), tmp_path / "map", layout="xyz")
    assert (report.tiles, report.blanks) == (7, 0)


def test_an_image_of_nothing_has_no_tiles(tmp_path: Path) -> None:
    white = np.full((300, 300, 3), 255, np.uint8)
    report = fasttile.cut(white, tmp_path / "map", layout="tms", skip_blank=0)
    assert (report.tiles, report.blanks) == (0, 5)
    assert file_names(tmp_path) == ["map/tilemapresource.xml"]


def test_the_command_line_reports_blank_tiles(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", half_white_pixels(1024, 256))
    done = run("cut", tmp_path / "p.npy", "-o", tmp_path / "p.pmtiles", "--skip-blank")
    assert done.returncode == 0, done.stderr
    assert "3 blank tiles skipped" in done.stdout
    done = run("cut", tmp_path / "p.npy", "-o", tmp_path / "p.szi", "--skip-blank", "0")
    assert done.returncode == 2
    assert done.stderr.startswith("fasttile: skip_blank: Deep Zoom needs all its tiles")


# ---- levels --------------------------------------------------------------------------------------


def test_without_its_largest_levels_it_is_a_smaller_image(tmp_path: Path) -> None:
    pixels = noise(301, 701, 3)
    smaller = reference.levels(pixels)[-3]
    for layout in ("dzi", "zoomify:rounding=ceil", "iiif3:id=http://x/{name}"):
        dest = tmp_path / layout[:4] / "x"
        kept = {"dzi": "0-8", "zoomify": "0-1", "iiif3": "0-1"}[layout.partition(":")[0]]
        options: Any = {"layout": layout, "tile_size": 100, "overlap": 0, "format": "png"}
        dest = dest.with_suffix(".dzi") if layout == "dzi" else dest
        fasttile.cut(pixels, dest, levels=kept, **options)
        other = dest.with_name("y").with_suffix(dest.suffix)
        fasttile.cut(smaller, other, **options)
        names = [
            name.replace("y", "x", 1) for name in file_names(dest.parent) if name.startswith("y")
        ]
        assert [name for name in file_names(dest.parent) if name.startswith("x")] == names
        for name in names:
            one, same = dest.parent / name, dest.parent / name.replace("x", "y", 1)
            if name.endswith("json"):
                continue
            assert one.read_bytes() == same.read_bytes(), name


def test_the_smallest_level_may_be_one_tile(tmp_path: Path) -> None:
    report = fasttile.cut(noise(600, 600, 3), tmp_path / "x.dzi", levels="one-tile")
    assert report.levels == 3
    assert sorted(path.name for path in (tmp_path / "x_files").iterdir()) == [
        ".fasttile.json",
        "10",
        "8",
        "9",
    ]
    with pytest.raises(OptionError, match="the image has levels 0 to 10 in this layout"):
        fasttile.cut(noise(600, 600, 3), tmp_path / "y.dzi", levels="2-11")
    assert not (tmp_path / "y.dzi").exists()


# ---- padding -------------------------------------------------------------------------------------


def test_padding_is_the_background_or_transparent(tmp_path: Path) -> None:
    pixels = noise(100, 300, 3)
    fasttile.cut(pixels, tmp_path / "a", layout="xyz", format="png", background="#1e90ff")
    tile = decode_image(tmp_path / "a" / "1" / "1" / "0.png")
    assert np.array_equal(tile[:100, :44], pixels[:, 256:])
    assert (tile[100:] == (30, 144, 255)).all()
    assert (tile[:, 44:] == (30, 144, 255)).all()
    opaque = np.concatenate([pixels, np.full((100, 300, 1), 255, np.uint8)], axis=2)
    fasttile.cut(opaque, tmp_path / "b", layout="xyz", format="png")
    tile = decode_image(tmp_path / "b" / "1" / "1" / "0.png")
    assert np.array_equal(tile[:100, :44], opaque[:, 256:])
    assert (tile[100:, :, 3] == 0).all()


# ---- results that stand there --------------------------------------------------------------------


def test_a_folder_that_is_no_result_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "precious.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(TargetError) as caught:
            fasttile.cut(noise(9, 9), tmp_path / "site", layout="zoomify", overwrite=overwrite)
        assert "site" in str(caught.value)
    assert file_names(tmp_path) == ["site/precious.txt"]
    fasttile.cut(noise(9, 9), f"{tmp_path}/site/map", layout="zoomify")
    fasttile.cut(noise(600, 9), f"{tmp_path}/site/map", layout="zoomify", overwrite=True)
    assert "NUMTILES" in (tmp_path / "site" / "map" / "ImageProperties.xml").read_text()
    assert (tmp_path / "site" / "map" / "TileGroup0" / "2-0-2.jpg").exists()


@pytest.mark.parametrize(
    "name", ["-dash", "a b", "quo'te\"s", "<&>", "Übersicht ☃", "100%", "#?;", "{z}"]
)
@pytest.mark.parametrize(
    "layout", ["dzi:json", "zoomify", "xyz", "tms", "iiif3:id=http://x/{name}", "zip", "pmtiles"]
)
def test_any_name_comes_back(name: str, layout: str, tmp_path: Path) -> None:
    ending = {"dzi:json": ".dzi", "zip": ".zip", "pmtiles": ".pmtiles"}.get(layout, "")
    dest = tmp_path / f"{name}{ending}"
    given = tmp_path / f"{name.replace('{', '{{').replace('}', '}}')}{ending}"
    fasttile.cut(noise(20, 30), given, layout=None if ending in (".zip", ".pmtiles") else layout)
    with fasttile.open_pyramid(dest) as reader:
        assert reader.name == name
        assert reader.tile(reader.pyramid.stored_range[-1], 0, 0) is not None


# ---- pages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("viewer", ["openseadragon", "openlayers", "leaflet"])
def test_a_page_lies_beside_the_result(viewer: Any, tmp_path: Path) -> None:
    image = noise(300, 500)
    for dest, layout in (("x.dzi", None), ("y", "zoomify"), ("z.pmtiles", None)):
        fasttile.cut(image, tmp_path / dest, layout=layout, viewer=viewer)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("x.dzi", "x_files", "x.html"),
        *("y", "y.html"),
        *("z.pmtiles", "z.html"),
    }
    fasttile.cut(image, tmp_path / "a.zip", viewer=viewer)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert "a.html" in archive.namelist()
    for ending in ("szi", "mbtiles", "tif"):
        with pytest.raises(OptionError, match=r"no page can show .*; use fasttile view"):
            fasttile.cut(image, tmp_path / f"b.{ending}", viewer=viewer)


def test_a_page_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "z.html").write_text("mine")
    for dest in ("z.pmtiles", "z.dzi"):
        with pytest.raises(TargetError, match=r"z\.html exists already"):
            fasttile.cut(noise(30, 50), tmp_path / dest, viewer="leaflet")
        assert file_names(tmp_path) == ["z.html"]
        with pytest.raises(TargetError, match=r"z\.html: it is no page of fasttile"):
            fasttile.cut(noise(30, 50), tmp_path / dest, viewer="leaflet", overwrite=True)
        assert (tmp_path / "z.html").read_text() == "mine"
    (tmp_path / "z.html").unlink()
    for _ in range(2):
        fasttile.cut(noise(30, 50), tmp_path / "z.pmtiles", viewer="leaflet", overwrite=True)
        assert file_names(tmp_path) == ["z.html", "z.pmtiles"]


def test_a_collections_tiles_are_not_replaced(tmp_path: Path) -> None:
    Image.fromarray(noise(30, 50, 3)).save(tmp_path / "p.png")
    collection.create(tmp_path / "x.dzc", [tmp_path / "p.png"])
    before = file_names(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(TargetError, match="x_files"):
            fasttile.cut(noise(9, 9), tmp_path / "x.dzi", overwrite=overwrite)
    assert file_names(tmp_path) == before


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "CMYK", "1"])
@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp", "gif", "bmp"])
def test_background_lies_beside_any_image(ending: str, mode: str, tmp_path: Path) -> None:
    """A canvas wider than the image, for each way its rows come."""
    source = tmp_path / f"x.{ending}"
    try:
        Image.fromarray(noise(130, 150, 3)).convert(mode).save(source)
    except (OSError, ValueError):
        pytest.skip(f"Pillow does not write {mode} as {ending}")
    fasttile.cut(source, tmp_path / "x", layout="xyz", format="png", tile_size=64)
    with fasttile.open_source(source) as opened:
        expected = opened.rows(0, 64)[:, :64].copy() if opened.is_mapped else None
    with fasttile.open_pyramid(tmp_path / "x") as pyramid:
        found = pyramid.pixels(pyramid.pyramid.stored_range[-1], 0, 0)
        assert found is not None
        assert found.shape[:2] == (64, 64)
        edge = pyramid.pixels(pyramid.pyramid.stored_range[-1], 2, 2)
        assert edge is not None
        assert (edge[2:, 22:] == edge[-1, -1]).all()  # background, or nothing
        if expected is not None and mode in ("L", "RGB"):
            np.testing.assert_array_equal(found, expected)
