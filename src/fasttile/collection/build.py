"""Build of a collection: reads thumbnails, fills shared tiles, publishes the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from fasttile.collection.descriptor import Collection, Item
from fasttile.collection.members import Member, MemberCutter
from fasttile.collection.thumbnail_grid import DirtyTiles, ThumbnailTileWriter
from fasttile.collection.thumbnails import Thumbnails
from fasttile.collection.workspace import TILES_FOLDER, CollectionWorkspace, Move
from fasttile.encode.codecs import Codec
from fasttile.errors import CancelledError, SourceError
from fasttile.options import parse_colour
from fasttile.options.cut import CutOptions
from fasttile.storage.object_files import ResultPath
from fasttile.types import Colour

PROGRESS_SECONDS = 0.1
"""The shortest interval between two calls of the progress callback."""


@dataclass(frozen=True)
class CollectionProgress:
    """Progress of a collection.

    Attributes:
        items: The number of images whose thumbnails are done.
        item_count: The number of all images.
    """

    items: int
    item_count: int


CollectionProgressCallback = Callable[[CollectionProgress], object]
"""Called now and then from the calling thread; the work is cancelled if it returns False."""


@dataclass(frozen=True)
class CollectionReport:
    """Report on a collection that was created or changed.

    Attributes:
        path: The descriptor.
        items: The number of its images.
        cut: The number of images that were cut.
        tiles: The number of shared tiles that were made.
        kept: The number of unchanged shared tiles.
        bytes: The encoded bytes of the tiles that were made.
        seconds: The duration.
        notes: One line each on what was done to the pixels of images that were cut.
    """

    path: Path
    items: int
    cut: int
    tiles: int
    kept: int
    bytes: int
    seconds: float
    notes: tuple[str, ...] = ()


class CollectionBuild:
    """The build of one collection.

    Args:
        workspace: The work folder.
        collection: Its present images, each with its new number.
        codec: The format of the shared tiles.
        options: The options for images that are cut.
        progress: The progress callback.
        first_changed: Cells from this number on change.
    """

    def __init__(
        self,
        workspace: CollectionWorkspace,
        collection: Collection,
        codec: Codec,
        options: CutOptions,
        progress: CollectionProgressCallback | None,
        first_changed: int = 0,
    ) -> None:
        self._workspace = workspace
        self._collection = collection
        self._codec = codec
        self._options = options
        self._background: Colour = parse_colour(options.background)
        self._progress = progress
        self._reported_at = 0.0
        self._done = 0
        self._notes: list[str] = []
        self._cut_count = 0
        self._members: Sequence[Member] = ()
        self._member_cutter: MemberCutter | None = None
        self._first_changed = first_changed
        self._count = 0

    def add_members(
        self, members: Sequence[Member], folder: Path, replaceable: Iterable[str] = ()
    ) -> None:
        """Add images, which `publish` reads."""
        self._members = members
        self._member_cutter = MemberCutter(self._workspace, folder, self._cut_member, replaceable)

    def publish(self, started: float, *, replaces: bool = True) -> CollectionReport:
        """Make all tiles and the descriptor, and publish them."""
        before, work = self._collection, self._workspace
        for level in before.grid.levels:
            work.make_folder(f"{TILES_FOLDER}/{level}")
        touched, kept = self._reuse_tiles()

        def write_tile(name: str, data: bytes) -> None:
            work.write(f"{TILES_FOLDER}/{name}.{before.format}", data)

        shared_tiles = ThumbnailTileWriter(touched, self._codec, self._background, write_tile)
        again = [item for item in before.items if touched.dirty_levels(item.n)]
        self._count = len(again) + len(self._members)
        for item in again:
            with _name_in_errors(item.label):
                self._add_thumbnails(shared_tiles, item.n, before.item_descriptor(item))
            self._report_progress()
        added = []
        number = before.items[-1].n + 1 if before.items else 0
        for index, image in enumerate(self._members):
            assert self._member_cutter is not None
            with _name_in_errors(image.label):
                path, source = self._member_cutter.prepare(image)
                size = self._add_thumbnails(shared_tiles, number + index, path)
            added.append(Item(before.next_id + index, number + index, source, *size))
            self._report_progress()
        shared_tiles.finish()
        after = replace(before, items=(*before.items, *added), next_id=before.next_id + len(added))
        work.write_text(before.path.name, after.to_xml())
        moves = self._member_cutter.moves() if self._member_cutter is not None else []
        work.publish(
            [
                *moves,
                Move(TILES_FOLDER, replaces=replaces),
                Move(before.path.name, announces=True, replaces=replaces),
            ]
        )
        return CollectionReport(
            Path(before.path),
            len(after.items),
            self._cut_count,
            shared_tiles.tiles,
            kept,
            shared_tiles.bytes,
            time.perf_counter() - started,
            tuple(self._notes),
        )

    def _reuse_tiles(self) -> tuple[DirtyTiles, int]:
        """Link the unchanged tiles; return the tiles to make, and the number of unchanged ones."""
        collection = self._collection
        touched = DirtyTiles(collection.grid, self._first_changed)
        stay = touched.clean_tiles(item.n for item in collection.items)
        lost = set()
        for level, tile in stay:
            name = f"{collection.grid.tile_name(level, tile)}.{collection.format}"
            if not self._workspace.link_or_copy(
                f"{TILES_FOLDER}/{name}", Path(collection.tile_folder / name)
            ):
                lost.add((level, tile))
        return replace(touched, missing=frozenset(lost)), len(stay) - len(lost)

    def _add_thumbnails(
        self, writer: ThumbnailTileWriter, number: int, path: ResultPath
    ) -> tuple[int, int]:
        thumbnails = Thumbnails(path, self._background)
        writer.put(number, thumbnails.level_image)
        return thumbnails.width, thumbnails.height

    def _cut_member(self, source: Any, path: Path) -> None:
        from fasttile.jobs.cut import cut
        from fasttile.jobs.progress import CutProgress

        def ask(progress: CutProgress) -> bool:
            return self._ask_callback()

        options = {field.name: getattr(self._options, field.name) for field in fields(CutOptions)}
        report = cut(source, path, progress=ask, **options)
        self._cut_count += 1
        self._notes += [f"{path.stem}: {note}" for note in report.notes]

    def _report_progress(self) -> None:
        """Count one more image, and call the progress callback."""
        self._done += 1
        now = time.monotonic()
        if now - self._reported_at < PROGRESS_SECONDS and self._done < self._count:
            return
        self._reported_at = now
        if not self._ask_callback():
            raise CancelledError(f"cancelled after {self._done} of {self._count} images")

    def _ask_callback(self) -> bool:
        """False if the progress callback cancels the work."""
        if self._progress is None:
            return True
        return self._progress(CollectionProgress(self._done, self._count)) is not False


@contextmanager
def _name_in_errors(label: str) -> Iterator[None]:
    """Add the name of the image to errors of the block."""
    try:
        yield
    except SourceError as error:
        if label in str(error):
            raise
        raise SourceError(f"{label}: {error}") from error
