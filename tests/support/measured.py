"""Runs the command in a process of its own, with a limit of time, and measures its memory."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

_PROGRAM = """
import sys
from pathlib import Path
from fasttile.cli import main
code = main(sys.argv[1:])
lines = Path("/proc/self/status").read_text().splitlines()
print(*(line.split()[1] for line in lines if line.startswith("VmHWM:")), file=sys.stderr)
sys.exit(code)
"""


class MeasuredRun(NamedTuple):
    """A finished run.

    Attributes:
        code: The exit code.
        out, error: Standard output and standard error.
        megabytes: The peak memory.
        seconds: The duration.
    """

    code: int
    out: str
    error: str
    megabytes: int
    seconds: float


def run_measured(*arguments: str | Path, timeout: float = 60) -> MeasuredRun:
    """Run the command. The peak is that of the process itself: getrusage would add its parent's."""
    started = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    *error, peak = run.stderr.splitlines()
    seconds = time.monotonic() - started
    return MeasuredRun(run.returncode, run.stdout, "\n".join(error), int(peak) // 1024, seconds)
