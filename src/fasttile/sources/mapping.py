"""A file on the way in: opened, measured, mapped for reading, and watched while it is read."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np

from .. import _pages
from ..errors import SourceError
from .base import Pixels

if TYPE_CHECKING:
    from .reopened import Reopened
    from .spool import Spool

_NEAR = 4096  # bytes; what lies closer together than this is taken as one run of memory
_AROUND = 1 << 21  # bytes; Linux maps up to a huge page around a fault if it is in its cache


class Pages(Protocol):
    """Whoever knows how the memory under a view comes and goes."""

    def bring(self, view: Pixels) -> None:
        """Fault the pages under a view in, or raise SourceError."""

    def let_go(self, view: Pixels) -> None:
        """Drop the pages under a view."""

    def close(self) -> None:
        """Let go of everything."""


class MappedMemory:
    """The memory that a file is mapped to.

    Args:
        mapping: The map, which stays its owner's to close.
        name: What messages call the file.
    """

    def __init__(self, mapping: mmap.mmap, name: str) -> None:
        self._name = name
        self._start: int = np.frombuffer(mapping, np.uint8).__array_interface__["data"][0]
        self._end = self._start + len(mapping)

    def bring(self, view: Pixels) -> None:
        """Fault in the pages under a view.

        Raises:
            SourceError: They cannot be had, because the file has shrunk or for other reasons.
        """
        for start, stride, count, size in _runs(view):
            failed = _pages.bring(start, stride, count, size)
            if failed == errno.EFAULT:
                raise SourceError(f"{self._name} shrank or failed while it was being read")
            if failed:
                reason = os.strerror(failed)
                raise SourceError(f"{self._name} failed while it was being read: {reason}")

    def let_go(self, view: Pixels) -> None:
        """Drop the pages under a view, and those that came along with them on either side."""
        for start, stride, count, size in _runs(view):
            before = min(_AROUND, start - self._start)
            after = min(_AROUND, self._end - (start + stride * (count - 1) + size))
            _pages.let_go(start - before, stride, count, before + size + after)


class PictureFile:
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

    spool: Spool | None = None
    _needed = 0
    _map: mmap.mmap | None = None

    def __init__(self, path: str | os.PathLike[str] | int, name: str | None = None) -> None:
        self.path = None if isinstance(path, int) else os.fsdecode(path)
        self.name = name or str(self.path)
        self.stream: BinaryIO
        if isinstance(path, int):
            self.stream, self._descriptor = _opened_again(path, None, self.name)
        else:
            self.stream = _opened(self.name)
            self._descriptor = self.stream.fileno()
        self.size = os.fstat(self._descriptor).st_size
        if self.size == 0:
            self.close()
            raise SourceError(f"{self.name}: the file is empty")

    def head(self, count: int) -> bytes:
        """The first `count` bytes, or all if the file has fewer."""
        self.stream.seek(0)
        return self.stream.read(count)

    def reopen(self) -> Reopened:
        """The file once more: a stream over the same bytes with a position of its own.

        It outlives this one, is its taker's to close, and is asked for no more bytes than there
        are, whatever a header claims.

        Raises:
            SourceError: The system has no descriptor left.
        """
        return _opened_again(self._descriptor, self.path, self.name)[0]

    def promise(self, end: int, what: str) -> None:
        """Check that the file reaches as far as its header says.

        Raises:
            SourceError: `end`, in bytes, lies beyond the file's end.
        """
        if end > self.size:
            raise SourceError(
                f"{self.name}: {what} needs {end} bytes, but the file has {self.size}"
            )
        self._needed = max(self._needed, end)

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
        what = f"a picture of {width}×{rows} pixels, {bands} × {dtype.name} each,"
        self.promise(offset + (rows - 1) * stride + row_bytes, what)
        strides = (stride, bands * dtype.itemsize, dtype.itemsize)
        return np.ndarray(shape, dtype, self._mapped(), offset, strides)

    def bring(self, view: Pixels) -> None:
        """Fault in the pages under a view of the map.

        Raises:
            SourceError: The file has shrunk, or the system cannot read it.
        """
        # The size comes first, for systems where the pages themselves cannot be asked.
        size = os.fstat(self._descriptor).st_size
        if size < self._needed:
            raise SourceError(
                f"{self.name} shrank while it was being read: "
                f"{size} bytes are left of {self._needed} needed"
            )
        self._memory.bring(view)

    def let_go(self, view: Pixels) -> None:
        """Drop the pages under a view of the map; they come again when they are touched."""
        self._memory.let_go(view)

    def close(self) -> None:
        """Close the file and its map; a map that views still hold goes with the last of them."""
        self.stream.close()
        mapping, self._map = self._map, None
        if mapping is not None:
            with suppress(BufferError):
                mapping.close()

    def _mapped(self) -> mmap.mmap | memoryview:
        if self._map is None:
            try:
                self._map = mmap.mmap(self._descriptor, self.size, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise SourceError(f"{self.name} cannot be mapped: {error}") from error
            self._memory = MappedMemory(self._map, self.name)
        return self._map


def _runs(view: Pixels) -> Iterator[tuple[int, int, int, int]]:
    """The memory under a view of any strides: (address, stride, how many, bytes in each)."""
    start: int = view.__array_interface__["data"][0]
    size = view.itemsize
    far: list[tuple[int, int]] = []
    for stride, count in sorted(zip(view.strides, view.shape, strict=True), key=_distance):
        if count == 1:
            continue
        start += min(0, stride * (count - 1))
        if not far and abs(stride) - size < _NEAR:
            size += abs(stride) * (count - 1)
        else:
            far.append((abs(stride), count))
    stride, count = far[0] if far else (size, 1)
    for steps in product(*(range(0, stride * count, stride) for stride, count in far[1:])):
        yield start + sum(steps), stride, count, size


def _distance(axis: tuple[int, int]) -> int:
    return abs(axis[0])


def _opened(name: str) -> BinaryIO:
    try:
        # Asked before opening: to open a pipe waits until somebody writes into it.
        mode = Path(name).stat().st_mode
        if stat.S_ISDIR(mode):
            raise SourceError(f"{name} is a directory, not a picture")
        if not stat.S_ISREG(mode):
            raise SourceError(f"{name} is not a regular file")
        return Path(name).open("rb")
    except FileNotFoundError as error:
        raise SourceError(f"{name}: no such file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{name} cannot be opened: {reason}") from error


def _opened_again(descriptor: int, path: str | None, name: str) -> tuple[Reopened, int]:
    """A stream of its own over an open file, and its descriptor, which closes with it."""
    from .reopened import reopened

    try:
        return reopened(descriptor, path, os.fstat(descriptor).st_size)
    except OSError as error:
        raise SourceError(f"{name} cannot be opened: {error.strerror}") from error
