"""Complete cuts of damaged files of every kind: a result, or an error of fasttile's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.sampling import sampled

if not Path("/proc/self/status").exists():
    pytest.skip("memory is measured as Linux reports it", allow_module_level=True)

from support.fuzzing import FILE_KINDS, run_fuzz_program

pytestmark = pytest.mark.slow


def _fuzz(kind: str, count: int, seed: int) -> None:
    summary = run_fuzz_program("fuzzing.py", kind, count, seed, 600)
    match = re.fullmatch(r"results (\d+) errors (\d+) peak (\d+)", summary)
    assert match
    results, errors, peak = map(int, match.groups())
    assert results + errors == count
    assert errors  # else nothing was damaged
    assert peak < 400  # MB; the images themselves have 12,600 pixels


QUICK_KINDS = ["jpeg", "png", "webp", "qoi", "npy", "tiff", "tiff jpeg", "tiff g4"]


@pytest.mark.parametrize("kind", sampled(FILE_KINDS, QUICK_KINDS))
def test_a_few_damaged_files(kind: str) -> None:
    _fuzz(kind, 10, 1)


@pytest.mark.long
@pytest.mark.parametrize("kind", FILE_KINDS)
def test_many_damaged_files(kind: str) -> None:
    _fuzz(kind, 100, 2)
