"""Reading a source as the walk does, and checking on the way what every source promises."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttile.abc.source import Source
from fasttile.sources import open_source

Array = NDArray[Any]


def read_checked(source: Source) -> Array:
    """All rows of a source, from top to bottom in pieces of row_step."""
    out = np.zeros((source.height, source.width, source.bands), source.dtype)
    for y in range(0, source.height, source.preferred_rows):
        _read_rows(source, y, min(source.height, y + source.preferred_rows), out)
    if source.random_access:
        again = np.zeros_like(out)
        starts = list(range(0, source.height, 3))
        random.Random(source.height).shuffle(starts)
        for y in starts:
            _read_rows(source, y, min(source.height, y + 3), again)
        np.testing.assert_array_equal(again, out)
    return out


def _read_rows(source: Source, y0: int, y1: int, out: Array) -> None:
    rows = source.rows(y0, y1)
    assert rows.shape == (y1 - y0, source.width, source.bands)
    assert rows.dtype == source.dtype
    assert rows.dtype.isnative
    assert rows[0].flags.c_contiguous
    if source.is_mapped:
        source.populate(rows)
    out[y0:y1] = rows
    if source.is_mapped:
        source.discard(rows)


def read_pixels(image: object, **options: Any) -> Array:
    """All rows of a source, path or array; Default: the full window."""
    with open_source(image, **{"window": "full", **options}) as source:
        assert 1 <= source.bands <= 4
        assert source.has_alpha == (source.bands in (2, 4) and not source.is_cmyk)
        return read_checked(source)


def noise(*shape: int, dtype: Any = np.uint8) -> Array:
    """Random values over the full range of a dtype, the same for the same shape."""
    dtype = np.dtype(dtype)
    if dtype == np.bool_:
        return noise(*shape) > 127
    generator = np.random.default_rng(sum(shape))
    values = generator.integers(0, np.iinfo(dtype).max, shape, np.uint16, endpoint=True)
    return values.astype(dtype)


def to_8_bit(pixels: Array) -> Array:
    """The rule for the window "full", written down independently."""
    if pixels.dtype.itemsize == 1:
        return pixels
    return ((pixels.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8)


def resident_bytes(path: Path) -> int:
    """How many bytes of a file's maps this process has in memory (Linux)."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            inside = words[-1] == str(path)
        elif inside and words[0] == "Rss:":
            total += int(words[1]) * 1024
    return total


def build_tiff(
    blocks: list[bytes], tags: dict[int, tuple[int, ...]], order: list[int] | None = None
) -> bytes:
    """A classic little-endian TIFF by hand: numbers as LONG, blocks in any order in the file."""
    offsets = [0] * len(blocks)
    data = b""
    for number in order or range(len(blocks)):
        offsets[number] = 8 + len(data)
        data += blocks[number]
    places, sizes = (324, 325) if 322 in tags else (273, 279)
    entries = {**tags, places: tuple(offsets), sizes: tuple(map(len, blocks))}
    start = 8 + len(data) + len(data) % 2
    behind = start + 2 + 12 * len(entries) + 4
    directory, values = struct.pack("<H", len(entries)), b""
    for tag, numbers in sorted(entries.items()):
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(packed) > 4:
            place = struct.pack("<I", behind + len(values))
            values += packed
        else:
            place = packed
        directory += struct.pack("<HHI", tag, 4, len(numbers)) + place
    body = data + b"\0" * (len(data) % 2) + directory + struct.pack("<I", 0) + values
    return struct.pack("<2sHI", b"II", 42, start) + body


def smooth_pixels(height: int, width: int, bands: int) -> Array:
    """An image that JPEG hardly changes."""
    y, x = np.mgrid[:height, :width].astype(float)
    planes = [128 + 100 * np.sin((x * (1 + n) + y * (3 - n)) / 150) for n in range(bands)]
    return np.stack(planes, axis=-1).astype(np.uint8)
