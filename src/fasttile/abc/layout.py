"""Base class of layouts: an image's name, its pyramid, and the paths of its tiles; no I/O."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import Field, dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

from fasttile.errors import OptionError, SourceError
from fasttile.geometry import Canvas, Pyramid, Tile
from fasttile.options.values import check_levels


class WholeImage(NamedTuple):
    """An image of a complete level that is written beside the tiles, reduced or as it is.

    Attributes:
        level: Number of the level that it is made of.
        width, height: Its size in pixels, at most that of the level.
        paths: All its paths, the usual one first.
    """

    level: int
    width: int
    height: int
    paths: tuple[str, ...]


class ResultTexts(NamedTuple):
    """Texts about an image in the descriptors and the page of its result; "" where there is none.

    All are plain texts without control characters, of bounded length, and may have any markup:
    each format escapes them.

    Attributes:
        title: Its title. Default: readers show the name of the result.
        description: Some sentences.
        credit: The line that viewers show: author, copyright, attribution.
        rights: The address of a licence or statement, as `layouts.presentation.rights_uri` has it.
    """

    title: str = ""
    description: str = ""
    credit: str = ""
    rights: str = ""

    def given(self) -> dict[str, str]:
        """The texts that are there, by name."""
        return {name: text for name, text in self._asdict().items() if text}


@dataclass(frozen=True)
class Layout(ABC):
    """The paths of the tiles of one image, and its descriptors.

    The further fields of a subclass are its parameters, which options have after its name;
    `from_size` passes them to `make_canvas` too. All paths have forward slashes and are relative to
    the folder that holds the result.

    Args:
        name: The image's name, one path component.
        pyramid: Its geometry, on this layout's canvas.
        extension: The tiles' file ending without a dot, ASCII letters and digits.
        texts: Texts for the descriptors. They are no part of what the layout is: layouts that
            differ in them are equal.

    Attributes:
        type_name: Its name in options.
        title: Its name in messages.
        default_tile_size, default_overlap, default_format, default_levels: Values of options.
        allows_overlap: True if tiles may overlap.
        allows_subtile_levels: True if levels smaller than one tile may be stored.
        allows_missing_small_levels: True if the smallest levels may be left out.
        reads_missing_small_levels: True if results of other programs may lack them.
        sparse: True if tiles of nothing but background may be left out.
        refused_formats: Extensions of tiles that its standard has no name for.
        shows_texts: True if its descriptors, or its containers, have a place for `texts`.
        descriptor_name: Of a layout of another package: name of the descriptor in the folder of
            the tiles, by which results are recognised. Default: they cannot be opened.

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
    reads_missing_small_levels: ClassVar[bool] = False
    sparse: ClassVar[bool] = False
    refused_formats: ClassVar[tuple[str, ...]] = ()
    shows_texts: ClassVar[bool] = False
    descriptor_name: ClassVar[str] = ""

    name: str
    pyramid: Pyramid
    extension: str
    texts: ResultTexts = field(default=ResultTexts(), kw_only=True, repr=False, compare=False)

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
        if not self.reads_missing_small_levels:
            self.check_small_levels()

    def check_small_levels(self) -> None:
        """Check that the smallest levels are there, as far as the layout needs them.

        Raises:
            OptionError: They are not.
        """
        if self.pyramid.first_level > self.base_level and not self.allows_missing_small_levels:
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
        canvas: Canvas | None = None,
        **parameters: Any,
    ) -> Self:
        """The layout of an image of this size.

        Args:
            name, extension: As above.
            width, height: Size of the image in pixels.
            tile_size, overlap: In pixels. Default: the layout's own.
            levels: "one-tile" or "one-pixel", the smallest one to store; or "A-B", those to store,
                as the layout numbers them. Default: the layout's own.
            canvas: The canvas, with the image at its place. Default: the layout's own.
            **parameters: The layout's own.

        Raises:
            OptionError: A value cannot be used.
        """
        cls.check_extension(extension)
        size = cls.default_tile_size if tile_size is None else tile_size
        if size < 1:
            raise OptionError(f"tile size {size} is not at least 1 pixel")
        canvas = canvas or cls.make_canvas(width, height, size, **parameters)
        first, last = cls._stored_range(levels or cls.default_levels, canvas, size)
        spare = cls.default_overlap if overlap is None else overlap
        made = cls(name, Pyramid(canvas, size, spare, first, last), extension, **parameters)
        made.check_small_levels()
        return made

    @classmethod
    def check_extension(cls, extension: str) -> None:
        """Check that new results may have tiles of this file ending. Default: all may.

        Raises:
            OptionError: They may not.
        """

    @classmethod
    def parameter_fields(cls) -> tuple[Field[Any], ...]:
        """The fields that the layout has beside those of all layouts: its parameters."""
        return fields(cls)[len(fields(Layout)) :]

    @classmethod
    def from_descriptor(cls, name: str, text: str) -> Layout:
        """The layout of a result; for classes with a `descriptor_name`.

        Args:
            name: Name of the folder.
            text: The descriptor.

        Raises:
            SourceError: The text describes no layout.
        """
        raise SourceError(f"{cls.title} results cannot be opened")

    @classmethod
    def make_canvas(cls, width: int, height: int, tile_size: int, **parameters: Any) -> Canvas:
        """The canvas of an image of this size. Default: the image itself."""
        return Canvas(width, height)

    @classmethod
    def _stored_range(cls, levels: str, canvas: Canvas, tile_size: int) -> tuple[int, int]:
        """The numbers of the first and the last level to store."""
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
        """The pyramid's number of the layout's level 0."""
        return self.pyramid.single_tile_level if self.default_levels == "one-tile" else 0

    @property
    def entry_point(self) -> str:
        """Name of the file or folder that a user opens. Default: the folder."""
        return self.name

    @property
    def root(self) -> str:
        """The name of the one folder that holds all tiles."""
        return self.name

    def path(self, tile: Tile) -> str:
        """The usual path of a tile, which begins with `root`."""
        return self.paths(tile)[0]

    @abstractmethod
    def paths(self, tile: Tile) -> tuple[str, ...]:
        """All paths of a tile, the usual one first."""

    def tile_at(self, path: str) -> Tile | None:
        """The tile with this usual path, or None if no stored tile has it."""
        tile = self._parse_tile_path(path.removeprefix(f"{self.root}/"))
        if tile is None or tile.level not in self.pyramid.stored_range:
            return None
        level = self.pyramid.levels[tile.level]
        exists = 0 <= tile.col < level.cols and 0 <= tile.row < level.rows
        # A name may have other spellings: with a sign, zeros, another extension.
        return tile if exists and self.paths(tile)[:1] == (path,) else None

    @abstractmethod
    def _parse_tile_path(self, name: str) -> Tile | None:
        """The tile of a path below the root, which may not exist, or None."""

    @property
    def has_halves(self) -> bool:
        """True if each tile has a second file beside it, with its pixels halved."""
        return False

    def half_path(self, tile: Tile) -> str:
        """The path of the halved pixels of a tile; for layouts with `has_halves`."""
        raise NotImplementedError

    def tile_of_half(self, path: str) -> Tile | None:
        """The tile whose halved pixels have this path, or None."""
        return None

    def whole_images(self) -> tuple[WholeImage, ...]:
        """The images of complete levels that are written beside the tiles."""
        return ()

    def further_files(self) -> tuple[str, ...]:
        """Paths below the root of files whose content the layout alone does not know."""
        return ()

    @property
    def notes(self) -> tuple[str, ...]:
        """One line each for the user who makes such a result."""
        return ()

    @abstractmethod
    def descriptors(self) -> dict[str, bytes]:
        """Path and content of each descriptor, the most important one last."""


def match_numbers(pattern: str | re.Pattern[str], name: str) -> list[int] | None:
    """The numbers in a pattern's groups, or None if the name does not match."""
    match = re.match(pattern, name)
    return None if match is None else [int(digits.replace("/", "")) for digits in match.groups()]
