"""What tiles on demand read and keep, on many threads; and how they fail."""

from __future__ import annotations

import io
import random
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import fasttile
from fasttile.abc.source import Metadata, Source
from fasttile.errors import OptionError, SourceError, TruncatedError
from fasttile.geometry import Region
from fasttile.ondemand.levels import BlockCache
from fasttile.sources.conversions import Croppable
from support.reading import Array, noise


class CountingSource(Croppable):
    """An array that counts how often each of its pixels is read."""

    random_access = True
    preferred_rows = preferred_cols = 64

    def __init__(self, pixels: Array, counts: Array | None = None) -> None:
        self.name, self.metadata = "counted", Metadata("test")
        self.height, self.width, self.bands = pixels.shape
        self.dtype = pixels.dtype
        self.pixels = pixels
        self.counts = np.zeros(pixels.shape[:2], int) if counts is None else counts

    def rows(self, y0: int, y1: int) -> Array:
        self.counts[y0:y1] += 1
        return self.pixels[y0:y1]

    def crop(self, region: Region) -> Source:
        window = slice(region.y, region.bottom), slice(region.x, region.right)
        return CountingSource(self.pixels[window], self.counts[window])


class LineSource(Source):
    """An array that can be read only in order."""

    def __init__(self, pixels: Array) -> None:
        self.name, self.metadata = "lines", Metadata("test")
        self.height, self.width, self.bands = pixels.shape
        self.dtype = pixels.dtype
        self.pixels = pixels
        self.next_row = 0
        self.is_closed = False

    def rows(self, y0: int, y1: int) -> Array:
        assert y0 >= self.next_row
        self.next_row = y1
        return self.pixels[y0:y1]

    def close(self) -> None:
        self.is_closed = True


def run_on_threads(count: int, work: Callable[[int], None]) -> None:
    """Run a function on threads; the first error is raised."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_a_tile_reads_only_what_it_needs() -> None:
    source = CountingSource(noise(2000, 2000, 1))
    with fasttile.open_pyramid(source, tile_size=256, overlap=0) as pyramid:
        assert not source.counts.any()
        pyramid.tile(11, 3, 2)
        top, left = np.argwhere(source.counts).min(axis=0)
        bottom, right = np.argwhere(source.counts).max(axis=0)
        assert (top, left) >= (512 - 192, 768 - 192)
        assert (bottom, right) <= (768 + 192, 1024 + 192)


def test_no_pixel_is_read_twice() -> None:
    source = CountingSource(noise(1500, 1700, 1))
    with fasttile.open_pyramid(source, tile_size=100, overlap=2) as pyramid:
        pyramid.tile(0, 0, 0)
        assert (source.counts == 1).all()
        for tile in pyramid.pyramid.tiles():
            pyramid.tile(*tile)
        assert (source.counts == 1).all()


def test_an_overview_reads_once_without_a_cache() -> None:
    source = CountingSource(noise(1500, 1700, 1))
    with fasttile.open_pyramid(source, cache_bytes=0) as pyramid:
        pyramid.tile(0, 0, 0)
        assert source.counts.max() <= 4  # blocks of the source that two blocks of a level touch


def test_rows_that_come_in_order_are_read_once() -> None:
    pixels = noise(300, 200, 3)
    expected = dict(fasttile.iter_tiles(pixels))
    source = LineSource(pixels)
    with fasttile.open_pyramid(source) as pyramid:
        assert source.next_row == 0

        def read(number: int) -> None:
            for tile in random.Random(number).sample([*expected], len(expected)):
                found = pyramid.pixels(*tile)
                assert found is not None
                assert found.tobytes() == expected[tile].tobytes()

        run_on_threads(4, read)
    assert not source.is_closed  # its owner closes it


@pytest.mark.parametrize("kind", ["array", "mapped", "tiled", "jpeg", "counted"])
def test_many_threads(kind: str, tmp_path: Path) -> None:
    pixels = noise(700, 600, 3)
    source: Any = pixels
    if kind == "mapped":
        source = tmp_path / "image.tif"
        tifffile.imwrite(source, pixels)
    elif kind == "tiled":
        source = tmp_path / "image.tif"
        tifffile.imwrite(source, pixels, tile=(64, 64), compression="zlib")
    elif kind == "jpeg":
        source = tmp_path / "image.jpg"
        Image.fromarray(pixels).save(source)
    elif kind == "counted":
        source = CountingSource(pixels)
    options: dict[str, Any] = {"tile_size": 128, "layout": "dzi"}
    with fasttile.open_pyramid(source, cache_bytes=2**20, **options) as pyramid:
        tiles = [*pyramid.pyramid.tiles()]
        with fasttile.open_pyramid(source, **options) as other:
            expected = {tile: other.tile(*tile) for tile in tiles}

        def read(number: int) -> None:
            for tile in random.Random(number).choices(tiles, k=30):
                assert pyramid.tile(*tile) == expected[tile]

        run_on_threads(8, read)


@pytest.mark.slow
def test_the_cache_keeps_its_bound() -> None:
    """The memory of pixels: the cache, and a few blocks of each thread."""
    source = CountingSource(noise(4000, 4000, 1))
    limit, threads = 2**21, 8
    with fasttile.open_pyramid(source, cache_bytes=limit, threads=2, tile_size=256) as pyramid:
        pyramid.tile(12, 0, 0)  # prepares the encoders
        tiles = [*pyramid.pyramid.tiles()]
        tracemalloc.start()
        try:

            def read(number: int) -> None:
                for tile in random.Random(number).choices(tiles, k=25):
                    pyramid.pixels(*tile)

            run_on_threads(threads, read)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert limit / 2 < peak < limit + (threads + 2) * 2**20


def test_cheap_blocks_are_evicted_first() -> None:
    made = []

    def get(cache: BlockCache, depth: int, x: int) -> None:
        def make() -> Array:
            made.append((depth, x))
            return np.zeros((10, 10, 1), np.uint8)

        cache.get(depth, x, 0, make)

    cache = BlockCache(400)
    get(cache, 2, 0)
    for x in range(9):
        get(cache, 0, x)
        assert cache.bytes <= 400
    assert cache.has(2, 0, 0)
    assert [x for x in range(9) if cache.has(0, x, 0)] == [6, 7, 8]
    get(cache, 0, 6)
    get(cache, 0, 9)
    assert made.count((0, 6)) == 1
    assert not cache.has(0, 7, 0)
    for x in range(100):  # a block that is never used again goes in the end
        get(cache, 0, x)
    assert not cache.has(2, 0, 0)


def test_an_error_reaches_all_who_wait() -> None:
    cache, begun, failures = BlockCache(100), threading.Event(), []

    def fail() -> Array:
        begun.wait(1)
        raise SourceError("image: damaged")

    def read(number: int) -> None:
        if number == 3:
            begun.set()
        try:
            cache.get(0, 0, 0, fail)
        except SourceError as error:
            failures.append(str(error))

    run_on_threads(4, read)
    assert failures == ["image: damaged"] * 4
    assert cache.get(0, 0, 0, lambda: np.zeros((1, 1, 1), np.uint8)).shape == (1, 1, 1)


def test_closed_while_tiles_are_asked_for() -> None:
    pyramid = fasttile.open_pyramid(noise(900, 900, 3), tile_size=64)
    tiles = [*pyramid.pyramid.tiles()]
    begun = threading.Barrier(5)

    def read(number: int) -> None:
        begun.wait()
        chosen = random.Random(number)

        def read_on() -> None:
            while True:
                pyramid.tile(*chosen.choice(tiles))

        with pytest.raises(SourceError, match="image: the pyramid is closed; open it again"):
            read_on()

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    begun.wait()
    pyramid.close()
    pyramid.close()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.parametrize("kind", ["mapped", "tiled", "array"])
def test_a_closed_source_is_a_plain_error(kind: str, tmp_path: Path) -> None:
    path, pixels = tmp_path / "image.tif", noise(3000, 3000, 1)
    tiling = {"tile": (64, 64), "compression": "zlib"} if kind == "tiled" else {}
    tifffile.imwrite(path, pixels, **tiling)
    source = fasttile.open_source(pixels if kind == "array" else path)
    with fasttile.open_pyramid(source) as pyramid:
        assert pyramid.tile(12, 0, 0)
        source.close()
        with pytest.raises(SourceError) as caught:
            pyramid.tile(12, 5, 5)
        assert "\n" not in str(caught.value)
        assert source.name in str(caught.value)


@pytest.mark.parametrize("tiling", [{}, {"tile": (64, 64)}])
def test_a_mapped_file_that_shrinks(tiling: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, noise(1000, 1000, 1), **tiling)
    with fasttile.open_pyramid(path) as pyramid:
        assert pyramid.tile(10, 3, 3)
        with path.open("r+b") as file:
            file.truncate(200_000)
        for tile in ((10, 3, 3), (10, 2, 3), (0, 0, 0)):
            with pytest.raises(TruncatedError, match="shrank"):
                pyramid.tile(*tile)


def test_damaged_images(tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.fromarray(noise(400, 300, 3)).save(data, "PNG")
    path = tmp_path / "cut.png"
    path.write_bytes(data.getvalue()[: len(data.getvalue()) // 2])
    with fasttile.open_pyramid(path) as pyramid:
        for _ in range(2):
            with pytest.raises(TruncatedError, match=r"cut\.png"):
                pyramid.tile(0, 0, 0)
    with fasttile.open_pyramid(path, allow_truncated=True) as pyramid:
        assert pyramid.tile(0, 0, 0)
    path.write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"cut\.png"):
        fasttile.open_pyramid(path)


def test_options_and_results(tmp_path: Path) -> None:
    pixels = noise(100, 90, 3)
    path = fasttile.cut(pixels, tmp_path / "map.dzi").path
    with pytest.raises(OptionError, match=r"map\.dzi.*page: a result has one image"):
        fasttile.open_pyramid(path, page=2)
    with pytest.raises(OptionError, match="cache_bytes -1"):
        fasttile.open_pyramid(pixels, cache_bytes=-1)
    with pytest.raises(TypeError, match="colour"):
        fasttile.open_pyramid(pixels, colour=1)  # type: ignore[call-arg]
    with pytest.raises(OptionError, match="jpeg tiles hold 8 bits"):
        fasttile.open_pyramid(noise(9, 9, 1, dtype=np.uint16), bits=16)
    with fasttile.open_pyramid(pixels, tile_size=64) as pyramid:
        with pytest.raises(IndexError):
            pyramid.tile(7, 9, 0)
        with pytest.raises(IndexError):
            pyramid.tile(8, 0, 0)
        assert repr(pyramid) == "<ImagePyramid 'image': 90×100 pixels>"


def test_a_pyramidal_tiff_is_a_result_or_an_image(tmp_path: Path) -> None:
    pixels = noise(300, 300, 3)
    path = fasttile.cut(pixels, tmp_path / "map.tif", format="deflate").path
    with fasttile.open_pyramid(path) as result:
        assert result.pyramid.tile_size == 256
    with fasttile.open_pyramid(path, layout="dzi", format="png") as pyramid:
        assert pyramid.pyramid.tile_size == 254
        assert pyramid.name == "map"
        found = pyramid.pixels(9, 0, 0)
        assert found is not None
        np.testing.assert_array_equal(found, pixels[:255, :255])
