"""Reads changed results one after the other in a process of its own, with limits for each.

    python tests/support/reader_fuzzing.py KIND COUNT SEED

Prints one line for each result that ends in anything but a description or an error of fasttile, or
that takes too much time or memory; and at the end the number of good and of bad results.
"""

from __future__ import annotations

import json
import random
import re
import resource
import signal
import sqlite3
import struct
import sys
import tempfile
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import fasttile
from fasttile import collection
from fasttile.cli.info import describe
from fasttile.readers import open_result
from fasttile.serve.content import open_content
from fasttile.verify import verify

if __name__ == "__main__":  # its folder is the first in the path
    sys.path[0] = str(Path(__file__).parents[1])

from support.fuzzing import damage, peak_megabytes

MAX_CPU_SECONDS, MAX_MEGABYTES = 2, 300
MAX_ADDRESS_SPACE = 6 * 2**30
MAX_VERIFIED_TILES = 1000

_Y, _X = np.mgrid[0:150, 0:230]
_IMAGE = np.dstack([_X, _Y, _X ^ _Y]).astype(np.uint8)
_SMALL: dict[str, Any] = {"tile_size": 64}

RESULTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dzi": ("a.dzi", "a.dzi", _SMALL),
    "dzi json": ("a.dzi", "a.json", {**_SMALL, "layout": "dzi:json"}),
    "dzi script": ("a.dzi", "a.js", {**_SMALL, "layout": "dzi:jsonp"}),
    "szi": ("a.szi", "a.szi", _SMALL),
    "zip": ("a.zip", "a.zip", {**_SMALL, "layout": "xyz"}),
    "zoomify": ("a", "a/ImageProperties.xml", {**_SMALL, "layout": "zoomify"}),
    "tms": ("a", "a/tilemapresource.xml", {**_SMALL, "layout": "tms"}),
    "xyz": ("a", "a/tiles.json", {**_SMALL, "layout": "xyz"}),
    "tilecache": ("a", "a/tiles.json", {**_SMALL, "layout": "tilecache"}),
    "gsiv": ("a", "a/tiles.json", {**_SMALL, "layout": "gsiv"}),
    "iiif2": ("a", "a/info.json", {**_SMALL, "layout": "iiif2:id=https://example.org/a"}),
    "iiif3": ("a", "a/info.json", {**_SMALL, "layout": "iiif3:id=https://example.org/a"}),
    "pmtiles": ("a.pmtiles", "a.pmtiles", _SMALL),
    "mbtiles": ("a.mbtiles", "a.mbtiles", _SMALL),
    "tiff": ("a.tif", "a.tif", _SMALL),
    "tiff deflate": ("a.tif", "a.tif", {**_SMALL, "format": "deflate"}),
    "tiff cog": ("a.tif", "a.tif", {**_SMALL, "layout": "tiff:cog"}),
    "tiff ome": ("a.tif", "a.tif", {**_SMALL, "layout": "tiff:ome"}),
    "dzc": ("wall.dzc", "wall.dzc", {}),
}
"""Path of each kind of result, the file of it that is changed, and the options of the cut."""

Change = Callable[[bytes, random.Random], bytes]

_NUMBERS = (
    *(b"0", b"-1", b"1", b"2", b"63", b"64", b"255", b"65536", b"1e999", b"NaN", b"-Infinity"),
    *(
        b"1.5",
        b"4294967296",
        b"9223372036854775808",
        b"1099511627776",
        b"9" * 400,
        b"1" + b"0" * 30,
    ),
    *(b"", b"null", b"true", b'"x"', b"[]", b"{}", b"[[]]", b'"\\ud800"', b"\xd9\xa3", b"0x10"),
)
_PIECES = (
    *(b"<!DOCTYPE x>", b"<!--", b"-->", b"<a/>", b"</a>", b"&amp;", b"&x;", b"<![CDATA[", b"]]>"),
    *(b'"', b"'", b"{", b"}", b"[", b"]", b",", b":", b"\0", b"\xff", b"\xfe\xff", b"../", b"\r\n"),
    *(b"[" * 3000, b"{" * 3000, b"<b>" * 3000, b'<?xml version="1.0" encoding="punycode"?>'),
)


def change_text(data: bytes, choice: random.Random) -> bytes:
    """A descriptor with other numbers, words and marks."""
    if choice.random() < 0.3 and b"<" not in data:
        data = re.sub(rb'"([0-9]+)"', rb"\1", data)  # JSON may have texts or numbers
    for _ in range(choice.choice([1, 1, 2, 4])):
        kind = choice.randrange(6)
        if kind <= 2:
            found = list(re.finditer(rb"-?[0-9.]+" if kind else rb"[A-Za-z]+", data))
            if found:
                one = choice.choice(found)
                words = [other[0] for other in found]
                new = choice.choice(_NUMBERS) if kind else choice.choice([*words, b"", b"x"])
                data = data[: one.start()] + new + data[one.end() :]
        elif kind == 3:
            at = choice.randrange(len(data) + 1)
            data = data[:at] + choice.choice(_PIECES) + data[at:]
        elif kind == 4:
            at, end = sorted(choice.randrange(len(data) + 1) for _ in range(2))
            data = data[:at] + choice.choice([b"", data[at:end] * 2]) + data[end:]
        else:
            data = damage(data, choice)
    return data


def change_zip(data: bytes, choice: random.Random) -> bytes:
    """A ZIP with a damaged directory, or with changed files."""
    if choice.random() < 0.5:
        return damage(data, choice)
    with tempfile.TemporaryFile() as before, tempfile.TemporaryFile() as after:
        before.write(data)
        with zipfile.ZipFile(before) as old, zipfile.ZipFile(after, "w") as new:
            for info in old.infolist():
                content = old.read(info)
                if choice.random() < (0.5 if info.filename.endswith(("dzi", "json")) else 0.02):
                    content = change_text(content, choice)
                name = info.filename
                if choice.random() < 0.02:
                    name = change_text(name.encode(), choice).decode(errors="replace")
                if name and "\0" not in name:
                    method = choice.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
                    new.writestr(name, content, method)
        after.seek(0)
        return after.read()


def change_archive(data: bytes, choice: random.Random) -> bytes:
    """A PMTiles file with changes in its header, or in what its directories inflate to."""
    if choice.random() < 0.4:
        return damage(data, choice)
    numbers = list(struct.unpack_from("<8Q", data, 8))
    parts = [data[numbers[n] : numbers[n] + numbers[n + 1]] for n in (0, 2, 4, 6)]
    for index in (0, 1, 2):
        if parts[index] and choice.random() < 0.6:
            inner = bytearray(zlib.decompress(parts[index], 31))
            if index == 1:
                inner = bytearray(change_text(bytes(inner), choice))
            for _ in range(choice.choice([1, 2, 5]) if inner else 0):
                at = choice.randrange(len(inner))
                inner[at : at + choice.randrange(3)] = choice.choice(
                    [b"\0", b"\1", b"\x7f", b"\x80\x01", b"\xff" * 9 + b"\1", b"\xff\xff\xff\x7f"]
                )
            packer = zlib.compressobj(wbits=31)
            parts[index] = packer.compress(inner) + packer.flush()
    header, position = bytearray(data[:127]), 127
    for index, part in enumerate(parts):
        struct.pack_into("<2Q", header, 8 + 16 * index, position, len(part))
        position += len(part)
    if choice.random() < 0.3:
        struct.pack_into("<Q", header, 8 + 8 * choice.randrange(11), choice.choice([0, 1, 2**62]))
    return bytes(header) + b"".join(parts)


_STATEMENTS = (
    "UPDATE tiles SET {column} = {value}",
    "UPDATE tiles SET {column} = {value} WHERE rowid % 3 = 1",
    "UPDATE metadata SET value = {value} WHERE rowid % 3 = {digit}",
    "UPDATE metadata SET name = {value} WHERE rowid % 3 = {digit}",
    "INSERT INTO metadata VALUES ({value}, {value})",
    "DELETE FROM tiles WHERE rowid % 3 = {digit}",
    "DELETE FROM metadata WHERE rowid % 3 = {digit}",
    "ALTER TABLE tiles RENAME TO {name}",
    "CREATE VIEW {name} AS SELECT * FROM tiles",
    "CREATE TABLE {name} (zoom_level, tile_column, tile_row, tile_id, tile_data)",
    "INSERT INTO {name} SELECT * FROM tiles",
    "DROP INDEX IF EXISTS tile_index",
    "PRAGMA journal_mode = WAL",
    "PRAGMA user_version = 5",
)
_VALUES = (
    *("NULL", "0", "-1", "7", "31", "64", "9223372036854775807", "1e999", "'x'", "x''", "x'ffd8'"),
    *("'[[[['", "'null'", '\'{"fasttile":{"canvas":1e999}}\'', "'png'", "'pbf'", "zeroblob(99999)"),
)


def change_database(data: bytes, choice: random.Random) -> bytes:
    """An SQLite file with changed bytes or rows."""
    if choice.random() < 0.5:
        return damage(data, choice)
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.deserialize(data)
    for _ in range(choice.choice([1, 2, 4])):
        statement = choice.choice(_STATEMENTS).format(
            column=choice.choice(["zoom_level", "tile_column", "tile_row", "tile_data"]),
            value=choice.choice(_VALUES),
            digit=choice.randrange(3),
            name=choice.choice(["tiles", "map", "images", "metadata", "other"]),
        )
        try:
            database.execute(statement)
        except sqlite3.Error:
            continue
    changed = bytes(database.serialize())
    database.close()
    return changed


CHANGES: dict[str, Change] = {
    "szi": change_zip,
    "zip": change_zip,
    "pmtiles": change_archive,
    "mbtiles": change_database,
    "tiff": damage,
    "tiff deflate": damage,
    "tiff cog": damage,
    "tiff ome": damage,
}


def make_result(kind: str, folder: Path) -> None:
    """Write the unchanged result of a kind."""
    name, _, options = RESULTS[kind]
    if kind == "dzc":
        for number in range(3):
            fasttile.cut(_IMAGE[number:], folder / f"{number}.dzi")
        collection.create(folder / name, sorted(folder.glob("*.dzi")), max_level=5, tile_size=32)
    else:
        fasttile.cut(_IMAGE, folder / name, **options)


def read_result(path: Path, choice: random.Random) -> bool:
    """Ask for everything that can be asked of a result; return False after an error."""
    asked = [_describe, _read_tiles, _verify, _view]
    if path.suffix == ".dzc":
        asked = [collection.read, _view]
    choice.shuffle(asked)
    is_good = True
    for ask in asked:
        try:
            ask(path)
        except fasttile.FasttileError as error:
            is_good = False
            if "\n" in str(error) or path.stem not in str(error):
                raise AssertionError(f"not one line with the name: {error!r}") from error
    return is_good


def _describe(path: Path) -> None:
    for _, value in describe(str(path)):
        assert value.isprintable(), value


def _read_tiles(path: Path) -> None:
    with open_result(path) as reader:
        for level in reader.pyramid.stored_levels:
            for tile in islice(level.tiles(), 3):
                reader.tile(*tile)
                reader.pixels(*tile)


def _verify(path: Path) -> None:
    with open_result(path) as reader:
        count = reader.pyramid.tile_count
    if count <= MAX_VERIFIED_TILES:
        verify(path, deep=True)


def _view(path: Path) -> None:
    with open_content(path) as content:
        assert content.page
        for level in range(12):
            for ask in (content.tile, content.thumbnail, lambda *at: content.item_tile(0, *at)):
                try:
                    ask(level, 0, 0)
                except IndexError:
                    continue


class LimitError(BaseException):
    """A result took too long; no `except Exception` catches it."""


def _set_limits() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_SPACE, MAX_ADDRESS_SPACE))

    def stop(number: int, frame: object) -> None:
        raise LimitError(f"more than {MAX_CPU_SECONDS} s of the processor")

    signal.signal(signal.SIGPROF, stop)


def main() -> None:
    """Read `count` changed results of a kind."""
    kind, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")
    good = bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_result(kind, folder)
        path, changed = folder / RESULTS[kind][0], folder / RESULTS[kind][1]
        if kind.startswith("dzi "):
            path = changed
        original = changed.read_bytes()
        kept = {one: one.read_bytes() for one in folder.rglob("*") if one.is_file()}
        assert read_result(path, random.Random(0)), "the unchanged result is good"
        _set_limits()
        for number in range(count):
            choice = random.Random(f"{kind} {seed} {number}")
            data = CHANGES.get(kind, change_text)(original, choice)
            changed.write_bytes(data)
            Path("/proc/self/clear_refs").write_text("5")  # reset the peak
            signal.setitimer(signal.ITIMER_PROF, MAX_CPU_SECONDS)
            try:
                is_good = read_result(path, choice)
                good, bad = good + is_good, bad + (not is_good)
                if (peak := peak_megabytes()) > MAX_MEGABYTES:
                    print(f"{kind} {seed} {number}: {peak} MB", flush=True)
            except BaseException:
                text = traceback.format_exc().replace("\n", " | ")
                print(f"{kind} {seed} {number}: {text}", flush=True)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            if {one for one in folder.rglob("*") if one.is_file()} != kept.keys():
                print(f"{kind} {seed} {number}: files appeared or vanished", flush=True)
                break
    print(json.dumps({"good": good, "bad": bad}))


if __name__ == "__main__":
    main()
