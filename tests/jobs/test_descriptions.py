"""The texts of manifests: rows of a CSV, or those of the image's own file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile.cli import main
from fasttile.errors import OptionError
from fasttile.jobs.descriptions import DescriptionTable, description_table
from fasttile.layouts.presentation import Description
from support.cut_cases import ADDRESS
from support.damage import file_tree
from support.reading import noise

MANIFEST = f"iiif3:id={ADDRESS},manifest"


def table(path: Path, text: str | bytes) -> DescriptionTable:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return DescriptionTable(str(path))


def find(path: Path, text: str | bytes, source: str = "scans/a.tif") -> Description | None:
    return table(path, text).find(source)


HEADER = "file,label,summary,rights,provider,provider_url,attribution,Date\n"


def test_each_column(tmp_path: Path) -> None:
    line = 'a.tif,"A, b",S,http://creativecommons.org/licenses/by/4.0/,P,https://p.org/,©,1890\n'
    expected = Description(
        "A, b",
        "S",
        "http://creativecommons.org/licenses/by/4.0/",
        ("©",),
        "P",
        "https://p.org/",
        (("Date", "1890"),),
    )
    path = tmp_path / "t.csv"
    assert find(path, HEADER + line) == expected
    assert find(path, "\ufeff" + HEADER + line) == expected
    assert find(path, (HEADER + line).replace("\n", "\r\n")) == expected
    assert find(path, "\n" + HEADER + "\n,,,,,,,\n" + line) == expected
    assert find(path, HEADER + "other,,,,,,,\n") is None


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters(delimiter: str, tmp_path: Path) -> None:
    text = f"FILE{delimiter}Label{delimiter}requiredStatement\na{delimiter}A, b{delimiter}© x\n"
    assert find(tmp_path / "t.csv", text) == Description("A, b", statements=("© x",))


def test_other_rights_are_a_statement(tmp_path: Path) -> None:
    text = "file,rights,attribution\na,All rights reserved,Museum\nb,© M,© M\n"
    path = tmp_path / "t.csv"
    assert find(path, text) == Description("a", statements=("Museum", "All rights reserved"))
    assert find(path, text, "b.png") == Description("b", statements=("© M",))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("a.tif", "/x/a.tif"),
        ("a", "a.jpg"),
        ("a.b", "a.b.jpg"),
        ("sub/a.tif", "other/a.tif"),
        ("C:\\scans\\a.tif", "a.tif"),
        ("Ko\u0308ln", "x/K\u00f6ln.tif"),
        ("K\u00f6ln", "x/Ko\u0308ln.tif"),
        ("a.tif", "https://example.org/x/a.tif?size=1"),
    ],
)
def test_names_of_files(name: str, source: str, tmp_path: Path) -> None:
    assert find(tmp_path / "t.csv", f"file,label\n{name},A\n", source) == Description("A")


def test_a_name_comes_before_a_stem(tmp_path: Path) -> None:
    text = "file,label\na,stem\na.tif,name\n"
    assert find(tmp_path / "t.csv", text) == Description("name")
    assert find(tmp_path / "t.csv", text, "a.png") == Description("stem")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty; expected columns file"),
        ("\n\n", "it is empty"),
        ("name,label\na,A\n", "no column is called file; its first line is 'name, label'"),
        ("file,label,label\na,A,B\n", "two columns are called 'label'"),
        ("file,,label\na,A,B\n", "column 2 has no name"),
        ("file,label\n,A\n", "line 2: no file is named"),
        ("file,label\na,A\nb,B\na,C\n", "lines 2 and 4 are both of a"),
        ("file,label\na,A,B\n", "line 2: 3 values for 2 columns"),
        ('file,label\na,"A\n', "line 2: unexpected end of data; save it as CSV"),
        (b"file,label\na,K\xf6ln\n", "line 2 is not UTF-8; save it as UTF-8"),
        ("file,label\na," + "x" * 200_000 + "\n", "field larger than field limit"),
    ],
)
def test_refuses_what_is_no_table(text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        table(tmp_path / "t.csv", text)
    assert str(caught.value).startswith(str(tmp_path / "t.csv"))


def test_a_table_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with pytest.raises(OptionError, match="cannot be read: No such file"):
        description_table(str(path))
    with pytest.raises(OptionError, match="is a directory"):
        description_table(str(tmp_path))
    table(path, "file,label\na,A\n")
    first = description_table(str(path))
    assert description_table(str(path)) is first
    table(path, "file,label\na,Another\n")
    assert description_table(str(path)).find("a") == Description("Another")


# ---- cuts --------------------------------------------------------------------------------------


def cut(tmp_path: Path, source: Any, layout: str = MANIFEST, **options: Any) -> dict[str, Any]:
    """The manifest of a result, which is complete."""
    place = tmp_path / "a"
    options = {"tile_size": 64, "overwrite": True, **options}
    fasttile.cut(source, place, layout=layout, **options)
    assert fasttile.verify.verify(place).notes == ()
    found: dict[str, Any] = json.loads((place / "manifest.json").read_text("utf-8"))
    return found


def test_texts_of_the_file(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[270], tags[315], tags[33432] = "Beschreibung ü".encode(), b"Anna", "© Museum".encode()
    path = tmp_path / "x.jpg"
    Image.fromarray(noise(99, 150, 3)).save(path, exif=tags)
    found = cut(tmp_path, path)
    assert found["label"] == {"none": ["a"]}
    assert found["summary"] == {"none": ["Beschreibung ü"]}
    assert found["requiredStatement"]["value"] == {"none": ["© Museum"]}
    assert found["metadata"] == [{"label": {"none": ["Creator"]}, "value": {"none": ["Anna"]}}]
    assert "rights" not in found
    (tmp_path / "t.csv").write_text("file,label\nx,Aus der Tabelle\n")
    found = cut(tmp_path, path, f"{MANIFEST}={tmp_path / 't.csv'}")
    assert found["label"] == {"none": ["Aus der Tabelle"]}
    assert "summary" not in found


def test_arrays_and_results_have_a_name(tmp_path: Path) -> None:
    assert cut(tmp_path, noise(9, 9, 3))["label"] == {"none": ["a"]}
    place = tmp_path / b"\xff b".decode("utf-8", "surrogateescape")
    fasttile.cut(noise(9, 9, 3), place, layout=MANIFEST)
    found = json.loads((place / "manifest.json").read_text("utf-8"))
    assert found["label"] == {"none": ["%FF b"]}
    assert found["id"] == "https://example.org/%FF%20b/manifest.json"


def test_a_page_has_its_number(tmp_path: Path) -> None:
    pages = [Image.fromarray(noise(20, 20, 3)) for _ in range(2)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    assert cut(tmp_path, tmp_path / "x.tif", page=2)["label"] == {"none": ["a (2)"]}


def test_notes_on_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, csv_path = tmp_path / "x.png", tmp_path / "t.csv"
    Image.fromarray(noise(20, 20, 3)).save(path)
    csv_path.write_text("file,label\ny,A\n")
    layout = f"{MANIFEST}={csv_path}"
    report = fasttile.cut(path, tmp_path / "a", layout=layout)
    assert report.notes == (
        f"{csv_path} has no row of {path}: its manifest has the texts in the file",
    )
    assert main(["cut", str(path), "-o", str(tmp_path / "b"), "--layout", layout]) == 0
    assert f"{csv_path}: no image for y\n" in capsys.readouterr().out


def test_the_record_hides_the_folder_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    table(tmp_path / "secret/t.csv", "file,label\na,A\n")
    cut(tmp_path, noise(20, 20, 3), f"{MANIFEST}={tmp_path / 'secret/t.csv'}")
    for data in file_tree(tmp_path / "a").values():
        assert b"secret" not in data
    record = json.loads((tmp_path / "a/.fasttile.json").read_text())
    assert record["parameters"]["manifest"] == "t.csv"
    assert record["options"]["layout"] == f"{MANIFEST}=t.csv"


@pytest.mark.parametrize("way", ["no", "none.csv", "folder"])
def test_other_values(way: str, tmp_path: Path) -> None:
    layout = f"{MANIFEST}={tmp_path if way == 'folder' else way}"
    if way == "no":
        fasttile.cut(noise(9, 9, 3), tmp_path / "a", layout=layout)
        assert not (tmp_path / "a/manifest.json").exists()
        return
    with pytest.raises(OptionError, match=r"cannot be read|is a directory"):
        fasttile.cut(noise(9, 9, 3), tmp_path / "a", layout=layout)
    assert not (tmp_path / "a").exists()


def test_parameters_without_a_value(tmp_path: Path) -> None:
    for text in ("manifest=", "thumbnails", "thumbnails="):
        message = f"iiif3:{text.strip('=')} has no value; expected {text.strip('=')}=…"
        with pytest.raises(OptionError, match=message):
            fasttile.cut(noise(9, 9, 3), tmp_path / "a", layout=f"iiif3:id={ADDRESS},{text}")


def test_where_there_is_no_place_for_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="iiif2 has no parameter 'manifest'"):
        fasttile.cut(noise(9, 9, 3), tmp_path / "a", layout=f"iiif2:id={ADDRESS},manifest")
    with pytest.raises(OptionError, match="iiif3 needs the address"):
        fasttile.cut(noise(9, 9, 3), tmp_path / "a", layout="iiif3:manifest")
    with pytest.raises(OptionError, match="iiif3:manifest: the tiles go to the program"):
        fasttile.cut(noise(9, 9, 3), layout=MANIFEST, store=lambda tile, data: None)
    with fasttile.open_pyramid(noise(9, 9, 3), layout=MANIFEST) as pyramid:
        assert pyramid.tile(pyramid.level_count - 1, 0, 0)
    assert len([*fasttile.iter_tiles(noise(9, 9, 3), layout=MANIFEST)]) == 1


# ---- verify, repair, convert -------------------------------------------------------------------


def test_verify_knows_the_manifest(tmp_path: Path) -> None:
    pixels, place = noise(99, 150, 3), tmp_path / "a"
    table(tmp_path / "t.csv", "file,label,summary\na,A,B\n")
    cut(tmp_path, pixels, f"{MANIFEST}={tmp_path / 't.csv'}")
    (tmp_path / "t.csv").unlink()
    path = place / "manifest.json"
    good = path.read_bytes()
    own_label = good.replace(b'"A"', b'"Edited"')
    path.write_bytes(own_label)
    assert fasttile.verify.verify(place).is_complete
    path.write_bytes(own_label.replace(b'"width": 150', b'"width": 151'))
    (fault,) = fasttile.verify.verify(place, pixels).faults
    assert (fault.name, fault.problem) == (
        "a/manifest.json",
        "has another address or image than info.json",
    )
    assert fasttile.verify.repair(place, pixels).is_complete
    assert json.loads(path.read_bytes())["label"] == {"none": ["Edited"]}
    for data, problem in ((None, "is missing"), (b"{", "cannot be read: it is no manifest")):
        path.unlink()
        if data is not None:
            path.write_bytes(data)
        report = fasttile.verify.verify(place)
        assert [fault.problem.startswith(problem) for fault in report.faults] == [True]
        assert not fasttile.verify.repair(place, pixels).is_complete
        path.touch()


def test_conversions_keep_the_manifest(tmp_path: Path) -> None:
    pixels = noise(99, 150, 3)
    table(tmp_path / "t.csv", "file,label,summary\na,A,B\nd,D,E\n")
    layout = f"iiif3:id={ADDRESS},thumbnails=40,manifest={tmp_path / 't.csv'}"
    cut(tmp_path, pixels, layout)
    files = file_tree(tmp_path / "a")
    (tmp_path / "t.csv").unlink()
    fasttile.convert(tmp_path / "a", tmp_path / "b.zip")
    fasttile.convert(tmp_path / "b.zip", tmp_path / "c")
    again = file_tree(tmp_path / "c")
    assert again.keys() == files.keys()
    different = {name for name in files if files[name] != again[name]}
    assert different == {".fasttile.json"}
    found = json.loads(again["manifest.json"])
    assert (found["label"], found["summary"]) == ({"none": ["A"]}, {"none": ["B"]})
    for place in ("b.zip", "c"):
        report = fasttile.verify.verify(tmp_path / place, pixels)
        assert (report.is_complete, report.notes) == (True, ())
    fasttile.convert(tmp_path / "a", tmp_path / "x.dzi", layout="dzi", reencode=True)
    fasttile.convert(tmp_path / "x.dzi", tmp_path / "d", layout=MANIFEST, reencode=True)
    assert json.loads((tmp_path / "d/manifest.json").read_text())["label"] == {"none": ["d"]}
    table(tmp_path / "t.csv", "file,label,summary\nx,X,E\n")
    layout = f"{MANIFEST}={tmp_path / 't.csv'}"
    fasttile.convert(tmp_path / "x.dzi", tmp_path / "e", layout=layout, reencode=True)
    found = json.loads((tmp_path / "e/manifest.json").read_text())
    assert found["label"] == {"none": ["X"]}


def test_a_zip_is_repaired_with_its_manifest(tmp_path: Path) -> None:
    pixels, place = noise(99, 150, 3), tmp_path / "a.zip"
    layout = f"iiif3:id={ADDRESS},thumbnails=40+90,manifest"
    fasttile.cut(pixels, place, layout=layout, tile_size=64, format="png")
    good = place.read_bytes()
    with fasttile.open_pyramid(place) as reader:
        data = reader.tile(reader.level_count - 1, 1, 1)
    assert data is not None
    at = good.index(data) + len(data) // 2
    place.write_bytes(good[:at] + bytes(8) + good[at + 8 :])
    assert not fasttile.verify.verify(place, pixels).is_complete
    report = fasttile.verify.repair(place, pixels)
    assert (report.is_complete, report.notes) == (True, ())
    assert np.array_equal(np.frombuffer(place.read_bytes(), np.uint8)[:4], [80, 75, 3, 4])
