"""Deep Zoom arithmetic and file names for the peers and the comparison.

Written without fasttile on purpose: a fault in fasttile's own geometry must not hide behind a
check that shares it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

NAMESPACE = "http://schemas.microsoft.com/deepzoom/2008"


class Tile(NamedTuple):
    """The address of a tile; level 0 is 1×1."""

    level: int
    col: int
    row: int


class Box(NamedTuple):
    """The pixels of a tile in its level, overlap included: left to right-1, top to bottom-1."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Pyramid:
    """An image's size in pixels, and how it is cut."""

    width: int
    height: int
    tile_size: int
    overlap: int

    @property
    def last_level(self) -> int:
        """The number of the level at full size."""
        return (max(self.width, self.height) - 1).bit_length()

    def level_size(self, level: int) -> tuple[int, int]:
        """Width and height of a level in pixels."""
        halvings = self.last_level - level
        return -(-self.width >> halvings), -(-self.height >> halvings)

    def tiles(self, level: int) -> Iterator[tuple[Tile, Box]]:
        """The tiles of a level, line by line."""
        width, height = self.level_size(level)
        for row in range(-(-height // self.tile_size)):
            for col in range(-(-width // self.tile_size)):
                left, right = self._span(col, width)
                top, bottom = self._span(row, height)
                yield Tile(level, col, row), Box(left, top, right, bottom)

    def all_tiles(self) -> Iterator[tuple[Tile, Box]]:
        """The tiles of all levels, from 1×1 to full size."""
        for level in range(self.last_level + 1):
            yield from self.tiles(level)

    def _span(self, index: int, side: int) -> tuple[int, int]:
        start = index * self.tile_size
        return max(0, start - self.overlap), min(side, start + self.tile_size + self.overlap)


@dataclass(frozen=True)
class Job:
    """What every program here is asked to do; `output` is the descriptor's path, NAME.dzi."""

    input: Path
    output: Path
    tile_size: int = 254
    overlap: int = 1
    format: str = "jpeg"
    quality: int = 75

    @property
    def extension(self) -> str:
        """The tiles' file ending without a dot, also the descriptor's Format."""
        return "jpg" if self.format == "jpeg" else self.format

    @property
    def has_quality(self) -> bool:
        """True if the quality is that of the format."""
        return self.format in ("jpeg", "avif")

    def pyramid(self, width: int, height: int) -> Pyramid:
        """The pyramid of an image of this size."""
        return Pyramid(width, height, self.tile_size, self.overlap)

    def path(self, tile: Tile) -> Path:
        """Where a tile lives."""
        return tile_path(self.output, tile, self.extension)

    def arguments(self) -> list[str]:
        """The options as words for a command line, `fasttile cut`'s too."""
        sizes = ["--tile-size", str(self.tile_size), "--overlap", str(self.overlap)]
        quality = ["--quality", str(self.quality)] if self.has_quality else []
        return [*sizes, "--format", self.format, *quality]

    def write_descriptor(self, width: int, height: int) -> None:
        """Write NAME.dzi."""
        self.output.write_text(
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<Image xmlns="{NAMESPACE}" Format="{self.extension}" Overlap="{self.overlap}" '
            f'TileSize="{self.tile_size}"><Size Width="{width}" Height="{height}"/></Image>\n',
            encoding="utf-8",
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that every program here has; their names are fields of `Job`."""
    parser.add_argument("--tile-size", type=int, default=Job.tile_size)
    parser.add_argument("--overlap", type=int, default=Job.overlap)
    parser.add_argument("--format", choices=("jpeg", "png", "avif"), default=Job.format)
    parser.add_argument("--quality", type=int, default=Job.quality, help="of JPEG and AVIF")


def job_from_command_line(description: str | None) -> Job:
    """The job of a program that is called `PROGRAM INPUT OUTPUT.dzi [options]`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path, help="the descriptor, NAME.dzi")
    add_options(parser)
    return Job(**vars(parser.parse_args()))


def tile_folder(descriptor: Path) -> Path:
    """The folder of an image's tiles."""
    return descriptor.with_name(f"{descriptor.stem}_files")


def tile_path(descriptor: Path, tile: Tile, extension: str) -> Path:
    """Where a tile of an image lives."""
    return tile_folder(descriptor) / str(tile.level) / f"{tile.col}_{tile.row}.{extension}"


def read_descriptor(path: Path) -> tuple[Pyramid, str]:
    """What a descriptor announces: the pyramid, and the tiles' file ending."""
    image = ElementTree.parse(path).getroot()
    size = image.find(f"{{{NAMESPACE}}}Size")
    if size is None:
        raise ValueError(f"{path}: no Size in the descriptor")
    numbers = (size.get("Width"), size.get("Height"), image.get("TileSize"), image.get("Overlap"))
    pyramid = Pyramid(*(int(number or "") for number in numbers))
    return pyramid, image.get("Format") or ""
