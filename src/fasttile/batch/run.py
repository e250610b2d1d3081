"""Run of a batch: each image is cut to a result of its own, and an error stops only its image."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasttile.batch.again import batch_identity, compared_with_result
from fasttile.batch.items import (
    LIST_PREFIX,
    BatchItem,
    BatchProgress,
    BatchProgressCallback,
    BatchResult,
    InputImage,
    LargeImage,
    expand_inputs,
    may_be_several,
)
from fasttile.batch.pages import for_each_page
from fasttile.errors import (
    CancelledError,
    FasttileError,
    OptionError,
    TargetError,
    TargetExistsError,
    redact_url,
)
from fasttile.jobs.cut import ShardPolicy, described, run_job
from fasttile.jobs.cut_job import open_job
from fasttile.jobs.footprint import (
    FilesRead,
    Footprint,
    PlannedResult,
    find_collisions,
    source_name,
)
from fasttile.jobs.plan import Plan, has_known_suffix, has_placeholder, resolve_target
from fasttile.jobs.progress import (
    CancelToken,
    CutProgress,
    CutProgressCallback,
    ProgressThrottle,
    with_cancel,
)
from fasttile.options.cut import CutKeywords, CutOptions
from fasttile.sources.files import STANDARD_INPUT, check_is_local
from fasttile.storage.paths import note_published, target_text
from fasttile.storage.system import cpu_count, log_line, log_notes
from fasttile.types import Closing

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from typing import Unpack

    from distributed import Client

    from fasttile.abc.engine import Engine
    from fasttile.abc.source import Source
    from fasttile.batch.ledger import BucketLedger, FolderLedger
    from fasttile.batch.manifests import BatchCollection

    Ledger = FolderLedger | BucketLedger

LARGE_IMAGE_PIXELS = 2**28
"""Images of at least this size are cut one after the other: one image of 268 megapixels keeps all
processors busy with its tiles."""

SHARDED_IMAGE_PIXELS = 2**32
"""Images of at least this size are cut in shards, whose short strips stay in the caches. With two
processors shards take as long as threads at 1.6 gigapixels, and 0.91 of it at ten."""

MANY_CPUS = 24
"""With at least this many processors each large image is cut in shards: the walk of one process
feeds about 16 encoder threads."""

THREADS_PER_SHARD_PROCESS = 8
"""Threads of each process that cuts shards, if the number of processes is not given."""

BYTES_PER_PROCESS = 2**22
"""Bytes of input that are worth another process; starting one takes 0.2 s."""


class BatchResults(Closing, Iterator[BatchResult]):
    """Iterator over the results of a batch, in the order in which the images end.

    Images are cut while it is iterated. `len()` is the number of images; with every page of each
    image there are more results.
    """

    def __init__(self, results: Generator[BatchResult], image_count: int) -> None:
        self._results = results
        self._image_count = image_count

    def __len__(self) -> int:
        return self._image_count

    def __next__(self) -> BatchResult:
        return next(self._results)

    def close(self) -> None:
        """Stop the batch; images that have not ended leave nothing behind."""
        self._results.close()


def cut_all(
    sources: Sequence[str | os.PathLike[str]],
    dest: str | os.PathLike[str] | None = None,
    *,
    workers: str | int | Executor | Client | Engine | None = None,
    progress: BatchProgressCallback | bool | None = None,
    cancel: CancelToken | None = None,
    update: bool = False,
    options: CutOptions | None = None,
    **keywords: Unpack[CutKeywords],
) -> BatchResults:
    """Cut many images, each to a result of its own; an error stops only its image.

    The arguments are checked at once; images are cut while the result is iterated. Small images
    are cut side by side in processes. Large ones (from 268 megapixels on) are cut one after the
    other, by all processors: in shards if the file is uncompressed and there are workers, 24
    processors or four gigapixels, else by threads.

    Args:
        sources: Files, addresses, folders (all images below them; subfolders are kept) and
            "@LIST" (a file with one source in each line).
        dest: As for `cut`: a folder, or a name with "{name}", "{ext}", "{parent}" or "{index}"
            in it: stem, extension and folder of the image, and its number. Missing folders are
            created.
        workers: A number of processes, "dask://HOST:PORT", "dask://local", or an object with the
            interface of concurrent.futures.Executor, which stays open. Default: one process for
            each processor, fewer if the images are small.
        progress: Called at most every 0.1 s from the calling thread; returning False cancels. True
            shows it: a bar in a notebook or on a terminal, else a line every 30 s.
        cancel: A token by which another thread cancels.
        update: True cuts again what has changed since its result was made: the image, an option,
            or a version. Results that are unchanged are skipped in any case, unless overwrite is
            given; without update, changed ones are errors in the results.
        options: Options for several calls; keywords override its fields.
        **keywords: Fields of `CutOptions`. With resume=True, results that an interrupted run of
            the same batch has written are not written again.

    Returns:
        An iterator over one `BatchResult` for each image, with `len()` and `close()`. It raises
        CancelledError if the callback returned False, or the token is cancelled.

    Raises:
        OptionError: An option cannot be used, or all images have the same target. If two of many
            have the same one, these two are errors in the results.
        SourceError: A list or a folder cannot be read.

    Example:
        >>> for result in fasttile.cut_all(["scans"], "site"):  # doctest: +SKIP
        ...     print(result.source, result.error or "done")
    """
    checked = CutOptions.from_keywords(keywords, options)
    given = [os.fspath(source) for source in sources]
    items = batch_items(given, dest, checked, update=update)
    log_notes("manifests", description_notes(items))
    return run_batch(items, dest, workers, with_cancel(progress, cancel))


def batch_items(
    sources: Sequence[str],
    dest: str | os.PathLike[str] | None,
    options: CutOptions,
    *,
    every_page: bool = False,
    report: str | None = None,
    update: bool = False,
) -> list[BatchItem]:
    """Plan the cut of each image of the inputs; see `cut_all`.

    Args:
        sources, dest, options: As for `cut_all`.
        every_page: True if each page becomes a result of its own.
        report: Another file that the run will write, if any.
        update: True to cut again what has changed since its result was made.

    Raises:
        OptionError, SourceError: As `cut_all`.
        TargetError: A result, or the report, would replace an image or a list.
    """
    many = len(sources) > 1 or any(map(may_be_several, sources))
    text = target_text(dest)
    batch = batch_identity(sources, text, options.layout_text, every_page=every_page)
    is_named = has_placeholder(text, "{name}", "{index}") or has_known_suffix(text)
    if text and many and not is_named:
        text = f"{text}/"
    items: list[BatchItem] = []
    for index, image in enumerate(expand_inputs(sources), 1):
        plan, error = _plan_image(image, text or None, options, index, batch, may_fail=many)
        items.append(BatchItem(image.source, plan, every_page, error=error))
    files = FilesRead()
    for source in sources:
        if source.startswith(LIST_PREFIX):
            name = source.removeprefix(LIST_PREFIX)
            files.add(name, f"the list {redact_url(name)}")
    results = []
    numbers = []  # of the items that have a result
    for number, item in enumerate(items):
        name = source_name(item.source)
        files.add(item.source, f"the image {name}")
        if item.error is not None:  # it has no result
            continue
        footprint = Footprint.of_plan(item.plan, of_each_page=every_page)
        results.append(PlannedResult(name, str(item.target.location), footprint))
        numbers.append(number)
    if report is not None:
        check_is_local(report, "the report")
        results.append(PlannedResult("the report", report, Footprint.of_file(report)))
    for result in results:
        files.check(result.footprint, "the result" if result.location != report else "the report")
    errors = find_collisions(results)
    # An option is to blame if it concerns all images, and for the report.
    if errors and (len(errors) == len(results) or max(errors) >= len(numbers)):
        raise errors[max(errors)]
    for index, error in errors.items():
        items[numbers[index]] = replace(items[numbers[index]], error=error)
    if many:
        collection_of(items)  # refuses what would have no addresses
    if (many or update) and not options.overwrite:
        items = [
            item if item.error else compared_with_result(item, update=update) for item in items
        ]
    return items


def _plan_image(
    image: InputImage,
    dest: str | None,
    options: CutOptions,
    index: int,
    batch: str,
    *,
    may_fail: bool,
) -> tuple[Plan, FasttileError | None]:
    """The plan of an image, and the reason why it cannot be cut, if there is one.

    Raises:
        OptionError: The options suit no image; or not this one, and `may_fail` is false.
    """

    def plan_for(source: str) -> Plan:
        target = resolve_target(dest, source, options.layout_text, image.subfolder, index)
        return described(Plan.from_options(options, target, source, batch=batch), source)

    try:
        return plan_for(image.source), image.error
    except OptionError as error:
        if not may_fail:
            raise
        plan = plan_for("image")  # fails if the reason is not the name of this image
        with suppress(OptionError):
            target = resolve_target(dest, image.source, options.layout_text, image.subfolder, index)
            plan = replace(plan, target=target)
        name, reason = redact_url(image.source), str(error)
        return plan, OptionError(reason if reason.startswith(name) else f"{name}: {reason}")


def run_batch(
    items: Sequence[BatchItem],
    dest: str | os.PathLike[str] | None,
    workers: Any,
    progress: BatchProgressCallback | None = None,
) -> BatchResults:
    """Cut planned images; see `cut_all`.

    Raises:
        OptionError: The workers are unknown.
    """
    if workers is not None:
        from fasttile.workers.choice import resolve_engine

        timeouts = [item.options.worker_timeout for item in items[:1]]
        workers = resolve_engine(workers, *timeouts)
    return BatchResults(_run_batch(items, dest, workers, progress), len(items))


def leftover_folders(items: Sequence[BatchItem]) -> list[str]:
    """Work folders that are there beside the results of a batch: a killed worker leaves one."""
    paths = (
        path
        for item in items
        if not item.target.store
        for path, is_folder in Footprint.of_plan(item.plan, of_each_page=item.every_page).paths()
        if is_folder and path.endswith(".fasttile")
    )
    return [path for path in paths if os.path.lexists(path)]


def _run_batch(
    items: Sequence[BatchItem],
    dest: str | os.PathLike[str] | None,
    workers: Engine | None,
    progress: BatchProgressCallback | None,
) -> Generator[BatchResult]:
    with ExitStack() as stack:
        ledger: Ledger | None = None
        if len(items) > 1 and items[0].options.resume:
            from fasttile.batch.ledger import open_ledger

            ledger = open_ledger(dest, items[0].options)
            stack.enter_context(ledger)
        begun = items if ledger is None else ledger.begin(items)
        # A result that the ledger lets overwrite may lack tiles after a power cut; its
        # record does not say so.
        pending = [item for item in begun if item.options.overwrite or not item.is_unchanged]
        to_cut = {item.source for item in pending}
        for item in items:
            if item.source not in to_cut:
                yield BatchResult(item.source, item.target.location, skipped=True)
        engine = workers
        if engine is None:
            process_count = 1 if _program_has_parts() else _useful_process_count(pending)
            if process_count > 1:
                from fasttile.workers.processes import ProcessEngine

                engine = ProcessEngine(process_count, pending[0].options.worker_timeout)
        if engine is not None:
            stack.enter_context(engine)
        batch = _BatchRun(len(items), len(items) - len(pending), ledger, progress)
        yield from batch.run(pending, engine, _shard_policy(workers, engine, pending))
        if (collection := collection_of(items)) is not None:
            collection.write()
        if ledger is not None and not batch.has_failed:
            ledger.remove()


def collection_of(items: Sequence[BatchItem]) -> BatchCollection | None:
    """The IIIF collection of several images, if they have manifests.

    Raises:
        OptionError, TargetError: See `BatchCollection.of_batch`.
    """
    if not items or not items[0].target.layout.parameters.get("manifest"):
        return None
    if len(items) == 1 and not items[0].plan.batch:
        return None
    from fasttile.batch.manifests import BatchCollection  # few batches have one

    return BatchCollection.of_batch(items)


def description_notes(items: Sequence[BatchItem]) -> list[str]:
    """Notes on the rows of a batch's CSV that match none of its images."""
    path = items[0].target.layout.parameters.get("manifest") if items else None
    if not isinstance(path, str):
        return []
    from fasttile.jobs.descriptions import unused_rows_note  # few batches have a CSV

    note = unused_rows_note(path, [item.source for item in items])
    return [note] if note else []


def _shard_policy(
    workers: Engine | None, engine: Engine | None, items: Sequence[BatchItem]
) -> ShardPolicy | None:
    """When images are cut in shards; None: never, because threads are faster."""

    def open_shard_engine() -> AbstractContextManager[Engine]:
        if engine is not None:
            return nullcontext(engine)
        from fasttile.workers.processes import ProcessEngine  # loads subprocess

        width = max(2, cpu_count() // THREADS_PER_SHARD_PROCESS)
        return ProcessEngine(width, items[0].options.worker_timeout)

    if workers is not None:
        return ShardPolicy(open_shard_engine)
    if cpu_count() < 2 or any(item.options.threads for item in items):
        return None
    return ShardPolicy(
        open_shard_engine, LARGE_IMAGE_PIXELS if cpu_count() >= MANY_CPUS else SHARDED_IMAGE_PIXELS
    )


def _program_has_parts() -> bool:
    """True if the program has registered parts, which worker processes do not know."""
    plugins = sys.modules.get("fasttile.plugins")
    return plugins is not None and plugins.has_parts_of_program()


def _useful_process_count(items: Sequence[BatchItem]) -> int:
    """Number of processes that the sizes of the files are worth."""
    most = min(cpu_count(), len(items))
    useful = 1.0
    for item in items:
        try:
            useful += Path(item.source).stat().st_size / BYTES_PER_PROCESS
        except (OSError, ValueError):
            continue  # an address, or a missing file
        if useful >= most:
            return most
    return min(most, int(useful))


class _BatchRun:
    """Cuts the images of a batch, counts them, and reports the progress.

    Args:
        count: Number of images of the batch.
        done: How many of them an interrupted run has cut.
        ledger: Remembers which images are done, if the batch is resumable.
        progress: See `cut_all`.
    """

    def __init__(
        self, count: int, done: int, ledger: Ledger | None, progress: BatchProgressCallback | None
    ) -> None:
        self.has_failed = False
        self._count = count
        self._done = done
        self._ledger = ledger
        self._has_callback = progress is not None
        self._throttle = ProgressThrottle(progress, count, "images")
        self._running: dict[str, CutProgress] = {}

    def run(
        self, items: Sequence[BatchItem], engine: Engine | None, shard_policy: ShardPolicy | None
    ) -> Iterator[BatchResult]:
        """Cut images: small ones by the engine; large ones and standard input in this process.

        Raises:
            CancelledError: The callback returned False.
        """
        for item in items:
            if item.error is not None:
                yield from self._finish(
                    item, [BatchResult.of_error(item.source, item.plan, item.error)]
                )
        items = [item for item in items if item.error is None]
        if engine is None or self._count == 1:
            yield from self._run_in_process(items, shard_policy)
            return
        from_pipe = [item for item in items if item.source == STANDARD_INPUT]
        yield from self._run_in_process(from_pipe, None)
        tasks = [_for_worker(item, engine) for item in items if item.source != STANDARD_INPUT]
        large: list[BatchItem] = []

        def on_progress(index: int, progress: CutProgress) -> None:
            self._on_progress(tasks[index], progress)

        callbacks = (on_progress, self._report) if self._has_callback else ()
        for index, answer in engine.run(cut_item, tasks, *callbacks):
            item = tasks[index]
            if isinstance(answer, LargeImage):
                large.append(item.with_threads(items[0].options.threads))
                continue
            if isinstance(answer, Exception):  # of the worker, not of the image
                answer = [_worker_failure(item, answer)]
            yield from self._finish(item, answer)
        yield from self._run_in_process(large, shard_policy)

    def _run_in_process(
        self, items: Sequence[BatchItem], shard_policy: ShardPolicy | None
    ) -> Iterator[BatchResult]:
        """Cut images one after the other, by threads or in shards."""
        for item in items:
            progress = partial(self._on_progress, item) if self._has_callback else None
            yield from self._finish(item, _cut_pages(item, progress, shard_policy))

    def _finish(self, item: BatchItem, results: list[BatchResult]) -> list[BatchResult]:
        self._done += 1
        self._running.pop(item.source, None)
        for result in results:
            if result.exception is not None:
                log_line("error", result.error)
            elif result.report is not None:
                log_notes(result.report.path, result.report.notes)
        if any(result.exception is not None for result in results):
            self.has_failed = True
        elif self._ledger is not None:
            self._ledger.mark_done(item)
        self._report()
        return results

    def _on_progress(self, item: BatchItem, progress: CutProgress) -> None:
        self._running[item.source] = progress
        self._report()

    def _report(self) -> None:
        source, progress = next(iter(self._running.items()), ("", None))
        self._throttle.report(
            self._done, lambda: BatchProgress(self._done, self._count, source, progress)
        )


def _for_worker(item: BatchItem, engine: Engine) -> BatchItem:
    """An image with a worker's number of threads; notes if its target is absent now."""
    is_absent = not item.target.store and not os.path.lexists(item.target.path)
    threads = item.options.threads or engine.threads
    return replace(item.with_threads(threads), target_was_absent=is_absent)


def _worker_failure(item: BatchItem, error: Exception) -> BatchResult:
    from fasttile.workers import WorkerError

    if isinstance(error, WorkerError):
        error = WorkerError(f"{redact_url(item.source)}: {error}")
    return BatchResult.of_error(item.source, item.plan, error)


def is_large(source: Source) -> bool:
    """True if a worker should return an image, because all processors together cut it faster."""
    return source.width * source.height >= LARGE_IMAGE_PIXELS


def cut_item(item: BatchItem) -> list[BatchResult] | LargeImage:
    """Cut an image, or each page of it, in a worker; a large image is returned uncut."""
    from fasttile.workers import send_progress

    if item.every_page:
        return _cut_pages(item, send_progress)
    try:
        with open_job(item.plan, item.source) as job:
            if is_large(job.source):
                return LargeImage(job.source.width * job.source.height)
            return [BatchResult(item.source, item.target.location, run_job(job, send_progress))]
    except Exception as error:
        return [_result_after(error, item, item.plan)]


def _cut_pages(
    item: BatchItem,
    progress: CutProgressCallback | None,
    shard_policy: ShardPolicy | None = None,
) -> list[BatchResult]:
    """Cut an image, or each page of it; an error stops only its page."""
    if not item.every_page:
        return [_cut_page(item, item.plan, progress, shard_policy)]
    return for_each_page(item, lambda plan: _cut_page(item, plan, progress))


def _cut_page(
    item: BatchItem,
    plan: Plan,
    progress: CutProgressCallback | None,
    shard_policy: ShardPolicy | None = None,
) -> BatchResult:
    report = None
    try:
        with open_job(plan, item.source) as job:
            report = run_job(job, progress, shard_policy)
        return BatchResult(item.source, plan.target.location, report)
    except Exception as error:
        return _result_after(error, item, plan)
    except BaseException:  # a signal while the source is closed
        if report is not None:
            note_published(plan.target.location)
        raise


def _result_after(error: Exception, item: BatchItem, plan: Plan) -> BatchResult:
    """The result of an image whose cut raised an error.

    Raises:
        CancelledError: It stops the batch, not only the image.
    """
    if isinstance(error, CancelledError):
        raise error
    target = plan.target
    is_refused = isinstance(error, TargetError) and os.path.lexists(target.path)
    if item.target_was_absent and (
        isinstance(error, TargetExistsError) or (is_refused and not target.store)
    ):
        return BatchResult(item.source, target.location, skipped=True)
    return BatchResult.of_error(item.source, plan, error)
