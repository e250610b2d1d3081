"""Repair in a folder: file by file, each replaced by one rename."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..errors import TargetError
from ..sinks.oserrors import shown, telling
from ..sinks.publish import JOURNAL
from ..sinks.workfolder import WorkFolder
from .around import extras
from .descriptors import wrong_descriptors
from .mending import Anew, Picture
from .stored import Tiles

_NEW = "repaired"
"""The file in the work folder that becomes a tile."""


class FolderMend:
    """Puts repaired tiles into the folder of a result, which no other run may work on meanwhile.

    Args:
        tiles: Of the result.
        bad_wholes: Paths of pictures of whole levels that are wrong.

    Raises:
        TargetError: Another run works on it, or one was interrupted that can be finished.
    """

    def __init__(self, tiles: Tiles, bad_wholes: set[str]) -> None:
        self._tiles = tiles
        self._bad_wholes = bad_wholes
        target = tiles.target.absolute()
        self._target = target
        self._parent = target.parent
        self._root = os.path.realpath(target.parent / tiles.layout.root)
        self._count = 0
        self._refuse_left(tiles.work.absolute())
        self._work = WorkFolder(tiles.work.absolute())

    def put(self, anew: Anew) -> None:
        """Write a tile, if it is a new one."""
        if anew.data is None:
            return
        for path in self._tiles.layout.paths(anew.tile):
            self._replace(path, anew.data)
        self._count += 1

    def add(self, picture: Picture) -> None:
        """Write the picture of a whole level, where it was wrong."""
        for path in picture.paths:
            if path in self._bad_wholes:
                self._replace(path, picture.data)
                self._count += 1

    def finish(self) -> int:
        """Remove what does not belong there, mend descriptors, and give up the claim."""
        removed = True
        while removed:  # some file systems skip entries when others are removed meanwhile
            removed = False
            for extra in extras(self._tiles):
                if extra.wrong:
                    self._remove(extra.path)
                    removed = True
        for wrong in wrong_descriptors(self._tiles):
            self._replace(wrong.path, wrong.data)
            self._count += 1
        with telling("remove", self._work.path):
            self._work.remove()
        return self._count

    def abort(self) -> None:
        """Give up the claim; what was repaired stays so."""
        with suppress(OSError):
            self._work.remove()
        self._work.leave()

    def _refuse_left(self, work: Path) -> None:
        """Refuse to touch what a run has left that can be finished or carried on."""
        with telling("look into", work):
            left = {entry.name for entry in work.iterdir()} if work.is_dir() else set()
        if left & {JOURNAL, "publish-new", "publish-over"}:
            raise TargetError(
                f"{shown(self._target)}: a run on it was interrupted; cut it again to finish that, "
                f"or remove {shown(work)}"
            )

    def _replace(self, relative: str, data: bytes) -> None:
        path = self._parent / relative
        with telling("write", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._refuse_outside(path)
            new = self._work.path / _NEW
            new.write_bytes(data)
            new.replace(path)

    def _remove(self, relative: str) -> None:
        path = self._parent / relative
        with telling("remove", path):
            self._refuse_outside(path)
            path.unlink()
        self._count += 1
        for folder in path.parents:
            if os.path.realpath(folder) == self._root:
                break
            try:
                folder.rmdir()
            except OSError:  # there is more in it
                break

    def _refuse_outside(self, path: Path) -> None:
        """Refuse to follow symbolic links out of the result's folder."""
        real = os.path.realpath(path.parent)
        if real != os.path.realpath(self._parent) and not f"{real}{os.sep}".startswith(
            self._root.rstrip(os.sep) + os.sep
        ):
            raise TargetError(f"{shown(path)} leads out of {shown(self._target)}: not repaired")
