"""docs/PYTHON.md, EMBEDDING.md and EXTENDING.md: each example runs; the logger; cancel tokens."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile.abc.engine import TaskProgressCallback
from fasttile.errors import CancelledError
from fasttile.jobs.progress import CutProgress
from fasttile.storage.system import log_line
from fasttile.types import Closing
from fasttile.workers.processes import ProcessEngine
from support import worker_tasks
from support.worker_tasks import Note

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"

PAGES = "".join(
    (DOCS / name).read_text(encoding="utf-8")
    for name in ("PYTHON.md", "EMBEDDING.md", "EXTENDING.md")
)

EXAMPLES = dict(
    re.findall(r"^##? ([^\n]+)\n(?:(?!^##? ).)*?^```python\n(.*?)^```", PAGES, re.M | re.S)
)
"""The program of each section, by the section's title."""

OUTPUTS = {
    "Cut an image": r"12 32 \d+.*",
    "Cut many images": "map.tif 32\nmissing.tif .*no such file.*",
    "Take the tiles yourself": r"\d+ tiles",
    "Read a result": r"\d+ \(256, 256, 3\)",
    "Convert a result": "",
    "Tiles on demand": r"\d+ bytes",
    "An image that a function draws": "",
    "Watch a cut, and cancel it": r"(\d+ of 32 tiles\n?)+",
    "Guard mapped files": "",
    "Only the geometry": r"16 6357\nRegion\(.*\)",
    "Threads": "96 tiles",
    "Cancelling": r"cancelled (after \d+ of \d+ tiles|before it has begun)",
    "asyncio": r"32 tiles\n\d{3} bytes",
    "Process pools": "map.tif done",
    "Dask": r"\d+ tiles",
    "Arrays, zarr, tensors": r"\d+ tiles\n\d+ tiles",
    "pyvips": "32 tiles",
    "Logging": "fasttile INFO out/floats.dzi: window 0.000239996,2.95476: the values reach from "
    "0 to 2.955",
    "Parts of other packages": r"\d+ tiles",
    "Tiles for a program, without a sink of its own": "24 tiles",
}


def test_each_section_has_one_program() -> None:
    assert PAGES.count("```python") == len(EXAMPLES)
    assert list(EXAMPLES) == list(OUTPUTS)


@pytest.mark.parametrize("title", OUTPUTS)
def test_each_example_runs(tmp_path: Path, title: str) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (700, 1100, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "map.tif")
    (tmp_path / "example.py").write_text(EXAMPLES[title])
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(OUTPUTS[title], (done.stdout + done.stderr).strip())
    if title == "Cancelling":
        assert not list(tmp_path.glob("out/*"))
        assert not list(tmp_path.glob("out/.*"))


GREY = np.linspace(0, 3, 60_000).reshape(200, 300)


def test_a_cut_imports_no_logging_and_logs_nothing_then(tmp_path: Path) -> None:
    program = (
        "import sys, fasttile; from fasttile.storage.system import log_line; "
        "log_line('warning', 'a line'); assert 'logging' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_program_without_handlers_prints_no_warning() -> None:
    program = (
        "import logging; from fasttile.storage.system import log_line; log_line('warning', 'a%s')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_notes_and_failures_are_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fasttile")
    np.save(tmp_path / "a.npy", GREY)
    (tmp_path / "b.npy").write_bytes(b"\x93NUMPY")
    results = [
        *fasttile.cut_all([str(tmp_path / "a.npy"), str(tmp_path / "b.npy")], tmp_path / "out")
    ]
    (report,) = [result.report for result in results if result.report]
    (error,) = [result.error for result in results if result.error]
    assert sorted((line.levelname, line.getMessage()) for line in caplog.records) == [
        ("ERROR", error),
        ("INFO", f"{report.path}: {report.notes[0]}"),
    ]


def test_lines_have_no_secrets_and_no_escapes(caplog: pytest.LogCaptureFixture) -> None:
    log_line("warning", "https://me:secret@example.org/a.tif?token=1 \x1b[31m100%s")
    assert caplog.messages == [r"https://example.org/a.tif?… \x1b[31m100%s"]
    assert caplog.records[0].filename == Path(__file__).name


def test_a_lost_worker_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with ProcessEngine(1) as engine:
        tasks = [Note(str(tmp_path), 0, times=1)]
        assert list(engine.run(worker_tasks.kill_own_worker, tasks)) == [(0, 0)]
    (line,) = caplog.messages
    assert re.fullmatch(r"worker process \d+ has ended by signal 9", line)


CALLS: dict[str, Callable[[Path, fasttile.CancelToken], Any]] = {
    "cut": lambda path, token: fasttile.cut(path, path.with_suffix(".dzi"), cancel=token),
    "cut_all": lambda path, token: [*fasttile.cut_all([path], path.parent, cancel=token)],
    "verify": lambda path, token: fasttile.verify.verify(path.parent / "z.dzi", cancel=token),
    "repair": lambda path, token: fasttile.verify.repair(path.parent / "z.dzi", path, cancel=token),
    "collection": lambda path, token: fasttile.collection.create(
        path.parent / "w.dzc", [path], cancel=token
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_cancelled_token_begins_nothing(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "a.npy", GREY)
    fasttile.cut(GREY, tmp_path / "z.dzi")
    before = sorted(tmp_path.rglob("*"))
    token = fasttile.CancelToken()
    token.cancel()
    with pytest.raises(CancelledError, match="cancelled before it has begun"):
        CALLS[name](tmp_path / "a.npy", token)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_token_beside_a_callback(tmp_path: Path) -> None:
    token = fasttile.CancelToken()
    seen: list[CutProgress] = []

    def on_progress(progress: CutProgress) -> None:
        seen.append(progress)
        token.cancel()

    with pytest.raises(CancelledError, match=r"cancelled after \d+ of 16 tiles"):
        fasttile.cut(GREY, tmp_path / "a.dzi", progress=on_progress, cancel=token, tile_size=100)
    assert len(seen) == 1
    assert list(tmp_path.iterdir()) == []
    token = fasttile.CancelToken()
    report = fasttile.cut(GREY, tmp_path / "a.dzi", cancel=token)
    assert (tmp_path / "a.dzi").exists()
    assert report.tiles == 11


class WaitingEngine(Closing):
    """An engine of another program, whose workers never answer.

    Args:
        token: Is cancelled once tasks have begun.
    """

    width = threads = 1

    def __init__(self, token: fasttile.CancelToken) -> None:
        self._token = token

    def run(
        self,
        work: Callable[[Any], Any],
        tasks: Iterable[Any],
        on_progress: TaskProgressCallback | None = None,
        on_wait: Callable[[], object] | None = None,
    ) -> Iterator[tuple[int, Any]]:
        assert next(iter(tasks)) is not None
        assert on_wait is not None
        end = time.monotonic() + 30
        while time.monotonic() < end:
            on_wait()
            self._token.cancel()
            time.sleep(0.01)
        yield 0, AssertionError("on_wait has not ended the run")

    def close(self) -> None:
        """Nothing is open."""


def test_a_token_ends_the_wait_for_the_workers_of_a_batch(tmp_path: Path) -> None:
    token = fasttile.CancelToken()
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", GREY)
    results = fasttile.cut_all(
        [tmp_path], tmp_path / "out", workers=WaitingEngine(token), cancel=token
    )
    with pytest.raises(CancelledError, match="cancelled after 0 of 2 images"):
        next(results)


def test_a_token_ends_the_wait_for_the_workers_of_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fasttile.geometry.shards.MIN_SHARD_PIXELS", 1)
    token = fasttile.CancelToken()
    np.save(tmp_path / "a.npy", np.zeros((600, 600), np.uint8))
    with pytest.raises(CancelledError, match="cancelled after 0 of 1948 tiles"):
        fasttile.cut(
            tmp_path / "a.npy",
            tmp_path / "a.dzi",
            workers=WaitingEngine(token),
            cancel=token,
            tile_size=16,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]
