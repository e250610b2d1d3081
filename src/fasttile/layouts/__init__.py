"""Layouts by name: `name:key=value` becomes a layout class and its parameters."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import Any

from fasttile.abc.layout import Layout
from fasttile.errors import OptionError, SourceError
from fasttile.options.parameters import parse_parameters

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
"""Module and class of each layout. Only the requested one is imported, to start quickly."""


def layout_class(kind: str) -> type[Layout]:
    """The class of a kind of layout.

    Raises:
        OptionError: There is no such layout.
    """
    if kind not in LAYOUTS:
        raise OptionError(f"layout {kind!r} is none of {', '.join(LAYOUTS)}")
    module, _, name = LAYOUTS[kind].partition(".")
    found: type[Layout] = getattr(import_module(f".{module}", __package__), name)
    return found


@dataclass(frozen=True)
class LayoutSpec:
    """A kind of layout, and its parameters.

    Example:
        >>> choice = LayoutSpec.parse("zoomify:rounding=ceil")
        >>> choice.bind("map", 513, 256, "jpg").pyramid.tile_count
        6
    """

    layout_type: type[Layout]
    parameters: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> LayoutSpec:
        """The choice that a text spells: "dzi", "zoomify:rounding=ceil", "iiif3:id=URL" …

        Raises:
            OptionError: There is no such layout, or it has no such parameter.
        """
        name, _, words = text.partition(":")
        kind = layout_class(name)
        known = {found.name: str(found.type) for found in fields(kind)[len(fields(Layout)) :]}
        return cls(kind, parse_parameters(name, words, known))

    def bind(self, name: str, width: int, height: int, extension: str, **options: Any) -> Layout:
        """The layout of an image, see `Layout.of`."""
        return self.layout_type.from_size(
            name, width, height, extension, **options, **self.parameters
        )


def parse_tiles_json(name: str, text: str) -> Layout:
    """The layout that a `tiles.json` of fasttile describes.

    Raises:
        SourceError: It announces none.
    """
    from fasttile.layouts import tilejson as tilesjson
    from fasttile.layouts.xyz import ZoomLayout

    place = f"{tilesjson.FILE_NAME} of {name}"
    own, pyramid, extension = tilesjson.parse(text, place)
    try:
        kind = layout_class(str(own["layout"]))
        if not issubclass(kind, ZoomLayout):
            raise ValueError(f"layout {kind.type_name!r} has a descriptor of its own")
        known = [found.name for found in fields(kind)[len(fields(Layout)) :]]
        return kind(name, pyramid, extension, **{key: own[key] for key in known if key in own})
    except (KeyError, TypeError, ValueError) as error:
        fault = f"it says nothing of {error}" if isinstance(error, KeyError) else str(error)
        raise SourceError(f"{place} cannot be used: {fault}") from error
