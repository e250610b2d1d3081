"""Peer (a): the algorithm of openzoom's deepzoom.py, in pure Python and Pillow.

Each level is resized from the full image with the Lanczos filter, its default, then cropped and
saved tile by tile, on one thread.

    python bench/pil_tiler.py INPUT OUTPUT.dzi [--format jpeg|png] [--quality 75]
"""

from __future__ import annotations

from PIL import Image

from dzi import Job, job_from_command_line
from pillow_tiles import open_image, save_tile


def cut(job: Job) -> None:
    """Write an image's descriptor and all its tiles."""
    image = open_image(job.input)
    pyramid = job.pyramid(*image.size)
    for level in range(pyramid.last_level + 1):
        size = pyramid.level_size(level)
        raster = image
        if size != image.size:
            raster = image.resize(size, Image.Resampling.LANCZOS)
        for tile, box in pyramid.tiles(level):
            save_tile(job, raster, tile, box)
    job.write_descriptor(*image.size)


if __name__ == "__main__":
    cut(job_from_command_line(__doc__))
