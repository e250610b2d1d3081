"""Pyramidal TIFFs, read by tifffile, Pillow, libvips and OpenSlide, each in its own way."""

from __future__ import annotations

import io
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from fasttile.encode.png import deflate_encoder
from fasttile.geometry import Level, Tile
from fasttile.layouts.tiff import Tiff
from fasttile.sinks import tiff
from fasttile.sinks.tiff import TiffSamples, TiffSink
from support.one_file_sinks import extend_sparsely

if sys.platform == "win32":
    pytest.skip("needs files with holes", allow_module_level=True)

Pixels = NDArray[Any]
SIZE = 32
WIDTH, HEIGHT = 150, 90
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


@cache
def make_pixels(bands: int, bits: int, width: int, height: int) -> Pixels:
    """Soft shapes with some noise: neither flat nor all noise."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 20, (height, width))
    shapes = [
        (np.sin(x / (9 + band)) + np.cos(y / (7 + band)) + 2) * 50 + noise + 10 * band
        for band in range(bands)
    ]
    pixels = np.stack(shapes, axis=2)
    return (pixels * 257).astype(np.uint16) if bits == 16 else pixels.astype(np.uint8)


def tile_pixels(level: Level, tile: Tile, bands: int, bits: int = 8) -> Pixels:
    """A level's tile, full; here levels are images of their own, which is all the same."""
    side = level.tile_size
    pixels = make_pixels(bands, bits, level.cols * side, level.rows * side)
    return pixels[tile.row * side :, tile.col * side :][:side, :side]


def encode_jpeg(pixels: Pixels, **save_options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "jpeg", **{"quality": 80, **save_options})
    return file.getvalue()


Encode = Callable[[Pixels], bytes]


def jpeg_tiff(
    target: Path, encode: Encode, bands: int = 3, **more: Any
) -> tuple[Tiff, dict[Tile, bytes]]:
    """A TIFF of JPEG tiles; its layout, and each tile's bytes."""
    layout = Tiff.from_size("m", WIDTH, HEIGHT, "jpg", tile_size=SIZE)
    sink = TiffSink(layout, target, samples=TiffSamples(bands, **more))
    tiles = {}
    for tile in layout.pyramid.tiles():
        level = layout.pyramid.levels[tile.level]
        tiles[tile] = encode(tile_pixels(level, tile, bands))
        sink.put(tile, tiles[tile])
    sink.finish()
    return layout, tiles


def deflate_tiff(target: Path, bands: int, bits: int = 8, **more: Any) -> list[Pixels]:
    """A TIFF of tiles without loss; the levels' pixels, the largest first."""
    layout = Tiff.from_size("m", WIDTH, HEIGHT, "deflate", tile_size=SIZE)
    samples = TiffSamples(bands, bits, has_alpha=bands in (2, 4), **more)
    sink = TiffSink(layout, target, samples=samples)
    mode = "I;16" if bits == 16 else MODES[bands]
    for tile in layout.pyramid.tiles():
        level = layout.pyramid.levels[tile.level]
        sink.put(
            tile, deflate_encoder(mode, pack_pixels(tile_pixels(level, tile, bands, bits)), 6)()
        )
    sink.finish()
    return [
        crop_to_level(make_pixels(bands, bits, level.cols * SIZE, level.rows * SIZE), level)
        for level in reversed(layout.pyramid.stored_levels)
    ]


def pack_pixels(pixels: Pixels) -> Pixels:
    """Pixels as encoders get them: of one band, or of four."""
    bands = pixels.shape[2]
    if bands == 1:
        return np.ascontiguousarray(pixels)
    order = {2: [0, 0, 0, 1], 3: [0, 1, 2, 2], 4: [0, 1, 2, 3]}[bands]
    return np.ascontiguousarray(pixels[:, :, order])


def crop_to_level(pixels: Pixels, level: Level) -> Pixels:
    return pixels[: level.inset.height, : level.inset.width]


def decode_tiles(layout: Tiff, tiles: dict[Tile, bytes]) -> list[Pixels]:
    """The levels, each tile decoded alone by Pillow; the largest first."""
    levels = []
    for level in reversed(layout.pyramid.stored_levels):
        rows = [
            np.hstack(
                [
                    np.asarray(Image.open(io.BytesIO(tiles[Tile(level.number, col, row)])))
                    for col in range(level.cols)
                ]
            )
            for row in range(level.rows)
        ]
        pixels = np.vstack(rows)
        levels.append(crop_to_level(pixels if pixels.ndim == 3 else pixels[:, :, None], level))
    return levels


# ---- readers: the levels of a file, the largest first ------------------------------------------


def with_bands(pixels: Pixels) -> Pixels:
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def by_tifffile(path: Path) -> Iterator[Pixels]:
    with tifffile.TiffFile(path) as file:
        for page in file.pages:
            yield with_bands(page.asarray())


def by_pillow(path: Path) -> Iterator[Pixels]:
    with Image.open(path) as image:
        for number in range(image.n_frames):
            image.seek(number)
            yield with_bands(np.asarray(image))


def by_libvips(path: Path) -> Iterator[Pixels]:
    pyvips = pytest.importorskip("pyvips")
    count = pyvips.Image.new_from_file(str(path)).get("n-pages")
    for page in range(count):
        yield with_bands(pyvips.Image.new_from_file(str(path), page=page).numpy())


def by_openslide(path: Path) -> Iterator[Pixels]:
    with openslide.OpenSlide(path) as slide:
        for level, size in enumerate(slide.level_dimensions):
            yield np.asarray(slide.read_region((0, 0), level, size))[:, :, :3]


def assert_same_pixels(actual: Iterator[Pixels], expected: list[Pixels]) -> None:
    levels = [*actual]
    assert [level.shape for level in levels] == [level.shape for level in expected]
    for one, other in zip(levels, expected, strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


READERS = {
    "tifffile": by_tifffile,
    "Pillow": by_pillow,
    "libvips": by_libvips,
    "OpenSlide": by_openslide,
}

readers = pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
general = pytest.mark.parametrize(
    "reader", [by_tifffile, by_pillow, by_libvips], ids=["tifffile", "Pillow", "libvips"]
)

JPEGS = {
    "4:2:0": {"subsampling": "4:2:0"},
    "4:2:2": {"subsampling": "4:2:2"},
    "4:4:4": {"subsampling": "4:4:4"},
    "optimised": {"optimize": True},
    "restarts": {"restart_marker_blocks": 1},
    "dpi": {"dpi": (300, 300), "comment": b"said", "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"},
}

# ---- pixels ------------------------------------------------------------------------------------


@readers
@pytest.mark.parametrize("how", JPEGS.values(), ids=JPEGS)
def test_jpeg_levels_are_their_tiles_decoded_alone(
    tmp_path: Path, how: dict[str, Any], reader: Callable[[Path], Iterator[Pixels]]
) -> None:
    layout, tiles = jpeg_tiff(tmp_path / "x.tif", lambda pixels: encode_jpeg(pixels, **how))
    assert_same_pixels(reader(tmp_path / "x.tif"), decode_tiles(layout, tiles))


@general
@pytest.mark.parametrize("how", [{}, {"optimize": True}], ids=["usual", "optimised"])
def test_grey_jpeg_levels_are_their_tiles_decoded_alone(
    tmp_path: Path, how: dict[str, Any], reader: Callable[[Path], Iterator[Pixels]]
) -> None:
    layout, tiles = jpeg_tiff(tmp_path / "x.tif", lambda pixels: encode_jpeg(pixels, **how), 1)
    assert_same_pixels(reader(tmp_path / "x.tif"), decode_tiles(layout, tiles))


@readers
def test_tiles_of_different_quality_keep_their_own_tables(
    tmp_path: Path, reader: Callable[[Path], Iterator[Pixels]]
) -> None:
    layout, tiles = jpeg_tiff(
        tmp_path / "x.tif",
        lambda pixels: encode_jpeg(pixels, quality=int(pixels[0, 0, 0]) % 90 + 5),
    )
    assert len({data[:200] for data in tiles.values()}) > 3
    assert_same_pixels(reader(tmp_path / "x.tif"), decode_tiles(layout, tiles))


@readers
def test_optimised_tiles_that_come_again_have_their_own_tables(
    tmp_path: Path, reader: Callable[[Path], Iterator[Pixels]]
) -> None:
    """As the margins of an image do, between others. libtiff keeps the tables it has met."""

    def margins_between(pixels: Pixels) -> bytes:
        plain = int(pixels[0, 0, 0]) % 2
        return encode_jpeg(np.full_like(pixels, 250) if plain else pixels, optimize=True)

    layout, tiles = jpeg_tiff(tmp_path / "x.tif", margins_between)
    assert 3 < len(set(tiles.values())) < len(tiles) - 3
    assert_same_pixels(reader(tmp_path / "x.tif"), decode_tiles(layout, tiles))


@general
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_deflated_levels_are_exact(
    tmp_path: Path, bands: int, reader: Callable[[Path], Iterator[Pixels]]
) -> None:
    expected = deflate_tiff(tmp_path / "x.tif", bands)
    assert_same_pixels(reader(tmp_path / "x.tif"), expected)


@general
def test_deflated_levels_of_16_bits_are_exact(
    tmp_path: Path, reader: Callable[[Path], Iterator[Pixels]]
) -> None:
    expected = deflate_tiff(tmp_path / "x.tif", 1, 16)
    assert_same_pixels(reader(tmp_path / "x.tif"), expected)


def test_openslide_reads_deflated_levels_too(tmp_path: Path) -> None:
    expected = deflate_tiff(tmp_path / "x.tif", 3)
    assert_same_pixels(by_openslide(tmp_path / "x.tif"), expected)


def test_openslide_takes_it_for_a_slide_of_all_levels(tmp_path: Path) -> None:
    layout, _ = jpeg_tiff(tmp_path / "x.tif", encode_jpeg)
    with openslide.OpenSlide(tmp_path / "x.tif") as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert slide.level_dimensions == tuple(
            (level.inset.width, level.inset.height)
            for level in reversed(layout.pyramid.stored_levels)
        )
        assert slide.properties["openslide.level[0].tile-width"] == str(SIZE)


@readers
def test_a_bigtiff_has_the_same_pixels(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reader: Callable[[Path], Iterator[Pixels]],
) -> None:
    monkeypatch.setattr(tiff, "CLASSIC_TIFF_LIMIT", 0)
    layout, tiles = jpeg_tiff(
        tmp_path / "x.tif", encode_jpeg, icc_profile=bytes(100), resolution=(300.0, 200.0)
    )
    assert (tmp_path / "x.tif").read_bytes()[:8] == b"II\x2b\0\x08\0\0\0"
    assert_same_pixels(reader(tmp_path / "x.tif"), decode_tiles(layout, tiles))


@pytest.mark.parametrize("gap", [2**32 - 40_000, 2**32 + 5])
def test_places_beyond_four_gigabytes(tmp_path: Path, gap: int) -> None:
    """Tiles on both sides of a hole in the file; Pillow 13 cannot read pages that lie there."""
    layout = Tiff.from_size("m", WIDTH, HEIGHT, "jpg", tile_size=SIZE)
    sink = TiffSink(layout, tmp_path / "x.tif", samples=TiffSamples(3))
    tiles = {}
    for number, tile in enumerate(layout.pyramid.tiles()):
        tiles[tile] = encode_jpeg(tile_pixels(layout.pyramid.levels[tile.level], tile, 3))
        if number == 10:
            extend_sparsely(sink._file, gap)
        sink.put(tile, tiles[tile])
    sink.finish()
    path = tmp_path / "x.tif"
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff == (path.stat().st_size >= 2**32)
    assert_same_pixels(by_tifffile(path), decode_tiles(layout, tiles))
    assert_same_pixels(by_openslide(path), decode_tiles(layout, tiles))
    assert_same_pixels(by_libvips(path), decode_tiles(layout, tiles))


def test_a_plain_tiff_always_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long the directories will be is only bounded; never is a TIFF plain and too long."""
    jpeg_tiff(tmp_path / "x.tif", encode_jpeg, icc_profile=bytes(5000))
    size = (tmp_path / "x.tif").stat().st_size
    for end in (size, size + 1):
        monkeypatch.setattr(tiff, "CLASSIC_TIFF_LIMIT", end)
        jpeg_tiff(tmp_path / f"{end}.tif", encode_jpeg, icc_profile=bytes(5000))
        with tifffile.TiffFile(tmp_path / f"{end}.tif") as file:
            assert file.is_bigtiff


# ---- tags --------------------------------------------------------------------------------------


def test_smaller_pages_are_marked_as_such(tmp_path: Path) -> None:
    layout, _ = jpeg_tiff(tmp_path / "x.tif", encode_jpeg)
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        assert len(file.pages) == len(layout.pyramid.stored_levels) == 4
        assert [page.tags["NewSubfileType"].value for page in file.pages] == [0, 1, 1, 1]
        for page in file.pages:
            assert (page.tilewidth, page.tilelength) == (SIZE, SIZE)
            assert page.compression == 7
            assert page.photometric == 6
            assert [*page.tags.keys()] == sorted(page.tags.keys())
        assert file.series[0].is_pyramidal


@pytest.mark.parametrize("large", [False, True])
def test_all_places_are_even_and_within_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    if large:
        monkeypatch.setattr(tiff, "CLASSIC_TIFF_LIMIT", 0)
    path = tmp_path / "x.tif"
    jpeg_tiff(path, encode_jpeg, icc_profile=bytes(101), resolution=(1.0, 1.0))
    data = path.read_bytes()
    place, count, entry, room = ("Q", "Q", "<2HQ8s", 8) if large else ("I", "H", "<2HI4s", 4)
    (where,) = struct.unpack_from("<" + place, data, 8 if large else 4)
    sizes = {3: 2, 4: 4, 5: 8, 7: 1, 16: 8}
    pages = 0
    while where:
        assert where % 8 == 0
        (entries,) = struct.unpack_from("<" + count, data, where)
        where += struct.calcsize(count)
        for _ in range(entries):
            _, kind, values, value = struct.unpack_from(entry, data, where)
            where += struct.calcsize(entry)
            if sizes[kind] * values > room:
                (start,) = struct.unpack("<" + place, value)
                assert start % 2 == 0
                assert start + sizes[kind] * values <= len(data)
        (where,) = struct.unpack_from("<" + place, data, where)
        pages += 1
    assert pages == 4


def test_the_resolution_is_that_of_each_level(tmp_path: Path) -> None:
    jpeg_tiff(tmp_path / "x.tif", encode_jpeg, resolution=(300.5, 72))
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        found = [page.get_resolution("inch") for page in file.pages]
    assert found == [(300.5, 72), (150.25, 36), (75.125, 18), (37.5625, 9)]
    with Image.open(tmp_path / "x.tif") as image:
        assert image.info["dpi"] == (300.5, 72)


def test_the_resolution_counts_levels_that_are_left_out(tmp_path: Path) -> None:
    """The resolution is that of the source; the largest level here is half of it."""
    layout = Tiff.from_size("m", WIDTH, HEIGHT, "jpg", tile_size=SIZE, levels="0-2")
    sink = TiffSink(layout, tmp_path / "x.tif", samples=TiffSamples(3, resolution=(300, 300)))
    for tile in layout.pyramid.tiles():
        sink.put(tile, encode_jpeg(tile_pixels(layout.pyramid.levels[tile.level], tile, 3)))
    sink.finish()
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        assert [page.get_resolution("inch")[0] for page in file.pages] == [150, 75, 37.5]
        assert file.pages[0].shape[:2] == (45, 75)
        assert [page.tags["NewSubfileType"].value for page in file.pages] == [0, 1, 1]


@pytest.mark.parametrize("dots", [1e-9, 0.01, 99_999.5, 5e9])
def test_any_resolution_is_written(tmp_path: Path, dots: float) -> None:
    jpeg_tiff(tmp_path / "x.tif", encode_jpeg, resolution=(dots, dots))
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        top, under = file.pages[0].tags["XResolution"].value
    assert top / under == pytest.approx(min(dots, 2**32 - 1), abs=1e-4)
    with warnings.catch_warnings(), Image.open(tmp_path / "x.tif") as image:
        warnings.simplefilter("ignore")
        image.load()


def test_the_profile_stands_in_every_page(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    jpeg_tiff(tmp_path / "x.tif", encode_jpeg, icc_profile=profile)
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        assert [bytes(page.tags["InterColorProfile"].value) for page in file.pages] == [profile] * 4
    with Image.open(tmp_path / "x.tif") as image:
        assert image.info["icc_profile"] == profile


def test_alpha_is_declared(tmp_path: Path) -> None:
    deflate_tiff(tmp_path / "x.tif", 4)
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        assert file.pages[0].extrasamples == (2,)


def test_an_image_of_one_tile(tmp_path: Path) -> None:
    """Its places are few enough to stand in the tags themselves."""
    layout = Tiff.from_size("m", 5, 3, "jpg", tile_size=16)
    data = encode_jpeg(make_pixels(3, 8, 16, 16))
    sink = TiffSink(layout, tmp_path / "x.tif", samples=TiffSamples(3))
    sink.put(Tile(layout.base_level, 0, 0), data)
    sink.finish()
    for reader in READERS.values():
        assert_same_pixels(
            reader(tmp_path / "x.tif"), [np.asarray(Image.open(io.BytesIO(data)))[:3, :5]]
        )
