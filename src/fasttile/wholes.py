"""Pictures of whole levels, which some layouts want beside the tiles: put together from these."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .layouts.base import Layout
from .pyramid import Pixels, Run


class Wholes:
    """Keeps the pixels of those levels that a layout wants as one picture each.

    Args:
        layout: Whose `wholes` they are; its tiles do not overlap.
        wanted: Whether they are. Not of a part of the picture.
    """

    def __init__(self, layout: Layout, *, wanted: bool = True) -> None:
        self._wanted = layout.wholes() if wanted else {}
        self._pyramid = layout.pyramid
        self._pixels: dict[int, Pixels] = {}

    def take(self, run: Run) -> None:
        """Copy a run's pixels, if its level is one of these."""
        level = run.level
        if level.number not in self._wanted:
            return
        for tile, pixels in run.tiles():
            whole = self._pixels.get(level.number)
            if whole is None:
                shape = (level.height, level.width, pixels.shape[2])
                whole = self._pixels[level.number] = np.empty(shape, pixels.dtype)
            x, y, width, height = level.region(tile.col, tile.row)
            whole[y : y + height, x : x + width] = pixels

    def pictures(self) -> Iterator[tuple[int, tuple[str, ...], Pixels]]:
        """Level, paths and pixels of each."""
        for number, paths in self._wanted.items():
            yield number, paths, self._pixels[number]
