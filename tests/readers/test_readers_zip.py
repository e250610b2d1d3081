"""Archives that lie about what is in them, or are damaged."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from fasttile.errors import SourceError
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.readers import open_result
from support.reading import noise
from support.result_cases import assert_holds_tiles, expected_tiles, result_files, write_zip


def make_zip(tmp_path: Path) -> tuple[Path, bytearray]:
    """A Deep Zoom image in a ZIP, and its bytes."""
    pixels = noise(20, 30, 3)
    layout = DeepZoom.from_size("map", 30, 20, "png", tile_size=16)
    place = tmp_path / "map.zip"
    write_zip(place, result_files(layout, pixels))
    return place, bytearray(place.read_bytes())


def central_entry_offset(data: bytearray, name: bytes) -> int:
    """Where the directory's entry of a file begins."""
    return data.rindex(name) - 46


@pytest.mark.parametrize(
    ("field", "size", "value", "message"),
    [
        (8, 2, 1, "is encrypted"),
        (10, 2, 12, "is compressed by method 12"),
        (10, 2, 8, "is damaged"),
        (16, 4, 0xBAD, "is damaged"),
        (20, 4, 0x7FFFFFFF, "is damaged: .* takes 2147483647 bytes"),
        (20, 4, 10, "is damaged"),
        (24, 4, 0x7FFFFFFF, "it has 2,147,483,647 bytes, more than 268,435,456"),
        (42, 4, 0, "is damaged"),
        (42, 4, 7, "is not where it should be"),
        (42, 4, 0x7FFFFFFF, "is damaged: .* bytes at 2147483647"),
    ],
)
def test_a_zip_whose_directory_lies(
    tmp_path: Path, field: int, size: int, value: int, message: str
) -> None:
    place, data = make_zip(tmp_path)
    at = central_entry_offset(data, b"map_files/5/1_1.png") + field
    data[at : at + size] = value.to_bytes(size, "little")
    place.write_bytes(data)
    with open_result(place) as reader:
        assert reader.tile(5, 0, 0)
        with pytest.raises(SourceError, match=message) as caught:
            reader.tile(5, 1, 1)
        assert str(place) in str(caught.value)


def test_a_zip_that_inflates_without_end(tmp_path: Path) -> None:
    place, _ = make_zip(tmp_path)
    with zipfile.ZipFile(place) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["map_files/5/1_1.png"] = bytes(50_000_000)
    write_zip(place, files, method=zipfile.ZIP_DEFLATED)
    data = bytearray(place.read_bytes())
    at = central_entry_offset(data, b"map_files/5/1_1.png") + 24
    for claimed, message in ((100, "is damaged"), (0x7FFFFFFF, "more than")):
        data[at : at + 4] = claimed.to_bytes(4, "little")
        place.write_bytes(data)
        with open_result(place) as reader, pytest.raises(SourceError, match=message):
            reader.tile(5, 1, 1)


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "map_files/../../x", "a\\..\\x", "C:\\x"])
def test_a_zip_with_names_outside_of_it(tmp_path: Path, name: str) -> None:
    place, _ = make_zip(tmp_path)
    with zipfile.ZipFile(place, "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(SourceError, match="which would lie outside of it"):
        open_result(place)


def test_a_zip_with_links(tmp_path: Path) -> None:
    place, _ = make_zip(tmp_path)
    link = zipfile.ZipInfo("map_files/9/0_0.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(place, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with open_result(place) as reader:
        assert reader.pyramid.stored_range == range(6)


def test_zips_that_are_damaged(tmp_path: Path) -> None:
    place, data = make_zip(tmp_path)
    random = np.random.default_rng(1)
    for _ in range(300):
        changed = bytearray(data)
        if random.random() < 0.3:
            changed = changed[: random.integers(2, len(data))]
        for at in random.integers(max(0, len(changed) - 900), len(changed), 3):
            changed[at] = random.integers(256)
        place.write_bytes(changed)
        try:
            with open_result(place) as reader:
                for tile in reader.pyramid.tiles():
                    reader.tile(*tile)
                    reader.level_stats(tile.level)
        except SourceError as error:
            assert str(place) in str(error)  # noqa: PT017


def test_a_large_zip_has_its_directory_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)  # from here on it is ZIP64
    place, _ = make_zip(tmp_path)
    pixels = noise(20, 30, 3)
    with open_result(place) as reader:
        assert_holds_tiles(
            reader, expected_tiles(DeepZoom.from_size("map", 30, 20, "png", tile_size=16), pixels)
        )
