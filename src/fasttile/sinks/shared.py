"""Targets that many workers write to: the interfaces that a worker needs."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from fasttile.abc.layout import Layout
from fasttile.abc.sink import Sink
from fasttile.errors import SourceError
from fasttile.geometry import Tile
from fasttile.geometry.shards import Shards
from fasttile.storage.folders import Folder, rename
from fasttile.storage.journal import SHARD_LEVEL, JournalRecord
from fasttile.storage.paths import wrap_os_errors
from fasttile.storage.publish import BLOCKS_FOLDER

if TYPE_CHECKING:
    from fasttile.storage.journal import Journal


class SharedTarget(Protocol):
    """A target that workers on other machines reach; small, for it is sent to each."""

    def open_tile_sink(self, layout: Layout) -> Sink:
        """The sink for a worker's tiles."""

    @property
    def shard_store(self) -> ShardStore:
        """The store of the shards' blocks."""


@runtime_checkable
class ShardedSink(Sink, Protocol):
    """A sink whose tiles may also come from workers.

    Attributes:
        journal: The list of tiles of an earlier run.
    """

    journal: Journal | None

    @property
    def shared_target(self) -> SharedTarget:
        """The target for the workers."""


class ShardStore(Protocol):
    """Storage of blocks until all shards are done."""

    def put(self, number: int, data: bytes) -> None:
        """Store a block; a second one of the same number replaces it."""

    def get(self, number: int) -> bytes:
        """A block.

        Raises:
            SourceError: It does not exist.
        """


class FolderShardStore:
    """Blocks as files of a folder in a work folder.

    Args:
        work_path: The work folder.
    """

    def __init__(self, work_path: Path) -> None:
        self._work_path = work_path

    def put(self, number: int, data: bytes) -> None:
        """Write a file in one step, by a rename."""
        name, new = f"{number}", f"{number}.new"
        with (
            wrap_os_errors("write", self._work_path / BLOCKS_FOLDER / name),
            self._open() as folder,
        ):
            folder.remove_file(new)
            folder.write_file(new, data)
            rename(folder, new, folder, name)

    def get(self, number: int) -> bytes:
        """Read a file."""
        path = self._work_path / BLOCKS_FOLDER / f"{number}"
        reason: object = "it is missing"
        try:
            with self._open() as folder:
                data = folder.read_file(path.name, sys.maxsize)
                if data is not None:
                    return data
        except OSError as error:
            reason = error.strerror
        raise SourceError(f"{path} cannot be read: {reason}")

    def _open(self) -> Folder:
        with Folder.open_entry(self._work_path) as work:
            return work.open_folder(BLOCKS_FOLDER, create=True)


class StoredRecords:
    """Compares the records of a journal with the tiles that are there.

    A record counts if there are as many tiles of it as it says, with as many bytes in all.

    Args:
        layout: The paths of the tiles.
        shard_depth: The depth of the shards, if the job is cut in shards.

    Attributes:
        foreign: Paths that no tile has.
    """

    def __init__(self, layout: Layout, shard_depth: int | None) -> None:
        self.foreign: list[str] = []
        self._layout = layout
        self._shards = None if shard_depth is None else Shards(layout.pyramid, shard_depth)

    def check(
        self,
        records: Sequence[JournalRecord],
        files: Iterable[tuple[str, int | None]],
        blocks: Container[str],
    ) -> list[bool]:
        """True for each record whose tiles are all there.

        Args:
            records: The records of a journal.
            files: Path below the layout's root, and size, of each file; None for what is no file.
            blocks: The names of the blocks of shards that are there.
        """
        layout, index = self._layout, _RecordIndex(records)
        tiles, sizes = [0] * len(records), [0] * len(records)
        others: dict[str, int] = {}
        with_aliases: list[tuple[int, tuple[str, ...], int]] = []
        for below, size in files:
            path = f"{layout.root}/{below}"
            tile = None if size is None else layout.tile_at(path) or layout.tile_of_half(path)
            if tile is None or size is None:
                self.foreign.append(below)
                if size is not None:
                    others[path] = size
                continue
            number = index.find(tile, self._shards)
            if number is None:
                continue
            tiles[number] += 1
            sizes[number] += size
            paths = layout.paths(tile)
            if len(paths) > 1:
                with_aliases.append((number, paths[1:], size))
        aliases: set[str] = set()
        for number, paths, size in with_aliases:
            aliases.update(paths)
            if any(others.get(path) != size for path in paths):
                tiles[number] -= 1
        start, files_per_tile = len(layout.root) + 1, 1 + layout.has_halves
        self.foreign = sorted({*self.foreign} - {path[start:] for path in aliases})
        return [
            (tiles[number], sizes[number]) == (record.tiles * files_per_tile, record.bytes)
            and self._is_possible(record, blocks)
            for number, record in enumerate(records)
        ]

    def _is_possible(self, record: JournalRecord, blocks: Container[str]) -> bool:
        """True if the pyramid has the tiles of a record, and the blocks of its shards are there."""
        pyramid, shards = self._layout.pyramid, self._shards
        if record.level != SHARD_LEVEL:
            if record.level not in pyramid.stored_range:
                return False
            level = pyramid.levels[record.level]
            count = record.stop - record.first
            is_inside = record.row < level.rows and record.stop <= level.cols
            return is_inside and record.tiles + record.blanks == count
        return (
            shards is not None
            and record.stop <= len(shards)
            and all(
                str(number) in blocks
                for number in range(record.first, record.stop)
                if shards[number].block.width and shards[number].block.height
            )
        )


class _RecordIndex:
    """Finds the record that lists a tile."""

    def __init__(self, records: Sequence[JournalRecord]) -> None:
        self._rows: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
        for number, record in enumerate(records):
            spans = self._rows.setdefault((record.level, record.row), [])
            spans.append((record.first, record.stop, number))
        for spans in self._rows.values():
            spans.sort()

    def find(self, tile: Tile, shards: Shards | None) -> int | None:
        shard = None if shards is None else shards.number_of(tile)
        key, at = (tile.level, tile.row), tile.col
        if shard is not None:
            key, at = (SHARD_LEVEL, 0), shard
        spans = self._rows.get(key, [])
        before = bisect_right(spans, at, key=lambda span: span[0]) - 1
        if before >= 0 and at < spans[before][1]:
            return spans[before][2]
        return None
