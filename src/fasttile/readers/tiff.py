"""Reader of pyramidal TIFFs of fasttile, libvips, GDAL or Bio-Formats: images of square tiles.

Each page or SubIFD has half the size of another. Sources: TIFF 6.0; Adobe's technical notes of
2002. JPEG tiles are returned without decoding, with the shared tables inserted; lossless tiles are
decoded.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from fasttile.abc.reader import LevelStats, ResultReader, TileDecoder
from fasttile.errors import FasttileError, SourceError
from fasttile.formats.ome import is_ome_xml, record_in_ome_xml
from fasttile.formats.png import encode_png
from fasttile.formats.tiff import GEOREFERENCE_TAGS, Ifd, TiffHeader
from fasttile.formats.tiff_tags import text_before_record
from fasttile.geometry import Canvas, Pyramid, Rounding, Tile
from fasttile.layouts.tiff import Tiff
from fasttile.options.read import ReadOptions
from fasttile.sources.tiff.codecs import make_decoder
from fasttile.sources.tiff.pages import SelectedImage, select_image
from fasttile.sources.tiff.samples import derive_sample_layout
from fasttile.sources.tiff.tags import (
    JPEG,
    RGB,
    UNCOMPRESSED,
    Tags,
    read_compression,
    read_tags,
)
from fasttile.storage.budget import BUDGET
from fasttile.storage.object_files import ResultPath, open_header, open_random_access
from fasttile.storage.random_access import SourceFile
from fasttile.types import Pixels

_SUBFILE_TYPE, _MASK_SUBFILE, _DESCRIPTION, _ICC_PROFILE = 254, 4, 270, 34675
_WIDTH, _HEIGHT, _SUB_DIRECTORIES, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 330, 322, 323
_MAX_PAGES = 1_000
_COG_HEAD_BYTES = 256
_DEFLATE, _WEBP = (8, 32946), 50001
_EXTENSIONS_BY_COMPRESSION = {
    UNCOMPRESSED: "raw",
    5: "lzw",
    JPEG: "jpg",
    8: "deflate",
    32946: "deflate",
    _WEBP: "webp",
}
_PASSED_THROUGH = ("jpg", "webp")
_HORIZONTAL_PREDICTOR = 2
_ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
"""APP14: the three samples are RGB; without this segment decoders convert them from YCbCr."""

_TEXT_TAGS = {269, 33432}
"""The tags of texts that fasttile writes: DocumentName and Copyright."""

_WRITTEN_TAGS = {254, 256, 257, 258, 259, 262, 270, 277, 282, 283, 284, 296, 317} | {
    *(322, 323, 324, 325, 330, 338, 347, 530, 532, _ICC_PROFILE)
}
"""The tags that fasttile writes; a rewritten file loses others."""


TiffKind: TypeAlias = Literal["pyramidal", "cloud optimized", "OME"]
"""The kinds of TIFFs of one pyramid."""


@dataclass(frozen=True)
class TiffLevel:
    """A page that is one level of a pyramid.

    Attributes:
        directory: The tags of the page.
        width, height: In pixels.
        tile_size: Width and height of its tiles, in pixels.
    """

    directory: Ifd
    width: int
    height: int
    tile_size: int


class TiffReader(ResultReader):
    """Reader of tiles of a pyramidal TIFF.

    Args:
        path: The file.

    Attributes:
        kind: "pyramidal", "cloud optimized" or "OME".

    Raises:
        SourceError: The file is no pyramidal TIFF, damaged, or has tiles that cannot be read.
    """

    container = "tiff"

    def __init__(self, path: ResultPath) -> None:
        file = open_header(path)
        try:
            levels, rounding = pyramid_levels(file)
            self._pages = [_LevelPage(file, level) for level in levels]
            big = levels[0].directory.is_bigtiff
            described = [page for page in levels if _DESCRIPTION in page.directory.tags]
            text = (levels[0].directory.raw(_DESCRIPTION) or b"").rstrip(b"\0")
            kind = self.kind = pyramid_kind(file, levels[0])
            self._record = text[len(text_before_record(text)) :]
            if kind == "OME":
                self._record = record_in_ome_xml(text)
            # Without a record, georeference and texts are those of another program.
            known = _WRITTEN_TAGS
            if self._record:
                known = known | _TEXT_TAGS | GEOREFERENCE_TAGS
            written = all(level.directory.tags <= known for level in levels)
            keeps_texts = len(described) == int(bool(self._record))
            self._is_rewritable = written and keeps_texts and rounding == "up"
        finally:
            file.close()
        top = levels[0]
        try:
            canvas = Canvas(top.width, top.height, rounding=rounding, edge="fill")
            pyramid = Pyramid(canvas, top.tile_size, 0, canvas.level_count - len(levels))
            extension = self._pages[0].extension
            is_cog, is_ome = kind == "cloud optimized", kind == "OME"
            layout = Tiff(path.stem, pyramid, extension, cog=is_cog, ome=is_ome)
        except FasttileError as error:
            raise SourceError(f"{path} its tiles are not valid: {error}") from error
        file_type = "BigTIFF" if big else "TIFF"
        name = f"OME-{file_type}" if kind == "OME" else f"{kind} {file_type}"
        super().__init__(path, layout, name)
        for level, page in zip(reversed(self.pyramid.stored_levels), self._pages, strict=True):
            page.require_tile_count(str(path), level.tile_count)
        self.metadata = self._pages[0].metadata
        self.allows_missing_tiles = any(page.has_missing_tiles for page in self._pages)
        self._file = open_random_access(path)

    @property
    def media_type(self) -> str:
        """Media type of the files that `tile` returns."""
        return super().media_type if self.extension in _PASSED_THROUGH else "image/png"

    @property
    def is_rewritable(self) -> bool:
        """True if the pages have only tags that fasttile writes, and sizes are rounded up."""
        return self._is_rewritable

    def record(self) -> bytes:
        """How the result was made, as fasttile wrote it; b"" if there is nothing."""
        return self._record

    def icc_profile(self) -> bytes | None:
        """The colour profile of the largest level, or None; it is read at each call.

        Raises:
            SourceError: It is not within the file.
        """
        with closing(open_header(self.path)) as file:
            levels, _ = pyramid_levels(file)
            return levels[0].directory.raw(_ICC_PROFILE)

    def raw_tile(self, tile: Tile) -> bytes | None:
        """Stored bytes of a lossless tile, or the file of another."""
        page = self._page(tile.level)
        return self._read_tile(tile) if page.decode is None else self._tile_data(page, tile)

    def sample_decoder(self, level: int) -> TileDecoder | None:
        """Decoder of lossless tiles; None: tiles are JPEG or WebP."""
        return self._page(level).decode

    def _close_files(self) -> None:
        """Close the file."""
        self._file.close()

    def _page(self, level: int) -> _LevelPage:
        return self._pages[self.pyramid.stored_range[-1] - level]

    def _read_tile(self, tile: Tile) -> bytes | None:
        page = self._page(tile.level)
        if page.decode is not None:
            pixels = self._read_pixels(tile)
            return None if pixels is None else encode_png(pixels)
        data = self._tile_data(page, tile)
        if data is None or page.extension != "jpg":
            return data
        return standalone_jpeg(
            data, page.jpeg_tables, is_rgb=page.is_rgb, name=self.tile_label(tile)
        )

    def _read_pixels(self, tile: Tile) -> Pixels | None:
        page = self._page(tile.level)
        if page.decode is None:
            return super()._read_pixels(tile)
        data = self._tile_data(page, tile)
        if data is None:
            return None
        try:
            return page.decode(data)
        except Exception as error:  # decoders raise various errors for damaged data
            raise SourceError(f"{self.tile_label(tile)} cannot be decoded: {error}") from error

    def _tile_data(self, page: _LevelPage, tile: Tile) -> bytes | None:
        """Stored bytes of a tile, or None if it is missing."""
        number = tile.row * self.pyramid.levels[tile.level].cols + tile.col
        offset, count = int(page.offsets[number]), int(page.byte_counts[number])
        if offset == 0 or count == 0:
            return None
        return self._file.read_at(offset, count, f"tile {number} of level {tile.level}")

    def _read_level_stats(self, level: int) -> LevelStats:
        page = self._page(level)
        sizes = page.byte_counts[page.offsets > 0]
        return LevelStats(int(np.count_nonzero(sizes)), int(sizes.sum()))


class _LevelPage:
    """The fields of a page that its tiles need."""

    def __init__(self, file: SourceFile, level: TiffLevel) -> None:
        directory = level.directory
        compression = read_compression(directory)
        self.extension = _EXTENSIONS_BY_COMPRESSION.get(compression, f"tiff{compression}")
        tags = read_tags(file, SelectedImage(directory, 0, 1))
        if tags is None or tags.grid.is_planar:
            raise SourceError(f"{file.name}: its samples have a layout that fasttile does not read")
        side, grid = level.tile_size, tags.grid
        if side * side * grid.bands * grid.dtype.itemsize > BUDGET.piece_bytes:
            raise SourceError(f"{file.name}: tiles of {side}×{side} pixels are too large")
        self.metadata = tags.metadata
        self.offsets, self.byte_counts = grid.offsets, grid.byte_counts
        self.jpeg_tables = tags.jpeg_tables or b""
        self.is_rgb = tags.photometric == RGB and grid.bands == 3
        self.decode = None if self.extension in _PASSED_THROUGH else _make_decoder(file, tags)

    @property
    def has_missing_tiles(self) -> bool:
        """True if the page has tiles without data."""
        return bool(((self.offsets == 0) | (self.byte_counts == 0)).any())

    def require_tile_count(self, name: str, tile_count: int) -> None:
        """Cut the tables of offsets and sizes to the number of tiles.

        Raises:
            SourceError: They have fewer entries.
        """
        least = min(len(self.offsets), len(self.byte_counts))
        if least < tile_count:
            raise SourceError(
                f"{name} is damaged: a level has {tile_count} tiles, but offsets for {least} only"
            )
        self.offsets, self.byte_counts = self.offsets[:tile_count], self.byte_counts[:tile_count]


def pyramid_levels(file: SourceFile) -> tuple[list[TiffLevel], Rounding]:
    """The levels of a pyramidal TIFF, the largest first, and the rounding of their sizes.

    Raises:
        SourceError: The file is a plain image, or its tiles cannot be read.
    """
    choice = select_image(file, ReadOptions())
    top = _tiff_level(choice.directory)
    if top is None:
        raise SourceError(f"{file.name} is an image, and no pyramid: it has no square tiles")
    others = [
        level for level in _candidate_levels(file, choice) if level.tile_size == top.tile_size
    ]
    by_size = {(level.width, level.height): level for level in reversed(others)}
    found: list[TiffLevel] = []
    best: Rounding = "up"
    for rounding in get_args(Rounding):
        levels, canvas = [top], Canvas(top.width, top.height, rounding=rounding)
        for times in range(1, canvas.level_count - canvas.single_tile_level(top.tile_size)):
            smaller = by_size.get(canvas.halved_size(times))
            if smaller is None:
                break
            levels.append(smaller)
        if len(levels) > len(found):
            found, best = levels, rounding
    if len(found) == 1 and max(top.width, top.height) > top.tile_size:
        raise SourceError(
            f"{file.name} is an image, and no pyramid: it has no page of half its size and the "
            f"same tiles of {top.tile_size} pixels"
        )
    return found, best


def pyramid_kind(file: SourceFile, top: TiffLevel) -> TiffKind:
    """The kind of a pyramid, as the file states it.

    Args:
        file: The TIFF.
        top: The largest level: OME-XML is its description. The structural metadata of a Cloud
            Optimized GeoTIFF are before the first directory.

    Raises:
        SourceError: The description is not within the file.
    """
    if is_ome_xml(top.directory.raw(_DESCRIPTION) or b""):
        return "OME"
    head = file.head(_COG_HEAD_BYTES)[16 if top.directory.is_bigtiff else 8 :]
    if (
        head.startswith(b"GDAL_STRUCTURAL_METADATA_SIZE=")
        and b"\nLAYOUT=IFDS_BEFORE_DATA\n" in head
        and b"\nKNOWN_INCOMPATIBLE_EDITION=YES" not in head
    ):
        return "cloud optimized"
    return "pyramidal"


def _tiff_level(directory: Ifd) -> TiffLevel | None:
    """A page as a level; None: it has no square tiles."""
    width, height = directory.number(_WIDTH, 0), directory.number(_HEIGHT, 0)
    sides = directory.number(_TILE_WIDTH, 0), directory.number(_TILE_HEIGHT, 0)
    if min(width, height, *sides) < 1 or sides[0] != sides[1]:
        return None
    if directory.number(_SUBFILE_TYPE, 0) & _MASK_SUBFILE:
        return None
    return TiffLevel(directory, width, height, sides[0])


def _candidate_levels(file: SourceFile, selected: SelectedImage) -> list[TiffLevel]:
    """All pages and SubIFDs of the selected page that have square tiles."""
    header = TiffHeader.from_file(file)

    def directories() -> Iterator[Ifd]:
        start, seen = header.first_offset, 0
        while start and seen < _MAX_PAGES:
            directory = Ifd(file, header, start)
            yield directory
            start, seen = directory.next_offset, seen + 1
        inner = selected.directory.numbers(_SUB_DIRECTORIES)
        for start in [] if inner is None else inner[:_MAX_PAGES].tolist():
            yield Ifd(file, header, start)

    found, tags = [], 0
    for directory in directories():
        tags += len(directory.tags)
        if tags > BUDGET.tags:
            raise SourceError(f"{file.name}: its directories have more than {BUDGET.tags:,} tags")
        found.append(_tiff_level(directory))
    return [level for level in found if level is not None]


def _make_decoder(file: SourceFile, tags: Tags) -> TileDecoder:
    """Decoder of the tiles of a page."""
    meaning = derive_sample_layout(tags, ReadOptions(nodata="none"))
    side = tags.grid.block_height
    samples = _plain_decoder(tags)
    if samples is None:
        decoder = make_decoder(tags)
        if decoder is None:
            name = _EXTENSIONS_BY_COMPRESSION.get(
                tags.compression, f"compression {tags.compression}"
            )
            raise SourceError(
                f"{file.name}: {name} tiles of {tags.bits} bits cannot be decoded; "
                "pip install 'fasttile[tiff]' may help"
            )
        samples = lambda data: decoder(data, side).copy()  # noqa: E731

    def decode(data: bytes) -> Pixels:
        pixels = samples(data)
        if pixels.shape[:2] != (side, side):
            raise ValueError(f"it has {pixels.shape[1]}×{pixels.shape[0]} pixels")
        pixels = pixels[..., list(meaning.sample_order)]
        for conversion in meaning.conversions:
            made = np.empty((*pixels.shape[:2], conversion.bands), conversion.dtype)
            conversion.write(pixels, made)
            pixels = made
        if pixels.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"its samples are {pixels.dtype.name}")
        return pixels

    return decode


def _plain_decoder(tags: Tags) -> TileDecoder | None:
    """Decoder of uncompressed and deflated samples without a library; None: others."""
    grid, known = tags.grid, (UNCOMPRESSED, *_DEFLATE)
    if tags.compression not in known or tags.fill_order != 1 or grid.dtype.kind != "u":
        return None
    if tags.bits != 8 * grid.dtype.itemsize or tags.predictor not in (1, _HORIZONTAL_PREDICTOR):
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
        if deflated and tags.predictor == _HORIZONTAL_PREDICTOR:
            return np.cumsum(pixels, axis=1, dtype=native)  # modulo 256 or 65536
        return pixels.astype(native)

    return samples


def standalone_jpeg(data: bytes, tables: bytes, *, is_rgb: bool, name: str) -> bytes:
    """A complete JPEG file of a tile of a TIFF and the tables that all tiles share.

    Args:
        data: The tile: from SOI on, usually without tables.
        tables: JPEGTables: SOI, tables, EOI; or nothing.
        is_rgb: True if the samples are RGB; in a JPEG file they are YCbCr.
        name: Name of the tile in messages.

    Raises:
        SourceError: The tile is not JPEG.
    """
    if data[:2] != b"\xff\xd8":
        raise SourceError(f"{name} is no JPEG")
    shared = tables[2:] if tables[:2] == b"\xff\xd8" else b""
    shared = shared.removesuffix(b"\xff\xd9")
    colours = _ADOBE_RGB if is_rgb and b"Adobe" not in data[:64] else b""
    return b"".join([data[:2], colours, shared, data[2:]])
