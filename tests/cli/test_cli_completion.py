"""Completion in real shells, and the manual page."""

from __future__ import annotations

import os
import pty
import re
import runpy
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from fasttile import _version, cli
from fasttile.cli.completion import completion_script, manual_page
from support.command import run

ROOT = Path(__file__).resolve().parents[2]

CASES = [
    ("fasttile c", {"cut", "convert", "collection"}, {"--version"}),
    ("fasttile --c", {"--completion"}, {"cut"}),
    ("fasttile cut --qu", {"--quality", "--quiet"}, {"--layout"}),
    ("fasttile cut a.png --layout ", {"dzi", "zoomify", "iiif3", "tiff"}, {"--layout", "a.png"}),
    ("fasttile cut --format j", {"jpeg"}, {"png"}),
    ("fasttile cut --icc ", {"srgb", "keep", "drop"}, {"mean"}),
    ("fasttile verify a.dzi --re", {"--repair", "--region"}, {"--resume"}),
    ("fasttile collection ", {"create", "append", "remove"}, {"cut"}),
    ("fasttile collection create --max", {"--max-level", "--max-pixels"}, {"--quality"}),
]
"""Typed texts, what is offered for the last word, and what is not."""


@pytest.fixture(scope="module")
def scripts() -> dict[str, str]:
    parser = cli.command_parser(cli.COMMANDS, cli.COMMANDS)
    return {shell: completion_script(parser, shell) for shell in ("bash", "zsh", "fish")}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_command_prints_the_script(shell: str, scripts: dict[str, str]) -> None:
    process = run("--completion", shell)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == scripts[shell]
    if path := shutil.which(shell):
        subprocess.run([path, "-n"], input=scripts[shell], text=True, check=True, timeout=60)


def test_other_shells_are_refused() -> None:
    process = run("--completion", "csh")
    assert process.returncode == 2
    assert process.stderr == (
        "fasttile: --completion 'csh': unknown; expected bash, zsh or fish; did you mean zsh?\n"
    )


def bash_output(script: str, typed: str) -> list[str]:
    """The options of `compopt`, then all that bash offers for the last word."""
    words = typed.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    program = (
        f'{script}\ncompopt() {{ echo "$@"; }}\n'
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _fasttile; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    process = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return process.stdout.split()


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize(("typed", "offered", "others"), CASES)
def test_bash(typed: str, offered: set[str], others: set[str], scripts: dict[str, str]) -> None:
    output = set(bash_output(scripts["bash"], typed))
    assert offered <= output
    assert not others & output


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize("typed", ["fasttile cut ", "fasttile cut -o ", "fasttile cut --report "])
def test_bash_offers_files(typed: str, scripts: dict[str, str]) -> None:
    assert bash_output(scripts["bash"], typed) == ["-o", "default"]


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
@pytest.mark.parametrize(("typed", "offered", "others"), CASES)
def test_fish(
    typed: str, offered: set[str], others: set[str], scripts: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "c.fish").write_text(scripts["fish"])
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    output = subprocess.run(
        ["fish", "-c", f"source {tmp_path}/c.fish; complete -C '{typed}'"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=environment,
    ).stdout
    words = {line.partition("\t")[0] for line in output.splitlines()}
    assert offered <= words
    assert not others & words


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh(scripts: dict[str, str], tmp_path: Path) -> None:
    """All cases in one shell on a terminal, where Tab is pressed."""
    (tmp_path / "c.zsh").write_text(scripts["zsh"])
    child, terminal = pty.fork()
    if child == 0:
        environment = {"HOME": str(tmp_path), "TERM": "dumb", "PATH": os.environ["PATH"]}
        os.execve(shutil.which("zsh"), ["zsh", "-f", "-i"], environment)  # type: ignore[arg-type]

    def press(text: str, until: str) -> str:
        os.write(terminal, text.encode())
        shown, end = "", time.monotonic() + 30
        while until not in shown and time.monotonic() < end:
            if select.select([terminal], [], [], 0.1)[0]:
                shown += os.read(terminal, 65536).decode(errors="replace")
        assert until in shown, shown
        return shown

    try:
        press("unsetopt zle_bracketed_paste; PS1=; LISTMAX=1000; stty cols 200\r", "cols 200")
        press("zstyle ':completion:*' list-prompt ''; autoload -U compinit; compinit -u -D\r", "-D")
        press(f"source {tmp_path}/c.zsh; bindkey '^I' list-choices; echo rea''dy\r", "ready")
        for typed, offered, others in CASES:
            # Ctrl-U clears the line.
            shown = press(f"{typed}\t", max(offered, key=len))
            shown += press("\x15echo do''ne\r", "done")
            words = set(re.findall(r"[\w-]+", shown.replace(typed, "")))
            assert offered <= words, (typed, shown)
            assert not others & words, (typed, shown)
    finally:
        os.write(terminal, b"\x15exit\r")
        os.close(terminal)
        os.waitpid(child, 0)


def test_the_manual_page_is_up_to_date() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "list_commands.py"))["page"]()
    message = "python docs/list_commands.py > docs/fasttile.1 brings it up to date"
    assert (ROOT / "docs" / "fasttile.1").read_text() == page, message


@pytest.mark.slow
def test_the_manual_page_has_all_options(tmp_path: Path) -> None:
    page = manual_page(cli.command_parser(cli.COMMANDS, cli.COMMANDS), _version.__version__)
    for name in cli.COMMANDS:
        assert f".SH FASTTILE {name.upper()}" in page
        flags = set(re.findall(r"(--[a-z-]+)", run(name, "--help").stdout.partition("examples")[0]))
        assert flags <= set(re.findall(r"--[a-z-]+", page.replace("\\-", "-")))
    if shutil.which("man"):
        path = tmp_path / "fasttile.1"
        path.write_text(page)
        shown = subprocess.run(
            ["man", "--warnings", "-l", str(path)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "100", "MANROFFOPT": "-ww"},
        )
        assert shown.stderr == ""
        assert "FASTTILE COLLECTION CREATE" in shown.stdout
        assert "--tile-size N" in shown.stdout
