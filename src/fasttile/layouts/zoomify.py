"""Zoomify: `TileGroup0/tier-col-row.ext` and `ImageProperties.xml`.

Sources: the ZoomifyImage scripts, and what Zoomify's own converter counts. They halve rounding
down; libvips and OpenLayers' default round up, which makes other tiles of some sizes. See
docs/ARCHITECTURE.md.

A TileGroup holds 256 tiles for OpenSeadragon and libvips, and as many tiles as a tile has pixels on
a side for OpenLayers (`ol/source/Zoomify`) and PanoJS. For tiles of 256 pixels both are the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal, Self

from fasttile.abc.layout import Layout, match_numbers
from fasttile.errors import OptionError, SourceError, did_you_mean
from fasttile.formats.documents import parse_xml
from fasttile.geometry import Canvas, Tile

ZOOMIFY_DESCRIPTOR = "ImageProperties.xml"

_TILE_PATH = re.compile(r"TileGroup[0-9]+/([0-9]{1,2})-([0-9]{1,13})-([0-9]{1,13})\.")


@dataclass(frozen=True)
class Zoomify(Layout):
    """The paths and descriptor of Zoomify's tiles.

    Args:
        name, pyramid, extension: As for all layouts.
        rounding: Odd sizes halve to "floor", as with Zoomify's own tools, or to "ceil".
        group: Tiles in a TileGroup: "256", or "tile-size", as many as a tile has pixels on a side.

    Example:
        >>> layout = Zoomify.from_size("map", 1000, 600, "jpg")
        >>> layout.path(Tile(level=9, col=3, row=2))
        'map/TileGroup0/2-3-2.jpg'
    """

    type_name = "zoomify"
    title = "Zoomify"
    allows_missing_small_levels = False

    rounding: Literal["floor", "ceil"] = "floor"
    group: Literal["256", "tile-size"] = "256"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_rounding(self.rounding)
        if self.group not in ("256", "tile-size"):
            near = did_you_mean(str(self.group), ("tile-size",))
            raise OptionError(f"group {self.group!r} is neither 256 nor tile-size{near}")

    @classmethod
    def make_canvas(cls, width: int, height: int, tile_size: int, **parameters: Any) -> Canvas:
        """The image itself."""
        rounding = parameters.get("rounding", "floor")
        _check_rounding(rounding)
        return Canvas(width, height, rounding="down" if rounding == "floor" else "up")

    @classmethod
    def parse(
        cls,
        name: str,
        text: str,
        extension: str,
        tier_0_size: Callable[[], tuple[int, int] | None] = lambda: None,
    ) -> Self:
        """The layout of a descriptor.

        The number of tiles usually shows how sizes are rounded.

        Args:
            name, extension: As for all layouts.
            text: The descriptor's.
            tier_0_size: Returns width and height of tier 0; called if the number shows nothing.

        Raises:
            SourceError: The text is no descriptor of a Zoomify image.
        """
        try:
            properties = parse_xml(text)
            if properties.tag != "IMAGE_PROPERTIES":
                raise SourceError(
                    f"{ZOOMIFY_DESCRIPTOR} of {name} is not the descriptor of an image"
                )
            width, height, size, count = (
                int(properties.attrib[key]) for key in ("WIDTH", "HEIGHT", "TILESIZE", "NUMTILES")
            )
            layouts = [
                cls.from_size(name, width, height, extension, tile_size=size, rounding=rounding)
                for rounding in ("floor", "ceil")
            ]
            likely = [layout for layout in layouts if layout.pyramid.tile_count == count]
            if not likely:
                raise SourceError(
                    f"{ZOOMIFY_DESCRIPTOR} of {name}: {width}×{height} pixels "
                    f"do not make {count} tiles"
                )
            sizes = [layout.pyramid.stored_levels[0].inset[2:] for layout in likely]
            if len(set(sizes)) > 1 and (size_of_tier_0 := tier_0_size()) in sizes:
                return likely[sizes.index(size_of_tier_0)]
            return likely[0]
        except KeyError as error:
            raise SourceError(f"{ZOOMIFY_DESCRIPTOR} of {name} has no {error}") from error
        except ValueError as error:
            raise SourceError(f"{ZOOMIFY_DESCRIPTOR} of {name} cannot be read: {error}") from error

    @property
    def tiles_per_group(self) -> int:
        """Number of tiles in a TileGroup."""
        return 256 if self.group == "256" else self.pyramid.tile_size

    def group_samples(self, count: int) -> list[Tile]:
        """Tiles from all over the pyramid, at most `count`, whose path `group` changes."""
        smaller = min(256, self.pyramid.tile_size)
        if self.pyramid.tile_size == 256:
            return []
        # Where a group of the smaller kind begins, fewer groups of the larger kind came before.
        starts = range(smaller, self.pyramid.tile_count, smaller)
        step = max(1, -(-len(starts) // count))
        return [self._tile_of_number(start) for start in starts[::step]]

    def _tile_of_number(self, number: int) -> Tile:
        """The tile before which `number` tiles are stored."""
        for level in self.pyramid.stored_levels:
            if number < level.tile_count:
                break
            number -= level.tile_count
        return Tile(level.number, number % level.cols, number // level.cols)

    def paths(self, tile: Tile) -> tuple[str, ...]:
        """The path of a tile."""
        cols, before = self._columns_and_offsets[tile.level]
        group = (before + tile.row * cols + tile.col) // self.tiles_per_group
        tier = tile.level - self.base_level
        return (f"{self.root}/TileGroup{group}/{tier}-{tile.col}-{tile.row}.{self.extension}",)

    def _parse_tile_path(self, name: str) -> Tile | None:
        numbers = match_numbers(_TILE_PATH, name)
        if numbers is None:
            return None
        tier, col, row = numbers
        return Tile(self.base_level + tier, col, row)

    def descriptors(self) -> dict[str, bytes]:
        """`ImageProperties.xml`, in one line, as other tools read it."""
        width, height = self.pyramid.size
        text = (
            f'<IMAGE_PROPERTIES WIDTH="{width}" HEIGHT="{height}" '
            f'NUMTILES="{self.pyramid.tile_count}" NUMIMAGES="1" VERSION="1.8" '
            f'TILESIZE="{self.pyramid.tile_size}" />\n'
        )
        return {f"{self.root}/{ZOOMIFY_DESCRIPTOR}": text.encode()}

    @cached_property
    def _columns_and_offsets(self) -> dict[int, tuple[int, int]]:
        """For each stored level, its columns, and the number of tiles of smaller levels."""
        levels = self.pyramid.stored_levels
        before = accumulate((level.tile_count for level in levels), initial=0)
        return {level.number: (level.cols, n) for level, n in zip(levels, before, strict=False)}


def _check_rounding(rounding: str) -> None:
    if rounding not in ("floor", "ceil"):
        near = did_you_mean(str(rounding), ("floor", "ceil"))
        raise OptionError(f"rounding {rounding!r} is neither floor nor ceil{near}")
