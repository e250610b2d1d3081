"""Padded and filled canvases: geometry and walk against complete arrays that are halved plainly."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fasttile import walk as walk_module
from fasttile.abc.source import Source
from fasttile.errors import OptionError
from fasttile.geometry import Canvas, Cover, Pyramid, Region, Rounding, Tile
from fasttile.layouts.xyz import TileCache, Xyz, ZoomLayout
from fasttile.types import Shrink
from fasttile.walk import walk
from support import canvases, reference
from support.adversarial_sources import MappedArraySource, StreamSource
from support.reading import noise
from support.reference import Address, Array
from support.sampling import sampled

SIDES = (1, 2, 3, 5, 8, 9, 12, 17)
SIZES = (2, 4, 6, 8)
COVERS: tuple[Cover, ...] = ("picture", "canvas")
ANCHORS = ("top left", "bottom left", "centre")
ANCHOR_LAYOUTS: dict[str, tuple[type[ZoomLayout], dict[str, bool]]] = {
    "top left": (Xyz, {}),
    "bottom left": (TileCache, {}),
    "centre": (Xyz, {"centre": True}),
}
TINY_LIMITS = {"LINE_BYTES": 0, "BLOCK_BYTES": 1, "SPARE_BYTES": 0, "RUN_PIXELS": 1}


def square_pyramid(
    width: int, height: int, size: int, anchor: str, cover: Cover = "picture"
) -> Pyramid:
    """The pyramid of a layout, all of whose levels are kept that it can have."""
    kind, parameters = ANCHOR_LAYOUTS[anchor]
    canvas = kind.make_canvas(width, height, size, **parameters)
    canvas = Canvas(canvas.width, canvas.height, canvas.placement, cover=cover)
    return Pyramid(canvas, size, 0, canvas.single_tile_level(size))


def walk_tiles(
    source: Source,
    pyramid: Pyramid,
    background: tuple[int, ...],
    shrink: Shrink = "mean",
) -> dict[Address, Array]:
    """All tiles, each of which comes once."""
    found: dict[Address, Array] = {}
    light = reference.srgb_tables(source.dtype) if shrink == "linear" else None
    for run in walk(source, pyramid, shrink, background, light):
        for tile, pixels in run.tiles():
            assert tile not in found, "came twice"
            found[tile] = pixels.copy()
        run.release()
    return found


def assert_same(found: dict[Address, Array], expected: dict[Address, Array]) -> None:
    assert set(found) == set(expected)
    for address, pixels in expected.items():
        assert found[address].shape == pixels.shape, address
        assert found[address].tobytes() == pixels.tobytes(), address


# ---- where images lie ------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_the_square_is_the_smallest_that_holds_the_image(size: int) -> None:
    for width, height in itertools.product(range(1, 40), repeat=2):
        side = size
        while width > side or height > side:
            side += side
        for anchor, (kind, parameters) in ANCHOR_LAYOUTS.items():
            canvas = kind.make_canvas(width, height, size, **parameters)
            assert (canvas.width, canvas.height) == (side, side)
            x, y, *shape = canvas.placement
            assert shape == [width, height]
            left, above, right, below = x, y, side - x - width, side - y - height
            if anchor == "top left":
                assert (left, above) == (0, 0)
            elif anchor == "bottom left":
                assert (left, below) == (0, 0)
            else:  # in the middle, and a spare pixel to the right of it and below
                assert right - left in (0, 1)
                assert below - above in (0, 1)


@pytest.mark.parametrize("cover", COVERS)
@pytest.mark.parametrize("size", SIZES)
def test_levels_are_those_of_the_full_square(size: int, cover: Cover) -> None:
    for width, height in itertools.product(SIDES, repeat=2):
        for anchor in ANCHORS:
            check_levels_by_marking(square_pyramid(width, height, size, anchor, cover))


@given(
    size=st.sampled_from(SIZES),
    halvings=st.integers(0, 5),
    cover=st.sampled_from(COVERS),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_levels_of_an_image_anywhere(
    size: int, halvings: int, cover: Cover, data: st.DataObject
) -> None:
    side = size << halvings
    x, y = data.draw(st.integers(0, side - 1)), data.draw(st.integers(0, side - 1))
    width = data.draw(st.integers(1, side - x))
    height = data.draw(st.integers(1, side - y))
    canvas = Canvas(side, side, Region(x, y, width, height), cover=cover)
    check_levels_by_marking(Pyramid(canvas, size, 0, canvas.single_tile_level(size)))


def check_levels_by_marking(pyramid: Pyramid) -> None:
    """Every number of every level that is kept, by marking pixels."""
    canvas, size = pyramid.canvas, pyramid.tile_size
    masks = canvases.level_masks(canvas.width, canvas.placement, size, cover=canvas.cover)
    levels = pyramid.stored_levels
    assert len(levels) == len(masks)
    assert levels[0].tile_count == 1
    arrived = canvases.level_masks(canvas.width, canvas.placement, size, cover="picture")[-1]
    for level, mask in zip(reversed(levels), reversed(masks), strict=True):
        tiles = canvases.masked_tiles(mask, size)
        first_col, first_row = tiles[0]
        if canvas.padded:
            assert (level.first_col, level.first_row) == (first_col, first_row)
        else:
            assert (level.first_col, level.first_row) == (first_col, first_row) == (0, 0)
        assert [(tile.col + first_col, tile.row + first_row) for tile in level.tiles()] == tiles
        raster = np.zeros_like(mask)
        for col, row in tiles:
            raster[row * size : (row + 1) * size, col * size : (col + 1) * size] = True
        box = canvases.bounding_box(raster)
        assert raster.sum() == box.width * box.height, "no rectangle"
        assert (box.x, box.y) == (first_col * size, first_row * size)
        assert (level.width, level.height) == box[2:]
        x, y, *shape = canvases.bounding_box(arrived)
        assert level.inset == (x - box.x, y - box.y, *shape)
        assert level.basis == (0, 0, level.width, level.height)
        assert level.padded == (level.inset != level.basis)
        for tile in level.tiles():
            region = pyramid.region(tile)
            assert region == (tile.col * size, tile.row * size, size, size)
        arrived = canvases.halve_mask(raster)


def test_tiles_of_filled_edges_are_all_full() -> None:
    roundings: list[Rounding] = ["up", "down"]
    for rounding, size in itertools.product(roundings, (1, 2, 3, 8)):
        for width, height in itertools.product(range(1, 14), repeat=2):
            plain = Pyramid(Canvas(width, height, rounding=rounding), size, 0)
            filled = Pyramid(Canvas(width, height, rounding=rounding, edge="fill"), size, 0)
            assert list(filled.tiles()) == list(plain.tiles())
            assert {filled.region(tile)[2:] for tile in filled.tiles()} == {(size, size)}
            for one, other in zip(plain.levels, filled.levels, strict=True):
                assert other.inset == (0, 0, one.width, one.height)
                assert other.basis == one.basis
                assert (other.cols, other.rows) == (one.cols, one.rows)


@pytest.mark.parametrize(
    ("canvas", "message"),
    [
        (Canvas(6, 8, Region(0, 0, 5, 5)), "not a square"),
        (Canvas(12, 12, Region(0, 0, 5, 5)), "not a square"),
        (Canvas(8, 8, Region(0, 0, 5, 5)), "smallest level that can be kept is one tile"),
    ],
)
def test_refuses_padding_that_does_not_halve(canvas: Canvas, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Pyramid(canvas, 4, 0)


def test_refuses_what_does_not_go_with_padding() -> None:
    image = Region(0, 0, 5, 5)
    canvas = Canvas(8, 8, image)
    with pytest.raises(OptionError, match="overlap 1 does not go with padding"):
        Pyramid(canvas, 4, 1, canvas.single_tile_level(4))
    odd = Canvas(10, 10, image)
    with pytest.raises(OptionError, match="tile size 5 is odd"):
        Pyramid(odd, 5, 0, odd.single_tile_level(5))
    with pytest.raises(OptionError, match="round down"):
        Canvas(8, 8, image, rounding="down")
    with pytest.raises(OptionError, match="no edge to fill"):
        Canvas(8, 8, image, edge="fill")


# ---- the walk ----------------------------------------------------------------------------------

SOURCES = {
    "map": MappedArraySource,
    "stream 1": lambda pixels: StreamSource(pixels, 1),
    "stream 3": lambda pixels: StreamSource(pixels, 3),
    "stream 7": lambda pixels: StreamSource(pixels, 7),
}


def images(start: int, step: int) -> Iterator[Array]:
    """Noise of some of the sizes, of one to four bands in turn."""
    for number, (height, width) in enumerate(itertools.product(SIDES, repeat=2)):
        if number % step == start:
            yield noise(height, width, 1 + number // step % 4)


def make_background(pixels: Array) -> tuple[int, ...]:
    """A colour that differs from band to band; opaque, or all transparent, as halving keeps it."""
    bands = pixels.shape[2]
    if bands in (2, 4):
        return (0,) * bands if pixels.shape[0] % 2 else (*range(7, 6 + bands), 255)
    return tuple(range(40, 40 + bands))


@pytest.mark.parametrize("cover", COVERS)
@pytest.mark.parametrize("constants", [{}, TINY_LIMITS], ids=["normal", "tiny"])
@pytest.mark.parametrize("kind", sampled(SOURCES, ["map"]))
def test_every_tile_of_every_small_square(
    kind: str, constants: dict[str, int], cover: Cover, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in constants.items():
        monkeypatch.setattr(walk_module, name, value)
    for number, (size, anchor) in enumerate(itertools.product(SIZES, ANCHORS)):
        for pixels in images(number % 3, 3):
            height, width, _ = pixels.shape
            pyramid = square_pyramid(width, height, size, anchor, cover)
            background = make_background(pixels)
            source = SOURCES[kind](pixels)
            found = walk_tiles(source, pyramid, background)
            assert_same(found, dict(canvases.padded_tiles(pixels, pyramid, background)))
            if isinstance(source, MappedArraySource):
                assert not source.populate_counts.any(), "not discarded"


@pytest.mark.parametrize("rounding", ["up", "down"])
@pytest.mark.parametrize("constants", [{}, TINY_LIMITS], ids=["normal", "tiny"])
@pytest.mark.parametrize("kind", sampled(SOURCES, ["map"]))
def test_every_tile_with_filled_edges(
    kind: str, constants: dict[str, int], rounding: Rounding, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in constants.items():
        monkeypatch.setattr(walk_module, name, value)
    for number, size in enumerate((1, 2, 3, 4, 6, 8, 16)):
        for pixels in images(number % 3, 3):
            height, width, _ = pixels.shape
            canvas = Canvas(width, height, rounding=rounding, edge="fill")
            background = tuple(range(40, 40 + pixels.shape[2]))
            found = walk_tiles(SOURCES[kind](pixels), Pyramid(canvas, size, 0), background)
            expected = canvases.filled_tiles(pixels, size, background, rounding=rounding)
            assert_same(found, dict(expected))


@pytest.mark.parametrize("shrink", ["nearest", "mode", "linear", "median"])
@pytest.mark.parametrize("kind", ["map", "stream 3"])
def test_other_ways_to_shrink_a_square(kind: str, shrink: Shrink) -> None:
    for number, (size, anchor) in enumerate(itertools.product(SIZES, ANCHORS)):
        for pixels in images(number % 5, 5):
            labels = pixels // 100
            height, width, bands = labels.shape
            background = (9,) * bands
            pyramid = square_pyramid(width, height, size, anchor)
            found = walk_tiles(SOURCES[kind](labels), pyramid, background, shrink)
            expected = canvases.padded_tiles(labels, pyramid, background, method=shrink)
            assert_same(found, dict(expected))
            filled = Pyramid(Canvas(width, height, edge="fill"), size, 0)
            found = walk_tiles(SOURCES[kind](labels), filled, background, shrink)
            assert_same(found, dict(canvases.filled_tiles(labels, size, background, method=shrink)))


@given(
    size=st.sampled_from(SIZES),
    halvings=st.integers(0, 4),
    cover=st.sampled_from(COVERS),
    bands=st.integers(1, 4),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    row_step=st.integers(0, 20),
    limits=st.tuples(*[st.integers(0, 20_000)] * 4),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_an_image_anywhere_on_its_square(
    size: int,
    halvings: int,
    cover: Cover,
    bands: int,
    dtype: type,
    row_step: int,
    limits: tuple[int, ...],
    data: st.DataObject,
) -> None:
    side = size << halvings
    x, y = data.draw(st.integers(0, side - 1)), data.draw(st.integers(0, side - 1))
    width = data.draw(st.integers(1, side - x))
    height = data.draw(st.integers(1, side - y))
    canvas = Canvas(side, side, Region(x, y, width, height), cover=cover)
    base = canvas.single_tile_level(size)
    first = data.draw(st.integers(base, base + halvings))
    last = data.draw(st.integers(first, base + halvings))
    pyramid = Pyramid(canvas, size, 0, first, last)
    pixels = noise(height, width, bands, dtype=dtype)
    source = StreamSource(pixels, row_step) if row_step else MappedArraySource(pixels)
    background = (int(np.iinfo(dtype).max),) * bands
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(TINY_LIMITS, limits, strict=True):
            patch.setattr(walk_module, name, value)
        found = walk_tiles(source, pyramid, background)
    expected = dict(canvases.padded_tiles(pixels, pyramid, background))
    assert_same(found, {at: tile for at, tile in expected.items() if first <= at[0] <= last})


# ---- some levels only --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["map", "stream 1", "stream 7"])
def test_some_levels_only(kind: str) -> None:
    roundings: list[Rounding] = ["up", "down"]
    for pixels in images(0, 7):
        height, width, bands = pixels.shape
        background = tuple(range(40, 40 + bands))
        pyramids = [
            Pyramid(Canvas(width, height, rounding=rounding), 3, 1) for rounding in roundings
        ]
        pyramids += [
            Pyramid(Canvas(width, height, rounding=rounding, edge="fill"), 4, 0)
            for rounding in roundings
        ]
        pyramids += [square_pyramid(width, height, 4, anchor) for anchor in ANCHORS]
        for complete in pyramids:
            everything = walk_tiles(SOURCES[kind](pixels), complete, background)
            assert set(everything) == set(complete.tiles())
            for first, last in itertools.combinations_with_replacement(complete.stored_range, 2):
                part = Pyramid(complete.canvas, complete.tile_size, complete.overlap, first, last)
                found = walk_tiles(SOURCES[kind](pixels), part, background)
                assert set(found) == set(part.tiles())
                assert part.tile_count == len(found)
                assert_same(
                    found,
                    {at: tile for at, tile in everything.items() if at[0] in part.stored_range},
                )


def test_the_size_without_the_largest_levels_is_that_of_the_level_left() -> None:
    for width, height in itertools.product(range(1, 30), repeat=2):
        complete = Pyramid.from_size(width, height, tile_size=4, overlap=1)
        for last in complete.stored_range:
            part = Pyramid(complete.canvas, 4, 1, 0, last)
            level = complete.levels[last]
            assert part.size == (level.width, level.height)
            # Tile by tile it is the pyramid of an image of that size.
            smaller = Pyramid.from_size(*part.size, tile_size=4, overlap=1)
            assert list(smaller.tiles()) == list(part.tiles())
            assert [smaller.region(t) for t in smaller.tiles()] == [
                part.region(t) for t in part.tiles()
            ]


def test_a_square_without_its_largest_levels_is_that_of_a_smaller_image() -> None:
    for (width, height), anchor in itertools.product(
        itertools.product((1, 5, 8, 9, 23, 31, 32), repeat=2), ("top left", "bottom left")
    ):
        complete = square_pyramid(width, height, 4, anchor)
        for last in complete.stored_range:
            part = Pyramid(complete.canvas, 4, 0, complete.first_level, last)
            assert part.size == tuple(
                -(-side >> complete.downscale_exponent(last)) for side in (width, height)
            )
            smaller = square_pyramid(*part.size, 4, anchor)
            names = [
                Tile(tile.level - smaller.single_tile_level, tile.col, tile.row)
                for tile in smaller.tiles()
            ]
            assert names == [
                Tile(tile.level - part.single_tile_level, tile.col, tile.row)
                for tile in part.tiles()
            ]
            firsts = [(level.first_col, level.first_row) for level in smaller.stored_levels]
            assert firsts == [(level.first_col, level.first_row) for level in part.stored_levels]
