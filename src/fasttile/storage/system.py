"""TODO."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def cpu_count() -> int:
    """How many processors this process may run on."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_left() -> int | None:
    """About how many bytes this process may still take without harm; None if nobody can say."""
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


def _cgroup_memory_left() -> int | None:
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
