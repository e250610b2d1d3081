"""The options of who reads pictures, and what commands have in common."""

from __future__ import annotations

import argparse
from typing import Any


def add_command(commands: Any, name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def add_reading(group: Any) -> None:
    group.add_argument(
        "--raw",
        metavar="WxHxBANDS[:TYPE[:OFFSET]]",
        help="the file has no header: its size, bands, type (u8, or u16 with < or > for the "
        "byte order) and where the pixels begin",
    )
    group.add_argument(
        "--page",
        metavar="N|all",
        type=page,
        help="which picture of a file with several, counted from 1; all cuts each to "
        "<stem>-<page> (default: the first, or the largest of a pyramid)",
    )
    group.add_argument(
        "--max-pixels",
        metavar="N",
        type=int,
        help="refuse pictures of more pixels (default: what a file of its size can hold)",
    )
    group.add_argument(
        "--allow-truncated",
        action="store_true",
        help="cut what is there of a damaged picture, on the background",
    )


def page(text: str) -> int | str:
    if text == "all":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor all") from None
