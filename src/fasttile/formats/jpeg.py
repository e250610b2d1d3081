"""JPEG streams as TIFF wants them: without the tables that all tiles share, or anything of JFIF.

Source: ITU-T T.81, annexes B and K; TIFF technical note 2, "JPEGTables".
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, NamedTuple

from fasttile.storage.budget import BUDGET

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_DQT, _DHT, _SOS = 0xDB, 0xC4, 0xDA
_SEQUENTIAL_FRAMES = {0xC0, 0xC1}
_OTHER_FRAMES = {*range(0xC2, 0xD0)} - {_DHT, 0xC8, 0xCC}
_APPS_AND_COMMENTS = {*range(0xE0, 0xF0), 0xFE}

_SCAN_START = bytes([0xFF, _SOS])
_WITHOUT_SEGMENT = {_SOI[1], 0x01}

_STANDARD_TABLES = {0x13BC22C1, 0x76431CC4, 0xBF876D00, 0xDB3E692F}
"""The Huffman tables of annex K, by the CRC-32 of what their segments hold."""

_MARKER_IN_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")

_SCAN_CHUNK_BYTES = 2**20

MAX_JPEG_PIXELS = 512
"""Most pixels in a byte of JPEG: a block of 64 has at least one bit, in the scan of its DC."""

_SMALL_IMAGE_PIXELS = 2**26  # decoded even if the file ends after a few bytes

_ARITHMETIC_FRAMES = {0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}  # of which a bit can have many blocks

_MAX_KNOWN_HEADS = 8
"""Tiles say their level's resolution, so those of each level begin in their own way."""


class SharedTables(NamedTuple):
    """What the tiles of a file share: a stream of the tables alone, and chroma's subsampling."""

    tables: bytes
    subsampling: tuple[int, int]


class JpegTableExtractor:
    """Takes out of each stream what the first one has said for all.

    Quantisation tables are shared, and Huffman tables if they are the usual ones. Others were made
    for one tile, and stay in it: libtiff reads the shared tables once, and having met others in a
    tile, it would read the next tile by those.

    Attributes:
        shared: What the first stream had. None: none has come.
    """

    def __init__(self) -> None:
        self.shared: SharedTables | None = None
        self._shared_segments: set[bytes] = set()
        self._known_heads: list[tuple[bytes, bytes]] = []

    def extract(self, data: bytes) -> tuple[bytes, memoryview]:
        """A complete stream, shortened, in two parts.

        Raises:
            ValueError: It is no sequential JPEG stream.
        """
        # Tiles from one encoder begin with the same bytes, up to their scans.
        for head, short in self._known_heads:
            if data.startswith(head):
                return short, memoryview(data)[len(head) :]
        head, short = self._split_head(data)
        self._known_heads = [(head, short), *self._known_heads[: _MAX_KNOWN_HEADS - 1]]
        return short, memoryview(data)[len(head) :]

    def _split_head(self, data: bytes) -> tuple[bytes, bytes]:
        """The head of a stream, up to its scan's data, as it is and as it is written."""
        tables: list[bytes] = []
        rest, subsampling = b"", (1, 1)
        position, marker = 2, 0
        while marker != _SOS:
            marker, end = _read_segment(data, position)
            segment = data[position:end]
            if marker in _OTHER_FRAMES:
                raise ValueError(f"a tile is a JPEG stream of a kind that TIFF has not: {marker:X}")
            if marker in _SEQUENTIAL_FRAMES:
                # A scan of one component is never subsampled; libtiff checks its header.
                if segment[9] == 1:
                    segment = segment[:11] + b"\x11" + segment[12:]
                subsampling = segment[11] >> 4, segment[11] & 15
            if marker in (_DQT, _DHT):
                tables.append(segment)
            elif marker not in _APPS_AND_COMMENTS:
                rest += segment
            position = end
        if self.shared is None:
            shared = [
                table
                for table in tables
                if table[1] == _DQT or zlib.crc32(table[4:]) in _STANDARD_TABLES
            ]
            self._shared_segments = set(shared)
            self.shared = SharedTables(_SOI + b"".join(shared) + _EOI, subsampling)
        own = b"".join(table for table in tables if table not in self._shared_segments)
        return data[:position], _SOI + own + rest


def _read_segment(data: bytes, position: int) -> tuple[int, int]:
    """The marker at a position, and where its segment ends."""
    length = int.from_bytes(data[position + 2 : position + 4])
    marker, end = data[position + 1 : position + 2], position + 2 + length
    shortest = (
        11 if marker and marker[0] in _SEQUENTIAL_FRAMES else 2
    )  # up to the first sampling factors
    if data[:2] != _SOI or data[position : position + 1] != b"\xff" or length < shortest:
        raise ValueError("a tile is no JPEG stream")
    if len(data) <= end:
        raise ValueError("a tile is a JPEG stream that is cut short")
    return marker[0], end


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment up to the header of the first scan.

    Raises:
        ValueError: The segments are not consecutive.
    """
    position, marker = len(_SOI), 0
    while marker != _SOS:
        stop = position + 2 + int.from_bytes(data[position + 2 : position + 4])
        if data[position : position + 1] != b"\xff" or not position + 4 <= stop <= len(data):
            raise ValueError("is damaged: its segments are not consecutive")
        marker = data[position + 1]
        yield marker, position, stop
        position = stop


def jpeg_frame(data: bytes) -> tuple[int, ...] | None:
    """Width, height, and sampling factors of each component; of grey or YCbCr, sequential.

    None for streams that a TIFF cannot take: progressive ones, CMYK, and RGB by Adobe's marker.

    Raises:
        ValueError: The segments are not consecutive.
    """
    frame: tuple[int, ...] | None = None
    for marker, start, stop in jpeg_segments(data):
        if marker == 0xEE and data[start + 4 : start + 9] == b"Adobe" and data[stop - 1] == 0:
            return None
        if marker in _OTHER_FRAMES:
            return None
        if marker in _SEQUENTIAL_FRAMES and stop - start >= 10:
            bands = data[start + 9]
            if bands not in (1, 3) or stop - start < 10 + 3 * bands:
                return None
            height, width = struct.unpack_from(">HH", data, start + 5)
            factors = [data[start + 11 + 3 * band] for band in range(bands)]
            frame = (width, height, *(factors if bands == 3 else [0x11]))
    return frame


def jpeg_size(data: bytes) -> tuple[int, int, int]:
    """Width and height of a stream, and where the header of its frame ends.

    Raises:
        ValueError: The segments are not consecutive, or none is a frame's header.
    """
    for marker, start, stop in jpeg_segments(data):
        if (marker in _SEQUENTIAL_FRAMES or marker in _OTHER_FRAMES) and stop - start >= 10:
            height, width = struct.unpack_from(">HH", data, start + 5)
            return width, height, stop
    raise ValueError("is damaged: it has no size")


def has_subsampled_bands(data: bytes) -> bool:
    """True if some components of a stream have fewer samples than others; False if damaged."""
    with suppress(ValueError, IndexError):
        for marker, start, _ in jpeg_segments(data):
            if marker in _SEQUENTIAL_FRAMES or marker in _OTHER_FRAMES:
                factors = {data[start + 11 + 3 * band] for band in range(data[start + 9])}
                return len(factors) > 1
    return False


def check_scans(stream: IO[bytes], start: int, width: int, height: int) -> None:
    """Check that the scans of a file can be decoded in a reasonable time, and hold its pixels.

    Each scan of a progressive image takes the time of all its pixels, about 2 ns each, though it
    may have ten bytes. Programs write 10 scans, optimisers of files up to 25. The scans of a
    sequential image are not counted: each has bytes for each of its blocks.

    Args:
        stream: Holds the file; its position changes.
        start: Offset of the file, in bytes.
        width, height: Size of the image in pixels.

    Raises:
        ValueError: There are too many, or too few bytes: words that follow the name of the file.
    """
    limit = max(BUDGET.scans, BUDGET.scanned_pixels // max(1, width * height))
    stream.seek(start)
    data, few = stream.read(_SCAN_CHUNK_BYTES), ""
    with suppress(ValueError):
        markers = {marker for marker, _, _ in jpeg_segments(data)}
        if markers & _SEQUENTIAL_FRAMES:
            return
        size = stream.seek(0, io.SEEK_END) - start
        most = max(_SMALL_IMAGE_PIXELS, MAX_JPEG_PIXELS * size)
        if width * height > most and not markers & _ARITHMETIC_FRAMES:
            few = f"is damaged: its {size:,} bytes cannot hold {width}×{height} pixels"
    if few:
        raise ValueError(few)
    stream.seek(start + len(data))
    # First all bytes that may begin a scan, which is fast and nearly always enough.
    candidates, last = 0, b""
    while data:
        candidates += (last + data[:1]).count(_SCAN_START) + data.count(_SCAN_START)
        last = data[-1:]
        data = stream.read(_SCAN_CHUNK_BYTES)
    if candidates <= limit:
        return
    scans, begin, position = 0, start + len(_SOI), 0
    while scans <= limit:
        found = _MARKER_IN_SCAN.search(data, position)
        if found is None or found.end() + 2 > len(data):
            # The next piece, with the beginning of a marker that this one ends in.
            rest = data[-1:].count(b"\xff") if found is None else len(data) - found.start()
            stream.seek(begin + len(data))
            more = stream.read(_SCAN_CHUNK_BYTES)
            if not more:
                return
            begin += len(data) - rest
            data, position = data[len(data) - rest :] + more, 0
            continue
        marker, position = found[0][-1], found.end()
        if marker == _EOI[1] or marker in _SEQUENTIAL_FRAMES:
            return
        if marker not in _WITHOUT_SEGMENT:
            scans += marker == _SOS
            position += int.from_bytes(data[position : position + 2])
            if position > len(data):
                begin, position, data = begin + position, 0, b""
    raise ValueError(
        f"has more than {limit:,} scans of {width}×{height} pixels each, which take too long; save "
        "it again with another program"
    )


def check_jpeg(data: bytes) -> None:
    """Check that the segments are consecutive and the only marker in the scan is its end.

    Raises:
        ValueError: The file has a flaw: words that follow its name.
    """
    end = len(data.rstrip(b"\0"))  # some programs append zeros
    if data[end - 2 : end] != _EOI:
        raise ValueError("does not end with an EOI marker")
    frame, position, stop = b"", 0, 0
    for marker, position, stop in jpeg_segments(data[: end - 2]):
        if marker in _SEQUENTIAL_FRAMES:
            frame = data[position:stop]
    if not frame or data[position + 4] != frame[9]:
        return  # several scans
    found = _MARKER_IN_SCAN.search(data, stop)
    if found is None or found.end() != end:
        raise ValueError("is damaged: its pixels have a marker")
