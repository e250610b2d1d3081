"""Which image of a TIFF is read: pages by their number, and the largest level of a pyramid."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from fasttile.errors import SourceError
from fasttile.options.read import ReadOptions
from fasttile.sources import open_source
from fasttile.sources.tiff import open_tiff
from fasttile.sources.tiff.pages import select_image
from fasttile.storage.random_access import DiskFile
from support.reading import Array, build_tiff, noise, read_pixels

pytest.importorskip("imagecodecs")

PAGES = [noise(40, 30), noise(50, 20), noise(33, 44)]


def write_pages(
    path: Path, images: list[Array], kinds: list[int] | None = None, **form: Any
) -> None:
    with tifffile.TiffWriter(path, bigtiff=form.pop("bigtiff", False)) as file:
        for number, image in enumerate(images):
            kind = kinds[number] if kinds else 0
            rgb = "rgb" if image.ndim == 3 else "minisblack"
            file.write(
                image, photometric=rgb, subfiletype=kind, metadata=None, contiguous=False, **form
            )


def selected_pixels(path: Path, page: int | None = None) -> Array:
    with open_source(path, read_options=ReadOptions(page=page)) as source:
        pixels: Array = source.rows(0, source.height).copy()
        return pixels[..., 0] if source.bands == 1 else pixels


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_pages_by_their_number(tmp_path: Path, compression: str | None, bigtiff: bool) -> None:
    path = tmp_path / "image"
    write_pages(path, PAGES, compression=compression, bigtiff=bigtiff)
    for page in (None, 1, 2, 3):
        np.testing.assert_array_equal(selected_pixels(path, page), PAGES[(page or 1) - 1])
        with open_source(path, read_options=ReadOptions(page=page)) as source:
            assert (source.metadata.page, source.metadata.pages) == (page or 1, 3)
            note = "page 1 of 3 taken; --page all cuts each"
            assert source.metadata.notes == (() if page else (note,))
        file = DiskFile(path)
        choice = select_image(file, ReadOptions(page=page))
        assert (choice.page_index, choice.page_count) == ((page or 1) - 1, 3)
        file.close()
    for page in (0, -1, 4, 2**40):
        with pytest.raises(SourceError, match=f"has no page {page}; it has 3"):
            open_source(path, read_options=ReadOptions(page=page))


def test_pages_that_differ_in_kind(tmp_path: Path) -> None:
    path = tmp_path / "image"
    with tifffile.TiffWriter(path) as file:
        file.write(PAGES[0], compression="lzw")
        file.write(noise(20, 30, 3, dtype=np.uint16), photometric="rgb", tile=(16, 16))
    np.testing.assert_array_equal(selected_pixels(path, 1), PAGES[0])
    with open_source(path, read_options=ReadOptions(page=2), window="full") as source:
        assert (source.bands, source.metadata.pages) == (3, 2)


def draw_waves(height: int, width: int, phase: float = 0) -> Array:
    """An image that looks the same in each size."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = 100 + 60 * np.sin(9 * x + phase) + 40 * np.cos(14 * y * (1 + phase) + 5 * x)
    return (waves + noise(height, width) / 8).astype(np.uint8)


def halved_arrays(array: Array, count: int) -> list[Array]:
    return [array[:: 2**k, :: 2**k] for k in range(count)]


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize(
    ("order", "kinds"),
    [
        ((0, 1, 2, 3), (0, 1, 1, 1)),
        ((0, 1, 2, 3), (0, 0, 0, 0)),
        ((3, 2, 1, 0), (1, 1, 1, 0)),
        ((3, 2, 1, 0), (0, 0, 0, 0)),
        ((3, 0, 1, 2), (1, 0, 1, 1)),
        ((2, 0, 1), (0, 0, 1)),
    ],
)
def test_the_largest_level_of_a_pyramid(
    tmp_path: Path, order: tuple[int, ...], kinds: tuple[int, ...], compression: str | None
) -> None:
    path = tmp_path / "image"
    levels = halved_arrays(draw_waves(200, 333), 4)
    write_pages(path, [levels[k] for k in order], list(kinds), compression=compression)
    np.testing.assert_array_equal(selected_pixels(path), levels[0])
    with open_source(path) as source:
        assert source.metadata.page == order.index(0) + 1
        note = f"level page {order.index(0) + 1} of {len(order)} taken: it is the largest"
        assert (order[0] == 0) == (source.metadata.notes == ())
        assert order[0] == 0 or source.metadata.notes[0].startswith(note)
    np.testing.assert_array_equal(selected_pixels(path, 2), levels[order[1]])


@pytest.mark.parametrize(
    ("shapes", "kinds", "which"),
    [
        (((100, 80), (300, 80)), (0, 0), 0),  # another shape
        (((100, 80), (130, 104)), (0, 0), 0),  # not twice the area
        (((100, 80), (142, 114)), (0, 0), 0),  # A3 after A4
        (((100, 80), (200, 160)), (2, 2), 0),  # pages of a document
        (((100, 80), (200, 160)), (0, 4), 0),  # a mask
        (((100, 80), (300, 80)), (1, 0), 1),  # a thumbnail that was cut to another shape
        (((100, 80), (300, 80), (200, 160)), (1, 0, 0), 2),
        (((100, 80), (50, 40)), (1, 1), 0),
        (((100, 80), (100, 80)), (1, 0), 0),
        (((100, 80), (200, 164), (200, 150)), (0, 0, 0), 0),
    ],
)
def test_what_is_no_pyramid(
    tmp_path: Path, shapes: tuple[tuple[int, int], ...], kinds: tuple[int, ...], which: int
) -> None:
    path = tmp_path / "image"
    write_pages(path, [noise(*shape) for shape in shapes], [kind & 3 for kind in kinds])
    with tifffile.TiffFile(path, mode="r+b") as file:
        for page, kind in zip(file.pages, kinds, strict=True):
            page.tags["NewSubfileType"].overwrite(kind)  # tifffile itself writes no masks
    with open_source(path) as source:
        assert source.metadata.page == which + 1
        assert (source.height, source.width) == shapes[which]


@pytest.mark.parametrize(
    "pages",
    [
        [draw_waves(297, 210), draw_waves(297, 210, 1), draw_waves(420, 297, 2)],  # A4, A4, A3
        [draw_waves(297, 210), draw_waves(594, 420, 1)],  # twice the size, of other content
        [draw_waves(594, 420), draw_waves(297, 210, 1)],
        [np.full((297, 210), 255, np.uint8), np.full((594, 420), 255, np.uint8)],  # blank
        [draw_waves(297, 210), draw_waves(594, 420)[:560]],
    ],
)
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_scans_of_several_sizes_are_pages(
    tmp_path: Path, pages: list[Array], compression: str | None
) -> None:
    path = tmp_path / "image"
    write_pages(path, pages, compression=compression)
    np.testing.assert_array_equal(selected_pixels(path), pages[0])
    with open_source(path) as source:
        note = f"page 1 of {len(pages)} taken; --page all cuts each"
        assert source.metadata.notes == (note,)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("rows", [1, 7, 999])
@pytest.mark.parametrize("shape", [(613, 417), (30, 3), (2, 9)])
def test_levels_that_nothing_marks(
    tmp_path: Path, shape: tuple[int, int], rows: int, planar: str
) -> None:
    path = tmp_path / "image"
    large = np.stack([draw_waves(*shape), *[draw_waves(*shape, 3)] * 2], axis=2)
    even = large[: shape[0] // 2 * 2, : shape[1] // 2 * 2].astype(int)
    mean = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) // 4
    form = {"photometric": "rgb", "metadata": None, "planarconfig": planar}
    with tifffile.TiffWriter(path) as file:
        for level in (mean.astype(np.uint8), large):
            stored = np.moveaxis(level, 2, 0) if planar == "separate" else level
            file.write(stored, rowsperstrip=rows, compression="lzw", **form)
    np.testing.assert_array_equal(selected_pixels(path), large)


def test_the_old_tag_of_reduced_images(tmp_path: Path) -> None:
    path = tmp_path / "image"
    pages = [draw_waves(50, 40), draw_waves(300, 240)]
    with tifffile.TiffWriter(path) as file:
        for page, kind in zip(pages, (2, 1), strict=True):
            file.write(page, metadata=None, contiguous=False, extratags=[(255, 3, 1, kind, True)])
    np.testing.assert_array_equal(selected_pixels(path), pages[1])


@pytest.mark.parametrize("format_name", ["GIF", "PNG", "WEBP", "MPO", "TIFF"])
def test_one_line_on_other_pages(tmp_path: Path, format_name: str) -> None:
    path = tmp_path / "image"
    first, second = (Image.fromarray(draw_waves(20, 30, phase)) for phase in (0, 1))
    first.save(path, format_name, save_all=True, append_images=[second])
    with open_source(path) as source:
        assert source.metadata.notes[-1:] == ("page 1 of 2 taken; --page all cuts each",)
    with open_source(path, read_options=ReadOptions(page=1)) as source:
        assert not any("taken" in note for note in source.metadata.notes)


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_levels_in_sub_directories(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "image"
    levels = halved_arrays(draw_waves(200, 333), 3)
    form = {"compression": compression, "metadata": None}
    with tifffile.TiffWriter(path) as file:
        file.write(levels[0], subifds=2, **form)
        file.write(levels[1], subfiletype=1, **form)
        file.write(levels[2], subfiletype=1, **form)
        file.write(PAGES[0], **form)
    np.testing.assert_array_equal(selected_pixels(path), levels[0])
    np.testing.assert_array_equal(selected_pixels(path, 2), PAGES[0])
    with tifffile.TiffWriter(path) as file:
        file.write(levels[2], subfiletype=1, subifds=1, **form)
        file.write(levels[0], **form)
    np.testing.assert_array_equal(selected_pixels(path), levels[0])
    np.testing.assert_array_equal(selected_pixels(path, 1), levels[2])
    with open_source(path) as source:
        assert (source.metadata.page, source.metadata.pages) == (1, 1)
        assert source.metadata.notes[0].startswith("a level of page 1 of 1 taken")


def test_a_level_that_nobody_reads_is_no_thumbnail(tmp_path: Path) -> None:
    path = tmp_path / "image"
    with tifffile.TiffWriter(path) as file:
        file.write(noise(20, 30, 3), photometric="rgb", subfiletype=1, subifds=1)
        file.write(noise(200, 300, 3), photometric="itulab")
    with pytest.raises(SourceError, match="largest image of page 1 is of an unsupported kind"):
        open_source(path)
    np.testing.assert_array_equal(selected_pixels(path, 1), noise(20, 30, 3))


def chain_directories(offsets: list[int], count: int) -> bytes:
    """A TIFF of some pages of 2×1 pixels, each followed by the one at a given place."""
    content = bytearray(b"II*\0" + struct.pack("<I", 16) + b"\7\x08" + bytes(6))
    for number in range(count):
        tags = [(256, 2), (257, 1), (258, 8), (262, 1), (273, 8), (278, 1), (279, 2)]
        directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        content += struct.pack("<H", len(tags)) + directory + struct.pack("<I", offsets[number])
    return bytes(content)


SIZE = 2 + 7 * 12 + 4


@pytest.mark.parametrize(
    ("offsets", "page"),
    [([16], 1), ([16 + SIZE, 16], 2), ([16 + SIZE, 16 + SIZE], 2), ([16 + SIZE, 16], 3)],
)
@pytest.mark.parametrize("requested", [None, 1, 2, 99])
def test_chains_without_an_end(
    tmp_path: Path, offsets: list[int], page: int, requested: int | None
) -> None:
    path = tmp_path / "image"
    path.write_bytes(chain_directories(offsets, len(offsets)))
    with pytest.raises(SourceError, match="its pages have no end: after page") as caught:
        open_source(path, read_options=ReadOptions(page=requested))
    assert "\n" not in str(caught.value)


def test_a_chain_that_breaks_off(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(chain_directories([16 + SIZE, 10**6], 2))
    assert selected_pixels(path, 2).tolist() == [[7, 8]]
    with open_source(path) as source:
        assert source.metadata.pages == 2
    with pytest.raises(SourceError, match="has no page 3; it has 2, and a broken directory"):
        open_source(path, read_options=ReadOptions(page=3))
    path.write_bytes(chain_directories([0], 1)[:-4])  # without the place of a next one
    assert selected_pixels(path).tolist() == [[7, 8]]
    path.write_bytes(b"II*\0" + bytes(20))
    with pytest.raises(SourceError, match="it has no image"):
        open_source(path)


@pytest.mark.slow
@pytest.mark.parametrize("count", [65_535, 65_536])
def test_as_many_pages_as_there_may_be(tmp_path: Path, count: int) -> None:
    path = tmp_path / "image"
    places = [16 + SIZE * (number + 1) for number in range(count)]
    path.write_bytes(chain_directories([*places[:-1], 0], count))
    if count > 65_535:
        with pytest.raises(SourceError, match="more than 65,535 pages"):
            open_source(path, read_options=ReadOptions(page=1))
        return
    with open_source(path, read_options=ReadOptions(page=count)) as source:
        assert source.metadata.pages == count


@pytest.mark.parametrize("orientation", range(10))
def test_the_orientation_is_read(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "image"
    for compression in (None, "lzw"):
        tifffile.imwrite(
            path,
            noise(4, 6),
            compression=compression,
            extratags=[(274, 3, 1, orientation, True)],
        )
        file = DiskFile(path)
        source = open_tiff(file, ReadOptions())
        assert source is not None
        with source:
            assert source.metadata.orientation == (orientation if 1 <= orientation <= 8 else 1)
            assert (source.height, source.width) == (4, 6)


def test_pages_of_an_old_compression_are_pillows(tmp_path: Path) -> None:
    path = tmp_path / "image"
    first, second = (Image.fromarray(noise(20, side, 3)).convert("LAB") for side in (30, 50))
    first.save(path, "TIFF", save_all=True, append_images=[second])
    assert read_pixels(path).shape == (20, 30, 3)
    assert selected_pixels(path, 2).shape == (20, 50, 3)


def test_a_pyramid_that_pillow_reads(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "image"
    levels = halved_arrays(draw_waves(200, 333), 3)
    write_pages(path, levels[::-1], [1, 1, 0], compression="lzw")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    np.testing.assert_array_equal(selected_pixels(path), levels[0])
    np.testing.assert_array_equal(selected_pixels(path, 2), levels[1])
    with open_source(path) as source:
        assert (source.metadata.page, source.metadata.pages) == (3, 3)


def test_a_tag_of_too_many_bytes_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "image"
    content = bytearray(build_tiff([bytes(30)], {256: (5,), 257: (6,), 258: (8,), 262: (1,)}))
    for tag in (b"\x00\x01\4\0", b"\x11\x01\4\0"):
        at = content.index(tag)
        changed = bytearray(content)
        changed[at + 4 : at + 8] = b"\xff\xff\xff\xff"
        path.write_bytes(changed)
        with pytest.raises(SourceError, match=r"tag \d+ has \d+ bytes|but the file has"):
            open_source(path)
