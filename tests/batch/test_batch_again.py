"""A batch that runs again cuts only what is new or has changed, as the results' records say."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import fasttile
from fasttile.jobs.record import MAX_RECORD_BYTES, parse_record, recorded_options
from fasttile.verify import repair, verify
from support.command import run as run_process
from support.command import run_here as run
from support.reading import noise

KINDS = {
    "dzi": ("site", {}),
    "zoomify": ("site/", {"layout": "zoomify"}),
    "xyz": ("site/", {"layout": "xyz"}),
    "iiif3": ("site/", {"layout": "iiif3:id=https://h.org/{name}"}),
    "szi": ("site/{name}.szi", {}),
    "zip": ("site/{name}.zip", {"layout": "zoomify"}),
    "pmtiles": ("site/{name}.pmtiles", {}),
    "mbtiles": ("site/{name}.mbtiles", {}),
    "tif": ("site/{name}.tif", {}),
}


@pytest.fixture(autouse=True)
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three images, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.tif", "sub/c.png"):
        path = tmp_path / "scans" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(noise(300, 290)).save(path)
    return tmp_path / "scans"


def outcomes(dest: str, **keywords: Any) -> dict[str, str]:
    """What became of each image: "cut", "skipped", or the error."""
    return {
        result.source.removeprefix("scans/"): result.error
        or ("skipped" if result.skipped else "cut")
        for result in fasttile.cut_all(["scans"], dest, **keywords)
    }


def file_times() -> dict[str, int]:
    return {
        str(path): path.stat().st_mtime_ns for path in Path("site").rglob("*") if path.is_file()
    }


ALL = ("a.png", "b.tif", "sub/c.png")


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_new_or_changed_is_cut_again(kind: str, scans: Path) -> None:
    dest, options = KINDS[kind]
    assert outcomes(dest, **options) == dict.fromkeys(ALL, "cut")
    before = file_times()
    assert outcomes(dest, **options) == dict.fromkeys(ALL, "skipped")
    assert file_times() == before

    Image.fromarray(noise(70, 80)).save(scans / "new.png")
    os.utime(scans / "a.png", ns=(1, 1))
    first = outcomes(dest, **options)
    assert first.pop("new.png") == "cut"
    assert "was made from another version of the image; use --update" in first.pop("a.png")
    assert first == dict.fromkeys(("b.tif", "sub/c.png"), "skipped")
    assert file_times().items() >= before.items()

    assert outcomes(dest, update=True, **options)["a.png"] == "cut"
    assert set(outcomes(dest, **options).values()) == {"skipped"}
    assert set(outcomes(dest, overwrite=True, **options).values()) == {"cut"}


@pytest.mark.parametrize("kind", KINDS)
def test_results_with_a_record_are_complete(kind: str) -> None:
    dest, options = KINDS[kind]
    outcomes(dest, **options)
    for result in fasttile.cut_all(["scans"], dest, **options):
        report = verify(result.target, source=result.source)
        assert report.is_complete, report
        assert not report.notes, "the record is no foreign file"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"quality": 50}, "with another quality"),
        ({"region": (0, 0, 100, 100)}, "with another region"),
        ({"tile_size": 128}, "with another tile_size"),
        ({"layout": "dzi:json"}, "with another layout"),
    ],
)
def test_other_options(change: dict[str, Any], text: str) -> None:
    outcomes("site")
    for error in outcomes("site", **change).values():
        assert text in error
    assert set(outcomes("site", update=True, **change).values()) == {"cut"}
    assert set(outcomes("site", **change).values()) == {"skipped"}
    assert set(outcomes("site", threads=1, **change).values()) == {"skipped"}


def test_results_without_a_record_are_not_touched() -> None:
    outcomes("site")
    Path("site/a_files/.fasttile.json").unlink()
    Path("site/b_files/.fasttile.json").write_text("[" * 1000)
    found = outcomes("site", update=True)
    assert found.pop("sub/c.png") == "skipped"
    assert all("exists already" in error for error in found.values())


def test_a_result_that_was_not_finished_is_cut_again() -> None:
    outcomes("site")
    Path("site/.a.dzi.fasttile").mkdir(mode=0o700)
    Path("site/b.dzi").unlink()
    found = outcomes("site", overwrite=False)
    assert found["sub/c.png"] == "skipped"
    assert "exists already" in found["a.png"]
    assert not Path("site/.a.dzi.fasttile").exists()


@pytest.mark.slow
def test_pages() -> None:
    pages = [Image.fromarray(noise(60 + number, 50)) for number in range(3)]
    pages[0].save("scans/pages.tif", save_all=True, append_images=pages[1:])
    command = ["cut", "scans", "-o", "site", "--page", "all"]
    assert run(*command).returncode == 0
    again = run(*command)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == "already cut by an earlier run: 4 of 4 images\n"
    pages[0].save("scans/pages.tif", save_all=True, append_images=pages[1:2])
    assert "from another version" in run(*command).stderr


@pytest.mark.slow
def test_one_image_alone_is_refused_as_before_or_updated() -> None:
    command = ["cut", "scans/a.png", "-o", "site"]
    assert run(*command).returncode == 0
    assert "exists already" in run(*command).stderr
    assert run(*command, "--update").stdout.startswith("already cut")
    os.utime("scans/a.png", ns=(1, 1))
    assert run(*command, "--update").stdout.startswith("site/a.dzi: 290×300")


@pytest.mark.slow
def test_tiles_without_a_descriptor_are_known_again(tmp_path: Path) -> None:
    fasttile.cut("scans/a.png", tmp_path / "t", layout="xyz", tile_size=64, format="png")
    (tmp_path / "t/tiles.json").unlink()
    command = ["cut", "t/{z}/{x}/{y}.png", "-o", "site/"]
    assert run(*command, "--update").stdout.startswith("site/t.dzi: 320×320")
    assert run(*command, "--update").stdout.startswith("already cut")
    (tmp_path / "t/3/0/0.png").write_bytes((tmp_path / "t/3/1/1.png").read_bytes())
    assert run(*command, "--update").stdout.startswith("site/t.dzi: 320×320")
    other = ["cut", "t/{z}/{y}/{x}.png", "-o", "site/", "--update", "--workers", "2"]
    assert run(*other).stdout.startswith("site/t.dzi: 320×320")
    source = f"{tmp_path}/t/{{z}}/{{y}}/{{x}}.png"
    assert verify("site/t.dzi", source=source).is_complete


def test_verify_reads_the_options() -> None:
    options: dict[str, Any] = {"region": (10, 20, 200, 100), "format": "jpeg:progressive"}
    fasttile.cut("scans/a.png", "site/a.dzi", icc="keep", quality=31, shrink="mode", **options)
    assert verify("site/a.dzi", source="scans/a.png").is_complete
    found = run("verify", "site/a.dzi", "--source", "scans/a.png")
    assert (found.returncode, found.stderr) == (0, "")
    with pytest.raises(fasttile.SourceError, match="290×300"):
        verify("site/a.dzi", source="scans/a.png", region=None)


def test_a_repaired_result_keeps_its_record() -> None:
    for kind, name in (("szi", "a.szi"), ("pmtiles", "a.pmtiles"), ("tif", "a.tif")):
        fasttile.cut("scans/a.png", f"site/{name}", quality=31)
        with fasttile.open_pyramid(f"site/{name}") as reader:
            before = reader.record()
        pixels = noise(300, 290)
        pixels[200:240, 200:240] = 255
        Image.fromarray(pixels).save("scans/other.png")
        assert repair(f"site/{name}", source="scans/other.png").is_complete, kind
        with fasttile.open_pyramid(f"site/{name}") as reader:
            assert reader.record() == before


@pytest.mark.slow
def test_info_shows_how_a_result_was_made() -> None:
    fasttile.cut("scans/a.png", "site/a.dzi", quality=31)
    lines = run("info", "site/a.dzi").stdout.splitlines()
    assert "made from:   a.png" in lines
    assert "options:     quality=31" in lines
    found = json.loads(run("info", "site/a.dzi", "--json").stdout)
    assert found["record"]["source"]["size"] == Path("scans/a.png").stat().st_size


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"{}",
        b'{"record": 2}',
        b"\xff",
        b"[" * 10_000,
        b'{"record": 1e999}',
        b'{"record": 1, "x": "' + b"x" * MAX_RECORD_BYTES + b'"}',
    ],
)
def test_bad_records_are_none(data: bytes) -> None:
    assert parse_record(data) is None
    assert recorded_options(data) == {}


@pytest.mark.parametrize(
    "options",
    [
        [],
        "x",
        {"quality": "x"},
        {"region": "(0, 0, 1, 1)"},
        {"region": [1]},
        {"icc": []},
        {"bits": {}},
        {"window": [[]]},
    ],
)
def test_bad_options_of_a_record(options: Any) -> None:
    assert recorded_options(json.dumps({"record": 1, "options": options}).encode()) == {}


def test_a_record_raises_no_limit() -> None:
    record = json.dumps({"record": 1, "options": {"max_pixels": 10**15, "quality": 40}})
    assert recorded_options(record.encode()) == {"quality": 40}


def test_a_record_shows_no_secret() -> None:
    fasttile.cut("scans/a.png", "site/a.dzi")
    text = Path("site/a_files/.fasttile.json").read_text()
    assert str(Path.cwd()) not in text, "names of folders are nobody else's business"


def entries(folder: str = "site") -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_results_without_an_image_are_listed_and_removed(kind: str, scans: Path) -> None:
    dest, options = KINDS[kind]
    command = ["cut", "scans", "-o", dest, *(f"--{key}={value}" for key, value in options.items())]
    (scans / "a.png").rename(scans / "keep.png")
    assert run(*command).returncode == 0
    kept = entries()
    (scans / "keep.png").rename(scans / "gone.png")
    assert run(*command).returncode == 0
    (scans / "gone.png").rename(scans / "keep.png")
    assert run("cut", "scans/b.tif", "-o", "site/by-hand.dzi").returncode == 0
    by_hand = {name for name in entries() if name.startswith("by-hand")}

    listed = run(*command)
    assert (listed.returncode, listed.stderr) == (0, "")
    names = [line for line in listed.stdout.splitlines() if line.startswith("without an image")]
    assert len(names) == 1
    assert "site/gone" in names[0]
    assert "keep" not in names[0]
    assert "by-hand" not in names[0]

    pruned = run(*command, "--prune")
    assert (pruned.returncode, pruned.stderr) == (0, "")
    assert "removed, as its image is not there any more" in pruned.stdout
    assert entries() == kept | by_hand
    assert "image" not in run(*command).stdout.replace("3 images", "")


@pytest.mark.slow
def test_prune_keeps_what_it_does_not_know(scans: Path) -> None:
    command = ["cut", "scans", "-o", "site", "--prune", "--viewer", "openseadragon"]
    command += ["--layout", "dzi:json"]
    assert run(*command).returncode == 0
    (scans / "a.png").unlink()
    (scans / "b.tif").unlink()
    Path("site/a_files/notes.txt").write_text("mine")
    before = entries()
    found = run(*command)
    assert found.returncode == 1
    assert "site/a_files/notes.txt is no part of the result, which is not removed" in found.stderr
    assert before - entries() == {
        name for name in before if name.startswith(("b_files/", "b.")) and "/sub/" not in name
    }
    Path("site/a_files/notes.txt").unlink()
    Path("site/a_files/0/0_0.jpg").unlink()
    Path("site/a_files/0/0_0.jpg").symlink_to(Path("scans/sub/c.png").absolute())
    assert run(*command).returncode == 1
    assert Path("site/a.dzi").exists()


@pytest.mark.slow
def test_prune_follows_no_link(scans: Path) -> None:
    command = ["cut", "scans", "-o", "site", "--prune"]
    assert run(*command).returncode == 0
    Path("site").rename("elsewhere")
    Path("site").mkdir()
    Path("site/a_files").symlink_to(Path("elsewhere/a_files").absolute())
    Path("site/a.dzi").symlink_to(Path("elsewhere/a.dzi").absolute())
    Path("site/box").symlink_to(Path("elsewhere").absolute())
    (scans / "a.png").unlink()
    before = entries("elsewhere")
    run(*command)
    assert entries("elsewhere") == before


@pytest.mark.parametrize("sources", [["scans/a.png"], ["scans", "scans/a.png"], ["@-"]])
def test_prune_needs_folders_or_lists(sources: list[str]) -> None:
    found = run_process("cut", *sources, "-o", "site", "--prune", input="scans/a.png\n")
    assert found.returncode == 2
    assert found.stderr.startswith("fasttile: --prune: only for folders and @LISTs")
    assert not Path("site").exists()


def test_prune_does_not_search_buckets() -> None:
    found = run("cut", "scans", "-o", "s3://bucket/site/", "--prune")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("fasttile: --prune: results in a bucket are not searched; leave")


@pytest.mark.slow
def test_other_batches_in_the_same_folder_are_not_pruned() -> None:
    Path("other").mkdir()
    Path("scans/b.tif").rename("other/b.tif")
    for folder in ("scans", "other", "scans"):
        assert run("cut", folder, "-o", "site", "--prune").returncode == 0
    assert {"a.dzi", "b.dzi", "sub/c.dzi"} <= entries()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["-o", "site"], ["-o", "site/{name}.szi"]),
        (["-o", "site"], ["-o", "site/", "--layout", "zoomify"]),
        (["-o", "site/{name}.szi"], ["-o", "site/{name}-{ext}.szi"]),
        (["-o", "site", "--page", "all"], ["-o", "site"]),
    ],
)
def test_batches_of_the_same_images_do_not_prune_one_another(
    one: list[str], other: list[str]
) -> None:
    """Each image is there, so neither batch may call the other's results results without one."""
    assert run("cut", "scans", *one).returncode == 0
    first = entries()
    found = run("cut", "scans", *other, "--prune")
    assert (found.returncode, found.stderr) == (0, "")
    assert "removed" not in found.stdout
    assert first < entries()
    second = entries()
    assert "without an image" not in run("cut", "scans", *one).stdout
    assert run("cut", "scans", *one, "--prune").returncode == 0
    assert entries() == second


@pytest.mark.slow
def test_the_same_destination_in_other_words_is_the_same_batch(scans: Path, tmp_path: Path) -> None:
    assert run("cut", "scans", "-o", "site").returncode == 0
    (scans / "a.png").unlink()
    assert "site/a.dzi" in run("cut", f"{scans}/", "-o", f"{tmp_path}/site/").stdout


@pytest.mark.slow
def test_nothing_is_pruned_where_a_folder_cannot_be_read(scans: Path) -> None:
    if os.geteuid() == 0:
        (scans / "sub").rename("moved")
        (scans / "sub").symlink_to("sub")  # leads to itself
    else:
        (scans / "sub").chmod(0)
    Path("scans2").mkdir()
    before = run("cut", "scans", "-o", "site")
    assert before.returncode == 1
    found = run("cut", "scans", "-o", "site", "--prune")
    assert found.returncode == 1
    assert {"a.dzi", "b.dzi"} <= entries()


@pytest.mark.slow
def test_pages_without_an_image() -> None:
    pages = [Image.fromarray(noise(60 + number, 50)) for number in range(3)]
    pages[0].save("scans/pages.tif", save_all=True, append_images=pages[1:])
    command = ["cut", "scans", "-o", "site", "--page", "all", "--prune"]
    assert run(*command).returncode == 0
    assert run(*command).stdout == "already cut by an earlier run: 4 of 4 images\n"
    assert len([name for name in entries() if name.endswith(".dzi")]) == 6
    Path("scans/pages.tif").unlink()
    assert run(*command).returncode == 0
    assert len([name for name in entries() if name.endswith(".dzi")]) == 3
