"""Changed results of every kind: a description or an error, in little time and memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

if not Path("/proc/self/clear_refs").exists():
    pytest.skip("memory is measured as Linux shows it", allow_module_level=True)

from support.fuzzing import run_fuzz_program
from support.reader_fuzzing import RESULTS

QUICK_COUNT, LONG_COUNT = 120, 6000
"""Results of each of 19 kinds: 2,280 in all, and 114,000."""


def _fuzz(kind: str, count: int, seed: int) -> None:
    summary = run_fuzz_program("reader_fuzzing.py", kind, count, seed, 3600)
    counts = json.loads(summary)
    assert counts["good"] + counts["bad"] == count
    assert counts["bad"] > count / 10, "else nothing was changed"


@pytest.mark.slow
@pytest.mark.parametrize("kind", RESULTS)
def test_some_changed_results(kind: str) -> None:
    _fuzz(kind, QUICK_COUNT, 1)


@pytest.mark.long
@pytest.mark.parametrize("kind", RESULTS)
def test_many_changed_results(kind: str) -> None:
    _fuzz(kind, LONG_COUNT, 2)
