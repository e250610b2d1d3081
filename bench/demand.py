"""Tiles on demand: a tile beside its encoder, the first overview, and openslide-python beside it.

    python bench/demand.py [--side 20000] [--tiles 100] [--rounds 5]

1. The first overview of a mapped TIFF: the time until its level of one tile is there.
2. A random tile of its largest level, beside the encoder alone on the same pixels. Warm: the tiles
   were asked for before.
3. Tiles of a pyramidal TIFF in a second, made by one thread on one processor, beside
   openslide-python's DeepZoomGenerator, whose tiles Pillow encodes with the same quality: all tiles
   from the largest level on, and random ones of the largest level, which share no block of the
   file; there both decode as much. Both begin with an empty cache. fasttile makes smaller levels
   from the largest one, OpenSlide reads those of the file.

Medians of the rounds are printed, each beside its target.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import fasttile
import images
import machine
from fasttile.encode.codecs import Jpeg
from fasttile.encode.encoder import Encoder

QUALITY = 80
OPTIONS: dict[str, Any] = {"layout": "dzi", "quality": QUALITY}
Address = tuple[int, int, int]


def main() -> None:
    """Measure, and print a line for each number."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--side", type=int, default=20_000, help="of the mapped image, in pixels")
    parser.add_argument("--tiles", type=int, default=100, help="random tiles of a round")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fasttile-bench-") as folder:
        print("\n".join(machine.describe({"images": Path(folder)})))
        source = Path(folder) / "image.tif"
        images.mosaic(source, args.side, args.side)
        measure_mapped(source, args.tiles, args.rounds)
        side = min(args.side, 5000)
        images.mosaic(source, side, side)
        slide = Path(folder) / "slide.tif"
        fasttile.cut(source, slide, quality=90)
        compare_with_openslide(slide, args.tiles, args.rounds)


def random_tiles(pyramid: fasttile.PyramidReader, count: int) -> list[Address]:
    """Different tiles of the largest level; the same ones in each run."""
    level = pyramid.level_count - 1
    cols, rows = pyramid.level_tiles[level]
    numbers = random.Random(1).sample(range(cols * rows), min(count, cols * rows))
    return [(level, number % cols, number // cols) for number in numbers]


def measure_mapped(source: Path, count: int, rounds: int) -> None:
    """Print the times of a tile, of its encoder, and of the first overview."""
    overviews = []
    for _ in range(rounds):
        with fasttile.open_pyramid(source, **OPTIONS) as pyramid:
            overviews.append(seconds(pyramid.tile, pyramid.pyramid.single_tile_level, 0, 0))
    width, height = pyramid.level_sizes[-1]
    megapixels = width * height / 1e6
    print(f"first overview of {megapixels:.0f} MP: {median(overviews):.2f} s (at most 0.6 of 400)")
    encoder = Encoder(Jpeg(quality=QUALITY))
    complete, encoded = [], []
    with fasttile.open_pyramid(source, **OPTIONS) as pyramid:
        tiles = random_tiles(pyramid, count)
        pixels = [np.ascontiguousarray(pyramid.pixels(*tile)) for tile in tiles]
        for data, tile in zip(pixels, tiles, strict=True):
            assert encoder.encode(data) == pyramid.tile(*tile)
        for _ in range(rounds):
            complete.append(seconds(lambda: [pyramid.tile(*tile) for tile in tiles]))
            encoded.append(seconds(lambda: [encoder.encode(data) for data in pixels]))
    tile_ms, encoder_ms = (1e3 * median(found) / len(tiles) for found in (complete, encoded))
    ratio = median(one / other for one, other in zip(complete, encoded, strict=True))
    print(
        f"random tile, warm: {tile_ms:.2f} ms, its encoder {encoder_ms:.2f} ms: "
        f"{ratio:.2f} times (at most 1.5)"
    )


def compare_with_openslide(slide: Path, count: int, rounds: int) -> None:
    """Print tiles a second of both, for random tiles and for all."""
    try:
        import openslide  # noqa: F401
    except (ImportError, OSError):
        print("openslide-python is not installed: pip install openslide-python openslide-bin")
        return
    from openslide import OpenSlide
    from openslide.deepzoom import DeepZoomGenerator

    with fasttile.open_pyramid(slide, **OPTIONS) as pyramid:
        few = random_tiles(pyramid, count)
        every = [tuple(tile) for tile in pyramid.pyramid.tiles()]
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})  # its threads decode on the same one
    try:
        for label, tiles, target in (("all", every[::-1], " (at least 3)"), ("random", few, "")):
            own, other = [], []
            for _ in range(rounds):
                with fasttile.open_pyramid(slide, threads=1, **OPTIONS) as pyramid:
                    own.append(seconds(make_tiles, pyramid, tiles))
                with OpenSlide(slide) as opened:
                    generator = DeepZoomGenerator(opened, tile_size=254, overlap=1)
                    other.append(seconds(make_tiles_by_openslide, generator, tiles))
            ratio = median(second / first for first, second in zip(own, other, strict=True))
            rates = [len(tiles) / median(found) for found in (own, other)]
            print(
                f"{label} tiles of a pyramidal TIFF: {rates[0]:,.0f} a second, DeepZoomGenerator "
                f"{rates[1]:,.0f}: {ratio:.1f} times{target}"
            )
    finally:
        os.sched_setaffinity(0, processors)


def make_tiles(pyramid: fasttile.PyramidReader, tiles: Sequence[Any]) -> None:
    """Make tiles with fasttile."""
    for tile in tiles:
        assert pyramid.tile(*tile)


def make_tiles_by_openslide(generator: Any, tiles: Sequence[Any]) -> None:
    """Make the same tiles with openslide-python, as its example server does."""
    for level, col, row in tiles:
        file = io.BytesIO()
        generator.get_tile(level, (col, row)).save(file, "jpeg", quality=QUALITY)
        assert file.getvalue()


def seconds(work: Callable[..., object], *arguments: object) -> float:
    """The time that a call takes."""
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
