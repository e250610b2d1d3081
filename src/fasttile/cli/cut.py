"""`fasttile cut`: images to pyramids."""

from __future__ import annotations

import argparse
import gc
import sys
from contextlib import ExitStack
from dataclasses import fields
from typing import Any

from fasttile.cli.options import add_command, add_pixel_options, add_read_options, parse_region
from fasttile.cli.output import exit_code_for_errors
from fasttile.options.cut import CutOptions

VIEWER_NAMES = ("openseadragon", "openlayers", "leaflet")

BLANK_THRESHOLD = 5
"""By how much of 255 a blank tile may differ from the background, unless a user says."""

EXAMPLES = """\
examples:
  fasttile cut map.tif -o site/map.dzi --quality 85
  fasttile cut map.tif -o map.szi                    one file; also .zip, .pmtiles, .mbtiles, .tif
  fasttile cut map.tif --layout zoomify -o site/map  a folder in another layout
  fasttile cut map.tif --layout xyz:template={z}/{y}/{x} --format png --skip-blank
  fasttile cut map.tif --layout iiif3:id=https://example.org/{name} -o site/
  fasttile cut map.tif --viewer openseadragon        also map.html, which shows it
  fasttile cut scans/*.tif -o 'site/{name}.szi'      one file each
  fasttile cut scans -o site --resume --report r.jsonl
                                                     all images below scans, to be carried on
  find . -name '*.tif' | fasttile cut @- -o site     the images of a list
  fasttile cut map.tif --format jpeg:progressive,subsampling=4:4:4
  fasttile cut slide.tif --region 1000,2000,4096,4096 -o detail.dzi
  fasttile cut height.tif --window 800,2400          the values 800 to 2400 as black to white
  fasttile cut labels.png --shrink mode --format png levels without blended colours
  fasttile cut scans.tif --page all -o site          site/scans-1.dzi, site/scans-2.dzi …
  fasttile cut broken.jpg --allow-truncated          what is there of it, on white
  fasttile cut https://example.org/map.tif           fetched first, then cut to map.dzi
  scan | fasttile cut - -o scan.dzi                  from standard input
  fasttile cut height.tif --bits 16 --format png     16-bit grey tiles
  fasttile cut dump.bin --raw 40000x30000x3:u8:512   a headerless file, pixels after 512 bytes

A result appears only when it is whole: whatever goes wrong before, what stood there stays.
"""


def add(commands: Any) -> None:
    cut = add_command(commands, "cut", "cut images into tile pyramids", EXAMPLES)
    cut.set_defaults(run=run)
    cut.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="an image: a file of any kind that Pillow knows, TIFF, npy, raw …; a http(s) or s3 "
        "address; or - for standard input, which needs -o NAME.dzi; a folder, for all images "
        "below it; @LIST, for a file that names one in each line (@- for standard input)",
    )
    default = CutOptions()

    source = cut.add_argument_group("what is read")
    add_read_options(source)
    source.add_argument(
        "--region",
        metavar="X,Y,W,H",
        type=parse_region,
        help="cut this part of the image only, in pixels from the top left corner",
    )
    add_pixel_options(cut.add_argument_group("its pixels"), default)
    _add_tile_options(cut.add_argument_group("the tiles"), default)
    _add_result_options(cut.add_argument_group("the result"))
    _add_batch_options(cut.add_argument_group("while it runs"))


def _add_tile_options(tiles: Any, default: CutOptions) -> None:
    tiles.add_argument(
        "--tile-size",
        metavar="N",
        type=int,
        help="side of a tile in pixels, without overlap (default: the layout's own, 254 for dzi, "
        "512 for iiif, else 256)",
    )
    tiles.add_argument(
        "--overlap",
        metavar="N",
        type=int,
        help="pixels added on each side that has a neighbour (default: 1 for dzi in a folder, "
        "else 0)",
    )
    tiles.add_argument(
        "--levels",
        metavar="A-B|one-tile|one-pixel",
        help="the levels to keep, as the layout numbers them, or the smallest one (default: the "
        "layout's own, one-pixel for dzi, else one-tile)",
    )
    tiles.add_argument(
        "--skip-blank",
        metavar="THRESHOLD",
        nargs="?",
        type=int,
        const=BLANK_THRESHOLD,
        help="leave out tiles that differ from the background by no more than that, of 255, and "
        "transparent ones, where the layout allows it (without a number: %(const)s)",
    )
    tiles.add_argument(
        "--format",
        metavar="FORMAT",
        help="jpeg, png, webp, or deflate in TIFF; after a colon what concerns that format only: "
        "jpeg:progressive,optimize,subsampling=4:4:4, png:compress_level=9,compress_type=0, "
        "webp:lossless,method=6 (default: jpeg)",
    )
    tiles.add_argument(
        "--quality", metavar="1-100", type=int, help="of JPEG and WebP tiles (default: 80)"
    )
    tiles.add_argument(
        "--bits",
        type=int,
        choices=(8, 16),
        default=default.bits,
        help="16 keeps 16-bit grey images as they are, as PNG (default: %(default)s)",
    )
    tiles.add_argument(
        "--background",
        metavar="COLOUR",
        default=default.background,
        help="what shows through in formats without alpha and lies around the image in padded "
        "layouts, by name or #rrggbb (default: %(default)s)",
    )


def _add_result_options(result: Any) -> None:
    result.add_argument(
        "-o",
        "--output",
        metavar="DEST",
        help="a .dzi, .szi, .zip, .pmtiles, .mbtiles or .tif file; a folder for <stem>.dzi of each "
        "SOURCE, or with another layout the folder that the tiles go to, or with a slash at its "
        "end the folder for that; {name} stands for SOURCE's stem (default: this folder)",
    )
    result.add_argument(
        "--layout",
        metavar="LAYOUT",
        help="dzi, zoomify, xyz, tms, tilecache, gsiv, iiif2, iiif3 or tiff; after a colon what "
        "concerns that layout only: dzi:json,jsonp, zoomify:rounding=ceil, "
        "xyz:template={z}-{x}-{y},centre, gsiv:centre=no, iiif3:id=URL (default: by DEST's ending, "
        "else dzi)",
    )
    result.add_argument(
        "--viewer",
        choices=VIEWER_NAMES,
        help="also write a page that shows the result, beside it",
    )
    result.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a result that stands there, as a whole and only at the end",
    )
    result.add_argument(
        "--resume",
        action="store_true",
        help="let the job be carried on: whatever ends it before its time, the same command goes "
        "on where it was",
    )


def _add_batch_options(running: Any) -> None:
    running.add_argument(
        "--threads",
        metavar="N",
        type=int,
        help="how many tiles are encoded at a time (default: one a processor)",
    )
    running.add_argument(
        "--workers",
        metavar="N|dask://…",
        help="where images, and parts of giants, are cut side by side: in N processes, or by the "
        "workers of dask://HOST:PORT or dask://local (default: a process for each processor, "
        "where there are enough images or the image has four gigapixels)",
    )
    running.add_argument(
        "--report",
        metavar="FILE",
        help="write what becomes of each image, as a line of JSON each",
    )
    running.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="show how far it is, on standard error (default: on a terminal)",
    )
    running.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    running.add_argument(
        "-v", "--verbose", action="store_true", help="show where an error comes from"
    )


def run(args: argparse.Namespace) -> int:
    """Cut all images; the exit code is 1 if any of them fails."""
    from fasttile.batch.run import batch_items, run_batch
    from fasttile.cli.output import batch_bars, open_report, report_outcomes

    wishes = {field.name: getattr(args, field.name) for field in fields(CutOptions)}
    every_page = wishes["page"] == "all"
    gc.enable()
    with exit_code_for_errors(args.verbose) as outcome, ExitStack() as stack:
        options = CutOptions.from_keywords(
            {**wishes, "page": None if every_page else wishes["page"]}
        )
        images = batch_items(args.sources, args.output, options, every_page=every_page)
        write = stack.enter_context(open_report(args.report))
        progress = None
        wanted = sys.stderr.isatty() if args.progress is None else args.progress
        if wanted and not args.quiet:
            name = None if len(images) > 1 else images[0].target.path.name
            progress = stack.enter_context(batch_bars(name))
        outcomes = run_batch(images, args.output, args.workers, progress)
        outcome.code = report_outcomes(outcomes, args, count=len(images), write_outcome=write)
    return outcome.code
