"""Streams over an open file's bytes, each with a position of its own; nobody else's is moved."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

ReadAt = Callable[[int, int], "bytes | memoryview"]
"""Gives up to so many bytes (first) from a place on (second), in bytes."""

BUFFER = 2**18
"""Bytes that are read at a time: each read lets go of the GIL, and has to get it again."""

_moving = Lock()


class Reopened(io.BufferedReader):
    """A stream that asks for no more than there is: memory for all that is asked for comes first.

    Whoever parses a header may ask for as many bytes as it claims.

    Args:
        raw: Where the bytes come from.
        size: How many there are.
    """

    def __init__(self, raw: io.RawIOBase, size: int) -> None:
        super().__init__(raw, BUFFER)
        self._size = size

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes from the position on; negative or None: all."""
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


class Places(io.RawIOBase):
    """A raw stream over whatever can be read at any place.

    Args:
        read_at: Gives the bytes.
        size: How many there are.
        done: Called once, when the stream is closed.
    """

    def __init__(self, read_at: ReadAt, size: int, done: Callable[[], object]) -> None:
        self._read_at = read_at
        self._size = size
        self._done = done
        self._place = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer as far as the bytes reach."""
        room = memoryview(buffer).cast("B")
        count = min(len(room), max(0, self._size - self._place))
        data = self._read_at(count, self._place) if count else b""
        room[: len(data)] = data
        self._place += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place, counted as for any stream."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError(f"there is no place {start + offset} in a file")
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        """Where it is."""
        return self._place

    def close(self) -> None:
        """Let go of what the bytes lie in."""
        if not self.closed:
            self._done()
        super().close()


def reopened(descriptor: int, path: str | None, size: int) -> tuple[Reopened, int]:
    """A stream of its own over an open file, and its descriptor, which closes with it.

    A second descriptor made by `dup` would share its position with the first.

    Args:
        descriptor: Of the open file; it is neither moved nor closed.
        path: Where the file was found, if anywhere.
        size: Its size in bytes.

    Raises:
        OSError: The system has no descriptor left.
    """
    for place in (f"/proc/self/fd/{descriptor}", path):
        with suppress(OSError):
            file = io.FileIO(place) if place is not None and Path(place).is_file() else None
            if file is not None and os.path.samestat(os.fstat(file.fileno()), os.fstat(descriptor)):
                return Reopened(file, size), file.fileno()
            if file is not None:
                file.close()  # another one has taken its path
    # Some systems have no such way, and a file that was handed over may be forbidden to open.
    own = os.dup(descriptor)
    raw = Places(lambda count, place: _read_at(own, count, place), size, lambda: os.close(own))
    return Reopened(raw, size), own


def _read_at(descriptor: int, count: int, place: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(descriptor, count, place)
    with _moving:
        stood = os.lseek(descriptor, place, os.SEEK_SET)
        try:
            return os.read(descriptor, count)
        finally:
            os.lseek(descriptor, stood, os.SEEK_SET)
