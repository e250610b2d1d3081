"""The engine that is a cluster of Dask: a local one, and schedulers and workers of our own."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

import fasttile
from fasttile.abc.engine import Engine
from fasttile.workers import LostWorkerError, WorkerError, WorkerVersionError
from fasttile.workers.choice import resolve_engine
from support import worker_tasks
from support.command import run
from support.worker_programs import (
    TESTS_FOLDER,
    WorkerProgram,
    make_other_version,
    needs_proc,
    wait_until,
)
from support.worker_rules import EngineContract, MessageContract
from support.worker_tasks import Note, noted_numbers

pytestmark = pytest.mark.slow

if importlib.util.find_spec("distributed") is None:
    pytest.skip("needs distributed", allow_module_level=True)


@pytest.fixture(scope="module")
def dask_engine() -> Iterator[Engine]:
    with resolve_engine("dask://local:2") as engine:
        yield engine


class TestDaskEngine(EngineContract, MessageContract):
    @pytest.fixture
    def engine(self, dask_engine: Engine) -> Engine:
        return dask_engine


def test_its_width_is_that_of_its_workers(dask_engine: Engine) -> None:
    assert dask_engine.width == 2


@pytest.mark.slow
def test_a_task_that_lost_its_worker_is_done_again(dask_engine: Engine, tmp_path: Path) -> None:
    tasks = [Note(str(tmp_path), number, int(number in (1, 5))) for number in range(9)]
    outcomes = dict(dask_engine.run(worker_tasks.kill_own_worker, tasks))
    assert outcomes == {number: number for number in range(9)}
    begun = noted_numbers(tmp_path, "begun")
    assert begun.count(1) == begun.count(5) == 2


@pytest.mark.long
def test_one_that_always_kills_fails_alone(dask_engine: Engine, tmp_path: Path) -> None:
    tasks = [Note(str(tmp_path), number, 99 * (number == 2)) for number in range(12)]
    outcomes = dict(dask_engine.run(worker_tasks.kill_own_worker, tasks))
    lost = outcomes.pop(2)
    assert outcomes == {number: number for number in range(12) if number != 2}
    assert isinstance(lost, LostWorkerError)
    assert "4 times" in str(lost)
    assert "\n" not in str(lost)


def test_leaving_stops_running_tasks(dask_engine: Engine, tmp_path: Path) -> None:
    def receive(index: int, message: object) -> None:
        if len(noted_numbers(tmp_path, "begun")) == 2:
            raise KeyboardInterrupt

    tasks = [Note(str(tmp_path), number) for number in range(9)]
    with pytest.raises(KeyboardInterrupt):
        list(dask_engine.run(worker_tasks.write_note_slowly, tasks, receive))
    begun = noted_numbers(tmp_path, "begun")
    wait_until(lambda: noted_numbers(tmp_path, "tidied") == begun)
    assert dict(dask_engine.run(worker_tasks.double, [4])) == {0: 8}
    assert noted_numbers(tmp_path, "begun") == begun


# --- schedulers and workers of our own -------------------------------------------------------


class DaskScheduler:
    """A scheduler and workers, each a program of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{found.getsockname()[1]}"
        self._folder = folder
        self._programs: list[subprocess.Popen[bytes]] = []
        self.program = self._start(
            "scheduler", "--host", self.address, "--no-dashboard", path=[TESTS_FOLDER]
        )

    def add_worker(self, *path: Path) -> subprocess.Popen[bytes]:
        """A worker of one thread that imports from these folders first."""
        return self._start(
            *("worker", self.address, "--nthreads", "1", "--no-dashboard", "--no-nanny"),
            *("--local-directory", str(self._folder)),
            path=[*path, TESTS_FOLDER],
        )

    def stop(self) -> None:
        for program in reversed(self._programs):
            program.kill()
            program.wait()

    def _start(self, *words: str, path: list[Path]) -> subprocess.Popen[bytes]:
        program = subprocess.Popen(
            [sys.executable, "-m", "dask", *words],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
            stderr=subprocess.DEVNULL,
        )
        self._programs.append(program)
        return program


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[DaskScheduler]:
    started = DaskScheduler(tmp_path)
    yield started
    started.stop()


@pytest.mark.slow
def test_workers_that_differ_refuse(scheduler: DaskScheduler, tmp_path: Path) -> None:
    """One has another version, one has no engines; both say so in one line."""
    for name, without in (("older", ""), ("oldest", "workers")):
        folder = tmp_path / name
        folder.mkdir()
        worker = scheduler.add_worker(make_other_version(folder, omitted=without))
        with resolve_engine(f"dask://{scheduler.address}") as engine:
            ((_, outcome),) = engine.run(worker_tasks.double, [1])
        worker.kill()
        worker.wait()
        assert isinstance(outcome, WorkerError)
        said = str(outcome)
        assert "\n" not in said
        if without:
            assert said.startswith("a worker cannot take the task, is the same fasttile there?")
            assert said.endswith("No module named 'fasttile.workers'")
        else:
            assert isinstance(outcome, WorkerVersionError)
            assert f"fasttile 0.0.7 (this program: {fasttile.__version__})" in said


@pytest.mark.slow
def test_a_worker_that_differs_is_given_no_more(scheduler: DaskScheduler, tmp_path: Path) -> None:
    """It would be the first to have time for a further task, as it does none."""
    from distributed import Client

    scheduler.add_worker(make_other_version(tmp_path, omitted=""))
    scheduler.add_worker()
    with Client(f"tcp://{scheduler.address}", set_as_default=False) as client:
        client.wait_for_workers(2)
        with resolve_engine(client) as engine:
            done = dict(engine.run(worker_tasks.double, range(30)))
    assert done == {number: 2 * number for number in range(30)}


@pytest.mark.slow
def test_a_client_of_someone_else_stays_open(scheduler: DaskScheduler) -> None:
    from distributed import Client

    scheduler.add_worker()
    with Client(f"tcp://{scheduler.address}", set_as_default=False) as client:
        with resolve_engine(client) as engine:
            assert dict(engine.run(worker_tasks.double, [1, 2])) == {0: 2, 1: 4}
            scheduler.add_worker()
            client.wait_for_workers(2)
        with resolve_engine(client) as engine:
            assert engine.width == 2
            assert client.submit(worker_tasks.double, 4).result() == 8
        with resolve_engine(client.get_executor()) as engine:
            assert dict(engine.run(worker_tasks.double, [1, 2])) == {0: 2, 1: 4}


@pytest.mark.slow
def test_a_scheduler_that_goes_is_an_error(scheduler: DaskScheduler, tmp_path: Path) -> None:
    scheduler.add_worker()
    tasks = [Note(str(tmp_path), number) for number in range(9)]

    def receive(index: int, message: object) -> None:
        scheduler.program.kill()

    with (
        pytest.raises(WorkerError, match="the Dask scheduler is down"),
        resolve_engine(f"dask://{scheduler.address}") as engine,
    ):
        list(engine.run(worker_tasks.write_note_slowly, tasks, receive))


@pytest.mark.long
def test_a_scheduler_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WorkerError) as caught, resolve_engine("dask://127.0.0.1:9") as engine:
        list(engine.run(worker_tasks.double, [1]))
    assert str(caught.value) == (
        "no Dask scheduler answers at 127.0.0.1:9 within 10 s: `dask scheduler` starts one"
    )
    assert capfd.readouterr().err == ""


def serve_silently(connection: socket.socket) -> None:
    """Wait until the other side closes the connection."""
    while connection.recv(1000):
        pass


def serve_slowly(connection: socket.socket) -> None:
    """Send a byte now and then."""
    with suppress(OSError):
        while True:
            connection.sendall(b"\x01")
            time.sleep(0.1)


def serve_other_bytes(connection: socket.socket) -> None:
    """Send what claims to be a frame of 2^62 bytes."""
    with suppress(OSError):
        while True:
            connection.sendall(b"\0\0\0\0\0\0\0\x40" * 100)


def serve_nothing(connection: socket.socket) -> None:
    """Close the connection at once."""


NO_ANSWER = "no Dask scheduler answers at {} within 2 s: `dask scheduler` starts one"
NO_SCHEDULER = "{} is the address of another program, not of a Dask scheduler"
IMPOSTORS = {
    serve_silently: NO_ANSWER,
    serve_slowly: NO_ANSWER,
    serve_other_bytes: NO_SCHEDULER,
    serve_nothing: NO_SCHEDULER,
}
"""What a program does that is no scheduler, and the error."""


@contextmanager
def impostor(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a program that accepts connections and is no scheduler."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            serve(self.request)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("serve", IMPOSTORS)
def test_a_program_that_is_no_scheduler(
    serve: Callable[[socket.socket], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fasttile.workers.dask.SCHEDULER_SECONDS", 2)
    with (
        impostor(serve) as address,
        pytest.raises(WorkerError) as caught,
        resolve_engine(f"dask://{address}"),
    ):
        pass
    assert str(caught.value).startswith(IMPOSTORS[serve].format(address))


@pytest.mark.slow
@needs_proc
def test_a_scheduler_that_is_stopped(scheduler: DaskScheduler, tmp_path: Path) -> None:
    """The system accepts connections for it, and it never answers: one line, and no hang."""
    scheduler.add_worker()
    with resolve_engine(f"dask://{scheduler.address}") as engine:
        assert engine.width == 1
    scheduler.program.send_signal(signal.SIGSTOP)
    np.save(tmp_path / "a.npy", np.zeros((20, 20, 3), np.uint8))
    started = time.monotonic()
    ended = run("cut", tmp_path, "-o", tmp_path / "out", "--workers", f"dask://{scheduler.address}")
    assert time.monotonic() - started < 60
    assert ended.returncode == 1
    assert ended.stderr == (
        f"fasttile: no Dask scheduler answers at {scheduler.address} within 10 s: "
        "`dask scheduler` starts one\n"
    )


@pytest.mark.slow
def test_a_scheduler_without_workers(
    scheduler: DaskScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fasttile.workers.dask.WORKERS_SECONDS", 1)
    with (
        pytest.raises(WorkerError, match="has no worker after 1 s"),
        resolve_engine(f"dask://{scheduler.address}"),
    ):
        pass


@pytest.mark.slow
def test_without_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(fasttile.OptionError, match=r"pip install 'fasttile\[dask\]'"),
        resolve_engine("dask://local"),
    ):
        pass


SLOW_TASKS_PROGRAM = """
def main():
    with resolve_engine("dask://local:2") as engine:
        tasks = [worker_tasks.Note(folder, number) for number in range(9)]
        list(engine.run(worker_tasks.write_note_slowly, tasks))
if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
"""


@needs_proc
@pytest.mark.long
def test_a_local_cluster_dies_with_a_program_that_is_killed(tmp_path: Path) -> None:
    with WorkerProgram(tmp_path, SLOW_TASKS_PROGRAM) as program:
        wait_until(lambda: len(noted_numbers(tmp_path, "begun")) == 2)
        program.process.kill()
        program.process.wait()
        wait_until(lambda: not program.live_processes())


@needs_proc
@pytest.mark.long
@pytest.mark.parametrize("everybody", [False, True])
def test_an_interrupted_local_cluster_ends(tmp_path: Path, everybody: bool) -> None:
    """Whether the signal comes to the program alone, or from a terminal to all processes."""
    with WorkerProgram(tmp_path, SLOW_TASKS_PROGRAM) as program:
        wait_until(lambda: len(noted_numbers(tmp_path, "begun")) == 2)
        (os.killpg if everybody else os.kill)(program.process.pid, signal.SIGINT)
        _, said = program.process.communicate(timeout=40)
        assert said == "interrupted\n"
        assert not program.live_processes()


@pytest.mark.long
def test_a_local_cluster_in_a_script_without_a_guard(tmp_path: Path) -> None:
    text = """
    try:
        with resolve_engine("dask://local:1") as engine:
            list(engine.run(worker_tasks.double, range(3)))
    except Exception as error:
        if __name__ == "__main__":
            print(error)
        raise
    """
    with WorkerProgram(tmp_path, text) as program:
        out, _ = program.process.communicate(timeout=40)
    assert out.startswith("dask://local cannot start its processes; in a script, if __name__ ==")
    assert out.count("\n") == 1
