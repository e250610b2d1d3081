"""The engines of this machine: our own processes, and other programs' executors."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import fasttile
from fasttile.abc.engine import Engine
from fasttile.errors import OptionError
from fasttile.workers import (
    LostWorkerError,
    TaskQueue,
    WorkerError,
    WorkerVersionError,
    send_progress,
)
from fasttile.workers import processes as processes_module
from fasttile.workers.choice import resolve_engine
from fasttile.workers.executor import ExecutorEngine
from fasttile.workers.processes import GRACE_SECONDS, ProcessEngine
from support import worker_tasks
from support.worker_programs import make_other_version, wait_until
from support.worker_rules import EngineContract, MessageContract
from support.worker_tasks import Note, noted_numbers


@pytest.fixture(scope="module", params=[1, 3], ids=["one", "three"])
def process_engine(request: pytest.FixtureRequest) -> Iterator[ProcessEngine]:
    with ProcessEngine(request.param) as engine:
        yield engine


class TestProcessEngine(EngineContract, MessageContract):
    @pytest.fixture
    def engine(self, process_engine: ProcessEngine) -> Engine:
        return process_engine


@pytest.mark.parametrize("times", [0, 1], ids=["until its end", "until its first message"])
def test_a_worker_that_did_not_hear_it_ends_nevertheless(tmp_path: Path, times: int) -> None:
    tasks = [Note(str(tmp_path), number, times) for number in range(4)]
    started = time.monotonic()
    with ProcessEngine(2) as engine:
        run = engine.run(worker_tasks.ignore_exit, tasks, lambda index, message: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            next(run)
    assert noted_numbers(tmp_path, "ignored")
    assert len(noted_numbers(tmp_path, "begun")) <= 2
    assert time.monotonic() - started < GRACE_SECONDS / 2, "it was killed"


def spawn_executor() -> Executor:
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


@pytest.fixture(scope="module", params=[partial(ThreadPoolExecutor, 2), spawn_executor])
def executor_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with request.param() as executor, resolve_engine(executor) as engine:
        yield engine


class TestExecutorEngine(EngineContract):
    @pytest.fixture
    def engine(self, executor_engine: Engine) -> Engine:
        return executor_engine

    def test_it_stays_open(self) -> None:
        with ThreadPoolExecutor(1) as executor:
            with resolve_engine(executor) as engine:
                list(engine.run(worker_tasks.double, range(3)))
            assert executor.submit(worker_tasks.double, 4).result() == 8

    def test_its_width_is_the_executors(self) -> None:
        with ThreadPoolExecutor(7) as executor:
            assert resolve_engine(executor).width == 7

    def test_of_a_broken_one_all_tasks_are_lost(self, tmp_path: Path) -> None:
        tasks = [Note(str(tmp_path), number, times=99) for number in range(20)]
        with spawn_executor() as executor, resolve_engine(executor) as engine:
            outcomes = dict(engine.run(worker_tasks.kill_own_worker, tasks))
        assert sorted(outcomes) == list(range(20))
        for outcome in outcomes.values():
            assert isinstance(outcome, LostWorkerError)
            assert "\n" not in str(outcome)

    def test_of_a_closed_one_too(self) -> None:
        executor = ThreadPoolExecutor(1)
        executor.shutdown()
        ((_, outcome),) = ExecutorEngine(executor).run(worker_tasks.double, [1])
        assert isinstance(outcome, LostWorkerError)
        assert "shutdown" in str(outcome)

    def test_of_one_that_is_closed_meanwhile_the_rest_is_lost(self) -> None:
        with ThreadPoolExecutor(1) as executor:
            engine = ExecutorEngine(executor)
            engine.width = 4
            run = engine.run(time.sleep, [0.0, *[0.1] * 9])
            assert next(run) == (0, None)
            executor.shutdown(wait=False, cancel_futures=True)
            outcomes = dict(run)
        assert sorted(outcomes) == list(range(1, 10))
        assert isinstance(outcomes[9], LostWorkerError)
        assert sum(isinstance(outcome, LostWorkerError) for outcome in outcomes.values()) >= 7

    def test_leaving_waits_for_what_is_under_way(self, tmp_path: Path) -> None:
        tasks = [Note(str(tmp_path), number) for number in range(9)]
        with ThreadPoolExecutor(1) as executor:
            engine = ExecutorEngine(executor)
            engine.width = 4
            run = engine.run(_write_note_briefly, tasks)
            next(run)
            run.close()  # type: ignore[attr-defined]
            assert noted_numbers(tmp_path, "begun") == noted_numbers(tmp_path, "ended")
            assert len(noted_numbers(tmp_path, "begun")) <= 3


def _write_note_briefly(task: Note) -> None:
    task.write("begun")
    time.sleep(0.05)
    task.write("ended")


# --- lost workers ---------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
def test_a_task_that_lost_its_worker_is_done_again(
    process_engine: ProcessEngine, tmp_path: Path, times: int
) -> None:
    tasks = [Note(str(tmp_path), number, times * (number % 4 == 1)) for number in range(9)]
    outcomes = dict(process_engine.run(worker_tasks.kill_own_worker, tasks))
    assert outcomes == {number: number for number in range(9)}
    begun = noted_numbers(tmp_path, "begun")
    assert begun == sorted([*range(9), *[1, 5] * times])
    if times == 2:  # the last time they were done when all others were
        assert set(list(outcomes)[-2:]) == {1, 5}


def test_one_that_always_kills_fails_alone(process_engine: ProcessEngine, tmp_path: Path) -> None:
    tasks = [Note(str(tmp_path), number, 99 * (number == 2)) for number in range(6)]
    outcomes = dict(process_engine.run(worker_tasks.kill_own_worker, tasks))
    lost = outcomes.pop(2)
    assert outcomes == {number: number for number in (0, 1, 3, 4, 5)}
    assert isinstance(lost, LostWorkerError)
    assert str(lost) == (
        "the worker has ended by signal 9, 3 times in the same task; if memory was short, use "
        "fewer workers"
    )
    assert noted_numbers(tmp_path, "begun") == [0, 1, 2, 2, 2, 3, 4, 5]


@pytest.mark.slow
def test_workers_killed_from_outside_cost_nothing_but_time(
    process_engine: ProcessEngine, tmp_path: Path
) -> None:
    killed = set()

    def kill(index: int, pid: int) -> None:
        if index % 3 == 0 and index not in killed:
            killed.add(index)
            os.kill(pid, signal.SIGKILL)

    outcomes = dict(process_engine.run(_report_process_id, range(9), kill))
    assert outcomes == {number: number for number in range(9)}
    assert killed == {0, 3, 6}


def _report_process_id(number: int) -> int:
    send_progress(os.getpid())
    time.sleep(0.2)
    return number


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
@pytest.mark.parametrize("width", [1, 3])
def test_a_stopped_worker_is_ended_and_its_task_fails(tmp_path: Path, width: int) -> None:
    tasks = [Note(str(tmp_path), number, 99 * (number == 2)) for number in range(6)]
    with ProcessEngine(width, timeout=2) as engine:
        outcomes = dict(engine.run(worker_tasks.stop_own_worker, tasks))
    lost = outcomes.pop(2)
    assert outcomes == {number: number for number in (0, 1, 3, 4, 5)}
    assert isinstance(lost, LostWorkerError)
    assert "did not run for 2 s and was ended" in str(lost)
    assert noted_numbers(tmp_path, "begun") == [0, 1, 2, 3, 4, 5]  # it is not run again
    assert noted_numbers(tmp_path, "tidied") == [2]  # its exit handlers have run
    assert not _worker_processes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "work",
    [
        worker_tasks.sleep,
        pytest.param(
            worker_tasks.hold_lock,
            marks=pytest.mark.skipif(
                not sys.platform.startswith("linux"), reason="needs another process's clock"
            ),
        ),
    ],
)
def test_a_slow_worker_is_not_stopped(tmp_path: Path, work: Callable[[Note], int]) -> None:
    with ProcessEngine(1, timeout=2) as engine:
        assert dict(engine.run(work, [Note(str(tmp_path), 7, times=5)])) == {0: 7}


def test_time_in_which_the_program_itself_was_stopped_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock jumps by an hour at each look, as it does after Ctrl-Z and fg."""
    hours = itertools.count()
    real = time.monotonic
    monkeypatch.setattr(processes_module.time, "monotonic", lambda: real() + 3600 * next(hours))
    with ProcessEngine(2, timeout=2) as engine:
        tasks = [Note(str(tmp_path), number, times=1) for number in range(2)]
        assert dict(engine.run(worker_tasks.sleep, tasks)) == {0: 0, 1: 1}


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_leaving_ends_a_stopped_worker_at_once(tmp_path: Path) -> None:
    started = time.monotonic()
    tasks = [Note(str(tmp_path), number, times=number) for number in range(2)]
    with ProcessEngine(2) as engine:
        run = engine.run(worker_tasks.stop_own_worker, tasks)
        assert next(run) == (0, 0)
        wait_until(lambda: noted_numbers(tmp_path, "begun") == [0, 1])
        time.sleep(0.2)
        run.close()  # type: ignore[attr-defined]  # a generator
    assert time.monotonic() - started < GRACE_SECONDS
    assert noted_numbers(tmp_path, "tidied") == [1]


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_a_worker_that_is_stopped_while_it_ends_is_continued(tmp_path: Path) -> None:
    started = time.monotonic()
    tasks = [Note(str(tmp_path), number, times=1) for number in range(2)]
    with ProcessEngine(2) as engine:
        run = engine.run(worker_tasks.stop_while_ending, tasks)
        assert next(run) == (0, 0)
        wait_until(lambda: noted_numbers(tmp_path, "begun") == [1])
        run.close()  # type: ignore[attr-defined]  # a generator
    assert time.monotonic() - started < GRACE_SECONDS
    assert noted_numbers(tmp_path, "tidied") == [1]


def test_an_idle_worker_may_die() -> None:
    with ProcessEngine(1) as engine:
        ((_, pid),) = engine.run(worker_tasks.process_id, [0])
        assert isinstance(pid, int)
        os.kill(pid, signal.SIGKILL)
        ((_, outcome),) = engine.run(worker_tasks.process_id, [0])
        assert isinstance(outcome, int)
        assert outcome != pid


def test_workers_are_as_many_as_tasks_at_most() -> None:
    with ProcessEngine(5) as engine:
        assert len({pid for _, pid in engine.run(worker_tasks.process_id, range(2))}) <= 2
    with ProcessEngine(2) as engine:
        assert len({pid for _, pid in engine.run(worker_tasks.process_id, range(20))}) <= 2


def test_what_is_put_aside_waits_for_all_others() -> None:
    orders = TaskQueue([b"first", b"second"])
    first, second = orders.next(is_idle=True), orders.next(is_idle=False)
    assert first is not None
    assert second is not None
    assert (first.index, second.index) == (0, 1)
    orders.retry_alone(first)
    orders.retry(second)
    assert orders.next(is_idle=True) is second
    assert orders.next(is_idle=False) is None
    assert orders.next(is_idle=True) is first
    assert orders.next(is_idle=True) is None


# --- stopping -------------------------------------------------------------------------------


def test_leaving_stops_running_tasks(tmp_path: Path) -> None:
    with ProcessEngine(2) as engine:
        tasks = [Note(str(tmp_path), number) for number in range(9)]
        for index, _ in engine.run(worker_tasks.first_fast_then_slow, tasks, lambda *_: None):
            assert index == 0
            wait_until(lambda: 1 in noted_numbers(tmp_path, "begun"))
            break
    begun = noted_numbers(tmp_path, "begun")
    assert noted_numbers(tmp_path, "tidied") == [number for number in begun if number]
    assert not _worker_processes()


def test_an_error_where_it_is_iterated_stops_it_too(tmp_path: Path) -> None:
    def receive(index: int, message: Any) -> None:
        raise KeyboardInterrupt

    tasks = [Note(str(tmp_path), number) for number in range(9)]
    with pytest.raises(KeyboardInterrupt), ProcessEngine(1) as engine:
        list(engine.run(worker_tasks.write_note_slowly, tasks, receive))
    assert noted_numbers(tmp_path, "begun") == noted_numbers(tmp_path, "tidied") == [0]
    assert not _worker_processes()


def test_who_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes_module, "GRACE_SECONDS", 0.3)
    with pytest.raises(_AbandonedError), ProcessEngine(2) as engine:
        list(engine.run(worker_tasks.ignore_sigterm, _yield_note_then_raise(tmp_path)))
    assert not _worker_processes()


class _AbandonedError(Exception):
    pass


def _yield_note_then_raise(folder: Path) -> Iterator[Note]:
    yield Note(str(folder), 0)
    wait_until(lambda: bool(noted_numbers(folder, "begun")))
    raise _AbandonedError


def _worker_processes() -> list[str]:
    """Child processes that run the program of workers."""
    found = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True
    )
    return [line for line in found.stdout.splitlines() if "fasttile.workers.worker" in line]


# --- versions -------------------------------------------------------------------------------


def test_a_worker_of_another_version_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(make_other_version(tmp_path))
    with ProcessEngine(1) as engine:
        for _, outcome in engine.run(worker_tasks.double, range(3)):
            assert isinstance(outcome, WorkerVersionError)
            said = str(outcome)
            assert f"fasttile 0.0.7 (this program: {fasttile.__version__})" in said
            assert said.endswith(": install the same on both")
            assert "\n" not in said
            assert "Pillow" not in said


def test_workers_that_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(make_other_version(tmp_path, omitted="workers"))
    with pytest.raises(WorkerError, match="workers end as soon as"), ProcessEngine(2) as engine:
        list(engine.run(worker_tasks.double, range(3)))
    said = capfd.readouterr().err.splitlines()
    assert said
    assert {line.partition(":")[0] for line in said} == {"a worker cannot start"}


# --- choosing -------------------------------------------------------------------------------


def test_engines_by_their_words() -> None:
    assert isinstance(resolve_engine("3"), ProcessEngine)
    assert resolve_engine(3).width == resolve_engine("3").width == 3
    own = ProcessEngine(2)
    assert resolve_engine(own) is own


@pytest.mark.parametrize(
    "workers",
    [
        "",
        "0",
        "-1",
        "1.5",
        "many",
        "dask:",
        "dask://",
        "dask://host",
        "dask://:80",
        "dask://local:0",
        "dask://local:x",
        "dask://host:65536",
        "dask://host:878787878787",
        "dask://local:99999999999999999999",
        "dask://host:port",
        "tcp://host:80",
        *(0, -3, True, 2.5, None, [], ...),
    ],
    ids=str,
)
def test_unknown_workers_are_refused(workers: Any) -> None:
    with pytest.raises(OptionError, match=r"expected .*dask://HOST:PORT"):
        resolve_engine(workers)


@pytest.mark.parametrize("workers", ["99999", 99999, "dask://local:99999"])
def test_more_processes_than_a_machine_can_use_are_wrong_usage(workers: str | int) -> None:
    with pytest.raises(OptionError, match=r"99999: too many processes; expected at most \d+ on"):
        resolve_engine(workers)
