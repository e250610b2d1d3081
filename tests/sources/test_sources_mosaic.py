"""Mosaics from Python: their pixels, kinds, gaps, open files and errors."""

from __future__ import annotations

import io
import os
import pickle
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import fasttile
from fasttile import OptionError, Region, SourceError, mosaic
from fasttile.colour import convert_to_srgb
from fasttile.sources import open_source
from fasttile.sources.conversions import crop
from fasttile.sources.mosaic_source import MosaicSource
from profiles import adobe_rgb, srgb
from support.reading import noise, read_checked, read_pixels

Array = NDArray[Any]


def paste(width: int, height: int, fill: Any, *placed: tuple[Array, int, int]) -> Array:
    """Images pasted over each other onto one colour, by hand."""
    bands = placed[0][0].shape[2]
    canvas = np.empty((height, width, bands), placed[0][0].dtype)
    canvas[:] = fill
    for image, x, y in placed:
        for row in range(image.shape[0]):
            for col in range(image.shape[1]):
                if 0 <= y + row < height and 0 <= x + col < width:
                    canvas[y + row, x + col] = image[row, col]
    return canvas


@contextmanager
def few_handles(count: int) -> Iterator[None]:
    """A process that may open few more files."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len([*Path("/proc/self/fd").iterdir()])
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + count, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_grid_is_its_images_side_by_side() -> None:
    a, b, c, d = noise(30, 40, 3), noise(30, 20, 3), noise(10, 40, 3), noise(10, 20, 3)
    full = np.vstack([np.hstack([a, b]), np.hstack([c, d])])
    np.testing.assert_array_equal(read_pixels(mosaic([[a, b], [c, d]])), full)


def test_a_gap_is_background_and_alpha_makes_it_transparent() -> None:
    grey, alpha = noise(4, 5, 1), noise(4, 5, 2)
    white = read_pixels(mosaic([[grey, None]]))
    np.testing.assert_array_equal(white, paste(10, 4, 255, (grey, 0, 0)))
    clear = read_pixels(mosaic([[None, alpha]]))
    np.testing.assert_array_equal(clear, paste(10, 4, 0, (alpha, 5, 0)))
    red = read_pixels(mosaic([[None, np.dstack([noise(4, 5, 3), noise(4, 5)])]], background="red"))
    assert (red[:, :5] == [255, 0, 0, 255]).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(*(st.integers(*span) for span in ((1, 9), (1, 9), (-12, 12), (-12, 12)))),
        min_size=1,
        max_size=6,
    ),
    st.data(),
)
def test_places_overlaps_and_regions(boxes: list[tuple[int, int, int, int]], data: Any) -> None:
    images = [
        noise(height, width, 3) ^ number for number, (width, height, _, _) in enumerate(boxes)
    ]
    left, top = min(box[2] for box in boxes), min(box[3] for box in boxes)
    width = max(box[0] + box[2] for box in boxes) - left
    height = max(box[1] + box[3] for box in boxes) - top
    placed = [
        (image, box[2] - left, box[3] - top) for image, box in zip(images, boxes, strict=True)
    ]
    want = paste(width, height, 255, *placed)
    given_places = [(image, *box[2:]) for image, box in zip(images, boxes, strict=True)]
    with open_source(mosaic(given_places)) as source:
        np.testing.assert_array_equal(read_checked(source), want)
        x = data.draw(st.integers(0, width - 1))
        y = data.draw(st.integers(0, height - 1))
        region = Region(
            x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
        )
        part = crop(source, region).rows(0, region.height)
        np.testing.assert_array_equal(part, want[y : region.bottom, x : region.right])


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "npy", "pgm", "gif"])
def test_files_of_all_kinds(tmp_path: Path, suffix: str) -> None:
    rows = []
    for row in range(3):
        paths = []
        for col in range(2):
            path = tmp_path / f"{row}-{col}.{suffix}"
            pixels = noise(20 + row, 30 + col)
            if suffix == "npy":
                np.save(path, pixels)
            else:
                Image.fromarray(pixels).save(path, format="ppm" if suffix == "pgm" else None)
            paths.append(path)
        rows.append(paths)
    want = np.vstack([np.hstack([read_pixels(path) for path in paths]) for paths in rows])
    np.testing.assert_array_equal(read_pixels(mosaic(rows)), want)


def test_kinds_that_differ_become_rgb_with_alpha() -> None:
    grey, colour, alpha = noise(6, 7), noise(6, 8, 3), noise(6, 9, 2)
    deep = noise(6, 4, 3, dtype=np.uint16)
    got = read_pixels(mosaic([[grey, colour, alpha, deep]]))
    opaque = np.full((6, 1), 255, np.uint8)
    want = np.hstack(
        [
            np.dstack([grey] * 3 + [np.broadcast_to(opaque, (6, 7))]),
            np.dstack([colour, np.broadcast_to(opaque, (6, 8))]),
            np.dstack([alpha[..., :1]] * 3 + [alpha[..., 1:]]),
            np.dstack([read_pixels(deep), np.broadcast_to(opaque, (6, 4))]),
        ]
    )
    np.testing.assert_array_equal(got, want)


def test_deep_grey_images_share_one_window() -> None:
    dark, light = np.full((8, 8), 100, np.uint16), np.full((8, 8), 4000, np.uint16)
    with open_source(mosaic([[dark, light]])) as source:
        row = source.rows(0, 1)[0, :, 0]
        assert source.metadata.notes == ("window 0,4095: the values reach 4000",)
    assert row[0] == round(100 * 255 / 4095)
    assert row[-1] == round(4000 * 255 / 4095)
    sixteen = read_pixels(mosaic([[dark, light]]), bits=16)
    np.testing.assert_array_equal(sixteen[..., 0], np.hstack([dark, light]))


def save_with_profile(path: Path, pixels: Array, profile: bytes | None) -> Path:
    """A PNG with a profile."""
    Image.fromarray(pixels).save(path, icc_profile=profile)
    return path


def test_profiles_that_differ_are_converted_to_srgb(tmp_path: Path) -> None:
    pixels = noise(8, 9, 3)
    one = save_with_profile(tmp_path / "a.png", pixels, adobe_rgb())
    same = save_with_profile(tmp_path / "b.png", pixels, adobe_rgb())
    other = save_with_profile(tmp_path / "c.png", pixels, srgb())
    with open_source(mosaic([[one, same]])) as source:
        assert source.metadata.icc_profile == adobe_rgb()
        np.testing.assert_array_equal(source.rows(0, 8), np.hstack([pixels, pixels]))
    tiles = {}
    for path in (one, other):
        with fasttile.open_pyramid(path, format="png", overlap=0) as pyramid:
            tiles[path] = pyramid.pixels(pyramid.level_count - 1, 0, 0)
    assert (tiles[one] != tiles[other]).any()
    with fasttile.open_pyramid(mosaic([[one, other]]), format="png") as pyramid:
        got = pyramid.pixels(pyramid.level_count - 1, 0, 0)
        assert pyramid.notes == ("images of 2 kinds become RGB in sRGB",)
    np.testing.assert_array_equal(got, np.hstack([tiles[one], tiles[other]]))


def test_a_coloured_gap_is_in_srgb_beside_images_with_a_profile(tmp_path: Path) -> None:
    path = save_with_profile(tmp_path / "a.png", noise(8, 9, 3), adobe_rgb())
    with fasttile.open_pyramid(mosaic([[path, None]], background="#204080")) as pyramid:
        got = pyramid.pixels(pyramid.level_count - 1, 0, 0)
    assert (got[:, 9:] == [0x20, 0x40, 0x80]).all()


def test_cut_is_that_of_the_composed_image(tmp_path: Path) -> None:
    a, b, c = noise(300, 310, 3), noise(290, 400, 3), noise(200, 100, 3)
    want = paste(700, 600, 255, (a, 0, 10), (b, 300, 310), (c, 250, 250))
    places = [(a, 5, -90), (b, 305, 210), (c, 255, 150)]
    # The box around the images is smaller than the canvas above by ten rows.
    fasttile.cut(want[10:], tmp_path / "want.dzi", format="png")
    fasttile.cut(mosaic(places), tmp_path / "got.dzi", format="png")
    want_files = sorted((tmp_path / "want_files").rglob("*.png"))
    assert len(want_files) > 15
    for path in want_files:
        other = tmp_path / "got_files" / path.relative_to(tmp_path / "want_files")
        assert other.read_bytes() == path.read_bytes(), path
    with fasttile.open_pyramid(mosaic(places), format="png") as pyramid:
        for path in want_files:
            col, row = map(int, path.stem.split("_"))
            assert pyramid.tile(int(path.parent.name), col, row) == path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["pgm", "png"])
def test_thousands_of_images_with_few_open_files(tmp_path: Path, suffix: str) -> None:
    """A row of 120 images is more than may be open at the same time."""
    side, cols, rows = 5, 120, 2 if suffix == "png" else 9
    want = noise(side * rows, side * cols)
    grid: list[list[Path]] = [[] for _ in range(rows)]
    for row in range(rows):
        for col in range(cols):
            path = tmp_path / f"{row}-{col}.{suffix}"
            y, x = row * side, col * side
            Image.fromarray(want[y : y + side, x : x + side]).save(path)
            grid[row].append(path)
    with few_handles(40):
        np.testing.assert_array_equal(read_pixels(mosaic(grid))[..., 0], want)


def test_decoded_images_are_freed_behind_the_walk(tmp_path: Path) -> None:
    rows = []
    for number in range(8):
        path = tmp_path / f"{number}.jpg"
        Image.fromarray(noise(400, 500, 3)).save(path)
        rows.append([path])
    with open_source(mosaic(rows)) as source:
        assert not source.random_access
        assert source.memory_bytes < 2.5 * 400 * 500 * 3
        for y in range(0, source.height, 100):
            source.rows(y, y + 100)
            assert isinstance(source, MosaicSource)
            assert source.open_count <= 2


def test_missing_and_damaged_images_are_named_before_anything_is_cut(tmp_path: Path) -> None:
    good, bad, gone = tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"
    Image.fromarray(noise(8, 9)).save(good)
    bad.write_bytes(good.read_bytes()[:20])
    for path in (bad, gone):
        with pytest.raises(SourceError, match=path.name) as caught:
            fasttile.cut(mosaic([[good, path]]), tmp_path / "out.dzi")
        assert "allow_missing=True leaves a gap" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
    with open_source(mosaic([[good, gone], [bad, good]], allow_missing=True)) as source:
        want = paste(18, 16, 255, (noise(8, 9, 1), 0, 0), (noise(8, 9, 1), 9, 8))
        expected = want.copy()
        expected[:8, :9] = expected[8:, 9:] = np.asarray(Image.open(good))[..., None]
        np.testing.assert_array_equal(source.rows(0, 16), expected)
        assert source.metadata.notes == (f"2 of 4 images are missing: {gone}, {bad}",)
    with pytest.raises(SourceError, match="2 of 2 images"):
        open_source(mosaic([[gone, bad]], allow_missing=True))


@pytest.mark.parametrize(("shape", "side"), [((8, 10), "width"), ((9, 9), "height")])
def test_a_size_that_differs_by_a_pixel_is_named(
    tmp_path: Path, shape: tuple[int, int], side: str
) -> None:
    rows = [[noise(8, 9), noise(8, 9), noise(8, 9)] for _ in range(3)]
    path = tmp_path / "odd.png"
    Image.fromarray(noise(*shape)).save(path)
    grid: list[list[Any]] = [*rows]
    grid[1][1] = path
    with pytest.raises(SourceError, match=rf"odd.png: its {side} is \d+ pixels.* (9|8); crop it"):
        open_source(mosaic(grid))


def test_a_file_that_changes_is_refused(tmp_path: Path) -> None:
    paths = [tmp_path / "a.pgm", tmp_path / "b.pgm"]
    for path in paths:
        Image.fromarray(noise(8, 9)).save(path)
    with open_source(mosaic([[path] for path in paths])) as source:
        source.rows(0, 8)
        Image.fromarray(noise(8, 9) ^ 1).save(paths[1])
        os.utime(paths[1], (1, 1))
        with pytest.raises(SourceError, match=r"b\.pgm: the file was changed"):
            source.rows(8, 16)


def test_a_source_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    rows = []
    for number in range(4):
        np.save(tmp_path / f"{number}.npy", noise(20, 30 + 0 * number) ^ number)
        rows.append([tmp_path / f"{number}.npy"])
    with open_source(mosaic(rows)) as source:
        assert isinstance(source, MosaicSource)
        assert source.is_sendable
        full = source.rows(0, source.height)
        part = source.for_worker(Region(0, 25, 30, 30))
        with pickle.loads(pickle.dumps(part)) as copy:
            np.testing.assert_array_equal(copy.rows(25, 55), full[25:55])
            assert [Path(path).name for path in copy.member_paths] == ["1.npy", "2.npy"]
    with open_source(mosaic([[noise(3, 3)]])) as source:
        assert isinstance(source, MosaicSource)
        assert not source.is_sendable


def test_too_many_pixels_in_gaps() -> None:
    far = [(noise(3, 3), 0, 0), (noise(3, 3), 10**7, 10**7)]
    with pytest.raises(SourceError, match="--max-pixels 100000060000009"):
        open_source(mosaic(far))
    with pytest.raises(SourceError, match="too far"):
        open_source(mosaic([(noise(3, 3), 0, 0), (noise(3, 3), 2**60, 0)]))


def refused() -> list[tuple[Any, dict[str, Any], str]]:
    """Arguments that are no mosaic, and a part of the message."""
    image = noise(3, 3)
    return [
        ([], {}, "no image"),
        ([[None, None]], {}, "no image"),
        ([[image], [image, image]], {}, "put None in a gap"),
        ([image], {}, "is no row"),
        ([[image], (image, 3, 4)], {}, "cannot be mixed"),
        ([[mosaic([[image]])]], {}, "cannot be an image of another one"),
        ([["-"]], {}, "a stream is read only once"),
        ([[io.BytesIO(b"")]], {}, "a stream is read only once"),
        ([[image]], {"background": "rad"}, "did you mean red"),
        ([[image]], {"background": (1, 2)}, r"expected \(red, green, blue\)"),
        ([[image]], {"background": (1, 2, 256)}, "0 to 255"),
    ]


@pytest.mark.parametrize(("images", "keywords", "message"), refused())
def test_refused(images: Any, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        mosaic(images, **keywords)


def test_an_image_of_another_kind_is_named() -> None:
    with pytest.raises(SourceError, match="not an image"):
        open_source(mosaic([[object()]]))
    drawn = fasttile.from_function(lambda region, scale: None, 9, 9, per_level=True)
    with pytest.raises(SourceError, match="leave per_level out"):
        open_source(mosaic([[drawn]]))


def test_conversion_to_srgb_leaves_other_images_alone() -> None:
    with open_source(noise(3, 3, 3)) as source:
        assert convert_to_srgb(source) is source


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_small_images_that_are_turned_are_read_region_by_region(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"turned.{suffix}"
    exif = Image.Exif()
    exif[0x112] = 6
    options = {"compression": "tiff_lzw"} if suffix == "tif" else {}
    Image.fromarray(noise(20, 30, 3)).save(path, exif=exif, **options)
    alone = read_pixels(path)
    assert alone.shape == (30, 20, 3)
    with open_source(mosaic([[path, path]])) as source:
        parts = [crop(source, Region(x, 5, 10, 9)).rows(0, 9) for x in (3, 22, 3, 22)]
    for number, part in enumerate(parts):
        x = (3, 2)[number % 2]
        np.testing.assert_array_equal(part, alone[5:14, x : x + 10])


def test_images_that_are_checked_are_not_closed_meanwhile(tmp_path: Path) -> None:
    pixels = noise(3, 80, 1)
    for number in range(40):
        np.save(tmp_path / f"{number}.npy", pixels)
    paths = [tmp_path / f"{number}.npy" for number in range(40)]
    with open_source(mosaic([[path] for path in paths])) as source:

        def read(turn: int) -> None:
            for number in range(60):
                y = 3 * ((7 * number + turn) % 40)
                np.testing.assert_array_equal(source.rows(y, y + 3), pixels)
                source.check_intact()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(read, range(16)))
