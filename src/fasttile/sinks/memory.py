"""A sink that keeps all tiles in memory: for tests, and for programs that go on with them."""

from __future__ import annotations

from fasttile.geometry import Tile


class MemorySink:
    """Keeps each tile's bytes.

    Attributes:
        tiles: The bytes by the tile's address, in the order they came; empty after `abort`.
        finished: Whether all tiles are there.

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
            ValueError: It came before, which would be a fault of the walk.
        """
        if tile in self.tiles:
            raise ValueError(f"{tile} came twice")
        self.tiles[tile] = data

    def finish(self) -> None:
        """Say that all tiles are there."""
        self.is_finished = True

    def abort(self) -> None:
        """Forget the tiles, unless they are all there."""
        if not self.is_finished:
            self.tiles.clear()
