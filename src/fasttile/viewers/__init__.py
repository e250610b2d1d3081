"""Pages that show a result in a browser: one file each, which opens from the disk too."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import OptionError
from ..layouts.base import Layout
from ..spelling import parse_parameters
from .describe import SHOWN, encoded, geometry, naming, shown, still
from .html import write
from .scripts import From

__all__ = ["VIEWERS", "Viewer", "page", "page_name"]


@dataclass(frozen=True)
class Viewer:
    """A JavaScript viewer.

    Attributes:
        title: What it calls itself.
        library: Its own files, by their names in scripts.json.
        parts: Ours that use it.
    """

    title: str
    library: tuple[str, ...]
    parts: tuple[str, ...]


SHELL = ("page.css", "tiles.js", "shell.js")
"""What of ours all pages begin with."""

VIEWERS = {
    "openseadragon": Viewer(
        "OpenSeadragon", ("openseadragon.js",), ("openseadragon.js", "picture.js")
    ),
    "openlayers": Viewer("OpenLayers", ("ol.js",), ("openlayers.js",)),
    "leaflet": Viewer("Leaflet", ("leaflet.css", "leaflet.js"), ("leaflet.css", "leaflet.js")),
}


def page(
    layout: Layout,
    viewer: str,
    *,
    title: str | None = None,
    blank: str | None = None,
    pmtiles: bool = False,
) -> dict[str, bytes]:
    """The page that shows a result.

    It is one file: the viewer's script stands in it, if this fasttile carries a copy, or else
    comes from a CDN, pinned by its hash. Opened from the disk, it shows the picture without a
    server.

    Args:
        layout: Whose tiles it shows. They lie beside the page.
        viewer: "openseadragon", "openlayers" or "leaflet"; with ":cdn" its script comes from the
            CDN in any case.
        title: What the picture is called. Default: its name.
        blank: The colour, as in CSS, of tiles that were left out for they show nothing.
        pmtiles: Whether the tiles lie in `<name>.pmtiles`. Browsers read pieces of a file from a
            server only, one that answers range requests; opened from the disk, the page asks for
            the file.

    Returns:
        Path, relative to the folder that holds the result, and content.

    Raises:
        OptionError: There is no such viewer, or it cannot show the layout.
    """
    chosen, origin = _parse(viewer)
    if layout.kind not in (("xyz",) if pmtiles else SHOWN):
        raise OptionError(
            f"no page shows a {layout.title}: fasttile view does, in the browser; pages by "
            f"{', '.join(VIEWERS)} go with {', '.join(SHOWN)}"
        )
    width, height = layout.pyramid.size
    tiles = naming(layout, blank)
    if pmtiles:
        file = f"{layout.name}.pmtiles"
        tiles |= {"kind": "pmtiles", "root": encoded(file), "beside": shown(file)}
    text = write(
        shown(layout.name) if title is None else title,
        f"{width:,} × {height:,} pixels",
        {**geometry(layout.pyramid), "tiles": tiles},
        library=chosen.library,
        parts=(*SHELL, *(("pmtiles.js",) if pmtiles else ()), *chosen.parts),
        still=None if pmtiles else still(layout),
        origin=origin,
    )
    return {page_name(layout): text}


def page_name(layout: Layout) -> str:
    """What the page of a result is called."""
    return f"{layout.name}.html"


def _parse(text: str) -> tuple[Viewer, From | None]:
    name, _, words = text.partition(":")
    if name not in VIEWERS:
        raise OptionError(f"viewer {name!r} is none of {', '.join(VIEWERS)}")
    said = parse_parameters(name, words, {"cdn": "bool"})
    return VIEWERS[name], "cdn" if said.get("cdn") else None
