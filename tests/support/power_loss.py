"""A disk that loses power: files that were not synced are lost or come back in any state.

The disk is the real one. It keeps account of which files of a work folder were synced since they
were last written. When the power fails, it looks what is there; what the job still does, it does in
vain. When the power is back, synced files are as they were; any other one is missing, empty,
cut short, of zeros, or complete, at random.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest

from fasttile import _files
from fasttile.errors import TargetError
from fasttile.storage import journal as folderlog
from fasttile.storage.journal import FolderLog
from fasttile.storage.publish import Publication

FILE_STATES = ("missing", "empty", "short", "zeros", "complete")
"""What may become of a file that was not synced."""

SYNC_SECONDS = 0.003
"""How long it takes to sync; long enough for some tiles to be written meanwhile."""


class PowerFailureError(TargetError):
    """The power has failed."""


class UnreliableDisk:
    """Where the work folder of one run lies, from one failure of the power to the next.

    Args:
        work: The work folder, hidden beside the target.
        fails_at: Before which event the power fails, counted from 0; or the kind of event ("write",
            "settle", "settled", "append", "appended", "publish") and which of this kind.

    Attributes:
        failed: Whether it has.
        unsynced: At the last look: what was to be published and could be lost.
    """

    def __init__(self, work: Path, failure_point: int | tuple[str, int]) -> None:
        self.failed = False
        self.unsynced_at_publish: set[str] = set()
        self._work = work
        self._failure_point = failure_point
        self._counts: dict[str, Iterator[int]] = {}
        self._unsynced_paths: set[str] = set()
        self._lock = threading.RLock()
        self._synced_journal = self._read_journal()
        self._files_at_failure: dict[str, bytes] = {}

    @contextmanager
    def intercept_writes(self) -> Iterator[None]:
        """Put all that is written to work folders on this disk."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(folderlog, "FolderLog", self._make_log_class())
            patch.setattr(_files, "write", self._wrap_write(_files.write))
            patch.setattr(Publication, "prepare", self._wrap_prepare(Publication.prepare))
            yield

    def restore_power(
        self, chance: random.Random, file_states: tuple[str, ...] = FILE_STATES
    ) -> None:
        """Make the work folder what it is after the failure."""
        assert self.failed
        rmtree(self._work, ignore_errors=True)
        self._work.mkdir()
        for path, data in sorted(self._files_at_failure.items()):
            state = chance.choice(file_states) if path in self._unsynced_paths else "complete"
            if state != "missing":
                place = self._work / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(_surviving_bytes(state, data, chance))
        journal = self._surviving_journal(chance)
        if journal is not None:
            (self._work / "journal").write_bytes(journal)

    def record_event(self, event_kind: str) -> None:
        """Something is about to happen.

        Raises:
            PowerFailureError: It does not.
        """
        with self._lock:
            number = next(self._counts.setdefault("", itertools.count()))
            of_kind = next(self._counts.setdefault(event_kind, itertools.count()))
            if not self.failed and self._failure_point in (number, (event_kind, of_kind)):
                self.failed = True
                self._journal_at_failure = self._read_journal()
                self._files_at_failure = self._read_files()
                self._unsynced_paths = set(self._unsynced_paths)
            if self.failed:
                raise PowerFailureError("the power has failed")

    def _read_files(self) -> dict[str, bytes]:
        """All files in the work folder but its own."""
        return {
            path.relative_to(self._work).as_posix(): path.read_bytes()
            for path in (self._work / "new").rglob("*")
            if path.is_file()
        }

    def _read_journal(self) -> bytes | None:
        path = self._work / "journal"
        return path.read_bytes() if path.exists() else None

    def _surviving_journal(self, chance: random.Random) -> bytes | None:
        """What was synced, and perhaps a part of what was on its way."""
        synced, seen = self._synced_journal, self._journal_at_failure
        if synced is None or seen is None or not seen.startswith(synced):
            return chance.choice((synced, seen))  # a new one appears by a rename
        rest = seen[len(synced) :]
        state = chance.choice(FILE_STATES)
        return synced + (b"" if state == "missing" else _surviving_bytes(state, rest, chance))

    def _make_log_class(self) -> type[FolderLog]:
        disk = self

        class Log(FolderLog):
            """A journal on this disk."""

            def sync_tiles(self) -> None:
                disk.record_event("settle")
                with disk._lock:
                    settling = set(disk._unsynced_paths)
                    disk._unsynced_paths.clear()
                try:
                    time.sleep(SYNC_SECONDS)  # what is written meanwhile is not synced
                    disk.record_event("settled")
                except PowerFailureError:
                    disk._unsynced_paths |= settling  # it did not come to its end
                    raise

            def append(self, data: bytes) -> None:
                disk.record_event("append")
                super().append(data)
                disk.record_event("appended")
                with disk._lock:
                    disk._synced_journal = disk._read_journal()

        return Log

    def _wrap_write(self, write: Callable[..., int]) -> Callable[..., int]:
        def written(folder: int, path: bytes, *how: Any) -> int:
            self.record_event("write")
            # A sync that runs meanwhile may come too early for it.
            self._mark_unsynced(f"new/{os.fsdecode(path)}")
            failed = write(folder, path, *how)
            self._mark_unsynced(f"new/{os.fsdecode(path)}")
            return failed

        return written

    def _wrap_prepare(self, prepare: Callable[..., None]) -> Callable[..., None]:
        def checked(publication: Publication, *, overwrite: bool) -> None:
            self.record_event("publish")
            self.unsynced_at_publish = self._unsynced_paths & set(self._read_files())
            prepare(publication, overwrite=overwrite)

        return checked

    def _mark_unsynced(self, path: str) -> None:
        with self._lock:
            if not self.failed:
                self._unsynced_paths.add(path)


def _surviving_bytes(file_state: str, data: bytes, chance: random.Random) -> bytes:
    """What is left of some bytes."""
    if file_state == "empty":
        return b""
    if file_state == "short":
        return data[: chance.randrange(len(data) + 1)]
    if file_state == "zeros":
        kept = chance.randrange(len(data) + 1)
        return data[:kept] + bytes(len(data) - kept)
    return data
