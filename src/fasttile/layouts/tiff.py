"""Pyramidal TIFF: each level is an image of full square tiles; the container has their offsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fasttile.abc.layout import Layout
from fasttile.errors import OptionError
from fasttile.geometry import Canvas, Tile

TILE_UNIT = 16
"""Factor of the sides of TIFF's tiles, in pixels."""


@dataclass(frozen=True)
class Tiff(Layout):
    """The geometry of a pyramidal TIFF's tiles. They have no paths.

    Args:
        name, pyramid, extension: As for all layouts.
        cog: The file is a Cloud Optimized GeoTIFF: its directories come first, then the tiles of
            each level, the smallest level first.
        ome: The file is an OME-TIFF: smaller levels are SubIFDs of the one page, which is
            described in OME-XML.

    Raises:
        OptionError: The size of tiles is no multiple of 16, or the file would be both.
    """

    type_name = "tiff"
    title = "pyramidal TIFF"
    shows_texts = True

    cog: bool = False
    ome: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cog and self.ome:
            raise OptionError("tiff: a file is either cog or ome; leave one of them out")
        size = self.pyramid.tile_size
        if size % TILE_UNIT:
            near = max(TILE_UNIT, round(size / TILE_UNIT) * TILE_UNIT)
            raise OptionError(
                f"tile size {size}: TIFF's tiles have sides of a multiple of {TILE_UNIT}; "
                f"expected {near}"
            )

    @classmethod
    def make_canvas(cls, width: int, height: int, tile_size: int, **parameters: Any) -> Canvas:
        """The image itself, under tiles that are filled up."""
        return Canvas(width, height, edge="fill")

    @property
    def image_name(self) -> str:
        """The name of the image, without the ending of OME-TIFF's names."""
        return self.name.removesuffix(".ome") or self.name

    @property
    def entry_point(self) -> str:
        """The file, `name.tif`."""
        return f"{self.name}.tif"

    def paths(self, tile: Tile) -> tuple[str, ...]:
        """Nothing: the file has all."""
        return ()

    def _parse_tile_path(self, name: str) -> Tile | None:
        return None

    def descriptors(self) -> dict[str, bytes]:
        """Nothing: the file has all."""
        return {}
