"""Opening of files, URLs, streams, arrays and PIL images as sources.

Importing this package loads neither NumPy nor a decoder.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Literal

from fasttile.errors import OptionError, SourceError, SourceNotFoundError
from fasttile.geometry import Region
from fasttile.options.read import MAX_PAGES, RawFormat, ReadOptions, note_on_pages
from fasttile.sources.files import (
    STANDARD_INPUT,
    STORE_SCHEMES,
    TIFF_SIGNATURES,
    URL_SCHEMES,
    has_slide_suffix,
    is_bytes,
    is_stream,
    may_be_mosaic,
    open_file_object,
    open_standard_input,
    parse_array_name,
    retain,
    scheme_of,
)
from fasttile.storage.random_access import DiskFile, SourceFile, missing_file_advice

if TYPE_CHECKING:
    from fasttile.abc.source import Source, SourceOpener
    from fasttile.sources.conversions import ProfileConverter
    from fasttile.sources.mosaic import Mosaic
    from fasttile.sources.mosaic_headers import SrgbConverter
    from fasttile.types import Window

__all__ = [
    "RawFormat",
    "ReadOptions",
    "adapt_source",
    "keep_fetched",
    "mosaic_of",
    "open_source",
]

_DEFAULT_READ_OPTIONS = ReadOptions()

_JP2_SIGNATURE, _JP2_CODESTREAM = b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"


def open_source(
    source: object,
    *,
    raw: RawFormat | str | None = None,
    region: Region | None = None,
    window: Window = "auto",
    bits: Literal[8, 16] = 8,
    read_options: ReadOptions = _DEFAULT_READ_OPTIONS,
    convert_profile: ProfileConverter | None = None,
    to_srgb: SrgbConverter | None = None,
) -> Source:
    """Open an image to read it by rows.

    A file is recognised by its first bytes, not by its name. Mapped and read in place: .npy,
    headerless files, binary PGM, PPM and PAM, BMP of 24 and 32 bits, and uncompressed TIFF and
    BigTIFF. Decoded row by row while the image is cut: baseline JPEG, PNG that is not interlaced,
    the composite of PSD and PSB, compressed TIFF (with imagecodecs), slides (with OpenSlide).
    Pillow decodes all others completely, into memory or a temporary file; `metadata.read_mode`
    describes it. Images of files are oriented for display; a PIL image is used as it is.

    Args:
        source: A path, a pattern of the names of many images ("grid:scans/r{row}_c{col}.tif"), a
            list of many (docs/MOSAICS.md), a folder of Zarr or N5 (docs/ZARR.md), "-" (standard
            input) or a URL (http, https, file, s3, gs, az); the bytes of a file, or a stream in
            binary mode, which stays open; a NumPy array or np.memmap; an object with
            `__array_interface__`, or with `__dlpack__` in the memory of the processor; an object
            with shape, dtype and slices (zarr, h5py, dask), which is read by strips; an object with
            `__array__`; a PIL image; a pyvips image, which is computed by strips; an image of
            `from_function`; or a `mosaic` of many of these.
            Bytes and files are read in place; streams and URLs that can be read only once are kept
            in an unlinked temporary file. Arrays have the shape (height, width) or (height, width,
            bands) with 1 band (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha; straight, not
            premultiplied), and any dtype of integers or floats up to 64 bits, or bool (False is 0,
            True is 255).
        raw: The format of the pixels in a file without a header; as text,
            WIDTHxHEIGHTxBANDS[:dtype[:offset]].
        region: The part of the image to read, (x, y, width, height) in pixels. Default: all.
        window: LOW and HIGH: the values that become 0 and the largest value of the tiles, those
            between them linearly, halves rounded up. "full" is the range of the source's dtype
            (of floats: 0 to 1). "auto" is "full" for 8 bits, for 16 bits with a profile or of RGB
            or CMYK, and for Radiance HDR and OpenEXR, whose window comes before the curve of sRGB;
            for other images it inspects the values, and adds a note with its choice. Alpha always
            has its full range.
        bits: 8, or 16 to keep the values of a 16-bit grey image.
        read_options: The page, the limit of pixels, and the treatment of damage.
        convert_profile: Converts samples of more than 8 bits to sRGB before they become 8
            (`colour.convert_deep_profile`). Default: no conversion.
        to_srgb: Converts the images of a mosaic if their profiles differ
            (`colour.convert_to_srgb`). Default: such profiles are ignored.

    Returns:
        A source of dtype uint8, or of uint16 with bits=16. Its colours are not converted by
        their profile (but by `convert_profile`), and CMYK stays CMYK with
        `read_options.keep_cmyk`. TIFF: premultiplied
        colours (ExtraSamples 1) are divided by their alpha, with rounding; an unspecified extra
        sample (ExtraSamples 0) is left out, as Pillow does; one without the tag ExtraSamples
        is alpha.

    Raises:
        OptionError: The window, the bits, the region or the raw format is not valid.
        SourceError: The image is missing, unknown, damaged, or its shape or dtype is not that of
            an image.

    Example:
        >>> import numpy
        >>> with open_source(numpy.zeros((480, 640, 3), "uint8")) as source:
        ...     source.width, source.height, source.bands, source.rows(0, 64).shape
        (640, 480, 3, (64, 640, 3))
    """
    checked_window = _check_window(window)
    _check_bits(bits)
    from fasttile.sources.conversions import crop

    raw = RawFormat.parse(raw) if isinstance(raw, str) else raw
    mosaic = mosaic_of(source)
    if mosaic is not None:
        from fasttile.sources.mosaic_headers import MemberOptions, mosaic_read_options
        from fasttile.sources.mosaic_source import open_mosaic

        read_options = mosaic_read_options(mosaic, read_options)
        open_image = partial(_open, raw=raw, read_options=read_options)
        options = MemberOptions(
            open_image, bits, checked_window, convert_profile, read_options, to_srgb
        )
        return open_mosaic(mosaic, options, region)

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
        return _to_output(
            opened, read_options, bits, checked_window, lambda: open_region(region), convert_profile
        )
    except BaseException:
        opened.close()
        raise


def mosaic_of(source: object) -> Mosaic | None:
    """The mosaic that a source is: its images, none of which is opened; None for other sources.

    Raises:
        OptionError: A pattern of names is not valid.
        SourceError: A list of images cannot be used, or a pattern has no image.
    """
    if isinstance(source, str | os.PathLike):
        if not may_be_mosaic(source):
            return None
        from fasttile.sources.mosaic_lists import read_mosaic

        return read_mosaic(os.fspath(source))
    # A caller with a mosaic has imported its module.
    mosaics = sys.modules.get("fasttile.sources.mosaic")
    if mosaics is not None and isinstance(source, mosaics.Mosaic):
        found: Mosaic = source
        return found
    return None


def adapt_source(
    source: Source,
    *,
    region: Region | None,
    window: Window,
    bits: Literal[8, 16],
    read_options: ReadOptions = _DEFAULT_READ_OPTIONS,
    convert_profile: ProfileConverter | None = None,
) -> Source:
    """Crop and window a source that the caller has opened and will close.

    Args:
        source: The open source. Only the result may be read after this.
        region, window, bits, convert_profile: As for `open_source`.
        read_options: Its bands, and the value of missing samples; others have no effect.

    Returns:
        A source over it, or the source itself if nothing has to change. It is not to be closed.

    Raises:
        OptionError: The region, the window or the bits cannot be used; or window="auto" needs
            the values of a source whose rows can be read only once.
    """
    window, bits = _check_window(window), _check_bits(bits)
    from fasttile.sources.conversions import CroppedSource, crop

    def refuse() -> Source:
        raise OptionError(
            f"{source.name}: window: the source is open already, and its values can be read only "
            "once; pass window=(LOW, HIGH) or 'full', or bits=16"
        )

    if region is not None:
        # A source that is not Croppable itself: `crop` would take over one that is.
        uncropped = CroppedSource(source, Region(0, 0, source.width, source.height))
        source = crop(uncropped, region)
    if read_options.takes_samples:
        from fasttile.sources.bands import take_samples

        source = take_samples(source, read_options, declares_alpha=True)
    return _to_output(source, read_options, bits, window, refuse, convert_profile)


def _to_output(
    source: Source,
    read_options: ReadOptions,
    bits: Literal[8, 16],
    window: Window,
    reopen: SourceOpener,
    convert_profile: ProfileConverter | None,
) -> Source:
    """Give bands their colours, and convert to samples of 8 or 16 bits."""
    from fasttile.sources.conversions import to_output_depth

    spec = read_options.band_spec
    if spec is not None and spec.is_coloured:
        from fasttile.sources.bands import colour_bands

        source, window = colour_bands(source, spec, window, reopen), "full"
    return to_output_depth(source, bits, window, reopen, convert_profile)


def _take_samples(
    source: Source, read_options: ReadOptions, *, declares_alpha: bool = True
) -> Source:
    """Take bands and mark missing samples, if the options say so; not for a TIFF, which does it."""
    if not read_options.takes_samples:
        return source
    from fasttile.sources.bands import take_samples

    try:
        return take_samples(source, read_options, declares_alpha=declares_alpha)
    except BaseException:
        source.close()
        raise


@contextmanager
def keep_fetched(source: object) -> Iterator[None]:
    """Fetch a URL or stream once, and keep its bytes while the context lasts.

    Other sources are not touched, nor are folders of Zarr and N5.

    Raises:
        SourceError: The URL or stream cannot be read.
    """
    spool = None
    is_array = parse_array_name(source) is not None
    if not is_array and (scheme_of(source) is not None or is_stream(source)):
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
        f"window {window!r}; expected 'auto', 'full', or two numbers (LOW, HIGH) with LOW below "
        "HIGH"
    )


def _check_bits(bits: Literal[8, 16]) -> Literal[8, 16]:
    if bits not in (8, 16):
        raise OptionError(f"bits {bits!r}; expected 8 or 16")
    return bits


def _open(source: object, raw: RawFormat | None, read_options: ReadOptions) -> Source:
    scheme = scheme_of(source)
    if scheme is not None and scheme not in URL_SCHEMES:
        from fasttile.sources.plugged import open_by_name

        if (plugged := open_by_name(source, scheme, read_options)) is not None:
            return _take_samples(plugged, read_options)
    if raw is None and (named := parse_array_name(source)) is not None:
        from fasttile.sources.zarr import open_zarr

        return open_zarr(named, read_options)
    file = _open_as_file(source)
    if file is not None:
        try:
            return _open_file(file, raw, read_options)
        except SourceError:
            if raw is not None or scheme is not None:
                raise
            from fasttile.sources.plugged import open_file_by_plugin

            if (plugged := open_file_by_plugin(source, read_options)) is None:
                raise
            return _take_samples(plugged, read_options)
    if raw is not None:
        kind = type(source).__qualname__
        raise OptionError(f"a raw format is for files, not for an object of type {kind}")
    # A caller with a PIL image has imported Pillow.
    pil = sys.modules.get("PIL.Image")
    if pil is not None and isinstance(source, pil.Image):
        from fasttile.sources.pillow import open_pil_image

        return _take_samples(open_pil_image(source, read_options), read_options)
    vips = sys.modules.get("pyvips")
    if vips is not None and isinstance(source, vips.Image):
        from fasttile.sources.vips import VipsSource

        return _take_samples(VipsSource(source), read_options)
    functions = sys.modules.get("fasttile.sources.functions")
    if functions is not None and isinstance(source, functions.DrawnImage):
        return _take_samples(functions.open_function(source), read_options)
    from fasttile.sources.arrays import is_array_object, open_array_object

    if not is_array_object(source):
        from fasttile.sources.plugged import open_object_by_plugin

        if (plugged := open_object_by_plugin(source, read_options)) is not None:
            return _take_samples(plugged, read_options)
    array = open_array_object(source, any_bands=read_options.band_spec is not None)
    return _take_samples(array, read_options, declares_alpha=False)


def _open_as_file(source: object) -> SourceFile | None:
    """Open a path, a URL, bytes or a stream as a file; None for other objects."""
    if is_bytes(source) or is_stream(source):
        return open_file_object(source)
    if not isinstance(source, str | os.PathLike):
        return None
    if isinstance(source, str) and source == STANDARD_INPUT:
        return open_standard_input()
    scheme = scheme_of(source)
    if scheme is None:
        try:
            return DiskFile(source)
        except SourceNotFoundError as error:
            raise SourceNotFoundError(f"{error}{missing_file_advice(source)}") from error
    from fasttile.sources.remote import fetch_object, open_url

    return fetch_object(str(source)) if scheme in STORE_SCHEMES else open_url(str(source))


def _open_file(file: SourceFile, raw: RawFormat | None, read_options: ReadOptions) -> Source:
    """Open the image in a file, which the source takes over."""
    try:
        head = file.head(4)
        if raw is not None:
            from fasttile.sources.arrays import open_raw

            opened = _take_samples(open_raw(file, raw), read_options, declares_alpha=False)
        elif has_slide_suffix(file.path):
            opened = _open_slide(file, read_options)
        else:
            opened = _open_by_magic(file, read_options)
        read_options.check_pixels(file.name, opened.width, opened.height)
        pages = opened.metadata.pages
        if read_options.page is None and pages > 1 and head not in TIFF_SIGNATURES:
            opened.metadata = opened.metadata.with_notes(note_on_pages(pages))
        if opened.metadata.orientation != 1:
            from fasttile.sources.transforms import apply_orientation

            opened = apply_orientation(opened)
        if file.spool is not None:
            retain(opened, file.spool)
        return opened
    except BaseException:
        file.close()
        raise


def _open_slide(file: SourceFile, read_options: ReadOptions) -> Source:
    """Open a file with the suffix of a slide."""
    from fasttile.sources.openslide import INSTALL_HINT, has_openslide, is_plain_tiff, open_slide

    if is_plain_tiff(file):
        with suppress(SourceError):
            opened = _open_mapped(file, read_options)
            if opened is not None:
                return opened
    opened = open_slide(file, read_options)
    if opened is not None:
        return _take_samples(opened, read_options)
    try:
        return _open_by_magic(file, read_options)
    except SourceError as error:
        if has_openslide():
            raise
        raise SourceError(f"{error}; {INSTALL_HINT}") from error


def _open_by_magic(file: SourceFile, read_options: ReadOptions) -> Source:
    """Open a file as the format of its first bytes, mapped if possible."""
    opened = _open_mapped(file, read_options)
    if opened is not None:
        return opened
    if file.head(4) in TIFF_SIGNATURES:
        from fasttile.sources.tiff import open_with_pillow

        return open_with_pillow(file, read_options)
    if file.head(4) == b"PK\3\4":
        from fasttile.sources.zarr import open_zarr_zip

        opened = open_zarr_zip(file, read_options)
        if opened is not None:
            return opened
    if file.head(12) == _JP2_SIGNATURE or file.head(4) == _JP2_CODESTREAM:
        from fasttile.sources.jpeg2000 import open_jpeg2000

        opened = open_jpeg2000(file, read_options)
        if opened is not None:
            return _take_samples(opened, read_options)
    from fasttile.sources.pillow import open_image_file

    return _take_samples(open_image_file(file, read_options), read_options)


def _open_mapped(file: SourceFile, read_options: ReadOptions) -> Source | None:
    """Open a file whose pixels can be mapped, a TIFF, or a PSD; None for other files."""
    head = file.head(6)
    if head.startswith(TIFF_SIGNATURES):
        from fasttile.sources.tiff import open_tiff

        return open_tiff(file, read_options)
    if head == b"\x93NUMPY":
        from fasttile.sources.rasters import open_npy

        opened: Source | None = open_npy(file, any_bands=read_options.band_spec is not None)
    elif head[:2] in (b"P5", b"P6", b"P7"):
        from fasttile.sources.rasters import open_pnm

        opened = open_pnm(file)
    elif head[:2] == b"BM":
        from fasttile.sources.rasters import open_bmp

        opened = open_bmp(file)
    elif head[:4] == b"8BPS":
        from fasttile.sources.psd import open_psd

        opened = open_psd(file, read_options)
    elif head[:4] == b"\x76\x2f\x31\x01":
        from fasttile.sources.exr import open_exr

        opened = open_exr(file, read_options)
    elif head.startswith((b"#?RADI", b"#?RGBE")):
        from fasttile.sources.radiance import open_radiance

        opened = open_radiance(file, read_options)
    else:
        return None
    if opened is None:
        return None
    return _take_samples(opened, read_options, declares_alpha=head[0] != 0x93)


def count_pages(path: str, max_pixels: int | None) -> int:
    """Number of images that a file claims to have; some of them may be missing.

    Raises:
        FasttileError: The file cannot be read, or claims more than `MAX_PAGES` images.
    """
    with open_source(path, read_options=ReadOptions(max_pixels=max_pixels, page=1)) as source:
        if source.metadata.pages > MAX_PAGES:
            raise SourceError(
                f"{source.name}: it claims {source.metadata.pages:,} images, more than "
                f"{MAX_PAGES:,}; use --page with the number of one"
            )
        return source.metadata.pages
