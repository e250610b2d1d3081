"""Helpers of several test modules: make_source."""

from __future__ import annotations

from typing import Any

import numpy as np

from fasttile.abc.source import Metadata, Source
from support.adversarial_sources import MappedArraySource
from support.reading import noise


def make_source(
    bands: int,
    profile: bytes | None = None,
    *,
    cmyk: bool = False,
    resolution: Any = None,
    dtype: Any = np.uint8,
) -> Source:
    """An image of which only the bands and the metadata matter."""
    image = MappedArraySource(noise(2, 2, bands, dtype=dtype))
    image.is_cmyk = cmyk
    image.metadata = Metadata("test", icc_profile=profile, resolution=resolution)
    return image
