"""Parsers of the values of single options."""

from __future__ import annotations

import re
from contextlib import suppress
from numbers import Integral, Real
from typing import Literal, cast

from fasttile.errors import OptionError, did_you_mean
from fasttile.types import Window

MAX_BAND = 65_535
"""Largest number of a band."""


def parse_page(text: str) -> int | str:
    """Parse a page number, or "all".

    Raises:
        OptionError: The text is neither.
    """
    if text == "all":
        return text
    try:
        return int(text)
    except ValueError:
        near = did_you_mean(text, ("all",))
        raise OptionError(f"{text!r} is neither a number nor all{near}") from None


def parse_nodata(value: object) -> str | None:
    """Parse a value of missing samples: a number, "nan" or "none"; None stays None.

    Raises:
        OptionError: It is none of these.

    Example:
        >>> parse_nodata(-9999.0), parse_nodata("1e3"), parse_nodata(float("nan"))
        ('-9999', '1000', 'nan')
    """
    if value is None or value == "none":
        return None if value is None else "none"
    number: int | float | None = None
    if isinstance(value, str):
        with suppress(ValueError):
            is_integer = re.fullmatch(r"[+-]?\d{1,20}", value.strip())
            number = int(value) if is_integer else float(value)
    elif not isinstance(value, bool) and isinstance(value, Real):
        number = int(value) if isinstance(value, Integral) else float(value)
    if number is None:
        near = did_you_mean(str(value), ("nan", "none"))
        raise OptionError(f"{value!r} is neither a number nor nan nor none{near}")
    if isinstance(number, float) and number.is_integer() and abs(number) < 2**53:
        number = int(number)
    return repr(number)


def parse_region(text: str) -> tuple[int, int, int, int]:
    """Parse a region: X,Y,WIDTH,HEIGHT in pixels.

    Raises:
        OptionError: The text is not four integers.
    """
    try:
        x, y, width, height = (int(number) for number in text.split(","))
    except ValueError:
        raise OptionError(f"{text!r} is not X,Y,W,H in whole pixels") from None
    return x, y, width, height


def parse_window(text: str) -> Window:
    """Parse a window: LOW,HIGH, "full" or "auto".

    Raises:
        OptionError: The text is none of them.
    """
    if text in ("full", "auto"):
        return cast('Literal["full", "auto"]', text)
    try:
        low, high = (float(number) for number in text.split(","))
    except ValueError:
        near = did_you_mean(text, ("full", "auto"))
        raise OptionError(f"{text!r} is neither LOW,HIGH nor full nor auto{near}") from None
    return low, high


MAX_LINE_CHARACTERS = 500
"""The longest title or credit line."""

_NO_TEXT = re.compile(r"[\0-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def check_text(name: str, text: object) -> None:
    """Check a title or a credit line: one line of plain text.

    Raises:
        OptionError: It is none.
    """
    if not isinstance(text, str):
        raise OptionError(f"{name} {text!r}: expected a text")
    if len(text) > MAX_LINE_CHARACTERS:
        raise OptionError(
            f"{name}: {len(text):,} characters, more than {MAX_LINE_CHARACTERS}; shorten it"
        )
    found = _NO_TEXT.search(text)
    if found is not None:
        raise OptionError(f"{name} {text!r}: {found[0]!r} is no character of a text; leave it out")
    if text.startswith("<") and text.endswith(">"):
        raise OptionError(
            f"{name} {text!r}: viewers of IIIF take a text between angle brackets for HTML; "
            "use plain text"
        )


def check_levels(levels: str) -> None:
    """Check the form of `levels`, for any image.

    Raises:
        OptionError: It is neither "one-tile" nor "one-pixel" nor "A-B".
    """
    if levels in ("one-tile", "one-pixel"):
        return
    span = re.fullmatch(r"(\d{1,3})-(\d{1,3})", levels)
    if span is None or int(span[1]) > int(span[2]):
        near = did_you_mean(levels, ("one-tile", "one-pixel"))
        raise OptionError(f"levels {levels!r} is neither A-B nor one-tile nor one-pixel{near}")
