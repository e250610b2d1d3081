"""Repair of a result: wrong tiles are cut again, and all other bytes stay."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from contextlib import ExitStack, suppress
from pathlib import Path

from fasttile.abc.sink import PathSink, Sink
from fasttile.errors import OptionError, TargetError
from fasttile.geometry import Tile
from fasttile.jobs.pipeline import EncodedTiles
from fasttile.jobs.progress import CutProgressCallback
from fasttile.layouts import RECORD_NAME
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.options.cut import CutOptions
from fasttile.readers import open_result
from fasttile.sinks.archive import ArchiveSink
from fasttile.sinks.memory import MemorySink
from fasttile.sinks.registry import check_container
from fasttile.sinks.tiff import TiffSink
from fasttile.sources import keep_fetched
from fasttile.storage.file_trees import ZipTree
from fasttile.storage.folders import rename
from fasttile.storage.paths import check_replaceable, wrap_os_errors
from fasttile.storage.publish import JOURNAL_NAME, PENDING_NAMES
from fasttile.storage.work_folder import WorkFolder
from fasttile.verify.check import Checker, create_checker, extra_files
from fasttile.verify.compare import Comparison, compare, open_comparison
from fasttile.verify.descriptors import sibling_descriptors, wrong_descriptors
from fasttile.verify.report import Findings, VerifyReport
from fasttile.walk import TileRun


def repair_result(
    path: Path, source: object, progress: CutProgressCallback | None, options: CutOptions
) -> VerifyReport:
    """Repair a result, and verify it again; see `fasttile.verify.repair`."""
    with keep_fetched(source):
        with open_result(path) as reader:
            checker = create_checker(reader, Findings(), options.thread_count, progress)
            comparison = compare(checker, source, options)
            if checker.findings.fault_count == 0:
                return checker.findings.report(path)
            if not comparison.encoding.is_known and not comparison.vote.exact_count:
                name = comparison.encoding.codec.name
                raise OptionError(
                    f"{reader.path}: the encoding cannot be read from its tiles; "
                    f"give the original one, --format {name}:… or --quality N"
                )
            count = _repair_faults(checker, comparison, source, options)
        with open_result(path) as reader:
            checker = create_checker(reader, Findings(), options.thread_count, progress)
            compare(checker, source, options)
            return checker.findings.report(path, count)


def _repair_faults(
    checker: Checker, faulty: Comparison, source: object, options: CutOptions
) -> int:
    """Walk the image again and repair the faults of a comparison; return how many."""
    with open_comparison(checker, source, options) as comparison:
        comparison.bad_level_images |= faulty.bad_level_images
        in_folder = checker.tiles.reader.container == "folder"
        target = FolderRepairTarget(comparison) if in_folder else FileRepairTarget(comparison)
        whole_levels = comparison.job.whole_levels()
        try:
            with comparison.job.open_pipeline(MemorySink()) as pipeline:

                def repaired_tiles(run: TileRun) -> EncodedTiles:
                    tiles: EncodedTiles = []
                    for tile, pixels in run.tiles():
                        data = half = None
                        if checker.findings.is_bad(tile):
                            data = pipeline.encode_image(tile.level, pixels)
                            half = pipeline.encode_half(tile.level, pixels)
                        tiles.append((tile, data, half))
                    return tiles

                for tiles in comparison.map_runs(repaired_tiles, whole_levels):
                    for tile, data, half in tiles:
                        target.put(tile, data, half)
                for image, pixels in whole_levels.images():
                    data = pipeline.encode_image(whole_levels.level_of(image), pixels)
                    target.add_level_image(image.paths, data)
            target.finish()
        except BaseException:
            target.abort()
            raise
        return target.repaired_count


class RepairTarget(ABC):
    """Destination of the tiles of a repair, in the order of the walk.

    Args:
        comparison: The result compared with the image.

    Attributes:
        repaired_count: Number of tiles and other files that were written or removed.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.tiles = comparison.tiles
        self.bad_level_images = comparison.bad_level_images
        self.repaired_count = 0

    @abstractmethod
    def put(self, tile: Tile, data: bytes | None, half: bytes | None) -> None:
        """Add the next tile: the new data, or None if the stored tile is right; and its half."""

    @abstractmethod
    def add_level_image(self, paths: tuple[str, ...], data: bytes) -> None:
        """Add the right image of a level, after all tiles."""

    @abstractmethod
    def finish(self) -> None:
        """Remove extra files and tiles, and publish."""

    @abstractmethod
    def abort(self) -> None:
        """Discard unfinished files. Never raises."""


class FolderRepairTarget(RepairTarget):
    """Repairs a folder file by file, each by a rename, under the lock of a cut.

    Folders are used by their handles, and links to folders are not followed.

    Args:
        comparison: The result compared with the image.

    Raises:
        TargetError: Another cut is writing the result, one was interrupted and can be resumed, or
            the folder of the tiles is a symbolic link.
    """

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(comparison)
        self._target = Path(self.tiles.target).absolute()
        work = Path(self.tiles.work_folder).absolute()
        root = work.parent / self.tiles.layout.root
        with wrap_os_errors("look at", root):
            check_replaceable(root, is_folder=True)
        self._work_folder = WorkFolder(work)
        self._site, self._work = self._work_folder.parent, self._work_folder.folder
        if any(map(self._work.exists, (JOURNAL_NAME, *PENDING_NAMES))):
            self._work_folder.release()
            raise TargetError(
                f"{self._target}: a cut of it was interrupted; "
                f"cut it again to finish, or remove {work}"
            )

    def put(self, tile: Tile, data: bytes | None, half: bytes | None) -> None:
        """Replace the files of a tile, if it has new data."""
        if data is None:
            return
        layout = self.tiles.layout
        files = dict.fromkeys(layout.paths(tile), data)
        if half is not None:
            files[layout.half_path(tile)] = half
        for path, content in files.items():
            if half is None or self.tiles.read_file(path) != content:  # one of both may be right
                self._replace_file(path, content)
        self.repaired_count += 1

    def add_level_image(self, paths: tuple[str, ...], data: bytes) -> None:
        """Replace the wrong files of the image of a level."""
        for path in self.bad_level_images.intersection(paths):
            self._replace_file(path, data)
            self.repaired_count += 1

    def finish(self) -> None:
        """Remove misplaced files, replace wrong descriptors, and release the lock."""
        removed = True
        while removed:  # some file systems skip entries when others are removed meanwhile
            removed = False
            for extra in extra_files(self.tiles):
                if extra.is_misplaced:
                    self._remove_file(extra.path)
                    removed = True
        for wrong in wrong_descriptors(self.tiles):
            if wrong.expected is not None:
                self._replace_file(wrong.path, wrong.expected)
                self.repaired_count += 1
        with wrap_os_errors("remove", self._work_folder.path):
            self._work_folder.remove()

    def abort(self) -> None:
        """Release the lock; repaired files stay."""
        with suppress(OSError):
            self._work_folder.remove()
        self._work_folder.release()

    def _replace_file(self, relative: str, data: bytes) -> None:
        *folders, name = relative.split("/")
        with wrap_os_errors("write", self._site.path / relative), ExitStack() as stack:
            folder = self._site
            for part in folders:
                folder = stack.enter_context(folder.open_folder(part, create=True))
            source, new = self._work, "repaired"
            source.remove_file(new)
            source.write_file(new, data)
            try:
                rename(source, new, folder, name)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                # The tiles are on another file system.
                new = f".{name}.fasttile"
                folder.remove_file(new)
                folder.write_file(new, data)
                rename(folder, new, folder, name)

    def _remove_file(self, relative: str) -> None:
        """Remove a file, and the folders that are empty then, but not the root."""
        *folders, name = relative.split("/")
        with wrap_os_errors("remove", self._site.path / relative), ExitStack() as stack:
            opened = [self._site]
            for part in folders:
                opened.append(stack.enter_context(opened[-1].open_folder(part)))
            opened[-1].remove_file(name)
            self.repaired_count += 1
            with suppress(OSError):  # not empty
                for above, part in reversed([*zip(opened[1:-1], folders[1:], strict=True)]):
                    above.remove_folder(part)


class FileRepairTarget(RepairTarget):
    """Writes a file of all tiles beside the result, which it replaces at the end.

    Args:
        comparison: The result compared with the image.

    Raises:
        OptionError: The container cannot hold such tiles.
        TargetError: Another cut is writing the result, or the file has content of another program.
    """

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(comparison)
        self._findings = comparison.checker.findings
        check_container(comparison.job.plan.target, comparison.encoding.codec)
        if not self.tiles.reader.is_rewritable:
            raise TargetError(
                f"{self.tiles.reader.path}: made by another program, with content "
                "that fasttile does not write; cut it again"
            )
        self._sink = _open_sink(comparison)

    def put(self, tile: Tile, data: bytes | None, half: bytes | None) -> None:
        """Write a tile: the new data or the stored data."""
        tiles = self.tiles
        if data is not None:
            self._sink.put(tile, data)
            self.repaired_count += 1
        elif not tiles.shares_file(tile):
            data = tiles.reader.raw_tile(tile)
            if data is not None:  # else the tile is blank and stays missing
                self._sink.put(tile, data)
                half = tiles.half_flaw(tile)[1] if tiles.layout.has_halves else None
        if half is not None:
            assert isinstance(self._sink, PathSink)
            self._sink.add((tiles.layout.half_path(tile),), half)

    def add_level_image(self, paths: tuple[str, ...], data: bytes) -> None:
        """Write the image of a level: the right data or the stored data."""
        assert isinstance(self._sink, PathSink)  # other layouts have no such images
        for path in paths:
            stored = None if path in self.bad_level_images else self.tiles.read_file(path)
            self.repaired_count += path in self.bad_level_images
            self._sink.add([path], stored if isinstance(stored, bytes) else data)

    def finish(self) -> None:
        """Replace the old file."""
        others = sum(fault.tile is None for fault in self._findings.faults)
        self.repaired_count += max(0, others - len(self.bad_level_images))
        self.tiles.reader.close()  # Windows does not replace an open file
        self._sink.finish()

    def abort(self) -> None:
        """Discard the new file."""
        self._sink.abort()


def _open_sink(comparison: Comparison) -> Sink:
    """The sink of a cut; for a ZIP, one that keeps the other files in it."""
    job, tiles = comparison.job, comparison.tiles
    if not isinstance(tiles.files, ZipTree):
        record, stored = tiles.reader.record(), tiles.reader.metadata
        sink = job.plan.open_sink(job.layout, job.source, job.colour_plan, record=record)
        place = None if stored is None else stored.georeference
        if place is not None and isinstance(sink, TiffSink) and sink.geo_tags != place.tags():
            sink.abort()
            raise TargetError(
                f"{tiles.reader.path}: its georeference is not that of the image; "
                "cut or convert it again"
            )
        return sink
    parent, layout, root = tiles.files.parent(tiles.layout.root), job.layout, tiles.layout.root
    if isinstance(layout, DeepZoom):
        layout = sibling_descriptors(layout, parent)
    repaired = {wrong.path: wrong.expected for wrong in wrong_descriptors(tiles)}
    kept = {extra.path for extra in extra_files(tiles) if not extra.is_misplaced}
    kept |= {f"{root}/{RECORD_NAME}", *layout.further_files()}
    written = layout.descriptors()
    others: dict[str, bytes] = {}
    for path, _ in parent.file_sizes():
        if path in written or (path.startswith(f"{root}/") and path not in kept):
            continue
        data = repaired.get(path) or parent.read(path)
        if data is not None:
            others[path] = data
    return ArchiveSink(
        layout, job.plan.target.path, overwrite=True, files=others, prefix=parent.prefix
    )
