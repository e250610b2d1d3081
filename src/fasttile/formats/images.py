"""Image files by their first bytes: name, size, pixels of a tile; formats that are not read."""

from __future__ import annotations

import io
import re
import struct
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fasttile.errors import SourceError
from fasttile.formats.avif import check_avif
from fasttile.formats.jpeg import check_jpeg, jpeg_size
from fasttile.formats.png import check_png
from fasttile.storage.budget import BUDGET

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PLUGINS = {
    "jpg": ("JpegImagePlugin", "JpegImageFile"),
    "png": ("PngImagePlugin", "PngImageFile"),
    "webp": ("WebPImagePlugin", "WebPImageFile"),
    "avif": ("AvifImagePlugin", "AvifImageFile"),
    "gif": ("GifImagePlugin", "GifImageFile"),
}

_AVIF_HEAD_BYTES = 4096  # the sizes are in the box meta, behind the first one


def sniff_format(data: bytes) -> str | None:
    """The file ending of what a tile's first bytes say it is; None if that is no image."""
    if data[:3] == b"\xff\xd8\xff":
        return "jpg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:12] == b"ftypavif":
        return "avif"
    if data[:4] == b"GIF8":
        return "gif"
    return None


def read_image_size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height of a tile, without decoding it.

    Raises:
        SourceError: It is no image.
    """
    # The plugins of WebP and AVIF allocate memory for the complete image when they are opened.
    found = sniff_format(data)
    if found == "webp" and len(data) >= 30:  # RFC 9649
        if data[12:16] == b"VP8X":
            width, height = data[24:27], data[27:30]
            return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
        if data[12:16] == b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        width, height = data[26:28], data[28:30]
        return int.from_bytes(width, "little") & 0x3FFF, int.from_bytes(height, "little") & 0x3FFF
    if found == "avif":
        claims = [
            struct.unpack_from(">II", data, box.end() + 4)
            for box in re.finditer(b"ispe", data[:_AVIF_HEAD_BYTES])
            if box.end() + 12 <= len(data)
        ]
        if claims:  # of several images; the largest sides
            return max(width for width, _ in claims), max(height for _, height in claims)
    size: tuple[int, int] = _open_image(data, name).size
    return size


class TileFileCheck:
    """Checks that files are complete tiles of one format, without decoding them.

    Args:
        extension: The extension of all tiles.
    """

    def __init__(self, extension: str) -> None:
        self._format = "jpg" if extension == "jpeg" else extension
        self._known = (b"\0", (0, 0))  # the last JPEG's head, with its size

    def check(self, data: bytes, size: tuple[int, int]) -> None:
        """Check a file; a side may differ by the one pixel that programs round differently.

        Args:
            data: The file.
            size: The right width and height, in pixels.

        Raises:
            ValueError: It has a flaw: words that follow its name.
        """
        stored = sniff_format(data)
        if stored is None:
            raise ValueError("is no image" if data else "is empty")
        if self._format != stored and self._format in _PLUGINS:
            raise ValueError(f"is {stored}, not {self._format}")
        if stored == "jpg":
            if not data.endswith(b"\xff\xd9"):
                check_jpeg(data)
            if not data.startswith(self._known[0]):
                width, height, end = jpeg_size(data)
                self._known = (data[:end], (width, height))
            found = self._known[1]
        elif stored == "png":
            check_png(data)
            found = struct.unpack_from(">II", data, 16)
        elif stored == "avif":
            check_avif(data)
            found = read_image_size(data, "it")
        elif stored == "webp" and 8 + int.from_bytes(data[4:8], "little") > len(data):
            raise ValueError("is truncated")
        else:
            try:
                found = read_image_size(data, "it")
            except SourceError as error:
                raise ValueError("is damaged") from error
        if abs(found[0] - size[0]) > 1 or abs(found[1] - size[1]) > 1:
            raise ValueError(f"has {found[0]}×{found[1]} pixels, not {size[0]}×{size[1]}")


class TileHeader(NamedTuple):
    """Bands, depth and profile of a tile's pixels, as `decode_tile` returns them.

    Attributes:
        bands: 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha).
        bits: 8 or 16, of a sample.
        icc_profile: The profile of the colours, or None.
    """

    bands: int
    bits: int
    icc_profile: bytes | None


def read_tile_header(data: bytes, name: str) -> TileHeader:
    """Bands, depth and profile of a tile, without decoding it.

    Raises:
        SourceError: It is no image.
    """
    if sniff_format(data) == "webp":  # RFC 9649; the plugin takes memory for all pixels
        simple, extended = data[12:16] == b"VP8L", data[12:16] == b"VP8X"
        has_alpha = (extended and bool(data[20:21] > b"" and data[20] & 0x10)) or (
            simple and len(data) > 24 and bool(data[24] & 0x10)
        )
        place = data.find(b"ICCP", 30, 64) if extended else -1
        size = int.from_bytes(data[place + 4 : place + 8], "little") if place > 0 else 0
        profile = data[place + 8 : place + 8 + size] if size else None
        return TileHeader(4 if has_alpha else 3, 8, profile)
    image = _open_image(data, name)
    profile = image.info.get("icc_profile")
    mode = str(image.mode)
    if mode.startswith("I;16"):
        return TileHeader(1, 16, profile)
    if "transparency" in image.info:
        return TileHeader(4, 8, profile)
    return TileHeader({"1": 1, "L": 1, "LA": 2, "RGBA": 4}.get(mode, 3), 8, profile)


def decode_tile(data: bytes, max_side: int, name: str) -> NDArray[Any]:
    """A tile's pixels: an array of its own, shape (height, width, bands), uint8 or uint16.

    Args:
        data: A JPEG, PNG, WebP, AVIF or GIF.
        max_side: In pixels; larger ones are refused before memory is taken for them.
        name: Its name in messages.

    Raises:
        SourceError: It cannot be decoded.
    """
    width, height = read_image_size(data, name)
    if max(width, height) > max_side:
        raise SourceError(
            f"{name} claims {width}×{height} pixels, but none has more than {max_side} a side"
        )
    if width * height > BUDGET.tile_pixels:
        raise SourceError(
            f"{name} claims {width}×{height} pixels, more than {BUDGET.tile_pixels:,}"
        )
    # Each scan of a progressive JPEG decodes all blocks again.
    scans = data.count(b"\xff\xda") if sniff_format(data) == "jpg" else 1
    if scans * width * height > BUDGET.scanned_pixels:
        raise SourceError(f"{name} claims {width}×{height} pixels in {scans:,} scans")
    image = _open_image(data, name)
    try:
        image.load()
        if image.mode not in ("I;16", "I;16B"):
            if "transparency" in image.info:
                image = image.convert("RGBA")
            elif image.mode not in ("L", "LA", "RGB", "RGBA"):
                image = image.convert("L" if image.mode == "1" else "RGB")
        pixels = np.array(image)
    except Exception as error:  # decoders raise anything for damaged data
        raise SourceError(f"{name} cannot be decoded: {error}") from error
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _open_image(data: bytes, name: str) -> Any:
    found = sniff_format(data)
    if found is None:
        raise SourceError(f"{name} is no JPEG, PNG, WebP, AVIF or GIF")
    module, plugin = _PLUGINS[found]
    try:
        # The plugin itself: Image.open has a limit that is global, and knows all formats.
        return getattr(import_module(f"PIL.{module}"), plugin)(io.BytesIO(data))
    except Exception as error:
        raise SourceError(f"{name} cannot be decoded: {error}") from error


_VIDEO = "a video; ffmpeg -ss 0 -i FILM -frames:v 1 IMAGE.png makes an image of a frame"
_SOUND = "a sound, and no image"
_ARCHIVE = "an archive; unpack it, and cut the image in it"
_CAMERA_RAW = "a camera's raw file; dcraw_emu -T IMAGE.raw or darktable-cli makes a TIFF of it"
_HEIF = (
    "HEIF (HEIC); pip install pillow-heif lets fasttile read it, and heif-convert IMAGE.heic "
    "IMAGE.png makes an image of it"
)
_AVIF = "AVIF, for which this Pillow has no decoder; update Pillow, or use avifdec"
_GDAL = "gdal_translate makes a GeoTIFF of it"
_SVG = "SVG, a drawing; rsvg-convert -w WIDTH DRAWING.svg -o IMAGE.png makes an image of it"
_PDF = "a PDF; pdftoppm -r 300 -png FILE.pdf PAGE makes an image of each page"
_POSTSCRIPT = "PostScript; gs -sDEVICE=png16m -r300 -o PAGE-%d.png FILE.ps makes images of it"
_RESULT = "a result, and no image; fasttile view shows it, and fasttile cut reads it"

_UNREAD_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\x0a", "JPEG XL; djxl IMAGE.jxl IMAGE.png makes an image of it"),
    (4, b"JXL \r\n", "JPEG XL; djxl IMAGE.jxl IMAGE.png makes an image of it"),
    (0, b"II\xbc\1", "JPEG XR; JxrDecApp -i IMAGE.jxr -o IMAGE.tif makes a TIFF of it"),
    (0, b"AT&TFORM", "DjVu; ddjvu -format=tiff FILE.djvu IMAGE.tif makes a TIFF of it"),
    (0, b"gimp xcf", "GIMP's XCF; export it as TIFF or PNG"),
    (0, b"FUJIFILMCCD-RAW", _CAMERA_RAW),
    (0, b"IIRO", _CAMERA_RAW),
    (0, b"IIRS", _CAMERA_RAW),
    (0, b"IIU\0", _CAMERA_RAW),
    (0, b"FOVb", _CAMERA_RAW),
    (0, b"\0MRM", _CAMERA_RAW),
    (6, b"HEAPCCDR", _CAMERA_RAW),
    (0, b"ARRI", _CAMERA_RAW),
    (0, b"\0\xffKA", "an Affinity document; export it as TIFF or PNG"),
    (0, b"CSFCHUNK", "a Clip Studio document; export it as PSD or PNG"),
    (0, b"Paint Shop Pro Image File", "a PaintShop Pro document; export it as TIFF or PNG"),
    (0, b"PDN3", "a Paint.NET document; export it as TIFF or PNG"),
    (0, b"FLIF", "FLIF; flif -d IMAGE.flif IMAGE.png makes an image of it"),
    (0, b"BPG\xfb", "BPG; bpgdec -o IMAGE.png IMAGE.bpg makes an image of it"),
    (0, b"SDPX", "DPX; oiiotool IMAGE.dpx -o IMAGE.tif makes a TIFF of it"),
    (0, b"XPDS", "DPX; oiiotool IMAGE.dpx -o IMAGE.tif makes a TIFF of it"),
    (0, b"\x80\x2a\x5f\xd7", "Cineon; oiiotool IMAGE.cin -o IMAGE.tif makes a TIFF of it"),
    (128, b"DICM", "DICOM; dcm2img (DCMTK) makes an image of it"),
    (0, b"ZISRAWFILE", "CZI of a microscope; bfconvert (Bio-Formats) makes a TIFF of it"),
    (0, b"\x89HDF", f"HDF5; open its array in Python (h5py), or {_GDAL}"),
    (0, b"CDF", f"netCDF; open its array in Python, or {_GDAL}"),
    (0, b"GRIB", f"GRIB; {_GDAL}"),
    (0, b"NITF", f"NITF; {_GDAL}"),
    (0, b"msid", f"MrSID; {_GDAL}"),
    (0, b"%PDF", _PDF),
    (0, b"%!PS", _POSTSCRIPT),
    (0, b"\xc5\xd0\xd3\xc6", _POSTSCRIPT),
    (0, b"\x1a\x45\xdf\xa3", _VIDEO),
    (0, b"\0\0\1\xba", _VIDEO),
    (0, b"\0\0\1\xb3", _VIDEO),
    (0, b"FLV\1", _VIDEO),
    (0, b"\x30\x26\xb2\x75", _VIDEO),
    (8, b"AVI ", _VIDEO),
    (8, b"WAVE", _SOUND),
    (8, b"AIFF", _SOUND),
    (0, b"ID3", _SOUND),
    (0, b"\xff\xfb", _SOUND),
    (0, b"\xff\xf1", _SOUND),
    (0, b"fLaC", _SOUND),
    (0, b"OggS", _SOUND),
    (0, b"MThd", _SOUND),
    (0, b"PMTiles", _RESULT),
    (0, b"SQLite format 3\0", _RESULT),
    (0, b"PK\3\4", _ARCHIVE),
    (0, b"\x1f\x8b", _ARCHIVE),
    (0, b"BZh", _ARCHIVE),
    (0, b"\xfd7zXZ\0", _ARCHIVE),
    (0, b"\x28\xb5\x2f\xfd", _ARCHIVE),
    (0, b"7z\xbc\xaf\x27\x1c", _ARCHIVE),
    (0, b"Rar!", _ARCHIVE),
    (257, b"ustar", _ARCHIVE),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an office document; export its image"),
    (0, b"\x7fELF", "a program, and no image"),
    (0, b"\x89PNG\n", "a PNG that was sent as text, which has changed its bytes; send it again"),
)
"""Offset and bytes of formats that are not read here, with the name and what to do."""

HEIF_BRANDS = ("heic", "heix", "heim", "heis", "hevc", "hevm", "hevs", "hevx", "mif1", "msf1")
"""The main brands of HEIF (ISO/IEC 23008-12) with HEVC or any codec."""

_BRANDS = {
    **dict.fromkeys(HEIF_BRANDS, _HEIF),
    **dict.fromkeys(("avif", "avis"), _AVIF),
    **dict.fromkeys(("M4A ", "M4B "), _SOUND),
    "crx ": _CAMERA_RAW,
}
"""The main brands of ISO media files (ISO/IEC 14496-12) that are no videos."""

_PACKED_DOCUMENTS = {
    ".ora": "an OpenRaster document; unzip it, and cut mergedimage.png in it",
    ".kra": "a Krita document; unzip it, and cut mergedimage.png in it",
    ".procreate": "a Procreate document; export it as PSD or PNG",
    ".sketch": "a Sketch document; export it as PNG",
}
"""Documents in ZIP files, by their extensions."""

_TEXTS: tuple[tuple[str, str], ...] = (
    ("deepzoom", _RESULT),
    ("<IMAGE_PROPERTIES", _RESULT),
    ("<svg", _SVG),
    ("<VRTDataset", f"a GDAL VRT; {_GDAL}"),
    ("<!doctype html", "a web page, and no image; is its address that of the image?"),
    ("<html", "a web page, and no image; is its address that of the image?"),
    ("%!PS", _POSTSCRIPT),
)
"""Parts of the first kilobytes of texts."""

UNREAD_PREFIX_BYTES = 4096
"""Number of bytes at the beginning of a file that `name_unread_format` examines."""


def name_unread_format(head: bytes, suffix: str) -> str | None:
    """The name of a file's format that is known and not read, and what to do; None: unknown.

    Args:
        head: The first bytes of the file, `UNREAD_PREFIX_BYTES` if it has as many.
        suffix: The extension of its name, in lower case.
    """
    if suffix == ".ai" and head.startswith((b"%PDF", b"%!PS")):
        return "an Illustrator document; export it as TIFF or PNG, in the size that is needed"
    if suffix == ".svgz":
        return _SVG
    if suffix in _PACKED_DOCUMENTS and head.startswith(b"PK"):
        return _PACKED_DOCUMENTS[suffix]
    if suffix == ".szi" and head.startswith(b"PK"):
        return _RESULT
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12].decode("latin-1"), _VIDEO)
    for offset, signature, text in _UNREAD_SIGNATURES:
        if head.startswith(signature, offset):
            return text
    # The last character may be cut in two.
    text = head.decode("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "ignore")
    if len(text.encode()) < len(head) - 4 and head[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        return None
    if not text or not all(one.isprintable() or one.isspace() for one in text):
        return None
    lower = text.lower()
    for part, meaning in _TEXTS:
        if part.lower() in lower:
            return meaning
    return "a text, and no image"
