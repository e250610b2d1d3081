"""A pyramidal TIFF: each level a page of full square tiles, whose places the container knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import OptionError
from ..geometry import Canvas, Tile
from .base import Layout

TILE_UNIT = 16
"""TIFF's tiles have sides of a multiple of this."""


@dataclass(frozen=True)
class Tiff(Layout):
    """The geometry of a pyramidal TIFF's tiles. They have no paths."""

    kind = "tiff"
    title = "pyramidal TIFF"

    def __post_init__(self) -> None:
        super().__post_init__()
        size = self.pyramid.tile_size
        if size % TILE_UNIT:
            near = max(TILE_UNIT, round(size / TILE_UNIT) * TILE_UNIT)
            raise OptionError(
                f"tile size {size}: TIFF's tiles have sides of a multiple of {TILE_UNIT}; "
                f"{near} would do"
            )

    @classmethod
    def canvas(cls, width: int, height: int, tile_size: int, **parameters: Any) -> Canvas:
        """The picture itself, under tiles that are filled up."""
        return Canvas(width, height, edge="fill")

    @property
    def result_name(self) -> str:
        """The file."""
        return f"{self.name}.tif"

    def paths(self, tile: Tile) -> tuple[str, ...]:
        """None."""
        return ()

    def _tile_named(self, name: str) -> Tile | None:
        return None

    def descriptors(self) -> dict[str, bytes]:
        """None."""
        return {}
