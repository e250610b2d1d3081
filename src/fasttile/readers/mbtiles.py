"""MBTiles of pictures, ours or others': a square of tiles in an SQLite database.

Written after the MBTiles specification 1.3; its rows count from the bottom.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import SourceError
from ..geometry import Tile
from ..layouts.xyz import Xyz
from .base import PyramidReader, Stored
from .file import LARGEST
from .tileset import XyzTiles, tileset_layout

_ENDINGS = {"jpg": "jpg", "jpeg": "jpg", "png": "png", "webp": "webp"}
_MOST_ZOOM = 31
_STEPS = 50_000_000
"""What the database may compute to find one tile; a view in it may be anything."""


class MbtilesReader(PyramidReader):
    """Tiles in an MBTiles file.

    Args:
        path: Where it lies.

    Raises:
        SourceError: It is none, damaged, or not of pictures.
    """

    layout: Xyz
    missing_allowed = True

    def __init__(self, path: Path) -> None:
        self._place = path
        self._lock = threading.Lock()
        try:
            uri = f"file:{quote(str(path.absolute()))}?mode=ro"
            self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        except sqlite3.Error as error:
            raise SourceError(f"{path} cannot be opened: {error}") from error
        try:
            self._database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST)
            self._query("PRAGMA trusted_schema = OFF")
            said = self._metadata()
            if said.get("format") == "pbf":
                raise SourceError(f"{path} holds vector tiles, not pictures")
            own = _own(said)
            zooms = (_zooms_of(said) if own is not None else None) or self._zooms()
            extension = _ENDINGS.get(said.get("format", ""))
            tiles = XyzTiles(path, *zooms, extension, self._any_tile)
            super().__init__(path, tileset_layout(tiles, own), "XYZ in MBTiles")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _tile(self, tile: Tile) -> bytes | None:
        zoom, col, row = self.layout.address_from_below(tile)
        found = self._query(
            "SELECT tile_data FROM tiles"
            " WHERE zoom_level = ? AND tile_column = ? AND tile_row = ? LIMIT 1",
            (zoom, col, row),
        )
        return self._data(found)

    def _stored(self, level: int) -> Stored:
        (count, size), *_ = self._query(
            "SELECT count(*), coalesce(sum(length(tile_data)), 0) FROM tiles WHERE zoom_level = ?",
            (level - self.layout.base,),
            bounded=False,
        )
        return Stored(int(count), int(size))

    def _any_tile(self) -> bytes | None:
        return self._data(self._query("SELECT tile_data FROM tiles LIMIT 1"))

    def _data(self, found: list[Any]) -> bytes | None:
        if not found:
            return None
        ((data,),) = found
        if not isinstance(data, bytes):
            raise SourceError(f"{self._place} is damaged: a tile is no data")
        return data

    def _metadata(self) -> dict[str, str]:
        found = self._query("SELECT name, value FROM metadata LIMIT 1000")
        return {str(name): str(value) for name, value in found}

    def _zooms(self) -> tuple[int, int]:
        """Asked of the tiles, for the metadata may tell of zooms that a viewer is to make up."""
        # One by one: for both together SQLite would look at all tiles.
        ((low,),) = self._query("SELECT min(zoom_level) FROM tiles", bounded=False)
        ((high,),) = self._query("SELECT max(zoom_level) FROM tiles", bounded=False)
        if low is None:
            raise SourceError(f"{self._place} holds no tiles")
        if not (isinstance(low, int) and isinstance(high, int) and 0 <= low <= high <= _MOST_ZOOM):
            raise SourceError(f"{self._place} is damaged: zooms {low} to {high}")
        return low, high

    def _query(self, text: str, values: tuple[int, ...] = (), *, bounded: bool = True) -> list[Any]:
        """The rows that a question gives."""
        with self._lock:
            try:
                self._database.set_progress_handler(_enough if bounded else None, _STEPS)
                return self._database.execute(text, values).fetchall()
            except (sqlite3.Error, OverflowError) as error:
                raise SourceError(f"{self._place} cannot be read: {error}") from error


def _enough() -> bool:
    """SQLite gives up if this says so."""
    return True


def _zooms_of(said: dict[str, str]) -> tuple[int, int] | None:
    """The zooms that the metadata tell of; there may be no tiles in them."""
    try:
        return int(said["minzoom"]), int(said["maxzoom"])
    except (KeyError, ValueError):
        return None


def _own(said: dict[str, str]) -> Any:
    """What fasttile says of the picture: in a row of its own, or in the specification's "json"."""
    for key in ("fasttile", "json"):
        try:
            found = json.loads(said.get(key, "null"))
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            own = found.get("fasttile", found)
            if isinstance(own, dict) and "canvas" in own:
                return own
    return None
