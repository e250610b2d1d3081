"""Another program's executor, used as it is: processes, threads, whatever it stands for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, wait
from functools import partial
from itertools import islice
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from fasttile.abc.engine import R, T, TaskProgressCallback
from fasttile.storage.system import cpu_count
from fasttile.workers import LostWorkerError, pack_task, run_task, unpack_result

TASKS_PER_SLOT = 2
"""So many tasks for each place of an engine are handed out, so that no worker waits for us."""


class ExecutorEngine:
    """Runs tasks by an executor that stays open; see `Engine`.

    What the work tells does not arrive: executors have no way for it.

    Args:
        executor: Whose it is, is no matter; it is never shut down here.
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
    ) -> Iterator[tuple[int, R | Exception]]:
        """Do some work for each task."""
        orders = enumerate(pack_task(work, task) for task in tasks)
        ended: SimpleQueue[int] = SimpleQueue()
        under_way: dict[int, Future[bytes]] = {}
        try:
            while True:
                for index, order in islice(orders, TASKS_PER_SLOT * self.width - len(under_way)):
                    under_way[index] = future = self._submit(order)
                    future.add_done_callback(partial(_put_index, ended, index))
                if not under_way:
                    return
                index = ended.get()
                yield index, _future_result(under_way.pop(index))
        finally:
            for future in under_way.values():
                future.cancel()
            wait(under_way.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def _submit(self, packed_task: bytes) -> Future[bytes]:
        try:
            return self._executor.submit(run_task, packed_task)
        except RuntimeError as error:  # it is broken, or was shut down
            refused: Future[bytes] = Future()
            refused.set_exception(error)
            return refused


def _put_index(ended: SimpleQueue[int], index: int, future: Future[bytes]) -> None:
    ended.put(index)


def _future_result(future: Future[bytes]) -> Any:
    try:
        error = future.exception()
    except CancelledError as cancelled:
        error = cancelled
    if error is None:
        return unpack_result(future.result())
    said = " ".join(str(error).split()) or type(error).__name__
    return LostWorkerError(f"the executor has lost the task: {said}")
