"""What all engines share: how a task travels, what a worker checks, and what comes back.

Both ways it is bytes, whatever carries them: so a worker that has another fasttile, or none of a
class, can still say so in one line.
"""

from __future__ import annotations

import pickle
import platform
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from fasttile.errors import FasttileError
from fasttile.versions import codec_versions

MAX_LOSSES = 3
"""A task that has lost its worker so often is given up."""


class WorkerError(FasttileError):
    """A worker cannot take a task, or cannot hand over what became of it."""


class WorkerVersionError(WorkerError):
    """A worker has other versions of what a result's bytes depend on."""


class LostWorkerError(WorkerError):
    """The worker was killed, has run out of memory, or its machine has gone."""


_progress_sender: ContextVar[Callable[[Any], object] | None] = ContextVar(
    "fasttile_teller", default=None
)


def send_progress(progress: Any) -> None:
    """Send something small from the work to who waits for it; nothing if there is no way.

    Called too often, it delays the work: a few times a second is fine.
    """
    teller = _progress_sender.get()
    if teller is not None:
        teller(progress)


def pack_task(work: Callable[[Any], Any], task: Any) -> bytes:
    """A task as it travels: behind the versions, which are read before anything else."""
    return pickle.dumps((codec_versions(), pickle.dumps((work, task))))


def run_task(packed_task: bytes, sender: Callable[[Any], object] | None = None) -> bytes:
    """Do at a worker what it was ordered; gives what became of it, for `outcome_of`.

    Args:
        order: What `order_of` made.
        teller: Sends what the work tells.
    """
    token = _progress_sender.set(sender)
    try:
        return _pack_result(_run_checked(packed_task))
    except Exception as error:
        return _pack_error(error)
    finally:
        _progress_sender.reset(token)


def unpack_result(packed_result: bytes) -> Any:
    """What the work returned or raised."""
    known, text = pickle.loads(packed_result)
    try:
        return pickle.loads(known)
    except Exception:
        return WorkerError(text)


def _run_checked(packed_task: bytes) -> Any:
    wanted, rest = pickle.loads(packed_task)
    check_versions(wanted)
    try:
        work, task = pickle.loads(rest)
    except Exception as error:
        raise WorkerError(
            f"worker {host_name()} cannot take the task: {_error_line(error)}"
        ) from error
    return work(task)


def check_versions(required: dict[str, str]) -> None:
    """Refuse to work for a program that has other versions.

    Args:
        wanted: Its versions.

    Raises:
        WorkerVersionError: They differ; it says in what.
    """
    ours = codec_versions()
    differing = [
        f"{name} {ours.get(name, 'missing')} (this program: {required.get(name, 'missing')})"
        for name in dict.fromkeys((*required, *ours))
        if ours.get(name) != required.get(name)
    ]
    if differing:
        raise WorkerVersionError(
            f"worker {host_name()} has {', '.join(differing)}: install the same on both"
        )


def host_name() -> str:
    """What this machine is called."""
    return platform.node() or "here"


def _pack_result(result: Any, text: str = "") -> bytes:
    return pickle.dumps((pickle.dumps(result), text))


def _pack_error(error: Exception) -> bytes:
    """An exception as it travels; where it cannot, its text does."""
    trace = "".join(traceback.format_exception(error)).rstrip()
    text = str(error) if isinstance(error, FasttileError) else _error_line(error)
    error.add_note(f"at worker {host_name()}:\n{trace}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = WorkerError(text)
        error.add_note(trace)
    return _pack_result(error, text)


def _error_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


# Which task is done next, of those that are new and those whose worker was lost.


@dataclass
class Task:
    """A task as it travels.

    Attributes:
        index: Its number.
        data: What the worker is sent.
        losses: How often a worker was lost over it.
    """

    index: int
    data: bytes
    losses: int = 0


class TaskQueue:
    """Hands out tasks; new ones are made when they are asked for.

    Args:
        fresh: What workers are sent for the new ones.
    """

    def __init__(self, packed_tasks: Iterable[bytes]) -> None:
        self._new = enumerate(packed_tasks)
        self._retries: deque[Task] = deque()
        self._isolated: deque[Task] = deque()

    def next(self, *, is_idle: bool) -> Task | None:
        """The next one, if there is any to be begun now.

        Args:
            alone: Whether nothing else is under way.
        """
        if self._retries:
            return self._retries.popleft()
        for index, data in self._new:
            return Task(index, data)
        return self._isolated.popleft() if is_idle and self._isolated else None

    def retry(self, task: Task) -> None:
        """Hand it out once more, before any new one."""
        self._retries.append(task)

    def retry_alone(self, task: Task) -> None:
        """Hand it out when nothing else is left to do, and by itself.

        Where it has killed its worker, it meets no others then; where memory has run out, it has
        all of it.
        """
        self._isolated.append(task)


# Signals that are held back for a while, and from processes that are started meanwhile.


@contextmanager
def block_signals(*names: str) -> Iterator[None]:
    """Hold back signals from this thread; threads and processes that it starts never get them.

    So Ctrl-C, which a terminal sends to all processes, does not end workers before their program.

    Args:
        names: Which; those that the system does not have are left out.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    numbers = {getattr(signal, name) for name in names if hasattr(signal, name)}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
