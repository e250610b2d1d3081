"""The interfaces of fasttile's parts, for other packages to implement; see docs/EXTENDING.md.

| part | interface | added by |
|---|---|---|
| source: an image that is read by rows | `Source` | `fasttile.sources`, `register_source` |
| layout: paths of tiles, descriptors | `Layout` | `fasttile.layouts`, `register_layout` |
| codec: a tile's pixels to a file | `Codec` | `fasttile.codecs`, `register_codec` |
| sink: takes encoded tiles | `Sink` | `fasttile.sinks`, `register_sink`, `cut(…, sink=…)` |
| reader: returns the tiles of a result | `ResultReader` | attribute `open_result` of a sink |
| engine: runs tasks on workers | `Engine` | `cut(…, workers=…)` |
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # typing is not imported, see the package

if TYPE_CHECKING:
    from .codec import Codec, TileMetadata
    from .engine import Engine
    from .layout import Layout
    from .reader import LevelStats, PyramidReader, ResultReader
    from .sink import LayoutSink, PathSink, Sink
    from .source import Metadata, Source

_EXPORTS = {
    "codec": ("Codec", "TileMetadata"),
    "engine": ("Engine",),
    "layout": ("Layout",),
    "reader": ("LevelStats", "PyramidReader", "ResultReader"),
    "sink": ("LayoutSink", "PathSink", "Sink"),
    "source": ("Metadata", "Source"),
}

__all__ = [
    "Codec",
    "Engine",
    "Layout",
    "LayoutSink",
    "LevelStats",
    "Metadata",
    "PathSink",
    "PyramidReader",
    "ResultReader",
    "Sink",
    "Source",
    "TileMetadata",
]


def __getattr__(name: str) -> object:
    for module, names in _EXPORTS.items():
        if name in names:
            value = getattr(import_module(f".{module}", __name__), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
