"""The programs in examples/, with small sizes."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fasttile
from fasttile.readers import open_result

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_a_small_mandelbrot_set_is_cut(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "mandelbrot.py", "32", tmp_path / "set.dzi"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert output == f"{tmp_path / 'set.dzi'}\n"
    with open_result(tmp_path / "set.dzi") as result:
        assert result.level_sizes[-1] == (256, 256)
        pixels = result.pixels(8, 0, 0)
        assert pixels is not None
        assert (pixels[128, 150] < 20).all()  # 0 is in the set


def test_the_deepest_level_of_the_mandelbrot_set_has_structure() -> None:
    example: dict[str, Any] = runpy.run_path(str(EXAMPLES / "mandelbrot.py"))
    step = example["UNITS_PER_PIXEL"]
    x = int((-0.743643887037151 - example["LEFT"]) / step)
    y = int((0.13182590420533 - example["TOP"]) / step)
    region = fasttile.Region(x, y, 24, 24)
    pixels = example["draw"](region, 1)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 24
    neighbour = example["draw"](region.shifted(12, 12), 1)
    assert (neighbour[:12, :12] == pixels[12:, 12:]).all()


def test_tiles_of_the_plot_match_at_their_edges() -> None:
    pytest.importorskip("matplotlib")
    example: dict[str, Any] = runpy.run_path(str(EXAMPLES / "plot.py"))
    with fasttile.open_pyramid(example["plot"](), tile_size=128, overlap=2) as pyramid:
        for number, col, row in ((8, 0, 0), (12, 15, 15), (16, 255, 255)):
            tile = pyramid.pixels(number, col, row)
            right, below = (pyramid.pixels(number, col + x, row + 1 - x) for x in (1, 0))
            assert tile is not None
            assert right is not None
            assert below is not None
            assert len(np.unique(tile)) > 9
            for own, other in ((tile[:128, -4:], right[:128, :4]), (tile[-4:, :128], below[:4])):
                near = np.abs(own.astype(int) - other[: own.shape[0], : own.shape[1]])
                assert near.mean() < 2, (number, near.mean())
