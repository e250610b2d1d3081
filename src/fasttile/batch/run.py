"""Many images: each to a result of its own, side by side, and none stops the others."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasttile.batch.items import (
    BatchItem,
    BatchProgress,
    BatchProgressCallback,
    BatchResult,
    expand_inputs,
    may_be_several,
)
from fasttile.errors import FasttileError, OptionError, TargetError, TargetExistsError
from fasttile.jobs.cut import ShardPolicy, cut_plan
from fasttile.jobs.cut_job import CutJob
from fasttile.jobs.plan import NAME_PLACEHOLDER, Plan, has_known_suffix, resolve_target
from fasttile.jobs.progress import CutProgress
from fasttile.options.cut import CutKeywords, CutOptions
from fasttile.sinks import Target
from fasttile.sources.files import STANDARD_INPUT
from fasttile.storage.system import cpu_count

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from typing import Unpack

    from distributed import Client

    from fasttile.abc.engine import Engine
    from fasttile.batch.ledger import BucketLedger, FolderLedger

    Ledger = FolderLedger | BucketLedger

LARGE_IMAGE_PIXELS = 2**28
"""An image of so many pixels is cut alone: its tiles share out better than it."""

SHARDED_IMAGE_PIXELS = 2**32
"""An image of so many pixels is cut in shards: their strips, which are short, stay in the caches.
On two processors shards and threads take the same time at 1.6 gigapixels, shards 0.91 at ten."""

MANY_CPUS = 24
"""From so many on each giant is cut in shards: the walk of one process feeds about 16 encoders."""

THREADS_PER_SHARD_PROCESS = 8
"""So many has each process that cuts shards where nobody says how many processes there are."""

BYTES_PER_PROCESS = 2**22
"""Fewer bytes of images are not worth another process, which takes a fifth of a second."""


def cut_all(
    sources: Sequence[str | os.PathLike[str]],
    dest: str | os.PathLike[str] | None = None,
    *,
    workers: str | int | Executor | Client | Engine | None = None,
    progress: BatchProgressCallback | None = None,
    options: CutOptions | None = None,
    **keywords: Unpack[CutKeywords],
) -> Iterator[BatchResult]:
    """Cut many images, each to a result of its own; one bad image never stops the others.

    Small images are cut side by side, in processes of their own; giants (from 268
    megapixels on) one after the other, each by all processors: in shards, if the file can be
    read in place and there are workers, 24 processors or four gigapixels, else by threads.

    Args:
        sources: Files, addresses, folders (all images below them, their places kept) and
            "@LIST" (a file that names a source in each line).
        dest: As for `cut`: a folder, or a name with "{name}" in it. Missing folders are made.
        workers: Where the work is done: a number of processes, "dask://HOST:PORT", "dask://local",
            or anything with the interface of concurrent.futures.Executor, which stays open.
            Default: as many processes as there are processors, or fewer if the work is small.
        progress: Called now and then, from the calling thread.
        options: Options for several calls; keywords override its fields.
        **keywords: The fields of `CutOptions`. With resume, what an interrupted run of the same
            batch has made is not made again.

    Yields:
        What has become of each image, in the order in which they end.

    Raises:
        OptionError: An option cannot be used, or two images would become the same result.
            Nothing has been cut then.
        SourceError: A list or a folder cannot be read.

    Example:
        >>> for outcome in fasttile.cut_all(["scans"], "site"):  # doctest: +SKIP
        ...     print(outcome.source, outcome.error or "fine")
    """
    wishes = CutOptions.from_keywords(keywords, options)
    images = batch_items([os.fspath(source) for source in sources], dest, wishes)
    yield from run_batch(images, dest, workers, progress)


def batch_items(
    sources: Sequence[str],
    dest: str | os.PathLike[str] | None,
    options: CutOptions,
    *,
    every_page: bool = False,
) -> list[BatchItem]:
    """The images that are meant, and where their results go; see `cut_all`.

    Raises:
        OptionError, SourceError: As `cut_all`.
    """
    many = len(sources) > 1 or any(map(may_be_several, sources))
    text = "" if dest is None else os.fspath(dest)
    if text and many and NAME_PLACEHOLDER not in text and not has_known_suffix(text):
        text = f"{text}/"
    images = []
    for one in expand_inputs(sources):
        target = resolve_target(text or None, one.source, options.layout, one.subfolder)
        Plan.from_options(options, target, one.source)
        images.append(BatchItem(one.source, target, options, every_page=every_page))
    _check_distinct_targets(images)
    return images


def _check_distinct_targets(items: Sequence[BatchItem]) -> None:
    """Two images of one name would go to one result: say so before anything is cut."""
    seen: dict[Path | str, str] = {}
    for image in items:
        path = image.target.location
        if path in seen:
            raise OptionError(
                f"{seen[path]} and {image.source} would both become {path}: another name, or a "
                f"{NAME_PLACEHOLDER} in it, would do"
            )
        seen[path] = image.source


def run_batch(
    items: Sequence[BatchItem],
    dest: str | os.PathLike[str] | None,
    workers: Any,
    progress: BatchProgressCallback | None = None,
) -> Iterator[BatchResult]:
    """Cut images whose names are settled; see `cut_all`."""
    with ExitStack() as stack:
        ledger = _open_ledger(dest, items)
        if ledger is not None:
            stack.enter_context(ledger)
        pending = items if ledger is None else ledger.begin(items)
        ours = {image.source for image in pending}
        for image in items:
            if image.source not in ours:
                yield BatchResult(image.source, image.target.location, skipped=True)
        batch = _BatchRun(len(items), len(items) - len(pending), ledger, progress)
        engine = _open_engine(workers, pending)
        if engine is not None:
            stack.enter_context(engine)
        yield from batch.run(pending, engine, _shard_policy(workers, engine, pending))
        if ledger is not None and not batch.has_failed:
            ledger.remove()


def _open_ledger(dest: str | os.PathLike[str] | None, items: Sequence[BatchItem]) -> Ledger | None:
    """The list of what is done, where there is a batch to be carried on."""
    if len(items) < 2 or not items[0].options.resume:
        return None
    from fasttile.batch.ledger import open_ledger

    return open_ledger(dest, items[0].options)


def _open_engine(workers: Any, items: Sequence[BatchItem]) -> Engine | None:
    """What the work is done by; None: the calling thread."""
    if workers is None:
        workers = _useful_process_count(items)
        if workers < 2:
            return None
    from fasttile.workers.choice import resolve_engine

    return resolve_engine(workers)


def _shard_policy(
    workers: Any, engine: Engine | None, items: Sequence[BatchItem]
) -> ShardPolicy | None:
    """Who cuts the shards of giants; None: nobody, as threads do it faster."""

    def open_shard_engine() -> AbstractContextManager[Engine]:
        if engine is not None:
            return nullcontext(engine)
        from fasttile.workers.processes import ProcessEngine  # seldom needed

        return ProcessEngine(max(2, cpu_count() // THREADS_PER_SHARD_PROCESS))

    if workers is not None:
        return ShardPolicy(open_shard_engine)
    if cpu_count() < 2 or any(image.options.threads for image in items):
        return None
    return ShardPolicy(
        open_shard_engine, LARGE_IMAGE_PIXELS if cpu_count() >= MANY_CPUS else SHARDED_IMAGE_PIXELS
    )


def _useful_process_count(items: Sequence[BatchItem]) -> int:
    """How many processes the work is worth."""
    most = min(cpu_count(), len(items))
    worth = 1.0
    for image in items:
        worth += _file_size(image.source) / BYTES_PER_PROCESS
        if worth >= most:
            return most
    return int(worth)


def _file_size(source: str) -> int:
    try:
        return Path(source).stat().st_size
    except (OSError, ValueError):
        return 0  # whatever it is


class _BatchRun:
    """Counts, and tells who wants to know."""

    def __init__(
        self, count: int, done: int, ledger: Ledger | None, progress: BatchProgressCallback | None
    ) -> None:
        self.has_failed = False
        self._count = count
        self._done = done
        self._ledger = ledger
        self._progress = progress
        self._running: dict[str, CutProgress | None] = {}

    def run(
        self, items: Sequence[BatchItem], engine: Engine | None, shard_policy: ShardPolicy | None
    ) -> Iterator[BatchResult]:
        """Cut them: by the engine, but for giants and what only this process can read."""
        if engine is None or self._count == 1:
            yield from self._run_in_process(items, shard_policy)
            return
        yield from self._run_in_process(
            [one for one in items if one.source == STANDARD_INPUT], None
        )
        theirs = [
            _with_worker_threads(one, engine) for one in items if one.source != STANDARD_INPUT
        ]
        giants: list[BatchItem] = []
        told = None if self._progress is None else self._task_callback(theirs)
        for index, result in engine.run(cut_item, theirs, told):
            image = theirs[index]
            if result is None:
                giants.append(_with_all_threads(image, items[0].options.threads))
            else:
                yield from self._finish(image, _results_of(image, result))
        yield from self._run_in_process(giants, shard_policy)

    def _run_in_process(
        self, items: Sequence[BatchItem], shard_policy: ShardPolicy | None
    ) -> Iterator[BatchResult]:
        """Cut them one after the other, or their shards side by side."""
        for image in items:
            outcomes = _cut_pages(
                replace(image, allow_large_image=True), self._item_callback(image), shard_policy
            )
            assert outcomes is not None
            yield from self._finish(image, outcomes)

    def _finish(self, item: BatchItem, results: list[BatchResult]) -> list[BatchResult]:
        self._done += 1
        self._running.pop(item.source, None)
        if any(outcome.error for outcome in results):
            self.has_failed = True
        elif self._ledger is not None:
            self._ledger.mark_done(item)
        self._report()
        return results

    def _task_callback(self, items: Sequence[BatchItem]) -> Callable[[int, Any], object]:
        return lambda index, progress: self._on_progress(items[index], progress)

    def _item_callback(self, item: BatchItem) -> Callable[[CutProgress], object] | None:
        if self._progress is None:
            return None
        return lambda progress: self._on_progress(item, progress)

    def _on_progress(self, item: BatchItem, progress: CutProgress) -> object:
        self._running[item.source] = progress
        return self._report()

    def _report(self) -> object:
        if self._progress is None:
            return None
        source, progress = next(iter(self._running.items()), ("", None))
        return self._progress(BatchProgress(self._done, self._count, source, progress))


def _with_worker_threads(item: BatchItem, engine: Engine) -> BatchItem:
    """An image whose threads leave the other workers theirs."""
    threads = item.options.threads or engine.threads
    fresh = not item.target.store and not os.path.lexists(item.target.path)
    options = replace(item.options, threads=threads)
    return replace(item, options=options, target_was_absent=fresh)


def _with_all_threads(item: BatchItem, threads: int | None) -> BatchItem:
    """An image that has all processors again."""
    return replace(item, options=replace(item.options, threads=threads))


def _results_of(item: BatchItem, result: list[BatchResult] | Exception) -> list[BatchResult]:
    if isinstance(result, Exception):  # the worker has failed, not the image
        from fasttile.workers import WorkerError

        if isinstance(result, WorkerError):
            result = WorkerError(f"{item.source}: {result}")
        return [_failed_result(item.source, item.target, result)]
    return result


def cut_item(item: BatchItem) -> list[BatchResult] | None:
    """Cut an image in a worker; None if it is a giant, which is not for a worker alone."""
    from fasttile.workers import send_progress

    return _cut_pages(item, send_progress)


def _cut_pages(
    item: BatchItem,
    progress: Callable[[CutProgress], object] | None,
    shard_policy: ShardPolicy | None = None,
) -> list[BatchResult] | None:
    """Cut an image, or each page of it; a bad page does not stop the others."""
    if not item.every_page:
        return _cut_page(item, item.target, item.options, progress, shard_policy)
    from fasttile.sources import count_pages, keep_fetched

    outcomes: list[BatchResult] = []
    try:
        with keep_fetched(item.source):
            for page in range(1, count_pages(item.source, item.options.max_pixels) + 1):
                target = item.target.with_page(page)
                options = replace(item.options, page=page)
                found = _cut_page(replace(item, allow_large_image=True), target, options, progress)
                outcomes += found or []
    except FasttileError as error:
        outcomes.append(_failed_result(item.source, item.target, error))
    return outcomes


class _LargeImageError(Exception):
    """An image is a giant."""


def _cut_page(
    item: BatchItem,
    target: Target,
    options: CutOptions,
    progress: Callable[[CutProgress], object] | None,
    shard_policy: ShardPolicy | None = None,
) -> list[BatchResult] | None:

    def check_size(job: CutJob) -> None:
        if (
            not item.allow_large_image
            and job.source.width * job.source.height >= LARGE_IMAGE_PIXELS
        ):
            raise _LargeImageError

    try:
        plan = Plan.from_options(options, target, item.source)
        report = cut_plan(plan, item.source, progress, check_size, shard_policy)
    except _LargeImageError:
        return None
    except BrokenPipeError:
        raise
    except Exception as error:
        if item.target_was_absent and _target_exists(target, error):
            return [BatchResult(item.source, target.location, skipped=True)]
        return [_failed_result(item.source, target, error)]
    return [BatchResult(item.source, target.location, report)]


def _target_exists(target: Target, error: Exception) -> bool:
    """Whether an image was refused as its result stands there."""
    there = isinstance(error, TargetError) and os.path.lexists(target.path)
    return isinstance(error, TargetExistsError) or (there and not target.store)


def _failed_result(source: str, target: Target, error: Exception) -> BatchResult:
    text = str(error)
    if isinstance(error, MemoryError):
        text = f"{source}: there is not enough memory"
    elif isinstance(error, OSError):
        text = f"{source}: the system refused: {error.strerror or error} (--verbose shows where)"
    elif not isinstance(error, FasttileError):
        text = f"unexpected {type(error).__name__}: {error} (--verbose shows where)"
    trace = "".join(traceback.format_exception(error))
    misused = isinstance(error, OptionError)
    return BatchResult(source, target.location, None, " ".join(text.split()), misused, trace)
