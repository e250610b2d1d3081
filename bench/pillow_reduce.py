"""Peer (b): the best that plain Pillow can do, each level halved from the one above.

`reduce(2)` averages 2×2 pixels and is exact; the tiles of a level are saved by as many threads
as there are cores, because Pillow releases the interpreter lock while it encodes to a file.

    python bench/pillow_reduce.py INPUT OUTPUT.dzi [--format jpeg|png] [--quality 75]
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from dzi import Box, Job, Tile, job_from_command_line
from pillow_tiles import open_image, save_tile


def cut(job: Job) -> None:
    """Write an image's descriptor and all its tiles."""
    raster = open_image(job.input)
    pyramid = job.pyramid(*raster.size)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        for level in range(pyramid.last_level, -1, -1):
            _save_level(job, raster, pyramid.tiles(level), threads)
            raster = raster.reduce(2)
    job.write_descriptor(pyramid.width, pyramid.height)


def _save_level(
    job: Job,
    raster: Image.Image,
    tiles: Iterator[tuple[Tile, Box]],
    threads: ThreadPoolExecutor,
) -> None:
    first = next(tiles)
    save_tile(job, raster, *first)  # alone, for it makes the folder
    for _ in threads.map(lambda item: save_tile(job, raster, *item), tiles):
        pass


if __name__ == "__main__":
    cut(job_from_command_line(__doc__))
