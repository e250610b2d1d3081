"""Deep Zoom collections on disk for tests: pictures to put in, and what must come out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import fasttile
import reference
from fasttile import collection
from fasttile.encoder import Encoder

Array = NDArray[Any]

WHITE = (255, 255, 255)

SIZES = [(1, 1), (1, 2), (5, 3), (8, 8), (9, 4), (7, 20), (40, 33)]
"""Width and height of pictures around the sizes of small tiles' cells."""


def picture(number: int) -> Array:
    """A picture of noise, of one of the sizes, unlike all others."""
    width, height = SIZES[number % len(SIZES)]
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def cut(folder: Path, number: int, **options: Any) -> Path:
    """The same, cut without loss."""
    path = folder / f"p{number}.dzi"
    if not path.exists():
        fasttile.cut(picture(number), path, format="png", threads=1, **options)
    return path


def png(dest: Path, pictures: Sequence[Any], **options: Any) -> collection.CollectionReport:
    """Make a small collection without loss."""
    wanted = {"max_level": 2, "tile_size": 8, "format": "png", **options}
    return collection.create(dest, pictures, **wanted)


def saved(path: Path, number: int) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(picture(number)).save(path)
    return path


def spread(pixels: Array, level: int) -> Array:
    """What a picture looks like at a level, its own or one that it is too small for."""
    levels = reference.levels(pixels)
    if level < len(levels):
        return levels[level]
    times = 2 ** (level - len(levels) + 1)
    return np.kron(levels[-1], np.ones((times, times, 1), np.uint8))


def tiles(
    pictures: Sequence[Array], max_level: int, tile_size: int, background: Any = WHITE
) -> dict[str, Array]:
    """All shared tiles, by their paths without an ending: each level is one raster, then cut."""
    found: dict[str, Array] = {}
    for level in range(max_level + 1):
        side = 2**level
        cells = [(bits(n), bits(n >> 1)) for n in range(len(pictures))]
        cols = max(col for col, _ in cells) + 1
        rows = max(row for _, row in cells) + 1
        wide, high = (-(-count * side // tile_size) * tile_size for count in (cols, rows))
        raster = np.empty((high, wide, 3), np.uint8)
        raster[:] = background
        used = set()
        for pixels, (col, row) in zip(pictures, cells, strict=True):
            thumbnail = spread(pixels, level)
            height, width, _ = thumbnail.shape
            raster[row * side :, col * side :][:height, :width] = thumbnail
            used.add((col * side // tile_size, row * side // tile_size))
        for col, row in used:
            y, x = row * tile_size, col * tile_size
            found[f"{level}/{col}_{row}"] = raster[y : y + tile_size, x : x + tile_size]
    return found


def bits(number: int) -> int:
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


def same(found: dict[str, Array], wanted: dict[str, Array]) -> bool:
    """Whether these are the same tiles."""
    return found.keys() == wanted.keys() and all(
        np.array_equal(found[name], wanted[name]) for name in wanted
    )


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, and the folders, with a slash."""
    return {
        path.relative_to(folder).as_posix() + "/" * path.is_dir(): b""
        if path.is_dir()
        else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def is_whole(descriptor: Path) -> list[str]:
    """The Sources of a collection whose tiles all are there, and true.

    Raises:
        AssertionError: They are not.
    """
    found = collection.read(descriptor)
    pictures = []
    for item in found.items:
        with fasttile.open_pyramid(found.picture(item)) as reader:
            top = reader.pyramid.levels[-1]
            assert (top.width, top.height) == (item.width, item.height)
            pictures.append(_assembled(reader))
    assert [item.n for item in found.items] == list(range(len(pictures)))
    wanted = tiles(pictures, found.max_level, found.tile_size) if pictures else {}
    assert same(read_tiles(descriptor), wanted)
    return [item.source for item in found.items]


def _assembled(reader: Any) -> Array:
    """A picture without overlap, from the tiles of its largest level."""
    level = reader.pyramid.levels[-1]
    found = np.empty((level.height, level.width, 3), np.uint8)
    for tile in level.tiles():
        x, y, width, height = level.region(tile.col, tile.row)
        found[y : y + height, x : x + width] = reader.pixels(*tile)
    return found


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Array]:
    """All pixels that are encoded from now on."""
    found: list[Array] = []
    plain = Encoder.encode

    def encode(self: Encoder, tile: Array) -> bytes | None:
        found.append(tile.copy())
        return plain(self, tile)

    monkeypatch.setattr(Encoder, "encode", encode)
    return found
