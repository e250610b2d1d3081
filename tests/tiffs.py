"""TIFFs as they are before any window: what open_tiff itself gives, and values to put into them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from fasttile.sources import Reading
from fasttile.sources.base import Source
from fasttile.sources.mapping import PictureFile
from fasttile.sources.tiff import open_tiff
from reading import Array, read

GREY = {256: (5,), 257: (6,), 258: (8,), 262: (1,), 277: (1,), 278: (2,)}


def opened(path: Path, **wishes: Any) -> Source:
    """The source as it is before any window, which must not be Pillow's."""
    file = PictureFile(path)
    try:
        source = open_tiff(file, Reading(**wishes))
        assert source is not None
    except BaseException:
        file.close()
        raise
    return source


def stored(path: Path, **wishes: Any) -> Array:
    with opened(path, **wishes) as source:
        return read(source)


def values(dtype: Any, *shape: int) -> Array:
    """Values of any dtype, with runs in them."""
    dtype = np.dtype(dtype)
    generator = np.random.default_rng(len(shape) + shape[0])
    if dtype.kind == "f":
        return np.round(generator.normal(0, 1e3, shape), 1).astype(dtype)
    span = np.iinfo(dtype)
    array = generator.integers(span.min, span.max, shape, dtype, endpoint=True)
    array[..., : shape[-1] // 2] = array.flat[0]
    return array


def threads() -> list[str]:
    """The names of fasttile's threads that are alive."""
    return [one.name for one in threading.enumerate() if one.name.startswith("fasttile")]
