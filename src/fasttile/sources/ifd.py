"""The first directory of a TIFF or BigTIFF: its tags as numbers; no number in it is trusted.

Written after TIFF 6.0 (1992) and the BigTIFF proposal (2004). tifffile does this too, but to import
it takes as long as to cut ten megapixels.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError
from .mapping import PictureFile

Numbers = NDArray[np.uint64]

# Field type to its numbers: BYTE, ASCII, SHORT, LONG, UNDEFINED, IFD, LONG8 and IFD8. A RATIONAL is
# two of them; what is signed or a float is of no use here.
_TYPES = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "u4", 7: "u1", 13: "u4", 16: "u8", 18: "u8"}
_RATIONAL = 5

_HEADERS = {
    b"II*\0": ("<", False),
    b"MM\0*": (">", False),
    b"II+\0": ("<", True),
    b"MM\0+": (">", True),
}


_LARGEST = 2**28  # bytes; 16 million strips and their sizes fit, the whole of a file does not


class Directory:
    """The tags of a file's first picture.

    Attributes:
        byteorder: "<" or ">", of the tags and of the samples.
        big: Whether it is a BigTIFF.

    Raises:
        SourceError: The directory does not lie in the file.
    """

    def __init__(self, file: PictureFile) -> None:
        self._file = file
        self.byteorder, self.big = _HEADERS[file.head(4)]
        if self.big:
            sizes = self._unpack("HH", 4)
            if sizes != (8, 0):
                raise SourceError(f"{file.name}: broken TIFF: offsets of {sizes[0]} bytes")
        start = self._unpack("Q", 8)[0] if self.big else self._unpack("I", 4)[0]
        count_form, entry_form = ("Q", "HHQ8s") if self.big else ("H", "HHI4s")
        count = self._unpack(count_form, start)[0]
        start += struct.calcsize(f"={count_form}")
        size = struct.calcsize(f"={entry_form}")
        raw = self._bytes(start, count * size, "the directory")
        entries = struct.iter_unpack(f"{self.byteorder}{entry_form}", raw)
        self._entries = {tag: entry for tag, *entry in entries}

    def numbers(self, tag: int) -> Numbers | None:
        """The values of a tag, or None if it is missing or not of whole numbers.

        Raises:
            SourceError: The values do not lie in the file.
        """
        kind, count, inline = self._entries.get(tag, (None, 0, b""))
        if kind not in _TYPES or not count:
            return None
        dtype = np.dtype(f"{self.byteorder}{_TYPES[kind]}")
        nbytes = count * dtype.itemsize * (2 if kind == _RATIONAL else 1)
        if nbytes > _LARGEST:
            raise SourceError(f"{self._file.name}: broken TIFF: tag {tag} has {nbytes} bytes")
        if nbytes <= len(inline):
            raw = inline[:nbytes]
        else:
            offset = struct.unpack(f"{self.byteorder}{'Q' if self.big else 'I'}", inline)[0]
            raw = self._bytes(offset, nbytes, f"tag {tag}")
        return np.frombuffer(raw, dtype).astype(np.uint64)

    def number(self, tag: int, default: int) -> int:
        """The one value of a tag, or all its values if they are the same.

        Raises:
            SourceError: They differ, or do not lie in the file.
        """
        values = self.numbers(tag)
        if values is None:
            return default
        if (values != values[0]).any():
            raise SourceError(f"{self._file.name}: tag {tag} differs between samples")
        return int(values[0])

    def raw(self, tag: int) -> bytes | None:
        """The bytes of a tag that is bytes, or None."""
        if self._entries.get(tag, (None,))[0] not in (1, 7):
            return None
        values = self.numbers(tag)
        return None if values is None else values.astype(np.uint8).tobytes()

    def rational(self, tag: int) -> tuple[int, int] | None:
        """A fraction, or None."""
        if self._entries.get(tag, (None,))[0] != _RATIONAL:
            return None
        values = self.numbers(tag)
        return None if values is None else (int(values[0]), int(values[1]))

    def _unpack(self, form: str, offset: int) -> Sequence[int]:
        form = f"{self.byteorder}{form}"
        return struct.unpack(form, self._bytes(offset, struct.calcsize(form), "the header"))

    def _bytes(self, offset: int, count: int, what: str) -> bytes:
        # First against the file's size: a lie must not cost memory.
        if offset + count <= self._file.size:
            self._file.stream.seek(offset)
            raw = self._file.stream.read(count)
            if len(raw) == count:
                return raw
        raise SourceError(
            f"{self._file.name}: broken TIFF: {what} at {offset} takes {count} bytes, "
            f"but the file has {self._file.size}"
        )
