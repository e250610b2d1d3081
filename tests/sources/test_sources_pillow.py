"""Images that Pillow decodes: modes, transparency, large images, damage; Pillow is unchanged."""

from __future__ import annotations

import io
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from fasttile.errors import SourceError
from fasttile.sources import open_source
from support.reading import noise, read_checked, read_pixels

FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "TGA", "PCX", "JPEG2000", "ICO", "SGI"]


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_formats_by_what_they_begin_with(tmp_path: Path, format_name: str, mode: str) -> None:
    path = tmp_path / "image.tif"  # the name does not matter
    image = Image.fromarray(noise(48, 48, 3)).convert(mode)
    try:
        image.save(path, format_name)
    except (OSError, ValueError):
        pytest.skip(f"Pillow does not write {mode} as {format_name}")
    with Image.open(path) as again:
        expected = np.asarray(again.convert("RGB") if again.mode == "P" else again)
        expected = expected.reshape(48, 48, -1)
    np.testing.assert_array_equal(read_pixels(path), expected)
    with open_source(path) as source:
        assert source.metadata.format == format_name
        assert source.name == str(path)


def test_a_file_that_pillow_only_writes_is_named(tmp_path: Path) -> None:
    path = tmp_path / "image"
    Image.new("L", (4, 4)).save(path, "PDF")
    with pytest.raises(SourceError, match="image: it is a PDF; pdftoppm"):
        open_source(path)


def test_16_bit_png(tmp_path: Path) -> None:
    path = tmp_path / "image"
    array = noise(9, 7, dtype=np.uint16)
    Image.fromarray(array).save(path, "PNG")
    np.testing.assert_array_equal(read_pixels(path, bits=16)[..., 0], array)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_a_transparent_colour_becomes_alpha(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image"
    image = Image.fromarray(noise(9, 7, 3)).convert(mode)
    key: Any = {"RGB": image.getpixel((2, 3))}.get(mode, 255 if mode == "1" else 7)
    if mode == "L":
        key = image.getpixel((2, 3))
    image.save(path, "PNG", transparency=key)
    with Image.open(path) as again:
        expected = np.asarray(again.convert("LA" if mode in ("1", "L") else "RGBA"))
    got = read_pixels(path)
    np.testing.assert_array_equal(got, expected)
    if mode != "P":
        assert (got[..., -1] == 0).any()
    assert (got[..., -1] == 255).any()


@pytest.mark.parametrize("key", [0, 0x0102, 0x4D4D, 0xFFFF])
def test_a_transparent_value_of_16_bits_counts_with_all_its_bits(tmp_path: Path, key: int) -> None:
    path = tmp_path / "image"
    values = np.array([0, 0x0102, 0x0103, 0x0202, 0x4D4D, 0x4D4E, 0xFF00, 0xFFFF], np.uint16)
    samples = values[noise(20, 30) % len(values)]
    stream = io.BytesIO()
    Image.fromarray(samples).save(stream, "PNG")
    chunk = b"tRNS" + key.to_bytes(2, "big")
    data, after_header = stream.getvalue(), 33
    checksum = zlib.crc32(chunk).to_bytes(4, "big")
    transparency = b"".join([(2).to_bytes(4, "big"), chunk, checksum])
    path.write_bytes(data[:after_header] + transparency + data[after_header:])
    got = read_pixels(path)
    np.testing.assert_array_equal(got[..., 0], np.round(samples / 257))
    np.testing.assert_array_equal(got[..., 1], np.where(samples == key, 0, 255))


def test_profile_and_resolution(tmp_path: Path) -> None:
    path = tmp_path / "image"
    Image.new("RGB", (4, 4)).save(path, "JPEG", dpi=(300, 150), icc_profile=b"profile")
    with open_source(path) as source:
        assert source.metadata.icc_profile == b"profile"
        assert source.metadata.resolution == (300, 150)
    Image.new("RGB", (4, 4)).save(path, "PNG")
    with open_source(path) as source:
        assert source.metadata.icc_profile is None
        assert source.metadata.resolution is None


@pytest.mark.parametrize("dpi", [(0, 72), (72,), "72", (float("inf"), 72), None, ("a", "b")])
def test_a_resolution_that_is_none_is_left_out(dpi: Any) -> None:
    image = Image.new("L", (4, 4))
    image.info["dpi"] = dpi
    with open_source(image) as source:
        assert source.metadata.resolution is None


@pytest.mark.parametrize(
    ("format_name", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "packbits"}),
    ],
)
def test_no_image_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_name: str, options: dict[str, Any]
) -> None:
    path = tmp_path / "image"
    image = Image.fromarray(noise(40, 50, 3))
    image.save(path, format_name, **options)
    with Image.open(path) as again:
        expected = np.asarray(again)
    # As if the image were larger than what Pillow opens; fasttile may not even be warned.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path).load()
    np.testing.assert_array_equal(read_pixels(path), expected)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_pillow_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "image"
    Image.new("RGB", (40, 50)).save(path, "PNG")
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, ImageFile.MAXBLOCK)
    filters = list(warnings.filters)
    read_pixels(path)
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, ImageFile.MAXBLOCK)
    assert warnings.filters == filters


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "GIF", "WEBP", "TIFF"])
def test_a_truncated_image_is_an_error_wherever_it_ends(tmp_path: Path, format_name: str) -> None:
    stream = io.BytesIO()
    options = {"compression": "tiff_lzw"} if format_name == "TIFF" else {}
    Image.fromarray(noise(20, 30, 3)).save(stream, format_name, **options)
    content = stream.getvalue()
    path = tmp_path / "image"
    for length in [*range(1, 60), *range(60, len(content) * 3 // 4, 37)]:
        path.write_bytes(content[:length])
        with pytest.raises(SourceError) as caught:
            read_pixels(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_large_image_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (3, 3)).save(stream, "PNG")
    content = bytearray(stream.getvalue())
    content[16:24] = b"\x7f\xff\xff\xff" * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path = tmp_path / "image"
    path.write_bytes(content)
    with pytest.raises(
        SourceError,
        match=r"claims 2147483647×2147483647 = .*to allow it, use --max-pixels \d+",
    ):
        open_source(path)


def test_an_image_of_the_caller_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "image"
    array = noise(9, 7, 3)
    Image.fromarray(array).save(path, "PNG")
    with Image.open(path) as image:
        with open_source(image) as source:
            assert source.metadata.format == "PNG"
            np.testing.assert_array_equal(read_checked(source), array)
        np.testing.assert_array_equal(np.asarray(image), array)


def test_a_damaged_image_of_the_caller_is_an_error() -> None:
    stream = io.BytesIO()
    Image.fromarray(noise(90, 70, 3)).save(stream, "PNG")
    with (
        Image.open(io.BytesIO(stream.getvalue()[:5000])) as image,
        pytest.raises(SourceError, match=r"image: broken PNG: .*truncated"),
    ):
        open_source(image)
