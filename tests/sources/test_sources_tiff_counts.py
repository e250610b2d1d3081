"""TIFFs whose list of sizes is missing or has zeros, as some scanners write them."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import fasttile
from fasttile import SourceError
from support.reading import noise

STRIP_OFFSETS, STRIP_SIZES, TILE_OFFSETS, TILE_SIZES = 273, 279, 324, 325

FORMS: dict[str, dict[str, Any]] = {
    "one strip": {"rowsperstrip": 1000},
    "strips": {"rowsperstrip": 16},
    "tiles": {"tile": (32, 48)},
    "planes": {"rowsperstrip": 16, "planarconfig": "separate"},
}

COMPRESSIONS = ("none", "lzw", "zlib", "packbits", "jpeg", "zstd")


def make_tiff(form: str, compression: str) -> bytes:
    pixels = np.kron(noise(20, 25, 3), np.ones((4, 4, 1), np.uint8))
    options = dict(FORMS[form])
    if compression != "none":
        options["compression"] = compression
    if options.get("planarconfig"):
        pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric="rgb", metadata=None, **options)
    return file.getvalue()


def patch_tag(data: bytes, tag: int, change: str) -> bytes:
    """Set a tag's values to 0, only some of them, or make the tag an unknown one."""
    patched = bytearray(data)
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for number in range(count):
        place = start + 2 + 12 * number
        key, kind, length, value = struct.unpack_from("<HHII", data, place)
        if key != tag:
            continue
        if change == "missing":
            struct.pack_into("<H", patched, place, 65000)
            continue
        size = {3: 2, 4: 4}[kind]
        values_at = place + 8 if size * length <= 4 else value
        for index in range(0, length, 2 if change == "every second" else 1):
            patched[values_at + index * size : values_at + (index + 1) * size] = bytes(size)
    return bytes(patched)


def read(data: bytes) -> Any:
    with fasttile.open_source(io.BytesIO(data)) as source:
        return np.array(source.rows(0, source.height))


@pytest.mark.parametrize("change", ["all", "every second", "missing"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("form", FORMS)
def test_sizes_are_estimated(form: str, compression: str, change: str) -> None:
    data = make_tiff(form, compression)
    patched = patch_tag(data, TILE_SIZES if form == "tiles" else STRIP_SIZES, change)
    assert patched != data
    np.testing.assert_array_equal(read(patched), read(data))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "group4"])
def test_one_strip_as_pillow_reads_it(compression: str) -> None:
    image = Image.fromarray(noise(90, 110))
    if compression == "group4":
        image = image.convert("1")
    file = io.BytesIO()
    image.save(file, "TIFF", compression=compression, strip_size=2**30)
    patched = patch_tag(file.getvalue(), STRIP_SIZES, "all")
    with Image.open(io.BytesIO(patched)) as expected:
        np.testing.assert_array_equal(read(patched)[..., 0], np.asarray(expected.convert("L")))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("compression", ["none", "zlib"])
def test_a_file_without_any_block_is_an_error(form: str, compression: str) -> None:
    tag = TILE_OFFSETS if form == "tiles" else STRIP_OFFSETS
    with pytest.raises(SourceError, match=r"none of its .* is in the file"):
        read(patch_tag(make_tiff(form, compression), tag, "all"))


@pytest.mark.parametrize("form", ["strips", "tiles"])
@pytest.mark.parametrize("compression", ["none", "zlib"])
def test_blocks_without_an_offset_are_background(form: str, compression: str) -> None:
    tag = TILE_OFFSETS if form == "tiles" else STRIP_OFFSETS
    data = make_tiff(form, compression)
    pixels = read(patch_tag(data, tag, "every second"))
    expected = read(data)
    is_left_out = (pixels == 255).all(axis=-1)
    assert 0.2 < is_left_out.mean() < 0.8
    np.testing.assert_array_equal(pixels[~is_left_out], expected[~is_left_out])


@pytest.mark.parametrize("form", ["one strip", "strips"])
def test_a_truncated_file_without_sizes(form: str) -> None:
    data = patch_tag(make_tiff(form, "none"), STRIP_SIZES, "missing")
    with pytest.raises(SourceError):
        read(data[:-1000])
