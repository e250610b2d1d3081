"""Standard input and file objects on the way in: used in place where they are files, else spooled.

A caller's object stays open, and where it can be moved it is left where it stood.
"""

from __future__ import annotations

import io
import mmap
import os
import re
import shutil
import stat
import sys
import weakref
from collections.abc import Callable, Generator, Hashable
from contextlib import closing, suppress
from threading import Lock
from typing import Any, TypeGuard

from fasttile.abc.source import Source
from fasttile.errors import SourceError
from fasttile.storage.random_access import MemoryFile, SourceFile

_STANDARD_INPUT_NAME = "standard input"

# It comes only once, and who asks again wants the same: the bytes, or why there are none.
_standard_input: SpooledFile | SourceError | None = None
_standard_input_lock = Lock()


def open_file_object(source: Any) -> SourceFile:
    """A file over bytes, or over what is read like a file.

    Raises:
        SourceError: It is empty, text, or cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return MemoryFile(source, type(source).__name__)
    name = stream_name(source) or f"a file object ({type(source).__name__})"
    return _open_in_place(source, name) or _spool_stream(source, name)


def open_standard_input() -> SourceFile:
    """A file over standard input; the same each time.

    Raises:
        SourceError: It is empty, closed, a terminal, text, or cannot be read.
    """
    global _standard_input
    if sys.stdin is None or sys.stdin.closed:
        raise SourceError(f"{_STANDARD_INPUT_NAME} is closed: redirect a file into it, or pipe one")
    if sys.stdin.isatty():
        raise SourceError(
            f"{_STANDARD_INPUT_NAME} is a terminal: redirect a file into it, or pipe one"
        )
    stream = getattr(sys.stdin, "buffer", sys.stdin)
    with _standard_input_lock:
        if _standard_input is None:
            file = _open_in_place(stream, _STANDARD_INPUT_NAME)
            if file is not None:
                return file
            try:
                _standard_input = write_spool(
                    _STANDARD_INPUT_NAME, _read_chunks(stream, _STANDARD_INPUT_NAME)
                )
            except SourceError as error:
                _standard_input = error
        if isinstance(_standard_input, SourceError):
            raise _standard_input
        return _standard_input.open()


def _spool_stream(stream: Any, name: str) -> SourceFile:
    place = _call_stream(name, lambda: stream.tell() if _is_seekable(stream) else None)

    def read_and_restore() -> Generator[bytes | memoryview]:
        try:
            yield from _read_chunks(stream, name)
        finally:
            if place is not None:
                with suppress(Exception):  # whatever it is, the image was read
                    stream.seek(place)

    return spool_once((id(stream), place), name, read_and_restore, keep_alive=stream)


def _read_chunks(stream: Any, name: str) -> Generator[bytes | memoryview]:
    while True:
        piece = _call_stream(name, lambda: stream.read(CHUNK_BYTES))
        if isinstance(piece, str):
            raise SourceError(f"{name} is read as text: open it in binary mode, 'rb'")
        if not isinstance(piece, bytes | bytearray | memoryview):
            kind = "nothing yet" if piece is None else f"an object of type {type(piece).__name__}"
            raise SourceError(f"{name} gives {kind} when it is read, instead of bytes")
        if not piece:
            return
        yield memoryview(piece)


def _open_in_place(stream: Any, name: str) -> SourceFile | None:
    """A file over what a file object has in memory or on disk; None if it has to be copied.

    Only what Python itself makes is looked into: what others give when they are read may be
    something else than what lies in the file below, as with gzip's.
    """
    if type(stream).__module__ == "tempfile":
        stream = getattr(stream, "file", stream)
    if isinstance(stream, io.TextIOBase):
        raise SourceError(f"{name} is read as text: open it in binary mode, 'rb'")
    if type(stream) in (io.BytesIO, mmap.mmap):
        place = _call_stream(name, stream.tell)
        data = stream.getbuffer() if isinstance(stream, io.BytesIO) else memoryview(stream)
        return MemoryFile(data[place:], name)
    if type(stream) not in (io.FileIO, io.BufferedReader, io.BufferedRandom):
        return None
    if type(getattr(stream, "raw", stream)) is not io.FileIO:
        return None
    descriptor: int | None = _call_stream(name, lambda: _regular_file_descriptor(stream))
    return None if descriptor is None else SourceFile(descriptor, name)


def _regular_file_descriptor(
    stream: io.FileIO | io.BufferedReader | io.BufferedRandom,
) -> int | None:
    """The descriptor of a regular file that stands at its begin."""
    if stream.writable():
        stream.flush()
    state = os.fstat(stream.fileno())
    # Some files of the system's have a size of 0, and still something to be read.
    regular = stat.S_ISREG(state.st_mode) and state.st_size > 0
    return stream.fileno() if regular and stream.readable() and stream.tell() == 0 else None


def _is_seekable(stream: Any) -> bool:
    asked = getattr(stream, "seekable", None)
    return asked() if callable(asked) else hasattr(stream, "seek") and hasattr(stream, "tell")


def _call_stream(name: str, call: Callable[[], Any]) -> Any:
    """What an object answers that anybody may have written, and that may fail in any way."""
    try:
        return call()
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise SourceError(f"{name} cannot be read: {reason or type(error).__name__}") from error


# What a user names an image by: which of it is a URL or a file object, and how it is shown.

STANDARD_INPUT = "-"
"""The path that means standard input."""

STORE_SCHEMES = ("s3", "gs", "az")
"""The schemes of object stores."""

# Two letters at least: one is a Windows drive.
_SCHEME_PATTERN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


# What OpenSlide reads and nothing else does, or not as well.
_SLIDE_SUFFIX_PATTERN = re.compile(
    r"\.(svs|ndpi|vms|vmu|scn|mrxs|svslide|bif|dcm|zvi|czi)\Z", re.IGNORECASE
)


def has_slide_suffix(path: str | None) -> bool:
    """Whether a file is called as microscopes' makers call whole-slide images."""
    return path is not None and _SLIDE_SUFFIX_PATTERN.search(path) is not None


def scheme_of(path: object) -> str | None:
    """The scheme of a URL in small letters, or None for whatever is none; "scheme://" marks it."""
    # A Path is never a URL: it has lost a slash.
    match = _SCHEME_PATTERN.match(path) if isinstance(path, str) else None
    return None if match is None else match.group(1).lower()


def redact_url(url: str) -> str:
    """A URL for messages: without what may be secret, which is its user, password and query."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return f"{scheme_of(url)}://…"
    host = f"[{host}]" if ":" in host else host
    where = host if port is None else f"{host}:{port}"
    return f"{parts.scheme}://{where}{parts.path}{'?…' if parts.query else ''}"


def is_bytes(source: object) -> TypeGuard[bytes | bytearray | memoryview]:
    """Whether it is the bytes of a file."""
    return isinstance(source, bytes | bytearray | memoryview)


def is_stream(source: object) -> bool:
    """Whether it is read like a file; arrays that happen to have a `read` are none."""
    return callable(getattr(source, "read", None)) and not hasattr(source, "shape")


def stream_name(stream: object) -> str | None:
    """The name that a file object says it has, or None."""
    name = getattr(stream, "name", None)
    if not isinstance(name, str | bytes | os.PathLike):
        return None  # a descriptor's number, for one
    text = os.fsdecode(name)
    return None if not text or text.startswith("<") else text  # <stdin> is not a name


# Files without a name that hold what came from where it can be read only once, or slowly.

CHUNK_BYTES = 2**20
"""Bytes that are taken at a time."""

_open_spools: weakref.WeakValueDictionary[Hashable, SpooledFile] = weakref.WeakValueDictionary()
_retained: weakref.WeakKeyDictionary[Source, SpooledFile] = weakref.WeakKeyDictionary()


class SpooledFile:
    """An unlinked file in the folder for temporary files; it goes with the last who holds it.

    Args:
        name: What messages call what it holds.
        holds: What must live as long, if anything.

    Raises:
        SourceError: There is no folder for it.
    """

    def __init__(self, name: str, keep_alive: object = None) -> None:
        self.name = name
        self.size = 0
        self._keep_alive = keep_alive
        try:
            import tempfile

            with tempfile.TemporaryFile(prefix="fasttile-") as file:
                self._descriptor = os.dup(file.fileno())
        except OSError as error:
            raise self._full_error(error) from error
        weakref.finalize(self, os.close, self._descriptor)

    def write(self, chunk: bytes | memoryview) -> None:
        """Add a piece.

        Raises:
            SourceError: The disk is full.
        """
        left = memoryview(chunk).cast("B")
        try:
            while left:
                written = os.write(self._descriptor, left)
                self.size += written
                left = left[written:]
        except OSError as error:
            raise self._full_error(error) from error

    def open(self) -> SourceFile:
        """What it holds, as a file; it stays where it is as long as that one is open."""
        file = SourceFile(self._descriptor, self.name)
        file.spool = self
        return file

    def _full_error(self, error: OSError) -> SourceError:
        return _disk_full_error(self.name, f"{error.strerror or error}, after {self.size:,} bytes")


def spool_once(
    key: Hashable,
    name: str,
    read_chunks: Callable[[], Generator[bytes | memoryview]],
    keep_alive: object = None,
) -> SourceFile:
    """A file that holds all pieces; the same as before, as long as one of those is in use.

    An image may be opened a second time, to look at its values, while the first is open.

    Args:
        key: What is the same for the same bytes.
        name: What messages call them.
        pieces: Gives them.
        holds: What `key` stands for, where it must not be gone before.

    Raises:
        SourceError: There is nothing, it cannot be read, or there is no room for it.
    """
    spool = _open_spools.get(key)
    if spool is None:
        spool = write_spool(name, read_chunks(), keep_alive)
        _open_spools[key] = spool
    return spool.open()


def write_spool(
    name: str, chunks: Generator[bytes | memoryview], keep_alive: object = None
) -> SpooledFile:
    """A spool of all pieces.

    Raises:
        SourceError: As `spooled`.
    """
    spool = SpooledFile(name, keep_alive)
    with closing(chunks):
        for piece in chunks:
            spool.write(piece)
    if not spool.size:
        raise SourceError(f"{name} is empty")
    return spool


def retain(source: Source, spool: SpooledFile) -> None:
    """Keep what a source was read from as long as the source lives, open or not."""
    _retained[source] = spool


def check_disk_space(name: str, size: int) -> None:
    """Refuse what will not fit, as far as that can be known before it has come.

    Raises:
        SourceError: The folder for temporary files has less room left.
    """
    with suppress(OSError):
        import tempfile

        left = shutil.disk_usage(tempfile.gettempdir()).free
        if size > left:
            raise _disk_full_error(name, f"it has {size:,} bytes, and {left:,} are left")


def _disk_full_error(name: str, why: str) -> SourceError:
    try:
        import tempfile

        folder = tempfile.gettempdir()
    except OSError:
        folder = "a folder for temporary files"
    return SourceError(
        f"{name} has to be kept in {folder} while it is read, but does not fit ({why}); the "
        "variable TMPDIR names another folder"
    )
