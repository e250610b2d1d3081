"""Messages that cannot be written stop no command; see docs/RELIABILITY.md."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from PIL import Image

from support.command import COMMAND, folder_entries, noise, run
from support.sampling import sampled

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full"),
]

NAME = "漢字é.png"

STREAMS = {
    "as ASCII": ({"PYTHONIOENCODING": "ascii:strict"}, ""),
    "in the C locale": ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, ""),
    "as Latin-1": ({"PYTHONIOENCODING": "latin-1"}, ""),
    "as cp1252": ({"PYTHONIOENCODING": "cp1252"}, ""),
    "output closed": ({}, ">&-"),
    "errors closed": ({}, "2>&-"),
    "all closed": ({}, "<&- >&- 2>&-"),
    "output full": ({}, ">/dev/full"),
    "errors full": ({}, "2>/dev/full"),
    "both full": ({}, ">/dev/full 2>&1"),
}

PRODUCT_LOST = {"output full", "both full"}
"""Streams that cannot take what a command prints; a closed stream is not wanted."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    for name in (NAME, "plain.png"):
        Image.fromarray(noise(60, 70)).save(folder / name)
    assert run("cut", NAME, "-o", "漢.dzi", cwd=folder).returncode == 0
    return folder


def run_with(streams: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command with some streams; those of the shell are in pipes."""
    environment, redirections = STREAMS[streams]
    return subprocess.run(
        ["sh", "-c", f'"$@" {redirections}', "sh", *COMMAND, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("streams", sampled(list(STREAMS), list(STREAMS)[::2]))
def test_a_batch_does_its_work(folder: Path, tmp_path: Path, streams: str) -> None:
    sources = [NAME, "missing漢.png", "plain.png"]
    process = run_with(
        streams,
        "cut",
        *sources,
        "-o",
        tmp_path,
        "--progress",
        "--report",
        tmp_path / "r",
        cwd=folder,
    )
    made = {path.name for path in tmp_path.glob("*.dzi")}
    assert (process.returncode, made) == (1, {"漢字é.dzi", "plain.dzi"})
    assert "Traceback" not in process.stdout + process.stderr
    assert "Exception ignored" not in process.stderr
    assert len((tmp_path / "r").read_text().splitlines()) == 3


COMMANDS = {
    "cut": ["cut", NAME, "-o", "{}/漢字é.dzi"],
    "collection": ["collection", "create", "{}/漢.dzc", "漢.dzi", "--progress"],
    "verify": ["verify", "漢.dzi"],
    "info": ["info", NAME],
    "help": ["cut", "--help"],
    "version": ["--version"],
}


PAIRS = list(product(COMMANDS, STREAMS))


@pytest.mark.parametrize(("command", "streams"), sampled(PAIRS, PAIRS[::4]))
def test_each_command_ends_with_its_own_exit_code(
    folder: Path, tmp_path: Path, command: str, streams: str
) -> None:
    arguments = [argument.format(tmp_path) for argument in COMMANDS[command]]
    process = run_with(streams, *arguments, cwd=folder)
    lost = streams in PRODUCT_LOST
    is_product = command in ("info", "help", "version")
    assert process.returncode == (1 if lost and is_product else 0), process.stderr
    assert len(list(tmp_path.glob("*.dz?"))) == (command in ("cut", "collection"))
    if streams == "output full":
        assert process.stderr.endswith("fasttile: standard output: No space left on device\n")
    elif command != "collection":  # which shows its progress
        assert process.stderr == ("" if command in ("cut", "verify", "info") else process.stderr)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_goes_away_is_no_error(folder: Path, tmp_path: Path, command: str) -> None:
    arguments = [argument.format(tmp_path) for argument in COMMANDS[command]]
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) == (1 if command in ("info", "help", "version") else 0)
    assert "fasttile:" not in errors
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors


def test_no_file_takes_the_place_of_a_closed_stream(folder: Path) -> None:
    program = (
        "import os, sys; from fasttile.__main__ import main; sys.argv[1:] = ['--version']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "open('opened', 'w').write(str(os.open('plain.png', 0)))"
    )
    for redirections in ("<&- >&- 2>&-", "2>&-", ">&-"):
        command = ["sh", "-c", f'"$@" {redirections}', "sh", sys.executable, "-c", program]
        subprocess.run(command, cwd=folder, check=True, timeout=60)
        assert int((folder / "opened").read_text()) > 2


def test_a_report_that_cannot_be_written_stops_no_batch(folder: Path, tmp_path: Path) -> None:
    arguments = ["cut", NAME, "plain.png", "-o", tmp_path, "-q", "--report", "/dev/full"]
    process = run(*arguments, cwd=folder)
    assert process.returncode == 1
    assert process.stderr == "fasttile: cannot write /dev/full: No space left on device\n"
    assert len(list(tmp_path.glob("*.dzi"))) == 2
    process = run(*arguments[:-1], "/dev/stdout", "--overwrite", cwd=folder)
    assert [json.loads(line)["error"] for line in process.stdout.splitlines()] == [None, None]


def test_ctrl_c_while_the_last_line_is_written(folder: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writer, True)
    with subprocess.Popen(
        [*COMMAND, "cut", NAME, "-o", tmp_path / "a.dzi"],
        cwd=folder,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # An earlier signal takes the result back; it is complete without the work folder.
        while folder_entries(tmp_path) != {"a.dzi", "a_files"}:
            assert process.poll() is None
        for _ in range(100):
            process.send_signal(signal.SIGINT)
            try:
                process.wait(0.1)
                break
            except subprocess.TimeoutExpired:
                continue
        assert process.stderr is not None
        shown = process.stderr.read()
    os.close(writer)
    os.close(reader)
    assert process.returncode == 130
    assert "nothing was left behind" not in shown
    assert folder_entries(tmp_path) == {"a.dzi", "a_files"}


WITHOUT_IMAGECODECS = (
    "import sys; sys.modules['imagecodecs'] = None\nfrom fasttile.__main__ import main; main()"
)


@pytest.mark.parametrize("compression", ["group4", "jpeg", "tiff_lzw", "tiff_adobe_deflate"])
def test_messages_of_libtiff_do_not_reach_the_user(tmp_path: Path, compression: str) -> None:
    image = Image.fromarray(noise(600, 500))
    image = image.convert("1") if compression == "group4" else image
    image.save(tmp_path / "a.tif", compression=compression)
    damaged = bytearray((tmp_path / "a.tif").read_bytes())
    for place in range(60, len(damaged) - 600, 997):
        damaged[place] ^= 0x55
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).write_bytes(damaged)
    fasttile = [sys.executable, "-c", WITHOUT_IMAGECODECS, "cut", "a.tif"]

    def messages(*arguments: str) -> list[str]:
        process = subprocess.run(
            [*fasttile, *arguments, "--overwrite"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return process.stderr.splitlines()

    alone = messages()
    assert len(alone) <= 1
    assert all(line.startswith("fasttile: a.tif: broken TIFF: ") for line in alone)
    assert len(messages("b.tif", "missing.tif", "--workers", "2", "-o", "out/")) in (3, 7)
    assert len(messages("--verbose")) > len(alone)
