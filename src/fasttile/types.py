"""Types that several packages share; importing this module loads no NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from typing import Any, Self

    from numpy.typing import NDArray

Pixels: TypeAlias = "NDArray[Any]"
"""Rows of pixels: shape (rows, width, bands), dtype in native byte order. The pixels of a row are
contiguous; the stride between rows may have any value, negative ones too."""

Colour = tuple[int, int, int]
"""Red, green and blue, each 0 to 255."""

Rgba = tuple[int, int, int, int]
"""Red, green, blue and alpha, each 0 to 255; the colours are not multiplied with alpha."""

Background = Colour | Rgba
"""The background of a cut: three values if it is opaque, four if it has alpha."""

Window = Literal["auto", "full"] | tuple[float, float]
"""The sample values that become black and white, or the method to choose them."""

Icc = Literal["srgb", "keep", "drop"]
"""Use of the ICC profile: convert the colours to sRGB, keep it in the tiles, or drop it."""

Shrink = Literal["mean", "linear", "nearest", "mode", "max", "min", "median"]
"""Method that reduces four pixels to one of the next smaller level."""

Container = Literal["folder", "zip", "szi", "pmtiles", "mbtiles", "tiff", "plugin"]
"""Kind of container that holds the tiles of a result."""


class Closing:
    """A context manager that calls close() at its end, also after an error."""

    def close(self) -> None:
        """Release what the object holds; a second call does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
