"""Tiles for a program: `sink` and `store`, and codecs and layouts as objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fasttile
from fasttile.abc.layout import Layout
from fasttile.errors import CancelledError, OptionError
from fasttile.geometry import Tile
from fasttile.options import format_parameters, parse_parameters
from support.reading import noise

IMAGE = noise(500, 700, 3)


class ListSink:
    """Keeps what it is given, in order."""

    def __init__(self) -> None:
        self.tiles: list[tuple[Tile, bytes]] = []
        self.ends: list[str] = []
        self.paths: list[str] = []

    def begin(self, layout: Layout) -> None:
        self.layout = layout

    def put(self, tile: Tile, data: bytes) -> None:
        self.tiles.append((tile, data))
        self.paths.append(self.layout.path(tile))

    def finish(self) -> None:
        self.ends.append("finish")

    def abort(self) -> None:
        self.ends.append("abort")


@pytest.mark.parametrize("layout", ["dzi", "zoomify", "xyz", "iiif3:id=https://example.org/x"])
def test_a_sink_gets_the_tiles_that_a_folder_gets(tmp_path: Path, layout: str) -> None:
    sink = ListSink()
    report = fasttile.cut(IMAGE, sink=sink, layout=layout, tile_size=128)
    dest = tmp_path / ("image.dzi" if layout == "dzi" else "image")
    fasttile.cut(IMAGE, dest, layout=layout, tile_size=128)
    assert sink.ends == ["finish"]
    assert (report.path, report.tiles) == (Path("image"), len(sink.tiles))
    assert report.tiles == sink.layout.pyramid.tile_count
    for path, (_, data) in zip(sink.paths, sink.tiles, strict=True):
        assert (tmp_path / path).read_bytes() == data
    again: list[tuple[Tile, bytes]] = []
    for threads in (1, 3):
        again.clear()
        fasttile.cut(
            IMAGE,
            store=lambda tile, data: again.append((tile, data)),
            layout=layout,
            tile_size=128,
            threads=threads,
        )
        assert again == sink.tiles


def test_an_exception_of_the_program_is_raised_as_it_is() -> None:
    class FullError(Exception):
        pass

    class FullSink(ListSink):
        def put(self, tile: Tile, data: bytes) -> None:
            if len(self.tiles) == 2:
                raise FullError(tile)
            super().put(tile, data)

    sink = FullSink()
    with pytest.raises(FullError):
        fasttile.cut(IMAGE, sink=sink, tile_size=64)
    assert (len(sink.tiles), sink.ends) == (2, ["abort"])

    def store(tile: Tile, data: bytes) -> None:
        raise FullError

    with pytest.raises(FullError):
        fasttile.cut(IMAGE, store=store)
    token, sink = fasttile.CancelToken(), FullSink()
    with pytest.raises(CancelledError):
        fasttile.cut(
            IMAGE, sink=sink, cancel=token, progress=lambda _: token.cancel(), tile_size=64
        )
    assert sink.ends == ["abort"]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (
            {"sink": object()},
            "sink <object .*>: it has no method put; expected an object with put,",
        ),
        ({"sink": ListSink}, "sink <class .*>: it has no method put"),
        ({"store": 7}, "store 7: expected a function of a tile and its bytes"),
        ({"store": print, "sink": ListSink()}, "sink and store: a cut has one of them"),
        ({"store": print, "dest": "a.dzi"}, "dest: the tiles go to sink or store; leave it out"),
        ({"store": print, "resume": True}, "resume: the tiles go to the program; leave it out"),
        ({"store": print, "viewer": "leaflet", "layout": "xyz"}, "viewer: the tiles go to the"),
        ({"store": print, "cancel": 7}, "cancel 7: expected a CancelToken"),
    ],
)
def test_sinks_that_cannot_be_used(keywords: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        fasttile.cut(IMAGE, **keywords)


PAIRS: list[tuple[str, Any, str]] = [
    ("format", fasttile.Jpeg(quality=85), "jpeg:quality=85"),
    ("format", fasttile.Jpeg(), "jpeg"),
    ("format", fasttile.Jpeg(progressive=True, subsampling="4:4:4"), ""),
    ("format", fasttile.Png(compress_level=9), "png:compress_level=9"),
    ("format", fasttile.Webp(lossless=True), "webp:lossless=yes"),
    (
        "layout",
        fasttile.Xyz(centre=True, template="{z}-{x},{y}"),
        r"xyz:template={z}-{x}\,{y},centre=yes",
    ),
    ("layout", fasttile.Xyz(), "xyz"),
    ("layout", fasttile.DeepZoom(json=True), "dzi:json=yes"),
    ("layout", fasttile.Zoomify(rounding="ceil"), "zoomify:rounding=ceil"),
    ("layout", fasttile.Gsiv(centre=False), "gsiv:centre=no"),
    ("layout", fasttile.Tms(), "tms"),
    ("layout", fasttile.TileCache(), "tilecache"),
    ("layout", fasttile.Iiif2(id="https://e.org/a"), "iiif2:id=https://e.org/a"),
    ("layout", fasttile.Iiif3(id="https://e.org/a,b"), r"iiif3:id=https://e.org/a\,b"),
]


@pytest.mark.parametrize(("name", "value", "text"), PAIRS)
def test_an_object_is_its_text(tmp_path: Path, name: str, value: Any, text: str) -> None:
    options = fasttile.CutOptions(**{name: value})
    kept = getattr(options, name)
    assert kept == (text or "jpeg:subsampling=4:4:4,progressive=yes")
    sinks = [ListSink(), ListSink()]
    for sink, given in zip(sinks, (value, kept), strict=True):
        fasttile.cut(IMAGE, sink=sink, **{name: given})
    assert sinks[0].tiles == sinks[1].tiles
    assert sinks[0].layout == sinks[1].layout


def test_an_object_makes_the_same_record_as_its_text(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGE)
    for value in (fasttile.Jpeg(quality=60), "jpeg:quality=60"):
        layout = fasttile.Xyz(centre=True) if value != "jpeg:quality=60" else "xyz:centre=yes"
        (result,) = fasttile.cut_all(
            [tmp_path / "a.npy"], tmp_path / "out", format=value, layout=layout, update=True
        )
    assert result.skipped, result.error
    assert fasttile.verify.verify(tmp_path / "out", tmp_path / "a.npy").is_complete


@pytest.mark.parametrize("value", [fasttile.Jpeg, 7, b"jpeg", object])
def test_other_objects_are_refused(value: Any) -> None:
    with pytest.raises(OptionError, match=r"expected a text, or an object such as fasttile\.Jpeg"):
        fasttile.CutOptions(format=value)


def test_a_comma_in_a_value() -> None:
    values = {"template": "{z},{x},{y}", "centre": False, "factor": 1.5}
    text = format_parameters("xyz", values)
    assert text == r"xyz:template={z}\,{x}\,{y},centre=no,factor=1.5"
    known = {"template": "str", "centre": "bool", "factor": "float"}
    assert parse_parameters("xyz", text.partition(":")[2], known) == values
    with pytest.raises(OptionError, match="xyz:factor=a is not a number"):
        parse_parameters("xyz", "factor=a", known)
