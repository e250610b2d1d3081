"""What is stored of each tile, under each of its names, in whatever the result lies in."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError
from ..geometry import Level, Tile
from ..layouts.square import Square
from ..readers.base import PyramidReader
from ..readers.described import DescribedReader
from ..readers.files import Files, FolderFiles
from ..readers.mbtiles import MbtilesReader
from ..readers.pmtiles import PmtilesReader
from ..readers.tiff import Decode, TiffReader
from ..targets import Container
from . import intact
from .report import Fault, Findings


class Place(NamedTuple):
    """One of a tile's places: what it is called, and the bytes there, if any."""

    name: str
    data: bytes | None


class Tiles:
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
        self.longest = max(level.longest_tile_side for level in self.pyramid.kept_levels)

    @property
    def files(self) -> Files | None:
        """What lies below the layout's root, if tiles are files."""
        return self.reader._files if isinstance(self.reader, DescribedReader) else None

    @property
    def target(self) -> Path:
        """What a cut would have called its target."""
        if not isinstance(self.files, FolderFiles):
            return self.reader.path
        folder = self.files._folder
        own = self.layout.result_name == self.layout.root
        # "." has no name, but is a folder that has one.
        folder = Path(os.path.realpath(folder)) if folder.name in ("", "..") else folder
        return folder if own else folder.with_name(self.layout.result_name)

    @property
    def work(self) -> Path:
        """The folder that whoever writes the result works in."""
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
        if isinstance(self.files, FolderFiles):
            return "folder"
        return "szi" if self.reader.path.suffix.lower() == ".szi" else "zip"

    def name(self, tile: Tile) -> str:
        """What a tile is called in its layout's own words."""
        if self.files is not None:
            return self.layout.path(tile)
        if isinstance(self.layout, Square):
            return "{}/{}/{}".format(*self.layout.address(tile))
        page = self.pyramid.kept[-1] - tile.level
        number = tile.row * self.pyramid.levels[tile.level].cols + tile.col
        return f"tile {number} of page {page}"

    def whole(self, tile: Tile, wanted: bytes | None = None) -> bytes | None:
        """A tile's file if nothing is wrong with it, as far as can be told undecoded.

        Else None, and what is wrong is noted; also where the tile is left out as it may be.

        Args:
            tile: Which.
            wanted: What it should be, if that is known: it tells which of several files is wrong.
        """
        region = self.pyramid.region(tile)
        flaw, data = self._flaw(tile, (region.width, region.height), wanted)
        if flaw is not None:
            self.findings.add(flaw)
            return None
        if data is None:
            if not self.is_shared(tile):
                self.findings.leave_out()
            return None
        self.findings.saw(len(data))
        return data

    def pixels(self, tile: Tile, data: bytes) -> NDArray[Any] | None:
        """A tile decoded, overlap included; or None, and what is wrong is noted.

        Args:
            tile: Whose.
            data: What `whole` gave.
        """
        found = self.decoded(tile, data)
        if isinstance(found, str):
            self.findings.add(Fault(tile, self.name(tile), found))
            return None
        return found

    def decoded(self, tile: Tile, data: bytes) -> NDArray[Any] | str:
        """The pixels of what a tile is, or might be; or what is wrong."""
        decode = self._decode(tile)
        if decode is None:
            return intact.pixels_of(data, self.longest)
        try:
            pixels = decode(data)
            if self.reader.extension == "deflate" and not is_whole_deflate(data, pixels.nbytes):
                return "is damaged: its checksum"
            return pixels
        except Exception as error:  # whatever a decoder makes of what it is given
            return f"cannot be decoded: {error}"

    def as_put(self, tile: Tile) -> bytes | None:
        """A tile as a sink takes it: a file, or in a TIFF without loss its samples.

        Raises:
            SourceError: It cannot be read.
        """
        if isinstance(self.reader, TiffReader) and self._decode(tile) is not None:
            return self.reader._data(self.reader._page(tile.level), tile)
        return self.reader._tile(tile)

    def is_shared(self, tile: Tile) -> bool:
        """Whether the layout has one file for this tile and one of a larger level."""
        return self.files is not None and not self.layout.paths(tile)

    def _flaw(
        self, tile: Tile, size: tuple[int, int], wanted: bytes | None
    ) -> tuple[Fault | None, bytes | None]:
        data: bytes | None = None
        for place in self._places(tile):
            if isinstance(place, Fault):
                return place, None
            name, what = place.name, None
            if place.data is None:
                if not self.reader.missing_allowed:
                    what = "is missing"
            elif data is None:
                what = self._flaw_of(tile, place.data, size)
            elif place.data != data:
                name = self.name(tile) if place.data == wanted else name
                what = "differs from another file that is the same tile"
            if what is not None:
                return Fault(tile, name, what), None
            data = data or place.data
        return None, data

    def _flaw_of(self, tile: Tile, data: bytes, size: tuple[int, int]) -> str | None:
        if self._decode(tile) is not None:
            if self.reader.extension != "deflate" or zlib_header(data):
                return None
            return "is damaged: it does not begin as deflated data do"
        return intact.flaw_of(data, self.reader.extension, size)

    def _places(self, tile: Tile) -> Iterator[Place | Fault]:
        files, start = self.files, len(self.layout.root) + 1
        names = (self.name(tile),) if files is None else self.layout.paths(tile)
        for name in names:
            try:
                data = self.as_put(tile) if files is None else files.read(name[start:])
            except SourceError as error:
                yield Fault(tile, name, f"cannot be read: {error}")
            else:
                yield Place(name, data)

    def whole_flaw(self, data: bytes | None, size: tuple[int, int]) -> str | None:
        """What is wrong with the picture of a whole level, or None."""
        if data is None:
            return "is missing"
        return intact.flaw_of(data, self.reader.extension, size)

    def read(self, path: str) -> bytes | Fault | None:
        """A file below the layout's root, or None if it is not there."""
        assert self.files is not None  # no other layout has any
        try:
            return self.files.read(path[len(self.layout.root) + 1 :])
        except SourceError as error:
            return Fault(None, path, f"cannot be read: {error}")

    def _decode(self, tile: Tile) -> Decode | None:
        """What makes pixels of a tile that is samples only, as in many a TIFF."""
        return self.reader._page(tile.level).decode if isinstance(self.reader, TiffReader) else None


def own(level: Level, tile: Tile, pixels: NDArray[Any]) -> NDArray[Any]:
    """A tile's pixels without what they have of its neighbours."""
    x, y = level.col_span(tile.col)[0], level.row_span(tile.row)[0]
    left, top = tile.col * level.tile_size - x, tile.row * level.tile_size - y
    return np.ascontiguousarray(pixels[top:, left:][: level.tile_size, : level.tile_size])


def zlib_header(data: bytes) -> bool:
    """Whether data begin as RFC 1950 has it."""
    return len(data) > 2 and data[0] & 15 == 8 and int.from_bytes(data[:2]) % 31 == 0


def is_whole_deflate(data: bytes, size: int) -> bool:
    """Whether data inflate to so many bytes, and are whole; a checksum at their end tells."""
    inflating = zlib.decompressobj()
    return len(inflating.decompress(data, size + 1)) == size and inflating.eof
