"""The stored tiles of a result, and flaws that their bytes show without decoding.

Decoders accept much damage: Pillow ignores checksums of the pixels of a PNG, libjpeg fills in lost
data. So verify checks ends, lengths and checksums itself, which costs little.

Sources: RFC 1950; RFC 9649; see `formats` for JPEG and PNG.
"""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fasttile.abc.layout import ResultTexts
from fasttile.abc.reader import ResultReader
from fasttile.errors import SourceError
from fasttile.formats.avif import check_avif
from fasttile.formats.images import decode_tile, read_image_size, sniff_format
from fasttile.formats.jpeg import check_jpeg
from fasttile.formats.png import check_png, has_all_png_pixels
from fasttile.geometry import Level, Tile
from fasttile.jobs.texts import recorded_texts
from fasttile.layouts.xyz import ZoomLayout
from fasttile.storage.file_trees import FolderTree
from fasttile.storage.object_files import ObjectTree, ResultPath
from fasttile.verify.report import Fault, Findings

FORMAT_ALIASES = {"jpeg": "jpg"}
"""Extensions that mean the same as another."""

KNOWN_FORMATS = ("jpg", "png", "webp", "avif", "gif")


class StoredFile(NamedTuple):
    """The name and the bytes of a file of a tile; None: it is missing."""

    name: str
    data: bytes | None


class StoredTiles:
    """The stored tiles of a result; any thread may call the methods.

    Args:
        reader: The reader of the result.
        findings: Collects the faults.
    """

    def __init__(self, reader: ResultReader, findings: Findings) -> None:
        self.reader = reader
        texts = ResultTexts()
        with suppress(SourceError):  # the record is damaged; a repair then writes no texts
            texts = recorded_texts(reader.record())
        self.layout = replace(reader.layout, texts=texts)
        self.pyramid = reader.pyramid
        self.findings = findings
        self.files = reader.files
        self.longest_tile_side = max(
            level.longest_tile_side for level in self.pyramid.stored_levels
        )

    @property
    def target(self) -> ResultPath:
        """The target of a cut that writes this result."""
        if not isinstance(self.files, FolderTree | ObjectTree):
            return self.reader.path
        folder: ResultPath = self.files.folder
        own = self.layout.entry_point == self.layout.root
        if folder.name in ("", ".."):
            folder = Path(os.path.realpath(folder))
        return folder if own else folder.with_name(self.layout.entry_point)

    @property
    def work_folder(self) -> ResultPath:
        """The work folder of a cut that writes this result."""
        return self.target.with_name(f".{self.target.name}.fasttile")

    def tile_name(self, tile: Tile) -> str:
        """Name of a tile in its layout: a path, an address, or a page and a number."""
        if self.files is not None:
            return self.layout.path(tile)
        if isinstance(self.layout, ZoomLayout):
            return "{}/{}/{}".format(*self.layout.address(tile))
        page = self.pyramid.stored_range[-1] - tile.level
        number = tile.row * self.pyramid.levels[tile.level].cols + tile.col
        return f"tile {number} of page {page}"

    def valid_tile(self, tile: Tile, expected: bytes | None = None) -> bytes | None:
        """Bytes of a tile without a flaw that shows before decoding; else record a fault.

        Args:
            tile: Address of the tile.
            expected: The right bytes, if known: they decide which of several files is wrong.

        Returns:
            The bytes; None if the tile has a fault, or is missing and the layout allows that.
        """
        region = self.pyramid.region(tile)
        flaw, data = self._tile_flaw(tile, (region.width, region.height), expected)
        if self.layout.has_halves:
            is_missing = flaw is None and data is None
            problem, half = self.half_flaw(tile)
            if half is None and is_missing:
                pass  # both are left out
            elif problem is not None:
                self.findings.add(Fault(tile, self.layout.half_path(tile), problem))
            elif half is not None:
                self.findings.record_half(len(half))
                if is_missing:
                    problem = "is missing, though its half is there"
                    flaw = Fault(tile, self.tile_name(tile), problem)
        if flaw is not None:
            self.findings.add(flaw)
            return None
        if data is None:
            if not self.shares_file(tile):
                self.findings.record_skipped()
            return None
        self.findings.record_tile(len(data))
        return data

    def valid_pixels(self, tile: Tile, data: bytes) -> NDArray[Any] | None:
        """Pixels of a tile, overlap included; if it cannot be decoded, record a fault.

        Args:
            tile: Address of the tile.
            data: Bytes of `valid_tile`.
        """
        pixels = self.decode(tile, data)
        if isinstance(pixels, str):
            self.findings.add(Fault(tile, self.tile_name(tile), pixels))
            return None
        return pixels

    def decode(self, tile: Tile, data: bytes) -> NDArray[Any] | str:
        """Pixels of the bytes of a tile; or a flaw."""
        decode = self.reader.sample_decoder(tile.level)
        if decode is None:
            return decode_or_flaw(data, self.longest_tile_side)
        try:
            pixels = decode(data)
            if self.reader.extension == "deflate" and not is_complete_deflate(data, pixels.nbytes):
                return "is damaged: its checksum"
            return pixels
        except Exception as error:  # decoders raise various errors for damaged data
            return f"cannot be decoded: {error}"

    def shares_file(self, tile: Tile) -> bool:
        """True if the file of this tile is that of a tile of a larger level."""
        return self.files is not None and not self.layout.paths(tile)

    def _tile_flaw(
        self, tile: Tile, size: tuple[int, int], expected: bytes | None
    ) -> tuple[Fault | None, bytes | None]:
        data: bytes | None = None
        for place in self._stored_files(tile):
            if isinstance(place, Fault):
                return place, None
            name, flaw = place.name, None
            if place.data is None:
                if not self.reader.allows_missing_tiles:
                    flaw = "is missing"
            elif data is None:
                if self.reader.sample_decoder(tile.level) is None:
                    flaw = find_flaw(place.data, self.reader.extension, size)
                elif self.reader.extension == "deflate" and not has_zlib_header(place.data):
                    flaw = "is damaged: it has no zlib header"
            elif place.data != data:
                name = self.tile_name(tile) if place.data == expected else name
                flaw = "differs from another file of the same tile"
            if flaw is not None:
                return Fault(tile, name, flaw), None
            data = data or place.data
        return None, data

    def _stored_files(self, tile: Tile) -> Iterator[StoredFile | Fault]:
        files, start = self.files, len(self.layout.root) + 1
        names = (self.tile_name(tile),) if files is None else self.layout.paths(tile)
        for name in names:
            try:
                data = self.reader.raw_tile(tile) if files is None else files.read(name[start:])
            except SourceError as error:
                yield Fault(tile, name, f"cannot be read: {error}")
            else:
                yield StoredFile(name, data)

    def half_flaw(self, tile: Tile) -> tuple[str | None, bytes | None]:
        """Flaw of the half of a tile that shows before decoding, or None; and its bytes."""
        data = self.read_file(self.layout.half_path(tile))
        if isinstance(data, Fault):
            return data.problem, b""
        if data is None:
            return "is missing", None
        side = self.pyramid.tile_size // 2
        return find_flaw(data, self.reader.extension, (side, side)), data

    def level_image_flaw(self, data: bytes | None, size: tuple[int, int]) -> str | None:
        """Flaw of the image of a level, or None."""
        if data is None:
            return "is missing"
        return find_flaw(data, self.reader.extension, size)

    def read_file(self, path: str) -> bytes | Fault | None:
        """A file below the root of the layout, or None if it is missing."""
        assert self.files is not None  # containers of addresses have no files
        try:
            return self.files.read(path[len(self.layout.root) + 1 :])
        except SourceError as error:
            return Fault(None, path, f"cannot be read: {error}")


def without_overlap(level: Level, tile: Tile, pixels: NDArray[Any]) -> NDArray[Any]:
    """Pixels of a tile without the overlap with its neighbours."""
    x, y = level.col_span(tile.col)[0], level.row_span(tile.row)[0]
    left, top = tile.col * level.tile_size - x, tile.row * level.tile_size - y
    return np.ascontiguousarray(pixels[top:, left:][: level.tile_size, : level.tile_size])


def has_zlib_header(data: bytes) -> bool:
    """True if data begin with a header of RFC 1950."""
    return len(data) > 2 and data[0] & 15 == 8 and int.from_bytes(data[:2]) % 31 == 0


def is_complete_deflate(data: bytes, size: int) -> bool:
    """True if data inflate to `size` bytes and their checksum is right."""
    inflating = zlib.decompressobj()
    return len(inflating.decompress(data, size + 1)) == size and inflating.eof


def find_flaw(data: bytes, extension: str, size: tuple[int, int]) -> str | None:
    """Flaw of the file of a tile that shows without decoding, or None.

    Args:
        data: The file.
        extension: The extension of all tiles.
        size: The right width and height, in pixels.
    """
    if not data:
        return "is empty"
    stored, expected = sniff_format(data), FORMAT_ALIASES.get(extension, extension)
    if stored is None:
        return "is no image"
    if expected in KNOWN_FORMATS and stored != expected:
        return f"is {stored}, not {expected}"
    try:
        width, height = read_image_size(data, "it")
    except SourceError as error:
        return _flaw_text(error)
    if (width, height) != size:
        return f"has {width}×{height} pixels, not {size[0]}×{size[1]}"
    end = len(data)
    try:
        if stored == "jpg":
            check_jpeg(data)
        elif stored == "png":
            end = check_png(data)
        elif stored == "avif":
            end = check_avif(data)
    except ValueError as error:
        return str(error)
    if stored == "webp":
        end = 8 + int.from_bytes(data[4:8], "little")
        if end > len(data):
            return f"is truncated: it has {len(data)} of {end} bytes"
    rest = data[end:]
    return f"has {len(rest)} bytes after its end" if rest.strip(b"\0") else None


def has_image_suffix(name: str) -> bool:
    """True if a name has an extension of images."""
    extension = name.rpartition(".")[2].lower()
    return FORMAT_ALIASES.get(extension, extension) in KNOWN_FORMATS


def decode_or_flaw(data: bytes, max_side: int) -> NDArray[Any] | str:
    """Pixels of a tile, shape (height, width, bands); or a flaw.

    Args:
        data: The file of the tile.
        max_side: Maximum width and height, in pixels.
    """
    try:
        pixels = decode_tile(data, max_side, "it")
    except SourceError as error:
        return _flaw_text(error)
    if sniff_format(data) == "png" and not has_all_png_pixels(data):
        return "is damaged: its pixels are truncated"
    return pixels


def _flaw_text(error: SourceError) -> str:
    return " ".join(str(error).removeprefix("it ").split())


Item = TypeVar("Item")
Result = TypeVar("Result")

POLL_SECONDS = 0.1
"""Interval between calls of `on_wait`, in seconds."""


def ordered_map(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    on_wait: Callable[[], object] = lambda: None,
) -> Iterator[Result]:
    """Results of a function for each item, in order, computed by threads.

    Args:
        work: The function.
        items: Iterated in the calling thread, `threads` + 2 items ahead of the results.
        threads: Number of threads.
        on_wait: Called in the calling thread every 0.1 s; an exception ends the iteration.

    Raises:
        Exception: Any exception of work, items or on_wait.
    """
    futures: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fasttile-verify")
    try:
        for item in items:
            futures.append(pool.submit(work, item))
            if len(futures) > threads + 2:
                yield _wait_for(futures.popleft(), on_wait)
        while futures:
            yield _wait_for(futures.popleft(), on_wait)
        on_wait()
    finally:
        pool.shutdown(cancel_futures=True)


def _wait_for(future: Future[Result], on_wait: Callable[[], object]) -> Result:
    on_wait()
    while True:
        try:
            return future.result(POLL_SECONDS)
        except TimeoutError:
            if future.done():  # raised by the function
                raise
            on_wait()
