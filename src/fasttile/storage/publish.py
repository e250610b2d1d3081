"""Publishing: moves a result from its work folder to its place, or restores the older one.

Several names never change in one step. So each step is one rename, in such an order that no
descriptor ever announces tiles that do not exist, and the names on the disk show which steps were
taken. There are two lists of steps. `Publication` is for a folder of tiles, with the files beside
it, and replaces the folder by an exchange; `Moves` is for the many folders of a collection:

    work folder                          beside it
    new/name_files/.fasttile-new         tiles not yet published
    old/name.dzi, old/name_files         the older result, moved away
                                         name_files/.fasttile-new   the new tiles
    new/name.dzi                         descriptor not yet published
    publish-new or publish-over          all is written: the next run finishes the steps; the
                                         file holds the plan, for that run may have other files

    new/name                             a folder or file of a collection, not yet published
    old/number                           the older one that this move replaces
    moves.json                           all is written: the list of the moves

The file .fasttile-new is moved with the tiles and shows after an exchange which folder is the new
one; it is removed at the end. From `prepare` to `finish` a later run finishes what a crash left, by
`recover`; before, it removes it.

All this is about processes that die, not about a loss of power: nothing is flushed to the disk
itself, which would cost more than all the rest of the run. After a loss of power within about half
a minute of the end, the system may have lost tiles that were published.
"""

from __future__ import annotations

import errno
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fasttile.storage.paths import (
    already_exists_error,
    exchange,
    make_folders,
    os_target_error,
    printable_path,
    remove_folders,
    rename_new,
    wrap_os_errors,
)
from fasttile.storage.work_folder import WorkFolder

_NEW_TILES_MARKER = ".fasttile-new"
_PLAN_NAMES = ("publish-new", "publish-over")
_MOVES_NAME = "moves.json"

JOURNAL_NAME, RETIRED_JOURNAL_NAME = "journal", "journal.done"
"""The list of the complete tiles, and its name once these have left the work folder."""


class ForeignFolderError(FileExistsError):
    """The folder to replace is not a result of this layout."""


class _Steps:
    """Base of the two lists of steps."""

    @property
    def is_pending(self) -> bool:
        """True between `prepare` and `finish` or `undo`, of this run or a killed one."""
        raise NotImplementedError

    def publish(self) -> None:
        """Take the steps that are not yet taken."""
        raise NotImplementedError

    def finish(self) -> None:
        """End the publication; the work folder can be removed."""
        raise NotImplementedError

    def undo(self) -> None:
        """Restore the older result, unless the new one is published already."""
        raise NotImplementedError

    def recover(self) -> bool:
        """Finish what a killed run began to publish; undo it if a file there must not be replaced.

        Returns:
            True if a result was published.

        Raises:
            OSError: A step failed; the publication is still pending.
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


@dataclass(frozen=True)
class Publication(_Steps):
    """The steps for a folder of tiles and the files beside it.

    Args:
        work_path: The work folder, which this run has locked.
        tiles: The published folder of tiles, beside the work folder.
        files: The files that announce it, beside the work folder; the last one is published last.
        required_files: Names of files that a folder must hold, all of them, to be replaced.
        stale: Files beside the work folder that announce the older result, and go with it.
    """

    work_path: Path
    tiles: Path
    files: tuple[Path, ...] = ()
    required_files: tuple[str, ...] = ()
    stale: tuple[Path, ...] = ()

    @property
    def new_tiles(self) -> Path:
        """The folder of tiles in the work folder."""
        return self.new_path(self.tiles)

    def new_path(self, path: Path) -> Path:
        """The path in the work folder of a file to publish."""
        return self.work_path / "new" / path.name

    @property
    def is_pending(self) -> bool:
        return any(_path_exists(self.work_path / name) for name in _PLAN_NAMES)

    @property
    def _is_replacing(self) -> bool:
        return _path_exists(self.work_path / "publish-over")

    @property
    def _has_unpublished(self) -> bool:
        """True if something is left to publish."""
        waiting = any(_path_exists(self.new_path(path)) for path in self.files)
        return waiting or _path_exists(self.new_tiles / _NEW_TILES_MARKER)

    def prepare(self, *, overwrite: bool) -> None:
        """Record that all is written, and whether it may replace an older result.

        All that takes space on the disk happens here, while nothing outside is touched.
        """
        (self.work_path / "old").mkdir()
        # The marker exists already if an earlier publication was undone.
        (self.new_tiles / _NEW_TILES_MARKER).touch()
        plan = {  # names only: the folders above may be renamed
            "tiles": self.tiles.name,
            "files": [path.name for path in self.files],
            "signs": self.required_files,
            "stale": [path.name for path in self.stale],
        }
        with (self.work_path / "plan").open("xb", buffering=0) as file:
            file.write(json.dumps(plan).encode())
        (self.work_path / "plan").rename(
            self.work_path / ("publish-over" if overwrite else "publish-new")
        )

    def publish(self) -> None:
        """Take the steps that are not yet taken; afterwards the result is complete.

        Raises:
            ForeignFolderError: The folder to replace lacks one of the required files.
            FileExistsError: A file exists that must not be replaced.
            OSError: A step failed; call `undo`.
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
        """End the publication; the rest of the work folder can be removed."""
        (self.tiles / _NEW_TILES_MARKER).unlink(missing_ok=True)
        journal = self.work_path / JOURNAL_NAME
        if _path_exists(journal):  # or the next run would rely on tiles that have moved away
            journal.replace(self.work_path / RETIRED_JOURNAL_NAME)
        self._remove_plan()

    def undo(self) -> None:
        """Restore the older result, unless the new one is published already.

        If the process is killed in between, `recover` can finish.

        Raises:
            OSError: A step failed; the publication is still pending.
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
        """The first required file that the folder to replace lacks, or None.

        Raises:
            OSError: The folder cannot be read.
        """
        if not _path_exists(self.tiles):
            return None
        return next(
            (name for name in self.required_files if not (self.tiles / name).is_file()), None
        )

    def load_pending(self) -> Publication:
        """The publication that a killed run began, which may have other names; else this one.

        Raises:
            OSError: The plan cannot be read, or is damaged.
        """
        for name in _PLAN_NAMES:
            if _path_exists(self.work_path / name):
                data = (self.work_path / name).read_bytes()
                if data:  # empty after a loss of power: the names of this run are the best guess
                    return self._from_json(data)
        return self

    def _from_json(self, data: bytes) -> Publication:
        """The publication of a plan file."""
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
            raise ValueError(f"{name!r} is not a file name")
        return path

    def _publish_tiles(self) -> None:
        if self._is_replacing and _path_exists(self.tiles):
            if exchange(self.new_tiles, self.tiles):
                return
            self.tiles.rename(self._old_path(self.tiles))
        rename_new(self.new_tiles, self.tiles)

    def _remove_plan(self) -> None:
        for name in _PLAN_NAMES:
            (self.work_path / name).unlink(missing_ok=True)

    def _old_path(self, path: Path) -> Path:
        return self.work_path / "old" / path.name


def _path_exists(path: Path) -> bool:
    """True if the name exists, be it a symbolic link to nowhere."""
    return os.path.lexists(path)


@dataclass(frozen=True)
class Move:
    """One folder or file of a collection, and its place.

    Args:
        name: Its name in the folder `new`.
        target: Its place, relative to the folder that holds the work folder.
        announces: True for a descriptor: it goes first when it is replaced, and comes last.
        replaces: True if it may replace an older one.
    """

    name: str
    target: str
    announces: bool = False
    replaces: bool = False


class Moves(_Steps):
    """The steps for the folders and files of a collection.

    An older folder is away between two renames, as its descriptor is: an exchange of the folders in
    one step has no advantage here.

    Args:
        work: The work folder, which this run has locked.
    """

    def __init__(self, work: Path) -> None:
        self._work = work
        self._list_path = work / _MOVES_NAME

    @property
    def is_pending(self) -> bool:
        return self._list_path.exists()

    def prepare(self, moves: Sequence[Move]) -> None:
        """Record that all is written, and its places; a descriptor comes after its tiles."""
        text = json.dumps([asdict(move) for move in moves])
        draft = self._work / "moves.draft"
        draft.write_text(text, encoding="ascii")
        draft.rename(self._list_path)

    def publish(self) -> None:
        """Take the steps that are not yet taken.

        Raises:
            FileExistsError: A file exists that must not be replaced.
            OSError: A step failed; call `undo`.
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
        """End the publication; the rest of the work folder can be removed."""
        self._list_path.unlink()

    def undo(self) -> None:
        """Restore what was replaced, unless all is published already.

        If the process is killed in between, `recover` can finish.

        Raises:
            OSError: A step failed; the moves are still pending.
        """
        if not self.is_pending:
            return
        moves = list(self._steps())
        if any(_path_exists(new) for _, new, _, _ in moves):
            for _, new, _, target in reversed(moves):
                if not _path_exists(new):
                    target.rename(new)
            for _, _, old, target in moves:
                if _path_exists(old):
                    rename_new(old, target)
        self.finish()

    def _steps(self) -> Iterator[tuple[Move, Path, Path, Path]]:
        """Each move, with the paths of the new one, of the replaced one, and of its place."""
        for number, move in enumerate(self._load()):
            new, old = self._work / "new" / move.name, self._work / "old" / str(number)
            yield move, new, old, Path(os.path.normpath(self._work.parent / move.target))

    def _load(self) -> list[Move]:
        """The list; one of another user is rejected, for it names the files to replace."""
        status = self._list_path.lstat()
        if hasattr(os, "geteuid") and status.st_uid not in (os.geteuid(), 0):
            raise PermissionError(errno.EPERM, "it belongs to another user", str(self._list_path))
        try:
            rows = json.loads(self._list_path.read_text(encoding="ascii"))
            return [Move(**row) for row in rows]
        except (TypeError, ValueError) as error:
            raise OSError(errno.EINVAL, f"it is damaged ({error})", str(self._list_path)) from error


def _move_away(move: Move, target: Path, old: Path) -> None:
    if not move.replaces:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    rename_new(target, old)


class PublishingFolder:
    """The work folder of one run on one target, from its lock to the published result.

    Args:
        path: The work folder, beside the target.
        target: The file or folder that a user opens; messages name it.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self._target = target
        self._created_parents: list[Path] = []
        self._steps: Publication | Moves | None = None  # to undo if the run fails
        self._work_folder: WorkFolder | None = None

    @property
    def is_open(self) -> bool:
        """True from `open` until the folder is removed or left."""
        return self._work_folder is not None

    def open(self) -> None:
        """Make the folder, with the missing ones above it, and lock it.

        Raises:
            TargetError: Another run works in it, or it cannot be made.
        """
        self.make_parents(self._target)
        self._work_folder = WorkFolder(self.path)

    def make_parents(self, path: Path) -> None:
        """Make the folders above a path; they are removed if nothing is published.

        Raises:
            TargetError: They cannot be made.
        """
        with wrap_os_errors("make folder", path.parent):
            make_folders(path.parent, self._created_parents)

    def recover(self, steps: Publication | Moves) -> bool:
        """Finish what a killed run began to publish; True if a result was published.

        Raises:
            TargetError: A step failed.
        """
        with wrap_os_errors("finish what a killed run left in", self.path):
            self._steps = steps.load_pending() if isinstance(steps, Publication) else steps
            has_published = self._steps.recover()
            self._steps = None
        return has_published

    def clear(self, *keep: str) -> None:
        """Remove what a killed run left, except for these names.

        Raises:
            TargetError: Something cannot be removed.
        """
        assert self._work_folder is not None
        with wrap_os_errors("remove what a killed run left in", self.path):
            self._work_folder.clear(*keep)

    def ensure_in_place(self) -> None:
        """Check that the folder is where it was made.

        Raises:
            TargetError: It was moved, removed or replaced.
        """
        assert self._work_folder is not None
        self._work_folder.ensure_in_place()

    def publish(self, steps: Publication | Moves, prepare: Callable[[], None]) -> None:
        """Prepare and take all steps; afterwards the result is complete.

        Raises:
            FileExistsError, OSError: A step failed; call `roll_back`.
        """
        self._steps = steps
        prepare()
        steps.publish()
        self._created_parents.clear()

    def close_published(self) -> None:
        """Remove the folder after its result is published.

        If files cannot be removed, a RuntimeWarning names them: the result is complete.
        """
        work = self._work_folder
        assert work is not None
        try:
            if self._steps is not None:
                self._steps.finish()
            work.remove()
            self._work_folder = None  # only now: after an interrupt `roll_back` does the rest
        except OSError as error:
            self._work_folder = None
            work.release()
            warnings.warn(
                f"{printable_path(self._target)} is published, but something is left in "
                f"{printable_path(work.path)}: {error.strerror}; the next run on it removes that",
                RuntimeWarning,
                stacklevel=4,
            )

    def roll_back(self, is_kept: Callable[[], bool] = lambda: False) -> None:
        """Undo what is not published, as far as possible, and release the folder. Never raises.

        Args:
            is_kept: True if the next run needs the contents, to resume.
        """
        work, self._work_folder = self._work_folder, None
        if work is not None:
            with suppress(OSError):
                if self._steps is not None:
                    self._steps.undo()
            # A folder with steps that could not be undone holds the older result.
            names = (*_PLAN_NAMES, _MOVES_NAME)
            if not any(_path_exists(self.path / name) for name in names) and not is_kept():
                with suppress(OSError):
                    work.remove()
            work.release()
        remove_folders(self._created_parents)


@contextmanager
def wrap_publishing_errors(target: Path) -> Iterator[None]:
    """Turn an OSError of the block into a TargetError that names the target."""
    try:
        yield
    except FileExistsError as error:
        raise already_exists_error(error.filename2 or error.filename) from error
    except OSError as error:
        raise os_target_error("publish", target, error) from error
