"""Tiles of a result that somebody else has claimed and will publish: files, and nothing more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..geometry import Tile
from ..layouts.base import Layout
from .oserrors import refusal
from .tilefiles import TileFiles


class TileFolder:
    """Writes tiles below a folder; what is there already is replaced.

    Args:
        layout: Which files a tile is written to.
        folder: Where the layout's root lies.
    """

    def __init__(self, layout: Layout, folder: Path) -> None:
        self._layout = layout
        self._folder = str(folder)
        self._tiles = TileFiles(self._folder, layout.root)

    def put(self, tile: Tile, data: bytes) -> None:
        """Write one tile to its file, or its files.

        Raises:
            TargetError: It cannot be written.
        """
        self.add(self._layout.paths(tile), data)

    def add(self, paths: Sequence[str], data: bytes) -> None:
        """Write a file under all these paths.

        Raises:
            TargetError: It cannot be written.
        """
        for relative in paths:
            try:
                self._tiles.write(relative, data, replace=True)
            except OSError as error:
                raise refusal("write", f"{self._folder}/{relative}", error) from error

    def finish(self) -> None:
        """All is written."""

    def abort(self) -> None:
        """Leave all as it is: it belongs to somebody else."""
