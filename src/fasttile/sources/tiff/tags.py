"""What the tags of a TIFF's image say: where its blocks lie, and what their samples are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fasttile.abc.source import Metadata
from fasttile.errors import SourceError
from fasttile.formats.tiff import Ifd, TagValues
from fasttile.options.read import ReadOptions
from fasttile.sources.conversions import (
    Conversion,
    apply_palette,
    cmyk_to_rgb,
    invert_grey,
    scale_to_8bit,
    unpremultiply,
)
from fasttile.sources.tiff.grid import BlockGrid
from fasttile.sources.tiff.pages import SelectedImage
from fasttile.storage.random_access import SourceFile

UNCOMPRESSED, JPEG = 1, 7
MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, CMYK, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
COLOURS = {MIN_IS_WHITE: 1, MIN_IS_BLACK: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}
"""How many samples of a pixel are colours, for each PhotometricInterpretation that is known."""

_SAMPLE_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}  # of SampleFormat; 4 is undefined
_FLOAT_BITS, _SIGNED_BITS = (16, 32, 64), (8, 16, 32)
_CHUNKY, _PLANAR = 1, 2
_INCH_FACTORS = {2: 1.0, 3: 2.54}  # what makes a ResolutionUnit's numbers pixels per inch

_WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_FILL_ORDER, _STRIP_OFFSETS, _ORIENTATION, _SAMPLES_PER_PIXEL = 266, 273, 274, 277
_ROWS_PER_STRIP, _STRIP_BYTE_COUNTS, _X_RESOLUTION, _Y_RESOLUTION = 278, 279, 282, 283
_PLANAR_CONFIG, _T4_OPTIONS, _RESOLUTION_UNIT, _PREDICTOR, _COLOR_MAP = 284, 292, 296, 317, 320
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTE_COUNTS = 322, 323, 324, 325
_INK_SET, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _JPEG_TABLES = 332, 338, 339, 347
_IMAGE_DEPTH, _ICC_PROFILE, _LERC_PARAMETERS = 32997, 34675, 50674


@dataclass(frozen=True)
class Tags:
    """The tags of an image that matter here.

    Attributes:
        grid: Where its blocks lie; of samples of fewer than 8 bits, or of 9 to 15, it has the
            dtype that they are unpacked to.
        bits: Of a sample.
        photometric: PhotometricInterpretation; one of `COLOURS`.
        extra_samples: What the samples are that are no colours, if it is said.
        palette: The colours, shape (3, 2**bits), if there is one.
        metadata: Of the source to come.
        byteorder: "<" or ">".
        compression, predictor, fill_order: As in TIFF 6.0.
        jpeg_tables: What all JPEG blocks have in common.
        t4_options: Of Group 3 fax.
        lerc: Which compression lies around LERC: 0 none, 1 Deflate, 2 Zstandard.
    """

    grid: BlockGrid
    bits: int
    photometric: int
    extra_samples: tuple[int, ...] | None
    palette: NDArray[np.uint16] | None
    metadata: Metadata
    byteorder: str
    compression: int
    predictor: int
    fill_order: int
    jpeg_tables: bytes | None
    t4_options: int
    lerc_compression: int


def read_tags(file: SourceFile, selected: SelectedImage) -> Tags | None:
    """The tags of an image, or None if it is of a form that nobody here knows.

    Raises:
        SourceError: They are broken, or of a form that Pillow does not know either.
    """
    directory = selected.directory
    number = directory.number
    photometric = number(_PHOTOMETRIC, -1)
    _check_lab(file, directory, photometric)
    dtype = _sample_dtype(directory)
    if dtype is None or not _is_supported(directory, photometric, dtype):
        return None
    bits = number(_BITS_PER_SAMPLE, 1)
    extra = directory.numbers(_EXTRA_SAMPLES)
    lerc = directory.numbers(_LERC_PARAMETERS)
    return Tags(
        grid=_read_grid(file, directory, dtype),
        bits=bits,
        photometric=photometric,
        extra_samples=None if extra is None else tuple(extra.tolist()),
        palette=_read_palette(file, directory, bits) if photometric == PALETTE else None,
        metadata=_tiff_metadata(selected, photometric, bits),
        byteorder=directory.byteorder,
        compression=number(_COMPRESSION, UNCOMPRESSED),
        predictor=number(_PREDICTOR, 1),
        fill_order=number(_FILL_ORDER, 1),
        jpeg_tables=directory.raw(_JPEG_TABLES),
        t4_options=number(_T4_OPTIONS, 0),
        lerc_compression=int(lerc[1]) if lerc is not None and len(lerc) > 1 else 0,
    )


def read_compression(directory: Ifd) -> int:
    """The number of its compression."""
    return directory.number(_COMPRESSION, UNCOMPRESSED)


def _check_lab(file: SourceFile, directory: Ifd, photometric: int) -> None:
    """Pillow takes CIELab of 8 bits, and nobody takes the rest of that family."""
    if photometric not in (CIELAB, ICCLAB):
        return
    bits = directory.number(_BITS_PER_SAMPLE, 1)
    if photometric == ICCLAB or bits != 8:
        name = "ICCLab" if photometric == ICCLAB else "CIELab"
        raise SourceError(
            f"{file.name}: {name} of {bits} bits cannot be read; CIELab of 8 bits or RGB would do"
        )


def _sample_dtype(directory: Ifd) -> np.dtype[np.generic] | None:
    """What the samples are, or are unpacked to, in the file's byte order."""
    depths, formats = directory.numbers(_BITS_PER_SAMPLE), directory.numbers(_SAMPLE_FORMAT)
    if not (_all_equal(depths) and _all_equal(formats)):
        return None
    bits = 1 if depths is None else int(depths[0])
    kind = _SAMPLE_KINDS.get(1 if formats is None else int(formats[0]))
    if kind == "u" and (1 <= bits <= 16 or bits == 32):
        size = 1 if bits <= 8 else 2 if bits <= 16 else 4
    elif (kind == "i" and bits in _SIGNED_BITS) or (kind == "f" and bits in _FLOAT_BITS):
        size = bits // 8
    else:
        return None
    return np.dtype(f"{directory.byteorder}{kind}{size}")


def _is_supported(directory: Ifd, photometric: int, dtype: np.dtype[np.generic]) -> bool:
    """Whether what the samples mean is known here."""
    number = directory.number
    colours = COLOURS.get(photometric)
    samples = number(_SAMPLES_PER_PIXEL, 1)
    bits = number(_BITS_PER_SAMPLE, 1)
    planar = number(_PLANAR_CONFIG, _CHUNKY)
    if colours is None or samples < colours or planar not in (_CHUNKY, _PLANAR):
        return False
    if photometric == PALETTE and (samples > 1 or dtype.kind != "u" or bits > 16):
        return False
    if photometric == CMYK and (bits not in (8, 16) or dtype.kind != "u"):
        return False
    if photometric == CMYK and number(_INK_SET, 1) != 1:
        return False
    if photometric == YCBCR:
        jpeg = number(_COMPRESSION, UNCOMPRESSED) == JPEG
        if not jpeg or samples != colours or (planar == _PLANAR):
            return False
    return number(_FILL_ORDER, 1) in (1, 2) and number(_IMAGE_DEPTH, 1) == 1


def _all_equal(values: TagValues | None) -> bool:
    return values is None or bool((values == values[0]).all())


def _read_palette(file: SourceFile, directory: Ifd, bits: int) -> NDArray[np.uint16]:
    colours = directory.numbers(_COLOR_MAP)
    if colours is None or colours.size != 3 * 2**bits:
        raise SourceError(f"{file.name}: broken TIFF: its palette has not {2**bits} colours")
    return colours.astype(np.uint16).reshape(3, 2**bits)


def _tiff_metadata(selected: SelectedImage, photometric: int, bits: int) -> Metadata:
    directory = selected.directory
    names = {MIN_IS_WHITE: "min-is-white", PALETTE: "palette", CMYK: "CMYK", YCBCR: "YCbCr"}
    stored = [names[photometric]] if photometric in names else []
    if photometric == PALETTE or bits % 8:
        stored.append(f"{bits} bit")
    orientation = directory.number(_ORIENTATION, 1)
    return Metadata(
        "BigTIFF" if directory.is_bigtiff else "TIFF",
        directory.raw(_ICC_PROFILE),
        _tiff_resolution(directory),
        notes=() if selected.note is None else (selected.note,),
        stored_as=", ".join(stored),
        pages=selected.page_count,
        page=selected.page_index + 1,
        orientation=orientation if 1 <= orientation <= 8 else 1,
    )


def _read_grid(file: SourceFile, directory: Ifd, dtype: np.dtype[np.generic]) -> BlockGrid:
    number = directory.number
    width, height = number(_WIDTH, 0), number(_HEIGHT, 0)
    samples = number(_SAMPLES_PER_PIXEL, 1)
    tiled = directory.numbers(_TILE_WIDTH) is not None
    block_width = number(_TILE_WIDTH, 0) if tiled else width
    block_height = number(_TILE_HEIGHT, 0) if tiled else number(_ROWS_PER_STRIP, height)
    if min(width, height, block_width, block_height) < 1:
        raise SourceError(f"{file.name}: broken TIFF: the image or its blocks have no pixels")
    offsets = directory.numbers(_TILE_OFFSETS if tiled else _STRIP_OFFSETS)
    counts = directory.numbers(_TILE_BYTE_COUNTS if tiled else _STRIP_BYTE_COUNTS)
    none = np.empty(0, np.uint64)
    return BlockGrid(
        width=width,
        height=height,
        bands=samples,
        dtype=dtype,
        block_width=block_width,
        block_height=block_height if tiled else min(block_height, height),
        is_planar=number(_PLANAR_CONFIG, _CHUNKY) == _PLANAR and samples > 1,
        is_tiled=tiled,
        offsets=none if offsets is None else offsets,
        byte_counts=none if counts is None else counts,
    )


def _tiff_resolution(directory: Ifd) -> tuple[float, float] | None:
    unit = directory.numbers(_RESOLUTION_UNIT)
    factor = _INCH_FACTORS.get(2 if unit is None else int(unit[0]))
    x, y = directory.rational(_X_RESOLUTION), directory.rational(_Y_RESOLUTION)
    if factor is None or x is None or y is None or not (all(x) and all(y)):
        return None
    return factor * x[0] / x[1], factor * y[0] / y[1]


# What a TIFF's samples mean: the steps that make grey, RGB and alpha of them.
#
# Where TIFF 6.0 leaves a choice, the answer is Pillow's and libtiff's, so that an image looks the
# same whoever decodes it, be it compressed or not.

_ASSOCIATED, _UNASSOCIATED, _COREL_ALPHA = 1, 2, 999


@dataclass(frozen=True)
class SampleLayout:
    """How stored samples become pixels.

    Attributes:
        order: The samples of a pixel that are wanted: its colours, then alpha if there is one.
        left_out: One line for the user, if there are others.
        conversions: What is done to those, one after the other.
        cmyk: Whether what comes out is CMYK.
    """

    sample_order: tuple[int, ...]
    skipped_note: str | None
    conversions: tuple[Conversion, ...]
    is_cmyk: bool


def derive_sample_layout(tags: Tags, read_options: ReadOptions) -> SampleLayout:
    """What the samples of an image mean, and what a user wishes of that.

    Values of fewer than 8 bits are spread over 8. Those of 9 to 15 bits stay as they are: which of
    them are black and white is for the window to say.
    """
    colours = COLOURS[tags.photometric]
    alpha, associated = _find_alpha(tags.grid.bands - colours, tags.extra_samples)
    order = [*range(colours), *([] if alpha is None else [colours + alpha])]
    cmyk = tags.photometric == CMYK and alpha is None and _stays_cmyk(tags, read_options)
    extra = tags.grid.bands - len(order)
    return SampleLayout(
        sample_order=tuple(order),
        skipped_note=f"{extra} extra samples left out" if extra else None,
        conversions=tuple(_conversions(tags, len(order), associated=associated, keep_cmyk=cmyk)),
        is_cmyk=cmyk,
    )


def _conversions(tags: Tags, bands: int, *, associated: bool, keep_cmyk: bool) -> list[Conversion]:
    dtype = tags.grid.dtype.newbyteorder("=")
    if tags.palette is not None:
        return [apply_palette(_palette_to_8bit(tags.palette))]
    steps = []
    top = 2**tags.bits - 1
    if tags.bits < 8:
        steps.append(scale_to_8bit(bands, top))
        top = 255
    if associated and dtype.kind != "i":
        steps.append(unpremultiply(bands, dtype, top))
    if tags.photometric == CMYK and not keep_cmyk:
        steps.append(cmyk_to_rgb(bands, dtype))
    if tags.photometric == MIN_IS_WHITE and dtype.kind != "f":  # of floats nobody knows the white
        steps.append(invert_grey(bands, dtype, top))
    return steps


def _find_alpha(extra: int, kinds: tuple[int, ...] | None) -> tuple[int | None, bool]:
    """Which of the extra samples is alpha, and whether colours were multiplied by it."""
    if kinds is None:
        # Without the tag, one sample too many is alpha in all programs that write it so.
        return (0, False) if extra == 1 else (None, False)
    for number, kind in enumerate(kinds[:extra]):
        if kind in (_ASSOCIATED, _UNASSOCIATED, _COREL_ALPHA):
            return number, kind == _ASSOCIATED
    return None, False


def _stays_cmyk(tags: Tags, read_options: ReadOptions) -> bool:
    return read_options.keep_cmyk and (tags.metadata.icc_profile or b"")[16:20] == b"CMYK"


def _palette_to_8bit(palette: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """The colours of all indices, from 16 bits to 8, as an array (2**bits, 3).

    Some writers put 8-bit values into the tag; libtiff knows them by having no larger ones.
    """
    colours = palette if int(palette.max()) < 256 else palette >> 8
    return np.ascontiguousarray(colours.T, np.uint8)
