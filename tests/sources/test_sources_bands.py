"""Bands that are picked, tinted, or coloured by palettes and colour files."""

from __future__ import annotations

import itertools
import math
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from fasttile.errors import OptionError, SourceError
from fasttile.formats.psd import CMYK, INDEXED
from fasttile.options.bands import BandSpec, inline_colour_file, read_colour_file
from fasttile.options.cut import CutOptions
from fasttile.sources.palettes import palette_colours
from support.gdal_files import NO_GEOREFERENCE, gdal_bands, notes_of, read_cut, write_gdal
from support.psd_files import write_psd
from support.reading import noise

pytestmark = pytest.mark.filterwarnings(NO_GEOREFERENCE)

FORMS: list[dict[str, Any]] = [
    {"compress": compress, "interleave": interleave, **blocks}
    for compress, interleave, blocks in itertools.product(
        ("none", "lzw"),
        ("pixel", "band"),
        ({"blockysize": 9}, {"tiled": True, "blockxsize": 32, "blockysize": 16}),
    )
]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("numbers", [(4, 3, 2), (8, 1, 8), (7,), (1,), (1, 2, 3)])
def test_picking_against_gdal(tmp_path: Path, form: dict[str, Any], numbers: Any) -> None:
    path = write_gdal(tmp_path / "a.tif", noise(37, 52, 8), **form)
    text = ",".join(map(str, numbers))
    np.testing.assert_array_equal(read_cut(path, bands=text), gdal_bands(path, *numbers))
    region = read_cut(path, bands=text, region=(11, 5, 30, 29))
    np.testing.assert_array_equal(region, gdal_bands(path, *numbers)[5:34, 11:41])


def test_tiffs_of_many_bands_say_which_are_shown(tmp_path: Path) -> None:
    five = write_gdal(tmp_path / "a.tif", noise(9, 9, 5))
    assert notes_of(five) == "band 1 of 5 shown, 4 left out; --bands picks others"
    assert notes_of(five, bands="5,2,1") == "bands 5, 2, 1 of 5 shown, 2 left out"
    colour = write_gdal(tmp_path / "b.tif", noise(9, 9, 6), photometric="rgb", alpha="yes")
    expected = "bands 1, 2, 3 of 6 shown with the alpha of band 4, 2 left out; --bands picks others"
    assert notes_of(colour) == expected
    four = write_gdal(tmp_path / "c.tif", noise(9, 9, 4), photometric="minisblack")
    assert notes_of(four) == "3 extra samples left out"
    assert notes_of(four, bands="4") == ""


def test_declared_alpha_stays_unless_it_is_picked(tmp_path: Path) -> None:
    pixels = noise(12, 17, 4)
    path = write_gdal(tmp_path / "a.tif", pixels, photometric="rgb", alpha="yes")
    np.testing.assert_array_equal(read_cut(path, bands="3,2,1"), pixels[..., [2, 1, 0, 3]])
    np.testing.assert_array_equal(read_cut(path, bands="4,3,2"), pixels[..., [3, 2, 1]])
    np.testing.assert_array_equal(read_cut(path, bands="4"), pixels[..., [3]])
    unspecified = write_gdal(tmp_path / "b.tif", pixels, photometric="rgb", alpha="unspecified")
    np.testing.assert_array_equal(read_cut(unspecified, bands="3,2,1"), pixels[..., [2, 1, 0]])
    undeclared = tmp_path / "c.tif"
    tifffile.imwrite(undeclared, pixels, photometric="rgb", extrasamples=(0,))
    assert read_cut(undeclared, bands="3,2,1").shape[2] == 3
    np.testing.assert_array_equal(read_cut(pixels, bands="3,2,1"), pixels[..., [2, 1, 0, 3]])
    np.testing.assert_array_equal(read_cut(pixels, bands="4,3,2"), pixels[..., [3, 2, 1]])


def test_bands_of_other_images(tmp_path: Path) -> None:
    pixels = noise(20, 30, 3)
    np.save(tmp_path / "a.npy", noise(20, 30, 7))
    Image.fromarray(pixels).save(tmp_path / "b.png")
    Image.fromarray(pixels).save(tmp_path / "c.bmp")
    many = noise(20, 30, 7)
    np.testing.assert_array_equal(read_cut(tmp_path / "a.npy", bands="7,1,2"), many[..., [6, 0, 1]])
    np.testing.assert_array_equal(read_cut(many, bands="6"), many[..., [5]])
    for name in ("b.png", "c.bmp"):
        found = read_cut(tmp_path / name, bands="3,2,1")
        np.testing.assert_array_equal(found, pixels[..., ::-1])
    found = read_cut(Image.fromarray(pixels), bands="2", region=(3, 4, 9, 8))
    np.testing.assert_array_equal(found, pixels[4:12, 3:12, 1:2])
    with pytest.raises(SourceError, match=r"use bands='3,2,1' \(--bands\)"):
        read_cut(many)


class Slices:
    """An object with shape, dtype and slices, such as a zarr array."""

    def __init__(self, array: Any) -> None:
        self.shape, self.dtype, self._array = array.shape, array.dtype, array
        self.chunks = (8, 8, array.shape[2])

    def __getitem__(self, key: Any) -> Any:
        return self._array[key]


def test_bands_of_objects_with_slices() -> None:
    many = noise(40, 30, 9, dtype=np.uint16)
    found = read_cut(Slices(many), bands="9,5,1", window=(0.0, 255.0))
    np.testing.assert_array_equal(found, np.minimum(many[..., [8, 4, 0]], 255))


@pytest.mark.parametrize(
    ("bands", "problem"),
    [
        ("4", "no band 4"),
        ("1,2", "it names 2 bands; expected 1 (grey) or 3"),
        ("1,2,3,3", "it names 4 bands"),
        ("0", "'0' is no band"),
        ("a", "'a' is no band"),
        ("", "'' is no band"),
        ("-1,2,3", "'-1' is no band"),
        ("1=#00f,2", "either all bands have a colour, or none has"),
        ("1=", "the value after = is missing"),
        ("1=#00zz", "bands '#00zz' is no colour"),
        ("1=viridis,2=red", "viridis colours one band alone"),
        ("1=grey", "for grey, give the band alone"),
        ("1=virdis", "did you mean viridis"),
        ("1=no/such/file.txt", "no such file"),
        ("1={0:#000}", "is no colour"),
        ("1={}", "is no colour"),
        (3, "expected a text such as '4,3,2'"),
    ],
)
def test_bands_that_are_none_are_refused(bands: Any, problem: str) -> None:
    with pytest.raises(OptionError) as caught:
        read_cut(noise(5, 5, 3), bands=bands)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cmyk_has_no_bands(tmp_path: Path) -> None:
    cmyk = Image.new("CMYK", (9, 9))
    for name in ("a.tif", "b.jpg"):
        cmyk.save(tmp_path / name)
        with pytest.raises(OptionError, match="its colours are CMYK"):
            read_cut(tmp_path / name, bands="1")


@pytest.mark.parametrize("name", ["p.png", "p.gif", "p.bmp", "p.psd", "image", "c.jpg", "c.psd"])
@pytest.mark.parametrize("options", [{"nodata": 3}, {"bands": "1"}, {"bands": "1=viridis"}])
def test_samples_that_become_others_when_they_are_read(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    """Neither bands nor values would be those of the file: (3, 3, 3) is no number 3."""
    image = Image.fromarray(noise(9, 9) % 4)
    image.putpalette(bytes([0, 0, 0, 3, 3, 3, 9, 8, 7, 90, 80, 70]))
    path, problem = tmp_path / name, "its values are numbers of a palette"
    if name == "p.psd":
        colours = np.zeros((3, 256), np.uint8)
        path.write_bytes(write_psd(np.asarray(image)[None], INDEXED, colour_data=colours.tobytes()))
    elif name.startswith("c"):
        problem = "its colours are CMYK"
        image = image.convert("RGB").convert("CMYK")
        if name == "c.psd":
            path.write_bytes(write_psd(np.moveaxis(np.asarray(image), 2, 0), CMYK))
        else:
            image.save(path)
    elif name != "image":
        image.save(path)
    option = "nodata" if "nodata" in options else "bands"
    with pytest.raises(OptionError, match=f"{option}: {problem}"):
        read_cut(image if name == "image" else path, **options)
    assert read_cut(image if name == "image" else path, nodata="none").shape[2] == 3


def test_values_that_are_scaled_when_they_are_read(tmp_path: Path) -> None:
    """A value of the file, as 3 of 2 bits, would be compared with 255."""
    colours = tmp_path / "classes.txt"
    colours.write_text("0 0 0 0\n3 255 0 0\n")
    bilevel = Image.fromarray(noise(9, 9)).convert("1")
    (tmp_path / "2.png").write_bytes(png_of_grey(2, noise(9, 8) % 4))
    (tmp_path / "4.png").write_bytes(png_of_grey(4, noise(9, 8) % 16))
    bilevel.save(tmp_path / "1.png")
    bilevel.save(tmp_path / "1.pbm")
    deep = noise(9, 9, 3).astype(np.uint16) * 257
    (tmp_path / "16.png").write_bytes(imagecodecs.png_encode(deep))
    (tmp_path / "15.pgm").write_bytes(b"P5 9 9 15\n" + (noise(9, 9) % 16).tobytes())
    for name in ("2.png", "4.png", "1.png", "1.pbm", "16.png", "15.pgm"):
        options: list[dict[str, Any]] = [{"nodata": 3}, {"bands": f"1={colours}"}]
        for one in options:
            with pytest.raises(OptionError, match="become others when it is read"):
                read_cut(tmp_path / name, **one)
        assert read_cut(tmp_path / name, bands="1=viridis").shape[2] == 3


def png_of_grey(bits: int, values: Any) -> bytes:
    """A PNG of 2 or 4 bits, 8 pixels wide."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    places = 8 // bits
    packed = np.zeros((len(values), 8 // places), np.uint8)
    for place in range(places):
        packed |= values[:, place::places] << (8 - bits * (place + 1))
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", 8, len(values), bits, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def exact_tints(values: Any, tints: list[tuple[int, int, int]]) -> Any:
    """The sum of bands times their colours, of 255, halves up, at most 255."""
    total = np.zeros((*values.shape[:2], 3), np.int64)
    for band, tint in enumerate(tints):
        total += values[..., band : band + 1].astype(np.int64) * np.array(tint)
    return np.minimum((2 * total + 255) // 510, 255).astype(np.uint8)


def test_tints_add_up() -> None:
    pixels = noise(31, 44, 5)
    found = read_cut(pixels, bands="1=#00f,2=#0f0,5=#80402a")
    tints = [(0, 0, 255), (0, 255, 0), (128, 64, 42)]
    np.testing.assert_array_equal(found, exact_tints(pixels[..., [0, 1, 4]], tints))
    one = read_cut(pixels, bands="3=white")
    np.testing.assert_array_equal(one, np.repeat(pixels[..., 2:3], 3, axis=2))


def test_each_tinted_band_has_a_window_of_its_own(tmp_path: Path) -> None:
    pixels = np.stack(
        [np.linspace(0, 4000, 900).reshape(30, 30), np.linspace(0, 60000, 900).reshape(30, 30)], 2
    ).astype(np.uint16)
    path = write_gdal(tmp_path / "a.tif", pixels, compress="deflate", blockysize=8)
    tints = "1=#f00,2=#0f0"
    for source in (pixels, path):
        found = read_cut(source, bands=tints)
        expected = (2 * pixels[..., 0].astype(np.int64) * 255 + 4095) // (2 * 4095)
        np.testing.assert_array_equal(found[..., 0], expected)
        expected = (2 * pixels[..., 1].astype(np.int64) * 255 + 65535) // (2 * 65535)
        np.testing.assert_array_equal(found[..., 1], expected)
        assert not found[..., 2].any()
        notes = notes_of(source, bands=tints)
        assert "band 1: window 0,4095" in notes
        assert "band 2: window 0,65535" in notes
    same = read_cut(pixels, bands=tints, window=(0.0, 4000.0))
    assert same[..., 1].max() == 255
    assert (same[..., 1] == 255).mean() > 0.9


def test_a_missing_sample_adds_nothing_to_the_others(tmp_path: Path) -> None:
    pixels = np.full((4, 4, 2), 100, np.uint16)
    pixels[0, 0] = 65535, 200
    pixels[1, 1] = 65535, 65535
    found = read_cut(pixels, bands="1=#f00,2=#0f0", nodata=65535, window=(0.0, 255.0))
    assert found[0, 0].tolist() == [0, 200, 0, 255]
    assert found[1, 1, 3] == 0
    assert found[2, 2].tolist() == [100, 100, 0, 255]
    path = write_gdal(tmp_path / "a.tif", np.dstack([pixels, pixels[..., :1]]), photometric="rgb")
    again = read_cut(path, bands="1=#f00,2=#0f0,3=#000", nodata=65535, window=(0.0, 255.0))
    np.testing.assert_array_equal(again, found)
    floats = pixels.astype(np.float32)
    floats[0, 1] = np.nan, 50
    found = read_cut(floats, bands="1=#f00,2=#0f0", window=(0.0, 255.0))
    assert found[0, 1].tolist() == [0, 50, 0, 255]


@pytest.mark.parametrize("name", ["viridis", "magma", "inferno", "plasma", "cividis"])
def test_palettes_are_those_of_matplotlib(name: str) -> None:
    from matplotlib import colormaps

    listed = np.array(colormaps[name].colors)
    np.testing.assert_array_equal(palette_colours(name), np.floor(listed * 255 + 0.5))
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(
        read_cut(grey, bands=f"1={name}").reshape(256, 3), palette_colours(name)
    )


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32"])
def test_palettes_after_the_window(dtype: str) -> None:
    pixels = noise(20, 30).astype(dtype)
    found = read_cut(pixels, bands="1=magma", window=(50.0, 200.0))
    level = np.clip((2 * (pixels.astype(np.int64) - 50) * 255 + 150) // 300, 0, 255)
    np.testing.assert_array_equal(found[..., :3], palette_colours("magma")[level])
    assert found.shape[2] == 3 + (dtype == "float32")  # as NaN is transparent
    assert (found[..., 3:] == 255).all()


GDAL_LINES = """\
# a comment
0 0 0 255
100, 0, 255, 0, 128
  200\t255:0:0
nv 1 2 3 4
50% white
100%  10 20 30
"""


def gdaldem_colour(lines: list[tuple[float, tuple[int, ...]]], value: float) -> list[int]:
    """The colour of a value as `gdaldem color-relief` defines it, written down plainly."""
    lines = sorted(lines)
    if value <= lines[0][0]:
        return list(lines[0][1])
    for (low, one), (high, other) in itertools.pairwise(lines):
        if value <= high:
            share = (value - low) / (high - low)
            return [int(0.5 + a + share * (b - a)) for a, b in zip(one, other, strict=True)]
    return list(lines[-1][1])


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "int32", "float32", "float64"]
)
def test_colour_files_as_gdaldem(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "colours.txt"
    path.write_text(GDAL_LINES)
    pixels = (noise(25, 31).astype(np.float64) / 2.0).astype(dtype)
    pixels[0, 0], pixels[-1, -1] = 120, 3
    least, most = float(pixels.min()), float(pixels.max())
    lines: list[tuple[float, tuple[int, ...]]] = [
        (0, (0, 0, 255, 255)),
        (100, (0, 255, 0, 128)),
        (200, (255, 0, 0, 255)),
        ((least + most) / 2, (255, 255, 255, 255)),
        (most, (10, 20, 30, 255)),
    ]
    found = read_cut(pixels, bands=f"1={path}", nodata=7)
    for y, x in itertools.product(range(25), range(31)):
        value = float(pixels[y, x])
        expected = [1, 2, 3, 4] if value == 7 else gdaldem_colour(lines, value)
        assert found[y, x].tolist() == expected, value


@pytest.mark.skipif(shutil.which("gdaldem") is None, reason="gdaldem is not installed")
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32"])
def test_colour_files_against_gdaldem(tmp_path: Path, dtype: str) -> None:
    table, made = tmp_path / "colours.txt", tmp_path / "made.tif"
    names = "white black red green blue yellow magenta cyan aqua grey orange brown purple indigo"
    lines = [f"{15 * number} {name}" for number, name in enumerate(names.split(), 1)]
    table.write_text("\n".join([*lines, "nv 1 2 3 4", "40% 5 6 7 80", "210 9 8 7 6"]))
    pixels = (np.random.default_rng(4).random((60, 70, 1)) * 220 + 1).astype(dtype)
    pixels[5:9] = 0
    path = write_gdal(tmp_path / "a.tif", pixels, nodata=0)
    command = ["gdaldem", "color-relief", "-q", "-alpha", path, table, made]
    subprocess.run(command, check=True, capture_output=True)
    found, expected = read_cut(path, bands=f"1={table}"), gdal_bands(made, 1, 2, 3, 4)
    between = pixels[..., 0] != 210  # at a step itself, GDAL takes a colour between both
    found, expected = found[between], expected[between]
    # GDAL 3.6 adds 0.45 before it cuts decimals off, later versions 0.5.
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found == expected).mean() > 0.8


@given(
    st.lists(
        st.tuples(st.integers(-300, 300), st.tuples(*[st.integers(0, 255)] * 4)),
        min_size=1,
        max_size=8,
        unique_by=lambda line: line[0],
    ),
    st.lists(st.floats(-400, 400, width=32), min_size=1, max_size=20),
)
def test_any_colour_file(lines: list[Any], values: list[float]) -> None:
    inline = ",".join(
        f"{value}:#{red:02x}{green:02x}{blue:02x}{alpha:02x}"
        for value, (red, green, blue, alpha) in lines
    )
    found = read_cut(np.array([values], np.float32), bands=f"1={{{inline}}}")
    # NumPy and Python round the product of a share alike: both are 64-bit floats.
    assert found[0].tolist() == [gdaldem_colour(lines, value) for value in values]


def test_a_value_with_two_lines_is_a_step(tmp_path: Path) -> None:
    path = tmp_path / "steps.txt"
    path.write_text("0 0 0 0\n10 0 0 0\n10 255 255 255\n20 255 255 255\n")
    for dtype in (np.uint8, np.float32):
        pixels = np.array([[0, 9, 10, 11, 20, 99]], dtype)
        found = read_cut(pixels, bands=f"1={path}")
        assert found[0, :, 0].tolist() == [0, 0, 255, 255, 255, 255]


def test_missing_samples_without_a_line_for_them_are_transparent(tmp_path: Path) -> None:
    path = tmp_path / "colours.csv"
    path.write_text("0,10,20,30\n100,110,120,130\n")
    pixels = np.array([[np.nan, np.inf, -np.inf, 50, -9999]], np.float32)
    found = read_cut(pixels, bands=f"1={path}", nodata=-9999)
    assert found[0].tolist() == [
        [0, 0, 0, 0],
        [110, 120, 130, 255],
        [10, 20, 30, 255],
        [60, 70, 80, 255],
        [0, 0, 0, 0],
    ]


def test_colour_files_use_the_values_that_are_stored(tmp_path: Path) -> None:
    index = noise(24, 40) % 16
    colours = noise(16, 3)
    path = tmp_path / "classes.txt"
    path.write_text("".join(f"{n} {r} {g} {b}\n" for n, (r, g, b) in enumerate(colours)))
    four = write_gdal(tmp_path / "a.tif", index[..., None], nbits=4)
    white = write_gdal(tmp_path / "b.tif", index[..., None], photometric="miniswhite")
    palette = tmp_path / "c.tif"
    table = np.zeros((3, 256), np.uint16)
    tifffile.imwrite(palette, index, photometric="palette", colormap=table)
    for source in (four, white, palette):
        np.testing.assert_array_equal(read_cut(source, bands=f"1={path}"), colours[index])
    assert not read_cut(palette, bands="1").any()  # its own palette, which is black


def test_qgis_exports_are_read(tmp_path: Path) -> None:
    path = tmp_path / "qgis.txt"
    path.write_text(
        "# QGIS Generated Color Map Export File\nINTERPOLATION:INTERPOLATED\n"
        "0,1,2,3,255,low\n10,4,5,6,127,10 m\n"
    )
    lines = read_colour_file(str(path))
    assert [line.colour for line in lines] == [(1, 2, 3, 255), (4, 5, 6, 127)]
    path.write_text("INTERPOLATION:DISCRETE\n0,1,2,3,255,low\n")
    with pytest.raises(OptionError, match="only INTERPOLATION:INTERPOLATED"):
        read_colour_file(str(path))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it has no line of a value"),
        ("nv 0 0 0\n", "it has no line of a value"),
        ("0 1 2\n", "line 1: expected a value and red, green, blue"),
        ("0 1 2 256\n", "line 1: expected a value and red, green, blue"),
        ("\n# x\n5 nocolour\n", "line 3: expected a value"),
        ("x 1 2 3\n", "line 1: 'x' is no value"),
        ("101% 1 2 3\n", "line 1: 101% is out of range"),
        ("1e999 1 2 3\n", "line 1: 1e999 is out of range"),
        ("0 1 2 3 100 4 5 6\n", "a palette of GMT is not supported"),
        ("".join(f"{n} 1 2 3\n" for n in range(2049)), "2,049 lines; expected at most 2,048"),
        ("#" * 300_000, "more than 262,144 bytes"),
    ],
)
def test_damaged_colour_files(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "colours.txt"
    path.write_text(text)
    with pytest.raises(OptionError) as caught:
        CutOptions(bands=f"1={path}")
    assert problem in str(caught.value)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OptionError, match="it is no text"):
        CutOptions(bands=f"1={path}")


@given(st.text(alphabet="0123456789.eE+-% ,:=#{}\\nvabc\n", max_size=60))
def test_any_text_is_bands_or_an_error(text: str) -> None:
    found: Any
    try:
        found = CutOptions(bands=text)
    except OptionError as error:
        found = str(error)
    if isinstance(found, str):
        assert "\n" not in found
    else:
        assert CutOptions(bands=found.bands) == found


def test_the_option_holds_the_lines_of_a_colour_file(tmp_path: Path) -> None:
    path = tmp_path / "colours.txt"
    path.write_text(GDAL_LINES)
    options = CutOptions(bands=f"2={path}")
    assert options.bands == (
        "2={0:#0000ff,100:#00ff0080,200:#ff0000,nv:#01020304,50%:#ffffff,100%:#0a141e}"
    )
    again = CutOptions.from_keywords({"bands": options.bands})
    assert again == options
    assert BandSpec.parse(options.bands).table == read_colour_file(str(path))
    assert inline_colour_file(options.bands) == options.bands
    with pytest.raises(OptionError, match="window: the colour file of bands has its own values"):
        CutOptions(bands=options.bands, window="full")


def test_names_of_colour_files_with_commas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a,b=c.txt").write_text("0 1 2 3\n")
    assert CutOptions(bands="1=a\\,b=c.txt").bands == "1={0:#010203}"


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300))
def test_values_of_lines_are_kept(value: float) -> None:
    from fasttile.options.bands import ColourLine

    line = ColourLine(value, "", (1, 2, 3, 4))
    found = BandSpec.parse(f"1={{{line.option_text()}}}").table
    assert found == (line,)
    assert math.copysign(1, found[0].value) == math.copysign(1, value)


def test_profiles_of_other_bands_are_left_out(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / "a.tif"
    Image.fromarray(noise(9, 9, 3)).save(path, icc_profile=profile)
    assert "profile" not in notes_of(path, bands="1,2,3")
    for bands in ("3,2,1", "1=viridis", "1=#00f,2=#0f0"):
        assert "its colour profile is left out" in notes_of(path, bands=bands)


def test_measurements_of_16_bits_are_inspected(tmp_path: Path) -> None:
    pixels = noise(40, 50, 6, dtype=np.uint16) // 20
    path = write_gdal(tmp_path / "a.tif", pixels)
    assert "window 0,4095" in notes_of(path, bands="4,3,2")
    photograph = write_gdal(tmp_path / "b.tif", pixels[..., :3], photometric="rgb")
    assert "window" not in notes_of(photograph, bands="3,2,1")


def test_premultiplied_alpha_with_other_bands(tmp_path: Path) -> None:
    pixels = noise(12, 17, 5)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=(1, 0))
    np.testing.assert_array_equal(read_cut(path, bands="5"), pixels[..., [4, 3]])
    np.testing.assert_array_equal(read_cut(path, bands="4"), pixels[..., [3]])
    plain, turned = read_cut(path), read_cut(path, bands="3,2,1")
    np.testing.assert_array_equal(turned, plain[..., [2, 1, 0, 3]])
    with pytest.raises(OptionError, match="multiplied by alpha, and its other bands are not"):
        read_cut(path, bands="5,2,1")
