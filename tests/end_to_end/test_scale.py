"""XYZ tiles of two sizes: `@2x` for dense screens, and their halves."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile.errors import OptionError, SourceError
from fasttile.readers import open_result
from fasttile.verify import repair, verify
from support.reading import noise
from support.reference import Array, halve
from support.sampling import sampled


def tiles_of(folder: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The tiles for dense screens, named as the others are, and the others."""
    kinds: tuple[dict[str, bytes], dict[str, bytes]] = ({}, {})
    for path in folder.glob("*/*/*.*"):
        name = path.relative_to(folder).as_posix()
        kinds["@2x" not in name][name.replace("@2x", "")] = path.read_bytes()
    return kinds


KINDS: dict[str, tuple[Callable[[int, int], Array], dict[str, Any]]] = {
    "grey": (lambda h, w: noise(h, w, 1), {}),
    "alpha": (lambda h, w: noise(h, w, 4), {}),
    "JPEG with background": (lambda h, w: noise(h, w, 4), {"format": "jpeg", "background": "red"}),
    "16 bits": (lambda h, w: noise(h, w, 1, dtype=np.uint16), {"bits": 16}),
    "nearest": (lambda h, w: noise(h, w, 3), {"shrink": "nearest"}),
    "linear light": (lambda h, w: noise(h, w, 3), {"shrink": "linear"}),
    "most frequent": (lambda h, w: noise(h, w, 1) // 64, {"shrink": "mode"}),
    "in the middle": (lambda h, w: noise(h, w, 3), {"layout": "xyz:centre"}),
    "some levels": (lambda h, w: noise(h, w, 3), {"levels": "1-2"}),
    "a part": (lambda h, w: noise(h, w, 3), {"region": (13, 7, 200, 290)}),
    "WebP": (lambda h, w: noise(h, w, 3), {"format": "webp"}),
}


@pytest.mark.parametrize("kind", sampled(KINDS, ["alpha", "in the middle", "linear light"]))
def test_both_sizes_are_tiles_of_usual_cuts(kind: str, tmp_path: Path) -> None:
    make, options = KINDS[kind]
    options = {"layout": "xyz", "format": "png", **options}
    colon = "," if ":" in options["layout"] else ":"
    pixels = make(300, 421)
    layout = f"{options['layout']}{colon}scale=2"
    fasttile.cut(pixels, tmp_path / "both", **{**options, "layout": layout}, tile_size=32)
    for name, tile_size in (("usual", 32), ("larger", 64)):
        fasttile.cut(pixels, tmp_path / name, **options, tile_size=tile_size)
    larger, usual = tiles_of(tmp_path / "both")
    assert larger == tiles_of(tmp_path / "larger")[1]
    assert usual.keys() == larger.keys()
    wanted = tiles_of(tmp_path / "usual")[1]
    assert usual.items() <= wanted.items()
    report = verify(tmp_path / "both", pixels, **options_of_verify(options))
    assert report.is_complete, report.faults
    assert report.tiles == len(larger)
    assert report.bytes == sum(map(len, [*larger.values(), *usual.values()]))


def options_of_verify(options: dict[str, Any]) -> dict[str, Any]:
    return {key: options[key] for key in ("region", "shrink", "background") if key in options}


@pytest.mark.parametrize("size", [(1, 1), (1, 77), (16, 16), (17, 5), (33, 64), (65, 1)])
def test_small_images(size: tuple[int, int], tmp_path: Path) -> None:
    """Of an image that fits into a tile there is its half, too: one pixel of CSS has two."""
    height, width = size
    pixels = noise(height, width, 3)
    fasttile.cut(pixels, tmp_path / "map", layout="xyz:scale=2", tile_size=16, format="png")
    larger, usual = tiles_of(tmp_path / "map")
    zoom = max(map(int, (name.partition("/")[0] for name in larger)))
    side = 32 << zoom
    canvas = np.full((side, side, 3), 255, np.uint8)
    canvas[:height, :width] = pixels
    for name, data in larger.items():
        z, col, row = map(int, name.removesuffix(".png").split("/"))
        level = canvas
        for _ in range(zoom - z):
            level = halve(level, alpha=False)
        for found, scale in ((data, 2), (usual[name], 1)):
            part = level if scale == 2 else halve(level, alpha=False)
            step = 16 * scale
            wanted = part[row * step : (row + 1) * step, col * step : (col + 1) * step]
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(found))), wanted), name
    for deep in (False, True):
        assert verify(tmp_path / "map", deep=deep).is_complete
    with open_result(tmp_path / "map") as reader:
        assert reader.pyramid.size == (width, height)
        assert reader.tile(*next(iter(reader.pyramid.tiles()))) == larger["0/0/0.png"]


def test_descriptor_and_zooms_are_those_of_the_usual_tiles(tmp_path: Path) -> None:
    folder = fasttile.cut(
        noise(300, 421, 3),
        tmp_path / "map",
        layout=fasttile.Xyz(scale=2),
        tile_size=64,
        viewer="leaflet",
    ).path
    found = json.loads((folder / "tiles.json").read_text())
    assert found["tiles"] == ["{z}/{x}/{y}.jpg"]
    assert (found["minzoom"], found["maxzoom"]) == (0, 2)
    member = found["fasttile"]
    assert (member["tile_size"], member["scale"], member["canvas"]) == (64, 2, 512)
    for name, data in zip(("tiles_of_2x", "tiles"), tiles_of(folder), strict=True):
        sides = {Image.open(io.BytesIO(tile)).size for tile in data.values()}
        assert sides == {(128, 128) if name == "tiles_of_2x" else (64, 64)}
    assert "@2x" in (tmp_path / "map.html").read_text()


def test_blank_tiles_are_left_out_in_pairs(tmp_path: Path) -> None:
    pixels = np.full((300, 421, 3), 255, np.uint8)
    pixels[200:, 300:] = noise(100, 121, 3)
    pixels[9, 9] = 250  # one pixel, of which the half shows next to nothing
    options: dict[str, Any] = {"layout": "xyz:scale=2", "tile_size": 32, "format": "png"}
    report = fasttile.cut(pixels, tmp_path / "map", **options, skip_blank=2)
    larger, usual = tiles_of(tmp_path / "map")
    assert larger.keys() == usual.keys()
    assert "3/0/0.png" in usual
    assert report.blanks > 0
    assert verify(tmp_path / "map", pixels, skip_blank=2).is_complete
    (tmp_path / "map/3/0/0@2x.png").unlink()
    report_of_one = verify(tmp_path / "map")
    assert [str(fault) for fault in report_of_one.faults] == [
        "map/3/0/0@2x.png is missing, though its half is there"
    ]
    assert repair(tmp_path / "map", pixels, skip_blank=2).is_complete
    assert tiles_of(tmp_path / "map") == (larger, usual)


def test_halves_go_along_or_are_left_behind(tmp_path: Path) -> None:
    pixels = noise(300, 421, 3)
    options: dict[str, Any] = {"layout": "xyz:scale=2", "tile_size": 32, "format": "png"}
    folder = fasttile.cut(pixels, tmp_path / "map", **options).path
    larger, usual = tiles_of(folder)
    archive = fasttile.convert(folder, tmp_path / "a.zip").path
    assert verify(archive, pixels).is_complete
    back = fasttile.convert(archive, tmp_path / "back").path
    assert tiles_of(back) == (larger, usual)
    one = fasttile.convert(folder, tmp_path / "one", layout="xyz").path
    assert tiles_of(one) == ({}, larger)
    assert verify(fasttile.convert(folder, tmp_path / "a.pmtiles").path, pixels).is_complete
    with pytest.raises(OptionError, match=r"scale: \.pmtiles holds one tile at each address"):
        fasttile.convert(folder, tmp_path / "b.pmtiles", layout="xyz:scale=2")
    with pytest.raises(OptionError, match="each tile of scale=2 has its half beside it"):
        fasttile.convert(one, tmp_path / "b", layout="xyz:scale=2")
    again = fasttile.convert(one, tmp_path / "b", layout="xyz:scale=2", reencode=True).path
    assert verify(again, pixels).is_complete
    (folder / "2/1/1.png").write_bytes(usual["2/1/1.png"][:-9])
    with pytest.raises(SourceError, match=r"tile map/2/1/1\.png is truncated"):
        fasttile.convert(folder, tmp_path / "c")
    (folder / "2/1/1.png").unlink()
    with pytest.raises(SourceError, match=r"tile map/2/1/1\.png is missing"):
        fasttile.convert(folder, tmp_path / "c")
    assert not {"c", ".c.fasttile"} & {path.name for path in tmp_path.iterdir()}


def test_a_result_is_an_image_of_its_larger_tiles(tmp_path: Path) -> None:
    pixels = noise(300, 421, 3)
    folder = fasttile.cut(
        pixels, tmp_path / "map", layout="xyz:scale=2", tile_size=32, format="png"
    ).path
    fasttile.cut(folder, tmp_path / "a.dzi", format="png", tile_size=32)
    assert verify(tmp_path / "a.dzi", pixels).is_complete
    for skipped in (False, True):
        options: dict[str, Any] = {"layout": "xyz:scale=2", "update": True}
        (done,) = fasttile.cut_all([tmp_path / "a.dzi"], tmp_path / "site", **options)
        assert (done.error, done.skipped) == ("", skipped)


CUTS: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    (fasttile.cut, {"dest": "a.pmtiles"}, "pmtiles holds one tile at each address"),
    (fasttile.cut, {"dest": "a.mbtiles"}, "mbtiles holds one tile at each address"),
    (fasttile.cut, {"store": print}, "go to a folder or a .zip only"),
    (fasttile.iter_tiles, {}, "to a folder or a .zip only"),
    (fasttile.open_pyramid, {}, "to a folder or a .zip only"),
    (fasttile.cut, {"dest": "a", "layout": "tms:scale=2"}, "tms has no parameter 'scale'"),
    (fasttile.cut, {"dest": "a", "layout": "xyz:scale=3"}, "scale 3 is neither 1 nor 2"),
    (fasttile.cut, {"dest": "a", "tile_size": 2**15, "format": "webp"}, "have 65536 pixels a side"),
]


@pytest.mark.parametrize(("call", "options", "message"), CUTS)
def test_what_cannot_be_is_refused(
    call: Callable[..., Any],
    options: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=message):
        list(call(noise(30, 40, 3), **{"layout": "xyz:scale=2", **options}))
    assert not list(tmp_path.iterdir())
