"""All kinds of sinks that write results for tests, and what others find in those results."""

from __future__ import annotations

import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import tifffile
from pmtiles.reader import MmapSource, all_tiles

from fasttile.errors import FasttileError
from fasttile.geometry import Tile
from fasttile.layouts.base import Layout
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.layouts.tiff import Tiff
from fasttile.layouts.xyz import Xyz
from fasttile.layouts.zoomify import Zoomify
from fasttile.sinks.archive import ArchiveSink, scan_properties
from fasttile.sinks.directory import DirectorySink
from fasttile.sinks.mbtiles import MbtilesSink
from fasttile.sinks.pmtiles import PmtilesSink
from fasttile.sinks.tiff import Samples, TiffSink

SIZES = {"old": (700, 300), "new": (130, 600), "next": (1, 1)}
"""Width and height of the pictures, cut into tiles of 64 pixels."""

Found = dict[Tile, bytes]
"""The tiles of a result."""


def tile_bytes(picture: str, tile: Tile) -> bytes:
    """Up to 3 kB; few tiles have as many as another, and none has the same."""
    return f"{picture} {tile} ".encode() * (1 + (37 * tile.col + 11 * tile.row) % 101)


class Kind(NamedTuple):
    """A kind of sink.

    Attributes:
        target: What a result is called.
        layout: Of the tiles.
        extension: Of the tiles.
        open: Makes a sink of layout, target, and overwrite.
        read: Finds the tiles in a result of this layout.
    """

    target: str
    layout: type[Layout]
    extension: str
    open: Callable[..., Any]
    read: Callable[[Path, Any], Found]

    def layout_of(self, picture: str, target: Path) -> Layout:
        ending = "" if self.target == "a map" else Path(self.target).suffix
        name = target.name.removesuffix(ending)
        return self.layout.of(name, *SIZES[picture], self.extension, tile_size=64)

    def sink(self, picture: str, target: Path, *, overwrite: bool = False) -> Any:
        return self.open(self.layout_of(picture, target), target, overwrite=overwrite)

    def put_tiles(self, sink: Any, picture: str) -> None:
        """Put all tiles, the largest level first, as the walk does."""
        for level in reversed(self.layout_of(picture, Path(self.target)).pyramid.kept_levels):
            for tile in level.tiles():
                sink.put(tile, tile_bytes(picture, tile))

    def write(self, picture: str, target: Path, *, overwrite: bool = False) -> None:
        sink = self.sink(picture, target, overwrite=overwrite)
        try:
            self.put_tiles(sink, picture)
            sink.finish()
        except BaseException:
            sink.abort()
            raise

    def told(self, picture: str, target: Path, *, overwrite: bool = False) -> str:
        """Write a picture; the error's text, or nothing."""
        try:
            self.write(picture, target, overwrite=overwrite)
        except FasttileError as error:
            return str(error)
        return ""

    def standing(self, target: Path) -> str:
        """Which picture stands at the target, with each of its tiles, or "nothing"."""
        if not target.exists():
            return "nothing"
        for picture in SIZES:
            layout = self.layout_of(picture, target)
            try:
                found = self.read(target, layout)
            except KeyError:  # it has tiles of other names
                continue
            if found == {tile: tile_bytes(picture, tile) for tile in layout.pyramid.tiles()}:
                return picture
        raise AssertionError("it is none of these")

    def names(self, target: Path) -> list[str]:
        """The names of a result in its folder."""
        if self.open is not DirectorySink:
            return [target.name]
        return sorted({target.name, self.layout_of("next", target).root})


def _in_folder(target: Path, layout: Layout) -> Found:
    told = {target.parent / path: content for path, content in layout.descriptors().items()}
    found = {}
    for path in target.with_name(layout.root).rglob("*"):
        if path.is_file() and path not in told:
            tile = layout.tile_at(path.relative_to(target.parent).as_posix())
            if tile is None:
                raise KeyError(path)
            found[tile] = path.read_bytes()
    for path, content in told.items():
        if path.read_bytes() != content:
            raise KeyError(path)
    return found


def _in_archive(target: Path, layout: Layout) -> Found:
    szi = target.suffix == ".szi"
    prefix = f"{layout.name}/" if szi else ""
    told = {**(scan_properties(layout) if szi else {}), **layout.descriptors()}
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        found = {name: archive.read(name) for name in archive.namelist()}
    for path, content in told.items():
        if found.pop(prefix + path) != content:
            raise KeyError(path)
    tiles = {layout.path(tile): tile for tile in layout.pyramid.tiles()}
    return {tiles[name.removeprefix(prefix)]: data for name, data in found.items()}


def _open_szi(layout: Layout, target: Path, *, overwrite: bool) -> ArchiveSink:
    files, prefix = scan_properties(layout), f"{layout.name}/"
    return ArchiveSink(layout, target, overwrite=overwrite, files=files, prefix=prefix)


def _in_pmtiles(target: Path, layout: Xyz) -> Found:
    tiles = {layout.address(tile): tile for tile in layout.pyramid.tiles()}
    with target.open("rb") as file:
        return {tiles[address]: data for address, data in all_tiles(MmapSource(file))}


def _in_mbtiles(target: Path, layout: Xyz) -> Found:
    tiles = {layout.address_from_below(tile): tile for tile in layout.pyramid.tiles()}
    with closing(sqlite3.connect(f"{target.absolute().as_uri()}?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = database.execute("SELECT * FROM tiles")
        return {tiles[zoom, col, row]: data for zoom, col, row, data in rows}


def _in_tiff(target: Path, layout: Tiff) -> Found:
    found = {}
    with tifffile.TiffFile(target) as file:
        levels = layout.pyramid.kept_levels[::-1]
        if len(file.pages) != len(levels):
            raise KeyError("levels")
        for page, level in zip(file.pages, levels, strict=True):
            assert isinstance(page, tifffile.TiffPage)
            if page.shape[:2] != (level.inset.height, level.inset.width):
                raise KeyError("size")
            places = zip(page.dataoffsets, page.databytecounts, level.tiles(), strict=True)
            for offset, size, tile in places:
                file.filehandle.seek(offset)
                found[tile] = file.filehandle.read(size)
    return found


def _open_tiff(layout: Tiff, target: Path, *, overwrite: bool) -> TiffSink:
    return TiffSink(layout, target, overwrite=overwrite, samples=Samples(3))


KINDS = {
    "Deep Zoom": Kind("a map.dzi", DeepZoom, "png", DirectorySink, _in_folder),
    "Zoomify": Kind("a map", Zoomify, "jpg", DirectorySink, _in_folder),
    "zip": Kind("a map.zip", Zoomify, "jpg", ArchiveSink, _in_archive),
    "szi": Kind("a map.szi", DeepZoom, "png", _open_szi, _in_archive),
    "pmtiles": Kind("a map.pmtiles", Xyz, "webp", PmtilesSink, _in_pmtiles),
    "mbtiles": Kind("a map.mbtiles", Xyz, "png", MbtilesSink, _in_mbtiles),
    "tiff": Kind("a map.tif", Tiff, "deflate", _open_tiff, _in_tiff),
}


def try_to_write(picture: str, target: Path, *, overwrite: bool = False) -> str:
    """Write a picture as its target's ending says; the error's text, or nothing."""
    (kind,) = (kind for kind in KINDS.values() if Path(kind.target).suffix == target.suffix)
    return kind.told(picture, target, overwrite=overwrite)
