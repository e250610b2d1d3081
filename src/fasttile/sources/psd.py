"""PSD and PSB: the flattened composite, read by rows, raw or in PackBits.

Channels are stored one after the other. Uncompressed rows are read through the map of the file;
packed ones are found by the table of their lengths, so that rows are read in any order. Layers are
not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fasttile import _runs
from fasttile.abc.source import Metadata, Source
from fasttile.errors import SourceError, TruncatedError
from fasttile.formats.psd import (
    BITMAP,
    CMYK,
    DUOTONE,
    GREY,
    INDEXED,
    LAB,
    MULTICHANNEL,
    PACKBITS,
    RAW,
    RGB,
    PsdHeader,
    read_psd_header,
)
from fasttile.geometry import Region
from fasttile.options.read import ReadOptions, likely_pixels
from fasttile.sources.conversions import (
    Conversion,
    ConvertedSource,
    Croppable,
    apply_palette,
    cmyk_to_rgb,
    lookup_table,
)
from fasttile.sources.transforms import fill_missing_rows
from fasttile.storage.random_access import SourceFile
from fasttile.types import Pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_SIDE = 300_000  # pixels, of PSB
_ROWS = 64  # per request

_COLOURS = {BITMAP: 1, GREY: 1, INDEXED: 1, RGB: 3, CMYK: 4, DUOTONE: 1, LAB: 3}
_DEPTHS = {BITMAP: (1,), INDEXED: (8,)}  # others: 8 and 16
_NAMES = {
    BITMAP: "1 bit",
    GREY: "grey",
    INDEXED: "palette",
    RGB: "RGB",
    CMYK: "CMYK",
    MULTICHANNEL: "multichannel",
    DUOTONE: "duotone",
    LAB: "CIELab",
}
_PLAIN_MODES = (GREY, RGB)  # that bands and dtype describe


@dataclass(frozen=True)
class _Composite:
    """The places of an image's rows in its file.

    Attributes:
        file: The PSD.
        header: Its header.
        bands: Number of channels that are used.
        offsets: Of each row of each band, and of the end of the band's last row, in bytes; shape
            (bands, height + 1).
        available_rows: Number of rows from the top that are in the file in all bands.
    """

    file: SourceFile
    header: PsdHeader
    bands: int
    offsets: NDArray[np.int64]
    available_rows: int


def open_psd(file: SourceFile, read_options: ReadOptions) -> Source:
    """Open the composite of a PSD or PSB; the source takes the file over.

    Transparency is that of the composite; Photoshop lays it on white, which is undone. Other
    channels are saved selections and spot colours; they are left out, with a note. CMYK and Lab are
    as in a TIFF; samples of Lab of 16 bits become 8 bits.

    Raises:
        SourceError: The file is damaged, has no composite, or is of a kind that is not read.
    """
    header = read_psd_header(file.stream, file.size, file.name)
    _check_kind(header, file.name)
    read_options.check_only_page(file.name, ": layers are not read; it has 1")
    colours = _COLOURS[header.mode]
    has_alpha = header.has_transparency and header.channels > colours
    bands = colours + (has_alpha and header.mode not in (BITMAP, INDEXED))
    codec = "none" if header.compression == RAW else "packbits"
    likely_max = likely_pixels(codec, file.size, header.depth * bands)
    read_options.check_pixels(file.name, header.width, header.height, likely_max)
    composite = _locate_rows(file, header, bands)
    if composite.available_rows < header.height and not read_options.allow_truncated:
        raise _missing_rows(composite, 0)
    extra = header.channels - bands
    metadata = Metadata(
        header.kind,
        None if header.mode == LAB else header.icc_profile,
        header.resolution,
        stored_as="" if header.mode in _PLAIN_MODES else _NAMES[header.mode],
    ).with_notes(
        *header.notes,
        f"{extra} extra channel{'s' if extra > 1 else ''} left out: saved selections or spot "
        "colours"
        if extra
        else None,
        "a duotone is read as its grey image" if header.mode == DUOTONE else None,
    )
    source: Source = PsdSource(composite, metadata)
    keep_cmyk = read_options.keep_cmyk and metadata.has_cmyk_profile
    for conversion in _conversions(header, bands, source.dtype, keep_cmyk=keep_cmyk):
        source = ConvertedSource(source, conversion)
    source.is_cmyk = header.mode == CMYK and keep_cmyk
    return fill_missing_rows(source, read_options)


def _check_kind(header: PsdHeader, name: str) -> None:
    """Refuse what is not read.

    Raises:
        SourceError: It is something of that kind.
    """
    kind, colours = header.kind, _COLOURS.get(header.mode)
    mode = _NAMES.get(header.mode, f"mode {header.mode}")
    if max(header.width, header.height) > _MAX_SIDE or 0 in (header.width, header.height):
        raise SourceError(
            f"{name}: broken {kind}: {header.width}×{header.height} pixels; expected 1 to "
            f"{_MAX_SIDE:,} a side"
        )
    if not header.has_composite:
        raise SourceError(
            f"{name}: a {kind} without its composite image, only layers are in it; save it in "
            "Photoshop with 'Maximize Compatibility', or use psd-tools export FILE.psd IMAGE.tif"
        )
    if colours is None or header.depth not in _DEPTHS.get(header.mode, (8, 16)):
        raise SourceError(
            f"{name}: a {kind} of {mode}, {header.depth} bits, is not read; make it RGB, grey, "
            "CMYK or Lab of 8 or 16 bits in Photoshop (Image > Mode), or save it as TIFF"
        )
    if header.channels < colours:
        raise SourceError(
            f"{name}: broken {kind}: {header.channels} channels; {mode} has {colours}"
        )
    if header.mode == INDEXED and len(header.palette) != 768:
        raise SourceError(f"{name}: broken {kind}: its palette has not 256 colours")
    if header.compression not in (RAW, PACKBITS):
        raise SourceError(
            f"{name}: a {kind} with compression {header.compression} of its composite is not read; "
            "save it again in Photoshop"
        )


def _locate_rows(file: SourceFile, header: PsdHeader, bands: int) -> _Composite:
    """Find the rows of the first bands.

    Raises:
        SourceError: The table of their lengths is not complete.
    """
    height, row_bytes = header.height, header.row_bytes
    if header.compression == PACKBITS:
        size = 4 if header.is_psb else 2
        start = header.offset + header.channels * height * size
        file.require_size(start, f"the table of {header.channels * height:,} rows")
        file.stream.seek(header.offset)
        table = file.stream.read(bands * height * size)
        lengths = np.frombuffer(table, f">u{size}").reshape(bands, height).astype(np.int64)
        # Two bytes for each one is the worst that an encoder can do.
        is_broken = (lengths == 0) | (lengths > 2 * row_bytes + 2)
    else:
        start = header.offset
        lengths = np.full((bands, height), row_bytes, np.int64)
        is_broken = np.zeros((bands, height), bool)
    ends = start + np.cumsum(lengths).reshape(bands, height)
    offsets = np.column_stack([ends[:, 0] - lengths[:, 0], ends])
    is_missing = (is_broken | (ends > file.size)).any(axis=0)
    available = int(is_missing.argmax()) if is_missing.any() else height
    return _Composite(file, header, bands, offsets, available)


def _missing_rows(composite: _Composite, top: int) -> TruncatedError:
    rows, header = composite.available_rows, composite.header
    return TruncatedError(
        f"{composite.file.name}: broken {header.kind}: rows from {rows} of {header.height} on are "
        "not in the file (--allow-truncated fills them with background)",
        max(0, rows - top),
    )


class PsdSource(Croppable):
    """The stored samples of a composite, chunky and in native byte order."""

    random_access = has_parallel_regions = True
    preferred_rows = _ROWS

    def __init__(
        self, composite: _Composite, metadata: Metadata, region: Region | None = None
    ) -> None:
        self.name, self.metadata = composite.file.name, metadata
        self._composite, header = composite, composite.header
        self._region = region or Region(0, 0, header.width, header.height)
        self.width, self.height = self._region.width, self._region.height
        self.bands = composite.bands
        self.dtype = np.dtype(np.uint16 if header.depth == 16 else np.uint8)
        self._buffer: Pixels = np.empty((0, self.width, self.bands), self.dtype)
        self._unpacked = np.empty((0, header.row_bytes), np.uint8)
        rows = min(_ROWS, self.height)
        row_bytes = self.width * self.bands * self.dtype.itemsize + header.row_bytes
        self.memory_bytes = rows * row_bytes + composite.offsets.nbytes

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1; valid until the next call.

        Raises:
            TruncatedError: A row is missing or broken.
        """
        if len(self._buffer) < y1 - y0:
            self._buffer = np.empty((y1 - y0, self.width, self.bands), self.dtype)
        out = self._buffer[: y1 - y0]
        self.read(y0, out)
        return out

    def read(self, y0: int, out: Pixels) -> None:
        """Write the rows from y0 on into out."""
        composite, top = self._composite, self._region.y + y0
        if top + len(out) > composite.available_rows:
            raise _missing_rows(composite, self._region.y)
        good_rows = len(out)
        for band in range(self.bands):
            good_rows = min(good_rows, self._copy_band(band, top, out[..., band]))
        if good_rows < len(out):
            raise TruncatedError.from_row(
                f"{self.name}: broken {composite.header.kind}",
                top + good_rows,
                "the data of a row do not have its length",
                top=self._region.y,
            )

    def crop(self, region: Region) -> Source:
        """A source that returns only the columns of the region."""
        return PsdSource(self._composite, self.metadata, region.shifted(*self._region[:2]))

    def check_intact(self) -> None:
        """Check that the file was not cut short."""
        self._composite.file.check_intact()

    def close(self) -> None:
        """Close the file."""
        self._composite.file.close()

    def _copy_band(self, band: int, top: int, out: NDArray[Any]) -> int:
        """Copy rows of a band from the row `top` on; return the number of good ones."""
        composite, rows = self._composite, len(out)
        file, header = composite.file, composite.header
        row_bytes, depth = header.row_bytes, header.depth
        offsets = composite.offsets[band, top : top + rows + 1]
        start, good_rows = int(offsets[0]), rows
        byte = np.dtype(np.uint8)
        first_byte = 0
        if header.compression == PACKBITS:
            size = int(offsets[-1]) - start
            data = file.view(start, (1, size, 1), byte, size)
            file.populate(data)
            if len(self._unpacked) < rows:
                self._unpacked = np.empty((rows, row_bytes), np.uint8)
            stored = self._unpacked[:rows]
            good_rows = _runs.unpack_packbits(data[0, :, 0], offsets - start, stored)
        else:
            first_byte, end = self._region.x * depth // 8, -(-self._region.right * depth // 8)
            data = file.view(start, (rows, row_bytes, 1), byte, row_bytes)[:, first_byte:end]
            file.populate(data)
            stored = data[..., 0]
        samples = np.unpackbits(stored, axis=1) if depth == 1 else stored.view(f">u{depth // 8}")
        left = self._region.x - first_byte * 8 // depth
        out[...] = samples[:, left : left + self.width]
        file.discard(data)
        return good_rows


def _conversions(
    header: PsdHeader, bands: int, dtype: np.dtype[Any], *, keep_cmyk: bool
) -> list[Conversion]:
    """The conversions of stored samples to pixels, in order."""
    top = int(np.iinfo(dtype).max)
    if header.mode == BITMAP:
        return [lookup_table(1, np.array([255, 0] + [0] * 254, np.uint8))]
    if header.mode == INDEXED:
        palette = np.frombuffer(header.palette, np.uint8).reshape(3, 256).T
        if header.transparent_index is not None and header.transparent_index < 256:
            alpha = np.full((256, 1), 255, np.uint8)
            alpha[header.transparent_index] = 0
            palette = np.hstack([palette, alpha])
        return [apply_palette(np.ascontiguousarray(palette))]
    conversions = []
    if bands > _COLOURS[header.mode]:
        white = [top] * (bands - 1)
        if header.mode == LAB:
            white[1:] = [top // 2 + 1] * 2
        conversions.append(_remove_white(white, dtype))
    if header.mode == CMYK:
        values = np.arange(top + 1).astype(dtype)
        conversions.append(lookup_table(bands, values[::-1], values if bands == 5 else None))
        if not keep_cmyk:
            conversions.append(cmyk_to_rgb(bands, dtype))
    if header.mode == LAB:
        conversions.append(_lab_to_srgb(bands, dtype))
    return conversions


def _remove_white(white: list[int], dtype: np.dtype[Any]) -> Conversion:
    """Undo the white that Photoshop lays under transparent pixels: white + (c - white) / alpha.

    Results are rounded half up and clipped; where alpha is 0 the colour stays.

    Args:
        white: The samples of white.
        dtype: uint8 or uint16.
    """
    top = int(np.iinfo(dtype).max)

    def write(stored: Pixels, out: Pixels) -> None:
        alpha = stored[..., -1].astype(np.int64)
        partial = (alpha > 0) & (alpha < top)
        out[...] = stored
        if not partial.any():
            return
        for band, ground in enumerate(white):
            seen = alpha[partial]
            shift = (stored[..., band][partial].astype(np.int64) - ground) * top
            out[..., band][partial] = np.clip(ground + (2 * shift + seen) // (2 * seen), 0, top)

    return Conversion(len(white) + 1, dtype, write, "transparent pixels taken off their white")


def _lab_to_srgb(bands: int, dtype: np.dtype[Any]) -> Conversion:
    """CIELab (D50; a and b with half the range added) as sRGB of 8 bits, by LittleCMS."""
    from PIL import Image, ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    transform: Any = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
    signs = np.array([0, 128, 128], np.uint8)  # Pillow's raw Lab is signed

    def write(stored: Pixels, out: Pixels) -> None:
        if dtype == np.uint16:
            stored = ((stored.astype(np.uint32) + 128) // 257).astype(np.uint8)
        height, width = stored.shape[:2]
        raw = (stored[..., :3] ^ signs).tobytes()
        image = Image.frombytes("LAB", (width, height), raw)
        out[..., :3] = np.asarray(transform.apply(image))
        out[..., 3:] = stored[..., 3:]

    return Conversion(bands, np.dtype(np.uint8), write, "converted from CIELab")
