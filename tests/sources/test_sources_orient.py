"""EXIF's eight orientations, for each kind of source, against Pillow's exif_transpose."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from fasttile.geometry import Region
from fasttile.sources import open_source
from fasttile.sources import transforms as orient
from fasttile.sources.transforms import orient_pixels
from support.reading import noise, read_checked, read_pixels

ORIENTATIONS = range(1, 9)


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _expected(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_what_pillow_opens(tmp_path: Path, kind: str, orientation: int) -> None:
    path = tmp_path / "image"
    options = {"TIFF": {"compression": "tiff_lzw"}}.get(kind, {})
    image = Image.fromarray(noise(70, 301, 3))
    image.save(path, kind, exif=_exif(orientation), **options)
    expected = _expected(path)
    np.testing.assert_array_equal(read_pixels(path), expected)
    for region in (Region(3, 5, 20, 31), Region(0, 0, 1, 1), Region(68, 69, 2, 1)):
        cut = expected[region.y : region.bottom, region.x : region.right]
        np.testing.assert_array_equal(read_pixels(path, region=region), cut)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("shape", [(70, 301, 3), (301, 70), (33, 40, 4)])
@pytest.mark.parametrize("layout", [{}, {"tile": (16, 32)}, {"compression": "zlib"}])
def test_tiffs(
    tmp_path: Path, shape: tuple[int, ...], layout: dict[str, Any], orientation: int
) -> None:
    if "compression" in layout:
        pytest.importorskip("imagecodecs")
    path = tmp_path / "image.tif"
    array = noise(*shape)
    photometric = "rgb" if len(shape) == 3 else "minisblack"
    extra = {"extrasamples": ["unassalpha"]} if shape[-1] == 4 else {}
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(path, array, photometric=photometric, extratags=[tag], **extra, **layout)
    expected = orient_pixels(array.reshape(*shape[:2], -1), orientation)
    with open_source(path) as source:
        assert source.metadata.orientation == orientation
        notes = [f"turned as its orientation {orientation} says"] if orientation > 1 else []
        assert list(source.metadata.notes) == notes
        np.testing.assert_array_equal(read_checked(source), expected)
    region = Region(7, 9, 20, 11)
    np.testing.assert_array_equal(read_pixels(path, region=region), expected[9:20, 7:27])


def test_an_image_that_is_only_mirrored_is_streamed(tmp_path: Path) -> None:
    path = tmp_path / "image"
    Image.fromarray(noise(70, 60, 3)).save(path, "JPEG", exif=_exif(2))
    with open_source(path) as source:
        assert not source.random_access
        assert source.metadata.read_mode.startswith("streamed")
    Image.fromarray(noise(70, 60, 3)).save(path, "JPEG", exif=_exif(6))
    with open_source(path) as source:
        assert source.random_access
        assert source.memory_bytes >= 70 * 60 * 3


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_a_number_that_is_no_orientation_turns_nothing(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "image"
    array = noise(70, 60, 3)
    Image.fromarray(array).save(path, "PNG", exif=_exif(orientation))
    np.testing.assert_array_equal(read_pixels(path), array)


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"II*\0\xff\xff\xff\xff", b"\xff" * 40])
def test_broken_exif_turns_nothing(tmp_path: Path, exif: bytes) -> None:
    path = tmp_path / "image"
    array = noise(70, 60, 3)
    Image.fromarray(array).save(path, "PNG", exif=exif)
    np.testing.assert_array_equal(read_pixels(path), array)
    Image.fromarray(array).save(path, "JPEG", exif=exif)
    assert read_pixels(path).shape == array.shape


@pytest.mark.parametrize("orientation", [1, 6])
def test_exif_behind_the_pixels_of_a_png(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "image"
    array = noise(70, 60, 3)
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    chunk = b"eXIf" + _exif(orientation).tobytes()[6:]
    behind = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data = stream.getvalue()
    path.write_bytes(data[:-12] + behind + data[-12:])
    np.testing.assert_array_equal(read_pixels(path), orient_pixels(array, orientation))
    path.write_bytes(data[:-12] + behind[:-1] + b"x" + data[-12:])  # with a wrong checksum
    np.testing.assert_array_equal(read_pixels(path), array)


def test_an_image_of_the_caller_is_taken_as_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "image"
    Image.fromarray(noise(70, 60, 3)).save(path, "PNG", exif=_exif(6))
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_pixels(image), noise(70, 60, 3))


def test_a_region_gathers_no_more_than_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms: list[int] = []
    real = orient.PixelBuffer

    def counted(size: int, name: str) -> Any:
        rooms.append(size)
        return real(size, name)

    monkeypatch.setattr(orient, "PixelBuffer", counted)
    path = tmp_path / "image"
    Image.fromarray(noise(70, 60, 3)).save(path, "PNG", exif=_exif(8))
    with open_source(path, region=Region(10, 20, 30, 5)) as source:
        assert not rooms
        expected = orient_pixels(noise(70, 60, 3), 8)[20:25, 10:40]
        np.testing.assert_array_equal(read_checked(source), expected)
    assert rooms == [30 * 5 * 3]
