"""TIFFs that have to be decoded: every form against the array that was written, and Pillow."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from fasttile.errors import Damaged, SourceError
from fasttile.geometry import Region
from fasttile.sources import Reading, open_source, tiffcoded
from fasttile.sources.base import Source
from fasttile.sources.convert import crop
from fasttile.sources.mapping import PictureFile
from fasttile.sources.tiff import open_tiff
from reading import Array, noise, pixels_of, read, tiff_bytes

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
GREY = {256: (5,), 257: (6,), 258: (8,), 262: (1,), 277: (1,), 278: (2,)}


def opened(path: Path, **wishes: Any) -> Source:
    """The source as it is before any window, which must not be Pillow's."""
    file = PictureFile(path)
    try:
        source = open_tiff(file, Reading(**wishes))
        assert source is not None
    except BaseException:
        file.close()
        raise
    return source


def stored(path: Path, **wishes: Any) -> Array:
    with opened(path, **wishes) as source:
        return read(source)


def values(dtype: Any, *shape: int) -> Array:
    """Values of any dtype, with runs in them."""
    dtype = np.dtype(dtype)
    generator = np.random.default_rng(len(shape) + shape[0])
    if dtype.kind == "f":
        return np.round(generator.normal(0, 1e3, shape), 1).astype(dtype)
    span = np.iinfo(dtype)
    array = generator.integers(span.min, span.max, shape, dtype, endpoint=True)
    array[..., : shape[-1] // 2] = array.flat[0]
    return array


def forms(
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
    path = tmp_path / "picture"
    array = values(dtype, HEIGHT, WIDTH, 3)
    written = array.transpose(2, 0, 1) if planar else array
    for compression, form in forms(dtype, LOSSLESS[::2] if planar else LOSSLESS):
        config = "separate" if planar else "contig"
        tifffile.imwrite(path, written, photometric="rgb", planarconfig=config, **form)
        with opened(path) as source:
            assert (
                source.mapped
                or compression is not None
                or planar
                or "tile" in form
                or (form["byteorder"] == ">")
            )
            np.testing.assert_array_equal(read(source), array, str(form))
            assert source.metadata.format == ("BigTIFF" if form["bigtiff"] else "TIFF")
            assert source.metadata.notes == ()


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "u4", "f2", "f8"])
def test_grey_of_each_form(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "picture"
    array = values(dtype, HEIGHT, WIDTH)
    for _, form in forms(dtype, ["lzw", None]):
        tifffile.imwrite(path, array, photometric="minisblack", **form)
        got = stored(path)
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got[..., 0], array, str(form))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_horizontal_differences_of_floats_are_those_of_their_bits(
    tmp_path: Path, dtype: str
) -> None:
    path = tmp_path / "picture"
    array = values(dtype, 6, 5)
    bits = array.view(f"u{array.itemsize}")
    differences = np.diff(bits, axis=1, prepend=bits.dtype.type(0))
    block = imagecodecs.zlib_encode(differences.tobytes())
    tags = {258: (8 * array.itemsize,), 259: (8,), 317: (2,), 339: (3,), 278: (6,)}
    path.write_bytes(tiff_bytes([block], {**GREY, **tags}))
    np.testing.assert_array_equal(stored(path)[..., 0], array)


@pytest.mark.parametrize("form", [{"rowsperstrip": 5}, {"tile": (16, 32)}])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_regions_and_steps(tmp_path: Path, form: dict[str, Any], planar: str) -> None:
    path = tmp_path / "picture"
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
        np.testing.assert_array_equal(pixels_of(path, region=region), wanted)
        for step in (1, 7, 64, 200):
            with open_source(path, region=region) as source:
                for top in range(0, region.height, step):
                    end = min(region.height, top + step)
                    np.testing.assert_array_equal(source.rows(top, end), wanted[top:end])


def test_rows_in_any_order_and_backwards(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    array = noise(400, 70)
    tifffile.imwrite(path, array, compression="deflate", tile=(16, 16))
    with opened(path) as source:
        assert source.any_order
        step = source.row_step
        assert step < 200
        starts = [*range(0, 400, step), *range(400 // step * step, -1, -step), 3, 333, 40, 399, 0]
        for y in starts:
            end = min(400, y + step)
            np.testing.assert_array_equal(source.rows(y, end)[..., 0], array[y:end])
        part = crop(source, Region(33, 100, 20, 250))
        np.testing.assert_array_equal(part.rows(0, 250)[..., 0], array[100:350, 33:53])
    tifffile.imwrite(path, array, compression="deflate", rowsperstrip=16)
    with opened(path) as source:
        assert not source.any_order  # a column would cost as much as all of them


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("layout", [{"tile": (32, 16)}, {"rowsperstrip": 9}])
def test_turned_pictures(tmp_path: Path, orientation: int, layout: dict[str, Any]) -> None:
    path = tmp_path / "picture"
    array = noise(300, 70, 3)
    tags = [(274, 3, 1, orientation, True)]
    form = {"photometric": "rgb", "compression": "lzw", "extratags": tags, **layout}
    tifffile.imwrite(path, array, **form)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(pixels_of(path), expected)
    assert _threads() == []


@pytest.mark.parametrize("kind", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "F"])
@pytest.mark.parametrize(
    "compression",
    ["tiff_lzw", "packbits", "tiff_adobe_deflate", "tiff_deflate", "lzma", "zstd"],
)
def test_pillows_lossless_files(tmp_path: Path, kind: str, compression: str) -> None:
    path = tmp_path / "picture"
    if kind == "I;16":
        image = Image.fromarray(noise(40, 50, dtype=np.uint16))
    else:
        image = Image.fromarray(noise(40, 50, 4)).convert("L" if kind == "F" else "RGBA")
        image = image.convert("RGB").convert(kind) if kind != "RGBA" else image
    image.save(path, "TIFF", compression=compression)
    with Image.open(path) as again:
        wanted = {"1": "L", "P": "RGB", "CMYK": "RGB"}.get(kind, kind)
        expected = np.asarray(again.convert(wanted) if kind != wanted else again)
    np.testing.assert_array_equal(stored(path), expected.reshape(40, 50, -1))


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "packbits", "tiff_lzw"])
@pytest.mark.parametrize("fill_order", [1, 2])
@pytest.mark.parametrize("white", [0, 1])
def test_faxes_as_pillow_reads_them(
    tmp_path: Path, compression: str, fill_order: int, white: int
) -> None:
    path = tmp_path / "picture"
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
    np.testing.assert_array_equal(stored(path)[..., 0], expected)
    with opened(path) as source:
        assert source.metadata.stored == ("min-is-white, 1 bit" if white == 0 else "1 bit")


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr", "RGBA", "LA"])
@pytest.mark.parametrize("quality", [75, 100])
def test_jpeg_by_pillow(tmp_path: Path, mode: str, quality: int) -> None:
    path = tmp_path / "picture"
    side = np.add.outer(np.arange(150), np.arange(90))
    array = np.stack([side % 256, side * 2 % 256, np.full_like(side, 80)], axis=2).astype(np.uint8)
    Image.fromarray(array).convert(mode).save(path, "TIFF", compression="jpeg", quality=quality)
    with Image.open(path) as again:
        expected = np.asarray(again.convert("RGB") if mode in ("CMYK", "YCbCr") else again)
    got = stored(path)
    np.testing.assert_array_equal(got, expected.reshape(got.shape))


@pytest.mark.parametrize("layout", [{"rowsperstrip": 16}, {"tile": (32, 64)}])
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2)])
def test_jpeg_in_strips_and_tiles(
    tmp_path: Path, layout: dict[str, Any], subsampling: tuple[int, int]
) -> None:
    path = tmp_path / "picture"
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
        got = stored(path)
        expected = tifffile.imread(path).reshape(got.shape)
        np.testing.assert_array_equal(got, expected)


def test_jpeg_with_tables_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    whole = imagecodecs.jpeg8_encode(noise(16, 16), level=90)
    scan, frame = whole.index(b"\xff\xda"), whole.index(b"\xff\xc0")
    tables = whole[: whole.index(b"\xff\xdb")] + whole[whole.index(b"\xff\xdb") : frame]
    huffman = whole[whole.index(b"\xff\xc4") : scan]
    rest = b"\xff\xd8" + whole[frame : whole.index(b"\xff\xc4")] + whole[scan:]
    tags = {256: (16,), 257: (16,), 258: (8,), 259: (7,), 262: (1,), 277: (1,), 278: (16,)}
    content = tiff_bytes([rest], {**tags, 347: tuple(tables + huffman + b"\xff\xd9")})
    # The numbers are LONGs, but this tag has to be bytes.
    at = content.index(b"\x5b\x01\x04\0")
    count = int.from_bytes(content[at + 4 : at + 8], "little")
    place = int.from_bytes(content[at + 8 : at + 12], "little")
    fixed = bytearray(content)
    fixed[at + 2] = 7
    fixed[place : place + count] = content[place : place + 4 * count : 4]
    path.write_bytes(fixed)
    np.testing.assert_array_equal(stored(path)[..., 0], imagecodecs.jpeg8_decode(whole))


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
def test_blocks_that_are_pictures(
    tmp_path: Path,
    layout: dict[str, Any],
    compression: str,
    dtype: str,
    samples: int,
    options: dict[str, Any],
) -> None:
    path = tmp_path / "picture"
    array = values(dtype, HEIGHT, WIDTH, samples)
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
    np.testing.assert_array_equal(stored(path), array)


@pytest.mark.parametrize("inner", ["deflate", "zstd"])
def test_lerc_within_another_compression(tmp_path: Path, inner: str) -> None:
    path = tmp_path / "picture"
    array = values("u2", HEIGHT, WIDTH)
    block = imagecodecs.lerc_encode(array)
    packed = (imagecodecs.zlib_encode if inner == "deflate" else imagecodecs.zstd_encode)(block)
    tags = {256: (WIDTH,), 257: (HEIGHT,), 258: (16,), 259: (34887,), 262: (1,), 277: (1,)}
    path.write_bytes(tiff_bytes([packed], {**tags, 50674: (4, 1 if inner == "deflate" else 2)}))
    np.testing.assert_array_equal(stored(path)[..., 0], array)


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "webp"])
def test_a_block_that_claims_to_be_a_giant(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "picture"
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
    with opened(path) as source, pytest.raises(Damaged, match="rows from 0 on cannot be decoded"):
        source.rows(0, 1)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("width", [1, 7, 8, 61])
def test_few_bits(tmp_path: Path, bits: int, compression: str | None, width: int) -> None:
    path = tmp_path / "picture"
    array = noise(21, width) >> (8 - bits)
    packed = [np.unpackbits(row[:, None], axis=1)[:, -bits:].ravel() for row in array]
    rows = [np.packbits(row).tobytes() for row in packed]
    pieces = [b"".join(rows[y : y + 4]) for y in range(0, 21, 4)]
    if compression:
        pieces = [imagecodecs.lzw_encode(piece) for piece in pieces]
    tags = {256: (width,), 257: (21,), 258: (bits,), 259: (5 if compression else 1,), 278: (4,)}
    for photometric, expected in [
        (0, (2**bits - 1 - array) * (255 // (2**bits - 1))),
        (1, array * (255 // (2**bits - 1))),
    ]:
        path.write_bytes(tiff_bytes(pieces, {**tags, 262: (photometric,), 277: (1,)}))
        np.testing.assert_array_equal(stored(path)[..., 0], expected)
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image.convert("L")), expected)
    colours = noise(3, 2**bits, dtype=np.uint16)
    palette = {262: (3,), 277: (1,), 320: tuple(colours.ravel().tolist())}
    path.write_bytes(tiff_bytes(pieces, {**tags, **palette}))
    np.testing.assert_array_equal(stored(path), (colours >> 8)[:, array].transpose(1, 2, 0))
    with opened(path) as source:
        assert source.metadata.stored == f"palette, {bits} bit"


@pytest.mark.parametrize("bits", [3, 6, 10, 12, 14])
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_bits_in_between(tmp_path: Path, bits: int, compression: str | None) -> None:
    path = tmp_path / "picture"
    array = (noise(21, 17, 3, dtype=np.uint16) >> (16 - bits)).astype("u1" if bits < 8 else "u2")
    flat = array.reshape(21, -1).astype(">u2")
    rows = [np.unpackbits(row[:, None].view("u1"), axis=1)[:, -bits:].ravel() for row in flat]
    pieces = [b"".join(np.packbits(row).tobytes() for row in rows)]
    if compression:
        pieces = [imagecodecs.zlib_encode(piece) for piece in pieces]
    tags = {256: (17,), 257: (21,), 258: (bits,) * 3, 259: (8 if compression else 1,)}
    path.write_bytes(tiff_bytes(pieces, {**tags, 262: (2,), 277: (3,)}))
    expected = array.astype(int) * 255 // (2**bits - 1) if bits < 8 else array
    np.testing.assert_array_equal(stored(path), expected)


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_palettes_of_16_bits(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "picture"
    palette = noise(3, 65536, dtype=np.uint16)
    indices = noise(33, 21, dtype=np.uint16)
    tifffile.imwrite(
        path, indices, photometric="palette", colormap=palette, compression=compression
    )
    expected = (palette >> 8)[:, indices].transpose(1, 2, 0)
    np.testing.assert_array_equal(stored(path), expected)


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "f4"])
def test_min_is_white(tmp_path: Path, compression: str | None, dtype: str) -> None:
    path = tmp_path / "picture"
    array = values(dtype, 20, 30)
    tifffile.imwrite(path, array, photometric="miniswhite", compression=compression)
    expected = array if dtype == "f4" else ~array
    np.testing.assert_array_equal(stored(path)[..., 0], expected)


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f4"])
def test_associated_alpha(tmp_path: Path, compression: str | None, dtype: str) -> None:
    path = tmp_path / "picture"
    array = values(dtype, 20, 30, 4)
    array[::2, ::2, 3] = 0
    form = {"photometric": "rgb", "compression": compression}
    tifffile.imwrite(path, array, extrasamples=(1,), **form)
    got = stored(path)
    assert (got[::2, ::2, :3] == 0).all()
    seen = array[..., 3] > 0
    exact = array[seen].astype(np.longdouble)
    top = 1 if dtype == "f4" else np.iinfo(dtype).max
    straight = exact[:, :3] * top / exact[:, 3:]
    straight = straight if dtype == "f4" else np.minimum(straight, top)
    np.testing.assert_allclose(got[seen][:, :3].astype(float), straight.astype(float), 1e-6, 0.5)
    np.testing.assert_array_equal(got[..., 3], array[..., 3])


@pytest.mark.parametrize("compression", [None, "deflate", "jpeg"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_cmyk_as_pillow_converts_it(tmp_path: Path, compression: str | None, planar: str) -> None:
    path = tmp_path / "picture"
    array = noise(40, 70, 4)
    profile = bytes(16) + b"CMYK" + bytes(108)
    tifffile.imwrite(
        path,
        array if planar == "contig" else array.transpose(2, 0, 1),
        photometric="separated",
        planarconfig=planar,
        compression=compression,
        compressionargs={"level": 100} if compression == "jpeg" else None,
        iccprofile=profile,
    )
    kept = stored(path, keep_cmyk=True)
    if compression != "jpeg":
        np.testing.assert_array_equal(kept, array)
    expected = Image.frombytes("CMYK", (70, 40), kept.tobytes()).convert("RGB")
    np.testing.assert_array_equal(stored(path), np.asarray(expected))
    with opened(path, keep_cmyk=True) as source:
        assert source.cmyk
        assert not source.alpha
        assert source.metadata.stored == "CMYK"
        part = crop(source, Region(3, 4, 5, 6))
        assert part.cmyk
        np.testing.assert_array_equal(part.rows(0, 6), kept[4:10, 3:8])
    with opened(path) as source:
        assert not source.cmyk
        assert "CMYK converted to RGB" in source.metadata.notes


def test_cmyk_without_a_profile_of_its_own_is_converted(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    tifffile.imwrite(path, noise(4, 7, 4), photometric="separated", compression="lzw")
    with opened(path, keep_cmyk=True) as source:
        assert (source.bands, source.cmyk) == (3, False)


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_cmyk_with_alpha_and_of_16_bits(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "picture"
    array = noise(40, 70, 5, dtype=np.uint16)
    form = {"photometric": "separated", "compression": compression, "extrasamples": (2,)}
    tifffile.imwrite(path, array, **form)
    got = stored(path)
    exact = (65535.0 - array[..., :3]) * (65535.0 - array[..., 3:4]) / 65535
    np.testing.assert_allclose(got[..., :3], exact, 0, 0.5)
    np.testing.assert_array_equal(got[..., 3], array[..., 4])


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_many_samples_are_left_out(tmp_path: Path, planar: str, dtype: str) -> None:
    path = tmp_path / "picture"
    array = values(dtype, 20, 30, 9)
    written = array if planar == "contig" else array.transpose(2, 0, 1)
    form = {"planarconfig": planar, "extrasamples": (0,) * 8}
    tifffile.imwrite(path, written, photometric="minisblack", compression="lzw", **form)
    with opened(path) as source:
        np.testing.assert_array_equal(read(source), array[..., :1])
        assert source.metadata.notes == ("8 extra samples left out",)


@pytest.mark.parametrize("photometric", [8, 9])
@pytest.mark.parametrize("bits", [8, 16])
def test_lab(tmp_path: Path, photometric: int, bits: int) -> None:
    path = tmp_path / "picture"
    tags = {**GREY, 258: (bits,) * 3, 262: (photometric,), 277: (3,), 278: (6,)}
    path.write_bytes(tiff_bytes([bytes(90 * bits // 8)], tags))
    if (photometric, bits) == (8, 8):
        assert pixels_of(path).shape == (6, 5, 3)  # by Pillow
        return
    with pytest.raises(SourceError, match=r"Lab of \d+ bits cannot be read"):
        open_source(path)


def _sparse(path: Path, form: dict[str, Any], missing: list[int]) -> None:
    """Let a file have nothing of some blocks."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        tags = [page.tags[name] for name in form]
        size = file.filehandle.size
        order = file.byteorder
    content = bytearray(path.read_bytes())
    assert size == len(content)
    for tag in tags:
        width = tag.valuebytecount // tag.count
        for number in missing:
            at = tag.valueoffset + number * width
            content[at : at + width] = bytes(width)
    assert order
    path.write_bytes(content)


TILES = {"TileOffsets": 0, "TileByteCounts": 0}


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
def test_sparse_tiles_are_background(tmp_path: Path, compression: str | None, dtype: str) -> None:
    path = tmp_path / "picture"
    array = values(dtype, 64, 80)
    tifffile.imwrite(path, array, tile=(32, 32), compression=compression)
    _sparse(path, TILES, [1, 5])
    with opened(path, background=(255, 255, 255)) as source:
        got = read(source)[..., 0]
        assert source.metadata.notes == (
            "2 of 6 tiles are left out in the file and became background",
        )
    ground = {"u1": 255, "u2": 65535, "i2": 0, "f4": np.nan}[dtype]
    expected = array.copy()
    expected[:32, 32:64] = ground
    expected[32:, 64:] = ground
    np.testing.assert_array_equal(got, expected)


def test_sparse_tiles_in_colour(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    array = noise(64, 80, 4)
    tifffile.imwrite(
        path, array, tile=(32, 32), compression="lzw", photometric="rgb", extrasamples=(2,)
    )
    _sparse(path, TILES, [2])
    array[:32, 64:] = 0
    np.testing.assert_array_equal(stored(path), array)
    array = noise(64, 80, 3)
    form = {"planarconfig": "separate", "photometric": "rgb", "compression": "lzw"}
    tifffile.imwrite(path, array.transpose(2, 0, 1), tile=(32, 32), **form)
    _sparse(path, TILES, [1, 7, 13, 2])
    array[:32, 32:64] = (9, 8, 7)
    array[:32, 64:, 0] = 0  # one band of three that is all nothing
    np.testing.assert_array_equal(stored(path, background=(9, 8, 7)), array)


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "zstd", "packbits", "jpeg"])
@pytest.mark.parametrize("layout", [{"rowsperstrip": 10}, {"tile": (32, 32)}])
def test_a_file_cut_short(tmp_path: Path, compression: str | None, layout: dict[str, Any]) -> None:
    path = tmp_path / "picture"
    array = noise(100, 70, 3)
    tifffile.imwrite(path, array, photometric="rgb", compression=compression, **layout)
    whole = stored(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(SourceError, match=r"needs \d+ bytes, but the file has") as caught:
        opened(path)
    if compression is not None:
        assert "--allow-truncated" in str(caught.value)
        assert "rows from 6" in str(caught.value)
    with opened(path, allow_truncated=True, background=(1, 2, 3)) as source:
        got = read(source)
        assert "beyond the file's end and became background" in source.metadata.notes[0]
        assert source.metadata.remarks == []
    assert (got[-1] == (1, 2, 3)).all()
    same = (got == whole).all(axis=2)
    assert same[:60].all()
    assert (same | (got == (1, 2, 3)).all(axis=2)).all()


def test_packed_rows_are_there_to_the_last(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    array = noise(200, 70)
    tifffile.imwrite(path, array, rowsperstrip=200)
    path.write_bytes(path.read_bytes()[:-1000])
    got = stored(path, allow_truncated=True, background=(9, 9, 9))[..., 0]
    there = 200 - 15
    np.testing.assert_array_equal(got[:there], array[:there])
    assert (got[there:] == 9).all()


@pytest.mark.parametrize("compression", ["lzw", "deflate", "zstd", "packbits", "webp", "jpeg2000"])
def test_a_block_that_is_damaged(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "picture"
    array = noise(160, 150, 3)
    tifffile.imwrite(path, array, photometric="rgb", compression=compression, tile=(32, 32))
    whole = stored(path)
    with tifffile.TiffFile(path) as file:
        start, count = file.pages[0].dataoffsets[17], file.pages[0].databytecounts[17]
    content = bytearray(path.read_bytes())
    content[start : start + count] = b"\xff\x12\x88" * (count // 3) + bytes(count % 3)
    path.write_bytes(content)
    with opened(path) as source:
        source.row_step  # noqa: B018 -- whatever it is
        with pytest.raises(Damaged) as caught:
            read(source)
        assert caught.value.rows == 96
        assert f"{path}: broken TIFF: rows from 96 on cannot be decoded: tile 17: " in str(
            caught.value
        )
        assert "\n" not in str(caught.value)
        with pytest.raises(Damaged):
            source.rows(96, 97)
    with opened(path, allow_truncated=True, background=(1, 2, 3)) as source:
        got = read(source)
        assert len(source.metadata.remarks) == 1
        assert source.metadata.remarks[0].startswith(
            "1 tile could not be decoded and became background, the first at row 96: "
        )
    expected = whole.copy()
    expected[96:128, 64:96] = (1, 2, 3)
    np.testing.assert_array_equal(got, expected)
    assert _threads() == []


def _threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("fasttile")]


def test_no_thread_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    tifffile.imwrite(path, noise(500, 300), compression="lzw", rowsperstrip=3)
    with opened(path) as source:
        assert _threads() == []
        source.rows(0, 1)
        assert _threads()
    assert _threads() == []
    source = opened(path)
    part = crop(source, Region(10, 10, 50, 50))
    part.rows(0, 50)
    part.close()
    assert _threads() == []


def test_a_file_that_becomes_shorter(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    tifffile.imwrite(path, noise(500, 300), compression="lzw", rowsperstrip=3)
    with opened(path) as source:
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(Damaged, match=r"rows from 2\d+ on .* but the file has become shorter"):
            read(source)


def test_a_wide_line_is_not_decoded_ahead(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "picture"
    array = noise(200, 100)
    tifffile.imwrite(path, array, compression="lzw", tile=(64, 64))
    monkeypatch.setattr(tiffcoded, "_AHEAD_BYTES", 100)
    with opened(path) as source:
        np.testing.assert_array_equal(read(source)[..., 0], array)


MEASURE = """
import resource, sys
from fasttile.sources import open_source
with open_source(sys.argv[1]) as source:
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for y in range(0, source.height, source.row_step):
        source.rows(y, min(source.height, y + source.row_step))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts in kilobytes")
@pytest.mark.parametrize("layout", [{"rowsperstrip": 16}, {"tile": (256, 256)}])
def test_memory_is_that_of_some_lines(tmp_path: Path, layout: dict[str, Any]) -> None:
    path = tmp_path / "picture"
    row = noise(1, 2000) >> 5
    tifffile.imwrite(
        path, np.broadcast_to(row, (20_000, 2000)), compression="lzw", metadata=None, **layout
    )
    told = subprocess.run(
        [sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True
    )
    assert int(told.stdout) < 16 * 1024  # of 40 MB


@pytest.mark.parametrize(
    "tags",
    [
        {322: (2**20,), 323: (2**20,)},
        {322: (2**31,), 323: (16,)},
        {256: (2**20,), 257: (60,), 278: (60,), 258: (16,)},
        {277: (60_000,), 278: (200,), 257: (200,)},
        {256: (2**20,), 257: (2**20,)},
    ],
)
def test_claims_are_held_against_the_file(tmp_path: Path, tags: dict[int, tuple[int, ...]]) -> None:
    path = tmp_path / "picture"
    block = imagecodecs.lzw_encode(bytes(30))
    path.write_bytes(tiff_bytes([block], {**GREY, 259: (5,), 278: (6,), 340: (3,), **tags}))
    with pytest.raises(SourceError, match=r"--max-pixels \d+"):
        opened(path)


def test_what_a_user_allows_is_not_refused(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    array = np.zeros((1000, 70_000), np.uint8)
    tifffile.imwrite(path, array, compression="zstd", rowsperstrip=99)
    with pytest.raises(SourceError, match="70,000,000 pixels, more than its size"):
        opened(path)
    with opened(path, max_pixels=10**8) as source:
        assert source.rows(0, 9).max() == 0


def test_too_few_places(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    block = imagecodecs.lzw_encode(bytes(10))
    path.write_bytes(tiff_bytes([block], {**GREY, 259: (5,)}))
    with pytest.raises(SourceError, match="3 strips or tiles, but the file lists 1 places"):
        opened(path)


def test_one_tall_strip_is_pillows_if_it_knows_it(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    array = np.zeros((6000, 6000), np.uint8)
    array[::7] = 9
    tifffile.imwrite(path, array, compression="lzw", rowsperstrip=6000)
    file = PictureFile(path)
    assert open_tiff(file, Reading()) is None
    file.close()
    with open_source(path) as source:
        np.testing.assert_array_equal(source.rows(0, 64)[..., 0], array[:64])


@pytest.mark.parametrize("compression", ["tiff_lzw", "group4"])
def test_without_imagecodecs_it_is_pillows(
    tmp_path: Path, monkeypatch: Any, compression: str
) -> None:
    path, unknown = tmp_path / "picture", tmp_path / "unknown"
    tifffile.imwrite(unknown, noise(20, 30), compression="jpegxl")
    array = noise(20, 30) > 127
    Image.fromarray(array).save(path, "TIFF", compression=compression)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    file = PictureFile(path)
    assert open_tiff(file, Reading()) is None
    file.close()
    np.testing.assert_array_equal(pixels_of(path)[..., 0], array * np.uint8(255))
    unknown.replace(path)
    with pytest.raises(SourceError, match=r"; pip install fasttile\[tiff\] may read it$"):
        open_source(path)
    tifffile.imwrite(path, np.zeros((5, 6), bool), photometric="minisblack")
    assert stored(path).shape == (5, 6, 1)  # what is not compressed needs nobody
