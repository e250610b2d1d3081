"""`fasttile view`: a result in the browser, without any server to set up."""

from __future__ import annotations

import argparse
from typing import Any

from fasttile.cli.options import add_command
from fasttile.cli.output import exit_code_for_errors

EXAMPLES = """\
examples:
  fasttile view site/map.dzi
  fasttile view map.pmtiles --port 8000 --no-browser
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    view = add_command(commands, "view", "show a result in the browser", EXAMPLES)
    view.set_defaults(run=run)
    view.add_argument(
        "path",
        metavar="PATH",
        help="a result of any layout: a .dzi, a folder, a .szi, .zip, .pmtiles, .mbtiles or "
        "pyramidal .tif; or a collection (.dzc)",
    )
    view.add_argument(
        "--port", metavar="N", type=int, help="where to listen on this machine (default: any)"
    )
    view.add_argument(
        "--browser",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="open the page (default: yes)",
    )
    view.add_argument("-v", "--verbose", action="store_true", help="show where an error comes from")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from fasttile.serve import view

    with exit_code_for_errors(args.verbose) as outcome:
        view(
            args.path,
            port=args.port,
            browser=args.browser,
            report=lambda line: print(line, flush=True),
        )
    return outcome.code
