"""An open file of which pieces are read at any place, by any thread; no size in it is trusted."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from ..errors import SourceError

LARGEST = 2**28
"""More bytes than this are not read at once, whatever a file says: no tile is as large."""


class OpenFile:
    """A regular file, open for reading.

    Args:
        path: Where it lies; also its name in messages.

    Attributes:
        size: Its size when it was opened, in bytes.

    Raises:
        SourceError: There is no such file, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            # To open a pipe would wait until somebody writes into it.
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(path, flags)
        except FileNotFoundError as error:
            raise SourceError(f"{path}: no such file") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SourceError(f"{path} cannot be opened: {reason}") from error
        found = os.fstat(self._descriptor)
        self.size = found.st_size
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise SourceError(f"{path} is not a regular file")

    def head(self, count: int) -> bytes:
        """The first bytes, or all if the file has fewer."""
        return self.piece(0, min(count, self.size), "the beginning")

    def piece(self, offset: int, count: int, what: str) -> bytes:
        """So many bytes from a place on.

        Args:
            offset, count: In bytes.
            what: What they are, for messages.

        Raises:
            SourceError: The file does not hold them, or they are more than `LARGEST`.
        """
        if offset < 0 or count < 0 or offset + count > self.size:
            raise SourceError(
                f"{self.path} is damaged: {what} takes {count} bytes at {offset}, but the file "
                f"has {self.size}"
            )
        if count > LARGEST:
            raise SourceError(f"{self.path}: {what} takes {count} bytes, more than {LARGEST}")
        try:
            data = self._read(offset, count)
        except OSError as error:
            raise SourceError(f"{self.path} cannot be read: {error.strerror}") from error
        if len(data) < count:
            raise SourceError(f"{self.path} shrank while it was being read")
        return data

    def close(self) -> None:
        """Close the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self, offset: int, count: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, count, offset)
        with self._lock:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            return os.read(self._descriptor, count)
