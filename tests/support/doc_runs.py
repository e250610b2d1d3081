"""Runs the blocks of a page of the documentation site, in their order and in one folder."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

from support.doc_blocks import SHELLS, Block, DocPage, commands, output_pattern
from support.doc_images import make_file


def run_blocks(page: DocPage, folder: Path) -> None:
    """Make the files of a page in a folder, and run its commands and programs there."""
    names: dict[str, object] = {"__name__": "documentation"}
    for entry in page.files:
        make_file(folder, entry)
    for block in page.blocks:
        if name := block.comments.get("save as"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(block.text, "utf-8")
    with contextlib.chdir(folder):
        for block in page.blocks:
            if not block.is_run:
                continue
            if block.language in SHELLS:
                _run_shell(block, folder)
            elif block.language == "python":
                _run_python(block, folder, names)


def _run_process(block: Block, command: list[str], folder: Path, code: int) -> str:
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


def _run_shell(block: Block, folder: Path) -> None:
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
        _check_output(block, command.output, _run_process(block, shell, folder, code))


def _run_python(block: Block, folder: Path, names: dict[str, object]) -> None:
    if "__name__" in block.text:
        (folder / "program.py").write_text(block.text)
        output = _run_process(block, [sys.executable, "program.py"], folder, 0)
    else:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block.text, block.place, "exec"), names)
        output = printed.getvalue()
    _check_output(block, block.output, output)


def _check_output(block: Block, expected: str | None, output: str) -> None:
    if expected is not None:
        lines = [line.rstrip() for line in output.rstrip().splitlines()]
        # A note of builds without npm.
        text = "".join(f"{line}\n" for line in lines if "built without the script" not in line)
        assert output_pattern(expected).fullmatch(text), f"{block.place}: the output is\n{output}"
