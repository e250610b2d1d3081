"""Cut pictures of any size into tile pyramids, fast and in little memory.

The names below are imported when they are first used, so that `import fasttile` costs nothing.

Example:
    >>> import fasttile
    >>> fasttile.cut("map.tif", "tiles/map.dzi", quality=85)  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batch import BatchProgress, Outcome, cut_all
    from .errors import Cancelled, FasttileError, OptionError, SourceError, TargetError
    from .geometry import Canvas, Level, Pyramid, Region, Tile
    from .job import CutReport, Progress, cut, iter_tiles
    from .options import CutOptions
    from .readers import open_pyramid
    from .readers.base import PyramidReader
    from .sources import open_source
    from .sources.base import Metadata, Source

__version__ = "0.1.0"

_HOMES = {
    "batch": ("BatchProgress", "Outcome", "cut_all"),
    "job": ("CutReport", "Progress", "cut", "iter_tiles"),
    "errors": ("Cancelled", "FasttileError", "OptionError", "SourceError", "TargetError"),
    "geometry": ("Canvas", "Level", "Pyramid", "Region", "Tile"),
    "options": ("CutOptions",),
    "readers": ("open_pyramid",),
    "readers.base": ("PyramidReader",),
    "sources": ("open_source",),
    "sources.base": ("Metadata", "Source"),
}

__all__ = [
    "BatchProgress",
    "Cancelled",
    "Canvas",
    "CutOptions",
    "CutReport",
    "FasttileError",
    "Level",
    "Metadata",
    "OptionError",
    "Outcome",
    "Progress",
    "Pyramid",
    "PyramidReader",
    "Region",
    "Source",
    "SourceError",
    "TargetError",
    "Tile",
    "__version__",
    "cut",
    "cut_all",
    "iter_tiles",
    "open_pyramid",
    "open_source",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f".{home}", __name__), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
