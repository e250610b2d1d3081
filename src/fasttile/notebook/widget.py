"""The widget that shows a pyramid, by anywidget: tiles travel as messages of the kernel."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from importlib.resources import files
from typing import Any

import anywidget
import traitlets

from fasttile.errors import printable
from fasttile.geometry import describe_geometry
from fasttile.notebook.still import ShownPyramid, Thumbnail, describe_size, error_line

TILE_THREADS = 4
"""Threads that make tiles, for all widgets together."""


class PyramidWidget(anywidget.AnyWidget):
    """A viewer in the output of a cell, with the pyramid's tiles on demand.

    The browser sends `{"tile": [level, col, row]}` and gets the same message back, with the media
    type and the tile as a binary buffer, or with an error. Tiles are made on threads, as the
    kernel's own thread serves the user's cells.

    Args:
        shown: The pyramid. It stays open, and in memory, as long as the kernel runs or until the
            widget is closed.
        thumbnail: Its thumbnail, which is shown until tiles arrive, and without a kernel.
    """

    _esm = (files(__package__) / "viewer.js").read_text("utf-8")
    _css = (files(__package__) / "viewer.css").read_text("utf-8")
    title = traitlets.Unicode().tag(sync=True)
    size = traitlets.Unicode().tag(sync=True)
    geometry = traitlets.Dict().tag(sync=True)
    first_level = traitlets.Int().tag(sync=True)
    still = traitlets.Unicode().tag(sync=True)
    problem = traitlets.Unicode().tag(sync=True)

    def __init__(self, shown: ShownPyramid, thumbnail: Thumbnail) -> None:
        super().__init__(
            title=printable(shown.name),
            size=describe_size(shown.pyramid),
            geometry=describe_geometry(shown.pyramid),
            first_level=shown.pyramid.stored_range[0],
            still=thumbnail.url if thumbnail.data else "",
            problem=thumbnail.problem,
        )
        self._shown = shown
        self.on_msg(self._receive)

    def view(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The output that shows the widget: data by media type, and their metadata."""
        data, metadata = self._repr_mimebundle_() or ({}, {})
        return data, metadata

    def _receive(self, _: object, content: dict[str, Any], __: object) -> None:
        # With the context, the answer belongs to this request also on its thread.
        _tile_threads().submit(copy_context().run, self._answer, content.get("tile"))

    def _answer(self, address: Any) -> None:
        self.send(*_answer_request(self._shown, address))


def _answer_request(shown: ShownPyramid, address: Any) -> tuple[dict[str, Any], list[bytes]]:
    """The message that answers a request for a tile, and its binary parts; never raises.

    Args:
        shown: The pyramid.
        address: Level, column and row, as the browser sent them.
    """
    message = {"tile": address}
    try:
        level, col, row = map(int, address)
        data = shown.tile(level, col, row)
    except Exception as error:  # codecs and stores raise anything
        return {**message, "error": error_line(error)}, []
    if data is None:
        return {**message, "blank": True}, []
    return {**message, "type": shown.media_type}, [data]


@cache
def _tile_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(TILE_THREADS, "fasttile-notebook")
