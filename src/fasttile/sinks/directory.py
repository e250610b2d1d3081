"""Tiles as files in folders, with what announces them in or beside: all of it appears, or nothing.

A run works in the hidden folder `.name.dzi.fasttile` beside the target; see workfolder.py for
whose it is, and publish.py for how its contents get out.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OptionError, TargetError
from ..geometry import Tile
from ..layouts.base import Layout
from .oserrors import refusal, shown, telling
from .places import absolute, exists_already, make_folders
from .publish import JOURNAL, RETIRED, ForeignFolderError, Publication
from .stale import stale_files
from .tilefiles import TileFiles
from .workfolder import WorkFolder
from .workplace import BLOCKS, WorkplaceFolder

if TYPE_CHECKING:
    from ..journal import Identity, Journal


class DirectorySink:
    """Writes each tile to a file of its own, and publishes them together at the end.

    Missing folders above the target are made, and unmade by `abort`. What a killed run left
    beside the target is finished if it had all its tiles, and removed if not.

    Args:
        layout: Which files a tile is written to, and what the descriptors say.
        target: The path of what a user opens; its name is the layout's `result_name`.
        overwrite: Replace what stands there, as a whole and only at the end. A folder that is
            the result itself has to hold what announces one. What else stands beside it, such as
            a page, is left alone, but for descriptors of ours that would become false.
        files: What else is written: path, as the layout gives paths, and content.
        identity: What the job is, if it can be carried on should it end before its time: then
            `abort` leaves what there is to the next run, unless that is nothing.

    Attributes:
        journal: What is whole, if the job can be carried on.
        published: Whether the result stands already: all that a killed run had left to do was
            to publish it.

    Raises:
        OptionError: The target's name is not the layout's.
        TargetError: Something stands there and may not be replaced, another run works on this
            target, or its folder cannot be written.
    """

    def __init__(
        self,
        layout: Layout,
        target: str | Path,
        *,
        overwrite: bool = False,
        files: Mapping[str, bytes] | None = None,
        identity: Identity | None = None,
    ) -> None:
        self.journal: Journal | None = None
        self.published = False
        self._layout = layout
        self._target = _checked_target(layout, Path(target))
        self._overwrite = overwrite
        self._identity = identity
        self._files = {**(files or {}), **layout.descriptors()}
        self._publication = self._planned()
        self._new = str(self._publication.work / "new")
        self._tiles = TileFiles(self._new, layout.root)
        self._begun: Publication | None = None  # what `_end` has to undo
        self._work: WorkFolder | None = None
        self._made_parents: list[Path] = []
        try:
            self._begin()
        except BaseException:
            self._end()
            raise

    @property
    def workplace(self) -> WorkplaceFolder:
        """Where workers put tiles too."""
        return WorkplaceFolder(str(self._publication.work))

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
                raise refusal("write", f"{self._new}/{relative}", error) from error

    def finish(self) -> None:
        """Write the descriptors and publish: the result replaces what stood there, if anything.

        Should the system refuse to remove what was replaced, a RuntimeWarning says so: the
        result is whole nevertheless.

        Raises:
            TargetError: The system refused, or something has appeared there in the meantime;
                `abort` puts everything back.
        """
        publication = self._publication
        if self._work is None:
            raise TargetError(f"cannot publish {shown(self._target)}: its sink has ended")
        if self.published:
            self._clean_up_published()
            return
        try:
            for relative, data in self._files.items():
                self._write_file(relative, data)
            if self.journal is not None:
                self.journal.settle()
            self._work.check()
            self._refuse_foreign()  # nor what has appeared since
            if self._overwrite:
                stale = stale_files(self._layout, self._target.parent, publication.files)
                publication = replace(publication, stale=stale)
            self._begun = publication
            publication.prepare(overwrite=self._overwrite)
            publication.publish()
        except ForeignFolderError as error:
            raise self._foreign() from error
        except FileExistsError as error:
            raise exists_already(error.filename2 or error.filename) from error
        except OSError as error:
            raise refusal("publish", self._target, error) from error
        self._made_parents.clear()
        self._clean_up_published()

    def abort(self) -> None:
        """Leave what stood there before as it was, and nothing else but what can be carried on.

        Never raises.
        """
        self._end()

    def _planned(self) -> Publication:
        """What is to be published, and where."""
        layout, parent = self._layout, self._target.parent
        inside = f"{layout.root}/"
        signs: tuple[str, ...] = ()
        if layout.result_name == layout.root:
            # A folder of a name that a user chose may be anything, unless it says what it is.
            signs = tuple(path.removeprefix(inside) for path in layout.descriptors())
        return Publication(
            work=parent / f".{self._target.name}.fasttile",
            tiles=parent / layout.root,
            files=tuple(parent / path for path in self._files if not path.startswith(inside)),
            signs=signs,
        )

    def _begin(self) -> None:
        """Check all that can be checked before any tile is cut, and set up the work folder."""
        publication = self._publication
        _refuse_unfit(publication)
        self._refuse_foreign()
        if not os.path.lexists(publication.work):
            self._refuse_existing()
        with telling("make folder", self._target.parent):
            make_folders(self._target.parent, self._made_parents)
        self._work = WorkFolder(publication.work)
        with telling("finish what a killed run left in", publication.work):
            self._begun = publication.left()
            recovered = self._begun.recover()
            self._begun = None
        if self._identity is None:
            self._refuse_to_forget()
            self._clear()
        else:
            self._carry_on(self._identity, recovered=recovered)
        if self.published:
            return
        self._refuse_existing()
        tiles = publication.new_tiles
        with telling("make folder", tiles):
            tiles.mkdir(parents=True, exist_ok=True)

    def _clear(self, *kept: str) -> None:
        assert self._work is not None
        with telling("remove what a killed run left in", self._work.path):
            self._work.clear(*kept)

    def _refuse_to_forget(self) -> None:
        """Refuse to throw away what an interrupted run meant to be carried on."""
        if not self._overwrite and (self._publication.work / JOURNAL).exists():
            raise TargetError(
                f"{shown(self._target)}: a run that can be carried on was interrupted; say resume "
                "to go on, or overwrite to begin anew"
            )

    def _carry_on(self, identity: Identity, *, recovered: bool) -> None:
        """Keep what an interrupted run of the same job has stored, or begin a journal."""
        if self._taken_up(identity, RETIRED if recovered else JOURNAL):
            self.published = recovered
            return
        self._clear()
        self.journal = self._opened_journal(identity, JOURNAL)

    def _taken_up(self, identity: Identity, name: str) -> bool:
        """Whether there is a journal of this job that can be read, which is ours then."""
        work = self._publication.work
        if not (work / name).exists():
            return False
        self._clear(name, BLOCKS, self._publication.new_tiles.parent.name)
        try:
            journal = self._opened_journal(identity, name)
        except TargetError:
            if name == RETIRED:  # the result of another job, which stands now
                return False
            raise
        if not journal.began:
            journal.close()
            return False
        self.journal = journal
        return True

    def _opened_journal(self, identity: Identity, name: str) -> Journal:
        from ..journal import Journal  # seldom needed
        from .folderlog import FolderLog

        log = FolderLog(self._publication.work, name)
        return Journal(log, identity, shown(self._target))

    def _refuse_existing(self) -> None:
        if self._overwrite:
            return
        # What announces the tiles is what a user knows of.
        others = (*reversed(self._publication.files), self._publication.tiles)
        for path in (self._target, *others):
            if os.path.lexists(path):
                raise exists_already(path)

    def _refuse_foreign(self) -> None:
        """Refuse to replace a folder that is no result, where the folder is all of it."""
        tiles = self._publication.tiles
        with telling("look at", tiles):
            if not self._overwrite or not tiles.exists():
                return
            if self._layout.result_name != self._layout.root:
                self._refuse_collection()
            elif self._publication.missing_sign() is not None:
                raise self._foreign()

    def _refuse_collection(self) -> None:
        """Refuse to replace the folder of a Deep Zoom collection, which has the same name."""
        collection = self._target.with_suffix(".dzc")
        if collection.exists():
            raise TargetError(
                f"{shown(self._publication.tiles)} belongs to the collection {shown(collection)}; "
                "choose another name"
            )

    def _foreign(self) -> TargetError:
        tiles, name = self._publication.tiles, self._publication.missing_sign()
        return TargetError(
            f"{shown(tiles)} is no result of this layout, for it has no {name}: it is not "
            "replaced; choose another name, or end it in a slash to put the result in it"
        )

    def _write_file(self, relative: str, data: bytes) -> None:
        if self._work is None:
            raise ValueError("the sink has ended; it takes no more tiles")
        # What is not in the journal may be there nevertheless, whole or not.
        self._tiles.write(relative, data, replace=self.journal is not None)

    def _clean_up_published(self) -> None:
        work = self._work
        assert work is not None  # or there would have been no folder to write the descriptor to
        if self.journal is not None:
            self.journal.close()
        try:
            if self._begun is not None:
                self._begun.settle()
            work.remove()
            self._work = None  # only now: an interrupt until here leaves the rest to `abort`
        except OSError as error:
            self._work = None
            work.leave()
            warnings.warn(
                f"{shown(self._target)} is published, but something is left in "
                f"{shown(work.path)}: {error.strerror}; the next run on it removes that",
                RuntimeWarning,
                stacklevel=3,
            )

    def _end(self) -> None:
        """Undo all that is not published, as far as the system lets us."""
        work, self._work = self._work, None
        if work is not None:
            with suppress(OSError):
                if self._begun is not None:
                    self._begun.undo()
            # What could not be undone holds the older result: the next run shall find it.
            if not self._publication.pending and not self._can_be_carried_on():
                with suppress(OSError):
                    work.remove()
            work.leave()
        for folder in reversed(self._made_parents):
            with suppress(OSError):  # it is not empty: somebody else uses it
                folder.rmdir()
        self._made_parents.clear()

    def _can_be_carried_on(self) -> bool:
        """End the journal; whether there is something in it."""
        if self.journal is None:
            return (self._publication.work / JOURNAL).exists()
        with suppress(Exception):  # whatever it is: the work folder has to be left
            self.journal.close()
        return not self.journal.empty


def _checked_target(layout: Layout, target: Path) -> Path:
    """The target as an absolute path, for programs change their folder."""
    if target.name != layout.result_name:
        raise OptionError(
            f"target {shown(target)} is not named {layout.result_name!r}, as the layout is"
        )
    return absolute(target)


def _refuse_unfit(publication: Publication) -> None:
    """Refuse names that lead to what can neither be merged with nor replaced as a whole."""
    with telling("look at", publication.tiles):
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
                    f"{shown(path)} is a symbolic link; remove it, or name what it leads to"
                )
            if not is_kind(mode):
                raise TargetError(f"{shown(path)} exists and is not {kind}; choose another name")
