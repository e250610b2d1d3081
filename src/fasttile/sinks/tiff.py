"""Pyramidal TIFF: each level is an image of tiles, the largest first, in one file.

Tiles are written once, in the order of the walk; their offsets are known at the end, so the
directories are there. The first 16 bytes are written last: the size of the file decides between
TIFF, with offsets of 32 bits, and BigTIFF. Only a Cloud Optimized GeoTIFF has another order:
`CogSink`.

Sources: TIFF 6.0; Adobe's technical notes of 1995 (JPEG) and 2002 (Deflate); the BigTIFF design;
OME-TIFF 6. OpenSlide and IIPImage need the smaller pages in the chain, marked as reduced
(NewSubfileType 1), and square tiles; OME-TIFF has them as SubIFDs of the first page.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path

from fasttile.formats.geotiff import GeoReference
from fasttile.formats.jpeg import JpegTableExtractor, SharedTables
from fasttile.formats.ome import encode_ome_xml
from fasttile.formats.tiff_tags import (
    ASCII,
    LONG,
    LONG8,
    RATIONAL,
    SHORT,
    UNDEFINED,
    TiffTag,
    encode_directory,
    encode_header,
    rational,
)
from fasttile.geometry import Level, Tile
from fasttile.layouts.tiff import Tiff
from fasttile.storage.writing import AtomicFile, BytesLike

HEADER_BYTES = 16

CLASSIC_TIFF_LIMIT = 2**32
"""Files that end below this are plain TIFF."""

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
        georeference: Place of the source's pixels on a map, or None.
    """

    bands: int
    bits: int = 8
    has_alpha: bool = False
    icc_profile: bytes | None = None
    resolution: tuple[float, float] | None = None
    georeference: GeoReference | None = None


class TiffSink:
    """Writes tiles into one pyramidal TIFF.

    Args:
        layout: The levels and their tiles, all of them full. Its extension is the
            compression of the tiles: "jpg" or "deflate".
        target: The file's path.
        overwrite: Replace an existing result, only at the end.
        samples: The samples of the tiles.
        record: How the result is made, as JSON: the description of the image, or an annotation in
            OME-XML. Default: none.

    Attributes:
        geo_tags: The georeference of the largest level.

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
        self._layout = layout
        self._levels = layout.pyramid.stored_levels
        self._samples = samples
        self._description = self._describe(record)
        self.geo_tags: list[TiffTag] = []
        self._text_tags = [
            TiffTag(number, ASCII, text.encode() + b"\0")
            for number, text in ((269, layout.texts.title), (33432, layout.texts.credit))
            if text
        ]
        if samples.georeference is not None:
            times = layout.pyramid.downscale_exponent(self._levels[-1].number)
            self.geo_tags = samples.georeference.downscaled(times).tags()
        self._table_extractor = JpegTableExtractor() if layout.extension == "jpg" else None
        self._offsets = {level.number: _zero_array(level.tile_count) for level in self._levels}
        self._sizes = {level.number: _zero_array(level.tile_count) for level in self._levels}
        self._cols = {level.number: level.cols for level in self._levels}
        self._file = AtomicFile(target, overwrite=overwrite)
        try:
            self._begin()
        except BaseException:
            self.abort()
            raise

    def put(self, tile: Tile, data: bytes) -> None:
        """Write one tile.

        Raises:
            TargetError: It cannot be written.
        """
        parts = self._table_extractor.extract(data) if self._table_extractor else (data,)
        index = tile.row * self._cols[tile.level] + tile.col
        self._offsets[tile.level][index] = self._append_tile(tile.level, *parts)
        self._sizes[tile.level][index] = sum(map(len, parts))

    def finish(self) -> None:
        """Write the directories and the header, and publish.

        Raises:
            TargetError: It cannot be written, or a file has appeared there meanwhile.
        """
        self._file.ensure_open()
        large = self._file.size + self._max_directory_bytes() >= CLASSIC_TIFF_LIMIT
        following, offsets = 0, list[int]()
        for level in self._levels:  # the smallest first: each refers to the next smaller one
            tags = self._page_tags(level, self._offsets[level.number], large=large)
            if self._layout.ome:
                following = 0
                if offsets and level is self._levels[-1]:
                    tags.append(TiffTag(330, LONG8 if large else LONG, offsets[::-1]))
            self._file.append(bytes(-self._file.size % 8))
            directory = encode_directory(tags, self._file.size, following, large=large)
            following = self._file.append(directory)
            offsets.append(following)
        self._file.overwrite_at(encode_header(following, large=large), 0)
        self._file.publish()

    def abort(self) -> None:
        """Discard the result; leave an older one untouched. Never raises."""
        self._file.abort()

    def _begin(self) -> None:
        """Leave room for the header."""
        self._file.append(bytes(HEADER_BYTES))

    def _append_tile(self, level: int, *parts: BytesLike) -> int:
        """Write the data of a tile; return their offset."""
        return self._file.append(*parts)

    def _describe(self, record: bytes) -> bytes:
        """The description of the largest level, with an end; b"" if there is none."""
        texts = self._layout.texts
        if not self._layout.ome:
            if texts.description and record:
                record = f"{texts.description}\n".encode() + record
            return record + b"\0" if record else b""
        samples = self._samples
        return encode_ome_xml(
            texts.title or self._layout.image_name,
            self._layout.pyramid.size,
            samples.bands,
            samples.bits,
            resolution=self._resolution(self._levels[-1]),
            record=record,
            description=texts.description,
            rights=texts.credit,
        )

    def _resolution(self, level: Level) -> tuple[float, float] | None:
        """Pixels per inch of a level."""
        if self._samples.resolution is None:
            return None
        unit = 2 ** self._layout.pyramid.downscale_exponent(level.number)
        x, y = self._samples.resolution
        return x / unit, y / unit

    def _max_directory_bytes(self) -> int:
        """Bytes of all directories, at most."""
        tiles = sum(level.tile_count for level in self._levels)
        profile = len(self._samples.icc_profile or b"")
        own_tags = [*self.geo_tags, *self._text_tags]
        texts = len(self._description) + sum(8 * len(list(tag.values)) for tag in own_tags)
        return 16 * tiles + (4096 + profile) * len(self._levels) + texts

    def _page_tags(self, level: Level, offsets: array[int], *, large: bool) -> list[TiffTag]:
        samples, is_top = self._samples, level is self._levels[-1]
        tags = [
            TiffTag(254, LONG, [int(not is_top)]),
            TiffTag(256, LONG, [level.inset.width]),
            TiffTag(257, LONG, [level.inset.height]),
            TiffTag(258, SHORT, [samples.bits] * samples.bands),
            TiffTag(277, SHORT, [samples.bands]),
            TiffTag(284, SHORT, [1]),
            TiffTag(322, LONG, [level.tile_size]),
            TiffTag(323, LONG, [level.tile_size]),
            TiffTag(324, LONG8 if large else LONG, offsets),
            TiffTag(325, LONG, self._sizes[level.number]),
            *self._colour_tags(),
        ]
        if self._description and is_top:
            tags.append(TiffTag(270, ASCII, self._description))
        tags += self._text_tags if is_top else []
        tags += self.geo_tags if is_top else []
        if samples.has_alpha:
            tags.append(TiffTag(338, SHORT, [2]))  # not multiplied with the colours
        if samples.icc_profile is not None:
            tags.append(TiffTag(34675, UNDEFINED, samples.icc_profile))
        if (resolution := self._resolution(level)) is not None:
            x, y = map(rational, resolution)
            tags += [TiffTag(282, RATIONAL, x), TiffTag(283, RATIONAL, y), TiffTag(296, SHORT, [2])]
        return tags

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


def _zero_array(count: int) -> array[int]:
    return array("Q", bytes(8 * count))
