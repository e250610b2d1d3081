"""PNM and BMP: each header that is read in place, against Pillow and against hand-made files."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fasttile.errors import SourceError
from fasttile.sources import open_source
from support.reading import noise, read_pixels, to_8_bit

SIZES = [(1, 1), (1, 5), (7, 1), (5, 3), (70, 6)]


# PNM


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_pnm_by_pillow(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image"
    for height, width in SIZES:
        shape = (height, width, 3) if mode == "RGB" else (height, width)
        array = noise(*shape, dtype=np.uint16 if mode == "I;16" else np.uint8)
        Image.fromarray(array).save(path, "PPM")
        expected = to_8_bit(array).reshape(height, width, -1)
        np.testing.assert_array_equal(read_pixels(path), expected)
        with open_source(path) as source:
            assert source.is_mapped == (mode != "I;16")
            assert source.metadata.format == ("PPM" if mode == "RGB" else "PGM")


def _scaled(array: Any, maxval: int) -> Any:
    """Stretched to the full range, halves up, in floats: exact enough for these sizes."""
    top = 255 if maxval < 256 else 65535
    values = np.minimum(array.astype(np.float64), maxval)
    return to_8_bit(np.floor(values * top / maxval + 0.5).astype(f"u{1 + (top > 255)}"))


@pytest.mark.parametrize("maxval", [1, 2, 7, 100, 254, 255, 256, 1023, 4095, 65534, 65535])
@pytest.mark.parametrize("kind", ["P5", "P6", "P7-1", "P7-2", "P7-3", "P7-4"])
def test_pnm_of_each_maxval(tmp_path: Path, maxval: int, kind: str) -> None:
    bands = {"P5": 1, "P6": 3}.get(kind) or int(kind[-1])
    array = noise(9, 11, bands, dtype="u1" if maxval < 256 else ">u2")
    if maxval not in (254, 65534):  # there, values above maxval are tried too
        array = (array.astype(np.int64) % (maxval + 1)).astype(array.dtype)
    header = f"{kind} 11 9\n{maxval}\n"
    if kind.startswith("P7"):
        header = f"P7\nWIDTH 11\nHEIGHT 9\nDEPTH {bands}\nMAXVAL {maxval}\nENDHDR\n"
    path = tmp_path / "image"
    path.write_bytes(header.encode() + array.tobytes() + b"P5 1 1 255\n\0")
    np.testing.assert_array_equal(read_pixels(path), _scaled(array, maxval))
    if bands == 1 and maxval > 255:
        deep = read_pixels(path, bits=16)
        np.testing.assert_array_equal(to_8_bit(deep), _scaled(array, maxval))


def test_pnm_of_other_maxvals_as_pillow_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "image"
    for maxval in (3, 15, 85, 127):  # without halves, which Pillow rounds to even
        array = (noise(9, 11, 3) % (maxval + 1)).astype(np.uint8)
        path.write_bytes(b"P6 11 9 %d\n" % maxval + array.tobytes())
        with Image.open(path) as image:
            np.testing.assert_array_equal(read_pixels(path), np.asarray(image))


@pytest.mark.parametrize(
    "header",
    [
        b"P5\n2 3\n255\n",
        b"P5 2 3 255 ",
        b"P5\r2\t3\v255\f",
        b"P5 # an image\n2 # wide\r3#high\n#\n#\n255\n",
        b"P5\n#" + b"x" * 60000 + b"\n2 3 255\n",
        b"P7\nWIDTH 2\nHEIGHT 3\nDEPTH 1\nMAXVAL 255\nENDHDR\n",
        b"P7\n# an image\nMAXVAL  255\n\nTUPLTYPE GRAYSCALE\nDEPTH 1\nHEIGHT 3\nWIDTH 2\nENDHDR\n",
    ],
)
def test_pnm_headers(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "image"
    path.write_bytes(header + b"\n#abcd")
    assert read_pixels(path).tobytes() == b"\n#abcd"


@pytest.mark.parametrize(
    ("tuples", "bands", "maxval"),
    [
        (["BLACKANDWHITE"], 1, 1),
        (["GRAYSCALE"], 1, 255),
        (["RGB"], 3, 255),
        (["BLACKANDWHITE_ALPHA"], 2, 1),
        (["GRAYSCALE_ALPHA"], 2, 255),
        (["RGB_ALPHA"], 4, 255),
        ([], 4, 255),
    ],
)
def test_pam_tuple_types(tmp_path: Path, tuples: list[str], bands: int, maxval: int) -> None:
    lines = [f"TUPLTYPE {name}\n" for name in tuples]
    header = f"P7\nWIDTH 2\nHEIGHT 2\nDEPTH {bands}\nMAXVAL {maxval}\n{''.join(lines)}ENDHDR\n"
    array = np.minimum(noise(2, 2, bands), maxval)
    path = tmp_path / "image"
    path.write_bytes(header.encode() + array.tobytes())
    np.testing.assert_array_equal(read_pixels(path), array * (255 // maxval))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"P5 2 2 0\n\0\0\0\0", "maxval 0;"),
        (b"P5 2 2 65536\n" + bytes(16), "maxval 65536;"),
        (b"P5 0 2 255\n", r"shape \(2, 0, 1\) has no pixels"),
        (b"P5 2 2\n", "broken PNM header"),
        (b"P5 2 -2 255\n", "broken PNM header"),
        (b"P5 2 2 255", "broken PNM header"),
        (b"P5 2 2 255\n\0\0\0", "needs 15 bytes, but the file has 14"),
        (b"P5\n#" + b"x" * 70000 + b"\n2 2 255\nabcd", "broken PNM header"),
        (b"P6 99999999 99999999 255\n", "but the file has 25"),
        (b"P7\nWIDTH 2\n", "no ENDHDR"),
        (b"P7\nWIDTH 2\nHEIGHT 2\nDEPTH 1\nENDHDR\n", "MAXVAL is missing"),
        (b"P7\nWIDTH 2\nHEIGHT two\nENDHDR\n", "unknown line 'HEIGHT two'"),
        (b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 5\nMAXVAL 255\nENDHDR\n12345", "shape"),
        (
            b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 4\nMAXVAL 255\nTUPLTYPE CMYK\nENDHDR\n1234",
            "'CMYK'; expected one of",
        ),
        (
            b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n1234",
            "RGB has 3 bands, not 4",
        ),
    ],
)
def test_broken_pnm_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=message):
        open_source(path)


# BMP


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_bmp_by_pillow(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image"
    for height, width in [*SIZES, (3, 2), (3, 3), (3, 4)]:
        array = noise(height, width, len(mode))
        Image.fromarray(array).save(path, "BMP", dpi=(300, 150))
        with Image.open(path) as image:  # which says that the fourth byte is padding
            np.testing.assert_array_equal(read_pixels(path), np.asarray(image))
        np.testing.assert_array_equal(read_pixels(path), array[..., :3])
    with open_source(path) as source:
        assert source.metadata.resolution == pytest.approx((300, 150), abs=0.1)
        assert source.metadata.format == "BMP"


def _bmp(
    pixels: Any, header: int, *, compression: int = 0, alpha: int = 0, top_down: bool = False
) -> bytes:
    """A bitmap by hand; pixels are (height, width, 3 or 4), in BGR(A) order."""
    height, width, stored = pixels.shape
    rows = pixels if top_down else pixels[::-1]
    padding = bytes(-(width * stored) % 4)
    data = b"".join(row.tobytes() + padding for row in rows)
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, alpha)
    info = struct.pack(
        "<IiiHHIIiiII", header, width, -height if top_down else height, 1, stored * 8, compression,
        len(data), 0, 0, 0, 0,
    )  # fmt: skip
    if header > 40:
        info = (info + masks).ljust(header, b"\0")[:header]
    elif compression:
        info += masks[: 12 if compression == 3 else 16]
    start = 14 + len(info)
    return struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start) + info + data


@pytest.mark.parametrize("header", [40, 52, 56, 108, 124])
@pytest.mark.parametrize("top_down", [False, True])
def test_bmp_headers(tmp_path: Path, header: int, top_down: bool) -> None:
    path = tmp_path / "image"
    for width, stored in itertools.product((1, 2, 3, 4, 5), (3, 4)):
        pixels = noise(6, width, stored)
        for compression in (0, 3) if stored == 4 else (0,):
            path.write_bytes(_bmp(pixels, header, compression=compression, top_down=top_down))
            np.testing.assert_array_equal(read_pixels(path), pixels[..., 2::-1])
            with Image.open(path) as image:
                np.testing.assert_array_equal(read_pixels(path), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("header", "compression"), [(40, 6), (56, 3), (108, 3), (124, 3)])
@pytest.mark.parametrize("top_down", [False, True])
def test_bmp_alpha(tmp_path: Path, header: int, compression: int, top_down: bool) -> None:
    path = tmp_path / "image"
    pixels = noise(5, 3, 4)
    content = _bmp(pixels, header, compression=compression, alpha=0xFF000000, top_down=top_down)
    path.write_bytes(content)
    np.testing.assert_array_equal(read_pixels(path), pixels[..., [2, 1, 0, 3]])


def test_bmp_alpha_masks_count_only_with_bitfields(tmp_path: Path) -> None:
    path = tmp_path / "image"
    pixels = noise(5, 3, 4)
    path.write_bytes(_bmp(pixels, 124, compression=0, alpha=0xFF000000))
    np.testing.assert_array_equal(read_pixels(path), pixels[..., 2::-1])


def test_other_bmps_go_through_pillow(tmp_path: Path) -> None:
    path = tmp_path / "image"
    grey = noise(6, 5)
    for image in (Image.fromarray(grey), Image.fromarray(grey).convert("P")):
        image.save(path, "BMP")
        np.testing.assert_array_equal(read_pixels(path), np.asarray(image.convert("RGB"))[..., :1])
        with open_source(path) as source:
            assert source.bands == (1 if image.mode == "L" else source.bands)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (10, 20, "pixels at byte 20"),
        (10, 10**6, "but the file has"),
        (18, 0, "0×4 pixels"),
        (22, 0, "3×0 pixels"),
        (18, 2**31 - 1, "but the file has"),
        (22, -(2**31), "but the file has"),
    ],
)
def test_broken_bmp_is_refused(tmp_path: Path, at: int, value: int, message: str) -> None:
    content = bytearray(_bmp(noise(4, 3, 3), 40))
    struct.pack_into("<i", content, at, value)
    path = tmp_path / "image"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=message):
        open_source(path)
