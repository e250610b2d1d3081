"""Syntax of the options `bands` and `nodata`, and files of colours of GDAL.

A colour file has the format of `gdaldem color-relief`: a line each with a value, red, green, blue
and perhaps alpha, 0 to 255, separated by spaces, commas, tabs or colons. In place of a value, `nv`
is for missing values, and `25%` a part of the way from the smallest to the largest value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from fasttile.errors import OptionError, SourceError, did_you_mean, printable
from fasttile.options import parse_colour
from fasttile.options.values import MAX_BAND
from fasttile.storage.random_access import open_regular_file
from fasttile.types import Colour

PALETTE_NAMES = ("viridis", "magma", "inferno", "plasma", "cividis")

Nodata: TypeAlias = "int | float | Literal['none'] | None"
"""The value of missing samples; "none": no sample is missing; None: as the file states."""

MAX_TINTS = 16
MAX_COLOUR_LINES = 2_048
_MAX_FILE_BYTES = 2**18
_MAX_VALUE = 1e300  # of a colour file: differences of two do not overflow

_INLINE = re.compile(r"(\d+)=\{(.*)\}")
_SEPARATORS = re.compile(r"[\s,:]+")
# The names of gdaldem; some are other colours than those of CSS.
_NAMED_COLOURS = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "magenta": (255, 0, 255),
    "cyan": (0, 255, 255),
    "aqua": (0, 191, 191),
    "grey": (191, 191, 191),
    "gray": (191, 191, 191),
    "orange": (255, 127, 0),
    "brown": (191, 127, 63),
    "purple": (127, 0, 255),
    "violet": (127, 0, 255),
    "indigo": (0, 127, 255),
}


class ColourLine(NamedTuple):
    """A line of a colour file.

    Attributes:
        value: A value of samples; of a percentage 0 to 1; 0 for missing values.
        unit: "%" for percentages, "nv" for missing values, else "".
        colour: Red, green, blue and alpha.
    """

    value: float
    unit: str
    colour: tuple[int, int, int, int]

    def option_text(self) -> str:
        """The line as a part of the option `bands`: "0:#0000ff", "50%:#00ff0080", "nv:#ffffff"."""
        red, green, blue, alpha = self.colour
        colour = f"#{red:02x}{green:02x}{blue:02x}" + (f"{alpha:02x}" if alpha != 255 else "")
        number = {"nv": "nv", "%": f"{100 * self.value!r}%"}.get(self.unit, f"{self.value!r}")
        return f"{number.replace('.0%', '%').removesuffix('.0')}:{colour}"


@dataclass(frozen=True)
class BandSpec:
    """The bands that are shown, and their colours.

    Attributes:
        numbers: Bands of the image, from 1: one is grey, three are red, green and blue, unless
            they get other colours.
        tints: The colour of each band; their sum is shown. Default: none.
        palette: One of `PALETTE_NAMES`, for the one band. Default: none.
        table: The lines of a colour file, for the one band. Default: none.
    """

    numbers: tuple[int, ...]
    tints: tuple[Colour, ...] = ()
    palette: str = ""
    table: tuple[ColourLine, ...] = ()

    @property
    def is_coloured(self) -> bool:
        """True if the bands get colours by tints, a palette or a colour file."""
        return bool(self.tints or self.palette or self.table)

    @classmethod
    def parse(cls, text: str) -> BandSpec:
        """Parse the option `bands`, whose colour file is read already (`inline_colour_file`).

        Raises:
            OptionError: The text is not valid.

        Example:
            >>> BandSpec.parse("4,3,2").numbers
            (4, 3, 2)
            >>> BandSpec.parse("1=#00f,2=#0f0").tints
            ((0, 0, 255), (0, 255, 0))
        """
        if match := _INLINE.fullmatch(text):
            lines = [_parse_inline_line(text, part) for part in match[2].split(",")]
            return cls((_band_number(text, match[1]),), table=_checked_lines("bands", lines))
        numbers, values = _split(text)
        given = [value for value in values if value]
        if not given:
            if len(numbers) not in (1, 3):
                raise OptionError(
                    f"bands {text!r}: it names {len(numbers)} bands; expected 1 (grey) or 3 (red, "
                    "green, blue); alpha stays without a number"
                )
            return cls(numbers)
        if len(given) < len(values):
            raise OptionError(f"bands {text!r}: either all bands have a colour, or none has")
        if len(numbers) == 1 and values[0] in PALETTE_NAMES:
            return cls(numbers, palette=values[0])
        if len(numbers) > MAX_TINTS:
            raise OptionError(f"bands: {len(numbers)} bands with colours; expected {MAX_TINTS}")
        return cls(numbers, tints=tuple(_parse_tint(text, value) for value in values))


def inline_colour_file(text: str) -> str:
    """The option `bands` with the lines of a colour file in place of its path.

    So the option can be sent to other machines, and a record states the colours.

    Raises:
        OptionError: The text is not valid, or the file cannot be read or is no colour file.
    """
    path = colour_file_of(text)
    if path is None:
        return text
    number = text.partition("=")[0].strip()
    lines = read_colour_file(path)
    return f"{number}={{{','.join(line.option_text() for line in lines)}}}"


def colour_file_of(text: str) -> str | None:
    """The path of the colour file that the option `bands` names; None if it names none."""
    if _INLINE.fullmatch(text):
        return None
    _, values = _split(text)
    value = values[0].replace("\\,", ",") if len(values) == 1 else ""
    if not value or value in PALETTE_NAMES or _is_colour(value):
        return None
    return value


def read_colour_file(path: str) -> tuple[ColourLine, ...]:
    """Read a colour file.

    Raises:
        OptionError: It is missing, too long, or a line is not valid; the message has its number.
    """
    try:
        with open_regular_file(path) as file:
            data = file.read(_MAX_FILE_BYTES + 1)
        text = data.decode()
    except SourceError as error:
        names = did_you_mean(path, PALETTE_NAMES)
        known = f"expected a colour, {', '.join(PALETTE_NAMES)}, or a colour file"
        raise OptionError(f"bands: {error}; {known}{names}") from error
    except UnicodeDecodeError as error:
        raise OptionError(f"bands: {path}: it is no text; expected a colour file") from error
    if len(data) > _MAX_FILE_BYTES:
        raise OptionError(f"bands: {path}: it has more than {_MAX_FILE_BYTES:,} bytes")
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        parts = [part for part in _SEPARATORS.split(line.strip()) if part]
        if not parts or parts[0].startswith(("#", "/")):
            continue
        if parts[0] == "INTERPOLATION":  # as QGIS exports them
            if parts[1:] != ["INTERPOLATED"]:
                raise OptionError(f"bands: {path}: only INTERPOLATION:INTERPOLATED is supported")
            continue
        lines.append(_parse_file_line(f"bands: {path}: line {number}", parts))
    return _checked_lines(f"bands: {path}", lines)


def nodata_value(text: str | None) -> Nodata:
    """The value of the option `nodata`, of its text."""
    if text is None or text == "none":
        return None if text is None else "none"
    return int(text) if text.removeprefix("-").isdecimal() else float(text)


def _split(text: str) -> tuple[tuple[int, ...], list[str]]:
    """The bands, and the value after each; "" without one."""
    parts = [part.partition("=") for part in re.split(r"(?<!\\),", text)]
    if any(equals and not value.strip() for _, equals, value in parts):
        raise OptionError(f"bands {text!r}: the value after = is missing")
    numbers = tuple(_band_number(text, number) for number, _, _ in parts)
    return numbers, [value.strip() for _, _, value in parts]


def _band_number(text: str, number: str) -> int:
    if not re.fullmatch(r"\s*\d{1,5}\s*", number) or not 1 <= int(number) <= MAX_BAND:
        raise OptionError(
            f"bands {printable(text[:60])!r}: {printable(number[:20])!r} is no band; expected such "
            "as 4,3,2 or 1=#00f,2=#0f0 or 1=viridis or 1=FILE, counted from 1"
        )
    return int(number)


def _is_colour(value: str) -> bool:
    try:
        parse_colour(value)
    except OptionError:
        return value.startswith("#")  # a wrong one; its message names it
    return True


def _parse_tint(text: str, value: str) -> Colour:
    if value in PALETTE_NAMES:
        raise OptionError(f"bands {text!r}: {value} colours one band alone")
    if value.lower() in ("grey", "gray"):
        raise OptionError(f"bands {text!r}: for grey, give the band alone; for a tint, #808080")
    return parse_colour(value, "bands")


def _parse_inline_line(text: str, part: str) -> ColourLine:
    number, colon, colour = part.partition(":")
    match = re.fullmatch(r"#([0-9a-f]{6})([0-9a-f]{2})?", colour)
    if not colon or match is None:
        raise OptionError(f"bands {printable(text[:60])!r}: {printable(part[:40])!r} is no colour")
    red, green, blue = bytes.fromhex(match[1])
    alpha = 255 if match[2] is None else int(match[2], 16)
    return _make_line("bands", number, (red, green, blue, alpha))


def _parse_file_line(where: str, parts: Sequence[str]) -> ColourLine:
    if len(parts) == 8 and all(map(_is_number, parts)):
        raise OptionError(f"{where}: a palette of GMT is not supported; expected value r g b")
    named = _NAMED_COLOURS.get(parts[1].lower()) if len(parts) > 1 else None
    values = list(map(str, named)) + list(parts[2:3]) if named else list(parts[1:5])
    if len(values) == 4 and not values[3].isdecimal():
        values.pop()  # the label of a line
    is_colour = all(re.fullmatch(r"\d{1,3}", one) and int(one) <= 255 for one in values)
    if len(values) not in (3, 4) or not is_colour:
        raise OptionError(f"{where}: expected a value and red, green, blue of 0 to 255")
    red, green, blue, alpha = [*map(int, values), 255][:4]
    return _make_line(where, parts[0], (red, green, blue, alpha))


def _make_line(where: str, number: str, colour: tuple[int, int, int, int]) -> ColourLine:
    if number.lower() == "nv":
        return ColourLine(0.0, "nv", colour)
    is_percentage = len(number) > 1 and number.endswith("%")
    text = number.removesuffix("%") if is_percentage else number
    if not _is_number(text):
        raise OptionError(f"{where}: {printable(number[:40])!r} is no value; expected a number")
    value = float(text) / 100 if is_percentage else float(text)
    if math.isnan(value):
        return ColourLine(0.0, "nv", colour)
    if not abs(value) <= _MAX_VALUE or (is_percentage and not 0 <= value <= 1):
        raise OptionError(f"{where}: {printable(number[:40])} is out of range")
    return ColourLine(value, "%" if is_percentage else "", colour)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _checked_lines(where: str, lines: list[ColourLine]) -> tuple[ColourLine, ...]:
    if not any(line.unit != "nv" for line in lines):
        raise OptionError(f"{where}: it has no line of a value and red, green, blue")
    if len(lines) > MAX_COLOUR_LINES:
        raise OptionError(f"{where}: {len(lines):,} lines; expected at most {MAX_COLOUR_LINES:,}")
    return tuple(lines)
