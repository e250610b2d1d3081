"""A cluster of Dask: many machines, or a local one; only names and numbers go through it."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError as FutureCancelledError
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from uuid import uuid4

from fasttile.abc.engine import R, T, TaskProgressCallback
from fasttile.errors import CancelledError, OptionError
from fasttile.workers import (
    LostWorkerError,
    Task,
    TaskQueue,
    WorkerError,
    WorkerVersionError,
    block_signals,
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
"""So long a scheduler may take to answer."""

WORKERS_SECONDS = 30
"""So long it may have no worker."""

COUNT_INTERVAL_SECONDS = 5.0
"""How often workers are counted, which may come and go."""


class DaskEngine:
    """Runs tasks by Dask; see `Engine`. What is there, is used: clients stay open.

    Workers that are lost are replaced by others, as Dask does; a task that goes on losing them is
    tried once more by itself, when all others are done. A worker of other versions is given no
    further task of the run, as long as there are others.

    Args:
        where: "HOST:PORT" of a scheduler, "local", "local:NUMBER" of processes, or a client.

    Raises:
        OptionError: It is none of these.
    """

    threads = 1  # its workers run a task in each of theirs

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
        """How many threads its workers have now."""
        width, at = self._last_count
        client = self._client
        if client is not None and time.monotonic() >= at + COUNT_INTERVAL_SECONDS:
            with suppress(OSError):  # the scheduler may have gone, as the run will tell
                width = sum(client.nthreads().values())
            self._last_count = (width, time.monotonic())
        return max(1, width)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._client = self._connect(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client = None
        self._stack.close()

    def run(
        self,
        work: Callable[[T], R],
        tasks: Iterable[T],
        on_progress: TaskProgressCallback | None = None,
    ) -> Iterator[tuple[int, R | Exception]]:
        """Do some work for each task.

        Raises:
            WorkerError: The scheduler has gone.
        """
        assert self._client is not None, "an engine runs inside its context"
        run = _DaskRun(self._client, getattr(work, "__name__", "work"), on_progress)
        orders = TaskQueue(pack_task(work, task) for task in tasks)
        try:
            while True:
                while len(run.running) < TASKS_PER_SLOT * self.width:
                    order = orders.next(is_idle=not run.running)
                    if order is None:
                        break
                    run.submit(order)
                if not run.running:
                    return
                order, outcome = run.next_result()
                if isinstance(outcome, WorkerVersionError) and run.has_other_workers():
                    orders.retry(order)
                elif isinstance(outcome, LostWorkerError) and not order.losses:
                    order.losses += 1
                    orders.retry_alone(order)
                else:
                    yield order.index, outcome
        finally:
            run.cancel()

    def _connect(self, stack: ExitStack) -> Any:
        """A client, ours or the given one; what is ours ends with the stack."""
        if not isinstance(self._scheduler, str):
            return self._scheduler
        distributed = _import_distributed()
        address = f"tcp://{self._scheduler}"
        if self._process_count is not None:
            address = stack.enter_context(_start_local_cluster(self._process_count))
        try:
            client = stack.enter_context(
                distributed.Client(address, timeout=SCHEDULER_SECONDS, set_as_default=False)
            )
        except OSError as error:
            raise WorkerError(
                f"no Dask scheduler answers at {self._scheduler} within {SCHEDULER_SECONDS} s: "
                "`dask scheduler` starts one"
            ) from error
        try:
            client.wait_for_workers(1, timeout=WORKERS_SECONDS)
        except TimeoutError as error:
            raise WorkerError(
                f"the Dask scheduler at {self._scheduler} has no worker after {WORKERS_SECONDS} s: "
                f"`dask worker {self._scheduler}` starts one"
            ) from error
        return client


class _DaskRun:
    """The tasks of one run that are handed out.

    What the work tells comes as events of a topic of ours, and so does what becomes of a task:
    fetched from the worker's memory it would take a round trip, and be lost with the worker.

    Args:
        client: Whose cluster does them.
        name: What the work is called.
        told: Takes what it tells.

    Attributes:
        under_way: By their numbers.
    """

    def __init__(self, client: Any, name: str, on_progress: TaskProgressCallback | None) -> None:
        self.running: dict[int, tuple[Task, Any]] = {}
        self._client = client
        self._on_progress = on_progress
        self._topic = f"fasttile-{name}-{uuid4().hex[:8]}"
        self._messages: SimpleQueue[DaskMessage] = SimpleQueue()
        self._mismatched_workers: set[str] = set()
        self._submission_numbers = count()
        client.subscribe_topic(
            self._topic, lambda event: self._messages.put(DaskMessage(*event[1]))
        )

    def submit(self, task: Task) -> None:
        """Hand out a task."""
        key = f"{self._topic}-{task.index}-{next(self._submission_numbers)}"
        call = pickle.dumps(_TaskCall(task.data, task.index, self._topic))
        others = self._other_workers()
        future = self._client.submit(
            pickle.loads,
            call,
            key=key,
            pure=False,
            workers=others or None,
            allow_other_workers=bool(others),  # those may go, and new ones come
        )
        self.running[task.index] = task, future
        future.add_done_callback(
            lambda _: self._messages.put(DaskMessage(task.index, FUTURE_DONE, b""))
        )

    def next_result(self) -> tuple[Task, Any]:
        """Wait for the next task that ends, telling what is told meanwhile.

        Raises:
            WorkerError: The scheduler has gone.
        """
        while True:
            letter = self._next_message()
            if letter.task not in self.running:
                continue
            if letter.kind != PROGRESS:
                order, future = self.running.pop(letter.task)
                outcome = (
                    unpack_result(letter.data) if letter.kind == RESULT else _future_result(future)
                )
                if isinstance(outcome, WorkerVersionError):
                    self._mismatched_workers.add(letter.worker)
                future.release()
                return order, outcome
            if self._on_progress is not None:
                self._on_progress(letter.task, pickle.loads(letter.data))

    def has_other_workers(self) -> bool:
        """Whether there are workers but those that have refused to work."""
        return bool(self._other_workers())

    def cancel(self) -> None:
        """Cancel what is not done."""
        with suppress(OSError):
            if self._client.status == "running":
                self._client.cancel([future for _, future in self.running.values()])
                self._client.unsubscribe_topic(self._topic)

    def _other_workers(self) -> list[str]:
        """The workers but those that have refused, if any has."""
        if not self._mismatched_workers:
            return []
        return [
            address
            for address in self._client.nthreads()
            if address not in self._mismatched_workers
        ]

    def _next_message(self) -> DaskMessage:
        while True:
            try:
                return self._messages.get(timeout=1.0)
            except Empty:
                if self._client.status != "running":
                    raise WorkerError("the Dask scheduler has gone") from None


class DaskMessage(NamedTuple):
    """What comes from a worker or, `DONE`, from the scheduler."""

    task: int
    kind: str
    data: bytes
    worker: str = ""


@dataclass
class _TaskCall:
    """A call of `_perform`, which is made where this is unpickled.

    A worker of Dask that cannot import the function of a task dies; one that cannot unpickle its
    argument says so. And the scheduler needs no fasttile.
    """

    packed_task: bytes
    index: int
    topic: str

    def __reduce__(self) -> tuple[Any, ...]:
        return _run_task_in_dask, (self.packed_task, self.index, self.topic)


def _run_task_in_dask(packed_task: bytes, index: int, topic: str) -> bytes:
    """Do at a worker of Dask what it was ordered."""
    worker = _import_distributed().get_worker()
    key = worker.get_current_task()

    def send_progress(message: Any) -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise CancelledError("nobody waits for it any more")
        worker.log_event(topic, (index, PROGRESS, pickle.dumps(message), worker.address))

    answer = run_task(packed_task, send_progress)
    worker.log_event(topic, (index, RESULT, answer, worker.address))
    return answer


def _future_result(future: Any) -> Any:
    """What became of a task that has ended.

    Raises:
        WorkerError: The scheduler has gone.
    """
    try:
        return unpack_result(future.result())
    except _import_distributed().KilledWorker as error:
        return LostWorkerError(
            f"each worker that took the task was lost, {error.allowed_failures + 1} times; "
            "if memory was short, more of it for each worker would do"
        )
    except FutureCancelledError as error:
        raise WorkerError("the Dask scheduler has gone") from error
    except Exception as error:  # of a worker that has no fasttile, or one without this module
        said = " ".join(f"{error.__cause__ or error}".split())
        return WorkerError(f"a worker cannot take the task, is the same fasttile there? {said}")


def _import_distributed() -> Any:
    """Dask's package for clusters.

    Raises:
        OptionError: It is not there.
    """
    try:
        return import_module("distributed")
    except ImportError as error:
        raise OptionError("Dask is not there: pip install 'fasttile[dask]'") from error


def _start_local_cluster(count: int) -> Any:
    """A cluster of this machine, whose processes leave Ctrl-C to us.

    Raises:
        WorkerError: It does not start.
    """
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # started later, it would let SIGINT through again
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
            "to stand before what starts them"
        ) from error


def _local_process_count(address: str) -> int | None:
    """How many processes a local cluster shall have, 0 for Dask's choice; None: it is elsewhere.

    Raises:
        OptionError: The address cannot be one.
    """
    name, _, number = address.partition(":")
    if name and number.isdecimal() and int(number) > 0:
        return int(number) if name == LOCAL_CLUSTER else None
    if address == LOCAL_CLUSTER:
        return 0
    raise OptionError(
        f"dask://{address} is no address of a scheduler: dask://HOST:PORT, dask://local or "
        "dask://local:NUMBER would do"
    )
