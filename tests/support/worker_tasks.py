"""Work for the tests of engines: functions that workers import, and small tasks for them."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from fasttile.errors import OptionError, TruncatedError
from fasttile.workers import send_progress


@dataclass(frozen=True)
class Note:
    """A task that leaves a note in a folder."""

    folder: str
    number: int
    times: int = 0

    def write(self, kind: str) -> int:
        """Note down that something happened once more; says how often it has."""
        for count in range(1000):
            try:
                Path(self.folder, f"{kind}-{self.number}-{count}").touch(exist_ok=False)
            except FileExistsError:
                continue
            return count + 1
        raise AssertionError


def noted_numbers(folder: Path, kind: str) -> list[int]:
    """The numbers of the tasks that have noted something, once for each time."""
    return sorted(int(path.name.split("-")[1]) for path in folder.glob(f"{kind}-*"))


def double(number: int) -> int:
    return 2 * number


def process_id(number: int) -> int:
    return os.getpid()


def send_messages(number: int) -> int:
    """Reports its progress, and prints much where it should not."""
    for step in range(number):
        send_progress((number, step))
        print("printed" * 1000)
        os.write(1, b"\x80\x04written")
    return len(sys.stdin.read())


def raise_error(error_kind: str) -> int:
    class LocalError(Exception):
        """Nobody else has this class."""

    errors = {
        "value": ValueError("a value"),
        "option": OptionError("an option"),
        "damaged": TruncatedError("an image", 7),
        "memory": MemoryError(),
        "local": LocalError("a class that cannot\ntravel"),
        "missing": FileNotFoundError(2, "not there", "map.tif"),
    }
    if error_kind == "result":
        return lambda: 0  # type: ignore[return-value]
    raise errors[error_kind]


def ignore_exit(task: Note) -> int:
    """Ignores the request to stop, as code does that Python calls back."""
    task.write("begun")
    try:
        while True:
            send_progress(task.number)
            time.sleep(0.05)
    except SystemExit:
        task.write("ignored")
    if task.times:
        send_progress(task.number)
    return task.number


def write_note(task: Note) -> int:
    task.write("begun")
    return task.number


def write_note_slowly(task: Note) -> int:
    """Notes its beginning, takes long, and tidies up when it is stopped."""
    try:
        task.write("begun")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            send_progress("under way")
            time.sleep(0.01)
    except BaseException:
        time.sleep(0.2)
        task.write("tidied")
        raise
    return task.number


def first_fast_then_slow(task: Note) -> int:
    """The first task is at once done, the others take long."""
    return write_note(task) if task.number == 0 else write_note_slowly(task)


def stop_own_worker(task: Note) -> int:
    """Stops its worker, as SIGSTOP from elsewhere would, the first few times."""
    try:
        if task.write("begun") <= task.times:
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(60)
    except BaseException:
        task.write("tidied")
        raise
    return task.number


def stop_while_ending(task: Note) -> int:
    """Unless it is task 0: stops its worker again after it was terminated and continued."""
    if task.number == 0:
        return 0
    try:
        task.write("begun")
        time.sleep(60)
    except BaseException:
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGSTOP)
        task.write("tidied")
        raise
    return task.number


def hold_lock(task: Note) -> int:
    """Computes without releasing the interpreter's lock, so that no other thread runs."""
    sys.setswitchinterval(60)
    end = time.monotonic() + task.times
    while time.monotonic() < end:
        pass
    sys.setswitchinterval(0.005)
    return task.number


def sleep(task: Note) -> int:
    """Waits without using the processor, as a slow source lets it."""
    time.sleep(task.times)
    return task.number


def wait_for_go(task: Note) -> int:
    """Sends nothing until a file appears."""
    end = time.monotonic() + 60
    while not Path(task.folder, "go").exists() and time.monotonic() < end:
        time.sleep(0.01)
    return task.number


def ignore_sigterm(task: Note) -> int:
    """Does not listen to any signal that it can refuse."""
    task.write("begun")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
    return task.number


def kill_own_worker(task: Note) -> int:
    """Kills its worker the first few times."""
    if task.write("begun") <= task.times:
        os.kill(os.getpid(), signal.SIGKILL)
    return task.number
