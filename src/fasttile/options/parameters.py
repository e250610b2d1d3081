"""How options are spelled in one word: `name:parameter=value,parameter`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fasttile.errors import OptionError

_BOOLEANS = {None: True, "yes": True, "true": True, "no": False, "false": False}


def parse_parameters(owner: str, text: str, known: Mapping[str, str]) -> dict[str, Any]:
    """The values of the parameters that a text spells.

    Args:
        owner: Whose they are, for messages.
        text: `field=value`, or `field` alone for what is on or off, separated by commas.
        known: The fields it has, each with its type's annotation: bool, int, or text.

    Raises:
        OptionError: It has no such parameter, or a value is none.

    Example:
        >>> known = {"progressive": "bool", "quality": "int"}
        >>> parse_parameters("jpeg", "progressive,quality=9", known)
        {'progressive': True, 'quality': 9}
    """
    values: dict[str, Any] = {}
    for word in filter(None, text.split(",")):
        field, equals, value = word.partition("=")
        if field not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise OptionError(f"{owner} has no parameter {field!r}; {has}")
        values[field] = _parse_value(f"{owner}:{field}", known[field], value if equals else None)
    return values


def _parse_value(name: str, kind: str, text: str | None) -> Any:
    """The value that a text spells for a field, by the field's annotation."""
    if kind == "bool":
        if text not in _BOOLEANS:
            raise OptionError(f"{name}={text} is neither yes nor no")
        return _BOOLEANS[text]
    if kind.startswith("int"):
        try:
            return int(text or "")
        except ValueError:
            raise OptionError(f"{name}={text or ''} is not a whole number") from None
    return text or ""
