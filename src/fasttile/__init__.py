"""Cut images of any size into tile pyramids, fast and in little memory.

The names below are imported at their first use, so that `import fasttile` takes no time.

Example:
    >>> import fasttile
    >>> fasttile.cut("map.tif", "tiles/map.dzi", quality=85)  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module

from fasttile._version import __version__

TYPE_CHECKING = False  # typing is not imported: that takes a third of the command's first imports

if TYPE_CHECKING:
    from . import collection, verify
    from .abc.reader import PyramidReader
    from .abc.source import Metadata, Source
    from .batch.items import BatchItem, BatchProgress, BatchResult
    from .batch.run import cut_all
    from .dry_run import CutEstimate, estimate
    from .encode.codecs import Avif, Deflate, Jpeg, Png, Webp, register_codec
    from .errors import (
        CancelledError,
        FasttileError,
        MissingPageError,
        OptionError,
        PluginError,
        SourceError,
        SourceNotFoundError,
        TargetError,
        TargetExistsError,
        TruncatedError,
    )
    from .geometry import Canvas, Level, Pyramid, Region, Tile
    from .jobs.convert import convert
    from .jobs.cut import CutReport, cut, iter_tiles
    from .jobs.progress import CancelToken, CutProgress
    from .layouts import (
        DeepZoom,
        Gsiv,
        Iiif2,
        Iiif3,
        LayoutSpec,
        Tiff,
        TileCache,
        Tms,
        Xyz,
        Zoomify,
        register_layout,
    )
    from .ondemand import open_pyramid
    from .options.cut import CutOptions
    from .options.read import RawFormat, ReadOptions
    from .sinks import Target
    from .sinks.plugged import register_sink
    from .sources import open_source
    from .sources.functions import from_function
    from .sources.mosaic import mosaic
    from .sources.plugged import register_source
    from .storage.random_access import guard_mapped_files

_EXPORTS = {
    "abc.reader": ("PyramidReader",),
    "abc.source": ("Metadata", "Source"),
    "batch.items": ("BatchItem", "BatchProgress", "BatchResult"),
    "batch.run": ("cut_all",),
    "dry_run": ("CutEstimate", "estimate"),
    "encode.codecs": ("Avif", "Deflate", "Jpeg", "Png", "Webp", "register_codec"),
    "errors": (
        "CancelledError",
        "FasttileError",
        "MissingPageError",
        "OptionError",
        "PluginError",
        "SourceError",
        "SourceNotFoundError",
        "TargetError",
        "TargetExistsError",
        "TruncatedError",
    ),
    "geometry": ("Canvas", "Level", "Pyramid", "Region", "Tile"),
    "jobs.convert": ("convert",),
    "jobs.cut": ("CutReport", "cut", "iter_tiles"),
    "jobs.progress": ("CancelToken", "CutProgress"),
    "layouts": (
        "DeepZoom",
        "Gsiv",
        "Iiif2",
        "Iiif3",
        "LayoutSpec",
        "Tiff",
        "TileCache",
        "Tms",
        "Xyz",
        "Zoomify",
        "register_layout",
    ),
    "ondemand": ("open_pyramid",),
    "options.cut": ("CutOptions",),
    "options.read": ("RawFormat", "ReadOptions"),
    "sinks": ("Target",),
    "sinks.plugged": ("register_sink",),
    "sources": ("open_source",),
    "sources.plugged": ("register_source",),
    "sources.functions": ("from_function",),
    "sources.mosaic": ("mosaic",),
    "storage.random_access": ("guard_mapped_files",),
}

_SUBPACKAGES = ("collection", "verify")

__all__ = [
    "Avif",
    "BatchItem",
    "BatchProgress",
    "BatchResult",
    "CancelToken",
    "CancelledError",
    "Canvas",
    "CutEstimate",
    "CutOptions",
    "CutProgress",
    "CutReport",
    "DeepZoom",
    "Deflate",
    "FasttileError",
    "Gsiv",
    "Iiif2",
    "Iiif3",
    "Jpeg",
    "LayoutSpec",
    "Level",
    "Metadata",
    "MissingPageError",
    "OptionError",
    "PluginError",
    "Png",
    "Pyramid",
    "PyramidReader",
    "RawFormat",
    "ReadOptions",
    "Region",
    "Source",
    "SourceError",
    "SourceNotFoundError",
    "Target",
    "TargetError",
    "TargetExistsError",
    "Tiff",
    "Tile",
    "TileCache",
    "Tms",
    "TruncatedError",
    "Webp",
    "Xyz",
    "Zoomify",
    "__version__",
    "collection",
    "convert",
    "cut",
    "cut_all",
    "estimate",
    "from_function",
    "guard_mapped_files",
    "iter_tiles",
    "mosaic",
    "open_pyramid",
    "open_source",
    "register_codec",
    "register_layout",
    "register_sink",
    "register_source",
    "verify",
]


def __getattr__(name: str) -> object:
    if name in _SUBPACKAGES:
        return import_module(f".{name}", __name__)
    for module, names in _EXPORTS.items():
        if name in names:
            value = getattr(import_module(f".{module}", __name__), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
