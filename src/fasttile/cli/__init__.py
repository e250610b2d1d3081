"""The command line: parser, signals, exit codes."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

from fasttile.cli.output import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    SignalError,
    cancel_signal_check,
    exit_code_for_errors,
    flush_output,
    lost_output,
    open_standard_streams,
    print_version,
    raise_outside_locks,
    received_signals,
    report_failure,
)
from fasttile.storage.system import error_descriptor, separate_error_stream

TYPE_CHECKING = False  # --version needs neither typing nor argparse, which take longer than it

if TYPE_CHECKING:
    import argparse
    from types import FrameType
    from typing import Any

    from fasttile.cli.options import CommandParser

DESCRIPTION = "Cut images of any size into pyramids of tiles, fast and in little memory."

COMMANDS = {
    "cut": "cut images into tile pyramids",
    "info": "describe an image or a result",
    "convert": "move a result into another layout or container, tile by tile as they are",
    "verify": "check that a result is complete",
    "view": "show a result or an image in the browser",
    "collection": "create and change Deep Zoom collections, whose thumbnails share tiles",
}
"""Name and summary of each command; its module has the same name."""

EXAMPLES = """\
examples:
  fasttile cut map.tif                       map.dzi and map_files/ in the current folder
  fasttile cut map.tif -o site/map.dzi       another name
  fasttile cut scans -o site                 all images below scans, in the same folders
  fasttile cut photo.jpg                     any image, in sRGB
  fasttile cut map.tif -o map.szi            in one file; also .zip, .pmtiles, .mbtiles, .tif
  fasttile cut map.tif --layout zoomify      or xyz, tms, tilecache, gsiv, iiif2, iiif3
  fasttile cut map.tif --format png          lossless
  fasttile convert map.dzi map.szi           the same tiles in another container or layout
  fasttile info map.tif                      its size, its memory, its levels
  fasttile verify map.dzi --source map.tif   check every tile
  fasttile view map.dzi                      show it in the browser
  fasttile collection create wall.dzc *.jpg  a wall of images
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Arguments after the program's name. Default: those of the process, which a
            signal may end at once before the command has begun.

    Returns:
        The exit code: 0, 1 for a failure, 2 for wrong usage, 130 for Ctrl-C.
    """
    # fasttile does not use BLAS; starting its threads costs more than the imports. Imports leave
    # no garbage, so each command enables the collector after its imports.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.disable()
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:  # python -W shows them
                # Warnings of libraries are for programmers; users get one line per error.
                warnings.simplefilter("ignore")
            return _run_command(arguments)
    finally:
        gc.enable()
        flush_output()


def _run_command(arguments: Sequence[str] | None) -> int:
    is_own_process = arguments is None
    if is_own_process:
        open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # one of ASCII or a code page lacks characters
            stream.reconfigure(errors="backslashreplace")
    lost_output.clear()
    handle_signals = _exit_on_signals if is_own_process else _signals_as_exceptions
    arguments = sys.argv[1:] if arguments is None else arguments
    args: Any = None
    try:
        if list(arguments) == ["--version"]:
            print_version()
            return _check_output(0, is_product=True)
        verbose = not {"-v", "--verbose"}.isdisjoint(arguments)
        with exit_code_for_errors(verbose) as status:
            with handle_signals():
                args = _parse(arguments)
                import_module(args.library)
                from fasttile.storage.random_access import guard_mapped_files

                guard_mapped_files()
            if is_own_process and not verbose:
                # Not before: libraries that find too little memory to start print that, and exit.
                separate_error_stream()
            with _signals_as_exceptions():
                status.code = args.run(args)
                args.has_ended = True
                flush_output()
        return _check_output(status.code, is_product=getattr(args, "output_is_product", False))
    except SystemExit as exit_:  # argparse has printed the reason
        return _check_output(int(exit_.code or 0), is_product=True)
    except KeyboardInterrupt as interrupt:
        note = _leftover_note(args, interrupt)
        return report_failure(f"interrupted; {note}", EXIT_INTERRUPTED)
    except SignalError as signalled:
        note, number = _leftover_note(args, signalled), signalled.number
        return report_failure(f"ended by signal {number}; {note}", 128 + number)


def _check_output(code: int, *, is_product: bool) -> int:
    """The exit code: 1 if a product of the command was lost.

    Messages of a cut may be lost: its result is complete.
    """
    flush_output()
    reason = next(filter(None, lost_output), "")
    if reason:
        report_failure(f"standard output: {reason}", EXIT_FAILED)
    return EXIT_FAILED if lost_output and is_product else code


def _leftover_note(args: argparse.Namespace | None, interrupt: BaseException) -> str:
    """The state after an interruption, for a message."""
    for note in getattr(interrupt, "__notes__", ()):  # the result is complete
        return str(note)
    if getattr(args, "has_ended", False):
        return "the command had done its work"
    if args is None or not getattr(args, "resume", False):
        return "nothing was left behind"
    from fasttile.jobs.plan import is_one_file  # only after an interruption

    if is_one_file(args.output or ""):
        return "the same command resumes, but cuts incomplete files again from the start"
    return "the same command resumes"


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments with the parser of the chosen command: all take 5 ms more."""
    from fasttile.cli.options import (
        check_first_option,
        join_negative_values,
        unknown_argument_error,
    )

    chosen = next((argument for argument in arguments if not argument.startswith("-")), "")
    # An option before the command may be --help, which lists all commands.
    is_first = arguments[:1] == [chosen] and chosen in COMMANDS
    if "".join(arguments[:1]).startswith("--completion"):
        parser = command_parser(COMMANDS, COMMANDS)
    else:
        parser = command_parser([chosen] if is_first else COMMANDS, [chosen])
    if not is_first:
        check_first_option(arguments, parser, COMMANDS)
    args, unknown = parser.parse_known_args(join_negative_values(arguments))
    if unknown:
        raise unknown_argument_error(unknown, args.parser)
    return args


def command_parser(names: Iterable[str], with_options: Collection[str]) -> CommandParser:
    """The parser of the command line.

    Args:
        names: Commands that it knows.
        with_options: Those of them whose arguments it knows, too.
    """
    from fasttile.cli.options import CommandParser, PrintCompletion, PrintVersion, add_command

    parser = CommandParser(prog="fasttile", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("--version", action=PrintVersion, nargs=0, help="show the version and exit")
    parser.add_argument(
        "--completion",
        action=PrintCompletion,
        choices=("bash", "zsh", "fish"),
        help="print the completion script of a shell, and exit",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in names:
        command = add_command(commands, name, COMMANDS[name])
        if name in with_options:
            import_module(f"fasttile.cli.{name}").add(command)
    return parser


@contextmanager
def _exit_on_signals() -> Iterator[None]:
    """End the process at once if a signal arrives while modules are imported.

    Nothing has been written then. An exception would not do: modules drop it, or make another.
    """

    def end_process(number: int, frame: FrameType | None) -> None:
        how = "interrupted" if number == signal.SIGINT else f"ended by signal {number}"
        try:
            line = f"fasttile: {how}; nothing was left behind\n"
            os.write(error_descriptor() or 2, line.encode())
        finally:
            os._exit(128 + number)

    with _handle_signals(end_process):
        yield


@contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """Raise SignalError for SIGTERM and SIGHUP, KeyboardInterrupt for SIGINT, once.

    Later signals are ignored: they would interrupt the removal of unfinished files.
    """

    def raise_for_signal(number: int, frame: FrameType | None) -> None:
        for name in _SIGNAL_NAMES:
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        received_signals.append(number)
        raise_outside_locks(frame)

    received_signals.clear()
    try:
        with _handle_signals(raise_for_signal):
            yield
    finally:
        cancel_signal_check()


_SIGNAL_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def _handle_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle the signals that end the command, in the main thread only."""
    numbers = [getattr(signal, name) for name in _SIGNAL_NAMES if hasattr(signal, name)]
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        numbers.remove(signal.SIGINT)  # the parent process ignores it
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, handler)
    except ValueError:  # not the main thread: it cannot handle signals
        yield
        return
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
