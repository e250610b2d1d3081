"""A process whose children are `fasttile`, each with a fault of its own.

Starting the program takes longer than cutting a small image. This process starts once, without a
thread, and each child runs the command's own `main`. Jobs are lines of JSON on standard input,
results go to standard output.
"""

from __future__ import annotations

import ctypes
import json
import os
import pkgutil
import subprocess
import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from programs import ProcessResult


class ProcessTree:
    """Asks a process of this file for children, one after the other.

    Args:
        library: The shim, built.
    """

    def __init__(self, shim_library: Path) -> None:
        self.shim_library = shim_library
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "LD_PRELOAD": str(shim_library), "OPENBLAS_NUM_THREADS": "1"},
        )

    def run(self, *arguments: object, extra: Mapping[str, str] | None = None) -> ProcessResult:
        """Run `fasttile` with these arguments and variables to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {"arguments": [str(argument) for argument in arguments], "extra": dict(extra or {})}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return ProcessResult(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate()


def _run_job(job: dict[str, Any], out: int, err: int) -> None:
    from fasttile import cli

    os.dup2(out, 1)
    os.dup2(err, 2)
    os.environ.update(job["extra"])
    code = 70
    try:
        ctypes.CDLL(os.environ["LD_PRELOAD"]).fault_arm()
        code = cli.main(job["arguments"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _fork_job(job: dict[str, Any]) -> ProcessResult:
    out, err = (os.memfd_create(name) for name in ("out", "err"))
    child = os.fork()
    if child == 0:
        _run_job(job, out, err)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    texts = []
    for handle in (out, err):
        os.lseek(handle, 0, os.SEEK_SET)
        with os.fdopen(handle) as file:
            texts.append(file.read())
    return ProcessResult(status, *texts)


def _import_all() -> None:
    import fasttile

    names = ["PIL.JpegImagePlugin", "PIL.PngImagePlugin", "sqlite3", "zipfile"]
    for module in pkgutil.walk_packages(fasttile.__path__, "fasttile."):
        if not module.name.endswith("__main__"):
            names.append(module.name)
    for name in names:
        try:
            import_module(name)
        except ImportError:  # for another system, or it needs what is not there
            continue


def main() -> None:
    _import_all()
    for line in sys.stdin:
        print(json.dumps(_fork_job(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
