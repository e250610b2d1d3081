"""Images that a function draws: by halving, or level by level."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fasttile
from fasttile import Region
from fasttile.errors import FasttileError
from fasttile.readers import open_result
from support.file_trees import file_tree
from support.reading import noise


def drawing(pixels: Any, **options: Any) -> Any:
    """The source whose function returns parts of an array."""
    height, width, bands = pixels.shape

    def draw(region: Region) -> Any:
        return pixels[region.y : region.bottom, region.x : region.right]

    options = {"dtype": pixels.dtype, **options}
    return fasttile.from_function(draw, width, height, bands, **options)


def draw_places(region: Region, scale: int) -> Any:
    """Each pixel shows its place, and the scale."""
    y, x = np.mgrid[region.y : region.bottom, region.x : region.right]
    return np.stack([x % 251, y % 241, np.full_like(x, scale.bit_length())], -1).astype(np.uint8)


@pytest.mark.parametrize("layout", ["dzi", "zoomify", "xyz:centre"])
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_a_function_is_cut_as_its_pixels_are(layout: str, bands: int, tmp_path: Path) -> None:
    pixels = noise(331, 519, bands)
    for name, source in (("array", pixels), ("function", drawing(pixels))):
        suffix = ".dzi" * (layout == "dzi")
        fasttile.cut(source, tmp_path / name / f"image{suffix}", layout=layout)
    assert file_tree(tmp_path / "array") == file_tree(tmp_path / "function")


@pytest.mark.parametrize("dtype", ["uint16", "float32", "int32", "bool"])
def test_other_dtypes_are_reduced_as_those_of_arrays(dtype: str) -> None:
    values = noise(90, 300, 1)
    pixels = (values * 7.0 / 1785 if dtype == "float32" else values).astype(dtype)
    from_array = [*fasttile.iter_tiles(pixels)]
    from_function = [*fasttile.iter_tiles(drawing(pixels))]
    for (tile, own), (expected_tile, expected) in zip(from_function, from_array, strict=True):
        assert tile == expected_tile
        assert own.tobytes() == expected.tobytes()


def test_on_demand_only_the_region_of_a_tile_is_drawn() -> None:
    pixels, regions = noise(3000, 4000, 3), []

    def draw(region: Region) -> Any:
        regions.append(region)
        return pixels[region.y : region.bottom, region.x : region.right]

    with fasttile.open_pyramid(fasttile.from_function(draw, 4000, 3000)) as pyramid:
        tile = pyramid.pixels(12, 5, 4)
    assert tile is not None
    assert (tile == pixels[4 * 254 - 1 : 5 * 254 + 1, 5 * 254 - 1 : 6 * 254 + 1]).all()
    assert len(regions) == 4
    assert all(region.width <= 256 and region.height <= 256 for region in regions)


LAYOUTS = ["dzi", "zoomify", "zoomify:rounding=floor", "xyz:centre", "tms", "gsiv", "tiff"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_level_is_drawn_by_itself(layout: str, tmp_path: Path) -> None:
    for width, height in ((1, 1), (300, 200), (77, 333)):
        source = fasttile.from_function(draw_places, width, height, per_level=True)
        options: dict[str, Any] = {"layout": layout, "tile_size": 64}
        options["format"] = "deflate" if layout == "tiff" else "png"
        suffix = {"dzi": ".dzi", "tiff": ".tif"}.get(layout, "")
        place = tmp_path / f"{width}" / f"image{suffix}"
        result_path = fasttile.cut(source, place, **options).path
        tiles = dict(fasttile.iter_tiles(source, **options))
        with (
            fasttile.open_pyramid(source, **options) as pyramid,
            open_result(result_path) as result,
        ):
            for level in result.pyramid.stored_levels:
                scales = set()
                for tile in level.tiles():
                    expected = result.pixels(*tile)
                    assert expected is not None
                    for own in (pyramid.pixels(*tile), tiles[tile]):
                        assert own is not None
                        assert own.tobytes() == expected.tobytes(), (layout, tile)
                    assert pyramid.tile(*tile) == result.tile(*tile) or layout == "tiff"
                    scales |= {*expected[..., 2].flat}
                exponent = result.pyramid.downscale_exponent(level.number)
                assert scales - {255} == {exponent + 1}


def test_a_drawn_level_begins_at_the_place_of_the_image() -> None:
    source = fasttile.from_function(draw_places, 100, 60, per_level=True)
    with fasttile.open_pyramid(source, layout="tms", tile_size=64, format="png") as pyramid:
        for number in pyramid.pyramid.stored_range:
            place = pyramid.pyramid.placement(number)
            level = pyramid.pyramid.levels[number]
            tiles = {(tile.col, tile.row): pyramid.pixels(*tile) for tile in level.tiles()}
            assert place.right <= level.width
            assert place.bottom <= level.height
            tile = tiles[place.x // 64, place.y // 64]
            assert tile is not None
            assert [*tile[place.y % 64, place.x % 64][:2]] == [0, 0]
            if place.y % 64:
                assert (tile[place.y % 64 - 1] == 255).all()


def test_a_level_is_drawn_at_the_scale_of_its_pixels() -> None:
    calls = set()

    def draw(region: Region, scale: int) -> Any:
        calls.add((region, scale))
        return np.zeros((region.height, region.width, 3), np.uint8)

    source = fasttile.from_function(draw, 500, 300, per_level=True)
    with fasttile.open_pyramid(source) as pyramid:
        for _ in range(2):
            pyramid.tile(0, 0, 0), pyramid.tile(8, 0, 0), pyramid.tile(9, 1, 1)
    assert calls == {
        (Region(0, 0, 1, 1), 512),
        (Region(0, 0, 250, 150), 2),
        (Region(253, 253, 247, 47), 1),
    }


def test_a_tile_is_drawn_once_for_many_threads() -> None:
    calls, started = [], threading.Barrier(8)

    def draw(region: Region, scale: int) -> Any:
        calls.append(scale)
        return draw_places(region, scale)

    source = fasttile.from_function(draw, 200, 200, per_level=True)
    with fasttile.open_pyramid(source) as pyramid:

        def read() -> None:
            started.wait(30)
            pyramid.tile(8, 0, 0)

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert calls == [1]


def test_the_window_applies_to_drawn_levels() -> None:
    def draw(region: Region, scale: int) -> Any:
        return np.full((region.height, region.width), scale, np.float32)

    source = fasttile.from_function(draw, 512, 8, 1, dtype="float32", per_level=True)
    with fasttile.open_pyramid(source, window=(0, 255)) as pyramid:
        values = {number: pyramid.pixels(number, 0, 0) for number in range(10)}
    for number, pixels in values.items():
        assert pixels is not None
        assert set(pixels.flat) == {min(255, 2 ** (9 - number))}


def test_a_function_may_use_its_array_again() -> None:
    memory = np.empty((64, 64, 3), np.uint8)

    def draw(region: Region, scale: int) -> Any:
        memory[:] = scale
        return memory[: region.height, : region.width]

    source = fasttile.from_function(draw, 64, 64, per_level=True)
    with fasttile.open_pyramid(source) as pyramid:
        first = pyramid.tile(6, 0, 0)
        assert pyramid.tile(5, 0, 0) != first
        assert pyramid.tile(6, 0, 0) == first


SIDE = 2**40


def test_a_function_of_2_to_the_40_pixels_a_side() -> None:
    source = fasttile.from_function(draw_places, SIDE, SIDE, per_level=True)
    for layout in ("dzi", "xyz", "zoomify", "iiif3:id=https://example.org/image"):
        with fasttile.open_pyramid(source, layout=layout, format="png") as pyramid:
            assert pyramid.level_count == 41
            assert pyramid.level_sizes[-1] == (SIDE, SIDE)
            cols, rows = pyramid.level_tiles[-1]
            last = pyramid.pixels(40, cols - 1, rows - 1)
            assert last is not None
            assert [*last[-1, -1]] == [(SIDE - 1) % 251, (SIDE - 1) % 241, 1]
            number = pyramid.pyramid.stored_range[0]
            small = pyramid.pixels(number, 0, 0)
            assert small is not None
            assert (small[..., 2] == 41 - number).all()


def test_a_huge_function_is_not_cut_but_its_small_levels_are(tmp_path: Path) -> None:
    source = fasttile.from_function(draw_places, SIDE, SIDE, per_level=True, name="deep")
    advice = r"deep: a cut would draw [\d,]+ pixels, more than the limit .*; look at it"
    with pytest.raises(FasttileError, match=advice):
        fasttile.cut(source, tmp_path / "a.dzi")
    with pytest.raises(FasttileError, match=advice):
        next(fasttile.iter_tiles(source))
    assert not [*tmp_path.iterdir()]
    assert fasttile.cut(source, tmp_path / "a.dzi", levels="0-9").width == 512
    with pytest.raises(FasttileError, match=r"more than the limit \(9,999\)"):
        fasttile.cut(drawing(noise(100, 100, 3)), tmp_path / "b.dzi", max_pixels=9999)
    plain = fasttile.from_function(lambda _: None, SIDE, SIDE)
    with (
        fasttile.open_pyramid(plain) as pyramid,
        pytest.raises(FasttileError, match=r"a tile of level 7 needs .* pixels of the funct"),
    ):
        pyramid.tile(7, 0, 0)
    with pytest.raises(FasttileError, match="too wide"):
        fasttile.open_pyramid(fasttile.from_function(lambda _: None, SIDE, 9, 1, dtype="float32"))


def fail(region: Region, *scale: int) -> Any:
    if region.y >= 100:
        raise ValueError("no\nplace")
    return np.zeros((region.height, region.width, 3), np.uint8)


FAULTS = [
    (fail, r"cannot be drawn: ValueError: no; correct the function"),
    (lambda region, *_: None, r"the function gave the shape \(\) for region"),
    (lambda region, *_: np.zeros((9, 9, 3), np.uint8), r"gave the shape \(9, 9, 3\) for region"),
    (lambda region, *_: np.zeros((*region[:1:-1], 3)), r"gave float64 for region .*; expected uin"),
    (lambda region, *_: np.zeros((*region[:1:-1], 4), np.uint8), r"expected \(\d+, \d+, 3\)"),
    (lambda: None, "cannot be drawn: TypeError"),
]


@pytest.mark.parametrize("per_level", [False, True])
@pytest.mark.parametrize(("draw", "message"), FAULTS)
def test_a_fault_of_the_function_is_one_line(
    draw: Any, message: str, per_level: bool, tmp_path: Path
) -> None:
    source = fasttile.from_function(draw, 300, 300, per_level=per_level, name="plot")
    with pytest.raises(fasttile.SourceError, match=f"^plot: .*{message}") as caught:
        fasttile.cut(source, tmp_path / "a.dzi")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError | TypeError | None)
    assert (caught.value.__cause__ is None) == ("cannot be drawn" not in message)
    assert not [*tmp_path.iterdir()]
    with fasttile.open_pyramid(source) as pyramid:
        for _ in range(2):
            with pytest.raises(fasttile.SourceError, match=message):
                pyramid.tile(9, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 4, 4), "function: a int is not a function"),
        ((len, 0, 4), "len: width 0; expected a whole number from 1 to 2^40"),
        ((len, 4, 2.5), "len: height 2.5; expected"),
        ((len, 4, SIDE + 1), "len: height 1099511627777; expected"),
        ((len, 4, 4, 5), "len: bands 5; expected a whole number from 1 to 4"),
    ],
)
def test_arguments_that_cannot_be_used(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(fasttile.OptionError) as caught:
        fasttile.from_function(*arguments)
    assert str(caught.value).startswith(message)


def test_dtypes_and_regions_that_cannot_be_used() -> None:
    for dtype in ("object", "complex64", "nothing"):
        with pytest.raises(fasttile.OptionError, match=r"^len: dtype"):
            fasttile.from_function(len, 4, 4, dtype=dtype)
    source = fasttile.from_function(draw_places, 99, 99, per_level=True)
    with pytest.raises(fasttile.OptionError, match="each level is drawn by itself"):
        fasttile.open_pyramid(source, region=(0, 0, 5, 5))
    pixels = noise(99, 99, 3)
    with fasttile.open_pyramid(drawing(pixels), region=(7, 8, 20, 30), format="png") as pyramid:
        tile = pyramid.pixels(5, 0, 0)
        assert tile is not None
        assert (tile == pixels[8:38, 7:27]).all()
