"""Every format and mode that Pillow writes, and files that it only reads: as Pillow loads them."""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

import fasttile
from fasttile.sources.pillow import decoder
from support.reading import noise

Image.init()

MODES = (
    "1",
    "L",
    "LA",
    "P",
    "RGB",
    "RGBA",
    "CMYK",
    "YCbCr",
    "HSV",
    "I;16",
    "RGBX",
    "RGBa",
    "PA",
)

NOT_READ = {"EPS", "PALM", "PDF", "SPIDER", "GRIB", "HDF5", "BUFR", "WMF"}
"""Formats that Pillow writes and cannot read by itself, or whose pixels are floats."""


def save(format_name: str, mode: str) -> bytes | None:
    """A file of this format and mode; None if Pillow cannot write it."""
    side = 64 if format_name == "ICNS" else 45
    colours = Image.fromarray(noise(side, side + 22 * (side == 45), 4), "RGBA")
    if mode == "I;16":
        image = Image.fromarray(noise(side, side + 22 * (side == 45), dtype=np.uint16))
    elif mode == "P":
        image = colours.convert("RGB").quantize(60)
    else:
        image = colours.convert(mode)
    file = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some formats will go from Pillow
            image.save(file, format_name)
    except (OSError, ValueError, KeyError, RuntimeError, struct.error):
        return None
    return file.getvalue()


FILES = {
    f"{format_name} {mode}": data
    for format_name in sorted(set(Image.SAVE) - NOT_READ)
    for mode in MODES
    if (data := save(format_name, mode)) is not None
}


def expected_pixels(data: bytes) -> Any:
    """What Pillow makes of a file, as grey or RGB, with alpha or without."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        if image.mode == "I;16" or image.mode == "I":
            return np.asarray(image)[..., None]
        grey = image.mode in ("1", "L", "LA", "La")
        has_alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
        if has_alpha or "transparency" in image.info:
            target = "LA" if grey else "RGBA"
        else:
            target = "L" if grey else "RGB"
        pixels = np.asarray(image.convert(target))
        return pixels[..., None] if pixels.ndim == 2 else pixels


def fasttile_pixels(data: bytes, bits: int = 8) -> Any:
    options: dict[str, Any] = {"bits": 16, "window": "full"} if bits == 16 else {}
    with fasttile.open_source(io.BytesIO(data), **options) as source:
        return np.array(source.rows(0, source.height))


def test_the_files_are_of_many_formats() -> None:
    assert len({name.split()[0] for name in FILES}) >= 15
    assert len(FILES) >= 80


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_pixels_of_each_format_and_mode(
    name: str, streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not streamed:
        monkeypatch.setattr("fasttile.sources.pillow.supports_row_decoding", lambda: False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some formats will go from Pillow
        expected = expected_pixels(FILES[name])
        bits = 16 if expected.dtype != np.uint8 else 8
        found = fasttile_pixels(FILES[name], bits)
    rounding = name == "TIFF YCbCr"  # libtiff's, which Pillow has for compressed ones only
    np.testing.assert_allclose(found, expected, rtol=0, atol=int(rounding))


def test_hooks_of_plugins_are_known() -> None:
    """A plugin of a newer Pillow that does more than decode tiles has to be examined first."""
    plugins = {
        plugin
        for plugin in _subclasses(ImageFile.ImageFile)
        if plugin.__module__.startswith("PIL.") and isinstance(getattr(plugin, "format", None), str)
    }
    for plugin in plugins:
        image = object.__new__(plugin)
        hooks = decoder.overridden_hooks(image)
        if "load" in hooks and decoder.decodes_into_own_memory(image):
            assert plugin.format in ("AVIF", "JPEG2000", "TIFF", "WEBP")


def _subclasses(kind: type) -> set[Any]:
    return {kind}.union(*map(_subclasses, kind.__subclasses__()))


# ---- files that Pillow only reads ----------------------------------------------------------------


def make_tga(
    size: tuple[int, int],
    bands: int,
    descriptor: int,
    *,
    run_length: bool,
    attributes: int | None,
) -> bytes:
    """A TGA of noise.

    Args:
        descriptor: Bits 4 and 5 are the corner that the pixels begin at.
        run_length: Compressed, of runs of two.
        attributes: What the extension says of alpha: 0 for "no alpha", 3 for "useful alpha".
    """
    width, height = size
    pixels = noise(height, width // 2, bands).repeat(2, axis=1)
    body = pixels.tobytes()
    if run_length:
        pairs = pixels[:, ::2].reshape(-1, bands)
        body = b"".join(b"\x81" + bytes(pixel) for pixel in pairs)
    kind = (3 if bands == 1 else 2) + 8 * run_length
    header = struct.pack(
        "<BBBHHBHHHHBB", 0, 0, kind, 0, 0, 0, 0, 0, width, height, 8 * bands, descriptor
    )
    data = header + body
    if attributes is not None:
        extension = struct.pack("<H", 495) + bytes(492) + bytes([attributes])
        data += extension + struct.pack("<II", len(data), 0) + b"TRUEVISION-XFILE.\0"
    return data


@pytest.mark.parametrize("origin", [0x00, 0x10, 0x20, 0x30])
@pytest.mark.parametrize("run_length", [True, False])
@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("attributes", [None, 0, 3])
def test_tga(origin: int, run_length: bool, bands: int, attributes: int | None) -> None:
    descriptor = origin | (8 if bands == 4 else 0)
    data = make_tga((64, 45), bands, descriptor, run_length=run_length, attributes=attributes)
    np.testing.assert_array_equal(fasttile_pixels(data), expected_pixels(data))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("bands", [1, 4])
def test_gbr(version: int, bands: int) -> None:
    pixels = noise(40, 50, bands)
    comment = b"a brush\0"
    size = (20 if version == 1 else 28) + len(comment)
    header = struct.pack(">5I", size, version, 50, 40, bands)
    if version == 2:
        header += b"GIMP" + struct.pack(">I", 25)
    data = header + comment + pixels.tobytes()
    np.testing.assert_array_equal(fasttile_pixels(data), expected_pixels(data))


def test_icns_of_a_palette() -> None:
    """Its palette is in the core image only."""
    data = FILES["ICNS P"]
    assert len(np.unique(fasttile_pixels(data))) > 10


@pytest.mark.parametrize("keyword", ["Raw profile type exif", "Raw profile type APP1"])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientation_in_a_text_of_a_png(keyword: str, compressed: bool, orientation: int) -> None:
    """As ImageMagick writes EXIF data into PNG files."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = exif.tobytes()
    lines = [data.hex()[start : start + 72] for start in range(0, 2 * len(data), 72)]
    info = PngImagePlugin.PngInfo()
    info.add_text(keyword, f"\nexif\n{len(data):8}\n" + "\n".join(lines), zip=compressed)
    pixels = noise(30, 40, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", pnginfo=info)
    turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    np.testing.assert_array_equal(fasttile_pixels(file.getvalue()), np.rot90(pixels, turns))


@pytest.mark.parametrize("text", ["", "x", "\nexif\n  4\nzz", "\nexif\n 4\n00", "\n\n\n\n"])
def test_a_damaged_text_has_no_orientation(text: str) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", text)
    pixels = noise(30, 40, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", pnginfo=info)
    np.testing.assert_array_equal(fasttile_pixels(file.getvalue()), pixels)
