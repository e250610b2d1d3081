"""Try an installed fasttile as a user does: cut, verify and convert an image, by the command.

    $ python tools/try_wheel.py

It needs nothing but the installed package, and fails with the command that failed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import fasttile
from fasttile import kernels


def main() -> None:
    """Cut a JPEG, a PNG and an array, and compare each result with its source."""
    package = Path(fasttile.__file__).parent
    assert "site-packages" in package.parts, f"{package} is not installed"
    ramp = np.arange(700 * 900 * 3, dtype=np.uint32).reshape(700, 900, 3)
    pixels = (ramp // 7 % 256).astype(np.uint8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "array.npy", pixels)
        Image.fromarray(pixels).save(folder / "photo.jpg", quality=90)
        Image.fromarray(pixels).save(folder / "drawing.png")
        for source, target in (
            ("array.npy", "array.dzi"),
            ("photo.jpg", "photo.pmtiles"),
            ("drawing.png", "drawing.szi"),
        ):
            run(folder, "cut", source, "-o", target, "--format", "png", "--workers", "2")
            run(folder, "verify", target, "--source", source)
        run(folder, "convert", "array.dzi", "array.szi")
        with fasttile.open_pyramid(folder / "array.szi") as pyramid:
            assert pyramid.level_sizes[-1] == (900, 700)
            tile = pyramid.pixels(pyramid.level_count - 1, 0, 0)
            assert tile is not None
            assert np.array_equal(tile, pixels[: tile.shape[0], : tile.shape[1]])
    print(f"fasttile {fasttile.__version__}, Python {sys.version.split()[0]}, {kernels.VARIANT}")


def run(folder: Path, *arguments: str) -> None:
    """Run the command, which must succeed."""
    command = [sys.executable, "-m", "fasttile", *arguments]
    subprocess.run(command, cwd=folder, check=True, timeout=300, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
