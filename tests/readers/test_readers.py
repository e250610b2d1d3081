"""Results read back: all tiles of all layouts, folders and archives, of fasttile and libvips."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fasttile.abc.layout import Layout
from fasttile.errors import SourceError
from fasttile.geometry import Tile
from fasttile.layouts import LayoutSpec
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.readers import is_pyramid, open_result
from support.cut_cases import any_format_in_iiif2
from support.reading import noise
from support.reference import Array
from support.result_cases import (
    assert_holds_tiles,
    expected_tiles,
    read_on_threads,
    result_files,
    write_folder,
    write_zip,
)

pyvips = pytest.importorskip("pyvips")

SPELLINGS = [
    "dzi",
    "zoomify",
    "zoomify:rounding=ceil",
    "xyz",
    "xyz:template={z}-{y}-{x},centre",
    "xyz:scale=2",
    "tms",
    "tilecache",
    "gsiv",
    "iiif2:id=https://example.org/i/map",
    "iiif3:id=https://example.org/i/map",
]


def layout_of(spelling: str, pixels: Array, name: str = "map", **options: Any) -> Layout:
    height, width, _ = pixels.shape
    with any_format_in_iiif2():
        return LayoutSpec.parse(spelling).bind(name, width, height, "png", **options)


def result_path(layout: Layout, folder: Path) -> Path:
    """What a user opens."""
    return folder / layout.entry_point


# ---- there and back ----------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_layout_in_a_folder(spelling: str, tmp_path: Path) -> None:
    pixels = noise(45, 70, 3)
    layout = layout_of(spelling, pixels, tile_size=16)
    write_folder(tmp_path, result_files(layout, pixels))
    for place in (
        result_path(layout, tmp_path),
        *(tmp_path / name for name in layout.descriptors()),
    ):
        assert is_pyramid(place)
        with open_result(place) as reader:
            assert reader.layout == layout
            assert (reader.name, reader.path, reader.format_name) == ("map", place, layout.title)
            assert (reader.extension, reader.media_type) == ("png", "image/png")
            assert reader.allows_missing_tiles == layout.sparse
            assert reader.pyramid is reader.layout.pyramid
            assert_holds_tiles(reader, expected_tiles(layout, pixels))


@pytest.mark.parametrize("prefix", ["", "a folder/"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_layout_in_a_zip(spelling: str, method: int, prefix: str, tmp_path: Path) -> None:
    pixels = noise(45, 70, 1)
    layout = layout_of(spelling, pixels, tile_size=16)
    files = result_files(layout, pixels)
    if not spelling.startswith("dzi"):
        # Everything lies in a folder already, which may be left out too.
        name = "a folder" if prefix else "archive"
        files = {prefix + path.removeprefix("map/"): data for path, data in files.items()}
    else:
        name = "map"
        files = {prefix + path: data for path, data in files.items()}
    place = tmp_path / "archive.zip"
    write_zip(place, {**files, "__MACOSX/._x": b""}, method=method)
    assert is_pyramid(place)
    with open_result(place) as reader:
        assert reader.name == name
        assert reader.format_name == f"{layout.title} in ZIP"
        assert_holds_tiles(reader, expected_tiles(layout, pixels))


def test_an_szi(tmp_path: Path) -> None:
    pixels = noise(45, 70, 4)
    layout = layout_of("dzi", pixels, tile_size=16, overlap=0)
    files = result_files(layout, pixels) | {"scan-properties.xml": b"<image/>"}
    write_zip(tmp_path / "other.szi", files, prefix="map/")
    with open_result(tmp_path / "other.szi") as reader:
        assert (reader.name, reader.format_name) == ("map", "Deep Zoom in SZI")
        assert_holds_tiles(reader, expected_tiles(layout, pixels))


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_bands(bands: int, tmp_path: Path) -> None:
    pixels = noise(20, 30, bands)
    layout = layout_of("dzi", pixels, tile_size=16)
    write_folder(tmp_path, result_files(layout, pixels))
    with open_result(tmp_path / "map.dzi") as reader:
        assert_holds_tiles(reader, expected_tiles(layout, pixels))


def test_16_bits(tmp_path: Path) -> None:
    pixels = noise(20, 30, 1, dtype=np.uint16)
    layout = layout_of("zoomify", pixels, tile_size=16)
    write_folder(tmp_path, result_files(layout, pixels))
    with open_result(tmp_path / "map") as reader:
        assert_holds_tiles(reader, expected_tiles(layout, pixels))


@pytest.mark.parametrize(
    ("mode", "bands"), [("P", 3), ("1", 1), ("CMYK", 3), ("PA", 4), ("I;16", 1)]
)
def test_tiles_in_other_modes(mode: str, bands: int, tmp_path: Path) -> None:
    data = io.BytesIO()
    if mode == "PA":  # a palette with a transparent colour
        image = Image.new("P", (5, 4), 1)
        image.putpalette([9, 9, 9, 1, 2, 3])
        image.save(data, "PNG", transparency=0)
        value: tuple[int, ...] = (1, 2, 3, 255)
    else:
        image = Image.new(mode, (5, 4))
        image.save(data, "JPEG" if mode == "CMYK" else "PNG")
        value = (255,) * 3 if mode == "CMYK" else (0,) * bands
    layout = DeepZoom.from_size("map", 5, 4, "png", tile_size=16, levels="3-3")
    write_folder(tmp_path, {**layout.descriptors(), "map_files/3/0_0.png": data.getvalue()})
    with open_result(tmp_path / "map.dzi") as reader:
        pixels = reader.pixels(3, 0, 0)
    assert pixels is not None
    assert pixels.shape == (4, 5, bands)
    assert (pixels == value).all()
    assert pixels.flags.writeable


def test_a_name_that_is_no_plain_one(tmp_path: Path) -> None:
    pixels = noise(20, 30, 3)
    for name in ("-o a & 'b' <c>", "Über 50% 日本", "map.tif", "{z}"):
        for spelling in ("dzi", "tms", "xyz"):
            layout = layout_of(spelling, pixels, name=name, tile_size=16)
            folder = tmp_path / spelling
            write_folder(folder, result_files(layout, pixels))
            with open_result(result_path(layout, folder)) as reader:
                assert reader.name == name
                assert_holds_tiles(reader, expected_tiles(layout, pixels))


def test_a_folder_by_all_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(20, 30, 3)
    layout = layout_of("zoomify", pixels, tile_size=16)
    write_folder(tmp_path, result_files(layout, pixels))
    (tmp_path / "inner").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "map")
    monkeypatch.chdir(tmp_path / "map")
    names = {
        ".": "map",
        "../map/": "map",
        "ImageProperties.xml": "map",
        "../map/ImageProperties.xml": "map",
        "../link": "link",
        "../inner/../map": "map",
    }
    for place, name in names.items():
        with open_result(place) as reader:
            assert reader.name == name
            assert_holds_tiles(reader, expected_tiles(layout, pixels))
    monkeypatch.chdir(tmp_path / "map/TileGroup0")
    for place in ("..", "../ImageProperties.xml"):
        with open_result(place) as reader:
            assert reader.name == "map"


def test_a_folder_with_one_deep_zoom_image(tmp_path: Path) -> None:
    pixels = noise(20, 30, 3)
    layout = layout_of("dzi:json", pixels, tile_size=16)
    write_folder(tmp_path, result_files(layout, pixels))
    for place in (tmp_path, tmp_path / "map.json"):
        with open_result(place) as reader:
            assert reader.name == "map"
            assert_holds_tiles(reader, expected_tiles(layout, pixels))
    for number in range(5):
        (tmp_path / f"other{number}.dzi").write_bytes(b"")
    message = r"map\.dzi, other0\.dzi, other1\.dzi and 3 more; name one of them"
    with pytest.raises(SourceError, match=message):
        open_result(tmp_path)


def test_levels_that_were_not_kept(tmp_path: Path) -> None:
    pixels = noise(45, 70, 3)
    for spelling, levels in (("dzi", "4-7"), ("dzi", "2-5"), ("xyz", "1-2"), ("tms", "1-3")):
        layout = layout_of(spelling, pixels, name=spelling + levels, tile_size=16, levels=levels)
        write_folder(tmp_path, result_files(layout, pixels))
        with open_result(result_path(layout, tmp_path)) as reader:
            assert len(reader.pyramid.stored_range) == len(layout.pyramid.stored_range)
            found = expected_tiles(layout, pixels)
            shift = reader.pyramid.stored_range[0] - layout.pyramid.stored_range[0]
            assert_holds_tiles(
                reader, {(n + shift, x, y): tile for (n, x, y), tile in found.items()}
            )


# ---- libvips -----------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["folder", "zip"])
@pytest.mark.parametrize("layout", ["dz", "zoomify", "iiif", "iiif3"])
def test_what_libvips_writes(layout: str, container: str, tmp_path: Path) -> None:
    pixels = noise(700, 1001, 3)
    vips = pyvips.Image.new_from_array(pixels)
    place = tmp_path / ("map.zip" if container == "zip" else "map")
    vips.dzsave(str(place), layout=layout, suffix=".png", tile_size=256, overlap=0)
    if (layout, container) == ("dz", "folder"):
        place = place.with_suffix(".dzi")
    with open_result(place) as reader:
        assert reader.name == "map"
        assert reader.extension == "png"
        assert reader.pyramid.size == (1001, 700)
        rounding = "ceil" if layout == "zoomify" else None
        assert getattr(reader.layout, "rounding", None) == rounding
        assert_holds_tiles(reader, expected_tiles(reader.layout, pixels))


def test_szi_of_libvips(tmp_path: Path) -> None:
    pixels = noise(300, 500, 3)
    vips = pyvips.Image.new_from_array(pixels)
    vips.dzsave(str(tmp_path / "map.szi"), suffix=".png")
    with open_result(tmp_path / "map.szi") as reader:
        assert (reader.format_name, reader.name) == ("Deep Zoom in SZI", "map")
        assert_holds_tiles(reader, expected_tiles(reader.layout, pixels))


# ---- addresses ---------------------------------------------------------------------------------


@pytest.fixture
def dzi_path(tmp_path: Path) -> Path:
    """A Deep Zoom image of 70×45 pixels in tiles of 16, on levels 0 to 7."""
    pixels = noise(45, 70, 3)
    write_folder(tmp_path, result_files(layout_of("dzi", pixels, tile_size=16), pixels))
    return tmp_path / "map.dzi"


@pytest.mark.parametrize(
    "address", [(8, 0, 0), (-1, 0, 0), (7, 5, 0), (7, 0, 3), (7, -1, 0), (6, 3, 0)]
)
def test_addresses_that_are_none(dzi_path: Path, address: tuple[int, int, int]) -> None:
    with open_result(dzi_path) as reader:
        for ask in (reader.tile, reader.pixels):
            with pytest.raises(IndexError, match=r"no level|none at"):
                ask(*address)


def test_levels_that_are_none(tmp_path: Path) -> None:
    pixels = noise(45, 70, 3)
    layout = layout_of("zoomify", pixels, tile_size=16)
    write_folder(tmp_path, result_files(layout, pixels))
    with open_result(tmp_path / "map") as reader:
        assert reader.pyramid.stored_range == range(3, 7)
        for level in (2, 7, -1):
            with pytest.raises(IndexError, match=f"no level {level}: there are 3 to 6"):
                reader.level_stats(level)
            with pytest.raises(IndexError, match=f"no level {level}: there are 3 to 6"):
                reader.tile(level, 0, 0)


def test_a_tile_that_is_missing(dzi_path: Path) -> None:
    (dzi_path.parent / "map_files/7/2_1.png").unlink()
    with open_result(dzi_path) as reader:
        assert not reader.allows_missing_tiles
        for ask in (reader.tile, reader.pixels):
            with pytest.raises(SourceError) as caught:
                ask(7, 2, 1)
            assert str(caught.value) == f"{dzi_path}: tile map_files/7/2_1.png is missing"
        assert reader.level_stats(7).tiles == 14


def test_tiles_that_may_be_left_out(tmp_path: Path) -> None:
    pixels = noise(45, 70, 3)
    for spelling in ("xyz", "tms", "tilecache", "gsiv"):
        layout = layout_of(spelling, pixels, name=spelling, tile_size=16)
        files = result_files(layout, pixels)
        top = layout.pyramid.stored_range[-1]
        del files[layout.path(Tile(top, 1, 1))]
        write_folder(tmp_path, files)
        with open_result(tmp_path / spelling) as reader:
            assert reader.allows_missing_tiles
            assert reader.tile(top, 1, 1) is None
            assert reader.pixels(top, 1, 1) is None
            assert reader.tile(top, 0, 1) is not None
            assert reader.level_stats(top).tiles == layout.pyramid.levels[top].tile_count - 1


def test_only_tiles_are_counted(dzi_path: Path) -> None:
    folder = dzi_path.parent / "map_files"
    before = sum(file.stat().st_size for file in (folder / "7").iterdir())
    for name in ("7/9_9.png", "7/0_0.jpg", "7/0_0.png.tmp", "7/00_0.png", "0_0.png", "9/0_0.png"):
        place = folder / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"x")
    with open_result(dzi_path) as reader:
        assert reader.level_stats(7) == (15, before)
        assert [reader.level_stats(level).tiles for level in range(7)] == [1, 1, 1, 1, 1, 2, 6]


# ---- threads -----------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["folder", "zip"])
def test_many_threads_read_at_once(dzi_path: Path, tmp_path: Path, container: str) -> None:
    pixels = noise(45, 70, 3)
    layout = layout_of("dzi", pixels, tile_size=16)
    if container == "zip":
        dzi_path = tmp_path / "map.zip"
        write_zip(dzi_path, result_files(layout, pixels), method=zipfile.ZIP_DEFLATED)
    with open_result(dzi_path) as reader:
        read_on_threads(reader, {a: reader.tile(*a) for a in expected_tiles(layout, pixels)})


# ---- what is refused ---------------------------------------------------------------------------


def test_what_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "google/3/1").mkdir(parents=True)
    for name in ("x.dzi", "x.szi", "x.zip", "x.pmtiles", "x.mbtiles", "x.tif", "x.jpg", "x.json"):
        (tmp_path / name).write_bytes(b"\xff\xd8\xff\xe0 no image")
    (tmp_path / "void.dzi").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.dzi")
    expected = {
        "empty": "no result; expected a .dzi, ImageProperties.xml, ",
        "google": "tiles without a descriptor",
        "x.dzi": "x.dzi is not UTF-8",
        "x.json": "x.json is not UTF-8",
        "x.szi": "it is not a ZIP",
        "x.zip": "it is not a ZIP",
        "x.pmtiles": "it is not PMTiles",
        "x.mbtiles": "it is not an SQLite database",
        "x.tif": "it is not a TIFF",
        "x.jpg": "not a result; expected a .dzi, .szi, .zip",
        "void.dzi": "the descriptor of void cannot be read",
        "pipe.dzi": "is not a regular file",
        "missing.dzi": "no such file",
        "missing/map.zip": "no such file",
    }
    for name, text in expected.items():
        with pytest.raises(SourceError) as caught:
            open_result(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert text in str(caught.value), name
        assert "\n" not in str(caught.value)
    for name in ("a\0b.dzi", "a" * 5000 + ".dzi"):
        with pytest.raises(SourceError, match="cannot be opened"):
            open_result(name)


def test_a_descriptor_that_is_none_names_the_file(tmp_path: Path) -> None:
    for name in ("ImageProperties.xml", "tilemapresource.xml", "info.json", "tiles.json", "m.dzi"):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_text("<a/>" if name.endswith("l") else "{}")
        for place in (folder, folder / name):
            with pytest.raises(SourceError) as caught:
                open_result(place)
            assert str(caught.value).startswith(f"{place}: ")


def test_paths_do_not_lead_out_of_the_folder(dzi_path: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    tiles = tmp_path / "map_files"
    (tiles / "7/0_0.png").unlink()
    (tiles / "7/0_0.png").symlink_to(secret)
    (tiles / "7/1_0.png").unlink()
    (tiles / "7/1_0.png").symlink_to("2_0.png")
    elsewhere = tmp_path / "elsewhere"
    (tiles / "6").rename(elsewhere)
    (tiles / "6").symlink_to(elsewhere)
    with open_result(dzi_path) as reader:
        with pytest.raises(SourceError, match=r"0_0\.png leads out of .*map_files"):
            reader.tile(7, 0, 0)
        with pytest.raises(SourceError, match="leads out of"):
            reader.tile(6, 0, 0)
        assert reader.tile(7, 1, 0) == reader.tile(7, 2, 0)


def test_the_folder_itself_may_be_a_link(dzi_path: Path, tmp_path: Path) -> None:
    (tmp_path / "map_files").rename(tmp_path / "disk")
    (tmp_path / "map_files").symlink_to(tmp_path / "disk")
    pixels = noise(45, 70, 3)
    with open_result(dzi_path) as reader:
        assert_holds_tiles(reader, expected_tiles(layout_of("dzi", pixels, tile_size=16), pixels))


@pytest.mark.parametrize(
    ("tile", "message"),
    [
        (b"", "is no JPEG, PNG, WebP, AVIF or GIF"),
        (b"x" * 100, "is no JPEG, PNG, WebP, AVIF or GIF"),
        (b"\xff\xd8\xff\xe0 no image", "cannot be decoded"),
        (b"\x89PNG\r\n\x1a\n no image", "cannot be decoded"),
        (b"RIFF\0\0\0\0WEBPVP8X" + b"\0" * 30, "cannot be decoded"),
        (b"\0\0\0\x18ftypavif" + b"\0" * 30, "cannot be decoded"),
        (b"GIF89a" + b"\0" * 30, "cannot be decoded"),
    ],
)
def test_tiles_that_are_damaged(dzi_path: Path, tile: bytes, message: str) -> None:
    (dzi_path.parent / "map_files/7/0_0.png").write_bytes(tile)
    with open_result(dzi_path) as reader:
        assert reader.tile(7, 0, 0) == tile
        with pytest.raises(SourceError, match=message) as caught:
            reader.pixels(7, 0, 0)
        assert str(caught.value).startswith(f"{dzi_path}: tile map_files/7/0_0.png ")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "WEBP lossless", "AVIF", "GIF"])
def test_tiles_that_are_too_large(dzi_path: Path, form: str) -> None:
    form, _, lossless = form.partition(" ")
    data = io.BytesIO()
    Image.new("RGB", (2000, 19)).save(data, form, lossless=bool(lossless))
    (dzi_path.parent / "map_files/7/0_0.png").write_bytes(data.getvalue())
    with open_result(dzi_path) as reader:
        message = "claims 2000×19 pixels, but none has more than 18 a side"
        with pytest.raises(SourceError, match=message):
            reader.pixels(7, 0, 0)


@pytest.mark.parametrize("form", ["WEBP", "WEBP lossless", "WEBP alpha", "AVIF", "GIF", "JPEG"])
def test_tiles_of_every_format(dzi_path: Path, form: str) -> None:
    form, _, more = form.partition(" ")
    data = io.BytesIO()
    alpha = more == "alpha"
    image = Image.new("RGBA" if alpha else "RGB", (17, 13), (200, 200, 200, *[128] * alpha))
    image.save(data, form, lossless=more == "lossless")
    (dzi_path.parent / "map_files/7/0_0.png").write_bytes(data.getvalue())
    with open_result(dzi_path) as reader:
        found = reader.pixels(7, 0, 0)
    assert found is not None
    assert found.shape == (13, 17, 3 + alpha)
    assert abs(found.astype(int)[..., :3] - 200).max() < 4


# ---- what they are -----------------------------------------------------------------------------


def test_what_is_taken_for_a_result(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_bytes(b"PMTiles\3" + b"\0" * 200)
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "x.tif").write_bytes(b"II*\0")
    assert is_pyramid(tmp_path)
    assert is_pyramid(tmp_path / "x.dat")
    assert is_pyramid("missing.dzi")
    for name in ("x.jpg", "x.tif", "missing.png"):
        assert not is_pyramid(tmp_path / name)
    for name in ("-", "https://example.org/map.dzi", "a\0b", "a" * 5000):
        assert not is_pyramid(name)


def test_repr_of_readers(dzi_path: Path) -> None:
    with open_result(str(dzi_path)) as reader:
        assert repr(reader) == f"<FileTreeReader {str(dzi_path)!r}: Deep Zoom>"
