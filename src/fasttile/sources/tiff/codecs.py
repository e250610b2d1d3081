"""Decoders of TIFF blocks, compressed or packed; imagecodecs is optional.

Deflate is decoded without imagecodecs too: libtiff, which Pillow uses, does not look at its
checksum, so a damaged block would be an image of wrong pixels.

The memory of decoded blocks has the size that the tags say; a block that claims more is refused or
cut off.
"""

from __future__ import annotations

import io
import struct
import threading
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fasttile.formats.jpeg import MAX_JPEG_PIXELS, check_scans, has_subsampled_bands
from fasttile.options.read import max_unpacked_bytes
from fasttile.sources.tiff.grid import BlockGrid
from fasttile.sources.tiff.tags import JPEG, UNCOMPRESSED, YCBCR, Tags
from fasttile.types import Pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

Bytes: TypeAlias = "NDArray[np.uint8]"
Decoder = Callable[[bytes, int], Pixels]
"""Decodes the bytes of a block with a number of rows to samples, shape (rows, width, bands).

The result may have fewer or more rows and columns. It is valid until the same thread calls again.
Any exception may be raised."""

_BYTE_CODECS = {
    5: "lzw",
    8: "deflate",
    32946: "deflate",
    32773: "packbits",
    34925: "lzma",
    34926: "zstd",
    50000: "zstd",
}
_FAX_CODECS = {2: "ccittrle", 3: "ccittfax3", 4: "ccittfax4"}
_IMAGE_CODECS = {
    JPEG: "jpeg8",
    34712: "jpeg2k",
    33004: "jpeg2k",
    33005: "jpeg2k",
    34887: "lerc",
    50001: "webp",
    34927: "webp",
    50002: "jpegxl",
    52546: "jpegxl",
}
_PREDICTOR_CODECS = ("lzw", "deflate", "lzma", "zstd")  # others ignore the tag
_HORIZONTAL_PREDICTOR, _FLOAT_PREDICTOR = 2, 3
_LUMA_SPACES = {"RGB": "YCBCR", "CMYK": "YCCK"}  # bands of RGB and CMYK are never subsampled
_LERC, _JPEG2K = 34887, "jpeg2k"
_SLACK_BYTES = 1_024  # that some writers add after the pixels of a block
_PIECE_BYTES = 2**16  # of packed data at a time

_REVERSED_BITS = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)), bitorder="little")


def has_imagecodecs() -> bool:
    """True if imagecodecs is installed."""
    try:
        import_module("imagecodecs")
    except ImportError:
        return False
    return True


def make_decoder(tags: Tags) -> Decoder | None:
    """Make a decoder of the blocks of an image; None if not supported."""
    grid, bits = tags.grid, tags.bits
    if tags.compression in _FAX_CODECS:
        decode = load_codec(_FAX_CODECS[tags.compression])
        plain = bits == 1 and grid.block_bands == 1
        return _FaxCodec(tags, decode) if decode is not None and plain else None
    if tags.compression in _IMAGE_CODECS:
        return _make_image_decoder(tags)
    name = _BYTE_CODECS.get(tags.compression)
    if name is None and tags.compression != UNCOMPRESSED:
        return None
    inflate = None if name is None else load_codec(name)
    unpack = _make_unpacker(tags, tags.predictor if name in _PREDICTOR_CODECS else 1)
    if unpack is None or (name is not None and inflate is None):
        return None
    return _PackedCodec(tags, name or "none", inflate, unpack)


def packed_rows_bytes(tags: Tags, rows: int) -> int:
    """Bytes of uncompressed rows of a block; each row, or row of data units, begins at a byte."""
    grid = tags.grid
    if tags.ycbcr is not None and tags.ycbcr.is_subsampled:
        return -(-rows // tags.ycbcr.down) * tags.ycbcr.row_bytes(grid.block_width)
    return rows * -(-grid.block_width * grid.block_bands * tags.bits // 8)


def load_codec(name: str) -> Callable[..., Any] | None:
    """A decoder of imagecodecs or of Python, such as "zstd"; None if neither is available."""
    try:
        library = import_module("imagecodecs")
        # Loaded now: imagecodecs imports a codec at its first use, which is not safe on threads.
        available = getattr(library, name.upper()).available
        decode: Callable[..., Any] = getattr(library, f"{name}_decode")
    except (ImportError, AttributeError):
        return _PLAIN_CODECS.get(name)
    return decode if available else _PLAIN_CODECS.get(name)


def _inflate(data: bytes, out: Bytes) -> Bytes:
    """Decode Deflate up to its checksum; the bytes are a part of `out`."""
    decoder, size = zlib.decompressobj(), 0
    for start in range(0, len(data), _PIECE_BYTES):
        piece = decoder.decompress(data[start : start + _PIECE_BYTES], len(out) - size + 1)
        end = size + len(piece)
        if end > len(out):
            raise ValueError("Deflate: it has more bytes than its pixels")
        out[size:end] = np.frombuffer(piece, np.uint8)
        size = end
        if decoder.eof:
            return out[:size]
    raise ValueError("Deflate: it is cut short")


def _undo_delta(samples: Pixels, axis: int, out: Pixels) -> Pixels:
    """Add up differences of unsigned integers, which wrap around."""
    return np.cumsum(samples, axis=axis, dtype=samples.dtype, out=out)


_PLAIN_CODECS: dict[str, Callable[..., Any]] = {"deflate": _inflate, "delta": _undo_delta}


class _ThreadBuffer(threading.local):
    """A buffer for each thread, reused for each block."""

    def __init__(self) -> None:
        self._memory: Bytes = np.empty(0, np.uint8)

    def reserve(self, size: int) -> Bytes:
        if len(self._memory) < size:
            self._memory = np.empty(size, np.uint8)
        return self._memory[:size]


class _PackedCodec:
    """Decoder of bytes that are inflated and then unpacked to samples."""

    def __init__(
        self,
        tags: Tags,
        codec: str,
        inflate: Callable[..., Any] | None,
        unpack: Callable[[Bytes], Pixels],
    ) -> None:
        self._codec = codec
        self._step = tags.ycbcr.down if tags.ycbcr is not None else 1  # rows in a row of bytes
        self._row_bytes = packed_rows_bytes(tags, self._step)
        self._size = packed_rows_bytes(tags, tags.grid.block_height) + _SLACK_BYTES
        self._has_reversed_bits = tags.fill_order == 2
        self._inflate = inflate
        self._unpack = unpack
        self._thread_buffer = _ThreadBuffer()

    def __call__(self, data: bytes, rows: int) -> Pixels:
        if self._has_reversed_bits:
            data = _REVERSED_BITS[np.frombuffer(data, np.uint8)].tobytes()
        if self._inflate is None:
            raw = np.frombuffer(data, np.uint8)
        else:
            # Not what the tags claim, but what the data can become
            most = max_unpacked_bytes(self._codec, len(data)) + _SLACK_BYTES
            raw = self._inflate(data, out=self._thread_buffer.reserve(min(self._size, most)))
        count = min(-(-rows // self._step), len(raw) // self._row_bytes)
        return self._unpack(raw[: count * self._row_bytes].reshape(count, self._row_bytes))[:rows]


class _FaxCodec:
    """Decoder of 1-bit samples in CCITT's fax compressions."""

    def __init__(self, tags: Tags, decode: Callable[..., Any]) -> None:
        self._width = tags.grid.block_width
        self._has_reversed_bits = tags.fill_order == 2
        self._options = {"t4options": tags.t4_options} if tags.compression == 3 else {}
        self._decode = decode
        self._thread_buffer = _ThreadBuffer()

    def __call__(self, data: bytes, rows: int) -> Pixels:
        if self._has_reversed_bits:
            data = _REVERSED_BITS[np.frombuffer(data, np.uint8)].tobytes()
        rows = min(rows, 8 * len(data))  # a row has at least one bit
        out = self._thread_buffer.reserve(rows * self._width).reshape(rows, self._width)
        out[...] = 0  # the decoder does not write missing rows
        self._decode(data, rows, self._width, out=out, **self._options)
        return out[..., None]


class _ImageCodec:
    """Decoder of blocks that are images with a header, such as JPEG."""

    def __init__(self, tags: Tags, decode: Callable[..., Any], options: dict[str, Any]) -> None:
        self._grid = tags.grid
        self._dtype = tags.grid.dtype.newbyteorder("=")
        self._decode = decode
        self._options = options
        self._is_jpeg = tags.compression == JPEG
        self._thread_buffer = _ThreadBuffer()

    def __call__(self, data: bytes, rows: int) -> Pixels:
        refused: Exception | None = None
        grid, bands = self._grid, self._grid.block_bands
        right = grid.width % grid.block_width or grid.block_width
        below = grid.height % grid.block_height or grid.block_height
        options = self._options
        if self._is_jpeg:
            check_scans(io.BytesIO(data), 0, grid.block_width, grid.block_height)
            if rows * grid.block_width > MAX_JPEG_PIXELS * len(data):
                raise ValueError(f"its {len(data)} bytes cannot hold its pixels")
            space = _LUMA_SPACES.get(options.get("colorspace", ""))
            if space is not None and has_subsampled_bands(data):
                options = {**options, "colorspace": space}  # against the tag
        # Blocks have the size that the tags say, or are full, or cut off at the edges of the image.
        sizes = [(rows, grid.block_width), (grid.block_height, grid.block_width)]
        sizes += [(below, grid.block_width), (rows, right), (below, right)]
        for height, width in dict.fromkeys(sizes):
            memory = self._thread_buffer.reserve(height * width * bands * self._dtype.itemsize)
            shape = (height, width) if bands == 1 else (height, width, bands)
            out = memory.view(self._dtype).reshape(shape)
            try:
                self._decode(data, out=out, **options)
            except ValueError as error:  # another size; raised before memory is allocated
                refused = refused or error
                continue
            return out.reshape(height, width, bands)
        raise ValueError(f"it has not the size that the tags say: {refused}")


def _make_image_decoder(tags: Tags) -> Decoder | None:
    name = _IMAGE_CODECS[tags.compression]
    decode = load_codec(name)
    if decode is None:
        return None
    options: dict[str, Any] = {}
    if tags.compression == JPEG:
        if tags.bits not in (8, 12):
            return None
        # As in libtiff, only YCbCr is converted, and the markers in the blocks are ignored. In
        # libjpeg, three samples without a conversion are RGB, and four are CMYK.
        space = {3: "RGB", 4: "CMYK"}.get(tags.grid.block_bands)
        options = {"tables": tags.jpeg_tables}
        if tags.photometric == YCBCR:
            options |= {"colorspace": "YCBCR", "outcolorspace": "RGB"}
        elif space is not None:
            options |= {"colorspace": space, "outcolorspace": space}
    elif name == "webp":
        options = {"hasalpha": tags.grid.block_bands == 4}
    elif name == _JPEG2K:
        decode = _check_jpeg2k_size(decode, tags.grid)
    elif tags.compression == _LERC and tags.lerc_compression:
        inflate = load_codec({1: "deflate", 2: "zstd"}.get(tags.lerc_compression, ""))
        if inflate is None:
            return None
        limit = 2 * tags.grid.block_height * tags.grid.row_bytes + _SLACK_BYTES
        image = _ImageCodec(tags, decode, {})
        return lambda data, rows: image(inflate(data, out=limit), rows)
    return _ImageCodec(tags, decode, options)


def _check_jpeg2k_size(decode: Callable[..., Any], grid: BlockGrid) -> Callable[..., Any]:
    """Check the size of JPEG 2000 before its decoder allocates memory."""

    def decode_checked(data: bytes, out: Pixels) -> None:
        # SOC, SIZ, its length and capabilities, then width, height and their offsets
        at = data.find(b"\xff\x4f\xff\x51")
        if at < 0 or len(data) < at + 24:
            raise RuntimeError("it is not a JPEG 2000")
        width, height, left, top = struct.unpack_from(">4I", data, at + 8)
        if (height - top, width - left) != out.shape[:2]:
            raise ValueError(f"it has {width - left}×{height - top} pixels")
        decode(data, out=out)

    return decode_checked


def _make_unpacker(tags: Tags, predictor: int) -> Callable[[Bytes], Pixels] | None:
    """Make a function that unpacks bytes to samples; None if unsupported."""
    grid, bits = tags.grid, tags.bits
    native = grid.dtype.newbyteorder("=")
    width, bands = grid.block_width, grid.block_bands
    if predictor not in (1, _HORIZONTAL_PREDICTOR, _FLOAT_PREDICTOR):
        return None
    if tags.ycbcr is not None and tags.ycbcr.is_subsampled:
        across, down = tags.ycbcr.across, tags.ycbcr.down
        lumas = across * down

        def unpack_units(rows: Bytes) -> Pixels:
            units = rows.reshape(len(rows), -1, lumas + 2)
            luma = units[..., :lumas].reshape(len(rows), -1, down, across).swapaxes(1, 2)
            pixels = np.empty((len(rows), down, units.shape[1], across, 3), np.uint8)
            pixels[..., 0] = luma
            pixels[..., 1:] = units[:, None, :, None, lumas:]
            return pixels.reshape(len(rows) * down, -1, 3)[:, :width]

        return unpack_units if predictor == 1 else None
    if bits in (8, 16, 32, 64):
        undo = _make_unpredictor(predictor, native)
        if undo is None:
            return None
        # The float predictor stores bytes by significance, in no byte order.
        stored = native if predictor == _FLOAT_PREDICTOR else grid.dtype
        return lambda rows: undo(
            rows.view(stored).reshape(len(rows), width, bands).astype(native, copy=False)
        )
    if predictor != 1:
        return None
    if bits in (1, 2, 4):  # the highest bits first
        shifts = range(8 - bits, -1, -bits)
        values = np.arange(256, dtype=np.uint8)
        table = np.stack([values >> shift & (1 << bits) - 1 for shift in shifts], axis=1)

        def unpack_bits(rows: Bytes) -> Pixels:
            flat = np.take(table, rows, axis=0, mode="clip").reshape(len(rows), -1)
            return flat[:, : width * bands].reshape(len(rows), width, bands)

        return unpack_bits
    unpack = load_codec("packints")
    if unpack is None:
        return None
    samples = width * bands

    def unpack_rows(rows: Bytes) -> Pixels:
        flat: Pixels = unpack(rows.reshape(-1), native, bits, runlen=samples)
        return flat.reshape(len(rows), width, bands)

    return unpack_rows


def _make_unpredictor(predictor: int, dtype: np.dtype[Any]) -> Callable[[Pixels], Pixels] | None:
    """Make a function that undoes a predictor in place; None if not supported."""
    if predictor == 1:
        return lambda samples: samples
    name = "delta" if predictor == _HORIZONTAL_PREDICTOR else "floatpred"
    undo = load_codec(name)
    if undo is None or (predictor == _FLOAT_PREDICTOR and dtype.kind != "f"):
        return None
    unsigned = np.dtype(f"u{dtype.itemsize}")  # differences of floats are those of their bits

    def undo_predictor(samples: Pixels) -> Pixels:
        if predictor == _HORIZONTAL_PREDICTOR:
            samples = samples.view(unsigned)
        return np.asarray(undo(samples, axis=-2, out=samples)).view(dtype)

    return undo_predictor
