"""The encoder pipeline: encoder threads in parallel, and one writer thread that keeps the order.

A signal may raise an exception in the calling thread between any two instructions. So that thread
takes no lock that is written in Python (queue.Queue, Condition, ThreadPoolExecutor): an exception
in it would leave the lock held, and other threads would wait for ever. It uses `SimpleQueue`, whose
operations are single steps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from fasttile.abc.sink import PathSink, Sink
from fasttile.colour.convert import NO_CONVERSION, ColourPlan, TileMetadata
from fasttile.encode.codecs import Codec
from fasttile.encode.encoder import BlankCriterion, Encoder
from fasttile.geometry import Tile
from fasttile.types import Background, Pixels
from fasttile.walk import TileRun

if TYPE_CHECKING:
    from fasttile.storage.journal import Journal

EncodedTiles = list[tuple[Tile, bytes | None, bytes | None]]
"""Tiles, their bytes, and those of their halves; None for tiles that are skipped, and no halves."""

WAIT_SECONDS = 0.05
"""Time between two calls of `on_wait`, and two looks at threads that end."""


class HalvedTiles(NamedTuple):
    """The halves that are stored beside tiles.

    Attributes:
        path: Path of the half of a tile.
        shrink: Makes its pixels.
    """

    path: Callable[[Tile], str]
    shrink: Callable[[Pixels], Pixels]


class _QueuedRun:
    """A run, and a queue for its encoded tiles, or the error of their encoder."""

    def __init__(self, run: TileRun) -> None:
        self.run = run
        self.encoded: SimpleQueue[EncodedTiles | BaseException] = SimpleQueue()


class Pipeline:
    """Encodes runs of tiles on threads and puts them into a sink, in the order of the runs.

    The queue is bounded: `put` waits while the encoders or the sink are busy. A context manager:
    at its end all threads have ended. An error in a thread is raised by the next `put` or by
    `drain`.

    Args:
        sink: Receives the tiles, all from one thread.
        codec, background: Encoder of the tiles, and the background of transparent pixels.
        threads: Number of tiles that are encoded at a time.
        colour_plan: Conversion of the colours, and the metadata of the tiles.
        top_level: Number of the level at full size; each level below has half the resolution.
            None: tiles carry no resolution.
        blank: Which tiles are skipped. None: none.
        journal: Lists the tiles that earlier runs have stored, which are not encoded again; it
            records each run of tiles that the sink has taken.
        check_intact: Called before the sink gets tiles; raises an error if their pixels are not
            those of the image. Default: nothing is checked.
        halves: The halves that are stored beside the tiles; the sink is a `PathSink` then. Default:
            there are none.

    Attributes:
        tiles, bytes: Tiles that the sink has taken so far, and their bytes, earlier runs included.
        blanks: Tiles that were skipped so far.
    """

    def __init__(
        self,
        sink: Sink,
        codec: Codec,
        background: Background,
        threads: int,
        *,
        colour_plan: ColourPlan = NO_CONVERSION,
        top_level: int | None = None,
        blank: BlankCriterion | None = None,
        journal: Journal | None = None,
        check_intact: Callable[[], None] = lambda: None,
        halves: HalvedTiles | None = None,
    ) -> None:
        self.tiles = 0 if journal is None else journal.tiles
        self.bytes = 0 if journal is None else journal.bytes
        self.blanks = 0 if journal is None else journal.blanks
        self._journal = journal
        self._check_intact = check_intact
        self._sink = sink
        self._halves = halves
        self._encoders = ThreadEncoders(codec, background, colour_plan, top_level, blank)
        if isinstance(sink, PathSink):
            self._add = sink.add
        if halves is not None:
            self._half_encoders = ThreadEncoders(codec, background, colour_plan, top_level, None)
        self._is_stopped = False
        self._failure: BaseException | None = None
        self._to_encode: SimpleQueue[_QueuedRun | None] = SimpleQueue()
        self._to_write: SimpleQueue[_QueuedRun | None] = SimpleQueue()
        self._free_places: SimpleQueue[None] = SimpleQueue()
        for _ in range(threads + 2):
            self._free_places.put(None)
        self._has_news: SimpleQueue[None] = SimpleQueue()  # gets an entry when a thread ends
        self._threads = [_EndingThread("writer", self._write, self._has_news)]
        for _ in range(threads):
            self._threads.append(_EndingThread("encoder", self._encode, self._has_news))
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:  # also a signal: those that run end without having had a run
            self._end_threads()
            raise

    def put(self, run: TileRun) -> None:
        """Queue a run; it is released when its tiles are encoded.

        Raises:
            Exception: An error of an encoder or of the sink.
        """
        journal, cols = self._journal, run.cols
        if journal is not None and journal.contains(
            run.level.number, run.row, cols.start, cols.stop
        ):
            run.release()
        else:
            self._free_places.get()
            queued = _QueuedRun(run)
            self._to_encode.put(queued)
            self._to_write.put(queued)
        self._raise_failure()

    def drain(self, on_wait: Callable[[], None]) -> None:
        """Wait until the sink has every tile; call `on_wait` every 0.05 s and at the end.

        Raises:
            Exception: An error of an encoder or of the sink.
        """
        self._to_write.put(None)
        has_ended = False
        while not has_ended:
            with suppress(Empty):
                self._has_news.get(timeout=WAIT_SECONDS)
            has_ended = self._threads[0].has_ended  # the writer's
            on_wait()
        self._raise_failure()

    def encode_single_tile(self, level: int, pixels: Pixels) -> bytes | None:
        """Encode the only tile of a level once more; None: it is blank, and skipped."""
        return self._encoders.for_level(level).encode(pixels)

    def encode_image(self, level: float, pixels: Pixels) -> bytes:
        """Encode an image with the codec of the tiles; a fraction is between two levels."""
        data = self._encoders.for_level(level).encode(pixels)
        assert data is not None  # layouts with such images skip no tiles
        return data

    def encode_half(self, level: int, pixels: Pixels) -> bytes | None:
        """Encode the half of a tile of a level, with the codec of the tiles; None: no halves."""
        if self._halves is None:
            return None
        halved = self._halves.shrink(pixels)
        return self._half_encoders.for_level(level - 1).encode(halved)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        again: BaseException | None = None
        while True:
            try:
                self._is_stopped = True
                self._end_threads()
                for thread in self._threads:
                    while not thread.has_ended:
                        with suppress(Empty):
                            self._has_news.get(timeout=WAIT_SECONDS)
                break
            except BaseException as interrupt:
                again = interrupt  # wait again: no thread may use the source after this
        for thread in self._threads:
            thread.join()
        if again is not None and error is None:
            raise again

    def _end_threads(self) -> None:
        """Let each thread end after the runs that are queued; a second call does no harm."""
        for _ in self._threads:
            self._to_encode.put(None)
        self._to_write.put(None)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _encode(self) -> None:
        while (queued := self._to_encode.get()) is not None:
            encoded: EncodedTiles | BaseException
            try:
                encoded = self._encode_run(queued.run)
            except BaseException as error:
                encoded = error
            queued.encoded.put(encoded)

    def _encode_run(self, run: TileRun) -> EncodedTiles:
        try:
            if self._is_stopped or self._failure is not None:
                return []
            encoder = self._encoders.for_level(run.level.number)
            number, encoded = run.level.number, []
            for tile, pixels in run.tiles():
                data = encoder.encode(pixels)
                half = None if data is None else self.encode_half(number, pixels)
                encoded.append((tile, data, half))
            return encoded
        finally:
            run.release()  # raises when the mapped image was cut short

    def _write(self) -> None:
        # Continues after a failure: `put` would wait for ever for a free place otherwise.
        while (queued := self._to_write.get()) is not None:
            self._free_places.put(None)
            try:
                encoded = queued.encoded.get()
                if isinstance(encoded, BaseException):
                    raise encoded
                if not (self._is_stopped or self._failure is not None):
                    self._store(queued.run, encoded)
            except BaseException as failure:  # raised again in the calling thread
                self._failure = self._failure or failure

    def _store(self, run: TileRun, encoded: EncodedTiles) -> None:
        self._check_intact()  # all pixels of the run were read before
        tiles, nbytes = self.tiles, self.bytes
        for tile, data, half in encoded:
            if data is None:
                self.blanks += 1
                continue
            self._sink.put(tile, data)
            self.tiles += 1
            self.bytes += len(data)
            if half is not None:
                assert self._halves is not None
                self._add((self._halves.path(tile),), half)
                self.bytes += len(half)
        if self._journal is not None:
            tiles, nbytes, cols = self.tiles - tiles, self.bytes - nbytes, run.cols
            blanks = len(cols) - tiles
            line = (run.level.number, run.row)
            self._journal.record(*line, cols.start, cols.stop, tiles, blanks, nbytes)


class _EndingThread(threading.Thread):
    """A thread that says when it has ended: `join` and `is_alive` err after an interruption."""

    def __init__(self, name: str, work: Callable[[], None], has_news: SimpleQueue[None]) -> None:
        # Daemon: nobody joins a thread whose start was interrupted.
        super().__init__(name=f"fasttile-{name}", daemon=True)
        self.has_ended = False
        self._work = work
        self._has_news = has_news

    def run(self) -> None:
        """Do the work, then set `has_ended`."""
        try:
            self._work()
        finally:
            self.has_ended = True
            self._has_news.put(None)


class ThreadEncoders:
    """Encoders of each thread: one, or one per resolution that tiles carry.

    Encoded tiles of one colour are shared by all threads.
    """

    def __init__(
        self,
        codec: Codec,
        background: Background,
        colour_plan: ColourPlan,
        top_level: int | None,
        blank: BlankCriterion | None,
    ) -> None:
        self._codec = codec
        self._background = background
        self._blank = blank
        self._transform = colour_plan.transform
        self._tile_metadata = colour_plan.tile_metadata
        if top_level is None:
            self._tile_metadata = colour_plan.tile_metadata._replace(resolution=None)
        self._top_level = top_level or 0
        self._uniform_tiles: dict[TileMetadata, dict[tuple[Any, ...], bytes | None]] = {}
        self._thread_local = threading.local()

    def for_level(self, level: float) -> Encoder:
        """The calling thread's encoder for the tiles of a level."""
        encoders: dict[float, Encoder] | None = getattr(self._thread_local, "encoders", None)
        if encoders is None:
            encoders = self._thread_local.encoders = {}
        encoder = encoders.get(level)
        if encoder is None:
            encoder = encoders[level] = self._create_for_level(level, [*encoders.values()])
        return encoder

    def _create_for_level(self, level: float, others: list[Encoder]) -> Encoder:
        """One of the thread's other encoders if it writes the same metadata, else a new one."""
        metadata = self._codec.storable_metadata(
            self._tile_metadata.downscaled(self._top_level - level)
        )
        for other in others:
            if other.tile_metadata == metadata:
                return other
        return Encoder(
            self._codec,
            self._background,
            self._uniform_tiles.setdefault(metadata, {}),
            transform=self._transform,
            tile_metadata=metadata,
            scratch=others[0].scratch if others else None,
            blank=self._blank,
        )
