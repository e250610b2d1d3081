"""The way in: whatever holds a picture, opened as a source; nothing here costs import time."""

from __future__ import annotations

import math
import os
import sys
from numbers import Real
from typing import TYPE_CHECKING, Literal

from ..errors import OptionError
from ..geometry import Region
from .rawformat import RawFormat

if TYPE_CHECKING:
    from PIL.Image import Image

    from .base import Source
    from .mapping import PictureFile

__all__ = ["RawFormat", "open_source"]

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_source(
    source: object,
    *,
    raw: RawFormat | str | None = None,
    region: Region | None = None,
    window: tuple[float, float] | Literal["full"] = "full",
    bits: Literal[8, 16] = 8,
) -> Source:
    """Open whatever holds a picture, to be read by rows.

    Files are recognised by what they begin with, not by their names. Read in place, through a
    map: .npy, headerless files, binary PGM, PPM and PAM, BMP of 24 and 32 bits, and
    uncompressed TIFF and BigTIFF of 8 and 16 bits. All others are decoded by Pillow, and so
    are held in memory as a whole. Of several pictures in one file the first is taken.

    Args:
        source: A path; a NumPy array or np.memmap; anything with `__array_interface__` or
            `__dlpack__` in the processor's memory; anything with shape, dtype and slices (zarr,
            h5py, dask), which is read by strips; or a PIL image. Arrays have the shape
            (height, width) or (height, width, bands) with 1 band (grey), 2 (grey, alpha),
            3 (RGB) or 4 (RGB, alpha; straight, not premultiplied), and the dtype uint8, uint16
            or bool (False is 0, True is 255).
        raw: How the pixels of a file without a header lie; as text,
            WIDTHxHEIGHTxBANDS[:dtype[:offset]]. The file is then not looked at otherwise.
        region: The part of the picture to take, (x, y, width, height) in pixels. Default: all.
        window: LOW and HIGH: the values that become 0 and the tiles' largest value, those
            between them linearly, halves rounded up. "full" is the range of the source's
            dtype. Alpha always takes its full range.
        bits: 8, or 16 to keep the values of a 16-bit grey picture.

    Returns:
        A source of dtype uint8, or of uint16 with bits=16. TIFF: colours that are premultiplied
        (ExtraSamples 1) are divided by their alpha, with rounding; an extra sample that is
        unspecified (ExtraSamples 0) is no alpha and left out, as Pillow does; one without an
        ExtraSamples tag is alpha; the Orientation tag is not looked at.

    Raises:
        OptionError: The window, the bits, the region or the raw format cannot be used.
        SourceError: The picture is missing, unknown, damaged, or not of a shape or dtype that
            a picture has.

    Example:
        >>> import numpy
        >>> with open_source(numpy.zeros((480, 640, 3), "uint8")) as source:
        ...     source.width, source.height, source.bands, source.rows(0, 64).shape
        (640, 480, 3, (64, 640, 3))
    """
    checked_window = _checked_window(window)
    if bits not in (8, 16):
        raise OptionError(f"bits {bits!r} is neither 8 nor 16")
    from .convert import crop
    from .depth import in_bits

    opened = _open(source, RawFormat.parse(raw) if isinstance(raw, str) else raw)
    try:
        if region is not None:
            opened = crop(opened, region)
        return in_bits(opened, bits, checked_window)
    except BaseException:
        opened.close()
        raise


def _checked_window(window: object) -> tuple[float, float] | Literal["full"]:
    if window == "full":
        return "full"
    if isinstance(window, tuple) and len(window) == 2:
        low, high = window
        numbers = isinstance(low, Real) and isinstance(high, Real)
        if numbers and math.isfinite(low) and math.isfinite(high) and low < high:
            return float(low), float(high)
    raise OptionError(
        f"window {window!r} is neither 'full' nor two numbers (LOW, HIGH) with LOW below HIGH"
    )


def _open(source: object, raw: RawFormat | None) -> Source:
    if isinstance(source, str | os.PathLike):
        return _open_file(source, raw)
    if raw is not None:
        raise OptionError(f"a raw format is for files, not for {_kind(source)}")
    image = _as_pil_image(source)
    if image is not None:
        from .picture import open_image

        return open_image(image)
    from .arrays import open_object

    return open_object(source)


def _open_file(path: str | os.PathLike[str], raw: RawFormat | None) -> Source:
    from .mapping import PictureFile

    file = PictureFile(path)
    try:
        if raw is not None:
            from .raster import open_raw

            return open_raw(file, raw)
        opened = _open_mapped(file)
        if opened is None:
            from .picture import open_picture

            opened = open_picture(file)
        return opened
    except BaseException:
        file.close()
        raise


def _open_mapped(file: PictureFile) -> Source | None:
    """A source over the file's map, or None if it is not a file whose pixels can be mapped."""
    head = file.head(6)
    if head == b"\x93NUMPY":
        from .npy import open_npy

        return open_npy(file)
    if head.startswith(_TIFF):
        from .tiff import open_tiff

        return open_tiff(file)
    if head[:2] in (b"P5", b"P6", b"P7"):
        from .pnm import open_pnm

        return open_pnm(file)
    if head[:2] == b"BM":
        from .bmp import open_bmp

        return open_bmp(file)
    return None


def _as_pil_image(source: object) -> Image | None:
    # Whoever has an image has imported Pillow; so nobody pays for it who has none.
    pil = sys.modules.get("PIL.Image")
    return source if pil is not None and isinstance(source, pil.Image) else None


def _kind(source: object) -> str:
    return f"an object of type {type(source).__qualname__}"
