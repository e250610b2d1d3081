"""The API from end to end: what is on disk and in the report, and that failures leave nothing."""

from __future__ import annotations

import gc
import io
import itertools
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageFile

import fasttile
from fasttile import CancelledError, CutProgress, OptionError, SourceError, TargetError, Tile, cut
from fasttile.jobs import progress as progress_module
from fasttile.jobs.plan import resolve_target
from fasttile.layouts import RECORD_NAME
from fasttile.sinks.folder import DirectorySink
from fasttile.verify import verify
from support import reference
from support.adversarial_sources import MappedArraySource, StreamSource
from support.reading import noise
from support.reference import Array

pytestmark = pytest.mark.usefixtures("no_leaked_thread", "deadlock_timeout")


NAMESPACE = "{http://schemas.microsoft.com/deepzoom/2008}"
THREAD_COUNTS = [1, 2, 5]


def file_tree(folder: Path) -> dict[str, bytes]:
    """All files but the record, which names the source."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != RECORD_NAME
    }


def reassemble_image(descriptor: Path) -> list[Array]:
    """All levels of a result, put together by what its descriptor and its folder say."""
    image = ElementTree.parse(descriptor).getroot()
    assert image.tag == f"{NAMESPACE}Image"
    size = image.find(f"{NAMESPACE}Size")
    assert size is not None
    width, height = int(size.attrib["Width"]), int(size.attrib["Height"])
    tile_size, overlap = int(image.attrib["TileSize"]), int(image.attrib["Overlap"])
    folder = descriptor.with_name(f"{descriptor.stem}_files")
    levels = []
    for number in range(sum(path.is_dir() for path in folder.iterdir())):
        tiles = {}
        for path in (folder / str(number)).iterdir():
            assert path.suffix == f".{image.attrib['Format']}"
            col, row = map(int, path.stem.split("_"))
            with Image.open(path) as opened:
                pixels = np.asarray(opened)
            pixels = pixels.reshape(*pixels.shape[:2], -1)
            # Its own pixels: without what it shares with its neighbours on each side.
            left, top = overlap * (col > 0), overlap * (row > 0)
            tiles[row, col] = pixels[top : top + tile_size, left : left + tile_size]
        rows, cols = (1 + max(place) for place in zip(*tiles, strict=True))
        assert len(tiles) == rows * cols
        lines = [np.hstack([tiles[row, col] for col in range(cols)]) for row in range(rows)]
        levels.append(np.vstack(lines))
    assert levels[-1].shape[:2] == (height, width)
    return levels


# ---- what is on disk -----------------------------------------------------------------------------

SIZES = [
    *[(1, 1), (1, 2), (2, 1), (1, 300), (300, 1), (3, 5)],
    *[(253, 254), (254, 255), (255, 256), (256, 257), (257, 253)],
    *[(507, 20), (508, 3), (20, 509), (2, 510), (511, 9)],
]
"""Height and width: around one tile and two, with their overlap and without."""


@pytest.mark.parametrize(("tile_size", "overlap"), [(254, 1), (256, 0)])
def test_tiles_reassemble_every_level(tmp_path: Path, tile_size: int, overlap: int) -> None:
    for number, (height, width) in enumerate(SIZES):
        pixels = noise(height, width, 1 + number % 4)
        report = cut(
            pixels,
            tmp_path / f"{number}.dzi",
            tile_size=tile_size,
            overlap=overlap,
            format="png:compress_level=1",
        )
        found = reassemble_image(report.path)
        expected = reference.levels(pixels)
        assert len(found) == len(expected) == report.levels
        for level, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(level, wanted)


@pytest.mark.parametrize(("tile_size", "overlap"), [(16, 1), (10, 9), (7, 0)])
def test_each_file_is_its_tile(tmp_path: Path, tile_size: int, overlap: int) -> None:
    pixels = noise(75, 52, 3)
    report = cut(pixels, tmp_path / "p.dzi", tile_size=tile_size, overlap=overlap, format="png")
    expected = dict(reference.tiles(pixels, tile_size, overlap))
    assert report.tiles == len(expected)
    for (level, col, row), wanted in expected.items():
        with Image.open(tmp_path / f"p_files/{level}/{col}_{row}.png") as image:
            np.testing.assert_array_equal(np.asarray(image), wanted)


def test_sixteen_bits_stay(tmp_path: Path) -> None:
    pixels = noise(70, 90, 1, dtype=np.uint16)
    cut(pixels, tmp_path / "p.dzi", tile_size=32, format="png", bits=16)
    for level, wanted in zip(
        reassemble_image(tmp_path / "p.dzi"), reference.levels(pixels), strict=True
    ):
        np.testing.assert_array_equal(level, wanted)


def test_the_report_agrees_with_the_disk(tmp_path: Path) -> None:
    report = cut(noise(300, 500, 3), tmp_path / "deep" / "p.dzi", tile_size=64)
    files = file_tree(tmp_path)
    tiles = {name: data for name, data in files.items() if name.endswith(".jpg")}
    assert report.path == tmp_path / "deep" / "p.dzi"
    assert (report.width, report.height) == (500, 300)
    levels = [path for path in (tmp_path / "deep" / "p_files").iterdir() if path.is_dir()]
    assert report.levels == len(levels) == 10
    assert report.tiles == len(tiles) == len(files) - 1
    assert report.bytes == sum(map(len, tiles.values()))
    assert report.seconds > 0
    assert report.megapixels_per_second == pytest.approx(0.15 / report.seconds)


@pytest.mark.parametrize("format_name", ["jpeg", "png", "webp:method=0"])
def test_the_same_files_for_any_threads_and_source(tmp_path: Path, format_name: str) -> None:
    pixels = noise(150, 130, 4)
    np.save(tmp_path / "p.npy", pixels)
    mapped = np.load(tmp_path / "p.npy", mmap_mode="r")
    Image.fromarray(pixels).save(tmp_path / "p.png")
    Image.fromarray(pixels).save(tmp_path / "p.tif", compression="tiff_lzw")
    with Image.open(tmp_path / "p.png") as image:
        sources: list[Any] = [pixels, mapped, image, Image.fromarray(pixels)]
        sources += [tmp_path / "p.npy", str(tmp_path / "p.png"), tmp_path / "p.tif"]
        sources += [MappedArraySource(pixels), StreamSource(pixels, 7)]
        results = []
        for number, (source, threads) in enumerate(zip(sources, itertools.cycle(THREAD_COUNTS))):
            target = tmp_path / str(number) / "p.dzi"
            cut(source, target, tile_size=30, format=format_name, threads=threads)
            results.append(file_tree(target.parent))
    assert all(result == results[0] for result in results)
    assert len(results[0]) > 40


def test_a_region_is_cut_as_an_image_of_its_own(tmp_path: Path) -> None:
    pixels = noise(90, 80, 3)
    cut(pixels, tmp_path / "a" / "p.dzi", tile_size=16, region=(11, 5, 50, 70))
    cut(pixels[5:75, 11:61].copy(), tmp_path / "b" / "p.dzi", tile_size=16)
    assert file_tree(tmp_path / "a") == file_tree(tmp_path / "b")


def test_alpha_is_laid_on_the_background(tmp_path: Path) -> None:
    pixels = np.zeros((40, 40, 4), np.uint8)
    cut(pixels, tmp_path / "p.dzi", background="#1e90ff", quality=100)
    with Image.open(tmp_path / "p_files/6/0_0.jpg") as image:
        assert np.abs(np.asarray(image).astype(int) - (30, 144, 255)).max() <= 2


def test_a_folder_gets_the_sources_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "map.npy", noise(9, 9, 3))
    assert cut(tmp_path / "map.npy", tmp_path / "out").path == tmp_path / "out" / "map.dzi"
    monkeypatch.chdir(tmp_path)
    assert cut("map.npy").path == Path("map.dzi")
    assert (tmp_path / "map.dzi").exists()


def test_a_source_of_the_callers_stays_open(tmp_path: Path) -> None:
    with fasttile.open_source(noise(50, 50, 3)) as source:
        cut(source, tmp_path / "a.dzi", tile_size=16)
        cut(source, tmp_path / "b.dzi", tile_size=16)
    assert len(file_tree(tmp_path / "a_files")) == len(file_tree(tmp_path / "b_files")) > 4


def cut_tiles(source: Any, folder: Path, **options: Any) -> dict[str, bytes]:
    cut(source, folder / "p.dzi", format="png", tile_size=16, **options)
    return file_tree(folder)


def open_stream(pixels: Array) -> Any:
    return StreamSource(pixels, 7)


@pytest.mark.parametrize("open_pixels", [fasttile.open_source, open_stream])
def test_an_open_source_is_cropped_and_windowed(tmp_path: Path, open_pixels: Any) -> None:
    pixels = noise(90, 80, 3)
    options: dict[str, Any] = {"region": (11, 7, 50, 70), "window": (20, 200)}
    expected = cut_tiles(pixels, tmp_path / "path", **options)
    source = open_pixels(pixels)
    assert cut_tiles(source, tmp_path / "open", **options) == expected
    tiles = fasttile.iter_tiles(open_pixels(pixels), tile_size=16, overlap=1, **options)
    wanted = fasttile.iter_tiles(pixels, tile_size=16, overlap=1, **options)
    for (tile, found), (address, expected_pixels) in zip(tiles, wanted, strict=True):
        assert tile == address
        np.testing.assert_array_equal(found, expected_pixels)


def test_an_open_source_stays_open_after_a_region_of_it(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", noise(50, 50, 3))
    with fasttile.open_source(tmp_path / "p.npy") as source:
        part = cut_tiles(source, tmp_path / "part", region=(3, 4, 20, 30))
        assert part == cut_tiles(source, tmp_path / "again", region=(3, 4, 20, 30))
        assert len(cut_tiles(source, tmp_path / "all")) > len(part)
        with pytest.raises(OptionError, match="is not within"):
            cut_tiles(source, tmp_path / "out", region=(40, 40, 20, 20))


def test_the_bits_of_an_open_source(tmp_path: Path) -> None:
    pixels = noise(60, 50, 1, dtype=np.uint16)
    for bits in (8, 16):
        expected = cut_tiles(pixels, tmp_path / f"array-{bits}", bits=bits)
        with fasttile.open_source(pixels, bits=16) as source:
            assert cut_tiles(source, tmp_path / f"open-{bits}", bits=bits) == expected
    with pytest.raises(OptionError, match="pass window="):  # which has to look at the values
        cut_tiles(StreamSource(pixels, 7), tmp_path / "stream")
    assert cut_tiles(StreamSource(pixels, 7), tmp_path / "full", window="full")
    with pytest.raises(OptionError, match="use 8 bits"):
        cut_tiles(StreamSource(noise(9, 9, 1), 7), tmp_path / "grey", bits=16)


@pytest.mark.parametrize(
    "options", [{"page": 1}, {"raw": "9x9x1"}, {"max_pixels": 10**6}, {"allow_truncated": True}]
)
def test_options_that_come_too_late_for_an_open_source(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    (name,) = options
    array = noise(50, 50, 3)
    cut(array, tmp_path / "p.dzi")
    calls: list[Callable[[Any], object]] = [
        lambda source: cut(source, tmp_path / "x.dzi", **options),
        lambda source: next(fasttile.iter_tiles(source, **options)),
        lambda source: verify(tmp_path / "p.dzi", source, **options),
    ]
    with fasttile.open_source(array) as source:
        for call in calls:
            message = f"array: {name}: the source is open already; pass it to open_source"
            with pytest.raises(OptionError, match=message):
                call(source)


# ---- targets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dest", "source", "target"),
    [
        ("out/map.dzi", "scan.tif", "out/map.dzi"),
        ("out/map.DZI", "scan.tif", "out/map.dzi"),
        (Path("out/map.dzi"), None, "out/map.dzi"),
        ("a.b.dzi", None, "a.b.dzi"),
        ("out", "scans/map.tif", "out/map.dzi"),
        ("out/", "map.tif", "out/map.dzi"),
        ("out.d/", "map.tif", "out.d/map.dzi"),
        (None, "scans/map.tif", "map.dzi"),
        (None, Path("scans/map.v2.tif"), "map.v2.dzi"),
    ],
)
def test_target_paths(dest: Any, source: Any, target: str) -> None:
    assert resolve_target(dest, source).path.as_posix() == target


def test_a_folder_with_a_dot_that_exists_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my.tiles"
    folder.mkdir()
    assert resolve_target(folder, "map.tif").path == folder / "map.dzi"


@pytest.mark.parametrize("dest", ["out.rar", "map.xml", "map.jpg"])
def test_endings_that_are_not_known(dest: str) -> None:
    with pytest.raises(OptionError, match=r"unknown extension '.*'; expected .dzi, .*or a folder"):
        resolve_target(dest, "map.tif")


def test_an_array_has_no_name(tmp_path: Path) -> None:
    for dest in (None, tmp_path):
        with pytest.raises(OptionError, match=r"no file name .*; use dest='NAME\.dzi'"):
            cut(noise(5, 5), dest)


def test_what_stands_there_is_kept_or_replaced(tmp_path: Path) -> None:
    target = tmp_path / "p.dzi"
    cut(noise(60, 60, 3), target, tile_size=16)
    before = file_tree(tmp_path)
    with pytest.raises(TargetError, match="exists already"):
        cut(noise(50, 50, 3), target, tile_size=16)
    assert file_tree(tmp_path) == before
    cut(noise(50, 50, 3), target, tile_size=16, overwrite=True)
    cut(noise(50, 50, 3), tmp_path / "new" / "p.dzi", tile_size=16)
    new = file_tree(tmp_path / "new")
    assert {name: data for name, data in file_tree(tmp_path).items() if "new" not in name} == new


# ---- progress ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, 0.1])
@pytest.mark.parametrize("threads", THREAD_COUNTS)
def test_progress_grows_to_its_end(
    tmp_path: Path, threads: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "PROGRESS_SECONDS", seconds)
    for number, side in enumerate((1, 2, 5, 100)):
        seen: list[tuple[CutProgress, int]] = []

        def note(progress: CutProgress, seen: list[Any] = seen) -> None:
            seen.append((progress, threading.get_ident()))

        report = cut(
            noise(side, side, 3),
            tmp_path / f"{number}.dzi",
            tile_size=8,
            threads=threads,
            progress=note,
        )
        assert {thread for _, thread in seen} == {threading.get_ident()}
        steps = [progress for progress, _ in seen]
        assert [step.tiles for step in steps] == sorted(step.tiles for step in steps)
        assert [step.bytes for step in steps] == sorted(step.bytes for step in steps)
        assert {step.tile_count for step in steps} == {report.tiles}
        assert steps[-1] == CutProgress(report.tiles, report.tiles, report.bytes)


def test_progress_ends_at_its_end_each_time(tmp_path: Path) -> None:
    for number in range(20):  # the writer may be done before anybody waits for it
        steps: list[CutProgress] = []
        cut(noise(1, 1), tmp_path / f"{number}.dzi", threads=1, progress=steps.append)
        assert steps[-1].tiles == steps[-1].tile_count == 1


@pytest.mark.parametrize("answer", [None, True, 0, ""])
def test_only_false_cancels(tmp_path: Path, answer: object) -> None:
    assert cut(noise(9, 9), tmp_path / "p.dzi", progress=lambda _: answer).tiles == 5


class ProgressAnswers:
    """A progress callback that cancels, or raises, at a given call."""

    def __init__(self, stop_after: int, error: BaseException | None) -> None:
        self._left = stop_after
        self._error = error

    def __call__(self, progress: CutProgress) -> bool:
        self._left -= 1
        if self._left or self._error is None:
            return self._left > 0
        raise self._error


@pytest.mark.parametrize("error", [None, ZeroDivisionError("mine"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", [1, 2, 6])
@pytest.mark.parametrize("threads", THREAD_COUNTS)
def test_to_cancel_leaves_nothing(
    tmp_path: Path,
    threads: int,
    at: int,
    error: BaseException | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress_module, "PROGRESS_SECONDS", 0)
    monkeypatch.setattr("fasttile.walk.RUN_PIXELS", 1)
    with pytest.raises(CancelledError if error is None else type(error)) as caught:
        cut(
            noise(200, 200, 3),
            tmp_path / "deep" / "p.dzi",
            tile_size=16,
            threads=threads,
            progress=ProgressAnswers(at, error),
        )
    assert error is None or caught.value is error
    assert list(tmp_path.iterdir()) == []


def test_to_cancel_keeps_what_stands_there(tmp_path: Path) -> None:
    cut(noise(60, 60, 3), tmp_path / "p.dzi", tile_size=16)
    before = file_tree(tmp_path)
    with pytest.raises(CancelledError, match=r"cancelled after \d+ of \d+ tiles"):
        cut(
            noise(90, 90, 3),
            tmp_path / "p.dzi",
            overwrite=True,
            progress=ProgressAnswers(1, None),
        )
    assert file_tree(tmp_path) == before


# ---- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 40, 0])
@pytest.mark.parametrize("threads", THREAD_COUNTS)
def test_a_sink_that_fails_is_aborted_once(
    tmp_path: Path, threads: int, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    class FailingSink(DirectorySink):
        def put(self, tile: Tile, data: bytes) -> None:
            calls.append("put")
            if len(calls) == at:
                raise TargetError("the disk is full")
            super().put(tile, data)

        def finish(self) -> None:
            raise TargetError("the disk is full")

        def abort(self) -> None:
            calls.append("abort")
            super().abort()

    monkeypatch.setattr("fasttile.sinks.folder.DirectorySink", FailingSink)
    with pytest.raises(TargetError, match="the disk is full"):
        cut(noise(150, 150, 3), tmp_path / "p.dzi", tile_size=16, threads=threads)
    assert calls.count("abort") == 1
    assert calls[-1] == "abort"
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_fails_leaves_nothing(tmp_path: Path) -> None:
    class Torn(StreamSource):
        def rows(self, y0: int, y1: int) -> Array:
            if y1 > 100:
                raise SourceError("the file ends here")
            return super().rows(y0, y1)

    for threads in THREAD_COUNTS:
        with pytest.raises(SourceError, match="the file ends here"):
            cut(Torn(noise(150, 90, 3), 7), tmp_path / "p.dzi", tile_size=16, threads=threads)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 16}, "jpeg tiles hold 8 bits, not 16; use png or bits=8"),
        ({"bits": 16, "format": "webp"}, "webp tiles hold 8 bits, not 16"),
        ({"format": "gif"}, "format 'gif' is none of"),
        ({"quality": 0}, "quality 0 is not between 1 and 100"),
        ({"background": "whiteish"}, "'whiteish' is no colour"),
        ({"tile_size": 0}, "tile size 0 is not at least 1"),
        ({"overlap": 254}, "overlap 254 is not smaller than the tile size 254"),
        ({"threads": 0}, "threads 0 is not at least 1"),
        ({"region": (0, 0, 6, 5)}, r"region \(0, 0, 6, 5\) is not within"),
        ({"window": (5, 5)}, r"window \(5, 5\); expected"),
    ],
)
def test_options_are_refused_before_any_work(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        cut(noise(5, 5, dtype=np.uint16), tmp_path / "new" / "p.dzi", **options)
    assert list(tmp_path.iterdir()) == []


def test_tiles_too_large_for_their_format_are_refused(tmp_path: Path) -> None:
    for format_name, side in (("jpeg", 65500), ("webp", 16383)):
        pixels = np.zeros((1, side + 1), np.uint8)
        with pytest.raises(OptionError, match=f"{format_name} allows {side}"):
            cut(pixels, tmp_path / "p.dzi", tile_size=70_000, format=format_name)
        cut(pixels[:, 1:], tmp_path / f"{format_name}.dzi", tile_size=70_000, format=format_name)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_word_that_is_no_option(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="no option 'tilesize'; the options are layout, tile_size"):
        cut(noise(5, 5), tmp_path / "p.dzi", tilesize=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no option 'tilesize'"):
        next(fasttile.iter_tiles(noise(5, 5), tilesize=5))  # type: ignore[call-arg]


# ---- tiles without files -------------------------------------------------------------------------


@pytest.mark.parametrize("cut_", [(16, 1), (10, 9), (7, 0)])
def test_iter_tiles_gives_every_tile(cut_: tuple[int, int]) -> None:
    for bands, dtype in ((1, np.uint8), (3, np.uint8), (4, np.uint8), (1, np.uint16)):
        pixels = noise(75, 52, bands, dtype=dtype)
        bits = 8 * pixels.itemsize
        found = list(fasttile.iter_tiles(pixels, tile_size=cut_[0], overlap=cut_[1], bits=bits))
        expected = dict(reference.tiles(pixels, *cut_))
        assert len(found) == len(expected)
        for tile, tile_pixels in found:
            np.testing.assert_array_equal(tile_pixels, expected[tile])
            assert tile_pixels.dtype == dtype
        assert found[-1][0] == (0, 0, 0)


def test_tiles_belong_to_who_takes_them() -> None:
    pixels = noise(75, 52, 3)
    before = pixels.copy()
    expected = dict(reference.tiles(pixels, 16, 2))
    found = {}
    for tile, tile_pixels in fasttile.iter_tiles(StreamSource(pixels, 5), tile_size=16, overlap=2):
        assert tile_pixels.base is None
        found[tile] = tile_pixels.copy()
        tile_pixels[:] = 7
    assert len(found) == len(expected)
    for tile, wanted in expected.items():
        np.testing.assert_array_equal(found[Tile(*tile)], wanted)
    np.testing.assert_array_equal(pixels, before)


class TallArray:
    """Slices like an array, and holds nothing."""

    shape = (40_000, 128, 3)
    dtype = np.dtype(np.uint8)

    def __getitem__(self, key: tuple[slice, slice]) -> Array:
        rows, cols = (range(side)[part] for side, part in zip(self.shape, key, strict=False))
        return np.zeros((len(rows), len(cols), 3), np.uint8)


def test_iter_tiles_holds_only_strips() -> None:
    tracemalloc.start()
    try:
        count = sum(1 for _ in fasttile.iter_tiles(TallArray(), tile_size=64, overlap=1))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count > 1_250
    assert peak < 2_000_000  # of 15 million bytes


def is_mapped(path: Path) -> bool:
    gc.collect()
    return str(path) in Path("/proc/self/maps").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="it looks at the process's maps")
def test_an_iteration_left_half_way_closes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "p.npy"
    np.save(path, noise(200, 200, 3))
    tiles = fasttile.iter_tiles(path, tile_size=16)
    for _ in range(5):
        _, kept = next(tiles)
    assert is_mapped(path)
    tiles.close()
    assert not is_mapped(path)
    assert kept.any()
    with pytest.raises(CancelledError):
        cut(path, tmp_path / "p.dzi", tile_size=16, progress=ProgressAnswers(1, None))
    assert not is_mapped(path)
    cut(path, tmp_path / "p.dzi")
    assert not is_mapped(path)


# ---- manners -------------------------------------------------------------------------------------


def pillow_globals() -> dict[str, object]:
    return {
        "MAX_IMAGE_PIXELS": Image.MAX_IMAGE_PIXELS,
        "WARN_POSSIBLE_FORMATS": Image.WARN_POSSIBLE_FORMATS,
        "LOAD_TRUNCATED_IMAGES": ImageFile.LOAD_TRUNCATED_IMAGES,
        "MAXBLOCK": ImageFile.MAXBLOCK,
        "blocks": (Image.core.get_block_size(), Image.core.get_blocks_max()),  # type: ignore[attr-defined]
    }


def test_nothing_is_printed_and_nothing_of_pillow_changed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = pillow_globals()
    file = io.BytesIO()
    Image.fromarray(noise(90, 90, 3)).save(file, "PNG")
    (tmp_path / "p.png").write_bytes(file.getvalue())
    calls: list[Callable[[], object]] = [
        lambda: cut(tmp_path / "p.png", tmp_path / "p.dzi", tile_size=16),
        lambda: cut(tmp_path / "p.png", tmp_path / "w.dzi", format="webp"),
        lambda: list(fasttile.iter_tiles(tmp_path / "p.png")),
    ]
    for call in calls:
        call()
    (tmp_path / "torn.png").write_bytes(file.getvalue()[:9000])
    with pytest.raises(SourceError):
        cut(tmp_path / "torn.png", tmp_path / "torn.dzi")
    assert pillow_globals() == before
    assert capfd.readouterr() == ("", "")


def test_what_is_seen_beside_the_tiles_are_levels(tmp_path: Path) -> None:
    """Programs list them and take each name for a number; a shell's `*` leaves hidden ones out."""
    cut(np.zeros((30, 40, 3), np.uint8), tmp_path / "map.dzi")
    names = {path.name for path in (tmp_path / "map_files").iterdir()}
    assert names == {RECORD_NAME, *map(str, range(7))}
    assert {name for name in names if not name.startswith(".")} == {*map(str, range(7))}
