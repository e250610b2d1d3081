"""Helpers of several test modules: encode_image."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from support.reading import noise


def encode_image(kind: str, array: Any = None) -> bytes:
    """An image as the bytes of a file."""
    array = noise(40, 50, 3) if array is None else array
    stream = io.BytesIO()
    if kind == "npy":
        np.save(stream, array)
    else:
        names = {"tif": "TIFF", "jpg": "JPEG"}
        Image.fromarray(array).save(stream, names.get(kind, kind.upper()))
    return stream.getvalue()
