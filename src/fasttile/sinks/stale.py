"""What stands beside an older result that would be false once the result is replaced."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FasttileError

if TYPE_CHECKING:
    from ..layouts.base import Layout

_ENDINGS = (".json", ".js")
_LARGEST = 2**16
"""No descriptor of ours has more bytes."""


def stale_files(layout: Layout, folder: Path, written: Collection[Path]) -> tuple[Path, ...]:
    """Descriptors of ours beside a result's place that it will neither keep true nor replace.

    Only Deep Zoom has such: `name.json` and `name.js`. They count if they are what fasttile writes
    for some picture, byte for byte: nobody has put work into them that cannot be had again.
    Whatever else has such a name is not ours to judge.

    Args:
        layout: Of the result.
        folder: What holds the result.
        written: What is replaced anyway.

    Raises:
        OSError: It cannot be told.
    """
    if layout.kind != "dzi":
        return ()
    paths = (folder / f"{layout.name}{ending}" for ending in _ENDINGS)
    return tuple(path for path in paths if path not in written and _is_ours(layout.name, path))


def _is_ours(name: str, path: Path) -> bool:
    from ..layouts.deepzoom import DeepZoom

    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST:
            return False
        content = path.read_bytes()
        told = DeepZoom.parse(name, content.decode())
        told = replace(told, json=True, jsonp=path.suffix == ".js")
        return told.descriptors().get(path.name) == content
    except (FasttileError, PermissionError, ValueError):
        return False
