"""Processors, memory, standard error and log of this process."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

from fasttile.errors import printable

TYPE_CHECKING = False  # --version imports neither typing nor pathlib

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Any


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
    from pathlib import Path

    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _cgroup_memory_left(
    membership: str | Path = "/proc/self/cgroup", root: str | Path = "/sys/fs/cgroup"
) -> int | None:
    """Bytes that the control groups leave to this process (cgroup v2).

    Args:
        membership: File that names the group of this process, in the line that begins with "0::".
        root: Folder where the groups are mounted.

    Returns:
        The least of all groups with a limit, at least 0; None if none has one.
    """
    from pathlib import Path

    lefts = []
    with suppress(OSError, ValueError):
        for line in Path(membership).read_text().splitlines():
            if not line.startswith("0::"):
                continue
            folder = Path(root) / line[3:].strip("/")
            for group in (folder, *folder.parents):
                with suppress(OSError, ValueError):
                    limit = int((group / "memory.max").read_text())
                    lefts.append(limit - int((group / "memory.current").read_text()))
    return max(0, min(lefts)) if lefts else None


_error_descriptor: int | None = None


def separate_error_stream() -> None:
    """Give `sys.stderr` a descriptor of its own, and drop what is written to descriptor 2.

    C libraries write there: libtiff, which Pillow uses, up to hundreds of lines for a damaged
    file. Python's messages, of all threads, go to the same place as before. It is done once, after
    the libraries are loaded, so it costs nothing later. For the process of a command only, and for
    its workers.
    """
    global _error_descriptor
    with suppress(OSError, ValueError):
        if _error_descriptor is not None or not isinstance(sys.stderr, io.TextIOWrapper):
            return
        sys.stderr.flush()
        own = os.dup(2)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        encoding = sys.stderr.encoding
        sys.stderr = open(own, "w", 1, encoding, "backslashreplace", closefd=False)  # noqa: SIM115
        _error_descriptor = own


def error_descriptor() -> int | None:
    """Descriptor of `sys.stderr` if it was separated from descriptor 2, else None."""
    return _error_descriptor


def log_line(level: str, text: object) -> None:
    """Pass a line to the logger "fasttile", if the program uses logging.

    The module is not imported for that: a program that has not imported it has no handler either.
    The logger has a handler that does nothing, so that warnings are not printed by default.

    Args:
        level: Name of the logger's method: "info", "warning" or "error".
        text: The line; it becomes printable and without secrets.
    """
    logging: Any = sys.modules.get("logging")
    if not hasattr(logging, "NullHandler"):  # or another thread is importing it
        return
    logger = logging.getLogger("fasttile")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    getattr(logger, level)("%s", printable(text), stacklevel=2)


def log_notes(name: object, notes: Iterable[str]) -> None:
    """Pass the notes on an image or a result to the logger."""
    for note in notes:
        log_line("info", f"{name}: {note}")
