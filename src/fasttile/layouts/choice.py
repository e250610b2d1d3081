"""Which layout a user wishes for: a kind, and after a colon its parameters."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import Any

from ..errors import OptionError, SourceError
from ..spelling import parse_parameters
from .base import Layout

LAYOUTS = {
    "dzi": "deepzoom.DeepZoom",
    "zoomify": "zoomify.Zoomify",
    "xyz": "xyz.Xyz",
    "tms": "tms.Tms",
    "tilecache": "tilecache.TileCache",
    "gsiv": "gsiv.Gsiv",
    "iiif2": "iiif.Iiif2",
    "iiif3": "iiif.Iiif3",
    "tiff": "tiff.Tiff",
}
"""Where each kind is at home. Only the one that is wished for is imported: start-up counts."""


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
class LayoutChoice:
    """A kind of layout, and its parameters.

    Example:
        >>> choice = LayoutChoice.parse("zoomify:rounding=ceil")
        >>> choice.of("map", 513, 256, "jpg").pyramid.tile_count
        6
    """

    kind: type[Layout]
    parameters: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> LayoutChoice:
        """The choice that a text spells: "dzi", "zoomify:rounding=ceil", "iiif3:id=URL" …

        Raises:
            OptionError: There is no such layout, or it has no such parameter.
        """
        name, _, words = text.partition(":")
        kind = layout_class(name)
        known = {found.name: str(found.type) for found in fields(kind)[len(fields(Layout)) :]}
        return cls(kind, parse_parameters(name, words, known))

    def of(self, name: str, width: int, height: int, extension: str, **wishes: Any) -> Layout:
        """The layout of a picture, see `Layout.of`."""
        return self.kind.of(name, width, height, extension, **wishes, **self.parameters)


def announced(name: str, text: str) -> Layout:
    """The layout that a `tiles.json` of ours announces.

    Raises:
        SourceError: It announces none.
    """
    from . import tilesjson
    from .square import Square

    place = f"{tilesjson.FILE_NAME} of {name}"
    own, pyramid, extension = tilesjson.parse(text, place)
    try:
        kind = layout_class(str(own["layout"]))
        if not issubclass(kind, Square):
            raise ValueError(f"layout {kind.kind!r} has a descriptor of its own")
        known = [found.name for found in fields(kind)[len(fields(Layout)) :]]
        return kind(name, pyramid, extension, **{key: own[key] for key in known if key in own})
    except (KeyError, TypeError, ValueError) as error:
        fault = f"it says nothing of {error}" if isinstance(error, KeyError) else str(error)
        raise SourceError(f"{place} cannot be used: {fault}") from error
