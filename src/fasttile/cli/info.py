"""`fasttile info`: describe an image, its pyramid, or a result."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasttile.abc.reader import ResultReader
from fasttile.cli.options import add_options, add_size_option, add_verbose_option, with_size
from fasttile.cli.output import EXIT_FAILED, print_json, print_line
from fasttile.errors import OptionError, PluginError, SourceError, one_line, printable
from fasttile.geometry import Level, Pyramid
from fasttile.jobs.record import parse_record
from fasttile.options.cut import CutOptions
from fasttile.plugins import KINDS, find_all
from fasttile.readers.tiff import TiffReader
from fasttile.sources.files import STORE_SCHEMES, scheme_of
from fasttile.walk import memory_bytes

if TYPE_CHECKING:
    from fasttile.abc.source import Source
    from fasttile.options.read import ReadOptions

EXAMPLES = """\
examples:
  fasttile info map.tif
  fasttile info site/map.dzi
  fasttile info s3://bucket/site/map.szi --json
  fasttile info --plugins                            parts that other packages add
"""


def add(parser: Any) -> None:
    """Add the command's arguments to its parser."""
    parser.epilog = EXAMPLES
    parser.set_defaults(run=run, library="fasttile.sources", output_is_product=True)
    parser.add_argument(
        "path", metavar="PATH", nargs="?", help="an image, or a result of any layout"
    )
    parser.add_argument(
        "--plugins",
        action="store_true",
        help="list sources, layouts, codecs and sinks that other packages add, in place of PATH",
    )
    add_options(parser, "cut", "source", leave_out=("region",))
    add_size_option(parser)
    parser.add_argument("--json", action="store_true", help="print one object of JSON")
    add_verbose_option(parser)


def run(args: argparse.Namespace) -> int:
    """Print the description of an image or a result; returns the exit code."""
    from fasttile.options.read import ReadOptions

    if args.plugins:
        return _list_plugins(args)
    if args.path is None:
        raise OptionError("PATH missing; see fasttile info --help")
    options = ReadOptions(args.page, args.max_pixels, args.allow_truncated)
    with _open(with_size(args.path, args), args.raw, options) as found:
        if args.json:
            print_json(record(found))
        else:
            for name, value in _describe(found):
                print_line(f"{name + ':':<12} {value}")
    return 0


def _list_plugins(args: argparse.Namespace) -> int:
    """Print all plug-ins of installed packages; the exit code is 1 if one cannot be loaded."""
    if args.path is not None:
        raise OptionError(f"{args.path}: --plugins takes no image; leave it out")
    entries = []
    for plugin in (plugin for kind in KINDS for plugin in find_all(kind)):
        problem = None
        try:
            plugin.load()
        except PluginError as error:
            problem = str(error)
        entries.append(
            {"kind": plugin.kind, "name": plugin.name, "package": plugin.origin, "error": problem}
        )
    if args.json:
        print_json({"plugins": entries})
    elif not entries:
        print_line("no plug-ins: no installed package adds a source, layout, codec or sink")
    else:
        for entry in entries:
            print_line(
                f"{entry['kind']:<8} {entry['name']:<12} {entry['error'] or entry['package']}"
            )
    return EXIT_FAILED if any(entry["error"] for entry in entries) else 0


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
    """Describe an image or a result as pairs of name and value.

    Args:
        path: An image, or a result as for `open_pyramid`. A pyramidal TIFF is described as an
            image.
        raw: Format of a file without a header.
        read_options: Options of reading the image. Default: `ReadOptions()`.

    Raises:
        FasttileError: The path cannot be read.
    """
    from fasttile.options.read import ReadOptions

    with _open(path, raw, read_options or ReadOptions()) as found:
        yield from _describe(found)


def _open(path: str, raw: str | None, read_options: ReadOptions) -> ResultReader | Source:
    """Open a result, or an image."""
    from fasttile.readers import is_pyramid, open_result

    if raw is None and is_pyramid(path):
        return open_result(path)
    is_stored_tiff = scheme_of(path) in STORE_SCHEMES and path.lower().endswith((".tif", ".tiff"))
    if is_stored_tiff and raw is None and read_options.page is None:
        with suppress(SourceError):  # an image, which is downloaded; a pyramid is not
            return open_result(path)
    from fasttile.sources import open_source

    return open_source(path, raw=raw, read_options=read_options)


def _describe(found: ResultReader | Source) -> Iterator[tuple[str, str]]:
    if isinstance(found, ResultReader):
        return describe_pyramid(found)
    return _describe_source(found)


def record(found: ResultReader | Source) -> dict[str, Any]:
    """The description of a result or an image for programs: members of an object of JSON.

    Raises:
        SourceError: The result cannot be read.
    """
    if isinstance(found, ResultReader):
        return _pyramid_record(found)
    metadata = found.metadata
    pyramid = Pyramid.from_size(found.width, found.height)
    return {
        "file": printable(found.name),
        "kind": "image",
        "format": metadata.format,
        "bytes": _file_size(found),
        "pyramid": _tiff_pyramid_of(found),
        "width": found.width,
        "height": found.height,
        "bands": found.bands,
        "is_cmyk": found.is_cmyk,
        "dtype": found.dtype.name,
        "stored_as": metadata.stored_as or None,
        "page": metadata.page,
        "pages": metadata.pages,
        "images": metadata.members or None,
        "orientation": metadata.orientation,
        "resolution": metadata.resolution,
        "profile": _describe_profile(metadata.icc_profile) if metadata.icc_profile else None,
        "georeference": _describe_place(found),
        "notes": [printable(note) for note in (*metadata.notes, *metadata.warnings)],
        "read": _read_mode(found),
        "memory_bytes": memory_bytes(found, pyramid),
        "tiles": pyramid.tile_count,
        "levels": [
            {
                "level": level.number,
                "width": level.width,
                "height": level.height,
                "cols": level.cols,
                "rows": level.rows,
            }
            for level in pyramid.levels
        ],
    }


def _pyramid_record(reader: ResultReader) -> dict[str, Any]:
    pyramid, base = reader.pyramid, reader.layout.base_level
    levels = []
    for level in pyramid.stored_levels:
        stats = reader.level_stats(level.number)
        levels.append(
            {
                "level": level.number - base,
                "width": level.inset.width,
                "height": level.inset.height,
                "cols": level.cols,
                "rows": level.rows,
                "tiles": stats.tiles,
                "bytes": stats.bytes,
                "missing": max(0, level.tile_count - stats.tiles),
            }
        )
    canvas = pyramid.canvas
    return {
        "file": printable(reader.path),
        "kind": "result",
        "format": reader.format_name,
        "container": reader.container,
        "extension": reader.extension,
        "record": parse_record(reader.record()),
        "width": pyramid.size[0],
        "height": pyramid.size[1],
        "canvas": {
            "width": canvas.width,
            "height": canvas.height,
            "x": canvas.placement[0],
            "y": canvas.placement[1],
        },
        "tile_size": pyramid.tile_size // (1 + reader.layout.has_halves),
        "scale": 1 + reader.layout.has_halves,
        "overlap": pyramid.overlap,
        "tile_count": pyramid.tile_count,
        "tiles": sum(level["tiles"] for level in levels),
        "bytes": sum(level["bytes"] for level in levels),
        "allows_missing_tiles": reader.allows_missing_tiles,
        "levels": levels,
    }


def _read_mode(source: Source) -> str:
    usual = "mapped, without a copy" if source.is_mapped else "row by row"
    return source.metadata.read_mode or usual


def _file_size(source: Source) -> int | None:
    """Bytes of the source's file; None if it is no local file."""
    with suppress(OSError, ValueError):  # names that no file can have
        if Path(source.name).is_file():
            return Path(source.name).stat().st_size
    return None


def _tiff_pyramid_of(source: Source) -> dict[str, Any] | None:
    """The pyramid in a source that is a TIFF file, as members of an object of JSON.

    None for one level, unless fasttile has made it.
    """
    if source.metadata.format not in ("TIFF", "BigTIFF") or _file_size(source) is None:
        return None
    try:
        reader = TiffReader(Path(source.name))
    except SourceError:  # an image
        return None
    with reader:
        made, levels = parse_record(reader.record()), len(reader.pyramid.stored_range)
        if levels == 1 and made is None:
            return None
        return {
            "kind": reader.kind,
            "levels": levels,
            "tiles": reader.pyramid.tile_count,
            "tile_size": reader.pyramid.tile_size,
            "record": made,
        }


def _describe_tiff_pyramid(pyramid: dict[str, Any]) -> Iterator[tuple[str, str]]:
    kind = "" if pyramid["kind"] == "pyramidal" else f", {pyramid['kind']}"
    text = "{levels} levels, {tiles:,} tiles of {tile_size} pixels".format_map(pyramid)
    yield "pyramid", f"{text}{kind}"
    if pyramid["record"] is not None:
        yield "result", "of fasttile: view, verify and convert read its tiles"
        yield from _describe_making(pyramid["record"])


def _describe_source(source: Source) -> Iterator[tuple[str, str]]:
    metadata = source.metadata
    yield "file", source.name
    yield "format", metadata.format
    if (size := _file_size(source)) is not None:
        yield "bytes", f"{size:,}"
    if metadata.members:
        yield "images", f"{metadata.members:,}"
    if metadata.pages > 1:
        yield "pages", f"{metadata.pages}; this is page {metadata.page}"
    if (pyramid_in_it := _tiff_pyramid_of(source)) is not None:
        yield from _describe_tiff_pyramid(pyramid_in_it)
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
    if (place := _describe_place(source)) is not None:
        yield "map", place
    for note in (*metadata.notes, *metadata.warnings):
        yield "note", note
    yield "read", _read_mode(source)
    pyramid = Pyramid.from_size(source.width, source.height)
    yield "memory", f"about {memory_bytes(source, pyramid) // 10**6:,} MB"
    yield "would make", f"{pyramid.level_count} levels, {pyramid.tile_count:,} tiles by default"
    for level in reversed(pyramid.levels):
        yield f"  level {level.number}", _describe_level(level, level.width, level.height)


def _describe_place(source: Source) -> str | None:
    """The coordinate system of a georeferenced image, and whether its XYZ tiles are a map."""
    found = source.metadata.georeference
    if found is None or not found.has_place:
        return None
    system = f"EPSG:{found.epsg}" if found.epsg else "another coordinate system"
    place = found.mercator_place(source.width, source.height)
    return system if place is None else f"{system}; XYZ tiles of it are a map"


def _describe_profile(profile: bytes) -> str:
    """The description in an ICC profile, and its size."""
    size = f"ICC, {len(profile):,} bytes"
    try:
        from PIL import ImageCms

        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except Exception:  # LittleCMS raises several kinds
        return f"{size}, damaged"
    return f"{one_line(name)} ({size})"


def _describe_level(level: Level, width: int, height: int) -> str:
    return f"{width}×{height} pixels, {level.cols}×{level.rows} = {level.tile_count:,} tiles"


def _describe_making(made: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """From what and how a result was made, as its record states."""
    source, options, versions = (
        found if isinstance(found := made.get(key), dict) else {}
        for key in ("source", "options", "versions")
    )
    if source.get("name"):
        yield "made from", one_line(str(source["name"]))
    if versions:
        names = [f"{name} {version}" for name, version in versions.items()]
        yield "made by", one_line(", ".join(names))
    if isinstance(converted := made.get("converted"), dict):
        places = [str(converted.get(key, "?")) for key in ("from", "layout", "container")]
        yield "tiles from", one_line("{}, {} in a {}".format(*places))
    if not options:
        return
    usual = CutOptions()
    changed = [
        f"{name}={value}"
        for name, value in options.items()
        if value != getattr(usual, name, None) and value is not None
    ]
    yield "options", one_line(", ".join(changed) or "all by default")


def describe_pyramid(reader: ResultReader) -> Iterator[tuple[str, str]]:
    """Describe a result as pairs of name and value.

    Raises:
        SourceError: The result cannot be read.
    """
    pyramid = reader.pyramid
    canvas, kept, base = pyramid.canvas, pyramid.stored_range, reader.layout.base_level
    yield "file", str(reader.path)
    yield "format", f"{reader.format_name}, {reader.extension} tiles"
    yield "size", "{}×{} pixels".format(*pyramid.size)
    made = parse_record(reader.record())
    if made is not None:
        yield from _describe_making(made)
    if canvas.padded:
        x, y = canvas.placement[:2]
        yield "canvas", f"{canvas.width}×{canvas.height} pixels, the image at {x}, {y}"
    sides = f"{pyramid.tile_size} pixels"
    if reader.layout.has_halves:
        sides = f"{pyramid.tile_size // 2} pixels, and {sides} as @2x"
    yield "tiles", f"{sides}, overlap {pyramid.overlap}"
    span = "" if kept[0] == base else f" ({kept[0] - base} to {kept[-1] - base})"
    yield "levels", f"{len(kept)}{span}"
    levels = list(reversed(pyramid.stored_levels))
    level_stats = [reader.level_stats(level.number) for level in levels]
    count = sum(stats.tiles for stats in level_stats)
    yield "holds", f"{count:,} of {pyramid.tile_count:,} tiles"
    yield "bytes", f"{sum(stats.bytes for stats in level_stats):,}"
    for level, stats in zip(levels, level_stats, strict=True):
        note = ""
        if (missing := level.tile_count - stats.tiles) > 0:
            note = f" ({missing:,} {'left out' if reader.allows_missing_tiles else 'MISSING'})"
        width, height = level.inset.width, level.inset.height
        if canvas.padded:  # the inset is the canvas; the image is smaller
            exponent = pyramid.downscale_exponent(level.number)
            width, height = (-(-side >> exponent) for side in canvas.placement[2:])
        size = _describe_level(level, width, height)
        yield f"  level {level.number - base}", f"{size}{note}, {stats.bytes:,} bytes"
