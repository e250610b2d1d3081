"""Pillow's decoders, driven piece by piece: all that leans on Pillow's inner parts to decode.

Pillow's own `load` gives a picture when it is whole. Its decoders, however, take a file's bytes
piece by piece and write rows in order, so they can be fed by hand, into memory of ours, where
finished rows are used and forgotten while the rest is decoded. `rows_in_order` tells whether an
image's decoder is one of these; `works` tries the way on small pictures before it is gone, and
where this Pillow turns out to be another than we know, `load` serves.

How far the rows have come Pillow does not tell: see marks.py.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from .inflate import Inflater
from .marks import MARK_BYTES, Marks, Padding
from .room import Room

Rows = NDArray[np.uint8]

PIECE = 2**13
"""Bytes of a file that a decoder is given at a time, at first."""

LARGE_PIECE = 2**16
"""The most bytes that it is given."""

_MUCH = 4 * 2**20  # bytes; pieces that give more are made smaller

# JPEG (an MCU of ten empty blocks, four bytes a pixel) gives up to 820 bytes for one, run lengths
# at most 255; what is inflated already 8, where pixels are bits. What a JPEG decoder holds back
# comes on top.
EXPANSION = 1_100
_EXPANSION_OF_INFLATED = 16
_HELD_BACK = 96  # rows

# Any marker but those that stand between entropy-coded segments; after it libjpeg makes rows up.
_END_OF_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")

# Modes whose pixels take a byte or two in Pillow's memory; all others take four.
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1}
_IN_ORDER = ("raw", "pcx", "sun_rle", "tga_rle")

_core: Any = Image.core  # type: ignore[attr-defined]


class DecodingError(Exception):
    """The data end or are damaged before the last row."""


def pixel_bytes(mode: str) -> int:
    """How many bytes a pixel of one of Pillow's modes takes in memory."""
    return 2 if mode.startswith("I;16") else _PIXEL_BYTES.get(mode, 4)


def laid_on(rows: Rows, mode: str, width: int) -> Image.Image:
    """A Pillow image over rows in memory, without a copy.

    Args:
        rows: Shape (height, width * pixel_bytes(mode)), C order; it must live as long.
        mode, width: Of the image.
    """
    image = Image.Image()
    image.im = core_on(rows, mode, width)
    image._mode = image.im.mode
    image._size = (width, len(rows))
    return image


def like(image: Image.Image, rows: Rows) -> Image.Image:
    """An image over rows in memory, with the mode, palette and transparent colour of another."""
    mode = image.mode
    width = rows.shape[1] // pixel_bytes(mode)
    made = image._new(core_on(rows, mode, width))
    if made.palette is not None and image.palette is not None:
        # Pillow brings a palette to the inner image when that is used next.
        made.palette.dirty = made.palette.dirty or int(made.palette.rawmode is None)
    return made


def core_on(rows: Rows, mode: str, width: int) -> Any:
    """Pillow's inner image over rows in memory; see `laid_on`.

    Pixels of mode 1 lie there as those of L, 0 or 255, and only those can be laid on memory.
    """
    mode = {"1": "L"}.get(mode, mode)
    return _core.map_buffer(rows, (width, len(rows)), "raw", 0, (mode, rows.shape[1], 1))


def rows_in_order(image: ImageFile.ImageFile) -> bool:
    """Whether an image that was opened and not loaded can be decoded by `RowDecoder`."""
    if len(image.tile) != 1 or type(image).load is not ImageFile.ImageFile.load:
        return False
    name, extents, _, args = image.tile[0]
    if tuple(extents or ()) != (0, 0, *image.size):
        return False
    if image.width * pixel_bytes(image.mode) < MARK_BYTES:
        return False
    if name == "jpeg":
        return _one_scan(image)
    if name == "zip":
        animated = getattr(image, "is_animated", False)
        return image.format == "PNG" and not animated and not image.info.get("interlace")
    if type(image).load_prepare is not ImageFile.ImageFile.load_prepare:
        return False
    arguments = args if isinstance(args, tuple) else (args, 0, 1)
    direction = {"raw": 2, "tga_rle": 1}.get(name)
    downwards = direction is None or (len(arguments) > direction and arguments[direction] == 1)
    return name in _IN_ORDER and downwards


def _one_scan(image: ImageFile.ImageFile) -> bool:
    """Whether all of a JPEG's components come in one scan, so that rows come as it is read."""
    if "progressive" in image.info or image.fp is None:
        return False
    # The plugin has read past the header of the first scan: two bytes of marker, two of length,
    # the count of components, two bytes for each, and three more.
    layers = getattr(image, "layers", 0)
    place = image.fp.tell()
    image.fp.seek(max(0, place - 8 - 2 * layers))
    header = image.fp.read(5)
    image.fp.seek(place)
    return header == struct.pack(">BBHB", 0xFF, 0xDA, 6 + 2 * layers, layers)


class RowDecoder:
    """Decodes the rows of an image, from top to bottom, into a room.

    Args:
        image: For which `rows_in_order` holds; it is used up.
        room: height * width * pixel_bytes(mode) bytes, all zero.

    Attributes:
        rows: So many are certainly decoded.
        pixels: Shape (height, width * pixel_bytes(mode)); only the first `rows` mean anything.
    """

    def __init__(self, image: ImageFile.ImageFile, room: Room) -> None:
        assert image.fp is not None
        width, self._height = image.size
        self.rows = 0
        self.pixels: Rows = room.bytes.reshape(self._height, -1)
        self._piece = PIECE
        self._rest = b""
        name, extents, offset, args = image.tile[0]
        self._scan_from = image.fp.tell() if name == "jpeg" else None
        self._padded = image.mode == "RGB" and name in ("jpeg", "zip")
        self._written = (Padding if self._padded else Marks)(self.pixels)
        image.im = core_on(self.pixels, image.mode, width)
        image.load_prepare()
        if name == "jpeg" and image.mode == "RGB":
            args = ("RGBX", "")  # the same, without a pass over each row
        self._decoder = Image._getdecoder(image.mode, name, args, image.decoderconfig)
        self._decoder.setimage(image.im, extents)
        getattr(image, "load_seek", image.fp.seek)(offset)
        self._read: Callable[[int], bytes] = getattr(image, "load_read", image.fp.read)
        self._inflater = Inflater(self._read) if name == "zip" else None
        if self._inflater is not None:
            self._read = self._inflater.read
        self._expansion = EXPANSION if self._inflater is None else _EXPANSION_OF_INFLATED
        self._place = offset

    def close(self) -> None:
        """End the thread that inflates, if there is one."""
        if self._inflater is not None:
            self._inflater.close()

    def go_on(self) -> bool:
        """Decode a piece more; gives whether there may be more rows to come.

        Raises:
            DecodingError: There will be none, but rows are missing.
        """
        try:
            data = self._read(self._piece)
            if self._scan_from is not None and data.endswith(b"\xff"):
                data += self._read(1)  # a marker must not be split, or it would not be found
        except Exception as error:
            raise DecodingError(str(error) or "the file ends too early") from error
        if not data:
            raise DecodingError("the file ends too early")
        cut = self._end_of_scan(data)
        if cut is None:
            return self._decode(data)
        going_on = self._decode(data[:cut]) if cut else True
        if going_on and self._height - self.rows > _HELD_BACK and not self._written.lost:
            raise DecodingError("the data end too early")
        return going_on and self._decode(data[cut:])

    def _decode(self, data: bytes) -> bool:
        data = self._rest + data
        self._written.expect(self.rows, self._expansion * len(data))
        used, status = self._decoder.decode(data)
        before, self.rows = self.rows, self._written.find(self.rows)
        if used >= 0:
            self._rest = data[used:]
            self._choose_piece((self.rows - before) * self.pixels.shape[1])
            return True
        self._decoder.cleanup()
        if status < 0:
            raise DecodingError(f"the data are damaged (status {status} of Pillow's decoder)")
        if self.rows < self._height and not self._written.at_end():
            raise DecodingError("the data end too early")
        self.rows = self._height
        return False

    def _choose_piece(self, decoded: int) -> None:
        """Larger pieces while they give few rows: each costs a change of threads.

        Marks allow for small ones only.
        """
        if decoded > _MUCH:
            self._piece = max(PIECE, self._piece // 4)
        elif self._padded and decoded < _MUCH // 4:
            self._piece = min(LARGE_PIECE, self._piece * 2)

    def _end_of_scan(self, data: bytes) -> int | None:
        """Where in a JPEG's data the entropy-coded part ends, so that no row is made up after."""
        if self._scan_from is None:
            return None
        place, self._place = self._place, self._place + len(data)
        found = _END_OF_SCAN.search(data, max(0, self._scan_from - place))
        return found.start() if found else None


_TRIALS = (("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "L"))


@cache
def works() -> bool:
    """Whether this Pillow can be driven by hand, by a trial."""
    try:
        return all(_same_by_hand(kind, mode) for kind, mode in _TRIALS)
    except Exception:
        # Whatever fails in there says the same: this Pillow is not as we know it.
        return False


def _same_by_hand(kind: str, mode: str) -> bool:
    from importlib import import_module

    plugin: Any = import_module(f"PIL.{kind.capitalize()}ImagePlugin")
    side = 40
    samples = (np.arange(side * side * 3) * 37 % 251).astype(np.uint8)
    stream = io.BytesIO()
    made = Image.frombytes("RGB", (side, side), samples.tobytes()).convert(mode)
    made.encoderinfo = {}
    made.encoderconfig = ()
    plugin._save(made, stream, "")
    images = [_opened(plugin, stream.getvalue(), kind) for _ in range(2)]
    expected = images[0].tobytes()
    decoder = RowDecoder(images[1], Room(side * side * pixel_bytes(mode), kind, on_disk=False))
    try:
        while decoder.go_on():
            pass
    finally:
        decoder.close()
    return decoder.rows == side and laid_on(decoder.pixels, mode, side).tobytes() == expected


def _opened(plugin: Any, data: bytes, kind: str) -> ImageFile.ImageFile:
    factory = plugin.JpegImageFile if kind == "JPEG" else plugin.PngImageFile
    image: ImageFile.ImageFile = factory(io.BytesIO(data))
    return image
