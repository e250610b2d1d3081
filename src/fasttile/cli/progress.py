"""Progress of a command on standard error: bars on a terminal, else a line now and then."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from fasttile.cli.output import MAX_NAME_WIDTH, TolerantStream, print_line
from fasttile.errors import printable, redact_url
from fasttile.jobs.shown_progress import ProgressLines

TYPE_CHECKING = False

if TYPE_CHECKING:
    import argparse
    from typing import Any, Literal

    from fasttile.batch.items import BatchProgress

_LOGGED_BY = ("CI", "JPY_PARENT_PID")
"""Variables of continuous integration and of the kernels of notebooks, which show all output."""


def progress_style(args: argparse.Namespace) -> Literal["bars", "lines"] | None:
    """The kind of progress that is wanted; None for none, as with --quiet.

    Default: bars on a terminal, lines in continuous integration and in notebooks, else none.
    """
    if args.quiet or args.progress is False:
        return None
    if sys.stderr.isatty():
        return "bars"
    return "lines" if args.progress or any(os.environ.get(name) for name in _LOGGED_BY) else None


def _progress_lines() -> ProgressLines:
    return ProgressLines(lambda line: print_line(line, is_error=True, flush=True))


@contextmanager
def show_progress(
    args: argparse.Namespace, name: str, unit: str, counts: Callable[[Any], tuple[int, int]]
) -> Iterator[Callable[[Any], None] | None]:
    """Show the progress of one job, if it is wanted.

    Args:
        args: Arguments of the command.
        name: Name of the job.
        unit: Unit of the counts, in the plural.
        counts: Returns how many units of a progress report are done, and the total.

    Yields:
        The progress callback, or None if no progress is wanted.
    """
    style = progress_style(args)
    if style is None:
        yield None
        return
    if style == "lines":
        lines = _progress_lines()
        yield lambda progress: lines.report(printable(name), *counts(progress), unit)
        return
    from tqdm import tqdm

    with tqdm(
        file=TolerantStream(),
        desc=printable(name),
        unit=f" {unit}",
        unit_scale=unit == "tiles",
        leave=False,
        dynamic_ncols=True,
    ) as bar:

        def show(progress: Any) -> None:
            done, bar.total = counts(progress)
            bar.update(done - bar.n)

        yield show


@contextmanager
def show_batch_progress(
    args: argparse.Namespace, name: str | None
) -> Iterator[Callable[[BatchProgress], None] | None]:
    """Show the progress of a batch, if it is wanted: of all images, and of the current tiles.

    Args:
        args: Arguments of the command.
        name: Name of the result, printable. None: there are several.

    Yields:
        The progress callback, or None if no progress is wanted.
    """
    style = progress_style(args)
    if style is None:
        yield None
    elif style == "lines":
        yield _batch_lines(name)
    else:
        with ExitStack() as stack:
            yield _batch_bars(name, stack)


def _batch_lines(name: str | None) -> Callable[[BatchProgress], None]:
    lines = _progress_lines()

    def show(now: BatchProgress) -> None:
        tiles = now.progress
        if name is not None:
            if tiles is not None:
                lines.report(name, tiles.tiles, tiles.tile_count, "tiles")
            return
        note = ""
        if tiles is not None:
            image = _short_name(now.source)
            note = f"; {image}: {tiles.tiles:,} of {tiles.tile_count:,} tiles"
        lines.report("all", now.done, now.count, "images", note)

    return show


def _batch_bars(name: str | None, stack: ExitStack) -> Callable[[BatchProgress], None]:
    from tqdm import tqdm

    def bar(**tqdm_options: Any) -> Any:
        tqdm_options["file"] = TolerantStream()
        return stack.enter_context(tqdm(leave=False, dynamic_ncols=True, **tqdm_options))

    images = None if name else bar(desc="all", unit=" images", position=0)
    current = bar(desc=name, unit=" tiles", unit_scale=True, position=0 if name else 1)

    def show(now: BatchProgress) -> None:
        if images is not None:
            images.total = now.count
            images.update(now.done - images.n)
            label = _short_name(now.source)
            if label != current.desc.removesuffix(": "):
                current.reset()
                current.set_description(label)
        if now.progress is not None:
            current.total = now.progress.tile_count
            current.update(now.progress.tiles - current.n)

    return show


def _short_name(source: str) -> str:
    """The beginning of an image's name, printable."""
    from pathlib import Path

    return Path(redact_url(source)).name[:MAX_NAME_WIDTH]
