"""Runs of tiles to encoded tiles in a sink: encoder threads side by side, one writer in order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from .codec import Codec
from .encoder import Encoder
from .geometry import Tile
from .pyramid import Run
from .resample import Colour
from .sinks.base import Sink

Encoded = list[tuple[Tile, bytes]]


class Pipeline:
    """Encodes runs on threads and puts their tiles into a sink, in the order of the runs.

    What is under way is bounded: `put` waits while the encoders or the sink have enough to do.
    It is a context manager that leaves no thread behind; what goes wrong in a thread is raised
    by the next `put`, or by `drain`.

    Args:
        sink: Takes the tiles, all from one thread.
        codec, background: How tiles are encoded.
        threads: How many tiles are encoded at a time.

    Attributes:
        tiles, bytes: What the sink has taken so far.
    """

    def __init__(self, sink: Sink, codec: Codec, background: Colour, threads: int) -> None:
        self.tiles = 0
        self.bytes = 0
        self._sink = sink
        self._new_encoder = _encoder_maker(codec, background)
        self._own = threading.local()
        self._stopped = False
        self._failure: BaseException | None = None
        self._under_way: queue.Queue[Future[Encoded] | None] = queue.Queue(threads + 2)
        self._encoders = ThreadPoolExecutor(threads, thread_name_prefix="fasttile-encoder")
        self._writer = threading.Thread(target=self._write, name="fasttile-writer")
        self._writer.start()

    def put(self, run: Run) -> None:
        """Take a run; it is released when its tiles are encoded.

        Raises:
            Exception: Whatever an encoder or the sink has failed with.
        """
        future = self._encoders.submit(self._encode, run)
        self._under_way.put(future)
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped = True
        if self._writer.is_alive():
            self._under_way.put(None)
            self._writer.join()
        self._encoders.shutdown()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _encode(self, run: Run) -> Encoded:
        try:
            if self._stopped or self._failure is not None:
                return []
            encoder: Encoder | None = getattr(self._own, "encoder", None)
            if encoder is None:
                encoder = self._own.encoder = self._new_encoder()
            return [(tile, encoder.encode(pixels)) for tile, pixels in run.tiles()]
        finally:
            run.release()

    def _write(self) -> None:
        # Goes on after a failure, so that nobody waits for a place in the queue for ever.
        while (future := self._under_way.get()) is not None:
            try:
                encoded = future.result()
                if self._stopped or self._failure is not None:
                    continue
                for tile, data in encoded:
                    self._sink.put(tile, data)
                    self.tiles += 1
                    self.bytes += len(data)
            except BaseException as failure:  # raised again in the calling thread
                self._failure = self._failure or failure


def _encoder_maker(codec: Codec, background: Colour) -> Callable[[], Encoder]:
    uniform: dict[tuple[Any, ...], bytes] = {}
    return lambda: Encoder(codec, background, uniform)
