"""One file with others beside it that announce it: they appear after it, and are refused before."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from fasttile.abc.sink import Sink
from fasttile.errors import TargetError, TargetExistsError
from fasttile.geometry import Tile
from fasttile.sinks import Target
from fasttile.storage.object_store import (
    DESCRIPTORS_CACHE_CONTROL,
    TILES_CACHE_CONTROL,
    Bucket,
    StoreError,
)
from fasttile.storage.paths import guess_media_type
from fasttile.storage.writing import AtomicFile


class WithSidecars:
    """A sink, and files that are published right after it.

    Args:
        sink: Takes the tiles; it is aborted if the files cannot be written.
        folder: Where the files go.
        files: Name and content of each.
        overwrite: Replace an existing result, only at the end.

    Raises:
        TargetError: The file exists and may not be replaced, or cannot be written.
    """

    def __init__(
        self, sink: Sink, folder: Path, files: Mapping[str, bytes], *, overwrite: bool
    ) -> None:
        self._sink = sink
        self._files: list[AtomicFile] = []
        try:
            for name, data in files.items():
                self._files.append(AtomicFile(folder / name, overwrite=overwrite))
                self._files[-1].append(data)
        except BaseException:
            self.abort()
            raise

    def put(self, tile: Tile, data: bytes) -> None:
        """Take one tile.

        Raises:
            TargetError: It cannot be written.
        """
        self._sink.put(tile, data)

    def finish(self) -> None:
        """Publish the tiles, then the files.

        Raises:
            TargetError: One cannot be published; `abort` is still to be called.
        """
        self._sink.finish()
        for file in self._files:
            file.publish()

    def abort(self) -> None:
        """Discard what was written; leave an existing result untouched. Never raises."""
        for file in self._files:
            file.abort()
        self._sink.abort()


# One file into a bucket: written to the local disk, then uploaded in parts, and visible when whole.


class UploadedFileSink:
    """A sink that uploads its file and its sidecar files to a bucket when they are complete.

    Args:
        target: Where, in a store.
        sink_for: Makes the sink that writes it to a path.
        overwrite: Replace an object that is there, in one step.

    Raises:
        TargetError: One is there and may not be replaced, or the store refuses.
    """

    def __init__(
        self, target: Target, create_sink: Callable[[Target], Sink], *, overwrite: bool
    ) -> None:
        self._target = target
        self._overwrite = overwrite
        self._bucket = Bucket(target.store)
        self._key = target.path.as_posix()
        self._check_target_free()
        self._local_folder = Path(tempfile.mkdtemp(prefix="fasttile-"))
        try:
            path = self._local_folder / target.path.name
            self._sink = create_sink(replace(target, store="", path=path))
        except BaseException:
            shutil.rmtree(self._local_folder, ignore_errors=True)
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
        self._check_target_free()
        parent = self._target.path.parent
        for path in sorted(self._local_folder.iterdir(), key=lambda path: path.name == parent.name):
            if path.name != self._target.path.name:
                self._upload(path, (parent / path.name).as_posix(), DESCRIPTORS_CACHE_CONTROL)
        self._upload(self._local_folder / self._target.path.name, self._key, TILES_CACHE_CONTROL)
        shutil.rmtree(self._local_folder, ignore_errors=True)

    def abort(self) -> None:
        """Leave nothing behind. Never raises."""
        self._sink.abort()
        shutil.rmtree(self._local_folder, ignore_errors=True)

    def _upload(self, path: Path, key: str, cache: str) -> None:
        try:
            self._bucket.put(key, path, media_type=guess_media_type(key), cache_control=cache)
        except StoreError as error:
            raise TargetError(str(error)) from error

    def _check_target_free(self) -> None:
        try:
            there = not self._overwrite and self._bucket.head(self._key) is not None
        except StoreError as error:
            raise TargetError(str(error)) from error
        if there:
            raise TargetExistsError(
                f"{self._target.location} exists already; choose another name, or overwrite it"
            )
