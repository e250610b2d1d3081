"""Objects on their way to a bucket: many at a time, and not too many."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from ..errors import TargetError
from ..stores import Bucket, StoreError, media_type

AT_ONCE = 16
"""How many objects are on their way at a time."""

WAITING_BYTES = 2**25
"""How many bytes may wait for their turn, all objects together; one always may."""

TILES_CACHE = "public, max-age=86400"
"""Tiles may be kept for a day: a new result has the same names, and so cannot be kept for ever."""

DESCRIPTORS_CACHE = "no-cache"
"""What announces tiles is asked for each time whether it has changed."""


class Uploads:
    """Puts objects into a bucket, on threads.

    Args:
        bucket: Which.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fasttile-upload")
        self._changed = threading.Condition()
        self._bytes = 0
        self._count = 0
        self._failure: BaseException | None = None

    def put(self, key: str, data: bytes, cache: str = TILES_CACHE) -> None:
        """Send an object on its way; waits while there are too many.

        Raises:
            TargetError: An earlier one could not be written.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: not self._bytes or self._bytes + len(data) <= WAITING_BYTES
            )
            self._check()
            self._bytes += len(data)
            self._count += 1
        self._pool.submit(self._put, key, data, cache).add_done_callback(
            lambda future: self._arrived(future, len(data))
        )

    def settle(self) -> None:
        """Wait until the store has all that was put.

        Raises:
            TargetError: Something could not be written.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._count)
            self._check()

    def close(self) -> None:
        """End the threads; what is not on its way yet never is."""
        self._pool.shutdown(cancel_futures=True)

    def _put(self, key: str, data: bytes, cache: str) -> None:
        if self._failure is None:
            self._bucket.put(key, data, kind=media_type(key), cache=cache)

    def _arrived(self, future: Future[None], size: int) -> None:
        with self._changed:
            if not future.cancelled() and future.exception() is not None:
                self._failure = self._failure or future.exception()
            self._bytes -= size
            self._count -= 1
            self._changed.notify_all()

    def _check(self) -> None:
        if isinstance(self._failure, StoreError):
            raise TargetError(str(self._failure)) from self._failure
        if self._failure is not None:
            raise self._failure
