"""The table of docs/RELIABILITY.md is what is seen; table.py writes it."""

from __future__ import annotations

import shutil

import pytest
from table import BEGIN, DOCUMENT, END, FAULTS, UNSEEN, row, seen

FEW = ["the same, with tiles below 3 kB (EIO)", "kill -9 over an older result"]
"""Which are seen each time; all are, where there is time."""


def rows() -> list[str]:
    """What the document has."""
    text = DOCUMENT.read_text(encoding="utf-8")
    made = text.partition(BEGIN)[2].partition(END)[0]
    return made.strip().splitlines()[2:]


def check(fault: str) -> None:
    pytest.importorskip("pyvips")
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    cells = seen(fault)
    if UNSEEN in cells.values():
        pytest.skip("a small file system cannot be mounted: no user namespaces here")
    assert row(fault, cells) in rows()


def test_the_document_has_all_of_them() -> None:
    assert [line.split("|")[1].strip() for line in rows()] == list(FAULTS)


@pytest.mark.parametrize("fault", FEW)
def test_few(fault: str) -> None:
    check(fault)


@pytest.mark.long
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in FEW])
def test_the_others(fault: str) -> None:
    check(fault)
