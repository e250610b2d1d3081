"""Helpers of several test modules that run the command, and `noise`."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
from pathlib import Path
from threading import Thread

import numpy as np

COMMAND = [sys.executable, "-m", "fasttile"]


def run(
    *arguments: str | Path, cwd: Path | None = None, **more: object
) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own, with its output in pipes."""
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **more,
    )


def run_here(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in this process: a start of Python takes 0.2 s.

    Not for tests of signals, of standard streams and of what is imported.
    """
    from fasttile import cli

    words = [*map(str, arguments)]
    with (
        contextlib.chdir(cwd or "."),
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as errors,
    ):
        code = cli.main(words)
    return subprocess.CompletedProcess(words, code, out.getvalue(), errors.getvalue())


def run_on_terminal(
    command: list[str], cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a program whose standard error is a terminal; its standard output is a pipe."""
    import fcntl
    import pty
    import termios

    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    pieces: list[bytes] = []

    def read_terminal() -> None:
        try:
            while piece := os.read(reader, 4096):
                pieces.append(piece)
        except OSError:  # the program has ended
            pass

    thread = Thread(target=read_terminal)
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=writer,
    )
    os.close(writer)
    thread.start()
    try:
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        thread.join()
        os.close(reader)
    return subprocess.CompletedProcess(command, process.returncode, output, b"".join(pieces))


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)


def folder_entries(folder: Path) -> set[str]:
    """All that lies in a folder, hidden names too."""
    return {entry.name for entry in folder.iterdir()} if folder.exists() else set()
