"""Results under the servers' folder: which there are, and how to spoil one."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from lab_image import position_image
from lab_servers import StaticServer
from PIL import Image

import fasttile
from support.cut_cases import any_format_in_iiif2


@dataclass(frozen=True)
class CutSpec:
    """A result to look at.

    Args:
        layout: As fasttile calls it, with its parameters; "pmtiles" is XYZ in such a file.
        width, height: The image's size.
        tile_size, overlap: As fasttile takes them.
    """

    layout: str
    width: int
    height: int
    tile_size: int | None = None
    overlap: int | None = None

    @property
    def kind(self) -> str:
        """The layout without its parameters."""
        return self.layout.partition(":")[0]

    @property
    def tile_step(self) -> int:
        """The tiles' side without overlap."""
        return self.tile_size or {"dzi": 254, "iiif2": 512, "iiif3": 512}.get(self.kind, 256)

    def __str__(self) -> str:
        tiles = "" if self.tile_size is None else f"-{self.tile_size}"
        overlap = "" if self.overlap is None else f"+{self.overlap}"
        return f"{self.layout}-{self.width}x{self.height}{tiles}{overlap}"


@dataclass
class ResultCache:
    """Results, each cut once.

    Args:
        root: The servers' folder.
    """

    root: Path
    _paths: dict[tuple[CutSpec, str], Path] = field(default_factory=dict)

    def result_path(self, cut: CutSpec, server: StaticServer) -> Path:
        """Where a result is that is to be seen at a server."""
        # Only IIIF's say at which server they are.
        key = (cut, server.origin if cut.kind.startswith("iiif") else "")
        if key not in self._paths:
            self._paths[key] = self._cut_result(cut, server)
        return self._paths[key]

    def copy_result(self, cut: CutSpec, server: StaticServer) -> Path:
        """A copy of a folder of tiles, to be changed."""
        original = self.result_path(cut, server)
        folder = self._make_folder()
        shutil.copytree(original.parent, folder, dirs_exist_ok=True)
        return folder / original.name

    def result_url(self, place: Path, server: StaticServer) -> str:
        """A result's address at a server."""
        return f"{server.origin}/{place.relative_to(self.root).as_posix()}"

    def _make_folder(self) -> Path:
        folder = self.root / f"result{len(list(self.root.glob('result*')))}"
        folder.mkdir()
        return folder

    def _cut_result(self, cut: CutSpec, server: StaticServer) -> Path:
        ending = {"dzi": ".dzi", "pmtiles": ".pmtiles"}.get(cut.kind, "")
        place = self._make_folder() / f"map{ending}"
        layout: str | None = cut.layout
        if cut.kind == "pmtiles":
            layout = None
        elif cut.kind.startswith("iiif"):
            kind, _, parameters = cut.layout.partition(":")
            layout = f"{kind}:id={self.result_url(place, server)},{parameters}"
        with any_format_in_iiif2():
            fasttile.cut(
                position_image(cut.width, cut.height),
                place,
                layout=layout,
                format="png:compress_level=1",
                tile_size=cut.tile_size,
                overlap=cut.overlap,
                shrink="nearest",
            )
        return place


def top_tiles(place: Path) -> dict[tuple[int, int], Path]:
    """The tiles of the largest level by column and row, of any layout that is a folder of PNGs."""
    folder = place.with_name(f"{place.stem}_files") if place.suffix == ".dzi" else place
    found: dict[tuple[int, int, int], Path] = {}
    for tile in folder.rglob("*.png"):
        level, col, row = re.findall(r"\d+", tile.relative_to(folder).as_posix())[-3:]
        found[int(level), int(col), int(row)] = tile
    top = max(level for level, _, _ in found)
    return {(col, row): tile for (level, col, row), tile in found.items() if level == top}


def swap_tiles(one: Path, other: Path) -> None:
    """Let two tiles change places."""
    aside = one.with_suffix(".aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def shift_tile(tile: Path) -> None:
    """Move what a tile shows one pixel to the right."""
    with Image.open(tile) as stored:
        pixels = np.asarray(stored)
    Image.fromarray(np.roll(pixels, 1, axis=1)).save(tile)
