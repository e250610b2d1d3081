"""OpenEXR, by the package OpenEXR (extra `hdr`): read by lines of blocks, as linear light.

The display window is shown; pixels outside of the data window are 0. Colours in a file are
multiplied by their alpha, and are divided by it here.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from fasttile.abc.source import Metadata, Source
from fasttile.errors import SourceError, TruncatedError, first_line
from fasttile.formats.exr import ExrHeader, read_exr_header
from fasttile.formats.icc import grey_profile, linear_rgb_profile
from fasttile.options.read import ReadOptions, likely_pixels
from fasttile.sources.conversions import ConvertedSource, unpremultiply
from fasttile.sources.transforms import fill_missing_rows
from fasttile.storage.random_access import BoundedReader, SourceFile
from fasttile.types import Pixels

LINEAR_WINDOW = (0.0, 1.0)
"""The light that becomes black and white by default."""

_MIN_ROWS = 64  # per request
_CODECS = {0: "none", 1: "packbits", 2: "deflate", 3: "deflate", 5: "deflate"}
_OFFSET_BYTES = 8
_MAX_NAMES = 8  # of channels, in a message


def open_exr(file: SourceFile, read_options: ReadOptions) -> Source:
    """Open the first part of an OpenEXR file; the source takes the file over.

    Raises:
        SourceError: The file is damaged, has no channels of an image, or OpenEXR is not installed.
    """
    file.stream.seek(0)
    try:
        header = read_exr_header(file.stream)
    except ValueError as error:
        raise SourceError(f"{file.name}: broken OpenEXR: {error}") from error
    read_options.check_only_page(file.name, "; its first is read")
    bands = _image_channels(header, file.name)
    bits = 16 * len(bands)
    likely_max = likely_pixels(_CODECS.get(header.compression, ""), file.size, bits)
    for box in (header.data, header.display):
        read_options.check_pixels(file.name, box.width, box.height, likely_max)
    file.require_size(_OFFSET_BYTES * header.block_count, f"a table of {header.block_count} blocks")
    try:
        profile = (
            grey_profile("linear grey", "linear")
            if bands[0] == "Y"
            else linear_rgb_profile(header.chromaticities, "OpenEXR")
        )
    except ValueError as error:
        raise SourceError(f"{file.name}: broken OpenEXR: {error}") from error
    others = len(header.channels) - len(bands)
    ratio = header.aspect_ratio
    metadata = Metadata("OpenEXR", profile, window=LINEAR_WINDOW).with_notes(
        "the first part of several taken" if header.is_multipart else None,
        f"{others} other channel{'s' if others > 1 else ''} left out" if others else None,
        f"pixels are {ratio:g} times as wide as high" if abs(ratio - 1) > 1e-3 else None,
    )
    source: Source = ExrSource(file, header, bands, metadata)
    if source.has_alpha:
        source = ConvertedSource(source, unpremultiply(source.bands, source.dtype))
    return fill_missing_rows(source, read_options)


def _image_channels(header: ExrHeader, name: str) -> list[str]:
    """The channels of the image, in the order of bands.

    Raises:
        SourceError: There are none that are read.
    """
    names = header.channels
    if header.is_deep:
        raise SourceError(f"{name}: a deep OpenEXR; oiiotool --flatten makes a flat one of it")
    colours = ["R", "G", "B"] if {"R", "G", "B"} <= names.keys() else ["Y"]
    if "RY" in names and colours == ["Y"]:
        raise SourceError(
            f"{name}: an OpenEXR of luminance and chroma, which is not read; write it as RGB"
        )
    if not set(colours) <= names.keys():
        listed = ", ".join(list(names)[:_MAX_NAMES]) + (", …" if len(names) > _MAX_NAMES else "")
        raise SourceError(
            f"{name}: an OpenEXR with the channels {listed or '(none)'}; expected R, G and B, or "
            "Y; oiiotool --ch makes an image of some"
        )
    bands = [*colours, *(["A"] if "A" in names else [])]
    if any(names[band] != (1, 1) for band in bands):
        raise SourceError(
            f"{name}: an OpenEXR with subsampled channels is not read; write it as RGB"
        )
    return bands


def _load_library(name: str) -> tuple[Any, Any]:
    try:
        return import_module("OpenEXR"), import_module("Imath")
    except ImportError as error:
        raise SourceError(
            f"{name}: it is OpenEXR; pip install fasttile[hdr] lets fasttile read it, and oiiotool "
            "IMAGE.exr -o IMAGE.tif makes a TIFF of it"
        ) from error


class ExrSource(Source):
    """The display window of an OpenEXR file, as floats."""

    random_access = True

    def __init__(
        self, file: SourceFile, header: ExrHeader, bands: list[str], metadata: Metadata
    ) -> None:
        library, imath = _load_library(file.name)
        self.name, self.metadata = file.name, metadata
        self.width, self.height = header.display.width, header.display.height
        self.bands, self.dtype = len(bands), np.dtype(np.float32)
        rows = self._block_rows = header.block_rows
        self.preferred_rows = rows * -(-_MIN_ROWS // rows)
        block_bytes = self.preferred_rows * header.data.width * self.bands * 4
        self.memory_bytes = 3 * block_bytes
        self._file, self._data, self._display = file, header.data, header.display
        self._names, self._float = bands, imath.PixelType(imath.PixelType.FLOAT)
        self._stream: BoundedReader = file.reopen()
        try:
            self._image = library.InputFile(self._stream)
        except Exception as error:
            self._stream.close()
            raise SourceError(f"{file.name}: broken OpenEXR: {first_line(error)}") from error

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, a new array.

        Raises:
            TruncatedError: A block cannot be decoded.
        """
        out = np.zeros((y1 - y0, self.width, self.bands), self.dtype)
        data, display = self._data, self._display
        top = max(display.top + y0, data.top)
        bottom = min(display.top + y1 - 1, data.bottom)
        left, right = max(display.left, data.left), min(display.right, data.right)
        if top > bottom or left > right:
            return out
        first = top - display.top - y0
        for band, samples in enumerate(self._decode(top, bottom)):
            stored = np.frombuffer(samples, np.float32).reshape(bottom - top + 1, data.width)
            out[
                first : first + len(stored), left - display.left : right - display.left + 1, band
            ] = stored[:, left - data.left : right - data.left + 1]
        return out

    def check_intact(self) -> None:
        """Check that the file was not cut short."""
        self._file.check_intact()

    def close(self) -> None:
        """Close the file."""
        self._image.close()
        self._stream.close()
        self._file.close()

    def _decode(self, top: int, bottom: int) -> list[bytes]:
        """Samples of the rows of the data window from top to bottom, for each band."""
        try:
            decoded: list[bytes] = self._image.channels(self._names, self._float, top, bottom)
        except Exception as error:  # of the C++ library, of many types
            row = max(0, self._first_bad_row(top, bottom) - self._display.top)
            image = f"{self.name}: broken OpenEXR"
            raise TruncatedError.from_row(image, row, first_line(error)) from error
        return decoded

    def _first_bad_row(self, top: int, bottom: int) -> int:
        """The first row of the block that cannot be decoded."""
        for row in range(top, bottom + 1):
            if row > top and (row - self._data.top) % self._block_rows:
                continue
            try:
                self._image.channels(self._names, self._float, row, row)
            except Exception:
                return row
        return top
