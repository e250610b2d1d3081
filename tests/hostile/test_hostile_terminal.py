"""Escape sequences in files, names and answers of servers do not reach the terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image, ImageCms

import fasttile
from support.command import COMMAND, run_on_terminal
from support.raw_server import answering

pytestmark = pytest.mark.slow

EVIL = "\x1b]0;pwned\x07\x9b31m\u202e"
"""Sets a terminal's title, turns its text red, and reverses what follows."""

SHOWN = "\\x1b]0;pwned\\x07\\x9b31m\\u202e"

Arguments = tuple[str | Path, ...]


def save_image(path: Path, **options: object) -> Path:
    pixels = np.random.default_rng(7).integers(0, 256, (60, 90, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]
    return path


def run_raw(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def check_clean(output: bytes, allowed: str = "\n") -> None:
    """Check that a terminal shows an output as text, but for these control characters."""
    bad = {
        one
        for one in output.decode().replace("\x1b[A", "")  # tqdm's way to the line above
        if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    }
    assert bad <= set(allowed), output


def named_image(folder: Path) -> Arguments:
    return "cut", save_image(folder / f"{EVIL}.png"), "-o", folder / "out"


def missing_images(folder: Path) -> Arguments:
    return "cut", folder / f"{EVIL}1.png", folder / f"{EVIL}2.png", "-o", folder / "out"


def unknown_layout(folder: Path) -> Arguments:
    return "cut", save_image(folder / "a.png"), "--layout", EVIL


def unknown_format(folder: Path) -> Arguments:
    return "cut", save_image(folder / "a.png"), "--format", EVIL


def unknown_workers(folder: Path) -> Arguments:
    return "cut", save_image(folder / "a.png"), "--workers", EVIL


def unknown_argument(folder: Path) -> Arguments:
    return "info", save_image(folder / "a.png"), f"--{EVIL}"


def unknown_command(folder: Path) -> Arguments:
    return (EVIL,)


def unknown_extension(folder: Path) -> Arguments:
    return "cut", save_image(folder / "a.png"), "-o", folder / f"x.{EVIL}"


def file_that_is_no_report(folder: Path) -> Arguments:
    (folder / EVIL).write_text("mine")
    return "cut", save_image(folder / "a.png"), "-o", folder / "out", "--report", folder / EVIL


def missing_list(folder: Path) -> Arguments:
    return "cut", f"@{folder / EVIL}", "-o", folder


def list_of_missing_images(folder: Path) -> Arguments:
    (folder / "list").write_text(f"{EVIL}.png\n{EVIL}.tif\n")
    return "cut", f"@{folder / 'list'}", "-o", folder


def traceback_of_a_name(folder: Path) -> Arguments:
    return "info", folder / f"{EVIL}.png", "--verbose"


def info_of_a_name(folder: Path) -> Arguments:
    return "info", save_image(folder / f"{EVIL}.png")


def save_profiled_image(folder: Path) -> Path:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    name = "sRGB built-in".encode("utf-16-be")
    evil = f"{EVIL[:9]}pwned".ljust(13)[:13].encode("utf-16-be")
    # Swapped primaries: this profile is converted, and the note has its name.
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    swapped = bytearray(profile.replace(name, evil))
    swapped[red : red + 4], swapped[green : green + 4] = b"gXYZ", b"rXYZ"
    return save_image(folder / "a.jpg", icc_profile=bytes(swapped))


def info_of_a_profile(folder: Path) -> Arguments:
    return "info", save_profiled_image(folder)


def cut_with_a_profile(folder: Path) -> Arguments:
    return "cut", save_profiled_image(folder), "-o", folder / "out"


def write_zip(folder: Path, *names: str) -> Path:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return folder / "a.zip"


def info_of_a_zip(folder: Path) -> Arguments:
    return "info", write_zip(folder, f"{EVIL}a.dzi", "b.dzi")


def view_of_a_zip(folder: Path) -> Arguments:
    return "view", write_zip(folder, f"{EVIL}a.dzi", "b.dzi")


def verify_with_other_files(folder: Path) -> Arguments:
    fasttile.cut(save_image(folder / "a.png"), folder / f"{EVIL}.dzi")
    (folder / f"{EVIL}_files" / f"{EVIL}.txt").touch()
    (folder / f"{EVIL}_files" / "0" / f"{EVIL}.jpg").touch()
    return "verify", folder / f"{EVIL}.dzi"


def verify_of_a_missing_result(folder: Path) -> Arguments:
    return "verify", folder / f"{EVIL}.dzi"


def verify_of_a_deep_zoom_format(folder: Path) -> Arguments:
    evil = f"\x9b31m\u202e{SHOWN}"  # XML holds no escape character
    (folder / "a.dzi").write_text(
        f'<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="{evil}" '
        'TileSize="254" Overlap="1"><Size Width="9" Height="9"/></Image>'
    )
    return "verify", folder / "a.dzi"


def info_of_a_json_descriptor(folder: Path) -> Arguments:
    (folder / "info.json").write_text(
        json.dumps({"@context": EVIL, "protocol": EVIL, "width": EVIL, "height": EVIL})
    )
    return "info", folder / "info.json"


def collection_of_a_missing_image(folder: Path) -> Arguments:
    return "collection", "create", folder / "wall.dzc", folder / f"{EVIL}.dzi"


def collection_of_a_name(folder: Path) -> Arguments:
    image = save_image(folder / f"{EVIL}.png")
    return "collection", "create", folder / f"{EVIL}.dzc", image


def removal_from_a_collection(folder: Path) -> Arguments:
    fasttile.collection.create(folder / "wall.dzc", [save_image(folder / "a.png")])
    return "collection", "remove", folder / "wall.dzc", EVIL


CASES: list[Callable[[Path], Arguments]] = [
    named_image,
    missing_images,
    unknown_layout,
    unknown_format,
    unknown_workers,
    unknown_argument,
    unknown_command,
    unknown_extension,
    file_that_is_no_report,
    missing_list,
    list_of_missing_images,
    traceback_of_a_name,
    info_of_a_name,
    info_of_a_profile,
    cut_with_a_profile,
    info_of_a_zip,
    view_of_a_zip,
    verify_with_other_files,
    verify_of_a_missing_result,
    verify_of_a_deep_zoom_format,
    info_of_a_json_descriptor,
    collection_of_a_missing_image,
    collection_of_a_name,
    removal_from_a_collection,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_outputs_have_no_control_characters(
    case: Callable[[Path], Arguments], tmp_path: Path
) -> None:
    process = run_raw(*case(tmp_path))
    output = process.stdout + process.stderr
    check_clean(output)
    assert b"pwned" in output, output


@pytest.mark.parametrize("bars", ["one", "many", "collection"])
def test_progress_has_no_control_characters(bars: str, tmp_path: Path) -> None:
    images = [save_image(tmp_path / f"{EVIL}{number}.png") for number in range(3)]
    if bars == "collection":
        arguments: Arguments = ("collection", "create", tmp_path / f"{EVIL}.dzc", *images)
    else:
        arguments = ("cut", *images[: 1 if bars == "one" else 3], "-o", tmp_path / "out")
    process = run_on_terminal([*COMMAND, *map(str, arguments)])
    check_clean(process.stderr, allowed="\r\n")
    assert process.returncode == 0
    assert b"pwned" in process.stderr or bars == "many"  # its images may end before a label


ANSWERS = {
    "reason": f"HTTP/1.1 404 {EVIL}\r\nContent-Length: 0\r\n\r\n",
    "redirect": f"HTTP/1.1 302 x\r\nLocation: ftp://x/{EVIL}\r\nContent-Length: 0\r\n\r\n",
    "encoding": f"HTTP/1.1 200 x\r\nContent-Encoding: {EVIL}\r\nContent-Length: 1\r\n\r\nx",
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("verbose", [False, True])
def test_answers_of_servers_have_no_control_characters(
    name: str, verbose: bool, tmp_path: Path
) -> None:
    with answering(ANSWERS[name].encode()) as port:
        url = f"http://127.0.0.1:{port}/a.png"
        report = tmp_path / "report"
        process = run_raw(
            "cut", url, "-o", tmp_path / "out.dzi", "--report", report, *["-v"] * verbose
        )
    assert process.returncode == 1
    for output in (process.stdout, process.stderr, report.read_bytes()):
        check_clean(output)
    assert b"pwned" in process.stderr


def test_the_environment_is_printable(tmp_path: Path) -> None:
    for command in ("cut", "info", "verify", "collection"):
        process = run_raw(
            command, *["create"] * (command == "collection"), "x", "y", FASTTILE_KERNELS=EVIL
        )
        check_clean(process.stderr)
        assert b"Traceback" not in process.stderr


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A running `fasttile view` of a result with an evil name and a missing tile; its address."""
    result = tmp_path / f"{EVIL}.dzi"
    fasttile.cut(save_image(tmp_path / "a.png"), result)
    (tmp_path / f"{EVIL}_files" / "7" / "0_0.jpg").unlink()
    process = subprocess.Popen([*COMMAND, "view", result, "--no-browser"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    line = process.stdout.readline()
    check_clean(line)
    assert SHOWN.encode() in line
    try:
        yield process, line.decode().partition(" ")[0]
    finally:
        process.kill()
        process.communicate()


def test_the_log_of_the_server_has_no_control_characters(
    served: tuple[subprocess.Popen[bytes], str],
) -> None:
    process, url = served
    with pytest.raises(OSError, match="500"):
        urlopen(f"{url}tile/7/0/0")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    check_clean(output)
    assert b"pwned" in output


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8:strict"])
def test_streams_that_lack_characters_get_escapes(encoding: str, tmp_path: Path) -> None:
    names = ("漢字.png", "plain.png")
    images = [save_image(tmp_path / name) for name in names]
    process = run_raw("cut", *images, "-o", tmp_path / "out", PYTHONIOENCODING=encoding)
    assert (process.returncode, process.stderr) == (0, b"")
    assert len(process.stdout.splitlines()) == 2
    assert (b"\\u6f22" in process.stdout) == (not encoding.startswith("utf"))
    assert {path.stem for path in (tmp_path / "out").glob("*.dzi")} == {"漢字", "plain"}


@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_stream_stops_no_cut(closed: int, tmp_path: Path) -> None:
    image = save_image(tmp_path / "a.png")
    process = subprocess.run(
        ["sh", "-c", f'"$@" {closed}>&-', "sh", *COMMAND, "cut", image, "-o", tmp_path / "out/"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, b"")
    assert (tmp_path / "out" / "a.dzi").exists()


def test_results_in_memory_are_not_changed(tmp_path: Path) -> None:
    """Only messages are escaped: a caller gets the path that it asked for."""
    report = fasttile.cut(save_image(tmp_path / f"{EVIL}.png"), tmp_path / f"{EVIL}.dzi")
    assert report.path == tmp_path / f"{EVIL}.dzi"
    (result,) = fasttile.cut_all([str(tmp_path / f"{EVIL}.png")], str(tmp_path / "out"))
    assert result.source == str(tmp_path / f"{EVIL}.png")
    assert (result.error, result.target) == ("", tmp_path / "out" / f"{EVIL}.dzi")
