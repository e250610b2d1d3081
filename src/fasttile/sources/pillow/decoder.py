"""Pillow's decoders, driven piece by piece: all that leans on Pillow's inner parts to decode.

Pillow's `load` returns a complete image. Its decoders, however, take a file's bytes
piece by piece and write rows in order, so they can be fed by hand, into our own memory, where
finished rows are used and forgotten while the rest is decoded. `rows_in_order` decides whether an
image's decoder is one of these; `works` tries the way on small images before it is gone, and
where this Pillow turns out to be another than we know, `load` serves.

Pillow does not report the number of decoded rows; RowProbe finds it.
"""

from __future__ import annotations

import io
import os
import queue
import re
import struct
import threading
import zlib
from collections.abc import Callable
from functools import cache
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from PIL import Image, ImageFile

from fasttile import pillow_core
from fasttile.pillow_core import image_over, pixel_bytes
from fasttile.storage.memory import PixelBuffer

if TYPE_CHECKING:
    from numpy.typing import NDArray

INPUT_CHUNK_BYTES = 2**13
"""Bytes of a file that a decoder is given at a time, at first."""

MAX_INPUT_CHUNK_BYTES = 2**16
"""The most bytes that it is given."""

_MAX_OUTPUT_BYTES = 4 * 2**20  # bytes; pieces that give more are made smaller

# JPEG (an MCU of ten empty blocks, four bytes a pixel) gives up to 820 bytes for one, run lengths
# at most 255; what is inflated already 8, where pixels are bits. What a JPEG decoder holds back
# comes on top.
MAX_EXPANSION = 1_100
_MAX_EXPANSION_INFLATED = 16

RELEASE_BYTES = 4 * 2**20
"""How much memory is given back at a time: that interrupts all processors that run our threads."""

# Any marker but those that stand between entropy-coded segments; after it libjpeg makes rows up.
_END_OF_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")

_ROW_ORDER_DECODERS = ("raw", "pcx", "sun_rle", "tga_rle")


_LOAD_HOOKS = ("load", "load_prepare", "load_end", "load_seek", "load_read")

_KNOWN_HOOKS = {
    "JPEG": {"load_read"},
    "MPO": {"load_read", "load_seek"},
    "PNG": {"load_prepare", "load_read", "load_end"},
}
"""The hooks of plugins that rows can be decoded without, or that `RowDecoder` calls itself."""

_DECODES_TILES = ("AVIF", "JPEG2000", "TIFF", "WEBP")
"""Formats whose plugin has a `load` of its own, which calls the one of ImageFile."""


class DecodingError(Exception):
    """The data end or are damaged before the last row."""


def is_row_decodable(image: ImageFile.ImageFile) -> bool:
    """Whether an image that was opened and not loaded can be decoded by `RowDecoder`."""
    known = _KNOWN_HOOKS.get(image.format or "", set())
    if image.format == "TGA" and image.mode != "RGBA" and not _is_mirrored_tga(image):
        known = {"load_end"}  # which turns images, and makes them opaque
    if len(image.tile) != 1 or not overridden_hooks(image) <= known:
        return False
    name, extents, _, args = image.tile[0]
    if tuple(extents or ()) != (0, 0, *image.size):
        return False
    if image.width * pixel_bytes(image.mode) < MARK_BYTES:
        return False
    if name == "jpeg":
        return _has_single_scan(image)
    if name == "zip":
        animated = getattr(image, "is_animated", False)
        return image.format == "PNG" and not animated and not image.info.get("interlace")
    arguments = args if isinstance(args, tuple) else (args, 0, 1)
    direction = {"raw": 2, "tga_rle": 1}.get(name)
    downwards = direction is None or (len(arguments) > direction and arguments[direction] == 1)
    return name in _ROW_ORDER_DECODERS and downwards


def overridden_hooks(image: ImageFile.ImageFile) -> set[str]:
    """The names of the methods by which the plugin of an image does more than decode its tiles."""
    plugin, base = type(image), ImageFile.ImageFile
    return {
        name for name in _LOAD_HOOKS if getattr(plugin, name, None) is not getattr(base, name, None)
    }


def decodes_into_own_memory(image: ImageFile.ImageFile) -> bool:
    """Whether `load` decodes an image into the core image that it already has.

    Other plugins make a core image of their own, or take one that is there for loaded.
    """
    return "load" not in overridden_hooks(image) or image.format in _DECODES_TILES


def _is_mirrored_tga(image: ImageFile.ImageFile) -> bool:
    """Whether the rows of a TGA begin at the right: bit 4 of its descriptor byte."""
    assert image.fp is not None
    place = image.fp.tell()
    image.fp.seek(17)
    descriptor = image.fp.read(1)
    image.fp.seek(place)
    return descriptor == b"" or bool(descriptor[0] & 0x10)


def _has_single_scan(image: ImageFile.ImageFile) -> bool:
    """Whether all of a JPEG's components come in one scan, so that rows come as it is read."""
    if "progressive" in image.info or image.fp is None:
        return False
    if image.format == "MPO":
        _seek_scan_data(image.fp, image.tile[0][2])
    # The plugin has read past the header of the first scan: two bytes of marker, two of length,
    # the count of components, two bytes for each, and three more.
    layers = getattr(image, "layers", 0)
    place = image.fp.tell()
    image.fp.seek(max(0, place - 8 - 2 * layers))
    header = image.fp.read(5)
    image.fp.seek(place)
    return header == struct.pack(">BBHB", 0xFF, 0xDA, 6 + 2 * layers, layers)


def _seek_scan_data(file: IO[bytes], offset: int) -> None:
    """Go to where the JPEG plugin leaves its file, as that of MPO does not for the first image."""
    file.seek(offset + 2)
    head = b""
    while head[1:2] != b"\xda":
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xFF:
            return
        file.seek(int.from_bytes(head[2:]) - 2, os.SEEK_CUR)


class InOrderDecoder(Protocol):
    """Decodes an image from top to bottom.

    Attributes:
        rows: Number of rows that are certainly decoded.
    """

    rows: int

    def decode_more(self) -> bool:
        """Decode some rows more; true if there may be more to come. Or raises."""

    def release(self, start: int, end: int) -> int:
        """Free the memory of pixels that are not needed any more, from byte start to end-1.

        Called by the thread that decodes, between two calls of `decode_more`.

        Returns:
            The end of what is freed, the next start.
        """

    def close(self) -> None:
        """End threads."""


class RowDecoder:
    """Decodes the rows of an image, from top to bottom, into a room.

    Args:
        image: For which `rows_in_order` holds; it is used up.
        room: height * width * pixel_bytes(mode) bytes, all zero.

    Attributes:
        rows: Number of rows that are certainly decoded.
        pixels: Shape (height, width * pixel_bytes(mode)); only the first `rows` mean anything.
    """

    def __init__(self, image: ImageFile.ImageFile, buffer: PixelBuffer) -> None:
        assert image.fp is not None
        self._height = image.height
        self.rows = 0
        self.pixels: Rows = buffer.bytes.reshape(self._height, -1)
        self._buffer = buffer
        self._reused_end = 0
        self._chunk_bytes = INPUT_CHUNK_BYTES
        self._unconsumed = b""
        name, _, offset, _ = image.tile[0]
        self._scan_start = image.fp.tell() if name == "jpeg" else None
        self._has_fourth_byte = image.mode == "RGB" and name in ("jpeg", "zip")
        self._row_probe = (FourthByteProbe if self._has_fourth_byte else RandomMarkProbe)(
            self.pixels
        )
        self._decoder = pillow_core.open_decoder(image, self.pixels)
        getattr(image, "load_seek", image.fp.seek)(offset)
        self._read: Callable[[int], bytes] = getattr(image, "load_read", image.fp.read)
        self._inflater = Inflater(self._read) if name == "zip" else None
        if self._inflater is not None:
            self._read = self._inflater.read
        self._expansion = MAX_EXPANSION if self._inflater is None else _MAX_EXPANSION_INFLATED
        self._file_offset = offset

    def release(self, start: int, end: int) -> int:
        """Move the memory to rows that will be decoded; what has no place there is freed."""
        row_bytes = self.pixels.shape[1]
        while self._has_fourth_byte:
            to = max(self._reused_end, (self.rows + 1) * row_bytes)
            moved = self._buffer.move_block(start, end, to)
            if moved is None:
                break
            start, new, self._reused_end = moved
            # What is not written must not look as if it were.
            self.pixels[-(-(new + 1) // row_bytes) - 1 : self._reused_end // row_bytes, -1] = 0
        return self._buffer.discard(start, end) if end - start > RELEASE_BYTES else start

    def close(self) -> None:
        """End the thread that inflates, if there is one."""
        if self._inflater is not None:
            self._inflater.close()

    def decode_more(self) -> bool:
        """Decode a piece more; gives whether there may be more rows to come.

        Raises:
            DecodingError: There will be none, but rows are missing.
        """
        try:
            data = self._read(self._chunk_bytes)
            if self._scan_start is not None and data.endswith(b"\xff"):
                data += self._read(1)  # a marker must not be split, or it would not be found
        except Exception as error:
            raise DecodingError(str(error) or "the file ends too early") from error
        if not data:
            raise DecodingError("the file ends too early")
        cut = None
        if self._scan_start is not None:
            # No row may be made up after the end of the entropy-coded part.
            place, self._file_offset = self._file_offset, self._file_offset + len(data)
            found = _END_OF_SCAN.search(data, max(0, self._scan_start - place))
            cut = found.start() if found else None
        if cut is None:
            return self._decode(data)
        going_on = self._decode(data[:cut]) if cut else True
        if (
            going_on
            and self._height - self.rows > JPEG_ROWS_HELD_BACK
            and not self._row_probe.is_lost
        ):
            raise DecodingError("the data end too early")
        return going_on and self._decode(data[cut:])

    def _decode(self, data: bytes) -> bool:
        data = self._unconsumed + data
        self._row_probe.prepare(self.rows, self._expansion * len(data))
        used, status = self._decoder.decode(data)
        before, self.rows = self.rows, self._row_probe.count_written(self.rows)
        if used >= 0:
            self._unconsumed = data[used:]
            # Larger pieces while they yield few rows: each costs a change of threads. Random marks
            # allow for small pieces only.
            decoded = (self.rows - before) * self.pixels.shape[1]
            if decoded > _MAX_OUTPUT_BYTES:
                self._chunk_bytes = max(INPUT_CHUNK_BYTES, self._chunk_bytes // 4)
            elif self._has_fourth_byte and decoded < _MAX_OUTPUT_BYTES // 4:
                self._chunk_bytes = min(MAX_INPUT_CHUNK_BYTES, self._chunk_bytes * 2)
            return True
        self._decoder.cleanup()
        if status < 0:
            raise DecodingError(f"the data are damaged (status {status} of Pillow's decoder)")
        if self.rows < self._height and not self._row_probe.is_last_row_written():
            raise DecodingError("the data end too early")
        self.rows = self._height
        return False


_SELF_TEST_CASES = (("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "L"))


@cache
def supports_row_decoding() -> bool:
    """Whether this Pillow can be driven by hand, by a trial."""
    return pillow_core.is_same_as_public(
        lambda: all(_decodes_identically(kind, mode) for kind, mode in _SELF_TEST_CASES)
    )


def _decodes_identically(kind: str, mode: str) -> bool:
    from importlib import import_module

    plugin: Any = import_module(f"PIL.{kind.capitalize()}ImagePlugin")
    side = 40
    samples = (np.arange(side * side * 3) * 37 % 251).astype(np.uint8)
    made = Image.frombytes("RGB", (side, side), samples.tobytes()).convert(mode)
    data = pillow_core.save_by_plugin(made, f"{kind.capitalize()}ImagePlugin", {})
    factory = getattr(plugin, f"{kind.capitalize()}ImageFile")
    images = [factory(io.BytesIO(data)) for _ in range(2)]
    expected = images[0].tobytes()
    decoder = RowDecoder(
        images[1], PixelBuffer(side * side * pixel_bytes(mode), kind, on_disk=False)
    )
    try:
        while decoder.decode_more():
            pass
    finally:
        decoder.close()
    if mode == "RGB" and not (decoder.pixels[:, 3::4] == 255).all():
        return False
    return decoder.rows == side and image_over(decoder.pixels, mode, side).tobytes() == expected


# Number of rows that a sequential decoder has written: known, never guessed.
#
# Rows are written one after the other, and only between two pieces of the file is anybody asked. So
# it is enough to find, by halves, the first row that is not written. A row that differs from what
# was there before is written, and all rows above it too.

Rows: TypeAlias = "NDArray[np.uint8]"

MARK_BYTES = 32
"""Rows that have fewer bytes have no room for a mark."""

JPEG_ROWS_HELD_BACK = 96
"""Rows that a JPEG decoder may hold back until it gets the next piece of the file."""


class RowProbe(Protocol):
    """Finds out which rows of some memory, all zero at first, are written.

    Attributes:
        lost: Whether nothing is known any more until the decoder is at its end.
    """

    is_lost: bool

    def prepare(self, rows: int, max_bytes: int) -> None:
        """Prepare for at most `max_bytes` after the first `rows` rows."""

    def count_written(self, rows: int) -> int:
        """How many are known to be written now, at least `rows`."""

    def is_last_row_written(self) -> bool:
        """True if the last row is written, as far as known after the decoder ended."""


class FourthByteProbe:
    """For pixels whose last byte is padding, which decoders set to 255."""

    is_lost = False

    def __init__(self, pixels: Rows) -> None:
        self._fourth_bytes = pixels[:, -1]

    def prepare(self, rows: int, max_bytes: int) -> None:
        """Nothing has to be done: what is not written is 0."""

    def count_written(self, rows: int) -> int:
        """By steps that double, and then by halves; only rows that are near are touched."""
        padding, height = self._fourth_bytes, len(self._fourth_bytes)
        step = 8
        high = rows
        while high < height and padding[high]:
            rows = high + 1
            high = min(height, high + step)
            step *= 2
        while rows < high:
            middle = (rows + high) // 2
            if padding[middle]:
                rows = middle + 1
            else:
                high = middle
        return rows

    def is_last_row_written(self) -> bool:
        """Whether the last row is written."""
        return bool(self._fourth_bytes[-1])


class RandomMarkProbe:
    """For any pixels: rows that are certainly not written yet end in a mark of 32 random bytes.

    A row without its mark is written. Should an image ever hold the mark itself, its rows would
    be known later, never too early.
    """

    def __init__(self, pixels: Rows) -> None:
        self.is_lost = False
        self._mark = os.urandom(MARK_BYTES)
        self._row_ends = pixels[:, -MARK_BYTES:]
        self._row_bytes = pixels.shape[1]
        self._marked_rows = 0

    def prepare(self, rows: int, max_bytes: int) -> None:
        """Mark as many rows as might be filled."""
        end = min(
            len(self._row_ends), rows + max_bytes // self._row_bytes + JPEG_ROWS_HELD_BACK + 2
        )
        if end > self._marked_rows and not self.is_lost:
            self._row_ends[self._marked_rows : end] = np.frombuffer(self._mark, np.uint8)
            self._marked_rows = end

    def count_written(self, rows: int) -> int:
        """The first row with its mark."""
        if self.is_lost:
            return rows
        low, high = rows, self._marked_rows
        while low < high:
            middle = (low + high) // 2
            if self._row_ends[middle].tobytes() == self._mark:
                high = middle
            else:
                low = middle + 1
        if low == self._marked_rows < len(self._row_ends):
            # More rows than any decoder was thought to give at a time: there may be rows without a
            # mark that are not written. From here on nothing is known until the end.
            self.is_lost = True
            return rows
        return low

    def is_last_row_written(self) -> bool:
        """Whether the last row is written."""
        if self._marked_rows == len(self._row_ends):
            return bool(self._row_ends[-1].tobytes() != self._mark)
        return self.is_lost or bool(self._row_ends[-1].any())


# The deflated data of a PNG, inflated on a thread of its own.
#
# Pillow's PNG decoder inflates, undoes filters and unpacks, one after the other. Given data that
# are inflated already, in deflate's form for what is not compressed (RFC 1951, 3.2.4), it has the
# latter two to do only, while the next data are inflated.

MAX_BLOCK_BYTES = 2**16 - 1
"""The most bytes that a stored block of deflate has."""

_MAX_QUEUED_BLOCKS = 16  # blocks
_INPUT_CHUNK_BYTES = 2**15  # bytes of the file at a time
_ZLIB_HEADER = b"\x78\x01"


class Inflater:
    """Reads deflated data (RFC 1950) and gives them as stored blocks of the same format.

    The checksum at their end is neither checked nor given: decoders have all rows before it.

    Args:
        read: Returns up to a number of bytes of the deflated data; none at their end.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read_input = read
        self._blocks: queue.Queue[bytes | BaseException] = queue.Queue(_MAX_QUEUED_BLOCKS)
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._has_ended = False

    def read(self, size: int) -> bytes:
        """The next block, of any size; empty at the end.

        Raises:
            Exception: What reading has failed with, or zlib.error where the data are damaged.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="fasttile-inflater", daemon=True)
            self._thread.start()
            return _ZLIB_HEADER
        if self._has_ended:
            return b""
        block = self._blocks.get()
        self._has_ended = not isinstance(block, bytes) or not block
        if isinstance(block, BaseException):
            raise block
        return block

    def close(self) -> None:
        """End the thread."""
        self._is_closed = True
        if self._thread is None:
            return
        while self._thread.is_alive():
            try:
                self._blocks.get(timeout=0.01)  # it may be waiting for room
            except queue.Empty:
                continue
        self._thread.join()

    def _run(self) -> None:
        try:
            self._inflate_all()
            self._put(b"")
        except BaseException as failure:  # raised again in the reading thread
            self._put(failure)

    def _inflate_all(self) -> None:
        header = b""
        while len(header) < 2:
            more = self._read_input(2 - len(header))
            if not more:
                return
            header += more
        if header[0] & 15 != 8 or header[1] & 32 or int.from_bytes(header, "big") % 31:
            raise zlib.error("the data do not begin as deflated data do")
        inflating = zlib.decompressobj(-15)
        while not inflating.eof and not self._is_closed:
            data = self._read_input(_INPUT_CHUNK_BYTES)
            if not data:
                return
            while data and not self._is_closed:
                inflated = inflating.decompress(data, MAX_BLOCK_BYTES)
                data = inflating.unconsumed_tail
                if inflated:
                    size = len(inflated)
                    self._put(struct.pack("<BHH", 0, size, size ^ 0xFFFF) + inflated)

    def _put(self, block: bytes | BaseException) -> None:
        if not self._is_closed:
            self._blocks.put(block)
