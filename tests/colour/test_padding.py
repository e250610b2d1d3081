"""What the canvas is outside the image: the background, once it is converted as tiles are."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fasttile.colour import WHITE, canvas_fill, plan_colours
from fasttile.colour.convert import NO_CONVERSION
from fasttile.encode.codecs import Png
from fasttile.encode.encoder import Encoder
from fasttile.types import Colour
from profiles import adobe_rgb, cmyk, display_p3
from support.colour_sources import make_source

ORANGE = (200, 120, 70)


@pytest.mark.parametrize("background", [WHITE, ORANGE, (0, 0, 0)])
@pytest.mark.parametrize("profile", [None, display_p3(), adobe_rgb(), cmyk()])
def test_converted_it_is_the_background(profile: bytes | None, background: Colour) -> None:
    is_cmyk = profile == cmyk()
    image = make_source(4 if is_cmyk else 3, profile, cmyk=is_cmyk)
    colours = plan_colours(image, "srgb")
    pad = np.array(canvas_fill(image, colours, background), np.uint8)
    tile = np.broadcast_to(pad, (8, 8, len(pad))).copy()
    data = Encoder(Png(), transform=colours.transform).encode(tile)
    assert data is not None
    shown = np.array(Image.open(io.BytesIO(data)).convert("RGB"))[0, 0].astype(int)
    # Inks that are mixed in 3 steps do not come nearer; blacks of paper are not black.
    allowed = 0 if background == WHITE else 40 if is_cmyk else 1
    assert np.abs(shown - background).max() <= allowed


def test_inks_without_a_profile() -> None:
    image = make_source(4, None, cmyk=True)
    colours = plan_colours(image, "srgb")
    assert canvas_fill(image, colours, WHITE) == (0, 0, 0, 0)
    assert canvas_fill(image, colours, ORANGE) == (55, 135, 185, 0)


def test_other_bands() -> None:
    assert canvas_fill(make_source(1), NO_CONVERSION, ORANGE) == (138,)
    assert canvas_fill(make_source(1, dtype=np.uint16), NO_CONVERSION, WHITE) == (65535,)
    assert canvas_fill(make_source(2), NO_CONVERSION, ORANGE) == (0, 0)
    assert canvas_fill(make_source(4), NO_CONVERSION, ORANGE) == (0, 0, 0, 0)
