"""HEIF (HEIC) by pillow-heif: pixels, orientation, colours, limits; and without it, its name."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

import fasttile
from fasttile.errors import SourceError
from fasttile.formats.icc import BT709, grey_profile, rgb_profile
from fasttile.sources import open_source
from support.reading import read_pixels

pillow_heif = pytest.importorskip("pillow_heif")

HEIGHT, WIDTH = 40, 64


def photograph(bands: int = 3) -> np.ndarray:
    """Smooth colours, different in each corner."""
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [4 * across, 6 * down, 255 - 2 * across - 2 * down, 100 + down + across]
    return np.dstack(planes).astype(np.uint8)[..., :bands]


def encode(pixels: np.ndarray, exif: bytes = b"", **options: Any) -> bytes:
    """A HEIC without loss but that of YCbCr."""
    file = pillow_heif.from_pillow(Image.fromarray(pixels))
    if exif:
        file.info["exif"] = exif
    stream = io.BytesIO()
    file.save(stream, quality=-1, chroma=444, **options)
    return stream.getvalue()


@pytest.mark.parametrize("bands", [3, 4])
def test_pixels_and_alpha(bands: int) -> None:
    pixels = read_pixels(encode(photograph(bands)))
    assert np.abs(pixels.astype(int) - photograph(bands)).max() <= 2
    with open_source(encode(photograph(bands))) as source:
        assert source.metadata.format == "HEIF"
        assert source.metadata.notes == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(photograph())
    method = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)
    expected = np.asarray(image if method is None else image.transpose(method)).astype(int)
    pixels = read_pixels(encode(photograph(), exif.tobytes()))
    assert np.abs(pixels - expected).max() <= 2


def test_display_p3_by_its_code_points_is_converted(tmp_path: Path) -> None:
    stored = photograph() // 2 + 60  # within the gamut of both
    content = encode(stored, color_primaries=12, transfer_characteristics=13)
    with open_source(content) as source:
        profile = source.metadata.icc_profile
    assert profile is not None
    (tmp_path / "a.heic").write_bytes(content)
    report = fasttile.cut(tmp_path / "a.heic", tmp_path / "a.dzi", format="png")
    assert report.notes == (
        "converted from H.273 primaries 12, transfer characteristics 13 to sRGB",
    )
    found = np.asarray(Image.open(tmp_path / "a_files" / "6" / "0_0.png")).astype(int)
    # Display P3 to sRGB: the matrices of CSS Color 4, section 10.
    decoded = np.asarray(pillow_heif.open_heif(io.BytesIO(content)))
    assert np.abs(decoded.astype(int) - stored).max() <= 4  # of chroma
    light = decoded / 255.0
    light = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
    to_srgb = np.array(
        [
            [1.2249401762, -0.2249401762, 0],
            [-0.0420569547, 1.0420569547, 0],
            [-0.0196375546, -0.0786360456, 1.0982736002],
        ]
    )
    linear = np.clip(light @ to_srgb.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(found - 255 * srgb).max() < 1.5
    assert np.abs(found - decoded.astype(int)).max() > 8


@pytest.mark.parametrize(("curve", "name"), [(16, r"HDR \(PQ\)"), (18, r"HDR \(HLG\)")])
def test_hdr_is_refused(curve: int, name: str) -> None:
    content = encode(photograph(), color_primaries=9, transfer_characteristics=curve)
    with pytest.raises(SourceError, match=f"colours are {name}, which are not read; export"):
        open_source(content)


def test_an_icc_profile_comes_first() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file = pillow_heif.from_pillow(Image.fromarray(photograph()))
    file.info["icc_profile"] = profile
    stream = io.BytesIO()
    file.save(stream)
    with open_source(stream.getvalue()) as source:
        assert source.metadata.icc_profile == profile


def test_pages_and_the_primary_image() -> None:
    file = pillow_heif.from_pillow(Image.fromarray(photograph()))
    file.add_from_pillow(Image.fromarray(photograph()[:20]))
    stream = io.BytesIO()
    file.save(stream, primary_index=1)
    for page, height in ((None, 20), (1, 40), (2, 20)):
        options = fasttile.ReadOptions(page=page)
        with open_source(stream.getvalue(), read_options=options) as source:
            assert source.height == height
            assert (source.metadata.page, source.metadata.pages) == (page or 2, 2)


def test_damage_and_limits() -> None:
    content = encode(photograph())
    with pytest.raises(SourceError, match="the limit"):
        open_source(content, read_options=fasttile.ReadOptions(max_pixels=100))
    for end in (30, 200, len(content) - 60):
        with pytest.raises(SourceError, match="broken HEIF"):
            read_pixels(content[:end])


def test_profiles_that_are_made_are_those_of_littlecms() -> None:
    colours = Image.fromarray(photograph())
    made = ImageCms.ImageCmsProfile(io.BytesIO(rgb_profile("sRGB", BT709, "srgb")))
    srgb = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(colours, made, srgb)
    assert converted is not None
    assert np.abs(np.asarray(converted).astype(int) - photograph()).max() <= 1
    assert ImageCms.getProfileDescription(made).strip() == "sRGB"
    grey = ImageCms.ImageCmsProfile(io.BytesIO(grey_profile("linear grey", "linear")))
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    shown = ImageCms.profileToProfile(ramp, grey, srgb, outputMode="RGB")
    assert shown is not None
    assert np.asarray(shown)[0, [0, 55, 128, 255], 1].tolist() == [0, 128, 188, 255]
    for wrong in (BT709[:3], ((0.3, 0.3),) * 4, ((0.3, 0),) * 4, ((1e30, 1e-3),) * 4):
        with pytest.raises(ValueError, match=r"colours|one line"):
            rgb_profile("wrong", wrong, "linear")
