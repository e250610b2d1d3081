"""What a page says of an image: its geometry in numbers, and how its tiles are named."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fasttile.abc.layout import Layout
from fasttile.geometry import Pyramid, Tile
from fasttile.layouts.xyz import Xyz

PAGE_LAYOUTS = ("dzi", "zoomify", "xyz", "tms", "tilecache", "gsiv", "iiif2", "iiif3")
"""The layouts whose tiles a page can find; parts/tiles.js names them."""


def describe_geometry(pyramid: Pyramid) -> dict[str, Any]:
    """A pyramid's numbers, as parts/tiles.js takes them.

    Levels are the kept ones, the smallest first: columns and rows of tiles, which tile of the
    canvas the first one is, and width and height in pixels. All else is in pixels of the largest
    level that is kept.
    """
    times = pyramid.downscale_exponent(pyramid.stored_range[-1])
    width, height = pyramid.size
    canvas: list[int] = [width, height]
    place: list[float] = [0, 0, width, height]
    if pyramid.canvas.padded:
        canvas = list(pyramid.canvas.halved_size(times))
        place = [_downscaled_side(side, times) for side in pyramid.canvas.placement]
    return {
        "width": width,
        "height": height,
        "canvas": canvas,
        "place": place,
        "tileSize": pyramid.tile_size,
        "overlap": pyramid.overlap,
        "levels": [
            [
                *(level.cols, level.rows, level.first_col, level.first_row),
                *(level.width, level.height),
            ]
            for level in pyramid.stored_levels
        ],
    }


def describe_tiles(layout: Layout, blank_colour: str | None = None) -> dict[str, Any]:
    """How a layout's tiles are named, in words that stand in a URL as they are.

    Args:
        layout: One of the kinds that are `SHOWN`.
        blank: The colour, as in CSS, of tiles that were left out.
    """
    said: dict[str, Any] = {
        "kind": layout.type_name,
        "root": to_url(layout.root),
        "beside": to_utf8(layout.root),
        "extension": layout.extension,
        "first": layout.pyramid.stored_range[0] - layout.base_level,
    }
    if isinstance(layout, Xyz):
        said["template"] = quote(layout.template, safe="/{}")
    if blank_colour is not None:
        said["blank"] = blank_colour
    return said


def preview_url(layout: Layout) -> str | None:
    """The URL of the largest tile that is a level by itself, if there is one."""
    single = [level.number for level in layout.pyramid.stored_levels if level.tile_count == 1]
    return to_url(layout.path(Tile(single[-1], 0, 0))) if single else None


def to_url(path: str) -> str:
    """A path, relative to the page, as a URL; also if it is none of UTF-8."""
    return quote(path.encode("utf-8", "surrogateescape"), safe="/,")


def to_utf8(text: str) -> str:
    """A text that can be encoded as UTF-8, from any file name."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _downscaled_side(side: int, times: int) -> float:
    """A length on a smaller level, which may lie within a pixel."""
    unit: int = 1 << times
    return side // unit if side % unit == 0 else side / unit
