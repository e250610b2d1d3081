"""Texts about an image that its file contains: title, description, rights, creator.

Sources: Exif 2.32 and TIFF 6.0 (DocumentName, ImageDescription, Artist, Copyright), IPTC IIM 4.2
(2:05, 2:80, 2:116, 2:120), XMP (Dublin Core and rights management), PNG 1.2 (keywords of text
chunks). No pixel is decoded.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from fasttile.formats.documents import decode_document, parse_xml
from fasttile.formats.tiff_tags import text_before_record
from fasttile.storage.random_access import open_regular_file

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_TEXT_CHARACTERS = 10_000

_MAX_XMP_BYTES = 2**20
_XMP_TAG = 700

_DC = "{http://purl.org/dc/elements/1.1/}"
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_XMP_RIGHTS = "{http://ns.adobe.com/xap/1.0/rights/}WebStatement"
_CC_LICENSE = "{http://creativecommons.org/ns#}license"

_EXIF_TAGS = {"title": 269, "description": 270, "creator": 315, "rights": 33432}
_IPTC_SETS = {"title": (2, 5), "creator": (2, 80), "rights": (2, 116), "description": (2, 120)}
_XMP_NAMES = ("title", "description", "rights", "creator")
_PNG_KEYWORDS = {
    "title": "Title",
    "description": "Description",
    "rights": "Copyright",
    "creator": "Author",
}

# What programs write for programs, or cameras where nobody wrote anything.
_NO_DESCRIPTION = re.compile(
    r"[<{\[]|ImageJ=|Aperio |SCANLINE|OLYMPUS DIGITAL CAMERA|DCIM|SONY DSC|\w+=", re.IGNORECASE
)
_CONTROLS = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class ImageTexts(NamedTuple):
    """Texts of an image file; "" for those that it has not.

    Attributes:
        title, description, rights, creator: Plain texts.
        licence: The address of a licence or statement.
    """

    title: str = ""
    description: str = ""
    rights: str = ""
    creator: str = ""
    licence: str = ""


def read_image_texts(path: str) -> ImageTexts:
    """The texts of a file on this machine; of XMP first, then IPTC, Exif, and PNG's.

    A file that Pillow does not know, or with damaged texts, has those that can be read.

    Args:
        path: The file's path.
    """
    found: dict[str, str] = {}
    with suppress(Exception), open_regular_file(path) as file:  # any error: Pillow raises many
        from fasttile.sources.pillow import identify

        image = identify(file, path)
        for read in (_xmp_texts, _iptc_texts, _exif_texts, _png_texts):
            with suppress(Exception):
                for name, text in read(image):
                    if cleaned := clean_text(text):
                        found.setdefault(name, cleaned)
    if _NO_DESCRIPTION.match(found.get("description", "")):
        del found["description"]
    return ImageTexts(**found)


def _xmp_texts(image: Any) -> Iterator[tuple[str, str]]:
    data = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if data is None and hasattr(image, "tag_v2"):
        data = image.tag_v2.get(_XMP_TAG)
    if not data or len(data) > _MAX_XMP_BYTES:
        return
    text = data if isinstance(data, str) else decode_document(bytes(data).strip(b"\0"))
    root = parse_xml(text)
    for name in _XMP_NAMES:
        for element in root.iter(f"{_DC}{name}"):
            items = [item.text or "" for item in element.iter(f"{_RDF}li")]
            yield name, (", ".join(items) if name == "creator" else (items or [""])[0])
    for element in root.iter():
        yield "licence", element.get(_XMP_RIGHTS) or ""
        if element.tag in (_XMP_RIGHTS, _CC_LICENSE):
            yield "licence", element.text or element.get(f"{_RDF}resource") or ""


def _iptc_texts(image: Any) -> Iterator[tuple[str, str]]:
    from PIL import IptcImagePlugin

    found = IptcImagePlugin.getiptcinfo(image) or {}
    for name, key in _IPTC_SETS.items():
        value = found.get(key, b"")
        values = value if isinstance(value, list) else [value]
        yield name, ", ".join(_decode(one) for one in values if isinstance(one, bytes))


def _exif_texts(image: Any) -> Iterator[tuple[str, str]]:
    from PIL import Image

    tags: Any = getattr(image, "tag_v2", None)
    if tags is None:
        tags = Image.Exif()
        tags.load(image.info.get("exif"))
    raw = {}
    for name, tag in _EXIF_TAGS.items():
        value = tags.get(tag)
        if isinstance(value, str):  # which Pillow takes for Latin-1
            value = value.encode("latin-1", "replace")
        if isinstance(value, bytes):
            raw[name] = value
    description = raw.get("description", b"")
    text = text_before_record(description)
    if text == description:  # others have paths of files in DocumentName
        raw.pop("title", None)
    for name, value in {**raw, "description": text}.items():
        yield name, _decode(value)


def _png_texts(image: Any) -> Iterator[tuple[str, str]]:
    if image.format == "PNG":
        for name, keyword in _PNG_KEYWORDS.items():
            yield name, str(image.info.get(keyword) or "")


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def clean_text(text: str) -> str:
    """A text without control characters, at most `MAX_TEXT_CHARACTERS` long; "" for HTML.

    Viewers of IIIF take a text between angle brackets for HTML, which no file of a stranger gets.
    """
    cleaned = _CONTROLS.sub("", text.split("\0")[0]).strip()[:MAX_TEXT_CHARACTERS]
    return "" if cleaned.startswith("<") and cleaned.endswith(">") else cleaned
