"""All kinds of sinks that write results for tests, and what others find in those results."""

from __future__ import annotations

import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import tifffile
from pmtiles.reader import MmapSource, all_tiles

from fasttile.abc.layout import Layout
from fasttile.errors import FasttileError
from fasttile.geometry import Tile
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.layouts.tiff import Tiff
from fasttile.layouts.xyz import Xyz
from fasttile.layouts.zoomify import Zoomify
from fasttile.sinks.archive import ArchiveSink, scan_properties
from fasttile.sinks.cog import CogSink
from fasttile.sinks.folder import DirectorySink
from fasttile.sinks.mbtiles import MbtilesSink
from fasttile.sinks.pmtiles import PmtilesSink
from fasttile.sinks.tiff import TiffSamples, TiffSink

IMAGE_SIZES = {"old": (700, 300), "new": (130, 600), "next": (1, 1)}
"""Width and height of the images, cut into tiles of 64 pixels."""

TileBytes = dict[Tile, bytes]
"""The tiles of a result."""


def tile_bytes(image: str, tile: Tile) -> bytes:
    """Up to 3 kB; few tiles have as many as another, and none has the same."""
    return f"{image} {tile} ".encode() * (1 + (37 * tile.col + 11 * tile.row) % 101)


class SinkKind(NamedTuple):
    """A kind of sink.

    Attributes:
        target: What a result is called.
        layout: Of the tiles.
        extension: Of the tiles.
        open: Makes a sink of layout, target, and overwrite.
        read: Finds the tiles in a result of this layout.
    """

    target: str
    layout_type: type[Layout]
    extension: str
    sink_factory: Callable[..., Any]
    tile_reader: Callable[[Path, Any], TileBytes]

    def layout_of(self, image: str, target: Path) -> Layout:
        ending = "" if self.target == "a map" else Path(self.target).suffix
        name = target.name.removesuffix(ending)
        return self.layout_type.from_size(name, *IMAGE_SIZES[image], self.extension, tile_size=64)

    def open_sink(self, image: str, target: Path, *, overwrite: bool = False) -> Any:
        return self.sink_factory(self.layout_of(image, target), target, overwrite=overwrite)

    def put_tiles(self, sink: Any, image: str) -> None:
        """Put all tiles, the largest level first, as the walk does."""
        for level in reversed(self.layout_of(image, Path(self.target)).pyramid.stored_levels):
            for tile in level.tiles():
                sink.put(tile, tile_bytes(image, tile))

    def write(self, image: str, target: Path, *, overwrite: bool = False) -> None:
        sink = self.open_sink(image, target, overwrite=overwrite)
        try:
            self.put_tiles(sink, image)
            sink.finish()
        except BaseException:
            sink.abort()
            raise

    def try_to_write(self, image: str, target: Path, *, overwrite: bool = False) -> str:
        """Write an image; the error's text, or nothing."""
        try:
            self.write(image, target, overwrite=overwrite)
        except FasttileError as error:
            return str(error)
        return ""

    def identify_result(self, target: Path) -> str:
        """Which image stands at the target, with each of its tiles, or "nothing"."""
        if not target.exists():
            return "nothing"
        for image in IMAGE_SIZES:
            layout = self.layout_of(image, target)
            try:
                found = self.tile_reader(target, layout)
            except KeyError:  # it has tiles of other names
                continue
            if found == {tile: tile_bytes(image, tile) for tile in layout.pyramid.tiles()}:
                return image
        raise AssertionError("it is none of these")

    def result_names(self, target: Path) -> list[str]:
        """The names of a result in its folder."""
        if self.sink_factory is not DirectorySink:
            return [target.name]
        return sorted({target.name, self.layout_of("next", target).root})


def _read_folder(target: Path, layout: Layout) -> TileBytes:
    descriptors = {target.parent / path: content for path, content in layout.descriptors().items()}
    found = {}
    for path in target.with_name(layout.root).rglob("*"):
        if path.is_file() and path not in descriptors:
            tile = layout.tile_at(path.relative_to(target.parent).as_posix())
            if tile is None:
                raise KeyError(path)
            found[tile] = path.read_bytes()
    for path, content in descriptors.items():
        if path.read_bytes() != content:
            raise KeyError(path)
    return found


def _read_archive(target: Path, layout: Layout) -> TileBytes:
    szi = target.suffix == ".szi"
    prefix = f"{layout.name}/" if szi else ""
    descriptors = {**(scan_properties(layout) if szi else {}), **layout.descriptors()}
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        found = {name: archive.read(name) for name in archive.namelist()}
    for path, content in descriptors.items():
        if found.pop(prefix + path) != content:
            raise KeyError(path)
    tiles = {layout.path(tile): tile for tile in layout.pyramid.tiles()}
    return {tiles[name.removeprefix(prefix)]: data for name, data in found.items()}


def _open_szi(layout: Layout, target: Path, *, overwrite: bool) -> ArchiveSink:
    files, prefix = scan_properties(layout), f"{layout.name}/"
    return ArchiveSink(layout, target, overwrite=overwrite, files=files, prefix=prefix)


def _read_pmtiles(target: Path, layout: Xyz) -> TileBytes:
    tiles = {layout.address(tile): tile for tile in layout.pyramid.tiles()}
    with target.open("rb") as file:
        return {tiles[address]: data for address, data in all_tiles(MmapSource(file))}


def _read_mbtiles(target: Path, layout: Xyz) -> TileBytes:
    tiles = {layout.address_from_bottom(tile): tile for tile in layout.pyramid.tiles()}
    with closing(sqlite3.connect(f"{target.absolute().as_uri()}?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = database.execute("SELECT * FROM tiles")
        return {tiles[zoom, col, row]: data for zoom, col, row, data in rows}


def _read_tiff(target: Path, layout: Tiff) -> TileBytes:
    found = {}
    with tifffile.TiffFile(target) as file:
        levels = layout.pyramid.stored_levels[::-1]
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
    return TiffSink(layout, target, overwrite=overwrite, samples=TiffSamples(3))


def _open_cog(layout: Tiff, target: Path, *, overwrite: bool) -> TiffSink:
    layout = replace(layout, cog=True)
    return CogSink(layout, target, overwrite=overwrite, samples=TiffSamples(3))


SINK_KINDS = {
    "Deep Zoom": SinkKind("a map.dzi", DeepZoom, "png", DirectorySink, _read_folder),
    "Zoomify": SinkKind("a map", Zoomify, "jpg", DirectorySink, _read_folder),
    "zip": SinkKind("a map.zip", Zoomify, "jpg", ArchiveSink, _read_archive),
    "szi": SinkKind("a map.szi", DeepZoom, "png", _open_szi, _read_archive),
    "pmtiles": SinkKind("a map.pmtiles", Xyz, "webp", PmtilesSink, _read_pmtiles),
    "mbtiles": SinkKind("a map.mbtiles", Xyz, "png", MbtilesSink, _read_mbtiles),
    "tiff": SinkKind("a map.tif", Tiff, "deflate", _open_tiff, _read_tiff),
    "cog": SinkKind("a map.tiff", Tiff, "deflate", _open_cog, _read_tiff),
}


def try_to_write(image: str, target: Path, *, overwrite: bool = False) -> str:
    """Write an image as its target's ending says; the error's text, or nothing."""
    (kind,) = (kind for kind in SINK_KINDS.values() if Path(kind.target).suffix == target.suffix)
    return kind.try_to_write(image, target, overwrite=overwrite)
