"""Files that grow: what is gathered arrives, and after a failure nothing more does."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fasttile.errors import TargetError
from fasttile.storage import writing as growing
from fasttile.storage.folders import Folder
from fasttile.storage.writing import AppendFile

if sys.platform == "win32":
    pytest.skip("needs POSIX limits", allow_module_level=True)

import resource

SIZES = [0, 1, 999, 1000, 1001, 5000, 3, 0, 70_000]


@pytest.mark.parametrize("gathered", [2, 1000, 2**18])
@pytest.mark.parametrize("pread", [True, False])
def test_all_that_comes_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gathered: int, pread: bool
) -> None:
    monkeypatch.setattr(growing, "BUFFER_BYTES", gathered)
    if not pread:
        monkeypatch.delattr(os, "pread", raising=False)
    file = AppendFile(Folder.open(tmp_path), "x")
    expected = b""
    for size in SIZES:
        data = os.urandom(size)
        assert file.append(data[: size // 3], memoryview(data)[size // 3 :]) == len(expected)
        expected += data
        assert file.size == len(expected)
        assert file.read(size, len(expected) - size) == expected[size:]
    file.overwrite_at(b"mental", 3)
    expected = expected[:3] + b"mental" + expected[9:]
    assert file.append(b"last") == len(expected)
    file.close()
    file.close()
    assert (tmp_path / "x").read_bytes() == expected + b"last"


def test_after_a_failure_nothing_more_is_written(tmp_path: Path) -> None:
    """Nobody knows how far a write came: what came after it would be in the wrong place."""
    file = AppendFile(Folder.open(tmp_path), "x")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        file.append(bytes(900), bytes(900))
        with pytest.raises(TargetError, match=r"^cannot write .*/x: File too large$"):
            file.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    for late in (lambda: file.append(b"late"), file.flush, lambda: file.read(0, 1)):
        with pytest.raises(ValueError, match="the sink has ended; it takes no more tiles"):
            late()
    file.close()
    file.discard()
    assert (tmp_path / "x").stat().st_size == 1000


def test_what_is_dropped_is_not_written(tmp_path: Path) -> None:
    file = AppendFile(Folder.open(tmp_path), "x")
    file.append(b"gathered")
    file.discard()
    assert (tmp_path / "x").read_bytes() == b""


def test_what_stands_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(TargetError, match="File exists"):
        AppendFile(Folder.open(tmp_path), "x")
    assert (tmp_path / "x").read_text() == "mine"


def test_a_file_that_somebody_cut_is_an_error(tmp_path: Path) -> None:
    file = AppendFile(Folder.open(tmp_path), "x")
    file.append(bytes(100))
    os.truncate(tmp_path / "x", file.size - 100)
    assert file.read(0, 100) == bytes(100)
    os.truncate(tmp_path / "x", 50)
    with pytest.raises(TargetError, match=r"^cannot read .*/x: it was cut short$"):
        file.read(0, 100)
    file.discard()
