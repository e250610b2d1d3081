"""Hook of mkdocs.yml: pages of the site that are made at build time, and files outside of docs/."""

from __future__ import annotations

import argparse
import os
import posixpath
import re
import tomllib
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from fasttile import cli
from fasttile.cli.completion import command_parsers

ROOT = Path(__file__).resolve().parents[1]

OUTSIDE = ("CHANGELOG.md", "bench/RESULTS.md", "examples/pyramids.ipynb")
"""Files outside of docs/ that the site has too, by their paths in the repository."""

COMMAND_PAGE = "reference/command-line.md"

COMMAND_HEAD = """\
# Command line

What `fasttile --help` and `fasttile COMMAND --help` print. [Options](../OPTIONS.md) is a table of
the options of all commands, with their names in Python; a command returns one of the
[exit codes](exit-codes.md).
"""

HELP_ENVIRONMENT = {"COLUMNS": "86", "NO_COLOR": "1"}

_COMMENT = re.compile(r"^<!-- [a-z ]+:(?:(?!-->).)*-->\n", re.M | re.S)
_TABLE_ROW = re.compile(r"^\|.*\|$", re.M)
_CODE = re.compile(r"`[^`\n]+`")
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:)([^)#\s]+)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add a link to the repository; the theme's own `repo_url` would request it for its stars."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    link = {"icon": "fontawesome/brands/github", "link": urls["Repository"], "name": "Repository"}
    config.extra["social"] = [link]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside of docs/, and the page of the commands."""
    for name in OUTSIDE:
        files.append(File.generated(config, name, content=(ROOT / name).read_text("utf-8")))
    files.append(File.generated(config, COMMAND_PAGE, content=command_page()))
    return files


def command_page() -> str:
    """A page with the help of each command, from the parsers."""
    before = {name: os.environ.get(name) for name in HELP_ENVIRONMENT}
    os.environ |= HELP_ENVIRONMENT
    text = COMMAND_HEAD
    for parser, path, _ in command_parsers(cli.command_parser(cli.COMMANDS, cli.COMMANDS)):
        parser.formatter_class = argparse.RawDescriptionHelpFormatter  # as wide as COLUMNS
        text += f"\n## {' '.join(['fasttile', *path])}\n\n```text\n{parser.format_help()}```\n"
    for name, value in before.items():
        del os.environ[name]
        if value is not None:
            os.environ[name] = value
    return text


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fit the text of a page to the site.

    - Files of docs/ and those outside of it are in one folder: links between them change.
    - A `|` in a table's code needs no backslash here, other than on GitHub.
    - Comments for the tests of blocks are left out.
    """
    place = page.file.src_uri
    folder = posixpath.dirname(place)
    in_repository = posixpath.dirname(place if place in OUTSIDE else f"docs/{place}")

    def in_site(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(in_repository, match[1]))
        if path in OUTSIDE or (place in OUTSIDE and path.startswith("docs/")):
            return posixpath.relpath(path.removeprefix("docs/"), folder or ".")
        return match[1]

    markdown = _COMMENT.sub("", _LINK.sub(in_site, markdown))
    return _TABLE_ROW.sub(lambda row: _CODE.sub(_without_backslash, row[0]), markdown)


def _without_backslash(code: re.Match[str]) -> str:
    return code[0].replace(r"\|", "|")
