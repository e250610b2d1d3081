"""Results in one file, of any container, for tests: the sink, its layout, and tiles that fit."""

from __future__ import annotations

import io
import os
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from fasttile.abc.layout import Layout
from fasttile.abc.sink import Sink
from fasttile.geometry import Tile
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.layouts.tiff import Tiff
from fasttile.layouts.xyz import Xyz
from fasttile.sinks.archive import ArchiveSink, scan_properties
from fasttile.sinks.mbtiles import MbtilesSink
from fasttile.sinks.pmtiles import PmtilesSink
from fasttile.sinks.tiff import TiffSamples, TiffSink
from fasttile.storage.writing import AtomicFile

KINDS = ["zip", "szi", "pmtiles", "mbtiles", "tiff-jpeg", "tiff-deflate"]


def layout_of(kind: str, name: str = "a map") -> Layout:
    """A small image of several levels, in a layout that goes with the container."""
    if kind in ("zip", "szi"):
        return DeepZoom.from_size(name, 70, 50, "jpg", tile_size=16, overlap=0)
    if kind.startswith("tiff"):
        ending = "jpg" if kind == "tiff-jpeg" else "deflate"
        return Tiff.from_size(name, 70, 50, ending, tile_size=16)
    return Xyz.from_size(name, 70, 50, "jpg", tile_size=16)


def tile_bytes(kind: str, tile: Tile) -> bytes:
    """A tile's encoded bytes: all of them are different, some of the right kind."""
    if kind == "tiff-jpeg":
        return jpeg(tile.level * 10_000 + tile.row * 100 + tile.col)
    if kind == "tiff-deflate":
        return zlib.compress(bytes([tile.level, tile.col, tile.row]) * 256)
    return f"{tile}".encode() * 5


@cache
def jpeg(seed: int, size: int = 16) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=75)
    return file.getvalue()


def open_sink(
    kind: str, target: str | Path, *, overwrite: bool = False, name: str = "a map"
) -> Sink:
    layout = layout_of(kind, name)
    if kind == "zip":
        return ArchiveSink(layout, target, overwrite=overwrite)
    if kind == "szi":
        files = scan_properties(layout)
        return ArchiveSink(layout, target, overwrite=overwrite, files=files, prefix=f"{name}/")
    if isinstance(layout, Tiff):
        return TiffSink(layout, target, overwrite=overwrite, samples=TiffSamples(3))
    assert isinstance(layout, Xyz)
    sink = PmtilesSink if kind == "pmtiles" else MbtilesSink
    return sink(layout, target, overwrite=overwrite)


def extend_sparsely(file: AtomicFile, end: int) -> None:
    """Let a file go on far behind its end; what is between takes no room."""
    os.ftruncate(file.flush(), end)
    assert file._file is not None
    file.size = file._file.seek(0, os.SEEK_END)


def put_tiles(sink: Sink, kind: str) -> None:
    for tile in layout_of(kind).pyramid.tiles():
        sink.put(tile, tile_bytes(kind, tile))


def write(kind: str, target: str | Path, *, overwrite: bool = False, name: str = "a map") -> None:
    """Write the image as a job does: after any error, call `abort`."""
    sink = open_sink(kind, target, overwrite=overwrite, name=name)
    try:
        put_tiles(sink, kind)
        sink.finish()
    except BaseException:
        sink.abort()
        raise
