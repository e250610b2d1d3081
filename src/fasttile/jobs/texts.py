"""Texts of a result in bounds: for its descriptors, and as its record states them."""

from __future__ import annotations

from fasttile.abc.layout import ResultTexts
from fasttile.jobs.record import parse_record
from fasttile.layouts.presentation import rights_uri
from fasttile.options.values import MAX_LINE_CHARACTERS
from fasttile.sources.texts import clean_text

MAX_DESCRIPTION_CHARACTERS = 2_000
"""The longest description in descriptors and pages; title and credit line are shorter."""


def recorded_texts(data: bytes) -> ResultTexts:
    """The texts that an encoded record states, without those that are not valid."""
    record = parse_record(data)
    found = None if record is None else record.get("texts")
    if not isinstance(found, dict):
        return ResultTexts()
    names = ("title", "description", "credit", "rights")
    texts = {name: found.get(name, "") for name in names}
    if not all(isinstance(text, str) for text in texts.values()):
        return ResultTexts()
    return limited_texts(**texts)


def limited_texts(
    title: str = "", description: str = "", credit: str = "", rights: str = ""
) -> ResultTexts:
    """Texts that fit into descriptors: title and credit in one line, the address a licence's."""
    title, credit = (
        _shortened(" ".join(clean_text(text).split()), MAX_LINE_CHARACTERS)
        for text in (title, credit)
    )
    description = _shortened(clean_text(description), MAX_DESCRIPTION_CHARACTERS)
    uri = rights_uri(rights) or ""
    return ResultTexts(title, description, credit, uri if len(uri) <= MAX_LINE_CHARACTERS else "")


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
