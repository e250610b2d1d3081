"""A file that grows at its end; what comes is gathered, and written in large pieces.

Each call that writes releases the GIL, and taking it again among busy threads costs more than the
call. A tile is far smaller than what is worth that.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import suppress
from io import BufferedRandom, FileIO
from pathlib import Path
from typing import cast

from fasttile import _files
from fasttile.errors import TargetError
from fasttile.storage.paths import (
    absolute_target,
    already_exists_error,
    make_folders,
    os_target_error,
    printable_path,
    rename_new,
    wrap_os_errors,
)
from fasttile.storage.random_access import pread
from fasttile.storage.work_folder import WorkFolder

BytesLike = bytes | bytearray | memoryview

BUFFER_BYTES = 2**18


class AppendFile:
    """A new file that is appended to, and read or overwritten anywhere.

    Args:
        path: Path of the file; it must not exist. Removing its folder removes it.

    Attributes:
        size: How many bytes it has, gathered ones included.

    Raises:
        TargetError: The operating system reports an error.
    """

    _file: BufferedRandom | None = None

    def __init__(self, path: Path) -> None:
        self.size = 0
        self._path = path
        with wrap_os_errors("write", path):
            self._file = cast(BufferedRandom, path.open("xb+", buffering=BUFFER_BYTES))

    def append(self, *pieces: BytesLike) -> int:
        """Write at the end; gives where the first piece begins.

        Raises:
            TargetError: Writing these pieces or earlier ones fails.
            ValueError: The file is closed.
        """
        file, start = self._file, self.size
        if file is None:
            raise _closed_error()
        try:
            for piece in pieces:
                self.size += file.write(piece)
        except OSError as error:
            raise self._discard_after_failure(error) from error
        return start

    def flush(self) -> int:
        """Write what is gathered; gives the system's descriptor of the file.

        Raises:
            TargetError: The operating system reports an error.
            ValueError: The file is closed.
        """
        if self._file is None:
            raise _closed_error()
        try:
            self._file.flush()
        except OSError as error:
            raise self._discard_after_failure(error) from error
        return self._file.fileno()

    def overwrite_at(self, data: bytes, offset: int) -> None:
        """Write over what is there.

        Raises:
            TargetError: The operating system reports an error.
            ValueError: The file is closed.
        """
        if self._file is None:
            raise _closed_error()
        try:
            self._file.seek(offset)
            self._file.write(data)
            self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise self._discard_after_failure(error) from error

    def read(self, offset: int, size: int) -> bytes:
        """Read bytes at an offset.

        Raises:
            TargetError: Reading fails, or the file was cut short.
            ValueError: The file is closed.
        """
        descriptor = self.flush()
        with wrap_os_errors("read", self._path):
            data = pread(descriptor, size, offset)
            if len(data) < size:
                raise OSError(errno.EIO, "it was cut short")
            return data

    def close(self) -> None:
        """Write what is gathered, and close; once more is nothing.

        Raises:
            TargetError: Closing fails: some file systems report errors only now.
        """
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                raise self._discard_after_failure(error) from error
            self._file = None

    def discard(self) -> None:
        """Close it as it is; once more is nothing. Never raises."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.raw.close()  # or what is gathered would be tried again

    def _discard_after_failure(self, error: OSError) -> TargetError:
        """Nobody knows how far a write came, so there is no other after it."""
        self.discard()
        return os_target_error("write", self._path, error)


def _closed_error() -> ValueError:
    return ValueError("the sink has ended; it takes no more tiles")


# One file that is written in a hidden folder and published only when it is complete.
#
# As with folders of tiles, a run works in the hidden folder `.name.ending.fasttile` beside the
# target; what a killed run left there, the next one removes. To publish is one rename.


class AtomicFile(AppendFile):
    """A file in the making.

    Missing folders above the target are made, and unmade by `abort`.

    Args:
        target: Where the file goes.
        overwrite: Replace an existing file.

    Raises:
        TargetError: The destination exists and may not be replaced, another run works on this
            target, or its folder cannot be written.
    """

    def __init__(self, target: str | Path, *, overwrite: bool = False) -> None:
        self.target = absolute_target(Path(target))
        self._overwrite = overwrite
        self._work_folder: WorkFolder | None = None
        self._created_parents: list[Path] = []
        try:
            self._set_up()
        except BaseException:
            self.abort()
            raise

    @property
    def work_path(self) -> Path:
        """The folder it grows in, which is this run's own."""
        return self.target.parent / f".{self.target.name}.fasttile"

    @property
    def new_path(self) -> Path:
        """The file's path until it is published."""
        return self.work_path / self.target.name

    def ensure_open(self) -> None:
        """Refuse to publish what was published or given up.

        Raises:
            TargetError: It was; or its folder was moved or removed.
        """
        if self._work_folder is None:
            raise TargetError(f"cannot publish {printable_path(self.target)}: its sink has ended")
        self._work_folder.ensure_in_place()

    def publish(self) -> None:
        """Publish the complete file.

        Raises:
            TargetError: The write fails, or the destination exists by now.
        """
        self.ensure_open()
        self.close()
        try:
            if self._overwrite:
                self.new_path.replace(self.target)
            else:
                rename_new(self.new_path, self.target)
        except FileExistsError as error:
            raise already_exists_error(self.target) from error
        except OSError as error:
            raise os_target_error("publish", self.target, error) from error
        self._created_parents.clear()
        self.abort()  # what is left to clean up

    def abort(self) -> None:
        """Discard what was written; leave an existing result untouched. Never raises."""
        self.discard()
        if self._work_folder is not None:
            with suppress(OSError):
                self._work_folder.remove()
            self._work_folder.release()
            self._work_folder = None  # only now: should this be interrupted, it is called again
        for folder in reversed(self._created_parents):
            with suppress(OSError):  # it is not empty: somebody else uses it
                folder.rmdir()
        self._created_parents.clear()

    def _set_up(self) -> None:
        _check_replaceable(self.target)
        self._check_target_free()
        with wrap_os_errors("make folder", self.target.parent):
            make_folders(self.target.parent, self._created_parents)
        self._work_folder = WorkFolder(self.work_path)
        with wrap_os_errors("remove what a killed run left in", self.work_path):
            self._work_folder.clear()
        self._check_target_free()
        super().__init__(self.new_path)

    def _check_target_free(self) -> None:
        if not self._overwrite and os.path.lexists(self.target):
            raise already_exists_error(self.target)


def _check_replaceable(target: Path) -> None:
    """Refuse names of targets that cannot be replaced by one rename."""
    with wrap_os_errors("look at", target):
        try:
            mode = target.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISLNK(mode):
            raise TargetError(
                f"{printable_path(target)} is a symbolic link; remove it, or name what it leads to"
            )
        if not stat.S_ISREG(mode):
            raise TargetError(f"{printable_path(target)} exists and is not a plain file")


# Thousands of small files, and the folders that come with the first file of each.


class SmallFileWriter:
    """Writes files below a folder.

    A folder that was there and is there no more took its files with it: it is not made again.

    Args:
        folder: What paths begin in.
        root: The folder in it that all files but a few are in; both are there already.
    """

    def __init__(self, folder: str, root: str) -> None:
        self._folder = folder
        self._known_folders = {"", root}

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
            _write_file(path, data, replace=replace)
        except FileNotFoundError:
            self._make_folder(above)
            _write_file(path, data, replace=replace)
        self._known_folders.add(above)

    def _make_folder(self, relative: str) -> None:
        """Make a folder that was never there, and what it lies in."""
        path = f"{self._folder}/{relative}"
        if relative in self._known_folders:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        with suppress(FileExistsError):  # another process was first
            try:
                os.mkdir(path)  # noqa: PTH102 -- faster than Path, for many folders
            except FileNotFoundError:
                self._make_folder(relative.rpartition("/")[0])
                os.mkdir(path)  # noqa: PTH102 -- faster than Path, for many folders
        self._known_folders.add(relative)


def _write_file(path: str, data: bytes, *, replace: bool) -> None:
    if sys.platform == "win32":
        with open(path, "wb" if replace else "xb", buffering=0) as file:  # noqa: PTH123 -- faster than Path, for many files
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
