"""MBTiles files, read back by SQLite alone."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fasttile.errors import TargetError
from fasttile.layouts.xyz import Xyz
from fasttile.sinks import mbtiles
from fasttile.sinks.mbtiles import MbtilesSink


def write_mbtiles(target: Path, layout: Xyz) -> Path:
    sink = MbtilesSink(layout, target)
    for tile in layout.pyramid.tiles():
        sink.put(tile, f"{tile}".encode())
    sink.finish()
    return target


@contextmanager
def open_database(path: Path) -> Iterator[sqlite3.Connection]:
    """The database, as a server opens it: it may not write."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        yield database


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 3), (9, 30), (63, 64)])
@pytest.mark.parametrize("at_once", [3, 256])
def test_rows_count_from_the_bottom(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    centre: bool,
    at_once: int,
) -> None:
    monkeypatch.setattr(mbtiles, "INSERT_BATCH", at_once)
    layout = Xyz.from_size("m", *size, "png", tile_size=4, centre=centre)
    expected = {}
    for tile in layout.pyramid.tiles():
        zoom, col, row = layout.address(tile)
        expected[zoom, col, 2**zoom - 1 - row] = f"{tile}".encode()
    with open_database(write_mbtiles(tmp_path / "x.mbtiles", layout)) as database:
        rows = database.execute(
            "SELECT zoom_level, tile_column, tile_row, tile_data FROM tiles"
        ).fetchall()
    assert {row[:3]: row[3] for row in rows} == expected
    assert len(rows) == len(expected)


def test_the_database_is_as_the_specification_wants_it(tmp_path: Path) -> None:
    path = write_mbtiles(tmp_path / "x.mbtiles", Xyz.from_size("m", 1000, 700, "jpg", tile_size=16))
    assert path.read_bytes()[68:72] == b"MPBX"
    with open_database(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA application_id").fetchone() == (0x4D504258,)
        columns = {
            table: [" ".join(row[1:3]) for row in database.execute(f"PRAGMA table_info({table})")]
            for table in ("metadata", "tiles")
        }
        assert [one.lower() for one in columns["metadata"]] == ["name text", "value text"]
        assert [one.lower() for one in columns["tiles"]] == [
            "zoom_level integer",
            "tile_column integer",
            "tile_row integer",
            "tile_data blob",
        ]
        (index,) = database.execute("PRAGMA index_list(tiles)").fetchall()
        assert index[1:3] == ("tile_index", 1)
        fields = [row[2] for row in database.execute("PRAGMA index_info(tile_index)")]
        assert fields == ["zoom_level", "tile_column", "tile_row"]
        plan = database.execute(
            "EXPLAIN QUERY PLAN SELECT tile_data FROM tiles "
            "WHERE zoom_level = 1 AND tile_column = 1 AND tile_row = 1"
        ).fetchone()
        assert "tile_index" in plan[-1]
        kinds = database.execute("SELECT DISTINCT typeof(tile_data) FROM tiles").fetchall()
        assert kinds == [("blob",)]


def test_the_metadata_are_those_of_the_specification(tmp_path: Path) -> None:
    layout = Xyz.from_size("a map", 1000, 700, "jpg", levels="1-2")
    with open_database(write_mbtiles(tmp_path / "x.mbtiles", layout)) as database:
        rows = database.execute("SELECT name, value FROM metadata").fetchall()
    said = dict(rows)
    assert len(said) == len(rows)
    assert all(isinstance(value, str) for value in said.values())
    assert said["name"] == "a map"
    assert said["format"] == "jpg"
    assert said["type"] == "baselayer"
    assert (said["minzoom"], said["maxzoom"]) == ("1", "2")
    west, south, east, north = map(float, said["bounds"].split(","))
    assert (west, north) == (-180, 85.0511288)
    assert east == pytest.approx(1000 / 1024 * 360 - 180)
    assert -85 < south < 0
    longitude, latitude, zoom = said["center"].split(",")
    assert west < float(longitude) < east
    assert south < float(latitude) < north
    assert zoom == "1"
    own = json.loads(said["json"])["fasttile"]
    assert (own["width"], own["height"], own["canvas"]) == (1000, 700, 1024)


def test_a_name_that_is_no_text_is_stored_as_text(tmp_path: Path) -> None:
    with open_database(
        write_mbtiles(tmp_path / "x.mbtiles", Xyz.from_size("a\udcff", 5, 5, "png"))
    ) as database:
        (name,) = database.execute("SELECT value FROM metadata WHERE name = 'name'").fetchone()
    assert name == "a%FF"


def test_an_image_of_nothing_but_blank_tiles(tmp_path: Path) -> None:
    MbtilesSink(Xyz.from_size("m", 5, 5, "png"), tmp_path / "x.mbtiles").finish()
    with open_database(tmp_path / "x.mbtiles") as database:
        assert database.execute("SELECT count(*) FROM tiles").fetchone() == (0,)


def test_a_tile_that_comes_twice_is_an_error(tmp_path: Path) -> None:
    layout = Xyz.from_size("m", 5, 5, "png")
    sink = MbtilesSink(layout, tmp_path / "x.mbtiles")
    (tile,) = layout.pyramid.tiles()
    sink.put(tile, b"once")
    sink.put(tile, b"twice")
    with pytest.raises(TargetError, match=r"cannot write .*: UNIQUE constraint failed"):
        sink.finish()
    sink.abort()
    assert list(tmp_path.iterdir()) == []
