"""A further file in the work folder, in which data wait until their place is known."""

from __future__ import annotations

import os
from pathlib import Path

from .oserrors import refusal, telling


class Kept:
    """A file that grows at its end and is read anywhere; whoever removes its folder removes it.

    Args:
        path: Where it is made.

    Attributes:
        size: How many bytes it has.

    Raises:
        TargetError: It cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = 0
        with telling("write", path):
            self._file = path.open("xb+", buffering=0)

    def append(self, data: bytes | bytearray) -> int:
        """Write at the end; gives where.

        Raises:
            TargetError: The system refused.
        """
        start = self.size
        written = 0
        try:
            while written < len(data):
                rest = memoryview(data)[written:] if written else data
                written += self._file.write(rest) or 0
        except ValueError:  # it is closed
            raise ValueError("the sink has ended; it takes no more tiles") from None
        except OSError as error:
            raise refusal("write", self._path, error) from error
        self.size += written
        return start

    def read(self, offset: int, size: int) -> bytes:
        """What was written there.

        Raises:
            TargetError: The system refused.
        """
        with telling("read", self._path):
            if hasattr(os, "pread"):
                return os.pread(self._file.fileno(), size, offset)
            self._file.seek(offset)
            data = self._file.read(size)
            self._file.seek(0, os.SEEK_END)
            return data

    def close(self) -> None:
        """Let go of it; once more is nothing."""
        self._file.close()
