"""Images that a function draws, region by region."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fasttile.abc.source import FUNCTION_FORMAT, Metadata, Source
from fasttile.errors import OptionError, SourceError
from fasttile.geometry import MAX_CANVAS_SIDE, Region
from fasttile.sources.conversions import ConvertedSource, Croppable, bool_to_uint8
from fasttile.types import Pixels

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

MAX_READ_PIXELS = 2**30
"""Most pixels that are read at once; rows of a function that is wider are refused."""

_CALL_PIXELS = 2**22  # most pixels of a call, where rows are read
_BLOCK_SIDE = 256


@dataclass(frozen=True)
class DrawnImage:
    """An image that a function draws, for all that takes a source; see `from_function`."""

    draw: Callable[..., Any]
    width: int
    height: int
    bands: int
    dtype: np.dtype[Any]
    per_level: bool
    name: str


def from_function(
    draw: Callable[..., Any],
    width: int,
    height: int,
    bands: int = 3,
    *,
    dtype: DTypeLike = np.uint8,
    per_level: bool = False,
    name: str | None = None,
) -> DrawnImage:
    """An image that a function draws: a source for `cut`, `iter_tiles` and `open_pyramid`.

    Args:
        draw: Called as `draw(region)`, with the `Region` of the image in pixels; returns
            its pixels as an array (height, width, bands), or (height, width) with one band. The
            same pixel has to have the same value in each region. With `per_level` it is called as
            `draw(region, scale)`, once for each tile of each level: one pixel of the level is
            `scale` × `scale` pixels of the image, and the region counts pixels of the level. In
            `cut` and `iter_tiles` the calling thread calls it, in `open_pyramid` each thread that
            makes a tile, several at the same time.
        width, height: Size in pixels, 1 to 2^40.
        bands: 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha; straight).
        dtype: Of the arrays: any integers or floats up to 64 bits, or bool. Types but uint8 are
            reduced to 8 bits by the option `window`.
        per_level: True if each level is drawn by itself, as for plots, whose lines keep their
            width. False: smaller levels are made by halving.
        name: Its name in messages. Default: that of the function.

    Raises:
        OptionError: A value cannot be used.

    Example:
        >>> def ramp(region):
        ...     x = np.arange(region.x, region.right) * 255 // 999
        ...     return np.broadcast_to(x[:, None], (region.height, region.width, 3)).astype("u1")
        >>> with fasttile.open_pyramid(from_function(ramp, 1000, 600)) as pyramid:
        ...     pyramid.level_sizes[-1], pyramid.pixels(level=10, col=3, row=0)[0, -1]
        ((1000, 600), array([255, 255, 255], dtype=uint8))
    """
    if name is None:
        name = getattr(draw, "__name__", "")
        name = name if isinstance(name, str) and name.isidentifier() else "function"
    if not callable(draw):
        raise OptionError(f"{name}: a {type(draw).__qualname__} is not a function")
    sides = []
    for label, value in (("width", width), ("height", height), ("bands", bands)):
        try:
            number = operator.index(value)
        except TypeError:
            number = 0
        most = 4 if label == "bands" else MAX_CANVAS_SIDE
        if not 1 <= number <= most:
            limit = "4" if label == "bands" else "2^40"
            raise OptionError(
                f"{name}: {label} {value!r}; expected a whole number from 1 to {limit}"
            )
        sides.append(number)
    try:
        checked = np.dtype(dtype).newbyteorder("=")
    except TypeError as error:
        raise OptionError(f"{name}: dtype {dtype!r} is none of NumPy's") from error
    if checked.kind not in "buif" or checked.itemsize > 8:
        raise OptionError(
            f"{name}: dtype {checked} is not that of an image; expected integers, floats of at "
            "most 64 bits, or bool"
        )
    return DrawnImage(draw, sides[0], sides[1], sides[2], checked, bool(per_level), name)


def open_function(image: DrawnImage) -> Source:
    """Open an image that a function draws; any number of times."""
    source = FunctionSource(image, Region(0, 0, image.width, image.height))
    if image.dtype == np.bool_:
        return ConvertedSource(source, bool_to_uint8(image.bands))
    return source


class FunctionSource(Croppable):
    """A source over a function, which each of its threads may call.

    Args:
        image: The function.
        region: The part of the image.
    """

    random_access = has_parallel_regions = True
    preferred_cols = _BLOCK_SIDE

    def __init__(self, image: DrawnImage, region: Region) -> None:
        self.name = image.name
        self.width, self.height, self.bands = region.width, region.height, image.bands
        self.dtype = image.dtype
        self.metadata = Metadata(FUNCTION_FORMAT)
        self.preferred_rows = max(16, min(_BLOCK_SIDE, _CALL_PIXELS // self.width))
        self._image = image
        self._region = region
        if image.per_level:
            self.draw_level = partial(_draw, image)

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, a new array."""
        if (y1 - y0) * self.width > MAX_READ_PIXELS:
            raise SourceError(
                f"{self.name}: rows of {self.width:,} pixels are too wide to be read at once; "
                "draw uint8 per level (per_level=True), or give the window as (LOW, HIGH)"
            )
        out = np.empty((y1 - y0, self.width, self.bands), self.dtype)
        self.read(y0, out)
        return out

    def read(self, y0: int, out: Pixels) -> None:
        """Draw the rows from y0 on into out."""
        step = max(_BLOCK_SIDE, _CALL_PIXELS // len(out))
        scale = (1,) if self._image.per_level else ()
        for x in range(0, self.width, step):
            part = Region(x, y0, min(step, self.width - x), len(out))
            drawn = _draw(self._image, part.shifted(*self._region[:2]), *scale)
            out[:, x : part.right] = drawn

    def crop(self, region: Region) -> Source:
        """A source that draws only the region."""
        return FunctionSource(self._image, region.shifted(*self._region[:2]))


def _draw(image: DrawnImage, region: Region, *scale: int) -> Pixels:
    """Call the function, and check what it returns; a new array.

    Raises:
        SourceError: The function raised an exception, or returned something else than pixels.
    """
    place = f"{tuple(region)} at scale {scale[0]}" if scale else f"{tuple(region)}"
    try:
        pixels = np.asarray(image.draw(region, *scale))
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise SourceError(
            f"{image.name}: region {place} cannot be drawn: {type(error).__name__}"
            f"{': ' * bool(reason)}{reason}; correct the function"
        ) from error
    shape = (region.height, region.width, image.bands)
    if pixels.shape != shape and not (image.bands == 1 and pixels.shape == shape[:2]):
        raise SourceError(
            f"{image.name}: the function gave the shape {pixels.shape} for region {place}; "
            f"expected {shape}"
        )
    if pixels.dtype.newbyteorder("=") != image.dtype:
        raise SourceError(
            f"{image.name}: the function gave {pixels.dtype} for region {place}; expected "
            f"{image.dtype}, or another dtype for from_function"
        )
    # A copy: the function may use its array again.
    return np.array(pixels, image.dtype, order="C").reshape(shape)
