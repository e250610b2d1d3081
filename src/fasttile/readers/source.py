"""Pyramids as images: the largest level of a result, read tile by tile, as a `Source`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np

from fasttile.abc.reader import PyramidReader, ResultReader
from fasttile.abc.source import Metadata
from fasttile.errors import SourceError
from fasttile.formats.images import TileHeader, read_tile_header
from fasttile.geometry import Level, Region, Tile
from fasttile.kernels import luma
from fasttile.options import opaque_colour
from fasttile.options.read import MIN_LIKELY_PIXELS, ReadOptions
from fasttile.readers import is_result_source, open_result
from fasttile.sources.conversions import Croppable
from fasttile.storage.object_files import ObjectPath
from fasttile.types import Background, Pixels

_MAX_EMPTY_SHARE = 2**16
"""A result of more than `MIN_LIKELY_PIXELS` has at least one of this number of tiles."""


class ResultSource(Croppable):
    """A level of an open pyramid, the largest one, without overlap and padding.

    Memory is that of one line of tiles. Missing tiles of results that allow them are background,
    transparent if the tiles have alpha.

    Args:
        reader: The open pyramid.
        read_options: The limit of pixels, the background, and `allow_truncated`: damaged and
            missing tiles are background too.
        closes: True if `close` closes the reader.
        level: The level to read. Default: the largest one.

    Raises:
        SourceError: A tile that was examined is missing or damaged, or the result claims more
            pixels than its tiles can have.
    """

    random_access = True
    has_parallel_regions = True

    def __init__(
        self,
        reader: PyramidReader,
        read_options: ReadOptions,
        *,
        closes: bool = True,
        level: Level | None = None,
    ) -> None:
        self._reader = reader
        self._closes = closes
        self._level = level = reader.pyramid.stored_levels[-1] if level is None else level
        self.name = reader.label
        self._region = reader.pyramid.placement(level.number)
        self.width, self.height = self._region.width, self._region.height
        self._check_size(read_options)
        self._allows_damage = read_options.allow_truncated
        header = self._read_headers()
        if read_options.background_rgba is not None and header.bits == 8:
            # Missing tiles are transparent, and the others may all be opaque.
            header = header._replace(bands=header.bands + 1 - _alpha_bands(header.bands))
        self.bands, self.dtype = header.bands, np.dtype(np.uint16 if header.bits == 16 else "u1")
        self.preferred_rows = self.preferred_cols = level.tile_size
        self._fill = _fill_values(read_options.any_background, self.bands, self.dtype)
        self._damaged: set[Tile] = set()
        self._buffer: Pixels = np.empty((0, self.width, self.bands), self.dtype)
        self._buffered = range(0)
        is_jpeg = reader.extension in ("jpg", "jpeg") and isinstance(reader, ResultReader)
        note = "its tiles are JPEG: they are compressed a second time" if is_jpeg else None
        form = reader.format_name if isinstance(reader, ResultReader) else "pyramid"
        beside = reader.metadata if isinstance(reader, ResultReader) else None
        is_largest = level.number == reader.pyramid.stored_range[-1]
        beside = beside if beside is not None and is_largest else Metadata("")
        self.metadata = Metadata(
            form,
            header.icc_profile or beside.icc_profile,
            beside.resolution,
            stored_as=f"{reader.extension} tiles",
            read_mode="by tiles",
            georeference=beside.georeference,
        ).with_notes(note, *reader.notes)
        self.memory_bytes = level.tile_size * self.width * self.bands * self.dtype.itemsize

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1; valid until the next call."""
        if not (self._buffered.start <= y0 and y1 <= self._buffered.stop):
            # Complete lines of tiles, so that rows one after the other decode none twice.
            top = next(self._lines(y0, y0 + 1))[1].start
            *_, (_, last) = self._lines(y1 - 1, y1)
            self._buffered = range(0)  # an error may leave it incomplete
            if len(self._buffer) < last.stop - top:
                shape = (last.stop - top, self.width, self.bands)
                self._buffer = np.empty(shape, self.dtype)
            self.read(top, self._buffer[: last.stop - top])
            self._buffered = range(top, last.stop)
        start = y0 - self._buffered.start
        return self._buffer[start : start + y1 - y0]

    def read(self, y0: int, out: Pixels) -> None:
        """Decode the tiles of the rows from y0 on straight into out."""
        level, (left, top, width, _) = self._level, self._region
        size = level.tile_size
        for row, span in self._lines(y0, y0 + len(out)):
            first, last = max(y0, span.start), min(y0 + len(out), span.stop)
            for col in range(left // size, -(-(left + width) // size)):
                x0, x1 = max(left, col * size), min(left + width, (col + 1) * size)
                part = Region(x0, top + first, x1 - x0, last - first)
                self._copy_tile(
                    Tile(level.number, col, row),
                    part,
                    out[first - y0 : last - y0, x0 - left : x1 - left],
                )

    def crop(self, region: Region) -> ResultSource:
        """A source that decodes only the tiles of the region."""
        part = object.__new__(ResultSource)
        part.__dict__.update(self.__dict__)
        part._region = region.shifted(self._region.x, self._region.y)
        part.width, part.height = region.width, region.height
        part._buffer, part._buffered = np.empty((0, region.width, self.bands), self.dtype), range(0)
        return part

    def close(self) -> None:
        """Close the result, if the source has opened it."""
        if self._closes:
            self._reader.close()

    def _lines(self, y0: int, y1: int) -> Iterator[tuple[int, range]]:
        """Number and rows, within the region, of the lines of tiles that some rows touch."""
        size, top = self._level.tile_size, self._region.y
        for row in range((top + y0) // size, -(-(top + y1) // size)):
            yield row, range(max(0, row * size - top), min(self.height, (row + 1) * size - top))

    def _copy_tile(self, tile: Tile, part: Region, out: Pixels) -> None:
        """Write a part of a tile, given in pixels of the level, into out."""
        pixels = self._read_tile(tile)
        if pixels is None:
            out[:] = self._fill
            return
        around = self._level.region(tile.col, tile.row)
        x, y = part.x - around.x, part.y - around.y
        found = pixels[y : y + part.height, x : x + part.width]
        if found.shape[:2] != out.shape[:2]:
            raise SourceError(
                f"{self._reader.tile_label(tile)} has {pixels.shape[1]}×{pixels.shape[0]} pixels, "
                f"not {around.width}×{around.height}; cut the result again, or verify it"
            )
        bands = found.shape[2]
        if bands == self.bands and found.dtype == self.dtype:
            out[:] = found
            return
        if _alpha_bands(bands) and not self.has_alpha and _is_opaque(found):
            found, bands = found[..., :-1], bands - 1
        alpha, colours = _alpha_bands(bands), self.bands - _alpha_bands(self.bands)
        lacks_band = bands - alpha not in (1, colours) or alpha > _alpha_bands(self.bands)
        if lacks_band or found.dtype != self.dtype:
            raise SourceError(
                f"{self._reader.tile_label(tile)} has {bands} bands of {found.dtype.name}, those "
                f"before it {self.bands} of {self.dtype.name}; cut the image again"
            )
        out[..., :colours] = found[..., : bands - alpha]
        if self.has_alpha:
            out[..., -1] = found[..., -1] if alpha else np.iinfo(self.dtype).max

    def _read_tile(self, tile: Tile) -> Pixels | None:
        try:
            return self._reader.pixels(*tile)
        except SourceError:
            if not self._allows_damage:
                raise
        log, before = self.metadata.warnings, self._damage_note()
        self._damaged.add(tile)
        log.add(self._damage_note(), before)
        return None

    def _damage_note(self) -> str:
        return f"{len(self._damaged):,} damaged or missing tiles are background"

    def _check_size(self, read_options: ReadOptions) -> None:
        """Refuse claims of more pixels than the stored tiles can have."""
        pixels, likely, level = self.width * self.height, None, self._level
        if pixels > MIN_LIKELY_PIXELS and isinstance(self._reader, ResultReader):
            stored = self._reader.level_stats(level.number).tiles
            likely = max(MIN_LIKELY_PIXELS, stored * level.tile_size**2 * _MAX_EMPTY_SHARE)
        read_options.check_pixels(self.name, self.width, self.height, likely)

    def _read_headers(self) -> TileHeader:
        """The bands that all tiles fit into, and the profile of the first one.

        Programs store opaque and grey tiles with fewer bands than others of the same image. So the
        headers of all tiles are read, until some have colours and, but for JPEG, alpha.
        """
        reader, level = self._reader, self._level
        smallest = Tile(reader.pyramid.stored_levels[0].number, 0, 0)
        if not isinstance(reader, ResultReader):
            pixels = reader.pixels(*smallest)
            if pixels is None:
                return TileHeader(3, 8, None)
            return TileHeader(pixels.shape[2], 8 * pixels.dtype.itemsize, None)
        cols, rows = level.cols, level.rows
        samples = [(0, 0), (cols - 1, rows - 1), (cols // 2, rows // 2)]
        tiles = [smallest, *(Tile(level.number, *place) for place in samples)]
        found: TileHeader | None = None
        for tile in dict.fromkeys(tiles):
            found = self._join_header(found, tile)
        is_jpeg = reader.extension in ("jpg", "jpeg")
        is_local = not isinstance(reader.path, ObjectPath)
        if reader.sample_decoder(level.number) is None and is_local:
            for tile in level.tiles():
                if found is not None and (found.bits == 16 or found.bands >= (3 if is_jpeg else 4)):
                    break
                found = self._join_header(found, tile)
        return found or TileHeader(3, 8, None)

    def _join_header(self, found: TileHeader | None, tile: Tile) -> TileHeader | None:
        try:
            data = self._reader.tile(*tile)
            if data is None:
                return found
            header = read_tile_header(data, self._reader.tile_label(tile))
        except SourceError:
            if self._allows_damage:
                return found
            raise
        if found is None:
            return header
        both = (found.bands, header.bands)
        bands = max(bands - _alpha_bands(bands) for bands in both) + max(map(_alpha_bands, both))
        return found._replace(bands=bands)


def _alpha_bands(bands: int) -> int:
    """1 if the last of 2 or 4 bands is alpha, else 0."""
    return int(bands in (2, 4))


def _is_opaque(pixels: Pixels) -> bool:
    """True if the last band, alpha, is that of opaque pixels."""
    return bool((pixels[..., -1] == np.iinfo(pixels.dtype).max).all())


def _fill_values(background: Background, bands: int, dtype: np.dtype[np.uint8]) -> Pixels:
    """Pixel of missing tiles; transparent with alpha, unless the background has alpha too."""
    has_alpha = _alpha_bands(bands)
    red, green, blue, *alpha = background if has_alpha else opaque_colour(background)
    colours = (red, green, blue) if bands > 2 else (luma((red, green, blue)),)
    values = [*colours, *(alpha or [0])] if has_alpha else [*colours]
    return np.array(values, np.uint32) * (np.iinfo(dtype).max // 255)


def is_result(source: object) -> bool:
    """True if a source of `cut` is an open pyramid, or the path of a result.

    False for a pyramidal TIFF, which is an image.
    """
    if isinstance(source, PyramidReader):
        return True
    return isinstance(source, str | os.PathLike) and source != "-" and is_result_source(source)


def open_result_source(
    source: object, read_options_for: Callable[[PyramidReader], ReadOptions]
) -> ResultSource:
    """Open a result as an image.

    Args:
        source: An open pyramid, which stays open, or the path of a result.
        read_options_for: The options of reading the open pyramid, as for `ResultSource`.

    Raises:
        SourceError: There is no result, or it is damaged.
    """
    if isinstance(source, PyramidReader):
        return ResultSource(source, read_options_for(source), closes=False)
    assert isinstance(source, str | os.PathLike)
    reader = open_result(source)
    try:
        return ResultSource(reader, read_options_for(reader))
    except BaseException:
        reader.close()
        raise
