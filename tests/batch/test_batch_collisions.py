"""Results of one run that collide are found before anything is cut, and so are harmed sources."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import fasttile
from fasttile.batch.items import BatchResult
from fasttile.cli import main
from fasttile.cli.output import open_report
from fasttile.errors import OptionError, TargetError
from support.command import COMMAND, folder_entries, noise, run
from support.file_trees import file_tree


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `fasttile cut`, which must fail with one line and this code; returns the line."""

    def run_refused(*arguments: str, code: int) -> str:
        assert main(["cut", *arguments]) == code
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    return run_refused


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(*names: str) -> None:
    for number, name in enumerate(names):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(40 + number, 50)).save(path, format="png")


@pytest.mark.parametrize(
    ("sources", "layout", "outer", "inner"),
    [
        (["x.png", "x/y.png"], "zoomify", "x.png", "x/y.png"),
        (["x.png", "x/a/b/y.png"], "xyz", "x.png", "x/a/b/y.png"),
        (["page.png", "page_files/img.png"], "dzi", "page.png", "page_files/img.png"),
        (["x.png", "xx/y.png", "x_files/y.png"], "zoomify", "", ""),
        (["x.png", "x/y.png"], "dzi", "", ""),
        (["x.png", "x/y.png"], "tiff", "", ""),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_results_that_contain_one_another(
    folder: Path, sources: list[str], layout: str, outer: str, inner: str, overwrite: bool
) -> None:
    save(*(f"scans/{name}" for name in sources))
    before = file_tree(folder)

    def cut_all(dest: str) -> list[str]:
        results = fasttile.cut_all(["scans"], dest, layout=layout, overwrite=overwrite)
        return [result.error for result in results]

    if outer:
        stem = Path(outer).stem
        with pytest.raises(OptionError) as caught:
            cut_all("site/")
        assert f"the place for scans/{inner} is within site/{stem}" in str(caught.value)
        assert f"the result of scans/{outer}; use another name, such as -o" in str(caught.value)
        assert file_tree(folder) == before
        assert not Path("site").exists()
    # The way out that the message names.
    for dest in ["site/{name}-tiles"] if outer else ["site/"]:
        assert not any(cut_all(dest))
        found = [*Path("site").rglob("*.dzi"), *Path("site").rglob("*.tif")]
        found += [*Path("site").rglob("ImageProperties.xml"), *Path("site").rglob("tiles.json")]
        assert len(found) == len(list(Path("scans").rglob("*.png")))


@pytest.mark.parametrize("target", ["site/x", "site/x/y"])
def test_results_from_several_folders(folder: Path, target: str) -> None:
    """One is within the other only through a link."""
    save("scans/x.png", "scans/link/y.png")
    fasttile.cut("scans/x.png", "site/x", layout="xyz")
    Path("site/link").symlink_to("x", target_is_directory=True)
    with pytest.raises(OptionError, match=r"the place for scans/link/y.png is within site/x, "):
        fasttile.cut_all(["scans"], "site/", layout="xyz", overwrite=True)


def test_one_file_for_two_images(folder: Path) -> None:
    save("scans/a.png", "scans/sub/a.png")
    Path("site").mkdir()
    Path("site/sub").symlink_to(".", target_is_directory=True)
    with pytest.raises(OptionError, match=r"both scans/a.png and scans/sub/a.png would be written"):
        fasttile.cut_all(["scans"], "site/")


def save_pages(name: str) -> None:
    pages = [Image.fromarray(noise(30 + number, 40)) for number in range(3)]
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    pages[0].save(name, save_all=True, append_images=pages[1:])


@pytest.mark.parametrize("layout", ["dzi", "zoomify"])
def test_pages_that_contain_other_results(
    folder: Path, refused: Callable[..., str], layout: str
) -> None:
    inner = "x-3_files" if layout == "dzi" else "x-3"
    save_pages("scans/x.tif")
    save_pages(f"scans/{inner}/y.tif")
    error = refused("scans", "-o", "site/", "--page", "all", "--layout", layout, code=2)
    assert f"the place for scans/{inner}/y.tif is within" in error
    assert not Path("site").exists()


@pytest.mark.parametrize("victim", ["x-2.tif", "x-3/own.png"])
def test_pages_that_harm_a_source(folder: Path, refused: Callable[..., str], victim: str) -> None:
    save_pages("x.tif")
    save(victim)
    before = file_tree(folder)
    layout = "tiff" if victim.endswith("tif") else "xyz"
    # "./" makes it a folder: each page is then named after the file.
    arguments = ["x.tif", victim, "-o", "./", "--page", "all", "--layout", layout, "--overwrite"]
    assert f"the image {victim}" in refused(*arguments, code=1)
    assert file_tree(folder) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_no_result_harms_the_source_of_another(folder: Path, overwrite: bool) -> None:
    save("in/x.png", "in/x_files/y.png")
    before = file_tree(folder)
    with pytest.raises(TargetError, match=r"^in/x_files: .* with the image in/x_files/y.png in it"):
        fasttile.cut_all(["in/x.png", "in/x_files/y.png"], "in/{name}.dzi", overwrite=overwrite)
    assert file_tree(folder) == before


@pytest.mark.parametrize("name", ["x.dzi", "x_files/list", "link"])
def test_no_result_harms_a_list(folder: Path, refused: Callable[..., str], name: str) -> None:
    save("in/x.png")
    Path("x_files").mkdir()
    place = "x.dzi" if name == "link" else name
    Path(place).write_text("in/x.png\n")
    if name == "link":
        Path(name).symlink_to(place)
    before = file_tree(folder)
    assert f"the list {name}" in refused(f"@{name}", "-o", ".", "--overwrite", code=1)
    assert file_tree(folder) == before


def test_standard_input_is_not_replaced(folder: Path) -> None:
    save("map.tif")
    before = file_tree(folder)
    with Path("map.tif").open("rb") as stream:
        process = run("cut", "-", "-o", "map.tif", "--overwrite", stdin=stream)
    assert process.returncode == 1
    assert "map.tif: the result would replace the image on standard input" in process.stderr
    assert file_tree(folder) == before


# ---- the report ----------------------------------------------------------------------------------


def entries(report: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in report.read_text().splitlines()]


def use_link(place: str) -> str:
    Path("report").symlink_to(place)
    return "report"


def use_hard_link(place: str) -> str:
    os.link(place, "report")
    return "report"


@pytest.mark.parametrize("place", ["a.png", "c.png", "list", "notes.txt", "lines.json"])
@pytest.mark.parametrize("way", [str, use_link, use_hard_link])
def test_a_report_replaces_no_other_file(
    folder: Path, refused: Callable[..., str], place: str, way: Callable[[str], str]
) -> None:
    save("a.png", "b.png", "c.png")
    Path("list").write_text("a.png\nb.png\n")
    Path("notes.txt").write_text("my notes")
    Path("lines.json").write_text('{"source": 1}\n')
    report = way(place)
    before = file_tree(folder)
    assert report in refused("@list", "-o", "out/", "--report", report, code=1)
    assert file_tree(folder) == before
    assert not Path("out").exists()


@pytest.mark.parametrize("report", ["out/a.dzi", "out/a_files/report", "out/.a.dzi.fasttile/r"])
def test_a_report_is_not_a_result(folder: Path, refused: Callable[..., str], report: str) -> None:
    save("a.png", "b.png")
    error = refused("a.png", "b.png", "-o", "out/", "--report", report, code=2)
    assert "the report" in error
    assert not Path("out").exists()


@pytest.mark.slow
def test_an_older_report_is_replaced_at_the_end(folder: Path) -> None:
    save("a.png", "b.png")
    report = folder / "report.jsonl"
    report.touch()  # as mktemp makes it
    arguments = ["cut", "a.png", "b.png", "-o", "out/", "--report", report]
    assert run(*arguments, cwd=folder).returncode == 0
    first = report.read_bytes()
    assert [entry["error"] for entry in entries(report)] == [None, None]
    assert run(*arguments, cwd=folder).returncode == 0
    assert [entry["skipped"] for entry in entries(report)] == [True, True]
    assert run(*arguments, "--workers", "none", cwd=folder).returncode == 2
    assert len(entries(report)) == 2
    assert report.read_bytes() != first
    assert folder_entries(folder) == {"a.png", "b.png", "out", "report.jsonl"}


def test_a_report_is_beside_until_the_end(folder: Path) -> None:
    save("a.png")
    report = folder / "report.jsonl"
    report.write_text('{"source": "old", "destination": "x", "error": null}\n')
    before = report.read_bytes()
    command = [*COMMAND, "cut", "-", "-o", "out/a.dzi", "-q", "--report", "report.jsonl"]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        while not (folder / ".report.jsonl.fasttile").exists():
            assert process.poll() is None
            time.sleep(0.01)
        assert report.read_bytes() == before
        process.stdin.write((folder / "a.png").read_bytes())
        process.stdin.close()
        assert process.wait() == 0
    assert [entry["source"] for entry in entries(report)] == ["-"]


@pytest.mark.parametrize("count", [0, 1])
def test_an_interrupted_run_reports_what_it_has_made(folder: Path, count: int) -> None:
    report = folder / "report.jsonl"
    report.write_text('{"source": "old", "destination": "x", "error": null}\n')
    with pytest.raises(KeyboardInterrupt), open_report(str(report)) as write:  # noqa: PT012
        for _ in range(count):
            write(BatchResult("new", Path("y")))
        raise KeyboardInterrupt
    assert [entry["source"] for entry in entries(report)] == ["new" if count else "old"]
    assert folder_entries(folder) == {"report.jsonl"}


def test_a_report_to_a_device_gets_each_line(folder: Path) -> None:
    save("a.png")
    process = run("cut", "a.png", "-o", "out/", "-q", "--report", "/dev/stdout", cwd=folder)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["source"] == "a.png"


def test_a_report_holds_any_name(folder: Path) -> None:
    name = os.fsdecode(b"photo-\xff\xe9.png")
    save("a.png", name)
    report = folder / "report.jsonl"
    process = run("cut", ".", "-o", "out/", "-q", "--report", report, cwd=folder)
    assert process.returncode == 0, process.stderr
    assert {str(entry["source"]) for entry in entries(report)} == {"./a.png", f"./{name}"}
