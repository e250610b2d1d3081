"""Running a cut of one picture or many, telling how far it is and what has become of each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .telling import EXIT_FAILED, EXIT_USAGE, say

if TYPE_CHECKING:
    from ..batch import BatchProgress, Outcome
    from ..job import CutReport

WIDEST_NAME = 24


def told(
    outcomes: Iterable[Outcome], words: argparse.Namespace, *, count: int, write: Report
) -> int:
    """Tell of each picture as it ends, and in the end what failed; gives the exit code."""
    failed: list[Outcome] = []
    skipped = 0
    for outcome in outcomes:
        write(outcome)
        if outcome.error:
            failed.append(outcome)
            if words.verbose:
                print(outcome.trace, file=sys.stderr, end="")
            say(outcome.error)
        elif outcome.skipped:
            skipped += 1
        elif outcome.report is not None and not words.quiet:
            print(summary(outcome.report))
            for note in outcome.report.notes:
                print(f"  {note}")
    if skipped and not words.quiet:
        print(f"done by a run before: {skipped:,} of {count:,} pictures")
    if failed and count > 1:
        print(table(failed, count), file=sys.stderr)
    if count == 1 and any(outcome.misused for outcome in failed):
        return EXIT_USAGE
    return EXIT_FAILED if failed else 0


def table(failed: list[Outcome], count: int) -> str:
    """What failed, and why."""
    lines = [f"{len(failed):,} of {count:,} pictures failed:"]
    width = min(WIDEST_NAME, max(len(outcome.source) for outcome in failed))
    for outcome in failed:
        why = outcome.error.removeprefix(outcome.source).removeprefix(":").strip()
        lines.append(f"  {outcome.source:<{width}}  {why}")
    return "\n".join(lines)


def summary(report: CutReport) -> str:
    """A result in one line."""
    return (
        f"{report.path}: {report.width}×{report.height} pixels, {report.levels} levels, "
        f"{report.tiles} tiles, {_size(report.bytes)}, {report.seconds:.2f} s, "
        f"{report.megapixels_per_second:.0f} MP/s"
    )


def _size(count: int) -> str:
    """A number of bytes for people."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


Report = Callable[["Outcome"], object]


@contextmanager
def reporting(path: str | None) -> Iterator[Report]:
    """A line of JSON for each picture, written as soon as it ends.

    Raises:
        TargetError: The file cannot be written.
    """
    if path is None:
        yield lambda outcome: None
        return
    import json

    from ..errors import TargetError
    from ..sinks.oserrors import refusal

    try:
        with Path(path).open("w", encoding="utf-8") as file:

            def write(outcome: Outcome) -> None:
                file.write(json.dumps(_entry(outcome), ensure_ascii=False) + "\n")
                file.flush()

            yield write
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise refusal("write", path, error) from error
    except UnicodeEncodeError as error:
        raise TargetError(f"{path}: {error}") from error


def _entry(outcome: Outcome) -> dict[str, Any]:
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
def bars(name: str | None) -> Iterator[Callable[[BatchProgress], None]]:
    """Progress bars: of all pictures, where there are many, and of the current one's tiles.

    Args:
        name: The result's name, if there is one only.
    """
    from tqdm import tqdm

    with ExitStack() as stack:

        def bar(**words: Any) -> Any:
            return stack.enter_context(tqdm(leave=False, dynamic_ncols=True, **words))

        whole = None if name else bar(desc="all", unit=" pictures", position=0)
        current = bar(desc=name, unit=" tiles", unit_scale=True, position=0 if name else 1)

        def show(now: BatchProgress) -> None:
            if whole is not None:
                whole.total = now.count
                whole.update(now.done - whole.n)
                label = Path(now.source).name[:WIDEST_NAME]
                if label != current.desc.removesuffix(": "):
                    current.reset()
                    current.set_description(label)
            if now.progress is not None:
                current.total = now.progress.tile_count
                current.update(now.progress.tiles - current.n)

        yield show
