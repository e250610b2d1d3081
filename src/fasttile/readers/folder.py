"""Results that a descriptor announces and whose tiles have paths: in a folder, or in a ZIP."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from fasttile.abc.layout import Layout
from fasttile.abc.reader import LevelStats, PyramidReader
from fasttile.errors import FasttileError, SourceError
from fasttile.formats.images import read_image_size
from fasttile.geometry import Tile
from fasttile.layouts import iiif, parse_tiles_json, tms, zoomify
from fasttile.layouts import tilejson as tilesjson
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.layouts.iiif import Iiif
from fasttile.layouts.tms import Tms
from fasttile.layouts.zoomify import Zoomify
from fasttile.storage.file_trees import FileTree, FolderTree, ZipTree

LayoutParser = Callable[[str, str, FileTree], Layout]
"""Makes a layout of the image's name, the descriptor's text, and the files beside it."""

DESCRIPTOR_PARSERS: dict[str, LayoutParser] = {
    zoomify.ZOOMIFY_DESCRIPTOR: lambda name, text, files: _parse_zoomify(name, text, files),
    tms.TMS_DESCRIPTOR: lambda name, text, files: Tms.parse(name, text),
    tilesjson.FILE_NAME: lambda name, text, files: parse_tiles_json(name, text),
    iiif.IIIF_DESCRIPTOR: lambda name, text, files: _parse_iiif(name, text, files),
}
"""Files that announce the tiles that lie in their own folder."""

_MAX_LISTED_NAMES = 3  # names in a message

_ZOOMIFY_TILE = re.compile(r"[0-9]+-[0-9]+-[0-9]+\.")


class FileTreeReader(PyramidReader):
    """A result whose tiles have paths.

    Args:
        path, layout, kind: As for all readers.
        files: What lies below the layout's root.
    """

    def __init__(self, path: Path, layout: Layout, format_name: str, files: FileTree) -> None:
        super().__init__(path, layout, format_name)
        self.allows_missing_tiles = layout.sparse
        self._files = files

    def close(self) -> None:
        """Close all open files."""
        self._files.close()

    def _read_tile(self, tile: Tile) -> bytes | None:
        start = len(self.layout.root) + 1
        for path in dict.fromkeys((*self.layout.paths(tile), self.layout.path(tile))):
            data = self._files.read(path[start:])
            if data is not None:
                return data
        return None

    def _read_level_stats(self, level: int) -> LevelStats:
        return self._stats_by_level[level]

    @cached_property
    def _stats_by_level(self) -> dict[int, LevelStats]:
        """What there is of each level, by one look at all files."""
        layout = self.layout
        found = {level: LevelStats(0, 0) for level in self.pyramid.stored_range}
        shared = _shared_paths(layout)
        for path, size in self._files.file_sizes():
            place = f"{layout.root}/{path}"
            tile = layout.tile_at(place)
            for level in [*([] if tile is None else [tile.level]), *shared.get(place, [])]:
                before = found[level]
                found[level] = LevelStats(before.tiles + 1, before.bytes + size)
        return found


def open_folder(path: Path) -> PyramidReader:
    """The result in a folder.

    Raises:
        SourceError: There is none, more than one, or it is damaged.
    """
    files = FolderTree(path)
    return _create_reader(path, files, _find_descriptor(files, str(path)), _folder_name(path), "")


def open_descriptor(path: Path) -> PyramidReader:
    """The result that a file announces.

    Raises:
        SourceError: It announces none, or none that can be read.
    """
    folder = path.parent
    return _create_reader(path, FolderTree(folder), path.name, _folder_name(folder), "")


def open_archive(path: Path) -> PyramidReader:
    """The result in a ZIP: at its top, or in the one folder there.

    Raises:
        SourceError: There is none, more than one, or it is damaged.
    """
    files = ZipTree(path)
    try:
        kind = " in SZI" if path.suffix.lower() == ".szi" else " in ZIP"
        inner: FileTree = files
        name = path.stem
        found = _descriptors_in(inner)
        if not found and len(folders := _top_folders(files)) == 1:
            (name,) = folders
            inner = files.subtree(name)
        return _create_reader(path, inner, _find_descriptor(inner, str(path)), name, kind)
    except BaseException:
        files.close()
        raise


def _folder_name(folder: Path) -> str:
    """A folder's name, also where the path has none: "." and ".."."""
    name = folder.resolve().name if folder.name in ("", "..") else folder.name
    return name or "pyramid"


def _create_reader(
    path: Path, files: FileTree, descriptor: str, name: str, container_suffix: str
) -> PyramidReader:
    """The reader of what a descriptor announces, which lies among these files."""
    text = _descriptor_text(files, descriptor, path)
    try:
        if descriptor in DESCRIPTOR_PARSERS:
            layout = DESCRIPTOR_PARSERS[descriptor](name, text, files)
        else:
            layout = DeepZoom.parse(Path(descriptor).stem, text)
            files = files.subtree(layout.root)
            layout = _without_missing_levels(layout, files)
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from error
    except FasttileError as error:
        raise SourceError(f"{path}: {descriptor} cannot be used: {error}") from error
    return FileTreeReader(path, layout, layout.title + container_suffix, files)


def _descriptor_text(files: FileTree, descriptor: str, path: Path) -> str:
    data = files.read(descriptor)
    if data is None:
        raise SourceError(f"{path}: no such file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: {descriptor} is not UTF-8: {error}") from error


def _find_descriptor(files: FileTree, label: str) -> str:
    """The one descriptor among what lies directly in a folder."""
    found = _descriptors_in(files)
    if len(found) == 1 or (found and found[0] in DESCRIPTOR_PARSERS):
        return found[0]
    if found:
        raise SourceError(f"{label} holds several images: {_list_names(found)}; name one of them")
    if any(name.isdigit() or name == "blank.png" for name in files.children()):
        raise SourceError(
            f"{label} holds tiles, it seems, but nothing says how large the image is and how it "
            f"was cut: a {tilesjson.FILE_NAME} as fasttile writes it is missing"
        )
    raise SourceError(f"{label} contains no known result: no .dzi, {', '.join(DESCRIPTOR_PARSERS)}")


def _descriptors_in(files: FileTree) -> list[str]:
    """The descriptors that lie directly in a folder; those that speak for the folder come first."""
    names = files.children()
    known = [name for name in DESCRIPTOR_PARSERS if name in names]
    return known + [name for name in names if name.lower().endswith(".dzi")]


def _top_folders(files: FileTree) -> list[str]:
    """The folders at the top of a ZIP, but for what macOS adds."""
    found = {name.partition("/")[0] for name, _ in files.file_sizes() if "/" in name}
    return sorted(found - {"__MACOSX"})


def _list_names(names: list[str]) -> str:
    more = "" if len(names) <= _MAX_LISTED_NAMES else f" and {len(names) - _MAX_LISTED_NAMES} more"
    return ", ".join(names[:_MAX_LISTED_NAMES]) + more


def _parse_zoomify(name: str, text: str, files: FileTree) -> Zoomify:
    """Zoomify's layout. Its descriptor contains neither the tiles' extension nor the rounding."""
    tiles = files.subtree("TileGroup0")
    names = [found for found in tiles.children() if _ZOOMIFY_TILE.match(found)]
    # What most are called: one of them may be missing, or another kind of file lie among them.
    endings = Counter(found.rpartition(".")[2] for found in names)
    extension = endings.most_common(1)[0][0] if endings else "jpg"

    def read_tier_0_size() -> tuple[int, int] | None:
        with suppress(SourceError):  # damaged: as good as missing
            data = tiles.read(f"0-0-0.{extension}")
            return None if data is None else read_image_size(data, f"tile 0-0-0 of {name}")
        return None

    return Zoomify.parse(name, text, extension, read_tier_0_size)


def _parse_iiif(name: str, text: str, files: FileTree) -> Iiif:
    """IIIF's layout; not all descriptors contain the tiles' extension; then it is jpg."""
    layout = iiif.parse(name, text)
    full_region = files.subtree("full")
    names = (
        full_region.subtree(f"{full_region.children()[0]}/0").children()
        if full_region.children()
        else []
    )
    found = [name.removeprefix("default.") for name in names if name.startswith("default.")]
    if not found or layout.extension in found:
        return layout
    return replace(layout, extension=found[0])


def _without_missing_levels(layout: DeepZoom, files: FileTree) -> DeepZoom:
    """The layout without the smallest levels, if they have no folders: it may be cut so."""
    there = {int(name) for name in files.children() if name.isdecimal() and name.isascii()}
    levels = there & set(layout.pyramid.stored_range)
    if not levels:
        return layout  # then all tiles are missing
    return replace(layout, pyramid=replace(layout.pyramid, first_level=min(levels)))


def _shared_paths(layout: Layout) -> dict[str, list[int]]:
    """Paths where tiles of smaller levels live too, and which: see `Iiif.path`."""
    found: dict[str, list[int]] = {}
    for level in layout.pyramid.stored_levels:
        # No other tile than the last one can.
        tile = Tile(level.number, level.cols - 1, level.rows - 1)
        if not layout.paths(tile):
            found.setdefault(layout.path(tile), []).append(level.number)
    return found
