"""`fasttile info`: what an image is and would become, or what a result holds."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasttile.abc.reader import LevelStats, PyramidReader
from fasttile.cli.options import add_command, add_read_options
from fasttile.cli.output import exit_code_for_errors
from fasttile.errors import SourceError
from fasttile.geometry import Level, Pyramid
from fasttile.readers.tiff import pyramid_levels
from fasttile.storage.random_access import DiskFile
from fasttile.walk import LINE_BYTES, SPARE_BYTES

if TYPE_CHECKING:
    from fasttile.abc.source import Source
    from fasttile.options.read import ReadOptions

EXAMPLES = """\
examples:
  fasttile info map.tif
  fasttile info site/map.dzi
"""


def add(commands: Any) -> None:
    info = add_command(commands, "info", "tell what an image or a result is", EXAMPLES)
    info.set_defaults(run=run)
    info.add_argument("path", metavar="PATH", help="an image, or a .dzi")
    add_read_options(info)
    info.add_argument("-v", "--verbose", action="store_true", help="show where an error comes from")


def run(args: argparse.Namespace) -> int:
    from fasttile.options.read import ReadOptions

    with exit_code_for_errors(args.verbose) as outcome:
        reading = ReadOptions(args.page, args.max_pixels, args.allow_truncated)
        for name, value in describe(args.path, raw=args.raw, read_options=reading):
            print(f"{name + ':':<12} {value}")
    return outcome.code


# What an image is and what it would become, or what a result holds.

PROCESS_BASE_BYTES = 45_000_000
"""What the interpreter, NumPy, Pillow and the encoders take, about."""

ORIENTATION_NAMES = {
    2: "mirrored",
    3: "turned by 180°",
    4: "mirrored upside down",
    5: "mirrored along the diagonal",
    6: "turned clockwise",
    7: "mirrored along the other diagonal",
    8: "turned counter-clockwise",
}

BAND_NAMES = {1: "grey", 2: "grey with alpha", 3: "RGB", 4: "RGB with alpha"}


def describe(
    path: str, *, raw: str | None = None, read_options: ReadOptions | None = None
) -> Iterator[tuple[str, str]]:
    """Name and value of each thing to be told about a path.

    Args:
        path: An image, or a result: what `open_pyramid` takes. A pyramidal TIFF is an image too,
            and told about as such.
        raw: The form of a headerless file.
        reading: How it would be read. Default: plainly.

    Raises:
        FasttileError: It cannot be read.
    """
    from fasttile.readers import is_pyramid, open_pyramid

    if raw is None and is_pyramid(path):
        with open_pyramid(path) as result:
            yield from describe_pyramid(result)
        return
    from fasttile.options.read import ReadOptions
    from fasttile.sources import open_source

    with open_source(path, raw=raw, read_options=read_options or ReadOptions()) as source:
        yield from _describe_source(source)


def _describe_source(source: Source) -> Iterator[tuple[str, str]]:
    metadata = source.metadata
    yield "file", source.name
    yield "format", metadata.format
    if Path(source.name).is_file():
        yield "bytes", f"{Path(source.name).stat().st_size:,}"
    if metadata.pages > 1:
        yield "pages", f"{metadata.pages}; this is page {metadata.page}"
    is_tiff_file = metadata.format in ("TIFF", "BigTIFF") and Path(source.name).is_file()
    if is_tiff_file and (levels := describe_tiff_pyramid(source.name)) is not None:
        yield "pyramid", levels
    yield "size", f"{source.width}×{source.height} pixels"
    if metadata.stored_as:
        yield "stored as", metadata.stored_as
    kind = "CMYK" if source.is_cmyk else BAND_NAMES[source.bands]
    yield "bands", f"{source.bands} ({kind}), {source.dtype.name} when cut"
    if metadata.orientation != 1:
        yield "orientation", f"{metadata.orientation}, {ORIENTATION_NAMES[metadata.orientation]}"
    if metadata.resolution:
        yield "resolution", "{:g}×{:g} pixels per inch".format(*metadata.resolution)
    if metadata.icc_profile:
        yield "profile", _describe_profile(metadata.icc_profile)
    for note in (*metadata.notes, *metadata.warnings):
        yield "note", note
    yield (
        "read",
        metadata.read_mode or ("mapped, without a copy" if source.is_mapped else "row by row"),
    )
    pyramid = Pyramid.from_size(source.width, source.height)
    yield "memory", f"about {_estimate_memory(source, pyramid) // 10**6:,} MB"
    yield "would make", f"{pyramid.level_count} levels, {pyramid.tile_count:,} tiles by default"
    for level in reversed(pyramid.levels):
        yield f"  level {level.number}", _describe_level(level)


def _describe_profile(profile: bytes) -> str:
    """What a profile calls itself, and its size."""
    size = f"ICC, {len(profile):,} bytes"
    try:
        from PIL import ImageCms

        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except Exception:  # LittleCMS has many ways to dislike one
        return f"{size}, damaged"
    return f"{' '.join(name.split())} ({size})"


def _estimate_memory(source: Source, pyramid: Pyramid) -> int:
    """About how much a cut takes: the strips of all levels, the source, and the process."""
    *lower, top = (
        (level.tile_size + 2 * level.overlap) * level.width * source.bands * source.dtype.itemsize
        for level in pyramid.levels
    )
    if source.is_mapped:
        top = min(top, LINE_BYTES)
    return PROCESS_BASE_BYTES + source.memory_bytes + 2 * top + sum(lower) + SPARE_BYTES


def _describe_level(level: Level) -> str:
    return (
        f"{level.width}×{level.height} pixels, "
        f"{level.cols}×{level.rows} = {level.tile_count:,} tiles"
    )


# What `fasttile info` tells of a result.


def describe_pyramid(reader: PyramidReader) -> Iterator[tuple[str, str]]:
    """Name and value of each thing to be told about a result.

    Raises:
        SourceError: It cannot be read.
    """
    pyramid = reader.pyramid
    canvas, kept, base = pyramid.canvas, pyramid.stored_range, reader.layout.base_level
    yield "file", str(reader.path)
    yield "format", f"{reader.format_name}, {reader.extension} tiles"
    yield "size", "{}×{} pixels".format(*pyramid.size)
    if canvas.padded:
        x, y = canvas.placement[:2]
        yield "canvas", f"{canvas.width}×{canvas.height} pixels, the image at {x}, {y}"
    yield "tiles", f"{pyramid.tile_size} pixels, overlap {pyramid.overlap}"
    span = "" if kept[0] == base else f" ({kept[0] - base} to {kept[-1] - base})"
    yield "levels", f"{len(kept)}{span}"
    levels = list(reversed(pyramid.stored_levels))
    stored = [reader.level_stats(level.number) for level in levels]
    held = sum(found.tiles for found in stored)
    yield "holds", f"{held:,} of {pyramid.tile_count:,} tiles"
    yield "bytes", f"{sum(found.bytes for found in stored):,}"
    for level, found in zip(levels, stored, strict=True):
        note = _missing_note(level, found, sparse=reader.allows_missing_tiles)
        extent = f"{_level_extent(pyramid, level)}{note}, {found.bytes:,} bytes"
        yield f"  level {level.number - base}", extent


def describe_tiff_pyramid(path: str) -> str | None:
    """One line about the pyramid that a TIFF is, or None if it is a plain image."""
    with suppress(SourceError):
        file = DiskFile(path)
        try:
            levels, _ = pyramid_levels(file)
        finally:
            file.close()
        if len(levels) > 1:
            return f"{len(levels)} levels, tiles of {levels[0].tile_size} pixels"
    return None


def _missing_note(level: Level, stats: LevelStats, *, sparse: bool) -> str:
    missing = level.tile_count - stats.tiles
    if missing <= 0:
        return ""
    return f" ({missing:,} {'left out' if sparse else 'MISSING'})"


def _level_extent(pyramid: Pyramid, level: Level) -> str:
    """The image's size on a level, and the tiles that cover it."""
    if pyramid.canvas.padded:
        times = pyramid.downscale_exponent(level.number)
        width, height = (-(-side >> times) for side in pyramid.canvas.placement[2:])
    else:
        width, height = level.inset.width, level.inset.height
    return f"{width}×{height} pixels, {level.cols}×{level.rows} = {level.tile_count:,} tiles"
