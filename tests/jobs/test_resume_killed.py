"""Jobs whose program is killed at any moment, and that are resumed."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fasttile import TargetError, cut
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.storage.folders import Folder
from support.reading import noise

if sys.platform == "win32":
    pytest.skip("needs POSIX signals and limits", allow_module_level=True)

import resource

from support.resume_runs import (
    RESUME_JOBS,
    UninterruptedResults,
    cut_and_stop_after,
    folder_tree,
    same_counts,
    work_folder,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("short_journal_pauses", "no_leaked_thread", "deadlock_timeout"),
]


# ---- killed while it publishes, or clears up ---------------------------------------------------

KILL_PROGRAM = """
import itertools, json, os, shutil, signal, sys
from pathlib import Path
from support.faulty_process import STEPS, is_below
from fasttile import FasttileError, cut
from fasttile.storage.publish import Publication

def live(image, target, words, step):
    prepare, seen = Publication.prepare, itertools.count()

    def watch(event, arguments):
        if event in STEPS and is_below(event, arguments, target.parent) and next(seen) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def prepare_and_watch(self, **more):
        sys.addaudithook(watch)
        prepare(self, **more)

    Publication.prepare = prepare_and_watch
    cut(image, target, **words)

def again(image, target, words):
    try:
        report = cut(image, target, **words)
        print(json.dumps([report.tiles, report.blanks, report.bytes, report.resumed]), flush=True)
    except FasttileError as error:
        print(json.dumps(str(error)), flush=True)

def child(act, *words):
    pid = os.fork()
    if not pid:
        act(*words)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

image, room, words = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
for step in itertools.count():
    target = room / str(step) / "x.dzi"
    if words.get("overwrite"):
        shutil.copytree(room / "old", target.parent)
    if child(live, image, target, words, step) != -signal.SIGKILL:
        break
    assert child(again, image, target, words) == 0
"""


@pytest.mark.long
@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "over"])
def test_killed_at_each_step_of_publishing(overwrite: bool, tmp_path: Path) -> None:
    image, room = tmp_path / "x.png", tmp_path / "room"
    Image.fromarray(noise(90, 120, 3)).save(image)
    expected = cut(image, tmp_path / "complete" / "x.dzi", tile_size=60)
    cut(image, room / "old" / "x.dzi", tile_size=40, quality=20)
    words = json.dumps({"resume": True, "overwrite": overwrite, "tile_size": 60})
    lines = run_python("-c", KILL_PROGRAM, image, room, words).splitlines()
    done = 0
    for step, text in enumerate(lines):
        assert folder_tree(room / str(step)) == folder_tree(tmp_path / "complete"), step
        said = json.loads(text)
        if isinstance(said, str):
            assert not overwrite
            assert said.endswith("exists already; choose another name, or use --overwrite")
        else:
            assert said[:3] == [expected.tiles, expected.blanks, expected.bytes]
            done += said[3] == expected.tiles
    assert len(lines) > 10
    assert done > 5, "it was only published, and not made again"


def run_python(*arguments: str | Path) -> str:
    """Run Python in a process of its own, where our helpers are at hand."""
    here = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_journal_is_gone_before_its_tiles(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a run that is killed while it clears up leaves one that names what is not there."""
    name, options = RESUME_JOBS["dzi"]
    cut_and_stop_after(30, image, tmp_path / name, options)
    work = work_folder(tmp_path / name)
    assert (work / "journal").exists()

    def killed(folder: Folder, name: str, depth: int = 0) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("fasttile.storage.folders.Folder.remove_tree", killed)
    scandir = os.scandir

    class Reversed:
        """The entries of a folder, other ones first: file systems have any order."""

        def __init__(self, folder: Path) -> None:
            with scandir(folder) as scan:
                self._entries = sorted(scan, key=lambda entry: entry.is_file())

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self._entries

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("fasttile.storage.work_folder.os.scandir", Reversed)
    with pytest.raises(TargetError, match="Input/output error"):
        cut(image, tmp_path / name, overwrite=True, **options)
    assert not (work / "journal").exists()


# ---- the real program is killed ----------------------------------------------------------------

COMMAND = [sys.executable, "-m", "fasttile", "cut"]


class ResumableProgram:
    """The command, over an image that takes a while.

    Args:
        image, target, words: What it is to do.
    """

    def __init__(self, image: Path, target: Path, *arguments: str) -> None:
        self.target = target
        self._arguments = [*COMMAND, str(image), "-o", str(target), *arguments, "--resume"]

    def start(self, **more: Any) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(self._arguments, stdout=pipe, stderr=pipe, text=True, **more)

    def signal_after(self, min_tiles: int, number: int = signal.SIGKILL) -> tuple[int, str]:
        """Send a signal as soon as a number of tiles exists; the exit code and the output."""
        process = self.start()
        while process.poll() is None and self.count_stored_files() < min_tiles:
            time.sleep(0.002)
        process.send_signal(number)
        _, output = process.communicate()
        return process.returncode, output

    def count_stored_files(self) -> int:
        """How many files are in the work folder."""
        return sum(len(files) for _, _, files in os.walk(work_folder(self.target) / "new"))

    def run_to_end(self) -> tuple[int, int]:
        """Run to the end; how many tiles there are, and how many of them were encoded now."""
        report = self.target.parent.with_suffix(".jsonl")
        done = subprocess.run(
            [*self._arguments, "--report", str(report)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        entry = json.loads(report.read_text())
        return entry["tiles"], entry["encoded"]


@pytest.fixture(scope="module")
def large_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of 18 megapixels."""
    path = tmp_path_factory.mktemp("large") / "x.npy"
    np.save(path, np.tile(noise(600, 800, 3), (6, 6, 1)))
    return path


@pytest.fixture(scope="module")
def large_result(large_source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """What becomes of it, and how many tiles it has."""
    folder = tmp_path_factory.mktemp("large complete")
    return folder, cut(large_source, folder / "x.dzi").tiles


def check_repeated_kills(
    large_source: Path,
    large_result: tuple[Path, int],
    folder: Path,
    chance: random.Random,
    times: int,
) -> None:
    """Kill the program a number of times, then run it to its end."""
    expected, tiles = large_result
    program = ResumableProgram(large_source, folder / "x.dzi")
    for part in sorted(chance.random() for _ in range(times)):
        code, output = program.signal_after(int(tiles * part))
        assert (code, output) in [(-signal.SIGKILL, ""), (0, "")]
        if code == 0:
            break
    else:
        assert program.run_to_end()[0] == tiles
    assert folder_tree(folder) == folder_tree(expected)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1))
def test_killed_three_times(
    seed: int, large_source: Path, large_result: tuple[Path, int], tmp_path: Path
) -> None:
    check_repeated_kills(large_source, large_result, tmp_path / "out", random.Random(seed), 3)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 150))
def test_killed_hundreds_of_times(
    seed: int, large_source: Path, large_result: tuple[Path, int], tmp_path: Path
) -> None:
    check_repeated_kills(
        large_source, large_result, tmp_path / "out", random.Random(seed), 1 + seed % 4
    )


@pytest.mark.long
def test_killed_at_nine_tenths_it_encodes_few_again(tmp_path: Path) -> None:
    """A kill loses one run of tiles, here of a full line, and those since the last sync."""
    source = tmp_path / "x.npy"
    np.save(source, np.tile(noise(600, 800, 3), (24, 3, 1)))
    program = ResumableProgram(source, tmp_path / "out" / "x.dzi", "--format", "webp")
    count = DeepZoom.from_size("x", 2400, 14400, "webp").pyramid.tile_count
    code, _ = program.signal_after(count * 9 // 10)
    assert code == -signal.SIGKILL
    left = program.count_stored_files()
    tiles, encoded = program.run_to_end()
    assert tiles == count
    assert encoded >= tiles - left
    assert encoded <= tiles * 0.15, f"of {tiles} tiles {left} were there; {encoded} encoded again"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_says_how_to_go_on(
    number: signal.Signals, large_source: Path, large_result: tuple[Path, int], tmp_path: Path
) -> None:
    program = ResumableProgram(large_source, tmp_path / "out" / "x.dzi")
    code, output = program.signal_after(large_result[1] // 2, number)
    assert code == 128 + number
    assert output.startswith("fasttile: ")
    assert output.endswith("; the same command resumes\n")
    assert [path.name for path in program.target.parent.iterdir()] == [".x.dzi.fasttile"]
    tiles, encoded = program.run_to_end()
    assert encoded <= tiles * 0.6, "what a signal ends is written down to the last tile"
    assert folder_tree(program.target.parent) == folder_tree(large_result[0])


# ---- no room -----------------------------------------------------------------------------------


def test_no_file_may_be_so_large(tmp_path: Path) -> None:
    """The upper half is white; of the lower one, tiles are too large."""
    pixels = noise(1200, 1200, 3)
    pixels[:700] = 255
    source = tmp_path / "x.png"
    Image.fromarray(pixels).save(source)
    cut(source, tmp_path / "complete" / "x.dzi")
    program = ResumableProgram(source, tmp_path / "out" / "x.dzi")
    limit = 20_000
    process = program.start(
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    _, output = process.communicate()
    assert process.returncode == 1
    assert output.count("\n") == 1
    assert "File too large" in output
    assert not program.target.exists()
    tiles, encoded = program.run_to_end()
    assert 0 < encoded < tiles
    assert folder_tree(tmp_path / "out") == folder_tree(tmp_path / "complete")


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: mounting needs root")
@pytest.mark.parametrize("size", [60, 150, 300])
def test_a_full_disk_and_room_on_it_again(
    size: int, image: Path, tmp_path: Path, uninterrupted: UninterruptedResults
) -> None:
    name, options = RESUME_JOBS["dzi"]
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "fasttile-test", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED: nothing can be mounted here")
    try:
        target = folder / name
        with pytest.raises(TargetError, match="No space left on device"):
            cut(image, target, resume=True, **options)
        assert not target.exists()
        subprocess.run(["mount", "-o", "remount,size=20m", str(folder)], check=True)
        report = cut(image, target, resume=True, overwrite=True, **options)
        assert folder_tree(folder) == uninterrupted["dzi"][0]
        assert same_counts(report, uninterrupted["dzi"][1])
        assert report.resumed > 0 or size == 60
    finally:
        subprocess.run(["umount", str(folder)], check=True)
