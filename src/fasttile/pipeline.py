"""Runs of tiles to encoded tiles in a sink: encoder threads side by side, one writer in order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .blank import Blank
from .codec import Codec
from .colour import NO_COLOURS, Attached, Colours
from .encoder import Encoder
from .geometry import Tile
from .pyramid import Pixels, Run
from .resample import Colour
from .sinks.base import Sink

if TYPE_CHECKING:
    from .journal import Journal

Encoded = list[tuple[Tile, bytes | None]]


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
        colours: Colours = NO_COLOURS,
        top_level: int | None = None,
        blank: Blank | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.tiles = 0 if journal is None else journal.tiles
        self.bytes = 0 if journal is None else journal.bytes
        self.blanks = 0 if journal is None else journal.blanks
        self._journal = journal
        self._sink = sink
        self._encoders = _Encoders(codec, background, colours, top_level, blank)
        self._stopped = self._ended = False
        self._failure: BaseException | None = None
        self._under_way: queue.Queue[tuple[Run, Future[Encoded]] | None] = queue.Queue(threads + 2)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fasttile-encoder")
        self._writer = threading.Thread(target=self._write, name="fasttile-writer")
        self._writer.start()

    def put(self, run: Run) -> None:
        """Take a run; it is released when its tiles are encoded.

        Raises:
            Exception: Whatever an encoder or the sink has failed with.
        """
        if self._is_whole(run):
            run.release()
        else:
            self._under_way.put((run, self._pool.submit(self._encode, run)))
        self._check()

    def drain(self, meanwhile: Callable[[], None]) -> None:
        """Wait until the sink has every tile, calling `meanwhile` now and then, and at the end.

        Raises:
            Exception: Whatever an encoder or the sink has failed with.
        """
        self._under_way.put(None)
        under_way = True
        while under_way:
            self._writer.join(0.05)
            under_way = self._writer.is_alive()
            meanwhile()
        self._check()

    def encoded(self, level: int, pixels: Pixels) -> bytes:
        """A picture of a whole level, encoded as its tiles are; in the calling thread."""
        data = self._encoders.for_level(level).encode(pixels)
        assert data is not None  # layouts with such pictures leave out nothing
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped = True
        again: BaseException | None = None
        while not self._ended:
            try:
                self._end()
            except BaseException as interrupt:  # once more: nobody may use the source after this
                again = interrupt
        if again is not None and error is None:
            raise again

    def _end(self) -> None:
        """Wait until all threads have ended."""
        if self._writer.is_alive():
            self._under_way.put(None)
            self._writer.join()
        self._pool.shutdown()
        self._ended = True

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _encode(self, run: Run) -> Encoded:
        try:
            if self._stopped or self._failure is not None:
                return []
            encoder = self._encoders.for_level(run.level.number)
            return [(tile, encoder.encode(pixels)) for tile, pixels in run.tiles()]
        finally:
            run.release()

    def _is_whole(self, run: Run) -> bool:
        """Whether a run before has stored it."""
        journal, cols = self._journal, run.cols
        return journal is not None and journal.holds(
            run.level.number, run.row, cols.start, cols.stop
        )

    def _write(self) -> None:
        # Goes on after a failure, so that nobody waits for a place in the queue for ever.
        while (taken := self._under_way.get()) is not None:
            run, future = taken
            try:
                encoded = future.result()
                if not (self._stopped or self._failure is not None):
                    self._store(run, encoded)
            except BaseException as failure:  # raised again in the calling thread
                self._failure = self._failure or failure

    def _store(self, run: Run, encoded: Encoded) -> None:
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
            self._journal.note(*line, cols.start, cols.stop, tiles, blanks, nbytes)


class _Encoders:
    """Each thread's own encoders: one, or where tiles say their resolution, one for each.

    What tiles of one colour were encoded to is shared by all threads.
    """

    def __init__(
        self,
        codec: Codec,
        background: Colour,
        colours: Colours,
        top_level: int | None,
        blank: Blank | None,
    ) -> None:
        self._codec = codec
        self._background = background
        self._blank = blank
        self._transform = colours.transform
        self._attached = colours.attached
        if top_level is None:
            self._attached = replace(colours.attached, resolution=None)
        self._top_level = top_level or 0
        self._uniform: dict[Attached, dict[tuple[Any, ...], bytes | None]] = {}
        self._own = threading.local()

    def for_level(self, level: int) -> Encoder:
        """The calling thread's encoder for tiles of a level."""
        encoders: dict[int, Encoder] | None = getattr(self._own, "encoders", None)
        if encoders is None:
            encoders = self._own.encoders = {}
        encoder = encoders.get(level)
        if encoder is None:
            encoder = encoders[level] = self._for_new_level(level, [*encoders.values()])
        return encoder

    def _for_new_level(self, level: int, others: list[Encoder]) -> Encoder:
        """One of the thread's other encoders if it will do, else a new one."""
        attached = self._codec.carried(self._attached.halved(self._top_level - level))
        for other in others:
            if other.attached == attached:
                return other
        return Encoder(
            self._codec,
            self._background,
            self._uniform.setdefault(attached, {}),
            transform=self._transform,
            attached=attached,
            workshop=others[0].workshop if others else None,
            blank=self._blank,
        )
