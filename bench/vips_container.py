"""Peer: libvips writes a folder, a .szi, or a pyramidal TIFF, with tiles as fasttile's.

python bench/vips_container.py dzi|szi|tif INPUT OUTPUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyvips

QUALITY = 75


def cut(kind: str, source: str, dest: str) -> None:
    """Write one result."""
    image = pyvips.Image.new_from_file(source, access="sequential")
    if kind == "tif":
        image.tiffsave(
            dest,
            tile=True,
            pyramid=True,
            tile_width=256,
            tile_height=256,
            compression="jpeg",
            Q=QUALITY,
        )
        return
    # dzsave takes the container from the extension .szi; a folder is named without one.
    name = dest if kind == "szi" else str(Path(dest).with_suffix(""))
    image.dzsave(name, tile_size=256, overlap=0, suffix=f".jpg[Q={QUALITY}]")


if __name__ == "__main__":
    cut(*sys.argv[1:])
