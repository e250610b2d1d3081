"""Texts in image files: Exif, IPTC, XMP and PNG's own, written by Pillow or by the standards."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from fasttile.sources.texts import MAX_TEXT_CHARACTERS, ImageTexts, read_image_texts

XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
  xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
  xmlns:dc="http://purl.org/dc/elements/1.1/"
  xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/">
<rdf:Description xmpRights:WebStatement="http://creativecommons.org/licenses/by/4.0/">
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">Stadtplan “Köln”</rdf:li></rdf:Alt></dc:title>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">Aus XMP</rdf:li></rdf:Alt></dc:description>
<dc:creator><rdf:Seq><rdf:li>Anna</rdf:li><rdf:li>Bert</rdf:li></rdf:Seq></dc:creator>
</rdf:Description></rdf:RDF></x:xmpmeta>"""

IPTC = {5: "Titel", 80: "Carla", 116: "© Museum", 120: "Aus IPTC: ä"}


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[270], tags[315], tags[33432] = "Aus Exif: ü".encode(), b"Dora", "© Exif".encode()
    return tags


def iptc_block(texts: dict[int, str]) -> bytes:
    """A Photoshop resource of IPTC-IIM: each data set is 0x1C, record, number, length, text."""
    sets = b"".join(
        struct.pack(">BBBH", 0x1C, 2, number, len(text.encode())) + text.encode()
        for number, text in texts.items()
    )
    sets += b"\0" * (len(sets) % 2)
    return b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(sets)) + sets


def with_iptc(path: Path) -> None:
    """Put the block into a JPEG."""
    data, block = path.read_bytes(), iptc_block(IPTC)
    path.write_bytes(data[:2] + struct.pack(">HH", 0xFFED, len(block) + 2) + block + data[2:])


def saved(path: Path, **options: Any) -> Path:
    Image.new("RGB", (9, 7), "red").save(path, **options)
    return path


EXIF_TEXTS = ImageTexts("", "Aus Exif: ü", "© Exif", "Dora")
XMP_TEXTS = ImageTexts(
    "Stadtplan “Köln”",
    "Aus XMP",
    "© Exif",
    "Anna, Bert",
    "http://creativecommons.org/licenses/by/4.0/",
)


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif"])
def test_exif_and_xmp(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{extension}"
    assert read_image_texts(str(saved(path))) == ImageTexts()
    assert read_image_texts(str(saved(path, exif=exif()))) == EXIF_TEXTS
    given: dict[str, Any] = {"exif": exif(), "xmp": XMP.encode()}
    if extension == "png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP)
        given = {"exif": exif(), "pnginfo": info}
    elif extension == "tif":
        tags = exif()
        tags[700] = XMP.encode()
        given = {"exif": tags}
    assert read_image_texts(str(saved(path, **given))) == XMP_TEXTS


def test_iptc(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg")
    with_iptc(path)
    assert read_image_texts(str(path)) == ImageTexts("Titel", "Aus IPTC: ä", "© Museum", "Carla")


def test_texts_of_png(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "Ein Titel")
    info.add_itxt("Description", "Zeile\n“zwei”")
    path = saved(tmp_path / "a.png", pnginfo=info)
    assert read_image_texts(str(path)) == ImageTexts("Ein Titel", "Zeile\n“zwei”")


@pytest.mark.parametrize(
    "text",
    [
        "OLYMPUS DIGITAL CAMERA         ",
        "ImageJ=1.53c\nimages=3",
        '{"shape": [1]}',
        "  ",
        "<?xml version='1.0'?><OME/>",
        "Aperio Image Library v11",
    ],
)
def test_what_is_no_description(text: str, tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[270] = text
    assert read_image_texts(str(saved(tmp_path / "a.jpg", exif=tags))) == ImageTexts()


def test_no_text_is_html(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[315], tags[33432] = "<img src=x onerror=alert(1)>", " <b>©</b>\n"
    tags[270] = "a < b > c"
    found = read_image_texts(str(saved(tmp_path / "a.jpg", exif=tags)))
    assert found == ImageTexts(description="a < b > c")


def test_texts_are_short_and_without_controls(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[270], tags[33432] = "a\x07b\x1b[31m" + "c" * 20_000, "one\0two"
    found = read_image_texts(str(saved(tmp_path / "a.jpg", exif=tags)))
    assert found.description.startswith("ab[31mcc")
    assert len(found.description) == MAX_TEXT_CHARACTERS
    assert found.rights == "one"


def test_damaged_and_other_files(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", exif=exif(), xmp=XMP.encode())
    with_iptc(path)
    good, rng = path.read_bytes(), random.Random(7)
    for _ in range(200):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 9)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data[: rng.randrange(20, len(data))])
        found = read_image_texts(str(path))
        assert all(len(text) <= MAX_TEXT_CHARACTERS for text in found)
    bomb = good.replace(b"<x:xmpmeta", b"<!DOCTYPE x [<!ENTITY a 'b'>]><x:xmpmeta"[:10])
    path.write_bytes(bomb)
    assert isinstance(read_image_texts(str(path)), ImageTexts)
    (tmp_path / "a.raw").write_bytes(b"no image")
    for name in ("a.raw", "missing.jpg", "."):
        assert read_image_texts(str(tmp_path / name)) == ImageTexts()
