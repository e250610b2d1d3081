"""Missing samples and masks of TIFFs, against GDAL; and values of other images."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image

from fasttile.errors import OptionError, SourceError
from fasttile.options.read import ReadOptions
from fasttile.sources import open_source
from fasttile.sources.missing import MissingValues
from support.gdal_files import (
    NO_GEOREFERENCE,
    gdal_bands,
    gdal_mask,
    notes_of,
    read_cut,
    write_gdal,
)
from support.reading import noise, read_checked

pytestmark = pytest.mark.filterwarnings(NO_GEOREFERENCE)

STRIPS: dict[str, Any] = {"blockysize": 7}
TILES: dict[str, Any] = {"tiled": True, "blockxsize": 32, "blockysize": 16}
FORMS = [
    {"compress": compress, "interleave": interleave, **blocks}
    for compress, interleave, blocks in itertools.product(
        ("none", "deflate", "packbits"), ("pixel", "band"), (STRIPS, TILES)
    )
]
FLAGS = '<GDALMetadata>\n  <Item name="INTERNAL_MASK_FLAGS_1">2</Item>\n</GDALMetadata>'
IS_MASK: dict[str, Any] = {"extratags": [(42112, "s", 0, FLAGS, True)]}
DTYPES = ("uint8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def holes(height: int, width: int) -> Any:
    """False where a third of all pixels are missing, some of them in blocks."""
    valid = np.random.default_rng(height * width).random((height, width)) > 0.3
    valid[height // 4 : height // 2, width // 4 : width // 2] = False
    return valid


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bands", [1, 3])
def test_gdal_nodata_of_every_type(tmp_path: Path, dtype: str, bands: int) -> None:
    pixels = noise(45, 61, bands, dtype=np.uint8).astype(dtype)
    pixels[~holes(45, 61)] = 7
    form = FORMS[DTYPES.index(dtype)]
    kind = {"photometric": "rgb"} if bands == 3 else {}
    path = write_gdal(tmp_path / "a.tif", pixels, nodata=7, **form, **kind)
    found = read_cut(path, window=(0.0, 255.0))
    valid = gdal_mask(path) > 0
    assert found.shape[2] == bands + 1
    np.testing.assert_array_equal(found[..., -1], np.where(valid, 255, 0))
    expected = pixels[valid].astype(np.uint8)
    if dtype not in ("uint8", "uint16"):
        expected[expected == 7] = 0  # a missing sample beside valid ones
    np.testing.assert_array_equal(found[valid][:, :-1], expected)
    opaque = read_cut(path, window=(0.0, 255.0), nodata="none")
    np.testing.assert_array_equal(opaque, pixels.astype(np.uint8))
    assert "nodata 7 is transparent" in notes_of(path, window=(0.0, 255.0))


@pytest.mark.parametrize(
    "value", [np.nan, -9999.0, -3.4028234663852886e38, 1e-5, np.inf, -np.inf, 0.0]
)
def test_gdal_nodata_of_floats(tmp_path: Path, value: float) -> None:
    pixels = np.linspace(-50, 50, 40 * 30, dtype=np.float32).reshape(40, 30, 1)
    pixels[~holes(40, 30)] = value
    path = write_gdal(tmp_path / "a.tif", pixels, nodata=value)
    np.testing.assert_array_equal(read_cut(path)[..., 1], gdal_mask(path))


def test_nan_is_missing_beside_another_value() -> None:
    pixels = np.array([[np.nan, -9999, 5, 10]], np.float32)
    assert read_cut(pixels, nodata=-9999)[0, :, 1].tolist() == [0, 0, 255, 255]
    assert read_cut(pixels, nodata="nan", window="full")[0, :, 1].tolist() == [0, 255, 255, 255]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("bands", [1, 3])
def test_masks_against_gdal(tmp_path: Path, form: dict[str, Any], inside: bool, bands: int) -> None:
    pixels, valid = noise(53, 71, bands), holes(53, 71)
    kind = {"photometric": "rgb"} if bands == 3 else {}
    path = write_gdal(tmp_path / "a.tif", pixels, mask=valid, inside=inside, **form, **kind)
    assert (tmp_path / "a.tif.msk").exists() is not inside
    found = read_cut(path)
    np.testing.assert_array_equal(found[..., -1], gdal_mask(path))
    np.testing.assert_array_equal(found[valid][:, :-1], pixels[valid])
    np.testing.assert_array_equal(read_cut(path, nodata="none"), pixels)
    region = read_cut(path, region=(13, 9, 40, 31))
    np.testing.assert_array_equal(region, found[9:40, 13:53])


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (9, 8)])
@pytest.mark.parametrize("inside", [True, False])
def test_masks_of_odd_sizes(tmp_path: Path, size: tuple[int, int], inside: bool) -> None:
    valid = holes(*size)
    path = write_gdal(tmp_path / "a.tif", noise(*size, 1), mask=valid, inside=inside)
    np.testing.assert_array_equal(read_cut(path)[..., 1], valid * np.uint8(255))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_turn_with_the_image(tmp_path: Path, orientation: int) -> None:
    pixels, valid = noise(20, 31), holes(20, 31)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        tag = (274, 3, 1, orientation, True)
        file.write(pixels, photometric="minisblack", extratags=[tag])
        file.write(valid, photometric="mask", subfiletype=4)
    found = read_cut(path)
    stored = np.where(valid, pixels, 0).astype(np.uint8)
    turned = np.asarray(_turn(stored, orientation))
    np.testing.assert_array_equal(found[..., 0], turned)
    np.testing.assert_array_equal(found[..., 1] > 0, np.asarray(_turn(valid, orientation)))


def _turn(image: Any, orientation: int) -> Any:
    """What Pillow makes of an orientation."""
    steps = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    stored = Image.fromarray(image.astype(np.uint8))
    return stored if orientation == 1 else stored.transpose(steps[orientation])


def test_a_mask_replaces_gdal_nodata_as_in_gdal(tmp_path: Path) -> None:
    pixels = noise(20, 30, 1)
    path = write_gdal(tmp_path / "a.tif", pixels, mask=holes(20, 30), nodata=int(pixels[0, 0, 0]))
    alpha = read_cut(path)[..., 1]
    np.testing.assert_array_equal(alpha, gdal_mask(path))
    # A value of the options counts beside the mask.
    both = read_cut(path, nodata=int(pixels[0, 0, 0]))[..., 1]
    np.testing.assert_array_equal(both, np.where(pixels[..., 0] == pixels[0, 0, 0], 0, alpha))


def test_the_mask_in_a_file_replaces_that_beside_it(tmp_path: Path) -> None:
    pixels = noise(20, 30, 1)
    path = write_gdal(tmp_path / "a.tif", pixels, mask=holes(20, 30))
    write_gdal(tmp_path / "b.tif", pixels, mask=~holes(20, 30), inside=False)
    (tmp_path / "b.tif.msk").rename(tmp_path / "a.tif.msk")
    np.testing.assert_array_equal(read_cut(path)[..., 1], gdal_mask(path))


def test_masks_and_overviews(tmp_path: Path) -> None:
    pixels, valid = noise(64, 96, 3), holes(64, 96)
    path = write_gdal(tmp_path / "a.tif", pixels, mask=valid, photometric="rgb")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], rasterio.enums.Resampling.nearest)
    with tifffile.TiffFile(path) as file:
        kinds = [int(page.subfiletype) for page in file.pages]
    assert sorted(kinds) == [0, 1, 1, 4, 5, 5]
    np.testing.assert_array_equal(read_cut(path)[..., 3], gdal_mask(path))
    second = read_cut(path, page=kinds.index(1) + 1)
    assert second.shape[:2] == (32, 48)
    np.testing.assert_array_equal(second[..., 3], valid[::2, ::2] * np.uint8(255))


def test_pages_have_masks_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    pages = [noise(20, 24), noise(20, 24) ^ 255, noise(30, 24)]
    masks = [holes(20, 24), None, ~holes(30, 24)]
    with tifffile.TiffWriter(path) as file:
        for page, mask in zip(pages, masks, strict=True):
            file.write(page, photometric="minisblack", subfiletype=2)
            if mask is not None:
                file.write(mask, photometric="mask", subfiletype=6)
    assert read_cut(path, page=3).shape[2] == 1
    np.testing.assert_array_equal(read_cut(path, page=1)[..., 1] > 0, masks[0])
    np.testing.assert_array_equal(read_cut(path, page=4)[..., 1] > 0, masks[2])


def test_masks_that_do_not_fit_are_errors(tmp_path: Path) -> None:
    path = write_gdal(tmp_path / "a.tif", noise(20, 30, 1))
    beside = tmp_path / "a.tif.msk"
    tifffile.imwrite(beside, noise(20, 31), **IS_MASK)
    with pytest.raises(SourceError, match=r"a.tif.msk: the mask has 31×20 pixels, .* 30×20"):
        read_cut(path)
    assert read_cut(path, nodata="none").shape == (20, 30, 1)
    beside.write_bytes(b"no TIFF at all")
    with pytest.raises(SourceError, match="the mask is no TIFF"):
        read_cut(path)
    beside.write_bytes(b"")
    with pytest.raises(SourceError, match="the file is empty"):
        read_cut(path)
    tifffile.imwrite(beside, noise(20, 30, 3), photometric="rgb", **IS_MASK)
    with pytest.raises(SourceError, match="a mask for each of 3 bands"):
        read_cut(path)
    beside.unlink()
    target = tmp_path / "mask.tif"
    tifffile.imwrite(target, noise(20, 30), **IS_MASK)
    beside.symlink_to(target)
    with pytest.raises(SourceError, match="the mask is a link, and the image is none"):
        read_cut(path)
    linked = tmp_path / "linked.tif"
    linked.symlink_to(path)
    (tmp_path / "linked.tif.msk").symlink_to(target)
    assert read_cut(linked).shape == (20, 30, 2)
    beside.unlink()
    tifffile.imwrite(beside, noise(20, 31))  # no mask for GDAL
    assert (gdal_mask(path) == 255).all()
    assert read_cut(path).shape == (20, 30, 1)


def test_a_truncated_mask_is_an_error(tmp_path: Path) -> None:
    form = {"compress": "deflate", "blockysize": 4}
    path = write_gdal(
        tmp_path / "a.tif", noise(64, 300, 1), mask=holes(64, 300), inside=False, **form
    )
    beside = tmp_path / "a.tif.msk"
    with tifffile.TiffFile(beside) as file:
        place, size = file.pages.first.dataoffsets[-1], file.pages.first.databytecounts[-1]
    data = bytearray(beside.read_bytes())
    data[place : place + size] = bytes(size)
    beside.write_bytes(data)
    with pytest.raises(SourceError, match=r"a\.tif\.msk"):
        read_cut(path)
    # Rows of the mask that are lost are transparent.
    found = read_cut(path, allow_truncated=True)
    assert not found[-1, :, 1].any()
    assert found[:, :, 1].any()


def test_palettes_and_few_bits_by_their_stored_values(tmp_path: Path) -> None:
    index = noise(24, 40) % 16
    colours = noise(3, 16).astype(np.uint16) * 257
    path = tmp_path / "a.tif"
    nodata = (42113, "s", 0, "3", True)
    tifffile.imwrite(
        path, index, photometric="palette", colormap=_padded(colours), extratags=[nodata]
    )
    found = read_cut(path)
    np.testing.assert_array_equal(found[..., 3], np.where(index == 3, 0, 255))
    np.testing.assert_array_equal(found[index != 3][:, :3], (colours >> 8).T[index[index != 3]])
    four = write_gdal(tmp_path / "b.tif", index[..., None], nodata=15, nbits=4)
    found = read_cut(four)
    np.testing.assert_array_equal(found[..., 1], gdal_mask(four))
    np.testing.assert_array_equal(found[index < 15][:, 0], index[index < 15] * 17)
    white = write_gdal(
        tmp_path / "c.tif", index[..., None] * 10, nodata=30, photometric="miniswhite"
    )
    found = read_cut(white)
    np.testing.assert_array_equal(found[..., 1], gdal_mask(white))
    np.testing.assert_array_equal(found[index != 3][:, 0], 255 - index[index != 3] * 10)


def test_12_bits_and_cmyk(tmp_path: Path) -> None:
    deep = (noise(24, 40, 1, dtype=np.uint16) >> 4).astype(np.uint16)
    deep[~holes(24, 40)] = 77
    path = write_gdal(tmp_path / "a.tif", deep, nodata=77, nbits=12, compress="deflate")
    found = read_cut(path, window=(0.0, 4095.0))
    np.testing.assert_array_equal(found[..., 1], gdal_mask(path))
    exact = (2 * deep[..., 0].astype(np.int64) * 255 + 4095) // (2 * 4095)
    np.testing.assert_array_equal(found[..., 0], np.where(found[..., 1] > 0, exact, 0))
    inks = noise(24, 40, 4)
    plain = write_gdal(tmp_path / "b.tif", inks, photometric="cmyk")
    masked = write_gdal(tmp_path / "c.tif", inks, photometric="cmyk", mask=holes(24, 40))
    found = read_cut(masked)
    np.testing.assert_array_equal(found[..., 3], gdal_mask(masked))
    shown = holes(24, 40)
    np.testing.assert_array_equal(found[shown][:, :3], read_cut(plain)[shown][:, :3])


def test_the_options_of_open_source(tmp_path: Path) -> None:
    pixels = noise(24, 40, 6)
    path = write_gdal(tmp_path / "a.tif", pixels)
    with open_source(path, read_options=ReadOptions(bands="6,5,4", nodata=3)) as source:
        found = read_checked(source)
    missing = (pixels[..., 3:] == 3).all(axis=2)
    np.testing.assert_array_equal(found[..., 3] == 0, missing)
    shown = pixels[~missing][:, [5, 4, 3]]
    shown[shown == 3] = 0  # a missing sample beside valid ones
    np.testing.assert_array_equal(found[~missing][:, :3], shown)
    with pytest.raises(OptionError, match="it names 2 bands"):
        ReadOptions(bands="1,2")


def _padded(colours: Any) -> Any:
    table = np.zeros((3, 256), np.uint16)
    table[:, :16] = colours
    return table


def test_alpha_stays_beside_nodata(tmp_path: Path) -> None:
    pixels = noise(30, 40, 4)
    pixels[..., 3] = noise(30, 40) // 2 + 100
    pixels[~holes(30, 40), :3] = 9
    path = write_gdal(tmp_path / "a.tif", pixels, nodata=9, photometric="rgb", alpha="yes")
    found = read_cut(path)
    missing = (pixels[..., :3] == 9).all(axis=2)
    np.testing.assert_array_equal(found[..., 3], np.where(missing, 0, pixels[..., 3]))
    np.testing.assert_array_equal(found[~missing], pixels[~missing])


def test_left_out_blocks_are_missing(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64, 1), np.uint8)
    pixels[:32, :32] = noise(32, 32, 1) // 2 + 1
    form = {"tiled": True, "blockxsize": 32, "blockysize": 32, "SPARSE_OK": True}
    path = write_gdal(tmp_path / "a.tif", pixels, nodata=0, **form)
    with tifffile.TiffFile(path) as file:
        assert 0 in file.pages.first.dataoffsets
    np.testing.assert_array_equal(read_cut(path)[..., 1], gdal_mask(path))


@pytest.mark.parametrize(("value", "dtype"), [(-9999, "uint8"), (300, "uint8"), (0.5, "int16")])
def test_values_that_no_sample_has(tmp_path: Path, value: float, dtype: str) -> None:
    pixels = noise(9, 9, 1).astype(dtype)
    assert read_cut(pixels, nodata=value, window="full").shape[2] == 1
    assert f"nodata {value} is no value of {dtype}" in notes_of(pixels, nodata=value)
    tag = (42113, "s", 0, str(value), True)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack", extratags=[tag])
    assert read_cut(path, window="full").shape[2] == 1


@pytest.mark.parametrize("text", ["", "none", "1,5", "\xff"])
def test_a_tag_that_is_no_number_is_ignored(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.tif"
    tag = (42113, 2, len(text) + 1, text.encode("latin-1") + b"\0", True)
    tifffile.imwrite(path, noise(9, 9), photometric="minisblack", extratags=[tag])
    assert read_cut(path).shape[2] == 1


def test_window_auto_ignores_missing_samples(tmp_path: Path) -> None:
    heights = np.linspace(800, 2400, 60 * 50).reshape(60, 50, 1).astype(np.int16)
    plain = read_cut(heights)
    holed = heights.copy()
    valid = holes(60, 50)
    holed[~valid] = -32768
    path = write_gdal(tmp_path / "a.tif", holed, nodata=-32768)
    found = read_cut(path)
    assert np.abs(found[valid][:, 0].astype(int) - plain[valid][:, 0]).max() <= 1
    masked = write_gdal(tmp_path / "b.tif", holed, mask=valid)
    np.testing.assert_array_equal(read_cut(masked)[valid], found[valid])
    several = np.concatenate([holed, heights, heights], axis=2)
    assert "window 0,4095: the values reach 2400" in notes_of(several, nodata=-32768)


def test_other_images_by_the_option(tmp_path: Path) -> None:
    grey, colour = noise(20, 30), noise(20, 30, 3)
    grey[2:5], colour[2:5] = 0, 0
    np.save(tmp_path / "a.npy", grey)
    Image.fromarray(colour).save(tmp_path / "b.png")
    (tmp_path / "c.raw").write_bytes(grey.tobytes())
    sources: list[tuple[Any, dict[str, Any], Any]] = [
        (grey, {}, grey[..., None]),
        (colour, {}, colour),
        (tmp_path / "a.npy", {}, grey[..., None]),
        (tmp_path / "b.png", {}, colour),
        (tmp_path / "c.raw", {"raw": "30x20x1"}, grey[..., None]),
        (Image.fromarray(colour), {}, colour),
    ]
    for source, options, pixels in sources:
        found = read_cut(source, nodata=0, **options)
        missing = (pixels == 0).all(axis=2)
        np.testing.assert_array_equal(found[..., -1], np.where(missing, 0, 255))
        np.testing.assert_array_equal(found[~missing][:, :-1], pixels[~missing])
        assert read_cut(source, **options).shape[2] == pixels.shape[2]


def test_16_bits_have_no_alpha(tmp_path: Path) -> None:
    pixels = noise(20, 30, 1, dtype=np.uint16)
    path = write_gdal(tmp_path / "a.tif", pixels, nodata=5)
    with pytest.raises(OptionError, match=r"missing samples, .* --nodata none"):
        read_cut(path, bits=16)
    np.testing.assert_array_equal(read_cut(path, bits=16, nodata="none"), pixels)


def test_ranges_of_values() -> None:
    float32 = np.dtype(np.float32)
    assert MissingValues.of_value(1e300, float32) is None
    values = MissingValues.of_value(-3.40282e38, float32)
    assert values is not None
    # As GDAL compares: with a tolerance of a few steps.
    samples = np.array([-3.40282e38, -3.4028e38, 0, np.nan], np.float32)
    assert values.find(samples).tolist() == [True, False, False, True]
    assert MissingValues.of_value(2**63, np.dtype(np.uint64)) == (2**63, 2**63)
    big = np.array([2**63, 2**63 + 1], np.uint64)
    assert MissingValues(2**63, 2**63).find(big).tolist() == [True, False]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [-9999.9, 0.1, 1e30, -1.1e38])
def test_tolerance_of_floats(tmp_path: Path, dtype: str, value: float) -> None:
    """A value that had 32 bits once, or that a program wrote with fewer digits, is found."""
    near = value * (1 + np.linspace(-1e-6, 1e-6, 64))
    pixels = np.concatenate([near, [float(np.float32(value))]])[None, :, None]
    path = write_gdal(tmp_path / "a.tif", pixels.astype(dtype), nodata=value)
    found = read_cut(path, window=(0.0, 1.0))[..., 1]
    np.testing.assert_array_equal(found, gdal_mask(path))
    assert 0 < (found == 0).sum() < 64


def test_floats_of_16_bits_are_not_merged() -> None:
    values = MissingValues.of_value(0.5, np.dtype(np.float16))
    assert values is not None
    samples = np.array([0.5, np.nextafter(np.float16(0.5), np.float16(1))], np.float16)
    assert values.find(samples).tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "missing"),
    [("nan", "nan"), ("-nan", "nan"), ("1.#QNAN", "nan"), ("-1.#IND", "nan"), ("1.#INF", "inf")],
)
def test_texts_of_gdals_tag(tmp_path: Path, text: str, missing: str) -> None:
    pixels = np.array([[1, 2, np.nan, np.inf]], np.float32)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, extratags=[(42113, "s", 0, text, True)], metadata=None)
    found = read_cut(path, window=(0.0, 1.0))
    assert found[0, :, 1].tolist() == [255, 255, 0, 255 if missing == "nan" else 0]


def test_a_tag_that_is_no_number_is_ignored_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tag = (42113, "s", 0, "none\n7", True)
    tifffile.imwrite(path, noise(9, 9), extratags=[tag], metadata=None)
    assert read_cut(path).shape[2] == 1
    assert notes_of(path) == r"GDAL_NODATA 'none\n7' is no number: ignored"


def test_gdal_reads_the_same_samples(tmp_path: Path) -> None:
    pixels = noise(21, 33, 8)
    path = write_gdal(tmp_path / "a.tif", pixels, interleave="band")
    np.testing.assert_array_equal(read_cut(path, bands="4,3,2"), gdal_bands(path, 4, 3, 2))


@pytest.fixture
def without_imagecodecs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in which imagecodecs is not installed."""
    monkeypatch.setitem(sys.modules, "imagecodecs", None)


@pytest.mark.usefixtures("without_imagecodecs")
@pytest.mark.parametrize("bands", [1, 3])
def test_compressed_images_without_imagecodecs(tmp_path: Path, bands: int) -> None:
    pixels, valid = noise(45, 61, bands), holes(45, 61)
    pixels[~valid] = 9
    kind = {"photometric": "rgb"} if bands == 3 else {}
    path = write_gdal(tmp_path / "a.tif", pixels, nodata=9, compress="deflate", **kind)
    found = read_cut(path)
    np.testing.assert_array_equal(found[..., -1], gdal_mask(path))
    shown = gdal_mask(path) > 0
    np.testing.assert_array_equal(found[shown][:, :-1], pixels[shown])
    first = read_cut(path, bands="1", nodata="none")
    np.testing.assert_array_equal(first, pixels[..., :1])
    plain = write_gdal(tmp_path / "b.tif", pixels, compress="deflate", **kind)
    tifffile.imwrite(f"{plain}.msk", valid.astype(np.uint8) * 255, **IS_MASK)
    np.testing.assert_array_equal(read_cut(plain)[..., -1], gdal_mask(plain))


@pytest.mark.usefixtures("without_imagecodecs")
def test_what_needs_imagecodecs_is_refused(tmp_path: Path) -> None:
    pixels = noise(45, 61, 1, dtype=np.uint16)
    path = write_gdal(tmp_path / "a.tif", pixels, nodata=9, compress="lzw")
    with pytest.raises(OptionError, match=r"nodata: not possible .* pip install fasttile\[tiff\]"):
        read_cut(path)
    read_cut(path, nodata="none")
    masked = write_gdal(tmp_path / "b.tif", noise(45, 61, 1), compress="lzw")
    mask = holes(45, 61).astype(np.uint8) * 255
    tifffile.imwrite(f"{masked}.msk", mask, compression="zlib", **IS_MASK)
    np.testing.assert_array_equal(read_cut(masked)[..., -1], gdal_mask(masked))
    tifffile.imwrite(f"{masked}.msk", mask, compression="lzw", **IS_MASK)
    with pytest.raises(SourceError, match="its mask cannot be decoded: pip install"):
        read_cut(masked)
    assert read_cut(masked, nodata="none").shape[2] == 1
    many = write_gdal(tmp_path / "c.tif", noise(45, 61, 6), compress="lzw")
    with pytest.raises(OptionError, match="bands: not possible"):
        read_cut(many, bands="4,3,2")
