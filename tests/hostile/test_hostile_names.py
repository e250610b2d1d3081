"""Names that are not UTF-8, not printable, or of dots only: written reversibly and read again."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import fasttile
from fasttile.errors import OptionError, TargetError
from fasttile.readers import open_result
from fasttile.serve.content import open_content
from fasttile.storage.paths import encode_name
from fasttile.verify import verify
from support.command import COMMAND, folder_entries

pytestmark = pytest.mark.skipif(os.name == "nt", reason="file names are bytes")

NAMES = [
    "n\udcff",
    "..",
    "....",
    "a\nb\x1b[m",
    "a%41%zz",
    "..\\b",
    "a\u202eb",
    " ",
    "a?b#c",
]

RESULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "Deep Zoom": ("{}.dzi", {"viewer": "openseadragon"}),
    "JSON": ("{}.dzi", {"layout": "dzi:json"}),
    "SZI": ("{}.szi", {}),
    "ZIP": ("{}.zip", {"viewer": "openseadragon"}),
    "XYZ in ZIP": ("{}.zip", {"layout": "xyz"}),
    "TMS in ZIP": ("{}.zip", {"layout": "tms"}),
    "IIIF in ZIP": ("{}.zip", {"layout": "iiif3:id=https://example.org/{name}"}),
    "PMTiles": ("{}.pmtiles", {}),
    "MBTiles": ("{}.mbtiles", {}),
    "TIFF": ("{}.tif", {}),
    "Zoomify": ("{}", {"layout": "zoomify"}),
    "XYZ": ("{}", {"layout": "xyz"}),
    "TMS": ("{}", {"layout": "tms"}),
    "IIIF": ("{}", {"layout": "iiif2:id=https://example.org/{name}"}),
}

PIXELS = np.random.default_rng(7).integers(0, 256, (300, 400, 3), np.uint8)


def decode_name(text: str) -> str:
    return unquote(text, errors="surrogateescape")


def save_image(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    plain = path.with_name("plain image.png")  # Pillow takes no name that is not UTF-8
    Image.fromarray(PIXELS[:60, :90]).save(plain)
    return plain.rename(path)


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("a map 漢\u3000字", "a map 漢\u3000字"),
        ("100% #1", "100% #1"),
        ("a%41", "a%2541"),
        ("n\udcff", "n%FF"),
        ("a\x1b\x7f\u202e", "a%1B%7F%E2%80%AE"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("..a", "..a"),
        ("..\\a", "..%5Ca"),
    ],
)
def test_names_are_percent_encoded_where_text_is_needed(name: str, encoded: str) -> None:
    assert encode_name(name) == encoded
    assert decode_name(encoded) == name


@given(st.binary().map(os.fsdecode) | st.text(st.sampled_from("%4a1.\\\x1b\udcff")))
def test_encoded_names_can_be_decoded(name: str) -> None:
    encoded = encode_name(name)
    assert decode_name(encoded) == name
    encoded.encode()
    assert encoded == "" or encoded.strip(".")


REFUSED = {
    (name, kind)
    for kind, (pattern, _) in RESULTS.items()
    for name in ("..", "..\\b")
    if pattern == "{}" or (name == ".." and pattern.endswith(("tiles", ".tif")))
}
"""Names of other folders, of unknown extensions, and of tiles' folders in one file."""

READABLE = [(name, kind) for name in NAMES for kind in RESULTS if (name, kind) not in REFUSED]


@pytest.mark.parametrize(("name", "kind"), READABLE)
def test_results_with_such_names_can_be_read(name: str, kind: str, tmp_path: Path) -> None:
    pattern, options = RESULTS[kind]
    path = tmp_path / pattern.format(name)
    fasttile.cut(PIXELS, path, **options)
    report = verify(path, PIXELS)
    assert report.is_complete
    assert not report.notes
    with open_result(path) as reader:
        assert reader.pyramid.size == (400, 300)
        if pattern.endswith((".zip", ".szi")):
            assert decode_name(reader.name) == name
    open_content(path).close()


@pytest.mark.parametrize(("name", "kind"), sorted(REFUSED))
def test_names_of_other_places_are_refused_before_the_cut(
    name: str, kind: str, tmp_path: Path
) -> None:
    pattern, options = RESULTS[kind]
    (tmp_path / "in").mkdir()
    with pytest.raises(OptionError, match=r"is not one path component|unknown extension"):
        fasttile.cut(PIXELS, f"{tmp_path}/in/{pattern.format(name)}", **options)
    assert folder_entries(tmp_path) == {"in"}
    assert folder_entries(tmp_path / "in") == set()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["SZI", "ZIP", "XYZ in ZIP", "IIIF in ZIP"])
def test_entries_of_archives_stay_within_their_folder(name: str, form: str, tmp_path: Path) -> None:
    pattern, options = RESULTS[form]
    path = tmp_path / pattern.format(name)
    fasttile.cut(PIXELS, path, **options)
    with zipfile.ZipFile(path) as archive:
        entries = archive.namelist()
    for entry in entries:
        assert entry.isprintable()
        assert "\\" not in entry
        assert not {"", ".", ".."} & set(entry.split("/"))
    decoded = decode_name(entries[0].partition("/")[0]).removesuffix("_files")
    assert decoded == name


def test_names_within_results_are_encoded(tmp_path: Path) -> None:
    name = "n\udcff\x1b"
    fasttile.cut(PIXELS, tmp_path / f"{name}.mbtiles")
    with closing(
        sqlite3.connect(shutil.copy(tmp_path / f"{name}.mbtiles", tmp_path / "x"))
    ) as file:
        (stored,) = file.execute("SELECT value FROM metadata WHERE name = 'name'").fetchone()
    assert stored == "n%FF%1B"
    fasttile.cut(PIXELS, tmp_path / name, layout="tms")
    document = ElementTree.parse(
        shutil.copy(tmp_path / name / "tilemapresource.xml", tmp_path / "y")
    )
    assert document.findtext("Title") == "n%FF%1B"
    fasttile.cut(PIXELS, tmp_path / "xyz" / name, layout="xyz")
    metadata = json.loads((tmp_path / "xyz" / name / "tiles.json").read_bytes())
    assert metadata["name"] == "n%FF%1B"


@pytest.mark.parametrize("command", ["info", "verify"])
@pytest.mark.parametrize("ending", ["dzi", "szi", "pmtiles", "mbtiles", "tif"])
def test_commands_read_names_that_are_not_utf_8(command: str, ending: str, tmp_path: Path) -> None:
    image = save_image(tmp_path / "i\udcfe.png")
    path = tmp_path / f"n\udcff.{ending}"
    for arguments in (["cut", image, "-o", path], [command, path]):
        process = subprocess.run(
            [*COMMAND, *arguments],
            capture_output=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        )
        assert (process.returncode, process.stderr) == (0, b"")
        assert b"n\\udcff" in process.stdout


def test_a_name_that_no_file_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="no file can have this name"):
        fasttile.cut(PIXELS, tmp_path / "a\ud800.dzi")
    assert folder_entries(tmp_path) == set()


# ---- batches ------------------------------------------------------------------------------------


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of two good images, a link to itself, and names that are no text."""
    folder = tmp_path / "scans"
    for name in ("b.png", "d/c.png", "n\udcff.png", "a\nb.png"):
        save_image(folder / name)
    (folder / "self").symlink_to("self")
    (folder / "d" / "e.png").symlink_to("e.png")
    return folder


def run_strictly(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": "utf-8:strict"},
    )


def test_bad_entries_fail_alone_and_are_named(scans: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "out", tmp_path / "report"
    process = run_strictly("cut", scans, "-o", out, "--report", report)
    assert process.returncode == 1
    lines = process.stderr.decode().splitlines()
    assert len(lines) == 5
    for line, name in zip(sorted(lines[:2]), ("d/e.png", "self"), strict=True):
        assert line.startswith(f"fasttile: {scans}/{name}")
        assert "Too many levels of symbolic links" in line
    assert lines[2] == "2 of 6 images failed:"
    assert len(process.stdout.splitlines()) == 4
    assert {"b.dzi", "n\udcff.dzi", "a\nb.dzi"} < folder_entries(out)
    assert "c.dzi" in folder_entries(out / "d")
    entries = [json.loads(line) for line in report.read_bytes().splitlines()]
    sources = {entry["source"]: entry["error"] for entry in entries}
    assert set(sources) == {
        f"{scans}/{name}"
        for name in ("b.png", "d/c.png", "d/e.png", "n\udcff.png", "a\nb.png", "self")
    }
    assert {source for source, error in sources.items() if error} == {
        f"{scans}/self",
        f"{scans}/d/e.png",
    }


def test_a_report_has_no_control_characters(scans: Path, tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are JSON's escapes of what os.fsencode takes."""
    report = tmp_path / "report"
    run_strictly("cut", scans, "-o", tmp_path / "out", "--report", report)
    data = report.read_bytes()
    assert all(line.isprintable() for line in data.decode().splitlines())
    assert b'n\\udcff.png"' in data


@pytest.mark.slow
def test_a_batch_with_bad_entries_is_resumed(scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run_strictly("cut", scans, "-o", out, "--resume").returncode == 1
    (scans / "self").unlink()
    (scans / "d" / "e.png").unlink()
    process = run_strictly("cut", scans, "-o", out, "--resume")
    assert (process.returncode, process.stderr) == (0, b"")
    assert process.stdout == b"already cut by an earlier run: 4 of 4 images\n"


def test_a_folder_of_links_to_themselves_fails_as_one(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "self").symlink_to("self")
    (result,) = fasttile.cut_all([str(tmp_path / "in")], tmp_path / "out")
    assert "in/self cannot be read: Too many levels" in result.error
    (result,) = fasttile.cut_all([str(tmp_path / "in" / "self")], tmp_path / "out")
    assert "Too many levels" in result.error


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_a_folder_that_cannot_be_read_fails_alone(scans: Path, tmp_path: Path) -> None:
    (scans / "d").chmod(0)
    try:
        results = list(fasttile.cut_all([str(scans)], tmp_path / "out"))
    finally:
        (scans / "d").chmod(0o700)
    errors = {result.source: result.error for result in results if result.error}
    assert set(errors) == {f"{scans}/self", f"{scans}/d"}
    assert errors[f"{scans}/d"].endswith("cannot be read: Permission denied")


@pytest.mark.parametrize("dest", ["out/", "out/{name}.szi", "out/{name}.pmtiles"])
@pytest.mark.parametrize("layout", [None, "zoomify", "xyz"])
def test_images_with_names_of_dots_get_results(
    dest: str, layout: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if layout is not None and not dest.endswith("/"):
        return
    monkeypatch.chdir(tmp_path)
    names = ["...png", "....png", "b.png"]
    for name in names:
        save_image(tmp_path / name)
    results = list(fasttile.cut_all(names, dest, layout=layout))
    assert [result.error for result in results] == [""] * 3
    assert {decode_name(Path(str(result.target)).stem) for result in results} >= {"...", "b"}
    assert folder_entries(tmp_path) == {*names, "out"}
    for result in results:
        assert verify(str(result.target)).is_complete


def test_a_line_of_a_list_that_is_no_path_fails_alone(tmp_path: Path) -> None:
    image = save_image(tmp_path / "b.png")
    (tmp_path / "list").write_bytes(b"a\0b.png\n\xff.png\n" + os.fsencode(image))
    results = list(fasttile.cut_all([f"@{tmp_path / 'list'}"], tmp_path / "out"))
    assert [bool(result.error) for result in results] == [True, True, False]
    assert "a\\x00b.png" in results[0].error
    assert "\\udcff.png" in results[1].error
