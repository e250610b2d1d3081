"""A page that shows many images at once: the wall of a Deep Zoom collection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fasttile.errors import OptionError
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.viewers import COMMON_PARTS, ScriptOrigin, render_page
from fasttile.viewers.describe import to_url, to_utf8

WALL_PARTS = (*COMMON_PARTS, "wall.css", "openseadragon.js", "wall.js")


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
    """The page that shows a collection, by OpenSeadragon.

    Args:
        title: The collection's title.
        thumbnails: The tiles that all images share.
        items: The images, in order.
        origin: The origin of OpenSeadragon. Default: the copy in the package, or else the CDN.
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
    return render_page(
        to_utf8(title),
        f"{count:,} image" + ("" if count == 1 else "s"),
        described,
        library_files=("openseadragon.js",),
        parts=WALL_PARTS,
        extra_html='<nav id="labels" aria-label="Images"></nav>',
        origin=origin,
    )
