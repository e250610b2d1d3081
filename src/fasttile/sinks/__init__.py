"""Sinks: containers of tiles, and the targets that name them."""

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
"""The extensions of results, with the container of each and its possible layouts."""


@dataclass(frozen=True)
class Target:
    """The place and kind of a result.

    Attributes:
        path: The descriptor, the folder or the one file that a user opens.
        container: The kind of the result.
        layout: The layout of its tiles.
        store: The bucket of an object store that holds the path, as "s3://name"; or "".
    """

    path: Path
    container: Container
    layout: LayoutSpec
    store: str = ""

    @property
    def location(self) -> Path | str:
        """The path of the result, or its address in an object store."""
        return f"{self.store}/{self.path.as_posix()}" if self.store else self.path

    @property
    def name(self) -> str:
        """The image's name in it."""
        is_known = self.path.suffix.lower() in TARGET_SUFFIXES or self.container == "plugin"
        ended = is_known and not self._is_named_folder
        return self.path.stem if ended else self.path.name

    def with_page(self, number: int) -> Target:
        """The target of one page of several: `map-2.dzi` of `map.dzi`."""
        ending = "" if self._is_named_folder else self.path.suffix
        name = self.name
        if self.layout.parameters.get("ome") and name.endswith(".ome"):
            name, ending = name.removesuffix(".ome"), f".ome{ending}"
        path = self.path.with_name(f"{name}-{number}{ending}")
        return replace(self, path=path)

    @property
    def _is_named_folder(self) -> bool:
        return self.container == "folder" and self.layout.name != "dzi"
