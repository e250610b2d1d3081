"""Memory for whole pictures: the process's own, or a file without a name where that is scarce."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError

Bytes = NDArray[np.uint8]

_HUGE = 2 * 2**20  # bytes; the size of Linux's huge pages on most machines
_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


class Room:
    """Some memory, zero at first, that takes what it is written to and no more.

    It is private to the process, as shared memory would not be given back by `drop`. It goes
    with the last array over it.

    Args:
        size: How many bytes.
        name: What messages call the picture that needs them.
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
        mapping = None if on_disk else _anonymous(size)
        self.on_disk = mapping is None
        self._mapping = mapping or _unlinked(size, name)
        self.bytes: Bytes = np.frombuffer(self._mapping, np.uint8)

    def drop(self, start: int, end: int) -> int:
        """Give back what lies between two places; gives the place up to which it did.

        What was there reads as zero afterwards, or, where the system cannot, as before.
        """
        # Whole huge pages only: to split one costs more than it gives.
        end -= end % _HUGE
        if end > start and not self.on_disk and hasattr(mmap, "MADV_DONTNEED"):
            self._mapping.madvise(mmap.MADV_DONTNEED, start, end - start)
        return max(start, end)


def memory_left() -> int | None:
    """About how many bytes this process may still take without harm; None if nobody can say."""
    known = [left for left in (_system_left(), _cgroup_left()) if left is not None]
    return min(known) if known else None


def _anonymous(size: int) -> mmap.mmap | None:
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


def _unlinked(size: int, name: str) -> mmap.mmap:
    try:
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


def _system_left() -> int | None:
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _cgroup_left() -> int | None:
    """What the control groups above this process leave to it (Linux, version 2)."""
    lefts = []
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if not line.startswith("0::"):
                continue
            folder = Path("/sys/fs/cgroup") / line[3:].strip("/")
            for group in (folder, *folder.parents):
                with suppress(OSError, ValueError):
                    most = int((group / "memory.max").read_text())
                    lefts.append(most - int((group / "memory.current").read_text()))
    return max(0, min(lefts)) if lefts else None
