"""Tiles in memory, and tiles for a program's own sink or function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fasttile.abc.layout import Layout
from fasttile.abc.sink import LayoutSink, Sink, missing_method
from fasttile.errors import OptionError
from fasttile.geometry import Tile


class MemorySink:
    """Keeps each tile's bytes.

    Attributes:
        tiles: The bytes by the tile's address, in the order of `put`; empty after `abort`.
        is_finished: True if all tiles are there.

    Example:
        >>> sink = MemorySink()
        >>> sink.put(Tile(0, 0, 0), b"...")
        >>> sink.tiles[Tile(level=0, col=0, row=0)]
        b'...'
    """

    def __init__(self) -> None:
        self.tiles: dict[Tile, bytes] = {}
        self.is_finished = False

    def put(self, tile: Tile, data: bytes) -> None:
        """Take one tile.

        Raises:
            ValueError: It came before, an error of the walk.
        """
        if tile in self.tiles:
            raise ValueError(f"{tile} came twice")
        self.tiles[tile] = data

    def finish(self) -> None:
        """Mark the tiles as complete."""
        self.is_finished = True

    def abort(self) -> None:
        """Discard the tiles, unless they are complete."""
        if not self.is_finished:
            self.tiles.clear()


class StoreSink:
    """Passes each tile to a function of a program.

    Args:
        store: Called with the address of each tile, and its file.
    """

    def __init__(self, store: Callable[[Tile, bytes], object]) -> None:
        self._store = store

    def put(self, tile: Tile, data: bytes) -> None:
        """Call the function; its exceptions end the cut."""
        self._store(tile, data)

    def finish(self) -> None:
        """Do nothing: the function has all tiles."""

    def abort(self) -> None:
        """Do nothing: the function's own store is the program's."""


def program_sink(sink: Any, store: Any) -> Callable[[Layout], Sink]:
    """A function that begins a program's own sink.

    Args:
        sink: An object with the methods of `Sink`, or None.
        store: A function of a tile and its bytes, or None.

    Raises:
        OptionError: There are both, or one that cannot be used.
    """
    if sink is not None and store is not None:
        raise OptionError("sink and store: a cut has one of them")
    if sink is None:
        if not callable(store):
            raise OptionError(f"store {store!r}: expected a function of a tile and its bytes")
        sink = StoreSink(store)
    missing = missing_method(sink)
    if missing is not None:
        raise OptionError(
            f"sink {sink!r}: it has no method {missing}; expected an object with put, finish and "
            "abort"
        )

    def begin(layout: Layout) -> Sink:
        if isinstance(sink, LayoutSink):
            sink.begin(layout)
        begun: Sink = sink
        return begun

    return begin
