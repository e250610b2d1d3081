"""One-file results with further files beside them, on the disk or in a bucket."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from fasttile.abc.sink import FileSink, Sink
from fasttile.errors import TargetExistsError
from fasttile.geometry import Tile
from fasttile.sinks import Target
from fasttile.storage.object_store import (
    DESCRIPTORS_CACHE_CONTROL,
    TILES_CACHE_CONTROL,
    Bucket,
)
from fasttile.storage.paths import guess_media_type
from fasttile.storage.writing import AtomicFile


class WithSidecars:
    """A sink, and files that are published right after it.

    Args:
        sink: The sink of the tiles; it is aborted if the files cannot be written.
        folder: The folder of the files.
        files: Name and content of each.
        overwrite: Replace an existing result, only at the end.

    Raises:
        TargetError: A file exists that must not be replaced, or cannot be written.
    """

    def __init__(
        self, sink: Sink, folder: Path, files: Mapping[str, bytes], *, overwrite: bool
    ) -> None:
        self._sink = sink
        self._contents = dict(files)
        self._files: list[AtomicFile] = []
        try:
            for name in files:
                self._files.append(AtomicFile(folder / name, overwrite=overwrite))
        except BaseException:
            self.abort()
            raise

    def put(self, tile: Tile, data: bytes) -> None:
        """Take one tile.

        Raises:
            TargetError: It cannot be written.
        """
        self._sink.put(tile, data)

    def change_file(self, path: str, change: Callable[[bytes], bytes]) -> None:
        """Change the content of a file, before `finish` writes it."""
        self._contents[path] = change(self._contents[path])

    def finish(self) -> None:
        """Publish the tiles, then the files.

        Raises:
            TargetError: One cannot be published; call `abort`.
        """
        for file, data in zip(self._files, self._contents.values(), strict=True):
            file.append(data)
        self._sink.finish()
        for file in self._files:
            file.publish()

    def abort(self) -> None:
        """Discard the result; leave an older one untouched. Never raises."""
        for file in self._files:
            file.abort()
        self._sink.abort()


class UploadedFileSink:
    """Writes a one-file result to this machine's disk, then uploads it to a bucket in parts.

    Args:
        target: A target in an object store.
        create_sink: Makes the sink that writes it to a path.
        overwrite: Replace an existing object, in one step.

    Raises:
        TargetError: An object exists that must not be replaced, or the store fails.
    """

    def __init__(
        self, target: Target, create_sink: Callable[[Target], Sink], *, overwrite: bool
    ) -> None:
        self._target = target
        self._overwrite = overwrite
        self._bucket = Bucket(target.store)
        check_object(target, overwrite=overwrite)
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

    def change_file(self, path: str, change: Callable[[bytes], bytes]) -> None:
        """Change the content of a further file, before `finish` writes it."""
        if isinstance(self._sink, FileSink):
            self._sink.change_file(path, change)

    def finish(self) -> None:
        """Upload the files beside the result, then the result.

        Raises:
            TargetError: They cannot be uploaded.
        """
        self._sink.finish()
        check_object(self._target, overwrite=self._overwrite)
        parent = self._target.path.parent
        name = self._target.path.name
        # A run counts a result as complete if its file exists, so the file goes last; a page goes
        # after the scripts that it loads.
        for path in sorted(
            self._local_folder.iterdir(),
            key=lambda path: (path.name == name, path.suffix == ".html", path.name),
        ):
            key = (parent / path.name).as_posix()
            cache = TILES_CACHE_CONTROL if path.name == name else DESCRIPTORS_CACHE_CONTROL
            self._bucket.put(key, path, media_type=guess_media_type(key), cache_control=cache)
        shutil.rmtree(self._local_folder, ignore_errors=True)

    def abort(self) -> None:
        """Remove the local files. Never raises."""
        self._sink.abort()
        shutil.rmtree(self._local_folder, ignore_errors=True)


def check_object(target: Target, *, overwrite: bool) -> None:
    """Check that one object can be written, or replaced; nothing is written.

    Raises:
        TargetError: It exists and must not be replaced, or the store fails.
    """
    if not overwrite and Bucket(target.store).head(target.path.as_posix()) is not None:
        raise TargetExistsError(
            f"{target.location} exists already; choose another name, or use --overwrite"
        )
