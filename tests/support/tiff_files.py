"""TIFFs as they are before any window: what open_tiff itself gives, and values to put into them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from fasttile.abc.source import Source
from fasttile.options.read import ReadOptions
from fasttile.sources.tiff import open_tiff
from fasttile.storage.random_access import DiskFile
from support.reading import Array, read_checked

GREY_TAGS = {256: (5,), 257: (6,), 258: (8,), 262: (1,), 277: (1,), 278: (2,)}


def open_unwindowed(path: Path, **options: Any) -> Source:
    """The source as it is before any window, which must not be Pillow's."""
    file = DiskFile(path)
    try:
        source = open_tiff(file, ReadOptions(**options))
        assert source is not None
    except BaseException:
        file.close()
        raise
    return source


def read_unwindowed(path: Path, **options: Any) -> Array:
    with open_unwindowed(path, **options) as source:
        return read_checked(source)


def make_values(dtype: Any, *shape: int) -> Array:
    """Values of any dtype, with runs in them."""
    dtype = np.dtype(dtype)
    generator = np.random.default_rng(len(shape) + shape[0])
    if dtype.kind == "f":
        return np.round(generator.normal(0, 1e3, shape), 1).astype(dtype)
    span = np.iinfo(dtype)
    array = generator.integers(span.min, span.max, shape, dtype, endpoint=True)
    array[..., : shape[-1] // 2] = array.flat[0]
    return array


def live_fasttile_threads() -> list[str]:
    """The names of fasttile's threads that are alive."""
    return [one.name for one in threading.enumerate() if one.name.startswith("fasttile")]
