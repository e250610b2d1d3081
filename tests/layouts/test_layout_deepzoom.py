"""Deep Zoom's names and descriptor, read back by an XML parser."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fasttile.errors import OptionError
from fasttile.geometry import Canvas, Pyramid, Region, Tile
from fasttile.layouts.deepzoom import DeepZoom

XML_NAMESPACE = "{http://schemas.microsoft.com/deepzoom/2008}"

NAMES = [
    "map",
    "two words",
    " ",
    "it's",
    'a "quoted" one',
    "a&b<c>d",
    "-rf",
    "--help",
    ".hidden",
    "..",
    "with.dots.tif",
    "Übergröße 日本 🗺",
    "back\\slash",
    "name_files",
    "50%",
]


@given(
    width=st.integers(1, 2**40),
    height=st.integers(1, 2**40),
    tile_size=st.integers(2, 10_000),
    overlap=st.integers(0, 1),
    extension=st.sampled_from(["jpg", "jpeg", "png", "webp"]),
)
def test_descriptor_says_what_the_pyramid_is(
    width: int, height: int, tile_size: int, overlap: int, extension: str
) -> None:
    pyramid = Pyramid.from_size(width, height, tile_size=tile_size, overlap=overlap)
    image = ElementTree.fromstring(DeepZoom("map", pyramid, extension).descriptor_text().encode())
    assert image.tag == f"{XML_NAMESPACE}Image"
    assert image.attrib == {
        "Format": extension,
        "Overlap": str(overlap),
        "TileSize": str(tile_size),
    }
    (size,) = image
    assert size.tag == f"{XML_NAMESPACE}Size"
    assert size.attrib == {"Width": str(width), "Height": str(height)}


def test_descriptor_is_utf8_and_ends_its_last_line() -> None:
    text = DeepZoom("map", Pyramid.from_size(10, 10), "jpg").descriptor_text()
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n')
    assert text.endswith("</Image>\n")


@pytest.mark.parametrize("name", NAMES)
def test_paths_carry_the_name_unchanged(name: str) -> None:
    layout = DeepZoom(name, Pyramid.from_size(1000, 600), "png")
    assert layout.entry_point == name + ".dzi"
    assert layout.root == name + "_files"
    assert layout.path(Tile(10, 3, 2)) == name + "_files/10/3_2.png"


@pytest.mark.parametrize("name", NAMES)
def test_descriptor_does_not_depend_on_the_name(name: str) -> None:
    pyramid = Pyramid.from_size(1000, 600)
    assert (
        DeepZoom(name, pyramid, "jpg").descriptor_text()
        == DeepZoom("map", pyramid, "jpg").descriptor_text()
    )


def test_no_two_tiles_share_a_path() -> None:
    pyramid = Pyramid.from_size(300, 200, tile_size=9, overlap=2)
    layout = DeepZoom("map", pyramid, "jpg")
    assert len({layout.path(tile) for tile in pyramid.tiles()}) == pyramid.tile_count


@pytest.mark.parametrize("name", ["", "a/b", "/", "a\0b"])
def test_refuses_a_name_that_is_no_path_component(name: str) -> None:
    with pytest.raises(OptionError, match="is not one path component") as caught:
        DeepZoom(name, Pyramid.from_size(1, 1), "jpg")
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("extension", ["", ".jpg", "a/b", 'j"p', "j pg", "ümg"])
def test_refuses_an_ending_that_is_none(extension: str) -> None:
    with pytest.raises(OptionError, match="is not made of ASCII") as caught:
        DeepZoom("map", Pyramid.from_size(1, 1), extension)
    assert repr(extension) in str(caught.value)


def test_refuses_a_canvas_that_deep_zoom_cannot_say() -> None:
    with pytest.raises(OptionError, match="the canvas rounds down"):
        DeepZoom("map", Pyramid(Canvas(5, 5, rounding="down")), "jpg")
    padded = Pyramid(Canvas(8, 8, image=Region(0, 0, 8, 5)), 8, 0, first_level=3)
    with pytest.raises(OptionError, match=r"\(0, 0, 8, 5\) is not all of the canvas of 8×8"):
        DeepZoom("map", padded, "jpg")
