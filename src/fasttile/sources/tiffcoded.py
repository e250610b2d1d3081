"""TIFFs whose blocks have to be decoded: some lines of them at a time, on threads, and ahead.

A stretch is one line of blocks, or a few where they are small. Its pixels are in memory while rows
of it are asked for, and those of the next one are decoded in the meantime. So memory is
proportional to the picture's width and the height of its blocks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..errors import Damaged
from ..geometry import Region
from .base import Metadata, Pixels, Source
from .convert import Croppable
from .grounded import background_pixel
from .tiffblocks import Blocks, Failure

_ROWS = 64  # a stretch has at least so many
_STRETCH_BYTES = 4 * 2**20  # up to here lines are taken together to give all threads work
_AHEAD_BYTES = 32 * 2**20  # larger stretches are not decoded ahead: memory counts more
_NARROW = 1024  # columns of tiles up to this width can be read on their own without much waste
_THREADS = 8


@dataclass
class _Stretch:
    """Some lines of blocks that are decoded, or are just being decoded."""

    number: int
    memory: Pixels
    pixels: Pixels
    jobs: list[Future[list[Failure]]]


class _Crew:
    """Threads that decode; there are none before there is work."""

    def __init__(self) -> None:
        self.size = min(_THREADS, _processors())
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, work: Callable[[], list[Failure]]) -> Future[list[Failure]]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.size, "fasttile-blocks")
        return self._pool.submit(work)

    def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)


class CodedSource(Croppable):
    """A source of pixels that are decoded from the blocks of a file.

    Args:
        blocks: The blocks.
        metadata: As in `Source`.
        background: Red, green and blue of what is missing. It is transparent where there is alpha;
            in deeper samples than 16 bits it is 0, in floats no number.
        region: The part of the picture that it gives. Default: all.
        crew: Who decodes. Default: threads of its own.
    """

    def __init__(
        self,
        blocks: Blocks,
        metadata: Metadata,
        background: tuple[int, int, int],
        region: Region | None = None,
        crew: _Crew | None = None,
    ) -> None:
        grid = blocks.grid
        self.name, self.metadata = blocks.file.name, metadata
        self._blocks = blocks
        self._region = region or Region(0, 0, grid.width, grid.height)
        self.width, self.height = self._region.width, self._region.height
        self.bands, self.dtype, self.cmyk = blocks.bands, blocks.dtype, blocks.meaning.cmyk
        self.any_order = grid.whole and grid.block_width <= _NARROW
        self._crew = crew or _Crew()
        self._row_bytes = self.width * self.bands * self.dtype.itemsize
        self._cols = range(
            self._region.x // grid.block_width, -(-self._region.right // grid.block_width)
        )
        self._lines = self._lines_together()
        self.row_step = self._lines * grid.block_height
        self._stretch_bytes = min(self.row_step, self.height) * self._row_bytes
        self._ahead = self._stretch_bytes <= _AHEAD_BYTES
        decoded = grid.block_height * grid.block_width * grid.bands * grid.dtype.itemsize
        self.held = self._stretch_bytes * (2 if self._ahead else 1) + self._crew.size * 2 * decoded
        self._background = background
        self._ground = self._pixel(background)
        self._now: _Stretch | None = None
        self._next: _Stretch | None = None
        self._failures: list[Failure] = []
        self._remark = ""

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, valid until the next call; a view where they lie in one stretch.

        Raises:
            Damaged: Blocks of them cannot be decoded.
        """
        top = self._region.y + y0
        number = top // self.row_step
        if (self._region.y + y1 - 1) // self.row_step == number:
            first = y0 - self._first_row(number)
            return self._decoded(number)[first : first + y1 - y0]
        out = np.empty((y1 - y0, self.width, self.bands), self.dtype)
        self.read(y0, out)
        return out

    def read(self, y0: int, out: Pixels) -> None:
        """Write the rows from y0 on into out."""
        y, end = y0, y0 + len(out)
        while y < end:
            number = (self._region.y + y) // self.row_step
            pixels = self._decoded(number)
            first = y - self._first_row(number)
            part = pixels[first : first + end - y]
            out[y - y0 : y - y0 + len(part)] = part
            y += len(part)

    def cropped(self, region: Region) -> Source:
        """Decodes only the blocks that the region touches."""
        x, y = self._region.x + region.x, self._region.y + region.y
        inner = Region(x, y, region.width, region.height)
        return CodedSource(self._blocks, self.metadata, self._background, inner, self._crew)

    def close(self) -> None:
        """End the threads, and close the file."""
        self._crew.close()
        self._now = self._next = None
        self._blocks.file.close()

    def _pixel(self, background: tuple[int, int, int]) -> Pixels:
        """A pixel of what is missing, shape (bands,)."""
        if self.dtype in (np.uint8, np.uint16):
            return background_pixel(background, self)
        return np.full(self.bands, np.nan if self.dtype.kind == "f" else 0, self.dtype)

    def _first_row(self, number: int) -> int:
        """The first row of a stretch that is in the region, counted from that."""
        return max(0, number * self.row_step - self._region.y)

    def _lines_together(self) -> int:
        """How many lines of blocks make a stretch."""
        height = self._blocks.grid.block_height
        lines = -(-_ROWS // height)
        enough = 2 * self._crew.size  # blocks, so that no thread is idle for long
        while (
            lines * len(self._cols) < enough
            and 2 * lines * height * self._row_bytes <= _STRETCH_BYTES
        ):
            lines *= 2
        return lines

    def _decoded(self, number: int) -> Pixels:
        """The pixels of a stretch, and those of the next begun."""
        before = self._now
        if before is not None and before.number == number:
            return before.pixels
        self._now = None
        free = [] if before is None else [before.memory]
        ready, self._next = self._next, None
        if ready is not None and ready.number != number:
            for job in ready.jobs:
                job.cancel()
            self._finished(ready)
            free.append(ready.memory)
            ready = None
        ready = ready or self._begun(number, free)
        # Backwards too, which is the way of pictures that stand on their heads.
        step = 1 if before is None else number - before.number
        if self._ahead and abs(step) == 1 and self._is_there(number + step):
            self._next = self._begun(number + step, free)
        self._take(self._finished(ready))
        self._now = ready
        return ready.pixels

    def _is_there(self, number: int) -> bool:
        first, last = self._region.y // self.row_step, (self._region.bottom - 1) // self.row_step
        return first <= number <= last

    def _begun(self, number: int, free: list[Pixels]) -> _Stretch:
        """A stretch in memory that is free, with all its blocks given to the crew."""
        grid = self._blocks.grid
        top = max(self._region.y, number * self.row_step)
        bottom = min(self._region.bottom, (number + 1) * self.row_step)
        shape = (min(self.row_step, self.height), self.width, self.bands)
        memory = free.pop() if free else np.empty(shape, self.dtype)
        pixels = memory[: bottom - top]
        window = Region(self._region.x, top, self.width, bottom - top)
        lines = range(top // grid.block_height, -(-bottom // grid.block_height))
        places = [(line, col) for line in lines for col in self._cols]
        # Few jobs, as each has its price, but enough to share.
        step = -(-len(places) // (4 * self._crew.size))
        jobs = [
            self._crew.submit(self._job(places[start : start + step], window, pixels))
            for start in range(0, len(places), step)
        ]
        return _Stretch(number, memory, pixels, jobs)

    def _job(
        self, places: list[tuple[int, int]], window: Region, pixels: Pixels
    ) -> Callable[[], list[Failure]]:
        def work() -> list[Failure]:
            failures = []
            for line, col in places:
                failure = self._blocks.write(line, col, window, pixels, self._ground)
                if failure is not None:
                    failures.append(failure)
                    if not self._blocks.lenient:
                        break
            return failures

        return work

    def _finished(self, stretch: _Stretch) -> list[Failure]:
        """Wait for the end of all its jobs; gives what went wrong in them."""
        failures = []
        for job in stretch.jobs:
            if not job.cancelled():
                failures += job.result()
        return failures

    def _take(self, failures: list[Failure]) -> None:
        """Note what went wrong if that is allowed.

        Raises:
            Damaged: It is not.
        """
        if not failures:
            return
        blocks = self._blocks
        first = min(failures)
        top = first.line * blocks.grid.block_height
        told = f"{blocks.kind} {first.number}: {first.reason}"
        if not blocks.lenient:
            raise Damaged(
                f"{self.name}: broken {self.metadata.format}: rows from {top} on cannot be "
                f"decoded: {told} (--allow-truncated makes background of it)",
                max(0, top - self._region.y),
            )
        self._failures = sorted({*self._failures, *failures})
        count, first = len(self._failures), self._failures[0]
        note = (
            f"{count} {blocks.kind}{'s' if count > 1 else ''} could not be decoded and became "
            f"background, the first at row {first.line * blocks.grid.block_height}: {first.reason}"
        )
        remarks = self.metadata.remarks
        remarks[:] = [remark for remark in remarks if remark != self._remark] + [note]
        self._remark = note


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
