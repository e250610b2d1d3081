"""Mosaics of patterns, CSV, TileConfiguration.txt and VRT: their pixels, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import fasttile
from fasttile import FasttileError, OptionError, SourceError
from fasttile.cli import main
from fasttile.jobs.fingerprint import source_fingerprint
from fasttile.jobs.plan import resolve_target
from fasttile.sources import mosaic_of
from support.reading import Array, noise, read_pixels


def make_grid(folder: Path, rows: int = 3, cols: int = 3, first: int = 0) -> Array:
    """Files scans/r<row>_c<col>.npy of 20 rows and 30 columns each; returns all pixels."""
    pixels = noise(20 * rows, 30 * cols, 3)
    (folder / "scans").mkdir()
    for row in range(rows):
        for col in range(cols):
            part = pixels[20 * row : 20 * row + 20, 30 * col : 30 * col + 30]
            np.save(folder / f"scans/r{row + first}_c{col + first}.npy", part)
    return pixels


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("first", [0, 1, 8])
def test_a_pattern_sorts_by_number(here: Path, first: int) -> None:
    pixels = make_grid(here, first=first)
    np.testing.assert_array_equal(read_pixels("grid:scans/r{row}_c{col}.npy"), pixels)
    np.testing.assert_array_equal(read_pixels(f"grid:{here}/scans/r{{row}}_c{{col}}.npy"), pixels)


def test_a_pattern_with_folders_and_of_one_row(here: Path) -> None:
    strips = [noise(9, 7), noise(9, 8)]
    for row in (9, 10):
        for col, strip in enumerate(strips):
            (here / f"{row:03}").mkdir(exist_ok=True)
            np.save(here / f"{row:03}/{{{col:02}}}.npy", strip ^ row)
    line = np.hstack(strips)
    got = read_pixels("grid:{row}/{{{col}}}.npy")[..., 0]
    np.testing.assert_array_equal(got, np.vstack([line ^ 9, line ^ 10]))
    got = read_pixels("grid:009/{{{col}}}.npy")[..., 0]
    np.testing.assert_array_equal(got, line ^ 9)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("grid:scans/r{row}_c{col}.tif", r"no file matches r\{row\}_c\{col\}.tif; scans has r1_c1"),
        ("grid:scan/r{row}_c{col}.npy", "scan cannot be read"),
        ("grid:scans/r{row}_c{x}.npy", r"\{x\} is unknown"),
        ("grid:scans/r{row}{col}.npy", r"nothing is between the numbers of \{row\}\{col\}"),
        ("grid:scans/r1_c1.npy", r"neither \{row\} nor \{col\}"),
        ("grid:allow-mising:scans/r{row}_c{col}.npy", "did you mean allow-missing"),
        ("grid:s3://bucket/r{row}.tif", "a pattern is for files of this machine"),
        ("grid:{row}/r1_c1.npy", "no file matches"),
    ],
)
def test_patterns_that_are_refused(here: Path, pattern: str, message: str) -> None:
    make_grid(here)
    with pytest.raises(FasttileError, match=message):
        mosaic_of(pattern)


def test_a_hole_in_a_grid(here: Path) -> None:
    pixels = make_grid(here)
    (here / "scans/r1_c2.npy").unlink()
    with pytest.raises(SourceError, match="1 of 9 images are missing, the first at row 1, col"):
        mosaic_of("grid:scans/r{row}_c{col}.npy")
    pixels[20:40, 60:] = 255
    got = read_pixels("grid:allow-missing:scans/r{row}_c{col}.npy")
    np.testing.assert_array_equal(got, pixels)
    (here / "scans/r0_c900000000.npy").write_bytes((here / "scans/r0_c0.npy").read_bytes())
    with pytest.raises(SourceError, match="missing, the first at row 0, column 3"):
        mosaic_of("grid:allow-missing:scans/r{row}_c{col}.npy")
    (here / "scans/r0_c900000000.npy").unlink()
    (here / "scans/r00_c0.npy").write_bytes(b"")
    with pytest.raises(SourceError, match=r"r00_c0.npy and .*r0_c0.npy are both row 0, column 0"):
        mosaic_of("grid:allow-missing:scans/r{row}_c{col}.npy")


def write_csv(here: Path) -> str:
    (here / "m.csv").write_text('File, x, y\n"scans/r0_c0.npy",10,5\n\nscans/r1_c1.npy,0,-2.5\n')
    return "m.csv"


def write_imagej(here: Path) -> str:
    (here / "TileConfiguration.txt").write_text(
        "# Define the number of dimensions we are working on\ndim = 2\n\n"
        "# Define the image coordinates\n"
        "scans/r0_c0.npy; ; (10.2, 5.4)\nscans/r1_c1.npy; ; (-0.3, -1.9)\n"
    )
    return "TileConfiguration.txt"


@pytest.mark.parametrize("write", [write_csv, write_imagej])
def test_lists_with_places(here: Path, write: Any) -> None:
    pixels = make_grid(here)
    want = np.full((27, 40, 3), 255, np.uint8)
    want[7:27, 10:40] = pixels[:20, :30]
    want[:20, :30] = pixels[20:40, 30:60]
    np.testing.assert_array_equal(read_pixels(write(here)), want)
    np.testing.assert_array_equal(read_pixels(here / write(here)), want)


@pytest.mark.parametrize("name", ["a\nb.npy", "a\u2028b.npy", "a,b.npy"])
def test_a_csv_names_any_file(here: Path, name: str) -> None:
    pixels = noise(4, 5, 1)
    np.save(here / name, pixels)
    (here / "m.csv").write_text(f'\ufefffile,x,y\r\n"{name}",0,0\r\n', newline="")
    np.testing.assert_array_equal(read_pixels("m.csv"), pixels)


VRT_SOURCE = (
    "<SimpleSource{attributes}><SourceFilename relativeToVRT='1'>{name}</SourceFilename>"
    "<SourceBand>{band}</SourceBand>"
    "<SourceProperties RasterXSize='30' RasterYSize='20' DataType='Byte'/>"
    "<SrcRect xOff='{sx}' yOff='{sy}' xSize='{width}' ySize='{height}'/>"
    "<DstRect xOff='{x}' yOff='{y}' xSize='{width}' ySize='{height}'/></SimpleSource>"
)


def vrt(*places: dict[str, Any], bands: tuple[int, ...] = (1, 2, 3), size: str = "50") -> str:
    """A VRT as gdalbuildvrt writes it."""
    found = []
    for number, band in enumerate(bands, 1):
        usual = {"attributes": "", "sx": 0, "sy": 0, "width": 30, "height": 20, "band": band}
        sources = "".join(VRT_SOURCE.format(**{**usual, **place}) for place in places)
        found.append(
            f"<VRTRasterBand dataType='Byte' band='{number}'><ColorInterp>Red</ColorInterp>"
            f"{sources}</VRTRasterBand>"
        )
    return (
        f"<VRTDataset rasterXSize='{size}' rasterYSize='40'><SRS>EPSG:3857</SRS>"
        f"<GeoTransform>0,1,0,0,0,-1</GeoTransform>{''.join(found)}</VRTDataset>"
    )


NO_SOURCE_RECTANGLE = (
    "<VRTDataset rasterXSize='50' rasterYSize='40'><VRTRasterBand><SimpleSource><SourceFilename "
    "relativeToVRT='1'>scans/r0_c0.npy</SourceFilename>{}</SimpleSource></VRTRasterBand></VRTDataset>"
)
FIRST: dict[str, Any] = {"name": "scans/r0_c0.npy", "x": 0, "y": 0}


def test_a_vrt_of_simple_sources(here: Path) -> None:
    pixels = make_grid(here)
    cut_out = {"name": "scans/r1_c1.npy", "x": 25, "y": 10, "sx": 3, "sy": 4} | {
        "width": 20,
        "height": 15,
    }
    (here / "m.vrt").write_text(vrt(FIRST, cut_out, bands=(3, 2, 1)))
    want = np.full((40, 50, 3), 255, np.uint8)
    want[:20, :30] = pixels[:20, :30, ::-1]
    want[10:25, 25:45] = pixels[24:39, 33:53, ::-1]
    np.testing.assert_array_equal(read_pixels("m.vrt"), want)
    (here / "m.vrt").write_text(vrt(FIRST, bands=(2,)))
    np.testing.assert_array_equal(read_pixels("m.vrt")[:20, :30, 0], pixels[:20, :30, 1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (vrt({**FIRST, "attributes": " resampling='cubic'"}), "resampling cubic: only SimpleS"),
        (vrt(FIRST).replace("SimpleSource>", "ComplexSource>"), "ComplexSource"),
        (vrt(FIRST).replace("<SRS>", "<MaskBand/><SRS>"), "MaskBand"),
        (vrt(FIRST).replace("' band='2'", "' band='2' subClass='VRTDerivedRasterBand'"), "Derived"),
        (vrt(FIRST).replace("<VRTDataset", "<VRTDataset subClass='VRTWarpedDataset'"), "Warped"),
        (vrt(FIRST).replace("<ColorInterp>", "<PixelFunctionType/><ColorInterp>"), "PixelFunction"),
        (vrt(FIRST).replace("'30' ySize='20'/></S", "'60' ySize='20'/></S"), "30×20 to 60×20"),
        (NO_SOURCE_RECTANGLE.format("<DstRect xOff='0' yOff='0' xSize='9' ySize='9'/>"), "30×20"),
        (NO_SOURCE_RECTANGLE.format(""), "30×20 pixels, and its place 50×40"),
        (vrt({**FIRST, "x": "0.5"}), "between pixels"),
        (vrt({**FIRST, "sx": 1}), "r0_c0.npy: region"),
        (vrt({**FIRST, "band": "mask,1"}), "SourceBand mask,1"),
        (vrt({**FIRST, "band": 4}), "no band 4"),
        (vrt(FIRST, size="0"), "no size"),
        (vrt(FIRST, bands=(1,) * 5), "5 bands"),
        (vrt(FIRST, bands=(3, 1)), "band 2: its ColorInterp is Red, expected Alpha"),
        (vrt(FIRST, bands=(1,) * 4).replace("<ColorInterp>Red</ColorInterp>", ""), "Undefined"),
        (vrt(), "names no image"),
        (vrt(FIRST).replace("r0_c0", "r0_c1", 1), "not those of band 1"),
        ("<!DOCTYPE a><VRTDataset/>", "document type"),
        ("<VRTDataset", "cannot be read"),
    ],
)  # fmt: skip
def test_a_vrt_that_is_refused_by_name(here: Path, text: str, message: str) -> None:
    make_grid(here)
    (here / "m.vrt").write_text(text)
    with pytest.raises(SourceError, match=message):
        fasttile.open_source("m.vrt")


def test_bands_of_a_vrt_are_those_of_the_file(here: Path) -> None:
    pixels = noise(20, 30, 5)
    (here / "scans").mkdir()
    place = {**FIRST, "name": "scans/a.tif"}
    for kinds, message in (((0, 0), "no band 4"), ((0, "unassalpha"), "band 4 of its VRT")):
        tifffile.imwrite("scans/a.tif", pixels, photometric="rgb", extrasamples=kinds)
        text = vrt(place, bands=(3, 2, 1, 4))
        before, last = text.rsplit("Red", 1)
        (here / "m.vrt").write_text(f"{before}Alpha{last}")
        with pytest.raises(SourceError, match=message):
            fasttile.open_source("m.vrt")
        (here / "m.vrt").write_text(vrt(place, bands=(3, 2, 1)))
        got = read_pixels("m.vrt")[:20, :30]
        np.testing.assert_array_equal(got, pixels[..., [2, 1, 0]])


def test_a_vrt_has_pixels_as_they_are_stored(here: Path) -> None:
    (here / "scans").mkdir()
    text = vrt({**FIRST, "name": "scans/a.png"}, bands=(1,))
    with_table = text.replace("<ColorInterp>", "<ColorTable/><ColorInterp>")
    deep = text.replace("'Byte'", "'UInt16'")
    exif = Image.Exif()
    exif[0x0112] = 3
    grey = Image.fromarray(noise(20, 30))
    cases: list[tuple[Any, dict[str, Any], str, str]] = [
        (grey, {}, text, ""),
        (grey, {}, deep, ""),
        (grey, {"exif": exif}, text, "turned as its orientation 3 says, and not in a VRT"),
        (grey, {}, with_table, "has no palette, and its VRT has"),
        (grey.quantize(9), {}, with_table, ""),
        (grey.quantize(9), {}, text, "has a palette, and its VRT has not"),
        (Image.fromarray(noise(20, 30).astype(np.uint16)), {}, deep, ""),
        (Image.fromarray(noise(20, 30).astype(np.uint16)), {}, text, "uint16, .* its VRT uint8"),
        (grey, {}, text.replace("'Byte'", "'CInt16'"), "dataType: expected one of Byte, "),
    ]
    for image, options, described, message in cases:
        image.save(here / "scans/a.png", **options)
        (here / "m.vrt").write_text(described)
        if message:
            with pytest.raises(SourceError, match=f"^(m.vrt: )?.*{message}"):
                fasttile.open_source("m.vrt")
        else:
            want = read_pixels("scans/a.png", window="full")
            np.testing.assert_array_equal(read_pixels("m.vrt", window="full")[:20, :30], want)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.npy,1", "line 2: 2 values"),
        ("a.npy,1,b", "line 2: 'b' is not a number of pixels"),
        ("a.npy,1,nan", "'nan' is not"),
        ("a.npy,1_0,0", "'1_0' is not"),
        ("a.npy,1,1e99", "'1e99' is not"),
        (",1,2", "'' is not the name of a file"),
        ("-,1,2", "'-' is not the name"),
        ("gone.npy,1,2", "gone.npy: no such file"),
        ("", "names no image"),
        ("m.csv,0,0", "m.csv"),
    ],
)
def test_a_csv_that_is_refused(here: Path, text: str, message: str) -> None:
    (here / "m.csv").write_text(f"file,x,y\n{text}\n")
    with pytest.raises(SourceError, match=message):
        fasttile.open_source("m.csv")


@pytest.mark.parametrize("line", ["dim = 3", "multiseries = true", "a.tif; 2; (1, 2)", "a; ; (1)"])
def test_a_tile_configuration_that_is_refused(here: Path, line: str) -> None:
    (here / "t.txt").write_text(f"dim = 2\n{line}\n")
    with pytest.raises(SourceError, match=r"t\.txt: line 2: "):
        fasttile.open_source("t.txt")


@pytest.mark.parametrize("name", ["../a.npy", "{folder}/a.npy", "b/../../a.npy", "..\\a.npy"])
def test_a_list_of_strangers_stays_in_its_folder(here: Path, name: str) -> None:
    np.save(here / "a.npy", noise(3, 4))
    (here / "sub/b").mkdir(parents=True)
    listed = name.format(folder=here)
    (here / "sub/m.csv").write_text(f"file,x,y\n{listed},0,0\n")
    with pytest.raises(SourceError, match=r"use mosaic:any-path:sub/m\.csv"):
        fasttile.open_source("sub/m.csv")
    (here / "sub/m.vrt").write_text(
        vrt({**FIRST, "name": listed, "width": 4, "height": 3}, bands=(1,))
    )
    with pytest.raises(SourceError, match=r"use mosaic:any-path:sub/m\.vrt"):
        fasttile.open_source("sub/m.vrt")
    if "\\" not in name:
        got = read_pixels("mosaic:any-path:sub/m.csv")[..., 0]
        np.testing.assert_array_equal(got, noise(3, 4))


@pytest.mark.parametrize("name", ["http://127.0.0.1:9/a.png", "s3://b/a.png", "/vsicurl/http://a"])
def test_a_list_never_names_addresses(here: Path, name: str) -> None:
    (here / "m.csv").write_text(f"file,x,y\n{name},0,0\n")
    for source in ("m.csv", "mosaic:any-path:m.csv"):
        with pytest.raises(SourceError, match="names files only"):
            fasttile.open_source(source)


def test_other_files_of_these_names_are_no_mosaics(here: Path) -> None:
    (here / "a.csv").write_text("name,left,top\n")
    (here / "a.txt").write_text("dimension\n")
    for name in ("a.csv", "a.txt"):
        assert mosaic_of(name) is None
        with pytest.raises(SourceError, match="expected a CSV whose first line is file,x,y"):
            mosaic_of(f"mosaic:{name}")
    Image.fromarray(noise(3, 4)).save(here / "a.vrt", format="PNG")
    assert read_pixels("a.vrt").shape == (3, 4, 1)


def test_the_name_of_the_result(here: Path) -> None:
    assert resolve_target(None, "grid:in/scans/r{row}_c{col}.tif").path == Path("scans.dzi")
    assert resolve_target(None, "mosaic:any-path:lists/m.csv").path == Path("m.dzi")
    with pytest.raises(OptionError, match="no file name"):
        resolve_target(None, "grid:r{row}_c{col}.tif")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fasttile", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_commands(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = make_grid(here)
    pattern = "grid:scans/r{row}_c{col}.npy"
    assert main(["cut", pattern, "--format", "png", "--quiet"]) == 0
    fasttile.cut(pixels, "want.dzi", format="png")
    with fasttile.open_pyramid("scans.dzi") as got, fasttile.open_pyramid("want.dzi") as want:
        top = want.level_count - 1
        np.testing.assert_array_equal(got.pixels(top, 0, 0), want.pixels(top, 0, 0))
    assert main(["verify", "scans.dzi", "--source", pattern, "--quiet"]) == 0
    assert main(["info", pattern]) == 0
    assert "images:      9\n" in capsys.readouterr().out
    assert main(["cut", pattern, "-o", "scans/r0_c0.npy/", "--overwrite"]) == 1


@pytest.mark.slow
def test_update_and_resume_see_a_changed_image(here: Path) -> None:
    make_grid(here)
    pattern = "grid:scans/r{row}_c{col}.npy"
    fasttile.cut(pattern, "a.dzi", resume=True)
    arguments = [pattern, "grid:scans/r{row}_c0.npy"]

    before = source_fingerprint(pattern)

    def skipped() -> list[str]:
        results = fasttile.cut_all(arguments, "out/{index}.dzi", update=True, workers=1)
        return sorted(result.source for result in results if result.skipped)

    assert skipped() == []
    assert skipped() == sorted(arguments)
    np.save(here / "scans/r2_c2.npy", noise(20, 30, 3))
    assert skipped() == arguments[1:]
    assert source_fingerprint(pattern) != before


def test_shards_of_a_mosaic(here: Path) -> None:
    """Workers get the images of their shard only, and the tiles are the same."""
    pixels = noise(1200, 1500)
    (here / "s").mkdir()
    for row in range(4):
        for col in range(5):
            part = pixels[300 * row : 300 * row + 300, 300 * col : 300 * col + 300]
            Image.fromarray(part).save(here / f"s/{row}_{col}.pgm")
    options: dict[str, Any] = {"format": "png", "tile_size": 100, "overlap": 1}
    fasttile.cut(pixels, "want.dzi", **options)
    report = fasttile.cut("grid:s/{row}_{col}.pgm", "got.dzi", workers=2, **options)
    files = sorted(path.relative_to("want_files") for path in Path("want_files").rglob("*.png"))
    assert report.tiles == len(files) > 150
    for path in files:
        assert Path("got_files", path).read_bytes() == Path("want_files", path).read_bytes(), path


def test_a_result_never_replaces_an_image_of_the_mosaic(here: Path) -> None:
    Image.fromarray(noise(20, 30)).save(here / "r0_c0.tif")
    (here / "m.csv").write_text("file,x,y\nr0_c0.tif,0,0\n")
    before = (here / "r0_c0.tif").read_bytes()
    sources = ["grid:r{row}_c{col}.tif", "m.csv", fasttile.mosaic([["r0_c0.tif"]])]
    for source in sources:
        with pytest.raises(FasttileError, match=r"r0_c0\.tif"):
            fasttile.cut(source, "r0_c0.tif", overwrite=True)
        with fasttile.open_source(source) as opened, pytest.raises(FasttileError):
            fasttile.cut(opened, "r0_c0.tif", overwrite=True)
    assert (here / "r0_c0.tif").read_bytes() == before


def test_the_pixels_are_those_of_libvips(here: Path) -> None:
    pyvips = pytest.importorskip("pyvips", exc_type=ImportError)
    make_grid(here, 2, 3)
    paths = [here / f"scans/r{row}_c{col}.npy" for row in range(2) for col in range(3)]
    images = [pyvips.Image.new_from_array(np.load(path)) for path in paths]
    joined = pyvips.Image.arrayjoin(images, across=3).numpy()
    np.testing.assert_array_equal(read_pixels("grid:scans/r{row}_c{col}.npy"), joined)
