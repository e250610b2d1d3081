"""Programs for the tests of engines: scripts, their processes, and another fasttile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

import fasttile

MARK_VARIABLE = "FASTTILE_TEST_MARK"
"""An environment variable by which a test knows its processes."""

TESTS_FOLDER = Path(__file__).parents[1]

PROGRAM_PYTHONPATH = os.pathsep.join(map(str, (TESTS_FOLDER, Path(fasttile.__file__).parents[1])))
"""Where programs find the tests' works, and the fasttile that is tested."""

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happens"
        time.sleep(0.01)


class WorkerProgram:
    """A script that runs tasks; all processes that it ever starts bear its mark.

    Args:
        folder: Where it lives, and where tasks leave their notes.
        text: What it does with `folder` and `worker_tasks`.
    """

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder
        script = folder / "script.py"
        start = "import os, sys\nfrom support import worker_tasks\n"
        start += "from fasttile.workers.choice import resolve_engine\n"
        start += f"folder = {str(folder)!r}\n"
        script.write_text(start + textwrap.dedent(text))
        self._mark = uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, str(script)],
            env={**os.environ, MARK_VARIABLE: self._mark, "PYTHONPATH": PROGRAM_PYTHONPATH},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> WorkerProgram:
        return self

    def __exit__(self, *error: object) -> None:
        for pid in self.live_processes():
            os.kill(pid, signal.SIGKILL)
        self.process.communicate()

    def live_processes(self) -> list[int]:
        """The processes that are left of it."""
        wanted = f"{MARK_VARIABLE}={self._mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and wanted in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found


def make_other_version(folder: Path, version: str = "0.0.7", omitted: str = "") -> Path:
    """A folder to import another version of fasttile from; it has the same code."""
    package = Path(fasttile.__file__).parent
    copy = folder / "fasttile"
    copy.mkdir()
    for path in package.iterdir():
        if path.name not in ("_version.py", "__pycache__", omitted):
            (copy / path.name).symlink_to(path)
    text = (package / "_version.py").read_text()
    assert f'"{fasttile.__version__}"' in text
    (copy / "_version.py").write_text(text.replace(fasttile.__version__, version))
    return folder
