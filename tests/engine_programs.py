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

MARK = "FASTTILE_TEST_MARK"
"""An environment variable by which a test knows its processes."""

TESTS = Path(__file__).parent

PATH = os.pathsep.join(map(str, (TESTS, Path(fasttile.__file__).parents[1])))
"""Where programs find the tests' works, and the fasttile that is tested."""

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never happens"
        time.sleep(0.01)


class Program:
    """A script that runs tasks; all processes that it ever starts bear its mark.

    Args:
        folder: Where it lives, and where tasks leave their notes.
        text: What it does with `folder` and `engine_works`.
    """

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder
        script = folder / "script.py"
        start = "import engine_works, os, sys\nfrom fasttile.engines import engine_of\n"
        start += f"folder = {str(folder)!r}\n"
        script.write_text(start + textwrap.dedent(text))
        self._mark = uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, str(script)],
            env={**os.environ, MARK: self._mark, "PYTHONPATH": PATH},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *error: object) -> None:
        for pid in self.alive():
            os.kill(pid, signal.SIGKILL)
        self.process.communicate()

    def alive(self) -> list[int]:
        """The processes that are left of it."""
        wanted = f"{MARK}={self._mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and wanted in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found


def other_fasttile(folder: Path, version: str = "0.0.7", without: str = "") -> Path:
    """A folder to import another version of fasttile from; it has the same code."""
    package = Path(fasttile.__file__).parent
    copy = folder / "fasttile"
    copy.mkdir()
    for path in package.iterdir():
        if path.name not in ("__init__.py", "__pycache__", without):
            (copy / path.name).symlink_to(path)
    text = (package / "__init__.py").read_text()
    assert f'"{fasttile.__version__}"' in text
    (copy / "__init__.py").write_text(text.replace(fasttile.__version__, version))
    return folder
