"""What whoever opens an image has to know of a user's wishes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fasttile.errors import OptionError, SourceError


@dataclass(frozen=True)
class ReadOptions:
    """How an image is to be read.

    Attributes:
        page: Which image of several, counted from 1. None: the first, or of the levels of a
            pyramid the largest.
        max_pixels: The largest image to accept, in pixels. None: what a file of its size can
            be expected to hold.
        allow_truncated: Whether what is there of a damaged image is taken, and the rest is
            background.
        background: Red, green and blue of what is missing.
        keep_cmyk: Whether a CMYK image that has a profile stays CMYK, because whoever asks
            converts it by that profile.
    """

    page: int | None = None
    max_pixels: int | None = None
    allow_truncated: bool = False
    background: tuple[int, int, int] = (255, 255, 255)
    keep_cmyk: bool = False

    def check_pixels(
        self, name: str, width: int, height: int, likely_max: int | None = None
    ) -> None:
        """Refuse an image that claims too many pixels, before memory or disk is touched.

        Args:
            name: What messages call the image.
            width, height: What it claims.
            likely: The most pixels that a file of its size can be expected to hold; counts
                where the user has set no limit. None: no such limit is needed.

        Raises:
            SourceError: It claims more.
        """
        limit = self.max_pixels if self.max_pixels is not None else likely_max
        if limit is not None and width * height > limit:
            raise SourceError(
                f"{name}: it claims {width}×{height} = {width * height:,} pixels, more than "
                f"{'its size makes likely' if self.max_pixels is None else 'the limit'} "
                f"({limit:,}); --max-pixels {width * height} (max_pixels) would allow it"
            )


def likely_pixels(file_size: int) -> int:
    """The most pixels that a compressed file can be expected to hold.

    Deflate shrinks a blank image of four bytes a pixel 1,032 times, LZW and JPEG about as much;
    and up to 64 megapixels there is no harm in trying.
    """
    return max(2**26, 1_250 * file_size)


# What somebody says of a headerless file: its size, its bands, its samples; no numpy needed.

SYNTAX = "WIDTHxHEIGHTxBANDS[:dtype[:offset]], such as 4096x2048x3 or 4096x2048x1:>u16:512"

_PATTERN = re.compile(r"([0-9]{1,15})x([0-9]{1,15})x([0-9]{1,3})(?::([^:]+)(?::([0-9]{1,18}))?)?")
_DTYPE_PATTERN = re.compile("([<>]?)(?:(uint8|u8|u1)|uint16|u16|u2)")


@dataclass(frozen=True)
class RawFormat:
    """How the pixels of a file without a header lie: row by row, bands side by side.

    Args:
        width, height: Size in pixels, at least 1.
        bands: 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha).
        dtype: "uint8" (also u8, u1) or "uint16" (also u16, u2); before it "<" for
            little-endian, which is the default, or ">" for big-endian.
        offset: How many bytes lie before the first pixel.

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
                raise OptionError(f"raw {name} {side} is not at least 1 pixel")
        if not 1 <= self.bands <= 4:
            raise OptionError(f"{self.bands} raw bands: 1 to 4 would do")
        if self.offset < 0:
            raise OptionError(f"raw offset {self.offset} is negative")
        if _DTYPE_PATTERN.fullmatch(self.dtype) is None:
            raise OptionError(
                f"raw dtype {self.dtype!r} is neither uint8 nor uint16 (with < or > before it)"
            )

    @classmethod
    def parse(cls, text: str) -> RawFormat:
        """The format that a text of the form WIDTHxHEIGHTxBANDS[:dtype[:offset]] tells.

        Raises:
            OptionError: The text has another form, or a value is out of range.
        """
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise OptionError(f"raw format {text!r} is not of the form {SYNTAX}")
        width, height, bands, dtype, offset = match.groups()
        return cls(int(width), int(height), int(bands), dtype or "uint8", int(offset or 0))

    @property
    def numpy_dtype(self) -> str:
        """The dtype by numpy's name, with its byte order."""
        match = _DTYPE_PATTERN.fullmatch(self.dtype)
        assert match is not None  # __post_init__ has seen to it
        order, byte = match.groups()
        return f"{order or '<'}{'u1' if byte else 'u2'}"
