"""Faults and counts of a verification; at most 10,000 faults are listed."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import NamedTuple

from fasttile.geometry import Tile
from fasttile.storage.journal import IntervalSet
from fasttile.storage.object_files import ResultPath

MAX_LISTED_FAULTS = 10_000
"""Number of faults that are listed; further ones are counted."""


class Fault(NamedTuple):
    """A fault of a tile or of another part of a result.

    Attributes:
        tile: Address of the tile; None: no tile.
        name: Name in the layout: a path, or an address.
        problem: The problem, in words that follow the name.
    """

    tile: Tile | None
    name: str
    problem: str

    def __str__(self) -> str:
        return f"{self.name} {self.problem}"


@dataclass(frozen=True)
class VerifyReport:
    """Report of a verification.

    Attributes:
        path: The result.
        tiles, bytes: Number of stored tiles, and their size in bytes.
        faults: The first 10,000 faults, ordered by level, row and column.
        fault_count: Number of all faults.
        skipped: Number of missing tiles, where the layout allows that.
        repaired: Number of tiles and other files that were made again or removed.
        notes: Further remarks, one line each.
    """

    path: ResultPath
    tiles: int
    bytes: int
    faults: tuple[Fault, ...] = ()
    fault_count: int = 0
    skipped: int = 0
    repaired: int = 0
    notes: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """True if there are no faults."""
        return self.fault_count == 0


class Findings:
    """Collects faults and counts; any thread may call the methods.

    Attributes:
        tiles, bytes: Number of stored tiles, and their size in bytes.
        skipped: Number of missing tiles, where the layout allows that.
        fault_count: Number of faults.
        notes: Further remarks, one line each.
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
        """Number of checked tiles."""
        return self.tiles + self.skipped + self.fault_count

    def record_tile(self, nbytes: int) -> None:
        """Count a stored tile."""
        with self._lock:
            self.tiles += 1
            self.bytes += nbytes

    def record_half(self, nbytes: int) -> None:
        """Count the bytes of the second file of a tile."""
        with self._lock:
            self.bytes += nbytes

    def record_skipped(self, count: int = 1) -> None:
        """Count missing tiles that may be missing."""
        with self._lock:
            self.skipped += count

    def add(self, fault: Fault, count: int = 1) -> None:
        """Record a fault that counts as `count` faults."""
        with self._lock:
            self.fault_count += count
            if len(self._faults) < MAX_LISTED_FAULTS:
                self._faults.append(fault)
            if fault.tile is not None:
                level, col, row = fault.tile
                self._bad_tiles.setdefault((level, row), IntervalSet()).add(col, col + 1)

    def mark_missing(self, fault: Fault) -> None:
        """Turn a skipped tile into a fault."""
        with self._lock:
            self.skipped -= 1
        self.add(fault)

    def is_bad(self, tile: Tile) -> bool:
        """True if a tile has a fault."""
        spans = self._bad_tiles.get((tile.level, tile.row))
        if spans is not None and spans.contains(tile.col, tile.col + 1):
            return True
        return any(other.is_bad(tile) for other in self._merged)

    def merge(self, other: Findings) -> None:
        """Add the faults of another collection."""
        with self._lock:
            self.fault_count += other.fault_count
            self._faults += other._faults[: MAX_LISTED_FAULTS - len(self._faults)]
            self._merged.append(other)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The listed faults, ordered by level, row and column; other faults come last."""

        def sort_key(fault: Fault) -> tuple[bool, int, int, int, str]:
            level, col, row = fault.tile or (0, 0, 0)
            return fault.tile is None, level, row, col, fault.name

        return tuple(sorted(self._faults, key=sort_key))

    def report(self, path: ResultPath, repaired: int = 0) -> VerifyReport:
        """The report on a path."""
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
