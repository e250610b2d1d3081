"""TIFF and BigTIFF whose samples lie uncompressed in the file: the tags, and what they mean.

Written after TIFF 6.0 and the BigTIFF proposal; where those leave a choice, the answer is
Pillow's and libtiff's, so that a picture looks the same whether it is compressed or not.
Only the first picture of a file is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError
from .base import Metadata, Source
from .blocks import Grid, open_grid
from .convert import Converted
from .ifd import Directory, Numbers
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

_WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_FILL_ORDER, _STRIP_OFFSETS, _SAMPLES_PER_PIXEL, _ROWS_PER_STRIP = 266, 273, 277, 278
_STRIP_BYTE_COUNTS, _X_RESOLUTION, _Y_RESOLUTION, _PLANAR_CONFIG = 279, 282, 283, 284
_RESOLUTION_UNIT, _COLOR_MAP, _TILE_WIDTH, _TILE_HEIGHT = 296, 320, 322, 323
_TILE_OFFSETS, _TILE_BYTE_COUNTS, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 324, 325, 338, 339
_ICC_PROFILE, _IMAGE_DEPTH = 34675, 32997


@dataclass(frozen=True)
class _Tags:
    """The tags of a picture that matter here."""

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
    directory = Directory(file)
    if not _plain(directory):
        return None
    tags = _tags(file, directory)
    return _as_picture(prepared(open_grid(file, tags.grid, tags.metadata)), tags)


def _plain(directory: Directory) -> bool:
    """Whether the samples lie in the file as they are, in a form that is known here."""
    number = directory.number
    if number(_COMPRESSION, _UNCOMPRESSED) != _UNCOMPRESSED:
        return False  # whatever else it says is for who decodes it
    photometric = number(_PHOTOMETRIC, -1)
    colours = _COLOURS.get(photometric)
    palette = photometric == _PALETTE
    samples = number(_SAMPLES_PER_PIXEL, 1)
    depths = directory.numbers(_BITS_PER_SAMPLE)
    formats = directory.numbers(_SAMPLE_FORMAT)
    return (
        colours is not None
        and samples >= colours
        and not (palette and samples > 1)
        and depths is not None
        and _all_in(depths, (8,) if palette else (8, 16))
        and (formats is None or _all_in(formats, (_UNSIGNED, _UNDEFINED)))
        and number(_PLANAR_CONFIG, _CHUNKY) in (_CHUNKY, _PLANAR)
        and number(_FILL_ORDER, 1) == 1
        and number(_IMAGE_DEPTH, 1) == 1
    )


def _all_in(values: Numbers, known: tuple[int, ...]) -> bool:
    return bool((values == values[0]).all()) and int(values[0]) in known


def _tags(file: PictureFile, directory: Directory) -> _Tags:
    extra = directory.numbers(_EXTRA_SAMPLES)
    photometric = directory.number(_PHOTOMETRIC, -1)
    palette = None
    if photometric == _PALETTE:
        colours = directory.numbers(_COLOR_MAP)
        if colours is None or colours.size != 3 * 256:
            raise SourceError(f"{file.name}: broken TIFF: its palette has not 256 colours")
        palette = colours.astype(np.uint16).reshape(3, 256)
    kind = "BigTIFF" if directory.big else "TIFF"
    metadata = Metadata(kind, directory.raw(_ICC_PROFILE), _resolution(directory))
    return _Tags(
        grid=_grid(file, directory),
        photometric=photometric,
        extra_samples=None if extra is None else tuple(extra.tolist()),
        palette=palette,
        metadata=metadata,
    )


def _grid(file: PictureFile, directory: Directory) -> Grid:
    number = directory.number
    width, height = number(_WIDTH, 0), number(_HEIGHT, 0)
    samples = number(_SAMPLES_PER_PIXEL, 1)
    tiled = directory.numbers(_TILE_WIDTH) is not None
    block_width = number(_TILE_WIDTH, 0) if tiled else width
    block_height = number(_TILE_HEIGHT, 0) if tiled else number(_ROWS_PER_STRIP, height)
    if min(width, height, block_width, block_height) < 1:
        raise SourceError(f"{file.name}: broken TIFF: the picture or its blocks have no pixels")
    offsets = directory.numbers(_TILE_OFFSETS if tiled else _STRIP_OFFSETS)
    counts = directory.numbers(_TILE_BYTE_COUNTS if tiled else _STRIP_BYTE_COUNTS)
    none = np.empty(0, np.uint64)
    return Grid(
        width=width,
        height=height,
        bands=samples,
        dtype=np.dtype(f"{directory.byteorder}u{number(_BITS_PER_SAMPLE, 8) // 8}"),
        block_width=block_width,
        block_height=block_height if tiled else min(block_height, height),
        planar=number(_PLANAR_CONFIG, _CHUNKY) == _PLANAR and samples > 1,
        whole=tiled,
        offsets=none if offsets is None else offsets,
        counts=none if counts is None else counts,
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


def _resolution(directory: Directory) -> tuple[float, float] | None:
    unit = directory.numbers(_RESOLUTION_UNIT)
    factor = _PER_INCH.get(2 if unit is None else int(unit[0]))
    x, y = directory.rational(_X_RESOLUTION), directory.rational(_Y_RESOLUTION)
    if factor is None or x is None or y is None or not (all(x) and all(y)):
        return None
    return factor * x[0] / x[1], factor * y[0] / y[1]
