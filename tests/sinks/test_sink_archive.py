"""Archives of tiles, read by others: zipfile, unzip, and one that reads from front to back."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import pytest

from fasttile.errors import OptionError
from fasttile.geometry import Tile
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.layouts.iiif import Iiif2
from fasttile.sinks import archive
from fasttile.sinks.archive import ArchiveSink, scan_properties
from fasttile.storage import writing as growing
from support.one_file_sinks import extend_sparsely, layout_of, tile_bytes, write

if sys.platform == "win32":
    pytest.skip("needs files with holes, and any names", allow_module_level=True)

NAMES = ["a map", "-rf", "a\"b'c&d<e>", "Übergröße 日本 🗺", " ", "two\nlines", "100%"]


def stream_entries(path: Path) -> Iterator[tuple[str, bytes]]:
    """The entries as a reader finds them that cannot seek: by the headers in front of each."""
    with path.open("rb") as file:
        while (signature := file.read(4)) == b"PK\3\4":
            _, flags, method, _, _, checksum, packed, size, name, extra = struct.unpack(
                "<5H3I2H", file.read(26)
            )
            assert (method, flags, packed, extra) == (0, 1 << 11, size, 0)
            text = file.read(name).decode()
            data = file.read(size)
            assert zlib.crc32(data) == checksum
            yield text, data
        assert signature == b"PK\1\2"


def expected_files(layout: DeepZoom, kind: str, prefix: str = "") -> dict[str, bytes]:
    files = {layout.path(tile): tile_bytes(kind, tile) for tile in layout.pyramid.tiles()}
    files |= layout.descriptors()
    if kind == "szi":
        files |= scan_properties(layout)
    return {prefix + path: data for path, data in files.items()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["zip", "szi"])
def test_all_readers_find_the_same(tmp_path: Path, kind: str, name: str) -> None:
    target = tmp_path / f"x.{kind}"
    write(kind, target, name=name)
    files = expected_files(layout_of(kind, name), kind, f"{name}/" if kind == "szi" else "")
    entries = [*stream_entries(target)]
    assert dict(entries) == files
    assert len(entries) == len(files)
    with zipfile.ZipFile(target) as read:
        assert read.testzip() is None
        assert read.namelist() == [path for path, _ in entries]
        assert {path: read.read(path) for path in read.namelist()} == files


def test_what_announces_the_tiles_comes_after_them(tmp_path: Path) -> None:
    layout = DeepZoom.from_size("m", 70, 50, "jpg", json=True, jsonp=True)
    sink = ArchiveSink(layout, tmp_path / "x.zip", files={"m.html": b"page"})
    for tile in layout.pyramid.tiles():
        sink.put(tile, b"...")
    sink.finish()
    names = zipfile.ZipFile(tmp_path / "x.zip").namelist()
    assert names[-4:] == ["m.html", "m.json", "m.js", "m.dzi"]
    assert len(set(names)) == layout.pyramid.tile_count + 4


def test_unzip_finds_no_fault_and_the_rights_are_usual(tmp_path: Path) -> None:
    if shutil.which("unzip") is None:
        pytest.skip("NOT TESTED: no unzip here")
    name = 'Übergröße & "mehr"'
    write("szi", tmp_path / "x.szi", name=name)
    run = subprocess.run(
        ["unzip", "-t", tmp_path / "x.szi"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "No errors detected" in run.stdout
    there = {**os.environ, "LC_ALL": "C.UTF-8"}
    subprocess.run(["unzip", "-q", "x.szi", "-d", "out"], cwd=tmp_path, env=there, check=True)
    root = tmp_path / "out" / name
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    assert ElementTree.parse(root / f"{name}.dzi").getroot().tag.endswith("Image")
    assert (root / f"{name}.dzi").stat().st_mode & 0o777 == 0o644


def test_times_and_rights_are_fixed(tmp_path: Path) -> None:
    write("zip", tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as read:
        for entry in read.infolist():
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            assert entry.external_attr >> 16 == 0o100644
            assert (entry.create_system, entry.create_version, entry.extract_version) == (3, 20, 20)
            assert (entry.extra, entry.comment, entry.internal_attr) == (b"", b"", 0)


def test_a_tile_of_many_names_is_under_all_of_them(tmp_path: Path) -> None:
    layout = Iiif2.from_size("m", 50, 30, "jpg", tile_size=16, id="https://example.org/{name}")
    sink = ArchiveSink(layout, tmp_path / "x.zip")
    files = layout.descriptors()
    for tile in layout.pyramid.tiles():
        sink.put(tile, str(tile).encode())
        files |= dict.fromkeys(layout.paths(tile), str(tile).encode())
    sink.add(["m/full/max/0/default.jpg", "m/b"], b"full")
    files |= {"m/full/max/0/default.jpg": b"full", "m/b": b"full"}
    sink.finish()
    assert dict(stream_entries(tmp_path / "x.zip")) == files


def test_an_empty_tile_is_an_entry(tmp_path: Path) -> None:
    layout = DeepZoom.from_size("m", 1, 1, "jpg")
    sink = ArchiveSink(layout, tmp_path / "x.zip")
    sink.put(Tile(0, 0, 0), b"")
    sink.finish()
    assert dict(stream_entries(tmp_path / "x.zip"))["m_files/0/0_0.jpg"] == b""


def test_a_name_that_is_no_text_is_refused_before_any_work(tmp_path: Path) -> None:
    layout = DeepZoom.from_size("\udcff", 1, 1, "jpg")
    with pytest.raises(OptionError, match=r"name '\\udcff_files' is not text"):
        ArchiveSink(layout, tmp_path / "x.zip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [*NAMES, "\udcff", "\x01"])
def test_scan_properties_are_those_of_the_format(name: str) -> None:
    """Of which it demands the size; readers look for the names of the elements."""
    ((path, data),) = scan_properties(DeepZoom.from_size(name, 7, 5, "jpg")).items()
    assert path == "scan-properties.xml"
    image = ElementTree.fromstring(data)
    space = "{http://www.pathozoom.com/szi}"
    assert (image.tag, image.attrib) == (f"{space}image", {"version": "1.0"})
    assert {
        one.findtext(f"{space}name"): one.findtext(f"{space}value")
        for one in image.iterfind(f"{space}properties/{space}property")
    } == {"ImageWidth": "7", "ImageHeight": "5"}


# ---- what 32 and 16 bits do not hold -----------------------------------------------------------


def write_many_entries(target: Path, count: int, size: int = 1) -> None:
    """An archive of a number of entries, its descriptor included."""
    layout = DeepZoom.from_size("m", 1, 1, "jpg")
    sink = ArchiveSink(layout, target)
    for number in range(count - 1):
        sink.add([f"m_files/{number}"], bytes(size))
    sink.finish()


@pytest.mark.slow
def test_more_entries_than_16_bits_count(tmp_path: Path) -> None:
    count = 0xFFFF
    target = tmp_path / "x.zip"
    write_many_entries(target, count)
    with zipfile.ZipFile(target) as read:
        assert len(read.infolist()) == count
        assert read.read(f"m_files/{count - 2}") == b"\0"
        assert read.read("m.dzi").startswith(b"<?xml")
    assert target.read_bytes()[-98:].startswith(b"PK\6\6")


def test_zip64_is_for_archives_that_need_it() -> None:
    short, long = 22, 98
    assert len(archive._end_records(0xFFFE, 0xFFFFFFFE, 0xFFFFFFFE)) == short
    assert len(archive._end_records(0xFFFF, 1, 1)) == long
    assert len(archive._end_records(1, 0xFFFFFFFF, 1)) == long
    assert len(archive._end_records(1, 1, 0xFFFFFFFF)) == long


def test_a_long_directory_waits_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_many_entries(tmp_path / "1.zip", 3000)
    monkeypatch.setattr(growing, "BUFFER_BYTES", 1000)
    monkeypatch.setattr(growing, "COPY_CHUNK_BYTES", 777)
    write_many_entries(tmp_path / "2.zip", 3000)
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.zip", "2.zip"]
    sink = ArchiveSink(DeepZoom.from_size("m", 1, 1, "jpg"), tmp_path / "3.zip")
    for number in range(100):
        sink.add([f"m_files/{number}"], b"...")
    waiting = tmp_path / ".3.zip.fasttile/directory"
    assert waiting.stat().st_size > 4000
    sink.abort()
    assert not waiting.exists()


@pytest.mark.parametrize("place", [0xFFFFFFFE - 66, 0xFFFFFFFF - 66, 0x100000000 - 66, 5 << 32])
def test_places_beyond_four_gigabytes(place: int) -> None:
    """Of a file with a hole, in which nothing is; around the last place that 32 bits hold."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        target = Path(folder) / "x.zip"
        layout = DeepZoom.from_size("m", 1, 1, "jpg")
        sink = ArchiveSink(layout, target)
        sink.put(Tile(0, 0, 0), b"first")
        extend_sparsely(sink._file, place)
        sink.add(["m_files/a"], bytes(66 - 30 - len("m_files/a")))  # 66 bytes in all
        sink.add(["m_files/b"], b"last")
        sink.finish()
        assert target.stat().st_blocks * 512 < 10**6
        with zipfile.ZipFile(target) as read:
            offsets = {entry.filename: entry.header_offset for entry in read.infolist()}
            assert offsets["m_files/a"] == place
            assert offsets["m_files/b"] == place + 66
            assert read.testzip() is None
            large = read.getinfo("m_files/b")
            assert large.extract_version == (45 if place + 66 >= 0xFFFFFFFF else 20)
            assert read.read("m_files/0/0_0.jpg") == b"first"
            assert read.read(large) == b"last"
            assert read.read("m.dzi").startswith(b"<?xml")
        if shutil.which("zipinfo"):
            run = subprocess.run(["zipinfo", "-1", target], capture_output=True, check=True)
            assert run.stdout.split() == [
                b"m_files/0/0_0.jpg",
                b"m_files/a",
                b"m_files/b",
                b"m.dzi",
            ]


def test_what_zip_cannot_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = ArchiveSink(DeepZoom.from_size("m", 1, 1, "jpg"), tmp_path / "x.zip")
    with pytest.raises(OptionError, match="ZIP cannot hold b'm_files/xxx"):
        sink.add(["m_files/" + "x" * 65_536], b"")
    monkeypatch.setattr(archive, "LIMIT_32", 1000)
    with pytest.raises(OptionError, match=r"ZIP cannot hold b'm_files/0/0_0.jpg'"):
        sink.put(Tile(0, 0, 0), bytes(1000))
    sink.abort()
    assert list(tmp_path.iterdir()) == []
