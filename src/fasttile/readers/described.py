"""Results that a descriptor announces and whose tiles have paths: in a folder, or in a ZIP."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from ..errors import FasttileError, SourceError
from ..geometry import Tile
from ..layouts import iiif, tilesjson, tms, zoomify
from ..layouts.base import Layout
from ..layouts.choice import announced
from ..layouts.deepzoom import DeepZoom
from ..layouts.iiif import Iiif
from ..layouts.tms import Tms
from ..layouts.zoomify import Zoomify
from .base import PyramidReader, Stored
from .decode import size_of
from .files import Files, FolderFiles, ZipFiles

Parse = Callable[[str, str, Files], Layout]
"""Makes a layout of the picture's name, the descriptor's text, and the files beside it."""

DESCRIPTORS: dict[str, Parse] = {
    zoomify.DESCRIPTOR: lambda name, text, files: _zoomify(name, text, files),
    tms.DESCRIPTOR: lambda name, text, files: Tms.parse(name, text),
    tilesjson.FILE_NAME: lambda name, text, files: announced(name, text),
    iiif.DESCRIPTOR: lambda name, text, files: _iiif(name, text, files),
}
"""Files that announce the tiles that lie in their own folder."""

_MANY = 3  # names in a message

_ZOOMIFY_TILE = re.compile(r"[0-9]+-[0-9]+-[0-9]+\.")


class DescribedReader(PyramidReader):
    """A result whose tiles have paths.

    Args:
        path, layout, kind: As for all readers.
        files: What lies below the layout's root.
    """

    def __init__(self, path: Path, layout: Layout, kind: str, files: Files) -> None:
        super().__init__(path, layout, kind)
        self.missing_allowed = layout.sparse
        self._files = files

    def close(self) -> None:
        """Let go of what is open."""
        self._files.close()

    def _tile(self, tile: Tile) -> bytes | None:
        start = len(self.layout.root) + 1
        for path in dict.fromkeys((*self.layout.paths(tile), self.layout.path(tile))):
            data = self._files.read(path[start:])
            if data is not None:
                return data
        return None

    def _stored(self, level: int) -> Stored:
        return self._found[level]

    @cached_property
    def _found(self) -> dict[int, Stored]:
        """What there is of each level, by one look at all files."""
        layout = self.layout
        found = {level: Stored(0, 0) for level in self.pyramid.kept}
        shared = _shared(layout)
        for path, size in self._files.sizes():
            place = f"{layout.root}/{path}"
            tile = layout.tile_at(place)
            for level in [*([] if tile is None else [tile.level]), *shared.get(place, [])]:
                before = found[level]
                found[level] = Stored(before.tiles + 1, before.bytes + size)
        return found


def open_folder(path: Path) -> PyramidReader:
    """The result in a folder.

    Raises:
        SourceError: There is none, more than one, or it is damaged.
    """
    files = FolderFiles(path)
    return _reader(path, files, _descriptor_in(files, str(path)), _name_of(path), "")


def open_description(path: Path) -> PyramidReader:
    """The result that a file announces.

    Raises:
        SourceError: It announces none, or none that can be read.
    """
    folder = path.parent
    return _reader(path, FolderFiles(folder), path.name, _name_of(folder), "")


def open_archive(path: Path) -> PyramidReader:
    """The result in a ZIP: at its top, or in the one folder there.

    Raises:
        SourceError: There is none, more than one, or it is damaged.
    """
    files = ZipFiles(path)
    try:
        kind = " in SZI" if path.suffix.lower() == ".szi" else " in ZIP"
        inner: Files = files
        name = path.stem
        found = _found_in(inner)
        if not found and len(folders := _folders(files)) == 1:
            (name,) = folders
            inner = files.below(name)
        return _reader(path, inner, _descriptor_in(inner, str(path)), name, kind)
    except BaseException:
        files.close()
        raise


def _name_of(folder: Path) -> str:
    """A folder's name, also where the path has none: "." and ".."."""
    name = folder.resolve().name if folder.name in ("", "..") else folder.name
    return name or "pyramid"


def _reader(path: Path, files: Files, descriptor: str, name: str, where: str) -> PyramidReader:
    """The reader of what a descriptor announces, which lies among these files."""
    text = _text(files, descriptor, path)
    try:
        if descriptor in DESCRIPTORS:
            layout = DESCRIPTORS[descriptor](name, text, files)
        else:
            layout = DeepZoom.parse(Path(descriptor).stem, text)
            files = files.below(layout.root)
            layout = _without_missing_levels(layout, files)
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from error
    except FasttileError as error:
        raise SourceError(f"{path}: {descriptor} cannot be used: {error}") from error
    return DescribedReader(path, layout, layout.title + where, files)


def _text(files: Files, descriptor: str, path: Path) -> str:
    data = files.read(descriptor)
    if data is None:
        raise SourceError(f"{path}: no such file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: {descriptor} is not UTF-8: {error}") from error


def _descriptor_in(files: Files, place: str) -> str:
    """The one descriptor among what lies directly in a folder."""
    found = _found_in(files)
    if len(found) == 1 or (found and found[0] in DESCRIPTORS):
        return found[0]
    if found:
        raise SourceError(f"{place} holds several pictures: {_listed(found)}; name one of them")
    if any(name.isdigit() or name == "blank.png" for name in files.children()):
        raise SourceError(
            f"{place} holds tiles, it seems, but nothing says how large the picture is and how it "
            f"was cut: a {tilesjson.FILE_NAME} as fasttile writes it is missing"
        )
    raise SourceError(
        f"{place} holds no result that is known here: no .dzi, {', '.join(DESCRIPTORS)}"
    )


def _found_in(files: Files) -> list[str]:
    """The descriptors that lie directly in a folder; those that speak for the folder come first."""
    names = files.children()
    known = [name for name in DESCRIPTORS if name in names]
    return known + [name for name in names if name.lower().endswith(".dzi")]


def _folders(files: Files) -> list[str]:
    """The folders at the top of a ZIP, but for what macOS adds."""
    found = {name.partition("/")[0] for name, _ in files.sizes() if "/" in name}
    return sorted(found - {"__MACOSX"})


def _listed(names: list[str]) -> str:
    more = "" if len(names) <= _MANY else f" and {len(names) - _MANY} more"
    return ", ".join(names[:_MANY]) + more


def _zoomify(name: str, text: str, files: Files) -> Zoomify:
    """Zoomify's layout. Its descriptor tells neither the tiles' ending nor the rounding."""
    tiles = files.below("TileGroup0")
    names = [found for found in tiles.children() if _ZOOMIFY_TILE.match(found)]
    # What most are called: one of them may be missing, or another kind of file lie among them.
    endings = Counter(found.rpartition(".")[2] for found in names)
    extension = endings.most_common(1)[0][0] if endings else "jpg"

    def smallest() -> tuple[int, int] | None:
        with suppress(SourceError):  # damaged: as good as missing
            data = tiles.read(f"0-0-0.{extension}")
            return None if data is None else size_of(data, f"tile 0-0-0 of {name}")
        return None

    return Zoomify.parse(name, text, extension, smallest)


def _iiif(name: str, text: str, files: Files) -> Iiif:
    """IIIF's layout; not all descriptions tell the tiles' ending, and then it should be jpg."""
    layout = iiif.parse(name, text)
    whole = files.below("full")
    names = whole.below(f"{whole.children()[0]}/0").children() if whole.children() else []
    found = [name.removeprefix("default.") for name in names if name.startswith("default.")]
    if not found or layout.extension in found:
        return layout
    return replace(layout, extension=found[0])


def _without_missing_levels(layout: DeepZoom, files: Files) -> DeepZoom:
    """The layout without the smallest levels, if they have no folders: it may be cut so."""
    there = {int(name) for name in files.children() if name.isdecimal() and name.isascii()}
    levels = there & set(layout.pyramid.kept)
    if not levels:
        return layout  # then all tiles are missing, and that is what there is to tell
    return replace(layout, pyramid=replace(layout.pyramid, first=min(levels)))


def _shared(layout: Layout) -> dict[str, list[int]]:
    """Paths where tiles of smaller levels live too, and which: see `Iiif.path`."""
    found: dict[str, list[int]] = {}
    for level in layout.pyramid.kept_levels:
        # No other tile than the last one can.
        tile = Tile(level.number, level.cols - 1, level.rows - 1)
        if not layout.paths(tile):
            found.setdefault(layout.path(tile), []).append(level.number)
    return found
