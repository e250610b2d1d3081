"""A file that grows at its end; what comes is gathered, and written in large pieces.

Each call that writes lets go of the GIL, and to have it back among busy threads costs more than the
call. A tile is far smaller than what is worth that.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from io import BufferedRandom
from pathlib import Path
from typing import cast

from ..errors import TargetError
from .oserrors import refusal, telling

Piece = bytes | bytearray | memoryview

GATHERED_BYTES = 2**18


class GrowingFile:
    """A new file, to be written at its end, and read and mended anywhere.

    Args:
        path: Where it is made; nothing stands there. Whoever removes its folder removes it.

    Attributes:
        size: How many bytes it has, gathered ones included.

    Raises:
        TargetError: The system refused.
    """

    _file: BufferedRandom | None = None

    def __init__(self, path: Path) -> None:
        self.size = 0
        self._path = path
        with telling("write", path):
            self._file = cast(BufferedRandom, path.open("xb+", buffering=GATHERED_BYTES))

    def append(self, *pieces: Piece) -> int:
        """Write at the end; gives where the first piece begins.

        Raises:
            TargetError: The system refused, these pieces or earlier ones.
            ValueError: The file is closed.
        """
        file, start = self._file, self.size
        if file is None:
            raise _ended()
        try:
            for piece in pieces:
                self.size += file.write(piece)
        except OSError as error:
            raise self._lost(error) from error
        return start

    def flush(self) -> int:
        """Write what is gathered; gives the system's descriptor of the file.

        Raises:
            TargetError: The system refused.
            ValueError: The file is closed.
        """
        if self._file is None:
            raise _ended()
        try:
            self._file.flush()
        except OSError as error:
            raise self._lost(error) from error
        return self._file.fileno()

    def mend(self, data: bytes, offset: int) -> None:
        """Write over what is there.

        Raises:
            TargetError: The system refused.
            ValueError: The file is closed.
        """
        if self._file is None:
            raise _ended()
        try:
            self._file.seek(offset)
            self._file.write(data)
            self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise self._lost(error) from error

    def read(self, offset: int, size: int) -> bytes:
        """What stands at a place.

        Raises:
            TargetError: The system refused, or somebody has cut the file.
            ValueError: The file is closed.
        """
        descriptor = self.flush()
        with telling("read", self._path):
            data = _read_at(descriptor, size, offset)
            if len(data) < size:
                raise OSError(errno.EIO, "it was cut short")
            return data

    def close(self) -> None:
        """Write what is gathered, and close; once more is nothing.

        Raises:
            TargetError: The system refused: some file systems tell only now.
        """
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                raise self._lost(error) from error
            self._file = None

    def drop(self) -> None:
        """Close it as it is; once more is nothing. Never raises."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.raw.close()  # or what is gathered would be tried again

    def _lost(self, error: OSError) -> TargetError:
        """Nobody knows how far a write came, so there is no other after it."""
        self.drop()
        return refusal("write", self._path, error)


def _ended() -> ValueError:
    return ValueError("the sink has ended; it takes no more tiles")


def _sought(descriptor: int, size: int, offset: int) -> bytes:
    end = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, offset, os.SEEK_SET)
    data = os.read(descriptor, size)
    os.lseek(descriptor, end, os.SEEK_SET)
    return data


_read_at: Callable[[int, int, int], bytes] = getattr(os, "pread", _sought)
