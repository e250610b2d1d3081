"""Images that Pillow decodes: streamed where its decoder writes rows in order, else at once."""

from __future__ import annotations

import math
import struct
import sys
import zlib
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, ImageFile

from fasttile.abc.source import Metadata, Source
from fasttile.errors import MissingPageError, SourceError, first_line
from fasttile.formats.images import UNREAD_PREFIX_BYTES, name_unread_format
from fasttile.formats.jpeg import check_scans
from fasttile.options.read import ReadOptions, likely_pixels
from fasttile.pillow_core import core_image_of, core_image_over, image_over, pixel_bytes
from fasttile.sources.arrays import ArraySource
from fasttile.sources.conversions import ConvertedSource, cmyk_to_rgb
from fasttile.sources.pillow.decoder import (
    InOrderDecoder,
    RowDecoder,
    decodes_into_own_memory,
    is_row_decodable,
    overridden_hooks,
    supports_row_decoding,
)
from fasttile.sources.pillow.modes import (
    IMAGE_MODES,
    depth_label,
    mode_label,
    pixels_of_memory,
    to_standard_bands,
)
from fasttile.sources.pillow.streaming import StreamingSource
from fasttile.sources.transforms import fill_missing_rows
from fasttile.storage.memory import PixelBuffer
from fasttile.storage.random_access import SourceFile
from fasttile.storage.system import cpu_count, memory_left
from fasttile.types import Pixels

if TYPE_CHECKING:
    from fasttile.sources.pillow.segments import ChunkPlan

_PREFIX_BYTES = 16  # bytes; the prefix from which Pillow's plugins recognise their files
_PNG_TAIL_BYTES = 2**16  # bytes at the end of a PNG in which its orientation is looked for

_ORIENTATION_TAG = 0x0112

# Enumerated colour spaces of JPEG 2000 that Pillow decodes: bi-level, CMYK, sRGB, grey, sYCC
_JPEG2000_SPACES = (0, 15, 12, 16, 17, 18)
_UNSUPPORTED_SPACES = {1: "YCbCr", 3: "YCbCr", 4: "YCbCr", 9: "PhotoYCC", 11: "CMY", 13: "YCCK"}
_UNSUPPORTED_SPACES |= {14: "CIELab", 19: "CIEJab", 20: "e-sRGB", 21: "ROMM RGB", 24: "e-sYCC"}


# The codecs of `likely_pixels` for Pillow's decoders, and the bits of a pixel where it is an index.
_CODECS = {"raw": "none", "zip": "deflate", "jpeg": "jpeg", "gif": "gif", "packbits": "packbits"}
_PACKED_MODES = ("1", "P", "L")  # eight pixels may be in a byte


def open_image_file(
    file: SourceFile, read_options: ReadOptions, likely_max: int | None = None
) -> Source:
    """A source over a source of any file that Pillow knows; it takes the file over.

    Where Pillow's decoder gives rows in order (baseline JPEG, PNG that is not interlaced, and
    simpler formats), they are decoded on a thread while others are used, and no more than some
    megabytes of them are held. Else the source is decoded at once, into memory or, where more
    than half of what is left would go, into an unlinked temporary file.

    Args:
        file: The file.
        read_options: The page, the limit of pixels, and the treatment of damage.
        likely_max: The most pixels that the file can hold. Default: by Pillow's decoder.

    Raises:
        SourceError: No plugin of Pillow's knows the file, it is damaged, or too large.
    """
    stream = file.reopen()
    try:
        image = identify(stream, file.name)
        _check_loadable(image, file.name)
        page = 1 + image.tell() if read_options.page is None else read_options.page
        if page != 1 + image.tell():
            _seek_page(image, page, file)
        metadata = _pillow_metadata(image, _find_orientation(image, file), page)
        if image.format == "HEIF":
            from fasttile.sources.pillow.heif import note_on_depth

            metadata = metadata.with_notes(note_on_depth(image))
        if image.format == "JPEG2000":
            metadata = replace(metadata, icc_profile=_jpeg2000_profile(file))
        # Refused before memory is touched: modes of no image, and more pixels than are likely.
        _check_image(image, file.name)
        if likely_max is None:
            codec = "" if "load" in overridden_hooks(image) or not image.tile else image.tile[0][0]
            bits = 1 if image.mode in _PACKED_MODES else 8 * len(image.getbands())
            likely_max = likely_pixels(_CODECS.get(codec, codec), file.size, bits)
        read_options.check_pixels(file.name, *image.size, likely_max)
        depth = depth_label(image)
        if supports_row_decoding() and is_row_decodable(image):
            source = _open_streaming(image, stream, file, metadata)
        else:
            source = _decode_fully(image, file.name, metadata, read_options)
            stream.close()
            file.close()
        source = _to_standard_bands(source, image, read_options)
        source.metadata = replace(source.metadata, stored_as=source.metadata.stored_as or depth)
        return fill_missing_rows(source, read_options)
    except BaseException:
        stream.close()
        raise


def open_pil_image(image: Image.Image, read_options: ReadOptions) -> Source:
    """A source over a PIL image, in the frame that it shows, as it lies.

    Raises:
        SourceError: Its mode is not that of an image, or its file is damaged.
    """
    _check_image(image, "image")
    metadata = _pillow_metadata(image, orientation=1, page=1)
    return _to_standard_bands(
        _decode_fully(image, "image", metadata, read_options), image, read_options
    )


def identify(stream: BinaryIO, name: str) -> ImageFile.ImageFile:
    """What Image.open would give, without its limit on size, which is global to the process."""
    stream.seek(0)
    prefix = stream.read(_PREFIX_BYTES)
    tried: set[str] = set()
    for load_plugins in (partial(_load_usual_plugin, prefix), Image.preinit, Image.init):
        load_plugins()
        for plugin in [known for known in Image.ID if known not in tried]:
            tried.add(plugin)
            factory, accept = Image.OPEN[plugin]
            try:
                accepted = accept is None or accept(prefix)
                # A text is the reason why the plugin cannot open a file of its format.
                if accepted and not isinstance(accepted, str):
                    stream.seek(0)
                    return factory(stream, "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue  # exceptions of plugins for files of other formats
            except Exception as error:
                raise SourceError(f"{name}: broken {plugin}: {first_line(error)}") from error
    stream.seek(0)
    head = stream.read(UNREAD_PREFIX_BYTES)
    if head[4:8] == b"ftyp":
        from fasttile.sources.pillow.heif import open_heif

        if (heif := open_heif(stream, head, name)) is not None:
            return heif
    unread = name_unread_format(head, Path(name).suffix.lower())
    if unread is not None:
        raise SourceError(f"{name}: it is {unread}")
    broken = _NAMES_BY_PREFIX.get(prefix[:2])
    if broken is not None:
        raise SourceError(f"{name}: broken {broken}: its header cannot be read; is it complete?")
    raise SourceError(
        f"{name} is not an image that fasttile or Pillow knows: it begins with {prefix[:8]!r}; "
        "for pixels without a header add --raw WIDTHxHEIGHTxBANDS"
    )


def _load_usual_plugin(prefix: bytes) -> None:
    """Import the plugin of a PNG or JPEG: `Image.preinit` imports those of other formats too."""
    if prefix.startswith(b"\x89PNG"):
        import_module("PIL.PngImagePlugin")
    elif prefix.startswith(b"\xff\xd8\xff"):
        import_module("PIL.JpegImagePlugin")


_NAMES_BY_PREFIX = {b"\x89P": "PNG", b"\xff\xd8": "JPEG", b"GI": "GIF", b"RI": "WebP"}
"""Formats of files that no plugin opens because their header is damaged."""


def _check_loadable(image: ImageFile.ImageFile, name: str) -> None:
    """Refuse formats that Pillow recognises, and cannot decode without another program.

    Raises:
        SourceError: It is one of them.
    """
    form = image.format or ""
    if form == "EPS":
        from PIL import EpsImagePlugin

        if EpsImagePlugin.has_ghostscript():
            return
    elif form not in _UNDECODED_FORMATS or _has_stub_loader(image):
        return
    raise SourceError(f"{name}: it is {_UNDECODED_FORMATS[form]}")


_UNDECODED_FORMATS = {
    "EPS": "PostScript, which needs Ghostscript; install it, or use gs -sDEVICE=png16m -r300 "
    "-o PAGE-%d.png FILE.eps",
    "WMF": "a Windows metafile, a drawing; inkscape DRAWING.wmf -o IMAGE.png makes an image of it",
    "MPEG": "a video; ffmpeg -ss 0 -i FILM -frames:v 1 IMAGE.png makes an image of a frame",
    "HDF5": "HDF5; open its array in Python (h5py), or gdal_translate makes a GeoTIFF of it",
    "GRIB": "GRIB; gdal_translate makes a GeoTIFF of it",
    "BUFR": "BUFR, and no image",
}
"""Formats that Pillow recognises and does not decode, with what to do."""


def _has_stub_loader(image: ImageFile.ImageFile) -> bool:
    """True if the program has registered a decoder for a format that Pillow only recognises."""
    return getattr(sys.modules[type(image).__module__], "_handler", None) is not None


def _seek_page(image: ImageFile.ImageFile, page: int, file: SourceFile) -> None:
    pages = _frame_count(image)
    claim = f"it has {pages}" if page > pages else f"its header claims {pages:,}"
    missing = MissingPageError(f"{file.name} has no page {page}; {claim}")
    try:
        image.seek(page - 1)
    except Exception as error:
        if image.format == "TIFF":  # a page that is there and broken; others may follow
            raise SourceError(f"{file.name}: broken page {page}: {first_line(error)}") from error
        raise missing from error
    # Formats of uncompressed frames compute the place of a frame, and do not read it.
    if image.tile and all(tile[2] >= file.size for tile in image.tile):
        raise missing


def _frame_count(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a file that is damaged further down
        return 1


def _check_image(image: Image.Image, name: str) -> None:
    if image.mode not in IMAGE_MODES:
        raise SourceError(f"{name}: pixels of mode {image.mode!r} are no image")
    if 0 in image.size:
        raise SourceError(f"{name}: {image.width}×{image.height} pixels are no image")


def _to_standard_bands(stored: Source, image: Image.Image, read_options: ReadOptions) -> Source:
    has_cmyk_profile = stored.metadata.has_cmyk_profile
    keep_cmyk = image.mode == "CMYK" and read_options.keep_cmyk and has_cmyk_profile
    if image.format == "JPEG2000" and image.mode == "RGBA" and has_cmyk_profile:
        # Pillow knows CMYK by the enumerated space only; the four samples are the same.
        stored.is_cmyk = read_options.keep_cmyk
        inks = cmyk_to_rgb(4, np.dtype(np.uint8))
        stored.metadata = replace(stored.metadata, stored_as="CMYK")
        return stored if stored.is_cmyk else ConvertedSource(stored, inks)
    try:
        source = to_standard_bands(stored, image, keep_cmyk=keep_cmyk)
        source.metadata = replace(source.metadata, stored_as=mode_label(image.mode))
        return source
    except Exception as error:  # a palette of an impossible size, for example
        kind = stored.metadata.format
        raise SourceError(f"{stored.name}: broken {kind}: {first_line(error)}") from error


def _open_streaming(
    image: ImageFile.ImageFile, stream: BinaryIO, file: SourceFile, metadata: Metadata
) -> Source:
    width, height = image.size
    row_bytes = width * pixel_bytes(image.mode)
    sample = pixels_of_memory(np.empty((1, row_bytes), np.uint8), image.mode)
    metadata = replace(metadata, read_mode="streamed: decoded row by row, while others are cut")
    plan: ChunkPlan | None = None
    # One processor decodes as fast as another one cuts. Chunks, of which some rows are decoded
    # twice, are for those that would have nothing to do.
    if image.tile[0][0] == "jpeg" and cpu_count() >= 4:
        from fasttile.sources.pillow.segments import ChunkDecoder, plan_chunks

        plan = plan_chunks(image, cpu_count() // 2)
        if plan is not None:
            way = f"streamed: decoded on {plan.threads} threads, between restart markers"
            metadata = replace(metadata, read_mode=way)

    def open_decoder() -> tuple[InOrderDecoder, PixelBuffer, Pixels]:
        room = PixelBuffer(height * row_bytes, file.name, on_disk=False)
        decoder: RowDecoder | ChunkDecoder
        if plan is None:
            decoder = RowDecoder(image, room)
        else:
            decoder = ChunkDecoder(image, room, plan, file.name)
        return decoder, room, pixels_of_memory(decoder.pixels, image.mode)

    def close() -> None:
        stream.close()
        file.close()

    shape = (height, width, sample.shape[2])
    # Of RGB in four bytes, these decoders set the last one to 255; others may copy it.
    can_lend = image.mode not in ("RGB", "RGBX") or image.tile[0][0] in ("jpeg", "zip")
    source = StreamingSource(
        file.name, metadata, shape, sample.dtype, open_decoder, close, can_lend=can_lend
    )
    source.memory_bytes += 0 if plan is None else plan.memory_bytes
    return source


def _decode_fully(
    image: Image.Image, name: str, metadata: Metadata, read_options: ReadOptions
) -> Source:
    """Decode all pixels, into our pixel buffer if the plugin accepts it."""
    if isinstance(image, ImageFile.ImageFile) and image.tile and image.fp is not None:
        codec, _, offset, _ = image.tile[0]
        if codec == "jpeg":
            position = image.fp.tell()
            try:
                check_scans(image.fp, offset, *image.size)
            except ValueError as error:
                raise SourceError(f"{name} {error}") from error
            image.fp.seek(position)
            _check_jpeg_memory(image, name)
    room = _allocate_buffer(image, name, read_options)
    own_memory = core_image_of(image) if room is not None else None
    try:
        image.load()
    except Exception as error:
        reason = first_line(error)
        if isinstance(error, MemoryError):
            raise SourceError(
                f"{name}: {image.width}×{image.height} pixels of {metadata.format} do not fit "
                "into memory"
            ) from error
        if room is None or not read_options.allow_truncated:
            hint = "" if room is None else " (--allow-truncated cuts what is there)"
            raise SourceError(f"{name}: broken {metadata.format}: {reason}{hint}") from error
        metadata.warnings.append(f"damaged, and cut as far as it could be decoded: {reason}")
    _check_image(image, name)
    place = "a temporary file" if room is not None and room.on_disk else "memory"
    metadata = replace(metadata, read_mode=f"decoded at once, into {place}")
    if room is None or core_image_of(image) is not own_memory:
        return PillowImageSource(image, name, metadata)
    width, height = image.size
    memory = room.bytes.reshape(height, width * pixel_bytes(image.mode))
    source = ArraySource(pixels_of_memory(memory, image.mode), name, metadata)
    source.memory_bytes = memory.nbytes
    return source


def _check_jpeg_memory(image: ImageFile.ImageFile, name: str) -> None:
    """Refuse a progressive JPEG whose coefficients, 2 bytes each, do not fit into memory.

    Raises:
        SourceError: They do not; libjpeg would take the memory of other programs.
    """
    sides = [(across, down) for _, across, down, _ in getattr(image, "layer", ())]
    if not sides or "progressive" not in image.info:
        return
    most = max(across for across, _ in sides) * max(down for _, down in sides)
    needed = 2 * image.width * image.height * sum(across * down for across, down in sides) // most
    left = memory_left()
    if left is not None and needed > left:
        raise SourceError(
            f"{name}: a progressive JPEG of {image.width}×{image.height} pixels takes {needed:,} "
            f"bytes of memory, and {left:,} are left; jpegtran makes a baseline JPEG of it"
        )


def _allocate_buffer(
    image: Image.Image, name: str, read_options: ReadOptions
) -> PixelBuffer | None:
    """A room for an image that is not loaded, with Pillow's inner image laid on it.

    GIF makes up its frames out of others; what other plugins put in its place is used instead.
    """
    if (
        not isinstance(image, ImageFile.ImageFile)
        or core_image_of(image) is not None
        or not supports_row_decoding()
        or not decodes_into_own_memory(image)
    ):
        return None
    if (not image.tile and "load" not in overridden_hooks(image)) or image.format == "GIF":
        return None
    width, height = getattr(image, "_tile_size", image.size)  # of a TIFF before it is turned
    row_bytes = width * pixel_bytes(image.mode)
    room = PixelBuffer(height * row_bytes, name)
    memory = room.bytes.reshape(height, row_bytes)
    if read_options.allow_truncated and image.mode in ("L", "RGB"):
        pixel = (*read_options.background, 255)
        pixels_of_memory(memory, image.mode)[...] = pixel if image.mode == "RGB" else pixel[0]
    image.im = core_image_over(memory, image.mode, width, row_bytes)
    return room


class PillowImageSource(Source):
    """A loaded image in Pillow's own memory, its rows copied as they are asked for."""

    random_access = True

    def __init__(self, image: Image.Image, name: str, metadata: Metadata) -> None:
        self.name, self.metadata = name, metadata
        self.width, self.height = image.size
        self._image = image
        self._buffer = np.empty((0, 0), np.uint8)
        sample = self._buffer_pixels(1)
        self.bands, self.dtype = sample.shape[2], sample.dtype
        self.memory_bytes = self.height * self.width * pixel_bytes(image.mode)

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1; valid until the next call."""
        stored = self._buffer_pixels(y1 - y0)
        strip = image_over(self._buffer[: y1 - y0], self._image.mode, self.width)
        part = self._image.im.crop((0, y0, self.width, y1))
        strip.im.paste(part, (0, 0, self.width, y1 - y0))
        return stored

    def close(self) -> None:
        """Forget the image."""
        self._buffer = np.empty((0, 0), np.uint8)

    def _buffer_pixels(self, rows: int) -> Pixels:
        if len(self._buffer) < rows:
            row_bytes = self.width * pixel_bytes(self._image.mode)
            self._buffer = np.empty((rows, row_bytes), np.uint8)
        return pixels_of_memory(self._buffer[:rows], self._image.mode)


def read_resolution(image: Image.Image) -> tuple[float, float] | None:
    """Pixels per inch, horizontal and vertical; None if the file has none that are possible."""
    dpi = image.info.get("dpi")
    if isinstance(dpi, tuple):
        with suppress(TypeError, ValueError, ZeroDivisionError):
            x, y = (float(value) for value in dpi)
            if math.isfinite(x) and math.isfinite(y) and x > 0 and y > 0:
                return x, y
    return None


def _pillow_metadata(image: Image.Image, orientation: int, page: int) -> Metadata:
    profile = image.info.get("icc_profile")
    return Metadata(
        image.format or "image",
        profile if isinstance(profile, bytes) and profile else None,
        read_resolution(image),
        pages=_frame_count(image),
        page=page,
        orientation=orientation,
    )


def _find_orientation(image: ImageFile.ImageFile, file: SourceFile) -> int:
    """EXIF's orientation, wherever the file has it; 1 where Pillow turns the image itself."""
    if image.format == "TIFF":
        return 1
    trailing = None
    try:
        if image.format == "PNG" and "exif" not in image.info:
            texts = (image.info.get(f"Raw profile type {name}") for name in ("exif", "APP1"))
            text = next((text for text in texts if isinstance(text, str)), None)
            if text is not None:  # by ImageMagick: a name, a length, and hexadecimal digits
                trailing = bytes.fromhex("".join(text.split("\n")[3:]))
            else:
                # Pillow would decode the image to read a chunk after its pixels.
                trailing = _find_trailing_exif(file)
        exif = image.getexif() if trailing is None else Image.Exif()
        if trailing is not None:
            exif.load(trailing)
        value = exif.get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF data have no orientation
        return 1
    return value if value in range(1, 9) else 1


def _jpeg2000_profile(file: SourceFile) -> bytes | None:
    """The ICC profile of a JPEG 2000, which Pillow does not report.

    Raises:
        SourceError: Its colour space is one that Pillow takes for another.
    """
    from fasttile.formats.jpeg2000 import read_jp2_colour

    with file.reopen() as stream:
        colour = read_jp2_colour(stream, file.size)
    if isinstance(colour, bytes):
        return colour
    if colour is not None and colour not in _JPEG2000_SPACES:
        name = _UNSUPPORTED_SPACES.get(colour, "unknown")
        raise SourceError(
            f"{file.name}: its colour space ({name}, number {colour}) is not supported; convert it "
            "to sRGB or a profile"
        )
    return None


def _find_trailing_exif(file: SourceFile) -> bytes:
    """The eXIf chunk that a PNG has after its pixels; empty if it has none."""
    start = max(0, file.size - _PNG_TAIL_BYTES)
    with file.reopen() as stream:
        stream.seek(start)
        tail = stream.read(_PNG_TAIL_BYTES)
    at = tail.rfind(b"eXIf")
    if at < 4:
        return b""
    (length,) = struct.unpack(">I", tail[at - 4 : at])
    chunk, checksum = tail[at : at + 4 + length], tail[at + 4 + length : at + 8 + length]
    return chunk[4:] if zlib.crc32(chunk).to_bytes(4, "big") == checksum else b""
