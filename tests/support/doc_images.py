"""Small images and results for the commands of the documentation site."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

import fasttile


def _photo(height: int, width: int) -> np.ndarray:
    """Smooth colours with some noise, as (height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 40 + band) * np.cos(y / 60 + band) for band in range(3)]
    noise = np.random.default_rng(5).normal(0, 6, (height, width, 3))
    return np.clip(128 + 100 * np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)


QUARTERS = [(220, 0, 0), (0, 220, 0), (0, 0, 220), (220, 220, 0)]
"""Colours of the image `quarters`: its two above, from left to right, and the two below."""


def _quarters(height: int, width: int) -> np.ndarray:
    """Four quarters of one colour each."""
    right = (np.arange(width) >= width // 2).astype(int)
    below = (np.arange(height) >= height // 2).astype(int)
    return np.array(QUARTERS, np.uint8)[2 * below[:, None] + right]


def _labels(height: int, width: int) -> np.ndarray:
    """Squares of a few values."""
    y, x = np.mgrid[0:height, 0:width]
    return ((x // 37 + y // 23) % 5).astype(np.uint8)


def _light(height: int, width: int) -> np.ndarray:
    """Grey from 0 to 1."""
    return _photo(height, width)[..., 0].astype(np.float32) / 255


KINDS: dict[str, Callable[[int, int], np.ndarray]] = {
    "rgb": _photo,
    "quarters": _quarters,
    "labels": _labels,
    "grey": lambda height, width: _photo(height, width)[..., 0],
    "rgba": lambda height, width: np.dstack([_photo(height, width), _labels(height, width) * 60]),
    "16bit": lambda height, width: (_light(height, width) * 4000).astype(np.uint16),
    "16bit-rgb": lambda height, width: _photo(height, width).astype(np.uint16) * 257,
    "float": _light,
    "bands": lambda height, width: np.dstack([_photo(height, width)] * 2).astype(np.uint16) * 16,
    "channels": lambda height, width: np.stack([(_light(height, width) * 4000).astype("u2")] * 3),
    "cells": lambda height, width: np.tile(_light(height, width) * 4000, (1, 2, 3, 1, 1)).astype(
        np.uint16
    ),
    "pages": lambda height, width: np.stack([_photo(height, width)] * 3),
}
"""Pixels by the names that `<!-- files: … -->` takes."""


def _write_slide(path: Path, pixels: np.ndarray) -> None:
    """A TIFF of JPEG tiles, with the description that Aperio's scanners write."""
    import tifffile

    height, width = pixels.shape[:2]
    tifffile.imwrite(
        path,
        pixels,
        tile=(256, 256),
        photometric="rgb",
        compression="jpeg",
        description=f"Aperio Image Library v11.2.1 \n{width}x{height} (256x256) JPEG|MPP = 0.4990",
        metadata=None,
    )


def make_file(folder: Path, entry: str) -> None:
    """Make a file of `NAME [KIND] [WIDTHxHEIGHT] [layout=LAYOUT]`; its ending decides the format.

    `.jpg`, `.png`, `.webp` … are written by Pillow, `.tif` and `.svs` by tifffile, `.npy` by NumPy,
    `.zarr` by zarr, `.ome.zarr` as OME-Zarr, and all others (`.dzi`, `.szi`, `.pmtiles` …, folders)
    are cut by fasttile.
    """
    name, *words = entry.split()
    kind = next((word for word in words if word in KINDS), "rgb")
    size = next(filter(None, (re.fullmatch(r"(\d+)x(\d+)", word) for word in words)), None)
    width, height = (int(size[1]), int(size[2])) if size else (1100, 700)
    layout = next((word[7:] for word in words if word.startswith("layout=")), "")
    known = (kind in words) + (size is not None) + bool(layout)
    assert len(words) == known, f"{entry!r}: unknown kind"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = KINDS[kind](height, width)
    if path.suffix in (".tif", ".tiff"):
        import tifffile

        colour = pixels.ndim >= 3 and pixels.shape[-1] == 3
        planar = {"planarconfig": "contig"} if pixels.ndim == 3 and kind != "pages" else {}
        tifffile.imwrite(path, pixels, photometric="rgb" if colour else "minisblack", **planar)
    elif path.suffix == ".svs":
        _write_slide(path, pixels)
    elif path.suffix == ".npy":
        np.save(path, pixels)
    elif path.name.endswith(".ome.zarr"):
        from support.zarr_files import write_ome

        write_ome(path, pixels, "tczyx")
    elif path.suffix == ".zarr":
        import zarr

        zarr.create_array(path, data=pixels, chunks=(256, 256, *pixels.shape[2:]))
    elif path.suffix in (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"):
        Image.fromarray(pixels).save(path)
    else:
        fasttile.cut(pixels, path, **({"layout": layout} if layout else {}))
