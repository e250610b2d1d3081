"""Files in the making: appended to, published at once, or many small ones.

An AppendFile gathers its data and writes large pieces: each write releases the GIL, and to acquire
it again among busy threads costs more than the write of a tile.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from io import BufferedRandom, FileIO
from pathlib import Path
from typing import cast

from fasttile import _files
from fasttile.errors import TargetError
from fasttile.storage.folders import Folder, rename, rename_new
from fasttile.storage.paths import (
    absolute_target,
    already_exists_error,
    check_replaceable,
    make_folders,
    note_published,
    os_target_error,
    remove_folders,
    wrap_os_errors,
)
from fasttile.storage.random_access import pread
from fasttile.storage.work_folder import WorkFolder, check_can_work

BytesLike = bytes | bytearray | memoryview

BUFFER_BYTES = 2**18

COPY_CHUNK_BYTES = 2**20
"""The bytes that are copied from file to file at a time."""


class AppendFile:
    """A new file, written at its end, and read and overwritten anywhere.

    Args:
        folder: The open folder that it is created in, and removed with.
        name: Its name, which does not exist yet.

    Attributes:
        size: The number of its bytes, gathered ones included.

    Raises:
        TargetError: It cannot be written.
    """

    _file: BufferedRandom | None = None

    def __init__(self, folder: Folder, name: str) -> None:
        self.size = 0
        self._path = folder.path / name
        with wrap_os_errors("write", self._path):
            file = os.fdopen(folder.create_file(name), "wb+", buffering=BUFFER_BYTES)
            self._file = cast(BufferedRandom, file)

    def append(self, *pieces: BytesLike) -> int:
        """Write at the end; return the offset of the first piece.

        Raises:
            TargetError: These pieces, or earlier ones, cannot be written.
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

    def append_part(self, other: AppendFile, start: int, end: int) -> None:
        """Copy the bytes of another file from one offset to another to the end of this one.

        Raises:
            TargetError: They cannot be read or written.
            ValueError: A file is closed.
        """
        for offset in range(start, end, COPY_CHUNK_BYTES):
            self.append(other.read(offset, min(COPY_CHUNK_BYTES, end - offset)))

    def flush(self) -> int:
        """Write the gathered data; return the system's descriptor of the file.

        Raises:
            TargetError: It cannot be written.
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
        """Overwrite existing bytes.

        Raises:
            TargetError: It cannot be written.
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
        """Read some bytes.

        Raises:
            TargetError: It cannot be read, or is too short.
            ValueError: The file is closed.
        """
        descriptor = self.flush()
        with wrap_os_errors("read", self._path):
            data = pread(descriptor, size, offset)
            if len(data) < size:
                raise OSError(errno.EIO, "it was cut short")
            return data

    def close(self) -> None:
        """Write the gathered data, and close; a second call does nothing.

        Raises:
            TargetError: It cannot be written; some file systems report that only here.
        """
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                raise self._discard_after_failure(error) from error
            self._file = None

    def discard(self) -> None:
        """Close it as it is; a second call does nothing. Never raises."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.raw.close()  # the buffered file would write the gathered data again

    def _discard_after_failure(self, error: OSError) -> TargetError:
        """The error; nothing is written after it, for the failed write may have written some."""
        self.discard()
        return os_target_error("write", self._path, error)


def _closed_error() -> ValueError:
    return ValueError("the sink has ended; it takes no more tiles")


class AtomicFile(AppendFile):
    """A file that appears when it is complete, or not at all.

    A run writes it in the hidden folder `.name.ending.fasttile` beside the target, and publishes it
    by one rename. The next run removes the files of a killed one. Missing folders above the target
    are made, and removed by `abort`.

    Args:
        target: The path of the published file.
        overwrite: True if it may replace an existing file.

    Raises:
        TargetError: A file exists that must not be replaced, another run works on this target, or
            its folder cannot be written.
    """

    def __init__(self, target: str | Path, *, overwrite: bool = False) -> None:
        self.target = absolute_target(Path(target))
        self._overwrite = overwrite
        self._work_folder: WorkFolder | None = None
        self._created_parents: list[Path] = []
        self._is_published = False
        try:
            self._set_up()
        except BaseException:
            self.abort()
            raise

    @property
    def work_path(self) -> Path:
        """The path of the work folder of this run."""
        return self.target.parent / f".{self.target.name}.fasttile"

    @property
    def work_folder(self) -> Folder:
        """The open work folder.

        Raises:
            ValueError: The file is closed.
        """
        if self._work_folder is None:
            raise _closed_error()
        return self._work_folder.folder

    @property
    def new_path(self) -> Path:
        """The file's path until it is published."""
        return self.work_path / self.target.name

    def ensure_open(self) -> None:
        """Check that the file can be published.

        Raises:
            TargetError: It was published or discarded; or its folder was moved or removed.
        """
        if self._work_folder is None:
            raise TargetError(f"cannot publish {self.target}: its sink has ended")
        self._work_folder.ensure_in_place()

    def publish(self) -> None:
        """Rename the complete file to its target.

        Raises:
            TargetError: It cannot be renamed, or a file has appeared there meanwhile.
        """
        self.ensure_open()
        assert self._work_folder is not None
        self.close()
        name = self.target.name
        site, work = self._work_folder.parent, self._work_folder.folder
        try:
            (rename if self._overwrite else rename_new)(work, name, site, name)
            self._is_published = True
        except FileExistsError as error:
            raise already_exists_error(self.target) from error
        except OSError as error:
            raise os_target_error("publish", self.target, error) from error
        self._created_parents.clear()
        self.abort()  # removes the work folder

    def abort(self) -> None:
        """Discard the file; leave an existing one untouched. Never raises."""
        self.discard()
        if self._is_published:
            note_published(self.target)
        if self._work_folder is not None:
            with suppress(OSError):
                self._work_folder.remove()
            self._work_folder.release()
            self._work_folder = None  # only now: after an interrupt, abort is called again
        remove_folders(self._created_parents)

    def _set_up(self) -> None:
        check_file_target(self.target, overwrite=self._overwrite)
        with wrap_os_errors("make folder", self.target.parent):
            make_folders(self.target.parent, self._created_parents)
        self._work_folder = WorkFolder(self.work_path)
        with wrap_os_errors("remove what a killed run left in", self.work_path):
            self._work_folder.clear()
        check_file_target(self.target, overwrite=self._overwrite)
        super().__init__(self._work_folder.folder, self.target.name)


def check_file_target(target: Path, *, overwrite: bool) -> None:
    """Check that a file can be written, or replaced; nothing is written.

    Raises:
        TargetError: A file exists that must not be replaced, or something that is no file.
    """
    with wrap_os_errors("look at", target):
        check_replaceable(target)
    if not overwrite and os.path.lexists(target):
        raise already_exists_error(target)


def check_atomic_file(target: Path, *, overwrite: bool) -> None:
    """Check, without writing anything, that an `AtomicFile` can be begun.

    Raises:
        TargetError: As `AtomicFile`.
    """
    target = absolute_target(target)
    check_file_target(target, overwrite=overwrite)
    check_can_work(target.parent / f".{target.name}.fasttile")


class SmallFileWriter:
    """Writes thousands of small files below a folder, and makes the folders that they need.

    A folder that another program removed is not made again: its files are lost.

    Args:
        folder: The open folder that paths are relative to.
        root: The folder in it that holds almost all files; it exists.
    """

    def __init__(self, folder: Folder, root: str) -> None:
        self._folder = folder
        self._prefix = f"{folder.path}/"
        self._known_folders = {"", root}

    def write(self, relative: str, data: bytes, *, replace: bool) -> None:
        """Write all of a file.

        A file that exists is an error of the walk, unless it may be replaced: then it is removed
        first.

        Raises:
            OSError: It cannot be written.
        """
        above = relative.rpartition("/")[0]
        try:
            self._write_file(relative, data, replace=replace)
        except FileNotFoundError:
            self._make_folder(above)
            self._write_file(relative, data, replace=replace)
        self._known_folders.add(above)

    def _make_folder(self, relative: str) -> None:
        """Make a new folder, and the folders above it."""
        if relative in self._known_folders:
            path = f"{self._prefix}{relative}"
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        with suppress(FileExistsError):  # another process was first
            try:
                self._folder.make_folder(relative)
            except FileNotFoundError:
                self._make_folder(relative.rpartition("/")[0])
                self._folder.make_folder(relative)
        self._known_folders.add(relative)

    def _write_file(self, relative: str, data: bytes, *, replace: bool) -> None:
        path = f"{self._prefix}{relative}"
        if self._folder.handle is None:
            if replace:
                Path(path).unlink(missing_ok=True)
            with open(path, "xb", buffering=0) as file:  # noqa: PTH123 -- faster than Path, for many files
                _write_all(file, data)
            return
        sys.audit("open", path, "w" if replace else "x", os.O_CREAT | os.O_WRONLY)
        failed = _files.write(self._folder.handle, os.fsencode(relative), data, replace)
        if failed:
            raise OSError(failed, os.strerror(failed), path)


def _write_all(file: FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]
