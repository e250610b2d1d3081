"""Memory under pixels: of mapped files, and buffers for complete images."""

from __future__ import annotations

import errno
import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from fasttile import _pages
from fasttile.errors import SourceError, TruncatedError
from fasttile.storage.system import memory_left
from fasttile.types import Pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

Bytes: TypeAlias = "NDArray[np.uint8]"

_MAX_GAP_BYTES = 4096  # pieces of memory closer together than a page are one run
_FAULT_AROUND_BYTES = 1 << 21  # Linux maps up to a huge page around a fault if it is cached
_HUGE_PAGE_BYTES = 2 * 2**20  # size of Linux's huge pages on most machines
_BLOCK_BYTES = 2 * _HUGE_PAGE_BYTES  # that move at a time
_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


class PageManager(Protocol):
    """Loads and drops the memory under views of a mapped file."""

    def populate(self, view: Pixels) -> None:
        """Fault in the pages under a view, or raise SourceError."""

    def discard(self, view: Pixels) -> None:
        """Drop the pages under a view, or raise TruncatedError as `check_intact`."""

    def check_intact(self) -> None:
        """Raise TruncatedError if a part of the file was lost since it was opened."""

    def close(self) -> None:
        """Release the file."""


class MappedMemory:
    """The memory of a mapped file.

    Args:
        mapping: The map; its owner closes it.
        name: Name of the file in messages.
    """

    def __init__(self, mapping: mmap.mmap, name: str) -> None:
        self._name = name
        self._start: int = np.frombuffer(mapping, np.uint8).__array_interface__["data"][0]
        self._end = self._start + len(mapping)

    def populate(self, view: Pixels) -> None:
        """Fault in the pages under a view.

        Raises:
            SourceError: The file has shrunk or cannot be read.
        """
        for start, stride, count, size in _memory_runs(view):
            failed = _pages.populate(start, stride, count, size)
            if failed == errno.EFAULT:
                raise TruncatedError(f"{self._name} shrank or failed while it was being read", 0)
            if failed:
                reason = os.strerror(failed)
                raise SourceError(f"{self._name} failed while it was being read: {reason}")

    def discard(self, view: Pixels) -> None:
        """Drop the pages under a view, and those that Linux mapped with them."""
        for start, stride, count, size in _memory_runs(view):
            before = min(_FAULT_AROUND_BYTES, start - self._start)
            after = min(_FAULT_AROUND_BYTES, self._end - (start + stride * (count - 1) + size))
            size += before + after
            _pages.discard(start - before, stride, count, size)


def _memory_runs(view: Pixels) -> Iterator[tuple[int, int, int, int]]:
    """Runs of memory under a view: (address, stride, count, bytes of each)."""
    start: int = view.__array_interface__["data"][0]
    size = view.itemsize
    far: list[tuple[int, int]] = []
    axes = zip(view.strides, view.shape, strict=True)
    for stride, count in sorted(axes, key=lambda axis: abs(axis[0])):
        if count == 1:
            continue
        start += min(0, stride * (count - 1))
        if not far and abs(stride) - size < _MAX_GAP_BYTES:
            size += abs(stride) * (count - 1)
        else:
            far.append((abs(stride), count))
    stride, count = far[0] if far else (size, 1)
    for steps in product(*(range(0, stride * count, stride) for stride, count in far[1:])):
        yield start + sum(steps), stride, count, size


class PixelBuffer:
    """A buffer of zeros that takes only the memory that is written to.

    It is private to the process: `discard` cannot free shared memory. It is freed with the last
    array over it.

    Args:
        size: In bytes.
        name: Name in messages of the image that needs it.
        on_disk: True for an unlinked file in the folder for temporary files, to which the system
            can move the pages. Default: True if the buffer is larger than half of the memory that
            is left to this process.

    Attributes:
        bytes: The buffer as an array.
        on_disk: True if it is a file, also because memory was refused.

    Raises:
        SourceError: Neither memory nor the disk has that many bytes.
    """

    def __init__(self, size: int, name: str, *, on_disk: bool | None = None) -> None:
        if on_disk is None:
            on_disk = size > (memory_left() or size * 2) // 2
        mapping = None if on_disk else _map_anonymous(size)
        self.on_disk = mapping is None
        self._mapping = mapping or _map_unlinked_file(size, name)
        self.bytes: Bytes = np.frombuffer(self._mapping, np.uint8)
        self._address: int = self.bytes.__array_interface__["data"][0]

    def discard(self, start: int, end: int) -> int:
        """Free the bytes from start to end-1; return the end of the freed part.

        Afterwards they read as zero or, on systems that cannot free them, as before.
        """
        # Complete huge pages only: to split one costs more than it saves.
        end -= end % _HUGE_PAGE_BYTES
        if end > start and not self.on_disk and hasattr(mmap, "MADV_DONTNEED"):
            self._mapping.madvise(mmap.MADV_DONTNEED, start, end - start)
        return max(start, end)

    def move_block(self, start: int, end: int, to: int) -> tuple[int, int, int] | None:
        """Move the memory of a block, with what it holds, to one that was never written.

        The system clears new pages, which takes as long as to write them; it does not clear these.

        Args:
            start, end: Bytes that are not needed any more; start is 0 or the end of a block.
            to: No byte was written from here on.

        Returns:
            The end of the block that has moved, and the start and end of its new place. None: there
            is no block between start and end, no place for it, or pages cannot be moved here.
        """
        if self.on_disk or not _can_move_pages():
            return None
        origin = -self._address % _HUGE_PAGE_BYTES  # of the first block
        old, new = (origin + -(-(at - origin) // _BLOCK_BYTES) * _BLOCK_BYTES for at in (start, to))
        old = max(old, origin)
        if old + _BLOCK_BYTES > end or new + _BLOCK_BYTES > len(self.bytes):
            return None
        if _pages.move(self._address + old, self._address + new, _BLOCK_BYTES):
            return None
        return old + _BLOCK_BYTES, new, new + _BLOCK_BYTES


@cache
def _can_move_pages() -> bool:
    """True if the system moves pages, by a trial."""
    page = mmap.PAGESIZE
    mapping = _map_anonymous(3 * page)
    if mapping is None:
        return False
    memory = np.frombuffer(mapping, np.uint8)
    address: int = memory.__array_interface__["data"][0]
    memory[:page] = 77
    if _pages.move(address, address + 2 * page, page):
        return False
    first, _, last = memory.reshape(3, page)
    return not first.any() and bool((last == 77).all())


def _map_anonymous(size: int) -> mmap.mmap | None:
    try:
        if not hasattr(mmap, "MAP_PRIVATE"):
            return mmap.mmap(-1, size)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
        mapping = mmap.mmap(-1, size, flags=flags)
    except (OSError, ValueError, OverflowError):
        return None
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # filling is a third faster with huge pages
            mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping


def _map_unlinked_file(size: int, name: str) -> mmap.mmap:
    try:
        import tempfile

        with tempfile.TemporaryFile(prefix="fasttile-") as file:
            if hasattr(os, "posix_fallocate"):
                # Reserved now: on a full disk, a later write to the map kills the process.
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            return mmap.mmap(file.fileno(), size)
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(
            f"{name}: the {size:,} bytes to read it into fit neither into memory nor into "
            f"{tempfile.gettempdir()} ({reason}); set TMPDIR to another folder"
        ) from error
