"""JPEG streams without what they share: put together again, they are the same images."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fasttile.formats.jpeg import JpegTableExtractor


def encode_noise(
    seed: int = 0, size: tuple[int, int] = (16, 16), bands: int = 3, **save_options: Any
) -> bytes:
    shape = (size[1], size[0], 3)[: 3 if bands == 3 else 2]
    pixels = np.random.default_rng(seed).integers(0, 255, shape, np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", **save_options)
    return file.getvalue()


def decode_pixels(data: bytes) -> bytes:
    return Image.open(io.BytesIO(data)).tobytes()


def join_tables(shortener: JpegTableExtractor, short: bytes) -> bytes:
    """A stream as a decoder sees it: the shared tables first."""
    assert shortener.shared is not None
    return shortener.shared.tables[:-2] + short[2:]


def shorten(shortener: JpegTableExtractor, data: bytes) -> bytes:
    return b"".join(shortener.extract(data))


def marker_codes(data: bytes) -> list[int]:
    """The markers of a stream up to its scan, or to its end."""
    found, place = [], 2
    while data[place + 1] not in (0xD9, 0xDA):
        found.append(data[place + 1])
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return found


def test_tables_are_shared_and_the_rest_is_kept() -> None:
    shortener = JpegTableExtractor()
    streams = [encode_noise(seed, quality=75) for seed in range(3)]
    shorter = [shorten(shortener, data) for data in streams]
    assert shortener.shared is not None
    assert marker_codes(shortener.shared.tables) == [0xDB, 0xDB, 0xC4, 0xC4, 0xC4, 0xC4]
    assert shortener.shared.tables[-2:] == b"\xff\xd9"
    for data, short in zip(streams, shorter, strict=True):
        assert marker_codes(short) == [0xC0]
        assert len(data) - len(short) > 500
        assert decode_pixels(join_tables(shortener, short)) == decode_pixels(data)


def test_a_stream_of_other_tables_keeps_its_own() -> None:
    shortener = JpegTableExtractor()
    first = encode_noise(1, quality=75)
    shorten(shortener, first)
    for other, own in (
        (encode_noise(2, quality=30), [0xDB, 0xDB, 0xC0]),
        (encode_noise(3, quality=75, optimize=True), [0xC0, 0xC4, 0xC4, 0xC4, 0xC4]),
    ):
        short = shorten(shortener, other)
        assert sorted(marker_codes(short)) == sorted(own)
        assert decode_pixels(join_tables(shortener, short)) == decode_pixels(other)
    again = shorten(shortener, first)
    assert marker_codes(again) == [0xC0]


def test_huffman_tables_that_were_made_for_one_tile_are_not_shared() -> None:
    """Not even if that tile comes first, and again: see `Shortener`."""
    shortener = JpegTableExtractor()
    streams = [encode_noise(seed, quality=75, optimize=True) for seed in (1, 2, 1)]
    shorter = [shorten(shortener, data) for data in streams]
    assert shortener.shared is not None
    assert marker_codes(shortener.shared.tables) == [0xDB, 0xDB]
    for data, short in zip(streams, shorter, strict=True):
        assert marker_codes(short).count(0xC4) == 4
        assert decode_pixels(join_tables(shortener, short)) == decode_pixels(data)


def test_streams_may_begin_in_many_ways() -> None:
    """More than are remembered, and each of them again."""
    shortener = JpegTableExtractor()
    streams = [encode_noise(seed, quality=75, dpi=(seed + 1, 7)) for seed in range(20)]
    for data in [*streams, *streams]:
        short = shorten(shortener, data)
        assert marker_codes(short) == [0xC0]
        assert decode_pixels(join_tables(shortener, short)) == decode_pixels(data)


def test_nothing_of_jfif_exif_or_comments_is_left() -> None:
    data = encode_noise(
        dpi=(300, 300),
        comment=b"said",
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0",
        icc_profile=b"x",
    )
    assert {0xE0, 0xE1, 0xE2, 0xFE} <= set(marker_codes(data))
    assert marker_codes(shorten(JpegTableExtractor(), data)) == [0xC0]


def test_restart_intervals_are_kept() -> None:
    shortener = JpegTableExtractor()
    data = encode_noise(size=(64, 64), restart_marker_blocks=2)
    short = shorten(shortener, data)
    assert marker_codes(short) == [0xC0, 0xDD]
    assert decode_pixels(join_tables(shortener, short)) == decode_pixels(data)


@pytest.mark.parametrize(
    ("how", "factors"), [("4:4:4", (1, 1)), ("4:2:2", (2, 1)), ("4:2:0", (2, 2))]
)
def test_subsampling_is_read_from_the_frame(how: str, factors: tuple[int, int]) -> None:
    shortener = JpegTableExtractor()
    shorten(shortener, encode_noise(subsampling=how))
    assert shortener.shared is not None
    assert shortener.shared.subsampling == factors


def test_a_grey_stream_is_not_subsampled_even_if_it_says_so() -> None:
    shortener = JpegTableExtractor()
    data = encode_noise(bands=1)
    place = data.index(b"\xff\xc0")
    odd = data[: place + 11] + b"\x22" + data[place + 12 :]
    short = shorten(shortener, odd)
    assert shortener.shared is not None
    assert shortener.shared.subsampling == (1, 1)
    assert decode_pixels(join_tables(shortener, short)) == decode_pixels(data)


def test_sizes_may_differ() -> None:
    shortener = JpegTableExtractor()
    for size in ((16, 16), (5, 16), (16, 16)):
        data = encode_noise(size=size)
        short = shorten(shortener, data)
        assert decode_pixels(join_tables(shortener, short)) == decode_pixels(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n" + bytes(50),
        b"\xff\xd8\xff\xc0\x00\x02" + bytes(20),
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8" + bytes(50),
        b"RIFF....WEBP",
    ],
)
def test_what_is_no_jpeg_is_an_error(data: bytes) -> None:
    shortener = JpegTableExtractor()
    with pytest.raises(ValueError, match="a tile is"):
        shortener.extract(data)
    assert shortener.shared is None


def test_a_stream_cut_short_in_its_head_is_an_error() -> None:
    data = encode_noise()
    head = data.index(b"\xff\xda") + 2 + 12
    for end in range(head + 1):
        with pytest.raises(ValueError, match="a tile is"):
            JpegTableExtractor().extract(data[:end])


def test_a_progressive_stream_is_an_error() -> None:
    with pytest.raises(ValueError, match="of a kind that TIFF has not: C2"):
        JpegTableExtractor().extract(encode_noise(progressive=True))
