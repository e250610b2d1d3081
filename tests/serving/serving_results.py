"""Results to be served: small images, cut in every way that there are files for."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

import fasttile

ESCAPED_NAME = "Äpfel & (1)"
"""A name of an image that addresses cannot hold as it is."""


@cache
def noise_image(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Soft noise, whose tiles are all different."""
    coarse = np.random.default_rng(seed).integers(0, 255, (height // 8 + 1, width // 8 + 1, 3))
    return coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width].astype(np.uint8)


def make_site(root: Path) -> None:
    """Cut one of each kind."""
    shown = noise_image(900, 700)
    fasttile.cut(shown, root / "plain.dzi", layout="dzi:json,jsonp", viewer="openseadragon")
    fasttile.cut(shown, root / "maps" / f"{ESCAPED_NAME}.dzi", format="png")
    fasttile.cut(shown, root / "zoomify", layout="zoomify")
    fasttile.cut(shown, root / "xyz", layout="xyz", format="webp")
    fasttile.cut(shown, root / "avif.dzi", format="avif:speed=10")
    iiif = "iiif3:id=https://example.org/box%2Fimage"
    fasttile.cut(shown, root / "box" / "image", layout=iiif)
    fasttile.cut(shown, root / "@7" / "fixed.dzi")
    for ending in ("szi", "zip", "pmtiles", "mbtiles", "tif"):
        fasttile.cut(shown, root / f"one.{ending}")
    bright = np.full((700, 900, 3), 255, np.uint8)
    bright[:100, :100] = 0
    fasttile.cut(bright, root / "sparse", layout="xyz", skip_blank=True)


def expected_responses(root: Path, url_path: str = "") -> dict[str, bytes]:
    """What a server has to answer: address and content of each file of a folder.

    Args:
        root: The folder.
        url_path: Its address.
    """
    return {
        address: path.read_bytes()
        for address, path in all_files(root, url_path).items()
        if "/." not in address
    }


def hidden_files(root: Path) -> list[str]:
    """Addresses of the files that a server must not answer: records, and results in the making."""
    return [address for address in all_files(root) if "/." in address]


def all_files(root: Path, url_path: str = "") -> dict[str, Path]:
    """Address and path of each file of a folder."""
    return {
        f"{url_path}/{quote(path.relative_to(root).as_posix(), safe='/,@()+')}": path
        for path in root.rglob("*")
        if path.is_file()
    }
