"""The pages of an image, each of which becomes a result of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fasttile.batch.items import BatchItem, BatchResult
from fasttile.errors import CancelledError, FasttileError, MissingPageError
from fasttile.jobs.plan import Plan
from fasttile.sources import count_pages, keep_fetched


def page_plan(item: BatchItem, page: int) -> Plan:
    """The plan of one page of an image whose pages each become a result."""
    options = replace(item.options, page=page)
    return replace(item.plan, options=options, target=item.target.with_page(page))


def for_each_page(item: BatchItem, work: Callable[[Plan], BatchResult]) -> list[BatchResult]:
    """The results of a function of the plan of each page of an image.

    Raises:
        CancelledError: The function raised it.
    """
    results: list[BatchResult] = []
    try:
        with keep_fetched(item.source):
            for page in range(1, count_pages(item.source, item.options.max_pixels) + 1):
                results.append(work(page_plan(item, page)))
                if isinstance(results[-1].exception, MissingPageError):
                    break  # none of the further pages is there either
    except CancelledError:
        raise
    except FasttileError as error:
        results.append(BatchResult.of_error(item.source, item.plan, error))
    return results
