"""What a .dzc says, and how it is written.

Source: Microsoft's Deep Zoom schema of 2008 (elements Collection, Items, I, Size, Viewport); 2009's
is the same by another name. Deep Zoom Composer calls the file dzc_output.xml.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes
from xml.parsers import expat

from fasttile.collection.mosaic import ThumbnailGrid
from fasttile.errors import OptionError, SourceError
from fasttile.storage.random_access import RandomAccessFile

NAMESPACE = "http://schemas.microsoft.com/deepzoom/2008"
COLLECTION_NAMESPACES = (NAMESPACE, "http://schemas.microsoft.com/deepzoom/2009")

COLLECTION_SUFFIXES = (".dzc", ".xml")

Attributes = tuple[tuple[str, str], ...]

_URL_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True, slots=True)
class Item:
    """An image of a collection.

    Attributes:
        id: Its own number, which no other image of the collection ever had or gets.
        n: Where its thumbnails lie, a number on the Morton curve.
        source: Where its .dzi is: a URL relative to the collection's descriptor, as it is
            written there. Empty if nothing is said.
        width, height: Size in pixels.
        attributes: What else its element says: Type, IsPath …, as names and values.
        inner: What the element holds, as XML, if that is more than the size: a Viewport …
    """

    id: int
    n: int
    source: str
    width: int
    height: int
    attributes: Attributes = ()
    inner_xml: str = ""

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"item {self.id} ({self.source or 'without a Source'})"


@dataclass(frozen=True)
class Extras:
    """What a descriptor says besides, kept as it was.

    Attributes:
        prefix: Namespace prefix of the elements, with its colon.
        attributes, items_attributes: Further ones of Collection and Items; namespaces too.
        before, after: XML that Collection holds before Items and behind it.
        among: XML that stands among the items.
    """

    prefix: str = ""
    attributes: Attributes = (("xmlns", NAMESPACE),)
    items_attributes: Attributes = ()
    before_items: str = ""
    after_items: str = ""
    between_items: str = ""


@dataclass(frozen=True)
class Collection:
    """Images whose thumbnails share tiles.

    Attributes:
        path: The descriptor.
        max_level: The largest level that has tiles of its own here.
        tile_size: Side of a tile, in pixels.
        format: The tiles' file ending, without a dot.
        quality: As the format has it, 0 to 1.
        next_id: The `id` of the next image to come.
        items: The images, by `n`.
        extras: What else the descriptor says.
    """

    path: Path
    max_level: int
    tile_size: int
    format: str
    quality: float
    next_id: int
    items: tuple[Item, ...]
    extras: Extras = field(default=Extras(), repr=False)

    @property
    def grid(self) -> ThumbnailGrid:
        """Where thumbnails lie."""
        return ThumbnailGrid(self.max_level, self.tile_size)

    @property
    def tile_folder(self) -> Path:
        """The folder of the shared tiles."""
        return tile_folder_of(self.path)

    def item_descriptor(self, item: Item) -> Path:
        """The .dzi of an image.

        Raises:
            SourceError: Its Source is no file on this machine.
        """
        if not item.source or _URL_SCHEME.match(item.source):
            raise SourceError(f"{self.path}: {item.label} has no .dzi on this machine")
        return locate_source(self.path, item.source)

    def to_xml(self) -> Iterator[str]:
        """The descriptor, line by line."""
        extras, prefix = self.extras, self.extras.prefix
        said = {
            "MaxLevel": str(self.max_level),
            "TileSize": str(self.tile_size),
            "Format": self.format,
            "Quality": f"{self.quality:g}",
            "NextItemId": str(self.next_id),
        }
        yield '<?xml version="1.0" encoding="UTF-8"?>\n'
        yield f"<{prefix}Collection{_format_attributes((*extras.attributes, *said.items()))}>\n"
        yield from _indented(extras.before_items, "  ")
        yield f"  <{prefix}Items{_format_attributes(extras.items_attributes)}>\n"
        yield from _indented(extras.between_items, "    ")
        for item in self.items:
            yield f"    {_item_element(item, prefix)}\n"
        yield f"  </{prefix}Items>\n"
        yield from _indented(extras.after_items, "  ")
        yield f"</{prefix}Collection>\n"


def tile_folder_of(descriptor: Path) -> Path:
    """The folder of the tiles that a descriptor announces."""
    return descriptor.with_name(f"{descriptor.stem}_files")


def relative_source(descriptor: Path, image_descriptor: Path) -> str:
    """The URL of an image, relative to a descriptor; both are absolute paths.

    Raises:
        OptionError: There is no way from one to the other.
    """
    try:
        way = os.path.relpath(image_descriptor, descriptor.parent)
        if way.startswith(os.pardir):  # which is another folder where there are symbolic links
            way = os.path.relpath(
                _without_links(image_descriptor), _without_links(descriptor).parent
            )
    except ValueError as error:
        raise OptionError(
            f"{image_descriptor} lies on another drive than {descriptor}, which has to name it"
        ) from error
    return quote(os.fsencode(way.replace(os.sep, "/")))


def locate_source(descriptor: Path, source: str) -> Path:
    """The file that a Source means, as those write it who quote what a URL has to, and others."""
    ways = (os.fsdecode(unquote_to_bytes(source)), source, source.replace("\\", "/"))
    places = [descriptor.parent / way for way in ways]
    return next((place for place in places if os.path.lexists(place)), places[0])


def _item_element(item: Item, prefix: str) -> str:
    said: dict[str, str] = {"Id": str(item.id), "N": str(item.n)}
    if item.source:
        said["Source"] = item.source
    size = {"Width": str(item.width), "Height": str(item.height)}
    inner = item.inner_xml or f"<{prefix}Size{_format_attributes(size.items())}/>"
    return f"<{prefix}I{_format_attributes((*said.items(), *item.attributes))}>{inner}</{prefix}I>"


def _format_attributes(attributes: Iterable[tuple[str, str]]) -> str:
    return "".join(f' {name}="{_escape(value)}"' for name, value in attributes)


_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"} | {c: f"&#{ord(c)};" for c in "\t\n\r"}
)


def _escape(value: str) -> str:
    return value.translate(_ESCAPES)


def _indented(xml: str, indent: str) -> Iterator[str]:
    if xml:
        yield f"{indent}{xml}\n"


def _without_links(path: Path) -> Path:
    """Without symbolic links in its folders."""
    return Path(os.path.realpath(path.parent)) / path.name


# A .dzc read: taken apart element by element, with care; what is unknown is kept as text.
#
# Expat is used directly: it tells where in the file an element stands, so that what is unknown can be
# kept to the letter, prefixes and comments included, and it lets a document type be refused before
# any entity is expanded.

_ENCODING_DECLARATION = re.compile(rb"""<\?xml[^>]*?\bencoding\s*=\s*["']([A-Za-z0-9._-]+)""")

_LARGEST_NUMBER = 2**63 - 1
_NUMBER = re.compile(r"\s*([0-9]{1,19})\s*")

_KNOWN_ATTRIBUTES = ("MaxLevel", "TileSize", "Format", "Quality", "NextItemId")


def read(path: str | os.PathLike[str]) -> Collection:
    """Read a collection's descriptor.

    Args:
        path: A .dzc, or Deep Zoom Composer's dzc_output.xml.

    Raises:
        SourceError: There is none, or it is damaged.

    Example:
        >>> [item.source for item in read("wall.dzc").items]  # doctest: +SKIP
        ['wall_images/cat.dzi', 'wall_images/dog.dzi']
    """
    place = Path(path)
    with RandomAccessFile(place) as file:
        data = file.read_at(0, file.size, "it")
    found = parse_descriptor(data, str(place))
    try:
        return _build_collection(place, found.attributes, found.items, found.extras)
    except KeyError as error:
        raise SourceError(f"{place} says nothing of {error.args[0]}") from error
    except ValueError as error:  # an OptionError is one
        raise SourceError(f"{place} cannot be used: {error}") from error


@dataclass
class ParsedDescriptor:
    """What a descriptor says, before its numbers are looked at.

    Attributes:
        attributes: Those of Collection that are known, and are there.
        items: In the order in which they stand.
        extras: The rest.
    """

    attributes: Mapping[str, str] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    extras: Extras = field(default_factory=Extras)


def parse_descriptor(data: bytes, name: str) -> ParsedDescriptor:
    """Take a descriptor apart.

    Args:
        data: The file.
        name: What messages call it.

    Raises:
        SourceError: It is no XML, has a document type, or is no collection.
    """
    try:
        return _DescriptorParser(_to_utf8(data)).run()
    except expat.ExpatError as error:
        raise SourceError(f"{name} is no XML: {error}") from error
    except KeyError as error:
        raise SourceError(f"{name}: an item says nothing of {error.args[0]}") from error
    except ValueError as error:
        raise SourceError(f"{name} cannot be used: {error}") from error


def _build_collection(
    path: Path, attributes: Mapping[str, str], items: list[Item], extras: Extras
) -> Collection:
    grid = ThumbnailGrid(
        _parse_number("MaxLevel", attributes["MaxLevel"]),
        _parse_number("TileSize", attributes["TileSize"]),
    )
    extension = attributes["Format"]
    if not (extension.isascii() and extension.isalnum()):
        raise ValueError(f"Format {extension!r} is no file ending")
    quality = float(attributes.get("Quality", "1"))
    if not 0 <= quality <= 1:
        raise ValueError(f"Quality {attributes['Quality']} is not between 0 and 1")
    items.sort(key=lambda item: item.n)
    for one, other in pairwise(items):
        if one.n == other.n:
            raise ValueError(f"{one.label} and {other.label} have the same N, {one.n}")
    ids = {item.id for item in items}
    if len(ids) < len(items):
        raise ValueError("two items have the same Id")
    next_id = max(
        _parse_number("NextItemId", attributes.get("NextItemId", "0")), max(ids, default=-1) + 1
    )
    sizes = (grid.max_level, grid.tile_size)
    return Collection(path, *sizes, extension, quality, next_id, tuple(items), extras)


def _to_utf8(data: bytes) -> bytes:
    """The same text in UTF-8, which the places in it are counted in."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16").encode()
    data = data.removeprefix(codecs.BOM_UTF8)
    declared = _ENCODING_DECLARATION.match(data)
    encoding = "utf-8" if declared is None else declared[1].decode()
    try:
        return data.decode(encoding).encode()
    except LookupError:
        raise ValueError(f"its encoding {encoding} is not known") from None


class _DescriptorParser:
    """One descriptor, while it is being read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._result = ParsedDescriptor()
        self._open_elements: list[str] = []
        self._prefix = ""
        self._root_attributes: Attributes = ()
        self._items_attributes: Attributes | None = None
        self._before = self._after = ""
        self._between_items: list[str] = []
        self._start: int | None = None  # start of text in Collection that is not reported yet
        self._stray = 0  # where an element among the items begins
        self._item_parser: _ItemParser | None = None

    def run(self) -> ParsedDescriptor:
        """Read it all."""
        parser = self._expat = expat.ParserCreate("utf-8")
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CommentHandler = self._comment
        parser.StartDoctypeDeclHandler = _reject_document_type
        parser.Parse(self._data, True)
        if self._items_attributes is None:
            raise ValueError("it has no Items")
        self._result.extras = Extras(
            self._prefix,
            self._root_attributes,
            self._items_attributes,
            self._before,
            self._after,
            "".join(self._between_items),
        )
        return self._result

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        depth = len(self._open_elements)
        self._open_elements.append(name)
        here = self._expat.CurrentByteIndex
        if depth == 0:
            self._begin_collection(name, attributes)
        elif depth == 1:
            self._begin_in_collection(name, attributes, here)
        elif self._in_items and depth == 2:
            self._stray = here
            if name == f"{self._prefix}I":
                self._item_parser = _ItemParser(attributes)
        elif self._item_parser is not None:
            plain = depth == 3 and name == f"{self._prefix}Size"
            self._item_parser.add_content(here, attributes if plain else None)

    def _begin_collection(self, name: str, attributes: dict[str, str]) -> None:
        prefix, colon, local = name.rpartition(":")
        space = attributes.get(f"xmlns:{prefix}" if colon else "xmlns")
        if local != "Collection" or space not in (None, *COLLECTION_NAMESPACES):
            raise ValueError(f"its root is {name}, and not a Deep Zoom Collection")
        self._prefix = prefix + colon
        self._result.attributes = {
            key: attributes.pop(key) for key in _KNOWN_ATTRIBUTES if key in attributes
        }
        self._root_attributes = tuple(attributes.items())

    def _begin_in_collection(self, name: str, attributes: dict[str, str], here: int) -> None:
        if name != f"{self._prefix}Items":
            self._start = here if self._start is None else self._start
            return
        if self._items_attributes is not None:
            raise ValueError("it has Items twice")
        self._items_attributes = tuple(attributes.items())
        self._before = self._text(self._start, here)
        self._start = None

    def _end(self, name: str) -> None:
        here = self._expat.CurrentByteIndex
        if self._in_items and len(self._open_elements) == 3:
            if self._item_parser is None:
                # Where an element is one tag, Expat is behind it already.
                closing = self._data.startswith(f"</{name}".encode(), here)
                end = self._end_of(here, b">") if closing else here
                self._between_items.append(self._text(self._stray, end))
            else:
                self._result.items.append(self._item_parser.finish(self._data, here))
                self._item_parser = None
        elif len(self._open_elements) == 1:
            self._after = self._text(self._start, here)
        self._open_elements.pop()

    def _comment(self, text: str) -> None:
        here = self._expat.CurrentByteIndex
        if self._item_parser is not None:
            self._item_parser.add_content(here, None)
        elif len(self._open_elements) == 1:
            self._start = here if self._start is None else self._start
        elif self._in_items and len(self._open_elements) == 2:
            self._between_items.append(self._text(here, self._end_of(here + len("<!--"), b"-->")))

    @property
    def _in_items(self) -> bool:
        return len(self._open_elements) > 1 and self._open_elements[1] == f"{self._prefix}Items"

    def _end_of(self, place: int, end: bytes) -> int:
        """The first byte behind what ends so."""
        return self._data.index(end, place) + len(end)

    def _text(self, start: int | None, end: int) -> str:
        return "" if start is None else self._data[start:end].decode().strip()


class _ItemParser:
    """One item, while it is being read."""

    def __init__(self, attributes: dict[str, str]) -> None:
        self._attributes = attributes
        self._start: int | None = None
        self._size: dict[str, str] | None = None
        self._has_only_size = True

    def add_content(self, place: int, size: dict[str, str] | None) -> None:
        """There is something in it: its size, or anything else."""
        if self._start is None:
            self._start = place
        if size is not None and self._size is None:
            self._size = size
            self._has_only_size = self._has_only_size and set(size) == {"Width", "Height"}
        else:
            self._has_only_size = False

    def finish(self, data: bytes, end: int) -> Item:
        """The item, all of which has been read."""
        said = self._attributes
        if self._size is None:
            raise KeyError("Size")
        return Item(
            _parse_number("Id", said.pop("Id")),
            _parse_number("N", said.pop("N")),
            said.pop("Source", ""),
            _parse_number("Width", self._size["Width"]),
            _parse_number("Height", self._size["Height"]),
            tuple(said.items()),
            "" if self._has_only_size else data[self._start : end].decode().strip(),
        )


def _parse_number(name: str, text: str) -> int:
    """A whole number that is not negative.

    Raises:
        ValueError: It is none.
    """
    found = _NUMBER.fullmatch(text)
    if found is None or int(found[1]) > _LARGEST_NUMBER:
        raise ValueError(f"{name} {text!r} is not a whole number")
    return int(found[1])


def _reject_document_type(*_: Any) -> None:
    raise ValueError("it has a document type, which no collection has: it is not read")
