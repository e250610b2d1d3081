"""Check of a result without its image: tiles, files beside them, and levels.

The deep check decodes each tile once and compares each level with the next larger one halved. Tiles
are visited in the order of a tree, so memory is that of a few tiles for each level. The loss of the
encoder is not known from a tile alone. So the larger tiles are halved, encoded as the smaller one
and decoded: the loss of that is the tolerance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fasttile.abc.layout import Layout
from fasttile.abc.reader import ResultReader
from fasttile.errors import SourceError
from fasttile.geometry import Tile
from fasttile.jobs.progress import CutProgressCallback, ProgressReporter
from fasttile.layouts import other_own_paths
from fasttile.layouts.iiif import Iiif
from fasttile.storage.budget import BUDGET
from fasttile.types import Pixels
from fasttile.verify.descriptors import check_descriptors
from fasttile.verify.encoding import guess_encoding
from fasttile.verify.halving import Halving
from fasttile.verify.report import MAX_LISTED_FAULTS, Fault, Findings
from fasttile.verify.similarity import (
    EncodingLoss,
    ExactMatchVote,
    has_alpha,
    is_within_loss,
    with_alpha,
)
from fasttile.verify.tiles import (
    StoredTiles,
    decode_or_flaw,
    has_image_suffix,
    ordered_map,
    without_overlap,
)

_SYSTEM_FILES = ("thumbs.db", "desktop.ini", "blank.png")  # the last one is of libvips
_IIIF_REGION = re.compile(r"(?:full|[0-9]{1,13},([0-9]{1,13}),[0-9]{1,13},[0-9]{1,13})/")
_MAX_NAMES_IN_NOTE = 3

TILES_PER_TASK = 64


def create_checker(
    reader: ResultReader, findings: Findings, threads: int, progress: CutProgressCallback | None
) -> Checker:
    """The checker of an open result.

    Args:
        reader: The reader of the result.
        findings: Collects the faults.
        threads: Number of threads.
        progress: Called repeatedly in the calling thread. Default: no calls.
    """
    count = reader.pyramid.tile_count
    reporter = ProgressReporter(progress, count)
    return Checker(
        StoredTiles(reader, findings),
        threads,
        lambda: reporter(min(findings.checked_count, count), findings.bytes),
    )


@dataclass(frozen=True)
class Checker:
    """Checks a result.

    Attributes:
        tiles: The stored tiles.
        threads: Number of threads.
        on_wait: Called repeatedly; an exception ends the check.
    """

    tiles: StoredTiles
    threads: int
    on_wait: Callable[[], object]

    @property
    def findings(self) -> Findings:
        """The faults and counts."""
        return self.tiles.findings

    def run(self, *, deep: bool) -> None:
        """Check the tiles, descriptors and other files.

        Args:
            deep: True to decode tiles and compare levels.

        Raises:
            SourceError: The result cannot be read.
        """
        absent = self._absent_levels()
        levels = self.tiles.pyramid.stored_levels
        count = sum(level.tile_count for level in levels if level.number not in absent)
        if count > BUDGET.verified_tiles:
            raise SourceError(
                f"{self.tiles.reader.path}: it claims {count:,} tiles, more than "
                f"{BUDGET.verified_tiles:,}, which is as many as verify checks"
            )
        if deep:
            loss = EncodingLoss(guess_encoding(self.tiles, None, None).codec)
            comparison = LevelComparison(self.tiles, loss)
            comparison.run(self.threads, self.on_wait, absent)
            comparison.vote.report_to(self.findings)
        else:

            def check_tiles(tiles: list[Tile]) -> None:
                for tile in tiles:
                    self.tiles.valid_tile(tile)

            batches = self._tile_batches(absent)
            for _ in ordered_map(check_tiles, batches, self.threads, self.on_wait):
                pass
        check_level_images(self.tiles, deep=deep)
        self.check_extras()

    def check_extras(self) -> None:
        """Check descriptors and extra files and tiles, but no images of levels."""
        work = self.tiles.work_folder
        if isinstance(work, Path) and work.exists():
            self.findings.notes.append(
                f"{work}: a cut of this result is running or was interrupted"
            )
        check_descriptors(self.tiles)
        check_extra_files(self.tiles)
        check_extra_tiles(self.tiles)

    def _absent_levels(self) -> frozenset[int]:
        """Large levels without any tile: one fault each."""
        reader = self.tiles.reader
        absent = set()
        for level in self.tiles.pyramid.stored_levels:
            if level.tile_count <= MAX_LISTED_FAULTS or any(reader.level_stats(level.number)):
                continue
            absent.add(level.number)
            if reader.allows_missing_tiles:
                self.findings.record_skipped(level.tile_count)
                continue
            name = f"level {level.number - reader.layout.base_level}"
            problem = f"is missing, with all its {level.tile_count:,} tiles"
            self.findings.add(Fault(None, name, problem), level.tile_count)
        return frozenset(absent)

    def _tile_batches(self, absent_levels: frozenset[int]) -> Iterator[list[Tile]]:
        """All tiles, in batches of neighbours."""
        for level in self.tiles.pyramid.stored_levels:
            if level.number in absent_levels:
                continue
            for row in range(level.rows):
                for start in range(0, level.cols, TILES_PER_TASK):
                    cols = range(start, min(start + TILES_PER_TASK, level.cols))
                    yield [Tile(level.number, col, row) for col in cols]


MIN_SUBTREE_TILES = 64
"""Threads check the subtrees of the first level that has as many tiles."""


class LevelComparison:
    """Compares each tile with the tiles of the next larger level that it was made of.

    Args:
        tiles: The stored tiles.
        loss: The loss of the encoder of the tiles.
    """

    def __init__(self, tiles: StoredTiles, loss: EncodingLoss) -> None:
        self._tiles = tiles
        self._loss = loss
        self._halving = Halving(tiles)
        self._levels = tiles.pyramid.levels
        self._stored_range = tiles.pyramid.stored_range
        self.vote = ExactMatchVote("is not the larger level halved")

    def run(
        self, threads: int, on_wait: Callable[[], object], absent_levels: frozenset[int]
    ) -> None:
        """Check all tiles except those of levels without any tile."""
        self._absent_levels = absent_levels
        levels = self._tiles.pyramid.stored_levels
        many = (level.number for level in levels if level.tile_count >= MIN_SUBTREE_TILES)
        base = next(many, self._stored_range[0])
        for _ in ordered_map(self._check_subtree, self._levels[base].tiles(), threads, on_wait):
            pass
        if base > self._stored_range[0]:
            for tile in self._levels[self._stored_range[0]].tiles():
                self._check_subtree(tile, base)

    def _check_subtree(self, tile: Tile, checked_level: int | None = None) -> Pixels | None:
        """Check a tile and all tiles that it was made of; return its pixels.

        Args:
            tile: Address of the tile.
            checked_level: Number of the level whose subtrees were checked before. Default: none.
        """
        tiles, pixels = self._tiles, None
        if tile.level in self._absent_levels:
            pass
        elif tile.level == checked_level:
            with suppress(Exception):  # it was complete a moment ago, or missing
                pixels = None if tiles.findings.is_bad(tile) else tiles.reader.pixels(*tile)
        elif (data := tiles.valid_tile(tile)) is not None:
            pixels = tiles.valid_pixels(tile, data)
            if pixels is not None and tiles.layout.has_halves:
                self._compare_half(tile, pixels)
        if tile.level not in (checked_level, self._stored_range[-1]):
            made_of = {
                child: self._check_subtree(child, checked_level) for child in self._children(tile)
            }
            if pixels is not None:
                self._compare_with_children(tile, pixels, made_of)
        return None if pixels is None else without_overlap(self._levels[tile.level], tile, pixels)

    def _children(self, tile: Tile) -> Iterator[Tile]:
        """The tiles that one was made of, and their neighbours that no tile was made of."""
        level, larger = self._levels[tile.level], self._levels[tile.level + 1]
        if larger.number in self._absent_levels:
            return
        # Where levels round down, a last tile of one column or row has no smaller one.
        for row in _child_range(
            tile.row, level.first_row, level.rows, larger.first_row, larger.rows
        ):
            for col in _child_range(
                tile.col, level.first_col, level.cols, larger.first_col, larger.cols
            ):
                yield Tile(larger.number, col, row)

    def _compare_with_children(
        self, tile: Tile, pixels: Pixels, children: dict[Tile, Pixels | None]
    ) -> None:
        """Compare a tile with the tiles that it was made of, as far as they are valid."""
        if any(one is not None and has_alpha(one) for one in (pixels, *children.values())):
            # Where a program stores opaque tiles without alpha, one may be made of both kinds.
            pixels = with_alpha(pixels)
            children = {
                child: None if one is None else with_alpha(one) for child, one in children.items()
            }
        level = self._levels[tile.level]
        left = tile.col * level.tile_size - level.col_span(tile.col)[0]
        top = tile.row * level.tile_size - level.row_span(tile.row)[0]
        wanted, compared = pixels.copy(), False
        for x, y, block in self._larger_blocks(tile, children):
            part = wanted[top + y :, left + x :]
            halved = self._halving.best(block, part)
            if halved is not None:
                part[: halved.shape[0], : halved.shape[1]] = halved
                compared = True
        if not compared:
            return
        fault = Fault(tile, self._tiles.tile_name(tile), self.vote.problem)
        exact = bool((wanted == pixels).all())
        is_rough = self._halving.is_rough(is_lossless=self._loss.is_lossless)
        # Encoded with its overlap, so that the blocks of the encoder have the same position.
        lossy = self._loss.apply(wanted)
        if not exact and not is_within_loss(pixels, lossy, wanted, is_rough=is_rough):
            self._tiles.findings.add(fault)
        elif self._loss.is_lossless and not is_rough:
            self.vote.add_vote(fault, is_exact=exact)

    def _compare_half(self, tile: Tile, pixels: Pixels) -> None:
        """Compare the half of a tile, if it is valid, with the tile's own pixels."""
        tiles = self._tiles
        flaw, data = tiles.half_flaw(tile)
        if flaw is not None or data is None:
            return
        name, problem = tiles.layout.half_path(tile), "is not the tile beside it halved"
        half = decode_or_flaw(data, max(pixels.shape))
        if isinstance(half, str):
            tiles.findings.add(Fault(tile, name, half))
            return
        wanted = self._halving.best(pixels, half)
        exact = wanted is not None and bool((wanted == half).all())
        if wanted is None or not (exact or is_within_loss(half, self._loss.apply(wanted), wanted)):
            tiles.findings.add(Fault(tile, name, problem))
        elif self._loss.is_lossless:
            self.vote.add_vote(Fault(tile, name, problem), is_exact=exact)

    def _larger_blocks(
        self, tile: Tile, children: dict[Tile, Pixels | None]
    ) -> Iterator[tuple[int, int, Pixels]]:
        """Valid blocks of the larger level, each with its position in the tile."""
        level, size = self._levels[tile.level], self._levels[tile.level].tile_size
        inset, basis = level.inset, self._levels[tile.level + 1].basis
        blocks = _joined_block(children) if size % 2 else children.items()
        for first, block in blocks:
            if block is None:
                continue
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


def _joined_block(children: dict[Tile, Pixels | None]) -> Iterator[tuple[Tile, Pixels]]:
    """All four blocks as one: the middle of tiles of an odd size is inside a pixel."""
    first = min(children, default=None)
    if first is None:
        return
    lines = []
    for row in sorted({tile.row for tile in children})[:2]:
        line = [children.get(Tile(first.level, first.col + right, row)) for right in (0, 1)]
        there = [pixels for pixels in line if pixels is not None]
        wanted = sum(Tile(first.level, first.col + right, row) in children for right in (0, 1))
        if len(there) < wanted or len({pixels.shape[2] for pixels in there}) > 1:
            return
        lines.append(np.concatenate(there, axis=1))
    if len({line.shape[1:] for line in lines}) == 1:
        yield first, np.concatenate(lines, axis=0)


def _child_range(index: int, first: int, count: int, larger_first: int, larger_count: int) -> range:
    """Columns or rows of the larger level of one tile; the outermost take the rest."""
    low = 2 * (first + index) - larger_first
    high = larger_count if index == count - 1 else low + 2
    return range(0 if index == 0 else max(0, low), min(high, larger_count))


class ExtraFile(NamedTuple):
    """A file below the root of the layout that is no part of the result.

    Attributes:
        path: Path in the form that the layout uses.
        is_misplaced: True if the file may be mistaken for a tile. Other files may be there.
    """

    path: str
    is_misplaced: bool


def extra_files(tiles: StoredTiles) -> Iterator[ExtraFile]:
    """Files that are no part of the result, in containers of files."""
    files, layout = tiles.files, tiles.layout
    if files is None:
        return
    known = other_own_paths(layout)
    for below, _ in files.file_sizes():
        path = f"{layout.root}/{below}"
        if path in known or layout.tile_at(path) or layout.tile_of_half(path):
            continue
        if _is_iiif_alias(layout, path):
            continue
        name = below.rpartition("/")[2]
        hidden = name.startswith(".") or name.lower() in _SYSTEM_FILES
        yield ExtraFile(path, not hidden and ("/" in below or has_image_suffix(name)))


def check_extra_files(tiles: StoredTiles) -> None:
    """Record misplaced files as faults, and other extra files as a note."""
    others = 0
    names: list[str] = []
    for extra in extra_files(tiles):
        if extra.is_misplaced:
            tiles.findings.add(Fault(None, extra.path, "is no part of the result"))
            continue
        others += 1
        if len(names) < _MAX_NAMES_IN_NOTE:
            names.append(extra.path)
    if others:
        more = f" and {others - len(names):,} more" if others > len(names) else ""
        tiles.findings.notes.append(f"other files beside the tiles: {', '.join(names)}{more}")


def check_level_images(tiles: StoredTiles, *, deep: bool) -> None:
    """Record the flaws of images of levels."""
    for image in tiles.layout.whole_images():
        size = image.width, image.height
        first: bytes | None = None
        for path in image.paths:
            data = tiles.read_file(path)
            if isinstance(data, Fault):
                tiles.findings.add(data)
                continue
            flaw = tiles.level_image_flaw(data, size)
            if flaw is None and data is not None and deep:
                pixels = decode_or_flaw(data, max(size))
                flaw = pixels if isinstance(pixels, str) else None
            if flaw is None and first is not None and data != first:
                flaw = "differs from the same image at another path"
            first = first or data
            if flaw is not None:
                tiles.findings.add(Fault(None, path, flaw))


def _is_iiif_alias(layout: Layout, path: str) -> bool:
    """True if a path is one of the other names that IIIF has for some tiles."""
    if not isinstance(layout, Iiif):
        return False
    match = _IIIF_REGION.match(path.removeprefix(f"{layout.root}/"))
    y = int(match[1] or 0) if match else 0
    pyramid = layout.pyramid
    for level in pyramid.stored_levels:
        row = (y >> (pyramid.stored_range[-1] - level.number)) // level.tile_size
        if (
            level.cols == 1
            and row < level.rows
            and path in layout.paths(Tile(level.number, 0, row))
        ):
            return True
    return False


def check_extra_tiles(tiles: StoredTiles) -> None:
    """Record the tiles of a container of addresses that are outside the image."""
    for zoom, col, row in tiles.reader.extra_addresses(MAX_LISTED_FAULTS):
        tiles.findings.add(Fault(None, f"{zoom}/{col}/{row}", "is outside the image"))
