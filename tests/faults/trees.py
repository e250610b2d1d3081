"""What lies in a folder, to the last byte, and whether it is the truth."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from support.file_trees import content_of_any_source

NEW_TILES_MARKER = ".fasttile-new"
"""The file that may stand among published tiles until the next run, after a kill."""

FileTree = dict[str, bytes]
"""Content by path."""


def file_tree(folder: Path) -> FileTree:
    """All files below a folder, hidden ones too; records without their source's name and time."""
    return {
        path.relative_to(folder).as_posix(): content_of_any_source(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def count_tiles(folder: Path) -> int:
    """How many tiles there are below a folder, in which others are at work."""
    found = (name for _, _, names in os.walk(folder) for name in names)
    return sum(1 for name in found if name.endswith((".jpg", ".png")))


def published_files(files: Mapping[str, bytes]) -> FileTree:
    """What of a tree is not a run's own."""
    return {
        path: data
        for path, data in files.items()
        if not path.startswith(".") and not path.endswith(f"/{NEW_TILES_MARKER}")
    }


def identify_result(folder: Path, descriptor: str, complete_results: Mapping[str, FileTree]) -> str:
    """Which of some results stands in a folder, or "nothing".

    Args:
        folder: What holds the result.
        descriptor: What announces it.
        complete_results: Each result's files, by the result's name.

    Raises:
        AssertionError: The descriptor exists, but not all that it announces.
    """
    found = published_files(file_tree(folder))
    if descriptor not in found:
        return "nothing"
    for name, complete in complete_results.items():
        if found == complete:
            return name
    likely = min(
        complete_results.values(), key=lambda complete: len(changed_files(found, complete))
    )
    raise AssertionError(f"{descriptor} stands, but wrong are {changed_files(found, likely)}")


def changed_files(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> list[str]:
    """The paths that are in one only, or differ."""
    return sorted(path for path in {*one, *other} if one.get(path) != other.get(path))
