"""Selection of an image in a TIFF: a page, or the largest level.

The pages of a TIFF are a chain of directories. The tag SubIFDs of a page lists further directories,
with other sizes of the same image. Programs write the levels of a pyramid in either form, and some
write a thumbnail as the first page. Pages that are not marked as reduced are levels only if their
sizes halve and their content agrees: scans of A4 and A3 are pages.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from fasttile.errors import MissingPageError, SourceError
from fasttile.formats.tiff import Ifd, TiffHeader
from fasttile.options.read import MAX_PAGES, ReadOptions, note_on_pages
from fasttile.storage.random_access import SourceFile

_WIDTH, _HEIGHT, _SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _SUB_IFDS = 256, 257, 254, 255, 330
_PHOTOMETRIC, _DNG_VERSION = 262, 50706
_RAW_PHOTOMETRICS = (32803, 34892)  # colour filter array, LinearRaw
_REDUCED_FLAG, _PAGE_FLAG, _MASK_FLAG = 1, 2, 4  # bits of NewSubfileType
_OLD_FLAGS = {2: _REDUCED_FLAG, 3: _PAGE_FLAG}  # of the values of SubfileType
_MAX_COMPARISONS = 4  # pages of half or twice the size whose content is compared

ContentCheck = Callable[[Ifd, Ifd], bool]
"""True if an image, given by its directory, has the content of one of twice its size."""

_MAX_SUB_IFDS = 64
"""Limit of the SubIFDs of a page: a 64-bit size cannot be halved more often."""


@dataclass(frozen=True)
class SelectedImage:
    """The image to read.

    Attributes:
        directory: Its tags.
        page_index: Index of its page, from 0; of the page it belongs to if it is in SubIFDs.
        page_count: Number of pages.
        is_sub_image: True if it is in SubIFDs.
        note: One line for the user if it is not the first page, or not the only one.
    """

    directory: Ifd
    page_index: int
    page_count: int
    is_sub_image: bool = False
    note: str | None = None


class _TiffImage(NamedTuple):
    """The tags of a directory that the selection depends on."""

    offset: int
    page_index: int
    is_sub_image: bool
    width: int
    height: int
    subfile_type: int

    @property
    def area(self) -> int:
        return self.width * self.height

    def has_same_proportions(self, other: _TiffImage) -> bool:
        """True if the proportions of both images are equal within 2 %."""
        one, two = self.width * other.height, self.height * other.width
        return 0 < max(one, two) * 98 <= 100 * min(one, two)

    def is_half_of(self, other: _TiffImage) -> bool:
        """True if the other image has twice the width and height, rounded down or up."""
        sides = ((self.width, other.width), (self.height, other.height))
        return self.area < other.area and all(
            small in (large // 2, (large + 1) // 2) for small, large in sides
        )


def select_image(
    file: SourceFile, read_options: ReadOptions, has_same_content: ContentCheck | None = None
) -> SelectedImage:
    """Select the image to read.

    It is the page of the options. Without one it is the first page, or the largest level if the
    first page belongs to a pyramid: if it is marked as reduced, if its SubIFDs have an image of
    the same proportions and at least twice its area, or if it belongs to a chain of pages whose
    sizes halve and whose content agrees.

    Args:
        file: The TIFF.
        read_options: The page.
        has_same_content: Compares the directories of two images. Default: no two agree.

    Raises:
        SourceError: There is no such page, or the chain of pages is broken or has no end.
    """
    header = TiffHeader.from_file(file)
    pages, inner, broken = _list_images(file, header, with_sub_images=read_options.page is None)
    count = len(pages)
    levels = pages[:1]
    if read_options.page is None:
        if has_same_content is not None and not pages[0].subfile_type & _REDUCED_FLAG:
            levels = _find_levels(file, header, pages, has_same_content)
        best = _largest_level(pages, levels, inner)
    elif 1 <= read_options.page <= count:
        best = pages[read_options.page - 1]
    else:
        raise MissingPageError(
            f"{file.name} has no page {read_options.page}; it has {count}"
            + (f", and a broken directory after them: {broken}" if broken else "")
        )
    directory = Ifd(file, header, best.offset)
    note = None
    if read_options.page is None:
        others = [one for one in pages[1:] if not one.subfile_type & (_REDUCED_FLAG | _MASK_FLAG)]
        if best != pages[0]:
            where = "a level of" if best.is_sub_image else "level"
            page = f"page {best.page_index + 1} of {count}"
            note = f"{where} {page} taken: it is the largest of a pyramid"
        elif any(one not in levels for one in others):
            note = note_on_pages(count)
    return SelectedImage(directory, best.page_index, count, best.is_sub_image, note)


def find_mask_page(file: SourceFile, selected: SelectedImage) -> int | None:
    """Offset of the directory with the transparency mask of a page; None without one.

    A mask belongs to the last page before it that is neither a mask nor marked as reduced; that
    of a reduced page is marked as reduced, too. GDAL, too, ignores a mask of another size.
    """
    if selected.is_sub_image or selected.page_count == 1:
        return None
    header = TiffHeader.from_file(file)
    pages, _, _ = _list_images(file, header, with_sub_images=False)
    chosen = pages[selected.page_index]
    if chosen.subfile_type & _MASK_FLAG:
        return None
    base = owner = -1
    masks = []
    for page in pages:
        if not page.subfile_type & (_MASK_FLAG | _REDUCED_FLAG):
            base = page.page_index
        if page == chosen:
            owner = base
        is_like = not (page.subfile_type ^ chosen.subfile_type) & _REDUCED_FLAG
        has_size = (page.width, page.height) == (chosen.width, chosen.height)
        if page.subfile_type & _MASK_FLAG and is_like and has_size:
            masks.append((base, page.offset))
    return next((offset for place, offset in masks if place == owner), None)


def _list_images(
    file: SourceFile, header: TiffHeader, *, with_sub_images: bool
) -> tuple[list[_TiffImage], list[_TiffImage], str]:
    """All pages, the larger SubIFDs, and the error that ended the chain.

    The error is raised only for the first page, so that the readable part of a damaged file can
    be read.
    """
    pages: list[_TiffImage] = []
    inner: list[_TiffImage] = []
    seen: set[int] = set()
    start, broken = header.first_offset, ""
    while start:
        if start in seen:
            raise SourceError(
                f"{file.name}: broken TIFF: its pages have no end: "
                f"after page {len(pages)} comes the directory at {start} again"
            )
        if len(pages) == MAX_PAGES:
            raise SourceError(f"{file.name}: broken TIFF: more than {MAX_PAGES:,} pages")
        try:
            directory = Ifd(file, header, start)
            image = _read_image(directory, len(pages))
        except SourceError as error:
            if not pages:
                raise
            broken = str(error)
            break
        seen.add(start)
        pages.append(image)
        if (
            with_sub_images
            and len(inner) < MAX_PAGES
            and (len(pages) == 1 or image.subfile_type & _REDUCED_FLAG)
        ):
            inner += _list_sub_images(file, header, directory, len(pages) - 1)
        start = directory.next_offset
    if not pages:
        raise SourceError(f"{file.name}: broken TIFF: it has no image")
    return pages, inner, broken


def _list_sub_images(
    file: SourceFile, header: TiffHeader, directory: Ifd, page_index: int
) -> list[_TiffImage]:
    """The images in the SubIFDs of a page, up to the first broken one."""
    images = []
    with suppress(SourceError):
        starts = directory.numbers(_SUB_IFDS)
        for start in [] if starts is None else starts[:_MAX_SUB_IFDS].tolist():
            images.append(_read_image(Ifd(file, header, start), page_index, is_sub_image=True))
    return images


def _read_image(directory: Ifd, page_index: int, *, is_sub_image: bool = False) -> _TiffImage:
    width, height = directory.number(_WIDTH, 0), directory.number(_HEIGHT, 0)
    old_kind = directory.number(_OLD_SUBFILE_TYPE, 0)
    kind = directory.number(_SUBFILE_TYPE, _OLD_FLAGS.get(old_kind, 0))
    return _TiffImage(directory.offset, page_index, is_sub_image, width, height, kind)


def _find_levels(
    file: SourceFile,
    header: TiffHeader,
    pages: list[_TiffImage],
    has_same_content: ContentCheck,
) -> list[_TiffImage]:
    """The first page, and the pages that are its levels: sizes halve, and content agrees."""
    candidates = [one for one in pages[1:] if not one.subfile_type & (_PAGE_FLAG | _MASK_FLAG)]

    def next_level(current: _TiffImage, *, is_larger: bool) -> _TiffImage | None:
        pairs = (((current, one) if is_larger else (one, current)) for one in candidates)
        halves = [pair for pair in pairs if pair[0].is_half_of(pair[1])]
        for small, large in halves[:_MAX_COMPARISONS]:
            with suppress(SourceError):
                offsets = small.offset, large.offset
                if has_same_content(*(Ifd(file, header, offset) for offset in offsets)):
                    return large if is_larger else small
        return None

    levels = pages[:1]
    for is_larger in (True, False):
        current: _TiffImage | None = pages[0]
        while current is not None:
            current = next_level(current, is_larger=is_larger)
            levels += [] if current is None else [current]
    return levels


def _largest_level(
    pages: list[_TiffImage], levels: list[_TiffImage], sub_images: list[_TiffImage]
) -> _TiffImage:
    """The first page or a larger image of the same pyramid.

    Args:
        pages: All pages.
        levels: The pages that belong to the pyramid of the first one, if it is not marked.
        sub_images: The images in SubIFDs.
    """
    first = pages[0]
    least = 2 * first.area
    if first.subfile_type & _REDUCED_FLAG:
        others = [one for one in (*pages[1:], *sub_images) if not one.subfile_type & _MASK_FLAG]
        # A cropped thumbnail has other proportions than the levels; then all images that are not
        # marked as reduced count.
        levels = [one for one in others if one.has_same_proportions(first)] or [
            one for one in others if not one.subfile_type & _REDUCED_FLAG
        ]
        least = first.area
    else:
        # Some programs mark the pages of a document; such a page is not a level.
        levels = levels + [
            one
            for one in sub_images
            if not one.subfile_type & (_PAGE_FLAG | _MASK_FLAG) and one.has_same_proportions(first)
        ]
    return max([first, *(one for one in levels if one.area >= least)], key=lambda one: one.area)


def check_camera_raw(file: SourceFile, read_options: ReadOptions) -> None:
    """Refuse a camera's raw file, whose pages are previews, unless a page of it is asked for.

    Sources: DNG 1.7.1 (DNGVersion; colour filter arrays and LinearRaw); TIFF/EP.

    Raises:
        SourceError: It is one.
    """
    header = TiffHeader.from_file(file)
    if read_options.page is not None or header.first_offset == 0:
        return
    first = Ifd(file, header, header.first_offset)
    directories = [first]
    with suppress(SourceError):
        starts = first.numbers(_SUB_IFDS)
        for start in [] if starts is None else starts[:_MAX_SUB_IFDS].tolist():
            directories.append(Ifd(file, header, start))
    is_dng = _DNG_VERSION in first.tags
    if (
        is_dng
        or file.head(12)[8:10] == b"CR"
        or any(one.number(_PHOTOMETRIC, 0) in _RAW_PHOTOMETRICS for one in directories)
    ):
        raise SourceError(
            f"{file.name}: it is a camera's raw file{' (DNG)' if is_dng else ''}; dcraw_emu -T or "
            "darktable-cli makes a TIFF of it, and --page 1 cuts the preview in it"
        )
