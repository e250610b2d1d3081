"""What the two tilers that use nothing but Pillow share: open an image, save a tile."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from dzi import Box, Job, Tile


def open_image(path: Path) -> Image.Image:
    """An image of any size, its pixels loaded."""
    # A limit against malicious files; what these programs read comes from this very bench.
    Image.MAX_IMAGE_PIXELS = None
    image = Image.open(path)
    image.load()
    return image


def save_tile(job: Job, raster: Image.Image, tile: Tile, box: Box) -> None:
    """Crop a tile out of its level and save it, with Pillow's defaults beside the quality."""
    path = job.path(tile)
    if tile.col == tile.row == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
    options = {"quality": job.quality} if job.format == "jpeg" else {}
    raster.crop(box).save(path, job.format, **options)
