"""Journal of an interrupted job: the complete tiles, synced before they are recorded.

A resumable job records which tiles it has stored. A record must never exist without its tiles, even
after a loss of power. So records wait in memory until all stored tiles are synced
(`JournalLog.sync_tiles`); then a thread appends them in batches, and the job does not wait. The
pauses between batches grow with the elapsed time: a killed job loses a small share of its work, and
a short job does not sync all the time.

The first line identifies the job: options, the source's size and time, versions. A job that differs
in any of these cannot be resumed. Each line has a CRC; all lines after a damaged one are ignored.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from fasttile._files import sync
from fasttile.errors import TargetError
from fasttile.storage.folders import Folder, rename
from fasttile.storage.paths import wrap_os_errors

SHARD_LEVEL = -1
"""The level of a record of shards, not of tiles."""

PAUSE_FRACTION = 0.03
"""The pause between two batches, as a share of the time since the start."""

PAUSE_SECONDS = (0.05, 5.0)
"""The shortest and the longest pause, in seconds."""

MAX_JOURNAL_BYTES = 2**30
"""The most bytes of a journal that is read; a record of a million rows of tiles has 50 MB."""

JobFingerprint = Mapping[str, Any]
"""The identity of a job: names and values that JSON can hold."""


class JournalLog(Protocol):
    """The storage of a journal."""

    def read(self) -> bytes:
        """All that was appended, or nothing."""

    def append(self, data: bytes) -> None:
        """Append bytes, synced on return. The first ones replace an older journal.

        Raises:
            TargetError: They cannot be written.
        """

    def sync_tiles(self) -> None:
        """Sync all tiles that were stored before the call.

        Raises:
            TargetError: Some of them cannot be written.
        """

    def close(self) -> None:
        """Close files."""


class JournalRecord(NamedTuple):
    """Neighbouring tiles of a row that are complete, or left out as blank.

    Attributes:
        level, row: Their row; for the level `SHARD_LEVEL` the other fields are about shards.
        first, stop: The first column, and the one after the last.
        tiles, blanks, bytes: The numbers of stored and omitted tiles, and the bytes of the stored.
    """

    level: int
    row: int
    first: int
    stop: int
    tiles: int
    blanks: int
    bytes: int


class IntervalSet:
    """A set of integers as intervals that do not touch."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def add(self, first: int, stop: int) -> None:
        """Add all numbers from `first` to before `stop`."""
        low = bisect_left(self._stops, first)
        high = bisect_right(self._starts, stop)
        if low < high:
            first = min(first, self._starts[low])
            stop = max(stop, self._stops[high - 1])
        self._starts[low:high] = [first]
        self._stops[low:high] = [stop]

    def contains(self, first: int, stop: int) -> bool:
        """True if all of these numbers are in it."""
        at = bisect_right(self._starts, first) - 1
        return at >= 0 and stop <= self._stops[at]


class Journal:
    """Records the complete tiles for the next run.

    Args:
        log: Its storage; the journal closes it.
        fingerprint: The identity of the job.
        name: The name of the result in messages.
        is_stored: Says of each record if all that it lists is there; what is not, is made again.
            Default: the records are believed.

    Attributes:
        tiles, bytes, blanks: The numbers that earlier runs have stored or left out.
        is_resumed: True if there was a journal of this job.

    Raises:
        TargetError: The journal is of a job that differs; or it cannot be written.
    """

    def __init__(
        self,
        log: JournalLog,
        fingerprint: JobFingerprint,
        name: str,
        is_stored: Callable[[Sequence[JournalRecord]], Sequence[bool]] | None = None,
    ) -> None:
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
            self.is_resumed = self._load_or_create(fingerprint, name, is_stored)
        except BaseException:
            log.close()
            raise
        self._thread = threading.Thread(
            target=self._write_loop, name="fasttile-journal", daemon=True
        )
        self._thread.start()

    def _load_or_create(
        self,
        fingerprint: JobFingerprint,
        name: str,
        is_stored: Callable[[Sequence[JournalRecord]], Sequence[bool]] | None,
    ) -> bool:
        """Read and rewrite an older journal, whose end may be damaged; True if there is one."""
        lines = decode_lines(self._log.read())
        kept = [json.dumps(fingerprint).encode()]
        if lines:
            kept = lines[:1]
            check_same_fingerprint(parse_object(lines[0], name), fingerprint, name)
            records = [_parse_record(text, name) for text in lines[1:]]
            flags = is_stored(records) if is_stored is not None else [True] * len(records)
            for text, record, flag in zip(lines[1:], records, flags, strict=True):
                if flag and not self.contains(*record[:4]):  # a line may be there twice
                    self._apply(record)
                    kept.append(text)
        self._log.append(b"".join(map(encode_line, kept)))
        return bool(lines)

    @property
    def is_empty(self) -> bool:
        """True if it has no records."""
        return not (self._stored or self._has_records)

    def contains(self, level: int, row: int, first: int, stop: int) -> bool:
        """True if all of these tiles were complete when the run started."""
        spans = self._stored.get((level, row))
        return spans is not None and spans.contains(first, stop)

    def record(self, *fields: int) -> None:
        """Record tiles that were written to the disk or the store.

        Args:
            *fields: The fields of a JournalRecord.

        Raises:
            TargetError: An earlier batch could not be written.
        """
        with self._changed:
            if self._failure is not None:
                raise self._failure
            self._pending.append(JournalRecord(*fields))
            self._has_records = True

    def flush(self) -> None:
        """Write waiting records, after a sync of all stored tiles.

        Raises:
            TargetError: Something cannot be written.
        """
        self._write_batch(always=True)
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Write waiting records, and close; a second call does nothing.

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
            except BaseException as failure:  # raised by the next call of record, flush or close
                self._failure = failure


def parse_object(text: bytes, name: str) -> dict[str, Any]:
    """An object in JSON that a run has written.

    Args:
        text: The text; anyone may have written it.
        name: The name of the result in messages.

    Raises:
        TargetError: It is no object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise damaged_error(name)
    return value


def damaged_error(name: str) -> TargetError:
    """The error for entries of an interrupted run that no run writes."""
    return TargetError(
        f"{name}: the list of what an interrupted run has done is damaged; "
        "start over with overwrite"
    )


def _parse_record(text: bytes, name: str) -> JournalRecord:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise damaged_error(name) from None
    is_known = isinstance(values, list) and len(values) == len(JournalRecord._fields)
    if not is_known or not all(type(value) is int and -1 <= value < 2**63 for value in values):
        raise damaged_error(name)
    record = JournalRecord(*values)
    if record.first >= record.stop or min(record[1:]) < 0:
        raise damaged_error(name)
    return record


def encode_line(text: bytes) -> bytes:
    """A line of a journal: the CRC, and the text, which has no line break."""
    return b"%08x %s\n" % (zlib.crc32(text), text)


def decode_lines(data: bytes) -> list[bytes]:
    """The texts of all lines before the first damaged one."""
    texts = []
    for written in data.split(b"\n")[:-1]:
        text = written[9:]
        if written[:9] != b"%08x " % zlib.crc32(text):
            break
        texts.append(text)
    return texts


def check_same_fingerprint(stored: JobFingerprint, fingerprint: JobFingerprint, name: str) -> None:
    """Refuse to mix two jobs.

    Args:
        stored: The identity of the interrupted job, as read from JSON.
        fingerprint: The identity of this job.
        name: Its name in messages.

    Raises:
        TargetError: They differ; the message names the first difference.
    """
    wanted = json.loads(json.dumps(fingerprint))
    for key in (*wanted, *stored):
        was, now = stored.get(key), wanted.get(key)
        if was != now:
            raise TargetError(
                f"{name} was begun with {key} {_format(was)}, which now is {_format(now)}: it "
                "cannot be resumed; restore it, or start over with overwrite"
            )


def _format(value: Any) -> str:
    return "not given" if value is None else str(value)


class FolderLog:
    """A journal as a file in the work folder, on the file system of its tiles.

    To sync thousands of small files one by one takes longer than to write them; so the file
    system is synced at once (syncfs, or sync where there is no such call).

    Args:
        folder: The open work folder.
        name: The file's name.

    Raises:
        TargetError: The folder cannot be opened.
    """

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder = folder
        self._name = name
        self._path = folder.path / name
        self._handles: list[int] = []
        with wrap_os_errors("work in", folder.path):
            # Opened before anything is written: errors are reported to handles that are open.
            self._sync_handle = folder.open_to_read()
            self._handles.append(self._sync_handle)
        self._file: int | None = None

    def read(self) -> bytes:
        """All of the journal."""
        with wrap_os_errors("read", self._path):
            return self._folder.read_file(self._name, MAX_JOURNAL_BYTES) or b""

    def append(self, data: bytes) -> None:
        """Write and sync further bytes; the first ones replace the older journal."""
        with wrap_os_errors("write", self._path):
            if self._file is not None:
                _write_synced(self._file, data)
                return
            new = f"{self._name}.new"
            self._folder.remove_file(new)
            file = self._folder.create_file(new)
            self._handles.append(file)
            _write_synced(file, data)
            rename(self._folder, new, self._folder, self._name)
            os.fsync(self._sync_handle)
            self._file = file

    def sync_tiles(self) -> None:
        """Sync the file system."""
        failed = sync(self._sync_handle)
        if failed == errno.ENOSYS:
            raise TargetError(
                "resuming needs syncfs, which this system does not have; cut without --resume"
            )
        with wrap_os_errors("sync", self._folder.path):
            if failed:
                raise OSError(failed, os.strerror(failed))

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        handles, self._handles = self._handles, []
        for handle in handles:
            with suppress(OSError):  # all records are synced
                os.close(handle)


def _write_synced(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
    os.fsync(file)
