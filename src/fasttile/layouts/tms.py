"""TMS: `z/x/y.ext`, rows from the bottom, and `tilemapresource.xml`; without a projection.

Source: OSGeo's Tile Map Service Specification 1.0, profile "raster", as gdal2tiles writes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from html import escape
from typing import Self

from fasttile.abc.layout import match_numbers
from fasttile.errors import SourceError
from fasttile.formats.documents import parse_xml
from fasttile.geometry import Region, Tile
from fasttile.layouts import tilejson
from fasttile.layouts.xyz import ZoomLayout
from fasttile.storage.paths import encode_name, tile_media_type

TMS_DESCRIPTOR = "tilemapresource.xml"
_TILE_PATH = re.compile(r"([0-9]{1,2})/([0-9]{1,13})/([0-9]{1,13})\.")
MAX_ZOOM = 40


@dataclass(frozen=True)
class Tms(ZoomLayout):
    """The paths and descriptor of TMS tiles. The image is at the bottom left of the square.

    Tiles that were made for another place in the square have that in their descriptor's Origin.

    Example:
        >>> layout = Tms.from_size("map", 1000, 600, "jpg")
        >>> layout.path(Tile(level=10, col=3, row=2))
        'map/2/3/0.jpg'
    """

    type_name = "tms"
    title = "TMS"
    anchor = "bottom left"

    @classmethod
    def parse(cls, name: str, text: str) -> Self:
        """The layout of a descriptor.

        Raises:
            SourceError: The text is no descriptor of an image without a projection.
        """
        try:
            tile_map = parse_xml(text)
            box, form = tile_map.find("BoundingBox"), tile_map.find("TileFormat")
            if tile_map.tag != "TileMap" or box is None or form is None:
                raise SourceError(f"{TMS_DESCRIPTOR} of {name} is not the descriptor of a tile map")
            sets = tile_map.find("TileSets")
            profile = "none" if sets is None else sets.attrib.get("profile", "none")
            if sets is None or profile != "raster":
                raise SourceError(
                    f"{TMS_DESCRIPTOR} of {name} has the profile {profile}: only raster, an image "
                    "without a projection, can be read"
                )
            west, south, east, north = (
                float(box.attrib[side]) for side in ("minx", "miny", "maxx", "maxy")
            )
            # The units of an image with a projection are not its pixels.
            units = {int(s.attrib["order"]): float(s.attrib["units-per-pixel"]) for s in sets}
            width, height = (
                round(side / units[max(units)]) for side in (east - west, north - south)
            )
            size = int(form.attrib["width"])
            if size < 1:  # no canvas is made of such tiles
                raise ValueError(f"tile size {size} is not at least 1 pixel")
            canvas = cls.make_canvas(width, height, size)
            if (origin := tile_map.find("Origin")) is not None and max(units) <= MAX_ZOOM:
                x, below = (
                    round((side - float(origin.attrib[axis])) / units[max(units)])
                    for side, axis in ((west, "x"), (south, "y"))
                )
                side = size << max(units)
                y = side - below - height
                if (x > 0 or below > 0) and min(x, below, y) >= 0 and x + width <= side:
                    canvas = replace(canvas, width=side, height=side)
                    canvas = replace(canvas, image=Region(x, y, width, height))
            pyramid = tilejson.pyramid_of_zooms(canvas, size, min(units), max(units))
            return cls(name, pyramid, form.attrib["extension"])
        except KeyError as error:
            raise SourceError(f"{TMS_DESCRIPTOR} of {name} has no {error}") from error
        except (ValueError, ArithmeticError) as error:
            raise SourceError(f"{TMS_DESCRIPTOR} of {name} cannot be read: {error}") from error

    def paths(self, tile: Tile) -> tuple[str, ...]:
        """The path of a tile."""
        zoom, col, row = self.address_from_bottom(tile)
        return (f"{self.root}/{zoom}/{col}/{row}.{self.extension}",)

    def _parse_tile_path(self, name: str) -> Tile | None:
        numbers = match_numbers(_TILE_PATH, name)
        return None if numbers is None else self.tile_at_bottom_address(*numbers)

    def descriptors(self) -> dict[str, bytes]:
        """`tilemapresource.xml`: units are pixels of the full size, y upwards from the top."""
        pyramid = self.pyramid
        width, height = pyramid.size
        unit, side = (
            1 << pyramid.downscale_exponent(pyramid.stored_range[-1]),
            pyramid.canvas.height,
        )
        placement = pyramid.canvas.placement
        left, below = Fraction(placement.x, unit), Fraction(side - placement.bottom, unit)
        if not pyramid.canvas.padded:
            left = below = Fraction(0)
        mime = tile_media_type(self.extension)
        texts, attribution = self.texts, ""
        if texts.credit:
            attribution = f"  <Attribution><Title>{escape(texts.credit)}</Title></Attribution>\n"
        sets = "".join(
            f'    <TileSet href="{level - self.base_level}" '
            f'units-per-pixel="{1 << (pyramid.stored_range[-1] - level)}" '
            f'order="{level - self.base_level}"/>\n'
            for level in pyramid.stored_range
        )
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<TileMap version="1.0.0" tilemapservice="http://tms.osgeo.org/1.0.0">\n'
            f"  <Title>{escape(texts.title or encode_name(self.name))}</Title>\n"
            f"  <Abstract>{escape(texts.description)}</Abstract>\n{attribution}"
            "  <SRS></SRS>\n"
            f'  <BoundingBox minx="0" miny="{-height}" maxx="{width}" maxy="0"/>\n'
            f'  <Origin x="{_decimal(-left)}" y="{_decimal(-height - below)}"/>\n'
            f'  <TileFormat width="{pyramid.tile_size}" height="{pyramid.tile_size}" '
            f'mime-type="{escape(mime)}" extension="{escape(self.extension)}"/>\n'
            '  <TileSets profile="raster">\n'
            f"{sets}"
            "  </TileSets>\n"
            "</TileMap>\n"
        )
        return {f"{self.root}/{TMS_DESCRIPTOR}": text.encode()}


def _decimal(value: Fraction) -> str:
    return str(value.numerator if value.denominator == 1 else float(value))
