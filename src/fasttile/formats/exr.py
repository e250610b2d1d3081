"""The header of an OpenEXR file, of its first part.

Source: "OpenEXR File Layout" and "Technical Introduction to OpenEXR" (openexr.com), version 2 of
the format. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

_DEEP_FLAG, _MULTIPART_FLAG, _TILED_FLAG = 0x800, 0x1000, 0x200
_MAX_HEADER_BYTES = 2**22
_BLOCK_ROWS = {0: 1, 1: 1, 2: 1, 3: 16, 4: 32, 5: 16, 6: 32, 7: 32, 8: 32, 9: 256}
_MAX_BLOCK_ROWS = 256  # of compressions that are not known here


class Box(NamedTuple):
    """A rectangle of pixels; the right and lower bounds are within it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """In pixels."""
        return self.right - self.left + 1

    @property
    def height(self) -> int:
        """In pixels."""
        return self.bottom - self.top + 1


@dataclass(frozen=True)
class ExrHeader:
    """All that the first part of a file says about its image.

    Attributes:
        channels: The names of the channels, with their subsampling across and down.
        data: The pixels that are stored.
        display: The pixels that are shown.
        compression: Its number.
        block_rows: Rows that are decoded at once: of a block, or of a tile.
        block_columns: Columns of a tile, or of the data.
        chromaticities: x and y of red, green, blue and white, or None.
        aspect_ratio: Width of a pixel divided by its height.
        is_deep, is_multipart: True if the file is so.
    """

    channels: dict[str, tuple[int, int]]
    data: Box
    display: Box
    compression: int
    block_rows: int
    block_columns: int
    chromaticities: tuple[tuple[float, float], ...] | None
    aspect_ratio: float
    is_deep: bool
    is_multipart: bool

    @property
    def block_count(self) -> int:
        """Number of blocks of the largest level, at least; each has an entry of 8 bytes."""
        columns = -(-self.data.width // self.block_columns)
        return columns * -(-self.data.height // self.block_rows)


def read_exr_header(stream: BinaryIO) -> ExrHeader:
    """Read the header; the stream is at the beginning of the file, and is moved.

    Raises:
        ValueError: It is broken; the text says how.
    """
    head = stream.read(_MAX_HEADER_BYTES)
    try:
        (flags,) = struct.unpack_from("<I", head, 4)
        attributes = _read_attributes(head)
        data = Box._make(struct.unpack("<4i", attributes["dataWindow"]))
        display = Box._make(struct.unpack("<4i", attributes["displayWindow"]))
        compression = attributes["compression"][0]
        rows, columns = _BLOCK_ROWS.get(compression, _MAX_BLOCK_ROWS), data.width
        if "tiles" in attributes and flags & (_TILED_FLAG | _MULTIPART_FLAG):
            columns, rows = struct.unpack_from("<II", attributes["tiles"])
        places = attributes.get("chromaticities")
        xy = None if places is None else struct.unpack("<8f", places)
        (aspect_ratio,) = struct.unpack("<f", attributes["pixelAspectRatio"])
        channels = _read_channels(attributes["channels"])
    except KeyError as error:
        raise ValueError(f"its header has no {error}") from error
    except (struct.error, IndexError) as error:
        raise ValueError("its header is damaged") from error
    for name, box in (("dataWindow", data), ("displayWindow", display)):
        if box.width < 1 or box.height < 1:
            raise ValueError(f"its {name} has {box.width}×{box.height} pixels")
    if rows < 1 or columns < 1:
        raise ValueError(f"its tiles have {columns}×{rows} pixels")
    return ExrHeader(
        channels=channels,
        data=data,
        display=display,
        compression=compression,
        block_rows=rows,
        block_columns=columns,
        chromaticities=None if xy is None else tuple(zip(xy[::2], xy[1::2], strict=True)),
        aspect_ratio=aspect_ratio,
        is_deep=bool(flags & _DEEP_FLAG) or attributes.get("type", b"").startswith(b"deep"),
        is_multipart=bool(flags & _MULTIPART_FLAG),
    )


def _read_attributes(head: bytes) -> dict[str, bytes]:
    attributes: dict[str, bytes] = {}
    at = 8
    while head[at] != 0:
        name, at = _read_name(head, at)
        _, at = _read_name(head, at)  # the type
        (size,) = struct.unpack_from("<I", head, at)
        at += 4
        attributes.setdefault(name, head[at : at + size])
        at += size
    return attributes


def _read_channels(data: bytes) -> dict[str, tuple[int, int]]:
    channels: dict[str, tuple[int, int]] = {}
    at = 0
    while data[at] != 0:
        name, at = _read_name(data, at)
        across, down = struct.unpack_from("<ii", data, at + 8)
        channels[name] = across, down
        at += 16
    return channels


def _read_name(data: bytes, at: int) -> tuple[str, int]:
    end = data.find(b"\0", at, at + 256)
    if end < 0:
        raise ValueError("its header is damaged")
    return data[at:end].decode("utf-8", "replace"), end + 1
