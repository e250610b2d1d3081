"""The programs under test, each a process of its own: fasttile, and libvips beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

FASTTILE_COMMAND = [sys.executable, "-m", "fasttile"]

VIPS_COMMAND = [sys.executable, str(Path(__file__).parents[2] / "bench" / "vips_tiler.py")]

TIMEOUT_SECONDS = 120
"""No process here takes as long."""


class ProcessResult(NamedTuple):
    """How a process ended: its exit code (a signal's number, negative), and what it said."""

    exit_code: int
    stdout: str
    stderr: str

    def error_line(self) -> str:
        """The one line that a failure prints.

        Raises:
            AssertionError: It succeeded, or printed something else.
        """
        assert self.exit_code > 0, self
        assert self.stderr.startswith("fasttile: "), self
        assert self.stderr.count("\n") == 1, self
        assert "unexpected" not in self.stderr, self
        return self.stderr.removeprefix("fasttile: ").rstrip("\n")


def run(
    command: list[str], *arguments: object, extra: Mapping[str, str] | None = None, **more: Any
) -> ProcessResult:
    """Run a command to its end."""
    process = start_process(command, *arguments, extra=extra, **more)
    out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    return ProcessResult(process.returncode, out, err)


def start_process(
    command: list[str], *arguments: object, extra: Mapping[str, str] | None = None, **more: Any
) -> subprocess.Popen[str]:
    """Begin a command."""
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=more.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(extra or {})},
        **more,
    )


def run_cut(
    *arguments: object, extra: Mapping[str, str] | None = None, **more: Any
) -> ProcessResult:
    """`fasttile cut`."""
    return run(FASTTILE_COMMAND, "cut", *arguments, extra=extra, **more)


@cache
def _has_verify() -> bool:
    return " verify " in run(FASTTILE_COMMAND, "--help").stdout


def is_verified(result: Path) -> bool:
    """Whether `fasttile verify --deep` finds nothing wrong, where there is such a command."""
    return not _has_verify() or run(FASTTILE_COMMAND, "verify", result, "--deep").exit_code == 0
