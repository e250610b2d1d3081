"""Where a run on a collection works, until its result is published: a hidden folder beside it."""

from __future__ import annotations

import os
import shutil
import stat
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from fasttile.collection.descriptor import tile_folder_of
from fasttile.errors import SourceError, TargetError
from fasttile.storage.paths import (
    already_exists_error,
    make_folders,
    os_target_error,
    printable_path,
    wrap_os_errors,
)
from fasttile.storage.publish import Move, Moves
from fasttile.storage.work_folder import WorkFolder

TILES_FOLDER = "files"
"""What the folder of shared tiles is called in the work folder."""


class CollectionWorkspace:
    """The work folder of one run on one collection; what a killed run left is finished or removed.

    As a context manager it leaves nothing behind that is not published.

    Args:
        descriptor: The collection's descriptor, an absolute path.
        exists: Whether the collection has to be there already.

    Attributes:
        descriptor: As above.
        new: The folder in which everything is made.

    Raises:
        SourceError: The collection is not there.
        TargetError: Another run works on this collection, or its folder cannot be written.
    """

    def __init__(self, descriptor: Path, *, must_exist: bool) -> None:
        self.descriptor = descriptor
        place = descriptor.with_name(f".{descriptor.name}.fasttile")
        if must_exist and not any(os.path.lexists(path) for path in (descriptor, place)):
            raise SourceError(f"{printable_path(descriptor)}: no such file")
        self.new_folder = place / "new"
        self._moves = Moves(place)
        self._created_parents: list[Path] = []
        self._work_folder: WorkFolder | None = None
        try:
            with wrap_os_errors("make folder", descriptor.parent):
                make_folders(descriptor.parent, self._created_parents)
            self._work_folder = WorkFolder(place)
            with wrap_os_errors("finish what a killed run left in", place):
                self._moves.recover()
            with wrap_os_errors("remove what a killed run left in", place):
                self._work_folder.clear()
            _check_replaceable(descriptor)
            with wrap_os_errors("make folder", self.new_folder):
                self.new_folder.mkdir()
                (place / "old").mkdir()
        except BaseException:
            self._clean_up()
            raise

    def write(self, name: str, data: bytes) -> None:
        """Write a new file; its folder is there.

        Raises:
            TargetError: It cannot be written.
        """
        path = f"{self.new_folder}/{name}"
        with wrap_os_errors("write", path), open(path, "xb") as file:  # noqa: PTH123 -- faster than Path, for many files
            file.write(data)

    def write_text(self, name: str, lines: Iterable[str]) -> None:
        """Write a new file of text, in UTF-8.

        Raises:
            TargetError: It cannot be written.
        """
        path = self.new_folder / name
        with wrap_os_errors("write", path), path.open("x", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)

    def make_folder(self, name: str) -> None:
        """Make a folder for new files, and those above it.

        Raises:
            TargetError: It cannot be made.
        """
        path = self.new_folder / name
        with wrap_os_errors("make folder", path):
            path.mkdir(parents=True)

    def rename(self, name: str, other: str) -> None:
        """Have a new file or folder stand elsewhere among them.

        Raises:
            TargetError: It cannot be moved.
        """
        with wrap_os_errors("move", self.new_folder / name):
            (self.new_folder / name).rename(self.new_folder / other)

    def check_empty(self, name: str) -> None:
        """Refuse to go on if something is left in a folder.

        Raises:
            TargetError: There is.
        """
        folder = self.new_folder / name
        with wrap_os_errors("look at", folder):
            left = next(folder.iterdir(), None)
        if left is not None:
            raise TargetError(f"cannot remove {printable_path(left)}; remove it by hand")

    def make_parents(self, path: Path) -> None:
        """Make the folders above a place that is to be published; they go if nothing is.

        Raises:
            TargetError: They cannot be made.
        """
        with wrap_os_errors("make folder", path.parent):
            make_folders(path.parent, self._created_parents)

    def link_or_copy(self, name: str, path: Path) -> bool:
        """Have an older file, which stays as it is, among the new ones; False if it is not there.

        It is one more name for the same file where the file system can do that, else a copy.

        Raises:
            TargetError: It cannot be written.
        """
        place = self.new_folder / name
        if not path.is_file():
            return False
        with wrap_os_errors("write", place):
            try:
                os.link(path, place)
            except OSError:
                shutil.copyfile(path, place)
        return True

    def publish(self, moves: Sequence[Move]) -> None:
        """Let everything go to its place.

        Should the system refuse to remove what was replaced, a RuntimeWarning says so: the
        result is complete nevertheless.

        Raises:
            TargetError: The write fails, or the destination exists by now.
        """
        try:
            self._moves.prepare(moves)
            self._moves.publish()
        except FileExistsError as error:
            raise already_exists_error(error.filename2 or error.filename) from error
        except OSError as error:
            raise os_target_error("publish", self.descriptor, error) from error
        self._created_parents.clear()
        work = self._work_folder
        assert work is not None
        try:
            self._moves.finish()
            work.remove()
            self._work_folder = None  # only now: an interrupt until here leaves the rest to the end
        except OSError as error:
            self._work_folder = None
            work.release()
            warnings.warn(
                f"{printable_path(self.descriptor)} is published, but something is left in "
                f"{printable_path(work.path)}: {error.strerror}; the next run on it removes that",
                RuntimeWarning,
                stacklevel=3,
            )

    def relative(self, path: Path) -> str:
        """A path as a move has it."""
        return os.path.relpath(path, self.descriptor.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._clean_up()

    def _clean_up(self) -> None:
        """Undo all that is not published, as far as the system lets us."""
        work, self._work_folder = self._work_folder, None
        if work is not None:
            if self._moves.is_pending:
                with suppress(OSError):
                    self._moves.undo()
            # What could not be undone holds the older result: the next run shall find it.
            if not self._moves.is_pending:
                with suppress(OSError):
                    work.remove()
            work.release()
        for folder in reversed(self._created_parents):
            with suppress(OSError):  # it is not empty: somebody else uses it
                folder.rmdir()
        self._created_parents.clear()


def check_target_free(descriptor: Path, *, overwrite: bool) -> None:
    """Refuse to make a collection where something stands that may not be replaced, or is no such.

    Raises:
        TargetError: It does.
    """
    files, image = tile_folder_of(descriptor), descriptor.with_suffix(".dzi")
    there = [path for path in (descriptor, files) if os.path.lexists(path)]
    shared = os.path.lexists(image)
    if files in there and (shared or descriptor not in there):
        whose = printable_path(image) if shared else "something else"
        raise TargetError(
            f"{printable_path(files)} belongs to {whose}, not to {printable_path(descriptor)}; choose another name"
        )
    if there and not overwrite:
        raise already_exists_error(there[0])


def _check_replaceable(descriptor: Path) -> None:
    """Refuse names of targets that cannot be replaced by one rename."""
    for path, kind, is_kind in (
        (descriptor, "a plain file", stat.S_ISREG),
        (tile_folder_of(descriptor), "a folder", stat.S_ISDIR),
    ):
        with wrap_os_errors("look at", path):
            try:
                mode = path.lstat().st_mode
            except (FileNotFoundError, NotADirectoryError):
                continue
        if stat.S_ISLNK(mode):
            raise TargetError(
                f"{printable_path(path)} is a symbolic link; remove it, or name what it leads to"
            )
        if not is_kind(mode):
            raise TargetError(
                f"{printable_path(path)} exists and is not {kind}; choose another name"
            )
