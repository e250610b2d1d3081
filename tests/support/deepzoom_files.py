"""Images on disk for tests: written by the directory sink, read back without it.

The target's name decides which files are beside the tiles' folder: a target of Deep Zoom has one,
but `FULL` has four, and one without an ending has none, for the folder is all of it (Zoomify).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fasttile.abc.layout import Layout
from fasttile.errors import FasttileError
from fasttile.geometry import Pyramid, Tile
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.layouts.zoomify import Zoomify
from fasttile.sinks.folder import DirectorySink

NEW_TILES_MARKER = ".fasttile-new"
"""The file that may stand among published tiles until the next run, after a kill."""

DZI_TARGET, FOLDER_TARGET, FULL_TARGET = "a map.dzi", "a map", "full.dzi"
"""Targets with one, no and four files beside the tiles' folder; the last has a page and scripts."""

TEST_PYRAMIDS = {
    "old": (Pyramid.from_size(7, 3, tile_size=4, overlap=1), "png"),
    "new": (Pyramid.from_size(2, 3, tile_size=2, overlap=1), "png"),
    "next": (Pyramid.from_size(1, 2, tile_size=2, overlap=0), "jpg"),
}
"""Images of few tiles that differ in which they have: "old" has some where "new" has none."""


def layout_of(image: str, target: Path) -> Layout:
    return _cached_layout(image, target.name)


@cache
def _cached_layout(image: str, target: str) -> Layout:
    pyramid, extension = TEST_PYRAMIDS[image]
    if not target.endswith(".dzi"):
        return Zoomify.from_size(target, *pyramid.size, extension, tile_size=pyramid.tile_size)
    full = target == FULL_TARGET
    name = target.removesuffix(".dzi")
    return DeepZoom(name, pyramid, extension, json=full, jsonp=full)


def page_files(image: str, target: Path) -> dict[str, bytes]:
    """Files beside the tiles that are not the layout's."""
    return {"full.html": image.encode()} if target.name == FULL_TARGET else {}


def descriptor_files(image: str, target: Path) -> dict[str, bytes]:
    """All files that are not tiles."""
    return {**page_files(image, target), **layout_of(image, target).descriptors()}


def tile_bytes(image: str, tile: Tile) -> bytes:
    return f"{image} {tile}".encode()


def open_sink(image: str, target: Path, *, overwrite: bool = False) -> DirectorySink:
    files = page_files(image, target)
    return DirectorySink(layout_of(image, target), target, overwrite=overwrite, files=files)


def put_tiles(sink: DirectorySink, image: str, target: Path = Path(DZI_TARGET)) -> None:
    for tile in layout_of(image, target).pyramid.tiles():
        sink.put(tile, tile_bytes(image, tile))


def write(image: str, target: Path, *, overwrite: bool = False) -> None:
    """Write an image as a job does: after any error, call `abort`."""
    sink = open_sink(image, target, overwrite=overwrite)
    try:
        put_tiles(sink, image, target)
        sink.finish()
    except BaseException:
        sink.abort()
        raise


def try_to_write(image: str, target: Path, *, overwrite: bool = False) -> str:
    """Write an image; the error's text, or nothing."""
    try:
        write(image, target, overwrite=overwrite)
    except FasttileError as error:
        return str(error)
    return ""


def identify_result(target: Path) -> str:
    """Which image is at the target, complete and without a foreign file, or "nothing".

    Raises:
        AssertionError: A descriptor exists that is not true.
    """
    descriptors = {name: descriptor_files(name, target) for name in TEST_PYRAMIDS}
    beside = [path for path in descriptors["new"] if (target.parent / path).exists()]
    found = {
        image
        for path in beside
        for image, files in descriptors.items()
        if (target.parent / path).read_bytes() == files[path]
    }
    if not beside:
        return "nothing"
    (image,) = found
    layout = layout_of(image, target)
    root = f"{layout.root}/"
    tiles = {layout.path(tile): tile_bytes(image, tile) for tile in layout.pyramid.tiles()}
    tiles |= {path: data for path, data in descriptors[image].items() if path.startswith(root)}
    assert tiles == {
        path.relative_to(target.parent).as_posix(): path.read_bytes()
        for path in (target.parent / layout.root).rglob("*")
        if not path.is_dir() and path.name != NEW_TILES_MARKER
    }
    if not target.exists():
        return "nothing"
    assert beside == [*descriptors[image]]  # what is most important comes last, and goes first
    return image


def names_in_folder(target: Path) -> list[str]:
    """The names in the target's folder, and the mark if it is among the tiles."""
    folder = target.parent
    return sorted(
        [path.name for path in folder.iterdir()] + [p.name for p in folder.rglob(NEW_TILES_MARKER)]
    )


def identify_only_result(target: Path) -> str:
    """Which image is at the target, and nothing else at all in its folder."""
    image = identify_result(target)
    names: set[str] = set()
    if image != "nothing":
        paths = (layout_of(image, target).root, *descriptor_files(image, target))
        names = {path.partition("/")[0] for path in paths}
    assert names_in_folder(target) == sorted(names)
    return image
