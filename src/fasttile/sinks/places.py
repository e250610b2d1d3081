"""Where results go: folders that have to be made, and names that are taken."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ..errors import TargetError
from .oserrors import shown, telling


def absolute(target: Path) -> Path:
    """A target as an absolute path, for programs change their folder.

    Raises:
        TargetError: It cannot be a path here.
    """
    if "\0" in str(target):
        raise TargetError(f"target {shown(target)} has a zero character in its path")
    with telling("find", target):  # the current folder may be gone
        return target.absolute()


def exists_already(path: str | Path) -> TargetError:
    """What is said where something stands already that may not be replaced."""
    return TargetError(f"{shown(path)} exists already; choose another name, or overwrite it")


def make_folders(folder: Path, made: list[Path]) -> None:
    """Make a folder and what is missing above it; add what was made to `made`, topmost first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        with suppress(FileExistsError):  # another run was faster
            path.mkdir()
            made.append(path)
