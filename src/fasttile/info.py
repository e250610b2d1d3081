"""What a picture is and what it would become, or what a Deep Zoom result holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import SourceError
from .geometry import Level, Pyramid
from .layouts.deepzoom import DeepZoom

if TYPE_CHECKING:
    from .sources.base import Source

KINDS = {1: "grey", 2: "grey with alpha", 3: "RGB", 4: "RGB with alpha"}


def describe(path: str, *, raw: str | None = None) -> Iterator[tuple[str, str]]:
    """Name and value of each thing to be told about a path.

    Args:
        path: A picture, or the .dzi of a result.
        raw: The form of a headerless file.

    Raises:
        FasttileError: It cannot be read.
    """
    if path.lower().endswith(".dzi"):
        yield from _result(Path(path))
        return
    from .sources import open_source

    with open_source(path, raw=raw) as source:
        yield from _picture(path, source)


def _picture(path: str, source: Source) -> Iterator[tuple[str, str]]:
    metadata = source.metadata
    yield "file", path
    yield "format", metadata.format
    yield "bytes", f"{Path(path).stat().st_size:,}"
    yield "size", f"{source.width}×{source.height} pixels"
    yield "bands", f"{source.bands} ({KINDS[source.bands]}), {source.dtype.name} when cut"
    if metadata.resolution:
        yield "resolution", "{:g}×{:g} pixels per inch".format(*metadata.resolution)
    if metadata.icc_profile:
        yield "profile", f"ICC, {len(metadata.icc_profile):,} bytes"
    for note in metadata.notes:
        yield "note", note
    yield "read", "mapped, without a copy" if source.mapped else "row by row"
    pyramid = Pyramid.of(source.width, source.height)
    yield "would make", f"{pyramid.level_count} levels, {pyramid.tile_count:,} tiles by default"
    for level in reversed(pyramid.levels):
        yield f"  level {level.number}", _extent(level)


def _result(path: Path) -> Iterator[tuple[str, str]]:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    layout = DeepZoom.parse(path.stem, text)
    pyramid = layout.pyramid
    yield "file", str(path)
    yield "format", f"Deep Zoom, {layout.extension} tiles"
    yield "size", f"{pyramid.canvas.width}×{pyramid.canvas.height} pixels"
    yield "tiles", f"{pyramid.tile_size} pixels, overlap {pyramid.overlap}"
    yield "levels", str(pyramid.level_count)
    found_bytes = found_tiles = 0
    lines = []
    for level in reversed(pyramid.levels):
        count, size = _stored(path.parent / layout.folder / str(level.number), layout.extension)
        found_tiles += count
        found_bytes += size
        missing = level.tile_count - count
        note = f" ({missing:,} MISSING)" if missing > 0 else ""
        lines.append((f"  level {level.number}", f"{_extent(level)}{note}, {size:,} bytes"))
    yield "holds", f"{found_tiles:,} of {pyramid.tile_count:,} tiles"
    yield "bytes", f"{found_bytes:,}"
    yield from lines


def _extent(level: Level) -> str:
    return (
        f"{level.width}×{level.height} pixels, "
        f"{level.cols}×{level.rows} = {level.tile_count:,} tiles"
    )


def _stored(folder: Path, extension: str) -> tuple[int, int]:
    """How many tiles lie in a level's folder, and their bytes together."""
    count = size = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(f".{extension}"):
                    count += 1
                    size += entry.stat().st_size
    except FileNotFoundError:
        pass
    return count, size
