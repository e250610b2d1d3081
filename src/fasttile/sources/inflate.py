"""The deflated data of a PNG, inflated on a thread of its own.

Pillow's PNG decoder inflates, undoes the filters and unpacks, one after the other. Given data that
are inflated already, in deflate's form for what is not compressed (RFC 1951, 3.2.4), it has the
latter two to do only, while the next data are inflated.
"""

from __future__ import annotations

import queue
import struct
import threading
import zlib
from collections.abc import Callable

BLOCK = 2**16 - 1
"""The most bytes that a stored block of deflate has."""

_WAITING = 16  # blocks
_PIECE = 2**15  # bytes of the file at a time
_ZLIB_HEADER = b"\x78\x01"


class Inflater:
    """Reads deflated data (RFC 1950) and gives them as stored blocks of the same format.

    The checksum at their end is neither checked nor given: decoders have all rows before it.

    Args:
        read: Gives so many bytes of the deflated data, or fewer; none at their end.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._source = read
        self._blocks: queue.Queue[bytes | BaseException] = queue.Queue(_WAITING)
        self._closed = False
        self._thread: threading.Thread | None = None
        self._ended = False

    def read(self, size: int) -> bytes:
        """The next block, whatever the size; empty at the end.

        Raises:
            Exception: What reading has failed with, or zlib.error where the data are damaged.
        """
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._inflate, name="fasttile-inflater", daemon=True
            )
            self._thread.start()
            return _ZLIB_HEADER
        if self._ended:
            return b""
        block = self._blocks.get()
        self._ended = not isinstance(block, bytes) or not block
        if isinstance(block, BaseException):
            raise block
        return block

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        if self._thread is None:
            return
        while self._thread.is_alive():
            try:
                self._blocks.get(timeout=0.01)  # it may be waiting for room
            except queue.Empty:
                continue
        self._thread.join()

    def _inflate(self) -> None:
        try:
            self._put_all()
            self._put(b"")
        except BaseException as failure:  # told to whoever reads
            self._put(failure)

    def _put_all(self) -> None:
        header = b""
        while len(header) < 2:
            more = self._source(2 - len(header))
            if not more:
                return
            header += more
        if header[0] & 15 != 8 or header[1] & 32 or int.from_bytes(header, "big") % 31:
            raise zlib.error("the data do not begin as deflated data do")
        inflating = zlib.decompressobj(-15)
        while not inflating.eof and not self._closed:
            data = self._source(_PIECE)
            if not data:
                return
            while data and not self._closed:
                inflated = inflating.decompress(data, BLOCK)
                data = inflating.unconsumed_tail
                if inflated:
                    size = len(inflated)
                    self._put(struct.pack("<BHH", 0, size, size ^ 0xFFFF) + inflated)

    def _put(self, block: bytes | BaseException) -> None:
        if not self._closed:
            self._blocks.put(block)
