"""npy and raw, and what holds for all files: closed, released, checked, named in each error."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fasttile.errors import OptionError, SourceError
from fasttile.geometry import Region
from fasttile.options.read import RawFormat
from fasttile.sources import open_source
from support.reading import noise, read_checked, read_pixels, resident_bytes, to_8_bit

SIZES = [(1, 1), (1, 5), (7, 1), (5, 3), (70, 6)]
ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# npy


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "?"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_npy(tmp_path: Path, dtype: str, version: tuple[int, int]) -> None:
    path = tmp_path / "image"
    for (height, width), bands in itertools.product(SIZES, ((), (1,), (2,), (3,), (4,))):
        array = noise(height, width, *bands, dtype=dtype)
        with path.open("wb") as file:
            np.lib.format.write_array(file, array, version)
        np.testing.assert_array_equal(read_pixels(path), read_pixels(array))
    with open_source(path) as source:
        assert source.is_mapped == (dtype == "u1")
        assert source.metadata.format == "npy"


def test_npy_of_true_bytes_other_than_one(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((2, 2), bool))
    path.write_bytes(path.read_bytes()[:-4] + b"\0\1\2\xff")
    assert read_pixels(path).ravel().tolist() == [0, 255, 255, 255]


def test_npy_of_16_bits_is_mapped_where_it_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    array = noise(9, 7, dtype=np.uint16)
    np.save(path, array)
    with open_source(path, bits=16) as source:
        assert source.is_mapped
        np.testing.assert_array_equal(read_checked(source)[..., 0], array)
    np.save(path, array.astype(">u2"))
    with open_source(path, bits=16) as source:
        assert not source.is_mapped
        np.testing.assert_array_equal(read_checked(source)[..., 0], array)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.asfortranarray(noise(4, 4)), "Fortran order.*ascontiguousarray"),
        (np.zeros((4, 4), "c8"), "dtype complex64"),
        (np.zeros((4, 4), "u1,u1"), "dtype"),
        (np.zeros((4, 4), [("\u4e00", "u1")]), "version 3.0 is not for plain arrays"),
        (np.full((4, 4), None), "dtype object"),
        (noise(4, 4, 5), r"shape \(4, 4, 5\)"),
        (np.zeros((4, 0), np.uint8), r"shape \(4, 0\) has no pixels"),
    ],
)
def test_npy_of_other_arrays_is_refused(tmp_path: Path, array: Any, message: str) -> None:
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        version = (3, 0) if array.dtype.names == ("\u4e00",) else None
        np.lib.format.write_array(file, array, version, allow_pickle=True)
    with pytest.raises(SourceError, match=message) as caught:
        open_source(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


# raw


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("uint8", "u1"),
        ("u8", "u1"),
        ("u1", "u1"),
        ("uint16", "<u2"),
        ("<u16", "<u2"),
        (">u2", ">u2"),
    ],
)
def test_raw(tmp_path: Path, name: str, stored: str) -> None:
    path = tmp_path / "image.raw"
    for (height, width), bands, offset in itertools.product(SIZES, (1, 2, 3, 4), (0, 1, 512)):
        array = noise(height, width, bands, dtype=stored)
        path.write_bytes(b"\xee" * offset + array.tobytes() + b"tail")
        text = f"{width}x{height}x{bands}:{name}:{offset}"
        np.testing.assert_array_equal(read_pixels(path, raw=text), to_8_bit(array))
        raw = RawFormat(width, height, bands, name, offset)
        assert RawFormat.parse(text) == raw
        with open_source(path, raw=raw) as source:
            assert source.is_mapped == (stored == "u1")


def test_raw_is_taken_though_the_file_looks_like_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, noise(4, 4))
    expected = np.frombuffer(path.read_bytes(), np.uint8)
    np.testing.assert_array_equal(read_pixels(path, raw="144x1x1").ravel(), expected)


def test_raw_defaults() -> None:
    assert RawFormat.parse("4x3x2") == RawFormat(4, 3, 2, "uint8", 0)
    assert RawFormat.parse("4x3x2:>u16") == RawFormat(4, 3, 2, ">u16", 0)


@pytest.mark.parametrize(
    "text",
    ["", "4x4", "4x4x", "x4x4", "4X4x1", "4x4x1:", "4x4x1:u8:", "4x4x1:u8:-1", "-4x4x1"],
)
def test_raw_text_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="expected WIDTHxHEIGHTxBANDS"):
        RawFormat.parse(text)


@pytest.mark.parametrize("text", ["4x4x1:u8:1:2", "4.0x4x1", " 4x4x1", "4x4x1\n", "٤x4x1"])
def test_raw_text_is_taken_literally(text: str) -> None:
    with pytest.raises(OptionError, match="expected WIDTH"):
        RawFormat.parse(text)
    with pytest.raises(OptionError, match="expected WIDTH"):
        RawFormat.parse("9" * 5000 + "x1x1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0x4x1", "raw width 0"),
        ("4x0x1", "raw height 0"),
        ("4x4x0", "0 raw bands"),
        ("4x4x5", "5 raw bands"),
        ("4x4x1:u4", "raw dtype 'u4'"),
        ("4x4x1:float32", "raw dtype 'float32'"),
        ("4x4x1:<>u2", "raw dtype '<>u2'"),
    ],
)
def test_raw_values_out_of_range_are_refused(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        RawFormat.parse(text)
    with pytest.raises(OptionError, match="offset -1"):
        RawFormat(1, 1, 1, offset=-1)


def test_a_raw_file_that_is_too_small_is_named_with_both_sizes(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(4 * 5 * 3 + 10 - 1))
    with pytest.raises(SourceError, match=r"a\.raw: .* needs 70 bytes, but the file has 69"):
        open_source(path, raw="4x5x3:u8:10")
    with pytest.raises(SourceError, match="but the file has 69"):
        open_source(path, raw="999999999999999x999999999999999x4:u16")


# what holds for all


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(SourceError, match=f"{missing}: no such file"):
        open_source(missing)
    with pytest.raises(SourceError, match="is a directory, not a file"):
        open_source(tmp_path)
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(SourceError, match="the file is empty"):
        open_source(empty)
    with pytest.raises(SourceError, match=r"cannot be opened: .*null"):
        open_source("a\0b")
    with pytest.raises(SourceError, match="cannot be opened: File name too long"):
        open_source("x" * 5000)
    unknown = tmp_path / "unknown.png"
    unknown.write_bytes(b"hello world\0 this is no image")
    with pytest.raises(SourceError, match=r"unknown\.png is not an image.*b'hello wo'.*--raw "):
        open_source(unknown)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="is not a regular file"):
        open_source(tmp_path / "pipe")


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="has no users")
def test_no_permission_is_said(tmp_path: Path) -> None:
    path = tmp_path / "secret.npy"
    np.save(path, noise(4, 4))
    path.chmod(0)
    if os.geteuid() != 0:
        with pytest.raises(SourceError, match="Permission denied"):
            open_source(path)
        return
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    np.save(tmp_path / "warm up.npy", noise(4, 4))
    # All is imported before the user changes, who may not be allowed to read the modules.
    code = (
        "import os, sys\n"
        "from fasttile.sources import open_source\n"
        "open_source(sys.argv[2]).close()\n"
        "os.setuid(65534)\n"
        "try: open_source(sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    run = [sys.executable, "-c", code, str(path), str(tmp_path / "warm up.npy")]
    said = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert said == f"SourceError {path} cannot be opened: Permission denied\n"


@ON_LINUX
def test_no_file_stays_open(tmp_path: Path) -> None:
    npy, bmp, png = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    with npy.open("wb") as file:
        np.save(file, noise(9, 9))
    Image.fromarray(noise(9, 9, 3)).save(bmp, "BMP")
    Image.fromarray(noise(9, 9, 3)).save(png, "PNG")
    Image.fromarray(noise(9, 9, 3)).save(tmp_path / "warm up.tif")
    read_pixels(tmp_path / "warm up.tif")
    before = _open_files()
    for path in (npy, bmp, png):
        read_pixels(path)
        with pytest.raises(OptionError):
            open_source(path, region=Region(0, 0, 10, 10))
        with pytest.raises(SourceError):
            open_source(path, raw="1000x1000x1")
        source = open_source(path)
        rows = source.rows(0, 9)
        source.close()
        source.close()
        del rows, source
    assert _open_files() == before


@pytest.mark.slow
@ON_LINUX
@pytest.mark.parametrize("kind", ["npy", "npy >u2", "bmp", "bmp region"])
def test_pages_are_dropped_behind_the_reader(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image"
    array = noise(1500, 2000, 3)
    if kind.startswith("npy"):
        with path.open("wb") as file:
            np.save(file, array.astype(">u2") if "u2" in kind else array)
    else:
        Image.fromarray(array).save(path, "BMP")
    region = Region(7, 8, 1900, 1400) if "region" in kind else None
    with open_source(path, region=region) as source:
        for y in range(0, source.height, source.preferred_rows):
            rows = source.rows(y, min(source.height, y + source.preferred_rows))
            if source.is_mapped:
                source.populate(rows)
                assert resident_bytes(path) >= rows.nbytes
                source.discard(rows)
            assert resident_bytes(path) < 1 << 16


@pytest.mark.parametrize("kind", ["npy", "bmp"])
@pytest.mark.parametrize("left", [0, 5000, -1])
def test_a_file_that_shrinks_is_an_error(tmp_path: Path, kind: str, left: int) -> None:
    path = tmp_path / "image"
    array = noise(300, 200, 3)
    if kind == "npy":
        with path.open("wb") as file:
            np.save(file, array)
    else:
        Image.fromarray(array).save(path, "BMP")
    size = path.stat().st_size
    with open_source(path) as source:
        rows = source.rows(0, 64)
        if source.is_mapped:
            source.populate(rows)
        os.truncate(path, left if left >= 0 else size - 1)
        with pytest.raises(SourceError, match=f"shrank while it was being read.*{size} needed"):
            source.populate(rows) if source.is_mapped else source.rows(64, 128)


def test_nothing_is_imported_that_is_not_needed(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", noise(4, 4))
    code = (
        "import sys, fasttile.sources as sources\n"
        "heavy = {'numpy', 'PIL', 'tifffile'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "sources.open_source(sys.argv[1]).close()\n"
        "assert heavy & set(sys.modules) == {'numpy'}\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.npy")], check=True)
