"""Work folder of a run: owned by the user, and locked by one run at a time.

The lock is held by the system on the folder's file `lock` as long as the process lives, so a folder
whose lock is free was left by a run that was killed. To open a file and to lock it are two steps,
and the owner removes the file at its end: so after locking, a run checks that the name still leads
to the locked file, and starts over if not.

A folder that another user made, or can write to, is refused: its contents would be believed. All
entries are used by the handle of the folder, so a link that takes its place leads nowhere.
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
from fasttile.storage.folders import Folder
from fasttile.storage.paths import nearest_folder, wrap_os_errors

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


_BUSY_ERRNOS = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}
_NOT_EMPTY_ERRNOS = {errno.ENOTEMPTY, errno.EEXIST}

_SPARE_HANDLES = 10
"""Handles that the removal of the deepest result takes."""

_LOCK_NAME = "lock"


def check_can_work(path: Path) -> None:
    """Check, without writing anything, that a `WorkFolder` can be opened.

    Raises:
        TargetError: Another run works in it, it is no folder, or it cannot be made.
    """
    with wrap_os_errors("make folder", path.parent):
        folder = nearest_folder(path)
    action, place = ("work in", path) if folder == path.parent else ("make folder", path.parent)
    with wrap_os_errors(action, place):
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        is_effective = os.access in os.supports_effective_ids
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=is_effective):
            is_read_only = hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY
            number = errno.EROFS if is_read_only else errno.EACCES
            raise OSError(number, os.strerror(number))
        if os.path.lexists(path) and not path.is_dir():
            raise _in_the_way_error(path)
        if sys.platform != "win32" and (path / _LOCK_NAME).is_file():
            handle = os.open(path / _LOCK_NAME, os.O_RDONLY)
            try:  # shared: it is released at once, and excludes no other check
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in _BUSY_ERRNOS:
                    raise _busy_error(path) from error
            finally:
                os.close(handle)


def _in_the_way_error(path: Path) -> TargetError:
    return TargetError(
        f"{path} is in the way: fasttile works in a folder of this name; remove or rename it"
    )


def _busy_error(path: Path) -> TargetError:
    return TargetError(f"another run is at work in {path}; wait for it, or choose another name")


class WorkFolder:
    """A folder that only this run uses, until `remove` or `release`.

    Args:
        path: The folder; it is made if need be. Its parent exists. Files of a killed run stay in it
            until `clear`.

    Attributes:
        folder: The open folder.
        parent: The open folder that holds it.

    Raises:
        TargetError: Another run works in it, it belongs to another user or can be written by
            others, or it cannot be made or locked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None  # of the locked file
        self._spares: list[int] = []
        with wrap_os_errors("work in", path):
            try:
                self._open_spares()
                self.parent = Folder.open(path.parent)
                try:
                    self._make_and_lock()
                except BaseException:
                    self.parent.close()
                    raise
            except BaseException:
                self._close_spares()
                raise

    def clear(self, *keep: str) -> None:
        """Remove the contents of the folder, except for the lock and these names.

        Raises:
            OSError: Something cannot be removed.
        """
        self._close_spares()
        self._remove_contents(keep)
        self._open_spares()

    def ensure_in_place(self) -> None:
        """Check that the folder is where it was made.

        Raises:
            TargetError: It was moved, removed or replaced.
        """
        try:
            is_same = os.path.samestat(self.path.parent.stat(), self.parent.own_status())
        except FileNotFoundError:
            is_same = False
        if not (is_same and self._is_in_place()):
            raise TargetError(
                f"{self.path} was moved or removed while a run worked in it; begin again"
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
            self._close_spares()
            self._remove_contents(())
            if os.name == "nt":  # where an open file cannot be removed
                os.close(self._handle)
                self._handle = None
            self.folder.remove_file(_LOCK_NAME)
        self._remove_if_empty()
        self.release()

    def release(self) -> None:
        """Release the lock, and leave the folder to the next run; a second call does nothing."""
        self._close_spares()
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)
        self.folder.close()
        self.parent.close()

    def _make_and_lock(self) -> None:
        """Make the folder if need be, check that it is the user's, and lock its lock file."""
        name = self.path.name
        while True:
            fresh = self._make_folder()
            try:
                self.folder = self.parent.open_folder(name)
            except FileNotFoundError:
                continue  # its owner has just removed it
            except BaseException:
                if fresh:
                    self._remove_if_empty()
                raise
            handle = None
            try:
                self._check_owned()
                handle = self.folder.open_file(_LOCK_NAME, os.O_RDWR | os.O_CREAT)
                self._lock_or_raise(handle, is_new=fresh)
                if self._is_in_place(handle):
                    self._handle = handle
                    return
            except FileNotFoundError:
                pass  # as above
            except BaseException:
                if handle is not None:
                    os.close(handle)
                elif fresh:
                    self._remove_if_empty()
                self.folder.close()
                raise
            if handle is not None:
                os.close(handle)
            self.folder.close()

    def _make_folder(self) -> bool:
        """Make the folder; False if it exists already."""
        with suppress(FileExistsError):
            self.parent.make_folder(self.path.name, 0o700)
            return True
        status = self.parent.status(self.path.name)
        if status is not None and not stat.S_ISDIR(status.st_mode):
            raise _in_the_way_error(self.path)
        return False

    def _check_owned(self) -> None:
        """Refuse a folder that another user made, or can change."""
        if not hasattr(os, "geteuid"):  # Windows
            return
        status = self.folder.own_status()
        owner, is_shared = os.geteuid(), bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
        if status.st_uid == owner and not is_shared:
            return
        # Some file systems have one owner for all, or no permissions: a new folder shows it.
        probe = f"{self.path.name}-{os.urandom(8).hex()}"
        self.parent.make_folder(probe, 0o700)
        try:
            usual = self.parent.status(probe)
        finally:
            self.parent.remove_folder(probe)
        if usual is None or status.st_uid != usual.st_uid:
            problem = "belongs to another user"
        elif is_shared and not usual.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            problem = "can be written by other users"
        else:
            return
        raise TargetError(
            f"{self.path} {problem}, so nothing in it is used; remove it, or choose another name"
        )

    def _lock_or_raise(self, handle: int, *, is_new: bool) -> None:
        try:
            _lock(handle)
        except OSError as error:
            if error.errno in _BUSY_ERRNOS:
                raise _busy_error(self.path) from error
            # A file system without locks: a new folder belongs to this run, but an older one may
            # belong to a run that still works.
            if not is_new:
                raise TargetError(
                    f"{self.path} was left by a run that was killed, or one works "
                    "in it still, and this file system has no locks; if no other run uses it, "
                    "remove it"
                ) from error

    def _is_in_place(self, handle: int | None = None) -> bool:
        """True if the names of the folder and its lock still lead to the open ones."""
        handle = self._handle if handle is None else handle
        if handle is None:
            return False
        lock, folder = self.folder.status(_LOCK_NAME), self.parent.status(self.path.name)
        return (
            lock is not None
            and folder is not None
            and os.path.samestat(lock, os.fstat(handle))
            and os.path.samestat(folder, self.folder.own_status())
        )

    def _remove_contents(self, keep: Sequence[str]) -> None:
        with self.folder.scan() as scan:
            entries = [
                (entry.is_dir(follow_symlinks=False), entry.name)
                for entry in scan
                if entry.name != _LOCK_NAME and entry.name not in keep
            ]
        # Files first: a journal must be gone before the tiles that it names.
        for is_folder, name in sorted(entries):
            if is_folder:
                self.folder.remove_tree(name)
            else:
                self.folder.remove_file(name)

    def _remove_if_empty(self) -> None:
        """Remove the empty folder, unless another run has just made it its own."""
        with suppress(FileNotFoundError):
            try:
                self.parent.remove_folder(self.path.name)
            except OSError as error:
                if error.errno not in _NOT_EMPTY_ERRNOS:
                    raise

    def _open_spares(self) -> None:
        # Removing a folder takes file handles. These are closed before, so that a run that failed
        # for lack of handles can still clean up.
        while len(self._spares) < _SPARE_HANDLES:
            self._spares.append(os.open(os.devnull, os.O_RDONLY))

    def _close_spares(self) -> None:
        while self._spares:
            os.close(self._spares.pop())
