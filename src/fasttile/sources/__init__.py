"""The way in: whatever holds an image, opened as a source; nothing here costs import time."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from numbers import Real
from typing import TYPE_CHECKING, Literal

from fasttile.errors import OptionError, SourceError
from fasttile.geometry import Region
from fasttile.options.read import RawFormat, ReadOptions
from fasttile.sources.files import (
    STANDARD_INPUT,
    STORE_SCHEMES,
    has_slide_suffix,
    is_bytes,
    is_stream,
    scheme_of,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from fasttile.abc.source import Source
    from fasttile.storage.random_access import SourceFile
    from fasttile.types import Window

__all__ = ["RawFormat", "ReadOptions", "keep_fetched", "open_source"]

_DEFAULT_READ_OPTIONS = ReadOptions()

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_source(
    source: object,
    *,
    raw: RawFormat | str | None = None,
    region: Region | None = None,
    window: Window = "auto",
    bits: Literal[8, 16] = 8,
    read_options: ReadOptions = _DEFAULT_READ_OPTIONS,
) -> Source:
    """Open whatever holds an image, to be read by rows.

    Files are recognised by what they begin with, not by their names. Read in place, through a
    map: .npy, headerless files, binary PGM, PPM and PAM, BMP of 24 and 32 bits, and
    uncompressed TIFF and BigTIFF. Decoded by rows while others are used: baseline JPEG, PNG
    that is not interlaced, compressed TIFF (with imagecodecs), slides (with OpenSlide). All
    others are decoded by Pillow at once, into memory or a temporary file. `metadata.way` says
    which. Images of files are turned as their orientation says; a PIL image is taken as it
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
        region: The part of the image to take, (x, y, width, height) in pixels. Default: all.
        window: LOW and HIGH: the values that become 0 and the tiles' largest value, those
            between them linearly, halves rounded up. "full" is the range of the source's
            dtype (of floats: 0 to 1). "auto" is that for 8 bits, for others it looks at the
            values first, and leaves a note of what it chose. Alpha always takes its full range.
        bits: 8, or 16 to keep the values of a 16-bit grey image.
        reading: What else there is to wish for: the page, limits, what to do with damage.

    Returns:
        A source of dtype uint8, or of uint16 with bits=16; its colours are not converted by
        their profile yet, and CMYK stays if `reading.keep_cmyk` says so. TIFF: colours that are
        premultiplied (ExtraSamples 1) are divided by their alpha, with rounding; an extra
        sample that is unspecified (ExtraSamples 0) is no alpha and left out, as Pillow does; one
        without an ExtraSamples tag is alpha.

    Raises:
        OptionError: The window, the bits, the region or the raw format cannot be used.
        SourceError: The image is missing, unknown, damaged, or not of a shape or dtype that
            an image has.

    Example:
        >>> import numpy
        >>> with open_source(numpy.zeros((480, 640, 3), "uint8")) as source:
        ...     source.width, source.height, source.bands, source.rows(0, 64).shape
        (640, 480, 3, (64, 640, 3))
    """
    checked_window = _check_window(window)
    if bits not in (8, 16):
        raise OptionError(f"bits {bits!r} is neither 8 nor 16")
    from fasttile.sources.conversions import crop, to_output_depth

    raw = RawFormat.parse(raw) if isinstance(raw, str) else raw

    def open_region(region: Region | None) -> Source:
        opened = _open(source, raw, read_options)
        if region is None:
            return opened
        try:
            return crop(opened, region)
        except BaseException:
            opened.close()
            raise

    opened = open_region(region)
    try:
        return to_output_depth(opened, bits, checked_window, lambda: open_region(region))
    except BaseException:
        opened.close()
        raise


@contextmanager
def keep_fetched(source: object) -> Iterator[None]:
    """Keep what a URL or a file object gives for the whole context, to open it several times.

    It is fetched here, once. What lies on disk or in memory is left alone.

    Raises:
        SourceError: It cannot be had.
    """
    spool = None
    if scheme_of(source) is not None or is_stream(source):
        file = _open_as_file(source)
        assert file is not None
        spool = file.spool
        file.close()
    yield
    del spool


def _check_window(window: object) -> Window:
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


def _open(source: object, raw: RawFormat | None, read_options: ReadOptions) -> Source:
    file = _open_as_file(source)
    if file is not None:
        return _open_file(file, raw, read_options)
    if raw is not None:
        raise OptionError(f"a raw format is for files, not for {_describe_type(source)}")
    image = _as_pil_image(source)
    if image is not None:
        from fasttile.sources.pillow import open_pil_image

        return open_pil_image(image, read_options)
    from fasttile.sources.arrays import open_array_object

    return open_array_object(source)


def _open_as_file(source: object) -> SourceFile | None:
    """Whatever has the bytes of a file, opened as one; None if it is something else."""
    if isinstance(source, str | os.PathLike):
        return _open_named_file(source)
    if is_bytes(source) or is_stream(source):
        from fasttile.sources.files import open_file_object

        return open_file_object(source)
    return None


def _open_named_file(path: str | os.PathLike[str]) -> SourceFile:
    if isinstance(path, str) and path == STANDARD_INPUT:
        from fasttile.sources.files import open_standard_input

        return open_standard_input()
    if scheme_of(path) in STORE_SCHEMES:
        from fasttile.sources.remote import fetch_object

        return fetch_object(str(path))
    if scheme_of(path) is not None:
        from fasttile.sources.remote import open_url

        return open_url(str(path))
    from fasttile.storage.random_access import SourceFile

    return SourceFile(path)


def _open_file(file: SourceFile, raw: RawFormat | None, read_options: ReadOptions) -> Source:
    """A source over an open file, which it takes over."""
    try:
        if raw is not None:
            opened = _open_raw(file, raw)
        elif has_slide_suffix(file.path):
            opened = _open_slide(file, read_options)
        else:
            opened = _open_by_magic(file, read_options)
        read_options.check_pixels(file.name, opened.width, opened.height)
        opened = opened if opened.metadata.orientation == 1 else _apply_orientation(opened)
        if file.spool is not None:
            from fasttile.sources.files import retain

            retain(opened, file.spool)
        return opened
    except BaseException:
        file.close()
        raise


def _apply_orientation(source: Source) -> Source:
    from fasttile.sources.transforms import apply_orientation

    return apply_orientation(source)


def _open_raw(file: SourceFile, raw: RawFormat) -> Source:
    from fasttile.sources.arrays import open_raw

    return open_raw(file, raw)


def _open_slide(file: SourceFile, read_options: ReadOptions) -> Source:
    """A source over a file that is called like a slide, whoever can read it."""
    from fasttile.sources.openslide import INSTALL_HINT, has_openslide, is_plain_tiff, open_slide

    if is_plain_tiff(file):
        with suppress(SourceError):
            opened = _open_mapped(file, read_options)
            if opened is not None:
                return opened
    opened = open_slide(file, read_options)
    if opened is not None:
        return opened
    try:
        return _open_by_magic(file, read_options)
    except SourceError as error:
        if has_openslide():
            raise
        raise SourceError(f"{error}; {INSTALL_HINT}") from error


def _open_by_magic(file: SourceFile, read_options: ReadOptions) -> Source:
    """A source over a file that is what it begins with: over its map, where that can be."""
    opened = _open_mapped(file, read_options)
    if opened is not None:
        return opened
    if file.head(4) in _TIFF_MAGIC:
        from fasttile.sources.tiff import open_with_pillow

        return open_with_pillow(file, read_options)
    from fasttile.sources.pillow import open_image_file

    return open_image_file(file, read_options)


def _open_mapped(file: SourceFile, read_options: ReadOptions) -> Source | None:
    """A source over the file's map, or None if it is not a file whose pixels can be mapped."""
    head = file.head(6)
    if head.startswith(_TIFF_MAGIC):
        from fasttile.sources.tiff import open_tiff

        return open_tiff(file, read_options)
    if head == b"\x93NUMPY":
        from fasttile.sources.rasters import open_npy

        return open_npy(file)
    if head[:2] in (b"P5", b"P6", b"P7"):
        from fasttile.sources.rasters import open_pnm

        return open_pnm(file)
    if head[:2] == b"BM":
        from fasttile.sources.rasters import open_bmp

        return open_bmp(file)
    return None


def _as_pil_image(source: object) -> Image | None:
    # Whoever has an image has imported Pillow; so nobody pays for it who has none.
    pil = sys.modules.get("PIL.Image")
    return source if pil is not None and isinstance(source, pil.Image) else None


def _describe_type(source: object) -> str:
    return f"an object of type {type(source).__qualname__}"


def count_pages(path: str, max_pixels: int | None) -> int:
    """How many images a file holds.

    Raises:
        FasttileError: It cannot be read.
    """
    from fasttile.options.read import ReadOptions

    with open_source(path, read_options=ReadOptions(max_pixels=max_pixels, page=1)) as source:
        return source.metadata.pages
