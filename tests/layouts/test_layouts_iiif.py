"""IIIF: every address that a client works out of `info.json` is a file, and the right one.

What OpenSeadragon and OpenLayers compute is written down here once more, from their sources, out
of nothing but the description. Addresses are those of Image API 2.1 and 3.0.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fasttile.errors import OptionError, SourceError
from fasttile.geometry import Tile
from fasttile.layouts import iiif
from fasttile.layouts.iiif import Iiif, Iiif2, Iiif3
from support.sampling import sampled

ID = "https://example.org/iiif/map"
VERSIONS: dict[int, type[Iiif]] = {2: Iiif2, 3: Iiif3}

Request = tuple[str, int, int, int]
"""An address below the identifier; scale factor, column and row of the tile that it is for."""


def make_layout(version: int, width: int, height: int, **options: Any) -> Iiif:
    return VERSIONS[version].from_size("map", width, height, "jpg", id=ID, **options)


def parse_info(layout: Iiif) -> dict[str, Any]:
    (path,) = layout.descriptors()
    assert path == "map/info.json"
    said: dict[str, Any] = json.loads(layout.descriptors()[path])
    return said


def tile_files(layout: Iiif) -> dict[str, Tile | int]:
    """What lies at each address: a tile, or the image of a level."""
    found: dict[str, Tile | int] = {}
    for tile in layout.pyramid.tiles():
        found |= {path.removeprefix("map/"): tile for path in layout.paths(tile)}
    for image in layout.whole_images():
        found |= {path.removeprefix("map/"): image.level for path in image.paths}
    return found


# ---- the clients -------------------------------------------------------------------------------


def openseadragon_requests(info: dict[str, Any]) -> Iterator[Request]:
    """What OpenSeadragon 6 asks for: IIIFTileSource.getTileUrl."""
    version = 3 if "/3/" in info["@context"] else 2
    width, height = info["width"], info["height"]
    (tiles,) = info["tiles"]
    side = tiles["width"]
    max_level = round(math.log2(max(tiles["scaleFactors"])))
    for level in range(max_level + 1):
        factor = 2 ** (max_level - level)
        level_width, level_height = math.ceil(width / factor), math.ceil(height / factor)
        for x, y in itertools.product(
            range(math.ceil(level_width / side)), range(math.ceil(level_height / side))
        ):
            if level_width < side and level_height < side:
                region = "full"
                if version == 2:
                    size = "full" if level_width == width else f"{level_width},"
                elif (level_width, level_height) == (width, height):
                    size = "max"
                else:
                    size = f"{level_width},{level_height}"
            else:
                left, top = x * side * factor, y * side * factor
                right, bottom = min(side * factor, width - left), min(side * factor, height - top)
                complete = (x, y, right, bottom) == (0, 0, width, height)
                region = "full" if complete else f"{left},{top},{right},{bottom}"
                size_w = min(side, level_width - x * side)
                size_h = min(side, level_height - y * side)
                if version == 2:
                    size = "full" if size_w == width else f"{size_w},"
                else:
                    size = "max" if (size_w, size_h) == (width, height) else f"{size_w},{size_h}"
            yield f"{region}/{size}/0/default.jpg", factor, x, y


def openlayers_requests(info: dict[str, Any]) -> Iterator[Request]:
    """What OpenLayers 10 asks for: ol/source/IIIF, where tiles are listed and no more."""
    version = 3 if "/3/" in info["@context"] else 2
    width, height = info["width"], info["height"]
    (tiles,) = info["tiles"]
    side = tiles["width"]
    for scale in tiles["scaleFactors"]:
        for x, y in itertools.product(
            range(math.ceil(width / scale / side)), range(math.ceil(height / scale / side))
        ):
            left, top = x * side * scale, y * side * scale
            region_w, region_h, size_w, size_h = side * scale, side * scale, side, side
            if left + region_w > width:
                region_w = width - left
                size_w = (width - left + scale - 1) // scale
            if top + region_h > height:
                region_h = height - top
                size_h = (height - top + scale - 1) // scale
            complete = (left, top, region_w, region_h) == (0, 0, width, height)
            region = "full" if complete else f"{left},{top},{region_w},{region_h}"
            size = f"{size_w},{size_h}" if version == 3 else f"{size_w},"
            yield f"{region}/{size}/0/default.jpg", scale, x, y


def assert_answered(layout: Iiif, requests: Iterator[Request]) -> None:
    """Each request finds a file, and that is the tile that it is for."""
    files, base = tile_files(layout), layout.pyramid.stored_range[-1]
    for address, factor, col, row in requests:
        tile = Tile(base - factor.bit_length() + 1, col, row)
        assert address in files, (layout, address)
        if f"map/{address}" in layout.paths(tile):
            assert files[address] == tile
        else:
            # A region of less than a pixel, whose address is that of the next larger image too.
            found = files[address]
            level = found if isinstance(found, int) else found.level
            assert level > tile.level
            assert layout.pyramid.region(tile).width == 1


@pytest.mark.slow
@pytest.mark.parametrize("tile_size", sampled([3, 4], [4]))
@pytest.mark.parametrize("version", sampled(VERSIONS, [3]))
def test_clients_find_every_tile_of_every_small_image(
    version: int, tile_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iiif, "MAX_LEVEL_IMAGE_SIDE", 9)
    for width, height in itertools.product(range(1, 27), repeat=2):
        layout = make_layout(version, width, height, tile_size=tile_size)
        info = parse_info(layout)
        assert_answered(layout, openlayers_requests(info))
        # Of images that are one pixel wide OpenSeadragon takes all levels for the full size.
        if (version, width) != (2, 1) or height <= tile_size:
            assert_answered(layout, openseadragon_requests(info))


@given(
    version=st.sampled_from([2, 3]),
    width=st.integers(2, 9_000),
    height=st.integers(1, 9_000),
    tile_size=st.sampled_from([200, 256, 512, 1000, 4096]),
    levels=st.sampled_from([None, "one-pixel"]),
)
@settings(max_examples=60, deadline=None)
def test_clients_find_every_tile(
    version: int, width: int, height: int, tile_size: int, levels: str | None
) -> None:
    layout = make_layout(version, width, height, tile_size=tile_size, levels=levels)
    info = parse_info(layout)
    assert_answered(layout, openseadragon_requests(info))
    assert_answered(layout, openlayers_requests(info))


# ---- the specification -------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_every_size_that_is_offered_is_there(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iiif, "MAX_LEVEL_IMAGE_SIDE", 9)
    for width, height in itertools.product(range(2, 27), repeat=2):
        layout = make_layout(version, width, height, tile_size=4)
        info, files = parse_info(layout), tile_files(layout)
        levels = {(level.width, level.height): level.number for level in layout.pyramid.levels}
        assert info["sizes"]
        largest = max(info["sizes"], key=lambda size: size["width"] * size["height"])
        for size in info["sizes"]:
            w, h = size["width"], size["height"]
            assert max(w, h) <= 9
            spelled = f"{w}," if version == 2 else f"{w},{h}"
            found = files[f"full/{spelled}/0/default.jpg"]
            level = found if isinstance(found, int) else found.level
            assert level == levels[w, h] or (w == 1 and version == 2 and level > levels[w, h])
            assert f"full/{w},{h}/0/default.jpg" in files
        # max is the largest of these, and full what it says.
        found = files["full/max/0/default.jpg"]
        level = found if isinstance(found, int) else found.level
        assert level == levels[largest["width"], largest["height"]]
        bounded = max(width, height) > 9
        offers = info if version == 3 else info["profile"][1]
        if bounded:
            assert offers["maxWidth"] == max(largest["width"], largest["height"])
            assert "full/full/0/default.jpg" not in files
        else:
            assert (largest["width"], largest["height"]) == (width, height)
            assert "maxWidth" not in offers
            assert ("full/full/0/default.jpg" in files) == (version == 2)


def test_the_description_of_version_2() -> None:
    assert parse_info(make_layout(2, 5000, 3000)) == {
        "@context": "http://iiif.io/api/image/2/context.json",
        "@id": ID,
        "protocol": "http://iiif.io/api/image",
        "width": 5000,
        "height": 3000,
        "profile": [
            "http://iiif.io/api/image/2/level0.json",
            {"formats": ["jpg"], "qualities": ["default"], "maxWidth": 1250},
        ],
        "tiles": [{"width": 512, "height": 512, "scaleFactors": [1, 2, 4, 8, 16]}],
        "sizes": [
            {"width": 313, "height": 188},
            {"width": 625, "height": 375},
            {"width": 1250, "height": 750},
        ],
    }


def test_the_description_of_version_3() -> None:
    assert parse_info(Iiif3.from_size("map", 700, 500, "webp", id=ID)) == {
        "@context": "http://iiif.io/api/image/3/context.json",
        "id": ID,
        "type": "ImageService3",
        "protocol": "http://iiif.io/api/image",
        "profile": "level0",
        "width": 700,
        "height": 500,
        "tiles": [{"width": 512, "height": 512, "scaleFactors": [1, 2]}],
        "sizes": [{"width": 350, "height": 250}, {"width": 700, "height": 500}],
        "preferredFormats": ["webp"],
        "extraFormats": ["webp"],
    }


@pytest.mark.parametrize(
    ("version", "tile", "addresses"),
    [
        (2, (10, 0, 0), ["0,0,512,512/512,"]),
        (2, (10, 1, 1), ["512,512,488,88/488,"]),
        (2, (9, 0, 0), ["full/500,", "0,0,1000,600/500,", "full/500,300"]),
        (3, (10, 1, 0), ["512,0,488,512/488,512"]),
        (3, (9, 0, 0), ["full/500,300", "0,0,1000,600/500,300"]),
    ],
)
def test_known_addresses(version: int, tile: tuple[int, int, int], addresses: list[str]) -> None:
    paths = make_layout(version, 1000, 600).paths(Tile(*tile))
    assert list(paths) == [f"map/{address}/0/default.jpg" for address in addresses]


def test_known_addresses_of_the_full_region() -> None:
    paths = [f"map/full/{size}/0/default.jpg" for size in ("1000,", "1000,600", "max", "full")]
    size = (10, 1000, 600)
    assert make_layout(2, 1000, 600).whole_images() == ((*size, tuple(paths)),)
    assert make_layout(3, 1000, 600).whole_images() == ((*size, (paths[1], paths[2])),)


def test_an_image_that_is_one_tile() -> None:
    two, three = make_layout(2, 400, 300), make_layout(3, 400, 300)
    (tile,) = two.pyramid.tiles()
    sizes = {2: ("400,", "full"), 3: ("400,300", "max")}
    for layout, version in ((two, 2), (three, 3)):
        found = {path.removesuffix("/0/default.jpg") for path in layout.paths(tile)}
        regions = ("map/full", "map/0,0,400,300")
        expected = {f"{region}/{size}" for region in regions for size in sizes[version]}
        assert found == expected | {"map/full/400,300", "map/full/max"}
    assert two.whole_images() == three.whole_images() == ()


def test_the_address_carries_the_name() -> None:
    layout = Iiif3.from_size("Über 50% & <1>", 10, 10, "jpg", id="https://example.org/i/{name}/")
    assert layout.base_url == "https://example.org/i/%C3%9Cber%2050%25%20%26%20%3C1%3E"


@pytest.mark.parametrize("address", ["", "map", "/iiif/map", "ftp://example.org/map", "https://"])
def test_refuses_an_address_that_is_none(address: str) -> None:
    with pytest.raises(OptionError, match="iiif2 needs the address"):
        Iiif2.from_size("map", 10, 10, "jpg", id=address)


@pytest.mark.parametrize("version", VERSIONS)
def test_reads_its_own_description(version: int) -> None:
    for width, height in itertools.product((1, 5, 511, 512, 513, 9000), repeat=2):
        for options in ({}, {"tile_size": 200}, {"levels": "one-pixel"}):
            layout = make_layout(version, width, height, **options)
            (text,) = layout.descriptors().values()
            assert iiif.parse("map", text.decode()) == layout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tiles": []}, "list index"),
        ({"tiles": [{"width": 512, "height": 256, "scaleFactors": [1]}]}, "not squares"),
        (
            {"tiles": [{"width": 512, "height": 512, "scaleFactors": [1, 4]}]},
            "2 scale factors are not 1, 2, 4",
        ),
        ({"tiles": [{"width": 512, "height": 512, "scaleFactors": [1] * 99}]}, "99 scale factors"),
        (
            {"tiles": [{"width": 512, "height": 512, "scaleFactors": []}]},
            "levels 11 to 10 are not within 0 to 10",
        ),
        ({"tiles": [{"width": 0, "height": 0, "scaleFactors": [1]}]}, "tile size 0"),
        ({"width": 0}, "canvas width 0"),
        ({"width": None}, "NoneType"),
        ({"@context": "http://iiif.io/api/image/1/context.json"}, "nothing of"),
        ({"profile": ["level0", "x"]}, "no attribute"),
        ({"@id": "map"}, "needs the address"),
    ],
)
def test_refuses_a_description_that_is_none(change: dict[str, Any], message: str) -> None:
    info = parse_info(make_layout(2, 1000, 600)) | change
    with pytest.raises(SourceError, match=message) as caught:
        iiif.parse("map", json.dumps(info))
    assert str(caught.value).startswith("info.json of map cannot be used: ")


# ---- thumbnails, formats, the largest width ----------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_thumbnails_are_sizes_with_files(version: int) -> None:
    layout = make_layout(version, 5000, 3000, thumbnails="400+90+200")
    info, files = parse_info(layout), tile_files(layout)
    assert [(size["width"], size["height"]) for size in info["sizes"]] == [
        *((90, 54), (200, 120), (313, 188), (400, 240), (625, 375), (1250, 750))
    ]
    for size, level in (("90,54", 9), ("90,", 9), ("400,240", 10), ("400,", 10), ("200,", 9)):
        assert files[f"full/{size}/0/default.jpg"] == level
    assert iiif.parse("map", layout.descriptors()["map/info.json"].decode()) == make_layout(
        version, 5000, 3000, thumbnails="90+200+400"
    )
    assert layout.notes == ()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_thumbnail_may_be_the_largest_complete_image(version: int) -> None:
    layout = make_layout(version, 5000, 3000, thumbnails="1600")
    info, files = parse_info(layout), tile_files(layout)
    offers = info if version == 3 else info["profile"][1]
    assert offers["maxWidth"] == 1600
    assert info["sizes"][-1] == {"width": 1600, "height": 960}
    image = layout.whole_images()[-1]
    assert (image.level, "map/full/max/0/default.jpg" in image.paths) == (12, True)
    assert files["full/max/0/default.jpg"] == 12


def test_thumbnails_that_an_image_does_not_get() -> None:
    # 200 is a level's width, 400 wider than the image, 90 higher than 2048 pixels.
    small = make_layout(3, 200, 9000, thumbnails="90+200+400")
    assert 90 not in {width for width, _ in small.sizes}
    (note,) = small.notes
    assert note.startswith("no thumbnail of width 90, 200, 400: the largest complete image is ")
    same = make_layout(3, 400, 300, thumbnails="400+200")
    assert same.sizes == ((200, 150), (400, 300))
    assert same.notes == ()


@pytest.mark.parametrize(
    "text", ["0", "90+", "+90", "90,200", "9x", "2049", "-5", "٩", "90 + 200", "+".join(["9"] * 17)]
)
def test_refuses_widths_that_are_none(text: str) -> None:
    with pytest.raises(OptionError, match="iiif3:thumbnails: "):
        make_layout(3, 1000, 600, thumbnails=text)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_largest_width_is_not_below_that_of_a_tile(version: int) -> None:
    sides = (1, 500, 1100, 2047, 2048, 2049, 4095, 4097, 5000, 9000)
    for width, height in itertools.product(sides, repeat=2):
        for tile_size in (256, 1024, 1025, 2048, 2500, 4096, 10_000):
            layout = make_layout(version, width, height, tile_size=tile_size)
            info = parse_info(layout)
            offers = info if version == 3 else info["profile"][1]
            limit = offers.get("maxWidth", max(width, height))
            assert limit >= min(tile_size, max(width, height))
            largest = info["sizes"][-1]
            assert limit == max(largest["width"], largest["height"])
            if tile_size <= 1024:
                assert limit <= iiif.MAX_LEVEL_IMAGE_SIDE


@pytest.mark.parametrize("extension", ["png", "webp", "avif", "jpeg"])
def test_level_0_requires_jpg(extension: str) -> None:
    with pytest.raises(OptionError, match=f"ask for jpg, not {extension}; use --format jpeg"):
        Iiif2.from_size("map", 100, 100, extension, id=ID)
    (note,) = Iiif3.from_size("map", 100, 100, extension, id=ID).notes
    assert note.startswith(f"tiles are {extension}: viewers that know only what level 0 of IIIF")


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("https://h/{name}?x=1", r"it has an unescaped '\?'"),
        ("https://h/{name}#x", "it has an unescaped '#'"),
        ("https://h/a b/{name}", "it has an unescaped ' '"),
        ("https://h/{ext}", "it has an unescaped '{'"),
        ("https://h:99999/{name}", "its port is not"),
        ("https://h:x/{name}", "its port is not"),
        ("https://user:secret@h/{name}", "it has a user's name"),
        ("https://{name}/x", "is part of the server's name"),
        ("https://[::1/{name}", "iiif3 needs the address"),
    ],
)
def test_addresses_that_no_path_can_follow(address: str, fault: str) -> None:
    with pytest.raises(OptionError, match=fault) as caught:
        Iiif3.from_size("map", 10, 10, "jpg", id=address)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["https://h:8080/é/{name}/", "http://[::1]/a%20b/{name}/{name}", "https://h/{name}/x"],
)
def test_addresses_of_all_kinds(address: str) -> None:
    layout = Iiif3.from_size("a b", 10, 10, "jpg", id=address)
    assert layout.base_url == address.replace("{name}", "a%20b").rstrip("/")
