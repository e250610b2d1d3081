"""Which images a user means: files, folders, lists."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

import fasttile
from fasttile import OptionError, SourceError
from fasttile.batch.items import InputImage, expand_inputs, may_be_several
from fasttile.batch.run import batch_items
from fasttile.options.cut import CutOptions
from support.reading import noise


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_files(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_files_and_addresses_are_taken_as_they_are(working_folder: Path) -> None:
    given = ["b.tif", "no such file", "https://example.org/x/", "-", "b.tif"]
    assert list(expand_inputs(given)) == [InputImage(source) for source in given]


def test_a_folder_means_the_images_below_it_and_keeps_their_places(working_folder: Path) -> None:
    make_files(
        "in/b.TIF", "in/a.jpeg", "in/sub/c.png", "in/sub/deep/d.npy", "in/notes.txt", "in/x.pdf"
    )
    make_files("in/.hidden/e.png", "in/.f.png", "in/noending", "in/b.tif.bak")
    assert list(expand_inputs(["in/", "z.png"])) == [
        InputImage("in/a.jpeg"),
        InputImage("in/b.TIF"),
        InputImage("in/sub/c.png", "sub"),
        InputImage("in/sub/deep/d.npy", "sub/deep"),
        InputImage("z.png"),
    ]


def test_results_in_a_folder_are_no_images(working_folder: Path) -> None:
    make_files(
        "in/map.png", "in/map.dzi", "in/map_files/0/0_0.png", "in/wall.dzc", "in/wall_files/1.jpg"
    )
    make_files("in/zoom/ImageProperties.xml", "in/zoom/TileGroup0/0-0-0.jpg", "in/zoom/extra.jpg")
    make_files(
        "in/xyz/tiles.json", "in/xyz/0/0/0.png", "in/my_files/own.png", "in/.o.dzi.fasttile/a.png"
    )
    assert [one.source for one in expand_inputs(["in"])] == ["in/map.png", "in/my_files/own.png"]


def test_links_to_folders_are_not_followed_round(working_folder: Path) -> None:
    make_files("in/a.png")
    Path("in/again").symlink_to("..", target_is_directory=True)
    assert [one.source for one in expand_inputs(["in"])] == ["in/a.png"]


def test_a_link_to_itself_stops_no_batch(working_folder: Path) -> None:
    make_files("in/b.png")
    Path("in/self").symlink_to("self")
    Path("in/self.png").symlink_to("self.png")
    images = list(expand_inputs(["in"]))
    assert [one.source for one in images] == ["in/b.png", "in/self", "in/self.png"]
    assert [str(one.error) for one in images] == [
        "None",
        "in/self cannot be read: Too many levels of symbolic links",
        "in/self.png cannot be read: Too many levels of symbolic links",
    ]


@contextmanager
def nested_folders(*names: str) -> Iterator[int]:
    """Make folders within each other; yields the handle of the innermost one."""
    folder = os.open(".", os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=folder)
        inner = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    yield folder
    os.close(folder)
    subprocess.run(["rm", "-r", names[0]], check=True)  # pytest cannot remove them


@pytest.mark.slow
@pytest.mark.skipif(os.mkdir not in os.supports_dir_fd, reason="needs handles of folders")
def test_folders_may_be_nested_deeply(working_folder: Path) -> None:
    """Python allows a thousand nested calls."""
    names = ["a"] * 1900
    path = "/".join(names)
    with nested_folders("in", *names) as innermost:
        os.close(os.open("x.png", os.O_CREAT, dir_fd=innermost))
        assert list(expand_inputs(["in"])) == [InputImage(f"in/{path}/x.png", path)]
        (item,) = batch_items(["in"], "out", CutOptions())
        assert item.target.path == Path("out", path, "x.dzi")


@pytest.mark.skipif(os.mkdir not in os.supports_dir_fd, reason="needs handles of folders")
def test_a_subfolder_that_cannot_be_read_fails_alone(working_folder: Path) -> None:
    make_files("in/b.png")
    with nested_folders("in/0", *["a" * 200] * 25):
        good, bad = expand_inputs(["in"])
    assert good == InputImage("in/b.png")
    assert bad.source.startswith("in/0/aaa")
    assert str(bad.error).endswith("a cannot be read: File name too long")


def test_a_folder_without_images_is_an_error(working_folder: Path) -> None:
    make_files("in/notes.txt")
    with pytest.raises(SourceError, match=r"^in: no file in this folder"):
        list(expand_inputs(["in"]))


def test_a_list_names_a_source_in_each_line(working_folder: Path) -> None:
    make_files("in/a.png", "in/sub/b.png")
    Path("list").write_bytes("x.tif\r\n\n  \nin\nhttps://example.org/ü.png\nlast.jpg".encode())
    assert list(expand_inputs(["@list"])) == [
        InputImage("x.tif"),
        InputImage("in/a.png"),
        InputImage("in/sub/b.png", "sub"),
        InputImage("https://example.org/ü.png"),
        InputImage("last.jpg"),
    ]


def test_names_that_are_no_text_survive_a_list(working_folder: Path) -> None:
    Path("list").write_bytes(b"\xff\xfe.png\n")
    (one,) = expand_inputs(["@list"])
    assert one.source.encode(errors="surrogateescape") == b"\xff\xfe.png"


def test_a_list_may_come_from_standard_input(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.png\nb.png\n")))
    assert [one.source for one in expand_inputs(["@-"])] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        (None, SourceError, "the list list cannot be read: No such file"),
        ("\n\n", SourceError, "names no image"),
        ("@other", OptionError, "names another list"),
    ],
)
def test_lists_that_are_none(
    working_folder: Path, content: str | None, kind: type[Exception], says: str
) -> None:
    if content is not None:
        Path("list").write_text(content)
    with pytest.raises(kind, match=says):
        list(expand_inputs(["@list"]))


def test_what_may_be_many(working_folder: Path) -> None:
    make_files("in/a.png")
    assert [may_be_several(name) for name in ("in", "@x", "in/a.png", "-", "https://h/in")] == [
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
    working_folder: Path, dest: str | None, layout: str | None, paths: list[str] | None
) -> None:
    make_files("in/a.png", "in/sub/b.png")
    paths = paths or ["out.v2/a.dzi", "out.v2/sub/b.dzi"]
    images = batch_items(["in"], dest, CutOptions(layout=layout))
    assert [image.target.path.as_posix() for image in images] == paths


def test_clashes_are_found_wherever_they_come_from(working_folder: Path) -> None:
    make_files("in/a.png", "in/sub/a.png", "in/a.tif")
    items = batch_items(["in"], "out", CutOptions())
    errors = {item.source: str(item.error) for item in items if item.error is not None}
    assert errors.keys() == {"in/a.png", "in/a.tif"}
    for error in errors.values():
        assert error.startswith("out/a.dzi: both in/a.png and in/a.tif would be written there; ")
    with pytest.raises(OptionError, match=r"one\.szi: both"):
        batch_items(["x.png", "y.png"], "one.szi", CutOptions())
    Path("in/a.tif").unlink()
    assert len(batch_items(["in"], "out", CutOptions())) == 2


def test_the_way_out_that_a_clash_names(working_folder: Path) -> None:
    make_files("in/a.png", "in/sub/a.png", "in/a.tif", "in/sub/b.png")
    error = batch_items(["in/a.png", "in/a.tif", "in/sub/b.png"], "out", CutOptions())[0].error
    assert error is not None
    dest = str(error).partition("-o '")[2].rstrip("'")
    items = batch_items(["in"], dest, CutOptions())
    assert [item.error for item in items] == [None] * 4
    assert len({item.target.path for item in items}) == 4


def test_a_clash_stops_only_the_images_concerned(working_folder: Path) -> None:
    Path("in").mkdir()
    for name in ("a.png", "a.tif", "b.png"):
        Image.fromarray(noise(9, 8)).save(f"in/{name}")
    results = {result.source: result for result in fasttile.cut_all(["in"], "out")}
    assert sorted(path.name for path in Path("out").iterdir()) == ["b.dzi", "b_files"]
    assert results["in/b.png"].error == ""
    for name in ("in/a.png", "in/a.tif"):
        assert "both in/a.png and in/a.tif" in results[name].error
        assert not results[name].skipped


def test_an_image_whose_name_suits_no_option_fails_alone(working_folder: Path) -> None:
    options = CutOptions(layout="dzi:jsonp")
    items = batch_items(["a.png", "my map.png", "https://example.org/"], "out", options)
    assert [None if item.error is None else str(item.error) for item in items] == [
        None,
        "my map.png: jsonp: 'my map' cannot be the name of a function, which the script calls; "
        "use dzi:json, or another name for the result",
        "https://example.org/: it has no file name to name the result after; use -o NAME.dzi "
        "(dest)",
    ]
    assert items[1].target.path == Path("out/my map.dzi")
    for sources, dest in (["my map.png"], None), (["a.png", "b.png"], "out/my map-{name}.dzi"):
        with pytest.raises(OptionError, match=r"^jsonp: 'my map"):
            batch_items(sources, dest, options)
