"""Thumbnails: an image's own small levels, for all kinds of tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

import fasttile
from fasttile.collection import thumbnails
from fasttile.collection.thumbnails import Thumbnails
from fasttile.errors import SourceError
from support import reference
from support.collection_files import WHITE, Array, pixels_at_level


def noise(width: int, height: int, bands: int = 3, dtype: Any = np.uint8) -> Array:
    top = np.iinfo(dtype).max
    seed = width * 1000 + height * 10 + bands
    return np.random.default_rng(seed).integers(0, top, (height, width, bands), dtype, True)


def cut_pixels(pixels: Array, path: Path, **options: Any) -> Path:
    fasttile.cut(pixels, path, overwrite=True, threads=1, **{"format": "png", **options})
    return path


def thumbnail_at(path: Path, level: int, background: Any = WHITE) -> Array:
    return Thumbnails(path, background).level_image(level)


def test_every_level_of_every_small_image(tmp_path: Path) -> None:
    for width, height in [(1, 1), (2, 1), (1, 7), (8, 8), (9, 5), (17, 16), (3, 33)]:
        pixels = noise(width, height)
        path = cut_pixels(pixels, tmp_path / "x.dzi")
        opened = Thumbnails(path, WHITE)
        assert (opened.width, opened.height) == (width, height)
        for level in range(8):
            found = opened.level_image(level)
            assert np.array_equal(found, pixels_at_level(pixels, level))
            assert max(found.shape) <= 2**level or level < 2


@pytest.mark.parametrize("tile_size", [1, 2, 3, 5, 16, 31])
def test_levels_of_many_tiles_are_put_together(tmp_path: Path, tile_size: int) -> None:
    for overlap in {0, 1, tile_size - 1} - {tile_size}:
        for width, height in [(16, 16), (19, 6), (31, 33)]:
            pixels = noise(width, height)
            path = cut_pixels(pixels, tmp_path / "x.dzi", tile_size=tile_size, overlap=overlap)
            for level in range(7):
                assert np.array_equal(thumbnail_at(path, level), pixels_at_level(pixels, level))


@pytest.mark.parametrize("order", [1, -1])
def test_levels_that_are_missing_are_halved_from_the_smallest(tmp_path: Path, order: int) -> None:
    pixels = noise(75, 41)
    path = cut_pixels(pixels, tmp_path / "x.dzi", tile_size=16, overlap=1, levels="5-7")
    opened = Thumbnails(path, WHITE)
    for level in range(8)[::order]:
        assert np.array_equal(opened.level_image(level), pixels_at_level(pixels, level))


def test_an_image_of_large_levels_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "MAX_SOURCE_LEVEL", 5)
    path = cut_pixels(noise(75, 41), tmp_path / "x.dzi", levels="6-7")
    with pytest.raises(SourceError, match=r"x.dzi has no level smaller than 6 to make thumbnails"):
        thumbnail_at(path, 3)


def test_alpha_is_laid_on_the_background(tmp_path: Path) -> None:
    for bands in (2, 4):
        pixels = noise(20, 12, bands)
        path = cut_pixels(pixels, tmp_path / "x.dzi")
        for level in (2, 5):
            own = reference.levels(pixels)[level]
            colours = own if bands == 4 else own[..., [0, 0, 0, 1]]
            wanted = reference.composite_over(colours, (200, 10, 0))
            assert np.array_equal(thumbnail_at(path, level, (200, 10, 0)), wanted)


def test_alpha_weighs_where_levels_are_missing(tmp_path: Path) -> None:
    pixels = noise(20, 12, 4)
    path = cut_pixels(pixels, tmp_path / "x.dzi", tile_size=8, overlap=0, levels="4-5")
    wanted = reference.composite_over(reference.levels(pixels)[2], WHITE)
    assert np.array_equal(thumbnail_at(path, 2), wanted)


def test_tiles_with_and_without_alpha_in_one_image(tmp_path: Path) -> None:
    pixels = noise(16, 8)
    path = cut_pixels(pixels, tmp_path / "x.dzi", tile_size=8, overlap=0)
    alpha = np.full((8, 8, 4), 255, np.uint8)
    alpha[..., :3] = pixels[:, 8:]
    alpha[0, 0, 3] = 0
    Image.fromarray(alpha).save(tmp_path / "x_files/4/1_0.png")
    wanted = pixels.copy()
    wanted[0, 8] = WHITE
    assert np.array_equal(thumbnail_at(path, 4), wanted)


def test_grey_and_16_bits(tmp_path: Path) -> None:
    pixels = noise(9, 9, 1)
    assert np.array_equal(
        thumbnail_at(cut_pixels(pixels, tmp_path / "x.dzi"), 4), pixels.repeat(3, axis=2)
    )
    pixels = noise(9, 9, 1, np.uint16)
    path = cut_pixels(pixels, tmp_path / "y.dzi", bits=16)
    wanted = np.floor(pixels / 65535 * 255 + 0.5).astype(np.uint8).repeat(3, axis=2)
    assert np.array_equal(thumbnail_at(path, 4), wanted)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_tiles_that_carry_a_profile_are_converted(tmp_path: Path, ending: str) -> None:
    pixels = np.full((8, 8, 3), (200, 60, 30), np.uint8)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    linear = _linear_rgb()
    path = cut_pixels(pixels, tmp_path / "x.dzi")
    text = path.read_text().replace('"png"', f'"{ending}"')
    path.write_text(text)
    for profile, wanted in ((linear, (228, 132, 94)), (lab, (200, 60, 30))):
        for tile in (tmp_path / "x_files").rglob("*.png"):
            image = Image.open(tile)
            extra = {"quality": 100, "subsampling": 0} if ending == "jpg" else {}
            extra |= {"lossless": True} if ending == "webp" else {}
            image.save(tile.with_suffix(f".{ending}"), icc_profile=profile, **extra)
            tile_bytes = tile.with_suffix(f".{ending}").read_bytes()
            assert b"ICC" in tile_bytes or b"iCCP" in tile_bytes
        found = thumbnail_at(path, 3)
        assert found.shape == (8, 8, 3)
        assert np.abs(found.astype(int) - wanted).max() <= 3


def _linear_rgb() -> bytes:
    """A profile with the primaries of sRGB and a gamma of 1."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    for index in range(count):
        entry = 132 + 12 * index
        if bytes(profile[entry : entry + 4]) in (b"rTRC", b"gTRC", b"bTRC"):
            offset = int.from_bytes(profile[entry + 4 : entry + 8], "big")
            profile[offset : offset + 12] = b"curv" + bytes(8)  # no points: linear
            profile[entry + 8 : entry + 12] = (12).to_bytes(4, "big")
    return bytes(profile)


def test_images_of_programs_that_round_otherwise(tmp_path: Path) -> None:
    pixels = noise(5, 9)
    path = cut_pixels(pixels, tmp_path / "x.dzi")
    own = reference.levels(pixels)[3]  # 3×5
    Image.fromarray(own[:4, :2]).save(tmp_path / "x_files/3/0_0.png")
    wanted = own.copy()
    wanted[4] = own[3]
    wanted[:, 2] = wanted[:, 1]
    assert np.array_equal(thumbnail_at(path, 3), wanted)
    larger = np.pad(own, ((0, 1), (0, 1), (0, 0)))
    Image.fromarray(larger).save(tmp_path / "x_files/3/0_0.png")
    assert np.array_equal(thumbnail_at(path, 3), own)


def test_tiles_of_a_wrong_size(tmp_path: Path) -> None:
    path = cut_pixels(noise(5, 9), tmp_path / "x.dzi")
    Image.fromarray(noise(1, 5)).save(tmp_path / "x_files/3/0_0.png")
    with pytest.raises(SourceError, match=r"x_files/3/0_0.png has 1×5 pixels, not 3×5$"):
        thumbnail_at(path, 3)
    Image.fromarray(noise(500, 5)).save(tmp_path / "x_files/3/0_0.png")
    with pytest.raises(SourceError, match=r"x_files/3/0_0.png claims 500×5 pixels"):
        thumbnail_at(path, 3)


def test_what_is_missing_or_damaged(tmp_path: Path) -> None:
    path = cut_pixels(noise(5, 9), tmp_path / "x.dzi")
    tile = tmp_path / "x_files/3/0_0.png"
    for data in (b"", b"no image", tile.read_bytes()[:60]):
        tile.write_bytes(data)
        with pytest.raises(SourceError, match=r"x_files/3/0_0.png"):
            thumbnail_at(path, 3)
    tile.unlink()
    with pytest.raises(SourceError, match=r"x_files/3/0_0.png: no such file"):
        thumbnail_at(path, 3)
    (tmp_path / "x_files").rename(tmp_path / "y_files")
    with pytest.raises(SourceError, match=r"x.dzi: its tiles cannot be found: No such file"):
        thumbnail_at(path, 3)
    for data in (b"", b"<Image/>", b"\xff\xfe\xff"):
        path.write_bytes(data)
        with pytest.raises(SourceError, match=r"x.dzi"):
            thumbnail_at(path, 3)
    with pytest.raises(SourceError, match=r"nothing.dzi: no such file"):
        thumbnail_at(tmp_path / "nothing.dzi", 0)


def test_each_tile_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cut_pixels(noise(70, 40), tmp_path / "x.dzi", tile_size=16, levels="4-7")
    opened: list[str] = []
    plain = thumbnails.RandomAccessFile

    def open_file(place: Path) -> Any:
        opened.append(place.name)
        return plain(place)

    monkeypatch.setattr(thumbnails, "RandomAccessFile", open_file)
    found = Thumbnails(path, WHITE)
    for level in range(7, -1, -1):
        found.level_image(level)
    cols_and_rows = [(5, 3), (3, 2), (2, 1), (1, 1)]
    assert len(opened) == 1 + sum(cols * rows for cols, rows in cols_and_rows)
