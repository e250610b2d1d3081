"""Shards and the upper levels: together all tiles of the pyramid, each once, pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fasttile import OptionError, Region, Tile
from fasttile.geometry import Canvas, Pyramid
from fasttile.geometry.shards import MIN_SHARD_COUNT, LevelRange, Shards
from fasttile.sources.conversions import crop
from fasttile.types import Shrink
from fasttile.walk import walk
from support.adversarial_sources import MappedArraySource, StreamSource
from support.reference import Array, srgb_tables
from support.sampling import sampled


def noise(height: int, width: int, bands: int = 1) -> Array:
    return np.random.default_rng(height * 1000 + width).integers(
        0, 256, (height, width, bands), np.uint8
    )


def walk_tiles(
    kind: type[MappedArraySource] | type[StreamSource],
    pixels: Array,
    level_range: Pyramid | LevelRange,
    shrink: Shrink,
    region: Region | None = None,
) -> Iterator[tuple[Tile, Array]]:
    pad = [9, 8, 7, 6][: pixels.shape[2]]
    if region is not None and kind is StreamSource:
        pixels = pixels[region.y : region.bottom, region.x : region.right]
    with (
        MappedArraySource(pixels)
        if kind is MappedArraySource
        else StreamSource(pixels, 3) as source
    ):
        part_of = source if region is None or kind is StreamSource else crop(source, region)
        light = srgb_tables(source.dtype) if shrink == "linear" else None
        for run in walk(part_of, level_range, shrink, pad, light):
            for tile, found in run.tiles():
                yield tile, found.copy()
            run.release()


def unsharded_tiles(pixels: Array, pyramid: Pyramid, shrink: Shrink = "mean") -> dict[Tile, Array]:
    return dict(walk_tiles(MappedArraySource, pixels, pyramid, shrink))


def sharded_tiles(
    kind: type[MappedArraySource] | type[StreamSource],
    pixels: Array,
    pyramid: Pyramid,
    depth: int,
    shrink: Shrink = "mean",
) -> dict[Tile, Array]:
    """The same by shards, and what they leave."""
    shards = Shards(pyramid, depth)
    block_level = pyramid.level_count - 1 - depth
    level = pyramid.levels[block_level]
    size = (level.inset if not pyramid.canvas.padded else Region(0, 0, level.width, level.height))[
        2:
    ]
    raster = np.zeros((size[1], size[0], pixels.shape[2]), pixels.dtype)
    filled = np.zeros(raster.shape[:2], int)
    found: dict[Tile, Array] = {}

    def take(tile: Tile, tile_pixels: Array) -> None:
        assert tile not in found
        found[tile] = tile_pixels

    for number in range(len(shards)):
        shard = shards[number]
        assert shard.number == number
        for tile, part in walk_tiles(kind, pixels, shard, shrink, shard.region):
            if tile.level == block_level:
                x, y, width, height = shard.block
                assert part.shape[:2] == (height, width)
                raster[y : y + height, x : x + width] = part
                filled[y : y + height, x : x + width] += 1
            else:
                take(shard.to_pyramid_tile(tile), part)
    assert (filled == 1).all()
    for tile, part in walk_tiles(kind, raster, shards.upper_levels, shrink):
        take(tile, part)
    return found


def check_shards(
    pixels: Array,
    pyramid: Pyramid,
    depth: int,
    *,
    kinds: tuple[type[MappedArraySource] | type[StreamSource], ...] = (
        MappedArraySource,
        StreamSource,
    ),
    shrink: Shrink = "mean",
) -> None:
    expected = unsharded_tiles(pixels, pyramid, shrink)
    for kind in kinds:
        found = sharded_tiles(kind, pixels, pyramid, depth, shrink)
        assert found.keys() == expected.keys()
        for tile, tile_pixels in expected.items():
            np.testing.assert_array_equal(found[tile], tile_pixels, err_msg=str(tile))


def possible_depths(pyramid: Pyramid, max_depth: int = 3) -> range:
    lowest = pyramid.single_tile_level if pyramid.canvas.padded else 0
    return range(1, min(max_depth, pyramid.level_count - 1 - max(lowest, pyramid.first_level)) + 1)


SIDES = (1, 2, 3, 5, 8, 9, 16, 17, 33)
QUICK_SIDES = (1, 3, 8, 17)


@pytest.mark.parametrize("height", sampled(SIDES, QUICK_SIDES))
@pytest.mark.parametrize("rounding", ["up", "down"])
def test_all_small_images(height: int, rounding: str) -> None:
    for width, (size, overlap) in product(SIDES, [(2, 0), (2, 1), (3, 2), (4, 1)]):
        canvas = Canvas(width, height, rounding=rounding)  # type: ignore[arg-type]
        pyramid = Pyramid(canvas, size, overlap)
        for depth in possible_depths(pyramid):
            check_shards(noise(height, width), pyramid, depth, kinds=(MappedArraySource,))


@pytest.mark.parametrize("shrink", get_args(Shrink))
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_all_kinds_of_pixels(bands: int, shrink: Shrink) -> None:
    for width, height in ((37, 41), (64, 33)):
        check_shards(
            noise(height, width, bands),
            Pyramid.from_size(width, height, tile_size=4),
            2,
            shrink=shrink,
        )


@pytest.mark.parametrize(("x", "y"), [(0, 0), (3, 5), (8, 0), (11, 11)])
def test_padded_canvases(x: int, y: int) -> None:
    for width, height, size in product((1, 5, 16, 21), (1, 7, 16, 19), (2, 4)):
        side = size
        while side < max(x + width, y + height):
            side *= 2
        pyramid = Pyramid(
            Canvas(side, side, image=Region(x, y, width, height)),
            size,
            0,
            first_level=Canvas(side, side).single_tile_level(size),
        )
        for depth in possible_depths(pyramid):
            check_shards(noise(height, width, 3), pyramid, depth)


def test_filled_edges() -> None:
    for width, height in product((1, 5, 16, 21), (1, 7, 16, 19)):
        canvas = Canvas(width, height, edge="fill")
        pyramid = Pyramid(canvas, 4, 0, canvas.single_tile_level(4))
        for depth in possible_depths(pyramid):
            check_shards(noise(height, width, 3), pyramid, depth)


def test_pyramids_that_keep_some_levels() -> None:
    canvas = Canvas(37, 45)
    top = canvas.level_count - 1
    for first, last in product(range(top + 1), repeat=2):
        if first <= last:
            pyramid = Pyramid(canvas, 4, 1, first, last)
            for depth in possible_depths(pyramid):
                check_shards(noise(45, 37), pyramid, depth, kinds=(MappedArraySource,))


@settings(deadline=None, max_examples=25)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    size=st.integers(10, 40),
    overlap=st.integers(0, 39),
    depth=st.integers(1, 5),
)
def test_any_image(width: int, height: int, size: int, overlap: int, depth: int) -> None:
    """Small tiles of large images would be thousands; the small images above have them."""
    pyramid = Pyramid.from_size(width, height, tile_size=size, overlap=min(overlap, size - 1))
    possible = possible_depths(pyramid, 5)
    if possible:
        check_shards(noise(height, width), pyramid, min(depth, possible[-1]))


def test_what_has_no_shards_is_refused() -> None:
    for depth in (0, 11):
        with pytest.raises(OptionError, match="no such shards"):
            Shards(Pyramid.from_size(1000, 600), depth)
    with pytest.raises(IndexError, match="no shard 12"):
        Shards(Pyramid.from_size(1000, 600, tile_size=254), 1)[12]


def test_a_depth_is_chosen_that_gives_many_shards_of_a_handy_size() -> None:
    assert Shards.best_depth(Pyramid.from_size(100, 100)) is None
    assert Shards.best_depth(Pyramid.from_size(5_000, 5_000)) is None
    for side in (20_000, 50_000, 100_000, 10**6, 10**7):
        pyramid = Pyramid.from_size(side, side)
        depth = Shards.best_depth(pyramid)
        assert depth is not None
        shards = Shards(pyramid, depth)
        assert len(shards) >= MIN_SHARD_COUNT
        assert shards[0].region.width * shards[0].region.height < 2**27
    assert Shards.best_depth(Pyramid.from_size(50_000, 50_000), largest_level_image=16) is None
