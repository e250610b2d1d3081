"""Zoomify's groups of 256 tiles, or of as many as a tile has pixels on a side."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fasttile
from fasttile.options.cut import CutOptions
from fasttile.readers import open_result
from fasttile.verify import repair, verify
from support.reading import noise

GROUPS = ["256", "tile-size"]

SIZES = [
    (16, 300, 290, "floor"),
    (16, 290, 301, "ceil"),
    (300, 300 * 130 + 1, 2, "floor"),
    (255, 1, 255 * 130, "ceil"),
]
"""Tile size, width, height and rounding, of more tiles than the smaller kind of groups holds."""


def cut_groups(folder: Path, group: str) -> Path:
    """An image of 29 × 19 tiles on the largest level, without a record."""
    pixels = noise(300, 450, 1)
    place = folder / "map"
    layout = f"zoomify:group={group}"
    fasttile.cut(pixels, place, layout=layout, tile_size=16, format="png")
    (place / ".fasttile.json").unlink()
    return place


def groups_as_viewers_count_them(folder: Path, tiles_per_group: int) -> None:
    """Assert that each tile is in the group of its number, counted from tier 0 on."""
    numbers = {}
    for path in folder.glob("TileGroup*/*.png"):
        tier, col, row = map(int, path.stem.split("-"))
        numbers[tier, row, col] = int(path.parent.name.removeprefix("TileGroup"))
    assert len(numbers) > min(256, tiles_per_group)
    for number, address in enumerate(sorted(numbers)):
        assert numbers[address] == number // tiles_per_group, address


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(("tile_size", "width", "height", "rounding"), SIZES)
def test_each_tile_is_in_its_group_and_read_there(
    tile_size: int, width: int, height: int, rounding: str, group: str, tmp_path: Path
) -> None:
    pixels = noise(height, width, 1)
    layout = f"zoomify:rounding={rounding},group={group}"
    place = tmp_path / "map"
    fasttile.cut(pixels, place, layout=layout, tile_size=tile_size, format="png")
    groups_as_viewers_count_them(place, 256 if group == "256" else tile_size)
    for has_record in (True, False):
        with open_result(place) as reader:
            assert (reader.layout.group, reader.layout.rounding) == (group, rounding)  # type: ignore[attr-defined]
            for tile in reader.pyramid.tiles():
                assert reader.tile(*tile) is not None
        assert verify(place, pixels).is_complete
        assert verify(place).is_complete
        if has_record:
            (place / ".fasttile.json").unlink()


@pytest.mark.parametrize("group", GROUPS)
def test_a_damaged_result_is_read_and_its_misplaced_tiles_are_counted(
    group: str, tmp_path: Path
) -> None:
    place = cut_groups(tmp_path, group)
    other = "TileGroup9" if group == "256" else "TileGroup0"
    moved = sorted(place.glob("TileGroup2/*.png"))[:5]
    (place / other).mkdir(exist_ok=True)
    for path in moved:
        path.rename(place / other / path.name)
    with open_result(place) as reader:
        assert reader.layout.group == group  # type: ignore[attr-defined]
    report = verify(place, noise(300, 450, 1))
    assert {fault.name.removeprefix("map/") for fault in report.faults} == {
        *(f"TileGroup2/{path.name}" for path in moved),
        *(f"{other}/{path.name}" for path in moved),
    }


def test_the_record_decides_if_the_tiles_do_not(tmp_path: Path) -> None:
    place = cut_groups(tmp_path, "tile-size")
    for path in place.glob("TileGroup*/*.png"):
        if not path.name.startswith("0-"):
            path.unlink()
    records = [
        (b"", "256"),
        (b"{", "256"),
        (json.dumps({"parameters": {"group": "512"}}).encode(), "256"),
        (json.dumps({"parameters": ["group"]}).encode(), "256"),
        (json.dumps({"parameters": {"group": "tile-size"}}).encode(), "tile-size"),
    ]
    for data, group in records:
        (place / ".fasttile.json").write_bytes(data)
        with open_result(place) as reader:
            assert reader.layout.group == group, data  # type: ignore[attr-defined]


def test_tiles_move_to_other_groups_without_a_change(tmp_path: Path) -> None:
    pixels = noise(300, 450, 1)
    places = {group: cut_groups(tmp_path / group, group) for group in GROUPS}
    for old, new in (("256", "tile-size"), ("tile-size", "256")):
        moved = tmp_path / f"to-{new}"
        fasttile.convert(places[old], moved, layout=f"zoomify:group={new}")
        (moved / ".fasttile.json").unlink()
        found, wanted = (
            {path.relative_to(one).as_posix(): path.read_bytes() for path in one.rglob("*.*")}
            for one in (moved, places[new])
        )
        assert found == wanted
    archive = fasttile.convert(places["tile-size"], tmp_path / "kept.zip").path
    kept = fasttile.convert(archive, tmp_path / "kept").path
    groups_as_viewers_count_them(kept, 16)
    # As a source, and with the advice of another rounding.
    again = fasttile.cut(places["tile-size"], tmp_path / "again.dzi", format="png", overlap=0)
    assert verify(again.path, pixels).is_complete
    dzi = fasttile.cut(pixels, tmp_path / "a.dzi", format="png", tile_size=16, overlap=0).path
    advice = r"\(--layout zoomify:group=tile-size,rounding=ceil has the same tiles\)"
    with pytest.raises(fasttile.OptionError, match=advice):
        fasttile.convert(dzi, tmp_path / "b", layout="zoomify:group=tile-size")


def test_a_batch_repairs_and_tiles_on_demand(tmp_path: Path) -> None:
    source = tmp_path / "map.npy"
    np.save(source, noise(300, 450, 1))
    options = CutOptions(layout=fasttile.Zoomify(group="tile-size"), tile_size=16, format="png")
    for layout, is_skipped in ((None, False), (None, True), ("zoomify", False)):
        chosen = options if layout is None else replace(options, layout=layout)
        (done,) = fasttile.cut_all([source], tmp_path / "site", update=True, options=chosen)
        assert (done.error, done.skipped) == ("", is_skipped)
    place = cut_groups(tmp_path, "tile-size")
    wanted = {path.relative_to(tmp_path): path.read_bytes() for path in place.rglob("*.png")}
    with fasttile.open_pyramid(source, options=options) as pyramid:
        found = {Path(pyramid.layout.path(t)): pyramid.tile(*t) for t in pyramid.pyramid.tiles()}
    assert found == wanted
    lost = next((place / "TileGroup37").iterdir())
    lost.unlink()
    report = repair(place, source)
    assert (report.is_complete, report.repaired) == (True, 1)
    assert lost.read_bytes() == wanted[lost.relative_to(tmp_path)]
