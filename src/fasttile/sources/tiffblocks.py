"""The compressed or packed blocks of a TIFF: where they lie, which are missing, one's pixels."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from ..errors import Damaged, SourceError
from ..geometry import Region
from .base import Pixels
from .blocks import Grid, cut_off_of, left_out_of
from .mapping import PictureFile
from .reading import Reading, likely_pixels
from .tiffcodecs import Decoder, packed_row_bytes
from .tiffcolour import Meaning
from .tifftags import UNCOMPRESSED, Tags

_ROWS = 64  # rows of packed samples that are taken as a strip of its own
_LITTLE = 2**22  # bytes; to take so much is nothing, whatever the file's size
_GROWTH = 1_500  # times; no compression that is common makes more of its bytes


class Failure(NamedTuple):
    """A block that could not be decoded."""

    line: int
    number: int
    reason: str


@dataclass(frozen=True)
class Blocks:
    """The blocks of a picture in a file, and what makes pixels of them.

    Attributes:
        file: Where they lie.
        grid: How.
        decode: What makes samples of one.
        meaning: What makes pixels of those.
        lenient: Whether blocks that cannot be decoded are missing, and no error.
        partial: Whether the first rows of a block that is cut short are good.
        lock: For who reads from the file.
    """

    file: PictureFile
    grid: Grid
    decode: Decoder
    meaning: Meaning
    lenient: bool
    partial: bool
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def bands(self) -> int:
        """Of the pixels."""
        conversions = self.meaning.conversions
        return conversions[-1].bands if conversions else len(self.meaning.order)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the pixels."""
        conversions = self.meaning.conversions
        return conversions[-1].dtype if conversions else self.grid.dtype.newbyteorder("=")

    @property
    def kind(self) -> str:
        """What a block is to a user."""
        return "tile" if self.grid.whole else "strip"

    @property
    def _wanted(self) -> slice | list[int]:
        order = self.meaning.order
        return slice(len(order)) if order == tuple(range(len(order))) else list(order)

    def write(
        self, line: int, col: int, region: Region, out: Pixels, ground: Pixels
    ) -> Failure | None:
        """Write what a block has of a region of the picture into an array of just that region.

        Args:
            line, col: Which block; it must touch the region.
            region: Of the picture.
            out: Shape (region.height, region.width, bands).
            ground: The pixel of what is missing.

        Returns:
            What went wrong, if anything did.
        """
        grid = self.grid
        x0, y0 = col * grid.block_width, line * grid.block_height
        left, right = max(x0, region.x), min(x0 + grid.block_width, region.right)
        top, bottom = max(y0, region.y), min(y0 + grid.block_height, region.bottom)
        window = out[top - region.y : bottom - region.y, left - region.x : right - region.x]
        there, failure = 0, None
        try:
            stored = self._stored(line, col)
            if stored is not None:
                part = stored[top - y0 : bottom - y0, left - x0 : right - x0]
                if part.shape[1] < right - left or (len(part) < bottom - top and not self.partial):
                    raise ValueError(f"it has only {stored.shape[1]}×{len(stored)} pixels")
                there = len(part)
                self._convert(part, window[:there])
                if there < bottom - top and not self._is_cut_off(line * grid.cols + col):
                    raise ValueError(f"it has only {len(stored)} rows")
        except EOFError:
            pass  # it was told when the file was opened
        except Exception as error:  # whatever a decoder makes of what it is given
            reason = str(error).partition("\n")[0] or type(error).__name__
            failure = Failure(line, line * grid.cols + col, reason)
        window[there:] = ground
        return failure

    def _stored(self, line: int, col: int) -> Pixels | None:
        """The samples of a block that are wanted, or None if it is left out in the file."""
        grid, order = self.grid, self.meaning.order
        rows = grid.block_rows(line)
        if not grid.planar:
            data = self._bytes(line * grid.cols + col)
            return None if data is None else self.decode(data, rows)[..., self._wanted]
        stored = None
        for band, plane in enumerate(order):
            data = self._bytes((plane * grid.lines + line) * grid.cols + col)
            if data is None:
                continue  # 0 in this band, if there is another
            samples = self.decode(data, rows)[..., 0]
            if stored is None:
                stored = np.zeros((*samples.shape, len(order)), samples.dtype)
            stored[: len(samples), :, band] = samples[: len(stored)]
        return stored

    def _bytes(self, number: int) -> bytes | None:
        """What the file has of a block; None if it is left out there.

        Raises:
            EOFError: The file has ended before, or in it.
            ValueError: The file has become shorter.
        """
        offset, count = int(self.grid.offsets[number]), int(self.grid.counts[number])
        if offset == 0 or count == 0:
            return None
        if self._is_cut_off(number):
            if not self.partial:
                raise EOFError
            count = max(0, self.file.size - offset)
        with self.lock:
            self.file.stream.seek(offset)
            data = self.file.stream.read(count)
        if len(data) < count:
            raise ValueError(f"it has {count} bytes at {offset}, but the file has become shorter")
        return data

    def _is_cut_off(self, number: int) -> bool:
        return int(self.grid.offsets[number]) + int(self.grid.counts[number]) > self.file.size

    def _convert(self, part: Pixels, out: Pixels) -> None:
        for conversion in self.meaning.conversions[:-1]:
            made = np.empty((*part.shape[:2], conversion.bands), conversion.dtype)
            conversion.write(part, made)
            part = made
        if self.meaning.conversions:
            self.meaning.conversions[-1].write(part, out)
        else:
            out[...] = part


def blocks_of(
    file: PictureFile, tags: Tags, meaning: Meaning, decode: Decoder, reading: Reading
) -> tuple[Blocks, tuple[str, ...]]:
    """The blocks of a picture, and a line for the user on each kind of those that are missing.

    Raises:
        SourceError: The tags claim more than the file can hold.
        Damaged: Blocks are missing, and that is not allowed.
    """
    _check_sizes(file, tags, reading)
    partial = tags.compression == UNCOMPRESSED
    grid = _of_rows(tags) if partial else tags.grid
    wanted = grid.planes * grid.lines * grid.cols
    if min(len(grid.offsets), len(grid.counts)) < wanted:
        raise SourceError(
            f"{file.name}: {grid.width}×{grid.height} pixels are {wanted} strips or tiles, but "
            f"the file lists {len(grid.offsets)} places and {len(grid.counts)} sizes"
        )
    grid = replace(grid, offsets=grid.offsets[:wanted], counts=grid.counts[:wanted])
    lenient = reading.allow_truncated
    blocks = Blocks(file, grid, decode, meaning, lenient=lenient, partial=partial)
    return blocks, _missing(blocks)


def _missing(blocks: Blocks) -> tuple[str, ...]:
    grid, file, kind = blocks.grid, blocks.file, blocks.kind
    left_out, cut_off = left_out_of(grid), cut_off_of(grid, file.size)
    notes = []
    if cut_off.any():
        lines = np.flatnonzero(cut_off) // grid.cols % grid.lines
        number = int(np.flatnonzero(cut_off)[lines.argmin()])
        row = int(lines.min()) * grid.block_height
        if not blocks.lenient:
            end = int(grid.offsets[number]) + int(grid.counts[number])
            raise Damaged(
                f"{file.name}: rows from {row} on cannot be decoded: {kind} {number} needs "
                f"{end} bytes, but the file has {file.size} (--allow-truncated makes background "
                "of what is missing)",
                row,
            )
        notes.append(
            f"{cut_off.sum()} of {len(cut_off)} {kind}s lie beyond the file's end and became "
            f"background, the first at row {row}"
        )
    if left_out.any():
        notes.append(
            f"{left_out.sum()} of {len(left_out)} {kind}s are left out in the file and became "
            "background"
        )
    return tuple(notes)


def _of_rows(tags: Tags) -> Grid:
    """The grid of packed rows, each of which lies at a place that is known.

    So no block is counted longer than its rows, and a strip that is a whole picture is as good as
    many short ones.
    """
    grid = tags.grid
    row_bytes = packed_row_bytes(tags)
    if grid.whole or grid.block_height <= _ROWS or grid.lines > 1:
        counts = np.minimum(grid.counts, np.uint64(row_bytes * grid.block_height))
        return replace(grid, counts=counts)
    lines = -(-grid.height // _ROWS)
    starts = np.arange(lines, dtype=np.uint64) * np.uint64(_ROWS * row_bytes)
    sizes = np.full(lines, _ROWS * row_bytes, np.uint64)
    sizes[-1] = (grid.height - (lines - 1) * _ROWS) * row_bytes
    return replace(
        grid,
        block_height=_ROWS,
        offsets=np.add.outer(grid.offsets, starts).ravel(),
        counts=np.tile(sizes, len(grid.offsets)),
    )


def _check_sizes(file: PictureFile, tags: Tags, reading: Reading) -> None:
    """Nothing is trusted: a file must not cost memory that has nothing to do with its size."""
    grid = tags.grid
    reading.check_pixels(file.name, grid.width, grid.height, likely_pixels(file.size))
    pixel = grid.bands * grid.dtype.itemsize
    most = max(_LITTLE, _GROWTH * file.size, (reading.max_pixels or 0) * pixel)
    height = min(grid.block_height, grid.height)
    taken = max(height * grid.width, grid.block_height * grid.block_width) * pixel
    if taken > most:
        raise SourceError(
            f"{file.name}: a line of its blocks of {grid.block_width}×{grid.block_height} pixels "
            f"would take {taken:,} bytes, more than its size makes likely ({most:,}); "
            f"--max-pixels {-(-taken // pixel)} (max_pixels) would allow it"
        )
