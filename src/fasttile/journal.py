"""What of an interrupted job is whole: a journal, synced together with the tiles that it names.

A resumable job writes down which tiles it has stored. A record must never be there without its
tiles, also when the power fails. So records wait in memory until everything stored so far is
known to last (`Log.settle`), and are appended then, in batches, by a thread of their own: the
job does not wait. The pauses between batches grow with the time gone by, so that a job that is
killed loses little of its work, however long it was, and short ones do not sync all the time.

The first line says what the job is: options, the source's size and time, versions. A job that
differs in any of it cannot be carried on. Each line has its CRC, and what follows one that is
torn is forgotten.
"""

from __future__ import annotations

import json
import threading
import time
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from .errors import TargetError

SHARDS = -1
"""In place of a level: the record is of shards, not of tiles."""

PAUSE_SHARE = 0.03
"""How long to wait between two batches, as a share of the time gone by since the start."""

PAUSE_SECONDS = (0.05, 5.0)
"""But at least, and at most, so long."""

Identity = Mapping[str, Any]
"""What a job is: names and values that JSON can hold."""


class Log(Protocol):
    """Where a journal lives."""

    def read(self) -> bytes:
        """All that was appended, or nothing."""

    def append(self, data: bytes) -> None:
        """Write further bytes; they last when it returns. The first ones replace what was there.

        Raises:
            TargetError: They cannot be written.
        """

    def settle(self) -> None:
        """Wait until all tiles that were stored before the call last.

        Raises:
            TargetError: Some of them cannot be written.
        """

    def close(self) -> None:
        """Let go of files."""


class Piece(NamedTuple):
    """Neighbouring tiles of a line that are whole, or left out as blank.

    Attributes:
        level, row: Their line; with `SHARDS` for a level, the rest counts shards.
        first, stop: From which to before which column.
        tiles, blanks, bytes: How many were stored, how many left out, and the bytes of the former.
    """

    level: int
    row: int
    first: int
    stop: int
    tiles: int
    blanks: int
    bytes: int


class Spans:
    """A set of whole numbers as spans that do not touch."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def add(self, first: int, stop: int) -> None:
        """All numbers from `first` to before `stop`."""
        low = bisect_left(self._stops, first)
        high = bisect_right(self._starts, stop)
        if low < high:
            first = min(first, self._starts[low])
            stop = max(stop, self._stops[high - 1])
        self._starts[low:high] = [first]
        self._stops[low:high] = [stop]

    def holds(self, first: int, stop: int) -> bool:
        """Whether all of these numbers are in it."""
        at = bisect_right(self._starts, first) - 1
        return at >= 0 and stop <= self._stops[at]


class Journal:
    """Remembers what is whole, and tells the next run.

    Args:
        log: Where it lives; the journal closes it.
        identity: What the job is.
        name: What to call the result in messages.

    Attributes:
        tiles, bytes, blanks: What the runs before have stored or left out.
        began: Whether there was a journal of this job.

    Raises:
        TargetError: The journal is of a job that differs; or it cannot be written.
    """

    def __init__(self, log: Log, identity: Identity, name: str) -> None:
        self.tiles = self.bytes = self.blanks = 0
        self._log = log
        self._whole: dict[tuple[int, int], Spans] = {}
        self._waiting: list[Piece] = []
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._noted = False
        self._closed = False
        self._failure: BaseException | None = None
        try:
            self.began = self._begin(identity, name)
        except BaseException:
            log.close()
            raise
        self._thread = threading.Thread(target=self._write, name="fasttile-journal", daemon=True)
        self._thread.start()

    def _begin(self, identity: Identity, name: str) -> bool:
        """Read what is there, if anything, and write it anew: its end may be torn."""
        found = lines(self._log.read())
        if found:
            check_same(json.loads(found[0]), identity, name)
            for text in found[1:]:
                self._take(Piece(*json.loads(text)))
        self._log.append(b"".join(map(line, found or [json.dumps(identity).encode()])))
        return bool(found)

    @property
    def empty(self) -> bool:
        """Whether nothing was ever noted in it."""
        return not (self._whole or self._noted)

    def holds(self, level: int, row: int, first: int, stop: int) -> bool:
        """Whether all of these tiles were whole when the run began."""
        spans = self._whole.get((level, row))
        return spans is not None and spans.holds(first, stop)

    def note(self, *piece: int) -> None:
        """Tiles have been handed to the disk or the store.

        Args:
            *piece: The fields of `Piece`.

        Raises:
            TargetError: An earlier batch could not be written.
        """
        with self._changed:
            if self._failure is not None:
                raise self._failure
            self._waiting.append(Piece(*piece))
            self._noted = True

    def settle(self) -> None:
        """Write what is waiting, and wait until all that was stored lasts.

        Raises:
            TargetError: Something cannot be written.
        """
        self._write_batch(always=True)
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Write what is waiting, and end; once more is nothing.

        Raises:
            TargetError: It cannot be written.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._log.close()
        if self._failure is not None:
            raise self._failure

    def _take(self, piece: Piece) -> None:
        if self.holds(*piece[:4]):
            return  # the line is there twice
        self._whole.setdefault((piece.level, piece.row), Spans()).add(piece.first, piece.stop)
        self.tiles += piece.tiles
        self.blanks += piece.blanks
        self.bytes += piece.bytes

    def _write(self) -> None:
        started = time.monotonic()
        low, high = PAUSE_SECONDS
        closed = False
        while not closed:
            pause = min(high, max(low, PAUSE_SHARE * (time.monotonic() - started)))
            with self._changed:
                closed = self._changed.wait_for(lambda: self._closed, pause)
            self._write_batch()

    def _write_batch(self, *, always: bool = False) -> None:
        with self._writing:
            with self._changed:
                batch, self._waiting = self._waiting, []
            if self._failure is not None or not (batch or always):
                return
            try:
                self._log.settle()
                if batch:
                    lines = (line(json.dumps(piece).encode()) for piece in batch)
                    self._log.append(b"".join(lines))
            except BaseException as failure:  # raised again where it can be told
                self._failure = failure


def line(text: bytes) -> bytes:
    """A line of a journal: its text, which has no line break, behind its CRC."""
    return b"%08x %s\n" % (zlib.crc32(text), text)


def lines(data: bytes) -> list[bytes]:
    """The texts of all lines up to the first one that is not as it was written."""
    found = []
    for written in data.split(b"\n")[:-1]:
        text = written[9:]
        if written[:9] != b"%08x " % zlib.crc32(text):
            break
        found.append(text)
    return found


def check_same(said: Identity, identity: Identity, name: str) -> None:
    """Refuse to mix two jobs.

    Args:
        said: What the interrupted one was, as JSON had it.
        identity: What this one is.
        name: What to call them.

    Raises:
        TargetError: They differ; it says in what.
    """
    wanted = json.loads(json.dumps(identity))
    for key in (*wanted, *said):
        was, now = said.get(key), wanted.get(key)
        if was != now:
            raise TargetError(
                f"{name} was begun with {key} {_told(was)}, which now is {_told(now)}: it cannot "
                "be carried on; make it as it was, or begin anew with overwrite"
            )


def _told(value: Any) -> str:
    return "not given" if value is None else str(value)
