"""What all layouts have: an image's name, its pyramid, and where each tile lives. No I/O."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

from fasttile.errors import OptionError
from fasttile.geometry import Canvas, Pyramid, Tile
from fasttile.options.cut import check_levels


@dataclass(frozen=True)
class Layout(ABC):
    """Where the tiles of one image live, and what announces them.

    The further fields of a subclass are its parameters, which a user may give after its kind;
    `of` gives them to `canvas` too. All paths have forward slashes and stand below the folder
    that holds the result.

    Args:
        name: The image's name, one path component.
        pyramid: Its geometry, on this layout's canvas.
        extension: The tiles' file ending without a dot, ASCII letters and digits.

    Attributes:
        kind: What it is called in options.
        title: What it is called in messages.
        default_tile_size, default_overlap, default_format, default_levels: For who does not say.
        overlaps: Whether tiles may overlap.
        pixel_levels: Whether levels smaller than one tile may be kept.
        first_level: Whether the smallest levels may be left out.
        sparse: Whether tiles may be left out where there is nothing to see.

    Raises:
        OptionError: One of them does not fit the layout.
    """

    type_name: ClassVar[str]
    title: ClassVar[str]
    default_tile_size: ClassVar[int] = 256
    default_overlap: ClassVar[int] = 0
    default_format: ClassVar[str] = "jpeg"
    default_levels: ClassVar[str] = "one-tile"
    allows_overlap: ClassVar[bool] = False
    allows_subtile_levels: ClassVar[bool] = False
    allows_missing_small_levels: ClassVar[bool] = True
    sparse: ClassVar[bool] = False

    name: str
    pyramid: Pyramid
    extension: str

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or "\0" in self.name or self.root in (".", ".."):
            raise OptionError(f"name {self.name!r} is not one path component")
        if not (self.extension.isascii() and self.extension.isalnum()):
            raise OptionError(
                f"file ending {self.extension!r} is not made of ASCII letters and digits"
            )
        pyramid = self.pyramid
        if pyramid.overlap and not self.allows_overlap:
            raise OptionError(f"{self.title} tiles do not overlap: overlap has to be 0")
        if pyramid.first_level < pyramid.single_tile_level and not self.allows_subtile_levels:
            raise OptionError(f"{self.title} has no levels that are smaller than one tile")
        if pyramid.first_level > self.base_level and not self.allows_missing_small_levels:
            raise OptionError(f"{self.title} has to have all of its smallest levels")

    @classmethod
    def from_size(
        cls,
        name: str,
        width: int,
        height: int,
        extension: str,
        *,
        tile_size: int | None = None,
        overlap: int | None = None,
        levels: str | None = None,
        **parameters: Any,
    ) -> Self:
        """The layout of an image of this size.

        Args:
            name, extension: As above.
            width, height: Size of the image in pixels.
            tile_size, overlap: In pixels. Default: the layout's own.
            levels: "one-tile" or "one-pixel", the smallest one to keep; or "A-B", those to keep,
                as the layout numbers them. Default: the layout's own.
            **parameters: The layout's own.

        Raises:
            OptionError: A value cannot be used.
        """
        size = cls.default_tile_size if tile_size is None else tile_size
        if size < 1:
            raise OptionError(f"tile size {size} is not at least 1 pixel")
        canvas = cls.make_canvas(width, height, size, **parameters)
        first, last = cls._stored_range(levels or cls.default_levels, canvas, size)
        spare = cls.default_overlap if overlap is None else overlap
        return cls(name, Pyramid(canvas, size, spare, first, last), extension, **parameters)

    @classmethod
    def make_canvas(cls, width: int, height: int, tile_size: int, **parameters: Any) -> Canvas:
        """What an image of this size is laid on: by default, on nothing."""
        return Canvas(width, height)

    @classmethod
    def _stored_range(cls, levels: str, canvas: Canvas, tile_size: int) -> tuple[int, int]:
        """The numbers of the first and the last level to keep."""
        check_levels(levels)
        one_tile, top = canvas.single_tile_level(tile_size), canvas.level_count - 1
        if levels in ("one-tile", "one-pixel"):
            return (one_tile if levels == "one-tile" else 0), top
        base = one_tile if cls.default_levels == "one-tile" else 0
        first, last = (base + int(number) for number in levels.split("-"))
        if last > top:
            raise OptionError(
                f"levels {levels}: the image has levels 0 to {top - base} in this layout"
            )
        return first, last

    @cached_property
    def base_level(self) -> int:
        """The level that the layout calls 0."""
        return self.pyramid.single_tile_level if self.default_levels == "one-tile" else 0

    @property
    def printable_name(self) -> str:
        """The name as any text can hold it: names of files may have what no encoding has."""
        return "".join(
            one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in self.name
        )

    @property
    def entry_point(self) -> str:
        """Name of the file or folder that a user opens. Default: the folder."""
        return self.name

    @property
    def root(self) -> str:
        """The name of the one folder that holds all tiles."""
        return self.name

    def path(self, tile: Tile) -> str:
        """Where a tile lives: `root`, and the rest of the way."""
        return self.paths(tile)[0]

    @abstractmethod
    def paths(self, tile: Tile) -> tuple[str, ...]:
        """All places where a tile lives, the usual one first."""

    def tile_at(self, path: str) -> Tile | None:
        """The tile that lives at a path, if it is the usual one of a tile that is kept."""
        tile = self._parse_tile_path(path.removeprefix(f"{self.root}/"))
        if tile is None or tile.level not in self.pyramid.stored_range:
            return None
        level = self.pyramid.levels[tile.level]
        there = 0 <= tile.col < level.cols and 0 <= tile.row < level.rows
        # A name may have other spellings: with a sign, zeros, another extension.
        return tile if there and self.paths(tile)[:1] == (path,) else None

    @abstractmethod
    def _parse_tile_path(self, name: str) -> Tile | None:
        """The tile that a path below the root seems to mean, or None."""

    def level_image_paths(self) -> dict[int, tuple[str, ...]]:
        """The paths of images of a whole level that are wanted beside its tiles."""
        return {}

    @abstractmethod
    def descriptors(self) -> dict[str, bytes]:
        """What announces the tiles: path and content of each, the most important one last."""


def match_numbers(pattern: re.Pattern[str], name: str) -> list[int] | None:
    """The numbers that a pattern's groups find in a name, or None."""
    found = pattern.match(name)
    return None if found is None else [int(digits.replace("/", "")) for digits in found.groups()]
