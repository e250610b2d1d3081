"""TIFFs that have to be decoded: every form against the array that was written, and Pillow."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from fasttile.errors import TruncatedError
from fasttile.geometry import Region
from fasttile.sources import open_source
from fasttile.sources.conversions import crop
from support.reading import build_tiff, noise, read_checked, read_pixels
from support.tiff_files import (
    GREY_TAGS,
    live_fasttile_threads,
    make_values,
    open_unwindowed,
    read_unwindowed,
)

imagecodecs = pytest.importorskip("imagecodecs")

HEIGHT, WIDTH = 61, 47
LOSSLESS: list[str | None] = ["lzw", "deflate", "packbits", "zstd", "lzma", None]
LAYOUTS: list[dict[str, Any]] = [
    {"rowsperstrip": 1},
    {"rowsperstrip": 7},
    {"rowsperstrip": 1000},
    {"tile": (16, 16)},
    {"tile": (32, 64)},
]


def tiff_forms(
    dtype: Any, compressions: list[str | None]
) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """Compressions with layouts, and on the way all predictors and byte orders."""
    predictors: list[int] = [1, 2, *([3] if np.dtype(dtype).kind == "f" else [])]
    pairs = itertools.product(compressions, LAYOUTS)
    for number, (compression, layout) in enumerate(pairs):
        for predictor in predictors:
            form: dict[str, Any] = {**layout, "compression": compression}
            if predictor > 1:
                if compression in (None, "packbits"):
                    continue  # there the tag means nothing to libtiff
                if predictor == 2 and np.dtype(dtype).kind == "f":
                    continue  # tifffile does not write that
                form["predictor"] = predictor
            form["byteorder"] = "<>"[(number + predictor) % 2]
            form["bigtiff"] = number % 3 == 0
            yield compression, form


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_rgb_of_each_form(tmp_path: Path, dtype: str, planar: bool) -> None:
    path = tmp_path / "image"
    array = make_values(dtype, HEIGHT, WIDTH, 3)
    written = array.transpose(2, 0, 1) if planar else array
    for compression, form in tiff_forms(dtype, LOSSLESS[::2] if planar else LOSSLESS):
        config = "separate" if planar else "contig"
        tifffile.imwrite(path, written, photometric="rgb", planarconfig=config, **form)
        with open_unwindowed(path) as source:
            assert (
                source.is_mapped
                or compression is not None
                or planar
                or "tile" in form
                or (form["byteorder"] == ">")
            )
            np.testing.assert_array_equal(read_checked(source), array, str(form))
            assert source.metadata.format == ("BigTIFF" if form["bigtiff"] else "TIFF")
            assert source.metadata.notes == ()


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "u4", "f2", "f8"])
def test_grey_of_each_form(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "image"
    array = make_values(dtype, HEIGHT, WIDTH)
    for _, form in tiff_forms(dtype, ["lzw", None]):
        tifffile.imwrite(path, array, photometric="minisblack", **form)
        got = read_unwindowed(path)
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got[..., 0], array, str(form))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_horizontal_differences_of_floats_are_those_of_their_bits(
    tmp_path: Path, dtype: str
) -> None:
    path = tmp_path / "image"
    array = make_values(dtype, 6, 5)
    bits = array.view(f"u{array.itemsize}")
    differences = np.diff(bits, axis=1, prepend=bits.dtype.type(0))
    block = imagecodecs.zlib_encode(differences.tobytes())
    tags = {258: (8 * array.itemsize,), 259: (8,), 317: (2,), 339: (3,), 278: (6,)}
    path.write_bytes(build_tiff([block], {**GREY_TAGS, **tags}))
    np.testing.assert_array_equal(read_unwindowed(path)[..., 0], array)


@pytest.mark.parametrize("form", [{"rowsperstrip": 5}, {"tile": (16, 32)}])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_regions_and_steps(tmp_path: Path, form: dict[str, Any], planar: str) -> None:
    path = tmp_path / "image"
    array = noise(150, 130, 4)
    written = array if planar == "contig" else array.transpose(2, 0, 1)
    tifffile.imwrite(
        path,
        written,
        photometric="rgb",
        extrasamples=(2,),
        planarconfig=planar,
        compression="lzw",
        **form,
    )
    for x, y, right, bottom in [
        (0, 0, 130, 150),
        (31, 0, 33, 150),
        (16, 63, 64, 65),
        (5, 70, 6, 71),
    ]:
        region = Region(x, y, right - x, bottom - y)
        wanted = array[y:bottom, x:right]
        np.testing.assert_array_equal(read_pixels(path, region=region), wanted)
        for step in (1, 7, 64, 200):
            with open_source(path, region=region) as source:
                for top in range(0, region.height, step):
                    end = min(region.height, top + step)
                    np.testing.assert_array_equal(source.rows(top, end), wanted[top:end])


def test_rows_in_any_order_and_backwards(tmp_path: Path) -> None:
    path = tmp_path / "image"
    array = noise(400, 70)
    tifffile.imwrite(path, array, compression="deflate", tile=(16, 16))
    with open_unwindowed(path) as source:
        assert source.random_access
        step = source.preferred_rows
        assert step < 200
        starts = [*range(0, 400, step), *range(400 // step * step, -1, -step), 3, 333, 40, 399, 0]
        for y in starts:
            end = min(400, y + step)
            np.testing.assert_array_equal(source.rows(y, end)[..., 0], array[y:end])
        part = crop(source, Region(33, 100, 20, 250))
        np.testing.assert_array_equal(part.rows(0, 250)[..., 0], array[100:350, 33:53])
    tifffile.imwrite(path, array, compression="deflate", rowsperstrip=16)
    with open_unwindowed(path) as source:
        assert not source.random_access  # a column would cost as much as all of them


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("layout", [{"tile": (32, 16)}, {"rowsperstrip": 9}])
def test_turned_images(tmp_path: Path, orientation: int, layout: dict[str, Any]) -> None:
    path = tmp_path / "image"
    array = noise(300, 70, 3)
    tags = [(274, 3, 1, orientation, True)]
    form = {"photometric": "rgb", "compression": "lzw", "extratags": tags, **layout}
    tifffile.imwrite(path, array, **form)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_pixels(path), expected)
    assert live_fasttile_threads() == []


@pytest.mark.parametrize("kind", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "F"])
@pytest.mark.parametrize(
    "compression",
    ["tiff_lzw", "packbits", "tiff_adobe_deflate", "tiff_deflate", "lzma", "zstd"],
)
def test_pillows_lossless_files(tmp_path: Path, kind: str, compression: str) -> None:
    path = tmp_path / "image"
    if kind == "I;16":
        image = Image.fromarray(noise(40, 50, dtype=np.uint16))
    else:
        image = Image.fromarray(noise(40, 50, 4)).convert("L" if kind == "F" else "RGBA")
        image = image.convert("RGB").convert(kind) if kind != "RGBA" else image
    image.save(path, "TIFF", compression=compression)
    with Image.open(path) as again:
        wanted = {"1": "L", "P": "RGB", "CMYK": "RGB"}.get(kind, kind)
        expected = np.asarray(again.convert(wanted) if kind != wanted else again)
    np.testing.assert_array_equal(read_unwindowed(path), expected.reshape(40, 50, -1))


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "packbits", "tiff_lzw"])
@pytest.mark.parametrize("fill_order", [1, 2])
@pytest.mark.parametrize("white", [0, 1])
def test_faxes_as_pillow_reads_them(
    tmp_path: Path, compression: str, fill_order: int, white: int
) -> None:
    path = tmp_path / "image"
    array = np.add.outer(np.arange(200), np.arange(83)) // 5 % 2 == 1
    array ^= noise(200, 83) < 9
    stream = io.BytesIO()
    image = Image.fromarray(array)
    image.save(stream, "TIFF", compression=compression, tiffinfo={278: 64}, strip_size=700)
    content = bytearray(stream.getvalue())
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages[0]
        pieces = zip(page.dataoffsets, page.databytecounts, strict=True)
        place = page.tags["PhotometricInterpretation"].valueoffset
        order = page.tags.get("FillOrder")
    content[place] = white
    if fill_order == 2:
        if order is None:
            return
        content[order.valueoffset] = 2
        for start, count in pieces:
            bits = np.unpackbits(np.frombuffer(bytes(content[start : start + count]), np.uint8))
            content[start : start + count] = np.packbits(bits, bitorder="little").tobytes()
    path.write_bytes(content)
    with Image.open(path) as again:
        expected = np.asarray(again.convert("L"))
    np.testing.assert_array_equal(read_unwindowed(path)[..., 0], expected)
    with open_unwindowed(path) as source:
        assert source.metadata.stored_as == ("min-is-white, 1 bit" if white == 0 else "1 bit")


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr", "RGBA", "LA"])
@pytest.mark.parametrize("quality", [75, 100])
def test_jpeg_by_pillow(tmp_path: Path, mode: str, quality: int) -> None:
    path = tmp_path / "image"
    side = np.add.outer(np.arange(150), np.arange(90))
    array = np.stack([side % 256, side * 2 % 256, np.full_like(side, 80)], axis=2).astype(np.uint8)
    Image.fromarray(array).convert(mode).save(path, "TIFF", compression="jpeg", quality=quality)
    with Image.open(path) as again:
        expected = np.asarray(again.convert("RGB") if mode in ("CMYK", "YCbCr") else again)
    got = read_unwindowed(path)
    np.testing.assert_array_equal(got, expected.reshape(got.shape))


@pytest.mark.parametrize("layout", [{"rowsperstrip": 16}, {"tile": (32, 64)}])
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2)])
def test_jpeg_in_strips_and_tiles(
    tmp_path: Path, layout: dict[str, Any], subsampling: tuple[int, int]
) -> None:
    path = tmp_path / "image"
    side = np.add.outer(np.arange(90), np.arange(150))
    array = np.stack([side % 256, side // 2 % 256, np.full_like(side, 80)], axis=2)
    for photometric in ("rgb", "minisblack", "ycbcr"):
        written = array.astype(np.uint8)[..., : 1 if photometric == "minisblack" else 3]
        tifffile.imwrite(
            path,
            written[..., 0] if photometric == "minisblack" else written,
            photometric=photometric,
            compression="jpeg",
            compressionargs={"level": 95},
            subsampling=subsampling if photometric == "ycbcr" else None,
            **layout,
        )
        got = read_unwindowed(path)
        expected = tifffile.imread(path).reshape(got.shape)
        np.testing.assert_array_equal(got, expected)


def test_jpeg_with_tables_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "image"
    complete = imagecodecs.jpeg8_encode(noise(16, 16), level=90)
    scan, frame = complete.index(b"\xff\xda"), complete.index(b"\xff\xc0")
    tables = complete[: complete.index(b"\xff\xdb")] + complete[complete.index(b"\xff\xdb") : frame]
    huffman = complete[complete.index(b"\xff\xc4") : scan]
    rest = b"\xff\xd8" + complete[frame : complete.index(b"\xff\xc4")] + complete[scan:]
    tags = {256: (16,), 257: (16,), 258: (8,), 259: (7,), 262: (1,), 277: (1,), 278: (16,)}
    content = build_tiff([rest], {**tags, 347: tuple(tables + huffman + b"\xff\xd9")})
    # The numbers are LONGs, but this tag has to be bytes.
    at = content.index(b"\x5b\x01\x04\0")
    count = int.from_bytes(content[at + 4 : at + 8], "little")
    place = int.from_bytes(content[at + 8 : at + 12], "little")
    fixed = bytearray(content)
    fixed[at + 2] = 7
    fixed[place : place + count] = content[place : place + 4 * count : 4]
    path.write_bytes(fixed)
    np.testing.assert_array_equal(read_unwindowed(path)[..., 0], imagecodecs.jpeg8_decode(complete))


@pytest.mark.parametrize("layout", LAYOUTS[1:])
@pytest.mark.parametrize(
    ("compression", "dtype", "samples", "options"),
    [
        ("jpeg2000", "u1", 3, {"reversible": True}),
        ("jpeg2000", "u2", 1, {"reversible": True}),
        ("webp", "u1", 3, {"lossless": True}),
        ("webp", "u1", 4, {"lossless": True}),
        ("jpegxl", "u1", 3, {"lossless": True}),
        ("lerc", "f4", 1, {}),
    ],
)
def test_blocks_that_are_images(
    tmp_path: Path,
    layout: dict[str, Any],
    compression: str,
    dtype: str,
    samples: int,
    options: dict[str, Any],
) -> None:
    path = tmp_path / "image"
    array = make_values(dtype, HEIGHT, WIDTH, samples)
    if samples == 4:
        array[..., 3] |= 1  # what cannot be seen keeps its colours in no WebP
    tifffile.imwrite(
        path,
        array[..., 0] if samples == 1 else array,
        photometric="rgb" if samples > 1 else "minisblack",
        extrasamples=(2,) if samples == 4 else None,
        compression=compression,
        compressionargs=options,
        **layout,
    )
    np.testing.assert_array_equal(read_unwindowed(path), array)


@pytest.mark.parametrize("inner", ["deflate", "zstd"])
def test_lerc_within_another_compression(tmp_path: Path, inner: str) -> None:
    path = tmp_path / "image"
    array = make_values("u2", HEIGHT, WIDTH)
    block = imagecodecs.lerc_encode(array)
    packed = (imagecodecs.zlib_encode if inner == "deflate" else imagecodecs.zstd_encode)(block)
    tags = {256: (WIDTH,), 257: (HEIGHT,), 258: (16,), 259: (34887,), 262: (1,), 277: (1,)}
    path.write_bytes(build_tiff([packed], {**tags, 50674: (4, 1 if inner == "deflate" else 2)}))
    np.testing.assert_array_equal(read_unwindowed(path)[..., 0], array)


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "webp"])
def test_a_block_that_claims_a_large_size(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "image"
    tifffile.imwrite(path, noise(64, 64, 3), photometric="rgb", compression=compression)
    content = bytearray(path.read_bytes())
    if compression == "jpeg":
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = b"\xff\x00\xff\x00"
    elif compression == "jpeg2000":
        at = content.index(b"\xff\x4f\xff\x51") + 8
        content[at : at + 8] = b"\x00\x00\xff\x00" * 2
    else:
        at = content.index(b"VP8L") + 9
        content[at : at + 4] = b"\xff\xff\xff\x0f"
    path.write_bytes(content)
    with (
        open_unwindowed(path) as source,
        pytest.raises(TruncatedError, match="rows from 0 on cannot be decoded"),
    ):
        source.rows(0, 1)
