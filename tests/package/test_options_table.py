"""The options table: keywords, commands and docs/OPTIONS.md agree with CutOptions."""

from __future__ import annotations

import argparse
import runpy
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from fasttile.cli import collection as collection_command
from fasttile.cli import cut as cut_command
from fasttile.cli import verify as verify_command
from fasttile.collection.api import MemberKeywords
from fasttile.options.cut import CutKeywords, CutOptions, option_table
from fasttile.verify import VERIFY_OPTIONS

ROOT = Path(__file__).resolve().parents[2]


def annotations_of(keywords: Any) -> dict[str, str]:
    """Names and types of a TypedDict's keys, as written."""
    return {
        name: getattr(annotation, "__forward_arg__", annotation)
        for name, annotation in keywords.__annotations__.items()
    }


def test_keywords_are_the_fields() -> None:
    types = {field.name: field.type for field in fields(CutOptions)}
    assert list(annotations_of(CutKeywords).items()) == list(types.items())
    assert not CutKeywords.__required_keys__
    members = option_table("collection")
    assert annotations_of(MemberKeywords) == {name: types[name] for name in members}


def test_verify_takes_a_part_of_the_options() -> None:
    assert set(option_table("verify")) == VERIFY_OPTIONS < set(option_table("cut"))
    assert list(option_table("cut")) == [field.name for field in fields(CutOptions)]


def test_the_docstring_names_every_option_in_order() -> None:
    text = CutOptions.__doc__ or ""
    places = [text.find(f"\n        {field.name}: ") for field in fields(CutOptions)]
    assert -1 not in places
    assert sorted(places[:6]) == places[:6]


def parse(command: Any, *arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize(
    ("command", "arguments", "name"),
    [
        (cut_command, ["a"], "cut"),
        (verify_command, ["a"], "verify"),
        (collection_command, ["create", "a", "b"], "collection"),
    ],
)
def test_defaults_of_the_commands_are_those_of_the_fields(
    command: Any, arguments: list[str], name: str
) -> None:
    args = vars(parse(command, *arguments))
    names = set(option_table(name)) - ({"overlap", "region"} if name == "collection" else set())
    # An option that is not given to `verify` is that of the result's record.
    defaults = {
        field.name: None if name == "verify" else field.default for field in fields(CutOptions)
    }
    assert {name: args[name] for name in names} == {name: defaults[name] for name in names}


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--page all", "all"),
        ("--page 3", 3),
        ("--region 1,2,3,4", (1, 2, 3, 4)),
        ("--window 1,2.5", (1.0, 2.5)),
        ("--window full", "full"),
        ("--skip-blank", 5),
        ("--skip-blank 7", 7),
        ("--bits 16", 16),
        ("--allow-truncated", True),
        ("--tile-size 64", 64),
    ],
)
def test_values_are_parsed(flag: str, value: object) -> None:
    name = flag.split()[0].removeprefix("--").replace("-", "_")
    assert getattr(parse(cut_command, "a", *flag.split()), name) == value


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        ("--page some", "argument --page: 'some' is neither a number nor all"),
        ("--region 1,2", "argument --region: '1,2' is not X,Y,W,H in whole pixels"),
        ("--window low", "argument --window: 'low' is neither LOW,HIGH nor full nor auto"),
        ("--tile-size x", "argument --tile-size: invalid int value: 'x'"),
        ("--icc cmyk", "argument --icc: invalid choice: 'cmyk'"),
    ],
)
def test_invalid_values_are_named(
    flag: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(cut_command, "a", *flag.split())
    assert problem in capsys.readouterr().err


def test_the_page_of_options_is_up_to_date() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "list_options.py"))["options_page"]()
    assert (ROOT / "docs" / "OPTIONS.md").read_text() == page
