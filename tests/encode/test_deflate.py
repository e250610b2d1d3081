"""Tiles for TIFF without loss: what zlib and plain sums give back is what went in."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest

from fasttile.encode.codecs import Deflate, parse_codec
from fasttile.encode.encoder import Encoder
from fasttile.errors import OptionError
from support.reading import noise


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (16, 16), (48, 32)])
@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_comes_back(bands: int, size: tuple[int, int], level: int) -> None:
    pixels = noise(*size, bands)
    data = Encoder(Deflate(level)).encode(pixels)
    assert data is not None
    _assert_same(data, pixels)


@pytest.mark.parametrize("order", ["C", "strided"])
def test_sixteen_bits_are_little_endian(order: str) -> None:
    pixels = np.random.default_rng(1).integers(0, 2**16, (32, 64, 1)).astype(np.uint16)
    if order == "strided":
        pixels = np.concatenate([pixels, pixels], axis=1)[:, 10:74]
    data = Encoder(Deflate()).encode(pixels)
    assert data is not None
    _assert_same(data, pixels)


def _assert_same(data: bytes, pixels: Any) -> None:
    height, width, bands = pixels.shape
    rows = np.frombuffer(zlib.decompress(data), pixels.dtype.newbyteorder("<"))
    rows = rows.reshape(height, width, bands)
    assert np.array_equal(np.cumsum(rows, axis=1, dtype=pixels.dtype), pixels)


def test_parameters() -> None:
    assert parse_codec("deflate:compress_level=9") == Deflate(9)
    for text in ("deflate:compress_level=10", "deflate:level=1"):
        with pytest.raises(OptionError):
            parse_codec(text)
