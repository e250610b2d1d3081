"""Thousands of small files, and the folders that come with the first file of each."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from io import FileIO

from .. import _files


class TileFiles:
    """Writes files below a folder.

    A folder that was there and is there no more took its files with it: it is not made again.

    Args:
        folder: What paths begin in.
        root: The folder in it that all files but a few are in; both are there already.
    """

    def __init__(self, folder: str, root: str) -> None:
        self._folder = folder
        self._known = {"", root}

    def write(self, relative: str, data: bytes, *, replace: bool) -> None:
        """Write a file to the last byte.

        One that is there already would be a fault of the walk, and must not pass, unless it may be
        replaced.

        Raises:
            OSError: It cannot be written.
        """
        path = f"{self._folder}/{relative}"
        above = relative.rpartition("/")[0]
        try:
            _write(path, data, replace=replace)
        except FileNotFoundError:
            self._make(above)
            _write(path, data, replace=replace)
        self._known.add(above)

    def _make(self, relative: str) -> None:
        """Make a folder that was never there, and what it lies in."""
        path = f"{self._folder}/{relative}"
        if relative in self._known:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        with suppress(FileExistsError):  # another process was first
            try:
                os.mkdir(path)  # noqa: PTH102 -- many
            except FileNotFoundError:
                self._make(relative.rpartition("/")[0])
                os.mkdir(path)  # noqa: PTH102 -- many
        self._known.add(relative)


def _write(path: str, data: bytes, *, replace: bool) -> None:
    if sys.platform == "win32":
        with open(path, "wb" if replace else "xb", buffering=0) as file:  # noqa: PTH123 -- many
            _write_all(file, data)
        return
    sys.audit("open", path, "w" if replace else "x", os.O_CREAT | os.O_WRONLY)
    failed = _files.write(os.fsencode(path), data, replace)
    if failed:
        raise OSError(failed, os.strerror(failed), path)


def _write_all(file: FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]
