"""PMTiles files, read back by the reader that comes with the format."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pmtiles.reader import MemorySource, Reader, all_tiles
from pmtiles.tile import (
    Compression,
    Entry,
    TileType,
    deserialize_directory,
    tileid_to_zxy,
    zxy_to_tileid,
)

from fasttile.geometry import Tile
from fasttile.layouts.xyz import Xyz
from fasttile.sinks import pmtiles
from fasttile.sinks.pmtiles import MAX_ROOT_BYTES, PmtilesSink

TileContent = Callable[[Tile], bytes]


def distinct_bytes(tile: Tile) -> bytes:
    return f"{tile}".encode()


def write_pmtiles(
    target: Path,
    layout: Xyz,
    data: TileContent = distinct_bytes,
    *,
    blank: TileContent | None = None,
) -> Path:
    """A file of all tiles of a layout, but for those that `blank` gives something for."""
    sink = PmtilesSink(layout, target)
    for tile in layout.pyramid.tiles():
        if blank is None or not blank(tile):
            sink.put(tile, data(tile))
    sink.finish()
    return target


def read_tiles(path: Path) -> Reader:
    return Reader(MemorySource(path.read_bytes()))


def read_entries(path: Path) -> list[Entry]:
    """All entries, of the leaves too, in order."""
    data, header = path.read_bytes(), read_tiles(path).header()
    start, length = header["root_offset"], header["root_length"]
    found = []
    for entry in deserialize_directory(data[start : start + length]):
        if entry.run_length:
            found.append(entry)
        else:
            leaf = header["leaf_directory_offset"] + entry.offset
            found += deserialize_directory(data[leaf : leaf + entry.length])
    return found


def check_pmtiles(path: Path, layout: Xyz, data: TileContent = distinct_bytes) -> None:
    """Every tile is where its address leads, and the file is in the format's order."""
    reader = read_tiles(path)
    addresses = {layout.address(tile): data(tile) for tile in layout.pyramid.tiles()}
    for address, expected in addresses.items():
        assert reader.get(*address) == expected
    assert dict(all_tiles(reader.get_bytes)) == addresses
    entries, header = read_entries(path), reader.header()
    ids = [entry.tile_id for entry in entries]
    assert ids == sorted(ids)
    first: dict[int, int] = {}
    for entry in entries:
        first.setdefault(entry.offset, entry.length)
    assert list(first) == sorted(first)
    end = 0
    for offset, length in first.items():
        assert offset == end
        end += length
    for one, other in pairwise(entries):  # what is one run is one entry
        assert (one.offset, one.tile_id + one.run_length) != (other.offset, other.tile_id)
    assert header["tile_data_length"] == end
    assert header["addressed_tiles_count"] == len(addresses)
    assert header["tile_entries_count"] == len(entries)
    assert header["tile_contents_count"] == len(first) == len(set(addresses.values()))
    assert path.stat().st_size == header["tile_data_offset"] + end


def test_every_small_image_is_read_back(tmp_path: Path) -> None:
    """1 to 6 tiles a side, with and without the smallest levels, both anchors."""
    number = 0
    for cols in range(1, 7):
        for rows in range(1, 7):
            top = (max(cols, rows) - 1).bit_length()
            for first in {0, top}:
                centre = (cols + rows + first) % 2 == 0
                layout = Xyz.from_size(
                    "m",
                    cols * 4 - 1,
                    rows * 4,
                    "png",
                    tile_size=4,
                    levels=f"{first}-{top}",
                    centre=centre,
                )
                number += 1
                path = write_pmtiles(tmp_path / f"{number}.pmtiles", layout)
                check_pmtiles(path, layout)
                header = read_tiles(path).header()
                assert (header["min_zoom"], header["max_zoom"]) == (first, top)
    assert number > 60


def test_the_header_describes_the_tiles(tmp_path: Path) -> None:
    layout = Xyz.from_size("a map", 1000, 700, "webp")
    path = write_pmtiles(tmp_path / "x.pmtiles", layout)
    data, header = path.read_bytes(), read_tiles(path).header()
    assert data[:8] == b"PMTiles\x03"
    assert header["version"] == 3
    assert header["clustered"] is True
    assert header["internal_compression"] == Compression.GZIP
    assert header["tile_compression"] == Compression.NONE
    assert header["tile_type"] == TileType.WEBP
    assert (header["min_zoom"], header["max_zoom"], header["center_zoom"]) == (0, 2, 0)
    # The square of 1024 pixels is the world: the image begins at its top left.
    assert header["min_lon_e7"] == -1_800_000_000
    assert header["max_lon_e7"] == round((1000 / 1024 * 360 - 180) * 1e7)
    assert header["max_lat_e7"] == 850_511_288
    south = math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * 700 / 1024))))
    assert header["min_lat_e7"] == round(south * 1e7)
    for axis in ("lon", "lat"):
        middle = header[f"center_{axis}_e7"]
        assert header[f"min_{axis}_e7"] < middle < header[f"max_{axis}_e7"]
    assert header["root_offset"] == 127
    assert header["root_length"] <= MAX_ROOT_BYTES
    assert header["leaf_directory_length"] == 0
    start = header["metadata_offset"]
    metadata = json.loads(gzip.decompress(data[start : start + header["metadata_length"]]))
    assert metadata["name"] == "a map"
    assert metadata["fasttile"]["width"] == 1000
    assert read_tiles(path).metadata() == metadata


@pytest.mark.parametrize(("ending", "kind"), [("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")])
def test_the_kind_of_the_tiles_is_stored(tmp_path: Path, ending: str, kind: str) -> None:
    path = write_pmtiles(tmp_path / "x.pmtiles", Xyz.from_size("m", 5, 5, ending))
    assert read_tiles(path).header()["tile_type"] == TileType[kind]


def test_a_name_that_is_no_text_is_stored_as_text(tmp_path: Path) -> None:
    path = write_pmtiles(tmp_path / "x.pmtiles", Xyz.from_size("\udcff", 5, 5, "png"))
    assert read_tiles(path).metadata()["name"] == "%FF"


# ---- equal tiles -------------------------------------------------------------------------------


def bytes_by_parity(tile: Tile) -> bytes:
    return [b"white", b"black", b"other"][(tile.col // 2 + tile.row) % 3]


@pytest.mark.parametrize("data", [lambda tile: b"white", bytes_by_parity])
def test_equal_tiles_are_stored_once_and_runs_are_one_entry(
    tmp_path: Path, data: TileContent
) -> None:
    layout = Xyz.from_size("m", 60, 37, "png", tile_size=4)
    path = write_pmtiles(tmp_path / "x.pmtiles", layout, data)
    check_pmtiles(path, layout, data)


@pytest.mark.parametrize("size", [5, pmtiles.MAX_SMALL_BYTES, pmtiles.MAX_SMALL_BYTES + 1])
@pytest.mark.parametrize("known", [0, 2, pmtiles.MAX_SMALL_TILES])
def test_equal_tiles_of_any_size_are_stored_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, known: int
) -> None:
    """Small ones as they come, as many as are known, and all others at the end."""
    monkeypatch.setattr(pmtiles, "MAX_SMALL_TILES", known)
    layout = Xyz.from_size("m", 60, 37, "png", tile_size=4)

    def one_of_five(tile: Tile) -> bytes:
        return bytes([(3 * tile.col + tile.row) % 5]) * size

    path = write_pmtiles(tmp_path / "x.pmtiles", layout, one_of_five)
    check_pmtiles(path, layout, one_of_five)
    assert read_tiles(path).header()["tile_contents_count"] == 5


def test_tiles_of_equal_checksum_and_size_are_not_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pmtiles, "checksum", lambda data: len(data) % 2)
    layout = Xyz.from_size("m", 60, 37, "png", tile_size=4)

    def similar(tile: Tile) -> bytes:
        return f"{tile.col % 7}{tile.row % 3}".encode()

    path = write_pmtiles(tmp_path / "x.pmtiles", layout, similar)
    check_pmtiles(path, layout, similar)


def test_an_empty_tile_is_kept(tmp_path: Path) -> None:
    """No encoder makes one; it must not break the order of the others."""
    layout = Xyz.from_size("m", 8, 8, "png", tile_size=4)
    path = write_pmtiles(
        tmp_path / "x.pmtiles", layout, lambda t: b"" if t.col == 0 else distinct_bytes(t)
    )
    assert read_tiles(path).get(1, 1, 1) == distinct_bytes(Tile(layout.base_level + 1, 1, 1))


# ---- tiles that are left out -------------------------------------------------------------------


def test_tiles_may_be_left_out(tmp_path: Path) -> None:
    layout = Xyz.from_size("m", 60, 60, "png", tile_size=4)

    def blank(tile: Tile) -> bytes:
        return b"" if (tile.col + tile.row) % 3 else b"blank"

    path = write_pmtiles(tmp_path / "x.pmtiles", layout, lambda tile: b"same", blank=blank)
    reader = read_tiles(path)
    kept = [tile for tile in layout.pyramid.tiles() if not blank(tile)]
    assert reader.header()["addressed_tiles_count"] == len(kept)
    for tile in layout.pyramid.tiles():
        assert reader.get(*layout.address(tile)) == (None if blank(tile) else b"same")
    runs = read_entries(path)
    assert sum(entry.run_length for entry in runs) == len(kept)


def test_an_image_of_nothing_but_blank_tiles(tmp_path: Path) -> None:
    path = write_pmtiles(
        tmp_path / "x.pmtiles", Xyz.from_size("m", 5, 5, "png"), blank=lambda tile: b"blank"
    )
    reader = read_tiles(path)
    assert reader.header()["addressed_tiles_count"] == 0
    assert reader.get(0, 0, 0) is None
    assert reader.metadata()["name"] == "m"


# ---- many tiles --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "room"), [(64, 1000), pytest.param(160, MAX_ROOT_BYTES, marks=pytest.mark.slow)]
)
def test_a_long_directory_has_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int, room: int
) -> None:
    """All tiles of a square level, of sizes that cannot be packed."""
    monkeypatch.setattr(pmtiles, "MAX_ROOT_BYTES", room)
    layout = Xyz.from_size("m", 2 * side, 2 * side, "png", tile_size=2)
    sizes = np.random.default_rng(1).integers(4, 250, layout.pyramid.tile_count).tolist()
    contents = {
        tile: index.to_bytes(4, "big") + bytes(size - 4)
        for index, (tile, size) in enumerate(zip(layout.pyramid.tiles(), sizes, strict=True))
    }
    path = write_pmtiles(tmp_path / "x.pmtiles", layout, contents.__getitem__)
    reader = read_tiles(path)
    header = reader.header()
    assert header["leaf_directory_length"] > 0
    assert header["root_length"] <= room
    found = {
        layout.tile_at_address(*address): data for address, data in all_tiles(reader.get_bytes)
    }
    assert found == contents
    for tile in [*contents][:: len(contents) // 20]:
        assert reader.get(*layout.address(tile)) == contents[tile]


# ---- places on the curve -----------------------------------------------------------------------


def test_places_on_the_curve_are_the_formats(tmp_path: Path) -> None:
    """Each tile's id, for all of the first eight zooms and for known ones further down."""
    for zoom in range(8):
        side = 1 << zoom
        rows, cols = np.divmod(np.arange(side * side), side)
        zooms = np.full(side * side, zoom)
        ids = pmtiles.tile_ids(zooms, cols, rows)
        assert [tileid_to_zxy(int(one)) for one in ids] == [
            *zip(zooms.tolist(), cols.tolist(), rows.tolist(), strict=True)
        ]
    rng = np.random.default_rng(0)
    zooms = rng.integers(0, 32, 2000)
    cols, rows = (rng.integers(0, 1 << zooms) for _ in range(2))
    expected = [
        zxy_to_tileid(*one)
        for one in zip(zooms.tolist(), cols.tolist(), rows.tolist(), strict=True)
    ]
    assert pmtiles.tile_ids(zooms, cols, rows).tolist() == expected
    known = pmtiles.tile_ids(*(np.array([one]) for one in (12, 3423, 1763)))
    assert known.tolist() == [19_078_479]
