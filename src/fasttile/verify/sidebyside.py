"""Work on many threads, its results in order, and never much of it under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE = 0.1
"""How often whoever waits looks up, in seconds."""


def side_by_side(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    meanwhile: Callable[[], object] = lambda: None,
) -> Iterator[Result]:
    """What a function makes of each item, in the order of these.

    Args:
        work: Called in other threads.
        items: Asked for one after the other, from the calling thread, not long before their turn.
        threads: How many calls there are at a time.
        meanwhile: Called from the calling thread, now and then; what it raises ends it all.

    Raises:
        Exception: Whatever the work, the items, or `meanwhile` raise.
    """
    under_way: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fasttile-verify")
    try:
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) > threads + 2:
                yield _awaited(under_way.popleft(), meanwhile)
        while under_way:
            yield _awaited(under_way.popleft(), meanwhile)
        meanwhile()
    finally:
        pool.shutdown(cancel_futures=True)


def _awaited(future: Future[Result], meanwhile: Callable[[], object]) -> Result:
    meanwhile()
    while True:
        try:
            return future.result(PATIENCE)
        except TimeoutError:
            if future.done():  # then it is the work's own
                raise
            meanwhile()
