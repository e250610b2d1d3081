"""Each block of README.md and of the site runs, or is parsed where it cannot run here."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest

import fasttile
import fasttile.abc
import fasttile.collection
import fasttile.verify
from fasttile import cli
from fasttile.cli.completion import completion_script
from fasttile.cli.options import join_negative_values
from fasttile.errors import OptionError
from support.doc_blocks import (
    DOCS,
    FENCE,
    ROOT,
    SHELLS,
    DocPage,
    commands,
    fasttile_calls,
    nav_pages,
    read_page,
)
from support.doc_runs import run_blocks

PAGES = [read_page(name) for name in ["../README.md", *nav_pages()]]

BLOCKS = [block for page in PAGES for block in page.blocks]

PARSER = cli.command_parser(cli.COMMANDS, cli.COMMANDS)

OPTIONS = set(re.findall(r"--[a-z][a-z-]+", completion_script(PARSER, "bash")))

OPTIONS_OF_OTHERS = {"--memory", "--strict", "--user", "--xyz"}
"""Of Docker, mypy and gdal2tiles."""

OTHER_LANGUAGES = ("python", "html", "text", "json", "csv", "nginx", "")


def test_the_commands_of_each_block_are_parsed() -> None:
    count = 0
    for block in BLOCKS:
        if block.language not in SHELLS:
            continue
        for command in commands(block):
            for arguments in fasttile_calls(command.text):
                count += 1
                if not {"--help", "--version", "--completion"} & set(arguments):
                    given, unknown = PARSER.parse_known_args(join_negative_values(arguments))
                    assert not unknown, f"{block.place}: {unknown}"
                    assert given.run, block.place
    assert count > 20


def test_programs_and_json_are_parsed() -> None:
    for block in BLOCKS:
        if block.language == "python":
            compile(
                block.text, block.place, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            )
        if block.language == "json":
            json.loads(block.text)


def test_blocks_are_of_known_kinds_and_their_comments_have_values() -> None:
    for block in BLOCKS:
        assert block.language in {*SHELLS, *OTHER_LANGUAGES}, block.place
        assert all(block.comments.values()), block.place
        if block.language not in SHELLS:
            assert not re.search(r"^(\$ |fasttile )", block.text, re.M), block.place


@pytest.mark.parametrize("name", [page.name for page in PAGES])
def test_commands_and_options_within_sentences_exist(name: str) -> None:
    outside = FENCE.sub("", (DOCS / name).read_text("utf-8"))
    assert not re.search(r"^(    |\t)\s*(\$ )?fasttile ", outside, re.M), "it has to be fenced"
    for code in re.findall(r"`([^`\n]+)`", outside):
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", code))
        assert options <= OPTIONS | OPTIONS_OF_OTHERS, code
        for arguments in fasttile_calls(code):
            try:
                assert PARSER.parse_known_args(arguments)[1] == [], code
            except OptionError as error:
                if "missing" not in str(error):
                    raise


def test_other_tests_of_blocks_exist() -> None:
    for block in BLOCKS:
        if "tested by" in block.comments:
            test = ROOT / block.comments["tested by"]
            text = test.read_text("utf-8")
            assert Path(block.page).stem in text, f"{block.place}: {test} does not name the page"


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page, id=page.name.removeprefix("../"), marks=[pytest.mark.long] if page.is_long else []
        )
        for page in PAGES
        if any(block.is_run and block.language in (*SHELLS, "python") for block in page.blocks)
    ],
)
def test_the_blocks_of_a_page_run(page: DocPage, tmp_path: Path) -> None:
    run_blocks(page, tmp_path)


def test_the_reference_has_all_public_names() -> None:
    page = (DOCS / "reference" / "python.md").read_text("utf-8")
    shown = re.findall(r"^::: fasttile\.([\w.]+)$", page, re.M)
    public = set(fasttile.__all__) - {"__version__", "collection", "verify"}
    public |= {f"collection.{name}" for name in fasttile.collection.__all__}
    public |= {f"abc.{name}" for name in fasttile.abc.__all__ if name not in public}
    public |= {f"verify.{name}" for name in fasttile.verify.__all__ if "CutProgress" not in name}
    assert sorted(shown) == sorted(public)


def test_the_page_of_the_installation_has_all_extras() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    page = (DOCS / "start" / "install.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", page, re.M)
    assert sorted(rows) == sorted(extras["optional-dependencies"])
