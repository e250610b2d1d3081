"""Progress of a cut or a batch: counts, the throttle, and cancelling by callback or token."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from fasttile.errors import CancelledError, OptionError

if TYPE_CHECKING:
    from fasttile.storage.journal import Journal

Progress = TypeVar("Progress")

PROGRESS_SECONDS = 0.1
"""Shortest time between two calls of a progress callback."""


@dataclass(frozen=True)
class CutProgress:
    """Tiles and bytes that a cut has stored so far.

    Attributes:
        tiles: Tiles that the sink has taken, and blank tiles that were skipped.
        tile_count: Number of tiles at the end.
        bytes: Encoded bytes taken.
    """

    tiles: int
    tile_count: int
    bytes: int


CutProgressCallback = Callable[[CutProgress], object]
"""Called from the calling thread at most every 0.1 s; returning False cancels the cut."""


class CancelToken:
    """Cancels runs from another thread, or from a signal handler.

    A run looks at its token where it would report progress, at most every 0.1 s, and twice a
    second while it waits for workers. One token may be passed to several runs, also at a time.

    Attributes:
        is_cancelled: True after `cancel`; it stays so.

    Example:
        >>> token = CancelToken()
        >>> token.cancel()
        >>> token.is_cancelled
        True
    """

    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        """Let the runs that have this token raise CancelledError; a second call does nothing."""
        self.is_cancelled = True


def with_cancel(
    callback: Callable[[Progress], object] | bool | None, cancel: CancelToken | None
) -> Callable[[Progress], object] | None:
    """A progress callback that also returns False once a token is cancelled.

    Args:
        callback: The caller's callback, if there is one; True for one that shows the progress.
        cancel: The caller's token. Default: the callback is returned as it is.

    Raises:
        CancelledError: The token is cancelled already.
        OptionError: It is no token.
    """
    if callback is True:
        from fasttile.jobs.shown_progress import shown_progress

        callback = shown_progress()
    elif callback is False:
        callback = None
    elif callback is not None and not callable(callback):
        raise OptionError(f"progress {callback!r}: expected a function, True or False")
    if cancel is None:
        return callback
    if not isinstance(cancel, CancelToken):
        raise OptionError(f"cancel {cancel!r}: expected a CancelToken")
    if cancel.is_cancelled:
        raise CancelledError("cancelled before it has begun")

    def ask(progress: Progress) -> object:
        if cancel.is_cancelled:
            return False
        answer = None if callback is None else callback(progress)
        return False if cancel.is_cancelled else answer

    return ask


@dataclass(frozen=True)
class TileCounts:
    """Numbers of tiles that a sink has taken.

    Attributes:
        tiles, bytes: Number of tiles, and their encoded bytes.
        blanks: Blank tiles that were skipped.
        resumed: How many of the tiles an interrupted run had stored before.
    """

    tiles: int
    blanks: int
    bytes: int
    resumed: int = 0

    @classmethod
    def from_journal(cls, journal: Journal | None) -> Self:
        """Counts of the tiles that an interrupted run had stored."""
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


class ProgressThrottle(Generic[Progress]):
    """Calls a progress callback at most every 0.1 s, and at the end.

    Args:
        callback: Receives the progress; returning False cancels. None: reports do nothing.
        total: Number of `unit` at the end.
        unit: Plural noun for the message of CancelledError.
    """

    def __init__(
        self, callback: Callable[[Progress], object] | None, total: int, unit: str
    ) -> None:
        self._callback = callback
        self._total = total
        self._unit = unit
        self._reported_at = 0.0

    def report(self, done: int, progress: Callable[[], Progress]) -> None:
        """Report that `done` of the total are done; `progress` builds the callback's argument.

        Raises:
            CancelledError: The callback returned False.
        """
        if self._callback is None:
            return
        now = time.monotonic()
        if now - self._reported_at < PROGRESS_SECONDS and done != self._total:
            return
        self._reported_at = now
        if self._callback(progress()) is False:
            raise CancelledError(f"cancelled after {done} of {self._total} {self._unit}")


class ProgressReporter:
    """Progress of one cut, in tiles and bytes.

    Args:
        callback: See `ProgressThrottle`.
        tile_count: Number of tiles at the end.
    """

    def __init__(self, callback: CutProgressCallback | None, tile_count: int) -> None:
        self._throttle = ProgressThrottle(callback, tile_count, "tiles")
        self._tile_count = tile_count
        self._offset = (0, 0)

    def add_offset(self, tiles: int, nbytes: int) -> None:
        """Add these numbers to all later reports."""
        self._offset = (tiles, nbytes)

    def __call__(self, tiles: int, nbytes: int) -> None:
        """Report the tiles that are done, and their bytes.

        Raises:
            CancelledError: The callback returned False.
        """
        done, total_bytes = tiles + self._offset[0], nbytes + self._offset[1]
        self._throttle.report(done, lambda: CutProgress(done, self._tile_count, total_bytes))
