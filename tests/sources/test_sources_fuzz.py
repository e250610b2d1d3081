"""Headers cut short and headers at random: only fasttile's errors come out, and no large array."""

from __future__ import annotations

import io
import struct
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fasttile.errors import FasttileError, SourceError
from fasttile.sources import open_source
from support.reading import build_tiff, noise, read_pixels

MAX_MEMORY_BYTES = 1 << 24  # bytes that may be allocated for a file of a few hundred


def _npy(version: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, noise(4, 5, 3), version)
    return stream.getvalue()


def _tiff(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, software=False, metadata=None, **options)
    return stream.getvalue()


def _pillow(array: Any, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


_PAM = b"P7\nWIDTH 5\nHEIGHT 4\nDEPTH 2\nMAXVAL 255\nTUPLTYPE GRAYSCALE_ALPHA\nENDHDR\n"
_V5 = struct.pack("<IiiHHIIiiII4I", 124, 5, -4, 1, 32, 3, 0, 0, 0, 0, 0, 0xFF0000, 0xFF00, 0xFF, 0)
_GREY = {256: (5,), 257: (4,), 258: (8,), 262: (1,), 277: (1,), 278: (2,)}

VALID_FILES: dict[str, bytes] = {
    "npy 1": _npy((1, 0)),
    "npy 2": _npy((2, 0)),
    "pgm": b"P5 # grey\n5 4\n255\n" + noise(4, 5).tobytes(),
    "ppm": b"P6\n5 4\n65535\n" + noise(4, 5, 6).tobytes(),
    "pam": _PAM + noise(4, 5, 2).tobytes(),
    "bmp": _pillow(noise(5, 4, 3), "BMP"),
    "bmp 5": struct.pack("<2sIHHI", b"BM", 218, 0, 0, 138) + _V5.ljust(124, b"\0") + bytes(80),
    "tiff": build_tiff([bytes(10), bytes(10)], _GREY),
    "tiff unordered": build_tiff([bytes(10), bytes(10)], _GREY, [1, 0]),
    "tiff tiles": _tiff(noise(20, 33, 3), photometric="rgb", tile=(16, 16)),
    "tiff planar": _tiff(noise(3, 4, 5), photometric="rgb", planarconfig="separate"),
    "tiff big": _tiff(noise(4, 5, dtype=np.uint16), bigtiff=True, byteorder=">"),
    "tiff palette": _tiff(noise(4, 5), photometric="palette", colormap=noise(3, 256, dtype="u2")),
    "tiff alpha": _tiff(noise(4, 5, 4), photometric="rgb", extrasamples=(1,)),
}


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "image"


def _header_size(name: str) -> int:
    """How far what is not pixels reaches, in a file whose pixels come last."""
    if name.startswith("tiff"):
        return min(len(VALID_FILES[name]), 300)
    return {"npy 1": 128, "npy 2": 128, "bmp": 54, "bmp 5": 138}.get(name, 80)


@pytest.mark.parametrize("name", VALID_FILES)
def test_each_file_is_complete(path: Path, name: str) -> None:
    path.write_bytes(VALID_FILES[name])
    assert read_pixels(path).size >= 20


@pytest.mark.parametrize("name", VALID_FILES)
def test_a_file_that_ends_early_is_an_error_wherever_it_ends(path: Path, name: str) -> None:
    complete = VALID_FILES[name]
    for length in {
        *range(1, min(len(complete), 400)),
        *range(1, len(complete), 53),
        len(complete) - 1,
    }:
        path.write_bytes(complete[:length])
        with pytest.raises(SourceError) as caught:
            open_source(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def _try_to_read(path: Path) -> None:
    """Open a file and read its first rows; only errors of fasttile may be raised."""
    tracemalloc.start()
    try:
        with open_source(path) as source:
            # A file is small, but its tiles can lie on each other many times over.
            if source.width * source.bands <= 10**4:
                rows = source.rows(0, min(source.height, 50))
                if source.is_mapped:
                    source.populate(rows)
                assert rows.sum(dtype=np.int64) >= 0
    except FasttileError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < MAX_MEMORY_BYTES


numbers = st.one_of(
    st.integers(0, 255).map(lambda n: bytes([n])),
    st.sampled_from([0, 1, 0x7FFF, 0xFFFF]).map(lambda n: struct.pack("<H", n)),
    st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1]).map(lambda n: struct.pack("<I", n)),
    st.sampled_from([2**63 - 1, 2**63, 2**64 - 1]).map(lambda n: struct.pack("<Q", n)),
    st.sampled_from([b"9999999999", b"-1", b"1e9", b" ", b"#", b"\n", b"(", b"'", b"\\", b"L"]),
)


@pytest.mark.parametrize("name", VALID_FILES)
@settings(max_examples=60, deadline=20_000, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_headers_changed_at_random(path: Path, name: str, data: st.DataObject) -> None:
    content = bytearray(VALID_FILES[name])
    for _ in range(data.draw(st.integers(1, 3), "changes")):
        at = data.draw(st.integers(0, _header_size(name) - 1), "at")
        new = data.draw(numbers, "new")
        content[at : at + len(new)] = new
    path.write_bytes(content)
    _try_to_read(path)


@settings(max_examples=100, deadline=20_000, suppress_health_check=list(HealthCheck))
@given(
    start=st.sampled_from([b"", b"\x93NUMPY", b"P5", b"P6", b"P7\n", b"BM", b"II*\0", b"MM\0+"]),
    rest=st.binary(max_size=200),
)
@example(b"\x93NUMPY", b"\1\0\x0a\0{'descr': ")
@example(b"\x93NUMPY", b"\1\0\xff\x0f" + b"(" * 4095)
@example(b"II*\0", b"\x08\0\0\0\1\0" + b"\xff" * 12)
def test_files_at_random(path: Path, start: bytes, rest: bytes) -> None:
    path.write_bytes(start + rest + b"\0")
    _try_to_read(path)


@pytest.mark.parametrize(
    "content",
    [
        b"P5 2147483648 2147483648 255\n",
        b"P6 999999999999999999 999999999999999999 65535\n",
        b"\x93NUMPY\1\0\x7e\0"
        + b"{'descr': '|u1', 'fortran_order': False, 'shape': (2147483648, 2147483648)}".ljust(126),
        b"\x93NUMPY\1\0\x7e\0"
        + b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 2)}".ljust(126),
        b"\x93NUMPY\1\0\x7e\0"
        + b"{'descr': '|u1', 'fortran_order': False, 'shape': (2, -1)}".ljust(126),
    ],
)
def test_large_images_are_refused_before_anything_is_allocated(path: Path, content: bytes) -> None:
    path.write_bytes(content + b"some pixels")
    tracemalloc.start()
    try:
        with pytest.raises(SourceError):
            open_source(path)
        assert tracemalloc.get_traced_memory()[1] < MAX_MEMORY_BYTES
    finally:
        tracemalloc.stop()
