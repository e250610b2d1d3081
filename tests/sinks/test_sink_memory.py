"""The sink that keeps tiles in memory."""

from __future__ import annotations

import pytest

from fasttile.geometry import Tile
from fasttile.sinks.memory import MemorySink
from support.deepzoom_files import TEST_PYRAMIDS, tile_bytes


def test_memory_sink_keeps_what_comes() -> None:
    sink = MemorySink()
    tiles = list(TEST_PYRAMIDS["old"][0].tiles())
    for tile in tiles:
        sink.put(tile, tile_bytes("old", tile))
    with pytest.raises(ValueError, match="came twice"):
        sink.put(tiles[0], b"")
    assert sink.tiles == {tile: tile_bytes("old", tile) for tile in tiles}
    sink.finish()
    sink.abort()
    assert sink.is_finished
    assert list(sink.tiles) == tiles


def test_memory_sink_forgets_when_aborted() -> None:
    sink = MemorySink()
    sink.put(Tile(0, 0, 0), b"first")
    sink.abort()
    sink.abort()
    assert (sink.tiles, sink.is_finished) == ({}, False)
