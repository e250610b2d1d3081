"""What `fasttile view` shows: a page, and the tiles that it asks for."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ..errors import FasttileError, SourceError
from ..readers.base import MEDIA_TYPES, PyramidReader
from ..readers.file import OpenFile
from . import SHELL, VIEWERS
from .describe import geometry, shown
from .html import write
from .wall import Thumbnails, item_of, reader_of, wall, whole_layout

Found = tuple[bytes, str] | None
"""A file's bytes and its media type, or None where there is no such file."""


class Show(ABC):
    """A page, and the tiles that it asks for; any of it may be called from many threads.

    Attributes:
        title: What is shown.
        page: The page itself.
    """

    title: str
    page: bytes

    def tile(self, level: int, col: int, row: int) -> Found:
        """A tile of the picture."""
        return None

    def item_tile(self, item: int, level: int, col: int, row: int) -> Found:
        """A tile of one of the pictures."""
        return None

    def thumbnail(self, level: int, col: int, row: int) -> Found:
        """A tile of thumbnails."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Let go of what is open. No other thread may be reading."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_show(path: str | os.PathLike[str]) -> Show:
    """Open a result to be shown.

    Raises:
        SourceError: There is none.
    """
    from ..readers import open_pyramid

    suffix = Path(path).suffix.lower()
    if suffix == ".dzc":
        return CollectionShow(path)
    try:
        return PictureShow(open_pyramid(path))
    except SourceError as error:
        if suffix == ".xml":  # as Deep Zoom Composer calls a collection, too
            with suppress(SourceError):
                return CollectionShow(path)
        if _is_picture(path):
            raise SourceError(
                f"{os.fspath(path)} is a picture, not a pyramid: fasttile cut makes one of it"
            ) from error
        raise


def _is_picture(path: str | os.PathLike[str]) -> bool:
    from ..sources import open_source

    if not Path(path).is_file():
        return False
    try:
        with open_source(os.fspath(path)):
            return True
    except FasttileError:
        return False


class PictureShow(Show):
    """One picture, whatever its tiles lie in."""

    def __init__(self, reader: PyramidReader) -> None:
        self._reader = reader
        self.title = shown(reader.name)
        pyramid = reader.pyramid
        width, height = pyramid.size
        viewer = VIEWERS["openseadragon"]
        naming = {"kind": "served", "root": "tile", "beside": "", "first": pyramid.kept[0]}
        self.page = write(
            self.title,
            f"{width:,} × {height:,} pixels",
            {**geometry(pyramid), "tiles": naming},
            library=viewer.library,
            parts=(*SHELL, *viewer.parts),
        )

    def tile(self, level: int, col: int, row: int) -> Found:
        data = self._reader.tile(level, col, row)
        return None if data is None else (data, self._reader.media_type)

    def close(self) -> None:
        self._reader.close()


class CollectionShow(Show):
    """Many pictures on a wall."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        from ..collection.reading import read

        self._collection = found = read(path)
        self.title = shown(found.path.stem)
        self._readers: dict[int, PyramidReader] = {}
        try:
            self.page = self._written()
        except BaseException:
            self.close()
            raise

    def _written(self) -> bytes:
        found, items = self._collection, []
        for entry in found.items:
            reader, layout = reader_of(found, entry), None
            if reader is not None:
                self._readers[entry.id] = reader
                layout = whole_layout(reader)
            items.append(item_of(entry, layout, f"item/{entry.id}"))
        thumbnails = Thumbnails("thumbnails", found.max_level, found.tile_size, found.format)
        return wall(self.title, thumbnails, items, kind="served")

    def item_tile(self, item: int, level: int, col: int, row: int) -> Found:
        reader = self._readers.get(item)
        if reader is None:
            return None
        data = reader.tile(level, col, row)
        return None if data is None else (data, reader.media_type)

    def thumbnail(self, level: int, col: int, row: int) -> Found:
        found = self._collection
        if level > found.max_level:
            return None
        path = found.files / f"{level}/{col}_{row}.{found.format}"
        if not path.is_file():
            return None
        with OpenFile(path) as file:
            extension = found.format.lower()
            return file.piece(0, file.size, "it"), MEDIA_TYPES.get(extension, f"image/{extension}")

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
