"""Options for reading an image: page, limits, damage, raw format."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from fasttile.errors import MissingPageError, OptionError, SourceError, did_you_mean
from fasttile.types import Background, Rgba

if TYPE_CHECKING:
    from fasttile.options.bands import BandSpec, Nodata

MAX_PAGES = 65_535
"""Most images of one file that are read, as in libtiff."""


def note_on_pages(count: int) -> str:
    """Line for the user if a file of several pages is cut and none was asked for."""
    return f"page 1 of {count:,} taken; --page all cuts each"


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading an image.

    Attributes:
        page: Number of the image in a file of several, from 1. Default: the first, or the largest
            of the levels of a pyramid.
        max_pixels: The largest image to accept, in pixels. Default: the number that a file of
            its size can be expected to hold.
        allow_truncated: True to read a damaged image as far as it decodes and fill the rest with
            the background.
        background: Red, green and blue of missing pixels.
        keep_cmyk: True if a CMYK image with a profile stays CMYK, for a caller that converts it
            by that profile.
        bands: The bands that are shown, also as the text of the option `bands`. Default: grey, or
            red, green and blue, and alpha.
        nodata: The value of missing samples; "none" ignores the value that the file states, and
            its masks. Default: as the file states.
        background_rgba: The background with alpha, for images that have alpha; others get alpha
            where pixels may be missing. Default: they are transparent, and no image gets alpha.

    Raises:
        OptionError: The text of bands is not valid.
    """

    page: int | None = None
    max_pixels: int | None = None
    allow_truncated: bool = False
    background: tuple[int, int, int] = (255, 255, 255)
    keep_cmyk: bool = False
    bands: BandSpec | str | None = None
    nodata: Nodata = None
    background_rgba: Rgba | None = None

    def __post_init__(self) -> None:
        if isinstance(self.bands, str):
            from fasttile.options.bands import BandSpec, inline_colour_file

            object.__setattr__(self, "bands", BandSpec.parse(inline_colour_file(self.bands)))

    @property
    def band_spec(self) -> BandSpec | None:
        """The bands that are shown."""
        return cast("BandSpec | None", self.bands)

    @property
    def takes_samples(self) -> bool:
        """True if bands are picked, or a value of missing samples is given."""
        return self.bands is not None or self.nodata_value is not None

    @property
    def any_background(self) -> Background:
        """The background, with its alpha if it has one."""
        return self.background if self.background_rgba is None else self.background_rgba

    @property
    def nodata_value(self) -> float | None:
        """The value of missing samples, if it is given."""
        return self.nodata if isinstance(self.nodata, int | float) else None

    def check_only_page(self, name: str, reason: str = "; it has 1") -> None:
        """Refuse a page of a file that has one image.

        Args:
            name: Name of the file in messages.
            reason: End of the message.

        Raises:
            MissingPageError: The page is not the first.
        """
        if self.page not in (None, 1):
            raise MissingPageError(f"{name} has no page {self.page}{reason}")

    def check_pixels(
        self, name: str, width: int, height: int, likely_max: int | None = None, block: str = ""
    ) -> None:
        """Refuse an image with too many pixels, before memory is allocated.

        Args:
            name: Name of the image in messages.
            width, height: Its size, or that of a block of it, as its header claims.
            likely_max: The most pixels that its file can hold (`likely_pixels`); used if
                `max_pixels` is not set. Default: no limit.
            block: What is checked, if it is a part of the image: "tile" or "strip".

        Raises:
            SourceError: The image has more pixels than the limit.
        """
        limit = self.max_pixels if self.max_pixels is not None else likely_max
        if limit is not None and width * height > limit:
            raise SourceError(
                f"{name}: it claims {f'{block}s of ' * bool(block)}{width}×{height} = "
                f"{width * height:,} pixels, more than "
                f"{'its size makes likely' if self.max_pixels is None else 'the limit'} "
                f"({limit:,}); to allow it, use --max-pixels {width * height} (max_pixels)"
            )


MIN_LIKELY_PIXELS = 2**30
"""An image of at most that number of pixels is never refused for its size alone."""

# The most bytes that a byte of compressed data can become. Each is a limit of the format:
_MAX_EXPANSION = {
    "none": 1,
    "packbits": 64,  # 128 equal bytes in 2
    "deflate": 1_032,  # 258 bytes in 2 bits: RFC 1951
    "lzw": 1_365,  # of TIFF: code k is at most k bytes, and the table is cleared after 3,837
    "gif": 2_560,  # as LZW, but the full table stays: 3,837 bytes in 12 bits
    "lzma": 7_100,  # 273 bytes in 14 bits of a range coder, each at least 0.022 bits
    "zstd": 32_768,  # a block of 128 KiB of one byte is 4 bytes: RFC 8878
}
_UNKNOWN = "zstd"  # WebP, JPEG 2000 and others have no limit; they get the highest of the others


def likely_pixels(codec: str, file_size: int, bits: int = 1, width: int = 1) -> int:
    """The most pixels that a file can hold, by its codec's own maximum.

    Args:
        codec: "none", "packbits", "deflate", "lzw", "gif", "lzma", "zstd", "jpeg", or "fax" for
            all of CCITT's, in which a blank row is one bit. Others have no maximum, and are
            taken as "zstd".
        file_size: In bytes.
        bits: Of a pixel as the codec writes it, all bands.
        width: Of a row of a fax, in pixels.

    Returns:
        The number of pixels, at least `MIN_LIKELY_PIXELS`.
    """
    if codec == "fax":
        pixels = 8 * file_size * width
    elif codec == "jpeg":
        from fasttile.formats.jpeg import MAX_JPEG_PIXELS

        pixels = MAX_JPEG_PIXELS * file_size
    else:
        pixels = 8 * max_unpacked_bytes(codec, file_size) // max(1, bits)
    return max(MIN_LIKELY_PIXELS, pixels)


def max_unpacked_bytes(codec: str, size: int) -> int:
    """The most bytes that packed bytes can become; the codecs are those of `likely_pixels`."""
    return size * _MAX_EXPANSION.get(codec, _MAX_EXPANSION[_UNKNOWN])


SYNTAX = "WIDTHxHEIGHTxBANDS[:dtype[:offset]], such as 4096x2048x3 or 4096x2048x1:>u16:512"

_PATTERN = r"([0-9]{1,15})x([0-9]{1,15})x([0-9]{1,3})(?::([^:]+)(?::([0-9]{1,18}))?)?"
_DTYPE_PATTERN = "([<>]?)(?:(uint8|u8|u1)|uint16|u16|u2)"


@dataclass(frozen=True)
class RawFormat:
    """Format of a file without a header, stored row by row, chunky.

    Args:
        width, height: Size in pixels, at least 1.
        bands: 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha).
        dtype: "uint8" (also u8, u1) or "uint16" (also u16, u2); before it "<" for
            little-endian, which is the default, or ">" for big-endian.
        offset: Number of bytes before the first pixel.

    Raises:
        OptionError: A value is out of range.

    Example:
        >>> RawFormat.parse("4096x2048x3:uint16:512")
        RawFormat(width=4096, height=2048, bands=3, dtype='uint16', offset=512)
    """

    width: int
    height: int
    bands: int
    dtype: str = "uint8"
    offset: int = 0

    def __post_init__(self) -> None:
        for name, side in (("width", self.width), ("height", self.height)):
            if side < 1:
                raise OptionError(f"raw {name} {side}; expected at least 1 pixel")
        if not 1 <= self.bands <= 4:
            raise OptionError(f"{self.bands} raw bands; expected 1 to 4")
        if self.offset < 0:
            raise OptionError(f"raw offset {self.offset} is negative; expected 0 or more bytes")
        if re.fullmatch(_DTYPE_PATTERN, self.dtype) is None:
            near = did_you_mean(self.dtype, ("uint8", "uint16"))
            raise OptionError(
                f"raw dtype {self.dtype!r}; expected uint8 or uint16, with < or > before it{near}"
            )

    @classmethod
    def parse(cls, text: str) -> RawFormat:
        """Parse a text of the form WIDTHxHEIGHTxBANDS[:dtype[:offset]].

        Raises:
            OptionError: The text has another form, or a value is out of range.
        """
        match = re.fullmatch(_PATTERN, text)
        if match is None:
            raise OptionError(f"raw format {text!r}; expected {SYNTAX}")
        width, height, bands, dtype, offset = match.groups()
        return cls(int(width), int(height), int(bands), dtype or "uint8", int(offset or 0))

    @property
    def numpy_dtype(self) -> str:
        """NumPy's name of the dtype, with the byte order."""
        match = re.fullmatch(_DTYPE_PATTERN, self.dtype)
        assert match is not None  # __post_init__ checks it
        order, byte = match.groups()
        return f"{order or '<'}{'u1' if byte else 'u2'}"
