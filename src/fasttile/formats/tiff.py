"""Directories of TIFF and BigTIFF; no number in a file is trusted.

Sources: TIFF 6.0 (1992) and the BigTIFF proposal (2004). tifffile is not used, because its import
takes as long as a cut of ten megapixels.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

from fasttile.errors import SourceError
from fasttile.storage.random_access import SourceFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

TagValues: TypeAlias = "NDArray[np.uint64]"

# Dtypes of the field types BYTE, ASCII, SHORT, LONG, UNDEFINED, IFD, LONG8 and IFD8, of the two
# halves of a RATIONAL, and of the signed types, in which some programs write sizes. No tag that is
# read here is negative or a float.
_FIELD_TYPES = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "u4", 7: "u1", 13: "u4", 16: "u8", 18: "u8"}
_FIELD_TYPES |= {6: "i1", 8: "i2", 9: "i4", 17: "i8"}
_SIGNED_TYPES = (6, 8, 9, 17)
_FLOAT_TYPES = {11: "f4", 12: "f8"}
_FIELD_BYTES = {kind: int(name[1]) for kind, name in (_FIELD_TYPES | _FLOAT_TYPES).items()}
_RATIONAL = 5
_NO_ENTRY = (0, 0, b"")

GEOREFERENCE_TAGS = frozenset({33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113})
"""The tags of GeoTIFF, GDAL_METADATA and GDAL_NODATA: see `formats.geotiff`."""

_HEADER_MAGIC = {
    b"II*\0": ("<", False),
    b"MM\0*": (">", False),
    b"II+\0": ("<", True),
    b"MM\0+": (">", True),
}

# For each byte order, BigTIFF or not: the number of tags, a tag, and the offset of a directory.
_STRUCTS = {
    (order, big): tuple(struct.Struct(f"{order}{form}") for form in forms)
    for order in "<>"
    for big, forms in ((False, ("H", "HHI4s", "I")), (True, ("Q", "HHQ8s", "Q")))
}

_MAX_TAG_BYTES = 2**28  # enough for the offsets of 16 million strips
_MAX_TAGS = 4_096


class TiffHeader(NamedTuple):
    """The header of a TIFF.

    Attributes:
        byteorder: "<" or ">", of the tags and of the samples.
        is_bigtiff: True for a BigTIFF.
        first_offset: Offset of the first directory.
    """

    byteorder: str
    is_bigtiff: bool
    first_offset: int

    @classmethod
    def from_file(cls, file: SourceFile) -> TiffHeader:
        """Read the header of a file that begins with a magic number of TIFF.

        Raises:
            SourceError: The file ends within the header.
        """
        byteorder, big = _HEADER_MAGIC[file.head(4)]
        if not big:
            return cls(byteorder, big, *_unpack_at(file, f"{byteorder}I", 4))
        width, zero, first = _unpack_at(file, f"{byteorder}HHQ", 4)
        if (width, zero) != (8, 0):
            raise SourceError(f"{file.name}: broken TIFF: offsets of {width} bytes")
        return cls(byteorder, big, first)


class Ifd:
    """The directory of one image, with its tags.

    Args:
        file: The TIFF.
        header: Its header. Default: read from the file.
        offset: Offset of the directory. Default: the first one.

    Attributes:
        byteorder: "<" or ">", of the tags and of the samples.
        is_bigtiff: True for a BigTIFF.
        offset: Offset of the directory.
        next_offset: Offset of the next one, or 0.

    Raises:
        SourceError: The directory is not within the file.
    """

    def __init__(
        self, file: SourceFile, header: TiffHeader | None = None, offset: int | None = None
    ) -> None:
        self._file = file
        header = header or TiffHeader.from_file(file)
        self.byteorder, self.is_bigtiff, first = header
        self.offset = first if offset is None else offset
        head, entry, place = _STRUCTS[self.byteorder, self.is_bigtiff]
        (count,) = head.unpack(_read_exactly(file, self.offset, head.size, "the header"))
        if count > _MAX_TAGS:
            raise SourceError(f"{file.name}: broken TIFF: a directory of {count} tags")
        size = count * entry.size
        raw = _read_exactly(file, self.offset + head.size, size, "the directory", place.size)
        self._entries: dict[int, tuple[int, int, bytes]] = {
            tag: (kind, values, inline)
            for tag, kind, values, inline in entry.iter_unpack(raw[:size])
        }
        # Some programs omit the offset of the next directory if there is none.
        self.next_offset = place.unpack(raw[size:])[0] if len(raw) == size + place.size else 0

    @property
    def tags(self) -> frozenset[int]:
        """Numbers of all tags."""
        return frozenset(self._entries)

    def numbers(self, tag: int) -> TagValues | None:
        """The values of a tag, or None if it has no unsigned integers.

        Raises:
            SourceError: The values are not within the file.
        """
        kind, count, _ = self._entries.get(tag, _NO_ENTRY)
        if kind not in _FIELD_TYPES or not count:
            return None
        # The limit holds for the 64-bit numbers, too.
        raw = self._read_values(tag, 8 // _FIELD_BYTES[kind])
        values = np.frombuffer(raw, f"{self.byteorder}{_FIELD_TYPES[kind]}")
        if kind in _SIGNED_TYPES and (values < 0).any():
            raise SourceError(f"{self._file.name}: broken TIFF: tag {tag} is negative")
        return values.astype(np.uint64)

    def value_bytes(self, tag: int) -> int:
        """Bytes that the values of a tag claim to take; 0 without it."""
        kind, count, _ = self._entries.get(tag, _NO_ENTRY)
        return count * _FIELD_BYTES.get(kind, 0) * (2 if kind == _RATIONAL else 1)

    def number(self, tag: int, default: int) -> int:
        """The one value of a tag, or all its values if they are the same.

        Raises:
            SourceError: They differ, or are not within the file.
        """
        kind, count, inline = self._entries.get(tag, _NO_ENTRY)
        if count == 1 and kind in _FIELD_TYPES and kind not in _SIGNED_TYPES:
            # Nearly always; faster without NumPy
            order: Literal["little", "big"] = "little" if self.byteorder == "<" else "big"
            size = _FIELD_BYTES[kind]
            if size <= len(inline):
                return int.from_bytes(inline[:size], order)
        values = self.numbers(tag)
        if values is None:
            return default
        if (values != values[0]).any():
            raise SourceError(f"{self._file.name}: tag {tag} differs between samples")
        return int(values[0])

    def raw(self, tag: int) -> bytes | None:
        """The value of a tag of bytes or of ASCII, or None.

        Raises:
            SourceError: The bytes are not within the file.
        """
        kind, count, _ = self._entries.get(tag, _NO_ENTRY)
        return self._read_values(tag) if kind in (1, 2, 7) and count else None

    def reals(self, tag: int, default: tuple[float, ...]) -> tuple[float, ...]:
        """The values of a tag of rational numbers or floats, as many as the default has."""
        kind, count, _ = self._entries.get(tag, _NO_ENTRY)
        if count < len(default) or kind not in (_RATIONAL, *_FLOAT_TYPES):
            return default
        if kind == _RATIONAL:
            pairs = np.frombuffer(self._read_values(tag), f"{self.byteorder}u4").astype(float)
            with np.errstate(divide="ignore", invalid="ignore"):
                values = pairs[::2] / pairs[1::2]
        else:
            form = f"{self.byteorder}{_FLOAT_TYPES[kind]}"
            values = np.frombuffer(self._read_values(tag), form).astype(float)
        found = tuple(values[: len(default)].tolist())
        return found if all(map(math.isfinite, found)) else default

    def doubles(self, tag: int) -> tuple[float, ...]:
        """All values of a tag of floats; empty without it.

        Raises:
            SourceError: They are not within the file, or not finite.
        """
        kind, _, _ = self._entries.get(tag, _NO_ENTRY)
        if kind not in _FLOAT_TYPES:
            return ()
        raw = self._read_values(tag)
        values = np.frombuffer(raw, f"{self.byteorder}{_FLOAT_TYPES[kind]}").astype(float)
        if not np.isfinite(values).all():
            raise SourceError(f"{self._file.name}: broken TIFF: tag {tag} is not finite")
        return tuple(values.tolist())

    def rational(self, tag: int) -> tuple[int, int] | None:
        """The numerator and denominator of a tag, or None."""
        if self._entries.get(tag, _NO_ENTRY)[0] != _RATIONAL:
            return None
        values = self.numbers(tag)
        return None if values is None else (int(values[0]), int(values[1]))

    def _read_values(self, tag: int, growth: int = 1) -> bytes:
        """Read the bytes of an existing tag; bytes times growth are limited."""
        _, _, inline = self._entries[tag]
        size = self.value_bytes(tag)
        if size * growth > _MAX_TAG_BYTES:
            raise SourceError(f"{self._file.name}: broken TIFF: tag {tag} has {size} bytes")
        if size <= len(inline):
            return bytes(inline[:size])
        (offset,) = _STRUCTS[self.byteorder, self.is_bigtiff][2].unpack(inline)
        return _read_exactly(self._file, offset, size, f"tag {tag}")


def _unpack_at(file: SourceFile, form: str, offset: int) -> Sequence[int]:
    return struct.unpack(form, _read_exactly(file, offset, struct.calcsize(form), "the header"))


def _read_exactly(
    file: SourceFile, offset: int, count: int, what: str, optional_bytes: int = 0
) -> bytes:
    """Read `count` bytes at an offset, and at most `optional_bytes` more."""
    # Checked against the file's size first: a wrong number must not cost memory.
    if offset + count <= file.size:
        file.stream.seek(offset)
        raw = file.stream.read(count + optional_bytes)
        if len(raw) >= count:
            return raw
    raise SourceError(
        f"{file.name}: broken TIFF: {what} at {offset} takes {count} bytes, "
        f"but the file has {file.size}"
    )
