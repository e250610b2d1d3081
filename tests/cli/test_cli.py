"""The command line: output, exit codes, and files."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile import cli
from fasttile.cli.info import describe
from support.command import COMMAND, folder_entries, noise, run, run_here, run_on_terminal


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A small image that is mapped."""
    path = tmp_path / "in" / "small image.tif"
    path.parent.mkdir()
    Image.fromarray(noise(300, 520)).save(path)
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image whose cut takes long enough for an interruption."""
    path = tmp_path_factory.mktemp("in") / "large.npy"
    np.save(path, np.tile(noise(1000, 1000), (8, 8, 1)))
    return path


def check_error_line(
    process: subprocess.CompletedProcess[str], code: int, *expected_texts: str
) -> str:
    """Check that a process failed with an exit code and one line on standard error."""
    assert process.returncode == code, process.stderr
    assert process.stdout == ""
    lines = process.stderr.splitlines()
    assert len(lines) == 1, process.stderr
    assert lines[0].startswith("fasttile: ")
    assert "Traceback" not in process.stderr
    for text in expected_texts:
        assert text in lines[0]
    return lines[0]


# ---- results and their places -------------------------------------------------------------------


def test_the_default_destination_is_the_current_folder(image: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    process = run("cut", image, cwd=here)
    assert (process.returncode, process.stderr) == (0, "")
    assert folder_entries(here) == {"small image.dzi", "small image_files"}
    line = process.stdout.splitlines()[-1]
    for part in ("520×300 pixels", "11 levels", "tiles", " s, ", "MP/s"):
        assert part in line


def test_the_rate_is_that_of_the_pixels_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((4000, 5000), 9, np.uint8))
    line = run_here("cut", "a.npy", "--levels", "0-4", cwd=tmp_path).stdout
    found = re.search(r" 5 levels, 5 tiles, .*, ([0-9.]+) s, ([0-9.]+) MP/s$", line.strip())
    assert found, line
    seconds, rate = map(float, found.groups())
    assert (rate - 0.5) * (seconds - 0.005) <= 20 <= (rate + 0.5) * (seconds + 0.005)
    Image.new("L", (3, 2)).save(tmp_path / "b.png")
    line = run_here("cut", "b.png", cwd=tmp_path).stdout
    assert line.endswith(" s\n")
    assert "MP/s" not in line


def test_info_as_json_has_the_facts_of_the_text(image: Path) -> None:
    found = json.loads(run_here("info", image, "--json").stdout)
    assert found["bytes"] == image.stat().st_size
    assert (found["read"], found["pyramid"]) == ("mapped, without a copy", None)
    assert (found["width"], found["height"], found["tiles"]) == (520, 300, 17)
    assert f"read:        {found['read']}\n" in run_here("info", image).stdout
    process = run_here("info", image.with_name("none.tif"), "--json")
    assert process.stdout == ""
    check_error_line(process, 1, "none.tif")


def test_a_destination_with_an_extension_names_the_result(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "folders" / "called.dzi"
    assert run_here("cut", image, "-o", target, "--quiet").stdout == ""
    assert folder_entries(target.parent) == {"called.dzi", "called_files"}


def test_a_folder_receives_one_result_for_each_source(image: Path, tmp_path: Path) -> None:
    other = image.with_name("other.png")
    Image.fromarray(noise(20, 30)).save(other)
    process = run_here("cut", image, other, "-o", tmp_path / "out")
    assert process.returncode == 0
    assert len(process.stdout.splitlines()) == 2
    assert {name for name in folder_entries(tmp_path / "out") if name.endswith(".dzi")} == {
        "small image.dzi",
        "other.dzi",
    }


def test_one_bad_image_does_not_stop_the_others(image: Path, tmp_path: Path) -> None:
    process = run_here("cut", tmp_path / "missing.tif", image, "-o", tmp_path / "out")
    assert process.returncode == 1
    assert "missing.tif" in process.stderr
    assert folder_entries(tmp_path / "out") == {"small image.dzi", "small image_files"}


def test_options_reach_the_tiles(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.dzi"
    arguments = [
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
    assert run_here("cut", image, "-o", target, *arguments).returncode == 0
    top = tmp_path / "x_files" / "8"
    assert folder_entries(top) == {"0_0.png", "1_0.png", "0_1.png", "1_1.png"}
    with Image.open(image) as original, Image.open(top / "1_1.png") as tile:
        box = (10 + 125, 20 + 125, 210, 170)
        assert np.array_equal(
            np.asarray(original)[box[1] : box[3], box[0] : box[2]], np.asarray(tile)
        )


def test_16_bit_and_raw_and_window(tmp_path: Path) -> None:
    values = (np.arange(40 * 30).reshape(30, 40) * 50).astype(">u2")
    source = tmp_path / "dump.bin"
    source.write_bytes(b"header" + values.tobytes())
    raw = ["--raw", "40x30x1:>u16:6"]
    target = tmp_path / "deep.dzi"
    assert (
        run_here("cut", source, "-o", target, *raw, "--bits", "16", "--format", "png").stderr == ""
    )
    with Image.open(tmp_path / "deep_files" / "6" / "0_0.png") as tile:
        assert np.array_equal(np.asarray(tile), values)
    target = tmp_path / "window.dzi"
    arguments = [*raw, "--window", "1000,2000", "--format", "png"]
    assert run_here("cut", source, "-o", target, *arguments).returncode == 0
    with Image.open(tmp_path / "window_files" / "6" / "0_0.png") as tile:
        grey = np.floor((values.astype(float) - 1000).clip(0, 1000) / 1000 * 255 + 0.5)
        assert np.array_equal(np.asarray(tile), grey)


def test_strange_names_are_kept(image: Path, tmp_path: Path) -> None:
    for name in ("-dash", "a & <b> \"c\" 'd'", "ünïcødé 地図", "100% #1"):
        source = image.with_name(f"{name}.tif")
        source.write_bytes(image.read_bytes())
        out = tmp_path / "out"
        process = run_here("cut", "-o", out, "--", source.name, cwd=image.parent)
        assert process.returncode == 0, process.stderr
        assert {f"{name}.dzi", f"{name}_files"} <= folder_entries(out)


# ---- help --------------------------------------------------------------------------------------


def test_help_shows_groups_and_examples() -> None:
    text = run("cut", "--help").stdout
    for part in ("what is read:", "the tiles:", "the result:", "while it runs:", "examples:"):
        assert part in text
    assert "examples:" in run("--help").stdout
    assert run("--version").stdout.startswith("fasttile ")


def test_cut_has_at_most_32_options(capsys: pytest.CaptureFixture[str]) -> None:
    """Those that all commands have apart: help, output and progress."""
    assert cli.main(["cut", "--help"]) == 0
    options = {
        part.strip(" ,[]")
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("  -")
        for part in line.split()
        if part.startswith("--") and not part.startswith("--no-")
    }
    assert {"--tile-size", "--overwrite"} <= options
    assert len(options - {"--help", "--quiet", "--verbose", "--progress"}) <= 32


def test_info_of_an_image_and_a_result(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.dzi"
    assert run_here("cut", image, "-o", target).returncode == 0
    lines = run_here("info", image).stdout
    for part in ("TIFF", "520×300 pixels", "3 (RGB)", "mapped", "11 levels", "level 10"):
        assert part in lines
    lines = run_here("info", target).stdout
    for part in ("Deep Zoom, jpg tiles", "520×300 pixels", "254 pixels, overlap 1"):
        assert part in lines
    stored = sum(file.stat().st_size for file in (tmp_path / "x_files").rglob("*.jpg"))
    assert f"bytes:       {stored:,}" in lines
    assert "MISSING" not in lines
    (tmp_path / "x_files" / "10" / "1_1.jpg").unlink()
    assert dict(describe(str(target)))["  level 10"].startswith("520×300 pixels, 3×2 = 6 tiles (1 ")


# ---- errors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["-o", "x.jpg2"], ["'.jpg2'", ".dzi"]),
        (["--tile-size", "0"], ["tile size 0"]),
        (["--overlap", "254"], ["overlap 254", "254"]),
        (["--overlap", "-1"], ["overlap -1"]),
        (["--format", "gif"], ["'gif'", "jpeg, png, webp"]),
        (["--format", "png:quality=3"], ["png has no parameter 'quality'; it has compress_level"]),
        (["--format", "png", "--quality", "3"], ["png has no parameter 'quality'; it has"]),
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
    image: Path, tmp_path: Path, arguments: list[str], texts: list[str]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    check_error_line(run_here("cut", image, *arguments, cwd=here), 2, *texts)
    assert folder_entries(here) == set()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "COMMAND missing; see fasttile --help"),
        ("cut", "SOURCE missing; see fasttile cut --help"),
        ("collection create", "OUT.dzc, IMAGE missing; see fasttile collection create --help"),
        ("cutt a", "COMMAND 'cutt': unknown; expected cut, info, convert, verify, view or"),
        ("map.tif -o x", "'map.tif' is no command; did you mean fasttile cut map.tif?"),
        ("collection creat x", "ACTION 'creat': unknown; expected create, append or remove; did"),
        ("cut a --qualty 3", "--qualty: unknown option; did you mean --quality?"),
        ("cut a --wrong", "--wrong: unknown option; fasttile cut --help lists all"),
        ("verify a b", "'b': one argument too many"),
        ("cut a --quality", "--quality: its value is missing; expected 1-100"),
        ("cut a -o", "--output: its value is missing; expected one after it"),
        ("cut a --quality x", "--quality 'x': not a whole number; expected 1-100"),
        ("cut a --max-pixels 1e9", "--max-pixels '1e9': not a whole number; expected one such"),
        (
            "cut a --icc srbg",
            "--icc 'srbg': unknown; expected srgb, keep or drop; did you mean srgb",
        ),
        ("cut a --bits 12", "--bits '12': unknown; expected 8 or 16"),
        ("cut a --page x", "--page: 'x' is neither a number nor all"),
        (
            "cut a --p 1",
            "ambiguous option: --p could match --page, --prune, --progress; see fasttile cut",
        ),
        ("cut a --region -5,x", "--region: '-5,x' is not X,Y,W,H in whole pixels"),
        ("cut a --window -5,-6", "window (-5.0, -6.0); expected 'auto', 'full', or two numbers"),
        (
            "cut a --layout iiif",
            "layout 'iiif' is none of dzi, zoomify, xyz, tms, tilecache, gsiv,",
        ),
        ("cut a --layout google", "xyz has the addresses of web maps"),
        ("cut a --layout openseadragon", "dzi is the layout for it; --viewer openseadragon adds"),
        ("cut a --layout zomify:x", "tiff; did you mean zoomify?"),
        (
            "cut a --format jpge",
            "format 'jpge' is none of jpeg, png, webp, avif, deflate; did you mean j",
        ),
        ("cut a --format jpeg:progresive", "jpeg has no parameter 'progresive'; it has quality, "),
        ("cut a --background blak", "or #rrggbbaa; did you mean black?"),
        ("cut a -o m.szj", "m.szj: unknown extension '.szj'; expected .dzi, .szi, .zip, .pmtiles"),
        ("cut a --threads -1", "threads -1 is not at least 1"),
        ("--verion", "--verion: unknown option; did you mean --version?"),
        ("--quality 80 cut a", "--quality: it goes after the command, as in fasttile cut --qualit"),
        ("-q cut a", "-q: it goes after the command, as in fasttile cut -q"),
        ("--qiet a", "--qiet: unknown option; fasttile --help lists all"),
        ("cut a --verbos=x", "--verbose takes no value; leave 'x' out"),
        ("cut a -output site", "-output: unknown option; did you mean --output?"),
        ("cut a -output=site", "-output: unknown option; did you mean --output?"),
        ("cut a -quality 80", "-quality: unknown option; did you mean --quality?"),
        ("-version", "-version: unknown option; did you mean --version?"),
        ("cut a -levels one-tile", "-levels: unknown option; did you mean --levels?"),
        ("cut a --layout deepzom", "gsiv, iiif2, iiif3, tiff; Deep Zoom is dzi"),
        ("cut a --layout gogle", "; xyz has the addresses of web maps"),
        ("cut a --layout xyz:centr", "it has template, centre, scale; did you mean centre?"),
        ("cut a --layout xyz:template={zoom}/{x}/{quadky}", "{zoom} is none of {z}, {x}, {y}, "),
        ("cut a --layout xyz:template={quadky}", "{y}, {quadkey}; did you mean quadkey?"),
        ("cut a --layout zoomify:rounding=ceill", "neither floor nor ceil; did you mean ceil?"),
        ("cut a --layout zoomify:group=tilesize", "did you mean tile-size?"),
        ("cut a --layout tiff:cogg", "it has cog, ome; did you mean cog?"),
        ("cut a --format jpeg:subsampling=4:4:3", "4:4:4, 4:2:2, 4:2:0; did you mean 4:4:4?"),
        ("cut a --viewer opnlayers", "viewer 'opnlayers' is none of openseadragon, openlayers, "),
        ("cut a --viewer leaflet:cdnn", "'cdnn'; it has cdn; did you mean cdn?"),
        ("cut a --shrink modee", "expected mean, linear, nearest, mode, max, min or median; did y"),
        ("cut a --levels one-pixl", "nor one-tile nor one-pixel; did you mean one-pixel?"),
        ("cut a --window ful", "neither LOW,HIGH nor full nor auto; did you mean full?"),
        ("cut a --nodata nane", "neither a number nor nan nor none; did you mean nan?"),
        ("cut a --page al", "neither a number nor all; did you mean all?"),
        ("cut a --raw 4x4x3:uint", "with < or > before it; did you mean uint8?"),
        ("cut a -o map.dzii", "or a folder; did you mean .dzi?"),
        ("cut a -o map.pmtile", "or a folder; did you mean .pmtiles?"),
        ("collection create x.dzc a --viewer opensedragon", "did you mean openseadragon?"),
    ],
)
def test_wrong_usage_names_the_value_and_the_near_word(
    image: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    given = [str(image) if argument == "a" else argument for argument in arguments.split()]
    assert cli.main(given) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("fasttile: ")
    assert message in shown.err
    assert len(shown.err.splitlines()) == 1


def test_the_advice_on_a_name_with_a_space_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["my map.tif"]) == 2
    assert capsys.readouterr().err == (
        "fasttile: 'my map.tif' is no command; did you mean fasttile cut 'my map.tif'?\n"
    )


def test_the_script_of_a_viewer_may_come_from_a_cdn(image: Path, tmp_path: Path) -> None:
    done = run_here("cut", image, "-o", tmp_path / "m.dzi", "--viewer", "openseadragon:cdn")
    assert done.returncode == 0, done.stderr
    assert "https://cdn.jsdelivr.net/" in (tmp_path / "m.html").read_text()


def test_unknown_keywords_have_advice(image: Path) -> None:
    with pytest.raises(TypeError, match=r"no option 'qualty'; .*; did you mean quality\?$"):
        fasttile.cut(str(image), qualty=3)  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"no option 'regoin'; .*; did you mean region\?$"):
        fasttile.verify.verify(image, image, regoin=3)  # type: ignore[arg-type]


def test_missing_files_have_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photo.png", "photo.dzi"):
        Path(name).touch()
    for given, message in [
        (["cut", "photo.pgn"], "photo.pgn: no such file; did you mean photo.png?"),
        (["verify", "phto.dzi"], "phto.dzi: no such file; did you mean photo.dzi?"),
        (["cut", "x/photo.png"], "x/photo.png: no such file"),
        (["cut", "other.tif"], "other.tif: no such file"),
        (
            ["cut", "scans/*.png", "-o", "out"],
            "scans/*.png: no such file; a shell does not expand a pattern in quotes: leave them "
            "out, or name the folder",
        ),
    ]:
        assert cli.main(given) == 1
        assert capsys.readouterr().err == f"fasttile: {message}\n"


def test_clashing_names_are_found_before_anything_is_cut(image: Path, tmp_path: Path) -> None:
    twin = tmp_path / "small image.png"
    Image.fromarray(noise(5, 5)).save(twin)
    line = check_error_line(
        run_here("cut", image, twin, "-o", tmp_path / "out"), 2, "small image.dzi"
    )
    assert str(image) in line
    assert str(twin) in line
    assert folder_entries(tmp_path / "out") == set()


def broken_sources(tmp_path: Path) -> Iterator[tuple[str, bytes | None, str]]:
    """Names, contents (None: no such file) and texts of the error."""
    yield "missing.tif", None, "no such file"
    yield "empty.tif", b"", "empty"
    yield "text.tif", b"this is no image at all", "text.tif"
    complete = tmp_path / "complete.tif"
    Image.fromarray(noise(300, 520)).save(complete)
    yield "short.tif", complete.read_bytes()[:200_000], "short.tif"
    yield "wrong.ppm", b"P6 100000 100000 255\n" + bytes(100), "30000000"
    yield "zero.ppm", b"P6 0 10 255\n", "zero.ppm"


def test_broken_sources_are_one_line_and_1(tmp_path: Path) -> None:
    for name, content, texts in broken_sources(tmp_path):
        source = tmp_path / name
        if content is not None:
            source.write_bytes(content)
        check_error_line(run_here("cut", source, "-o", tmp_path / "out"), 1, name, texts)
        assert folder_entries(tmp_path / "out") == set()
    (tmp_path / "none").mkdir()
    check_error_line(
        run_here("cut", tmp_path / "none", "-o", tmp_path / "out"),
        1,
        "no file in this folder has the extension",
    )


AS_NOBODY = """
import bisect, locale, os, shutil, sys, textwrap, traceback
import fasttile.cli.cut, fasttile.cli.info, fasttile.jobs.cut, fasttile.sinks.folder
import fasttile.sources.tiff, fasttile.sources.pillow
os.setgid(65534), os.setuid(65534)
sys.exit(fasttile.cli.main(sys.argv[1:]))
"""


def run_without_rights(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user whom the modes of files and folders restrict."""
    if os.geteuid() != 0:
        return run(*arguments)
    for above in (folder, *folder.parents):
        if above.stat().st_mode & 0o011 == 0:
            above.chmod(0o755)
    # Imports come first: other users may have no access to the interpreter's folder.
    return subprocess.run(
        [sys.executable, "-c", AS_NOBODY, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_file_without_read_permission(image: Path, tmp_path: Path) -> None:
    image.chmod(0)
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    check_error_line(run_without_rights(tmp_path, "cut", image, "-o", out), 1, "small image.tif")
    assert folder_entries(out) == set()


def test_a_folder_without_write_permission(image: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir(mode=0o555)
    check_error_line(run_without_rights(tmp_path, "cut", image, "-o", out / "x.dzi"), 1, str(out))
    assert folder_entries(out) == set()


def test_an_existing_result_is_kept_unless_overwritten(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.dzi"
    assert run_here("cut", image, "-o", target).returncode == 0
    before = target.read_bytes()
    check_error_line(
        run_here("cut", image, "-o", target, "--format", "png"), 1, "x.dzi", "overwrite"
    )
    assert target.read_bytes() == before
    assert run_here("cut", image, "-o", target, "--format", "png", "--overwrite").returncode == 0
    names = {file.suffix for file in (tmp_path / "x_files").rglob("*.*")}
    assert names == {".png", ".json"}, "the record too"
    assert folder_entries(tmp_path) == {"in", "x.dzi", "x_files"}


def test_an_unexpected_error_is_one_line(
    image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("fasttile.batch.run.run_job", fail)
    assert cli.main(["cut", str(image)]) == 1
    shown = capsys.readouterr()
    assert shown.err == (
        f"fasttile: {image}: unexpected ZeroDivisionError: surprise (--verbose shows where)\n"
    )
    assert cli.main(["cut", str(image), "--verbose"]) == 1
    assert "Traceback" in capsys.readouterr().err


# ---- interruptions and full disks --------------------------------------------------------------


@pytest.mark.slow
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
    assert folder_entries(out) == set()


def test_a_file_size_limit_is_an_error_and_leaves_nothing(image: Path, tmp_path: Path) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    out = tmp_path / "out"
    process = run("cut", image, "-o", out, "--format", "png", preexec_fn=limit)
    check_error_line(process, 1, "File too large")
    assert folder_entries(out) == set()


@pytest.mark.slow
def test_a_full_disk_is_an_error_and_leaves_nothing(large: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here: not run as root")
    try:
        check_error_line(run("cut", large, "-o", disk / "x.dzi"), 1, "No space left on device")
        assert folder_entries(disk) == set()
    finally:
        subprocess.run(["umount", disk], check=True)


# ---- progress ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_no_progress_when_piped(large: Path, tmp_path: Path) -> None:
    process = run("cut", large, "-o", tmp_path / "x.dzi", "--region", "0,0,3000,3000")
    assert process.stderr == ""
    assert len(process.stdout.splitlines()) == 1


@pytest.mark.slow
def test_progress_on_a_terminal(large: Path, tmp_path: Path) -> None:
    process = run_on_terminal([*COMMAND, "cut", str(large), "-o", str(tmp_path / "x.dzi")])
    assert process.returncode == 0
    assert b"x.dzi" in process.stderr
    assert b"tiles/s" in process.stderr
    assert b"MP/s" in process.stdout


def test_a_closed_output_is_no_traceback(image: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "info", image], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()
    process.wait(30)
    assert errors == b""
