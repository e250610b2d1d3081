"""JPEG 2000 that Pillow does not read right: headers of JPX, and YCbCr of more than 8 bits.

All others are left to Pillow.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from fasttile.abc.source import Metadata, Source
from fasttile.errors import SourceError
from fasttile.formats.jpeg2000 import (
    CODESTREAM,
    SYCC,
    plain_header,
    read_boxes,
    read_components,
    read_jp2_colour,
)
from fasttile.options.read import ReadOptions, likely_pixels
from fasttile.sources.arrays import ArraySource
from fasttile.storage.memory import PixelBuffer
from fasttile.storage.random_access import MemoryFile, SourceFile

_UPSAMPLED = ({(1, 1)}, {(1, 1), (2, 1)}, {(1, 1), (2, 2)})  # by OpenJPEG in imagecodecs


def open_jpeg2000(file: SourceFile, read_options: ReadOptions) -> Source | None:
    """Open a JPEG 2000 that takes more than Pillow; None if Pillow reads it.

    Raises:
        SourceError: It is YCbCr of more than 8 bits, and is damaged, subsampled in an unusual way,
            or imagecodecs is not installed.
    """
    plain = _as_plain_file(file)
    with plain.reopen() as stream:
        start = 0
        if plain.head(len(CODESTREAM)) != CODESTREAM:
            boxes = read_boxes(stream, plain.size)
            start = next((box.start for box in boxes if box.kind == b"jp2c"), plain.size)
        components = read_components(stream, start)
        colour = read_jp2_colour(stream, plain.size)
    sampling = {component[1:] for component in components}
    is_ycc = len(components) >= 3 and (colour == SYCC or (len(sampling) > 1 and colour is None))
    source: Source | None = None
    if is_ycc and max(component.bits for component in components) > 8:
        source = _open_deep_ycc(plain, sampling, read_options)
    elif plain is not file:
        from fasttile.sources.pillow import open_image_file

        source = open_image_file(plain, read_options)
    if source is not None:
        file.close()
    return source


def _as_plain_file(file: SourceFile) -> SourceFile:
    """The file, or a JP2 of the same codestream in memory if it is a JPX of another structure."""
    with file.reopen() as stream:
        boxes = read_boxes(stream, file.size)
        header = plain_header(stream, boxes)
        if header is None:
            return file
        code = next(box for box in boxes if box.kind == b"jp2c")
        stream.seek(code.start)
        return MemoryFile(header + stream.read(code.end - code.start), file.name)


def _open_deep_ycc(
    file: SourceFile, sampling: set[tuple[int, int]], read_options: ReadOptions
) -> Source:
    """Decode YCbCr of more than 8 bits by imagecodecs, which makes RGB of it."""
    kind = "a JPEG 2000 of YCbCr with more than 8 bits"
    if sampling not in _UPSAMPLED:
        raise SourceError(f"{file.name}: {kind}, subsampled {sorted(sampling)}, is not read")
    try:
        library: Any = import_module("imagecodecs")
    except ImportError as error:
        raise SourceError(f"{file.name}: {kind}: pip install fasttile[tiff] reads it") from error
    content = file.head(file.size)
    place = content.find(CODESTREAM)
    right, below, left, top = struct.unpack_from(">4I", content, place + 8)
    (bands,) = struct.unpack_from(">H", content, place + 40)
    width, height = right - left, below - top
    if min(width, height) < 1 or bands not in (3, 4):
        raise SourceError(f"{file.name}: broken JPEG 2000: {width}×{height} pixels, {bands} bands")
    likely_max = likely_pixels("", file.size, 16 * bands)
    read_options.check_pixels(file.name, width, height, likely_max)
    buffer = PixelBuffer(2 * width * height * bands, file.name)
    pixels = buffer.bytes.view(np.uint16).reshape(height, width, bands)
    try:
        library.jpeg2k_decode(content, out=pixels)
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise SourceError(f"{file.name}: broken JPEG 2000: {reason}") from error
    with file.reopen() as stream:
        bits = read_components(stream, place)[0].bits
    metadata = Metadata("JPEG2000", sample_bits=bits if bits < 16 else 0)
    where = "a temporary file" if buffer.on_disk else "memory"
    metadata = replace(metadata, read_mode=f"decoded at once, into {where}", stored_as="YCbCr")
    source = ArraySource(pixels, file.name, metadata.with_notes("YCbCr converted to RGB"))
    source.memory_bytes = pixels.nbytes
    return source
