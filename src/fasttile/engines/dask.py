"""A cluster of Dask: many machines, or a local one; only names and numbers go through it."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from uuid import uuid4

from ..errors import Cancelled, OptionError
from .base import (
    LostWorkerError,
    R,
    T,
    Told,
    WorkerError,
    WorkerVersionError,
    order_of,
    outcome_of,
    perform,
)
from .executors import AHEAD
from .orders import Order, Orders
from .signals import held_back
from .worker import ENDED, TOLD

if TYPE_CHECKING:
    from distributed import Client

LOCAL = "local"

DONE = "done"

CONNECT_SECONDS = 10
"""So long a scheduler may take to answer."""

WORKERS_SECONDS = 30
"""So long it may have no worker."""

COUNT_SECONDS = 5.0
"""How often workers are counted, which may come and go."""


class Cluster:
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

    def __init__(self, where: str | Client) -> None:
        self._where = where
        self._count = _local_count(where) if isinstance(where, str) else None
        self._stack = ExitStack()
        self._client: Any = None
        self._counted = (0, -COUNT_SECONDS)

    @property
    def width(self) -> int:
        """How many threads its workers have now."""
        width, at = self._counted
        client = self._client
        if client is not None and time.monotonic() >= at + COUNT_SECONDS:
            with suppress(OSError):  # the scheduler may have gone, as the run will tell
                width = sum(client.nthreads().values())
            self._counted = (width, time.monotonic())
        return max(1, width)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._client = self._connected(stack)
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
        self, work: Callable[[T], R], tasks: Iterable[T], told: Told | None = None
    ) -> Iterator[tuple[int, R | Exception]]:
        """Do some work for each task.

        Raises:
            WorkerError: The scheduler has gone.
        """
        assert self._client is not None, "an engine runs inside its context"
        run = _Run(self._client, getattr(work, "__name__", "work"), told)
        orders = Orders(order_of(work, task) for task in tasks)
        try:
            while True:
                while len(run.under_way) < AHEAD * self.width:
                    order = orders.next(alone=not run.under_way)
                    if order is None:
                        break
                    run.submit(order)
                if not run.under_way:
                    return
                order, outcome = run.next_outcome()
                if isinstance(outcome, WorkerVersionError) and run.has_others():
                    orders.again(order)
                elif isinstance(outcome, LostWorkerError) and not order.losses:
                    order.losses += 1
                    orders.aside(order)
                else:
                    yield order.index, outcome
        finally:
            run.end()

    def _connected(self, stack: ExitStack) -> Any:
        """A client, ours or the given one; what is ours ends with the stack."""
        if not isinstance(self._where, str):
            return self._where
        distributed = _distributed()
        address = f"tcp://{self._where}"
        if self._count is not None:
            address = stack.enter_context(_local_cluster(self._count))
        try:
            client = stack.enter_context(
                distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
            )
        except OSError as error:
            raise WorkerError(
                f"no Dask scheduler answers at {self._where} within {CONNECT_SECONDS} s: "
                "`dask scheduler` starts one"
            ) from error
        try:
            client.wait_for_workers(1, timeout=WORKERS_SECONDS)
        except TimeoutError as error:
            raise WorkerError(
                f"the Dask scheduler at {self._where} has no worker after {WORKERS_SECONDS} s: "
                f"`dask worker {self._where}` starts one"
            ) from error
        return client


class _Run:
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

    def __init__(self, client: Any, name: str, told: Told | None) -> None:
        self.under_way: dict[int, tuple[Order, Any]] = {}
        self._client = client
        self._told = told
        self._topic = f"fasttile-{name}-{uuid4().hex[:8]}"
        self._inbox: SimpleQueue[Letter] = SimpleQueue()
        self._refusing: set[str] = set()
        self._number = count()
        client.subscribe_topic(self._topic, lambda event: self._inbox.put(Letter(*event[1])))

    def submit(self, order: Order) -> None:
        """Hand out a task."""
        key = f"{self._topic}-{order.index}-{next(self._number)}"
        call = pickle.dumps(_Call(order.data, order.index, self._topic))
        others = self._others()
        future = self._client.submit(
            pickle.loads,
            call,
            key=key,
            pure=False,
            workers=others or None,
            allow_other_workers=bool(others),  # those may go, and new ones come
        )
        self.under_way[order.index] = order, future
        future.add_done_callback(lambda _: self._inbox.put(Letter(order.index, DONE, b"")))

    def next_outcome(self) -> tuple[Order, Any]:
        """Wait for the next task that ends, telling what is told meanwhile.

        Raises:
            WorkerError: The scheduler has gone.
        """
        while True:
            letter = self._next_letter()
            if letter.task not in self.under_way:
                continue
            if letter.kind != TOLD:
                order, future = self.under_way.pop(letter.task)
                outcome = outcome_of(letter.data) if letter.kind == ENDED else _outcome(future)
                if isinstance(outcome, WorkerVersionError):
                    self._refusing.add(letter.worker)
                future.release()
                return order, outcome
            if self._told is not None:
                self._told(letter.task, pickle.loads(letter.data))

    def has_others(self) -> bool:
        """Whether there are workers but those that have refused to work."""
        return bool(self._others())

    def end(self) -> None:
        """Cancel what is not done."""
        with suppress(OSError):
            if self._client.status == "running":
                self._client.cancel([future for _, future in self.under_way.values()])
                self._client.unsubscribe_topic(self._topic)

    def _others(self) -> list[str]:
        """The workers but those that have refused, if any has."""
        if not self._refusing:
            return []
        return [address for address in self._client.nthreads() if address not in self._refusing]

    def _next_letter(self) -> Letter:
        while True:
            try:
                return self._inbox.get(timeout=1.0)
            except Empty:
                if self._client.status != "running":
                    raise WorkerError("the Dask scheduler has gone") from None


class Letter(NamedTuple):
    """What comes from a worker or, `DONE`, from the scheduler."""

    task: int
    kind: str
    data: bytes
    worker: str = ""


@dataclass
class _Call:
    """A call of `_perform`, which is made where this is unpickled.

    A worker of Dask that cannot import the function of a task dies; one that cannot unpickle its
    argument says so. And the scheduler needs no fasttile.
    """

    order: bytes
    index: int
    topic: str

    def __reduce__(self) -> tuple[Any, ...]:
        return _perform, (self.order, self.index, self.topic)


def _perform(order: bytes, index: int, topic: str) -> bytes:
    """Do at a worker of Dask what it was ordered."""
    worker = _distributed().get_worker()
    key = worker.get_current_task()

    def tell(message: Any) -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise Cancelled("nobody waits for it any more")
        worker.log_event(topic, (index, TOLD, pickle.dumps(message), worker.address))

    answer = perform(order, tell)
    worker.log_event(topic, (index, ENDED, answer, worker.address))
    return answer


def _outcome(future: Any) -> Any:
    """What became of a task that has ended.

    Raises:
        WorkerError: The scheduler has gone.
    """
    try:
        return outcome_of(future.result())
    except _distributed().KilledWorker as error:
        return LostWorkerError(
            f"each worker that took the task was lost, {error.allowed_failures + 1} times; "
            "if memory was short, more of it for each worker would do"
        )
    except CancelledError as error:
        raise WorkerError("the Dask scheduler has gone") from error
    except Exception as error:  # of a worker that has no fasttile, or one without this module
        said = " ".join(f"{error.__cause__ or error}".split())
        return WorkerError(f"a worker cannot take the task, is the same fasttile there? {said}")


def _distributed() -> Any:
    """Dask's package for clusters.

    Raises:
        OptionError: It is not there.
    """
    try:
        return import_module("distributed")
    except ImportError as error:
        raise OptionError("Dask is not there: pip install 'fasttile[dask]'") from error


def _local_cluster(count: int) -> Any:
    """A cluster of this machine, whose processes leave Ctrl-C to us.

    Raises:
        WorkerError: It does not start.
    """
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # started later, it would let SIGINT through again
    try:
        with held_back("SIGINT"):
            return _distributed().LocalCluster(
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


def _local_count(where: str) -> int | None:
    """How many processes a local cluster shall have, 0 for Dask's choice; None: it is elsewhere.

    Raises:
        OptionError: The address cannot be one.
    """
    name, _, number = where.partition(":")
    if name and number.isdecimal() and int(number) > 0:
        return int(number) if name == LOCAL else None
    if where == LOCAL:
        return 0
    raise OptionError(
        f"dask://{where} is no address of a scheduler: dask://HOST:PORT, dask://local or "
        "dask://local:NUMBER would do"
    )
