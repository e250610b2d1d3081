"""Deep Zoom: `name.dzi` and `name_files/level/col_row.ext`, as Seadragon and OpenSeadragon read it.

Source: Microsoft's Deep Zoom file format overview and schema of 2008; see docs/ARCHITECTURE.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fasttile.abc.layout import Layout, match_numbers
from fasttile.errors import OptionError, SourceError
from fasttile.formats.documents import parse_json, parse_xml
from fasttile.geometry import Pyramid, Tile

NAMESPACE = "http://schemas.microsoft.com/deepzoom/2008"
_TILE_PATH = r"([0-9]{1,2})/([0-9]{1,13})_([0-9]{1,13})\."
_JSON_DESCRIPTOR = r"(?s)(?:\s*[\w$.]+\s*\()?\s*(\{.*\})[\s);]*\Z"
KNOWN_NAMESPACES = (NAMESPACE, "http://schemas.microsoft.com/deepzoom/2009")


@dataclass(frozen=True)
class DeepZoom(Layout):
    """The paths and descriptors of a Deep Zoom image.

    Args:
        name: The image's name, without an extension; one path component.
        pyramid: Its geometry. The canvas rounds up and is the image itself.
        extension: The tiles' extension without a dot, ASCII letters and digits; also the
            descriptor's Format.
        json: Write the descriptor as JSON too: `name.json`.
        jsonp: Write it as a script too, `name.js`, which calls `name(…)`.

    Raises:
        OptionError: The format does not allow one of the values.

    Example:
        >>> layout = DeepZoom("map", Pyramid.from_size(1000, 600), "jpg")
        >>> layout.path(Tile(level=10, col=3, row=2))
        'map_files/10/3_2.jpg'
    """

    type_name = "dzi"
    title = "Deep Zoom"
    default_tile_size = 254
    default_overlap = 1
    default_levels = "one-pixel"
    allows_overlap = True
    allows_subtile_levels = True

    json: bool = False
    jsonp: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        canvas = self.pyramid.canvas
        if canvas.rounding != "up":
            raise OptionError(f"Deep Zoom rounds up; the canvas rounds {canvas.rounding}")
        if canvas.padded or canvas.edge != "clip":
            raise OptionError(
                f"Deep Zoom has no padding; the image {tuple(canvas.placement)} is not all of "
                f"the canvas of {canvas.width}×{canvas.height} pixels"
            )
        if self.jsonp and not self.name.isidentifier():
            raise OptionError(
                f"jsonp: {self.name!r} cannot be the name of a function, which the script calls; "
                "use dzi:json, or another name for the result"
            )

    @classmethod
    def parse(cls, name: str, text: str) -> DeepZoom:
        """The layout of a descriptor: XML of 2008 or 2009, JSON, or a script.

        Raises:
            SourceError: The text is no descriptor of a Deep Zoom image.
        """
        try:
            values: dict[str, Any] | None = None
            if found := re.match(_JSON_DESCRIPTOR, text):
                described = parse_json(found[1]).get("Image")
                if described is not None:
                    values = {**described, **described["Size"]}
            else:
                image = parse_xml(text)
                namespace = image.tag.removesuffix("Image")
                size = image.find(f"{namespace}Size")
                if namespace in {f"{{{known}}}" for known in KNOWN_NAMESPACES} and size is not None:
                    values = {**image.attrib, **size.attrib}
            if values is None:
                raise SourceError(f"{name} is not described as a Deep Zoom image")
            pyramid = Pyramid.from_size(
                int(values["Width"]),
                int(values["Height"]),
                tile_size=int(values["TileSize"]),
                overlap=int(values["Overlap"]),
            )
            return cls(name, pyramid, str(values["Format"]))
        except KeyError as error:
            raise SourceError(f"the descriptor of {name} has no {error}") from error
        except (TypeError, ValueError) as error:
            raise SourceError(f"the descriptor of {name} cannot be read: {error}") from error

    @property
    def entry_point(self) -> str:
        """The descriptor, `name.dzi`."""
        return f"{self.name}.dzi"

    @property
    def root(self) -> str:
        """The folder that holds all tiles."""
        return f"{self.name}_files"

    def paths(self, tile: Tile) -> tuple[str, ...]:
        """The path of a tile."""
        return (f"{self.root}/{tile.level}/{tile.col}_{tile.row}.{self.extension}",)

    def _parse_tile_path(self, name: str) -> Tile | None:
        numbers = match_numbers(_TILE_PATH, name)
        return None if numbers is None else Tile(*numbers)

    def descriptors(self) -> dict[str, bytes]:
        """The descriptor, XML in UTF-8; before it JSON and script, if asked for."""
        texts: dict[str, str] = {}
        if self.json:
            texts[f"{self.name}.json"] = self._to_json() + "\n"
        if self.jsonp:
            texts[f"{self.name}.js"] = f"{self.name}({self._to_json()});\n"
        texts[self.entry_point] = self.descriptor_text()
        return {path: text.encode() for path, text in texts.items()}

    def descriptor_text(self) -> str:
        """The text of the descriptor."""
        width, height = self.pyramid.size
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<Image xmlns="{NAMESPACE}" Format="{self.extension}" '
            f'Overlap="{self.pyramid.overlap}" TileSize="{self.pyramid.tile_size}">\n'
            f'  <Size Width="{width}" Height="{height}"/>\n'
            "</Image>\n"
        )

    def _to_json(self) -> str:
        import json  # seldom needed

        # OpenSeadragon takes numbers and strings alike; the scripts of 2009 wrote strings.
        width, height = self.pyramid.size
        image = {
            "xmlns": NAMESPACE,
            "Url": f"{quote(self.root, errors='surrogateescape')}/",
            "Format": self.extension,
            "Overlap": str(self.pyramid.overlap),
            "TileSize": str(self.pyramid.tile_size),
            "Size": {"Width": str(width), "Height": str(height)},
        }
        return json.dumps({"Image": image})
