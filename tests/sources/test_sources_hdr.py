"""Radiance HDR and OpenEXR: light by its curve, windows, primaries, orientation and damage."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile.errors import MissingPageError, SourceError, TruncatedError
from fasttile.options.read import ReadOptions
from fasttile.sources import open_source
from support.command import run
from support.hdr_files import from_rgbe, to_rgbe, to_srgb, write_exr, write_radiance

OpenEXR = pytest.importorskip("OpenEXR")
imagecodecs = pytest.importorskip("imagecodecs")

FILLED = ReadOptions(allow_truncated=True)
AP0 = (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767)


def light(height: int = 150, width: int = 200) -> np.ndarray:
    """Light from dark to twice white, with runs."""
    values = np.random.default_rng(2).random((height, width, 3)) ** 3 * 2
    values[:, width // 4 : width // 2] = values[:, width // 4 : width // 4 + 1]
    return values


def cut_pixels(path: Path, **options: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """The largest level of a cut into one PNG, as integers; and the notes."""
    options = {"format": "png", "tile_size": 1024, "overlap": 0, **options}
    report = fasttile.cut(path, path.with_suffix(".dzi"), overwrite=True, **options)
    folder = path.with_name(f"{path.stem}_files")
    level = max(int(place.name) for place in folder.iterdir() if place.is_dir())
    return np.asarray(Image.open(folder / str(level) / "0_0.png")).astype(int), report.notes


@pytest.mark.parametrize("form", ["new", "flat", "old"])
def test_radiance_is_shown_by_the_curve_of_srgb(tmp_path: Path, form: str) -> None:
    rgbe = to_rgbe(light())
    rgbe[7] = 0
    path = tmp_path / "a.hdr"
    path.write_bytes(write_radiance(rgbe, form=form))
    stored = from_rgbe(rgbe)
    if form != "old":  # which imagecodecs does not read
        np.testing.assert_array_equal(imagecodecs.rgbe_decode(path.read_bytes()), stored)
    pixels, notes = cut_pixels(path)
    assert np.abs(pixels - to_srgb(stored)).max() <= 0.51
    assert notes == ("converted from linear BT.709 to sRGB",)
    part, _ = cut_pixels(path, region=fasttile.Region(20, 66, 101, 70))
    np.testing.assert_array_equal(part, pixels[66:136, 20:121])


def test_exact_values_of_the_curve(tmp_path: Path) -> None:
    values = [-1, 0, 1 / 255 / 12.92, 0.0031308, 0.01, 0.18, 0.5, 0.9, 1, 4, np.nan, np.inf]
    row = np.array(values, np.float32)[None, :, None].repeat(3, axis=2)
    write_exr({"RGB": row}, tmp_path / "a.exr")
    expected = [0, 0, 1, 10, 25, 118, 188, 243, 255, 255, 0, 255]
    assert cut_pixels(tmp_path / "a.exr")[0][0, :, 1].tolist() == expected
    # A window of the light comes before the curve: 0 to 4 are two stops less.
    pixels, _ = cut_pixels(tmp_path / "a.exr", window=(0, 4))
    assert pixels[0, :, 1].tolist() == [0, 0, 0, 3, 8, 60, 99, 130, 137, 255, 0, 255]
    pixels, _ = cut_pixels(tmp_path / "a.exr", window=(0.5, 1))
    assert pixels[0, 6:9, 0].tolist() == [0, 231, 255]
    linear, notes = cut_pixels(tmp_path / "a.exr", icc="drop")
    assert linear[0, :, 2].tolist() == [0, 0, 0, 1, 3, 46, 128, 229, 255, 255, 0, 255]
    assert notes == ()


@pytest.mark.slow
def test_the_window_on_the_command_line(tmp_path: Path) -> None:
    rgbe = to_rgbe(light())
    path = tmp_path / "a.hdr"
    path.write_bytes(write_radiance(rgbe))
    made = run("cut", path, "-o", tmp_path / "a.dzi", "--format", "png", "--window", "0,2", "-q")
    assert (made.returncode, made.stderr) == (0, "")
    tile = np.asarray(Image.open(tmp_path / "a_files" / "8" / "0_0.png")).astype(int)
    assert (
        np.abs(tile - to_srgb(from_rgbe(rgbe), (0, 2))[: len(tile), : tile.shape[1]]).max() < 0.51
    )
    assert run("verify", tmp_path / "a.dzi", "--source", path).returncode == 0


def test_kept_profiles_say_that_the_light_is_linear(tmp_path: Path) -> None:
    path = tmp_path / "a.hdr"
    path.write_bytes(write_radiance(to_rgbe(light())))
    cut_pixels(path, icc="keep")
    with Image.open(next((tmp_path / "a_files" / "8").iterdir())) as tile:
        assert b"linear BT.709".decode().encode("utf-16-be") in tile.info["icc_profile"]


@pytest.mark.parametrize(
    ("order", "method"),
    [
        ("-Y {} +X {}", None),
        ("-Y {} -X {}", Image.Transpose.FLIP_LEFT_RIGHT),
        ("+Y {} -X {}", Image.Transpose.ROTATE_180),
        ("+Y {} +X {}", Image.Transpose.FLIP_TOP_BOTTOM),
        ("+X {} -Y {}", Image.Transpose.TRANSPOSE),
        ("-X {} -Y {}", Image.Transpose.ROTATE_270),
        ("-X {} +Y {}", Image.Transpose.TRANSVERSE),
        ("+X {} +Y {}", Image.Transpose.ROTATE_90),
    ],
)
def test_orders_of_scanlines(tmp_path: Path, order: str, method: Any) -> None:
    rgbe = to_rgbe(light())
    path = tmp_path / "a.hdr"
    path.write_bytes(write_radiance(rgbe, order=order))
    stored = np.round(to_srgb(from_rgbe(rgbe))).astype(np.uint8)
    image = Image.fromarray(stored)
    expected = np.asarray(image if method is None else image.transpose(method)).astype(int)
    assert np.abs(cut_pixels(path)[0] - expected).max() <= 1


def test_tiles_on_demand_are_those_of_the_cut(tmp_path: Path) -> None:
    (tmp_path / "a.hdr").write_bytes(write_radiance(to_rgbe(light(300, 200))))
    write_exr({"RGB": light(300, 200).astype(np.float16)}, tmp_path / "b.exr")
    for path in (tmp_path / "a.hdr", tmp_path / "b.exr"):
        options: Any = {"format": "png", "tile_size": 128}
        fasttile.cut(path, path.with_suffix(".dzi"), **options)
        with fasttile.open_pyramid(path, **options) as pyramid:
            for col, row in ((1, 2), (0, 0), (1, 1)):
                tile = path.with_name(f"{path.stem}_files") / "9" / f"{col}_{row}.png"
                assert pyramid.tile(9, col, row) == tile.read_bytes()


def test_primaries_are_converted(tmp_path: Path) -> None:
    """AP0 to BT.709: the matrix of the ACES documents (Bradford, D60 to D65)."""
    to_709 = np.array(
        [
            [2.52168618674, -1.13413098824, -0.38755519850],
            [-0.27647991423, 1.37271908767, -0.09623917344],
            [-0.01537806496, -0.15297533867, 1.16835340363],
        ]
    )
    inside = (np.random.default_rng(4).random((50, 60, 3)) * 0.2 + 0.3).astype(np.float32)
    write_exr({"RGB": inside}, tmp_path / "a.exr", chromaticities=AP0)
    pixels, notes = cut_pixels(tmp_path / "a.exr")
    assert np.abs(pixels - to_srgb(inside @ to_709.T)).max() < 1
    assert notes == ("converted from linear RGB of OpenEXR to sRGB",)
    rgbe = to_rgbe(inside)
    header = "PRIMARIES=" + " ".join(map(str, AP0)) + "\n"
    (tmp_path / "b.hdr").write_bytes(write_radiance(rgbe, header=header))
    pixels, _ = cut_pixels(tmp_path / "b.hdr")
    assert np.abs(pixels - to_srgb(from_rgbe(rgbe) @ to_709.T)).max() < 1


@pytest.mark.parametrize("compression", ["NO", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "DWAB"])
def test_compressions_of_openexr(tmp_path: Path, compression: str) -> None:
    stored = light().astype(np.float16)
    path = tmp_path / "a.exr"
    write_exr({"RGB": stored}, path, compression=getattr(OpenEXR, f"{compression}_COMPRESSION"))
    if compression == "DWAB":  # it is lossy
        with OpenEXR.File(str(path)) as file:
            stored = file.channels()["RGB"].pixels
    assert np.abs(cut_pixels(path)[0] - to_srgb(stored)).max() <= 0.65


def test_tiles_of_openexr(tmp_path: Path) -> None:
    stored = light().astype(np.float16)
    description = OpenEXR.TileDescription()
    description.xSize, description.ySize = 32, 48
    write_exr({"RGB": stored}, tmp_path / "a.exr", type=OpenEXR.tiledimage, tiles=description)
    with open_source(tmp_path / "a.exr") as source:
        assert source.preferred_rows == 96
    assert np.abs(cut_pixels(tmp_path / "a.exr")[0] - to_srgb(stored)).max() <= 0.65


def test_alpha_grey_and_other_channels(tmp_path: Path) -> None:
    straight = light().astype(np.float32)
    alpha = np.linspace(0.25, 1, 200, dtype=np.float32)[None].repeat(150, axis=0)
    premultiplied = np.dstack([straight * alpha[..., None], alpha])
    write_exr({"RGBA": premultiplied, "Z": alpha, "id.X": alpha}, tmp_path / "a.exr")
    pixels, notes = cut_pixels(tmp_path / "a.exr")
    assert np.abs(pixels[..., :3] - to_srgb(straight)).max() <= 0.65
    assert np.abs(pixels[..., 3] - 255 * alpha).max() <= 0.51
    assert "2 other channels left out" in notes
    grey = light()[..., 0].astype(np.float32)
    write_exr({"Y": grey}, tmp_path / "b.exr")
    assert np.abs(cut_pixels(tmp_path / "b.exr")[0] - to_srgb(grey)).max() <= 0.65
    pixels, notes = cut_pixels(tmp_path / "b.exr", bits=16)
    assert np.abs(pixels - 65535 * np.clip(grey, 0, 1)).max() <= 0.51
    assert notes == ("16-bit grey is not converted: tiles carry linear grey",)


def test_the_display_window_is_shown(tmp_path: Path) -> None:
    stored = light(60, 80).astype(np.float16)
    windows = {
        "dataWindow": ((10, -5), (89, 54)),
        "displayWindow": ((0, 0), (79, 99)),
    }
    boxes = {
        name: tuple(np.array(corner, np.int32) for corner in box) for name, box in windows.items()
    }
    write_exr({"RGB": stored}, tmp_path / "a.exr", **boxes)
    pixels, _ = cut_pixels(tmp_path / "a.exr")
    expected = np.zeros((100, 80, 3))
    expected[:55, 10:] = to_srgb(stored)[5:, :70]
    assert np.abs(pixels - expected).max() <= 0.65


def test_several_parts_and_channels_that_are_no_image(tmp_path: Path) -> None:
    parts = [
        OpenEXR.Part({"name": name}, {"RGB": light(20, 30).astype(np.float16) * scale})
        for name, scale in (("left", 1), ("right", 0))
    ]
    with OpenEXR.File(parts) as file:
        file.write(str(tmp_path / "a.exr"))
    pixels, notes = cut_pixels(tmp_path / "a.exr")
    assert "the first part of several taken" in notes
    assert np.abs(pixels - to_srgb(light(20, 30))).max() <= 0.65
    plane = np.zeros((4, 5), np.float32)
    for names, message in (
        (("Z", "beauty.R"), r"with the channels Z, beauty\.R; expected R, G and B, or Y; oiiotool"),
        (("Y", "RY", "BY"), "of luminance and chroma, which is not read"),
    ):
        write_exr(dict.fromkeys(names, plane), tmp_path / "b.exr")
        with pytest.raises(SourceError, match=message):
            open_source(tmp_path / "b.exr")
    with pytest.raises(MissingPageError):
        open_source(tmp_path / "a.exr", read_options=ReadOptions(page=2))


def test_without_the_package_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_exr({"RGB": light(4, 5).astype(np.float32)}, tmp_path / "a.exr")
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    message = (
        r"a\.exr: it is OpenEXR; pip install fasttile\[hdr\] lets fasttile read it, and oiiotool"
    )
    with pytest.raises(SourceError, match=message):
        open_source(tmp_path / "a.exr")


def test_damaged_radiance_is_cut_as_far_as_it_decodes(tmp_path: Path) -> None:
    rgbe = to_rgbe(light())
    content = write_radiance(rgbe)
    start = len(write_radiance(rgbe[:100]))  # the resolution has as many digits
    for broken in (content[: start + 9], content[:start] + b"\2\2\0\1" + content[start + 4 :]):
        with (
            open_source(broken) as source,
            pytest.raises(TruncatedError, match="rows from 100 on cannot be decoded") as caught,
        ):
            source.rows(70, 120)
        assert caught.value.rows == 100
        with open_source(broken) as source, pytest.raises(TruncatedError) as caught:
            source.rows(130, 140)
        assert caught.value.rows == 100
        for window in ("auto", (0, 4)):
            with open_source(broken, read_options=FILLED, window=window) as source:
                pixels = np.concatenate([source.rows(y, y + 50).copy() for y in (0, 50, 100)])
            assert (pixels[100:] == 255).all()
        path = tmp_path / "a.hdr"
        path.write_bytes(broken)
        pixels, _ = cut_pixels(path, allow_truncated=True)
        assert np.abs(pixels[:100] - to_srgb(from_rgbe(rgbe[:100]))).max() <= 0.51
        assert (pixels[100:] == 255).all()


def test_damaged_openexr_is_cut_as_far_as_it_decodes(tmp_path: Path) -> None:
    stored = light().astype(np.float16)
    path = tmp_path / "a.exr"
    write_exr({"RGB": stored}, path)
    content = bytearray(path.read_bytes())
    at = content.rindex(struct.pack("<i", 96), 0, len(content))  # the block of rows 96 to 111
    content[at + 8 : at + 40] = bytes(32)
    path.write_bytes(content)
    with pytest.raises(TruncatedError, match="rows from 96 on cannot be decoded") as caught:
        cut_pixels(path)
    assert caught.value.rows == 96
    pixels, _ = cut_pixels(path, allow_truncated=True)
    assert np.abs(pixels[:96] - to_srgb(stored[:96])).max() <= 0.65
    assert (pixels[96:] == 255).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n+Y 2 -Y 2\n", "its header has no resolution"),
        (b"#?RADIANCE\n\n-Y 0 +X 2\n", "2×0 pixels"),
        (b"#?RGBE\nFORMAT=32-bit_rle_xyze\n\n-Y 2 +X 2\n", "32-bit_rle_xyze is not read; expected"),
        (b"#?RADIANCE\nPRIMARIES=1 2\n\n-Y 2 +X 2\n", "its PRIMARIES are not 8 numbers"),
        (b"#?RADIANCE\nPRIMARIES=0 0 0 0 0 0 0 0\n\n-Y 2 +X 2\n", "chromaticities .* no colours"),
        (b"#?RADIANCE\n\n-Y 999999999 +X 999999999\n", "more than its size makes likely"),
        (b"v/1\1\2\0\0\0channels\0", "its header is damaged"),
        (b"v/1\1\2\0\0\0\0", "its header has no 'dataWindow'"),
    ],
)
def test_headers_that_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(content)


def test_claims_of_openexr_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    write_exr({"RGB": light(10, 10).astype(np.float16)}, path)
    content = path.read_bytes()
    at = content.index(b"dataWindow\0box2i\0") + 21
    for right, bottom, message in (
        (2**30, 2**30, "more than its size makes likely"),
        (9, 10**8, "a table of 6250001 blocks needs 50000008 bytes"),
        (-5, 9, "its dataWindow has -4×10 pixels"),
    ):
        claimed = content[: at + 8] + struct.pack("<ii", right, bottom) + content[at + 16 :]
        with pytest.raises(SourceError, match=message):
            open_source(claimed)


def test_streams_and_bytes_are_read(tmp_path: Path) -> None:
    stored = light(20, 30).astype(np.float16)
    write_exr({"RGB": stored}, tmp_path / "a.exr")
    content = (tmp_path / "a.exr").read_bytes()
    for source in (content, io.BytesIO(content)):
        with open_source(source) as opened:
            assert opened.rows(0, 20).shape == (20, 30, 3)
