"""Publishing: a folder of tiles and the files beside it go to where they belong, or back.

Several names never change in one step. So each step here is one rename, in such an order that no
descriptor ever announces tiles that are not there, and how far it went can be read off the disk:

    work folder                          beside it
    new/name_files/.fasttile-new         tiles not yet published
    old/name.dzi, old/name_files         what stood there before, moved away
                                         name_files/.fasttile-new   these tiles are ours
    new/name.dzi                         descriptor not yet published; gone: it is
    publish-new or publish-over          all is written: a killed run is to be finished;
                                         in it the names of what is published

The file .fasttile-new travels with the tiles, and so tells after an exchange of the two folders
which is which; it is removed when all stands. From `prepare` to `settle` whatever is left by a
crash is finished by `recover`; before, it is rubbish.

This is about processes that die, not about power that fails: nothing is flushed to the disk
itself, which would cost more than all the rest of the run. After a loss of power within about
half a minute of the end, the system may have lost tiles that were published.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace
from pathlib import Path

from .rename import exchange, rename_new

_MARK = ".fasttile-new"


@dataclass(frozen=True)
class Publication:
    """The way of a folder of tiles, and of files beside it, from a work folder to their places.

    Args:
        work: The work folder, claimed by this run.
        tiles: Where the tiles' folder goes, beside the work folder.
        files: Where files that announce it go, beside the work folder; the last one comes last.
    """

    work: Path
    tiles: Path
    files: tuple[Path, ...] = ()

    @property
    def new_tiles(self) -> Path:
        """Where the tiles' folder is made."""
        return self.new(self.tiles)

    def new(self, path: Path) -> Path:
        """Where what goes to a path is made."""
        return self.work / "new" / path.name

    @property
    def pending(self) -> bool:
        """Whether publishing began and is neither settled nor undone."""
        return any(_exists(self.work / name) for name in ("publish-new", "publish-over"))

    @property
    def _replaces(self) -> bool:
        return _exists(self.work / "publish-over")

    @property
    def _unpublished(self) -> bool:
        """Whether there is something left to publish."""
        waiting = any(_exists(self.new(path)) for path in self.files)
        return waiting or _exists(self.new_tiles / _MARK)

    def prepare(self, *, overwrite: bool) -> None:
        """Say that all is written, and whether it may replace what stands there.

        All that needs room on the disk happens here, while nothing outside is touched.
        """
        (self.work / "old").mkdir()
        _make(self.new_tiles / _MARK)
        names = [os.fsencode(path.name) for path in (self.tiles, *self.files)]
        _make(self.work / "names", b"\0".join(names))
        (self.work / "names").rename(self.work / ("publish-over" if overwrite else "publish-new"))

    def publish(self) -> None:
        """Take the steps that are not yet taken; afterwards the result stands, whole.

        Raises:
            FileExistsError: Something stands there that may not be replaced.
            OSError: The system refused a step; `undo` is to be called.
        """
        for path in reversed(self.files):
            if _exists(self.new(path)) and _exists(path):
                if not self._replaces:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
                path.replace(self._old(path))
        if _exists(self.new_tiles / _MARK):
            self._publish_tiles()
        for path in self.files:
            if _exists(self.new(path)):
                rename_new(self.new(path), path)

    def settle(self) -> None:
        """End it, the result being published: what is in the work folder is rubbish now."""
        (self.tiles / _MARK).unlink(missing_ok=True)
        self._unmark()

    def undo(self) -> None:
        """Put back what stood there before, unless the new result is published already.

        Killed half way it leaves what `recover` can finish.

        Raises:
            OSError: The system refused a step, and it is still pending.
        """
        if not self.pending:
            return
        if not self._unpublished:
            self.settle()
            return
        for path in reversed(self.files):
            if not _exists(self.new(path)):
                path.rename(self.new(path))
        if _exists(self.tiles / _MARK):
            if _exists(self.new_tiles):  # the old ones, after an exchange
                self.new_tiles.rename(self._old(self.tiles))
            self.tiles.rename(self.new_tiles)
        for path in (self.tiles, *self.files):
            if _exists(self._old(path)):
                rename_new(self._old(path), path)
        self._unmark()

    def left(self) -> Publication:
        """What a killed run on this target had begun to publish, which may have other names.

        Raises:
            OSError: The system does not tell.
        """
        for name in ("publish-new", "publish-over"):
            if _exists(self.work / name):
                said = os.fsdecode((self.work / name).read_bytes())
                if said:  # or the power failed; then these names are as good as any
                    tiles, *files = (self.tiles.with_name(one) for one in said.split("\0"))
                    return replace(self, tiles=tiles, files=tuple(files))
        return self

    def recover(self) -> bool:
        """Finish what a killed run had begun to publish; whether there was such a thing.

        Where it may not replace what stands there by now, it is taken back instead.

        Raises:
            OSError: The system refused a step, and it is still pending.
        """
        if not self.pending:
            return False
        try:
            self.publish()
        except FileExistsError:
            self.undo()
            return False
        self.settle()
        return True

    def _publish_tiles(self) -> None:
        if self._replaces and _exists(self.tiles):
            if exchange(self.new_tiles, self.tiles):
                return
            self.tiles.rename(self._old(self.tiles))
        rename_new(self.new_tiles, self.tiles)

    def _unmark(self) -> None:
        for name in ("publish-new", "publish-over"):
            (self.work / name).unlink(missing_ok=True)

    def _old(self, path: Path) -> Path:
        return self.work / "old" / path.name


def _exists(path: Path) -> bool:
    """Whether something has this name, also a symbolic link to nowhere."""
    return os.path.lexists(path)


def _make(path: Path, data: bytes = b"") -> None:
    """Make a file that did not exist."""
    with path.open("xb", buffering=0) as file:
        file.write(data)
