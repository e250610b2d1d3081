"""Standard input and file objects on the way in: used in place where they are files, else spooled.

A caller's object stays open, and where it can be moved it is left where it stood.
"""

from __future__ import annotations

import io
import mmap
import os
import stat
import sys
from collections.abc import Callable, Generator
from contextlib import suppress
from threading import Lock
from typing import Any

from ..errors import SourceError
from .mapping import PictureFile
from .memory import MemoryFile
from .spool import PIECE, Spool, filled, spooled
from .ways import stream_name

_STANDARD_INPUT = "standard input"

# It comes only once, and who asks again wants the same: the bytes, or why there are none.
_standard: Spool | SourceError | None = None
_reading_standard = Lock()


def object_file(source: Any) -> PictureFile:
    """A file over bytes, or over what is read like a file.

    Raises:
        SourceError: It is empty, text, or cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return MemoryFile(source, type(source).__name__)
    name = stream_name(source) or f"a file object ({type(source).__name__})"
    return _in_place(source, name) or _all_of(source, name)


def standard_input() -> PictureFile:
    """A file over standard input; the same each time.

    Raises:
        SourceError: It is empty, closed, a terminal, text, or cannot be read.
    """
    global _standard
    if sys.stdin is None or sys.stdin.closed:
        raise SourceError(f"{_STANDARD_INPUT} is closed: redirect a file into it, or pipe one")
    if sys.stdin.isatty():
        raise SourceError(f"{_STANDARD_INPUT} is a terminal: redirect a file into it, or pipe one")
    stream = getattr(sys.stdin, "buffer", sys.stdin)
    with _reading_standard:
        if _standard is None:
            file = _in_place(stream, _STANDARD_INPUT)
            if file is not None:
                return file
            try:
                _standard = filled(_STANDARD_INPUT, _pieces(stream, _STANDARD_INPUT))
            except SourceError as error:
                _standard = error
        if isinstance(_standard, SourceError):
            raise _standard
        return _standard.opened()


def _all_of(stream: Any, name: str) -> PictureFile:
    place = _asked(name, lambda: stream.tell() if _seekable(stream) else None)

    def pieces() -> Generator[bytes | memoryview]:
        try:
            yield from _pieces(stream, name)
        finally:
            if place is not None:
                with suppress(Exception):  # whatever it is, the picture was read
                    stream.seek(place)

    return spooled((id(stream), place), name, pieces, holds=stream)


def _pieces(stream: Any, name: str) -> Generator[bytes | memoryview]:
    while True:
        piece = _asked(name, lambda: stream.read(PIECE))
        if isinstance(piece, str):
            raise SourceError(f"{name} is read as text: open it in binary mode, 'rb'")
        if not isinstance(piece, bytes | bytearray | memoryview):
            kind = "nothing yet" if piece is None else f"an object of type {type(piece).__name__}"
            raise SourceError(f"{name} gives {kind} when it is read, instead of bytes")
        if not piece:
            return
        yield memoryview(piece)


def _in_place(stream: Any, name: str) -> PictureFile | None:
    """A file over what a file object has in memory or on disk; None if it has to be copied.

    Only what Python itself makes is looked into: what others give when they are read may be
    something else than what lies in the file below, as with gzip's.
    """
    if type(stream).__module__ == "tempfile":
        stream = getattr(stream, "file", stream)
    if isinstance(stream, io.TextIOBase):
        raise SourceError(f"{name} is read as text: open it in binary mode, 'rb'")
    if type(stream) in (io.BytesIO, mmap.mmap):
        place = _asked(name, stream.tell)
        data = stream.getbuffer() if isinstance(stream, io.BytesIO) else memoryview(stream)
        return MemoryFile(data[place:], name)
    if type(stream) not in (io.FileIO, io.BufferedReader, io.BufferedRandom):
        return None
    if type(getattr(stream, "raw", stream)) is not io.FileIO:
        return None
    descriptor: int | None = _asked(name, lambda: _plain_file(stream))
    return None if descriptor is None else PictureFile(descriptor, name)


def _plain_file(stream: io.FileIO | io.BufferedReader | io.BufferedRandom) -> int | None:
    """The descriptor of a regular file that stands at its begin."""
    if stream.writable():
        stream.flush()
    state = os.fstat(stream.fileno())
    # Some files of the system's have a size of 0, and still something to be read.
    regular = stat.S_ISREG(state.st_mode) and state.st_size > 0
    return stream.fileno() if regular and stream.readable() and stream.tell() == 0 else None


def _seekable(stream: Any) -> bool:
    asked = getattr(stream, "seekable", None)
    return asked() if callable(asked) else hasattr(stream, "seek") and hasattr(stream, "tell")


def _asked(name: str, question: Callable[[], Any]) -> Any:
    """What an object answers that anybody may have written, and that may fail in any way."""
    try:
        return question()
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise SourceError(f"{name} cannot be read: {reason or type(error).__name__}") from error
