"""Whole-slide images of microscopes' makers, read by OpenSlide: an extra, fasttile[slides].

Of a slide the largest level is read, line by line of its own tiles, on the background colour that
it names, as OpenSlide's DeepZoomGenerator does.
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

_REGION_PIXELS = 2**18  # pixels; about so many are asked for at a time
_MAX_THREADS = 8
_CACHE_BYTES = 2**25  # bytes; what OpenSlide keeps of decoded tiles
_DEFAULT_TILE_SIDE = 256  # pixels; the side of tiles that a slide does not tell
_MICROMETRES_PER_INCH = 25_400  # in an inch


def is_plain_tiff(file: SourceFile) -> bool:
    """Whether a slide is read as any TIFF is, if it can: the same pixels in an eighth of the time.

    This holds for Aperio's. Others look like a TIFF, but their tiles overlap, or are parts of
    several images, or their offsets have more bits than a TIFF's.
    """
    return file.name.lower().endswith(".svs")


def has_openslide() -> bool:
    """Whether OpenSlide is there, the package and the library that it needs."""
    try:
        import openslide  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


def open_slide(file: SourceFile, read_options: ReadOptions) -> Source | None:
    """A source over the largest level of a slide, which takes the file over.

    It is None if OpenSlide is not there or does not know the file.

    Args:
        file: With a path, because other files may have to lie beside it.
        reading: The background where the slide names none, and the page, which must be 1.

    Raises:
        SourceError: It is damaged.
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
        level: The slide's largest level.
        name, metadata: As in `Source`.
        region: The part of it to read.
    """

    def __init__(
        self, slide_array: _SlideArray, name: str, metadata: Metadata, region: Region | None = None
    ) -> None:
        super().__init__(slide_array, name, region)
        self.metadata = metadata
        # OpenSlide's pixels take four bytes, and are there up to four times while they are laid.
        pieces = (
            slide_array.threads
            * 16
            * max(_REGION_PIXELS, self.preferred_rows * slide_array.chunks[1])
        )
        self.memory_bytes = self.preferred_rows * self.width * self.bands + pieces + _CACHE_BYTES
        self._slide_array = slide_array

    def crop(self, region: Region) -> Source:
        """Reads the region's tiles only."""
        x, y = self._region.x + region.x, self._region.y + region.y
        inner = Region(x, y, region.width, region.height)
        return SlideSource(self._slide_array, self.name, self.metadata, inner)

    def close(self) -> None:
        """Close the slide."""
        super().close()
        self._slide_array.close()


class _SlideArray:
    """The largest level of a slide as something that slices like an array (height, width, 3).

    Attributes:
        slide: The slide.
        shape, dtype, chunks: As those of an array.
        threads: How many read at a time.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, slide: OpenSlide, background: tuple[int, int, int]) -> None:
        self.slide = slide
        width, height = slide.dimensions
        self.shape = (height, width, 3)
        self._tile_width, tile_height = (_tile_side(slide, side) for side in ("width", "height"))
        self.chunks = (tile_height, self._tile_width, 3)
        self._background = np.array(background, np.uint16)
        # The threads begin with the work; each decodes outside the interpreter's lock.
        self.threads = min(_MAX_THREADS, cpu_count())
        self._pool = ThreadPoolExecutor(self.threads, "fasttile-slide")

    def __getitem__(self, index: tuple[slice, slice]) -> NDArray[np.uint8]:
        """Rows and columns, in pieces of whole tiles where the slice is."""
        (top, bottom), (left, right) = ((axis.start, axis.stop) for axis in index)
        out = np.empty((bottom - top, right - left, 3), np.uint8)
        width = self._tile_width
        step = max(1, _REGION_PIXELS // ((bottom - top) * width)) * width

        def read(x: int) -> None:
            start, end = max(left, x), min(right, x + step)
            piece = self.slide.read_region((start, top), 0, (end - start, bottom - top))
            self._composite(piece, out[:, start - left : end - left])

        for _ in self._pool.map(read, range(left - left % width, right, step)):
            pass  # what went wrong is raised here
        return out

    def close(self) -> None:
        """End the threads, and close the slide."""
        self._pool.shutdown(cancel_futures=True)
        self.slide.close()

    def _composite(self, image: Image, out: NDArray[np.uint8]) -> None:
        """RGBA, straight, on the background; where there is any alpha, rounded as Pillow does."""
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

    if read_options.page not in (None, 1):
        raise SourceError(
            f"{name} has no page {read_options.page}: a slide has one, its largest level"
        )
    with suppress(openslide.OpenSlideVersionError):  # before 4.0 it keeps as much by itself
        slide.set_cache(openslide.OpenSlideCache(_CACHE_BYTES))
    properties = slide.properties
    width, height = slide.dimensions
    read_options.check_pixels(name, width, height)
    vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "")
    # The profile comes with each piece that is read; it needs no colour engine.
    profile: Any = slide.read_region((0, 0), 0, (1, 1)).info.get("icc_profile")
    metadata = Metadata(
        f"OpenSlide {vendor}".strip(),
        icc_profile=profile or None,
        resolution=_slide_resolution(slide),
    )
    colour = properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR)
    background = read_options.background
    with suppress(ValueError):
        if colour is not None and len(colour) == 6:
            red, green, blue = bytes.fromhex(colour)
            background = (red, green, blue)
    return SlideSource(_SlideArray(slide, background), name, metadata)


def _tile_side(slide: OpenSlide, side: str) -> int:
    text = slide.properties.get(f"openslide.level[0].tile-{side}", "")
    return int(text) if text.isdecimal() and int(text) > 0 else _DEFAULT_TILE_SIDE


def _slide_resolution(slide: OpenSlide) -> tuple[float, float] | None:
    """Pixels per inch, from micrometres per pixel."""
    import openslide

    names = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
    try:
        x, y = (_MICROMETRES_PER_INCH / float(slide.properties[name]) for name in names)
    except (KeyError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if math.isfinite(x) and math.isfinite(y) and x > 0 and y > 0 else None
