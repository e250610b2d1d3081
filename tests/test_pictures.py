"""Which pictures a user means: files, folders, lists."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from fasttile import OptionError, SourceError
from fasttile.batch import pictures_of
from fasttile.options import CutOptions
from fasttile.pictures import Found, found, is_many


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_files_and_addresses_are_taken_as_they_are(here: Path) -> None:
    given = ["b.tif", "no such file", "https://example.org/x/", "-", "b.tif"]
    assert list(found(given)) == [Found(source) for source in given]


def test_a_folder_means_the_pictures_below_it_and_keeps_their_places(here: Path) -> None:
    make("in/b.TIF", "in/a.jpeg", "in/sub/c.png", "in/sub/deep/d.npy", "in/notes.txt", "in/x.pdf")
    make("in/.hidden/e.png", "in/.f.png", "in/noending", "in/b.tif.bak")
    assert list(found(["in/", "z.png"])) == [
        Found("in/a.jpeg"),
        Found("in/b.TIF"),
        Found("in/sub/c.png", "sub"),
        Found("in/sub/deep/d.npy", "sub/deep"),
        Found("z.png"),
    ]


def test_results_in_a_folder_are_no_pictures(here: Path) -> None:
    make("in/map.png", "in/map.dzi", "in/map_files/0/0_0.png", "in/wall.dzc", "in/wall_files/1.jpg")
    make("in/zoom/ImageProperties.xml", "in/zoom/TileGroup0/0-0-0.jpg", "in/zoom/extra.jpg")
    make("in/xyz/tiles.json", "in/xyz/0/0/0.png", "in/my_files/own.png", "in/.o.dzi.fasttile/a.png")
    assert [one.source for one in found(["in"])] == ["in/map.png", "in/my_files/own.png"]


def test_links_to_folders_are_not_followed_round(here: Path) -> None:
    make("in/a.png")
    Path("in/again").symlink_to("..", target_is_directory=True)
    assert [one.source for one in found(["in"])] == ["in/a.png"]


def test_a_folder_without_pictures_is_an_error(here: Path) -> None:
    make("in/notes.txt")
    with pytest.raises(SourceError, match=r"^in: no picture"):
        list(found(["in"]))


def test_a_list_names_a_source_in_each_line(here: Path) -> None:
    make("in/a.png", "in/sub/b.png")
    Path("list").write_bytes("x.tif\r\n\n  \nin\nhttps://example.org/ü.png\nlast.jpg".encode())
    assert list(found(["@list"])) == [
        Found("x.tif"),
        Found("in/a.png"),
        Found("in/sub/b.png", "sub"),
        Found("https://example.org/ü.png"),
        Found("last.jpg"),
    ]


def test_names_that_are_no_text_survive_a_list(here: Path) -> None:
    Path("list").write_bytes(b"\xff\xfe.png\n")
    (one,) = found(["@list"])
    assert one.source.encode(errors="surrogateescape") == b"\xff\xfe.png"


def test_a_list_may_come_from_standard_input(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.png\nb.png\n")))
    assert [one.source for one in found(["@-"])] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        (None, SourceError, "the list list cannot be read: No such file"),
        ("\n\n", SourceError, "names no picture"),
        ("@other", OptionError, "a list in a list"),
    ],
)
def test_lists_that_are_none(
    here: Path, content: str | None, kind: type[Exception], says: str
) -> None:
    if content is not None:
        Path("list").write_text(content)
    with pytest.raises(kind, match=says):
        list(found(["@list"]))


def test_what_may_be_many(here: Path) -> None:
    make("in/a.png")
    assert [is_many(name) for name in ("in", "@x", "in/a.png", "-", "https://h/in")] == [
        True,
        True,
        False,
        False,
        False,
    ]


# ---- where their results go ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dest", "layout", "paths"),
    [
        (None, None, ["a.dzi", "sub/b.dzi"]),
        ("out", None, ["out/a.dzi", "out/sub/b.dzi"]),
        ("out", "zoomify", ["out/a", "out/sub/b"]),
        ("out/{name}.szi", None, ["out/a.szi", "out/sub/b.szi"]),
        ("out/{name}-x", "xyz", ["out/a-x", "out/sub/b-x"]),
        ("out.v2", None, None),
        ("out.v2/", None, ["out.v2/a.dzi", "out.v2/sub/b.dzi"]),
    ],
)
def test_places_are_kept(
    here: Path, dest: str | None, layout: str | None, paths: list[str] | None
) -> None:
    make("in/a.png", "in/sub/b.png")
    paths = paths or ["out.v2/a.dzi", "out.v2/sub/b.dzi"]
    pictures = pictures_of(["in"], dest, CutOptions(layout=layout))
    assert [picture.target.path.as_posix() for picture in pictures] == paths


def test_clashes_are_found_wherever_they_come_from(here: Path) -> None:
    make("in/a.png", "in/sub/a.png", "in/a.tif")
    with pytest.raises(OptionError, match=r"in/a\.png and in/a\.tif would both become out/a\.dzi"):
        pictures_of(["in"], "out", CutOptions())
    with pytest.raises(OptionError, match=r"would both become one\.szi"):
        pictures_of(["x.png", "y.png"], "one.szi", CutOptions())
    Path("in/a.tif").unlink()
    assert len(pictures_of(["in"], "out", CutOptions())) == 2
