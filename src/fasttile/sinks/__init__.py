"""TODO."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fasttile.layouts import LAYOUTS, LayoutSpec
from fasttile.types import Container

_FOLDER_LAYOUTS = tuple(kind for kind in LAYOUTS if kind != "tiff")

TARGET_SUFFIXES: dict[str, tuple[Container, tuple[str, ...]]] = {
    ".dzi": ("folder", ("dzi",)),
    ".szi": ("szi", ("dzi",)),
    ".zip": ("zip", _FOLDER_LAYOUTS),
    ".pmtiles": ("pmtiles", ("xyz",)),
    ".mbtiles": ("mbtiles", ("xyz",)),
    ".tif": ("tiff", ("tiff",)),
    ".tiff": ("tiff", ("tiff",)),
}
"""The endings that name a result, what each is, and the layouts that it can have."""


@dataclass(frozen=True)
class Target:
    """Where a result goes.

    Attributes:
        path: What a user opens: the descriptor, the folder, or the one file.
        container: What it is.
        layout: How its tiles are laid out.
        store: The bucket of an object store that the path lies in, as "s3://name"; or "".
    """

    path: Path
    container: Container
    layout: LayoutSpec
    store: str = ""

    @property
    def location(self) -> Path | str:
        """What a user opens: its path, or its address in an object store."""
        return f"{self.store}/{self.path.as_posix()}" if self.store else self.path

    @property
    def name(self) -> str:
        """The image's name in it."""
        ended = self.path.suffix.lower() in TARGET_SUFFIXES and not self._is_named_folder
        return self.path.stem if ended else self.path.name

    def with_page(self, number: int) -> Target:
        """The same for an image of several: `map-2.dzi` of `map.dzi`."""
        ending = "" if self._is_named_folder else self.path.suffix
        path = self.path.with_name(f"{self.name}-{number}{ending}")
        return replace(self, path=path)

    @property
    def _is_named_folder(self) -> bool:
        return self.container == "folder" and self.layout.name != "dzi"
