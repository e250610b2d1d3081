"""TileCache's disk cache: each number in folders of three digits, rows from the bottom.

OpenLayers 2 reads it as plain files (`Layer.TileCache`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..geometry import Tile
from . import tilesjson
from .base import numbers_in
from .square import Square

_NAME = re.compile(r"([0-9]{2})/([0-9]{3}/[0-9]{3}/[0-9]{3})/([0-9]{3}/[0-9]{3}/[0-9]{3})\.")


@dataclass(frozen=True)
class TileCache(Square):
    """Where the tiles of a TileCache disk cache live. The picture lies at the bottom left.

    Example:
        >>> layout = TileCache.of("map", 1000, 600, "jpg")
        >>> layout.path(Tile(level=10, col=3, row=2))
        'map/02/000/000/003/000/000/000.jpg'
    """

    kind = "tilecache"
    title = "TileCache"
    anchor = "bottom left"

    def paths(self, tile: Tile) -> tuple[str, ...]:
        """Where a tile lives."""
        zoom, col, row = self.address_from_below(tile)
        where = f"{zoom:02}/{_in_threes(col)}/{_in_threes(row)}"
        return (f"{self.root}/{where}.{self.extension}",)

    def _tile_named(self, name: str) -> Tile | None:
        numbers = numbers_in(_NAME, name)
        return None if numbers is None else self.tile_of_below(*numbers)

    def descriptors(self) -> dict[str, bytes]:
        """`tiles.json`, in the tiles' folder; no client reads this template by itself."""
        template = "{zz}/{xxx}/{xxx}/{xxx}/{yyy}/{yyy}/{yyy}." + self.extension
        return {f"{self.root}/{tilesjson.FILE_NAME}": tilesjson.text(self, template, "tms")}


def _in_threes(number: int) -> str:
    """Nine digits, in three folders."""
    digits = f"{number:09}"
    return f"{digits[:3]}/{digits[3:6]}/{digits[6:]}"
