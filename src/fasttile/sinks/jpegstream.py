"""JPEG streams as TIFF wants them: without the tables that all tiles share, or anything of JFIF.

Source: ITU-T T.81, annex B; TIFF technical note 2, "JPEGTables".
"""

from __future__ import annotations

from typing import NamedTuple

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_DQT, _DHT, _SOS = 0xDB, 0xC4, 0xDA
_SOFS = {0xC0, 0xC1}
_NOT_SEQUENTIAL = {*range(0xC2, 0xD0)} - {_DHT, 0xC8, 0xCC}
_APPS_AND_COMMENTS = {*range(0xE0, 0xF0), 0xFE}


class Shortened(NamedTuple):
    """What the tiles of a file share: a stream of the tables alone, and chroma's subsampling."""

    tables: bytes
    subsampling: tuple[int, int]


class Shortener:
    """Takes out of each stream what is in the first one's tables too.

    A stream with other tables keeps its own, which readers take instead.

    Attributes:
        shared: What the first stream had. None: none has come.
    """

    def __init__(self) -> None:
        self.shared: Shortened | None = None
        self._head = b""
        self._short_head = b""

    def parts(self, data: bytes) -> tuple[bytes, memoryview]:
        """A complete stream, shortened, in two parts.

        Raises:
            ValueError: It is no sequential JPEG stream.
        """
        # All tiles of one size have the same head.
        if not self._head or not data.startswith(self._head):
            self._head, self._short_head = self._shortened(data)
        return self._short_head, memoryview(data)[len(self._head) :]

    def _shortened(self, data: bytes) -> tuple[bytes, bytes]:
        """The head of a stream, up to its scan's data, as it is and as it is written."""
        tables, rest, subsampling = b"", b"", (1, 1)
        position = 2
        while True:
            marker, end = _segment(data, position)
            segment = data[position:end]
            if marker in _NOT_SEQUENTIAL:
                raise ValueError(f"a tile is a JPEG stream of a kind that TIFF has not: {marker:X}")
            if marker in _SOFS:
                # A scan of one component is never subsampled, whatever it says; libtiff minds.
                if segment[9] == 1:
                    segment = segment[:11] + b"\x11" + segment[12:]
                subsampling = segment[11] >> 4, segment[11] & 15
            if marker in (_DQT, _DHT):
                tables += segment
            elif marker not in _APPS_AND_COMMENTS:
                rest += segment
            position = end
            if marker == _SOS:
                break
        if self.shared is None:
            self.shared = Shortened(_SOI + tables + _EOI, subsampling)
        own = tables if self.shared.tables != _SOI + tables + _EOI else b""
        return data[:position], _SOI + own + rest


def _segment(data: bytes, position: int) -> tuple[int, int]:
    """The marker at a position, and where its segment ends."""
    length = int.from_bytes(data[position + 2 : position + 4])
    marker, end = data[position + 1 : position + 2], position + 2 + length
    shortest = 11 if marker and marker[0] in _SOFS else 2  # up to the first sampling factors
    if data[:2] != _SOI or data[position : position + 1] != b"\xff" or length < shortest:
        raise ValueError("a tile is no JPEG stream")
    if len(data) <= end:
        raise ValueError("a tile is a JPEG stream that is cut short")
    return marker[0], end
