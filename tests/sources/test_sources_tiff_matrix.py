"""The matrix of TIFFs: every cell has the pixels that were written, or is refused by name."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fasttile.errors import SourceError
from fasttile.sources import open_source
from support.reading import Array, noise, read_checked

imagecodecs = pytest.importorskip("imagecodecs")
pyvips = pytest.importorskip("pyvips")
tifffile = pytest.importorskip("tifffile")

from support.tiff_matrix import (  # noqa: E402
    BYTE_CODECS,
    PHOTOMETRICS,
    Cell,
    write_tiff,
)

KINDS = [(bits, "u") for bits in (1, 2, 4, 8, 12, 16, 32)]
KINDS += [(16, "f"), (32, "f"), (64, "f"), (8, "i"), (16, "i")]
SUBSAMPLINGS = [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (4, 2), (4, 4)]


def cells(photometric: str) -> Iterator[Cell]:
    """All cells of one kind of colours that TIFF has."""
    places = product(("none", *BYTE_CODECS, "jpeg", "webp"), (False, True), (False, True))
    for (compression, planar, tiled), alpha in product(places, (False, True)):
        for bits, kind in KINDS:
            is_byte = (bits, kind) == (8, "u")
            if compression in ("jpeg", "webp") and not is_byte:
                continue
            if compression == "webp" and (planar or photometric != "rgb"):
                continue
            if photometric == "palette" and (
                kind == "i" or kind == "f" or bits > 8 or alpha or compression == "jpeg"
            ):
                continue
            if photometric == "lab" and (planar or compression == "jpeg"):
                continue
            if photometric == "ycbcr" and (alpha or not is_byte):
                continue
            bands = 3 if photometric == "rgb" else 4 if photometric == "cmyk" else 1
            if compression == "jpeg" and alpha and bands > 1 and not planar:
                continue  # the encoder has no such stream
            chroma = SUBSAMPLINGS if photometric == "ycbcr" and not planar else [(1, 1)]
            for sides in chroma:
                if compression == "jpeg" and sides in SUBSAMPLINGS[-2:]:
                    continue
                cell = Cell(photometric, bits, kind, compression, planar, tiled, sides, alpha)
                yield cell
                can_predict = compression in ("lzw", "deflate") and bits in (8, 16, 32)
                if can_predict and sides == (1, 1) and kind in "uf":
                    predictor = 3 if kind == "f" else 2
                    yield Cell(*vars_of(cell), predictor=predictor)


def vars_of(cell: Cell) -> tuple[Any, ...]:
    return (
        cell.photometric, cell.bits, cell.kind, cell.compression, cell.is_planar, cell.is_tiled,
        cell.subsampling, cell.has_alpha,
    )  # fmt: skip


def expect_pixels(cell: Cell) -> Array:
    """What the samples of a cell mean, in 8 bits; float64, not rounded."""
    stored = cell.stored.astype(np.float64)
    top = 2**cell.bits - 1
    if cell.kind == "f":
        pixels = stored * 255
    elif cell.kind == "i":
        pixels = (stored + 2 ** (cell.bits - 1)) * 255 / top
    elif cell.photometric == "palette":
        return cell.palette[cell.stored[..., 0]].astype(np.float64)
    elif cell.bits == 12:  # the full window is that of 16 bits, for all but alpha
        pixels = stored * 255 / 65_535
        if cell.photometric == "white":
            pixels[..., 0] = (top - stored[..., 0]) * 255 / 65_535
        if cell.has_alpha:
            pixels[..., -1] = stored[..., -1] * 255 / top
        return pixels
    else:
        pixels = stored * 255 / top
    if cell.photometric == "white" and cell.kind != "f":
        pixels[..., 0] = 255 - pixels[..., 0]
    if cell.photometric == "cmyk":
        light = 255 - pixels[..., 3:4]
        colours = light - pixels[..., :3] * light / 255
        return np.concatenate([colours, pixels[..., 4:]], axis=2)
    if cell.photometric == "ycbcr":
        y, cb, cr = pixels[..., 0], pixels[..., 1] - 128, pixels[..., 2] - 128
        green = y - 0.344136 * cb - 0.714136 * cr
        return np.stack([y + 1.402 * cr, green, y + 1.772 * cb], axis=2).clip(0, 255)
    return pixels


def tolerance(cell: Cell) -> float:
    """By how much pixels may differ: what is lossy, and what is rounded."""
    if cell.photometric == "ycbcr":
        return 16 if cell.subsampling != (1, 1) or cell.compression == "jpeg" else 2
    return 12 if cell.compression == "jpeg" else 1.5


def usual_cells(photometric: str) -> Iterator[Cell]:
    """Those of the usual compressions."""
    return (cell for cell in cells(photometric) if cell.compression in ("none", "lzw", "jpeg"))


@pytest.mark.parametrize("choice", [usual_cells, pytest.param(cells, marks=pytest.mark.long)])
@pytest.mark.parametrize("photometric", PHOTOMETRICS)
def test_every_cell_has_its_pixels_or_is_refused_by_name(
    photometric: str, choice: Callable[[str], Iterator[Cell]]
) -> None:
    lines: list[str] = []
    read = 0
    for cell in choice(photometric):
        try:
            with open_source(cell.encode(), window="full") as source:
                found = read_checked(source).astype(int)
        except SourceError as error:
            lines.append(f"{error} ({cell})")
            continue
        read += 1
        if photometric == "lab":
            with Image.open(io.BytesIO(cell.encode())) as image:
                expected = np.asarray(image.convert("RGB"))
        else:
            expected = expect_pixels(cell)
        assert found.shape == expected.shape, str(cell)
        assert np.abs(found - expected).max() <= tolerance(cell), str(cell)
    assert read > 0
    assert bool(lines) == (photometric in ("lab", "cmyk")), lines[:1]
    name = "CIELab" if photometric == "lab" else "CMYK"
    form = rf"bytes: [\w ]*{name}[ ,ofx\d×]* \d+[ -]bit[\w ,]* is not supported; (convert|expect).*"
    assert [line for line in lines if re.fullmatch(form, line) is None] == []


def read_with_libvips(data: bytes) -> Array:
    image = pyvips.Image.new_from_buffer(data, "")
    pixels: Array = image.numpy()
    return pixels if pixels.ndim == 3 else pixels[..., None]


def read_with_tifffile(data: bytes, cell: Cell) -> Array:
    array = tifffile.imread(io.BytesIO(data))
    array = array if array.ndim == 3 else array[..., None]
    return np.moveaxis(array, 0, 2) if array.shape[2] != cell.samples else array


def read_with_pillow(data: bytes) -> Array:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("photometric", ["black", "rgb"])
def test_libvips_and_tifffile_have_the_same_pixels(photometric: str) -> None:
    """Cells of 8 and 16 bits; libvips reads planes of two bands in another way, tiles not."""
    for cell in usual_cells(photometric):
        if cell.bits not in (8, 16) or cell.kind != "u" or cell.compression == "webp":
            continue
        data = cell.encode()
        with open_source(data, window="full") as source:
            found = read_checked(source)
        readings = [read_with_tifffile(data, cell)]
        is_odd = cell.is_planar or (cell.compression == "jpeg" and cell.has_alpha)
        readings += [] if is_odd else [read_with_libvips(data)]
        for pixels in readings:
            eight = pixels.astype(float) / (257 if cell.bits == 16 else 1)
            assert np.abs(eight - found).max() <= (3 if cell.compression == "jpeg" else 1), cell


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("compression", ["lzw", "deflate"])
@pytest.mark.parametrize("is_tiled", [False, True])
def test_pillow_has_the_same_ycbcr(
    subsampling: tuple[int, int], compression: str, is_tiled: bool
) -> None:
    data = Cell(
        "ycbcr", subsampling=subsampling, compression=compression, is_tiled=is_tiled
    ).encode()
    with open_source(data) as source:
        np.testing.assert_array_equal(read_checked(source), read_with_pillow(data))


def test_ycbcr_has_the_rounding_of_libtiff() -> None:
    """All values of chroma, with other coefficients and reference levels."""
    block = noise(64, 48, 3)
    packed = imagecodecs.lzw_encode(block.tobytes())
    tags = {256: (4, (48,)), 257: (4, (64,)), 258: (3, (8, 8, 8)), 259: (3, (5,)), 262: (3, (6,))}
    tags |= {277: (3, (3,)), 278: (3, (64,)), 284: (3, (1,)), 530: (3, (1, 1))}
    studio = {532: (5, (15, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1))}
    bt709 = {529: (5, (2125, 10_000, 7154, 10_000, 721, 10_000))}
    for further in ({}, studio, bt709, studio | bt709):
        data = write_tiff(tags | further, [packed], is_tiled=False)
        with open_source(data) as source:
            np.testing.assert_array_equal(read_checked(source), read_with_pillow(data))


def strip_segments(data: bytes) -> bytes:
    """A JPEG stream without the segments of applications."""
    out, position = data[:2], 2
    while data[position + 1] != 0xDA:
        length = int.from_bytes(data[position + 2 : position + 4])
        if not 0xE0 <= data[position + 1] <= 0xEF:
            out += data[position : position + 2 + length]
        position += 2 + length
    return out + data[position:]


@pytest.mark.parametrize("is_tiled", [False, True])
@pytest.mark.parametrize("tag", [2, 6])
@pytest.mark.parametrize("stated", [None, (1, 1), (2, 2)])
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("is_jfif", [False, True])
def test_jpeg_data_that_contradict_the_tag(
    is_jfif: bool, subsampling: tuple[int, int], stated: Any, tag: int, is_tiled: bool
) -> None:
    y, x = np.mgrid[:64, :80]
    pixels = np.stack([200 - x, 40 + 2 * y, 60 + x], axis=2).astype(np.uint8)
    stream = imagecodecs.jpeg8_encode(
        pixels, level=95, colorspace="RGB", outcolorspace="YCBCR", subsampling=subsampling
    )
    stream = stream if is_jfif else strip_segments(stream)
    tags = {256: (4, (80,)), 257: (4, (64,)), 258: (3, (8,) * 3), 259: (3, (7,)), 262: (3, (tag,))}
    tags |= {277: (3, (3,)), 284: (3, (1,)), 278: (3, (64,))}
    tags |= {322: (3, (80,)), 323: (3, (64,))} if is_tiled else {}
    tags |= {530: (3, stated)} if stated else {}
    data = write_tiff(tags, [stream], is_tiled=is_tiled)
    with open_source(data) as source:
        found = read_checked(source).astype(int)
    if tag == 2 and subsampling == (1, 1):  # the tag holds, as for libtiff
        expected = np.asarray(Image.fromarray(pixels).convert("YCbCr"))
        np.testing.assert_allclose(found, read_with_libvips(data), atol=2)
    else:
        expected = pixels
    assert np.abs(found - expected).max() <= 8


@pytest.mark.parametrize("kind", [1, 3, 4, 6, 8, 9, 16, 17])
@pytest.mark.parametrize("compression", ["none", "lzw"])
@pytest.mark.parametrize("is_tiled", [False, True])
def test_unusual_types_of_sizes(is_tiled: bool, compression: str, kind: int) -> None:
    cell = Cell("rgb", compression=compression, is_tiled=is_tiled)
    tags: dict[int, Any] = {256: (kind, (53,)), 257: (kind, (37,)), 258: (3, (8,) * 3)}
    tags |= {259: (kind, ({"none": 1, "lzw": 5}[compression],)), 262: (kind, (2,))}
    tags |= {277: (kind, (3,)), 284: (kind, (1,))}
    sides = {322: (kind, (32,)), 323: (kind, (16,))} if is_tiled else {278: (kind, (16,))}
    data = write_tiff(tags | sides, list(cell.blocks()), is_tiled=is_tiled)
    with open_source(data) as source:
        np.testing.assert_array_equal(read_checked(source), cell.stored)


@pytest.mark.parametrize("tag", [256, 278])
def test_negative_sizes_are_refused(tag: int) -> None:
    cell = Cell("rgb")
    tags: dict[int, Any] = {256: (4, (53,)), 257: (4, (37,)), 258: (3, (8,) * 3), 262: (3, (2,))}
    tags |= {277: (3, (3,)), 278: (4, (16,)), tag: (9, (-53,))}
    with pytest.raises(SourceError, match=f"broken TIFF: tag {tag} is negative"):
        open_source(write_tiff(tags, list(cell.blocks()), is_tiled=False))


@pytest.mark.parametrize("compression", ["none", "lzw", "jpeg"])
@pytest.mark.parametrize("is_planar", [False, True])
@pytest.mark.parametrize("is_tiled", [False, True])
def test_places_in_the_other_tags(is_tiled: bool, is_planar: bool, compression: str) -> None:
    """Tiles in the tags of strips, as libtiff reads them; and strips in those of tiles."""
    cell = Cell("rgb", compression=compression, is_tiled=is_tiled, is_planar=is_planar)
    data = cell.encode()
    with open_source(data) as source:
        expected = read_checked(source)
    pairs = {324: 273, 325: 279} if is_tiled else {273: 324, 279: 325}
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    entries = [data[start + 2 + 12 * k : start + 14 + 12 * k] for k in range(count)]
    moved = []
    for entry in entries:
        (number,) = struct.unpack_from("<H", entry)
        moved.append(struct.pack("<H", pairs.get(number, number)) + entry[2:])
    moved.sort(key=lambda entry: struct.unpack_from("<H", entry))
    changed = data[: start + 2] + b"".join(moved) + data[start + 2 + 12 * count :]
    with open_source(changed) as source:
        np.testing.assert_array_equal(read_checked(source), expected)
    if is_tiled and not is_planar:  # which libvips does not read
        np.testing.assert_allclose(read_with_libvips(changed), expected, atol=1)
