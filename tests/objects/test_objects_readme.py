"""README.md: its ten commands run in their order, in one folder, and its links lead to files."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import fasttile
from support.doc_blocks import ROOT, commands, fasttile_calls, read_page
from support.doc_images import make_file

PAGE = read_page("../README.md")


def test_the_commands_run_in_order(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for entry in PAGE.files:
        make_file(tmp_path, entry)
    (block,) = [block for block in PAGE.blocks if "tested by" in block.comments]
    calls = [arguments for command in commands(block) for arguments in fasttile_calls(command.text)]
    assert len(calls) == 10
    for arguments in calls:
        given = [one.replace("s3://bucket", bucket) for one in arguments]
        command = [sys.executable, "-m", "fasttile", *given]
        if given[0] == "view":
            assert b"<title>" in shown_page(command)
        else:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, (shlex.join(given), done.stderr)
    for result in ("site/map.dzi", "map.szi", "map.dzi", "site/xyz", f"{bucket}/map.dzi"):
        with fasttile.open_pyramid(result) as pyramid:
            assert pyramid.level_sizes[-1] == (1500, 1100)
    assert sorted(path.name for path in Path("site/iiif").glob("*/manifest.json")) == [
        "manifest.json",
        "manifest.json",
    ]
    assert sorted(path.stem for path in Path("site/scans").glob("*.dzi")) == ["a", "b"]


def shown_page(command: list[str]) -> bytes:
    """The page of `fasttile view`, which is ended then."""
    with subprocess.Popen(
        [*command, "--no-browser"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        line = ""
        while "http://" not in line:
            line = process.stdout.readline()
            assert line, "it has ended"
        page: bytes = urllib.request.urlopen(re.findall(r"http://\S+", line)[0]).read()
        process.send_signal(signal.SIGINT)
    return page


def test_relative_links_lead_to_files() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []
