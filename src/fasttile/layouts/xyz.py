"""What layouts of square canvases have in common: tile size times a power of two, and zooms."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal
from urllib.parse import quote

from fasttile.abc.layout import Layout, match_numbers
from fasttile.errors import OptionError
from fasttile.geometry import Canvas, Cover, Region, Tile
from fasttile.layouts import tilejson as tilesjson

Anchor = Literal["top left", "bottom left", "centre"]


@dataclass(frozen=True)
class ZoomLayout(Layout):
    """A layout whose level 0 is one tile that shows all, and each further one four times as many.

    The image lies on a square of tile_size · 2^n pixels; the rest is background, and tiles that
    would show nothing else are left out.

    Attributes:
        anchor: Where in the square the image lies, unless it is centred.
        cover: Whether tiles of nothing but background are left out.
    """

    anchor: ClassVar[Anchor] = "top left"
    cover: ClassVar[Cover] = "picture"
    sparse = True

    @classmethod
    def make_canvas(cls, width: int, height: int, tile_size: int, **parameters: Any) -> Canvas:
        """The smallest such square that holds the image."""
        side = tile_size
        while side < max(width, height):
            side *= 2
        x, y = _image_corner(cls._anchor_for(**parameters), side - width, side - height)
        return Canvas(side, side, Region(x, y, width, height), cover=cls.cover)

    @classmethod
    def _anchor_for(cls, *, centre: bool = False, **_: Any) -> Anchor:
        return "centre" if centre else cls.anchor

    def zoom(self, tile: Tile) -> int:
        """The layout's own number of a tile's level: 0 is one tile."""
        return tile.level - self.base_level

    def address(self, tile: Tile) -> tuple[int, int, int]:
        """Zoom, column and row of a tile on the complete square, rows counted from the top."""
        level = self.pyramid.levels[tile.level]
        return self.zoom(tile), level.first_col + tile.col, level.first_row + tile.row

    def address_from_bottom(self, tile: Tile) -> tuple[int, int, int]:
        """The same, rows counted from the bottom."""
        zoom, col, row = self.address(tile)
        return zoom, col, (1 << zoom) - 1 - row

    def tile_at_address(self, zoom: int, col: int, row: int) -> Tile | None:
        """The other way round: the tile that an address means, or None for no such zoom."""
        number = self.base_level + zoom
        if not 0 <= number < self.pyramid.level_count:
            return None
        level = self.pyramid.levels[number]
        return Tile(number, col - level.first_col, row - level.first_row)

    def tile_at_bottom_address(self, zoom: int, col: int, row: int) -> Tile | None:
        """The same, rows counted from the bottom."""
        return self.tile_at_address(zoom, col, (1 << zoom) - 1 - row)


def _image_corner(anchor: Anchor, right: int, below: int) -> tuple[int, int]:
    """The image's top left corner, with so much room to its right and below it."""
    if anchor == "centre":
        return right // 2, below // 2
    return 0, below if anchor == "bottom left" else 0


# XYZ: `z/x/y.ext`, rows from the top, as Google's and OpenStreetMap's tiles have it.
#
# Any other naming of the same tiles is a template: `{z}/{y}/{x}`, `{z}-{x}-{y}`, `{quadkey}` …

DEFAULT_TEMPLATE = "{z}/{x}/{y}"
_FIELD_PATTERNS = {
    "z": "[0-9]{1,2}",
    "x": "[0-9]{1,13}",
    "y": "[0-9]{1,13}",
    "quadkey": "[0-3]{0,40}",
}
"""The fields of a template, and how their values look."""


@dataclass(frozen=True)
class Xyz(ZoomLayout):
    """Where XYZ tiles live.

    Args:
        name, pyramid, extension: As for all layouts.
        template: How tiles are named below the folder, without the ending, out of `{z}`, `{x}`,
            `{y}` and `{quadkey}`.
        centre: Whether the image lies in the middle of the square, not at its top left.

    Raises:
        OptionError: The template gives two tiles one path, or leads out of the folder.

    Example:
        >>> layout = Xyz.from_size("map", 1000, 600, "jpg")
        >>> layout.path(Tile(level=10, col=3, row=2))
        'map/2/3/2.jpg'
        >>> Xyz.from_size("map", 1000, 600, "jpg", template="{z}-{y}-{x}").path(Tile(10, 3, 2))
        'map/2-2-3.jpg'
    """

    type_name = "xyz"
    title = "XYZ"

    template: str = DEFAULT_TEMPLATE
    centre: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_template(self.template)

    def paths(self, tile: Tile) -> tuple[str, ...]:
        """Where a tile lives."""
        zoom, col, row = self.address(tile)
        key = quadkey(zoom, col, row) if "{quadkey}" in self.template else ""
        where = self.template.format(z=zoom, x=col, y=row, quadkey=key)
        return (f"{self.root}/{where}.{self.extension}",)

    def _parse_tile_path(self, name: str) -> Tile | None:
        found = self._tile_path_pattern.match(name)
        if found is None:
            return None
        said = found.groupdict()
        if "quadkey" in said:
            return self.tile_at_address(*_quadkey_address(said["quadkey"]))
        return self.tile_at_address(*(int(said[field]) for field in ("z", "x", "y")))

    @cached_property
    def _tile_path_pattern(self) -> re.Pattern[str]:
        """What finds the fields in a tile's name."""
        text, known = "", set()
        for part in re.split(r"(\{\w+\})", self.template):
            field = part.strip("{}")
            if not part.startswith("{"):
                text += re.escape(part)
            elif field in known:
                text += f"(?P={field})"
            else:
                text += f"(?P<{field}>{_FIELD_PATTERNS[field]})"
                known.add(field)
        return re.compile(text + r"\.")

    def descriptors(self) -> dict[str, bytes]:
        """`tiles.json`, in the tiles' folder."""
        template = f"{self.template}.{self.extension}"
        text = tilesjson.descriptor_text(
            self, template, "xyz", template=self.template, centre=self.centre
        )
        return {f"{self.root}/{tilesjson.FILE_NAME}": text}


def quadkey(zoom: int, col: int, row: int) -> str:
    """A digit of 0 to 3 for each zoom, as Bing Maps names tiles; nothing at zoom 0.

    Example:
        >>> quadkey(3, 3, 5)
        '213'
    """
    return "".join(str((col >> bit & 1) + 2 * (row >> bit & 1)) for bit in range(zoom - 1, -1, -1))


def _quadkey_address(key: str) -> tuple[int, int, int]:
    """Zoom, column and row that a quadkey names."""
    col = row = 0
    for digit in map(int, key):
        col, row = 2 * col + digit % 2, 2 * row + digit // 2
    return len(key), col, row


def _check_template(template: str) -> None:
    fields = re.findall(r"\{(.*?)\}", template)
    for field in fields:
        if field not in _FIELD_PATTERNS:
            raise OptionError(
                f"template {template!r}: {{{field}}} is none of {{z}}, {{x}}, {{y}}, {{quadkey}}"
            )
    if "quadkey" not in fields and not {"z", "x", "y"} <= set(fields):
        raise OptionError(f"template {template!r} needs {{z}}, {{x}} and {{y}}, or {{quadkey}}")
    if re.search(r"[{}]", re.sub(r"\{\w+\}", "", template)):
        raise OptionError(f"template {template!r} has a brace without its other half")
    if re.search(r"\}[0-9]*\{", template):
        raise OptionError(f"template {template!r} needs more than digits between its fields")
    parts = template.split("/")
    if "\\" in template or not template.isprintable() or any(p in ("", ".", "..") for p in parts):
        raise OptionError(f"template {template!r} is no path below the tiles' folder")


# TileCache's disk cache: each number in folders of three digits, rows from the bottom.
#
# OpenLayers 2 reads it as plain files (`Layer.TileCache`).

_TILECACHE_PATH = re.compile(
    r"([0-9]{2})/([0-9]{3}/[0-9]{3}/[0-9]{3})/([0-9]{3}/[0-9]{3}/[0-9]{3})\."
)


@dataclass(frozen=True)
class TileCache(ZoomLayout):
    """Where the tiles of a TileCache disk cache live. The image lies at the bottom left.

    Example:
        >>> layout = TileCache.from_size("map", 1000, 600, "jpg")
        >>> layout.path(Tile(level=10, col=3, row=2))
        'map/02/000/000/003/000/000/000.jpg'
    """

    type_name = "tilecache"
    title = "TileCache"
    anchor = "bottom left"

    def paths(self, tile: Tile) -> tuple[str, ...]:
        """Where a tile lives."""
        zoom, col, row = self.address_from_bottom(tile)
        where = f"{zoom:02}/{_triplet_path(col)}/{_triplet_path(row)}"
        return (f"{self.root}/{where}.{self.extension}",)

    def _parse_tile_path(self, name: str) -> Tile | None:
        numbers = match_numbers(_TILECACHE_PATH, name)
        return None if numbers is None else self.tile_at_bottom_address(*numbers)

    def descriptors(self) -> dict[str, bytes]:
        """`tiles.json`, in the tiles' folder; no client reads this template by itself."""
        template = "{zz}/{xxx}/{xxx}/{xxx}/{yyy}/{yyy}/{yyy}." + self.extension
        return {
            f"{self.root}/{tilesjson.FILE_NAME}": tilesjson.descriptor_text(self, template, "tms")
        }


def _triplet_path(number: int) -> str:
    """Nine digits, in three folders."""
    digits = f"{number:09}"
    return f"{digits[:3]}/{digits[3:6]}/{digits[6:]}"


# GSIV and PanoJS: `tile-z-x-y.ext`, all in one folder; level 0 shows the whole image.
#
# Source: what PanoJS.js asks for, and what the tilemaker script beside it makes.

TILE_PREFIX = "tile-"

_GSIV_PATH = re.compile(TILE_PREFIX + r"([0-9]{1,2})-([0-9]{1,13})-([0-9]{1,13})\.")


@dataclass(frozen=True)
class Gsiv(ZoomLayout):
    """Where GSIV's tiles live. All tiles of the square are there, for its page asks for them.

    Args:
        name, pyramid, extension: As for all layouts.
        centre: Whether the image lies in the middle of the square, not at its top left.

    Example:
        >>> layout = Gsiv.from_size("map", 1000, 600, "jpg")
        >>> layout.path(Tile(level=10, col=3, row=2))
        'map/tile-2-3-2.jpg'
    """

    type_name = "gsiv"
    title = "GSIV"
    cover = "canvas"

    centre: bool = True

    @classmethod
    def _anchor_for(cls, *, centre: bool = True, **_: Any) -> Anchor:
        return "centre" if centre else cls.anchor

    def paths(self, tile: Tile) -> tuple[str, ...]:
        """Where a tile lives."""
        zoom, col, row = self.address(tile)
        return (f"{self.root}/{TILE_PREFIX}{zoom}-{col}-{row}.{self.extension}",)

    def _parse_tile_path(self, name: str) -> Tile | None:
        numbers = match_numbers(_GSIV_PATH, name)
        return None if numbers is None else self.tile_at_address(*numbers)

    def descriptors(self) -> dict[str, bytes]:
        """`tiles.json`, which has the numbers that a page needs under PanoJS' own names."""
        numbers = {
            "tileBaseUri": quote(self.name, errors="surrogateescape"),
            "tilePrefix": TILE_PREFIX,
            "tileExtension": self.extension,
            "tileSize": self.pyramid.tile_size,
            "maxZoom": self.pyramid.stored_range[-1] - self.base_level,
        }
        template = f"{TILE_PREFIX}{{z}}-{{x}}-{{y}}.{self.extension}"
        text = tilesjson.descriptor_text(
            self, template, "xyz", cover=self.cover, centre=self.centre, page=numbers
        )
        return {f"{self.root}/{tilesjson.FILE_NAME}": text}
