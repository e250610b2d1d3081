"""Small file systems, mounted where only their own user sees them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class MountedDisk:
    """A mounted file system.

    Attributes:
        path: Where it is.
    """

    def __init__(self, shell: subprocess.Popen[str], mount_point: Path) -> None:
        self.path = Path(f"/proc/{shell.pid}/root{mount_point}")
        self._shell = shell
        self._mount_point = mount_point

    def remount(self, options: str) -> None:
        """Change it: "ro", or another size."""
        self.run_command(f"mount -o remount,{options} {self._mount_point}")

    def run_command(self, command: str) -> bool:
        """Let the shell that sees it do something; whether it could."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{command} 2> /dev/null && echo done || echo failed\n")
        self._shell.stdin.flush()
        return self._shell.stdout.readline() == "done\n"


@contextmanager
def mount_disk(
    mount_point: Path, options: str, kind: str = "tmpfs"
) -> Iterator[MountedDisk | None]:
    """Mount a file system while the block lasts; None where that is not allowed.

    Args:
        mount_point: An empty folder.
        options: Options of mount, such as "size=1m".
        kind: The type of the file system.
    """
    # Nobody need be root for that where users may have namespaces of their own.
    shell = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "sh"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with shell:
        made = MountedDisk(shell, mount_point)
        try:
            done = made.run_command(f"mount -t {kind} -o {options} {kind} {mount_point}")
        except BrokenPipeError:
            done = False
        try:
            yield made if done else None
        finally:
            shell.kill()


@contextmanager
def mounted_disk(mount_point: Path, options: str, kind: str = "tmpfs") -> Iterator[MountedDisk]:
    """The same for a test, which is skipped where that is not allowed."""
    with mount_disk(mount_point, options, kind) as made:
        if made is None:
            pytest.skip(f"NOT TESTED: a {kind} cannot be mounted: no user namespaces here")
        yield made
