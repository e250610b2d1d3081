"""TODO."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from fasttile.errors import CancelledError

if TYPE_CHECKING:
    from fasttile.storage.journal import Journal

PROGRESS_SECONDS = 0.1
"""How often the progress callback is called, at most."""


@dataclass(frozen=True)
class CutProgress:
    """How far a cut has come.

    Attributes:
        tiles: Tiles that the sink has taken, or that were left out.
        tile_count: How many there will be.
        bytes: Encoded bytes taken.
    """

    tiles: int
    tile_count: int
    bytes: int


CutProgressCallback = Callable[[CutProgress], object]
"""Called now and then from the calling thread; the cut is cancelled if it gives False."""


@dataclass(frozen=True)
class TileCounts:
    """What came into a sink.

    Attributes:
        tiles, bytes: How many tiles, and their encoded bytes.
        blanks: How many were left out because they are blank.
        resumed: How many of the tiles a run before had stored.
    """

    tiles: int
    blanks: int
    bytes: int
    resumed: int = 0

    @classmethod
    def from_journal(cls, journal: Journal | None) -> Self:
        """What a run before had stored."""
        if journal is None:
            return cls(0, 0, 0)
        return cls(journal.tiles, journal.blanks, journal.bytes, journal.tiles)

    def __add__(self, more: TileCounts) -> TileCounts:
        return TileCounts(
            self.tiles + more.tiles,
            self.blanks + more.blanks,
            self.bytes + more.bytes,
            self.resumed + more.resumed,
        )

    def __sub__(self, less: TileCounts) -> TileCounts:
        return TileCounts(
            self.tiles - less.tiles,
            self.blanks - less.blanks,
            self.bytes - less.bytes,
            self.resumed - less.resumed,
        )


class ProgressReporter:
    """Tells a caller how far it is, not too often.

    Args:
        callback: Who wants to know, if anybody.
        tile_count: How many tiles there will be.
    """

    def __init__(self, callback: CutProgressCallback | None, tile_count: int) -> None:
        self._callback = callback
        self._tile_count = tile_count
        self._reported_at = 0.0
        self._offset = (0, 0)

    def add_offset(self, tiles: int, nbytes: int) -> None:
        """Add so many tiles and bytes to whatever is told from now on."""
        self._offset = (tiles, nbytes)

    def __call__(self, tiles: int, nbytes: int) -> None:
        """So many tiles are done, with so many bytes.

        Raises:
            Cancelled: The callback gave False.
        """
        now = time.monotonic()
        if self._callback is None:
            return
        tiles, nbytes = tiles + self._offset[0], nbytes + self._offset[1]
        if now - self._reported_at < PROGRESS_SECONDS and tiles != self._tile_count:
            return
        self._reported_at = now
        if self._callback(CutProgress(tiles, self._tile_count, nbytes)) is False:
            raise CancelledError(f"cancelled after {tiles} of {self._tile_count} tiles")
