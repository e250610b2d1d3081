"""A worker process: takes orders from one pipe, answers into another, and ends with its parent."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import warnings
from queue import SimpleQueue
from typing import IO, Any, NoReturn

from fasttile.workers import run_task

READY, PROGRESS, RESULT = "ready", "told", "ended"
"""What a worker's answers are about: itself, what the work tells, what became of the order."""

PARENT_CHECK_SECONDS = 1.0


def main() -> None:
    """Do what is ordered, one order after the other, until the parent ends this process."""
    incoming, outgoing = _take_over_pipes()
    told_to_end = _install_signal_handlers()
    if not sys.warnoptions:
        # What libraries warn of is for programmers, as in the command's own process.
        warnings.simplefilter("ignore")
    orders: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_receive_tasks, args=(incoming, orders), daemon=True).start()
    threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()

    def send(kind: str, data: bytes = b"") -> None:
        pickle.dump((kind, data), outgoing)
        outgoing.flush()

    def exit_if_terminated() -> None:
        # What a handler raises is lost where Python was calling back: while it imports, for one.
        if told_to_end:
            raise SystemExit(128 + told_to_end[0])

    def send_progress(message: Any) -> None:
        exit_if_terminated()
        send(PROGRESS, pickle.dumps(message))

    send(READY)
    while True:
        send(RESULT, run_task(orders.get(), send_progress))
        exit_if_terminated()


def _take_over_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """The pipes from and to the parent, out of the way of whatever reads or prints."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # the program has no standard error
        os.dup2(nothing, 1)
    os.close(nothing)
    return incoming, outgoing


def _install_signal_handlers() -> list[int]:
    """SIGTERM ends the work tidily; what a terminal sends to all processes is for the parent.

    Returns:
        The signal's number, as soon as it has come.
    """
    told_to_end: list[int] = []

    def on_terminate(number: int, frame: object) -> NoReturn:
        told_to_end.append(number)
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, on_terminate)
    if hasattr(signal, "pthread_sigmask"):  # the thread that started us may have blocked it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    return told_to_end


def _receive_tasks(incoming: IO[bytes], packed_tasks: SimpleQueue[bytes]) -> None:
    """Take orders; the pipe's end is that of the parent, and of all that is done for it."""
    try:
        while True:
            packed_tasks.put(pickle.load(incoming))
    finally:
        os._exit(1)


def _watch_parent(parent: int) -> None:
    """End with the parent, even where a process that it has forked keeps the pipe open."""
    # PR_SET_PDEATHSIG would be quicker, but means the thread that started us, which may end before.
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(1)
