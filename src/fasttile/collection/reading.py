"""A .dzc read: taken apart element by element, with care; what is unknown is kept as text.

Expat is used directly: it tells where in the file an element stands, so that what is unknown can be
kept to the letter, prefixes and comments included, and it lets a document type be refused before
any entity is expanded.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.parsers import expat

from ..errors import SourceError
from ..readers.file import OpenFile
from .descriptor import NAMESPACES, Attributes, Collection, Extras, Item
from .morton import Grid

_DECLARED = re.compile(rb"""<\?xml[^>]*?\bencoding\s*=\s*["']([A-Za-z0-9._-]+)""")

_LARGEST_NUMBER = 2**63 - 1
_NUMBER = re.compile(r"\s*([0-9]{1,19})\s*")

_SAID = ("MaxLevel", "TileSize", "Format", "Quality", "NextItemId")


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
    with OpenFile(place) as file:
        data = file.piece(0, file.size, "it")
    found = parse(data, str(place))
    try:
        return _collection(place, found.attributes, found.items, found.extras)
    except KeyError as error:
        raise SourceError(f"{place} says nothing of {error.args[0]}") from error
    except ValueError as error:  # an OptionError is one
        raise SourceError(f"{place} cannot be used: {error}") from error


@dataclass
class Parsed:
    """What a descriptor says, before its numbers are looked at.

    Attributes:
        attributes: Those of Collection that are known, and are there.
        items: In the order in which they stand.
        extras: The rest.
    """

    attributes: Mapping[str, str] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    extras: Extras = field(default_factory=Extras)


def parse(data: bytes, name: str) -> Parsed:
    """Take a descriptor apart.

    Args:
        data: The file.
        name: What messages call it.

    Raises:
        SourceError: It is no XML, has a document type, or is no collection.
    """
    try:
        return _Parser(_in_utf8(data)).parsed()
    except expat.ExpatError as error:
        raise SourceError(f"{name} is no XML: {error}") from error
    except KeyError as error:
        raise SourceError(f"{name}: an item says nothing of {error.args[0]}") from error
    except ValueError as error:
        raise SourceError(f"{name} cannot be used: {error}") from error


def _collection(
    path: Path, said: Mapping[str, str], items: list[Item], extras: Extras
) -> Collection:
    grid = Grid(_number("MaxLevel", said["MaxLevel"]), _number("TileSize", said["TileSize"]))
    extension = said["Format"]
    if not (extension.isascii() and extension.isalnum()):
        raise ValueError(f"Format {extension!r} is no file ending")
    quality = float(said.get("Quality", "1"))
    if not 0 <= quality <= 1:
        raise ValueError(f"Quality {said['Quality']} is not between 0 and 1")
    items.sort(key=lambda item: item.n)
    for one, other in pairwise(items):
        if one.n == other.n:
            raise ValueError(f"{one.called} and {other.called} have the same N, {one.n}")
    ids = {item.id for item in items}
    if len(ids) < len(items):
        raise ValueError("two items have the same Id")
    next_id = max(_number("NextItemId", said.get("NextItemId", "0")), max(ids, default=-1) + 1)
    sizes = (grid.max_level, grid.tile_size)
    return Collection(path, *sizes, extension, quality, next_id, tuple(items), extras)


def _in_utf8(data: bytes) -> bytes:
    """The same text in UTF-8, which the places in it are counted in."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16").encode()
    data = data.removeprefix(codecs.BOM_UTF8)
    declared = _DECLARED.match(data)
    encoding = "utf-8" if declared is None else declared[1].decode()
    try:
        return data.decode(encoding).encode()
    except LookupError:
        raise ValueError(f"its encoding {encoding} is not known") from None


class _Parser:
    """One descriptor, while it is being read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._found = Parsed()
        self._names: list[str] = []
        self._prefix = ""
        self._root: Attributes = ()
        self._items: Attributes | None = None
        self._before = self._after = ""
        self._among: list[str] = []
        self._start: int | None = None  # of what Collection holds, and is not told yet
        self._stray = 0  # where an element among the items begins
        self._item: _Item | None = None

    def parsed(self) -> Parsed:
        """Read it all."""
        parser = self._expat = expat.ParserCreate("utf-8")
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CommentHandler = self._comment
        parser.StartDoctypeDeclHandler = _refuse_document_type
        parser.Parse(self._data, True)
        if self._items is None:
            raise ValueError("it has no Items")
        self._found.extras = Extras(
            self._prefix,
            self._root,
            self._items,
            self._before,
            self._after,
            "".join(self._among),
        )
        return self._found

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        depth = len(self._names)
        self._names.append(name)
        here = self._expat.CurrentByteIndex
        if depth == 0:
            self._begin_collection(name, attributes)
        elif depth == 1:
            self._begin_in_collection(name, attributes, here)
        elif self._in_items and depth == 2:
            self._stray = here
            if name == f"{self._prefix}I":
                self._item = _Item(attributes)
        elif self._item is not None:
            plain = depth == 3 and name == f"{self._prefix}Size"
            self._item.holds(here, attributes if plain else None)

    def _begin_collection(self, name: str, attributes: dict[str, str]) -> None:
        prefix, colon, local = name.rpartition(":")
        space = attributes.get(f"xmlns:{prefix}" if colon else "xmlns")
        if local != "Collection" or space not in (None, *NAMESPACES):
            raise ValueError(f"its root is {name}, and not a Deep Zoom Collection")
        self._prefix = prefix + colon
        self._found.attributes = {key: attributes.pop(key) for key in _SAID if key in attributes}
        self._root = tuple(attributes.items())

    def _begin_in_collection(self, name: str, attributes: dict[str, str], here: int) -> None:
        if name != f"{self._prefix}Items":
            self._start = here if self._start is None else self._start
            return
        if self._items is not None:
            raise ValueError("it has Items twice")
        self._items = tuple(attributes.items())
        self._before = self._text(self._start, here)
        self._start = None

    def _end(self, name: str) -> None:
        here = self._expat.CurrentByteIndex
        if self._in_items and len(self._names) == 3:
            if self._item is None:
                # Where an element is one tag, Expat is behind it already.
                closing = self._data.startswith(f"</{name}".encode(), here)
                end = self._behind(here, b">") if closing else here
                self._among.append(self._text(self._stray, end))
            else:
                self._found.items.append(self._item.whole(self._data, here))
                self._item = None
        elif len(self._names) == 1:
            self._after = self._text(self._start, here)
        self._names.pop()

    def _comment(self, text: str) -> None:
        here = self._expat.CurrentByteIndex
        if self._item is not None:
            self._item.holds(here, None)
        elif len(self._names) == 1:
            self._start = here if self._start is None else self._start
        elif self._in_items and len(self._names) == 2:
            self._among.append(self._text(here, self._behind(here + len("<!--"), b"-->")))

    @property
    def _in_items(self) -> bool:
        return len(self._names) > 1 and self._names[1] == f"{self._prefix}Items"

    def _behind(self, place: int, end: bytes) -> int:
        """The first byte behind what ends so."""
        return self._data.index(end, place) + len(end)

    def _text(self, start: int | None, end: int) -> str:
        return "" if start is None else self._data[start:end].decode().strip()


class _Item:
    """One item, while it is being read."""

    def __init__(self, attributes: dict[str, str]) -> None:
        self._attributes = attributes
        self._start: int | None = None
        self._size: dict[str, str] | None = None
        self._plain = True

    def holds(self, place: int, size: dict[str, str] | None) -> None:
        """There is something in it: its size, or anything else."""
        if self._start is None:
            self._start = place
        if size is not None and self._size is None:
            self._size = size
            self._plain = self._plain and set(size) == {"Width", "Height"}
        else:
            self._plain = False

    def whole(self, data: bytes, end: int) -> Item:
        """The item, all of which has been read."""
        said = self._attributes
        if self._size is None:
            raise KeyError("Size")
        return Item(
            _number("Id", said.pop("Id")),
            _number("N", said.pop("N")),
            said.pop("Source", ""),
            _number("Width", self._size["Width"]),
            _number("Height", self._size["Height"]),
            tuple(said.items()),
            "" if self._plain else data[self._start : end].decode().strip(),
        )


def _number(name: str, text: str) -> int:
    """A whole number that is not negative.

    Raises:
        ValueError: It is none.
    """
    found = _NUMBER.fullmatch(text)
    if found is None or int(found[1]) > _LARGEST_NUMBER:
        raise ValueError(f"{name} {text!r} is not a whole number")
    return int(found[1])


def _refuse_document_type(*_: Any) -> None:
    raise ValueError("it has a document type, which no collection has: it is not read")
