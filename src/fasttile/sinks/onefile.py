"""One file that grows out of sight, and appears when it is whole, or not at all.

As with folders of tiles, a run works in the hidden folder `.name.ending.fasttile` beside the
target; what a killed run left there, the next one removes. To publish is one rename.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import TargetError
from .oserrors import refusal, shown, telling
from .places import absolute, exists_already, make_folders
from .rename import rename_new
from .workfolder import WorkFolder

_AT_ONCE = 1024
"""How many buffers the system takes at a time, at least."""


class OneFile:
    """A file in the making; open for writing at its end, and for reading and mending anywhere.

    Missing folders above the target are made, and unmade by `abort`.

    Args:
        target: Where the file goes.
        overwrite: Whether it may replace a file that stands there.

    Attributes:
        size: How many bytes it has.
        descriptor: Of the file; -1 once it has ended.

    Raises:
        TargetError: Something stands there and may not be replaced, another run works on this
            target, or its folder cannot be written.
    """

    def __init__(self, target: str | Path, *, overwrite: bool = False) -> None:
        self.target = absolute(Path(target))
        self.size = 0
        self.descriptor = -1
        self._overwrite = overwrite
        self._work: WorkFolder | None = None
        self._made_parents: list[Path] = []
        try:
            self._begin()
        except BaseException:
            self.abort()
            raise

    @property
    def work(self) -> Path:
        """The folder it grows in, which is this run's own."""
        return self.target.parent / f".{self.target.name}.fasttile"

    @property
    def new(self) -> Path:
        """The file's path until it is published."""
        return self.work / self.target.name

    def check_alive(self) -> None:
        """Refuse to publish what was published or given up.

        Raises:
            TargetError: It was.
        """
        if self._work is None:
            raise TargetError(f"cannot publish {shown(self.target)}: its sink has ended")

    def append(self, *parts: bytes | bytearray | memoryview) -> int:
        """Write at the file's end; gives where the first part begins.

        Raises:
            TargetError: The system refused.
            ValueError: It was published or given up.
        """
        start = self.size
        try:
            self.size += _write_all(self.descriptor, parts)
        except OSError as error:
            if self.descriptor < 0:
                raise ValueError("the sink has ended; it takes no more tiles") from None
            raise refusal("write", self.new, error) from error
        return start

    def mend(self, data: bytes, offset: int) -> None:
        """Write over what is there, or left free.

        Raises:
            TargetError: The system refused.
        """
        with telling("write", self.new):
            os.lseek(self.descriptor, offset, os.SEEK_SET)
            _write_all(self.descriptor, [data])
            os.lseek(self.descriptor, 0, os.SEEK_END)

    def publish(self) -> None:
        """Let it appear, whole.

        Raises:
            TargetError: The system refused, or something has appeared there in the meantime.
        """
        self.check_alive()
        try:
            self._close()  # where some file systems only tell that there was no room
            if self._overwrite:
                self.new.replace(self.target)
            else:
                rename_new(self.new, self.target)
        except FileExistsError as error:
            raise exists_already(self.target) from error
        except OSError as error:
            raise refusal("publish", self.target, error) from error
        self._made_parents.clear()
        self.abort()  # what is left to clean up

    def abort(self) -> None:
        """Leave nothing behind, and what stood there before as it was. Never raises."""
        with suppress(OSError):
            self._close()
        if self._work is not None:
            with suppress(OSError):
                self._work.remove()
            self._work.leave()
            self._work = None  # only now: should this be interrupted, it is called again
        for folder in reversed(self._made_parents):
            with suppress(OSError):  # it is not empty: somebody else uses it
                folder.rmdir()
        self._made_parents.clear()

    def _begin(self) -> None:
        _refuse_unfit(self.target)
        self._refuse_existing()
        with telling("make folder", self.target.parent):
            make_folders(self.target.parent, self._made_parents)
        self._work = WorkFolder(self.work)
        with telling("remove what a killed run left in", self.work):
            self._work.clear()
        self._refuse_existing()
        with telling("write", self.new):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            self.descriptor = os.open(self.new, flags | getattr(os, "O_CLOEXEC", 0), 0o666)

    def _refuse_existing(self) -> None:
        if not self._overwrite and os.path.lexists(self.target):
            raise exists_already(self.target)

    def _close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _refuse_unfit(target: Path) -> None:
    """Refuse names that lead to what cannot be replaced as a whole."""
    with telling("look at", target):
        try:
            mode = target.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISLNK(mode):
            raise TargetError(
                f"{shown(target)} is a symbolic link; remove it, or name what it leads to"
            )
        if not stat.S_ISREG(mode):
            raise TargetError(f"{shown(target)} exists and is not a plain file")


def _write_all(descriptor: int, parts: Sequence[bytes | bytearray | memoryview]) -> int:
    """Write all parts one after the other, in as few calls as can be; gives their bytes."""
    total = sum(len(part) for part in parts)
    if sys.platform != "win32" and len(parts) <= _AT_ONCE:
        done = os.writev(descriptor, parts)
        if done == total:
            return total
        rest = b"".join(parts)[done:]
    else:
        rest = b"".join(parts)
    view = memoryview(rest)
    while view:
        view = view[os.write(descriptor, view) :]
    return total
