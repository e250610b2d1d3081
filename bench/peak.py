"""The peak memory of a job: all its processes, shared memory included.

The job runs in a session of its own. Many times a second the proportional set sizes (PSS) of
its processes are summed, and what is in its unlinked files in memory that nobody has mapped
is added: that is what the system would get back if the job ended. Output files on a tmpfs are
memory too, but they are the job's result, and do not count.

    python bench/peak.py [--cgroup FOLDER] -- COMMAND...

Sampling slows a job down a little: never time a run that is measured here.
"""

from __future__ import annotations

import argparse
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.01
PROC = Path("/proc")


@dataclass
class Peak:
    """The most memory that a job had, in bytes.

    Attributes:
        sampled_total: The largest sum of PSS and unmapped memory files.
        largest_process: The largest resident set of one of its processes, as the kernel keeps it
            (VmHWM). It misses no short peak, but counts shared libraries completely.
        status: The command's exit status.
    """

    sampled_total: int = 0
    largest_process: int = 0
    status: int = 0

    @property
    def bytes(self) -> int:
        """The larger of the two."""
        return max(self.sampled_total, self.largest_process)


def measure(command: Sequence[str], log: int | None = None) -> Peak:
    """Run a command to its end and watch its memory.

    Args:
        command: The program and its arguments.
        log: A file descriptor for what it prints. Default: where this program's output goes.
    """
    peak = Peak()
    with subprocess.Popen(command, start_new_session=True, stdout=log, stderr=log) as process:
        while process.poll() is None:
            _record_sample(process.pid, peak)
            time.sleep(SAMPLE_SECONDS)
    peak.status = process.returncode
    return peak


def measure_by_cgroup(command: Sequence[str], cgroup: Path) -> int:
    """Run a command in a cgroup v2 folder of its own and give its memory.peak, in bytes.

    The folder must be empty of processes, writable, and have the memory controller. The
    kernel's figure is exact, but counts the page cache of the files that were read and
    written, so it is not comparable with `measure`.
    """

    def join() -> None:
        (cgroup / "cgroup.procs").write_text(str(os.getpid()))

    with suppress(OSError):  # before Linux 6.12 a peak cannot be reset
        (cgroup / "memory.peak").write_text("0")
    subprocess.run(command, check=True, preexec_fn=join)
    return int((cgroup / "memory.peak").read_text())


def _record_sample(session: int, peak: Peak) -> None:
    members = _session_processes(session)
    sampled = sum(_size_field(pid, "smaps_rollup", "Pss:") for pid in members)
    peak.sampled_total = max(peak.sampled_total, sampled + _unmapped_bytes(members))
    peak.largest_process = max(
        [peak.largest_process, *(_size_field(pid, "status", "VmHWM:") for pid in members)]
    )


def _session_processes(session: int) -> list[int]:
    """The processes of a session, found among all of the machine."""
    members = []
    for path in PROC.iterdir():
        if path.name.isdigit():
            with suppress(OSError):  # it has ended meanwhile
                if os.getsid(int(path.name)) == session:
                    members.append(int(path.name))
    return members


def _size_field(pid: int, file: str, name: str) -> int:
    """A size in bytes from one of a process' files in /proc; 0 if the process has ended."""
    with suppress(OSError):
        for line in (PROC / str(pid) / file).read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0


def _unmapped_bytes(pids: Sequence[int]) -> int:
    """Bytes in unlinked memory files that these processes hold open and none has mapped."""
    sizes = {found.st_ino: found.st_blocks * 512 for pid in pids for found in _memory_files(pid)}
    for inode in _mapped_inodes(pids) if sizes else ():
        sizes.pop(inode, None)
    return sum(sizes.values())


def _memory_files(pid: int) -> Iterator[os.stat_result]:
    with suppress(OSError):
        for link in (PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):  # it has been closed meanwhile
                found = link.stat()
                if _is_memory_file(found):
                    yield found


def _is_memory_file(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 0 and status.st_dev in MEMORY_DEVICES


def _mapped_inodes(pids: Sequence[int]) -> set[int]:
    inodes: set[int] = set()
    for pid in pids:
        with suppress(OSError):
            lines = (PROC / str(pid) / "maps").read_text().splitlines()
            inodes.update(int(line.split(maxsplit=5)[4]) for line in lines)
    return inodes


def _memory_devices() -> set[int]:
    """The devices of files that live in memory: memfds, and the mounted tmpfs."""
    file = os.memfd_create("device")
    devices = {os.fstat(file).st_dev}
    os.close(file)
    for line in (PROC / "self/mounts").read_text().splitlines():
        _, folder, kind, *_ = line.split()
        if kind == "tmpfs":
            with suppress(OSError):
                devices.add(Path(folder).stat().st_dev)
    return devices


MEMORY_DEVICES = _memory_devices()


def main() -> None:
    """Measure the command on the command line."""
    parser = argparse.ArgumentParser(description="Measure the peak memory of a job.")
    parser.add_argument("--cgroup", type=Path, help="measure by this cgroup v2 folder instead")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    if given.cgroup:
        print(f"{measure_by_cgroup(given.command, given.cgroup) / 1e6:.1f} MB, page cache too")
        return
    peak = measure(given.command)
    print(
        f"{peak.sampled_total / 1e6:.1f} MB sampled, {peak.largest_process / 1e6:.1f} MB "
        "resident at most in one process",
        file=sys.stderr,
    )
    sys.exit(peak.status)


if __name__ == "__main__":
    main()
