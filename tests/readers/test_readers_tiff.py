"""Pyramidal TIFFs read back, of libvips, tifffile and by hand; and images that are none."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from fasttile.abc.reader import ResultReader
from fasttile.errors import SourceError
from fasttile.formats.png import encode_png
from fasttile.geometry import Tile
from fasttile.readers import is_pyramid, open_result, tiff
from fasttile.readers.tiff import standalone_jpeg
from support import reference
from support.reading import build_tiff, noise, smooth_pixels
from support.reference import Array
from support.result_cases import read_on_threads

pyvips = pytest.importorskip("pyvips")


def write_tiff_pyramid(
    path: Path, pixels: Array, *, rounding: str = "up", inner: bool = False, **tags: Any
) -> None:
    """A pyramid by tifffile: each level half of the one before, down to one tile."""
    side = tags.pop("side", 32)
    file = {key: tags.pop(key) for key in ("bigtiff", "byteorder") if key in tags}
    levels = reference.levels(pixels, rounding=rounding)[::-1]
    levels = [one for one in levels if max(one.shape[:2]) > side / 2] or levels[:1]
    levels = levels[: 1 + next(n for n, one in enumerate(levels) if max(one.shape[:2]) <= side)]
    tags = {"tile": (side, side), "photometric": "rgb" if pixels.shape[2] > 2 else 1, **tags}
    if pixels.shape[2] in (2, 4):
        tags["extrasamples"] = ["unassalpha"]
    with tifffile.TiffWriter(path, **file) as out:
        for number, level in enumerate(levels):
            plain = level[..., 0] if level.shape[2] == 1 else level
            kind = {"subfiletype": 1} if number else {}
            if inner and number == 0:
                kind["subifds"] = len(levels) - 1
            if level.shape[2] == 2:
                kind["planarconfig"] = "contig"
            out.write(plain, **kind, **tags)


def assert_levels(
    reader: ResultReader, levels: list[Array], tolerance: int = 0, mean: float = 255
) -> None:
    """All tiles are those of these levels, the largest first, where there is an image.

    No value differs by more than the tolerance, and those of a tile not more than by the mean.
    """
    kept = reader.pyramid.stored_levels
    assert [(one.inset.height, one.inset.width) for one in reversed(kept)] == [
        level.shape[:2] for level in levels
    ]
    for level, pixels in zip(reversed(kept), levels, strict=True):
        assert reader.level_stats(level.number).tiles == level.tile_count
        for tile in level.tiles():
            x, y, width, height = reader.pyramid.region(tile)
            found, wanted = reader.pixels(*tile), pixels[y : y + height, x : x + width]
            assert found is not None
            assert found.shape == (height, width, pixels.shape[2])
            assert found.dtype == pixels.dtype
            part = found[: wanted.shape[0], : wanted.shape[1]].astype(int)
            assert np.abs(part - wanted).max() <= tolerance, tile
            assert np.abs(part - wanted).mean() <= mean, tile
            data = reader.tile(*tile)
            assert data is not None
            if pixels.dtype == np.uint8:
                with Image.open(io.BytesIO(data)) as image:
                    assert Image.MIME[image.format or ""] == reader.media_type
                    assert (np.asarray(image).reshape(found.shape) == found).all()
            else:
                assert (imagecodecs.png_decode(data).reshape(found.shape) == found).all()


def read_levels_by_tifffile(path: Path) -> list[Array]:
    """The pyramid's levels as tifffile decodes them."""
    with tifffile.TiffFile(path) as file:
        return [
            one.asarray().reshape(*one.asarray().shape[:2], -1) for one in file.series[0].levels
        ]


def vips_levels(pixels: Array, side: int) -> list[Array]:
    """The levels that libvips makes."""
    levels = reference.levels(pixels, rounding="down")[::-1]
    last = next(n for n, one in enumerate(levels) if max(one.shape[:2]) <= side)
    return levels[: last + 1]


# ---- there and back ----------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True, "byteorder": ">"},
        {"compression": "zlib", "predictor": True, "bigtiff": True, "rounding": "down"},
        {"compression": "lzw"},
        {"compression": "zstd", "predictor": True},
        {"byteorder": ">", "bigtiff": True},
    ],
)
def test_pyramids_without_loss(
    tags: dict[str, Any], dtype: Any, bands: int, inner: bool, tmp_path: Path
) -> None:
    pixels = noise(75, 101, bands, dtype=dtype)
    write_tiff_pyramid(tmp_path / "map.tif", pixels, inner=inner, **tags)
    with open_result(tmp_path / "map.tif") as reader:
        levels = reference.levels(pixels, rounding=tags.get("rounding", "up"))[::-1]
        kind = "BigTIFF" if tags.get("bigtiff") else "TIFF"
        assert (reader.name, reader.format_name) == ("map", f"pyramidal {kind}")
        known = {None: "raw", "zlib": "deflate", "lzw": "lzw", "zstd": "tiff50000"}
        assert reader.extension == known[tags.get("compression")]
        assert reader.media_type == "image/png"
        assert not reader.allows_missing_tiles
        assert reader.pyramid.canvas.rounding == tags.get("rounding", "up")
        assert_levels(reader, levels[: len(reader.pyramid.stored_range)])
    assert not is_pyramid(tmp_path / "map.tif")


@pytest.mark.parametrize("quality", [75, 95])  # from 90 on libvips writes RGB
@pytest.mark.parametrize("bands", [1, 3])
def test_jpeg_of_libvips(bands: int, quality: int, tmp_path: Path) -> None:
    pixels = smooth_pixels(300, 501, bands)
    place = tmp_path / "map.tif"
    pyvips.Image.new_from_array(pixels).tiffsave(
        str(place), tile=True, pyramid=True, compression="jpeg", Q=quality
    )
    with tifffile.TiffFile(place) as file:
        photometric = file.pages.first.photometric.name
    assert photometric == ("MINISBLACK" if bands == 1 else "YCBCR" if quality == 75 else "RGB")
    with open_result(place) as reader:
        assert (reader.extension, reader.media_type) == ("jpg", "image/jpeg")
        levels = vips_levels(pixels, 128)
        # At the image's edge there is what libvips puts beyond it.
        assert_levels(reader, levels, tolerance=80, mean=4)
        with Image.open(io.BytesIO(reader.tile(8, 0, 0) or b"")) as image:
            assert image.mode == ("L" if bands == 1 else "RGB")


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "deflate", "predictor": "horizontal"},
        {"compression": "lzw"},
        {"compression": "none"},
        {"compression": "webp", "lossless": True},
        {"compression": "deflate", "subifd": True, "bigtiff": True},
        {"compression": "deflate", "depth": "onepixel"},
    ],
)
def test_other_pyramids_of_libvips(options: dict[str, Any], tmp_path: Path) -> None:
    pixels = noise(300, 501, 3)
    place = tmp_path / "map.tif"
    pyvips.Image.new_from_array(pixels).tiffsave(str(place), tile=True, pyramid=True, **options)
    with open_result(place) as reader:
        assert reader.pyramid.canvas.rounding == "down"
        assert reader.pyramid.stored_range == range(6, 9)
        assert_levels(reader, vips_levels(pixels, 128), tolerance=1)


def test_an_image_that_is_one_tile(tmp_path: Path) -> None:
    pixels = noise(20, 31, 3)
    write_tiff_pyramid(tmp_path / "map.tif", pixels, compression="zlib")
    with open_result(tmp_path / "map.tif") as reader:
        assert len(reader.pyramid.stored_range) == 1
        assert_levels(reader, [pixels])


def test_jpeg_is_not_decoded_to_be_read(tmp_path: Path) -> None:
    pixels = smooth_pixels(300, 501, 3)
    place = tmp_path / "map.tif"
    pyvips.Image.new_from_array(pixels).tiffsave(
        str(place), tile=True, pyramid=True, compression="jpeg"
    )
    with tifffile.TiffFile(place) as file, open_result(place) as reader:
        page = file.pages.first
        file.filehandle.seek(page.dataoffsets[5])
        stored = file.filehandle.read(page.databytecounts[5])
        data = reader.tile(8, 1, 1)
        assert data is not None
        assert data.endswith(stored[2:])
        decoded = imagecodecs.jpeg8_decode(stored, tables=page.jpegtables)
        assert np.abs(decoded.astype(int) - np.asarray(Image.open(io.BytesIO(data)))).max() <= 1


def test_inverted_grey_and_palettes(tmp_path: Path) -> None:
    pixels = noise(40, 60, 1)
    levels = [one for one in reference.levels(pixels)[::-1] if max(one.shape) > 16]
    colours = noise(3, 256, dtype=np.uint16)
    for kind in ("miniswhite", "palette"):
        more = {"colormap": colours} if kind == "palette" else {}
        with tifffile.TiffWriter(tmp_path / "map.tif") as out:
            for level in levels:
                out.write(level[..., 0], tile=(32, 32), photometric=kind, **more)
        with open_result(tmp_path / "map.tif") as reader:
            if kind == "miniswhite":
                assert_levels(reader, [255 - level for level in levels])
            else:
                shown = [(colours >> 8).astype(np.uint8).T[level[..., 0]] for level in levels]
                assert_levels(reader, shown)


def test_thumbnails_and_masks_are_no_levels(tmp_path: Path) -> None:
    pixels = noise(64, 100, 3)
    levels = reference.levels(pixels)[::-1]
    tags = {"tile": (32, 32), "photometric": "rgb"}
    with tifffile.TiffWriter(tmp_path / "map.tif") as out:
        out.write(levels[0], **tags)
        out.write(noise(32, 50) > 99, tile=(32, 32), subfiletype=5)
        out.write(noise(20, 30, 3), photometric="rgb", subfiletype=1)
        out.write(levels[2], **tags, subfiletype=1)
        out.write(levels[1], **tags, subfiletype=1)
    with open_result(tmp_path / "map.tif") as reader:
        assert_levels(reader, levels[:3])


def build_tiff_page(
    pixels: Array, side: int, *, omitted_tags: tuple[int, ...] = (), **changes: Any
) -> bytes:
    """One uncompressed page that is small enough to be one level."""
    height, width, bands = pixels.shape
    tiles = [
        np.pad(
            part := pixels[y : y + side, x : x + side],
            ((0, side - part.shape[0]), (0, side - part.shape[1]), (0, 0)),
        ).tobytes()
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]
    tags = {256: (width,), 257: (height,), 258: (8,) * bands, 259: (1,), 262: (2,), 277: (bands,)}
    tags |= {284: (1,), 322: (side,), 323: (side,)}
    tags |= {int(tag[1:]): value for tag, value in changes.items()}
    return build_tiff(tiles, tags)


def test_tiles_that_are_left_out(tmp_path: Path) -> None:
    pixels = noise(64, 64, 3)
    place = tmp_path / "map.tif"
    write_tiff_pyramid(place, pixels)
    with tifffile.TiffFile(place) as file:
        tags = [file.pages[0].tags[number] for number in (324, 325)]
    data = bytearray(place.read_bytes())
    for tag in tags:
        size = tag.valuebytecount // 4
        data[tag.valueoffset + 2 * size : tag.valueoffset + 3 * size] = bytes(size)
    place.write_bytes(data)
    with open_result(place) as reader:
        top = reader.pyramid.stored_range[-1]
        assert reader.allows_missing_tiles
        assert reader.tile(top, 0, 1) is None
        assert reader.pixels(top, 0, 1) is None
        assert reader.tile(top, 1, 1) is not None
        assert reader.level_stats(top) == (3, 3 * 32 * 32 * 3)


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    pixels = smooth_pixels(300, 501, 3)
    for number, options in enumerate([{"compression": "jpeg"}, {"compression": "lzw"}]):
        place = tmp_path / f"{number}.tif"
        image = pyvips.Image.new_from_array(pixels)
        image.tiffsave(str(place), tile=True, pyramid=True, **options)
        with open_result(place) as reader:
            read_on_threads(reader, {tile: reader.tile(*tile) for tile in reader.pyramid.tiles()})


# ---- files made here ---------------------------------------------------------------------------


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png(dtype: Any, bands: int) -> None:
    for height, width in ((1, 1), (1, 9), (7, 1), (16, 33)):
        pixels = noise(height, width, bands, dtype=dtype)
        found = imagecodecs.png_decode(encode_png(pixels))
        assert found.dtype == dtype
        assert (found.reshape(pixels.shape) == pixels).all()
        with Image.open(io.BytesIO(encode_png(pixels))) as image:
            image.load()
            assert image.size == (width, height)


def test_spliced_jpeg() -> None:
    tables, tile = b"\xff\xd8\xff\xdbTABLES\xff\xd9", b"\xff\xd8\xff\xc0FRAME\xff\xd9"
    expected = b"\xff\xd8\xff\xdbTABLES\xff\xc0FRAME\xff\xd9"
    assert standalone_jpeg(tile, tables, is_rgb=False, name="x") == expected
    assert standalone_jpeg(tile, b"", is_rgb=False, name="x") == tile
    assert standalone_jpeg(tile, tables[:-2], is_rgb=False, name="x") == expected
    rgb = standalone_jpeg(tile, tables, is_rgb=True, name="x")
    assert rgb == expected[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0" + expected[2:]
    with pytest.raises(SourceError, match="x is no JPEG"):
        standalone_jpeg(b"", tables, is_rgb=False, name="x")


# ---- what is none ------------------------------------------------------------------------------


def test_plain_images_are_no_pyramids(tmp_path: Path) -> None:
    place = tmp_path / "map.tif"
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "is an image, and no pyramid: it has no square tiles"),
        ({"tile": (32, 48)}, "is an image, and no pyramid: it has no square tiles"),
        ({"tile": (32, 32)}, "no page of half its size and the same tiles of 32 pixels"),
    ]
    for tags, message in cases:
        tifffile.imwrite(place, noise(64, 100, 3), photometric="rgb", **tags)
        with pytest.raises(SourceError, match=message):
            open_result(place)


def test_levels_with_other_tiles(tmp_path: Path) -> None:
    # As gdaladdo makes them without an option for the tiles' size.
    pixels = noise(64, 100, 3)
    with tifffile.TiffWriter(tmp_path / "map.tif") as out:
        out.write(pixels, tile=(32, 32), photometric="rgb")
        out.write(reference.halve(pixels, alpha=False), tile=(16, 16), photometric="rgb")
    with pytest.raises(SourceError, match="no page of half its size and the same tiles"):
        open_result(tmp_path / "map.tif")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_322": (2**31,), "_323": (2**31,)}, "are too large"),
        ({"_322": (30,), "_323": (30,)}, "tile size 30: TIFF's tiles have sides of a multiple"),
        ({"_284": (2,)}, "a layout that fasttile does not read"),
        ({"_262": (99,)}, "a layout that fasttile does not read"),
        ({"_259": (7777,)}, "compression 7777 tiles of 8 bits cannot be decoded"),
        ({"_256": (0,)}, "no square tiles|no pixels"),
        ({"_257": (2**31,)}, "no page of half its size"),
    ],
)
def test_tiffs_that_cannot_be_shown(
    changes: dict[str, tuple[int, ...]], message: str, tmp_path: Path
) -> None:
    place = tmp_path / "map.tif"
    place.write_bytes(build_tiff_page(noise(20, 30, 3), 32, **changes))
    with pytest.raises(SourceError, match=message) as caught:
        open_result(place)
    assert str(place) in str(caught.value)


def test_floats_cannot_be_shown(tmp_path: Path) -> None:
    pixels = noise(20, 30).astype(np.float32)
    tifffile.imwrite(tmp_path / "map.tif", pixels, tile=(32, 32), compression="zlib")
    with (
        open_result(tmp_path / "map.tif") as reader,
        pytest.raises(SourceError, match="its samples are float32"),
    ):
        reader.tile(reader.pyramid.stored_range[0], 0, 0)


def test_imagecodecs_is_asked_for_only_where_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff, "make_decoder", lambda tags: None)
    pixels = noise(75, 101, 3)
    write_tiff_pyramid(tmp_path / "map.tif", pixels, compression="zlib", predictor=True)
    with open_result(tmp_path / "map.tif") as reader:
        assert_levels(reader, reference.levels(pixels)[::-1][: len(reader.pyramid.stored_range)])
    write_tiff_pyramid(tmp_path / "map.tif", pixels, compression="lzw")
    message = r"lzw tiles of 8 bits cannot be decoded; pip install 'fasttile\[tiff\]' may help"
    with pytest.raises(SourceError, match=message):
        open_result(tmp_path / "map.tif")


def test_tiles_that_are_damaged(tmp_path: Path) -> None:
    pixels = smooth_pixels(64, 100, 3)
    for options, message in (
        ({"compression": "jpeg"}, "is no JPEG"),
        ({"compression": "zlib"}, "cannot be decoded"),
        ({"compression": "lzw"}, "cannot be decoded"),
    ):
        place = tmp_path / "map.tif"
        write_tiff_pyramid(place, pixels, **options)
        with tifffile.TiffFile(place) as file:
            offset, size = file.pages.first.dataoffsets[1], file.pages.first.databytecounts[1]
        data = bytearray(place.read_bytes())
        data[offset : offset + size] = b"\x55" * size
        place.write_bytes(data)
        with open_result(place) as reader:
            top = reader.pyramid.stored_range[-1]
            assert reader.tile(top, 0, 0)
            for ask in (reader.tile, reader.pixels):
                with pytest.raises(SourceError, match=message) as caught:
                    ask(top, 1, 0)
                assert f"{place}: tile 1, 0 of level {top}" in str(caught.value)


def test_a_tile_beyond_the_end(tmp_path: Path) -> None:
    place = tmp_path / "map.tif"
    write_tiff_pyramid(place, noise(64, 100, 3))
    data = place.read_bytes()
    with tifffile.TiffFile(place) as file:
        counts = file.pages.first.tags[325]
    changed = bytearray(data)
    struct.pack_into("<I" if counts.dtype == 4 else "<H", changed, counts.valueoffset, 65_535)
    place.write_bytes(changed)
    with open_result(place) as reader:
        top = reader.pyramid.stored_range[-1]
        with pytest.raises(SourceError, match="takes 65535 bytes at"):
            reader.tile(top, 0, 0)


def test_too_few_places(tmp_path: Path) -> None:
    data = build_tiff_page(noise(20, 30, 3), 32)
    place = tmp_path / "map.tif"
    place.write_bytes(data)
    with open_result(place) as reader:
        assert reader.tile(reader.pyramid.stored_range[0], 0, 0)
    write_tiff_pyramid(place, noise(64, 100, 3))
    with tifffile.TiffFile(place) as file:
        tag = file.pages.first.tags[325]
    changed = bytearray(place.read_bytes())
    struct.pack_into("<I", changed, tag.offset + 4, 5)
    place.write_bytes(changed)
    with pytest.raises(SourceError, match="a level has 8 tiles, but offsets for 5 only"):
        open_result(place)


def test_damaged_tiffs(tmp_path: Path) -> None:
    place = tmp_path / "map.tif"
    write_tiff_pyramid(place, noise(64, 100, 3), compression="zlib", predictor=True)
    data = place.read_bytes()
    with tifffile.TiffFile(place) as file:
        starts = [page.offset for page in file.pages]
    random = np.random.default_rng(3)
    for _ in range(400):
        changed = bytearray(data)
        for start in random.choice(starts, 2):
            at = start + random.integers(0, 200)
            if at < len(changed):
                changed[at] = random.integers(256)
        place.write_bytes(changed)
        try:
            with open_result(place) as reader:
                for level in reader.pyramid.stored_levels:
                    reader.level_stats(level.number)
                    for tile in (Tile(level.number, 0, 0), next(level.tiles())):
                        reader.tile(*tile)
        except SourceError as error:
            assert str(place) in str(error)  # noqa: PT017
