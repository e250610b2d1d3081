"""Tags of a TIFF page as values, and the bytes of a directory; no files.

Sources: TIFF 6.0 (1992) and the BigTIFF proposal (2004). All numbers are little-endian.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

ASCII, SHORT, LONG, RATIONAL, UNDEFINED, DOUBLE, LONG8 = 2, 3, 4, 5, 7, 12, 16
_TYPE_CODES = {ASCII: "B", SHORT: "H", LONG: "I", RATIONAL: "I", UNDEFINED: "B"}
_TYPE_CODES |= {DOUBLE: "d", LONG8: "Q"}

_RECORD = b'{"record"'
_ALIGNMENT = 8
_MAX_LONG = 2**32 - 1


class TiffTag(NamedTuple):
    """One tag of a page: its number, the type of its values, and those."""

    number: int
    field_type: int
    values: Iterable[float]


def text_before_record(description: bytes) -> bytes:
    r"""The text in an ImageDescription before the record of how a result was made.

    The record is JSON in one line, and the last one; see `jobs.record`. Without a record, all of
    the description is text.

    Example:
        >>> text_before_record(b'A map\n{"record": 1}')
        b'A map\n'
    """
    if description.startswith(_RECORD):
        return b""
    start = description.rfind(b"\n" + _RECORD)
    return description if start < 0 else description[: start + 1]


def encode_header(first_offset: int, *, large: bool) -> bytes:
    """The header of a TIFF, 8 bytes, or of a BigTIFF, 16 bytes.

    Args:
        first_offset: Offset of the first directory.
        large: True for a BigTIFF.
    """
    if large:
        return struct.pack("<2s3HQ", b"II", 43, 8, 0, first_offset)
    return struct.pack("<2sHI", b"II", 42, first_offset)


def encode_directory(
    tags: Iterable[TiffTag], start: int, next_offset: int | None, *, large: bool
) -> bytes:
    """A directory, and behind it the values that have no room in it.

    Args:
        tags: The tags, in any order.
        start: Its offset in the file, even.
        next_offset: Offset of the next directory, or 0. None: at the end of these bytes.
        large: True for a BigTIFF.

    Returns:
        The bytes, filled up to a multiple of 8 in the file.
    """
    ordered = sorted(tags, key=lambda tag: tag.number)
    room, place, head = (8, "Q", "<Q") if large else (4, "I", "<H")
    behind = struct.calcsize(head) + len(ordered) * (4 + 2 * room) + room
    behind += -(start + behind) % _ALIGNMENT
    entries, values = [struct.pack(head, len(ordered))], bytearray()
    for tag in ordered:
        numbers = array(_TYPE_CODES[tag.field_type], tag.values)
        if struct.calcsize(f"={numbers.typecode}") != numbers.itemsize:
            raise AssertionError("this machine's integers have other sizes")
        data = _little_endian(numbers)
        if len(data) > room:
            values += bytes(-len(values) % _ALIGNMENT)
            where = start + behind + len(values)
            values += data
            data = struct.pack(f"<{place}", where)
        count = len(numbers) // (2 if tag.field_type == RATIONAL else 1)
        entries.append(struct.pack(f"<2H{place}", tag.number, tag.field_type, count))
        entries.append(data.ljust(room, b"\0"))
    values += bytes(-len(values) % _ALIGNMENT)
    following = start + behind + len(values) if next_offset is None else next_offset
    entries.append(struct.pack(f"<{place}", following))
    return b"".join(entries).ljust(behind, b"\0") + values


def rational(value: float) -> tuple[int, int]:
    """A positive number as a fraction of 32 bits each, as exact as can be."""
    value = min(max(value, 1 / _MAX_LONG), _MAX_LONG)
    found = Fraction(value).limit_denominator(min(_MAX_LONG, int(_MAX_LONG / value)))
    return max(1, found.numerator), found.denominator


def _little_endian(values: array[float]) -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()
