"""The command line as a user meets it: whole processes, what they print, and what they leave."""

from __future__ import annotations

import fcntl
import os
import pty
import resource
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fasttile import cli
from fasttile.info import describe

COMMAND = [sys.executable, "-m", "fasttile"]


def run(
    *words: str | Path, cwd: Path | None = None, **more: object
) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own, with its output in pipes."""
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [*COMMAND, *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **more,
    )


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A small picture that is mapped."""
    path = tmp_path / "in" / "small picture.tif"
    path.parent.mkdir()
    Image.fromarray(noise(300, 520)).save(path)
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A picture that takes long enough to be interrupted."""
    path = tmp_path / "in" / "large.npy"
    path.parent.mkdir(exist_ok=True)
    np.save(path, np.tile(noise(1000, 1000), (8, 8, 1)))
    return path


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)


def entries(folder: Path) -> set[str]:
    """All that lies in a folder, hidden names too."""
    return {entry.name for entry in folder.iterdir()} if folder.exists() else set()


def told(process: subprocess.CompletedProcess[str], code: int, *words: str) -> str:
    """One clear line on standard error, this exit code, and nothing else said."""
    assert process.returncode == code, process.stderr
    assert process.stdout == ""
    lines = process.stderr.splitlines()
    assert len(lines) == 1, process.stderr
    assert lines[0].startswith("fasttile: ")
    assert "Traceback" not in process.stderr
    for word in words:
        assert word in lines[0]
    return lines[0]


# ---- what is made, and where -------------------------------------------------------------------


def test_without_a_destination_the_current_folder_gets_it(picture: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    process = run("cut", picture, cwd=here)
    assert (process.returncode, process.stderr) == (0, "")
    assert entries(here) == {"small picture.dzi", "small picture_files"}
    line = process.stdout.splitlines()[-1]
    for word in ("520×300 pixels", "11 levels", "tiles", " s, ", "MP/s"):
        assert word in line


def test_a_destination_names_the_picture(picture: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "folders" / "called.dzi"
    assert run("cut", picture, "-o", target, "--quiet").stdout == ""
    assert entries(target.parent) == {"called.dzi", "called_files"}


def test_a_folder_gets_one_for_each_source(picture: Path, tmp_path: Path) -> None:
    other = picture.with_name("other.png")
    Image.fromarray(noise(20, 30)).save(other)
    process = run("cut", picture, other, "-o", tmp_path / "out")
    assert process.returncode == 0
    assert len(process.stdout.splitlines()) == 2
    assert {name for name in entries(tmp_path / "out") if name.endswith(".dzi")} == {
        "small picture.dzi",
        "other.dzi",
    }


def test_one_bad_picture_does_not_stop_the_others(picture: Path, tmp_path: Path) -> None:
    process = run("cut", tmp_path / "missing.tif", picture, "-o", tmp_path / "out")
    assert process.returncode == 1
    assert "missing.tif" in process.stderr
    assert entries(tmp_path / "out") == {"small picture.dzi", "small picture_files"}


def test_options_reach_the_tiles(picture: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.dzi"
    words = [
        "--tile-size",
        "128",
        "--overlap",
        "3",
        "--format",
        "png",
        "--region",
        "10,20,200,150",
        "--threads",
        "2",
    ]
    assert run("cut", picture, "-o", target, *words).returncode == 0
    top = tmp_path / "x_files" / "8"
    assert entries(top) == {"0_0.png", "1_0.png", "0_1.png", "1_1.png"}
    with Image.open(picture) as whole, Image.open(top / "1_1.png") as tile:
        box = (10 + 125, 20 + 125, 210, 170)
        assert np.array_equal(np.asarray(whole)[box[1] : box[3], box[0] : box[2]], np.asarray(tile))


def test_16_bit_and_raw_and_window(tmp_path: Path) -> None:
    values = (np.arange(40 * 30).reshape(30, 40) * 50).astype(">u2")
    source = tmp_path / "dump.bin"
    source.write_bytes(b"header" + values.tobytes())
    raw = ["--raw", "40x30x1:>u16:6"]
    target = tmp_path / "deep.dzi"
    assert run("cut", source, "-o", target, *raw, "--bits", "16", "--format", "png").stderr == ""
    with Image.open(tmp_path / "deep_files" / "6" / "0_0.png") as tile:
        assert np.array_equal(np.asarray(tile), values)
    target = tmp_path / "window.dzi"
    words = [*raw, "--window", "1000,2000", "--format", "png"]
    assert run("cut", source, "-o", target, *words).returncode == 0
    with Image.open(tmp_path / "window_files" / "6" / "0_0.png") as tile:
        grey = np.floor((values.astype(float) - 1000).clip(0, 1000) / 1000 * 255 + 0.5)
        assert np.array_equal(np.asarray(tile), grey)


def test_strange_names_survive(picture: Path, tmp_path: Path) -> None:
    for name in ("-dash", "a & <b> \"c\" 'd'", "ünïcødé 地図", "100% #1"):
        source = picture.with_name(f"{name}.tif")
        source.write_bytes(picture.read_bytes())
        out = tmp_path / "out"
        process = run("cut", "-o", out, "--", source.name, cwd=picture.parent)
        assert process.returncode == 0, process.stderr
        assert {f"{name}.dzi", f"{name}_files"} <= entries(out)


# ---- help --------------------------------------------------------------------------------------


def test_help_shows_groups_and_examples() -> None:
    text = run("cut", "--help").stdout
    for word in ("what is read:", "the tiles:", "the result:", "while it runs:", "examples:"):
        assert word in text
    assert "examples:" in run("--help").stdout
    assert run("--version").stdout.startswith("fasttile ")


def test_cut_has_no_option_soup(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cut", "--help"]) == 0
    options = {
        word.strip(" ,[]")
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("  -")
        for word in line.split()
        if word.startswith("--") and not word.startswith("--no-")
    }
    assert {"--tile-size", "--overwrite"} <= options
    assert len(options) <= 28


def test_info_of_a_picture_and_a_result(picture: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.dzi"
    assert run("cut", picture, "-o", target).returncode == 0
    lines = run("info", picture).stdout
    for word in ("TIFF", "520×300 pixels", "3 (RGB)", "mapped", "11 levels", "level 10"):
        assert word in lines
    lines = run("info", target).stdout
    for word in ("Deep Zoom, jpg tiles", "520×300 pixels", "254 pixels, overlap 1"):
        assert word in lines
    stored = sum(file.stat().st_size for file in (tmp_path / "x_files").rglob("*.jpg"))
    assert f"bytes:       {stored:,}" in lines
    assert "MISSING" not in lines
    (tmp_path / "x_files" / "10" / "1_1.jpg").unlink()
    assert dict(describe(str(target)))["  level 10"].startswith("520×300 pixels, 3×2 = 6 tiles (1 ")


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-o", "x.jpg2"], ["'.jpg2'", ".dzi"]),
        (["--tile-size", "0"], ["tile size 0"]),
        (["--overlap", "254"], ["overlap 254", "254"]),
        (["--overlap", "-1"], ["overlap -1"]),
        (["--format", "gif"], ["'gif'", "jpeg, png, webp"]),
        (["--format", "png:quality=3"], ["'quality'", "compress_level"]),
        (["--quality", "101"], ["101", "100"]),
        (["--background", "blueish"], ["'blueish'"]),
        (["--region", "0,0,521,300"], ["521", "520×300"]),
        (["--region", "0,0,0,5"], ["empty"]),
        (["--bits", "16", "--format", "png"], ["16-bit"]),
        (["--threads", "0"], ["threads 0"]),
        (["--window", "9,9"], ["window"]),
        (["--raw", "axb"], ["axb", "WIDTHxHEIGHTxBANDS"]),
    ],
)
def test_wrong_usage_is_one_line_and_2(
    picture: Path, tmp_path: Path, words: list[str], says: list[str]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    told(run("cut", picture, *words, cwd=here), 2, *says)
    assert entries(here) == set()


@pytest.mark.parametrize("words", [[], ["cut"], ["paste"], ["cut", "a", "--wrong"]])
def test_unknown_words_are_2(words: list[str]) -> None:
    process = run(*words)
    assert process.returncode == 2
    assert "usage: fasttile" in process.stderr


def test_clashing_names_are_found_before_anything_is_cut(picture: Path, tmp_path: Path) -> None:
    twin = tmp_path / "small picture.png"
    Image.fromarray(noise(5, 5)).save(twin)
    line = told(run("cut", picture, twin, "-o", tmp_path / "out"), 2, "small picture.dzi")
    assert str(picture) in line
    assert str(twin) in line
    assert entries(tmp_path / "out") == set()


def broken(tmp_path: Path) -> Iterator[tuple[str, bytes | None, str]]:
    """Names, contents (None: no such file) and what the error says."""
    yield "missing.tif", None, "no such file"
    yield "empty.tif", b"", "empty"
    yield "text.tif", b"this is no picture at all", "text.tif"
    whole = tmp_path / "whole.tif"
    Image.fromarray(noise(300, 520)).save(whole)
    yield "short.tif", whole.read_bytes()[:200_000], "short.tif"
    yield "lies.ppm", b"P6 100000 100000 255\n" + bytes(100), "30000000"
    yield "zero.ppm", b"P6 0 10 255\n", "zero.ppm"


def test_broken_sources_are_one_line_and_1(tmp_path: Path) -> None:
    for name, content, says in broken(tmp_path):
        source = tmp_path / name
        if content is not None:
            source.write_bytes(content)
        told(run("cut", source, "-o", tmp_path / "out"), 1, name, says)
        assert entries(tmp_path / "out") == set()
    (tmp_path / "none").mkdir()
    told(run("cut", tmp_path / "none", "-o", tmp_path / "out"), 1, "no picture lies in this folder")


AS_NOBODY = """
import locale, os, shutil, sys, textwrap, traceback
import fasttile.cli, fasttile.info, fasttile.job, fasttile.sinks.directory
import fasttile.sources.tiff, fasttile.sources.picture
os.setgid(65534), os.setuid(65534)
sys.exit(fasttile.cli.main(sys.argv[1:]))
"""


def run_without_rights(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user who may only do in a folder what its modes say."""
    if os.geteuid() != 0:
        return run(*words)
    for above in (folder, *folder.parents):
        if above.stat().st_mode & 0o011 == 0:
            above.chmod(0o755)
    # Imports come first: the interpreter may lie where nobody else may look.
    return subprocess.run(
        [sys.executable, "-c", AS_NOBODY, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_file_that_may_not_be_read(picture: Path, tmp_path: Path) -> None:
    picture.chmod(0)
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    told(run_without_rights(tmp_path, "cut", picture, "-o", out), 1, "small picture.tif")
    assert entries(out) == set()


def test_a_folder_that_may_not_be_written(picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir(mode=0o555)
    told(run_without_rights(tmp_path, "cut", picture, "-o", out / "x.dzi"), 1, str(out))
    assert entries(out) == set()


def test_an_existing_result_is_kept_unless_overwritten(picture: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.dzi"
    assert run("cut", picture, "-o", target).returncode == 0
    before = target.read_bytes()
    told(run("cut", picture, "-o", target, "--format", "png"), 1, "x.dzi", "overwrite")
    assert target.read_bytes() == before
    assert run("cut", picture, "-o", target, "--format", "png", "--overwrite").returncode == 0
    names = {file.suffix for file in (tmp_path / "x_files").rglob("*.*")}
    assert names == {".png"}
    assert entries(tmp_path) == {"in", "x.dzi", "x_files"}


def test_a_fault_of_ours_is_one_line_too(
    picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("fasttile.batch.cut_plan", fail)
    assert cli.main(["cut", str(picture)]) == 1
    shown = capsys.readouterr()
    assert shown.err == (
        "fasttile: unexpected ZeroDivisionError: surprise (--verbose shows where)\n"
    )
    assert cli.main(["cut", str(picture), "--verbose"]) == 1
    assert "Traceback" in capsys.readouterr().err


# ---- interruptions and full disks --------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_leave_nothing_behind(
    large: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*COMMAND, "cut", large, "-o", out / "x.dzi", "--format", "png"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 30
    while not any(out.rglob("*.png")) and time.monotonic() < deadline:
        time.sleep(0.01)  # until tiles are being written
    assert any(out.rglob("*.png"))
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert len(errors.splitlines()) == 1
    assert "nothing was left behind" in errors
    assert entries(out) == set()


def test_a_file_size_limit_is_told_and_cleaned_up(picture: Path, tmp_path: Path) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    out = tmp_path / "out"
    process = run("cut", picture, "-o", out, "--format", "png", preexec_fn=limit)
    told(process, 1, "File too large")
    assert entries(out) == set()


def test_a_full_disk_is_told_and_cleaned_up(large: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here: not run as root")
    try:
        told(run("cut", large, "-o", disk / "x.dzi"), 1, "No space left on device")
        assert entries(disk) == set()
    finally:
        subprocess.run(["umount", disk], check=True)


# ---- progress ----------------------------------------------------------------------------------


def test_nothing_but_errors_when_piped(large: Path, tmp_path: Path) -> None:
    process = run("cut", large, "-o", tmp_path / "x.dzi")
    assert process.stderr == ""
    assert len(process.stdout.splitlines()) == 1


def test_progress_on_demand(large: Path, tmp_path: Path) -> None:
    process = run("cut", large, "-o", tmp_path / "x.dzi", "--progress")
    assert "x.dzi" in process.stderr
    assert "tiles/s" in process.stderr


def test_progress_on_a_terminal(large: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, "cut", large, "-o", tmp_path / "x.dzi"],
        stderr=theirs,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], 30)[0]:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    out, _ = process.communicate(timeout=30)
    os.close(ours)
    assert process.returncode == 0
    assert b"tiles/s" in shown
    assert "MP/s" in out


def test_a_reader_that_leaves_is_no_traceback(picture: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "info", picture], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()
    process.wait(30)
    assert errors == b""
