"""Pages that show a result in a browser, one HTML file each."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal
from urllib.parse import quote

from fasttile.abc.layout import Layout, ResultTexts
from fasttile.abc.source import Metadata
from fasttile.errors import OptionError
from fasttile.geometry import Pyramid, Tile, describe_geometry
from fasttile.layouts.xyz import RETINA_SUFFIX, Xyz
from fasttile.layouts.zoomify import Zoomify
from fasttile.options import parse_parameters, unknown_value_error
from fasttile.options.cut import VIEWER_NAMES

__all__ = ["VIEWERS", "Viewer", "build_page", "check_viewer", "page_name", "page_notes"]


@dataclass(frozen=True)
class Viewer:
    """A JavaScript viewer.

    Attributes:
        title: Its name.
        library_files: Its own files, by their names in scripts.json.
        parts: fasttile's files that use it.
    """

    title: str
    library_files: tuple[str, ...]
    parts: tuple[str, ...]

    @property
    def is_bundled(self) -> bool:
        """True if this fasttile carries the viewer's own files."""
        return all(known_scripts()[name].bundled_text() for name in self.library_files)

    def files(self, origin: ScriptOrigin | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The library's files of a page, and fasttile's parts.

        Args:
            origin: "cdn" if the page loads the library. Default: it is in the page, or else the
                page has none and shows the plain viewer.
        """
        if origin == "cdn" or self.is_bundled:
            return self.library_files, self.parts
        return (), ("plain.js", "plain_picture.js")


NO_TEXTS = ResultTexts()

PAGE_LAYOUTS = ("dzi", "zoomify", "xyz", "tms", "tilecache", "gsiv", "iiif2", "iiif3")
"""The layouts that a page can show; parts/tiles.js makes their paths."""

COMMON_PARTS = ("page.css", "tiles.js", "place.js", "tools.js", "shell.js")
"""Parts that all pages begin with."""

_VIEWERS = (
    Viewer("OpenSeadragon", ("openseadragon.js",), ("openseadragon.js", "picture.js")),
    Viewer("OpenLayers", ("ol.js",), ("openlayers.js",)),
    Viewer("Leaflet", ("leaflet.css", "leaflet.js"), ("leaflet.css", "leaflet.js")),
)
VIEWERS = dict(zip(VIEWER_NAMES, _VIEWERS, strict=True))


def build_page(
    layout: Layout,
    viewer: str,
    *,
    title: str | None = None,
    blank_colour: str | None = None,
    in_pmtiles: bool = False,
    metadata: Metadata | None = None,
) -> dict[str, bytes]:
    """The page that shows a result.

    It is one file: the viewer's script stands in it, if this fasttile carries a copy, or else the
    script of a plain viewer of fasttile's own. Opened from the disk, it shows the image without a
    server and without the network.

    Args:
        layout: The layout of the tiles, which are beside the page.
        viewer: "openseadragon", "openlayers" or "leaflet"; with ":cdn" the page loads its script
            from a CDN, pinned by its hash.
        title: The title of the page. Default: that of the layout's texts, or the image's name.
        blank_colour: The colour, as in CSS, of tiles that were left out.
        in_pmtiles: True if the tiles are in `<name>.pmtiles`. Browsers read pieces of a file from a
            server only, one that answers range requests; opened from the disk, the page asks for
            the file.
        metadata: That of the image, for the scale bar. Default: the size of its pixels is unknown.

    Returns:
        Path, relative to the folder that holds the result, and content.

    Raises:
        OptionError: There is no such viewer, or it cannot show the layout.
    """
    chosen, origin = check_viewer(layout, viewer, in_pmtiles=in_pmtiles)
    width, height = layout.pyramid.size
    tiles = describe_tiles(layout, blank_colour)
    if in_pmtiles:
        file = f"{layout.name}.pmtiles"
        tiles |= {"kind": "pmtiles", "root": to_url(file), "beside": to_utf8(file)}
    library_files, parts = chosen.files(origin)
    text = render_page(
        layout.texts.title or to_utf8(layout.name) if title is None else title,
        f"{width:,} × {height:,} pixels",
        {**describe_pyramid(layout.pyramid, metadata), "tiles": tiles},
        library_files=library_files,
        parts=(*COMMON_PARTS, *(("pmtiles.js",) if in_pmtiles else ()), *parts),
        preview_url=None if in_pmtiles else preview_url(layout),
        texts=layout.texts,
        origin=origin,
    )
    return {page_name(layout): text}


UNMEASURED = (72, 96)
"""Resolutions, in pixels per inch, that programs write where none is known."""

MICROMETRES_PER_INCH = 25_400


def describe_pyramid(pyramid: Pyramid, metadata: Metadata | None) -> dict[str, Any]:
    """The numbers of `describe_geometry`, and the size of a pixel if the image says it."""
    described = describe_geometry(pyramid)
    if metadata is not None and (size := pixel_size(metadata)) is not None:
        unit = 2 ** pyramid.downscale_exponent(pyramid.stored_range[-1])
        described["pixelSize"] = [float(f"{side * unit:.6g}") for side in size]
    return described


def pixel_size(metadata: Metadata) -> tuple[float, float] | None:
    """Width and height of a pixel in micrometres; None if the image does not say.

    A georeference in metres is taken before a resolution; UNMEASURED resolutions are not taken.
    """
    place = metadata.georeference
    if place is not None and (metres := place.pixel_metres) is not None:
        return metres[0] * 1e6, metres[1] * 1e6
    if metadata.resolution is None:
        return None
    x, y = metadata.resolution
    if not all(1 < side < 1e9 and round(side, 2) not in UNMEASURED for side in (x, y)):
        return None
    return MICROMETRES_PER_INCH / x, MICROMETRES_PER_INCH / y


def check_viewer(
    layout: Layout, viewer: str, *, in_pmtiles: bool = False
) -> tuple[Viewer, ScriptOrigin | None]:
    """Check that a viewer's page can show a layout; return the viewer and its script's origin.

    Raises:
        OptionError: There is no such viewer, or it cannot show the layout.
    """
    chosen, origin = _parse_viewer(viewer)
    if layout.type_name not in (("xyz",) if in_pmtiles else PAGE_LAYOUTS):
        raise OptionError(
            f"no page shows a {layout.title}: fasttile view does, in the browser; pages by "
            f"{', '.join(VIEWERS)} go with {', '.join(PAGE_LAYOUTS)}"
        )
    return chosen, origin


def page_notes(viewer: str) -> tuple[str, ...]:
    """Notes for the user on the page of a viewer: that it shows the plain one instead."""
    chosen, origin = _parse_viewer(viewer)
    if origin == "cdn" or chosen.is_bundled:
        return ()
    return (
        f"the page shows a plain viewer: this fasttile was built without the script of "
        f"{chosen.title}; install npm and build it again, or use {viewer.partition(':')[0]}:cdn",
    )


def _parse_viewer(viewer: str) -> tuple[Viewer, ScriptOrigin | None]:
    name, _, parameters = viewer.partition(":")
    if name not in VIEWERS:
        raise unknown_value_error("viewer", name, VIEWERS)
    values = parse_parameters(name, parameters, {"cdn": "bool"})
    return VIEWERS[name], "cdn" if values.get("cdn") else None


def page_name(layout: Layout) -> str:
    """The file name of the page of a result."""
    return f"{layout.name}.html"


ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" fill="#8a8782">'
    '<path d="M2 9h12v5H2zM4.500 4.500h7v3h-7zM6.500 1.500h3V3h-3z"/></svg>'
)

_SLOT_PATTERN = re.compile(r"\{\{(\w+)\}\}")


def fill_template(template: str, values: Mapping[str, str]) -> str:
    """The template with each `{{slot}}` replaced, once, by its value as it is."""
    return _SLOT_PATTERN.sub(lambda slot: values[slot[1]], template)


def script_json(value: Any) -> str:
    """A value as JSON that can stand within a script element."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def render_page(
    title: str,
    size: str,
    description: Mapping[str, Any],
    *,
    library_files: Sequence[str],
    parts: Sequence[str],
    preview_url: str | None = None,
    extra_html: str = "",
    texts: ResultTexts = NO_TEXTS,
    origin: ScriptOrigin | None = None,
) -> bytes:
    """A page.

    Args:
        title: The image's name.
        size: What is values of its size.
        description: The values for the page's script, without the origin of the library.
        library_files: The viewer's own scripts and style sheets, by name.
        parts: fasttile's files, in order.
        preview_url: The URL of a small image for browsers without JavaScript.
        extra_html: HTML after the usual elements.
        texts: Texts about the image: its credit line and description are shown.
        origin: "cdn" if the library comes from there. None is the copy beside us.
    """
    scripts = [known_scripts()[name] for name in library_files]
    styles = [_script_element(script, origin) for script in scripts if script.name.endswith(".css")]
    styles += [f"<style>\n{read_part(name)}</style>" for name in parts if name.endswith(".css")]
    values = {
        "title": html.escape(title),
        "size": html.escape(size),
        "icon": quote(ICON),
        "styles": "\n".join(styles),
        "more": extra_html,
        **_text_slots(texts),
        "still": f'<img src="{html.escape(preview_url)}" alt="{html.escape(title)}">'
        if preview_url
        else "",
        "picture": script_json({**description, "from": CDN}),
        "library": "\n".join(
            _script_element(script, origin) for script in scripts if script.name.endswith(".js")
        ),
        "code": "".join(read_part(name) for name in parts if name.endswith(".js")),
    }
    return fill_template(read_part("page.html"), values).encode()


def _text_slots(texts: ResultTexts) -> dict[str, str]:
    """The slots `meta` and `texts` of a page; "" where there is nothing."""
    credit, description = html.escape(texts.credit), html.escape(texts.description)
    meta = shown = ""
    if description:
        meta = f'\n<meta name="description" content="{description}">'
        shown = f'<details><summary>About</summary><p dir="auto">{description}</p></details>'
    if credit:
        shown = f'<p id="credit" dir="auto">{credit}</p>{shown}'
    return {"meta": meta, "texts": shown}


def render_gallery(title: str, size: str, sections: Sequence[tuple[str, Sequence[str]]]) -> bytes:
    """The page that shows images as thumbnails, for `fasttile view`.

    The image with number n, counted from 0 over all sections, has its thumbnail at `preview/n`
    and its viewer at `show/n/`.

    Args:
        title: The title of the page.
        size: The number of images, as text.
        sections: Heading of each group of images, "" for none, and their names.
    """
    parts, number = [], 0
    for heading, names in sections:
        parts.append(f'<h2 dir="auto">{html.escape(heading)}</h2>' if heading else "")
        parts.append("<ul>")
        for name in names:
            shown = html.escape(name)
            parts.append(
                f'<li><a href="show/{number}/" title="{shown}"><img src="preview/{number}" '
                f'alt="{shown}" loading="lazy" width="256" height="170">'
                f'<span class="name" dir="auto" aria-hidden="true">{shown}</span></a></li>'
            )
            number += 1
        parts.append("</ul>")
    values = {
        "title": html.escape(title),
        "size": html.escape(size),
        "icon": quote(ICON),
        "styles": read_part("gallery.css"),
        "sections": "\n".join(part for part in parts if part),
        "code": read_part("gallery.js"),
    }
    return fill_template(read_part("gallery.html"), values).encode()


def render_error(title: str, text: str) -> bytes:
    """A page that says why something cannot be shown, for `fasttile view`.

    Args:
        title: The kind of error, as "404 Not Found".
        text: The reason.
    """
    values = {"title": title, "text": text}
    slots = {name: html.escape(value) for name, value in values.items()}
    slots |= {"icon": quote(ICON), "styles": read_part("gallery.css")}
    return fill_template(read_part("error.html"), slots).encode("utf-8", "replace")


def content_security_policy(page: bytes) -> str:
    """A Content-Security-Policy for a page: its own scripts, its library, and tiles beside it."""
    text = page.decode()
    inline = [
        found
        for attributes, found in re.findall(r"<script([^>]*)>(.*?)</script>", text, re.S)
        if "src=" not in attributes and "json" not in attributes
    ]
    scripts = [
        f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
        for code in inline
    ]
    # The files by name: the CDN serves all of npm.
    scripts += re.findall(r'<script src="([^"]*)"', text)
    styles = ["'unsafe-inline'", *re.findall(r'<link rel="stylesheet" href="([^"]*)"', text)]
    return (
        "default-src 'none'; img-src 'self' data: blob:; connect-src 'self'; "
        f"style-src {' '.join(styles)}; script-src {' '.join(scripts)}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _script_element(script: Script, origin: ScriptOrigin | None) -> str:
    """The element that loads a script or a style sheet."""
    style = script.name.endswith(".css")
    text = None if origin == "cdn" else script.bundled_text()
    if text is not None:
        return f"<style>\n{text}</style>" if style else f"<script>\n{text}</script>"
    pinned = f'integrity="{script.integrity}" crossorigin="anonymous" referrerpolicy="no-referrer"'
    if style:
        return f'<link rel="stylesheet" href="{script.url}" {pinned}>'
    return f'<script src="{script.url}" {pinned}></script>'


ScriptOrigin = Literal["bundled", "cdn"]

CDN = "cdn.jsdelivr.net"
PARTS_FOLDER, BUNDLE_FOLDER = "parts", "scripts"


@dataclass(frozen=True)
class Script:
    """One file of an npm package, pinned by its hash.

    Attributes:
        name: Its name in the package.
        package, version, path: Its place in npm.
        integrity: Its SHA-384, as browsers take it.
    """

    name: str
    package: str
    version: str
    path: str
    integrity: str

    @property
    def url(self) -> str:
        """The URL of the file on the CDN."""
        return f"https://{CDN}/npm/{self.package}@{self.version}/{self.path}"

    @property
    def licence_name(self) -> str:
        """The name of the file with its licence."""
        return f"{self.package}.LICENSE.txt"

    def matches(self, data: bytes) -> bool:
        """True if these bytes are the file."""
        return sri_hash(data) == self.integrity

    def bundled_text(self) -> str | None:
        """The text of the copy beside us, its licence at its head; None where there is none."""
        folder = files(__package__) / BUNDLE_FOLDER
        try:
            data = (folder / self.name).read_bytes()
            licence = (folder / self.licence_name).read_text("utf-8")
        except OSError:
            return None
        if not self.matches(data):  # of another version
            return None
        return f"/*!\n{licence.strip()}\n*/\n{data.decode()}"


def sri_hash(data: bytes) -> str:
    """The hash of a file for W3C Subresource Integrity."""
    return "sha384-" + base64.b64encode(hashlib.sha384(data).digest()).decode()


@cache
def known_scripts() -> dict[str, Script]:
    """All scripts and style sheets of viewers, by name."""
    scripts = json.loads((files(__package__) / "scripts.json").read_text("utf-8"))
    return {name: Script(name, **fields) for name, fields in scripts.items()}


@cache
def read_part(name: str) -> str:
    """The text of a file in viewers/parts."""
    return (files(__package__) / PARTS_FOLDER / name).read_text("utf-8")


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
        template = quote(layout.template, safe="/{}@")
        described["template"] = template
        if layout.has_halves:
            described |= {"template": template + RETINA_SUFFIX, "half": template, "scale": 2}
    if isinstance(layout, Zoomify):
        described["tilesPerGroup"] = layout.tiles_per_group
    if blank_colour is not None:
        described["blank"] = blank_colour
    return described


def preview_url(layout: Layout) -> str | None:
    """The URL of the largest tile that is a level by itself, if there is one."""
    single = [level.number for level in layout.pyramid.stored_levels if level.tile_count == 1]
    return to_url(layout.path(Tile(single[-1], 0, 0))) if single else None


def to_url(path: str) -> str:
    """A path, relative to the page, as a URL; it need not be UTF-8."""
    return quote(path.encode("utf-8", "surrogateescape"), safe="/,@")


def to_utf8(text: str) -> str:
    """A text that can be encoded as UTF-8, from any file name."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
