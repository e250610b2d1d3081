"""A claim on a result in a bucket, where there are no locks: an object that is renewed.

Who claims a result writes an object that must not be there yet, and writes it again every few
seconds. Where it is there, but was not renewed for long, its owner has died. What time it is, the
store says: clocks of machines differ.
"""

from __future__ import annotations

import json
import threading
import uuid
from contextlib import suppress

from ..errors import TargetError
from ..stores import Bucket, StoreError, TakenError

RENEWED_SECONDS = 15.0
DEAD_SECONDS = 60.0

_KIND = "application/json"


class Claim:
    """Holds a result until `release`.

    Args:
        bucket, key: The object.
        name: What to call the result in messages.

    Attributes:
        taken_over: Whether a run before has died over it.

    Raises:
        TargetError: A living run holds it, or the store refuses.
    """

    def __init__(self, bucket: Bucket, key: str, name: str) -> None:
        self._bucket = bucket
        self._key = key
        self._name = name
        self._data = json.dumps({"owner": uuid.uuid4().hex}).encode()
        self.taken_over = False
        self._lost = False
        self._over = threading.Event()
        try:
            self._take()
        except StoreError as error:
            raise TargetError(str(error)) from error
        self._thread = threading.Thread(target=self._renew, name="fasttile-claim", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Make sure that it is still ours.

        Raises:
            TargetError: Another run took it over: we were out of reach for too long.
        """
        if self._lost:
            raise TargetError(f"{self._name}: another run has taken it over meanwhile")

    def release(self) -> None:
        """Give it up; never raises."""
        self._over.set()
        self._thread.join()
        if not self._lost:
            with suppress(StoreError):
                self._bucket.delete([self._key])

    def _take(self) -> None:
        try:
            self._bucket.put(self._key, self._data, kind=_KIND, new=True)
        except TakenError:
            self._take_over()

    def _take_over(self) -> None:
        """Take it from who has died; refuse if it may live."""
        found = self._bucket.head(self._key)
        clock = f"{self._key}-clock"
        self._bucket.put(clock, b"", kind=_KIND)
        now = self._bucket.head(clock)
        self._bucket.delete([clock])
        if found is not None and now is not None:
            age = (now.modified - found.modified).total_seconds()
            if age < DEAD_SECONDS:
                raise TargetError(
                    f"another run is at work on {self._name}, or was killed {age:.0f} seconds ago: "
                    f"wait for it, or for {DEAD_SECONDS:.0f} seconds, or choose another name"
                )
            self._bucket.delete([self._key])
            self.taken_over = True
        try:
            self._bucket.put(self._key, self._data, kind=_KIND, new=True)
        except TakenError:
            raise TargetError(f"another run is at work on {self._name}") from None

    def _renew(self) -> None:
        while not self._over.wait(RENEWED_SECONDS):
            with suppress(StoreError):
                found = self._bucket.head(self._key)
                if found is None or self._bucket.get(self._key) != self._data:
                    self._lost = True
                    return
                self._bucket.put(self._key, self._data, kind=_KIND)
