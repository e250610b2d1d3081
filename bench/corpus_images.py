"""Source images of the corpus: every file type that fasttile reads, the same bytes in every run.

All are small (301×227 samples, unless the name says otherwise), drawn with integers by a generator
of this module's own, and get one fixed modification time.
"""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

MTIME = 1_200_000_000
"""Modification time of every source image, in seconds since 1970."""

WIDTH, HEIGHT = 301, 227

SIZES = ((100, 100), (513, 200), (256, 1024), (1500, 101), (333, 769))
"""Sizes (width, height) of the images that are cut in every layout."""

TRUNCATED = ("photo.jpg", "progressive.jpg", "rgb8.png", "strips.tif", "lzw.tif", "rgb.npy")
"""Images of which a copy without the last two fifths of its bytes is written too."""

TILES: dict[str, Any] = {"tile": (64, 80)}
PLANAR: dict[str, Any] = {"planarconfig": "separate"}
ALPHA: dict[str, Any] = {"extrasamples": ["unassalpha"]}

TIFFS: dict[str, tuple[str, dict[str, Any]]] = {
    # Uncompressed: mapped.
    "strips": ("rgb", {"rowsperstrip": 16}),
    "tiles": ("rgb", TILES),
    "planar": ("rgb", PLANAR),
    "planar-tiles": ("rgb", {**PLANAR, **TILES}),
    "big": ("rgb", {"bigtiff": True}),
    "big-endian": ("rgb16", {"byteorder": ">"}),
    "grey": ("grey", {}),
    "white-is-zero": ("grey", {"photometric": "miniswhite"}),
    "bilevel": ("bilevel", {}),
    "palette": ("palette", {}),
    "cmyk": ("cmyk", {}),
    "alpha": ("rgba", ALPHA),
    "premultiplied": ("rgba", {"extrasamples": ["assocalpha"]}),
    "fourth": ("rgba", {"extrasamples": ["unspecified"]}),
    "grey-alpha": ("la", {**ALPHA, "planarconfig": "contig"}),
    "alpha16": ("rgba16", ALPHA),
    "u16": ("u16", {}),
    "rgb16": ("rgb16", TILES),
    "i16": ("i16", {}),
    "u32": ("u32", {}),
    "f2": ("f2", {}),
    "f4": ("f4", TILES),
    "f8": ("f8", {}),
    "tall": ("tall", {"rowsperstrip": 64}),
    "dots": ("rgb", {"resolution": (300, 150), "resolutionunit": 2}),
    "turned6": ("rgb", {"extratags": [(274, 3, 1, 6, True)]}),
    # Compressed: decoded by imagecodecs.
    "lzw": ("rgb", {"compression": "lzw", "predictor": 2, "rowsperstrip": 16}),
    "lzw-tiles": ("rgba", {"compression": "lzw", **ALPHA, **TILES}),
    "deflate": ("rgb", {"compression": "zlib", "rowsperstrip": 16}),
    "deflate-planar": ("rgb", {"compression": "zlib", **PLANAR}),
    "deflate-u16": ("u16", {"compression": "zlib", "predictor": 2, **TILES}),
    "deflate-f4": ("f4", {"compression": "zlib", "predictor": 3}),
    "deflate-palette": ("palette", {"compression": "zlib"}),
    "packbits": ("grey", {"compression": "packbits"}),
    "zstd": ("rgb", {"compression": "zstd", **TILES}),
    "lzma": ("rgb", {"compression": "lzma"}),
    "jpeg": ("rgb", {"compression": "jpeg", **TILES}),
    "jpeg-grey": ("grey", {"compression": "jpeg", "rowsperstrip": 64}),
    "jpeg-cmyk": ("cmyk", {"compression": "jpeg", **TILES}),
    "jpeg2000": ("rgb", {"compression": "jpeg2000", **TILES}),
    "webp": ("rgb", {"compression": "webp", **TILES}),
    "lerc": ("f4", {"compression": "lerc", **TILES}),
    "jpegxl": ("rgb", {"compression": "jpegxl", **TILES}),
}
"""TIFFs that tifffile writes: the kind of samples, and options of `TiffWriter.write`."""

PHOTOMETRIC = {"cmyk": "separated", "palette": "palette"}

PNGS = {
    "grey": (0, (1, 2, 4, 8, 16)),
    "rgb": (2, (8, 16)),
    "palette": (3, (1, 2, 4, 8)),
    "grey-alpha": (4, (8, 16)),
    "rgba": (6, (8, 16)),
}
"""PNGs, each interlaced and not: colour type and bit depths."""

ADAM7 = (
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
    *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
)
"""First row, first column, row step and column step of the passes of an interlaced PNG."""


def samples(width: int, height: int, bands: int = 3, seed: int = 1) -> NDArray[np.uint8]:
    """8-bit samples (height, width, bands): gradients, flat blocks, noise, a white corner."""
    y, x, band = (axis.astype(np.uint64) for axis in np.ogrid[:height, :width, :bands])
    mixed = (x * 0x9E3779B1 ^ y * 0x85EBCA77 ^ (band + np.uint64(seed)) * 0xC2B2AE3D) * 0x27D4EB2F
    value = x * (band + 2) // 4 + y * (band + 1) // 5 + (x // 37 + y // 29) % 5 * 40
    value = np.where(x < width // 3, value + (mixed >> 26) % 64, value) % 256
    value[3 * height // 5 :, 2 * width // 5 :] = 255
    return value.astype(np.uint8)


def arrays() -> dict[str, NDArray[Any]]:
    """Arrays of every kind of samples."""
    rgb, alpha = samples(WIDTH, HEIGHT), samples(WIDTH, HEIGHT, 1, seed=2)
    deep = samples(WIDTH, HEIGHT, 3, seed=3).astype(np.uint16) * 13 + 500
    grey, u16 = rgb[..., 0].copy(), deep[..., 0].copy()
    return {
        "rgb": rgb,
        "grey": grey,
        "rgba": np.dstack([rgb, alpha]),
        "la": np.dstack([grey, alpha]),
        "bilevel": grey > 128,
        "palette": grey // 16,
        "cmyk": samples(WIDTH, HEIGHT, 4),
        "rgb16": deep,
        "rgba16": np.dstack([deep, alpha.astype(np.uint16) * 257]),
        "u16": u16,
        "i16": u16.astype(np.int16) - 1500,
        "u32": u16.astype(np.uint32) * 70_000,
        "f2": u16.astype(np.float16),
        "f4": u16.astype(np.float32) / 7,
        "f8": u16 / 3,
        "photo": samples(900, 700),
        "second": samples(200, 333, seed=9),
        "tall": samples(101, 33_400),  # the least that is cut in shards: 24 of 1452 rows
    }


def write_sources(folder: Path) -> None:
    """Write every source image."""
    known = arrays()
    _write_tiffs(folder, known)
    for name, (colour, depths) in PNGS.items():
        for bits, interlaced in product(depths, (False, True)):
            path = folder / f"{name}{bits}{'-interlaced' if interlaced else ''}.png"
            path.write_bytes(png(colour, bits, interlaced=interlaced))
    _write_by_pillow(folder, known)
    _write_raw(folder, known)
    _write_folders(folder)
    for path in folder.rglob("*"):
        os.utime(path, (MTIME, MTIME))


def _write_tiffs(folder: Path, known: dict[str, NDArray[Any]]) -> None:
    for name, (kind, given) in TIFFS.items():
        data, rgb = known[kind], kind.startswith("rgb") or kind == "tall"
        usual = PHOTOMETRIC.get(kind, "rgb" if rgb else "minisblack")
        options = {"photometric": usual, "software": False, "metadata": None, **given}
        if kind == "palette":
            options["colormap"] = samples(256, 1).reshape(256, 3).T.astype(np.uint16) * 257
        if options.get("planarconfig") == "separate":
            data = np.moveaxis(data, 2, 0)
        big, order = options.pop("bigtiff", False), options.pop("byteorder", "<")
        with tifffile.TiffWriter(folder / f"{name}.tif", bigtiff=big, byteorder=order) as tiff:
            tiff.write(data, **options)


def png(colour: int, bits: int, *, interlaced: bool = False) -> bytes:
    """A PNG of colour type 0, 2, 3, 4 or 6; a palette comes with transparency."""
    pixels = samples(WIDTH, HEIGHT, {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour])
    rows = b""
    for y, x, y_step, x_step in ADAM7 if interlaced else ((0, 0, 1, 1),):
        part = np.ascontiguousarray(pixels[y::y_step, x::x_step])
        packed = part.reshape(len(part), -1)
        if bits == 16:
            packed = (packed.astype(">u2") * 251).astype(">u2").view(np.uint8)
        elif bits < 8:
            high = np.unpackbits(packed[:, :, None], axis=2)[:, :, :bits]
            packed = np.packbits(high.reshape(len(part), -1), axis=1)
        rows += np.pad(packed, ((0, 0), (1, 0))).tobytes()  # filter 0 before each row
    chunks = [(b"IHDR", struct.pack(">2I5B", WIDTH, HEIGHT, bits, colour, 0, 0, interlaced))]
    if colour == 3:
        chunks += [(b"PLTE", samples(1 << bits, 1).tobytes()), (b"tRNS", bytes([0, 128]))]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def icc(space: bytes, *, table: bool) -> bytes:
    """A profile: primaries wider than sRGB's, or one gamma for grey, or a table of CIELab."""
    white = b"XYZ \0\0\0\0" + _fixed(0.9642, 1, 0.8249)
    curve = b"curv" + struct.pack(">IIH2x", 0, 1, round(1.8 * 256))
    tags = {b"desc": b"desc" + struct.pack(">II", 0, 5) + b"test\0" + bytes(79), b"wtpt": white}
    if table:
        tags[b"A2B0"] = tags[b"A2B1"] = _table({b"RGB ": 3, b"CMYK": 4}[space])
    elif space == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        columns = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
        for name, column in zip((b"r", b"g", b"b"), columns, strict=True):
            tags |= {name + b"XYZ": b"XYZ \0\0\0\0" + _fixed(*column), name + b"TRC": curve}
    body, index, start = b"", struct.pack(">I", len(tags)), 132 + 12 * len(tags)
    for name, data in tags.items():
        index += name + struct.pack(">2I", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    kinds = (b"scnr", space, b"Lab ") if table else (b"mntr", space, b"XYZ ")
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"test", 0x02400000, *kinds)
    head += struct.pack(">6H4s28x", 2008, 1, 1, 0, 0, 0, b"acsp") + white[8:]
    return head.ljust(128, b"\0") + index + body


def _table(inputs: int) -> bytes:
    """A table of CIELab (lut8) with three nodes a side: ink darkens, light brightens."""
    lab = b""
    for node in product(range(3), repeat=inputs):
        light = sum(node) * 42 if inputs == 3 else max(0, 255 - sum(node) * 42)
        lab += bytes([light, 128 + 30 * (node[0] - node[1]), 128 + 25 * (node[1] - node[2])])
    straight = bytes(range(256))
    head = b"mft1\0\0\0\0" + bytes([inputs, 3, 3, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return head + straight * inputs + lab + straight * 3


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _write_by_pillow(folder: Path, known: dict[str, NDArray[Any]]) -> None:
    kinds = ("rgb", "grey", "rgba", "la", "bilevel", "photo", "second")
    image = {kind: Image.fromarray(known[kind]) for kind in kinds}
    image["cmyk"] = Image.frombytes("CMYK", (WIDTH, HEIGHT), known["cmyk"].tobytes())
    image["p"] = image["rgb"].quantize(64)
    back = image["rgb"].rotate(180)
    frames = {"save_all": True, "append_images": [back]}
    pages = {"save_all": True, "append_images": [image["second"], back]}
    matrix = {"icc_profile": icc(b"RGB ", table=False)}
    table = {"icc_profile": icc(b"RGB ", table=True)}
    inks = {"icc_profile": icc(b"CMYK", table=True)}
    files: dict[str, tuple[str, dict[str, Any]]] = {
        "photo.jpg": ("photo", {"quality": 90}),
        "444.jpg": ("rgb", {"subsampling": 0, "restart_marker_rows": 1}),
        "progressive.jpg": ("rgb", {"progressive": True, "dpi": (300, 300)}),
        "grey.jpg": ("grey", {}),
        "cmyk.jpg": ("cmyk", {}),
        **{f"turned{number}.jpg": ("rgb", {"exif": _exif(number)}) for number in range(1, 9)},
        "turned5-progressive.jpg": ("rgb", {"exif": _exif(5), "progressive": True}),
        "turned8.png": ("rgba", {"exif": _exif(8)}),
        "matrix.jpg": ("photo", matrix),
        "matrix.png": ("rgba", matrix),
        "matrix.tif": ("rgb", matrix),
        "table.jpg": ("photo", table),
        "table.png": ("rgb", table),
        "inks.jpg": ("cmyk", inks),
        "inks.tif": ("cmyk", inks | {"compression": "tiff_lzw"}),
        "gamma.jpg": ("grey", {"icc_profile": icc(b"GRAY", table=False)}),
        "lossy.webp": ("rgb", {}),
        "alpha.webp": ("rgba", {"lossless": True}),
        "moving.webp": ("rgb", frames),
        "still.gif": ("p", {}),
        "moving.gif": ("p", frames),
        "1.bmp": ("bilevel", {}),
        "8.bmp": ("p", {}),
        "24.bmp": ("rgb", {}),
        "32.bmp": ("rgba", {}),
        "bilevel.pbm": ("bilevel", {}),
        "grey.pgm": ("grey", {}),
        "rgb.ppm": ("rgb", {}),
        "rgb.pcx": ("rgb", {}),
        "rgba.tga": ("rgba", {}),
        "rle.tga": ("rgb", {"compression": "tga_rle"}),
        "rgb.jp2": ("rgb", {}),
        "rgb.avif": ("rgb", {"max_threads": 1}),
        "rgb.qoi": ("rgb", {}),
        "rgb.sgi": ("rgb", {}),
        "group3.tif": ("bilevel", {"compression": "group3"}),
        "group4.tif": ("bilevel", {"compression": "group4"}),
        "pages.tif": ("rgb", {**pages, "compression": "tiff_adobe_deflate"}),
        "pages-mapped.tif": ("rgb", pages),
        "slide.svs": ("rgb", {"format": "TIFF"}),
    }
    for name, (kind, options) in files.items():
        image[kind].save(folder / name, **options)


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def _write_raw(folder: Path, known: dict[str, NDArray[Any]]) -> None:
    """Arrays, and files with a short header or none."""
    for name in ("rgb", "grey", "bilevel", "u16", "f4", "rgba", "la"):
        np.save(folder / f"{name}.npy", known[name])
    np.save(folder / "fortran.npy", np.asfortranarray(known["rgb"]))
    for width, height in SIZES:
        np.save(folder / f"{width}x{height}.npy", samples(width, height))
    deep = known["u16"].astype(">u2").tobytes()
    (folder / "deep.pgm").write_bytes(f"P5 {WIDTH} {HEIGHT} 4000\n".encode() + deep)
    head = f"P7\nWIDTH {WIDTH}\nHEIGHT {HEIGHT}\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n"
    (folder / "rgba.pam").write_bytes(head.encode() + known["rgba"].tobytes())
    (folder / "u8.bin").write_bytes(bytes(512) + known["rgb"].tobytes())
    (folder / "u16.bin").write_bytes(deep)


def _write_folders(folder: Path) -> None:
    """Truncated copies, a list, and folders of images; `bad/b.jpg` is not an image."""
    for name in TRUNCATED:
        data = (folder / name).read_bytes()
        (folder / f"truncated-{name}").write_bytes(data[: len(data) * 3 // 5])
    (folder / "list").write_text("../in/photo.jpg\n../in/lzw.tif\n../in/u16.npy\n")
    copies = {
        "batch/a.jpg": "photo.jpg",
        "batch/sub/b.png": "rgba8.png",
        "batch/sub/c.tif": "lzw.tif",
        "bad/a.jpg": "photo.jpg",
        "bad/b.jpg": "list",
        "bad/c.npy": "rgb.npy",
    }
    for name, origin in copies.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / origin, folder / name)
