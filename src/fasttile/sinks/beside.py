"""One file with others beside it that announce it: they appear after it, and are refused before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..geometry import Tile
from .base import Sink
from .onefile import OneFile


class Beside:
    """A sink, and files that are published right after it.

    Args:
        sink: Takes the tiles; it is aborted if the files cannot be written.
        folder: Where the files go.
        files: Name and content of each.
        overwrite: Replace what stands there, only at the end.

    Raises:
        TargetError: A file stands there and may not be replaced, or cannot be written.
    """

    def __init__(
        self, sink: Sink, folder: Path, files: Mapping[str, bytes], *, overwrite: bool
    ) -> None:
        self._sink = sink
        self._files: list[OneFile] = []
        try:
            for name, data in files.items():
                self._files.append(OneFile(folder / name, overwrite=overwrite))
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
        """Leave nothing behind, and what stood there before as it was. Never raises."""
        for file in self._files:
            file.abort()
        self._sink.abort()
