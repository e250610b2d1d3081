"""Renames that `os` does not offer: to exchange two names, and never to replace one.

Linux has both in one system call, renameat2. Where it is missing, or the file system does not
know the flag, `exchange` says so, and `rename_new` looks before it renames, which leaves a gap of
some microseconds between the look and the rename.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

_Call = Callable[[bytes, bytes, int], int]
"""renameat2 of two absolute paths with flags: 0, or the errno of the failure."""

_NOREPLACE = 1
_EXCHANGE = 2

_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}
"""No such call in this kernel, no such flag in this file system."""


def exchange(one: Path, other: Path) -> bool:
    """Let two names swap what they stand for, in one step.

    Returns:
        False, and nothing is changed, where the system has no such step.

    Raises:
        OSError: The system has it and refused.
    """
    return _renameat2(one, other, _EXCHANGE)


def rename_new(source: Path, target: Path) -> None:
    """Rename, unless something stands at the target already.

    Raises:
        FileExistsError: Something stands there.
        OSError: The system refused.
    """
    if _renameat2(source, target, _NOREPLACE):
        return
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    os.rename(source, target)  # noqa: PTH104 -- beside renameat2, the same words for the same thing


def _renameat2(source: Path, target: Path, flag: int) -> bool:
    call = _system_call()
    if call is None:
        return False
    # As os.rename raises "os.rename": who audits renames is to see these too.
    sys.audit("fasttile.renameat2", source, target, flag)
    code = call(os.fsencode(source.absolute()), os.fsencode(target.absolute()), flag)
    if code in _UNSUPPORTED:
        return False
    if code:
        raise OSError(code, os.strerror(code), str(source), None, str(target))
    return True


@cache
def _system_call() -> _Call | None:
    """The C library's renameat2, or None where it has none."""
    if sys.platform != "linux":
        return None
    import ctypes  # here, because importing it takes milliseconds that only Linux needs

    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        return None
    function = library.renameat2
    function.argtypes = (
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_uint,
    )
    here = -100  # AT_FDCWD; absolute paths do not look at it

    def call(source: bytes, target: bytes, flags: int) -> int:
        failed = function(here, source, here, target, flags) != 0
        return ctypes.get_errno() if failed else 0

    return call
