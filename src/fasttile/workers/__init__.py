"""Tasks and results of all engines, packed as bytes, and the queue of tasks.

The versions travel first and are checked before the task is unpickled. So a worker with another
fasttile, or without a class, answers with a one-line error instead of a crash.
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

from fasttile.errors import FasttileError, OptionError, one_line
from fasttile.storage.system import cpu_count
from fasttile.versions import codec_versions

MAX_LOSSES = 3
"""A task fails after it has lost this many workers."""


class WorkerError(FasttileError):
    """A worker cannot unpack a task, or its result cannot be unpacked."""


class WorkerVersionError(WorkerError):
    """A worker has other versions of the codecs that a result's bytes depend on."""


class LostWorkerError(WorkerError):
    """The worker was killed, has run out of memory, or its machine is down."""


_progress_sender: ContextVar[Callable[[Any], object] | None] = ContextVar(
    "fasttile_teller", default=None
)


def send_progress(progress: Any) -> None:
    """Send a small progress object from the work to the program; nothing if no engine listens.

    Each call costs a message: a few per second are fine.
    """
    sender = _progress_sender.get()
    if sender is not None:
        sender(progress)


def pack_task(work: Callable[[Any], Any], task: Any) -> bytes:
    """Pack a task as bytes, after the versions, which are checked first."""
    return pickle.dumps((codec_versions(), pickle.dumps((work, task))))


def run_task(packed_task: bytes, sender: Callable[[Any], object] | None = None) -> bytes:
    """Run a packed task in a worker; return the packed result, for `unpack_result`.

    Args:
        packed_task: Bytes of `pack_task`.
        sender: Sends the progress of the work.
    """
    token = _progress_sender.set(sender)
    try:
        required, rest = pickle.loads(packed_task)
        check_versions(required)
        try:
            work, task = pickle.loads(rest)
        except Exception as error:
            raise WorkerError(
                f"worker {host_name()} cannot take the task: {_error_line(error)}"
            ) from error
        return _pack_result(work(task))
    except Exception as error:
        trace = "".join(traceback.format_exception(error)).rstrip()
        text = str(error) if isinstance(error, FasttileError) else _error_line(error)
        error.add_note(f"at worker {host_name()}:\n{trace}")
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # it cannot be pickled
            error = WorkerError(text)
            error.add_note(trace)
        return _pack_result(error, text)
    finally:
        _progress_sender.reset(token)


def unpack_result(packed_result: bytes) -> Any:
    """The return value of the work, or the exception that it raised."""
    result, text = pickle.loads(packed_result)
    try:
        return pickle.loads(result)
    except Exception:
        return WorkerError(text)


def check_versions(required: dict[str, str]) -> None:
    """Refuse a task of a program that has other versions.

    Args:
        required: The program's versions.

    Raises:
        WorkerVersionError: They differ; the message names each.
    """
    installed = codec_versions()
    differing = [
        f"{name} {installed.get(name, 'missing')} (this program: {required.get(name, 'missing')})"
        for name in dict.fromkeys((*required, *installed))
        if installed.get(name) != required.get(name)
    ]
    if differing:
        raise WorkerVersionError(
            f"worker {host_name()} has {', '.join(differing)}: install the same on both"
        )


def check_process_count(count: int, option: str) -> None:
    """Refuse more processes on this machine than can be of use.

    Args:
        count: Their number.
        option: Name of the option in messages, with its value.

    Raises:
        OptionError: There are more than 64, and more than 8 for each processor.
    """
    limit = max(64, 8 * cpu_count())
    if count > limit:
        raise OptionError(f"{option}: too many processes; expected at most {limit} on this machine")


def host_name() -> str:
    """Name of this machine."""
    return platform.node() or "here"


def _pack_result(result: Any, text: str = "") -> bytes:
    return pickle.dumps((pickle.dumps(result), text))


def _error_line(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}")


@dataclass
class Task:
    """A packed task.

    Attributes:
        index: Its number.
        data: Bytes of `pack_task`.
        losses: Number of workers that were lost while they ran it.
    """

    index: int
    data: bytes
    losses: int = 0


class TaskQueue:
    """Queue of new tasks and of tasks to retry; new ones are packed when they are needed.

    Args:
        packed_tasks: Bytes of `pack_task` for each new task.
    """

    def __init__(self, packed_tasks: Iterable[bytes]) -> None:
        self._new = enumerate(packed_tasks)
        self._retries: deque[Task] = deque()
        self._isolated: deque[Task] = deque()

    def next(self, *, is_idle: bool) -> Task | None:
        """The next task that may start now, or None.

        Args:
            is_idle: True if no other task is running.
        """
        if self._retries:
            return self._retries.popleft()
        for index, data in self._new:
            return Task(index, data)
        return self._isolated.popleft() if is_idle and self._isolated else None

    def retry(self, task: Task) -> None:
        """Queue a task again, before all new ones."""
        self._retries.append(task)

    def retry_alone(self, task: Task) -> None:
        """Queue a task to run alone, after all others.

        If it kills its worker, no other task is lost; if memory was short, it has all of it.
        """
        self._isolated.append(task)


@contextmanager
def block_signals(*names: str) -> Iterator[None]:
    """Block signals in this thread; threads and processes that it starts inherit the mask.

    A terminal sends Ctrl-C to all processes: with the signal blocked, workers do not end before
    their program.

    Args:
        names: Names of signals; unknown ones are ignored.
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
