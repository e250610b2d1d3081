"""`fasttile view`: show a result in the browser, from a server of this machine."""

from __future__ import annotations

import argparse
from typing import Any

from fasttile.cli.options import add_verbose_option
from fasttile.cli.output import print_line

EXAMPLES = """\
examples:
  fasttile view site/map.dzi
  fasttile view map.pmtiles --port 8000 --no-browser
"""


def add(parser: Any) -> None:
    """Add the command's arguments to its parser."""
    parser.epilog = EXAMPLES
    parser.set_defaults(run=run, library="fasttile.serve")
    parser.add_argument(
        "path",
        metavar="PATH",
        help="a result of any layout: a .dzi, a folder, a .szi, .zip, .pmtiles, .mbtiles or "
        "pyramidal .tif; or a collection (.dzc)",
    )
    parser.add_argument(
        "--port", metavar="N", type=int, help="port of this machine (default: any free one)"
    )
    parser.add_argument(
        "--browser",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="open the page (default: yes)",
    )
    add_verbose_option(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from fasttile.serve import view

    view(
        args.path,
        port=args.port,
        browser=args.browser,
        report=lambda line: print_line(line, flush=True),
    )
    return 0
