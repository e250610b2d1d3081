"""One tile's bytes: whether they are a whole picture of the right kind and size, undecoded.

Decoders forgive much: Pillow passes over checksums of PNG's pixels, libjpeg makes up what a file
has lost. So ends, lengths and checksums are looked at here, which costs little.

Sources: ITU-T T.81, annex B; the PNG specification, section 5; RFC 9649.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import Any

from numpy.typing import NDArray

from ..errors import SourceError
from ..readers.decode import decoded, format_of, size_of

_FORMATS = {"jpeg": "jpg"}
"""Endings that mean the same as another."""

_KNOWN = ("jpg", "png", "webp", "avif", "gif")
_SOS = 0xDA
_SEQUENTIAL = (0xC0, 0xC1)
_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
_EOI = b"\xff\xd9"
_PNG = b"\x89PNG\r\n\x1a\n"


def flaw_of(data: bytes, extension: str, size: tuple[int, int]) -> str | None:
    """What is wrong with a tile, or None.

    Args:
        data: The tile's file.
        extension: The ending that all tiles have.
        size: The width and height that it should have, in pixels.
    """
    if not data:
        return "is empty"
    found, wanted = format_of(data), _FORMATS.get(extension, extension)
    if found is None:
        return "is no picture"
    if wanted in _KNOWN and found != wanted:
        return f"is {found}, not {wanted}"
    try:
        width, height = size_of(data, "it")
    except SourceError as error:
        return _told(error)
    if (width, height) != size:
        return f"has {width}×{height} pixels, not {size[0]}×{size[1]}"
    check = {"jpg": _flaw_of_jpeg, "png": _flaw_of_png, "webp": _flaw_of_webp}.get(found)
    return None if check is None else check(data)


def is_picture_name(name: str) -> bool:
    """Whether a file's name ends as those of tiles do."""
    ending = name.rpartition(".")[2].lower()
    return _FORMATS.get(ending, ending) in _KNOWN


def pixels_of(data: bytes, longest: int) -> NDArray[Any] | str:
    """A tile's pixels, shape (height, width, bands); or what is wrong.

    Args:
        data: The tile's file.
        longest: The longest side that it may have, in pixels.
    """
    try:
        pixels = decoded(data, longest, "it")
    except SourceError as error:
        return _told(error)
    if format_of(data) == "png" and not _is_all_there(data):
        return "is damaged: its pixels are cut short"
    return pixels


def _told(error: SourceError) -> str:
    return " ".join(str(error).removeprefix("it ").split())


def _flaw_of_jpeg(data: bytes) -> str | None:
    """Its end is where it should be, and nothing in its scan says that it ends before."""
    end = len(data.rstrip(b"\0"))  # some programs fill up
    if data[end - 2 : end] != _EOI:
        return "does not end as JPEG does"
    position, frame = 2, b""
    while True:
        stop = position + 2 + int.from_bytes(data[position + 2 : position + 4])
        if data[position : position + 1] != b"\xff" or not position + 4 <= stop <= end - 2:
            return "is damaged: its segments do not follow each other"
        marker = data[position + 1]
        if marker in _SEQUENTIAL:
            frame = data[position:stop]
        if marker == _SOS:
            break
        position = stop
    if not frame or data[position + 4] != frame[9]:
        return None  # of several scans
    found = _MARKER.search(data, stop)
    if found is None or found.end() != end:
        return "is damaged: there is a marker among its pixels"
    return None


def _flaw_of_png(data: bytes) -> str | None:
    """All its chunks are there, each with its checksum."""
    position, kind = len(_PNG), b""
    while kind != b"IEND":
        stop = position + 12 + int.from_bytes(data[position : position + 4])
        if stop > len(data) or stop < position + 12:
            return "is cut short"
        kind = data[position + 4 : position + 8]
        if zlib.crc32(data[position + 4 : stop - 4]) != int.from_bytes(data[stop - 4 : stop]):
            return f"is damaged: the checksum of its chunk {kind.decode('ascii', 'replace')!a}"
        position = stop
    return _flaw_behind(data[position:])


def _is_all_there(data: bytes) -> bool:
    """Whether a PNG's pixels are as many as they should be, and their checksum is right."""
    width, height, bits, colours, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    bands = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    size = height * (1 + (width * bands * bits + 7) // 8)
    inflating = zlib.decompressobj()
    found = inflating.decompress(pixel_data(data), 2 * size + 64)
    return inflating.eof and (bool(interlaced) or len(found) == size)


def pixel_data(data: bytes) -> bytes:
    """The deflated pixels of a PNG whose chunks are all there."""
    position, found = len(_PNG), []
    while position < len(data):
        stop = position + 12 + int.from_bytes(data[position : position + 4])
        if data[position + 4 : position + 8] == b"IDAT":
            found.append(data[position + 8 : stop - 4])
        position = stop
    return b"".join(found)


def _flaw_of_webp(data: bytes) -> str | None:
    """It is as long as it says."""
    said = 8 + int.from_bytes(data[4:8], "little")
    if said > len(data):
        return f"is cut short: it has {len(data)} of {said} bytes"
    return _flaw_behind(data[said:])


def _flaw_behind(rest: bytes) -> str | None:
    """Nothing comes behind the end, unless to fill up."""
    return f"has {len(rest)} bytes behind its end" if rest.strip(b"\0") else None
