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

A work folder may come from somebody else, with the folder that it is in. So a plan only says which
of the names that the present run would publish are there; a plan with any other name is refused.
All entries are used by handles of the folders, and links are not followed.

Some folders cannot be renamed: in a container those that came with its image (overlayfs). An older
one is then removed instead, while no descriptor announces it. From there on the steps can only be
finished, by this run or the next: the file `forward` in the work folder says so.

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
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from fasttile.errors import FasttileError, TargetError, printable
from fasttile.storage.folders import Folder, exchange, rename, rename_new
from fasttile.storage.paths import (
    already_exists_error,
    make_folders,
    note_published,
    os_target_error,
    remove_folders,
    wrap_os_errors,
)
from fasttile.storage.work_folder import WorkFolder
from fasttile.types import Closing

_NEW_TILES_MARKER = ".fasttile-new"
_PLAN_NAMES = ("publish-new", "publish-over")
MOVES_NAME = "moves.json"
_FORWARD_NAME = "forward"
MAX_PLAN_BYTES = 2**26
MAX_DESCRIPTOR_BYTES = 2**16
"""No descriptor that fasttile writes has more bytes."""

JOURNAL_NAME, RETIRED_JOURNAL_NAME = "journal", "journal.done"
"""The list of the complete tiles, and its name once these have left the work folder."""

BLOCKS_FOLDER = "blocks"
"""The folder of the blocks of shards in the work folder."""

PENDING_NAMES = (*_PLAN_NAMES, MOVES_NAME)
"""The files that say that a killed run has to be finished."""


class ForeignFolderError(FileExistsError):
    """The folder to replace is not a result of this layout."""


class PublicationSteps(Closing):
    """Base of the two lists of steps.

    Args:
        work_folder: The work folder, which this run has locked.
    """

    def __init__(self, work_folder: WorkFolder) -> None:
        self._is_finished = False
        self._work_folder = work_folder
        self._site, self._work = work_folder.parent, work_folder.folder

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

    def undo(self) -> bool:
        """Restore the older result, unless the new one is published already.

        Returns:
            True if the new one is published.
        """
        raise NotImplementedError

    def load_plan(self) -> None:
        """Check the plan of a killed run, and follow it.

        Raises:
            TargetError: It has names that this run would not publish, or is damaged.
        """
        raise NotImplementedError

    def recover(self) -> bool:
        """Finish what a killed run began to publish; undo it if a file there must not be replaced.

        Returns:
            True if a result was published.

        Raises:
            OSError: A step failed; the publication is still pending.
            TargetError: The plan is not one of this run; nothing was changed.
        """
        if not self.is_pending:
            return False
        self.load_plan()
        try:
            self.publish()
        except FileExistsError:
            self.undo()
            return False
        self.finish()
        return True

    def check_no_links(self, folder: Folder, names: Iterable[str]) -> None:
        """Refuse to publish links: they may lead to files that are not for visitors.

        Raises:
            TargetError: An entry of the folder is no plain file and no folder of such.
            OSError: An entry cannot be examined.
        """
        for name in names:
            status = folder.status(name)
            if status is not None and stat.S_ISDIR(status.st_mode):
                with folder.open_folder(name) as entries:
                    strange = next(
                        (path for path, size in entries.walk_files() if size is None), None
                    )
            else:
                strange = None if status is None or stat.S_ISREG(status.st_mode) else ""
            if strange is not None:
                path = f"{name}/{strange}".rstrip("/")
                raise self.foreign_plan_error(f"holds {path}, which is no plain file")

    @property
    def is_forward_only(self) -> bool:
        """True if an older folder is removed, so that the steps cannot be undone."""
        return self._work.exists(_FORWARD_NAME)

    def remove_unmovable(self, folder: Folder, name: str) -> None:
        """Remove an older folder that cannot be renamed; the steps can only be finished then.

        Raises:
            OSError: Something cannot be removed.
        """
        if not self.is_forward_only:
            self._work.write_file(_FORWARD_NAME, b"")
        folder.remove_tree(name)

    def foreign_plan_error(self, problem: str) -> TargetError:
        return TargetError(
            f"{self._work_folder.path} {problem}, so nothing in it is used; repeat "
            "the run that left it, or remove it"
        )


class ResultNames(NamedTuple):
    """The names of one result, all in one folder.

    Attributes:
        layout: The name of its layout.
        tiles: The folder of tiles.
        files: The files that announce it; the last one is published last.
        required_files: Files that a folder must hold, all of them, to be replaced.
        stale: Files that may announce an older result, and then go with it.
    """

    layout: str
    tiles: str
    files: tuple[str, ...] = ()
    required_files: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()


def missing_required_file(site: Folder, names: ResultNames) -> str | None:
    """The first required file that the folder to replace lacks, or None.

    Args:
        site: The folder that holds the result.
        names: The names of the result.

    Raises:
        OSError: The folder cannot be read.
    """
    if not site.exists(names.tiles):
        return None
    with site.open_folder(names.tiles) as tiles:
        for name in names.required_files:
            status = tiles.status(name)
            if status is None or not stat.S_ISREG(status.st_mode):
                return name
    return None


class Publication(PublicationSteps):
    """The steps for a folder of tiles and the files beside it.

    Args:
        work_folder: The work folder, beside the result; this run has locked it.
        names: The names of the result that this run publishes.
        is_stale: Says by a file's name and content if it announces an older result.
    """

    def __init__(
        self,
        work_folder: WorkFolder,
        names: ResultNames,
        is_stale: Callable[[str, bytes], bool] = lambda name, content: False,
    ) -> None:
        super().__init__(work_folder)
        self.names = names
        self._is_stale = is_stale
        self._new: Folder | None = None
        self._old: Folder | None = None

    def close(self) -> None:
        """Close the folders."""
        for folder in (self._new, self._old):
            if folder is not None:
                folder.close()
        self._new = self._old = None

    @property
    def new_folder(self) -> Folder:
        """The folder `new` in the work folder; it is made if need be."""
        if self._new is None:
            self._new = self._work.open_folder("new", create=True)
        return self._new

    @property
    def is_pending(self) -> bool:
        return any(self._work.exists(name) for name in _PLAN_NAMES)

    @property
    def _old_folder(self) -> Folder:
        if self._old is None:
            self._old = self._work.open_folder("old")
        return self._old

    @property
    def _is_replacing(self) -> bool:
        return self._work.exists("publish-over")

    @property
    def _has_new_tiles(self) -> bool:
        """True if the folder of new tiles is not published."""
        return self._is_marked(self.new_folder)

    def prepare(self, *, overwrite: bool) -> None:
        """Record that all is written, and whether it may replace an older result.

        All that takes space on the disk happens here, while nothing outside is touched.
        """
        names = self.names
        self._work.make_folder("old")
        with self.new_folder.open_folder(names.tiles) as tiles:
            # The marker exists already if an earlier publication was undone.
            if not tiles.exists(_NEW_TILES_MARKER):
                os.close(tiles.create_file(_NEW_TILES_MARKER))
        plan = {  # names only: the folders above may be renamed
            "layout": names.layout,
            "tiles": names.tiles,
            "files": names.files,
        }
        self._work.write_file("plan", json.dumps(plan).encode())
        rename(self._work, "plan", self._work, "publish-over" if overwrite else "publish-new")

    def load_plan(self) -> None:
        try:
            data = next(
                data
                for name in _PLAN_NAMES
                if (data := self._work.read_file(name, MAX_PLAN_BYTES)) is not None
            )
            # Empty after a loss of power: the names of this run are the best guess.
            plan = json.loads(data or json.dumps(self.names._asdict()))
            layout, tiles, files = plan["layout"], plan["tiles"], frozenset(plan["files"])
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise self.foreign_plan_error("has a damaged plan") from error
        known = self.names
        possible = (*known.stale, *known.files)
        foreign = sorted(map(str, files.difference(possible)))
        if layout != known.layout or tiles != known.tiles:
            foreign = [f"{layout} in {tiles}"]
        if foreign:
            names = ", ".join(foreign)
            raise self.foreign_plan_error(f"is of a run with another result ({names})")
        chosen = tuple(name for name in possible if name in files)
        stale = tuple(name for name in known.stale if name not in files)
        self.names = known._replace(files=chosen, stale=stale)
        waiting = [name for name in chosen if self.new_folder.exists(name)]
        if self._has_new_tiles:
            waiting.append(tiles)
        elif waiting and not self._is_marked(self._site):
            raise self.foreign_plan_error("lacks the tiles of its plan")
        self.check_no_links(self.new_folder, waiting)

    def publish(self) -> None:
        """Take the steps that are not yet taken; afterwards the result is complete.

        Raises:
            ForeignFolderError: The folder to replace lacks one of the required files.
            FileExistsError: A file exists that must not be replaced.
            OSError: A step failed; call `undo`.
        """
        names, site, new = self.names, self._site, self.new_folder
        is_replacing = self._is_replacing
        is_checked = is_replacing and self._has_new_tiles and not self.is_forward_only
        if is_checked and missing_required_file(site, names) is not None:
            path = str(site.path / names.tiles)
            raise ForeignFolderError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        for name in reversed(names.files):
            if new.exists(name) and site.exists(name):
                if not is_replacing:
                    path = str(site.path / name)
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
                rename(site, name, self._old_folder, name)
        for name in names.stale if is_replacing else ():
            if not self._old_folder.exists(name) and self._announces_older(name):
                rename(site, name, self._old_folder, name)
        if self._has_new_tiles:
            self._publish_tiles()
        for name in names.files:
            if new.exists(name):
                rename_new(new, name, site, name)

    def finish(self) -> None:
        """End the publication; the rest of the work folder can be removed."""
        if self._is_marked(self._site):
            with self._site.open_folder(self.names.tiles) as tiles:
                tiles.remove_file(_NEW_TILES_MARKER)
        if self._work.exists(JOURNAL_NAME):  # or the next run would rely on tiles that have left
            rename(self._work, JOURNAL_NAME, self._work, RETIRED_JOURNAL_NAME)
        self._is_finished = True
        self._remove_plan()

    def undo(self) -> bool:
        """Restore the older result, unless the new one is published already.

        If the process is killed in between, `recover` can finish.

        Returns:
            True if the new one is published.

        Raises:
            OSError: A step failed; the publication is still pending.
        """
        if not self.is_pending:
            return self._is_finished
        names, site, new, old = self.names, self._site, self.new_folder, self._old_folder
        if not (any(new.exists(name) for name in names.files) or self._has_new_tiles):
            self.finish()
            return True
        if self.is_forward_only:
            return False
        for name in reversed(names.files):
            if site.exists(name) and not new.exists(name):
                rename(site, name, new, name)
        if self._is_marked(site):
            if new.exists(names.tiles):  # the old ones, after an exchange
                rename(new, names.tiles, old, names.tiles)
            rename(site, names.tiles, new, names.tiles)
        for name in (names.tiles, *names.stale, *names.files):
            if old.exists(name):
                rename_new(old, name, site, name)
        self._remove_plan()
        return False

    def _announces_older(self, name: str) -> bool:
        status = self._site.status(name)
        if status is None or not stat.S_ISREG(status.st_mode):
            return False
        if status.st_size > MAX_DESCRIPTOR_BYTES:
            return False
        try:
            content = self._site.read_file(name, MAX_DESCRIPTOR_BYTES)
        except PermissionError:
            return False
        return content is not None and self._is_stale(name, content)

    def _is_marked(self, folder: Folder) -> bool:
        """True if the folder of tiles in this folder holds the new tiles."""
        status = folder.status(self.names.tiles)
        if status is None or not stat.S_ISDIR(status.st_mode):
            return False
        with folder.open_folder(self.names.tiles) as tiles:
            return tiles.exists(_NEW_TILES_MARKER)

    def _publish_tiles(self) -> None:
        site, new, name = self._site, self.new_folder, self.names.tiles
        if self._is_replacing and site.exists(name):
            try:
                if exchange(new, name, site, name):
                    return
                rename(site, name, self._old_folder, name)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self.remove_unmovable(site, name)
        rename_new(new, name, site, name)

    def _remove_plan(self) -> None:
        for name in (*_PLAN_NAMES, _FORWARD_NAME):
            self._work.remove_file(name)


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
        self._steps: PublicationSteps | None = None  # to undo if the run fails
        self._work_folder: WorkFolder | None = None

    @property
    def is_open(self) -> bool:
        """True from `open` until the folder is removed or left."""
        return self._work_folder is not None

    @property
    def folder(self) -> Folder:
        """The open work folder."""
        assert self._work_folder is not None
        return self._work_folder.folder

    def open(self) -> WorkFolder:
        """Make the folder, with the missing ones above it, and lock it.

        Raises:
            TargetError: Another run works in it, it is not the user's own, or it cannot be made.
        """
        self.make_parents(self._target)
        self._work_folder = WorkFolder(self.path)
        return self._work_folder

    def make_parents(self, path: Path) -> None:
        """Make the folders above a path; they are removed if nothing is published.

        Raises:
            TargetError: They cannot be made.
        """
        with wrap_os_errors("make folder", path.parent):
            make_folders(path.parent, self._created_parents)

    def recover(self, steps: PublicationSteps) -> bool:
        """Finish what a killed run began to publish; True if a result was published.

        Raises:
            TargetError: A step failed, or a plan there is not one of this run.
        """
        with wrap_os_errors("finish what a killed run left in", self.path):
            self._steps = steps
            try:
                has_published = steps.recover()
            except TargetError:  # nothing was changed, so there is nothing to undo
                self._steps = None
                raise
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

    def publish(self, steps: PublicationSteps, prepare: Callable[[], None]) -> None:
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
                self._steps.close()
            work.remove()
            self._work_folder = None
        except OSError as error:
            self._work_folder = None
            work.release()
            warnings.warn(
                printable(
                    f"{self._target} is published, but something is left in {work.path}: "
                    f"{error.strerror}; the next run on it removes that"
                ),
                RuntimeWarning,
                stacklevel=4,
            )

    def roll_back(self, is_kept: Callable[[], bool] = lambda: False) -> None:
        """Undo what is not published, as far as possible, and release the folder. Never raises.

        If the result is published, the exception that is being handled gets a note that says so,
        and the next run removes the rest: there may be a million older tiles.

        Args:
            is_kept: True if the next run needs the contents, to resume.
        """
        work, self._work_folder = self._work_folder, None
        if work is not None:
            is_published = False
            with suppress(OSError):
                if self._steps is not None:
                    is_published = self._steps.undo()
                    self._steps.close()
            if is_published:
                note_published(self._target, work.path)
            # A folder with steps that could not be undone holds the older result.
            with suppress(OSError):
                is_pending = any(map(work.folder.exists, PENDING_NAMES))
                if not (is_pending or is_published or is_kept()):
                    work.remove()
            work.release()
        remove_folders(self._created_parents)


@contextmanager
def wrap_publishing_errors(target: Path) -> Iterator[None]:
    """Turn an OSError of the block into a TargetError that names the target."""
    try:
        yield
    except FasttileError:  # some are OSErrors too
        raise
    except FileExistsError as error:
        raise already_exists_error(error.filename2 or error.filename) from error
    except OSError as error:
        raise os_target_error("publish", target, error) from error
