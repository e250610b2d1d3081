"""The numbers of docs/DISTRIBUTED.md are those that its script prints, and the script is sane."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def sizing_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("size_a_run", DOCS / "size_a_run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["size_a_run"] = module  # for its dataclasses
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_page_has_what_the_script_prints(
    sizing_module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    sizing_module.main()
    page = (DOCS / "DISTRIBUTED.md").read_text()
    tables = capsys.readouterr().out.strip().split("\n\n")
    assert len(tables) == 5
    for table in tables:
        assert f"```\n{table}\n```" in page


@pytest.mark.parametrize("depth", [5, 6, 7])
def test_its_shards_are_those_that_are_cut(sizing_module: ModuleType, depth: int) -> None:
    from fasttile.geometry.shards import Shards
    from fasttile.layouts import LayoutSpec

    sizes = sizing_module.Sizes(depth)
    layout = LayoutSpec.parse("dzi").bind("image", sizes.side, sizes.side, "jpg")
    shards = Shards(layout.pyramid, depth)
    assert layout.pyramid.tile_count == sum(sizing_module.tile_counts(sizes.side))
    assert len(shards) == sizes.shards
    across = math.isqrt(len(shards))
    inner = shards[across * (across // 2) + across // 2]
    assert inner.region.width == inner.region.height == sizes.read_side
    assert (inner.block.width, inner.block.height) == (
        sizing_module.TILE_SIZE,
        sizing_module.TILE_SIZE,
    )


def test_its_workers_do_no_more_than_they_can(sizing_module: ModuleType) -> None:
    """A perfect cluster is as fast as its scheduler or its workers; no real one is faster."""
    for workers, seconds in ((10, 1.0), (100, 0.01), (3000, 1.0)):
        outcome = sizing_module.simulate(workers, seconds)
        tasks = workers * sizing_module.TASKS_PER_WORKER
        assert outcome.seconds >= tasks * sizing_module.SCHEDULER_SECONDS
        assert outcome.seconds >= outcome.ideal >= tasks * seconds / workers
