"""Results in object stores, read like files: by ranges of objects, and by listings."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from fasttile.errors import OptionError, SourceError, SourceNotFoundError
from fasttile.storage.budget import BUDGET
from fasttile.storage.file_trees import FileTree, FolderTree
from fasttile.storage.random_access import (
    BoundedReader,
    DiskFile,
    RandomAccessFile,
    RandomAccessRaw,
    SourceFile,
)

if TYPE_CHECKING:
    from fasttile.storage.object_store import Bucket

BLOCK_BYTES = 2**18
"""Bytes that a request reads at least: tiles in a file are neighbours of one another."""

CACHED_BLOCKS = 64

_DOWNLOAD_PART_BYTES = 2**23


class ObjectPath(PurePosixPath):
    """The address of an object or of a prefix, such as s3://bucket/site/map.dzi."""

    __slots__ = ()

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)


ResultPath: TypeAlias = "Path | ObjectPath"


@contextmanager
def _as_source_errors() -> Iterator[None]:
    """Turn errors of the store into SourceErrors."""
    from fasttile.storage.object_store import StoreError

    try:
        yield
    except (OptionError, StoreError) as error:
        raise SourceError(str(error)) from error


def _open_bucket(place: ObjectPath) -> tuple[Bucket, str]:
    """The bucket of an address, and the key."""
    from fasttile.storage.object_store import Bucket, split_bucket_and_key

    name, key = split_bucket_and_key(str(place))
    return Bucket(name), key


class RandomAccessObject(RandomAccessFile):
    """An object whose pieces are read by ranges; see `RandomAccessFile`.

    Small pieces are cut out of blocks, the last of which are kept. All pieces are of one version
    of the object.

    Args:
        path: The address.

    Raises:
        SourceError: The object does not exist or cannot be read.
    """

    def __init__(self, path: ObjectPath) -> None:
        self.path = path
        with _as_source_errors():
            self._bucket, key = _open_bucket(path)
            info = self._bucket.head(key)
            if info is None:
                problem = "object" if self._bucket.exists() else "bucket"
                raise SourceNotFoundError(f"{path}: there is no such {problem}")
        self._info = info
        self.size = info.size
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Forget the blocks."""
        with self._lock:
            self._blocks.clear()

    def pread(self, count: int, offset: int) -> bytes:
        """Read at most `count` bytes at an offset."""
        end = min(offset + count, self.size)
        if offset >= end:
            return b""
        first, last = offset // BLOCK_BYTES, (end - 1) // BLOCK_BYTES
        if last - first > 1:
            return self._read_range(offset, end)
        data = b"".join(self._block(number) for number in range(first, last + 1))
        start = offset - first * BLOCK_BYTES
        return data[start : start + end - offset]

    def _block(self, number: int) -> bytes:
        with self._lock:
            if number in self._blocks:
                self._blocks.move_to_end(number)
                return self._blocks[number]
        start = number * BLOCK_BYTES
        data = self._read_range(start, min(start + BLOCK_BYTES, self.size))
        with self._lock:
            self._blocks[number] = data
            while len(self._blocks) > CACHED_BLOCKS:
                self._blocks.popitem(last=False)
        return data

    def _read_range(self, start: int, end: int) -> bytes:
        with _as_source_errors():
            return self._bucket.read_range(self._info, start, end)


class ObjectFile(SourceFile):
    """An object as a file whose header and directories are parsed; its pixels are not mapped.

    Args:
        path: The address.

    Raises:
        SourceError: The object does not exist, is empty, or cannot be read.
    """

    def __init__(self, path: ObjectPath) -> None:
        self._path = path
        self._object = RandomAccessObject(path)
        super().__init__(str(path), None, self.reopen(), self._object.size)

    def reopen(self) -> BoundedReader:
        """A new stream over the same object."""
        raw = RandomAccessRaw(self._object.pread, self._object.size, lambda: None)
        return BoundedReader(raw, self._object.size)

    def clone(self) -> SourceFile:
        """The same object, with blocks of its own."""
        return ObjectFile(self._path)

    def close(self) -> None:
        """Close the stream."""
        self.stream.close()

    def _buffer(self) -> NoReturn:
        raise SourceError(f"{self.name}: an object in a store cannot be mapped")


class ObjectTree:
    """The objects below a prefix, as a `FileTree`.

    Args:
        folder: Address of the prefix.
    """

    def __init__(self, folder: ObjectPath) -> None:
        self.folder = folder
        with _as_source_errors():
            self._bucket, key = _open_bucket(folder)
        self._prefix = f"{key}/" if key else ""

    def read(self, path: str, max_bytes: int = BUDGET.piece_bytes) -> bytes | None:
        """An object's contents, or None if it does not exist."""
        with _as_source_errors():
            return self._bucket.read(self._prefix + path, max_bytes)

    def size(self, path: str) -> int | None:
        """An object's size, or None if it does not exist."""
        with _as_source_errors():
            info = self._bucket.head(self._prefix + path)
        return None if info is None else info.size

    def open_file(self, path: str) -> RandomAccessFile | None:
        """An object to read pieces of it, or None if it does not exist."""
        try:
            return RandomAccessObject(self.folder / path)
        except SourceNotFoundError:
            return None

    def children(self) -> list[str]:
        """Names of the objects and prefixes directly below the prefix."""
        with _as_source_errors():
            return self._bucket.list_names(self._prefix)

    def file_sizes(self) -> Iterator[tuple[str, int]]:
        """Paths and sizes of all objects below the prefix."""
        with _as_source_errors():
            for info in self._bucket.list_objects(self._prefix):
                yield info.key.removeprefix(self._prefix), info.size

    def subtree(self, folder: str) -> ObjectTree:
        """The objects below a prefix in it."""
        return ObjectTree(self.folder / folder)

    def parent(self, name: str) -> ObjectTree:
        """The objects below the prefix that holds this one."""
        return ObjectTree(self.folder.parent)

    def close(self) -> None:
        """Do nothing: no file is open."""


def is_folder(place: ResultPath) -> bool:
    """True if a place is a folder, or in a store a prefix of objects and not an object."""
    if isinstance(place, Path):
        try:
            return place.is_dir()
        except OSError:  # the path is too long, or may not be read
            return False
    with _as_source_errors():
        bucket, key = _open_bucket(place)
        if key and bucket.head(key) is not None:
            return False
        return next(bucket.list_objects(f"{key}/" if key else ""), None) is not None


def open_tree(folder: ResultPath) -> FileTree:
    """The files below a folder, or the objects below a prefix."""
    return FolderTree(folder) if isinstance(folder, Path) else ObjectTree(folder)


def open_random_access(place: ResultPath) -> RandomAccessFile:
    """Open a file or an object to read its pieces.

    Raises:
        SourceError: It does not exist or cannot be read.
    """
    return RandomAccessFile(place) if isinstance(place, Path) else RandomAccessObject(place)


def open_header(place: ResultPath) -> SourceFile:
    """Open a file or an object to parse its header.

    Raises:
        SourceError: It does not exist or cannot be read.
    """
    return DiskFile(place) if isinstance(place, Path) else ObjectFile(place)


def download(place: ObjectPath) -> Path:
    """Copy an object to a new temporary file, which the caller removes.

    Raises:
        SourceError: It has more than `BUDGET.download_bytes`, cannot be read, or does not fit.
    """
    import tempfile

    with RandomAccessObject(place) as source:
        if source.size > BUDGET.download_bytes:
            raise SourceError(
                f"{place}: it has {source.size:,} bytes; a database is downloaded to be read, up "
                f"to {BUDGET.download_bytes:,} bytes: copy it to this machine"
            )
        path = None
        try:
            descriptor, name = tempfile.mkstemp(prefix="fasttile-", suffix=place.suffix)
            path = Path(name)
            with os.fdopen(descriptor, "wb") as file:
                for start in range(0, source.size, _DOWNLOAD_PART_BYTES):
                    file.write(source.pread(_DOWNLOAD_PART_BYTES, start))
        except BaseException as error:
            if path is not None:
                with suppress(OSError):
                    path.unlink()
            if isinstance(error, OSError):
                reason = error.strerror or error
                raise SourceError(
                    f"{place} cannot be kept in {tempfile.gettempdir()}: {reason}; set TMPDIR to "
                    "another folder"
                ) from error
            raise
    return path


def place_of(path: str | os.PathLike[str], scheme: str | None) -> ResultPath:
    """The place that a path or an address names.

    Args:
        path: The path or the address.
        scheme: The scheme of the address in lower case. Default: it is a path.

    Raises:
        SourceError: It is neither on this machine nor in a store.
    """
    if scheme is None:
        return Path(path)
    text = os.fspath(path)
    if scheme == "file":
        from urllib.parse import urlsplit
        from urllib.request import url2pathname

        return Path(url2pathname(urlsplit(text).path))
    if scheme not in ("s3", "gs", "az"):
        raise SourceError(
            f"{text}: a result is read from this machine, or from s3://, gs:// or az://; download "
            "it first"
        )
    from fasttile.storage.object_store import split_bucket_and_key

    with _as_source_errors():
        bucket, key = split_bucket_and_key(text)
    return ObjectPath(f"{bucket}/{key}")
