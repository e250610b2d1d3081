"""Guess of the encoding of tiles: JPEG shows nearly all parameters, PNG, WebP and AVIF few.

Sources: ITU-T T.81, annexes B and K; RFC 9649. The quantisation tables of libjpeg are a function of
the quality, so the tables that this encoder writes at each quality show the quality of a tile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from fasttile.encode.codecs import Avif, Codec, Deflate, Jpeg, Png, Webp, parse_codec
from fasttile.encode.encoder import make_encoder
from fasttile.errors import SourceError
from fasttile.formats.images import read_tile_header
from fasttile.formats.jpeg import jpeg_segments
from fasttile.formats.png import png_pixel_data
from fasttile.geometry import Tile
from fasttile.pillow_core import encodes_avif
from fasttile.readers.tiff import TiffReader
from fasttile.verify.report import Findings
from fasttile.verify.tiles import StoredTiles

MAX_SAMPLE_TILES = 25
"""Maximum number of tiles that are examined."""

TILES_TO_REENCODE = 8
"""Approximate number of tiles that are encoded again to test parameters."""

_DQT, _DHT, _PROGRESSIVE_FRAME = 0xDB, 0xC4, 0xC2
_FRAME_MARKERS = (0xC0, 0xC1, 0xC2)
_SUBSAMPLING = {0x11: "4:4:4", 0x21: "4:2:2", 0x22: "4:2:0"}


class JpegParameters(NamedTuple):
    """Properties of a JPEG that depend on how it was encoded.

    Attributes:
        quantisation_tables: The quantisation tables, by their numbers.
        huffman_tables: The Huffman tables.
        is_progressive: True if the JPEG has several scans.
        sampling: Sampling factors of the first component, four bits each.
    """

    quantisation_tables: dict[int, bytes]
    huffman_tables: frozenset[bytes]
    is_progressive: bool
    sampling: int


def read_jpeg_parameters(data: bytes) -> JpegParameters:
    """The parameters in the header of a JPEG that has all segments."""
    tables: dict[int, bytes] = {}
    huffman: set[bytes] = set()
    progressive, sampling = False, 0
    for marker, start, stop in jpeg_segments(data):
        segment = data[start + 4 : stop]
        if marker == _DQT:
            position = 0
            while position < len(segment):
                kind, begin = segment[position], position + 1
                position = begin + (128 if kind >> 4 else 64)  # 16 or 8 bits each
                tables[kind & 15] = segment[begin:position]
        elif marker == _DHT:
            huffman.add(segment)
        elif marker in _FRAME_MARKERS:
            progressive = marker == _PROGRESSIVE_FRAME
            sampling = segment[7]
    return JpegParameters(tables, frozenset(huffman), progressive, sampling)


class TileEncoding(NamedTuple):
    """The encoding of the tiles of a result.

    Attributes:
        codec: The most similar codec.
        is_known: True if the codec has the quality of the tiles.
    """

    codec: Codec
    is_known: bool


def guess_encoding(
    tiles: StoredTiles, format_text: str | None, quality: int | None
) -> TileEncoding:
    """Guess the encoding of tiles from a sample of them.

    Args:
        tiles: The stored tiles.
        format_text, quality: Options of `cut`, which take precedence.

    Raises:
        OptionError: The options are not valid.
    """
    if format_text is not None:
        return TileEncoding(parse_codec(format_text, quality), True)
    extension = tiles.reader.extension
    if isinstance(tiles.reader, TiffReader) and extension not in ("jpg", "webp"):
        return _guess_lossless(tiles, [Deflate(level) for level in (6, *range(10))])
    if extension == "png":
        levels = (6, 9, *range(9))
        others = [Png(compress_level=level, compress_type=n) for level in levels for n in range(5)]
        return _guess_lossless(tiles, [Png(), *others], png_pixel_data)
    if extension in ("jpg", "jpeg"):
        samples = (read_jpeg_parameters(data) for _, data in _sample_tiles(tiles))
        counts = Counter(_jpeg_codec_from(parameters) for parameters in samples)
        codec, known = counts.most_common(1)[0][0] if counts else (Jpeg(), False)
        if quality is not None:
            return TileEncoding(replace(codec, quality=quality), True)
        return TileEncoding(codec, known)
    if extension == "webp":
        if any(b"VP8L" in data[:64] for _, data in _sample_tiles(tiles)):
            efforts = (80, *range(1, 101)) if quality is None else (quality,)
            pairs = ((n, method) for method in (None, 4) for n in efforts)
            return _guess_lossless(tiles, [Webp(n, True, method) for n, method in pairs])
        # Lossy WebP does not contain its quality.
        return TileEncoding(Webp(quality=80 if quality is None else quality), quality is not None)
    if extension == "avif" and encodes_avif():
        return TileEncoding(Avif() if quality is None else Avif(quality), quality is not None)
    return TileEncoding(Jpeg(quality=50), False)


def tile_bit_depth(tiles: StoredTiles) -> Literal[8, 16]:
    """Bits of each band of the tiles, from one tile."""
    for tile, data in _sample_tiles(tiles):
        pixels = tiles.decode(tile, data)
        if not isinstance(pixels, str):
            return 16 if pixels.dtype == np.uint16 else 8
    return 8


def tile_profile(tiles: StoredTiles) -> bytes | None:
    """The ICC profile that the tiles carry, from one tile, or from the page of a TIFF."""
    with suppress(SourceError):
        if isinstance(tiles.reader, TiffReader):
            return tiles.reader.icc_profile()
        for tile, data in _sample_tiles(tiles):
            return read_tile_header(data, tiles.tile_name(tile)).icc_profile
    return None


def _sample_tiles(tiles: StoredTiles) -> Iterator[tuple[Tile, bytes]]:
    """Some tiles without a known fault, with their bytes."""
    asked = StoredTiles(tiles.reader, Findings())  # faults are reported later
    for level in reversed(tiles.pyramid.stored_levels):
        count = min(MAX_SAMPLE_TILES, level.tile_count)
        for n in range(count):
            row, col = divmod(n * level.tile_count // count, level.cols)
            tile = Tile(level.number, col, row)
            data = asked.valid_tile(tile)
            if data is not None:
                yield tile, data
        if (
            asked.findings.tiles >= MAX_SAMPLE_TILES
            or asked.findings.fault_count >= 4 * MAX_SAMPLE_TILES
        ):
            return


def _jpeg_codec_from(parameters: JpegParameters) -> tuple[Jpeg, bool]:
    """The codec of some parameters, and True if its quality is exact."""
    known = _qualities_by_tables()
    first, last = parameters.quantisation_tables.get(0, b""), parameters.quantisation_tables.get(1)
    exact = known.get((first, last)) or known.get((first, None))
    quality = exact or 75
    if exact is None and len(first) == 64:  # of another encoder: the most similar table
        own_sums = {n: sum(_own_jpeg_parameters(n).quantisation_tables[0]) for n in range(1, 101)}
        quality = min(own_sums, key=lambda n: abs(own_sums[n] - sum(first)))
    usual = _own_jpeg_parameters(80).huffman_tables
    codec = Jpeg(
        quality=quality,
        subsampling=_SUBSAMPLING.get(parameters.sampling, "4:2:0"),
        progressive=parameters.is_progressive,
        optimize=not parameters.is_progressive and not parameters.huffman_tables <= usual,
    )
    return codec, exact is not None


@cache
def _qualities_by_tables() -> dict[tuple[bytes, bytes | None], int]:
    """Qualities by both quantisation tables, or by the first alone, for grey tiles."""
    qualities: dict[tuple[bytes, bytes | None], int] = {}
    for quality in range(1, 101):
        tables = _own_jpeg_parameters(quality).quantisation_tables
        qualities.setdefault((tables[0], tables[1]), quality)
        qualities.setdefault((tables[0], None), quality)
    return qualities


@cache
def _own_jpeg_parameters(quality: int) -> JpegParameters:
    data = make_encoder(Jpeg(quality=quality)).encode(np.zeros((8, 8, 3), np.uint8))
    assert data is not None
    return read_jpeg_parameters(data)


def _guess_lossless(
    tiles: StoredTiles,
    candidates: Iterable[Codec],
    compared_part: Callable[[bytes], bytes] = lambda data: data,
) -> TileEncoding:
    """The first parameters that reproduce the bytes of all samples, or of most.

    The pixels are the same with each of them.

    Args:
        tiles: The stored tiles.
        candidates: Parameters, the most likely first.
        compared_part: Returns the part of a file that depends on them.
    """
    asked, samples = StoredTiles(tiles.reader, Findings()), []
    by_size = sorted(_sample_tiles(tiles), key=lambda sample: len(sample[1]))
    for tile, data in by_size[:: max(1, len(by_size) // TILES_TO_REENCODE)]:
        pixels = asked.valid_pixels(tile, data)
        if pixels is not None:
            samples.append((np.ascontiguousarray(pixels), compared_part(data)))
    best, most = next(iter(candidates := list(candidates))), -1
    for codec in candidates:
        same = 0
        for pixels, wanted in samples:
            with suppress(ValueError):  # no encoder takes such pixels
                same += compared_part(make_encoder(codec).encode(pixels) or b"") == wanted
            if not same:
                break
        if same > most:
            best, most = codec, same
        if same == len(samples):
            break
    return TileEncoding(best, True)
