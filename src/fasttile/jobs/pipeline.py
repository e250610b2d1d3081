"""Runs of tiles to encoded tiles in a sink: encoder threads side by side, one writer in order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fasttile.abc.sink import Sink
from fasttile.colour.convert import NO_CONVERSION, ColourPlan, TileMetadata
from fasttile.encode.codecs import Codec
from fasttile.encode.encoder import BlankCriterion, Encoder
from fasttile.geometry import Tile
from fasttile.types import Colour, Pixels
from fasttile.walk import TileRun

if TYPE_CHECKING:
    from fasttile.storage.journal import Journal

EncodedTiles = list[tuple[Tile, bytes | None]]


class Pipeline:
    """Encodes runs on threads and puts their tiles into a sink, in the order of the runs.

    What is under way is bounded: `put` waits while the encoders or the sink have enough to do.
    It is a context manager that leaves no thread behind; what goes wrong in a thread is raised
    by the next `put`, or by `drain`.

    Args:
        sink: Takes the tiles, all from one thread.
        codec, background: How tiles are encoded.
        threads: How many tiles are encoded at a time.
        colours: How their colours are converted, and what they carry.
        top_level: The number of the level at full size, from which on resolutions are halved.
            None: no tile says its resolution.
        blank: What tiles look like that are left out. None: none is.
        journal: What runs before have stored, and is not encoded again; each run of tiles that
            the sink has taken is noted in it.

    Attributes:
        tiles, bytes: What the sink has taken so far, that of runs before included.
        blanks: How many tiles were left out so far.
    """

    def __init__(
        self,
        sink: Sink,
        codec: Codec,
        background: Colour,
        threads: int,
        *,
        colour_plan: ColourPlan = NO_CONVERSION,
        top_level: int | None = None,
        blank: BlankCriterion | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.tiles = 0 if journal is None else journal.tiles
        self.bytes = 0 if journal is None else journal.bytes
        self.blanks = 0 if journal is None else journal.blanks
        self._journal = journal
        self._sink = sink
        self._encoders = _ThreadEncoders(codec, background, colour_plan, top_level, blank)
        self._is_stopped = self._is_closed = False
        self._failure: BaseException | None = None
        self._pending: queue.Queue[tuple[TileRun, Future[EncodedTiles]] | None] = queue.Queue(
            threads + 2
        )
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fasttile-encoder")
        self._writer = threading.Thread(target=self._write, name="fasttile-writer")
        self._writer.start()

    def put(self, run: TileRun) -> None:
        """Take a run; it is released when its tiles are encoded.

        Raises:
            Exception: Whatever an encoder or the sink has failed with.
        """
        if self._is_stored(run):
            run.release()
        else:
            self._pending.put((run, self._pool.submit(self._encode, run)))
        self._raise_failure()

    def drain(self, on_wait: Callable[[], None]) -> None:
        """Wait until the sink has every tile, calling `meanwhile` now and then, and at the end.

        Raises:
            Exception: Whatever an encoder or the sink has failed with.
        """
        self._pending.put(None)
        under_way = True
        while under_way:
            self._writer.join(0.05)
            under_way = self._writer.is_alive()
            on_wait()
        self._raise_failure()

    def encode_level_image(self, level: int, pixels: Pixels) -> bytes:
        """An image of a whole level, encoded as its tiles are; in the calling thread."""
        data = self._encoders.for_level(level).encode(pixels)
        assert data is not None  # layouts with such images leave out nothing
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_stopped = True
        again: BaseException | None = None
        while not self._is_closed:
            try:
                self._join_threads()
            except BaseException as interrupt:  # once more: nobody may use the source after this
                again = interrupt
        if again is not None and error is None:
            raise again

    def _join_threads(self) -> None:
        """Wait until all threads have ended."""
        if self._writer.is_alive():
            self._pending.put(None)
            self._writer.join()
        self._pool.shutdown()
        self._is_closed = True

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _encode(self, run: TileRun) -> EncodedTiles:
        try:
            if self._is_stopped or self._failure is not None:
                return []
            encoder = self._encoders.for_level(run.level.number)
            return [(tile, encoder.encode(pixels)) for tile, pixels in run.tiles()]
        finally:
            run.release()

    def _is_stored(self, run: TileRun) -> bool:
        """Whether a run before has stored it."""
        journal, cols = self._journal, run.cols
        return journal is not None and journal.contains(
            run.level.number, run.row, cols.start, cols.stop
        )

    def _write(self) -> None:
        # Goes on after a failure, so that nobody waits for a place in the queue for ever.
        while (taken := self._pending.get()) is not None:
            run, future = taken
            try:
                encoded = future.result()
                if not (self._is_stopped or self._failure is not None):
                    self._store(run, encoded)
            except BaseException as failure:  # raised again in the calling thread
                self._failure = self._failure or failure

    def _store(self, run: TileRun, encoded: EncodedTiles) -> None:
        tiles, nbytes = self.tiles, self.bytes
        for tile, data in encoded:
            if data is None:
                self.blanks += 1
                continue
            self._sink.put(tile, data)
            self.tiles += 1
            self.bytes += len(data)
        if self._journal is not None:
            tiles, nbytes, cols = self.tiles - tiles, self.bytes - nbytes, run.cols
            blanks = len(cols) - tiles
            line = (run.level.number, run.row)
            self._journal.record(*line, cols.start, cols.stop, tiles, blanks, nbytes)


class _ThreadEncoders:
    """Each thread's own encoders: one, or where tiles say their resolution, one for each.

    What tiles of one colour were encoded to is shared by all threads.
    """

    def __init__(
        self,
        codec: Codec,
        background: Colour,
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
            self._tile_metadata = replace(colour_plan.tile_metadata, resolution=None)
        self._top_level = top_level or 0
        self._uniform_tiles: dict[TileMetadata, dict[tuple[Any, ...], bytes | None]] = {}
        self._thread_local = threading.local()

    def for_level(self, level: int) -> Encoder:
        """The calling thread's encoder for tiles of a level."""
        encoders: dict[int, Encoder] | None = getattr(self._thread_local, "encoders", None)
        if encoders is None:
            encoders = self._thread_local.encoders = {}
        encoder = encoders.get(level)
        if encoder is None:
            encoder = encoders[level] = self._create_for_level(level, [*encoders.values()])
        return encoder

    def _create_for_level(self, level: int, others: list[Encoder]) -> Encoder:
        """One of the thread's other encoders if it will do, else a new one."""
        attached = self._codec.storable_metadata(
            self._tile_metadata.downscaled(self._top_level - level)
        )
        for other in others:
            if other.tile_metadata == attached:
                return other
        return Encoder(
            self._codec,
            self._background,
            self._uniform_tiles.setdefault(attached, {}),
            transform=self._transform,
            tile_metadata=attached,
            scratch=others[0].scratch if others else None,
            blank=self._blank,
        )
