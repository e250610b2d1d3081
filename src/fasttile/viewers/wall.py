"""A page that shows many pictures at once: the wall of a Deep Zoom collection."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..errors import OptionError, SourceError
from ..layouts.deepzoom import DeepZoom
from . import SHELL
from .describe import encoded, shown
from .html import write
from .scripts import From

if TYPE_CHECKING:
    from ..collection.descriptor import Collection
    from ..collection.descriptor import Item as Entry
    from ..readers.base import PyramidReader

PARTS = (*SHELL, "wall.css", "openseadragon.js", "wall.js")


@dataclass(frozen=True)
class Item:
    """A picture on the wall.

    Args:
        number: Where its thumbnail stands among the collection's, a Morton number.
        title: What it is called.
        width, height: Size in pixels.
        layout: How its own tiles are laid out; None if they cannot be had.
        root: Where their folder is, relative to the page.
    """

    number: int
    title: str
    width: int
    height: int
    layout: DeepZoom | None = None
    root: str = ""


@dataclass(frozen=True)
class Thumbnails:
    """The tiles of thumbnails that all pictures share.

    Args:
        root: Where their folder is, relative to the page.
        max_level: The largest level: its thumbnails are at most 2^max_level pixels a side.
        tile_size: Side of a tile, in pixels.
        extension: The tiles' file ending.
    """

    root: str
    max_level: int
    tile_size: int
    extension: str


def collection_page(collection: Collection, *, origin: From | None = None) -> dict[str, bytes]:
    """The page that shows a collection, to lie beside its descriptor.

    Args:
        collection: As it was read. The descriptors of its pictures are read too; of those that
            cannot be, the thumbnails are shown.
        origin: Where OpenSeadragon comes from. None is the copy beside us, or else the CDN.

    Returns:
        Path, relative to the folder that holds the descriptor, and content.

    Raises:
        OptionError: There are no pictures.
    """
    items = []
    for entry in collection.items:
        layout, root = None, ""
        reader = reader_of(collection, entry)
        if reader is not None:
            with reader:
                if reader.path.suffix.lower() in (".dzi", ".xml"):  # its tiles lie beside it
                    layout = whole_layout(reader)
                    folder = reader.path.parent / reader.layout.root
                    root = os.path.relpath(folder, collection.path.parent).replace(os.sep, "/")
        items.append(item_of(entry, layout, root))
    thumbnails = Thumbnails(
        collection.files.name, collection.max_level, collection.tile_size, collection.format
    )
    stem = collection.path.stem
    return {f"{stem}.html": wall(stem, thumbnails, items, origin=origin)}


def reader_of(collection: Collection, entry: Entry) -> PyramidReader | None:
    """What reads a picture's own tiles, if it can be opened."""
    from ..readers import open_pyramid

    try:
        return open_pyramid(collection.picture(entry))
    except SourceError:
        return None


def whole_layout(reader: PyramidReader) -> DeepZoom | None:
    """The layout of a picture's own tiles, if pages can make it up from four numbers."""
    layout = reader.layout
    if not isinstance(layout, DeepZoom) or len(layout.pyramid.kept) < layout.pyramid.level_count:
        return None
    return layout


def item_of(entry: Entry, layout: DeepZoom | None, root: str) -> Item:
    """A collection's picture, to be hung; with its own tiles, if they are of the same size."""
    if layout is not None and layout.pyramid.size != (entry.width, entry.height):
        layout = None
    name = Path(entry.source.replace("\\", "/")).stem or f"Picture {entry.id}"
    title = unquote(name)
    return Item(entry.n, title, entry.width, entry.height, layout, root)


def wall(
    title: str,
    thumbnails: Thumbnails,
    items: Sequence[Item],
    *,
    origin: From | None = None,
    kind: str = "dzi",
) -> bytes:
    """The page that shows a collection, by OpenSeadragon.

    Args:
        title: What the collection is called.
        thumbnails: The tiles that all pictures share.
        items: The pictures, in the order in which they hang.
        origin: Where OpenSeadragon comes from. None is the copy beside us, or else the CDN.
        kind: How the pictures' own tiles are named: "dzi", or "served" by `fasttile view`.

    Raises:
        OptionError: There are no pictures.
    """
    items = [item for item in items if item.width > 0 and item.height > 0]
    if not items:
        raise OptionError(f"collection {title!r} has no pictures to show")
    described = {
        "root": encoded(thumbnails.root),
        "maxLevel": thumbnails.max_level,
        "tileSize": thumbnails.tile_size,
        "extension": thumbnails.extension,
        "kind": kind,
        "items": [_described(item) for item in items],
    }
    count = len(items)
    return write(
        shown(title),
        f"{count:,} picture" + ("" if count == 1 else "s"),
        described,
        library=("openseadragon.js",),
        parts=PARTS,
        more='<nav id="labels" aria-label="Pictures"></nav>',
        origin=origin,
    )


def _described(item: Item) -> dict[str, Any]:
    said: dict[str, Any] = {
        "n": item.number,
        "title": shown(item.title),
        "width": item.width,
        "height": item.height,
    }
    if item.layout is not None:
        pyramid = item.layout.pyramid
        said |= {
            "root": encoded(item.root),
            "tileSize": pyramid.tile_size,
            "overlap": pyramid.overlap,
            "extension": item.layout.extension,
        }
    return said
