"""Repair of a result in one file: written anew, good tiles as they are, and then exchanged."""

from __future__ import annotations

from ..containers import check_container
from ..errors import TargetError
from ..layouts.base import Layout
from ..layouts.deepzoom import DeepZoom
from ..readers.files import ZipFiles
from ..readers.mbtiles import MbtilesReader, _own
from ..readers.pmtiles import PmtilesReader
from ..readers.tiff import TiffReader, pyramid_levels
from ..sinks.archive import ArchiveSink
from ..sinks.base import PathSink, Sink
from ..sinks.oserrors import shown
from ..sources.mapping import PictureFile
from .against import Comparison
from .around import extras
from .descriptors import above, twins_of, wrong_descriptors
from .mending import Anew, Picture
from .stored import Tiles

_TIFF_TAGS = {254, 256, 257, 258, 259, 262, 277, 282, 283, 284, 296, 317} | {
    *(322, 323, 324, 325, 338, 347, 530, 532, 34675)
}
"""What fasttile writes into a page; others would be lost."""


class OneFileMend:
    """Writes a result's file anew beside it.

    Args:
        comparison: Of the result with its picture.

    Raises:
        OptionError: The container cannot hold such tiles.
        TargetError: Another run works on it, or the file was made by another program and holds
            what would be lost.
    """

    def __init__(self, comparison: Comparison) -> None:
        self._tiles = comparison.tiles
        self._bad_wholes = comparison.bad_wholes
        self._findings = comparison.look.findings
        self._count = 0
        check_container(comparison.cutting.plan.target, comparison.encoding.codec)
        if not is_ours(self._tiles):
            raise TargetError(
                f"{shown(self._tiles.reader.path)} was made by another program, and holds what "
                "fasttile would not write: it is not repaired; cut it anew"
            )
        self._sink = _sink(comparison)

    def put(self, anew: Anew) -> None:
        """Write a tile: the new one, or as it was."""
        if anew.data is not None:
            self._sink.put(anew.tile, anew.data)
            self._count += 1
            return
        if self._tiles.is_shared(anew.tile):
            return
        data = self._tiles.as_put(anew.tile)
        if data is not None:  # else it is left out
            self._sink.put(anew.tile, data)

    def add(self, picture: Picture) -> None:
        """Write the picture of a whole level: as it should be, or as it was."""
        assert isinstance(self._sink, PathSink)  # no other layout has any
        for path in picture.paths:
            data = picture.data
            if path in self._bad_wholes:
                self._count += 1
            else:
                found = self._tiles.read(path)
                data = found if isinstance(found, bytes) else data
            self._sink.add([path], data)

    def finish(self) -> int:
        """Let the new file take the old one's place."""
        beyond = sum(fault.tile is None for fault in self._findings.faults)
        self._count += max(0, beyond - len(self._bad_wholes))
        self._tiles.reader.close()  # some systems replace no file that is open
        self._sink.finish()
        return self._count

    def abort(self) -> None:
        """Leave the old file as it is."""
        self._sink.abort()


def is_ours(tiles: Tiles) -> bool:
    """Whether a file holds nothing that would be lost were it written anew."""
    reader = tiles.reader
    if isinstance(reader, PmtilesReader):
        return isinstance(reader._metadata().get("fasttile"), dict)
    if isinstance(reader, MbtilesReader):
        return _own(reader._metadata()) is not None
    if isinstance(reader, TiffReader):
        file = PictureFile(reader.path)
        try:
            levels, rounding = pyramid_levels(file)
        finally:
            file.close()
        known = all(set(level.directory._entries) <= _TIFF_TAGS for level in levels)
        return rounding == "up" and known
    prefix = _prefix(tiles)
    files = tiles.files
    assert isinstance(files, ZipFiles)
    inside = all(name.startswith((prefix, "__MACOSX")) for name in files._entries)
    return inside and files._prefix == f"{prefix}{tiles.layout.root}/"


def _prefix(tiles: Tiles) -> str:
    """What all names in a ZIP begin with."""
    files = above(tiles)
    assert isinstance(files, ZipFiles)
    return files._prefix


def _sink(comparison: Comparison) -> Sink:
    cutting, tiles = comparison.cutting, comparison.tiles
    plan, layout = cutting.plan, cutting.layout
    if plan.target.container not in ("zip", "szi"):
        return plan.sink(layout, cutting.source, cutting.colours)
    return ArchiveSink(
        _with_twins(tiles, layout),
        plan.target.path,
        overwrite=True,
        files=_others(tiles),
        prefix=_prefix(tiles),
    )


def _with_twins(tiles: Tiles, layout: Layout) -> Layout:
    return twins_of(layout, above(tiles)) if isinstance(layout, DeepZoom) else layout


def _others(tiles: Tiles) -> dict[str, bytes]:
    """What lies in a ZIP beside tiles and descriptors: a page, properties."""
    files, layout = above(tiles), tiles.layout
    written = _with_twins(tiles, layout).descriptors()
    mended = {wrong.path: wrong.data for wrong in wrong_descriptors(tiles)}
    inside = {extra.path for extra in extras(tiles) if not extra.wrong}
    found: dict[str, bytes] = {}
    for path, _ in files.sizes():
        if path in written or (path.startswith(f"{layout.root}/") and path not in inside):
            continue
        data = mended.get(path) or files.read(path)
        if data is not None:
            found[path] = data
    return found
