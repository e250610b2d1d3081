"""PSD and PSB (large documents): header, resources, and the place of the composite; no pixels.

Source: Adobe Photoshop File Formats Specification (November 2019). All numbers are big-endian.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import BinaryIO

from fasttile.errors import SourceError

BITMAP, GREY, INDEXED, RGB, CMYK, MULTICHANNEL, DUOTONE, LAB = 0, 1, 2, 3, 4, 7, 8, 9
"""Colour modes."""

RAW, PACKBITS = 0, 1
"""Compressions of the composite; 2 and 3 are Deflate."""

_RESOLUTION, _ICC_PROFILE, _TRANSPARENT_INDEX, _VERSION_INFO = 1005, 1039, 1047, 1057
_USED_RESOURCES = (_RESOLUTION, _ICC_PROFILE, _TRANSPARENT_INDEX, _VERSION_INFO)
_RESOURCE_SIGNATURES = (b"8BIM", b"MeSa", b"PHUT", b"AgHg", b"DCSR")
_MAX_RESOURCE_BYTES = 2**25  # one that is larger is refused later
_MAX_BLOCKS = 65_536  # of resources, or of information behind the layers

_LAYER_KEYS = (b"Layr", b"Lr16", b"Lr32")
_TRANSPARENCY_KEYS = (b"Mtrn", b"Mt16", b"Mt32")
_LONG_KEYS = (b"LMsk", b"Alph", b"FMsk", b"lnk2", b"FEid", b"FXid", b"PxSD")
_ALL_LONG_KEYS = frozenset((*_LONG_KEYS, *_LAYER_KEYS, *_TRANSPARENCY_KEYS))
"""Keys of blocks whose length has 8 bytes in a PSB."""


@dataclass
class PsdHeader:
    """All that a PSD says about its composite image.

    Attributes:
        is_psb: True for PSB, whose lengths are longer.
        channels: Number of stored channels: colours, then alpha and others.
        height, width: In pixels.
        depth: Bits of a sample.
        mode: The colour mode.
        palette: Colour mode data: of an indexed image 256 reds, greens and blues.
        icc_profile: The profile, or None.
        resolution: Pixels per inch, horizontal and vertical, or None.
        transparent_index: The index that is transparent, or None.
        has_composite: False if the file says that its composite is missing.
        has_transparency: True if the first channel behind the colours is the transparency of the
            composite; else it is a saved selection or a spot colour.
        compression: Of the composite.
        offset: Of the composite behind the number of its compression, in bytes.
        notes: One line for each part that is damaged and ignored.
    """

    is_psb: bool
    channels: int
    height: int
    width: int
    depth: int
    mode: int
    palette: bytes = b""
    icc_profile: bytes | None = None
    resolution: tuple[float, float] | None = None
    transparent_index: int | None = None
    has_composite: bool = True
    has_transparency: bool = False
    compression: int = RAW
    offset: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Name of the format."""
        return "PSB" if self.is_psb else "PSD"

    @property
    def row_bytes(self) -> int:
        """Bytes of an unpacked row of a channel."""
        return -(-self.width * self.depth // 8)


class _Reader:
    """Reads numbers of a stream, and never more bytes than the file has."""

    def __init__(self, stream: BinaryIO, size: int, name: str) -> None:
        self._stream, self.size, self.name = stream, size, name
        self.position = 0

    def take(self, count: int) -> bytes:
        self._stream.seek(self.position)
        data = self._stream.read(count) if self.position + count <= self.size else b""
        if len(data) < count:
            raise SourceError(f"{self.name}: broken PSD: the file ends within its header")
        self.position += count
        return data

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def section(self, length_size: int) -> int:
        """The end of a section that begins with its length."""
        length = self.number(length_size)
        if self.position + length > self.size:
            raise SourceError(
                f"{self.name}: broken PSD: a part of {length:,} bytes at byte {self.position:,}, "
                f"but the file has {self.size:,}"
            )
        return self.position + length


def read_psd_header(stream: BinaryIO, size: int, name: str) -> PsdHeader:
    """Read all but the pixels of a PSD or PSB.

    Args:
        stream: The file; it is moved.
        size: Its size in bytes.
        name: Its name in messages.

    Raises:
        SourceError: The header is broken.
    """
    reader = _Reader(stream, size, name)
    reader.take(4)
    version = reader.number(2)
    if version not in (1, 2):
        raise SourceError(f"{name}: broken PSD: version {version}; expected 1 (PSD) or 2 (PSB)")
    reader.take(6)
    channels, height, width, depth, mode = (reader.number(size) for size in (2, 4, 4, 2, 2))
    header = PsdHeader(version == 2, channels, height, width, depth, mode)
    end = reader.section(4)
    header.palette = reader.take(min(end - reader.position, 768))
    reader.position = end
    end = reader.section(4)
    _read_resources(reader, end, header)
    reader.position = end
    end = reader.section(8 if header.is_psb else 4)
    header.has_transparency = _find_transparency(reader, end, is_psb=header.is_psb)
    reader.position = end
    header.compression = reader.number(2)
    header.offset = reader.position
    return header


def _read_resources(reader: _Reader, end: int, header: PsdHeader) -> None:
    """Read the image resources that matter, up to the first that is broken."""
    for _ in range(_MAX_BLOCKS):
        start = reader.position
        if end - start < 12:
            return
        signature, kind = reader.take(4), reader.number(2)
        name_bytes = reader.number(1)
        reader.position += name_bytes + (name_bytes + 1) % 2
        data_bytes = reader.number(4) if reader.position + 4 <= end else end
        stop = reader.position + data_bytes
        if signature not in _RESOURCE_SIGNATURES or stop > end:
            header.notes.append(f"image resources broken from byte {start:,} on, and ignored")
            return
        if kind in _USED_RESOURCES:
            _use_resource(header, kind, reader.take(min(data_bytes, _MAX_RESOURCE_BYTES)))
        reader.position = stop + data_bytes % 2
    header.notes.append(f"more than {_MAX_BLOCKS:,} image resources: the others are ignored")


def _use_resource(header: PsdHeader, kind: int, data: bytes) -> None:
    if kind == _ICC_PROFILE:
        header.icc_profile = data or None
    elif kind == _TRANSPARENT_INDEX and len(data) >= 2:
        header.transparent_index = int.from_bytes(data[:2])
    elif kind == _VERSION_INFO and len(data) >= 5:
        header.has_composite = data[4] != 0
    elif kind == _RESOLUTION and len(data) >= 12:  # 16.16 fixed, always of an inch
        x, y = int.from_bytes(data[:4]) / 65_536, int.from_bytes(data[8:12]) / 65_536
        header.resolution = (x, y) if x > 0 and y > 0 else None


def _find_transparency(reader: _Reader, end: int, *, is_psb: bool) -> bool:
    """True if the layers' part says that the first alpha channel is that of the composite.

    A negative number of layers says so. Of 16 and 32 bits, the layers are in a block behind them.
    """
    long_size = 8 if is_psb else 4
    if end - reader.position < long_size:
        return False
    layers_end = reader.position + reader.number(long_size) + long_size
    if layers_end - reader.position >= 2 and _has_negative_count(reader, end):
        return True
    reader.position = layers_end
    if end - reader.position < 4:
        return False
    mask_bytes = reader.number(4)
    reader.position += mask_bytes
    for _ in range(_MAX_BLOCKS):
        if end - reader.position < 12:
            return False
        signature, key = reader.take(4), reader.take(4)
        if signature not in (b"8BIM", b"8B64"):
            return False
        if key in _TRANSPARENCY_KEYS:
            return True
        length_size = 8 if is_psb and key in _ALL_LONG_KEYS else 4
        if end - reader.position < length_size:
            return False
        length = reader.number(length_size)
        start = reader.position
        if key in _LAYER_KEYS and _has_negative_count(reader, end):
            return True
        # Blocks are padded to four bytes, by some programs to two.
        for padding in (-length % 4, length % 2, 0):
            reader.position = start + length + padding
            if end - reader.position >= 4 and reader.take(4) in (b"8BIM", b"8B64"):
                reader.position -= 4
                break
    return False


def _has_negative_count(reader: _Reader, end: int) -> bool:
    return end - reader.position >= 2 and reader.number(2) >= 0x8000
