"""The walk against the oracle: every tile once, in one order, for each source and memory."""

from __future__ import annotations

import itertools
import queue
import random
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fasttile import walk as walk_module
from fasttile.abc.source import Source
from fasttile.errors import SourceError
from fasttile.geometry import Canvas, Pyramid, Rounding, Tile
from fasttile.types import Shrink
from fasttile.walk import RefCount, TileRun, walk
from support import reference
from support.adversarial_sources import (
    AdversarialSource,
    LendingSource,
    MappedArraySource,
    StreamSource,
)
from support.reading import noise
from support.reference import Array
from support.sampling import sampled

pytestmark = pytest.mark.usefixtures("no_leaked_thread", "deadlock_timeout")


MakeSource = Callable[[Array], Source]

SOURCES: dict[str, MakeSource] = {
    "map": MappedArraySource,
    "stream 1": lambda pixels: StreamSource(pixels, 1),
    "stream 2": lambda pixels: StreamSource(pixels, 2),
    "stream 3": lambda pixels: StreamSource(pixels, 3),
    "stream 7": lambda pixels: StreamSource(pixels, 7),
    "lender": LendingSource,
}

DEFAULT_LIMITS: dict[str, int] = {}
TINY_LIMITS = {"LINE_BYTES": 0, "BLOCK_BYTES": 1, "SPARE_BYTES": 0, "RUN_PIXELS": 1}
SMALL_LIMITS = {"LINE_BYTES": 60, "BLOCK_BYTES": 40, "SPARE_BYTES": 99, "RUN_PIXELS": 9}

TILE_GRIDS = [(size, overlap) for size in range(1, 5) for overlap in range(size)] + [(7, 2), (9, 8)]
"""Tile size and overlap."""


def pyramid_of(pixels: Array, cut: tuple[int, int], rounding: Rounding = "up") -> Pyramid:
    height, width, _ = pixels.shape
    return Pyramid(Canvas(width, height, rounding=rounding), *cut)


def walk_tiles(
    source: Source, pyramid: Pyramid, shrink: Shrink = "mean"
) -> list[tuple[Tile, Array]]:
    """All tiles, by one who works off each run before the next."""
    found = []
    light = reference.srgb_tables(source.dtype) if shrink == "linear" else None
    for run in walk(source, pyramid, shrink, light=light):
        found += [(tile, pixels.copy()) for tile, pixels in run.tiles()]
        assert len(run) == len(run.cols)
        run.release()
    return found


def assert_tiles(
    actual: list[tuple[Tile, Array]],
    pixels: Array,
    cut: tuple[int, int],
    rounding: Rounding = "up",
    shrink: Shrink = "mean",
) -> None:
    """Every tile of the oracle, each once, and no other."""
    expected = dict(reference.tiles(pixels, *cut, rounding=rounding, method=shrink))
    assert len(actual) == len(expected)
    assert {tile for tile, _ in actual} == set(expected)
    for tile, tile_pixels in actual:
        wanted = expected[tile]
        assert tile_pixels.shape == wanted.shape, tile
        assert tile_pixels.tobytes() == wanted.tobytes(), tile


def images(sides: Iterable[int]) -> Iterator[Array]:
    """Noise of each size, of one to four bands in turn."""
    for height, width in itertools.product(sides, repeat=2):
        yield noise(height, width, 1 + (height + 2 * width) % 4)


# ---- all small cases -----------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", ["up", "down"])
@pytest.mark.parametrize(
    "constants", [DEFAULT_LIMITS, TINY_LIMITS, SMALL_LIMITS], ids=["normal", "tiny", "small"]
)
@pytest.mark.parametrize("kind", sampled(SOURCES, ["map", "stream 7", "lender"]))
def test_every_tile_of_every_small_image(
    kind: str, constants: dict[str, int], rounding: Rounding, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in constants.items():
        monkeypatch.setattr(walk_module, name, value)
    for number, pixels in enumerate(images(range(1, 10))):
        # Each cut meets each size in one of the ways, and all of them in the normal one.
        for cut in (
            TILE_GRIDS
            if constants is DEFAULT_LIMITS and kind == "map"
            else TILE_GRIDS[number % 3 :: 3]
        ):
            source = SOURCES[kind](pixels)
            found = walk_tiles(source, pyramid_of(pixels, cut, rounding))
            assert_tiles(found, pixels, cut, rounding)
            if isinstance(source, MappedArraySource):
                assert not source.populate_counts.any(), "not discarded"
            if isinstance(source, LendingSource):
                assert not source.lent_requests, "not given back"


@pytest.mark.parametrize("block_bytes", range(1, 130, 11))
@pytest.mark.parametrize("cut", [(4, 1), (5, 0), (5, 2), (6, 3)])
def test_lines_in_blocks_of_any_size(
    block_bytes: int, cut: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk_module, "LINE_BYTES", 0)
    monkeypatch.setattr(walk_module, "BLOCK_BYTES", block_bytes)
    for height in (1, 4, 7, 11, 14, 23):
        pixels = noise(height, 13, 1)
        source = MappedArraySource(pixels)
        assert_tiles(walk_tiles(source, pyramid_of(pixels, cut)), pixels, cut)
        assert not source.populate_counts.any()


@pytest.mark.parametrize("cut", [(1, 0), (3, 1), (4, 3), (8, 2)])
def test_one_order_for_every_source_and_constant(
    cut: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for pixels in images((1, 2, 7, 12, 19)):
        pyramid = pyramid_of(pixels, cut)
        orders = set()
        for constants, kind in itertools.product(
            (DEFAULT_LIMITS, TINY_LIMITS, SMALL_LIMITS), SOURCES
        ):
            with monkeypatch.context() as patch:
                for name, value in constants.items():
                    patch.setattr(walk_module, name, value)
                orders.add(tuple(tile for tile, _ in walk_tiles(SOURCES[kind](pixels), pyramid)))
        assert len(orders) == 1
        (order,) = orders
        assert order[-1] == (0, 0, 0)
        for level in pyramid.levels:
            assert [tile for tile in order if tile.level == level.number] == list(level.tiles())
            if level.number:
                below = pyramid.levels[level.number - 1]
                for row in range(below.rows):
                    made_from = min(2 * below.row_span(row)[1], level.height) - 1
                    line = made_from // level.tile_size
                    assert order.index(Tile(level.number, 0, line)) < order.index(
                        Tile(below.number, 0, row)
                    )


def values(pixels: Array) -> set[tuple[int, ...]]:
    """The different pixels."""
    return {tuple(pixel) for pixel in pixels.reshape(-1, pixels.shape[2]).tolist()}


@pytest.mark.parametrize("shrink", ["nearest", "mode"])
@pytest.mark.parametrize("rounding", sampled(["up", "down"], ["up"]))
@pytest.mark.parametrize("constants", [DEFAULT_LIMITS, TINY_LIMITS], ids=["normal", "tiny"])
@pytest.mark.parametrize(
    "kind", sampled(["map", "stream 1", "stream 7", "lender"], ["map", "lender"])
)
def test_labels_stay_labels(
    kind: str,
    constants: dict[str, int],
    rounding: Rounding,
    shrink: Shrink,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in constants.items():
        monkeypatch.setattr(walk_module, name, value)
    for number, pixels in enumerate(images((1, 2, 3, 4, 5, 7, 8, 13, 22))):
        few = pixels // 200 * 50 + 3  # two different values, the larger one seldom
        for cut in TILE_GRIDS[number % 3 :: 3]:
            found = walk_tiles(SOURCES[kind](few), pyramid_of(few, cut, rounding), shrink)
            assert_tiles(found, few, cut, rounding, shrink)
            for tile, tile_pixels in found:
                assert values(tile_pixels) <= values(few), tile


# ---- anything ------------------------------------------------------------------------------------


@st.composite
def tile_grids(draw: st.DrawFn) -> tuple[int, int]:
    size = draw(st.integers(1, 40))
    return size, draw(st.integers(0, size - 1))


@given(
    shape=st.tuples(st.integers(1, 100), st.integers(1, 100), st.integers(1, 4)),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    cut=tile_grids(),
    row_step=st.integers(0, 140),
    rounding=st.sampled_from(["up", "down"]),
    shrink=st.sampled_from(get_args(Shrink)),
    limits=st.tuples(*[st.integers(0, 20_000)] * 4),
)
@settings(max_examples=100, deadline=None)
def test_anything(
    shape: tuple[int, int, int],
    dtype: Any,
    cut: tuple[int, int],
    row_step: int,
    rounding: Rounding,
    shrink: Shrink,
    limits: tuple[int, ...],
) -> None:
    pixels = noise(*shape, dtype=dtype)
    if shrink == "mode":
        pixels //= np.iinfo(dtype).max // 3
    source = StreamSource(pixels, row_step) if row_step else MappedArraySource(pixels)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(TINY_LIMITS, limits, strict=True):
            patch.setattr(walk_module, name, value)
        found = walk_tiles(source, pyramid_of(pixels, cut, rounding), shrink)
        assert_tiles(found, pixels, cut, rounding, shrink)


def test_a_photograph(photograph_pixels: Array) -> None:
    for source in (MappedArraySource(photograph_pixels), StreamSource(photograph_pixels, 64)):
        assert_tiles(
            walk_tiles(source, pyramid_of(photograph_pixels, (254, 1))), photograph_pixels, (254, 1)
        )


@pytest.fixture(scope="module")
def photograph_pixels() -> Array:
    data = pytest.importorskip("skimage.data")
    return np.asarray(data.astronaut())[:507, :511].copy()


# ---- how a source is read ------------------------------------------------------------------------


@pytest.mark.parametrize("row_step", [1, 2, 3, 7, 64, 1000])
def test_a_stream_is_read_to_its_end_once(row_step: int) -> None:
    pixels = noise(131, 20, 3)
    stream = StreamSource(pixels, row_step)  # which complains if rows come twice or backwards
    walk_tiles(stream, pyramid_of(pixels, (16, 2)))
    assert stream.next_row == 131


def test_a_map_is_brought_in_by_lines_or_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(400, 300, 1)
    pyramid = pyramid_of(pixels, (20, 1))
    by_line = MappedArraySource(pixels)
    walk_tiles(by_line, pyramid)
    assert by_line.max_populated_pixels <= 2 * 300 * (
        20 + 2 + 1
    )  # one handed out while one is halved
    monkeypatch.setattr(walk_module, "LINE_BYTES", 0)
    monkeypatch.setattr(walk_module, "BLOCK_BYTES", 1000)
    by_block = MappedArraySource(pixels)
    walk_tiles(by_block, pyramid)
    assert by_block.max_populated_pixels <= 3 * 1000


@pytest.mark.parametrize("kind", ["rows", "populate"])
def test_what_a_source_raises_arrives(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(100, 20, 1)
    source = MappedArraySource(pixels) if kind == "populate" else StreamSource(pixels, 7)
    complete = getattr(source, kind)
    calls = itertools.count()

    def failing(*arguments: Any) -> Any:
        if next(calls) == 3:
            raise SourceError("the disk is gone")
        return complete(*arguments)

    monkeypatch.setattr(source, kind, failing)
    with pytest.raises(SourceError, match="the disk is gone"):
        walk_tiles(source, pyramid_of(pixels, (16, 1)))


# ---- memory, and consumers on other threads ------------------------------------------------------


def consume_on_threads(
    source: Source, pyramid: Pyramid, threads: int, ahead: int
) -> list[tuple[Tile, Array]]:
    """All tiles, by threads that hold each run for a while, and copy it only at the end."""
    found: list[tuple[Tile, Array]] = []
    runs: queue.Queue[TileRun | None] = queue.Queue(ahead)

    def work(number: int) -> None:
        pauses = random.Random(number)
        while (run := runs.get()) is not None:
            time.sleep(pauses.choice((0, 0, 0.0001, 0.002)))
            copies = [(tile, pixels.copy()) for tile, pixels in run.tiles()]
            run.release()
            found.extend(copies)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for run in walk(source, pyramid):
        runs.put(run)
    for _ in workers:
        runs.put(None)
    for worker in workers:
        worker.join()
    return found


@pytest.mark.parametrize("constants", [DEFAULT_LIMITS, TINY_LIMITS], ids=["normal", "tiny"])
@pytest.mark.parametrize("kind", ["map", "stream 7"])
def test_runs_held_on_other_threads_stay_unchanged(
    kind: str, constants: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in constants.items():
        monkeypatch.setattr(walk_module, name, value)
    pixels = noise(150, 90, 3)
    for threads, ahead in ((1, 1), (3, 8), (5, 100)):
        source = SOURCES[kind](pixels)
        found = consume_on_threads(source, pyramid_of(pixels, (16, 3)), threads, ahead)
        assert_tiles(found, pixels, (16, 3))
        if isinstance(source, MappedArraySource):
            assert not source.populate_counts.any()


def test_the_walk_waits_for_memory_that_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk_module, "SPARE_BYTES", 0)
    pixels = noise(64, 16, 1)
    runs: queue.Queue[TileRun | None] = queue.Queue()

    def go() -> None:
        for run in walk(StreamSource(pixels, 64), pyramid_of(pixels, (16, 0))):
            runs.put(run)
        runs.put(None)

    walker = threading.Thread(target=go, daemon=True)
    walker.start()
    held: list[Any] = []
    with suppress(queue.Empty):
        while True:
            held.append(runs.get(timeout=0.3))
    assert walker.is_alive(), "it went on without the memory"
    # One line that is handed out, and one that is halved meanwhile.
    assert {run.row for run in held if run.level.width == 16} <= {0, 1}
    for run in held:
        run.release()
    while (run := runs.get()) is not None:
        run.release()
    walker.join()


class EndlessSource(AdversarialSource):
    """Rows made up as they are asked for: no memory of its own but one step."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(np.empty((1, width, 3), np.uint8))
        self.height = height
        self.preferred_rows = 16
        self._step = noise(16, width, 3)

    def rows(self, y0: int, y1: int) -> Array:
        return self._step[: y1 - y0]


def peak_memory(height: int, consume: Callable[[Source, Pyramid], None]) -> int:
    """The most memory in bytes that a walk down an image of this height takes."""
    pyramid = Pyramid.from_size(512, height, tile_size=32, overlap=1)
    source = EndlessSource(512, height)
    tracemalloc.start()
    try:
        consume(source, pyramid)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def release_at_once(source: Source, pyramid: Pyramid) -> None:
    for run in walk(source, pyramid):
        run.release()


def test_memory_grows_with_the_width_only() -> None:
    # Twice the strips of all levels: what is halved is there while the next is filled.
    strips = 2 * 512 * 3 * (32 + 3)
    low, high = peak_memory(1_000, release_at_once), peak_memory(16_000, release_at_once)
    assert high < low + 20_000
    assert high < 2 * strips


def test_memory_is_bounded_when_runs_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk_module, "SPARE_BYTES", 500_000)

    def hold_all(source: Source, pyramid: Pyramid) -> None:
        """Hold every run until the walk cannot go on without them."""
        held: queue.Queue[TileRun | None] = queue.Queue()
        stuck = threading.Event()

        def release() -> None:
            while (run := held.get()) is not None:
                stuck.wait(0.002)
                run.release()

        thread = threading.Thread(target=release)
        thread.start()
        for run in walk(source, pyramid):
            held.put(run)
        held.put(None)
        stuck.set()
        thread.join()

    assert peak_memory(4_000, hold_all) < 2 * 2 * 512 * 3 * 35 + 500_000 + 200_000


# ---- the lease -----------------------------------------------------------------------------------


def test_the_last_release_calls_on_zero_once() -> None:
    ends: list[int] = []
    lease = RefCount(lambda: ends.append(1))
    for _ in range(500):
        lease.acquire()
    threads = [
        threading.Thread(target=lambda: [lease.release() for _ in range(50)]) for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == []
    lease.release()
    assert ends == [1]
