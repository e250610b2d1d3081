"""PMTiles and MBTiles read back: fasttile's, others', and untrue ones."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import sqlite3
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fasttile.errors import SourceError
from fasttile.formats.pmtiles import tile_id
from fasttile.geometry import Canvas, Pyramid
from fasttile.layouts.xyz import Xyz
from fasttile.readers import is_pyramid, open_result
from fasttile.readers import tilesets as pmtiles
from support.reading import noise
from support.reference import Array
from support.result_cases import (
    assert_holds_tiles,
    encode_png,
    expected_tiles,
    fasttile_metadata,
    read_on_threads,
    write_mbtiles,
    write_pmtiles,
)

CONTAINERS = ["pmtiles", "mbtiles"]


def image(**options: Any) -> tuple[Xyz, Array]:
    """An image that is not all of its square, and its layout."""
    pixels = noise(45, 70, 3)
    return Xyz.from_size("map", 70, 45, "png", tile_size=16, **options), pixels


def square_layout(side: int, tile_size: int = 16) -> tuple[Xyz, Array]:
    """An image that is all of its square, as others' maps are."""
    canvas = Canvas(side, side)
    pyramid = Pyramid(canvas, tile_size, 0, canvas.single_tile_level(tile_size))
    return Xyz("map", pyramid, "png"), noise(side, side, 3)


def write_container(
    container: str, folder: Path, layout: Xyz, pixels: Array, metadata: dict[str, Any]
) -> Path:
    place = folder / f"map.{container}"
    tiles = {address: encode_png(tile) for address, tile in expected_tiles(layout, pixels).items()}
    if container == "pmtiles":
        write_pmtiles(place, layout, tiles, metadata)
    else:
        kept, base = layout.pyramid.stored_range, layout.base_level
        more = {key: json.dumps(value) for key, value in metadata.items()}
        zooms = {"minzoom": str(kept[0] - base), "maxzoom": str(kept[-1] - base)}
        write_mbtiles(place, layout, tiles, **more, **zooms)
    return place


# ---- there and back ----------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [None, "1-3", "2-2", "0-1"])
@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("container", CONTAINERS)
def test_an_image_cut_by_fasttile(
    container: str, centre: bool, levels: str | None, tmp_path: Path
) -> None:
    layout, pixels = image(centre=centre, levels=levels)
    place = write_container(
        container, tmp_path, layout, pixels, {"fasttile": fasttile_metadata(layout)}
    )
    assert is_pyramid(place)
    with open_result(place) as reader:
        assert reader.layout == layout
        assert (
            reader.format_name
            == {"pmtiles": "XYZ in PMTiles", "mbtiles": "XYZ in MBTiles"}[container]
        )
        assert reader.allows_missing_tiles
        assert_holds_tiles(reader, expected_tiles(layout, pixels))


@pytest.mark.parametrize("container", CONTAINERS)
def test_an_image_of_others(container: str, tmp_path: Path) -> None:
    layout, pixels = square_layout(128)
    place = write_container(container, tmp_path, layout, pixels, {"name": "a map"})
    with open_result(place) as reader:
        assert reader.pyramid == layout.pyramid
        assert reader.pyramid.size == (128, 128)
        assert_holds_tiles(reader, expected_tiles(layout, pixels))


@pytest.mark.parametrize("container", CONTAINERS)
def test_tiles_that_are_left_out(container: str, tmp_path: Path) -> None:
    layout, pixels = image()
    tiles = {address: encode_png(tile) for address, tile in expected_tiles(layout, pixels).items()}
    top = layout.pyramid.stored_range[-1]
    del tiles[top, 2, 1]
    place = tmp_path / f"map.{container}"
    if container == "pmtiles":
        write_pmtiles(place, layout, tiles, {"fasttile": fasttile_metadata(layout)})
    else:
        write_mbtiles(
            place, layout, tiles, json=json.dumps({"fasttile": fasttile_metadata(layout)})
        )
    with open_result(place) as reader:
        assert reader.tile(top, 2, 1) is None
        assert reader.pixels(top, 2, 1) is None
        assert reader.tile(top, 1, 1) == tiles[top, 1, 1]
        assert reader.level_stats(top).tiles == 14
        assert reader.level_stats(top).bytes == sum(
            len(data) for (level, _, _), data in tiles.items() if level == top
        )


def test_an_image_of_which_nothing_is_left(tmp_path: Path) -> None:
    layout, _ = image()
    said = json.dumps({"fasttile": fasttile_metadata(layout)})
    write_mbtiles(tmp_path / "map.mbtiles", layout, {}, json=said, minzoom="0", maxzoom="3")
    with open_result(tmp_path / "map.mbtiles") as reader:
        assert reader.layout == layout
        assert reader.tile(layout.base_level, 0, 0) is None
    write_mbtiles(tmp_path / "other.mbtiles", layout, {})
    with pytest.raises(SourceError, match="holds no tiles"):
        open_result(tmp_path / "other.mbtiles")


@pytest.mark.parametrize("container", CONTAINERS)
def test_many_threads_read_at_once(container: str, tmp_path: Path) -> None:
    layout, pixels = image()
    place = write_container(
        container, tmp_path, layout, pixels, {"fasttile": fasttile_metadata(layout)}
    )
    with open_result(place) as reader:
        read_on_threads(
            reader, {a: encode_png(tile) for a, tile in expected_tiles(layout, pixels).items()}
        )


# ---- PMTiles -----------------------------------------------------------------------------------


def test_known_tile_ids() -> None:
    # The specification's own.
    assert [tile_id(*at) for at in ((0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0))] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert tile_id(2, 0, 0) == 5
    assert tile_id(12, 3423, 1763) == 19078479


def test_tile_ids_are_one_walk_without_a_jump() -> None:
    number = 0
    for zoom in range(7):
        side = range(2**zoom)
        places = {tile_id(zoom, col, row): (col, row) for col, row in itertools.product(side, side)}
        assert sorted(places) == list(range(number, number + 4**zoom))
        way = [places[found] for found in sorted(places)]
        assert all(abs(a - c) + abs(b - d) == 1 for (a, b), (c, d) in itertools.pairwise(way))
        number += 4**zoom


@pytest.mark.slow
def test_directories_within_directories(tmp_path: Path) -> None:
    layout, _ = square_layout(2 * 2**7, tile_size=2)
    sizes = random.Random(1)  # so that the directory does not shrink much
    tiles = {
        tuple(tile): struct.pack(">3I", *tile) + bytes(sizes.randrange(200))
        for tile in layout.pyramid.tiles()
    }
    tiles[layout.base_level, 0, 0] = encode_png(noise(2, 2, 3))  # which is looked at
    place = tmp_path / "map.pmtiles"
    write_pmtiles(place, layout, tiles, {})
    (leaves_size,) = struct.unpack_from("<Q", place.read_bytes(), 48)
    assert leaves_size > 0
    with open_result(place) as reader:
        order = list(tiles)
        random.Random(1).shuffle(order)
        for address in order[:5000]:
            assert reader.tile(*address) == tiles[address]
        for level in reader.pyramid.stored_levels:
            data = [data for address, data in tiles.items() if address[0] == level.number]
            assert reader.level_stats(level.number) == (len(data), sum(map(len, data)))


def test_runs_of_equal_tiles(tmp_path: Path) -> None:
    layout, _ = square_layout(256, tile_size=16)
    white, other = encode_png(noise(16, 16, 3) | 255), encode_png(noise(16, 16, 3))
    tiles = {
        tuple(tile): other if (tile.col, tile.row) == (3, 5) else white
        for tile in layout.pyramid.tiles()
    }
    write_pmtiles(tmp_path / "map.pmtiles", layout, tiles, {})
    with open_result(tmp_path / "map.pmtiles") as reader:
        for address, data in tiles.items():
            assert reader.tile(*address) == data
        stored = [reader.level_stats(level) for level in reader.pyramid.stored_range]
    assert [found.tiles for found in stored] == [1, 4, 16, 64, 256]
    # What tiles share lies there once.
    assert sum(found.bytes for found in stored) == len(white) + len(other)


def encode_varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def encode_directory(*entries: tuple[int, int, int, int]) -> bytes:
    """Tile id, run, size and offset of each."""
    ids = [entry[0] for entry in entries]
    steps = [after - before for before, after in itertools.pairwise([0, *ids])]
    columns = [steps, *([entry[n] for entry in entries] for n in (1, 2))]
    offsets = [entry[3] + 1 for entry in entries]
    numbers = [len(entries), *itertools.chain(*columns, offsets)]
    return b"".join(encode_varint(number) for number in numbers)


TILE = encode_png(noise(16, 16, 3))


def build_pmtiles(
    root: bytes = encode_directory((0, 1, len(TILE), 0)),
    leaves: bytes = b"",
    data: bytes = TILE,
    metadata: bytes = b"{}",
    **changes: int,
) -> bytes:
    """A PMTiles file by hand, nothing in it compressed."""
    at, places = 127, []
    for part in (root, metadata, leaves, data):
        places += [at, len(part)]
        at += len(part)
    fields = dict(
        zip(
            (
                "root",
                "root_size",
                "meta",
                "meta_size",
                "leaves",
                "leaves_size",
                "data",
                "data_size",
            ),
            places,
            strict=True,
        )
    )
    fields |= {"addressed": 0, "entries": 0, "contents": 0}
    fields |= {"clustered": 1, "inner": 1, "outer": 1, "kind": 2, "low": 0, "high": 0}
    fields |= changes
    header = struct.pack("<7sB11Q6B", b"PMTiles", 3, *fields.values()).ljust(127, b"\0")
    return header + root + metadata + leaves + data


def test_an_archive_by_hand(tmp_path: Path) -> None:
    place = tmp_path / "map.pmtiles"
    inner = encode_directory((1, 4, len(TILE), 0))
    root = encode_directory((0, 1, len(TILE), 0), (1, 0, len(inner), 0))
    place.write_bytes(build_pmtiles(root, inner, high=1))
    with open_result(place) as reader:
        assert [reader.tile(*tile) for tile in reader.pyramid.tiles()] == [TILE] * 5
    packed = gzip.compress(root), gzip.compress(inner)
    root = gzip.compress(encode_directory((0, 1, len(TILE), 0), (1, 0, len(packed[1]), 0)))
    place.write_bytes(
        build_pmtiles(root, packed[1], metadata=gzip.compress(b"{}"), inner=2, high=1)
    )
    with open_result(place) as reader:
        assert [reader.tile(*tile) for tile in reader.pyramid.tiles()] == [TILE] * 5
    tile = gzip.compress(TILE)
    place.write_bytes(build_pmtiles(encode_directory((0, 1, len(tile), 0)), data=tile, outer=2))
    with open_result(place) as reader:
        assert reader.tile(*next(reader.pyramid.tiles())) == TILE


LOOPING_DIRECTORY = encode_directory((0, 0, 40, 0))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PMTiles\3", "the header takes 127 bytes"),
        (b"PMTiles\2" + build_pmtiles()[8:], "is not PMTiles of version 3"),
        (build_pmtiles(kind=1), "holds vector tiles, not images"),
        (build_pmtiles(data=b"x" * len(TILE)), "tiles that are no images"),
        (build_pmtiles(high=32), "zooms 0 to 32"),
        (build_pmtiles(low=1), "zooms 1 to 0"),
        (build_pmtiles(root=encode_directory()), "holds no tiles"),
        (build_pmtiles(root_size=2**40), "a directory takes 1099511627776 bytes"),
        (build_pmtiles(root_size=2**63), "a directory takes 9223372036854775808 bytes"),
        (build_pmtiles(root=b"\xff" * 40), "more than 64 bits|truncated"),
        (build_pmtiles(root=encode_varint(2**62)), "has 4611686018427387904 entries in 9 bytes"),
        (build_pmtiles(root=encode_varint(5) + b"\0" * 10), "has 5 entries"),
        (build_pmtiles(root=b"\2" + b"\0\0" * 4), "values out of range"),
        (build_pmtiles(root=b"\1\0\1\5\0"), "an entry without a valid offset"),
        (build_pmtiles(root=encode_directory((0, 1, 2**41, 0))), "values out of range"),
        (build_pmtiles(root=encode_directory((0, 1, 2**39, 0))), "a tile takes 549755813888 bytes"),
        (build_pmtiles(root=encode_directory((0, 1, 10, 2**50))), "a tile takes 10 bytes at"),
        (
            build_pmtiles(root=encode_directory((0, 0, 10, 2**50))),
            "directories within|outside its section",
        ),
        (
            build_pmtiles(root=LOOPING_DIRECTORY, leaves=LOOPING_DIRECTORY.ljust(40, b"\0")),
            "directories within directories",
        ),
        (
            build_pmtiles(inner=3),
            "the metadata is compressed with brotli, which fasttile does not read",
        ),
        (
            build_pmtiles(outer=4),
            "its tiles are compressed with zstd, which fasttile does not read",
        ),
        (build_pmtiles(inner=2), "is damaged: the metadata: "),
        (build_pmtiles(metadata=b"{"), "is damaged: its metadata"),
        (build_pmtiles(metadata=b"[" * 100_000), "is damaged: its metadata"),
        (build_pmtiles(metadata=b'{"fasttile": {"canvas": 5}}'), "'tile_size' is missing"),
        (build_pmtiles(data=encode_png(noise(16, 17, 3)), root_size=0), "is damaged"),
    ],
)
def test_archives_that_lie(data: bytes, message: str, tmp_path: Path) -> None:
    place = tmp_path / "map.pmtiles"
    place.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match=message) as caught:
            open_result(place)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert str(place) in str(caught.value)


@pytest.mark.slow
def test_an_archive_whose_directory_inflates_without_end(tmp_path: Path) -> None:
    place = tmp_path / "map.pmtiles"
    root = gzip.compress(encode_varint(50_000_000) + bytes(200_000_000))
    place.write_bytes(build_pmtiles(root, metadata=gzip.compress(b"{}"), inner=2))
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match="a directory has more than 4,194,304 bytes"):
            open_result(place)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


def test_tiles_that_are_no_squares(tmp_path: Path) -> None:
    tile = encode_png(noise(16, 17, 3))
    (tmp_path / "map.pmtiles").write_bytes(
        build_pmtiles(encode_directory((0, 1, len(tile), 0)), data=tile)
    )
    with pytest.raises(SourceError, match="a tile has 17×16 pixels: it is not square"):
        open_result(tmp_path / "map.pmtiles")


def test_damaged_archives(tmp_path: Path) -> None:
    layout, pixels = image()
    place = write_container(
        "pmtiles", tmp_path, layout, pixels, {"fasttile": fasttile_metadata(layout)}
    )
    data = place.read_bytes()
    random = np.random.default_rng(2)
    for _ in range(300):
        changed = bytearray(data)
        if random.random() < 0.2:
            changed = changed[: random.integers(8, len(data))]
        for at in random.integers(8, min(600, len(changed)), 3):
            changed[at] = random.integers(256)
        place.write_bytes(changed)
        for ask in read_everything(place):
            try:
                ask()
            except SourceError as error:
                assert str(place) in str(error)  # noqa: PT017


def read_everything(place: Path) -> Iterator[Any]:
    """All that can be asked of a result, but for the most of large ones."""
    try:
        reader = open_result(place)
    except SourceError as error:
        assert str(place) in str(error)  # noqa: PT017
        return
    with reader:
        for level in reader.pyramid.stored_levels:
            yield lambda number=level.number: reader.level_stats(number)
            for tile in itertools.islice(level.tiles(), 20):
                yield lambda tile=tile: reader.tile(*tile)
                yield lambda tile=tile: reader.pixels(*tile)


def test_few_directories_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pmtiles, "_CACHED_DIRECTORIES", 2)
    layout, _ = square_layout(2 * 2**7, tile_size=2)
    tiles = {tuple(tile): struct.pack(">3I", *tile) for tile in layout.pyramid.tiles()}
    tiles[layout.base_level, 0, 0] = encode_png(noise(2, 2, 3))
    write_pmtiles(tmp_path / "map.pmtiles", layout, tiles, {})
    with open_result(tmp_path / "map.pmtiles") as reader:
        for address in list(tiles)[::97]:
            assert reader.tile(*address) == tiles[address]


# ---- MBTiles -----------------------------------------------------------------------------------


def change_database(place: Path, *statements: str) -> Path:
    database = sqlite3.connect(place)
    with database:
        for statement in statements:
            database.execute(statement)
    database.close()
    return place


def test_tiles_in_a_view(tmp_path: Path) -> None:
    # As those do it that store equal tiles once.
    layout, pixels = square_layout(64)
    place = write_container("mbtiles", tmp_path, layout, pixels, {})
    change_database(
        place,
        "CREATE TABLE images (tile_id integer primary key, tile_data blob)",
        "CREATE TABLE map (zoom_level integer, tile_column integer, tile_row integer, tile_id)",
        "INSERT INTO images SELECT rowid, tile_data FROM tiles",
        "INSERT INTO map SELECT zoom_level, tile_column, tile_row, rowid FROM tiles",
        "DROP TABLE tiles",
        "CREATE VIEW tiles AS SELECT zoom_level, tile_column, tile_row, tile_data"
        " FROM map JOIN images USING (tile_id)",
    )
    with open_result(place) as reader:
        assert_holds_tiles(reader, expected_tiles(layout, pixels))


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["DROP TABLE tiles"], "cannot be read: no such table: tiles"),
        (["DROP TABLE metadata"], "cannot be read: no such table: metadata"),
        (["UPDATE metadata SET value = 'pbf' WHERE name = 'format'"], "holds vector tiles"),
        (["DELETE FROM tiles"], "holds no tiles"),
        (["UPDATE tiles SET zoom_level = 'x' || zoom_level"], "zooms x0 to x2"),
        (["UPDATE tiles SET zoom_level = zoom_level + 40"], "zooms 40 to 42"),
        (["UPDATE tiles SET zoom_level = zoom_level - 1"], "zooms -1 to 1"),
        (["UPDATE tiles SET tile_data = 'text'"], "a tile is not a blob"),
        (["UPDATE tiles SET tile_data = NULL"], "a tile is not a blob"),
        (["UPDATE tiles SET tile_data = x'1f8b08'"], "tiles that are no images"),
        (
            [
                "DROP TABLE tiles",
                "CREATE VIEW tiles AS SELECT 0 zoom_level, 0 tile_column, 0 tile_row,"
                " zeroblob(900000000) tile_data",
            ],
            "tiles is a view",
        ),
    ],
)
def test_databases_that_are_something_else(
    statements: list[str], message: str, tmp_path: Path
) -> None:
    layout, pixels = square_layout(64)
    place = change_database(write_container("mbtiles", tmp_path, layout, pixels, {}), *statements)
    with pytest.raises(SourceError, match=message) as caught:
        open_result(place)
    assert str(place) in str(caught.value)


def test_what_is_no_database(tmp_path: Path) -> None:
    place = tmp_path / "map.mbtiles"
    place.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with pytest.raises(SourceError, match="cannot be read: file is not a database") as caught:
        open_result(place)
    assert str(place) in str(caught.value)
    layout, pixels = square_layout(64)
    place.unlink()
    data = write_container("mbtiles", tmp_path, layout, pixels, {}).read_bytes()
    place.write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError):
        list(read_all_tiles(place))


def read_all_tiles(place: Path) -> Iterator[object]:
    with open_result(place) as reader:
        for tile in reader.pyramid.tiles():
            yield reader.tile(*tile)


def test_a_database_is_not_touched(tmp_path: Path) -> None:
    layout, pixels = square_layout(64)
    place = write_container("mbtiles", tmp_path, layout, pixels, {})
    place = place.rename(tmp_path / "a ?#%&.mbtiles")
    before = place.read_bytes()
    place.chmod(0o444)
    with open_result(place) as reader:
        assert_holds_tiles(reader, expected_tiles(layout, pixels))
        assert reader.name == "a ?#%&"
    assert place.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == [place.name]
