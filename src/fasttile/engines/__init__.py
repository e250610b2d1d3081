"""Where many tasks are done: processes of this machine, another program's executor, a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from .base import Engine, LostWorkerError, WorkerError, WorkerVersionError, tell

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from distributed import Client

__all__ = [
    "Engine",
    "LostWorkerError",
    "WorkerError",
    "WorkerVersionError",
    "engine_of",
    "tell",
]

DASK = "dask://"


def engine_of(workers: str | int | Executor | Client | Engine) -> Engine:
    """The engine that is meant.

    Args:
        workers: A number of processes; "dask://HOST:PORT", a scheduler's address; "dask://local"
            or "dask://local:NUMBER", a cluster of Dask on this machine; a client of a cluster;
            anything with the interface of concurrent.futures.Executor, which stays open; or an
            engine.

    Raises:
        OptionError: It is none of these.

    Example:
        >>> engine_of("4").width
        4
    """
    if isinstance(workers, str) and workers.startswith(DASK):
        from .dask import Cluster

        return Cluster(workers.removeprefix(DASK))
    if isinstance(workers, str | int) and not isinstance(workers, bool):
        from .processes import Processes

        return Processes(_number(workers))
    return _given(workers)


def _number(workers: str | int) -> int:
    try:
        number = int(workers)
    except ValueError:
        number = 0
    if number < 1:
        raise _unknown(workers)
    return number


def _given(workers: Any) -> Engine:
    """An engine over an object that does the work."""
    if hasattr(workers, "run") and hasattr(workers, "width"):
        engine: Engine = workers
        return engine
    if hasattr(workers, "scheduler_info"):
        from .dask import Cluster

        return Cluster(workers)
    if hasattr(workers, "submit"):
        from .executors import Foreign

        return Foreign(workers)
    raise _unknown(workers)


def _unknown(workers: Any) -> OptionError:
    return OptionError(
        f"workers {workers!r} are unknown: a number of processes (1 or more), dask://HOST:PORT or "
        "dask://local would do"
    )
