"""Pictures on disk for tests: written by the directory sink, read back without it.

What lies beside the tiles' folder, the target's name tells: a target of Deep Zoom has one file,
but `FULL` has four, and one without an ending has none, for the folder is all of it (Zoomify).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fasttile.errors import FasttileError
from fasttile.geometry import Pyramid, Tile
from fasttile.layouts.base import Layout
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.layouts.zoomify import Zoomify
from fasttile.sinks.directory import DirectorySink

MARK = ".fasttile-new"
"""The file that may stand among published tiles until the next run, after a kill."""

ONE, NONE, FULL = "a map.dzi", "a map", "full.dzi"
"""Targets with so many files beside the tiles' folder; the last one with a page and scripts."""

PYRAMIDS = {
    "old": (Pyramid.of(7, 3, tile_size=4, overlap=1), "png"),
    "new": (Pyramid.of(2, 3, tile_size=2, overlap=1), "png"),
    "next": (Pyramid.of(1, 2, tile_size=2, overlap=0), "jpg"),
}
"""Pictures of few tiles that differ in which they have: "old" has some where "new" has none."""


def layout_of(picture: str, target: Path) -> Layout:
    return _layout_named(picture, target.name)


@cache
def _layout_named(picture: str, target: str) -> Layout:
    pyramid, extension = PYRAMIDS[picture]
    if not target.endswith(".dzi"):
        return Zoomify.of(target, *pyramid.size, extension, tile_size=pyramid.tile_size)
    full = target == FULL
    name = target.removesuffix(".dzi")
    return DeepZoom(name, pyramid, extension, json=full, jsonp=full)


def page_of(picture: str, target: Path) -> dict[str, bytes]:
    """What stands beside the tiles and is none of the layout's."""
    return {"full.html": picture.encode()} if target.name == FULL else {}


def announced(picture: str, target: Path) -> dict[str, bytes]:
    """All files that are not tiles."""
    return {**page_of(picture, target), **layout_of(picture, target).descriptors()}


def tile_bytes(picture: str, tile: Tile) -> bytes:
    return f"{picture} {tile}".encode()


def open_sink(picture: str, target: Path, *, overwrite: bool = False) -> DirectorySink:
    files = page_of(picture, target)
    return DirectorySink(layout_of(picture, target), target, overwrite=overwrite, files=files)


def put_tiles(sink: DirectorySink, picture: str, target: Path = Path(ONE)) -> None:
    for tile in layout_of(picture, target).pyramid.tiles():
        sink.put(tile, tile_bytes(picture, tile))


def write(picture: str, target: Path, *, overwrite: bool = False) -> None:
    """Write a picture as a job does: whatever goes wrong, `abort` comes."""
    sink = open_sink(picture, target, overwrite=overwrite)
    try:
        put_tiles(sink, picture, target)
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
    told = {name: announced(name, target) for name in PYRAMIDS}
    beside = [path for path in told["new"] if (target.parent / path).exists()]
    found = {
        picture
        for path in beside
        for picture, files in told.items()
        if (target.parent / path).read_bytes() == files[path]
    }
    if not beside:
        return "nothing"
    (picture,) = found
    layout = layout_of(picture, target)
    root = f"{layout.root}/"
    tiles = {layout.path(tile): tile_bytes(picture, tile) for tile in layout.pyramid.tiles()}
    tiles |= {path: data for path, data in told[picture].items() if path.startswith(root)}
    assert tiles == {
        path.relative_to(target.parent).as_posix(): path.read_bytes()
        for path in (target.parent / layout.root).rglob("*")
        if not path.is_dir() and path.name != MARK
    }
    if not target.exists():
        return "nothing"
    assert beside == [*told[picture]]  # what is most important comes last, and goes first
    return picture


def beside(target: Path) -> list[str]:
    """The names in the target's folder, and the mark if it is among the tiles."""
    folder = target.parent
    return sorted([path.name for path in folder.iterdir()] + [p.name for p in folder.rglob(MARK)])


def whole(target: Path) -> str:
    """Which picture stands at the target, and nothing else at all in its folder."""
    picture = standing(target)
    names: set[str] = set()
    if picture != "nothing":
        paths = (layout_of(picture, target).root, *announced(picture, target))
        names = {path.partition("/")[0] for path in paths}
    assert beside(target) == sorted(names)
    return picture
