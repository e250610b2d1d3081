"""`tiles.json`: the descriptor of layouts whose format has none.

It is TileJSON 3.0.0 (Mapbox' specification), which map clients read, with a member `fasttile` for
what TileJSON lacks: the size of the image, its place on the canvas, and the names of the tiles.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

from fasttile.errors import SourceError
from fasttile.formats.documents import encode_json, parse_json
from fasttile.geometry import Canvas, Pyramid, Region
from fasttile.storage.paths import encode_name

if TYPE_CHECKING:
    from fasttile.abc.layout import Layout

FILE_NAME = "tiles.json"


def bounds(pyramid: Pyramid) -> tuple[float, float, float, float]:
    """West, south, east and north of the image in degrees, with the canvas as a world map.

    Map formats describe the part of the square that has tiles in degrees only: the canvas counts
    as the square of Web Mercator, with the formulas of EPSG:3857.
    """
    side, placement = pyramid.canvas.width, pyramid.canvas.placement
    west, east = (360 * x / side - 180 for x in (placement.x, placement.right))
    south, north = (
        math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * y / side))))
        for y in (placement.bottom, placement.y)
    )
    return west, south, east, north


def centre_zoom(layout: Layout) -> int:
    """The zoom that a map begins with: the largest one where the image is no larger than a tile.

    It is the first one, unless the image is at its place on a map of the world.
    """
    pyramid = layout.pyramid
    number = pyramid.stored_range[0]
    while number + 1 in pyramid.stored_range and (
        max(pyramid.image_size(number + 1)) <= pyramid.tile_size
    ):
        number += 1
    return number - layout.base_level


def text_members(layout: Layout) -> dict[str, str]:
    """Name, description and attribution of a map, as TileJSON, PMTiles and MBTiles have them.

    Map clients take an attribution for HTML, so its markup is escaped; the others are plain texts.
    """
    texts = layout.texts
    members = {"name": texts.title or encode_name(layout.name)}
    if texts.description:
        members["description"] = texts.description
    if texts.credit:
        members["attribution"] = escape(texts.credit, quote=False)
    return members


def fasttile_member(layout: Layout, **extra_members: Any) -> dict[str, Any]:
    """The member `fasttile`.

    Args:
        layout: The tiles' layout.
        **extra_members: Further members of it.
    """
    pyramid = layout.pyramid
    placement = pyramid.canvas.placement
    return {
        "layout": layout.type_name,
        "width": placement.width,
        "height": placement.height,
        "x": placement.x,
        "y": placement.y,
        "canvas": pyramid.canvas.width,
        "tile_size": pyramid.tile_size,
        "format": layout.extension,
        **extra_members,
    }


def descriptor_text(layout: Layout, pattern: str, scheme: str, **extra_members: Any) -> bytes:
    """The content of the file.

    Args:
        layout: The tiles' layout.
        pattern: The tiles' names, relative to the file's folder.
        scheme: TileJSON's name of the order of rows: "xyz" from the top, "tms" from the bottom.
        **extra_members: Further members of `fasttile`.
    """
    pyramid = layout.pyramid
    values = {
        "tilejson": "3.0.0",
        **text_members(layout),
        "scheme": scheme,
        "tiles": [pattern],
        "minzoom": pyramid.stored_range[0] - layout.base_level,
        "maxzoom": pyramid.stored_range[-1] - layout.base_level,
        "bounds": [round(degrees, 7) for degrees in bounds(pyramid)],
        "fasttile": fasttile_member(layout, **extra_members),
    }
    return encode_json(values)


def parse(data: str, descriptor_label: str) -> tuple[dict[str, Any], Pyramid, str]:
    """The member `fasttile` of a file, the pyramid, and the tiles' extension.

    Raises:
        SourceError: fasttile did not write it.
    """
    try:
        values = parse_json(data)
        own = values["fasttile"]
        pyramid = pyramid_from_member(own, int(values["minzoom"]), int(values["maxzoom"]))
        return own, pyramid, str(own["format"])
    except (KeyError, TypeError, ValueError) as error:
        fault = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise SourceError(f"{descriptor_label} is not of fasttile: {fault}") from error


def pyramid_from_member(member: dict[str, Any], min_zoom: int, max_zoom: int) -> Pyramid:
    """The pyramid of a member `fasttile`, from one zoom to another.

    Raises:
        KeyError, TypeError, ValueError: The member describes no pyramid.
    """
    side, size = int(member["canvas"]), int(member["tile_size"]) * int(member.get("scale", 1))
    image = Region(*(int(member[key]) for key in ("x", "y", "width", "height")))
    canvas = Canvas(side, side, image, cover=member.get("cover", "picture"))
    return pyramid_of_zooms(canvas, size, min_zoom, max_zoom)


def pyramid_of_zooms(canvas: Canvas, tile_size: int, min_zoom: int, max_zoom: int) -> Pyramid:
    """The pyramid whose zoom 0 is one tile, from one zoom to another.

    Raises:
        ValueError: The canvas has no such zooms or tiles.
    """
    if tile_size < 1:
        raise ValueError(f"tile size {tile_size} is not at least 1 pixel")
    base = canvas.single_tile_level(tile_size)
    return Pyramid(canvas, tile_size, 0, base + min_zoom, base + max_zoom)
