"""The peers on many images, one after the other in one process, with their own threads.

Usage: many.py vips|pil FOLDER DEST [--quality 75]
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from dzi import Job

PEER_MODULES = {"vips": "vips_tiler", "pil": "pil_tiler"}


def main() -> None:
    """Cut every image of a folder."""
    parser = argparse.ArgumentParser(description="Cut all images of a folder.")
    parser.add_argument("program", choices=PEER_MODULES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("dest", type=Path)
    parser.add_argument("--quality", type=int, default=75)
    given = parser.parse_args()
    cut = import_module(PEER_MODULES[given.program]).cut
    given.dest.mkdir(parents=True, exist_ok=True)
    for image in sorted(given.folder.iterdir()):
        cut(Job(image, given.dest / f"{image.stem}.dzi", quality=given.quality))


if __name__ == "__main__":
    main()
