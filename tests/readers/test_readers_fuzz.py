"""Changed results of every kind: a description or an error, in little time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

if not Path("/proc/self/clear_refs").exists():
    pytest.skip("memory is measured as Linux shows it", allow_module_level=True)

from support.reader_fuzzing import RESULTS

FUZZ_PROGRAM = Path(__file__).parents[1] / "support" / "reader_fuzzing.py"

QUICK_COUNT, LONG_COUNT = 120, 6000
"""Results of each of 17 kinds: 2,040 in all, and 102,000."""


def run_fuzz_program(kind: str, count: int, seed: int) -> None:
    run = subprocess.run(
        [sys.executable, str(FUZZ_PROGRAM), kind, str(count), str(seed)],
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    *faults, summary = run.stdout.splitlines() or [""]
    assert run.returncode == 0, run.stderr[-2000:]
    assert not faults, "\n".join(faults)[:5000]
    counts = json.loads(summary)
    assert counts["good"] + counts["bad"] == count
    assert counts["bad"] > count / 10, "else nothing was changed"


@pytest.mark.slow
@pytest.mark.parametrize("kind", RESULTS)
def test_some_changed_results(kind: str) -> None:
    run_fuzz_program(kind, QUICK_COUNT, 1)


@pytest.mark.long
@pytest.mark.parametrize("kind", RESULTS)
def test_many_changed_results(kind: str) -> None:
    run_fuzz_program(kind, LONG_COUNT, 2)
