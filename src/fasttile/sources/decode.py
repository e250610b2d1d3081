"""Pillow's decoders, driven piece by piece: all that leans on Pillow's inner parts to decode.

Pillow's own `load` gives a picture when it is whole. Its decoders, however, take a file's bytes
piece by piece and write rows in order, so they can be fed by hand, into memory of ours, where
finished rows are used and forgotten while the rest is decoded. `rows_in_order` tells whether an
image's decoder is one of these; `works` tries the way on small pictures before it is gone, and
where this Pillow turns out to be another than we know, `load` serves.

How far the rows have come Pillow does not tell. So the end of each row that is certainly not
written yet holds a mark of 32 random bytes: a row without it has been written, and all above it
too. Should a picture ever hold the mark itself, rows would be known later, never too early.
"""

from __future__ import annotations

import io
import os
import re
import struct
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from .room import Room

Rows = NDArray[np.uint8]

PIECE = 2**13
"""Bytes of a file that a decoder is given at a time."""

MARK_BYTES = 32
"""Narrower rows are decoded by `load`: there is no room for a mark in them."""

# Deflate gives up to 1,032 bytes for one, JPEG (an MCU of ten empty blocks, four bytes a pixel)
# up to 820, run lengths at most 255. What a JPEG decoder holds back comes on top.
EXPANSION = 1_100
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
        self._image = image
        self._rest = b""
        self._mark = os.urandom(MARK_BYTES)
        self._marks = self.pixels[:, -MARK_BYTES:]
        self._marked = 0
        self._lost = False
        name, extents, offset, args = image.tile[0]
        self._scan_from = image.fp.tell() if name == "jpeg" else None
        image.im = core_on(self.pixels, image.mode, width)
        image.load_prepare()
        if name == "jpeg" and image.mode == "RGB":
            args = ("RGBX", "")  # the same, without a pass over each row
        self._decoder = Image._getdecoder(image.mode, name, args, image.decoderconfig)
        self._decoder.setimage(image.im, extents)
        getattr(image, "load_seek", image.fp.seek)(offset)
        self._read = getattr(image, "load_read", image.fp.read)
        self._place = offset

    def go_on(self) -> bool:
        """Decode a piece more; gives whether there may be more rows to come.

        Raises:
            DecodingError: There will be none, but rows are missing.
        """
        try:
            data = self._read(PIECE)
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
        if going_on and self._height - self.rows > _HELD_BACK and not self._lost:
            raise DecodingError("the data end too early")
        return going_on and self._decode(data[cut:])

    def _decode(self, data: bytes) -> bool:
        self._set_marks()
        data = self._rest + data
        used, status = self._decoder.decode(data)
        if used >= 0:
            self._rest = data[used:]
            self._find_marks()
            return True
        self._decoder.cleanup()
        self._find_marks()
        if status < 0:
            raise DecodingError(f"the data are damaged (status {status} of Pillow's decoder)")
        if self.rows < self._height and not self._last_is_there():
            raise DecodingError("the data end too early")
        self.rows = self._height
        return False

    def _last_is_there(self) -> bool:
        """Whether the last row is written, as far as can be told once the decoder ended."""
        if self._marked == self._height:
            return bool(self._marks[-1].tobytes() != self._mark)
        return self._lost or bool(self._marks[-1].any())

    def _end_of_scan(self, data: bytes) -> int | None:
        """Where in a JPEG's data the entropy-coded part ends, so that no row is made up after."""
        if self._scan_from is None:
            return None
        place, self._place = self._place, self._place + len(data)
        found = _END_OF_SCAN.search(data, max(0, self._scan_from - place))
        return found.start() if found else None

    def _set_marks(self) -> None:
        """Mark as many rows as the next piece might fill, and one more."""
        if self._lost:
            return
        row_bytes = self.pixels.shape[1]
        ahead = EXPANSION * (PIECE + len(self._rest)) // row_bytes + _HELD_BACK + 2
        end = min(self._height, self.rows + ahead)
        if end > self._marked:
            self._marks[self._marked : end] = np.frombuffer(self._mark, np.uint8)
            self._marked = end

    def _find_marks(self) -> None:
        """Find the first row with its mark: by halves, as all rows above it have none."""
        if self._lost:
            return
        low, high = self.rows, self._marked
        while low < high:
            middle = (low + high) // 2
            if self._marks[middle].tobytes() == self._mark:
                high = middle
            else:
                low = middle + 1
        if low == self._marked < self._height:
            # More rows than any decoder was thought to give at a time: there may be rows without a
            # mark that are not decoded. From here on nothing is known until the end.
            self._lost = True
        else:
            self.rows = low


@cache
def works() -> bool:
    """Whether this Pillow can be driven by hand, by a trial."""
    try:
        return all(_same_by_hand(kind, mode) for kind, mode in (("JPEG", "RGB"), ("PNG", "L")))
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
    while decoder.go_on():
        pass
    return decoder.rows == side and laid_on(decoder.pixels, mode, side).tobytes() == expected


def _opened(plugin: Any, data: bytes, kind: str) -> ImageFile.ImageFile:
    factory = plugin.JpegImageFile if kind == "JPEG" else plugin.PngImageFile
    image: ImageFile.ImageFile = factory(io.BytesIO(data))
    return image
