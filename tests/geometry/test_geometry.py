"""Geometry against a twin that halves again and again and marks pixels one by one."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fasttile.errors import OptionError
from fasttile.geometry import MAX_CANVAS_SIDE, Canvas, Level, Pyramid, Region, Rounding, Tile

SIZES = range(1, 10)
TILE_GRIDS = [(tile_size, overlap) for tile_size in range(1, 10) for overlap in range(tile_size)]
"""Tile size and overlap."""

ROUNDINGS: list[Rounding] = ["up", "down"]


# ---- the twin ----------------------------------------------------------------------------------


def halve_side(side: int, rounding: Rounding) -> int:
    """One halving, by counting pairs."""
    pairs, single = divmod(side, 2)
    return max(1, pairs + (single if rounding == "up" else 0))


def sizes_by_halving(width: int, height: int, rounding: Rounding) -> list[tuple[int, int]]:
    """The size of each level, from the top, until there is nothing left to halve."""
    sizes = [(width, height)]
    while sizes[-1] != (1, 1):
        sizes.append((halve_side(sizes[-1][0], rounding), halve_side(sizes[-1][1], rounding)))
    return sizes[::-1]


def spans_by_marking(side: int, tile_size: int, overlap: int) -> list[set[int]]:
    """The pixels of each tile along one side: its own, and those not farther than the overlap."""
    tiles: list[set[int]] = []
    for pixel in range(side):
        if pixel % tile_size == 0:
            tiles.append(set())
        tiles[-1].add(pixel)
    every = set(range(side))
    return [
        {pixel + step for pixel in own for step in range(-overlap, overlap + 1)} & every
        for own in tiles
    ]


def span_pixels(span: tuple[int, int]) -> set[int]:
    return set(range(*span))


# ---- all small cases ---------------------------------------------------------------------------


def level_of(width: int, height: int, tile_size: int, overlap: int) -> Level:
    """A level without background."""
    complete = Region(0, 0, width, height)
    return Level(0, width, height, tile_size, overlap, 0, 0, complete, complete, complete)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_level_sizes_are_those_of_repeated_halving(rounding: Rounding) -> None:
    for width, height in itertools.product(range(1, 71), repeat=2):
        levels = Pyramid(Canvas(width, height, rounding=rounding)).levels
        sizes = [(level.width, level.height) for level in levels]
        assert sizes == sizes_by_halving(width, height, rounding), (width, height)
        assert [level.number for level in levels] == list(range(len(sizes)))


@pytest.mark.parametrize(("tile_size", "overlap"), TILE_GRIDS)
def test_spans_are_the_marked_pixels(tile_size: int, overlap: int) -> None:
    for side in range(1, 41):
        expected = spans_by_marking(side, tile_size, overlap)
        wide = level_of(side, 1, tile_size, overlap)
        tall = level_of(1, side, tile_size, overlap)
        assert (wide.cols, wide.rows, tall.cols, tall.rows) == (len(expected), 1, 1, len(expected))
        assert [span_pixels(wide.col_span(col)) for col in range(wide.cols)] == expected, side
        assert [span_pixels(tall.row_span(row)) for row in range(tall.rows)] == expected, side


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize(("tile_size", "overlap"), TILE_GRIDS)
def test_every_tile_of_every_small_pyramid(
    tile_size: int, overlap: int, rounding: Rounding
) -> None:
    for width, height in itertools.product(SIZES, repeat=2):
        pyramid = Pyramid(Canvas(width, height, rounding=rounding), tile_size, overlap)
        expected = {
            Tile(number, col, row): (min(xs), min(ys), len(xs), len(ys))
            for number, (w, h) in enumerate(sizes_by_halving(width, height, rounding))
            for row, ys in enumerate(spans_by_marking(h, tile_size, overlap))
            for col, xs in enumerate(spans_by_marking(w, tile_size, overlap))
        }
        tiles = list(pyramid.tiles())
        assert tiles == list(expected), (width, height)  # also their order, line by line
        assert pyramid.tile_count == len(expected)
        assert {tile: pyramid.region(tile) for tile in tiles} == expected, (width, height)


# ---- invariants, at any size -------------------------------------------------------------------

sides = st.one_of(
    st.integers(1, 3000),
    st.integers(1, MAX_CANVAS_SIDE),
    st.integers(0, 40).flatmap(lambda n: st.sampled_from([max(1, 2**n - 1), 2**n])),
)
tile_grids = st.integers(1, 5000).flatmap(
    lambda size: st.tuples(st.just(size), st.integers(0, size - 1))
)


@given(width=sides, height=sides, rounding=st.sampled_from(ROUNDINGS))
def test_levels_of_any_size(width: int, height: int, rounding: Rounding) -> None:
    levels = Pyramid(Canvas(width, height, rounding=rounding)).levels
    assert [(level.width, level.height) for level in levels] == sizes_by_halving(
        width, height, rounding
    )
    for level in levels:
        scale = 2 ** (len(levels) - 1 - level.number)
        for side, complete in ((level.width, width), (level.height, height)):
            # Less than one pixel more than the image, or less.
            assert abs(side - Fraction(complete, scale)) < 1
            assert side == 1 or (side >= Fraction(complete, scale)) == (
                rounding == "up" or complete % scale == 0
            )


@given(side=sides, cut=tile_grids, data=st.data())
def test_neighbours_of_any_size(side: int, cut: tuple[int, int], data: st.DataObject) -> None:
    tile_size, overlap = cut
    level = level_of(side, 7, tile_size, overlap)
    assert (level.cols - 1) * tile_size < side <= level.cols * tile_size
    assert level.col_span(0)[0] == 0
    assert level.col_span(level.cols - 1)[1] == side
    col = data.draw(st.integers(0, level.cols - 1))
    start, end = level.col_span(col)
    assert 0 <= start < end <= side
    assert end - start <= tile_size + 2 * overlap
    if col == 0:
        return
    seam = col * tile_size  # the first column of the tile's own
    left_end = level.col_span(col - 1)[1]
    # Both sides see the overlap beyond the seam; only the border of the level cuts it short.
    assert seam - start == overlap
    assert left_end - seam == min(overlap, side - seam)
    # Without their overlap the two meet at the seam: no gap, no column twice.
    assert start + overlap == seam
    assert left_end - min(overlap, side - seam) == seam


@given(width=sides, height=sides, cut=tile_grids, data=st.data())
def test_regions_are_the_two_spans(
    width: int, height: int, cut: tuple[int, int], data: st.DataObject
) -> None:
    pyramid = Pyramid(Canvas(width, height), *cut)
    level = pyramid.levels[data.draw(st.integers(0, pyramid.level_count - 1))]
    col = data.draw(st.integers(0, level.cols - 1))
    row = data.draw(st.integers(0, level.rows - 1))
    region = pyramid.region(Tile(level.number, col, row))
    assert (region.x, region.right) == level.col_span(col)
    assert (region.y, region.bottom) == level.row_span(row)


# ---- known values ------------------------------------------------------------------------------


def test_known_widths_where_the_last_tile_adds_one_pixel() -> None:
    level = Pyramid.from_size(255, 255, tile_size=254, overlap=1).levels[-1]
    assert [level.region(col, 0).width for col in range(level.cols)] == [255, 2]


@pytest.mark.parametrize(
    ("longer", "last"),
    [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (256, 8), (257, 9), (2**29, 29), (2**29 + 1, 30)],
)
def test_known_last_level(longer: int, last: int) -> None:
    assert Pyramid.from_size(longer, 1).level_count - 1 == last
    assert Pyramid.from_size(1, longer).level_count - 1 == last


def zoomify_tile_counts(width: int, height: int, rounding: Rounding) -> list[int]:
    """The tiles of each level from the top down to the first that fits in one tile."""
    counts: list[int] = []
    for level in reversed(Pyramid(Canvas(width, height, rounding=rounding), 256, 0).levels):
        counts.append(level.tile_count)
        if level.tile_count == 1:
            break
    return counts


def test_known_zoomify_counts() -> None:
    # 1169 is what the official converter writes as NUMTILES (iipsrv #86); rounding up gives 1171.
    assert sum(zoomify_tile_counts(6488, 8213, "down")) == 1169
    assert sum(zoomify_tile_counts(6488, 8213, "up")) == 1171
    # 513×256: 4 tiles in 2 tiers, where libvips, which rounds up, has 6 in 3.
    assert zoomify_tile_counts(513, 256, "down") == [3, 1]
    assert zoomify_tile_counts(513, 256, "up") == [3, 2, 1]


@pytest.mark.parametrize("side", [513, 1025, 1026, 1027, 2049, 2055])
def test_known_sides_with_one_zoomify_tier_less(side: int) -> None:
    assert len(zoomify_tile_counts(side, 256, "up")) == 1 + len(
        zoomify_tile_counts(side, 256, "down")
    )


def test_known_zoomify_size_1537() -> None:
    down = Pyramid(Canvas(1537, 256, rounding="down"), 256, 0).levels
    up = Pyramid(Canvas(1537, 256), 256, 0).levels
    assert (down[-2].width, up[-2].width) == (768, 769)


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("side", [0, -1, MAX_CANVAS_SIDE + 1])
def test_refuses_a_side_out_of_range(side: int) -> None:
    with pytest.raises(OptionError, match=f"width {side} is not between 1 and 2\\^40"):
        Canvas(side, 5)
    with pytest.raises(OptionError, match=f"height {side} is not between 1 and 2\\^40"):
        Canvas(5, side)


def test_takes_the_longest_side() -> None:
    assert Pyramid.from_size(MAX_CANVAS_SIDE, MAX_CANVAS_SIDE).level_count == 41


@pytest.mark.parametrize(
    "image", [Region(-1, 0, 2, 2), Region(0, -1, 2, 2), Region(0, 0, 0, 2), Region(0, 0, 2, 0)]
)
def test_refuses_an_image_that_is_no_rectangle_of_the_canvas(image: Region) -> None:
    with pytest.raises(OptionError) as caught:
        Canvas(10, 10, image=image)
    assert str(tuple(image)) in str(caught.value)


@pytest.mark.parametrize("image", [Region(9, 0, 2, 2), Region(0, 9, 2, 2), Region(0, 0, 10, 11)])
def test_refuses_an_image_beyond_the_canvas(image: Region) -> None:
    with pytest.raises(OptionError, match="reaches beyond the canvas of 10×10 pixels"):
        Canvas(10, 10, image=image)


def test_an_image_may_touch_every_border() -> None:
    assert Canvas(10, 10, image=Region(0, 0, 10, 10)).placement == Canvas(10, 10).placement
    assert Canvas(10, 10, image=Region(9, 9, 1, 1)).placement == (9, 9, 1, 1)


def test_refuses_an_unknown_rounding() -> None:
    with pytest.raises(OptionError, match="rounding 'even' is none of up, down"):
        Canvas(1, 1, rounding="even")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tile_size", "overlap", "message"),
    [
        (0, 0, "tile size 0 is not at least 1"),
        (-7, 0, "tile size -7 is not at least 1"),
        (4, -1, "overlap -1 is negative"),
        (4, 4, "overlap 4 is not smaller than the tile size 4"),
        (1, 1, "overlap 1 is not smaller than the tile size 1"),
    ],
)
def test_refuses_a_cut_out_of_range(tile_size: int, overlap: int, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Pyramid.from_size(100, 100, tile_size=tile_size, overlap=overlap)


@pytest.mark.parametrize(
    "tile", [Tile(5, 0, 0), Tile(-1, 0, 0), Tile(4, 4, 0), Tile(4, 0, 2), Tile(4, -1, 0)]
)
def test_refuses_a_tile_that_is_not_there(tile: Tile) -> None:
    pyramid = Pyramid.from_size(16, 8, tile_size=4, overlap=1)  # the last level, 4, has 4×2 tiles
    with pytest.raises(IndexError, match=r"none at|no level"):
        pyramid.region(tile)
