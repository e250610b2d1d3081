"""Tiles in memory: for tests, and for programs that use them at once."""

from __future__ import annotations

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
