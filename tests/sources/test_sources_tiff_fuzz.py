"""Compressed TIFFs at random: only fasttile's errors come out, and no large array."""

from __future__ import annotations

import io
import tempfile
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fasttile.errors import FasttileError, SourceError
from fasttile.options.read import ReadOptions
from fasttile.sources.tiff import open_tiff
from fasttile.storage.random_access import DiskFile
from support.reading import noise, read_checked

pytest.importorskip("imagecodecs")

MAX_PIXELS = 1 << 20  # of an image, and of a tile
MAX_MEMORY_BYTES = 1 << 25  # that may be allocated for a file of a few hundred bytes


def _tiff(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, software=False, metadata=None, **options)
    return stream.getvalue()


def _pillow(array: Any, compression: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "TIFF", compression=compression)
    return stream.getvalue()


VALID_FILES: dict[str, bytes] = {
    "lzw": _tiff(noise(14, 15), compression="lzw", rowsperstrip=5),
    "deflate": _tiff(
        noise(20, 33, 3), photometric="rgb", compression="deflate", predictor=2, tile=(16, 16)
    ),
    "zstd": _tiff(
        noise(20, 9).astype("f4"), compression="zstd", predictor=3, bigtiff=True, byteorder=">"
    ),
    "planar": _tiff(
        noise(3, 14, 15), photometric="rgb", planarconfig="separate", compression="packbits"
    ),
    "jpeg": _tiff(noise(20, 33, 3), photometric="rgb", compression="jpeg", tile=(16, 16)),
    "webp": _tiff(noise(20, 33, 3), photometric="rgb", compression="webp", tile=(16, 16)),
    "jpeg2000": _tiff(noise(20, 33), compression="jpeg2000", tile=(16, 16)),
    "group 4": _pillow(noise(20, 33) > 99, "group4"),
    "packed bits": _pillow(noise(20, 33) > 99, "raw"),
    "palette": _tiff(
        noise(4, 5), photometric="palette", colormap=noise(3, 256, dtype="u2"), compression="lzw"
    ),
    "cmyk": _tiff(noise(14, 15, 4), photometric="separated", compression="lzw"),
}


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "image"


def assert_one_line(error: FasttileError) -> None:
    assert "\n" not in str(error)


def _try_to_read(path: Path, **options: Any) -> bool:
    """Open a file and read its first rows; only errors of fasttile may be raised."""
    file = DiskFile(path)
    threads = threading.active_count()
    tracemalloc.start()
    try:
        source = open_tiff(file, ReadOptions(max_pixels=MAX_PIXELS, **options))
        if source is None:
            return False
        with source:
            rows = source.rows(0, min(source.height, 50))
            if source.is_mapped:
                source.populate(rows)
            assert rows.shape[1:] == (source.width, source.bands)
            rows.max()
        return True
    except FasttileError as error:
        assert_one_line(error)
        return False
    finally:
        file.close()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < MAX_MEMORY_BYTES
        assert threading.active_count() == threads


@pytest.mark.parametrize("name", VALID_FILES)
def test_each_file_is_complete(path: Path, name: str) -> None:
    path.write_bytes(VALID_FILES[name])
    assert _try_to_read(path)


@pytest.mark.parametrize("name", VALID_FILES)
def test_a_file_that_ends_early_is_an_error_wherever_it_ends(path: Path, name: str) -> None:
    complete = VALID_FILES[name]
    end = len(complete) - 4  # those that say that there is no further page may be missing
    for length in {*range(4, min(end, 400), 11), *range(4, end, 197), end - 1}:
        path.write_bytes(complete[:length])
        file = DiskFile(path)
        try:
            with pytest.raises(SourceError) as caught:
                open_tiff(file, ReadOptions())
        finally:
            file.close()
        assert str(path) in str(caught.value)
        _try_to_read(path, allow_truncated=True)


numbers = st.one_of(
    st.integers(0, 255).map(lambda n: bytes([n])),
    st.sampled_from([0, 1, 5, 7, 8, 0x7FFF, 0xFFFF]).map(lambda n: n.to_bytes(2, "little")),
    st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1]).map(lambda n: n.to_bytes(4, "little")),
    st.sampled_from([2**63 - 1, 2**63, 2**64 - 1]).map(lambda n: n.to_bytes(8, "little")),
)


@pytest.mark.parametrize("name", VALID_FILES)
@settings(max_examples=30, deadline=20_000, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_bytes_changed_at_random(path: Path, name: str, data: st.DataObject) -> None:
    content = bytearray(VALID_FILES[name])
    for _ in range(data.draw(st.integers(1, 3), "changes")):
        at = data.draw(st.integers(0, min(len(content), 2000) - 1), "at")
        new = data.draw(numbers, "new")
        content[at : at + len(new)] = new
    content[:4] = VALID_FILES[name][:4]
    path.write_bytes(content)
    _try_to_read(path, allow_truncated=data.draw(st.booleans(), "allow_truncated"))


def test_rows_of_a_damaged_file_are_background(path: Path) -> None:
    path.write_bytes(VALID_FILES["lzw"][:-100])
    file = DiskFile(path)
    source = open_tiff(file, ReadOptions(allow_truncated=True, background=(0, 0, 0)))
    assert source is not None
    with source:
        assert (read_checked(source)[5:10] == 0).sum() > 5
        assert np.array_equal(read_checked(source)[:5, :, 0], noise(14, 15)[:5])
