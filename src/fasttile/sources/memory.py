"""The bytes of a file that a caller has in memory: read in place, as if they were a file."""

from __future__ import annotations

import mmap
from contextlib import suppress

from ..errors import SourceError
from .base import Pixels
from .mapping import PictureFile
from .reopened import Places, Reopened


class MemoryFile(PictureFile):
    """Bytes in memory as a file that needs neither a descriptor nor a map.

    Args:
        data: The bytes; nobody can resize them before the file and all views are gone.
        name: What messages call them.

    Raises:
        SourceError: There are none, or they do not lie one behind the other.
    """

    def __init__(self, data: bytes | bytearray | memoryview | mmap.mmap, name: str) -> None:
        # Nothing of what the parent does: there is nothing to be opened.
        self.path = None
        self.name = name
        self._data = _flat(data, name)
        self.size = len(self._data)
        self.stream = self.reopen()
        if self.size == 0:
            self.close()
            raise SourceError(f"{name} is empty")

    def reopen(self) -> Reopened:
        """A stream over the same bytes with a position of its own."""
        view = self._data[:]  # its own, since the stream may outlive this file
        raw = Places(lambda count, place: view[place : place + count], self.size, view.release)
        return Reopened(raw, self.size)

    def bring(self, view: Pixels) -> None:
        """Nothing has to come."""

    def let_go(self, view: Pixels) -> None:
        """Nothing can go: it is the caller's."""

    def close(self) -> None:
        """Let go of the bytes; views that are left still hold them."""
        self.stream.close()
        with suppress(BufferError):
            self._data.release()

    def _mapped(self) -> memoryview:
        return self._data


def _flat(data: bytes | bytearray | memoryview | mmap.mmap, name: str) -> memoryview:
    view = memoryview(data)
    if view.ndim != 1 or view.itemsize != 1 or not view.c_contiguous:
        raise SourceError(
            f"{name} of shape {view.shape} and format {view.format!r} is not the bytes of a file: "
            "bytes one behind the other would do, or an array for pixels"
        )
    return view.toreadonly().cast("B")
