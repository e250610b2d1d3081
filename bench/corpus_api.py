"""Calls of the Python interface for the corpus; run as `python corpus_api.py NAME` beside `in`.

Only names and parameters that README.md shows are used, so that it runs with any version.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import fasttile

IN = Path("../in")


class Sliced:
    """An object that has a shape, a dtype and slices, as arrays of zarr and h5py do."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, key: Any) -> Any:
        return self._array[key]


class Interface:
    """An object whose only attribute is `__array_interface__`."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.__array_interface__ = array.__array_interface__


def arrays() -> None:
    """Cut arrays of several kinds."""
    rgb, u16 = np.load(IN / "rgb.npy"), np.load(IN / "u16.npy")
    rgba = np.load(IN / "rgba.npy")
    kinds = {
        "rgb": rgb,
        "rgba": rgba,
        "grey-alpha": np.load(IN / "la.npy"),
        "bilevel": np.load(IN / "bilevel.npy"),
        "floats": np.load(IN / "f4.npy"),
        "big-endian": u16.astype(">u2"),
        "fortran": np.asfortranarray(rgb),
        "reversed": rgb[::-1, ::-2],
        "mapped": np.load(IN / "rgb.npy", mmap_mode="r"),
        "sliced": Sliced(rgb),
        "interface": Interface(rgb),
    }
    for name, array in kinds.items():
        fasttile.cut(array, f"{name}.dzi", tile_size=100, format="png")
    fasttile.cut(u16, "deep.tif", bits=16, format="deflate")
    fasttile.cut(rgb, "map", layout="xyz", region=(10, 20, 200, 150), skip_blank=5)
    fasttile.cut(rgba, "map.pmtiles", background="#102030", viewer="leaflet", quality=55)


def objects() -> None:
    """Cut bytes, streams and PIL images."""
    for name in ("photo.jpg", "lzw.tif", "strips.tif", "rgba8.png", "alpha.webp", "u16.npy"):
        stem, data = name.replace(".", "-"), (IN / name).read_bytes()
        fasttile.cut(data, f"{stem}-bytes.dzi")
        fasttile.cut(io.BytesIO(data), f"{stem}-stream.dzi")
        with (IN / name).open("rb") as file:
            fasttile.cut(file, f"{stem}-file.zip")
    for name in ("photo.jpg", "palette4.png", "cmyk.jpg", "matrix.jpg", "turned6.jpg", "1.bmp"):
        with Image.open(IN / name) as image:
            fasttile.cut(image, f"{name.replace('.', '-')}-pil.dzi", format="png")


def tiles() -> None:
    """Write the pixels that `iter_tiles` yields."""
    options: dict[str, dict[str, Any]] = {
        "photo.jpg": {"tile_size": 256, "overlap": 1},
        "alpha.tif": {"tile_size": 100, "overlap": 0},
        "u16.tif": {"tile_size": 100, "overlap": 0, "window": (900, 2400)},
    }
    for name, given in options.items():
        for tile, pixels in fasttile.iter_tiles(IN / name, **given):
            path = Path(f"{name}-{tile.level}-{tile.col}-{tile.row}")
            path.write_bytes(str((pixels.shape, pixels.dtype)).encode() + pixels.tobytes())


def readers() -> None:
    """Write the tiles that `open_pyramid` reads, encoded and decoded."""
    layouts = {"folder": "xyz", "a.dzi": "dzi", "b.zip": "tms", "c.szi": "dzi", "d.tif": "tiff"}
    for name, layout in {**layouts, "e.pmtiles": "xyz", "f.mbtiles": "xyz"}.items():
        fasttile.cut(IN / "photo.jpg", name, layout=layout, tile_size=256, overlap=0)
        with fasttile.open_pyramid(name) as pyramid:
            for level, col, row in ((10, 0, 0), (10, 2, 1), (10, 3, 2), (9, 1, 1), (8, 0, 0)):
                path = Path(f"{name}-{level}-{col}-{row}")
                path.with_suffix(".tile").write_bytes(pyramid.tile(level=level, col=col, row=row))
                pixels = pyramid.pixels(level=level, col=col, row=row)
                path.with_suffix(".pixels").write_bytes(pixels.tobytes())


def batch() -> None:
    """Cut a folder by `cut_all`, in this process and in two others."""
    for workers in (1, 2):
        list(fasttile.cut_all([IN / "batch", IN / "u16.tif"], f"site{workers}", workers=workers))


def interrupted() -> None:
    """End the process without clean-up as soon as some tiles of a resumable cut are written."""
    name, *layout = sys.argv[2:]
    options: dict[str, Any] = {"layout": layout[0]} if layout else {}
    exit_9 = os._exit
    fasttile.cut(IN / "photo.jpg", name, resume=True, progress=lambda _: exit_9(9), **options)


CALLS = {call.__name__: call for call in (arrays, objects, tiles, readers, batch, interrupted)}

if __name__ == "__main__":
    CALLS[sys.argv[1]]()
