"""The folder a run works in: claimed by one run at a time, found again by the next.

The claim is a lock that the system holds on the folder's file `lock` for as long as the process
lives, so a folder whose lock is free was left by a run that was killed. To lock a file and to
find it by its name are two steps, and the owner removes the file at its end: so a process that gets the
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

from fasttile.errors import TargetError
from fasttile.storage.paths import printable_path, wrap_os_errors

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
_BUSY_ERRNOS = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}
_NOT_EMPTY_ERRNOS = {errno.ENOTEMPTY, errno.EEXIST}


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
        with wrap_os_errors("work in", path):
            self._open_spare()
            try:
                self._handle = _make_and_lock(path)
            except BaseException:
                self._close_spare()
                raise

    def clear(self, *keep: str) -> None:
        """Remove all that lies in the folder, but for the lock and these names.

        Raises:
            OSError: Something cannot be removed.
        """
        self._close_spare()
        _remove_contents(self.path, keep)
        self._open_spare()

    def ensure_in_place(self) -> None:
        """Refuse to go on if the folder is not where it was, for what is in it may be another's.

        Raises:
            TargetError: It was moved, removed or replaced.
        """
        if not self._is_in_place():
            raise TargetError(
                f"{printable_path(self.path)} was moved or removed while a run worked in it; begin again"
            )

    def remove(self) -> None:
        """Remove the folder and give up the claim; once more is nothing.

        If it was moved or removed, what has its name now is another's, and left alone.

        Raises:
            OSError: Something cannot be removed; the folder is still claimed.
        """
        if self._handle is None:
            return
        if self._is_in_place():
            self._close_spare()
            _remove_contents(self.path, ())
            if os.name == "nt":  # where an open file cannot be removed
                self.release()
            (self.path / "lock").unlink(missing_ok=True)
        _remove_if_empty(self.path)
        self.release()

    def release(self) -> None:
        """Give up the claim, and leave the folder to the next run; once more is nothing."""
        self._close_spare()
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def _is_in_place(self) -> bool:
        return self._handle is not None and _is_same_file(self.path / "lock", self._handle)

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
                os.unlink(entry.path)  # noqa: PTH108 -- faster than Path, for a million files
    for path in folders:
        remove_tree(path)
    return seen


def _remove_contents(folder: Path, keep: Sequence[str]) -> None:
    with os.scandir(folder) as scan:
        entries = [entry for entry in scan if entry.name != "lock" and entry.name not in keep]
    # Files first: a journal must be gone before the tiles that it names.
    entries.sort(key=lambda entry: entry.is_dir(follow_symlinks=False))
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            remove_tree(entry.path)
        else:
            Path(entry.path).unlink()


def _make_and_lock(path: Path) -> int:
    """Make the folder if need be, lock its lock file, and return the handle that holds it."""
    while True:
        fresh = _make_folder(path)
        try:
            handle = os.open(path / "lock", _LOCK_FLAGS, 0o666)
        except FileNotFoundError:
            continue  # its owner has just removed the folder
        except BaseException:
            if fresh:
                _remove_if_empty(path)
            raise
        try:
            _lock_or_raise(handle, path, is_new=fresh)
            if _is_same_file(path / "lock", handle):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _make_folder(path: Path) -> bool:
    """Create the folder; False if it exists already."""
    with suppress(FileExistsError):
        path.mkdir()
        return True
    with suppress(FileNotFoundError):  # its owner has just removed it
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise TargetError(
                f"{printable_path(path)} is in the way: fasttile works in a folder of this name; "
                "remove or rename it"
            )
    return False


def _lock_or_raise(handle: int, path: Path, *, is_new: bool) -> None:
    try:
        _lock(handle)
    except OSError as error:
        if error.errno in _BUSY_ERRNOS:
            raise TargetError(
                f"another run is at work in {printable_path(path)}; wait for it, or choose another name"
            ) from error
        # A file system without locks: a folder just made is nobody else's, but one that stood
        # there may belong to a run that lives.
        if not is_new:
            raise TargetError(
                f"{printable_path(path)} was left by a run that was killed, or one works in it still, and "
                "this file system has no locks; if no other run uses it, remove it"
            ) from error


def _is_same_file(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _remove_if_empty(path: Path) -> None:
    """Remove an empty folder, unless another run has just made it its own."""
    with suppress(FileNotFoundError):
        try:
            path.rmdir()
        except OSError as error:
            if error.errno not in _NOT_EMPTY_ERRNOS:
                raise
