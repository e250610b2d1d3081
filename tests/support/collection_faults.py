"""A process whose children each work on a collection, and fail or die at a given step.

As in faulty_process.py: a step is a change of the file system, seen by an audit hook just before
it happens; jobs come as lines of JSON on standard input, outcomes go to standard output.
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
import fasttile.jobs.cut
import fasttile.sinks.folder  # noqa: F401
from fasttile import collection
from fasttile.errors import FasttileError
from fasttile.storage.folders import _system_call
from support.faulty_process import STEPS, ProcessOutcome, inject_fault, is_below

COLLECTION_STEPS = STEPS | {"os.link", "shutil.copyfile"}


class FaultyCollectionProcess:
    """Asks a process of this file for children, one after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.collection_faults"],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def change(
        self, change: str, dest: Path, sources: list[Any], *, fault: str = "killed", step: int = -1
    ) -> ProcessOutcome:
        """Change a collection in a process of its own, with a fault before a step."""
        job = {"change": change, "dest": str(dest), "given": sources, "fault": fault, "at": step}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return ProcessOutcome(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate()


def change_collection(name: str, dest: Path, sources: list[Any]) -> None:
    """Create, append or remove, as a job says."""
    if name in ("create", "overwrite"):
        overwrite = name == "overwrite"
        options: dict[str, Any] = {"max_level": 2, "tile_size": 8, "threads": 1}
        collection.create(dest, sources, format="png", overwrite=overwrite, **options)
    elif name == "append":
        collection.append(dest, sources, threads=1)
    else:
        collection.remove(dest, sources)


def run_collection_job(job: dict[str, Any]) -> ProcessOutcome:
    """Run a job with its fault."""
    dest = Path(job["dest"])
    steps = itertools.count()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in COLLECTION_STEPS or not is_below(event, arguments, dest.parent):
            return
        if event == "open" and not _writes(arguments):
            return
        if next(steps) == job["at"]:
            inject_fault(job["fault"])

    sys.addaudithook(watch)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            change_collection(job["change"], dest, job["given"])
    except FasttileError as error:
        return ProcessOutcome("done", str(error))
    except KeyboardInterrupt:
        return ProcessOutcome("interrupted", "")
    return ProcessOutcome("done", " ".join(str(warning.message) for warning in caught))


def _writes(arguments: tuple[Any, ...]) -> bool:
    return bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def fork_collection_job(job: dict[str, Any]) -> ProcessOutcome:
    """Fork a child for a job, and wait for its end."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, json.dumps(run_collection_job(job)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGKILL:
        return ProcessOutcome("killed", "")
    assert status == 0, status
    return ProcessOutcome(*json.loads(text))


def main() -> None:
    _system_call()  # found once, for all children
    for line in sys.stdin:
        print(json.dumps(fork_collection_job(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
