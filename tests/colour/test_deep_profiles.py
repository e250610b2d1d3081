"""Profiles of samples of more than 8 bits, of CMYK with alpha, and of JPEG 2000."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

import fasttile
import profiles
from fasttile.colour import convert, convert_deep_profile, matrix
from fasttile.errors import SourceError
from fasttile.sources import ReadOptions, open_source
from fasttile.verify import verify
from support.reading import build_tiff, noise
from support.reference import Array

pyvips = pytest.importorskip("pyvips")

IDENTITY = b"curv" + bytes(8)
DEEP_PROFILES = {
    "linear": profiles.matrix_profile(
        "linear", profiles.PRIMARIES["sRGB"], profiles.D65_XY, IDENTITY
    ),
    "linear, by a parameter": profiles.matrix_profile(
        "linear", profiles.PRIMARIES["sRGB"], profiles.D65_XY, profiles.gamma(1)
    ),
    "linear, wide": profiles.matrix_profile(
        "linear ProPhoto", profiles.PRIMARIES["ProPhoto"], profiles.D50_XY, IDENTITY
    ),
    "P3": profiles.display_p3(),
    "Adobe": profiles.adobe_rgb(),
    "ProPhoto": profiles.prophoto(),
}
SAMPLES = np.arange(65_536, dtype=np.uint16)


def read_converted(
    path: Path, icc: Literal["srgb", "keep", "drop"] = "srgb", window: Any = "full"
) -> Array:
    """The pixels of all tiles of the full size."""
    form: dict[str, Any] = {"format": "png", "tile_size": 8192, "overlap": 0, "window": window}
    fasttile.cut(path, path.with_suffix(".dzi"), icc=icc, **form)
    with fasttile.open_pyramid(path.with_suffix(".dzi")) as pyramid:
        return pyramid.pixels(pyramid.pyramid.last_level, 0, 0)


def convert_by_libvips(path: Path) -> Array:
    image = pyvips.Image.new_from_file(str(path))
    return image.icc_transform("srgb", embedded=True, depth=8, intent="relative").numpy()


def make_ramps(dtype: str) -> Array:
    """All greys, dark ones close together, and colours; shape (30, 500, 3), of 0 to 1."""
    ramp = np.linspace(0, 1, 500)
    pixels = np.concatenate(
        [np.stack([ramp**2.2] * 3, axis=1)[None], noise(29, 500, 3) / 255.0 * ramp[:, None]]
    )
    if dtype == "float32":
        return pixels.astype(np.float32)
    return np.round(pixels * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", ["uint16", "uint32", "float32"])
@pytest.mark.parametrize("name", DEEP_PROFILES)
def test_deep_rgb_is_libvips(
    tmp_path: Path, name: str, dtype: str, compression: str | None
) -> None:
    path = tmp_path / "image.tif"
    pixels, profile = make_ramps(dtype), DEEP_PROFILES[name]
    form: dict[str, Any] = {"photometric": "rgb", "iccprofile": profile, "metadata": None}
    tifffile.imwrite(path, make_ramps("uint16"), **form)
    expected = convert_by_libvips(path).astype(int)
    tifffile.imwrite(path, pixels, compression=compression, **form)
    found = read_converted(path)[..., :3].astype(int)
    difference = np.abs(found - expected)
    assert difference.mean() < 0.4
    if "linear" in name:  # for others libvips has LittleCMS interpolate in a table of 33 values
        assert difference.max() <= 1
    if dtype == "uint16":
        # No level of dark grey is lost.
        assert len(np.unique(found[0, :, 0])) >= len(np.unique(expected[0, :, 0])) - 2


@pytest.mark.parametrize("name", DEEP_PROFILES)
def test_deep_rgb_is_littlecms_where_8_bits_have_the_value(tmp_path: Path, name: str) -> None:
    path = tmp_path / "image.tif"
    eight = noise(100, 100, 3)
    form: dict[str, Any] = {"photometric": "rgb", "iccprofile": DEEP_PROFILES[name]}
    tifffile.imwrite(path, eight.astype(np.uint16) * np.uint16(257), metadata=None, **form)
    expected = profiles.convert_by_littlecms(eight, DEEP_PROFILES[name]).astype(int)
    assert np.abs(read_converted(path) - expected).max() <= 1


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_a_linear_profile_keeps_dark_levels(tmp_path: Path, dtype: str, bands: int) -> None:
    path = tmp_path / "image.tif"
    encoded = np.linspace(0, 1, 4096)
    light = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    row = light.astype(np.float32) if dtype == "float32" else np.round(light * 65535)
    pixels = np.repeat(row.astype(dtype)[None, :, None], bands, axis=2)
    profile = DEEP_PROFILES["linear"] if bands == 3 else profiles.grey(1.0)
    form: dict[str, Any] = {"photometric": "rgb" if bands == 3 else "minisblack"}
    stored = pixels if bands == 3 else pixels[..., 0]
    tifffile.imwrite(path, stored, iccprofile=profile, metadata=None, **form)
    found = read_converted(path)[0, :, 0].astype(int)
    expected = np.round(encoded * 255)
    assert np.abs(found - expected).max() <= 1
    assert len(np.unique(found[expected < 64])) == 64
    kept = read_converted_again(path, "keep")
    assert len(np.unique(kept[0, :, 0][expected < 64])) < 20  # tiles of 8 bits, as the file has it


def read_converted_again(path: Path, icc: Literal["srgb", "keep", "drop"]) -> Array:
    copy = path.with_name("again.tif")
    copy.write_bytes(path.read_bytes())
    return read_converted(copy, icc)


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [12, 16])
def test_every_value_of_every_kind(tmp_path: Path, bands: int, bits: int) -> None:
    """As LittleCMS has it for 8 bits, where both have the value; alpha keeps its part."""
    eight = np.arange(256)
    pixels = np.stack([np.round(eight * (2**bits - 1) / 255).astype(np.uint16)] * bands, axis=1)
    if bands in (2, 4):
        pixels[:, -1] = pixels[::-1, -1]
    grey = bands < 3
    profile = profiles.grey(1.0, "linear grey") if grey else DEEP_PROFILES["linear, wide"]
    data = pixels.astype("<u2").tobytes()
    if bits == 12:
        data = pytest.importorskip("imagecodecs").packints_encode(pixels.ravel(), 12)
    tags = {256: (256,), 257: (1,), 258: (bits,) * bands, 262: (1 if grey else 2,), 277: (bands,)}
    count = len(profile) // 4
    tags |= {278: (1,), 34675: struct.unpack(f"<{count}I", profile)}
    tags |= {338: (2,)} if bands in (2, 4) else {}
    path = tmp_path / "image.tif"
    long, undefined = (struct.pack("<HHI", 34675, *one) for one in ((4, count), (7, 4 * count)))
    path.write_bytes(build_tiff([data], tags).replace(long, undefined))
    found = read_converted(path, window=(0, 2**bits - 1)).astype(int)
    stored = np.stack([eight] * (1 if grey else 3), axis=1)[None].astype(np.uint8)
    if grey:
        expected = convert.grey_table(profile)[stored]
    else:
        expected = profiles.convert_by_littlecms(stored, profile)
    assert np.abs(found[..., : expected.shape[2]] - expected).max() <= 2
    if bands in (2, 4):
        np.testing.assert_array_equal(found[0, :, -1], eight[::-1])


def test_profiles_that_are_left_to_the_encoders() -> None:
    """Those that are sRGB, tables, of other colours, broken, or kept."""
    deep = np.zeros((1, 1, 3), np.uint16)

    def tried(profile: bytes, array: Array = deep, **options: Any) -> object:
        with open_source(array, window="full") as source:
            opened = source
            opened.dtype = array.dtype
            opened.metadata = opened.metadata.__class__("test", icc_profile=profile)
            return convert_deep_profile(opened, SAMPLES, **options)

    linear = DEEP_PROFILES["linear"]
    assert tried(linear) is not None
    assert tried(linear, keeps_rgb=True) is None
    assert tried(linear, deep[..., :1]) is None
    assert tried(profiles.grey(), deep) is None
    assert tried(profiles.grey(), deep[..., :1]) is not None
    assert tried(profiles.srgb()) is None
    assert tried(linear[:200]) is None
    assert tried(b"") is None


def test_samples_may_begin_at_any_byte() -> None:
    pixels = noise(9, 11, 4, dtype=np.uint16)
    odd = np.empty(pixels.nbytes + 1, np.uint8)[1:].view(np.uint16).reshape(pixels.shape)
    odd[...] = pixels
    tables = matrix.deep_tables(DEEP_PROFILES["linear"], SAMPLES)
    alpha = (SAMPLES >> 8).astype(np.uint8)
    expected, found = np.empty((2, 9, 11, 4), np.uint8)
    matrix.apply_deep_tables(pixels, expected, tables, alpha)
    wide = np.zeros((9, 20, 4), np.uint8)[:, 3:14]  # within wider rows
    for out in (found, wide):
        matrix.apply_deep_tables(odd, out, tables, alpha)
        np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(expected[..., 3], pixels[..., 3] >> 8)


def test_iterated_and_verified_tiles_are_the_same(tmp_path: Path) -> None:
    path, result = tmp_path / "image.tif", tmp_path / "p.dzi"
    form: dict[str, Any] = {"photometric": "rgb", "metadata": None}
    pixels = noise(300, 200, 3, dtype=np.uint16)
    tifffile.imwrite(path, pixels, iccprofile=DEEP_PROFILES["linear"], **form)
    report = fasttile.cut(path, result, format="png", tile_size=64)
    assert report.notes == ("converted from linear to sRGB",)
    with fasttile.open_pyramid(result) as pyramid:
        for tile, expected in fasttile.iter_tiles(path, format="png", tile_size=64):
            np.testing.assert_array_equal(pyramid.pixels(*tile), expected)
    assert verify(result, source=path).is_complete


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("extra", ["unassalpha", "unspecified"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_cmyk_with_a_further_channel(
    tmp_path: Path, planar: str, dtype: Any, extra: str, compression: str | None
) -> None:
    path = tmp_path / "image.tif"
    eight = noise(40, 30, 5)
    eight[..., 4] |= 1  # PNG tiles of transparent pixels have no colour
    pixels = eight.astype(dtype) * dtype(257 if dtype is np.uint16 else 1)
    stored = np.moveaxis(pixels, 2, 0) if planar == "separate" else pixels
    profile = profiles.cmyk(3)
    form: dict[str, Any] = {"planarconfig": planar, "compression": compression, "metadata": None}
    tifffile.imwrite(
        path, stored, photometric="separated", extrasamples=[extra], iccprofile=profile, **form
    )
    found = read_converted(path)
    transform = ImageCms.buildTransform(
        io.BytesIO(profile), ImageCms.createProfile("sRGB"), "CMYK", "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )  # fmt: skip
    inks = Image.fromarray(np.ascontiguousarray(eight[..., :4]), "CMYK")
    expected = np.asarray(ImageCms.applyTransform(inks, transform))
    np.testing.assert_array_equal(found[..., :3], expected)
    if extra == "unassalpha":
        np.testing.assert_array_equal(found[..., 3], eight[..., 4])


def jpeg2000(array: Array, colr: bytes) -> bytes:
    """A lossless JPEG 2000 whose box `colr` has some content."""
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "JPEG2000", mct=0)
    data = stream.getvalue()
    at = data.find(b"colr") - 4
    (length,) = struct.unpack_from(">I", data, at)
    box = struct.pack(">I4s", 8 + len(colr), b"colr") + colr
    head = data.find(b"jp2h") - 4
    (head_length,) = struct.unpack_from(">I", data, head)
    sized = struct.pack(">I", head_length - length + len(box))
    return data[:head] + sized + data[head + 4 : at] + box + data[at + length :]


@pytest.mark.parametrize("method", [2, 3])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_the_profile_of_a_jpeg_2000(tmp_path: Path, bands: int, method: int) -> None:
    path = tmp_path / "image.jp2"
    array = noise(40, 50, bands)
    profile = profiles.grey(1.4) if bands < 3 else profiles.adobe_rgb()
    array = array[..., 0] if bands == 1 else array
    path.write_bytes(jpeg2000(array, bytes([method, 0, 0]) + profile))
    with open_source(path) as source:
        assert source.metadata.icc_profile == profile
    png = tmp_path / "same.png"
    Image.fromarray(array).save(png, icc_profile=profile)
    np.testing.assert_array_equal(read_converted(path), read_converted(png))


def test_inks_of_a_jpeg_2000(tmp_path: Path) -> None:
    path = tmp_path / "image.jp2"
    array, profile = noise(40, 50, 4), profiles.cmyk(3)
    path.write_bytes(jpeg2000(array, b"\2\0\0" + profile))
    same = tmp_path / "same.tif"
    Image.fromarray(array, "CMYK").save(same, icc_profile=profile)
    np.testing.assert_array_equal(read_converted(path), read_converted(same))
    for icc in ("drop", "keep"):
        found = [fasttile_pixels(one, icc) for one in (path, same)]
        np.testing.assert_array_equal(*found)


def fasttile_pixels(path: Path, icc: str) -> Array:
    with open_source(path, read_options=ReadOptions(keep_cmyk=icc != "drop")) as source:
        return source.rows(0, source.height).copy()


@pytest.mark.parametrize(("number", "mode"), [(16, "RGB"), (17, "L"), (18, "YCbCr"), (12, "CMYK")])
def test_enumerated_colours(tmp_path: Path, number: int, mode: str) -> None:
    path = tmp_path / "image.jp2"
    smooth = Image.fromarray(np.add.outer(np.arange(60), np.arange(70)).astype(np.uint8))
    image = Image.merge("RGB", [smooth, smooth.rotate(90, expand=False), smooth])
    array = np.asarray(image.convert(mode))
    path.write_bytes(jpeg2000(array, b"\1\0\0" + struct.pack(">I", number)))
    expected = np.asarray(Image.fromarray(array, mode).convert("L" if mode == "L" else "RGB"))
    found = fasttile_pixels(path, "drop").astype(int)
    assert np.abs(found - expected.reshape(found.shape)).max() <= 2


@pytest.mark.parametrize(("number", "name"), [(14, "CIELab"), (21, "ROMM RGB"), (99, "unknown")])
def test_enumerated_colours_that_are_refused(tmp_path: Path, number: int, name: str) -> None:
    path = tmp_path / "image.jp2"
    path.write_bytes(jpeg2000(noise(9, 9, 3), b"\1\0\0" + struct.pack(">I", number)))
    with pytest.raises(SourceError, match=rf"its colour space \({name}, number {number}\)"):
        open_source(path)
