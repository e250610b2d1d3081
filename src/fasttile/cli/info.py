"""`fasttile info`: what a picture is and would become, or what a result holds."""

from __future__ import annotations

import argparse
from typing import Any

from .reading import add_command, add_reading
from .telling import telling

EXAMPLES = """\
examples:
  fasttile info map.tif
  fasttile info site/map.dzi
"""


def add(commands: Any) -> None:
    info = add_command(commands, "info", "tell what a picture or a result is", EXAMPLES)
    info.set_defaults(run=run)
    info.add_argument("path", metavar="PATH", help="a picture, or a .dzi")
    add_reading(info)
    info.add_argument("-v", "--verbose", action="store_true", help="show where an error comes from")


def run(words: argparse.Namespace) -> int:
    from ..info import describe
    from ..sources import Reading

    with telling(words.verbose) as outcome:
        reading = Reading(words.page, words.max_pixels, words.allow_truncated)
        for name, value in describe(words.path, raw=words.raw, reading=reading):
            print(f"{name + ':':<12} {value}")
    return outcome.code
