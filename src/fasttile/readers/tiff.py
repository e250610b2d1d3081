"""Pyramidal TIFFs, ours, libvips' or GDAL's: pages of square tiles, each half the size of another.

Written after TIFF 6.0 and Adobe's technical notes of 2002. JPEG tiles are handed out as they are,
with what they have in common put back; pixels are decoded of the others only.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import FasttileError, SourceError
from ..geometry import Canvas, Pyramid, Rounding, Tile
from ..layouts.tiff import Tiff
from ..sources.ifd import Directory, Header
from ..sources.mapping import PictureFile
from ..sources.reading import Reading
from ..sources.tiffcodecs import decoder_of
from ..sources.tiffcolour import Meaning, meaning_of
from ..sources.tiffpages import Choice, chosen
from ..sources.tifftags import JPEG, RGB, UNCOMPRESSED, Tags, compression_of, tags_of
from .base import PyramidReader, Stored
from .file import LARGEST, OpenFile

Pixels = NDArray[Any]
Decode = Callable[[bytes], Pixels]

_SUBFILE_TYPE, _MASK = 254, 4
_WIDTH, _HEIGHT, _SUB_DIRECTORIES, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 330, 322, 323
_MOST_PAGES = 1_000
_DEFLATE, _WEBP = (8, 32946), 50001
_NAMES = {UNCOMPRESSED: "raw", 5: "lzw", JPEG: "jpg", 8: "deflate", 32946: "deflate", _WEBP: "webp"}
_AS_THEY_ARE = ("jpg", "webp")
_HORIZONTAL = 2
_ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
"""APP14: the three samples are no YCbCr, which without it all decoders take them for."""


@dataclass(frozen=True)
class Level:
    """A page that is one level of a pyramid.

    Attributes:
        directory: Its tags.
        width, height: In pixels.
        tile_size: Both sides of its tiles, in pixels.
    """

    directory: Directory
    width: int
    height: int
    tile_size: int


class TiffReader(PyramidReader):
    """Tiles of a pyramidal TIFF.

    Args:
        path: Where it lies.

    Raises:
        SourceError: It is none, damaged, or tiled in a way that nobody here reads.
    """

    def __init__(self, path: Path) -> None:
        file = PictureFile(path)
        try:
            levels, rounding = pyramid_levels(file)
            self._pages = [_Page(file, level) for level in levels]
            big = levels[0].directory.big
        finally:
            file.close()
        layout = _layout(path, levels, rounding, self._pages[0].extension)
        super().__init__(path, layout, f"pyramidal {'BigTIFF' if big else 'TIFF'}")
        for level, page in zip(reversed(self.pyramid.kept_levels), self._pages, strict=True):
            page.check(str(path), level.tile_count)
        self.missing_allowed = any(page.left_out for page in self._pages)
        self._file = OpenFile(path)

    @property
    def media_type(self) -> str:
        """What `tile` gives."""
        return super().media_type if self.extension in _AS_THEY_ARE else "image/png"

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _page(self, level: int) -> _Page:
        return self._pages[self.pyramid.kept[-1] - level]

    def _tile(self, tile: Tile) -> bytes | None:
        page = self._page(tile.level)
        if page.decode is not None:
            pixels = self._pixels(tile)
            return None if pixels is None else png_of(pixels)
        data = self._data(page, tile)
        if data is None or page.extension != "jpg":
            return data
        return spliced(data, page.tables, rgb=page.rgb, name=self._called(tile))

    def _pixels(self, tile: Tile) -> Pixels | None:
        page = self._page(tile.level)
        if page.decode is None:
            return super()._pixels(tile)
        data = self._data(page, tile)
        if data is None:
            return None
        try:
            return page.decode(data)
        except Exception as error:  # whatever a decoder makes of what it is given
            raise SourceError(f"{self._called(tile)} cannot be decoded: {error}") from error

    def _data(self, page: _Page, tile: Tile) -> bytes | None:
        """What the file has of a tile, or None if it is left out there."""
        number = tile.row * self.pyramid.levels[tile.level].cols + tile.col
        offset, count = int(page.offsets[number]), int(page.counts[number])
        if offset == 0 or count == 0:
            return None
        return self._file.piece(offset, count, f"tile {number} of level {tile.level}")

    def _stored(self, level: int) -> Stored:
        page = self._page(level)
        there = page.counts[page.offsets > 0]
        return Stored(int(np.count_nonzero(there)), int(there.sum()))


class _Page:
    """What is needed of a level to read its tiles."""

    def __init__(self, file: PictureFile, level: Level) -> None:
        directory = level.directory
        compression = compression_of(directory)
        self.extension = _NAMES.get(compression, f"tiff{compression}")
        tags = tags_of(file, Choice(directory, 0, 1))
        if tags is None or tags.grid.planar:
            raise SourceError(f"{file.name}: its samples are of a kind that nobody here shows")
        side, grid = level.tile_size, tags.grid
        if side * side * grid.bands * grid.dtype.itemsize > LARGEST:
            raise SourceError(f"{file.name}: tiles of {side}×{side} pixels are too large to show")
        self.offsets, self.counts = grid.offsets, grid.counts
        self.tables = tags.jpeg_tables or b""
        self.rgb = tags.photometric == RGB and grid.bands == 3
        self.decode = None if self.extension in _AS_THEY_ARE else _decode_of(file, tags)

    @property
    def left_out(self) -> bool:
        """Whether tiles are left out in the file."""
        return bool(((self.offsets == 0) | (self.counts == 0)).any())

    def check(self, name: str, tile_count: int) -> None:
        """Refuse too few places of tiles.

        Raises:
            SourceError: There are fewer.
        """
        least = min(len(self.offsets), len(self.counts))
        if least < tile_count:
            raise SourceError(
                f"{name} is damaged: a level has {tile_count} tiles, but places for {least} only"
            )
        self.offsets, self.counts = self.offsets[:tile_count], self.counts[:tile_count]


def pyramid_levels(file: PictureFile) -> tuple[list[Level], Rounding]:
    """The levels of a pyramidal TIFF, the largest first, and how their sizes are rounded.

    Raises:
        SourceError: It is a plain picture, or tiled in a way that nobody here reads.
    """
    choice = chosen(file, Reading())
    top = _level(choice.directory)
    if top is None:
        raise SourceError(f"{file.name} is a picture, and no pyramid: it has no square tiles")
    others = [level for level in _levels_in(file, choice) if level.tile_size == top.tile_size]
    found: list[Level] = []
    best: Rounding = "up"
    for rounding in get_args(Rounding):
        levels = _halving(top, others, rounding)
        if len(levels) > len(found):
            found, best = levels, rounding
    if len(found) == 1 and max(top.width, top.height) > top.tile_size:
        raise SourceError(
            f"{file.name} is a picture, and no pyramid: it has no page of half its size and the "
            f"same tiles of {top.tile_size} pixels"
        )
    return found, best


def _level(directory: Directory) -> Level | None:
    """A page as a level, if it has square tiles."""
    width, height = directory.number(_WIDTH, 0), directory.number(_HEIGHT, 0)
    sides = directory.number(_TILE_WIDTH, 0), directory.number(_TILE_HEIGHT, 0)
    if min(width, height, *sides) < 1 or sides[0] != sides[1]:
        return None
    if directory.number(_SUBFILE_TYPE, 0) & _MASK:
        return None
    return Level(directory, width, height, sides[0])


def _levels_in(file: PictureFile, choice: Choice) -> list[Level]:
    """All pages with square tiles, and those that belong to the one that is chosen."""
    header = Header.of(file)
    found = []
    start, seen = header.first, 0
    while start and seen < _MOST_PAGES:
        directory = Directory(file, header, start)
        found.append(_level(directory))
        start, seen = directory.next, seen + 1
    inner = choice.directory.numbers(_SUB_DIRECTORIES)
    for start in [] if inner is None else inner[:_MOST_PAGES].tolist():
        found.append(_level(Directory(file, header, start)))
    return [level for level in found if level is not None]


def _halving(top: Level, others: list[Level], rounding: Rounding) -> list[Level]:
    """The level, and of the others those that are half as large, again and again."""
    canvas = Canvas(top.width, top.height, rounding=rounding)
    by_size = {(level.width, level.height): level for level in reversed(others)}
    found = [top]
    for times in range(1, canvas.level_count - canvas.one_tile(top.tile_size)):
        smaller = by_size.get(canvas.halved(times))
        if smaller is None:
            break
        found.append(smaller)
    return found


def _layout(path: Path, levels: list[Level], rounding: Rounding, extension: str) -> Tiff:
    top = levels[0]
    try:
        canvas = Canvas(top.width, top.height, rounding=rounding, edge="fill")
        first = canvas.level_count - len(levels)
        return Tiff(path.stem, Pyramid(canvas, top.tile_size, 0, first), extension)
    except FasttileError as error:
        raise SourceError(f"{path} cannot be used: {error}") from error


def _decode_of(file: PictureFile, tags: Tags) -> Decode:
    """What makes pixels of a tile's bytes."""
    meaning = meaning_of(tags, Reading())
    samples = _plain_decoder(tags)
    if samples is None:
        decoder = decoder_of(tags)
        if decoder is None:
            name = _NAMES.get(tags.compression, f"compression {tags.compression}")
            raise SourceError(
                f"{file.name}: {name} tiles of {tags.bits} bits cannot be decoded; "
                "pip install 'fasttile[tiff]' may help"
            )
        side = tags.grid.block_height
        samples = lambda data: decoder(data, side).copy()  # noqa: E731 -- it is used again
    return lambda data: _pixels_of(samples(data), tags, meaning)


def _pixels_of(samples: Pixels, tags: Tags, meaning: Meaning) -> Pixels:
    """What samples mean, shape (height, width, bands)."""
    side = tags.grid.block_height
    if samples.shape[:2] != (side, side):
        raise ValueError(f"it has {samples.shape[1]}×{samples.shape[0]} pixels")
    pixels = samples[..., list(meaning.order)]
    for conversion in meaning.conversions:
        made = np.empty((*pixels.shape[:2], conversion.bands), conversion.dtype)
        conversion.write(pixels, made)
        pixels = made
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"its samples are {pixels.dtype.name}")
    return pixels


def _plain_decoder(tags: Tags) -> Decode | None:
    """For what is stored as it is or deflated; None for all else. No other library is needed."""
    grid, known = tags.grid, (UNCOMPRESSED, *_DEFLATE)
    if tags.compression not in known or tags.fill_order != 1 or grid.dtype.kind != "u":
        return None
    if tags.bits != 8 * grid.dtype.itemsize or tags.predictor not in (1, _HORIZONTAL):
        return None
    size = grid.block_height * grid.row_bytes
    deflated = tags.compression != UNCOMPRESSED
    native = grid.dtype.newbyteorder("=")

    def samples(data: bytes) -> Pixels:
        if deflated:
            data = zlib.decompressobj().decompress(data, size)
        if len(data) < size:
            raise ValueError(f"it has {len(data)} bytes, not {size}")
        stored = np.frombuffer(data, grid.dtype, size // grid.dtype.itemsize)
        pixels = stored.reshape(grid.block_height, grid.block_width, grid.bands)
        if deflated and tags.predictor == _HORIZONTAL:
            return np.cumsum(pixels, axis=1, dtype=native)  # modulo 256 or 65536
        return pixels.astype(native)

    return samples


def spliced(data: bytes, tables: bytes, *, rgb: bool, name: str) -> bytes:
    """A JPEG that stands for itself, of a TIFF's tile and of what all its tiles have in common.

    Args:
        data: The tile: from SOI on, as a rule without tables.
        tables: JPEGTables: SOI, tables, EOI; or nothing.
        rgb: Whether its samples are RGB, as in no other JPEG.
        name: What messages call it.

    Raises:
        SourceError: It is no JPEG.
    """
    if data[:2] != b"\xff\xd8":
        raise SourceError(f"{name} is no JPEG")
    shared = tables[2:] if tables[:2] == b"\xff\xd8" else b""
    shared = shared.removesuffix(b"\xff\xd9")
    colours = _ADOBE_RGB if rgb and b"Adobe" not in data[:64] else b""
    return b"".join([data[:2], colours, shared, data[2:]])


def png_of(pixels: Pixels) -> bytes:
    """A PNG, made fast rather than small.

    Args:
        pixels: Shape (height, width, 1 to 4), uint8 or uint16.
    """
    height, width, bands = pixels.shape
    bits = 8 * pixels.dtype.itemsize
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[bands]
    rows = pixels.astype(pixels.dtype.newbyteorder(">"), copy=False).reshape(height, -1)
    stored = np.full((height, 1 + rows.nbytes // height), 2, np.uint8)  # filter "up"
    raw = rows.view(np.uint8)
    stored[0, 1:] = raw[0]
    np.subtract(raw[1:], raw[:-1], out=stored[1:, 1:])
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)),
        (b"IDAT", zlib.compress(stored.data, 1)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
