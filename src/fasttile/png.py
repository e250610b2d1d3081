"""PNG by Pillow's deflate encoder, with the chunks around it, and two ways for two kinds of tiles.

Photographs shrink most if each row is filtered first (Pillow tries all filters of PNG on each row)
and then only run lengths are looked for, which is also the fastest. Flat graphics, where most
pixels are like their left neighbour, repeat themselves as they are: filters hide that, and
looking for repetitions further away pays. bench/RESULTS.md has both measured.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .colour import Attached
from .resample import alike_share, drop_fourth

Pixels = NDArray[Any]

MAGIC = b"\x89PNG\r\n\x1a\n"

FLAT_SHARE = 0.6
"""From which share of pixels that are like their left neighbour a tile counts as flat graphics.
Photographs have up to 0.46 of them, drawings and maps 0.88 and more."""

FLAT_CONFIGURATION = (False, 6, 0, b"")
"""For Pillow's deflate encoder: level 6, any repetition, no dictionary."""

# Pillow's mode to PNG's bit depth and colour type.
KINDS = {"L": (8, 0), "LA": (8, 4), "RGB": (8, 2), "RGBA": (8, 6), "I;16": (16, 0)}

_core: Any = Image.core  # type: ignore[attr-defined]


def filtered(
    mode: str, pixels: Pixels, configuration: tuple[Any, ...], chunks: bytes = b""
) -> Callable[[], bytes]:
    """A function that encodes packed pixels as Pillow's `save` does.

    Args:
        mode: Pillow's mode of the packed pixels.
        pixels: Shape (height, width, 1 or 4), C order.
        configuration: What Pillow's plugin hands to its encoder.
        chunks: What comes before the pixels, see `attached_chunks`.
    """
    height, width, _ = pixels.shape
    image = _core.map_buffer(pixels, (width, height), "raw", 0, (mode, 0, 1))
    rawmode = {"I;16": "I;16B"}.get(mode, mode)  # PNG's samples are big-endian
    header = _header(mode, width, height) + chunks

    def encode() -> bytes:
        encoder = _core.zip_encoder(mode, rawmode, *configuration)
        encoder.setimage(image, (0, 0, width, height))
        return _file(header, _deflated(encoder, max(2**16, 4 * width)))

    return encode


def unfiltered(
    mode: str, pixels: Pixels, room: Callable[[int], Pixels], chunks: bytes = b""
) -> Callable[[], bytes]:
    """A function that encodes packed pixels without filters, for flat graphics.

    Pillow leaves the rows of palette images unfiltered, so it is shown the samples of a row, as
    they lie in a PNG, as such an image.

    Args:
        mode, pixels, chunks: As for `filtered`.
        room: Gives so many bytes of memory, which are used during a call only.
    """
    height, width, _ = pixels.shape
    bands = {"L": slice(0, 1), "LA": slice(2, 4), "RGB": slice(0, 3), "RGBA": slice(0, 4)}
    samples = pixels[..., bands.get(mode, slice(0, 1))]
    big_endian = samples.dtype.newbyteorder(">")
    rows = room(samples.nbytes).view(big_endian).reshape(samples.shape)
    row_bytes = rows.nbytes // height
    image = _core.map_buffer(rows, (row_bytes, height), "raw", 0, ("P", 0, 1))
    header = _header(mode, width, height) + chunks

    def encode() -> bytes:
        if mode == "RGB":
            drop_fourth(pixels, rows)
        else:
            np.copyto(rows, samples)
        encoder = _core.zip_encoder("P", "P", *FLAT_CONFIGURATION)
        encoder.setimage(image, (0, 0, row_bytes, height))
        return _file(header, _deflated(encoder, 2**16))

    return encode


def attached_chunks(attached: Attached) -> bytes:
    """The chunks for a profile and a resolution, as Pillow's `save` has them."""
    chunks = b""
    if attached.icc_profile is not None:
        name = b"ICC Profile\0"
        deflated = b"\0"
        chunks += _chunk(b"iCCP", name + deflated + zlib.compress(attached.icc_profile))
    if attached.resolution is not None:
        per_metre = (int(value / 0.0254 + 0.5) for value in attached.resolution)
        chunks += _chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1))
    return chunks


@cache
def leaves_unfiltered() -> bool:
    """Whether this Pillow leaves the rows of palette images unfiltered, by a trial."""
    rows = (np.arange(24 * 17) * 37).astype(np.uint8).reshape(24, 17)
    try:
        encoder = _core.zip_encoder("P", "P", *FLAT_CONFIGURATION)
        encoder.setimage(_core.map_buffer(rows, (17, 24), "raw", 0, ("P", 0, 1)), (0, 0, 17, 24))
        inflated = zlib.decompress(b"".join(_deflated(encoder, 2**16)))
    except Exception:
        # Whatever fails in there says the same: this Pillow is not as we know it.
        return False
    return inflated == b"".join(b"\0" + row.tobytes() for row in rows)


def is_flat(pixels: Pixels) -> bool:
    """Whether packed pixels are flat graphics rather than a photograph."""
    return alike_share(pixels) >= FLAT_SHARE


def _deflated(encoder: Any, piece: int) -> list[bytes]:
    # Pillow's deflate encoder lets go of the GIL by itself.
    pieces, status = [], 0
    while status == 0:
        _, status, data = encoder.encode(piece)
        pieces.append(data)
    encoder.cleanup()
    if status < 0:
        raise OSError(f"Pillow's PNG encoder failed with status {status}")
    return pieces


def _header(mode: str, width: int, height: int) -> bytes:
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, *KINDS[mode], 0, 0, 0))


def _file(header: bytes, pieces: list[bytes]) -> bytes:
    return b"".join([MAGIC, header, *(_chunk(b"IDAT", piece) for piece in pieces), _END])


def _chunk(kind: bytes, data: bytes) -> bytes:
    """Length, kind, data, and the checksum of kind and data."""
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


_END = _chunk(b"IEND", b"")
