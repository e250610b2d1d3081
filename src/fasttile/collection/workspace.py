"""The work folder of a run on a collection: a hidden folder beside it, until it is published."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fasttile.collection.descriptor import tile_folder_of
from fasttile.errors import SourceNotFoundError, TargetError
from fasttile.storage.folders import Folder, rename, rename_new
from fasttile.storage.paths import (
    already_exists_error,
    check_replaceable,
    wrap_os_errors,
)
from fasttile.storage.publish import (
    MAX_PLAN_BYTES,
    MOVES_NAME,
    PublicationSteps,
    PublishingFolder,
    wrap_publishing_errors,
)
from fasttile.storage.work_folder import WorkFolder
from fasttile.types import Closing

TILES_FOLDER, IMAGES_FOLDER = "files", "images"
"""The names in the work folder of the folder of shared tiles, and of that of cut images."""

RESULT_NAME = re.compile(r"([^/\0]+?)(?:\.dzi|_files)", re.IGNORECASE)
"""The name of a file or folder of a cut image."""


@dataclass(frozen=True)
class Move:
    """One folder or file of a collection, and its place.

    Args:
        name: Its path in the folder `new`, with forward slashes.
        announces: True for a descriptor: it goes first when it is replaced, and comes last.
        replaces: True if it may replace an older one.
    """

    name: str
    announces: bool = False
    replaces: bool = False


class Moves(PublicationSteps):
    """The steps for the folders and files of a collection.

    An older folder is away between two renames, as its descriptor is: an exchange of the folders in
    one step has no advantage here.

    Args:
        work_folder: The work folder, which this run has locked.
        place_of: The absolute path that this run publishes an entry of `new` at; None if this run
            publishes no entry of that name.
    """

    def __init__(self, work_folder: WorkFolder, place_of: Callable[[str], Path | None]) -> None:
        super().__init__(work_folder)
        self._place_of = place_of
        self._moves: list[Move] = []
        self._folders: dict[Path, Folder] = {}

    def close(self) -> None:
        """Close the folders."""
        while self._folders:
            self._folders.popitem()[1].close()

    @property
    def is_pending(self) -> bool:
        return self._work.exists(MOVES_NAME)

    def prepare(self, moves: Sequence[Move]) -> None:
        """Record that all is written; a descriptor comes after its tiles."""
        self._moves = list(moves)
        self._work.write_file(
            "moves.draft", json.dumps([asdict(move) for move in moves]).encode("ascii")
        )
        rename(self._work, "moves.draft", self._work, MOVES_NAME)

    def load_plan(self) -> None:
        try:
            rows = json.loads(self._work.read_file(MOVES_NAME, MAX_PLAN_BYTES) or b"")
            moves = [Move(**row) for row in rows]
            for move in moves:
                if not isinstance(move.name, str):
                    raise TypeError(move.name)
        except (TypeError, ValueError, RecursionError) as error:
            raise self.foreign_plan_error("has a damaged plan") from error
        for move in moves:
            if self._place_of(move.name) is None:
                raise self.foreign_plan_error(f"is of a run with another result ({move.name})")
        self._moves = moves
        for move in moves:
            folder, name = self._entry(move)
            self.check_no_links(folder, [name])

    def publish(self) -> None:
        """Take the steps that are not yet taken.

        Raises:
            FileExistsError: A file exists that must not be replaced.
            OSError: A step failed; call `undo`.
        """
        for number, move in reversed([*enumerate(self._moves)]):
            (new, name), (site, place) = self._entry(move), self._place(move)
            if move.announces and new.exists(name) and site.exists(place):
                self._move_away(move, number)
        for number, move in enumerate(self._moves):
            (new, name), (site, place) = self._entry(move), self._place(move)
            if new.exists(name):
                if site.exists(place):
                    self._move_away(move, number)
                rename_new(new, name, site, place)

    def finish(self) -> None:
        """End the publication; the rest of the work folder can be removed."""
        self._is_finished = True
        self._work.remove_file(MOVES_NAME)

    def undo(self) -> bool:
        """Restore what was replaced, unless all is published already.

        If the process is killed in between, `recover` can finish.

        Returns:
            True if all is published.

        Raises:
            OSError: A step failed; the moves are still pending.
        """
        if not self.is_pending:
            return self._is_finished
        new_entries = [self._entry(move) for move in self._moves]
        is_published = not any(folder.exists(name) for folder, name in new_entries)
        if not is_published:
            if self.is_forward_only:
                return False
            for move in reversed(self._moves):
                (new, name), (site, place) = self._entry(move), self._place(move)
                if not new.exists(name):
                    rename(site, place, new, name)
            old = self._open(self._work, "old")
            for number, move in enumerate(self._moves):
                if old.exists(str(number)):
                    rename_new(old, str(number), *self._place(move))
        self._work.remove_file(MOVES_NAME)
        self._is_finished = is_published
        return is_published

    def _entry(self, move: Move) -> tuple[Folder, str]:
        """The folder that holds the new entry of a move, and its name in it."""
        folder = self._open(self._work, "new")
        *above, name = move.name.split("/")
        for part in above:
            folder = self._open(folder, part)
        return folder, name

    def _place(self, move: Move) -> tuple[Folder, str]:
        """The folder that a move leads to, and the name in it."""
        path = self._place_of(move.name)
        assert path is not None
        above = path.parent
        if above == self._site.path:
            return self._site, path.name
        if above.parent == self._site.path:
            return self._open(self._site, above.name), path.name
        if above not in self._folders:  # the user's own choice
            self._folders[above] = Folder.open(above)
        return self._folders[above], path.name

    def _open(self, folder: Folder, name: str) -> Folder:
        """An open folder in another one, by a handle that is kept."""
        path = folder.path / name
        if path not in self._folders:
            self._folders[path] = folder.open_folder(name)
        return self._folders[path]

    def _move_away(self, move: Move, number: int) -> None:
        site, place = self._place(move)
        if not move.replaces:
            path = str(site.path / place)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        try:
            rename_new(site, place, self._open(self._work, "old"), str(number))
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self.remove_unmovable(site, place)


class CollectionWorkspace(Closing):
    """The work folder of one run on one collection.

    What a killed run left is published or removed. As a context manager it removes at its end all
    that is not published.

    Args:
        descriptor: The collection's descriptor, an absolute path.
        images: The folder for images that are cut, an absolute path.
        must_exist: True if the collection must exist already.

    Attributes:
        descriptor: As above.
        new_folder: The folder for everything that is made.

    Raises:
        SourceError: The collection does not exist.
        TargetError: Another run works on this collection, or its folder cannot be written.
    """

    def __init__(self, descriptor: Path, images: Path, *, must_exist: bool) -> None:
        self.descriptor = descriptor
        self._images = images
        place = descriptor.with_name(f".{descriptor.name}.fasttile")
        if must_exist and not any(os.path.lexists(path) for path in (descriptor, place)):
            raise SourceNotFoundError(f"{descriptor}: no such file")
        self.new_folder = place / "new"
        self._work_folder = PublishingFolder(place, descriptor)
        try:
            self._moves = Moves(self._work_folder.open(), self._place_of)
            self._work_folder.recover(self._moves)
            self._moves.close()  # it may have opened folders that are removed now
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
            raise TargetError(f"cannot remove {left}; remove it by hand")

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
        try:
            if not stat.S_ISREG(path.lstat().st_mode):  # a link may lead to any file of the user's
                return False
        except OSError:
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

    def _place_of(self, name: str) -> Path | None:
        """The path that an entry of the new folder is published at; None for other names."""
        if name == TILES_FOLDER:
            return tile_folder_of(self.descriptor)
        if name == self.descriptor.name:
            return self.descriptor
        folder, _, image = name.partition("/")
        if folder != IMAGES_FOLDER:
            return None
        if not image:
            return self._images
        return self._images / image if RESULT_NAME.fullmatch(image) else None

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
        whose = image if shared else "something else"
        raise TargetError(f"{files} belongs to {whose}, not to {descriptor}; choose another name")
    if there and not overwrite:
        raise already_exists_error(there[0])
