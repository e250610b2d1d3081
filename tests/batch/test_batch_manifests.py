"""The IIIF collection of a batch: all manifests in order, also after several runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile.errors import OptionError, TargetError
from support.command import run_here as run
from support.file_trees import file_tree
from support.reading import noise

ID = "https://h.org/iiif/{name}"
LAYOUT = f"iiif3:id={ID},manifest"
TABLE = "file,label\nb.tif,Second\na,First\nc,Third\n"


@pytest.fixture(autouse=True)
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three images, and a table of their texts, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    for name in ("a.png", "b.tif", "c d.png"):
        Image.fromarray(noise(200, 290, 3)).save(tmp_path / "scans" / name)
    (tmp_path / "t.csv").write_text(TABLE)
    return tmp_path / "scans"


def cut_all(dest: str = "site", layout: str = LAYOUT, **options: Any) -> list[str]:
    """What became of each image, in order: its number of tiles, "skipped" or the error."""
    done = {
        Path(one.source).name: one.error or ("skipped" if one.skipped else "cut")
        for one in fasttile.cut_all(["scans"], dest, layout=layout, tile_size=128, **options)
    }
    return [done[name] for name in sorted(done)]


def items(folder: str = "site") -> list[tuple[str, str]]:
    """Address, below that of the folder, and label of each manifest of the collection."""
    found = json.loads(Path(folder, "collection.json").read_text("utf-8"))
    assert (found["type"], found["id"]) == ("Collection", "https://h.org/iiif/collection.json")
    return [
        (one["id"].removeprefix("https://h.org/iiif/"), one["label"]["none"][0])
        for one in found["items"]
    ]


ALL = [("a/manifest.json", "a"), ("b/manifest.json", "b"), ("c%20d/manifest.json", "c d")]


@pytest.mark.parametrize("workers", [None, 2])
def test_a_collection_has_all_manifests(workers: int | None) -> None:
    assert cut_all(workers=workers) == ["cut"] * 3
    assert items() == ALL
    found = json.loads(Path("site/collection.json").read_text())
    assert found["label"] == {"none": ["site"]}
    one = json.loads(Path("site/a/manifest.json").read_text())
    assert found["items"][0]["thumbnail"] == one["thumbnail"]
    assert file_tree(Path("site")).keys() >= {"collection.json", "a/manifest.json"}
    assert not [path for path in Path("site").iterdir() if path.name.startswith(".")]


def test_the_texts_of_a_table() -> None:
    assert cut_all(layout=f"{LAYOUT}=t.csv") == ["cut"] * 3
    assert [label for _, label in items()] == ["First", "Second", "c d"]
    done = run("cut", "scans", "-o", "other/", "--layout", f"{LAYOUT}=t.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert "t.csv: no image for c\n" in done.stdout
    assert "  t.csv has no row of scans/c d.png: its manifest has the texts in" in done.stdout
    assert items("other") == items()


def test_changed_texts_are_an_update() -> None:
    layout = f"{LAYOUT}=t.csv"
    assert cut_all(layout=layout) == ["cut"] * 3
    time = Path("site/collection.json").stat().st_mtime_ns
    assert cut_all(layout=layout) == ["skipped"] * 3
    assert Path("site/collection.json").stat().st_mtime_ns == time
    Path("t.csv").write_text(TABLE.replace("Second", "Zweite") + "c d,Third\n")
    first, *changed = cut_all(layout=layout)
    assert first == "skipped"
    assert all("made with other texts for its manifest; use --update" in text for text in changed)
    assert items()[1] == ("b/manifest.json", "Second")
    assert cut_all(layout=layout, update=True) == ["skipped", "cut", "cut"]
    assert [label for _, label in items()] == ["First", "Zweite", "Third"]
    Path("site/b/manifest.json").unlink()
    assert cut_all(layout=layout, update=True) == ["skipped", "cut", "skipped"]
    Path("site/collection.json").unlink()
    assert cut_all(layout=layout, update=True) == ["skipped"] * 3
    assert [label for _, label in items()] == ["First", "Zweite", "Third"]


def test_a_failed_image_is_not_in_it(scans: Path) -> None:
    good = (scans / "b.tif").read_bytes()
    (scans / "b.tif").write_bytes(good[:90])
    assert [text == "cut" for text in cut_all()] == [True, False, True]
    assert items() == [ALL[0], ALL[2]]
    (scans / "b.tif").write_bytes(good)
    assert cut_all(resume=True) == ["skipped", "cut", "skipped"]
    assert items() == ALL


@pytest.mark.slow
def test_an_interrupted_batch_is_resumed() -> None:
    results = fasttile.cut_all(["scans"], "site", layout=LAYOUT, workers=1, resume=True)
    assert next(results).error == ""
    results.close()
    assert not Path("site/collection.json").exists()
    done = [*fasttile.cut_all(["scans"], "site", layout=LAYOUT, workers=1, resume=True)]
    assert [one.error for one in done] == [""] * 3
    assert sum(one.skipped for one in done) == 1
    assert items() == ALL


def test_other_batches_in_the_same_folder(scans: Path) -> None:
    cut_all()
    scans.rename("before")
    Path("scans").mkdir()
    Image.fromarray(noise(20, 20, 3)).save("scans/z.png")
    found = json.loads(Path("site/collection.json").read_text())
    Path("site/collection.json").write_text(json.dumps(found | {"summary": {"de": ["Alle"]}}))
    assert cut_all() == ["cut"]
    assert items() == [("z/manifest.json", "z"), *ALL]
    assert json.loads(Path("site/collection.json").read_text())["summary"] == {"de": ["Alle"]}
    shutil.rmtree("site/b")
    found = json.loads(Path("site/collection.json").read_text())
    shutil.copytree("site/a", "outside")
    for name in ("%00", "..%2Foutside", "%2E%2E/outside", "../outside", ".", "", "none"):
        found["items"].append({"id": f"https://h.org/iiif/{name}/manifest.json"})
    found["items"] += [{}, {"id": 7}, "x", {"id": "https://other.org/iiif/a/manifest.json"}]
    Path("site/collection.json").write_text(json.dumps(found))
    assert cut_all() == ["skipped"]
    assert items() == [("z/manifest.json", "z"), ALL[0], ALL[2]]


@pytest.mark.parametrize("own", ["{name}/image", "map-{name}", "{name}/x/{name}/"])
def test_other_batches_with_longer_addresses(scans: Path, own: str) -> None:
    layout = f"iiif3:id=https://h.org/iiif/{own},manifest"
    cut_all(layout=layout)
    (scans / "a.png").rename(scans / "z.png")
    for name in ("b.tif", "c d.png"):
        (scans / name).unlink()
    assert cut_all(layout=layout) == ["cut"]
    names = ["z", "a", "b", "c%20d"]
    expected = [own.replace("{name}", name).rstrip("/") + "/manifest.json" for name in names]
    assert [address for address, _ in items()] == expected


def test_addresses_of_no_result_are_left_out() -> None:
    Path("site").mkdir()
    names = ["%00", "..", ".", "..%2Fscans", "x" * 300, "a/b"]
    addresses = [*(f"https://h.org/iiif/{name}/manifest.json" for name in names), 7, None, ["x"]]
    address = "https://h.org/iiif/collection.json"
    found = {"type": "Collection", "id": address, "items": [{"id": one} for one in addresses]}
    Path("site/collection.json").write_text(json.dumps(found))
    assert cut_all() == ["cut"] * 3
    assert items() == ALL


def test_an_image_with_the_name_of_the_collection(scans: Path) -> None:
    (scans / "a.png").rename(scans / "collection.json.png")
    with pytest.raises(OptionError, match=r"collection\.json\.png: .*name the image differently"):
        cut_all()
    assert not Path("site").exists()


@pytest.mark.slow
def test_what_is_pruned_is_not_in_it(scans: Path) -> None:
    command = ("cut", "scans", "-o", "site/", "--layout", LAYOUT, "-q")
    assert run(*command).returncode == 0
    (scans / "b.tif").unlink()
    assert run(*command).returncode == 0
    assert items() == [ALL[0], ALL[2], ALL[1]]  # it is still there
    done = run(*command, "--prune")
    assert (done.returncode, done.stderr) == (0, "")
    assert not Path("site/b").exists()
    assert items() == [ALL[0], ALL[2]]


def test_every_page(scans: Path) -> None:
    for path in scans.iterdir():
        path.unlink()
    pages = [Image.fromarray(noise(20, 20, 3)) for _ in range(3)]
    pages[0].save(scans / "p.tif", save_all=True, append_images=pages[1:])
    command = ("cut", "scans", "-o", "site/", "--layout", LAYOUT, "--page", "all")
    assert run(*command).returncode == 0
    assert items() == [
        ("p-1/manifest.json", "p-1"),
        ("p-2/manifest.json", "p-2 (2)"),
        ("p-3/manifest.json", "p-3 (3)"),
    ]


@pytest.mark.parametrize("content", ["{", '{"type": "Collection", "id": "x"}', "[]"])
def test_a_file_of_others_is_kept(content: str) -> None:
    Path("site").mkdir()
    Path("site/collection.json").write_text(content)
    with pytest.raises(TargetError, match=r"collection\.json is not the collection https://h"):
        cut_all()
    assert [path.name for path in Path("site").iterdir()] == ["collection.json"]
    cut_all(overwrite=True)
    assert items() == ALL


def test_a_folder_in_its_place() -> None:
    Path("site/collection.json").mkdir(parents=True)
    with pytest.raises(TargetError, match=r"collection\.json exists and is not a plain file"):
        cut_all()
    assert not Path("site/a").exists()


def test_batches_without_addresses(scans: Path) -> None:
    with pytest.raises(OptionError, match=r"put \{name\} into the id: id=https://h.org/\{name\}"):
        cut_all(layout="iiif3:id=https://h.org/,manifest")
    (scans / "sub").mkdir()
    shutil.copy(scans / "a.png", scans / "sub/e.png")
    with pytest.raises(OptionError, match=r"scans/sub/e\.png: iiif3:manifest: its result would be"):
        cut_all()
    assert not Path("site").exists()
    Path("list").write_text("scans/sub/e.png\nscans/a.png\n")
    done = [*fasttile.cut_all(["@list"], "site", layout=LAYOUT)]
    assert [one.error for one in done] == ["", ""]
    assert items() == [("e/manifest.json", "e"), ALL[0]]


def test_no_collection_where_there_is_no_batch() -> None:
    fasttile.cut("scans/a.png", "site/a", layout=LAYOUT)
    assert next(fasttile.cut_all(["scans/b.tif"], "site/", layout=LAYOUT)).error == ""
    assert [path.name for path in sorted(Path("site").iterdir())] == ["a", "b"]
    assert cut_all("zips/{name}.zip") == ["cut"] * 3
    assert len([*Path("zips").iterdir()]) == 3


@pytest.mark.slow
def test_large_images_in_shards(tmp_path: Path) -> None:
    np.save("scans/e.npy", noise(700, 900, 3))
    layout = f"iiif3:id={ID},manifest,thumbnails=90+200"
    assert cut_all(layout=layout, workers=2, format="png") == ["cut"] * 4
    report = fasttile.cut("scans/e.npy", "f", layout=layout, tile_size=64, format="png", workers=2)
    fasttile.cut(
        "scans/e.npy", "g", layout=layout.replace("{name}", "f"), tile_size=64, format="png"
    )
    one, other = (file_tree(tmp_path / name) for name in "fg")
    assert report.tiles
    assert {name for name in one if one[name] != other[name]} <= {".fasttile.json", "manifest.json"}
    assert fasttile.verify.verify(tmp_path / "f", "scans/e.npy").is_complete
