"""Memory for whole images: the process's own, or a file without a name where that is scarce."""

from __future__ import annotations

import errno
import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fasttile import _pages
from fasttile.errors import SourceError
from fasttile.storage.system import memory_left
from fasttile.types import Pixels

_MAX_GAP_BYTES = 4096  # bytes; what lies closer together than this is taken as one run of memory
_FAULT_AROUND_BYTES = (
    1 << 21
)  # bytes; Linux maps up to a huge page around a fault if it is in its cache


class PageManager(Protocol):
    """Whoever knows how the memory under a view comes and goes."""

    def populate(self, view: Pixels) -> None:
        """Fault the pages under a view in, or raise SourceError."""

    def discard(self, view: Pixels) -> None:
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

    def populate(self, view: Pixels) -> None:
        """Fault in the pages under a view.

        Raises:
            SourceError: They cannot be had, because the file has shrunk or for other reasons.
        """
        for start, stride, count, size in _memory_runs(view):
            failed = _pages.bring(start, stride, count, size)
            if failed == errno.EFAULT:
                raise SourceError(f"{self._name} shrank or failed while it was being read")
            if failed:
                reason = os.strerror(failed)
                raise SourceError(f"{self._name} failed while it was being read: {reason}")

    def discard(self, view: Pixels) -> None:
        """Drop the pages under a view, and those that came along with them on either side."""
        for start, stride, count, size in _memory_runs(view):
            before = min(_FAULT_AROUND_BYTES, start - self._start)
            after = min(_FAULT_AROUND_BYTES, self._end - (start + stride * (count - 1) + size))
            _pages.let_go(start - before, stride, count, before + size + after)


def _memory_runs(view: Pixels) -> Iterator[tuple[int, int, int, int]]:
    """The memory under a view of any strides: (address, stride, how many, bytes in each)."""
    start: int = view.__array_interface__["data"][0]
    size = view.itemsize
    far: list[tuple[int, int]] = []
    for stride, count in sorted(zip(view.strides, view.shape, strict=True), key=_abs_stride):
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


def _abs_stride(axis: tuple[int, int]) -> int:
    return abs(axis[0])


# Memory for whole images: the process's own, or a file without a name where that is scarce.

Bytes = NDArray[np.uint8]

_HUGE_PAGE_BYTES = 2 * 2**20  # bytes; the size of Linux's huge pages on most machines
_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


class PixelBuffer:
    """Some memory, zero at first, that takes what it is written to and no more.

    It is private to the process, as shared memory would not be given back by `drop`. It goes
    with the last array over it.

    Args:
        size: How many bytes.
        name: What messages call the image that needs them.
        on_disk: Whether it lies in an unlinked file in the folder for temporary files, where the
            system can move it to. None: if it would take more than half of the memory that is
            left to this process.

    Attributes:
        bytes: The memory as an array.
        on_disk: Where it lies.

    Raises:
        SourceError: There is neither memory nor disk for it.
    """

    def __init__(self, size: int, name: str, *, on_disk: bool | None = None) -> None:
        if on_disk is None:
            on_disk = size > (memory_left() or size * 2) // 2
        mapping = None if on_disk else _map_anonymous(size)
        self.on_disk = mapping is None
        self._mapping = mapping or _map_unlinked_file(size, name)
        self.bytes: Bytes = np.frombuffer(self._mapping, np.uint8)

    def discard(self, start: int, end: int) -> int:
        """Give back what lies between two places; gives the place up to which it did.

        What was there reads as zero afterwards, or, where the system cannot, as before.
        """
        # Whole huge pages only: to split one costs more than it gives.
        end -= end % _HUGE_PAGE_BYTES
        if end > start and not self.on_disk and hasattr(mmap, "MADV_DONTNEED"):
            self._mapping.madvise(mmap.MADV_DONTNEED, start, end - start)
        return max(start, end)


def _map_anonymous(size: int) -> mmap.mmap | None:
    try:
        if not hasattr(mmap, "MAP_PRIVATE"):
            return mmap.mmap(-1, size)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
        mapping = mmap.mmap(-1, size, flags=flags)
    except (OSError, ValueError, OverflowError):
        return None
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a third faster to fill, where the system has them
            mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping


def _map_unlinked_file(size: int, name: str) -> mmap.mmap:
    try:
        import tempfile

        with tempfile.TemporaryFile(prefix="fasttile-") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # or a full disk kills while it is used
            else:
                file.truncate(size)
            return mmap.mmap(file.fileno(), size)
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(
            f"{name}: {size:,} bytes that it takes while it is read fit neither into memory nor "
            f"into {tempfile.gettempdir()} ({reason}); the variable TMPDIR names another folder"
        ) from error
