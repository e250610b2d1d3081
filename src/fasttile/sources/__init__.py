"""The way in: whatever holds a picture, opened as a source; nothing here costs import time."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from numbers import Real
from typing import TYPE_CHECKING, Literal

from ..errors import OptionError, SourceError
from ..geometry import Region
from .rawformat import RawFormat
from .reading import Reading
from .ways import STANDARD_INPUT, STORES, is_bytes, is_stream, may_be_slide, scheme_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..options import Window
    from .base import Source
    from .mapping import PictureFile

__all__ = ["RawFormat", "Reading", "holding", "open_source"]

_PLAINLY = Reading()

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_source(
    source: object,
    *,
    raw: RawFormat | str | None = None,
    region: Region | None = None,
    window: Window = "auto",
    bits: Literal[8, 16] = 8,
    reading: Reading = _PLAINLY,
) -> Source:
    """Open whatever holds a picture, to be read by rows.

    Files are recognised by what they begin with, not by their names. Read in place, through a
    map: .npy, headerless files, binary PGM, PPM and PAM, BMP of 24 and 32 bits, and
    uncompressed TIFF and BigTIFF. Decoded by rows while others are used: baseline JPEG, PNG
    that is not interlaced, compressed TIFF (with imagecodecs), slides (with OpenSlide). All
    others are decoded by Pillow at once, into memory or a temporary file. `metadata.way` says
    which. Pictures of files are turned as their orientation says; a PIL image is taken as it
    lies.

    Args:
        source: A path, "-" (standard input) or a URL (http, https, file); the bytes of a file,
            or an open one in binary mode, which stays open; both are read in place where they
            can be, while what comes only once, and what is behind a URL, is kept in an unlinked
            temporary file. A NumPy array or np.memmap; anything with `__array_interface__` or
            `__dlpack__` in the processor's memory; anything with shape, dtype and slices (zarr,
            h5py, dask), which is read by strips; or a PIL image. Arrays have the shape
            (height, width) or (height, width, bands) with 1 band (grey), 2 (grey, alpha),
            3 (RGB) or 4 (RGB, alpha; straight, not premultiplied), and any dtype of whole
            numbers or floats up to 64 bits, or bool (False is 0, True is 255).
        raw: How the pixels of a file without a header lie; as text,
            WIDTHxHEIGHTxBANDS[:dtype[:offset]]. The file is then not looked at otherwise.
        region: The part of the picture to take, (x, y, width, height) in pixels. Default: all.
        window: LOW and HIGH: the values that become 0 and the tiles' largest value, those
            between them linearly, halves rounded up. "full" is the range of the source's
            dtype (of floats: 0 to 1). "auto" is that for 8 bits, for others it looks at the
            values first, and leaves a note of what it chose. Alpha always takes its full range.
        bits: 8, or 16 to keep the values of a 16-bit grey picture.
        reading: What else there is to wish for: the page, limits, what to do with damage.

    Returns:
        A source of dtype uint8, or of uint16 with bits=16; its colours are not converted by
        their profile yet, and CMYK stays if `reading.keep_cmyk` says so. TIFF: colours that are
        premultiplied (ExtraSamples 1) are divided by their alpha, with rounding; an extra
        sample that is unspecified (ExtraSamples 0) is no alpha and left out, as Pillow does; one
        without an ExtraSamples tag is alpha.

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

    raw = RawFormat.parse(raw) if isinstance(raw, str) else raw

    def opened_in(region: Region | None) -> Source:
        opened = _open(source, raw, reading)
        if region is None:
            return opened
        try:
            return crop(opened, region)
        except BaseException:
            opened.close()
            raise

    opened = opened_in(region)
    try:
        return in_bits(opened, bits, checked_window, lambda: opened_in(region))
    except BaseException:
        opened.close()
        raise


@contextmanager
def holding(source: object) -> Iterator[None]:
    """Keep what a URL or a file object gives for the whole context, to open it several times.

    It is fetched here, once. What lies on disk or in memory is left alone.

    Raises:
        SourceError: It cannot be had.
    """
    spool = None
    if scheme_of(source) is not None or is_stream(source):
        file = _file(source)
        assert file is not None
        spool = file.spool
        file.close()
    yield
    del spool


def _checked_window(window: object) -> Window:
    if window in ("auto", "full"):
        return "auto" if window == "auto" else "full"
    if isinstance(window, tuple) and len(window) == 2:
        low, high = window
        numbers = isinstance(low, Real) and isinstance(high, Real)
        if numbers and math.isfinite(low) and math.isfinite(high) and low < high:
            return float(low), float(high)
    raise OptionError(
        f"window {window!r} is neither 'auto' nor 'full' nor two numbers (LOW, HIGH) with LOW "
        "below HIGH"
    )


def _open(source: object, raw: RawFormat | None, reading: Reading) -> Source:
    file = _file(source)
    if file is not None:
        return _open_file(file, raw, reading)
    if raw is not None:
        raise OptionError(f"a raw format is for files, not for {_kind(source)}")
    image = _as_pil_image(source)
    if image is not None:
        from .picture import open_image

        return open_image(image, reading)
    from .arrays import open_object

    return open_object(source)


def _file(source: object) -> PictureFile | None:
    """Whatever has the bytes of a file, opened as one; None if it is something else."""
    if isinstance(source, str | os.PathLike):
        return _named_file(source)
    if is_bytes(source) or is_stream(source):
        from .streams import object_file

        return object_file(source)
    return None


def _named_file(path: str | os.PathLike[str]) -> PictureFile:
    if isinstance(path, str) and path == STANDARD_INPUT:
        from .streams import standard_input

        return standard_input()
    if scheme_of(path) in STORES:
        from .objects import object_file

        return object_file(str(path))
    if scheme_of(path) is not None:
        from .web import url_file

        return url_file(str(path))
    from .mapping import PictureFile

    return PictureFile(path)


def _open_file(file: PictureFile, raw: RawFormat | None, reading: Reading) -> Source:
    """A source over an open file, which it takes over."""
    try:
        if raw is not None:
            opened = _open_raw(file, raw)
        elif may_be_slide(file.path):
            opened = _open_slide(file, reading)
        else:
            opened = _recognised(file, reading)
        reading.check_pixels(file.name, opened.width, opened.height)
        opened = opened if opened.metadata.orientation == 1 else _oriented(opened)
        if file.spool is not None:
            from .spool import keep

            keep(opened, file.spool)
        return opened
    except BaseException:
        file.close()
        raise


def _oriented(source: Source) -> Source:
    from .orient import oriented

    return oriented(source)


def _open_raw(file: PictureFile, raw: RawFormat) -> Source:
    from .raster import open_raw

    return open_raw(file, raw)


def _open_slide(file: PictureFile, reading: Reading) -> Source:
    """A source over a file that is called like a slide, whoever can read it."""
    from .slide import HINT, is_plain_tiff, loads, open_slide

    if is_plain_tiff(file):
        with suppress(SourceError):
            opened = _open_mapped(file, reading)
            if opened is not None:
                return opened
    opened = open_slide(file, reading)
    if opened is not None:
        return opened
    try:
        return _recognised(file, reading)
    except SourceError as error:
        if loads():
            raise
        raise SourceError(f"{error}; {HINT}") from error


def _recognised(file: PictureFile, reading: Reading) -> Source:
    """A source over a file that is what it begins with: over its map, where that can be."""
    opened = _open_mapped(file, reading)
    if opened is not None:
        return opened
    if file.head(4) in _TIFF:
        from .tiff import open_by_pillow

        return open_by_pillow(file, reading)
    from .picture import open_picture

    return open_picture(file, reading)


def _open_mapped(file: PictureFile, reading: Reading) -> Source | None:
    """A source over the file's map, or None if it is not a file whose pixels can be mapped."""
    head = file.head(6)
    if head.startswith(_TIFF):
        from .tiff import open_tiff

        return open_tiff(file, reading)
    if head == b"\x93NUMPY":
        from .npy import open_npy

        return open_npy(file)
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
