"""What a picture is and what it would become, or what a result holds."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .geometry import Level, Pyramid
from .pyramid import LINE_BYTES, SPARE_BYTES

if TYPE_CHECKING:
    from .sources import Reading
    from .sources.base import Source

PROCESS_BYTES = 45_000_000
"""What the interpreter, NumPy, Pillow and the encoders take, about."""

TURNS = {
    2: "mirrored",
    3: "turned by 180°",
    4: "mirrored upside down",
    5: "mirrored along the diagonal",
    6: "turned clockwise",
    7: "mirrored along the other diagonal",
    8: "turned counter-clockwise",
}

KINDS = {1: "grey", 2: "grey with alpha", 3: "RGB", 4: "RGB with alpha"}


def describe(
    path: str, *, raw: str | None = None, reading: Reading | None = None
) -> Iterator[tuple[str, str]]:
    """Name and value of each thing to be told about a path.

    Args:
        path: A picture, or a result: what `open_pyramid` takes. A pyramidal TIFF is a picture too,
            and told about as such.
        raw: The form of a headerless file.
        reading: How it would be read. Default: plainly.

    Raises:
        FasttileError: It cannot be read.
    """
    from .readers import is_pyramid, open_pyramid

    if raw is None and is_pyramid(path):
        from .readers.told import told

        with open_pyramid(path) as result:
            yield from told(result)
        return
    from .sources import Reading, open_source

    with open_source(path, raw=raw, reading=reading or Reading()) as source:
        yield from _picture(source)


def page_count(path: str, max_pixels: int | None) -> int:
    """How many pictures a file holds.

    Raises:
        FasttileError: It cannot be read.
    """
    from .sources import Reading, open_source

    with open_source(path, reading=Reading(max_pixels=max_pixels, page=1)) as source:
        return source.metadata.pages


def _picture(source: Source) -> Iterator[tuple[str, str]]:
    metadata = source.metadata
    yield "file", source.name
    yield "format", metadata.format
    if Path(source.name).is_file():
        yield "bytes", f"{Path(source.name).stat().st_size:,}"
    if metadata.pages > 1:
        yield "pages", f"{metadata.pages}; this is page {metadata.page}"
    if metadata.format in ("TIFF", "BigTIFF") and Path(source.name).is_file():
        from .readers.told import pyramid_in_tiff

        if (levels := pyramid_in_tiff(source.name)) is not None:
            yield "pyramid", levels
    yield "size", f"{source.width}×{source.height} pixels"
    if metadata.stored:
        yield "stored as", metadata.stored
    kind = "CMYK" if source.cmyk else KINDS[source.bands]
    yield "bands", f"{source.bands} ({kind}), {source.dtype.name} when cut"
    if metadata.orientation != 1:
        yield "orientation", f"{metadata.orientation}, {TURNS[metadata.orientation]}"
    if metadata.resolution:
        yield "resolution", "{:g}×{:g} pixels per inch".format(*metadata.resolution)
    if metadata.icc_profile:
        yield "profile", _profile(metadata.icc_profile)
    for note in (*metadata.notes, *metadata.remarks):
        yield "note", note
    yield "read", metadata.way or ("mapped, without a copy" if source.mapped else "row by row")
    pyramid = Pyramid.of(source.width, source.height)
    yield "memory", f"about {_memory(source, pyramid) // 10**6:,} MB"
    yield "would make", f"{pyramid.level_count} levels, {pyramid.tile_count:,} tiles by default"
    for level in reversed(pyramid.levels):
        yield f"  level {level.number}", _extent(level)


def _profile(profile: bytes) -> str:
    """What a profile calls itself, and its size."""
    size = f"ICC, {len(profile):,} bytes"
    try:
        from PIL import ImageCms

        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except Exception:  # LittleCMS has many ways to dislike one
        return f"{size}, damaged"
    return f"{' '.join(name.split())} ({size})"


def _memory(source: Source, pyramid: Pyramid) -> int:
    """About how much a cut takes: the strips of all levels, the source, and the process."""
    *lower, top = (
        (level.tile_size + 2 * level.overlap) * level.width * source.bands * source.dtype.itemsize
        for level in pyramid.levels
    )
    if source.mapped:
        top = min(top, LINE_BYTES)
    return PROCESS_BYTES + source.held + 2 * top + sum(lower) + SPARE_BYTES


def _extent(level: Level) -> str:
    return (
        f"{level.width}×{level.height} pixels, "
        f"{level.cols}×{level.rows} = {level.tile_count:,} tiles"
    )
