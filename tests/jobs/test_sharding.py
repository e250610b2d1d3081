"""Cuts in shards by any engine write the same files as a cut by threads, after errors too."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile import OptionError, SourceError
from fasttile.geometry import shards
from fasttile.jobs.progress import CutProgress, TileCounts
from fasttile.jobs.sharded import ShardTask
from support.command import COMMAND, folder_entries, noise, run
from support.file_trees import file_tree
from support.sampling import sampled

pytestmark = pytest.mark.usefixtures("every_progress_report")


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of this process are small enough for images of tests."""
    monkeypatch.setattr(shards, "MIN_SHARD_PIXELS", 16)
    monkeypatch.setattr(shards, "MIN_SHARD_COUNT", 8)


@pytest.fixture
def source_image(tmp_path: Path, small_shards: None) -> Path:
    path = tmp_path / "image.npy"
    np.save(path, noise(333, 421))
    return path


def cut_sharded_and_plain(
    source: Path, tmp_path: Path, name: str = "x.dzi", **options: Any
) -> tuple[fasttile.CutReport, fasttile.CutReport]:
    """Cut by shards and without, and demand the same files."""
    alone = fasttile.cut(source, tmp_path / "alone" / name, **options)
    with ThreadPoolExecutor(2) as executor:  # which sees the patches
        shared = fasttile.cut(source, tmp_path / "shared" / name, workers=executor, **options)
    assert file_tree(tmp_path / "shared") == file_tree(tmp_path / "alone")
    assert folder_entries(tmp_path / "shared") == folder_entries(tmp_path / "alone")
    return alone, shared


def report_numbers(report: fasttile.CutReport) -> tuple[object, ...]:
    return (report.width, report.height, report.levels, report.tiles, report.blanks, report.bytes)


EQUAL_CUTS: list[dict[str, Any]] = [
    {},
    {"tile_size": 16, "overlap": 3},
    {"layout": "zoomify", "tile_size": 16},
    {"layout": "xyz", "tile_size": 16, "skip_blank": 5},
    {"layout": "xyz:centre", "tile_size": 16, "format": "png"},
    {"layout": "gsiv", "tile_size": 16, "format": "png", "background": "#ff000080"},
    {"layout": "xyz", "tile_size": 16, "format": "png", "background": "transparent"},
    {"layout": "tms", "tile_size": 16},
    {"layout": "gsiv", "tile_size": 16},
    {"layout": "iiif3:id=https://example.org/x", "tile_size": 16},
    {"tile_size": 16, "levels": "3-7"},
    {"tile_size": 16, "region": (13, 7, 300, 301)},
    {"tile_size": 16, "shrink": "mode", "format": "png"},
    {"tile_size": 16, "shrink": "linear", "format": "png"},
    {"tile_size": 16, "shrink": "median", "format": "png"},
    {"tile_size": 16, "format": "webp:lossless"},
    {"layout": "zoomify:group=tile-size", "tile_size": 16},
    {"layout": "xyz:scale=2", "tile_size": 8, "skip_blank": 5},
]


@pytest.mark.parametrize("options", sampled(EQUAL_CUTS, EQUAL_CUTS[:6]))
def test_the_same_files(source_image: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    name = "x" if "layout" in options else "x.dzi"
    alone, shared = cut_sharded_and_plain(source_image, tmp_path, name, **options)
    assert report_numbers(alone) == report_numbers(shared)


@pytest.mark.parametrize(
    "kind", ["grey", "alpha", "16 bits", "P3", "P3 of 16 bits", "linear light of Adobe RGB"]
)
def test_all_kinds_of_pixels(tmp_path: Path, small_shards: None, kind: str) -> None:
    path = tmp_path / "image.tif"
    options: dict[str, Any] = {"tile_size": 16, "format": "png"}
    if kind == "16 bits":
        Image.fromarray(noise(300, 300)[..., 0].astype(np.uint16) * 200).save(path)
        options["bits"] = 16
    elif kind == "P3 of 16 bits":
        import profiles

        tifffile = pytest.importorskip("tifffile")
        pixels = noise(300, 300).astype(np.uint16) * 251
        profile = profiles.display_p3()
        tifffile.imwrite(path, pixels, photometric="rgb", iccprofile=profile, metadata=None)
    elif kind in ("P3", "linear light of Adobe RGB"):
        import profiles

        image = Image.fromarray(noise(300, 300))
        profile = profiles.display_p3() if kind == "P3" else profiles.adobe_rgb()
        image.save(path, icc_profile=profile, dpi=(300, 300))
        options["shrink"] = "mean" if kind == "P3" else "linear"
    else:
        mode = "L" if kind == "grey" else "RGBA"
        Image.fromarray(noise(300, 300)).convert(mode).save(path)
    cut_sharded_and_plain(path, tmp_path, **options)


@pytest.mark.slow
def test_processes_do_it(tmp_path: Path) -> None:
    """Here without patches, in processes of their own."""
    path = tmp_path / "image.npy"
    np.save(path, np.tile(noise(1000, 1000)[..., :1], (11, 11, 1)))
    pyramid = fasttile.Pyramid.from_size(11_000, 11_000)
    assert shards.Shards.best_depth(pyramid) is not None
    for workers in (None, "2"):
        words = [] if workers is None else ["--workers", workers]
        out = tmp_path / str(workers)
        process = run("cut", path, "-o", out, "-q", *words)
        assert process.returncode == 0, process.stderr
    assert file_tree(tmp_path / "2") == file_tree(tmp_path / "None")


def test_sources_without_shards_are_cut_by_threads(tmp_path: Path) -> None:
    stream = tmp_path / "image.png"
    Image.fromarray(noise(300, 300)).save(stream)
    cut_sharded_and_plain(stream, tmp_path, tile_size=16)
    with ThreadPoolExecutor(1) as executor:
        report = fasttile.cut(noise(300, 300), tmp_path / "array.dzi", workers=executor)
        assert report.tiles
        fasttile.cut(stream, tmp_path / "one.szi", workers=executor)
    with pytest.raises(OptionError, match="workers 0"):
        fasttile.cut(stream, tmp_path / "no.dzi", workers=0)


PATTERN = noise(333, 421)


def draw_pattern(region: fasttile.Region) -> Any:
    return PATTERN[region.y : region.bottom, region.x : region.right]


def draw_half(region: fasttile.Region) -> Any:
    if region.bottom > 200:
        raise ValueError("below")
    return draw_pattern(region)


@pytest.mark.usefixtures("small_shards")
def test_functions_are_drawn_by_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = []
    monkeypatch.setattr(ShardTask, "__getstate__", lambda task: tasks.append(task) or vars(task))
    for name, draw in (("good", draw_pattern), ("bad", draw_half), ("local", lambda _: None)):
        source: Any = fasttile.from_function(draw, 421, 333)
        if name == "good":
            cut_sharded_and_plain(source, tmp_path, tile_size=16, overlap=1)
            assert len(tasks) >= 8
            continue
        with ThreadPoolExecutor(2) as executor:
            if name == "bad":
                with pytest.raises(SourceError, match="cannot be drawn: ValueError: below; corr"):
                    fasttile.cut(source, tmp_path / "bad.dzi", tile_size=16, workers=executor)
            else:
                with pytest.raises(OptionError, match=r"^function: workers: the function cannot"):
                    fasttile.cut(source, tmp_path / "bad.dzi", tile_size=16, workers=executor)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "shared"]


def test_progress_reaches_its_end_once(source_image: Path, tmp_path: Path) -> None:
    seen: list[CutProgress] = []
    with ThreadPoolExecutor(2) as executor:
        report = fasttile.cut(
            source_image, tmp_path / "x.dzi", tile_size=16, workers=executor, progress=seen.append
        )
    tiles = [progress.tiles for progress in seen]
    assert tiles == sorted(tiles)
    assert tiles[-1] == seen[-1].tile_count == report.tiles
    assert seen[-1].bytes == report.bytes


def test_a_callback_cancels(source_image: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor, pytest.raises(fasttile.CancelledError):
        fasttile.cut(
            source_image,
            tmp_path / "x.dzi",
            tile_size=16,
            workers=executor,
            progress=lambda progress: progress.tiles < 300,
        )
    assert folder_entries(tmp_path) == {"image.npy"}


class FailingExecutor(Executor):
    """An executor one of whose tasks meets a source that has changed."""

    def __init__(self, failing_task: int) -> None:
        self._pool = ThreadPoolExecutor(1)
        self.failing_task = failing_task
        self.count = 0

    def submit(self, function: Any, /, *words: Any, **more: Any) -> Any:
        self.count += 1
        if self.count == self.failing_task:
            os.utime(self.source, ns=(1, 1))
        return self._pool.submit(function, *words, **more)

    source: Path


@pytest.mark.parametrize("at", [1, 5])
def test_a_source_that_changes_is_an_error(source_image: Path, tmp_path: Path, at: int) -> None:
    executor = FailingExecutor(at)
    executor.source = source_image
    with pytest.raises(SourceError, match="was changed while it was read"):
        fasttile.cut(source_image, tmp_path / "x.dzi", tile_size=16, workers=executor)
    assert folder_entries(tmp_path) == {"image.npy"}


# ---- interrupted and resumed -------------------------------------------------------------------


@pytest.mark.slow
def test_shards_that_are_done_are_not_done_again(source_image: Path, tmp_path: Path) -> None:
    complete = fasttile.cut(source_image, tmp_path / "complete" / "x.dzi", tile_size=16)
    count = 0

    def stop(progress: CutProgress) -> bool:
        nonlocal count
        count += 1
        return progress.tiles < complete.tiles * 0.6

    target = tmp_path / "x" / "x.dzi"
    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(fasttile.CancelledError):
            fasttile.cut(
                source_image, target, tile_size=16, workers=executor, resume=True, progress=stop
            )
        with pytest.raises(fasttile.TargetError, match="begun with shards"):
            fasttile.cut(source_image, target, tile_size=16, resume=True)
        report = fasttile.cut(source_image, target, tile_size=16, workers=executor, resume=True)
    assert complete.tiles * 0.3 < report.resumed < complete.tiles
    assert report_numbers(report) == report_numbers(complete)
    assert file_tree(tmp_path / "x") == file_tree(tmp_path / "complete")


@pytest.mark.long
@pytest.mark.parametrize("layout", ["dzi", "xyz"])
@pytest.mark.parametrize("lost", ["blocks/*", "new/*/**/*.jpg", "new"])
def test_shards_that_lost_something_are_done_again(
    source_image: Path, tmp_path: Path, layout: str, lost: str
) -> None:
    options: dict[str, Any] = {"tile_size": 16, "layout": layout, "format": "jpeg"}
    name = "x.dzi" if layout == "dzi" else "x"
    expected = fasttile.cut(source_image, tmp_path / "whole" / name, **options)
    target = tmp_path / "x" / name
    with ThreadPoolExecutor(1) as executor:
        more: dict[str, Any] = {**options, "workers": executor, "resume": True}
        with pytest.raises(fasttile.CancelledError):
            fasttile.cut(
                source_image,
                target,
                progress=lambda progress: progress.tiles < expected.tiles * 0.6,
                **more,
            )
        paths = sorted(target.with_name(f".{name}.fasttile").glob(lost))
        for path in paths[:: max(1, len(paths) // 2)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        report = fasttile.cut(source_image, target, **more)
    assert report_numbers(report) == report_numbers(expected)
    assert file_tree(tmp_path / "x") == file_tree(tmp_path / "whole")
    assert (report.resumed > 0) == (lost != "new")


@pytest.mark.slow
def test_a_killed_program_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "image.npy"
    np.save(path, np.tile(noise(1000, 1000)[..., :1], (11, 11, 1)))
    words = ["cut", str(path), "-q", "--workers", "2", "--resume"]
    process = subprocess.Popen([*COMMAND, *words, "-o", str(tmp_path / "out")])
    blocks = tmp_path / "out" / ".image.dzi.fasttile" / "blocks"
    deadline = time.monotonic() + 30
    while not (blocks.exists() and len(list(blocks.iterdir())) > 20):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while True:
        again = run(*words, "-o", tmp_path / "out")
        if again.returncode == 0:
            break
        # A worker may need a moment to see that nobody waits for it.
        assert time.monotonic() < deadline, again.stderr
    assert run("cut", path, "-q", "-o", tmp_path / "alone").returncode == 0
    assert file_tree(tmp_path / "out") == file_tree(tmp_path / "alone")


def test_a_task_is_names_and_numbers(source_image: Path, tmp_path: Path) -> None:
    """No pixels are sent: a task is small for an image of any size."""
    import pickle

    sent = []

    class Watching(ThreadPoolExecutor):
        def submit(self, function: Any, /, *words: Any, **more: Any) -> Any:
            sent.append(pickle.dumps((function, words, more)))
            return super().submit(function, *words, **more)

    with Watching(1) as executor:
        fasttile.cut(source_image, tmp_path / "x.dzi", tile_size=16, workers=executor)
    assert len(sent) >= 8
    assert max(map(len, sent)) < 4_000
    assert ShardTask.__name__.encode() in sent[0]
    assert TileCounts(1, 2, 3) + TileCounts(1, 1, 1) - TileCounts(1, 2, 3) == TileCounts(1, 1, 1)
