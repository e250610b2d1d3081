"""What `fasttile info` tells of a result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from ..errors import SourceError
from ..geometry import Level, Pyramid
from ..sources.mapping import PictureFile
from .base import PyramidReader, Stored
from .tiff import pyramid_levels


def told(reader: PyramidReader) -> Iterator[tuple[str, str]]:
    """Name and value of each thing to be told about a result.

    Raises:
        SourceError: It cannot be read.
    """
    pyramid = reader.pyramid
    canvas, kept, base = pyramid.canvas, pyramid.kept, reader.layout.base
    yield "file", str(reader.path)
    yield "format", f"{reader.kind}, {reader.extension} tiles"
    yield "size", "{}×{} pixels".format(*pyramid.size)
    if canvas.padded:
        x, y = canvas.placement[:2]
        yield "canvas", f"{canvas.width}×{canvas.height} pixels, the picture at {x}, {y}"
    yield "tiles", f"{pyramid.tile_size} pixels, overlap {pyramid.overlap}"
    span = "" if kept[0] == base else f" ({kept[0] - base} to {kept[-1] - base})"
    yield "levels", f"{len(kept)}{span}"
    levels = list(reversed(pyramid.kept_levels))
    stored = [reader.stored(level.number) for level in levels]
    held = sum(found.tiles for found in stored)
    yield "holds", f"{held:,} of {pyramid.tile_count:,} tiles"
    yield "bytes", f"{sum(found.bytes for found in stored):,}"
    for level, found in zip(levels, stored, strict=True):
        note = _note(level, found, sparse=reader.missing_allowed)
        extent = f"{_extent(pyramid, level)}{note}, {found.bytes:,} bytes"
        yield f"  level {level.number - base}", extent


def pyramid_in_tiff(path: str) -> str | None:
    """One line about the pyramid that a TIFF is, or None if it is a plain picture."""
    with suppress(SourceError):
        file = PictureFile(path)
        try:
            levels, _ = pyramid_levels(file)
        finally:
            file.close()
        if len(levels) > 1:
            return f"{len(levels)} levels, tiles of {levels[0].tile_size} pixels"
    return None


def _note(level: Level, found: Stored, *, sparse: bool) -> str:
    missing = level.tile_count - found.tiles
    if missing <= 0:
        return ""
    return f" ({missing:,} {'left out' if sparse else 'MISSING'})"


def _extent(pyramid: Pyramid, level: Level) -> str:
    """The picture's size on a level, and the tiles that cover it."""
    if pyramid.canvas.padded:
        times = pyramid.halvings(level.number)
        width, height = (-(-side >> times) for side in pyramid.canvas.placement[2:])
    else:
        width, height = level.inset.width, level.inset.height
    return f"{width}×{height} pixels, {level.cols}×{level.rows} = {level.tile_count:,} tiles"
