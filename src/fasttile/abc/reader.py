"""The base class of readers: the address of a tile in, its bytes out."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from fasttile.abc.layout import Layout
from fasttile.errors import SourceError
from fasttile.geometry import Pyramid, Tile
from fasttile.storage.object_files import ResultPath
from fasttile.storage.paths import tile_media_type
from fasttile.types import Closing, Container

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fasttile.abc.source import Metadata
    from fasttile.storage.file_trees import FileTree

TileDecoder: TypeAlias = "Callable[[bytes], NDArray[Any]]"
"""Makes pixels, shape (height, width, bands), of the stored samples of a tile."""

TileValue = TypeVar("TileValue")


class LevelStats(NamedTuple):
    """Number of stored tiles of a level, and their size in bytes.

    Attributes:
        tiles: Number of tiles.
        bytes: Sum of their sizes.
    """

    tiles: int
    bytes: int


class PyramidReader(Closing, ABC):
    """An open pyramid: a result, or an image whose tiles are made when they are asked for.

    Many threads may call any of its methods; see `close`.

    Levels, columns and rows are fasttile's own: level 0 is 1×1, and the levels of
    `pyramid.stored_range` have tiles; columns and rows count from the first stored tile of a level,
    see `geometry.Level`. `layout` converts them to the names in the result.

    Args:
        layout: The layout of the tiles.

    Attributes:
        allows_missing_tiles: True if tiles that show only the background may be missing.
        notes: One line each for the user about conversions of the pixels of an image.
        metadata: Profile, resolution and georeference of the largest level: of an image, and of a
            result whose container has them beside the tiles, as a TIFF has. None: of others.
    """

    allows_missing_tiles = False
    notes: tuple[str, ...] = ()
    metadata: Metadata | None = None

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._idle = threading.Condition()
        self._active_reads = 0
        self._is_closed = False

    @property
    def name(self) -> str:
        """Name of the image."""
        return self.layout.name

    @property
    def label(self) -> str:
        """Name in messages: of a result its path, else that of the image."""
        return self.name

    @property
    def pyramid(self) -> Pyramid:
        """Geometry of the levels and tiles."""
        return self.layout.pyramid

    @property
    def level_count(self) -> int:
        """Number of levels from 1×1 (level 0) to the largest stored one."""
        return self.pyramid.stored_range.stop

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        """Width and height of the image on each level, in pixels."""
        return tuple(self.pyramid.image_size(number) for number in range(self.level_count))

    @property
    def level_tiles(self) -> tuple[tuple[int, int], ...]:
        """Columns and rows of tiles of each level; 0 and 0 where no tiles are stored."""
        pyramid = self.pyramid
        return tuple(
            (level.cols, level.rows) if level.number in pyramid.stored_range else (0, 0)
            for level in pyramid.levels[: self.level_count]
        )

    @property
    def tile_count(self) -> int:
        """Number of tiles of all stored levels, those included that may be missing."""
        return self.pyramid.tile_count

    @property
    def extension(self) -> str:
        """Format of the stored tiles: "jpg", "png" …; in a TIFF "jpg", "webp" or "deflate"."""
        return self.layout.extension

    @property
    def media_type(self) -> str:
        """Media type of the files that `tile` returns: "image/jpeg" …"""
        return tile_media_type(self.extension)

    def descriptors(self) -> dict[str, bytes]:
        """Path and content of each descriptor of the layout, the most important one last.

        They are as `cut` writes them into a folder; the paths are relative to the one that holds
        the result. A layout without descriptors has none.

        Raises:
            SourceError: A descriptor cannot be read.
        """
        return self.layout.descriptors()

    def record(self) -> bytes:
        """How the result was made, as fasttile wrote it; b"" if there is nothing.

        Raises:
            SourceError: It cannot be read.
        """
        return b""

    def tile(self, level: int, col: int, row: int) -> bytes | None:
        """A tile as a complete file; lossless tiles of a TIFF are encoded as PNG.

        Returns:
            The file, or None if the tile is missing and the layout allows that.

        Raises:
            IndexError: The pyramid has no such tile.
            SourceError: The tile cannot be read, or is missing from a layout that needs all tiles.
        """
        tile = self._checked_tile(level, col, row)
        with self._reading():
            return self._require_tile(tile, self._read_tile(tile))

    def pixels(self, level: int, col: int, row: int) -> NDArray[Any] | None:
        """Pixels of a tile: shape (height, width, bands), uint8 or uint16; 2 or 4 bands: alpha.

        The size is that of `pyramid.region`, unless another program wrote another size. Those of a
        result are decoded; those of an image are as `iter_tiles` yields them, before they are
        encoded.

        Returns:
            A new array, or None if the tile is missing and the layout allows that.

        Raises:
            IndexError, SourceError: As `tile`; or the tile cannot be decoded.
        """
        tile = self._checked_tile(level, col, row)
        with self._reading():
            return self._require_tile(tile, self._read_pixels(tile))

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The output of a notebook's cell: a viewer if there is a kernel, and a thumbnail."""
        from fasttile.notebook import cell_output

        return cell_output(self)

    def _repr_html_(self) -> str:
        """A thumbnail, for notebooks that know no other output."""
        from fasttile.notebook import static_output

        return static_output(self)

    def close(self) -> None:
        """Close the files once the tiles that are being read are ready; a second call does nothing.

        Tiles that are asked for afterwards are a SourceError. Other threads that read anything
        else of a result have to be at their end.
        """
        with self._idle:
            self._is_closed = True
            self._idle.wait_for(lambda: self._active_reads == 0)
        self._close_files()

    def _close_files(self) -> None:
        """Close the files, if there are any; a second call does nothing."""

    @abstractmethod
    def _read_tile(self, tile: Tile) -> bytes | None:
        """The file of a tile of the pyramid, or None if it is missing."""

    @abstractmethod
    def _read_pixels(self, tile: Tile) -> NDArray[Any] | None:
        """Pixels of a tile of the pyramid, or None if it is missing."""

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Keep the files open.

        Raises:
            SourceError: They are closed.
        """
        with self._idle:
            if self._is_closed:
                raise SourceError(f"{self.label}: the pyramid is closed; open it again")
            self._active_reads += 1
        try:
            yield
        finally:
            with self._idle:
                self._active_reads -= 1
                self._idle.notify_all()

    def tile_label(self, tile: Tile) -> str:
        """Name of a tile in messages."""
        return f"{self.name}: tile {tile.col}, {tile.row} of level {tile.level}"

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
            raise SourceError(f"{self.tile_label(tile)} is missing")
        return value


class ResultReader(PyramidReader):
    """An open result, of fasttile or another program.

    Args:
        path: The path that was opened.
        layout: The layout of the tiles.
        format_name: Name of the format for users.

    Attributes:
        container: The kind of container that holds the tiles.
        files: The files below the root of the layout; None in containers of another kind.
    """

    container: Container
    files: FileTree | None = None

    def __init__(self, path: ResultPath, layout: Layout, format_name: str) -> None:
        super().__init__(layout)
        self.path = path
        self.format_name = format_name

    @property
    def label(self) -> str:
        """Its path."""
        return str(self.path)

    def read_file(self, path: str) -> bytes | None:
        """A file beside the tiles, by its path in the layout; None: there is none."""
        if self.files is None:
            return None
        return self.files.read(path.removeprefix(f"{self.layout.root}/"))

    @property
    def is_rewritable(self) -> bool:
        """True if fasttile can write the container again without losing any of its content."""
        return False

    def level_stats(self, level: int) -> LevelStats:
        """Count the stored tiles of a level and their bytes; reads no tile.

        Raises:
            IndexError: The pyramid does not store the level.
            SourceError: The container cannot be read.
        """
        self._check_level(level)
        return self._read_level_stats(level)

    def raw_tile(self, tile: Tile) -> bytes | None:
        """Stored bytes of a tile of the pyramid, as a sink takes them; None: it is missing.

        They are a file, or where `sample_decoder` returns a decoder, its input.

        Raises:
            SourceError: The tile cannot be read.
        """
        return self._read_tile(tile)

    def sample_decoder(self, level: int) -> TileDecoder | None:
        """Decoder of tiles that hold samples without a header; None: tiles are image files."""
        return None

    def extra_addresses(self, limit: int) -> Iterator[tuple[int, int, int]]:
        """Zoom, column and row of stored tiles outside the image, at most `limit`.

        Only containers of addresses can have any; rows count from the top.

        Raises:
            SourceError: The container cannot be read.
        """
        return iter(())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {str(self.path)!r}: {self.format_name}>"

    @abstractmethod
    def _read_level_stats(self, level: int) -> LevelStats:
        """Count the tiles of a stored level."""

    def _read_pixels(self, tile: Tile) -> NDArray[Any] | None:
        """Pixels of a tile of the pyramid, or None if it is missing."""
        data = self._read_tile(tile)
        if data is None:
            return None
        from fasttile.formats.images import decode_tile

        # iiif_static.py rounds some sides up to one pixel more than the tile size.
        spare = int(self.layout.type_name in ("iiif2", "iiif3"))
        max_side = self.pyramid.tile_size + 2 * self.pyramid.overlap + spare
        return decode_tile(data, max_side, self.tile_label(tile))

    def tile_label(self, tile: Tile) -> str:
        """Name of a tile in messages: its path, or its numbers."""
        names = self.layout.paths(tile)
        if names:
            return f"{self.path}: tile {names[0]}"
        return f"{self.path}: tile {tile.col}, {tile.row} of level {tile.level}"
