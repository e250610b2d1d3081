"""Deep Zoom collections on disk for tests: images to put in, and what must come out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import fasttile
from fasttile import collection
from fasttile.encode.encoder import Encoder
from support import reference

Array = NDArray[Any]

WHITE = (255, 255, 255)

SIZES = [(1, 1), (1, 2), (5, 3), (8, 8), (9, 4), (7, 20), (40, 33)]
"""Width and height of images around the sizes of small tiles' cells."""


def member_pixels(number: int) -> Array:
    """An image of noise, of one of the sizes, unlike all others."""
    width, height = SIZES[number % len(SIZES)]
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def cut_member(folder: Path, number: int, **options: Any) -> Path:
    """The same, cut without loss."""
    path = folder / f"p{number}.dzi"
    if not path.exists():
        fasttile.cut(member_pixels(number), path, format="png", threads=1, **options)
    return path


def create_png_collection(
    dest: Path, sources: Sequence[Any], **options: Any
) -> collection.CollectionReport:
    """Make a small collection without loss."""
    wanted = {"max_level": 2, "tile_size": 8, "format": "png", **options}
    return collection.create(dest, sources, **wanted)


def save_member_image(path: Path, number: int) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(member_pixels(number)).save(path)
    return path


def pixels_at_level(pixels: Array, level: int) -> Array:
    """What an image looks like at a level, its own or one that it is too small for."""
    levels = reference.levels(pixels)
    if level < len(levels):
        return levels[level]
    times = 2 ** (level - len(levels) + 1)
    return np.kron(levels[-1], np.ones((times, times, 1), np.uint8))


def expected_tiles(
    images: Sequence[Array], max_level: int, tile_size: int, background: Any = WHITE
) -> dict[str, Array]:
    """All shared tiles, by their paths without an ending: each level is one raster, then cut."""
    found: dict[str, Array] = {}
    for level in range(max_level + 1):
        side = 2**level
        cells = [(even_bits(n), even_bits(n >> 1)) for n in range(len(images))]
        cols = max(col for col, _ in cells) + 1
        rows = max(row for _, row in cells) + 1
        wide, high = (-(-count * side // tile_size) * tile_size for count in (cols, rows))
        raster = np.empty((high, wide, 3), np.uint8)
        raster[:] = background
        used = set()
        for pixels, (col, row) in zip(images, cells, strict=True):
            thumbnail = pixels_at_level(pixels, level)
            height, width, _ = thumbnail.shape
            raster[row * side :, col * side :][:height, :width] = thumbnail
            used.add((col * side // tile_size, row * side // tile_size))
        for col, row in used:
            y, x = row * tile_size, col * tile_size
            found[f"{level}/{col}_{row}"] = raster[y : y + tile_size, x : x + tile_size]
    return found


def even_bits(number: int) -> int:
    """The number that the even bits of another spell."""
    return int("0" + f"{number:b}"[::-1][::2][::-1], 2)


def read_tiles(descriptor: Path) -> dict[str, Array]:
    """The pixels of all shared tiles, by their paths without an ending."""
    folder = descriptor.with_name(f"{descriptor.stem}_files")
    return {
        path.relative_to(folder).with_suffix("").as_posix(): np.array(Image.open(path))
        for path in folder.rglob("*")
        if not path.is_dir()
    }


def same_tiles(actual: dict[str, Array], expected: dict[str, Array]) -> bool:
    """Whether these are the same tiles."""
    return actual.keys() == expected.keys() and all(
        np.array_equal(actual[name], expected[name]) for name in expected
    )


def folder_contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, and the folders, with a slash."""
    return {
        path.relative_to(folder).as_posix() + "/" * path.is_dir(): b""
        if path.is_dir()
        else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def check_collection(descriptor: Path) -> list[str]:
    """The Sources of a collection whose tiles all are there, and true.

    Raises:
        AssertionError: They are not.
    """
    found = collection.read(descriptor)
    images = []
    for item in found.items:
        with fasttile.open_pyramid(found.item_descriptor(item)) as reader:
            top = reader.pyramid.levels[-1]
            assert (top.width, top.height) == (item.width, item.height)
            images.append(_assemble_level(reader))
    assert [item.n for item in found.items] == list(range(len(images)))
    wanted = expected_tiles(images, found.max_level, found.tile_size) if images else {}
    assert same_tiles(read_tiles(descriptor), wanted)
    return [item.source for item in found.items]


def _assemble_level(reader: Any) -> Array:
    """An image without overlap, from the tiles of its largest level."""
    level = reader.pyramid.levels[-1]
    found = np.empty((level.height, level.width, 3), np.uint8)
    for tile in level.tiles():
        x, y, width, height = level.region(tile.col, tile.row)
        found[y : y + height, x : x + width] = reader.pixels(*tile)
    return found


def record_encoded_tiles(monkeypatch: pytest.MonkeyPatch) -> list[Array]:
    """All pixels that are encoded from now on."""
    found: list[Array] = []
    plain = Encoder.encode

    def encode(self: Encoder, tile: Array) -> bytes | None:
        found.append(tile.copy())
        return plain(self, tile)

    monkeypatch.setattr(Encoder, "encode", encode)
    return found
