"""The table of docs/RELIABILITY.md is what is seen; table.py writes it."""

from __future__ import annotations

import shutil

import pytest
from table import (
    FAULT_TRIALS,
    NOT_SEEN,
    RELIABILITY_PAGE,
    TABLE_BEGIN,
    TABLE_END,
    observe_fault,
    table_row,
)

pytestmark = pytest.mark.slow

QUICK_FAULTS = ["the same, with tiles below 3 kB (EIO)", "kill -9 over an older result"]
"""Which are seen each time; all are, where there is time."""


def document_rows() -> list[str]:
    """What the document has."""
    text = RELIABILITY_PAGE.read_text(encoding="utf-8")
    made = text.partition(TABLE_BEGIN)[2].partition(TABLE_END)[0]
    return made.strip().splitlines()[2:]


def check_row(fault: str) -> None:
    pytest.importorskip("pyvips")
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    cells = observe_fault(fault)
    if NOT_SEEN in cells.values():
        pytest.skip("a small file system cannot be mounted: no user namespaces here")
    assert table_row(fault, cells) in document_rows()


def test_the_document_has_all_of_them() -> None:
    assert [line.split("|")[1].strip() for line in document_rows()] == list(FAULT_TRIALS)


@pytest.mark.parametrize("fault", QUICK_FAULTS)
def test_few(fault: str) -> None:
    check_row(fault)


@pytest.mark.long
@pytest.mark.parametrize("fault", [fault for fault in FAULT_TRIALS if fault not in QUICK_FAULTS])
def test_the_others(fault: str) -> None:
    check_row(fault)
