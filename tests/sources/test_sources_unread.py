"""Files of formats that are known and not read are named, with the way out."""

from __future__ import annotations

import gzip
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, TiffImagePlugin

import fasttile
from fasttile.errors import SourceError
from support.command import noise


def iso_media(brand: bytes) -> bytes:
    return b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0" + brand + b"\0\0\0\0" + bytes(200)


def metafile() -> bytes:
    return b"\xd7\xcd\xc6\x9a" + struct.pack("<HhhhhHIH", 0, 0, 0, 90, 60, 96, 0, 0) + b"\1\0\x09\0"


UNREAD = {
    "a.raf": (b"FUJIFILMCCD-RAW 0201" + bytes(100), "it is a camera's raw file; dcraw_emu"),
    "a.orf": (b"IIRO\x08\0\0\0" + bytes(100), "it is a camera's raw file; dcraw_emu"),
    "a.rw2": (b"IIU\0\x18\0\0\0" + bytes(100), "it is a camera's raw file; dcraw_emu"),
    "a.x3f": (b"FOVb" + bytes(100), "it is a camera's raw file; dcraw_emu"),
    "a.mrw": (b"\0MRM" + bytes(100), "it is a camera's raw file; dcraw_emu"),
    "a.crw": (b"II\x1a\0\0\0HEAPCCDR" + bytes(100), "it is a camera's raw file; dcraw_emu"),
    "a.ari": (b"ARRI" + bytes(100), "it is a camera's raw file; dcraw_emu"),
    "a.afphoto": (b"\0\xffKA" + bytes(100), "it is an Affinity document; export it as TIFF"),
    "a.clip": (b"CSFCHUNK" + bytes(100), "it is a Clip Studio document; export it as PSD"),
    "a.pspimage": (
        b"Paint Shop Pro Image File\n\x1a" + bytes(99),
        "it is a PaintShop Pro document",
    ),
    "a.pdn": (b"PDN3" + bytes(100), r"it is a Paint\.NET document; export it"),
    "a.flif": (b"FLIF" + bytes(100), "it is FLIF; flif -d"),
    "a.bpg": (b"BPG\xfb" + bytes(100), "it is BPG; bpgdec"),
    "a.dpx": (b"SDPX" + bytes(100), "it is DPX; oiiotool"),
    "b.dpx": (b"XPDS" + bytes(100), "it is DPX; oiiotool"),
    "a.cin": (b"\x80\x2a\x5f\xd7" + bytes(100), "it is Cineon; oiiotool"),
    "a.kra": (b"PK\3\4" + bytes(100), "it is a Krita document; unzip it, and cut mergedimage"),
    "a.ora": (b"PK\3\4" + bytes(100), "it is an OpenRaster document; unzip it"),
    "a.procreate": (b"PK\3\4" + bytes(100), "it is a Procreate document; export it"),
    "a.xcf": (b"gimp xcf v011" + bytes(100), "it is GIMP's XCF; export it"),
    "a.eps": (b"\xc5\xd0\xd3\xc6" + bytes(100), "it is PostScript; gs"),
    "a.djvu": (b"AT&TFORM" + bytes(100), "it is DjVu; ddjvu"),
    "a.jxr": (b"II\xbc\1" + bytes(100), "it is JPEG XR; JxrDecApp"),
    "a.dcm": (bytes(128) + b"DICM" + bytes(100), "it is DICOM; dcm2img"),
    "a.cr3": (iso_media(b"crx "), "it is a camera's raw file; dcraw_emu"),
    "a.mp4": (iso_media(b"isom"), "it is a video; ffmpeg"),
    "a.mov": (iso_media(b"qt  "), "it is a video; ffmpeg"),
    "a.mkv": (b"\x1a\x45\xdf\xa3" + bytes(100), "it is a video; ffmpeg"),
    "a.avi": (b"RIFF\0\0\0\0AVI " + bytes(100), "it is a video; ffmpeg"),
    "a.mpg": (b"\0\0\1\xb3\x16\0\xf0\xc4\2\x80" + bytes(99), "it is a video; ffmpeg"),
    "a.wav": (b"RIFF\0\0\0\0WAVE" + bytes(100), "it is a sound, and no image"),
    "a.mp3": (b"ID3\4\0" + bytes(100), "it is a sound, and no image"),
    "a.pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "it is a PDF; pdftoppm"),
    "a.ai": (b"%PDF-1.5\n", "it is an Illustrator document; export it"),
    "a.svg": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "it is SVG"),
    "a.svgz": (gzip.compress(b"<svg/>"), "it is SVG, a drawing; rsvg-convert"),
    "a.txt": ("Notes: köln\r\n".encode() * 400, "it is a text, and no image"),
    "b.txt": ("\N{SNOWMAN}".encode() * 3000, "it is a text"),
    "a.csv": ("x,y\n1,2\n".encode("utf-16"), "it is a text, and no image"),
    "a.html": (b"<!DOCTYPE html>\n<title>404</title>", "it is a web page, and no image; is its"),
    "a.jxl": (b"\xff\x0a" + bytes(100), "it is JPEG XL; djxl"),
    "a.h5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "it is HDF5; open its array"),
    "a.wmf": (metafile() + bytes(100), "it is a Windows metafile, a drawing; inkscape"),
    "a.dzi": (
        b'<Image xmlns="http://schemas.microsoft.com/deepzoom/2008"/>',
        "a is not described as a Deep Zoom image",
    ),
    "a.pmtiles": (b"PMTiles\3" + bytes(200), "its tiles are compressed with method 0"),
    "a.gz": (gzip.compress(b"x"), "it is an archive; unpack it"),
    "a.png": (b"\x89PNG\n\x1a\n" + bytes(50), "it is a PNG that was sent as text"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_known_formats_are_named(tmp_path: Path, name: str) -> None:
    content, message = UNREAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError, match=f"{name}: {message}"):
        fasttile.cut(path, tmp_path / "x.dzi")
    assert not (tmp_path / "x.dzi").exists()


@pytest.mark.parametrize("brand", ["heic", "heix", "mif1", "hevs"])
def test_heif_needs_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brand: str) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "a.heic"
    path.write_bytes(iso_media(brand.encode()))
    message = (
        r"a\.heic: it is HEIF \(HEIC\); pip install pillow-heif lets fasttile read it, and heif-c"
    )
    with pytest.raises(SourceError, match=message):
        fasttile.cut(path, tmp_path / "x.dzi")


def test_postscript_needs_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", False)
    path = tmp_path / "a.eps"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(SourceError, match=r"a\.eps: it is PostScript, which needs Ghostscript"):
        fasttile.cut(path, tmp_path / "x.dzi")


def test_an_archive_of_an_image_and_a_result_in_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("image.png", b"")
    with pytest.raises(SourceError, match="it is an archive; unpack it"):
        fasttile.cut(tmp_path / "a.zip", tmp_path / "x.dzi")
    fasttile.cut(noise(60, 50), tmp_path / "a.szi")
    assert fasttile.cut(tmp_path / "a.szi", tmp_path / "x.dzi").width == 50


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes(range(1, 255)) * 9, "add --raw WIDTHxHEIGHTxBANDS"),
        (b"\x89PNG\r\n\x1a\n\0\0", "broken PNG: its header cannot be read; is it complete"),
        (b"\xff\xd8\xff", "broken JPEG: its header cannot be read"),
    ],
)
def test_the_advice_on_raw_pixels_is_for_unknown_files(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        fasttile.cut(path, tmp_path / "x.dzi")
    assert ("--raw" in str(caught.value)) == ("--raw" in message)


@pytest.mark.parametrize("kind", ["DNG", "CR2", "NEF"])
def test_a_raw_file_of_a_camera_is_not_its_thumbnail(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    preview = noise(30, 40)
    if kind == "DNG":
        tags[50706] = b"\1\4\0\0"
        tags.tagtype[50706] = 1
    Image.fromarray(preview).save(path, format="TIFF", tiffinfo=tags)
    data = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    entries = data[start + 2 : start + 2 + 12 * count]
    photograph = b""
    if kind == "CR2":
        data[8:12] = b"CR\2\0"
    if kind == "NEF":  # the photograph is in SubIFDs
        count += 1
        entries += struct.pack("<HHII", 330, 4, 1, len(data))
        photograph = struct.pack("<HHHII", 1, 262, 3, 1, 32803) + bytes(4)
    struct.pack_into("<I", data, 4, len(data) + len(photograph))
    path.write_bytes(data + photograph + struct.pack("<H", count) + entries + bytes(4))
    with pytest.raises(SourceError, match="it is a camera's raw file"):
        fasttile.cut(path, tmp_path / "x.dzi")
    with fasttile.open_source(path, read_options=fasttile.ReadOptions(page=1)) as source:
        assert np.array_equal(source.rows(0, 30), preview)
