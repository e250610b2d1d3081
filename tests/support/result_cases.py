"""Results written plainly, by other means than the program's own, for those who read them."""

from __future__ import annotations

import io
import json
import sqlite3
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fasttile.abc.layout import Layout
from fasttile.abc.reader import ResultReader
from fasttile.geometry import Tile
from fasttile.layouts.xyz import ZoomLayout
from support import canvases, reference
from support.reference import Address, Array


def expected_tiles(layout: Layout, pixels: Array) -> dict[Address, Array]:
    """Every tile that the layout keeps, all ones where there is no image."""
    pyramid = layout.pyramid
    canvas, size = pyramid.canvas, pyramid.tile_size
    white = (int(np.iinfo(pixels.dtype).max),) * pixels.shape[2]
    if canvas.padded:
        tiles = canvases.padded_tiles(pixels, pyramid, white)
    elif canvas.edge == "fill":
        tiles = canvases.filled_tiles(pixels, size, white, rounding=canvas.rounding)
    else:
        tiles = reference.tiles(pixels, size, pyramid.overlap, rounding=canvas.rounding)
    return {address: tile for address, tile in tiles if address[0] in pyramid.stored_range}


def encode_png(pixels: Array) -> bytes:
    """A tile as a file without loss."""
    out = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(out, "PNG")
    return out.getvalue()


def result_files(layout: Layout, pixels: Array) -> dict[str, bytes]:
    """All files of a path-based result."""
    found = {}
    for address, tile in expected_tiles(layout, pixels).items():
        for path in layout.paths(Tile(*address)):
            found[path] = encode_png(tile)
    return {**found, **layout.descriptors()}


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    for path, data in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


def write_zip(
    path: Path, files: Mapping[str, bytes], prefix: str = "", method: int = zipfile.ZIP_STORED
) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(prefix + name, data)


def write_mbtiles(
    path: Path, layout: ZoomLayout, tiles: Mapping[Address, bytes], **more: str
) -> None:
    """Rows as MBTiles 1.3 has them, counted from the bottom."""
    database = sqlite3.connect(path)
    with database:
        database.execute("CREATE TABLE metadata (name text, value text)")
        database.execute(
            "CREATE TABLE tiles (zoom_level integer, tile_column integer, tile_row integer,"
            " tile_data blob)"
        )
        database.execute(
            "CREATE UNIQUE INDEX tile_index ON tiles (zoom_level, tile_column, tile_row)"
        )
        said = {"name": layout.name, "format": "png", **more}
        database.executemany("INSERT INTO metadata VALUES (?, ?)", said.items())
        for address, data in tiles.items():
            zoom, col, row = layout.address(Tile(*address))
            values = (zoom, col, 2**zoom - 1 - row, data)
            database.execute("INSERT INTO tiles VALUES (?, ?, ?, ?)", values)
    database.close()


def write_pmtiles(
    path: Path, layout: ZoomLayout, tiles: Mapping[Address, bytes], metadata: dict[str, Any]
) -> None:
    """By the package of those who made the format."""
    pytest.importorskip("pmtiles")
    from pmtiles.tile import Compression, TileType, zxy_to_tileid
    from pmtiles.writer import write

    placed = {}
    for address, data in tiles.items():
        placed[zxy_to_tileid(*layout.address(Tile(*address)))] = data
    with write(str(path)) as writer:
        for number, data in sorted(placed.items()):
            writer.write_tile(number, data)
        header = {"tile_type": TileType.PNG, "tile_compression": Compression.NONE}
        writer.finalize(header, metadata)


def fasttile_metadata(layout: Layout) -> dict[str, Any]:
    """What fasttile says of an image in tiles.json."""
    (data,) = layout.descriptors().values()
    found: dict[str, Any] = json.loads(data)["fasttile"]
    return found


def assert_holds_tiles(reader: ResultReader, tiles: Mapping[Address, Array]) -> None:
    """All tiles, each with its pixels, and as a file of its own."""
    assert {tuple(tile) for tile in reader.pyramid.tiles()} == set(tiles)
    for address, pixels in tiles.items():
        found = reader.pixels(*address)
        assert found is not None, address
        assert found.shape == pixels.shape, address
        assert found.dtype == pixels.dtype
        assert found.tobytes() == pixels.tobytes(), address
        data = reader.tile(*address)
        assert data is not None
        with Image.open(io.BytesIO(data)) as image:
            assert (image.height, image.width) == pixels.shape[:2]
            assert Image.MIME[image.format or ""] == reader.media_type
    for level in reader.pyramid.stored_levels:
        assert reader.level_stats(level.number).tiles == level.tile_count


def read_on_threads(reader: ResultReader, expected: Mapping[Any, bytes | None]) -> None:
    """All tiles some times over, in any order, by many at once."""
    wrong: list[object] = []

    def work(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(list(expected))
        for address in order.tolist() * 3:
            if reader.tile(*address) != expected[tuple(address)]:
                wrong.append(address)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
