"""Deep Zoom pictures on disk for tests: written by the sink, read back without it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from fasttile.errors import FasttileError
from fasttile.geometry import Pyramid, Tile
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.sinks.directory import DirectorySink

MARK = ".fasttile-new"
"""The file that may stand among published tiles until the next run, after a kill."""

PYRAMIDS = {
    "old": (Pyramid.of(7, 3, tile_size=4, overlap=1), "png"),
    "new": (Pyramid.of(2, 3, tile_size=2, overlap=1), "png"),
    "next": (Pyramid.of(1, 2, tile_size=2, overlap=0), "jpg"),
}
"""Pictures of few tiles that differ in which they have: "old" has some where "new" has none."""


def layout_of(picture: str, target: Path) -> DeepZoom:
    return DeepZoom(target.name.removesuffix(".dzi"), *PYRAMIDS[picture])


def tile_bytes(picture: str, tile: Tile) -> bytes:
    return f"{picture} {tile}".encode()


def open_sink(picture: str, target: Path, *, overwrite: bool = False) -> DirectorySink:
    return DirectorySink(layout_of(picture, target), target, overwrite=overwrite)


def put_tiles(sink: DirectorySink, picture: str) -> None:
    for tile in PYRAMIDS[picture][0].tiles():
        sink.put(tile, tile_bytes(picture, tile))


def write(picture: str, target: Path, *, overwrite: bool = False) -> None:
    """Write a picture as cut.py does: whatever goes wrong, `abort` comes."""
    sink = open_sink(picture, target, overwrite=overwrite)
    try:
        put_tiles(sink, picture)
        sink.finish()
    except BaseException:
        sink.abort()
        raise


def try_to_write(picture: str, target: Path, *, overwrite: bool = False) -> str:
    """Write a picture; the error's text, or nothing."""
    try:
        write(picture, target, overwrite=overwrite)
    except FasttileError as error:
        return str(error)
    return ""


def standing(target: Path) -> str:
    """Which picture stands at the target, complete and without a foreign file, or "nothing".

    Raises:
        AssertionError: A descriptor stands there that does not tell the truth.
    """
    if not target.exists():
        return "nothing"
    (picture,) = (
        name for name in PYRAMIDS if layout_of(name, target).descriptor() == target.read_text()
    )
    folder = target.with_name(target.name.removesuffix(".dzi") + "_files")
    ElementTree.parse(target)  # it is whole
    found = {
        path.relative_to(target.parent).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if not path.is_dir() and path.name != MARK
    }
    layout = layout_of(picture, target)
    assert found == {
        layout.path(tile): tile_bytes(picture, tile) for tile in PYRAMIDS[picture][0].tiles()
    }
    return picture


def beside(target: Path) -> list[str]:
    """The names in the target's folder, and the mark if it is among the tiles."""
    folder = target.parent
    return sorted([path.name for path in folder.iterdir()] + [p.name for p in folder.rglob(MARK)])


def whole(target: Path) -> str:
    """Which picture stands at the target, and nothing else at all in its folder."""
    picture = standing(target)
    tiles = target.name.removesuffix(".dzi") + "_files"
    assert beside(target) == ([] if picture == "nothing" else sorted([target.name, tiles]))
    return picture
