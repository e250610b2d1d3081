"""Collections appended to and shortened: only what changes is made again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fasttile import collection
from fasttile.errors import OptionError, SourceError
from support.collection_files import (
    Array,
    check_collection,
    create_png_collection,
    cut_member,
    expected_tiles,
    folder_contents,
    member_pixels,
    read_tiles,
    record_encoded_tiles,
    same_tiles,
    save_member_image,
)
from support.sampling import sampled


@pytest.fixture(scope="module")
def cuts_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], list[Path]]:
    """Function that returns a number of results, the same ones each time."""
    folder = tmp_path_factory.mktemp("cuts")
    return lambda count: [cut_member(folder, number) for number in range(count)]


@pytest.fixture
def encoded_tiles(monkeypatch: pytest.MonkeyPatch) -> list[Array]:
    """All pixels that are encoded from now on."""
    return record_encoded_tiles(monkeypatch)


@pytest.mark.parametrize("count", sampled([1, 3, 4, 5, 16, 65], [1, 3, 4, 5]))
def test_append_is_create_with_all(
    tmp_path: Path, cuts_folder: Callable[[int], list[Path]], count: int
) -> None:
    for added in (1, 2, 6):
        for format in ("png", "jpeg"):
            wanted, found = tmp_path / "all" / "wall.dzc", tmp_path / "two" / "wall.dzc"
            options: dict[str, Any] = {"max_level": 2, "tile_size": 8, "format": format}
            if format == "jpeg":
                options["quality"] = 70
            collection.create(wanted, cuts_folder(count + added), **options)
            collection.create(found, cuts_folder(count), **options)
            report = collection.append(found, cuts_folder(count + added)[count:])
            assert folder_contents(found.parent) == folder_contents(wanted.parent)
            assert report.items == count + added
            assert report.tiles + report.kept == len(read_tiles(found))
            create_png_collection(wanted, cuts_folder(1), overwrite=True)
            for dest in (wanted, found):
                for path in (dest, *sorted(dest.parent.rglob("*"), reverse=True)):
                    path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)


def test_only_changed_tiles_are_made_again(
    tmp_path: Path, cuts_folder: Callable[[int], list[Path]], encoded_tiles: list[Array]
) -> None:
    dest = tmp_path / "wall.dzc"
    create_png_collection(dest, cuts_folder(64), max_level=3)
    encoded_tiles.clear()
    numbers = {path.as_posix(): path.stat().st_ino for path in (tmp_path / "wall_files").rglob("*")}
    new = cuts_folder(65)[64:]
    encoded_tiles.clear()
    report = collection.append(dest, new)
    assert report.tiles == len(encoded_tiles) == 4
    assert report.kept == 64 + 16 + 4 + 1
    after = {path.as_posix(): path.stat().st_ino for path in (tmp_path / "wall_files").rglob("*_*")}
    kept = [name for name in after if numbers.get(name) == after[name]]
    assert len(kept) == 85, "they are the same files"
    encoded_tiles.clear()
    # The last four items' level 3, their one tile of level 2, and so on.
    report = collection.remove(dest, [61])
    assert report.tiles == len(encoded_tiles) == 3 + 1 + 1 + 1
    assert len(check_collection(dest)) == 64


def test_unchanged_tiles_of_others_stay_as_they_are(
    tmp_path: Path, cuts_folder: Callable[[int], list[Path]]
) -> None:
    dest = tmp_path / "wall.dzc"
    create_png_collection(dest, cuts_folder(8), max_level=3)
    tile = tmp_path / "wall_files/3/0_0.png"
    tile.write_bytes(b"another program's")
    lost = tmp_path / "wall_files/3/1_0.png"
    lost.unlink()
    report = collection.append(dest, [cuts_folder(9)[8]])
    assert tile.read_bytes() == b"another program's"
    assert lost.exists(), "what is missing is made"
    assert (report.tiles, report.kept) == (1 + 1 + 1 + 1 + 1, 7 + 2)
    tile.unlink()
    collection.append(dest, [cuts_folder(10)[9]])
    assert len(check_collection(dest)) == 10


def test_without_hard_links_tiles_are_copied(
    tmp_path: Path, cuts_folder: Callable[[int], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "no links here")

    create_png_collection(tmp_path / "wall.dzc", cuts_folder(20))
    monkeypatch.setattr(os, "link", refuse)
    assert collection.append(tmp_path / "wall.dzc", cuts_folder(21)[20:]).kept == 6
    assert len(check_collection(tmp_path / "wall.dzc")) == 21


@pytest.mark.parametrize("gone", [[0], [1], [19], [0, 19], [3, 4, 5, 12], list(range(20))])
def test_remove_is_create_without(
    tmp_path: Path, cuts_folder: Callable[[int], list[Path]], gone: list[int]
) -> None:
    dest = tmp_path / "wall.dzc"
    create_png_collection(dest, cuts_folder(20))
    report = collection.remove(dest, gone)
    stay = [number for number in range(20) if number not in gone]
    found = collection.read(dest)
    assert [item.id for item in found.items] == stay
    assert [item.n for item in found.items] == list(range(len(stay)))
    assert report.items == len(stay)
    check_collection(dest)
    if stay:
        assert same_tiles(
            read_tiles(dest), expected_tiles([member_pixels(number) for number in stay], 2, 8)
        )
    assert found.next_id == 20
    collection.append(dest, cuts_folder(21)[20:])
    assert collection.read(dest).items[-1].id == 20, "no Id is given twice"
    check_collection(dest)
    assert all(path.exists() for path in cuts_folder(20))


def test_images_are_named_in_several_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [
        save_member_image(tmp_path / f"in/{name}.png", n)
        for n, name in enumerate(["a b", "c", "7", "d"])
    ]
    dest = tmp_path / "wall.dzc"
    create_png_collection(dest, given)
    monkeypatch.chdir(tmp_path / "in")
    collection.remove(dest, ["wall_images/a%20b.dzi", "../wall_images/c.dzi"])
    assert check_collection(dest) == ["wall_images/7.dzi", "wall_images/d.dzi"]
    for wrong in (7, "7", "x.dzi", tmp_path / "c.dzi", 0):
        with pytest.raises(OptionError, match=r"wall.dzc has no item "):
            collection.remove(dest, [wrong])
    collection.remove(dest, [tmp_path / "wall_images/d.dzi", 2])
    assert check_collection(dest) == []


FOREIGN_DESCRIPTOR = """\ufeff<?xml version="1.0"?>\
<Collection MaxLevel="2" NextItemId="0" Format="png"
  TileSize="8" xmlns="http://schemas.microsoft.com/deepzoom/2009" ServerFormat="Default"><Items>
  <I N="1" Id="7" Source="p1.dzi" Type="ImagePixelSource"><Size Width="1" Height="2"/></I>
  <I N="4" Id="2" Source="p0.dzi"><Size Width="1" Height="1"/><Viewport X="-0" Y="1"/></I>
</Items><Mine/></Collection>"""


def test_the_collections_of_others(tmp_path: Path) -> None:
    for number in range(3):
        cut_member(tmp_path, number)
    dest = tmp_path / "dzc_output.xml"
    dest.write_text(FOREIGN_DESCRIPTOR)
    (tmp_path / "dzc_output_files").mkdir()
    report = collection.append(dest, [tmp_path / "p2.dzi"])
    found = collection.read(dest)
    assert [(item.id, item.n) for item in found.items] == [(7, 1), (2, 4), (8, 5)]
    assert report.kept == 0, "there were none"
    text = dest.read_text()
    for piece in ('<Viewport X="-0" Y="1" />', 'ServerFormat="Default"', "<Mine />", "2009"):
        assert piece in text
    wanted = expected_tiles([np.zeros((1, 1, 3), np.uint8)] * 6, 2, 8)
    assert read_tiles(dest).keys() == wanted.keys()
    collection.remove(dest, [7])
    assert check_collection(dest) == ["p0.dzi", "p2.dzi"], "gaps are closed"
    assert '<Viewport X="-0" Y="1" />' in dest.read_text()


def test_refuses_formats_and_items_it_cannot_make_again(tmp_path: Path) -> None:
    source = cut_member(tmp_path, 0)
    dest = tmp_path / "wall.dzc"
    for old, new, message in (
        ("png", "wdp", r"wall.dzc has wdp tiles, which cannot be made here; jpg, jpeg, png, webp"),
        ("p0.dzi", "http://example.org/p0.dzi", r"item 2 \(http://.*\) has no .dzi on this mach"),
        ("p0.dzi", "none.dzi", r"item 2 \(none.dzi\): .*none.dzi: no such file"),
    ):
        dest.write_text(FOREIGN_DESCRIPTOR.replace(old, new))
        cut_member(tmp_path, 1)
        with pytest.raises(SourceError, match=message):
            collection.append(dest, [source])
    dest.write_text(FOREIGN_DESCRIPTOR)
    with pytest.raises(OptionError, match=r"wall.dzc has png tiles, not jpeg"):
        collection.append(dest, [source], format="jpeg")
    assert not (tmp_path / "wall_files").exists()
