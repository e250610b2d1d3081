"""Progress on standard error: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fasttile
from fasttile.batch.items import BatchProgress
from fasttile.cli import progress
from fasttile.jobs import shown_progress
from fasttile.jobs.progress import CutProgress
from support.command import COMMAND, run_on_terminal

PROGRAM = """\
import sys
from fasttile.cli import main
from fasttile.jobs import progress as jobs, shown_progress
shown_progress.LINE_SECONDS = jobs.PROGRESS_SECONDS = 0
sys.exit(main(sys.argv[1:]))
"""


def lines_of(*words: str, cwd: Path, **environment: str) -> list[str]:
    """The lines of progress of a command without a terminal, one for each report."""
    clean = {
        name: value for name, value in os.environ.items() if name not in ("CI", "JPY_PARENT_PID")
    }
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=cwd,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return process.stderr.splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", np.zeros((600, 600), np.uint8))
    return tmp_path


ONE = r"a\.dzi: \d+ of 57 tiles \(\d+%\), \d+:\d\d(, about \d+:\d\d left)?"


def test_lines_of_one_image(folder: Path) -> None:
    lines = lines_of("cut", "a.npy", "--progress", "--tile-size", "100", cwd=folder)
    assert len(lines) > 10
    assert all(re.fullmatch(ONE, line) for line in lines), lines
    assert lines[-1].startswith("a.dzi: 57 of 57 tiles (100%), ")


@pytest.mark.slow
def test_lines_of_a_batch(folder: Path) -> None:
    words = ("cut", "a.npy", "b.npy", "-o", "out", "--workers", "1", "--tile-size", "100")
    lines = lines_of(*words, cwd=folder, CI="true")
    pattern = r"all: [012] of 2 images \(\d+%\), 0:\d\d(, about .* left)?(; ([ab]\.npy): .*)?"
    assert all(re.fullmatch(pattern, line) for line in lines), lines
    assert any("; b.npy: " in line for line in lines)
    assert lines[-1].startswith("all: 2 of 2 images (100%)")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["verify a.dzi", "convert a.dzi a.szi"])
def test_lines_of_other_commands(folder: Path, command: str) -> None:
    subprocess.run([*COMMAND, "cut", "a.npy", "-q"], cwd=folder, check=True, timeout=60)
    lines = lines_of(*command.split(), "--progress", cwd=folder)
    name = command.split()[0]
    assert lines
    assert all(re.match(rf"{name}: [\d,]+ of [\d,]+ tiles", line) for line in lines), lines


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        ((), {}, False),
        ((), {"CI": "1"}, True),
        ((), {"JPY_PARENT_PID": "1"}, True),
        (("--progress",), {}, True),
        (("--no-progress",), {"CI": "1"}, False),
        (("-q", "--progress"), {"CI": "1"}, False),
    ],
)
def test_where_lines_are_wanted(
    folder: Path, words: tuple[str, ...], environment: dict[str, str], expected: bool
) -> None:
    assert bool(lines_of("cut", "a.npy", *words, cwd=folder, **environment)) is expected


def test_a_line_comes_every_thirty_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    args = argparse.Namespace(quiet=False, progress=True)
    with progress.show_batch_progress(args, None) as show:
        assert show is not None
        for seconds in range(0, 7200, 10):
            now = 1000.0 + seconds
            show(BatchProgress(seconds // 8, 1000, "scans/é.tif", CutProgress(3, 4567, 9)))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (7200 - 10) // 30
    assert lines[0] == (
        "all: 3 of 1,000 images (0%), 0:30, about 2:46:10 left; é.tif: 3 of 4,567 tiles"
    )
    assert lines[-1].startswith("all: 896 of 1,000 images (90%), 1:59:30, about 13:52 left; ")


def test_nothing_is_done_yet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shown_progress, "LINE_SECONDS", 0.0)
    args = argparse.Namespace(quiet=False, progress=True)
    with progress.show_progress(args, "bad\x1b\nname", "tiles", lambda pair: pair) as show:
        assert show is not None
        show((0, 0))
        show((0, 7))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        r"bad\x1b\nname: 0 of 0 tiles, 0:00",
        r"bad\x1b\nname: 0 of 7 tiles (0%), 0:00",
    ]


def test_the_time_that_is_left_is_of_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    shown: list[str] = []
    lines = shown_progress.ProgressLines(shown.append)
    lines.report("a", 900, 1000, "tiles")  # of an earlier run
    now = 30.0
    lines.report("a", 950, 1000, "tiles")
    assert shown == ["a: 950 of 1,000 tiles (95%), 0:30, about 0:30 left"]


LIBRARY_PROGRAM = """\
import sys
import numpy
import fasttile
from fasttile.jobs import progress, shown_progress
progress.PROGRESS_SECONDS = shown_progress.LINE_SECONDS = 0
fasttile.cut("a.npy", "a.dzi", tile_size=100, progress=True)
fasttile.verify.verify("a.dzi", progress=True)
list(fasttile.cut_all(["a.npy", "b.npy"], "out", workers=1, progress=True))
fasttile.convert("a.dzi", "a.szi", progress=False)
"""


def test_a_library_call_shows_lines_without_a_terminal(folder: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-c", LIBRARY_PROGRAM],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert process.stdout == ""
    lines = process.stderr.splitlines()
    pattern = r"fasttile: \d+ of (\d+) (tiles|images) \(\d+%\), \d:\d\d(, about \d+:\d\d left)?"
    found = [re.fullmatch(pattern, line) for line in lines]
    assert all(found), lines
    assert {one.groups()[:2] for one in found if one} == {("57", "tiles"), ("2", "images")}


def test_a_library_call_shows_a_bar_on_a_terminal(folder: Path) -> None:
    code = "import fasttile; fasttile.cut('a.npy', 'a.dzi', tile_size=100, progress=True)"
    shown = run_on_terminal([sys.executable, "-c", code], cwd=folder).stderr.decode()
    assert re.search(r"100%\|█+\| 57\.0/57\.0 \[", shown), shown


def test_progress_that_is_no_function(folder: Path) -> None:
    with pytest.raises(fasttile.OptionError, match="progress 'yes': expected a function, True or"):
        fasttile.cut(folder / "a.npy", folder / "a.dzi", progress="yes")  # type: ignore[arg-type]
