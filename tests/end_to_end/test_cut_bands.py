"""Complete cuts with bands and missing samples: tiles against GDAL and an oracle of levels."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile import cli
from fasttile.options.cut import option_table
from fasttile.types import Shrink
from support import reference
from support.command import run
from support.gdal_files import NO_GEOREFERENCE, gdal_bands, gdal_mask, read_cut, write_gdal
from support.reading import noise

pytestmark = pytest.mark.filterwarnings(NO_GEOREFERENCE)

SIZE, OVERLAP = 64, 1
OPTIONS: dict[str, Any] = {"tile_size": SIZE, "overlap": OVERLAP, "threads": 2}


def tile_files(target: Path) -> dict[str, bytes]:
    """All tiles of a Deep Zoom result, by their path."""
    folder = target.with_name(f"{target.stem}_files")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*_*.*"))
        if not path.name.startswith(".")
    }


def pixels_of(data: bytes) -> Any:
    """Pixels of a tile, (height, width, bands)."""
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def check_tiles(target: Path, full: Any, method: str = "mean") -> None:
    """Compare each PNG tile of a result with the levels that the oracle makes of all pixels."""
    files = tile_files(target)
    count = 0
    for (level, col, row), expected in reference.tiles(full, SIZE, OVERLAP, method=method):
        found = pixels_of(files[f"{level}/{col}_{row}.png"])
        np.testing.assert_array_equal(found, expected, f"{level}/{col}_{row}")
        count += 1
    assert count == len(files)


@pytest.fixture
def heights(tmp_path: Path) -> Path:
    """Heights with holes, as floats."""
    y, x = np.mgrid[:150, :210]
    values = (800 + 7 * x + 2 * y).astype(np.float32)[..., None]
    values[(x - 100) ** 2 + (y - 70) ** 2 < 1500] = -9999
    values[::7, ::5] = -9999
    form = {"compress": "deflate", "tiled": True, "blockxsize": 64, "blockysize": 64}
    return write_gdal(tmp_path / "heights.tif", values, nodata=-9999, **form)


@pytest.mark.parametrize("method", ["mean", "nearest", "mode"])
def test_missing_samples_are_in_no_average(heights: Path, method: Shrink) -> None:
    target = heights.with_name("map.dzi")
    window = (800.0, 2600.0)
    fasttile.cut(heights, target, format="png", window=window, shrink=method, **OPTIONS)
    values, mask = gdal_bands(heights, 1)[..., 0].astype(np.float64), gdal_mask(heights)
    grey = np.floor((np.clip(values, 800, 2600) - 800) * 255 / 1800 + 0.5).astype(np.uint8)
    full = np.stack([np.where(mask > 0, grey, 0), mask], axis=2)
    check_tiles(target, full, method)


def test_jpeg_tiles_have_the_background(heights: Path) -> None:
    target = heights.with_name("map.dzi")
    fasttile.cut(heights, target, background="#0000ff", window=(0.0, 3000.0), **OPTIONS)
    files = tile_files(target)
    with Image.open(io.BytesIO(files["8/1_1.jpg"])) as image:
        tile = np.asarray(image.convert("L")).astype(int)
    hole, luma_of_blue = tile[5:15, 30:40], 29
    assert np.abs(hole - luma_of_blue).max() <= 12


def test_a_missing_image_is_left_out_of_sparse_layouts(tmp_path: Path) -> None:
    values = np.zeros((300, 300, 1), np.uint8)
    values[:40, :40] = 9
    path = write_gdal(tmp_path / "a.tif", values, nodata=0)
    report = fasttile.cut(path, tmp_path / "a.pmtiles", format="png", skip_blank=0, tile_size=64)
    assert report.blanks > report.tiles > 0


SPECS: list[dict[str, Any]] = [
    {"bands": "4,3,2"},
    {"bands": "1=#00f,3=#0f0,6=#f80", "nodata": 0},
    {"bands": "5=viridis", "nodata": "none"},
    {"bands": "2={0:#000000,50%:#00ff0080,100%:#ffffff,nv:#ff0000}", "nodata": 17},
]


@pytest.mark.parametrize("options", SPECS, ids=str)
@pytest.mark.parametrize("inside", [True, False])
def test_all_ways_to_cut_give_the_same_tiles(
    tmp_path: Path, options: dict[str, Any], inside: bool
) -> None:
    valid = np.random.default_rng(3).random((130, 170)) > 0.2
    form: dict[str, Any] = {"compress": "lzw", "blockysize": 11}
    if inside:
        form = {"compress": "deflate", "tiled": True, "blockxsize": 48, "blockysize": 32}
    path = write_gdal(
        tmp_path / "a.tif", noise(130, 170, 6), mask=valid, inside=inside, nodata=0, **form
    )
    options = {**options, "format": "png", **OPTIONS}
    target = tmp_path / "map.dzi"
    fasttile.cut(path, target, **options)
    files = tile_files(target)
    full = read_cut(
        path, **{name: options[name] for name in ("bands", "nodata") if name in options}
    )
    check_tiles(target, full)
    # On demand.
    with fasttile.open_pyramid(path, **options) as pyramid:
        for name, data in files.items():
            level, _, place = name.removesuffix(".png").partition("/")
            col, row = map(int, place.split("_"))
            assert pyramid.tile(int(level), col, row) == data, name
    # As pixels.
    for tile, pixels in fasttile.iter_tiles(path, **options):
        expected = pixels_of(files[f"{tile.level}/{tile.col}_{tile.row}.png"])
        np.testing.assert_array_equal(pixels, expected)
    # The record of the result has the options.
    report = fasttile.verify.verify(target, path)
    assert report.is_complete, report.faults[:3]
    assert not fasttile.verify.verify(target, path, bands="1").is_complete


def test_workers_give_the_same_tiles(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    table = tmp_path / "colours.txt"
    table.write_text("0 0 0 255\n255 255 0 0\n")
    for name in ("a", "b"):
        write_gdal(folder / f"{name}.tif", noise(90, 70, 5), mask=noise(90, 70) > 50, inside=False)
    options: dict[str, Any] = {"bands": f"4={table}", "format": "png", **OPTIONS}
    for name in ("a", "b"):
        fasttile.cut(folder / f"{name}.tif", tmp_path / "one" / f"{name}.dzi", **options)
    results = list(fasttile.cut_all([str(folder)], tmp_path / "two", workers=2, **options))
    assert [result.error for result in results] == ["", ""]
    for name in ("a", "b"):
        one = tile_files(tmp_path / "one" / f"{name}.dzi")
        assert one == tile_files(tmp_path / "two" / f"{name}.dzi")


def test_update_sees_a_mask_and_a_colour_file(tmp_path: Path, capsys: Any) -> None:
    folder, table = tmp_path / "in", tmp_path / "colours.txt"
    folder.mkdir()
    path = write_gdal(folder / "a.tif", noise(60, 50, 1))
    write_gdal(folder / "b.tif", noise(60, 50, 1))
    table.write_text("0 0 0 255\n255 255 0 0\n")
    words = ["cut", str(folder), "-o", str(tmp_path / "out"), "--bands", f"1={table}", "--update"]

    def count_again() -> int:
        report = tmp_path / "report.jsonl"
        assert cli.main([*words, "-q", "--report", str(report)]) == 0
        lines = [json.loads(line) for line in report.read_text().splitlines()]
        return sum(not line.get("skipped") for line in lines)

    assert count_again() == 2
    assert count_again() == 0
    other = write_gdal(tmp_path / "c.tif", noise(60, 50, 1), mask=noise(60, 50) > 9, inside=False)
    other.with_name("c.tif.msk").rename(f"{path}.msk")
    assert count_again() == 1
    assert count_again() == 0
    table.write_text("0 0 0 255\n255 255 255 0\n")
    assert count_again() == 2
    Path(f"{path}.msk").unlink()
    assert count_again() == 1


def test_a_record_of_strangers_names_no_file_to_read(tmp_path: Path) -> None:
    path, target = write_gdal(tmp_path / "a.tif", noise(60, 50, 1)), tmp_path / "a.dzi"
    secret = tmp_path / "secret.txt"
    secret.write_text("0 1 2 3\n255 9 9 9\n")
    fasttile.cut(path, target, format="png", bands="1=viridis", **OPTIONS)
    record = tmp_path / "a_files" / ".fasttile.json"
    content = json.loads(record.read_text())
    assert content["options"]["bands"] == "1=viridis"
    content["options"]["bands"] = f"1={secret}"
    record.write_text(json.dumps(content))
    from fasttile.jobs.record import recorded_options

    assert recorded_options(record.read_bytes()) == {}


def test_resume_sees_other_bands(tmp_path: Path) -> None:
    path, target = write_gdal(tmp_path / "a.tif", noise(300, 300, 5)), tmp_path / "a.dzi"

    def stop(progress: Any) -> bool:
        return progress.tiles < 5

    options = {"format": "png", "resume": True, **OPTIONS}
    with pytest.raises(fasttile.CancelledError):
        fasttile.cut(path, target, progress=stop, bands="4,3,2", **options)
    with pytest.raises(fasttile.FasttileError, match="bands"):
        fasttile.cut(path, target, bands="3,2,1", **options)
    fasttile.cut(path, target, bands="4,3,2", **options)
    check_tiles(target, gdal_bands(path, 4, 3, 2))


def test_results_and_open_sources_have_bands_too(tmp_path: Path) -> None:
    pixels = noise(90, 120, 3)
    first = fasttile.cut(pixels, tmp_path / "a.dzi", format="png", **OPTIONS).path
    again = fasttile.cut(first, tmp_path / "b.dzi", format="png", bands="3,1,2", **OPTIONS).path
    check_tiles(again, pixels[..., [2, 0, 1]])
    with fasttile.open_source(pixels) as source:
        fasttile.cut(source, tmp_path / "c.dzi", format="png", bands="2", nodata=5, **OPTIONS)
        assert source.rows(0, 1).shape == (1, 120, 3)  # it is open
        with pytest.raises(fasttile.OptionError, match="no band 4"):
            fasttile.cut(source, tmp_path / "d.dzi", bands="4", **OPTIONS)
        assert source.rows(0, 1).shape == (1, 120, 3)
    grey = pixels[..., 1]
    full = np.stack([np.where(grey == 5, 0, grey), np.where(grey == 5, 0, 255)], 2)
    check_tiles(tmp_path / "c.dzi", full.astype(np.uint8))


def test_mosaics_of_images_with_missing_samples(tmp_path: Path) -> None:
    parts = []
    for number in range(2):
        pixels = noise(40, 60, 5)
        pixels[number * 9 : number * 9 + 9, :20] = 7
        write_gdal(tmp_path / f"r0_c{number}.tif", pixels, nodata=7)
        parts.append(read_cut(tmp_path / f"r0_c{number}.tif", bands="4,3,2"))
    pattern = f"grid:{tmp_path}/r{{row}}_c{{col}}.tif"
    options: dict[str, Any] = {"format": "png", **OPTIONS}
    target = fasttile.cut(pattern, tmp_path / "a.dzi", bands="4,3,2", **options).path
    check_tiles(target, np.concatenate(parts, axis=1))
    target = fasttile.cut(pattern, tmp_path / "b.dzi", bands="1=viridis", **options).path
    coloured = [read_cut(tmp_path / f"r0_c{number}.tif", bands="1=viridis") for number in range(2)]
    check_tiles(target, np.concatenate(coloured, axis=1))
    for number in range(2):
        write_gdal(tmp_path / f"r0_c{number}.tif", noise(40, 60, 2, dtype=np.uint16))
    with pytest.raises(fasttile.OptionError, match="would differ between the images of a mosaic"):
        fasttile.cut(pattern, tmp_path / "c.dzi", bands="1=#00f,2=#0f0", **options)
    window = (0.0, 65535.0)
    fasttile.cut(pattern, tmp_path / "c.dzi", bands="1=#00f,2=#0f0", window=window, **options)


VRT = """<VRTDataset rasterXSize="60" rasterYSize="40">{bands}</VRTDataset>"""
BAND = """<VRTRasterBand dataType="Byte" band="{number}"><NoDataValue>7</NoDataValue><SimpleSource>
<SourceFilename relativeToVRT="1">a.tif</SourceFilename><SourceBand>{number}</SourceBand>
<SrcRect xOff="0" yOff="0" xSize="60" ySize="40"/><DstRect xOff="0" yOff="0" xSize="60" ySize="40"/>
</SimpleSource></VRTRasterBand>"""


def test_a_vrt_has_the_values_of_its_images(tmp_path: Path) -> None:
    pixels = noise(40, 60, 3)
    pixels[:9, :9] = 7
    write_gdal(tmp_path / "a.tif", pixels, nodata=7, photometric="rgb")
    path = tmp_path / "a.vrt"
    path.write_text(VRT.format(bands="".join(BAND.format(number=number) for number in (1, 2, 3))))
    np.testing.assert_array_equal(read_cut(path), pixels)
    found = read_cut(path, nodata=7)
    np.testing.assert_array_equal(found[..., 3] > 0, (pixels != 7).any(axis=2))
    with pytest.raises(fasttile.OptionError, match="a VRT chooses the bands"):
        read_cut(path, bands="1")


def test_collections_take_bands(tmp_path: Path) -> None:
    path = write_gdal(tmp_path / "a.tif", noise(60, 50, 5))
    fasttile.collection.create(tmp_path / "wall.dzc", [path], bands="4,3,2", format="png")
    found = next(iter(sorted((tmp_path / "wall_files").rglob("*.png"))), None)
    assert found is not None
    with Image.open(found) as image:
        assert image.mode == "RGB"


@pytest.mark.slow
def test_the_command(tmp_path: Path, heights: Path) -> None:
    target = tmp_path / "map.dzi"
    words = ["--format", "png", "--tile-size", "64", "--overlap", "1"]
    done = run("cut", heights, "-o", target, "--bands", "1=viridis", "--nodata", "-9999", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nodata -9999 is transparent" in done.stdout
    check_tiles(target, read_cut(heights, bands="1=viridis", nodata=-9999))
    for option, value, problem in [
        ("--bands", "7", "no band 7"),
        ("--nodata", "x", "--nodata: 'x' is neither a number nor nan nor none"),
        ("--bands", "1=nofile.txt", "no such file"),
    ]:
        failed = run("cut", heights, "-o", tmp_path / "x.dzi", option, value)
        assert failed.returncode in (1, 2)
        assert problem in failed.stderr
        assert failed.stderr.count("\n") == 1
    help_text = run("cut", "--help").stdout
    assert "--bands" in help_text
    assert "--bits" not in help_text
    assert "--worker-timeout" not in help_text


def test_all_commands_that_look_at_images_take_bands() -> None:
    for command in ("cut", "verify", "collection", "view"):
        assert {"bands", "nodata"} <= set(option_table(command))


def test_parameters_in_place_of_hidden_options(tmp_path: Path) -> None:
    pixels = noise(70, 90, 1, dtype=np.uint16)
    path = write_gdal(tmp_path / "a.tif", pixels)
    for number, words in enumerate(
        [["--bits", "16", "--format", "png"], ["--format", "png:bits=16"]]
    ):
        assert (
            cli.main(["cut", str(path), "-q", "-o", str(tmp_path / f"{number}.dzi"), *words]) == 0
        )
    assert tile_files(tmp_path / "0.dzi") == tile_files(tmp_path / "1.dzi")
    words = ["cut", str(path), "-q", "-o", str(tmp_path / "a.tif.tif")]
    assert cli.main([*words, "--format", "deflate:bits=16,compress_level=1"]) == 0
    with fasttile.open_pyramid(tmp_path / "a.tif.tif") as result:
        top = result.pixels(result.level_count - 1, 0, 0)
    assert top is not None
    np.testing.assert_array_equal(top[:70, :90], pixels)
    options = fasttile.CutOptions(format="png:bits=16,compress_level=3")
    assert (options.format, options.bits) == ("png:compress_level=3", 16)
    assert fasttile.CutOptions(format="png:bits=16") == fasttile.CutOptions(format="png", bits=16)
    with pytest.raises(fasttile.OptionError, match="png:bits=12: expected 8 or 16"):
        fasttile.CutOptions(format="png:bits=12")
    with pytest.raises(fasttile.OptionError, match="leave one of them out"):
        fasttile.CutOptions(format="png:bits=8", bits=16)
    with pytest.raises(fasttile.OptionError, match="jpeg has no parameter 'bits'"):
        fasttile.cut(path, tmp_path / "x.dzi", format="jpeg:bits=16")


def test_the_timeout_of_workers_is_a_parameter(tmp_path: Path, capsys: Any) -> None:
    from fasttile.workers.choice import resolve_engine, split_timeout

    path = write_gdal(tmp_path / "a.tif", noise(70, 90, 1))
    for number, workers in enumerate(["1:timeout=9", ":timeout=9"]):
        words = ["cut", str(path), "-q", "-o", str(tmp_path / f"{number}.dzi")]
        assert cli.main([*words, "--workers", workers]) == 0
    assert split_timeout("4:timeout=600") == ("4", 600)
    assert resolve_engine("4:timeout=600").width == 4
    for text, problem in [
        ("2:timeout=1", "expected a timeout of at least 2 seconds"),
        ("2:timeout=x", "expected a timeout of at least 2 seconds"),
        ("dask://local:timeout=9", "Dask has its own"),
    ]:
        words = ["cut", str(path), "-q", "-o", str(tmp_path / "x.dzi"), "--workers", text]
        assert cli.main(words) == 2
        assert problem in capsys.readouterr().err
