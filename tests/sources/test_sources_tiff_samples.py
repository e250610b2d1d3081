"""What the samples of a TIFF mean, mapped or decoded: bits, palettes, white, alpha, inks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fasttile.errors import SourceError
from fasttile.geometry import Region
from fasttile.sources import open_source
from fasttile.sources.conversions import crop
from support.reading import build_tiff, noise, read_checked, read_pixels
from support.tiff_files import GREY_TAGS, make_values, open_unwindowed, read_unwindowed

imagecodecs = pytest.importorskip("imagecodecs")


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("width", [1, 7, 8, 61])
def test_few_bits(tmp_path: Path, bits: int, compression: str | None, width: int) -> None:
    path = tmp_path / "image"
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
        path.write_bytes(build_tiff(pieces, {**tags, 262: (photometric,), 277: (1,)}))
        np.testing.assert_array_equal(read_unwindowed(path)[..., 0], expected)
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image.convert("L")), expected)
    colours = noise(3, 2**bits, dtype=np.uint16)
    palette = {262: (3,), 277: (1,), 320: tuple(colours.ravel().tolist())}
    path.write_bytes(build_tiff(pieces, {**tags, **palette}))
    np.testing.assert_array_equal(
        read_unwindowed(path), (colours >> 8)[:, array].transpose(1, 2, 0)
    )
    with open_unwindowed(path) as source:
        assert source.metadata.stored_as == f"palette, {bits} bit"


@pytest.mark.parametrize("bits", [3, 6, 10, 12, 14])
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_bits_in_between(tmp_path: Path, bits: int, compression: str | None) -> None:
    path = tmp_path / "image"
    array = (noise(21, 17, 3, dtype=np.uint16) >> (16 - bits)).astype("u1" if bits < 8 else "u2")
    flat = array.reshape(21, -1).astype(">u2")
    rows = [np.unpackbits(row[:, None].view("u1"), axis=1)[:, -bits:].ravel() for row in flat]
    pieces = [b"".join(np.packbits(row).tobytes() for row in rows)]
    if compression:
        pieces = [imagecodecs.zlib_encode(piece) for piece in pieces]
    tags = {256: (17,), 257: (21,), 258: (bits,) * 3, 259: (8 if compression else 1,)}
    path.write_bytes(build_tiff(pieces, {**tags, 262: (2,), 277: (3,)}))
    expected = array.astype(int) * 255 // (2**bits - 1) if bits < 8 else array
    np.testing.assert_array_equal(read_unwindowed(path), expected)


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_palettes_of_16_bits(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "image"
    palette = noise(3, 65536, dtype=np.uint16)
    indices = noise(33, 21, dtype=np.uint16)
    tifffile.imwrite(
        path, indices, photometric="palette", colormap=palette, compression=compression
    )
    expected = (palette >> 8)[:, indices].transpose(1, 2, 0)
    np.testing.assert_array_equal(read_unwindowed(path), expected)


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "f4"])
def test_min_is_white(tmp_path: Path, compression: str | None, dtype: str) -> None:
    path = tmp_path / "image"
    array = make_values(dtype, 20, 30)
    tifffile.imwrite(path, array, photometric="miniswhite", compression=compression)
    expected = array if dtype == "f4" else ~array
    np.testing.assert_array_equal(read_unwindowed(path)[..., 0], expected)


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f4"])
def test_associated_alpha(tmp_path: Path, compression: str | None, dtype: str) -> None:
    path = tmp_path / "image"
    array = make_values(dtype, 20, 30, 4)
    array[::2, ::2, 3] = 0
    form = {"photometric": "rgb", "compression": compression}
    tifffile.imwrite(path, array, extrasamples=(1,), **form)
    got = read_unwindowed(path)
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
    path = tmp_path / "image"
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
    kept = read_unwindowed(path, keep_cmyk=True)
    if compression != "jpeg":
        np.testing.assert_array_equal(kept, array)
    expected = Image.frombytes("CMYK", (70, 40), kept.tobytes()).convert("RGB")
    np.testing.assert_array_equal(read_unwindowed(path), np.asarray(expected))
    with open_unwindowed(path, keep_cmyk=True) as source:
        assert source.is_cmyk
        assert not source.has_alpha
        assert source.metadata.stored_as == "CMYK"
        part = crop(source, Region(3, 4, 5, 6))
        assert part.is_cmyk
        np.testing.assert_array_equal(part.rows(0, 6), kept[4:10, 3:8])
    with open_unwindowed(path) as source:
        assert not source.is_cmyk
        assert "CMYK converted to RGB" in source.metadata.notes


def test_cmyk_without_a_profile_of_its_own_is_converted(tmp_path: Path) -> None:
    path = tmp_path / "image"
    tifffile.imwrite(path, noise(4, 7, 4), photometric="separated", compression="lzw")
    with open_unwindowed(path, keep_cmyk=True) as source:
        assert (source.bands, source.is_cmyk) == (3, False)


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_cmyk_with_alpha_and_of_16_bits(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "image"
    array = noise(40, 70, 5, dtype=np.uint16)
    form = {"photometric": "separated", "compression": compression, "extrasamples": (2,)}
    tifffile.imwrite(path, array, **form)
    got = read_unwindowed(path)
    exact = (65535.0 - array[..., :3]) * (65535.0 - array[..., 3:4]) / 65535
    np.testing.assert_allclose(got[..., :3], exact, 0, 0.5)
    np.testing.assert_array_equal(got[..., 3], array[..., 4])


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_many_samples_are_left_out(tmp_path: Path, planar: str, dtype: str) -> None:
    path = tmp_path / "image"
    array = make_values(dtype, 20, 30, 9)
    written = array if planar == "contig" else array.transpose(2, 0, 1)
    form = {"planarconfig": planar, "extrasamples": (0,) * 8}
    tifffile.imwrite(path, written, photometric="minisblack", compression="lzw", **form)
    with open_unwindowed(path) as source:
        np.testing.assert_array_equal(read_checked(source), array[..., :1])
        assert source.metadata.notes == ("band 1 of 9 shown, 8 left out; --bands picks others",)


@pytest.mark.parametrize("photometric", [8, 9])
@pytest.mark.parametrize("bits", [8, 16])
def test_lab(tmp_path: Path, photometric: int, bits: int) -> None:
    path = tmp_path / "image"
    tags = {**GREY_TAGS, 258: (bits,) * 3, 262: (photometric,), 277: (3,), 278: (6,)}
    path.write_bytes(build_tiff([bytes(90 * bits // 8)], tags))
    if (photometric, bits) == (8, 8):
        assert read_pixels(path).shape == (6, 5, 3)  # by Pillow
        return
    with pytest.raises(SourceError, match=r"Lab of \d+ bits is not supported"):
        open_source(path)
