"""Output of the commands: errors, exit codes, summaries, reports."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from fasttile._version import __version__
from fasttile.errors import (
    OptionError,
    TargetError,
    as_fasttile_error,
    one_line,
    printable,
    redact_url,
)

TYPE_CHECKING = False

if TYPE_CHECKING:
    import argparse
    from pathlib import Path
    from types import FrameType
    from typing import Any

    from fasttile.batch.items import BatchResult
    from fasttile.dry_run import CutEstimate
    from fasttile.jobs.cut import CutReport

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


class SignalError(BaseException):
    """A signal ended the process; raised in the main thread."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


received_signals: list[int] = []
"""Numbers of the signals that end the command, as far as they have arrived."""


def raise_if_signalled(*_: object) -> None:
    """Raise the exception of a signal that has arrived, again if need be.

    Libraries drop exceptions of signal handlers in some callbacks, during imports for one.

    Raises:
        KeyboardInterrupt, SignalError: A signal has arrived.
    """
    for number in received_signals:
        cancel_signal_check()
        raise KeyboardInterrupt if number == signal.SIGINT else SignalError(number)


RECHECK_SECONDS = 0.005

_BLOCKED_CHECKS = 4
"""Checks that find a frame at the same instruction, after which it is blocked there."""

_LOCKING_MODULES = (
    "/threading.py",
    "/queue.py",
    "/contextlib.py",
    "/futures/thread.py",
    "/logging/__init__.py",
)


def raise_outside_locks(frame: FrameType | None) -> None:
    """Raise the exception of a signal, but not within code of Python that takes a lock.

    An exception between the lock's acquisition and the `with` block that releases it leaves the
    lock taken: threads wait for ever. So the check is repeated until the main thread is elsewhere,
    or is blocked at one instruction, where it is safe.

    Args:
        frame: What the main thread runs.

    Raises:
        KeyboardInterrupt, SignalError: A signal has arrived.
    """
    if not hasattr(signal, "setitimer"):
        raise_if_signalled()
        return
    seen: list[tuple[int, int]] = []

    def check(_: int, frame: FrameType | None) -> None:
        if frame is not None and frame.f_code.co_filename.endswith(_LOCKING_MODULES):
            seen.append((id(frame), frame.f_lasti))
            if seen[-_BLOCKED_CHECKS:] != [seen[-1]] * _BLOCKED_CHECKS:
                signal.setitimer(signal.ITIMER_REAL, RECHECK_SECONDS)
                return
        raise_if_signalled()

    _alarm_handlers.append(signal.signal(signal.SIGALRM, check))
    check(0, frame)


_alarm_handlers: list[Any] = []
"""The handler of SIGALRM that `raise_outside_locks` has replaced, if it has."""


def cancel_signal_check() -> None:
    """End the repeated checks of `raise_outside_locks`, if it runs."""
    if _alarm_handlers:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, _alarm_handlers.pop())


class ExitStatus:
    """Exit code of an `exit_code_for_errors` block."""

    code = 0


@contextmanager
def exit_code_for_errors(verbose: bool) -> Iterator[ExitStatus]:
    """Turn an error of the block into one line on standard error and an exit code."""
    status = ExitStatus()
    try:
        try:
            yield status
        except Exception:
            raise_if_signalled()
            raise
    except OptionError as error:
        status.code = report_failure(str(error), EXIT_USAGE, verbose)
    except Exception as error:
        status.code = report_failure(str(as_fasttile_error(error)), EXIT_FAILED, verbose)


def report_failure(text: str, code: int, verbose: bool = False) -> int:
    """Print an error as one line, after its traceback if verbose; returns the code."""
    if verbose:
        import traceback

        print_lines(traceback.format_exc(), is_error=True)
    print_line(f"fasttile: {one_line(text)}", is_error=True)
    return code


def print_line(text: str, *, is_error: bool = False, flush: bool = False) -> None:
    """Print a text as one line; all output of the commands but progress bars goes through here.

    Control characters are escaped, and secrets in addresses are left out, see `printable`. A line
    that cannot be written stops nothing.

    Args:
        text: The line.
        is_error: True for standard error instead of standard output.
        flush: True to send it at once.
    """
    stream = sys.stderr if is_error else sys.stdout
    with _drop_unwritten(stream):
        print(printable(text), file=stream, flush=flush)


def print_json(record: dict[str, Any]) -> None:
    """Print an object of JSON as one line; its texts are to be `printable`."""
    import json

    text = json.dumps(record, ensure_ascii=False)
    write_text(f"{text if text.isprintable() else json.dumps(record)}\n")


def write_text(text: str) -> None:
    """Write a text of this package to standard output as it is."""
    with _drop_unwritten(sys.stdout):
        sys.stdout.write(text)


def print_version() -> None:
    """Print the version, as --version does."""
    write_text(f"fasttile {__version__}\n")


def print_lines(text: str, *, is_error: bool = False) -> None:
    """Print a text of several lines; see `print_line`."""
    for line in text.rstrip("\n").split("\n"):
        print_line(line, is_error=is_error)


class TolerantStream:
    """Standard error, on which writing never fails, for progress bars."""

    def write(self, text: str) -> int:
        """Write a text, as far as possible."""
        with _drop_unwritten(sys.stderr):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        """Send all texts, as far as possible."""
        with _drop_unwritten(sys.stderr):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


lost_output: list[str] = []
"""Reasons why lines of standard output were lost; "" if its reader has closed it."""


def open_standard_streams() -> None:
    """Replace closed standard streams of this process by the null device.

    Else the next file that is opened takes the number of a closed one, and messages of C libraries
    are written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def flush_output() -> None:
    """Write what is buffered of standard output and standard error, as far as possible."""
    for stream in (sys.stdout, sys.stderr):
        with _drop_unwritten(stream):
            stream.flush()


@contextmanager
def _drop_unwritten(stream: Any) -> Iterator[None]:
    """Discard this and all further output to a stream if writing to it fails in the block."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: it is closed
        if stream is sys.stdout:
            reason = getattr(error, "strerror", None) or str(error)
            lost_output.append("" if isinstance(error, BrokenPipeError) else reason)
        with suppress(OSError, ValueError):  # else what is buffered fails again at the end
            null = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(null, stream.fileno())
            finally:
                os.close(null)


def print_notes(notes: Iterable[str]) -> None:
    """Print the notes of a report below its summary."""
    for note in notes:
        print_line(f"  {note}")


MAX_NAME_WIDTH = 24
"""Number of characters of a name in tables and before progress bars."""

ESTIMATE_MEMBERS = [
    "layout",
    "container",
    "format",
    "sampled",
    "disk_bytes",
    "disk_free",
    "memory_bytes",
]
"""Attributes of the estimate of a dry run that its line of JSON has too."""

MAX_REPORT_LINE_BYTES = 2**20
"""No line of a report has more bytes."""


def report_results(
    results: Iterable[BatchResult],
    args: argparse.Namespace,
    *,
    count: int,
    write_entry: Callable[[BatchResult], object],
    show_report: Callable[[CutReport], object],
    left_behind: Callable[[], str],
    count_new: Callable[[], int] | None,
) -> int:
    """Print each result of a batch as it arrives, then the failures; returns the exit code.

    `write_entry` is called with each result, `show_report` with the report of each that was made.
    After an interruption, `left_behind` names the rest of unfinished results; "" for nothing.
    `count_new` counts the results that were not there before: one may be complete, and its report
    not yet here. None: no result is written.
    """
    failed: list[BatchResult] = []
    skipped = made = 0
    report_error = ""
    try:
        for result in results:
            made += result.report is not None
            if args.json:
                print_json(report_entry(result))
                flush_output()
            try:
                if not report_error:
                    write_entry(result)
            except TargetError as error:  # the images are cut all the same
                report_error = str(error)
                print_line(f"fasttile: {report_error}", is_error=True)
            if result.error:
                failed.append(result)
                if args.verbose:
                    print_lines(result.trace, is_error=True)
                print_line(f"fasttile: {result.error}", is_error=True)
            elif result.skipped:
                skipped += 1
            elif result.report is not None:
                show_report(result.report)
    except (KeyboardInterrupt, SignalError) as interrupt:
        if count_new is None:
            raise
        left = "" if args.resume else left_behind()
        made = max(made, count_new())
        if made and not (args.resume and count == 1):
            number = "the result is" if count == 1 else f"{made:,} of {count:,} results are"
            rest = "the same command resumes" if args.resume else "nothing else was left behind"
            left = f"{number} complete; {left or rest}"
        if left:
            interrupt.add_note(left)
        raise
    if skipped and not (args.quiet or args.json):
        print_line(f"already cut by an earlier run: {skipped:,} of {count:,} images")
    if failed and count > 1:
        print_lines(failure_table(failed, count), is_error=True)
    if count == 1 and any(isinstance(result.exception, OptionError) for result in failed):
        return EXIT_USAGE
    return EXIT_FAILED if failed or report_error else 0


def failure_table(failed: list[BatchResult], count: int) -> str:
    """Format the failed images of a batch, with the reasons."""
    lines = [f"{len(failed):,} of {count:,} images failed:"]
    names = [redact_url(result.source) for result in failed]
    width = min(MAX_NAME_WIDTH, max(map(len, names)))
    for name, result in zip(names, failed, strict=True):
        reason = result.error.removeprefix(name).removeprefix(":").strip()
        lines.append(f"  {name:<{width}}  {reason}")
    return "\n".join(lines)


def cut_summary(report: CutReport) -> str:
    """Format the report of a cut as one line, without a rate below 0.01 MP/s or of a resumed cut.

    The time of a resumed cut is not that of all its pixels.
    """
    speed = 0.0 if report.resumed else report.megapixels_per_second
    rate = f", {speed:.{0 if speed >= 10 else 1 if speed >= 1 else 2}f} MP/s"
    return (
        f"{report.path}: {report.width}×{report.height} pixels, {report.levels} levels, "
        f"{report.tiles} tiles, {size_text(report.bytes)}, "
        f"{report.seconds:.2f} s{rate if speed >= 0.01 else ''}"
    )


def estimate_summary(estimate: CutEstimate) -> str:
    """Format the estimate of a dry run as one line."""
    count, about, sampled = estimate.tiles + estimate.blanks, "", "all"
    if estimate.sampled < count:
        about, sampled = "about ", f"{estimate.sampled:,} of {count:,}"
    blanks = f" ({estimate.blanks} blank ones left out)" if estimate.blanks else ""
    parts = [
        f"{estimate.width}×{estimate.height} pixels",
        f"{estimate.levels} levels",
        f"{estimate.tiles} tiles{blanks}",
        f"{about}{size_text(estimate.bytes)} ({sampled} tiles sampled)",
        *_cost_texts(estimate.seconds, estimate.disk_bytes, estimate.disk_free),
        f"{size_text(estimate.memory_bytes)} of memory",
    ]
    kind = f"{estimate.layout} in {estimate.container}, {estimate.format}"
    return f"{estimate.path}: would be {kind}; {', '.join(parts)}"


def total_summary(estimates: Sequence[CutEstimate]) -> str:
    """Format the sums of the estimates of a dry run as one line."""
    tiles, nbytes, seconds, needed = (
        sum(getattr(estimate, name) for estimate in estimates)
        for name in ("tiles", "bytes", "seconds", "disk_bytes")
    )
    free = [one.disk_free for one in estimates if one.disk_free is not None]
    least = min(free, default=None)
    parts = [f"{tiles} tiles", f"about {size_text(nbytes)}", *_cost_texts(seconds, needed, least)]
    missing = "" if least is None or needed <= least else "; the disk is too small for all"
    return f"in all: {len(estimates):,} results, {', '.join(parts)}{missing}"


def _cost_texts(seconds: float, disk_bytes: int, disk_free: int | None) -> Iterator[str]:
    """Time and space on the disk, as parts of a summary."""
    yield f"{seconds:.1f} s"
    if disk_free is not None:
        yield f"{size_text(disk_bytes)} of {size_text(disk_free)} free on the disk"


def size_text(nbytes: int) -> str:
    """A number of bytes with a unit."""
    size, unit = float(nbytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.{0 if unit == 'bytes' else 1}f} {unit}"


@contextmanager
def open_report(
    path: str | None, *, is_dry: bool = False
) -> Iterator[Callable[[BatchResult], object]]:
    """Open the file of --report; yields a function that writes a result as a line of JSON.

    The file appears at the end of the block, also after an error if there is a result. A device
    or a pipe gets each line at once. In a dry run the file is only checked.

    Raises:
        TargetError: The file cannot be written, or exists and is no report.
    """
    if path is None:
        yield lambda result: None
        return
    import json
    from pathlib import Path

    from fasttile.storage.paths import wrap_os_errors
    from fasttile.storage.writing import AtomicFile, check_atomic_file

    def encode(result: BatchResult) -> bytes:
        entry = report_entry(result)
        text = json.dumps(entry, ensure_ascii=False)
        if not text.isprintable():  # a byte 0xFF of a name becomes "\udcff", as for os.fsencode
            text = json.dumps(entry)
        return f"{text}\n".encode()

    if is_dry:
        if not Path(path).exists() or Path(path).is_file():
            _check_is_report(Path(path))
            check_atomic_file(Path(path), overwrite=True)
        yield lambda result: None
        return
    with wrap_os_errors("write", path):
        is_device = Path(path).exists() and not Path(path).is_file()
        device = os.open(path, os.O_WRONLY) if is_device else None
    if device is not None:

        def write(result: BatchResult) -> None:
            with wrap_os_errors("write", path):
                os.write(device, encode(result))

        try:
            yield write
        finally:
            os.close(device)
        return
    _check_is_report(Path(path))
    file = AtomicFile(path, overwrite=True)
    try:
        yield lambda result: (file.append(encode(result)), file.flush())
    except BaseException:
        if file.size:
            file.publish()
        raise
    else:
        file.publish()
    finally:
        file.abort()


def _check_is_report(path: Path) -> None:
    """Refuse to replace a file that is no report.

    Raises:
        TargetError: It is none, or cannot be read.
    """
    import json

    from fasttile.errors import SourceError
    from fasttile.storage.random_access import open_regular_file

    if not path.exists():
        return
    try:
        with open_regular_file(path) as file:
            line = file.readline(MAX_REPORT_LINE_BYTES)
    except SourceError as error:
        raise TargetError(str(error)) from error
    try:
        if not line or {"source", "destination", "error"} <= json.loads(line).keys():
            return
    except (ValueError, AttributeError, RecursionError):
        pass  # it is no JSON, or no object
    raise TargetError(
        f"{path}: it is no report of fasttile and is not replaced; choose another name for --report"
    )


def report_entry(result: BatchResult) -> dict[str, Any]:
    """The members of a result's line of JSON; bytes are those of all tiles."""
    report = result.report
    entry: dict[str, Any] = {
        "source": _shown_place(result.source),
        "destination": _shown_place(str(result.target if report is None else report.path)),
        "error": result.error or None,
    }
    if result.skipped:
        entry["skipped"] = True
    if report is not None:
        entry |= {
            "seconds": round(report.seconds, 4),
            "width": report.width,
            "height": report.height,
            "levels": report.levels,
            "tiles": report.tiles,
            "encoded": report.tiles - report.resumed,
            "blanks": report.blanks,
            "bytes": report.bytes,
            "notes": [printable(note) for note in report.notes],
        }
        if hasattr(report, "sampled"):  # of a dry run
            entry |= {"dry_run": True, "encoded": 0}
            for name in ESTIMATE_MEMBERS:
                entry[name] = getattr(report, name)
    return entry


def _shown_place(place: str) -> str:
    """A path as it is, or an address without its secrets."""
    return redact_url(place) if "://" in place else place
