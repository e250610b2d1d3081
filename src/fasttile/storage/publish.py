"""Publishing: a folder of tiles and the files beside it go to where they belong, or back.

Several names never change in one step. So each step here is one rename, in such an order that no
descriptor ever announces tiles that are not there, and how far it went can be read off the disk:

    work folder                          beside it
    new/name_files/.fasttile-new         tiles not yet published
    old/name.dzi, old/name_files         earlier result, moved away
                                         name_files/.fasttile-new   marks the new tiles
    new/name.dzi                         descriptor not yet published; gone: it is
    publish-new or publish-over          all is written: a killed run is to be finished;
                                         in it the plan, for the next run may have other files

The file .fasttile-new moves with the tiles, and so shows after an exchange of the two folders
which is which; it is removed when all is published. From `prepare` to `finish` everything that is left by a
crash is finished by `recover`; before, it is rubbish.

This is about processes that die, not about power that fails: nothing is flushed to the disk
itself, which would cost more than all the rest of the run. After a loss of power within about
half a minute of the end, the system may have lost tiles that were published.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fasttile.storage.paths import exchange, rename_new

_NEW_TILES_MARKER = ".fasttile-new"

JOURNAL_NAME, RETIRED_JOURNAL_NAME = "journal", "journal.done"
"""Name of the file that marks complete tiles, before and after they leave the work folder."""


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

    work_path: Path
    tiles: Path
    files: tuple[Path, ...] = ()
    required_files: tuple[str, ...] = ()
    stale: tuple[Path, ...] = ()

    @property
    def new_tiles(self) -> Path:
        """Where the tiles' folder is made."""
        return self.new_path(self.tiles)

    def new_path(self, path: Path) -> Path:
        """Where what goes to a path is made."""
        return self.work_path / "new" / path.name

    @property
    def is_pending(self) -> bool:
        """Whether publishing began and is neither settled nor undone."""
        return any(_path_exists(self.work_path / name) for name in ("publish-new", "publish-over"))

    @property
    def _is_replacing(self) -> bool:
        return _path_exists(self.work_path / "publish-over")

    @property
    def _has_unpublished(self) -> bool:
        """Whether there is something left to publish."""
        waiting = any(_path_exists(self.new_path(path)) for path in self.files)
        return waiting or _path_exists(self.new_tiles / _NEW_TILES_MARKER)

    def prepare(self, *, overwrite: bool) -> None:
        """Declare all files written, and if they may replace an existing result.

        All that needs room on the disk happens here, while nothing outside is touched.
        """
        (self.work_path / "old").mkdir()
        (
            self.new_tiles / _NEW_TILES_MARKER
        ).touch()  # it may be there, if publishing was begun and undone
        _create_file(self.work_path / "plan", json.dumps(self._to_json()).encode())
        (self.work_path / "plan").rename(
            self.work_path / ("publish-over" if overwrite else "publish-new")
        )

    def publish(self) -> None:
        """Take the remaining steps; afterwards the complete result is published.

        Raises:
            ForeignFolderError: The existing folder lacks required files.
            FileExistsError: The target exists and may not be replaced.
            OSError: A step fails; call `undo` then.
        """
        if (
            self._is_replacing
            and _path_exists(self.new_tiles / _NEW_TILES_MARKER)
            and self.missing_required_file() is not None
        ):
            raise ForeignFolderError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.tiles))
        for path in reversed(self.files):
            if _path_exists(self.new_path(path)) and _path_exists(path):
                if not self._is_replacing:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
                path.replace(self._old_path(path))
        for path in self.stale:
            if _path_exists(path) and not _path_exists(self._old_path(path)):
                path.rename(self._old_path(path))
        if _path_exists(self.new_tiles / _NEW_TILES_MARKER):
            self._publish_tiles()
        for path in self.files:
            if _path_exists(self.new_path(path)):
                rename_new(self.new_path(path), path)

    def finish(self) -> None:
        """End it, the result being published: what is in the work folder is rubbish now."""
        (self.tiles / _NEW_TILES_MARKER).unlink(missing_ok=True)
        if _path_exists(self.work_path / JOURNAL_NAME):  # or the next run would use those tiles
            (self.work_path / JOURNAL_NAME).replace(self.work_path / RETIRED_JOURNAL_NAME)
        self._remove_plan()

    def undo(self) -> None:
        """Restore the earlier result, unless the new one is published already.

        Killed half way it leaves what `recover` can finish.

        Raises:
            OSError: A step fails; it is still pending.
        """
        if not self.is_pending:
            return
        if not self._has_unpublished:
            self.finish()
            return
        for path in reversed(self.files):
            if _path_exists(path) and not _path_exists(self.new_path(path)):
                path.rename(self.new_path(path))
        if _path_exists(self.tiles / _NEW_TILES_MARKER):
            if _path_exists(self.new_tiles):  # the old ones, after an exchange
                self.new_tiles.rename(self._old_path(self.tiles))
            self.tiles.rename(self.new_tiles)
        for path in (self.tiles, *self.stale, *self.files):
            if _path_exists(self._old_path(path)):
                rename_new(self._old_path(path), path)
        self._remove_plan()

    def missing_required_file(self) -> str | None:
        """A required file that the existing folder lacks, or None if it may be replaced.

        Raises:
            OSError: It cannot be looked into.
        """
        if not _path_exists(self.tiles):
            return None
        return next(
            (name for name in self.required_files if not (self.tiles / name).is_file()), None
        )

    def load_pending(self) -> Publication:
        """What a killed run on this target had begun to publish, which may have other names.

        Raises:
            OSError: The files cannot be read.
        """
        for name in ("publish-new", "publish-over"):
            if _path_exists(self.work_path / name):
                said = (self.work_path / name).read_bytes()
                if said:  # or the power failed; then these names are as good as any
                    return self._from_json(said)
        return self

    def _to_json(self) -> dict[str, Any]:
        """The plan, in names: the folders above may be renamed."""
        return {
            "tiles": self.tiles.name,
            "files": [path.name for path in self.files],
            "signs": self.required_files,
            "stale": [path.name for path in self.stale],
        }

    def _from_json(self, data: bytes) -> Publication:
        """The other way round."""
        try:
            plan = json.loads(data)
            return Publication(
                self.work_path,
                self._sibling_path(plan["tiles"]),
                tuple(self._sibling_path(name) for name in plan["files"]),
                tuple(str(name) for name in plan["signs"]),
                tuple(self._sibling_path(name) for name in plan["stale"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise OSError(errno.EIO, "its plan is damaged") from error

    def _sibling_path(self, name: Any) -> Path:
        path = self.work_path.parent / str(name)
        if path.name != name or path.parent != self.work_path.parent or name == "..":
            raise ValueError(f"{name!r} is no name")
        return path

    def recover(self) -> bool:
        """Finish what a killed run had begun to publish; whether there was such a thing.

        If the target exists by now and may not be replaced, the step is undone.

        Raises:
            OSError: A step fails; it is still pending.
        """
        if not self.is_pending:
            return False
        try:
            self.publish()
        except FileExistsError:
            self.undo()
            return False
        self.finish()
        return True

    def _publish_tiles(self) -> None:
        if self._is_replacing and _path_exists(self.tiles):
            if exchange(self.new_tiles, self.tiles):
                return
            self.tiles.rename(self._old_path(self.tiles))
        rename_new(self.new_tiles, self.tiles)

    def _remove_plan(self) -> None:
        for name in ("publish-new", "publish-over"):
            (self.work_path / name).unlink(missing_ok=True)

    def _old_path(self, path: Path) -> Path:
        return self.work_path / "old" / path.name


def _path_exists(path: Path) -> bool:
    """Whether something has this name, also a symbolic link to nowhere."""
    return os.path.lexists(path)


def _create_file(path: Path, data: bytes = b"") -> None:
    """Make a file that did not exist."""
    with path.open("xb", buffering=0) as file:
        file.write(data)


# Publishing: what a run has made goes to its places, all of it, or all of it back.
#
# A collection's result is several folders and files, and several names never change in one step. So
# there is a list of moves, written into the work folder as `moves.json` once all is made, and each
# move is a plain rename, so that how far they went can be read off the disk:
#
#     work folder
#     new/name      what is not yet in its place; gone: it is there
#     old/number    earlier target of that move
#
# What announces something goes first and comes last: at no moment does a descriptor stand there
# whose tiles do not. While moves.json exists, the next run finishes what a crash left by `recover`.
# An older result is away for the moment between two renames, as its descriptor is; to exchange
# folders in one step would gain nothing.


@dataclass(frozen=True)
class Move:
    """The way of one folder or file.

    Args:
        name: What it is called in `new`.
        target: Where it goes, relative to the folder that the work folder lies in.
        announces: Whether it says that others are there.
        replaces: True if it may replace an existing target.
    """

    name: str
    target: str
    announces: bool = False
    replaces: bool = False


class Moves:
    """The moves of a run, begun or not.

    Args:
        work: The work folder, claimed by this run.
    """

    def __init__(self, work: Path) -> None:
        self._work = work
        self._list_path = work / "moves.json"

    @property
    def is_pending(self) -> bool:
        """Whether they began and are neither settled nor undone."""
        return self._list_path.exists()

    def prepare(self, moves: Sequence[Move]) -> None:
        """Say that all is made, and where it goes; what announces others comes behind them."""
        text = json.dumps([asdict(move) for move in moves])
        draft = self._work / "moves.draft"
        draft.write_text(text, encoding="ascii")
        draft.rename(self._list_path)

    def publish(self) -> None:
        """Take the steps that are not yet taken; afterwards all stands in its place.

        Raises:
            FileExistsError: The target exists and may not be replaced.
            OSError: A step fails; call `undo` then.
        """
        moves = list(self._steps())
        for move, new, old, target in reversed(moves):
            if move.announces and _path_exists(new) and _path_exists(target):
                _move_away(move, target, old)
        for move, new, old, target in moves:
            if _path_exists(new):
                if _path_exists(target):
                    _move_away(move, target, old)
                rename_new(new, target)

    def finish(self) -> None:
        """End it, all being published: what is in the work folder is rubbish now."""
        self._list_path.unlink()

    def undo(self) -> None:
        """Restore the earlier targets, unless all are published already.

        Killed half way it leaves what `recover` can finish.

        Raises:
            OSError: A step fails; the steps are still pending.
        """
        moves = list(self._steps())
        if any(_path_exists(new) for _, new, _, _ in moves):
            for _, new, _, target in reversed(moves):
                if not _path_exists(new):
                    target.rename(new)
            for _, _, old, target in moves:
                if _path_exists(old):
                    rename_new(old, target)
        self.finish()

    def recover(self) -> bool:
        """Finish what a killed run had begun; whether there was such a thing, and it is done.

        If the target exists by now and may not be replaced, the step is undone.

        Raises:
            OSError: A step fails; the steps are still pending.
        """
        if not self.is_pending:
            return False
        try:
            self.publish()
        except FileExistsError:
            self.undo()
            return False
        self.finish()
        return True

    def _steps(self) -> Iterator[tuple[Move, Path, Path, Path]]:
        """Each move, where it comes from, where what it replaces goes, and where it goes."""
        for number, move in enumerate(self._load()):
            new, old = self._work / "new" / move.name, self._work / "old" / str(number)
            yield move, new, old, Path(os.path.normpath(self._work.parent / move.target))

    def _load(self) -> list[Move]:
        """The list of moves; it must be written by fasttile, as it names what is replaced."""
        status = self._list_path.lstat()
        if hasattr(os, "geteuid") and status.st_uid not in (os.geteuid(), 0):
            raise PermissionError(errno.EPERM, "somebody else has written it", str(self._list_path))
        try:
            return [
                Move(**words) for words in json.loads(self._list_path.read_text(encoding="ascii"))
            ]
        except (TypeError, ValueError) as error:
            raise OSError(errno.EINVAL, f"it is damaged ({error})", str(self._list_path)) from error


def _move_away(move: Move, target: Path, old: Path) -> None:
    if not move.replaces:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    rename_new(target, old)
