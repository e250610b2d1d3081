"""A disk whose power fails: what was not synced is lost, or comes back in any state.

The disk is the real one. It keeps account of which files of a work folder were synced since they
were last written. When the power fails, it looks what is there; what the job still does, it does in
vain. When the power is back, synced files are as they were; any other one is missing, empty,
cut short, of zeros, or whole, as chance will have it.
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
from fasttile.sinks import folderlog
from fasttile.sinks.folderlog import FolderLog
from fasttile.sinks.publish import Publication

FATES = ("missing", "empty", "short", "zeros", "whole")
"""What may become of a file that was not synced."""

SYNC_SECONDS = 0.003
"""How long it takes to sync; long enough for some tiles to be written meanwhile."""


class PowerFailureError(TargetError):
    """The power has failed."""


class Disk:
    """Where the work folder of one run lies, from one failure of the power to the next.

    Args:
        work: The work folder, hidden beside the target.
        fails_at: Before which event the power fails, counted from 0; or the kind of event ("write",
            "settle", "settled", "append", "appended", "publish") and which of this kind.

    Attributes:
        failed: Whether it has.
        unsynced: At the last look: what was to be published and could be lost.
    """

    def __init__(self, work: Path, fails_at: int | tuple[str, int]) -> None:
        self.failed = False
        self.unsynced: set[str] = set()
        self._work = work
        self._fails_at = fails_at
        self._counts: dict[str, Iterator[int]] = {}
        self._dirty: set[str] = set()
        self._lock = threading.RLock()
        self._journal = self._read_journal()
        self._found: dict[str, bytes] = {}

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Put all that is written to work folders on this disk."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(folderlog, "FolderLog", self._log())
            patch.setattr(_files, "write", self._writing(_files.write))
            patch.setattr(Publication, "prepare", self._preparing(Publication.prepare))
            yield

    def power_back(self, chance: random.Random, fates: tuple[str, ...] = FATES) -> None:
        """Make the work folder what it is after the failure."""
        assert self.failed
        rmtree(self._work, ignore_errors=True)
        self._work.mkdir()
        for path, data in sorted(self._found.items()):
            fate = chance.choice(fates) if path in self._dirty else "whole"
            if fate != "missing":
                place = self._work / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(_after(fate, data, chance))
        journal = self._left_of_journal(chance)
        if journal is not None:
            (self._work / "journal").write_bytes(journal)

    def event(self, kind: str) -> None:
        """Something is about to happen.

        Raises:
            PowerFailureError: It does not.
        """
        with self._lock:
            number = next(self._counts.setdefault("", itertools.count()))
            of_kind = next(self._counts.setdefault(kind, itertools.count()))
            if not self.failed and self._fails_at in (number, (kind, of_kind)):
                self.failed = True
                self._seen_journal = self._read_journal()
                self._found = self._files()
                self._dirty = set(self._dirty)
            if self.failed:
                raise PowerFailureError("the power has failed")

    def _files(self) -> dict[str, bytes]:
        """All files in the work folder but its own."""
        return {
            path.relative_to(self._work).as_posix(): path.read_bytes()
            for path in (self._work / "new").rglob("*")
            if path.is_file()
        }

    def _read_journal(self) -> bytes | None:
        path = self._work / "journal"
        return path.read_bytes() if path.exists() else None

    def _left_of_journal(self, chance: random.Random) -> bytes | None:
        """What was synced, and perhaps a part of what was on its way."""
        synced, seen = self._journal, self._seen_journal
        if synced is None or seen is None or not seen.startswith(synced):
            return chance.choice((synced, seen))  # a new one appears by a rename
        rest = seen[len(synced) :]
        fate = chance.choice(FATES)
        return synced + (b"" if fate == "missing" else _after(fate, rest, chance))

    def _log(self) -> type[FolderLog]:
        disk = self

        class Log(FolderLog):
            """A journal on this disk."""

            def settle(self) -> None:
                disk.event("settle")
                with disk._lock:
                    settling = set(disk._dirty)
                    disk._dirty.clear()
                try:
                    time.sleep(SYNC_SECONDS)  # what is written meanwhile is not synced
                    disk.event("settled")
                except PowerFailureError:
                    disk._dirty |= settling  # it did not come to its end
                    raise

            def append(self, data: bytes) -> None:
                disk.event("append")
                super().append(data)
                disk.event("appended")
                with disk._lock:
                    disk._journal = disk._read_journal()

        return Log

    def _writing(self, write: Callable[..., int]) -> Callable[..., int]:
        def written(path: bytes, *how: Any) -> int:
            self.event("write")
            # A sync that runs meanwhile may come too early for it.
            self._mark(os.fsdecode(path))
            failed = write(path, *how)
            self._mark(os.fsdecode(path))
            return failed

        return written

    def _preparing(self, prepare: Callable[..., None]) -> Callable[..., None]:
        def checked(publication: Publication, *, overwrite: bool) -> None:
            self.event("publish")
            self.unsynced = self._dirty & set(self._files())
            prepare(publication, overwrite=overwrite)

        return checked

    def _mark(self, path: str) -> None:
        with self._lock:
            if not self.failed:
                self._dirty.add(Path(path).relative_to(self._work).as_posix())


def _after(fate: str, data: bytes, chance: random.Random) -> bytes:
    """What is left of some bytes."""
    if fate == "empty":
        return b""
    if fate == "short":
        return data[: chance.randrange(len(data) + 1)]
    if fate == "zeros":
        kept = chance.randrange(len(data) + 1)
        return data[:kept] + bytes(len(data) - kept)
    return data
