"""Results that are spoiled on purpose, and what lies on the disk."""

from __future__ import annotations

import random
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import tifffile

from fasttile.readers import open_pyramid
from fasttile.readers.pmtiles import PmtilesReader, _entry, tile_id

Tree = dict[str, bytes]


def tree(folder: Path) -> Tree:
    """All files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def differing(before: Tree, after: Tree) -> set[str]:
    """The files that are not what they were, or not there, or new."""
    return {name for name in before | after if before.get(name) != after.get(name)}


def cut_short(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(1, len(data))]


def emptied(data: bytes, chance: random.Random) -> bytes:
    return b""


def lengthened(data: bytes, chance: random.Random) -> bytes:
    return data + b"more"


def flipped(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


SPOILT: list[Callable[[bytes, random.Random], bytes]] = [cut_short, emptied, lengthened, flipped]


def flip_at(path: Path, place: int) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 0x55
    path.write_bytes(data)


def pmtiles_place(path: Path, zoom: int, col: int, row: int) -> tuple[int, int]:
    """Where a tile lies in a PMTiles file, and how long it is."""
    with open_pyramid(path) as reader:
        assert isinstance(reader, PmtilesReader)
        header = reader._header
        found = _entry(reader._directory(header.root, header.root_size), tile_id(zoom, col, row))
        assert found is not None
        return header.data + found[2], found[1]


def zip_place(path: Path, name: str) -> tuple[int, int]:
    """Where a file lies in a ZIP, and how long it is."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
        return info.header_offset + 30 + len(name.encode()), info.file_size


def tiff_place(path: Path, page: int, number: int) -> tuple[int, int]:
    """Where a tile lies in a TIFF, and how long it is."""
    with tifffile.TiffFile(path) as file:
        found = file.pages[page]
        assert isinstance(found, tifffile.TiffPage)
        return found.dataoffsets[number], found.databytecounts[number]


def in_database(path: Path, statement: str, *values: object) -> None:
    """Change a database."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(statement, values)
