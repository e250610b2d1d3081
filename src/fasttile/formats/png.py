"""Chunks of PNG, and a writer of PNG that is fast rather than small."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from fasttile.types import Pixels

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Pillow's mode to PNG's bit depth and colour type.
BIT_DEPTHS_AND_COLOUR_TYPES = {
    "L": (8, 0),
    "LA": (8, 4),
    "RGB": (8, 2),
    "RGBA": (8, 6),
    "I;16": (16, 0),
}


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Length, kind, data, and the checksum of kind and data."""
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


_END_CHUNK = png_chunk(b"IEND", b"")


def header_chunk(width: int, height: int, bit_depth: int, colour_type: int) -> bytes:
    """The chunk IHDR of an image without interlace."""
    form = (width, height, bit_depth, colour_type, 0, 0, 0)
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", *form))


def png_file(chunks: bytes, pieces: list[bytes]) -> bytes:
    """A file of the header and other chunks, and of deflated rows in pieces."""
    data = (png_chunk(b"IDAT", piece) for piece in pieces)
    return b"".join([PNG_SIGNATURE, chunks, *data, _END_CHUNK])


def encode_png(pixels: Pixels) -> bytes:
    """A PNG, made fast rather than small.

    Args:
        pixels: Shape (height, width, 1 to 4), uint8 or uint16.
    """
    height, width, bands = pixels.shape
    bits = 8 * pixels.dtype.itemsize
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[bands]
    rows = pixels.astype(pixels.dtype.newbyteorder(">"), copy=False).reshape(height, -1)
    stored = np.full((height, 1 + rows.nbytes // height), 2, np.uint8)  # filter "up"
    raw = rows.view(np.uint8)
    stored[0, 1:] = raw[0]
    np.subtract(raw[1:], raw[:-1], out=stored[1:, 1:])
    header = header_chunk(width, height, bits, colour_type)
    return png_file(header, [zlib.compress(stored.data, 1)])
