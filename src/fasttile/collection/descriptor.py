"""Descriptors of Deep Zoom collections (.dzc): reading and writing.

Source: Microsoft's Deep Zoom schema of 2008 (elements Collection, Items, I, Size, Viewport); 2009's
is the same by another name. Deep Zoom Composer calls the file dzc_output.xml. Unknown elements,
comments and attributes of a descriptor are kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes
from xml.etree.ElementTree import Element, TreeBuilder, tostring
from xml.parsers import expat

from fasttile.collection.thumbnail_grid import ThumbnailGrid
from fasttile.errors import OptionError, SourceError
from fasttile.formats.documents import check_xml, decode_document
from fasttile.sources.files import STORE_SCHEMES, scheme_of
from fasttile.storage.budget import BUDGET
from fasttile.storage.object_files import ObjectPath, ResultPath, open_random_access, place_of

NAMESPACE = "http://schemas.microsoft.com/deepzoom/2008"
COLLECTION_NAMESPACES = (NAMESPACE, "http://schemas.microsoft.com/deepzoom/2009")

COLLECTION_SUFFIXES = (".dzc", ".xml")

Attributes = tuple[tuple[str, str], ...]

_URL_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True, slots=True)
class Item:
    """An image of a collection.

    Attributes:
        id: Its own number, never used for another image of the collection.
        n: The position of its thumbnails, a number on the Morton curve.
        source: The URL of its .dzi, relative to the collection's descriptor, as the file has it.
            Empty if the file has none.
        width, height: Size in pixels.
        attributes: Further attributes of its element, such as Type: names and values.
        inner_xml: The element's contents as XML, if there is more than the size, as a Viewport.
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
        """The name of the image in messages."""
        return f"item {self.id} ({self.source or 'without a Source'})"

    def to_xml(self, prefix: str) -> str:
        """The element, whose name has a namespace prefix."""
        known: dict[str, str] = {"Id": str(self.id), "N": str(self.n)}
        if self.source:
            known["Source"] = self.source
        size = {"Width": str(self.width), "Height": str(self.height)}
        inner = self.inner_xml or f"<{prefix}Size{_format_attributes(size.items())}/>"
        attributes = _format_attributes((*known.items(), *self.attributes))
        return f"<{prefix}I{attributes}>{inner}</{prefix}I>"


@dataclass(frozen=True)
class Extras:
    """The contents of a descriptor that fasttile does not use, and keeps.

    Attributes:
        prefix: The namespace prefix of the elements, with its colon.
        attributes, items_attributes: Further attributes of Collection and Items; namespaces too.
        before_items, after_items: XML in Collection before and after Items.
        between_items: XML among the items.
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
        max_level: The largest level with shared tiles.
        tile_size: Side of a tile, in pixels.
        format: The tiles' file ending, without a dot.
        quality: The quality of the tiles, 0 to 1.
        next_id: The `id` of the next new image.
        items: The images, ordered by `n`.
        extras: Further contents of the descriptor.
    """

    path: ResultPath
    max_level: int
    tile_size: int
    format: str
    quality: float
    next_id: int
    items: tuple[Item, ...]
    extras: Extras = field(default=Extras(), repr=False)

    @property
    def grid(self) -> ThumbnailGrid:
        """The positions of the thumbnails."""
        return ThumbnailGrid(self.max_level, self.tile_size)

    @property
    def tile_folder(self) -> ResultPath:
        """The folder of the shared tiles."""
        return self.path.with_name(f"{self.path.stem}_files")

    def item_descriptor(self, item: Item) -> ResultPath:
        """The .dzi of an image.

        Raises:
            SourceError: Its Source is neither on this machine nor in an object store.
        """
        scheme = scheme_of(item.source)
        if scheme in STORE_SCHEMES:
            return place_of(item.source, scheme)
        if not item.source or _URL_SCHEME.match(item.source):
            raise SourceError(f"{self.path}: {item.label} has no .dzi on this machine")
        return locate_source(self.path, item.source)

    def to_xml(self) -> Iterator[str]:
        """The descriptor, line by line."""
        extras, prefix = self.extras, self.extras.prefix
        known = {
            "MaxLevel": str(self.max_level),
            "TileSize": str(self.tile_size),
            "Format": self.format,
            "Quality": f"{self.quality:g}",
            "NextItemId": str(self.next_id),
        }
        yield '<?xml version="1.0" encoding="UTF-8"?>\n'
        yield f"<{prefix}Collection{_format_attributes((*extras.attributes, *known.items()))}>\n"
        yield from _indented(extras.before_items, "  ")
        yield f"  <{prefix}Items{_format_attributes(extras.items_attributes)}>\n"
        yield from _indented(extras.between_items, "    ")
        for item in self.items:
            yield f"    {item.to_xml(prefix)}\n"
        yield f"  </{prefix}Items>\n"
        yield from _indented(extras.after_items, "  ")
        yield f"</{prefix}Collection>\n"


def tile_folder_of(descriptor: Path) -> Path:
    """The folder of a collection's shared tiles."""
    return descriptor.with_name(f"{descriptor.stem}_files")


def relative_source(descriptor: Path, image_descriptor: ResultPath) -> str:
    """The URL of an image, relative to a descriptor; both are absolute paths.

    The URL of an image in an object store is its address.

    Raises:
        OptionError: No relative path leads from one to the other.
    """
    if not isinstance(image_descriptor, Path):
        return str(image_descriptor)
    try:
        path = os.path.relpath(image_descriptor, descriptor.parent)
        if path.startswith(os.pardir):  # after a symbolic link, ".." is another folder
            path = os.path.relpath(
                _without_links(image_descriptor), _without_links(descriptor).parent
            )
    except ValueError as error:
        raise OptionError(
            f"{image_descriptor}: it is on another drive than {descriptor}; use the same drive"
        ) from error
    return quote(os.fsencode(path.replace(os.sep, "/")))


def locate_source(descriptor: ResultPath, source: str) -> ResultPath:
    """The file of a Source, which some programs quote as a URL, and others do not."""
    if not isinstance(descriptor, Path):
        parts = list(descriptor.parent.parts)
        for part in os.fsdecode(unquote_to_bytes(source)).split("/"):
            if part == os.pardir:
                del parts[max(2, len(parts) - 1) :]  # the scheme and the bucket stay
            elif part not in ("", os.curdir):
                parts.append(part)
        return ObjectPath(*parts)
    paths = (os.fsdecode(unquote_to_bytes(source)), source, source.replace("\\", "/"))
    places = [descriptor.parent / path for path in paths]
    return next((place for place in places if os.path.lexists(place)), places[0])


def _format_attributes(attributes: Iterable[tuple[str, str]]) -> str:
    return "".join(f' {name}="{value.translate(_ESCAPES)}"' for name, value in attributes)


_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"} | {c: f"&#{ord(c)};" for c in "\t\n\r"}
)


def _indented(xml: str, indent: str) -> Iterator[str]:
    if xml:
        yield f"{indent}{xml}\n"


def _without_links(path: Path) -> Path:
    """The path without symbolic links in its folders."""
    return Path(os.path.realpath(path.parent)) / path.name


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
    place = place_of(path, scheme_of(path))
    with open_random_access(place) as file:
        data = file.read_all(BUDGET.descriptor_bytes)
    parsed = parse_descriptor(data, str(place))
    attributes, items = parsed.attributes, sorted(parsed.items, key=lambda item: item.n)
    try:
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
        for one, other in pairwise(items):
            if one.n == other.n:
                raise ValueError(f"{one.label} and {other.label} have the same N, {one.n}")
        ids = {item.id for item in items}
        if len(ids) < len(items):
            raise ValueError("two items have the same Id")
        next_id = _parse_number("NextItemId", attributes.get("NextItemId", "0"))
        next_id = max(next_id, max(ids, default=-1) + 1)
        sizes = (grid.max_level, grid.tile_size)
        return Collection(place, *sizes, extension, quality, next_id, tuple(items), parsed.extras)
    except KeyError as error:
        raise SourceError(f"{place} says nothing of {error.args[0]}") from error
    except ValueError as error:  # an OptionError is one
        raise SourceError(f"{place} cannot be used: {error}") from error


@dataclass
class ParsedDescriptor:
    """A descriptor whose numbers are not checked yet.

    Attributes:
        attributes: The known attributes of Collection that it has.
        items: The images, in the order of the file.
        extras: All other contents.
    """

    attributes: Mapping[str, str]
    items: list[Item]
    extras: Extras


def parse_descriptor(data: bytes, name: str) -> ParsedDescriptor:
    """Parse a descriptor.

    Args:
        data: The file's contents.
        name: The file's name in messages.

    Raises:
        SourceError: It is no XML, has a document type, or is no collection.
    """
    try:
        return _parse_root(_parse_tree(decode_document(data)))
    except expat.ExpatError as error:
        raise SourceError(f"{name} is no XML: {error}") from error
    except KeyError as error:
        raise SourceError(f"{name}: an item says nothing of {error.args[0]}") from error
    except ValueError as error:
        raise SourceError(f"{name} cannot be used: {error}") from error
    except RecursionError:
        raise SourceError(f"{name} cannot be used: its elements are nested too deeply") from None


def _parse_tree(text: str) -> Element:
    """The root element. Names keep their prefixes, which `parse_xml` replaces."""
    check_xml(text)
    builder = TreeBuilder(insert_comments=True, insert_pis=True)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.CommentHandler = builder.comment
    parser.ProcessingInstructionHandler = builder.pi
    parser.Parse(text, True)
    return builder.close()


def _parse_root(root: Element) -> ParsedDescriptor:
    name, attributes = root.tag, root.attrib
    prefix, colon, local = name.rpartition(":")
    namespace = attributes.get(f"xmlns:{prefix}" if colon else "xmlns")
    if local != "Collection" or namespace not in (None, *COLLECTION_NAMESPACES):
        raise ValueError(f"its root is {name}, and not a Deep Zoom Collection")
    prefix += colon
    places = [place for place, child in enumerate(root) if child.tag == f"{prefix}Items"]
    if len(places) != 1:
        raise ValueError("it has Items twice" if places else "it has no Items")
    place = places[0]
    items, others = [], []
    for child in root[place]:
        child.tail = None
        if child.tag == f"{prefix}I":
            items.append(_parse_item(child, prefix))
        else:
            others.append(child)
    known = {key: attributes.pop(key) for key in _KNOWN_ATTRIBUTES if key in attributes}
    extras = Extras(
        prefix,
        tuple(attributes.items()),
        tuple(root[place].attrib.items()),
        _to_text(root[:place]),
        _to_text(root[place + 1 :]),
        _to_text(others),
    )
    return ParsedDescriptor(known, items, extras)


def _parse_item(element: Element, prefix: str) -> Item:
    attributes = element.attrib
    size = next((child.attrib for child in element if child.tag == f"{prefix}Size"), None)
    if size is None:
        raise KeyError("Size")
    has_only_size = len(element) == 1 and set(size) == {"Width", "Height"}
    return Item(
        _parse_number("Id", attributes.pop("Id")),
        _parse_number("N", attributes.pop("N")),
        attributes.pop("Source", ""),
        _parse_number("Width", size["Width"]),
        _parse_number("Height", size["Height"]),
        tuple(attributes.items()),
        "" if has_only_size else _to_text(element),
    )


def _to_text(elements: Iterable[Element]) -> str:
    return "".join(tostring(element, "unicode") for element in elements).strip()


def _parse_number(name: str, text: str) -> int:
    """An integer that is not negative.

    Raises:
        ValueError: The text is not one.
    """
    match = _NUMBER.fullmatch(text)
    if match is None or int(match[1]) > _LARGEST_NUMBER:
        raise ValueError(f"{name} {text!r} is not a whole number")
    return int(match[1])
