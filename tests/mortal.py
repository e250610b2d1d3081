"""A process whose children each write a picture, and fail or die at a given step.

A step is a change of the file system, seen by an audit hook right before it happens. Jobs come as
lines of JSON on standard input, outcomes go to standard output. Children are forked from here and
not from pytest, for forking is safe only from a process without threads.
"""

from __future__ import annotations

import ctypes  # noqa: F401 -- the children need it, and importing it once is quicker
import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from fasttile.sinks import rename

STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "fasttile.renameat2"}

FATES = ("killed", "stuck", "refused", "interrupted")
"""A step is refused or interrupted once; for a stuck process all later renames are refused too."""


class Outcome(NamedTuple):
    """How a child ended: "killed", "done" or "interrupted", and the text of its error if any."""

    end: str
    told: str


class Mortals:
    """Asks a process of this file for children, one after the other.

    Args:
        writer: The module whose `try_to_write` they call.
    """

    def __init__(self, writer: str = "deepzoom_disk") -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, writer],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def write(
        self,
        picture: str,
        target: Path,
        *,
        overwrite: bool = False,
        fate: str = "killed",
        at: int = -1,
        exchange: bool = True,
    ) -> Outcome:
        """Write a picture in a process of its own, which meets its fate before step `at`."""
        assert fate in FATES
        job = {
            "picture": picture,
            "target": str(target),
            "overwrite": overwrite,
            "fate": fate,
            "at": at,
            "exchange": exchange,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Outcome(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate()


def live(job: dict[str, Any]) -> Outcome:
    """Write the picture of a job, and meet its fate."""
    target = Path(job["target"])
    if not job["exchange"]:
        rename._system_call = lambda: None  # type: ignore[assignment]
    steps = itertools.count()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in STEPS or not _is_below(arguments[0], target.parent):
            return
        step = next(steps)
        stuck = job["fate"] == "stuck" and "rename" in event and 0 <= job["at"] < step
        if step == job["at"] or stuck:
            meet(job["fate"])

    sys.addaudithook(watch)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            writer = import_module(sys.argv[1])
            told = writer.try_to_write(job["picture"], target, overwrite=job["overwrite"])
    except KeyboardInterrupt:
        return Outcome("interrupted", "")
    return Outcome("done", told or " ".join(str(warning.message) for warning in caught))


def meet(fate: str) -> None:
    if fate == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fate in ("refused", "stuck"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    raise KeyboardInterrupt


def _is_below(path: object, folder: Path) -> bool:
    return isinstance(path, str | Path) and str(path).startswith(f"{folder}{os.sep}")


def bear(job: dict[str, Any]) -> Outcome:
    """Fork a child for a job, and wait for its end."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, json.dumps(live(job)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGKILL:
        return Outcome("killed", "")
    assert status == 0, status
    return Outcome(*json.loads(text))


def main() -> None:
    import_module(sys.argv[1])  # once, for all children
    for line in sys.stdin:
        print(json.dumps(bear(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
