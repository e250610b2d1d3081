"""The dry run of a batch: what would be made of each image, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from fasttile.batch.items import BatchItem, BatchProgress, BatchProgressCallback, BatchResult
from fasttile.batch.pages import for_each_page
from fasttile.dry_run import estimate_plan
from fasttile.jobs.plan import Plan


def estimate_batch(
    items: Sequence[BatchItem], workers: Any, progress: BatchProgressCallback | None = None
) -> Iterator[BatchResult]:
    """Estimate what `run_batch` would make of planned images; nothing is written.

    Args:
        items: The images.
        workers: As for `run_batch`; they are checked, and not started.
        progress: Called after each image.

    Yields:
        The result of each image, or of each page of it: the report is a `CutEstimate`.

    Raises:
        OptionError: The workers are unknown.
    """
    if workers is not None:
        from fasttile.workers.choice import resolve_engine

        resolve_engine(workers)
    for number, item in enumerate(items, 1):
        yield from _estimate_item(item)
        if progress is not None:
            progress(BatchProgress(number, len(items), item.source))


def _estimate_item(item: BatchItem) -> list[BatchResult]:
    if item.error is not None:
        return [BatchResult.of_error(item.source, item.plan, item.error)]
    if item.is_unchanged and not item.options.overwrite:
        return [BatchResult(item.source, item.target.location, skipped=True)]
    work = partial(_estimate_page, item)
    return for_each_page(item, work) if item.every_page else [work(item.plan)]


def _estimate_page(item: BatchItem, plan: Plan) -> BatchResult:
    try:
        report = estimate_plan(plan, item.source)
    except Exception as error:
        return BatchResult.of_error(item.source, plan, error)
    return BatchResult(item.source, plan.target.location, report)
