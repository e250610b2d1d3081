"""Tiles of a TIFF without loss: each row as differences (predictor 2), then deflated by zlib.

Source: TIFF 6.0, sections 8 and 14, and Adobe's TIFF technical notes of 2002 for Deflate.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]

BANDS = {"L": [0], "LA": [0, 3], "RGB": [0, 1, 2], "RGBA": [0, 1, 2, 3], "I;16": [0]}
"""Which bands of packed pixels are stored, by Pillow's mode."""


def deflated(mode: str, pixels: Pixels, level: int) -> Callable[[], bytes]:
    """A function that encodes packed pixels.

    Args:
        mode: Pillow's mode of the packed pixels.
        pixels: Shape (height, width, 1 or 4), C order.
        level: zlib's, 0 to 9.
    """
    bands = BANDS[mode]
    stored = pixels if len(bands) == pixels.shape[2] else None

    def encode() -> bytes:
        samples = pixels[:, :, bands] if stored is None else stored
        rows = samples.copy()
        np.subtract(samples[:, 1:], samples[:, :-1], out=rows[:, 1:])  # modulo 256 or 65536
        return zlib.compress(rows.astype(rows.dtype.newbyteorder("<"), copy=False).data, level)

    return encode
