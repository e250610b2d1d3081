"""How tiles were encoded, read off the tiles: JPEG says nearly all, PNG and WebP little.

Sources: ITU-T T.81, annexes B and K; RFC 9649. libjpeg's tables are a function of its quality:
which one it was, a comparison with those tells that an encoder of ours writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from ..codec import Codec, Deflate, Jpeg, Png, Webp, parse_codec
from ..geometry import Tile
from ..readers.tiff import TiffReader
from .intact import pixel_data
from .report import Findings
from .stored import Tiles

SAMPLES = 25
"""How many tiles are asked at most."""

COMPARED = 8
"""About how many of them are encoded again to see whether parameters are right."""

_DQT, _DHT, _SOS, _PROGRESSIVE = 0xDB, 0xC4, 0xDA, 0xC2
_FRAMES = (0xC0, 0xC1, 0xC2)
_SUBSAMPLING = {0x11: "4:4:4", 0x21: "4:2:2", 0x22: "4:2:0"}


class JpegHead(NamedTuple):
    """What of a JPEG tells how it was encoded.

    Attributes:
        tables: The quantisation tables, by their numbers.
        huffman: The Huffman tables.
        progressive: Whether it comes in several scans.
        sampling: Of the first component, across and down; grey tiles have one too.
    """

    tables: dict[int, bytes]
    huffman: frozenset[bytes]
    progressive: bool
    sampling: int


def head_of(data: bytes) -> JpegHead:
    """The head of a JPEG whose segments are all there."""
    position, marker = 2, 0
    tables: dict[int, bytes] = {}
    huffman: set[bytes] = set()
    progressive, sampling = False, 0
    while marker != _SOS:
        marker = data[position + 1]
        stop = position + 2 + int.from_bytes(data[position + 2 : position + 4])
        segment = data[position + 4 : stop]
        if marker == _DQT:
            tables.update(_split(segment, lambda kind: 128 if kind >> 4 else 64))
        elif marker == _DHT:
            huffman.add(segment)
        elif marker in _FRAMES:
            progressive = marker == _PROGRESSIVE
            sampling = segment[7]
        position = stop
    return JpegHead(tables, frozenset(huffman), progressive, sampling)


class Encoding(NamedTuple):
    """How a result's tiles are encoded.

    Attributes:
        codec: What comes nearest.
        known: Whether it makes tiles that are as good as the others.
    """

    codec: Codec
    known: bool


def encoding_of(tiles: Tiles, form: str | None, quality: int | None) -> Encoding:
    """How tiles were encoded.

    Args:
        tiles: Some of them are looked at.
        form, quality: What a user says of it, as for `cut`; it counts more.

    Raises:
        OptionError: The user's words cannot be used.
    """
    if form is not None:
        return Encoding(parse_codec(form, quality), True)
    extension = tiles.reader.extension
    if isinstance(tiles.reader, TiffReader) and extension not in ("jpg", "webp"):
        return _lossless_of(tiles, [Deflate(level) for level in (6, *range(10))])
    if extension == "png":
        return _lossless_of(tiles, [Png(), *_other_pngs()], pixel_data)
    if extension in ("jpg", "jpeg"):
        return _jpeg_of(tiles, quality)
    if extension == "webp":
        return _webp_of(tiles, quality)
    return Encoding(Jpeg(quality=50), False)


def bits_of(tiles: Tiles) -> Literal[8, 16]:
    """How many bits each band of the tiles has, by a look at one."""
    for tile, data in _samples(tiles):
        pixels = tiles.decoded(tile, data)
        if not isinstance(pixels, str):
            return 16 if pixels.dtype == np.uint16 else 8
    return 8


def _samples(tiles: Tiles) -> Iterator[tuple[Tile, bytes]]:
    """Some tiles that nothing is wrong with, as far as can be told, with their bytes."""
    asked = Tiles(tiles.reader, Findings())  # what is wrong will be told in its turn
    for level in reversed(tiles.pyramid.kept_levels):
        count = min(SAMPLES, level.tile_count)
        for n in range(count):
            row, col = divmod(n * level.tile_count // count, level.cols)
            tile = Tile(level.number, col, row)
            data = asked.whole(tile)
            if data is not None:
                yield tile, data
        if asked.findings.tiles >= SAMPLES or asked.findings.count >= 4 * SAMPLES:
            return


def _jpeg_of(tiles: Tiles, quality: int | None) -> Encoding:
    """The parameters that most samples have in common."""
    found = Counter(_jpeg_from(head_of(data)) for _, data in _samples(tiles))
    codec, known = found.most_common(1)[0][0] if found else (Jpeg(), False)
    if quality is not None:
        return Encoding(replace(codec, quality=quality), True)
    return Encoding(codec, known)


def _webp_of(tiles: Tiles, quality: int | None) -> Encoding:
    """Lossless or not; of the latter, nothing tells the quality."""
    if not any(b"VP8L" in data[:64] for _, data in _samples(tiles)):
        return Encoding(Webp(quality=80 if quality is None else quality), quality is not None)
    efforts = (80, *range(1, 101)) if quality is None else (quality,)
    return _lossless_of(tiles, (Webp(lossless=True, quality=effort) for effort in efforts))


def _jpeg_from(head: JpegHead) -> tuple[Jpeg, bool]:
    known = _qualities()
    first, last = head.tables.get(0, b""), head.tables.get(1)
    quality = known.get((first, last)) or known.get((first, None))
    usual = _head_of_ours(80).huffman
    codec = Jpeg(
        quality=quality or _nearest(first),
        subsampling=_SUBSAMPLING.get(head.sampling, "4:2:0"),
        progressive=head.progressive,
        optimize=not head.progressive and not head.huffman <= usual,
    )
    return codec, quality is not None


@cache
def _qualities() -> dict[tuple[bytes, bytes | None], int]:
    """Which quality has which tables: both, or that of grey tiles alone."""
    found: dict[tuple[bytes, bytes | None], int] = {}
    for quality in range(1, 101):
        tables = _head_of_ours(quality).tables
        found.setdefault((tables[0], tables[1]), quality)
        found.setdefault((tables[0], None), quality)
    return found


def _nearest(table: bytes) -> int:
    """The quality whose table comes nearest to one that is no quality's."""
    if len(table) != 64:
        return 75
    return min(
        range(1, 101), key=lambda quality: abs(sum(_head_of_ours(quality).tables[0]) - sum(table))
    )


@cache
def _head_of_ours(quality: int) -> JpegHead:
    data = Jpeg(quality=quality).encoder().encode(np.zeros((8, 8, 3), np.uint8))
    assert data is not None
    return head_of(data)


def _lossless_of(
    tiles: Tiles, likely: Iterable[Codec], part: Callable[[bytes], bytes] = lambda data: data
) -> Encoding:
    """The first parameters that give some tiles' own bytes, or most of them.

    Whichever they are, pixels are the same.

    Args:
        tiles: Of which some samples are asked, from few bytes to many.
        likely: Parameters, the most likely first.
        part: What of a file depends on them.
    """
    asked, samples = Tiles(tiles.reader, Findings()), []
    by_size = sorted(_samples(tiles), key=lambda found: len(found[1]))
    for tile, data in by_size[:: max(1, len(by_size) // COMPARED)]:
        pixels = asked.pixels(tile, data)
        if pixels is not None:
            samples.append((np.ascontiguousarray(pixels), part(data)))
    best, most = next(iter(likely := list(likely))), -1
    for codec in likely:
        same = 0
        for pixels, wanted in samples:
            with suppress(ValueError):  # no encoder of ours has such pixels
                same += part(codec.encoder().encode(pixels) or b"") == wanted
            if not same:
                break
        if same > most:
            best, most = codec, same
        if same == len(samples):
            break
    return Encoding(best, True)


def _other_pngs() -> Iterator[Codec]:
    """All other ways to compress PNG that a user may have asked for."""
    for level in (6, 9, *range(9)):
        for kind in range(5):
            yield Png(compress_level=level, compress_type=kind)


def _split(segment: bytes, size_of: Callable[[int], int]) -> Iterator[tuple[int, bytes]]:
    """The tables of a segment, each with its number."""
    position = 0
    while position < len(segment):
        kind = segment[position]
        stop = position + 1 + size_of(kind)
        yield kind & 15, segment[position + 1 : stop]
        position = stop
