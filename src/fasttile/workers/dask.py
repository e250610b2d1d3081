"""An engine over a Dask cluster; only paths, options and numbers are sent to it, no pixels."""

from __future__ import annotations

import logging
import pickle
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError as FutureCancelledError
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from uuid import uuid4

from fasttile.abc.engine import R, T, TaskProgressCallback
from fasttile.errors import CancelledError, OptionError, one_line, redact_url
from fasttile.storage.system import log_line
from fasttile.types import Closing
from fasttile.workers import (
    LostWorkerError,
    Task,
    TaskQueue,
    WorkerError,
    WorkerVersionError,
    block_signals,
    check_process_count,
    pack_task,
    run_task,
    unpack_result,
)
from fasttile.workers.executor import TASKS_PER_SLOT
from fasttile.workers.worker import PROGRESS, RESULT

if TYPE_CHECKING:
    from distributed import Client

LOCAL_CLUSTER = "local"

FUTURE_DONE = "done"

SCHEDULER_SECONDS = 10
"""Time that a scheduler has to answer."""

GREETING, MAX_GREETING_BYTES = b"pickle-protocol", 2**12
"""A part of the first message of a scheduler, and more bytes than are before it."""

WORKERS_SECONDS = 30
"""Time that it has to get its first worker."""

COUNT_INTERVAL_SECONDS = 5.0
"""Time between two counts of the workers, whose number may change."""


class DaskEngine(Closing):
    """Runs tasks on a Dask cluster; see `Engine`. A given client stays open.

    Dask gives the task of a lost worker to another one; a task that keeps losing workers is run
    once more alone, after all others. A worker with other versions gets no further task of the
    run as long as there are others.

    Args:
        scheduler: "HOST:PORT" of a scheduler, "local", "local:NUMBER" of processes, or a client.

    Raises:
        OptionError: The value is none of these.
    """

    threads = 1  # a Dask worker runs a task in each of its threads

    def __init__(self, scheduler: str | Client) -> None:
        self._scheduler = scheduler
        self._process_count = (
            _local_process_count(scheduler) if isinstance(scheduler, str) else None
        )
        self._stack = ExitStack()
        self._client: Any = None
        self._last_count = (0, -COUNT_INTERVAL_SECONDS)

    @property
    def width(self) -> int:
        """Number of threads of all workers, counted every five seconds."""
        width, at = self._last_count
        client = self._client
        if client is not None and time.monotonic() >= at + COUNT_INTERVAL_SECONDS:
            with suppress(OSError):  # if the scheduler is down, the run reports it
                width = sum(client.nthreads().values())
            self._last_count = (width, time.monotonic())
        return max(1, width)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._client = self._connect(stack)
            self._stack = stack.pop_all()
        return self

    def close(self) -> None:
        """Close the client and the local cluster, if this engine has started them."""
        self._client = None
        self._stack.close()

    def run(
        self,
        work: Callable[[T], R],
        tasks: Iterable[T],
        on_progress: TaskProgressCallback | None = None,
        on_wait: Callable[[], object] | None = None,
    ) -> Iterator[tuple[int, R | Exception]]:
        """Call a function for each task; see `Engine.run`.

        Raises:
            WorkerError: The scheduler is down.
        """
        assert self._client is not None, "an engine runs inside of its context"
        run = _DaskRun(self._client, getattr(work, "__name__", "work"), on_progress, on_wait)
        queue = TaskQueue(pack_task(work, task) for task in tasks)
        try:
            while True:
                while len(run.running) < TASKS_PER_SLOT * self.width:
                    task = queue.next(is_idle=not run.running)
                    if task is None:
                        break
                    run.submit(task)
                if not run.running:
                    return
                task, result = run.next_result()
                if isinstance(result, WorkerVersionError) and run.other_workers():
                    log_line("warning", f"{result}; another worker gets its task")
                    queue.retry(task)
                elif isinstance(result, LostWorkerError) and not task.losses:
                    log_line("warning", f"{result}; the task is run once more, alone")
                    task.losses += 1
                    queue.retry_alone(task)
                else:
                    yield task.index, result
        finally:
            run.cancel()

    def _connect(self, stack: ExitStack) -> Any:
        """The given client, or a new one, which is closed with the stack."""
        if not isinstance(self._scheduler, str):
            return self._scheduler
        distributed = _import_distributed()
        address = f"tcp://{self._scheduler}"
        if self._process_count is None:
            _await_greeting(self._scheduler)
        else:
            address = stack.enter_context(_start_local_cluster(self._process_count))
        try:
            client = stack.enter_context(
                distributed.Client(address, timeout=SCHEDULER_SECONDS, set_as_default=False)
            )
        except OSError as error:
            raise _silence_error(self._scheduler) from error
        try:
            client.wait_for_workers(1, timeout=WORKERS_SECONDS)
        except TimeoutError as error:
            raise WorkerError(
                f"the Dask scheduler at {self._scheduler} has no worker after {WORKERS_SECONDS} s: "
                f"`dask worker {self._scheduler}` starts one"
            ) from error
        return client


class _DaskRun:
    """The submitted tasks of one run.

    Progress and results come as events of a topic. A result that is fetched from the worker's
    memory instead would take a round trip, and would be lost with the worker.

    Args:
        client: Client of the cluster.
        name: Name of the work.
        on_progress: Receives the progress of the work.
        on_wait: See `Engine.run`.

    Attributes:
        running: Tasks and their futures by number.
    """

    def __init__(
        self,
        client: Any,
        name: str,
        on_progress: TaskProgressCallback | None,
        on_wait: Callable[[], object] | None,
    ) -> None:
        self.running: dict[int, tuple[Task, Any]] = {}
        self._client = client
        self._on_progress = on_progress
        self._on_wait = on_wait
        self._topic = f"fasttile-{name}-{uuid4().hex[:8]}"
        self._messages: SimpleQueue[DaskMessage] = SimpleQueue()
        self._mismatched_workers: set[str] = set()
        self._submission_numbers = count()
        client.subscribe_topic(
            self._topic, lambda event: self._messages.put(DaskMessage(*event[1]))
        )

    def submit(self, task: Task) -> None:
        """Submit a task."""
        key = f"{self._topic}-{task.index}-{next(self._submission_numbers)}"
        call = pickle.dumps(_TaskCall(task.data, task.index, self._topic))
        others = self.other_workers()
        future = self._client.submit(
            pickle.loads,
            call,
            key=key,
            pure=False,
            workers=others or None,
            allow_other_workers=bool(others),  # the number of workers may change
        )
        self.running[task.index] = task, future
        future.add_done_callback(
            lambda _: self._messages.put(DaskMessage(task.index, FUTURE_DONE, b""))
        )

    def next_result(self) -> tuple[Task, Any]:
        """Wait for the next task that ends; report progress until then.

        Raises:
            WorkerError: The scheduler is down.
        """
        while True:
            try:
                message = self._messages.get(timeout=1.0)
            except Empty:
                if self._client.status != "running":
                    raise WorkerError("the Dask scheduler is down") from None
                if self._on_wait is not None:
                    self._on_wait()
                continue
            if message.task not in self.running:
                continue
            if message.kind == PROGRESS:
                if self._on_progress is not None:
                    self._on_progress(message.task, pickle.loads(message.data))
                continue
            task, future = self.running.pop(message.task)
            has_result = message.kind == RESULT
            result = unpack_result(message.data) if has_result else _future_result(future)
            if isinstance(result, WorkerVersionError):
                self._mismatched_workers.add(message.worker)
            future.release()
            return task, result

    def cancel(self) -> None:
        """Cancel the tasks that have not ended."""
        with suppress(OSError):
            if self._client.status == "running":
                self._client.cancel([future for _, future in self.running.values()])
                self._client.unsubscribe_topic(self._topic)

    def other_workers(self) -> list[str]:
        """Workers with the right versions; empty as long as none has refused a task."""
        if not self._mismatched_workers:
            return []
        return [
            address
            for address in self._client.nthreads()
            if address not in self._mismatched_workers
        ]


class DaskMessage(NamedTuple):
    """A message of a worker or, if the kind is FUTURE_DONE, of the scheduler."""

    task: int
    kind: str
    data: bytes
    worker: str = ""


@dataclass
class _TaskCall:
    """A call of `_run_task_in_dask`, which is made when this is unpickled.

    A Dask worker that cannot import the function of a task ends; one that cannot unpickle its
    argument answers with an error. And the scheduler needs no fasttile.
    """

    packed_task: bytes
    index: int
    topic: str

    def __reduce__(self) -> tuple[Any, ...]:
        return _run_task_in_dask, (self.packed_task, self.index, self.topic)


def _run_task_in_dask(packed_task: bytes, index: int, topic: str) -> bytes:
    """Run a packed task in a Dask worker."""
    worker = _import_distributed().get_worker()
    key = worker.get_current_task()

    def send_progress(message: Any) -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise CancelledError("the task was cancelled")
        worker.log_event(topic, (index, PROGRESS, pickle.dumps(message), worker.address))

    result = run_task(packed_task, send_progress)
    worker.log_event(topic, (index, RESULT, result, worker.address))
    return result


def _future_result(future: Any) -> Any:
    """Result of a task that has ended without sending one.

    Raises:
        WorkerError: The scheduler is down.
    """
    try:
        return unpack_result(future.result())
    except _import_distributed().KilledWorker as error:
        return LostWorkerError(
            f"each worker that took the task was lost, {error.allowed_failures + 1} times; "
            "if memory was short, give each worker more of it"
        )
    except FutureCancelledError as error:
        raise WorkerError("the Dask scheduler is down") from error
    except Exception as error:  # of a worker that has no fasttile, or one without this module
        reason = one_line(error.__cause__ or error)
        return WorkerError(f"a worker cannot take the task, is the same fasttile there? {reason}")


def _import_distributed() -> Any:
    """Import Dask's package for clusters.

    Raises:
        OptionError: It is not installed.
    """
    try:
        return import_module("distributed")
    except ImportError as error:
        raise OptionError("Dask is not installed; pip install 'fasttile[dask]'") from error


def _await_greeting(scheduler: str) -> None:
    """Wait until a scheduler greets a connection, which it does unasked.

    A client of Dask waits without end for one that accepts connections and is silent, and allocates
    as much memory as other bytes claim.

    Args:
        scheduler: "HOST:PORT".

    Raises:
        WorkerError: No scheduler answers in time, or the program at the port is another one.
    """
    host, _, port = scheduler.rpartition(":")
    deadline = time.monotonic() + SCHEDULER_SECONDS
    failure: OSError | None = None
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((host, int(port)), timeout=left) as connection:
                greeting = b""
                while GREETING not in greeting:
                    connection.settimeout(max(0.01, deadline - time.monotonic()))
                    piece = connection.recv(MAX_GREETING_BYTES)
                    greeting += piece
                    if not piece or len(greeting) >= MAX_GREETING_BYTES:
                        raise WorkerError(
                            f"{scheduler} is the address of another program, not of a Dask "
                            "scheduler; `dask scheduler` prints its address"
                        )
                return
        except OSError as error:  # it may be starting
            failure = error
            time.sleep(0.2)
    raise _silence_error(scheduler) from failure


def _silence_error(scheduler: str) -> WorkerError:
    return WorkerError(
        f"no Dask scheduler answers at {scheduler} within {SCHEDULER_SECONDS} s: "
        "`dask scheduler` starts one"
    )


def _start_local_cluster(count: int) -> Any:
    """Start a cluster on this machine whose processes ignore Ctrl-C.

    Raises:
        WorkerError: It does not start.
    """
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # it unblocks SIGINT if it starts later
    try:
        with block_signals("SIGINT"):
            return _import_distributed().LocalCluster(
                n_workers=count or None,
                threads_per_worker=1,
                processes=True,
                dashboard_address=":0",
                silence_logs=logging.CRITICAL,
            )
    except RuntimeError as error:
        raise WorkerError(
            'dask://local cannot start its processes; in a script, if __name__ == "__main__": has '
            "to guard the code that starts them"
        ) from error


def _local_process_count(address: str) -> int | None:
    """Number of processes of a local cluster, 0 for Dask's default; None for a remote one.

    Raises:
        OptionError: The address is not of a known form.
    """
    name, _, digits = address.partition(":")
    number = int(digits) if digits.isdecimal() and len(digits) < 10 else 0
    if name == LOCAL_CLUSTER and number > 0:
        check_process_count(number, f"dask://{address}")
        return number
    if name not in ("", LOCAL_CLUSTER) and 0 < number < 2**16:
        return None
    if address == LOCAL_CLUSTER:
        return 0
    raise OptionError(
        f"{redact_url(f'dask://{address}')}: not the address of a scheduler; expected "
        "dask://HOST:PORT, dask://local or dask://local:NUMBER"
    )
