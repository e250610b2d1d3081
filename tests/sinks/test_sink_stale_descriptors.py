"""Files beside a replaced result: stale descriptors are removed, all others stay."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from fasttile.errors import TargetError
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.layouts.zoomify import Zoomify
from fasttile.sinks.folder import DirectorySink
from fasttile.storage.folders import Folder

if sys.platform == "win32":
    pytest.skip("needs symbolic links", allow_module_level=True)


def write_result(folder: Path, width: int, *, json: bool = False, jsonp: bool = False) -> DeepZoom:
    layout = DeepZoom.from_size("map", width, 5, "png", json=json, jsonp=jsonp)
    sink = DirectorySink(layout, folder / "map.dzi", overwrite=True)
    try:
        for tile in layout.pyramid.tiles():
            sink.put(tile, b"tile")
        sink.finish()
    except BaseException:
        sink.abort()
        raise
    return layout


def names_in_folder(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("json", [True, False])
@pytest.mark.parametrize("jsonp", [True, False])
def test_descriptors_of_the_older_result_go_with_it(
    tmp_path: Path, json: bool, jsonp: bool
) -> None:
    write_result(tmp_path, 7, json=True, jsonp=True)
    layout = write_result(tmp_path, 9, json=json, jsonp=jsonp)
    expected = layout.descriptors()
    assert names_in_folder(tmp_path) == sorted([*expected, "map_files"])
    assert {path: (tmp_path / path).read_bytes() for path in expected} == expected


def test_they_go_also_where_the_descriptor_of_the_older_result_has_gone(tmp_path: Path) -> None:
    write_result(tmp_path, 7, json=True, jsonp=True)
    (tmp_path / "map.dzi").unlink()
    write_result(tmp_path, 9)
    assert names_in_folder(tmp_path) == ["map.dzi", "map_files"]


def test_they_come_back_where_the_new_result_cannot_be_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(one: Folder, name: str, other: Folder, other_name: str) -> bool:
        assert names_in_folder(tmp_path) == [".map.dzi.fasttile", "map_files"]
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    write_result(tmp_path, 7, json=True)
    before = {name: (tmp_path / name).read_bytes() for name in ("map.dzi", "map.json")}
    monkeypatch.setattr("fasttile.storage.publish.exchange", refuse)
    with pytest.raises(TargetError, match=r"cannot publish .*: Input/output error"):
        write_result(tmp_path, 9)
    assert names_in_folder(tmp_path) == ["map.dzi", "map.json", "map_files"]
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("name", ["map.json", "map.js", "map.html", "map.xml", "other.json"])
@pytest.mark.parametrize("content", ["", "{}", "mine", '{"Image": {}}', "map({});"])
def test_what_is_somebody_elses_stays(tmp_path: Path, name: str, content: str) -> None:
    write_result(tmp_path, 7)
    (tmp_path / name).write_text(content)
    write_result(tmp_path, 9)
    assert (tmp_path / name).read_text() == content


@pytest.mark.parametrize("name", ["map.json", "map.js"])
@pytest.mark.parametrize("change", [b" ", b"\n// mine", b"\xff"])
def test_what_somebody_has_changed_stays(tmp_path: Path, name: str, change: bytes) -> None:
    write_result(tmp_path, 7, json=True, jsonp=True)
    changed = (tmp_path / name).read_bytes() + change
    (tmp_path / name).write_bytes(changed)
    write_result(tmp_path, 9)
    assert (tmp_path / name).read_bytes() == changed


def test_links_and_folders_stay(tmp_path: Path) -> None:
    write_result(tmp_path, 7, json=True)
    (tmp_path / "map.json").rename(tmp_path / "elsewhere")
    (tmp_path / "map.json").symlink_to("elsewhere")
    (tmp_path / "map.js").mkdir()
    write_result(tmp_path, 9)
    assert (tmp_path / "map.json").is_symlink()
    assert (tmp_path / "map.js").is_dir()


def test_another_layout_leaves_them(tmp_path: Path) -> None:
    write_result(tmp_path, 7, json=True, jsonp=True)
    layout = Zoomify.from_size("map", 7, 5, "png")
    for _ in range(2):
        sink = DirectorySink(layout, tmp_path / "map", overwrite=True)
        for tile in layout.pyramid.tiles():
            sink.put(tile, b"tile")
        sink.finish()
    assert names_in_folder(tmp_path) == ["map", "map.dzi", "map.js", "map.json", "map_files"]
