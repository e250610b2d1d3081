"""Runs to encoded tiles: the same for any number of threads, and nothing left when it fails."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

import profiles
from fasttile import walk as walk_module
from fasttile.abc.source import Source
from fasttile.colour.convert import ColourPlan, TileMetadata, Transform
from fasttile.encode.codecs import Codec, Jpeg, Png, Webp
from fasttile.encode.encoder import Encoder
from fasttile.errors import SourceError, TargetError
from fasttile.geometry import Pyramid, Tile
from fasttile.jobs import pipeline
from fasttile.jobs.pipeline import Pipeline
from fasttile.sinks.memory import MemorySink
from fasttile.walk import RefCount, TileRun, walk
from support import reference
from support.adversarial_sources import MappedArraySource, StreamSource
from support.reading import noise
from support.reference import Array

pytestmark = pytest.mark.usefixtures("no_leaked_thread", "deadlock_timeout")


TILE_GRID = (16, 1)
WHITE = (255, 255, 255)
THREAD_COUNTS = [1, 2, 3, 5]


def random_pixels(height: int = 150, width: int = 210, bands: int = 3) -> Array:
    """Noise, with an area of one colour that covers complete tiles."""
    pixels = noise(height, width, bands)
    pixels[20:120, 30:150] = 99
    return pixels


def pyramid_of(pixels: Array) -> Pyramid:
    height, width, _ = pixels.shape
    return Pyramid.from_size(width, height, tile_size=TILE_GRID[0], overlap=TILE_GRID[1])


def encode_through(
    source: Source,
    pyramid: Pyramid,
    sink: MemorySink,
    codec: Codec,
    threads: int,
    meanwhile: Callable[[], None] = lambda: None,
) -> Pipeline:
    """What a job does: fill the pipeline from the walk, and wait for its end."""
    with Pipeline(sink, codec, WHITE, threads) as pipeline:
        for run in walk(source, pyramid):
            pipeline.put(run)
        pipeline.drain(meanwhile)
    return pipeline


@pytest.fixture
def all_runs_released(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that leaves a run unreleased, or releases one twice."""
    made: list[TileRun] = []
    released: list[TileRun] = []

    class Watched(TileRun):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

        def release(self) -> None:
            released.append(self)
            super().release()

    monkeypatch.setattr(walk_module, "TileRun", Watched)
    yield
    assert made
    assert sorted(map(id, released)) == sorted(map(id, made))


# ---- what comes out ------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [Jpeg(), Png(), Webp(method=0)], ids=repr)
def test_every_tile_encoded_in_the_order_of_the_walk(codec: Codec) -> None:
    pixels = random_pixels()
    encoder = Encoder(codec, WHITE)
    tiles = reference.tiles(pixels, *TILE_GRID)
    expected = {address: encoder.encode(np.ascontiguousarray(tile)) for address, tile in tiles}
    order = [
        tile
        for run in walk(MappedArraySource(pixels), pyramid_of(pixels))
        for tile, _ in run.tiles()
    ]
    for threads in THREAD_COUNTS:
        sink = MemorySink()
        pipeline = encode_through(
            MappedArraySource(pixels), pyramid_of(pixels), sink, codec, threads
        )
        assert list(sink.tiles) == order
        assert sink.tiles == expected
        assert pipeline.tiles == len(expected)
        assert pipeline.bytes == sum(map(len, expected.values()))


@pytest.mark.parametrize("constants", [{}, {"RUN_PIXELS": 1, "SPARE_BYTES": 0, "LINE_BYTES": 0}])
@pytest.mark.parametrize("threads", THREAD_COUNTS)
def test_the_same_bytes_for_any_threads_and_constants(
    threads: int, constants: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in constants.items():
        monkeypatch.setattr(walk_module, name, value)
    pixels = random_pixels(bands=4)
    expected = MemorySink()
    encoder = Encoder(Jpeg(), WHITE)
    for run in walk(MappedArraySource(pixels), pyramid_of(pixels)):
        for tile, tile_pixels in run.tiles():
            expected.put(tile, encoder.encode(tile_pixels.copy()))
        run.release()
    for source in (MappedArraySource(pixels), StreamSource(pixels, 1), StreamSource(pixels, 64)):
        sink = MemorySink()
        encode_through(source, pyramid_of(pixels), sink, Jpeg(), threads)
        assert list(sink.tiles.items()) == list(expected.tiles.items())
        if isinstance(source, MappedArraySource):
            assert not source.populate_counts.any(), "not all runs were released"


def test_an_image_of_one_pixel() -> None:
    sink = MemorySink()
    encode_through(MappedArraySource(noise(1, 1, 3)), Pyramid.from_size(1, 1), sink, Png(), 2)
    (data,) = sink.tiles.values()
    with Image.open(io.BytesIO(data)) as image:
        assert image.getpixel((0, 0)) == tuple(noise(1, 1, 3)[0, 0])


def test_tiles_of_one_colour_are_encoded_once() -> None:
    pixels = np.zeros((200, 200, 3), np.uint8)
    sink = MemorySink()
    encode_through(
        MappedArraySource(pixels),
        Pyramid.from_size(200, 200, tile_size=16, overlap=0),
        sink,
        Jpeg(),
        1,
    )
    top = [data for tile, data in sink.tiles.items() if tile.level == 8]
    assert len(top) == 13 * 13
    assert len({id(data) for data in top}) == 4  # inner tiles, two borders, the corner


# ---- colours and resolutions ---------------------------------------------------------------------


def encode_converted(
    pixels: Array, codec: Codec, threads: int, colours: ColourPlan
) -> dict[Tile, bytes]:
    """All tiles, converted and carrying what a plan says."""
    pyramid = pyramid_of(pixels)
    sink = MemorySink()
    top = pyramid.level_count - 1
    with Pipeline(sink, codec, WHITE, threads, colour_plan=colours, top_level=top) as pipeline:
        for run in walk(MappedArraySource(pixels), pyramid):
            pipeline.put(run)
        pipeline.drain(lambda: None)
    return sink.tiles


@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("codec", [Jpeg(), Png(), Webp(method=0)], ids=repr)
def test_colours_are_converted_on_any_number_of_threads(codec: Codec, bands: int) -> None:
    pixels = random_pixels(bands=bands)
    colours = ColourPlan(Transform(profiles.display_p3()), TileMetadata(None, (300, 300)))
    plain = Encoder(codec, WHITE, transform=colours.transform)
    found = [encode_converted(pixels, codec, threads, colours) for threads in THREAD_COUNTS]
    for other in found[1:]:
        assert list(other.items()) == list(found[0].items())
    for address, tile in reference.tiles(pixels, *TILE_GRID):
        with Image.open(io.BytesIO(found[0][Tile(*address)])) as image:
            expected = Image.open(io.BytesIO(plain.encode(np.ascontiguousarray(tile))))
            np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))


def test_smaller_levels_say_a_smaller_resolution() -> None:
    colours = ColourPlan(tile_metadata=TileMetadata(profiles.display_p3(), (300.0, 72.0)))
    for codec in (Jpeg(), Png()):
        for (level, _, _), data in encode_converted(random_pixels(), codec, 2, colours).items():
            halved = 2 ** (8 - level)
            with Image.open(io.BytesIO(data)) as image:
                assert image.info["icc_profile"] == profiles.display_p3()
                x, y = image.info["dpi"]
            if codec == Jpeg():
                assert (x, y) == (max(1, round(300 / halved)), max(1, round(72 / halved)))
            else:
                assert (x, y) == pytest.approx((300 / halved, 72 / halved), abs=0.02)
    for data in encode_converted(random_pixels(), Webp(method=0), 2, colours).values():
        with Image.open(io.BytesIO(data)) as image:
            assert image.info["icc_profile"] == profiles.display_p3()
            assert "dpi" not in image.info


def test_without_a_top_level_no_resolution_is_said() -> None:
    colours = ColourPlan(tile_metadata=TileMetadata(profiles.display_p3(), (300.0, 300.0)))
    sink = MemorySink()
    with Pipeline(sink, Jpeg(), WHITE, 1, colour_plan=colours) as pipeline:
        for run in walk(MappedArraySource(noise(1, 1, 3)), Pyramid.from_size(1, 1)):
            pipeline.put(run)
        pipeline.drain(lambda: None)
    (data,) = sink.tiles.values()
    assert data == Encoder(Jpeg(), tile_metadata=TileMetadata(profiles.display_p3())).encode(
        noise(1, 1, 3)
    )


@pytest.mark.parametrize(
    ("codec", "resolution", "count"),
    [(Jpeg(), None, 1), (Webp(), (300, 300), 1), (Jpeg(), (4, 4), 3), (Png(), (300, 300), 9)],
)
def test_a_thread_has_an_encoder_for_each_resolution(
    codec: Codec, resolution: tuple[float, float] | None, count: int
) -> None:
    colours = ColourPlan(tile_metadata=TileMetadata(None, resolution))
    encoders = pipeline.ThreadEncoders(codec, WHITE, colours, 8, None)
    found = [encoders.for_level(level) for level in (8, 7, 8, 6, 5, 4, 3, 2, 1, 0, 8)]
    assert len({id(encoder) for encoder in found}) == count
    assert len({id(encoder.scratch) for encoder in found}) == 1
    assert found[0] is found[2] is found[-1]


def test_tiles_of_one_colour_are_encoded_once_for_each_resolution() -> None:
    pixels = np.zeros((150, 210, 3), np.uint8)
    tiles = encode_converted(
        pixels, Jpeg(), 3, ColourPlan(tile_metadata=TileMetadata(None, (300, 300)))
    )
    inner = {level: {id(tiles[Tile(level, col, 1)]) for col in (1, 2)} for level in (7, 8)}
    assert len(inner[7] | inner[8]) == 2
    assert len(inner[7]) == len(inner[8]) == 1


# ---- what goes wrong -----------------------------------------------------------------------------


class FailingMemorySink(MemorySink):
    """Raises at one tile, and remembers what it was given afterwards."""

    def __init__(self, failing_call: int, error: BaseException) -> None:
        super().__init__()
        self.calls = 0
        self._at = failing_call
        self._error = error

    def put(self, tile: Tile, data: bytes) -> None:
        self.calls += 1
        if self.calls == self._at:
            raise self._error
        super().put(tile, data)


@pytest.mark.usefixtures("all_runs_released")
@pytest.mark.parametrize("threads", THREAD_COUNTS)
@pytest.mark.parametrize("error", [TargetError("full"), OSError("gone"), KeyboardInterrupt()])
def test_what_the_sink_raises_arrives(threads: int, error: BaseException) -> None:
    pixels = random_pixels()
    pyramid = pyramid_of(pixels)
    for at in (1, 2, 50, pyramid.tile_count - 1, pyramid.tile_count):
        sink = FailingMemorySink(at, error)
        with pytest.raises(type(error)) as caught:
            encode_through(MappedArraySource(pixels), pyramid, sink, Jpeg(), threads)
        assert caught.value is error
        assert sink.calls == at, "it was called again"


@pytest.mark.usefixtures("all_runs_released")
@pytest.mark.parametrize("threads", THREAD_COUNTS)
def test_what_an_encoder_raises_arrives(threads: int) -> None:
    pixels = noise(200, 200, 1, dtype=np.uint16)  # which JPEG cannot hold
    sink = MemorySink()
    with pytest.raises(OSError, match="JPEG"):
        encode_through(MappedArraySource(pixels), pyramid_of(pixels), sink, Jpeg(), threads)
    assert not sink.tiles


class FailingSource(StreamSource):
    """A stream that ends too early."""

    def rows(self, y0: int, y1: int) -> Array:
        if y1 > 100:
            raise SourceError("the file ends here")
        return super().rows(y0, y1)


@pytest.mark.usefixtures("all_runs_released")
@pytest.mark.parametrize("threads", THREAD_COUNTS)
def test_what_the_source_raises_arrives(threads: int) -> None:
    pixels = random_pixels()
    with pytest.raises(SourceError, match="the file ends here"):
        encode_through(FailingSource(pixels, 7), pyramid_of(pixels), MemorySink(), Jpeg(), threads)


class ShrinkingSource(MappedArraySource):
    """A mapped file that is cut short: the discarding of its pages raises from some call on."""

    def __init__(self, pixels: Array, calls: int) -> None:
        super().__init__(pixels)
        self._calls_left = calls

    def discard(self, view: Array) -> None:
        super().discard(view)
        with self._lock:
            self._calls_left -= 1
            if self._calls_left < 0:
                raise SourceError("the file shrank")


@pytest.mark.usefixtures("all_runs_released")
@pytest.mark.parametrize("threads", THREAD_COUNTS)
@pytest.mark.parametrize("calls", [0, 1, 5])
def test_what_the_release_of_a_run_raises_arrives(threads: int, calls: int) -> None:
    pixels = random_pixels()
    source = ShrinkingSource(pixels, calls)
    with pytest.raises(SourceError, match="the file shrank"):
        encode_through(source, pyramid_of(pixels), MemorySink(), Jpeg(), threads)


@pytest.mark.usefixtures("all_runs_released")
@pytest.mark.parametrize("threads", THREAD_COUNTS)
def test_what_is_raised_meanwhile_arrives(threads: int) -> None:
    release = threading.Event()

    class WaitingSink(MemorySink):
        def put(self, tile: Tile, data: bytes) -> None:
            release.wait()
            super().put(tile, data)

    def meanwhile() -> None:
        release.set()
        raise KeyboardInterrupt

    pixels = noise(1, 1, 3)
    with pytest.raises(KeyboardInterrupt):
        encode_through(
            MappedArraySource(pixels), pyramid_of(pixels), WaitingSink(), Jpeg(), threads, meanwhile
        )


def test_the_last_call_meanwhile_sees_every_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    with Pipeline(MemorySink(), Jpeg(), WHITE, 2) as pipeline:
        for run in walk(MappedArraySource(noise(1, 1, 3)), Pyramid.from_size(1, 1)):
            pipeline.put(run)
        queue = pipeline._to_write

        class WaitingQueue:
            """Waits for the end of the writer, which may be quicker than the caller."""

            def put(self, item: Any) -> None:
                queue.put(item)
                pipeline._threads[0].join()

            get = queue.get

        monkeypatch.setattr(pipeline, "_to_write", WaitingQueue())
        pipeline.drain(lambda: seen.append(pipeline.tiles))
    assert seen == [1]


@pytest.mark.usefixtures("all_runs_released")
def test_leaving_early_drops_what_is_under_way() -> None:
    sink = MemorySink()
    runs = walk(MappedArraySource(random_pixels()), pyramid_of(random_pixels()))
    with Pipeline(sink, Jpeg(), WHITE, 3) as pipeline:
        for _ in range(5):
            pipeline.put(next(runs))
    assert len(sink.tiles) == pipeline.tiles < pyramid_of(random_pixels()).tile_count


def test_a_pipeline_that_nothing_was_put_into_ends() -> None:
    with Pipeline(MemorySink(), Jpeg(), WHITE, 4) as pipeline:
        pass
    assert pipeline.tiles == 0


# ---- what is bounded -----------------------------------------------------------------------------


@pytest.mark.parametrize("threads", THREAD_COUNTS)
def test_a_slow_sink_holds_the_walk_up(threads: int) -> None:
    open_again = threading.Event()
    ended = threading.Event()
    made: list[Any] = []

    class ClosedSink(MemorySink):
        def put(self, tile: Tile, data: bytes) -> None:
            open_again.wait()
            super().put(tile, data)

    level = Pyramid.from_size(16, 16 * 200, tile_size=16, overlap=0).levels[-1]
    pixels = noise(16, 16, 3)
    sink = ClosedSink()

    def fill() -> None:
        with Pipeline(sink, Jpeg(), WHITE, threads) as pipeline:
            for row in range(200):
                lease = RefCount(lambda: None)
                made.append(row)
                pipeline.put(TileRun(level, row, range(1), pixels, lease))
                lease.release()
            pipeline.drain(lambda: None)
        ended.set()

    walker = threading.Thread(target=fill)
    walker.start()
    assert not ended.wait(0.3)
    # One with the writer, the queue, and the one that waits for a place in it.
    assert len(made) <= 1 + 2 * threads + 2 + 1
    open_again.set()
    walker.join()
    assert len(sink.tiles) == 200
