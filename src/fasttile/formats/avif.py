"""AVIF files: the boxes of the file, without decoding.

Source: ISO/IEC 14496-12, section 4.2; AV1 Image File Format (AVIF) 1.1.
"""

from __future__ import annotations

import struct


def check_avif(data: bytes) -> int:
    """Check that an AVIF has all its boxes.

    Returns:
        The offset behind the last box of image data.

    Raises:
        ValueError: It is truncated, or has no image data; words that follow its name.
    """
    position, end = 0, 0
    while position + 8 <= len(data):
        (size, kind), head = struct.unpack_from(">I4s", data, position), 8
        if size == 1:  # the size is in the next eight bytes
            size, head = int.from_bytes(data[position + 8 : position + 16]), 16
        elif size == 0:  # up to the end of the file
            size = len(data) - position
        if end and not (kind.isascii() and kind.isalpha()):
            return end  # bytes that belong to no box
        if size < head:
            raise ValueError("is damaged: a box has an impossible size")
        if position + size > len(data):
            raise ValueError(f"is truncated: it has {len(data)} of {position + size} bytes")
        position += size
        if kind == b"mdat":
            end = position
    if not end:
        raise ValueError("is truncated: it has no image data")
    return end
