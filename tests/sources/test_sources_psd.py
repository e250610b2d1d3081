"""PSD and PSB: the composite of every mode, transparency, damage, and what is refused."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

import fasttile
from fasttile.errors import MissingPageError, SourceError, TruncatedError
from fasttile.options.read import ReadOptions
from fasttile.sources import open_source
from support.command import run
from support.psd_files import (
    BITMAP,
    CMYK,
    DUOTONE,
    GREY,
    ICC_PROFILE,
    INDEXED,
    LAB,
    MULTICHANNEL,
    RGB,
    TRANSPARENT_INDEX,
    VERSION_INFO,
    layer_part,
    pack_bits,
    version_info,
    write_psd,
)
from support.reading import read_pixels, to_8_bit

psd_tools = pytest.importorskip("psd_tools")

HEIGHT, WIDTH = 150, 90
FILLED = ReadOptions(allow_truncated=True)


def planes(channels: int, dtype: Any = np.uint8) -> np.ndarray:
    """Noise with runs, in planes."""
    top = np.iinfo(dtype).max
    values = np.random.default_rng(channels).integers(0, top, (channels, HEIGHT, WIDTH), dtype)
    values[:, :, 20:60] = values[:, :, 20:21]
    values[:, 3] = 7
    return values


def read_by_psd_tools(content: bytes) -> np.ndarray:
    """What psd-tools reads, 8 bits."""
    image = psd_tools.PSDImage.open(io.BytesIO(content)).topil()
    pixels = np.asarray(image.convert("L") if image.mode == "1" else image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


@pytest.mark.parametrize("compression", [0, 1], ids=["raw", "packbits"])
@pytest.mark.parametrize("psb", [False, True], ids=["psd", "psb"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("mode", "channels"), [(GREY, 1), (RGB, 3), (CMYK, 4), (DUOTONE, 1)])
def test_every_kind_is_read_as_psd_tools_does(
    mode: int, channels: int, dtype: Any, psb: bool, compression: int
) -> None:
    stored = planes(channels, dtype)
    content = write_psd(stored, mode, psb=psb, compression=compression)
    expected = to_8_bit(stored.transpose(1, 2, 0))
    reference = read_by_psd_tools(content)
    if mode == CMYK:  # stored as the light that is left
        assert np.abs(reference.astype(int) - (255 - expected.astype(int))).max() <= 1
        inks = Image.fromarray(255 - expected, "CMYK")
        expected, reference = np.asarray(inks.convert("RGB")), np.asarray(inks.convert("RGB"))
    pixels = read_pixels(content)
    assert np.abs(pixels.astype(int) - expected).max() <= (dtype != np.uint8)
    assert np.abs(pixels.astype(int) - reference).max() <= (dtype != np.uint8)
    region = fasttile.Region(30, 40, 50, 101)
    np.testing.assert_array_equal(read_pixels(content, region=region), pixels[40:141, 30:80])
    with open_source(content) as source:
        assert source.metadata.format == ("PSB" if psb else "PSD")
        assert ("duotone" in "".join(source.metadata.notes)) == (mode == DUOTONE)


@pytest.mark.parametrize("compression", [0, 1], ids=["raw", "packbits"])
@pytest.mark.parametrize("width", [1, 7, 8, 9, WIDTH])
def test_bitmaps_have_black_where_a_bit_is_set(width: int, compression: int) -> None:
    bits = np.random.default_rng(3).integers(0, 2, (1, 20, width), np.uint8)
    content = write_psd(
        np.packbits(bits, axis=2), BITMAP, depth=1, width=width, compression=compression
    )
    np.testing.assert_array_equal(read_pixels(content)[..., 0], 255 - 255 * bits[0])
    np.testing.assert_array_equal(read_pixels(content), read_by_psd_tools(content))


def test_palettes_are_expanded_and_may_have_a_transparent_index() -> None:
    palette = np.random.default_rng(5).integers(0, 256, (3, 256), np.uint8)
    stored = planes(1)
    content = write_psd(stored, INDEXED, colour_data=palette.tobytes())
    np.testing.assert_array_equal(read_pixels(content), palette.T[stored[0]])
    transparent = {TRANSPARENT_INDEX: struct.pack(">H", 7)}
    content = write_psd(stored, INDEXED, colour_data=palette.tobytes(), resources=transparent)
    pixels = read_pixels(content)
    np.testing.assert_array_equal(pixels[..., :3], palette.T[stored[0]])
    np.testing.assert_array_equal(pixels[..., 3], np.where(stored[0] == 7, 0, 255))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lab_is_converted_as_by_its_formula(dtype: Any) -> None:
    """Lab of D50 by Bradford to sRGB; colours within its gamut."""
    light, redness = np.meshgrid(np.linspace(20, 90, WIDTH), np.linspace(-15, 15, HEIGHT))
    lab = np.stack([light, redness, -redness / 2])
    scale = np.iinfo(dtype).max // 255
    stored = np.stack([lab[0] / 100 * 255, lab[1] + 128, lab[2] + 128]) * scale
    stored = np.round(stored).astype(dtype)
    content = write_psd(stored, LAB)
    lab = stored / scale - np.array([0, 128, 128])[:, None, None]
    lab[0] *= 100 / 255
    y = (lab[0] + 16) / 116
    xyz = np.stack([y + lab[1] / 500, y, y - lab[2] / 200]) ** 3
    xyz *= np.array([0.96422, 1, 0.82521])[:, None, None]
    to_rgb = np.array(
        [
            [3.1338561, -1.6168667, -0.4906146],
            [-0.9787684, 1.9161415, 0.0334540],
            [0.0719453, -0.2289914, 1.4052427],
        ]
    )  # of D50, by Bradford: brucelindbloom.com
    linear = np.einsum("ij,jyx->yxi", to_rgb, xyz)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    difference = np.abs(read_pixels(content) - 255 * srgb)
    # Samples of 16 bits are rounded to 8, which are steps of 1 in a and b.
    assert difference.max() < (2.5 if dtype == np.uint8 else 4)
    assert difference.mean() < 0.8
    as_pillow = Image.open(io.BytesIO(content)) if dtype == np.uint8 else None
    if as_pillow is not None:
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(*profiles, "LAB", "RGB")
        converted = ImageCms.applyTransform(as_pillow, transform)
        np.testing.assert_array_equal(read_pixels(content), np.asarray(converted))


def matted(stored: np.ndarray) -> np.ndarray:
    """Planes laid on white by the last one, as Photoshop stores them."""
    top = int(np.iinfo(stored.dtype).max)
    alpha = stored[-1].astype(np.int64)
    colours = (stored[:-1] * alpha + top * (top - alpha) + top // 2) // top
    return np.concatenate([colours, alpha[None]]).astype(stored.dtype)


@pytest.mark.parametrize("psb", [False, True], ids=["psd", "psb"])
@pytest.mark.parametrize(
    ("count", "block", "dtype"),
    [
        (-2, b"", np.uint8),
        (-1, b"", np.uint16),
        (0, b"Mtrn", np.uint8),
        (-1, b"Lr16", np.uint16),
        (0, b"Mt16", np.uint16),
    ],
)
def test_transparency_is_taken_off_its_white(
    count: int, block: bytes, dtype: Any, psb: bool
) -> None:
    bits = 8 * np.dtype(dtype).itemsize
    layers = layer_part(psb=psb, count=count, depth=bits, block=block)
    straight = planes(4, dtype)
    content = write_psd(matted(straight), RGB, psb=psb, layers=layers)
    pixels = read_pixels(content)
    seen = straight[3] > np.iinfo(dtype).max * 0.8  # else few values are left of the colour
    expected = to_8_bit(straight.transpose(1, 2, 0))
    difference = np.abs(pixels.astype(int) - expected)
    assert difference[seen].max() <= 1
    np.testing.assert_array_equal(pixels[..., 3], expected[..., 3])
    reference = read_by_psd_tools(content).astype(int)
    # It truncates, and reduces samples to 8 bits before.
    assert np.abs(pixels - reference)[seen].max() <= 2


def test_transparency_of_grey_and_of_cmyk() -> None:
    layers = layer_part(psb=False, count=-1)
    straight = planes(2)
    pixels = read_pixels(write_psd(matted(straight), GREY, layers=layers))
    opaque = straight[-1] > 200
    assert np.abs(pixels[..., 0].astype(int) - straight[0])[opaque].max() <= 1
    np.testing.assert_array_equal(pixels[..., 1], straight[1])
    straight = planes(5)
    pixels = read_pixels(write_psd(matted(straight), CMYK, layers=layers))
    inks = Image.fromarray(255 - straight[:4].transpose(1, 2, 0), "CMYK")
    opaque = straight[-1] == 254
    assert opaque.any()
    expected = np.asarray(inks.convert("RGB"))
    assert np.abs(pixels[..., :3].astype(int) - expected)[opaque].max() <= 2
    np.testing.assert_array_equal(pixels[..., 3], straight[4])


@pytest.mark.parametrize("layers", [None, 3], ids=["flat", "layers"])
def test_saved_selections_and_spot_colours_are_left_out(layers: int | None) -> None:
    stored = planes(5)
    part = None if layers is None else layer_part(psb=False, count=layers)
    content = write_psd(stored, RGB, layers=part)
    np.testing.assert_array_equal(read_pixels(content), stored[:3].transpose(1, 2, 0))
    with open_source(content) as source:
        assert "2 extra channels left out" in source.metadata.notes[0]


def test_the_profile_and_the_resolution(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    resolution = struct.pack(">IHHIHH", 300 << 16, 2, 1, 150 << 16, 2, 1)
    resources = {1005: resolution, 1006: b"\5Alpha", ICC_PROFILE: profile}
    path = tmp_path / "a.psd"
    path.write_bytes(write_psd(planes(3), resources=resources))
    with open_source(path) as source:
        assert source.metadata.icc_profile == profile
        assert source.metadata.resolution == (300, 150)
    fasttile.cut(path, tmp_path / "a.dzi", format="png", icc="keep")
    with Image.open(tmp_path / "a_files" / "8" / "0_0.png") as tile:
        assert tile.info["icc_profile"] == profile


def level_pixels(folder: Path) -> np.ndarray:
    """The pixels of a level of Deep Zoom, of tiles of 256 pixels without overlap."""
    tiles = {tuple(map(int, file.stem.split("_"))): file for file in folder.iterdir()}
    cols, rows = (1 + max(place[axis] for place in tiles) for axis in (0, 1))
    opened = [[np.asarray(Image.open(tiles[x, y])) for x in range(cols)] for y in range(rows)]
    return np.vstack([np.hstack(line) for line in opened])


def test_a_file_that_psd_tools_writes(tmp_path: Path) -> None:
    for mode in ("L", "RGB"):  # CMYK it does not invert
        image = Image.fromarray(planes(3).transpose(1, 2, 0)).convert(mode)
        path = tmp_path / f"{mode}.psd"
        psd_tools.PSDImage.frompil(image).save(path)
        np.testing.assert_array_equal(np.squeeze(read_pixels(path)), np.asarray(image))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.psb", "a.psd"])
def test_cuts_of_all_kinds_have_the_pixels_of_the_composite(tmp_path: Path, name: str) -> None:
    stored = np.random.default_rng(1).integers(0, 256, (4, 700, 900), np.uint8)
    stored[:, :, :300] //= 64
    path = tmp_path / name
    layers = layer_part(psb=name == "a.psb", count=1)
    path.write_bytes(write_psd(stored, psb=name == "a.psb", layers=layers))
    expected = read_by_psd_tools(path.read_bytes())[..., :3]
    options = ["--format", "png", "--tile-size", "256", "--overlap", "0", "--quiet"]
    commands = {"a": [], "w": ["--workers", "2"], "r": ["--region", "100,50,600,512"]}
    for result, more in commands.items():
        cut = run("cut", path, "-o", tmp_path / f"{result}.dzi", *options, *more)
        assert (cut.returncode, cut.stderr) == (0, "")
        part = expected[50:562, 100:700] if result == "r" else expected
        np.testing.assert_array_equal(level_pixels(tmp_path / f"{result}_files" / "10"), part)
    with fasttile.open_pyramid(path, format="png", tile_size=256, overlap=0) as pyramid:
        found = np.asarray(Image.open(io.BytesIO(pyramid.tile(pyramid.level_count - 1, 1, 1))))
        np.testing.assert_array_equal(found, expected[256:512, 256:512])
    assert run("verify", tmp_path / "a.dzi", "--source", path).returncode == 0


def test_a_composite_that_is_missing_is_refused() -> None:
    content = write_psd(planes(3), resources={VERSION_INFO: version_info(False)})
    with pytest.raises(SourceError, match="only layers are in it; save it in Photoshop with"):
        open_source(content)
    content = write_psd(planes(3), resources={VERSION_INFO: version_info(True)})
    assert read_pixels(content).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (write_psd(planes(4), MULTICHANNEL), "a PSD of multichannel, 8 bits, is not read"),
        (write_psd(planes(3), 5), "a PSD of mode 5, 8 bits, is not read"),
        (write_psd(planes(3), RGB, depth=32), "a PSD of RGB, 32 bits, is not read"),
        (write_psd(planes(2), RGB), "2 channels; RGB has 3"),
        (write_psd(planes(1), INDEXED, colour_data=bytes(9)), "its palette has not 256 colours"),
        (write_psd(planes(3), compression=3), "compression 3 of its composite is not read"),
        (write_psd(planes(3)[:, :0]), "90×0 pixels; expected 1 to 300,000 a side"),
        (write_psd(planes(3), width=300_001), "300001×150 pixels; expected 1 to 300,000"),
        (b"8BPS\0\3" + bytes(40), "version 3; expected 1"),
        (write_psd(planes(3))[:20], "the file ends within its header"),
        (write_psd(planes(3))[:50], "table of 450 rows needs 940 bytes, but the file has 50"),
        (write_psd(planes(3), layers=b"\x7f\0\0\0"), "a part of 2,130,706,432 bytes at byte 38"),
    ],
)
def test_what_is_not_read_is_named(content: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(content)


def test_layers_are_no_pages(tmp_path: Path) -> None:
    content = write_psd(planes(3), layers=layer_part(psb=False, count=2))
    with open_source(content, read_options=ReadOptions(page=1)) as source:
        assert (source.metadata.pages, source.metadata.notes) == (1, ())
    with pytest.raises(MissingPageError, match="has no page 2: layers are not read; it has 1"):
        open_source(content, read_options=ReadOptions(page=2))


@pytest.mark.parametrize("compression", [0, 1], ids=["raw", "packbits"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_truncated_file_is_cut_as_far_as_all_bands_are_there(
    dtype: Any, compression: int
) -> None:
    stored = planes(3, dtype)
    content = write_psd(stored, compression=compression)
    row = stored[2, -50].tobytes()
    tail = b"".join(
        pack_bits(one.astype(one.dtype.newbyteorder(">")).tobytes()) for one in stored[2, -50:]
    )
    cut_off = content[: -len(tail if compression else row * 50) - 1]
    with pytest.raises(
        TruncatedError, match="rows from 99 of 150 on are not in the file"
    ) as caught:
        open_source(cut_off)
    assert caught.value.rows == 99
    with open_source(cut_off, read_options=FILLED, window="full") as source:
        pixels = np.concatenate([source.rows(y, y + 1).copy() for y in range(HEIGHT)])
        assert source.metadata.warnings == ["only 99 of 150 rows are there, the rest is background"]
    assert (pixels[99:] == 255).all()
    np.testing.assert_array_equal(pixels[:99], read_pixels(content)[:99])


def damaged_row(packed: bytes, row: int) -> bytes:
    """A file of 4 × 10 pixels of grey with one row replaced, and its length in the table."""
    content = write_psd(np.arange(40, dtype=np.uint8).reshape(1, 10, 4), GREY)
    table, rows = content[-70:-50], [content[-50 + 5 * n :][:5] for n in range(10)]
    assert rows[0] == b"\x03\0\1\2\3"
    lengths = list(struct.unpack(">10H", table))
    lengths[row], rows[row] = len(packed), packed
    return content[:-70] + struct.pack(">10H", *lengths) + b"".join(rows)


@pytest.mark.parametrize(
    "packed",
    [
        b"\x02\0\1\2",  # too short
        b"\x04\0\1\2\3\4",  # a literal over the end of the row
        b"\xfc\0",  # a run over the end
        b"\xfd",  # a run without its byte
        b"\x07\0\1\2\3",  # a literal over the end of the data
        b"\xfd\0\xff\0",  # more than the row
        b"\x80\x80\x80",  # nothing
        b"",
        bytes([0, 1] * 6),  # longer than any encoder makes a row
    ],
)
@pytest.mark.parametrize("row", [0, 6, 9])
def test_a_row_that_has_not_its_length_is_damage(packed: bytes, row: int) -> None:
    content = damaged_row(packed, row)
    with pytest.raises(TruncatedError) as caught, open_source(content) as source:
        source.rows(0, 10)
    assert caught.value.rows == row
    with open_source(content, read_options=FILLED) as source:
        pixels = source.rows(0, 10)
    np.testing.assert_array_equal(pixels[:row].ravel(), np.arange(4 * row))
    assert (pixels[row:] == 255).all()


@pytest.mark.parametrize("packed", [b"\xfd\5", b"\xfd\5\0", b"\x80\xfd\5", b"\xff\5\x01\5\5"])
def test_odd_rows_of_the_right_length(packed: bytes) -> None:
    pixels = read_pixels(damaged_row(packed, 6))
    assert (pixels[6] == 5).all()
    np.testing.assert_array_equal(pixels[7:].ravel(), np.arange(28, 40))


def test_a_table_that_lies_is_no_image() -> None:
    stored = planes(3)
    content = bytearray(write_psd(stored))
    start = len(content) - sum(len(pack_bits(row.tobytes())) for row in stored.reshape(-1, WIDTH))
    (length,) = struct.unpack_from(">H", content, start - 900 + 2 * 170)
    struct.pack_into(">H", content, start - 900 + 2 * 170, length + 1)  # row 20 of the green
    (length,) = struct.unpack_from(">H", content, start - 900 + 2 * 180)
    struct.pack_into(">H", content, start - 900 + 2 * 180, length - 1)
    with pytest.raises(TruncatedError) as caught:
        read_pixels(bytes(content))
    assert caught.value.rows in (20, 21)


@pytest.mark.parametrize("width", [300_000, 30_000])
def test_claims_take_no_memory(width: int) -> None:
    content = write_psd(planes(3), psb=True, width=width)
    claimed = bytearray(content)
    struct.pack_into(">I", claimed, 14, 300_000)
    with pytest.raises(SourceError, match=r"more than its size makes likely|needs 3600040 bytes"):
        open_source(bytes(claimed))


def test_broken_resources_are_ignored_with_a_note() -> None:
    content = write_psd(planes(3), resources={1006: b"\5Alpha", 1005: bytes(16)})
    broken = content.replace(b"8BIM\x03\xed", b"8BXX\x03\xed")
    with open_source(broken) as source:
        assert source.metadata.notes == ("image resources broken from byte 52 on, and ignored",)
