"""What all engines share: how a task travels, what a worker checks, and what comes back.

Both ways it is bytes, whatever carries them: so a worker that has another fasttile, or none of a
class, can still say so in one line.
"""

from __future__ import annotations

import pickle
import platform
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from ..errors import FasttileError
from ..versions import versions

T = TypeVar("T")
R = TypeVar("R")

LOSSES = 3
"""A task that has lost its worker so often is given up."""

Told = Callable[[int, Any], object]
"""Takes the number of a task and what its work has told."""


class Engine(Protocol):
    """Runs tasks on workers, elsewhere; a context manager that leaves none of them at work.

    Attributes:
        width: About how many tasks run at a time.
        threads: How many threads a task may have for itself.
    """

    @property
    def width(self) -> int: ...

    @property
    def threads(self) -> int: ...

    def run(
        self, work: Callable[[T], R], tasks: Iterable[T], told: Told | None = None
    ) -> Iterator[tuple[int, R | Exception]]:
        """Do some work for each task.

        No more tasks are taken from `tasks` than are soon begun. Where the iteration is left, no
        further ones are begun, and those under way are told to stop, if there is a way.

        Args:
            work: A function of a module that workers can import.
            tasks: What it is called with, small: names and numbers.
            told: Called in the iterating thread with what the work tells (`tell`).

        Yields:
            The number of a task and what became of it, as they end: what the work returned, or the
            exception that it raised. WorkerVersionError: its worker has other versions than we.
            LostWorkerError: it has lost its worker too often.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class WorkerError(FasttileError):
    """A worker cannot take a task, or cannot hand over what became of it."""


class WorkerVersionError(WorkerError):
    """A worker has other versions of what a result's bytes depend on."""


class LostWorkerError(WorkerError):
    """The worker was killed, has run out of memory, or its machine has gone."""


_teller: ContextVar[Callable[[Any], object] | None] = ContextVar("fasttile_teller", default=None)


def tell(message: Any) -> None:
    """Send something small from the work to who waits for it; nothing if there is no way.

    Called too often, it delays the work: a few times a second is fine.
    """
    teller = _teller.get()
    if teller is not None:
        teller(message)


def order_of(work: Callable[[Any], Any], task: Any) -> bytes:
    """A task as it travels: behind the versions, which are read before anything else."""
    return pickle.dumps((versions(), pickle.dumps((work, task))))


def perform(order: bytes, teller: Callable[[Any], object] | None = None) -> bytes:
    """Do at a worker what it was ordered; gives what became of it, for `outcome_of`.

    Args:
        order: What `order_of` made.
        teller: Sends what the work tells.
    """
    token = _teller.set(teller)
    try:
        return _answer(_done(order))
    except Exception as error:
        return _failed(error)
    finally:
        _teller.reset(token)


def outcome_of(answer: bytes) -> Any:
    """What the work returned or raised."""
    known, text = pickle.loads(answer)
    try:
        return pickle.loads(known)
    except Exception:
        return WorkerError(text)


def _done(order: bytes) -> Any:
    wanted, rest = pickle.loads(order)
    check_versions(wanted)
    try:
        work, task = pickle.loads(rest)
    except Exception as error:
        raise WorkerError(f"worker {host()} cannot take the task: {_said(error)}") from error
    return work(task)


def check_versions(wanted: dict[str, str]) -> None:
    """Refuse to work for a program that has other versions.

    Args:
        wanted: Its versions.

    Raises:
        WorkerVersionError: They differ; it says in what.
    """
    ours = versions()
    differing = [
        f"{name} {ours.get(name, 'missing')} (this program: {wanted.get(name, 'missing')})"
        for name in dict.fromkeys((*wanted, *ours))
        if ours.get(name) != wanted.get(name)
    ]
    if differing:
        raise WorkerVersionError(
            f"worker {host()} has {', '.join(differing)}: install the same on both"
        )


def host() -> str:
    """What this machine is called."""
    return platform.node() or "here"


def _answer(known: Any, text: str = "") -> bytes:
    return pickle.dumps((pickle.dumps(known), text))


def _failed(error: Exception) -> bytes:
    """An exception as it travels; where it cannot, its text does."""
    trace = "".join(traceback.format_exception(error)).rstrip()
    text = str(error) if isinstance(error, FasttileError) else _said(error)
    error.add_note(f"at worker {host()}:\n{trace}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = WorkerError(text)
        error.add_note(trace)
    return _answer(error, text)


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
