"""Files that claim more images than they have: each kind of file with several."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from fasttile import SourceError, open_source
from fasttile.errors import MissingPageError
from fasttile.options.read import MAX_PAGES, ReadOptions
from fasttile.sources import count_pages
from support.command import run

MANY = 2**31 - 1

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:IM image format:DeprecationWarning"),
]


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def frames(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (40, 30), (60 * number, 10, 20)) for number in range(count)]


def save_frames(format_name: str, count: int, **parameters: object) -> bytes:
    """A file with some frames, as Pillow writes it."""
    file = io.BytesIO()
    first, *others = frames(count)
    first.save(file, format_name, save_all=True, append_images=others, **parameters)
    return file.getvalue()


def apng(claimed: int) -> bytes:
    """Two frames, and the number of frames in the chunk acTL."""
    data = save_frames("PNG", 2)
    at = data.index(b"acTL") - 4
    return data[:at] + png_chunk(b"acTL", struct.pack(">II", claimed, 0)) + data[at + 20 :]


def empty_apng(claimed: int) -> bytes:
    """One image, no frame, 90 bytes or so."""
    header = struct.pack(">IIBBBBB", 10, 10, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"acTL", struct.pack(">II", claimed, 0))]
    chunks += [(b"IDAT", zlib.compress(b"\0" * 310)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def fli(claimed: int) -> bytes:
    """One frame of a FLIC animation, which has no pixels; 16 bits for the number."""
    frame = struct.pack("<IHH8x", 16, 0xF1FA, 0)
    header = struct.pack("<IHHHHHHI", 0, 0xAF12, min(claimed, 65_535), 8, 8, 8, 3, 70)
    return header.ljust(128, b"\0") + frame


def im(claimed: int) -> bytes:
    """Two uncompressed frames of IFUNC's Image Memory."""
    text = (
        f"Image type: Greyscale image\r\nImage size (x*y): 40*30\r\n"
        f"File size (no of images): {claimed}\r\n"
    )
    return text.encode().ljust(511, b"\0") + b"\x1a" + bytes(2 * 1200)


def spider(claimed: int) -> bytes:
    """A stack of two uncompressed frames of SPIDER; its header is of floats."""
    file = io.BytesIO()
    Image.new("F", (40, 30), 0.5).save(file, "SPIDER")
    data = file.getvalue()
    header, pixels = bytearray(data[:-4800]), data[-4800:]
    stack = b""
    for number in (1.0, 2.0):
        struct.pack_into("<f", header, 4 * 26, number)
        stack += bytes(header) + pixels
    struct.pack_into("<f", header, 4 * 23, 2.0)
    struct.pack_into("<f", header, 4 * 25, float(claimed))
    struct.pack_into("<f", header, 4 * 26, 0.0)
    return bytes(header) + stack


def mpo(claimed: int) -> bytes:
    """Two JPEGs; the number is in the index of the first."""
    data = bytearray(save_frames("MPO", 2))
    at = data.index(b"\xb0\x01"[::-1] if b"MPF\0II" in data else b"\xb0\x01")
    order = "<" if b"MPF\0II" in data else ">"
    assert struct.unpack_from(f"{order}HII", data, at + 2) == (4, 1, 2)
    struct.pack_into(f"{order}I", data, at + 8, min(claimed, 2**32 - 1))
    return bytes(data)


def shortened(format_name: str) -> Callable[[int], bytes]:
    """A file of three frames that ends within the last one."""

    def make(claimed: int) -> bytes:
        data = save_frames(format_name, 3)
        return data[: len(data) - 20]

    return make


def endless_tiff(claimed: int) -> bytes:
    """Two pages, and after the second comes the first."""
    data = bytearray(save_frames("TIFF", 2))
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    (second,) = struct.unpack_from("<I", data, first + 2 + 12 * count)
    (count,) = struct.unpack_from("<H", data, second)
    struct.pack_into("<I", data, second + 2 + 12 * count, first)
    return bytes(data)


def icon(claimed: int) -> bytes:
    """An icon that claims 65,535 sizes and has two."""
    file = io.BytesIO()
    frames(1)[0].resize((32, 32)).save(file, "ICO", sizes=[(16, 16), (32, 32)])
    data = bytearray(file.getvalue())
    struct.pack_into("<H", data, 4, 65_535)
    return bytes(data)


KINDS: dict[str, tuple[Callable[[int], bytes], int]] = {
    "apng": (apng, 2),
    "empty apng": (empty_apng, 1),
    "fli": (fli, 1),
    "im": (im, 2),
    "spider": (spider, 2),
    "mpo": (mpo, 2),
    "gif cut short": (shortened("GIF"), 3),
    "tiff cut short": (shortened("TIFF"), 2),
    "endless tiff": (endless_tiff, 0),
    "ico": (icon, 1),
}
"""What makes the file for a claimed number of images, and how many images it has at most."""
if features.check("webp"):
    KINDS["webp cut short"] = shortened("WEBP"), 3
if features.check("avif"):
    KINDS["avif cut short"] = shortened("AVIF"), 3


@pytest.mark.parametrize("claimed", [1000, MANY])
@pytest.mark.parametrize("kind", KINDS)
def test_only_images_that_are_there_are_cut(tmp_path: Path, kind: str, claimed: int) -> None:
    """A few lines, some of real images, in seconds."""
    make, most = KINDS[kind]
    (tmp_path / "x.bin").write_bytes(make(claimed))
    ended = run("cut", "x.bin", "-o", "out/x.dzi", "--page", "all", cwd=tmp_path)
    results = [*tmp_path.glob("out/x*.dzi")]
    assert len(results) <= most
    assert len(results) == ended.stdout.count("out/x")
    assert ended.stderr.count("\n") <= 2, ended.stderr
    assert "unexpected" not in ended.stderr
    assert ended.returncode == (1 if ended.stderr else 0)
    if claimed == 1000 and kind in ("apng", "empty apng", "fli", "im", "spider"):
        assert len(results) == most
        assert f"has no page {most + 1}; its header claims" in ended.stderr


@pytest.mark.parametrize("kind", ["apng", "empty apng", "im", "spider"])
def test_a_number_of_images_that_no_file_has_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(KINDS[kind][0](MANY))
    with pytest.raises(SourceError, match=f"images, more than {MAX_PAGES:,}; use --page"):
        count_pages(str(path), None)


@pytest.mark.parametrize("kind", ["apng", "im", "spider"])
def test_a_claimed_page_that_is_not_there_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(KINDS[kind][0](1000))
    for page in (1, 2):
        with open_source(path, read_options=ReadOptions(page=page)) as source:
            assert (source.width, source.height) == (40, 30)
            assert np.ptp(source.rows(0, 30).reshape(-1, source.bands), axis=0).max() == 0
    for page in (3, 1000):
        with pytest.raises(MissingPageError, match=f"no page {page}; its header claims 1,000"):
            open_source(path, read_options=ReadOptions(page=page))
    with pytest.raises(MissingPageError, match=r"no page 1001; it has 1000"):
        open_source(path, read_options=ReadOptions(page=1001))
