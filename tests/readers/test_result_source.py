"""Results as sources: the largest level of each layout and container is an image."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile.errors import OptionError, SourceError, TargetError
from fasttile.geometry import Region
from fasttile.options.read import ReadOptions
from fasttile.readers import open_result
from fasttile.readers.source import ResultSource
from support.cut_cases import RESULT_CASES, cut_exactly
from support.reading import noise, read_checked
from support.reference import Array


def read_result(path: Path, **options: Any) -> Array:
    """All pixels of a result, read as an image in various ways."""
    with ResultSource(open_result(path), ReadOptions(**options)) as source:
        return read_checked(source)


@pytest.mark.parametrize("bands", [1, 4])
@pytest.mark.parametrize(("name", "layout"), RESULT_CASES)
def test_every_result_is_an_image(
    name: str, layout: str | None, bands: int, tmp_path: Path
) -> None:
    pixels = noise(77, 130, bands)
    place = cut_exactly(tmp_path / name, layout, pixels)
    assert np.array_equal(read_result(place), pixels)
    with ResultSource(open_result(place), ReadOptions()) as source:
        assert source.rows(33, 34).tolist() == pixels[33:34].tolist()
        part = source.crop(Region(7, 31, 99, 40)).crop(Region(1, 2, 90, 33))
        assert np.array_equal(part.rows(0, 33), pixels[33:66, 8:98])


def test_deep_samples_and_overlap(tmp_path: Path) -> None:
    deep = noise(50, 70, 1, dtype=np.uint16)
    place = cut_exactly(tmp_path / "map.dzi", None, deep, overlap=5, bits=16)
    assert np.array_equal(read_result(place), deep)
    again = fasttile.cut(place, tmp_path / "again.dzi", bits=16, format="png", tile_size=16).path
    assert np.array_equal(read_result(Path(again)), deep)


def test_a_cut_of_a_result_is_that_of_its_image(tmp_path: Path) -> None:
    pixels = noise(200, 300, 3)
    old = cut_exactly(tmp_path / "old", "zoomify", pixels)
    options: dict[str, Any] = {"format": "png", "tile_size": 64, "region": (3, 5, 190, 150)}
    with fasttile.open_pyramid(pixels, **options) as expected:
        with fasttile.open_pyramid(old, **options) as found:
            for tile in expected.pyramid.tiles():
                assert found.tile(*tile) == expected.tile(*tile)
        with fasttile.open_pyramid(old) as reader:
            fasttile.cut(reader, tmp_path / "new.dzi", **options)
            assert reader.tile(8, 0, 0)  # the caller's pyramid stays open
            walked = dict(fasttile.iter_tiles(reader, **options))
        with fasttile.open_pyramid(tmp_path / "new.dzi") as new:
            for tile in expected.pyramid.tiles():
                assert new.tile(*tile) == expected.tile(*tile)
                assert np.array_equal(walked[tile], expected.pixels(*tile))
    with fasttile.open_pyramid(pixels, tile_size=64) as on_demand:
        walked = dict(fasttile.iter_tiles(on_demand, overlap=0))
        assert np.array_equal(walked[fasttile.Tile(9, 0, 0)], pixels[:254, :254])


def test_notes(tmp_path: Path) -> None:
    pixels = noise(40, 40, 3)
    jpeg = fasttile.cut(pixels, tmp_path / "j.dzi").path
    png = fasttile.cut(jpeg, tmp_path / "p.dzi", format="png")
    assert png.notes == ("its tiles are JPEG: they are compressed a second time",)
    assert fasttile.cut(png.path, tmp_path / "q.dzi").notes == ()


@pytest.mark.parametrize("damage", ["missing", "damaged", "empty", "small", "16 bits"])
def test_a_wrong_tile_is_named_and_nothing_is_published(damage: str, tmp_path: Path) -> None:
    pixels = noise(100, 100, 3)
    old = cut_exactly(tmp_path / "old.dzi", None, pixels, overlap=1)
    tile = tmp_path / "old_files/7/1_2.png"
    if damage == "missing":
        tile.unlink()
    elif damage in ("small", "16 bits"):
        wrong = noise(3, 5, 3) if damage == "small" else noise(34, 34, 1, dtype=np.uint16)
        out = io.BytesIO()
        Image.fromarray(wrong.squeeze()).save(out, "PNG")
        tile.write_bytes(out.getvalue())
    else:
        tile.write_bytes(tile.read_bytes()[: 100 if damage == "damaged" else 0])
    with pytest.raises(SourceError, match=r"1_2\.png"):
        fasttile.cut(old, tmp_path / "new.dzi", allow_truncated=damage == "16 bits")
    assert {path.name for path in tmp_path.iterdir()} == {"old.dzi", "old_files"}
    if damage in ("missing", "damaged", "empty"):
        report = fasttile.cut(old, tmp_path / "new.dzi", format="png", allow_truncated=True)
        assert "1 damaged or missing tiles are background" in report.notes
        expected = pixels.copy()
        expected[64:96, 32:64] = 255
        assert np.array_equal(read_result(tmp_path / "new.dzi"), expected)


def test_missing_tiles_of_sparse_results_are_background(tmp_path: Path) -> None:
    pixels = noise(96, 96, 3)
    pixels[32:64, 64:] = 0
    place = cut_exactly(tmp_path / "x", "xyz", pixels, skip_blank=0, background="black")
    assert not (place / "2/2/1.png").exists()
    again = fasttile.cut(place, tmp_path / "new.dzi", format="png").path
    assert np.array_equal(read_result(Path(again)), pixels)
    (place / ".fasttile.json").unlink()  # the background is not known then
    assert (read_result(place, background=(1, 2, 3))[32:64, 64:] == (1, 2, 3)).all()
    alpha = noise(96, 96, 4)
    alpha[32:64, 64:] = 0
    place = cut_exactly(tmp_path / "a", "xyz", alpha, skip_blank=0)
    assert not (place / "2/2/1.png").exists()
    assert (read_result(place)[32:64, 64:, 3] == 0).all()


def test_tiles_with_fewer_bands_than_others(tmp_path: Path) -> None:
    """Programs store opaque or grey tiles without the bands that they do not need."""
    pixels = noise(96, 96, 3)
    place = cut_exactly(tmp_path / "map.dzi", None, pixels, overlap=0)
    grey, clear = noise(32, 32), noise(32, 32, 4)
    Image.fromarray(grey).save(tmp_path / "map_files/7/0_1.png")
    Image.fromarray(clear).save(tmp_path / "map_files/7/2_1.png")
    found = read_result(place)
    assert found.shape == (96, 96, 4)
    assert (found[32:64, :32] == np.dstack([grey, grey, grey, np.full_like(grey, 255)])).all()
    assert (found[32:64, 64:] == clear).all()
    assert (found[:32, :32, :3] == pixels[:32, :32]).all()
    assert (found[:32, :32, 3] == 255).all()
    webp = noise(96, 96, 4)
    webp[:, :64, 3] = 255
    place = cut_exactly(tmp_path / "w.dzi", None, webp, format="webp", quality=100, overlap=0)
    assert (read_result(place)[..., 3] == webp[..., 3]).all()


def test_profiles_of_tiles_count(tmp_path: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.fromarray(noise(40, 40, 3))
    image.save(tmp_path / "a.png", icc_profile=profile)
    for form in ("png", "jpeg", "webp"):
        place = tmp_path / f"{form}.dzi"
        fasttile.cut(tmp_path / "a.png", place, icc="keep", format=form)
        with ResultSource(open_result(place), ReadOptions()) as source:
            assert source.metadata.icc_profile == profile


def test_a_result_is_not_replaced_by_its_own_cut(tmp_path: Path) -> None:
    pixels = noise(40, 40, 3)
    dzi = fasttile.cut(pixels, tmp_path / "map.dzi").path
    folder = Path(fasttile.cut(pixels, tmp_path / "z", layout="zoomify").path)
    for source, target, layout in [
        (dzi, dzi, "dzi"),
        (dzi, tmp_path / "map_files", "zoomify"),
        (dzi, tmp_path / "map_files/x.dzi", "dzi"),
        (dzi, tmp_path / "map_files/new/x.dzi", "dzi"),
        (folder, folder, "xyz"),
        (folder, folder / "x.dzi", "dzi"),
        (folder / "ImageProperties.xml", folder, "zoomify"),
        (folder / "ImageProperties.xml", folder / "x.szi", "dzi"),
    ]:
        with pytest.raises(TargetError, match="would replace"):
            fasttile.cut(source, target, layout=layout, overwrite=True)
    assert fasttile.verify.verify(dzi, pixels).is_complete
    assert fasttile.verify.verify(folder, pixels).is_complete


def test_what_is_refused(tmp_path: Path) -> None:
    place = fasttile.cut(noise(40, 40, 3), tmp_path / "map.szi").path
    with pytest.raises(OptionError, match="page: a result has one image"):
        fasttile.cut(place, tmp_path / "x.dzi", page=1)
    with pytest.raises(SourceError, match=r"40×40 = 1,600 pixels, more than the limit \(1,599\)"):
        fasttile.cut(place, tmp_path / "x.dzi", max_pixels=1599)
    with fasttile.open_pyramid(place) as reader:
        pass
    with pytest.raises(SourceError, match=r"map\.szi"):
        fasttile.cut(reader, tmp_path / "x.dzi")
    huge = tmp_path / "huge"
    fasttile.cut(noise(40, 40, 3), huge, layout="xyz", overwrite=True)
    text = (huge / "tiles.json").read_text()
    side = 256 << 30
    for name in ("width", "height", "canvas"):
        text = text.replace(f'"{name}": {256 if name == "canvas" else 40}', f'"{name}": {side}')
    (huge / "tiles.json").write_text(text.replace('"maxzoom": 0', '"maxzoom": 30'))
    with pytest.raises(SourceError, match="more than its size makes likely"):
        fasttile.cut(huge, tmp_path / "x.dzi")
    assert not (tmp_path / "x.dzi").exists()


def test_a_command_cuts_results_of_several_kinds(tmp_path: Path) -> None:
    from fasttile.cli import main

    pixels = noise(40, 50, 3)
    folder = cut_exactly(tmp_path / "in/folder", "zoomify", pixels)
    file = cut_exactly(tmp_path / "in/file.szi", None, pixels)
    code = main(["cut", str(folder), str(file), "-o", str(tmp_path / "out"), "--format", "png"])
    assert code == 0
    for name in ("folder", "file"):
        assert np.array_equal(read_result(tmp_path / f"out/{name}.dzi"), pixels)


@pytest.mark.parametrize("layout", ["dz", "zoomify", "iiif", "iiif3"])
def test_results_of_libvips(layout: str, tmp_path: Path) -> None:
    pyvips = pytest.importorskip("pyvips")
    pixels = noise(201, 301, 3)
    image = pyvips.Image.new_from_array(pixels)
    image.dzsave(str(tmp_path / "a"), layout=layout, suffix=".png", tile_size=64)
    place = tmp_path / ("a.dzi" if layout == "dz" else "a")
    assert np.array_equal(read_result(place), pixels)
