"""The Morton curve, and the tiles along it."""

from __future__ import annotations

import pytest

from fasttile.collection.thumbnail_grid import ThumbnailGrid, cell_number, cell_position
from fasttile.errors import OptionError


def test_the_vectors_of_the_format() -> None:
    assert [cell_position(n) for n in range(4)] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert [cell_position(n) for n in (4, 10, 15, 16, 2**20)] == [
        (2, 0),
        (0, 3),
        (3, 3),
        (4, 0),
        (1024, 0),
    ]


def test_columns_are_the_even_bits_and_rows_the_odd_ones() -> None:
    for number in range(4096):
        digits = f"{number:012b}"
        assert cell_position(number) == (int(digits[1::2], 2), int(digits[0::2], 2))


def test_numbers_and_cells_are_one_to_one() -> None:
    assert {cell_position(n) for n in range(4096)} == {(c, r) for c in range(64) for r in range(64)}
    assert all(
        cell_number(*cell_position(n)) == n for n in [*range(4096), 2**40 + 12345, 2**62 - 1]
    )


@pytest.mark.parametrize("tile_size", [1, 2, 8, 32])
def test_tiles_and_offsets_are_the_formats(tile_size: int) -> None:
    for max_level in range(tile_size.bit_length()):
        grid = ThumbnailGrid(max_level, tile_size)
        for level in range(max_level + 1):
            for number in range(300):
                col, row = cell_position(number)
                side = 2**level
                tile = (col * side // tile_size, row * side // tile_size)
                assert (
                    grid.tile_name(level, grid.tile_number(level, number))
                    == f"{level}/{tile[0]}_{tile[1]}"
                )
                across = tile_size // side
                assert grid.cell_offset(level, number) == (col % across * side, row % across * side)


def test_the_cells_of_a_tile_are_a_run() -> None:
    grid = ThumbnailGrid(3, 16)
    for level in grid.levels:
        capacity = grid.capacity(level)
        assert capacity == (16 // 2**level) ** 2
        for number in range(1000):
            assert grid.tile_number(level, number) == number // capacity


@pytest.mark.parametrize("tile_size", [0, -1, -256, 3, 100, 254, 255, 257, 8192, 2**40])
def test_a_tile_size_that_is_no_power_of_two(tile_size: int) -> None:
    with pytest.raises(OptionError, match=rf"^tile size {tile_size} of a collection is not a "):
        ThumbnailGrid(0, tile_size)


@pytest.mark.parametrize(("max_level", "tile_size"), [(-1, 256), (9, 256), (1, 1), (13, 4096)])
def test_a_thumbnail_has_to_fit_into_a_tile(max_level: int, tile_size: int) -> None:
    with pytest.raises(OptionError, match=rf"^max level {max_level} is not between 0 and \d+,"):
        ThumbnailGrid(max_level, tile_size)
    ThumbnailGrid(tile_size.bit_length() - 1, tile_size)
