"""Images of pyvips as sources: computed by strips, once if they are sequential."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ImageCms

import fasttile
from fasttile.errors import SourceError
from fasttile.sources import open_source, vips
from support.reading import noise, read_checked

pyvips = pytest.importorskip("pyvips")


@pytest.mark.parametrize("dtype", ["u1", "<u2"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_each_number_of_bands(dtype: str, bands: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vips, "STRIP_BYTES", 1)  # strips of 16 rows
    pixels = noise(90, 70, bands, dtype=dtype)
    image = pyvips.Image.new_from_array(pixels)
    with open_source(image, window="full") as source, open_source(pixels, window="full") as array:
        assert (source.width, source.height, source.bands) == (70, 90, bands)
        assert source.random_access
        np.testing.assert_array_equal(read_checked(source), read_checked(array))
    assert image.width == 70  # it stays the caller's


@pytest.mark.parametrize("strip_bytes", [1, 2**22])
@pytest.mark.parametrize("blur", [0, 5])
def test_a_sequential_image_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strip_bytes: int, blur: int
) -> None:
    monkeypatch.setattr(vips, "STRIP_BYTES", strip_bytes)
    pyvips.Image.new_from_array(noise(1300, 200, 3)).write_to_file(f"{tmp_path}/a.png")
    image = pyvips.Image.new_from_file(f"{tmp_path}/a.png", access="sequential")
    pixels = pyvips.Image.new_from_file(f"{tmp_path}/a.png", memory=True)
    if blur:
        image, pixels = image.gaussblur(blur), pixels.gaussblur(blur)
    fasttile.cut(image, tmp_path / "a.dzi", format="png")
    fasttile.cut(pixels.numpy(), tmp_path / "b.dzi", format="png")
    names = [path.relative_to(tmp_path / "a_files") for path in tmp_path.glob("a_files/*/*")]
    assert len(names) > 9
    for name in names:
        assert (tmp_path / "a_files" / name).read_bytes() == (
            tmp_path / "b_files" / name
        ).read_bytes()


def test_profile_resolution_and_ink() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = pyvips.Image.new_from_array(noise(9, 8, 3)).copy(xres=10.0, yres=20.0)
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    with open_source(image) as source:
        assert source.metadata.icc_profile == profile
        assert source.metadata.resolution == (254.0, 508.0)
        assert not source.is_cmyk
    with open_source(pyvips.Image.new_from_array(noise(9, 8, 3))) as source:
        assert (source.metadata.icc_profile, source.metadata.resolution) == (None, None)
    ink = pyvips.Image.new_from_array(noise(9, 8, 4)).copy(interpretation="cmyk")
    with open_source(ink) as source:
        assert source.metadata.format == "pyvips image"
        assert source.bands == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda image: image.colourspace("lab"), "3 bands of lab cannot be shown; convert it"),
        (lambda image: image.cast("complex"), "3 bands of complex"),
        (lambda image: image.bandjoin([1, 2, 3]), "6 bands of uchar"),
        (lambda image: image.colourspace("lab").Lab2LabQ(), r"4 bands of uchar \(coding labq\)"),
    ],
)
def test_other_images_are_refused(change: Any, message: str) -> None:
    with pytest.raises(SourceError, match=f"pyvips image: {message}"):
        open_source(change(pyvips.Image.new_from_array(noise(9, 8, 3))))


def test_an_error_of_the_pipeline_is_one_line(tmp_path: Path) -> None:
    pyvips.Image.new_from_array(noise(400, 300, 3)).write_to_file(f"{tmp_path}/a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    image = pyvips.Image.new_from_file(f"{tmp_path}/a.png", fail_on="truncated")
    with pytest.raises(SourceError, match=r"pyvips image: rows .* cannot be computed: ") as caught:
        fasttile.cut(image, tmp_path / "a.dzi")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_memory_grows_with_the_width_only(tmp_path: Path) -> None:
    image = pyvips.Image.black(500, 200_000, bands=3).copy(interpretation="srgb")  # 300 MB
    tracemalloc.start()
    try:
        with open_source(image) as source:
            for y in range(0, 60_000, source.preferred_rows):
                assert not source.rows(y, y + source.preferred_rows).any()
                assert tracemalloc.get_traced_memory()[1] < 2**20  # the strips are libvips'
        assert source.preferred_rows * 500 * 3 <= vips.STRIP_BYTES
    finally:
        tracemalloc.stop()


class ArrayLike:
    """An object of which only `__array__` is known."""

    def __init__(self, pixels: Any) -> None:
        self._pixels = pixels

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self._pixels


def test_objects_that_become_arrays() -> None:
    pixels = noise(30, 20, 3)
    with open_source(ArrayLike(pixels)) as source:
        np.testing.assert_array_equal(read_checked(source), pixels)
    with pytest.raises(SourceError, match=r"ArrayLike: shape \(5,\) is not that of an image"):
        open_source(ArrayLike(np.zeros(5, np.uint8)))
    with pytest.raises(SourceError, match="ArrayLike: it cannot be read as an array: "):
        open_source(ArrayLike("no array"))
