"""From end to end: cut into every layout and container, opened, and put together again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fasttile.abc.reader import ResultReader
from fasttile.cli.info import describe
from fasttile.geometry import Level
from fasttile.layouts import LayoutSpec
from fasttile.readers import open_result
from support import reference
from support.cut_cases import RESULT_CASES, cut_exactly
from support.reading import noise
from support.reference import Array
from support.result_cases import assert_holds_tiles, expected_tiles


def assemble_level(reader: ResultReader, level: Level) -> Array:
    """A level put together of its tiles, without what they have of their neighbours."""
    lines = []
    for row in range(level.rows):
        line = []
        for col in range(level.cols):
            tile = reader.pixels(level.number, col, row)
            assert tile is not None
            x, y, *_ = level.region(col, row)
            left, top = col * level.tile_size - x, row * level.tile_size - y
            line.append(tile[top:, left:][: level.tile_size, : level.tile_size])
        lines.append(np.concatenate(line, axis=1))
    return np.concatenate(lines, axis=0)


@pytest.mark.parametrize(("name", "layout"), RESULT_CASES)
def test_every_tile_comes_back(name: str, layout: str | None, tmp_path: Path) -> None:
    for height, width, bands in ((77, 130, 3), (100, 33, 1), (20, 30, 3), (32, 64, 3)):
        pixels = noise(height, width, bands)
        place = cut_exactly(tmp_path / f"{height}-{name}", layout, pixels)
        with open_result(place) as reader:
            assert reader.pyramid.size == (width, height)
            assert_holds_tiles(reader, expected_tiles(reader.layout, pixels))


@pytest.mark.parametrize(("name", "layout"), RESULT_CASES)
def test_every_level_comes_back(name: str, layout: str | None, tmp_path: Path) -> None:
    pixels = noise(77, 130, 3)
    place = cut_exactly(tmp_path / name, layout, pixels)
    with open_result(place) as reader:
        canvas, kept = reader.pyramid.canvas, reader.pyramid.stored_levels
        levels = reference.levels(pixels, rounding=canvas.rounding)
        if canvas.padded:
            x, y, width, height = kept[-1].inset
            assert (assemble_level(reader, kept[-1])[y : y + height, x : x + width] == pixels).all()
            return
        for level in kept:
            _, _, width, height = level.inset
            assert (assemble_level(reader, level)[:height, :width] == levels[level.number]).all()
        # Those that are not kept are those that are smaller than one tile.
        assert max(levels[kept[0].number].shape[:2]) <= 32


@pytest.mark.parametrize(("name", "layout"), RESULT_CASES)
def test_jpeg_comes_back(name: str, layout: str | None, tmp_path: Path) -> None:
    y, x = np.mgrid[:130, :200]
    pixels = np.stack([x, y + 50, 250 - x], axis=-1).astype(np.uint8)
    place = cut_exactly(
        tmp_path / name, layout, pixels, format="jpeg:subsampling=4:4:4", quality=95
    )
    with open_result(place) as reader:
        assert (reader.extension, reader.media_type) == ("jpg", "image/jpeg")
        for address, tile in expected_tiles(reader.layout, pixels).items():
            found = reader.pixels(*address)
            assert found is not None
            assert found.shape == tile.shape
            assert np.abs(found.astype(int) - tile).mean() < 3


def test_jpeg_of_a_tiff_is_that_of_deep_zoom(tmp_path: Path) -> None:
    for bands, form in ((1, "jpeg"), (3, "jpeg"), (3, "jpeg:subsampling=4:4:4"), (4, "jpeg")):
        pixels = noise(100, 140, bands)
        options = {"format": form, "overlap": 0}
        places = [tmp_path / f"{bands}{len(form)}.{ending}" for ending in ("dzi", "tif")]
        for place in places:
            cut_exactly(place, None, pixels, **options)
        with open_result(places[0]) as one, open_result(places[1]) as other:
            for level in other.pyramid.stored_levels:
                for tile in level.tiles():
                    _, _, width, height = one.pyramid.region(tile)
                    if (width, height) == (32, 32):  # else one of them is filled up
                        assert (one.pixels(*tile) == other.pixels(*tile)).all()


@pytest.mark.parametrize("name", ["map.dzi", "map.szi", "map.pmtiles", "map.tif", "map"])
def test_16_bits_come_back(name: str, tmp_path: Path) -> None:
    pixels = noise(77, 130, 1, dtype=np.uint16)
    layout = "zoomify" if name == "map" else None
    place = cut_exactly(tmp_path / name, layout, pixels, bits=16, window="full")
    with open_result(place) as reader:
        assert_holds_tiles(reader, expected_tiles(reader.layout, pixels))


@pytest.mark.parametrize("name", ["map.dzi", "map.tif"])
@pytest.mark.parametrize("bands", [2, 4])
def test_alpha_comes_back(name: str, bands: int, tmp_path: Path) -> None:
    pixels = noise(77, 130, bands)
    place = cut_exactly(tmp_path / name, None, pixels)
    with open_result(place) as reader:
        levels = reference.levels(pixels)
        for level in reader.pyramid.stored_levels:
            _, _, width, height = level.inset
            assert (assemble_level(reader, level)[:height, :width] == levels[level.number]).all()


def test_blank_tiles_that_were_left_out(tmp_path: Path) -> None:
    pixels = np.full((130, 260, 3), 255, np.uint8)
    pixels[40:60, 70:90] = noise(20, 20, 3)
    for name, layout in (
        ("map", "xyz"),
        ("tms", "tms"),
        ("gsiv", "gsiv:centre=no"),
        ("map.pmtiles", None),
        ("map.mbtiles", None),
        ("xyz.zip", "xyz"),
    ):
        place = cut_exactly(tmp_path / name, layout, pixels, skip_blank=0)
        with open_result(place) as reader:
            top = reader.pyramid.stored_levels[-1]
            assert reader.level_stats(top.number).tiles == 1
            found = [tile for tile in top.tiles() if reader.tile(*tile) is not None]
            assert len(found) == 1
            x, y, *_ = top.inset
            assert (found[0].col, found[0].row) == ((x + 70) // 32, (y + 40) // 32)
        (line,) = [value for key, value in describe(str(place)) if key == "holds"]
        assert line.endswith(f" of {reader.pyramid.tile_count:,} tiles")


@pytest.mark.parametrize("levels", ["0-1", "1-2", "2-2"])
@pytest.mark.parametrize(
    ("name", "layout"),
    [("x", "xyz"), ("t", "tms"), ("m.pmtiles", None), ("m.mbtiles", None), ("m.tif", None)],
)
def test_some_levels_come_back(name: str, layout: str | None, levels: str, tmp_path: Path) -> None:
    if (name, levels) == ("m.tif", "2-2"):
        return  # a page that is larger than a tile, and no other: which is no pyramid
    pixels = noise(77, 130, 3)
    complete = cut_exactly(tmp_path / f"complete {name}", layout, pixels)
    part = cut_exactly(tmp_path / name, layout, pixels, levels=levels)
    first, last = (int(number) for number in levels.split("-"))
    with open_result(complete) as one, open_result(part) as other:
        numbers = range(one.layout.base_level + first, one.layout.base_level + last + 1)
        assert len(other.pyramid.stored_range) == len(numbers)
        shift = other.pyramid.stored_range[-1] - numbers[-1]
        for number in numbers:
            level = one.pyramid.levels[number]
            assert other.pyramid.levels[number + shift].tile_count == level.tile_count
            for _, col, row in level.tiles():
                found = other.pixels(number + shift, col, row)
                assert (found == one.pixels(number, col, row)).all()


# ---- what info shows ---------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "layout"), RESULT_CASES[:-1])
def test_info_describes_every_result(name: str, layout: str | None, tmp_path: Path) -> None:
    pixels = noise(77, 130, 3)
    place = cut_exactly(tmp_path / name, layout, pixels)
    rows = dict(describe(str(place)))
    with open_result(place) as reader:
        pyramid, base = reader.pyramid, reader.layout.base_level
        assert rows["file"] == str(place)
        assert rows["format"] == f"{reader.format_name}, png tiles"
        assert rows["size"] == "130×77 pixels"
        larger = ", and 64 pixels as @2x" * reader.layout.has_halves
        assert rows["tiles"] == f"32 pixels{larger}, overlap {pyramid.overlap}"
        assert rows["levels"] == str(len(pyramid.stored_range))
        count = pyramid.tile_count
        assert rows["holds"] == f"{count} of {count} tiles"
        stored = [reader.level_stats(level) for level in pyramid.stored_range]
        assert rows["bytes"] == f"{sum(found.bytes for found in stored):,}"
        assert ("canvas" in rows) == pyramid.canvas.padded
        top = pyramid.levels[-1]
        start = f"130×77 pixels, {top.cols}×{top.rows} = {top.tile_count} tiles, "
        assert rows[f"  level {top.number - base}"] == f"{start}{stored[-1].bytes:,} bytes"
        assert len([key for key in rows if key.startswith("  level ")]) == len(pyramid.stored_range)


def test_info_shows_what_is_missing_and_what_is_left_out(tmp_path: Path) -> None:
    pixels = noise(77, 130, 3)
    zoomify = cut_exactly(tmp_path / "z", "zoomify", pixels)
    (zoomify / "TileGroup0/2-1-2.png").unlink()
    assert "(1 MISSING)" in dict(describe(str(zoomify)))["  level 2"]
    xyz = cut_exactly(tmp_path / "x", "xyz", pixels)
    (xyz / "3/1/2.png").unlink()
    rows = dict(describe(str(xyz)))
    assert rows["  level 3"].startswith("130×77 pixels, 5×3 = 15 tiles (1 left out), ")
    assert rows["holds"] == "23 of 24 tiles"
    assert rows["canvas"] == "256×256 pixels, the image at 0, 0"


def test_info_shows_which_levels_exist(tmp_path: Path) -> None:
    place = cut_exactly(tmp_path / "map.pmtiles", None, noise(77, 130, 3), levels="1-2")
    assert dict(describe(str(place)))["levels"] == "2 (1 to 2)"


def test_a_pyramidal_tiff_is_an_image_too(tmp_path: Path) -> None:
    place = cut_exactly(tmp_path / "map.tif", None, noise(77, 130, 3))
    rows = dict(describe(str(place)))
    assert rows["format"] == "TIFF"
    assert rows["pyramid"] == "4 levels, 24 tiles of 32 pixels"
    assert rows["result"] == "of fasttile: view, verify and convert read its tiles"
    assert rows["options"] == "tile_size=32, format=deflate"
    assert rows["size"] == "130×77 pixels"
    assert rows["would make"].endswith("tiles by default")


def test_info_of_what_claims_more_than_there_is(tmp_path: Path) -> None:
    side = 2**40
    layout = LayoutSpec.parse("dzi").bind("map", side, side, "png")
    (tmp_path / "map_files/3").mkdir(parents=True)
    (tmp_path / "map_files/3/0_0.png").write_bytes(b"x")
    (tmp_path / "map.dzi").write_bytes(layout.descriptors()["map.dzi"])
    rows = dict(describe(str(tmp_path / "map.dzi")))
    assert rows["levels"] == "38 (3 to 40)"
    assert rows["holds"].startswith("1 of ")
    assert "MISSING" in rows["  level 40"]
    assert rows["  level 3"] == "8×8 pixels, 1×1 = 1 tiles, 1 bytes"
