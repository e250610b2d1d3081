"""Limits of pixels: by the maximum of each codec, and never below a gigapixel."""

from __future__ import annotations

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageDraw

import fasttile
from fasttile.errors import SourceError
from fasttile.options.read import MIN_LIKELY_PIXELS, ReadOptions, likely_pixels
from fasttile.sources import open_source
from fasttile.storage.system import memory_left
from support.measured import run_measured
from support.reading import build_tiff

imagecodecs = pytest.importorskip("imagecodecs")

SIDE = 6_000


def blank_image(format_name: str, mode: str, **options: object) -> int:
    """Bytes of a blank image of `SIDE` × `SIDE` pixels."""
    stream = io.BytesIO()
    Image.new(mode, (SIDE, SIDE)).save(stream, format_name, **options)
    return len(stream.getvalue())


@pytest.mark.parametrize(
    ("codec", "size"),
    [("deflate", 24), ("lzw", 24), ("packbits", 14), ("zstd", 24), ("lzma", 24)],
)
def test_no_codec_packs_more_than_its_maximum(codec: str, size: int) -> None:
    encode = getattr(imagecodecs, f"{codec}_encode")
    options = {} if codec in ("lzw", "packbits") else {"level": 9}
    packed = len(encode(bytes(2**size), **options))
    # Beyond the limit that holds for files of any size
    most = likely_pixels(codec, packed * 2**20, 8) >> 20
    assert 2**size <= most < 3 * 2**size


def test_no_fax_packs_more_than_its_maximum() -> None:
    packed = blank_image("TIFF", "1", compression="group4", strip_size=2**30)
    assert SIDE * SIDE <= likely_pixels("fax", packed * 2**20, 1, SIDE) >> 20 < 2 * SIDE * SIDE


@pytest.mark.parametrize("options", [{"progressive": True}, {"optimize": True}])
def test_no_jpeg_packs_more_than_its_maximum(options: dict[str, bool]) -> None:
    packed = blank_image("JPEG", "L", **options)
    assert SIDE * SIDE <= likely_pixels("jpeg", packed * 2**20) >> 20 < 9 * SIDE * SIDE


def test_unknown_codecs_have_the_highest_maximum() -> None:
    assert likely_pixels("webp", 10**6, 24) == 8 * 32_768 * 10**6 // 24
    assert likely_pixels("webp", 1) == likely_pixels("none", 1) == MIN_LIKELY_PIXELS == 2**30


def draw_title_block(size: tuple[int, int]) -> Image.Image:
    image = Image.new("1", size, 1)
    right, bottom = size
    ImageDraw.Draw(image).rectangle((right - 900, bottom - 500, right - 50, bottom - 50), width=3)
    return image


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((2480, 3508), {"format": "TIFF", "compression": "group4", "strip_size": 2**30}),
        ((2480, 3508), {"format": "TIFF", "compression": "group3", "strip_size": 2**30}),
        ((9933, 14043), {"format": "TIFF", "compression": "group4", "strip_size": 2**30}),
        ((9933, 14043), {"format": "PNG"}),
    ],
)
def test_nearly_blank_pages(
    tmp_path: Path, size: tuple[int, int], options: dict[str, object]
) -> None:
    path = tmp_path / "page"
    image = draw_title_block(size)
    image.save(path, **options)
    with open_source(path) as source:
        last = [source.rows(y, min(y + 64, size[1])).copy() for y in range(0, size[1], 64)][-8:]
    expected = np.asarray(image)[-sum(map(len, last)) :]
    np.testing.assert_array_equal(np.concatenate(last)[..., 0] > 0, expected)


def test_a_blank_page_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "page.tif"
    Image.new("1", (2480, 3508), 1).save(path, compression="group4", strip_size=2**30)
    assert fasttile.cut(path, tmp_path / "page.dzi").tiles > 0


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {259: (8,)},
        {259: (4,), 258: (1,)},
        {258: (16,) * 4, 262: (2,), 277: (4,), 338: (2,)},
        {259: (7,), 258: (8,)},
    ],
)
def test_blocks_that_a_few_bytes_cannot_fill(
    tmp_path: Path, tags: dict[int, tuple[int, ...]]
) -> None:
    """Nearly a gigapixel in one block of 100 bytes: memory is that of the data."""
    path = tmp_path / "image.tif"
    tags = {256: (32_767,), 257: (32_767,), 258: (16,), 259: (5,), 262: (1,), 277: (1,)} | tags
    tags |= {} if 322 in tags else {278: (32_767,)}
    path.write_bytes(build_tiff([b"\0\x10\x01" * 30], tags))
    run = run_measured("cut", path, "-o", tmp_path / "out.dzi")
    assert run.code == 1
    lines = [line for line in run.error.splitlines() if not line.startswith("TIFF")]  # of libtiff
    assert len(lines) == 1
    assert "broken TIFF: " in lines[0]
    assert run.megabytes < 300


def patch_jpeg_size(width: int, height: int, padding: int = 0) -> bytes:
    """A small progressive JPEG that claims another size."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 48)).save(stream, "JPEG", progressive=True, subsampling=0)
    data = bytearray(stream.getvalue())
    at = data.find(b"\xff\xc2")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data) + bytes(padding)


@pytest.mark.parametrize(
    ("compression", "side"), [(5, 32_752), (8, 8_208), (7, 8_208)], ids=["lzw", "deflate", "jpeg"]
)
def test_tiles_far_larger_than_the_image(tmp_path: Path, compression: int, side: int) -> None:
    """Refused before libtiff allocates a tile; `max_pixels` allows it."""
    path = tmp_path / "image.tif"
    tags = {256: (230,), 257: (150,), 258: (8,), 259: (compression,), 262: (1,), 277: (1,)}
    path.write_bytes(build_tiff([b"\0\x10\x01" * 30], {**tags, 322: (side,), 323: (side,)}))
    run = run_measured("cut", path, "-o", tmp_path / "out.dzi")
    assert run.code == 1
    assert f"image.tif: it claims tiles of {side}×{side} = {side * side:,} pixels" in run.error
    assert f"use --max-pixels {side * side}" in run.error
    assert "\n" not in run.error
    assert run.megabytes < 100
    with pytest.raises(SourceError, match="broken TIFF"):
        fasttile.cut(path, tmp_path / "out.dzi", max_pixels=side * side)


def test_a_tile_larger_than_a_small_image(tmp_path: Path) -> None:
    """A tile of a usual size is read, if the image is smaller."""
    image = np.arange(90 * 70, dtype=np.uint8).reshape(90, 70)
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, image, tile=(4096, 4096), compression="deflate")
    with open_source(path) as source:
        assert np.array_equal(source.rows(0, 90)[..., 0], image)


def test_a_progressive_jpeg_that_its_bytes_cannot_hold() -> None:
    with pytest.raises(SourceError, match=r"is damaged: its [\d,]+ bytes cannot hold 32000×32000"):
        open_source(patch_jpeg_size(32_000, 32_000))
    with open_source(patch_jpeg_size(64, 48)) as source:
        assert source.rows(0, 48).shape == (48, 64, 3)


def test_a_progressive_jpeg_that_does_not_fit_into_memory() -> None:
    side = 65_500
    if (memory_left() or 2**60) > 6 * side**2:
        pytest.skip("NOT TESTED: this machine has the memory for the largest JPEG")
    data = patch_jpeg_size(side, side, padding=2**23 + 2**20)
    with pytest.raises(SourceError, match="a progressive JPEG of 65500×65500 pixels takes 25,"):
        open_source(data, read_options=ReadOptions(max_pixels=side**2))


def test_the_number_in_a_hint_suffices_for_a_png(tmp_path: Path) -> None:
    path = tmp_path / "image"
    header = b"IHDR" + struct.pack(">2I5B", 60_000, 40_000, 1, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(100), 9)
    chunks = [
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data)
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    with pytest.raises(SourceError, match=r"--max-pixels \d+") as refused:
        open_source(path)
    hint = re.search(r"--max-pixels (\d+)", str(refused.value))
    assert hint is not None
    options = ReadOptions(max_pixels=int(hint[1]))
    with (
        open_source(path, read_options=options) as source,
        pytest.raises(SourceError, match="0 of 40000 rows"),
    ):
        source.rows(0, 64)
