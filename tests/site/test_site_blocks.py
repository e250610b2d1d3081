"""Each block of code on the documentation site runs, or is parsed where it cannot run here."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fasttile import cli
from fasttile.cli.options import join_negative_values
from support.doc_blocks import (
    ROOT,
    SHELLS,
    Block,
    commands,
    fasttile_calls,
    nav_pages,
    output_pattern,
    read_page,
)
from support.doc_images import make_file

PAGES = [read_page(name) for name in nav_pages()]
BLOCKS = [block for page in PAGES for block in page.blocks]

PARSER = cli.command_parser(cli.COMMANDS, cli.COMMANDS)


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


def test_other_tests_of_blocks_exist() -> None:
    for block in BLOCKS:
        if "tested by" in block.comments:
            test = ROOT / block.comments["tested by"]
            text = test.read_text("utf-8")
            assert Path(block.page).stem in text, f"{block.place}: {test} does not name the page"


def is_program(block: Block) -> bool:
    return "__name__" in block.text


def run_process(block: Block, command: list[str], folder: Path, code: int) -> str:
    """Run a process in the page's folder; returns its output, with its messages."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=170,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == code, f"{block.place}: exit code {done.returncode}\n{done.stdout}"
    return done.stdout


def run_shell(block: Block, folder: Path) -> None:
    *before, last = commands(block)
    codes = [0 for _ in before] + [int(block.comments.get("exit code", 0))]
    for command, code in zip([*before, last], codes, strict=True):
        shell = [
            "bash",
            "-e",
            "-o",
            "pipefail",
            "-c",
            command.text.replace("/srv/", f"{folder}/srv/"),
        ]
        check_output(block, command.output, run_process(block, shell, folder, code))


def run_python(block: Block, folder: Path, names: dict[str, object]) -> None:
    if is_program(block):
        (folder / "program.py").write_text(block.text)
        output = run_process(block, [sys.executable, "program.py"], folder, 0)
    else:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block.text, block.place, "exec"), names)
        output = printed.getvalue()
    check_output(block, block.output, output)


def check_output(block: Block, expected: str | None, output: str) -> None:
    if expected is not None:
        text = "".join(f"{line.rstrip()}\n" for line in output.rstrip().splitlines())
        assert output_pattern(expected).fullmatch(text), f"{block.place}: the output is\n{output}"


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=[pytest.mark.long] if page.is_long else [])
        for page in PAGES
        if any(block.is_run and block.language in (*SHELLS, "python") for block in page.blocks)
    ],
)
def test_the_blocks_of_a_page_run(
    page: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(page, type(PAGES[0]))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "documentation"}
    for entry in page.files:
        make_file(tmp_path, entry)
    for block in page.blocks:
        if "save as" in block.comments:
            path = tmp_path / block.comments["save as"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, "utf-8")
    for block in page.blocks:
        if block.is_run and block.language in SHELLS and "save as" not in block.comments:
            run_shell(block, tmp_path)
        elif block.is_run and block.language == "python":
            run_python(block, tmp_path, names)
