"""Objects of other libraries that hold pixels: what they offer, and which way is the cheapest."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import SourceError
from .base import Source
from .raster import open_array
from .sliced import open_sliced


def open_object(source: object) -> Source:
    """A source over an array, or over anything that gives one or slices like one.

    Raises:
        SourceError: It is nothing of the kind, or no picture.
    """
    kind = type(source).__qualname__
    if isinstance(source, np.ndarray):
        return open_array(source)
    if hasattr(source, "__array_interface__"):
        return open_array(np.asarray(source), kind, kind)
    if hasattr(source, "__dlpack__"):
        return open_array(_from_dlpack(source, kind), kind, kind)
    if all(hasattr(source, name) for name in ("shape", "dtype", "__getitem__")):
        return open_sliced(source, kind)
    raise SourceError(
        f"an object of type {kind} is not a picture: a path, an array, what slices like an "
        "array, or a PIL image would do"
    )


def _from_dlpack(source: Any, kind: str) -> np.ndarray[Any, Any]:
    try:
        return np.from_dlpack(source)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise SourceError(
            f"{kind}: its pixels cannot be shared ({error}); they must lie in the processor's "
            "memory, not in a graphics card's"
        ) from error
