"""The folder a run works in: claimed by one run at a time, found again by the next.

The claim is a lock that the system holds on the folder's file `lock` for as long as the process
lives, so a folder whose lock is free was left by a run that was killed. To lock a file and to
find it by its name are two steps, and the owner removes the file at its end: so whoever gets the
lock looks whether the name still leads to the file it has locked, and starts over if not.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import TargetError
from .oserrors import shown, telling

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
_BUSY = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}
_NOT_OURS_ANY_MORE = {errno.ENOTEMPTY, errno.EEXIST}


class WorkFolder:
    """A folder that this run, and no other, works in, until `remove` or `leave`.

    Args:
        path: The folder; it is made if need be. Its parent exists. What a killed run left in it
            is still there: `clear` removes it.

    Raises:
        TargetError: A living run works in it, or it cannot be made or locked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None
        with telling("work in", path):
            self._open_spare()
            try:
                self._handle = _claim(path)
            except BaseException:
                self._close_spare()
                raise

    def clear(self, *kept: str) -> None:
        """Remove all that lies in the folder, but for the lock and these names.

        Raises:
            OSError: Something cannot be removed.
        """
        self._close_spare()
        _clear(self.path, kept)
        self._open_spare()

    def check(self) -> None:
        """Refuse to go on if the folder is not where it was, for what is in it may be another's.

        Raises:
            TargetError: It was moved, removed or replaced.
        """
        if not self._is_here():
            raise TargetError(
                f"{shown(self.path)} was moved or removed while a run worked in it; begin again"
            )

    def remove(self) -> None:
        """Remove the folder and give up the claim; once more is nothing.

        If it was moved or removed, what has its name now is another's, and left alone.

        Raises:
            OSError: Something cannot be removed; the folder is still claimed.
        """
        if self._handle is None:
            return
        if self._is_here():
            self._close_spare()
            _clear(self.path, ())
            if os.name == "nt":  # where an open file cannot be removed
                self.leave()
            (self.path / "lock").unlink(missing_ok=True)
        _remove_unless_claimed(self.path)
        self.leave()

    def leave(self) -> None:
        """Give up the claim, and leave the folder to the next run; once more is nothing."""
        self._close_spare()
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def _is_here(self) -> bool:
        return self._handle is not None and _leads_to(self.path / "lock", self._handle)

    def _open_spare(self) -> None:
        # Removing a folder takes a file handle to read it with. This one is given up for it, so
        # that a run that failed for want of handles can still clean up.
        self._spare: int | None = os.open(os.devnull, os.O_RDONLY)

    def _close_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            os.close(spare)


def remove_tree(folder: str | Path) -> None:
    """Remove a folder with all that is in it, holding one file handle and no list of its files.

    Raises:
        OSError: Something cannot be removed; the rest may be gone already.
    """
    # Some file systems skip entries when others are removed under a scan, hence until it is empty.
    while _remove_entries(folder):
        pass
    Path(folder).rmdir()


def _remove_entries(folder: str | Path) -> bool:
    """Remove what a scan of the folder shows; whether it showed anything."""
    seen = False
    folders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            seen = True
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                os.unlink(entry.path)  # noqa: PTH108 -- a million Paths would take seconds
    for path in folders:
        remove_tree(path)
    return seen


def _clear(folder: Path, kept: Sequence[str]) -> None:
    with os.scandir(folder) as scan:
        entries = [entry for entry in scan if entry.name != "lock" and entry.name not in kept]
    # Files first: a journal must be gone before the tiles that it names.
    entries.sort(key=lambda entry: entry.is_dir(follow_symlinks=False))
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            remove_tree(entry.path)
        else:
            Path(entry.path).unlink()


def _claim(path: Path) -> int:
    """Make the folder if need be, lock its lock file, and return the handle that holds it."""
    while True:
        fresh = _make(path)
        try:
            handle = os.open(path / "lock", _LOCK_FLAGS, 0o666)
        except FileNotFoundError:
            continue  # its owner has just removed the folder
        except BaseException:
            if fresh:
                _remove_unless_claimed(path)
            raise
        try:
            _lock_or_refuse(handle, path, fresh=fresh)
            if _leads_to(path / "lock", handle):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _make(path: Path) -> bool:
    """Make the folder; False if it stands there already."""
    with suppress(FileExistsError):
        path.mkdir()
        return True
    with suppress(FileNotFoundError):  # its owner has just removed it
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise TargetError(
                f"{shown(path)} is in the way: fasttile works in a folder of this name; "
                "remove or rename it"
            )
    return False


def _lock_or_refuse(handle: int, path: Path, *, fresh: bool) -> None:
    try:
        _lock(handle)
    except OSError as error:
        if error.errno in _BUSY:
            raise TargetError(
                f"another run is at work in {shown(path)}; wait for it, or choose another name"
            ) from error
        # A file system without locks: a folder just made is nobody else's, but one that stood
        # there may belong to a run that lives.
        if not fresh:
            raise TargetError(
                f"{shown(path)} was left by a run that was killed, or one works in it still, and "
                "this file system has no locks to tell; if none does, remove it"
            ) from error


def _leads_to(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _remove_unless_claimed(path: Path) -> None:
    """Remove an empty folder, unless another run has just made it its own."""
    with suppress(FileNotFoundError):
        try:
            path.rmdir()
        except OSError as error:
            if error.errno not in _NOT_OURS_ANY_MORE:
                raise
