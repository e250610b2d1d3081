"""The engine seam: runs tasks on workers, such as processes or a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")

TaskProgressCallback = Callable[[int, Any], object]
"""Receives the number of a task and the progress that its work has sent."""


class Engine(Protocol):
    """Runs tasks on workers; a context manager that stops all of them at its end.

    Attributes:
        width: Approximate number of tasks that run at a time.
        threads: Number of threads that a task may use.
    """

    @property
    def width(self) -> int: ...

    @property
    def threads(self) -> int: ...

    def run(
        self,
        work: Callable[[T], R],
        tasks: Iterable[T],
        on_progress: TaskProgressCallback | None = None,
        on_wait: Callable[[], object] | None = None,
    ) -> Iterator[tuple[int, R | Exception]]:
        """Call a function for each task, on the workers.

        Only tasks that will start soon are taken from `tasks`. If the iteration is left early, no
        more tasks start, and running ones are stopped if the engine can stop them.

        Args:
            work: A function of a module that workers can import.
            tasks: Its arguments; small: paths, options and numbers.
            on_progress: Called in the iterating thread with the progress that the work sends
                (`workers.send_progress`). An exception of it stops the run.
            on_wait: Called in the iterating thread at least once a second while it waits for
                workers. An exception of it stops the run.

        Yields:
            The number of a task and its result, in the order in which tasks end: the return value
            of the work, or the exception that it raised. WorkerVersionError: the worker has other
            versions than this program. LostWorkerError: the task has lost its worker too often.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
