"""Signals that are held back for a while, and from processes that are started meanwhile."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_back(*names: str) -> Iterator[None]:
    """Hold back signals from this thread; threads and processes that it starts never get them.

    So Ctrl-C, which a terminal sends to all processes, does not end workers before their program.

    Args:
        names: Which; those that the system does not have are left out.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    numbers = {getattr(signal, name) for name in names if hasattr(signal, name)}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
