"""Layouts of square canvases, with zooms: XYZ, TileCache and GSIV."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Self
from urllib.parse import quote

from fasttile.abc.layout import Layout, match_numbers
from fasttile.errors import OptionError, did_you_mean
from fasttile.geometry import Canvas, Cover, Region, Tile
from fasttile.layouts import tilejson

Anchor = Literal["top left", "bottom left"]


@dataclass(frozen=True)
class ZoomLayout(Layout):
    """A layout whose zoom 0 is one tile; each further zoom has four times the tiles.

    The image is on a square of tile_size · 2^n pixels; the rest is background, and tiles of nothing
    but background are left out.

    Attributes:
        anchor: The image's place in the square, unless it is centred.
        cover: "picture" to leave out tiles of nothing but background, "canvas" to make all.
    """

    anchor: ClassVar[Anchor] = "top left"
    cover: ClassVar[Cover] = "picture"
    sparse = True
    shows_texts = True

    @classmethod
    def make_canvas(cls, width: int, height: int, tile_size: int, **parameters: Any) -> Canvas:
        """The smallest square that holds the image."""
        side = tile_size
        while side < max(width, height):
            side *= 2
        right, below = side - width, side - height
        x, y = 0, below if cls.anchor == "bottom left" else 0
        if parameters.get("centre", getattr(cls, "centre", False)):
            x, y = right // 2, below // 2
        return Canvas(side, side, Region(x, y, width, height), cover=cls.cover)

    def zoom(self, tile: Tile) -> int:
        """The zoom of a tile: 0 is one tile."""
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
        """The tile at an address, rows counted from the top; None if there is no such zoom."""
        number = self.base_level + zoom
        if not 0 <= number < self.pyramid.level_count:
            return None
        level = self.pyramid.levels[number]
        return Tile(number, col - level.first_col, row - level.first_row)

    def tile_at_bottom_address(self, zoom: int, col: int, row: int) -> Tile | None:
        """The same, rows counted from the bottom."""
        return self.tile_at_address(zoom, col, (1 << zoom) - 1 - row)


DEFAULT_TEMPLATE = "{z}/{x}/{y}"
_FIELD_PATTERNS = {
    "z": "[0-9]{1,2}",
    "x": "[0-9]{1,13}",
    "y": "[0-9]{1,13}",
    "quadkey": "[0-3]{0,40}",
}
"""The fields of a template, and the pattern of their values."""


RETINA_SUFFIX = "@2x"
"""Suffix of dense screens' tiles, before the extension: Leaflet's {r}, MapLibre's {ratio}."""


@dataclass(frozen=True)
class Xyz(ZoomLayout):
    """The paths of XYZ tiles: `z/x/y.ext`, rows from the top, as OpenStreetMap's.

    With a scale of 2, the tiles are those of dense screens, `z/x/y@2x.ext`, and beside each is its
    half for other screens, `z/x/y.ext`, of the same part of the image. So each zoom has both, and
    the largest one has the image's own pixels in `@2x`.

    Args:
        name, pyramid, extension: As for all layouts.
        template: The tiles' names below the folder, without the extension, with `{z}`, `{x}`,
            `{y}` and `{quadkey}`: `{z}-{x}-{y}`, `{quadkey}` …
        centre: The image is in the middle of the square, not at its top left.
        scale: 1, or 2 for tiles of two sizes.

    Raises:
        OptionError: The template gives two tiles one path, or leads out of the folder.

    Example:
        >>> layout = Xyz.from_size("map", 1000, 600, "jpg")
        >>> layout.path(Tile(level=10, col=3, row=2))
        'map/2/3/2.jpg'
        >>> Xyz.from_size("map", 1000, 600, "jpg", template="{z}-{y}-{x}").path(Tile(10, 3, 2))
        'map/2-2-3.jpg'
        >>> layout = Xyz.from_size("map", 1000, 600, "jpg", scale=2)
        >>> layout.pyramid.tile_size, layout.path(Tile(10, 1, 1)), layout.half_path(Tile(10, 1, 1))
        (512, 'map/1/1/1@2x.jpg', 'map/1/1/1.jpg')
    """

    type_name = "xyz"
    title = "XYZ"

    template: str = DEFAULT_TEMPLATE
    centre: bool = False
    scale: int = 1

    @classmethod
    def from_size(cls, name: str, width: int, height: int, extension: str, **options: Any) -> Self:
        """As `Layout.from_size`; `tile_size` is that of a scale of 1."""
        size, scale = options.pop("tile_size", None), options.get("scale", 1)
        size = cls.default_tile_size if size is None else size
        _check_scale(scale)
        options["tile_size"] = size * scale
        return super().from_size(name, width, height, extension, **options)

    def __post_init__(self) -> None:
        super().__post_init__()
        template = self.template
        _check_scale(self.scale)
        if self.pyramid.tile_size % self.scale:
            raise OptionError(f"tile size {self.pyramid.tile_size} has no half")
        fields = re.findall(r"\{(.*?)\}", template)
        for field in fields:
            if field not in _FIELD_PATTERNS:
                raise OptionError(
                    f"template {template!r}: {{{field}}} is none of {{z}}, {{x}}, {{y}}, "
                    f"{{quadkey}}{did_you_mean(field, _FIELD_PATTERNS)}"
                )
        if "quadkey" not in fields and not {"z", "x", "y"} <= set(fields):
            raise OptionError(f"template {template!r} needs {{z}}, {{x}} and {{y}}, or {{quadkey}}")
        if re.search(r"[{}]", re.sub(r"\{\w+\}", "", template)):
            raise OptionError(f"template {template!r} has a brace without its other half")
        if re.search(r"\}[0-9]*\{", template):
            raise OptionError(f"template {template!r} needs more than digits between its fields")
        parts = template.split("/")
        if (
            "\\" in template
            or not template.isprintable()
            or any(p in ("", ".", "..") for p in parts)
        ):
            raise OptionError(f"template {template!r} is no path below the tiles' folder")

    def paths(self, tile: Tile) -> tuple[str, ...]:
        """The path of a tile."""
        zoom, col, row = self.address(tile)
        key = quadkey(zoom, col, row) if "{quadkey}" in self.template else ""
        where = self.template.format(z=zoom, x=col, y=row, quadkey=key)
        return (f"{self.root}/{where}{self._suffix}.{self.extension}",)

    @property
    def has_halves(self) -> bool:
        """True with a scale of 2."""
        return self.scale == 2

    @property
    def _suffix(self) -> str:
        return RETINA_SUFFIX if self.has_halves else ""

    def half_path(self, tile: Tile) -> str:
        """The path of a tile for usual screens, with a scale of 2."""
        stem = self.path(tile).removesuffix(f"{self._suffix}.{self.extension}")
        return f"{stem}.{self.extension}"

    def tile_of_half(self, path: str) -> Tile | None:
        """The tile of dense screens beside a tile of usual ones."""
        ending = f".{self.extension}"
        if not self.has_halves or not path.endswith(ending):
            return None
        return self.tile_at(f"{path.removesuffix(ending)}{self._suffix}{ending}")

    def _parse_tile_path(self, name: str) -> Tile | None:
        match = self._tile_path_pattern.match(name)
        if match is None:
            return None
        values = match.groupdict()
        if "quadkey" in values:
            return self.tile_at_address(*_quadkey_address(values["quadkey"]))
        return self.tile_at_address(*(int(values[field]) for field in ("z", "x", "y")))

    @cached_property
    def _tile_path_pattern(self) -> re.Pattern[str]:
        """The pattern of the fields in a tile's name."""
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
        return re.compile(text + self._suffix + r"\.")

    def descriptors(self) -> dict[str, bytes]:
        """`tiles.json`, in the tiles' folder."""
        template = f"{self.template}.{self.extension}"
        members: dict[str, Any] = {"template": self.template, "centre": self.centre}
        if self.has_halves:  # those that every client may show
            members |= {"scale": self.scale, "tile_size": self.pyramid.tile_size // self.scale}
        text = tilejson.descriptor_text(self, template, "xyz", **members)
        return {f"{self.root}/{tilejson.FILE_NAME}": text}


def _check_scale(scale: object) -> None:
    if scale not in (1, 2):
        raise OptionError(f"scale {scale!r} is neither 1 nor 2")


def quadkey(zoom: int, col: int, row: int) -> str:
    """A digit of 0 to 3 for each zoom, as Bing Maps names tiles; nothing at zoom 0.

    Example:
        >>> quadkey(3, 3, 5)
        '213'
    """
    return "".join(str((col >> bit & 1) + 2 * (row >> bit & 1)) for bit in range(zoom - 1, -1, -1))


def _quadkey_address(key: str) -> tuple[int, int, int]:
    """Zoom, column and row of a quadkey."""
    col = row = 0
    for digit in map(int, key):
        col, row = 2 * col + digit % 2, 2 * row + digit // 2
    return len(key), col, row


_TILECACHE_PATH = re.compile(
    r"([0-9]{2})/([0-9]{3}/[0-9]{3}/[0-9]{3})/([0-9]{3}/[0-9]{3}/[0-9]{3})\."
)


@dataclass(frozen=True)
class TileCache(ZoomLayout):
    """The paths of a TileCache disk cache: numbers in folders of three digits.

    Rows count from the bottom; the image is at the bottom left. OpenLayers 2 reads it as plain
    files (`Layer.TileCache`).

    Example:
        >>> layout = TileCache.from_size("map", 1000, 600, "jpg")
        >>> layout.path(Tile(level=10, col=3, row=2))
        'map/02/000/000/003/000/000/000.jpg'
    """

    type_name = "tilecache"
    title = "TileCache"
    anchor = "bottom left"

    def paths(self, tile: Tile) -> tuple[str, ...]:
        """The path of a tile."""
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
            f"{self.root}/{tilejson.FILE_NAME}": tilejson.descriptor_text(self, template, "tms")
        }


def _triplet_path(number: int) -> str:
    """Nine digits, in three folders."""
    digits = f"{number:09}"
    return f"{digits[:3]}/{digits[3:6]}/{digits[6:]}"


TILE_PREFIX = "tile-"

_GSIV_PATH = re.compile(TILE_PREFIX + r"([0-9]{1,2})-([0-9]{1,13})-([0-9]{1,13})\.")


@dataclass(frozen=True)
class Gsiv(ZoomLayout):
    """The paths of GSIV's and PanoJS' tiles: `tile-z-x-y.ext`, all in one folder.

    All tiles of the square are made, because PanoJS requests them. Source: PanoJS.js and the
    tilemaker script beside it.

    Args:
        name, pyramid, extension: As for all layouts.
        centre: The image is in the middle of the square, not at its top left.

    Example:
        >>> layout = Gsiv.from_size("map", 1000, 600, "jpg")
        >>> layout.path(Tile(level=10, col=3, row=2))
        'map/tile-2-3-2.jpg'
    """

    type_name = "gsiv"
    title = "GSIV"
    cover = "canvas"

    centre: bool = True

    def paths(self, tile: Tile) -> tuple[str, ...]:
        """The path of a tile."""
        zoom, col, row = self.address(tile)
        return (f"{self.root}/{TILE_PREFIX}{zoom}-{col}-{row}.{self.extension}",)

    def _parse_tile_path(self, name: str) -> Tile | None:
        numbers = match_numbers(_GSIV_PATH, name)
        return None if numbers is None else self.tile_at_address(*numbers)

    def descriptors(self) -> dict[str, bytes]:
        """`tiles.json`, with the numbers that a page needs under PanoJS' names."""
        numbers = {
            "tileBaseUri": quote(self.name, errors="surrogateescape"),
            "tilePrefix": TILE_PREFIX,
            "tileExtension": self.extension,
            "tileSize": self.pyramid.tile_size,
            "maxZoom": self.pyramid.stored_range[-1] - self.base_level,
        }
        template = f"{TILE_PREFIX}{{z}}-{{x}}-{{y}}.{self.extension}"
        text = tilejson.descriptor_text(
            self, template, "xyz", cover=self.cover, centre=self.centre, page=numbers
        )
        return {f"{self.root}/{tilejson.FILE_NAME}": text}
