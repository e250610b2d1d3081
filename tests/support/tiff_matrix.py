"""A matrix of TIFFs: photometric × bits × planar × compression × subsampling × strips or tiles."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import imagecodecs
import numpy as np

from support.reading import Array

WIDTH, HEIGHT = 53, 37
ROWS, TILE = 16, (32, 16)  # rows of a strip; width and height of a tile

PHOTOMETRICS = {"white": 0, "black": 1, "rgb": 2, "palette": 3, "cmyk": 5, "ycbcr": 6, "lab": 8}
COLOURS = {"white": 1, "black": 1, "rgb": 3, "palette": 1, "cmyk": 4, "ycbcr": 3, "lab": 3}
COMPRESSIONS = {
    "none": 1,
    "rle": 2,
    "g3": 3,
    "g4": 4,
    "lzw": 5,
    "jpeg": 7,
    "deflate": 8,
    "packbits": 32773,
    "lzma": 34925,
    "zstd": 50000,
    "webp": 50001,
}
BYTE_CODECS = ("lzw", "deflate", "packbits", "lzma", "zstd")


@dataclass(frozen=True)
class Cell:
    """One kind of TIFF.

    Attributes:
        photometric: One of `PHOTOMETRICS`.
        bits: Of a sample.
        kind: "u", "i" or "f", of the samples.
        compression: One of `COMPRESSIONS`.
        is_planar, is_tiled: As their tags say.
        subsampling: Of chroma: horizontal and vertical.
        has_alpha: True if a sample of alpha follows the colours.
        predictor: 1, 2 or 3.
        order: "<" or ">".
    """

    photometric: str = "black"
    bits: int = 8
    kind: str = "u"
    compression: str = "none"
    is_planar: bool = False
    is_tiled: bool = False
    subsampling: tuple[int, int] = (1, 1)
    has_alpha: bool = False
    predictor: int = 1
    order: str = "<"

    def __str__(self) -> str:
        parts = [self.photometric, f"{self.kind}{self.bits}", self.compression]
        parts += ["planar"] * self.is_planar + ["tiles" if self.is_tiled else "strips"]
        if self.subsampling != (1, 1):
            parts.append("{}x{}".format(*self.subsampling))
        parts += ["alpha"] * self.has_alpha + ["big-endian"] * (self.order == ">")
        return "-".join(parts + [f"p{self.predictor}"] * (self.predictor > 1))

    @property
    def samples(self) -> int:
        """Samples of a pixel."""
        return COLOURS[self.photometric] + self.has_alpha

    @cached_property
    def stored(self) -> Array:
        """The samples of a smooth image, shape (HEIGHT, WIDTH, samples)."""
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        waves = [np.sin(x / 9 + k) + np.cos(y / 7 - 2 * k) for k in range(self.samples)]
        unit = (np.stack(waves, axis=2) + 2) / 4
        if self.photometric == "ycbcr":  # colours that RGB has
            unit[..., 1:] = 0.5 + (unit[..., 1:] - 0.5) / 4
            unit[..., 0] = 0.3 + unit[..., 0] * 0.4
        if self.kind == "f":
            return unit.astype(f"f{self.bits // 8}")
        top = 2**self.bits - 1
        values = np.round(unit * top)
        if self.kind == "i":
            return (values - 2 ** (self.bits - 1)).astype(f"i{self.bits // 8}")
        return values.astype(np.uint8 if self.bits <= 8 else f"u{-(-self.bits // 16) * 2}")

    def encode(self) -> bytes:
        """The file."""
        tags: dict[int, tuple[int, bytes | tuple[int, ...]]] = {
            256: (4, (WIDTH,)),
            257: (4, (HEIGHT,)),
            258: (3, (self.bits,) * self.samples),
            259: (3, (COMPRESSIONS[self.compression],)),
            262: (3, (PHOTOMETRICS[self.photometric],)),
            277: (3, (self.samples,)),
            284: (3, (2 if self.is_planar else 1,)),
        }
        if self.is_tiled:
            tags |= {322: (3, (TILE[0],)), 323: (3, (TILE[1],))}
        else:
            tags[278] = (3, (ROWS,))
        if self.kind != "u":
            tags[339] = (3, ({"i": 2, "f": 3}[self.kind],) * self.samples)
        if self.has_alpha:
            tags[338] = (3, (2,))
        if self.predictor > 1:
            tags[317] = (3, (self.predictor,))
        if self.photometric == "palette":
            tags[320] = (3, tuple(int(value) * 257 for value in self.palette.T.ravel()))
        if self.photometric == "ycbcr":
            tags[530] = (3, self.subsampling)
        return write_tiff(tags, list(self.blocks()), is_tiled=self.is_tiled, order=self.order)

    @property
    def palette(self) -> Array:
        """Shape (2**bits, 3), uint8."""
        index = np.arange(2**self.bits)[:, None]
        return (index * np.array([1, 3, 7]) * 255 // 2**self.bits % 256).astype(np.uint8)

    def blocks(self) -> Iterator[bytes]:
        """The encoded blocks in their order."""
        planes = [[k] for k in range(self.samples)] if self.is_planar else [slice(None)]
        width, height = TILE if self.is_tiled else (WIDTH, ROWS)
        for plane in planes:
            for y, x in product(range(0, HEIGHT, height), range(0, WIDTH, width)):
                block = self.stored[y : y + height, x : x + width, plane]
                if self.is_tiled:
                    missing = (height - block.shape[0], width - block.shape[1])
                    block = np.pad(block, [(0, missing[0]), (0, missing[1]), (0, 0)], mode="edge")
                yield self.encode_block(np.ascontiguousarray(block))

    def encode_block(self, block: Array) -> bytes:
        """One strip or tile."""
        bands, options = block.shape[2], {}
        if self.compression == "jpeg":
            space = {"rgb": "RGB", "ycbcr": "YCBCR", "cmyk": "CMYK"}.get(self.photometric)
            if bands in (3, 4) and space is not None:
                options = {"colorspace": space, "outcolorspace": space}
            if self.photometric == "ycbcr":
                options["subsampling"] = self.subsampling
            squeezed = block[..., 0] if bands == 1 else block
            return bytes(imagecodecs.jpeg8_encode(squeezed, level=98, **options))
        if self.compression == "webp":
            return bytes(imagecodecs.webp_encode(block, lossless=True))
        if self.compression in ("rle", "g3", "g4"):
            raise NotImplementedError
        if self.predictor == 2:
            unsigned = block.view(f"u{block.itemsize}")
            block = np.asarray(imagecodecs.delta_encode(unsigned, axis=-2)).view(block.dtype)
        raw = self.pack(block)
        if self.predictor == 3:
            rows = np.asarray(imagecodecs.floatpred_encode(block, axis=-2))
            raw = rows.tobytes()
        if self.compression == "none":
            return raw
        return bytes(getattr(imagecodecs, f"{self.compression}_encode")(raw))

    def pack(self, block: Array) -> bytes:
        """Uncompressed rows, each from a byte on."""
        if self.photometric == "ycbcr" and self.subsampling != (1, 1):
            return self.pack_units(block)
        if self.bits % 8 == 0 and self.bits != 24:
            return block.astype(block.dtype.newbyteorder(self.order)).tobytes()
        shifts = np.arange(self.bits - 1, -1, -1)
        bits = (block.reshape(len(block), -1, 1).astype(np.int64) >> shifts) & 1
        return np.packbits(bits.reshape(len(block), -1).astype(np.uint8), axis=1).tobytes()

    def pack_units(self, block: Array) -> bytes:
        """Data units of subsampled chroma: TIFF 6.0, section 21."""
        across, down = self.subsampling
        height, width = block.shape[:2]
        pad = [(0, -height % down), (0, -width % across), (0, 0)]
        padded = np.pad(block, pad, mode="edge")
        units = padded.reshape(len(padded) // down, down, -1, across, 3).swapaxes(1, 2)
        lumas = units[..., 0].reshape(*units.shape[:2], -1)
        chromas = units[..., 1:].mean(axis=(2, 3)).round().astype(np.uint8)
        return np.concatenate([lumas, chromas], axis=2).tobytes()


def write_tiff(
    tags: dict[int, tuple[int, Any]],
    blocks: list[bytes],
    *,
    is_tiled: bool,
    order: str = "<",
    place_tags: tuple[int, int] | None = None,
) -> bytes:
    """A classic TIFF by hand.

    Args:
        tags: The type and the values of each tag.
        blocks: The strips or tiles.
        is_tiled: Which of the two.
        order: "<" or ">".
        place_tags: The tags of offsets and sizes. Default: the usual ones.
    """
    data, offsets = b"", []
    for block in blocks:
        offsets.append(8 + len(data))
        data += block + b"\0" * (len(block) % 2)
    places, sizes = place_tags or ((324, 325) if is_tiled else (273, 279))
    entries = {**tags, places: (4, offsets), sizes: (4, [len(block) for block in blocks])}
    start = 8 + len(data)
    behind = start + 2 + 12 * len(entries) + 4
    directory, values = struct.pack(f"{order}H", len(entries)), b""
    for tag, (kind, numbers) in sorted(entries.items()):
        form = {
            1: "B",
            2: "B",
            3: "H",
            4: "I",
            6: "b",
            7: "B",
            8: "h",
            9: "i",
            11: "f",
            12: "d",
            16: "Q",
            17: "q",
        }
        letter = {5: "I"}.get(kind) or form[kind]
        packed = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        count = len(numbers) // (2 if kind == 5 else 1)
        place = packed.ljust(4, b"\0")
        if len(packed) > 4:
            place = struct.pack(f"{order}I", behind + len(values))
            values += packed + b"\0" * (len(packed) % 2)
        directory += struct.pack(f"{order}HHI", tag, kind, count) + place
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    return head + data + directory + bytes(4) + values
