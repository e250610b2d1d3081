"""Description of an image for a page: its geometry and the names of its tiles."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fasttile.abc.layout import Layout
from fasttile.geometry import Pyramid, Tile
from fasttile.layouts.xyz import Xyz

PAGE_LAYOUTS = ("dzi", "zoomify", "xyz", "tms", "tilecache", "gsiv", "iiif2", "iiif3")
"""The layouts that a page can show; parts/tiles.js makes their paths."""


def describe_geometry(pyramid: Pyramid) -> dict[str, Any]:
    """A pyramid's numbers for parts/tiles.js.

    `levels` has the stored ones, the smallest first: columns and rows of tiles, column and row of
    the first tile on the canvas, and width and height in pixels. All else is in pixels of the
    largest stored level.
    """
    times = pyramid.downscale_exponent(pyramid.stored_range[-1])
    width, height = pyramid.size
    canvas: list[int] = [width, height]
    place: list[float] = [0, 0, width, height]
    if pyramid.canvas.padded:
        canvas = list(pyramid.canvas.halved_size(times))
        unit: int = 1 << times  # the image may begin and end within a pixel of a smaller level
        place = [side / unit if side % unit else side // unit for side in pyramid.canvas.placement]
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
    """The names of a layout's tiles, escaped for URLs.

    Args:
        layout: One of PAGE_LAYOUTS.
        blank_colour: The colour, as in CSS, of tiles that were left out.
    """
    described: dict[str, Any] = {
        "kind": layout.type_name,
        "root": to_url(layout.root),
        "beside": to_utf8(layout.root),
        "extension": layout.extension,
        "first": layout.pyramid.stored_range[0] - layout.base_level,
    }
    if isinstance(layout, Xyz):
        described["template"] = quote(layout.template, safe="/{}")
    if blank_colour is not None:
        described["blank"] = blank_colour
    return described


def preview_url(layout: Layout) -> str | None:
    """The URL of the largest tile that is a level by itself, if there is one."""
    single = [level.number for level in layout.pyramid.stored_levels if level.tile_count == 1]
    return to_url(layout.path(Tile(single[-1], 0, 0))) if single else None


def to_url(path: str) -> str:
    """A path, relative to the page, as a URL; it need not be UTF-8."""
    return quote(path.encode("utf-8", "surrogateescape"), safe="/,")


def to_utf8(text: str) -> str:
    """A text that can be encoded as UTF-8, from any file name."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
