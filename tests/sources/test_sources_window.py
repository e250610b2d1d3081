"""The window, 16-bit tiles and regions: each value against exact arithmetic."""

from __future__ import annotations

import io
import warnings
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from fasttile.errors import OptionError
from fasttile.geometry import Region
from fasttile.sources import open_source
from fasttile.sources.conversions import ramp
from support.reading import build_tiff, noise, read_checked, read_pixels, to_8_bit

ALL_16 = np.arange(65536, dtype=np.uint16).reshape(256, 256)
ALL_8 = np.arange(256, dtype=np.uint8).reshape(16, 16)


def _exact_window(value: int, low: float, high: float, top: int) -> int:
    share = Fraction(value) - Fraction(low)
    level = floor(share * top / (Fraction(high) - Fraction(low)) + Fraction(1, 2))
    return min(max(level, 0), top)


def test_the_full_window_of_16_bits() -> None:
    expected = (ALL_16.astype(np.int64) * 255 + 32767) // 65535
    np.testing.assert_array_equal(read_pixels(ALL_16)[..., 0], expected)
    np.testing.assert_array_equal(read_pixels(ALL_16, window=(0, 65535))[..., 0], expected)


@pytest.mark.parametrize("window", [(0, 510), (100, 4095), (-500, 70000), (0.5, 1.5), (82, 83)])
@pytest.mark.parametrize("array", [ALL_8, ALL_16])
def test_windows_against_fractions(array: Any, window: tuple[float, float]) -> None:
    for bits in (8, 16) if array is ALL_16 else (8,):
        got = read_pixels(array, window=window, bits=bits).ravel()
        values = range(0, array.size, 1 if array is ALL_8 else 41)
        assert got[values].tolist() == [_exact_window(v, *window, 2**bits - 1) for v in values]


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.tuples(finite, finite).filter(lambda w: w[0] < w[1]), st.sampled_from([np.uint8, np.uint16])
)
def test_any_window_gives_the_exact_ramp(window: tuple[float, float], dtype: Any) -> None:
    top = int(np.iinfo(dtype).max)
    expected = [_exact_window(value, *window, top) for value in range(256)]
    assert ramp(*window, 256, np.dtype(dtype)).tolist() == expected


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_alpha_is_never_windowed(bands: int, dtype: Any) -> None:
    array = noise(20, 30, bands, dtype=dtype)
    low, high = (10, 99) if dtype == np.uint8 else (10_000, 30_000)
    got = read_pixels(array, window=(low, high))
    colours = bands - (bands in (2, 4))
    values = (array[..., :colours].astype(np.int64) - low) * 255
    span = high - low
    expected = np.clip((2 * values + span) // (2 * span), 0, 255)
    np.testing.assert_array_equal(got[..., :colours], expected)
    np.testing.assert_array_equal(got[..., colours:], to_8_bit(array[..., colours:]))


@pytest.mark.parametrize(
    "window",
    [
        (5, 5),
        (6, 5),
        (np.nan, 5),
        (0, np.inf),
        (1,),
        (1, 2, 3),
        "all",
        None,
        ("1", "2"),
    ],
)
def test_windows_that_are_none_are_refused(window: Any) -> None:
    with pytest.raises(OptionError, match=r"window .*; expected 'auto', 'full', or two"):
        open_source(ALL_8, window=window)


@pytest.mark.parametrize("bits", [0, 1, 12, "8", None])
def test_other_bits_are_refused(bits: Any) -> None:
    with pytest.raises(OptionError, match="expected 8 or 16"):
        open_source(ALL_8, bits=bits)


@pytest.mark.parametrize("array", [ALL_8, noise(4, 4, 3, dtype="u2"), noise(4, 4, 2, dtype="u2")])
def test_16_bit_tiles_are_for_16_bit_grey(array: Any) -> None:
    with pytest.raises(OptionError, match="16-bit grey images, the only ones"):
        open_source(array, bits=16)


def test_16_bit_grey_stays_in_place() -> None:
    with open_source(ALL_16, bits=16) as source:
        assert np.shares_memory(source.rows(0, 9), ALL_16)


def _make_images(folder: Path) -> dict[str, tuple[Any, bool]]:
    """Each kind of source, and whether it gives views."""
    array = noise(40, 50, 3)
    planes = np.ascontiguousarray(array.transpose(2, 0, 1))
    np.save(folder / "a.npy", array)
    Image.fromarray(array).save(folder / "a.bmp")
    Image.fromarray(array).save(folder / "a.png")
    tifffile.imwrite(folder / "strips.tif", array, photometric="rgb")
    tifffile.imwrite(folder / "tiles.tif", array, photometric="rgb", tile=(16, 32))
    tifffile.imwrite(folder / "planes.tif", planes, photometric="rgb", planarconfig="separate")
    mapped = ("a.npy", "strips.tif")
    files = {path.name: (path, path.name in mapped) for path in folder.iterdir()}
    return {**files, "array": (array, True), "mirrored": (array[:, ::-1].copy()[:, ::-1], False)}


def test_regions_of_each_kind_of_source(tmp_path: Path) -> None:
    array = noise(40, 50, 3)
    regions = [Region(0, 0, 50, 40), Region(0, 0, 1, 1), Region(49, 39, 1, 1)]
    regions += [Region(5, 7, 40, 20), Region(31, 15, 2, 2), Region(32, 16, 18, 24)]
    for name, (image, mapped) in _make_images(tmp_path).items():
        for region in regions:
            expected = array[region.y : region.bottom, region.x : region.right]
            got = read_pixels(image, region=region)
            np.testing.assert_array_equal(got, expected, f"{name} {region}")
            with open_source(image, region=region) as source:
                assert source.is_mapped == mapped, name
                assert (source.width, source.height) == (region.width, region.height)


def test_a_region_of_an_array_shares_its_memory() -> None:
    array = noise(40, 50, 3)
    with open_source(array, region=Region(5, 6, 7, 8)) as source:
        assert np.shares_memory(source.rows(0, 8), array[6:14, 5:12])


@pytest.mark.parametrize(
    "region", [(0, 0, 17, 1), (0, 0, 1, 17), (16, 0, 1, 1), (-1, 0, 4, 4), (0, -1, 4, 4)]
)
def test_regions_beyond_the_image_are_refused(region: tuple[int, int, int, int]) -> None:
    with pytest.raises(OptionError, match="is not within array, which has 16×16") as caught:
        open_source(ALL_8, region=Region(*region))
    assert str(region) in str(caught.value)


@pytest.mark.parametrize("region", [(0, 0, 0, 1), (0, 0, 1, 0), (0, 0, -1, 4)])
def test_empty_regions_are_refused(region: tuple[int, int, int, int]) -> None:
    with pytest.raises(OptionError, match="is empty"):
        open_source(ALL_8, region=Region(*region))


def test_a_region_and_a_window_together() -> None:
    array = noise(30, 20, 3, dtype=">u2")
    full = read_pixels(array, window=(100, 50000))
    got = read_pixels(array, window=(100, 50000), region=Region(3, 4, 5, 6))
    np.testing.assert_array_equal(got, full[4:10, 3:8])


# The window that is chosen by a look at the values.


@pytest.mark.parametrize(
    ("values", "window"),
    [
        (np.linspace(0, 4000, 900).astype("u2"), (0, 4095)),
        (np.linspace(0, 255, 900).astype("u2"), (0, 255)),
        (np.linspace(3, 1000, 900).astype("u2"), (0, 1023)),
        (np.linspace(0, 16000, 900).astype("u2"), (0, 16383)),
        (np.linspace(0, 60000, 900).astype("u2"), (0, 65535)),
        (np.linspace(0, 3000, 900).astype("i4"), (0, 4095)),
        (np.linspace(0, 0.9, 900).astype("f4"), (0, 1)),
        (np.arange(900).astype("u2") % 4, (0, 3)),
        (np.where(np.arange(900) % 2, -40.0, 700.0), (-40, 700)),
        (np.where(np.arange(900) % 2, np.nan, 700.0), (0, 700)),
        (np.zeros(900), (0, 1)),
        (np.where(np.arange(900) % 3, -3.4e38, np.arange(900) % 2 * 9e3), (0, 9000)),
        (np.full(900, np.inf), (0, 1)),
        (np.full(900, -5, "i2"), (-5, 0)),
    ],
)
def test_no_image_turns_black(values: Any, window: tuple[float, float]) -> None:
    image = values.reshape(30, 30)
    expected = read_pixels(image, window=window)
    with open_source(image) as source:
        assert any(note.startswith("window ") for note in source.metadata.notes)
        np.testing.assert_array_equal(read_checked(source), expected)
        seen = np.isfinite(values) & (np.abs(values) < 1e30)
        assert not seen.any() or expected.max() > 60 or values.max() <= 0


def test_8_bit_images_and_16_bit_tiles_are_not_looked_at() -> None:
    for image, options in ((ALL_8 // 8, {}), (ALL_16 // 8, {"bits": 16})):
        with open_source(image, **options) as source:
            assert source.metadata.notes == ()
            np.testing.assert_array_equal(read_checked(source)[..., 0], image)


def test_alpha_is_not_looked_at() -> None:
    image = np.zeros((20, 20, 2), np.uint16)
    image[..., 0] = np.arange(400).reshape(20, 20)
    image[..., 1] = 65535
    got = read_pixels(image, window="auto")
    assert (got[..., 1] == 255).all()
    assert got[..., 0].max() > 90


def test_a_stream_is_looked_at_by_a_second_opening(tmp_path: Path) -> None:
    values = (np.arange(120 * 90).reshape(120, 90) % 4000).astype(np.uint16)
    path = tmp_path / "image"
    Image.fromarray(values).save(path, "PNG")
    with open_source(path) as source:
        assert source.metadata.notes == ("window 0,4095: the values reach 3999",)
        np.testing.assert_array_equal(read_checked(source), read_pixels(values, window=(0, 4095)))


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "u4", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("window", [(-100, 100), (0, 1), (3.5, 90)])
def test_windows_of_any_numbers(dtype: str, window: tuple[float, float]) -> None:
    values = np.arange(-120, 120).astype(dtype).reshape(12, 20)
    if np.dtype(dtype).kind == "u":
        values = np.abs(np.arange(-120, 120)).astype(dtype).reshape(12, 20)
    for bits in (8, 16) if values.itemsize > 1 else (8,):
        got = read_pixels(values, window=window, bits=bits).ravel().tolist()
        wanted = [_exact_window(int(v), *window, 2**bits - 1) for v in values.ravel()]
        differences = [abs(a - b) for a, b in zip(got, wanted, strict=True)]
        assert max(differences) <= 1  # a half may fall to either side of a float
        assert sum(differences) <= 4


def test_the_full_window_of_floats_is_0_to_1() -> None:
    values = np.array([[-1, 0, 0.25, 0.5, 1, 2, np.nan, np.inf, -np.inf]])
    assert read_pixels(values).ravel().tolist() == [0, 0, 64, 128, 255, 255, 0, 255, 0]


def test_the_window_of_float16_without_a_warning() -> None:
    values = np.array([[0, 40, 1000, np.nan], [np.inf, -np.inf, 65504, 3]], np.float16)
    for finite in (values, values[:, :3]):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            got = read_pixels(finite)
        np.testing.assert_array_equal(got, read_pixels(finite.astype(np.float32)))


# The full range holds where values have a meaning.

SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _tiff(pixels: Any, profile: bytes | None, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, iccprofile=profile, metadata=None, **options)
    return file.getvalue()


@pytest.mark.parametrize("profile", [SRGB_PROFILE, None], ids=["profile", "no profile"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("top", [300, 4095, 12000, 65535])
def test_dark_photographs_stay_dark(
    profile: bytes | None, compression: str | None, top: int
) -> None:
    """16-bit RGB: as in 8 bits, and as colour management has it."""
    pixels = (noise(60, 80, 3, dtype=np.uint16) // (65536 // (top + 1))).astype(np.uint16)
    data = _tiff(pixels, profile, photometric="rgb", compression=compression)
    got = read_pixels(data, window="auto")
    np.testing.assert_array_equal(got, read_pixels(data, window="full"))
    np.testing.assert_array_equal(got, read_pixels(pixels, window=(0, 65535)))
    assert abs(int(got.max()) - pixels.max() / 257) <= 0.5


def test_stars_in_a_black_sky() -> None:
    """A few values that a sample does not meet."""
    pixels = np.full((900, 900, 3), 600, np.uint16)
    pixels[5::300, 7::300] = 65535
    got = read_pixels(_tiff(pixels, SRGB_PROFILE, photometric="rgb"), window="auto")
    assert sorted(np.unique(got).tolist()) == [2, 255]


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_samples_of_10_to_14_bits_use_their_range(bits: int) -> None:
    """The file says how many bits are used, for RGB too."""
    pixels = (noise(40, 64, 3, dtype=np.uint16) >> (16 - bits)) // 4
    got = read_pixels(_packed_tiff(pixels, bits), window="auto")
    np.testing.assert_array_equal(got, read_pixels(pixels, window=(0, 2**bits - 1)))


def _packed_tiff(pixels: Any, bits: int) -> bytes:
    """An uncompressed RGB TIFF of samples with this many bits, rows padded to bytes."""
    height, width, bands = pixels.shape
    places = np.arange(bits - 1, -1, -1)
    packed = (pixels.reshape(height, -1, 1) >> places) & 1
    rows = np.packbits(packed.reshape(height, -1).astype(np.uint8), axis=1)
    tags = {256: (width,), 257: (height,), 258: (bits,) * bands, 259: (1,), 262: (2,)}
    return build_tiff([rows.tobytes()], {**tags, 277: (bands,), 278: (height,)})


@pytest.mark.parametrize("window", ["auto", "full"])
def test_pale_cmyk_scans_stay_pale(window: Any) -> None:
    pixels = np.zeros((40, 50, 4), np.uint16)
    pixels[..., :3] = noise(40, 50, 3, dtype=np.uint16) // 40
    got = read_pixels(_tiff(pixels, None, photometric="separated"), window=window)
    assert got.mean() > 245


def test_grey_with_a_profile_is_not_looked_at() -> None:
    pixels = noise(60, 80, dtype=np.uint16) // 20
    grey = _tiff(pixels, SRGB_PROFILE, photometric="minisblack")
    np.testing.assert_array_equal(
        read_pixels(grey, window="auto"), read_pixels(pixels, window="full")
    )
    plain = _tiff(pixels, None, photometric="minisblack")
    np.testing.assert_array_equal(
        read_pixels(plain, window="auto"), read_pixels(pixels, window=(0, 4095))
    )


def test_floats_with_a_profile_keep_0_to_1() -> None:
    dark = (noise(60, 80, 3) / 255 / 10).astype(np.float32)
    data = _tiff(dark, SRGB_PROFILE, photometric="rgb")
    np.testing.assert_array_equal(
        read_pixels(data, window="auto"), read_pixels(dark, window=(0, 1))
    )
    large = (noise(60, 80, 3) * 9.0).astype(np.float32)
    data = _tiff(large, SRGB_PROFILE, photometric="rgb")
    assert read_pixels(data, window="auto").std() > 50, "a range beyond 1 is looked at"
