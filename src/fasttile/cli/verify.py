"""`fasttile verify`: whether a result is whole, and what to do if it is not."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fasttile.cli.options import add_command, add_read_options, parse_region, parse_window
from fasttile.cli.output import EXIT_FAILED, exit_code_for_errors
from fasttile.errors import OptionError
from fasttile.options.cut import CutOptions

if TYPE_CHECKING:
    from fasttile.jobs.progress import CutProgress
    from fasttile.verify.report import VerifyReport

MAX_FAULT_LINES = 20
"""So many faults are told one by one."""

EXAMPLES = """\
examples:
  fasttile verify map.dzi                          every tile is there, and a whole file
  fasttile verify map.pmtiles --deep               and can be decoded, and the levels agree
  fasttile verify site/map --source map.tif        and shows what the image shows
  fasttile verify map.dzi --source map.tif --repair
                                                   what does not is cut anew

The exit code is 0 if the result is whole, 1 if it is not, 2 for wrong usage.
"""


def add(commands: Any) -> None:
    verify = add_command(commands, "verify", "look whether a result is whole", EXAMPLES)
    verify.set_defaults(run=run)
    verify.add_argument(
        "path",
        metavar="PATH",
        help="a result of any layout, in a folder or in one file: .dzi, .zip, .szi, .pmtiles, "
        ".mbtiles, .tif",
    )
    verify.add_argument("--source", help="the image it was cut of: each tile is compared with it")
    verify.add_argument(
        "--deep",
        action="store_true",
        help="decode every tile, and compare each level with the larger one halved",
    )
    verify.add_argument(
        "--repair",
        action="store_true",
        help="cut anew what is missing or wrong, and remove what is too many; needs --source",
    )
    source = verify.add_argument_group("how the source was read")
    add_read_options(source)
    _add_verify_pixel_options(source)
    _add_encoding_options(
        verify.add_argument_group("how the tiles were made, where they do not tell")
    )
    _add_check_options(verify.add_argument_group("while it runs"))


def _add_verify_pixel_options(group: Any) -> None:
    default = CutOptions()
    group.add_argument("--region", metavar="X,Y,W,H", type=parse_region, help="as for cut")
    group.add_argument(
        "--window",
        metavar="LOW,HIGH|full|auto",
        type=parse_window,
        default=default.window,
        help="as for cut (default: %(default)s)",
    )
    for name, choices in (
        ("icc", ("srgb", "keep", "drop")),
        ("shrink", ("mean", "nearest", "mode")),
    ):
        group.add_argument(
            f"--{name}",
            choices=choices,
            default=getattr(default, name),
            help="as for cut (default: %(default)s)",
        )
    group.add_argument(
        "--background",
        metavar="COLOUR",
        default=default.background,
        help="as for cut (default: %(default)s)",
    )


def _add_encoding_options(group: Any) -> None:
    group.add_argument("--format", metavar="FORMAT", help="as for cut (default: as they say)")
    group.add_argument("--quality", metavar="1-100", type=int, help="of JPEG and WebP tiles")
    group.add_argument(
        "--skip-blank",
        metavar="THRESHOLD",
        type=int,
        help="what a tile that is left out may differ from the background, of 255 (default: 5)",
    )


def _add_check_options(group: Any) -> None:
    group.add_argument(
        "--threads",
        metavar="N",
        type=int,
        help="how many tiles are looked at at a time (default: one a processor)",
    )
    group.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="show how far it is, on standard error (default: on a terminal)",
    )
    group.add_argument("-q", "--quiet", action="store_true", help="say nothing but what is wrong")
    group.add_argument(
        "-v", "--verbose", action="store_true", help="show where an error comes from"
    )


def run(args: argparse.Namespace) -> int:
    """Look at a result; the exit code says whether it is whole."""
    gc.enable()
    code = 0
    with exit_code_for_errors(args.verbose) as outcome:
        report = _check_or_repair(args)
        _print_report(report, args)
        code = 0 if report.is_complete else EXIT_FAILED
    return outcome.code or code


def _check_or_repair(args: argparse.Namespace) -> VerifyReport:
    from fasttile.verify import VERIFY_OPTIONS, repair, verify

    if args.repair and args.source is None:
        raise OptionError("--repair needs the image to cut from: --source IMAGE")
    if args.page == "all":
        raise OptionError("--page all: a result is of one page; say which")
    wishes = {name: getattr(args, name) for name in VERIFY_OPTIONS}
    with _tile_bar(args) as show:
        if args.repair:
            return repair(args.path, args.source, show, **wishes)
        return verify(args.path, args.source, args.deep, show, **wishes)


@contextmanager
def _tile_bar(args: argparse.Namespace) -> Iterator[Callable[[CutProgress], None] | None]:
    """A progress bar in tiles, if it is wanted."""
    wanted = sys.stderr.isatty() if args.progress is None else args.progress
    if not wanted or args.quiet:
        yield None
        return
    from tqdm import tqdm

    with tqdm(
        desc="verify", unit=" tiles", unit_scale=True, leave=False, dynamic_ncols=True
    ) as bar:

        def show(progress: CutProgress) -> None:
            bar.total = progress.tile_count
            bar.update(progress.tiles - bar.n)

        yield show


def _print_report(report: VerifyReport, args: argparse.Namespace) -> None:
    """What is wrong, line by line, and all in one line at the end."""
    from fasttile.storage.paths import printable_path

    for fault in report.faults[:MAX_FAULT_LINES]:
        print(f"{printable_path(fault.name)}: {printable_path(fault.problem)}")
    if report.fault_count > MAX_FAULT_LINES:
        print(f"… and {report.fault_count - min(MAX_FAULT_LINES, len(report.faults)):,} more")
    if args.quiet and report.is_complete:
        return
    print(verify_summary(report))
    for note in report.notes:
        print(f"  {note}")


def verify_summary(report: VerifyReport) -> str:
    """A result in one line."""
    parts = [f"{report.tiles:,} tiles", f"{report.bytes:,} bytes"]
    if report.skipped:
        parts.append(f"{report.skipped:,} left out")
    if report.repaired:
        parts.append(f"{report.repaired:,} repaired")
    faults = "1 fault" if report.fault_count == 1 else f"{report.fault_count:,} faults"
    parts.append("whole" if report.is_complete else f"NOT WHOLE: {faults}")
    return f"{report.path}: {', '.join(parts)}"
