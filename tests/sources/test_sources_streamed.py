"""Streamed images: the same pixels as Pillow's load, few of them held, and how far they came."""

from __future__ import annotations

import io
import mmap
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fasttile import _pages, pillow_core
from fasttile.errors import SourceError, TruncatedError
from fasttile.geometry import Region
from fasttile.options.read import ReadOptions
from fasttile.sources import open_source
from fasttile.sources import pillow as pillow_source
from fasttile.sources.pillow import decoder as decode
from fasttile.sources.pillow import decoder as inflate
from fasttile.sources.pillow import decoder as marks
from fasttile.sources.pillow import streaming as streamed
from fasttile.storage import memory
from fasttile.storage.memory import PixelBuffer
from support.reading import noise, read_checked, read_pixels
from support.sampling import sampled

HEIGHT, WIDTH = 150, 131  # more rows than any JPEG decoder holds back


@pytest.fixture(params=["by hand", "by load"], autouse=False)
def read_mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to decode: driven by hand, and as where Pillow is not as we know it."""
    if request.param == "by load":
        monkeypatch.setattr(pillow_source, "supports_row_decoding", lambda: False)
    return str(request.param)


def _image(mode: str, height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    """Smooth colours with some noise, in a mode."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    smooth = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256, 255 - y % 256], -1)
    samples = (smooth * 3 // 4 + noise(height, width, 4) // 4).astype(np.uint8)
    if mode.startswith("I;16"):
        return Image.fromarray(noise(height, width, dtype=np.uint16))
    if mode in ("RGBA", "CMYK"):
        return Image.frombytes(mode, (width, height), samples.tobytes())
    if mode == "LA":
        return Image.merge("LA", [Image.fromarray(samples[..., band]) for band in (0, 3)])
    return Image.fromarray(samples[..., :3]).convert(mode)


def _encode_image(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _decode_by_pillow(data: bytes) -> Any:
    """What Pillow's own load and conversions give, with as many bands as a source would have."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        transparent = "transparency" in image.info
        if image.mode.startswith("I;16"):
            wide = np.asarray(image).astype(np.int64)
            return ((wide * 255 + 32767) // 65535).astype(np.uint8)[..., None]
        grey = image.mode in ("1", "L", "LA")
        alpha = transparent or image.mode in ("LA", "RGBA")
        wanted = ("LA" if alpha else "L") if grey else ("RGBA" if alpha else "RGB")
        converted = np.asarray(image if image.mode == wanted else image.convert(wanted))
        return converted.reshape(*converted.shape[:2], -1)


STREAMED_FORMATS = {
    **{f"png {mode}": ("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")},
    "png key": ("PNG", "RGB", {"transparency": (12, 13, 14)}),
    "png grey key": ("PNG", "L", {"transparency": 77}),
    "png palette key": ("PNG", "P", {"transparency": bytes(range(256))}),
    "png 4 bit": ("PNG", "P", {"bits": 4}),
    **{f"jpeg {mode}": ("JPEG", mode, {}) for mode in ("L", "RGB", "CMYK")},
    "jpeg 4:4:4": ("JPEG", "RGB", {"subsampling": 0}),
    "jpeg 4:2:2": ("JPEG", "RGB", {"subsampling": 1}),
    "jpeg rgb": ("JPEG", "RGB", {"keep_rgb": True}),
    "jpeg restarts": ("JPEG", "RGB", {"restart_marker_blocks": 3}),
    "jpeg optimised": ("JPEG", "RGB", {"optimize": True}),
    **{f"pcx {mode}": ("PCX", mode, {}) for mode in ("1", "L", "P", "RGB")},
    "tga": ("TGA", "RGB", {"compression": "tga_rle", "orientation": 1}),
    "tga raw": ("TGA", "RGB", {"orientation": 1}),
}
UNSTREAMED_FORMATS = {
    "jpeg progressive": ("JPEG", "RGB", {"progressive": True}),
    "png narrow": ("PNG", "L", {}),
    "webp": ("WEBP", "RGB", {}),
    "webp alpha": ("WEBP", "RGBA", {"lossless": True}),
    "gif": ("GIF", "P", {}),
    "jpeg 2000": ("JPEG2000", "RGB", {}),
    "tiff lzw": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "tga upwards": ("TGA", "RGB", {"orientation": -1}),
    "tga alpha": ("TGA", "RGBA", {"compression": "tga_rle", "orientation": 1}),
    "bmp": ("BMP", "P", {}),
    "sgi": ("SGI", "RGB", {}),
    "avif": ("AVIF", "RGB", {}),
    "qoi": ("QOI", "RGBA", {}),
}


def _encoded_file(name: str) -> bytes:
    kind, mode, options = {**STREAMED_FORMATS, **UNSTREAMED_FORMATS}[name]
    image = _image(mode, HEIGHT, 20) if "narrow" in name else _image(mode)
    return _encode_image(image, kind, **options)


@pytest.mark.parametrize("name", [*STREAMED_FORMATS, *UNSTREAMED_FORMATS])
def test_the_pixels_are_pillows(tmp_path: Path, read_mode: str, name: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(_encoded_file(name))
    with open_source(path, window="full") as source:
        streams = "streamed" in source.metadata.read_mode
        assert streams == (name in STREAMED_FORMATS and read_mode == "by hand")
        np.testing.assert_array_equal(read_checked(source), _decode_by_pillow(_encoded_file(name)))


@pytest.mark.parametrize("name", ["png RGB", "jpeg RGB", "jpeg L", "png P", "png LA", "png I;16"])
def test_rows_in_any_steps_and_regions(tmp_path: Path, name: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(_encoded_file(name))
    expected = _decode_by_pillow(_encoded_file(name))
    for step in (1, 7, 64, 149, 150):
        with open_source(path, window="full") as source:
            for y in range(0, HEIGHT, step):
                rows = source.rows(y, min(HEIGHT, y + step))
                np.testing.assert_array_equal(rows, expected[y : y + step])
    for region in (Region(0, 0, 1, 1), Region(130, 149, 1, 1), Region(20, 30, 77, 90)):
        cut = expected[region.y : region.bottom, region.x : region.right]
        np.testing.assert_array_equal(read_pixels(path, region=region), cut)


def test_what_is_skipped_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(_encoded_file("png RGB"))
    with open_source(path) as source:
        np.testing.assert_array_equal(
            source.rows(140, 150), _decode_by_pillow(_encoded_file("png RGB"))[140:]
        )


@pytest.mark.slow
def test_no_thread_is_left_and_none_is_begun_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "image"
    image = _image("RGB", 3000, 700)
    image.save(path, "PNG")
    before = threading.active_count()
    with open_source(path) as source:
        assert threading.active_count() == before
        source.rows(0, 10)
    assert threading.active_count() == before


def _resident_bytes(array: Any) -> int:
    """How many bytes of the memory under an array this process has."""
    start = array.__array_interface__["data"][0]
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            first, last = (int(place, 16) for place in words[0].split("-"))
            inside = first < start + array.nbytes and start < last
        elif inside and words[0] == "Rss:":
            total += int(words[1]) * 1024
    return total


@pytest.mark.slow
@pytest.mark.parametrize("mode", sampled(["L", "RGB"], ["RGB"]))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_few_of_the_rows_are_held(tmp_path: Path, kind: str, mode: str) -> None:
    path = tmp_path / "image"
    side = 5000
    # As blank as can be: most rows for a byte.
    Image.new("RGB", (side, side), (77, 77, 77)).convert(mode).save(path, kind)
    most = 0
    with open_source(path) as source:
        for y in range(0, side, 250):
            rows = source.rows(y, y + 250)
            assert (rows == 77).all()
            room = getattr(source, "_base", source)._pixel_buffer.bytes
            most = max(most, _resident_bytes(room))
        assert most < min(source.memory_bytes + 2 * 2**20, 64 * 2**20)
    assert most > 2**20


LENT_FORMATS = ["jpeg RGB", "jpeg L", "png RGB", "png L", "png RGBA"]
COPIED_FORMATS = ["png P", "png LA", "png key", "png I;16", "tga raw", "pcx RGB", "jpeg CMYK"]


@pytest.mark.parametrize("name", [*LENT_FORMATS, *COPIED_FORMATS])
def test_rows_are_lent_where_they_need_no_conversion(tmp_path: Path, name: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(_encoded_file(name))
    expected = _decode_by_pillow(_encoded_file(name))
    with open_source(path, window="full") as source:
        lender = source.lender()
        assert (lender is not None) == (name in LENT_FORMATS)
        if lender is None:
            return
        assert lender.bands == (4 if source.bands == 3 else source.bands)
        spans = [(0, 40), (38, 90), (88, HEIGHT), (140, HEIGHT)]
        lent = [lender.lend(*span) for span in spans]
        for (y0, y1), rows in zip(spans, lent, strict=True):  # all are there until they are back
            np.testing.assert_array_equal(rows[..., : source.bands], expected[y0:y1])
            assert (rows[..., source.bands :] == 255).all()
            lender.give_back(y0)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_lender_of_a_damaged_file_says_how_far_it_came(tmp_path: Path, damaged: bool) -> None:
    path = tmp_path / "image"
    data = _encode_image(_image("RGB", 600, 500), "JPEG")
    path.write_bytes(data[: len(data) // 2] if damaged else data)
    with open_source(path) as source:
        lender = source.lender()
        assert lender is not None
        if not damaged:
            assert len(lender.lend(0, 600)) == 600
            return
        lender.lend(0, 100)
        with pytest.raises(TruncatedError, match="rows are there") as by_lending:
            lender.lend(90, 600)
    with open_source(path) as source:
        source.rows(0, 100)
        with pytest.raises(TruncatedError) as by_copying:
            source.rows(100, 600)
    assert str(by_lending.value) == str(by_copying.value)


@pytest.mark.slow
def test_few_of_the_lent_rows_are_held(tmp_path: Path) -> None:
    path = tmp_path / "image"
    Image.new("RGB", (5000, 5000), (77, 77, 77)).save(path, "JPEG")
    most = 0
    with open_source(path) as source:
        lender = source.lender()
        assert isinstance(lender, streamed.StreamingSource)
        for y in range(0, 5000, 250):
            assert (lender.lend(max(0, y - 250), y + 250)[..., :3] == 77).all()
            if y:
                lender.give_back(max(0, y - 500))  # one request is always out
            most = max(most, _resident_bytes(lender._pixel_buffer.bytes))
        assert 2**20 < most < source.memory_bytes + 500 * 20_000 + 2 * 2**20


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Memory moves in blocks of two pages, as early as can be; the results of all moves."""
    results: list[int] = []
    move = _pages.move

    def moved(start: int, to: int, size: int) -> int:
        results.append(move(start, to, size))
        return results[-1]

    assert memory._can_move_pages() == (sys.platform == "linux")
    monkeypatch.setattr(_pages, "move", moved)
    monkeypatch.setattr(memory, "_HUGE_PAGE_BYTES", mmap.PAGESIZE)
    monkeypatch.setattr(memory, "_BLOCK_BYTES", 2 * mmap.PAGESIZE)
    monkeypatch.setattr(decode, "RELEASE_BYTES", 1)
    monkeypatch.setattr(streamed, "RELEASE_BYTES", 1)
    monkeypatch.setattr(streamed, "MAX_AHEAD_BYTES", 2**16)
    monkeypatch.setattr(decode, "INPUT_CHUNK_BYTES", 1000)
    monkeypatch.setattr(decode, "MAX_INPUT_CHUNK_BYTES", 1000)
    return results


@pytest.mark.parametrize("can_move", [True, False])
@pytest.mark.parametrize(("kind", "width"), [("JPEG", 501), ("JPEG", 33), ("PNG", 701)])
def test_memory_of_used_rows_is_used_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_blocks: list[int],
    kind: str,
    width: int,
    can_move: bool,
) -> None:
    if not can_move:
        monkeypatch.setattr(_pages, "move", lambda *place: small_blocks.append(1) or 1)
    path = tmp_path / "image"
    height = 300_000 // width + 500
    path.write_bytes(_encode_image(_image("RGB", height, width), kind))
    expected = _decode_by_pillow(path.read_bytes())
    for step, skipped in ((16, 0), (37, 5), (200, 150)):
        with open_source(path) as source:
            for y in range(0, height, step + skipped):
                end = min(height, y + step)
                np.testing.assert_array_equal(source.rows(y, end), expected[y:end])
        with open_source(path) as source:
            lender = source.lender()
            assert lender is not None
            held: list[tuple[int, Any]] = []
            for y in range(0, height, step):
                end = min(height, y + step + 3)
                held.append((y, lender.lend(y, end)))
                for start, rows in held:
                    np.testing.assert_array_equal(rows[..., :3], expected[start:][: len(rows)])
                if len(held) == 3:
                    lender.give_back(held.pop(0)[0])
    assert (0 in small_blocks) == (can_move and sys.platform == "linux")


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_rows_of_damaged_files_are_known_where_memory_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "image"
    data = _encode_image(_image("RGB", 900, 501), kind)
    for part in (0.5, 0.8, 0.95):
        path.write_bytes(data[: int(part * len(data))])
        messages = []
        for can_move in (True, False):
            monkeypatch.setattr(memory, "_can_move_pages", lambda can_move=can_move: can_move)
            with open_source(path) as source, pytest.raises(TruncatedError) as error:  # noqa: PT012
                for y in range(0, 900, 20):
                    source.rows(y, y + 20)
            messages.append(str(error.value))
        assert messages[0] == messages[1]


@pytest.mark.skipif(sys.platform != "linux", reason="no other system moves pages")
def test_a_block_moves_with_what_it_holds(small_blocks: list[int]) -> None:
    page = mmap.PAGESIZE
    room = PixelBuffer(9 * page, "test", on_disk=False)
    room.bytes[: 4 * page] = np.repeat([1, 2, 3, 4], page)
    assert room.move_block(0, 2 * page - 1, 5 * page) is None  # no block
    assert room.move_block(0, 2 * page, 7 * page) is None  # no place
    assert room.move_block(0, 3 * page, 5 * page) == (2 * page, 6 * page, 8 * page)
    assert small_blocks == [0]
    assert room.bytes[::page].tolist() == [0, 0, 3, 4, 0, 0, 1, 2, 0]
    room.bytes[:page] = 9  # what has moved away can be written again
    assert room.bytes[6 * page] == 1


# How far the rows have come is known, not guessed.


def _decoder(data: bytes, kind: type[Any]) -> decode.RowDecoder:
    image = kind(io.BytesIO(data))
    assert decode.is_row_decodable(image)
    size = image.width * image.height * pillow_core.pixel_bytes(image.mode)
    return decode.RowDecoder(image, PixelBuffer(size, "test"))


def _format_of(name: str) -> type[Any]:
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    return PngImageFile if name.startswith("png") else JpegImageFile


@pytest.mark.parametrize("name", [name for name in STREAMED_FORMATS if name[:3] in ("png", "jpe")])
@pytest.mark.parametrize("piece", sampled([1, 50, 1000, 2**14], [50, 2**14]))
def test_no_row_is_known_too_early(monkeypatch: pytest.MonkeyPatch, name: str, piece: int) -> None:
    data = _encoded_file(name)
    if piece == 1:
        data = _encode_image(
            _image(STREAMED_FORMATS[name][1], 40, 140),
            STREAMED_FORMATS[name][0],
            **STREAMED_FORMATS[name][2],
        )
    complete = _decoder(data, _format_of(name))
    while complete.decode_more():
        pass
    complete.close()
    monkeypatch.setattr(decode, "INPUT_CHUNK_BYTES", piece)
    monkeypatch.setattr(decode, "MAX_INPUT_CHUNK_BYTES", piece)
    monkeypatch.setattr(inflate, "MAX_BLOCK_BYTES", piece)
    decoder = _decoder(data, _format_of(name))
    known = 0
    going_on = True
    while going_on:
        going_on = decoder.decode_more()
        assert decoder.rows >= known
        new = slice(known, decoder.rows)
        np.testing.assert_array_equal(decoder.pixels[new], complete.pixels[new])
        known = decoder.rows
    decoder.close()
    assert known == len(complete.pixels)


@pytest.mark.parametrize("mark", [bytes(32), b"\xff" * 32, b"\x4d" * 32])
@pytest.mark.parametrize("value", [0, 77, 255])
def test_an_image_like_the_mark_is_known_late_not_early(
    monkeypatch: pytest.MonkeyPatch, mark: bytes, value: int
) -> None:
    monkeypatch.setattr(marks.os, "urandom", lambda count: mark)
    monkeypatch.setattr(decode, "INPUT_CHUNK_BYTES", 7)
    monkeypatch.setattr(inflate, "MAX_BLOCK_BYTES", 77)
    image = _image("L", 400, 60)
    image.paste(value, (0, 100, 60, 370))
    decoder = _decoder(_encode_image(image, "PNG"), _format_of("png"))
    while decoder.decode_more():
        assert not 100 < decoder.rows < 370 or mark[0] != value
        np.testing.assert_array_equal(
            decoder.pixels[: decoder.rows], np.asarray(image)[: decoder.rows]
        )
    decoder.close()
    np.testing.assert_array_equal(decoder.pixels, np.asarray(image))


def test_more_rows_at_a_time_than_were_thought_possible_are_known_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decode, "MAX_EXPANSION", 1)
    monkeypatch.setattr(decode, "_MAX_EXPANSION_INFLATED", 0)
    monkeypatch.setattr(marks, "JPEG_ROWS_HELD_BACK", 1)
    image = _image("L", 900, 600)
    blank = Image.new("L", (600, 900), 3)
    for content, expected in (
        (_encode_image(blank, "PNG"), 3),
        (_encode_image(image, "PNG"), image),
    ):
        decoder = _decoder(content, _format_of("png"))
        while decoder.decode_more():
            assert decoder.rows < 900
        decoder.close()
        assert decoder.rows == 900
        np.testing.assert_array_equal(
            decoder.pixels, np.broadcast_to(np.asarray(expected), (900, 600))
        )


# Damage: how far it came, and what is there of it.


@pytest.mark.parametrize("name", ["png RGB", "png P", "jpeg RGB", "jpeg L", "jpeg CMYK", "pcx RGB"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_file_that_ends_early_reports_its_last_row(
    tmp_path: Path, name: str, share: float
) -> None:
    path = tmp_path / "image"
    data = _encoded_file(name)
    path.write_bytes(data[: int(len(data) * share)])
    expected = _decode_by_pillow(data)
    with open_source(path) as source:
        y = 0
        with pytest.raises(TruncatedError) as caught:  # noqa: PT012
            while True:
                np.testing.assert_array_equal(source.rows(y, y + 1)[0], expected[y])
                y += 1
        assert y == caught.value.rows
    text = str(caught.value)
    assert f"{caught.value.rows} of {HEIGHT} rows are there (--allow-truncated" in text
    assert text.startswith(f"{path}: broken {source.metadata.format}: ")
    assert 0 < caught.value.rows < HEIGHT


@pytest.mark.parametrize("name", ["png RGB", "png P", "jpeg RGB", "jpeg L", "png LA", "png RGBA"])
def test_what_is_there_is_taken_on_the_background(tmp_path: Path, name: str) -> None:
    path = tmp_path / "image"
    data = _encoded_file(name)
    path.write_bytes(data[: len(data) * 3 // 4])
    reading = ReadOptions(allow_truncated=True, background=(10, 20, 30))
    expected = _decode_by_pillow(data)
    with open_source(path, read_options=reading) as source:
        got = read_checked(source)
        (remark,) = source.metadata.warnings
    rows = int(remark.split()[1])
    assert remark == f"only {rows} of {HEIGHT} rows are there, the rest is background"
    assert 0 < rows < HEIGHT
    np.testing.assert_array_equal(got[:rows], expected[:rows])
    ground = {1: (18,), 2: (0, 0), 3: (10, 20, 30), 4: (0, 0, 0, 0)}[got.shape[2]]
    assert (got[rows:] == ground).all()


def test_a_whole_image_that_may_be_truncated_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(_encoded_file("jpeg RGB"))
    got = read_pixels(path, read_options=ReadOptions(allow_truncated=True))
    np.testing.assert_array_equal(got, _decode_by_pillow(_encoded_file("jpeg RGB")))


def test_a_progressive_jpeg_that_ends_early(tmp_path: Path) -> None:
    path = tmp_path / "image"
    data = _encoded_file("jpeg progressive")
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match=r"broken JPEG.*--allow-truncated cuts what is there"):
        read_pixels(path)
    reading = ReadOptions(allow_truncated=True, background=(10, 20, 30))
    with open_source(path, read_options=reading) as source:
        assert read_checked(source).shape == (HEIGHT, WIDTH, 3)
        assert "damaged, and cut as far as" in source.metadata.warnings[0]


def _truncated_jpeg(share: float, marker: bytes) -> bytes:
    data = _encoded_file("jpeg RGB")
    scan = data.index(b"\xff\xda")
    at = scan + int((len(data) - scan) * share)
    at -= data[at - 1] == 0xFF
    return data[:at] + marker


@pytest.mark.parametrize("marker", [b"\xff\xd9", b"\xff\xc4", b"\xff\xda", b"\xff\xe1"])
def test_rows_that_libjpeg_would_make_up_are_missing(tmp_path: Path, marker: bytes) -> None:
    """After any marker libjpeg fills the rest with grey, which Pillow takes for an image."""
    path = tmp_path / "image"
    path.write_bytes(_truncated_jpeg(0.2, marker) + bytes(5000))
    with pytest.raises(TruncatedError, match=r"data end too early; [0-9]+ of 150 rows"):
        read_pixels(path)


def test_a_jpeg_with_a_scan_for_each_component_is_decoded_at_once(tmp_path: Path) -> None:
    path = tmp_path / "image"
    data = bytearray(_encoded_file("jpeg RGB"))
    scan = data.index(b"\xff\xda")
    assert data[scan + 4] == 3
    data[scan + 4] = 1
    path.write_bytes(data)
    with pytest.raises(SourceError):
        read_pixels(path)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), name=st.sampled_from(["png RGB", "png P", "jpeg RGB", "jpeg L", "tga"]))
def test_damage_anywhere_ends_in_an_image_or_an_error(
    tmp_path: Path, data: st.DataObject, name: str
) -> None:
    content = bytearray(_encoded_file(name))
    for _ in range(data.draw(st.integers(1, 4), "changes")):
        at = data.draw(st.integers(0, len(content) - 1), "at")
        content[at] = data.draw(st.integers(0, 255), "value")
    path = tmp_path / "image"
    path.write_bytes(content)
    try:
        with open_source(path) as source:
            if source.width * source.height < 10**7:
                for y in range(0, source.height, 64):
                    source.rows(y, min(source.height, y + 64))
    except SourceError as error:
        message = str(error)
        assert "\n" not in message


# The room.


def test_a_room_is_private_and_given_back() -> None:
    room = PixelBuffer(64 * 2**20, "test")
    assert not room.on_disk
    room.bytes[:] = 1
    assert _resident_bytes(room.bytes) >= 64 * 2**20
    assert room.discard(0, 50 * 2**20) == 50 * 2**20
    assert _resident_bytes(room.bytes) <= 16 * 2**20
    assert (room.bytes[: 50 * 2**20 : 4096] == 0).all()
    assert (room.bytes[50 * 2**20 :] == 1).all()


def test_where_memory_is_scarce_an_image_lies_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fasttile.storage import memory as room

    monkeypatch.setattr(room, "memory_left", lambda: HEIGHT * WIDTH * 4)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    path = tmp_path / "image"
    path.write_bytes(_encoded_file("jpeg progressive"))
    with open_source(path) as source:
        assert source.metadata.read_mode == "decoded at once, into a temporary file"
        assert not list((tmp_path / "temporary").iterdir())
        np.testing.assert_array_equal(
            read_checked(source), _decode_by_pillow(_encoded_file("jpeg progressive"))
        )
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(SourceError, match=r"fit neither into memory nor into .*missing.*TMPDIR"):
        open_source(path)


def test_the_decoder_waits_for_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "MAX_AHEAD_BYTES", 1)
    monkeypatch.setattr(decode, "INPUT_CHUNK_BYTES", 3)
    path = tmp_path / "image"
    path.write_bytes(_encoded_file("png L"))
    np.testing.assert_array_equal(read_pixels(path), _decode_by_pillow(_encoded_file("png L")))
