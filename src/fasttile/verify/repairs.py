"""Repair a result: cut bad tiles again, and keep all others byte for byte."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from fasttile.abc.layout import Layout
from fasttile.abc.sink import PathSink, Sink
from fasttile.errors import OptionError, TargetError
from fasttile.geometry import Tile
from fasttile.jobs.cut_job import WholeLevels
from fasttile.jobs.pipeline import Pipeline
from fasttile.jobs.progress import CutProgressCallback
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.options.cut import CutOptions
from fasttile.readers import open_pyramid
from fasttile.readers.tiff import TiffReader, pyramid_levels
from fasttile.readers.tilesets import MbtilesReader, PmtilesReader, read_fasttile_member
from fasttile.sinks.archive import ArchiveSink
from fasttile.sinks.memory import MemorySink
from fasttile.sinks.registry import check_container
from fasttile.sources import keep_fetched
from fasttile.storage.file_trees import ZipTree
from fasttile.storage.paths import printable_path, wrap_os_errors
from fasttile.storage.publish import JOURNAL_NAME
from fasttile.storage.random_access import DiskFile
from fasttile.storage.work_folder import WorkFolder
from fasttile.verify.check import Checker, create_checker
from fasttile.verify.compare import Comparison, compare, open_comparison
from fasttile.verify.descriptors import parent_files, sibling_descriptors, wrong_descriptors
from fasttile.verify.extras import extra_files
from fasttile.verify.report import Findings, VerifyReport
from fasttile.verify.tiles import StoredTiles
from fasttile.walk import TileRun


def repair_result(
    path: Path, source: object, progress: CutProgressCallback | None, options: CutOptions
) -> VerifyReport:
    """Repair a result, and look at it again; see `fasttile.verify.repair`."""
    with keep_fetched(source):
        with open_pyramid(path) as reader:
            look = create_checker(reader, Findings(), options.thread_count, progress)
            found = compare(look, source, options)
            if look.findings.fault_count == 0:
                return look.findings.report(path)
            count = _repair_faults(look, found, source, options)
        with open_pyramid(path) as reader:
            look = create_checker(reader, Findings(), options.thread_count, progress)
            compare(look, source, options)
            return look.findings.report(path, count)


def _repair_faults(
    checker: Checker, comparison: Comparison, source: object, options: CutOptions
) -> int:
    """Walk the image once more and repair what was found; gives how much it was."""
    _check_encoding_known(comparison, checker.tiles.reader.path)
    with open_comparison(checker, source, options) as again:
        again.bad_level_images |= comparison.bad_level_images
        return repair_tiles(again, _repair_target(again))


def _repair_target(comparison: Comparison) -> RepairTarget:
    if comparison.tiles.container == "folder":
        return FolderRepairTarget(comparison.tiles, comparison.bad_level_images)
    return FileRepairTarget(comparison)


def _check_encoding_known(comparison: Comparison, path: Path) -> None:
    """Refuse to guess how tiles are to be encoded."""
    if not comparison.encoding.is_known and not comparison.vote.exact_count:
        name = comparison.encoding.codec.name
        raise OptionError(
            f"{path}: the encoding cannot be read from its tiles; give the original one, "
            f"--format {name}:… or --quality N"
        )


# Repair of any container: which tiles are cut again, in the order of the walk.


class RepairedTile(NamedTuple):
    """A tile, and its bytes if it was cut again."""

    tile: Tile
    data: bytes | None


class LevelImage(NamedTuple):
    """An image of a whole level: its paths, and how it should be."""

    paths: tuple[str, ...]
    data: bytes


class RepairTarget(Protocol):
    """Where repaired tiles go."""

    def put(self, repaired: RepairedTile) -> None:
        """Take the next tile of the walk."""

    def add_level_image(self, level_image: LevelImage) -> None:
        """Take an image of a whole level, after all tiles."""

    def finish(self) -> int:
        """Take out what is too many, and publish; gives how much was repaired."""

    def abort(self) -> None:
        """Keep only what is complete already. Never raises."""


def repair_tiles(comparison: Comparison, target: RepairTarget) -> int:
    """Walk an image once more and repair the faults; returns their number.

    Args:
        comparison: A new comparison with the image.
        place: Where the tiles go.
    """
    whole_levels = WholeLevels(comparison.job.layout)
    try:
        with comparison.job.open_pipeline(MemorySink()) as pipeline:
            work = partial(_repaired_tiles, comparison, pipeline)
            for tiles in comparison.map_runs(work, whole_levels):
                for repaired in tiles:
                    target.put(repaired)
            for level, paths, pixels in whole_levels.level_images():
                target.add_level_image(
                    LevelImage(paths, pipeline.encode_level_image(level, pixels))
                )
        return target.finish()
    except BaseException:
        target.abort()
        raise


def _repaired_tiles(comparison: Comparison, pipeline: Pipeline, run: TileRun) -> list[RepairedTile]:
    """The tiles of a run, those that were wrong as they should be."""
    findings = comparison.checker.findings
    try:
        return [
            RepairedTile(
                tile,
                pipeline.encode_level_image(tile.level, pixels) if findings.is_bad(tile) else None,
            )
            for tile, pixels in run.tiles()
        ]
    finally:
        run.release()


# Repair in a folder: file by file, each replaced by one rename.

_NEW_FILE_NAME = "repaired"
"""The file in the work folder that becomes a tile."""


class FolderRepairTarget:
    """Puts repaired tiles into the folder of a result, which no other run may work on meanwhile.

    Args:
        tiles: Of the result.
        bad_level_images: Paths of level images that differ.

    Raises:
        TargetError: Another run works on it, or one was interrupted that can be finished.
    """

    def __init__(self, tiles: StoredTiles, bad_level_images: set[str]) -> None:
        self._tiles = tiles
        self._bad_level_images = bad_level_images
        target = tiles.target.absolute()
        self._target = target
        self._parent = target.parent
        self._root = os.path.realpath(target.parent / tiles.layout.root)
        self._repaired_count = 0
        self._check_no_interrupted_run(tiles.work_folder.absolute())
        self._work_folder = WorkFolder(tiles.work_folder.absolute())

    def put(self, repaired: RepairedTile) -> None:
        """Write a tile, if it is a new one."""
        if repaired.data is None:
            return
        for path in self._tiles.layout.paths(repaired.tile):
            self._replace_file(path, repaired.data)
        self._repaired_count += 1

    def add_level_image(self, level_image: LevelImage) -> None:
        """Write the image of a whole level, where it was wrong."""
        for path in level_image.paths:
            if path in self._bad_level_images:
                self._replace_file(path, level_image.data)
                self._repaired_count += 1

    def finish(self) -> int:
        """Remove surplus files, repair descriptors, and release the lock."""
        removed = True
        while removed:  # some file systems skip entries when others are removed meanwhile
            removed = False
            for extra in extra_files(self._tiles):
                if extra.is_misplaced:
                    self._remove_file(extra.path)
                    removed = True
        for wrong in wrong_descriptors(self._tiles):
            self._replace_file(wrong.path, wrong.expected)
            self._repaired_count += 1
        with wrap_os_errors("remove", self._work_folder.path):
            self._work_folder.remove()
        return self._repaired_count

    def abort(self) -> None:
        """Give up the claim; what was repaired stays so."""
        with suppress(OSError):
            self._work_folder.remove()
        self._work_folder.release()

    def _check_no_interrupted_run(self, work: Path) -> None:
        """Refuse to touch the work of a run that can be finished or resumed."""
        with wrap_os_errors("look into", work):
            left = {entry.name for entry in work.iterdir()} if work.is_dir() else set()
        if left & {JOURNAL_NAME, "publish-new", "publish-over"}:
            raise TargetError(
                f"{printable_path(self._target)}: a run on it was interrupted; cut it again to finish that, "
                f"or remove {printable_path(work)}"
            )

    def _replace_file(self, relative: str, data: bytes) -> None:
        path = self._parent / relative
        with wrap_os_errors("write", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._check_inside_result(path)
            new = self._work_folder.path / _NEW_FILE_NAME
            new.write_bytes(data)
            new.replace(path)

    def _remove_file(self, relative: str) -> None:
        path = self._parent / relative
        with wrap_os_errors("remove", path):
            self._check_inside_result(path)
            path.unlink()
        self._repaired_count += 1
        for folder in path.parents:
            if os.path.realpath(folder) == self._root:
                break
            try:
                folder.rmdir()
            except OSError:  # there is more in it
                break

    def _check_inside_result(self, path: Path) -> None:
        """Refuse to follow symbolic links out of the result's folder."""
        real = os.path.realpath(path.parent)
        if real != os.path.realpath(self._parent) and not f"{real}{os.sep}".startswith(
            self._root.rstrip(os.sep) + os.sep
        ):
            raise TargetError(
                f"{printable_path(path)} leads out of {printable_path(self._target)}: not repaired"
            )


# Repair of a one-file result: written again with its good tiles, and then exchanged.

_WRITTEN_TIFF_TAGS = {254, 256, 257, 258, 259, 262, 277, 282, 283, 284, 296, 317} | {
    *(322, 323, 324, 325, 338, 347, 530, 532, 34675)
}
"""What fasttile writes into a page; others would be lost."""


class FileRepairTarget:
    """Writes a result's file again beside it.

    Args:
        comparison: Of the result with its image.

    Raises:
        OptionError: The container cannot hold such tiles.
        TargetError: Another run works on it, or the file was made by another program and holds
            what would be lost.
    """

    def __init__(self, comparison: Comparison) -> None:
        self._tiles = comparison.tiles
        self._bad_level_images = comparison.bad_level_images
        self._findings = comparison.checker.findings
        self._repaired_count = 0
        check_container(comparison.job.plan.target, comparison.encoding.codec)
        if not is_written_by_fasttile(self._tiles):
            raise TargetError(
                f"{printable_path(self._tiles.reader.path)} was made by another program, and holds what "
                "fasttile would not write: it is not repaired; cut it again"
            )
        self._sink = _open_sink(comparison)

    def put(self, repaired: RepairedTile) -> None:
        """Write a tile: the new one, or as it was."""
        if repaired.data is not None:
            self._sink.put(repaired.tile, repaired.data)
            self._repaired_count += 1
            return
        if self._tiles.shares_file(repaired.tile):
            return
        data = self._tiles.raw_tile(repaired.tile)
        if data is not None:  # else it is left out
            self._sink.put(repaired.tile, data)

    def add_level_image(self, level_image: LevelImage) -> None:
        """Write the image of a whole level: as it should be, or as it was."""
        assert isinstance(self._sink, PathSink)  # no other layout has any
        for path in level_image.paths:
            data = level_image.data
            if path in self._bad_level_images:
                self._repaired_count += 1
            else:
                found = self._tiles.read_file(path)
                data = found if isinstance(found, bytes) else data
            self._sink.add([path], data)

    def finish(self) -> int:
        """Let the new file take the old one's place."""
        beyond = sum(fault.tile is None for fault in self._findings.faults)
        self._repaired_count += max(0, beyond - len(self._bad_level_images))
        self._tiles.reader.close()  # some systems replace no file that is open
        self._sink.finish()
        return self._repaired_count

    def abort(self) -> None:
        """Leave the old file as it is."""
        self._sink.abort()


def is_written_by_fasttile(tiles: StoredTiles) -> bool:
    """True if a file contains nothing that is lost when it is written again."""
    reader = tiles.reader
    if isinstance(reader, PmtilesReader):
        return isinstance(reader._read_metadata().get("fasttile"), dict)
    if isinstance(reader, MbtilesReader):
        return read_fasttile_member(reader._read_metadata()) is not None
    if isinstance(reader, TiffReader):
        file = DiskFile(reader.path)
        try:
            levels, rounding = pyramid_levels(file)
        finally:
            file.close()
        known = all(set(level.directory._entries) <= _WRITTEN_TIFF_TAGS for level in levels)
        return rounding == "up" and known
    prefix = _zip_prefix(tiles)
    files = tiles.files
    assert isinstance(files, ZipTree)
    inside = all(name.startswith((prefix, "__MACOSX")) for name in files._entries)
    return inside and files._prefix == f"{prefix}{tiles.layout.root}/"


def _zip_prefix(tiles: StoredTiles) -> str:
    """What all names in a ZIP begin with."""
    files = parent_files(tiles)
    assert isinstance(files, ZipTree)
    return files._prefix


def _open_sink(comparison: Comparison) -> Sink:
    cutting, tiles = comparison.job, comparison.tiles
    plan, layout = cutting.plan, cutting.layout
    if plan.target.container not in ("zip", "szi"):
        return plan.open_sink(layout, cutting.source, cutting.colour_plan)
    return ArchiveSink(
        _with_siblings(tiles, layout),
        plan.target.path,
        overwrite=True,
        files=_other_zip_entries(tiles),
        prefix=_zip_prefix(tiles),
    )


def _with_siblings(tiles: StoredTiles, layout: Layout) -> Layout:
    return (
        sibling_descriptors(layout, parent_files(tiles)) if isinstance(layout, DeepZoom) else layout
    )


def _other_zip_entries(tiles: StoredTiles) -> dict[str, bytes]:
    """What lies in a ZIP beside tiles and descriptors: a page, properties."""
    files, layout = parent_files(tiles), tiles.layout
    written = _with_siblings(tiles, layout).descriptors()
    repaired_texts = {wrong.path: wrong.expected for wrong in wrong_descriptors(tiles)}
    inside = {extra.path for extra in extra_files(tiles) if not extra.is_misplaced}
    found: dict[str, bytes] = {}
    for path, _ in files.file_sizes():
        if path in written or (path.startswith(f"{layout.root}/") and path not in inside):
            continue
        data = repaired_texts.get(path) or files.read(path)
        if data is not None:
            found[path] = data
    return found
