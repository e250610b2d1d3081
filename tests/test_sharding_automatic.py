"""Giants are cut in shards without being asked for it where that is faster, and only there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import fasttile
from fasttile import batch, engines, sharding, shards
from test_batch import tree
from test_cli import noise

SIDE = 300


@pytest.fixture
def widths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many workers cut shards, of each picture that is cut so; giants have 90,000 pixels."""
    monkeypatch.setattr(shards, "LEAST_PIXELS", 16)
    monkeypatch.setattr(shards, "LEAST_SHARDS", 8)
    monkeypatch.setattr(batch, "GIANT_PIXELS", SIDE * SIDE)
    monkeypatch.setattr(batch, "SHARED_PIXELS", 4 * SIDE * SIDE)
    found: list[int] = []
    real = sharding.Sharding.fill

    def fill(self: sharding.Sharding, engine: engines.Engine) -> object:
        found.append(engine.width)
        return real(self, engine)

    monkeypatch.setattr(sharding.Sharding, "fill", fill)
    return found


@pytest.fixture
def processors(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda count: monkeypatch.setattr(batch, "processors", lambda: count)


def saved(folder: Path, *sides: int) -> list[Path]:
    paths = [folder / f"{number}.npy" for number in range(len(sides))]
    for path, side in zip(paths, sides, strict=True):
        np.save(path, noise(side, side))
    return paths


@pytest.mark.parametrize(
    ("count", "side", "threads", "expected"),
    [
        (24, SIDE, None, [3]),
        (24, SIDE - 1, None, []),  # no giant
        (23, SIDE, None, []),  # threads are faster
        (24, SIDE, 2, []),  # somebody wants but two threads
        (2, 2 * SIDE, None, [2]),
        (2, 2 * SIDE - 1, None, []),  # threads are faster
        (1, 2 * SIDE, None, []),
    ],
)
def test_a_giant_alone(
    count: int,
    side: int,
    threads: int | None,
    expected: list[int],
    widths: list[int],
    processors: Callable[[int], None],
    tmp_path: Path,
) -> None:
    processors(count)
    (path,) = saved(tmp_path, side)
    (outcome,) = batch.cut_all([path], tmp_path / "out" / "0.dzi", tile_size=16, threads=threads)
    assert outcome.error == ""
    assert widths == expected
    fasttile.cut(path, tmp_path / "alone" / "0.dzi", tile_size=16)
    assert tree(tmp_path / "out") == tree(tmp_path / "alone")


def test_giants_among_others(
    widths: list[int], processors: Callable[[int], None], tmp_path: Path
) -> None:
    """The workers of the small pictures cut the shards too, if they know what a giant is."""
    processors(24)
    paths = saved(tmp_path, SIDE + 1, 40)
    with ThreadPoolExecutor(2) as executor:  # which sees the patches
        list(batch.cut_all(paths, tmp_path / "out", workers=executor, tile_size=16))
    assert len(widths) == 1


def test_whoever_names_workers_has_them_cut_all_that_has_shards(
    widths: list[int], processors: Callable[[int], None], tmp_path: Path
) -> None:
    processors(2)
    (path,) = saved(tmp_path, SIDE - 1)
    list(batch.cut_all([path], tmp_path / "out" / "0.dzi", workers=1, tile_size=16))
    assert widths == [1]
