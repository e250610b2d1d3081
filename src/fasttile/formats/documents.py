"""Descriptors that anyone may have made: text, XML and JSON within the budget of readers.

XML is UTF-8 or UTF-16 and has no document type, so nothing in it is expanded or fetched. JSON has
no numbers that Python cannot hold as an int of 64 bits or a finite float.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from fasttile.storage.budget import BUDGET

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

PARSE_ERRORS = (AttributeError, LookupError, TypeError, ValueError)
"""Errors of code that takes values from a descriptor, if it is JSON or XML of another kind."""

_ENCODING = rb"""<\?xml[^>]{0,200}?\bencoding\s{0,20}=\s{0,20}["']([^"']{0,40})"""
_KNOWN_ENCODINGS = ("utf-8", "utf8", "us-ascii", "ascii", "utf-16", "utf-16le", "utf-16be")
_SURROGATE = r"\\u[dD][89a-fA-F]"
_MAX_DIGITS = 20


def decode_document(data: bytes) -> str:
    """The text of a descriptor in UTF-8 or UTF-16, without its byte order mark.

    Raises:
        ValueError: It is too large, or in another encoding.
    """
    if len(data) > BUDGET.descriptor_bytes:
        raise ValueError(f"it has {len(data):,} bytes, more than {BUDGET.descriptor_bytes:,}")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    data = data.removeprefix(codecs.BOM_UTF8)
    declared = re.match(_ENCODING, data)
    if declared is not None:
        name = declared[1].decode("ascii", "replace")
        if name.lower() not in _KNOWN_ENCODINGS:
            raise ValueError(f"its encoding {name!r} is neither UTF-8 nor UTF-16")
    return data.decode()


def check_xml(text: str) -> None:
    """Check a text before it is parsed as XML.

    Raises:
        ValueError: It has a document type, or too many tags or attributes.
    """
    if "<!DOCTYPE" in text:
        raise ValueError("it has a document type, which no descriptor has: it is not read")
    limits = (("<", "tags", BUDGET.descriptor_tags), ("=", "attributes", BUDGET.descriptor_values))
    for mark, kind, limit in limits:
        if text.count(mark) > limit:
            raise ValueError(f"it has more than {limit:,} {kind}")


def parse_xml(text: str) -> Element:
    """The root element of a descriptor.

    Raises:
        ValueError: It is no XML, or none that `check_xml` accepts.
    """
    from xml.etree import ElementTree  # seldom needed, and slow to import

    check_xml(text)
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from error


def parse_json(text: str) -> Any:
    """The value of a text in JSON; its strings can be encoded as UTF-8.

    Raises:
        ValueError: It is no JSON, too large or too deep, or has a number out of range.
    """
    if text.count("{") + text.count("[") + text.count(",") > BUDGET.descriptor_values:
        raise ValueError(f"it has more than {BUDGET.descriptor_values:,} values")
    try:
        value = json.loads(
            text, parse_constant=_reject_number, parse_float=_finite, parse_int=_integer
        )
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    if re.search(_SURROGATE, text):
        json.dumps(value, ensure_ascii=False).encode()  # halves of a pair raise a ValueError
    return value


def encode_json(members: Mapping[str, Any]) -> bytes:
    """A descriptor as JSON in UTF-8, with an indent of 2 and a line feed at its end."""
    return (json.dumps(members, indent=2, ensure_ascii=False) + "\n").encode()


def _integer(text: str) -> int:
    return int(text) if len(text) <= _MAX_DIGITS else _reject_number(text)


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _reject_number(text)


def _reject_number(text: str) -> NoReturn:
    raise ValueError(f"the number {text[:_MAX_DIGITS]} is out of range")
