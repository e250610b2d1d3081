"""Files of a result below a folder or in a ZIP; paths have forward slashes."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

from fasttile.errors import SourceError
from fasttile.storage.budget import BUDGET
from fasttile.storage.random_access import RandomAccessFile, read_plain_file

_MAX_CACHED_FOLDERS = 1024  # folders whose real paths are cached


class FileTree(Protocol):
    """Files below one folder, by their paths."""

    def read(self, path: str, max_bytes: int = BUDGET.piece_bytes) -> bytes | None:
        """A file's contents, or None if there is no such file.

        Raises:
            SourceError: It cannot be read, has more than `max_bytes`, or leads out of the folder.
        """

    def size(self, path: str) -> int | None:
        """A file's size in bytes, or None if there is no such file."""

    def open_file(self, path: str) -> RandomAccessFile | None:
        """A file to read pieces of it, or None if there is no such file.

        Raises:
            SourceError: It cannot be read, or leads out of the folder.
        """

    def children(self) -> list[str]:
        """The names of the files and folders directly in the folder; sorted."""

    def file_sizes(self) -> Iterator[tuple[str, int]]:
        """Paths and sizes in bytes of all files below the folder."""

    def subtree(self, folder: str) -> FileTree:
        """The files below a folder in it, which need not exist."""

    def parent(self, name: str) -> FileTree:
        """The files of the folder that holds this one, whose name is `name`."""

    def close(self) -> None:
        """Close open files."""


class FolderTree:
    """Files on the disk. The folder itself may be a symbolic link; none in it may lead out of it.

    Attributes:
        folder: Path of the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._prefix = f"{folder}/"  # a Path makes its text at each call
        self._real_path = os.path.realpath(folder)
        # Looked at once: tiles share their folders, and to follow a path takes its time.
        self._is_folder_inside = lru_cache(_MAX_CACHED_FOLDERS)(
            lambda below: self._is_inside(f"{folder}/{below}")
        )

    def read(self, path: str, max_bytes: int = BUDGET.piece_bytes) -> bytes | None:
        """A file's contents, or None if there is no such file."""
        place = f"{self._prefix}{path}"
        if self._is_folder_inside(path.rpartition("/")[0]):
            try:
                data = read_plain_file(place, max_bytes)
            except (FileNotFoundError, NotADirectoryError):
                return None
            if data is not None:
                return data
        # A link, or a file that cannot be read, or is too large: the slow way finds out.
        try:
            link = stat.S_ISLNK(os.lstat(place).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SourceError(f"{place} cannot be read: {error.strerror}") from error
        inside = self._is_inside(place) if link else self._is_folder_inside(path.rpartition("/")[0])
        if not inside:
            raise SourceError(f"{place} leads out of {self.folder}")
        with RandomAccessFile(Path(place)) as file:
            return file.read_all(max_bytes)

    def size(self, path: str) -> int | None:
        """A file's size, or None if there is no such file."""
        try:
            found = os.stat(f"{self.folder}/{path}")  # noqa: PTH116 -- as the paths are texts
        except (OSError, ValueError):
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def open_file(self, path: str) -> RandomAccessFile | None:
        """A file to read pieces of it, or None if there is no such file."""
        if self.size(path) is None:
            return None
        if not self._is_inside(f"{self._prefix}{path}"):
            raise SourceError(f"{self._prefix}{path} leads out of {self.folder}")
        return RandomAccessFile(Path(self._prefix, path))

    def _is_inside(self, path: str) -> bool:
        """Whether a path leads to something in the folder, once all links are followed."""
        real = os.path.realpath(path)
        return real == self._real_path or real.startswith(self._real_path.rstrip(os.sep) + os.sep)

    def children(self) -> list[str]:
        """What lies directly in it."""
        try:
            return sorted(entry.name for entry in self.folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SourceError(f"{self.folder} cannot be read: {error.strerror}") from error

    def file_sizes(self) -> Iterator[tuple[str, int]]:
        """All files; folders that are symbolic links are left out, for they may lead round."""
        prefixes = [""]
        while prefixes:
            prefix = prefixes.pop()
            folder = f"{self.folder}/{prefix}"
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            prefixes.append(f"{prefix}{entry.name}/")
                            continue
                        try:
                            size = entry.stat().st_size if entry.is_file() else None
                        except OSError:  # a link to itself, or a file that was removed meanwhile
                            continue
                        if size is not None:
                            yield prefix + entry.name, size
            except FileNotFoundError:
                continue
            except OSError as error:
                raise SourceError(f"{folder} cannot be read: {error.strerror}") from error

    def subtree(self, folder: str) -> FolderTree:
        """The files below a folder in it."""
        return FolderTree(self.folder / folder)

    def parent(self, name: str) -> FolderTree:
        """The files of the folder that holds this one."""
        return FolderTree(self.folder.parent)

    def close(self) -> None:
        """Nothing is open."""


class _StoredFile(RandomAccessFile):
    """A file in a ZIP that is not compressed.

    Args:
        archive: The open ZIP, which is not closed with it.
        path: Its name in messages.
        offset, size: Its place in the ZIP, in bytes.
    """

    def __init__(self, archive: RandomAccessFile, path: Path, offset: int, size: int) -> None:
        self.path, self.size, self._archive, self._offset = path, size, archive, offset

    def pread(self, count: int, offset: int) -> bytes:
        """Read at most `count` bytes at an offset."""
        return self._archive.pread(min(count, self.size - offset), self._offset + offset)

    def close(self) -> None:
        """Do nothing: the ZIP stays open."""


class _ZipEntry(NamedTuple):
    """A file in a ZIP: where its local header is, its size there and inflated, and more."""

    offset: int
    stored_size: int
    size: int
    method: int
    checksum: int
    flags: int


_LOCAL_HEADER_LENGTHS = struct.Struct("<4s22xHH")
_ENCRYPTED = 1
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    struct.error,
    ValueError,
    EOFError,
    OSError,
)


class ZipTree:
    """Files in a ZIP, stored or deflated. Reading takes no lock, and looks at no claimed size.

    The standard library reads the directory only: its files are to be read one after the other.

    Args:
        file: The open ZIP; it is closed with this tree.

    Attributes:
        prefix: Start of the paths in the ZIP of all files in the folder.

    Raises:
        SourceError: It is no ZIP, or a file in it is named as if it were outside.
    """

    def __init__(self, file: RandomAccessFile) -> None:
        self._file = file
        self.prefix = ""
        path = file.path
        try:
            self._entries = _read_entries(file)
        except SourceError:
            self.close()
            raise
        except _ZIP_ERRORS as error:
            self.close()
            raise SourceError(f"{path} is no ZIP, or damaged: {error}") from error

    def read(self, path: str, max_bytes: int = BUDGET.piece_bytes) -> bytes | None:
        """A file's contents, or None if there is no such file."""
        name = self.prefix + path
        entry = self._entries.get(name)
        if entry is None:
            return None
        called = f"{self._file.path}: {name}"
        if entry.flags & _ENCRYPTED:
            raise SourceError(f"{called} is encrypted")
        if entry.size > max_bytes:
            raise SourceError(f"{called}: it has {entry.size:,} bytes, more than {max_bytes:,}")
        data = self._inflate(self._read_stored(entry, name), entry, called)
        if len(data) != entry.size or zlib.crc32(data) != entry.checksum:
            raise SourceError(f"{called} is damaged")
        return data

    def size(self, path: str) -> int | None:
        """A file's size, or None if there is no such file."""
        entry = self._entries.get(self.prefix + path)
        return None if entry is None else entry.size

    def open_file(self, path: str) -> RandomAccessFile | None:
        """A file that is stored without compression, or None if there is no such file."""
        entry = self._entries.get(self.prefix + path)
        if entry is None:
            return None
        label = Path(f"{self._file.path}: {path}")
        if entry.method != zipfile.ZIP_STORED or entry.flags & _ENCRYPTED:
            raise SourceError(f"{label} is compressed; store it without compression")
        start = self._start(entry, path)
        return _StoredFile(self._file, label, start, entry.stored_size)

    def children(self) -> list[str]:
        """What lies directly in it."""
        start = len(self.prefix)
        found = {
            name[start:].partition("/")[0] for name in self._entries if self._is_below_prefix(name)
        }
        return sorted(found)

    def file_sizes(self) -> Iterator[tuple[str, int]]:
        """All files."""
        start = len(self.prefix)
        for name, entry in self._entries.items():
            if self._is_below_prefix(name):
                yield name[start:], entry.size

    def subtree(self, folder: str) -> ZipTree:
        """The files below a folder in it."""
        return self._with_prefix(f"{self.prefix}{folder}/")

    def parent(self, name: str) -> ZipTree:
        """The files of the folder that holds this one; at the top of the ZIP, the same files."""
        return self._with_prefix(self.prefix.removesuffix(f"{name}/"))

    def all_paths(self) -> Iterable[str]:
        """Paths of all files in the ZIP, also of those outside the folder."""
        return self._entries.keys()

    def _with_prefix(self, prefix: str) -> ZipTree:
        other = object.__new__(ZipTree)
        other._file, other._entries, other.prefix = self._file, self._entries, prefix
        return other

    def close(self) -> None:
        """Close the ZIP."""
        self._file.close()

    def _is_below_prefix(self, name: str) -> bool:
        return name.startswith(self.prefix)

    def _read_stored(self, entry: _ZipEntry, name: str) -> bytes:
        """What the ZIP has of a file."""
        start = self._start(entry, name)
        return self._file.read_at(start, entry.stored_size, name)

    def _start(self, entry: _ZipEntry, name: str) -> int:
        """Where the content of a file begins."""
        header = self._file.read_at(entry.offset, _LOCAL_HEADER_LENGTHS.size, name)
        name_size: int
        extra_size: int
        mark, name_size, extra_size = _LOCAL_HEADER_LENGTHS.unpack(header)
        if mark != b"PK\3\4":
            raise SourceError(f"{self._file.path} is damaged: {name} is not where it should be")
        return entry.offset + _LOCAL_HEADER_LENGTHS.size + name_size + extra_size

    def _inflate(self, data: bytes, entry: _ZipEntry, label: str) -> bytes:
        if entry.method == zipfile.ZIP_STORED:
            return data
        if entry.method != zipfile.ZIP_DEFLATED:
            raise SourceError(f"{label} is compressed by method {entry.method}, not deflated")
        try:
            # One byte more, so that more than was claimed is seen.
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, entry.size + 1)
        except zlib.error as error:
            raise SourceError(f"{label} is damaged: {error}") from error


def _read_entries(file: RandomAccessFile) -> dict[str, _ZipEntry]:
    """The files that a ZIP's directory lists."""
    found, path = {}, file.path
    with file.open_stream() as stream, zipfile.ZipFile(stream) as archive:
        infos = archive.infolist()
        limit = BUDGET.entries + file.size
        if len(infos) > limit:
            raise SourceError(f"{path} has {len(infos):,} files, more than {limit:,}")
        for info in infos:
            name = info.filename
            if name.endswith("/") or stat.S_ISLNK(info.external_attr >> 16):
                continue
            if name.startswith("/") or "\\" in name or ".." in name.split("/"):
                raise SourceError(f"{path} has a file {name!r}, which would lie outside of it")
            found[name] = _ZipEntry(
                info.header_offset,
                info.compress_size,
                info.file_size,
                info.compress_type,
                info.CRC,
                info.flag_bits,
            )
    return found
