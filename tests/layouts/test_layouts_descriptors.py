"""Descriptors: read back, they are the same layout; other files are an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fasttile.abc.layout import Layout
from fasttile.errors import SourceError
from fasttile.geometry import Tile
from fasttile.layouts import LayoutSpec, iiif, parse_tiles_json
from fasttile.layouts import tilejson as tilesjson
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.layouts.iiif import Iiif
from fasttile.layouts.tms import Tms
from fasttile.layouts.xyz import Xyz
from fasttile.layouts.zoomify import Zoomify

NAMES = [
    "map",
    "two words",
    " ",
    "it's",
    'a "quoted" one',
    "a&b<c>d",
    "]]>",
    "-rf",
    "--help",
    ".hidden",
    "with.dots.tif",
    "Übergröße 日本 🗺",
    "back\\slash",
    "50%",
    "{name}",
    "tab\tline\nend",
    "control \x01\x1f",
    b"latin-1: \xfc".decode("utf-8", "surrogateescape"),
]

PARSERS: dict[str, Callable[[str, str], Layout]] = {
    "dzi": DeepZoom.parse,
    "zoomify": lambda name, text: Zoomify.parse(name, text, "png"),
    "tms": Tms.parse,
    "xyz": parse_tiles_json,
    "tilecache": parse_tiles_json,
    "gsiv": parse_tiles_json,
    "iiif2": iiif.parse,
    "iiif3": iiif.parse,
}

SPELLINGS = [
    "dzi",
    "zoomify",
    "zoomify:rounding=ceil",
    "tms",
    "xyz",
    "xyz:centre",
    "xyz:template={z}-{x}-{y}",
    "tilecache",
    "gsiv",
    "gsiv:centre=no",
    "iiif2:id=https://example.org/i/map",
    "iiif3:id=https://example.org/i/map",
    "xyz:scale=2",
    "xyz:centre,scale=2,template={z}-{x}-{y}",
    "iiif2:id=https://example.org/i/map,thumbnails=33+90+501",
    "iiif3:id=https://example.org/i/map,thumbnails=33+90+501",
]


def extension_of(spelling: str) -> str:
    return "jpg" if spelling.startswith("iiif2") else "png"


def describe_layout(layout: Layout) -> tuple[str, str]:
    """Path and text of a layout's descriptor, the most important one."""
    *_, (path, data) = layout.descriptors().items()
    return path, data.decode()


def parse_layout(layout: Layout) -> Layout:
    """What is read in its descriptor."""
    return PARSERS[layout.type_name](layout.name, describe_layout(layout)[1])


# ---- there and back ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_any_name_survives(spelling: str, name: str) -> None:
    layout = LayoutSpec.parse(spelling).bind(name, 1025, 600, extension_of(spelling))
    path, _ = describe_layout(layout)
    assert parse_layout(layout) == layout
    if isinstance(layout, DeepZoom):
        assert path == f"{name}.dzi"
    else:
        assert path.startswith(f"{name}/")
        assert "/" not in path.removeprefix(f"{name}/")


@given(
    spelling=st.sampled_from(SPELLINGS),
    width=st.integers(1, 2**30),
    height=st.integers(1, 2**30),
    half=st.integers(40, 500),
)
@settings(max_examples=200, deadline=None)
def test_any_size_survives(spelling: str, width: int, height: int, half: int) -> None:
    choice = LayoutSpec.parse(spelling)
    extension = extension_of(spelling)
    layout = choice.bind("map", width, height, extension, tile_size=2 * half)
    found = parse_layout(layout)
    if isinstance(layout, Iiif):  # those of widths that this image gets are stated
        widths = {int(text) for text in layout.thumbnails.split("+") if text}
        stated = {int(text) for text in found.thumbnails.split("+") if text}
        levels = {level.width for level in layout.pyramid.stored_levels}
        assert stated == widths & {size[0] for size in layout.sizes} - levels
        assert found.sizes == layout.sizes
        found = replace(found, thumbnails=layout.thumbnails)
    if isinstance(layout, Zoomify) and layout.pyramid.tile_count == found.pyramid.tile_count:
        # Where both ways make as many tiles, nothing in the descriptor says which it was.
        found = replace(found, rounding=layout.rounding, pyramid=layout.pyramid)
    assert found == layout


@pytest.mark.parametrize("spelling", [*SPELLINGS[1:6], *SPELLINGS[7:10]])
def test_some_levels_survive(spelling: str) -> None:
    choice = LayoutSpec.parse(spelling)
    for levels in ("0-1", "0-0", "1-2"):
        if levels == "1-2" and not choice.layout_type.allows_missing_small_levels:
            continue
        layout = choice.bind("map", 1000, 600, "png", levels=levels)
        found = parse_layout(layout)
        # TMS and Zoomify describe a smaller image, whose tiles are these.
        assert found.pyramid.size == layout.pyramid.size
        shift = found.pyramid.stored_range[0] - layout.pyramid.stored_range[0]
        assert [found.paths(Tile(n + shift, x, y)) for n, x, y in layout.pyramid.tiles()] == [
            layout.paths(tile) for tile in layout.pyramid.tiles()
        ]
        assert [found.pyramid.region(tile)[2:] for tile in found.pyramid.tiles()] == [
            layout.pyramid.region(tile)[2:] for tile in layout.pyramid.tiles()
        ]


def test_zoomify_looks_at_tiles_if_their_number_is_ambiguous() -> None:
    # 1001×700: 12 + 4 + 1 tiles in either way, but tier 0 has 250 or 251 columns.
    for rounding, width in (("floor", 250), ("ceil", 251)):
        layout = Zoomify.from_size("map", 1001, 700, "png", rounding=rounding)
        (text,) = layout.descriptors().values()
        found = Zoomify.parse("map", text.decode(), "png", lambda size=(width, 175): size)
        assert found == layout


# ---- what viewers read there -------------------------------------------------------------------


def test_tilemapresource() -> None:
    layout = Tms.from_size("a <b> & 'c' \"d\"", 1000, 600, "jpg")
    path, text = describe_layout(layout)
    assert path == "a <b> & 'c' \"d\"/tilemapresource.xml"
    tile_map = ElementTree.fromstring(text.encode())
    assert tile_map.tag == "TileMap"
    assert tile_map.attrib == {
        "version": "1.0.0",
        "tilemapservice": "http://tms.osgeo.org/1.0.0",
    }
    tags = ["Title", "Abstract", "SRS", "BoundingBox", "Origin", "TileFormat", "TileSets"]
    assert [element.tag for element in tile_map] == tags
    title, abstract, srs, box, origin, form, sets = tile_map
    assert (title.text, abstract.text, srs.text) == (layout.name, None, None)
    assert box.attrib == {"minx": "0", "miny": "-600", "maxx": "1000", "maxy": "0"}
    assert origin.attrib == {"x": "0", "y": "-600"}
    assert form.attrib == {
        "width": "256",
        "height": "256",
        "mime-type": "image/jpeg",
        "extension": "jpg",
    }
    assert sets.attrib == {"profile": "raster"}
    assert [found.attrib for found in sets] == [
        {"href": "0", "units-per-pixel": "4", "order": "0"},
        {"href": "1", "units-per-pixel": "2", "order": "1"},
        {"href": "2", "units-per-pixel": "1", "order": "2"},
    ]


def test_image_properties() -> None:
    path, text = describe_layout(Zoomify.from_size("map", 1000, 600, "jpg"))
    assert path == "map/ImageProperties.xml"
    found = ElementTree.fromstring(text)
    assert found.tag == "IMAGE_PROPERTIES"
    assert found.attrib == {
        "WIDTH": "1000",
        "HEIGHT": "600",
        "NUMTILES": "17",
        "NUMIMAGES": "1",
        "VERSION": "1.8",
        "TILESIZE": "256",
    }


def test_deep_zoom_in_json_and_as_a_script() -> None:
    choice = LayoutSpec.parse("dzi:json,jsonp")
    layout = choice.bind("map_1", 1000, 600, "jpg")
    names = list(layout.descriptors())
    assert names == ["map_1.json", "map_1.js", "map_1.dzi"]
    texts = [data.decode() for data in layout.descriptors().values()]
    image = json.loads(texts[0])["Image"]
    assert image == {
        "xmlns": "http://schemas.microsoft.com/deepzoom/2008",
        "Url": "map_1_files/",
        "Format": "jpg",
        "Overlap": "1",
        "TileSize": "254",
        "Size": {"Width": "1000", "Height": "600"},
    }
    assert texts[1].startswith("map_1({")
    assert texts[1].endswith("});\n")
    plain = replace(layout, json=False, jsonp=False)
    for text in texts:
        assert DeepZoom.parse("map_1", text) == plain
    quoted = LayoutSpec.parse("dzi:json").bind('50% "x"', 10, 10, "jpg").descriptors()
    assert json.loads(quoted['50% "x".json'])["Image"]["Url"] == "50%25%20%22x%22_files/"


def test_tiles_json_is_tilejson() -> None:
    layout = Xyz.from_size("map", 1000, 600, "png", template="{z}/{y}/{x}")
    path, text = describe_layout(layout)
    assert path == "map/tiles.json"
    said = json.loads(text)
    assert said["tilejson"] == "3.0.0"
    assert said["tiles"] == ["{z}/{y}/{x}.png"]
    assert (said["scheme"], said["minzoom"], said["maxzoom"]) == ("xyz", 0, 2)
    # 1000 of 1024 pixels are 1000/1024 of 360 degrees; the equator is in the middle.
    west, south, east, north = said["bounds"]
    assert (west, east) == (-180, round(-180 + 360 * 1000 / 1024, 7))
    assert round(north, 3) == 85.051
    assert -85.05 < south < 0  # 600 rows reach below the equator, which is at 512
    assert said["fasttile"] == {
        "layout": "xyz",
        "width": 1000,
        "height": 600,
        "x": 0,
        "y": 0,
        "canvas": 1024,
        "tile_size": 256,
        "format": "png",
        "template": "{z}/{y}/{x}",
        "centre": False,
    }


def test_bounds_of_half_a_square() -> None:
    layout = Xyz.from_size("map", 512, 256, "png", centre=False)
    west, south, east, north = tilesjson.bounds(layout.pyramid)
    assert (west, east, south) == (-180, 180, 0)
    assert north == pytest.approx(85.0511287798)


# ---- others' -----------------------------------------------------------------------------------


@pytest.mark.parametrize("year", [2008, 2009])
def test_reads_deep_zoom_of_other_programs(year: int) -> None:
    text = (
        '\ufeff<?xml version="1.0"?>\r\n<Image TileSize="256" Overlap="2" Format="jpeg" '
        f'ServerFormat="Default" xmlns="http://schemas.microsoft.com/deepzoom/{year}">'
        "<DisplayRects/><Size Height='333' Width='444' /></Image>"
    )
    layout = DeepZoom.parse("map", text.removeprefix("\ufeff"))
    assert layout.pyramid.size == (444, 333)
    assert (layout.pyramid.tile_size, layout.pyramid.overlap) == (256, 2)
    assert layout.extension == "jpeg"


def test_reads_deep_zoom_in_json_of_other_programs() -> None:
    text = """
    {"Image": {"xmlns": "http://schemas.microsoft.com/deepzoom/2009", "Url": "/tiles/",
     "Format": "png", "Overlap": 0, "TileSize": 512, "Size": {"Height": 300, "Width": 400}}}
    """
    for script in (text, f"open({text})", f" app.images.show( {text} ) ;\n"):
        layout = DeepZoom.parse("map", script)
        assert layout.pyramid.size == (400, 300)
        assert layout.extension == "png"


def test_reads_a_tile_map_in_units_of_the_earth() -> None:
    # As gdal2tiles writes it for an image of 1000×600 pixels that are half a metre each.
    text = """<?xml version="1.0" encoding="utf-8"?>
    <TileMap version="1.0.0" tilemapservice="http://tms.osgeo.org/1.0.0">
      <Title>map.tif</Title><Abstract></Abstract><SRS>EPSG:32632</SRS>
      <BoundingBox minx="400000.0" miny="5000000.0" maxx="400500.0" maxy="5000300.0"/>
      <Origin x="400000.0" y="5000000.0"/>
      <TileFormat width="256" height="256" mime-type="image/png" extension="png"/>
      <TileSets profile="raster">
        <TileSet href="0" units-per-pixel="2.00000000000000" order="0"/>
        <TileSet href="1" units-per-pixel="1.00000000000000" order="1"/>
        <TileSet href="2" units-per-pixel="0.50000000000000" order="2"/>
      </TileSets>
    </TileMap>"""
    assert Tms.parse("map", text) == Tms.from_size("map", 1000, 600, "png")


# ---- what is none ------------------------------------------------------------------------------

NOT_DESCRIPTORS = [
    "",
    "{}",
    "[]",
    "null",
    '"map"',
    "{",
    "<",
    "<a/>",
    "<Image/>",
    '<Image xmlns="http://schemas.microsoft.com/deepzoom/2008"/>',
    "<IMAGE_PROPERTIES/>",
    "<TileMap/>",
    '{"Image": {}}',
    '{"Image": []}',
    '{"fasttile": {}}',
    '{"fasttile": []}',
    "[" * 100_000,
    '{"a":' * 100_000,
    "<a>" * 10_000,
    "\0",
    "&lol;",
]


@pytest.mark.parametrize("text", NOT_DESCRIPTORS)
@pytest.mark.parametrize("kind", PARSERS)
def test_what_is_no_descriptor_is_reported_in_one_line(kind: str, text: str) -> None:
    with pytest.raises(SourceError) as caught:
        PARSERS[kind]("map", text)
    assert "map" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "value", ["0", "-1", "1e9", "x", "", "9" * 5000, "1099511627777", "nan", "inf"]
)
@pytest.mark.parametrize("kind", ["dzi", "zoomify", "tms"])
def test_numbers_that_cannot_be(kind: str, value: str) -> None:
    layout = LayoutSpec.parse(kind).bind("map", 1234, 567, "png", tile_size=512)
    _, text = describe_layout(layout)
    for number in ("1234", "567", "512"):
        assert f'"{number}"' in text or f'"-{number}"' in text
        changed = text.replace(f'"{number}"', f'"{value}"').replace(f'"-{number}"', f'"{value}"')
        if (kind, number, value) in (("tms", "567", "-1"), ("dzi", "512", "1099511627777")):
            continue  # which can be
        if (kind, number) == ("tms", "1234") and value == "1e9":
            continue
        with pytest.raises(SourceError):
            PARSERS[kind]("map", changed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": "zoomify"}, "'zoomify' has a descriptor of its own"),
        ({"layout": "other"}, "layout 'other' is none of"),
        ({"layout": None}, "layout 'None' is none of"),
        ({"canvas": 1000}, "not a square of"),
        ({"canvas": None}, "NoneType"),
        ({"width": 5000}, "reaches beyond the canvas"),
        ({"x": -1}, "does not lie within"),
        ({"tile_size": 0}, "tile size 0"),
        ({"tile_size": -256}, "tile size -256"),
        ({"format": "a/b"}, "ASCII"),
        ({"template": "../{z}/{x}/{y}"}, "no path below"),
        ({"template": 7}, "expected string"),
        ({"cover": "all"}, "cover 'all'"),
        ({"scale": 3}, "levels 9 to 11 are not within"),
        ({"scale": 0}, "tile size 0"),
        ({"scale": "two"}, "invalid literal"),
        ({"scale": 2, "tile_size": 0.5}, "tile size 0"),
        ({"scale": 2**40}, "are not within"),
    ],
)
def test_tiles_json_that_is_damaged(change: dict[str, object], message: str) -> None:
    _, text = describe_layout(Xyz.from_size("map", 1000, 600, "png"))
    said = json.loads(text)
    said["fasttile"] |= change
    with pytest.raises(SourceError, match=message) as caught:
        parse_tiles_json("map", json.dumps(said))
    assert str(caught.value).startswith("tiles.json of map ")


def test_tiles_json_of_others() -> None:
    text = '{"tilejson": "3.0.0", "tiles": ["https://example.org/{z}/{x}/{y}.png"]}'
    with pytest.raises(SourceError, match="is not of fasttile"):
        parse_tiles_json("map", text)


@pytest.mark.parametrize("profile", ["mercator", "geodetic", "local"])
def test_a_tile_map_with_a_projection(profile: str) -> None:
    _, text = describe_layout(Tms.from_size("map", 1000, 600, "png"))
    with pytest.raises(SourceError, match=f"has the profile {profile}: only raster"):
        Tms.parse("map", text.replace('"raster"', f'"{profile}"'))


@given(
    spelling=st.sampled_from(SPELLINGS),
    start=st.integers(0, 1000),
    length=st.integers(0, 30),
    put=st.text(max_size=10),
)
@settings(max_examples=400, deadline=None)
def test_damaged_descriptors(spelling: str, start: int, length: int, put: str) -> None:
    layout = LayoutSpec.parse(spelling).bind("map", 1000, 600, extension_of(spelling))
    _, text = describe_layout(layout)
    start %= len(text)
    changed = text[:start] + put + text[start + length :]
    try:
        found = PARSERS[layout.type_name]("map", changed)
    except SourceError:
        return
    assert isinstance(found, Iiif) == isinstance(layout, Iiif)
