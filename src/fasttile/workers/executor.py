"""An engine over the executor of another program: processes or threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, wait
from contextlib import suppress
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any

from fasttile.abc.engine import R, T, TaskProgressCallback
from fasttile.errors import one_line
from fasttile.storage.system import cpu_count
from fasttile.types import Closing
from fasttile.workers import LostWorkerError, pack_task, run_task, unpack_result

TASKS_PER_SLOT = 2
"""Tasks submitted for each slot of an engine, so that a worker finds the next one at once."""

WAIT_SECONDS = 0.5
"""Time between two calls of `on_wait`."""


class ExecutorEngine(Closing):
    """Runs tasks by an executor, which stays open; see `Engine`.

    Progress of the work is dropped: an executor has no channel for it.

    Args:
        executor: The executor; it is never shut down here.
    """

    def __init__(self, executor: Executor) -> None:
        self.width: int = getattr(executor, "_max_workers", None) or os.cpu_count() or 1
        self.threads = max(1, cpu_count() // self.width)
        self._executor = executor

    def run(
        self,
        work: Callable[[T], R],
        tasks: Iterable[T],
        on_progress: TaskProgressCallback | None = None,
        on_wait: Callable[[], object] | None = None,
    ) -> Iterator[tuple[int, R | Exception]]:
        """Call a function for each task; see `Engine.run`."""
        packed_tasks = enumerate(pack_task(work, task) for task in tasks)
        done: SimpleQueue[Future[bytes]] = SimpleQueue()
        running: dict[Future[bytes], int] = {}
        try:
            while True:
                free = TASKS_PER_SLOT * self.width - len(running)
                for index, packed_task in islice(packed_tasks, free):
                    try:
                        future = self._executor.submit(run_task, packed_task)
                    except RuntimeError as error:  # broken or shut down
                        future = Future()
                        future.set_exception(error)
                    running[future] = index
                    future.add_done_callback(done.put)
                if not running:
                    return
                future = _next_done(done, on_wait)
                yield running.pop(future), _future_result(future)
        finally:
            for future in running:
                future.cancel()
            wait(running)

    def close(self) -> None:
        """Do nothing: the executor is the caller's."""


def _next_done(
    done: SimpleQueue[Future[bytes]], on_wait: Callable[[], object] | None
) -> Future[bytes]:
    """Wait for the next future that ends."""
    while on_wait is not None:
        with suppress(Empty):
            return done.get(timeout=WAIT_SECONDS)
        on_wait()
    return done.get()


def _future_result(future: Future[bytes]) -> Any:
    try:
        error = future.exception()
    except CancelledError as cancelled:
        error = cancelled
    if error is None:
        return unpack_result(future.result())
    reason = one_line(error) or type(error).__name__
    return LostWorkerError(f"the executor has lost the task: {reason}")
