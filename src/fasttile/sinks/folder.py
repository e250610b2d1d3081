"""Tiles as files in folders, with what announces them in or beside: all of it appears, or nothing.

A run works in the hidden folder `.name.dzi.fasttile` beside the target; see workfolder.py for
whose it is, and publish.py for how its contents get out.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fasttile.abc.layout import Layout
from fasttile.abc.sink import Sink
from fasttile.errors import FasttileError, OptionError, TargetError
from fasttile.geometry import Tile
from fasttile.sinks.shared import BLOCKS_FOLDER
from fasttile.storage.paths import (
    absolute_target,
    already_exists_error,
    make_folders,
    os_target_error,
    printable_path,
    wrap_os_errors,
)
from fasttile.storage.publish import (
    JOURNAL_NAME,
    RETIRED_JOURNAL_NAME,
    ForeignFolderError,
    Publication,
)
from fasttile.storage.work_folder import WorkFolder
from fasttile.storage.writing import SmallFileWriter

if TYPE_CHECKING:
    from fasttile.sinks.shared import ShardStore
    from fasttile.storage.journal import JobFingerprint, Journal


class DirectorySink:
    """Writes each tile to a file of its own, and publishes them together at the end.

    Missing folders above the target are made, and unmade by `abort`. What a killed run left
    beside the target is finished if it had all its tiles, and removed if not.

    Args:
        layout: Which files a tile is written to, and what the descriptors say.
        target: The path of what a user opens; its name is the layout's `result_name`.
        overwrite: Replace an existing result completely, and only at the end. A folder that is
            the result itself has to hold what announces one. What else stands beside it, such as
            a page, is kept, except for descriptors of fasttile that would become false.
        files: What else is written: path, as the layout gives paths, and content.
        fingerprint: The job's fingerprint if it can be resumed after an early end: then
            `abort` leaves what there is to the next run, unless that is nothing.

    Attributes:
        journal: The journal of complete tiles, if the job is resumable.
        published: Whether the result stands already: all that a killed run had left to do was
            to publish it.

    Raises:
        OptionError: The target's name is not the layout's.
        TargetError: The destination exists and may not be replaced, another run works on this
            target, or its folder cannot be written.
    """

    def __init__(
        self,
        layout: Layout,
        target: str | Path,
        *,
        overwrite: bool = False,
        files: Mapping[str, bytes] | None = None,
        fingerprint: JobFingerprint | None = None,
    ) -> None:
        self.journal: Journal | None = None
        self.is_published = False
        self._layout = layout
        self._target = _absolute_target(layout, Path(target))
        self._overwrite = overwrite
        self._fingerprint = fingerprint
        self._files = {**(files or {}), **layout.descriptors()}
        self._publication = self._plan_publication()
        self._new_folder = str(self._publication.work_path / "new")
        self._tiles = SmallFileWriter(self._new_folder, layout.root)
        self._started_publication: Publication | None = None  # what `_end` has to undo
        self._work_folder: WorkFolder | None = None
        self._created_parents: list[Path] = []
        try:
            self._set_up()
        except BaseException:
            self._roll_back()
            raise

    @property
    def shared_target(self) -> SharedFolderTarget:
        """Where workers put tiles too."""
        return SharedFolderTarget(str(self._publication.work_path))

    def put(self, tile: Tile, data: bytes) -> None:
        """Write one tile to its file, or its files.

        Raises:
            TargetError: It cannot be written.
        """
        self.add(self._layout.paths(tile), data)

    def add(self, paths: Sequence[str], data: bytes) -> None:
        """Write a further file below the layout's root, under all these paths.

        Raises:
            TargetError: It cannot be written.
        """
        for relative in paths:
            try:
                self._write_file(relative, data)
            except OSError as error:
                raise os_target_error("write", f"{self._new_folder}/{relative}", error) from error

    def finish(self) -> None:
        """Write the descriptors and publish the result, which replaces an existing one.

        Should the system refuse to remove what was replaced, a RuntimeWarning says so: the
        result is complete nevertheless.

        Raises:
            TargetError: The write fails, or the destination exists by now;
                `abort` puts everything back.
        """
        publication = self._publication
        if self._work_folder is None:
            raise TargetError(f"cannot publish {printable_path(self._target)}: its sink has ended")
        if self.is_published:
            self._clean_up_published()
            return
        try:
            for relative, data in self._files.items():
                self._write_file(relative, data)
            if self.journal is not None:
                self.journal.flush()
            self._work_folder.ensure_in_place()
            self._check_owned()  # nor what has appeared since
            if self._overwrite:
                stale = stale_files(self._layout, self._target.parent, publication.files)
                publication = replace(publication, stale=stale)
            self._started_publication = publication
            publication.prepare(overwrite=self._overwrite)
            publication.publish()
        except ForeignFolderError as error:
            raise self._foreign_folder_error() from error
        except FileExistsError as error:
            raise already_exists_error(error.filename2 or error.filename) from error
        except OSError as error:
            raise os_target_error("publish", self._target, error) from error
        self._created_parents.clear()
        self._clean_up_published()

    def abort(self) -> None:
        """Discard what was written, except for resumable work; leave an existing result untouched.

        Never raises.
        """
        self._roll_back()

    def _plan_publication(self) -> Publication:
        """What is to be published, and where."""
        layout, parent = self._layout, self._target.parent
        inside = f"{layout.root}/"
        signs: tuple[str, ...] = ()
        if layout.entry_point == layout.root:
            # A folder of a name that a user chose may be anything, unless it says what it is.
            signs = tuple(path.removeprefix(inside) for path in layout.descriptors())
        return Publication(
            work_path=parent / f".{self._target.name}.fasttile",
            tiles=parent / layout.root,
            files=tuple(parent / path for path in self._files if not path.startswith(inside)),
            required_files=signs,
        )

    def _set_up(self) -> None:
        """Check all that can be checked before any tile is cut, and set up the work folder."""
        publication = self._publication
        _check_replaceable(publication)
        self._check_owned()
        if not os.path.lexists(publication.work_path):
            self._check_target_free()
        with wrap_os_errors("make folder", self._target.parent):
            make_folders(self._target.parent, self._created_parents)
        self._work_folder = WorkFolder(publication.work_path)
        with wrap_os_errors("finish what a killed run left in", publication.work_path):
            self._started_publication = publication.load_pending()
            recovered = self._started_publication.recover()
            self._started_publication = None
        if self._fingerprint is None:
            self._check_no_resumable()
            self._clear_work_folder()
        else:
            self._resume_or_start(self._fingerprint, recovered=recovered)
        if self.is_published:
            return
        self._check_target_free()
        tiles = publication.new_tiles
        with wrap_os_errors("make folder", tiles):
            tiles.mkdir(parents=True, exist_ok=True)

    def _clear_work_folder(self, *kept: str) -> None:
        assert self._work_folder is not None
        with wrap_os_errors("remove what a killed run left in", self._work_folder.path):
            self._work_folder.clear(*kept)

    def _check_no_resumable(self) -> None:
        """Refuse to discard the resumable work of an interrupted run."""
        if not self._overwrite and (self._publication.work_path / JOURNAL_NAME).exists():
            raise TargetError(
                f"{printable_path(self._target)}: an interrupted run can be resumed; use resume "
                "to continue it, or overwrite to start over"
            )

    def _resume_or_start(self, fingerprint: JobFingerprint, *, recovered: bool) -> None:
        """Keep what an interrupted run of the same job has stored, or begin a journal."""
        if self._try_resume(fingerprint, RETIRED_JOURNAL_NAME if recovered else JOURNAL_NAME):
            self.is_published = recovered
            return
        self._clear_work_folder()
        self.journal = self._open_journal(fingerprint, JOURNAL_NAME)

    def _try_resume(self, fingerprint: JobFingerprint, name: str) -> bool:
        """True if there is a readable journal of this job."""
        work = self._publication.work_path
        if not (work / name).exists():
            return False
        self._clear_work_folder(name, BLOCKS_FOLDER, self._publication.new_tiles.parent.name)
        try:
            journal = self._open_journal(fingerprint, name)
        except TargetError:
            if name == RETIRED_JOURNAL_NAME:  # the result of another job, which stands now
                return False
            raise
        if not journal.is_resumed:
            journal.close()
            return False
        self.journal = journal
        return True

    def _open_journal(self, fingerprint: JobFingerprint, name: str) -> Journal:
        from fasttile.storage.journal import (
            FolderLog,
            Journal,  # seldom needed
        )

        log = FolderLog(self._publication.work_path, name)
        return Journal(log, fingerprint, printable_path(self._target))

    def _check_target_free(self) -> None:
        if self._overwrite:
            return
        # What announces the tiles is what a user knows of.
        others = (*reversed(self._publication.files), self._publication.tiles)
        for path in (self._target, *others):
            if os.path.lexists(path):
                raise already_exists_error(path)

    def _check_owned(self) -> None:
        """Refuse to replace a folder that is no result, where the folder is all of it."""
        tiles = self._publication.tiles
        with wrap_os_errors("look at", tiles):
            if not self._overwrite or not tiles.exists():
                return
            if self._layout.entry_point != self._layout.root:
                self._check_not_of_collection()
            elif self._publication.missing_required_file() is not None:
                raise self._foreign_folder_error()

    def _check_not_of_collection(self) -> None:
        """Refuse to replace the folder of a Deep Zoom collection, which has the same name."""
        collection = self._target.with_suffix(".dzc")
        if collection.exists():
            raise TargetError(
                f"{printable_path(self._publication.tiles)} belongs to the collection {printable_path(collection)}; "
                "choose another name"
            )

    def _foreign_folder_error(self) -> TargetError:
        tiles, name = self._publication.tiles, self._publication.missing_required_file()
        return TargetError(
            f"{printable_path(tiles)} is no result of this layout, for it has no {name}: it is not "
            "replaced; choose another name, or end it in a slash to put the result in it"
        )

    def _write_file(self, relative: str, data: bytes) -> None:
        if self._work_folder is None:
            raise ValueError("the sink has ended; it takes no more tiles")
        # Tiles that the journal lacks may exist nevertheless, complete or not.
        self._tiles.write(relative, data, replace=self.journal is not None)

    def _clean_up_published(self) -> None:
        work = self._work_folder
        assert work is not None  # or there would have been no folder to write the descriptor to
        if self.journal is not None:
            self.journal.close()
        try:
            if self._started_publication is not None:
                self._started_publication.finish()
            work.remove()
            self._work_folder = None  # only now: an interrupt until here leaves the rest to `abort`
        except OSError as error:
            self._work_folder = None
            work.release()
            warnings.warn(
                f"{printable_path(self._target)} is published, but something is left in "
                f"{printable_path(work.path)}: {error.strerror}; the next run on it removes that",
                RuntimeWarning,
                stacklevel=3,
            )

    def _roll_back(self) -> None:
        """Undo all that is not published, as far as the system lets us."""
        work, self._work_folder = self._work_folder, None
        if work is not None:
            with suppress(OSError):
                if self._started_publication is not None:
                    self._started_publication.undo()
            # What could not be undone holds the older result: the next run shall find it.
            if not self._publication.is_pending and not self._is_resumable():
                with suppress(OSError):
                    work.remove()
            work.release()
        for folder in reversed(self._created_parents):
            with suppress(OSError):  # it is not empty: somebody else uses it
                folder.rmdir()
        self._created_parents.clear()

    def _is_resumable(self) -> bool:
        """End the journal; whether there is something in it."""
        if self.journal is None:
            return (self._publication.work_path / JOURNAL_NAME).exists()
        with suppress(Exception):  # on any error the work folder is released
            self.journal.close()
        return not self.journal.is_empty


def _absolute_target(layout: Layout, target: Path) -> Path:
    """The target as an absolute path, for programs change their folder."""
    if target.name != layout.entry_point:
        raise OptionError(
            f"target {printable_path(target)} is not named {layout.entry_point!r}, as the layout is"
        )
    return absolute_target(target)


def _check_replaceable(publication: Publication) -> None:
    """Refuse names of targets that can neither be merged with nor replaced."""
    with wrap_os_errors("look at", publication.tiles):
        for path, kind, is_kind in (
            *((path, "a plain file", stat.S_ISREG) for path in reversed(publication.files)),
            (publication.tiles, "a folder", stat.S_ISDIR),
        ):
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


# Tiles of a result that somebody else has claimed and will publish: files, and nothing more.


class FolderTileSink:
    """Writes tiles below a folder; what is there already is replaced.

    Args:
        layout: Which files a tile is written to.
        folder: Where the layout's root lies.
    """

    def __init__(self, layout: Layout, folder: Path) -> None:
        self._layout = layout
        self._folder = str(folder)
        self._writer = SmallFileWriter(self._folder, layout.root)

    def put(self, tile: Tile, data: bytes) -> None:
        """Write one tile to its file, or its files.

        Raises:
            TargetError: It cannot be written.
        """
        self.add(self._layout.paths(tile), data)

    def add(self, paths: Sequence[str], data: bytes) -> None:
        """Write a file under all these paths.

        Raises:
            TargetError: It cannot be written.
        """
        for relative in paths:
            try:
                self._writer.write(relative, data, replace=True)
            except OSError as error:
                raise os_target_error("write", f"{self._folder}/{relative}", error) from error

    def finish(self) -> None:
        """All is written."""

    def abort(self) -> None:
        """Leave all as it is: it belongs to somebody else."""


# Descriptors beside an older result that become false when the result is replaced.

_SUFFIXES = (".json", ".js")
_MAX_DESCRIPTOR_BYTES = 2**16
"""No descriptor of fasttile has more bytes."""


def stale_files(layout: Layout, folder: Path, replaced: Collection[Path]) -> tuple[Path, ...]:
    """Find descriptors of fasttile that the new result makes false and does not replace.

    Only Deep Zoom has such: `name.json` and `name.js`. They count if they are what fasttile writes
    for some image, byte for byte: so no work of a user is lost with them.
    Other files with such names are kept.

    Args:
        layout: Of the result.
        folder: What holds the result.
        written: What is replaced anyway.

    Raises:
        OSError: A descriptor cannot be read.
    """
    if layout.type_name != "dzi":
        return ()
    paths = (folder / f"{layout.name}{ending}" for ending in _SUFFIXES)
    return tuple(
        path for path in paths if path not in replaced and _is_own_descriptor(layout.name, path)
    )


def _is_own_descriptor(name: str, path: Path) -> bool:
    from fasttile.layouts.deepzoom import DeepZoom

    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _MAX_DESCRIPTOR_BYTES:
            return False
        content = path.read_bytes()
        expected = DeepZoom.parse(name, content.decode())
        expected = replace(expected, json=True, jsonp=path.suffix == ".js")
        return expected.descriptors().get(path.name) == content
    except (FasttileError, PermissionError, ValueError):
        return False


@dataclass(frozen=True)
class SharedFolderTarget:
    """A work folder, on a file system that all share.

    Attributes:
        path: Which.
    """

    path: str

    def open_tile_sink(self, layout: Layout) -> Sink:
        """Files in the folder `new`."""
        return FolderTileSink(layout, Path(self.path) / "new")

    @property
    def shard_store(self) -> ShardStore:
        """Files in the folder `blocks`."""
        from fasttile.sinks.shared import FolderShardStore

        return FolderShardStore(Path(self.path) / BLOCKS_FOLDER)
