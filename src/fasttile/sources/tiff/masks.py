"""Transparency masks of a TIFF: pages that are marked as one, and GDAL's file beside it.

Sources: TIFF 6.0, NewSubfileType; GDAL RFC 15 (band masks). A mask is 0 where pixels are missing.
A mask in the file replaces that beside it, and a mask replaces GDAL_NODATA, as in GDAL.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fasttile.abc.source import Source
from fasttile.errors import SourceError
from fasttile.formats.tiff import Ifd, TiffHeader
from fasttile.options.read import ReadOptions
from fasttile.sources.files import MASK_SUFFIX, TIFF_SIGNATURES
from fasttile.sources.tiff.pages import SelectedImage, find_mask_page
from fasttile.storage.random_access import DiskFile, SourceFile

_WIDTH, _HEIGHT, _SAMPLES_PER_PIXEL, _GDAL_METADATA = 256, 257, 277, 42112
_FLAGS = re.compile(rb"""name=["']INTERNAL_MASK_FLAGS_1["'][^>]{0,80}>\s{0,9}(\d{1,4})""")
_ALL_VALID = 1  # GMF_ALL_VALID of RFC 15


class MaskFile(NamedTuple):
    """The mask of an image, before it is opened.

    Attributes:
        file: Its file, which has to be closed.
        selected: Its directory.
        note: One line for the user.
    """

    file: SourceFile
    selected: SelectedImage
    note: str


def find_mask(
    file: SourceFile, selected: SelectedImage, read_options: ReadOptions
) -> MaskFile | None:
    """Find the mask of an image; None if it has none.

    Raises:
        SourceError: It has another size, or cannot be read.
    """
    if read_options.nodata == "none":
        return None
    found = _find_page(file, selected) or _find_beside(file, selected)
    if found is None:
        return None
    try:
        sizes = [_size(one.directory) for one in (selected, found.selected)]
        if sizes[0] != sizes[1]:
            raise SourceError(
                f"{found.file.name}: the mask has {sizes[1][0]}×{sizes[1][1]} pixels, and the "
                f"image {sizes[0][0]}×{sizes[0][1]}; make it again, or use --nodata none (nodata)"
            )
        bands = found.selected.directory.number(_SAMPLES_PER_PIXEL, 1)
        if bands != 1:
            raise SourceError(
                f"{found.file.name}: it has a mask for each of {bands} bands; only one for all is "
                "supported; use --nodata none (nodata)"
            )
    except BaseException:
        found.file.close()
        raise
    return found


def apply_mask(source: Source, mask: Source, note: str) -> Source:
    """Make an image transparent where its mask is 0; the result takes over both."""
    from fasttile.sources.missing import MaskedSource, with_missing

    return with_missing(MaskedSource(source, mask), source, note)


def _find_page(file: SourceFile, selected: SelectedImage) -> MaskFile | None:
    offset = find_mask_page(file, selected)
    if offset is None:
        return None
    own = file.clone()
    try:
        directory = Ifd(own, TiffHeader.from_file(own), offset)
    except BaseException:
        own.close()
        raise
    page = replace(selected, directory=directory, is_sub_image=False, note=None)
    return MaskFile(own, page, "transparent where its mask is 0")


def _find_beside(file: SourceFile, selected: SelectedImage) -> MaskFile | None:
    """GDAL's file of the mask of the first page."""
    if file.path is None or selected.page_index or selected.is_sub_image:
        return None
    path = Path(file.path + MASK_SUFFIX)
    if not path.is_file():
        return None
    if path.is_symlink() and not Path(file.path).is_symlink():
        raise SourceError(
            f"{path}: the mask is a link, and the image is none; copy it, or use --nodata none "
            "(nodata)"
        )
    mask = DiskFile(path)
    try:
        if mask.head(4) not in TIFF_SIGNATURES:
            raise SourceError(f"{path}: the mask is no TIFF; use --nodata none (nodata)")
        directory = Ifd(mask)
        flags = _FLAGS.search(directory.raw(_GDAL_METADATA) or b"")
    except BaseException:
        mask.close()
        raise
    if flags is None or int(flags[1]) & _ALL_VALID:
        mask.close()  # GDAL takes no other file for a mask
        return None
    return MaskFile(mask, SelectedImage(directory, 0, 1), f"transparent where {path.name} is 0")


def _size(directory: Ifd) -> tuple[int, int]:
    return directory.number(_WIDTH, 0), directory.number(_HEIGHT, 0)
