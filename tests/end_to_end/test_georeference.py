"""Georeference of a source in TIFF results and map tiles, as rasterio (GDAL) reads both."""

from __future__ import annotations

import json
import math
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from pmtiles.reader import MmapSource, Reader
from rasterio.control import GroundControlPoint
from rasterio.warp import transform_bounds
from rasterio.windows import Window

import fasttile
from fasttile.cli.info import describe
from fasttile.errors import TargetError
from fasttile.formats.geotiff import WEB_MERCATOR_SIDE, GeoReference
from fasttile.readers import open_result
from fasttile.verify import repair, verify
from support.reading import noise

Pixels = NDArray[Any]

# By rasterio, which multiplies as affine does not want it any more.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")


def from_origin(x: float, y: float, width: float, height: float) -> Affine:
    return Affine(width, 0, x, 0, -height, y)


UTM = from_origin(399_960.0, 5_800_020.0, 10.0, 10.0)
ROTATED = Affine(9.5, 1.25, 399_960.0, -1.5, -8.75, 5_800_020.0)
KINDS = ["tiff", "tiff:cog", "tiff:ome"]


def write_geotiff(path: Path, pixels: Pixels, **options: Any) -> Path:
    """A GeoTIFF by GDAL of pixels (height, width, bands)."""
    height, width, bands = pixels.shape
    profile = {"crs": "EPSG:32633", "transform": UTM, "driver": "GTiff"} | options
    tags, point = profile.pop("tags", {}), profile.pop("point", False)
    environment = {"GTIFF_POINT_GEO_IGNORE": False}
    with rasterio.Env(**environment):  # noqa: SIM117
        with rasterio.open(
            path, "w", width=width, height=height, count=bands, dtype=pixels.dtype, **profile
        ) as out:
            out.write(np.moveaxis(pixels, 2, 0))
            if point:
                out.update_tags(AREA_OR_POINT="Point")
            out.update_tags(**tags)
    return path


def assert_same_place(
    path: Path, source: Path, x: int = 0, y: int = 0, unit: int = 1, **options: Any
) -> None:
    """A result begins at x, y of a source, and its pixels are a multiple of the source's."""
    with rasterio.open(path, **options) as found, rasterio.open(source) as expected:
        assert found.crs == expected.crs
        transform = expected.transform @ Affine.translation(x, y) @ Affine.scale(unit)
        assert np.allclose(found.transform[:6], transform[:6], rtol=1e-13, atol=1e-7)
        assert found.tags().get("AREA_OR_POINT") == expected.tags().get("AREA_OR_POINT")


# ---- TIFF --------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", [False, True], ids=["area", "point"])
@pytest.mark.parametrize("transform", [UTM, ROTATED], ids=["north", "rotated"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_tiff_is_where_its_source_is(
    tmp_path: Path, kind: str, transform: Affine, point: bool
) -> None:
    source = write_geotiff(
        tmp_path / "in.tif", noise(300, 401, 3), transform=transform, point=point
    )
    path = fasttile.cut(source, tmp_path / "all.tif", layout=kind, format="deflate").path
    assert_same_place(Path(path), source)
    with rasterio.open(path) as found, rasterio.open(source) as expected:
        assert found.bounds == expected.bounds
        assert np.array_equal(found.read(), expected.read())
    options: Any = {"layout": kind, "format": "deflate", "tile_size": 64}
    region = fasttile.cut(source, tmp_path / "part.tif", region=(37, 91, 200, 150), **options).path
    assert_same_place(Path(region), source, 37, 91)
    with rasterio.open(region) as found, rasterio.open(source) as expected:
        window = Window(37, 91, 200, 150)
        assert np.array_equal(found.read(), expected.read(window=window))
    small = fasttile.cut(source, tmp_path / "small.tif", levels="0-1", **options).path
    assert_same_place(Path(small), source, unit=4)
    both = tmp_path / "both.tif"
    fasttile.cut(source, both, levels="0-1", region=(37, 91, 250, 150), **options)
    assert_same_place(both, source, 37, 91, 2)


@pytest.mark.parametrize("point", [False, True], ids=["area", "point"])
def test_ground_control_points_move_with_the_pixels(tmp_path: Path, point: bool) -> None:
    points = [
        GroundControlPoint(row, col, 13 + col / 500, 52 - row / 700 + col / 9000, 0)
        for row, col in ((0, 0), (0, 400), (299, 0), (299, 400), (120, 200.5))
    ]
    source = write_geotiff(
        tmp_path / "in.tif", noise(300, 401, 1), transform=None, gcps=points, point=point
    )
    results = {
        (10, 20, 1): fasttile.cut(source, tmp_path / "part.tif", region=(10, 20, 300, 200)).path,
        (0, 0, 2): fasttile.cut(source, tmp_path / "half.tif", levels="0-0").path,
    }
    with rasterio.open(source) as image:
        expected, crs = image.gcps
    for (x, y, unit), path in results.items():
        with rasterio.open(path) as found:
            moved, found_crs = found.gcps
        assert found_crs == crs
        for one, other in zip(moved, expected, strict=True):
            assert (one.x, one.y) == (other.x, other.y)
            assert one.col == pytest.approx((other.col - x) / unit)
            assert one.row == pytest.approx((other.row - y) / unit)


@pytest.mark.parametrize("compress", ["none", "lzw", "deflate"])
def test_compressed_sources_and_those_read_by_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: str
) -> None:
    source = write_geotiff(tmp_path / "in.tif", noise(120, 90, 3), compress=compress, tiled=True)
    assert_same_place(Path(fasttile.cut(source, tmp_path / "a.tif").path), source)
    monkeypatch.setattr("fasttile.sources.tiff.codecs.make_decoder", lambda tags: None)
    region = fasttile.cut(source, tmp_path / "b.tif", region=(5, 6, 40, 30)).path
    assert_same_place(Path(region), source, 5, 6)


def test_nodata_and_items_stay_where_values_do(tmp_path: Path) -> None:
    tags = {"AREA": "north", "STATISTICS_MAXIMUM": "9"}
    pixels = noise(120, 90, 1, dtype=np.uint16)
    source = write_geotiff(tmp_path / "in.tif", pixels, nodata=17, tags=tags)
    with rasterio.open(source, "r+") as image:
        image.scales, image.offsets = [0.5], [3.0]
    kept = tmp_path / "kept.tif"
    fasttile.cut(source, kept, bits=16, format="deflate", nodata="none")
    with rasterio.open(kept) as found:
        assert (found.nodata, found.scales, found.offsets) == (17, (0.5,), (3.0,))
        assert found.tags()["AREA"] == "north"
        assert "STATISTICS_MAXIMUM" not in found.tags()
    changed = fasttile.cut(source, tmp_path / "changed.tif", window=(0, 1000)).path
    with rasterio.open(changed) as found:
        assert (found.nodata, found.scales, found.offsets) == (None, (1.0,), (0.0,))
        assert found.tags()["AREA"] == "north"


@pytest.mark.parametrize("compress", ["none", "deflate"])
def test_palettes_have_other_values(tmp_path: Path, compress: str) -> None:
    source = tmp_path / "in.tif"
    write_geotiff(source, noise(64, 64, 1), nodata=3, photometric="palette", compress=compress)
    with rasterio.open(source, "r+") as image:
        image.write_colormap(1, {value: (value, 0, 255 - value, 255) for value in range(256)})
    path = fasttile.cut(source, tmp_path / "out.tif", format="deflate").path
    assert_same_place(Path(path), source)
    with rasterio.open(path) as found:
        assert found.nodata is None
        alpha = found.read(4)
    with rasterio.open(source) as image:
        assert np.array_equal(alpha == 0, image.read(1) == 3)


def test_a_turned_image_has_none(tmp_path: Path) -> None:
    source = write_geotiff(tmp_path / "in.tif", noise(64, 64, 3))
    data = bytearray(source.read_bytes())
    with tifffile.TiffFile(source) as file:
        offset = file.pages[0].tags[284].offset  # PlanarConfiguration
    data[offset : offset + 12] = struct.pack("<HHIHH", 274, 3, 1, 6, 0)
    source.write_bytes(data)
    report = fasttile.cut(source, tmp_path / "out.tif")
    assert "georeference left out: the image is turned" in report.notes
    with tifffile.TiffFile(report.path) as file:
        assert not file.pages[0].is_geotiff


@pytest.mark.parametrize(
    ("tag", "change"),
    [(33922, struct.pack("<HI", 12, 5)), (33550, struct.pack("<HI", 12, 2**27)), (34735, b"")],
)
def test_a_damaged_georeference_is_left_out(tmp_path: Path, tag: int, change: bytes) -> None:
    source = write_geotiff(tmp_path / "in.tif", noise(64, 64, 3))
    data = bytearray(source.read_bytes())
    with tifffile.TiffFile(source) as file:
        offset = file.pages[0].tags[tag].offset
    if change:
        data[offset + 2 : offset + 8] = change
    else:
        data[offset + 8 : offset + 12] = b"\xff\xff\xff\x7f"
    source.write_bytes(data)
    report = fasttile.cut(source, tmp_path / "out.tif")
    assert [note for note in report.notes if note.startswith("georeference left out: ")]
    with tifffile.TiffFile(report.path) as file:
        assert not file.pages[0].is_geotiff


def test_convert_and_repair_keep_it(tmp_path: Path) -> None:
    source = write_geotiff(tmp_path / "in.tif", noise(300, 200, 3))
    first = fasttile.cut(source, tmp_path / "a.tif").path
    cog = Path(fasttile.convert(first, tmp_path / "b.tif", layout="tiff:cog").path)
    assert_same_place(cog, source)
    again = fasttile.convert(cog, tmp_path / "c.tif", layout="tiff:ome", reencode=True).path
    assert_same_place(Path(again), source)
    with open_result(cog) as reader:
        lossy = fasttile.cut(reader, tmp_path / "d.tif", region=(8, 9, 99, 98)).path
        (offset, *_), (size, *_) = reader._pages[0].offsets, reader._pages[0].byte_counts  # type: ignore[attr-defined]
    assert_same_place(Path(lossy), source, 8, 9)
    data = bytearray(cog.read_bytes())
    data[int(offset) : int(offset + size)] = bytes(int(size))
    cog.write_bytes(data)
    assert verify(cog).fault_count == 1
    with rasterio.open(source) as image:
        pixels = np.ascontiguousarray(np.moveaxis(image.read(), 0, 2))
    with pytest.raises(TargetError, match=r"b\.tif: its georeference is not that of the image"):
        repair(cog, pixels)
    assert cog.read_bytes() == data
    assert repair(cog, source).fault_count == 0
    assert_same_place(cog, source)


def test_without_georeference_nothing_is_said(tmp_path: Path) -> None:
    for name in ("a.tif", "b.pmtiles"):
        report = fasttile.cut(noise(99, 98, 3), tmp_path / name)
        assert report.notes == ()
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert not file.pages[0].is_geotiff


def test_info_shows_it(tmp_path: Path) -> None:
    utm = write_geotiff(tmp_path / "utm.tif", noise(64, 64, 3))
    web = tmp_path / "web.tif"
    write_geotiff(web, noise(64, 64, 3), crs="EPSG:3857", transform=mercator())
    assert ("map", "EPSG:32633") in describe(str(utm))
    assert ("map", "EPSG:3857; XYZ tiles of it are a map") in describe(str(web))


# ---- map tiles ---------------------------------------------------------------------------------

ZOOM = 14
STEP = WEB_MERCATOR_SIDE / (256 << ZOOM)
COL, ROW = 2_000_123, 1_400_077
"""First pixel of the image on the square of the world at this zoom."""


def mercator(x: float = COL, y: float = ROW, step: float = STEP) -> Affine:
    half = WEB_MERCATOR_SIDE / 2
    return from_origin(x * STEP - half, half - y * STEP, step, step)


@pytest.mark.parametrize("point", [False, True], ids=["area", "point"])
def test_web_mercator_becomes_a_map(tmp_path: Path, point: bool) -> None:
    """GDAL reads the MBTiles: its pixels are where they are in the source."""
    pixels = noise(400, 500, 3)
    source = write_geotiff(
        tmp_path / "in.tif", pixels, crs="EPSG:3857", transform=mercator(), point=point
    )
    report = fasttile.cut(source, tmp_path / "map.mbtiles", format="png")
    assert report.notes[-1] == "the tiles are a map: zooms 0 to 14 of Web Mercator"
    with rasterio.open(report.path) as found, rasterio.open(source) as expected:
        assert found.crs.to_epsg() == 3857
        assert found.transform.a == pytest.approx(STEP, rel=1e-9)
        x = (expected.bounds.left - found.transform.c) / found.transform.a
        y = (expected.bounds.top - found.transform.f) / found.transform.e
        assert (x, y) == pytest.approx((round(x), round(y)), abs=1e-3)
        window = Window(round(x), round(y), 500, 400)
        assert np.array_equal(np.moveaxis(found.read((1, 2, 3), window=window), 0, 2), pixels)
    assert verify(tmp_path / "map.mbtiles", source=source).fault_count == 0


def test_a_map_with_transparent_surroundings(tmp_path: Path) -> None:
    """GDAL shows what is below it: tiles with and without alpha are mixed."""
    pixels = noise(700, 900, 3)
    source = write_geotiff(tmp_path / "in.tif", pixels, crs="EPSG:3857", transform=mercator())
    options: Any = {"format": "png", "background": "transparent"}
    report = fasttile.cut(source, tmp_path / "map.mbtiles", **options)
    with rasterio.open(report.path) as found, rasterio.open(source) as expected:
        x = round((expected.bounds.left - found.transform.c) / found.transform.a)
        y = round((expected.bounds.top - found.transform.f) / found.transform.e)
        shown = np.moveaxis(found.read(), 0, 2)
    assert shown.shape[2] == 4
    part = shown[y : y + 700, x : x + 900]
    assert np.array_equal(part[..., :3], pixels)
    assert (part[..., 3] == 255).all()
    part[...] = 0
    assert (shown[..., 3] == 0).all()
    assert verify(tmp_path / "map.mbtiles", source=source).fault_count == 0
    with open_result(report.path) as reader:
        top = reader.pyramid.stored_levels[-1]
        bands = {
            pixels.shape[2] for tile in top.tiles() if (pixels := reader.pixels(*tile)) is not None
        }
    assert bands == {3, 4}


@pytest.mark.parametrize("name", ["map.pmtiles", "map", "map.zip"])
def test_addresses_of_map_tiles(tmp_path: Path, name: str) -> None:
    pixels = noise(400, 500, 3)
    source = write_geotiff(tmp_path / "in.tif", pixels, crs="EPSG:3857", transform=mercator())
    options: Any = {"layout": "xyz", "format": "png", "region": (100, 50, 300, 300)}
    path = fasttile.cut(source, tmp_path / name, levels="10-14", **options).path
    with open_result(path) as reader:
        assert reader.pyramid.stored_range.stop - 1 - reader.layout.base_level == ZOOM
        top = reader.pyramid.stored_levels[-1]
        assert (top.first_col, top.first_row) == ((COL + 100) // 256, (ROW + 50) // 256)
        assert reader.pyramid.size == (300, 300)
        place = reader.pyramid.placement(top.number)
        tile = reader.pixels(top.number, 0, 0)
        assert tile is not None
        part = tile[place.y :, place.x :]
        assert np.array_equal(part, pixels[50:, 100:][: part.shape[0], : part.shape[1]])
    assert verify(path, source=source).fault_count == 0
    with fasttile.open_pyramid(source, layout="xyz", format="png") as live:
        assert live.layout.pyramid.canvas.width == 256 << ZOOM


@pytest.mark.parametrize(
    "options",
    [{"levels": "9-12"}, {"region": (31, 17, 301, 3)}, {"resume": True}, {"skip_blank": 0}],
    ids=str,
)
def test_map_tiles_on_demand_are_those_of_the_cut(tmp_path: Path, options: dict[str, Any]) -> None:
    source = write_geotiff(
        tmp_path / "in.tif", noise(400, 500, 3), crs="EPSG:3857", transform=mercator()
    )
    path = fasttile.cut(source, tmp_path / "map", layout="xyz", **options).path
    assert verify(path, source=source).fault_count == 0
    options.pop("resume", None)
    with (
        open_result(path) as reader,
        fasttile.open_pyramid(source, layout="xyz", **options) as live,
    ):
        assert live.pyramid == reader.pyramid
        tiles = [*reader.pyramid.tiles()]
        assert len(tiles) >= 4
        for tile in tiles:
            assert live.tile(*tile) == reader.tile(*tile)


def test_bounds_and_centre_of_map_tiles(tmp_path: Path) -> None:
    source = write_geotiff(
        tmp_path / "in.tif", noise(400, 500, 3), crs="EPSG:3857", transform=mercator()
    )
    with rasterio.open(source) as image:
        expected = transform_bounds(image.crs, "EPSG:4326", *image.bounds)
    centre = (expected[0] + expected[2]) / 2, (expected[1] + expected[3]) / 2
    fasttile.cut(source, tmp_path / "a.pmtiles")
    with (tmp_path / "a.pmtiles").open("rb") as file:
        header = Reader(MmapSource(file)).header()
    found = [header[f"{name}_e7"] / 1e7 for name in ("min_lon", "min_lat", "max_lon", "max_lat")]
    assert found == pytest.approx(expected, abs=2e-7)
    assert header["center_zoom"] == ZOOM - 1  # where it has 250×200 pixels
    fasttile.cut(source, tmp_path / "a.mbtiles")
    with closing(sqlite3.connect(tmp_path / "a.mbtiles")) as database:
        values = dict(database.execute("SELECT name, value FROM metadata"))
    assert [*map(float, values["bounds"].split(","))] == pytest.approx(expected, abs=2e-7)
    assert [*map(float, values["center"].split(","))] == pytest.approx((*centre, 13), abs=1e-5)
    fasttile.cut(source, tmp_path / "site", layout="xyz")
    found = json.loads((tmp_path / "site" / "tiles.json").read_text())["bounds"]
    assert found == pytest.approx(expected, abs=2e-7)


@pytest.mark.parametrize("place", [1e308, -1e308, 1e300, 2e7, math.nextafter(0, 1)])
def test_places_that_no_map_has(place: float) -> None:
    for step in (1e-300, 1e-3, 1.0, STEP, 1e7, 1e300):
        found = GeoReference(
            pixel_scale=(step, step, 0.0),
            tie_points=(0.0, 0.0, 0.0, place, -place, 0.0),
            keys=(1, 1, 0, 1, 3072, 0, 1, 3857),
        )
        if place > 1:
            assert found.mercator_place(5, 5) is None
        found.downscaled(60).cropped(2**40, 2**40).tags()


@pytest.mark.parametrize("size", [512, 256, 100])
def test_the_size_of_tiles_decides_the_zoom(tmp_path: Path, size: int) -> None:
    source = write_geotiff(
        tmp_path / "in.tif", noise(40, 50, 1), crs="EPSG:3857", transform=mercator()
    )
    report = fasttile.cut(source, tmp_path / "map", layout="xyz", tile_size=size)
    zooms = {512: "0 to 13", 256: "0 to 14"}
    expected = "the tiles are not a map: these options do not put the image at its place"
    if size in zooms:
        expected = f"the tiles are a map: zooms {zooms[size]} of Web Mercator"
    assert report.notes[-1].partition(";")[0] == expected


def test_tiles_of_two_sizes_are_a_map_too(tmp_path: Path) -> None:
    pixels = noise(400, 500, 3)
    source = write_geotiff(tmp_path / "in.tif", pixels, crs="EPSG:3857", transform=mercator())
    options: Any = {"layout": "xyz:scale=2", "format": "png", "levels": "9-13"}
    report = fasttile.cut(source, tmp_path / "map", **options)
    assert report.notes[-1] == "the tiles are a map: zooms 9 to 13 of Web Mercator"
    top = tmp_path / f"map/{ZOOM - 1}/{COL // 512}"
    for name, side in ((f"{ROW // 512}@2x.png", 512), (f"{ROW // 512}.png", 256)):
        with Image.open(top / name) as image:
            assert image.size == (side, side)
            tile = np.asarray(image)
        if side == 512:
            part = tile[ROW % 512 :, COL % 512 :]
            assert np.array_equal(part, pixels[: part.shape[0], : part.shape[1]])
    assert verify(tmp_path / "map", source=source).fault_count == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "the image is in EPSG:32633"),
        (
            {"crs": "EPSG:4326", "transform": from_origin(13, 52, 1e-4, 1e-4)},
            "in EPSG:4326",
        ),
        ({"crs": "EPSG:3857", "transform": mercator(x=COL + 0.02)}, "not those of a zoom of Web"),
        ({"crs": "EPSG:3857", "transform": mercator(y=ROW + 0.5)}, "not those of a zoom of Web"),
        ({"crs": "EPSG:3857", "transform": mercator(step=STEP * 1.001)}, "not those of a zoom of"),
        ({"crs": "EPSG:3857", "transform": mercator(x=-5)}, "not those of a zoom of Web Mercator"),
    ],
)
@pytest.mark.parametrize("layout", ["xyz", "tms"])
def test_other_images_become_no_map(
    tmp_path: Path, options: dict[str, Any], reason: str, layout: str
) -> None:
    source = write_geotiff(tmp_path / "in.tif", noise(300, 400, 1), **options)
    report = fasttile.cut(source, tmp_path / "map", layout=layout)
    assert report.notes[-1].startswith("the tiles are not a map: ")
    assert reason in report.notes[-1]
    with open_result(report.path) as reader:
        assert reader.pyramid.canvas.width == 512
    assert fasttile.cut(source, tmp_path / "map.dzi").notes == ()


def test_a_centred_image_is_no_map(tmp_path: Path) -> None:
    source = write_geotiff(
        tmp_path / "in.tif", noise(300, 400, 1), crs="EPSG:3857", transform=mercator()
    )
    report = fasttile.cut(source, tmp_path / "map", layout="xyz:centre")
    assert "these options do not put the image at its place" in report.notes[-1]


def test_a_result_in_web_mercator_converts_to_map_tiles(tmp_path: Path) -> None:
    source = write_geotiff(
        tmp_path / "in.tif", noise(300, 400, 3), crs="EPSG:3857", transform=mercator()
    )
    tiff = fasttile.cut(source, tmp_path / "a.tif", format="deflate").path
    report = fasttile.convert(tiff, tmp_path / "b.pmtiles", reencode=True)
    assert report.notes[-1] == "the tiles are a map: zooms 0 to 14 of Web Mercator"
    jpeg = fasttile.cut(source, tmp_path / "c.tif").path
    report = fasttile.convert(jpeg, tmp_path / "d.pmtiles")
    assert report.notes[-1].startswith("the tiles are not a map: ")
