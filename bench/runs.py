"""Runs programs as processes, pinned to processors: timed, or under the eye of peak.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

import peak
from dzi import Job

FLOOR_PROGRAM = Path(__file__).with_name("floor.py")


class ProgramError(Exception):
    """A program ended with an error; the text is the end of what it printed."""


@contextmanager
def pin_to_cores(cores: int) -> Iterator[None]:
    """Pin this process, and so those that it starts, to some of its processors."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run_timed(command: Sequence[str], cores: int) -> tuple[float, float]:
    """Run a command from fork to exit.

    Returns:
        The seconds it took, and the processor time in seconds of all its processes.

    Raises:
        ProgramError: It did not end well.
    """
    with pin_to_cores(cores), tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        _check_status(process.returncode, log)
    return seconds, used.ru_utime + used.ru_stime


def run_measured(command: Sequence[str], cores: int) -> int:
    """Run a command and give its peak memory in bytes.

    Raises:
        ProgramError: It did not end well.
    """
    with pin_to_cores(cores), tempfile.TemporaryFile() as log:
        found = peak.measure(command, log.fileno())
        _check_status(found.status, log)
    return found.bytes


def _check_status(status: int, log: IO[bytes]) -> None:
    if status:
        log.seek(0)
        raise ProgramError(
            _last_line(log.read().decode(errors="replace")) or f"exit status {status}"
        )


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


class FloorServer:
    """floor.py as a process that holds the packed tiles while the others take their turns.

    Attributes:
        bytes: Size of all encoded tiles.
    """

    def __init__(self, job: Job) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(FLOOR_PROGRAM), str(job.input), "--serve", *job.arguments()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            self.bytes: int = json.loads(self._read())["bytes"]
        except ProgramError:
            self.close()
            raise

    def run(self, way: str, cores: int) -> dict[str, float]:
        """One run by one of floor.py's ways: `seconds`, and `cpu` (seconds of processor time)."""
        assert self._process.stdin is not None
        cpus = sorted(os.sched_getaffinity(0))[:cores]
        self._process.stdin.write(json.dumps({"cpus": cpus, "way": way}) + "\n")
        self._process.stdin.flush()
        found: dict[str, float] = json.loads(self._read())
        return found

    def _read(self) -> str:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        line = self._process.stdout.readline()
        if not line:
            raise ProgramError(_last_line(self._process.stderr.read()))
        return line

    def close(self) -> None:
        """Let the process end."""
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
