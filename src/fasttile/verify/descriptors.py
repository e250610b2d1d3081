"""Descriptors compared with the layout, and their right content."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote

from fasttile.errors import SourceError
from fasttile.formats.documents import PARSE_ERRORS, decode_document, parse_json, parse_xml
from fasttile.layouts import iiif, presentation, tms
from fasttile.layouts import tilejson as tilesjson
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.sinks.archive import scan_properties
from fasttile.storage.budget import BUDGET
from fasttile.storage.file_trees import FileTree
from fasttile.verify.report import Fault
from fasttile.verify.tiles import StoredTiles

_DEEP_ZOOM_MARKERS = (b"schemas.microsoft.com/deepzoom", b'"Image"')
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
"""Members of a JSON descriptor that describe the tiles."""


class WrongDescriptor(NamedTuple):
    """A descriptor that does not fit the layout.

    Attributes:
        path: Path in the form that the layout uses.
        problem: The problem, in words that follow the path.
        expected: The right content; None if it cannot be known.
    """

    path: str
    problem: str
    expected: bytes | None


def check_descriptors(tiles: StoredTiles) -> None:
    """Record the descriptors that do not fit the layout."""
    for wrong in wrong_descriptors(tiles):
        tiles.findings.add(Fault(None, wrong.path, wrong.problem))


def wrong_descriptors(tiles: StoredTiles) -> Iterator[WrongDescriptor]:
    """The descriptors that contradict the one of which the layout was made."""
    files, layout = tiles.files, tiles.layout
    if files is None:
        return
    if isinstance(layout, DeepZoom):
        parent = files.parent(layout.root)
        for name, expected in sibling_descriptors(layout, parent).descriptors().items():
            flaw = _flaw(parent, name, partial(_sibling_flaw, name=name, layout=layout))
            if flaw is not None:
                yield WrongDescriptor(name, flaw, expected)
        if tiles.reader.container == "szi":
            yield from _wrong_properties(parent, layout)
        return
    checks: dict[str, Callable[..., str | None]] = {
        tilesjson.FILE_NAME: _json_flaw,
        iiif.IIIF_DESCRIPTOR: _json_flaw,
        tms.TMS_DESCRIPTOR: _tms_flaw,
    }
    for path, expected in layout.descriptors().items():
        name = path.rpartition("/")[2]
        check = checks.get(name)
        flaw = None if check is None else _flaw(files, name, partial(check, expected=expected))
        if flaw is not None:
            yield WrongDescriptor(path, flaw, expected)
    if isinstance(layout, iiif.Iiif3) and layout.manifest:
        yield from _wrong_manifest(files, layout)


def _wrong_manifest(files: FileTree, layout: iiif.Iiif3) -> Iterator[WrongDescriptor]:
    """The manifest, if it is of another image; its texts are its own."""
    path, name = f"{layout.root}/{iiif.MANIFEST_NAME}", iiif.MANIFEST_NAME
    try:
        data = files.read(name, BUDGET.descriptor_bytes)
        if data is None:
            yield WrongDescriptor(path, "is missing; cut the image again", None)
            return
        description, stored = presentation.parse_manifest(data, "it")
    except SourceError as error:
        yield WrongDescriptor(path, f"cannot be read: {error}; cut the image again", None)
        return
    expected = presentation.manifest(layout, description)
    right = parse_json(expected.decode())
    if _painted(stored) != _painted(right):
        yield WrongDescriptor(path, "has another address or image than info.json", expected)


def _painted(manifest: dict[str, Any]) -> list[Any]:
    """The address of a manifest, and size and content of its canvases."""
    canvases = manifest.get("items")
    if not isinstance(canvases, list):
        return []
    keys = ("id", "width", "height", "items")
    return [
        manifest.get("id"),
        *([one.get(key) for key in keys] for one in canvases if isinstance(one, dict)),
    ]


def _flaw(files: FileTree, name: str, check: Callable[[bytes], str | None]) -> str | None:
    """The flaw of a descriptor, which need not exist."""
    size, limit = files.size(name), BUDGET.descriptor_bytes
    if size is not None and size > limit:
        return f"has {size:,} bytes, more than {limit:,}"
    data = files.read(name)
    return None if data is None else check(data)


def sibling_descriptors(layout: DeepZoom, files: FileTree) -> DeepZoom:
    """The layout with the options that write the existing .json and .js descriptors.

    Args:
        layout: The layout of one of the descriptors.
        files: The files beside the folder of the tiles.
    """

    def exists(extension: str) -> bool:
        name = f"{layout.name}.{extension}"
        # Any file may have the name; an empty one is taken for a damaged descriptor.
        if (files.size(name) or 0) > BUDGET.descriptor_bytes:
            return False
        data = files.read(name)
        return data is not None and (not data or any(mark in data for mark in _DEEP_ZOOM_MARKERS))

    return replace(layout, json=exists("json"), jsonp=exists("js"))


def _sibling_flaw(data: bytes, name: str, layout: DeepZoom) -> str | None:
    if not data:
        return "is empty"
    try:
        text = decode_document(data)
        sibling = DeepZoom.parse(layout.name, text)
    except (SourceError, ValueError) as error:
        return f"cannot be read: {error}"
    first, second = (
        (one.pyramid.size, one.pyramid.tile_size, one.pyramid.overlap, one.extension)
        for one in (layout, sibling)
    )
    if first != second:
        return "has another size, tile size, overlap or format than the other descriptor"
    url = f"{quote(layout.root, errors='surrogateescape')}/"
    if not name.endswith(".dzi") and '"Url"' in text and f'{url}"' not in text:
        return f"has another Url than {url}"
    return None


def _wrong_properties(files: FileTree, layout: DeepZoom) -> Iterator[WrongDescriptor]:
    """The wrong properties files of an .szi."""
    for path, expected in scan_properties(layout).items():
        try:
            data = files.read(path, BUDGET.descriptor_bytes)
            if data is not None and _size_properties(data) != _size_properties(expected):
                yield WrongDescriptor(path, "has another image size", expected)
        except (SourceError, ValueError) as error:
            yield WrongDescriptor(path, f"cannot be read: {error}", expected)


def _size_properties(data: bytes) -> dict[str, int]:
    root = parse_xml(decode_document(data))
    sizes = {}
    for element in root.iter():
        if element.tag.endswith("property"):
            name, value, *_ = [(child.text or "").strip() for child in element] + ["", ""]
            if name in ("ImageWidth", "ImageHeight"):
                sizes[name] = int(value)
    return sizes


def _json_flaw(data: bytes, expected: bytes) -> str | None:
    """Wrong member of a JSON descriptor; other programs may write fewer members."""
    try:
        stored, right = parse_json(decode_document(data)), parse_json(expected.decode())
        for key in _CHECKED_MEMBERS:
            if key in stored and not _members_agree(key, stored[key], right.get(key)):
                return f"has a wrong {key!r}"
    except PARSE_ERRORS as error:
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
        return True  # a member of another program; IIIF tiles, which the reader has parsed
    return bool(stored == expected)


def _tms_flaw(data: bytes, expected: bytes) -> str | None:
    """Wrong zooms of a tilemapresource.xml."""
    try:
        stored, right = (
            sorted(
                (one.attrib["href"], float(one.attrib["units-per-pixel"]), int(one.attrib["order"]))
                for one in parse_xml(decode_document(text)).iter("TileSet")
            )
            for text in (data, expected)
        )
    except (KeyError, ValueError) as error:
        return f"cannot be read: {error}"
    return None if stored == right else "has wrong zooms"
