"""One file into a bucket: made on this machine's disk, then sent in parts, and there when whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..errors import ExistsError, TargetError
from ..geometry import Tile
from ..stores import Bucket, StoreError, media_type
from ..targets import Target
from .base import Sink
from .uploads import DESCRIPTORS_CACHE, TILES_CACHE


class Uploaded:
    """A sink whose file, and what lies beside it, is sent to a bucket when it is whole.

    Args:
        target: Where, in a store.
        sink_for: Makes the sink that writes it to a path.
        overwrite: Replace an object that is there, in one step.

    Raises:
        TargetError: One is there and may not be replaced, or the store refuses.
    """

    def __init__(
        self, target: Target, sink_for: Callable[[Target], Sink], *, overwrite: bool
    ) -> None:
        self._target = target
        self._overwrite = overwrite
        self._bucket = Bucket(target.store)
        self._key = target.path.as_posix()
        self._refuse_existing()
        self._folder = Path(tempfile.mkdtemp(prefix="fasttile-"))
        try:
            path = self._folder / target.path.name
            self._sink = sink_for(replace(target, store="", path=path))
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def put(self, tile: Tile, data: bytes) -> None:
        """Take one tile.

        Raises:
            TargetError: It cannot be written.
        """
        self._sink.put(tile, data)

    def finish(self) -> None:
        """Send the file, after what lies beside it.

        Raises:
            TargetError: It cannot be sent.
        """
        self._sink.finish()
        self._refuse_existing()
        parent = self._target.path.parent
        for path in sorted(self._folder.iterdir(), key=lambda path: path.name == parent.name):
            if path.name != self._target.path.name:
                self._send(path, (parent / path.name).as_posix(), DESCRIPTORS_CACHE)
        self._send(self._folder / self._target.path.name, self._key, TILES_CACHE)
        shutil.rmtree(self._folder, ignore_errors=True)

    def abort(self) -> None:
        """Leave nothing behind. Never raises."""
        self._sink.abort()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _send(self, path: Path, key: str, cache: str) -> None:
        try:
            self._bucket.put(key, path, kind=media_type(key), cache=cache)
        except StoreError as error:
            raise TargetError(str(error)) from error

    def _refuse_existing(self) -> None:
        try:
            there = not self._overwrite and self._bucket.head(self._key) is not None
        except StoreError as error:
            raise TargetError(str(error)) from error
        if there:
            raise ExistsError(
                f"{self._target.result} exists already; choose another name, or overwrite it"
            )
