"""HEIF (HEIC) by pillow-heif, if it is installed.

Its plugin is used directly, and not registered with Pillow, whose plugins belong to the program.
Colours without an ICC profile are those of the code points in ITU-T H.273.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, BinaryIO

from PIL import ImageFile

from fasttile.errors import SourceError, first_line
from fasttile.formats.icc import BT709, rgb_profile
from fasttile.formats.images import HEIF_BRANDS

_PLAIN_PRIMARIES = (1, 2)  # BT.709, unspecified
_SDR_CURVES = (1, 2, 4, 5, 6, 7, 13, 14, 15)  # that viewers show by the curve of sRGB
_LINEAR = 8
_HDR_CURVES = {16: "PQ", 18: "HLG"}


def open_heif(stream: BinaryIO, head: bytes, name: str) -> ImageFile.ImageFile | None:
    """Open a HEIF; None if it is none, or if pillow-heif is not installed.

    Args:
        stream: The file.
        head: Its first bytes.
        name: Its name in messages.

    Raises:
        SourceError: It is damaged, or of colours that are not read.
    """
    if head[4:8] != b"ftyp" or head[8:12].decode("latin-1") not in HEIF_BRANDS:
        return None
    try:
        plugin: Any = import_module("pillow_heif")
    except ImportError:
        return None
    stream.seek(0)
    try:
        image: ImageFile.ImageFile = plugin.HeifImageFile(stream, "")
    except Exception as error:
        raise SourceError(f"{name}: broken HEIF: {first_line(error)}") from error
    try:
        if not image.info.get("icc_profile"):
            image.info["icc_profile"] = _profile_of(image.info.get("nclx_profile"))
    except ValueError as error:
        raise SourceError(
            f"{name}: a HEIF whose colours are {error}, which are not read; export it as SDR"
        ) from error
    return image


def note_on_depth(image: ImageFile.ImageFile) -> str | None:
    """Note on samples that pillow-heif has reduced to 8 bits."""
    bits = image.info.get("bit_depth", 8)
    return f"{bits} bits reduced to 8" if bits > 8 and not image.mode.startswith("I") else None


def _profile_of(nclx: dict[str, Any] | None) -> bytes | None:
    """The profile of code points; None if they are those of sRGB.

    Raises:
        ValueError: They cannot be shown as they are; the text is what they are.
    """
    if nclx is None:
        return None
    primaries, curve = nclx["color_primaries"], nclx["transfer_characteristics"]
    if curve in _HDR_CURVES:
        raise ValueError(f"HDR ({_HDR_CURVES[curve]})")
    if curve not in (*_SDR_CURVES, _LINEAR):
        raise ValueError(f"of transfer characteristics {curve}")
    chromaticities = BT709
    if primaries not in _PLAIN_PRIMARIES:
        chromaticities = [
            (nclx[f"color_primary_{colour}_x"], nclx[f"color_primary_{colour}_y"])
            for colour in ("red", "green", "blue", "white")
        ]
    elif curve != _LINEAR:
        return None
    name = f"H.273 primaries {primaries}, transfer characteristics {curve}"
    return rgb_profile(name, chromaticities, "linear" if curve == _LINEAR else "srgb")
