"""JPEGs with restart markers, decoded on several threads.

At a restart marker a decoder forgets all that came before. So complete MCU rows between two
markers, behind the file's header with another height, are a JPEG of their own. Only the upsampling
of chroma looks at neighbouring rows: some are decoded above and below with them, and left out.

Rows are used only if all markers up to there are the right ones. Where one is not, or data are
missing, the plain decoder starts at the first row: pixels and messages of damaged files are its.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from io import BytesIO
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from PIL import Image, ImageFile

from fasttile import pillow_core
from fasttile.formats.jpeg import jpeg_segments
from fasttile.pillow_core import image_over, pixel_bytes
from fasttile.sources.pillow.decoder import RowDecoder, Rows
from fasttile.storage.memory import PixelBuffer

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_FRAMES = (0xC0, 0xC1)  # baseline and extended sequential, Huffman coding
_RESTART_INTERVAL, _FIRST_RESTART = 0xDD, 0xD0
_KEPT_SEGMENTS = {0xC4, 0xDB, 0xDA, 0xE0, 0xEE, _RESTART_INTERVAL, *_FRAMES}
"""Markers of segments that pixels depend on: tables, the frame, the scan, JFIF's and Adobe's."""

MAX_THREADS = 8
"""The most threads that decode one image."""

CHUNK_BYTES = 8 * 2**20
"""About how many bytes of pixels a thread decodes at a time."""

_MIN_CHUNK_UNITS = 4  # with one more above and below
MAX_MEMORY_BYTES = 96 * 2**20
"""What the chunks in work may take, in bytes."""

_READ_BYTES = 2**20  # of the file at a time


class Scan(NamedTuple):
    """The only scan of a JPEG, in units: the fewest MCU rows between two restart markers.

    Attributes:
        header: The segments that pixels depend on, from SOI up to the scan's data.
        height_offset: Where the header has the height.
        start: Offset of the scan's data in the file, in bytes.
        unit_rows: Rows of pixels of a unit; the last one may have fewer.
        unit_intervals: Restart intervals of a unit.
        intervals: Restart intervals of the scan.
    """

    header: bytes
    height_offset: int
    start: int
    unit_rows: int
    unit_intervals: int
    intervals: int

    @classmethod
    def from_image(cls, image: ImageFile.ImageFile) -> Self | None:
        """The scan of an image that `is_row_decodable`; None if it has no such units."""
        if image.tile[0][0] != "jpeg" or image.fp is None or image.decoderconfig:
            return None
        offset, start = image.tile[0][2], image.fp.tell()
        image.fp.seek(offset)
        data = image.fp.read(start - offset)
        image.fp.seek(start)
        with suppress(ValueError, IndexError, struct.error):
            return cls._from_header(data, start, *image.size)
        return None

    @classmethod
    def _from_header(cls, data: bytes, start: int, width: int, height: int) -> Self | None:
        header, height_offset, interval, stop = _SOI, 0, 0, 0
        frame: tuple[int, ...] = ()
        factors: list[int] = []
        for marker, begin, stop in jpeg_segments(data):
            if marker not in _KEPT_SEGMENTS:
                continue
            if marker in _FRAMES:
                height_offset = len(header) + 5
                frame += struct.unpack_from(">BHHB", data, begin + 4)
                factors += [data[begin + 11 + 3 * band] for band in range(frame[-1])]
            elif marker == _RESTART_INTERVAL:
                (interval,) = struct.unpack_from(">H", data, begin + 4)
            header += data[begin:stop]
        if stop != len(data) or frame != (8, height, width, len(factors)) or not interval:
            return None
        if len(factors) == 1 and factors != [0x11]:
            return None  # a scan of one band has units of one block with any factors
        across, down = max(value >> 4 for value in factors), max(value & 15 for value in factors)
        mcus, mcu_rows = -(-width // (8 * across)), -(-height // (8 * down))
        common = math.gcd(interval, mcus)
        unit_rows, intervals = interval // common * 8 * down, -(-mcus * mcu_rows // interval)
        return cls(header, height_offset, start, unit_rows, mcus // common, intervals)


class ChunkPlan(NamedTuple):
    """How an image is decoded in chunks.

    Attributes:
        scan: Its scan.
        chunk_units: Units of a chunk, without those above and below.
        threads: How many chunks are in work at a time.
        memory_bytes: What they take.
    """

    scan: Scan
    chunk_units: int
    threads: int
    memory_bytes: int


def plan_chunks(image: ImageFile.ImageFile, max_threads: int) -> ChunkPlan | None:
    """How an image that `is_row_decodable` is decoded in chunks; None if it is not."""
    scan = Scan.from_image(image)
    if scan is None:
        return None
    unit_bytes = scan.unit_rows * image.width * pixel_bytes(image.mode)
    chunk_units = max(_MIN_CHUNK_UNITS, CHUNK_BYTES // unit_bytes)
    if -(-image.height // scan.unit_rows) < 2 * chunk_units:
        return None
    bytes_of_each = 2 * (chunk_units + 1) * unit_bytes  # what it decodes, and where that goes
    threads = min(max_threads, MAX_THREADS, MAX_MEMORY_BYTES // bytes_of_each)
    if threads < 2 or not supports_chunks():
        return None
    return ChunkPlan(scan, chunk_units, threads, threads * bytes_of_each)


class ChunkDecoder:
    """Decodes the rows of an image, from top to bottom, in chunks on several threads.

    Args:
        image: For which there is a plan; it is used up.
        buffer: height * width * pixel_bytes(mode) bytes, all zero.
        plan: The plan.
        name: Name of the file in messages.

    Attributes:
        rows: Number of rows that are decoded.
        pixels: Shape (height, width * pixel_bytes(mode)); only the first `rows` mean anything.
        has_fallen_back: True if the plain decoder has taken over.
    """

    def __init__(
        self, image: ImageFile.ImageFile, buffer: PixelBuffer, plan: ChunkPlan, name: str
    ) -> None:
        assert image.fp is not None
        self.rows = 0
        self.pixels: Rows = buffer.bytes.reshape(image.height, -1)
        self.has_fallen_back = False
        self._buffer = buffer
        self._image = image
        self._plan = plan
        self._name = name
        image.fp.seek(plan.scan.start)
        self._intervals = _IntervalReader(image.fp.read, plan.scan.intervals)
        self._next_unit = 0
        self._chunks: deque[tuple[int, Future[bool]]] = deque()  # with the row below each
        self._free_memory: SimpleQueue[Rows] = SimpleQueue()
        self._pool: ThreadPoolExecutor | None = None
        self._plain: RowDecoder
        self._plain_buffer: PixelBuffer
        self._discarded_bytes = 0

    def decode_more(self) -> bool:
        """Wait for the next chunk, or decode a piece more; true if more rows may come.

        Raises:
            DecodingError: There will be none, but rows are missing.
        """
        if self.has_fallen_back:
            return self._decode_plainly()
        self._begin_chunks()
        if self._chunks:
            end, chunk = self._chunks.popleft()
            with suppress(Exception):  # also a lack of memory: the plain decoder needs less
                if chunk.result():
                    self.rows = end
                    return end < len(self.pixels)
        self._fall_back()
        return True

    def release(self, start: int, end: int) -> int:
        """Free the memory: threads write where it could move to."""
        return self._buffer.discard(start, end)

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if self.has_fallen_back:
            self._plain.close()

    def _begin_chunks(self) -> None:
        from concurrent.futures import ThreadPoolExecutor  # it takes long to import

        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._plan.threads, "fasttile-jpeg")
        scan, height = self._plan.scan, len(self.pixels)
        while len(self._chunks) < self._plan.threads:
            first, end = self._next_unit, self._next_unit + self._plan.chunk_units
            above, below = max(0, first - 1), end + 1
            top = above * scan.unit_rows
            span = slice(first * scan.unit_rows, min(end * scan.unit_rows, height))
            if span.start >= height:
                return
            data = self._intervals.take(
                above * scan.unit_intervals, min(below * scan.unit_intervals, scan.intervals)
            )
            if data is None:
                return
            rows = min(below * scan.unit_rows, height) - top
            try:
                begun = self._pool.submit(self._decode_chunk, data, rows, span, span.start - top)
            except RuntimeError:  # the system has no thread left
                return
            self._chunks.append((span.stop, begun))
            self._next_unit = end

    def _decode_chunk(self, data: bytes, rows: int, span: slice, skipped: int) -> bool:
        """Decode some rows, and copy those that belong to the chunk; false if that fails."""
        scan = self._plan.scan
        try:
            memory = self._free_memory.get_nowait()
        except Empty:
            most = (self._plan.chunk_units + 2) * scan.unit_rows
            memory = np.empty((most, self.pixels.shape[1]), np.uint8)
        header = bytearray(scan.header)
        struct.pack_into(">H", header, scan.height_offset, rows)
        is_complete = pillow_core.decode_jpeg(
            self._image, b"".join((header, data, _EOI)), memory[:rows]
        )
        if is_complete:
            count = span.stop - span.start
            np.copyto(self.pixels[span], memory[skipped : skipped + count])
        self._free_memory.put(memory)
        return is_complete

    def _fall_back(self) -> None:
        assert self._pool is not None
        assert self._image.fp is not None
        self._pool.shutdown(cancel_futures=True)
        self._chunks.clear()
        self._free_memory = SimpleQueue()
        self._image.fp.seek(self._plan.scan.start)
        self._plain_buffer = PixelBuffer(self.pixels.size, self._name, on_disk=False)
        self._plain = RowDecoder(self._image, self._plain_buffer)
        self.has_fallen_back = True

    def _decode_plainly(self) -> bool:
        plain, row_bytes = self._plain, self.pixels.shape[1]
        try:
            return plain.decode_more()
        finally:
            if plain.rows > self.rows:
                self.pixels[self.rows : plain.rows] = plain.pixels[self.rows : plain.rows]
                self.rows = plain.rows
            # A row more stays: where a decoder has come to is seen in its rows.
            end = max(0, plain.rows - 1) * row_bytes
            self._discarded_bytes = self._plain_buffer.discard(self._discarded_bytes, end)


class _IntervalReader:
    """Reads the data of a scan, and finds where its restart intervals end.

    Args:
        read: Returns up to a number of bytes of the scan; none at the end of the file.
        intervals: How many the scan has.
    """

    def __init__(self, read: Callable[[int], bytes], intervals: int) -> None:
        self._read = read
        self._intervals = intervals
        self._data = bytearray()
        self._first = 0  # the interval that the data begin with
        self._ends = np.empty(0, np.int64)  # of the intervals, in the data
        self._is_over = False

    def take(self, first: int, end: int) -> bytes | None:
        """Data of intervals first to end-1, with markers that count from 0; earlier ones are gone.

        Returns:
            None: There are no such intervals; a marker is wrong, or the data end.
        """
        while self._first + len(self._ends) < end:
            if self._is_over or not self._read_more():
                return None
        gone = first - self._first
        if gone:
            start = int(self._ends[gone - 1]) + 2
            del self._data[:start]
            self._ends = self._ends[gone:] - start
            self._first = first
        count = end - first
        data = self._data[: int(self._ends[count - 1])]
        numbers = np.arange(count - 1) % 8
        np.frombuffer(data, np.uint8)[self._ends[: count - 1] + 1] = _FIRST_RESTART + numbers
        return bytes(data)

    def _read_more(self) -> bool:
        block = b""
        with suppress(OSError):
            block = self._read(_READ_BYTES)
            while block.endswith(b"\xff") and (more := self._read(1)):
                block += more
        values = np.frombuffer(block, np.uint8)
        places = np.flatnonzero(values[:-1] == 0xFF)
        places = places[values[places + 1] != 0]
        markers = values[places + 1]
        known = self._first + len(self._ends)
        missing = self._intervals - 1 - known
        numbers = (known + np.arange(len(markers))) % 8
        wrong = np.flatnonzero(markers != _FIRST_RESTART + numbers)
        right = min([*wrong[:1].tolist(), len(markers), missing])
        if right < len(markers):
            self._is_over = True
            # The last interval ends at the end of the image, if no other one is missing.
            right += right == missing and bytes((0xFF, markers[right])) == _EOI
        self._ends = np.append(self._ends, places[:right] + len(self._data))
        self._data += block
        return bool(block)


_TRIAL_MODES = (("RGB", 0), ("RGB", 1), ("RGB", 2), ("L", 0))
"""Pillow's modes, and its numbers of subsamplings."""


@cache
def supports_chunks() -> bool:
    """True if chunks have the pixels of the plain decoder with this Pillow, by a trial."""
    return pillow_core.is_same_as_public(
        lambda: all(_decodes_identically(*case) for case in _TRIAL_MODES)
    )


def _decodes_identically(mode: str, subsampling: int) -> bool:
    from PIL.JpegImagePlugin import JpegImageFile

    width, height = 45, 16 * 11 + 5
    samples = (np.arange(width * height * 3) * 37 % 251).astype(np.uint8)
    made = Image.frombytes("RGB", (width, height), samples.tobytes()).convert(mode)
    parameters: dict[str, Any] = {"restart_marker_rows": 1, "subsampling": subsampling}
    data = pillow_core.save_by_plugin(made, "JpegImagePlugin", parameters)
    image = JpegImageFile(BytesIO(data))
    scan = Scan.from_image(image)
    assert scan is not None
    buffer = PixelBuffer(width * height * pixel_bytes(mode), "JPEG", on_disk=False)
    decoder = ChunkDecoder(image, buffer, ChunkPlan(scan, 2, 2, 0), "JPEG")
    try:
        while decoder.decode_more():
            pass
    finally:
        decoder.close()
    expected = JpegImageFile(BytesIO(data)).tobytes()
    found = image_over(decoder.pixels, mode, width).tobytes()
    return not decoder.has_fallen_back and found == expected
