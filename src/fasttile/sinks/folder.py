"""Tiles as files in folders, with the descriptors in them or beside: all appear, or none.

A run works in the hidden folder `.name.dzi.fasttile` beside the target: storage/work_folder.py
locks it, storage/publish.py moves its contents to their places.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fasttile.abc.layout import Layout
from fasttile.abc.sink import Sink
from fasttile.errors import FasttileError, OptionError, TargetError
from fasttile.geometry import Tile
from fasttile.layouts import RECORD_NAME
from fasttile.storage.folders import Folder
from fasttile.storage.paths import (
    absolute_target,
    already_exists_error,
    check_replaceable,
    os_target_error,
    wrap_os_errors,
)
from fasttile.storage.publish import (
    BLOCKS_FOLDER,
    JOURNAL_NAME,
    RETIRED_JOURNAL_NAME,
    ForeignFolderError,
    Publication,
    PublishingFolder,
    ResultNames,
    missing_required_file,
    wrap_publishing_errors,
)
from fasttile.storage.work_folder import check_can_work
from fasttile.storage.writing import SmallFileWriter

if TYPE_CHECKING:
    from fasttile.sinks.shared import ShardStore
    from fasttile.storage.journal import JobFingerprint, Journal, JournalRecord


_KNOWN_FILES = (
    RECORD_NAME,
    "vips-properties.xml",
    ".ds_store",
    "thumbs.db",
    "desktop.ini",
    ".fasttile-new",
)
"""Files that tools and systems put beside the levels of Deep Zoom tiles."""


class DirectorySink:
    """Writes each tile to its own file, and publishes them together at the end.

    Missing folders above the target are made, and removed by `abort`. The files that a killed run
    left beside the target are published if it had all its tiles, and removed if not.

    Args:
        layout: The paths of the tiles and the contents of the descriptors.
        target: The path of the file or folder that a user opens; its name is the layout's
            `entry_point`.
        overwrite: Replace an older result, all of it and only at the end. A folder that is the
            result itself must hold the layout's descriptors. Other files beside it, such as a page,
            stay, except for descriptors of fasttile that would become false: `name.json` and
            `name.js` of Deep Zoom, if their bytes are those that fasttile writes.
        files: Further files: path, as the layout has paths, and content.
        fingerprint: The identity of a job that can be resumed: then `abort` keeps the tiles written
            so far for the next run. Default: the job cannot be resumed.

    Attributes:
        journal: The list of complete tiles, if the job can be resumed.
        is_published: True if the result is complete already: a killed run had all but published it.

    Raises:
        OptionError: The target's name is not the layout's.
        TargetError: A file exists that must not be replaced, another run works on this target, or
            its folder cannot be written.
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
        self._files = {**(files or {}), **layout.descriptors()}
        self._place = _Place(layout, Path(target), self._files, overwrite=overwrite)
        self._target = self._place.target
        self._overwrite = overwrite
        self._names = self._place.names
        self._work_folder = PublishingFolder(self._place.work_path, self._target)
        self._publication: Publication | None = None
        self._tiles: SmallFileWriter | None = None
        try:
            self._set_up(fingerprint)
        except BaseException:
            self.abort()
            raise

    @property
    def shared_target(self) -> SharedFolderTarget:
        """The work folder, for workers that write tiles too."""
        return SharedFolderTarget(str(self._work_folder.path))

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
                path = self._work_folder.path / "new" / relative
                raise os_target_error("write", path, error) from error

    def change_file(self, path: str, change: Callable[[bytes], bytes]) -> None:
        """Change the content of a further file, before `finish` writes it."""
        self._files[path] = change(self._files[path])

    def finish(self) -> None:
        """Write the descriptors and publish: the result replaces an older one.

        If the older files cannot be removed, a RuntimeWarning names them: the result is complete.

        Raises:
            TargetError: A step failed, or a file has appeared there meanwhile; call `abort`, which
                restores the older result.
        """
        publication, work = self._publication, self._work_folder
        if not work.is_open or publication is None:
            raise TargetError(f"cannot publish {self._target}: its sink has ended")
        if self.is_published:
            self._close_published()
            return
        with wrap_publishing_errors(self._target):
            for relative, data in self._files.items():
                self._write_file(relative, data)
            if self.journal is not None:
                self.journal.flush()
            work.ensure_in_place()
            self._place.check_owned()  # once more: a folder may have appeared since
            try:
                work.publish(publication, lambda: publication.prepare(overwrite=self._overwrite))
            except ForeignFolderError as error:
                raise self._place.foreign_folder_error() from error
        self._close_published()

    def abort(self) -> None:
        """Restore an older result; keep only what can be resumed. Never raises."""
        self._work_folder.roll_back(self._is_resumable)
        if self._publication is not None:
            self._publication.close()

    def _set_up(self, fingerprint: JobFingerprint | None) -> None:
        """Check all that can be checked before any tile is cut, and set up the work folder."""
        names, place, work = self._names, self._place, self._work_folder
        place.check_replaceable()
        if not os.path.lexists(work.path):  # else a killed run may have to be finished first
            place.check_owned()
            place.check_free()
        publication = Publication(
            work.open(), names, partial(_is_own_descriptor, self._layout.name)
        )
        recovered = work.recover(publication)
        place.check_owned()
        publication.close()  # it may have closed folders that are removed now
        if fingerprint is not None:
            self._resume_or_start(fingerprint, recovered=recovered)
        else:
            place.check_no_journal()
            work.clear()
        self._publication = publication
        if self.is_published:
            return
        place.check_free()
        publication.names = names
        with wrap_os_errors("make folder", work.path / "new" / names.tiles):
            new = publication.new_folder
            new.open_folder(names.tiles, create=True).close()
        self._tiles = SmallFileWriter(new, names.tiles)

    def _resume_or_start(self, fingerprint: JobFingerprint, *, recovered: bool) -> None:
        """Keep the tiles of an interrupted run of the same job, or start a journal."""
        if self._try_resume(fingerprint, RETIRED_JOURNAL_NAME if recovered else JOURNAL_NAME):
            self.is_published = recovered
            return
        self._work_folder.clear()
        self.journal = self._open_journal(fingerprint, JOURNAL_NAME)

    def _try_resume(self, fingerprint: JobFingerprint, name: str) -> bool:
        """Open the journal of this name; False if there is none of this job."""
        if not (self._work_folder.path / name).exists():
            return False
        self._work_folder.clear(name, BLOCKS_FOLDER, "new")
        try:
            journal = self._open_journal(fingerprint, name)
        except TargetError:
            if name == RETIRED_JOURNAL_NAME:  # the published result is of another job
                return False
            raise
        if not journal.is_resumed:
            journal.close()
            return False
        self.journal = journal
        return True

    def _open_journal(self, fingerprint: JobFingerprint, name: str) -> Journal:
        from fasttile.storage.journal import FolderLog, Journal  # only jobs that resume need it

        work = self._work_folder.folder
        # Published tiles were compared with nothing, but their journal is not used to make others.
        check = partial(self._check_stored, fingerprint) if name == JOURNAL_NAME else None
        return Journal(FolderLog(work, name), fingerprint, str(self._target), check)

    def _check_stored(
        self, fingerprint: JobFingerprint, records: Sequence[JournalRecord]
    ) -> Sequence[bool]:
        """Compare a journal with the tiles that are there; remove all that is no tile."""
        from fasttile.sinks.shared import StoredRecords

        path, work = self._work_folder.path, self._work_folder.folder
        stored = StoredRecords(self._layout, fingerprint.get("shards"))
        with wrap_os_errors("look into", path), work.open_folder("new", create=True) as new:
            blocks: set[str] = set()
            if work.exists(BLOCKS_FOLDER):
                with work.open_folder(BLOCKS_FOLDER) as folder, folder.scan() as entries:
                    blocks.update(entry.name for entry in entries if not entry.is_symlink())
            with new.scan() as entries:
                others = [entry.name for entry in entries if entry.name != self._layout.root]
            for name in others:
                new.remove_file(name)
            with new.open_folder(self._layout.root, create=True) as root:
                flags = stored.check(records, root.walk_files(), blocks)
                for name in stored.foreign:
                    root.remove_file(name)
        return flags

    def _write_file(self, relative: str, data: bytes) -> None:
        if not self._work_folder.is_open or self._tiles is None:
            raise ValueError("the sink has ended; it takes no more tiles")
        # After a resume a file may exist, complete or not, that the journal does not list.
        self._tiles.write(relative, data, replace=self.journal is not None)

    def _close_published(self) -> None:
        if self.journal is not None:
            self.journal.close()
        self._work_folder.close_published()

    def _is_resumable(self) -> bool:
        """Close the journal; True if it lists tiles."""
        if self.journal is None:
            return (self._work_folder.path / JOURNAL_NAME).exists()
        with suppress(Exception):  # any error: the work folder must be released
            self.journal.close()
        return not self.journal.is_empty


class _Place:
    """The names that a result takes in a folder, and checks of what is there.

    Args:
        layout, target, overwrite: As for `DirectorySink`.
        files: The descriptors and further files: path and content.

    Attributes:
        target: The absolute path of the file or folder that a user opens.
        names: All names.
        work_path: The work folder.

    Raises:
        OptionError: The target's name is not the layout's.
        TargetError: By the checks: something is there that must not be replaced.
    """

    def __init__(
        self, layout: Layout, target: Path, files: Mapping[str, bytes], *, overwrite: bool
    ) -> None:
        self.target = _absolute_target(layout, target)
        self.names = _result_names(layout, files)
        self._layout = layout
        self._overwrite = overwrite
        self._parent = self.target.parent
        self.work_path = self._parent / f".{self.target.name}.fasttile"

    def check_replaceable(self) -> None:
        """Refuse links, and files and folders of another kind."""
        tiles = self._parent / self.names.tiles
        with wrap_os_errors("look at", tiles):
            for name in reversed(self.names.files):
                check_replaceable(self._parent / name)
            check_replaceable(tiles, is_folder=True)

    def check_no_journal(self) -> None:
        """Refuse to discard what an interrupted run has written, unless that is wanted."""
        if not self._overwrite and (self.work_path / JOURNAL_NAME).exists():
            raise TargetError(
                f"{self.target}: an interrupted run can be resumed; use resume "
                "to continue it, or overwrite to start over"
            )

    def check_free(self) -> None:
        """Refuse to replace a result, unless that is wanted."""
        if self._overwrite:
            return
        # Users know a result by its descriptor, so messages name that first.
        for name in (self.target.name, *reversed(self.names.files), self.names.tiles):
            if os.path.lexists(self._parent / name):
                raise already_exists_error(self._parent / name)

    def check_owned(self) -> None:
        """Refuse to replace a folder that is not a result, or belongs to a collection."""
        tiles = self._parent / self.names.tiles
        with wrap_os_errors("look at", tiles):
            if not self._overwrite or not os.path.lexists(tiles):
                return
            if self._layout.entry_point == self._layout.root:
                if self._missing_required_file() is not None:
                    raise self.foreign_folder_error()
                return
            collection = self.target.with_suffix(".dzc")  # its tiles have the same folder name
            if collection.exists():
                raise TargetError(
                    f"{tiles} belongs to the collection {collection}; choose another name"
                )
            # A browser saves the files of a page in a folder of the same name.
            for entry in tiles.iterdir():
                is_level = entry.name.isdecimal() and entry.is_dir()
                if not (is_level or entry.name.lower() in _KNOWN_FILES):
                    raise TargetError(
                        f"{tiles} is no folder of Deep Zoom tiles, for it holds {entry.name}: it "
                        "is not replaced; choose another name, or remove it"
                    )

    def _missing_required_file(self) -> str | None:
        with Folder.open(self._parent) as parent:
            return missing_required_file(parent, self.names)

    def foreign_folder_error(self) -> TargetError:
        """The error about a folder that is no result of the layout."""
        return TargetError(
            f"{self._parent / self.names.tiles} is no result of this layout, for "
            f"it has no {self._missing_required_file()}: it is not replaced; choose another name, "
            "or end it in a slash to put the result in it"
        )


def check_folder(
    layout: Layout,
    target: Path,
    *,
    overwrite: bool,
    files: Mapping[str, bytes],
    resume: bool,
) -> None:
    """Check, without writing anything, that a `DirectorySink` can be begun.

    Args:
        layout, target, overwrite, files: As for `DirectorySink`.
        resume: True if the job can be resumed.

    Raises:
        OptionError, TargetError: As `DirectorySink`.
    """
    place = _Place(layout, target, {**files, **layout.descriptors()}, overwrite=overwrite)
    place.check_replaceable()
    has_work = os.path.lexists(place.work_path)
    if not has_work:
        place.check_owned()
        place.check_free()
    check_can_work(place.work_path)
    place.check_owned()
    if not resume:
        place.check_no_journal()
    if not (resume and has_work):  # else a complete result may be that of the same job
        place.check_free()


def _absolute_target(layout: Layout, target: Path) -> Path:
    """The target as an absolute path, because programs change their current folder."""
    if target.name != layout.entry_point:
        raise OptionError(f"target {target} is not named {layout.entry_point!r}, as the layout is")
    return absolute_target(target)


def _result_names(layout: Layout, files: Mapping[str, bytes]) -> ResultNames:
    inside = f"{layout.root}/"
    required: tuple[str, ...] = ()
    if layout.entry_point == layout.root:
        # A folder with a name that a user chose may be anything, unless it has descriptors.
        required = tuple(path.removeprefix(inside) for path in layout.descriptors())
    beside = tuple(path for path in files if not path.startswith(inside))
    # Further descriptors of an older result are false after the new one replaces it.
    others = (f"{layout.name}.json", f"{layout.name}.js") if layout.type_name == "dzi" else ()
    stale = tuple(name for name in others if name not in beside)
    return ResultNames(layout.type_name, layout.root, beside, required, stale)


def _is_own_descriptor(layout_name: str, name: str, content: bytes) -> bool:
    """True if fasttile writes the same bytes for some image, so that nothing of value is lost."""
    from fasttile.layouts.deepzoom import DeepZoom

    try:
        layout = DeepZoom.parse(layout_name, content.decode())
        layout = replace(layout, json=True, jsonp=name.endswith(".js"))
        return layout.descriptors().get(name) == content
    except (FasttileError, ValueError):
        return False


class FolderTileSink:
    """Writes tiles below a folder that another process has locked and will publish.

    Existing files are replaced.

    Args:
        layout: The paths of the tiles.
        work_path: The work folder.

    Raises:
        TargetError: The work folder is not there.
    """

    def __init__(self, layout: Layout, work_path: Path) -> None:
        self._layout = layout
        with wrap_os_errors("write in", work_path), Folder.open_entry(work_path) as work:
            self._folder = work.open_folder("new")
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
                raise os_target_error("write", self._folder.path / relative, error) from error

    def finish(self) -> None:
        """Close the folder: all files are written."""
        self._folder.close()

    def abort(self) -> None:
        """Close the folder: the files belong to another process."""
        self._folder.close()


class SharedFolderTarget(NamedTuple):
    """A work folder on a file system that all workers share.

    Attributes:
        path: The work folder.
    """

    path: str

    def open_tile_sink(self, layout: Layout) -> Sink:
        """Files in the folder `new`."""
        return FolderTileSink(layout, Path(self.path))

    @property
    def shard_store(self) -> ShardStore:
        """Files in the folder `blocks`."""
        from fasttile.sinks.shared import FolderShardStore

        return FolderShardStore(Path(self.path))
