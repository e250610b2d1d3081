"""XYZ tiles in an SQLite database: MBTiles 1.3, whose rows count from the bottom.

The format is for maps of the world, so the image is placed as if its square were one. Equal tiles
are stored each time; `.pmtiles` stores them once.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fasttile.errors import TargetError
from fasttile.geometry import Tile
from fasttile.layouts import RECORD_MEMBER
from fasttile.layouts import tilejson as tilesjson
from fasttile.layouts.xyz import Xyz
from fasttile.storage.writing import AtomicFile

INSERT_BATCH, INSERT_BATCH_BYTES = 256, 2**21
"""The numbers of tiles and of bytes that start an insert."""

_PRAGMAS = (
    # No other program sees the file, and an incomplete one is discarded.
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA page_size = 4096",
    "PRAGMA application_id = 0x4d504258",  # "MPBX", as the specification asks for
)

_SCHEMA = (
    "CREATE TABLE metadata (name text, value text)",
    "CREATE TABLE tiles (zoom_level integer, tile_column integer, tile_row integer, "
    "tile_data blob)",
)


class MbtilesSink:
    """Writes tiles into one MBTiles file.

    Args:
        layout: The zoom, column and row of each tile.
        target: The file's path.
        overwrite: Replace an existing result, only at the end.
        record: How the result is made, as JSON. Default: none.

    Raises:
        TargetError: A file exists that must not be replaced, another run works on this target, or
            its folder cannot be written.
    """

    def __init__(
        self, layout: Xyz, target: str | Path, *, overwrite: bool = False, record: bytes = b""
    ) -> None:
        self._layout = layout
        self._record = record
        self._pending_rows: list[tuple[int, int, int, bytes]] = []
        self._pending_bytes = 0
        self._database: sqlite3.Connection | None = None
        self._file = AtomicFile(target, overwrite=overwrite)
        try:
            with self._wrap_sqlite_errors():
                # The work folder is locked, so the file need not be: not all systems can.
                self._database = sqlite3.connect(
                    f"{self._file.new_path.as_uri()}?nolock=1",
                    uri=True,
                    check_same_thread=False,
                    isolation_level=None,
                )
                for statement in (*_PRAGMAS, *_SCHEMA, "BEGIN"):
                    self._database.execute(statement)
        except BaseException:
            self.abort()
            raise

    def put(self, tile: Tile, data: bytes) -> None:
        """Write one tile.

        Raises:
            TargetError: It cannot be written.
        """
        self._pending_rows.append((*self._layout.address_from_bottom(tile), data))
        self._pending_bytes += len(data)
        enough = (
            len(self._pending_rows) >= INSERT_BATCH or self._pending_bytes >= INSERT_BATCH_BYTES
        )
        if enough or self._database is None:
            self._flush()

    def finish(self) -> None:
        """Write the index and the metadata, and publish.

        Raises:
            TargetError: It cannot be written, or a file has appeared there meanwhile.
        """
        self._file.ensure_open()
        self._flush()
        with self._wrap_sqlite_errors():
            database = self._require_database()
            database.executemany("INSERT INTO metadata VALUES (?, ?)", self._metadata_rows())
            database.execute(
                "CREATE UNIQUE INDEX tile_index ON tiles (zoom_level, tile_column, tile_row)"
            )
            database.execute("COMMIT")
            database.close()
            self._database = None
        self._file.publish()

    def abort(self) -> None:
        """Discard the result; leave an older one untouched. Never raises."""
        database, self._database = self._database, None
        if database is not None:
            with suppress(sqlite3.Error):
                database.close()
        self._pending_rows.clear()
        self._file.abort()

    def _flush(self) -> None:
        with self._wrap_sqlite_errors():
            self._require_database().executemany(
                "INSERT INTO tiles VALUES (?, ?, ?, ?)", self._pending_rows
            )
        self._pending_rows.clear()
        self._pending_bytes = 0

    def _require_database(self) -> sqlite3.Connection:
        if self._database is None:
            raise ValueError("the sink has ended; it takes no more tiles")
        return self._database

    def _metadata_rows(self) -> Iterator[tuple[str, str]]:
        layout, pyramid = self._layout, self._layout.pyramid
        west, south, east, north = tilesjson.bounds(pyramid)
        lowest = pyramid.stored_range[0] - layout.base_level
        texts = tilesjson.text_members(layout)
        yield "name", texts["name"]
        # MBTiles 1.3 has names for JPEG, PNG and WebP, and media types for all others.
        yield "format", "image/avif" if layout.extension == "avif" else layout.extension
        yield "type", "baselayer"
        yield "version", "1"
        size = f"{pyramid.size[0]} × {pyramid.size[1]} pixels"
        yield "description", texts.get("description", size)
        if "attribution" in texts:
            yield "attribution", texts["attribution"]
        yield "minzoom", str(lowest)
        yield "maxzoom", str(pyramid.stored_range[-1] - layout.base_level)
        yield "bounds", f"{west:.7f},{south:.7f},{east:.7f},{north:.7f}"
        zoom = tilesjson.centre_zoom(self._layout)
        yield "center", f"{(west + east) / 2:.7f},{(south + north) / 2:.7f},{zoom}"
        yield "json", json.dumps({"fasttile": tilesjson.fasttile_member(layout)})
        if self._record:
            yield RECORD_MEMBER, self._record.decode()

    @contextmanager
    def _wrap_sqlite_errors(self) -> Iterator[None]:
        """What the database refused, in one line."""
        try:
            yield
        except sqlite3.Error as error:
            raise TargetError(f"cannot write {self._file.new_path}: {error}") from error
