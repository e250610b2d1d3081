"""Georeferenced images as map tiles: their place on the map, and a note if they have none.

A GeoTIFF in Web Mercator whose pixels are those of a zoom is put at its own place on the square of
the world: zoom, column and row of its XYZ tiles are those of every web map. Others would have to be
resampled, which fasttile does not do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fasttile.geometry import Canvas, Region

if TYPE_CHECKING:
    from fasttile.abc.layout import Layout
    from fasttile.abc.source import Source
    from fasttile.formats.geotiff import GeoReference
    from fasttile.layouts import LayoutSpec

_MAP_LAYOUTS = ("xyz", "tms")


def map_canvas(spec: LayoutSpec, source: Source, tile_size: int | None) -> Canvas | None:
    """The square of Web Mercator with the image at its place; None if it is no map.

    Args:
        spec: The layout and its parameters: XYZ, and not centred.
        source: The open image.
        tile_size: Side of a tile in pixels. Default: that of the layout.
    """
    georeference = source.metadata.georeference
    if georeference is None or spec.name != "xyz" or spec.parameters.get("centre"):
        return None
    place = georeference.mercator_place(source.width, source.height)
    size = spec.layout_type.default_tile_size if tile_size is None else tile_size
    size *= spec.parameters.get("scale", 1)
    if place is None or size < 2 or place.side % size or size & (size - 1):
        return None
    image = Region(place.x, place.y, source.width, source.height)
    return Canvas(place.side, place.side, image)


def map_notes(
    layout: Layout, georeference: GeoReference | None, size: tuple[int, int]
) -> Iterator[str]:
    """One line for the user on a georeferenced image that becomes tiles of a map, or does not.

    Args:
        layout: The layout of the tiles.
        georeference: That of the image.
        size: Width and height of the image in pixels.
    """
    if georeference is None or not georeference.has_place or layout.type_name not in _MAP_LAYOUTS:
        return
    place = georeference.mercator_place(*size)
    kept, canvas = layout.pyramid.stored_range, layout.pyramid.canvas
    if place is not None and (*canvas.placement[:2], canvas.width) == place:
        first, last = kept[0] - layout.base_level, kept[-1] - layout.base_level
        yield f"the tiles are a map: zooms {first} to {last} of Web Mercator"
        return
    reason = f"the image is in EPSG:{georeference.epsg}" if georeference.epsg else ""
    if place is not None:
        reason = "these options do not put the image at its place"
    elif georeference.epsg == 3857:
        reason = "its pixels are not those of a zoom of Web Mercator"
    yield (
        f"the tiles are not a map: {reason or 'the image is in another coordinate system'}; "
        "gdalwarp -of COG -co TILING_SCHEME=GoogleMapsCompatible makes an image that becomes one"
    )
