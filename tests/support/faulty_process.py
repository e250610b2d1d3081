"""A process whose children each write an image, and fail or die at a given step.

A step is a change of the file system, seen by an audit hook right before it happens. Jobs come as
lines of JSON on standard input, outcomes go to standard output. Children are forked from here and
not from pytest, for forking is safe only from a process without threads.
"""

from __future__ import annotations

import ctypes  # noqa: F401
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

from fasttile.storage import folders

STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "fasttile.renameat2"}

FAULTS = ("killed", "stuck", "refused", "interrupted", "swapped")
"""A step is refused or interrupted once; for a stuck process all later renames are refused too.
Swapped: right before the step, a path is renamed and replaced by a link to another folder.
"""


class ProcessOutcome(NamedTuple):
    """How a child ended: "killed", "done" or "interrupted", and the text of its error if any."""

    ending: str
    message: str


class FaultyProcess:
    """Asks a process of this file for children, one after the other.

    Args:
        writer: The module whose `try_to_write` they call.
    """

    def __init__(self, writer: str = "support.deepzoom_files") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.faulty_process", writer],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def write(
        self,
        image: str,
        target: Path,
        *,
        overwrite: bool = False,
        fault: str = "killed",
        step: int = -1,
        exchange: bool = True,
        swap: tuple[Path, Path] | None = None,
    ) -> ProcessOutcome:
        """Write an image in a process of its own, with a fault before a step.

        Args:
            swap: For "swapped": the path to replace, and the folder that the link leads to.
        """
        assert fault in FAULTS
        job = {
            "image": image,
            "target": str(target),
            "overwrite": overwrite,
            "fault": fault,
            "at": step,
            "exchange": exchange,
            "swap": [str(path) for path in swap or ()],
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return ProcessOutcome(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate()


def run_job(job: dict[str, Any]) -> ProcessOutcome:
    """Write the image of a job, with its fault."""
    target = Path(job["target"])
    if not job["exchange"]:
        folders._system_call = lambda: None  # type: ignore[assignment]
    steps = itertools.count()
    swap = job["swap"] if job["fault"] == "swapped" else []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in STEPS or not is_below(event, arguments, target.parent):
            return
        step = next(steps)
        stuck = job["fault"] == "stuck" and "rename" in event and 0 <= job["at"] < step
        if swap:
            if step >= job["at"] and os.path.lexists(swap[0]):
                path, elsewhere = swap
                swap.clear()  # the next lines are steps too
                Path(path).rename(f"{path}.moved")
                Path(path).symlink_to(elsewhere)
        elif job["fault"] != "swapped" and (step == job["at"] or stuck):
            inject_fault(job["fault"])

    sys.addaudithook(watch)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            writer = import_module(sys.argv[1])
            message = writer.try_to_write(job["image"], target, overwrite=job["overwrite"])
    except KeyboardInterrupt:
        return ProcessOutcome("interrupted", "")
    return ProcessOutcome("done", message or " ".join(str(warning.message) for warning in caught))


def inject_fault(fault: str) -> None:
    if fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault in ("refused", "stuck"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    raise KeyboardInterrupt


def is_below(event: str, arguments: tuple[Any, ...], folder: Path) -> bool:
    """True if a step is about an entry of this folder; by a handle, names are relative."""
    path = arguments[0]
    if not isinstance(path, str | Path) or str(path) == ".":
        return False
    if Path(path).is_absolute():
        return str(path).startswith(f"{folder}{os.sep}")
    if event == "open":  # the event does not say which handle; only fasttile opens by one
        return True
    handle = arguments[{"os.mkdir": 2, "os.rename": 2, "os.remove": 1, "os.rmdir": 1}[event]]
    return str(Path(f"/proc/self/fd/{handle}").readlink()).startswith(str(folder))


def fork_job(job: dict[str, Any]) -> ProcessOutcome:
    """Fork a child for a job, and wait for its end."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, json.dumps(run_job(job)).encode())
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
    import_module(sys.argv[1])  # once, for all children
    for line in sys.stdin:
        print(json.dumps(fork_job(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
