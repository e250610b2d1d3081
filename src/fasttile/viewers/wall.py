"""A page that shows many pictures at once: the wall of a Deep Zoom collection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import OptionError
from ..layouts.deepzoom import DeepZoom
from . import SHELL
from .describe import encoded, shown
from .html import write
from .scripts import From

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
