"""Arrays in chunks: which chunks a region needs, and their samples, decoded on threads."""

from __future__ import annotations

import math
import struct
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, product
from threading import Lock
from typing import Any

import numpy as np

from fasttile.abc.source import WarningLog
from fasttile.errors import SourceError
from fasttile.formats.zarr import ArrayHeader
from fasttile.sources.zarr.codecs import ChunkDecoder, crc32c
from fasttile.storage.budget import BUDGET
from fasttile.storage.file_trees import FileTree, FolderTree
from fasttile.storage.random_access import RandomAccessFile
from fasttile.storage.system import cpu_count
from fasttile.types import Pixels

MAX_LOCAL_THREADS, REMOTE_THREADS = 8, 16
"""Threads that decode; of a server more, as most of them wait for it."""

_DECODED_BYTES = 2**29  # of chunks that are decoded at the same time
_CHUNKS_AT_ONCE = 256  # that are handed to the threads
_INDEX_BYTES = 2**26  # of shards' indexes that are kept
_NO_CHUNK = 2**64 - 1  # offset and length in an index

Index = tuple[int, ...]


class ChunkedImage:
    """A plane of an array in chunks: an object with shape, dtype, chunks and slices.

    Args:
        header: The array.
        files: The files of its chunks.
        name: Its name in messages.
        axes: A letter for each axis: y and x; c for bands; others have one index.
        plane: The index along each axis that is none of y, x and c.
        bands: The indexes along c, in their order. Default: all.
        is_remote: True if each file is a request to a server.
        allow_damaged: True if damaged chunks are filled as missing ones are.
        warnings: Receives notes on missing and damaged chunks.

    Attributes:
        shape: (height, width, bands).
        dtype: Of the samples, native.
        chunk_bytes: Of a decoded chunk.
        chunks: Rows and columns of a chunk.
        threads: Number of threads that decode.

    Raises:
        SourceError: A codec is not installed.
    """

    def __init__(
        self,
        header: ArrayHeader,
        files: FileTree,
        name: str,
        axes: str,
        plane: Sequence[int],
        bands: Sequence[int] | None,
        *,
        is_remote: bool,
        allow_damaged: bool,
        warnings: WarningLog,
    ) -> None:
        self._header, self._files, self._name = header, files, name
        self._y, self._x, self._c = (axes.find(axis) for axis in "yxc")
        self._plane = tuple(plane)
        count = header.shape[self._c] if self._c >= 0 else 1
        self._bands = tuple(range(count) if bands is None else bands)
        self.shape = (header.shape[self._y], header.shape[self._x], len(self._bands))
        self.dtype = header.dtype.newbyteorder("=")
        self.chunk_bytes = header.chunk_bytes
        self.chunks = (header.chunks[self._y], header.chunks[self._x])
        self._allow_damaged, self._warnings = allow_damaged, warnings
        self._decoder = ChunkDecoder(header.codecs, name)
        self._shards = None if header.shards is None else _ShardFiles(header, files)
        threads = REMOTE_THREADS if is_remote else min(MAX_LOCAL_THREADS, cpu_count())
        self.threads = max(1, min(threads, _DECODED_BYTES // header.chunk_bytes))
        self._noted: set[str] = set()
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(self.threads, "fasttile-zarr")  # threads start when needed

    def __getitem__(self, index: tuple[slice, slice]) -> Pixels:
        """Rows and columns, each of whose chunks is decoded once; (rows, columns, bands)."""
        (top, bottom), (left, right) = ((axis.start, axis.stop) for axis in index)
        out = np.empty((bottom - top, right - left, len(self._bands)), self.dtype)

        def read(chunk: Index) -> None:
            self._read_chunk(chunk, top, left, out)

        chunks = self._chunks_of(top, bottom, left, right)
        while some := [*islice(chunks, _CHUNKS_AT_ONCE)]:
            for _ in self._pool.map(read, some):
                pass  # raises the exceptions of the threads
        return out

    def close(self) -> None:
        """End the threads, and close the files."""
        self._pool.shutdown(cancel_futures=True)
        self._files.close()

    def _chunks_of(self, top: int, bottom: int, left: int, right: int) -> Iterator[Index]:
        """The chunks of a region, in all bands that are read."""
        sides = self._header.chunks
        spans: list[Sequence[int]] = []
        for axis, side in enumerate(sides):
            if axis == self._y:
                spans.append(range(top // side, -(-bottom // side)))
            elif axis == self._x:
                spans.append(range(left // side, -(-right // side)))
            elif axis == self._c:
                spans.append(sorted({band // side for band in self._bands}))
            else:
                spans.append([self._plane[axis] // side])
        return product(*spans)

    def _read_chunk(self, chunk: Index, top: int, left: int, out: Pixels) -> None:
        """Write the samples of a chunk into their place in a region."""
        sides = self._header.chunks
        begins = [number * side for number, side in zip(chunk, sides, strict=True)]
        y, x = begins[self._y], begins[self._x]
        y0, y1 = max(y, top), min(y + sides[self._y], top + out.shape[0])
        x0, x1 = max(x, left), min(x + sides[self._x], left + out.shape[1])
        target = out[y0 - top : y1 - top, x0 - left : x1 - left]
        first, count = (begins[self._c], sides[self._c]) if self._c >= 0 else (0, 1)
        places = [at for at, band in enumerate(self._bands) if first <= band < first + count]
        samples = self._decode(chunk)
        if samples is None:
            target[..., places] = self._header.fill
            return
        picked: list[Any] = [at - begin for at, begin in zip(self._plane, begins, strict=True)]
        picked[self._y], picked[self._x] = slice(y0 - y, y1 - y), slice(x0 - x, x1 - x)
        kept = sorted((self._y, self._x))
        if self._c >= 0:
            picked[self._c] = slice(None)
            kept = sorted((*kept, self._c))
        pixels = samples[tuple(picked)].transpose(
            [kept.index(axis) for axis in (self._y, self._x, self._c) if axis >= 0]
        )
        if self._c < 0:
            pixels = pixels[..., np.newaxis]
        numbers = [self._bands[place] - first for place in places]
        if places == numbers == list(range(out.shape[2])):  # one copy, without another one
            target[...] = pixels[..., : len(places)]
        else:
            target[..., places] = pixels[..., numbers]

    def _decode(self, chunk: Index) -> Pixels | None:
        """The samples of a chunk in the array's order of axes; None if it has the fill value."""
        name, fill = self._header.file_name(chunk), self._header.fill
        try:
            data = self._fetch(chunk, name)
            if data is not None:
                return self._samples_of(data, chunk)
        except (SourceError, MemoryError):
            raise
        except Exception as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            if not self._allow_damaged:
                raise SourceError(
                    f"{self._name}: chunk {name} is damaged: {reason}; copy it again, or use "
                    "--allow-truncated (allow_truncated) to fill it"
                ) from error
            self._note("damaged", f"damaged chunks ({name}: {reason}) have the fill value {fill}")
        else:
            self._note("missing", f"missing chunks ({name} for one) have the fill value {fill}")
        return None

    def _fetch(self, chunk: Index, name: str) -> bytes | None:
        """The encoded bytes of a chunk; None if it is missing."""
        size = self._header.chunk_bytes
        # No codec makes data longer by more than an eighth and its own header.
        most = size + size // 8 + 2**16
        if self._shards is None:
            return self._files.read(name, most)
        return self._shards.read(chunk, most)

    def _samples_of(self, data: bytes, chunk: Index) -> Pixels:
        header = self._header
        if header.is_n5:
            return self._samples_of_block(data, chunk)
        raw = self._decoder.decode(data, header.chunk_bytes)
        stored = [header.chunks[axis] for axis in header.order]
        samples: Pixels = self._array_of(raw, stored).transpose(np.argsort(header.order))
        return samples

    def _samples_of_block(self, data: bytes, chunk: Index) -> Pixels:
        """The samples of a block of N5, whose header has its size: at the edges it is smaller."""
        header = self._header
        mode, count = struct.unpack_from(">HH", data)
        if mode not in (0, 1) or count != len(header.shape):
            raise ValueError(f"its header has mode {mode} and {count} axes")
        sides = struct.unpack_from(f">{count}I", data, 4)[::-1]
        start = 4 + 4 * count + 4 * (mode == 1)
        for number, side, most, all_of in zip(
            chunk, sides, header.chunks, header.shape, strict=True
        ):
            if not min(most, all_of - number * most) <= side <= most:
                raise ValueError(f"its header has the size {list(sides[::-1])}")
        raw = self._decoder.decode(data[start:], math.prod(sides) * header.dtype.itemsize)
        return self._array_of(raw, sides)

    def _array_of(self, raw: bytes, sides: Sequence[int]) -> Pixels:
        if self.dtype == np.bool_:  # a byte may have any value
            return np.frombuffer(raw, np.uint8).reshape(sides).astype(np.bool_)
        return np.frombuffer(raw, self._header.dtype).reshape(sides)

    def _note(self, kind: str, note: str) -> None:
        """Add a note, the first of its kind."""
        with self._lock:
            if kind not in self._noted:
                self._noted.add(kind)
                self._warnings.add(note)


class _Shard:
    """A shard that was looked at.

    Attributes:
        lock: Held while its index is read.
        is_read: True if it was.
        file: Its file, if the file is not on a disk; those of a disk are opened for each chunk.
        index: Offsets and lengths of its chunks; None if there is no shard.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.is_read = False
        self.file: RandomAccessFile | None = None
        self.index: Pixels | None = None


class _ShardFiles:
    """Files of shards, with their indexes, the last of which are kept."""

    def __init__(self, header: ArrayHeader, files: FileTree) -> None:
        assert header.shards is not None
        self._header, self._files, self._layout = header, files, header.shards
        sides = zip(self._layout.shape, header.chunks, strict=True)
        self._grid = tuple(outer // inner for outer, inner in sides)
        self._most = max(1, _INDEX_BYTES // (16 * math.prod(self._grid)))
        self._shards: OrderedDict[Index, _Shard] = OrderedDict()
        self._lock = Lock()

    def read(self, chunk: Index, max_bytes: int) -> bytes | None:
        """The encoded bytes of a chunk; None if it, or its shard, is missing.

        Raises:
            ValueError: The shard is damaged.
            SourceError: It cannot be read.
        """
        pairs = [divmod(number, count) for number, count in zip(chunk, self._grid, strict=True)]
        number = tuple(shard for shard, _ in pairs)
        name = self._header.file_name(number)
        shard = self._find(number)
        with shard.lock:
            if not shard.is_read:
                self._open(shard, name)
                shard.is_read = True
        if shard.index is None:
            return None
        offset, length = (int(value) for value in shard.index[tuple(place for _, place in pairs)])
        if offset == length == _NO_CHUNK:
            return None
        if length > max_bytes:
            raise ValueError(f"shard {name}: a chunk of {length:,} bytes")
        if shard.file is not None:
            return _read_piece(shard.file, offset, length, name)
        file = self._files.open_file(name)
        if file is None:
            raise ValueError(f"shard {name} was removed")
        with file:
            return _read_piece(file, offset, length, name)

    def _find(self, number: Index) -> _Shard:
        with self._lock:
            shard = self._shards.setdefault(number, _Shard())
            self._shards.move_to_end(number)
            while len(self._shards) > self._most:
                self._shards.popitem(last=False)
            return shard

    def _open(self, shard: _Shard, name: str) -> None:
        file = self._files.open_file(name)
        if file is None:
            return
        if isinstance(self._files, FolderTree):
            with file:
                shard.index = self._read_index(file, name)
        else:
            shard.index = self._read_index(file, name)
            shard.file = file

    def _read_index(self, file: RandomAccessFile, name: str) -> Pixels:
        layout = self._layout
        size = 16 * math.prod(self._grid) + 4 * layout.index_has_checksum
        place = 0 if layout.index_is_first else file.size - size
        data = _read_piece(file, place, size, name)
        if layout.index_has_checksum:
            data, stored = data[:-4], data[-4:]
            if crc32c(data) != struct.unpack("<I", stored)[0]:
                raise ValueError(f"shard {name}: the checksum of its index is wrong")
        return np.frombuffer(data, f"{layout.index_order}u8").reshape(*self._grid, 2)


def _read_piece(file: RandomAccessFile, offset: int, length: int, name: str) -> bytes:
    if offset < 0 or offset + length > file.size:
        raise ValueError(f"shard {name}: {length:,} bytes at {offset:,} of {file.size:,}")
    return file.read_at(offset, length, "a chunk")


def check_budget(header: ArrayHeader, name: str) -> None:
    """Refuse chunks that are too large, before memory is allocated.

    Raises:
        SourceError: A chunk, or the index of a shard, is larger than the budget allows.
    """
    if header.chunk_bytes > BUDGET.piece_bytes:
        raise SourceError(
            f"{name}: its chunks have {header.chunk_bytes:,} bytes, more than "
            f"{BUDGET.piece_bytes:,}; write it in smaller chunks"
        )
    if header.shards is not None:
        sides = zip(header.shards.shape, header.chunks, strict=True)
        count = math.prod(outer // inner for outer, inner in sides)
        if 16 * count > BUDGET.directory_bytes:
            raise SourceError(
                f"{name}: its shards have {count:,} chunks, more than "
                f"{BUDGET.directory_bytes // 16:,}; write it in smaller shards"
            )
