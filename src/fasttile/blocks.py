"""The reduced blocks of shards: a raster in pieces, from which the upper levels are cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .errors import SourceError
from .geometry import Region
from .sinks.oserrors import telling
from .sources.base import Metadata, Pixels, Source


class Blocks(Protocol):
    """Where blocks wait until all are there."""

    def put(self, number: int, data: bytes) -> None:
        """Keep a block, for whoever reads it on whichever machine; once more replaces it."""

    def get(self, number: int) -> bytes:
        """A block.

        Raises:
            SourceError: It is not there.
        """


class FolderBlocks:
    """Blocks as files of a folder.

    Args:
        folder: Which; it is made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, number: int, data: bytes) -> None:
        """Write a file, as a whole."""
        path = self._folder / f"{number}"
        with telling("write", path):
            self._folder.mkdir(exist_ok=True)
            new = path.with_name(f"{number}.new")
            new.write_bytes(data)
            new.replace(path)

    def get(self, number: int) -> bytes:
        """Read a file."""
        path = self._folder / f"{number}"
        try:
            return path.read_bytes()
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}") from error


class BlockSource(Source):
    """The raster that blocks make, read line by line of blocks.

    Args:
        blocks: Where they are.
        regions: Where each lies in the raster, line by line from the top; together they cover it.
        like: The picture that they were made of.
    """

    def __init__(self, blocks: Blocks, regions: Sequence[Region], like: Source) -> None:
        self.name = like.name
        self.width = max(region.right for region in regions)
        self.height = max(region.bottom for region in regions)
        self.bands, self.dtype, self.cmyk = like.bands, like.dtype, like.cmyk
        self.metadata = Metadata("blocks")
        self.row_step = regions[0].height
        self._blocks = blocks
        self._regions = regions
        self._next = 0
        self._top = 0
        self._line: Pixels = np.empty((0, self.width, self.bands), self.dtype)

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, asked for from top to bottom."""
        parts = []
        while y0 < y1:
            while y0 >= self._top + len(self._line):
                self._read_line()
            end = min(y1, self._top + len(self._line))
            parts.append(self._line[y0 - self._top : end - self._top])
            y0 = end
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _read_line(self) -> None:
        first = self._regions[self._next]
        self._top = first.y
        self._line = np.empty((first.height, self.width, self.bands), self.dtype)
        while self._next < len(self._regions) and self._regions[self._next].y == first.y:
            region = self._regions[self._next]
            self._line[:, region.x : region.right] = self._block(self._next, region)
            self._next += 1

    def _block(self, number: int, region: Region) -> Pixels:
        data = self._blocks.get(number)
        shape = (region.height, region.width, self.bands)
        found: np.ndarray[Any, Any] = np.frombuffer(data, self.dtype)
        if found.size != region.height * region.width * self.bands:
            raise SourceError(f"{self.name}: a block of shard {number} is damaged")
        return found.reshape(shape)
