"""Print docs/fasttile.1: the manual page of the commands, from their parsers."""

from __future__ import annotations

from fasttile import _version, cli
from fasttile.cli.completion import manual_page


def page() -> str:
    """The text of docs/fasttile.1."""
    return manual_page(cli.command_parser(cli.COMMANDS, cli.COMMANDS), _version.__version__)


if __name__ == "__main__":
    print(page(), end="")
