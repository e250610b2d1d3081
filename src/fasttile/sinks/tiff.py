"""Pyramidal TIFF: each level is a page of tiles, the largest first, in one file.

Tiles are written once, in the order of the walk; their offsets are known at the end, so the pages'
directories are there. The first 16 bytes are written last: the size of the file decides between
TIFF, with offsets of 32 bits, and BigTIFF.

Sources: TIFF 6.0; Adobe's technical notes of 1995 (JPEG) and 2002 (Deflate); the BigTIFF design.
OpenSlide and IIPImage need the smaller pages in the chain, marked as reduced (NewSubfileType 1),
and square tiles.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from fasttile.formats.jpeg import JpegTableExtractor, SharedTables
from fasttile.geometry import Level, Tile
from fasttile.layouts.tiff import Tiff
from fasttile.storage.writing import AtomicFile

ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 2, 3, 4, 5, 7, 16
_TYPE_CODES = {ASCII: "B", SHORT: "H", LONG: "I", RATIONAL: "I", UNDEFINED: "B", LONG8: "Q"}

HEADER_BYTES = 16

CLASSIC_TIFF_LIMIT = 2**32
"""Files that end below this are plain TIFF."""

_MAX_LONG = 2**32 - 1
_JPEG, _DEFLATE = 7, 8
_MIN_IS_BLACK, _RGB, _YCBCR = 1, 2, 6


@dataclass(frozen=True)
class TiffSamples:
    """The samples of the encoded tiles.

    Attributes:
        bands: 1 to 4, alpha included.
        bits: 8 or 16, for each band.
        has_alpha: True if the last band is alpha.
        icc_profile: The profile of the colours. Default: sRGB, or grey.
        resolution: Pixels per inch of the source image, horizontal and vertical, or None.
    """

    bands: int
    bits: int = 8
    has_alpha: bool = False
    icc_profile: bytes | None = None
    resolution: tuple[float, float] | None = None


class TiffTag(NamedTuple):
    """One tag of a page: its number, the type of its values, and those."""

    number: int
    field_type: int
    values: Iterable[int]


class TiffSink:
    """Writes tiles into one pyramidal TIFF.

    Args:
        layout: The levels and their tiles, all of them full. Its extension is the
            compression of the tiles: "jpg" or "deflate".
        target: The file's path.
        overwrite: Replace an existing result, only at the end.
        samples: The samples of the tiles.
        record: How the result is made, as JSON: the description of the image. Default: none.

    Raises:
        TargetError: A file exists that must not be replaced, another run works on this target, or
            its folder cannot be written.
    """

    def __init__(
        self,
        layout: Tiff,
        target: str | Path,
        *,
        overwrite: bool = False,
        samples: TiffSamples,
        record: bytes = b"",
    ) -> None:
        self._record = record
        self._pyramid = layout.pyramid
        self._levels = layout.pyramid.stored_levels
        self._samples = samples
        self._table_extractor = JpegTableExtractor() if layout.extension == "jpg" else None
        self._offsets = {level.number: _zero_array(level.tile_count) for level in self._levels}
        self._sizes = {level.number: _zero_array(level.tile_count) for level in self._levels}
        self._cols = {level.number: level.cols for level in self._levels}
        self._file = AtomicFile(target, overwrite=overwrite)
        try:
            self._file.append(bytes(HEADER_BYTES))
        except BaseException:
            self._file.abort()
            raise

    def put(self, tile: Tile, data: bytes) -> None:
        """Write one tile.

        Raises:
            TargetError: It cannot be written.
        """
        parts = self._table_extractor.extract(data) if self._table_extractor else (data,)
        index = tile.row * self._cols[tile.level] + tile.col
        start = self._file.append(*parts)
        self._offsets[tile.level][index] = start
        self._sizes[tile.level][index] = self._file.size - start

    def finish(self) -> None:
        """Write the pages' directories and the header, and publish.

        Raises:
            TargetError: It cannot be written, or a file has appeared there meanwhile.
        """
        self._file.ensure_open()
        large = self._file.size + self._max_directory_bytes() >= CLASSIC_TIFF_LIMIT
        following = 0
        for level in self._levels:  # the smallest first: each refers to the next smaller one
            following = self._write_page(
                self._page_tags(level, large=large), following, large=large
            )
        header = struct.pack("<2s3HQ", b"II", 43, 8, 0, following)
        if not large:
            header = struct.pack("<2sHIQ", b"II", 42, following, 0)
        self._file.overwrite_at(header, 0)
        self._file.publish()

    def abort(self) -> None:
        """Discard the result; leave an older one untouched. Never raises."""
        self._file.abort()

    def _max_directory_bytes(self) -> int:
        """What all directories take, at most."""
        tiles = sum(level.tile_count for level in self._levels)
        profile = len(self._samples.icc_profile or b"")
        return 16 * tiles + (4096 + profile) * len(self._levels) + len(self._record)

    def _page_tags(self, level: Level, *, large: bool) -> list[TiffTag]:
        samples = self._samples
        number, place = level.number, LONG8 if large else LONG
        tags = [
            TiffTag(254, LONG, [int(level is not self._levels[-1])]),
            TiffTag(256, LONG, [level.inset.width]),
            TiffTag(257, LONG, [level.inset.height]),
            TiffTag(258, SHORT, [samples.bits] * samples.bands),
            TiffTag(277, SHORT, [samples.bands]),
            TiffTag(284, SHORT, [1]),
            TiffTag(322, LONG, [level.tile_size]),
            TiffTag(323, LONG, [level.tile_size]),
            TiffTag(324, place, self._offsets[number]),
            TiffTag(325, LONG, self._sizes[number]),
            *self._colour_tags(),
        ]
        if self._record and level is self._levels[-1]:
            tags.append(TiffTag(270, ASCII, self._record + b"\0"))
        if samples.has_alpha:
            tags.append(TiffTag(338, SHORT, [2]))  # not multiplied with the colours
        if samples.icc_profile is not None:
            tags.append(TiffTag(34675, UNDEFINED, samples.icc_profile))
        if samples.resolution is not None:
            times = self._pyramid.downscale_exponent(number)
            x, y = (_rational(dots / 2**times) for dots in samples.resolution)
            tags += [TiffTag(282, RATIONAL, x), TiffTag(283, RATIONAL, y), TiffTag(296, SHORT, [2])]
        return sorted(tags)

    def _colour_tags(self) -> list[TiffTag]:
        """How the tiles are compressed, and what their numbers mean."""
        plain = _MIN_IS_BLACK if self._samples.bands < 3 else _RGB
        if self._table_extractor is None:
            return [
                TiffTag(259, SHORT, [_DEFLATE]),
                TiffTag(262, SHORT, [plain]),
                TiffTag(317, SHORT, [2]),
            ]
        shared = self._table_extractor.shared or SharedTables(b"", (1, 1))
        tags = [TiffTag(259, SHORT, [_JPEG]), TiffTag(347, UNDEFINED, shared.tables)]
        if plain != _RGB:
            return [*tags, TiffTag(262, SHORT, [plain])]
        full_range = [0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1]
        return [
            *tags,
            TiffTag(262, SHORT, [_YCBCR]),
            TiffTag(530, SHORT, shared.subsampling),
            TiffTag(532, RATIONAL, full_range),
        ]

    def _write_page(self, tags: list[TiffTag], following: int, *, large: bool) -> int:
        """Write a page's values and its directory; gives where the directory is."""
        room, place = (8, "Q") if large else (4, "I")
        entries = []
        for tag in tags:
            values = array(_TYPE_CODES[tag.field_type], tag.values)
            if struct.calcsize("=" + _TYPE_CODES[tag.field_type]) != values.itemsize:
                raise AssertionError("this machine's integers have other sizes")
            data = _little_endian(values)
            if len(data) > room:
                self._align()
                data = struct.pack(f"<{place}", self._file.append(data))
            count = len(values) // (2 if tag.field_type == RATIONAL else 1)
            entries.append(
                struct.pack(f"<2H{place}", tag.number, tag.field_type, count)
                + data.ljust(room, b"\0")
            )
        self._align()
        length = struct.pack("<Q" if large else "<H", len(entries))
        return self._file.append(length, *entries, struct.pack(f"<{place}", following))

    def _align(self) -> None:
        """Directories and values begin at multiples of 8."""
        self._file.append(bytes(-self._file.size % 8))


def _zero_array(count: int) -> array[int]:
    return array("Q", bytes(8 * count))


def _little_endian(values: array[int]) -> bytes:
    if struct.pack("=H", 1) != struct.pack("<H", 1):
        values.byteswap()
    return values.tobytes()


def _rational(value: float) -> tuple[int, int]:
    """A positive number as a fraction of 32 bits each, as exact as can be."""
    value = min(max(value, 1 / _MAX_LONG), _MAX_LONG)
    found = Fraction(value).limit_denominator(min(_MAX_LONG, int(_MAX_LONG / value)))
    return max(1, found.numerator), found.denominator
