"""TIFFs with blocks that are missing, damaged or not to be believed; threads and memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import fasttile
from fasttile.errors import SourceError, TruncatedError
from fasttile.geometry import Region
from fasttile.options.read import ReadOptions
from fasttile.sources import open_source
from fasttile.sources.conversions import crop
from fasttile.sources.tiff import blocks as tiffcoded
from fasttile.sources.tiff import open_tiff
from fasttile.storage.random_access import DiskFile
from support.reading import build_tiff, noise, read_checked, read_pixels
from support.tiff_files import (
    GREY_TAGS,
    live_fasttile_threads,
    make_values,
    open_unwindowed,
    read_unwindowed,
)

imagecodecs = pytest.importorskip("imagecodecs")


def _sparse(path: Path, form: dict[str, Any], missing: list[int]) -> None:
    """Let a file have nothing of some blocks."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        tags = [page.tags[name] for name in form]
        size = file.filehandle.size
        order = file.byteorder
    content = bytearray(path.read_bytes())
    assert size == len(content)
    for tag in tags:
        width = tag.valuebytecount // tag.count
        for number in missing:
            at = tag.valueoffset + number * width
            content[at : at + width] = bytes(width)
    assert order
    path.write_bytes(content)


TILES = {"TileOffsets": 0, "TileByteCounts": 0}


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
def test_sparse_tiles_are_background(tmp_path: Path, compression: str | None, dtype: str) -> None:
    path = tmp_path / "image"
    array = make_values(dtype, 64, 80)
    tifffile.imwrite(path, array, tile=(32, 32), compression=compression)
    _sparse(path, TILES, [1, 5])
    with open_unwindowed(path, background=(255, 255, 255)) as source:
        got = read_checked(source)[..., 0]
        assert source.metadata.notes == (
            "2 of 6 tiles are left out in the file and became background",
        )
    ground = {"u1": 255, "u2": 65535, "i2": 0, "f4": np.nan}[dtype]
    expected = array.copy()
    expected[:32, 32:64] = ground
    expected[32:, 64:] = ground
    np.testing.assert_array_equal(got, expected)


def test_sparse_tiles_in_colour(tmp_path: Path) -> None:
    path = tmp_path / "image"
    array = noise(64, 80, 4)
    tifffile.imwrite(
        path, array, tile=(32, 32), compression="lzw", photometric="rgb", extrasamples=(2,)
    )
    _sparse(path, TILES, [2])
    array[:32, 64:] = 0
    np.testing.assert_array_equal(read_unwindowed(path), array)
    array = noise(64, 80, 3)
    form = {"planarconfig": "separate", "photometric": "rgb", "compression": "lzw"}
    tifffile.imwrite(path, array.transpose(2, 0, 1), tile=(32, 32), **form)
    _sparse(path, TILES, [1, 7, 13, 2])
    array[:32, 32:64] = (9, 8, 7)
    array[:32, 64:, 0] = 0  # one band of three that is all nothing
    np.testing.assert_array_equal(read_unwindowed(path, background=(9, 8, 7)), array)


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "zstd", "packbits", "jpeg"])
@pytest.mark.parametrize("layout", [{"rowsperstrip": 10}, {"tile": (32, 32)}])
def test_a_file_cut_short(tmp_path: Path, compression: str | None, layout: dict[str, Any]) -> None:
    path = tmp_path / "image"
    array = noise(100, 70, 3)
    tifffile.imwrite(path, array, photometric="rgb", compression=compression, **layout)
    full = read_unwindowed(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(SourceError, match=r"needs \d+ bytes, but the file has") as caught:
        open_unwindowed(path)
    if compression is not None:
        assert "--allow-truncated" in str(caught.value)
        assert "rows from 6" in str(caught.value)
    with open_unwindowed(path, allow_truncated=True, background=(1, 2, 3)) as source:
        got = read_checked(source)
        assert "beyond the end of the file and became background" in source.metadata.notes[0]
        assert source.metadata.warnings == []
    assert (got[-1] == (1, 2, 3)).all()
    same = (got == full).all(axis=2)
    assert same[:60].all()
    assert (same | (got == (1, 2, 3)).all(axis=2)).all()


def test_packed_rows_are_there_to_the_last(tmp_path: Path) -> None:
    path = tmp_path / "image"
    array = noise(200, 70)
    tifffile.imwrite(path, array, rowsperstrip=200)
    path.write_bytes(path.read_bytes()[:-1000])
    got = read_unwindowed(path, allow_truncated=True, background=(9, 9, 9))[..., 0]
    there = 200 - 15
    np.testing.assert_array_equal(got[:there], array[:there])
    assert (got[there:] == 9).all()


@pytest.mark.parametrize("compression", ["lzw", "deflate", "zstd", "packbits", "webp", "jpeg2000"])
def test_a_block_that_is_damaged(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "image"
    array = noise(160, 150, 3)
    tifffile.imwrite(path, array, photometric="rgb", compression=compression, tile=(32, 32))
    full = read_unwindowed(path)
    with tifffile.TiffFile(path) as file:
        start, count = file.pages[0].dataoffsets[17], file.pages[0].databytecounts[17]
    content = bytearray(path.read_bytes())
    content[start : start + count] = b"\xff\x12\x88" * (count // 3) + bytes(count % 3)
    path.write_bytes(content)
    with open_unwindowed(path) as source:
        source.preferred_rows  # noqa: B018
        with pytest.raises(TruncatedError) as caught:
            read_checked(source)
        assert caught.value.rows == 96
        assert f"{path}: broken TIFF: rows from 96 on cannot be decoded: tile 17: " in str(
            caught.value
        )
        assert "\n" not in str(caught.value)
        with pytest.raises(TruncatedError):
            source.rows(96, 97)
    with open_unwindowed(path, allow_truncated=True, background=(1, 2, 3)) as source:
        got = read_checked(source)
        assert len(source.metadata.warnings) == 1
        assert source.metadata.warnings[0].startswith(
            "1 tile could not be decoded and became background, the first at row 96: "
        )
    expected = full.copy()
    expected[96:128, 64:96] = (1, 2, 3)
    np.testing.assert_array_equal(got, expected)
    assert live_fasttile_threads() == []


def test_no_thread_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "image"
    tifffile.imwrite(path, noise(500, 300), compression="lzw", rowsperstrip=3)
    with open_unwindowed(path) as source:
        assert live_fasttile_threads() == []
        source.rows(0, 1)
        assert live_fasttile_threads()
    assert live_fasttile_threads() == []
    source = open_unwindowed(path)
    part = crop(source, Region(10, 10, 50, 50))
    part.rows(0, 50)
    part.close()
    assert live_fasttile_threads() == []


def test_a_file_that_becomes_shorter(tmp_path: Path) -> None:
    path = tmp_path / "image"
    tifffile.imwrite(path, noise(500, 300), compression="lzw", rowsperstrip=3)
    with open_unwindowed(path) as source:
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(TruncatedError, match=r"rows from 2\d+ on .* but the file has shrunk"):
            read_checked(source)


def test_a_wide_line_is_not_decoded_ahead(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "image"
    array = noise(200, 100)
    tifffile.imwrite(path, array, compression="lzw", tile=(64, 64))
    monkeypatch.setattr(tiffcoded, "_MAX_AHEAD_BAND_BYTES", 100)
    with open_unwindowed(path) as source:
        np.testing.assert_array_equal(read_checked(source)[..., 0], array)


MEASURE_PROGRAM = """
import resource, sys
from fasttile.sources import open_source
with open_source(sys.argv[1]) as source:
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for y in range(0, source.height, source.preferred_rows):
        source.rows(y, min(source.height, y + source.preferred_rows))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts in kilobytes")
@pytest.mark.parametrize("layout", [{"rowsperstrip": 16}, {"tile": (256, 256)}])
def test_memory_is_that_of_some_lines(tmp_path: Path, layout: dict[str, Any]) -> None:
    path = tmp_path / "image"
    row = noise(1, 2000) >> 5
    tifffile.imwrite(
        path, np.broadcast_to(row, (20_000, 2000)), compression="lzw", metadata=None, **layout
    )
    run = subprocess.run(
        [sys.executable, "-c", MEASURE_PROGRAM, path], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 16 * 1024  # of 40 MB


@pytest.mark.parametrize(
    "tags",
    [
        {322: (2**20,), 323: (2**20,)},
        {322: (2**31,), 323: (16,)},
        {256: (2**20,), 257: (2**20,)},
        {256: (2**20,), 257: (2**20,), 258: (16,), 322: (2**22,), 323: (2**21,)},
        {256: (2**16,), 257: (2**16,), 259: (4,), 258: (1,)},
    ],
)
def test_a_number_in_a_hint_suffices(tmp_path: Path, tags: dict[int, tuple[int, ...]]) -> None:
    path = tmp_path / "image"
    tags = {**GREY_TAGS, 259: (5,), 278: (6,), 340: (3,), **tags}
    path.write_bytes(build_tiff([imagecodecs.lzw_encode(bytes(30))], tags))
    with pytest.raises(SourceError, match=r"--max-pixels \d+") as refused:
        open_source(path)
    hint = re.search(r"--max-pixels (\d+)", str(refused.value))
    assert hint is not None
    with (
        pytest.raises(
            SourceError, match=r"lists 1 offsets|neither into memory nor|cannot be decoded"
        ) as broken,
        open_source(path, read_options=ReadOptions(max_pixels=int(hint[1]))) as source,
    ):
        source.rows(0, 1)
    assert "max-pixels" not in str(broken.value)


@pytest.mark.parametrize(
    "tags",
    [
        {256: (2**20,), 257: (60,), 278: (60,), 258: (16,)},
        {277: (60_000,), 278: (200,), 257: (200,)},
    ],
)
def test_large_blocks_in_a_small_file(tmp_path: Path, tags: dict[int, tuple[int, ...]]) -> None:
    path = tmp_path / "image"
    block = imagecodecs.lzw_encode(bytes(30))
    path.write_bytes(build_tiff([block], {**GREY_TAGS, 259: (5,), 278: (6,), 340: (3,), **tags}))
    with open_unwindowed(path) as source, pytest.raises(SourceError, match="strip 0"):
        source.rows(0, 1)


def test_blank_images_below_a_gigapixel_are_not_refused(tmp_path: Path) -> None:
    path = tmp_path / "image"
    array = np.zeros((1000, 70_000), np.uint8)
    tifffile.imwrite(path, array, compression="zstd", rowsperstrip=99)
    with open_unwindowed(path) as source:
        assert source.rows(0, 9).max() == 0


def test_too_few_places(tmp_path: Path) -> None:
    path = tmp_path / "image"
    block = imagecodecs.lzw_encode(bytes(10))
    path.write_bytes(build_tiff([block], {**GREY_TAGS, 259: (5,)}))
    with pytest.raises(SourceError, match="3 strips or tiles, but the file lists 1 offsets"):
        open_unwindowed(path)


def test_one_tall_strip_is_pillows_if_it_knows_it(tmp_path: Path) -> None:
    path = tmp_path / "image"
    array = np.zeros((6000, 6000), np.uint8)
    array[::7] = 9
    tifffile.imwrite(path, array, compression="lzw", rowsperstrip=6000)
    file = DiskFile(path)
    assert open_tiff(file, ReadOptions()) is None
    file.close()
    with open_source(path) as source:
        np.testing.assert_array_equal(source.rows(0, 64)[..., 0], array[:64])


@pytest.mark.parametrize("compression", ["tiff_lzw", "group4"])
def test_without_imagecodecs_it_is_pillows(
    tmp_path: Path, monkeypatch: Any, compression: str
) -> None:
    path, unknown = tmp_path / "image", tmp_path / "unknown"
    tifffile.imwrite(unknown, noise(20, 30), compression="jpegxl")
    array = noise(20, 30) > 127
    Image.fromarray(array).save(path, "TIFF", compression=compression)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    file = DiskFile(path)
    assert open_tiff(file, ReadOptions()) is None
    file.close()
    np.testing.assert_array_equal(read_pixels(path)[..., 0], array * np.uint8(255))
    unknown.replace(path)
    with pytest.raises(SourceError, match=r"; pip install fasttile\[tiff\] may read it$"):
        open_source(path)
    tifffile.imwrite(path, np.zeros((5, 6), bool), photometric="minisblack")
    assert read_unwindowed(path).shape == (5, 6, 1)  # what is not compressed needs nobody


@pytest.mark.parametrize("layout", [{"rowsperstrip": 16}, {"tile": (32, 32)}, {"planar": True}])
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("dtype", ["u1", ">u2", "u4"])
def test_deflate_is_read_without_imagecodecs(
    tmp_path: Path, monkeypatch: Any, dtype: str, predictor: bool, layout: dict[str, Any]
) -> None:
    path, order = tmp_path / "image", ">" if dtype.startswith(">") else "<"
    pixels = np.random.default_rng(3).integers(0, 2**16, (45, 61, 3)).astype(dtype)
    kind = {"photometric": "rgb", "compression": "zlib", "byteorder": order}
    if layout.get("planar"):
        stored = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        tifffile.imwrite(path, stored, predictor=predictor, planarconfig="separate", **kind)
    else:
        tifffile.imwrite(path, pixels, predictor=predictor, **layout, **kind)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    file = DiskFile(path)
    source = open_tiff(file, ReadOptions())
    assert source is not None  # not Pillow's
    with source:
        np.testing.assert_array_equal(source.rows(0, 45), pixels)


@pytest.mark.parametrize("damage", ["zeros", "checksum", "end", "longer"])
def test_damaged_deflate_is_refused_without_imagecodecs(
    tmp_path: Path, monkeypatch: Any, damage: str
) -> None:
    rows, cols = np.mgrid[:371, :359]
    pixels = np.stack([cols * 255 // 358, rows * 255 // 370, (rows // 7 + cols // 9) % 2 * 180], 2)
    raw = pixels.astype(np.uint8).tobytes() + bytes(9000 if damage == "longer" else 0)
    block = bytearray(zlib.compress(raw))
    if damage == "zeros":
        block[2000:2400] = bytes(400)
    elif damage == "checksum":
        block[-1] ^= 1
    elif damage == "end":
        del block[len(block) // 2 :]
    tags = {256: (359,), 257: (371,), 258: (8, 8, 8), 259: (8,), 262: (2,), 277: (3,), 278: (371,)}
    (tmp_path / "a.tif").write_bytes(build_tiff([bytes(block)], tags))
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(SourceError, match=r"a\.tif: broken TIFF: rows from 0 on cannot be decoded"):
        fasttile.cut(tmp_path / "a.tif", tmp_path / "a.dzi")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_a_large_damaged_strip_of_deflate_is_refused(tmp_path: Path) -> None:
    """Pillow shows wrong pixels, as libtiff stops when it has enough bytes."""
    path, half = tmp_path / "a.tif", bytes(18_000_000)
    tags = {256: (6000,), 257: (6000,), 258: (8,), 259: (8,), 262: (1,), 278: (6000,)}
    path.write_bytes(build_tiff([zlib.compress(half + bytes([9]) * 5000 + half, 1)], tags))
    assert np.asarray(Image.open(path)).any()
    with pytest.raises(SourceError, match="rows from 0 on cannot be decoded"):
        fasttile.cut(path, tmp_path / "a.dzi")
    path.write_bytes(build_tiff([zlib.compress(half + half, 1)[:-9000]], tags))
    with pytest.raises(SourceError):
        fasttile.cut(path, tmp_path / "a.dzi")
    report = fasttile.cut(path, tmp_path / "a.dzi", allow_truncated=True)
    assert report.notes[0].startswith("1 strip could not be decoded and became background")
    first = Image.open(tmp_path / "a_files" / str(report.levels - 1) / "0_0.jpg")
    assert (np.asarray(first) == 255).all()


def test_a_message_names_few_of_thousands_of_depths(tmp_path: Path) -> None:
    path = tmp_path / "many.tif"
    tags = {**GREY_TAGS, 258: tuple(range(1, 3000)), 259: (9,), 278: (6,)}
    path.write_bytes(build_tiff([bytes(30)], tags))
    with pytest.raises(SourceError, match=r"1 × 1\+2\+3\+4\+…-bit numbers") as caught:
        open_source(path)
    assert len(str(caught.value)) < 300
