"""`fasttile collection`: calls, errors and exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fasttile import collection
from fasttile.cli import main
from support.collection_files import check_collection, cut_member, folder_contents, member_pixels


def run(*arguments: object) -> int:
    """Run `fasttile collection` in this process; returns the exit code."""
    return main(["collection", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with images."""
    monkeypatch.chdir(tmp_path)
    cut_member(tmp_path, 1)
    for name, number in (("a", 2), ("-b", 3), ("7", 4)):
        Image.fromarray(member_pixels(number)).save(tmp_path / f"{name}.png")
    return tmp_path


SMALL = ("--max-level", 2, "--tile-size", 8, "--format", "png")


def test_a_collection_is_created_and_changed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dest = folder / "wall.dzc"
    assert run("create", "wall.dzc", "p1.dzi", "a.png", *SMALL) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{dest}: 2 images (1 cut), 3 shared tiles made, ")
    assert (out.count("\n"), err) == (1, "")
    assert check_collection(dest) == ["p1.dzi", "wall_images/a.dzi"]

    assert run("append", "wall.dzc", "--images", "more", "--", "-b.png", "7.png") == 0
    assert "wall.dzc: 4 images (2 cut), 3 shared tiles made, " in capsys.readouterr().out
    assert check_collection(dest)[2:] == ["more/-b.dzi", "more/7.dzi"]

    assert run("remove", "wall.dzc", "0", "more/7.dzi", "-q") == 0
    assert capsys.readouterr() == ("", "")
    assert check_collection(dest) == ["wall_images/a.dzi", "more/-b.dzi"]


def test_options_reach_create(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = {}

    def create(*given: object, **options: object) -> collection.CollectionReport:
        call.update(options, given=given)
        return collection.CollectionReport(Path("x"), 1, 0, 1, 0, 1, 1.0, ("a note",))

    monkeypatch.setattr("fasttile.collection.api.create", create)
    arguments = (
        "create x.dzc a b --max-level 3 --tile-size 16 --format webp --quality 7 --background "
    )
    arguments += "red --images there --overwrite --page 2 --raw 1x2x3 --max-pixels 9 --icc keep "
    arguments += "--allow-truncated --window 1,2 --shrink mode --threads 1 --no-progress "
    arguments += "--bands 4,3,2 --nodata -7"
    assert run(*arguments.split()) == 0
    assert call == {
        "given": ("x.dzc", ["a", "b"]),
        "max_level": 3,
        "tile_size": 16,
        "format": "webp",
        "quality": 7,
        "background": "red",
        "images": "there",
        "overwrite": True,
        "progress": None,
        "page": 2,
        "raw": "1x2x3",
        "max_pixels": 9,
        "icc": "keep",
        "allow_truncated": True,
        "bands": "4,3,2",
        "nodata": "-7",
        "window": (1.0, 2.0),
        "shrink": "mode",
        "threads": 1,
    }


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ("create wall.dzc none.dzi", 1, "none.dzi: no such file"),
        ("create wall.dzc a.png none.png", 1, "none.png"),
        ("create wall.dzc a.png --tile-size 100", 2, "tile size 100 of a collection is not a"),
        ("create wall.dzc a.png --page all", 2, "a collection takes one page of each file"),
        ("create wall.zip a.png", 2, "wall.zip: the name of a collection ends in .dzc"),
        ("append wall.dzc a.png", 1, "wall.dzc: no such file"),
        ("append old.dzc a.png", 1, "old.dzc is no XML: "),
        ("remove wall.dzc 1", 1, "wall.dzc: no such file"),
    ],
)
def test_errors_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: str, code: int, text: str
) -> None:
    (folder / "old.dzc").write_text("?")
    before = folder_contents(folder)
    assert run(*arguments.split()) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fasttile: ")
    assert text in err
    assert err.count("\n") == 1
    assert folder_contents(folder) == before


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ("", "create", "create x.dzc", "remove x.dzc", "paste x.dzc"):
        assert run(*arguments.split()) == 2
    assert run("create", "--help") == 0
    assert "cut first" in capsys.readouterr().out


def test_progress_is_shown(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fasttile.jobs.shown_progress.LINE_SECONDS", 0.0)
    assert run("create", "wall.dzc", "p1.dzi", "a.png", "--progress", *SMALL) == 0
    assert "wall.dzc: " in capsys.readouterr().err
    assert run("create", "wall.dzc", "p1.dzi", "--overwrite", "--progress", "-q", *SMALL) == 0
    assert capsys.readouterr() == ("", "")


def test_notes_are_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(member_pixels(2).astype("uint16")[..., 0] * 16).save(folder / "deep.png")
    assert run("create", "wall.dzc", "deep.png") == 0
    assert "\n  deep: window 0,4095: the values reach " in capsys.readouterr().out


@pytest.mark.parametrize("action", ["create", "append"])
@pytest.mark.parametrize("source", ["wall_files/p.png", "link.png", "wall.html"])
def test_no_image_is_replaced(
    folder: Path, capsys: pytest.CaptureFixture[str], action: str, source: str
) -> None:
    assert run("create", "wall.dzc", "p1.dzi", *SMALL, "-q") == 0
    place = "wall_files/p.png" if source == "link.png" else source
    Image.fromarray(member_pixels(2)).save(folder / place, format="png")
    if source == "link.png":
        (folder / source).symlink_to(place)
    before = folder_contents(folder)
    options = ["--overwrite", *SMALL] if action == "create" else []
    assert run(action, "wall.dzc", source, "--viewer", "openseadragon", *options) == 1
    output = capsys.readouterr().err
    expected = "no page of fasttile" if source == "wall.html" else f"with the image {source} in it"
    assert expected in output
    assert output.count("\n") == 1
    assert folder_contents(folder) == before
