"""Worker processes of this machine, each with a pipe of its own.

So a worker that is killed takes its own task with it and no other. Workers are programs started
anew, not forked and not by multiprocessing: threads and locks of the program that we live in are
no matter, and its main module is not run again.
"""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from fasttile.abc.engine import R, T, TaskProgressCallback
from fasttile.storage.system import cpu_count
from fasttile.workers import (
    MAX_LOSSES,
    LostWorkerError,
    Task,
    TaskQueue,
    WorkerError,
    block_signals,
    pack_task,
    unpack_result,
)
from fasttile.workers.worker import PROGRESS, READY, RESULT

GRACE_SECONDS = 30.0
"""So long a worker that is told to stop may clean up; then it is killed."""

WORKER_PROGRAM = """\
import sys
sys.path[:] = {path!r}
try:
    from fasttile.workers.worker import main
except Exception as error:
    sys.exit(f"a worker cannot begin: {{error}}")
main()
"""


class ProcessEngine:
    """Runs tasks in processes, which are started when there is something to do; see `Engine`.

    Args:
        width: How many there are at most.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.threads = max(1, cpu_count() // width)
        self._messages: SimpleQueue[Message] = SimpleQueue()
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._failed_starts = 0

    def run(
        self,
        work: Callable[[T], R],
        tasks: Iterable[T],
        on_progress: TaskProgressCallback | None = None,
    ) -> Iterator[tuple[int, R | Exception]]:
        """Do some work for each task.

        Raises:
            WorkerError: Workers cannot be started.
        """
        orders = TaskQueue(pack_task(work, task) for task in tasks)
        under_way: dict[_Worker, Task] = {}
        try:
            while True:
                self._assign_tasks(orders, under_way)
                if not under_way:
                    return
                worker, kind, data = self._messages.get()
                order = under_way.get(worker)
                if kind == READY:
                    worker.is_ready = True
                elif kind == GONE:
                    self._reap(worker)
                    if order is not None:
                        del under_way[worker]
                        if _retry_or_give_up(order, orders):
                            yield order.index, LostWorkerError(_loss_reason(worker))
                elif order is not None and kind == PROGRESS:
                    if on_progress is not None:
                        on_progress(order.index, pickle.loads(data))
                elif order is not None:
                    assert kind == RESULT
                    del under_way[worker]
                    self._idle.append(worker)
                    yield order.index, unpack_result(data)
        finally:
            self._stop_workers(under_way)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop_workers(self._workers)

    def _assign_tasks(self, queue: TaskQueue, running: dict[_Worker, Task]) -> None:
        """Give an order to each worker that has none, starting some where there are too few."""
        while len(running) < self.width:
            order = queue.next(is_idle=not running)
            if order is None:
                return
            try:
                worker = self._idle.pop() if self._idle else self._start_worker()
            except OSError as error:
                if not running:
                    raise WorkerError(f"cannot start a worker: {error.strerror}") from error
                queue.retry(order)
                return
            running[worker] = order
            worker.send(order.data)

    def _start_worker(self) -> _Worker:
        if self._failed_starts >= MAX_LOSSES:
            raise WorkerError(
                f"workers end as soon as they are started: can {sys.executable} import fasttile?"
            )
        with block_signals(
            "SIGINT", "SIGTERM", "SIGHUP"
        ):  # it is started and noted down, or neither
            worker = _Worker(self._messages)
            self._workers.add(worker)
        return worker

    def _reap(self, worker: _Worker) -> None:
        """See to it that nothing is left of a worker; once more is nothing."""
        worker.kill()
        if worker in self._workers:
            self._workers.remove(worker)
            self._failed_starts = 0 if worker.is_ready else self._failed_starts + 1
        if worker in self._idle:
            self._idle.remove(worker)

    def _stop_workers(self, workers: Iterable[_Worker]) -> None:
        """End workers; returns when they are gone. Interrupted, it kills them."""
        ending = [worker for worker in workers if worker in self._workers]
        busy = [worker for worker in ending if worker not in self._idle]
        deadline = time.monotonic() + GRACE_SECONDS
        try:
            for worker in busy:
                worker.terminate()
            for worker in busy:
                worker.wait_until(deadline)
        finally:
            for worker in ending:
                self._reap(worker)
            self._failed_starts = 0


GONE = "gone"


class _Worker:
    """A process, and a thread that hears it.

    Args:
        inbox: Where its answers go, and GONE in the end.

    Attributes:
        began: Whether it has come as far as taking orders.

    Raises:
        OSError: The system starts no more processes.
    """

    def __init__(self, messages: SimpleQueue[Message]) -> None:
        if getattr(sys, "frozen", False) or not sys.executable:
            raise WorkerError(
                "there is no Python here to start workers with: workers=1 or an executor would do"
            )
        self.is_ready = False
        path = [entry for entry in sys.path if isinstance(entry, str)]
        flags = [f"-W{option}" for option in sys.warnoptions]
        self._process = subprocess.Popen(
            [sys.executable, *flags, "-c", WORKER_PROGRAM.format(path=path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
        self._reader = threading.Thread(target=self._read, args=(messages,), daemon=True)
        try:
            self._reader.start()
        except RuntimeError as error:
            with self._process:
                self._process.kill()
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error

    def send(self, packed_task: bytes) -> None:
        """Give it something to do. If it has gone, it has said so already."""
        assert self._process.stdin is not None
        with suppress(OSError):
            pickle.dump(packed_task, self._process.stdin)
            self._process.stdin.flush()

    @property
    def exit_code(self) -> int | None:
        """The exit code of a process that was waited for."""
        return self._process.returncode

    def terminate(self) -> None:
        self._process.terminate()

    def wait_until(self, deadline: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))

    def kill(self) -> None:
        """End it at once, if it has not ended; nothing of it is left."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _read(self, messages: SimpleQueue[Message]) -> None:
        assert self._process.stdout is not None
        with suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                messages.put((self, *pickle.load(self._process.stdout)))
        messages.put((self, GONE, b""))


Message = tuple[_Worker, str, bytes]
"""Who says something, what it is about, and what it is."""


def _retry_or_give_up(task: Task, queue: TaskQueue) -> bool:
    """Whether a task whose worker was lost is not done again."""
    task.losses += 1
    if task.losses == 1:
        queue.retry(task)
    elif task.losses < MAX_LOSSES:
        queue.retry_alone(task)
    return task.losses >= MAX_LOSSES


def _loss_reason(worker: _Worker) -> str:
    code: Any = worker.exit_code
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    hint = "; if memory was short, fewer workers would do" if code == -9 else ""
    return f"the worker has ended {how}, {MAX_LOSSES} times over the same task{hint}"
