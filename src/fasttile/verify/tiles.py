"""Stored tiles of a result, under each of their names, in any container."""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fasttile.abc.reader import PyramidReader
from fasttile.errors import SourceError
from fasttile.formats.images import decode_tile, read_image_size, sniff_format
from fasttile.geometry import Level, Tile
from fasttile.layouts.xyz import ZoomLayout
from fasttile.readers.folder import FileTreeReader
from fasttile.readers.tiff import TiffReader, TileDecoder
from fasttile.readers.tilesets import MbtilesReader, PmtilesReader
from fasttile.sinks import Container
from fasttile.storage.file_trees import FileTree, FolderTree
from fasttile.verify import tiles as intact
from fasttile.verify.report import Fault, Findings


class StoredFile(NamedTuple):
    """One of a tile's places: what it is called, and the bytes there, if any."""

    name: str
    data: bytes | None


class StoredTiles:
    """The tiles of a result, as they are stored; asked from any thread.

    Args:
        reader: Of the result.
        findings: Take what is wrong.
    """

    def __init__(self, reader: PyramidReader, findings: Findings) -> None:
        self.reader = reader
        self.layout = reader.layout
        self.pyramid = reader.pyramid
        self.findings = findings
        self.longest_tile_side = max(
            level.longest_tile_side for level in self.pyramid.stored_levels
        )

    @property
    def files(self) -> FileTree | None:
        """What lies below the layout's root, if tiles are files."""
        return self.reader._files if isinstance(self.reader, FileTreeReader) else None

    @property
    def target(self) -> Path:
        """What a cut would have called its target."""
        if not isinstance(self.files, FolderTree):
            return self.reader.path
        folder = self.files._folder
        own = self.layout.entry_point == self.layout.root
        # "." has no name, but is a folder that has one.
        folder = Path(os.path.realpath(folder)) if folder.name in ("", "..") else folder
        return folder if own else folder.with_name(self.layout.entry_point)

    @property
    def work_folder(self) -> Path:
        """The work folder of a run that writes the result."""
        return self.target.with_name(f".{self.target.name}.fasttile")

    @property
    def container(self) -> Container:
        """What the result lies in."""
        kinds: tuple[tuple[type[PyramidReader], Container], ...] = (
            (TiffReader, "tiff"),
            (PmtilesReader, "pmtiles"),
            (MbtilesReader, "mbtiles"),
        )
        for kind, container in kinds:
            if isinstance(self.reader, kind):
                return container
        if isinstance(self.files, FolderTree):
            return "folder"
        return "szi" if self.reader.path.suffix.lower() == ".szi" else "zip"

    def tile_name(self, tile: Tile) -> str:
        """What a tile is called in its layout's own words."""
        if self.files is not None:
            return self.layout.path(tile)
        if isinstance(self.layout, ZoomLayout):
            return "{}/{}/{}".format(*self.layout.address(tile))
        page = self.pyramid.stored_range[-1] - tile.level
        number = tile.row * self.pyramid.levels[tile.level].cols + tile.col
        return f"tile {number} of page {page}"

    def valid_tile(self, tile: Tile, expected: bytes | None = None) -> bytes | None:
        """A tile's bytes if no fault shows without decoding.

        Else None, and what is wrong is noted; also where the tile is left out as it may be.

        Args:
            tile: Which.
            expected: The right bytes, if they are known: they show which of several files is wrong.
        """
        region = self.pyramid.region(tile)
        flaw, data = self._tile_flaw(tile, (region.width, region.height), expected)
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
        """A tile decoded, overlap included; or None, and what is wrong is noted.

        Args:
            tile: Whose.
            data: Result of `valid_tile`.
        """
        found = self.decode(tile, data)
        if isinstance(found, str):
            self.findings.add(Fault(tile, self.tile_name(tile), found))
            return None
        return found

    def decode(self, tile: Tile, data: bytes) -> NDArray[Any] | str:
        """The pixels of what a tile is, or might be; or what is wrong."""
        decode = self._sample_decoder(tile)
        if decode is None:
            return intact.decode_or_flaw(data, self.longest_tile_side)
        try:
            pixels = decode(data)
            if self.reader.extension == "deflate" and not is_complete_deflate(data, pixels.nbytes):
                return "is damaged: its checksum"
            return pixels
        except Exception as error:  # decoders raise anything for damaged data
            return f"cannot be decoded: {error}"

    def raw_tile(self, tile: Tile) -> bytes | None:
        """A tile as a sink takes it: a file, or in a TIFF without loss its samples.

        Raises:
            SourceError: It cannot be read.
        """
        if isinstance(self.reader, TiffReader) and self._sample_decoder(tile) is not None:
            return self.reader._tile_data(self.reader._page(tile.level), tile)
        return self.reader._read_tile(tile)

    def shares_file(self, tile: Tile) -> bool:
        """Whether the layout has one file for this tile and one of a larger level."""
        return self.files is not None and not self.layout.paths(tile)

    def _tile_flaw(
        self, tile: Tile, size: tuple[int, int], expected: bytes | None
    ) -> tuple[Fault | None, bytes | None]:
        data: bytes | None = None
        for place in self._stored_files(tile):
            if isinstance(place, Fault):
                return place, None
            name, what = place.name, None
            if place.data is None:
                if not self.reader.allows_missing_tiles:
                    what = "is missing"
            elif data is None:
                what = self._data_flaw(tile, place.data, size)
            elif place.data != data:
                name = self.tile_name(tile) if place.data == expected else name
                what = "differs from another file that is the same tile"
            if what is not None:
                return Fault(tile, name, what), None
            data = data or place.data
        return None, data

    def _data_flaw(self, tile: Tile, data: bytes, size: tuple[int, int]) -> str | None:
        if self._sample_decoder(tile) is not None:
            if self.reader.extension != "deflate" or has_zlib_header(data):
                return None
            return "is damaged: it does not begin as deflated data do"
        return intact.find_flaw(data, self.reader.extension, size)

    def _stored_files(self, tile: Tile) -> Iterator[StoredFile | Fault]:
        files, start = self.files, len(self.layout.root) + 1
        names = (self.tile_name(tile),) if files is None else self.layout.paths(tile)
        for name in names:
            try:
                data = self.raw_tile(tile) if files is None else files.read(name[start:])
            except SourceError as error:
                yield Fault(tile, name, f"cannot be read: {error}")
            else:
                yield StoredFile(name, data)

    def check_level_image(self, data: bytes | None, size: tuple[int, int]) -> str | None:
        """What is wrong with the image of a whole level, or None."""
        if data is None:
            return "is missing"
        return intact.find_flaw(data, self.reader.extension, size)

    def read_file(self, path: str) -> bytes | Fault | None:
        """A file below the layout's root, or None if it is not there."""
        assert self.files is not None  # no other layout has any
        try:
            return self.files.read(path[len(self.layout.root) + 1 :])
        except SourceError as error:
            return Fault(None, path, f"cannot be read: {error}")

    def _sample_decoder(self, tile: Tile) -> TileDecoder | None:
        """What makes pixels of a tile that is samples only, as in many a TIFF."""
        return self.reader._page(tile.level).decode if isinstance(self.reader, TiffReader) else None


def without_overlap(level: Level, tile: Tile, pixels: NDArray[Any]) -> NDArray[Any]:
    """A tile's pixels without what they have of its neighbours."""
    x, y = level.col_span(tile.col)[0], level.row_span(tile.row)[0]
    left, top = tile.col * level.tile_size - x, tile.row * level.tile_size - y
    return np.ascontiguousarray(pixels[top:, left:][: level.tile_size, : level.tile_size])


def has_zlib_header(data: bytes) -> bool:
    """Whether data begin as RFC 1950 has it."""
    return len(data) > 2 and data[0] & 15 == 8 and int.from_bytes(data[:2]) % 31 == 0


def is_complete_deflate(data: bytes, size: int) -> bool:
    """True if data inflate to a number of bytes with a valid checksum."""
    inflating = zlib.decompressobj()
    return len(inflating.decompress(data, size + 1)) == size and inflating.eof


# One tile's bytes: whether they are a whole image of the right kind and size, undecoded.
#
# Decoders forgive much: Pillow passes over checksums of PNG's pixels, libjpeg makes up what a file
# has lost. So ends, lengths and checksums are looked at here, which costs little.
#
# Sources: ITU-T T.81, annex B; the PNG specification, section 5; RFC 9649.

_FORMAT_ALIASES = {"jpeg": "jpg"}
"""Endings that mean the same as another."""

_KNOWN_FORMATS = ("jpg", "png", "webp", "avif", "gif")
_SOS = 0xDA
_SEQUENTIAL_FRAMES = (0xC0, 0xC1)
_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
_EOI = b"\xff\xd9"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def find_flaw(data: bytes, extension: str, size: tuple[int, int]) -> str | None:
    """What is wrong with a tile, or None.

    Args:
        data: The tile's file.
        extension: The ending that all tiles have.
        size: The width and height that it should have, in pixels.
    """
    if not data:
        return "is empty"
    found, wanted = sniff_format(data), _FORMAT_ALIASES.get(extension, extension)
    if found is None:
        return "is no image"
    if wanted in _KNOWN_FORMATS and found != wanted:
        return f"is {found}, not {wanted}"
    try:
        width, height = read_image_size(data, "it")
    except SourceError as error:
        return _flaw_text(error)
    if (width, height) != size:
        return f"has {width}×{height} pixels, not {size[0]}×{size[1]}"
    check = {"jpg": _jpeg_flaw, "png": _png_flaw, "webp": _webp_flaw}.get(found)
    return None if check is None else check(data)


def has_image_suffix(name: str) -> bool:
    """Whether a file's name ends as those of tiles do."""
    ending = name.rpartition(".")[2].lower()
    return _FORMAT_ALIASES.get(ending, ending) in _KNOWN_FORMATS


def decode_or_flaw(data: bytes, max_side: int) -> NDArray[Any] | str:
    """A tile's pixels, shape (height, width, bands); or what is wrong.

    Args:
        data: The tile's file.
        longest: The longest side that it may have, in pixels.
    """
    try:
        pixels = decode_tile(data, max_side, "it")
    except SourceError as error:
        return _flaw_text(error)
    if sniff_format(data) == "png" and not _has_all_png_pixels(data):
        return "is damaged: its pixels are cut short"
    return pixels


def _flaw_text(error: SourceError) -> str:
    return " ".join(str(error).removeprefix("it ").split())


def _jpeg_flaw(data: bytes) -> str | None:
    """Its end is where it should be, and nothing in its scan says that it ends before."""
    end = len(data.rstrip(b"\0"))  # some programs fill up
    if data[end - 2 : end] != _EOI:
        return "does not end as JPEG does"
    position, frame = 2, b""
    while True:
        stop = position + 2 + int.from_bytes(data[position + 2 : position + 4])
        if data[position : position + 1] != b"\xff" or not position + 4 <= stop <= end - 2:
            return "is damaged: its segments do not follow each other"
        marker = data[position + 1]
        if marker in _SEQUENTIAL_FRAMES:
            frame = data[position:stop]
        if marker == _SOS:
            break
        position = stop
    if not frame or data[position + 4] != frame[9]:
        return None  # of several scans
    found = _MARKER.search(data, stop)
    if found is None or found.end() != end:
        return "is damaged: there is a marker among its pixels"
    return None


def _png_flaw(data: bytes) -> str | None:
    """All its chunks are there, each with its checksum."""
    position, kind = len(_PNG_SIGNATURE), b""
    while kind != b"IEND":
        stop = position + 12 + int.from_bytes(data[position : position + 4])
        if stop > len(data) or stop < position + 12:
            return "is cut short"
        kind = data[position + 4 : position + 8]
        if zlib.crc32(data[position + 4 : stop - 4]) != int.from_bytes(data[stop - 4 : stop]):
            return f"is damaged: the checksum of its chunk {kind.decode('ascii', 'replace')!a}"
        position = stop
    return _trailing_data_flaw(data[position:])


def _has_all_png_pixels(data: bytes) -> bool:
    """Whether a PNG's pixels are as many as they should be, and their checksum is right."""
    width, height, bits, colours, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    bands = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    size = height * (1 + (width * bands * bits + 7) // 8)
    inflating = zlib.decompressobj()
    found = inflating.decompress(png_pixel_data(data), 2 * size + 64)
    return inflating.eof and (bool(interlaced) or len(found) == size)


def png_pixel_data(data: bytes) -> bytes:
    """The deflated pixels of a PNG whose chunks are all there."""
    position, found = len(_PNG_SIGNATURE), []
    while position < len(data):
        stop = position + 12 + int.from_bytes(data[position : position + 4])
        if data[position + 4 : position + 8] == b"IDAT":
            found.append(data[position + 8 : stop - 4])
        position = stop
    return b"".join(found)


def _webp_flaw(data: bytes) -> str | None:
    """It is as long as it says."""
    said = 8 + int.from_bytes(data[4:8], "little")
    if said > len(data):
        return f"is cut short: it has {len(data)} of {said} bytes"
    return _trailing_data_flaw(data[said:])


def _trailing_data_flaw(rest: bytes) -> str | None:
    """Nothing comes behind the end, unless to fill up."""
    return f"has {len(rest)} bytes behind its end" if rest.strip(b"\0") else None


# Work on many threads, its results in order, and never much of it under way.

Item = TypeVar("Item")
Result = TypeVar("Result")

POLL_SECONDS = 0.1
"""Seconds between two checks of a waiting caller."""


def ordered_map(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    on_wait: Callable[[], object] = lambda: None,
) -> Iterator[Result]:
    """What a function makes of each item, in the order of these.

    Args:
        work: Called in other threads.
        items: Asked for one after the other, from the calling thread, not long before their turn.
        threads: How many calls there are at a time.
        meanwhile: Called from the calling thread, now and then; what it raises ends it all.

    Raises:
        Exception: As raised by the work, the items, or `meanwhile`.
    """
    under_way: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fasttile-verify")
    try:
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) > threads + 2:
                yield _wait_for(under_way.popleft(), on_wait)
        while under_way:
            yield _wait_for(under_way.popleft(), on_wait)
        on_wait()
    finally:
        pool.shutdown(cancel_futures=True)


def _wait_for(future: Future[Result], on_wait: Callable[[], object]) -> Result:
    on_wait()
    while True:
        try:
            return future.result(POLL_SECONDS)
        except TimeoutError:
            if future.done():  # then it is the work's own
                raise
            on_wait()
