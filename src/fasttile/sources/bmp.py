"""Windows bitmaps of 24 and 32 bits: the header, and the rows behind it, which are blue first.

Written after Microsoft's descriptions of BITMAPFILEHEADER, BITMAPINFOHEADER, BITMAPV4HEADER
and BITMAPV5HEADER. The masks count where the compression is BI_BITFIELDS only, as described
there; the fourth byte of BI_RGB is padding.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from ..errors import SourceError
from .base import Metadata, Source
from .convert import Converted
from .mapping import PictureFile
from .pixels import picked
from .raster import open_raster

_FILE_HEADER = 14
_LONGEST = _FILE_HEADER + 124
_INFO_HEADERS = (40, 52, 56, 108, 124)
_BI_RGB, _BI_BITFIELDS, _BI_ALPHABITFIELDS = 0, 3, 6
_COLOUR_MASKS = (0x00FF0000, 0x0000FF00, 0x000000FF)
_ALPHA_MASK = 0xFF000000
_INCHES_PER_METRE = 0.0254  # pixels per metre times this are pixels per inch


@dataclass(frozen=True)
class _Header:
    pixels: int
    width: int
    height: int
    bits: int
    compression: int
    per_metre: tuple[int, int]
    masks: tuple[int, ...]


def open_bmp(file: PictureFile) -> Source | None:
    """A source over a bitmap's rows, or None if it has a palette, is packed, or the like.

    Raises:
        SourceError: The header is broken, or the file is smaller than it says.
    """
    header = _header(file)
    if header is None:
        return None
    order = _order(header)
    if order is None:
        return None
    if header.width < 1 or header.height == 0:
        raise SourceError(f"{file.name}: {header.width}×{header.height} pixels are no picture")
    stored_bands = header.bits // 8
    stored = open_raster(
        file,
        (abs(header.height), header.width, stored_bands),
        np.dtype(np.uint8),
        header.pixels,
        Metadata("BMP", resolution=_resolution(header)),
        stride=-(-header.width * stored_bands // 4) * 4,
        bottom_up=header.height > 0,
    )
    return Converted(stored, picked(order, stored.dtype))


def _header(file: PictureFile) -> _Header | None:
    head = file.head(_LONGEST)
    if len(head) < _FILE_HEADER + 4:
        raise SourceError(f"{file.name}: broken BMP header: the file ends within it")
    pixels, size = struct.unpack_from("<II", head, 10)
    if size not in _INFO_HEADERS:
        return None
    with_masks = head.ljust(_FILE_HEADER + 56, b"\0")
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", with_masks, 18)
    masks_behind = size == 40 and compression in (_BI_BITFIELDS, _BI_ALPHABITFIELDS)
    mask_bytes = 0 if not masks_behind else 12 if compression == _BI_BITFIELDS else 16
    if len(head) < _FILE_HEADER + size + mask_bytes:
        raise SourceError(f"{file.name}: broken BMP header: the file ends within it")
    if pixels < _FILE_HEADER + size + mask_bytes:
        raise SourceError(f"{file.name}: broken BMP header: pixels at byte {pixels}, inside it")
    count = (mask_bytes or size - 40) // 4
    masks = struct.unpack_from(f"<{min(4, count)}I", with_masks, _FILE_HEADER + 40)
    per_metre = struct.unpack_from("<ii", with_masks, 38)
    return _Header(pixels, width, height, bits, compression, per_metre, masks)


def _order(header: _Header) -> tuple[int, ...] | None:
    """Which stored bytes are red, green, blue and perhaps alpha; None if they are not bytes."""
    if header.compression == _BI_RGB and header.bits in (24, 32):
        return (2, 1, 0)
    if header.compression not in (_BI_BITFIELDS, _BI_ALPHABITFIELDS) or header.bits != 32:
        return None
    alpha = header.masks[3] if len(header.masks) == 4 else 0
    if header.masks[:3] != _COLOUR_MASKS or alpha not in (0, _ALPHA_MASK):
        return None
    return (2, 1, 0, 3) if alpha else (2, 1, 0)


def _resolution(header: _Header) -> tuple[float, float] | None:
    x, y = header.per_metre
    return (x * _INCHES_PER_METRE, y * _INCHES_PER_METRE) if x > 0 and y > 0 else None
