"""A worker process: reads tasks from a pipe, writes results to another, ends with its parent."""

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

from fasttile.storage.random_access import guard_mapped_files
from fasttile.storage.system import separate_error_stream
from fasttile.workers import run_task

READY, ALIVE, PROGRESS, RESULT = "ready", "alive", "progress", "result"
"""Kinds of messages: the worker has started, it runs, progress of a task, result of a task."""

PARENT_CHECK_SECONDS = 0.5
"""Time between two checks of the parent, and between two messages to it that this process runs."""


def main(*, separate_errors: bool = False) -> None:
    """Run tasks one after the other until the parent ends this process.

    Args:
        separate_errors: True to drop what C libraries write to descriptor 2.
    """
    if separate_errors:
        separate_error_stream()
    incoming, outgoing = _take_over_pipes()
    received_signals = _install_signal_handlers()
    guard_mapped_files()
    if not sys.warnoptions:
        # As in the command's own process: warnings of libraries are for programmers.
        warnings.simplefilter("ignore")
    packed_tasks: SimpleQueue[bytes] = SimpleQueue()
    sending = threading.Lock()
    parent = os.getppid()

    def receive_tasks() -> None:
        try:
            while True:
                packed_tasks.put(pickle.load(incoming))
        finally:  # at the end of the pipe the parent has ended
            os._exit(1)

    def watch_parent() -> None:
        # A process that the parent has forked may keep the pipe open. PR_SET_PDEATHSIG acts when
        # the thread that started this process ends, not the parent.
        try:
            while os.getppid() == parent:
                time.sleep(PARENT_CHECK_SECONDS)
                send(ALIVE)
        finally:
            os._exit(1)

    def send(kind: str, data: bytes = b"") -> None:
        message = pickle.dumps((kind, data))
        with sending:
            outgoing.write(message)
            outgoing.flush()

    for work in (receive_tasks, watch_parent):
        threading.Thread(target=work, daemon=True).start()

    def exit_if_terminated() -> None:
        # Python drops an exception of a signal handler in some callbacks, during imports for one.
        if received_signals:
            raise SystemExit(128 + received_signals[0])

    def send_progress(message: Any) -> None:
        exit_if_terminated()
        send(PROGRESS, pickle.dumps(message))

    send(READY)
    while True:
        send(RESULT, run_task(packed_tasks.get(), send_progress))
        exit_if_terminated()


def _take_over_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Move the pipes from and to the parent away from standard input and output."""
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
    """Let SIGTERM end the work with clean-up; ignore the signals that a terminal sends to all.

    Returns:
        A list that gets the number of the signal when it arrives.
    """
    received_signals: list[int] = []

    def on_terminate(number: int, frame: object) -> NoReturn:
        received_signals.append(number)
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, on_terminate)
    if hasattr(signal, "pthread_sigmask"):  # the thread that started us may have blocked it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    return received_signals
