"""Standard input, bytes and file objects: used in place where they can be, else spooled."""

from __future__ import annotations

import gc
import gzip
import io
import mmap
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fasttile
from fasttile.errors import OptionError, SourceError
from fasttile.jobs.plan import resolve_target
from fasttile.sources import files as spool
from fasttile.sources import files as streams
from fasttile.sources import open_source
from fasttile.storage import random_access as reopened
from fasttile.storage.random_access import DiskFile, MemoryFile
from support.encoded_images import encode_image
from support.reading import noise, read_checked, read_pixels
from support.sampling import sampled

KINDS = ["npy", "ppm", "bmp", "tif", "png", "jpg"]
ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Unseekable(io.RawIOBase):
    """A stream that gives its bytes once, in pieces of any size."""

    def __init__(self, data: bytes) -> None:
        self.remaining = data

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self.remaining[: min(1000, len(buffer))]
        buffer[: len(piece)] = piece
        self.remaining = self.remaining[len(piece) :]
        return len(piece)


# ---- bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_what_the_file_is(tmp_path: Path, kind: str) -> None:
    data = encode_image(kind)
    path = tmp_path / "image"
    path.write_bytes(data)
    expected = read_pixels(path)
    for same in (data, bytearray(data), memoryview(data), memoryview(b"xx" + data)[2:]):
        np.testing.assert_array_equal(read_pixels(same), expected)
    with open_source(path) as from_file, open_source(data) as from_bytes:
        assert from_bytes.is_mapped == from_file.is_mapped
        assert from_bytes.metadata == from_file.metadata
        assert from_bytes.name == "bytes"


@pytest.mark.parametrize("make", [bytearray, io.BytesIO, memoryview])
def test_pixels_in_memory_are_not_copied(make: Any) -> None:
    data = bytearray(encode_image("npy"))
    given = make(data)
    lies = data if make is memoryview else given.getbuffer() if make is io.BytesIO else given
    start: int = np.frombuffer(lies, np.uint8).__array_interface__["data"][0]
    end = start + len(data)
    del lies
    with open_source(given) as source:
        rows = source.rows(0, 40)
        assert start < rows.__array_interface__["data"][0] < end
        assert not rows.flags.writeable
        del rows


@pytest.mark.slow
def test_bytes_are_released(tmp_path: Path) -> None:
    for kind in ("npy", "png", "jpg"):
        data = bytearray(encode_image(kind))
        read_pixels(data)
        gc.collect()
        data.append(0)  # impossible as long as anything looks at it
        stream = io.BytesIO(encode_image(kind))
        read_pixels(stream)
        gc.collect()
        stream.close()


def test_raw_bytes() -> None:
    array = noise(4, 5, 3)
    np.testing.assert_array_equal(read_pixels(b"head" + array.tobytes(), raw="5x4x3:u8:4"), array)
    with pytest.raises(SourceError, match=r"^bytes: .* needs 60 bytes, but the file has 10$"):
        open_source(bytes(10), raw="5x4x3")
    with pytest.raises(OptionError, match="a raw format is for files, not for"):
        open_source(array, raw="5x4x3")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "^bytes is empty$"),
        (io.BytesIO(), r"^a file object \(BytesIO\) is empty$"),
        (b"hello world", "bytes: it is a text, and no image"),
        (memoryview(noise(4, 5)), r"memoryview: shape \(4, 5\).*an array for pixels"),
        (memoryview(bytes(9))[::2], r"memoryview: shape \(5,\).*pass contiguous bytes"),
        (memoryview(np.zeros(9, np.uint16)), "format 'H' are not the bytes of a file"),
    ],
)
def test_bytes_that_are_no_file(data: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(data)


def test_a_truncated_image_in_memory_is_refused() -> None:
    for kind in KINDS:
        with pytest.raises(SourceError, match=r"^bytes"):
            read_pixels(encode_image(kind)[:-100])


# ---- file objects --------------------------------------------------------------------------------


def open_streams(path: Path) -> Iterator[tuple[str, Any, bool]]:
    """File objects over one file: what each is, and whether it can be used in place."""
    data = path.read_bytes()
    yield "file", path.open("rb"), True
    yield "unbuffered", path.open("rb", buffering=0), True
    yield "for writing too", path.open("r+b"), True
    yield "BytesIO", io.BytesIO(data), True
    moved = io.BytesIO(b"xxx" + data)
    moved.seek(3)
    yield "BytesIO from the middle", moved, True
    longer = path.with_suffix(".longer")
    longer.write_bytes(b"xxx" + data)
    file = longer.open("rb")
    file.read(3)
    yield "file from the middle", file, False
    packed = path.with_suffix(".gz")
    packed.write_bytes(gzip.compress(data))
    yield "gzip", gzip.GzipFile(packed), False
    yield "pipe", Unseekable(data), False
    yield "buffered pipe", io.BufferedReader(Unseekable(data)), False
    for kind in (tempfile.TemporaryFile, tempfile.NamedTemporaryFile):
        temporary: Any = kind()
        temporary.write(data)
        temporary.seek(0)
        yield kind.__name__, temporary, True
    rolled: Any = tempfile.SpooledTemporaryFile()  # noqa: SIM115
    rolled.write(data)
    rolled.seek(0)
    yield "SpooledTemporaryFile", rolled, False
    with path.open("rb") as below:
        yield "mmap", mmap.mmap(below.fileno(), 0, access=mmap.ACCESS_READ), True


@pytest.mark.slow
@pytest.mark.parametrize("kind", sampled(["npy", "png"], ["png"]))
def test_file_objects(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image"
    path.write_bytes(encode_image(kind))
    expected = read_pixels(path)
    spools: list[str] = []
    make = spool.SpooledFile.__init__

    def noted(self: Any, name: str, holds: object = None) -> None:
        spools.append(name)
        make(self, name, holds)

    monkeypatch.setattr(spool.SpooledFile, "__init__", noted)
    for name, stream, in_place in open_streams(path):
        spools.clear()
        seekable = not hasattr(stream, "seekable") or stream.seekable()
        place = stream.tell() if seekable else None
        np.testing.assert_array_equal(read_pixels(stream), expected, name)
        assert len(spools) == (not in_place), name
        assert not stream.closed
        if seekable:
            assert stream.tell() == place, name
            np.testing.assert_array_equal(read_pixels(stream), expected, name)
            assert stream.tell() == place, name
            rest = stream.read()
            assert rest == path.read_bytes(), name
        gc.collect()
        stream.close()


def test_file_objects_are_named_by_their_name(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(encode_image("npy"))
    with path.open("rb") as file, open_source(file) as source:
        assert source.name == str(path)
    with open(bytes(path), "rb") as file, open_source(file) as source:  # noqa: PTH123
        assert source.name == str(path)
    with open(os.open(path, os.O_RDONLY), "rb") as file, open_source(file) as source:  # noqa: PTH123
        assert source.name == "a file object (BufferedReader)"


def test_a_stream_that_comes_once_can_be_opened_again_while_it_is_read() -> None:
    data = encode_image("npy")
    stream = Unseekable(data)
    with open_source(stream) as first:
        with open_source(stream) as second:
            np.testing.assert_array_equal(read_checked(second), read_checked(first))
        np.testing.assert_array_equal(read_pixels(stream), read_checked(first))
    del first, second
    gc.collect()
    with pytest.raises(SourceError, match="is empty"):
        open_source(stream)
    assert not spool._open_spools
    assert not spool._retained


@pytest.mark.parametrize("kind", ["npy", "png"])
def test_16_bit_values_are_looked_at_before(kind: str) -> None:
    array = noise(40, 50, dtype=np.uint16) // 2
    data = encode_image(kind, array)
    np.testing.assert_array_equal(read_pixels(Unseekable(data)), read_pixels(data))


@ON_LINUX
@pytest.mark.parametrize("kind", ["npy", "png", "jpg"])
def test_no_file_stays_open(tmp_path: Path, kind: str) -> None:
    data = encode_image(kind)
    path = tmp_path / "image"
    path.write_bytes(data)
    read_pixels(path)
    before = open_files()
    for make in (lambda: Unseekable(data), lambda: data, lambda: io.BytesIO(data)):
        read_pixels(make())
        with pytest.raises(SourceError):
            open_source(make(), raw="1000x1000x1")
    with path.open("rb") as file:
        read_pixels(file)
        with pytest.raises(SourceError):
            open_source(file, raw="1000x1000x1")
    gc.collect()
    assert open_files() == before


def test_an_object_that_gives_no_bytes(tmp_path: Path) -> None:
    class Strange:
        def __init__(self, answer: Any) -> None:
            self.answer = answer

        def read(self, size: int) -> Any:
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

    with pytest.raises(SourceError, match="returns nothing yet when it is read"):
        open_source(Strange(None))
    with pytest.raises(SourceError, match="returns an object of type list when it is read"):
        open_source(Strange([1]))
    with pytest.raises(SourceError, match=r"cannot be read: the cable fell out$"):
        open_source(Strange(RuntimeError("the cable fell out\nsecond line")))
    with pytest.raises(SourceError, match=r"\(Strange\) is read as text; open it .* 'rb'"):
        open_source(Strange("text"))
    closed = io.BytesIO(b"x")
    closed.close()
    with pytest.raises(SourceError, match=r"cannot be read: .*closed file"):
        open_source(closed)
    path = tmp_path / "text"
    path.write_text("text")
    with path.open() as text, pytest.raises(SourceError, match=r"text is read as text; .*'rb'"):
        open_source(text)
    with path.open("ab") as only, pytest.raises(SourceError, match="cannot be read"):
        open_source(only)
    path.write_bytes(b"")
    with path.open("rb") as empty, pytest.raises(SourceError, match="text is empty"):
        open_source(empty)


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal = pytest.importorskip("signal")
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))
        with pytest.raises(SourceError) as caught:
            open_source(Unseekable(bytes(5000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    said = str(caught.value)
    assert f"does not fit into {tmp_path}, where it is kept" in said
    assert "File too large, after 2,048 bytes" in said
    assert said.endswith("set TMPDIR to another folder")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(SourceError, match=r"No such file or directory, after 0 bytes.*TMPDIR"):
        open_source(Unseekable(bytes(5000)))


# ---- streams over open files ---------------------------------------------------------------------


@pytest.mark.parametrize("system", ["as it is", "no /proc", "no pread"])
def test_streams_have_positions_of_their_own(
    tmp_path: Path, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(range(256)) * 100
    path = tmp_path / "file"
    path.write_bytes(data)
    if system != "as it is":
        monkeypatch.setattr(Path, "is_file", lambda path: False)
    if system == "no pread":
        monkeypatch.delattr(os, "pread")
    with path.open("rb") as callers:
        callers.read(7)
        files = [DiskFile(path), DiskFile(callers.fileno(), "x"), MemoryFile(data, "x")]
        for file in files:
            file.stream.seek(3)
            first, second = file.reopen(), file.reopen()
            file.close()
            first.seek(1000)
            assert second.read(4) == data[:4]
            assert first.read(10) == data[1000:1010]
            assert second.seek(-5, os.SEEK_END) == len(data) - 5
            assert second.read(10**15) == data[-5:]
            assert second.read() == b""
            assert first.tell() == 1010
            assert first.seek(-10, os.SEEK_CUR) == 1000
            assert first.read(-1) == data[1000:]
            assert first.seek(10**6) == 10**6
            assert first.read(5) == b""
            with pytest.raises(OSError, match=r"-3|Invalid"):
                first.raw.seek(-3)
            first.close()
            first.close()
            second.close()
        assert callers.read(3) == data[7:10]


def test_a_file_that_was_replaced_is_not_reopened_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(b"first")
    other.write_bytes(b"other")
    is_file = Path.is_file
    monkeypatch.setattr(Path, "is_file", lambda path: "proc" not in path.parts and is_file(path))
    file = DiskFile(path)
    other.replace(path)
    with reopened.reopen_file(file.stream.fileno(), str(path), 5)[0] as stream:
        assert stream.read() == b"first"
    file.close()


# ---- standard input ------------------------------------------------------------------------------

READ_STDIN_PROGRAM = """
import sys
from fasttile.sources import open_source
from fasttile.errors import SourceError
try:
    with open_source("-") as first, open_source("-") as second:
        same = (first.rows(0, 8) == second.rows(0, 8)).all()
        print(first.name, first.width, first.height, first.is_mapped, bool(same))
    with open_source("-") as third:
        print(third.width)
except SourceError as error:
    print(error)
"""


def script_output(stdin: Any, code: str = READ_STDIN_PROGRAM, **more: Any) -> str:
    run = subprocess.run(
        [sys.executable, "-c", code],
        stdin=stdin,
        capture_output=True,
        text=True,
        check=True,
        **more,
    )
    assert not run.stderr
    return run.stdout


def test_standard_input_as_a_file(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(encode_image("npy"))
    # No folder for temporary files: so it is not copied.
    environment = {**os.environ, "TMPDIR": "/missing"}
    with path.open("rb") as file:
        said = script_output(file, env=environment)
    assert said == "standard input 50 40 True True\n50\n"


def test_standard_input_as_a_file_from_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"xxx" + encode_image("npy"))
    with path.open("rb", buffering=0) as file:
        file.read(3)
        said = script_output(file)
    assert said == "standard input 50 40 True True\n50\n"


@pytest.mark.parametrize("kind", ["npy", "jpg"])
def test_standard_input_as_a_pipe(tmp_path: Path, kind: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", READ_STDIN_PROGRAM],
        input=encode_image(kind),
        capture_output=True,
        check=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert not run.stderr
    assert run.stdout.decode() == f"standard input 50 40 {kind == 'npy'} True\n50\n"
    assert not list(tmp_path.iterdir())


def test_standard_input_that_is_nothing() -> None:
    assert script_output(subprocess.DEVNULL) == "standard input is empty\n"
    closed = f"import os; os.close(0)\nimport sys; sys.stdin = None\n{READ_STDIN_PROGRAM}"
    assert "standard input is closed" in script_output(None, closed)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="has no terminals")
def test_a_terminal_is_not_read() -> None:
    controller, terminal = os.openpty()
    try:
        assert script_output(terminal) == (
            "standard input is a terminal; redirect or pipe a file into it\n"
        )
    finally:
        os.close(controller)
        os.close(terminal)


def test_standard_input_that_a_program_has_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_standard_input", None)
    monkeypatch.setattr(sys, "stdin", io.StringIO("text"))
    with pytest.raises(SourceError, match=r"^standard input is read as text"):
        open_source("-")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(encode_image("npy"))))
    assert read_pixels("-").shape == (40, 50, 3)


def test_standard_input_that_fails_stays_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Unseekable):
        def readinto(self, buffer: Any) -> int:
            if len(self.remaining) < 3000:
                self.remaining = encode_image("npy")
                raise OSError("the cable fell out")
            return super().readinto(buffer)

    monkeypatch.setattr(streams, "_standard_input", None)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Failing(encode_image("npy"))))  # type: ignore[type-var]
    for _ in range(2):
        with pytest.raises(SourceError, match="standard input cannot be read: the cable"):
            open_source("-")


def test_a_path_called_dash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-").write_bytes(encode_image("npy"))
    assert read_pixels("./-").shape == read_pixels(Path("-")).shape == (40, 50, 3)


# ---- the result's name ---------------------------------------------------------------------------


class NamedBytes(io.BytesIO):
    def __init__(self, name: Any) -> None:
        super().__init__()
        self.name = name


@pytest.mark.parametrize(
    ("source", "stem"),
    [
        ("https://host/scans/map%201.v2.tif?token=a/b.png#top", "map 1.v2"),
        ("https://user:pass@host:99/map.tif", "map"),
        ("https://host/folder/", "folder"),
        ("https://host/a%2Fb%5Cc.tif", "c"),
        ("https://host/..%2F..%2F.ssh", ".ssh"),
        ("file:///scans/map.tif", "map"),
        ("s3://bucket/map.tif", "map"),
        (Path("-"), "-"),
        (NamedBytes("scans/map.tif"), "map"),
        (NamedBytes(b"scans/map.tif"), "map"),
        (NamedBytes(Path("scans/map.tif")), "map"),
    ],
)
def test_target_names(source: Any, stem: str) -> None:
    assert resolve_target("out", source).path.as_posix() == f"out/{stem}.dzi"
    assert resolve_target("out/x.dzi", source).path.as_posix() == "out/x.dzi"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("-", "^standard input: it has no name; use -o NAME.dzi"),
        ("https://host", "no file name .*; use -o NAME.dzi"),
        ("https://host/%2E%2E/", "no file name"),
        ("https://host/a%00b.tif", "no file name"),
        ("https://user:pass@[host/a.tif", r"^https://…: it has no file name"),
        (b"GIF89a", "no file name"),
        (io.BytesIO(), "no file name"),
        (NamedBytes(7), "no file name"),
        (NamedBytes("<stdin>"), "no file name"),
        (NamedBytes(""), "no file name"),
        (noise(4, 4), "no file name"),
    ],
)
def test_sources_without_a_name(source: Any, message: str, tmp_path: Path) -> None:
    for dest in (None, tmp_path):
        with pytest.raises(OptionError, match=message):
            resolve_target(dest, source)
    assert resolve_target("x.dzi", source).path == Path("x.dzi")


def test_a_cut_of_each(tmp_path: Path) -> None:
    data = encode_image("npy")
    path = tmp_path / "map.npy"
    path.write_bytes(data)
    makes: list[Callable[[], Any]] = [
        lambda: data,
        lambda: io.BytesIO(data),
        lambda: Unseekable(data),
        path.as_uri,
        lambda: path.open("rb"),
    ]
    fasttile.cut(path, tmp_path / "expected.dzi", tile_size=16)
    expected = {
        file.relative_to(tmp_path / "expected_files"): file.read_bytes()
        for file in (tmp_path / "expected_files").rglob("*.jpg")
    }
    for number, make in enumerate(makes):
        source = make()
        fasttile.cut(source, tmp_path / f"{number}.dzi", tile_size=16)
        folder = tmp_path / f"{number}_files"
        found = {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*.jpg")}
        assert found == expected
        if hasattr(source, "close"):
            source.close()
