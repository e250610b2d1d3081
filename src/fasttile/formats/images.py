"""One tile's bytes to pixels, by Pillow; the other way round is encoder.py."""

from __future__ import annotations

import io
import re
import struct
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttile.errors import SourceError
from fasttile.storage.budget import BUDGET

_PLUGINS = {
    "jpg": ("JpegImagePlugin", "JpegImageFile"),
    "png": ("PngImagePlugin", "PngImageFile"),
    "webp": ("WebPImagePlugin", "WebPImageFile"),
    "avif": ("AvifImagePlugin", "AvifImageFile"),
    "gif": ("GifImagePlugin", "GifImageFile"),
}

_AVIF_HEAD_BYTES = 4096  # bytes; the sizes stand in the first box


def sniff_format(data: bytes) -> str | None:
    """The file ending of what a tile's first bytes say it is; None if that is no image."""
    if data[:3] == b"\xff\xd8\xff":
        return "jpg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:12] == b"ftypavif":
        return "avif"
    if data[:4] == b"GIF8":
        return "gif"
    return None


def read_image_size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height of a tile, without decoding it.

    Raises:
        SourceError: It is no image.
    """
    # The plugins of WebP and AVIF allocate memory for the complete image when they are opened.
    found = sniff_format(data)
    if found == "webp" and len(data) >= 30:  # RFC 9649
        if data[12:16] == b"VP8X":
            width, height = data[24:27], data[27:30]
            return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
        if data[12:16] == b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        width, height = data[26:28], data[28:30]
        return int.from_bytes(width, "little") & 0x3FFF, int.from_bytes(height, "little") & 0x3FFF
    if found == "avif":
        claims = [
            struct.unpack_from(">II", data, box.end() + 4)
            for box in re.finditer(b"ispe", data[:_AVIF_HEAD_BYTES])
            if box.end() + 12 <= len(data)
        ]
        if claims:  # of several images; the largest sides
            return max(width for width, _ in claims), max(height for _, height in claims)
    size: tuple[int, int] = _open_image(data, name).size
    return size


def decode_tile(data: bytes, max_side: int, name: str) -> NDArray[Any]:
    """A tile's pixels: an array of its own, shape (height, width, bands), uint8 or uint16.

    Args:
        data: A JPEG, PNG, WebP, AVIF or GIF.
        largest_side: In pixels; larger ones are refused before memory is taken for them.
        name: What messages call it.

    Raises:
        SourceError: It cannot be decoded.
    """
    width, height = read_image_size(data, name)
    if max(width, height) > max_side:
        raise SourceError(
            f"{name} claims {width}×{height} pixels, but none has more than {max_side} a side"
        )
    if width * height > BUDGET.tile_pixels:
        raise SourceError(
            f"{name} claims {width}×{height} pixels, more than {BUDGET.tile_pixels:,}"
        )
    # Each scan of a progressive JPEG decodes all blocks again.
    scans = data.count(b"\xff\xda") if sniff_format(data) == "jpg" else 1
    if scans * width * height > BUDGET.scanned_pixels:
        raise SourceError(f"{name} claims {width}×{height} pixels in {scans:,} scans")
    image = _open_image(data, name)
    try:
        image.load()
        if image.mode not in ("I;16", "I;16B"):
            if "transparency" in image.info:
                image = image.convert("RGBA")
            elif image.mode not in ("L", "LA", "RGB", "RGBA"):
                image = image.convert("L" if image.mode == "1" else "RGB")
        pixels = np.array(image)
    except Exception as error:  # decoders raise anything for damaged data
        raise SourceError(f"{name} cannot be decoded: {error}") from error
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _open_image(data: bytes, name: str) -> Any:
    found = sniff_format(data)
    if found is None:
        raise SourceError(f"{name} is no JPEG, PNG, WebP, AVIF or GIF")
    module, plugin = _PLUGINS[found]
    try:
        # The plugin itself: Image.open has a limit that is global, and knows all formats.
        return getattr(import_module(f"PIL.{module}"), plugin)(io.BytesIO(data))
    except Exception as error:
        raise SourceError(f"{name} cannot be decoded: {error}") from error
