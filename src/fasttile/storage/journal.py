"""Journal of the complete tiles of a job, synced together with the tiles that it names.

A resumable job writes down which tiles it has stored. A record must never be there without its
tiles, also when the power fails. So records wait in memory until everything stored so far is
known to last (`Log.settle`), and are appended then, in batches, by a thread of their own: the
job does not wait. The pauses between batches grow with the time gone by, so that a job that is
killed loses little of its work, however long it was, and short ones do not sync all the time.

The first line says what the job is: options, the source's size and time, versions. A job that
differs in any of it cannot be resumed. Each line has its CRC, and what follows one that is
torn is forgotten.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from fasttile._files import sync
from fasttile.errors import TargetError
from fasttile.storage.paths import wrap_os_errors

SHARD_LEVEL = -1
"""In place of a level: the record is of shards, not of tiles."""

PAUSE_FRACTION = 0.03
"""How long to wait between two batches, as a share of the time gone by since the start."""

PAUSE_SECONDS = (0.05, 5.0)
"""But at least, and at most, so long."""

JobFingerprint = Mapping[str, Any]
"""What a job is: names and values that JSON can hold."""


class JournalLog(Protocol):
    """Where a journal lives."""

    def read(self) -> bytes:
        """All that was appended, or nothing."""

    def append(self, data: bytes) -> None:
        """Write further bytes; they last when it returns. The first ones replace what was there.

        Raises:
            TargetError: They cannot be written.
        """

    def sync_tiles(self) -> None:
        """Wait until all tiles that were stored before the call last.

        Raises:
            TargetError: Some of them cannot be written.
        """

    def close(self) -> None:
        """Close all files."""


class JournalRecord(NamedTuple):
    """Neighbouring tiles of a line that are complete, or skipped as blank.

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


class IntervalSet:
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

    def contains(self, first: int, stop: int) -> bool:
        """Whether all of these numbers are in it."""
        at = bisect_right(self._starts, first) - 1
        return at >= 0 and stop <= self._stops[at]


class Journal:
    """Records complete tiles for the next run.

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

    def __init__(self, log: JournalLog, fingerprint: JobFingerprint, name: str) -> None:
        self.tiles = self.bytes = self.blanks = 0
        self._log = log
        self._stored: dict[tuple[int, int], IntervalSet] = {}
        self._pending: list[JournalRecord] = []
        self._changed = threading.Condition()
        self._write_lock = threading.Lock()
        self._has_records = False
        self._is_closed = False
        self._failure: BaseException | None = None
        try:
            self.is_resumed = self._load_or_create(fingerprint, name)
        except BaseException:
            log.close()
            raise
        self._thread = threading.Thread(
            target=self._write_loop, name="fasttile-journal", daemon=True
        )
        self._thread.start()

    def _load_or_create(self, fingerprint: JobFingerprint, name: str) -> bool:
        """Read the existing journal, and write it again: its end may be torn."""
        found = decode_lines(self._log.read())
        if found:
            check_same_fingerprint(json.loads(found[0]), fingerprint, name)
            for text in found[1:]:
                self._apply(JournalRecord(*json.loads(text)))
        self._log.append(b"".join(map(encode_line, found or [json.dumps(fingerprint).encode()])))
        return bool(found)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever noted in it."""
        return not (self._stored or self._has_records)

    def contains(self, level: int, row: int, first: int, stop: int) -> bool:
        """True if all of these tiles were complete when the run began."""
        spans = self._stored.get((level, row))
        return spans is not None and spans.contains(first, stop)

    def record(self, *fields: int) -> None:
        """Tiles have been handed to the disk or the store.

        Args:
            *piece: The fields of `Piece`.

        Raises:
            TargetError: An earlier batch could not be written.
        """
        with self._changed:
            if self._failure is not None:
                raise self._failure
            self._pending.append(JournalRecord(*fields))
            self._has_records = True

    def flush(self) -> None:
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
            self._is_closed = True
            self._changed.notify()
        self._thread.join()
        self._log.close()
        if self._failure is not None:
            raise self._failure

    def _apply(self, record: JournalRecord) -> None:
        if self.contains(*record[:4]):
            return  # the line is there twice
        self._stored.setdefault((record.level, record.row), IntervalSet()).add(
            record.first, record.stop
        )
        self.tiles += record.tiles
        self.blanks += record.blanks
        self.bytes += record.bytes

    def _write_loop(self) -> None:
        started = time.monotonic()
        low, high = PAUSE_SECONDS
        closed = False
        while not closed:
            pause = min(high, max(low, PAUSE_FRACTION * (time.monotonic() - started)))
            with self._changed:
                closed = self._changed.wait_for(lambda: self._is_closed, pause)
            self._write_batch()

    def _write_batch(self, *, always: bool = False) -> None:
        with self._write_lock:
            with self._changed:
                batch, self._pending = self._pending, []
            if self._failure is not None or not (batch or always):
                return
            try:
                self._log.sync_tiles()
                if batch:
                    lines = (encode_line(json.dumps(piece).encode()) for piece in batch)
                    self._log.append(b"".join(lines))
            except BaseException as failure:  # raised again in the calling thread
                self._failure = failure


def encode_line(text: bytes) -> bytes:
    """A line of a journal: its text, which has no line break, behind its CRC."""
    return b"%08x %s\n" % (zlib.crc32(text), text)


def decode_lines(data: bytes) -> list[bytes]:
    """The texts of all lines up to the first one that is not as it was written."""
    found = []
    for written in data.split(b"\n")[:-1]:
        text = written[9:]
        if written[:9] != b"%08x " % zlib.crc32(text):
            break
        found.append(text)
    return found


def check_same_fingerprint(stored: JobFingerprint, fingerprint: JobFingerprint, name: str) -> None:
    """Refuse to mix two jobs.

    Args:
        said: What the interrupted one was, as JSON had it.
        identity: What this one is.
        name: What to call them.

    Raises:
        TargetError: They differ; it says in what.
    """
    wanted = json.loads(json.dumps(fingerprint))
    for key in (*wanted, *stored):
        was, now = stored.get(key), wanted.get(key)
        if was != now:
            raise TargetError(
                f"{name} was begun with {key} {_format(was)}, which now is {_format(now)}: it cannot "
                "be resumed; restore it, or start over with overwrite"
            )


def _format(value: Any) -> str:
    return "not given" if value is None else str(value)


# A journal in a work folder, on the same file system as the tiles that it names.


class FolderLog:
    """A file in a folder.

    To sync thousands of small files one by one would take longer than to write them; so all
    that the file system has is synced at once (syncfs, or sync where there is no such call).

    Args:
        folder: Which; it exists.
        name: The file's.

    Raises:
        TargetError: The system refuses.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._path = folder / name
        self._handles: list[int] = []
        with wrap_os_errors("work in", folder):
            # Opened before anything is written: errors are reported to open handles only.
            self._sync_handle = self._open_handle(folder, os.O_RDONLY)
        self._file: int | None = None

    def read(self) -> bytes:
        """All of the journal."""
        with wrap_os_errors("read", self._path):
            with suppress(FileNotFoundError):
                return self._path.read_bytes()
            return b""

    def append(self, data: bytes) -> None:
        """Write and sync further bytes; the first ones replace the entire journal."""
        with wrap_os_errors("write", self._path):
            if self._file is not None:
                _write_synced(self._file, data)
                return
            new = self._path.with_name(f"{self._path.name}.new")
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
            file = self._open_handle(new, flags)
            _write_synced(file, data)
            new.replace(self._path)
            os.fsync(self._sync_handle)
            self._file = file

    def sync_tiles(self) -> None:
        """Sync the file system."""
        failed = sync(self._sync_handle)
        if failed == errno.ENOSYS:
            raise TargetError(
                "resuming needs syncfs, which this system does not have; cut without --resume"
            )
        with wrap_os_errors("sync", self._folder):
            if failed:
                raise OSError(failed, os.strerror(failed))

    def close(self) -> None:
        """Close the file; once more is nothing."""
        handles, self._handles = self._handles, []
        for handle in handles:
            with suppress(OSError):  # all that counts was synced
                os.close(handle)

    def _open_handle(self, path: Path, flags: int) -> int:
        handle = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
        self._handles.append(handle)
        return handle


def _write_synced(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
    os.fsync(file)
