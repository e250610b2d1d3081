"""One file that grows out of sight, and appears when it is whole, or not at all.

As with folders of tiles, a run works in the hidden folder `.name.ending.fasttile` beside the
target; what a killed run left there, the next one removes. To publish is one rename.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from ..errors import TargetError
from .growing import GrowingFile
from .oserrors import refusal, shown, telling
from .places import absolute, exists_already, make_folders
from .rename import rename_new
from .workfolder import WorkFolder


class OneFile(GrowingFile):
    """A file in the making.

    Missing folders above the target are made, and unmade by `abort`.

    Args:
        target: Where the file goes.
        overwrite: Whether it may replace a file that stands there.

    Raises:
        TargetError: Something stands there and may not be replaced, another run works on this
            target, or its folder cannot be written.
    """

    def __init__(self, target: str | Path, *, overwrite: bool = False) -> None:
        self.target = absolute(Path(target))
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
            TargetError: It was; or its folder was moved or removed.
        """
        if self._work is None:
            raise TargetError(f"cannot publish {shown(self.target)}: its sink has ended")
        self._work.check()

    def publish(self) -> None:
        """Let it appear, whole.

        Raises:
            TargetError: The system refused, or something has appeared there in the meantime.
        """
        self.check_alive()
        self.close()
        try:
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
        self.drop()
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
        super().__init__(self.new)

    def _refuse_existing(self) -> None:
        if not self._overwrite and os.path.lexists(self.target):
            raise exists_already(self.target)


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
