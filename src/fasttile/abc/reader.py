"""The seam of all readers: a tile's address in, its bytes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from fasttile.abc.layout import Layout
from fasttile.errors import SourceError
from fasttile.geometry import Pyramid, Tile
from fasttile.storage.paths import TILE_MEDIA_TYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

TileValue = TypeVar("TileValue")


class LevelStats(NamedTuple):
    """What there is of a level.

    Attributes:
        tiles: How many there are.
        bytes: Their bytes together.
    """

    tiles: int
    bytes: int


class PyramidReader(ABC):
    """A result that was opened. Any of its methods but `close` may be called from many threads.

    Levels, columns and rows are fasttile's own: level 0 is 1×1, and those of `pyramid.kept` have
    tiles; columns and rows are counted from the level's first tile that is kept, see
    `geometry.Level`. How the result names them, `layout` knows.

    Args:
        path: What was opened.
        layout: How its tiles are laid out.
        kind: What it is, in words for users.

    Attributes:
        missing_allowed: Whether tiles may be left out, where there is nothing to see.
    """

    allows_missing_tiles = False

    def __init__(self, path: Path, layout: Layout, format_name: str) -> None:
        self.path = path
        self.layout = layout
        self.format_name = format_name

    @property
    def name(self) -> str:
        """The image's name."""
        return self.layout.name

    @property
    def pyramid(self) -> Pyramid:
        """Its geometry."""
        return self.layout.pyramid

    @property
    def extension(self) -> str:
        """How tiles are stored: "jpg", "png", "webp" …; in a TIFF "jpg", "webp" or "deflate"."""
        return self.layout.extension

    @property
    def media_type(self) -> str:
        """What `tile` gives, as HTTP says it: "image/jpeg" …"""
        return TILE_MEDIA_TYPES.get(self.extension, f"image/{self.extension}")

    def tile(self, level: int, col: int, row: int) -> bytes | None:
        """A tile as a complete file of its format; from a TIFF's lossless ones PNG is made.

        Returns:
            The file, or None where a tile is left out, as only some layouts allow.

        Raises:
            IndexError: The pyramid has no such tile.
            SourceError: It cannot be read, or is missing where all have to be there.
        """
        tile = self._checked_tile(level, col, row)
        return self._require_tile(tile, self._read_tile(tile))

    def pixels(self, level: int, col: int, row: int) -> NDArray[Any] | None:
        """A tile decoded: shape (height, width, bands), uint8 or uint16. With 2 or 4 bands, alpha.

        Its size is that of `pyramid.region`, unless the program that made it differed.

        Returns:
            An array of its own, or None where a tile is left out.

        Raises:
            IndexError, SourceError: As `tile`; or it cannot be decoded.
        """
        tile = self._checked_tile(level, col, row)
        return self._require_tile(tile, self._read_pixels(tile))

    def level_stats(self, level: int) -> LevelStats:
        """How many tiles of a level there are, and their bytes. Looks once at what is there.

        Raises:
            IndexError: The pyramid does not keep such a level.
            SourceError: It cannot be found out.
        """
        self._check_level(level)
        return self._read_level_stats(level)

    @abstractmethod
    def close(self) -> None:
        """Close all open files. No other thread may be reading."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {str(self.path)!r}: {self.format_name}>"

    @abstractmethod
    def _read_tile(self, tile: Tile) -> bytes | None:
        """The file of a tile that the pyramid has, or None if it is not there."""

    @abstractmethod
    def _read_level_stats(self, level: int) -> LevelStats:
        """What there is of a level that is kept."""

    def _read_pixels(self, tile: Tile) -> NDArray[Any] | None:
        """The pixels of a tile that the pyramid has, or None if it is not there."""
        data = self._read_tile(tile)
        if data is None:
            return None
        from fasttile.formats.images import decode_tile

        return decode_tile(data, self._max_tile_side, self._tile_label(tile))

    @property
    def _max_tile_side(self) -> int:
        """No tile has more pixels a side."""
        return self.pyramid.tile_size + 2 * self.pyramid.overlap

    def _tile_label(self, tile: Tile) -> str:
        """A tile's name in messages: in its layout's own numbers, with the path if it has one."""
        names = self.layout.paths(tile)
        if names:
            return f"{self.path}: tile {names[0]}"
        return f"{self.path}: tile {tile.col}, {tile.row} of level {tile.level}"

    def _checked_tile(self, level: int, col: int, row: int) -> Tile:
        self._check_level(level)
        tile = Tile(level, col, row)
        self.pyramid.region(tile)
        return tile

    def _check_level(self, level: int) -> None:
        kept = self.pyramid.stored_range
        if level not in kept:
            raise IndexError(f"no level {level}: there are {kept[0]} to {kept[-1]}")

    def _require_tile(self, tile: Tile, value: TileValue | None) -> TileValue | None:
        if value is None and not self.allows_missing_tiles:
            raise SourceError(f"{self._tile_label(tile)} is missing")
        return value
