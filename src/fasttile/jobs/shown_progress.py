"""Progress on standard error: lines now and then, and what `progress=True` shows."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

LINE_SECONDS = 30.0
"""Time between two lines of progress where there is no terminal."""


class ProgressLines:
    """Lines of progress, one in LINE_SECONDS.

    Args:
        write: Writes a line.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._started = self._printed = time.monotonic()
        self._done_before: int | None = None

    def report(self, name: str, done: int, total: int, unit: str, note: str = "") -> None:
        """Write a line if the last one is old enough.

        Args:
            name: Name of the work, printable.
            done, total: Number of units that are done, those of an earlier run too, and of all.
            unit: Name of the unit, in the plural.
            note: Further text.
        """
        if self._done_before is None:
            self._done_before = done
        now = time.monotonic()
        if now - self._printed < LINE_SECONDS:
            return
        self._printed = now
        spent, new = now - self._started, done - self._done_before
        left = f", about {_duration(spent / new * (total - done))} left" if new > 0 else ""
        share = f" ({done / total:.0%})" if total else ""
        self._write(f"{name}: {done:,} of {total:,} {unit}{share}, {_duration(spent)}{left}{note}")


def _duration(seconds: float) -> str:
    """A time as hours:minutes:seconds, or minutes:seconds."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def shown_progress() -> Callable[[Any], None]:
    """A progress callback that shows a bar in a notebook and on a terminal, else lines."""
    if sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules):
        return _bar()
    lines = ProgressLines(_print_numbers)
    return lambda progress: lines.report("fasttile", *_counts(progress))


def _print_numbers(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _bar() -> Callable[[Any], None]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without ipywidgets the bar is a text
        from tqdm.auto import tqdm

    bars: list[Any] = []

    def show(progress: Any) -> None:
        done, total, unit = _counts(progress)
        if not bars:
            bars.append(tqdm(total=total, initial=done, unit=f" {unit}", unit_scale=True))
        bars[0].update(done - bars[0].n)
        if done == total:
            bars[0].close()

    return show


def _counts(progress: Any) -> tuple[int, int, str]:
    """Units that are done, and the total, of a cut or a check, a batch, or a collection."""
    if hasattr(progress, "tile_count"):
        return progress.tiles, progress.tile_count, "tiles"
    if hasattr(progress, "item_count"):
        return progress.items, progress.item_count, "images"
    return progress.done, progress.count, "images"
