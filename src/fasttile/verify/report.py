"""What was found: each fault by its name, up to a bound; how many there are, without one."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fasttile.geometry import Tile
from fasttile.storage.journal import IntervalSet

MAX_LISTED_FAULTS = 10_000
"""Number of faults that are listed; further ones are counted."""


class Fault(NamedTuple):
    """Something of a result that is not as it should be.

    Attributes:
        tile: Which tile it is, if it is one.
        name: What the layout calls it: a path, or an address.
        what: What is wrong with it, in words that follow the name.
    """

    tile: Tile | None
    name: str
    problem: str

    def __str__(self) -> str:
        return f"{self.name} {self.problem}"


@dataclass(frozen=True)
class VerifyReport:
    """What a look at a result has found.

    Attributes:
        path: What was looked at.
        tiles, bytes: How many tiles are there, and their bytes.
        faults: What is wrong, ordered by level and place; the first 10,000 that were found.
        fault_count: How much is wrong.
        left_out: How many tiles are not there where the layout allows it.
        repaired: Number of tiles and other files that were made again or removed.
        notes: Further remarks, one line each.
    """

    path: Path
    tiles: int
    bytes: int
    faults: tuple[Fault, ...] = ()
    fault_count: int = 0
    skipped: int = 0
    repaired: int = 0
    notes: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether nothing is wrong."""
        return self.fault_count == 0


class Findings:
    """Gathers what is found, from any thread.

    Attributes:
        tiles, bytes: What is there.
        left_out: How many tiles are missing where they may be.
        count: How many faults there are.
        notes: Further lines.
    """

    def __init__(self) -> None:
        self.tiles = self.bytes = self.skipped = self.fault_count = 0
        self.notes: list[str] = []
        self._faults: list[Fault] = []
        self._bad_tiles: dict[tuple[int, int], IntervalSet] = {}
        self._merged: list[Findings] = []
        self._lock = threading.Lock()

    @property
    def checked_count(self) -> int:
        """How many tiles were looked at."""
        return self.tiles + self.skipped + self.fault_count

    def record_tile(self, nbytes: int) -> None:
        """A tile is there."""
        with self._lock:
            self.tiles += 1
            self.bytes += nbytes

    def record_skipped(self, count: int = 1) -> None:
        """Tiles are missing where they may be."""
        with self._lock:
            self.skipped += count

    def add(self, fault: Fault, count: int = 1) -> None:
        """Something is wrong, `count` times."""
        with self._lock:
            self.fault_count += count
            if len(self._faults) < MAX_LISTED_FAULTS:
                self._faults.append(fault)
            if fault.tile is not None:
                level, col, row = fault.tile
                self._bad_tiles.setdefault((level, row), IntervalSet()).add(col, col + 1)

    def mark_missing(self, fault: Fault) -> None:
        """A tile that was taken for one that may be left out may not."""
        with self._lock:
            self.skipped -= 1
        self.add(fault)

    def is_bad(self, tile: Tile) -> bool:
        """Whether something is wrong with a tile."""
        spans = self._bad_tiles.get((tile.level, tile.row))
        if spans is not None and spans.contains(tile.col, tile.col + 1):
            return True
        return any(other.is_bad(tile) for other in self._merged)

    def merge(self, other: Findings) -> None:
        """All that others have found to be wrong."""
        with self._lock:
            self.fault_count += other.fault_count
            self._faults += other._faults[: MAX_LISTED_FAULTS - len(self._faults)]
            self._merged.append(other)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Those that are kept, ordered by level, line and column; what is no tile comes last."""
        return tuple(sorted(self._faults, key=_sort_key))

    def report(self, path: Path, repaired: int = 0) -> VerifyReport:
        """All of it."""
        return VerifyReport(
            path,
            self.tiles,
            self.bytes,
            self.faults,
            self.fault_count,
            self.skipped,
            repaired,
            tuple(self.notes),
        )


def _sort_key(fault: Fault) -> tuple[bool, int, int, int, str]:
    level, col, row = fault.tile or (0, 0, 0)
    return fault.tile is None, level, row, col, fault.name
