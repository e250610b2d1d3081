"""A result looked at by itself, without its picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..cutting import ProgressCallback, Teller
from ..geometry import Tile
from ..readers.base import PyramidReader
from ..sinks.oserrors import shown
from .around import look_at_extras, look_at_wholes
from .beyond import look_beyond
from .descriptors import look_at_descriptors
from .levels import Halvings
from .likeness import Loss
from .parameters import encoding_of
from .report import MOST_FAULTS, Fault, Findings
from .sidebyside import side_by_side
from .stored import Tiles

TILES_AT_ONCE = 64


def look_at(
    reader: PyramidReader, findings: Findings, threads: int, progress: ProgressCallback | None
) -> Look:
    """A look at a result that is open.

    Args:
        reader: Of the result.
        findings: Take what is found.
        threads: How many tiles are looked at at a time.
        progress: Called now and then, from the calling thread.
    """
    count = reader.pyramid.tile_count
    told = Teller(progress, count)
    return Look(
        Tiles(reader, findings), threads, lambda: told(min(findings.seen, count), findings.bytes)
    )


@dataclass(frozen=True)
class Look:
    """A look at a result.

    Attributes:
        tiles: Of the result.
        threads: How many tiles are looked at at a time.
        meanwhile: Called now and then; what it raises ends it.
    """

    tiles: Tiles
    threads: int
    meanwhile: Callable[[], object]

    @property
    def findings(self) -> Findings:
        """What is found."""
        return self.tiles.findings

    def at_all(self, *, deep: bool) -> None:
        """Look at tiles, and at what is beside them.

        Args:
            deep: Whether tiles are decoded, and levels compared.

        Raises:
            SourceError: The result cannot be read.
        """
        absent = self._absent()
        if deep:
            self._at_levels(absent)
        else:
            for _ in side_by_side(self._at_some, self._lines(absent), self.threads, self.meanwhile):
                pass
        look_at_wholes(self.tiles, deep=deep)
        self.around()

    def around(self) -> None:
        """Look at what is beside the tiles, but for pictures of whole levels."""
        work = self.tiles.work
        if work.exists():
            what = "a run on this result is at work, or was interrupted"
            self.findings.notes.append(f"{shown(work)}: {what}")
        look_at_descriptors(self.tiles)
        look_at_extras(self.tiles)
        look_beyond(self.tiles)

    def _at_levels(self, absent: frozenset[int]) -> None:
        halvings = Halvings(self.tiles, Loss(encoding_of(self.tiles, None, None).codec))
        halvings.look(self.threads, self.meanwhile, absent)
        halvings.ballot.count(self.findings)

    def _absent(self) -> frozenset[int]:
        """Large levels of which nothing is there: whatever was claimed, they are one fault each."""
        reader = self.tiles.reader
        found = set()
        for level in self.tiles.pyramid.kept_levels:
            if level.tile_count <= MOST_FAULTS or reader.stored(level.number).tiles:
                continue
            found.add(level.number)
            if reader.missing_allowed:
                self.findings.leave_out(level.tile_count)
                continue
            name = f"level {level.number - reader.layout.base}"
            what = f"is missing, with all its {level.tile_count:,} tiles"
            self.findings.add(Fault(None, name, what), level.tile_count)
        return frozenset(found)

    def _lines(self, absent: frozenset[int]) -> Iterator[list[Tile]]:
        """All tiles, some neighbours at a time."""
        for level in self.tiles.pyramid.kept_levels:
            if level.number in absent:
                continue
            for row in range(level.rows):
                for start in range(0, level.cols, TILES_AT_ONCE):
                    cols = range(start, min(start + TILES_AT_ONCE, level.cols))
                    yield [Tile(level.number, col, row) for col in cols]

    def _at_some(self, tiles: list[Tile]) -> None:
        for tile in tiles:
            self.tiles.whole(tile)
