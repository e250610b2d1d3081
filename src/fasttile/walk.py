"""The strip walk: rows of a source in, runs of tiles of every level out, in one pass.

Each level owns one strip of rows. When the strip holds a complete line of tiles, those are handed
out, the strip is halved into the strip of the level below (which may fill in its turn), and what
the next line needs again is kept. So memory grows with the width of the image, not its height.

The top level has no strip where the source is mapped: its tiles are views into the map, unless
the canvas is larger than the image.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fasttile.abc.source import Source
from fasttile.geometry import Level, Pyramid, Tile
from fasttile.geometry.shards import LevelRange
from fasttile.kernels import shrink
from fasttile.types import Pixels, Shrink

RUN_PIXELS = 2**20
"""About how many pixels the tiles of one run hold: some milliseconds of an encoder's time."""

LINE_BYTES = 24 * 2**20
"""How much of a mapped source is brought into memory at a time, as one line of tiles."""

BLOCK_BYTES = 8 * 2**20
"""How much at a time where a line is more than that."""

SPARE_BYTES = 2 * 2**20
"""How much memory second and further strips of a level may take, all levels together."""


class RefCount:
    """Counts who still needs some memory, and says when nobody does. Safe from many threads."""

    def __init__(self, on_zero: Callable[[], None]) -> None:
        self._count = 1
        self._lock = threading.Lock()
        self._on_zero = on_zero

    def acquire(self) -> None:
        """One more holder."""
        with self._lock:
            self._count += 1

    def release(self) -> None:
        """One holder less; the last one ends the lease."""
        with self._lock:
            self._count -= 1
            ended = self._count == 0
        if ended:
            self._on_zero()


class TileRun:
    """Some neighbouring tiles of one line, with their pixels.

    The pixels may be used until `release`, which must be called once, from any thread.

    Attributes:
        level: The level that the tiles belong to.
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
        """Give the pixels back."""
        self._ref_count.release()


class _BufferPool:
    """The strips' memory: reused, and bounded by waiting for runs that are still in use."""

    def __init__(self) -> None:
        self._free: dict[int, list[Pixels]] = {}
        self._created: dict[int, int] = {}
        self._spare_bytes = 0
        self._changed = threading.Condition()

    def acquire(
        self, key: int, shape: tuple[int, int, int], dtype: np.dtype[Any], guaranteed: int
    ) -> Pixels:
        """A buffer for a level; `due` of them always, further ones only while that is cheap."""
        nbytes = math.prod(shape) * dtype.itemsize
        with self._changed:
            free = self._free.setdefault(key, [])
            while not free:
                made = self._created.get(key, 0)
                spare = 0 if made < guaranteed else nbytes
                if self._spare_bytes + spare <= SPARE_BYTES:
                    self._created[key] = made + 1
                    self._spare_bytes += spare
                    return np.empty(shape, dtype)
                self._changed.wait()
            return free.pop()

    def give_back(self, key: int, buffer: Pixels) -> None:
        with self._changed:
            self._free[key].append(buffer)
            self._changed.notify_all()


class _Strip:
    """The rows of one level that are at hand, from `top`, `filled` of them."""

    def __init__(self, level: Level, fill: Pixels, buffers: _BufferPool) -> None:
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
        self._buffers = buffers
        self._buffer: Pixels | None = None
        self._ref_count: RefCount | None = None

    @property
    def rows_missing(self) -> int:
        """Number of rows that the line of tiles still lacks."""
        return self.level.rows_needed_end(self.row) - self.top - self.filled

    @property
    def bottom(self) -> int:
        """The first row below those at hand."""
        return self.top + self.filled

    @property
    def needs_buffer(self) -> bool:
        """Whether the next rows need another buffer than those that were handed out."""
        return self._buffer is None and self.row > 0

    @property
    def line_complete(self) -> bool:
        """Whether a further line of tiles is there, with all its rows."""
        return self.row < self.level.rows and self.rows_missing == 0

    def append_rows(self, rows: int) -> Pixels:
        """A view into which a number of further rows can be written.

        Right and left of it there is background.
        """
        lines, inset = self._append_full_rows(rows), self.level.inset
        if inset.width == self.level.width:
            return lines
        lines[:, : inset.x] = lines[:, inset.right :] = self.fill
        return lines[:, inset.x : inset.right]

    def append_background(self, end: int) -> None:
        """Add rows of background up to a row, or to the end of the line of tiles."""
        self._append_full_rows(min(self.rows_missing, end - self.bottom))[:] = self.fill

    def _append_full_rows(self, rows: int) -> Pixels:
        buffer = self._current_buffer()
        self.filled += rows
        return buffer[self.filled - rows : self.filled]

    def buffered_rows(self) -> tuple[Pixels, RefCount]:
        """All rows at hand, and the lease that guards them."""
        buffer = self._current_buffer()
        assert self._ref_count is not None
        return buffer[: self.filled], self._ref_count

    def tile_runs(self) -> Iterator[TileRun]:
        """The tiles of the complete line."""
        lines, lease = self.buffered_rows()
        y0, y1 = self.level.row_span(self.row)
        cols = range(self.level.cols)
        return _split_line(
            self.level, self.row, cols, lines[y0 - self.top : y1 - self.top], 0, lease
        )

    def advance(self, halved_end: int) -> None:
        """Go on to the next line of tiles, keeping what it has in common with this one.

        Args:
            halved: From which row on halving will go on; these rows are kept too.
        """
        lines, lease = self.buffered_rows()
        keep_from = min(self.level.row_span(self.row + 1)[0], halved_end, self.top + len(lines))
        self.row += 1
        # Kept aside: the next buffer may be this one, once nobody needs it any more.
        self._retained_rows = lines[keep_from - self.top :].copy()
        self._buffer = self._ref_count = None
        self.top, self.filled = keep_from, len(self._retained_rows)
        lease.release()

    def _current_buffer(self) -> Pixels:
        if self._buffer is None:
            number, buffers = self.level.number, self._buffers
            buffer = buffers.acquire(number, self._shape, self._dtype, self.buffer_count)
            np.copyto(buffer[: len(self._retained_rows)], self._retained_rows)
            self._buffer = buffer
            self._ref_count = RefCount(lambda: buffers.give_back(number, buffer))
        return self._buffer


@dataclass(frozen=True)
class _LevelStrips:
    """The strips of all levels, and what makes rows of one from twice as many of the next.

    Tiles are handed out of those that are kept; smaller ones than those are not made.
    """

    strips: list[_Strip]
    halve: Callable[[Pixels, Pixels], Pixels]
    stored_range: range

    @property
    def top(self) -> _Strip:
        """The strip of the largest level."""
        return self.strips[-1]

    def below(self, strip: _Strip) -> _Strip:
        """The strip of the next smaller level."""
        return self.strips[strip.level.number - self.strips[0].level.number - 1]


def walk(
    source: Source,
    pyramid: Pyramid | LevelRange,
    shrink: Shrink = "mean",
    background: Sequence[int] | None = None,
) -> Iterator[TileRun]:
    """All tiles of a pyramid that are kept, in runs, from one pass over the source's rows.

    The order depends on the pyramid only. Lines of large levels come before those of smaller
    ones that are made from them; where the canvas rounds up and all levels are kept, the last
    run is the 1×1 tile.

    Each run must be released, and until it is, it may keep the walk from going on: a consumer
    that works off runs in other threads need not bother; one that does not releases each run
    before it asks for the next.

    Args:
        source: The image; its size is that of the image on the canvas.
        pyramid: What to cut it into, or a part of that.
        shrink: How four pixels of a level become one of the next smaller, see `resample.shrink`.
        background: What the canvas is outside the image, a value for each band. Default: the
            largest value of all bands.

    Raises:
        SourceError: The source cannot be read.
    """
    steps = _steps(source, pyramid, shrink, background)
    return (step for step in steps if step is not None)


# Inside, a step is a run or None. None says that what follows has to wait until tiles that were
# just handed out are encoded; other tiles are handed out first.
WalkSteps = Iterator[TileRun | None]


def _steps(
    source: Source, pyramid: Pyramid | LevelRange, method: Shrink, background: Sequence[int] | None
) -> WalkSteps:
    """Hand out a line of the largest level, then halve the one before and it, as far as can be."""
    buffers = _BufferPool()
    pad = np.full(source.bands, np.iinfo(source.dtype).max, source.dtype)
    if background is not None:
        pad[:] = background
    strips = [_Strip(level, pad, buffers) for level in pyramid.levels]
    levels = _LevelStrips(
        strips, partial(shrink, method=method, alpha=source.has_alpha), pyramid.stored_range
    )
    mapped = source.is_mapped and not levels.top.level.padded
    lines = _mapped_lines(levels, source) if mapped else _streamed_lines(levels, source)
    unfinished: WalkSteps = iter(())
    for runs, halving in lines:
        if levels.top.level.number in levels.stored_range:
            yield from runs
        yield from unfinished
        for step in halving:
            if step is None:
                break
            yield step
        unfinished = halving
    yield from unfinished


LineSteps = Iterator[tuple[Iterator[TileRun], WalkSteps]]
"""For each line of the largest level, top to bottom: its runs, and what halves it later."""


def _streamed_lines(levels: _LevelStrips, source: Source) -> LineSteps:
    """Rows are read into strips; of these there are two, because halving comes late."""
    top = levels.top
    top.buffer_count = 2
    inset = top.level.inset
    while top.bottom < top.level.height:
        if inset.y <= top.bottom < inset.bottom:
            y = top.bottom - inset.y
            _read(source, y, top.append_rows(_readable_rows(source, y, top.rows_missing)))
        else:
            top.append_background(inset.y if top.bottom < inset.y else top.level.height)
        while top.line_complete:
            lines, lease = top.buffered_rows()
            lease.acquire()
            first, end = top.top, top.level.halving_end(top.row)
            yield top.tile_runs(), _halve_line(levels, lines[: end - first], first, lease)
            top.advance(end - end % 2)


def _readable_rows(source: Source, y: int, rows_missing: int) -> int:
    """How many rows from row y on to read at a time."""
    step = rows_missing if source.is_mapped else source.preferred_rows - y % source.preferred_rows
    return min(rows_missing, step, source.height - y)


def _read(source: Source, y: int, out: Pixels) -> None:
    """Read rows of any source into a strip."""
    if not source.is_mapped:
        source.read(y, out)
        return
    view = source.rows(y, y + len(out))
    source.populate(view)
    np.copyto(out, view)
    source.discard(view)


def _mapped_lines(levels: _LevelStrips, source: Source) -> LineSteps:
    """Lines are views into the map; its pages are discarded behind them.

    To discard pages interrupts every processor that runs a thread of fasttile, once a call. So it is
    done once a line, unless the line is too much memory: then block by block.
    """
    level = levels.top.level
    halved = 0  # up to which row the lines so far are halved, once they are
    for row in range(level.rows):
        y0, y1 = level.row_span(row)
        first, end = min(halved, y0), level.halving_end(row)
        lines = source.rows(first, max(y1, end))
        own, tiles = lines[: end - first], lines[y0 - first : y1 - first]
        if lines.nbytes <= LINE_BYTES:
            lease = _populate(source, lines)
            runs = _split_line(level, row, range(level.cols), tiles, 0, lease)
            yield runs, _halve_line(levels, own, first, lease)
        else:
            runs = _split_blocks(source, level, row, tiles)
            yield runs, _halve_blocks(levels, source, own, first)
        halved = end - end % 2


def _split_blocks(source: Source, level: Level, row: int, lines: Pixels) -> Iterator[TileRun]:
    """The tiles of a line of a mapped source, some columns at a time."""
    step = max(1, level.cols * BLOCK_BYTES // lines.nbytes)
    for start in range(0, level.cols, step):
        cols = range(start, min(start + step, level.cols))
        x0, x1 = level.col_span(cols[0])[0], level.col_span(cols[-1])[1]
        block = lines[:, x0:x1]
        lease = _populate(source, block)
        yield from _split_line(level, row, cols, block, x0, lease)
        lease.release()


def _halve_line(levels: _LevelStrips, lines: Pixels, first: int, ref_count: RefCount) -> WalkSteps:
    """Halve a line of the largest level that is in memory, and release it."""
    yield from _halve_into(levels, levels.top, lines, first)
    ref_count.release()


def _halve_blocks(levels: _LevelStrips, source: Source, lines: Pixels, first: int) -> WalkSteps:
    """Halve a line of a mapped source, some rows at a time."""
    top = levels.top
    step = max(2, len(lines) * BLOCK_BYTES // lines.nbytes)
    for end in range(top.halved_end - first + step, len(lines) + step, step):
        # From what is not halved yet: the block before may have left an odd last row.
        lease = _populate(source, lines[top.halved_end - first : end])
        yield from _halve_into(levels, top, lines[:end], first)
        lease.release()


def _emit_complete_lines(levels: _LevelStrips, strip: _Strip) -> WalkSteps:
    """While a strip holds a complete line of tiles, hand them out, halve it, and go on."""
    level = strip.level
    while strip.line_complete:
        if level.number in levels.stored_range:
            yield from strip.tile_runs()
        lines, _ = strip.buffered_rows()
        end = level.halving_end(strip.row)
        yield from _halve_into(levels, strip, lines[: end - strip.top], strip.top)
        strip.advance(end - end % 2)


def _halve_into(levels: _LevelStrips, strip: _Strip, lines: Pixels, top: int) -> WalkSteps:
    """Halve what is new of a level, `lines` from row `top` on, into the level below."""
    level = strip.level
    if level.number == levels.stored_range.start:
        return
    below = levels.below(strip)
    inset = below.level.inset
    yield from _append_background(levels, below, inset.y)
    end = min(top + len(lines), level.basis.height)
    if end < level.basis.height:
        end -= end % 2
    while strip.halved_end < end:
        if below.needs_buffer:
            yield None
        rows = min(below.rows_missing, (end - strip.halved_end + 1) // 2)
        stop = min(strip.halved_end + 2 * rows, end)
        levels.halve(
            lines[strip.halved_end - top : stop - top, : level.basis.width], below.append_rows(rows)
        )
        strip.halved_end = stop
        yield from _emit_complete_lines(levels, below)
    if below.bottom == inset.bottom:
        yield from _append_background(levels, below, below.level.height)


def _append_background(levels: _LevelStrips, strip: _Strip, end: int) -> WalkSteps:
    """Grow background down to a row, unless the strip has come further."""
    while strip.bottom < end:
        if strip.needs_buffer:
            yield None
        strip.append_background(end)
        yield from _emit_complete_lines(levels, strip)


def _populate(source: Source, view: Pixels) -> RefCount:
    """A view of a mapped source, made sure of, and a lease that lets its pages go at its end."""
    source.populate(view)
    return RefCount(lambda: source.discard(view))


def _split_line(
    level: Level, row: int, cols: range, lines: Pixels, left: int, ref_count: RefCount
) -> Iterator[TileRun]:
    """The tiles of neighbouring columns as runs of a handy length.

    Args:
        level, row, cols: Which tiles.
        lines: Their rows, from column `left` of the level on.
        left: As above.
        lease: Guards the rows.
    """
    step = max(1, RUN_PIXELS // (level.tile_size + 2 * level.overlap) ** 2)
    step = min(step, 64)
    for start in range(cols.start, cols.stop, step):
        part = range(start, min(start + step, cols.stop))
        x0, x1 = level.col_span(part[0])[0], level.col_span(part[-1])[1]
        yield TileRun(level, row, part, lines[:, x0 - left : x1 - left], ref_count)
