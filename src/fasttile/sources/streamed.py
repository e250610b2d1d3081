"""Pictures decoded on a thread of their own, row by row, while the walk uses what is there."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from ..errors import Damaged, SourceError
from .base import Metadata, Pixels, Source
from .decode import EXPANSION, PIECE, DecodingError, RowDecoder
from .room import Room

AHEAD_BYTES = 32 * 2**20
"""How much may be decoded and not yet asked for."""

DROP_BYTES = 4 * 2**20
"""How much is given back at a time: to do so interrupts all processors that run our threads."""


class Streamed(Source):
    """A picture's stored pixels, decoded from top to bottom, and gone once the next are asked for.

    Args:
        name, metadata: As in `Source`.
        open_decoder: Makes the decoder and the pixels that it fills, shape (height, width, bands);
            called when the first rows are asked for.
        shape, dtype: Of the pixels.
        on_close: Closes the file.
    """

    def __init__(
        self,
        name: str,
        metadata: Metadata,
        shape: tuple[int, int, int],
        dtype: np.dtype[np.generic],
        start: Callable[[], tuple[RowDecoder, Room, Pixels]],
        on_close: Callable[[], None],
    ) -> None:
        self.name, self.metadata = name, metadata
        self.height, self.width, self.bands = shape
        self.dtype = dtype
        self._row_bytes = self.width * self.bands * dtype.itemsize
        self._ahead = max(2 * self.row_step, AHEAD_BYTES // self._row_bytes)
        most = self._ahead * self._row_bytes + EXPANSION * PIECE + 2 * DROP_BYTES
        self.held = min(self.height * self._row_bytes, most)
        self._start = start
        self._on_close = on_close
        self._thread: threading.Thread | None = None
        self._decoder: RowDecoder
        self._changed = threading.Condition()
        self._decoded = 0
        self._wanted = 0
        self._used = 0
        self._dropped = 0
        self._closed = False
        self._failure: BaseException | None = None

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, as soon as they are decoded; valid until the next call.

        Raises:
            Damaged: They cannot be decoded.
        """
        if self._thread is None:
            self._begin()
        with self._changed:
            self._used, self._wanted = y0, y1
            self._changed.notify_all()
            while self._decoded < y1 and self._failure is None:
                self._changed.wait()
            decoded, failure = self._decoded, self._failure
        self._drop(y0)
        if decoded >= y1:
            return self._pixels[y0:y1]
        if isinstance(failure, DecodingError):
            raise Damaged(
                f"{self.name}: broken {self.metadata.format}: {failure}; "
                f"{decoded} of {self.height} rows are there (--allow-truncated cuts those)",
                decoded,
            )
        raise SourceError(f"{self.name} cannot be decoded: {failure}") from failure

    def close(self) -> None:
        """End the thread, and close the file."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._decoder.close()
        self._pixels = np.empty((0, self.width, self.bands), self.dtype)
        self._on_close()

    def _begin(self) -> None:
        self._decoder, self._room, self._pixels = self._start()
        self._thread = threading.Thread(
            target=self._decode, args=(self._decoder,), name="fasttile-decoder", daemon=True
        )
        self._thread.start()

    def _drop(self, row: int) -> None:
        end = row * self._row_bytes
        if end - self._dropped >= DROP_BYTES:
            self._dropped = self._room.drop(self._dropped, end)

    def _decode(self, decoder: RowDecoder) -> None:
        try:
            going_on = True
            while going_on and self._may_go_on(decoder.rows):
                going_on = decoder.go_on()
                self._tell(decoder.rows)
        except BaseException as failure:  # told to whoever asks for rows
            with self._changed:
                self._decoded = decoder.rows
                self._failure = failure
                self._changed.notify_all()

    def _may_go_on(self, rows: int) -> bool:
        """Wait while enough is decoded; gives whether anybody wants more."""
        with self._changed:
            while rows >= max(self._wanted, self._used + self._ahead) and not self._closed:
                self._changed.wait()
            return not self._closed

    def _tell(self, rows: int) -> None:
        with self._changed:
            before, self._decoded = self._decoded, rows
            if before < self._wanted <= rows:
                self._changed.notify_all()
