"""Options of cuts and of reading; parsers of parameters, `name:parameter=value,…`, and colours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import Field
from typing import Any, Protocol

from fasttile.errors import OptionError, did_you_mean, nearest_name
from fasttile.types import Background, Colour


class OptionObject(Protocol):
    """An object that may be given in place of a text: a codec, or a layout with its parameters."""

    def option_text(self) -> str:
        """The option as text."""


_BOOLEANS = {None: True, "yes": True, "true": True, "no": False, "false": False}


def parse_parameters(
    owner: str, text: str, known: Mapping[str, str], refused: Mapping[str, str] | None = None
) -> dict[str, Any]:
    r"""Parse the parameters of a format or a layout.

    Args:
        owner: Name of the format or layout, for messages.
        text: `field=value`, or `field` alone to switch it on, separated by commas; a comma in a
            value is written as `\,`.
        known: The fields that the owner has, each with its type's annotation: bool, int, float,
            text, or "bool | str", which is a text unless it is a word for on or off.
        refused: Reason and advice for fields that other programs have.

    Raises:
        OptionError: The owner has no such parameter, or a value is invalid.

    Example:
        >>> known = {"progressive": "bool", "quality": "int"}
        >>> parse_parameters("jpeg", "progressive,quality=9", known)
        {'progressive': True, 'quality': 9}
    """
    values: dict[str, Any] = {}
    for parameter in filter(None, re.split(r"(?<!\\),", text)):
        field, equals, value = parameter.replace("\\,", ",").partition("=")
        if refused and field in refused:
            raise OptionError(f"{owner} has no parameter {field!r}: {refused[field]}")
        if field not in known:
            raise unknown_parameter_error(owner, field, known)
        if known[field] == "bool":
            flag = value if equals else None
            if flag not in _BOOLEANS:
                raise OptionError(f"{owner}:{field}={flag} is neither yes nor no")
            values[field] = _BOOLEANS[flag]
        elif known[field].startswith("int"):
            try:
                values[field] = int(value)
            except ValueError:
                raise OptionError(f"{owner}:{field}={value} is not a whole number") from None
        elif known[field].startswith("float"):
            try:
                values[field] = float(value)
            except ValueError:
                raise OptionError(f"{owner}:{field}={value} is not a number") from None
        elif known[field] == "bool | str":
            values[field] = _BOOLEANS.get(value if equals else None, value)
        else:
            values[field] = value
    return values


def parameter_types(parameters: Iterable[Field[Any]]) -> dict[str, str]:
    """Name and type, as source text, of the fields of a codec or layout."""
    return {
        one.name: one.type if isinstance(one.type, str) else getattr(one.type, "__name__", "str")
        for one in parameters
    }


def format_parameters(owner: str, values: Mapping[str, Any]) -> str:
    """The text that `parse_parameters` reads these values from, after the owner's name.

    Args:
        owner: Name of the format or layout.
        values: Value of each parameter; those that are None are left out.

    Example:
        >>> format_parameters("jpeg", {"quality": 9, "progressive": True, "subsampling": None})
        'jpeg:quality=9,progressive=yes'
    """
    texts = {True: "yes", False: "no"}
    parts = []
    for field, value in values.items():
        if value is not None:
            text = texts[value] if isinstance(value, bool) else str(value)
            parts.append(f"{field}={text}".replace(",", "\\,"))
    return f"{owner}:{','.join(parts)}" if parts else owner


def parse_colour(text: str, option: str = "background") -> Colour:
    """Red, green and blue of an opaque colour, as `parse_background` reads it.

    Args:
        text: The colour.
        option: Name of the option, for messages.

    Raises:
        OptionError: It is no colour, or has alpha.
    """
    red, green, blue, *alpha = parse_background(text, option)
    if alpha:
        raise OptionError(
            f"{option} {text!r} has alpha, which is not possible here; use an opaque colour, "
            "such as white or #rrggbb"
        )
    return red, green, blue


def parse_background(text: str, option: str = "background") -> Background:
    """Red, green and blue of a colour, and alpha if it is not opaque.

    Args:
        text: "transparent", or a colour as Pillow's ImageColor reads it: "white", "#1e90ff",
            "#1e90ff80" …
        option: Name of the option, for messages.

    Raises:
        OptionError: It is no colour.

    Example:
        >>> parse_background("white"), parse_background("#ff000080")
        ((255, 255, 255), (255, 0, 0, 128))
        >>> parse_background("transparent")
        (0, 0, 0, 0)
    """
    from PIL import ImageColor  # it takes long to import, and is seldom needed

    if text.lower() == "transparent":  # of CSS; Pillow does not have it
        text = "#0000"
    try:
        red, green, blue, *alpha = ImageColor.getrgb(text)
    except ValueError:
        near = did_you_mean(text, ("transparent", *ImageColor.colormap))
        raise OptionError(
            f"{option} {text!r} is no colour; expected a name such as white, transparent, "
            f"#rrggbb or #rrggbbaa{near}"
        ) from None
    if alpha == [0]:  # as halved pixels that are transparent
        return 0, 0, 0, 0
    return (red, green, blue, alpha[0]) if alpha and alpha[0] < 255 else (red, green, blue)


def opaque_colour(background: Background) -> Colour:
    """A background on white, which is what images without alpha show of it."""
    red, green, blue, *rest = background
    alpha = rest[0] if rest else 255
    red, green, blue = ((v * alpha + 255 * (255 - alpha) + 127) // 255 for v in (red, green, blue))
    return red, green, blue


def unknown_parameter_error(owner: str, field: str, known: Iterable[str]) -> OptionError:
    """The error about a parameter that a format or layout does not have."""
    names = [*known]
    text = f"{owner} has no parameter {field!r}; it has {', '.join(names) or 'none'}"
    return OptionError(f"{text}{did_you_mean(field, names)}")


def unknown_value_error(
    option: str, value: str, known: Iterable[str], hints: Mapping[str, str] | None = None
) -> OptionError:
    """The error about a value that is none of the known ones.

    Args:
        option: Name of the option.
        value: The value.
        known: All valid values.
        hints: Advice for values that other programs use, in lower case, and for similar ones.
    """
    names, hints = [*known], hints or {}
    hint = hints.get(nearest_name(value, [*hints, *names]) or "")
    advice = f"; {hint}" if hint else did_you_mean(value, names)
    return OptionError(f"{option} {value!r} is none of {', '.join(names)}{advice}")
