"""JPEG 2000: the boxes of JP2 and JPX, and the components of a codestream; no pixels.

Sources: ISO/IEC 15444-1, annexes A (codestream) and I (JP2); ISO/IEC 15444-2, annex M (JPX).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

CODESTREAM = b"\xff\x4f\xff\x51"

SYCC = 18
"""The number of the colour space YCbCr."""

_SUPERBOXES = (b"jp2h", b"jpch", b"jplh", b"cgrp")
_HEADER_BOXES = (b"ihdr", b"bpcc", b"colr", b"pclr", b"cmap", b"cdef", b"res ")
_MAX_BOXES = 4096
_MAX_HEADER_BYTES = 2**25  # of a box; a profile that is larger is refused later
_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
_FTYP = b"\0\0\0\x14ftypjp2 \0\0\0\0jp2 "


class Box(NamedTuple):
    """A box of a file.

    Attributes:
        kind: Its type.
        parent: Type of the box around it, or b"".
        start, end: Of its content, in bytes.
    """

    kind: bytes
    parent: bytes
    start: int
    end: int


class Component(NamedTuple):
    """Bits of a sample, and the pixels across and down that share one."""

    bits: int
    across: int
    down: int


class Codestream(NamedTuple):
    """Size of the image of a codestream in pixels, and its components."""

    width: int
    height: int
    components: list[Component]


def read_boxes(stream: BinaryIO, size: int) -> list[Box]:
    """The boxes of a JP2 or JPX, with those in its headers, in order; up to a broken one."""
    return [box for box, _ in zip(_walk(stream, 0, size, b""), range(_MAX_BOXES), strict=False)]


def _walk(stream: BinaryIO, start: int, end: int, parent: bytes) -> Iterator[Box]:
    while start + 8 <= end:
        stream.seek(start)
        length, kind = struct.unpack(">I4s", stream.read(8))
        head = 8
        if length == 1:
            (length,), head = struct.unpack(">Q", stream.read(8).ljust(8, b"\0")), 16
        stop = end if length == 0 else min(end, start + length)
        if stop < start + head:
            return
        yield Box(kind, parent, start + head, stop)
        if kind in _SUPERBOXES:
            yield from _walk(stream, start + head, stop, kind)
        start = stop


def read_codestream(stream: BinaryIO, start: int) -> Codestream:
    """The header of a codestream; without components if it is broken.

    Args:
        stream: The file.
        start: Offset of the codestream, in bytes.
    """
    stream.seek(start)
    head = stream.read(42)
    if len(head) < 42 or not head.startswith(CODESTREAM):
        return Codestream(0, 0, [])
    right, below, left, top = struct.unpack_from(">4I", head, 8)
    (count,) = struct.unpack_from(">H", head, 40)
    data = stream.read(3 * count)
    parts = struct.iter_unpack("BBB", data[: len(data) // 3 * 3])
    components = [Component((bits & 0x7F) + 1, across, down) for bits, across, down in parts]
    return Codestream(right - left, below - top, components)


def plain_header(stream: BinaryIO, boxes: list[Box]) -> bytes | None:
    """The header of a JP2 with the same codestream, for a JPX whose headers a JP2 has not.

    In a JPX the header may come after the codestream, and the colours may be in a header of layers.

    Args:
        stream: The file.
        boxes: Its boxes.

    Returns:
        All bytes before the codestream, which is the last box. None: decoders of JP2 read the
        file as it is; or it has no codestream.
    """
    code = next((box for box in boxes if box.kind == b"jp2c"), None)
    if code is None:
        return None
    first = {box.kind for box in boxes if box.parent == b"jp2h" and box.end <= code.start}
    is_plain = b"ihdr" in first and (
        b"colr" in first or not any(box.kind == b"colr" and box.parent for box in boxes)
    )
    if is_plain:
        return None
    found: dict[bytes, bytes] = {}
    for kind in _HEADER_BOXES:
        box = next((box for box in boxes if box.kind == kind and box.parent), None)
        if box is not None:
            stream.seek(box.start)
            found[kind] = stream.read(min(box.end - box.start, _MAX_HEADER_BYTES))
    width, height, components = read_codestream(stream, code.start)
    if b"ihdr" not in found and components:
        bits = {component.bits for component in components}
        depth = bits.pop() - 1 if len(bits) == 1 else 255
        size = max(0, height), max(0, width), len(components)
        found = {b"ihdr": struct.pack(">IIHBBBB", *size, depth, 7, 0, 0), **found}
    header = b"".join(_box(kind, data) for kind, data in found.items())
    return _SIGNATURE + _FTYP + _box(b"jp2h", header) + struct.pack(">I4s", 0, b"jp2c")


def read_jp2_colour(stream: BinaryIO, size: int) -> bytes | int | None:
    """The colour specification of a JPEG 2000: its first `colr` box that JP2 has.

    Args:
        stream: The file.
        size: Its size in bytes.

    Returns:
        An ICC profile, the number of an enumerated colour space, or None: it has neither, as a
        codestream without boxes.
    """
    for box in read_boxes(stream, size):
        if box.kind == b"jp2c":  # after it are no further headers
            return None
        if box.kind == b"colr":
            stream.seek(box.start)
            data = stream.read(min(box.end - box.start, _MAX_HEADER_BYTES))
            if data[:1] == b"\1" and len(data) >= 7:
                return int.from_bytes(data[3:7])
            if data[:1] in (b"\2", b"\3"):
                return data[3:]
    return None


def _box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(data), kind) + data
