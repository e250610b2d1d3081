"""Results made to fill memory, to last for ever, or to be believed: each ends with one line."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import sqlite3
import struct
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fasttile
from fasttile.collection import read
from fasttile.errors import SourceError
from fasttile.formats.documents import decode_document, parse_json, parse_xml
from fasttile.formats.images import decode_tile
from fasttile.readers import open_result, tilesets
from fasttile.storage.budget import BUDGET, Budget
from fasttile.verify import verify
from support.command import COMMAND
from support.measured import run_measured
from support.result_cases import encode_png

MAX_SECONDS, MAX_MEGABYTES = 30, 300
"""Limits of a run on a busy machine; without a budget, these runs take minutes to days."""

NAMESPACE = "http://schemas.microsoft.com/deepzoom/2008"
DZI = (
    f'<Image xmlns="{NAMESPACE}" Format="png" Overlap="0" TileSize="256">'
    '<Size Width="100" Height="100"/>{more}</Image>'
)
TILE = encode_png(np.zeros((256, 256, 3), np.uint8))

linux_only = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is measured as Linux shows it"
)


def assert_refused(path: Path, problem: str, *commands: list[str]) -> None:
    """Each command ends with one line, in little time and memory."""
    for command in commands or (["info"], ["verify"], ["view", "--no-browser"]):
        run = run_measured(*command, path)
        assert run.code == 1, (command, run)
        assert re.search(problem, run.error), (command, run.error)
        assert len(run.error.splitlines()) == 1
        assert run.seconds < MAX_SECONDS
        assert run.megabytes < MAX_MEGABYTES


# ---- descriptors -------------------------------------------------------------------------------


@pytest.mark.slow
@linux_only
@pytest.mark.parametrize(
    ("element", "count", "problem"),
    [
        ("<a/>", 10_000_000, "it has 40,000,.* bytes, more than 16,777,216"),
        ("<a/>", 3_000_000, "more than 524,288 tags"),
        ("<!---->", 2_000_000, "more than 524,288 tags"),
        ("<b>", 500_000, "cannot be read: .*mismatched tag"),
    ],
)
def test_a_small_archive_with_a_large_descriptor(
    element: str, count: int, problem: str, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "a.szi", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dzi", DZI.format(more=element * count))
    assert (tmp_path / "a.szi").stat().st_size < 100_000
    assert_refused(tmp_path / "a.szi", problem)


@linux_only
def test_a_descriptor_of_many_attributes(tmp_path: Path) -> None:
    attributes = "".join(f' a{n:x}=""' for n in range(1_100_000))
    (tmp_path / "a.dzi").write_text(DZI.format(more=f"<x{attributes}/>"))
    assert_refused(tmp_path / "a.dzi", "more than 1,048,576 attributes", ["info"])


ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
HOSTILE_XML = {
    "entities": f'<!DOCTYPE x [<!ENTITY e0 "ha">{ENTITIES}]><x>&e11;</x>',
    "an external entity": '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
    "a document type": "<!DOCTYPE x SYSTEM 'http://127.0.0.1:1/x.dtd'><x/>",
}


@pytest.mark.parametrize("text", HOSTILE_XML.values(), ids=HOSTILE_XML.keys())
@pytest.mark.parametrize(
    "name", ["a.dzi", "ImageProperties.xml", "tilemapresource.xml", "wall.dzc"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_is_not_read(text: str, name: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text.encode(encoding))
    with pytest.raises(SourceError, match="it has a document type, which no descriptor has"):
        read(tmp_path / name) if name.endswith("dzc") else open_result(tmp_path / name)


@pytest.mark.parametrize("encoding", ["punycode", "idna", "utf-7", "latin-1", "unicode_escape"])
@pytest.mark.parametrize("name", ["a.dzi", "wall.dzc"])
def test_other_encodings_are_refused_at_once(name: str, encoding: str, tmp_path: Path) -> None:
    # Python's decoder of punycode takes hours for these 3 MB.
    data = b"a" * 1_500_000 + b"-" + b"9" * 1_500_000
    (tmp_path / name).write_bytes(f'<?xml version="1.0" encoding="{encoding}"?>'.encode() + data)
    started = time.monotonic()
    with pytest.raises(SourceError, match=f"its encoding '{encoding}' is neither UTF-8 nor UTF-16"):
        read(tmp_path / name) if name.endswith("dzc") else open_result(tmp_path / name)
    assert time.monotonic() - started < MAX_SECONDS


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
def test_a_descriptor_in_utf_16(encoding: str, tmp_path: Path) -> None:
    fasttile.cut(np.zeros((60, 80, 3), np.uint8), tmp_path / "a.dzi")
    text = (tmp_path / "a.dzi").read_text().replace("UTF-8", "UTF-16")
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    (tmp_path / "a.dzi").write_bytes(mark + text.encode(encoding))
    with open_result(tmp_path / "a.dzi") as reader:
        assert reader.pyramid.size == (80, 60)


HOSTILE_NUMBERS = ["Infinity", "-Infinity", "NaN", "1e999", "-1e999", "9" * 5000, "1" + "0" * 30]
JSON_DZI = (
    '{"Image":{"Format":"jpg","Overlap":1,"TileSize":254,"Size":{"Width":NUMBER,"Height":1}}}'
)
JSON_DESCRIPTORS = {
    "a.json": JSON_DZI,
    "a.js": f"a({JSON_DZI})",
    "tiles.json": '{"minzoom":0,"maxzoom":NUMBER,"fasttile":{"layout":"xyz","canvas":256,'
    '"tile_size":256,"x":0,"y":0,"width":9,"height":9,"format":"png"}}',
    "info.json": '{"@context":"http://iiif.io/api/image/3/context.json","id":"https://x.org/a",'
    '"width":NUMBER,"height":9,"profile":"level0","tiles":[{"width":9,"scaleFactors":[1]}]}',
}


@pytest.mark.parametrize("number", HOSTILE_NUMBERS, ids=lambda text: text[:10])
@pytest.mark.parametrize("name", JSON_DESCRIPTORS)
def test_numbers_out_of_range(name: str, number: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(JSON_DESCRIPTORS[name].replace("NUMBER", number))
    with pytest.raises(SourceError, match=r"the number [-\w]+ is out of range"):
        open_result(tmp_path / name)


@pytest.mark.parametrize("name", JSON_DESCRIPTORS)
@pytest.mark.parametrize("deep", ["[" * 100_000, '{"a":' * 100_000])
def test_values_nested_too_deeply(name: str, deep: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(JSON_DESCRIPTORS[name].replace("NUMBER", f"{deep}}}"))
    with pytest.raises(SourceError, match="nested too deeply") as caught:
        open_result(tmp_path / name)
    assert len(str(caught.value)) < 500


def test_texts_of_any_size_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 1,048,576 values"):
        parse_json("[" + "0," * 2_000_000 + "0]")
    with pytest.raises(ValueError, match="more than 16,777,216"):
        decode_document(bytes(2**24 + 1))
    with pytest.raises(ValueError, match="surrogates not allowed"):
        parse_json(r'{"id": "\ud800"}')
    assert parse_json(r'"\ud83d\ude00"') == "😀"
    assert parse_xml("<a b='c'/>").attrib == {"b": "c"}


def test_a_large_file_beside_a_descriptor_is_no_descriptor(tmp_path: Path) -> None:
    fasttile.cut(np.zeros((60, 80, 3), np.uint8), tmp_path / "a.dzi")
    with (tmp_path / "a.json").open("wb") as file:
        file.write(b'{"Image": "others"}')
        file.truncate(2**34)
    assert verify(tmp_path / "a.dzi").is_complete


# ---- MBTiles -----------------------------------------------------------------------------------


METADATA = "CREATE TABLE metadata (name text, value text);"
TILES = "CREATE TABLE tiles (zoom_level, tile_column, tile_row, tile_data);"
ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c)"
ENDLESS_TILES = (
    f"CREATE VIEW tiles AS {ENDLESS} SELECT n AS zoom_level, 0 AS tile_column, 0 AS tile_row,"
    " x'ffd8ff' AS tile_data FROM c;"
)
ENDLESS_METADATA = (
    f"CREATE VIEW metadata AS {ENDLESS} SELECT 'k' || n AS name,"
    " printf('%.200000000c', 'x') AS value FROM c;"
)
LIE = "PRAGMA writable_schema = ON; UPDATE sqlite_master SET type = 'table', rootpage = 2"
GENERATED = (
    "CREATE TABLE tiles (zoom_level, tile_column, tile_row, tile_data AS"
    " (printf('%.200000000c', 'x')));"
    "INSERT INTO tiles (zoom_level) VALUES (0);"
)

HOSTILE_DATABASES = {
    "an endless view of tiles": (METADATA + ENDLESS_TILES, "tiles is a view"),
    "an endless view of metadata": (TILES + ENDLESS_METADATA, "metadata is a view"),
    "a view that says it is a table": (
        METADATA + ENDLESS_TILES + f"{LIE} WHERE name = 'tiles';",
        "cannot be read",
    ),
    "a view by another name": (
        METADATA + ENDLESS_TILES + f"{LIE}, name = 'other' WHERE name = 'tiles';",
        "cannot be read",
    ),
    "views behind views": (
        METADATA + "CREATE VIEW tiles AS SELECT 1;"
        f"CREATE VIEW map AS {ENDLESS} SELECT n FROM c; CREATE VIEW images AS SELECT 1;",
        "map is a view",
    ),
    "computed columns": (METADATA + GENERATED, "tiles has computed columns"),
    "texts of 200 MB": (
        TILES + METADATA + "INSERT INTO metadata VALUES ('a', printf('%.200000000c', 'x'));",
        "too big|more than",
    ),
    "many texts of 1 MB": (
        TILES
        + METADATA
        + f"INSERT INTO metadata {ENDLESS} SELECT n, printf('%.1000000c', 'x') FROM c LIMIT 99;",
        "more than 16,777,216",
    ),
    "equal keys": (
        METADATA + "CREATE TABLE map (zoom_level, tile_column, tile_row, tile_id);"
        "CREATE TABLE images (tile_id, tile_data); CREATE VIEW tiles AS SELECT 1;"
        f"INSERT INTO map {ENDLESS} SELECT 'x', 0, 0, 1 FROM c LIMIT 30000;"
        f"INSERT INTO images {ENDLESS} SELECT 1, x'' FROM c LIMIT 30000;",
        "a query takes more than [0-9,]+ steps",
    ),
}


def write_database(path: Path, script: str) -> Path:
    database = sqlite3.connect(path)
    database.executescript(script)
    database.close()
    return path


@pytest.mark.slow
@linux_only
@pytest.mark.parametrize("name", HOSTILE_DATABASES)
def test_databases_that_never_end(name: str, tmp_path: Path) -> None:
    script, problem = HOSTILE_DATABASES[name]
    assert_refused(write_database(tmp_path / "a.mbtiles", script), problem)


@pytest.mark.slow
@linux_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_query(number: signal.Signals, tmp_path: Path) -> None:
    # A join of a million times a million rows: its budget is that of a file of this size.
    rows = f"{ENDLESS} SELECT {{}} FROM c LIMIT 1000000"
    path = write_database(
        tmp_path / "a.mbtiles",
        METADATA + "CREATE TABLE map (zoom_level, tile_column, tile_row, tile_id);"
        "CREATE TABLE images (tile_id, tile_data); CREATE VIEW tiles AS SELECT 1;"
        f"INSERT INTO map {rows.format('0, 0, 0, 1')};"
        f"INSERT INTO images {rows.format('1, zeroblob(20)')};",
    )
    with subprocess.Popen([*COMMAND, "info", path], stderr=subprocess.PIPE, text=True) as process:
        files = Path(f"/proc/{process.pid}/fd")
        while str(path) not in map(os.path.realpath, files.iterdir()):
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(number)
        _, error = process.communicate(timeout=MAX_SECONDS)
    assert process.returncode == 128 + number
    assert len(error.splitlines()) == 1


def test_reading_a_database_leaves_nothing_beside_it(tmp_path: Path) -> None:
    fasttile.cut(np.zeros((60, 80, 3), np.uint8), tmp_path / "a.mbtiles")
    database = sqlite3.connect(tmp_path / "a.mbtiles")
    database.execute("PRAGMA journal_mode = WAL")
    database.close()
    assert [one.name for one in tmp_path.iterdir()] == ["a.mbtiles"]
    with open_result(tmp_path / "a.mbtiles") as reader:
        assert reader.level_stats(reader.pyramid.stored_range[-1]).tiles == 1
        assert [one.name for one in tmp_path.iterdir()] == ["a.mbtiles"]


def test_rows_in_a_journal_are_read(tmp_path: Path) -> None:
    fasttile.cut(np.zeros((60, 80, 3), np.uint8), tmp_path / "a.mbtiles", layout="xyz")
    database = sqlite3.connect(tmp_path / "a.mbtiles", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("UPDATE tiles SET tile_data = x'ffd8ffee'")
    with open_result(tmp_path / "a.mbtiles") as reader:
        last = reader.pyramid.stored_range[-1]
        assert reader.tile(last, 0, 0) == b"\xff\xd8\xff\xee"
    database.close()


# ---- PMTiles -----------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def directory(*rows: tuple[int, int, int, int]) -> bytes:
    """Tile id, run length, size and offset of each row."""
    out, last = varint(len(rows)), 0
    for row in rows:
        out += varint(row[0] - last)
        last = row[0]
    for column in (1, 2):
        out += b"".join(varint(row[column]) for row in rows)
    return gzip.compress(out + b"".join(varint(row[3] + 1) for row in rows))


def write_archive(
    path: Path,
    root: bytes,
    leaves: bytes,
    data: bytes,
    leaves_size: int | None = None,
    metadata: object = (),
    zooms: tuple[int, int] = (0, 0),
) -> Path:
    meta = gzip.compress(json.dumps(dict(metadata)).encode())  # type: ignore[call-overload]
    offsets = [127]
    for part in (root, meta, leaves):
        offsets.append(offsets[-1] + len(part))
    sizes = [len(root), len(meta), len(leaves) if leaves_size is None else leaves_size, len(data)]
    places = [number for pair in zip(offsets, sizes, strict=True) for number in pair]
    fixed = struct.pack("<7sB11Q6B", b"PMTiles", 3, *places, 0, 1, 1, 1, 2, 1, 2, *zooms)
    path.write_bytes(fixed.ljust(127, b"\0") + root + meta + leaves + data)
    return path


EMPTY = gzip.compress(b"\0")
LEAF_COUNT = 1_000_000


@pytest.mark.slow
@linux_only
@pytest.mark.parametrize("leaves_size", [2**62, None])
def test_directories_that_take_days(leaves_size: int | None, tmp_path: Path) -> None:
    # 4 kB: a thousand references to one leaf, of a million references to an empty one.
    count = varint(LEAF_COUNT)
    columns = b"\0" + b"\1" * (LEAF_COUNT - 1) + b"\0" * LEAF_COUNT
    columns += varint(len(EMPTY)) * LEAF_COUNT + b"\1" * LEAF_COUNT
    leaf = gzip.compress(count + columns, 9)
    root = directory(*((n, 0, len(leaf), len(EMPTY)) for n in range(1000)))
    path = write_archive(tmp_path / "a.pmtiles", root, EMPTY + leaf, b"", leaves_size)
    assert path.stat().st_size < 10_000
    assert_refused(path, "the directories take|directories within|more than 4,194,304 bytes")


def fasttile_member(side: int) -> dict[str, object]:
    keys = {"x": 0, "y": 0, "width": side - 1, "height": side - 1, "canvas": side}
    return {"fasttile": {**keys, "tile_size": 256, "format": "png", "layout": "xyz"}}


@pytest.mark.slow
@linux_only
def test_a_run_of_2_39_equal_tiles(tmp_path: Path) -> None:
    path = write_archive(
        tmp_path / "a.pmtiles",
        directory((0, 2**39, len(TILE), 0)),
        b"",
        TILE,
        metadata=fasttile_member(256 << 19),
        zooms=(0, 19),
    )
    run = run_measured("info", path)
    assert (run.code, run.error) == (0, "")
    assert run.seconds < MAX_SECONDS
    for arguments in ([], ["--deep"]):
        assert_refused(
            path, "366,503,875,925 tiles, more than 4,294,967,296", ["verify", *arguments]
        )


def test_runs_that_are_too_long_to_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_archive(
        tmp_path / "a.pmtiles",
        directory((0, 5, len(TILE), 0)),
        b"",
        TILE,
        metadata=fasttile_member(512),
        zooms=(0, 1),
    )
    assert verify(path).is_complete
    monkeypatch.setattr(tilesets, "BUDGET", Budget(listed_tiles=4))
    with pytest.raises(SourceError, match="more than 4 tiles in runs of equal ones"):
        verify(path)


def test_as_many_entries_as_the_budget_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = directory(*((n, 1, len(TILE), 0) for n in range(5)))
    path = write_archive(tmp_path / "a.pmtiles", root, b"", TILE, zooms=(0, 1))
    size = path.stat().st_size
    with open_result(path) as reader:
        assert sum(reader.level_stats(level).tiles for level in reader.pyramid.stored_range) == 5
    monkeypatch.setattr(tilesets, "BUDGET", Budget(entries=4 - size))
    with pytest.raises(SourceError, match="has more than 4 entries"):
        open_result(path)


# ---- TIFF and tiles ----------------------------------------------------------------------------


@pytest.mark.slow
@linux_only
def test_a_tiff_of_too_many_tags(tmp_path: Path) -> None:
    levels = {256: 64, 257: 64, 322: 16, 323: 16}
    tags = [*levels.items(), *((60000 + n, 1) for n in range(4092))]
    page = struct.pack("<H", 4096) + b"".join(struct.pack("<HHII", n, 4, 1, v) for n, v in tags)
    starts = [8 + number * (len(page) + 4) for number in range(20)]
    pages = (page + struct.pack("<I", following) for following in [*starts[1:], 0])
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 8) + b"".join(pages))
    assert_refused(tmp_path / "a.tif", "more than 65,536 tags", ["verify"])
    # What is no result is shown as an image, and that it is not either.
    assert_refused(tmp_path / "a.tif", "is not supported", ["view", "--no-browser"])


def test_a_tiff_whose_pages_are_a_circle(tmp_path: Path) -> None:
    fasttile.cut(np.zeros((600, 800, 3), np.uint8), tmp_path / "a.tif")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    starts = [first]
    while starts[-1]:
        (count,) = struct.unpack_from("<H", data, starts[-1])
        end = starts[-1] + 2 + 12 * count
        starts += struct.unpack_from("<I", data, end)
    struct.pack_into("<I", data, end, first)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(SourceError, match="its pages have no end"):
        open_result(tmp_path / "a.tif")


def test_a_tile_of_too_many_pixels_or_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    from fasttile.formats import images

    data = encode_png(np.zeros((100, 100, 3), np.uint8))
    monkeypatch.setattr(images, "BUDGET", Budget(tile_pixels=9999))
    with pytest.raises(SourceError, match="a tile claims 100×100 pixels, more than 9,999"):
        decode_tile(data, 2**31, "a tile")


# ---- folders -----------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="links and fifos")
@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: path.symlink_to("/etc/passwd"), "leads out of"),
        (lambda path: path.symlink_to(path.name), "cannot be|no such file|leads out"),
        (os.mkfifo, "is not a regular file"),
        (Path.mkdir, "is a directory"),
    ],
    ids=["a link out of it", "a link to itself", "a fifo", "a folder"],
)
def test_planted_tiles(make: Callable[[Path], None], problem: str, tmp_path: Path) -> None:
    fasttile.cut(np.zeros((60, 80, 3), np.uint8), tmp_path / "a.dzi")
    tile = tmp_path / "a_files/0/0_0.jpg"
    tile.unlink()
    make(tile)
    with open_result(tmp_path / "a.dzi") as reader, pytest.raises(SourceError, match=problem):
        reader.tile(0, 0, 0)
    assert verify(tmp_path / "a.dzi").fault_count == 1


# ---- the budget itself -------------------------------------------------------------------------


def test_the_document_states_the_budget() -> None:
    document = (Path(__file__).parents[2] / "docs/RELIABILITY.md").read_text("utf-8")
    for name in BUDGET._fields:
        number = f"{getattr(BUDGET, name):,}"
        assert re.search(rf"\| `{name}` \| {number} ", document), (name, number)
