"""What map containers have in common: XYZ tiles on a square, with or without a word from us."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SourceError
from ..geometry import Canvas, Pyramid
from ..layouts.tilesjson import pyramid_of
from ..layouts.xyz import Xyz
from .decode import format_of, size_of


@dataclass(frozen=True)
class XyzTiles:
    """What a container says of its tiles.

    Attributes:
        path: Where it lies.
        min_zoom, max_zoom: The smallest and the largest zoom that has tiles.
        extension: The tiles' file ending, if it is told.
        any_tile: Gives some tile, or None if there is none.
    """

    path: Path
    min_zoom: int
    max_zoom: int
    extension: str | None
    any_tile: Callable[[], bytes | None]


def tileset_layout(tiles: XyzTiles, own: Any) -> Xyz:
    """The layout of a container's tiles.

    Args:
        tiles: What it says of them.
        own: What fasttile says of the picture there, as in `tiles.json`, or anything else where it
            does not. Then the picture is the whole square, and a look at a tile tells its size.

    Raises:
        SourceError: They are no pictures, or not squares.
    """
    name = tiles.path.stem
    try:
        if isinstance(own, dict) and "canvas" in own:
            pyramid = pyramid_of(own, tiles.min_zoom, tiles.max_zoom)
            extension = tiles.extension or str(own["format"])
            return Xyz(name, pyramid, extension, centre=bool(own.get("centre", False)))
        return _foreign(name, tiles)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        fault = f"it says nothing of {error}" if isinstance(error, KeyError) else str(error)
        raise SourceError(f"{tiles.path} cannot be used: {fault}") from error


def _foreign(name: str, tiles: XyzTiles) -> Xyz:
    data = tiles.any_tile()
    if data is None:
        raise SourceError(f"{tiles.path} holds no tiles")
    found = format_of(data)
    if found is None:
        raise SourceError(f"{tiles.path} holds tiles that are no pictures")
    size, height = size_of(data, f"{tiles.path}: a tile")
    if size != height:
        raise SourceError(f"{tiles.path}: a tile has {size}×{height} pixels: it is no square")
    side = size << tiles.max_zoom
    canvas = Canvas(side, side)
    base = canvas.one_tile(size)
    pyramid = Pyramid(canvas, size, 0, base + tiles.min_zoom, base + tiles.max_zoom)
    return Xyz(name, pyramid, found)
