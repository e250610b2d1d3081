"""What is in a block of a TIFF, compressed or packed, as samples: by imagecodecs, if it is there.

All memory for what comes out is laid out beforehand, of the size that the tags say; whatever a
block claims beyond it is refused or left out.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttile.sources.tiff.grid import BlockGrid
from fasttile.sources.tiff.tags import JPEG, UNCOMPRESSED, YCBCR, Tags
from fasttile.types import Pixels

Bytes = NDArray[np.uint8]
Decoder = Callable[[bytes, int], Pixels]
"""Makes samples, shape (rows, width, bands), of a block's bytes and the rows that it should have.

There may be fewer rows or columns in what comes, or more. It is valid until the same thread calls
again. Whatever goes wrong is an exception."""

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
_PREDICTOR_CODECS = ("lzw", "deflate", "lzma", "zstd")  # to others the tag means nothing
_HORIZONTAL_PREDICTOR, _FLOAT_PREDICTOR = 2, 3
_LERC, _JPEG2K = 34887, "jpeg2k"
_SLACK_BYTES = 1_024  # bytes that may come behind a block's pixels, as some writers leave them

_REVERSED_BITS = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)), bitorder="little")


def has_imagecodecs() -> bool:
    """Whether imagecodecs can be imported."""
    try:
        import_module("imagecodecs")
    except ImportError:
        return False
    return True


def make_decoder(tags: Tags) -> Decoder | None:
    """What decodes an image's blocks, on any thread; None if nothing here does."""
    grid, bits = tags.grid, tags.bits
    if tags.compression in _FAX_CODECS:
        decode = _load_codec(_FAX_CODECS[tags.compression])
        plain = bits == 1 and grid.block_bands == 1
        return _FaxCodec(tags, decode) if decode is not None and plain else None
    if tags.compression in _IMAGE_CODECS:
        return _make_image_decoder(tags)
    name = _BYTE_CODECS.get(tags.compression)
    if name is None and tags.compression != UNCOMPRESSED:
        return None
    inflate = None if name is None else _load_codec(name)
    unpack = _make_unpacker(tags, tags.predictor if name in _PREDICTOR_CODECS else 1)
    if unpack is None or (name is not None and inflate is None):
        return None
    return _PackedCodec(tags, inflate, unpack)


def packed_row_bytes(tags: Tags) -> int:
    """The bytes of a row of a block before it is compressed; rows begin with a byte."""
    grid = tags.grid
    return -(-grid.block_width * grid.block_bands * tags.bits // 8)


def _load_codec(name: str) -> Callable[..., Any] | None:
    """A decoder of imagecodecs, or None if it is not there."""
    try:
        library = import_module("imagecodecs")
        # Looked at now, because they are loaded by looking at them, which no thread should do.
        available = getattr(library, name.upper()).available
        found: Callable[..., Any] = getattr(library, f"{name}_decode")
    except (ImportError, AttributeError):
        return None
    return found if available else None


class _ThreadBuffer(threading.local):
    """Memory of each thread's own, used again for each block."""

    def __init__(self) -> None:
        self._memory: Bytes = np.empty(0, np.uint8)

    def reserve(self, size: int) -> Bytes:
        if len(self._memory) < size:
            self._memory = np.empty(size, np.uint8)
        return self._memory[:size]


class _PackedCodec:
    """Blocks of bytes: they are inflated, and the samples in them unpacked."""

    def __init__(
        self,
        tags: Tags,
        inflate: Callable[..., Any] | None,
        unpack: Callable[[Bytes], Pixels],
    ) -> None:
        self._row_bytes = packed_row_bytes(tags)
        self._size = self._row_bytes * tags.grid.block_height + _SLACK_BYTES
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
            raw = self._inflate(data, out=self._thread_buffer.reserve(self._size))
        there = min(rows, len(raw) // self._row_bytes)
        return self._unpack(raw[: there * self._row_bytes].reshape(there, self._row_bytes))


class _FaxCodec:
    """Blocks of 1-bit samples, compressed as faxes are."""

    def __init__(self, tags: Tags, decode: Callable[..., Any]) -> None:
        self._width = tags.grid.block_width
        self._has_reversed_bits = tags.fill_order == 2
        self._options = {"t4options": tags.t4_options} if tags.compression == 3 else {}
        self._decode = decode
        self._thread_buffer = _ThreadBuffer()

    def __call__(self, data: bytes, rows: int) -> Pixels:
        if self._has_reversed_bits:
            data = _REVERSED_BITS[np.frombuffer(data, np.uint8)].tobytes()
        out = self._thread_buffer.reserve(rows * self._width).reshape(rows, self._width)
        out[...] = 0  # what is not there stays as it was
        self._decode(data, rows, self._width, out=out, **self._options)
        return out[..., None]


class _ImageCodec:
    """Blocks that are images of their own kind, with a size that they state themselves."""

    def __init__(self, tags: Tags, decode: Callable[..., Any], options: dict[str, Any]) -> None:
        self._grid = tags.grid
        self._dtype = tags.grid.dtype.newbyteorder("=")
        self._decode = decode
        self._options = options
        self._thread_buffer = _ThreadBuffer()

    def __call__(self, data: bytes, rows: int) -> Pixels:
        refused: Exception | None = None
        for height, width in _candidate_sizes(self._grid, rows):
            bands = self._grid.block_bands
            memory = self._thread_buffer.reserve(height * width * bands * self._dtype.itemsize)
            shape = (height, width) if bands == 1 else (height, width, bands)
            out = memory.view(self._dtype).reshape(shape)
            try:
                self._decode(data, out=out, **self._options)
            except ValueError as error:  # another size, which is known before memory is taken
                refused = refused or error
                continue
            return out.reshape(height, width, bands)
        raise ValueError(f"it is no image of the tags' size: {refused}")


def _candidate_sizes(grid: BlockGrid, rows: int) -> Iterator[tuple[int, int]]:
    """The heights and widths that a block may have: as the tags say; full; cut at the edge."""
    sizes = [(rows, grid.block_width), (grid.block_height, grid.block_width)]
    right = grid.width % grid.block_width or grid.block_width
    below = grid.height % grid.block_height or grid.block_height
    sizes += [(below, grid.block_width), (rows, right), (below, right)]
    yield from dict.fromkeys(sizes)


def _make_image_decoder(tags: Tags) -> Decoder | None:
    name = _IMAGE_CODECS[tags.compression]
    decode = _load_codec(name)
    if decode is None:
        return None
    options: dict[str, Any] = {}
    if tags.compression == JPEG:
        if tags.bits not in (8, 12):
            return None
        # As libtiff, whatever the blocks say of themselves: only YCbCr is ever converted. To
        # libjpeg three samples that stay as they are are RGB, and four CMYK.
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
        return _make_lerc_decoder(tags, decode)
    return _ImageCodec(tags, decode, options)


def _check_jpeg2k_size(decode: Callable[..., Any], grid: BlockGrid) -> Callable[..., Any]:
    """JPEG 2000, whose decoder takes memory for what a block claims before it looks at `out`."""

    def decode_checked(data: bytes, out: Pixels) -> None:
        # SOC and SIZ, its length and capabilities, then width, height and their offsets
        at = data.find(b"\xff\x4f\xff\x51")
        if at < 0 or len(data) < at + 24:
            raise RuntimeError("it is no JPEG 2000")
        width, height, left, top = struct.unpack_from(">4I", data, at + 8)
        if (height - top, width - left) != out.shape[:2]:
            raise ValueError(f"it has {width - left}×{height - top} pixels")
        decode(data, out=out)

    return decode_checked


def _make_lerc_decoder(tags: Tags, decode: Callable[..., Any]) -> Decoder | None:
    """LERC that was compressed once more."""
    inflate = _load_codec({1: "deflate", 2: "zstd"}.get(tags.lerc_compression, ""))
    if inflate is None:
        return None
    grid = tags.grid
    most = 2 * grid.block_height * grid.row_bytes + _SLACK_BYTES
    image = _ImageCodec(tags, decode, {})
    return lambda data, rows: image(inflate(data, out=most), rows)


def _make_unpacker(tags: Tags, predictor: int) -> Callable[[Bytes], Pixels] | None:
    """What makes samples of rows of bytes; None if nothing here does."""
    grid, bits = tags.grid, tags.bits
    native = grid.dtype.newbyteorder("=")
    width, bands = grid.block_width, grid.block_bands
    if predictor not in (1, _HORIZONTAL_PREDICTOR, _FLOAT_PREDICTOR):
        return None
    if bits in (8, 16, 32, 64):
        undo = _make_unpredictor(predictor, native)
        if undo is None:
            return None
        # Bytes that are differences of bytes know no order.
        stored = native if predictor == _FLOAT_PREDICTOR else grid.dtype
        return lambda rows: undo(
            _to_native_order(rows.view(stored).reshape(len(rows), width, bands))
        )
    if predictor != 1:
        return None
    if bits in (1, 2, 4):
        return _make_bit_unpacker(bits, width, bands)
    unpack = _load_codec("packints")
    if unpack is None:
        return None
    samples = width * bands

    def unpack_rows(rows: Bytes) -> Pixels:
        flat: Pixels = unpack(rows.reshape(-1), native, bits, runlen=samples)
        return flat.reshape(len(rows), width, bands)

    return unpack_rows


def _to_native_order(samples: Pixels) -> Pixels:
    return samples.astype(samples.dtype.newbyteorder("="), copy=False)


def _make_unpredictor(predictor: int, dtype: np.dtype[Any]) -> Callable[[Pixels], Pixels] | None:
    """What makes values of differences, in place; None if nothing here does."""
    if predictor == 1:
        return lambda samples: samples
    name = "delta" if predictor == _HORIZONTAL_PREDICTOR else "floatpred"
    undo = _load_codec(name)
    if undo is None or (predictor == _FLOAT_PREDICTOR and dtype.kind != "f"):
        return None
    whole = np.dtype(f"u{dtype.itemsize}")  # differences of floats too are those of their bits

    def undo_predictor(samples: Pixels) -> Pixels:
        if predictor == _HORIZONTAL_PREDICTOR:
            samples = samples.view(whole)
        return np.asarray(undo(samples, axis=-2, out=samples)).view(dtype)

    return undo_predictor


def _make_bit_unpacker(bits: int, width: int, bands: int) -> Callable[[Bytes], Pixels]:
    """Samples of 1, 2 or 4 bits, the first in the highest bits of a byte."""
    shifts = range(8 - bits, -1, -bits)
    values = np.arange(256, dtype=np.uint8)
    table = np.stack([values >> shift & (1 << bits) - 1 for shift in shifts], axis=1)

    def unpack(rows: Bytes) -> Pixels:
        samples = np.take(table, rows, axis=0, mode="clip").reshape(len(rows), -1)
        return samples[:, : width * bands].reshape(len(rows), width, bands)

    return unpack
