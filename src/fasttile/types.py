"""Type aliases that several packages share; NumPy is imported by type checkers only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

Pixels: TypeAlias = "NDArray[Any]"
"""Rows of pixels: shape (rows, width, bands), dtype in native byte order. The pixels of a row are
contiguous; the stride between rows may have any value, negative ones too."""

Colour = tuple[int, int, int]
"""Red, green and blue, each 0 to 255."""

Window = Literal["auto", "full"] | tuple[float, float]
"""The sample values that become black and white, or how to find them."""

Icc = Literal["srgb", "keep", "drop"]
"""What becomes of an image's ICC profile."""

Shrink = Literal["mean", "nearest", "mode"]
"""How four pixels become one of the smaller level."""
