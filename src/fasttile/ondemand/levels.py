"""The pixels of all levels of an image: blocks that are made when they are needed, and a cache."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np

from fasttile.abc.source import FUNCTION_FORMAT, Source
from fasttile.errors import FasttileError, SourceError, first_line
from fasttile.geometry import Region
from fasttile.jobs.cut_job import MAX_DRAWN_PIXELS, CutJob
from fasttile.kernels import shrink
from fasttile.sources.conversions import Croppable, crop
from fasttile.sources.transforms import pixel_bytes_of, read_fully
from fasttile.types import Pixels
from fasttile.walk import draw_region

MAPPED_BYTES = 2**28
"""About the largest part of a mapped file whose pages are kept in this process, in bytes."""

LINE_BYTES = 2**26
"""About the largest part of an image that a thread makes a line of blocks of at once, in bytes."""

SHARED_DEPTH = 2
"""Threads share the work for levels that are smaller by more halvings."""

POPULATED_DEPTH = 3
"""A block that is smaller by this number of halvings brings its part of a mapped file into memory
at once: there is a call of the system for each row of pixels, however long it is."""

_PAGE_BYTES = 4096

_TILE, _IMAGE = -1, 0

_MIN_BLOCK_SIDE, _MAX_BLOCK_SIDE = 192, 512


class LevelPixels:
    """The pixels of all levels of an image, for many threads.

    Args:
        job: The open image, its geometry and its colours.
        cache_bytes: Largest size of the pixels that are kept, in bytes.
        keeps_source: False closes the image once all of it was read.
    """

    def __init__(self, job: CutJob, cache_bytes: int, *, keeps_source: bool) -> None:
        pyramid = job.layout.pyramid
        self._name = job.source.name
        self._pyramid = pyramid
        self._levels = pyramid.levels
        self._top = len(self._levels) - 1
        self._shrink = partial(
            shrink,
            method=job.plan.options.shrink,
            alpha=job.image.has_alpha,
            light=job.light,
        )
        self._is_function = job.source.metadata.format == FUNCTION_FORMAT
        self._draw = job.converted_source.draw_level
        self._blocks = BlockCache(cache_bytes, 4 if self._draw is None else 1)
        self._scratch = _Scratch()
        self._image = _ImageRegions(
            job.converted_source, self._blocks, self._scratch, keeps_source=keeps_source
        )
        self._dtype = job.source.dtype
        self._fill = np.array(job.fill_values, self._dtype)
        self._pixel_bytes = len(self._fill) * self._dtype.itemsize
        self._side = _block_side(pyramid.tile_size)
        self._max_shared_bytes = cache_bytes // 2
        self._pool = ThreadPoolExecutor(job.plan.options.thread_count, "fasttile-levels")

    def read(self, number: int, region: Region) -> Pixels:
        """Pixels of a region of a level, shape (height, width, bands), for this thread only.

        They may be a view, and are valid until the next call of the thread.

        Raises:
            SourceError: The image cannot be read.
        """
        if self._draw is not None:
            make = partial(draw_region, self._draw, self._pyramid, number, region, self._fill)
            return self._blocks.get(number, region.x, region.y, make)
        count = region.width * region.height << 2 * (self._top - number)
        if self._is_function and count > MAX_DRAWN_PIXELS:
            raise SourceError(
                f"{self._name}: a tile of level {number} needs {count:,} pixels of the function; "
                "draw each level by itself (per_level=True)"
            )
        self._make_on_threads(number, region)
        return self._read(number, region)

    def check_intact(self) -> None:
        """Raise a TruncatedError if a part of the image is lost, so that it was read as zeros."""
        self._image.check_intact()

    def close(self) -> None:
        """End the threads, and forget all pixels."""
        self._pool.shutdown(cancel_futures=True)
        self._blocks.clear()

    def _read(self, number: int, region: Region) -> Pixels:
        out = None
        for part, pixels in self._pieces(number, region, is_populated=False):
            if part == region:
                return pixels
            if out is None:
                out = self._scratch.get(_TILE, self._shape_of(region), self._dtype)
            out[_window(part, region)] = pixels
        assert out is not None  # a region has pixels
        return out

    def _empty(self, region: Region) -> Pixels:
        return np.empty(self._shape_of(region), self._dtype)

    def _shape_of(self, region: Region) -> tuple[int, int, int]:
        return region.height, region.width, len(self._fill)

    def _pieces(
        self, number: int, region: Region, *, is_populated: bool
    ) -> Iterator[tuple[Region, Pixels]]:
        """The parts of a region of a level that its blocks have; all of it on the largest level."""
        if number == self._top:
            yield region, self._read_top(region, is_populated=is_populated)
            return
        level = self._levels[number]
        if is_populated and level.width * level.height * self._pixel_bytes > self._max_shared_bytes:
            # The level does not fit into the cache: memory is used again, which is twice as fast.
            out = self._scratch.get(self._top - number, self._shape_of(region), self._dtype)
            yield region, self._make_block(number, region, is_populated, out)
            return
        for block in self._blocks_of(number, region):
            part = region.intersection(block)
            yield part, self._block(number, block, is_populated)[_window(part, block)]

    def _blocks_of(self, number: int, region: Region) -> Iterator[Region]:
        """The blocks of a level that a region touches."""
        level, side = self._levels[number], self._side
        for y in range(region.y - region.y % side, region.bottom, side):
            for x in range(region.x - region.x % side, region.right, side):
                yield Region(x, y, min(side, level.width - x), min(side, level.height - y))

    def _block(self, number: int, block: Region, is_populated: bool) -> Pixels:
        make = partial(self._make_block, number, block, is_populated)
        return self._blocks.get(self._top - number, block.x, block.y, make)

    def _make_block(
        self, number: int, block: Region, is_populated: bool, out: Pixels | None = None
    ) -> Pixels:
        """Halve the next larger level; the level is background outside of its inset.

        Args:
            number, block: The level, and a region of it that begins at even places.
            is_populated: True if its part of a mapped file is in memory.
            out: The array to write to. Default: a new one.
        """
        out, level = self._empty(block) if out is None else out, self._levels[number]
        inner = block.intersection(level.inset)
        if inner != block:
            out[:] = self._fill
        needed = self._larger_region(number, block)
        if not needed.width or not needed.height:
            return out
        is_deep = self._top - number == POPULATED_DEPTH
        if is_deep and not is_populated and not self._has_blocks(number + 1, needed):
            self._populate(number, block)
            is_populated = True
        for part, pixels in self._pieces(number + 1, needed, is_populated=is_populated):
            # The part begins at even places, and ends at one or with the level.
            x = inner.x - block.x + (part.x - needed.x) // 2
            y = inner.y - block.y + (part.y - needed.y) // 2
            target = out[y : y + (part.height + 1) // 2, x : x + (part.width + 1) // 2]
            self._shrink(pixels, target)
        return out

    def _larger_region(self, number: int, region: Region) -> Region:
        """The region of the next larger level that a region is made from; it may be empty."""
        inset, larger = self._levels[number].inset, self._levels[number + 1]
        x, y, width, height = region.intersection(inset).shifted(-inset.x, -inset.y)
        return Region(2 * x, 2 * y, 2 * width, 2 * height).intersection(larger.basis)

    def _read_top(self, region: Region, *, is_populated: bool) -> Pixels:
        """Pixels of a region of the largest level: of the image, and background around it."""
        inset = self._levels[self._top].inset
        inner = region.intersection(inset)
        if not inner.width or not inner.height:
            out = self._empty(region)
            out[:] = self._fill
            return out
        pixels = self._image.read(inner.shifted(-inset.x, -inset.y), is_populated=is_populated)
        if inner == region:
            return pixels
        out = self._empty(region)
        out[:] = self._fill
        out[_window(inner, region)] = pixels
        return out

    def _has_blocks(self, number: int, region: Region) -> bool:
        """True if any block of a region is in the cache."""
        depth = self._top - number
        return any(
            self._blocks.has(depth, block.x, block.y) for block in self._blocks_of(number, region)
        )

    def _populate(self, number: int, region: Region) -> None:
        """Bring the part of the image that a region is made from into memory, if it is mapped."""
        for level in range(number, self._top):
            region = self._larger_region(level, region)
        inset = self._levels[self._top].inset
        region = region.intersection(inset).shifted(-inset.x, -inset.y)
        if region.width and region.height:
            self._image.populate(region)

    def _make_on_threads(self, number: int, region: Region) -> None:
        """Make the blocks that a region of a small level needs of a larger one, if they are many.

        The larger level is chosen so that the cache can keep all of them until they are used.
        """
        for near in range(self._top - SHARED_DEPTH, number, -1):
            missing = [*self._missing_blocks(number, region, near)]
            if len(missing) * self._side**2 * self._pixel_bytes <= self._max_shared_bytes:
                break
        else:
            return
        depth = self._top - near
        step = max(1, LINE_BYTES // (self._pixel_bytes * (self._side << depth) ** 2))
        lines: dict[int, list[Region]] = {}
        for block in missing:
            lines.setdefault(block.y, []).append(block)
        parts = [
            line[start : start + step]
            for line in lines.values()
            for start in range(0, len(line), step)
        ]
        for _ in self._pool.map(partial(self._make_line, near), parts):
            pass  # raises the errors of the threads

    def _make_line(self, number: int, line: list[Region]) -> None:
        """Make some blocks of a line."""
        is_wide = self._top - number < POPULATED_DEPTH
        if is_wide:
            first, last = line[0], line[-1]
            self._populate(number, Region(first.x, first.y, last.right - first.x, first.height))
        for block in line:
            self._block(number, block, is_wide)

    def _missing_blocks(self, number: int, region: Region, near: int) -> Iterator[Region]:
        """The blocks of level `near` that a region of a smaller level needs, line by line."""
        blocks = [
            block
            for block in self._blocks_of(number, region)
            if not self._blocks.has(self._top - number, block.x, block.y)
        ]
        if number == near:
            yield from blocks
            return
        for block in blocks:
            needed = self._larger_region(number, block)
            if needed.width and needed.height:
                yield from self._missing_blocks(number + 1, needed, near)


class _Scratch(threading.local):
    """Arrays of a thread that are used again: new memory takes as long as the pixels.

    There is one for each depth of a level, one for the image and one for a tile.
    """

    def __init__(self) -> None:
        self._memory: dict[int, Pixels] = {}

    def get(self, depth: int, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Pixels:
        """An array; the last one of the same purpose is invalid then."""
        memory, size = self._memory.get(depth), math.prod(shape)
        if memory is None or len(memory) < size:
            memory = self._memory[depth] = np.empty(size, dtype)
        return memory[:size].reshape(shape)


def _block_side(tile_size: int) -> int:
    """Side of the blocks: even, a multiple or a part of a tile's, and not very small or large."""
    side = tile_size
    while side < _MIN_BLOCK_SIDE:
        side *= 2
    while side > _MAX_BLOCK_SIDE:
        side = -(-side // 2)
    return side + side % 2


def _window(part: Region, around: Region) -> tuple[slice, slice]:
    """The slices of an array of a region that are a part of it."""
    x, y = part.x - around.x, part.y - around.y
    return slice(y, y + part.height), slice(x, x + part.width)


class _ImageRegions:
    """Regions of an image, for many threads.

    Views of a mapped source are taken as they are. An image whose rows come in order, or that its
    source keeps in memory anyway, is read completely at the first call. Of other sources, blocks
    are read and kept in the cache.
    """

    def __init__(
        self, source: Source, blocks: BlockCache, scratch: _Scratch, *, keeps_source: bool
    ) -> None:
        self._source = source
        self._blocks = blocks
        self._scratch = scratch
        self._keeps_source = keeps_source
        is_held = source.memory_bytes >= pixel_bytes_of(source)
        in_any_order = source.random_access or source.has_parallel_regions
        self._is_complete = source.is_mapped or (in_any_order and not is_held)
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._populated_bytes = 0
        self._populated: set[Region] = set()
        cols = source.preferred_cols or (1 if isinstance(source, Croppable) else source.width)
        rows = source.preferred_rows
        self._block_width = cols * -(-_MIN_BLOCK_SIDE // cols) if cols > 1 else 256
        self._block_height = rows * -(-_MIN_BLOCK_SIDE // rows)

    def read(self, region: Region, *, is_populated: bool) -> Pixels:
        """Pixels of a region, valid until the thread's next call.

        Raises:
            SourceError: They cannot be read.
        """
        if not self._is_complete:
            self._read_all()
        if self._source.is_mapped:
            if not is_populated:
                self.populate(region)
            return self._view(region)
        width, height = self._block_width, self._block_height
        out = None
        for y in range(region.y - region.y % height, region.bottom, height):
            for x in range(region.x - region.x % width, region.right, width):
                block = Region(x, y, width, height)
                block = block.intersection(Region(0, 0, self._source.width, self._source.height))
                pixels = self._blocks.get(0, x, y, partial(self._read_block, block))
                part = region.intersection(block)
                if part == region:
                    return pixels[_window(part, block)]
                if out is None:
                    shape = region.height, region.width, pixels.shape[2]
                    out = self._scratch.get(_IMAGE, shape, pixels.dtype)
                out[_window(part, region)] = pixels[_window(part, block)]
        assert out is not None  # a region has pixels
        return out

    def populate(self, region: Region) -> None:
        """Bring a region of a mapped source into memory.

        Raises:
            SourceError: The file has shrunk or cannot be read.
        """
        if not self._source.is_mapped:
            return
        view = self._view(region)
        if region in self._populated:
            self.check_intact()  # pages that are mapped are lost with the end of the file
            return
        nbytes = region.height * max(_PAGE_BYTES, view[0].nbytes)
        with self._lock:
            self._populated_bytes += nbytes
            is_much = self._populated_bytes > MAPPED_BYTES
            if is_much:
                self._populated.clear()
                self._populated_bytes = nbytes
        if is_much:  # threads that use such pages now get them again from the system's cache
            self._source.discard(self._source.rows(0, self._source.height))
        self._source.populate(view)
        self._populated.add(region)

    def check_intact(self) -> None:
        """Check that what was read are pixels of the image."""
        try:
            self._source.check_intact()
        except OSError as error:
            raise self._closed_error() from error

    def _view(self, region: Region) -> Pixels:
        view = self._source.rows(region.y, region.bottom)[:, region.x : region.right]
        if view.shape[:2] != (region.height, region.width):
            raise self._closed_error()
        return view

    def _closed_error(self) -> SourceError:
        return SourceError(f"{self._source.name}: the image is closed; open it again")

    def _read_all(self) -> None:
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._is_complete:
                return
            try:
                self._source = read_fully(self._source, close=not self._keeps_source)
            except BaseException as error:
                self._failure = error  # rows that come in order cannot be read again
                raise
            self._is_complete = True

    def _read_block(self, block: Region) -> Pixels:
        source = self._source
        with nullcontext() if source.has_parallel_regions else self._lock:
            try:
                part = crop(source, block)  # never closed, as that closes the source
                out = np.empty((block.height, block.width, source.bands), source.dtype)
                part.read(0, out)
            except FasttileError:
                raise
            except Exception as error:
                raise SourceError(
                    f"{source.name}: pixels cannot be read: {first_line(error)}; open the image "
                    "again"
                ) from error
        return out


class BlockCache:
    """Blocks of pixels that are made once, and kept as far as a number of bytes allows.

    A block of a level costs four times as much as one of the next larger level. So the block is
    evicted whose cost plus the cost of the last one that was evicted before its last use is the
    smallest: GreedyDual (N. Young, 1991), which is LRU for blocks of one level.

    Args:
        max_bytes: The limit. A block that is larger is not kept.
        factor: The cost of a block, as a multiple of that of one of the next larger level.
    """

    def __init__(self, max_bytes: int, factor: int = 4) -> None:
        self.max_bytes = max_bytes
        self._factor = factor
        self.bytes = 0
        self._lock = threading.Lock()
        self._evicted_cost = 0
        self._levels: dict[int, OrderedDict[tuple[int, int], tuple[int, Pixels]]] = {}
        self._pending: dict[tuple[int, int, int], Future[Pixels]] = {}

    def get(self, depth: int, x: int, y: int, make: Callable[[], Pixels]) -> Pixels:
        """A block; one thread makes it, and others that ask for it meanwhile wait.

        Args:
            depth: Number of levels below the full size.
            x, y: Its place.
            make: Makes it, perhaps of blocks of a smaller depth.
        """
        key = depth, x, y
        with self._lock:
            found = self._levels.setdefault(depth, OrderedDict())
            entry = found.pop((x, y), None)
            if entry is not None:
                found[x, y] = self._evicted_cost + self._factor**depth, entry[1]
                return entry[1]
            pending = self._pending.get(key)
            if pending is None:
                own = self._pending[key] = Future()
        if pending is not None:
            return pending.result()
        try:
            block = make()
        except BaseException as error:
            with self._lock:
                del self._pending[key]
            own.set_exception(error)
            raise
        with self._lock:
            self._insert(depth, (x, y), block)
            del self._pending[key]
        own.set_result(block)
        return block

    def has(self, depth: int, x: int, y: int) -> bool:
        """True if a block is kept."""
        return (x, y) in self._levels.get(depth, ())

    def clear(self) -> None:
        """Forget all blocks."""
        with self._lock:
            self._levels.clear()
            self.bytes = 0

    def _insert(self, depth: int, place: tuple[int, int], block: Pixels) -> None:
        if block.nbytes > self.max_bytes:
            return
        while self.bytes + block.nbytes > self.max_bytes:
            filled = [blocks for blocks in self._levels.values() if blocks]
            cheapest = min(filled, key=lambda blocks: next(iter(blocks.values()))[0])
            _, (self._evicted_cost, evicted) = cheapest.popitem(last=False)
            self.bytes -= evicted.nbytes
        cost = self._evicted_cost + self._factor**depth
        self._levels.setdefault(depth, OrderedDict())[place] = cost, block
        self.bytes += block.nbytes
