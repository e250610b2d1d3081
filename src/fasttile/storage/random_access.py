"""An open file of which pieces are read at any place, by any thread; no size in it is trusted."""

from __future__ import annotations

import io
import mmap
import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from fasttile.errors import SourceError
from fasttile.storage.memory import MappedMemory
from fasttile.types import Closing, Pixels

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_READ_BYTES = 2**28
"""More bytes than this are not read at once, whatever a file says: no tile is as large."""


class RandomAccessFile(Closing):
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
            self._handle = os.open(path, flags)
        except FileNotFoundError as error:
            raise SourceError(f"{path}: no such file") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SourceError(f"{path} cannot be opened: {reason}") from error
        found = os.fstat(self._handle)
        self.size = found.st_size
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise SourceError(f"{path} is not a regular file")

    def read_head(self, count: int) -> bytes:
        """The first bytes, or all if the file has fewer."""
        return self.read_at(0, min(count, self.size), "the beginning")

    def read_at(self, offset: int, count: int, label: str) -> bytes:
        """So many bytes from a place on.

        Args:
            offset, count: In bytes.
            what: What they are, for messages.

        Raises:
            SourceError: The file does not hold them, or they are more than `LARGEST`.
        """
        if offset < 0 or count < 0 or offset + count > self.size:
            raise SourceError(
                f"{self.path} is damaged: {label} takes {count} bytes at {offset}, but the file "
                f"has {self.size}"
            )
        if count > MAX_READ_BYTES:
            raise SourceError(
                f"{self.path}: {label} takes {count} bytes, more than {MAX_READ_BYTES}"
            )
        try:
            data = self._pread(offset, count)
        except OSError as error:
            raise SourceError(f"{self.path} cannot be read: {error.strerror}") from error
        if len(data) < count:
            raise SourceError(f"{self.path} shrank while it was being read")
        return data

    def close(self) -> None:
        """Close the file."""
        descriptor, self._handle = self._handle, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _pread(self, offset: int, count: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._handle, count, offset)
        with self._lock:
            os.lseek(self._handle, offset, os.SEEK_SET)
            return os.read(self._handle, count)


# Streams over an open file's bytes, each with a position of its own; nobody else's is moved.

ReadAt = Callable[[int, int], "bytes | memoryview"]
"""Gives up to so many bytes (first) from a place on (second), in bytes."""

BUFFER_BYTES = 2**18
"""Bytes that are read at a time: each read lets go of the GIL, and has to get it again."""

_seek_lock = Lock()


class BoundedReader(io.BufferedReader):
    """A stream that asks for no more than there is: memory for all that is asked for comes first.

    Whoever parses a header may ask for as many bytes as it claims.

    Args:
        raw: Where the bytes come from.
        size: How many there are.
    """

    def __init__(self, raw: io.RawIOBase, size: int) -> None:
        super().__init__(raw, BUFFER_BYTES)
        self._size = size

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes from the position on; negative or None: all."""
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


class RandomAccessRaw(io.RawIOBase):
    """A raw stream over whatever can be read at any place.

    Args:
        read_at: Gives the bytes.
        size: How many there are.
        done: Called once, when the stream is closed.
    """

    def __init__(self, read_at: ReadAt, size: int, on_close: Callable[[], object]) -> None:
        self._read_at = read_at
        self._size = size
        self._on_close = on_close
        self._position = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer as far as the bytes reach."""
        room = memoryview(buffer).cast("B")
        count = min(len(room), max(0, self._size - self._position))
        data = self._read_at(count, self._position) if count else b""
        room[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place, counted as for any stream."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError(f"there is no place {start + offset} in a file")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Where it is."""
        return self._position

    def close(self) -> None:
        """Let go of what the bytes lie in."""
        if not self.closed:
            self._on_close()
        super().close()


def reopen_file(descriptor: int, path: str | None, size: int) -> tuple[BoundedReader, int]:
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
                return BoundedReader(file, size), file.fileno()
            if file is not None:
                file.close()  # another one has taken its path
    # Some systems have no such way, and a file that was handed over may be forbidden to open.
    own = os.dup(descriptor)
    raw = RandomAccessRaw(
        lambda count, place: _pread(own, count, place), size, lambda: os.close(own)
    )
    return BoundedReader(raw, size), own


def _pread(descriptor: int, count: int, place: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(descriptor, count, place)
    with _seek_lock:
        stood = os.lseek(descriptor, place, os.SEEK_SET)
        try:
            return os.read(descriptor, count)
        finally:
            os.lseek(descriptor, stood, os.SEEK_SET)


# A file on the way in: opened, measured, mapped for reading, and watched while it is read.


class SourceFile:
    """An open file, and a map of it as soon as somebody wants its pixels.

    Nothing is mapped before what the header promises was held against the file's real size,
    because to touch a mapped byte beyond the end kills the process.

    Args:
        path: Where the file lies; or the descriptor of an open regular file, which is neither
            closed nor moved.
        name: What messages call it. Default: the path.

    Attributes:
        name: The path, or what else to call it in messages.
        path: The path, or None where there is only a descriptor or memory.
        size: The file's size when it was opened, in bytes.
        stream: The open file, for who parses headers.
        spool: What keeps the bytes so that they can be opened again, where they came from
            somewhere that gives them only once.

    Raises:
        SourceError: The file is missing, empty, not a regular file, or must not be read.
    """

    spool: Any = None
    _required_size = 0
    _map: mmap.mmap | None = None

    def __init__(self, path: str | os.PathLike[str] | int, name: str | None = None) -> None:
        self.path = None if isinstance(path, int) else os.fsdecode(path)
        self.name = name or str(self.path)
        self.stream: BinaryIO
        if isinstance(path, int):
            self.stream, self._descriptor = _reopen_descriptor(path, None, self.name)
        else:
            self.stream = _open_regular_file(self.name)
            self._descriptor = self.stream.fileno()
        self.size = os.fstat(self._descriptor).st_size
        if self.size == 0:
            self.close()
            raise SourceError(f"{self.name}: the file is empty")

    def head(self, count: int) -> bytes:
        """The first `count` bytes, or all if the file has fewer."""
        self.stream.seek(0)
        return self.stream.read(count)

    def reopen(self) -> BoundedReader:
        """The file once more: a stream over the same bytes with a position of its own.

        It outlives this one, is its taker's to close, and is asked for no more bytes than there
        are, whatever a header claims.

        Raises:
            SourceError: The system has no descriptor left.
        """
        return _reopen_descriptor(self._descriptor, self.path, self.name)[0]

    def require_size(self, end: int, what: str) -> None:
        """Check that the file reaches as far as its header says.

        Raises:
            SourceError: `end`, in bytes, lies beyond the file's end.
        """
        if end > self.size:
            raise SourceError(
                f"{self.name}: {what} needs {end} bytes, but the file has {self.size}"
            )
        self._required_size = max(self._required_size, end)

    def view(
        self, offset: int, shape: tuple[int, int, int], dtype: np.dtype[Any], stride: int
    ) -> Pixels:
        """Pixels that lie in the file, as a read-only array over the map.

        Args:
            offset: Where the first pixel lies, in bytes.
            shape: Rows, width and bands.
            dtype: As stored, in the file's byte order.
            stride: Bytes from one row to the next, at least a row's own.

        Raises:
            SourceError: The file does not hold all of it.
        """
        rows, width, bands = shape
        row_bytes = width * bands * dtype.itemsize
        what = f"an image of {width}×{rows} pixels, {bands} × {dtype.name} each,"
        self.require_size(offset + (rows - 1) * stride + row_bytes, what)
        strides = (stride, bands * dtype.itemsize, dtype.itemsize)
        return np.ndarray(shape, dtype, self._map_file(), offset, strides)

    def populate(self, view: Pixels) -> None:
        """Fault in the pages under a view of the map.

        Raises:
            SourceError: The file has shrunk, or the system cannot read it.
        """
        # The size comes first, for systems where the pages themselves cannot be asked.
        size = os.fstat(self._descriptor).st_size
        if size < self._required_size:
            raise SourceError(
                f"{self.name} shrank while it was being read: "
                f"{size} bytes are left of {self._required_size} needed"
            )
        self._mapped_memory.populate(view)

    def discard(self, view: Pixels) -> None:
        """Drop the pages under a view of the map; they come again when they are touched."""
        self._mapped_memory.discard(view)

    def close(self) -> None:
        """Close the file and its map; a map that views still hold goes with the last of them."""
        self.stream.close()
        mapping, self._map = self._map, None
        if mapping is not None:
            with suppress(BufferError):
                mapping.close()

    def _map_file(self) -> mmap.mmap | memoryview:
        if self._map is None:
            try:
                self._map = mmap.mmap(self._descriptor, self.size, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise SourceError(f"{self.name} cannot be mapped: {error}") from error
            self._mapped_memory = MappedMemory(self._map, self.name)
        return self._map


def _open_regular_file(name: str) -> BinaryIO:
    try:
        # Asked before opening: to open a pipe waits until somebody writes into it.
        mode = Path(name).stat().st_mode
        if stat.S_ISDIR(mode):
            raise SourceError(f"{name} is a directory, not an image")
        if not stat.S_ISREG(mode):
            raise SourceError(f"{name} is not a regular file")
        return Path(name).open("rb")
    except FileNotFoundError as error:
        raise SourceError(f"{name}: no such file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{name} cannot be opened: {reason}") from error


def _reopen_descriptor(descriptor: int, path: str | None, name: str) -> tuple[BoundedReader, int]:
    """A stream of its own over an open file, and its descriptor, which closes with it."""
    try:
        return reopen_file(descriptor, path, os.fstat(descriptor).st_size)
    except OSError as error:
        raise SourceError(f"{name} cannot be opened: {error.strerror}") from error


# The bytes of a file that a caller has in memory: read in place, as if they were a file.


class MemoryFile(SourceFile):
    """Bytes in memory as a file that needs neither a descriptor nor a map.

    Args:
        data: The bytes; nobody can resize them before the file and all views are gone.
        name: What messages call them.

    Raises:
        SourceError: There are none, or they do not lie one behind the other.
    """

    def __init__(self, data: bytes | bytearray | memoryview | mmap.mmap, name: str) -> None:
        # Nothing of what the parent does: there is nothing to be opened.
        self.path = None
        self.name = name
        self._data = _as_flat_bytes(data, name)
        self.size = len(self._data)
        self.stream = self.reopen()
        if self.size == 0:
            self.close()
            raise SourceError(f"{name} is empty")

    def reopen(self) -> BoundedReader:
        """A stream over the same bytes with a position of its own."""
        view = self._data[:]  # its own, since the stream may outlive this file
        raw = RandomAccessRaw(
            lambda count, place: view[place : place + count], self.size, view.release
        )
        return BoundedReader(raw, self.size)

    def populate(self, view: Pixels) -> None:
        """Nothing has to come."""

    def discard(self, view: Pixels) -> None:
        """Nothing can go: it is the caller's."""

    def close(self) -> None:
        """Let go of the bytes; views that are left still hold them."""
        self.stream.close()
        with suppress(BufferError):
            self._data.release()

    def _map_file(self) -> memoryview:
        return self._data


def _as_flat_bytes(data: bytes | bytearray | memoryview | mmap.mmap, name: str) -> memoryview:
    view = memoryview(data)
    if view.ndim != 1 or view.itemsize != 1 or not view.c_contiguous:
        raise SourceError(
            f"{name} of shape {view.shape} and format {view.format!r} is not the bytes of a file: "
            "bytes one behind the other would do, or an array for pixels"
        )
    return view.toreadonly().cast("B")
