"""Files below an http or https address, as a `FileTree`. A server cannot list them."""

from __future__ import annotations

from collections.abc import Iterator

from fasttile.errors import SourceNotFoundError, redact_url
from fasttile.sources.remote import fetch_piece
from fasttile.storage.budget import BUDGET
from fasttile.storage.object_files import ObjectPath
from fasttile.storage.random_access import RandomAccessFile


class HttpTree:
    """Files below an address.

    Args:
        url: The address of the folder; a query in it is sent with each request.
    """

    def __init__(self, url: str) -> None:
        self._url, mark, query = url.partition("?")
        self._url = self._url.rstrip("/")
        self._query = mark + query

    def _address(self, path: str) -> str:
        return f"{self._url}/{path}{self._query}"

    def read(self, path: str, max_bytes: int = BUDGET.piece_bytes) -> bytes | None:
        """A file's contents, or None if the server answers that there is no such file."""
        try:
            return fetch_piece(self._address(path), max_bytes)[0]
        except SourceNotFoundError:
            return None

    def size(self, path: str) -> int | None:
        """A file's size in bytes, or None if there is no such file."""
        with_size = self.open_file(path)
        return None if with_size is None else with_size.size

    def open_file(self, path: str) -> RandomAccessFile | None:
        """A file to read pieces of it, or None if there is no such file."""
        try:
            return _HttpPieces(self._address(path))
        except SourceNotFoundError:
            return None

    def children(self) -> list[str]:
        """Nothing: a server does not list files."""
        return []

    def file_sizes(self) -> Iterator[tuple[str, int]]:
        """Nothing: a server does not list files."""
        return iter(())

    def subtree(self, folder: str) -> HttpTree:
        """The files below a folder in it."""
        return HttpTree(self._address(folder))

    def parent(self, name: str) -> HttpTree:
        """The files of the folder that holds this one."""
        return HttpTree(f"{self._url.rpartition('/')[0]}{self._query}")

    def close(self) -> None:
        """Do nothing: no connection is open."""


class _HttpPieces(RandomAccessFile):
    """A file of a server whose pieces are fetched."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.path = ObjectPath(redact_url(url))
        self.size = fetch_piece(url, 1, 0)[1]

    def pread(self, count: int, offset: int) -> bytes:
        """Fetch at most `count` bytes at an offset."""
        return fetch_piece(self._url, count, offset)[0] if count else b""

    def close(self) -> None:
        """Do nothing: no connection is open."""
