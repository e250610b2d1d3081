"""Repaired results are what an intact cut had, to the byte; what was good is not touched."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fasttile.errors import CancelledError, OptionError, SourceError, TargetError
from fasttile.jobs.cut import cut
from fasttile.layouts import RECORD_NAME
from fasttile.storage.work_folder import WorkFolder
from fasttile.verify import repair, verify
from support.cut_cases import ALL_LAYOUTS, cut_exactly
from support.damage import (
    DAMAGE_FUNCTIONS,
    FileTree,
    changed_files,
    execute_sql,
    file_tree,
    flip_byte,
    pmtiles_tile_span,
    tiff_tile_span,
    zip_entry_span,
)
from support.reading import noise
from support.reference import Array
from support.sampling import sampled

FOLDERS = ["dzi:json", "zoomify", "tms", "iiif2:id=https://e.org/x"]
FORMATS = [
    "png",
    "png:compress_level=9,compress_type=3",
    "jpeg",
    "jpeg:quality=35,subsampling=4:4:4,optimize",
    "jpeg:quality=97,progressive,subsampling=4:2:2",
    "webp",
    "webp:lossless",
    "webp:lossless,quality=20",
]


def result_path(folder: Path, layout: str) -> Path:
    return folder / ("map.dzi" if layout.startswith("dzi") else "map")


def tile_root(folder: Path, layout: str) -> Path:
    return folder / ("map_files" if layout.startswith("dzi") else "map")


def damage_at_random(folder: Path, before: FileTree, chance: random.Random, count: int = 6) -> None:
    """Delete, swap and spoil tiles, and put some files among them."""
    tiles = [name for name in before if name.endswith((".png", ".jpg", ".webp"))]
    tiles = [name for name in tiles if "/0-0-0." not in name]  # by which Zoomify is understood
    # Of a WebP without loss a byte may change and no pixel: then it is as good as it was.
    ways = DAMAGE_FUNCTIONS[:3] if tiles[0].endswith(".webp") else DAMAGE_FUNCTIONS
    for name in chance.sample(tiles, count):
        kind = chance.choice(["spoil", "spoil", "delete", "swap"])
        path, other = folder / name, folder / chance.choice(tiles)
        if kind == "spoil" and path.exists() and path.stat().st_size:
            path.write_bytes(chance.choice(ways)(path.read_bytes(), chance))
        elif kind == "swap" and path.exists() and other.exists():
            one, two = path.read_bytes(), other.read_bytes()
            path.write_bytes(two)
            other.write_bytes(one)
        elif kind == "delete":
            path.unlink(missing_ok=True)
    for name in ("8/77_0", "9/x/y", "x"):
        stray = folder / (tiles[0].partition("/")[0] + f"/{name}.png")
        stray.parent.mkdir(parents=True, exist_ok=True)
        stray.write_bytes(b"stray")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("layout", sampled(FOLDERS, FOLDERS[:2]))
def test_repaired_folders_are_as_they_were(layout: str, form: str, tmp_path: Path) -> None:
    for seed, pixels in enumerate((noise(77, 130, 3), noise(40, 150, 1))):
        folder = tmp_path / str(seed)
        place = cut_exactly(result_path(folder, layout), layout, pixels, format=form)
        before = file_tree(folder)
        damage_at_random(folder, before, random.Random(f"{form} {layout} {seed}"))
        words = {"quality": 80} if form == "webp" else {}
        report = repair(place, pixels, **words)
        assert report.is_complete, report.faults
        assert report.repaired >= 3
        after = file_tree(folder)
        if form != "webp:lossless,quality=20":  # of which some bytes, but no pixels, may differ
            assert changed_files(before, after) == set()
        assert before.keys() == after.keys()
        assert repair(place, pixels, **words).repaired == 0


@pytest.mark.parametrize("layout", ALL_LAYOUTS)
def test_good_tiles_are_not_touched(layout: str, tmp_path: Path) -> None:
    pixels = noise(77, 130, 3)
    place = cut_exactly(result_path(tmp_path, layout), layout, pixels, format="jpeg")
    before = file_tree(tmp_path)
    for name in before:
        os.utime(tmp_path / name, ns=(1, 1))
    bad = random.Random(layout).sample([name for name in before if name.endswith("jpg")], 4)
    for name in bad:
        (tmp_path / name).write_bytes(before[name][:-30])
    assert repair(place, pixels).is_complete
    assert changed_files(before, file_tree(tmp_path)) == set()
    touched = {name for name in before if (tmp_path / name).stat().st_mtime_ns != 1}
    assert set(bad) <= touched
    same = {name for name in touched if before[name] in [before[one] for one in bad]}
    assert touched == same  # but for further names of a bad tile


def test_all_is_gone_but_a_few(tmp_path: Path) -> None:
    pixels = noise(300, 400, 3)
    place = cut_exactly(tmp_path / "map.dzi", None, pixels, format="jpeg", quality=70)
    before = file_tree(tmp_path)
    for name in before:
        if name.endswith(("0_0.jpg", ".dzi", RECORD_NAME)):
            continue
        (tmp_path / name).unlink()
    shutil.rmtree(tmp_path / "map_files/9")
    (tmp_path / "map_files/9").mkdir()
    assert repair(place, pixels).is_complete
    assert changed_files(before, file_tree(tmp_path)) == set()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.dzi", "map_files"]


def test_files_with_a_profile_and_a_resolution(tmp_path: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"sRGB", b"mine")
    source = tmp_path / "map.png"
    Image.fromarray(noise(130, 200, 3)).save(source, icc_profile=profile, dpi=(300, 300))
    for icc in ("srgb", "keep", "drop"):
        place = tmp_path / icc / "map.dzi"
        cut(source, place, icc=icc, tile_size=32, quality=60)  # type: ignore[arg-type]
        before = file_tree(tmp_path / icc)
        damage_at_random(tmp_path / icc, before, random.Random(icc))
        report = repair(place, source, icc=icc)
        assert report.is_complete, report.faults
        assert changed_files(before, file_tree(tmp_path / icc)) == set()


@pytest.mark.parametrize("layout", ["dzi:json,jsonp", "xyz", "tms", "iiif3:id=https://e.org/x"])
def test_descriptors_are_repaired(layout: str, tmp_path: Path) -> None:
    pixels = noise(77, 130, 3)
    place = cut_exactly(result_path(tmp_path, layout), layout, pixels)
    before = file_tree(tmp_path)
    changes = {
        "map.json": ('"130"', '"131"'),
        "map.js": ("map_files", "other"),
        "map/tiles.json": ("{z}", "{y}"),
        "map/tilemapresource.xml": ('href="1"', 'href="7"'),
        "map/info.json": ('"width": 65', '"width": 66'),
    }
    for name, (old, new) in changes.items():
        if name in before:
            text = before[name].decode()
            change = '[\n    "' + old, '[\n    "' + new
            (tmp_path / name).write_text(
                text.replace(*change) if name == "map/tiles.json" else text.replace(old, new)
            )
    assert changed_files(before, file_tree(tmp_path))
    assert repair(place, pixels).is_complete
    assert changed_files(before, file_tree(tmp_path)) == set()


# ---- in one file -------------------------------------------------------------------------------


def _damage_zip(path: Path) -> None:
    for name in ("map_files/8/1_1.jpg", "map_files/3/0_0.jpg"):
        start, size = zip_entry_span(path, name)
        flip_byte(path, start + size // 2)


def _damage_szi(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    del files["map/map_files/8/1_1.jpg"]
    files["map/map_files/99/1_1.jpg"] = b"x"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def _damage_pmtiles(path: Path) -> None:
    for address in ((3, 3, 3), (0, 0, 0)):
        start, size = pmtiles_tile_span(path, *address)
        flip_byte(path, start + size // 2)


def _damage_mbtiles(path: Path) -> None:
    execute_sql(path, "UPDATE tiles SET tile_data = x'FFD8FF' WHERE zoom_level = 2")
    execute_sql(path, "DELETE FROM tiles WHERE zoom_level = 3 AND tile_column = 2")
    execute_sql(path, "INSERT INTO tiles VALUES (7, 1, 1, x'00')")


def _damage_tiff(path: Path) -> None:
    for page, number in ((0, 7), (2, 1)):
        start, size = tiff_tile_span(path, page, number)
        flip_byte(path, start + size // 2)


IN_ONE_FILE: list[tuple[str, str | None, Callable[[Path], None]]] = [
    ("map.zip", "dzi:json", _damage_zip),
    ("map.szi", None, _damage_szi),
    ("map.pmtiles", "xyz:centre", _damage_pmtiles),
    ("map.mbtiles", None, _damage_mbtiles),
    ("map.tif", None, _damage_tiff),
]


@pytest.mark.parametrize("form", ["jpeg:quality=60", "other"])
@pytest.mark.parametrize(("name", "layout", "spoil"), IN_ONE_FILE)
def test_one_file(
    name: str, layout: str | None, spoil: Callable[[Path], None], form: str, tmp_path: Path
) -> None:
    if form == "other":
        form = "deflate:compress_level=2" if name.endswith("tif") else "jpeg:progressive"
    for pixels in (noise(77, 130, 3), noise(77, 130, 1)):
        shutil.rmtree(tmp_path)
        place = cut_exactly(tmp_path / name, layout, pixels, format=form)
        before = place.read_bytes()
        spoil(place)
        assert not verify(place, pixels).is_complete
        report = repair(place, pixels)
        assert report.is_complete, report.faults
        assert report.repaired >= 2
        assert place.read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == [name]


def test_pages_stay_in_a_zip(tmp_path: Path) -> None:
    pixels = noise(77, 130, 3)
    for layout in ("zoomify", "dzi", "xyz"):
        place = tmp_path / f"{layout}.zip"
        cut_exactly(place, layout, pixels, format="jpeg", viewer="openseadragon")
        before = place.read_bytes()
        with zipfile.ZipFile(place) as archive:
            name = next(name for name in archive.namelist() if name.endswith("jpg"))
        start, size = zip_entry_span(place, name)
        flip_byte(place, start + size // 2)
        assert repair(place, pixels).is_complete
        assert place.read_bytes() == before


def test_blank_tiles_stay_left_out(tmp_path: Path) -> None:
    pixels = np.full((130, 260, 3), 255, np.uint8)
    pixels[40:100, 70:190] = noise(60, 120, 3)
    for name in ("map", "map.pmtiles", "map.mbtiles"):
        layout = "tms" if name == "map" else None
        place = cut_exactly(tmp_path / name, layout, pixels, skip_blank=0)
        before = file_tree(tmp_path)
        if name == "map":
            gone = sorted(place.glob("*/*/*.png"))[5]
            gone.unlink()
        elif name == "map.pmtiles":
            start, size = pmtiles_tile_span(place, 4, 3, 2)
            flip_byte(place, start + size // 2)
        else:
            execute_sql(place, "DELETE FROM tiles WHERE zoom_level = 4 AND tile_column = 3")
        assert repair(place, pixels).is_complete
        assert changed_files(before, file_tree(tmp_path)) == set()


def test_what_another_program_made_in_one_file_is_left_alone(tmp_path: Path) -> None:
    pixels = noise(77, 130, 3)
    place = cut_exactly(tmp_path / "map.mbtiles", None, noise(128, 128, 3))
    execute_sql(place, "DELETE FROM metadata WHERE name = 'json'")
    execute_sql(place, "UPDATE tiles SET tile_data = x'00' WHERE zoom_level = 1")
    before = place.read_bytes()
    with pytest.raises(TargetError, match="made by another program"):
        repair(place, noise(128, 128, 3))
    tiff = cut_exactly(tmp_path / "map.tif", None, pixels)
    _damage_tiff(tiff)
    data = tiff.read_bytes()
    # A tag that fasttile writes becomes an unknown one: 284, PlanarConfiguration, to 305, Software.
    place_of_tag = data.rindex((284).to_bytes(2, "little") + b"\3\0")
    tiff.write_bytes(data[:place_of_tag] + (305).to_bytes(2, "little") + data[place_of_tag + 2 :])
    with pytest.raises(TargetError, match="made by another program"):
        repair(tiff, pixels)
    assert place.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.mbtiles", "map.tif"]


# ---- what cannot be ----------------------------------------------------------------------------


def _make_damaged(folder: Path, pixels: Array, form: str = "jpeg") -> Path:
    place = cut_exactly(folder / "map.dzi", None, pixels, format=form)
    next((folder / "map_files/8").iterdir()).write_bytes(b"x")
    return place


def test_another_image(tmp_path: Path) -> None:
    place = _make_damaged(tmp_path, noise(77, 130, 3))
    before = file_tree(tmp_path)
    with pytest.raises(SourceError, match=r"131×77 pixels, but .*map.dzi has 130×77"):
        repair(place, noise(77, 131, 3))
    assert file_tree(tmp_path) == before


def test_the_quality_of_webp_is_unknown(tmp_path: Path) -> None:
    pixels = noise(77, 130, 3)
    place = cut_exactly(tmp_path / "map.dzi", None, pixels, format="webp", quality=40)
    before = file_tree(tmp_path)
    (tmp_path / "map_files/8/1_1.webp").unlink()
    assert repair(place, pixels).is_complete  # the result's record states it
    assert changed_files(before, file_tree(tmp_path)) == set()
    (tmp_path / "map_files" / RECORD_NAME).unlink()
    before = file_tree(tmp_path)
    (tmp_path / "map_files/8/1_1.webp").unlink()
    with pytest.raises(
        OptionError, match="the encoding cannot be read from its tiles; give the original one"
    ):
        repair(place, pixels)
    for words in ({"quality": 40}, {"format": "webp:quality=40"}):
        (tmp_path / "map_files/8/1_1.webp").unlink(missing_ok=True)
        assert repair(place, pixels, **words).is_complete  # type: ignore[arg-type]
        assert changed_files(before, file_tree(tmp_path)) == set()


def test_no_two_at_a_time(tmp_path: Path) -> None:
    pixels = noise(77, 130, 3)
    place = _make_damaged(tmp_path, pixels)
    work = WorkFolder(tmp_path / ".map.dzi.fasttile")
    with pytest.raises(TargetError, match="another run is at work"):
        repair(place, pixels)
    work.release()
    (work.path / "journal").write_bytes(b"")
    with pytest.raises(TargetError, match="a cut of it was interrupted; cut it again"):
        repair(place, pixels)
    (work.path / "journal").unlink()
    assert repair(place, pixels).is_complete
    assert not work.path.exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    pixels = noise(77, 130, 3)
    place = cut_exactly(tmp_path / "site/map.dzi", None, pixels)
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "site/map_files/8").rename(elsewhere)
    (elsewhere / "1_1.png").unlink()
    (tmp_path / "site/map_files/8").symlink_to(elsewhere)
    before = file_tree(elsewhere)
    with pytest.raises(TargetError, match="is a link, which is not followed"):
        repair(place, pixels)
    assert file_tree(elsewhere) == before
    assert not (tmp_path / "site/.map.dzi.fasttile").exists()


def test_it_can_be_stopped(tmp_path: Path) -> None:
    pixels = noise(77, 130, 3)
    for name in ("map.dzi", "map.zip"):
        place = cut_exactly(tmp_path / name, "dzi", pixels, format="jpeg")
        if name == "map.dzi":
            (tmp_path / "map_files/8/1_1.jpg").unlink()
        else:
            _damage_zip(place)
        before = file_tree(tmp_path)
        calls: list[Any] = []

        def stop(now: Any, calls: list[Any] = calls) -> bool:
            calls.append(now)
            return now.tiles < now.tile_count  # which is when all have been looked at

        with pytest.raises(CancelledError):
            repair(place, pixels, stop)
        assert calls
        assert file_tree(tmp_path) == before
        assert repair(place, pixels).is_complete


def test_sources_that_come_once(tmp_path: Path) -> None:
    pixels = noise(77, 130, 3)
    Image.fromarray(pixels).save(tmp_path / "map.png")
    place = _make_damaged(tmp_path / "site", pixels)
    with (tmp_path / "map.png").open("rb") as file:
        assert repair(place, file).is_complete


def test_databases_stay_valid(tmp_path: Path) -> None:
    pixels = noise(77, 130, 3)
    place = cut_exactly(tmp_path / "map.mbtiles", None, pixels)
    _damage_mbtiles(place)
    repair(place, pixels)
    with closing(sqlite3.connect(place)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize(
    ("target", "source"),
    [
        ("map.dzi", "map_files/photo.png"),
        ("map.dzi", "map_files/3/photo.png"),
        ("map", "map/photo.png"),
        ("map.tif", "map.tif"),
        ("map.dzi", "link.png"),
    ],
)
def test_a_source_in_the_result_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = noise(90, 120, 3)
    cut(pixels, target, layout="zoomify" if target == "map" else None)
    place = Path("map_files/p.png" if source == "link.png" else source)
    if source != target:
        Image.fromarray(pixels).save(place)
    if source == "link.png":
        Path(source).symlink_to(place)
    before = file_tree(tmp_path)
    with pytest.raises(TargetError, match="the result would replace"):
        repair(target, source)
    assert file_tree(tmp_path) == before
