"""Mapped files of simple formats: .npy, PGM, PPM and PAM, and BMP.

PNM: netpbm.sourceforge.net/doc/{pgm,ppm,pam}.html. Samples of 16 bits are big-endian. Values
0..maxval are stretched over the full range of 8 bits (maxval below 256) or of 16 bits.

BMP: Microsoft's descriptions of BITMAPFILEHEADER, BITMAPINFOHEADER, BITMAPV4HEADER and
BITMAPV5HEADER. As described there, the masks count only with the compression BI_BITFIELDS, and
the fourth byte of BI_RGB is padding.
"""

from __future__ import annotations

import io
import re
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from fasttile.abc.source import Metadata, Source
from fasttile.errors import SourceError, first_line
from fasttile.sources.arrays import as_native_contiguous, check_shape_and_dtype, open_raster
from fasttile.sources.conversions import ConvertedSource, lookup_table, ramp, select_bands
from fasttile.storage.random_access import SourceFile

_MAX_NPY_HEADER = 1 << 14  # bytes; more than the longest header that NumPy accepts
_PARSER_ATTEMPTS = 10

_MAX_PNM_HEADER = 1 << 16  # bytes; limit for headers with comments
_SPACE = rb"(?:[ \t\r\n\v\f]|#[^\r\n]*[\r\n])+"
_NUMBER = rb"([0-9]{1,18})"
_PNM_PATTERN = re.compile(rb"P([56])" + (_SPACE + _NUMBER) * 3 + rb"[ \t\r\n\v\f]")
_TUPLE_TYPE_BANDS = {
    "BLACKANDWHITE": 1,
    "GRAYSCALE": 1,
    "RGB": 3,
    "BLACKANDWHITE_ALPHA": 2,
    "GRAYSCALE_ALPHA": 2,
    "RGB_ALPHA": 4,
}

_FILE_HEADER = 14
_MAX_BMP_HEADER = _FILE_HEADER + 124
_INFO_HEADERS = (40, 52, 56, 108, 124)
_BI_RGB, _BI_BITFIELDS, _BI_ALPHABITFIELDS = 0, 3, 6
_COLOUR_MASKS = (0x00FF0000, 0x0000FF00, 0x000000FF)
_ALPHA_MASK = 0xFF000000
_INCHES_PER_METRE = 0.0254  # pixels per metre times this are pixels per inch


def open_npy(file: SourceFile, *, any_bands: bool = False) -> Source:
    """Open the array in a .npy file.

    Args:
        file: The file, which the source takes over.
        any_bands: True if it may have more than four bands.

    Raises:
        SourceError: The header is broken, or the array is not an image or in Fortran order.
    """
    # NumPy reads as many bytes as the header claims to have; the stream limits them.
    stream = io.BytesIO(file.head(_MAX_NPY_HEADER))
    try:
        sides, fortran_order, dtype = _read_npy_header(stream)
    except Exception as error:
        # The header is a Python literal; its parser raises many types of exceptions.
        raise SourceError(f"{file.name}: broken npy header: {first_line(error)}") from error
    shape = tuple(map(int, sides))
    check_shape_and_dtype(shape, dtype, file.name, any_bands=any_bands)
    if fortran_order:
        raise SourceError(
            f"{file.name} is in Fortran order, column by column, and cannot be read by rows; "
            "save numpy.ascontiguousarray(array) instead"
        )
    place = stream.tell()
    opened = open_raster(file, shape, dtype, place, Metadata("npy"), any_bands=any_bands)
    return as_native_contiguous(opened)


def _read_npy_header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy_format.read_magic(stream)
    # 3.0 exists only for field names that are not Latin-1: such an array is no image.
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version[0]}.{version[1]} is not for plain arrays")
    major = version[0]
    read = npy_format.read_array_header_1_0 if major == 1 else npy_format.read_array_header_2_0
    start = stream.tell()
    for _ in range(_PARSER_ATTEMPTS):
        # Python 3.11's parser raises SystemError if another thread parses at the same time.
        with suppress(SystemError):
            stream.seek(start)
            return read(stream)
    stream.seek(start)
    return read(stream)


@dataclass(frozen=True)
class _PnmHeader:
    format: str
    width: int
    height: int
    bands: int
    maxval: int
    header_bytes: int


def open_pnm(file: SourceFile) -> Source:
    """Open the first image in a binary PGM, PPM or PAM file.

    Raises:
        SourceError: The header is broken, or the file is smaller than it says.
    """
    head = file.head(_MAX_PNM_HEADER)
    if head.startswith(b"P7"):
        header = _parse_pam(head, file.name)
    else:
        match = _PNM_PATTERN.match(head)
        if match is None:
            raise SourceError(f"{file.name}: broken PNM header: {head[:20]!r}…")
        kind, width, height, maxval = (int(group) for group in match.groups())
        name, bands = ("PGM", 1) if kind == 5 else ("PPM", 3)
        header = _PnmHeader(name, width, height, bands, maxval, match.end())
    if not 1 <= header.maxval <= 65535:
        raise SourceError(f"{file.name}: maxval {header.maxval}; expected 1 to 65535")
    dtype = np.dtype(np.uint8 if header.maxval < 256 else ">u2")
    shape = (header.height, header.width, header.bands)
    top = 255 if header.maxval < 256 else 65535
    depth = "" if header.maxval == top else f"maxval {header.maxval}"
    metadata = Metadata(header.format, stored_as=depth)
    stored = open_raster(file, shape, dtype, header.header_bytes, metadata)
    if header.maxval == top:
        return as_native_contiguous(stored)
    stretch = ramp(0, header.maxval, top + 1, dtype.newbyteorder("="))
    return ConvertedSource(stored, lookup_table(header.bands, stretch))


def _parse_pam(head: bytes, name: str) -> _PnmHeader:
    text, end, _ = head.partition(b"\nENDHDR\n")
    if not end:
        raise SourceError(f"{name}: broken PAM header: no ENDHDR in it")
    numbers: dict[str, int] = {}
    tuple_type = ""
    for line in text.decode("latin-1").split("\n")[1:]:
        key, _, value = line.strip().partition(" ")
        value = value.strip()
        if key == "TUPLTYPE":
            tuple_type = f"{tuple_type} {value}".strip()
        elif key in ("WIDTH", "HEIGHT", "DEPTH", "MAXVAL") and re.fullmatch("[0-9]{1,18}", value):
            numbers[key] = int(value)
        elif key and not key.startswith("#"):
            raise SourceError(f"{name}: broken PAM header: unknown line {line[:40]!r}")
    missing = {"WIDTH", "HEIGHT", "DEPTH", "MAXVAL"} - numbers.keys()
    if missing:
        raise SourceError(f"{name}: broken PAM header: {min(missing)} is missing")
    if tuple_type and tuple_type not in _TUPLE_TYPE_BANDS:
        known = ", ".join(_TUPLE_TYPE_BANDS)
        raise SourceError(f"{name}: PAM tuple type {tuple_type!r}; expected one of {known}")
    # Without a tuple type, the depth decides: grey, grey and alpha, RGB, RGB and alpha.
    if tuple_type and _TUPLE_TYPE_BANDS[tuple_type] != numbers["DEPTH"]:
        raise SourceError(
            f"{name}: a PAM of tuple type {tuple_type} has {_TUPLE_TYPE_BANDS[tuple_type]} bands, "
            f"not {numbers['DEPTH']}"
        )
    sizes = (numbers["WIDTH"], numbers["HEIGHT"], numbers["DEPTH"], numbers["MAXVAL"])
    return _PnmHeader("PAM", *sizes, len(text) + len(end))


@dataclass(frozen=True)
class _BmpHeader:
    pixel_offset: int
    width: int
    height: int
    bits: int
    compression: int
    pixels_per_metre: tuple[int, int]
    masks: tuple[int, ...]

    @property
    def band_order(self) -> tuple[int, ...] | None:
        """Order of the stored bytes as RGB or RGBA; None for other masks."""
        if self.compression == _BI_RGB and self.bits in (24, 32):
            return (2, 1, 0)
        if self.compression not in (_BI_BITFIELDS, _BI_ALPHABITFIELDS) or self.bits != 32:
            return None
        alpha = self.masks[3] if len(self.masks) == 4 else 0
        if self.masks[:3] != _COLOUR_MASKS or alpha not in (0, _ALPHA_MASK):
            return None
        return (2, 1, 0, 3) if alpha else (2, 1, 0)


def open_bmp(file: SourceFile) -> Source | None:
    """Open a bitmap of 24 or 32 bits; None if it is of another kind.

    Raises:
        SourceError: The header is broken, or the file is smaller than it says.
    """
    header = _read_bmp_header(file)
    if header is None or header.band_order is None:
        return None
    if header.width < 1 or header.height == 0:
        raise SourceError(
            f"{file.name}: {header.width}×{header.height} pixels; expected at least 1×1"
        )
    x, y = (count * _INCHES_PER_METRE for count in header.pixels_per_metre)
    resolution = (x, y) if x > 0 and y > 0 else None
    stored_bands = header.bits // 8
    stored = open_raster(
        file,
        (abs(header.height), header.width, stored_bands),
        np.dtype(np.uint8),
        header.pixel_offset,
        Metadata("BMP", resolution=resolution),
        stride=-(-header.width * stored_bands // 4) * 4,
        bottom_up=header.height > 0,
    )
    return ConvertedSource(stored, select_bands(header.band_order, stored.dtype))


def _read_bmp_header(file: SourceFile) -> _BmpHeader | None:
    head = file.head(_MAX_BMP_HEADER)
    if len(head) < _FILE_HEADER + 4:
        raise SourceError(f"{file.name}: broken BMP header: the file ends within it")
    pixels, size = struct.unpack_from("<II", head, 10)
    if size not in _INFO_HEADERS:
        return None
    with_masks = head.ljust(_FILE_HEADER + 56, b"\0")
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", with_masks, 18)
    masks_behind = size == 40 and compression in (_BI_BITFIELDS, _BI_ALPHABITFIELDS)
    mask_bytes = 0 if not masks_behind else 12 if compression == _BI_BITFIELDS else 16
    if len(head) < _FILE_HEADER + size + mask_bytes:
        raise SourceError(f"{file.name}: broken BMP header: the file ends within it")
    if pixels < _FILE_HEADER + size + mask_bytes:
        raise SourceError(f"{file.name}: broken BMP header: pixels at byte {pixels}, inside it")
    count = (mask_bytes or size - 40) // 4
    masks = struct.unpack_from(f"<{min(4, count)}I", with_masks, _FILE_HEADER + 40)
    per_metre = struct.unpack_from("<ii", with_masks, 38)
    return _BmpHeader(pixels, width, height, bits, compression, per_metre, masks)
