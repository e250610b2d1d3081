"""TIFF: every form that is read in place, against the array that was written and other readers."""

from __future__ import annotations

import itertools
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from fasttile.errors import SourceError
from fasttile.geometry import Region
from fasttile.options.read import ReadOptions
from fasttile.sources import open_source
from fasttile.sources.tiff import open_tiff
from fasttile.storage.random_access import DiskFile
from support.reading import (
    Array,
    build_tiff,
    noise,
    read_checked,
    read_pixels,
    resident_bytes,
    to_8_bit,
)

LAYOUTS: list[dict[str, Any]] = [
    {"rowsperstrip": 1},
    {"rowsperstrip": 7},
    {"rowsperstrip": 1000},
    {"tile": (16, 16)},
    {"tile": (32, 64)},
]
UNSPECIFIED, ASSOCIATED, UNASSOCIATED = 0, 1, 2
KINDS: list[tuple[str, int, tuple[int, ...]]] = [
    ("minisblack", 1, ()),
    ("miniswhite", 1, ()),
    ("minisblack", 2, (UNSPECIFIED,)),
    ("minisblack", 2, (ASSOCIATED,)),
    ("minisblack", 2, (UNASSOCIATED,)),
    ("miniswhite", 2, (UNASSOCIATED,)),
    ("rgb", 3, ()),
    ("rgb", 4, (UNSPECIFIED,)),
    ("rgb", 4, (ASSOCIATED,)),
    ("rgb", 4, (UNASSOCIATED,)),
    ("rgb", 5, (UNASSOCIATED, UNSPECIFIED)),
    ("rgb", 6, (UNSPECIFIED, UNSPECIFIED, ASSOCIATED)),
]


def _expected_pixels(stored: Array, photometric: str, extra: tuple[int, ...]) -> Array:
    """What the stored samples (height, width, samples) mean, written down plainly."""
    colours = 3 if photometric == "rgb" else 1
    tiff_image = stored[..., :colours].astype(np.int64)
    top = int(np.iinfo(stored.dtype).max)
    which = [number for number, kind in enumerate(extra) if kind != UNSPECIFIED][:1]
    alpha = stored[..., [colours + number for number in which]].astype(np.int64)
    if which and extra[which[0]] == ASSOCIATED:
        straight = (tiff_image * top + alpha // 2) // np.maximum(alpha, 1)
        tiff_image = np.where(alpha > 0, np.minimum(straight, top), 0)
    if photometric == "miniswhite":
        tiff_image = top - tiff_image
    return np.concatenate([tiff_image, alpha], axis=2).astype(stored.dtype.newbyteorder("="))


def _tiff_forms() -> Iterator[dict[str, Any]]:
    """Each byte order, BigTIFF or not, each way to lay blocks, chunky and planar."""
    for number, (order, planar, layout) in enumerate(
        itertools.product("<>", ("contig", "separate"), LAYOUTS)
    ):
        yield {"byteorder": order, "planarconfig": planar, "bigtiff": number % 3 == 0, **layout}


@pytest.mark.parametrize(("photometric", "samples", "extra"), KINDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_each_form(
    tmp_path: Path, photometric: str, samples: int, extra: tuple[int, ...], dtype: Any
) -> None:
    path = tmp_path / "image"
    stored = noise(41, 75, samples, dtype=dtype)
    if ASSOCIATED in extra:
        stored[::2, ::2, -1] = 0
    tiff_image = _expected_pixels(stored, photometric, extra)
    for form in _tiff_forms():
        if samples == 1 and form.pop("planarconfig") == "separate":
            continue
        planar = form.get("planarconfig") == "separate"
        written = stored.transpose(2, 0, 1) if planar else stored
        written = written[..., 0] if samples == 1 else written
        tifffile.imwrite(path, written, photometric=photometric, extrasamples=extra or None, **form)
        np.testing.assert_array_equal(read_pixels(path), to_8_bit(tiff_image), str(form))
        plain = photometric != "miniswhite" and len(extra) < 2 and extra in ((), (UNASSOCIATED,))
        with open_source(path) as source:
            # Of planes, only those that are used are read.
            one_plane = planar and (photometric, extra) == ("minisblack", (UNSPECIFIED,))
            complete = "rowsperstrip" in form and ((plain and not planar) or one_plane)
            assert source.is_mapped == (complete and dtype == np.uint8), form
            assert source.metadata.format == ("BigTIFF" if form["bigtiff"] else "TIFF")
            if "tile" in form:
                assert source.preferred_rows % form["tile"][0] == 0
        if samples == 1 and dtype == np.uint16:
            np.testing.assert_array_equal(read_pixels(path, bits=16), tiff_image, str(form))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (16, 16), (17, 33), (48, 64)])
def test_sizes_around_those_of_tiles(tmp_path: Path, shape: tuple[int, int]) -> None:
    path = tmp_path / "image"
    array = noise(*shape, 3)
    for layout in LAYOUTS:
        tifffile.imwrite(path, array, photometric="rgb", **layout)
        np.testing.assert_array_equal(read_pixels(path), array)
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image), array)


def test_regions_cut_through_tiles(tmp_path: Path) -> None:
    path = tmp_path / "image"
    array = noise(50, 70, 4)
    for planar in ("contig", "separate"):
        written = array if planar == "contig" else array.transpose(2, 0, 1)
        options = {"photometric": "rgb", "extrasamples": (2,), "planarconfig": planar}
        tifffile.imwrite(path, written, tile=(16, 32), **options)
        for x, y, right, bottom in itertools.product((0, 15, 33), (0, 17, 32), (34, 64), (33, 49)):
            got = read_pixels(path, region=Region(x, y, right - x, bottom - y))
            np.testing.assert_array_equal(got, array[y:bottom, x:right])


def test_a_single_column_of_tiles_is_viewed(tmp_path: Path) -> None:
    path = tmp_path / "image"
    array = noise(50, 30, 3)
    tifffile.imwrite(path, array, photometric="rgb", tile=(16, 32))
    with open_source(path) as source:
        assert source.is_mapped
        np.testing.assert_array_equal(read_checked(source), array)


@pytest.mark.parametrize("values", [65536, 256, 255])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_palettes_as_pillow_expands_them(
    tmp_path: Path, values: int, layout: dict[str, Any]
) -> None:
    path = tmp_path / "image"
    palette = (noise(3, 256, dtype=np.uint16).astype(np.int64) % values).astype(np.uint16)
    indices = noise(41, 37)
    tifffile.imwrite(path, indices, photometric="palette", colormap=palette, **layout)
    got = read_pixels(path)
    eight_bit = palette if values <= 256 else palette >> 8
    np.testing.assert_array_equal(got, eight_bit[:, indices].transpose(1, 2, 0))
    if values == 65536:
        with Image.open(path) as image:
            np.testing.assert_array_equal(got, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_tiffs_by_pillow(tmp_path: Path, mode: str, compression: str | None) -> None:
    path = tmp_path / "image"
    if mode == "I;16":
        image = Image.fromarray(noise(40, 50, dtype=np.uint16))
    elif mode == "RGBA":
        image = Image.fromarray(noise(40, 50, 4))
    else:
        image = Image.fromarray(noise(40, 50, 3)).convert(mode)
    image.save(path, "TIFF", compression=compression)
    with Image.open(path) as again:
        wanted = {"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}.get(mode, mode)
        expected = np.asarray(again.convert(wanted) if mode != wanted else again)
    # YCbCr has libtiff's rounding; where it is not compressed, Pillow has its own.
    difference = read_pixels(path).astype(int) - to_8_bit(expected).reshape(40, 50, -1)
    assert np.abs(difference).max() <= (mode == "YCbCr")


def test_associated_alpha_is_within_one_of_pillow(tmp_path: Path) -> None:
    path = tmp_path / "image"
    stored = noise(64, 64, 4)
    stored[..., :3] = np.minimum(stored[..., :3], stored[..., 3:])
    tifffile.imwrite(path, stored, photometric="rgb", extrasamples=(ASSOCIATED,))
    with Image.open(path) as image:
        expected = np.asarray(image).astype(int)
    assert image.mode == "RGBA"
    assert np.abs(read_pixels(path).astype(int) - expected).max() == 1  # Pillow rounds down
    with open_source(path) as source:
        assert source.metadata.notes == ("premultiplied alpha made straight",)


@pytest.mark.parametrize("extra", [0, 2, None])
def test_the_fourth_sample_is_what_it_is_to_pillow(tmp_path: Path, extra: int | None) -> None:
    path = tmp_path / "image"
    stored = noise(6, 5, 4)
    tags = {256: (5,), 257: (6,), 258: (8, 8, 8, 8), 262: (2,), 277: (4,), 278: (6,)}
    if extra is not None:
        tags[338] = (extra,)
    path.write_bytes(build_tiff([stored.tobytes()], tags))
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_pixels(path), np.asarray(image))
    assert read_pixels(path).shape[2] == (3 if extra == 0 else 4)


GREY_6X5 = {256: (5,), 257: (6,), 258: (8,), 262: (1,), 277: (1,)}


def test_strips_in_any_order_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "image"
    array = noise(6, 5)
    strips = [array[y : y + 2].tobytes() for y in (0, 2, 4)]
    for order in itertools.permutations(range(3)):
        path.write_bytes(build_tiff(strips, {**GREY_6X5, 278: (2,)}, list(order)))
        with open_source(path) as source:
            assert source.is_mapped == (order == (0, 1, 2))
            np.testing.assert_array_equal(read_checked(source)[..., 0], array)


def test_strips_with_gaps_and_without_rows_per_strip(tmp_path: Path) -> None:
    path = tmp_path / "image"
    array = noise(6, 5)
    strips = [array[y : y + 2].tobytes() + b"gap" for y in (0, 2, 4)]
    path.write_bytes(build_tiff(strips, {**GREY_6X5, 278: (2,)}))
    np.testing.assert_array_equal(read_pixels(path)[..., 0], array)
    path.write_bytes(build_tiff([array.tobytes()], GREY_6X5))
    np.testing.assert_array_equal(read_pixels(path)[..., 0], array)


def test_only_the_first_image_is_read(tmp_path: Path) -> None:
    path = tmp_path / "image"
    tifffile.imwrite(path, noise(4, 6, 5, 3), photometric="rgb")
    np.testing.assert_array_equal(read_pixels(path), noise(4, 6, 5, 3)[0])


def test_profile_and_resolution(tmp_path: Path) -> None:
    path = tmp_path / "image"
    resolutions = [((300, 150), "INCH", (300, 150)), ((100, 50), "CENTIMETER", (254, 127))]
    for resolution, unit, expected in [*resolutions, ((1, 1), "NONE", None)]:
        tifffile.imwrite(
            path, noise(4, 4), resolution=resolution, resolutionunit=unit, iccprofile=b"profile"
        )
        with open_source(path) as source:
            assert source.metadata.icc_profile == b"profile"
            got = source.metadata.resolution
            assert got == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i2", "i4", "u4"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_deeper_samples_are_mapped_as_they_are(tmp_path: Path, dtype: str, order: str) -> None:
    path = tmp_path / "image"
    array = (noise(40, 50, dtype=np.uint16).astype("f8") / 7).astype(dtype)
    tifffile.imwrite(path, array, photometric="minisblack", byteorder=order)
    source = open_tiff(DiskFile(path), ReadOptions())
    assert source is not None
    with source:
        assert source.is_mapped == (order == "<" or dtype == "i1")
        assert source.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(read_checked(source)[..., 0], array)


@pytest.mark.parametrize("dtype", [np.complex64, np.int64])
def test_samples_of_kinds_that_are_no_image_are_refused(tmp_path: Path, dtype: Any) -> None:
    path = tmp_path / "image"
    tifffile.imwrite(path, np.zeros((4, 4), dtype), photometric="minisblack")
    with pytest.raises(SourceError, match="image"):
        open_source(path)


def test_reversed_bits_are_not_taken_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "image"
    array = noise(6, 5)
    path.write_bytes(build_tiff([array.tobytes()], {**GREY_6X5, 266: (2,)}))
    reversed_bits = np.packbits(np.unpackbits(array, axis=None, bitorder="little"))
    np.testing.assert_array_equal(read_pixels(path).ravel(), reversed_bits)


@pytest.mark.parametrize(
    ("blocks", "tags", "message"),
    [
        ([bytes(29)], {}, "strip or tile 0 has 29 bytes, but its pixels take 30"),
        ([bytes(30)], {278: (2,)}, "3 strips or tiles, but the file lists 1 offsets"),
        ([bytes(30)], {256: (0,)}, "no pixels"),
        ([bytes(30)], {257: (0,)}, "no pixels"),
        ([bytes(30)], {278: (0,)}, "no pixels"),
        ([bytes(30)], {322: (0,), 323: (16,)}, "no pixels"),
        ([bytes(256)], {322: (16,), 323: (0,)}, "no pixels"),
        ([bytes(255)], {322: (16,), 323: (16,)}, "has 255 bytes, but its pixels take 256"),
        ([bytes(30)], {256: (2**31,), 257: (2**31,)}, "but the file has"),
        ([bytes(30)], {256: (2**32 - 1,), 257: (2**32 - 1,)}, "but the file has"),
        ([bytes(30)], {256: (2**31,), 257: (2**31,), 278: (1,)}, "2147483648 strips or tiles"),
        ([bytes(30)], {256: (2**31,), 257: (2**31,), 322: (16,), 323: (16,)}, "strips or tiles"),
        ([bytes(30)], {262: (3,)}, "broken TIFF"),
        ([bytes(30)], {262: (3,), 320: (1, 2, 3)}, "broken TIFF"),
    ],
)
def test_tags_are_not_trusted(
    tmp_path: Path, blocks: list[bytes], tags: dict[int, tuple[int, ...]], message: str
) -> None:
    path = tmp_path / "image"
    path.write_bytes(build_tiff(blocks, {**GREY_6X5, **tags}))
    with pytest.raises(SourceError, match=message) as caught:
        open_source(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [2**32 - 1, 1000, 2**64 - 1, 2**64 - 20, 2**63])
def test_places_beyond_the_file_are_refused(tmp_path: Path, place: int) -> None:
    path = tmp_path / "image"
    tifffile.imwrite(path, noise(6, 5), bigtiff=True)
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].tags["StripOffsets"].valueoffset
    content = bytearray(path.read_bytes())
    struct.pack_into("<Q", content, offset, place)
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"needs \d+ bytes, but the file has"):
        open_source(path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    "form", [{"tile": (64, 64)}, {"planarconfig": "separate"}, {"photometric": "miniswhite"}]
)
def test_pages_are_dropped_behind_the_reader(tmp_path: Path, form: dict[str, Any]) -> None:
    path = tmp_path / "image"
    array = noise(3, 900, 1000) if "planarconfig" in form else noise(900, 1000)
    tifffile.imwrite(path, array, **{"photometric": "rgb" if len(array) == 3 else None, **form})
    with open_source(path) as source:
        assert not source.is_mapped
        for y in range(0, 900, source.preferred_rows):
            source.rows(y, min(900, y + source.preferred_rows))
            assert resident_bytes(path) < 1 << 16


@pytest.mark.parametrize("form", [{"tile": (16, 16)}, {"photometric": "miniswhite"}, {}])
def test_a_file_that_shrinks_is_an_error(tmp_path: Path, form: dict[str, Any]) -> None:
    path = tmp_path / "image"
    tifffile.imwrite(path, noise(200, 100), **form)
    size = path.stat().st_size
    with open_source(path) as source:
        rows = source.rows(0, 64).copy()
        os.truncate(path, size // 2)
        with pytest.raises(SourceError, match="shrank while it was being read"):
            source.populate(source.rows(64, 128))
        assert rows.shape == (64, 100, 1)
