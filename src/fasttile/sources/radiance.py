"""Radiance HDR (RGBE): decoded row by row, as linear light.

Source: "Radiance File Formats" (radsite.lbl.gov). A pixel is three mantissas of 8 bits and their
exponent: mantissa · 2^(exponent - 136). Values are taken as they are stored, so EXPOSURE, which
says how to find the original light, does not change them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from fasttile import _runs
from fasttile.abc.source import Metadata, Source
from fasttile.errors import SourceError, TruncatedError
from fasttile.formats.icc import Chromaticities, linear_rgb_profile
from fasttile.options.read import ReadOptions, likely_pixels
from fasttile.sources.exr import LINEAR_WINDOW
from fasttile.sources.transforms import fill_missing_rows
from fasttile.storage.random_access import SourceFile
from fasttile.types import Pixels

_MAX_HEADER_BYTES = 2**16
_ROWS = 64  # per request
_RESOLUTION = rb"([+-])([XY]) ([0-9]{1,10}) ([+-])([XY]) ([0-9]{1,10})\n"
_ORIENTATIONS = {"-Y+X": 1, "-Y-X": 2, "+Y-X": 3, "+Y+X": 4, "+X-Y": 5, "-X-Y": 6, "-X+Y": 7}
_ORIENTATIONS |= {"+X+Y": 8}
"""EXIF's numbers of the eight orders of scanlines."""

_SCALES = np.ldexp(np.float32(1), np.arange(256) - 136).astype(np.float32)
_SCALES[0] = 0


class _Header(NamedTuple):
    """Number and length of the scanlines, their orientation, offset and colours."""

    rows: int
    columns: int
    orientation: int
    offset: int
    chromaticities: Chromaticities | None


def open_radiance(file: SourceFile, read_options: ReadOptions) -> Source:
    """Open a Radiance HDR; the source takes the file over.

    Raises:
        SourceError: The header is broken, or the colours are XYZ.
    """
    header = _read_header(file)
    read_options.check_only_page(file.name)
    likely_max = likely_pixels("", file.size, 32)
    read_options.check_pixels(file.name, header.columns, header.rows, likely_max)
    try:
        profile = linear_rgb_profile(header.chromaticities, "Radiance")
    except ValueError as error:
        raise SourceError(f"{file.name}: broken Radiance HDR: {error}") from error
    metadata = Metadata(
        "Radiance HDR", profile, orientation=header.orientation, window=LINEAR_WINDOW
    )
    source = RadianceSource(file, header, metadata)
    return fill_missing_rows(source, read_options)


def _read_header(file: SourceFile) -> _Header:
    head = file.head(_MAX_HEADER_BYTES)
    text, end, rest = head.partition(b"\n\n")
    match = re.match(_RESOLUTION, rest)
    if not end or match is None or match[2] == match[5]:
        raise SourceError(f"{file.name}: broken Radiance HDR: its header has no resolution")
    rows, columns = int(match[3]), int(match[6])
    if 0 in (rows, columns):
        raise SourceError(f"{file.name}: broken Radiance HDR: {columns}×{rows} pixels")
    order = b"".join(match.group(1, 2, 4, 5)).decode()
    fields = dict(line.partition(b"=")[::2] for line in text.split(b"\n")[1:])
    form = fields.get(b"FORMAT", b"32-bit_rle_rgbe").strip()
    if form != b"32-bit_rle_rgbe":
        raise SourceError(
            f"{file.name}: a Radiance HDR of {form.decode('latin-1')[:40]} is not read; expected "
            "32-bit_rle_rgbe, which ra_xyze -r makes of it"
        )
    chromaticities = None
    if b"PRIMARIES" in fields:
        try:
            values = [float(value) for value in fields[b"PRIMARIES"].split()]
        except ValueError:
            values = []
        if len(values) != 8:
            raise SourceError(f"{file.name}: broken Radiance HDR: its PRIMARIES are not 8 numbers")
        chromaticities = list(zip(values[::2], values[1::2], strict=True))
    offset = len(text) + len(end) + match.end()
    return _Header(rows, columns, _ORIENTATIONS[order], offset, chromaticities)


class RadianceSource(Source):
    """The scanlines of a Radiance HDR, as floats.

    The length of a scanline shows only when it is decoded. So the offset of each group of rows is
    kept once it is known.
    """

    bands, dtype = 3, np.dtype(np.float32)
    preferred_rows = _ROWS

    def __init__(self, file: SourceFile, header: _Header, metadata: Metadata) -> None:
        self.name, self.metadata = file.name, metadata
        self.width, self.height = header.columns, header.rows
        # Scanlines that become columns would be decoded again for each of them.
        self.random_access = header.orientation < 5
        self.memory_bytes = min(_ROWS, self.height) * self.width * 16
        self._file = file
        self._offsets = [header.offset]  # of groups
        self._good_rows = self.height  # above the first broken one, once it is met
        self._group_number = -1
        self._group: Pixels = np.empty((0, self.width, 4), np.uint8)

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, a new array.

        Raises:
            TruncatedError: A row cannot be decoded.
        """
        out = np.empty((y1 - y0, self.width, 3), np.float32)
        self.read(y0, out)
        return out

    def read(self, y0: int, out: Pixels) -> None:
        """Write the rows from y0 on into out."""
        y, end = y0, y0 + len(out)
        while y < end:
            number, first = divmod(y, _ROWS)
            pixels = self._decode(number)[first : first + end - y]
            if not len(pixels):
                image = f"{self.name}: broken Radiance HDR"
                raise TruncatedError.from_row(image, self._good_rows)
            part = out[y - y0 : y - y0 + len(pixels)]
            np.multiply(pixels[..., :3], _SCALES[pixels[..., 3]][..., None], out=part)
            y += len(pixels)

    def check_intact(self) -> None:
        """Check that the file was not cut short."""
        self._file.check_intact()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _decode(self, number: int) -> Pixels:
        """The stored pixels of a group, shape (rows, width, 4), up to the first broken row."""
        if number == self._group_number:
            return self._group
        for known in range(min(number, len(self._offsets) - 1), number):
            if len(self._decode(known)) < _ROWS:
                return self._group[:0]
        start = self._offsets[number]
        rows = min(_ROWS, self.height - number * _ROWS)
        size = min(self._file.size - start, rows * (8 * self.width + 4))
        good_rows = used = 0
        group = np.empty((rows, self.width, 4), np.uint8)
        if size > 0:
            data = self._file.view(start, (1, size, 1), np.dtype(np.uint8), size)
            self._file.populate(data)
            good_rows, used = _runs.unpack_rgbe(data[0, :, 0], group)
            self._file.discard(data)
        if good_rows < rows:
            self._good_rows = number * _ROWS + good_rows
        elif len(self._offsets) == number + 1:
            self._offsets.append(start + used)
        self._group_number, self._group = number, group[:good_rows]
        return self._group
