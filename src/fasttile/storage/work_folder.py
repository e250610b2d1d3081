"""Work folder of a run: locked by one run at a time.

The lock is held by the system on the folder's file `lock` as long as the process lives, so a folder
whose lock is free was left by a run that was killed. To open a file and to lock it are two steps,
and the owner removes the file at its end: so after locking, a run checks that the name still leads
to the locked file, and starts over if not.
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
    """A folder that only this run uses, until `remove` or `release`.

    Args:
        path: The folder; it is made if need be. Its parent exists. Files of a killed run stay in it
            until `clear`.

    Raises:
        TargetError: Another run works in it, or it cannot be made or locked.
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
        """Remove the contents of the folder, except for the lock and these names.

        Raises:
            OSError: Something cannot be removed.
        """
        self._close_spare()
        _remove_contents(self.path, keep)
        self._open_spare()

    def ensure_in_place(self) -> None:
        """Check that the folder is where it was made.

        Raises:
            TargetError: It was moved, removed or replaced.
        """
        if not self._is_in_place():
            raise TargetError(
                f"{printable_path(self.path)} was moved or removed while a run worked in it; "
                "begin again"
            )

    def remove(self) -> None:
        """Remove the folder and release the lock; a second call does nothing.

        If the folder was moved or removed, a new one of its name belongs to another run and stays.

        Raises:
            OSError: Something cannot be removed; the folder is still locked.
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
        """Release the lock, and leave the folder to the next run; a second call does nothing."""
        self._close_spare()
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def _is_in_place(self) -> bool:
        return self._handle is not None and _is_same_file(self.path / "lock", self._handle)

    def _open_spare(self) -> None:
        # Removing a folder takes a file handle. This one is closed before, so that a run that
        # failed for lack of handles can still clean up.
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
    """Remove the entries of one scan of the folder; True if there were any."""
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
    """Make the folder; False if it exists already."""
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
                f"another run is at work in {printable_path(path)}; wait for it, or choose "
                "another name"
            ) from error
        # A file system without locks: a new folder belongs to this run, but an older one may
        # belong to a run that still works.
        if not is_new:
            raise TargetError(
                f"{printable_path(path)} was left by a run that was killed, or one works in it "
                "still, and this file system has no locks; if no other run uses it, remove it"
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
