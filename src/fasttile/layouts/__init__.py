"""Registry of layouts: a name, and after a colon parameters, make a layout."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import Any

from fasttile.abc.layout import Layout
from fasttile.errors import SourceError
from fasttile.options import parse_parameters, unknown_value_error

LAYOUTS = {
    "dzi": "deepzoom.DeepZoom",
    "zoomify": "zoomify.Zoomify",
    "xyz": "xyz.Xyz",
    "tms": "tms.Tms",
    "tilecache": "xyz.TileCache",
    "gsiv": "xyz.Gsiv",
    "iiif2": "iiif.Iiif2",
    "iiif3": "iiif.Iiif3",
    "tiff": "tiff.Tiff",
}
"""Module and class of each layout, by name. `layout_class` imports the module on first use."""

RECORD_NAME = ".fasttile.json"
"""The file below a layout's root that says how the result was made, see `jobs.record`.

It is hidden: programs list the levels of Deep Zoom and take each name for a number.
"""

RECORD_MEMBER = "fasttile_record"
"""The same in the metadata of PMTiles and MBTiles."""


_HINTS = {
    **dict.fromkeys(("iiif", "iiif1", "iiif-image"), "iiif3 and iiif2 are versions of IIIF"),
    **dict.fromkeys(
        ("google", "googlemaps", "osm", "slippy", "mapbox", "leaflet", "openlayers", "web"),
        "xyz has the addresses of web maps",
    ),
    "openseadragon": "dzi is the layout for it; --viewer openseadragon adds a page",
    **dict.fromkeys(("dz", "deepzoom", "deep-zoom", "seadragon", "dzc"), "Deep Zoom is dzi"),
    **dict.fromkeys(("tif", "cog", "geotiff", "bigtiff"), "pyramidal TIFF is tiff"),
    **{name: f"it is a container: -o NAME.{name}" for name in ("szi", "zip", "pmtiles", "mbtiles")},
}
"""Advice for names that other programs use."""


def layout_class(name: str) -> type[Layout]:
    """The class of the layout with this name.

    Raises:
        OptionError: There is no such layout.
    """
    if name not in LAYOUTS:
        raise unknown_value_error("layout", name, LAYOUTS, _HINTS)
    module, _, class_name = LAYOUTS[name].partition(".")
    layout_type: type[Layout] = getattr(import_module(f".{module}", __package__), class_name)
    return layout_type


@dataclass(frozen=True)
class LayoutSpec:
    """A layout without an image: its class and parameters.

    Example:
        >>> spec = LayoutSpec.parse("zoomify:rounding=ceil")
        >>> spec.bind("map", 513, 256, "jpg").pyramid.tile_count
        6
    """

    layout_type: type[Layout]
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The layout's name in options: "dzi", "xyz", …"""
        return self.layout_type.type_name

    @classmethod
    def parse(cls, text: str) -> LayoutSpec:
        """The layout of an option's text: "dzi", "zoomify:rounding=ceil", "iiif3:id=URL" …

        Raises:
            OptionError: There is no such layout, or it has no such parameter.
        """
        name, _, parameters = text.partition(":")
        layout_type = layout_class(name)
        return cls(layout_type, parse_parameters(name, parameters, _parameter_types(layout_type)))

    def bind(self, name: str, width: int, height: int, extension: str, **options: Any) -> Layout:
        """The layout of an image, see `Layout.from_size`."""
        return self.layout_type.from_size(
            name, width, height, extension, **options, **self.parameters
        )


def parse_tiles_json(name: str, text: str) -> Layout:
    """The layout that a `tiles.json` of fasttile describes.

    Raises:
        SourceError: The text describes none.
    """
    from fasttile.layouts import tilejson
    from fasttile.layouts.xyz import ZoomLayout

    label = f"{tilejson.FILE_NAME} of {name}"
    member, pyramid, extension = tilejson.parse(text, label)
    try:
        layout_type = layout_class(str(member["layout"]))
        if not issubclass(layout_type, ZoomLayout):
            raise ValueError(f"layout {layout_type.type_name!r} has a descriptor of its own")
        parameters = {k: member[k] for k in _parameter_types(layout_type) if k in member}
        return layout_type(name, pyramid, extension, **parameters)
    except (KeyError, TypeError, ValueError) as error:
        fault = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise SourceError(f"{label} cannot be used: {fault}") from error


def _parameter_types(layout_type: type[Layout]) -> dict[str, str]:
    """Name and type, as source text, of each parameter of a layout."""
    return {own.name: str(own.type) for own in fields(layout_type)[len(fields(Layout)) :]}
