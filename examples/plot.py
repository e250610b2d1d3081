"""A plot whose lines, grid and labels have the same width at each zoom, drawn by matplotlib.

    python examples/plot.py             opens the browser
    python examples/plot.py plot.dzi    cuts it

Each tile is a figure of its own size. What crosses the edge of a tile is drawn in both tiles: so
lines and labels reach a little beyond the region.
"""

from __future__ import annotations

import math
import sys
import threading
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import fasttile

SIDE = 2**16
LEFT, TOP, UNITS = -1.0, 1.0, 2.0
MARGIN = 60  # pixels around a tile, in which a label may begin

_lock = threading.Lock()  # matplotlib draws on one thread at a time


def curve(x: Any) -> Any:
    """The function to plot."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(x * np.sin(1 / x))


def draw(region: fasttile.Region, scale: int, side: int = SIDE) -> Any:
    """The pixels of a region of one level; a pixel of it is `scale` pixels wide."""
    with _lock:
        return _draw(region, scale * UNITS / side)


def _draw(region: fasttile.Region, step: float) -> Any:
    left, top = LEFT + region.x * step, TOP - region.y * step
    right, bottom = left + region.width * step, top - region.height * step
    figure = Figure(figsize=(region.width / 100, region.height / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    # Lines of a grid are 1, 2 or 5 times a power of ten apart, and at least 100 pixels.
    power = 10.0 ** math.floor(math.log10(100 * step))
    spacing = next(power * part for part in (1, 2, 5, 10) if power * part >= 100 * step)
    margin = MARGIN * step
    for number in range(
        math.floor((left - margin) / spacing), math.ceil((right + margin) / spacing) + 1
    ):
        value = number * spacing
        axes.axvline(value, color="#d0d0d0" if number else "#606060", linewidth=0.8)
        axes.text(value, 0, f" {value:.9g}", fontsize=8, va="bottom", clip_on=False)
    for number in range(
        math.floor((bottom - margin) / spacing), math.ceil((top + margin) / spacing) + 1
    ):
        value = number * spacing
        axes.axhline(value, color="#d0d0d0" if number else "#606060", linewidth=0.8)
        if number:
            axes.text(0, value, f" {value:.9g}", fontsize=8, va="bottom", clip_on=False)
    x = LEFT + np.arange(4 * region.x - 16, 4 * region.right + 16) * (step / 4)
    axes.plot(x, curve(x), color="#b03020", linewidth=1.5)
    # A line is not simplified: what is left out would depend on where the tile ends.
    with matplotlib.rc_context({"path.simplify": False}):
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def plot(side: int = SIDE) -> Any:
    """The plot as a source."""

    def draw_level(region: fasttile.Region, scale: int) -> Any:
        return draw(region, scale, side)

    return fasttile.from_function(draw_level, side, side, per_level=True, name="plot")


def main(arguments: list[str]) -> None:
    """Show the plot, or cut it."""
    if arguments:
        print(fasttile.cut(plot(2**12), arguments[0], format="png").path)
    else:
        from fasttile.serve import view

        view(plot(), format="png")


if __name__ == "__main__":
    main(sys.argv[1:])
