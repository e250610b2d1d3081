"""Pictures that Pillow decodes: streamed where its decoder gives rows in order, else as a whole."""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile

from ..errors import SourceError
from .base import Metadata, Pixels, Source
from .decode import RowDecoder, core_on, laid_on, pixel_bytes, rows_in_order, works
from .grounded import Grounded
from .mapping import PictureFile
from .modes import KNOWN, as_picture, name_of, stored_rows
from .raster import ArraySource
from .reading import Reading, likely_pixels
from .room import Room
from .streamed import Streamed

_PREFIX = 16  # bytes; what Pillow's plugins look at to tell whether a file is theirs
_TAIL = 2**16  # bytes at the end of a PNG in which its orientation is looked for

_ORIENTATION = 0x0112


def open_picture(file: PictureFile, reading: Reading) -> Source:
    """A source over a picture of any file that Pillow knows; it takes the file over.

    Where Pillow's decoder gives rows in order (baseline JPEG, PNG that is not interlaced, and
    simpler formats), they are decoded on a thread while others are used, and no more than some
    megabytes of them are held. Else the picture is decoded at once, into memory or, where more
    than half of what is left would go, into an unlinked temporary file.

    Raises:
        SourceError: No plugin of Pillow's knows the file, it is damaged, or too large.
    """
    stream = file.reopen()
    try:
        image = _identified(stream, file.name)
        image = _at_page(image, reading.page, file.name)
        metadata = _metadata(image, _late_orientation(image, file), reading.page)
        _check(image, file, reading)
        if works() and rows_in_order(image):
            source = _streamed(image, stream, file, metadata)
        else:
            source = _whole(image, file.name, metadata, reading)
            stream.close()
            file.close()
        picture = _as_picture(source, image, reading)
        stored = name_of(image.mode)
        picture.metadata = replace(picture.metadata, stored=stored)
        return Grounded(picture, reading.background) if reading.allow_truncated else picture
    except BaseException:
        stream.close()
        raise


def open_image(image: Image.Image, reading: Reading) -> Source:
    """A source over a PIL image, in the frame that it shows, as it lies.

    Raises:
        SourceError: Its mode is not that of a picture, or its file is damaged.
    """
    _check_picture(image, "image")
    metadata = _metadata(image, 1, None)
    return _as_picture(_whole(image, "image", metadata, reading), image, reading)


def _identified(stream: BinaryIO, name: str) -> ImageFile.ImageFile:
    """What Image.open would give, without its limit on size, which is global to the process."""
    stream.seek(0)
    prefix = stream.read(_PREFIX)
    tried: set[str] = set()
    for load_plugins in (Image.preinit, Image.init):
        load_plugins()
        for plugin in [known for known in Image.ID if known not in tried]:
            tried.add(plugin)
            image = _opened(plugin, stream, prefix, name)
            if image is not None:
                return image
    raise SourceError(
        f"{name} is not a picture that fasttile or Pillow knows: it begins with {prefix[:8]!r}; "
        "for pixels without a header say how they lie: raw=WIDTHxHEIGHTxBANDS"
    )


def _opened(plugin: str, stream: BinaryIO, prefix: bytes, name: str) -> ImageFile.ImageFile | None:
    factory, accept = Image.OPEN[plugin]
    try:
        accepted = accept is None or accept(prefix)
        if isinstance(accepted, str) or not accepted:
            return None  # a text says why the plugin cannot open what it knows
        stream.seek(0)
        return factory(stream, "")
    except (SyntaxError, IndexError, TypeError, struct.error):
        return None  # the ways in which plugins say that a file is not theirs
    except Exception as error:
        raise SourceError(f"{name}: broken {plugin}: {_reason(error)}") from error


def _at_page(image: ImageFile.ImageFile, page: int | None, name: str) -> ImageFile.ImageFile:
    """The image at one of its pages, counted from 1."""
    if page is None or page == 1:
        return image
    try:
        image.seek(page - 1)
    except Exception as error:
        pages = _pages(image)
        raise SourceError(f"{name} has no page {page}: it has {pages}") from error
    return image


def _pages(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a file that is damaged further down
        return 1


def _check(image: ImageFile.ImageFile, file: PictureFile, reading: Reading) -> None:
    """Refuse what is no picture, or what no file of this size holds, before memory is touched."""
    _check_picture(image, file.name)
    reading.check_pixels(file.name, *image.size, likely=likely_pixels(file.size))


def _check_picture(image: Image.Image, name: str) -> None:
    if image.mode not in KNOWN:
        raise SourceError(f"{name}: pixels of mode {image.mode!r} are no picture")
    if 0 in image.size:
        raise SourceError(f"{name}: {image.width}×{image.height} pixels are no picture")


def _as_picture(stored: Source, image: Image.Image, reading: Reading) -> Source:
    profile = stored.metadata.icc_profile or b""
    keep_cmyk = image.mode == "CMYK" and reading.keep_cmyk and profile[16:20] == b"CMYK"
    try:
        return as_picture(stored, image, keep_cmyk=keep_cmyk)
    except Exception as error:  # a palette of an impossible size, for example
        kind = stored.metadata.format
        raise SourceError(f"{stored.name}: broken {kind}: {_reason(error)}") from error


def _streamed(
    image: ImageFile.ImageFile, stream: BinaryIO, file: PictureFile, metadata: Metadata
) -> Source:
    width, height = image.size
    row_bytes = width * pixel_bytes(image.mode)
    sample = stored_rows(np.empty((1, row_bytes), np.uint8), image.mode)
    metadata = replace(metadata, way="streamed: decoded row by row, while others are cut")

    def start() -> tuple[RowDecoder, Room, Pixels]:
        room = Room(height * row_bytes, file.name, on_disk=False)
        decoder = RowDecoder(image, room)
        return decoder, room, stored_rows(decoder.pixels, image.mode)

    def close() -> None:
        stream.close()
        file.close()

    shape = (height, width, sample.shape[2])
    return Streamed(file.name, metadata, shape, sample.dtype, start, close)


def _whole(image: Image.Image, name: str, metadata: Metadata, reading: Reading) -> Source:
    """All stored pixels: in a room of ours if the plugin takes that, else where Pillow put them."""
    room = _room_for(image, name, reading)
    ours = image._im if room is not None else None
    try:
        image.load()
    except Exception as error:
        reason = _reason(error)
        if isinstance(error, MemoryError):
            raise SourceError(
                f"{name}: {image.width}×{image.height} pixels of {metadata.format} do not fit "
                "into memory"
            ) from error
        if room is None or not reading.allow_truncated:
            hint = "" if room is None else " (--allow-truncated cuts what is there)"
            raise SourceError(f"{name}: broken {metadata.format}: {reason}{hint}") from error
        metadata.remarks.append(f"damaged, and cut as far as it could be decoded: {reason}")
    _check_picture(image, name)
    place = "a temporary file" if room is not None and room.on_disk else "memory"
    metadata = replace(metadata, way=f"decoded as a whole, into {place}")
    if room is None or image._im is not ours:
        return _Held(image, name, metadata)
    width, height = image.size
    memory = room.bytes.reshape(height, width * pixel_bytes(image.mode))
    source = ArraySource(stored_rows(memory, image.mode), name, metadata)
    source.held = memory.nbytes
    return source


def _room_for(image: Image.Image, name: str, reading: Reading) -> Room | None:
    """A room for an image that is not loaded, with Pillow's inner image laid on it.

    GIF makes up its frames out of others; what other plugins put in its place is used instead.
    """
    if not isinstance(image, ImageFile.ImageFile) or image._im is not None or not works():
        return None
    nothing_to_load = not image.tile and type(image).load is ImageFile.ImageFile.load
    if nothing_to_load or image.format == "GIF":
        return None
    width, height = getattr(image, "_tile_size", image.size)  # of a TIFF before it is turned
    row_bytes = width * pixel_bytes(image.mode)
    room = Room(height * row_bytes, name)
    memory = room.bytes.reshape(height, row_bytes)
    if reading.allow_truncated and image.mode in ("L", "RGB"):
        pixel = (*reading.background, 255)
        stored_rows(memory, image.mode)[...] = pixel if image.mode == "RGB" else pixel[0]
    image.im = core_on(memory, image.mode, width)
    return room


class _Held(Source):
    """A loaded image in Pillow's own memory, its rows copied as they are asked for."""

    any_order = True

    def __init__(self, image: Image.Image, name: str, metadata: Metadata) -> None:
        self.name, self.metadata = name, metadata
        self.width, self.height = image.size
        self._image = image
        self._buffer = np.empty((0, 0), np.uint8)
        sample = self._stored(1)
        self.bands, self.dtype = sample.shape[2], sample.dtype
        self.held = self.height * self.width * pixel_bytes(image.mode)

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1; valid until the next call."""
        stored = self._stored(y1 - y0)
        strip = laid_on(self._buffer[: y1 - y0], self._image.mode, self.width)
        part = self._image.im.crop((0, y0, self.width, y1))
        strip.im.paste(part, (0, 0, self.width, y1 - y0))
        return stored

    def close(self) -> None:
        """Forget the image."""
        self._buffer = np.empty((0, 0), np.uint8)

    def _stored(self, rows: int) -> Pixels:
        if len(self._buffer) < rows:
            row_bytes = self.width * pixel_bytes(self._image.mode)
            self._buffer = np.empty((rows, row_bytes), np.uint8)
        return stored_rows(self._buffer[:rows], self._image.mode)


def _metadata(image: Image.Image, orientation: int, page: int | None) -> Metadata:
    return Metadata(
        image.format or "image",
        _profile(image),
        _resolution(image),
        pages=_pages(image),
        page=page or 1,
        orientation=orientation,
    )


def _late_orientation(image: ImageFile.ImageFile, file: PictureFile) -> int:
    """EXIF's orientation, wherever the file has it; 1 where Pillow turns the picture itself."""
    if image.format == "TIFF":
        return 1
    if image.format == "PNG" and "exif" not in image.info:
        # Pillow would decode the picture to look for it behind.
        return _number(Image.Exif(), _exif_at_end(file))
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # what is damaged says nothing
        return 1
    return value if value in range(1, 9) else 1


def _number(exif: Image.Exif, data: bytes | None) -> int:
    try:
        exif.load(data or b"")
        value = exif.get(_ORIENTATION, 1)
    except Exception:  # what is damaged says nothing
        return 1
    return value if value in range(1, 9) else 1


def _exif_at_end(file: PictureFile) -> bytes | None:
    """The eXIf chunk that a PNG has behind its pixels."""
    start = max(0, file.size - _TAIL)
    with file.reopen() as stream:
        stream.seek(start)
        tail = stream.read(_TAIL)
    at = tail.rfind(b"eXIf")
    if at < 4:
        return None
    (length,) = struct.unpack(">I", tail[at - 4 : at])
    chunk, checksum = tail[at : at + 4 + length], tail[at + 4 + length : at + 8 + length]
    return chunk[4:] if zlib.crc32(chunk).to_bytes(4, "big") == checksum else None


def _profile(image: Image.Image) -> bytes | None:
    profile = image.info.get("icc_profile")
    return profile if isinstance(profile, bytes) and profile else None


def _resolution(image: Image.Image) -> tuple[float, float] | None:
    dpi: Any = image.info.get("dpi")
    if not isinstance(dpi, tuple):
        return None
    try:
        x, y = (float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if math.isfinite(x) and math.isfinite(y) and x > 0 and y > 0 else None


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
