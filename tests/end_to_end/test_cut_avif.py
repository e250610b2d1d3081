"""AVIF tiles: in all layouts and containers, decoded by libheif, and refused by name elsewhere."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image

import fasttile
from fasttile.encode.codecs import Avif
from fasttile.errors import OptionError, SourceError
from fasttile.formats.avif import check_avif
from fasttile.readers import open_result
from fasttile.storage.paths import guess_media_type
from fasttile.verify import repair, verify
from profiles import display_p3
from support import reference
from support.reading import noise
from support.reference import Array

LAYOUTS = {
    "map.dzi": {},
    "zoomify": {"layout": "zoomify"},
    "xyz": {"layout": "xyz"},
    "tms": {"layout": "tms"},
    "tilecache": {"layout": "tilecache"},
    "gsiv": {"layout": "gsiv"},
    "map.zip": {"layout": "xyz"},
    "map.szi": {},
    "map.pmtiles": {},
    "map.mbtiles": {},
}


def waves(height: int, width: int, bands: int = 3) -> Array:
    """Slow waves, which AVIF of high quality keeps nearly as they are."""
    y, x, band = np.meshgrid(*(np.arange(side) for side in (height, width, bands)), indexing="ij")
    return (127.5 + 127.5 * np.sin(x / 19 + band) * np.cos(y / 17 - band)).astype(np.uint8)


def decode_by_libheif(data: bytes) -> Array:
    """Pixels of a tile, by another library than the one that Pillow has."""
    image = pyvips.Image.heifload_buffer(data)
    return np.ndarray((image.height, image.width, image.bands), np.uint8, image.write_to_memory())


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_and_container_holds_avif(name: str, tmp_path: Path) -> None:
    pixels = waves(200, 300)
    place = tmp_path / name
    options: Any = {**LAYOUTS[name], "tile_size": 128, "overlap": 0}
    fasttile.cut(pixels, place, format="avif:quality=90,subsampling=4:4:4", **options)
    with open_result(place) as result:
        assert result.extension == "avif"
        assert result.media_type == "image/avif"
        top = result.pyramid.stored_levels[-1]
        placement = result.pyramid.placement(top.number)
        raster = np.zeros((top.height, top.width, 3), np.uint8)
        for tile in result.pyramid.tiles():
            data = result.tile(*tile)
            assert data is not None
            assert check_avif(data) == len(data)
            decoded = decode_by_libheif(data)
            pillow = result.pixels(*tile)
            assert pillow is not None
            assert np.abs(decoded.astype(int) - pillow).max() <= 3
            if tile.level == top.number:
                x, y, width, height = top.region(tile.col, tile.row)
                raster[y : y + height, x : x + width] = decoded[:height, :width]
    image = raster[placement.y : placement.bottom, placement.x : placement.right]
    # The seam of the image and its padding is a step from its colours to white.
    assert np.abs(image.astype(int) - pixels).mean() < 2.5
    assert not verify(place, source=pixels).faults


def test_descriptors_name_the_format(tmp_path: Path) -> None:
    pixels = waves(60, 90)
    for name, options in LAYOUTS.items():
        fasttile.cut(pixels, tmp_path / name, format="avif", **options)
    assert 'Format="avif"' in (tmp_path / "map.dzi").read_text()
    assert (
        'mime-type="image/avif" extension="avif"'
        in (tmp_path / "tms" / "tilemapresource.xml").read_text()
    )
    assert json.loads((tmp_path / "xyz" / "tiles.json").read_text())["fasttile"]["format"] == (
        "avif"
    )
    assert (tmp_path / "map.pmtiles").read_bytes()[99] == 5  # PMTiles 3: tile type AVIF
    with sqlite3.connect(tmp_path / "map.mbtiles") as database:
        query = "SELECT value FROM metadata WHERE name='format'"
        assert database.execute(query).fetchone() == ("image/avif",)  # MBTiles 1.3: a media type
    database.close()
    assert guess_media_type("7/1_2.avif") == "image/avif"


def test_bytes_depend_on_nothing_but_pixels_and_options(tmp_path: Path) -> None:
    pixels = noise(300, 420, 3)
    found = []
    for threads in (1, 3):
        tiles: dict[Any, bytes] = {}
        fasttile.cut(pixels, store=tiles.__setitem__, format="avif", tile_size=64, threads=threads)
        found.append(tiles)
    assert found[0] == found[1]
    with fasttile.open_pyramid(pixels, format="avif", tile_size=64) as demand:
        for tile in demand.pyramid.tiles():
            assert demand.tile(*tile) in found[0].values()


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 70), (70, 1), (17, 33)])
def test_bands_and_odd_sizes(size: tuple[int, int], bands: int, tmp_path: Path) -> None:
    pixels = waves(*size, bands)
    if bands in (2, 4):
        pixels[..., -1] = 254 - np.arange(size[1], dtype=np.uint8)
    fasttile.cut(pixels, tmp_path / "x.dzi", format="avif:quality=100,subsampling=4:4:4")
    number = (max(size) - 1).bit_length()
    data = (tmp_path / f"x_files/{number}/0_0.avif").read_bytes()
    decoded = decode_by_libheif(data)
    colours = pixels[..., : bands - (bands in (2, 4))]
    if bands < 3:
        assert check_grey(data)
        colours = np.repeat(colours, 3, axis=2)
    assert decoded.shape == (*size, 4 if bands in (2, 4) else 3)
    assert np.abs(decoded[..., :3].astype(int) - colours).max() <= 3
    if bands in (2, 4):
        assert np.abs(decoded[..., 3].astype(int) - pixels[..., -1]).max() <= 1


def check_grey(data: bytes) -> bool:
    """True if the box av1C says that there is no chroma (AV1-ISOBMFF, section 2.3.3)."""
    place = data.index(b"av1C") + 4
    return bool(data[place + 2] & 0x10)


@pytest.mark.slow
def test_speed_and_quality_reach_the_encoder() -> None:
    pixels = np.ascontiguousarray(waves(128, 128) ^ (noise(128, 128, 3) & 15))

    def size(text: str) -> int:
        tiles: dict[Any, bytes] = {}
        fasttile.cut(pixels, store=tiles.__setitem__, format=text, layout="xyz", tile_size=128)
        return sum(map(len, tiles.values()))

    assert size("avif:quality=30") < size("avif:quality=90")
    assert size("avif:speed=0") != size("avif:speed=10")
    assert size("avif:subsampling=4:2:0") < size("avif:subsampling=4:4:4")
    assert size("avif:quality=65,speed=9,subsampling=4:2:0") == size("avif")


def test_a_profile_is_kept(tmp_path: Path) -> None:
    Image.fromarray(waves(40, 60)).save(tmp_path / "p3.png", icc_profile=display_p3())
    fasttile.cut(tmp_path / "p3.png", tmp_path / "kept.dzi", format="avif", icc="keep")
    data = (tmp_path / "kept_files/6/0_0.avif").read_bytes()
    assert Image.open(io.BytesIO(data)).info["icc_profile"] == display_p3()
    assert pyvips.Image.heifload_buffer(data).get("icc-profile-data") == display_p3()
    fasttile.cut(tmp_path / "kept.dzi", tmp_path / "again.dzi", format="png")
    fasttile.cut(tmp_path / "p3.png", tmp_path / "direct.dzi", format="png")
    again, direct = (
        np.asarray(Image.open(tmp_path / f"{name}_files/6/0_0.png")).astype(int)
        for name in ("again", "direct")
    )
    assert np.abs(again - direct).mean() < 4


REFUSED = {
    "iiif2": ({"layout": "iiif2:id=https://example.org/x"}, "iiif", "use jpeg, png or webp"),
    "iiif3": ({"layout": "iiif3:id=https://example.org/x"}, "iiif", "use jpeg, png or webp"),
    "tiff": ({}, "x.tif", "a pyramidal TIFF holds no avif tiles; expected jpeg or deflate"),
    "16 bits": ({"bits": 16}, "x.dzi", "avif tiles hold 8 bits, not 16; use png or bits=8"),
    "lossless": ({"format": "avif:lossless"}, "x.dzi", "has no parameter 'lossless'"),
    "speed": ({"format": "avif:speed=11"}, "x.dzi", "AVIF speed 11 is not between 0 and 10"),
    "quality": ({"format": "avif:quality=0"}, "x.dzi", "AVIF quality 0 is not between 1 and 100"),
    "side": ({"tile_size": 16385}, "x.dzi", "avif allows 16384"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str, tmp_path: Path) -> None:
    options, name, message = REFUSED[case]
    pixels = np.zeros((2, 16400, 1), np.uint16)
    with pytest.raises(OptionError) as caught:
        fasttile.cut(pixels, tmp_path / name, **{"format": "avif", "window": "full", **options})
    assert message in str(caught.value)
    assert not [*tmp_path.iterdir()]


def test_a_pillow_without_the_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = waves(70, 90)
    fasttile.cut(pixels, tmp_path / "x", layout="xyz", format="avif", tile_size=32)
    monkeypatch.setitem(sys.modules, "PIL._avif", None)  # as if it were not installed
    with pytest.raises(OptionError, match="format avif: this Pillow has no encoder for it; "):
        fasttile.cut(pixels, tmp_path / "y.dzi", format="avif:speed=1")
    # Tiles are copied without it.
    fasttile.convert(tmp_path / "x", tmp_path / "x.pmtiles")
    with open_result(tmp_path / "x") as old, open_result(tmp_path / "x.pmtiles") as new:
        for tile in old.pyramid.tiles():
            assert old.tile(*tile) == new.tile(*tile)


def test_conversions(tmp_path: Path) -> None:
    pixels = waves(300, 420)
    fasttile.cut(pixels, tmp_path / "a.dzi", format="avif:speed=10", tile_size=256, overlap=0)
    fasttile.convert(tmp_path / "a.dzi", tmp_path / "z", layout="zoomify:rounding=ceil")
    name = "TileGroup0/1-1-0.avif"
    assert (tmp_path / "z" / name).read_bytes() == (tmp_path / "a_files/9/1_0.avif").read_bytes()
    iiif = "iiif3:id=https://example.org/x"
    with pytest.raises(OptionError, match=r"IIIF.* has no name for avif; use --reencode"):
        fasttile.convert(tmp_path / "a.dzi", tmp_path / "i", layout=iiif)
    fasttile.convert(tmp_path / "a.dzi", tmp_path / "t", layout="tms", reencode=True)
    with open_result(tmp_path / "t") as result:
        assert result.extension == "avif"
        record = json.loads(result.record() or b"")
    assert record["options"]["format"] == "avif:speed=10"


@pytest.mark.parametrize("cut_off", [1, 40, 10**9])
def test_damaged_tiles_are_found(cut_off: int, tmp_path: Path) -> None:
    pixels = waves(100, 150)
    fasttile.cut(pixels, tmp_path / "a.dzi", format="avif", tile_size=64)
    place = tmp_path / "a_files/8/1_0.avif"
    data = place.read_bytes()
    place.write_bytes(data[: max(len(data) - cut_off, data.index(b"mdat") - 4)])
    report = verify(tmp_path / "a.dzi")
    assert [fault.name for fault in report.faults] == ["a_files/8/1_0.avif"]
    with pytest.raises(SourceError, match=r"1_0\.avif.* is truncated"):
        fasttile.convert(tmp_path / "a.dzi", tmp_path / "b.szi")
    repair(tmp_path / "a.dzi", source=pixels)
    assert place.read_bytes() == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "truncated: it has no image data"),
        (b"\0\0\0\x10ftypavif\0\0\0\0", "truncated: it has no image data"),
        (b"\0\0\0\x04ftypavif", "impossible size"),
        (b"\0\0\0\x01mdat\xff\xff\xff\xff\xff\xff\xff\xff", "is truncated"),
        (b"\0\0\0\x10ftypavif\0\0\0\0\0\0\0\x09mdat", "is truncated: it has 24 of 25 bytes"),
    ],
)
def test_boxes_that_are_no_file(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_avif(data)


def test_boxes_of_any_size() -> None:
    head = b"\0\0\0\x10ftypavif\0\0\0\0"
    assert check_avif(head + b"\0\0\0\0mdat123") == 27  # the last box goes up to the end
    assert check_avif(head + b"\0\0\0\1mdat\0\0\0\0\0\0\0\x11x") == 33
    assert check_avif(head + b"\0\0\0\x09mdatx" + bytes(20)) == 25


def test_the_text_of_the_option() -> None:
    assert Avif().option_text() == "avif"
    assert fasttile.Avif(speed=3, quality=50).option_text() == "avif:quality=50,speed=3"


def test_levels_are_halved_as_for_other_formats(tmp_path: Path) -> None:
    pixels = waves(256, 256)
    fasttile.cut(pixels, tmp_path / "a.dzi", format="avif:quality=95,subsampling=4:4:4")
    for number, level in enumerate(reference.levels(pixels)):
        if number >= 3:
            data = (tmp_path / f"a_files/{number}/0_0.avif").read_bytes()
            height, width = (min(side, 255) for side in level.shape[:2])
            expected = level[:height, :width].astype(int)
            assert np.abs(decode_by_libheif(data) - expected).mean() < 2.5
