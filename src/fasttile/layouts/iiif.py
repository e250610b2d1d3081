"""IIIF Image API, level 0: a file for each URL that a client requests, and `info.json`.

Source: IIIF Image API 2.1.1 and 3.0. The URLs that clients request beyond the
canonical ones are those of OpenSeadragon and OpenLayers.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self
from urllib.parse import quote, urlsplit

from fasttile.abc.layout import Layout, WholeImage
from fasttile.errors import OptionError, SourceError
from fasttile.formats.documents import PARSE_ERRORS, encode_json, parse_json
from fasttile.geometry import Level, Pyramid, Tile

IIIF_DESCRIPTOR = "info.json"

MANIFEST_NAME = "manifest.json"
"""The manifest of an image, in the folder of its info.json; see `presentation`."""

MAX_LEVEL_IMAGE_SIDE = 2048
"""Longest side, in pixels, of the level images and thumbnails that are written beside the tiles."""

MAX_THUMBNAILS = 16
"""Most thumbnails of an image."""

_NOT_IN_PATHS = re.compile(r"[\s\0-\x1f?#{}<>\"\\^`|]")
"""Characters that end the path of an address, or have to be escaped in it (RFC 3986)."""

_TILE_PATH = re.compile(
    r"(?:full|([0-9]{1,13}),([0-9]{1,13}),[0-9]{1,13},[0-9]{1,13})/([0-9]{1,13}),"
)


@dataclass(frozen=True)
class Iiif(Layout):
    """Common base of versions 2 and 3.

    Args:
        name, pyramid, extension: As for all layouts.
        id: The URL of the result's folder, without a slash at its end; `{name}` in it
            is replaced by the name.
        thumbnails: Widths of further images, joined by plus signs: "90+200+400". Each is made of
            the next larger level. Those that the image has anyway, or that are larger than it
            or than `MAX_LEVEL_IMAGE_SIDE`, are left out.

    Raises:
        OptionError: The URL is not one of http or https, or the widths are none.
    """

    default_tile_size = 512
    allows_subtile_levels = True
    allows_missing_small_levels = False
    reads_missing_small_levels = True
    refused_formats = ("avif",)
    shows_texts = True
    context: ClassVar[str]

    id: str = ""
    thumbnails: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_thumbnails()
        try:
            parts = urlsplit(self.id)
            is_address = parts.scheme in ("http", "https") and bool(parts.netloc)
        except ValueError:  # brackets that are no IPv6 address
            is_address = False
        if not is_address:
            raise OptionError(
                f"{self.type_name} needs the address at which the result's folder will be served, "
                "for clients build all others on it: "
                f"{self.type_name}:id=https://example.org/{{name}}, not {self.id!r}"
            )

    @classmethod
    def from_size(cls, name: str, width: int, height: int, extension: str, **options: Any) -> Self:
        """The layout of an image of this size, see `Layout.from_size`.

        Raises:
            OptionError: A value cannot be used, or no client can add a path to the id.
        """
        made = super().from_size(name, width, height, extension, **options)
        if fault := _address_fault(made.id):
            raise OptionError(
                f"{cls.type_name}:id={made.id}: {fault}; expected an address such as "
                "https://example.org/iiif/{name}"
            )
        return made

    def _check_thumbnails(self) -> None:
        widths = self.thumbnails.split("+") if self.thumbnails else []
        for width in widths:
            digits = width.isascii() and width.isdecimal() and len(width) < 6
            if not (digits and 1 <= int(width) <= MAX_LEVEL_IMAGE_SIDE):
                raise OptionError(
                    f"{self.type_name}:thumbnails: {width!r} is no width from 1 to "
                    f"{MAX_LEVEL_IMAGE_SIDE} pixels; expected such as 90+200+400"
                )
        if len(widths) > MAX_THUMBNAILS:
            raise OptionError(
                f"{self.type_name}:thumbnails: {len(widths)} widths; at most {MAX_THUMBNAILS}"
            )

    @property
    def notes(self) -> tuple[str, ...]:
        """Thumbnails that this image does not get."""
        left_out = sorted(self._wanted_widths - {width for width, _ in self.sizes})
        if not left_out:
            return ()
        width, height = self.sizes[-1]
        names = ", ".join(map(str, left_out))
        return (f"no thumbnail of width {names}: the largest complete image is {width}×{height}",)

    @property
    def base_url(self) -> str:
        """The URL that clients build all others on."""
        return self.id.replace("{name}", quote(self.name, errors="surrogateescape")).rstrip("/")

    def path(self, tile: Tile) -> str:
        """The address of a tile, which may be that of one of the next larger level too.

        Regions of less than a pixel: of 513×200 pixels in tiles of 256, version 2 calls the last
        tile 512,0,1,200/1, whether it is 200 pixels high or 100.
        """
        own = self.paths(tile)
        return own[0] if own else self._file_path(*self._addresses(tile)[0])

    def paths(self, tile: Tile) -> tuple[str, ...]:
        """The canonical address, and others that clients ask for; none of larger levels' tiles."""
        found = dict.fromkeys(self._addresses(tile))
        if tile.level < self.pyramid.stored_range[-1]:
            children = self._addresses(Tile(tile.level + 1, 2 * tile.col, 2 * tile.row))
            for address in (
                *children,
                *self._larger_level_image_addresses(self.pyramid.levels[tile.level]),
            ):
                found.pop(address, None)
        return tuple(self._file_path(*address) for address in found)

    def _addresses(self, tile: Tile) -> list[tuple[str, str]]:
        """Region and size of all that is this tile, and of the whole level if that is no more."""
        level = self.pyramid.levels[tile.level]
        width, height = self.pyramid.size
        scale = self._scale_factor(level)
        x0, x1 = level.col_span(tile.col)
        y0, y1 = level.row_span(tile.row)
        x, y, right, bottom = x0 * scale, y0 * scale, x1 * scale, y1 * scale
        regions = [f"{x},{y},{min(right, width) - x},{min(bottom, height) - y}"]
        single_tile = level.tile_count == 1
        if single_tile:
            regions.insert(0, "full")
        sizes = [self._size(x1 - x0, y1 - y0)]
        if scale == 1 and (word := self._full_size_keyword(x1 - x0, is_full_image=single_tile)):
            sizes.append(word)
        found = [(region, size) for region in regions for size in sizes]
        return found + self._level_image_addresses(level) if single_tile else found

    def _larger_level_image_addresses(self, level: Level) -> list[tuple[str, str]]:
        """Region and size of the level image of the next larger level, if it has one."""
        larger = level.number + 1
        shown = [one for one in self._level_images if one.number == larger]
        return self._level_image_addresses(shown[0]) if shown else []

    def image_url(self, width: int, height: int) -> str:
        """The address of all of the image in one of its `sizes`."""
        path = self._file_path("full", f"{width},{height}").removeprefix(f"{self.root}/")
        return f"{self.base_url}/{path}"

    def _parse_tile_path(self, name: str) -> Tile | None:
        said = _TILE_PATH.match(name)
        if said is None:
            return None
        x, y, width = (int(digits or 0) for digits in said.groups())
        for level in reversed(self.pyramid.stored_levels):
            unit = self._scale_factor(level) * level.tile_size
            tile = Tile(level.number, x // unit, y // unit)
            if tile.col >= level.cols or tile.row >= level.rows:
                continue
            x0, x1 = level.col_span(tile.col)
            if x1 - x0 == width and self.paths(tile)[:1] == (f"{self.root}/{name}",):
                return tile
        return None

    def whole_images(self) -> tuple[WholeImage, ...]:
        """Level images of more than one tile, then thumbnails, from the smallest on."""
        found = []
        for level in self._level_images:
            if level.tile_count > 1:
                own = [
                    path
                    for path in self._level_image_addresses(level)
                    if path not in self._larger_level_image_addresses(level)
                ]
                paths = tuple(self._file_path(*path) for path in own)
                found.append(WholeImage(level.number, level.width, level.height, paths))
        for number, width, height in self._thumbnails:
            # Universal Viewer asks for thumbnails without a height.
            sizes = [self._size(width, height), f"{width},{height}", f"{width},"]
            if (width, height) == self.sizes[-1]:
                sizes.append("max")
            paths = tuple(self._file_path("full", size) for size in dict.fromkeys(sizes))
            found.append(WholeImage(number, width, height, paths))
        return tuple(found)

    def descriptors(self) -> dict[str, bytes]:
        """`info.json`."""
        return {f"{self.root}/{IIIF_DESCRIPTOR}": encode_json(self._info())}

    @abstractmethod
    def _info(self) -> dict[str, Any]:
        """What `info.json` says."""

    @abstractmethod
    def _size(self, width: int, height: int) -> str:
        """A size as the API's version writes it."""

    @abstractmethod
    def _full_size_keyword(self, tile_width: int, *, is_full_image: bool) -> str | None:
        """A keyword that clients use for the size of a region of the full size."""

    def _file_path(self, region: str, size: str) -> str:
        return f"{self.root}/{region}/{size}/0/default.{self.extension}"

    def _level_image_addresses(self, level: Level) -> list[tuple[str, str]]:
        """Region and size of all that is this level, as one image."""
        sizes = [self._size(level.width, level.height), f"{level.width},{level.height}"]
        if (level.width, level.height) == self.sizes[-1]:
            sizes.append("max")
            if self._scale_factor(level) == 1 and (
                word := self._full_size_keyword(level.width, is_full_image=True)
            ):
                sizes.append(word)
        return [("full", size) for size in dict.fromkeys(sizes)]

    def _scale_factor(self, level: Level) -> int:
        """How many pixels of the full size are one of the level's."""
        scale: int = 1 << (self.pyramid.stored_range[-1] - level.number)
        return scale

    @cached_property
    def _level_images(self) -> list[Level]:
        """The levels that have a level image, the smallest first.

        The largest one is not narrower and lower than a tile: `maxWidth` holds for tiles too.
        """
        bound, tile_size = max(MAX_LEVEL_IMAGE_SIDE, self.pyramid.tile_size), self.pyramid.tile_size
        found: list[Level] = []
        for level in self.pyramid.stored_levels:
            reaches_tile = not found or max(found[-1].width, found[-1].height) >= tile_size
            if max(level.width, level.height) > bound and reaches_tile:
                break
            found.append(level)
        return found

    @property
    def _wanted_widths(self) -> set[int]:
        return {int(width) for width in self.thumbnails.split("+") if width}

    @cached_property
    def _thumbnails(self) -> list[tuple[int, int, int]]:
        """Number of the level that each thumbnail is made of, width and height."""
        found, (full_width, full_height) = [], self.pyramid.size
        taken = {level.width for level in self._level_images}
        for width in sorted(self._wanted_widths - taken):
            height = max(1, (2 * full_height * width + full_width) // (2 * full_width))
            larger = [level for level in self.pyramid.stored_levels if level.width > width]
            if larger and height <= MAX_LEVEL_IMAGE_SIDE:
                found.append((larger[0].number, width, height))
        return found

    @property
    def _max_width(self) -> int | None:
        """Side of the square around the largest complete image, if it is smaller."""
        if not self.sizes:  # of a program that has neither them nor small levels
            return None
        return None if self.sizes[-1] == self.pyramid.size else max(self.sizes[-1])

    @cached_property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Width and height of each image of all of the image, in ascending order."""
        found = [(level.width, level.height) for level in self._level_images]
        return tuple(sorted(found + [thumbnail[1:] for thumbnail in self._thumbnails]))

    def _sizes(self) -> list[dict[str, int]]:
        return [{"width": width, "height": height} for width, height in self.sizes]

    def _tiles(self) -> list[dict[str, Any]]:
        scales = [self._scale_factor(level) for level in reversed(self.pyramid.stored_levels)]
        # OpenLayers 10 does not take a height that is not said for the width, in version 3.
        side = self.pyramid.tile_size
        return [{"width": side, "height": side, "scaleFactors": scales}]


@dataclass(frozen=True)
class Iiif2(Iiif):
    """IIIF Image API 2.

    Example:
        >>> layout = Iiif2.from_size("map", 1000, 600, "jpg", id="https://example.org/map")
        >>> layout.path(Tile(level=10, col=1, row=0))
        'map/512,0,488,512/488,/0/default.jpg'
    """

    type_name = "iiif2"
    title = "IIIF 2"
    context = "http://iiif.io/api/image/2/context.json"

    @classmethod
    def check_extension(cls, extension: str) -> None:
        """Refuse all but jpg, which level 0 requires.

        Raises:
            OptionError: It is another one.
        """
        if extension != "jpg":
            raise OptionError(
                f"{cls.type_name}: viewers of IIIF 2 at level 0 ask for jpg, not {extension}; use "
                "--format jpeg (format), or the layout iiif3"
            )

    def _info(self) -> dict[str, Any]:
        width, height = self.pyramid.size
        offers: dict[str, Any] = {"formats": [self.extension], "qualities": ["default"]}
        if self._max_width is not None:
            offers["maxWidth"] = self._max_width
        texts = {"attribution": self.texts.credit, "license": self.texts.rights}
        return {
            "@context": self.context,
            "@id": self.base_url,
            "protocol": "http://iiif.io/api/image",
            "width": width,
            "height": height,
            "profile": ["http://iiif.io/api/image/2/level0.json", offers],
            "tiles": self._tiles(),
            "sizes": self._sizes(),
            **{name: text for name, text in texts.items() if text},
        }

    def _size(self, width: int, height: int) -> str:
        return f"{width},"

    def _full_size_keyword(self, tile_width: int, *, is_full_image: bool) -> str | None:
        # OpenSeadragon takes any tile as wide as the image for one that is not scaled.
        return "full" if is_full_image or tile_width == self.pyramid.size[0] else None


@dataclass(frozen=True)
class Iiif3(Iiif):
    """IIIF Image API 3.

    Args:
        name, pyramid, extension, id, thumbnails: As for `Iiif`.
        manifest: True if a manifest is beside info.json, see `presentation`; a text: the CSV that
            has the descriptions.

    Example:
        >>> layout = Iiif3.from_size("map", 1000, 600, "jpg", id="https://example.org/{name}")
        >>> layout.path(Tile(level=10, col=1, row=0))
        'map/512,0,488,512/488,512/0/default.jpg'
    """

    type_name = "iiif3"
    title = "IIIF 3"
    context = "http://iiif.io/api/image/3/context.json"

    manifest: bool | str = False

    def further_files(self) -> tuple[str, ...]:
        """The manifest."""
        return (f"{self.root}/{MANIFEST_NAME}",) if self.manifest else ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Thumbnails that are left out; tiles that not all viewers ask for."""
        if self.extension == "jpg":
            return super().notes
        return (
            *super().notes,
            f"tiles are {self.extension}: viewers that know only what level 0 of IIIF requires ask "
            "for jpg, and show nothing",
        )

    def _info(self) -> dict[str, Any]:
        width, height = self.pyramid.size
        info: dict[str, Any] = {
            "@context": self.context,
            "id": self.base_url,
            "type": "ImageService3",
            "protocol": "http://iiif.io/api/image",
            "profile": "level0",
            "width": width,
            "height": height,
        }
        if self._max_width is not None:
            info["maxWidth"] = self._max_width
        info |= {"tiles": self._tiles(), "sizes": self._sizes()}
        if self.extension != "jpg":
            info |= {"preferredFormats": [self.extension], "extraFormats": [self.extension]}
        if self.texts.rights:
            info["rights"] = self.texts.rights
        return info

    def _size(self, width: int, height: int) -> str:
        return f"{width},{height}"

    def _full_size_keyword(self, tile_width: int, *, is_full_image: bool) -> str | None:
        return "max" if is_full_image else None


@dataclass(frozen=True)
class Iiif3OfWidths(Iiif3):
    """Version 3 with the sizes of version 2, without heights, as iiif_static.py writes it."""

    def _size(self, width: int, height: int) -> str:
        return f"{width},"


def _address_fault(address: str) -> str:
    """Why no client can ask for files below an address, or other files; "" if it can."""
    parts = urlsplit(address)
    if "{name}" in parts.netloc:
        return "{name} is part of the server's name"
    if "@" in parts.netloc:
        return "it has a user's name, which browsers refuse"
    with suppress(ValueError):
        if parts.port != 0:
            found = _NOT_IN_PATHS.search(address.replace("{name}", ""))
            return f"it has an unescaped {found[0]!r}" if found else ""
    return "its port is not from 1 to 65535"


def parse(name: str, text: str) -> Iiif:
    """The layout of an `info.json`.

    Raises:
        SourceError: The text is no description of an image of level 0, tiled with squares.
    """
    try:
        info = parse_json(text)
        kinds = {kind.context: kind for kind in (Iiif2, Iiif3)}
        context = info["@context"]
        kind = kinds[context[-1] if isinstance(context, list) else context]
        tiles = info["tiles"][0]
        scales = [int(scale) for scale in tiles["scaleFactors"]]
        if int(tiles.get("height", tiles["width"])) != int(tiles["width"]):
            raise ValueError("its tiles are not squares")
        full_pyramid = Pyramid.from_size(
            int(info["width"]), int(info["height"]), tile_size=int(tiles["width"]), overlap=0
        )
        first = full_pyramid.level_count - len(scales)
        if first < 0 or sorted(scales) != [1 << n for n in range(len(scales))]:
            raise ValueError(f"its {len(scales)} scale factors are not 1, 2, 4 …")
        # A size that is half of a level and fits into one tile is a tile too.
        sizes = {(int(size["width"]), int(size["height"])) for size in info.get("sizes", ())}
        while 0 < first > full_pyramid.single_tile_level:
            level = full_pyramid.levels[first - 1]
            if (level.width, level.height) not in sizes or level.tile_count > 1:
                break
            first -= 1
        pyramid = Pyramid(full_pyramid.canvas, full_pyramid.tile_size, 0, first)
        profile = info["profile"]
        offers = profile[1] if isinstance(profile, list) and len(profile) > 1 else {}
        formats = info.get("preferredFormats") or offers.get("formats") or ["jpg"]
        layout = kind(name, pyramid, str(formats[0]), info.get("id") or info["@id"])
        return _with_thumbnails(layout, sizes)
    except PARSE_ERRORS as error:
        fault = f"nothing of {error}" if isinstance(error, KeyError) else str(error)
        raise SourceError(f"{IIIF_DESCRIPTOR} of {name} cannot be used: {fault}") from error


def _with_thumbnails(layout: Iiif, sizes: set[tuple[int, int]]) -> Iiif:
    """The layout with those sizes that are neither a level's nor beyond what fasttile makes."""
    others = sorted(width for width, _ in sizes - {*layout.sizes})
    widths = [width for width in others if 1 <= width <= MAX_LEVEL_IMAGE_SIDE][:MAX_THUMBNAILS]
    candidate = replace(layout, thumbnails="+".join(map(str, widths)))
    made = sizes.intersection(candidate.sizes).difference(layout.sizes)
    return replace(layout, thumbnails="+".join(str(width) for width, _ in sorted(made)))
