"""Processors and memory that this process may use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def cpu_count() -> int:
    """Number of processors this process may run on."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_left() -> int | None:
    """Bytes this process may still allocate, about; None if unknown."""
    known = [left for left in (_system_memory_left(), _cgroup_memory_left()) if left is not None]
    return min(known) if known else None


def _system_memory_left() -> int | None:
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _cgroup_memory_left(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Bytes that the control groups leave to this process (cgroup v2).

    Args:
        membership: File that names the group of this process, in the line that begins with "0::".
        root: Folder where the groups are mounted.

    Returns:
        The least of all groups with a limit, at least 0; None if none has one.
    """
    lefts = []
    with suppress(OSError, ValueError):
        for line in membership.read_text().splitlines():
            if not line.startswith("0::"):
                continue
            folder = root / line[3:].strip("/")
            for group in (folder, *folder.parents):
                with suppress(OSError, ValueError):
                    limit = int((group / "memory.max").read_text())
                    lefts.append(limit - int((group / "memory.current").read_text()))
    return max(0, min(lefts)) if lefts else None
