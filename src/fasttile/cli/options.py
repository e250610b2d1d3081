"""Arguments of the commands, generated from the options table."""

from __future__ import annotations

import argparse
from typing import Any

from fasttile.errors import OptionError
from fasttile.options.cut import OptionGroup, default_text, option_table


def add_command(commands: Any, name: str, summary: str, epilog: str = "") -> Any:
    """Add a subcommand; returns its parser."""
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_options(
    container: Any, command: str, *groups: OptionGroup, leave_out: tuple[str, ...] = ()
) -> None:
    """Add the options that a command takes of some groups of the table.

    Args:
        container: Parser, or argument group of one.
        command: cut, verify or collection.
        groups: Groups of the options table.
        leave_out: Names of options that are not added.
    """
    for name, option in option_table(command).items():
        if option.metadata["group"] in groups and name not in leave_out:
            add_option(container, name, default=default_text(option, command))


def add_option(
    container: Any, name: str, *, help: str | None = None, default: str | None = None
) -> None:
    """Add one option of the table.

    Args:
        container: Parser, or argument group of one.
        name: Field of `CutOptions`.
        help, default: Descriptions of the option and of its default that replace those of the
            table.
    """
    option = option_table("cut")[name]
    info = option.metadata
    text = info["help"] if help is None else help
    if default := default_text(option) if default is None else default:
        text = f"{text} (default: {default})"
    flag = f"--{name.replace('_', '-')}"
    if isinstance(option.default, bool):
        container.add_argument(flag, action="store_true", help=text)
        return

    def parse(text: str) -> Any:
        try:
            return info["parse"](text)
        except OptionError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    # argparse names a type like int in its own error.
    is_type = isinstance(info["parse"], type)
    container.add_argument(
        flag,
        default=option.default,
        help=text,
        type=info["parse"] if is_type else parse,
        choices=info["choices"] or None,
        metavar=info["metavar"],
        **({} if info["const"] is None else {"nargs": "?", "const": info["const"]}),
    )


def add_verbose_option(container: Any) -> None:
    """Add --verbose, which every command has."""
    container.add_argument(
        "-v", "--verbose", action="store_true", help="show the traceback of an error"
    )


def add_output_options(container: Any) -> None:
    """Add the options that choose what a command prints: progress, quiet, verbose."""
    container.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="show the progress on standard error (default: on a terminal)",
    )
    container.add_argument("-q", "--quiet", action="store_true", help="print only what is wrong")
    add_verbose_option(container)
