"""The choice of an engine: processes of this machine, an executor, or a Dask cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fasttile.abc.engine import Engine
from fasttile.errors import OptionError
from fasttile.options.cut import WORKER_TIMEOUT_SECONDS
from fasttile.workers import (
    LostWorkerError,
    WorkerError,
    WorkerVersionError,
    check_process_count,
    send_progress,
)

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from distributed import Client

__all__ = [
    "Engine",
    "LostWorkerError",
    "WorkerError",
    "WorkerVersionError",
    "resolve_engine",
    "send_progress",
]

DASK_SCHEME = "dask://"


def split_timeout(workers: str) -> tuple[str | None, int | None]:
    """Split "N:timeout=SECONDS" into the number, and the time that a process may be stopped.

    Returns:
        The number, None if it is left out; and the seconds, None if there is no such parameter.

    Raises:
        OptionError: The time is no number of seconds, or the workers are those of Dask.

    Example:
        >>> split_timeout("4:timeout=600"), split_timeout(":timeout=600"), split_timeout("4")
        (('4', 600), (None, 600), ('4', None))
    """
    number, separator, seconds = workers.partition(":timeout=")
    if not separator:
        return workers, None
    if number.startswith(DASK_SCHEME):
        raise OptionError(
            f"workers {workers!r}: a timeout is for processes of this machine; Dask has its own"
        )
    if not seconds.isdecimal() or int(seconds) < 2:
        raise OptionError(f"workers {workers!r}: expected a timeout of at least 2 seconds")
    return number or None, int(seconds)


def resolve_engine(
    workers: str | int | Executor | Client | Engine, timeout: float = WORKER_TIMEOUT_SECONDS
) -> Engine:
    """Return the engine for a value of the `workers` parameter.

    Args:
        workers: A number of processes; "N:timeout=SECONDS", which replaces `timeout`;
            "dask://HOST:PORT", a scheduler's address; "dask://local"
            or "dask://local:NUMBER", a Dask cluster on this machine; a Dask client; an object
            with the interface of concurrent.futures.Executor, which stays open; or an engine.
        timeout: Time that a process of this machine may be stopped, in seconds; see
            `ProcessEngine`.

    Raises:
        OptionError: The value is none of these.

    Example:
        >>> resolve_engine("4").width
        4
    """
    given: Any = workers
    if isinstance(given, str):
        given, own_timeout = split_timeout(given)
        timeout = timeout if own_timeout is None else own_timeout
    if isinstance(given, str) and given.startswith(DASK_SCHEME):
        from fasttile.workers.dask import DaskEngine

        return DaskEngine(given.removeprefix(DASK_SCHEME))
    if isinstance(given, str | int) and not isinstance(given, bool):
        try:
            number = int(given)
        except ValueError:
            number = 0
        if number > 0:
            check_process_count(number, f"workers {number}")
            from fasttile.workers.processes import ProcessEngine

            return ProcessEngine(number, timeout)
    elif hasattr(given, "run") and hasattr(given, "width"):
        engine: Engine = given
        return engine
    elif hasattr(given, "scheduler_info"):
        from fasttile.workers.dask import DaskEngine

        return DaskEngine(given)
    elif hasattr(given, "submit"):
        from fasttile.workers.executor import ExecutorEngine

        return ExecutorEngine(given)
    raise OptionError(
        f"workers {given!r}: unknown; expected a number of processes (1 or more), "
        "dask://HOST:PORT or dask://local"
    )
