"""What a .dzc says, and how it is written.

Source: Microsoft's Deep Zoom schema of 2008 (elements Collection, Items, I, Size, Viewport); 2009's
is the same by another name. Deep Zoom Composer calls the file dzc_output.xml.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from ..errors import OptionError, SourceError
from .morton import Grid

NAMESPACE = "http://schemas.microsoft.com/deepzoom/2008"
NAMESPACES = (NAMESPACE, "http://schemas.microsoft.com/deepzoom/2009")

ENDINGS = (".dzc", ".xml")

Attributes = tuple[tuple[str, str], ...]

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True, slots=True)
class Item:
    """A picture of a collection.

    Attributes:
        id: Its own number, which no other picture of the collection ever had or gets.
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
    inner: str = ""

    @property
    def called(self) -> str:
        """What messages call it."""
        return f"item {self.id} ({self.source or 'without a Source'})"


@dataclass(frozen=True)
class Extras:
    """What a descriptor says besides, kept as it was.

    Attributes:
        prefix: What stands before the names of elements, with its colon.
        attributes, items_attributes: Further ones of Collection and Items; namespaces too.
        before, after: XML that Collection holds before Items and behind it.
        among: XML that stands among the items.
    """

    prefix: str = ""
    attributes: Attributes = (("xmlns", NAMESPACE),)
    items_attributes: Attributes = ()
    before: str = ""
    after: str = ""
    among: str = ""


@dataclass(frozen=True)
class Collection:
    """Pictures whose thumbnails share tiles.

    Attributes:
        path: The descriptor.
        max_level: The largest level that has tiles of its own here.
        tile_size: Side of a tile, in pixels.
        format: The tiles' file ending, without a dot.
        quality: As the format has it, 0 to 1.
        next_id: The `id` of the next picture to come.
        items: The pictures, by `n`.
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
    def grid(self) -> Grid:
        """Where thumbnails lie."""
        return Grid(self.max_level, self.tile_size)

    @property
    def files(self) -> Path:
        """The folder of the shared tiles."""
        return files_of(self.path)

    def picture(self, item: Item) -> Path:
        """The .dzi of a picture.

        Raises:
            SourceError: Its Source is no file on this machine.
        """
        if not item.source or _ADDRESS.match(item.source):
            raise SourceError(f"{self.path}: {item.called} has no .dzi on this machine")
        return located(self.path, item.source)

    def text(self) -> Iterator[str]:
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
        yield f"<{prefix}Collection{_spelled((*extras.attributes, *said.items()))}>\n"
        yield from _indented(extras.before, "  ")
        yield f"  <{prefix}Items{_spelled(extras.items_attributes)}>\n"
        yield from _indented(extras.among, "    ")
        for item in self.items:
            yield f"    {_element(item, prefix)}\n"
        yield f"  </{prefix}Items>\n"
        yield from _indented(extras.after, "  ")
        yield f"</{prefix}Collection>\n"


def files_of(descriptor: Path) -> Path:
    """The folder of the tiles that a descriptor announces."""
    return descriptor.with_name(f"{descriptor.stem}_files")


def source_of(descriptor: Path, picture: Path) -> str:
    """The URL of a picture, relative to a descriptor; both are absolute paths.

    Raises:
        OptionError: There is no way from one to the other.
    """
    try:
        way = os.path.relpath(picture, descriptor.parent)
        if way.startswith(os.pardir):  # which is another folder where there are symbolic links
            way = os.path.relpath(_real(picture), _real(descriptor).parent)
    except ValueError as error:
        raise OptionError(
            f"{picture} lies on another drive than {descriptor}, which has to name it"
        ) from error
    return quote(os.fsencode(way.replace(os.sep, "/")))


def located(descriptor: Path, source: str) -> Path:
    """The file that a Source means, as those write it who quote what a URL has to, and others."""
    ways = (os.fsdecode(unquote_to_bytes(source)), source, source.replace("\\", "/"))
    places = [descriptor.parent / way for way in ways]
    return next((place for place in places if os.path.lexists(place)), places[0])


def _element(item: Item, prefix: str) -> str:
    said: dict[str, str] = {"Id": str(item.id), "N": str(item.n)}
    if item.source:
        said["Source"] = item.source
    size = {"Width": str(item.width), "Height": str(item.height)}
    inner = item.inner or f"<{prefix}Size{_spelled(size.items())}/>"
    return f"<{prefix}I{_spelled((*said.items(), *item.attributes))}>{inner}</{prefix}I>"


def _spelled(attributes: Iterable[tuple[str, str]]) -> str:
    return "".join(f' {name}="{_escaped(value)}"' for name, value in attributes)


_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"} | {c: f"&#{ord(c)};" for c in "\t\n\r"}
)


def _escaped(value: str) -> str:
    return value.translate(_ESCAPES)


def _indented(xml: str, indent: str) -> Iterator[str]:
    if xml:
        yield f"{indent}{xml}\n"


def _real(path: Path) -> Path:
    """Without symbolic links in its folders."""
    return Path(os.path.realpath(path.parent)) / path.name
