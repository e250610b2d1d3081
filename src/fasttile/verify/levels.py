"""Whether each level is the next larger one halved: every tile decoded, each once.

A tile and the four that it was made of stand in the order of a tree, so memory is that of some
tiles for each level, whatever the picture's size. What an encoder may have lost is not known of a
tile by itself. So the larger tiles are halved, encoded as the smaller one was, and decoded: what is
lost by that is the measure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ..geometry import Tile
from ..resample import Shrink, shrink
from .likeness import Ballot, Loss, is_as_near, mean_distance
from .report import Fault
from .sidebyside import side_by_side
from .stored import Tiles, own

Pixels = NDArray[Any]

TREES = 64
"""From how many tiles of a level on each is looked at by itself, with all that lies above it."""


class Halvings:
    """Compares each tile with those that it was made of.

    Args:
        tiles: Of the result.
        loss: How tiles were encoded.
    """

    def __init__(self, tiles: Tiles, loss: Loss) -> None:
        self._tiles = tiles
        self._loss = loss
        self._levels = tiles.pyramid.levels
        self._kept = tiles.pyramid.kept
        self.ballot = Ballot("is not the larger level halved")

    def look(self, threads: int, meanwhile: Callable[[], object], absent: frozenset[int]) -> None:
        """Look at all tiles but those of levels that are absent as a whole."""
        self._absent = absent
        kept = self._tiles.pyramid.kept_levels
        many = (level.number for level in kept if level.tile_count >= TREES)
        base = next(many, self._kept[0])
        for _ in side_by_side(self._tree, self._levels[base].tiles(), threads, meanwhile):
            pass
        if base > self._kept[0]:
            for tile in self._levels[self._kept[0]].tiles():
                self._examine(tile, base)

    def _tree(self, tile: Tile) -> None:
        self._examine(tile, None)

    def _examine(self, tile: Tile, seen: int | None) -> Pixels | None:
        """Look at a tile and at all that it was made of; gives its own pixels.

        Args:
            tile: Which.
            seen: The number of the level whose tiles were looked at before, if any.
        """
        if tile.level == seen:
            return self._again(tile)
        pixels = self._decoded(tile)
        if tile.level < self._kept[-1]:
            made_of = {child: self._examine(child, seen) for child in self._children(tile)}
            if pixels is not None:
                self._compare(tile, pixels, made_of)
        return None if pixels is None else own(self._levels[tile.level], tile, pixels)

    def _decoded(self, tile: Tile) -> Pixels | None:
        if tile.level in self._absent:
            return None
        data = self._tiles.whole(tile)
        return None if data is None else self._tiles.pixels(tile, data)

    def _again(self, tile: Tile) -> Pixels | None:
        """The same of a tile that was looked at before."""
        if tile.level in self._absent or self._tiles.findings.is_bad(tile):
            return None
        with suppress(Exception):  # it was whole a moment ago, or not there
            pixels = self._tiles.reader.pixels(*tile)
            return None if pixels is None else own(self._levels[tile.level], tile, pixels)
        return None

    def _children(self, tile: Tile) -> Iterator[Tile]:
        """The tiles that one was made of, and those beside them that went into none."""
        level, larger = self._levels[tile.level], self._levels[tile.level + 1]
        if larger.number in self._absent:
            return
        # Where levels round down, a last tile of one column or row has no smaller one.
        for row in _twice(tile.row, level.first_row, level.rows, larger.first_row, larger.rows):
            for col in _twice(tile.col, level.first_col, level.cols, larger.first_col, larger.cols):
                yield Tile(larger.number, col, row)

    def _compare(self, tile: Tile, pixels: Pixels, made_of: dict[Tile, Pixels | None]) -> None:
        """Compare a tile with what it was made of, as far as that is at hand."""
        level = self._levels[tile.level]
        left = tile.col * level.tile_size - level.col_span(tile.col)[0]
        top = tile.row * level.tile_size - level.row_span(tile.row)[0]
        wanted, compared = pixels.copy(), False
        for x, y, block in self._blocks(tile, made_of):
            part = wanted[top + y :, left + x :]
            halved = _halved(block, part)
            if halved is not None:
                part[: halved.shape[0], : halved.shape[1]] = halved
                compared = True
        if not compared:
            return
        fault = Fault(tile, self._tiles.name(tile), self.ballot.what)
        exact = bool((wanted == pixels).all())
        # Encoded as a whole, overlap and all, so that an encoder's blocks lie as they did.
        if not exact and not is_as_near(pixels, self._loss.of(wanted), wanted):
            self._tiles.findings.add(fault)
        elif self._loss.none:
            self.ballot.cast(fault, exact=exact)

    def _blocks(
        self, tile: Tile, made_of: dict[Tile, Pixels | None]
    ) -> Iterator[tuple[int, int, Pixels]]:
        """What of the larger level is at hand, and where in the tile it arrives."""
        level, size = self._levels[tile.level], self._levels[tile.level].tile_size
        inset, basis = level.inset, self._levels[tile.level + 1].basis
        for first, block in _whole(made_of) if size % 2 else _each(made_of):
            x, y = first.col * size, first.row * size
            block = np.ascontiguousarray(
                block[: max(0, basis.bottom - y), : max(0, basis.right - x)]
            )
            if block.size:
                yield (
                    inset.x + x // 2 - tile.col * size,
                    inset.y + y // 2 - tile.row * size,
                    block,
                )


def _halved(block: Pixels, pixels: Pixels) -> Pixels | None:
    """A block halved by the rule that comes nearest to some pixels; None: they are of other kinds.

    Args:
        block: Of the larger level.
        pixels: Of the smaller one, from where the block begins.
    """
    best, least = None, np.inf
    for how in get_args(Shrink):
        halved = shrink(block, how=how, alpha=block.shape[2] in (2, 4))
        part = pixels[: halved.shape[0], : halved.shape[1]]
        if part.shape != halved.shape or part.dtype != halved.dtype:
            return None  # of a program that does otherwise
        distance = mean_distance(part, halved)
        if distance < least:
            best, least = halved, distance
        if distance == 0:
            break
    return best


def _each(made_of: dict[Tile, Pixels | None]) -> Iterator[tuple[Tile, Pixels]]:
    for tile, pixels in made_of.items():
        if pixels is not None:
            yield tile, pixels


def _whole(made_of: dict[Tile, Pixels | None]) -> Iterator[tuple[Tile, Pixels]]:
    """All four as one, for the middle of tiles of an odd size is in the middle of a pixel."""
    first = min(made_of, default=None)
    if first is None:
        return
    lines = []
    for row in sorted({tile.row for tile in made_of})[:2]:
        line = [made_of.get(Tile(first.level, first.col + right, row)) for right in (0, 1)]
        there = [pixels for pixels in line if pixels is not None]
        wanted = sum(Tile(first.level, first.col + right, row) in made_of for right in (0, 1))
        if len(there) < wanted or len({pixels.shape[2] for pixels in there}) > 1:
            return
        lines.append(np.concatenate(there, axis=1))
    if len({line.shape[1:] for line in lines}) == 1:
        yield first, np.concatenate(lines, axis=0)


def _twice(index: int, first: int, count: int, larger_first: int, larger_count: int) -> range:
    """Which columns or rows of the larger level go into one; the outermost take what is beyond."""
    low = 2 * (first + index) - larger_first
    high = larger_count if index == count - 1 else low + 2
    return range(0 if index == 0 else max(0, low), min(high, larger_count))
