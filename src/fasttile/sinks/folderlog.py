"""A journal in a work folder, on the same file system as the tiles that it names."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from .._files import sync
from ..errors import TargetError
from .oserrors import telling


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
        with telling("work in", folder):
            # Opened before anything is written: what goes wrong is told to handles that are open.
            self._syncing = self._opened(folder, os.O_RDONLY)
        self._file: int | None = None

    def read(self) -> bytes:
        """All of the journal."""
        with telling("read", self._path):
            with suppress(FileNotFoundError):
                return self._path.read_bytes()
            return b""

    def append(self, data: bytes) -> None:
        """Write and sync further bytes; the first ones replace the journal as a whole."""
        with telling("write", self._path):
            if self._file is not None:
                _write(self._file, data)
                return
            new = self._path.with_name(f"{self._path.name}.new")
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
            file = self._opened(new, flags)
            _write(file, data)
            new.replace(self._path)
            os.fsync(self._syncing)
            self._file = file

    def settle(self) -> None:
        """Sync the file system."""
        failed = sync(self._syncing)
        if failed == errno.ENOSYS:
            raise TargetError("this system has no way to sync a job that can be carried on")
        with telling("sync", self._folder):
            if failed:
                raise OSError(failed, os.strerror(failed))

    def close(self) -> None:
        """Close the file; once more is nothing."""
        handles, self._handles = self._handles, []
        for handle in handles:
            with suppress(OSError):  # all that counts was synced
                os.close(handle)

    def _opened(self, path: Path, flags: int) -> int:
        handle = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
        self._handles.append(handle)
        return handle


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
    os.fsync(file)
