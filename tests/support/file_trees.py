"""Helpers of several test modules: file_tree."""

from __future__ import annotations

from pathlib import Path


def file_tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
