"""Publishing: a folder of tiles and the files beside it go to where they belong, or back.

Several names never change in one step. So each step here is one rename, in such an order that no
descriptor ever announces tiles that are not there, and how far it went can be read off the disk:

    work folder                          beside it
    new/name_files/.fasttile-new         tiles not yet published
    old/name.dzi, old/name_files         what stood there before, moved away
                                         name_files/.fasttile-new   these tiles are ours
    new/name.dzi                         descriptor not yet published; gone: it is
    publish-new or publish-over          all is written: a killed run is to be finished;
                                         in it the plan, for the next run may have other files

The file .fasttile-new travels with the tiles, and so tells after an exchange of the two folders
which is which; it is removed when all stands. From `prepare` to `settle` whatever is left by a
crash is finished by `recover`; before, it is rubbish.

This is about processes that die, not about power that fails: nothing is flushed to the disk
itself, which would cost more than all the rest of the run. After a loss of power within about
half a minute of the end, the system may have lost tiles that were published.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .rename import exchange, rename_new

_MARK = ".fasttile-new"

JOURNAL, RETIRED = "journal", "journal.done"
"""What names the tiles that are whole, and its name once these have left the work folder."""


class ForeignFolderError(FileExistsError):
    """The folder that would be replaced is not what it was taken for."""


@dataclass(frozen=True)
class Publication:
    """The way of a folder of tiles, and of files beside it, from a work folder to their places.

    Args:
        work: The work folder, claimed by this run.
        tiles: Where the tiles' folder goes, beside the work folder.
        files: Where files that announce it go, beside the work folder; the last one comes last.
        signs: Names that a folder must hold, all of them, to be replaced.
        stale: Files beside the work folder that announce what is replaced, and go with it.
    """

    work: Path
    tiles: Path
    files: tuple[Path, ...] = ()
    signs: tuple[str, ...] = ()
    stale: tuple[Path, ...] = ()

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
        (self.new_tiles / _MARK).touch()  # it may be there, if publishing was begun and undone
        _make(self.work / "plan", json.dumps(self._said()).encode())
        (self.work / "plan").rename(self.work / ("publish-over" if overwrite else "publish-new"))

    def publish(self) -> None:
        """Take the steps that are not yet taken; afterwards the result stands, whole.

        Raises:
            ForeignFolderError: The folder that stands there has not all of the signs.
            FileExistsError: Something stands there that may not be replaced.
            OSError: The system refused a step; `undo` is to be called.
        """
        if self._replaces and _exists(self.new_tiles / _MARK) and self.missing_sign() is not None:
            raise ForeignFolderError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.tiles))
        for path in reversed(self.files):
            if _exists(self.new(path)) and _exists(path):
                if not self._replaces:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
                path.replace(self._old(path))
        for path in self.stale:
            if _exists(path) and not _exists(self._old(path)):
                path.rename(self._old(path))
        if _exists(self.new_tiles / _MARK):
            self._publish_tiles()
        for path in self.files:
            if _exists(self.new(path)):
                rename_new(self.new(path), path)

    def settle(self) -> None:
        """End it, the result being published: what is in the work folder is rubbish now."""
        (self.tiles / _MARK).unlink(missing_ok=True)
        if _exists(self.work / JOURNAL):  # or the next run would take those tiles for whole
            (self.work / JOURNAL).replace(self.work / RETIRED)
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
            if _exists(path) and not _exists(self.new(path)):
                path.rename(self.new(path))
        if _exists(self.tiles / _MARK):
            if _exists(self.new_tiles):  # the old ones, after an exchange
                self.new_tiles.rename(self._old(self.tiles))
            self.tiles.rename(self.new_tiles)
        for path in (self.tiles, *self.stale, *self.files):
            if _exists(self._old(path)):
                rename_new(self._old(path), path)
        self._unmark()

    def missing_sign(self) -> str | None:
        """What the folder that stands there has not, and must have to be replaced, if anything.

        Raises:
            OSError: It cannot be looked into.
        """
        if not _exists(self.tiles):
            return None
        return next((name for name in self.signs if not (self.tiles / name).is_file()), None)

    def left(self) -> Publication:
        """What a killed run on this target had begun to publish, which may have other names.

        Raises:
            OSError: The system does not tell, or what it tells cannot be.
        """
        for name in ("publish-new", "publish-over"):
            if _exists(self.work / name):
                said = (self.work / name).read_bytes()
                if said:  # or the power failed; then these names are as good as any
                    return self._told(said)
        return self

    def _said(self) -> dict[str, Any]:
        """The plan, in names: the folders above may be renamed."""
        return {
            "tiles": self.tiles.name,
            "files": [path.name for path in self.files],
            "signs": self.signs,
            "stale": [path.name for path in self.stale],
        }

    def _told(self, said: bytes) -> Publication:
        """The other way round."""
        try:
            plan = json.loads(said)
            return Publication(
                self.work,
                self._beside(plan["tiles"]),
                tuple(self._beside(name) for name in plan["files"]),
                tuple(str(name) for name in plan["signs"]),
                tuple(self._beside(name) for name in plan["stale"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise OSError(errno.EIO, "its plan is damaged") from error

    def _beside(self, name: Any) -> Path:
        path = self.work.parent / str(name)
        if path.name != name or path.parent != self.work.parent or name == "..":
            raise ValueError(f"{name!r} is no name")
        return path

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
