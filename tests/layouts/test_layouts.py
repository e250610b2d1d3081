"""Paths of each layout's tiles, by the formats' specifications; no two tiles share one."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fasttile.abc.layout import Layout
from fasttile.errors import OptionError
from fasttile.geometry import Tile
from fasttile.layouts import LAYOUTS, LayoutSpec, iiif
from fasttile.layouts.tms import Tms
from fasttile.layouts.xyz import Gsiv, TileCache, Xyz, ZoomLayout, quadkey
from fasttile.layouts.zoomify import Zoomify

ADDRESS = "https://example.org/iiif/{name}"
SPELLINGS = [
    "dzi",
    "zoomify",
    "zoomify:rounding=ceil",
    "zoomify:group=tile-size",
    "xyz",
    "xyz:centre",
    "xyz:template={z}/{y}/{x}",
    "xyz:template={z}-{x}-{y}",
    "xyz:template=tiles/{quadkey}",
    "xyz:scale=2",
    "xyz:template={quadkey},scale=2",
    "tms",
    "tilecache",
    "gsiv",
    "gsiv:centre=no",
    f"iiif2:id={ADDRESS}",
    f"iiif2:id={ADDRESS},thumbnails=1+2+3+5+8",
    f"iiif3:id={ADDRESS},thumbnails=1+2+3+5+8",
    f"iiif3:id={ADDRESS}",
]


def layout_of(spelling: str, width: int, height: int, **options: object) -> Layout:
    return LayoutSpec.parse(spelling).bind("map", width, height, "jpg", **options)


def tile_paths(layout: Layout, zoom: int) -> list[str]:
    """The paths of a level's tiles, line by line, without root and ending."""
    level = layout.pyramid.levels[layout.base_level + zoom]
    start, end = len(layout.root) + 1, -len(layout.extension) - 1
    return [layout.path(tile)[start:end] for tile in level.tiles()]


# ---- Zoomify -----------------------------------------------------------------------------------


def test_zoomify_of_a_known_image() -> None:
    # What Zoomify's own converter made of it: iipsrv issue 86.
    layout = Zoomify.from_size("map", 6488, 8213, "jpg")
    (text,) = layout.descriptors().values()
    assert b'WIDTH="6488" HEIGHT="8213" NUMTILES="1169"' in text
    levels = layout.pyramid.stored_levels
    assert [(level.width, level.height) for level in levels] == [
        (202, 256), (405, 513), (811, 1026), (1622, 2053), (3244, 4106), (6488, 8213),
    ]  # fmt: skip
    assert [(level.cols, level.rows) for level in levels] == [
        (1, 1), (2, 3), (4, 5), (7, 9), (13, 17), (26, 33),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("tier", "col", "row", "group"),
    [
        # 1, 6, 20 and 63 tiles come before tier 4, so that 90 + 16 * 13 + 12 = 310 is its last.
        (0, 0, 0, 0),
        (1, 0, 0, 0),
        (4, 0, 0, 0),
        (4, 9, 12, 0),  # 90 + 12 * 13 + 9 = 255
        (4, 10, 12, 1),  # 256
        (4, 12, 16, 1),  # 310
        (5, 0, 0, 1),  # 311
        (5, 18, 7, 1),  # 311 + 7 * 26 + 18 = 511
        (5, 19, 7, 2),
        (5, 25, 32, 4),  # 1168
    ],
)
def test_zoomify_groups(tier: int, col: int, row: int, group: int) -> None:
    layout = Zoomify.from_size("map", 6488, 8213, "jpg")
    tile = Tile(layout.base_level + tier, col, row)
    assert layout.path(tile) == f"map/TileGroup{group}/{tier}-{col}-{row}.jpg"


def test_zoomify_rounding_up_makes_other_tiles() -> None:
    layout = Zoomify.from_size("map", 6488, 8213, "jpg", rounding="ceil")
    (text,) = layout.descriptors().values()
    assert b'NUMTILES="1171"' in text
    # libvips: 513×256 are 6 tiles in 3 tiers; the old scripts make 4 in 2.
    assert Zoomify.from_size("map", 513, 256, "jpg", rounding="ceil").pyramid.tile_count == 6
    assert Zoomify.from_size("map", 513, 256, "jpg").pyramid.tile_count == 4


def tier_sizes(side: int, *, up: bool) -> list[int]:
    """The sides of all tiers, by halving until it fits."""
    sides = [side]
    while sides[0] > 256:
        sides.insert(0, (sides[0] + (1 if up else 0)) // 2)
    return sides


@pytest.mark.parametrize("side", [513, *range(1025, 1028), *range(2049, 2056)])
def test_zoomify_sides_with_one_tier_more_when_rounded_up(side: int) -> None:
    floor, ceil = (
        Zoomify.from_size("map", side, 1, "jpg", rounding=rounding).pyramid.stored_levels
        for rounding in ("floor", "ceil")
    )
    assert len(ceil) == len(floor) + 1


def test_zoomify_tiers_of_all_sides() -> None:
    for side in range(1, 2100):
        for rounding in ("floor", "ceil"):
            layout = Zoomify.from_size("map", side, 1, "jpg", rounding=rounding)
            assert [level.width for level in layout.pyramid.stored_levels] == tier_sizes(
                side, up=rounding == "ceil"
            )
            assert layout.path(Tile(layout.base_level, 0, 0)) == "map/TileGroup0/0-0-0.jpg"


def test_zoomify_of_1537_pixels() -> None:
    floor, ceil = (
        Zoomify.from_size("map", 1537, 256, "jpg", rounding=rounding).pyramid.stored_levels
        for rounding in ("floor", "ceil")
    )
    assert (floor[-2].width, ceil[-2].width) == (768, 769)
    assert (floor[-2].cols, ceil[-2].cols) == (3, 4)


def test_zoomify_groups_count_by_256_for_any_tile_size() -> None:
    layout = Zoomify.from_size("map", 64, 64, "jpg", tile_size=2)  # 32×32 tiles on top of 341
    assert layout.path(Tile(6, 0, 0)) == "map/TileGroup1/5-0-0.jpg"
    assert layout.path(Tile(6, 11, 5)) == "map/TileGroup2/5-11-5.jpg"  # 341 + 171 = 512


def test_zoomify_groups_of_as_many_tiles_as_a_tile_has_pixels() -> None:
    layout = Zoomify.from_size("map", 64, 64, "jpg", tile_size=2, group="tile-size")
    assert layout.path(Tile(6, 0, 0)) == "map/TileGroup170/5-0-0.jpg"  # 341 // 2
    assert layout.path(Tile(6, 31, 31)) == "map/TileGroup682/5-31-31.jpg"  # 1364 // 2
    for tile in layout.pyramid.tiles():
        assert layout.tile_at(layout.path(Tile(*tile))) == tile
    assert layout.tile_at("map/TileGroup1/5-0-0.jpg") is None
    usual = Zoomify.from_size("map", 6488, 8213, "jpg", group="tile-size")
    tile = Tile(usual.base_level + 5, 19, 7)
    assert usual.path(tile) == "map/TileGroup2/5-19-7.jpg"


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 9000), st.integers(1, 9))
@settings(deadline=None)
def test_samples_of_groups_are_tiles_of_different_paths(
    tile_size: int, height: int, width: int, count: int
) -> None:
    one, other = (
        Zoomify.from_size("map", width, height, "jpg", tile_size=tile_size, group=group)
        for group in ("256", "tile-size")
    )
    samples = one.group_samples(count)
    assert samples == other.group_samples(count)
    assert len(set(samples)) == len(samples) <= count
    assert all(one.path(tile) != other.path(tile) for tile in samples)
    # Without a sample, all tiles are in the first group, or the groups are the same.
    is_ambiguous = one.pyramid.tile_count > min(256, tile_size) and tile_size != 256
    assert bool(samples) == is_ambiguous


# ---- squares -----------------------------------------------------------------------------------


def test_xyz_counts_from_the_top() -> None:
    layout = Xyz.from_size("map", 1000, 600, "jpg")  # on 1024×1024 pixels
    assert tile_paths(layout, 0) == ["0/0/0"]
    assert tile_paths(layout, 1) == ["1/0/0", "1/1/0", "1/0/1", "1/1/1"]
    assert tile_paths(layout, 2) == [f"2/{x}/{y}" for y in range(3) for x in range(4)]


def test_xyz_in_the_middle_begins_where_the_image_does() -> None:
    layout = Xyz.from_size("map", 300, 100, "jpg", tile_size=64, centre=True)
    # 512 pixels a side: columns 106 to 405, rows 206 to 305.
    assert tile_paths(layout, 3) == [f"3/{x}/{y}" for y in (3, 4) for x in range(1, 7)]
    assert tile_paths(layout, 2) == [f"2/{x}/{y}" for y in (1, 2) for x in range(4)]
    assert tile_paths(layout, 1) == ["1/0/0", "1/1/0", "1/0/1", "1/1/1"]


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{z}/{x}/{y}", "2/3/1"),
        ("{z}/{y}/{x}", "2/1/3"),  # libvips' layout "google"
        ("{z}-{x}-{y}", "2-3-1"),  # Modest Maps
        ("z{z}/row {y}/col-{x}", "z2/row 1/col-3"),
        ("{quadkey}", "13"),
        ("{z}/{z}_{x}/{z}_{x}_{y}", "2/2_3/2_3_1"),
        ("{quadkey}.{z}", "13.2"),
        ("100%/{z}.{y}.{x}", "100%/2.1.3"),
    ],
)
def test_xyz_templates(template: str, name: str) -> None:
    layout = Xyz.from_size("map", 1000, 600, "jpg", template=template)
    assert layout.path(Tile(10, 3, 1)) == f"map/{name}.jpg"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{z}/{x}", "needs {z}, {x} and {y}"),
        ("{x}/{y}", "needs {z}, {x} and {y}"),
        ("", "needs {z}, {x} and {y}"),
        ("{z}/{x}/{y}/{s}", "{s} is none of"),
        ("{z}/{x}/{y}/{}", "{} is none of"),
        ("{z!r}/{x}/{y}", "{z!r} is none of"),
        ("{z}{x}/{y}", "between its fields"),
        ("{z}0{x}/{y}", "between its fields"),
        ("{z}/{x}1{y}", "between its fields"),
        ("{z}/{x}/{y}}", "brace"),
        ("{z}/{x}/{y}{", "brace"),
        ("../{z}/{x}/{y}", "no path below"),
        ("/{z}/{x}/{y}", "no path below"),
        ("{z}//{x}/{y}", "no path below"),
        ("{z}/./{x}/{y}", "no path below"),
        ("{z}\\{x}/{y}", "no path below"),
        ("{z}/{x}/{y}/", "no path below"),
        ("{z}\n{x}/{y}", "no path below"),
    ],
)
def test_refuses_a_template_with_one_path_for_two_tiles(template: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        Xyz.from_size("map", 10, 10, "jpg", template=template)
    assert message in str(caught.value)


def test_quadkeys() -> None:
    # Bing Maps Tile System: tile (3, 5) of level 3 is 213; level 1 reads 0 1 / 2 3.
    assert quadkey(3, 3, 5) == "213"
    assert [quadkey(1, x, y) for y in (0, 1) for x in (0, 1)] == ["0", "1", "2", "3"]
    assert quadkey(0, 0, 0) == ""
    for zoom in range(1, 6):
        for x, y in itertools.product(range(1 << zoom), repeat=2):
            digits = zip(f"{x:0{zoom}b}", f"{y:0{zoom}b}", strict=True)
            assert quadkey(zoom, x, y) == "".join(str(int(a) + 2 * int(b)) for a, b in digits)


def test_tms_counts_from_the_bottom_where_the_image_stands() -> None:
    layout = Tms.from_size("map", 1000, 600, "jpg")
    assert tile_paths(layout, 0) == ["0/0/0"]
    assert tile_paths(layout, 1) == ["1/0/1", "1/1/1", "1/0/0", "1/1/0"]
    assert tile_paths(layout, 2) == [f"2/{x}/{y}" for y in (2, 1, 0) for x in range(4)]
    # 600 rows above the bottom: the upper line of tiles has 600 - 512 = 88 of them.
    assert layout.pyramid.levels[-1].inset == (0, 256 - 88, 1000, 600)


def test_tms_zooms_are_those_of_gdal2tiles() -> None:
    for width, height in itertools.product((1, 255, 256, 257, 511, 512, 513, 5000), repeat=2):
        native = max(math.ceil(math.log2(side / 256)) for side in (width, height))
        layout = Tms.from_size("map", width, height, "png")
        assert layout.pyramid.stored_range[-1] - layout.base_level == max(0, native)


def test_tilecache_writes_three_digits_a_folder() -> None:
    layout = TileCache.from_size("map", 256 * 1_300_000, 300, "png")
    zoom = 21  # 2^21 tiles a side
    assert layout.pyramid.stored_range[-1] - layout.base_level == zoom
    tile = Tile(
        layout.pyramid.stored_range[-1], 1_234_567, 0
    )  # the upper of two lines at the bottom
    assert layout.path(tile) == "map/21/001/234/567/000/000/001.png"
    assert tile_paths(layout, 0) == ["00/000/000/000/000/000/000"]
    assert tile_paths(TileCache.from_size("map", 300, 300, "png"), 1) == [
        "01/000/000/000/000/000/001",
        "01/000/000/001/000/000/001",
        "01/000/000/000/000/000/000",
        "01/000/000/001/000/000/000",
    ]


def test_gsiv_has_all_tiles_of_its_square() -> None:
    layout = Gsiv.from_size("map", 1000, 10, "jpg")
    for zoom in range(3):
        count = range(1 << zoom)
        assert tile_paths(layout, zoom) == [f"tile-{zoom}-{x}-{y}" for y in count for x in count]
    # PanoJS' tilemaker centres.
    assert layout.pyramid.canvas.placement == (12, 507, 1000, 10)
    corner = Gsiv.from_size("map", 1000, 10, "jpg", centre=False)
    assert corner.pyramid.canvas.placement == (0, 0, 1000, 10)
    assert corner.pyramid.tile_count == 21


# ---- what all have in common -------------------------------------------------------------------


def all_paths(layout: Layout) -> dict[str, Tile | int]:
    """Each path, and the tile or the level whose image lies there; none is there twice."""
    found: dict[str, Tile | int] = {}
    for tile in layout.pyramid.tiles():
        for path in layout.paths(tile):
            assert path not in found, (path, tile, found[path])
            found[path] = tile
    for image in layout.whole_images():
        for path in image.paths:
            assert path not in found, (path, image, found[path])
            found[path] = image.level
    return found


@pytest.mark.parametrize("tile_size", [2, 4, 6])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_two_tiles_share_a_path(
    spelling: str, tile_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iiif, "MAX_LEVEL_IMAGE_SIDE", 9)
    for width, height in itertools.product((1, 2, 3, 4, 5, 9, 13, 17, 33), repeat=2):
        layout = layout_of(spelling, width, height, tile_size=tile_size)
        found = all_paths(layout)
        for path in (*found, *layout.descriptors()):
            parts = path.split("/")
            assert parts[0] == layout.root or path in layout.descriptors()
            assert "" not in parts
            assert not {".", ".."} & set(parts)
        assert not set(found) & set(layout.descriptors())


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_paths_lead_back_to_their_tiles(spelling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iiif, "MAX_LEVEL_IMAGE_SIDE", 9)
    for width, height in itertools.product((1, 2, 5, 9, 14, 33), repeat=2):
        for levels in (None, "0-0", "0-1"):
            if levels and max(width, height) <= 4:
                continue
            size = 2 if "scale=2" in spelling else 4  # of the smaller tiles
            layout = layout_of(spelling, width, height, tile_size=size, levels=levels)
            found = all_paths(layout)
            for tile in layout.pyramid.tiles():
                path = layout.path(tile)
                if layout.has_halves:
                    half = layout.half_path(tile)
                    assert half not in found
                    assert (layout.tile_of_half(half), layout.tile_at(half)) == (tile, None)
                    assert layout.tile_of_half(path) is None
                if layout.paths(tile):
                    assert layout.tile_at(path) == tile == found[path]
                else:  # an image of the next larger level is there
                    assert path in found
            for path in found:
                assert layout.tile_at(path) in (found[path], None)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_other_paths_lead_nowhere(spelling: str) -> None:
    layout = layout_of(spelling, 33, 21, tile_size=4)
    top = layout.pyramid.levels[-1]
    for tile in (Tile(top.number, 0, 0), Tile(top.number, top.cols - 1, top.rows - 1)):
        path = layout.path(tile)
        folder, _, name = path.rpartition("/")
        beside = [
            path[len(layout.root) + 1 :],
            f"other{path}",
            f"{path}.tmp",
            f"{folder}/.{name}",
            f"{folder}/+{name}",
            f"{folder}/0{name}",
            path.replace(".jpg", ".png"),
            path.replace(".jpg", ""),
            path.replace("1", "99999999999999999999"),
            f"{layout.root}/",
            layout.root,
            "",
        ]
        for other in beside:
            assert other == path or layout.tile_at(other) is None, other
    for path in layout.descriptors():
        assert layout.tile_at(path) is None


@given(
    spelling=st.sampled_from(SPELLINGS),
    width=st.integers(1, 2**30),
    height=st.integers(1, 2**30),
    half=st.integers(64, 500),
    data=st.data(),
)
@settings(max_examples=200, deadline=None)
def test_paths_of_large_images_lead_back(
    spelling: str, width: int, height: int, half: int, data: st.DataObject
) -> None:
    layout = layout_of(spelling, width, height, tile_size=2 * half)
    level = layout.pyramid.levels[data.draw(st.sampled_from(layout.pyramid.stored_range))]
    tile = Tile(
        level.number,
        data.draw(st.integers(0, level.cols - 1)),
        data.draw(st.integers(0, level.rows - 1)),
    )
    if layout.paths(tile):
        assert layout.tile_at(layout.path(tile)) == tile


@given(name=st.text(alphabet="0123456789/-_.,{}full tieTGroup{}", max_size=60))
def test_no_path_is_an_error(name: str) -> None:
    for spelling in SPELLINGS:
        layout = layout_of(spelling, 1000, 600)
        found = layout.tile_at(f"{layout.root}/{name}")
        assert found is None or layout.path(found) == f"{layout.root}/{name}"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_some_levels_have_the_paths_that_they_have_among_all(spelling: str) -> None:
    if spelling.startswith("iiif"):
        return  # without the largest level, all regions are those of a smaller image
    size = 32 if "scale=2" in spelling else 64  # of the smaller tiles
    complete = layout_of(spelling, 1000, 600, tile_size=size, overlap=0)
    for levels in ("0-2", "0-4", "1-3"):
        if levels == "1-3" and not complete.allows_missing_small_levels:
            continue
        part = layout_of(spelling, 1000, 600, tile_size=size, overlap=0, levels=levels)
        first, last = (int(number) for number in levels.split("-"))
        assert part.pyramid.stored_range == range(
            complete.base_level + first, complete.base_level + last + 1
        )
        for tile in part.pyramid.tiles():
            assert part.paths(tile) == complete.paths(tile)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_refuses_levels_that_are_not_there(spelling: str) -> None:
    with pytest.raises(OptionError, match="the image has levels 0 to"):
        layout_of(spelling, 1000, 600, levels="0-20")


def test_layouts_say_what_they_cannot_do() -> None:
    with pytest.raises(OptionError, match="Zoomify tiles do not overlap: overlap has to be 0"):
        Zoomify.from_size("map", 1000, 600, "jpg", overlap=1)
    with pytest.raises(OptionError, match="overlap 1 does not go with padding"):
        Tms.from_size("map", 1000, 600, "jpg", overlap=1)
    with pytest.raises(OptionError, match="no levels that are smaller than one tile"):
        Zoomify.from_size("map", 1000, 600, "jpg", levels="one-pixel")
    with pytest.raises(OptionError, match="has to have all of its smallest levels"):
        Zoomify.from_size("map", 1000, 600, "jpg", levels="1-2")
    with pytest.raises(OptionError, match="tile size 0"):
        Xyz.from_size("map", 1000, 600, "jpg", tile_size=0)
    with pytest.raises(OptionError, match="is odd"):
        Xyz.from_size("map", 1000, 600, "jpg", tile_size=255)
    with pytest.raises(OptionError, match=r"tile size 100: .* expected 96"):
        layout_of("tiff", 1000, 600, tile_size=100)
    with pytest.raises(OptionError, match="rounding 'even' is neither floor nor ceil"):
        layout_of("zoomify:rounding=even", 10, 10)
    with pytest.raises(OptionError, match="group '512' is neither 256 nor tile-size"):
        layout_of("zoomify:group=512", 10, 10)
    with pytest.raises(OptionError, match="layout 'deepzoom' is none of"):
        LayoutSpec.parse("deepzoom")
    with pytest.raises(OptionError, match="xyz has no parameter 'center'"):
        LayoutSpec.parse("xyz:center")


def test_every_kind_is_spelled_here() -> None:
    assert {spelling.partition(":")[0] for spelling in SPELLINGS} == set(LAYOUTS) - {"tiff"}
    squares = {
        kind for kind in LAYOUTS if issubclass(LayoutSpec.parse(kind).layout_type, ZoomLayout)
    }
    assert squares == {"xyz", "tms", "tilecache", "gsiv"}
