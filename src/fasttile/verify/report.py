"""What was found: each fault by its name, up to a bound; how many there are, without one."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..geometry import Tile
from ..journal import Spans

MOST_FAULTS = 10_000
"""So many faults are kept one by one; the rest is counted."""


class Fault(NamedTuple):
    """Something of a result that is not as it should be.

    Attributes:
        tile: Which tile it is, if it is one.
        name: What the layout calls it: a path, or an address.
        what: What is wrong with it, in words that follow the name.
    """

    tile: Tile | None
    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.name} {self.what}"


@dataclass(frozen=True)
class VerifyReport:
    """What a look at a result has found.

    Attributes:
        path: What was looked at.
        tiles, bytes: How many tiles are there, and their bytes.
        faults: What is wrong, ordered by level and place; the first 10,000 that were found.
        fault_count: How much is wrong.
        left_out: How many tiles are not there where the layout allows it.
        repaired: How many tiles and other files were made anew or removed.
        notes: One line each on what else there is to tell.
    """

    path: Path
    tiles: int
    bytes: int
    faults: tuple[Fault, ...] = ()
    fault_count: int = 0
    left_out: int = 0
    repaired: int = 0
    notes: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
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
        self.tiles = self.bytes = self.left_out = self.count = 0
        self.notes: list[str] = []
        self._faults: list[Fault] = []
        self._bad: dict[tuple[int, int], Spans] = {}
        self._taken: list[Findings] = []
        self._lock = threading.Lock()

    @property
    def seen(self) -> int:
        """How many tiles were looked at."""
        return self.tiles + self.left_out + self.count

    def saw(self, nbytes: int) -> None:
        """A tile is there."""
        with self._lock:
            self.tiles += 1
            self.bytes += nbytes

    def leave_out(self, count: int = 1) -> None:
        """Tiles are missing where they may be."""
        with self._lock:
            self.left_out += count

    def add(self, fault: Fault, count: int = 1) -> None:
        """Something is wrong, `count` times."""
        with self._lock:
            self.count += count
            if len(self._faults) < MOST_FAULTS:
                self._faults.append(fault)
            if fault.tile is not None:
                level, col, row = fault.tile
                self._bad.setdefault((level, row), Spans()).add(col, col + 1)

    def miss(self, fault: Fault) -> None:
        """A tile that was taken for one that may be left out may not."""
        with self._lock:
            self.left_out -= 1
        self.add(fault)

    def is_bad(self, tile: Tile) -> bool:
        """Whether something is wrong with a tile."""
        spans = self._bad.get((tile.level, tile.row))
        if spans is not None and spans.holds(tile.col, tile.col + 1):
            return True
        return any(other.is_bad(tile) for other in self._taken)

    def take(self, other: Findings) -> None:
        """All that others have found to be wrong."""
        with self._lock:
            self.count += other.count
            self._faults += other._faults[: MOST_FAULTS - len(self._faults)]
            self._taken.append(other)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Those that are kept, ordered by level, line and column; what is no tile comes last."""
        return tuple(sorted(self._faults, key=_place))

    def report(self, path: Path, repaired: int = 0) -> VerifyReport:
        """All of it."""
        return VerifyReport(
            path,
            self.tiles,
            self.bytes,
            self.faults,
            self.count,
            self.left_out,
            repaired,
            tuple(self.notes),
        )


def _place(fault: Fault) -> tuple[bool, int, int, int, str]:
    level, col, row = fault.tile or (0, 0, 0)
    return fault.tile is None, level, row, col, fault.name
