"""An engine of worker processes on this machine, each with a pipe of its own.

If a worker is killed, only its task is lost. Workers are new programs, neither forked nor started
by multiprocessing: threads and locks of the calling program do no harm, and its main module is
not run again.
"""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue

from fasttile.abc.engine import R, T, TaskProgressCallback
from fasttile.options.cut import WORKER_TIMEOUT_SECONDS
from fasttile.storage.system import cpu_count, error_descriptor, log_line
from fasttile.types import Closing
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
from fasttile.workers.worker import ALIVE, PROGRESS, READY, RESULT

GRACE_SECONDS = 30.0
"""Time that a worker has to clean up after SIGTERM before it is killed."""

WATCH_SECONDS = 0.5
"""Time between two checks that the workers run."""

WORKER_PROGRAM = """\
import sys
sys.path[:] = {path!r}
try:
    from fasttile.workers.worker import main
except Exception as error:
    sys.exit(f"a worker cannot start: {{error}}")
main(separate_errors={separate!r})
"""


class ProcessEngine(Closing):
    """Runs tasks in processes, which are started when tasks need them; see `Engine`.

    A worker that is stopped (SIGSTOP) is ended after a time-out, and its task fails: the cause is
    neither the task nor short memory, so another worker would not do better.

    Args:
        width: Largest number of processes.
        timeout: Time that a worker may be stopped, in seconds.
    """

    def __init__(self, width: int, timeout: float = WORKER_TIMEOUT_SECONDS) -> None:
        self.width = width
        self._timeout = timeout
        self._watched_at = 0.0
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
        on_wait: Callable[[], object] | None = None,
    ) -> Iterator[tuple[int, R | Exception]]:
        """Call a function for each task; see `Engine.run`.

        Raises:
            WorkerError: Workers cannot be started.
        """
        queue = TaskQueue(pack_task(work, task) for task in tasks)
        running: dict[_Worker, Task] = {}
        try:
            while True:
                self._assign_tasks(queue, running)
                if not running:
                    return
                worker, kind, data = self._next_message(running, on_wait)
                task = running.get(worker)
                if kind == READY:
                    worker.is_ready = True
                elif kind == GONE:
                    self._reap(worker)
                    if task is not None:
                        del running[worker]
                        task.losses += 1
                        log_line("warning", f"{worker.name} has ended {worker.ending()}")
                        if task.losses >= MAX_LOSSES or worker.was_stopped:
                            yield task.index, LostWorkerError(worker.loss_reason())
                        elif task.losses == 1:
                            queue.retry(task)
                        else:
                            queue.retry_alone(task)
                elif task is not None and kind == PROGRESS:
                    if on_progress is not None:
                        on_progress(task.index, pickle.loads(data))
                elif task is not None:
                    assert kind == RESULT
                    del running[worker]
                    if not worker.was_stopped:  # else it ends
                        self._idle.append(worker)
                    yield task.index, unpack_result(data)
        finally:
            self._stop_workers(running)

    def close(self) -> None:
        """Stop all workers."""
        self._stop_workers(self._workers)

    def _next_message(
        self, running: Iterable[_Worker], on_wait: Callable[[], object] | None
    ) -> Message:
        """Wait for the next message; meanwhile end workers that are stopped for too long."""
        while True:
            now = time.monotonic()
            if now >= self._watched_at + WATCH_SECONDS:
                # At most one interval: this program may have been stopped itself.
                for worker in running:
                    worker.watch(min(now - self._watched_at, WATCH_SECONDS), self._timeout)
                self._watched_at = now
                if on_wait is not None:
                    on_wait()
            with suppress(Empty):
                return self._messages.get(timeout=WATCH_SECONDS)

    def _assign_tasks(self, queue: TaskQueue, running: dict[_Worker, Task]) -> None:
        """Assign tasks to idle workers; start workers as long as there are too few."""
        while len(running) < self.width:
            task = queue.next(is_idle=not running)
            if task is None:
                return
            try:
                worker = self._idle.pop() if self._idle else self._start_worker()
            except OSError as error:
                if not running:
                    raise WorkerError(f"cannot start a worker: {error.strerror}") from error
                queue.retry(task)
                return
            running[worker] = task
            worker.send(task.data)

    def _start_worker(self) -> _Worker:
        if self._failed_starts >= MAX_LOSSES:
            raise WorkerError(
                f"workers end as soon as they are started: can {sys.executable} import fasttile?"
            )
        # With signals blocked, a worker is both started and added to the set, or neither.
        with block_signals("SIGINT", "SIGTERM", "SIGHUP"):
            worker = _Worker(self._messages)
            self._workers.add(worker)
        return worker

    def _reap(self, worker: _Worker) -> None:
        """Kill a worker and release its pipes; a second call does nothing."""
        worker.kill()
        if worker in self._workers:
            self._workers.remove(worker)
            self._failed_starts = 0 if worker.is_ready else self._failed_starts + 1
        if worker in self._idle:
            self._idle.remove(worker)

    def _stop_workers(self, workers: Iterable[_Worker]) -> None:
        """Terminate workers and wait for their end; an interruption kills them."""
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
    """A process, and a thread that reads its messages.

    Args:
        messages: Receives its messages, and GONE at the end.

    Attributes:
        is_ready: True if it has imported fasttile.
        was_stopped: True if it did not run for too long, and therefore has to end.

    Raises:
        OSError: The system cannot start another process.
        WorkerError: There is no Python interpreter to start.
    """

    def __init__(self, messages: SimpleQueue[Message]) -> None:
        if getattr(sys, "frozen", False) or not sys.executable:
            raise WorkerError(
                "workers: there is no Python interpreter to start them; use an executor"
            )
        self.is_ready = self.was_stopped = False
        self._silence = 0.0
        self._timeout = 0.0
        self._cpu_seconds: float | None = None
        path = [entry for entry in sys.path if isinstance(entry, str)]
        flags = [f"-W{option}" for option in sys.warnoptions]
        errors = error_descriptor()
        program = WORKER_PROGRAM.format(path=path, separate=errors is not None)
        self._process = subprocess.Popen(
            [sys.executable, *flags, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
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
        """Send a task. If the process has ended, its thread has reported that already."""
        assert self._process.stdin is not None
        with suppress(OSError):
            pickle.dump(packed_task, self._process.stdin)
            self._process.stdin.flush()

    @property
    def name(self) -> str:
        """Name of the process in messages."""
        return f"worker process {self._process.pid}"

    def ending(self) -> str:
        """How the process has ended, after `kill`: "by signal 9", "with exit code 1"."""
        code = self._process.returncode
        return f"by signal {-code}" if code < 0 else f"with exit code {code}"

    def loss_reason(self) -> str:
        """Why the task of the process is lost, after `kill`."""
        if self.was_stopped:
            return (
                f"its {self.name} did not run for {self._timeout:g} s and "
                "was ended; cut it again, or allow more time by --workers N:timeout=S"
            )
        is_killed = self._process.returncode == -9
        hint = "; if memory was short, use fewer workers" if is_killed else ""
        return f"the worker has ended {self.ending()}, {MAX_LOSSES} times in the same task{hint}"

    def watch(self, seconds: float, timeout: float) -> None:
        """Count the time in which the process does not run, and end it after the time-out.

        It runs if it has sent a message, or has used processor time: a decoder that holds the
        interpreter's lock for minutes sends none.

        Args:
            seconds: Time since the last check.
            timeout: Time that it may be stopped, in seconds.
        """
        cpu_seconds = _cpu_seconds(self._process.pid)
        if cpu_seconds != self._cpu_seconds:
            self._cpu_seconds, self._silence = cpu_seconds, 0.0
            return
        self._silence += seconds
        if self.was_stopped:
            if self._silence >= GRACE_SECONDS:
                self._process.kill()
        elif self._silence >= timeout:
            self.was_stopped, self._silence, self._timeout = True, 0.0, timeout
            self.terminate()

    def terminate(self) -> None:
        self._process.terminate()
        self._continue()

    def _continue(self) -> None:
        if hasattr(signal, "SIGCONT"):  # a stopped process cleans up only if it runs
            self._process.send_signal(signal.SIGCONT)

    def wait_until(self, deadline: float) -> None:
        """Wait for the end of a terminated process; continue it if it is stopped meanwhile."""
        while (seconds := deadline - time.monotonic()) > 0:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(min(1.0, seconds))
                return
            self._continue()

    def kill(self) -> None:
        """Kill the process if it still runs; wait for it and close its pipes."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _read(self, messages: SimpleQueue[Message]) -> None:
        assert self._process.stdout is not None
        with suppress(Exception):  # of any class, if the process has ended within a message
            while True:
                kind, data = pickle.load(self._process.stdout)
                self._silence = 0.0
                if kind != ALIVE:
                    messages.put((self, kind, data))
        messages.put((self, GONE, b""))


def _cpu_seconds(process_id: int) -> float | None:
    """Processor time of another process; None if the system does not have it."""
    if sys.platform != "linux":
        return None
    try:
        return time.clock_gettime(~process_id << 3 | 2)  # as clock_getcpuclockid(3) makes it
    except OSError:
        return None


Message = tuple[_Worker, str, bytes]
"""Sender, kind and data of a message."""
