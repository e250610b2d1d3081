"""Helpers of several test modules: LAYOUTS, ALL_LAYOUTS, RESULT_CASES, cut_exactly …"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fasttile.jobs.cut import cut
from fasttile.layouts.iiif import Iiif2
from support.reference import Array

ADDRESS = "https://example.org/{name}"


LAYOUTS = [
    "dzi",
    "zoomify",
    "zoomify:rounding=ceil",
    "xyz",
    "xyz:centre",
    "xyz:template={quadkey}-{z}",
    "tms",
    "tilecache",
    "gsiv",
    "gsiv:centre=no",
    f"iiif2:id={ADDRESS}",
    f"iiif3:id={ADDRESS}",
]


ALL_LAYOUTS = [*LAYOUTS, "xyz:scale=2"]
"""The same, and the one that is written to files only."""


RESULT_CASES: list[tuple[str, str | None]] = [
    *(("map.dzi" if layout == "dzi" else "map", layout) for layout in ALL_LAYOUTS),
    *(("map.zip", layout) for layout in ALL_LAYOUTS),
    ("map.szi", None),
    ("map.pmtiles", None),
    ("map.pmtiles", "xyz:centre"),
    ("map.mbtiles", None),
    ("map.mbtiles", "xyz:centre"),
    ("map.tif", None),
]


def cut_exactly(place: Path, layout: str | None, pixels: Array, **options: Any) -> Path:
    """A result whose tiles are as the pixels were."""
    exact = "deflate" if place.suffix == ".tif" else "png"
    words = {"layout": layout, "format": exact, "tile_size": 32, "threads": 2, **options}
    with any_format_in_iiif2():
        return cut(pixels, place, **words).path


@contextmanager
def any_format_in_iiif2() -> Iterator[None]:
    """Let IIIF 2 have tiles of any format, as results of earlier versions have; they are read."""
    with patch.object(Iiif2, "check_extension", lambda extension: None):
        yield
