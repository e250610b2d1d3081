"""What announces the tiles: whether all of it says the same, and what it should say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import quote

from ..errors import SourceError
from ..layouts import iiif, tilesjson, tms
from ..layouts.base import Layout
from ..layouts.deepzoom import DeepZoom
from ..readers.files import Files, FolderFiles, ZipFiles
from ..sinks.archive import scan_properties
from .report import Fault
from .stored import Tiles

_DEEP_ZOOM = (b"schemas.microsoft.com/deepzoom", b'"Image"')
_UNREADABLE = (AttributeError, LookupError, TypeError, ValueError, RecursionError)
_SAID = ("tiles", "scheme", "minzoom", "maxzoom", "bounds", "fasttile", "sizes", "maxWidth")
"""What of a JSON descriptor is about the tiles."""


class Descriptor(NamedTuple):
    """A file that announces the tiles and says something wrong.

    Attributes:
        path: As the layout gives paths.
        what: What is wrong with it.
        data: What it should be.
    """

    path: str
    what: str
    data: bytes


def look_at_descriptors(tiles: Tiles) -> None:
    """Note all that say something wrong. What cannot be read at all, no reader has opened."""
    for wrong in wrong_descriptors(tiles):
        tiles.findings.add(Fault(None, wrong.path, wrong.what))


def wrong_descriptors(tiles: Tiles) -> Iterator[Descriptor]:
    """The descriptors that do not go with the one that the result was opened by."""
    files, layout = tiles.files, tiles.layout
    if files is None:
        return
    top = _above(files, layout)
    if isinstance(layout, DeepZoom):
        yield from _wrong_twins(top, layout)
        if tiles.reader.kind.endswith("SZI"):
            yield from _wrong_properties(top, layout)
        return
    checks: dict[str, Callable[[bytes, bytes], str | None]] = {
        tilesjson.FILE_NAME: _json_flaw,
        iiif.DESCRIPTOR: _json_flaw,
        tms.DESCRIPTOR: _tms_flaw,
    }
    for path, wanted in layout.descriptors().items():
        name = path.rpartition("/")[2]
        data = files.read(name)
        flaw = checks[name](data, wanted) if data is not None and name in checks else None
        if flaw is not None:
            yield Descriptor(path, flaw, wanted)


def twins_of(layout: DeepZoom, files: Files) -> DeepZoom:
    """A layout that writes those of its descriptors that are there.

    Args:
        layout: Of which a reader has seen one descriptor.
        files: Beside the tiles' folder.
    """
    there = {
        ending: _is_deep_zoom(files.read(f"{layout.name}.{ending}")) for ending in ("json", "js")
    }
    return replace(layout, json=there["json"], jsonp=there["js"])


def above(tiles: Tiles) -> Files:
    """The files of the folder that holds the layout's root."""
    assert tiles.files is not None
    return _above(tiles.files, tiles.layout)


def _above(files: Files, layout: Layout) -> Files:
    if isinstance(files, FolderFiles):
        return FolderFiles(files._folder.parent)
    assert isinstance(files, ZipFiles)
    top = files.below("")
    top._prefix = files._prefix.removesuffix(f"{layout.root}/")
    return top


def _wrong_twins(files: Files, layout: DeepZoom) -> Iterator[Descriptor]:
    wanted = twins_of(layout, files).descriptors()
    for name, content in wanted.items():
        data = files.read(name)
        if data is None:
            continue  # it was opened by another one
        flaw = _twin_flaw(data, name, layout)
        if flaw is not None:
            yield Descriptor(name, flaw, content)


def _twin_flaw(data: bytes, name: str, layout: DeepZoom) -> str | None:
    if not data:
        return "is empty"
    try:
        text = data.decode("utf-8-sig")
        said = DeepZoom.parse(layout.name, text)
    except (SourceError, UnicodeDecodeError) as error:
        return f"cannot be read: {error}"
    theirs, ours = said.pyramid, layout.pyramid
    if (theirs.size, theirs.tile_size, theirs.overlap, said.extension) != (
        ours.size,
        ours.tile_size,
        ours.overlap,
        layout.extension,
    ):
        return "says another size, tile size, overlap or format than its twin"
    address = f"{quote(layout.root, errors='surrogateescape')}/"
    if not name.endswith(".dzi") and '"Url"' in text and f'{address}"' not in text:
        return f"does not say that the tiles lie in {address}"
    return None


def _is_deep_zoom(data: bytes | None) -> bool:
    """Whether a file is meant as a descriptor; anything may have its name."""
    return data is not None and (not data or any(word in data for word in _DEEP_ZOOM))


def _wrong_properties(files: Files, layout: DeepZoom) -> Iterator[Descriptor]:
    """What an .szi says beside."""
    from xml.etree import ElementTree  # seldom needed, and slow to import

    for path, wanted in scan_properties(layout).items():
        data = files.read(path)
        try:
            if data is not None and _properties(data) != _properties(wanted):
                yield Descriptor(path, "says another size of the picture", wanted)
        except (ElementTree.ParseError, ValueError) as error:
            yield Descriptor(path, f"cannot be read: {error}", wanted)


def _properties(data: bytes) -> dict[str, int]:
    from xml.etree import ElementTree

    root = ElementTree.fromstring(data)
    found = {}
    for one in root.iter():
        if one.tag.endswith("property"):
            name, value, *_ = [(child.text or "").strip() for child in one] + ["", ""]
            if name in ("ImageWidth", "ImageHeight"):
                found[name] = int(value)
    return found


def _json_flaw(data: bytes, wanted: bytes) -> str | None:
    """What a JSON descriptor says wrong of what it says; other programs say less."""
    try:
        said, ours = json.loads(data), json.loads(wanted)
        for key in _SAID:
            if key in said and not _agrees(key, said[key], ours.get(key)):
                return f"says {key!r} wrong"
    except _UNREADABLE as error:
        return f"cannot be read: {error}"
    return None


def _agrees(key: str, said: Any, ours: Any) -> bool:
    if key == "sizes":
        sides = [(one["width"], one["height"]) for one in ours]
        return all((one["width"], one["height"]) in sides for one in said)
    if key == "fasttile":
        return all(said.get(name, value) == value for name, value in ours.items() if name != "page")
    if ours is None or (key == "tiles" and isinstance(ours[0], dict)):
        return True  # the former is another program's, the latter the reader has understood
    return bool(said == ours)


def _tms_flaw(data: bytes, wanted: bytes) -> str | None:
    """Whether the zooms of a tilemapresource.xml are those that there are."""
    from xml.etree import ElementTree

    try:
        found, ours = (
            [
                (one.attrib["href"], float(one.attrib["units-per-pixel"]), int(one.attrib["order"]))
                for one in ElementTree.fromstring(text).iter("TileSet")
            ]
            for text in (data, wanted)
        )
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        return f"cannot be read: {error}"
    return None if sorted(found) == sorted(ours) else "says the zooms wrong"
