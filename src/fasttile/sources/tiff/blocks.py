"""Compressed TIFF blocks: checks, decoding, and a source on threads.

A band is one line of blocks, or a few lines of small blocks. The pixels of the requested band are
in memory, and those of the next one are decoded in the meantime. So memory is proportional to the
width of the image and the height of its blocks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from fasttile.abc.source import Metadata, Source
from fasttile.errors import SourceError, TruncatedError, first_line
from fasttile.geometry import Region
from fasttile.options.read import ReadOptions
from fasttile.sources.conversions import Croppable
from fasttile.sources.tiff.codecs import Decoder, packed_rows_bytes
from fasttile.sources.tiff.grid import BlockGrid, find_absent_blocks, find_truncated_blocks
from fasttile.sources.tiff.samples import SampleLayout
from fasttile.sources.tiff.tags import UNCOMPRESSED, Tags
from fasttile.sources.transforms import background_pixel
from fasttile.sources.windows import full_range
from fasttile.storage.memory import PixelBuffer
from fasttile.storage.random_access import SourceFile
from fasttile.storage.system import cpu_count
from fasttile.types import Background, Pixels

_PACKED_STRIP_ROWS = 64  # an uncompressed image of one strip is read in strips of this height

# An overview, by which the content of two sizes of an image is compared
_OVERVIEW_BANDS, _OVERVIEW_ROWS, _OVERVIEW_COLS = 6, 16, 32
_MAX_OVERVIEW_BLOCK = 2**26  # pixels; a block is decoded for each band of rows
_SAME_CONTENT = 0.9  # least correlation of the same image in two sizes

_MIN_BAND_ROWS = 64
_MAX_GROUPED_BYTES = 4 * 2**20  # up to this size a band has several lines, as work for all threads
_MAX_AHEAD_BAND_BYTES = 32 * 2**20  # larger bands are not decoded ahead, to save memory
_MAX_RANDOM_ACCESS_WIDTH = 1024  # narrower tiles can be read in any order without much waste
_MAX_THREADS = 8


class BlockError(NamedTuple):
    """A block that could not be decoded."""

    line: int
    number: int
    reason: str


@dataclass(frozen=True)
class TiffBlocks:
    """The blocks of an image in a file, and their conversion to pixels.

    Attributes:
        file: The TIFF.
        grid: Positions of the blocks.
        decode: Decodes a block to samples.
        sample_layout: Converts samples to pixels.
        allow_truncated: True if blocks that cannot be decoded become background.
        uses_partial_blocks: True if the first rows of a truncated block can be decoded.
        lock: Held while the file is read.
    """

    file: SourceFile
    grid: BlockGrid
    decode: Decoder
    sample_layout: SampleLayout
    allow_truncated: bool
    uses_partial_blocks: bool
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def bands(self) -> int:
        """Bands of the pixels."""
        conversions = self.sample_layout.conversions
        return conversions[-1].bands if conversions else len(self.sample_layout.sample_order)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Dtype of the pixels."""
        conversions = self.sample_layout.conversions
        return conversions[-1].dtype if conversions else self.grid.dtype.newbyteorder("=")

    @property
    def block_name(self) -> str:
        """Name of a block for the user."""
        return "tile" if self.grid.is_tiled else "strip"

    def write(
        self, line: int, col: int, region: Region, out: Pixels, fill_pixel: Pixels
    ) -> BlockError | None:
        """Write the part of a block that is in a region of the image.

        Args:
            line, col: The block, which must overlap the region.
            region: The region of the image that `out` is.
            out: Shape (region.height, region.width, bands).
            fill_pixel: Value of missing pixels, shape (bands,).

        Returns:
            The error, if the block could not be decoded.
        """
        grid = self.grid
        x0, y0 = col * grid.block_width, line * grid.block_height
        left, right = max(x0, region.x), min(x0 + grid.block_width, region.right)
        top, bottom = max(y0, region.y), min(y0 + grid.block_height, region.bottom)
        window = out[top - region.y : bottom - region.y, left - region.x : right - region.x]
        decoded_rows, failure = 0, None
        try:
            stored = self._decode_samples(line, col)
            if stored is not None:
                part = stored[top - y0 : bottom - y0, left - x0 : right - x0]
                if part.shape[1] < right - left or (
                    len(part) < bottom - top and not self.uses_partial_blocks
                ):
                    raise ValueError(f"it has only {stored.shape[1]}×{len(stored)} pixels")
                decoded_rows = len(part)
                self._convert(part, window[:decoded_rows])
                if decoded_rows < bottom - top and not self._is_truncated(line * grid.cols + col):
                    raise ValueError(f"it has only {len(stored)} rows")
        except EOFError:
            pass  # reported when the file was opened
        except Exception as error:  # decoders raise exceptions of many types
            failure = BlockError(line, line * grid.cols + col, first_line(error))
        if failure is None or self.allow_truncated:
            window[decoded_rows:] = fill_pixel
        return failure

    def _decode_samples(self, line: int, col: int) -> Pixels | None:
        """Decode the samples of a block; None if it is not in the file."""
        grid, order = self.grid, self.sample_layout.sample_order
        rows = grid.block_rows(line)
        if not grid.is_planar:
            data = self._read_block(line * grid.cols + col)
            # A slice where it is possible: it does not copy, as an index does.
            is_prefix = order == tuple(range(len(order)))
            index = slice(len(order)) if is_prefix else list(order)
            return None if data is None else self.decode(data, rows)[..., index]
        stored = None
        for band, plane in enumerate(order):
            data = self._read_block((plane * grid.lines + line) * grid.cols + col)
            if data is None:
                continue  # 0 in this band, if another band is in the file
            samples = self.decode(data, rows)[..., 0]
            if stored is None:
                stored = np.zeros((*samples.shape, len(order)), samples.dtype)
            stored[: len(samples), :, band] = samples[: len(stored)]
        return stored

    def _read_block(self, number: int) -> bytes | None:
        """The bytes of a block; None if it is not in the file.

        Raises:
            EOFError: The file ended before or within the block when it was opened.
            ValueError: The file has shrunk.
        """
        offset, count = int(self.grid.offsets[number]), int(self.grid.byte_counts[number])
        if offset == 0:
            return None
        if self._is_truncated(number):
            if not self.uses_partial_blocks:
                raise EOFError
            count = max(0, self.file.size - offset)
        with self.lock:
            self.file.stream.seek(offset)
            data = self.file.stream.read(count)
        if len(data) < count:
            raise ValueError(f"it has {count} bytes at {offset}, but the file has shrunk")
        return data

    def _is_truncated(self, number: int) -> bool:
        return int(self.grid.offsets[number]) + int(self.grid.byte_counts[number]) > self.file.size

    def _convert(self, part: Pixels, out: Pixels) -> None:
        for conversion in self.sample_layout.conversions[:-1]:
            made = np.empty((*part.shape[:2], conversion.bands), conversion.dtype)
            conversion.write(part, made)
            part = made
        if self.sample_layout.conversions:
            self.sample_layout.conversions[-1].write(part, out)
        else:
            out[...] = part


def open_blocks(
    file: SourceFile,
    tags: Tags,
    sample_layout: SampleLayout,
    decode: Decoder,
    read_options: ReadOptions,
) -> tuple[TiffBlocks, tuple[str, ...]]:
    """Open the blocks of an image; return them and notes on missing ones.

    Raises:
        SourceError: The file lists too few blocks.
        TruncatedError: Blocks are missing, and `allow_truncated` is False.
    """
    is_packed = tags.compression == UNCOMPRESSED
    grid = _packed_row_grid(tags) if is_packed else tags.grid
    wanted = grid.planes * grid.lines * grid.cols
    if min(len(grid.offsets), len(grid.byte_counts)) < wanted:
        raise SourceError(
            f"{file.name}: {grid.width}×{grid.height} pixels are {wanted} strips or tiles, but "
            f"the file lists {len(grid.offsets)} offsets and {len(grid.byte_counts)} sizes"
        )
    grid = replace(grid, offsets=grid.offsets[:wanted], byte_counts=grid.byte_counts[:wanted])
    blocks = TiffBlocks(
        file,
        grid,
        decode,
        sample_layout,
        allow_truncated=read_options.allow_truncated,
        uses_partial_blocks=is_packed,
    )
    return blocks, _check_missing_blocks(blocks)


def _check_missing_blocks(blocks: TiffBlocks) -> tuple[str, ...]:
    grid, file, kind = blocks.grid, blocks.file, blocks.block_name
    absent, truncated = find_absent_blocks(grid), find_truncated_blocks(grid, file.size)
    notes = []
    if truncated.any():
        lines = np.flatnonzero(truncated) // grid.cols % grid.lines
        number = int(np.flatnonzero(truncated)[lines.argmin()])
        row = int(lines.min()) * grid.block_height
        if not blocks.allow_truncated:
            end = int(grid.offsets[number]) + int(grid.byte_counts[number])
            reason = f"{kind} {number} needs {end} bytes, but the file has {file.size}"
            raise TruncatedError.from_row(file.name, row, reason)
        notes.append(
            f"{truncated.sum()} of {len(truncated)} {kind}s are beyond the end of the file and "
            f"became background, the first at row {row}"
        )
    if absent.any():
        notes.append(
            f"{absent.sum()} of {len(absent)} {kind}s are left out in the file and became "
            "background"
        )
    return tuple(notes)


def _packed_row_grid(tags: Tags) -> BlockGrid:
    """Grid of uncompressed blocks, whose rows have known positions.

    No block has more bytes than its rows, and an image of one strip is divided into many.
    """
    grid = tags.grid
    if grid.is_tiled or grid.block_height <= _PACKED_STRIP_ROWS or grid.lines > 1:
        most = packed_rows_bytes(tags, grid.block_height)
        return replace(grid, byte_counts=np.minimum(grid.byte_counts, np.uint64(most)))
    lines = -(-grid.height // _PACKED_STRIP_ROWS)
    strip_bytes = packed_rows_bytes(tags, _PACKED_STRIP_ROWS)
    starts = np.arange(lines, dtype=np.uint64) * np.uint64(strip_bytes)
    sizes = np.full(lines, strip_bytes, np.uint64)
    sizes[-1] = packed_rows_bytes(tags, grid.height - (lines - 1) * _PACKED_STRIP_ROWS)
    return replace(
        grid,
        block_height=_PACKED_STRIP_ROWS,
        offsets=np.add.outer(grid.offsets, starts).ravel(),
        byte_counts=np.tile(sizes, len(grid.offsets)),
    )


def read_overview(blocks: TiffBlocks, scale: int, small_width: int) -> Pixels:
    """Means of parts of an image: some bands of rows, divided by columns.

    Args:
        blocks: The image.
        scale: 1, or 2 for an image of twice the size whose parts are to be the same.
        small_width: Width of the smaller one.

    Returns:
        Shape (bands of rows, columns, bands), float64.

    Raises:
        SourceError: A block cannot be decoded, or takes too long.
    """
    grid = blocks.grid
    if grid.block_width * grid.block_height > _MAX_OVERVIEW_BLOCK:
        raise SourceError(f"{blocks.file.name}: its blocks are too large to be compared")
    height = grid.height // scale
    rows = scale * max(1, min(_OVERVIEW_ROWS, height // _OVERVIEW_BANDS))
    cols = min(_OVERVIEW_COLS, small_width)
    means = []
    for number in range(_OVERVIEW_BANDS):
        y = min((2 * number + 1) * height // (2 * _OVERVIEW_BANDS) * scale, grid.height - rows)
        region = Region(0, max(0, y), grid.width, min(rows, grid.height))
        pixels = np.empty((region.height, region.width, blocks.bands), blocks.dtype)
        fill_pixel = np.zeros(blocks.bands, blocks.dtype)
        for line in range(region.y // grid.block_height, -(-region.bottom // grid.block_height)):
            for col in range(grid.cols):
                failure = blocks.write(line, col, region, pixels, fill_pixel)
                if failure is not None:
                    raise SourceError(failure.reason)
        columns = np.nan_to_num(pixels.mean(axis=0, dtype=np.float64))
        parts = np.linspace(0, grid.width, cols + 1).astype(int)[:-1]
        counts = np.diff(np.append(parts, grid.width))
        means.append(np.add.reduceat(columns, parts, axis=0) / counts[:, None])
    return np.stack(means)


def are_alike(one: Pixels, other: Pixels) -> bool:
    """True if two overviews show the same: their values correlate.

    Two blank pages do not: nothing shows that they are the same.
    """
    if one.shape != other.shape:
        return False
    one, other = one - one.mean(axis=(0, 1)), other - other.mean(axis=(0, 1))
    product = (one * other).sum()
    return bool(product > 0 and product**2 >= _SAME_CONTENT**2 * (one**2).sum() * (other**2).sum())


@dataclass
class _DecodedBand:
    """Some lines of blocks that are decoded, or are being decoded."""

    number: int
    memory: Pixels
    pixels: Pixels
    jobs: list[Future[list[BlockError]]]


class _LazyPool:
    """Threads that decode blocks; they start with the first block."""

    def __init__(self) -> None:
        self.thread_count = min(_MAX_THREADS, cpu_count())
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def submit(self, work: Callable[[], list[BlockError]]) -> Future[list[BlockError]]:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.thread_count, "fasttile-blocks")
            return self._pool.submit(work)

    def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)


class CompressedTiffSource(Croppable):
    """A source of pixels that are decoded from the blocks of a file.

    Args:
        blocks: The blocks.
        metadata: As in `Source`.
        background: Colour of missing pixels, see `background_pixel`. In
            integers of more than 16 bits they are 0, in floats NaN.
        region: The part of the image to read. Default: all.
        pool: The threads that decode. Default: its own.
    """

    def __init__(
        self,
        blocks: TiffBlocks,
        metadata: Metadata,
        background: Background,
        region: Region | None = None,
        pool: _LazyPool | None = None,
    ) -> None:
        grid = blocks.grid
        self.name, self.metadata = blocks.file.name, metadata
        self._blocks = blocks
        self._region = region or Region(0, 0, grid.width, grid.height)
        self.width, self.height = self._region.width, self._region.height
        self.bands, self.dtype = blocks.bands, blocks.dtype
        self.is_cmyk = blocks.sample_layout.is_cmyk
        self.channels = blocks.sample_layout.channels
        self.random_access = grid.is_tiled and grid.block_width <= _MAX_RANDOM_ACCESS_WIDTH
        self.preferred_cols = grid.block_width if grid.is_tiled else 0
        self.has_parallel_regions = grid.is_tiled
        self._pool = pool or _LazyPool()
        self._row_bytes = self.width * self.bands * self.dtype.itemsize
        self._cols = range(
            self._region.x // grid.block_width, -(-self._region.right // grid.block_width)
        )
        self._lines_per_band = self._choose_lines_per_band()
        self.preferred_rows = self._lines_per_band * grid.block_height
        self._band_bytes = min(self.preferred_rows, self.height) * self._row_bytes
        self._decodes_ahead = self._band_bytes <= _MAX_AHEAD_BAND_BYTES
        decoded = grid.block_height * grid.block_width * grid.bands * grid.dtype.itemsize
        self.memory_bytes = (
            self._band_bytes * (2 if self._decodes_ahead else 1)
            + self._pool.thread_count * 2 * decoded
        )
        self._background = background
        if self.dtype in (np.uint8, np.uint16):
            self._fill_pixel = background_pixel(background, self)
        else:
            value = np.nan if self.dtype.kind == "f" else 0
            self._fill_pixel = np.full(self.bands, value, self.dtype)
            if self.has_alpha:
                self._fill_pixel[-1] = full_range(self.dtype)[0]
        self._current_band: _DecodedBand | None = None
        self._next_band: _DecodedBand | None = None
        self._block_errors: list[BlockError] = []
        self._last_warning = ""

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, valid until the next call; a view within a band.

        Raises:
            TruncatedError: A block cannot be decoded.
        """
        top = self._region.y + y0
        number = top // self.preferred_rows
        if (self._region.y + y1 - 1) // self.preferred_rows == number:
            first = y0 - self._first_row(number)
            return self._decode_band(number)[first : first + y1 - y0]
        out = np.empty((y1 - y0, self.width, self.bands), self.dtype)
        self.read(y0, out)
        return out

    def read(self, y0: int, out: Pixels) -> None:
        """Write the rows from y0 on into out."""
        y, end = y0, y0 + len(out)
        while y < end:
            number = (self._region.y + y) // self.preferred_rows
            pixels = self._decode_band(number)
            first = y - self._first_row(number)
            part = pixels[first : first + end - y]
            out[y - y0 : y - y0 + len(part)] = part
            y += len(part)

    def crop(self, region: Region) -> Source:
        """A source that decodes only the blocks in the region."""
        inner = region.shifted(*self._region[:2])
        return CompressedTiffSource(
            self._blocks, self.metadata, self._background, inner, self._pool
        )

    def close(self) -> None:
        """Stop the threads, and close the file."""
        self._pool.close()
        self._current_band = self._next_band = None
        self._blocks.file.close()

    def _first_row(self, number: int) -> int:
        """First row of a band, counted from the top of the region."""
        return max(0, number * self.preferred_rows - self._region.y)

    def _choose_lines_per_band(self) -> int:
        """Number of lines of blocks in a band."""
        height = self._blocks.grid.block_height
        lines = -(-_MIN_BAND_ROWS // height)
        enough = 2 * self._pool.thread_count  # blocks per band, so that no thread is idle for long
        while (
            lines * len(self._cols) < enough
            and 2 * lines * height * self._row_bytes <= _MAX_GROUPED_BYTES
        ):
            lines *= 2
        return lines

    def _decode_band(self, number: int) -> Pixels:
        """Return the pixels of a band, and start to decode the next one."""
        before = self._current_band
        if before is not None and before.number == number:
            return before.pixels
        self._current_band = None
        free = [] if before is None else [before.memory]
        ready, self._next_band = self._next_band, None
        if ready is not None and ready.number != number:
            for job in ready.jobs:
                job.cancel()
            self._wait_for_band(ready)
            free.append(ready.memory)
            ready = None
        ready = ready or self._start_band(number, free)
        # In either direction: images that are flipped are read from the last row.
        step = 1 if before is None else number - before.number
        first = self._region.y // self.preferred_rows
        last = (self._region.bottom - 1) // self.preferred_rows
        if self._decodes_ahead and abs(step) == 1 and first <= number + step <= last:
            self._next_band = self._start_band(number + step, free)
        self._record_errors(self._wait_for_band(ready))
        self._current_band = ready
        return ready.pixels

    def _start_band(self, number: int, free: list[Pixels]) -> _DecodedBand:
        """Start to decode a band into free memory."""
        grid = self._blocks.grid
        top = max(self._region.y, number * self.preferred_rows)
        bottom = min(self._region.bottom, (number + 1) * self.preferred_rows)
        shape = (min(self.preferred_rows, self.height), self.width, self.bands)
        memory = free.pop() if free else self._allocate(shape)
        pixels = memory[: bottom - top]
        window = Region(self._region.x, top, self.width, bottom - top)
        lines = range(top // grid.block_height, -(-bottom // grid.block_height))
        places = [(line, col) for line in lines for col in self._cols]

        def decode(places: list[tuple[int, int]]) -> list[BlockError]:
            failures = []
            for line, col in places:
                failure = self._blocks.write(line, col, window, pixels, self._fill_pixel)
                if failure is not None:
                    failures.append(failure)
                    if not self._blocks.allow_truncated:
                        break
            return failures

        if len(places) == 1 and self.height == len(pixels):  # a region: no thread is to help
            done: Future[list[BlockError]] = Future()
            done.set_result(decode(places))
            return _DecodedBand(number, memory, pixels, [done])
        # Few jobs, as each has a fixed cost, but some for each thread.
        step = -(-len(places) // (4 * self._pool.thread_count))
        jobs = [
            self._pool.submit(partial(decode, places[start : start + step]))
            for start in range(0, len(places), step)
        ]
        return _DecodedBand(number, memory, pixels, jobs)

    def _allocate(self, shape: tuple[int, int, int]) -> Pixels:
        """Memory of a band, or a temporary file if it is larger than half of what is left."""
        if self._decodes_ahead:
            return np.empty(shape, self.dtype)
        buffer = PixelBuffer(self._band_bytes, self.name)
        return buffer.bytes.view(self.dtype).reshape(shape)

    def _wait_for_band(self, band: _DecodedBand) -> list[BlockError]:
        """Wait until a band is decoded; return the errors."""
        failures = []
        for job in band.jobs:
            if not job.cancelled():
                failures += job.result()
        return failures

    def _record_errors(self, errors: list[BlockError]) -> None:
        """Add a note on blocks that could not be decoded.

        Raises:
            TruncatedError: There are some, and `allow_truncated` is False.
        """
        if not errors:
            return
        blocks = self._blocks
        first = min(errors)
        top = first.line * blocks.grid.block_height
        if not blocks.allow_truncated:
            raise TruncatedError.from_row(
                f"{self.name}: broken {self.metadata.format}",
                top,
                f"{blocks.block_name} {first.number}: {first.reason}",
                top=self._region.y,
            )
        self._block_errors = sorted({*self._block_errors, *errors})
        count, first = len(self._block_errors), self._block_errors[0]
        note = (
            f"{count} {blocks.block_name}{'s' if count > 1 else ''} could not be decoded and "
            f"became background, the first at row {first.line * blocks.grid.block_height}: "
            f"{first.reason}"
        )
        self.metadata.warnings.add(note, previous=self._last_warning)
        self._last_warning = note
