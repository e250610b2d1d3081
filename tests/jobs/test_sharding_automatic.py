"""Large images are cut in shards by default where that is faster, and only there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import fasttile
from fasttile.batch import run as batch
from fasttile.geometry import shards
from fasttile.jobs import sharded as sharding
from fasttile.workers import choice as engines
from support.command import noise
from support.file_trees import file_tree

SIDE = 300


@pytest.fixture
def shard_worker_counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of workers of each image that is cut in shards; from 90,000 pixels on it is large."""
    monkeypatch.setattr(shards, "MIN_SHARD_PIXELS", 16)
    monkeypatch.setattr(shards, "MIN_SHARD_COUNT", 8)
    monkeypatch.setattr(batch, "LARGE_IMAGE_PIXELS", SIDE * SIDE)
    monkeypatch.setattr(batch, "SHARDED_IMAGE_PIXELS", 4 * SIDE * SIDE)
    found: list[int] = []
    real = sharding.ShardedCut.write_tiles

    def fill(self: sharding.ShardedCut, engine: engines.Engine) -> object:
        found.append(engine.width)
        return real(self, engine)

    monkeypatch.setattr(sharding.ShardedCut, "write_tiles", fill)
    return found


@pytest.fixture
def set_processors(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda count: monkeypatch.setattr(batch, "cpu_count", lambda: count)


def save_arrays(folder: Path, *sides: int) -> list[Path]:
    paths = [folder / f"{number}.npy" for number in range(len(sides))]
    for path, side in zip(paths, sides, strict=True):
        np.save(path, noise(side, side))
    return paths


@pytest.mark.parametrize(
    ("count", "side", "threads", "expected"),
    [
        (24, SIDE, None, [3]),
        (24, SIDE - 1, None, []),  # not large
        (23, SIDE, None, []),  # threads are faster
        (24, SIDE, 2, []),  # the number of threads is given
        (2, 2 * SIDE, None, [2]),
        (2, 2 * SIDE - 1, None, []),  # threads are faster
        (1, 2 * SIDE, None, []),
    ],
)
def test_one_large_image(
    count: int,
    side: int,
    threads: int | None,
    expected: list[int],
    shard_worker_counts: list[int],
    set_processors: Callable[[int], None],
    tmp_path: Path,
) -> None:
    set_processors(count)
    (path,) = save_arrays(tmp_path, side)
    (outcome,) = batch.cut_all([path], tmp_path / "out" / "0.dzi", tile_size=16, threads=threads)
    assert outcome.error == ""
    assert shard_worker_counts == expected
    fasttile.cut(path, tmp_path / "alone" / "0.dzi", tile_size=16)
    assert file_tree(tmp_path / "out") == file_tree(tmp_path / "alone")


def test_a_large_image_among_small_ones(
    shard_worker_counts: list[int], set_processors: Callable[[int], None], tmp_path: Path
) -> None:
    """The workers of the small images cut the shards too."""
    set_processors(24)
    paths = save_arrays(tmp_path, SIDE + 1, 40)
    with ThreadPoolExecutor(2) as executor:  # which sees the patches
        list(batch.cut_all(paths, tmp_path / "out", workers=executor, tile_size=16))
    assert len(shard_worker_counts) == 1


def test_given_workers_cut_all_shards(
    shard_worker_counts: list[int], set_processors: Callable[[int], None], tmp_path: Path
) -> None:
    set_processors(2)
    (path,) = save_arrays(tmp_path, SIDE - 1)
    list(batch.cut_all([path], tmp_path / "out" / "0.dzi", workers=1, tile_size=16))
    assert shard_worker_counts == [1]
