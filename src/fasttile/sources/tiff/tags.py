"""Tags of a TIFF image: the grid of its blocks, and their samples.

Where TIFF 6.0 leaves a choice, the meaning agrees with Pillow and libtiff.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fasttile.abc.source import Metadata
from fasttile.errors import SourceError, printable
from fasttile.formats.tiff import GEOREFERENCE_TAGS, Ifd
from fasttile.options.read import ReadOptions, likely_pixels
from fasttile.sources.tiff.grid import BlockGrid, estimate_byte_counts
from fasttile.sources.tiff.pages import SelectedImage
from fasttile.storage.budget import BUDGET
from fasttile.storage.random_access import SourceFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNCOMPRESSED, JPEG = 1, 7
MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, CMYK, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
COLOURS = {MIN_IS_WHITE: 1, MIN_IS_BLACK: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}
"""Number of colour samples per pixel, for each supported PhotometricInterpretation."""

_LIKELY_CODECS = {UNCOMPRESSED: "none", 2: "fax", 3: "fax", 4: "fax", 5: "lzw", 6: "jpeg"}
_LIKELY_CODECS |= {JPEG: "jpeg", 8: "deflate", 32946: "deflate", 32773: "packbits", 34925: "lzma"}
_STORED_NAMES = {MIN_IS_WHITE: "min-is-white", PALETTE: "palette", CMYK: "CMYK", YCBCR: "YCbCr"}
_KIND_NAMES = {1: "numbers", 2: "signed numbers", 3: "floats"}
_SAMPLE_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}  # of SampleFormat; 4 is undefined
_FLOAT_BITS, _SIGNED_BITS = (16, 32, 64), (8, 16, 32)
_CHUNKY, _PLANAR = 1, 2
_INCH_FACTORS = {2: 1.0, 3: 2.54}  # ResolutionUnit to the factor for pixels per inch

_WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_DESCRIPTION = 270
_FILL_ORDER, _STRIP_OFFSETS, _ORIENTATION, _SAMPLES_PER_PIXEL = 266, 273, 274, 277
_ROWS_PER_STRIP, _STRIP_BYTE_COUNTS, _X_RESOLUTION, _Y_RESOLUTION = 278, 279, 282, 283
_PLANAR_CONFIG, _T4_OPTIONS, _RESOLUTION_UNIT, _PREDICTOR, _COLOR_MAP = 284, 292, 296, 317, 320
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTE_COUNTS = 322, 323, 324, 325
_INK_SET, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _JPEG_TABLES = 332, 338, 339, 347
_YCBCR_COEFFICIENTS, _YCBCR_SUBSAMPLING, _REFERENCE_BLACK_WHITE = 529, 530, 532
_PLAIN_YCBCR = (UNCOMPRESSED, 5, 8, 32946, 32773, 34925, 34926, 50000)  # codecs of bytes
_IMAGE_DEPTH, _ICC_PROFILE, _LERC_PARAMETERS, _GDAL_NODATA = 32997, 34675, 50674, 42113


class YcbcrUnits(NamedTuple):
    """Meaning of YCbCr samples: TIFF 6.0, section 21.

    Attributes:
        across, down: Pixels that share a value of chroma, in a row and in a column.
        luma: Coefficients of red, green and blue.
        reference: Codes of black and white of Y, Cb and Cr.
    """

    across: int
    down: int
    luma: tuple[float, ...]
    reference: tuple[float, ...]

    @property
    def is_subsampled(self) -> bool:
        """True if pixels share chroma."""
        return (self.across, self.down) != (1, 1)

    @property
    def is_valid(self) -> bool:
        """True if TIFF has this subsampling, and the coefficients can be used."""
        return {self.across, self.down} <= {1, 2, 4} and self.luma[1] > 0

    def row_bytes(self, width: int) -> int:
        """Bytes of a row of data units, which is `down` rows of pixels."""
        return -(-width // self.across) * (self.across * self.down + 2)


def _read_ycbcr(directory: Ifd) -> YcbcrUnits:
    sides = directory.numbers(_YCBCR_SUBSAMPLING)
    across, down = (2, 2) if sides is None or len(sides) != 2 else map(int, sides)
    luma = directory.reals(_YCBCR_COEFFICIENTS, (0.299, 0.587, 0.114))
    reference = directory.reals(_REFERENCE_BLACK_WHITE, (0, 255, 128, 255, 128, 255))
    return YcbcrUnits(across, down, luma, reference)


@dataclass(frozen=True)
class Tags:
    """The tags of an image that its source depends on.

    Attributes:
        grid: The blocks; for samples of fewer than 8 bits, or of 9 to 15, with the dtype that
            they are unpacked to.
        bits: Of a sample.
        photometric: PhotometricInterpretation; one of `COLOURS`.
        extra_samples: The kinds of the samples that are not colours, or None without the tag.
        palette: The colours, shape (3, 2**bits), or None.
        metadata: Of the source.
        byteorder: "<" or ">".
        compression, predictor, fill_order: As in TIFF 6.0.
        jpeg_tables: The tables that all JPEG blocks share, or None.
        t4_options: Of Group 3 fax.
        lerc_compression: Compression around LERC: 0 none, 1 Deflate, 2 Zstandard.
        ycbcr: The meaning of YCbCr samples that are no JPEG, or None.
        nodata: The value of missing samples that GDAL has written, or None.
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
    ycbcr: YcbcrUnits | None = None
    nodata: int | float | None = None


def read_tags(file: SourceFile, selected: SelectedImage, *, is_mask: bool = False) -> Tags | None:
    """Read the tags of an image; None if only Pillow may support it.

    Args:
        file: The TIFF.
        selected: The image.
        is_mask: True for a transparency mask, whose samples are read as grey.

    Raises:
        SourceError: The tags are broken, or neither supported here nor by Pillow.
    """
    directory = selected.directory
    number = directory.number
    photometric = MIN_IS_BLACK if is_mask else number(_PHOTOMETRIC, -1)
    bits = number(_BITS_PER_SAMPLE, 1) if photometric in (CIELAB, ICCLAB) else 8
    if photometric == ICCLAB or bits != 8:
        name = "ICCLab" if photometric == ICCLAB else "CIELab"
        raise SourceError(
            f"{file.name}: {name} of {bits} bits is not supported; expected CIELab of 8 bits or RGB"
        )
    dtype = _sample_dtype(directory)
    if dtype is None or not _is_supported(directory, photometric, dtype):
        return None
    bits = number(_BITS_PER_SAMPLE, 1)
    palette = None
    if photometric == PALETTE:
        colours = directory.numbers(_COLOR_MAP)
        if colours is None or colours.size != 3 * 2**bits:
            raise SourceError(f"{file.name}: broken TIFF: its palette has not {2**bits} colours")
        palette = colours.astype(np.uint16).reshape(3, 2**bits)
    extra = directory.numbers(_EXTRA_SAMPLES)
    lerc = directory.numbers(_LERC_PARAMETERS)
    return Tags(
        grid=_read_grid(file, directory, dtype),
        bits=bits,
        photometric=photometric,
        extra_samples=None if extra is None else tuple(extra.tolist()),
        palette=palette,
        metadata=_tiff_metadata(selected, photometric, bits),
        byteorder=directory.byteorder,
        compression=number(_COMPRESSION, UNCOMPRESSED),
        predictor=number(_PREDICTOR, 1),
        fill_order=number(_FILL_ORDER, 1),
        jpeg_tables=directory.raw(_JPEG_TABLES),
        t4_options=number(_T4_OPTIONS, 0),
        lerc_compression=int(lerc[1]) if lerc is not None and len(lerc) > 1 else 0,
        ycbcr=_read_ycbcr(directory) if photometric == YCBCR else None,
        nodata=read_nodata(directory),
    )


def read_nodata(directory: Ifd) -> int | float | None:
    """The value of missing samples in GDAL's tag; None without one, or if it is no number."""
    text = _nodata_text(directory)
    with suppress(ValueError):
        return int(text) if text.removeprefix("-").isdecimal() else float(text)
    return None


def _nodata_text(directory: Ifd) -> str:
    """The text of GDAL's tag, with NaN and infinity as Python writes them; "" without one."""
    if _GDAL_NODATA not in directory.tags:
        return ""
    raw = directory.raw(_GDAL_NODATA)
    text = (raw or b"").partition(b"\0")[0].decode("latin-1").strip()
    # As older C libraries of Windows write them.
    return re.sub(r"1\.#(QNAN|SNAN|IND)", "nan", text).replace("1.#INF", "inf")


_MAX_NAMED_DEPTHS = 4
"""The different bits per sample that a message names; a damaged tag may have thousands."""


def read_compression(directory: Ifd) -> int:
    """The compression of an image, as its number in the tag."""
    return directory.number(_COMPRESSION, UNCOMPRESSED)


def describe_samples(directory: Ifd) -> str:
    """What the samples of an image are, for the user: "CMYK, 4 × 32-bit floats, compression 5"."""
    number, photometric = directory.number, directory.number(_PHOTOMETRIC, -1)
    names = {MIN_IS_BLACK: "grey", RGB: "RGB", 4: "a mask"}
    names |= _STORED_NAMES | {CIELAB: "CIELab", 10: "ITULab"}
    name = names.get(photometric, f"photometric interpretation {photometric}")
    bits, formats = directory.numbers(_BITS_PER_SAMPLE), directory.numbers(_SAMPLE_FORMAT)
    found = sorted({1} if bits is None else {int(one) for one in bits})
    depths = "+".join(
        [*map(str, found[:_MAX_NAMED_DEPTHS]), *["…"] * (len(found) > _MAX_NAMED_DEPTHS)]
    )
    kind = _KIND_NAMES.get(1 if formats is None else int(formats[0]), "numbers of an unknown kind")
    planar = ", in planes" if number(_PLANAR_CONFIG, _CHUNKY) == _PLANAR else ""
    samples, compression = number(_SAMPLES_PER_PIXEL, 1), read_compression(directory)
    return f"{name}, {samples} × {depths}-bit {kind}{planar}, compression {compression}"


def has_plain_samples(directory: Ifd) -> bool:
    """True for grey or RGB of unsigned 8 bits, perhaps with alpha, which no decoder converts."""
    bits, number = directory.numbers(_BITS_PER_SAMPLE), directory.number
    is_plain = (
        number(_PHOTOMETRIC, -1) in (MIN_IS_BLACK, RGB) and number(_SAMPLES_PER_PIXEL, 1) <= 4
    )
    is_unsigned = number(_SAMPLE_FORMAT, 1) == 1
    return is_plain and is_unsigned and bits is not None and bool((bits == 8).all())


def declares_extra_samples(directory: Ifd) -> bool:
    """True if an image says which samples it has beside its colours: alpha or others."""
    return _EXTRA_SAMPLES in directory.tags


def check_claims(file: SourceFile, directory: Ifd, read_options: ReadOptions) -> int:
    """Refuse an image or blocks of more pixels than the file can hold, and far larger blocks.

    A block may have more pixels than the image: `BUDGET.tile_pixels`, or four times as many.

    Returns:
        The most pixels that the file can hold.

    Raises:
        SourceError: There are more; the number in the message allows both.
    """
    number = directory.number
    width, height = number(_WIDTH, 0), number(_HEIGHT, 0)
    block_width, block_height = number(_TILE_WIDTH, width), number(_TILE_HEIGHT, 1)
    bits = directory.numbers(_BITS_PER_SAMPLE)
    likely_max = likely_pixels(
        _LIKELY_CODECS.get(read_compression(directory), ""),
        file.size,
        (1 if bits is None else int(bits.max())) * number(_SAMPLES_PER_PIXEL, 1),
        block_width,
    )
    # The larger one first, as its number is that of the hint.
    if block_width * block_height > width * height:
        largest = min(likely_max, max(4 * width * height, BUDGET.tile_pixels))
        read_options.check_pixels(file.name, block_width, block_height, largest, "tile")
    read_options.check_pixels(file.name, width, height, likely_max)
    return likely_max


def _sample_dtype(directory: Ifd) -> np.dtype[np.generic] | None:
    """Dtype of the unpacked samples, in the byte order of the file."""
    depths, formats = directory.numbers(_BITS_PER_SAMPLE), directory.numbers(_SAMPLE_FORMAT)
    if any(values is not None and (values != values[0]).any() for values in (depths, formats)):
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
    """True if the samples have a meaning that is supported here."""
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
        compression, units = read_compression(directory), _read_ycbcr(directory)
        is_planar = planar == _PLANAR
        if samples != colours or (is_planar and (compression == JPEG or units.is_subsampled)):
            return False
        is_plain = (
            compression in _PLAIN_YCBCR and bits == 8 and dtype.kind == "u" and units.is_valid
        )
        if compression != JPEG and not is_plain:
            return False
    return number(_FILL_ORDER, 1) in (1, 2) and number(_IMAGE_DEPTH, 1) == 1


def _tiff_metadata(selected: SelectedImage, photometric: int, bits: int) -> Metadata:
    directory = selected.directory
    stored = [_STORED_NAMES[photometric]] if photometric in _STORED_NAMES else []
    if photometric == PALETTE or bits % 8:
        stored.append(f"{bits} bit")
    unit = directory.numbers(_RESOLUTION_UNIT)
    factor = _INCH_FACTORS.get(2 if unit is None else int(unit[0]))
    x, y = directory.rational(_X_RESOLUTION), directory.rational(_Y_RESOLUTION)
    resolution = None
    if factor is not None and x is not None and y is not None and all(x) and all(y):
        resolution = factor * x[0] / x[1], factor * y[0] / y[1]
    if _DESCRIPTION in directory.tags:
        resolution = _described_resolution(directory) or resolution
    nodata_note = None
    if (text := _nodata_text(directory)) and read_nodata(directory) is None:
        nodata_note = f"GDAL_NODATA '{printable(text[:40])}' is no number: ignored"
    orientation = directory.number(_ORIENTATION, 1)
    metadata = Metadata(
        "BigTIFF" if directory.is_bigtiff else "TIFF",
        directory.raw(_ICC_PROFILE),
        resolution,
        notes=tuple(note for note in (selected.note, nodata_note) if note),
        stored_as=", ".join(stored),
        pages=selected.page_count,
        page=selected.page_index + 1,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        sample_bits=bits if 8 < bits < 16 else 0,
    )
    return with_georeference(metadata, directory)


def with_georeference(metadata: Metadata, directory: Ifd) -> Metadata:
    """The metadata of an image with its georeference, or with a note if that is damaged."""
    if not directory.tags & GEOREFERENCE_TAGS:
        return metadata
    from fasttile.formats.geotiff import read_georeference

    try:
        return replace(metadata, georeference=read_georeference(directory))
    except SourceError as error:
        return metadata.with_notes(f"georeference left out: {error}")


def _described_resolution(directory: Ifd) -> tuple[float, float] | None:
    """Pixels per inch of an image by its description, which is exact where tags may be absent."""
    from fasttile.formats.ome import described_resolution

    with suppress(SourceError):  # the description is damaged; the pixels may not be
        description = directory.raw(_DESCRIPTION) or b""
        size = directory.number(_WIDTH, 0), directory.number(_HEIGHT, 0)
        return described_resolution(description, *size)
    return None


def _read_grid(file: SourceFile, directory: Ifd, dtype: np.dtype[np.generic]) -> BlockGrid:
    number = directory.number
    width, height = number(_WIDTH, 0), number(_HEIGHT, 0)
    samples = number(_SAMPLES_PER_PIXEL, 1)
    tiled = directory.numbers(_TILE_WIDTH) is not None
    block_width = number(_TILE_WIDTH, 0) if tiled else width
    block_height = number(_TILE_HEIGHT, 0) if tiled else number(_ROWS_PER_STRIP, height)
    places = _find_place_tags(directory, is_tiled=tiled)
    if min(width, height, block_width, block_height) < 1:
        raise SourceError(f"{file.name}: broken TIFF: the image or its blocks have no pixels")
    offsets, counts = (directory.numbers(tag) for tag in places)
    none = np.empty(0, np.uint64)
    if offsets is not None and len(offsets) and not offsets.any():
        raise SourceError(
            f"{file.name}: none of its {len(offsets):,} strips or tiles is in the file; "
            "write it again"
        )
    grid = BlockGrid(
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
    row_bytes = None
    if number(_COMPRESSION, UNCOMPRESSED) == UNCOMPRESSED:
        row_bytes = -(-grid.block_width * grid.block_bands * number(_BITS_PER_SAMPLE, 1) // 8)
        if number(_PHOTOMETRIC, -1) == YCBCR and not grid.is_planar:
            units = _read_ycbcr(directory)
            row_bytes = -(-units.row_bytes(grid.block_width) // units.down)
    return estimate_byte_counts(grid, file.size, row_bytes)


def _find_place_tags(directory: Ifd, *, is_tiled: bool) -> tuple[int, int]:
    """The tags of offsets and sizes; libtiff, too, takes those of strips for tiles, and back."""
    tiles, strips = (_TILE_OFFSETS, _TILE_BYTE_COUNTS), (_STRIP_OFFSETS, _STRIP_BYTE_COUNTS)
    usual, other = (tiles, strips) if is_tiled else (strips, tiles)
    return other if usual[0] not in directory.tags and other[0] in directory.tags else usual
