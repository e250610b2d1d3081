"""The directory sink, where the folder is the result, or where tiles have several names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fasttile.errors import TargetError
from fasttile.layouts.iiif import Iiif2
from fasttile.sinks.folder import DirectorySink
from support.deepzoom_files import (
    FOLDER_TARGET,
    identify_only_result,
    layout_of,
    names_in_folder,
    open_sink,
    put_tiles,
    try_to_write,
    write,
)

if sys.platform == "win32":
    pytest.skip("needs symbolic links", allow_module_level=True)


def test_a_folder_that_is_the_result_is_written_and_replaced(tmp_path: Path) -> None:
    target = tmp_path / FOLDER_TARGET
    write("old", target)
    assert identify_only_result(target) == "old"
    assert "a map exists already" in try_to_write("new", target)
    write("new", target, overwrite=True)
    assert identify_only_result(target) == "new"


@pytest.mark.parametrize("inside", ["", "photo.jpg", "other/ImageProperties.xml"])
def test_a_folder_that_is_no_result_is_never_replaced(tmp_path: Path, inside: str) -> None:
    target = tmp_path / FOLDER_TARGET
    target.mkdir()
    if inside:
        (target / inside).parent.mkdir(exist_ok=True)
        (target / inside).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    message = try_to_write("new", target, overwrite=True)
    assert message == (
        f"{target} is no result of this layout, for it has no ImageProperties.xml: it is not "
        "replaced; choose another name, or end it in a slash to put the result in it"
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_appears_and_is_no_result_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / FOLDER_TARGET
    sink = open_sink("new", target, overwrite=True)
    put_tiles(sink, "new", target)
    target.mkdir()
    (target / "photo.jpg").write_text("mine")
    with pytest.raises(TargetError, match="is no result of this layout"):
        sink.finish()
    sink.abort()
    assert names_in_folder(target) == [FOLDER_TARGET]
    assert [path.name for path in target.iterdir()] == ["photo.jpg"]


def test_links_and_files_in_place_of_the_folder_are_refused(tmp_path: Path) -> None:
    target = tmp_path / FOLDER_TARGET
    (tmp_path / "elsewhere").mkdir()
    target.symlink_to("elsewhere")
    assert "is a symbolic link" in try_to_write("new", target, overwrite=True)
    target.unlink()
    target.touch()
    assert "is not a folder" in try_to_write("new", target, overwrite=True)


def test_a_tile_of_many_names_is_under_all_of_them(tmp_path: Path) -> None:
    layout = Iiif2.from_size("a map", 50, 30, "jpg", tile_size=16, id="https://example.org/{name}")
    sink = DirectorySink(layout, tmp_path / "a map")
    written = {}
    for tile in layout.pyramid.tiles():
        sink.put(tile, str(tile).encode())
        written |= dict.fromkeys(layout.paths(tile), str(tile).encode())
    assert len(written) > layout.pyramid.tile_count
    for image in layout.whole_images():
        sink.add(image.paths, image.paths[0].encode())
        written |= dict.fromkeys(image.paths, image.paths[0].encode())
    sink.finish()
    assert {**written, **layout.descriptors()} == {
        path.relative_to(tmp_path).as_posix(): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }


def test_files_may_stand_in_folders_that_have_no_tiles(tmp_path: Path) -> None:
    target = tmp_path / FOLDER_TARGET
    sink = DirectorySink(layout_of("new", target), target, files={"a map/x/y/z.txt": b"z"})
    put_tiles(sink, "new", target)
    sink.add(["a map/u/v.txt", "a map/w.txt"], b"v")
    sink.finish()
    assert (target / "x/y/z.txt").read_bytes() == b"z"
    assert (target / "u/v.txt").read_bytes() == (target / "w.txt").read_bytes() == b"v"


def test_of_what_is_taken_the_result_is_named_first(tmp_path: Path) -> None:
    target = tmp_path / FOLDER_TARGET
    page = {f"{FOLDER_TARGET}.html": b"page"}
    sink = DirectorySink(layout_of("new", target), target, files=page)
    put_tiles(sink, "new", target)
    sink.finish()
    assert names_in_folder(target) == [FOLDER_TARGET, f"{FOLDER_TARGET}.html"]
    for taken in (target, tmp_path / f"{FOLDER_TARGET}.html"):
        with pytest.raises(TargetError) as caught:
            DirectorySink(layout_of("new", target), target, files=page)
        assert str(caught.value).startswith(f"{taken} exists already; ")
        target.rename(tmp_path / "moved") if taken == target else taken.unlink()
