"""Whole-slide images, read by OpenSlide; needs the extra fasttile[slides].

The source is the largest level of a slide, read line by line of its tiles, on the background
colour of the slide, as in OpenSlide's DeepZoomGenerator.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fasttile.abc.source import Metadata, Source
from fasttile.errors import SourceError
from fasttile.geometry import Region
from fasttile.options.read import ReadOptions
from fasttile.sources.arrays import SlicedSource
from fasttile.storage.random_access import SourceFile
from fasttile.storage.system import cpu_count

if TYPE_CHECKING:
    from openslide import OpenSlide
    from PIL.Image import Image

INSTALL_HINT = "whole-slide images are read with OpenSlide: pip install fasttile[slides]"

_REGION_PIXELS = 2**18  # per request, about
_MAX_THREADS = 8
_CACHE_BYTES = 2**25  # of decoded tiles that OpenSlide keeps
_DEFAULT_TILE_SIDE = 256  # pixels; for slides that do not report it
_MICROMETRES_PER_INCH = 25_400


def is_plain_tiff(file: SourceFile) -> bool:
    """True if a slide is a plain TIFF.

    It is read eight times faster without OpenSlide. Aperio's slides are plain; others look
    like a TIFF, but their tiles overlap or are parts of several images, or their offsets have more
    bits than those of a TIFF.
    """
    return file.name.lower().endswith(".svs")


def has_openslide() -> bool:
    """True if the package OpenSlide and its C library are installed."""
    try:
        import openslide  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


def open_slide(file: SourceFile, read_options: ReadOptions) -> Source | None:
    """Open the largest level of a slide; the source takes over the file.

    The result is None if OpenSlide is not installed or does not support the file.

    Args:
        file: A file with a path: slides may have further files beside it.
        read_options: The background of slides without one, and the page, which must be 1.

    Raises:
        SourceError: The slide is damaged.
    """
    if file.path is None or not has_openslide():
        return None
    import openslide

    try:
        slide = openslide.OpenSlide(file.path)
    except openslide.OpenSlideUnsupportedFormatError:
        return None
    except openslide.OpenSlideError as error:
        raise SourceError(f"{file.name}: broken slide: {error}") from error
    try:
        source = _open_largest_level(slide, file.name, read_options)
    except openslide.OpenSlideError as error:
        slide.close()
        raise SourceError(f"{file.name}: broken slide: {error}") from error
    except BaseException:
        slide.close()
        raise
    file.close()
    return source


class SlideSource(SlicedSource):
    """A source over a slide, which it closes.

    Args:
        slide_array: The largest level of the slide.
        name, metadata: As in `Source`.
        region: The part of the level to read. Default: all.
    """

    def __init__(
        self, slide_array: _SlideArray, name: str, metadata: Metadata, region: Region | None = None
    ) -> None:
        super().__init__(slide_array, name, region)
        self.metadata = metadata
        # A pixel of OpenSlide has four bytes, and up to four copies while it is composited.
        piece_pixels = max(_REGION_PIXELS, self.preferred_rows * slide_array.chunks[1])
        line_bytes = self.preferred_rows * self.width * self.bands
        self.memory_bytes = line_bytes + slide_array.threads * 16 * piece_pixels + _CACHE_BYTES
        self.has_parallel_regions = True
        self._slide_array = slide_array

    def crop(self, region: Region) -> Source:
        """A source that reads only the tiles of the region."""
        inner = region.shifted(*self._region[:2])
        return SlideSource(self._slide_array, self.name, self.metadata, inner)

    def close(self) -> None:
        """Close the slide."""
        super().close()
        self._slide_array.close()


class _SlideArray:
    """The largest level of a slide, with shape, dtype and slices.

    Attributes:
        slide: The slide.
        shape, dtype, chunks: As those of a zarr array.
        threads: Number of threads that read at a time.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, slide: OpenSlide, background: tuple[int, int, int]) -> None:
        self.slide = slide
        width, height = slide.dimensions
        self.shape = (height, width, 3)
        self._tile_width, tile_height = (
            int(text) if text.isdecimal() and int(text) > 0 else _DEFAULT_TILE_SIDE
            for side in ("width", "height")
            for text in (slide.properties.get(f"openslide.level[0].tile-{side}", ""),)
        )
        self.chunks = (tile_height, self._tile_width, 3)
        self._background = np.array(background, np.uint16)
        # The threads start with the first request; OpenSlide decodes without the GIL.
        self.threads = min(_MAX_THREADS, cpu_count())
        self._pool = ThreadPoolExecutor(self.threads, "fasttile-slide")

    def __getitem__(self, index: tuple[slice, slice]) -> NDArray[np.uint8]:
        """Rows and columns, read in pieces of complete tiles."""
        (top, bottom), (left, right) = ((axis.start, axis.stop) for axis in index)
        out = np.empty((bottom - top, right - left, 3), np.uint8)
        width = self._tile_width
        step = max(1, _REGION_PIXELS // ((bottom - top) * width)) * width

        def read(x: int) -> None:
            start, end = max(left, x), min(right, x + step)
            piece = self.slide.read_region((start, top), 0, (end - start, bottom - top))
            self._composite(piece, out[:, start - left : end - left])

        for _ in self._pool.map(read, range(left - left % width, right, step)):
            pass  # raises the exceptions of the threads
        return out

    def close(self) -> None:
        """End the threads, and close the slide."""
        self._pool.shutdown(cancel_futures=True)
        self.slide.close()

    def _composite(self, image: Image, out: NDArray[np.uint8]) -> None:
        """Composite straight RGBA on the background, with the rounding of Pillow."""
        out[...] = np.asarray(image.convert("RGB"))
        if image.getchannel("A").getextrema() == (255, 255):
            return
        pixels = np.asarray(image)
        seen_through = pixels[..., 3] < 255
        some = pixels[seen_through].astype(np.uint16)
        alpha = some[:, 3:]
        mixed = some[:, :3] * alpha + self._background * (255 - alpha) + 128  # of 65,153 at most
        out[seen_through] = (mixed + (mixed >> 8)) >> 8


def _open_largest_level(slide: OpenSlide, name: str, read_options: ReadOptions) -> SlideSource:
    import openslide

    read_options.check_only_page(name, "; a slide has one, its largest level")
    with suppress(openslide.OpenSlideVersionError):  # before 4.0 its cache has this size
        slide.set_cache(openslide.OpenSlideCache(_CACHE_BYTES))
    properties = slide.properties
    width, height = slide.dimensions
    read_options.check_pixels(name, width, height)
    resolution = None
    sizes = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)  # in micrometres
    with suppress(KeyError, ValueError, ZeroDivisionError):
        x, y = (_MICROMETRES_PER_INCH / float(properties[size]) for size in sizes)
        if math.isfinite(x) and math.isfinite(y) and x > 0 and y > 0:
            resolution = (x, y)
    vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "")
    # Each region that is read has the profile; `slide.color_profile` needs LittleCMS.
    profile: Any = slide.read_region((0, 0), 0, (1, 1)).info.get("icc_profile")
    metadata = Metadata(
        f"OpenSlide {vendor}".strip(),
        icc_profile=profile or None,
        resolution=resolution,
    )
    colour = properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR)
    background = read_options.background
    with suppress(ValueError):
        if colour is not None and len(colour) == 6:
            red, green, blue = bytes.fromhex(colour)
            background = (red, green, blue)
    return SlideSource(_SlideArray(slide, background), name, metadata)
