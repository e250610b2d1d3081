"""The seam on the way in: a source knows its size and gives rows of pixels, from top to bottom."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fasttile.types import Closing, Pixels


@dataclass(frozen=True)
class Metadata:
    """What an image says of itself beside its pixels.

    Attributes:
        format: The kind of file or object, as a user would name it: "TIFF", "npy", "array".
        icc_profile: The ICC profile that was found, as bytes, or None.
        resolution: Pixels per inch, horizontal and vertical, or None.
        notes: One line each on what was done to the pixels ("palette expanded").
        stored: The pixels as the file has them, as a user would name them ("CMYK", "palette,
            4 bit"); empty where the bands and the dtype say it all.
        pages: How many images the file holds.
        page: Which one this is, counted from 1.
        orientation: EXIF's number for how the stored rows lie, 1 to 8; the source gives them
            as they are to be seen.
        way: How the pixels are read, for the user; empty where the source's attributes tell.
        remarks: Notes on what turns up only while the image is read; a list that all sources
            over each other share.
    """

    format: str
    icc_profile: bytes | None = None
    resolution: tuple[float, float] | None = None
    notes: tuple[str, ...] = field(default=())
    stored_as: str = ""
    pages: int = 1
    page: int = 1
    orientation: int = 1
    read_mode: str = ""
    warnings: list[str] = field(default_factory=list, compare=False)


SourceOpener = Callable[[], "Source"]
"""Opens an image once more, for who has to look at it before it is read in order."""


class Source(Closing, ABC):
    """An image that can be read by rows; a context manager that closes what it opened.

    Attributes:
        name: What to call it in messages: the path, or "array".
        width, height: Size in pixels, both at least 1.
        bands: 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha; or CMYK).
        dtype: uint8 or uint16 where the pixels are as tiles will have them; until then any
            whole numbers or floats. Native byte order.
        cmyk: Whether the four bands are CMYK, 255 being full ink.
        metadata: What else is known.
        mapped: Whether `rows` gives views that stay valid until `close`. Otherwise an array is
            valid until the next call only.
        any_order: Whether `rows` may be asked for any rows in any order, as always where the
            source is mapped. Otherwise they are asked for from top to bottom, none twice (some
            may be skipped).
        row_step: Where the source is not mapped, the number of rows that are cheapest to ask
            for at a time, counted from row 0 (the height of a TIFF tile, of a zarr chunk).
        held: About how many bytes the source keeps in memory while it is read.
    """

    name: str
    width: int
    height: int
    bands: int
    dtype: np.dtype[Any]
    metadata: Metadata
    is_cmyk: bool = False
    is_mapped: bool = False
    random_access: bool = False
    preferred_rows: int = 64
    memory_bytes: int = 0

    @property
    def has_alpha(self) -> bool:
        """Whether the last band is alpha."""
        return self.bands in (2, 4) and not self.is_cmyk

    @abstractmethod
    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, 0 <= y0 < y1 <= height, as an array (y1 - y0, width, bands).

        Raises:
            SourceError: The rows cannot be read.
        """

    def read(self, y0: int, out: Pixels) -> None:
        """Write the rows from y0 on into out; for sources that have to write them somewhere.

        Raises:
            SourceError: The rows cannot be read.
        """
        np.copyto(out, self.rows(y0, y0 + len(out)))

    def populate(self, view: Pixels) -> None:
        """Make sure that a view which `rows` gave can be touched. For mapped sources only.

        Raises:
            SourceError: The file has shrunk or cannot be read.
        """

    def discard(self, view: Pixels) -> None:
        """Free the memory that a view which `rows` gave takes; it may be touched again."""

    def close(self) -> None:
        """Let go of files and maps. The views that `rows` gave must not be used any more."""
