"""A package of strangers that adds a source, a layout, a codec and a sink to fasttile.

The source reads grey images of hexadecimal digits, a row in each line: `00 7f ff`.
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import fasttile
from fasttile.abc import Codec, Layout, LevelStats, Metadata, ResultReader, Source, TileMetadata


class HexSource(Source):
    """An image of hexadecimal digits, of which each row is read when it is requested."""

    random_access = True

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._rows = path.read_text("ascii").splitlines()
        self.height, self.width = len(self._rows), len(self._rows[0].split())
        self.bands, self.dtype = 1, np.dtype(np.uint8)
        self.metadata = Metadata("hexadecimal")

    def rows(self, y0: int, y1: int) -> NDArray[Any]:
        """Rows y0 to y1-1."""
        rows = [list(bytes.fromhex(row)) for row in self._rows[y0:y1]]
        return np.array(rows, np.uint8)[..., np.newaxis]


def open_hex(source: object, options: fasttile.ReadOptions) -> Source | None:
    """Open a file of hexadecimal digits; no other objects."""
    return HexSource(Path(source)) if isinstance(source, str | Path) else None


@dataclass(frozen=True)
class Flat(Layout):
    """All tiles in one folder, `level-col-row.ext`, and a `flat.txt` beside them."""

    type_name = "flat"
    title = "Flat"
    descriptor_name = "flat.txt"

    separator: str = "-"

    def paths(self, tile: fasttile.Tile) -> tuple[str, ...]:
        """The path of a tile."""
        name = self.separator.join(map(str, tile))
        return (f"{self.root}/{name}.{self.extension}",)

    def _parse_tile_path(self, name: str) -> fasttile.Tile | None:
        parts = name.rpartition(".")[0].split(self.separator)
        if len(parts) != 3 or not all(part.isdecimal() for part in parts):
            return None
        return fasttile.Tile(*map(int, parts))

    def descriptors(self) -> dict[str, bytes]:
        """Size, tile size, extension and separator, a line each."""
        width, height = self.pyramid.size
        values = (width, height, self.pyramid.tile_size, self.extension, self.separator)
        return {f"{self.root}/flat.txt": "\n".join(map(str, values)).encode()}

    @classmethod
    def from_descriptor(cls, name: str, text: str) -> Layout:
        """The layout of a `flat.txt`."""
        width, height, tile_size, extension, separator = text.split("\n")
        return cls.from_size(
            name, int(width), int(height), extension, tile_size=int(tile_size), separator=separator
        )


@dataclass(frozen=True)
class Bmp(Codec):
    """Tiles of Windows' bitmaps."""

    name = "bmp"
    extension = "bmp"

    scale: float = 1.0

    def encode(self, pixels: NDArray[Any], metadata: TileMetadata) -> bytes:
        """Encode a tile by Pillow."""
        scaled = np.minimum(pixels * self.scale, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(scaled if pixels.shape[2] == 3 else scaled[..., 0]).save(file, "bmp")
        return file.getvalue()


class TextSink:
    """One file of JSON with all tiles in base 64, written at the end."""

    def __init__(self, path: Path, layout: Layout, *, overwrite: bool) -> None:
        self._path = path
        self._layout = layout
        self._tiles: dict[str, str] = {}

    def put(self, tile: fasttile.Tile, data: bytes) -> None:
        """Keep a tile."""
        self._tiles["/".join(map(str, tile))] = base64.b64encode(data).decode()

    def finish(self) -> None:
        """Write the file."""
        pyramid = self._layout.pyramid
        width, height = pyramid.size
        levels = f"{pyramid.stored_range[0]}-{pyramid.stored_range[-1]}"
        about = (width, height, self._layout.extension, pyramid.tile_size, pyramid.overlap, levels)
        work = self._path.with_suffix(".part")
        work.write_text(json.dumps({"about": about, "tiles": self._tiles}))
        work.replace(self._path)

    def abort(self) -> None:
        """Nothing is written before the end."""

    @staticmethod
    def open_result(path: Path) -> ResultReader:
        """Open a file of this class."""
        return TextReader(path)


class TextReader(ResultReader):
    """Reader of the files of `TextSink`."""

    container = "plugin"

    def __init__(self, path: Path) -> None:
        content = json.loads(path.read_text())
        width, height, extension, tile_size, overlap, levels = content["about"]
        options = {"tile_size": tile_size, "overlap": overlap, "levels": levels}
        layout = fasttile.DeepZoom().bind(path.stem, width, height, extension, **options)
        super().__init__(path, layout, "tiles as text")
        self._tiles: dict[str, str] = content["tiles"]

    def _read_tile(self, tile: fasttile.Tile) -> bytes | None:
        text = self._tiles.get("/".join(map(str, tile)))
        return None if text is None else base64.b64decode(text)

    def _read_level_stats(self, level: int) -> LevelStats:
        sizes = [len(text) for name, text in self._tiles.items() if name.startswith(f"{level}/")]
        return LevelStats(len(sizes), sum(sizes))
