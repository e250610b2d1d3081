"""One collection being made, or made anew: thumbnails read, shared tiles filled, all published."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..codec import Codec
from ..encoder import parse_colour
from ..errors import Cancelled, SourceError
from ..options import CutOptions
from ..resample import Colour
from .descriptor import Collection, Item
from .gallery import Gallery, Picture
from .mosaic import Mosaics, Touched
from .moves import Move
from .thumbnails import Thumbnails
from .workplace import FILES, Workplace

PROGRESS_SECONDS = 0.1
"""How often the progress callback is called, at most."""


@dataclass(frozen=True)
class Progress:
    """How far a collection has come.

    Attributes:
        items: Pictures whose thumbnails were taken.
        item_count: How many there will be.
    """

    items: int
    item_count: int


ProgressCallback = Callable[[Progress], object]
"""Called now and then from the calling thread; the work is cancelled if it gives False."""


@dataclass(frozen=True)
class CollectionReport:
    """What was made of a collection.

    Attributes:
        path: The descriptor.
        items: How many pictures it has now.
        cut: How many of them were cut for it now.
        tiles: Shared tiles that were made now.
        kept: Shared tiles that stayed as they were.
        bytes: Encoded bytes of the tiles that were made.
        seconds: How long it took.
        notes: One line each on what was done to the pixels of pictures that were cut.
    """

    path: Path
    items: int
    cut: int
    tiles: int
    kept: int
    bytes: int
    seconds: float
    notes: tuple[str, ...] = ()


class Making:
    """A collection on its way: what it has, and what comes to it.

    Args:
        work: Where it is made.
        collection: What it has already, each picture at the number that it shall have.
        codec: How shared tiles are encoded.
        wishes: How pictures are cut.
        progress: Who wants to know.
        first: Cells from this number on change.
    """

    def __init__(
        self,
        work: Workplace,
        collection: Collection,
        codec: Codec,
        wishes: CutOptions,
        progress: ProgressCallback | None,
        first: int = 0,
    ) -> None:
        self._work = work
        self._collection = collection
        self._codec = codec
        self._wishes = wishes
        self._background: Colour = parse_colour(wishes.background)
        self._progress = progress
        self._told = 0.0
        self._done = 0
        self._notes: list[str] = []
        self._cut_count = 0
        self._pictures: Sequence[Picture] = ()
        self._gallery: Gallery | None = None
        self._first = first
        self._count = 0

    def add(self, pictures: Sequence[Picture], folder: Path, replaced: Iterable[str] = ()) -> None:
        """Have pictures come to it, when it is published."""
        self._pictures = pictures
        self._gallery = Gallery(self._work, folder, self._cut, replaced)

    def publish(self, started: float, *, replaces: bool = True) -> CollectionReport:
        """Make all that is to be made, and let it go to its place."""
        before, work = self._collection, self._work
        for level in before.grid.levels:
            work.make_folder(f"{FILES}/{level}")
        touched, kept = self._taken_over()
        mosaics = Mosaics(touched, self._codec, self._background, self._write)
        again = [item for item in before.items if touched.levels(item.n)]
        self._count = len(again) + len(self._pictures)
        for item in again:
            with _naming(item.called):
                self._put(mosaics, item.n, before.picture(item))
            self._tell()
        added = list(self._added(mosaics))
        mosaics.finish()
        after = replace(before, items=(*before.items, *added), next_id=before.next_id + len(added))
        work.write_text(before.path.name, after.text())
        moves = self._gallery.moves() if self._gallery is not None else []
        work.publish(
            [
                *moves,
                Move(FILES, before.files.name, replaces=replaces),
                Move(before.path.name, before.path.name, announces=True, replaces=replaces),
            ]
        )
        return CollectionReport(
            before.path,
            len(after.items),
            self._cut_count,
            mosaics.tiles,
            kept,
            mosaics.bytes,
            time.perf_counter() - started,
            tuple(self._notes),
        )

    def _taken_over(self) -> tuple[Touched, int]:
        """The tiles that stay are among the new ones; what is to be made, and how many stay."""
        collection = self._collection
        touched = Touched(collection.grid, self._first)
        stay = touched.kept(item.n for item in collection.items)
        lost = set()
        for level, tile in stay:
            name = f"{collection.grid.name(level, tile)}.{collection.format}"
            if not self._work.take_over(f"{FILES}/{name}", collection.files / name):
                lost.add((level, tile))
        return replace(touched, lost=frozenset(lost)), len(stay) - len(lost)

    def _added(self, mosaics: Mosaics) -> Iterator[Item]:
        """The pictures that come to it, one after the other."""
        number = self._collection.items[-1].n + 1 if self._collection.items else 0
        for index, picture in enumerate(self._pictures):
            assert self._gallery is not None
            with _naming(picture.called):
                path, source = self._gallery.dzi(picture)
                width, height = self._put(mosaics, number + index, path)
            yield Item(self._collection.next_id + index, number + index, source, width, height)
            self._tell()

    def _put(self, mosaics: Mosaics, number: int, path: Path) -> tuple[int, int]:
        thumbnails = Thumbnails(path, self._background)
        mosaics.put(number, thumbnails.at)
        return thumbnails.width, thumbnails.height

    def _cut(self, picture: Any, path: Path) -> None:
        from ..job import Progress as CutProgress
        from ..job import cut

        def ask(progress: CutProgress) -> bool:
            return self._goes_on()

        wishes = {field.name: getattr(self._wishes, field.name) for field in fields(CutOptions)}
        report = cut(picture, path, progress=ask, **wishes)
        self._cut_count += 1
        self._notes += [f"{path.stem}: {note}" for note in report.notes]

    def _write(self, name: str, data: bytes) -> None:
        self._work.write(f"{FILES}/{name}.{self._collection.format}", data)

    def _tell(self) -> None:
        """One more picture's thumbnails were taken."""
        self._done += 1
        now = time.monotonic()
        if now - self._told < PROGRESS_SECONDS and self._done < self._count:
            return
        self._told = now
        if not self._goes_on():
            raise Cancelled(f"cancelled after {self._done} of {self._count} pictures")

    def _goes_on(self) -> bool:
        """Whether who watches lets it go on."""
        if self._progress is None:
            return True
        return self._progress(Progress(self._done, self._count)) is not False


@contextmanager
def _naming(called: str) -> Iterator[None]:
    """Have an error of the block name the picture that it is about."""
    try:
        yield
    except SourceError as error:
        if called in str(error):
            raise
        raise SourceError(f"{called}: {error}") from error
