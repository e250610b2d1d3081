"""`fasttile view`: show results and images in the browser, from a server of this machine."""

from __future__ import annotations

import argparse
from typing import Any

from fasttile.cli.options import add_options, add_size_option, add_verbose_option, with_size
from fasttile.cli.output import print_line
from fasttile.errors import OptionError
from fasttile.options.cut import option_table

EXAMPLES = """\
examples:
  fasttile view site/map.dzi
  fasttile view map.pmtiles --port 8000 --no-browser
  fasttile view map.dzi --host 0.0.0.0               for a phone in the same network
  fasttile view map.tif                              an image, before it is cut
  fasttile view height.tif --window 800,2400         as cut with this option shows it
  fasttile view scans                                thumbnails of all below a folder
"""


def add(parser: Any) -> None:
    """Add the command's arguments to its parser."""
    parser.epilog = EXAMPLES
    parser.set_defaults(run=run, library="fasttile.serve")
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        help="a result of any layout: a .dzi, a folder, a .szi, .zip, .pmtiles, .mbtiles or "
        "pyramidal .tif; a collection (.dzc); an image, as for cut, whose tiles are made when the "
        "page asks for them; or a folder of images and results, or several of these: the page "
        "shows thumbnails of all",
    )
    parser.add_argument(
        "--port", metavar="N", type=int, help="port of this machine (default: any free one)"
    )
    parser.add_argument(
        "--host",
        metavar="HOST",
        default="127.0.0.1",
        help="address of this machine to listen on, 0.0.0.0 for all: others in the network who "
        "have the page's address then see it too (default: this machine only)",
    )
    parser.add_argument(
        "--browser",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="open the page (default: yes)",
    )
    add_size_option(parser)
    add_options(parser.add_argument_group("what is read of an image"), "view", "source")
    add_options(parser.add_argument_group("its pixels"), "view", "pixels")
    add_options(parser.add_argument_group("its tiles"), "view", "tiles")
    add_verbose_option(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from fasttile.serve import view

    if args.page == "all":
        raise OptionError("--page all: one page is shown at a time; give its number")
    keywords = {
        name: getattr(args, name)
        for name, option in option_table("view").items()
        if getattr(args, name) != option.default
    }
    view(
        *(with_size(path, args) for path in args.paths),
        port=args.port,
        host=args.host,
        browser=args.browser,
        report=lambda line: print_line(line, flush=True),
        **keywords,
    )
    return 0
