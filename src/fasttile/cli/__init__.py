"""The command line: arguments to calls, errors to one line and an exit code."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from fasttile._version import __version__
from fasttile.cli import collection, cut, info, verify, view
from fasttile.cli.output import EXIT_FAILED, EXIT_INTERRUPTED, report_failure

DESCRIPTION = "Cut images of any size into pyramids of tiles, fast and in little memory."

EXAMPLES = """\
examples:
  fasttile cut map.tif                       map.dzi and map_files/ in the current folder
  fasttile cut map.tif -o site/map.dzi       the same, by another name
  fasttile cut scans -o site                 all images below scans, places kept
  fasttile cut photo.jpg                     any image, in the colours that it shows
  fasttile cut map.tif -o map.szi            in one file; also .zip, .pmtiles, .mbtiles, .tif
  fasttile cut map.tif --layout zoomify      or xyz, tms, tilecache, gsiv, iiif2, iiif3
  fasttile cut map.tif --format png          without loss
  fasttile info map.tif                      what it is, and what it would become
  fasttile verify map.dzi --source map.tif   is every tile there, and as it should be
  fasttile view map.dzi                      a result in the browser
  fasttile collection create wall.dzc *.jpg  a wall of images
"""


class SignalError(BaseException):
    """A signal asks the process to end; it is raised where the main thread stands."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code: 0, 1 for a failure, 2 for wrong usage, 130 for Ctrl-C.

    Args:
        arguments: What follows the command's name. Default: the process' own arguments.
    """
    # Nothing here computes with BLAS, whose threads would cost more than our imports; and these
    # leave no garbage to be collected meanwhile.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.disable()
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:  # python -W shows them
                # What libraries warn of is for programmers; users get one line if it matters.
                warnings.simplefilter("ignore")
            return _run_command(arguments)
    finally:
        gc.enable()


def _run_command(arguments: Sequence[str] | None) -> int:
    try:
        words = _build_parser().parse_args(arguments)
    except SystemExit as exit_:  # argparse has said why
        return int(exit_.code or 0)
    try:
        with _signals_as_exceptions():
            code: int = words.run(words)
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        return report_failure(f"interrupted; {_leftover_note(words)}", EXIT_INTERRUPTED)
    except SignalError as signalled:
        return report_failure(
            f"ended by signal {signalled.number}; {_leftover_note(words)}", 128 + signalled.number
        )
    except BrokenPipeError:
        # Whoever read our output has gone; what is still buffered must not fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def _leftover_note(args: argparse.Namespace) -> str:
    """What there is after an interruption."""
    if not getattr(args, "resume", False):
        return "nothing was left behind"
    from fasttile.jobs.plan import is_one_file  # seldom needed

    if is_one_file(args.output or ""):
        return "the same command carries on, but a file that is not whole begins again"
    return "the same command carries on"


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fasttile",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fasttile {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    cut.add(commands)
    info.add(commands)
    verify.add(commands)
    view.add(commands)
    collection.add(commands)
    return parser


@contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the work as tidily as Ctrl-C does, and the first one be enough.

    Whoever presses Ctrl-C twice would interrupt the tidying up; SIGKILL is there for them.
    """

    def raise_for_signal(number: int, frame: object) -> NoReturn:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SignalError(number)

    names = ("SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is not wanted
        numbers.append(signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, raise_for_signal)
    except ValueError:  # not the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
