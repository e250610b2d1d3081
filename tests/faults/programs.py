"""The programs under test, each a process of its own: fasttile, and libvips beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

FASTTILE = [sys.executable, "-m", "fasttile"]

VIPS = [sys.executable, str(Path(__file__).parents[2] / "bench" / "vips_tiler.py")]

SECONDS = 120
"""No process here takes as long."""


class Ended(NamedTuple):
    """How a process ended: its exit code (a signal's number, negative), and what it said."""

    code: int
    out: str
    err: str

    def line(self) -> str:
        """The one line that a failure is told in.

        Raises:
            AssertionError: It succeeded, or told something else.
        """
        assert self.code > 0, self
        assert self.err.startswith("fasttile: "), self
        assert self.err.count("\n") == 1, self
        assert "unexpected" not in self.err, self
        return self.err.removeprefix("fasttile: ").rstrip("\n")


def run(
    command: list[str], *words: object, extra: Mapping[str, str] | None = None, **more: Any
) -> Ended:
    """Run a command to its end."""
    process = begun(command, *words, extra=extra, **more)
    out, err = process.communicate(timeout=SECONDS)
    return Ended(process.returncode, out, err)


def begun(
    command: list[str], *words: object, extra: Mapping[str, str] | None = None, **more: Any
) -> subprocess.Popen[str]:
    """Begin a command."""
    return subprocess.Popen(
        [*command, *map(str, words)],
        stdout=more.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(extra or {})},
        **more,
    )


def cut(*words: object, extra: Mapping[str, str] | None = None, **more: Any) -> Ended:
    """`fasttile cut`."""
    return run(FASTTILE, "cut", *words, extra=extra, **more)


@cache
def _has_verify() -> bool:
    return " verify " in run(FASTTILE, "--help").out


def is_verified(result: Path) -> bool:
    """Whether `fasttile verify --deep` finds nothing wrong, where there is such a command."""
    return not _has_verify() or run(FASTTILE, "verify", result, "--deep").code == 0
