"""`fasttile convert`: move a result into another layout or container, tiles as they are."""

from __future__ import annotations

import argparse
import gc
from typing import Any

from fasttile.cli.options import add_option, add_output_options, add_size_option, with_size
from fasttile.cli.output import cut_summary, print_json, print_line, print_notes
from fasttile.cli.progress import show_progress
from fasttile.errors import printable

EXAMPLES = """\
examples:
  fasttile convert map.dzi map.szi                   the same tiles in one file; also .zip
  fasttile convert map.szi site/map.dzi              and back
  fasttile convert site/map map.pmtiles              XYZ, TMS, TileCache, GSIV; also .mbtiles
  fasttile convert map.mbtiles site/map --layout tms
  fasttile convert site/map map.tif                  full JPEG tiles as a pyramidal TIFF
  fasttile convert map.dzi s3://bucket/map.dzi       to and from object stores
  fasttile convert map.dzi map.pmtiles --reencode    if tiles differ, cut the largest level again

No tile is decoded, and each keeps its bytes. If the tiles of both layouts differ, the message says
how.
"""


def add(parser: Any) -> None:
    """Add the command's arguments to its parser."""
    parser.epilog = EXAMPLES
    parser.set_defaults(run=run, library="fasttile.jobs.convert")
    parser.add_argument(
        "source", metavar="SOURCE", help="a result of any layout and container, as for view"
    )
    parser.add_argument(
        "output",
        metavar="DEST",
        help="a .dzi, .szi, .zip, .pmtiles, .mbtiles or .tif file, or a folder, as for cut -o",
    )
    add_size_option(parser)
    group = parser.add_argument_group("the result")
    add_option(group, "layout", default="by DEST's extension, else that of SOURCE")
    group.add_argument(
        "--reencode",
        action="store_true",
        help="cut the largest level of SOURCE again where its tiles cannot be taken as they are",
    )
    for name in ("viewer", "overwrite"):
        add_option(group, name)
    group = parser.add_argument_group("while it runs")
    add_option(group, "resume")
    group.add_argument("--json", action="store_true", help="print one object of JSON")
    add_output_options(group)


def run(args: argparse.Namespace) -> int:
    """Convert a result; returns the exit code."""
    from fasttile.jobs.convert import convert

    gc.enable()
    args.output_is_product = args.json
    with show_progress(args, "convert", "tiles", lambda now: (now.tiles, now.tile_count)) as show:
        report = convert(
            with_size(args.source, args),
            args.output,
            layout=args.layout,
            reencode=args.reencode,
            viewer=args.viewer,
            overwrite=args.overwrite,
            resume=args.resume,
            progress=show,
        )
    if args.json:
        print_json(
            {
                "path": printable(report.path),
                "width": report.width,
                "height": report.height,
                "levels": report.levels,
                "tiles": report.tiles,
                "missing": report.blanks,
                "resumed": report.resumed,
                "bytes": report.bytes,
                "seconds": round(report.seconds, 4),
                "notes": [printable(note) for note in report.notes],
            }
        )
    elif not args.quiet:
        print_line(cut_summary(report))
        print_notes(report.notes)
    return 0
