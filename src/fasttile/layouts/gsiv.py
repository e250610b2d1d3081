"""GSIV and PanoJS: `tile-z-x-y.ext`, all in one folder; level 0 shows the whole picture.

Source: what PanoJS.js asks for, and what the tilemaker script beside it makes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ..geometry import Tile
from . import tilesjson
from .base import numbers_in
from .square import Anchor, Square

PREFIX = "tile-"

_NAME = re.compile(PREFIX + r"([0-9]{1,2})-([0-9]{1,13})-([0-9]{1,13})\.")


@dataclass(frozen=True)
class Gsiv(Square):
    """Where GSIV's tiles live. All tiles of the square are there, for its page asks for them.

    Args:
        name, pyramid, extension: As for all layouts.
        centre: Whether the picture lies in the middle of the square, not at its top left.

    Example:
        >>> layout = Gsiv.of("map", 1000, 600, "jpg")
        >>> layout.path(Tile(level=10, col=3, row=2))
        'map/tile-2-3-2.jpg'
    """

    kind = "gsiv"
    title = "GSIV"
    cover = "canvas"

    centre: bool = True

    @classmethod
    def _anchor(cls, *, centre: bool = True, **_: Any) -> Anchor:
        return "centre" if centre else cls.anchor

    def paths(self, tile: Tile) -> tuple[str, ...]:
        """Where a tile lives."""
        zoom, col, row = self.address(tile)
        return (f"{self.root}/{PREFIX}{zoom}-{col}-{row}.{self.extension}",)

    def _tile_named(self, name: str) -> Tile | None:
        numbers = numbers_in(_NAME, name)
        return None if numbers is None else self.tile_of(*numbers)

    def descriptors(self) -> dict[str, bytes]:
        """`tiles.json`, which has the numbers that a page needs under PanoJS' own names."""
        numbers = {
            "tileBaseUri": quote(self.name, errors="surrogateescape"),
            "tilePrefix": PREFIX,
            "tileExtension": self.extension,
            "tileSize": self.pyramid.tile_size,
            "maxZoom": self.pyramid.kept[-1] - self.base,
        }
        template = f"{PREFIX}{{z}}-{{x}}-{{y}}.{self.extension}"
        text = tilesjson.text(
            self, template, "xyz", cover=self.cover, centre=self.centre, page=numbers
        )
        return {f"{self.root}/{tilesjson.FILE_NAME}": text}
