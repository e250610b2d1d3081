"""`fasttile verify`: check a result, and repair it."""

from __future__ import annotations

import argparse
import gc
from typing import TYPE_CHECKING, Any

from fasttile.cli.options import add_options, add_output_options, add_size_option, with_size
from fasttile.cli.output import (
    EXIT_FAILED,
    print_json,
    print_line,
    print_notes,
)
from fasttile.cli.progress import show_progress
from fasttile.errors import OptionError, printable
from fasttile.options.cut import option_table

if TYPE_CHECKING:
    from fasttile.verify.report import VerifyReport

MAX_FAULT_LINES = 20
"""Number of faults that are listed; the others are only counted."""

EXAMPLES = """\
examples:
  fasttile verify map.dzi                          every tile exists and is not truncated
  fasttile verify map.pmtiles --deep               and decodes, and the levels agree
  fasttile verify site/map --source map.tif        and shows the image
  fasttile verify map.dzi --source map.tif --repair
                                                   cut wrong tiles again

The exit code is 0 if the result is complete, 1 if it is not, 2 for wrong usage.
"""


def add(parser: Any) -> None:
    """Add the command's arguments to its parser."""
    parser.epilog = EXAMPLES
    parser.set_defaults(run=run, library="fasttile.verify")
    parser.add_argument(
        "path",
        metavar="PATH",
        help="a result of any layout, in a folder or in one file: .dzi, .zip, .szi, .pmtiles, "
        ".mbtiles, .tif",
    )
    parser.add_argument("--source", help="the image of the result; each tile is compared with it")
    parser.add_argument(
        "--deep",
        action="store_true",
        help="decode every tile, and compare each level with the larger one halved",
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="cut missing and wrong tiles again, and remove surplus ones; needs --source",
    )
    add_size_option(parser)
    group = parser.add_argument_group("how the source was read")
    add_options(group, "verify", "source", "pixels")
    group = parser.add_argument_group("how the tiles were encoded")
    add_options(group, "verify", "tiles")
    group = parser.add_argument_group("while it runs")
    add_options(group, "verify", "run")
    group.add_argument(
        "--json", action="store_true", help="print one object of JSON, with all faults"
    )
    add_output_options(group)
    # None: not given, so that the record of the result states it.
    parser.set_defaults(**dict.fromkeys(option_table("verify")))


def run(args: argparse.Namespace) -> int:
    """Check or repair a result; the exit code is 0 if it is complete."""
    from fasttile.verify import VERIFY_OPTIONS, repair, verify

    gc.enable()
    args.output_is_product = args.json
    if args.repair and args.source is None:
        raise OptionError("--repair: the image is missing; add --source IMAGE")
    path = with_size(args.path, args)
    if args.page == "all":
        raise OptionError("--page all: a result has one page; give its number")
    given = {name: getattr(args, name) for name in VERIFY_OPTIONS}
    keywords = {name: value for name, value in given.items() if value is not None}
    with show_progress(args, "verify", "tiles", lambda now: (now.tiles, now.tile_count)) as show:
        if args.repair:
            report = repair(path, args.source, show, **keywords)
        else:
            report = verify(path, args.source, args.deep, show, **keywords)
    if args.json:
        print_json(record(report))
        return 0 if report.is_complete else EXIT_FAILED
    for fault in report.faults[:MAX_FAULT_LINES]:
        print_line(f"{fault.name}: {fault.problem}")
    if report.fault_count > MAX_FAULT_LINES:
        print_line(f"… and {report.fault_count - min(MAX_FAULT_LINES, len(report.faults)):,} more")
    if not (args.quiet and report.is_complete):
        print_line(verify_summary(report))
        print_notes(report.notes)
    return 0 if report.is_complete else EXIT_FAILED


def record(report: VerifyReport) -> dict[str, Any]:
    """The report of a check for programs: members of an object of JSON."""
    return {
        "path": printable(report.path),
        "is_complete": report.is_complete,
        "tiles": report.tiles,
        "bytes": report.bytes,
        "left_out": report.skipped,
        "repaired": report.repaired,
        "fault_count": report.fault_count,
        "faults": [
            {"name": printable(fault.name), "problem": printable(fault.problem)}
            for fault in report.faults
        ],
        "notes": [printable(note) for note in report.notes],
    }


def verify_summary(report: VerifyReport) -> str:
    """Format the report of a check as one line."""
    parts = [f"{report.tiles:,} tiles", f"{report.bytes:,} bytes"]
    if report.skipped:
        parts.append(f"{report.skipped:,} left out")
    if report.repaired:
        parts.append(f"{report.repaired:,} repaired")
    faults = "1 fault" if report.fault_count == 1 else f"{report.fault_count:,} faults"
    parts.append("complete" if report.is_complete else f"NOT COMPLETE: {faults}")
    return f"{report.path}: {', '.join(parts)}"
