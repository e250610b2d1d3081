"""Registry of layouts: a name, and after a colon parameters, make a layout."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from fasttile.abc.layout import Layout
from fasttile.errors import OptionError, PluginError, SourceError
from fasttile.geometry import Tile
from fasttile.options import (
    format_parameters,
    parameter_types,
    parse_parameters,
    unknown_value_error,
)

if TYPE_CHECKING:
    from fasttile.plugins import Plugin

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


def other_own_paths(layout: Layout) -> set[str]:
    """Paths of the files of a result that `tile_at` and `tile_of_half` may not know."""
    paths = {path for image in layout.whole_images() for path in image.paths}
    paths |= {*layout.descriptors(), *layout.further_files(), f"{layout.root}/{RECORD_NAME}"}
    for level in layout.pyramid.stored_levels:
        # The last tile of a level may share its file with a tile of a larger level.
        paths.add(layout.path(Tile(level.number, level.cols - 1, level.rows - 1)))
    return paths


_HINTS = {
    **dict.fromkeys(("iiif", "iiif1", "iiif-image"), "iiif3 and iiif2 are versions of IIIF"),
    **dict.fromkeys(
        ("google", "googlemaps", "osm", "slippy", "mapbox", "leaflet", "openlayers", "web"),
        "xyz has the addresses of web maps",
    ),
    "openseadragon": "dzi is the layout for it; --viewer openseadragon adds a page",
    **dict.fromkeys(("dz", "deepzoom", "deep-zoom", "seadragon", "dzc"), "Deep Zoom is dzi"),
    **dict.fromkeys(("tif", "geotiff", "bigtiff"), "pyramidal TIFF is tiff"),
    "cog": "Cloud Optimized GeoTIFF is tiff:cog",
    **dict.fromkeys(("ome", "ome-tiff", "ometiff", "ome.tif"), "OME-TIFF is tiff:ome"),
    **{name: f"it is a container: -o NAME.{name}" for name in ("szi", "zip", "pmtiles", "mbtiles")},
}
"""Advice for names that other programs use."""


def layout_class(name: str) -> type[Layout]:
    """The class of the layout with this name.

    Raises:
        OptionError: There is no such layout.
    """
    if name not in LAYOUTS:
        from fasttile import plugins

        plugin = plugins.find("layout", name)
        if plugin is None:
            others = [plugin.name for plugin in plugins.find_all("layout")]
            raise unknown_value_error("layout", name, [*LAYOUTS, *others], _HINTS)
        return _load_layout(plugin)
    module, _, class_name = LAYOUTS[name].partition(".")
    layout_type: type[Layout] = getattr(import_module(f".{module}", __package__), class_name)
    return layout_type


def register_layout(layout: type[Layout]) -> None:
    """Add a layout of the program; its `type_name` is the name in options.

    Raises:
        OptionError: The class is no complete layout, or its name is in use.
    """
    from fasttile import plugins

    name = getattr(layout, "type_name", "")
    if not _is_layout(layout, name):
        raise OptionError(f"{layout!r}: no layout; {_LAYOUT_RULE}")
    plugins.register("layout", name, layout, LAYOUTS)


_LAYOUT_RULE = (
    "expected a dataclass derived from fasttile.abc.Layout with type_name, title and all methods"
)


def _is_layout(part: Any, name: str) -> bool:
    return (
        isinstance(part, type)
        and issubclass(part, Layout)
        and not getattr(part, "__abstractmethods__", None)
        and getattr(part, "type_name", "") == name != ""
        and bool(getattr(part, "title", ""))
    )


def _load_layout(plugin: Plugin) -> type[Layout]:
    part = plugin.load()
    if not _is_layout(part, plugin.name):
        raise PluginError(f"{plugin.label}: {part!r} is no layout; {_LAYOUT_RULE}")
    layout_type: type[Layout] = part
    return layout_type


def plugin_layout_of(descriptors: Iterable[str]) -> tuple[str, Plugin] | None:
    """The first of some file names that a plug-in's layout has as its descriptor, and the plug-in.

    Plug-ins that cannot be loaded are left out: the results of others can be read.
    """
    from fasttile import plugins

    names = set(descriptors)
    for plugin in plugins.find_all("layout"):
        with suppress(PluginError):
            descriptor = _load_layout(plugin).descriptor_name
            if descriptor and descriptor in names:
                return descriptor, plugin
    return None


def parse_plugin_descriptor(plugin: Plugin, name: str, text: str) -> Layout:
    """The layout of a result by the plug-in that its descriptor belongs to.

    Raises:
        SourceError: The text describes no layout.
        PluginError: The plug-in fails.
    """
    with plugin.errors_named("it cannot read a descriptor"):
        layout = _load_layout(plugin).from_descriptor(name, text)
    if not isinstance(layout, Layout):
        raise PluginError(f"{plugin.label}: from_descriptor returned {layout!r}, no layout")
    return layout


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
        types = _parameter_types(layout_type)
        values = parse_parameters(name, parameters, types)
        for key, value in values.items():
            if value == "":
                raise OptionError(f"{name}:{key} has no value; expected {key}=…")
        return cls(layout_type, values)

    def option_text(self) -> str:
        """The text of the option `layout`."""
        return format_parameters(self.name, self.parameters)

    def bind(self, name: str, width: int, height: int, extension: str, **options: Any) -> Layout:
        """The layout of an image, see `Layout.from_size`."""
        if self.name in LAYOUTS:
            return self.layout_type.from_size(
                name, width, height, extension, **options, **self.parameters
            )
        from fasttile import plugins

        plugin = plugins.Plugin("layout", self.name, self.layout_type.__module__, None)
        with plugin.errors_named("it cannot lay out the image"):
            layout = self.layout_type.from_size(
                name, width, height, extension, **options, **self.parameters
            )
            _check_paths(plugin, layout)
        return layout


def _check_paths(plugin: Plugin, layout: Layout) -> None:
    """Check the layout of a plug-in by its first and last tile, and its descriptors.

    Raises:
        PluginError: They are no paths below its root, or no files.
    """
    levels = layout.pyramid.stored_levels
    last = Tile(levels[-1].number, levels[-1].cols - 1, levels[-1].rows - 1)
    seen: dict[str, Tile] = {}
    for tile in {Tile(levels[0].number, 0, 0), last}:
        paths = layout.paths(tile)
        for path in paths if isinstance(paths, tuple) else (paths,):
            parts = path.split("/") if isinstance(path, str) else []
            if parts[:1] != [layout.root] or not parts[1:] or {"", ".", ".."} & {*parts}:
                raise PluginError(
                    f"{plugin.label}: {path!r} is no path of a tile; expected one below "
                    f"{layout.root}/"
                )
            if seen.setdefault(path, tile) != tile:
                raise PluginError(f"{plugin.label}: two tiles have the path {path!r}")
        if layout.tile_at(layout.path(tile)) != tile:
            raise PluginError(f"{plugin.label}: {layout.path(tile)!r} is not read as {tuple(tile)}")
    for path, data in layout.descriptors().items():
        if not isinstance(path, str) or not isinstance(data, bytes):
            raise PluginError(f"{plugin.label}: descriptors are {path!r}: {type(data).__name__}")


def _spec(name: str, **parameters: Any) -> LayoutSpec:
    """A layout with parameters; those that are defaults are left out, as in a text."""
    layout_type = layout_class(name)
    defaults = {own.name: own.default for own in fields(layout_type)}
    given = {key: value for key, value in parameters.items() if value != defaults[key]}
    return LayoutSpec(layout_type, given)


# The names of the classes of layouts: a program passes these objects to `cut`.
# ruff: noqa: N802


def DeepZoom(*, json: bool = False, jsonp: bool = False) -> LayoutSpec:
    """The layout "dzi": Deep Zoom.

    Args:
        json: Write the descriptor as JSON too.
        jsonp: Write it as a script too.
    """
    return _spec("dzi", json=json, jsonp=jsonp)


def Zoomify(
    *,
    rounding: Literal["floor", "ceil"] = "floor",
    group: Literal["256", "tile-size"] = "256",
) -> LayoutSpec:
    """The layout "zoomify".

    Args:
        rounding: Odd sizes halve to "floor", as with Zoomify's own tools, or to "ceil".
        group: Tiles in a TileGroup: "256", or "tile-size", as many as a tile has pixels on a side,
            which OpenLayers and PanoJS expect of tiles of another size than 256.
    """
    return _spec("zoomify", rounding=rounding, group=group)


def Xyz(
    *, template: str = "{z}/{x}/{y}", centre: bool = False, scale: Literal[1, 2] = 1
) -> LayoutSpec:
    """The layout "xyz": that of web maps.

    Args:
        template: Names of the tiles, with `{z}`, `{x}`, `{y}` and `{quadkey}`.
        centre: True puts the image into the middle of the square.
        scale: 2 writes tiles of twice the size for dense screens, with `@2x` before the extension,
            and beside each its half for other screens.
    """
    return _spec("xyz", template=template, centre=centre, scale=scale)


def Tms() -> LayoutSpec:
    """The layout "tms": rows from the bottom."""
    return _spec("tms")


def TileCache() -> LayoutSpec:
    """The layout "tilecache": that of TileCache's disk cache."""
    return _spec("tilecache")


def Gsiv(*, centre: bool = True) -> LayoutSpec:
    """The layout "gsiv": that of GSIV and PanoJS.

    Args:
        centre: True puts the image into the middle of the square.
    """
    return _spec("gsiv", centre=centre)


def Iiif2(*, id: str, thumbnails: Sequence[int] = ()) -> LayoutSpec:
    """The layout "iiif2": IIIF's Image API 2.

    Args:
        id: The address of the result's folder; `{name}` in it is replaced by the name.
        thumbnails: Widths of further images of all of the image, in pixels.
    """
    return _spec("iiif2", id=id, thumbnails="+".join(map(str, thumbnails)))


def Iiif3(
    *, id: str, thumbnails: Sequence[int] = (), manifest: bool | str | os.PathLike[str] = False
) -> LayoutSpec:
    """The layout "iiif3": IIIF's Image API 3.

    Args:
        id, thumbnails: As for `Iiif2`.
        manifest: True also writes a manifest of Presentation 3 that describes the image by the
            texts in its file, and for a batch a collection; a path: by the rows of a CSV.
    """
    given = manifest if isinstance(manifest, bool) else os.fspath(manifest)
    return _spec("iiif3", id=id, thumbnails="+".join(map(str, thumbnails)), manifest=given)


def Tiff(*, cog: bool = False, ome: bool = False) -> LayoutSpec:
    """The layout "tiff": a pyramidal TIFF.

    Args:
        cog: Write a Cloud Optimized GeoTIFF.
        ome: Write an OME-TIFF.
    """
    return _spec("tiff", cog=cog, ome=ome)


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
    return parameter_types(layout_type.parameter_fields())
