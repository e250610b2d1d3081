"""Somebody who looks again and again, as a web server's visitors do."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from trees import NEW_TILES_MARKER, FileTree

from fasttile.layouts import RECORD_NAME

FileSizes = dict[str, int]


class ResultWatcher:
    """Checks that a descriptor is true, on a thread of its own.

    Args:
        folder: What holds the result.
        descriptor: What announces it, and lies in the folder.
        results: The results that may exist there; each is known by its files and their sizes.

    Attributes:
        looks: How often it saw the descriptor and, while that stood, all files.
        lies: What it saw of files when they were not those of a result.
    """

    def __init__(
        self, folder: Path, descriptor: str, complete_results: Mapping[str, FileTree]
    ) -> None:
        self.observations = 0
        self.inconsistent_observations: list[FileSizes] = []
        self._folder = folder
        self._descriptor = folder / descriptor
        self._complete_sizes = [
            {path: 0 if _is_record(path) else len(data) for path, data in complete.items()}
            for complete in complete_results.values()
        ]
        self._stopped = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[ResultWatcher]:
        """Look as long as the block lasts.

        Raises:
            AssertionError: It saw a lie.
        """
        thread = threading.Thread(target=self._check_repeatedly)
        thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            thread.join()
        assert not self.inconsistent_observations, self.inconsistent_observations[0]

    def _check_repeatedly(self) -> None:
        while not self._stopped.wait(0.0005):
            with suppress(OSError):  # something went while it looked
                self._check_once()

    def _check_once(self) -> None:
        before = self._stat_signature()
        sizes = {
            path: 0 if _is_record(path) else size
            for path, size in _sizes(self._folder, "")
            if not path.endswith(f"/{NEW_TILES_MARKER}")
        }
        if self._stat_signature() != before:  # it was replaced meanwhile: both may have been seen
            return
        self.observations += 1
        if sizes not in self._complete_sizes:
            self.inconsistent_observations.append(sizes)

    def _stat_signature(self) -> tuple[int, int]:
        """What changes whenever the descriptor is moved or written."""
        status = self._descriptor.stat()
        return status.st_ino, status.st_ctime_ns


def _is_record(path: str) -> bool:
    """True for the file that names the source: other copies of an image have other names."""
    return path.endswith(f"/{RECORD_NAME}")


def _sizes(folder: Path | str, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not prefix and entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(entry.path, f"{prefix}{entry.name}/")
            else:
                yield f"{prefix}{entry.name}", entry.stat().st_size
