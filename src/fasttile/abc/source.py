"""The interface of sources: images that are read by rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fasttile.geometry import Region
from fasttile.types import Closing, Pixels

if TYPE_CHECKING:
    from fasttile.formats.geotiff import GeoReference


class WarningLog(list[str]):
    """Notes on problems that appear only while an image is read.

    One log belongs to one open image: the metadata of all sources over each other refer to the
    same log, so that the outermost source shows what the innermost one adds.
    """

    def add(self, note: str, previous: str = "") -> None:
        """Append a note that replaces a previous one, if there is one."""
        self[:] = [*(other for other in self if other != previous), note]


@dataclass(frozen=True)
class Metadata:
    """Properties of an image beside its pixels.

    Attributes:
        format: The kind of file or object, as a user names it: "TIFF", "npy", "array".
        icc_profile: The ICC profile as bytes, or None.
        resolution: Pixels per inch, horizontal and vertical, or None.
        notes: One line for each change of the pixels ("palette expanded").
        stored_as: The form of the stored pixels, as a user names it ("CMYK", "palette, 4 bit");
            empty if the bands and the dtype describe it.
        pages: Number of images in the file.
        page: Number of this one, from 1.
        orientation: EXIF's orientation of the stored rows, 1 to 8; the source returns the rows as
            they are to be displayed.
        sample_bits: Bits of a sample if the file says that they are fewer than those of the dtype:
            12 for values up to 4095 in uint16; else 0.
        read_mode: How the pixels are read, for the user; empty if the attributes of the source
            describe it.
        members: Number of images if it is a mosaic; else 0.
        georeference: Place of the pixels on a map, of a GeoTIFF; or None.
        window: The values that the format means by black and white, of floats without a limit;
            the window "auto" takes them. None: their dtype, or their values say it.
        has_missing: True if alpha shows which samples are missing (docs/BANDS.md).
        is_measured: True if the bands are measurements in place of colours, so that the window
            "auto" inspects their values.
        warnings: Problems that appear only while the image is read; copies of the metadata made
            with `with_notes` or `dataclasses.replace` share the log.
    """

    format: str
    icc_profile: bytes | None = None
    resolution: tuple[float, float] | None = None
    notes: tuple[str, ...] = field(default=())
    stored_as: str = ""
    pages: int = 1
    page: int = 1
    orientation: int = 1
    sample_bits: int = 0
    read_mode: str = ""
    members: int = 0
    georeference: GeoReference | None = None
    window: tuple[float, float] | None = None
    has_missing: bool = False
    is_measured: bool = False
    warnings: WarningLog = field(default_factory=WarningLog, compare=False)

    @property
    def has_cmyk_profile(self) -> bool:
        """True if the profile is for CMYK, by its header (ICC.1:2022, 7.2.6)."""
        return (self.icc_profile or b"")[16:20] == b"CMYK"

    def without_values(self) -> Metadata:
        """The same metadata of an image with other values of its samples."""
        if self.georeference is None:
            return self
        return replace(self, georeference=self.georeference.without_values())

    def with_notes(self, *notes: str | None) -> Metadata:
        """The same metadata with further notes, except those that are None."""
        added = tuple(note for note in notes if note is not None)
        return replace(self, notes=self.notes + added) if added else self


class RowLender(Protocol):
    """Lends rows of an image, without a copy, for as long as they are needed.

    Attributes:
        bands: That of the image; or 4 for RGB of 8 bits with 255 after each pixel.
    """

    bands: int

    def lend(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, shape (rows, width, bands), valid until they are given back.

        No request begins above the beginning of the one before. One thread calls it.

        Args:
            y0, y1: 0 <= y0 < y1 <= height.

        Raises:
            SourceError: The rows cannot be read; they are not to be given back.
        """

    def give_back(self, y0: int) -> None:
        """Give the rows of a request back. Any thread may; it takes no lock.

        Args:
            y0: The first row of the request.
        """


FUNCTION_FORMAT = "function"
"""The `Metadata.format` of an image that a function draws."""

LevelDrawer = Callable[["Region", int], "Pixels"]
"""Draws a region of a level, in pixels of the level, each of which is a number of pixels of the
image wide; a new array (height, width, bands)."""

SourceOpener = Callable[[], "Source"]
"""Opens an image a second time, to inspect its values before it is read in order."""


class Source(Closing, ABC):
    """An image that is read by rows; a context manager that closes its file.

    Attributes:
        name: Name in messages: the path, or "array".
        width, height: Size in pixels, both at least 1.
        bands: 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha; or CMYK); before the conversion
            to tiles also 5 (CMYK, alpha), or `channels` and perhaps alpha.
        dtype: uint8 or uint16 if the samples are those of the tiles; before the conversion to
            them any integers or floats. Native byte order.
        metadata: Other properties of the image.
        is_cmyk: True if the first four bands are CMYK, with the largest value for full ink.
        channels: Number of bands that are neither grey nor colours yet; alpha may follow them. 0 if
            they are.
        is_mapped: True if the arrays that `rows` returns are views that stay valid until
            `close`. Otherwise an array is valid until the next call.
        random_access: True if rows may be requested in any order, as always if the source is
            mapped. Otherwise they are requested from top to bottom, none twice; some may be
            skipped.
        preferred_rows: If the source is not mapped, the cheapest number of rows per request,
            counted from row 0 (the height of a TIFF tile or of a zarr chunk).
        preferred_cols: The same for the columns of a region, where `crop` saves the work for all
            others; 0 if any number is as cheap.
        has_parallel_regions: True if `crop` may be called again and again, for any regions,
            and the sources that it returns may be read at the same time, each by its own thread.
        memory_bytes: Bytes that the source keeps in memory while it is read, about.
        draw_level: Draws each level by itself, where smaller levels are not made by halving; many
            threads may call it at the same time. None: they are.
    """

    name: str
    width: int
    height: int
    bands: int
    dtype: np.dtype[Any]
    metadata: Metadata
    channels: int = 0
    is_cmyk: bool = False
    is_mapped: bool = False
    random_access: bool = False
    preferred_rows: int = 64
    preferred_cols: int = 0
    has_parallel_regions: bool = False
    memory_bytes: int = 0
    draw_level: LevelDrawer | None = None

    @property
    def has_alpha(self) -> bool:
        """True if the last band is alpha."""
        if self.channels:
            return self.bands > self.channels
        return self.bands in (2, 5) or (self.bands == 4 and not self.is_cmyk)

    @abstractmethod
    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1 as an array of shape (y1 - y0, width, bands).

        Args:
            y0, y1: 0 <= y0 < y1 <= height.

        Raises:
            SourceError: The rows cannot be read.
        """

    def read(self, y0: int, out: Pixels) -> None:
        """Write the rows from y0 on into out, shape (rows, width, bands).

        Raises:
            SourceError: The rows cannot be read.
        """
        np.copyto(out, self.rows(y0, y0 + len(out)))

    def lender(self) -> RowLender | None:
        """Lender of the rows from top to bottom, each once or more, in place of `rows`.

        Returns:
            None: Rows have to be copied.
        """
        return None

    def populate(self, view: Pixels) -> None:
        """Load the memory under a view of a mapped source.

        Raises:
            SourceError: The file has shrunk or cannot be read.
        """

    def discard(self, view: Pixels) -> None:
        """Free the memory under a view; an access loads it again.

        Raises:
            TruncatedError: As `check_intact`.
        """

    def check_intact(self) -> None:
        """Check that what was read so far are pixels of the image.

        A mapped file that is cut short reads as zeros, where `guard_mapped_files` is in force or
        the last page is cut off. Called after the last read, and before results are published.

        Raises:
            TruncatedError: A part of the file is lost.
        """

    def close(self) -> None:
        """Close files and maps; the views of the rows are invalid then."""


class Wrapper(Source):
    """A source over another one, which it closes.

    It has all attributes of the base; a subclass then sets those that differ.
    """

    def __init__(self, base: Source) -> None:
        for attribute in Source.__annotations__:
            setattr(self, attribute, getattr(base, attribute))
        self._base = base

    def check_intact(self) -> None:
        """Check the base."""
        self._base.check_intact()

    def close(self) -> None:
        """Close the base."""
        self._base.close()


class BufferedWrapper(Wrapper):
    """A wrapper that writes its rows into a buffer, which it reuses.

    A subclass implements `read`.
    """

    def __init__(self, base: Source) -> None:
        super().__init__(base)
        self.is_mapped = False
        self._buffer: Pixels = np.empty(0)

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1; valid until the next call."""
        if len(self._buffer) < y1 - y0:
            self._buffer = np.empty((y1 - y0, self.width, self.bands), self.dtype)
        out = self._buffer[: y1 - y0]
        self.read(y0, out)
        return out

    @abstractmethod
    def read(self, y0: int, out: Pixels) -> None:
        """Write the rows from y0 on into out, shape (rows, width, bands)."""
