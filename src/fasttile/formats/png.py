"""PNG files: chunks, a writer that is fast rather than small, and checks without decoding.

Source: the PNG specification, third edition, sections 5 and 10.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

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


def check_png(data: bytes) -> int:
    """Check that all chunks are there, and their checksums; return the end of the last one.

    Raises:
        ValueError: The file has a flaw: words that follow its name.
    """
    stop = 0
    for kind, start, stop in _chunks(data):
        if zlib.crc32(data[start - 4 : stop - 4]) != int.from_bytes(data[stop - 4 : stop]):
            name = kind.decode("ascii", "replace")
            raise ValueError(f"is damaged: the checksum of its chunk {name!a}")
    return stop


def png_pixel_data(data: bytes) -> bytes:
    """The deflated pixels of a PNG that has all chunks."""
    return b"".join(
        data[start : stop - 4] for kind, start, stop in _chunks(data) if kind == b"IDAT"
    )


def has_all_png_pixels(data: bytes) -> bool:
    """True if the pixels of a PNG are complete and their checksum is right."""
    width, height, bits, colours, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    bands = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    size = height * (1 + (width * bands * bits + 7) // 8)
    inflating = zlib.decompressobj()
    rows = inflating.decompress(png_pixel_data(data), 2 * size + 64)
    return inflating.eof and (bool(interlaced) or len(rows) == size)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind of each chunk, start of its data, and end of its checksum."""
    position, kind = len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        stop = position + 12 + int.from_bytes(data[position : position + 4])
        if stop > len(data) or stop < position + 12:
            raise ValueError("is truncated")
        kind = data[position + 4 : position + 8]
        yield kind, position + 8, stop
        position = stop
