"""Which of a TIFF's pictures is meant: a page by its number, or the largest level of a pyramid.

A TIFF's pages are a chain of directories. A page can name further ones of its own (tag SubIFDs),
which are other sizes of it. Programs write the levels of a pyramid either way, and some put a
thumbnail first.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import SourceError
from .ifd import Directory, Header
from .mapping import PictureFile
from .reading import Reading

_WIDTH, _HEIGHT, _SUBFILE_TYPE, _SUB_DIRECTORIES = 256, 257, 254, 330
_REDUCED, _ONE_OF_PAGES, _MASK = 1, 2, 4  # bits of NewSubfileType

_MOST = 65_535
"""How many pages a file may have; libtiff's limit too."""

_MOST_INNER = 64
"""How many pictures of a page's own are looked at; more halvings there cannot be."""


@dataclass(frozen=True)
class Choice:
    """The picture that is meant.

    Attributes:
        directory: Its tags.
        index: The page, counted from 0; that to which it belongs if it is no page itself.
        count: How many pages there are.
        inner: Whether it is in SubIFDs of the page.
        note: One line for the user, if it is not the one that everybody expects.
    """

    directory: Directory
    index: int
    count: int
    inner: bool = False
    note: str | None = None


class _Picture(NamedTuple):
    """What a directory says of its picture at first glance."""

    start: int
    page: int
    inner: bool
    width: int
    height: int
    kind: int

    @property
    def area(self) -> int:
        return self.width * self.height

    def is_like(self, other: _Picture) -> bool:
        """Whether the sides are in proportion, within 2 %."""
        one, two = self.width * other.height, self.height * other.width
        return 0 < max(one, two) * 98 <= 100 * min(one, two)


def chosen(file: PictureFile, reading: Reading) -> Choice:
    """The picture that a reading means.

    That is the page it names. Without one it is the first, or the largest level if that is one of
    a pyramid: if the first is marked as reduced, or if another picture in proportion to it has
    at least twice its area.

    Raises:
        SourceError: There is no such page, or the chain of pages is broken or has no end.
    """
    header = Header.of(file)
    pages, inner, broken = _pictures(file, header, with_inner=reading.page is None)
    count = len(pages)
    if reading.page is None:
        best = _largest_level(pages, inner)
    elif 1 <= reading.page <= count:
        best = pages[reading.page - 1]
    else:
        raise SourceError(
            f"{file.name} has no page {reading.page}: it has {count}"
            + (f"; behind them is something broken: {broken}" if broken else "")
        )
    directory = Directory(file, header, best.start)
    note = None
    if reading.page is None and best != pages[0]:
        where = "a level of" if best.inner else "level"
        note = f"{where} page {best.page + 1} of {count} taken: it is the largest of a pyramid"
    return Choice(directory, best.page, count, best.inner, note)


def chosen_page(file: PictureFile, reading: Reading) -> tuple[int, int]:
    """The page that a reading means, counted from 0, and how many there are; see `chosen`."""
    choice = chosen(file, reading)
    return choice.index, choice.count


def _pictures(
    file: PictureFile, header: Header, *, with_inner: bool
) -> tuple[list[_Picture], list[_Picture], str]:
    """All pages, those that may be larger levels of one, and why the chain of pages broke off.

    Only where not even the first page is there, that is an error; so what is there of a damaged
    file can be read.
    """
    pages: list[_Picture] = []
    inner: list[_Picture] = []
    seen: set[int] = set()
    start, broken = header.first, ""
    while start:
        if start in seen:
            raise SourceError(
                f"{file.name}: broken TIFF: its pages have no end: "
                f"after page {len(pages)} comes the directory at {start} again"
            )
        if len(pages) == _MOST:
            raise SourceError(f"{file.name}: broken TIFF: more than {_MOST:,} pages")
        try:
            directory = Directory(file, header, start)
            picture = _picture(directory, len(pages))
        except SourceError as error:
            if not pages:
                raise
            broken = str(error)
            break
        seen.add(start)
        pages.append(picture)
        if with_inner and len(inner) < _MOST and (len(pages) == 1 or picture.kind & _REDUCED):
            inner += _inner_of(file, header, directory, len(pages) - 1)
        start = directory.next
    if not pages:
        raise SourceError(f"{file.name}: broken TIFF: it has no picture")
    return pages, inner, broken


def _inner_of(
    file: PictureFile, header: Header, directory: Directory, index: int
) -> list[_Picture]:
    """The pictures in a page's SubIFDs, as far as they can be read."""
    pictures = []
    with suppress(SourceError):
        starts = directory.numbers(_SUB_DIRECTORIES)
        for start in [] if starts is None else starts[:_MOST_INNER].tolist():
            pictures.append(_picture(Directory(file, header, start), index, inner=True))
    return pictures


def _picture(directory: Directory, index: int, *, inner: bool = False) -> _Picture:
    width, height = directory.number(_WIDTH, 0), directory.number(_HEIGHT, 0)
    kind = directory.number(_SUBFILE_TYPE, 0)
    return _Picture(directory.start, index, inner, width, height, kind)


def _largest_level(pages: list[_Picture], inner: list[_Picture]) -> _Picture:
    first = pages[0]
    if first.kind & _REDUCED:
        others = [one for one in (*pages[1:], *inner) if not one.kind & _MASK]
        # A thumbnail may have been cut to another shape; then it is all that tells nothing else.
        levels = [one for one in others if one.is_like(first)] or [
            one for one in others if not one.kind & _REDUCED
        ]
        least = first.area
    else:
        # Pages of a document are marked as such by some programs; a large one is no level.
        others = [one for one in (*pages[1:], *inner) if not one.kind & (_ONE_OF_PAGES | _MASK)]
        levels = [one for one in others if one.is_like(first)]
        least = 2 * first.area
    return max([first, *(one for one in levels if one.area >= least)], key=lambda one: one.area)
