"""Content of `fasttile view`: a page, and the tiles that it requests."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from fasttile.abc.layout import ResultTexts
from fasttile.abc.reader import PyramidReader, ResultReader
from fasttile.errors import OptionError, SourceError
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.storage.object_files import open_tree
from fasttile.storage.paths import tile_media_type
from fasttile.types import Closing
from fasttile.viewers import (
    COMMON_PARTS,
    VIEWERS,
    ScriptOrigin,
    describe_pyramid,
    render_page,
    to_url,
    to_utf8,
)
from fasttile.viewers.preview import add_preview_of

if TYPE_CHECKING:
    from typing import Unpack

    from fasttile.collection.descriptor import Collection
    from fasttile.collection.descriptor import Item as Entry
    from fasttile.options.cut import CutKeywords

_ALL_WALLS = (*COMMON_PARTS, "bar.css", "thumbnails.js")
WALL_PARTS = (*_ALL_WALLS, "wall.css", "openseadragon.js", "wall.js")
PLAIN_WALL_PARTS = (*_ALL_WALLS, "plain_wall.css", "plain.js", "plain_wall.js")

BACK_LINK = '<a id="back" href="../../">All images</a>'
"""Of the page of one image of a folder."""

HTML_TYPE = "text/html; charset=utf-8"

OptionalFile = tuple[bytes, str] | None
"""A file's bytes and its media type, or None where there is no such file."""


class ViewerContent(Closing, ABC):
    """A page, and the tiles that it requests. All methods but `close` are thread-safe.

    Attributes:
        title: The title of the page.
        page: The page itself.
        notes: One line each for the user about conversions of the pixels.
    """

    title: str
    page: bytes
    notes: tuple[str, ...] = ()

    def tile(self, level: int, col: int, row: int) -> OptionalFile:
        """A tile of the image."""
        return None

    def item_tile(self, item: int, level: int, col: int, row: int) -> OptionalFile:
        """A tile of one of the images."""
        return None

    def thumbnail(self, level: int, col: int, row: int) -> OptionalFile:
        """A tile of thumbnails."""
        return None

    def preview(self, item: int) -> OptionalFile:
        """A small image of one of the images."""
        return None

    def item_page(self, item: int) -> OptionalFile:
        """The page of one of the images."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Close all open files. No other thread may be reading."""


def open_content(path: object, **keywords: Unpack[CutKeywords]) -> ViewerContent:
    """Open a result, an image or a Deep Zoom collection (.dzc) as content.

    Args:
        path: The result, image or collection, or another source of `open_pyramid`.
        **keywords: Options of an image, as for `open_pyramid`.

    Raises:
        SourceError: The path has none of these.
        OptionError: An option cannot be used, or there are options for a collection.
    """
    from fasttile.ondemand import open_pyramid

    if not isinstance(path, str | os.PathLike):
        return PyramidContent(open_pyramid(path, **keywords))
    suffix = Path(path).suffix.lower()
    if suffix == ".dzc":
        if keywords:
            raise OptionError(f"{os.fspath(path)}: options are for images, leave them out")
        return CollectionContent(path)
    try:
        return PyramidContent(open_pyramid(path, **keywords))
    except SourceError:
        if suffix == ".xml":  # Deep Zoom Composer names a collection so too
            with suppress(SourceError):
                return CollectionContent(path)
        raise


class PyramidContent(ViewerContent):
    """One image: a result in any container, or tiles that are made when they are asked for."""

    def __init__(self, reader: PyramidReader) -> None:
        self._reader = reader
        self.title = to_utf8(reader.name)
        self.notes = reader.notes
        self.page = render_pyramid(reader, self.title, "tile")

    def tile(self, level: int, col: int, row: int) -> OptionalFile:
        data = self._reader.tile(level, col, row)
        return None if data is None else (data, self._reader.media_type)

    def close(self) -> None:
        self._reader.close()


def render_pyramid(reader: PyramidReader, title: str, root: str, *, extra_html: str = "") -> bytes:
    """The page that shows an open pyramid.

    Args:
        reader: The pyramid.
        title: The title of the page.
        root: The address of its tiles, relative to the page.
        extra_html: HTML after the usual elements.
    """
    pyramid, texts = reader.pyramid, reader_texts(reader)
    width, height = pyramid.size
    library_files, parts = VIEWERS["openseadragon"].files()
    naming: dict[str, Any] = {"kind": "served", "root": root, "beside": ""}
    naming["first"] = pyramid.stored_range[0]
    if reader.layout.has_halves:
        naming["scale"] = 2
    page = render_page(
        texts.title or title,
        f"{width:,} × {height:,} pixels",
        {**describe_pyramid(pyramid, reader.metadata), "tiles": naming},
        library_files=library_files,
        parts=(*COMMON_PARTS, *parts),
        texts=texts,
        extra_html=extra_html,
    )
    # The smallest tile of an image takes all of its pixels.
    return add_preview_of(page, reader) if isinstance(reader, ResultReader) else page


def reader_texts(reader: PyramidReader) -> ResultTexts:
    """The texts about an image: those that the record of a result has, or those in its file."""
    from fasttile.jobs.texts import recorded_texts
    from fasttile.ondemand import ImagePyramid

    if isinstance(reader, ImagePyramid):
        return reader.texts
    return recorded_texts(reader.record())


class CollectionContent(ViewerContent):
    """Many images on a wall."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        from fasttile.collection.descriptor import read

        self._collection = found = read(path)
        self.title = to_utf8(found.path.stem)
        self._thumbnails = open_tree(found.tile_folder)
        self._readers: dict[int, ResultReader] = {}
        items = []
        try:
            for entry in found.items:
                reader, layout = open_item_reader(found, entry), None
                if reader is not None:
                    self._readers[entry.id] = reader
                    layout = complete_layout(reader)
                items.append(wall_item(entry, layout, f"item/{entry.id}"))
            sizes = (found.max_level, found.tile_size)
            thumbnails = ThumbnailTiles("thumbnails", *sizes, found.format)
            self.page = render_wall(self.title, thumbnails, items, kind="served")
        except BaseException:
            self.close()
            raise

    def item_tile(self, item: int, level: int, col: int, row: int) -> OptionalFile:
        reader = self._readers.get(item)
        if reader is None:
            return None
        data = reader.tile(level, col, row)
        return None if data is None else (data, reader.media_type)

    def thumbnail(self, level: int, col: int, row: int) -> OptionalFile:
        found = self._collection
        if level > found.max_level:
            return None
        data = self._thumbnails.read(f"{level}/{col}_{row}.{found.format}")
        extension = found.format.lower()
        media_type = tile_media_type(extension)
        return None if data is None else (data, media_type)

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()


def collection_page(
    collection: Collection, *, origin: ScriptOrigin | None = None
) -> dict[str, bytes]:
    """The page that shows a collection, beside its descriptor.

    Args:
        collection: The collection. The descriptors of its images are read too; images whose
            descriptor cannot be read are shown as thumbnails.
        origin: "cdn" if OpenSeadragon comes from there. Default: the copy in the package, or else a
            plain page without it.

    Returns:
        Path, relative to the folder that holds the descriptor, and content.

    Raises:
        OptionError: There are no images.
    """
    items = []
    for entry in collection.items:
        layout, root = None, ""
        reader = open_item_reader(collection, entry)
        if reader is not None:
            with reader:
                if reader.path.suffix.lower() in (".dzi", ".xml"):  # its tiles lie beside it
                    layout = complete_layout(reader)
                    folder = reader.path.parent / reader.layout.root
                    root = os.path.relpath(folder, collection.path.parent).replace(os.sep, "/")
        items.append(wall_item(entry, layout, root))
    thumbnails = ThumbnailTiles(
        collection.tile_folder.name, collection.max_level, collection.tile_size, collection.format
    )
    stem = collection.path.stem
    return {f"{stem}.html": render_wall(stem, thumbnails, items, origin=origin)}


def open_item_reader(collection: Collection, entry: Entry) -> ResultReader | None:
    """The reader of an image's own tiles, or None if it cannot be opened."""
    from fasttile.readers import open_result

    try:
        place = collection.item_descriptor(entry)
        if isinstance(place, Path):
            return open_result(place)
        if isinstance(collection.path, Path):
            return None  # a collection that others made does not make this program ask a store
        return open_result(str(place))
    except SourceError:
        return None


def complete_layout(reader: ResultReader) -> DeepZoom | None:
    """The layout of an image's own tiles if all levels are stored, or None."""
    layout = reader.layout
    if (
        not isinstance(layout, DeepZoom)
        or len(layout.pyramid.stored_range) < layout.pyramid.level_count
    ):
        return None
    return layout


def wall_item(entry: Entry, layout: DeepZoom | None, root: str) -> WallItem:
    """A collection's image; with its own tiles if they have the same size."""
    if layout is not None and layout.pyramid.size != (entry.width, entry.height):
        layout = None
    name = Path(entry.source.replace("\\", "/")).stem or f"Image {entry.id}"
    title = unquote(name)
    return WallItem(entry.n, title, entry.width, entry.height, layout, root)


@dataclass(frozen=True)
class WallItem:
    """An image on the wall.

    Args:
        number: Its thumbnail's place in the collection, a Morton number.
        title: Its title.
        width, height: Size in pixels.
        layout: How its own tiles are laid out; None if they are not available.
        root: Their folder, relative to the page.
    """

    number: int
    title: str
    width: int
    height: int
    layout: DeepZoom | None = None
    root: str = ""


@dataclass(frozen=True)
class ThumbnailTiles:
    """The tiles of thumbnails that all images share.

    Args:
        root: Their folder, relative to the page.
        max_level: The largest level: its thumbnails are at most 2^max_level pixels a side.
        tile_size: Side of a tile, in pixels.
        extension: The tiles' file ending.
    """

    root: str
    max_level: int
    tile_size: int
    extension: str


def render_wall(
    title: str,
    thumbnails: ThumbnailTiles,
    items: Sequence[WallItem],
    *,
    origin: ScriptOrigin | None = None,
    kind: str = "dzi",
) -> bytes:
    """The page that shows a collection, by OpenSeadragon or plainly.

    Args:
        title: The collection's title.
        thumbnails: The tiles that all images share.
        items: The images, in order.
        origin: "cdn" if OpenSeadragon comes from there. Default: the copy in the package, or else a
            plain page without it.
        kind: The names of the images' own tiles: "dzi", or "served" by `fasttile view`.

    Raises:
        OptionError: There are no images.
    """
    items = [item for item in items if item.width > 0 and item.height > 0]
    if not items:
        raise OptionError(f"collection {title!r} has no images to show")
    described_items = []
    for item in items:
        described_item: dict[str, Any] = {
            "n": item.number,
            "title": to_utf8(item.title),
            "width": item.width,
            "height": item.height,
        }
        if item.layout is not None:
            pyramid = item.layout.pyramid
            described_item |= {
                "root": to_url(item.root),
                "tileSize": pyramid.tile_size,
                "overlap": pyramid.overlap,
                "extension": item.layout.extension,
            }
        described_items.append(described_item)
    described = {
        "root": to_url(thumbnails.root),
        "maxLevel": thumbnails.max_level,
        "tileSize": thumbnails.tile_size,
        "extension": thumbnails.extension,
        "kind": kind,
        "items": described_items,
    }
    count = len(items)
    library_files, _ = VIEWERS["openseadragon"].files(origin)
    return render_page(
        to_utf8(title),
        f"{count:,} image" + ("" if count == 1 else "s"),
        described,
        library_files=library_files,
        parts=WALL_PARTS if library_files else PLAIN_WALL_PARTS,
        extra_html='<nav id="labels" aria-label="Images"></nav>',
        origin=origin,
    )
