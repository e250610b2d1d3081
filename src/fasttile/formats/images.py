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
    # These two plugins allocate memory for the complete image when they are opened.
    size: tuple[int, int] = _webp_size(data) or _avif_size(data) or _open_image(data, name).size
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
    image = _open_image(data, name)
    try:
        image.load()
        pixels = np.array(_to_plain_mode(image))
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


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a WebP claims; None if it is none. Source: RFC 9649."""
    if sniff_format(data) != "webp" or len(data) < 30:
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        return (
            int.from_bytes(data[24:27], "little") + 1,
            int.from_bytes(data[27:30], "little") + 1,
        )
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = data[26:28], data[28:30]
    return int.from_bytes(width, "little") & 0x3FFF, int.from_bytes(height, "little") & 0x3FFF


def _avif_size(data: bytes) -> tuple[int, int] | None:
    """The largest width and height that an AVIF claims for anything; None if it is none."""
    if sniff_format(data) != "avif":
        return None
    sizes = [
        struct.unpack_from(">II", data, found.end() + 4)
        for found in re.finditer(b"ispe", data[:_AVIF_HEAD_BYTES])
        if found.end() + 12 <= len(data)
    ]
    if not sizes:
        return None
    return max(width for width, _ in sizes), max(height for _, height in sizes)


def _to_plain_mode(image: Any) -> Any:
    """The image in a mode whose pixels are grey or RGB, with or without alpha."""
    if image.mode in ("L", "LA", "RGB", "RGBA") and "transparency" not in image.info:
        return image
    if image.mode in ("I;16", "I;16B"):
        return image
    if "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")
