"""The work folder of a run on a collection: a hidden folder beside it, until it is published."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from fasttile.collection.descriptor import tile_folder_of
from fasttile.errors import SourceError, TargetError
from fasttile.storage.paths import (
    already_exists_error,
    check_replaceable,
    printable_path,
    wrap_os_errors,
)
from fasttile.storage.publish import (
    Move,
    Moves,
    PublishingFolder,
    wrap_publishing_errors,
)
from fasttile.types import Closing

TILES_FOLDER = "files"
"""The name of the folder of shared tiles in the work folder."""


class CollectionWorkspace(Closing):
    """The work folder of one run on one collection.

    What a killed run left is published or removed. As a context manager it removes at its end all
    that is not published.

    Args:
        descriptor: The collection's descriptor, an absolute path.
        must_exist: True if the collection must exist already.

    Attributes:
        descriptor: As above.
        new_folder: The folder for everything that is made.

    Raises:
        SourceError: The collection does not exist.
        TargetError: Another run works on this collection, or its folder cannot be written.
    """

    def __init__(self, descriptor: Path, *, must_exist: bool) -> None:
        self.descriptor = descriptor
        place = descriptor.with_name(f".{descriptor.name}.fasttile")
        if must_exist and not any(os.path.lexists(path) for path in (descriptor, place)):
            raise SourceError(f"{printable_path(descriptor)}: no such file")
        self.new_folder = place / "new"
        self._work_folder = PublishingFolder(place, descriptor)
        self._moves = Moves(place)
        try:
            self._work_folder.open()
            self._work_folder.recover(self._moves)
            self._work_folder.clear()
            tiles = tile_folder_of(descriptor)
            with wrap_os_errors("look at", descriptor):
                check_replaceable(descriptor)
            with wrap_os_errors("look at", tiles):
                check_replaceable(tiles, is_folder=True)
            with wrap_os_errors("make folder", self.new_folder):
                self.new_folder.mkdir()
                (place / "old").mkdir()
        except BaseException:
            self.close()
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
        """Move a new file or folder to another new path.

        Raises:
            TargetError: It cannot be moved.
        """
        with wrap_os_errors("move", self.new_folder / name):
            (self.new_folder / name).rename(self.new_folder / other)

    def check_empty(self, name: str) -> None:
        """Check that a new folder is empty.

        Raises:
            TargetError: It is not.
        """
        folder = self.new_folder / name
        with wrap_os_errors("look at", folder):
            left = next(folder.iterdir(), None)
        if left is not None:
            raise TargetError(f"cannot remove {printable_path(left)}; remove it by hand")

    def make_parents(self, path: Path) -> None:
        """Make the folders above a path; they are removed if nothing is published.

        Raises:
            TargetError: They cannot be made.
        """
        self._work_folder.make_parents(path)

    def link_or_copy(self, name: str, path: Path) -> bool:
        """Add an older file, which stays unchanged, to the new ones; False if it does not exist.

        It is a hard link if the file system has these, else a copy.

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
        """Move everything to its place.

        If the older files cannot be removed, a RuntimeWarning names them: the result is complete.

        Raises:
            TargetError: A step failed, or a file has appeared there meanwhile.
        """
        with wrap_publishing_errors(self.descriptor):
            self._work_folder.publish(self._moves, lambda: self._moves.prepare(moves))
        self._work_folder.close_published()

    def relative(self, path: Path) -> str:
        """A path relative to the collection's folder, as a move has it."""
        return os.path.relpath(path, self.descriptor.parent)

    def close(self) -> None:
        """Undo what is not published, as far as possible. Never raises."""
        self._work_folder.roll_back()


def check_target_free(descriptor: Path, *, overwrite: bool) -> None:
    """Refuse a new collection in the place of files that must not be replaced.

    Raises:
        TargetError: Such files exist.
    """
    files, image = tile_folder_of(descriptor), descriptor.with_suffix(".dzi")
    there = [path for path in (descriptor, files) if os.path.lexists(path)]
    shared = os.path.lexists(image)
    if files in there and (shared or descriptor not in there):
        whose = printable_path(image) if shared else "something else"
        raise TargetError(
            f"{printable_path(files)} belongs to {whose}, not to {printable_path(descriptor)}; "
            "choose another name"
        )
    if there and not overwrite:
        raise already_exists_error(there[0])
