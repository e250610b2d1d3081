"""Sinks of plug-ins: containers that other packages, or the program, add by an extension."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from fasttile import plugins
from fasttile.abc.layout import Layout
from fasttile.abc.sink import Sink, missing_method
from fasttile.errors import PluginError, TargetError, TargetExistsError
from fasttile.geometry import Tile
from fasttile.sinks import TARGET_SUFFIXES

SinkFactory = Callable[..., Sink]
"""Called with the path, the layout, and overwrite=True or False; returns the sink.

It may have an attribute `open_result`, a function of the path that returns a `ResultReader`.
"""


def register_sink(name: str, factory: SinkFactory) -> None:
    """Add a container of the program.

    Args:
        name: The extension of its files, without a dot.
        factory: Opens the sink: `factory(path, layout, overwrite=…)`. Its attribute `open_result`,
            if it has one, opens a result to read it.

    Raises:
        OptionError: The name is in use.
    """
    plugins.register("sink", name, factory, [suffix[1:] for suffix in TARGET_SUFFIXES])


def open_plugin_sink(path: Path, layout: Layout, *, overwrite: bool) -> Sink:
    """Open the sink of the plug-in that writes files with this extension.

    Raises:
        TargetExistsError: The file exists, and overwrite is off.
        PluginError: The plug-in fails, or its object is no sink.
        TargetError: The folder cannot be made.
    """
    plugin = plugins.find("sink", path.suffix[1:].lower())
    if plugin is None:  # in a worker, which does not know the parts of the program
        raise PluginError(f"{path}: no package here writes {path.suffix}; install one that does")
    check_plugin_file(path, overwrite=overwrite)
    factory = plugin.load()
    with plugin.errors_named(f"it cannot open {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        sink = factory(path, layout, overwrite=overwrite)
    missing = missing_method(sink)
    if missing is not None:
        raise PluginError(
            f"{plugin.label}: it returned {type(sink).__name__}, which has no method {missing}"
        )
    return _PluginSink(plugin, sink, path)


def check_plugin_file(path: Path, *, overwrite: bool) -> None:
    """Refuse to replace the file of a plug-in.

    Raises:
        TargetExistsError: It exists, and overwrite is off.
    """
    if os.path.lexists(path) and not overwrite:
        raise TargetExistsError(f"{path} exists; use --overwrite (overwrite=True) to replace it")


class _PluginSink:
    """A plug-in's sink, whose errors name the plug-in and the file."""

    def __init__(self, plugin: plugins.Plugin, sink: Any, path: Path) -> None:
        self._plugin = plugin
        self._sink = sink
        self._path = path

    def put(self, tile: Tile, data: bytes) -> None:
        """Pass a tile on."""
        with self._errors_named("a tile cannot be written"):
            self._sink.put(tile, data)

    def finish(self) -> None:
        """Let the plug-in publish."""
        with self._errors_named("it cannot be published"):
            self._sink.finish()

    def abort(self) -> None:
        """Let the plug-in discard its files; its errors do not hide the first one."""
        with suppress(Exception):
            self._sink.abort()

    def _errors_named(self, problem: str) -> AbstractContextManager[None]:
        return plugins.errors_of_part(
            f"{self._path}: {problem} by the {self._plugin.label}", TargetError
        )
