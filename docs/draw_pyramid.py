"""Draw docs/pyramid.webp, the README's image: every tile of a small pyramid, level by level.

The photograph is scikit-image's "coffee" by Rachel Michetti, in the public domain (CC0).
Run after `make demo`: .venv/bin/python docs/draw_pyramid.py
"""

from __future__ import annotations

from pathlib import Path

import skimage.data
from PIL import Image

import fasttile

TILE, GAP, LEVEL_GAP, LEVELS = 64, 4, 28, 5


def main() -> None:
    """Lay the tiles of the upper levels side by side, with gaps between them."""
    photograph = skimage.data.coffee()[:, 40:552]
    height, width = photograph.shape[:2]
    pyramid = fasttile.Pyramid.from_size(width, height, tile_size=TILE, overlap=0)
    levels = pyramid.levels[::-1][:LEVELS]
    sizes = {
        level.number: (level.width + GAP * (level.cols - 1), level.height + GAP * (level.rows - 1))
        for level in levels
    }
    lefts, left = {}, 0
    for number, (extent, _) in sizes.items():
        lefts[number] = left
        left += extent + LEVEL_GAP
    sheet = Image.new("RGBA", (left - LEVEL_GAP, max(tall for _, tall in sizes.values())))
    for tile, pixels in fasttile.iter_tiles(photograph, tile_size=TILE, overlap=0):
        if tile.level in lefts:
            x = lefts[tile.level] + tile.col * (TILE + GAP)
            y = sheet.height - sizes[tile.level][1] + tile.row * (TILE + GAP)
            sheet.paste(Image.fromarray(pixels), (x, y))
    sheet.save(Path(__file__).with_name("pyramid.webp"), quality=85)


if __name__ == "__main__":
    main()
