"""`fasttile verify`: whether a result is whole, and what to do if it is not."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from ..options import CutOptions
from .cut import _region, _window
from .reading import add_command, add_reading
from .telling import EXIT_FAILED, telling

if TYPE_CHECKING:
    from ..cutting import Progress
    from ..verify import VerifyReport

MOST_LINES = 20
"""So many faults are told one by one."""

EXAMPLES = """\
examples:
  fasttile verify map.dzi                          every tile is there, and a whole file
  fasttile verify map.pmtiles --deep               and can be decoded, and the levels agree
  fasttile verify site/map --source map.tif        and shows what the picture shows
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
    verify.add_argument("--source", help="the picture it was cut of: each tile is compared with it")
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
    add_reading(source)
    _add_pixels(source)
    _add_tiles(verify.add_argument_group("how the tiles were made, where they do not tell"))
    _add_running(verify.add_argument_group("while it runs"))


def _add_pixels(group: Any) -> None:
    default = CutOptions()
    group.add_argument("--region", metavar="X,Y,W,H", type=_region, help="as for cut")
    group.add_argument(
        "--window",
        metavar="LOW,HIGH|full|auto",
        type=_window,
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


def _add_tiles(group: Any) -> None:
    group.add_argument("--format", metavar="FORMAT", help="as for cut (default: as they say)")
    group.add_argument("--quality", metavar="1-100", type=int, help="of JPEG and WebP tiles")
    group.add_argument(
        "--skip-blank",
        metavar="THRESHOLD",
        type=int,
        help="what a tile that is left out may differ from the background, of 255 (default: 5)",
    )


def _add_running(group: Any) -> None:
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


def run(words: argparse.Namespace) -> int:
    """Look at a result; the exit code says whether it is whole."""
    gc.enable()
    code = 0
    with telling(words.verbose) as outcome:
        report = _report(words)
        _tell(report, words)
        code = 0 if report.whole else EXIT_FAILED
    return outcome.code or code


def _report(words: argparse.Namespace) -> VerifyReport:
    from ..verify import WORDS, repair, verify

    if words.repair and words.source is None:
        raise OptionError("--repair needs the picture to cut from: --source PICTURE")
    if words.page == "all":
        raise OptionError("--page all: a result is of one page; say which")
    wishes = {name: getattr(words, name) for name in WORDS}
    with _bar(words) as show:
        if words.repair:
            return repair(words.path, words.source, show, **wishes)
        return verify(words.path, words.source, words.deep, show, **wishes)


@contextmanager
def _bar(words: argparse.Namespace) -> Iterator[Callable[[Progress], None] | None]:
    """A progress bar in tiles, if it is wanted."""
    wanted = sys.stderr.isatty() if words.progress is None else words.progress
    if not wanted or words.quiet:
        yield None
        return
    from tqdm import tqdm

    with tqdm(
        desc="verify", unit=" tiles", unit_scale=True, leave=False, dynamic_ncols=True
    ) as bar:

        def show(progress: Progress) -> None:
            bar.total = progress.tile_count
            bar.update(progress.tiles - bar.n)

        yield show


def _tell(report: VerifyReport, words: argparse.Namespace) -> None:
    """What is wrong, line by line, and all in one line at the end."""
    from ..sinks.oserrors import shown

    for fault in report.faults[:MOST_LINES]:
        print(f"{shown(fault.name)}: {shown(fault.what)}")
    if report.fault_count > MOST_LINES:
        print(f"… and {report.fault_count - min(MOST_LINES, len(report.faults)):,} more")
    if words.quiet and report.whole:
        return
    print(summary(report))
    for note in report.notes:
        print(f"  {note}")


def summary(report: VerifyReport) -> str:
    """A result in one line."""
    parts = [f"{report.tiles:,} tiles", f"{report.bytes:,} bytes"]
    if report.left_out:
        parts.append(f"{report.left_out:,} left out")
    if report.repaired:
        parts.append(f"{report.repaired:,} repaired")
    faults = "1 fault" if report.fault_count == 1 else f"{report.fault_count:,} faults"
    parts.append("whole" if report.whole else f"NOT WHOLE: {faults}")
    return f"{report.path}: {', '.join(parts)}"
