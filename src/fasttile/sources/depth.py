"""The samples that tiles will have: 8 bit, through a window of the values, or 16-bit grey."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..errors import OptionError
from .base import Source
from .convert import Converted
from .pixels import looked_up, ramp

Window = tuple[float, float] | Literal["full"]
"""The lowest and the highest value that can be told apart in the tiles, or "full"."""


def in_bits(source: Source, bits: Literal[8, 16], window: Window) -> Source:
    """The source with samples of 8 or 16 bit, the window's values stretched over their range.

    It is the source itself where no sample has to change. Alpha is never windowed: its full
    range becomes the full range.

    Raises:
        OptionError: 16 bits are wanted of a picture that is not 16-bit grey.
    """
    if bits == 16 and (source.bands != 1 or source.dtype != np.uint16):
        raise OptionError(
            f"{source.name} has {source.bands} × {source.dtype.name}: tiles of 16 bits are for "
            "16-bit grey pictures, which is what PNG through Pillow can carry; use 8 bits"
        )
    dtype = np.dtype(np.uint16 if bits == 16 else np.uint8)
    top = int(np.iinfo(source.dtype).max)
    low, high = (0, top) if window == "full" else window
    if source.dtype == dtype and (low, high) == (0, top):
        return source
    colour = ramp(low, high, top + 1, dtype)
    alpha = ramp(0, top, top + 1, dtype) if source.alpha and window != "full" else None
    return Converted(source, looked_up(source.bands, colour, alpha))
