"""Images decoded on a thread of their own, row by row, while the walk uses what is there."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from fasttile.abc.source import Metadata, RowLender, Source
from fasttile.errors import SourceError, TruncatedError
from fasttile.sources.pillow.decoder import (
    INPUT_CHUNK_BYTES,
    MAX_EXPANSION,
    RELEASE_BYTES,
    DecodingError,
    InOrderDecoder,
)
from fasttile.storage.memory import PixelBuffer
from fasttile.types import Pixels

MAX_AHEAD_BYTES = 32 * 2**20
"""How much may be decoded and not yet asked for."""


class StreamingSource(Source):
    """An image's stored pixels, decoded from top to bottom, and gone once the next are asked for.

    Args:
        name, metadata: As in `Source`.
        open_decoder: Makes the decoder and the pixels that it fills, shape (height, width, bands);
            called when the first rows are asked for.
        shape, dtype: Of the pixels.
        on_close: Closes the file.
        can_lend: False if the pixels have a fourth band with bytes of any value.
    """

    def __init__(
        self,
        name: str,
        metadata: Metadata,
        shape: tuple[int, int, int],
        dtype: np.dtype[np.generic],
        open_decoder: Callable[[], tuple[InOrderDecoder, PixelBuffer, Pixels]],
        on_close: Callable[[], None],
        *,
        can_lend: bool,
    ) -> None:
        self.name, self.metadata = name, metadata
        self.height, self.width, self.bands = shape
        self.dtype = dtype
        self._row_bytes = self.width * self.bands * dtype.itemsize
        self._ahead_rows = max(2 * self.preferred_rows, MAX_AHEAD_BYTES // self._row_bytes)
        most = (
            self._ahead_rows * self._row_bytes
            + MAX_EXPANSION * INPUT_CHUNK_BYTES
            + 2 * RELEASE_BYTES
        )
        self.memory_bytes = min(self.height * self._row_bytes, most)
        self._open_decoder = open_decoder
        self._on_close = on_close
        self._can_lend = can_lend
        self._thread: threading.Thread | None = None
        self._decoder: InOrderDecoder
        self._changed = threading.Condition()
        self._decoded_rows = 0
        self._needed_end = 0
        self._needed_start = 0
        self._free_end = 0  # bytes before are not needed any more; the decoder reuses them
        self._lent: list[int] = []  # first rows of requests
        self._returned: list[int] = []  # those that are not needed any more
        self._is_closed = False
        self._error: BaseException | None = None

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, as soon as they are decoded; valid until the next call.

        Raises:
            Damaged: They cannot be decoded.
        """
        self._free_end = y0 * self._row_bytes
        return self._wait_for_rows(y0, y1, start=y0)

    def lender(self) -> RowLender | None:
        """This source."""
        return self if self._can_lend else None

    def lend(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, as soon as they are decoded; kept until they are given back.

        Raises:
            SourceError: They cannot be decoded.
        """
        while self._returned:
            self._lent.remove(self._returned.pop())
        low = min([y0, *self._lent])
        self._free_end = low * self._row_bytes
        # The more is lent, the less is decoded ahead.
        pixels = self._wait_for_rows(y0, y1, start=min(y0, low + self._ahead_rows // 2))
        self._lent.append(y0)
        return pixels

    def give_back(self, y0: int) -> None:
        """Note it; the next request frees the memory."""
        self._returned.append(y0)

    def _wait_for_rows(self, y0: int, y1: int, *, start: int) -> Pixels:
        if self._thread is None:
            self._decoder, self._pixel_buffer, self._pixels = self._open_decoder()
            self._thread = threading.Thread(
                target=self._decode, args=(self._decoder,), name="fasttile-decoder", daemon=True
            )
            self._thread.start()
        with self._changed:
            self._needed_start, self._needed_end = start, y1
            self._changed.notify_all()
            while self._decoded_rows < y1 and self._error is None:
                self._changed.wait()
            decoded, failure = self._decoded_rows, self._error
        if decoded >= y1:
            return self._pixels[y0:y1]
        if isinstance(failure, DecodingError):
            raise TruncatedError(
                f"{self.name}: broken {self.metadata.format}: {failure}; "
                f"{decoded} of {self.height} rows are there (--allow-truncated cuts those)",
                decoded,
            )
        raise SourceError(f"{self.name} cannot be decoded: {failure}") from failure

    def close(self) -> None:
        """End the thread, and close the file."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._decoder.close()
        self._pixels = np.empty((0, self.width, self.bands), self.dtype)
        self._on_close()

    def _decode(self, decoder: InOrderDecoder) -> None:
        try:
            going_on, released = True, 0
            while going_on:
                with self._changed:
                    while not self._is_closed and decoder.rows >= max(
                        self._needed_end, self._needed_start + self._ahead_rows
                    ):
                        self._changed.wait()
                    if self._is_closed:
                        return
                # Rows that nobody asks for may be free before they are decoded.
                free = min(self._free_end, decoder.rows * self._row_bytes)
                if free - released > RELEASE_BYTES:
                    released = decoder.release(released, free)
                going_on = decoder.decode_more()
                with self._changed:
                    before, self._decoded_rows = self._decoded_rows, decoder.rows
                    if before < self._needed_end <= decoder.rows:
                        self._changed.notify_all()
        except BaseException as failure:  # raised again for the caller that asks for rows
            with self._changed:
                self._decoded_rows = decoder.rows
                self._error = failure
                self._changed.notify_all()
