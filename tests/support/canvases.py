"""The oracle for canvases: full arrays of background with the image in them, halved plainly."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fasttile.geometry import Pyramid, Region
from support import reference
from support.reference import Address, Array


def place_on_canvas(pixels: Array, side: int, x: int, y: int, background: tuple[int, ...]) -> Array:
    """An image on a square."""
    height, width, bands = pixels.shape
    canvas = np.empty((side, side, bands), pixels.dtype)
    canvas[...] = background
    canvas[y : y + height, x : x + width] = pixels
    return canvas


def halve_mask(mask: Array) -> Array:
    """Half the size: whether any of four is."""
    return mask[::2, ::2] | mask[1::2, ::2] | mask[::2, 1::2] | mask[1::2, 1::2]


def level_masks(side: int, image: Region, tile_size: int, *, cover: str) -> list[Array]:
    """For each level from one tile up, where on it the image shows; or all of it is wanted."""
    mask = np.zeros((side, side), bool)
    x, y, width, height = image
    mask[y : y + height, x : x + width] = True
    if cover == "canvas":
        mask[...] = True
    found = [mask]
    while len(found[0]) > tile_size:
        found.insert(0, halve_mask(found[0]))
    return found


def masked_tiles(mask: Array, tile_size: int) -> list[tuple[int, int]]:
    """Column and row of each tile of a square that has any of a mask, line by line."""
    count = len(mask) // tile_size
    blocks = mask.reshape(count, tile_size, count, tile_size).any(axis=(1, 3))
    return [(int(col), int(row)) for row, col in np.argwhere(blocks)]


def bounding_box(mask: Array) -> Region:
    """The rectangle around what a mask has."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Region(int(xs[0]), int(ys[0]), int(xs[-1] - xs[0]) + 1, int(ys[-1] - ys[0]) + 1)


def padded_tiles(
    pixels: Array, pyramid: Pyramid, background: tuple[int, ...], *, method: str = "mean"
) -> Iterator[tuple[Address, Array]]:
    """Every tile that a padded pyramid has, its address counted from each level's first tile."""
    canvas, size = pyramid.canvas, pyramid.tile_size
    x, y, *_ = canvas.placement
    level = place_on_canvas(pixels, canvas.width, x, y, background)
    levels = [level]
    while len(levels[0]) > size:
        levels.insert(0, reference.shrink(levels[0], method, alpha=pixels.shape[2] in (2, 4)))
    wanted = level_masks(canvas.width, canvas.placement, size, cover=canvas.cover)
    for zoom, (level, mask) in enumerate(zip(levels, wanted, strict=True)):
        found = masked_tiles(mask, size)
        first_col, first_row = found[0]
        for col, row in found:
            part = level[row * size : (row + 1) * size, col * size : (col + 1) * size]
            yield (pyramid.single_tile_level + zoom, col - first_col, row - first_row), part


def filled_tiles(
    pixels: Array,
    tile_size: int,
    background: tuple[int, ...],
    *,
    rounding: str = "up",
    method: str = "mean",
) -> Iterator[tuple[Address, Array]]:
    """Every tile of a pyramid whose tiles are filled up with background."""
    for address, part in reference.tiles(pixels, tile_size, 0, rounding=rounding, method=method):
        tile = np.empty((tile_size, tile_size, pixels.shape[2]), pixels.dtype)
        tile[...] = background
        tile[: part.shape[0], : part.shape[1]] = part
        yield address, tile
