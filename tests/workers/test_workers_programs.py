"""Programs that run tasks by processes: how they end, by whom, and what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fasttile.workers import processes as processes_module
from support.sampling import sampled
from support.worker_programs import WorkerProgram, needs_proc, wait_until
from support.worker_tasks import noted_numbers

pytestmark = pytest.mark.slow

SLOW_TASKS_PROGRAM = """
with resolve_engine(2) as engine:
    tasks = [worker_tasks.Note(folder, number) for number in range(9)]
    list(engine.run(worker_tasks.write_note_slowly, tasks))
"""


SIGNALS = [signal.SIGINT, signal.SIGHUP, signal.SIGTERM]


@needs_proc
@pytest.mark.parametrize("forks", [False, True], ids=["alone", "with a fork that lives on"])
def test_workers_die_with_a_program_that_is_killed(tmp_path: Path, forks: bool) -> None:
    fork = """
    def receive(index, message):
        global forked
        if not forked and len(worker_tasks.noted_numbers(Path(folder), "begun")) == 2:
            forked = True
            if os.fork() == 0:
                time.sleep(60)
    """
    start = "import time\nfrom pathlib import Path\n" + f"forked = {not forks}\n"
    text = start + textwrap.dedent(fork) + SLOW_TASKS_PROGRAM.replace("tasks))", "tasks, receive))")
    with WorkerProgram(tmp_path, text) as program:
        wait_until(lambda: len(program.live_processes()) == 3 + forks)
        wait_until(lambda: len(noted_numbers(tmp_path, "begun")) == 2)
        program.process.kill()
        program.process.wait()
        wait_until(lambda: len(program.live_processes()) == forks)


@needs_proc
@pytest.mark.parametrize("number", sampled(SIGNALS, SIGNALS[:1]))
def test_a_signal_to_all_processes_is_the_programs_alone(tmp_path: Path, number: int) -> None:
    text = f"""
    import signal
    signal.signal({int(number)}, signal.default_int_handler)
    try:
    {textwrap.indent(SLOW_TASKS_PROGRAM, "        ")}
    except KeyboardInterrupt:
        sys.exit("interrupted")
    """
    with WorkerProgram(tmp_path, text) as program:
        wait_until(lambda: len(noted_numbers(tmp_path, "begun")) == 2)
        os.killpg(program.process.pid, number)
        _, said = program.process.communicate(timeout=60)
        assert said == "interrupted\n"
        assert not program.live_processes()
    assert noted_numbers(tmp_path, "tidied") == noted_numbers(tmp_path, "begun") == [0, 1]


@needs_proc
@pytest.mark.parametrize("delay", sampled([0, 0.05, 0.1], [0.05]))
@pytest.mark.parametrize("start", [1, 2])
def test_interrupted_while_workers_start(tmp_path: Path, start: int, delay: float) -> None:
    """The signal comes when a worker is there, and nobody has noted that down."""
    text = f"""
    import signal, subprocess, time
    started = 0
    class Popen(subprocess.Popen):
        def __init__(self, *words, **more):
            global started
            super().__init__(*words, **more)
            started += 1
            if started == {start}:
                time.sleep({delay})
                os.killpg(0, signal.SIGINT)
    subprocess.Popen = Popen
    try:
    {textwrap.indent(SLOW_TASKS_PROGRAM, "        ")}
    except KeyboardInterrupt:
        sys.exit("interrupted")
    """
    with WorkerProgram(tmp_path, text) as program:
        _, said = program.process.communicate(timeout=60)
        assert said == "interrupted\n"
        assert not program.live_processes()


def test_a_worker_ends_when_its_pipe_does() -> None:
    program = processes_module.WORKER_PROGRAM.format(path=sys.path, separate=False)
    words = [sys.executable, "-c", program]
    ended = subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60, check=False
    )
    assert ended.returncode == 1


def test_a_script_needs_no_guard_and_threads_do_not_matter(tmp_path: Path) -> None:
    text = """
    import threading
    print("main")
    lock = threading.Lock()
    def busy():
        while not done:
            with lock:
                pass
    done = False
    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    with lock, resolve_engine(2) as engine:
        print(sorted(engine.run(worker_tasks.double, range(3))))
    done = True
    """
    with WorkerProgram(tmp_path, text) as program:
        out, said = program.process.communicate(timeout=60)
    assert (out, said) == ("main\n[(0, 0), (1, 2), (2, 4)]\n", "")


def test_work_of_a_script_itself_is_refused_in_one_line(tmp_path: Path) -> None:
    text = """
    def work(task):
        return task
    with resolve_engine(1) as engine:
        (_, outcome), = engine.run(work, [1])
        print(type(outcome).__name__, outcome)
    """
    with WorkerProgram(tmp_path, text) as program:
        out, said = program.process.communicate(timeout=60)
    assert said == ""
    assert out.startswith("WorkerError worker ")
    assert "cannot take the task: AttributeError" in out
    assert out.count("\n") == 1


@pytest.mark.parametrize("room", [0, 2, 6, 12])
def test_where_the_system_starts_no_more(tmp_path: Path, room: int) -> None:
    text = f"""
    import resource
    from fasttile.versions import codec_versions
    resolve_engine(1), codec_versions()
    used = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + {room}, used + {room}))
    try:
        with resolve_engine(8) as engine:
            print(sorted(engine.run(worker_tasks.double, range(30)))[29])
    except Exception as error:
        print(type(error).__name__, error)
    """
    with WorkerProgram(tmp_path, text) as program:
        out, said = program.process.communicate(timeout=60)
    assert said == ""
    if room < 6:
        assert out == "WorkerError cannot start a worker: Too many open files\n"
    else:
        assert out == "(29, 58)\n"
