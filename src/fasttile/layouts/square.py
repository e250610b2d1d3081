"""What layouts of square canvases have in common: tile size times a power of two, and zooms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..geometry import Canvas, Cover, Region, Tile
from .base import Layout

Anchor = Literal["top left", "bottom left", "centre"]


@dataclass(frozen=True)
class Square(Layout):
    """A layout whose level 0 is one tile that shows all, and each further one four times as many.

    The picture lies on a square of tile_size · 2^n pixels; the rest is background, and tiles that
    would show nothing else are left out.

    Attributes:
        anchor: Where in the square the picture lies, unless it is centred.
        cover: Whether tiles of nothing but background are left out.
    """

    anchor: ClassVar[Anchor] = "top left"
    cover: ClassVar[Cover] = "picture"
    sparse = True

    @classmethod
    def canvas(cls, width: int, height: int, tile_size: int, **parameters: Any) -> Canvas:
        """The smallest such square that holds the picture."""
        side = tile_size
        while side < max(width, height):
            side *= 2
        x, y = _corner(cls._anchor(**parameters), side - width, side - height)
        return Canvas(side, side, Region(x, y, width, height), cover=cls.cover)

    @classmethod
    def _anchor(cls, *, centre: bool = False, **_: Any) -> Anchor:
        return "centre" if centre else cls.anchor

    def zoom(self, tile: Tile) -> int:
        """The layout's own number of a tile's level: 0 is one tile."""
        return tile.level - self.base

    def address(self, tile: Tile) -> tuple[int, int, int]:
        """Zoom, column and row of a tile on the whole square, rows counted from the top."""
        level = self.pyramid.levels[tile.level]
        return self.zoom(tile), level.first_col + tile.col, level.first_row + tile.row

    def address_from_below(self, tile: Tile) -> tuple[int, int, int]:
        """The same, rows counted from the bottom."""
        zoom, col, row = self.address(tile)
        return zoom, col, (1 << zoom) - 1 - row

    def tile_of(self, zoom: int, col: int, row: int) -> Tile | None:
        """The other way round: the tile that an address means, or None for no such zoom."""
        number = self.base + zoom
        if not 0 <= number < self.pyramid.level_count:
            return None
        level = self.pyramid.levels[number]
        return Tile(number, col - level.first_col, row - level.first_row)

    def tile_of_below(self, zoom: int, col: int, row: int) -> Tile | None:
        """The same, rows counted from the bottom."""
        return self.tile_of(zoom, col, (1 << zoom) - 1 - row)


def _corner(anchor: Anchor, right: int, below: int) -> tuple[int, int]:
    """The picture's top left corner, with so much room to its right and below it."""
    if anchor == "centre":
        return right // 2, below // 2
    return 0, below if anchor == "bottom left" else 0
