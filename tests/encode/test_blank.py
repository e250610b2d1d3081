"""Which tiles are blank, against a plain look at every pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fasttile.encode.codecs import Jpeg, Png
from fasttile.encode.encoder import BlankCriterion, Encoder
from fasttile.kernels import luma
from fasttile.types import Colour

BLUE = (30, 144, 255)


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("background", [(255, 255, 255), BLUE, (0, 0, 0)])
def test_one_pixel_decides(bands: int, background: Colour) -> None:
    encoder = Encoder(Png(), background, blank=BlankCriterion(background, 5))
    colour = [luma(background)] if bands < 3 else [*background]
    ground = [*colour, 255] if bands in (2, 4) else colour
    for height, width in ((1, 1), (1, 7), (5, 3), (16, 16)):
        tile = np.empty((height, width, bands), np.uint8)
        tile[:] = ground
        assert encoder.encode(tile) is None
        for y, x in {(0, 0), (height // 2, width // 2), (height - 1, width - 1), (0, width - 1)}:
            for band in range(len(colour)):
                away = -1 if ground[band] > 127 else 1
                other = tile.copy()
                other[y, x, band] = ground[band] + 5 * away
                assert encoder.encode(other) is None
                other[y, x, band] = ground[band] + 6 * away
                assert encoder.encode(other) is not None
                if bands in (2, 4):
                    other[y, x, -1] = 5
                    assert encoder.encode(other) is None
                    other[y, x, -1] = 6
                    assert encoder.encode(other) is not None


@given(
    values=st.lists(st.integers(0, 255), min_size=12, max_size=12),
    threshold=st.integers(0, 255),
    background=st.tuples(*[st.integers(0, 255)] * 3),
)
@settings(max_examples=200)
def test_any_pixels(values: list[int], threshold: int, background: Any) -> None:
    tile = np.array(values, np.uint8).reshape(2, 2, 3)
    encoder = Encoder(Jpeg(), background, blank=BlankCriterion(background, threshold))
    differs = np.abs(tile.astype(int) - background).max()
    assert (encoder.encode(tile) is None) == (differs <= threshold)


def test_transparent_pixels_are_laid_on_the_background_first() -> None:
    encoder = Encoder(Jpeg(), BLUE, blank=BlankCriterion(BLUE, 0))
    tile = np.zeros((8, 8, 4), np.uint8)
    assert encoder.encode(tile) is None
    tile[7, 7] = (200, 0, 0, 255)
    assert encoder.encode(tile) is not None


def test_sixteen_bits() -> None:
    encoder = Encoder(Png(), blank=BlankCriterion((255, 255, 255), 1))
    tile = np.full((8, 8, 1), 65535, np.uint16)
    assert encoder.encode(tile) is None
    tile[3, 4] = 65535 - 257
    assert encoder.encode(tile) is None
    tile[3, 4] = 65535 - 258
    assert encoder.encode(tile) is not None


def test_what_was_seen_blank_is_seen_so_again() -> None:
    encoder = Encoder(Jpeg(), blank=BlankCriterion((255, 255, 255), 0))
    white = np.full((8, 8, 3), 255, np.uint8)
    black = np.zeros((8, 8, 3), np.uint8)
    assert [encoder.encode(tile) is None for tile in (white, black, white, black)] == [
        True,
        False,
        True,
        False,
    ]
