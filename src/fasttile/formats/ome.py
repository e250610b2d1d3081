"""OME-XML: the description of a pyramid for microscopes, and physical sizes of pixels in others'.

Source: the OME data model and OME-TIFF, schema 2016-06. Texts of strangers are searched by patterns
and not parsed as XML: they may have many megabytes, and two attributes of one element are needed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import islice

from fasttile._version import __version__
from fasttile.storage.paths import encode_name

_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_RECORD_NAMESPACE = "urn:fasttile:record"
_MICROMETRES_PER_INCH = 25_400

_PIXELS = re.compile(rb"<(?:\w{1,20}:)?Pixels\b([^<>]{0,4096})>")
_ATTRIBUTE = re.compile(rb"""\b(\w{1,40})\s?=\s?(?:"([^"]{0,60})"|'([^']{0,60})')""")
_RECORD = re.compile(f'Namespace="{_RECORD_NAMESPACE}"><Value>([^<]+)</Value>'.encode())
_APERIO_SIZE = re.compile(rb"\|\s?MPP\s?=\s?([0-9.]{1,20})")

_MAX_IMAGES = 1_000
"""Images of a description that are looked at."""

_UNIT_MICROMETRES = {
    "pm": 1e-6,
    "\u00c5": 1e-4,
    "nm": 1e-3,
    "\u00b5m": 1.0,
    "\u03bcm": 1.0,  # the Greek letter, which some programs write
    "mm": 1e3,
    "cm": 1e4,
    "dm": 1e5,
    "m": 1e6,
    "in": 25_400.0,
}


def is_ome_xml(description: bytes) -> bool:
    """True if the description of a TIFF page is OME-XML, as its readers find out."""
    return description.rstrip(b"\0 \r\n\t").endswith(b"OME>")


def encode_ome_xml(
    name: str,
    size: tuple[int, int],
    bands: int,
    bits: int,
    *,
    resolution: tuple[float, float] | None = None,
    record: bytes = b"",
    description: str = "",
    rights: str = "",
) -> bytes:
    """The description of an image whose samples are interleaved, in UTF-8 with an end.

    It has no numbers of characters (`&#181;`), which Bio-Formats replaces by spaces.

    Args:
        name: Name of the image.
        size: Width and height of the largest level, in pixels.
        bands: Samples of a pixel, alpha included: one channel.
        bits: 8 or 16, for each sample.
        resolution: Pixels per inch of the largest level, horizontal and vertical.
        record: How the result was made, as JSON: an annotation. Default: none.
        description: Some sentences about the image. Default: none.
        rights: The credit line. Default: none.

    Example:
        >>> xml = encode_ome_xml("map", (600, 400), 3, 8, resolution=(25400, 25400))
        >>> 'PhysicalSizeX="1" PhysicalSizeXUnit="\u00b5m"' in xml.decode()
        True
    """
    from html import escape  # reading TIFFs does not need it

    width, height = size
    physical = ""
    if resolution is not None:
        for axis, dots in zip("XY", resolution, strict=True):
            physical += f' PhysicalSize{axis}="{_MICROMETRES_PER_INCH / dots:.12g}"'
            physical += f' PhysicalSize{axis}Unit="\u00b5m"'
    interleaved = ' Interleaved="true"' if bands > 1 else ""
    note = ""
    if record:
        note = (
            f'<StructuredAnnotations><CommentAnnotation ID="Annotation:0" '
            f'Namespace="{_RECORD_NAMESPACE}"><Value>{escape(record.decode(), quote=False)}'
            "</Value></CommentAnnotation></StructuredAnnotations>"
        )
    if description:
        description = f"<Description>{escape(description, quote=False)}</Description>"
    if rights:
        rights = f"<Rights><RightsHeld>{escape(rights, quote=False)}</RightsHeld></Rights>"
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{_SCHEMA}" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{_SCHEMA} {_SCHEMA}/ome.xsd" Creator="fasttile {__version__}">'
        f'{rights}<Image ID="Image:0" Name="{_attribute(name)}">{description}'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint{bits}" SizeX="{width}" '
        f'SizeY="{height}" SizeC="{bands}" SizeZ="1" SizeT="1" BigEndian="false"'
        f"{interleaved}{physical}>"
        f'<Channel ID="Channel:0:0" SamplesPerPixel="{bands}"/>'
        f'<TiffData IFD="0" PlaneCount="1"/></Pixels></Image>{note}</OME>'
    )
    return text.encode() + b"\0"


def record_in_ome_xml(description: bytes) -> bytes:
    """The record that `encode_ome_xml` has put into a description; b"" if there is none."""
    from html import unescape

    found = _RECORD.search(description)
    return b"" if found is None else unescape(found[1].decode("utf-8", "replace")).encode()


def described_resolution(description: bytes, width: int, height: int) -> tuple[float, float] | None:
    """Pixels per inch of an image by its description: OME-XML, or Aperio's.

    Args:
        description: The tag ImageDescription.
        width, height: Size of the image in pixels. Images of other sizes may be described too.

    Returns:
        Horizontal and vertical; None if the description does not say.
    """
    if not is_ome_xml(description):
        return _aperio_resolution(description, width, height)
    for pixels in islice(_PIXELS.finditer(description), _MAX_IMAGES):
        values = dict(_attributes(pixels[1]))
        if (values.get("SizeX"), values.get("SizeY")) != (str(width), str(height)):
            continue
        sizes = [_physical_size(values, axis) for axis in "XY"]
        if all(sizes):
            return _MICROMETRES_PER_INCH / sizes[0], _MICROMETRES_PER_INCH / sizes[1]
    return None


def _aperio_resolution(description: bytes, width: int, height: int) -> tuple[float, float] | None:
    """That of an Aperio slide, whose smaller images have the text of the largest one.

    Its second line is "46920x33014 [0,100 46000x32914] (256x256)"; that of a smaller image
    continues "-> 11500x8228".
    """
    head = description.partition(b"|")[0]
    found = _APERIO_SIZE.search(description)
    is_largest = b"->" not in head and f"{width}x{height}".encode() in head
    if found is None or not head.startswith(b"Aperio") or not is_largest:
        return None
    size = _number(found[1].decode())
    return (_MICROMETRES_PER_INCH / size,) * 2 if size else None


def _attribute(name: str) -> str:
    """A name as the value of an attribute in double quotes."""
    from html import escape

    return escape(encode_name(name), quote=False).replace('"', "&quot;")


def _attributes(text: bytes) -> Iterator[tuple[str, str]]:
    from html import unescape

    for name, one, other in _ATTRIBUTE.findall(text):
        yield name.decode(), unescape((one or other).decode("utf-8", "replace"))


def _physical_size(values: dict[str, str], axis: str) -> float:
    """Side of a pixel in micrometres; 0 if it is not known."""
    unit = values.get(f"PhysicalSize{axis}Unit", "\u00b5m")
    size = _number(values.get(f"PhysicalSize{axis}", "")) * _UNIT_MICROMETRES.get(unit, 0.0)
    return size if 1e-9 < size < 1e12 else 0.0


def _number(text: str) -> float:
    """A positive number; 0 for others."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) and value > 0 else 0.0
