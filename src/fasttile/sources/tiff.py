"""TIFF and BigTIFF whose samples lie uncompressed in the file: the tags, and what they mean.

Written after TIFF 6.0 and the BigTIFF proposal; where those leave a choice, the answer is
Pillow's and libtiff's, so that a picture looks the same whether it is compressed or not.
tifffile reads the tags, of the first picture only; no number in them is trusted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from ..errors import SourceError
from .base import Metadata, Source
from .blocks import Grid, open_grid
from .convert import Converted
from .mapping import PictureFile
from .pixels import expanded, inverted, picked, straightened
from .raster import prepared

_UNCOMPRESSED = 1
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE = 0, 1, 2, 3
_COLOURS = {_MIN_IS_WHITE: 1, _MIN_IS_BLACK: 1, _RGB: 3, _PALETTE: 1}
_ASSOCIATED, _UNASSOCIATED, _ALPHA_OF_COREL = 1, 2, 999
_UNSIGNED, _UNDEFINED = 1, 4
_CHUNKY, _PLANAR = 1, 2
_PER_INCH = {2: 1.0, 3: 2.54}  # what makes a ResolutionUnit's numbers pixels per inch

_X_RESOLUTION, _Y_RESOLUTION = 282, 283
_RESOLUTION_UNIT, _COLOR_MAP, _EXTRA_SAMPLES, _ICC_PROFILE = 296, 320, 338, 34675


@dataclass(frozen=True)
class _Tags:
    """The tags of a picture that matter here, checked to be numbers at least."""

    grid: Grid
    photometric: int
    extra_samples: tuple[int, ...] | None
    palette: NDArray[np.uint16] | None
    metadata: Metadata


def open_tiff(file: PictureFile) -> Source | None:
    """A source over the first picture of a TIFF, or None if its samples have to be decoded.

    Raises:
        SourceError: The file is broken, or smaller than its tags say.
    """
    file.stream.seek(0)  # where tifffile takes the TIFF to begin
    try:
        page = tifffile.TiffFile(file.stream).pages[0]
        tags = _tags(page) if _plain(page) else None
    except Exception as error:
        # tifffile has no one kind of error for what can be wrong with a file.
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise SourceError(f"{file.name}: broken TIFF: {reason}") from error
    if tags is None:
        return None
    if min(tags.grid.width, tags.grid.height, tags.grid.block_width, tags.grid.block_height) < 1:
        raise SourceError(f"{file.name}: broken TIFF: the picture or its blocks have no pixels")
    return _as_picture(prepared(open_grid(file, tags.grid, tags.metadata)), tags)


def _plain(page: Any) -> bool:
    """Whether the samples lie in the file as they are, in a form that is known here."""
    colours = _COLOURS.get(page.photometric)
    palette = page.photometric == _PALETTE
    return (
        page.compression == _UNCOMPRESSED
        and colours is not None
        and page.samplesperpixel >= colours
        and page.bitspersample in ((8,) if palette else (8, 16))
        and not (palette and page.samplesperpixel > 1)
        and page.sampleformat in (_UNSIGNED, _UNDEFINED)
        and page.planarconfig in (_CHUNKY, _PLANAR)
        and page.fillorder == 1
        and page.imagedepth == 1
        and page.tiledepth <= 1
    )


def _tags(page: Any) -> _Tags:
    grid = _grid(page)
    extra = page.tags.valueof(_EXTRA_SAMPLES)
    extra_samples = None if extra is None else _numbers(extra)
    palette = None
    if page.photometric == _PALETTE:
        palette = np.asarray(page.tags.valueof(_COLOR_MAP), np.uint16).reshape(3, 256)
    kind = "BigTIFF" if page.parent.is_bigtiff else "TIFF"
    profile = page.tags.valueof(_ICC_PROFILE)
    icc_profile = bytes(profile) if isinstance(profile, bytes) else None
    metadata = Metadata(kind, icc_profile, _resolution(page))
    return _Tags(grid, index(page.photometric), extra_samples, palette, metadata)


def _grid(page: Any) -> Grid:
    width, height, samples = map(index, (page.imagewidth, page.imagelength, page.samplesperpixel))
    tiled = page.is_tiled
    return Grid(
        width=width,
        height=height,
        bands=samples,
        dtype=np.dtype(f"{page.parent.byteorder}u{page.bitspersample // 8}"),
        block_width=index(page.tilewidth) if tiled else width,
        block_height=index(page.tilelength if tiled else page.rowsperstrip),
        planar=page.planarconfig == _PLANAR and samples > 1,
        whole=tiled,
        offsets=np.array(page.dataoffsets, np.uint64),
        counts=np.array(page.databytecounts, np.uint64),
    )


def _as_picture(source: Source, tags: _Tags) -> Source:
    """The stored samples as grey or RGB, with straight alpha or none."""
    colours = _COLOURS[tags.photometric]
    alpha, associated = _alpha(source.bands - colours, tags.extra_samples)
    order = [*range(colours), *([] if alpha is None else [colours + alpha])]
    if len(order) < source.bands:
        note = f"{source.bands - len(order)} extra samples left out"
        source = Converted(source, picked(order, source.dtype, note))
    if associated:
        source = Converted(source, straightened(source.bands, source.dtype))
    if tags.photometric == _MIN_IS_WHITE:
        return Converted(source, inverted(source.bands, source.dtype))
    if tags.palette is not None:
        return Converted(source, expanded(_bytes(tags.palette)))
    return source


def _alpha(extra: int, kinds: tuple[int, ...] | None) -> tuple[int | None, bool]:
    """Which of the extra samples is alpha, and whether colours were multiplied by it."""
    if kinds is None:
        # Without the tag, one sample too many is alpha in all programs that write it so.
        return (0, False) if extra == 1 else (None, False)
    for number, kind in enumerate(kinds[:extra]):
        if kind in (_ASSOCIATED, _UNASSOCIATED, _ALPHA_OF_COREL):
            return number, kind == _ASSOCIATED
    return None, False


def _bytes(palette: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """The colours of 256 indices, from 16 bits to 8, as an array (256, 3).

    Some writers put 8-bit values into the tag; libtiff knows them by having no larger ones.
    """
    colours = palette if int(palette.max()) < 256 else palette >> 8
    return np.ascontiguousarray(colours.T, np.uint8)


def _resolution(page: Any) -> tuple[float, float] | None:
    factor = _PER_INCH.get(page.tags.valueof(_RESOLUTION_UNIT, 2))
    values = [page.tags.valueof(tag) for tag in (_X_RESOLUTION, _Y_RESOLUTION)]
    if factor is None or not all(isinstance(v, tuple) and len(v) == 2 and all(v) for v in values):
        return None
    (x, x_part), (y, y_part) = values
    return factor * x / x_part, factor * y / y_part


def _numbers(value: int | Iterable[int]) -> tuple[int, ...]:
    return tuple(map(index, value)) if isinstance(value, Iterable) else (index(value),)
