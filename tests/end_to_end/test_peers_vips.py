"""libvips' own tiles, pixel by pixel; docs/PEERS.md explains each difference.

Its dzsave writes PNG tiles of the same image; fasttile's are the walk's, by the layout's paths.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fasttile import iter_tiles
from fasttile.layouts import LayoutSpec
from fasttile.types import Shrink
from support.reading import noise
from support.reference import Array

pyvips = pytest.importorskip("pyvips")

SIZES = [(1, 1), (255, 3), (256, 256), (257, 40), (513, 256), (512, 511), (300, 1025), (1030, 770)]
"""Width and height: on and around the boundaries of tiles, and odd."""

NO_ALPHA = [1, 3]


def fasttile_tiles(
    pixels: Array, layout: str, *, shrink: Shrink = "mean", **options: int | None
) -> dict[str, Array]:
    """Tiles by their paths in a result called x."""
    height, width, _ = pixels.shape
    choice = LayoutSpec.parse(layout)
    placed = choice.bind("x", width, height, "png", **options)
    found = iter_tiles(pixels, layout=layout, shrink=shrink, **options)  # type: ignore[arg-type]
    return {placed.path(tile): tile_pixels for tile, tile_pixels in found}


def vips_tiles(pixels: Array, folder: Path, **options: object) -> dict[str, Array]:
    """The same, by libvips."""
    kind = "srgb" if pixels.shape[2] == 4 else None  # else the fourth band would be no alpha
    image = pyvips.Image.new_from_array(pixels, interpretation=kind)
    folder.mkdir(exist_ok=True)
    image.dzsave(str(folder / "x"), suffix=".png", **options)
    return {
        path.relative_to(folder).as_posix(): _read(path)
        for path in sorted(folder.rglob("*.png"))
        if path.name != "blank.png"
    }


def _read(path: Path) -> Array:
    pixels = np.asarray(Image.open(path))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def assert_same_tiles(one: dict[str, Array], other: dict[str, Array]) -> None:
    assert one.keys() == other.keys()
    for path, pixels in one.items():
        assert pixels.shape == other[path].shape, path
        assert np.array_equal(pixels, other[path]), path


@pytest.mark.parametrize("bands", NO_ALPHA)
@pytest.mark.parametrize("size", SIZES)
def test_deep_zoom_is_the_same(size: tuple[int, int], bands: int, tmp_path: Path) -> None:
    pixels = noise(size[1], size[0], bands)
    options = {"tile_size": 254, "overlap": 1}
    assert_same_tiles(
        fasttile_tiles(pixels, "dzi", **options), vips_tiles(pixels, tmp_path, **options)
    )


@pytest.mark.parametrize("bands", NO_ALPHA)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", ["max", "min", "median", "nearest"])
def test_methods_of_shrinking_are_the_same(
    method: Shrink, size: tuple[int, int], bands: int, tmp_path: Path
) -> None:
    pixels = noise(size[1], size[0], bands)
    found = vips_tiles(pixels, tmp_path, region_shrink=method)
    assert_same_tiles(fasttile_tiles(pixels, "dzi", shrink=method), found)


def test_with_alpha_libvips_takes_the_mean_by_any_method(tmp_path: Path) -> None:
    pixels = noise(64, 64, 4)
    expected = vips_tiles(pixels, tmp_path / "mean", region_shrink="mean")
    for method in ("max", "min", "median", "nearest", "mode"):
        found = vips_tiles(pixels, tmp_path / method, region_shrink=method)
        assert_same_tiles(found, expected)


def test_libvips_decides_ties_of_the_mode_in_another_way(tmp_path: Path) -> None:
    pixels = np.tile(np.array([[1, 2], [3, 4]], np.uint8), (8, 8))[..., None]
    found = vips_tiles(pixels, tmp_path, region_shrink="mode")["x_files/3/0_0.png"]
    own = fasttile_tiles(pixels, "dzi", shrink="mode")["x_files/3/0_0.png"]
    assert (own == 1).all()
    assert (found == 3).all()


@pytest.mark.parametrize("bands", NO_ALPHA)
@pytest.mark.parametrize("size", SIZES)
def test_zoomify_rounded_up_is_the_same(size: tuple[int, int], bands: int, tmp_path: Path) -> None:
    pixels = noise(size[1], size[0], bands)
    found = vips_tiles(pixels, tmp_path, layout="zoomify")
    assert_same_tiles(fasttile_tiles(pixels, "zoomify:rounding=ceil"), found)


@pytest.mark.parametrize(("tile_size", "size"), [(16, (257, 300)), (300, (300 * 260, 1))])
def test_groups_of_zoomify_hold_256_tiles_for_any_tile_size(
    tile_size: int, size: tuple[int, int], tmp_path: Path
) -> None:
    pixels = noise(size[1], size[0], 1)
    found = vips_tiles(pixels, tmp_path, layout="zoomify", tile_size=tile_size)
    assert len(found) > 256
    assert_same_tiles(fasttile_tiles(pixels, "zoomify:rounding=ceil", tile_size=tile_size), found)


@pytest.mark.parametrize("bands", NO_ALPHA)
@pytest.mark.parametrize("size", SIZES)
def test_google_is_the_same(size: tuple[int, int], bands: int, tmp_path: Path) -> None:
    pixels = noise(size[1], size[0], bands)
    found = vips_tiles(pixels, tmp_path, layout="google")
    assert_same_tiles(fasttile_tiles(pixels, "xyz:template={z}/{y}/{x}"), found)


@pytest.mark.parametrize("bands", NO_ALPHA)
@pytest.mark.parametrize("size", SIZES)
def test_google_centred_is_the_same_but_for_half_pixels(
    size: tuple[int, int], bands: int, tmp_path: Path
) -> None:
    pixels = noise(size[1], size[0], bands)
    found = vips_tiles(pixels, tmp_path, layout="google", centre=True)
    own = fasttile_tiles(pixels, "xyz:template={z}/{y}/{x},centre")
    # Where the image begins in the middle of a smaller level's pixel, libvips leaves out a tile
    # that has only such pixels.
    more = {path: own.pop(path) for path in own.keys() - found.keys()}
    assert_same_tiles(own, found)
    assert bool(more) == (size == (300, 1025))
    for tile in more.values():
        assert (tile[:-1] == 255).all()
        assert (tile[-1] != 255).any()
