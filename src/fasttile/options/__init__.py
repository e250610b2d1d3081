"""Options of cuts and of reading, and the parser of parameters: `name:parameter=value,…`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fasttile.errors import OptionError

_BOOLEANS = {None: True, "yes": True, "true": True, "no": False, "false": False}


def parse_parameters(owner: str, text: str, known: Mapping[str, str]) -> dict[str, Any]:
    """Parse the parameters of a format or a layout.

    Args:
        owner: Name of the format or layout, for messages.
        text: `field=value`, or `field` alone to switch it on, separated by commas.
        known: The fields that the owner has, each with its type's annotation: bool, int, or text.

    Raises:
        OptionError: The owner has no such parameter, or a value is invalid.

    Example:
        >>> known = {"progressive": "bool", "quality": "int"}
        >>> parse_parameters("jpeg", "progressive,quality=9", known)
        {'progressive': True, 'quality': 9}
    """
    values: dict[str, Any] = {}
    for parameter in filter(None, text.split(",")):
        field, equals, value = parameter.partition("=")
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
        else:
            values[field] = value
    return values


def unknown_parameter_error(owner: str, field: str, known: Iterable[str]) -> OptionError:
    """The error about a parameter that a format or layout does not have."""
    return OptionError(f"{owner} has no parameter {field!r}; it has {', '.join(known) or 'none'}")
