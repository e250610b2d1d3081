"""Where many tasks are done: processes of this machine, another program's executor, a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fasttile.abc.engine import Engine
from fasttile.errors import OptionError
from fasttile.workers import LostWorkerError, WorkerError, WorkerVersionError, send_progress

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


def resolve_engine(workers: str | int | Executor | Client | Engine) -> Engine:
    """The engine that is meant.

    Args:
        workers: A number of processes; "dask://HOST:PORT", a scheduler's address; "dask://local"
            or "dask://local:NUMBER", a cluster of Dask on this machine; a client of a cluster;
            anything with the interface of concurrent.futures.Executor, which stays open; or an
            engine.

    Raises:
        OptionError: It is none of these.

    Example:
        >>> resolve_engine("4").width
        4
    """
    if isinstance(workers, str) and workers.startswith(DASK_SCHEME):
        from fasttile.workers.dask import DaskEngine

        return DaskEngine(workers.removeprefix(DASK_SCHEME))
    if isinstance(workers, str | int) and not isinstance(workers, bool):
        from fasttile.workers.processes import ProcessEngine

        return ProcessEngine(_parse_process_count(workers))
    return _wrap_workers(workers)


def _parse_process_count(workers: str | int) -> int:
    try:
        number = int(workers)
    except ValueError:
        number = 0
    if number < 1:
        raise _unknown_workers_error(workers)
    return number


def _wrap_workers(workers: Any) -> Engine:
    """An engine over an object that does the work."""
    if hasattr(workers, "run") and hasattr(workers, "width"):
        engine: Engine = workers
        return engine
    if hasattr(workers, "scheduler_info"):
        from fasttile.workers.dask import DaskEngine

        return DaskEngine(workers)
    if hasattr(workers, "submit"):
        from fasttile.workers.executor import ExecutorEngine

        return ExecutorEngine(workers)
    raise _unknown_workers_error(workers)


def _unknown_workers_error(workers: Any) -> OptionError:
    return OptionError(
        f"workers {workers!r} are unknown: a number of processes (1 or more), dask://HOST:PORT or "
        "dask://local would do"
    )
