"""Helpers of several test modules: COMMAND, folder_entries, noise, run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)


def folder_entries(folder: Path) -> set[str]:
    """All that lies in a folder, hidden names too."""
    return {entry.name for entry in folder.iterdir()} if folder.exists() else set()
