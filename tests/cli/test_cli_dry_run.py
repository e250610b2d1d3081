"""`cut --dry-run` and `fasttile.estimate`: what a cut then makes, and no file."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile import cli, dry_run
from fasttile.storage.work_folder import WorkFolder
from support.command import COMMAND, noise
from support.file_trees import file_tree


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with an image in it."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(noise(300, 520)).save("map.png")
    return tmp_path


def entries(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All that is in a folder: the time of its last change, and the content of a file."""
    return {
        str(path): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in (folder, *folder.rglob("*"))
    }


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Check that a block writes nothing."""
    before = entries(folder)
    yield
    assert entries(folder) == before


def run_here(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    code = cli.main(arguments)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


RESULTS: dict[str, dict[str, Any]] = {
    "a.dzi": {},
    "new/folders/a.dzi": {"format": "png", "viewer": "leaflet"},
    "a.szi": {},
    "a.zip": {"layout": "zoomify"},
    "a.pmtiles": {"viewer": "openlayers"},
    "a.mbtiles": {},
    "a.tif": {},
    "a.ome.tif": {"format": "deflate"},
    "cog.tif": {"layout": "tiff:cog"},
    "zoomify": {"layout": "zoomify:rounding=ceil", "levels": "0-1"},
    "xyz": {"layout": "xyz:centre", "skip_blank": 5, "tile_size": 32},
    "twice": {"layout": "xyz:scale=2", "tile_size": 64},
    "tms": {"layout": "tms", "background": "transparent", "format": "webp"},
    "cache": {"layout": "tilecache"},
    "gsiv": {"layout": "gsiv"},
    "iiif2": {"layout": "iiif2:id=https://example.org/x,thumbnails=90"},
    "iiif3": {"layout": "iiif3:id=https://example.org/x,manifest", "tile_size": 64},
    "part.dzi": {"region": (100, 50, 301, 99), "levels": "3-6", "shrink": "linear"},
    "b.dzi": {"overlap": 0, "tile_size": 512, "bands": "1"},
    "c.dzi": {"format": "jpeg:credit", "title": "A map", "credit": "CC0", "viewer": "leaflet"},
}


@pytest.mark.parametrize("on_demand", [False, True])
@pytest.mark.parametrize("dest", RESULTS)
def test_small_images_are_estimated_exactly(
    here: Path, monkeypatch: pytest.MonkeyPatch, dest: str, on_demand: bool
) -> None:
    options = RESULTS[dest]
    pixels = np.full((300, 520, 3), 255, np.uint8)
    pixels[90:200, 40:333] = noise(110, 293)
    if on_demand:  # as of images that are too large to be walked
        monkeypatch.setattr(dry_run, "WALKED_PIXELS", 0)
        monkeypatch.setattr(dry_run, "SAMPLED_PIXELS", 2**40)
    with unchanged(here):
        made = fasttile.estimate(pixels, dest, **options)
    report = fasttile.cut(pixels, dest, **options)
    for name in ("path", "width", "height", "levels", "tiles", "blanks", "bytes", "source_pixels"):
        assert getattr(made, name) == getattr(report, name), name
    assert made.sampled == report.tiles + report.blanks
    size = sum(map(len, file_tree(here).values())) - len((here / "map.png").read_bytes())
    assert made.disk_bytes >= size - 20_000  # JPEG tables of a TIFF are stored once; the record
    assert made.disk_bytes <= 2 * size + 4096 * (report.tiles + 40)
    assert made.disk_free is not None
    assert made.disk_free > made.disk_bytes
    assert 40_000_000 < made.memory_bytes < 100_000_000
    assert 0 < made.seconds < 60


@pytest.mark.parametrize(
    ("shape", "dtype", "options"),
    [
        ((1, 1, 3), np.uint8, {}),
        ((1, 3000), np.uint8, {}),
        ((3000, 1, 4), np.uint8, {"format": "png"}),
        ((70, 90), np.uint16, {"format": "png:bits=16"}),
        ((70, 90), np.float32, {"window": (0, 9)}),
        ((513, 4, 2), np.uint8, {"format": "webp"}),
    ],
)
def test_odd_images(here: Path, shape: Any, dtype: Any, options: dict[str, Any]) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, shape).astype(dtype)
    with unchanged(here):
        made = fasttile.estimate(pixels, "a.dzi", **options)
    report = fasttile.cut(pixels, "a.dzi", **options)
    assert (made.tiles, made.bytes) == (report.tiles, report.bytes)
    assert (made.width, made.height) == (report.width, report.height)


@pytest.mark.parametrize("on_demand", [False, True])
def test_a_sample_of_a_homogeneous_image(
    here: Path, monkeypatch: pytest.MonkeyPatch, on_demand: bool
) -> None:
    np.save("noise.npy", noise(1500, 2300))
    monkeypatch.setattr(dry_run, "SAMPLED_TILES", 32)
    if on_demand:
        monkeypatch.setattr(dry_run, "WALKED_PIXELS", 0)
        monkeypatch.setattr(dry_run, "SAMPLED_PIXELS", 2**17)
    options: dict[str, Any] = {"layout": "xyz", "tile_size": 64}
    made = fasttile.estimate("noise.npy", "a", **options)
    report = fasttile.cut("noise.npy", "a", **options)
    assert made.tiles == report.tiles
    assert 40 <= made.sampled <= 120 < report.tiles
    assert made.bytes == pytest.approx(report.bytes, rel=0.04)
    assert made.bytes != report.bytes


def test_blank_tiles_are_estimated(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.full((2048, 2048), 255, np.uint8)
    pixels[1024:] = noise(1024, 2048)[..., 0]
    monkeypatch.setattr(dry_run, "SAMPLED_TILES", 128)
    options: dict[str, Any] = {"layout": "xyz", "tile_size": 64, "skip_blank": 0}
    made = fasttile.estimate(pixels, "a", **options)
    report = fasttile.cut(pixels, "a", **options)
    assert made.tiles + made.blanks == report.tiles + report.blanks
    assert made.blanks == pytest.approx(report.blanks, rel=0.1)
    assert made.bytes == pytest.approx(report.bytes, rel=0.1)


def test_functions_are_drawn_level_by_level(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(region: fasttile.Region, scale: int) -> np.ndarray:
        drawn.append(scale)
        x = np.arange(region.x, region.right)[None] * scale
        return ((x + np.arange(region.y, region.bottom)[:, None]) % 251).astype(np.uint8)

    drawn: list[int] = []
    monkeypatch.setattr(dry_run, "WALKED_PIXELS", 0)
    monkeypatch.setattr(dry_run, "SAMPLED_TILES", 20)
    image = fasttile.from_function(draw, 2**12, 2**12, 1, per_level=True)
    made = fasttile.estimate(image, "a.dzi", overlap=0, tile_size=256, threads=1)
    assert made.tiles == sum(max(1, 4**n // 2**16) for n in range(13))
    assert made.sampled == len(drawn) == 20 + 20 + 16 + 4 + 9
    assert set(drawn) == {2**n for n in range(13)}


def test_an_image_of_any_size_takes_no_longer(here: Path) -> None:
    def draw(region: fasttile.Region) -> np.ndarray:
        return np.zeros((region.height, region.width), np.uint8)

    image = fasttile.from_function(draw, 2**38, 2**34, 1)
    with unchanged(here):
        made = fasttile.estimate(image, "a.szi", max_pixels=2**80)
    assert made.tiles > 2**55
    assert made.sampled < 1000
    assert made.seconds > 10**9
    assert made.notes[-1].startswith("the disk is too small: ")
    with pytest.raises(fasttile.SourceError, match="more than the limit"):
        fasttile.estimate(image, "a.szi")


@pytest.mark.parametrize("overlap", [0, 1, 30])
def test_the_pixels_of_all_tiles(overlap: int) -> None:
    for width in (*range(1, 400, 7), 992, 993, 994, 1023):
        pyramid = fasttile.Pyramid.from_size(width, 40, tile_size=31, overlap=overlap)
        for level in pyramid.levels:
            areas = [pyramid.region(tile) for tile in level.tiles()]
            found = dry_run._span_sum(level.col_span, level.cols)
            assert found * dry_run._span_sum(level.row_span, level.rows) == sum(
                area.width * area.height for area in areas
            )


# ---- refusals -----------------------------------------------------------------------------------


def existing(name: str, *options: str) -> Callable[[Path], None]:
    return lambda here: exec_ok("cut", "map.png", "-o", name, *options)


def exec_ok(*arguments: str) -> None:
    assert cli.main([*arguments, "-q"]) == 0


def plain_folder(name: str) -> Callable[[Path], None]:
    def make(here: Path) -> None:
        (here / name).mkdir()
        (here / name / "mine.txt").write_text("mine")

    return make


REFUSED: dict[str, Callable[[Path], object]] = {
    "map.png -o a.dzi": existing("a.dzi"),
    "map.png -o b.szi": existing("b.szi"),
    "map.png -o c.tif": existing("c.tif"),
    "map.png -o d --layout zoomify": existing("d", "--layout", "zoomify"),
    "map.png -o e.dzi": lambda here: (here / "e_files").mkdir(),
    "map.png -o f --layout xyz --overwrite": plain_folder("f"),
    "map.png -o g.dzi --overwrite": plain_folder("g_files"),
    "map.png -o h.dzi": lambda here: (here / "h.dzi").symlink_to("nowhere"),
    "map.png -o map.png/x.dzi": lambda here: None,
    "map.png -o map.png/sub/x.szi": lambda here: None,
    "map.png -o j.dzi": lambda here: (here / ".j.dzi.fasttile").touch(),
    "map.png -o k.dzi": lambda here: interrupted(here, "k.dzi"),
    "map.png -o l.pmtiles --viewer leaflet": lambda here: (here / "l.html").touch(),
    "map.png -o m.pmtiles --viewer leaflet --overwrite": lambda here: (here / "m.html").touch(),
    "a.tif -o a.tif --overwrite": lambda here: Image.new("L", (9, 9)).save(here / "a.tif"),
    "no.png": lambda here: None,
    "map.png -o x.xyz": lambda here: None,
    "map.png --layout deepzom": lambda here: None,
    "map.png --format png --quality 8": lambda here: None,
    "map.png --region 900,0,5,5": lambda here: None,
    "map.png --max-pixels 10": lambda here: None,
    "map.png --levels 0-30": lambda here: None,
    "map.png --workers x": lambda here: None,
    "map.png --report map.png": lambda here: None,
    "- -o n.dzi --resume": lambda here: None,
    "map.png --skip-blank": lambda here: None,
    "a.npy -o o.dzi": lambda here: (here / "a.npy").write_bytes(b"\x93NUMPY\1\0broken"),
    "map.png map.png -o site/": lambda here: None,
    "nothing -o site": lambda here: (here / "nothing").mkdir(),
    "a.png b.png -o {name}.dzi": lambda here: two_images(here),
}


def two_images(here: Path) -> None:
    """Two images, of which one has a result already."""
    for name in ("a.png", "b.png"):
        Image.new("L", (9, 9)).save(here / name)
    (here / "a.dzi").write_text("of another program")


def interrupted(here: Path, name: str) -> None:
    """Leave what an interrupted run with --resume leaves."""
    np.save(here / "large.npy", noise(2000, 2000))
    options: dict[str, Any] = {"resume": True, "threads": 1, "tile_size": 64}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fasttile.jobs.progress.PROGRESS_SECONDS", 0.0)
        with pytest.raises(fasttile.CancelledError):
            fasttile.cut("large.npy", name, progress=lambda now: now.tiles < 100, **options)
    assert (here / f".{name}.fasttile" / "journal").exists()


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_the_cut_refuses(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
) -> None:
    REFUSED[arguments](here)
    capsys.readouterr()
    data = (here / "map.png").read_bytes()
    words = ["cut", *arguments.split()]
    with unchanged(here):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        dry = run_here(capsys, *words, "--dry-run")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    code, _, errors = run_here(capsys, *words)
    assert code in (1, 2)
    assert (dry[0], dry[2]) == (code, errors)
    assert errors.startswith("fasttile: ")


def test_a_destination_that_another_run_works_on(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.dzi", "a.szi"):
        work = WorkFolder(here / f".{name}.fasttile")
        try:
            shown = [run_here(capsys, "cut", "map.png", "-o", name, *dry) for dry in DRY_AND_WET]
        finally:
            work.remove()
        assert shown[0] == shown[1]
        assert "another run is at work in" in shown[0][2]
        assert run_here(capsys, "cut", "map.png", "-o", name, "--dry-run")[0] == 0


DRY_AND_WET = (("--dry-run",), ())


@pytest.mark.skipif(not hasattr(os, "seteuid") or os.geteuid() != 0, reason="needs root")
def test_a_folder_that_may_not_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        Image.new("L", (9, 9)).save(folder / "a.png")
        folder.chmod(0o555)
        os.setegid(65534)
        os.seteuid(65534)
        try:
            for dest in ("a.dzi", "a.szi", "sub/a.dzi", "sub/sub/a.tif"):
                words = ("cut", f"{name}/a.png", "-o", f"{name}/{dest}")
                shown = [run_here(capsys, *words, *dry) for dry in DRY_AND_WET]
                assert shown[0] == shown[1]
                assert shown[0][0] == 1
                assert shown[0][2].endswith(": Permission denied\n")
        finally:
            os.seteuid(0)
            os.setegid(0)


# ---- output -------------------------------------------------------------------------------------


def test_a_line_for_each_image_and_a_total(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "scans" / "sub").mkdir(parents=True)
    Image.fromarray(noise(600, 500)).save(here / "scans/a.png")
    Image.fromarray(noise(60, 50)).save(here / "scans/sub/b.tif")
    (here / "scans/bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    with unchanged(here):
        code, out, errors = run_here(capsys, "cut", "scans", "-o", "site", "--dry-run")
    assert code == 1
    first, second, total = out.splitlines()
    assert re.fullmatch(
        r"site/a\.dzi: would be dzi in folder, jpeg; 500×600 pixels, 11 levels, \d+ tiles, "
        r"[\d.]+ kB \(all tiles sampled\), \d+\.\d s, [\d.]+ kB of [\d.]+ .B free on the disk, "
        r"[\d.]+ MB of memory",
        first,
    )
    assert second.startswith("site/sub/b.dzi: would be dzi in folder, jpeg; 50×60 pixels")
    assert total.startswith("in all: 2 results, ")
    assert "scans/bad.jpg" in errors
    assert errors.splitlines()[1] == "1 of 3 images failed:"
    exec_ok("cut", "scans/sub", "-o", "site/sub")
    Path("scans/bad.jpg").unlink()
    code, out, _ = run_here(capsys, "cut", "scans/sub", "-o", "site/sub", "--dry-run")
    assert (code, out) == (0, "already cut by an earlier run: 1 of 1 images\n")


def test_the_line_of_a_sample(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "SAMPLED_TILES", 16)
    words = ("cut", "map.png", "--layout", "xyz", "--tile-size", "32", "--skip-blank", "255")
    code, out, _ = run_here(capsys, *words, "-o", "x", "--dry-run")
    assert code == 0
    assert " 0 tiles (239 blank ones left out), about 0 bytes (41 of 239 tiles sampled), " in out


def test_every_page(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages = [Image.fromarray(noise(90, 70 + n)) for n in range(3)]
    pages[0].save("p.tif", save_all=True, append_images=pages[1:])
    words = ("cut", "p.tif", "--page", "all", "-o", "site/", "--json")
    with unchanged(here):
        _, out, _ = run_here(capsys, *words, "--dry-run")
    dry = list(map(json.loads, out.splitlines()))
    _, out, _ = run_here(capsys, *words)
    wet = list(map(json.loads, out.splitlines()))
    for name in ("destination", "width", "tiles", "bytes"):
        assert [one[name] for one in dry] == [one[name] for one in wet]
    assert [one["destination"] for one in dry] == [f"site/p-{n}.dzi" for n in (1, 2, 3)]


def test_standard_input_and_results_as_sources(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (here / "map.png").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    with unchanged(here):
        code, out, _ = run_here(capsys, "cut", "-", "-o", "a.dzi", "--dry-run")
    assert code == 0
    assert out.startswith("a.dzi: would be dzi in folder, jpeg; 520×300 pixels, ")
    exec_ok("cut", "map.png", "-o", "b.dzi", "--format", "png")
    with unchanged(here):
        made = fasttile.estimate("b.dzi", "c.szi", format="png")
    assert made.bytes == fasttile.cut("b.dzi", "c.szi", format="png").bytes


def test_json_is_all_of_standard_output(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "scans").mkdir()
    Image.fromarray(noise(60, 50)).save(here / "scans/a.png")
    (here / "scans/bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    words = ("cut", "scans", "-o", "site", "--json")
    code, out, errors = run_here(capsys, *words, "--dry-run", "--report", "r.jsonl")
    assert code == 1
    assert not (here / "r.jsonl").exists()
    dry = {one["source"]: one for one in map(json.loads, out.splitlines())}
    code, out, errors = run_here(capsys, *words, "--report", "r.jsonl")
    assert code == 1
    assert "1 of 2 images failed" in errors
    assert out == (here / "r.jsonl").read_text()
    wet = {one["source"]: one for one in map(json.loads, out.splitlines())}
    assert wet["scans/bad.jpg"].keys() == {"source", "destination", "error"}
    assert dry["scans/bad.jpg"] == wet["scans/bad.jpg"]
    made = dry["scans/a.png"]
    assert made.keys() - wet["scans/a.png"].keys() == {
        *("dry_run", "layout", "container", "format", "sampled", "disk_bytes", "disk_free"),
        "memory_bytes",
    }
    assert made["bytes"] == wet["scans/a.png"]["bytes"]
    assert (made["encoded"], made["sampled"], made["dry_run"]) == (0, made["tiles"], True)
    code, out, _ = run_here(capsys, *words)
    assert {one["source"]: one.get("skipped") for one in map(json.loads, out.splitlines())} == {
        "scans/a.png": True,
        "scans/bad.jpg": None,
    }


def test_json_of_wrong_usage(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, errors = run_here(capsys, "cut", "map.png", "--json", "-o", "x.xyz")
    assert (code, out) == (2, "")
    assert errors.startswith("fasttile: x.xyz: unknown extension")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_json_that_is_lost_is_an_error(here: Path) -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [*COMMAND, "cut", "map.png", "--json"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert process.returncode == 1
    assert b"standard output: No space left on device" in process.stderr
    assert (here / "map.dzi").exists()


def test_what_prune_would_remove(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "scans").mkdir()
    for name in ("a", "b"):
        Image.fromarray(noise(60, 50)).save(here / f"scans/{name}.png")
    exec_ok("cut", "scans", "-o", "site")
    Path("scans/b.png").unlink()
    words = ("cut", "scans", "-o", "site", "--prune")
    with unchanged(here):
        code, out, _ = run_here(capsys, *words, "--dry-run")
    assert code == 0
    assert "site/b.dzi: would be removed, as its image is not there any more" in out
    code, out, errors = run_here(capsys, *words, "--json")
    assert list(json.loads(out)) == ["source", "destination", "error", "skipped"]
    assert "site/b.dzi: removed, as its image is not there any more" in errors
    assert not (here / "site/b.dzi").exists()


def test_update_says_what_would_be_cut_again(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "scans").mkdir()
    for name in ("a", "b"):
        Image.fromarray(noise(60, 50)).save(here / f"scans/{name}.png")
    exec_ok("cut", "scans", "-o", "site")
    Image.fromarray(noise(61, 50)).save(here / "scans/b.png")
    words = ("cut", "scans", "-o", "site", "--dry-run")
    with unchanged(here):
        refused = run_here(capsys, *words)
        code, out, _ = run_here(capsys, *words, "--update")
    assert refused[0] == 1
    assert "use --update to cut it again" in refused[2]
    assert code == 0
    assert out.splitlines()[0].startswith("site/b.dzi: would be dzi in folder, jpeg; 50×61 pixels")
    assert out.splitlines()[1] == "already cut by an earlier run: 1 of 2 images"


def test_an_interrupted_dry_run_has_left_nothing(here: Path) -> None:
    program = (
        "import os, signal, sys; from fasttile import cli, dry_run\n"
        "def stop(job): os.kill(os.getpid(), signal.SIGINT); raise AssertionError\n"
        "dry_run._Sampler.take = stop\n"
        "sys.exit(cli.main())"
    )
    process = subprocess.run(
        [sys.executable, "-c", program, "cut", "map.png", "--dry-run"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert process.returncode == 128 + signal.SIGINT
    assert process.stderr == "fasttile: interrupted; nothing was left behind\n"
