"""JPEGs with restart markers, decoded in chunks on threads: pixels and errors of one decoder."""

from __future__ import annotations

import io
import math
import random
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fasttile import pillow_core
from fasttile.errors import SourceError
from fasttile.options.read import ReadOptions
from fasttile.sources import open_source
from fasttile.sources import pillow as pillow_source
from fasttile.sources.pillow import segments
from support.reading import noise
from support.reference import Array

pytestmark = pytest.mark.usefixtures("no_leaked_thread", "deadlock_timeout")

SUBSAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}
MCU_SIZES = {"4:4:4": (8, 8), "4:2:2": (16, 8), "4:2:0": (16, 16), "grey": (8, 8), "cmyk": (8, 8)}
"""Width and height of an MCU in pixels."""


@contextmanager
def processors(count: int) -> Iterator[None]:
    """As on a machine with a number of processors; chunks are as small as can be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pillow_source, "cpu_count", lambda: count)
        patch.setattr(segments, "CHUNK_BYTES", 1)
        yield


def jpeg(width: int, height: int, kind: str = "4:2:0", **options: Any) -> bytes:
    """An image of smooth colours and noise, by Pillow."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    smooth = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256, y % 256], axis=-1)
    samples = (smooth * 3 // 4 + noise(height, width, 4) // 4).astype(np.uint8)
    image = Image.frombytes("CMYK", (width, height), samples.tobytes())
    if kind != "cmyk":
        image = Image.fromarray(samples[..., :3]).convert("L" if kind == "grey" else "RGB")
    stream = io.BytesIO()
    options = {"quality": 90, **options}
    image.save(stream, "JPEG", subsampling=SUBSAMPLINGS.get(kind, 0), **options)
    return stream.getvalue()


def result_of(path: Path, count: int, *, allow_truncated: bool = False) -> tuple[Any, ...]:
    """Pixels and error that a number of processors give; whether threads were to decode."""
    with (
        processors(count),
        open_source(path, read_options=ReadOptions(allow_truncated=allow_truncated)) as source,
    ):
        found: list[Array] = []
        error = ""
        try:
            for y in range(0, source.height, 23):
                found.append(source.rows(y, min(source.height, y + 23)).copy())
        except SourceError as failure:
            error = f"{type(failure).__name__}: {failure}"
        warnings = list(source.metadata.warnings)
        pixels = np.concatenate(found).tobytes() if found else b""
        return "threads" in source.metadata.read_mode, pixels, error, warnings


def assert_as_plain(path: Path, data: bytes, *, used: bool | None = True) -> None:
    """The same pixels, or the same ones up to the same error."""
    path.write_bytes(data)
    for allow_truncated in (False, True):
        chunks, *found = result_of(path, 16, allow_truncated=allow_truncated)
        plain, *expected = result_of(path, 2, allow_truncated=allow_truncated)
        assert used in (None, chunks)
        assert not plain
        assert found == expected


# ---- the pixels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MCU_SIZES)
@pytest.mark.parametrize("mcu_rows", [1, 2, 3])
def test_the_pixels_are_pillows(tmp_path: Path, kind: str, mcu_rows: int) -> None:
    path = tmp_path / "image.jpg"
    across, down = MCU_SIZES[kind]
    for width, rows in ((across * 5, 24), (across * 5 + 1, 25), (across * 6 - 1, 40)):
        for height in (rows * down, rows * down + 1, rows * down - 1):
            path.write_bytes(jpeg(width, height, kind, restart_marker_rows=mcu_rows))
            with Image.open(path) as image:
                image.load()
                mode = "L" if kind == "grey" else "RGB"
                expected = np.asarray(image.convert(mode)).tobytes()
            assert result_of(path, 16) == (True, expected, "", [])


@pytest.mark.parametrize("blocks", range(1, 25))
def test_intervals_of_any_number_of_mcus(tmp_path: Path, blocks: int) -> None:
    data = jpeg(16 * 6 - 5, 16 * 40 + 3, restart_marker_blocks=blocks)
    unit = blocks // math.gcd(blocks, 6)  # in MCU rows; two chunks of at least four have 41
    assert_as_plain(tmp_path / "image.jpg", data, used=8 * unit <= 41)


def with_factors(data: bytes, factors: int) -> bytes:
    """The same blocks, said to be subsampled in another way."""
    at = data.index(b"\xff\xc0") + 11
    return data[:at] + bytes([factors]) + data[at + 1 :]


@pytest.mark.parametrize(("kind", "factors"), [("4:2:2", 0x12), ("4:2:0", 0x41), ("4:2:0", 0x14)])
def test_unusual_subsamplings(tmp_path: Path, kind: str, factors: int) -> None:
    data = jpeg(128, 384, kind, restart_marker_blocks=2)
    assert_as_plain(tmp_path / "image.jpg", with_factors(data, factors))


@pytest.mark.parametrize("options", [{"keep_rgb": True}, {"optimize": True}, {"quality": 100}])
def test_other_streams(tmp_path: Path, options: dict[str, Any]) -> None:
    data = jpeg(77, 555, "4:4:4", restart_marker_rows=1, icc_profile=bytes(70_000), **options)
    assert_as_plain(tmp_path / "image.jpg", data)


@pytest.mark.parametrize("page", [1, 2])
@pytest.mark.parametrize("count", [1, 4])
def test_images_of_cameras_with_several_in_a_file(tmp_path: Path, page: int, count: int) -> None:
    path = tmp_path / "image.jpg"
    first, second = (
        Image.open(io.BytesIO(jpeg(77, 555, restart_marker_rows=1))).rotate(turn)
        for turn in (0, 180)
    )
    first.save(path, "MPO", save_all=True, append_images=[second], restart_marker_rows=1)
    with Image.open(path) as image:
        assert image.format == "MPO"
        image.seek(page - 1)
        expected = np.asarray(image)
    with processors(count), open_source(path, read_options=ReadOptions(page=page)) as source:
        assert source.metadata.pages == 2
        wanted = "streamed: decoded " + ("on 2 threads" if count == 4 else "row by row")
        assert source.metadata.read_mode.startswith(wanted)
        np.testing.assert_array_equal(source.rows(0, 555), expected)


@pytest.mark.slow
def test_chunks_of_the_usual_size_and_a_reader_that_falls_behind(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(jpeg(1001, 5003, restart_marker_rows=1, quality=30))
    with Image.open(path) as image:
        expected = np.asarray(image)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pillow_source, "cpu_count", lambda: 6)
        with open_source(path) as source:
            assert "on 3 threads" in source.metadata.read_mode
            for y in range(0, 5003, 501):
                end = min(5003, y + 501)
                np.testing.assert_array_equal(source.rows(y, end), expected[y:end])


# ---- where it is not used ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("no markers", {}),
        ("progressive", {"progressive": True, "restart_marker_rows": 1}),
        ("long intervals", {"restart_marker_blocks": 61}),
    ],
)
def test_other_jpegs_are_decoded_as_ever(
    tmp_path: Path, case: str, options: dict[str, Any]
) -> None:
    assert_as_plain(tmp_path / "image.jpg", jpeg(96, 640, **options), used=False)


def test_few_rows_or_processors_are_decoded_as_ever(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    assert_as_plain(path, jpeg(96, 100, restart_marker_rows=1), used=False)
    path.write_bytes(jpeg(96, 640, restart_marker_rows=1))
    assert [result_of(path, count)[0] for count in (1, 2, 3, 4, 64)] == [False] * 3 + [True] * 2


@pytest.mark.parametrize("change", ["other pixels", "other signature"])
def test_another_pillow_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    decode = pillow_core.decode_jpeg

    def changed(image: Any, data: bytes, rows: Array) -> bool:
        if change == "other signature":
            raise TypeError
        done = decode(image, data, rows)
        rows[-1, -5] ^= 1
        return done

    segments.supports_chunks.cache_clear()
    monkeypatch.setattr(pillow_core, "decode_jpeg", changed)
    try:
        path = tmp_path / "image.jpg"
        assert_as_plain(path, jpeg(96, 640, restart_marker_rows=1), used=False)
    finally:
        segments.supports_chunks.cache_clear()


@pytest.mark.parametrize("begun", [0, 3])
def test_without_threads_the_plain_decoder_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: int
) -> None:
    assert segments.supports_chunks()
    submit, calls = ThreadPoolExecutor.submit, iter(range(10**6))

    def refuse(self: Any, *arguments: Any) -> Any:
        if next(calls) >= begun:
            raise RuntimeError("can't start new thread")
        return submit(self, *arguments)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    assert_as_plain(tmp_path / "image.jpg", jpeg(96, 640, restart_marker_rows=1))


# ---- damage --------------------------------------------------------------------------------------


def markers_of(data: bytes) -> list[int]:
    """Offsets of the restart markers."""
    start = data.index(b"\xff\xda")
    return [
        at for at in range(start, len(data) - 1) if data[at] == 255 and 0xD0 <= data[at + 1] < 0xD8
    ]


@pytest.mark.parametrize("kind", ["4:2:0", "grey"])
def test_files_that_are_cut_short(tmp_path: Path, kind: str) -> None:
    data = jpeg(80, 700, kind, restart_marker_rows=1)
    marks = markers_of(data)
    ends = [*(marks[len(marks) // 2] + step for step in range(4)), len(data) - 2, len(data) - 1]
    ends += range(data.index(b"\xff\xda") + 20, len(data), len(data) // 9)
    for end in ends:
        assert_as_plain(tmp_path / "image.jpg", data[:end], used=None)


@pytest.mark.parametrize("which", [0, 9, 20, -1])
def test_wrong_markers(tmp_path: Path, which: int) -> None:
    data = jpeg(80, 700, restart_marker_rows=1)
    at = markers_of(data)[which]
    for other in (
        *(data[:at] + bytes([255, value]) + data[at + 2 :] for value in (0xD3, 0xD7, 0xD9, 0xC4)),
        data[:at] + data[at + 2 :],
        data[:at] + data[at : at + 2] + data[at:],
        data[:at] + b"\xff" + data[at:],
        data[:at] + b"extra" + data[at:],
    ):
        assert_as_plain(tmp_path / "image.jpg", other)


def test_wrong_data_between_markers(tmp_path: Path) -> None:
    chance = random.Random(5)
    data = jpeg(80, 700, restart_marker_rows=1)
    start = data.index(b"\xff\xda") + 14
    for _ in range(25):
        damaged = bytearray(data)
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(start, len(data))] = chance.randrange(256)
        assert_as_plain(tmp_path / "image.jpg", bytes(damaged))


def test_headers_that_contradict_themselves(tmp_path: Path) -> None:
    data = jpeg(80, 700, restart_marker_rows=1)
    frame = data.index(b"\xff\xc0")
    interval = data.index(b"\xff\xdd")
    for at, value in ((frame + 5, 690), (frame + 5, 720), (frame + 7, 90), (interval + 4, 10)):
        other = data[:at] + struct.pack(">H", value) + data[at + 2 :]
        assert_as_plain(tmp_path / "image.jpg", other, used=None)
    assert_as_plain(tmp_path / "image.jpg", data + b"more", used=True)
