"""Complete cuts in colour: tiles have the colours that LittleCMS computes."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

import fasttile
import profiles

SIDE = 300

ZLIB_BOMB = zlib.compress(bytes(2 * 10**8), 9)
"""What becomes more than may be held, and far more than belongs beside an image."""


def _make_colours(mode: str) -> Image.Image:
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    bands = [x * 255 // SIDE, y * 255 // SIDE, (x * y) % 256, (x + y) // 8]
    pixels = np.stack(bands[: len(mode)], -1).astype(np.uint8)
    if mode == "L":
        return Image.fromarray(pixels[..., 0])
    return Image.frombytes(mode, (SIDE, SIDE), pixels.tobytes())


def _by_littlecms(image: Image.Image, profile: bytes) -> Image.Image:
    return ImageCms.profileToProfile(  # type: ignore[return-value]
        image,
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB" if image.mode == "CMYK" else image.mode,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )


def _read_tile(folder: Path, name: str, ending: str = "png", level: int = 9) -> Image.Image:
    image = Image.open(folder / f"{name}_files" / str(level) / f"0_0.{ending}")
    image.load()
    return image


def _cut_image(path: Path, **options: Any) -> fasttile.CutReport:
    target = path.with_name("out.dzi")
    return fasttile.cut(path, target, tile_size=512, overwrite=True, **options)


@pytest.mark.parametrize(
    ("kind", "mode", "profile"),
    [
        ("PNG", "RGB", profiles.display_p3()),
        ("PNG", "RGBA", profiles.adobe_rgb()),
        ("JPEG", "RGB", profiles.display_p3()),
        ("TIFF", "RGB", profiles.display_p3()),
        ("WEBP", "RGB", profiles.adobe_rgb()),
        ("JPEG", "CMYK", profiles.cmyk()),
        ("TIFF", "CMYK", profiles.cmyk()),
    ],
)
def test_tiles_are_what_littlecms_makes_of_it(
    tmp_path: Path, kind: str, mode: str, profile: bytes
) -> None:
    path = tmp_path / "image"
    _make_colours(mode).save(path, kind, icc_profile=profile)
    report = _cut_image(path, format="png")
    assert any("to sRGB" in note for note in report.notes)
    with Image.open(path) as stored:
        expected = _by_littlecms(stored, profile)
        tile = _read_tile(tmp_path, "out")
        np.testing.assert_array_equal(np.asarray(tile), np.asarray(expected))
        assert "icc_profile" not in tile.info
        tiles = dict(fasttile.iter_tiles(path, tile_size=512))
        np.testing.assert_array_equal(tiles[fasttile.Tile(9, 0, 0)], np.asarray(expected))


def test_a_profile_is_kept_or_dropped(tmp_path: Path) -> None:
    path = tmp_path / "image"
    image = _make_colours("RGB")
    image.save(path, "PNG", icc_profile=profiles.display_p3())
    for icc, embedded in (("keep", profiles.display_p3()), ("drop", None)):
        for name, ending in (("png", "png"), ("jpeg", "jpg"), ("webp:lossless", "webp")):
            _cut_image(path, format=name, icc=icc)
            tile = _read_tile(tmp_path, "out", ending)
            assert tile.info.get("icc_profile") == embedded
            if ending != "jpg":
                np.testing.assert_array_equal(np.asarray(tile), np.asarray(image))


def test_srgb_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "image"
    image = _make_colours("RGB")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(path, "PNG", icc_profile=profile)
    assert _cut_image(path, format="png").notes == ()
    np.testing.assert_array_equal(np.asarray(_read_tile(tmp_path, "out")), np.asarray(image))


def test_tiles_say_the_resolution_of_their_level(tmp_path: Path) -> None:
    path = tmp_path / "image"
    _make_colours("RGB").save(path, "JPEG", dpi=(600, 600))
    for name, ending in (("png", "png"), ("jpeg", "jpg")):
        _cut_image(path, format=name)
        for level, dpi in ((9, 600), (8, 300), (7, 150)):
            assert _read_tile(tmp_path, "out", ending, level).info["dpi"] == pytest.approx(
                (dpi, dpi), abs=0.6
            )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(
    "bomb",
    [
        _chunk(b"iCCP", b"bomb\0\0" + ZLIB_BOMB),
        _chunk(b"zTXt", b"bomb\0\0" + ZLIB_BOMB),
        _chunk(b"iTXt", b"bomb\0\1\0\0\0" + ZLIB_BOMB),
        900 * _chunk(b"zTXt", b"b\0\0" + zlib.compress(bytes(10**6), 9)),
    ],
    ids=["profile", "text", "international text", "many texts"],
)
def test_bombs_beside_the_pixels_of_a_png(tmp_path: Path, bomb: bytes) -> None:
    path = tmp_path / "image"
    stream = io.BytesIO()
    _make_colours("RGB").save(stream, "PNG")
    data = stream.getvalue()
    path.write_bytes(data[:33] + bomb + data[33:])
    tracemalloc.start()
    try:
        _cut_image(path)
    except fasttile.FasttileError as error:
        message = str(error)
        assert str(path) in message
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 150 * 2**20
