"""What somebody says of a headerless file: its size, its bands, its samples; no numpy needed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import OptionError

FORM = "WIDTHxHEIGHTxBANDS[:dtype[:offset]], such as 4096x2048x3 or 4096x2048x1:>u16:512"

_TEXT = re.compile(r"([0-9]{1,15})x([0-9]{1,15})x([0-9]{1,3})(?::([^:]+)(?::([0-9]{1,18}))?)?")
_DTYPE = re.compile("([<>]?)(?:(uint8|u8|u1)|uint16|u16|u2)")


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
        if _DTYPE.fullmatch(self.dtype) is None:
            raise OptionError(
                f"raw dtype {self.dtype!r} is neither uint8 nor uint16 (with < or > before it)"
            )

    @classmethod
    def parse(cls, text: str) -> RawFormat:
        """The format that a text of the form WIDTHxHEIGHTxBANDS[:dtype[:offset]] tells.

        Raises:
            OptionError: The text has another form, or a value is out of range.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise OptionError(f"raw format {text!r} is not of the form {FORM}")
        width, height, bands, dtype, offset = match.groups()
        return cls(int(width), int(height), int(bands), dtype or "uint8", int(offset or 0))

    @property
    def sample(self) -> str:
        """The dtype by numpy's name, with its byte order."""
        match = _DTYPE.fullmatch(self.dtype)
        assert match is not None  # __post_init__ has seen to it
        order, byte = match.groups()
        return f"{order or '<'}{'u1' if byte else 'u2'}"
