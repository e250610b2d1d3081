"""Sources of plug-ins: opened by scheme, extension or type, and checked while they are read."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from fasttile import plugins
from fasttile.abc.source import Source, Wrapper
from fasttile.errors import PluginError
from fasttile.options.read import ReadOptions
from fasttile.sources.files import URL_SCHEMES
from fasttile.types import Pixels

SourceOpener = Callable[[Any, ReadOptions], Source | None]
"""Opens a path, a URL or an object as a source; None if it is not its own."""


def register_source(name: str, opener: SourceOpener) -> None:
    """Add a kind of sources of the program.

    Args:
        name: The extension of its files without a dot, or the scheme of its addresses
            ("name://…"). Objects that nothing else opens are offered to all plug-ins.
        opener: Called with the path, the address or the object, and the options of reading.

    Raises:
        OptionError: The name is in use.
    """
    plugins.register("source", name, opener, URL_SCHEMES)


def open_by_name(source: object, name: str, read_options: ReadOptions) -> Source | None:
    """Open a path or an address by the plug-in of its extension or scheme; None without one.

    Raises:
        SourceError: It cannot be read.
        PluginError: The plug-in fails.
    """
    plugin = plugins.find("source", name)
    return None if plugin is None else _open(plugin, source, read_options)


def open_file_by_plugin(source: object, read_options: ReadOptions) -> Source | None:
    """Open a file by the plug-in of its extension; None without one."""
    if not isinstance(source, str | os.PathLike):
        return None
    suffix = os.path.splitext(os.fsdecode(source))[1]  # noqa: PTH122 -- of any text
    return open_by_name(source, suffix[1:].lower(), read_options) if suffix[1:] else None


def open_object_by_plugin(source: object, read_options: ReadOptions) -> Source | None:
    """Open an object by the first plug-in that takes it; None without one."""
    for plugin in plugins.find_all("source"):
        opened = _open(plugin, source, read_options)
        if opened is not None:
            return opened
    return None


def _open(plugin: plugins.Plugin, source: object, read_options: ReadOptions) -> Source | None:
    opener = plugin.load()
    with plugin.errors_named("it cannot open the image"):
        opened = opener(source, read_options)
    if opened is None:
        return None
    if not isinstance(opened, Source):
        raise PluginError(
            f"{plugin.label}: it returned {type(opened).__name__}; expected a fasttile.Source"
        )
    try:
        _check(plugin, opened)
        read_options.check_pixels(opened.name, opened.width, opened.height)
        return PluginSource(opened, plugin)
    except BaseException:
        opened.close()
        raise


def _check(plugin: plugins.Plugin, source: Source) -> None:
    """Check the attributes of a source.

    Raises:
        PluginError: They are not those of an image.
    """
    for name in ("name", "width", "height", "bands", "dtype", "metadata"):
        if not hasattr(source, name):
            raise PluginError(f"{plugin.label}: its source has no attribute {name}")
    sizes = (source.width, source.height, source.bands)
    if not all(isinstance(size, int) and size >= 1 for size in sizes) or source.bands > 5:
        raise PluginError(
            f"{plugin.label}: its source has {source.width!r}×{source.height!r} pixels of "
            f"{source.bands!r} bands; expected integers from 1 on, and at most 5 bands"
        )
    if not isinstance(source.dtype, np.dtype) or source.dtype.kind not in "uif":
        raise PluginError(
            f"{plugin.label}: its source has the dtype {source.dtype!r}; expected a NumPy dtype "
            "of integers or floats"
        )


class PluginSource(Wrapper):
    """A plug-in's source, whose rows are checked and whose errors name the plug-in.

    Args:
        base: The source.
        plugin: The plug-in.
    """

    def __init__(self, base: Source, plugin: plugins.Plugin) -> None:
        super().__init__(base)
        self.has_parallel_regions = False  # only rows are requested
        self._plugin = plugin

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1 of the plug-in."""
        with self._plugin.errors_named(f"rows {y0} to {y1 - 1} cannot be read"):
            pixels = self._base.rows(y0, y1)
        shape, found = (y1 - y0, self.width, self.bands), getattr(pixels, "shape", None)
        if found != shape or pixels.dtype != self.dtype:
            kind = type(pixels).__name__ if found is None else f"{pixels.dtype} of shape {found}"
            raise PluginError(
                f"{self._plugin.label}: rows {y0} to {y1 - 1} are {kind}; expected {self.dtype} of "
                f"shape {shape}"
            )
        # The pixels of a row are contiguous, which kernels rely on.
        item = self.dtype.itemsize
        if pixels.strides[1:] == (self.bands * item, item):
            return pixels
        return np.ascontiguousarray(pixels)

    def close(self) -> None:
        """Close the plug-in's source."""
        with self._plugin.errors_named("it cannot be closed"):
            self._base.close()
