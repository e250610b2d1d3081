"""`tiles.json`: what announces the tiles where a format has no descriptor of its own.

It is TileJSON 3.0.0 (Mapbox' specification), which map clients read, with a member `fasttile` that
says what TileJSON has no word for: how large the image is, where on the canvas it lies, and how
the tiles are named.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from fasttile.errors import SourceError
from fasttile.geometry import Canvas, Pyramid, Region

if TYPE_CHECKING:
    from fasttile.abc.layout import Layout

FILE_NAME = "tiles.json"


def bounds(pyramid: Pyramid) -> tuple[float, float, float, float]:
    """West, south, east and north of the image in degrees, were the canvas a map of the world.

    Map formats have no other way to say where in the square there is something: the canvas is
    taken for the square of Web Mercator, whose formulas are those of EPSG:3857.
    """
    side, placement = pyramid.canvas.width, pyramid.canvas.placement
    west, east = (360 * x / side - 180 for x in (placement.x, placement.right))
    south, north = (
        math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * y / side))))
        for y in (placement.bottom, placement.y)
    )
    return west, south, east, north


def fasttile_member(layout: Layout, **extra_members: Any) -> dict[str, Any]:
    """What TileJSON has no word for.

    Args:
        layout: Whose tiles are announced.
        **more: What else to say.
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
    """The file's contents.

    Args:
        layout: Whose tiles it announces.
        pattern: How they are named, below the file's own folder.
        scheme: TileJSON's word for how rows are counted: "xyz" from the top, "tms" from below.
        **more: What else to say under `fasttile`.
    """
    pyramid = layout.pyramid
    said = {
        "tilejson": "3.0.0",
        "name": layout.printable_name,
        "scheme": scheme,
        "tiles": [pattern],
        "minzoom": pyramid.stored_range[0] - layout.base_level,
        "maxzoom": pyramid.stored_range[-1] - layout.base_level,
        "bounds": [round(degrees, 7) for degrees in bounds(pyramid)],
        "fasttile": fasttile_member(layout, **extra_members),
    }
    return (json.dumps(said, indent=2, ensure_ascii=False) + "\n").encode()


def parse(data: str, descriptor_label: str) -> tuple[dict[str, Any], Pyramid, str]:
    """What such a file says: the member `fasttile`, the pyramid, and the tiles' ending.

    Raises:
        SourceError: fasttile did not write it.
    """
    try:
        said = json.loads(data)
        own = said["fasttile"]
        pyramid = pyramid_from_member(own, int(said["minzoom"]), int(said["maxzoom"]))
        return own, pyramid, str(own["format"])
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        fault = f"it says nothing of {error}" if isinstance(error, KeyError) else str(error)
        raise SourceError(
            f"{descriptor_label} does not announce tiles as fasttile does: {fault}"
        ) from error


def pyramid_from_member(member: dict[str, Any], min_zoom: int, max_zoom: int) -> Pyramid:
    """The pyramid that the member `fasttile` describes, between two zooms.

    Raises:
        KeyError, TypeError, ValueError: It does not.
    """
    side, size = int(member["canvas"]), int(member["tile_size"])
    image = Region(*(int(member[key]) for key in ("x", "y", "width", "height")))
    canvas = Canvas(side, side, image, cover=member.get("cover", "picture"))
    if size < 1:
        raise ValueError(f"tile size {size} is not at least 1 pixel")
    base = canvas.single_tile_level(size)
    return Pyramid(canvas, size, 0, base + min_zoom, base + max_zoom)
