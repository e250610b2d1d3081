"""Tiles on demand: each is the file that `cut` writes, for all images, layouts and options."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import fasttile
import profiles
from fasttile.geometry import Region
from fasttile.readers import open_result
from fasttile.types import Shrink
from support.cut_cases import LAYOUTS
from support.reading import noise

SIZES = ((1, 1), (1, 9), (9, 1), (33, 65), (64, 64), (77, 130))


def assert_as_cut(source: Any, folder: Path, **options: Any) -> None:
    """Every tile, and the descriptors, are those of a result with the same options."""
    layout = options.get("layout") or "dzi"
    name = {"dzi": "image.dzi", "tiff": "image.tif"}.get(layout.partition(":")[0], "image")
    path = fasttile.cut(source, folder / name, **options).path
    with (
        open_result(path) as result,
        fasttile.open_pyramid(source, **{"layout": layout, **options}) as pyramid,
    ):
        assert pyramid.level_count == result.level_count
        assert pyramid.level_tiles == result.level_tiles
        assert pyramid.media_type == result.media_type
        for level in result.pyramid.stored_levels:
            for _, col, row in level.tiles():
                address = level.number, col, row
                assert pyramid.tile(*address) == result.tile(*address), address
                if pyramid.media_type == "image/png":
                    own, cut = pyramid.pixels(*address), result.pixels(*address)
                    assert (own is None) == (cut is None)
                    assert own is None or (cut is not None and own.tobytes() == cut.tobytes())
        if isinstance(source, str | Path):
            return  # another name is in its descriptors
        assert pyramid.descriptors() == result.descriptors()
        for place, data in result.descriptors().items():
            assert (folder / place).read_bytes() == data


@pytest.mark.parametrize("layout", [*LAYOUTS, "tiff", "dzi:json,jsonp"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_every_tile_of_every_layout(layout: str, bands: int, tmp_path: Path) -> None:
    formats = ["jpeg", "deflate" if layout == "tiff" else "png"]
    if layout.startswith("iiif2"):
        formats.remove("png")  # which it has not
    for height, width in SIZES:
        if layout.startswith("zoomify:") and max(height, width) <= 32:
            continue  # one tile does not show how sizes are rounded
        for format in formats:
            place = tmp_path / f"{height}x{width}{format}"
            if layout == "dzi:json,jsonp":  # the result is opened by one of its descriptors
                place.mkdir()
                fasttile.cut(noise(height, width, bands), place / "image.dzi", layout=layout)
                with fasttile.open_pyramid(noise(height, width, bands), layout=layout) as pyramid:
                    for name, data in pyramid.descriptors().items():
                        assert (place / name).read_bytes() == data
                continue
            pixels = noise(height, width, bands)
            assert_as_cut(pixels, place, layout=layout, format=format, tile_size=32)


@pytest.mark.parametrize("overlap", [0, 1, 3])
@pytest.mark.parametrize("size", [(255, 255), (257, 255), (333, 509), (509, 333)])
def test_odd_sizes_and_overlaps(size: tuple[int, int], overlap: int, tmp_path: Path) -> None:
    assert_as_cut(noise(*size, 3), tmp_path, overlap=overlap)
    assert_as_cut(noise(*size, 1), tmp_path / "small", overlap=overlap, tile_size=33)


@pytest.mark.parametrize("layout", ["dzi", "xyz:centre", "zoomify", "tiff"])
def test_levels_that_threads_make(layout: str, tmp_path: Path) -> None:
    """So small that blocks of larger levels are made on threads; the cache keeps them or not."""
    pixels = noise(1701, 2303, 1)
    side = 272 if layout == "tiff" else 270
    for cache_bytes in (2**28, 2**20, 0):
        place = tmp_path / str(cache_bytes)
        options: dict[str, Any] = {"layout": layout, "tile_size": side}
        name = {"dzi": "image.dzi", "tiff": "image.tif"}.get(layout, "image")
        path = fasttile.cut(pixels, place / name, **options).path
        with (
            open_result(path) as result,
            fasttile.open_pyramid(pixels, cache_bytes=cache_bytes, **options) as pyramid,
        ):
            for tile in result.pyramid.tiles():  # from the smallest level
                assert pyramid.tile(*tile) == result.tile(*tile), tile


@pytest.mark.parametrize("shrink", get_args(Shrink))
def test_each_method(shrink: str, tmp_path: Path) -> None:
    for bands in (1, 2, 3, 4):
        pixels = noise(67, 91, bands) // 64 * 64
        options = {"shrink": shrink, "format": "png", "tile_size": 20, "overlap": 2}
        assert_as_cut(pixels, tmp_path / str(bands), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"region": (3, 5, 70, 41)},
        {"background": "navy", "layout": "xyz:centre"},
        {"quality": 30, "format": "webp"},
        {"format": "jpeg:progressive,subsampling=4:4:4"},
        {"levels": "2-5"},
        {"layout": "xyz", "levels": "0-1"},
        {"layout": "xyz", "skip_blank": 0, "format": "png"},
        {"layout": "gsiv", "skip_blank": 5, "background": "#808080"},
    ],
)
def test_options(options: dict[str, Any], tmp_path: Path) -> None:
    pixels = noise(101, 83, 4)
    pixels[:64, :40] = 255
    pixels[64:, 40:, 3] = 0
    assert_as_cut(pixels, tmp_path, **{"tile_size": 20, **options})


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, np.float64, np.bool_, ">u2"])
def test_depths(dtype: Any, tmp_path: Path) -> None:
    pixels = noise(70, 45, 1, dtype=np.uint16).astype(dtype)
    if np.dtype(dtype).kind == "u":
        assert_as_cut(pixels, tmp_path / "16", format="png", bits=16, tile_size=16)
    assert_as_cut(pixels, tmp_path, format="png", tile_size=16)
    if np.dtype(dtype).kind != "b":
        assert_as_cut(pixels, tmp_path / "window", tile_size=16, window=(100, 20_000))


def assert_file_as_cut(path: Path, folder: Path) -> None:
    """The same of an image file, for three sets of options."""
    assert_as_cut(path, folder / "dzi", tile_size=50)
    assert_as_cut(path, folder / "xyz", tile_size=64, layout="xyz", format="png")
    region = Region(11, 20, 60, 49)
    assert_as_cut(path, folder / "part", tile_size=50, region=region, icc="keep")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(orientation: int, tmp_path: Path) -> None:
    pixels, path = noise(90, 131, 3), tmp_path / "image.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, icc_profile=profiles.display_p3())
    assert_file_as_cut(path, tmp_path / "jpeg")
    for name, options in (("mapped", {}), ("tiles", {"tile": (16, 32), "compression": "zlib"})):
        path = tmp_path / f"{name}.tif"
        tags = [(274, "H", 1, orientation, False)]
        tifffile.imwrite(path, pixels, photometric="rgb", extratags=tags, **options)
        assert_file_as_cut(path, tmp_path / name)


COLOUR, ALPHA = Image.fromarray(noise(90, 131, 3)), Image.fromarray(noise(90, 131, 4))


@pytest.mark.parametrize(
    ("name", "image", "options"),
    [
        ("plain.png", ALPHA, {"dpi": (300, 150)}),
        ("palette.png", COLOUR.quantize(32), {}),
        ("progressive.jpg", COLOUR, {"progressive": True}),
        ("cmyk.jpg", COLOUR.convert("CMYK"), {}),
        ("grey.jpg", COLOUR.convert("L"), {"icc_profile": profiles.grey()}),
        ("grey.jp2", COLOUR.convert("L"), {}),
        ("colours.gif", COLOUR.quantize(16), {}),
        ("bits.bmp", COLOUR, {}),
        ("strips.tif", COLOUR, {"icc_profile": profiles.display_p3()}),
        ("lzw.tif", COLOUR, {"compression": "tiff_lzw"}),
    ],
)
def test_kinds_of_files(name: str, image: Any, options: dict[str, Any], tmp_path: Path) -> None:
    image.save(tmp_path / name, **options)
    assert_file_as_cut(tmp_path / name, tmp_path / "out")


@pytest.mark.parametrize("kind", ["grid", "planes", "deep", "large", "wide", "npy"])
def test_kinds_of_rasters(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"image.{'npy' if kind == 'npy' else 'tif'}"
    if kind == "npy":
        np.save(path, noise(90, 131, 4))
    elif kind == "planes":
        options: dict[str, Any] = {"planarconfig": "separate", "photometric": "rgb"}
        tifffile.imwrite(path, noise(3, 90, 131), tile=(48, 32), **options)
    elif kind == "grid":
        tifffile.imwrite(path, noise(90, 131, 3), tile=(48, 32))
    elif kind == "deep":
        pixels = noise(90, 131, 3, dtype=np.uint16)
        tifffile.imwrite(path, pixels, tile=(48, 32), compression="zlib")
    else:
        tile = (64, 64) if kind == "large" else (64, 1040)
        tifffile.imwrite(path, noise(700, 1100, 1), tile=tile, compression="zlib")
        assert_as_cut(path, tmp_path / "large", tile_size=250)
        return
    assert_file_as_cut(path, tmp_path / "out")


def test_pages_and_other_objects(tmp_path: Path) -> None:
    stack = [noise(40, 50, 3), noise(60, 30, 3)]
    with tifffile.TiffWriter(tmp_path / "stack.tif") as file:
        for page in stack:
            file.write(page, photometric="rgb")
    assert_as_cut(tmp_path / "stack.tif", tmp_path / "page", page=2, tile_size=16)
    data = io.BytesIO()
    Image.fromarray(stack[0]).save(data, "PNG")
    assert_as_cut(data.getvalue(), tmp_path / "bytes", tile_size=16)
    assert_as_cut(Image.fromarray(stack[0]), tmp_path / "pillow", tile_size=16)
    zarr = pytest.importorskip("zarr")
    stored = zarr.create_array({}, shape=(60, 30, 3), dtype="u1", chunks=(16, 7, 3))
    stored[:] = stack[1]
    assert_as_cut(stored, tmp_path / "zarr", tile_size=16)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    bands=st.integers(1, 4),
    tile_size=st.integers(8, 60).map(lambda side: 2 * side),
    overlap=st.integers(0, 3),
    layout=st.sampled_from(["dzi", "xyz", "xyz:centre", "zoomify", "tms", "gsiv"]),
    shrink=st.sampled_from(["mean", "mode", "linear", "median"]),
    cache_bytes=st.sampled_from([0, 5000, 2**28]),
)
def test_any_size(
    tmp_path_factory: pytest.TempPathFactory,
    height: int,
    width: int,
    bands: int,
    tile_size: int,
    overlap: int,
    layout: str,
    shrink: Any,
    cache_bytes: int,
) -> None:
    pixels = noise(height, width, bands)
    options: dict[str, Any] = {"tile_size": tile_size, "layout": layout, "shrink": shrink}
    options |= {"format": "png:compress_level=1", "overlap": overlap if layout == "dzi" else 0}
    expected = dict(fasttile.iter_tiles(pixels, **options))
    with fasttile.open_pyramid(pixels, cache_bytes=cache_bytes, **options) as pyramid:
        order = [*expected]
        random.Random(height * width).shuffle(order)
        for tile in order:
            found = pyramid.pixels(*tile)
            assert found is not None
            assert found.shape == expected[tile].shape
            assert found.tobytes() == expected[tile].tobytes()
