"""A Markdown table."""

from __future__ import annotations

from collections.abc import Sequence


def format_table(title: str, rows: Sequence[Sequence[str]]) -> str:
    """A title, and a table whose first row is its head."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join([f"\n**{title}**\n", *(f"| {' | '.join(line)} |" for line in lines)])
