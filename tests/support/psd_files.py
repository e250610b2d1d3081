"""A writer of PSD and PSB files, for tests: any mode, depth and number of channels, good and bad.

Source: Adobe Photoshop File Formats Specification (November 2019).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BITMAP, GREY, INDEXED, RGB, CMYK, MULTICHANNEL, DUOTONE, LAB = 0, 1, 2, 3, 4, 7, 8, 9
ICC_PROFILE, TRANSPARENT_INDEX, VERSION_INFO = 1039, 1047, 1057


def pack_bits(row: bytes) -> bytes:
    """A row in PackBits: runs of three equal bytes or more, literals of up to 128 others."""
    packed = bytearray()
    at = 0
    while at < len(row):
        run = 1
        while run < 128 and at + run < len(row) and row[at + run] == row[at]:
            run += 1
        if run >= 3:
            packed += bytes([257 - run, row[at]])
            at += run
            continue
        end = at + 1
        while end < len(row) and end - at < 128 and row[end : end + 3] != row[end : end + 1] * 3:
            end += 1
        packed += bytes([end - at - 1]) + row[at:end]
        at = end
    return bytes(packed)


def resource(number: int, data: bytes, name: bytes = b"") -> bytes:
    """An image resource."""
    pascal = bytes([len(name)]) + name
    pascal += b"\0" * (len(pascal) % 2)
    padding = b"\0" * (len(data) % 2)
    return (
        b"8BIM" + struct.pack(">H", number) + pascal + struct.pack(">I", len(data)) + data + padding
    )


def version_info(has_composite: bool) -> bytes:
    """The data of resource 1057."""
    return struct.pack(">IBIII", 1, has_composite, 0, 0, 1)


def layer_part(*, psb: bool, count: int = 0, depth: int = 8, block: bytes = b"") -> bytes:
    """Layers of one pixel each, and a block behind them.

    Args:
        psb: True for lengths of eight bytes.
        count: Number of layers, negative if alpha is that of the composite.
        depth: Bits of a sample.
        block: The key of a block of additional information: `Lr16` has the layers.
    """
    form = ">Q" if psb else ">I"
    channel = struct.pack(">H", 0) + b"\x80" * (depth // 8)
    record = struct.pack(">4IH", 0, 0, 1, 1, 3)
    record += b"".join(struct.pack(">H" + form[1], number, len(channel)) for number in range(3))
    record += b"8BIMnorm" + struct.pack(">BBBxI", 255, 0, 0, 12) + bytes(8) + b"\1A\0\0"
    layers = struct.pack(">h", count) + record * abs(count) + channel * 3 * abs(count)
    layers += b"\0" * (len(layers) % 2)
    inside = count and not block.startswith(b"Lr")
    part = struct.pack(form, len(layers)) + layers if inside else struct.pack(form, 0)
    part += struct.pack(">I", 0)
    if block:
        data = layers if block.startswith(b"Lr") else b""
        part += b"8BIMabcd" + struct.pack(">I", 6) + b"123456\0\0"  # of another kind
        part += b"8BIM" + block + struct.pack(form, len(data)) + data + b"\0" * (-len(data) % 4)
    return struct.pack(form, len(part)) + part


def write_psd(
    planes: NDArray[Any],
    mode: int = RGB,
    *,
    psb: bool = False,
    compression: int = 1,
    resources: Mapping[int, bytes] | None = None,
    layers: bytes | None = None,
    colour_data: bytes = b"",
    depth: int | None = None,
    width: int | None = None,
) -> bytes:
    """The bytes of a file.

    Args:
        planes: The stored samples, shape (channels, height, width); of 1 bit the packed bytes, and
            then `width` in pixels and `depth`.
        mode: The colour mode.
        psb: True for PSB.
        compression: 0 raw, 1 PackBits.
        resources: Image resources by their numbers. Default: none.
        layers: The layer part. Default: none.
        colour_data: The palette of an indexed image.
        depth, width: In bits and pixels. Default: those of the planes.
    """
    channels, height, columns = planes.shape
    depth = depth or 8 * planes.itemsize
    stored = planes.astype(planes.dtype.newbyteorder(">"))
    head = struct.pack(
        ">4sH6xHIIHH", b"8BPS", 2 if psb else 1, channels, height, width or columns, depth, mode
    )
    blocks = b"".join(resource(number, data) for number, data in (resources or {}).items())
    parts = [head, struct.pack(">I", len(colour_data)), colour_data]
    parts += [struct.pack(">I", len(blocks)), blocks]
    parts.append(bytes(8 if psb else 4) if layers is None else layers)
    parts.append(struct.pack(">H", compression))
    if compression == 0:
        parts.append(stored.tobytes())
    else:
        rows = [pack_bits(row.tobytes()) for plane in stored for row in plane]
        parts.append(np.array([len(row) for row in rows], ">u4" if psb else ">u2").tobytes())
        parts += rows
    return b"".join(parts)
