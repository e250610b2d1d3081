"""What announces the tiles: whether all of it says the same, and what it should say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import quote

from fasttile.abc.layout import Layout
from fasttile.errors import SourceError
from fasttile.layouts import iiif, tms
from fasttile.layouts import tilejson as tilesjson
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.sinks.archive import scan_properties
from fasttile.storage.file_trees import FileTree, FolderTree, ZipTree
from fasttile.verify.report import Fault
from fasttile.verify.tiles import StoredTiles

_DEEP_ZOOM_MARKERS = (b"schemas.microsoft.com/deepzoom", b'"Image"')
_PARSE_ERRORS = (AttributeError, LookupError, TypeError, ValueError, RecursionError)
_CHECKED_MEMBERS = (
    "tiles",
    "scheme",
    "minzoom",
    "maxzoom",
    "bounds",
    "fasttile",
    "sizes",
    "maxWidth",
)
"""What of a JSON descriptor is about the tiles."""


class WrongDescriptor(NamedTuple):
    """A file that announces the tiles and says something wrong.

    Attributes:
        path: As the layout gives paths.
        what: What is wrong with it.
        data: What it should be.
    """

    path: str
    problem: str
    expected: bytes


def check_descriptors(tiles: StoredTiles) -> None:
    """Note all that say something wrong. What cannot be read at all, no reader has opened."""
    for wrong in wrong_descriptors(tiles):
        tiles.findings.add(Fault(None, wrong.path, wrong.problem))


def wrong_descriptors(tiles: StoredTiles) -> Iterator[WrongDescriptor]:
    """The descriptors that do not go with the one that the result was opened by."""
    files, layout = tiles.files, tiles.layout
    if files is None:
        return
    top = _parent_files_of(files, layout)
    if isinstance(layout, DeepZoom):
        yield from _wrong_siblings(top, layout)
        if tiles.reader.format_name.endswith("SZI"):
            yield from _wrong_properties(top, layout)
        return
    checks: dict[str, Callable[[bytes, bytes], str | None]] = {
        tilesjson.FILE_NAME: _json_flaw,
        iiif.IIIF_DESCRIPTOR: _json_flaw,
        tms.TMS_DESCRIPTOR: _tms_flaw,
    }
    for path, wanted in layout.descriptors().items():
        name = path.rpartition("/")[2]
        data = files.read(name)
        flaw = checks[name](data, wanted) if data is not None and name in checks else None
        if flaw is not None:
            yield WrongDescriptor(path, flaw, wanted)


def sibling_descriptors(layout: DeepZoom, files: FileTree) -> DeepZoom:
    """A layout that writes those of its descriptors that are there.

    Args:
        layout: Of which a reader has seen one descriptor.
        files: Beside the tiles' folder.
    """
    there = {
        ending: _is_deep_zoom_descriptor(files.read(f"{layout.name}.{ending}"))
        for ending in ("json", "js")
    }
    return replace(layout, json=there["json"], jsonp=there["js"])


def parent_files(tiles: StoredTiles) -> FileTree:
    """The files of the folder that holds the layout's root."""
    assert tiles.files is not None
    return _parent_files_of(tiles.files, tiles.layout)


def _parent_files_of(files: FileTree, layout: Layout) -> FileTree:
    if isinstance(files, FolderTree):
        return FolderTree(files._folder.parent)
    assert isinstance(files, ZipTree)
    top = files.subtree("")
    top._prefix = files._prefix.removesuffix(f"{layout.root}/")
    return top


def _wrong_siblings(files: FileTree, layout: DeepZoom) -> Iterator[WrongDescriptor]:
    wanted = sibling_descriptors(layout, files).descriptors()
    for name, content in wanted.items():
        data = files.read(name)
        if data is None:
            continue  # it was opened by another one
        flaw = _sibling_flaw(data, name, layout)
        if flaw is not None:
            yield WrongDescriptor(name, flaw, content)


def _sibling_flaw(data: bytes, name: str, layout: DeepZoom) -> str | None:
    if not data:
        return "is empty"
    try:
        text = data.decode("utf-8-sig")
        said = DeepZoom.parse(layout.name, text)
    except (SourceError, UnicodeDecodeError) as error:
        return f"cannot be read: {error}"
    other, expected_value = said.pyramid, layout.pyramid
    if (other.size, other.tile_size, other.overlap, said.extension) != (
        expected_value.size,
        expected_value.tile_size,
        expected_value.overlap,
        layout.extension,
    ):
        return "says another size, tile size, overlap or format than its twin"
    address = f"{quote(layout.root, errors='surrogateescape')}/"
    if not name.endswith(".dzi") and '"Url"' in text and f'{address}"' not in text:
        return f"does not say that the tiles lie in {address}"
    return None


def _is_deep_zoom_descriptor(data: bytes | None) -> bool:
    """Whether a file is meant as a descriptor; anything may have its name."""
    return data is not None and (not data or any(word in data for word in _DEEP_ZOOM_MARKERS))


def _wrong_properties(files: FileTree, layout: DeepZoom) -> Iterator[WrongDescriptor]:
    """What an .szi says beside."""
    from xml.etree import ElementTree  # seldom needed, and slow to import

    for path, wanted in scan_properties(layout).items():
        data = files.read(path)
        try:
            if data is not None and _size_properties(data) != _size_properties(wanted):
                yield WrongDescriptor(path, "says another size of the image", wanted)
        except (ElementTree.ParseError, ValueError) as error:
            yield WrongDescriptor(path, f"cannot be read: {error}", wanted)


def _size_properties(data: bytes) -> dict[str, int]:
    from xml.etree import ElementTree

    root = ElementTree.fromstring(data)
    found = {}
    for one in root.iter():
        if one.tag.endswith("property"):
            name, value, *_ = [(child.text or "").strip() for child in one] + ["", ""]
            if name in ("ImageWidth", "ImageHeight"):
                found[name] = int(value)
    return found


def _json_flaw(data: bytes, expected: bytes) -> str | None:
    """What a JSON descriptor says wrong of what it says; other programs say less."""
    try:
        said, expected_value = json.loads(data), json.loads(expected)
        for key in _CHECKED_MEMBERS:
            if key in said and not _members_agree(key, said[key], expected_value.get(key)):
                return f"says {key!r} wrong"
    except _PARSE_ERRORS as error:
        return f"cannot be read: {error}"
    return None


def _members_agree(key: str, stored: Any, expected: Any) -> bool:
    if key == "sizes":
        sides = [(one["width"], one["height"]) for one in expected]
        return all((one["width"], one["height"]) in sides for one in stored)
    if key == "fasttile":
        return all(
            stored.get(name, value) == value for name, value in expected.items() if name != "page"
        )
    if expected is None or (key == "tiles" and isinstance(expected[0], dict)):
        return True  # the former is another program's, the latter the reader has understood
    return bool(stored == expected)


def _tms_flaw(data: bytes, expected: bytes) -> str | None:
    """Whether the zooms of a tilemapresource.xml are those that there are."""
    from xml.etree import ElementTree

    try:
        found, expected_value = (
            [
                (one.attrib["href"], float(one.attrib["units-per-pixel"]), int(one.attrib["order"]))
                for one in ElementTree.fromstring(text).iter("TileSet")
            ]
            for text in (data, expected)
        )
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        return f"cannot be read: {error}"
    return None if sorted(found) == sorted(expected_value) else "says the zooms wrong"
