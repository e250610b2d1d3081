"""The strip walk: rows of a source in, runs of tiles of all levels out, in one pass.

Each level has one strip of rows. When the strip holds a line of tiles, the walk hands them out,
halves the line into the strip of the next smaller level (which may complete a line there too), and
keeps the rows that the next line needs again. So memory grows with the width of the image, not
with its height.

If the source is mapped and the canvas is the image itself, the largest level has no strip: its
tiles are views into the map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fasttile.abc.source import LevelDrawer, RowLender, Source
from fasttile.geometry import Level, Pyramid, Region, Tile
from fasttile.kernels import LightTables
from fasttile.kernels import shrink as shrink_pixels
from fasttile.types import Pixels, Shrink

if TYPE_CHECKING:
    from fasttile.geometry.shards import LevelRange

ShrinkFunction = Callable[[Pixels, Pixels], object]
"""Writes pixels at half their size into an array."""

RUN_PIXELS = 2**20
"""About the number of pixels of a run's tiles: some milliseconds of an encoder's time."""

LINE_BYTES = 24 * 2**20
"""Largest line of tiles of a mapped source that is populated at once, in bytes."""

BLOCK_BYTES = 8 * 2**20
"""Size of a block, in bytes, where a line is larger than that."""

SPARE_BYTES = 2 * 2**20
"""Memory that second and further buffers may take, all levels together, in bytes."""


PROCESS_BASE_BYTES = 45_000_000
"""Memory of the interpreter, NumPy, Pillow and the encoders, measured."""


class RefCount:
    """A count of the holders of a buffer; the last release calls `on_zero`. Thread-safe.

    Without a lock, which a signal could leave held: `append` and `pop` of a list are single steps.
    """

    def __init__(self, on_zero: Callable[[], None]) -> None:
        self._others: list[None] = []  # an entry for each holder but one
        self._on_zero = on_zero

    def acquire(self) -> None:
        """Add a holder."""
        self._others.append(None)

    def release(self) -> None:
        """Remove a holder; the last one calls `on_zero`."""
        with suppress(IndexError):
            self._others.pop()
            return
        self._on_zero()


class TileRun:
    """Neighbouring tiles of one line, with their pixels.

    The pixels are valid until `release`, which must be called once, from any thread.

    Attributes:
        level: The tiles' level.
        row: Their row.
        cols: Their columns.
    """

    def __init__(
        self, level: Level, row: int, cols: range, pixels: Pixels, ref_count: RefCount
    ) -> None:
        self.level = level
        self.row = row
        self.cols = cols
        self._pixels = pixels
        self._ref_count = ref_count
        ref_count.acquire()

    def __len__(self) -> int:
        return len(self.cols)

    def tiles(self) -> Iterator[tuple[Tile, Pixels]]:
        """Each tile with a view of its pixels, shape (height, width, bands)."""
        left = self.level.col_span(self.cols[0])[0]
        for col in self.cols:
            x0, x1 = self.level.col_span(col)
            yield Tile(self.level.number, col, self.row), self._pixels[:, x0 - left : x1 - left]

    def release(self) -> None:
        """Release the pixels."""
        self._ref_count.release()


class _BufferPool:
    """Buffers of the strips: reused; `acquire` waits for runs in use rather than add memory.

    One thread acquires them; others release them, by a queue without a lock in Python: a signal
    could leave that held.
    """

    def __init__(self) -> None:
        self._free: dict[int, SimpleQueue[Pixels]] = {}
        self._created: dict[int, int] = {}
        self._spare_bytes = 0

    def acquire(
        self, key: int, shape: tuple[int, int, int], dtype: np.dtype[Any], guaranteed: int
    ) -> Pixels:
        """A buffer for a level: `guaranteed` ones always, further ones out of SPARE_BYTES."""
        free = self._free.setdefault(key, SimpleQueue())
        with suppress(Empty):
            return free.get_nowait()
        made = self._created.get(key, 0)
        spare = 0 if made < guaranteed else math.prod(shape) * dtype.itemsize
        if self._spare_bytes + spare > SPARE_BYTES:
            return free.get()
        self._created[key] = made + 1
        self._spare_bytes += spare
        return np.empty(shape, dtype)

    def release(self, key: int, buffer: Pixels) -> None:
        self._free[key].put(buffer)


class _Strip:
    """The rows of one level that are in memory: `filled` of them, from row `top` on."""

    def __init__(self, level: Level, fill: Pixels, tile_bands: int, buffers: _BufferPool) -> None:
        margins = level.height - level.frame.height
        rows = min(level.height, level.tile_size + 2 * level.overlap + 1 + margins)
        bands, dtype = len(fill), fill.dtype
        self.level = level
        self.fill = fill
        self.row = 0
        self.top = 0
        self.filled = 0
        self.halved_end = 0
        self.buffer_count = 1
        self._shape = (rows, level.width, bands)
        self._dtype = dtype
        self._retained_rows = np.empty((0, level.width, bands), dtype)
        self._tile_bands = tile_bands
        self._buffers = buffers
        self._buffer: Pixels | None = None
        self._ref_count: RefCount | None = None

    @property
    def rows_missing(self) -> int:
        """The number of rows that the line of tiles still needs."""
        return self.level.rows_needed_end(self.row) - self.bottom

    @property
    def bottom(self) -> int:
        """The first row below those in memory."""
        return self.top + self.filled

    @property
    def needs_buffer(self) -> bool:
        """True if the next rows need a new buffer, because the last one was handed out."""
        return self._buffer is None and self.row > 0

    @property
    def line_complete(self) -> bool:
        """True if all rows of a further line of tiles are in memory."""
        return self.row < self.level.rows and self.rows_missing == 0

    def append_rows(self, rows: int) -> Pixels:
        """A view to write further rows of pixels into; background to its left and right."""
        lines, inset = self._append_full_rows(rows), self.level.inset
        if inset.width == self.level.width:
            return lines
        lines[:, : inset.x] = lines[:, inset.right :] = self.fill
        return lines[:, inset.x : inset.right]

    def append_background(self, end: int) -> None:
        """Append rows of background up to row `end`, or until the line of tiles is complete."""
        self._append_full_rows(min(self.rows_missing, end - self.bottom))[:] = self.fill

    def _append_full_rows(self, rows: int) -> Pixels:
        if self._buffer is None:
            number, buffers = self.level.number, self._buffers
            buffer = buffers.acquire(number, self._shape, self._dtype, self.buffer_count)
            np.copyto(buffer[: len(self._retained_rows)], self._retained_rows)
            self._buffer = buffer
            self._ref_count = RefCount(lambda: buffers.release(number, buffer))
        self.filled += rows
        return self._buffer[self.filled - rows : self.filled]

    def buffered_rows(self) -> tuple[Pixels, RefCount]:
        """All rows in memory, and the count of their holders."""
        if self._buffer is None:  # no row was appended since the last line
            self._append_full_rows(0)
        assert self._buffer is not None
        assert self._ref_count is not None
        return self._buffer[: self.filled], self._ref_count

    def tile_runs(self) -> Iterator[TileRun]:
        """The tiles of the complete line."""
        lines, ref_count = self.buffered_rows()
        y0, y1 = (y - self.top for y in self.level.row_span(self.row))
        tiles = lines[y0:y1, :, : self._tile_bands]
        return _split_line(self.level, self.row, range(self.level.cols), tiles, 0, ref_count)

    def rows_to_halve(self) -> Pixels:
        """The rows of the complete line that are halved with it; the first one is row `top`."""
        return self.buffered_rows()[0][: self.level.halving_end(self.row) - self.top]

    def advance(self) -> None:
        """Start the next line of tiles; keep the rows that it or its halving needs again."""
        lines, ref_count = self.buffered_rows()
        end = self.level.halving_end(self.row)
        self.row += 1
        keep_from = min(self.level.row_span(self.row)[0], end - end % 2, self.bottom)
        # A copy: the next buffer may be this one, once its last holder released it.
        self._retained_rows = lines[keep_from - self.top :].copy()
        self._buffer = self._ref_count = None
        self.top, self.filled = keep_from, len(self._retained_rows)
        ref_count.release()


class _HalvingTask(NamedTuple):
    """Rows of one level that are halved into the strip of the next smaller one.

    Attributes:
        strip: The strip of the rows' level, which counts the rows halved so far.
        pixels: The rows.
        top: The first of them.
        smaller: The strip that the halved rows go into; None if no smaller level is made.
    """

    strip: _Strip
    pixels: Pixels
    top: int
    smaller: _Strip | None

    @property
    def _end(self) -> int:
        """The row that halving ends at: an odd last row waits for the next line."""
        height = self.strip.level.basis.height
        end = min(self.top + len(self.pixels), height)
        return end if end == height else end - end % 2

    @property
    def finished(self) -> bool:
        """True if the smaller level has all rows, background included, that this task makes."""
        if self.smaller is None:
            return True
        inset, bottom = self.smaller.level.inset, self.smaller.bottom
        if bottom < inset.y or self.strip.halved_end < self._end:
            return False
        return not inset.bottom <= bottom < self.smaller.level.height

    def step(self, shrink: ShrinkFunction) -> None:
        """Append rows to the smaller level, at most until a line of its tiles is complete."""
        strip, smaller = self.strip, self.smaller
        assert smaller is not None
        if smaller.bottom < smaller.level.inset.y:
            smaller.append_background(smaller.level.inset.y)
        elif strip.halved_end < self._end:
            start, width = strip.halved_end, strip.level.basis.width
            rows = min(smaller.rows_missing, (self._end - start + 1) // 2)
            strip.halved_end = min(start + 2 * rows, self._end)
            pixels = self.pixels[start - self.top : strip.halved_end - self.top, :width]
            shrink(pixels, smaller.append_rows(rows))
        else:
            smaller.append_background(smaller.level.height)


TopLines = Iterator[tuple[Iterator[TileRun], Iterator[_HalvingTask]]]
"""For each line of the largest level, from top to bottom: its runs, and the tasks that halve it.

The pixels of a task are valid until the next task is asked for.
"""


class _Walk:
    """One pass over a source: the strips of all levels, and a stack of halving tasks.

    The task at the bottom of the stack halves rows of the largest level. A task that completes a
    line of a smaller level pushes the task that halves this line.

    A line of the largest level is halved at once until a strip needs a new buffer, because the
    tiles in its old one were just handed out. The remaining tasks stay on the stack until the next
    line of the largest level was handed out: so encoders have tiles while the walk waits for a
    buffer.
    """

    def __init__(
        self,
        source: Source,
        pyramid: Pyramid | LevelRange,
        shrink: ShrinkFunction,
        background: Sequence[int] | None,
    ) -> None:
        padded = pyramid.levels[-1].padded
        self._lender = None if source.is_mapped or padded else source.lender()
        bands = source.bands if self._lender is None else self._lender.bands
        fill = np.full(bands, np.iinfo(source.dtype).max, source.dtype)
        if background is not None:
            fill[: source.bands] = background
        buffers = _BufferPool()
        self._source = source
        self._shrink = shrink
        self._stored_range = pyramid.stored_range
        self._strips = {
            level.number: _Strip(level, fill, source.bands, buffers) for level in pyramid.levels
        }
        self._top = self._strips[pyramid.levels[-1].number]
        self._top_tasks: Iterator[_HalvingTask] = iter(())
        self._stack: list[_HalvingTask] = []

    def runs(self) -> Iterator[TileRun]:
        """Hand out a line of the largest level, then halve the line before and it."""
        if self._lender is not None:
            lines = self._lent_lines(self._lender)
        elif self._source.is_mapped and not self._top.level.padded:
            lines = self._mapped_lines()
        else:
            lines = self._streamed_lines()
        for runs, tasks in lines:
            if self._top.level.number in self._stored_range:
                yield from runs
            yield from self._halve(wait=True)
            self._top_tasks = tasks
            yield from self._halve(wait=False)
        yield from self._halve(wait=True)

    def _halve(self, *, wait: bool) -> Iterator[TileRun]:
        """Work the stack off, and hand out the lines of smaller levels that become complete.

        Args:
            wait: True if the walk may wait for a buffer; False to stop where a strip needs one.
        """
        while self._stack or self._push_top_task():
            task = self._stack[-1]
            strip = task.smaller
            if strip is not None and strip.line_complete:
                if strip.level.number in self._stored_range:
                    yield from strip.tile_runs()
                self._stack.append(self._task(strip, strip.rows_to_halve(), strip.top))
            elif task.finished:
                self._stack.pop()
                if self._stack:  # the strip of the largest level advances in _streamed_lines
                    task.strip.advance()
            elif strip is not None and strip.needs_buffer and not wait:
                return
            else:
                task.step(self._shrink)

    def _push_top_task(self) -> bool:
        self._stack.extend(islice(self._top_tasks, 1))
        return bool(self._stack)

    def _task(self, strip: _Strip, pixels: Pixels, top: int) -> _HalvingTask:
        number = strip.level.number
        smaller = None if number == self._stored_range.start else self._strips[number - 1]
        return _HalvingTask(strip, pixels, top, smaller)

    def _streamed_lines(self) -> TopLines:
        """Lines of a source that is read into strips: two buffers, because halving comes late."""
        top, source = self._top, self._source
        top.buffer_count = 2
        inset = top.level.inset
        while top.bottom < top.level.height:
            if inset.y <= top.bottom < inset.bottom:
                y, rows = top.bottom - inset.y, top.rows_missing
                if not source.is_mapped:
                    rows = min(rows, source.preferred_rows - y % source.preferred_rows)
                _read(source, y, top.append_rows(min(rows, source.height - y)))
            else:
                top.append_background(inset.y if top.bottom < inset.y else top.level.height)
            while top.line_complete:
                _, ref_count = top.buffered_rows()
                ref_count.acquire()
                yield top.tile_runs(), self._line_task(top.rows_to_halve(), top.top, ref_count)
                top.advance()

    def _mapped_lines(self) -> TopLines:
        """Lines that are views into the map, whose pages are discarded behind them.

        Each call that discards pages interrupts every processor that runs a thread of this
        process. So there is one call a line; if the line is larger than LINE_BYTES, one a block.
        """
        level = self._top.level
        halved = 0  # the end of the rows that the lines so far will have halved
        for row in range(level.rows):
            y0, y1 = level.row_span(row)
            first, end = min(halved, y0), level.halving_end(row)
            lines = self._source.rows(first, max(y1, end))
            own, tiles = lines[: end - first], lines[y0 - first : y1 - first]
            if lines.nbytes <= LINE_BYTES:
                ref_count = _populate(self._source, lines)
                runs = _split_line(level, row, range(level.cols), tiles, 0, ref_count)
                yield runs, self._line_task(own, first, ref_count)
            else:
                yield _split_blocks(self._source, level, row, tiles), self._block_tasks(own, first)
            halved = end - end % 2

    def _lent_lines(self, lender: RowLender) -> TopLines:
        """Lines that are views into what is lent; the last release gives a line back."""
        level = self._top.level
        halved = 0  # the end of the rows that the lines so far will have halved
        for row in range(level.rows):
            y0, y1 = level.row_span(row)
            first, end = min(halved, y0), level.halving_end(row)
            lines = lender.lend(first, max(y1, end))
            ref_count = RefCount(partial(lender.give_back, first))
            tiles = lines[y0 - first : y1 - first, :, : self._source.bands]
            runs = _split_line(level, row, range(level.cols), tiles, 0, ref_count)
            yield runs, self._line_task(lines[: end - first], first, ref_count)
            halved = end - end % 2

    def _line_task(self, lines: Pixels, first: int, ref_count: RefCount) -> Iterator[_HalvingTask]:
        """The task that halves a line of the largest level that is in memory; then release it."""
        yield self._task(self._top, lines, first)
        ref_count.release()

    def _block_tasks(self, lines: Pixels, first: int) -> Iterator[_HalvingTask]:
        """The tasks that halve a line of a mapped source, some rows at a time."""
        top = self._top
        step = max(2, len(lines) * BLOCK_BYTES // lines.nbytes)
        for end in range(top.halved_end - first + step, len(lines) + step, step):
            # From the first row that is not halved: the last block may have left an odd row.
            ref_count = _populate(self._source, lines[top.halved_end - first : end])
            yield self._task(top, lines[:end], first)
            ref_count.release()


def walk(
    source: Source,
    pyramid: Pyramid | LevelRange,
    shrink: Shrink = "mean",
    background: Sequence[int] | None = None,
    light: LightTables | None = None,
) -> Iterator[TileRun]:
    """All tiles of a pyramid's stored levels, in runs, from one pass over the source's rows.

    The order depends on the pyramid only. Lines of large levels come before the lines of smaller
    levels that are made from them; if the canvas rounds up and all levels are stored, the last run
    is the 1×1 tile.

    Each run must be released; the walk may wait for that. A consumer that processes runs on the
    thread that iterates has to release each run before it asks for the next.

    Args:
        source: The image; its size is that of the image on the canvas.
        pyramid: The levels to make: a pyramid, or some of its levels.
        shrink: Method that reduces four pixels of a level to one of the next smaller, see
            `kernels.shrink`.
        background: Colour of the canvas outside the image, a value for each band. Default: the
            largest value in all bands.
        light: The tables of the method "linear".

    Raises:
        SourceError: The source cannot be read.
    """
    method = partial(shrink_pixels, method=shrink, alpha=source.has_alpha, light=light)
    return _Walk(source, pyramid, method, background).runs()


def draw_runs(draw: LevelDrawer, pyramid: Pyramid, fill: Pixels) -> Iterator[TileRun]:
    """All tiles of a pyramid whose levels are drawn by themselves, from the largest level on.

    Args:
        draw: Called for each tile, from the thread that iterates.
        pyramid: The pyramid.
        fill: The pixel outside of the image, shape (bands,).

    Raises:
        SourceError: A tile cannot be drawn.
    """
    ref_count = RefCount(lambda: None)
    for level in reversed(pyramid.stored_levels):
        for _, col, row in level.tiles():
            pixels = draw_region(draw, pyramid, level.number, level.region(col, row), fill)
            yield TileRun(level, row, range(col, col + 1), pixels, ref_count)


def draw_region(
    draw: LevelDrawer, pyramid: Pyramid, number: int, region: Region, fill: Pixels
) -> Pixels:
    """Draw a region of a level; the level is background outside of the image.

    Args:
        draw, pyramid, fill: As for `draw_runs`.
        number, region: The level, and a region of its raster.
    """
    place, scale = pyramid.placement(number), 1 << pyramid.downscale_exponent(number)
    inner = region.intersection(place)
    if inner == region:
        return draw(region.shifted(-place.x, -place.y), scale)
    out = np.empty((region.height, region.width, len(fill)), fill.dtype)
    out[:] = fill
    if inner.width and inner.height:
        x, y = inner.x - region.x, inner.y - region.y
        pixels = draw(inner.shifted(-place.x, -place.y), scale)
        out[y : y + inner.height, x : x + inner.width] = pixels
    return out


def _read(source: Source, y: int, out: Pixels) -> None:
    """Read rows of a source into a strip."""
    if not source.is_mapped:
        source.read(y, out)
        return
    view = source.rows(y, y + len(out))
    source.populate(view)
    np.copyto(out, view)
    source.discard(view)


def _split_blocks(source: Source, level: Level, row: int, lines: Pixels) -> Iterator[TileRun]:
    """The tiles of a line of a mapped source, some columns at a time."""
    step = max(1, level.cols * BLOCK_BYTES // lines.nbytes)
    for start in range(0, level.cols, step):
        cols = range(start, min(start + step, level.cols))
        x0, x1 = level.col_span(cols[0])[0], level.col_span(cols[-1])[1]
        block = lines[:, x0:x1]
        ref_count = _populate(source, block)
        yield from _split_line(level, row, cols, block, x0, ref_count)
        ref_count.release()


def _populate(source: Source, view: Pixels) -> RefCount:
    """Bring a view of a mapped source into memory; the last release discards its pages."""
    source.populate(view)
    return RefCount(lambda: source.discard(view))


def _split_line(
    level: Level, row: int, cols: range, lines: Pixels, left: int, ref_count: RefCount
) -> Iterator[TileRun]:
    """The tiles of neighbouring columns as runs of about RUN_PIXELS, at most 64 tiles.

    Args:
        level, row, cols: The tiles.
        lines: Their rows, from column `left` of the level on.
        left: The level's column that `lines` begins with.
        ref_count: Holders of the rows.
    """
    step = max(1, RUN_PIXELS // (level.tile_size + 2 * level.overlap) ** 2)
    step = min(step, 64)
    for start in range(cols.start, cols.stop, step):
        part = range(start, min(start + step, cols.stop))
        x0, x1 = level.col_span(part[0])[0], level.col_span(part[-1])[1]
        yield TileRun(level, row, part, lines[:, x0 - left : x1 - left], ref_count)


def memory_bytes(source: Source, pyramid: Pyramid) -> int:
    """Memory that a cut of an image takes, about."""
    # A cut holds a strip of each level, two of the largest one (or as many lines that are lent).
    *lower, top = (
        (level.tile_size + 2 * level.overlap) * level.width * source.bands * source.dtype.itemsize
        for level in pyramid.levels
    )
    if source.is_mapped:
        top = min(top, LINE_BYTES)
    return PROCESS_BASE_BYTES + source.memory_bytes + 2 * top + sum(lower) + SPARE_BYTES
