"""TODO."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")

TaskProgressCallback = Callable[[int, Any], object]
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
        self,
        work: Callable[[T], R],
        tasks: Iterable[T],
        on_progress: TaskProgressCallback | None = None,
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
