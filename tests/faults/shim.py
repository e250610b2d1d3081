"""Faults that a program meets at one of its system calls, by the preloaded shim.c."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SHIM_SOURCE = Path(__file__).with_name("shim.c")


def build_shim(folder: Path) -> Path:
    """Compile the shim; gives the library to be preloaded.

    Raises:
        OSError: There is no compiler.
        subprocess.CalledProcessError: It does not compile.
    """
    library = folder / "shim.so"
    flags = ["-std=gnu11", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["gcc", *flags, "-o", library, SHIM_SOURCE, "-ldl"], check=True)
    return library


@dataclass(frozen=True)
class SyscallFault:
    """What happens at one call.

    Attributes:
        below: The folder, or the file, that the call has to do with.
        call: Kinds of calls, with commas between them: open, write, close, rename, mkdir, sync,
            mmap, remove, or any.
        at: Which of these calls, from 0; -1 for none.
        error: The name of the error that it gives, such as "ENOSPC"; "" lets a write stop half
            way, without one.
        sticky: Whether all later calls of these kinds fail too.
        kill: SIGKILL instead of an error.
        trace: A file that gets a line for each call.
    """

    below: Path
    call: str = "any"
    at: int = -1
    error: str = "EIO"
    sticky: bool = False
    kill: bool = False
    trace: Path | None = None

    def environment(self, library: Path) -> Mapping[str, str]:
        """The variables that the shim reads."""
        return {
            "LD_PRELOAD": str(library),
            "FAULT_BELOW": str(self.below),
            "FAULT_CALL": self.call,
            "FAULT_AT": str(self.at),
            "FAULT_ERRNO": str(getattr(errno, self.error) if self.error else 0),
            "FAULT_STICKY": str(int(self.sticky)),
            "FAULT_KILL": str(int(self.kill)),
            "FAULT_TRACE": str(self.trace or ""),
        }


def spread_evenly(count: int, sample_size: int) -> list[int]:
    """Up to `sample_size` numbers below `count`, evenly, with the first and the last."""
    if count <= sample_size:
        return list(range(count))
    return sorted({round(at * (count - 1) / (sample_size - 1)) for at in range(sample_size)})
