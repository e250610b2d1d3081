"""Files without a name that hold what came from where it can be read only once, or slowly."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Generator, Hashable
from contextlib import closing, suppress

from ..errors import SourceError
from .base import Source
from .mapping import PictureFile

PIECE = 2**20
"""Bytes that are taken at a time."""

_spools: weakref.WeakValueDictionary[Hashable, Spool] = weakref.WeakValueDictionary()
_kept: weakref.WeakKeyDictionary[Source, Spool] = weakref.WeakKeyDictionary()


class Spool:
    """An unlinked file in the folder for temporary files; it goes with the last who holds it.

    Args:
        name: What messages call what it holds.
        holds: What must live as long, if anything.

    Raises:
        SourceError: There is no folder for it.
    """

    def __init__(self, name: str, holds: object = None) -> None:
        self.name = name
        self.size = 0
        self._holds = holds
        try:
            with tempfile.TemporaryFile(prefix="fasttile-") as file:
                self._descriptor = os.dup(file.fileno())
        except OSError as error:
            raise self._no_room(error) from error
        weakref.finalize(self, os.close, self._descriptor)

    def write(self, piece: bytes | memoryview) -> None:
        """Add a piece.

        Raises:
            SourceError: The disk is full.
        """
        left = memoryview(piece).cast("B")
        try:
            while left:
                written = os.write(self._descriptor, left)
                self.size += written
                left = left[written:]
        except OSError as error:
            raise self._no_room(error) from error

    def opened(self) -> PictureFile:
        """What it holds, as a file; it stays where it is as long as that one is open."""
        file = PictureFile(self._descriptor, self.name)
        file.spool = self
        return file

    def _no_room(self, error: OSError) -> SourceError:
        return _no_room(self.name, f"{error.strerror or error}, after {self.size:,} bytes")


def spooled(
    key: Hashable,
    name: str,
    pieces: Callable[[], Generator[bytes | memoryview]],
    holds: object = None,
) -> PictureFile:
    """A file that holds all pieces; the same as before, as long as one of those is in use.

    A picture may be opened a second time, to look at its values, while the first is open.

    Args:
        key: What is the same for the same bytes.
        name: What messages call them.
        pieces: Gives them.
        holds: What `key` stands for, where it must not be gone before.

    Raises:
        SourceError: There is nothing, it cannot be read, or there is no room for it.
    """
    spool = _spools.get(key)
    if spool is None:
        spool = filled(name, pieces(), holds)
        _spools[key] = spool
    return spool.opened()


def filled(name: str, pieces: Generator[bytes | memoryview], holds: object = None) -> Spool:
    """A spool of all pieces.

    Raises:
        SourceError: As `spooled`.
    """
    spool = Spool(name, holds)
    with closing(pieces):
        for piece in pieces:
            spool.write(piece)
    if not spool.size:
        raise SourceError(f"{name} is empty")
    return spool


def keep(source: Source, spool: Spool) -> None:
    """Keep what a source was read from as long as the source lives, open or not."""
    _kept[source] = spool


def check_room(name: str, size: int) -> None:
    """Refuse what will not fit, as far as that can be known before it has come.

    Raises:
        SourceError: The folder for temporary files has less room left.
    """
    with suppress(OSError):
        left = shutil.disk_usage(tempfile.gettempdir()).free
        if size > left:
            raise _no_room(name, f"it has {size:,} bytes, and {left:,} are left")


def _no_room(name: str, why: str) -> SourceError:
    try:
        folder = tempfile.gettempdir()
    except OSError:
        folder = "a folder for temporary files"
    return SourceError(
        f"{name} has to be kept in {folder} while it is read, but does not fit ({why}); the "
        "variable TMPDIR names another folder"
    )
