"""Open folders: their entries are used by a handle, and links in them are never followed.

Where others can write, a name may lead elsewhere a moment after it was checked. So a run opens a
folder once, checks what it has opened, and uses the handle from then on; each file that it creates
is new. Windows gives Python no such handles: there the path of the folder is used, and each folder
is checked when it is opened.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from fasttile.types import Closing

_HAS_HANDLES = os.open in os.supports_dir_fd
_CLOSE_ON_EXEC = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
NO_FOLLOW = _CLOSE_ON_EXEC | getattr(os, "O_NOFOLLOW", 0)
"""Flags for `os.open`: a symbolic link is an error, and other programs do not inherit the file."""

_FOLDER_FLAGS = _CLOSE_ON_EXEC | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_PATH", os.O_RDONLY)
_READ_FOLDER_FLAGS = _CLOSE_ON_EXEC | getattr(os, "O_DIRECTORY", 0) | os.O_RDONLY

MAX_DEPTH = 64
"""The levels of folders that `remove_tree` enters; no result has more than ten."""


class Folder(Closing):
    """An open folder.

    Args:
        path: Its path, for messages; on Windows for all calls.
        handle: The handle of the folder, which this object closes; None on Windows.
    """

    def __init__(self, path: Path, handle: int | None) -> None:
        self.path = path
        self.handle = handle

    @classmethod
    def open(cls, path: Path) -> Folder:
        """Open a folder that the user named: links in its path are followed.

        Raises:
            OSError: It does not exist, or is no folder.
        """
        if _HAS_HANDLES:
            return cls(path, os.open(path, _FOLDER_FLAGS))
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        return cls(path, None)

    @classmethod
    def open_entry(cls, path: Path) -> Folder:
        """Open a folder that is no link; links in the path above it are followed.

        Raises:
            OSError: It does not exist, is a link, or is no folder.
        """
        with cls.open(path.parent) as parent:
            return parent.open_folder(path.name)

    def open_folder(self, name: str, *, create: bool = False) -> Folder:
        """Open a folder in this one.

        Args:
            name: Its name.
            create: Make it if it does not exist.

        Raises:
            OSError: It is a link, or no folder, or cannot be opened.
        """
        if create:
            with suppress(FileExistsError):
                self.make_folder(name)
        with self._full_path_in_errors(name):
            if self.handle is not None:
                flags = _FOLDER_FLAGS | NO_FOLLOW
                try:
                    return Folder(self.path / name, os.open(name, flags, dir_fd=self.handle))
                except NotADirectoryError:
                    self._check_is_folder(name)
                    raise
            self._check_is_folder(name)
            return Folder(self.path / name, None)

    def _check_is_folder(self, name: str) -> None:
        status = self.status(name)
        if status is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        is_junction = sys.platform == "win32" and status.st_reparse_tag != 0
        if is_junction or stat.S_ISLNK(status.st_mode):
            reason = f"{self.path / name} is a link, which is not followed"
            raise NotADirectoryError(errno.ENOTDIR, reason, name)
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)

    def close(self) -> None:
        """Close the handle; a second call does nothing."""
        handle, self.handle = self.handle, None
        if handle is not None:
            with suppress(OSError):  # nothing was written by it
                os.close(handle)

    def own_status(self) -> os.stat_result:
        """The status of the folder itself."""
        return self.path.stat() if self.handle is None else os.fstat(self.handle)

    def status(self, name: str) -> os.stat_result | None:
        """The status of an entry, of a link itself; None if there is none.

        Raises:
            OSError: It cannot be examined.
        """
        try:
            return os.stat(self._at(name), dir_fd=self.handle, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def exists(self, name: str) -> bool:
        """True if there is an entry of this name, be it a link to nowhere.

        Raises:
            OSError: It cannot be examined.
        """
        return self.status(name) is not None

    def make_folder(self, name: str, mode: int = 0o777) -> None:
        """Make a new folder.

        Raises:
            OSError: It cannot be made, or exists.
        """
        with self._full_path_in_errors(name):
            os.mkdir(self._at(name), mode, dir_fd=self.handle)

    def create_file(self, name: str) -> int:
        """Create a new file; return its descriptor, for reading and writing.

        Raises:
            OSError: It cannot be created, or exists.
        """
        return self.open_file(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def open_file(self, name: str, flags: int = os.O_RDONLY) -> int:
        """Open a plain file; return its descriptor.

        Raises:
            OSError: It is a link or no plain file, or cannot be opened.
        """
        with self._full_path_in_errors(name):
            # A pipe would wait for its other end.
            flags |= NO_FOLLOW | getattr(os, "O_NONBLOCK", 0)
            descriptor = os.open(self._at(name), flags, 0o666, dir_fd=self.handle)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise OSError(errno.EINVAL, "it is no plain file", name)
            return descriptor

    def read_file(self, name: str, max_bytes: int) -> bytes | None:
        """All of a plain file that does not grow; None if there is none.

        Raises:
            OSError: It is a link or no plain file, has more bytes, or cannot be read.
        """
        try:
            descriptor = self.open_file(name)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            if size > max_bytes:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(self.path / name))
            return file.read(size)

    def write_file(self, name: str, data: bytes) -> None:
        """Write a new file.

        Raises:
            OSError: It cannot be written, or exists.
        """
        with self._full_path_in_errors(name), os.fdopen(self.create_file(name), "wb") as file:
            file.write(data)

    def remove_file(self, name: str) -> None:
        """Remove a file or a link; it may be missing.

        Raises:
            OSError: It cannot be removed.
        """
        with suppress(FileNotFoundError), self._full_path_in_errors(name):
            os.unlink(self._at(name), dir_fd=self.handle)

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder.

        Raises:
            OSError: It cannot be removed.
        """
        with self._full_path_in_errors(name):
            os.rmdir(self._at(name), dir_fd=self.handle)

    def remove_tree(self, name: str, depth: int = 0) -> None:
        """Remove a folder with all that is in it, without a list of its files.

        Raises:
            OSError: Something cannot be removed; the rest may be gone already.
        """
        if depth > MAX_DEPTH:
            path = str(self.path / name)
            raise OSError(errno.ENAMETOOLONG, "its folders are nested too deeply", path)
        with self.open_folder(name) as folder:
            # Some file systems skip entries when others are removed under a scan.
            while folder._remove_entries(depth):
                pass
        self.remove_folder(name)

    def walk_files(self, prefix: str = "") -> Iterator[tuple[str, int | None]]:
        """All that is below the folder, but for folders: links are not followed.

        Yields:
            The path below this folder, with forward slashes, and the size in bytes; None as the
            size of a link, a device or a pipe.

        Raises:
            OSError: A folder cannot be read, or folders are nested too deeply.
        """
        if prefix.count("/") > MAX_DEPTH:
            path = str(self.path)
            raise OSError(errno.ENAMETOOLONG, "its folders are nested too deeply", path)
        folders = []
        with self.scan() as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                    continue
                is_plain = entry.is_file(follow_symlinks=False)
                size = entry.stat(follow_symlinks=False).st_size if is_plain else None
                yield f"{prefix}{entry.name}", size
        for name in folders:
            with self.open_folder(name) as folder:
                yield from folder.walk_files(f"{prefix}{name}/")

    def open_to_read(self) -> int:
        """A further handle of the folder, to list or sync it; the caller closes it.

        Raises:
            OSError: It cannot be opened.
        """
        with self._full_path_in_errors("."):
            return os.open(self._at("."), _READ_FOLDER_FLAGS, dir_fd=self.handle)

    @contextmanager
    def scan(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        """The entries of the folder, while the context lasts.

        Raises:
            OSError: It cannot be read.
        """
        if self.handle is None:
            with os.scandir(self.path) as entries:
                yield entries
            return
        handle = self.open_to_read()
        try:
            with os.scandir(handle) as entries:
                yield entries
        finally:
            os.close(handle)

    def _remove_entries(self, depth: int) -> bool:
        """Remove the entries of one scan; True if there were any."""
        seen = False
        folders = []
        with self.scan() as entries:
            for entry in entries:
                seen = True
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                else:
                    os.unlink(self._at(entry.name), dir_fd=self.handle)
        for name in folders:
            self.remove_tree(name, depth + 1)
        return seen

    def _at(self, name: str) -> str:
        """What the system is asked for: the name by itself, or the path where no handle is."""
        return name if self.handle is not None else str(self.path / name)

    @contextmanager
    def _full_path_in_errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = str(self.path / name)
            raise


# Renames, from a folder to another. Linux can exchange two names, and rename without replacing, by
# one system call, renameat2. Where it is missing, or the file system does not know the flag,
# `exchange` says so, and `rename_new` looks before it renames, which leaves a gap of some
# microseconds between the look and the rename.

_RenameCall = Callable[[int, bytes, int, bytes, int], int]
"""renameat2: a handle and a name, another handle and name, flags; 0, or the errno."""

_NOREPLACE = 1
_EXCHANGE = 2

_UNSUPPORTED_ERRNOS = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}
"""No such call in this kernel, no such flag in this file system."""


def rename(source: Folder, name: str, target: Folder, other: str) -> None:
    """Rename; a file of the other name is replaced.

    Raises:
        OSError: The rename failed.
    """
    with _both_paths_in_errors(source, name, target, other):
        os.replace(
            source._at(name), target._at(other), src_dir_fd=source.handle, dst_dir_fd=target.handle
        )


def rename_new(source: Folder, name: str, target: Folder, other: str) -> None:
    """Rename, unless the target exists.

    Raises:
        FileExistsError: The target exists.
        OSError: The rename failed.
    """
    if _renameat2(source, name, target, other, _NOREPLACE):
        return
    if target.exists(other):
        path = str(target.path / other)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    rename(source, name, target, other)


def exchange(source: Folder, name: str, target: Folder, other: str) -> bool:
    """Exchange two names in one step.

    Returns:
        False if the system has no such step; then nothing is changed.

    Raises:
        OSError: The step failed.
    """
    return _renameat2(source, name, target, other, _EXCHANGE)


@contextmanager
def _both_paths_in_errors(source: Folder, name: str, target: Folder, other: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(source.path / name), str(target.path / other)
        raise


def _renameat2(source: Folder, name: str, target: Folder, other: str, flag: int) -> bool:
    call = _system_call()
    if call is None or source.handle is None or target.handle is None:
        return False
    # As os.rename raises "os.rename", so that audit hooks see these renames too.
    sys.audit("fasttile.renameat2", source.path / name, target.path / other, flag)
    code = call(source.handle, os.fsencode(name), target.handle, os.fsencode(other), flag)
    if code in _UNSUPPORTED_ERRNOS:
        return False
    if code:
        paths = str(source.path / name), None, str(target.path / other)
        raise OSError(code, os.strerror(code), *paths)
    return True


@cache
def _system_call() -> _RenameCall | None:
    """The C library's renameat2, or None where it has none."""
    if sys.platform != "linux":
        return None
    import ctypes  # here, because importing it takes milliseconds that only Linux needs

    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        return None
    function = library.renameat2
    function.argtypes = (
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_uint,
    )

    def call(source: int, name: bytes, target: int, other: bytes, flags: int) -> int:
        failed = function(source, name, target, other, flags) != 0
        return ctypes.get_errno() if failed else 0

    return call
