"""Open files for reading at any offset, by any thread."""

from __future__ import annotations

import io
import mmap
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePath
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from fasttile import _pages
from fasttile._pages import MappedRange
from fasttile.errors import SourceError, SourceNotFoundError, TruncatedError, did_you_mean
from fasttile.storage.budget import BUDGET
from fasttile.types import Closing, Pixels

if TYPE_CHECKING:
    import numpy as np
    from _typeshed import WriteableBuffer

    from fasttile.storage.memory import MappedMemory

BUFFER_BYTES = 2**18
"""Bytes per read of a stream: each read releases the GIL and has to acquire it again."""

ReadAt = Callable[[int, int], "bytes | memoryview"]
"""Returns at most `count` (first) bytes from an offset (second)."""

_MAX_COMPARED_NAMES = 10_000
"""Names of a folder that are compared with a name that is not there."""

_seek_lock = Lock()


def open_regular_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        SourceError: The file is missing, a directory, not a regular file, or not readable.
    """
    try:
        # Checked before opening: to open a pipe waits for a writer. O_NONBLOCK is for a pipe that
        # takes the path in between.
        mode = Path(path).stat().st_mode
        if stat.S_ISDIR(mode):
            raise SourceError(f"{path} is a directory, not a file")
        if not stat.S_ISREG(mode):
            raise SourceError(f"{path} is not a regular file")
        nonblock = getattr(os, "O_NONBLOCK", 0)
        return open(path, "rb", opener=lambda name, flags: os.open(name, flags | nonblock))
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{path} cannot be opened: {reason}") from error


def missing_file_advice(path: str | os.PathLike[str]) -> str:
    """The end of a message about a path of a user that cannot be opened; "" without advice."""
    text = os.fspath(path)
    if os.path.lexists(text):
        return ""
    if any(sign in text for sign in "*?["):
        return "; a shell does not expand a pattern in quotes: leave them out, or name the folder"
    folder, name = os.path.split(text)
    with suppress(OSError, ValueError), os.scandir(folder or os.curdir) as entries:
        names = [entry.name for entry in islice(entries, _MAX_COMPARED_NAMES)]
        return did_you_mean(name, names, cutoff=0.75)
    return ""


def pread(descriptor: int, count: int, offset: int) -> bytes:
    """Read at most `count` bytes at an offset, without moving the position."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, count, offset)
    with _seek_lock:
        before = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, offset, os.SEEK_SET)
        try:
            return os.read(descriptor, count)
        finally:
            os.lseek(descriptor, before, os.SEEK_SET)


_PLAIN_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
"""0 on Windows, where `read_plain_file` does nothing."""


def read_plain_file(path: str, max_bytes: int) -> bytes | None:
    """The content of a regular file that is no symbolic link, by three calls of the system.

    Returns:
        The content. None: it is a link, is no regular file, is larger, or cannot be read.

    Raises:
        FileNotFoundError, NotADirectoryError: There is no such file.
    """
    if not _NO_LINKS:
        return None
    try:
        descriptor = os.open(path, _PLAIN_FLAGS | _NO_LINKS)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(descriptor)
        size = status.st_size
        if not stat.S_ISREG(status.st_mode) or size > max_bytes:
            return None
        data = os.read(descriptor, size)
        return data if len(data) == size else None
    except OSError:
        return None
    finally:
        os.close(descriptor)


class RandomAccessFile(Closing):
    """A regular file whose pieces are read at known offsets, by any thread.

    Args:
        path: The file; also its name in messages.

    Attributes:
        size: Its size when it was opened, in bytes.

    Raises:
        SourceError: The file does not exist or cannot be read.
    """

    path: PurePath

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = open_regular_file(path)
        self._descriptor = self._stream.fileno()
        self.size = os.fstat(self._descriptor).st_size

    def read_head(self, count: int) -> bytes:
        """The first `count` bytes, or all if the file has fewer."""
        return self.read_at(0, min(count, self.size), "the beginning")

    def read_all(self, max_bytes: int = BUDGET.piece_bytes) -> bytes:
        """Read the file.

        Raises:
            SourceError: It has more than `max_bytes`, or has become shorter.
        """
        if self.size > max_bytes:
            raise SourceError(f"{self.path}: it has {self.size:,} bytes, more than {max_bytes:,}")
        return self.read_at(0, self.size, "it")

    def read_at(self, offset: int, count: int, label: str) -> bytes:
        """Read exactly `count` bytes at an offset.

        Args:
            offset, count: In bytes.
            label: Name of the piece for messages.

        Raises:
            SourceError: The file does not hold them, or they are more than `BUDGET.piece_bytes`.
        """
        if offset < 0 or count < 0 or offset + count > self.size:
            raise SourceError(
                f"{self.path} is damaged: {label} takes {count} bytes at {offset}, but the file "
                f"has {self.size}"
            )
        if count > BUDGET.piece_bytes:
            raise SourceError(
                f"{self.path}: {label} takes {count} bytes, more than {BUDGET.piece_bytes}"
            )
        try:
            data = self.pread(count, offset)
        except OSError as error:
            raise SourceError(f"{self.path} cannot be read: {error.strerror}") from error
        if len(data) < count:
            raise SourceError(f"{self.path} shrank while it was being read")
        return data

    def pread(self, count: int, offset: int) -> bytes:
        """Read at most `count` bytes at an offset.

        Raises:
            OSError: The file cannot be read.
        """
        return pread(self._descriptor, count, offset)

    def open_stream(self) -> BoundedReader:
        """A stream over the bytes, valid until this file is closed."""
        return BoundedReader(RandomAccessRaw(self.pread, self.size, lambda: None), self.size)

    def close(self) -> None:
        """Close the file."""
        self._descriptor = -1
        self._stream.close()


class BoundedReader(io.BufferedReader):
    """A stream that never requests more bytes than exist.

    A buffered stream allocates the requested number of bytes first, and a parser may request as
    many as a damaged header claims.

    Args:
        raw: The stream below.
        size: Its number of bytes.
    """

    def __init__(self, raw: io.RawIOBase, size: int) -> None:
        super().__init__(raw, BUFFER_BYTES)
        self._size = size

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes from the position on; negative or None: all."""
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


class RandomAccessRaw(io.RawIOBase):
    """A raw stream over bytes that can be read at any offset.

    Args:
        read_at: Reads bytes at an offset.
        size: The number of bytes.
        on_close: Called once, when the stream is closed.
    """

    def __init__(self, read_at: ReadAt, size: int, on_close: Callable[[], object]) -> None:
        self._read_at = read_at
        self._size = size
        self._on_close = on_close
        self._position = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer as far as the bytes reach; return their number."""
        view = memoryview(buffer).cast("B")
        count = min(len(view), max(0, self._size - self._position))
        data = self._read_at(count, self._position) if count else b""
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Set the position, as for any stream."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError(f"a file has no offset {start + offset}")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """The position, in bytes."""
        return self._position

    def close(self) -> None:
        """Release the bytes."""
        if not self.closed:
            self._on_close()
        super().close()


def reopen_file(descriptor: int, path: str | None, size: int) -> tuple[BoundedReader, int]:
    """Open an open file again; return a stream and its descriptor.

    A second descriptor made by `dup` would share its position with the first.

    Args:
        descriptor: Of the open file; it is neither moved nor closed.
        path: Path at which the file was opened, if any.
        size: Its size in bytes.

    Raises:
        OSError: The process has no descriptor left.
    """
    for place in (f"/proc/self/fd/{descriptor}", path):
        with suppress(OSError):
            file = io.FileIO(place) if place is not None and Path(place).is_file() else None
            if file is not None and os.path.samestat(os.fstat(file.fileno()), os.fstat(descriptor)):
                return BoundedReader(file, size), file.fileno()
            if file is not None:
                file.close()  # another file has taken its path
    # macOS and Windows have no /proc, and a descriptor may be readable where its path is not.
    own = os.dup(descriptor)
    raw = RandomAccessRaw(
        lambda count, offset: pread(own, count, offset), size, lambda: os.close(own)
    )
    return BoundedReader(raw, size), own


class SourceFile(Closing, ABC):
    """The bytes of an image file, on disk or in memory.

    Attributes:
        name: Name in messages: the path, or a description.
        path: The path, or None for a descriptor or memory.
        size: Number of bytes when the file was opened.
        stream: The bytes as a stream, for parsers of headers.
        spool: Temporary file that keeps the bytes if they can be read only once, else None.

    Raises:
        SourceError: There are no bytes.
    """

    spool: Any = None

    def __init__(self, name: str, path: str | None, stream: BinaryIO, size: int) -> None:
        self.name, self.path, self.stream, self.size = name, path, stream, size
        if size == 0:
            self.close()
            raise SourceError(f"{name} is empty" if path is None else f"{name}: the file is empty")

    def head(self, count: int) -> bytes:
        """The first `count` bytes, or all if the file has fewer."""
        self.stream.seek(0)
        return self.stream.read(count)

    @abstractmethod
    def reopen(self) -> BoundedReader:
        """Open a new stream over the same bytes; the caller closes it.

        It outlives this file, and never requests more bytes than exist.

        Raises:
            SourceError: The process has no descriptor left.
        """

    @abstractmethod
    def clone(self) -> SourceFile:
        """The same bytes, opened and closed apart from this file.

        Raises:
            SourceError: The process has no descriptor left.
        """

    def require_size(self, end: int, what: str) -> None:
        """Check that the file reaches as far as its header says.

        Raises:
            SourceError: `end`, in bytes, is beyond the end of the file.
        """
        if end > self.size:
            raise SourceError(
                f"{self.name}: {what} needs {end} bytes, but the file has {self.size}"
            )

    def view(
        self, offset: int, shape: tuple[int, int, int], dtype: np.dtype[Any], stride: int
    ) -> Pixels:
        """Pixels of the file as a read-only array over its bytes, without a copy.

        Args:
            offset: Of the first pixel, in bytes.
            shape: Rows, width and bands.
            dtype: As stored, in the byte order of the file.
            stride: Bytes from one row to the next, at least those of a row.

        Raises:
            SourceError: The file does not hold all of it.
        """
        import numpy as np

        rows, width, bands = shape
        row_bytes = width * bands * dtype.itemsize
        what = f"an image of {width}×{rows} pixels, {bands} × {dtype.name} each,"
        self.require_size(offset + (rows - 1) * stride + row_bytes, what)
        strides = (stride, bands * dtype.itemsize, dtype.itemsize)
        return np.ndarray(shape, dtype, self._buffer(), offset, strides)

    @abstractmethod
    def _buffer(self) -> mmap.mmap | memoryview:
        """All bytes, for `view`."""

    def populate(self, view: Pixels) -> None:
        """Fault in the pages under a view of the file.

        Raises:
            SourceError: The file has shrunk or cannot be read.
        """

    def discard(self, view: Pixels) -> None:
        """Drop the pages under a view of the file; an access loads them again.

        Raises:
            TruncatedError: As `check_intact`.
        """

    def check_intact(self) -> None:
        """Check that no part of the file was lost since it was opened.

        Raises:
            TruncatedError: What was read may be zeros that the file never had.
        """


class _FileMap(mmap.mmap):
    """A read-only map of a file that reports pages which the file has lost.

    Attributes:
        range: Its range of memory, registered for `guard_mapped_files`.
    """

    range: MappedRange

    def __new__(cls, descriptor: int, size: int) -> Self:
        self = super().__new__(cls, descriptor, size, access=mmap.ACCESS_READ)
        self.range = MappedRange(self)
        return self

    def close(self) -> None:
        """Unmap the file."""
        self.range.unregister()  # first: other memory may get the addresses at once
        super().close()

    def __del__(self) -> None:
        if hasattr(self, "range"):  # else the file could not be mapped
            self.range.unregister()


def guard_mapped_files() -> bool:
    """Turn the loss of a mapped image while it is read into an error of its reader.

    Uncompressed images are mapped. If another program cuts such a file short, an access to the
    lost part raises the signal SIGBUS, which ends the process. This function installs a handler of
    the signal for the process: the lost part reads as zeros, and `cut`, `iter_tiles` and all other
    readers raise `TruncatedError` before anything is published. Other causes of the signal keep
    the action that they had before the call.

    The command line and its worker processes call it. In a library it is the program's decision,
    as signals belong to the process: call it once, after `faulthandler.enable()`. It guards the
    files that fasttile maps, not a `numpy.memmap` of the caller.

    Returns:
        True if files are guarded; False where the system has no SIGBUS, as on Windows.

    Example:
        >>> import fasttile
        >>> fasttile.guard_mapped_files()  # doctest: +SKIP
        True
    """
    return _pages.guard()


class DiskFile(SourceFile):
    """An open regular file, mapped when its pixels are first requested.

    Nothing is mapped before the promises of the header are checked against the size of the file:
    an access to a mapped byte beyond its end kills the process.

    Args:
        path: Path of the file, or the descriptor of an open one, which is neither closed nor
            moved.
        name: Name in messages. Default: the path.

    Raises:
        SourceError: The file is missing, empty, not a regular file, or not readable.
    """

    def __init__(self, path: str | os.PathLike[str] | int, name: str | None = None) -> None:
        self._required_size = 0
        self._map: _FileMap | None = None
        self._mapped_memory: MappedMemory | None = None
        stream: BinaryIO
        if isinstance(path, int):
            name = name or f"descriptor {path}"
            stream, self._descriptor = _reopen_descriptor(path, None, name)
        else:
            stream = open_regular_file(path)
            self._descriptor = stream.fileno()
        text = None if isinstance(path, int) else os.fsdecode(path)
        super().__init__(name or str(text), text, stream, os.fstat(self._descriptor).st_size)

    def reopen(self) -> BoundedReader:
        """A new stream over the same file, even if another one has taken its path."""
        return _reopen_descriptor(self._descriptor, self.path, self.name)[0]

    def clone(self) -> SourceFile:
        """The same file, even if another one has taken its path."""
        file = DiskFile(self._descriptor, self.name)
        file.spool = self.spool
        return file

    def require_size(self, end: int, what: str) -> None:
        """Check that the file reaches that far, now and in each `populate`."""
        super().require_size(end, what)
        self._required_size = max(self._required_size, end)

    def populate(self, view: Pixels) -> None:
        """Fault in the pages under a view of the map."""
        # The size first, for systems where a page fault cannot be tried safely.
        self.check_intact()
        assert self._mapped_memory is not None  # the view is over the map
        self._mapped_memory.populate(view)

    def discard(self, view: Pixels) -> None:
        """Drop the pages under a view of the map."""
        assert self._mapped_memory is not None
        self._mapped_memory.discard(view)
        self.check_intact()

    def check_intact(self) -> None:
        """Check that what was read so far is what the file had; the size shows a cut-off page."""
        size = os.fstat(self._descriptor).st_size
        if size < self._required_size:
            raise TruncatedError(
                f"{self.name} shrank while it was being read: "
                f"{size} bytes are left of {self._required_size} needed",
                0,
            )
        if self._map is not None and self._map.range.has_lost_pages:
            raise TruncatedError(
                f"{self.name} shrank or failed while it was being read; repeat the command when "
                "no other program writes it",
                0,
            )

    def close(self) -> None:
        """Close the file, and its map unless it has views."""
        self.stream.close()
        mapping, self._map = self._map, None
        if mapping is not None:
            with suppress(BufferError):
                mapping.close()

    def _buffer(self) -> _FileMap:
        if self._map is None:
            from fasttile.storage.memory import MappedMemory

            try:
                self._map = _FileMap(self._descriptor, self.size)
            except (OSError, ValueError) as error:
                raise SourceError(f"{self.name} cannot be mapped: {error}") from error
            self._mapped_memory = MappedMemory(self._map, self.name)
        return self._map


def _reopen_descriptor(descriptor: int, path: str | None, name: str) -> tuple[BoundedReader, int]:
    try:
        return reopen_file(descriptor, path, os.fstat(descriptor).st_size)
    except OSError as error:
        raise SourceError(f"{name} cannot be opened: {error.strerror}") from error


class MemoryFile(SourceFile):
    """The bytes of a file that a caller has in memory, used in place.

    Args:
        data: The bytes; they cannot be resized while the file or a view of it exists.
        name: Name in messages.

    Raises:
        SourceError: There are none, or they are not contiguous.
    """

    def __init__(self, data: bytes | bytearray | memoryview | mmap.mmap, name: str) -> None:
        view = memoryview(data)
        if view.ndim != 1 or view.itemsize != 1 or not view.c_contiguous:
            raise SourceError(
                f"{name}: shape {view.shape} and format {view.format!r} are not the bytes of a "
                "file; pass contiguous bytes, or an array for pixels"
            )
        self._data = view.toreadonly().cast("B")
        super().__init__(name, None, self.reopen(), len(self._data))

    def reopen(self) -> BoundedReader:
        """A new stream over the same bytes."""
        view = self._data[:]  # its own, since the stream may outlive this file
        raw = RandomAccessRaw(
            lambda count, offset: view[offset : offset + count], len(view), view.release
        )
        return BoundedReader(raw, len(view))

    def clone(self) -> SourceFile:
        """The same bytes."""
        return MemoryFile(self._data, self.name)

    def close(self) -> None:
        """Release the bytes; existing views still hold them."""
        self.stream.close()
        with suppress(BufferError):
            self._data.release()

    def _buffer(self) -> memoryview:
        return self._data
