"""Collections for the tests of walls: images of one colour each, and their thumbnails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import fasttile
from fasttile.collection.descriptor import Collection, Item, read
from fasttile.collection.thumbnail_grid import ThumbnailGrid, cell_position
from fasttile.viewers import to_url

MEMBER_SIZES = ((900, 300), (300, 900), (640, 640), (5, 3), (513, 257), (100, 2000), (256, 256))


def member_colour(number: int) -> tuple[int, int, int]:
    """The colour of an image."""
    return (40 + 30 * number, 230 - 30 * number, 60 * (number % 4))


def make_collection(folder: Path, name: str, titles: list[str]) -> Collection:
    """A collection of as many images as there are titles."""
    grid = ThumbnailGrid(max_level=7, tile_size=256)
    shared: dict[str, Image.Image] = {}
    items = []
    for number, title in enumerate(titles):
        width, height = MEMBER_SIZES[number % len(MEMBER_SIZES)]
        drawn = Image.new("RGB", (width, height), member_colour(number))
        given = title.replace("{", "{{").replace("}", "}}")  # in a destination: placeholders
        fasttile.cut(np.asarray(drawn), folder / "images" / f"{given}.dzi", overlap=number % 3)
        last = (max(width, height) - 1).bit_length()
        for level in range(min(7, last) + 1):
            small = drawn.resize([-(-side >> (last - level)) for side in (width, height)])
            col, row = cell_position(grid.tile_number(level, number))
            tile = shared.setdefault(f"{level}/{col}_{row}", Image.new("RGB", (256, 256), "white"))
            tile.paste(small, grid.cell_offset(level, number))
        items.append(Item(10 + number, number, to_url(f"images/{title}.dzi"), width, height))
    for place, image in shared.items():
        path = folder / f"{name}_files" / f"{place}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=95)
    path = folder / f"{name}.dzc"
    found = Collection(path, 7, 256, "jpg", 0.8, 99, tuple(items))
    path.write_text("".join(found.to_xml()), "utf-8")
    return read(path)
