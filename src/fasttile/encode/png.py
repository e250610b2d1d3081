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

from fasttile import pillow_core
from fasttile.colour.convert import TileMetadata
from fasttile.formats.png import BIT_DEPTHS_AND_COLOUR_TYPES, header_chunk, png_chunk, png_file
from fasttile.kernels import repeat_ratio, rgbx_to_rgb
from fasttile.types import Pixels

FLAT_REPEAT_RATIO = 0.6
"""From which share of pixels that are like their left neighbour a tile counts as flat graphics.
Photographs have up to 0.46 of them, drawings and maps 0.88 and more."""

FLAT_CONFIGURATION = (False, 6, 0, b"")
"""For Pillow's deflate encoder: level 6, any repetition, no dictionary."""


def filtered_encoder(
    mode: str, pixels: Pixels, configuration: tuple[Any, ...], chunks: bytes = b""
) -> Callable[[], bytes]:
    """A function that encodes packed pixels as Pillow's `save` does.

    Args:
        mode: Pillow's mode of the packed pixels.
        pixels: Shape (height, width, 1 or 4), C order.
        configuration: As Pillow's plugin passes it to its encoder.
        chunks: What comes before the pixels, see `attached_chunks`.
    """
    height, width, _ = pixels.shape
    image = pillow_core.core_image_over(pixels, mode, width)
    rawmode = {"I;16": "I;16B"}.get(mode, mode)  # PNG's samples are big-endian
    header = header_chunk(width, height, *BIT_DEPTHS_AND_COLOUR_TYPES[mode]) + chunks

    def encode() -> bytes:
        size = max(2**16, 4 * width)
        return png_file(header, pillow_core.deflate(image, mode, rawmode, configuration, size))

    return encode


def unfiltered_encoder(
    mode: str, pixels: Pixels, allocate: Callable[[int], Pixels], chunks: bytes = b""
) -> Callable[[], bytes]:
    """A function that encodes packed pixels without filters, for flat graphics.

    Pillow leaves the rows of palette images unfiltered, so it is shown the samples of a row, as
    they lie in a PNG, as such an image.

    Args:
        mode, pixels, chunks: As for `filtered`.
        memory: Returns a buffer of a given size, which is used during a call only.
    """
    height, width, _ = pixels.shape
    bands = {"L": slice(0, 1), "LA": slice(2, 4), "RGB": slice(0, 3), "RGBA": slice(0, 4)}
    samples = pixels[..., bands.get(mode, slice(0, 1))]
    big_endian = samples.dtype.newbyteorder(">")
    rows = allocate(samples.nbytes).view(big_endian).reshape(samples.shape)
    row_bytes = rows.nbytes // height
    image = pillow_core.core_image_over(rows, "P", row_bytes)
    header = header_chunk(width, height, *BIT_DEPTHS_AND_COLOUR_TYPES[mode]) + chunks

    def encode() -> bytes:
        if mode == "RGB":
            rgbx_to_rgb(pixels, rows)
        else:
            np.copyto(rows, samples)
        return png_file(header, pillow_core.deflate(image, "P", "P", FLAT_CONFIGURATION, 2**16))

    return encode


def metadata_chunks(tile_metadata: TileMetadata) -> bytes:
    """The chunks for a profile, a resolution and Exif, as Pillow's `save` has them."""
    chunks = b""
    if tile_metadata.icc_profile is not None:
        name = b"ICC Profile\0"
        deflated = b"\0"
        chunks += png_chunk(b"iCCP", name + deflated + zlib.compress(tile_metadata.icc_profile))
    if tile_metadata.resolution is not None:
        per_metre = (int(value / 0.0254 + 0.5) for value in tile_metadata.resolution)
        chunks += png_chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1))
    if tile_metadata.exif is not None:
        chunks += png_chunk(b"eXIf", tile_metadata.exif)
    return chunks


@cache
def supports_unfiltered() -> bool:
    """True if this Pillow leaves the rows of palette images unfiltered, by a trial."""
    rows = (np.arange(24 * 17) * 37).astype(np.uint8).reshape(24, 17)

    def is_unfiltered() -> bool:
        image = pillow_core.core_image_over(rows, "P", 17)
        data = b"".join(pillow_core.deflate(image, "P", "P", FLAT_CONFIGURATION, 2**16))
        return zlib.decompress(data) == b"".join(b"\0" + row.tobytes() for row in rows)

    return pillow_core.is_same_as_public(is_unfiltered)


def is_flat(pixels: Pixels) -> bool:
    """True if packed pixels are flat graphics rather than a photograph."""
    return repeat_ratio(pixels) >= FLAT_REPEAT_RATIO


# Tiles of a TIFF without loss: each row as differences (predictor 2), then deflated by zlib.
#
# Source: TIFF 6.0, sections 8 and 14, and Adobe's TIFF technical notes of 2002 for Deflate.

STORED_BANDS = {"L": [0], "LA": [0, 3], "RGB": [0, 1, 2], "RGBA": [0, 1, 2, 3], "I;16": [0]}
"""Which bands of packed pixels are stored, by Pillow's mode."""


def deflate_encoder(mode: str, pixels: Pixels, level: int) -> Callable[[], bytes]:
    """A function that encodes packed pixels.

    Args:
        mode: Pillow's mode of the packed pixels.
        pixels: Shape (height, width, 1 or 4), C order.
        level: zlib's, 0 to 9.
    """
    bands = STORED_BANDS[mode]
    stored = pixels if len(bands) == pixels.shape[2] else None

    def encode() -> bytes:
        samples = pixels[:, :, bands] if stored is None else stored
        rows = samples.copy()
        np.subtract(samples[:, 1:], samples[:, :-1], out=rows[:, 1:])  # modulo 256 or 65536
        return zlib.compress(rows.astype(rows.dtype.newbyteorder("<"), copy=False).data, level)

    return encode
