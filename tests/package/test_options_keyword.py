"""Public functions take an `options` object beside keywords, which override its fields."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import fasttile
from fasttile.collection.api import append, create
from fasttile.errors import OptionError
from fasttile.options.cut import CutOptions
from fasttile.verify import VERIFY_OPTIONS, repair, verify

IMAGE = np.arange(40 * 50 * 3, dtype=np.uint8).reshape(40, 50, 3)


def test_keywords_override_the_fields_of_an_object() -> None:
    options = CutOptions(tile_size=16, overlap=2)
    merged = CutOptions.from_keywords({"overlap": 3}, options)
    assert (merged.tile_size, merged.overlap) == (16, 3)
    assert options.overlap == 2
    assert CutOptions.from_keywords({}, None) == CutOptions()


def test_merged_options_are_checked() -> None:
    with pytest.raises(OptionError, match="threads 0"):
        CutOptions.from_keywords({"threads": 0}, CutOptions())
    with pytest.raises(TypeError, match="no option 'tilesize'; the options are layout"):
        CutOptions.from_keywords({"tilesize": 9}, CutOptions())
    with pytest.raises(TypeError, match="options: 'dzi' is no CutOptions"):
        CutOptions.from_keywords({}, "dzi")  # type: ignore[arg-type]


def test_cut_and_iter_tiles_take_options(tmp_path: Path) -> None:
    options = CutOptions(tile_size=16, overlap=0, levels="one-tile")
    tiles = [tile for tile, _ in fasttile.iter_tiles(IMAGE, options=options)]
    report = fasttile.cut(IMAGE, tmp_path / "a.dzi", options=options)
    assert report.tiles == len(tiles) > 4
    large = fasttile.cut(IMAGE, tmp_path / "b.dzi", options=options, tile_size=64)
    assert large.tiles == 1


def test_cut_all_takes_options(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGE)
    (result,) = fasttile.cut_all(
        [tmp_path / "a.npy"], tmp_path / "out", options=CutOptions(format="png"), tile_size=16
    )
    assert result.report is not None
    assert result.report.tiles > 8
    assert list(tmp_path.glob("out/a_files/*/0_0.png"))


def test_verify_and_repair_ignore_what_the_result_holds(tmp_path: Path) -> None:
    options = CutOptions(format="png", tile_size=16, region=(8, 8, 32, 32), overwrite=True)
    fasttile.cut(IMAGE, tmp_path / "a.dzi", options=options)
    assert verify(tmp_path / "a.dzi", IMAGE, options=options).is_complete
    with pytest.raises(fasttile.SourceError):
        verify(tmp_path / "a.dzi", IMAGE, options=options, region=None)
    next(tmp_path.glob("a_files/*/1_1.png")).unlink()
    assert repair(tmp_path / "a.dzi", IMAGE, options=options).repaired == 1
    assert {field.name for field in fields(CutOptions)} > VERIFY_OPTIONS


def test_collections_take_options_for_images_that_are_cut(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGE)
    options = CutOptions(format="png", shrink="nearest", overlap=0)
    wall = tmp_path / "wall.dzc"
    assert create(wall, [tmp_path / "a.npy"], options=options).cut == 1
    assert append(wall, [tmp_path / "a.npy"], options=options).items == 2
    assert list(tmp_path.glob("wall_images/a_files/*/0_0.png"))
    with pytest.raises(OptionError, match="options: a collection takes no tile_size; leave it out"):
        create(wall, [tmp_path / "a.npy"], options=CutOptions(tile_size=16), overwrite=True)


@pytest.mark.parametrize("format_", ["png", "png:compress_level=1", "deflate"])
def test_a_quality_is_refused_by_formats_without_one(tmp_path: Path, format_: str) -> None:
    name = format_.partition(":")[0]
    match = f"{name} has no parameter 'quality'; it has compress_level"
    path = tmp_path / ("a.tif" if name == "deflate" else "a.dzi")
    with pytest.raises(OptionError, match=match):
        fasttile.cut(IMAGE, path, format=format_, quality=80)
    with pytest.raises(OptionError, match=match):
        fasttile.cut(IMAGE, path, format=f"{name}:quality=80")
    assert fasttile.cut(IMAGE, path, format=format_).tiles
    if name == "png":
        np.save(tmp_path / "a.npy", IMAGE)
        with pytest.raises(OptionError, match=match):
            create(tmp_path / "w.dzc", [tmp_path / "a.npy"], format=format_, quality=80)
