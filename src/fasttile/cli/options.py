"""The options of who reads images, and what commands have in common."""

from __future__ import annotations

import argparse
from typing import Any

from fasttile.options.cut import CutOptions


def add_command(commands: Any, name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def add_read_options(group: Any) -> None:
    group.add_argument(
        "--raw",
        metavar="WxHxBANDS[:TYPE[:OFFSET]]",
        help="the file has no header: its size, bands, type (u8, or u16 with < or > for the "
        "byte order) and where the pixels begin",
    )
    group.add_argument(
        "--page",
        metavar="N|all",
        type=parse_page,
        help="which image of a file with several, counted from 1; all cuts each to "
        "<stem>-<page> (default: the first, or the largest of a pyramid)",
    )
    group.add_argument(
        "--max-pixels",
        metavar="N",
        type=int,
        help="refuse images of more pixels (default: what a file of its size can hold)",
    )
    group.add_argument(
        "--allow-truncated",
        action="store_true",
        help="cut what is there of a damaged image, on the background",
    )


def parse_page(text: str) -> int | str:
    if text == "all":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor all") from None


def add_pixel_options(group: Any, default: CutOptions) -> None:
    group.add_argument(
        "--window",
        metavar="LOW,HIGH|full|auto",
        type=parse_window,
        default=default.window,
        help="the values that become black and white; full is the type's whole range, auto looks "
        "at images of more than 8 bits first (default: %(default)s)",
    )
    group.add_argument(
        "--icc",
        choices=("srgb", "keep", "drop"),
        default=default.icc,
        help="what becomes of a colour profile: srgb converts the colours, keep puts it into each "
        "tile, drop forgets it (default: %(default)s)",
    )
    group.add_argument(
        "--shrink",
        choices=("mean", "nearest", "mode"),
        default=default.shrink,
        help="how four pixels become one: their mean, the first, or the most frequent; the latter "
        "two for masks and labels (default: %(default)s)",
    )


def parse_region(text: str) -> tuple[int, ...]:
    try:
        x, y, width, height = (int(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not X,Y,W,H in whole pixels") from None
    return x, y, width, height


def parse_window(text: str) -> str | tuple[float, float]:
    if text in ("full", "auto"):
        return text
    try:
        low, high = (float(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither LOW,HIGH nor full nor auto"
        ) from None
    return low, high
