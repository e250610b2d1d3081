"""A process whose children each work on a collection, and fail or die at a given step.

As in mortal.py: a step is a change of the file system, seen by an audit hook right before it
happens; jobs come as lines of JSON on standard input, outcomes go to standard output.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

# The children need all of it, and importing it once is quicker.
import fasttile.job
import fasttile.sinks.directory  # noqa: F401
from fasttile import collection
from fasttile.errors import FasttileError
from fasttile.sinks.rename import _system_call
from mortal import STEPS, Outcome, meet

MORE_STEPS = STEPS | {"os.link", "shutil.copyfile"}


class Mortals:
    """Asks a process of this file for children, one after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def work(
        self, change: str, dest: Path, given: list[Any], *, fate: str = "killed", at: int = -1
    ) -> Outcome:
        """Change a collection in a process of its own, which meets its fate before step `at`."""
        job = {"change": change, "dest": str(dest), "given": given, "fate": fate, "at": at}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Outcome(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate()


def change(name: str, dest: Path, given: list[Any]) -> None:
    """Create, append or remove, as a job says."""
    if name in ("create", "overwrite"):
        overwrite = name == "overwrite"
        options: dict[str, Any] = {"max_level": 2, "tile_size": 8, "threads": 1}
        collection.create(dest, given, format="png", overwrite=overwrite, **options)
    elif name == "append":
        collection.append(dest, given, threads=1)
    else:
        collection.remove(dest, given)


def live(job: dict[str, Any]) -> Outcome:
    """Do a job, and meet its fate."""
    dest = Path(job["dest"])
    steps = itertools.count()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in MORE_STEPS or not str(arguments[0]).startswith(f"{dest.parent}{os.sep}"):
            return
        if event == "open" and not _writes(arguments):
            return
        if next(steps) == job["at"]:
            meet(job["fate"])

    sys.addaudithook(watch)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            change(job["change"], dest, job["given"])
    except FasttileError as error:
        return Outcome("done", str(error))
    except KeyboardInterrupt:
        return Outcome("interrupted", "")
    return Outcome("done", " ".join(str(warning.message) for warning in caught))


def _writes(arguments: tuple[Any, ...]) -> bool:
    return bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


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
    _system_call()  # found once, for all children
    for line in sys.stdin:
        print(json.dumps(bear(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
