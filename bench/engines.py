"""What handing out a task costs: empty tasks, by each engine, one worker and two.

python bench/engines.py [--tasks 2000] [--runs 5]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from statistics import median
from time import perf_counter
from typing import Any

import report_table
from fasttile.abc.engine import Engine
from fasttile.workers.choice import resolve_engine

WARM_UP = 64  # tasks until all workers have come

WorkersFactory = Callable[[int], "AbstractContextManager[Any] | str | int"]

WORKERS_FACTORIES: dict[str, WorkersFactory] = {
    "processes": lambda width: width,
    "ProcessPoolExecutor": ProcessPoolExecutor,
    "ThreadPoolExecutor": ThreadPoolExecutor,
    "Dask": lambda width: f"dask://local:{width}",
}


def seconds(engine: Engine, tasks: int) -> float:
    """The seconds that a number of empty tasks take."""
    started = perf_counter()
    done = sum(1 for _ in engine.run(abs, range(tasks)))
    if done != tasks:
        raise SystemExit(f"{done} of {tasks} tasks were done")
    return perf_counter() - started


def measure_row(
    label: str, make_workers: WorkersFactory, width: int, tasks: int, runs: int
) -> tuple[str, ...]:
    """The milliseconds that a task takes, the median of some runs and their range."""
    with ExitStack() as stack:
        workers = make_workers(width)
        if isinstance(workers, AbstractContextManager):
            workers = stack.enter_context(workers)
        engine = stack.enter_context(resolve_engine(workers))
        seconds(engine, WARM_UP)
        found = sorted(1e3 * seconds(engine, tasks) / tasks for _ in range(runs))
    return label, str(width), f"{median(found):.2f} ms", f"{found[0]:.2f}–{found[-1]:.2f} ms"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="Time empty tasks.")
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    rows: list[tuple[str, ...]] = [("engine", "workers", "a task", "range")]
    for label, workers in WORKERS_FACTORIES.items():
        for width in (1, 2):
            rows.append(measure_row(label, workers, width, given.tasks, given.runs))
            print(f"  {rows[-1]}", flush=True)
    print(report_table.format_table(f"{given.tasks:,} empty tasks", rows))


if __name__ == "__main__":
    main()
