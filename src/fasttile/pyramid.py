"""The strip walk: rows of a source in, runs of tiles of every level out, in one pass.

Each level owns one strip of rows. When the strip holds a whole line of tiles, those are handed
out, the strip is halved into the strip of the level below (which may fill in its turn), and what
the next line needs again is kept. So memory grows with the width of the picture, not its height.

The top level has no strip where the source is mapped: its tiles are views into the map, unless
the canvas is larger than the picture.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .geometry import Level, Pyramid, Tile
from .resample import Shrink, shrink
from .shards import Part
from .sources.base import Source

Pixels = NDArray[Any]

RUN_PIXELS = 2**20
"""About how many pixels the tiles of one run hold: some milliseconds of an encoder's time."""

LINE_BYTES = 24 * 2**20
"""How much of a mapped source is brought into memory at a time, as one line of tiles."""

BLOCK_BYTES = 8 * 2**20
"""How much at a time where a line is more than that."""

SPARE_BYTES = 2 * 2**20
"""How much memory second and further strips of a level may take, all levels together."""


class Lease:
    """Counts who still needs some memory, and says when nobody does. Safe from many threads."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._holders = 1
        self._lock = threading.Lock()
        self._on_end = on_end

    def hold(self) -> None:
        """One more holder."""
        with self._lock:
            self._holders += 1

    def release(self) -> None:
        """One holder less; the last one ends the lease."""
        with self._lock:
            self._holders -= 1
            ended = self._holders == 0
        if ended:
            self._on_end()


class Run:
    """Some neighbouring tiles of one line, with their pixels.

    The pixels may be used until `release`, which must be called once, from any thread.

    Attributes:
        level: The level that the tiles belong to.
        row: Their row.
        cols: Their columns.
    """

    def __init__(self, level: Level, row: int, cols: range, pixels: Pixels, lease: Lease) -> None:
        self.level = level
        self.row = row
        self.cols = cols
        self._pixels = pixels
        self._lease = lease
        lease.hold()

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
        self._lease.release()


class _Buffers:
    """The strips' memory: reused, and bounded by waiting for runs that are still in use."""

    def __init__(self) -> None:
        self._free: dict[int, list[Pixels]] = {}
        self._made: dict[int, int] = {}
        self._spare = 0
        self._changed = threading.Condition()

    def take(self, key: int, shape: tuple[int, int, int], dtype: np.dtype[Any], due: int) -> Pixels:
        """A buffer for a level; `due` of them always, further ones only while that is cheap."""
        nbytes = math.prod(shape) * dtype.itemsize
        with self._changed:
            free = self._free.setdefault(key, [])
            while not free:
                made = self._made.get(key, 0)
                spare = 0 if made < due else nbytes
                if self._spare + spare <= SPARE_BYTES:
                    self._made[key] = made + 1
                    self._spare += spare
                    return np.empty(shape, dtype)
                self._changed.wait()
            return free.pop()

    def give(self, key: int, buffer: Pixels) -> None:
        with self._changed:
            self._free[key].append(buffer)
            self._changed.notify_all()


class _Strip:
    """The rows of one level that are at hand, from `top`, `filled` of them."""

    def __init__(self, level: Level, pad: Pixels, buffers: _Buffers) -> None:
        margins = level.height - level.frame.height
        rows = min(level.height, level.tile_size + 2 * level.overlap + 1 + margins)
        bands, dtype = len(pad), pad.dtype
        self.level = level
        self.pad = pad
        self.row = 0
        self.top = 0
        self.filled = 0
        self.halved = 0
        self.buffer_count = 1
        self._shape = (rows, level.width, bands)
        self._dtype = dtype
        self._kept = np.empty((0, level.width, bands), dtype)
        self._buffers = buffers
        self._buffer: Pixels | None = None
        self._lease: Lease | None = None

    @property
    def room(self) -> int:
        """How many rows are missing until the line of tiles is whole."""
        return self.level.line_end(self.row) - self.top - self.filled

    @property
    def end(self) -> int:
        """The first row below those at hand."""
        return self.top + self.filled

    @property
    def used_up(self) -> bool:
        """Whether the next rows need another buffer than those that were handed out."""
        return self._buffer is None and self.row > 0

    @property
    def whole(self) -> bool:
        """Whether a further line of tiles is there, with all its rows."""
        return self.row < self.level.rows and self.room == 0

    def grow(self, rows: int) -> Pixels:
        """Room for the pixels of so many further rows, as a view to write them into.

        Right and left of it there is background.
        """
        lines, inset = self._grow(rows), self.level.inset
        if inset.width == self.level.width:
            return lines
        lines[:, : inset.x] = lines[:, inset.right :] = self.pad
        return lines[:, inset.x : inset.right]

    def grow_background(self, end: int) -> None:
        """Rows of background up to a row, or to where the line of tiles is whole."""
        self._grow(min(self.room, end - self.end))[:] = self.pad

    def _grow(self, rows: int) -> Pixels:
        buffer = self._own()
        self.filled += rows
        return buffer[self.filled - rows : self.filled]

    def line(self) -> tuple[Pixels, Lease]:
        """All rows at hand, and the lease that guards them."""
        buffer = self._own()
        assert self._lease is not None
        return buffer[: self.filled], self._lease

    def runs(self) -> Iterator[Run]:
        """The tiles of the line that is whole."""
        lines, lease = self.line()
        y0, y1 = self.level.row_span(self.row)
        cols = range(self.level.cols)
        return _split(self.level, self.row, cols, lines[y0 - self.top : y1 - self.top], 0, lease)

    def advance(self, halved: int) -> None:
        """Go on to the next line of tiles, keeping what it has in common with this one.

        Args:
            halved: From which row on halving will go on; these rows are kept too.
        """
        lines, lease = self.line()
        keep_from = min(self.level.row_span(self.row + 1)[0], halved, self.top + len(lines))
        self.row += 1
        # Kept aside: the next buffer may be this one, once nobody needs it any more.
        self._kept = lines[keep_from - self.top :].copy()
        self._buffer = self._lease = None
        self.top, self.filled = keep_from, len(self._kept)
        lease.release()

    def _own(self) -> Pixels:
        if self._buffer is None:
            number, buffers = self.level.number, self._buffers
            buffer = buffers.take(number, self._shape, self._dtype, self.buffer_count)
            np.copyto(buffer[: len(self._kept)], self._kept)
            self._buffer = buffer
            self._lease = Lease(lambda: buffers.give(number, buffer))
        return self._buffer


@dataclass(frozen=True)
class _Levels:
    """The strips of all levels, and what makes rows of one from twice as many of the next.

    Tiles are handed out of those that are kept; smaller ones than those are not made.
    """

    strips: list[_Strip]
    halve: Callable[[Pixels, Pixels], Pixels]
    kept: range

    @property
    def top(self) -> _Strip:
        """The strip of the largest level."""
        return self.strips[-1]

    def below(self, strip: _Strip) -> _Strip:
        """The strip of the next smaller level."""
        return self.strips[strip.level.number - self.strips[0].level.number - 1]


def walk(
    source: Source,
    pyramid: Pyramid | Part,
    shrink: Shrink = "mean",
    background: Sequence[int] | None = None,
) -> Iterator[Run]:
    """All tiles of a pyramid that are kept, in runs, from one pass over the source's rows.

    The order depends on the pyramid only. Lines of large levels come before those of smaller
    ones that are made from them; where the canvas rounds up and all levels are kept, the last
    run is the 1×1 tile.

    Each run must be released, and until it is, it may keep the walk from going on: a consumer
    that works off runs in other threads need not bother; one that does not releases each run
    before it asks for the next.

    Args:
        source: The picture; its size is that of the picture on the canvas.
        pyramid: What to cut it into, or a part of that.
        shrink: How four pixels of a level become one of the next smaller, see `resample.shrink`.
        background: What the canvas is outside the picture, a value for each band. Default: the
            largest value of all bands.

    Raises:
        SourceError: The source cannot be read.
    """
    steps = _steps(source, pyramid, shrink, background)
    return (step for step in steps if step is not None)


# Inside, a step is a run or None. None says that what follows has to wait until tiles that were
# just handed out are encoded; whoever has others to hand out does that first.
Steps = Iterator[Run | None]


def _steps(
    source: Source, pyramid: Pyramid | Part, how: Shrink, background: Sequence[int] | None
) -> Steps:
    """Hand out a line of the largest level, then halve the one before and it, as far as can be."""
    buffers = _Buffers()
    pad = np.full(source.bands, np.iinfo(source.dtype).max, source.dtype)
    if background is not None:
        pad[:] = background
    strips = [_Strip(level, pad, buffers) for level in pyramid.levels]
    levels = _Levels(strips, partial(shrink, how=how, alpha=source.alpha), pyramid.kept)
    mapped = source.mapped and not levels.top.level.padded
    lines = _mapped_lines(levels, source) if mapped else _streamed_lines(levels, source)
    unfinished: Steps = iter(())
    for runs, halving in lines:
        if levels.top.level.number in levels.kept:
            yield from runs
        yield from unfinished
        for step in halving:
            if step is None:
                break
            yield step
        unfinished = halving
    yield from unfinished


Lines = Iterator[tuple[Iterator[Run], Steps]]
"""For each line of the largest level, top to bottom: its runs, and what halves it later."""


def _streamed_lines(levels: _Levels, source: Source) -> Lines:
    """Rows are read into strips; of these there are two, because halving comes late."""
    top = levels.top
    top.buffer_count = 2
    inset = top.level.inset
    while top.end < top.level.height:
        if inset.y <= top.end < inset.bottom:
            y = top.end - inset.y
            _read(source, y, top.grow(_readable(source, y, top.room)))
        else:
            top.grow_background(inset.y if top.end < inset.y else top.level.height)
        while top.whole:
            lines, lease = top.line()
            lease.hold()
            first, end = top.top, top.level.own_end(top.row)
            yield top.runs(), _halve_line(levels, lines[: end - first], first, lease)
            top.advance(end - end % 2)


def _readable(source: Source, y: int, room: int) -> int:
    """How many rows from row y on to read at a time."""
    step = room if source.mapped else source.row_step - y % source.row_step
    return min(room, step, source.height - y)


def _read(source: Source, y: int, out: Pixels) -> None:
    """Read rows of any source into a strip."""
    if not source.mapped:
        source.read(y, out)
        return
    view = source.rows(y, y + len(out))
    source.bring(view)
    np.copyto(out, view)
    source.let_go(view)


def _mapped_lines(levels: _Levels, source: Source) -> Lines:
    """Lines are views into the map, which is let go behind them.

    To let pages go interrupts every processor that runs a thread of ours, once a call. So it is
    done once a line, unless the line is too much memory: then block by block.
    """
    level = levels.top.level
    halved = 0  # up to which row the lines so far are halved, once they are
    for row in range(level.rows):
        y0, y1 = level.row_span(row)
        first, end = min(halved, y0), level.own_end(row)
        lines = source.rows(first, max(y1, end))
        own, tiles = lines[: end - first], lines[y0 - first : y1 - first]
        if lines.nbytes <= LINE_BYTES:
            lease = _brought(source, lines)
            runs = _split(level, row, range(level.cols), tiles, 0, lease)
            yield runs, _halve_line(levels, own, first, lease)
        else:
            runs = _split_blocks(source, level, row, tiles)
            yield runs, _halve_blocks(levels, source, own, first)
        halved = end - end % 2


def _split_blocks(source: Source, level: Level, row: int, lines: Pixels) -> Iterator[Run]:
    """The tiles of a line of a mapped source, some columns at a time."""
    step = max(1, level.cols * BLOCK_BYTES // lines.nbytes)
    for start in range(0, level.cols, step):
        cols = range(start, min(start + step, level.cols))
        x0, x1 = level.col_span(cols[0])[0], level.col_span(cols[-1])[1]
        block = lines[:, x0:x1]
        lease = _brought(source, block)
        yield from _split(level, row, cols, block, x0, lease)
        lease.release()


def _halve_line(levels: _Levels, lines: Pixels, first: int, lease: Lease) -> Steps:
    """Halve a line of the largest level that is in memory, and release it."""
    yield from _halve_into(levels, levels.top, lines, first)
    lease.release()


def _halve_blocks(levels: _Levels, source: Source, lines: Pixels, first: int) -> Steps:
    """Halve a line of a mapped source, some rows at a time."""
    top = levels.top
    step = max(2, len(lines) * BLOCK_BYTES // lines.nbytes)
    for end in range(top.halved - first + step, len(lines) + step, step):
        # From what is not halved yet: the block before may have left an odd last row.
        lease = _brought(source, lines[top.halved - first : end])
        yield from _halve_into(levels, top, lines[:end], first)
        lease.release()


def _arrived(levels: _Levels, strip: _Strip) -> Steps:
    """While a strip holds a whole line of tiles: hand them out, halve it, and go on."""
    level = strip.level
    while strip.whole:
        if level.number in levels.kept:
            yield from strip.runs()
        lines, _ = strip.line()
        end = level.own_end(strip.row)
        yield from _halve_into(levels, strip, lines[: end - strip.top], strip.top)
        strip.advance(end - end % 2)


def _halve_into(levels: _Levels, strip: _Strip, lines: Pixels, top: int) -> Steps:
    """Halve what is new of a level, `lines` from row `top` on, into the level below."""
    level = strip.level
    if level.number == levels.kept.start:
        return
    below = levels.below(strip)
    inset = below.level.inset
    yield from _background(levels, below, inset.y)
    end = min(top + len(lines), level.basis.height)
    if end < level.basis.height:
        end -= end % 2
    while strip.halved < end:
        if below.used_up:
            yield None
        rows = min(below.room, (end - strip.halved + 1) // 2)
        stop = min(strip.halved + 2 * rows, end)
        levels.halve(lines[strip.halved - top : stop - top, : level.basis.width], below.grow(rows))
        strip.halved = stop
        yield from _arrived(levels, below)
    if below.end == inset.bottom:
        yield from _background(levels, below, below.level.height)


def _background(levels: _Levels, strip: _Strip, end: int) -> Steps:
    """Grow background down to a row, unless the strip has come further."""
    while strip.end < end:
        if strip.used_up:
            yield None
        strip.grow_background(end)
        yield from _arrived(levels, strip)


def _brought(source: Source, view: Pixels) -> Lease:
    """A view of a mapped source, made sure of, and a lease that lets its pages go at its end."""
    source.bring(view)
    return Lease(lambda: source.let_go(view))


def _split(
    level: Level, row: int, cols: range, lines: Pixels, left: int, lease: Lease
) -> Iterator[Run]:
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
        yield Run(level, row, part, lines[:, x0 - left : x1 - left], lease)
