"""What goes wrong, as one line on standard error and an exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasttile.errors import FasttileError, OptionError

if TYPE_CHECKING:
    from fasttile.batch.items import BatchProgress, BatchResult
    from fasttile.jobs.cut import CutReport

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


class ExitStatus:
    """The exit code of what went on in a `telling` block."""

    code = 0


@contextmanager
def exit_code_for_errors(verbose: bool) -> Iterator[ExitStatus]:
    """Turn whatever goes wrong inside into one line on standard error and an exit code."""
    outcome = ExitStatus()
    try:
        yield outcome
    except OptionError as error:
        outcome.code = report_failure(str(error), EXIT_USAGE, verbose)
    except FasttileError as error:
        outcome.code = report_failure(str(error), EXIT_FAILED, verbose)
    except BrokenPipeError:
        raise
    except MemoryError:
        outcome.code = report_failure("there is not enough memory", EXIT_FAILED, verbose)
    except OSError as error:
        text = f"the system refused: {error.strerror or error} (--verbose shows where)"
        outcome.code = report_failure(text, EXIT_FAILED, verbose)
    except Exception as error:
        text = f"unexpected {type(error).__name__}: {error} (--verbose shows where)"
        outcome.code = report_failure(text, EXIT_FAILED, verbose)


def report_failure(text: str, code: int, verbose: bool = False) -> int:
    if verbose:
        import traceback

        traceback.print_exc()
    print_error(text)
    return code


def print_error(text: str) -> None:
    """One line on standard error."""
    line = " ".join(text.split())  # a file's name may hold anything, a line break too
    print(f"fasttile: {line}", file=sys.stderr)


# Running a cut of one image or many, telling how far it is and what has become of each.

MAX_NAME_WIDTH = 24


def report_outcomes(
    outcomes: Iterable[BatchResult],
    args: argparse.Namespace,
    *,
    count: int,
    write_outcome: OutcomeCallback,
) -> int:
    """Tell of each image as it ends, and in the end what failed; gives the exit code."""
    failed: list[BatchResult] = []
    skipped = 0
    for outcome in outcomes:
        write_outcome(outcome)
        if outcome.error:
            failed.append(outcome)
            if args.verbose:
                print(outcome.trace, file=sys.stderr, end="")
            print_error(outcome.error)
        elif outcome.skipped:
            skipped += 1
        elif outcome.report is not None and not args.quiet:
            print(cut_summary(outcome.report))
            for note in outcome.report.notes:
                print(f"  {note}")
    if skipped and not args.quiet:
        print(f"done by a run before: {skipped:,} of {count:,} images")
    if failed and count > 1:
        print(failure_table(failed, count), file=sys.stderr)
    if count == 1 and any(outcome.is_usage_error for outcome in failed):
        return EXIT_USAGE
    return EXIT_FAILED if failed else 0


def failure_table(failed: list[BatchResult], count: int) -> str:
    """What failed, and why."""
    lines = [f"{len(failed):,} of {count:,} images failed:"]
    width = min(MAX_NAME_WIDTH, max(len(outcome.source) for outcome in failed))
    for outcome in failed:
        why = outcome.error.removeprefix(outcome.source).removeprefix(":").strip()
        lines.append(f"  {outcome.source:<{width}}  {why}")
    return "\n".join(lines)


def cut_summary(report: CutReport) -> str:
    """A result in one line."""
    return (
        f"{report.path}: {report.width}×{report.height} pixels, {report.levels} levels, "
        f"{report.tiles} tiles, {_format_size(report.bytes)}, {report.seconds:.2f} s, "
        f"{report.megapixels_per_second:.0f} MP/s"
    )


def _format_size(count: int) -> str:
    """A number of bytes for people."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


OutcomeCallback = Callable[["BatchResult"], object]


@contextmanager
def open_report(path: str | None) -> Iterator[OutcomeCallback]:
    """A line of JSON for each image, written as soon as it ends.

    Raises:
        TargetError: The file cannot be written.
    """
    if path is None:
        yield lambda outcome: None
        return
    import json

    from fasttile.errors import TargetError
    from fasttile.storage.paths import os_target_error

    try:
        with Path(path).open("w", encoding="utf-8") as file:

            def write(outcome: BatchResult) -> None:
                file.write(json.dumps(_report_entry(outcome), ensure_ascii=False) + "\n")
                file.flush()

            yield write
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise os_target_error("write", path, error) from error
    except UnicodeEncodeError as error:
        raise TargetError(f"{path}: {error}") from error


def _report_entry(outcome: BatchResult) -> dict[str, Any]:
    """An outcome as its line says it; see docs/BATCH.md."""
    report = outcome.report
    entry: dict[str, Any] = {
        "source": outcome.source,
        "destination": str(outcome.target if report is None else report.path),
        "error": outcome.error or None,
    }
    if outcome.skipped:
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
            "notes": report.notes,
        }
    return entry


@contextmanager
def batch_bars(name: str | None) -> Iterator[Callable[[BatchProgress], None]]:
    """Progress bars: of all images, where there are many, and of the current one's tiles.

    Args:
        name: The result's name, if there is one only.
    """
    from tqdm import tqdm

    with ExitStack() as stack:

        def bar(**tqdm_options: Any) -> Any:
            return stack.enter_context(tqdm(leave=False, dynamic_ncols=True, **tqdm_options))

        whole = None if name else bar(desc="all", unit=" images", position=0)
        current = bar(desc=name, unit=" tiles", unit_scale=True, position=0 if name else 1)

        def show(now: BatchProgress) -> None:
            if whole is not None:
                whole.total = now.count
                whole.update(now.done - whole.n)
                label = Path(now.source).name[:MAX_NAME_WIDTH]
                if label != current.desc.removesuffix(": "):
                    current.reset()
                    current.set_description(label)
            if now.progress is not None:
                current.total = now.progress.tile_count
                current.update(now.progress.tiles - current.n)

        yield show
