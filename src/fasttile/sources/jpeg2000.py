"""JPEG 2000 that Pillow does not read right: headers of JPX, and colours of more than 8 bits.

Of these, and of grey with alpha, Pillow lets the brightest values overflow: white becomes black.
All others are left to Pillow.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from fasttile.abc.source import Metadata, Source
from fasttile.errors import SourceError, first_line
from fasttile.formats.jpeg2000 import (
    CODESTREAM,
    SYCC,
    Codestream,
    plain_header,
    read_boxes,
    read_codestream,
    read_jp2_colour,
)
from fasttile.options.read import ReadOptions, likely_pixels
from fasttile.sources.arrays import ArraySource
from fasttile.storage.memory import PixelBuffer
from fasttile.storage.random_access import MemoryFile, SourceFile

_CMYK = 12
_KNOWN_SPACES = (None, _CMYK, 16, 17, SYCC)
_UPSAMPLED = ({(1, 1)}, {(1, 1), (2, 1)}, {(1, 1), (2, 2)})  # by OpenJPEG in imagecodecs


def open_jpeg2000(file: SourceFile, read_options: ReadOptions) -> Source | None:
    """Open a JPEG 2000 that takes more than Pillow; None if Pillow reads it.

    Raises:
        SourceError: It has colours of more than 8 bits, and is damaged, CMYK, subsampled in an
            unusual way, or imagecodecs is not installed.
    """
    plain = _as_plain_file(file)
    with plain.reopen() as stream:
        start = 0
        if plain.head(len(CODESTREAM)) != CODESTREAM:
            boxes = read_boxes(stream, plain.size)
            start = next((box.start for box in boxes if box.kind == b"jp2c"), plain.size)
        code = read_codestream(stream, start)
        colour = read_jp2_colour(stream, plain.size)
    components = code.components
    sampling = {component[1:] for component in components}
    is_ycc = len(components) >= 3 and (colour == SYCC or (len(sampling) > 1 and colour is None))
    source: Source | None = None
    is_deep = len(components) > 1 and max(component.bits for component in components) > 8
    if is_deep and (is_ycc or colour in _KNOWN_SPACES or isinstance(colour, bytes)):
        source = _open_deep(plain, code, SYCC if is_ycc else colour, read_options)
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


def _open_deep(
    file: SourceFile, code: Codestream, colour: bytes | int | None, read_options: ReadOptions
) -> Source:
    """Decode colours of more than 8 bits by imagecodecs, which makes RGB of YCbCr."""
    width, height, components = code
    is_ycc, profile = colour == SYCC, colour if isinstance(colour, bytes) else None
    kind = f"a JPEG 2000 of {'YCbCr with ' if is_ycc else ''}more than 8 bits"
    sampling, depths = {one[1:] for one in components}, {one.bits for one in components}
    if sampling not in (_UPSAMPLED if is_ycc else _UPSAMPLED[:1]):
        raise SourceError(f"{file.name}: {kind}, subsampled {sorted(sampling)}, is not read")
    if colour == _CMYK or (profile or b"")[16:20] == b"CMYK" or len(depths) > 1:
        reason = "of CMYK" if len(depths) == 1 else f"of {sorted(depths)} bits"
        raise SourceError(f"{file.name}: {kind}, {reason}, is not read; convert it to TIFF")
    read_options.check_only_page(file.name)
    try:
        library: Any = import_module("imagecodecs")
    except ImportError as error:
        raise SourceError(f"{file.name}: {kind}: pip install fasttile[tiff] reads it") from error
    bands, bits = len(components), components[0].bits
    if min(width, height) < 1 or bands > 4 or bits > 16:
        raise SourceError(
            f"{file.name}: broken JPEG 2000: {width}×{height} pixels, {bands} bands, {bits} bits"
        )
    likely_max = likely_pixels("", file.size, 16 * bands)
    read_options.check_pixels(file.name, width, height, likely_max)
    buffer = PixelBuffer(2 * width * height * bands, file.name)
    pixels = buffer.bytes.view(np.uint16).reshape(height, width, bands)
    try:
        library.jpeg2k_decode(file.head(file.size), out=pixels)
    except Exception as error:
        raise SourceError(f"{file.name}: broken JPEG 2000: {first_line(error)}") from error
    from fasttile.sources.pillow import identify, read_resolution

    where = "a temporary file" if buffer.on_disk else "memory"
    with file.reopen() as stream:
        resolution = read_resolution(identify(stream, file.name))
    metadata = Metadata(
        "JPEG2000",
        profile,
        resolution,
        stored_as="YCbCr" if is_ycc else "",
        sample_bits=bits if bits < 16 else 0,
        read_mode=f"decoded at once, into {where}",
    ).with_notes("YCbCr converted to RGB" if is_ycc else None)
    source = ArraySource(pixels, file.name, metadata)
    source.memory_bytes = pixels.nbytes
    return source
