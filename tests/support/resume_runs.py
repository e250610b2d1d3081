"""Jobs that are interrupted and resumed, and their uninterrupted results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fasttile import (
    CancelledError,
    CutReport,
    cut,
)
from support.file_trees import content_of_any_source

RESUME_JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "dzi": ("x.dzi", {"tile_size": 100}),
    "descriptors": (
        "x.dzi",
        {"layout": "dzi:json,jsonp", "tile_size": 100, "viewer": "openseadragon"},
    ),
    "zoomify": ("x", {"layout": "zoomify", "tile_size": 100}),
    "two sizes": ("x", {"layout": "xyz:scale=2", "tile_size": 64, "format": "png"}),
    "blanks": ("x", {"layout": "xyz", "tile_size": 64, "skip_blank": 0, "format": "png"}),
    "iiif": ("x", {"layout": "iiif3:id=https://a.org/{name}", "tile_size": 128}),
}
"""What a result is called, and its options."""


def folder_tree(folder: Path) -> dict[str, bytes]:
    """All that lies in a folder, hidden names too; records without their source's name and time."""
    return {
        path.relative_to(folder).as_posix(): content_of_any_source(path) if path.is_file() else b""
        for path in folder.rglob("*")
    }


class UninterruptedResults:
    """What each job comes to."""

    def __init__(self, folder: Path, image: Path) -> None:
        self._folder = folder
        self._image = image
        self._done: dict[str, tuple[dict[str, bytes], CutReport]] = {}

    def __getitem__(self, job: str) -> tuple[dict[str, bytes], CutReport]:
        if job not in self._done:
            name, options = RESUME_JOBS[job]
            report = cut(self._image, self._folder / job / name, **options)
            self._done[job] = (folder_tree(self._folder / job), report)
        return self._done[job]


def same_counts(report: CutReport, other: CutReport) -> bool:
    """True if two reports count the same tiles."""
    return (report.tiles, report.blanks, report.bytes) == (other.tiles, other.blanks, other.bytes)


def work_folder(target: Path) -> Path:
    return target.with_name(f".{target.name}.fasttile")


def cut_and_stop_after(
    tiles: int, image: Path, target: Path, options: dict[str, Any], **more: Any
) -> None:
    """A run that its caller ends when a number of tiles exists."""
    with pytest.raises(CancelledError):
        cut(
            image,
            target,
            progress=lambda progress: progress.tiles < tiles,
            resume=True,
            **{**options, **more},
        )
