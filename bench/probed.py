"""Runs a Python program under gil_probe.c, which many_cores.py has built and preloaded.

python bench/probed.py PROBE.so fasttile|SCRIPT.py ARGUMENTS...

Threads get their names in the probe, and two marks part the time of a cut: the start of fasttile's
writer thread, before the first tile, and the moment when it was joined, after the last one.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import runpy
import sys
import threading

FIRST_THREAD = "fasttile-writer"


def main() -> None:
    """Prepare the probe, and run the program as `python` would."""
    os.environ.pop("LD_PRELOAD", None)  # not for other processes
    probe = ctypes.PyDLL(sys.argv[1])  # keeps the GIL during calls
    probe.probe_start()
    probe.probe_mark(b"start")
    atexit.register(probe.probe_mark, b"exit")
    _name_threads(probe)
    program, sys.argv = sys.argv[2], sys.argv[2:]
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


def _name_threads(probe: ctypes.PyDLL) -> None:
    start, join = threading.Thread.start, threading.Thread.join

    def start_named(thread: threading.Thread) -> None:
        run = thread.run

        def run_named() -> None:
            probe.probe_name(thread.name.encode())
            run()

        thread.run = run_named  # type: ignore[method-assign]
        if thread.name == FIRST_THREAD:
            probe.probe_mark(b"begin")
        start(thread)

    def join_marked(thread: threading.Thread, timeout: float | None = None) -> None:
        join(thread, timeout)
        if thread.name == FIRST_THREAD:
            probe.probe_mark(b"end")

    threading.Thread.start = start_named  # type: ignore[method-assign]
    threading.Thread.join = join_marked  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
