"""Cut images of any size into tile pyramids, fast and in little memory.

The names below are imported when they are first used, so that `import fasttile` costs nothing.

Example:
    >>> import fasttile
    >>> fasttile.cut("map.tif", "tiles/map.dzi", quality=85)  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fasttile._version import __version__

if TYPE_CHECKING:
    from .abc.reader import PyramidReader
    from .abc.source import Metadata, Source
    from .batch.items import BatchProgress, BatchResult
    from .batch.run import cut_all
    from .errors import CancelledError, FasttileError, OptionError, SourceError, TargetError
    from .geometry import Canvas, Level, Pyramid, Region, Tile
    from .jobs.cut import CutReport, cut, iter_tiles
    from .jobs.progress import CutProgress
    from .options.cut import CutOptions
    from .readers import open_pyramid
    from .sources import open_source

_EXPORTS = {
    "abc.reader": ("PyramidReader",),
    "abc.source": ("Metadata", "Source"),
    "batch.items": ("BatchProgress", "BatchResult"),
    "batch.run": ("cut_all",),
    "errors": ("CancelledError", "FasttileError", "OptionError", "SourceError", "TargetError"),
    "geometry": ("Canvas", "Level", "Pyramid", "Region", "Tile"),
    "jobs.cut": ("CutReport", "cut", "iter_tiles"),
    "jobs.progress": ("CutProgress",),
    "options.cut": ("CutOptions",),
    "readers": ("open_pyramid",),
    "sources": ("open_source",),
}

__all__ = [
    "BatchProgress",
    "BatchResult",
    "CancelledError",
    "Canvas",
    "CutOptions",
    "CutProgress",
    "CutReport",
    "FasttileError",
    "Level",
    "Metadata",
    "OptionError",
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
    for home, names in _EXPORTS.items():
        if name in names:
            value = getattr(import_module(f".{home}", __name__), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
