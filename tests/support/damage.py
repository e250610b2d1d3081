"""Results that are spoiled on purpose, and what lies on the disk."""

from __future__ import annotations

import random
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import tifffile

from fasttile.formats.pmtiles import tile_id
from fasttile.readers import open_result
from fasttile.readers.tilesets import PmtilesReader

FileTree = dict[str, bytes]


def file_tree(folder: Path) -> FileTree:
    """All files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def changed_files(before: FileTree, after: FileTree) -> set[str]:
    """The files that are not what they were, or not there, or new."""
    return {name for name in before | after if before.get(name) != after.get(name)}


def truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(1, len(data))]


def empty(data: bytes, chance: random.Random) -> bytes:
    return b""


def lengthen(data: bytes, chance: random.Random) -> bytes:
    return data + b"more"


def flip_bit(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


DAMAGE_FUNCTIONS: list[Callable[[bytes, random.Random], bytes]] = [
    truncate,
    empty,
    lengthen,
    flip_bit,
]


def flip_byte(path: Path, offset: int) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x55
    path.write_bytes(data)


def pmtiles_tile_span(path: Path, zoom: int, col: int, row: int) -> tuple[int, int]:
    """Where a tile lies in a PMTiles file, and how long it is."""
    with open_result(path) as reader:
        assert isinstance(reader, PmtilesReader)
        header = reader._header
        root = reader._cached_directory(header.root_offset, header.root_size)
        found = root.find(tile_id(zoom, col, row))
        assert found is not None
        return header.data_offset + found[2], found[1]


def zip_entry_span(path: Path, name: str) -> tuple[int, int]:
    """Where a file lies in a ZIP, and how long it is."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
        return info.header_offset + 30 + len(name.encode()), info.file_size


def tiff_tile_span(path: Path, page: int, number: int) -> tuple[int, int]:
    """Where a tile lies in a TIFF, and how long it is."""
    with tifffile.TiffFile(path) as file:
        found = file.pages[page]
        assert isinstance(found, tifffile.TiffPage)
        return found.dataoffsets[number], found.databytecounts[number]


def execute_sql(path: Path, statement: str, *values: object) -> None:
    """Change a database."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(statement, values)
