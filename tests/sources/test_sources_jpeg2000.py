"""JPEG 2000: headers of JPX, and YCbCr of more than 8 bits, which Pillow reads wrong."""

from __future__ import annotations

import base64
import io
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

import fasttile
from fasttile.errors import SourceError
from fasttile.options.read import ReadOptions
from fasttile.sources import open_source
from support.reading import read_pixels

imagecodecs = pytest.importorskip("imagecodecs")

# By opj_compress of OpenJPEG 2.5, 16 x 16 pixels of 16 bits: Y rises by 4000 a column and by 50 a
# row, Cb is 20000, Cr is 40000.
SUBSAMPLED = {
    "420": (
        "/0//UQAvAAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAADDwEBDwICDwIC/1IADAAAAAEAAAQEAAH/"
        "XAAEQID/ZAAlAAFDcmVhdGVkIGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjD/kAAKAAAAAAHbAAH/k9/4myISN2XZ"
        "vqyuUtQ9U0qetCyvBwYFmNaLuqkFPaUPKg0FRTXT6YzX/CbEgK317ntb5sVuHU9xL5sVuGbDpdjPWYB/MTYEfdi+"
        "aCMvsMslKqhzMYaHgwGyUDwj3ojaVtwdB5RfMYPBnzsMLEPwMt9LTFLoKDD3jndc81iCn+cgWm8kS78OzpOGxFMu"
        "Ucuwf9giOuh8CiCQxnROhkAVsd168JQXPsm6MPm9/LmuuvsNqalbQAJKXX+AEFuigwAxeyXGBnoJam+94orR6pK8"
        "Pre18lnpHAlqBPbbXEtcS1xN3H+lp/xA/4FMRAf/f/9//fYv/4TYxbDYb1p9Vf1XVVVf1XVWY6SPLzRj8vNGPy8v"
        "IQfeXQH/Oo1t7FAMwCgAAKgCABMYP3YW3sUAzAKAAAAAAAI2DHYZJ1+scprMy4uI9Oy1mZlxcR6dlrMzRi4j0TxG"
        "pSc6iCMqo8KWVVYZ3fzRGaZmZiGYzNEZpmZmIZjM0rZ4AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAFYA//"
        "f8f+DC4RUFSv/aGIAAAAGEhL9rEQAAAwkJf/f8P/AAwAFABcr4I9SAABhIS+vmYAAGEhGqFDCQl//9k="
    ),
    "422": (
        "/0//UQAvAAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAADDwEBDwIBDwIB/1IADAAAAAEAAAQEAAH/"
        "XAAEQID/ZAAlAAFDcmVhdGVkIGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjD/kAAKAAAAAAHlAAH/k9/4myISN2XZ"
        "vqyuUtQ9U0qetCyvBwYFmNaLuqkFPaUPKg0FRTXT6YzX/CbEgK317ntb5sVuHU9xL5sVuGbDpdjPWYB/MTYEfdi+"
        "aCMvsMslKqhzMYaHgwGyUDwj3ojaVtwdB5RfMYPBnzsMLEPwMt9LTFLoKDD3jndc81iCn+cgWm8kS78OzpOGxFMu"
        "Ucuwf9giOuh8CiCQxnROhkAVsd168JQXPsm6MPm9/LmuuvsNqalbQAJKXX+AEFuigwAxeyXGBnoJam+94orR6pK8"
        "Pre18lnpHAlqBPbbXEtcS1xN3H+lp/xA/4FMRAf/f/9//fYv/4TYxbDYb1p9Vf1XVVVf1XVWY6SPLzRj8vNGPy8v"
        "IQfeXQH/Oo1t7FAMwCgAAKgCABMYP3YW3sUAzAKAAAAAAAI2DHYZJ1+scprMy4uI9Oy1mZlxcR6dlrMzRi4j0TxG"
        "pSc6iCMqo8KWVVYZ3fzRGaZmZiGYzNEZpmZmIZjM0rZ4AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAFYA//"
        "f8f+DDQRUFSt1nc24AAAAAwkJf8GnYAAAAAwkJf/f8P/AA+AFABcrdD0cUAAAAGEhL/EkgAAAAGEhLuvWABhIS//"
        "f//Z"
    ),
    "440": (
        "/0//UQAvAAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAADDwEBDwECDwEC/1IADAAAAAEAAAQEAAH/"
        "XAAEQID/ZAAlAAFDcmVhdGVkIGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjD/kAAKAAAAAAHlAAH/k9/4myISN2XZ"
        "vqyuUtQ9U0qetCyvBwYFmNaLuqkFPaUPKg0FRTXT6YzX/CbEgK317ntb5sVuHU9xL5sVuGbDpdjPWYB/MTYEfdi+"
        "aCMvsMslKqhzMYaHgwGyUDwj3ojaVtwdB5RfMYPBnzsMLEPwMt9LTFLoKDD3jndc81iCn+cgWm8kS78OzpOGxFMu"
        "Ucuwf9giOuh8CiCQxnROhkAVsd168JQXPsm6MPm9/LmuuvsNqalbQAJKXX+AEFuigwAxeyXGBnoJam+94orR6pK8"
        "Pre18lnpHAlqBPbbXEtcS1xN3H+lp/xA/4FMRAf/f/9//fYv/4TYxbDYb1p9Vf1XVVVf1XVWY6SPLzRj8vNGPy8v"
        "IQfeXQH/Oo1t7FAMwCgAAKgCABMYP3YW3sUAzAKAAAAAAAI2DHYZJ1+scprMy4uI9Oy1mZlxcR6dlrMzRi4j0TxG"
        "pSc6iCMqo8KWVVYZ3fzRGaZmZiGYzNEZpmZmIZjM0rZ4AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAFYA//"
        "f8f+DDQRUFSv/JIm4AAAAAwkJf8GnYAAAAAwkJf/f8P/AA+AFABcr/cPYUAAAAGEhL/EkgAAAAGEhLuvWABhIS//"
        "f//Z"
    ),
}


def box(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I4s", 8 + len(data), kind) + data


def photograph() -> np.ndarray:
    down, across = np.mgrid[0:64, 0:96]
    return np.dstack([2 * across, 3 * down, 255 - across - down]).astype(np.uint8)


def codestream(pixels: np.ndarray) -> bytes:
    """A codestream without loss and without a transform of colours."""
    content: bytes = imagecodecs.jpeg2k_encode(
        pixels, codecformat="j2k", reversible=True, mct=False
    )
    return content


SIGNATURE = box(b"jP  ", b"\r\n\x87\n")
JPX = SIGNATURE + box(b"ftyp", b"jpx \0\0\0\0jpx ") + box(b"rreq", bytes(13))
JP2 = SIGNATURE + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
SRGB = box(b"colr", b"\1\0\0", struct.pack(">I", 16))
SYCC = box(b"colr", b"\1\0\0", struct.pack(">I", 18))
VENDOR = box(b"colr", b"\4\0\0", bytes(16))


def ihdr(bits: int = 8, side: tuple[int, int] = (64, 96)) -> bytes:
    return box(b"ihdr", struct.pack(">IIHBBBB", *side, 3, bits - 1, 7, 0, 0))


def icc() -> tuple[bytes, bytes]:
    """A profile, and its box."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile, box(b"colr", b"\3\0\0", profile)


@pytest.mark.parametrize(
    "build",
    [
        lambda code, colr: JPX + box(b"jp2h", ihdr(), colr) + box(b"jp2c", code),
        lambda code, colr: JPX + box(b"jp2h", ihdr(), VENDOR, colr) + box(b"jp2c", code),
        lambda code, colr: (
            JPX + box(b"jpch", ihdr()) + box(b"jplh", box(b"cgrp", colr)) + box(b"jp2c", code)
        ),
        lambda code, colr: JPX + box(b"jplh", box(b"cgrp", colr)) + box(b"jp2c", code),
        lambda code, colr: (
            JPX + box(b"jp2h", ihdr()) + box(b"jplh", box(b"cgrp", colr)) + box(b"jp2c", code)
        ),
        lambda code, colr: JPX + box(b"jp2c", code) + box(b"jp2h", ihdr(), colr),
    ],
    ids=["plain", "vendor", "layers", "no sizes", "colours of layers", "behind"],
)
def test_headers_of_jpx(tmp_path: Path, build: Any) -> None:
    path = tmp_path / "a.jpf"
    profile, colour = icc()
    path.write_bytes(build(codestream(photograph()), colour))
    np.testing.assert_array_equal(read_pixels(path), photograph())
    with open_source(path) as source:
        assert source.metadata.icc_profile == profile
    path.write_bytes(build(codestream(photograph()), SRGB))
    np.testing.assert_array_equal(read_pixels(path), photograph())
    fasttile.cut(path, tmp_path / "a.dzi", format="png")
    tile = Image.open(tmp_path / "a_files" / "7" / "0_0.png")
    np.testing.assert_array_equal(np.asarray(tile), photograph())


def rgb_of(y: np.ndarray, cb: Any, cr: Any, top: int) -> np.ndarray:
    """RGB of sYCC by IEC 61966-2-1, amendment 1, of 0 to 255."""
    blue, red = cb - (top + 1) // 2, cr - (top + 1) // 2
    rgb = np.dstack([y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue])
    return np.clip(rgb, 0, top) / top * 255


@pytest.mark.parametrize("bits", [12, 16])
def test_ycbcr_of_more_than_8_bits(bits: int) -> None:
    top = 2**bits - 1
    down, across = np.mgrid[0:64, 0:96]
    planes = [top * across // 96, top // 3 + down * (top // 200), top // 2 + across * (top // 300)]
    planes[0][0] = top
    pixels = np.dstack(planes).astype(np.uint16)
    code: bytes = imagecodecs.jpeg2k_encode(
        pixels, codecformat="j2k", reversible=True, mct=False, bitspersample=bits
    )
    content = JP2 + box(b"jp2h", ihdr(bits), SYCC) + box(b"jp2c", code)
    expected = rgb_of(*(plane.astype(float) for plane in planes), top)
    window = (0, top) if bits < 16 else "full"
    assert np.abs(read_pixels(content, window=window) - expected).max() < 1.1
    with open_source(content) as source:
        assert "YCbCr converted to RGB" in source.metadata.notes
        assert np.abs(source.rows(0, 64) - expected).max() < 1.1
    if bits == 16:  # which Pillow lets overflow
        pillow = np.asarray(Image.open(io.BytesIO(content))).astype(int)
        assert np.abs(pillow - expected).max() > 100


@pytest.mark.parametrize("bits", [9, 10, 12, 16])
@pytest.mark.parametrize("bands", [2, 3, 4])
@pytest.mark.parametrize("form", ["jp2", "j2k"])
def test_colours_of_more_than_8_bits(bits: int, bands: int, form: str) -> None:
    """The brightest values, which become black in Pillow."""
    top = 2**bits - 1
    ramp = np.linspace(0, top, 200).round().astype(np.uint16)
    pixels = np.stack([np.roll(ramp, 7 * band) for band in range(bands)], axis=-1)[None].repeat(
        9, 0
    )
    content: bytes = imagecodecs.jpeg2k_encode(
        pixels, level=0, codecformat=form, reversible=True, bitspersample=bits
    )
    found = read_pixels(content, window=(0, top)).astype(int)
    exact = pixels * 255.0 / top
    assert found.shape == exact.shape
    assert np.abs(found - exact).max() <= 0.51
    pillow = np.asarray(Image.open(io.BytesIO(content))).astype(int)
    assert np.abs(pillow - exact).max() > 200


def test_bands_and_nodata_of_deep_colours(tmp_path: Path) -> None:
    pixels = np.arange(64 * 64 * 3, dtype=np.uint16).reshape(64, 64, 3) * 5
    pixels[:8, :8] = 65_535
    path = tmp_path / "a.jp2"
    path.write_bytes(imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="jp2", reversible=True))
    options = ReadOptions(bands="2", nodata=65_535)
    with open_source(path, window="full", read_options=options) as source:
        found = source.rows(0, 64).copy()
    np.testing.assert_array_equal(found[..., 1], np.where(pixels[..., 1] == 65_535, 0, 255))
    shown = found[..., 1] > 0
    assert np.abs(found[shown][:, 0] - pixels[shown][:, 1] / 257).max() <= 0.51
    with pytest.raises(SourceError, match="has no page 2"):
        open_source(path, read_options=ReadOptions(page=2))


def test_cmyk_of_more_than_8_bits_is_refused() -> None:
    pixels = np.full((9, 9, 4), 65_535, np.uint16)
    code: bytes = imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True)
    cmyk = box(b"colr", b"\1\0\0", struct.pack(">I", 12))
    header = box(b"ihdr", struct.pack(">IIHBBBB", 9, 9, 4, 15, 7, 0, 0))
    with pytest.raises(SourceError, match="of CMYK, is not read"):
        open_source(JP2 + box(b"jp2h", header, cmyk) + box(b"jp2c", code))


@pytest.mark.parametrize("kind", ["420", "422"])
def test_subsampled_ycbcr_of_16_bits(kind: str) -> None:
    content = base64.b64decode(SUBSAMPLED[kind])
    down, across = np.mgrid[0:16, 0:16]
    y = np.clip(across * 4000.0 + down * 50, 0, 65_535)
    expected = rgb_of(y, np.full_like(y, 20_000), np.full_like(y, 40_000), 65_535)
    assert np.abs(read_pixels(content) - expected).max() < 1.1


def test_what_is_not_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    content = base64.b64decode(SUBSAMPLED["440"])
    with pytest.raises(SourceError, match=r"subsampled \[\(1, 1\), \(1, 2\)\], is not read"):
        open_source(content)
    content = base64.b64decode(SUBSAMPLED["420"])
    with pytest.raises(SourceError, match="the limit"):
        open_source(content, read_options=ReadOptions(max_pixels=100))
    with pytest.raises(SourceError, match="broken JPEG 2000"):
        open_source(content[:130])
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(SourceError, match=r"pip install fasttile\[tiff\] reads it"):
        open_source(content)


@pytest.mark.parametrize(
    "content",
    [
        JPX,
        JPX + box(b"jp2c", b"\xff\x4f\xff\x51"),
        JPX + box(b"colr", b"\1\0\0\0\0\0\x10") + box(b"jp2c", bytes(99)),
        JPX + box(b"jp2h", ihdr()) + struct.pack(">I4s", 9, b"jplh") + b"\0",
        b"\xff\x4f\xff\x51" + bytes(20),
    ],
)
def test_broken_boxes_are_errors(content: bytes) -> None:
    with pytest.raises(SourceError):
        read_pixels(content)
