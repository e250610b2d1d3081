"""Tiles of an image, made when they are asked for: each is the one that `cut` would write.

The pixels of a level are made by halving those of the next larger one, as the walk does it: the
same kernels, the same `inset` and `basis`, and the same encoders. But they are made by blocks of
about a tile, which are kept in a cache; so a tile costs the blocks that are not in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from fasttile.abc.layout import ResultTexts
from fasttile.abc.reader import PyramidReader
from fasttile.abc.source import Source
from fasttile.colour.convert import convert_pixels
from fasttile.encode.codecs import Deflate
from fasttile.errors import OptionError, SourceError
from fasttile.geometry import Tile
from fasttile.jobs.cut_job import open_job
from fasttile.jobs.pipeline import ThreadEncoders
from fasttile.jobs.plan import Plan
from fasttile.ondemand.levels import LevelPixels
from fasttile.options.cut import CutKeywords, CutOptions
from fasttile.readers import is_pyramid, open_result
from fasttile.sources.files import (
    STANDARD_INPUT,
    STORE_SCHEMES,
    parse_array_name,
    scheme_of,
)
from fasttile.storage.system import log_notes
from fasttile.types import Pixels

if TYPE_CHECKING:
    from typing import Unpack

CACHE_BYTES = 2**28
"""Default limit of the pixels that an image's pyramid keeps, in bytes."""


def open_pyramid(
    source: object,
    *,
    cache_bytes: int = CACHE_BYTES,
    options: CutOptions | None = None,
    **keywords: Unpack[CutKeywords],
) -> PyramidReader:
    r"""Open a result to read its tiles, or an image whose tiles are made when they are asked for.

    Each tile of an image is, byte for byte, the one that `cut` with these options writes. Of
    mapped files, arrays, tiled TIFFs and slides, only the pixels that a tile needs are read, and
    smaller levels are made from blocks of larger ones that are kept; images that are decoded in
    order (JPEG, PNG …) are decoded once, by the first tile, into memory or, if it is short, an
    unlinked temporary file.

    Args:
        source: A result: a .dzi, or Deep Zoom's .json, .js or .xml; a folder that holds an
            ImageProperties.xml, tilemapresource.xml, info.json, tiles.json or a single .dzi, or
            one of these files; a .zip or .szi of any of those; a .pmtiles or .mbtiles of images;
            or a pyramidal TIFF; of tiles without a descriptor their names,
            "site/map/{z}/{x}/{y}.png#size=W,H". Or the address of one in an object store: s3://,
            gs:// or az://; it is read by ranges, and only an .mbtiles is downloaded. Or an image:
            anything that `open_source` takes; an open `Source` stays open. With any option, the
            largest level of a result, or of an open pyramid, is the image.
        cache_bytes: Largest size of the pixels of an image that are kept, in bytes.
        options: Options for several calls; keywords override its fields.
        **keywords: Of an image: fields of `CutOptions`, as for `cut`: layout="dzi", format="jpeg",
            window="auto" … Options for storing have no effect.

    Returns:
        The open pyramid, a context manager. Many threads may read from it.

    Raises:
        OptionError: An option cannot be used, alone or for this image.
        SourceError: There is neither a result nor an image, or it is damaged.

    Example:
        >>> with fasttile.open_pyramid("site/map.dzi") as result:  # doctest: +SKIP
        ...     data = result.tile(level=12, col=3, row=2)
        >>> image = np.zeros((600, 1000, 3), np.uint8)
        >>> with open_pyramid(image, tile_size=512, overlap=0, format="png") as pyramid:
        ...     print(pyramid.level_count, pyramid.level_sizes[-1], pyramid.tile_count)
        ...     print(pyramid.pixels(level=10, col=1, row=0).shape)
        ...     print(pyramid.tile(level=10, col=1, row=0)[:4])
        11 (1000, 600) 14
        (512, 488, 3)
        b'\x89PNG'
    """
    if cache_bytes < 0:
        raise OptionError(f"cache_bytes {cache_bytes} is negative; expected a number of bytes")
    cut_options = CutOptions.from_keywords(keywords, options)
    result = _open_result(source, options is not None or bool(keywords))
    if result is not None:
        return result
    # Nothing is stored: options for that have no effect.
    cut_options = replace(cut_options, viewer=None, resume=False, overwrite=False)
    return ImagePyramid(Plan.for_program(cut_options, source), source, cache_bytes)


def _open_result(source: object, has_options: bool) -> PyramidReader | None:
    """Open a path as a result; None if it has none, or options make an image of it."""
    if has_options or not isinstance(source, str | os.PathLike) or source == STANDARD_INPUT:
        return None
    if is_pyramid(source):
        return open_result(source)
    if scheme_of(source) in (None, *STORE_SCHEMES) and parse_array_name(source) is None:
        with suppress(SourceError):  # an image; of files of other kinds only the head was read
            return open_result(source)
    return None


class ImagePyramid(PyramidReader):
    """The pyramid of an open image, whose tiles are made when they are asked for.

    Args:
        plan: The options.
        source: The image, as for `cut`.
        cache_bytes: Largest size of the pixels that are kept, in bytes.

    Raises:
        OptionError: The options cannot be used for this image.
        SourceError: The image cannot be read.
    """

    def __init__(self, plan: Plan, source: object, cache_bytes: int = CACHE_BYTES) -> None:
        self._open_files = ExitStack()
        job = self._job = self._open_files.enter_context(open_job(plan, source))
        super().__init__(job.layout)
        self.allows_missing_tiles = plan.blank is not None
        self.metadata = job.source.metadata
        self.notes = (*self.metadata.notes, *job.colour_plan.notes)
        log_notes(self.name, self.notes)
        self._encoders = ThreadEncoders(
            plan.codec,
            plan.background,
            job.colour_plan,
            self.pyramid.level_count - 1,
            plan.blank,
        )
        self._levels = LevelPixels(job, cache_bytes, keeps_source=isinstance(source, Source))
        self._open_files.callback(self._levels.close)

    @property
    def media_type(self) -> str:
        """Media type of the files that `tile` returns."""
        return "image/png" if isinstance(self._job.plan.codec, Deflate) else super().media_type

    @property
    def texts(self) -> ResultTexts:
        """Title, description and credit line of the image, as a cut would have them."""
        from fasttile.jobs.descriptions import result_texts

        return result_texts(self._job.plan, self._job.origin)

    def _close_files(self) -> None:
        """Close the image."""
        self._open_files.close()

    def __repr__(self) -> str:
        width, height = self.pyramid.size
        return f"<{type(self).__name__} {self.name!r}: {width}×{height} pixels>"

    def _read_tile(self, tile: Tile) -> bytes | None:
        if isinstance(self._job.plan.codec, Deflate):
            from fasttile.formats.png import encode_png

            with self._pixels_of(tile) as pixels:
                return encode_png(convert_pixels(self._job.colour_plan, pixels))
        with self._pixels_of(tile) as pixels:
            data = self._encoders.for_level(tile.level).encode(pixels)
        if self._job.plan.target.container == "tiff" and self.extension == "jpg":
            assert data is not None  # a TIFF has all tiles
            return _jpeg_of_tiff(data, self.tile_label(tile))
        return data

    def _read_pixels(self, tile: Tile) -> Pixels | None:
        if self._job.plan.blank is not None and self._read_tile(tile) is None:
            return None
        with self._pixels_of(tile) as pixels:
            return convert_pixels(self._job.colour_plan, pixels.copy())

    @contextmanager
    def _pixels_of(self, tile: Tile) -> Iterator[Pixels]:
        """The pixels of a tile, yet to be converted.

        Raises:
            SourceError: The image cannot be read.
        """
        yield self._levels.read(tile.level, self.pyramid.region(tile))
        self._levels.check_intact()


def _jpeg_of_tiff(data: bytes, label: str) -> bytes:
    """A JPEG tile as readers of a TIFF return it: with the shared tables first."""
    from fasttile.formats.jpeg import JpegTableExtractor
    from fasttile.readers.tiff import standalone_jpeg

    extractor = JpegTableExtractor()
    rest = b"".join(extractor.extract(data))
    tables = b"" if extractor.shared is None else extractor.shared.tables
    return standalone_jpeg(rest, tables, is_rgb=False, name=label)
